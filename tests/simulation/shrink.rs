//! Makes a failing plan smaller: fewer steps, peers, frames and kinds of faults, while it still
//! fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::faults;
use crate::plan::Plan;
use crate::run::{Done, run};

/// The time limit of shrinking.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Runs a plan; a panic is a failure too.
///
/// # Errors
///
/// What went wrong.
pub(crate) fn attempt(plan: &Plan, is_traced: bool) -> Result<Done, String> {
    catch_unwind(AssertUnwindSafe(|| run(plan, is_traced))).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("?")))
    })
}

/// The smallest failing plan that was found, and its failure.
pub(crate) fn shrink(plan: &Plan, what: &str) -> (Plan, String) {
    let start = Instant::now();
    let mut smallest = (plan.clone(), what.to_owned());
    loop {
        let before = smallest.0.clone();
        for candidate in candidates(&before) {
            if start.elapsed() > TIME_MAX {
                return smallest;
            }
            // Each is a step from the plan that the round began with: take it to the newest.
            let candidate = candidate(&smallest.0);
            if candidate != smallest.0
                && let Err(what) = attempt(&candidate, false)
                && kind(&what) == kind(&smallest.1)
            {
                smallest = (candidate, what);
            }
        }
        if smallest.0 == before {
            return smallest;
        }
    }
}

/// A failure without its numbers, so that two different failures are not confused.
fn kind(what: &str) -> String {
    let place = what.rfind(": ").map_or(0, |at| at + 2);
    what[place..].chars().filter(|c| c.is_alphabetic()).collect()
}

type Step = Box<dyn Fn(&Plan) -> Plan>;

fn candidates(plan: &Plan) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for fault in faults::ALL {
        steps.push(Box::new(move |plan| Plan {
            faults: plan.faults.without(fault),
            ..plan.clone()
        }));
    }
    for peer in plan.peers.clone() {
        steps.push(Box::new(move |plan| {
            let mut plan = plan.clone();
            if plan.peers.len() > 1 {
                plan.peers.retain(|other| *other != peer);
            }
            plan
        }));
    }
    for (part, of) in [(1, 8), (1, 2), (3, 4), (9, 10)] {
        steps.push(Box::new(move |plan| Plan { steps: plan.steps * part / of, ..plan.clone() }));
        steps.push(Box::new(move |plan| Plan { frames: plan.frames * part / of, ..plan.clone() }));
    }
    steps
}

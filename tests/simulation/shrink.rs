//! Makes a failing plan smaller: removes steps, peers, frames and kinds of faults as long as it
//! fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::faults;
use crate::plan::Plan;
use crate::run::{Done, run};

/// The time limit of shrinking.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Runs a plan. A panic counts as a failure.
///
/// # Errors
///
/// The description of the failure.
pub(crate) fn attempt(plan: &Plan, is_traced: bool) -> Result<Done, String> {
    catch_unwind(AssertUnwindSafe(|| run(plan, is_traced))).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("?")))
    })
}

/// Returns the smallest failing plan found, and its failure.
pub(crate) fn shrink(plan: &Plan, failure: &str) -> (Plan, String) {
    let start = Instant::now();
    let mut smallest = (plan.clone(), failure.to_owned());
    loop {
        let before = smallest.0.clone();
        for candidate in candidates(&before) {
            if start.elapsed() > TIME_MAX {
                return smallest;
            }
            // The candidates were made for `before`, but apply to the smallest plan so far.
            let candidate = candidate(&smallest.0);
            if candidate != smallest.0
                && let Err(failure) = attempt(&candidate, false)
                && kind(&failure) == kind(&smallest.1)
            {
                smallest = (candidate, failure);
            }
        }
        if smallest.0 == before {
            return smallest;
        }
    }
}

/// The words of a failure without its numbers, to tell different failures apart.
fn kind(failure: &str) -> String {
    let place = failure.rfind(": ").map_or(0, |at| at + 2);
    failure[place..].chars().filter(|c| c.is_alphabetic()).collect()
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

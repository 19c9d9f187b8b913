//! Whole workers over a simulated network, in virtual time, with faults of the kernel and of peers.
//! A seed determines a simulation. An independent model of the protocol determines the bytes that
//! each peer must receive.
//!
//! ```text
//! cargo test --test simulation                     for a few seconds, with new seeds
//! SIMULATION_SECONDS=90 cargo test --release --test simulation -- --nocapture      for 90 seconds
//! SIMULATION_SEED=1234 cargo test --test simulation -- --nocapture under_faults   one seed, traced
//! ```
//!
//! A change to the simulation changes the run of a seed, so every failure that it finds gets a test
//! of its own in `tests/worker`.
//!
//! - `plan.rs`: the seed and its parameters; `faults.rs`: the faults; `shrink.rs`: smaller plans
//! - `run.rs`: the rounds; `support/kernel` and `net.rs`: kernel and network; `peer.rs` and
//!   `script.rs`: the peers
//! - `handler.rs`: the servers' handler; `support/model.rs` and `matcher.rs`: the expected output,
//!   from the RFC; `watch.rs`: deadlines
//! - `memory.rs`: the memory of the workers
//! - `crowd.rs`: workers whose peers publish to topics; `fanout.rs`: who must get which message

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/kernel/mod.rs"]
mod kernel;
mod plan;
mod faults;
mod run;
mod net;
mod peer;
mod script;
mod handler;
mod matcher;
mod watch;
mod memory;
mod shrink;
mod fanout;
mod crowd;

use std::cell::Cell;
use std::env;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plan::Plan;
use shrink::{attempt, shrink};

/// The message of a panic that a peer has requested.
pub(crate) const REQUESTED_PANIC: &str = "as requested";

/// The number of new seeds in each run of the tests.
const SEEDS_PER_RUN: u64 = 60;

thread_local! {
    /// Panics of this thread are caught, and reported by the code that catches them.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn workers_serve_every_peer_correctly_under_faults() {
    let _quiet = Quiet::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    if let Ok(plan) = env::var("SIMULATION_SEED") {
        let plan: Plan = plan.parse().unwrap_or_else(|error| panic!("SIMULATION_SEED: {error}"));
        match attempt(&plan, true) {
            Ok(done) => println!("{plan}: {done:?}"),
            Err(failure) => fail(&plan, &failure, false),
        }
        return;
    }
    let seconds: Option<u64> = env::var("SIMULATION_SECONDS")
        .ok()
        .map(|seconds| seconds.parse().expect("SIMULATION_SECONDS is a number"));
    // The seeds differ in each run: a run one millisecond later begins a thousand seeds later.
    let first = now.as_millis() as u64 % 1_000_000_000 * 1000;
    println!("seeds from {first}");
    match seconds {
        Some(seconds) => run_for(first, Duration::from_secs(seconds)),
        None => {
            for seed in first..first + SEEDS_PER_RUN {
                try_seed(seed);
            }
        }
    }
}

/// Tries seeds for this time, and reports progress.
fn run_for(first: u64, time: Duration) {
    let start = Instant::now();
    let (mut turns, mut messages, mut connections, mut reported) = (0, 0, 0, Duration::ZERO);
    for seed in first.. {
        let done = try_seed(seed);
        turns += done.turns;
        messages += done.messages;
        connections += done.connections;
        let elapsed = start.elapsed();
        let is_over = elapsed >= time;
        if is_over || elapsed > reported + Duration::from_secs(10) {
            reported = elapsed;
            let (seeds, seconds) = (seed - first + 1, elapsed.as_secs_f64());
            println!(
                "{seconds:.0} s: {seeds} seeds, {turns} turns ({:.0} a second), {connections} \
                 connections, {messages} messages",
                turns as f64 / seconds
            );
        }
        if is_over {
            return;
        }
    }
}

fn try_seed(seed: u64) -> run::Done {
    let plan = Plan::new(seed);
    let watchdog = Watchdog::new(&plan);
    let outcome = attempt(&plan, false);
    drop(watchdog);
    match outcome {
        Ok(done) => done,
        Err(failure) => fail(&plan, &failure, true),
    }
}

fn fail(plan: &Plan, failure: &str, shrinks: bool) -> ! {
    println!("FAILED {plan}: {failure}");
    if shrinks {
        println!("making it smaller ...");
        let (small, failure) = shrink(plan, failure);
        println!("SMALLER {small}: {failure}");
        println!(
            "SIMULATION_SEED={small} cargo test --test simulation -- --nocapture under_faults"
        );
    }
    IS_QUIET.set(false);
    panic!("the simulation of seed {} failed: {failure}", plan.seed);
}

/// Prints the seed and ends the process if a simulation does not end.
struct Watchdog {
    _end: Sender<()>,
}

/// Maximum duration of a simulation. The usual one is some milliseconds, and the longest one
/// second.
const TIME_MAX: Duration = Duration::from_secs(60);

impl Watchdog {
    fn new(plan: &Plan) -> Self {
        let (sender, end) = channel();
        let plan = plan.to_string();
        std::thread::spawn(move || {
            if end.recv_timeout(TIME_MAX) == Err(RecvTimeoutError::Timeout) {
                println!("DOES NOT END: SIMULATION_SEED={plan}");
                std::process::exit(1);
            }
        });
        Self { _end: sender }
    }
}

/// Hides panics that the simulation causes or catches.
struct Quiet;

impl Quiet {
    fn new() -> Self {
        static HOOK: std::sync::Once = std::sync::Once::new();
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                if !IS_QUIET.get() {
                    usual(info);
                }
            }));
        });
        IS_QUIET.set(true);
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        IS_QUIET.set(false);
    }
}

//! A server that has no descriptors left.

use std::time::{Duration, Instant};

use crate::crowd::{dial_all, open_all};
use crate::support::client::{ask, close, connect, wait_until};
use crate::support::victim::Victim;
use crate::support::witness::Witness;

/// What the server may have open.
const DESCRIPTORS: usize = 64;

/// Clients that want to be served, and cannot all be.
const CLIENTS: usize = 200;

/// How long the server is watched while it can accept nobody.
const WATCHED: Duration = Duration::from_secs(2);

/// What it may use of a core in that time, which a spin would fill: it looks ten times a second
/// whether it can go on, and serves the witness.
const CPU_TIME_MAX: Duration = Duration::from_secs(1);

#[test]
fn want_of_descriptors_stops_nobody_who_is_there_and_nothing_spins() {
    let victim = Victim::start_limited(DESCRIPTORS, "");
    let witness = Witness::start(victim.address());
    let mut guests: Vec<_> = (0..10).map(|_| connect(victim.address())).collect();
    let descriptors = victim.descriptors();
    let crowd = dial_all(victim.address(), CLIENTS);
    victim.wait_for("accepting pauses", |counters| counters.of("accept_pauses") > 0);
    // What it has inherited may lie beyond the limit.
    assert!(victim.descriptors() >= DESCRIPTORS, "there is none left");

    let (start, before) = (Instant::now(), victim.cpu_time());
    wait_until("the server has been watched", || start.elapsed() >= WATCHED);
    let used = victim.cpu_time() - before;
    println!("without descriptors: {used:?} of CPU time in {WATCHED:?}");
    assert!(used <= CPU_TIME_MAX, "{used:?} of CPU time in {WATCHED:?}, above {CPU_TIME_MAX:?}");
    for guest in &mut guests {
        ask(guest, "still here", "still here");
    }

    drop(crowd);
    wait_until("the crowd is gone", || victim.descriptors() == descriptors);
    let newcomers = open_all(victim.address(), 20);
    assert_eq!(victim.descriptors(), descriptors + newcomers.len());
    guests.into_iter().for_each(close);
    witness.finish();
    victim.finish();
}

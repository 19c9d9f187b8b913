//! A server that has no descriptors left.

use std::time::{Duration, Instant};

use crate::crowd::{dial_all, open_all};
use crate::support::canary::Canary;
use crate::support::client::{ask, close, connect, wait_until};
use crate::support::server_process::ServerProcess;

/// What the server may have open.
const DESCRIPTORS: usize = 64;

/// Clients that want to be served, and cannot all be.
const CLIENTS: usize = 200;

/// How long the server is watched while it can accept nobody.
const WATCHED: Duration = Duration::from_secs(2);

/// What it may use of a core in that time, which a spin would fill: it looks ten times a second
/// whether it can go on, and serves the canary.
const CPU_TIME_MAX: Duration = Duration::from_secs(1);

#[test]
fn want_of_descriptors_stops_nobody_who_is_there_and_nothing_spins() {
    let server = ServerProcess::start_limited(DESCRIPTORS, "");
    let canary = Canary::start(server.address());
    let mut guests: Vec<_> = (0..10).map(|_| connect(server.address())).collect();
    let descriptors = server.descriptors();
    let crowd = dial_all(server.address(), CLIENTS);
    server.wait_for("accepting pauses", |counters| counters.of("accept_pauses") > 0);
    // What it has inherited may lie beyond the limit.
    assert!(server.descriptors() >= DESCRIPTORS, "there is none left");

    let (start, before) = (Instant::now(), server.cpu_time());
    wait_until("the server has been watched", || start.elapsed() >= WATCHED);
    let used = server.cpu_time() - before;
    println!("without descriptors: {used:?} of CPU time in {WATCHED:?}");
    assert!(used <= CPU_TIME_MAX, "{used:?} of CPU time in {WATCHED:?}, above {CPU_TIME_MAX:?}");
    for guest in &mut guests {
        ask(guest, "still here", "still here");
    }

    drop(crowd);
    wait_until("the crowd is gone", || server.descriptors() == descriptors);
    let newcomers = open_all(server.address(), 20);
    assert_eq!(server.descriptors(), descriptors + newcomers.len());
    guests.into_iter().for_each(close);
    canary.finish();
    server.finish();
}

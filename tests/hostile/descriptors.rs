//! A server that has no descriptors left.

use std::time::{Duration, Instant};

use crate::crowd::{dial_all, open_all};
use crate::support::canary::Canary;
use crate::support::client::{ask, close, connect, wait_until};
use crate::support::server_process::ServerProcess;

/// The server's limit of open descriptors.
const DESCRIPTORS: usize = 64;

/// More clients than the server has descriptors for.
const CLIENTS: usize = 200;

/// The time for which CPU time is measured while the server cannot accept.
const MEASURED: Duration = Duration::from_secs(2);

/// Maximum CPU time in that period. A server that spins would use a whole core. This one tries to
/// accept ten times a second, and serves the canary.
const CPU_TIME_MAX: Duration = Duration::from_secs(1);

#[test]
fn a_lack_of_descriptors_affects_no_open_connection_and_causes_no_spin() {
    let server = ServerProcess::start_limited(DESCRIPTORS, "");
    let canary = Canary::start(server.address());
    let mut clients: Vec<_> = (0..10).map(|_| connect(server.address())).collect();
    let descriptors = server.descriptors();
    let waiting = dial_all(server.address(), CLIENTS);
    server.wait_for("accepting pauses", |counters| counters.of("accept_pauses") > 0);
    // Inherited descriptors may have numbers above the limit.
    assert!(server.descriptors() >= DESCRIPTORS, "all descriptors are in use");

    let (start, before) = (Instant::now(), server.cpu_time());
    wait_until("the CPU time has been measured", || start.elapsed() >= MEASURED);
    let used = server.cpu_time() - before;
    println!("without descriptors: {used:?} of CPU time in {MEASURED:?}");
    assert!(used <= CPU_TIME_MAX, "{used:?} of CPU time in {MEASURED:?}, above {CPU_TIME_MAX:?}");
    for client in &mut clients {
        ask(client, "still here", "still here");
    }

    drop(waiting);
    wait_until("the descriptors of the waiting clients are closed", || {
        server.descriptors() == descriptors
    });
    let newcomers = open_all(server.address(), 20);
    assert_eq!(server.descriptors(), descriptors + newcomers.len());
    clients.into_iter().for_each(close);
    canary.finish();
    server.finish();
}

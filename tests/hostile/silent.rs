//! Connections that never send.

use std::net::TcpStream;
use std::time::Duration;

use crate::crowd::{dial_all, size};
use crate::support::canary::Canary;
use crate::support::client::{read_all, wait_until};
use crate::support::server_process::ServerProcess;

/// As many as the limit of descriptors lets this process have, at most.
const CLIENTS: usize = 10_000;

/// What the server gives its clients for the request.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What such a connection takes, its slot, timer and answer included.
const SILENT_BYTES_MAX: usize = 1024;

/// What is left of it when it is gone: slots are kept for the next, and not given back.
const LEFT_BYTES_MAX: usize = 512;

/// By what the memory of a second crowd may exceed that of the first.
const MORE_BYTES_MAX: usize = 1024 * 1024;

/// Clients that say nothing, all accepted.
fn crowd(server: &ServerProcess, accepted_before: u64) -> Vec<TcpStream> {
    let streams = dial_all(server.address(), size(CLIENTS));
    let accepted = accepted_before + streams.len() as u64;
    server.wait_for("all are accepted", |counters| counters.of("accepted") == accepted);
    streams
}

#[test]
fn ten_thousand_connections_that_never_send_are_gone_after_the_handshake_timeout() {
    let server = ServerProcess::start(&format!("--handshake-timeout {}", TIMEOUT.as_secs()));
    let canary = Canary::start(server.address());
    let (before, descriptors) = (server.memory_bytes(), server.descriptors());

    // The first crowd waits for its answer, and goes.
    let mut streams = crowd(&server, 1);
    let count = streams.len();
    let each = server.memory_bytes().saturating_sub(before) / count;
    for stream in &mut streams {
        let answer = read_all(stream);
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer:?}");
    }
    drop(streams);
    wait_until("the descriptors are back", || server.descriptors() == descriptors);
    let after = server.memory_bytes();
    let left = after.saturating_sub(before) / count;
    println!("{count} silent clients: {each} bytes each, {left} of them after they are gone");
    assert!(each <= SILENT_BYTES_MAX, "{each} bytes each, more than {SILENT_BYTES_MAX}");
    assert!(left <= LEFT_BYTES_MAX, "{left} bytes each are left, more than {LEFT_BYTES_MAX}");

    // The second does not even go: the server does not wait for it for long.
    let streams = crowd(&server, 1 + count as u64);
    wait_until("the descriptors are back", || server.descriptors() == descriptors);
    drop(streams);
    let more = server.memory_bytes().saturating_sub(after);
    println!("after a second crowd: {more} bytes more");
    assert!(more <= MORE_BYTES_MAX, "{more} bytes are lost, more than {MORE_BYTES_MAX}");
    let counters = server.counters();
    assert_eq!(counters.of("handshake_timeouts"), 2 * count as u64);
    canary.finish();
    server.finish();
}

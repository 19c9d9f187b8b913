//! Connections that never send.

use std::net::TcpStream;
use std::time::Duration;

use crate::crowd::{dial_all, size};
use crate::support::canary::Canary;
use crate::support::client::{read_all, wait_until};
use crate::support::server_process::ServerProcess;

/// Maximum number of clients; fewer if the limit of descriptors requires it.
const CLIENTS: usize = 10_000;

/// The server's handshake timeout.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum memory of a silent connection: its slot, timer and answer.
const SILENT_BYTES_MAX: usize = 1024;

/// Maximum memory per connection after its end: slots are kept and reused.
const LEFT_BYTES_MAX: usize = 512;

/// Maximum growth of the memory from the first round of clients to the second.
const MORE_BYTES_MAX: usize = 1024 * 1024;

/// Connects silent clients, and waits until all are accepted.
fn connect_all(server: &ServerProcess, accepted_before: u64) -> Vec<TcpStream> {
    let streams = dial_all(server.address(), size(CLIENTS));
    let accepted = accepted_before + streams.len() as u64;
    server.wait_for("all are accepted", |counters| counters.of("accepted") == accepted);
    streams
}

#[test]
fn ten_thousand_silent_connections_end_after_the_handshake_timeout() {
    let server = ServerProcess::start(&format!("--handshake-timeout {}", TIMEOUT.as_secs()));
    let canary = Canary::start(server.address());
    let (before, descriptors) = (server.memory_bytes(), server.descriptors());

    // The clients of the first round read their answers and disconnect.
    let mut streams = connect_all(&server, 1);
    let count = streams.len();
    let each = server.memory_bytes().saturating_sub(before) / count;
    for stream in &mut streams {
        let answer = read_all(stream);
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer:?}");
    }
    drop(streams);
    wait_until("the descriptors are closed", || server.descriptors() == descriptors);
    let after = server.memory_bytes();
    let left = after.saturating_sub(before) / count;
    println!("{count} silent clients: {each} bytes each, {left} of them after the end");
    assert!(each <= SILENT_BYTES_MAX, "{each} bytes each, more than {SILENT_BYTES_MAX}");
    assert!(left <= LEFT_BYTES_MAX, "{left} bytes each are left, more than {LEFT_BYTES_MAX}");

    // The clients of the second round stay connected, and the server drops them.
    let streams = connect_all(&server, 1 + count as u64);
    wait_until("the descriptors are closed", || server.descriptors() == descriptors);
    drop(streams);
    let more = server.memory_bytes().saturating_sub(after);
    println!("after a second round: {more} bytes more");
    assert!(more <= MORE_BYTES_MAX, "{more} bytes are lost, more than {MORE_BYTES_MAX}");
    let counters = server.counters();
    assert_eq!(counters.of("handshake_timeouts"), 2 * count as u64);
    canary.finish();
    server.finish();
}

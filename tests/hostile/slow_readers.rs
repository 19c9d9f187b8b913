//! Clients that write and never read.

use crate::crowd::{alone, open_slow_readers, write_until_stuck};
use crate::support::canary::Canary;
use crate::support::client::wait_until;
use crate::support::frames::{BINARY, PING, TEXT, client};
use crate::support::server_process::ServerProcess;

/// Clients of each kind.
const CLIENTS: usize = 20;

/// Clients that send tiny frames, and how many of them flood at the same time. There are few,
/// because a turn of each takes up to 100 ms in an unoptimised build, and no client may wait for
/// more than a second.
const CLIENTS_TINY: usize = 8;
const AT_ONCE: usize = 2;

/// Clients that send huge messages.
const CLIENTS_HUGE: usize = 5;

/// Maximum memory for such a client: the replies to one read (260 KiB) or the unprocessed rest of
/// the read, the first 16 KiB of an incomplete message, and the connection itself.
const HELD_BYTES_MAX: usize = (260 + 16) * 1024 + CONNECTION_BYTES_MAX;

/// Maximum memory if messages are longer than `backlog_bytes_high`: one echo and one read.
const LARGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX + WORKER_BUFFER_BYTES + CONNECTION_BYTES_MAX;

/// The worker's receive buffer, whose pages become resident when there is much to read.
const WORKER_BUFFER_BYTES: usize = 260 * 1024;

/// The default of `message_bytes_max`. The kernel's buffers take more than this.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Maximum memory of a connection without its buffers.
const CONNECTION_BYTES_MAX: usize = 6 * 1024;

/// Writes from clients that do not read until the server takes no more bytes. Returns the bytes of
/// memory that the server then holds for each client.
#[track_caller]
fn held(name: &str, flood: &[u8], count: usize, at_once: usize) -> usize {
    let _alone = alone();
    let server = ServerProcess::start_frugal("");
    let canary = Canary::start(server.address());
    let descriptors = server.descriptors();
    let before = server.memory_bytes();
    let mut streams = open_slow_readers(server.address(), count);
    let groups = streams.chunks_mut(at_once);
    let written: usize = groups.map(|group| write_until_stuck(&server, group, flood)).sum();
    let each = server.memory_bytes().saturating_sub(before + WORKER_BUFFER_BYTES) / count;
    println!(
        "{count} clients that do not read, {name}: {each} bytes held for each of {}",
        written / count
    );
    assert_eq!(server.counters().of("closed"), 0, "no connection is lost");
    assert!(
        written / count > MESSAGE_BYTES_MAX,
        "{name}: too few bytes to fill the kernel's buffers"
    );
    drop(streams);
    wait_until("the descriptors are closed", || server.descriptors() == descriptors);
    canary.finish();
    server.finish();
    each
}

#[track_caller]
fn check(name: &str, message: &[u8], count: usize, at_once: usize) {
    let repeats = (256 * 1024_usize).div_ceil(message.len());
    let each = held(name, &message.repeat(repeats), count, at_once);
    assert!(each <= HELD_BYTES_MAX, "{name}: {each} bytes each, more than {HELD_BYTES_MAX}");
}

fn message(opcode: u8, len: usize) -> Vec<u8> {
    client(opcode, &vec![b'x'; len]).bytes()
}

#[test]
fn pipelined_messages_of_32_bytes() {
    check("text of 32 B", &message(TEXT, 32), CLIENTS_TINY, AT_ONCE);
    check("binary of 32 B", &message(BINARY, 32), CLIENTS_TINY, AT_ONCE);
}

#[test]
fn messages_of_1_kib() {
    check("text of 1 KiB", &message(TEXT, 1024), CLIENTS, CLIENTS);
    check("binary of 1 KiB", &message(BINARY, 1024), CLIENTS, CLIENTS);
}

#[test]
fn messages_of_64_kib() {
    check("text of 64 KiB", &message(TEXT, 64 * 1024), CLIENTS, CLIENTS);
    check("binary of 64 KiB", &message(BINARY, 64 * 1024), CLIENTS, CLIENTS);
}

#[test]
fn pings() {
    check("pings of 16 B", &message(PING, 16), CLIENTS_TINY, AT_ONCE);
    check("pings of 125 B", &message(PING, 125), CLIENTS_TINY, AT_ONCE);
}

#[test]
fn messages_of_the_maximum_size() {
    for (name, opcode) in [("text of 1 MiB", TEXT), ("binary of 1 MiB", BINARY)] {
        let each = held(name, &message(opcode, MESSAGE_BYTES_MAX), CLIENTS_HUGE, CLIENTS_HUGE);
        // A large binary message is echoed while it arrives, and not stored.
        let max = if opcode == TEXT { LARGE_BYTES_MAX } else { HELD_BYTES_MAX };
        assert!(each <= max, "{name}: {each} bytes each, more than {max}");
    }
}

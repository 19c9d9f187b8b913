//! Frames that announce more bytes than follow.

use std::io::Write;

use crate::crowd::open_all;
use crate::support::canary::Canary;
use crate::support::client::{expect_bytes, expect_raw_close, open_raw};
use crate::support::frames::{
    BINARY, CONTINUATION, Frame, PING, TEXT, client, server as server_frame,
};
use crate::support::server_process::ServerProcess;

/// Clients that announce a message at the same time.
const CLIENTS: usize = 200;

/// The default of `message_bytes_max`.
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;

/// Maximum memory of a connection that has announced a message.
const ANNOUNCED_BYTES_MAX: usize = 4 * 1024;

/// Maximum memory of an incomplete message, per byte received.
const AMPLIFICATION_MAX: usize = 4;

#[test]
fn lengths_above_the_limit_are_refused_before_the_payload_arrives() {
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let before = server.reserved_bytes();
    for (length, code) in [
        (MESSAGE_BYTES_MAX + 1, 1009),
        (1 << 32, 1009),
        (1 << 62, 1009),
        (i64::MAX as u64, 1009),
        // The top bit must be 0 (RFC 6455 5.2).
        (1 << 63, 1002),
        (u64::MAX, 1002),
    ] {
        let announced = |opcode| client(opcode, b"").length64(length);
        let first = |opcode| client(opcode, b"x").fin(false).bytes();
        for opcode in [TEXT, BINARY] {
            let mut stream = open_raw(server.address());
            stream.write_all(&announced(opcode).bytes()).expect("the server reads");
            expect_raw_close(stream, code, "");
            // The limit applies to the sum of a message's frames.
            let mut stream = open_raw(server.address());
            stream.write_all(&first(opcode)).expect("the server reads");
            stream.write_all(&announced(CONTINUATION).bytes()).expect("the server reads");
            if opcode == BINARY {
                expect_bytes(&mut stream, &server_frame(BINARY, b"x").fin(false).bytes());
            }
            expect_raw_close(stream, code, "");
        }
    }
    let more = server.reserved_bytes().saturating_sub(before);
    assert!(more < MESSAGE_BYTES_MAX as usize, "{more} bytes for announced lengths");
    canary.finish();
    server.finish();
}

/// Checks the memory of the server when every client has sent `start`, an incomplete frame with
/// this many bytes of payload.
#[track_caller]
fn check(start: &Frame, opcode: u8, payload: usize) {
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let before = server.reserved_bytes();
    let mut streams = open_all(server.address(), CLIENTS);
    let mut others = open_all(server.address(), 2);
    let bytes = start.bytes();
    // The last bytes arrive one by one, each in a read of its own.
    let (most, last) = bytes.split_at(bytes.len() - 3);
    for piece in std::iter::once(most).chain(last.chunks(1)) {
        for stream in &mut streams {
            stream.write_all(piece).expect("the server reads");
        }
        // Once these pings are answered, the server has read everything sent before them.
        for stream in &mut others {
            stream.write_all(&client(PING, b"").bytes()).expect("the server reads");
            expect_bytes(stream, &server_frame(0xA, b"").bytes());
        }
    }
    let each = server.reserved_bytes().saturating_sub(before) / CLIENTS;
    // When the message's memory grows, the allocator may keep the previous block.
    let max = (AMPLIFICATION_MAX + 1) * payload + ANNOUNCED_BYTES_MAX;
    println!("opcode {opcode}, {payload} bytes of 1 MiB: {each} bytes for each client");
    assert!(each <= max, "{each} bytes each for {payload} bytes received, more than {max}");
    assert_eq!(server.counters().of("closed"), 0, "the length is within the limit");
    drop((streams, others));
    canary.finish();
    server.finish();
}

#[test]
fn memory_grows_with_the_received_bytes_and_not_with_the_announced_length() {
    for opcode in [TEXT, BINARY] {
        for payload in [0, 1000, 20_000] {
            let start = client(opcode, &vec![b'x'; payload]).length64(MESSAGE_BYTES_MAX);
            check(&start, opcode, payload);
        }
    }
}

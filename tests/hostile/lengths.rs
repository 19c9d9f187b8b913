//! Lengths that are announced and do not follow.

use std::io::Write;

use crate::crowd::open_all;
use crate::support::canary::Canary;
use crate::support::client::{expect_bytes, expect_raw_close, open_raw};
use crate::support::frames::{
    BINARY, CONTINUATION, Frame, PING, TEXT, client, server as server_frame,
};
use crate::support::server_process::ServerProcess;

/// Clients that announce at the same time.
const CLIENTS: usize = 200;

/// The default of `message_bytes_max`.
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;

/// What a connection takes that has announced a message.
const ANNOUNCED_BYTES_MAX: usize = 4 * 1024;

/// What a message under way takes, for each byte of it that has arrived.
const AMPLIFICATION_MAX: usize = 4;

#[test]
fn lengths_beyond_the_limit_are_refused_before_anything_follows() {
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
            // The lengths of a message's frames are added up.
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
    assert!(more < MESSAGE_BYTES_MAX as usize, "{more} bytes for what was announced");
    canary.finish();
    server.finish();
}

/// What clients make the server hold that send `begun`, of which a `payload` has arrived.
#[track_caller]
fn check(begun: &Frame, opcode: u8, payload: usize) {
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let before = server.reserved_bytes();
    let mut streams = open_all(server.address(), CLIENTS);
    let mut others = open_all(server.address(), 2);
    let bytes = begun.bytes();
    // The last bytes come one by one: each is another read.
    let (most, last) = bytes.split_at(bytes.len() - 3);
    for piece in std::iter::once(most).chain(last.chunks(1)) {
        for stream in &mut streams {
            stream.write_all(piece).expect("the server reads");
        }
        // Whatever was sent before these were answered has been read.
        for stream in &mut others {
            stream.write_all(&client(PING, b"").bytes()).expect("the server reads");
            expect_bytes(stream, &server_frame(0xA, b"").bytes());
        }
    }
    let each = server.reserved_bytes().saturating_sub(before) / CLIENTS;
    // And what the allocator keeps of the memory that it was in before it grew.
    let max = (AMPLIFICATION_MAX + 1) * payload + ANNOUNCED_BYTES_MAX;
    println!("opcode {opcode}, {payload} bytes of 1 MiB: {each} bytes for each client");
    assert!(each <= max, "{each} bytes each for {payload} that have arrived, more than {max}");
    assert_eq!(server.counters().of("closed"), 0, "the length is within the limit");
    drop((streams, others));
    canary.finish();
    server.finish();
}

#[test]
fn memory_is_taken_for_what_arrives_and_not_for_what_is_announced() {
    for opcode in [TEXT, BINARY] {
        for payload in [0, 1000, 20_000] {
            let begun = client(opcode, &vec![b'x'; payload]).length64(MESSAGE_BYTES_MAX);
            check(&begun, opcode, payload);
        }
    }
}

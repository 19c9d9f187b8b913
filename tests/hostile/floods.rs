//! Floods that cost a client little: fragments, control frames, headers, connections.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use crate::crowd::{alone, dial_all, open_all};
use crate::support::canary::Canary;
use crate::support::client::{dial, open_raw, read_all, reset, wait_until};
use crate::support::frames::{
    BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client, close_payload, server as server_frame,
};
use crate::support::server_process::ServerProcess;

/// Clients that flood at the same time.
const CLIENTS: usize = 4;

/// The default of `fragments_max`.
const FRAGMENTS_MAX: usize = 131_072;

/// Maximum memory of a fragmented message, per byte of its payload. A fragment has no memory of its
/// own.
const AMPLIFICATION_MAX: usize = 4;

/// Maximum memory of a connection without its message.
const CONNECTION_BYTES_MAX: usize = 16 * 1024;

/// Maximum growth of the server's memory during a flood that it does not store: for each client the
/// read that waits for its turn (260 KiB), and memory that the allocator keeps.
const FLOOD_BYTES_MAX: usize = CLIENTS * 260 * 1024 + 512 * 1024;

/// Control frames that each client sends.
const CONTROLS: usize = 100_000;

/// Connections that are opened in the flood of connections.
const CONNECTIONS: usize = 3000;

/// Writes all of `input`, and reads to the end of the stream at the same time.
#[track_caller]
fn converse(address: SocketAddr, input: &[u8]) -> Vec<u8> {
    let mut stream = open_raw(address);
    let mut writer = stream.try_clone().expect("a descriptor");
    let mut output = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(input).expect("the server reads"));
        stream.read_to_end(&mut output).expect("the server ends the stream");
    });
    output
}

/// Several clients at once send `input`. Each must receive `output` and the end of the stream.
#[track_caller]
fn flood(server: &ServerProcess, name: &str, input: &[u8], output: &[u8]) {
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let got = converse(server.address(), input);
                assert!(got == output, "{name}: {} bytes, not {}", got.len(), output.len());
            });
        }
    });
}

/// `count` fragments with this payload each. The last one ends the message if `fin` is set.
fn fragments(opcode: u8, payload: &[u8], count: usize, fin: bool) -> Vec<u8> {
    let first = client(opcode, payload).fin(false).bytes();
    let more = client(CONTINUATION, payload).fin(false).bytes().repeat(count - 2);
    let last = client(CONTINUATION, payload).fin(fin).bytes();
    [first, more, last].concat()
}

fn close_frame(code: u16) -> Vec<u8> {
    server_frame(CLOSE, &close_payload(code, b"")).bytes()
}

#[test]
fn fragments_end_with_1008_beyond_their_limit() {
    let _alone = alone();
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let before = server.memory_bytes();
    for payload in [&b"x"[..], b""] {
        let text = fragments(TEXT, payload, FRAGMENTS_MAX + 1, false);
        flood(&server, "fragments of a text", &text, &close_frame(1008));
        // A fragmented binary message is echoed while it arrives.
        let binary = fragments(BINARY, payload, FRAGMENTS_MAX + 1, false);
        let first = server_frame(BINARY, payload).fin(false).bytes();
        let more = server_frame(CONTINUATION, payload).fin(false).bytes().repeat(FRAGMENTS_MAX - 1);
        let echo = [first, more, close_frame(1008)].concat();
        flood(&server, "fragments of a binary message", &binary, &echo);
    }
    let more = server.memory_bytes().saturating_sub(before);
    println!("after floods of fragments: {more} bytes more");
    assert!(more <= FLOOD_BYTES_MAX, "{more} bytes more, above {FLOOD_BYTES_MAX}");
    let counters = server.counters();
    assert_eq!(counters.of("protocol_errors"), 4 * CLIENTS as u64);
    canary.finish();
    server.finish();
}

#[test]
fn fragments_up_to_the_limit_are_counted_for_each_message() {
    let _alone = alone();
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let message = fragments(TEXT, b"x", FRAGMENTS_MAX, true);
    let echo = server_frame(TEXT, &vec![b'x'; FRAGMENTS_MAX]).bytes();
    let close = close_payload(1000, b"");
    let input = [message.repeat(2), client(CLOSE, &close).bytes()].concat();
    flood(&server, "two messages", &input, &[echo.repeat(2), close_frame(1000)].concat());
    assert_eq!(server.counters().of("protocol_errors"), 0);
    canary.finish();
    server.finish();
}

#[test]
fn tiny_fragments_take_memory_in_proportion_to_their_payload() {
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let before = server.memory_bytes();
    let mut streams = open_all(server.address(), 20);
    let input = fragments(TEXT, b"x", 20_000, false);
    for stream in &mut streams {
        stream.write_all(&input).expect("the server reads");
        // The ping is answered at once, so the pong shows that the server has read the fragments.
        stream.write_all(&client(PING, b"").bytes()).expect("the server reads");
        let mut pong = [0; 2];
        stream.read_exact(&mut pong).expect("a pong");
    }
    let each = server.memory_bytes().saturating_sub(before) / streams.len();
    let max = AMPLIFICATION_MAX * 20_000 + CONNECTION_BYTES_MAX;
    println!("20000 fragments of 1 B: {each} bytes for each client");
    assert!(each <= max, "{each} bytes each, more than {max}");
    canary.finish();
    drop(streams);
    server.finish();
}

#[test]
fn control_frames_are_answered_one_by_one_and_delay_no_other_peer() {
    let _alone = alone();
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let before = server.memory_bytes();
    let close = client(CLOSE, &close_payload(1000, b"")).bytes();
    for payload in [vec![], vec![b'x'; 125]] {
        let input = [client(PING, &payload).bytes().repeat(CONTROLS), close.clone()].concat();
        let output =
            [server_frame(PONG, &payload).bytes().repeat(CONTROLS), close_frame(1000)].concat();
        flood(&server, "pings", &input, &output);
        let input = [client(PONG, &payload).bytes().repeat(CONTROLS), close.clone()].concat();
        flood(&server, "pongs", &input, &close_frame(1000));
    }
    let more = server.memory_bytes().saturating_sub(before);
    println!("after floods of control frames: {more} bytes more");
    assert!(more <= FLOOD_BYTES_MAX, "{more} bytes more, above {FLOOD_BYTES_MAX}");
    canary.finish();
    server.finish();
}

#[test]
fn request_heads_above_the_limits_are_answered_431() {
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000));
    let long_header = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(1 << 20));
    for request in [many_headers, long_line, long_header] {
        let mut streams = dial_all(server.address(), 100);
        for stream in &mut streams {
            // The server discards the excess bytes. Otherwise a reset could destroy the answer.
            stream.write_all(request.as_bytes()).expect("the server reads");
        }
        for stream in &mut streams {
            let answer = read_all(stream);
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        }
    }
    let counters = server.counters();
    assert_eq!((counters.of("refused"), counters.of("opened")), (300, 1));
    canary.finish();
    server.finish();
}

#[test]
fn short_connections_leave_no_descriptor_and_no_memory() {
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let descriptors = server.descriptors();
    let leave = |number: usize, stream: TcpStream| match number % 3 {
        0 => drop(stream),
        1 => reset(stream),
        _ => stream.shutdown(Shutdown::Both).expect("it is open"),
    };
    let round = |count| {
        for number in 0..count {
            leave(number, dial(server.address()));
            leave(number, open_raw(server.address()));
        }
        wait_until("the descriptors are closed", || server.descriptors() == descriptors);
        server.memory_bytes()
    };
    let before = round(100);
    let more = round(CONNECTIONS / 2).saturating_sub(before);
    println!("after {CONNECTIONS} connections: {more} bytes more");
    assert!(more <= FLOOD_BYTES_MAX, "{more} bytes more, above {FLOOD_BYTES_MAX}");
    let counters = server.counters();
    assert_eq!(counters.of("opened"), counters.of("closed") + 1);
    assert_eq!(counters.of("accepted"), counters.of("ended") + 1);
    canary.finish();
    server.finish();
}

//! Mixed traffic for any length of time: every message is echoed, memory does not grow, and the
//! counters add up.
//!
//! `cargo test` runs it for five seconds. To run it for ten minutes, with a line every ten seconds:
//!
//! ```sh
//! SOAK_SECONDS=600 cargo test --release --test soak -- --nocapture
//! ```
//!
//! (Build the server with `cargo build --release --examples` first.) The seed is printed; set
//! `SEED` in the environment to repeat the clients' choices.
//!
//! The traffic runs in rounds. After each round all clients have disconnected and the server is
//! idle: it has as many open descriptors as at the start, all connections have ended, and every
//! message has been echoed. After the warm-up rounds its memory does not grow.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::canary::Canary;
use support::client::{
    Client, close, connect, dial, dial_narrow, exchange, expect_raw_close, half_close, open_on,
    open_raw, reset, wait_until, writing_half,
};
use support::frames;
use support::messages::{random_fragments, random_len, random_message};
use support::requests::GOOD_REQUEST;
use support::rng::{Rng, seed};
use support::server_process::{Counters, ServerProcess};
use tungstenite::{Error, Message};

/// The default of `SOAK_SECONDS`.
const SECONDS: u64 = 5;

/// The warm-up takes this fraction of the time (one quarter), until memory has reached its level.
const WARM_UP_SHARE: u32 = 4;

/// Minimum number of rounds in the warm-up, and in the test after it.
const ROUNDS_MIN: u32 = 2;

/// Maximum duration of a round.
const ROUND_MAX: Duration = Duration::from_secs(10);

const THREADS: u64 = 6;

const WORKERS: usize = 2;

/// Maximum size of a message.
const MESSAGE_BYTES_MAX: usize = 300 * 1024;

/// Limit by which idle memory may exceed its highest level during the warm-up: each worker may keep
/// up to 4 MiB of spare memory (see `Workspace`), perhaps none of it during the warm-up. Ten
/// minutes have at least 20 000 connections and 800 000 messages, so a leak of 500 bytes per
/// connection, or of 12 bytes per message, exceeds the limit.
const GROWTH_BYTES_MAX: usize = WORKERS * 4 * 1024 * 1024;

/// Approximate bytes sent to a slow reader.
const SLOW_BYTES: usize = 2_000_000;

/// Bytes that a slow reader reads at a time.
const PIECE_BYTES: usize = 1024;

/// Approximate receive buffer of a slow reader.
const NARROW_BYTES: usize = 64 * 1024;

#[test]
fn mixed_traffic_leaks_nothing_and_the_counters_add_up() {
    let seconds = std::env::var("SOAK_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |seconds| seconds.parse().expect("a number of seconds"));
    let seed = seed();
    // By default the allocator keeps freed memory, which would hide the memory in use.
    let server = ServerProcess::start_frugal(&format!("--workers {WORKERS}"));
    let descriptors = server.descriptors();
    let total = Duration::from_secs(seconds);
    let length = ROUND_MAX.min(total / (2 * ROUNDS_MIN + 1));
    let start = Instant::now();
    let (mut round, mut highest, mut report) = (0, 0, start);
    let mut seeds = Rng::new(seed);
    while start.elapsed() < total || round < 2 * ROUNDS_MIN {
        let is_warm_up = round < ROUNDS_MIN || start.elapsed() < total / WARM_UP_SHARE;
        traffic(server.address(), &mut seeds, length);
        round += 1;
        wait_until("the descriptors are back", || server.descriptors() == descriptors);
        let counters = server.counters();
        check(&counters);
        let memory = server.memory_bytes();
        if is_warm_up {
            highest = highest.max(memory);
        } else {
            let growth = memory.saturating_sub(highest);
            assert!(growth <= GROWTH_BYTES_MAX, "{memory} bytes after {highest} in the warm-up");
        }
        if report.elapsed() >= ROUND_MAX / 2 || start.elapsed() >= total {
            report = Instant::now();
            println!(
                "{:4} s: {} connections, {} messages, {} MB echoed; {memory} bytes at rest, {} resident at most",
                start.elapsed().as_secs(),
                counters.of("accepted"),
                counters.of("messages_in"),
                counters.of("bytes_in") / 1_000_000,
                server.resident_bytes_max(),
            );
        }
    }
    server.finish();
}

/// Checks the counters of an idle server without clients.
#[track_caller]
fn check(counters: &Counters) {
    let of = |name| counters.of(name);
    assert_eq!(of("accepted"), of("ended"), "{counters:?}");
    assert_eq!(of("opened"), of("closed"), "{counters:?}");
    assert_eq!(of("messages_in"), of("messages_out"), "{counters:?}");
    assert_eq!(of("bytes_in"), of("bytes_out"), "{counters:?}");
    let impossible = ["backlog_overflows", "handler_panics", "idle_timeouts", "close_timeouts"];
    assert_eq!(impossible.map(of), [0; 4], "{counters:?}");
    assert!(of("protocol_errors") > 0 && of("refused") > 0, "{counters:?}");
}

/// A round: clients on several threads, and a canary that checks that echoes are not delayed.
fn traffic(address: SocketAddr, seeds: &mut Rng, length: Duration) {
    let canary = Canary::start(address);
    let end = Instant::now() + length;
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let mut rng = Rng::new(seeds.next());
            thread::spawn(move || {
                // Run each at least once, however short the round.
                for act in ACTS {
                    act(address, &mut rng);
                }
                while Instant::now() < end {
                    ACTS[rng.below(ACTS.len())](address, &mut rng);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("every echo is correct");
    }
    canary.finish();
}

/// The behaviour of a client, from connect to disconnect.
type Act = fn(SocketAddr, &mut Rng);

const ACTS: [Act; 8] = [
    converse,
    converse_in_turns,
    read_slowly,
    end_its_direction,
    break_off,
    break_off_the_request,
    be_refused,
    break_the_protocol,
];

/// Random messages that fit into the kernel's buffers, so that a client can write them all before
/// it reads.
fn batch(rng: &mut Rng) -> Vec<Message> {
    let mut left = 2 * MESSAGE_BYTES_MAX;
    let mut messages = Vec::new();
    while messages.len() < 100 && rng.below(40) > 0 {
        let len = random_len(rng, MESSAGE_BYTES_MAX);
        let Some(rest) = left.checked_sub(len) else { break };
        left = rest;
        messages.push(random_message(rng, len));
    }
    messages
}

/// Writes the messages, some of them in fragments with pings in between.
#[track_caller]
fn write(client: &mut Client, messages: &[Message], rng: &mut Rng) {
    for message in messages {
        if rng.below(3) > 0 {
            client.write(message.clone()).expect("the server reads");
            continue;
        }
        for frame in random_fragments(rng, message, 9) {
            if rng.below(4) == 0 {
                client.write(Message::Ping(rng.bytes(9).into())).expect("the server reads");
            }
            client.write(frame).expect("the server reads");
        }
    }
    client.flush().expect("the server reads");
}

/// Reads the echoes of the messages, and ignores pongs.
#[track_caller]
fn read(client: &mut Client, messages: &[Message]) {
    for message in messages {
        let echo = loop {
            match client.read().expect("the server echoes") {
                Message::Pong(_) => {}
                echo => break echo,
            }
        };
        assert!(echo == *message, "{} bytes for {}", echo.len(), message.len());
    }
}

/// Writes batches, and reads their echoes at the same time.
fn converse(address: SocketAddr, rng: &mut Rng) {
    let mut client = connect(address);
    let mut writer = writing_half(&client);
    let batches: Vec<_> = (0..rng.below(10)).map(|_| batch(rng)).collect();
    thread::scope(|scope| {
        scope.spawn(|| batches.iter().for_each(|batch| write(&mut writer, batch, rng)));
        batches.iter().for_each(|batch| read(&mut client, batch));
    });
    close(client);
}

/// Sends one message at a time.
fn converse_in_turns(address: SocketAddr, rng: &mut Rng) {
    let mut client = connect(address);
    for message in batch(rng) {
        client.send(message.clone()).expect("the server reads");
        read(&mut client, &[message]);
    }
    close(client);
}

/// Reads the replies to one batch in small pieces.
fn read_slowly(address: SocketAddr, rng: &mut Rng) {
    let mut stream = open_on(dial_narrow(address, NARROW_BYTES));
    let (opcode, answer, len) = match rng.below(3) {
        0 => (frames::PING, frames::PONG, rng.below(126)),
        1 => (frames::TEXT, frames::TEXT, rng.below(60_000)),
        _ => (frames::BINARY, frames::BINARY, rng.below(60_000)),
    };
    let payload: Vec<_> = (b' '..b'z').cycle().take(len).collect();
    let count = SLOW_BYTES / (len + 100);
    let input = frames::client(opcode, &payload).bytes().repeat(count);
    let answer = frames::server(answer, &payload).bytes();
    let mut writer = stream.try_clone().expect("a descriptor");
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&input).expect("the server reads"));
        let mut left = answer.len() * count;
        while left > 0 {
            let mut piece = [0; PIECE_BYTES];
            let len = stream.read(&mut piece).expect("the server answers");
            assert!(len > 0 && len <= left, "{left} bytes are missing");
            let at = answer.len() * count - left;
            let expected = (at..at + len).map(|at| answer[at % answer.len()]);
            assert!(expected.eq(piece[..len].iter().copied()), "a wrong byte near {at}");
            left -= len;
        }
    });
}

/// Ends its direction of TCP, and still receives all echoes.
fn end_its_direction(address: SocketAddr, rng: &mut Rng) {
    let mut client = connect(address);
    let mut writer = writing_half(&client);
    let messages = batch(rng);
    thread::scope(|scope| {
        scope.spawn(|| {
            write(&mut writer, &messages, rng);
            half_close(writer.get_ref());
        });
        read(&mut client, &messages);
    });
    loop {
        match client.read() {
            Ok(Message::Pong(_)) => {}
            Err(Error::Protocol(_)) => break,
            other => panic!("not the end: {other:?}"),
        }
    }
}

/// Disconnects without a close frame, possibly inside a frame.
fn break_off(address: SocketAddr, rng: &mut Rng) {
    let mut stream = open_raw(address);
    stream.set_nonblocking(true).expect("a socket option");
    for _ in 0..rng.below(20) {
        let len = random_len(rng, MESSAGE_BYTES_MAX);
        let mut frame = frames::client(frames::BINARY, &rng.bytes(len)).bytes();
        frame.truncate(frame.len() - rng.below(2) * rng.below(frame.len()));
        match stream.write(&frame) {
            Ok(written) if written == frame.len() => {}
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // After a truncated frame the next one is invalid, so the server may have disconnected.
            Err(error) if is_end(&error) => break,
            Err(error) => panic!("{error}"),
        }
    }
    leave(stream, rng);
}

fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Disconnects, with or without a reset.
fn leave(stream: TcpStream, rng: &mut Rng) {
    if rng.below(2) == 0 { drop(stream) } else { reset(stream) }
}

/// Disconnects before its request is complete.
fn break_off_the_request(address: SocketAddr, rng: &mut Rng) {
    let mut stream = dial(address);
    let start = &GOOD_REQUEST[..rng.below(GOOD_REQUEST.len())];
    stream.write_all(start).expect("the server reads");
    leave(stream, rng);
}

/// Sends a request with an unsupported method.
fn be_refused(address: SocketAddr, _: &mut Rng) {
    let answer = exchange(address, "BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

/// Breaks the protocol, and expects the close code.
fn break_the_protocol(address: SocketAddr, rng: &mut Rng) {
    let bad = [
        (frames::client(frames::TEXT, b"no mask").unmasked(), 1002),
        (frames::client(frames::TEXT, &[0xFF]), 1007),
        (frames::client(frames::BINARY, b"").length64(1 << 62), 1009),
    ];
    let (frame, code) = &bad[rng.below(bad.len())];
    let mut stream = open_raw(address);
    stream.write_all(&frame.bytes()).expect("the server reads");
    expect_raw_close(stream, *code, "");
}

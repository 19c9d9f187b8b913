//! Requests that are slow, incomplete or expensive.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use ws_reactor::protocol::HeadReader;

use crate::crowd::{Dripping, dial_all, open_all, size};
use crate::support::canary::Canary;
use crate::support::client::{read_all, wait_until};
use crate::support::requests::{GOOD_REQUEST, HEAD_BYTES_MAX};
use crate::support::server_process::ServerProcess;

/// The server's handshake timeout.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The time between two bytes of a client.
const BETWEEN_BYTES: Duration = Duration::from_secs(1);

/// Maximum CPU time of a request in an unoptimised build: a hundred times the usual time, and less
/// than the time of an algorithm with quadratic cost.
const REQUEST_TIME_MAX: Duration = Duration::from_millis(200);

/// Maximum time for a head of 1 MiB that arrives byte by byte. To scan each byte once takes
/// hundredths of this. To scan the whole head again for each byte would take hours.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// Maximum memory of a connection with an incomplete request: its slot, its timer, the first bytes.
const INCOMPLETE_BYTES_MAX: usize = 1024;

/// Maximum memory of a connection with an incomplete request of the maximum size.
const LONG_HEAD_BYTES_MAX: usize = HEAD_BYTES_MAX + INCOMPLETE_BYTES_MAX;

#[test]
fn a_thousand_handshakes_at_a_byte_per_second_end_in_time_and_take_little_memory() {
    let server = ServerProcess::start(&format!("--handshake-timeout {}", TIMEOUT.as_secs()));
    let canary = Canary::start(server.address());
    let before = server.memory_bytes();
    let start = Instant::now();
    let streams = dial_all(server.address(), size(1000));
    let mut clients: Vec<_> = streams.into_iter().map(Dripping::new).collect();
    let (mut drips, mut memory) = (0, before);
    wait_until("all have been answered", || {
        if start.elapsed() >= drips * BETWEEN_BYTES {
            drips += 1;
            clients.iter_mut().for_each(|client| client.drip(GOOD_REQUEST));
        }
        memory = memory.max(server.memory_bytes());
        clients.iter_mut().for_each(Dripping::read);
        clients.iter().all(|client| client.has_ended)
    });
    for client in &clients {
        let answer = String::from_utf8_lossy(&client.answer);
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer:?}");
    }
    let each = memory.saturating_sub(before) / clients.len();
    println!(
        "{} slow handshakes: {each} bytes each, over after {:?}",
        clients.len(),
        start.elapsed()
    );
    assert!(each <= INCOMPLETE_BYTES_MAX, "{each} bytes each, more than {INCOMPLETE_BYTES_MAX}");
    let count = clients.len() as u64;
    drop(clients);
    let counters = server.wait_for("all have ended", |counters| counters.of("ended") == count);
    assert_eq!((counters.of("handshake_timeouts"), counters.of("opened")), (count, 1));
    canary.finish();
    server.finish();
}

#[test]
fn incomplete_request_heads_take_no_more_memory_than_the_limit() {
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let mut streams = dial_all(server.address(), 500);
    let descriptors = 500 + open_all(server.address(), 1).len();
    let before = server.memory_bytes();
    // The server accepts in order, so it has read each piece once it has answered a later client.
    let head = [b"GET / HTTP/1.1\r\nX-Long: ", &*vec![b'x'; HEAD_BYTES_MAX]].concat();
    for piece in [0..3000, 3000..6000, 6000..HEAD_BYTES_MAX - 1] {
        for stream in &mut streams {
            stream.write_all(&head[piece.clone()]).expect("the server reads");
        }
        drop(open_all(server.address(), 1));
    }
    let each = server.memory_bytes().saturating_sub(before) / streams.len();
    println!("{} long heads: {each} bytes each", streams.len());
    assert!(each <= LONG_HEAD_BYTES_MAX, "{each} bytes each, more than {LONG_HEAD_BYTES_MAX}");
    assert!(server.descriptors() > descriptors, "all connections are still open");
    // One more byte exceeds the limit.
    for stream in &mut streams {
        stream.write_all(b"x").expect("the server reads");
    }
    for stream in &mut streams {
        let answer = read_all(stream);
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    }
    canary.finish();
    server.finish();
}

#[test]
fn each_byte_of_a_request_head_is_scanned_once() {
    let head = [&[b'x'; 1 << 20][..], b" / HTTP/1.1\r\n\r\n"].concat();
    let (mut reader, start) = (HeadReader::default(), Instant::now());
    let (last, first) = head.split_last().expect("the head is not empty");
    for byte in first {
        let found =
            reader.read(std::slice::from_ref(byte), head.len()).expect("the head may continue");
        assert!(found.is_none());
        assert!(start.elapsed() < HEAD_TIME_MAX, "it takes longer than {HEAD_TIME_MAX:?}");
    }
    let found = reader.read(std::slice::from_ref(last), head.len()).expect("the head is valid");
    assert_eq!(found.expect("the head is complete").bytes, head);
}

#[test]
fn headers_of_the_maximum_size_take_little_cpu_time() {
    const REQUESTS: u32 = 50;
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let good = String::from_utf8_lossy(&GOOD_REQUEST[..GOOD_REQUEST.len() - 2]);
    for name in ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Connection", "Upgrade"] {
        for unit in [",", " ", "a,", "a , ", "a; a=a, ", "a; a=\"\\a\\a\", ", ";", "\"", "\u{e9},"]
        {
            let value = unit.repeat((HEAD_BYTES_MAX - good.len() - 50) / unit.len());
            let request = format!("{good}{name}: a{value}\r\n\r\n");
            let before = server.cpu_time();
            let mut streams = dial_all(server.address(), REQUESTS as usize);
            for stream in &mut streams {
                stream.write_all(request.as_bytes()).expect("the server reads");
                let mut status = [0; 12];
                stream.read_exact(&mut status).expect("an answer");
                assert!(matches!(&status, b"HTTP/1.1 101" | b"HTTP/1.1 400"), "{status:?}");
            }
            let each = (server.cpu_time() - before) / REQUESTS;
            assert!(each <= REQUEST_TIME_MAX, "{name} of {unit:?}: {each:?} of CPU time");
        }
    }
    canary.finish();
    server.finish();
}

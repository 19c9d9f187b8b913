//! Shutdown: every peer receives a close frame, and no peer can delay the end beyond the deadline.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::client::{
    DEADLINE, ask, close, connect, dial, expect_bytes, expect_close, expect_raw_close, open_on,
    open_raw, read_all, wait_until,
};
use support::frames;
use support::requests::GOOD_REQUEST;
use support::servers::{LOCAL, address, local, serve, serve_with, stop};
use tungstenite::Message;
use ws_reactor::{Config, Echo, Handler, Peer, Reply, Server, ServerHandle};

/// The reason in the server's close frames.
const REASON: &str = "the server is shutting down";

/// A timeout that no test reaches.
const FOREVER: Duration = Duration::from_secs(3600);

/// A server on its own loopback address, so that no other test reuses its port.
fn serve_on(host: u8, workers: usize) -> ServerHandle {
    let builder = Server::builder().bind(local(host)).workers(workers);
    builder.start(|_, _| Echo).expect("the server starts")
}

/// Whether connections to `address` are refused.
fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[track_caller]
fn expect_close_frame(stream: &mut TcpStream, code: u16) {
    let payload = frames::close_payload(code, REASON.as_bytes());
    expect_bytes(stream, &frames::server(frames::CLOSE, &payload).bytes());
}

#[test]
fn every_peer_gets_1001_and_the_listener_is_closed() {
    let server = serve_on(3, 3);
    let address = address(&server);
    let mut clients: Vec<_> = (0..30).map(|_| connect(address)).collect();
    for client in &mut clients {
        ask(client, "hello", "hello");
    }
    server.shutdown(FOREVER);
    for client in clients {
        expect_close(client, 1001, REASON);
    }
    server.join().expect("no worker has failed");
    assert!(is_refused(address));
    let stats = stop(&server);
    assert_eq!((stats.opened, stats.closed, stats.ended), (30, 30, 30));
    assert_eq!((stats.protocol_errors, stats.close_timeouts), (0, 0));
}

#[test]
fn a_server_without_peers_stops_at_once_and_its_address_is_free() {
    let server = serve_on(4, 2);
    let address = address(&server);
    server.shutdown(FOREVER);
    server.join().expect("no worker has failed");
    server.join().expect("a second join returns at once");
    server.shutdown(Duration::ZERO);
    assert!(is_refused(address));
    let again = Server::builder().bind(address).workers(1).start(|_, _| Echo);
    let again = again.expect("the address is free");
    let mut client = connect(address);
    ask(&mut client, "hello", "hello");
    close(client);
    stop(&again);
}

#[test]
fn an_address_is_free_while_old_connections_linger_in_the_kernel() {
    let server = serve_on(5, 1);
    let address = address(&server);
    // The server ends the stream first, so that its side is in TIME_WAIT.
    let client = connect(address);
    server.shutdown(FOREVER);
    expect_close(client, 1001, REASON);
    server.join().expect("no worker has failed");
    let again = Server::builder().bind(address).workers(2).start(|_, _| Echo);
    stop(&again.expect("the address is free"));
}

#[test]
fn join_waits_for_the_last_peer() {
    let server = serve_on(6, 1);
    let address = address(&server);
    let mut stream = open_raw(address);
    server.shutdown(FOREVER);
    let (sender, joined) = channel();
    let joiner = thread::spawn({
        let server = server.clone();
        move || sender.send(server.join().is_ok()).expect("the test listens")
    });
    expect_close_frame(&mut stream, 1001);
    wait_until("the listener is closed while the server waits for the peer", || {
        is_refused(address)
    });
    assert!(joined.try_recv().is_err(), "the peer has not answered yet");
    let answer = frames::client(frames::CLOSE, &frames::close_payload(1001, b"")).bytes();
    stream.write_all(&answer).unwrap();
    assert_eq!(read_all(&mut stream), "");
    drop(stream);
    assert_eq!(joined.recv_timeout(DEADLINE), Ok(true));
    joiner.join().unwrap();
    assert_eq!(stop(&server).close_timeouts, 0);
}

#[test]
fn messages_sent_before_a_shutdown_are_answered_before_the_close_frame() {
    let server = serve(1, || Echo);
    let mut stream = open_raw(address(&server));
    let frame = frames::client(frames::TEXT, b"before").bytes();
    stream.write_all(&frame).unwrap();
    wait_until("the message has arrived", || server.stats().messages_in == 1);
    server.shutdown(FOREVER);
    expect_bytes(&mut stream, &frames::server(frames::TEXT, b"before").bytes());
    expect_raw_close(stream, 1001, REASON);
    stop(&server);
}

#[test]
fn a_peer_that_does_not_answer_is_dropped_at_the_drain_deadline() {
    const DRAIN: Duration = Duration::from_millis(300);
    // Only the drain deadline can end the connections.
    let config = Config { close_timeout: FOREVER, ..Config::default() };
    let server = serve_with(config, 2, || Echo);
    let mut streams: Vec<_> = (0..4).map(|_| open_raw(address(&server))).collect();
    let start = Instant::now();
    server.shutdown(DRAIN);
    for stream in &mut streams {
        expect_close_frame(stream, 1001);
    }
    server.join().expect("no worker has failed");
    let elapsed = start.elapsed();
    assert!(elapsed >= DRAIN, "{elapsed:?}");
    for stream in &mut streams {
        let mut rest = Vec::new();
        // The connection ends, with or without a reset.
        let _ = stream.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    let stats = stop(&server);
    assert_eq!((stats.closed, stats.ended), (4, 4));
}

#[test]
fn a_later_shutdown_can_only_shorten_the_drain() {
    let config = Config { close_timeout: FOREVER, ..Config::default() };
    let server = serve_with(config, 1, || Echo);
    let mut stream = open_raw(address(&server));
    server.shutdown(FOREVER);
    expect_close_frame(&mut stream, 1001);
    server.shutdown(Duration::ZERO);
    server.shutdown(FOREVER);
    server.join().expect("no worker has failed");
    stop(&server);
}

#[test]
fn a_client_in_the_middle_of_its_request_gets_503() {
    let server = serve(1, || Echo);
    let mut stream = dial(address(&server));
    stream.write_all(&GOOD_REQUEST[..60]).unwrap();
    let mut silent = dial(address(&server));
    wait_until("both are accepted", || server.stats().accepted == 2);
    server.shutdown(FOREVER);
    for stream in [&mut stream, &mut silent] {
        let answer = read_all(stream);
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{REASON}\n")), "{answer}");
    }
    drop((stream, silent));
    let stats = stop(&server);
    assert_eq!((stats.opened, stats.turned_away), (0, 2));
}

#[test]
fn a_busy_server_stops_too() {
    const CLIENTS: usize = 4;
    let server = serve(2, || Echo);
    let address = address(&server);
    let (busy, is_busy) = channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let busy = busy.clone();
            thread::spawn(move || {
                let mut client = connect(address);
                let mut number = 0;
                loop {
                    let message = Message::text(number.to_string());
                    client.send(message.clone()).expect("the server reads");
                    match client.read().expect("an echo, or the close frame") {
                        Message::Close(Some(frame)) => break u16::from(frame.code),
                        echo => assert_eq!(echo, message),
                    }
                    if number == 100 {
                        busy.send(()).expect("the test listens");
                    }
                    number += 1;
                }
            })
        })
        .collect();
    for _ in 0..CLIENTS {
        is_busy.recv_timeout(DEADLINE).expect("the client receives echoes");
    }
    server.shutdown(FOREVER);
    for client in clients {
        assert_eq!(client.join().expect("every echo is correct"), 1001);
    }
    let stats = stop(&server);
    assert_eq!(stats.messages_in, stats.messages_out);
}

/// Blocks in its callbacks until the test lets it continue.
struct Blocking {
    entered: Sender<()>,
    release: Arc<Mutex<Receiver<()>>>,
}

impl Handler for Blocking {
    type State = ();

    fn on_message(&mut self, _: &mut Peer<'_, ()>, message: ws_reactor::Message<'_>) -> Reply {
        if message.as_text() == Some("block") {
            self.entered.send(()).expect("the test listens");
            let release = self.release.lock().expect("no panic");
            release.recv().expect("the test releases it");
        }
        Reply::Echo
    }
}

#[test]
fn a_worker_that_is_stuck_in_a_callback_does_not_cost_other_peers_their_close_frame() {
    let (entered, blocked) = channel();
    let (releaser, release) = channel();
    let release = Arc::new(Mutex::new(release));
    let server = serve(2, || Blocking { entered: entered.clone(), release: Arc::clone(&release) });
    let listener = TcpListener::bind(LOCAL).expect("a free port");
    let [mut stuck, other] = [0, 1].map(|worker| {
        let stream = dial(listener.local_addr().expect("bound"));
        let (accepted, _) = listener.accept().expect("a client");
        server.adopt(worker, accepted).expect("the worker runs");
        open_on(stream)
    });
    stuck.write_all(&frames::client(frames::TEXT, b"block").bytes()).expect("the server reads");
    blocked.recv_timeout(DEADLINE).expect("the callback blocks");
    server.shutdown(FOREVER);
    expect_raw_close(other, 1001, REASON);
    releaser.send(()).expect("the callback waits");
    expect_bytes(&mut stuck, &frames::server(frames::TEXT, b"block").bytes());
    expect_raw_close(stuck, 1001, REASON);
    server.join().expect("no worker has failed");
}

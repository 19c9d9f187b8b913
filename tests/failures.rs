//! A failure on one connection, such as a handler's panic or a silent peer, ends only that
//! connection.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::client::{
    DEADLINE, ask, close, connect, dial, exchange, expect_bytes, expect_close,
    expect_keepalive_ping, open_raw, read_all, refused, request, upgrade, wait_until,
};
use support::frames;
use support::requests::GOOD_REQUEST;
use support::servers::{address, serve, serve_with, stop};
use tungstenite::Message;
use ws_reactor::{
    CloseCause, CloseEvent, Config, ConnectionInfo, Context, Echo, Handler, Peer, PeerId, Reply,
    Request, Response, Upgrade,
};

/// Panics in the callback that the path names, or on the message `panic`.
struct Fragile;

impl Handler for Fragile {
    type State = String;

    fn on_request(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<String> {
        assert_ne!(request.path(), "/request", "as requested");
        Upgrade::accept(request.path().to_owned())
    }

    fn on_http(&mut self, _: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        panic!("as requested");
    }

    fn on_open(&mut self, peer: &mut Peer<'_, String>, _: ConnectionInfo<'_>) {
        assert_ne!(peer.state, "/open", "as requested");
    }

    fn on_message(
        &mut self,
        peer: &mut Peer<'_, String>,
        message: ws_reactor::Message<'_>,
    ) -> Reply {
        if message == ws_reactor::Message::from("panic") {
            peer.send("first this");
            panic!("as requested");
        }
        Reply::Echo
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, state: String, _: &CloseEvent<'_>) {
        assert_ne!(state, "/close", "as requested");
    }
}

/// A client on its own thread that sends messages and reads their echoes until it is stopped.
struct Bystander {
    echoes: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Bystander {
    fn new(address: SocketAddr) -> Self {
        let (echoes, end) = (Arc::default(), Arc::default());
        let (count, is_over) = (Arc::clone(&echoes), Arc::clone(&end));
        let thread = thread::spawn(move || {
            let mut client = connect(address);
            while !AtomicBool::load(&is_over, Ordering::Relaxed) {
                let text = AtomicUsize::fetch_add(&count, 1, Ordering::Relaxed).to_string();
                ask(&mut client, &text, &text);
            }
            close(client);
        });
        Self { echoes, end, thread }
    }

    fn echoes(&self) -> usize {
        self.echoes.load(Ordering::Relaxed)
    }

    /// Waits until more echoes have arrived.
    #[track_caller]
    fn wait_for_more(&self) {
        let before = self.echoes();
        wait_until("the other client receives echoes", || self.echoes() > before + 10);
    }

    fn finish(self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().expect("every echo is correct");
    }
}

#[test]
fn a_panic_in_on_message_ends_only_its_connection() {
    const PANICS: u64 = 10;
    let server = serve(1, || Fragile);
    let bystander = Bystander::new(address(&server));
    for _ in 0..PANICS {
        let mut client = connect(address(&server));
        ask(&mut client, "fine", "fine");
        client.write(Message::text("panic")).unwrap();
        client.send(Message::text("never seen")).unwrap();
        // Messages sent before the panic are still delivered.
        assert_eq!(client.read().unwrap(), Message::text("first this"));
        expect_close(client, 1011, "");
        bystander.wait_for_more();
    }
    bystander.finish();
    let stats = stop(&server);
    assert_eq!((stats.handler_panics, stats.opened), (PANICS, PANICS + 1));
}

#[test]
fn a_panic_in_on_request_is_answered_500() {
    let server = serve(1, || Fragile);
    let bystander = Bystander::new(address(&server));
    let address = address(&server);
    assert_eq!(refused(dial(address), request(address, "/request", &[])), 500);
    let answer = exchange(address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{answer}");
    bystander.wait_for_more();
    bystander.finish();
    let stats = stop(&server);
    assert_eq!((stats.handler_panics, stats.opened), (2, 1));
}

#[test]
fn panics_in_on_open_and_on_close_are_contained() {
    let server = serve(1, || Fragile);
    let bystander = Bystander::new(address(&server));
    let address = address(&server);
    let (client, _) = upgrade(dial(address), request(address, "/open", &[]));
    expect_close(client, 1011, "");
    let (mut client, _) = upgrade(dial(address), request(address, "/close", &[]));
    ask(&mut client, "fine", "fine");
    close(client);
    bystander.wait_for_more();
    bystander.finish();
    let stats = stop(&server);
    assert_eq!((stats.handler_panics, stats.opened), (2, 3));
}

/// Echoes, and reports why connections end.
struct CloseReporter(Sender<CloseCause>);

impl Handler for CloseReporter {
    type State = ();

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
        Reply::Echo
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), event: &CloseEvent<'_>) {
        self.0.send(event.cause).expect("the test listens");
    }
}

#[test]
fn a_silent_peer_is_pinged_and_then_closed() {
    const IDLE: Duration = Duration::from_millis(300);
    let (sender, causes) = channel();
    // The worker must wait for the shorter of the two.
    let handshake_timeout = Duration::from_secs(3600);
    let config = Config { idle_timeout: IDLE, handshake_timeout, ..Config::default() };
    let server = serve_with(config, 1, || CloseReporter(sender.clone()));
    let start = Instant::now();
    let mut stream = open_raw(address(&server));
    expect_keepalive_ping(&mut stream);
    assert!(start.elapsed() >= IDLE / 2, "{:?} is too early", start.elapsed());
    let close_frame = frames::close_payload(1001, b"idle timeout");
    expect_bytes(&mut stream, &frames::server(frames::CLOSE, &close_frame).bytes());
    assert_eq!(read_all(&mut stream), "");
    assert!(start.elapsed() >= IDLE, "{:?} is too early", start.elapsed());
    assert_eq!(causes.recv_timeout(DEADLINE), Ok(CloseCause::IdleTimeout));
    wait_until("the connection has ended", || server.stats().ended == 1);
    assert_eq!(stop(&server).idle_timeouts, 1);
}

#[test]
fn a_peer_that_answers_pings_is_kept() {
    // Long enough for a busy machine: the client has half of it to answer.
    let idle_timeout = Duration::from_secs(2);
    let server = serve_with(Config { idle_timeout, ..Config::default() }, 1, || Echo);
    let mut client = connect(address(&server));
    let start = Instant::now();
    let mut pings = 0;
    // The connection survives two timeouts.
    while start.elapsed() < 2 * idle_timeout {
        let message = client.read().expect("a ping");
        assert!(message.is_ping(), "{message:?}");
        client.flush().expect("the pong is sent");
        pings += 1;
    }
    assert!(pings >= 2, "{pings} pings in {:?}", start.elapsed());
    client.send(Message::text("still here")).unwrap();
    let answer = loop {
        match client.read().expect("an answer") {
            Message::Ping(_) => {}
            answer => break answer,
        }
    };
    assert_eq!(answer, Message::text("still here"));
    drop(client);
    let stats = stop(&server);
    assert_eq!(stats.idle_timeouts, 0);
    assert!(
        stats.round_trips.count() >= pings,
        "{} of {pings} round trips",
        stats.round_trips.count()
    );
}

#[test]
fn a_peer_that_does_not_answer_a_close_frame_is_dropped() {
    let (sender, causes) = channel();
    let config = Config { close_timeout: Duration::from_millis(200), ..Config::default() };
    let server = serve_with(config, 1, || CloseReporter(sender.clone()));
    let mut other = connect(address(&server));
    let mut stream = open_raw(address(&server));
    // An unmasked frame is a protocol error; the peer never ends its direction of TCP.
    stream.write_all(&frames::client(frames::TEXT, b"no mask").unmasked().bytes()).unwrap();
    let mut close_frame = [0; 4];
    stream.read_exact(&mut close_frame).unwrap();
    assert_eq!((close_frame[0], &close_frame[2..]), (0x88, &1002_u16.to_be_bytes()[..]));
    assert!(matches!(causes.recv_timeout(DEADLINE), Ok(CloseCause::Protocol(_))));
    wait_until("it is dropped nevertheless", || server.stats().ended == 1);
    ask(&mut other, "still here", "still here");
    drop((stream, other));
    assert_eq!(stop(&server).protocol_errors, 1);
}

/// Sends an endless request, slowly and byte by byte, until the server answers.
fn drip(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ").expect("the server reads");
    stream.set_read_timeout(Some(Duration::from_millis(10))).expect("a socket option");
    loop {
        let mut buf = [0; 1024];
        match stream.read(&mut buf) {
            Ok(0) => return String::from_utf8(answer).expect("UTF-8"),
            Ok(len) => answer.extend_from_slice(&buf[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                stream.write_all(b"x").expect("the server reads");
            }
            // The server resets the connection if a byte arrives after its answer.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !answer.is_empty() => {
                return String::from_utf8(answer).expect("UTF-8");
            }
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&answer)),
        }
    }
}

#[test]
fn a_request_that_does_not_end_in_time_is_answered_408() {
    const TIMEOUT: Duration = Duration::from_millis(600);
    let config = Config { handshake_timeout: TIMEOUT, ..Config::default() };
    let server = serve_with(config, 1, || Echo);
    let start = Instant::now();
    let mut silent = dial(address(&server));
    let mut incomplete = dial(address(&server));
    incomplete.write_all(&GOOD_REQUEST[..100]).unwrap();
    for stream in [&mut silent, &mut incomplete] {
        let answer = read_all(stream);
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    }
    assert!(start.elapsed() >= TIMEOUT, "{:?} is too early", start.elapsed());
    wait_until("both have ended", || server.stats().ended == 2);
    let stats = stop(&server);
    assert_eq!((stats.handshake_timeouts, stats.opened), (2, 0));
}

#[test]
fn slow_bytes_do_not_extend_the_handshake_timeout() {
    let handshake_timeout = Duration::from_millis(250);
    let server = serve_with(Config { handshake_timeout, ..Config::default() }, 1, || Echo);
    let start = Instant::now();
    let answer = drip(&mut dial(address(&server)));
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(start.elapsed() >= handshake_timeout, "{:?} is too early", start.elapsed());
    assert_eq!(stop(&server).handshake_timeouts, 1);
}

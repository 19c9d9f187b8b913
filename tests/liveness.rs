//! Slow and dead peers over real sockets: the kernel's data on acknowledgements (TCP_INFO, tcp(7))
//! decides which connections the server drops.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use support::client::{dial_narrow, expect_bytes, expect_keepalive_ping, open_on, wait_until};
use support::frames::{BINARY, PONG, TEXT, client, server};
use support::servers::{address, serve_with, stop};
use ws_reactor::{
    CloseCause, CloseEvent, Config, ConnectionInfo, Context, Echo, Handler, Message, Peer, PeerId,
    Reply,
};

/// Receive buffer of the client, far smaller than the send buffer of the server.
const NARROW_BYTES: usize = 4096;

/// A timeout that no test reaches.
const NEVER: Duration = Duration::from_secs(3600);

/// Reports the ids of peers, and why their connections end.
struct Reporter {
    opened: Sender<PeerId>,
    closed: Sender<CloseCause>,
}

impl Reporter {
    fn new() -> (Self, Receiver<PeerId>, Receiver<CloseCause>) {
        let (opened, ids) = channel();
        let (closed, causes) = channel();
        (Self { opened, closed }, ids, causes)
    }
}

impl Handler for Reporter {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        self.opened.send(peer.id()).expect("the test waits for it");
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::None
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), event: &CloseEvent<'_>) {
        self.closed.send(event.cause).expect("the test waits for it");
    }
}

/// The server's kernel accepts the program's bytes, but the peer's kernel acknowledges none of
/// them: the peer is dropped. It would not receive a close frame, so the server waits for no
/// answer.
fn assert_peer_that_acknowledges_nothing_is_dropped(ping_interval: Duration) {
    let idle_timeout = Duration::from_secs(1);
    let config = Config { idle_timeout, ping_interval, close_timeout: NEVER, ..Config::default() };
    let (reporter, ids, causes) = Reporter::new();
    let mut reporter = Some(reporter);
    let server = serve_with(config, 1, || reporter.take().expect("there is one worker"));
    let stream = dial_narrow(address(&server), NARROW_BYTES);
    let begin = Instant::now();
    let stream = open_on(stream);
    let id = ids.recv().expect("the connection is open");
    wait_until("the peer is dropped", || {
        // Fails once the connection has ended and the id is stale.
        let _ = server.send(id, &[7; 100]);
        server.stats().ended == 1
    });
    assert!(begin.elapsed() >= idle_timeout, "after {:?}", begin.elapsed());
    assert_eq!(causes.recv(), Ok(CloseCause::IdleTimeout));
    let stats = stop(&server);
    assert_eq!((stats.idle_timeouts, stats.backlog_overflows), (1, 0));
    drop(stream);
}

#[test]
fn a_peer_that_acknowledges_nothing_is_dropped_despite_data_sent_to_it() {
    assert_peer_that_acknowledges_nothing_is_dropped(Duration::from_millis(250));
}

#[test]
fn without_pings_a_peer_that_acknowledges_nothing_is_dropped_despite_data_sent_to_it() {
    assert_peer_that_acknowledges_nothing_is_dropped(Duration::ZERO);
}

/// Reads from `stream` in small pieces for longer than `time`.
fn read_slowly(stream: &mut TcpStream, time: Duration, received: &mut Vec<u8>) {
    const PIECE_BYTES: usize = 512;
    const PACE: Duration = Duration::from_millis(20);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let next = Instant::now() + PACE;
        let mut piece = [0; PIECE_BYTES];
        let len = stream.read(&mut piece).expect("the connection stays open");
        received.extend_from_slice(&piece[..len]);
        wait_until("the next piece is due", || Instant::now() >= next);
    }
}

/// The server's kernel accepts an echo long before the peer has received it.
fn assert_slow_peer_is_kept(ping_interval: Duration) {
    const LEN: usize = 512 * 1024;
    let idle_timeout = Duration::from_secs(5);
    let config = Config { idle_timeout, ping_interval, ..Config::default() };
    let server = serve_with(config, 1, || Echo);
    let mut stream = open_on(dial_narrow(address(&server), NARROW_BYTES));
    let payload: Vec<u8> = (0..=250).cycle().take(LEN).collect();
    stream.write_all(&client(BINARY, &payload).bytes()).expect("the server reads");
    let mut received = Vec::new();
    read_slowly(&mut stream, idle_timeout * 3 / 2, &mut received);
    let echo = server_frame(BINARY, &payload);
    let rest = echo.strip_prefix(&*received).expect("a prefix of the echo");
    expect_bytes(&mut stream, rest);
    if !ping_interval.is_zero() {
        expect_keepalive_ping(&mut stream);
    }
    let input = [client(PONG, b""), client(TEXT, b"still here")].map(|frame| frame.bytes());
    stream.write_all(&input.concat()).expect("the server reads");
    expect_bytes(&mut stream, &server_frame(TEXT, b"still here"));
    drop(stream);
    assert_eq!(stop(&server).idle_timeouts, 0);
}

fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    server(opcode, payload).bytes()
}

#[test]
fn a_slow_reader_of_a_large_echo_is_kept() {
    assert_slow_peer_is_kept(Duration::from_secs(1));
}

#[test]
fn without_pings_a_slow_reader_of_a_large_echo_is_kept() {
    assert_slow_peer_is_kept(Duration::ZERO);
}

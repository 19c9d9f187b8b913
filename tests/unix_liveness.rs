//! Slow and dead peers over Unix sockets, which have no acknowledgements: a peer is alive if it sends
//! bytes, or if it reads.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use support::client::{expect_bytes, wait_until};
use support::frames::{self, BINARY, PONG, client, server};
use support::servers::stop;
use support::unix::{Folder, close, expect_echo, open};
use ws_reactor::{
    CloseCause, CloseEvent, Config, ConnectionInfo, Context, Handler, Message, Peer, PeerId, Reply,
    Server, ServerHandle,
};

/// A timeout that no test reaches.
const NEVER: Duration = Duration::from_secs(3600);

const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Echoes, and reports the ids of peers, and why their connections end.
struct Reporter {
    opened: Sender<PeerId>,
    closed: Sender<CloseCause>,
}

impl Handler for Reporter {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        self.opened.send(peer.id()).expect("the test waits for it");
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), event: &CloseEvent<'_>) {
        self.closed.send(event.cause).expect("the test waits for it");
    }
}

/// A server with one peer.
struct Scene {
    _folder: Folder,
    server: ServerHandle,
    peer: UnixStream,
    id: PeerId,
    causes: Receiver<CloseCause>,
}

impl Scene {
    #[track_caller]
    fn new(ping_interval: Duration) -> Self {
        let folder = Folder::new();
        let path = folder.file("ws.sock");
        let (opened, ids) = channel();
        let (closed, causes) = channel();
        // A peer that is asked to close and does not answer would keep the test waiting.
        let config = Config {
            idle_timeout: IDLE_TIMEOUT,
            ping_interval,
            close_timeout: NEVER,
            ..Config::default()
        };
        let reporter =
            |_: &ServerHandle, _| Reporter { opened: opened.clone(), closed: closed.clone() };
        let builder = Server::builder().bind(path.as_path()).workers(1).config(config);
        let server = builder.start(reporter).expect("the server starts");
        let peer = open(&path);
        let id = ids.recv().expect("the connection is open");
        Self { _folder: folder, server, peer, id, causes }
    }
}

/// The kernel accepts the program's bytes for a peer that reads none of them.
#[track_caller]
fn assert_peer_that_does_not_read_is_dropped(ping_interval: Duration) {
    let scene = Scene::new(ping_interval);
    let begin = Instant::now();
    wait_until("the peer is dropped", || {
        // Fails once the connection has ended and the id is stale.
        let _ = scene.server.send(scene.id, &[7; 100]);
        scene.server.stats().ended == 1
    });
    assert!(begin.elapsed() >= IDLE_TIMEOUT / 2, "after {:?}", begin.elapsed());
    assert_eq!(scene.causes.recv(), Ok(CloseCause::IdleTimeout));
    let stats = stop(&scene.server);
    assert_eq!((stats.idle_timeouts, stats.backlog_overflows), (1, 0));
}

#[test]
fn a_peer_that_reads_nothing_is_dropped_despite_data_sent_to_it() {
    assert_peer_that_does_not_read_is_dropped(Duration::from_millis(250));
}

#[test]
fn without_pings_a_peer_that_reads_nothing_is_dropped_despite_data_sent_to_it() {
    assert_peer_that_does_not_read_is_dropped(Duration::ZERO);
}

/// Answers the pings of the server for `time`.
#[track_caller]
fn answer_pings(peer: &mut UnixStream, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let mut ping = [0; 10];
        peer.read_exact(&mut ping).expect("a ping");
        assert_eq!(ping[..2], [0x89, 8]);
        peer.write_all(&client(PONG, &ping[2..]).bytes()).expect("the server reads");
    }
}

#[test]
fn a_peer_that_only_answers_pings_is_kept() {
    let mut scene = Scene::new(Duration::from_millis(100));
    answer_pings(&mut scene.peer, IDLE_TIMEOUT * 2);
    assert_eq!(scene.server.stats().ended, 0);
    drop(scene.peer);
    assert_eq!(stop(&scene.server).idle_timeouts, 0);
}

/// It has read everything, so it can still answer a close frame.
#[test]
fn a_peer_that_reads_pings_and_does_not_answer_is_closed_with_1001() {
    let mut scene = Scene::new(Duration::from_millis(250));
    let mut ping = [0; 10];
    scene.peer.read_exact(&mut ping).expect("a ping");
    let payload = frames::close_payload(1001, b"idle timeout");
    expect_bytes(&mut scene.peer, &server(frames::CLOSE, &payload).bytes());
    let answer = client(frames::CLOSE, &frames::close_payload(1001, b"")).bytes();
    scene.peer.write_all(&answer).expect("the server reads");
    assert_eq!(scene.causes.recv(), Ok(CloseCause::IdleTimeout));
    drop(scene.peer);
    stop(&scene.server);
}

/// The kernel accepts an echo long before the peer has read it.
#[track_caller]
fn assert_slow_reader_is_kept(ping_interval: Duration) {
    const LEN: usize = 768 * 1024;
    const PIECE_BYTES: usize = 4096;
    const PACE: Duration = Duration::from_millis(20);
    let Scene { _folder, server: handle, mut peer, .. } = Scene::new(ping_interval);
    let payload: Vec<u8> = (0..=250).cycle().take(LEN).collect();
    peer.write_all(&client(BINARY, &payload).bytes()).expect("the server reads");
    let echo = server(BINARY, &payload).bytes();
    let mut received = Vec::new();
    while received.len() < echo.len() {
        let next = Instant::now() + PACE;
        let mut piece = vec![0; PIECE_BYTES.min(echo.len() - received.len())];
        peer.read_exact(&mut piece).expect("the connection stays open");
        received.append(&mut piece);
        wait_until("the next piece is due", || Instant::now() >= next);
    }
    assert!(received == echo, "a part of the echo is wrong");
    assert_eq!(handle.stats().idle_timeouts, 0);
    drop(peer);
    assert_eq!(stop(&handle).idle_timeouts, 0);
}

#[test]
fn a_slow_reader_of_a_large_echo_is_kept() {
    assert_slow_reader_is_kept(Duration::from_millis(250));
}

#[test]
fn without_pings_a_slow_reader_of_a_large_echo_is_kept() {
    assert_slow_reader_is_kept(Duration::ZERO);
}

#[test]
fn a_peer_that_sends_is_kept() {
    let mut scene = Scene::new(Duration::ZERO);
    let end = Instant::now() + IDLE_TIMEOUT * 2;
    while Instant::now() < end {
        expect_echo(&mut scene.peer, "hello");
    }
    close(scene.peer);
    assert_eq!(stop(&scene.server).idle_timeouts, 0);
}

//! Workers that fail: the failure is reported, and the other workers continue.

mod support;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};
use support::client::{DEADLINE, ask, close, connect, dial, expect_bytes, read_all, wait_until};
use support::frames;
use support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use support::servers::{LOCAL, address, serve};
use ws_reactor::{ConnectionInfo, Handler, Message, Peer, PeerId, Reply, SendError, ServerHandle};

const FOREVER: Duration = Duration::from_secs(3600);

/// The logger panics on this line, which a worker logs outside of all callbacks.
const FATAL: &str = "the peer ended the stream without a close frame";

/// Errors that were logged.
static ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Collects errors, and panics on [`FATAL`].
struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args().to_string();
        if record.level() == Level::Error {
            ERRORS.lock().expect("it is whole").push(line);
        } else {
            assert!(!line.contains(FATAL), "the log is full");
        }
    }

    fn flush(&self) {}
}

fn install_logger() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Logger).expect("no other test has set one");
        log::set_max_level(LevelFilter::Debug);
    });
}

/// The logged errors that contain `text`.
fn errors_with(text: &str) -> Vec<String> {
    ERRORS.lock().expect("it is whole").iter().filter(|line| line.contains(text)).cloned().collect()
}

/// Echoes, and reports the ids of its peers.
struct Named(Sender<PeerId>);

impl Handler for Named {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        self.0.send(peer.id()).expect("the test listens");
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }
}

/// A WebSocket connection of worker number `worker`.
fn open_with(server: &ServerHandle, worker: usize) -> TcpStream {
    let listener = TcpListener::bind(LOCAL).expect("a free port");
    let mut stream = dial(listener.local_addr().expect("an address"));
    let (accepted, _) = listener.accept().expect("a client waits");
    server.adopt(worker, accepted).expect("the worker takes it");
    stream.write_all(GOOD_REQUEST).expect("the server reads");
    expect_bytes(&mut stream, GOOD_RESPONSE);
    stream
}

#[test]
fn a_worker_panic_is_reported_at_once_and_the_others_continue() {
    install_logger();
    let (sender, opened) = channel();
    let server = serve(2, || Named(sender.clone()));
    let client = open_with(&server, 0);
    let ended_id = opened.recv_timeout(DEADLINE).unwrap();
    let other = open_with(&server, 0);
    let open_id = opened.recv_timeout(DEADLINE).unwrap();
    drop(client);
    let error = server.join().expect_err("a worker has failed").to_string();
    assert_eq!(error, "worker 0 panicked: the log is full");
    let logged = errors_with("the log is full");
    assert!(matches!(&logged[..], [line] if line.starts_with(&error)), "{logged:?}");
    assert_eq!(server.send(ended_id, "hello"), Err(SendError::Stale));
    assert_eq!(server.send(open_id, "hello"), Err(SendError::Stopped));
    drop(other);
    // All new connections go to the other worker.
    for _ in 0..10 {
        let mut client = connect(address(&server));
        ask(&mut client, "hello", "hello");
        let peer = opened.recv_timeout(DEADLINE).unwrap();
        assert!(peer.to_string().starts_with("1/"), "{peer}");
        close(client);
    }
    server.shutdown(FOREVER);
    server.join().expect("the failure was returned before, and the other worker has not failed");
}

/// Panics with `text` when dropped by the first worker.
struct Unsound {
    number: usize,
    text: &'static str,
}

impl Unsound {
    fn maker(text: &'static str) -> impl FnMut() -> Self {
        let mut numbers = 0..;
        move || Self { number: numbers.next().expect("no end"), text }
    }
}

impl Handler for Unsound {
    type State = ();

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }
}

impl Drop for Unsound {
    fn drop(&mut self) {
        assert!(self.number > 0, "{}", self.text);
    }
}

#[test]
fn a_second_join_waits_for_the_remaining_workers() {
    install_logger();
    let server = serve(2, Unsound::maker("as requested"));
    let mut stream = open_with(&server, 1);
    // The first worker ends at once, the second waits for this peer.
    server.shutdown(FOREVER);
    let error = server.join().expect_err("a worker has failed").to_string();
    assert_eq!(error, "worker 0 panicked: as requested");
    assert_eq!(errors_with("as requested").len(), 1);
    let (sender, joined) = channel();
    let joiner =
        thread::spawn(move || sender.send(server.join().is_ok()).expect("the test listens"));
    let payload = frames::close_payload(1001, b"the server is shutting down");
    expect_bytes(&mut stream, &frames::server(frames::CLOSE, &payload).bytes());
    assert!(joined.try_recv().is_err(), "the peer has not answered yet");
    let answer = frames::client(frames::CLOSE, &frames::close_payload(1001, b"")).bytes();
    stream.write_all(&answer).unwrap();
    assert_eq!(read_all(&mut stream), "");
    drop(stream);
    assert_eq!(joined.recv_timeout(DEADLINE), Ok(true));
    joiner.join().unwrap();
}

#[test]
fn a_failure_is_logged_without_a_join() {
    install_logger();
    let server = serve(1, Unsound::maker("unheard"));
    server.shutdown(FOREVER);
    drop(server);
    wait_until("the log has it", || errors_with("worker 0 panicked: unheard").len() == 1);
}

//! A worker with scripted sockets and a virtual clock.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

use std::cell::RefMut;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ws_reactor::internal::{
    AddressTable, Command, Counters, Links, Readiness, Sender, Token, Worker, WorkerContext,
    mailbox,
};
use ws_reactor::{Config, Echo, Handler, Stats};

use crate::scripted::{Kernel, Net, Script, Socket, SocketId, Stream};

/// A worker, its sockets and its clock.
pub struct World<H: Handler> {
    pub worker: Worker<Net, H>,
    pub sender: Rc<Sender<Stream>>,
    net: Net,
    counters: Arc<Counters>,
    now: Instant,
}

impl<H: Handler> World<H> {
    pub fn new(handler: H, config: Config) -> Self {
        let net = Net::new(Script::default(), 1).remove(0);
        let (sender, mailbox) = mailbox(config.mailbox_bytes_max);
        let links = Links::new(0, &[], config.mailbox_bytes_max);
        let shared = worker_context(0, config);
        let counters = Arc::clone(&shared.counters);
        let now = Instant::now();
        let worker = Worker::new(net.clone(), handler, shared, mailbox, links, now);
        Self { worker, sender: Rc::new(sender), net, counters, now }
    }

    /// A world with a second worker, which has turns only when the test gives it one.
    pub fn with_second_worker(handler: H, config: Config) -> (Self, Worker<Net, Echo>) {
        let [net, second_net] = Net::new(Script::default(), 2).try_into().expect("two drivers");
        let bytes_max = config.mailbox_bytes_max;
        let (sender, first_mailbox) = mailbox(bytes_max);
        let (second_sender, second_mailbox) = mailbox(bytes_max);
        let senders = [sender.clone(), second_sender];
        let [links, second_links] = [0, 1].map(|own| Links::new(own, &senders, bytes_max));
        let [shared, second_shared] = [0, 1].map(|index| worker_context(index, config.clone()));
        let counters = Arc::clone(&shared.counters);
        let now = Instant::now();
        let worker = Worker::new(net.clone(), handler, shared, first_mailbox, links, now);
        let second =
            Worker::new(second_net, Echo, second_shared, second_mailbox, second_links, now);
        (Self { worker, sender: Rc::new(sender), net, counters, now }, second)
    }

    /// A client connects, and waits to be accepted.
    pub fn connect(&self) -> SocketId {
        let mut kernel = self.kernel();
        let id = kernel.connect();
        kernel.push_accept(0, Ok(id));
        id
    }

    /// A client connects and sends `request`. Returns the answer.
    pub fn open(&mut self, request: &[u8]) -> (SocketId, Vec<u8>) {
        let id = self.connect();
        self.send(id, request);
        self.run_until_quiet();
        (id, self.take_received(id))
    }

    /// The next accept fails.
    pub fn fail_accept(&self, error: io::Error) {
        self.kernel().push_accept(0, Err(error));
    }

    /// A client sends the bytes of one read.
    pub fn send(&self, id: SocketId, bytes: &[u8]) {
        self.socket(id).push_chunk(bytes);
    }

    /// A client sends FIN behind its bytes.
    pub fn finish(&self, id: SocketId) {
        self.socket(id).finish();
    }

    /// A client resets the connection.
    pub fn reset(&self, id: SocketId) {
        self.socket(id).reset();
    }

    /// Another thread posts a command. Returns `false` if the mailbox is full.
    pub fn post(&self, command: Command<Stream>) -> bool {
        let posted = self.sender.post(command);
        if let Ok(true) = posted {
            self.kernel().wake(0);
        }
        posted.is_ok()
    }

    /// Another thread asks the worker to drain within this time.
    pub fn drain(&self, within: Duration) {
        if self.sender.drain(self.now + within) {
            self.kernel().wake(0);
        }
    }

    /// A socket that was accepted elsewhere, for [`Command::Adopt`].
    pub fn accepted_elsewhere(&self) -> (SocketId, Stream) {
        let id = self.kernel().connect();
        (id, self.net.stream(id))
    }

    /// One turn with the current edges, if any.
    pub fn turn(&mut self) {
        let ready = self.poll();
        self.turn_with(ready);
    }

    /// One turn with these edges.
    pub fn turn_with(&mut self, ready: Vec<(Token, Readiness)>) {
        self.worker.turn(ready.into_iter(), self.now);
    }

    /// Takes the current edges, for a test that passes them to [`turn_with`](Self::turn_with).
    pub fn poll(&self) -> Vec<(Token, Readiness)> {
        self.kernel().next_batch()
    }

    /// Runs turns until nothing is ready and the worker would wait, or is done.
    pub fn run_until_quiet(&mut self) {
        for _ in 0..TURNS_MAX {
            let ready = self.poll();
            let waits = self.wait() != Some(Duration::ZERO);
            if ready.is_empty() && waits || self.worker.is_done() {
                return;
            }
            self.turn_with(ready);
        }
        panic!("the worker spins");
    }

    /// Lets time pass. The worker has turns only at the times that it requested.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run_until_quiet();
        while let Some(wait) = self.wait().filter(|wait| self.now + *wait <= end) {
            if self.worker.is_done() {
                break;
            }
            self.now += wait;
            self.run_until_quiet();
        }
        self.now = end;
        self.run_until_quiet();
    }

    /// Lets time pass without any turn of the worker.
    pub fn skip(&mut self, duration: Duration) {
        self.now += duration;
    }

    /// How long the worker would wait from now on.
    pub fn wait(&self) -> Option<Duration> {
        self.worker.wait(self.now)
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    /// All that the client has read.
    pub fn received(&self, id: SocketId) -> Vec<u8> {
        self.socket(id).received().to_vec()
    }

    /// Takes the bytes that the client has read since the last call.
    pub fn take_received(&self, id: SocketId) -> Vec<u8> {
        self.socket(id).take_received()
    }

    /// The token that the worker registered the socket with.
    pub fn token(&self, id: SocketId) -> Token {
        self.socket(id).token()
    }

    /// Whether the worker has dropped the socket.
    pub fn is_dropped(&self, id: SocketId) -> bool {
        self.socket(id).is_dropped()
    }

    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    pub fn kernel(&self) -> RefMut<'_, Kernel> {
        self.net.kernel()
    }

    /// A socket, for a test that changes it.
    pub fn socket(&self, id: SocketId) -> RefMut<'_, Socket> {
        RefMut::map(self.kernel(), |kernel| &mut kernel.sockets[id])
    }
}

/// The context of worker number `index`.
fn worker_context(index: u32, config: Config) -> WorkerContext {
    config.validate().expect("a test's settings make sense");
    WorkerContext {
        address_table: AddressTable::new(&config),
        config: Arc::new(config),
        counters: Arc::default(),
        connections: Arc::new(AtomicUsize::new(0)),
        server: 0,
        index,
        time_of_day,
    }
}

/// The time of day in every world.
pub fn time_of_day() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(784_111_777)
}

/// The `Date` of every response, which is that of RFC 9110 5.6.7.
pub const DATE_LINE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";

/// A limit that no test reaches unless the worker spins.
const TURNS_MAX: usize = 200_000;

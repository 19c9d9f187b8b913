//! The handle by which other threads use a running server.

use std::cell::Cell;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;

use super::error::SendError;
use super::sockets::Stream;
use crate::connection_info::{Address, Origin};
use crate::fanout::Publication;
use crate::peer_id::PeerId;
use crate::protocol::{CloseCode, EncodedMessage, Message};
use crate::reactor::mailbox::{Command, Refusal, Sender, post_to_all};
use crate::reactor::slots::Token;
use crate::reactor::socket::{Socket, address_of};
use crate::stats::{Counters, Stats};
use crate::tls::TlsConfig;

/// A handle to a running server, usable from any thread. Clones are handles to the same server.
/// Dropping them does not stop it.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Unique within the process.
    number: u32,
    addresses: Vec<Address>,
    tcp_nodelay: bool,
    workers: Vec<WorkerRef>,
    /// Receives the result of each worker when it ends. `join` holds the lock while it waits.
    ends: Mutex<mpsc::Receiver<io::Result<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The parts of a worker that other threads use.
#[derive(Debug)]
pub(super) struct WorkerRef {
    pub(super) sender: Sender<Socket>,
    pub(super) waker: Arc<Waker>,
    pub(super) counters: Arc<Counters>,
}

impl WorkerRef {
    fn post(&self, command: Command<Socket>) -> Result<(), SendError> {
        self.finish(self.sender.post(command))
    }

    /// As [`post`](Self::post), but waits for space, unless this is the thread of a worker: workers
    /// that wait for each other would never end.
    fn post_blocking(&self, command: Command<Socket>) -> Result<(), SendError> {
        match IS_WORKER_THREAD.get() {
            true => self.post(command),
            false => self.finish(self.sender.post_blocking(command)),
        }
    }

    /// Wakes the worker, if it must be woken to take a command.
    fn finish(&self, posted: Result<bool, Refusal>) -> Result<(), SendError> {
        if posted.map_err(SendError::from)? {
            self.wake();
        }
        Ok(())
    }

    fn stats(&self) -> Stats {
        let (commands, bytes) = self.sender.depth();
        let mut stats = self.counters.stats();
        stats.mailbox_commands = commands as u64;
        stats.mailbox_bytes = bytes as u64;
        stats
    }

    fn wake(&self) {
        // It fails only if the worker has ended.
        let _ = self.waker.wake();
    }
}

impl From<Refusal> for SendError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::MailboxFull,
            Refusal::Stopped => Self::Stopped,
        }
    }
}

thread_local! {
    /// Whether this thread runs a worker, of any server.
    static IS_WORKER_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Marks the current thread as that of a worker, which must never wait for another.
pub(super) fn mark_worker_thread() {
    IS_WORKER_THREAD.set(true);
}

/// The result of [`ServerHandle::send_many`]: the connections that the message was not sent to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Unsent {
    /// They have closed, or belong to another server.
    pub stale: Vec<PeerId>,
    /// The mailboxes of their workers are full. A later attempt may succeed.
    pub full: Vec<PeerId>,
    /// Their workers have ended or take no further messages.
    pub stopped: Vec<PeerId>,
}

impl Unsent {
    /// Whether the message was sent to all connections.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stale.is_empty() && self.full.is_empty() && self.stopped.is_empty()
    }
}

impl ServerHandle {
    pub(super) fn new(
        number: u32,
        addresses: Vec<Address>,
        tcp_nodelay: bool,
        workers: Vec<WorkerRef>,
        ends: mpsc::Receiver<io::Result<()>>,
    ) -> Self {
        let ends = Mutex::new(ends);
        let threads = Mutex::default();
        Self { inner: Arc::new(Inner { number, addresses, tcp_nodelay, workers, ends, threads }) }
    }

    /// Adds the thread of a worker, for [`join`](Self::join).
    pub(super) fn add_thread(&self, thread: JoinHandle<()>) {
        lock(&self.inner.threads).push(thread);
    }

    /// The addresses that the server listens on, in the order of the calls of
    /// [`bind`](crate::ServerBuilder::bind) and [`listener`](crate::ServerBuilder::listener). A port
    /// 0 is replaced by the port that the kernel chose.
    #[must_use]
    pub fn local_addresses(&self) -> &[Address] {
        &self.inner.addresses
    }

    /// The number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.inner.workers.len()
    }

    /// The counters of all workers, added up.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::sum(self.worker_stats())
    }

    /// The counters of each worker, in the order of their numbers. Reading them takes the lock of
    /// each mailbox for a moment, and the workers nothing else.
    pub fn worker_stats(&self) -> impl Iterator<Item = Stats> {
        self.inner.workers.iter().map(WorkerRef::stats)
    }

    /// Sends a message to a connection, from any thread, without blocking. Messages of one thread
    /// to one connection arrive in order.
    ///
    /// `Ok` means that the message is in the mailbox of the connection's worker. If the worker has
    /// sent a close frame, or the connection has closed, before the worker takes the message, then
    /// it drops the message and counts it in [`Stats::stale_sends`]. So the call returns `Ok` while
    /// the server waits for the peer's close frame, although the message is not sent.
    ///
    /// To send one message to many connections, use topics ([`publish`](Self::publish)) or
    /// [`send_many`](Self::send_many): a loop of sends is slower, and can fill the mailbox.
    ///
    /// # Errors
    ///
    /// The message is not sent:
    ///
    /// - [`SendError::Stale`] if the connection has closed (from just before the call of
    ///   [`Handler::on_close`](crate::Handler::on_close) on), or if `peer` belongs to another
    ///   server
    /// - [`SendError::MailboxFull`] if the worker's mailbox is full
    /// - [`SendError::Stopped`] if the server is shutting down, or the worker has failed
    pub fn send<'m>(&self, peer: PeerId, message: impl Into<Message<'m>>) -> Result<(), SendError> {
        // Looked up first, so that a message to a stale id is not encoded.
        let (worker, token) = self.find(peer)?;
        worker.post(Command::Send(token, EncodedMessage::new(message)))
    }

    /// As [`send`](Self::send), for a message that goes to many connections: its frame is encoded
    /// once and shared by all of them.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_encoded(&self, peer: PeerId, message: &EncodedMessage) -> Result<(), SendError> {
        let (worker, token) = self.find(peer)?;
        worker.post(Command::Send(token, message.clone()))
    }

    /// As [`send`](Self::send), but waits while the mailbox is full. In a callback it does not wait.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); [`SendError::MailboxFull`] only on the thread of a worker.
    pub fn blocking_send(
        &self,
        peer: PeerId,
        message: impl Into<EncodedMessage>,
    ) -> Result<(), SendError> {
        let (worker, token) = self.find(peer)?;
        worker.post_blocking(Command::Send(token, message.into()))
    }

    /// Sends a message to several connections. It is encoded once, and each worker gets one command.
    /// Returns the connections that it was not sent to.
    pub fn send_many(&self, peers: &[PeerId], message: impl Into<EncodedMessage>) -> Unsent {
        let message = message.into();
        let mut unsent = Unsent::default();
        let mut by_worker: Vec<Vec<PeerId>> = vec![Vec::new(); self.workers()];
        for peer in peers {
            match self.find(*peer) {
                Ok(_) => by_worker[peer.worker as usize].push(*peer),
                Err(_) => unsent.stale.push(*peer),
            }
        }
        for (worker, peers) in self.inner.workers.iter().zip(by_worker) {
            if peers.is_empty() {
                continue;
            }
            let tokens = peers.iter().map(|peer| Token::of_peer(*peer)).collect();
            match worker.post(Command::SendMany(tokens, message.clone())) {
                Ok(()) => {}
                Err(SendError::MailboxFull) => unsent.full.extend(peers),
                Err(SendError::Stale | SendError::Stopped) => unsent.stopped.extend(peers),
            }
        }
        unsent
    }

    /// Sends a message to all subscribers of a topic; see [`Peer::subscribe`](crate::Peer::subscribe).
    /// It is encoded once. Messages of one thread to one topic arrive in order at every subscriber.
    ///
    /// What a thread publishes before it begins the shutdown precedes the close frames.
    ///
    /// # Errors
    ///
    /// The message is not sent to any subscriber:
    ///
    /// - [`SendError::MailboxFull`] if the mailbox of a worker is full
    /// - [`SendError::Stopped`] if the server is shutting down, or all workers have failed
    pub fn publish(
        &self,
        topic: &str,
        message: impl Into<EncodedMessage>,
    ) -> Result<(), SendError> {
        self.post_to_all(false, &publication(topic, message.into()))
    }

    /// As [`publish`](Self::publish), but waits while a mailbox is full. In a callback it does not
    /// wait.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); [`SendError::MailboxFull`] only on the thread of a worker.
    pub fn blocking_publish(
        &self,
        topic: &str,
        message: impl Into<EncodedMessage>,
    ) -> Result<(), SendError> {
        self.post_to_all(true, &publication(topic, message.into()))
    }

    /// Sends a message to every open connection. It is encoded once.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    pub fn broadcast(&self, message: impl Into<EncodedMessage>) -> Result<(), SendError> {
        let message = message.into();
        self.post_to_all(false, &|| Command::Broadcast(message.clone()))
    }

    /// As [`broadcast`](Self::broadcast), but waits while a mailbox is full. In a callback it does not
    /// wait.
    ///
    /// # Errors
    ///
    /// As [`blocking_publish`](Self::blocking_publish).
    pub fn blocking_broadcast(&self, message: impl Into<EncodedMessage>) -> Result<(), SendError> {
        let message = message.into();
        self.post_to_all(true, &|| Command::Broadcast(message.clone()))
    }

    /// Bytes queued for a peer that the kernel has not taken yet, including echoes, at the end of the
    /// connection's last turn; see [`Peer::backlog_bytes`](crate::Peer::backlog_bytes). Messages in
    /// the mailbox of the worker, or that wait for the next turn of the connection, are not included.
    ///
    /// # Errors
    ///
    /// [`SendError::Stale`], as for [`send`](Self::send).
    pub fn backlog_bytes(&self, peer: PeerId) -> Result<usize, SendError> {
        let worker = self.worker_of(peer)?;
        worker.sender.backlog_bytes(Token::of_peer(peer)).ok_or(SendError::Stale)
    }

    /// Starts the closing handshake of a connection, from any thread. A reason longer than 123
    /// bytes is truncated (RFC 6455 5.5). The call has no effect if a close frame has already been
    /// sent.
    ///
    /// # Errors
    ///
    /// The same as those of [`send`](Self::send).
    pub fn close(&self, peer: PeerId, code: CloseCode, reason: &str) -> Result<(), SendError> {
        let (worker, token) = self.find(peer)?;
        worker.post(Command::Close(token, code, reason.into()))
    }

    /// Hands a TCP or Unix connection that another part of the program accepted to worker number `worker`,
    /// modulo the number of workers. No byte of its handshake may have been read. It
    /// counts towards [`Config::connections_max`]; above the limit it is answered 503.
    ///
    /// [`Config::connections_max`]: crate::Config::connections_max
    ///
    /// # Errors
    ///
    /// An error of the operating system about the socket, or a [`SendError`] inside an
    /// [`io::Error`]. The connection is dropped in either case.
    pub fn adopt(&self, worker: usize, stream: impl Into<Stream>) -> io::Result<()> {
        self.adopt_with(worker, stream.into(), None)
    }

    /// [`adopt`](Self::adopt) for a connection that begins with a TLS handshake, of which no byte may
    /// have been read either.
    ///
    /// # Errors
    ///
    /// As [`adopt`](Self::adopt).
    #[cfg(feature = "tls")]
    pub fn adopt_tls(
        &self,
        worker: usize,
        stream: impl Into<Stream>,
        tls: &TlsConfig,
    ) -> io::Result<()> {
        self.adopt_with(worker, stream.into(), Some(tls.clone()))
    }

    fn adopt_with(&self, worker: usize, stream: Stream, tls: Option<TlsConfig>) -> io::Result<()> {
        let Stream(socket) = stream;
        let peer = address_of(&socket.peer_addr()?);
        socket.set_nonblocking(true)?;
        if peer.as_tcp().is_some() {
            socket.set_tcp_nodelay(self.inner.tcp_nodelay)?;
        }
        let worker = &self.inner.workers[worker % self.inner.workers.len()];
        let origin = Origin { address: peer, tls };
        worker.post(Command::Adopt(Socket::new(socket), origin)).map_err(io::Error::other)
    }

    /// Stops the server: it accepts no more connections, sends every peer a close frame (1001), and
    /// drops the connections that remain after `drain`. Returns at once; [`join`](Self::join) waits
    /// for the end.
    ///
    /// Messages that were sent or published before precede the close frames. For that the workers wait
    /// for each other, at most a second or half of `drain`, and serve their peers meanwhile.
    ///
    /// A peer has [`Config::close_timeout`] to answer the close frame, even if `drain` is longer. A
    /// later call can only shorten the drain.
    ///
    /// [`Config::close_timeout`]: crate::Config::close_timeout
    pub fn shutdown(&self, drain: Duration) {
        // `Instant` cannot represent the end of every duration; no drain lasts a century.
        let now = Instant::now();
        let deadline = now.checked_add(drain).unwrap_or(now + Duration::from_secs(100 << 25));
        for worker in &self.inner.workers {
            if worker.sender.drain(deadline) {
                worker.wake();
            }
        }
    }

    /// Waits until the server has stopped or a worker fails. Do not call it in a callback: the
    /// worker would wait for itself.
    ///
    /// # Errors
    ///
    /// The failure of a worker, as soon as it happens: epoll failed, or the worker panicked outside
    /// of the callbacks. The error contains the worker's number. The connections of that worker are
    /// lost; the other workers continue. Each failure is returned once: the next call waits for the
    /// next failure, or until the remaining workers have ended.
    pub fn join(&self) -> io::Result<()> {
        // Concurrent callers wait for this lock.
        let ends = lock(&self.inner.ends);
        while let Ok(result) = ends.recv() {
            result?;
        }
        // Every thread has reported its result, unless it panicked while it logged a failure.
        lock(&self.inner.threads)
            .drain(..)
            .try_for_each(|thread| thread.join().map_err(|_| io::Error::other("a worker panicked")))
    }

    /// Posts a command to all workers, or to none.
    fn post_to_all(
        &self,
        may_wait: bool,
        command: &dyn Fn() -> Command<Socket>,
    ) -> Result<(), SendError> {
        let workers = &self.inner.workers;
        let senders: Vec<_> = workers.iter().map(|worker| &worker.sender).collect();
        let may_wait = may_wait && !IS_WORKER_THREAD.get();
        for worker in post_to_all(&senders, may_wait, command)? {
            workers[worker].wake();
        }
        Ok(())
    }

    /// The worker of `peer`, if the connection is open.
    fn find(&self, peer: PeerId) -> Result<(&WorkerRef, Token), SendError> {
        let (worker, token) = (self.worker_of(peer)?, Token::of_peer(peer));
        if worker.sender.is_open(token) { Ok((worker, token)) } else { Err(SendError::Stale) }
    }

    /// The worker of `peer`, unless it belongs to another server.
    fn worker_of(&self, peer: PeerId) -> Result<&WorkerRef, SendError> {
        let worker = self.inner.workers.get(peer.worker as usize);
        worker.filter(|_| peer.server == self.inner.number).ok_or(SendError::Stale)
    }
}

/// The commands that publish a message. They share its memory.
fn publication(topic: &str, message: EncodedMessage) -> impl Fn() -> Command<Socket> {
    let publications: Arc<[Publication]> = Arc::new([Publication::new(topic, message)]);
    move || Command::Publish(Arc::clone(&publications))
}

/// Ignores poisoning: a panic while one of these locks is held leaves the value consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The handle by which other threads use a running server.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;
use mio::net::TcpStream as Stream;

use super::error::SendError;
use crate::connection_info::Address;
use crate::peer_id::PeerId;
use crate::protocol::{CloseCode, EncodedMessage, Message};
use crate::reactor::mailbox::{Command, Sender};
use crate::reactor::slots::Token;
use crate::stats::{Counters, Stats};

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
    addresses: Vec<SocketAddr>,
    tcp_nodelay: bool,
    workers: Vec<WorkerRef>,
    /// Receives the result of each worker when it ends. `join` holds the lock while it waits.
    ends: Mutex<mpsc::Receiver<io::Result<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The parts of a worker that other threads use.
#[derive(Debug)]
pub(super) struct WorkerRef {
    pub(super) sender: Sender<Stream>,
    pub(super) waker: Arc<Waker>,
    pub(super) counters: Arc<Counters>,
}

impl WorkerRef {
    fn post(&self, command: Command<Stream>) -> Result<(), SendError> {
        match self.sender.post(command) {
            Ok(must_wake) => {
                if must_wake {
                    self.wake();
                }
                Ok(())
            }
            Err(TrySendError::Full(_)) => Err(SendError::MailboxFull),
            Err(TrySendError::Disconnected(_)) => Err(SendError::Stopped),
        }
    }

    fn wake(&self) {
        // It fails only if the worker has ended.
        let _ = self.waker.wake();
    }
}

impl ServerHandle {
    pub(super) fn new(
        number: u32,
        addresses: Vec<SocketAddr>,
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

    /// The addresses that the server listens on, in the order of
    /// [`ServerBuilder::bind`](crate::ServerBuilder::bind). A port 0 is replaced by the port that
    /// the kernel chose.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
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
        Stats::sum(self.inner.workers.iter().map(|worker| &*worker.counters))
    }

    /// Sends a message to a connection, from any thread, without blocking. Messages of one thread
    /// to one connection arrive in order.
    ///
    /// `Ok` means that the message is in the mailbox of the connection's worker. If the worker has
    /// sent a close frame, or the connection has closed, before the worker takes the message, then
    /// it drops the message and counts it in [`Stats::stale_sends`]. So the call returns `Ok` while
    /// the server waits for the peer's close frame, although the message is not sent.
    ///
    /// A loop that sends to many connections is faster than their worker: set
    /// [`Config::mailbox_capacity`](crate::Config::mailbox_capacity) to at least the number of
    /// messages, or pause when the mailbox is full.
    ///
    /// # Errors
    ///
    /// The message is not sent:
    ///
    /// - [`SendError::Stale`] if the connection has closed (from just before the call of
    ///   [`Handler::on_close`](crate::Handler::on_close) on), or if `peer` belongs to another
    ///   server
    /// - [`SendError::MailboxFull`] if the worker's mailbox is full
    /// - [`SendError::Stopped`] if the worker has failed
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

    /// Hands a connection that another part of the program accepted to worker number `worker`,
    /// modulo the number of workers. No byte of its handshake may have been read. It
    /// counts towards [`Config::connections_max`]; above the limit it is answered 503.
    ///
    /// [`Config::connections_max`]: crate::Config::connections_max
    ///
    /// # Errors
    ///
    /// An error of the operating system about the socket, or a [`SendError`] inside an
    /// [`io::Error`]. The connection is dropped in either case.
    pub fn adopt(&self, worker: usize, stream: TcpStream) -> io::Result<()> {
        let peer = Address::Tcp(stream.peer_addr()?);
        stream.set_nonblocking(true)?;
        stream.set_nodelay(self.inner.tcp_nodelay)?;
        let worker = &self.inner.workers[worker % self.inner.workers.len()];
        worker.post(Command::Adopt(Stream::from_std(stream), peer)).map_err(io::Error::other)
    }

    /// Stops the server: it accepts no more connections, sends every peer a close frame (1001), and
    /// drops the connections that remain after `drain`. Returns at once; [`join`](Self::join) waits
    /// for the end.
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
    /// lost; the other workers go on. Each failure is returned once: the next call waits for the
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

    /// The worker of `peer`, if the connection is open.
    fn find(&self, peer: PeerId) -> Result<(&WorkerRef, Token), SendError> {
        if peer.server != self.inner.number {
            return Err(SendError::Stale);
        }
        let token = Token::of_peer(peer);
        let worker = self.inner.workers.get(peer.worker as usize).ok_or(SendError::Stale)?;
        if worker.sender.is_open(token) { Ok((worker, token)) } else { Err(SendError::Stale) }
    }
}

/// Ignores poisoning: a panic while one of these locks is held leaves the value consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A running server, as other threads see it.

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

/// A running server, from any thread. Clones are handles to the same one; dropping them does not
/// stop it.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Differs from the number of every other server of the process.
    number: u32,
    addresses: Vec<SocketAddr>,
    tcp_nodelay: bool,
    workers: Vec<WorkerRef>,
    /// Receives the result of each worker when it ends. `join` holds the lock while it waits.
    ends: Mutex<mpsc::Receiver<io::Result<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A worker as other threads see it.
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
        // It fails if the worker has ended, and then there is nobody to wake.
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

    /// The thread of a worker that has been started.
    pub(super) fn add_thread(&self, thread: JoinHandle<()>) {
        lock(&self.inner.threads).push(thread);
    }

    /// The addresses listened on, in the order of [`ServerBuilder::bind`](crate::ServerBuilder::bind), ports resolved.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.inner.addresses
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.inner.workers.len()
    }

    /// What the server has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::sum(self.inner.workers.iter().map(|worker| &*worker.counters))
    }

    /// Sends a message to a connection, from any thread. Messages of one thread to one connection
    /// arrive in order. The call does not block.
    ///
    /// `Ok` means that the message is in the mailbox of the connection's worker. The worker sends it,
    /// unless a close frame has been sent or the connection has closed by then: it drops such
    /// messages and counts them in [`Stats::stale_sends`]. So the call still returns `Ok` while the
    /// server waits for the peer's close frame, although nothing is sent.
    ///
    /// A loop that sends to many connections outruns their worker: give
    /// [`Config::mailbox_capacity`](crate::Config::mailbox_capacity) room for as many messages, or pause when the mailbox is full.
    ///
    /// # Errors
    ///
    /// The message is not sent:
    ///
    /// - [`SendError::Stale`] if the connection has closed, that is, from just before its call of
    ///   [`Handler::on_close`](crate::Handler::on_close); or if `peer` belongs to another server
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

    /// Starts the closing handshake of a connection, from any thread; of a longer reason the first
    /// 123 bytes. Has no effect if a close frame has been sent already.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn close(&self, peer: PeerId, code: CloseCode, reason: &str) -> Result<(), SendError> {
        let (worker, token) = self.find(peer)?;
        worker.post(Command::Close(token, code, reason.into()))
    }

    /// Hands a connection that was accepted elsewhere to worker number `worker`, modulo their count.
    /// Its handshake must not have begun. It counts against [`Config::connections_max`]; above the
    /// limit it is answered 503.
    ///
    /// [`Config::connections_max`]: crate::Config::connections_max
    ///
    /// # Errors
    ///
    /// The system's, about the socket; or a [`SendError`] inside an [`io::Error`], and then the
    /// connection is dropped.
    pub fn adopt(&self, worker: usize, stream: TcpStream) -> io::Result<()> {
        let peer = Address::Tcp(stream.peer_addr()?);
        stream.set_nonblocking(true)?;
        stream.set_nodelay(self.inner.tcp_nodelay)?;
        let worker = &self.inner.workers[worker % self.inner.workers.len()];
        worker.post(Command::Adopt(Stream::from_std(stream), peer)).map_err(io::Error::other)
    }

    /// Stops the server: no connection is accepted any more, every peer gets a close frame (1001),
    /// and what is left after `drain` is dropped. Returns at once; see [`join`](Self::join).
    ///
    /// A peer has [`Config::close_timeout`] to answer the close frame, also in a drain that may take
    /// longer.
    ///
    /// [`Config::close_timeout`]: crate::Config::close_timeout
    ///
    /// A later call can only bring the end nearer.
    pub fn shutdown(&self, drain: Duration) {
        // A drain beyond what the clock can count is as good as one of a century.
        let now = Instant::now();
        let deadline = now.checked_add(drain).unwrap_or(now + Duration::from_secs(100 << 25));
        for worker in &self.inner.workers {
            if worker.sender.drain(deadline) {
                worker.wake();
            }
        }
    }

    /// Waits until the server has stopped or a worker fails. Do not call it in a callback, which
    /// would wait for itself.
    ///
    /// # Errors
    ///
    /// The failure of a worker, as soon as it happens: epoll failed, or the worker panicked outside
    /// of the callbacks. The error contains the worker's number. The connections of that worker
    /// are lost; the other workers go on. Each failure is returned once: the next call waits for the
    /// next failure, or until the remaining workers have ended.
    pub fn join(&self) -> io::Result<()> {
        // Another caller waits for the lock meanwhile.
        let ends = lock(&self.inner.ends);
        while let Ok(result) = ends.recv() {
            result?;
        }
        // All have reported, unless a logger panicked over the report.
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

/// A thread that panics while it holds one of these locks leaves no half-done change behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A fake kernel: sockets with bounded buffers, listeners, and epoll's edge-triggered readiness.
//!
//! It implements the rules that hold for every socket. A [`Network`] decides the rest: when bytes
//! arrive, when an edge is reported, and which calls fail. There are two: `support/scripted.rs`,
//! under the control of a test, and `simulation/net.rs`, under the control of random numbers.
//!
//! **The rules are those of epoll, and guarantee no more.** An edge is raised by bytes, an end of
//! stream, an error, or space after a short or refused write. It reports the readiness at the time
//! of the poll, and is never lost. A read returns all bytes that have arrived and fit into its
//! buffer.
//!
//! ```text
//!   client ── Network ──► arrived ──► the worker's read
//!   client ◄──────────── unread ◄──── the worker's write   (at most `capacity` bytes)
//! ```

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

pub mod socket;

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;
use std::time::Duration;
use ws_reactor::Address;

use ws_reactor::internal::{Driver, Endpoint, Readiness, SendProgress, Token, Transport};

pub use socket::Socket;

/// Identifies a socket, even after its end.
pub type SocketId = usize;

/// The behaviour that the rules leave open.
pub trait Network: Debug + Sized + 'static {
    /// The network's state for a socket.
    type Client: Debug;

    /// Moves bytes from a client to the worker, with [`Socket::arrive`], [`Socket::end`] and
    /// [`Socket::fail`].
    fn deliver(&mut self, socket: &mut Socket<Self::Client>);

    /// Called before each call of a worker. Returns the maximum number of bytes that the call may
    /// move, or the error with which it fails. An edge follows EAGAIN.
    fn before(&mut self, socket: &mut Socket<Self::Client>, call: Call) -> io::Result<usize>;

    /// A worker has read these bytes.
    fn has_read(&mut self, _: &mut Socket<Self::Client>, _: &[u8]) {}

    /// A worker has written these bytes.
    fn has_written(_: &mut Socket<Self::Client>, _: &[u8]) {}

    /// An error with which the next accept fails, although it could succeed.
    fn accept_error(&mut self) -> Option<io::Error> {
        None
    }

    /// The error of a call on a reset connection.
    fn reset_error(&mut self) -> ErrorKind {
        ErrorKind::ConnectionReset
    }

    /// The number of polls after which a new edge is reported.
    fn delay(&mut self) -> u32 {
        0
    }

    /// The number of polls after which a reported edge is reported again.
    fn repeat(&mut self) -> Option<u32> {
        None
    }

    /// Runs the kernel's part of a call.
    fn outside<R>(act: impl FnOnce() -> R) -> R {
        act()
    }

    fn log(&self, _: impl FnOnce() -> String) {}
}

/// A call of a worker on a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    Register,
    Read,
    Write,
    Shutdown,
}

/// A worker's driver.
#[derive(Debug)]
pub struct Net<N: Network> {
    kernel: Rc<RefCell<Kernel<N>>>,
    worker: usize,
}

impl<N: Network> Net<N> {
    /// A driver for each of `workers`.
    pub fn new(network: N, workers: usize) -> Vec<Self> {
        let kernel = Rc::new(RefCell::new(Kernel {
            network,
            now: Duration::ZERO,
            sockets: Vec::new(),
            live: Vec::new(),
            listeners: (0..workers).map(|_| Listener::default()).collect(),
        }));
        (0..workers).map(|worker| Self { kernel: Rc::clone(&kernel), worker }).collect()
    }

    pub fn kernel(&self) -> RefMut<'_, Kernel<N>> {
        self.kernel.borrow_mut()
    }

    /// The worker's end of a socket that it does not accept itself.
    pub fn stream(&self, id: SocketId) -> Stream<N> {
        Stream { id, kernel: Rc::clone(&self.kernel) }
    }
}

impl<N: Network> Clone for Net<N> {
    fn clone(&self) -> Self {
        Self { kernel: Rc::clone(&self.kernel), worker: self.worker }
    }
}

impl<N: Network> Driver for Net<N> {
    type Stream = Stream<N>;

    fn accept(&mut self, _: u32) -> io::Result<(Stream<N>, Address)> {
        let id = N::outside(|| self.kernel().accept(self.worker))?;
        Ok((self.stream(id), address(id)))
    }

    fn is_distributed(&self, _: u32) -> bool {
        self.kernel().listeners[self.worker].is_distributed
    }

    fn register(&mut self, stream: &mut Stream<N>, token: Token) -> io::Result<()> {
        N::outside(|| self.kernel().register(stream.id, self.worker, token))
    }

    fn wake(&self, worker: u32) {
        N::outside(|| self.kernel().wake(worker as usize));
    }

    fn listeners(&self) -> u32 {
        u32::from(!self.kernel().listeners[self.worker].is_stopped)
    }

    fn stop_listening(&mut self) {
        N::outside(|| {
            let kernel = &mut *self.kernel();
            let listener = &mut kernel.listeners[self.worker];
            listener.is_stopped = true;
            for id in std::mem::take(&mut listener.waiting).into_iter().flatten() {
                kernel.sockets[id].dropped(kernel.now);
            }
        });
    }
}

/// The address that socket `id` is connected from.
pub fn address(id: SocketId) -> Address {
    Address::Tcp(([192, 0, 2, 1], 1024 + (id % 60_000) as u16).into())
}

/// Everything outside the workers.
#[derive(Debug)]
pub struct Kernel<N: Network> {
    pub network: N,
    /// Time since the start.
    pub now: Duration,
    pub sockets: Vec<Socket<N::Client>>,
    /// The sockets that the workers have not dropped.
    live: Vec<SocketId>,
    pub listeners: Vec<Listener>,
}

/// A worker's listener and its waker.
#[derive(Debug, Default)]
pub struct Listener {
    /// The results of the next accepts.
    waiting: VecDeque<io::Result<SocketId>>,
    edge: Option<u32>,
    woken: Option<u32>,
    pub is_stopped: bool,
    /// The worker distributes its connections.
    pub is_distributed: bool,
    /// Calls of accept.
    pub accepts: usize,
}

impl<N: Network> Kernel<N> {
    /// A connection to `worker` that is not accepted yet.
    pub fn create(&mut self, worker: usize, capacity: usize, client: N::Client) -> SocketId {
        let id = self.sockets.len();
        self.live.push(id);
        self.sockets.push(Socket::new(id, worker, capacity, client));
        id
    }

    /// Appends a result to those of the next accepts.
    pub fn push_accept(&mut self, worker: usize, result: io::Result<SocketId>) {
        let delay = self.network.delay();
        self.listeners[worker].waiting.push_back(result);
        self.listeners[worker].edge.get_or_insert(delay);
    }

    /// Another thread wakes a worker.
    pub fn wake(&mut self, worker: usize) {
        self.listeners[worker].woken = Some(self.network.delay());
    }

    fn accept(&mut self, worker: usize) -> io::Result<SocketId> {
        let listener = &mut self.listeners[worker];
        listener.accepts += 1;
        if let Some(error) = self.network.accept_error() {
            self.network.log(|| format!("accept fails: {error}"));
            // After other errors, such as EMFILE, the connection keeps waiting.
            if error.kind() == ErrorKind::ConnectionAborted
                && let Some(Ok(id)) = listener.waiting.pop_front()
            {
                self.sockets[id].dropped(self.now);
            }
            return Err(error);
        }
        let id =
            listener.waiting.pop_front().unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))?;
        self.sockets[id].accepted_at = Some(self.now);
        self.network.log(|| format!("socket {id} is accepted"));
        Ok(id)
    }

    fn register(&mut self, id: SocketId, worker: usize, token: Token) -> io::Result<()> {
        let socket = &mut self.sockets[id];
        self.network.before(socket, Call::Register)?;
        (socket.worker, socket.token) = (worker, Some(token));
        socket.accepted_at.get_or_insert(self.now);
        // epoll_ctl(2): existing readiness is reported once.
        socket.raise(self.network.delay());
        Ok(())
    }

    /// Lets the network move the clients' bytes, and the clients read.
    pub fn deliver(&mut self) {
        self.live.retain(|id| !self.sockets[*id].is_dropped());
        for id in &self.live {
            let socket = &mut self.sockets[*id];
            self.network.deliver(socket);
            if socket.client_reads {
                socket.drain(usize::MAX);
            }
            if socket.is_refused && socket.space() > 0 {
                socket.is_refused = false;
                socket.raise(self.network.delay());
            }
        }
    }

    /// Takes the edges that this poll of a worker reports.
    pub fn poll(&mut self, worker: usize) -> Vec<(Token, Readiness)> {
        let mut ready = Vec::new();
        let listener = &mut self.listeners[worker];
        if is_reported(&mut listener.woken, &mut self.network) {
            ready.push((Token::WAKER, READABLE));
        }
        if is_reported(&mut listener.edge, &mut self.network) && !listener.is_stopped {
            ready.push((Token::listener(0), READABLE));
        }
        for id in &self.live {
            let socket = &mut self.sockets[*id];
            if let Some(token) = socket.token
                && socket.worker == worker
                && !socket.is_dropped()
                && is_reported(&mut socket.edge, &mut self.network)
            {
                ready.push((token, socket.readiness()));
            }
        }
        ready
    }

    /// Whether an edge of a worker's listener or waker is pending.
    pub fn is_alerted(&self, worker: usize) -> bool {
        let listener = &self.listeners[worker];
        listener.woken.is_some() || (listener.edge.is_some() && !listener.is_stopped)
    }

    /// Whether a wake-up is pending.
    pub fn is_woken(&self, worker: usize) -> bool {
        self.listeners[worker].woken.is_some()
    }

    /// Whether a connection waits to be accepted and no edge is pending.
    pub fn has_forgotten(&self, worker: usize) -> bool {
        let listener = &self.listeners[worker];
        !listener.waiting.is_empty() && listener.edge.is_none() && !listener.is_stopped
    }
}

/// Whether this poll reports the edge. If not, its delay decreases by one poll.
fn is_reported(edge: &mut Option<u32>, network: &mut impl Network) -> bool {
    match edge {
        Some(0) => {
            *edge = network.repeat();
            true
        }
        Some(polls) => {
            *polls -= 1;
            false
        }
        None => false,
    }
}

/// The worker's end of a socket.
#[derive(Debug)]
pub struct Stream<N: Network> {
    id: SocketId,
    kernel: Rc<RefCell<Kernel<N>>>,
}

impl<N: Network> Stream<N> {
    fn call<R: Debug>(
        &self,
        call: Call,
        act: impl FnOnce(&mut Kernel<N>, usize) -> io::Result<R>,
    ) -> io::Result<R> {
        N::outside(|| {
            let kernel = &mut *self.kernel.borrow_mut();
            let allowed = kernel.network.before(&mut kernel.sockets[self.id], call);
            let is_refused = allowed.as_ref().is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
            let mut result = allowed.and_then(|max| act(kernel, max));
            let Kernel { network, sockets, .. } = kernel;
            let socket = &mut sockets[self.id];
            if is_refused {
                match call {
                    Call::Write => socket.is_refused = true,
                    _ => socket.raise(network.delay()),
                }
            }
            if socket.is_reset
                && result.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
            {
                socket.has_failed = true;
                result = Err(network.reset_error().into());
            }
            network.log(|| format!("socket {}: {call:?} -> {result:?}", self.id));
            result
        })
    }
}

impl<N: Network> Read for Stream<N> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.call(Call::Read, |kernel, max| {
            let socket = &mut kernel.sockets[self.id];
            let len = socket.read(buf, max)?;
            kernel.network.has_read(socket, &buf[..len]);
            Ok(len)
        })
    }
}

impl<N: Network> Write for Stream<N> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call(Call::Write, |kernel, max| {
            let socket = &mut kernel.sockets[self.id];
            let len = socket.write(bytes, max)?;
            N::has_written(socket, &bytes[..len]);
            Ok(len)
        })
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        N::outside(|| {
            let slices: Vec<&[u8]> = buffers.iter().map(|buffer| &**buffer).collect();
            self.write(&slices.concat())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<N: Network> Endpoint for Stream<N> {
    fn local_address(&self) -> io::Result<Address> {
        Ok(Address::Tcp(([192, 0, 2, 0], 80).into()))
    }
}

impl<N: Network> Transport for Stream<N> {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.call(Call::Shutdown, |kernel, _| kernel.sockets[self.id].shutdown(kernel.now))
    }

    fn send_progress(&self) -> io::Result<SendProgress> {
        Ok(self.kernel.borrow().sockets[self.id].send_progress())
    }
}

impl<N: Network> Drop for Stream<N> {
    fn drop(&mut self) {
        // While a panic unwinds, the kernel may be borrowed. The test has then already failed.
        if let Ok(mut kernel) = self.kernel.try_borrow_mut() {
            N::outside(|| {
                let kernel = &mut *kernel;
                kernel.network.log(|| format!("socket {} is dropped", self.id));
                kernel.sockets[self.id].dropped(kernel.now);
            });
        }
    }
}

const READABLE: Readiness = Readiness { readable: true, writable: false, reads_to_end: false };

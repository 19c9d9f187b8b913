//! A kernel and a network that are made up: sockets with bounded buffers, listeners, edges.
//!
//! **The contract is epoll's, edge-triggered, and no better than it must be:** bytes, an end of
//! stream, an error, or room after a short or refused write raise an edge, which is reported some
//! time later with all that holds then. It is never lost; it may be reported twice, and there may
//! be edges of nothing. A read brings all there is, as far as it fits; a write that takes less than
//! all is followed by an edge. Both may be interrupted, may say EAGAIN for no reason (and then an
//! edge follows), and may fail.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::rc::Rc;
use std::time::Duration;
use ws_reactor::Address;

use ws_reactor::internal::{Driver, Endpoint, Readiness, SendProgress, Token, Transport};

use crate::faults::{Fault, Faults};
use crate::memory::outside;
use crate::socket::Socket;
use crate::support::rng::Rng;

/// Names a socket, also after its end.
pub(crate) type SocketId = usize;

/// A worker's way to the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    kernel: Rc<RefCell<Kernel>>,
    worker: usize,
}

/// Everything outside the workers.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) weather: Weather,
    /// Since the start.
    pub(crate) now: Duration,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) listeners: Vec<Listener>,
}

/// One for each worker, and what else wakes it.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    pub(crate) waiting: VecDeque<SocketId>,
    edge: Option<u32>,
    woken: Option<u32>,
    pub(crate) is_stopped: bool,
}

/// Chance, and the kinds of misfortune that are left to it.
#[derive(Debug)]
pub(crate) struct Weather {
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    /// Says what happens.
    pub(crate) is_traced: bool,
}

impl Weather {
    /// Whether a misfortune happens that happens once in `n` times.
    pub(crate) const fn strikes(&mut self, fault: Fault, n: usize) -> bool {
        // The rng fall the same without it, so that what is left happens as before.
        let strikes = self.rng.below(n) == 0;
        strikes && self.faults.has(fault)
    }

    /// After how many rounds an edge is reported.
    pub(crate) fn delay(&mut self) -> u32 {
        if self.strikes(Fault::Late, 3) { self.rng.below(6) as u32 } else { 0 }
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("    {}", what());
        }
    }
}

impl Net {
    pub(crate) fn new(weather: Weather, workers: usize) -> Vec<Self> {
        let listeners = (0..workers).map(|_| Listener::default()).collect();
        let kernel = Kernel { weather, now: Duration::ZERO, sockets: Vec::new(), listeners };
        let kernel = Rc::new(RefCell::new(kernel));
        (0..workers).map(|worker| Self { kernel: Rc::clone(&kernel), worker }).collect()
    }

    pub(crate) fn kernel(&self) -> RefMut<'_, Kernel> {
        self.kernel.borrow_mut()
    }

    /// The server's end of a socket.
    pub(crate) fn stream(&self, id: SocketId) -> Stream {
        Stream { id, kernel: Rc::clone(&self.kernel) }
    }
}

impl Driver for Net {
    type Stream = Stream;

    fn accept(&mut self, _: u32) -> io::Result<(Stream, Address)> {
        let id = outside(|| self.kernel().accept(self.worker))?;
        Ok((self.stream(id), address(id)))
    }

    fn register(&mut self, stream: &mut Stream, token: Token) -> io::Result<()> {
        outside(|| self.kernel().register(stream.id, self.worker, token))
    }

    fn listeners(&self) -> u32 {
        u32::from(!self.kernel().listeners[self.worker].is_stopped)
    }

    fn stop_listening(&mut self) {
        outside(|| {
            let kernel = &mut *self.kernel();
            kernel.listeners[self.worker].is_stopped = true;
            for id in std::mem::take(&mut kernel.listeners[self.worker].waiting) {
                kernel.sockets[id].dropped(kernel.now);
            }
        });
    }
}

impl Kernel {
    /// A client connects to the listener of `worker`.
    pub(crate) fn connect(&mut self, worker: usize) -> SocketId {
        let id = self.create(worker);
        self.listeners[worker].waiting.push_back(id);
        self.raise_listener(worker);
        id
    }

    /// A connection that a worker has not accepted itself.
    pub(crate) fn create(&mut self, worker: usize) -> SocketId {
        let is_narrow = self.weather.faults.has(Fault::Narrow);
        let rng = &mut self.weather.rng;
        let wide = &[65_536, 400_000];
        let sizes: &[usize] = if is_narrow { &[1, 40, 1000, 5000, 65_536, 400_000] } else { wide };
        let mut socket = Socket::new(worker, rng.pick(sizes), rng.pick(sizes));
        socket.peer_buffer = rng.pick(&[0, 100, 3000, 65_536]);
        if self.weather.strikes(Fault::Broken, 8) {
            socket.breaks_at = Some(self.weather.rng.below(60));
        }
        self.sockets.push(socket);
        self.sockets.len() - 1
    }

    fn raise_listener(&mut self, worker: usize) {
        let delay = self.weather.delay();
        self.listeners[worker].edge.get_or_insert(delay);
    }

    /// Another thread wakes a worker.
    pub(crate) fn wake(&mut self, worker: usize) {
        self.listeners[worker].woken = Some(self.weather.delay());
    }

    fn accept(&mut self, worker: usize) -> io::Result<SocketId> {
        let listener = &mut self.listeners[worker];
        if self.weather.strikes(Fault::Accept, 6) {
            // EMFILE and its kin leave the connection where it is, and spend the edge.
            let kinds = [ErrorKind::Interrupted, ErrorKind::ConnectionAborted];
            let error = match self.weather.rng.below(4) {
                0 => io::Error::from_raw_os_error(EMFILE),
                1 => io::Error::from_raw_os_error(ENOBUFS),
                _ => self.weather.rng.pick(&kinds).into(),
            };
            if error.kind() == ErrorKind::ConnectionAborted
                && let Some(id) = listener.waiting.pop_front()
            {
                self.sockets[id].dropped(self.now);
            }
            self.weather.say(|| format!("accept fails: {error}"));
            return Err(error);
        }
        let id = listener.waiting.pop_front().ok_or(ErrorKind::WouldBlock)?;
        self.sockets[id].accepted_at = Some(self.now);
        self.weather.say(|| format!("socket {id} is accepted"));
        Ok(id)
    }

    fn register(&mut self, id: SocketId, worker: usize, token: Token) -> io::Result<()> {
        if self.weather.strikes(Fault::Register, 20) {
            return Err(ErrorKind::OutOfMemory.into());
        }
        let delay = self.weather.delay();
        let socket = &mut self.sockets[id];
        (socket.worker, socket.token) = (worker, Some(token));
        socket.accepted_at.get_or_insert(self.now);
        // epoll_ctl(2): what holds already is reported once.
        socket.raise(delay);
        Ok(())
    }

    /// The network moves what the clients have sent.
    pub(crate) fn deliver(&mut self) {
        for socket in &mut self.sockets {
            socket.deliver(&mut self.weather);
        }
    }

    /// Takes the edges that are reported to a worker now.
    pub(crate) fn poll(&mut self, worker: usize) -> Vec<(Token, Readiness)> {
        let Self { weather, sockets, listeners, .. } = self;
        let mut ready = Vec::new();
        let listener = &mut listeners[worker];
        if report(&mut listener.edge, weather) && !listener.is_stopped {
            ready.push((Token::listener(0), READABLE));
        }
        if report(&mut listener.woken, weather) {
            ready.push((Token::WAKER, READABLE));
        }
        for socket in sockets.iter_mut().filter(|socket| socket.worker == worker) {
            let Some(token) = socket.token else { continue };
            if !socket.is_gone && report(&mut socket.edge, weather) {
                ready.push((token, socket.readiness()));
            }
            if weather.strikes(Fault::Spurious, 60) {
                let mut flip = || weather.rng.below(2) == 0;
                let (readable, writable, reads_to_end) = (flip(), flip(), flip());
                ready.push((token, Readiness { readable, writable, reads_to_end }));
            }
        }
        weather.rng.shuffle(&mut ready);
        ready
    }

    /// Whether there is anything that will reach a worker by itself.
    pub(crate) fn is_moving(&self, worker: usize) -> bool {
        let listener = &self.listeners[worker];
        listener.woken.is_some()
            || (listener.edge.is_some() && !listener.is_stopped)
            || self.sockets.iter().any(|socket| {
                let is_its_own = socket.worker == worker && !socket.is_gone;
                is_its_own && socket.token.is_some() && socket.is_moving()
            })
    }

    /// Whether a wake is on its way.
    pub(crate) fn is_woken(&self, worker: usize) -> bool {
        self.listeners[worker].woken.is_some()
    }

    /// Whether a connection waits to be accepted and no edge will say so.
    pub(crate) fn has_forgotten(&self, worker: usize) -> bool {
        let listener = &self.listeners[worker];
        !listener.waiting.is_empty() && listener.edge.is_none() && !listener.is_stopped
    }
}

/// Whether an edge is reported now; if not, it comes nearer.
fn report(edge: &mut Option<u32>, weather: &mut Weather) -> bool {
    match edge {
        Some(0) => {
            *edge = weather.strikes(Fault::Twice, 8).then(|| weather.rng.below(3) as u32);
            true
        }
        Some(rounds) => {
            *rounds -= 1;
            false
        }
        None => false,
    }
}

/// The address that socket `id` is connected from.
pub(crate) fn address(id: SocketId) -> Address {
    Address::Tcp(([192, 0, 2, 1], 1024 + (id % 60_000) as u16).into())
}

/// The server's end of a socket.
#[derive(Debug)]
pub(crate) struct Stream {
    id: SocketId,
    kernel: Rc<RefCell<Kernel>>,
}

impl Stream {
    fn with<R>(
        &self,
        name: &str,
        act: impl FnOnce(&mut Socket, &mut Weather, Duration) -> io::Result<R>,
    ) -> io::Result<R>
    where
        R: std::fmt::Debug,
    {
        outside(|| {
            let Kernel { weather, now, sockets, .. } = &mut *self.kernel.borrow_mut();
            let result = act(&mut sockets[self.id], weather, *now);
            weather.say(|| format!("socket {}: {name} -> {result:?}", self.id));
            result
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.with("read", |socket, weather, _| socket.read(buf, weather))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with("write", |socket, weather, _| socket.write(&[bytes], weather))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.with("write", |socket, weather, _| {
            let buffers: Vec<&[u8]> = buffers.iter().map(|buffer| &**buffer).collect();
            socket.write(&buffers, weather)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Endpoint for Stream {
    fn local_address(&self) -> io::Result<Address> {
        Ok(Address::Tcp(([192, 0, 2, 0], 80).into()))
    }
}

impl Transport for Stream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.with("shutdown", |socket, _, now| socket.shutdown(now))
    }

    fn send_progress(&self) -> io::Result<SendProgress> {
        self.with("send_progress", |socket, _, _| Ok(socket.send_progress()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // While a panic unwinds the kernel may be borrowed; the simulation has failed anyway.
        if let Ok(mut kernel) = self.kernel.try_borrow_mut() {
            outside(|| {
                let now = kernel.now;
                kernel.weather.say(|| format!("socket {} is dropped", self.id));
                kernel.sockets[self.id].dropped(now);
            });
        }
    }
}

const READABLE: Readiness = Readiness { readable: true, writable: false, reads_to_end: false };

/// Linux: too many open files.
const EMFILE: i32 = 24;

/// Linux: no buffer space.
const ENOBUFS: i32 = 105;

//! The simulated network: a [`Network`] that at random moves bytes, delays and repeats edges, and
//! makes calls fail.

use std::io::{self, ErrorKind};

use ws_reactor::internal::{Readiness, Token};

use crate::faults::{Fault, FaultSet};
use crate::kernel::{self, Call, Network, SocketId, socket::Pipe};
use crate::memory;
use crate::support::rng::Rng;

pub(crate) type Kernel = kernel::Kernel<NetworkFaults>;
pub(crate) type Net = kernel::Net<NetworkFaults>;
pub(crate) type Socket = kernel::Socket<Client>;
pub(crate) type Stream = kernel::Stream<NetworkFaults>;

/// Decides which faults happen.
#[derive(Debug)]
pub(crate) struct NetworkFaults {
    pub(crate) rng: Rng,
    pub(crate) enabled: FaultSet,
    /// Whether every call is printed.
    pub(crate) is_traced: bool,
}

/// The client's end of a socket, and a record of the worker's calls.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Bytes that are sent and have not arrived.
    sent: Pipe,
    sent_end: Option<SentEnd>,
    /// Maximum number of unread bytes that have arrived.
    arrived_max: usize,
    /// The number of calls of the worker before the connection is reset.
    resets_after: Option<usize>,
    /// Bytes that the worker has read since the last check of `watch.rs`.
    pub(crate) consumed: Vec<u8>,
    /// Bytes that the worker has written since the last check of `watch.rs`.
    pub(crate) written: Vec<u8>,
    /// The length of the longest read.
    pub(crate) read_max: usize,
    /// A call that a worker must not make.
    pub(crate) mistake: Option<&'static str>,
}

/// How a client has ended its direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SentEnd {
    Fin,
    Reset,
}

/// Maximum number of a client's bytes on the network.
const SENT_MAX: usize = 300_000;

/// A size of buffers that never fill.
const WIDE: usize = 400_000;

impl NetworkFaults {
    /// Whether a fault with probability 1 / `n` happens.
    pub(crate) const fn happens(&mut self, fault: Fault, n: usize) -> bool {
        // A disabled fault draws a number too, so that the others happen as before.
        let happens = self.rng.below(n) == 0;
        happens && self.enabled.has(fault)
    }
}

impl Network for NetworkFaults {
    type Client = Client;

    fn deliver(&mut self, socket: &mut Socket) {
        let space = socket.client.arrived_max.saturating_sub(socket.arrived());
        let all = socket.client.sent.len().min(space);
        let count = match self.rng.below(4) {
            0 => self.rng.below(all + 1),
            1 => all.min(self.rng.below(8)),
            _ => all,
        };
        if count > 0 {
            let mut bytes = vec![0; count];
            socket.client.sent.take(&mut bytes);
            if self.happens(Fault::Urgent, 40) {
                socket.urgent = Some(socket.arrived() + self.rng.below(count));
            }
            socket.arrive(&bytes, self.delay());
        }
        match socket.client.sent_end {
            Some(SentEnd::Fin) if socket.client.sent.len() == 0 && !socket.has_end() => {
                socket.end(self.delay());
            }
            Some(SentEnd::Reset) if !socket.is_reset() && self.rng.below(3) == 0 => {
                socket.fail(self.delay());
            }
            _ => {}
        }
    }

    fn before(&mut self, socket: &mut Socket, call: Call) -> io::Result<usize> {
        if call == Call::Shutdown {
            return Ok(0);
        }
        if call == Call::Register {
            let fails = self.happens(Fault::Register, 20);
            return if fails { Err(ErrorKind::OutOfMemory.into()) } else { Ok(0) };
        }
        if self.happens(Fault::Interrupted, 12) {
            return Err(ErrorKind::Interrupted.into());
        }
        match socket.client.resets_after {
            Some(0) if !socket.is_reset() => socket.fail(self.delay()),
            Some(calls) => socket.client.resets_after = Some(calls.saturating_sub(1)),
            None => {}
        }
        if call == Call::Write {
            if socket.shutdown_at.is_some() {
                socket.client.mistake = Some("a write after the shutdown");
            }
            let is_short = self.happens(Fault::ShortWrite, 6);
            return Ok(if is_short { self.rng.below(socket.space() + 1) } else { usize::MAX });
        }
        if self.happens(Fault::MidTurn, 4) {
            self.deliver(socket);
        }
        let is_refused = socket.is_readable() && self.happens(Fault::WouldBlock, 12);
        if is_refused { Err(ErrorKind::WouldBlock.into()) } else { Ok(usize::MAX) }
    }

    fn has_read(&mut self, socket: &mut Socket, bytes: &[u8]) {
        socket.client.consumed.extend(bytes);
        socket.client.read_max = socket.client.read_max.max(bytes.len());
        if !bytes.is_empty() && self.happens(Fault::MidTurn, 4) {
            self.deliver(socket);
        }
    }

    fn has_written(socket: &mut Socket, bytes: &[u8]) {
        socket.client.written.extend(bytes);
    }

    fn accept_error(&mut self) -> Option<io::Error> {
        if !self.happens(Fault::Accept, 6) {
            return None;
        }
        Some(match self.rng.below(4) {
            0 => io::Error::from_raw_os_error(EMFILE),
            1 => io::Error::from_raw_os_error(ENOBUFS),
            _ => self.rng.pick(&[ErrorKind::Interrupted, ErrorKind::ConnectionAborted]).into(),
        })
    }

    fn reset_error(&mut self) -> ErrorKind {
        self.rng.pick(&[
            ErrorKind::ConnectionReset,
            ErrorKind::BrokenPipe,
            ErrorKind::TimedOut,
            ErrorKind::NotConnected,
        ])
    }

    fn delay(&mut self) -> u32 {
        if self.happens(Fault::Late, 3) { self.rng.below(6) as u32 } else { 0 }
    }

    fn repeat(&mut self) -> Option<u32> {
        self.happens(Fault::Twice, 8).then(|| self.rng.below(3) as u32)
    }

    fn outside<R>(act: impl FnOnce() -> R) -> R {
        memory::outside(act)
    }

    fn log(&self, line: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("    {}", line());
        }
    }
}

impl Kernel {
    /// A connection to `worker` with buffers of random sizes, which is not accepted yet.
    pub(crate) fn connect(&mut self, worker: usize) -> SocketId {
        let is_narrow = self.network.enabled.has(Fault::Narrow);
        let rng = &mut self.network.rng;
        let narrow = [1, 40, 1000, 5000, 65_536, WIDE];
        let sizes = if is_narrow { &narrow[..] } else { &narrow[4..] };
        let (arrived_max, capacity) = (rng.pick(sizes), rng.pick(sizes));
        let peer_buffer = rng.pick(&[0, 100, 3000, 65_536]);
        let resets = self.network.happens(Fault::Broken, 8);
        let resets_after = resets.then(|| self.network.rng.below(60));
        let client = Client { arrived_max, resets_after, ..Client::default() };
        let id = self.create(worker, capacity, client);
        self.sockets[id].peer_buffer = peer_buffer;
        id
    }

    /// Takes the edges that this poll of a worker reports, in random order and with spurious edges,
    /// some of them for ended connections.
    pub(crate) fn next_batch(&mut self, worker: usize) -> Vec<(Token, Readiness)> {
        let mut ready = self.poll(worker);
        let network = &mut self.network;
        for socket in self.sockets.iter().filter(|socket| socket.worker == worker) {
            if let Some(token) = socket.token
                && network.happens(Fault::Spurious, 60)
            {
                let mut flip = || network.rng.below(2) == 0;
                let (readable, writable, reads_to_end) = (flip(), flip(), flip());
                ready.push((token, Readiness { readable, writable, reads_to_end }));
            }
        }
        network.rng.shuffle(&mut ready);
        ready
    }

    /// Whether any input will reach a worker without a call of the worker.
    pub(crate) fn is_moving(&self, worker: usize) -> bool {
        let mut sockets = self.sockets.iter().filter(|socket| {
            socket.worker == worker && !socket.is_dropped() && socket.token.is_some()
        });
        self.is_alerted(worker) || sockets.any(Socket::is_moving)
    }
}

impl Socket {
    /// The client sends `bytes`. Returns the number of bytes that the network takes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        if self.is_dropped() {
            return bytes.len();
        }
        let count = bytes.len().min(SENT_MAX - self.client.sent.len().min(SENT_MAX));
        if self.client.sent_end.is_none() {
            self.client.sent.push(&bytes[..count]);
        }
        count
    }

    /// The client sends FIN behind its bytes.
    pub(crate) fn finish(&mut self) {
        self.client.sent_end.get_or_insert(SentEnd::Fin);
    }

    /// The client resets the connection.
    pub(crate) fn reset(&mut self) {
        self.client.sent_end = Some(SentEnd::Reset);
    }

    /// Widens the buffers so that they never fill.
    pub(crate) fn widen(&mut self) {
        (self.client.arrived_max, self.capacity) = (WIDE, WIDE);
    }

    /// Whether an edge is pending, or will be without a call of the worker.
    pub(crate) fn is_moving(&self) -> bool {
        let client = &self.client;
        let is_arriving = client.sent.len() > 0 && self.arrived() < client.arrived_max;
        let is_ending = match client.sent_end {
            Some(SentEnd::Fin) => !self.has_end() && client.sent.len() == 0,
            Some(SentEnd::Reset) => !self.is_reset(),
            None => false,
        };
        self.is_alerted() || is_arriving || is_ending
    }
}

/// Linux: too many open files.
const EMFILE: i32 = 24;

/// Linux: no buffer space.
const ENOBUFS: i32 = 105;

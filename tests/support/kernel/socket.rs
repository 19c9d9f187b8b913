//! A connection between a client and a worker: two bounded directions, their ends, and one edge.

use std::io::{self, ErrorKind};
use std::time::Duration;

use ws_reactor::internal::{Readiness, SendProgress, Token};

use super::SocketId;

/// A connection. The worker's end is a [`Stream`](super::Stream), and the test acts as the client.
#[derive(Debug)]
pub struct Socket<C> {
    pub client: C,
    id: SocketId,
    pub worker: usize,
    pub token: Option<Token>,
    /// The number of polls until an edge is reported.
    pub(super) edge: Option<u32>,
    arrived: Pipe,
    /// The client's FIN has arrived.
    has_end: bool,
    pub(super) is_reset: bool,
    /// The number of arrived bytes before the urgent mark, at which a read stops (tcp(7)).
    pub urgent: Option<usize>,
    /// Bytes that the worker has written and the client has not read.
    unread: Pipe,
    /// Maximum number of unread bytes.
    pub capacity: usize,
    /// Unread bytes that the client's TCP acknowledges.
    pub peer_buffer: usize,
    /// Whether the client reads all bytes at each delivery. If not, it reads only in
    /// [`Socket::drain`].
    pub client_reads: bool,
    received: Vec<u8>,
    /// A write was short or refused, so the next free space raises an edge.
    pub(super) is_refused: bool,
    /// Bytes that the worker has read.
    pub consumed: usize,
    written_total: usize,
    progress_at_drop: Option<SendProgress>,
    /// A read has returned the end of the stream.
    pub has_read_end: bool,
    /// A call has failed because of a reset.
    pub has_failed: bool,
    pub accepted_at: Option<Duration>,
    pub shutdown_at: Option<Duration>,
    pub dropped_at: Option<Duration>,
}

impl<C> Socket<C> {
    pub(super) fn new(id: SocketId, worker: usize, capacity: usize, client: C) -> Self {
        Self {
            client,
            id,
            worker,
            token: None,
            edge: None,
            arrived: Pipe::default(),
            has_end: false,
            is_reset: false,
            urgent: None,
            unread: Pipe::default(),
            capacity,
            peer_buffer: 0,
            client_reads: false,
            received: Vec::new(),
            is_refused: false,
            consumed: 0,
            written_total: 0,
            progress_at_drop: None,
            has_read_end: false,
            has_failed: false,
            accepted_at: None,
            shutdown_at: None,
            dropped_at: None,
        }
    }

    // The client's end.

    /// The client reads at most `max` bytes.
    pub fn drain(&mut self, max: usize) {
        self.unread.take_into(&mut self.received, max);
    }

    /// The bytes that the client has read and that have not been taken.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    /// Bytes that the worker has written and that have not been taken.
    pub const fn written(&self) -> usize {
        self.received.len() + self.unread.len()
    }

    /// Whether the client has read all bytes, and no more can follow.
    pub const fn is_at_end(&self) -> bool {
        self.unread.len() == 0 && (self.is_dropped() || self.shutdown_at.is_some())
    }

    // The network.

    /// Raises an edge, which is reported after `delay` polls.
    pub fn raise(&mut self, delay: u32) {
        self.edge.get_or_insert(delay);
    }

    pub fn arrive(&mut self, bytes: &[u8], delay: u32) {
        self.arrived.push(bytes);
        self.raise(delay);
    }

    /// The client's FIN arrives.
    pub fn end(&mut self, delay: u32) {
        self.has_end = true;
        self.raise(delay);
    }

    /// The connection is reset.
    pub fn fail(&mut self, delay: u32) {
        self.is_reset = true;
        self.raise(delay);
    }

    /// Bytes that the worker has not read.
    pub const fn arrived(&self) -> usize {
        self.arrived.len()
    }

    /// Whether the client's FIN has arrived.
    pub const fn has_end(&self) -> bool {
        self.has_end
    }

    pub const fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// Whether an edge is pending, or will be raised by the next delivery because of free space.
    pub const fn is_alerted(&self) -> bool {
        self.edge.is_some() || (self.is_refused && self.space() > 0)
    }

    /// Whether a read would return bytes, an end or an error.
    pub const fn is_readable(&self) -> bool {
        self.arrived.len() > 0 || (self.has_end && !self.has_read_end) || self.is_reset
    }

    /// Whether a write would accept bytes, and no earlier write requires the server to wait for an
    /// edge.
    pub const fn is_writable(&self) -> bool {
        self.space() > 0 && !self.is_refused
    }

    pub const fn space(&self) -> usize {
        self.capacity.saturating_sub(self.unread.len())
    }

    pub(super) fn readiness(&self) -> Readiness {
        let ended = self.has_end || self.is_reset;
        Readiness {
            readable: self.arrived.len() > 0 || ended,
            writable: self.space() > 0 || self.is_reset,
            reads_to_end: ended || self.urgent.is_some(),
        }
    }

    // The worker's end.

    /// Whether the worker has dropped its end.
    pub const fn is_dropped(&self) -> bool {
        self.dropped_at.is_some()
    }

    pub(super) fn read(&mut self, buf: &mut [u8], max: usize) -> io::Result<usize> {
        let mut len = self.arrived.len().min(max);
        match self.urgent {
            Some(0) => self.urgent = None,
            Some(mark) => len = len.min(mark),
            None => {}
        }
        if len == 0 {
            if self.is_reset {
                return Err(ErrorKind::ConnectionReset.into());
            }
            self.has_read_end |= self.has_end;
            return if self.has_end { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let len = len.min(buf.len());
        self.arrived.take(&mut buf[..len]);
        self.urgent = self.urgent.map(|mark| mark - len);
        self.consumed += len;
        Ok(len)
    }

    pub(super) fn write(&mut self, bytes: &[u8], max: usize) -> io::Result<usize> {
        if self.is_reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if self.shutdown_at.is_some() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(self.space()).min(max);
        self.is_refused = len < bytes.len();
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.unread.push(&bytes[..len]);
        self.written_total += len;
        Ok(len)
    }

    pub(super) fn shutdown(&mut self, now: Duration) -> io::Result<()> {
        self.shutdown_at = Some(now);
        if self.is_reset { Err(ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// The written and acknowledged bytes, which stop changing when the worker drops the socket.
    pub fn send_progress(&self) -> SendProgress {
        self.progress_at_drop.unwrap_or_else(|| {
            let unacknowledged = self.unread.len().saturating_sub(self.peer_buffer);
            SendProgress {
                written: self.written_total as u64,
                acknowledged: (self.written_total - unacknowledged) as u64,
            }
        })
    }

    /// The worker drops its end. The kernel still delivers written bytes, unless input is left
    /// unread: this resets the connection, and the client loses bytes that it has not read.
    pub(super) fn dropped(&mut self, now: Duration) {
        self.progress_at_drop = Some(self.send_progress());
        self.dropped_at = Some(now);
        if self.arrived.len() > 0 {
            self.unread.clear();
        }
        if self.client_reads {
            self.drain(usize::MAX);
        }
        self.arrived.clear();
    }
}

/// A queue of bytes.
#[derive(Debug, Default)]
pub struct Pipe {
    bytes: Vec<u8>,
    taken: usize,
}

impl Pipe {
    pub const fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..std::mem::take(&mut self.taken));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Fills `buf`, which must not be longer than the pipe.
    pub fn take(&mut self, buf: &mut [u8]) {
        buf.copy_from_slice(&self.bytes[self.taken..self.taken + buf.len()]);
        self.taken += buf.len();
    }

    /// Appends at most `max` bytes to `out`.
    pub fn take_into(&mut self, out: &mut Vec<u8>, max: usize) {
        let count = max.min(self.len());
        out.extend_from_slice(&self.bytes[self.taken..self.taken + count]);
        self.taken += count;
    }

    pub fn clear(&mut self) {
        (self.bytes, self.taken) = (Vec::new(), 0);
    }
}

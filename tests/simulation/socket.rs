//! A connection of the made-up network: two bounded directions, their ends, and its edge.
//!
//! ```text
//!   client ── sent ──► arrived ──► the worker's read      (at most `arrived_max` arrived)
//!   client ◄── left ◄───────────── the worker's write     (at most `left_max` not taken)
//! ```

use std::io::{self, ErrorKind};
use std::time::Duration;

use ws_reactor::internal::{Readiness, SendProgress, Token};

use crate::faults::Fault;
use crate::net::Weather;

/// A connection.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) worker: usize,
    pub(crate) token: Option<Token>,
    /// Rounds until it is reported.
    pub(crate) edge: Option<u32>,
    sent: Pipe,
    sent_end: Option<SentEnd>,
    arrived: Pipe,
    arrived_max: usize,
    /// The end of the client's direction has arrived.
    has_end: bool,
    is_reset: bool,
    /// Bytes until the place where urgent data was, at which a read stops.
    urgent: Option<usize>,
    left: Pipe,
    left_max: usize,
    /// Bytes that the client's TCP acknowledges before the client takes them.
    pub(crate) peer_buffer: usize,
    /// Bytes that the server has written since the start.
    written_total: usize,
    last_progress: Option<SendProgress>,
    /// A write was short or refused: room raises an edge.
    is_refused: bool,
    /// Calls until they fail.
    pub(crate) breaks_at: Option<usize>,
    /// What was lost when the server dropped a connection with input unread.
    pub(crate) is_cut: bool,
    /// The server's end is dropped.
    pub(crate) is_gone: bool,
    pub(crate) seen: Seen,
    pub(crate) accepted_at: Option<Duration>,
}

/// What the server has done with a socket: for `watch.rs`.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Read since this was looked at.
    pub(crate) consumed: Vec<u8>,
    /// Written since this was looked at.
    pub(crate) written: Vec<u8>,
    /// What one read has brought at most.
    pub(crate) read_max: usize,
    /// A read has told the end of the stream.
    pub(crate) has_end: bool,
    /// A call has failed for good.
    pub(crate) has_error: bool,
    pub(crate) shutdown_at: Option<Duration>,
    pub(crate) dropped_at: Option<Duration>,
    /// Something that must not be done.
    pub(crate) mistake: Option<&'static str>,
}

/// How a client has ended its direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SentEnd {
    Fin,
    Reset,
}

/// What the network takes from a client that has not arrived.
const SENT_MAX: usize = 300_000;

impl Socket {
    pub(crate) fn new(worker: usize, arrived_max: usize, left_max: usize) -> Self {
        Self {
            worker,
            token: None,
            edge: None,
            sent: Pipe::default(),
            sent_end: None,
            arrived: Pipe::default(),
            arrived_max,
            has_end: false,
            is_reset: false,
            urgent: None,
            left: Pipe::default(),
            left_max,
            peer_buffer: 0,
            written_total: 0,
            last_progress: None,
            is_refused: false,
            breaks_at: None,
            is_cut: false,
            is_gone: false,
            seen: Seen::default(),
            accepted_at: None,
        }
    }

    // The client's end.

    /// Sends what the network takes of `bytes`.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(SENT_MAX - self.sent.len().min(SENT_MAX));
        if !self.is_gone && self.sent_end.is_none() {
            self.sent.push(&bytes[..count]);
        }
        count
    }

    pub(crate) fn finish(&mut self) {
        self.sent_end.get_or_insert(SentEnd::Fin);
    }

    pub(crate) fn reset(&mut self) {
        self.sent_end = Some(SentEnd::Reset);
    }

    /// The network gets as good as networks are.
    pub(crate) fn widen(&mut self) {
        (self.arrived_max, self.left_max) = (400_000, 400_000);
    }

    /// Takes up to `max` bytes that the server has sent.
    pub(crate) fn receive(&mut self, max: usize) -> Vec<u8> {
        let mut bytes = vec![0; max.min(self.left.len())];
        self.left.take(&mut bytes);
        bytes
    }

    /// Whether the client has read to the end of what it will ever get.
    pub(crate) fn is_at_end(&self) -> bool {
        self.left.len() == 0 && (self.is_gone || self.seen.shutdown_at.is_some())
    }

    // The network.

    pub(crate) fn raise(&mut self, delay: u32) {
        self.edge.get_or_insert(delay);
    }

    /// Moves some of what the client has sent, and sees to the edges.
    pub(crate) fn deliver(&mut self, weather: &mut Weather) {
        if self.is_gone {
            self.sent.clear();
            return;
        }
        let room = self.arrived_max.saturating_sub(self.arrived.len());
        let all = self.sent.len().min(room);
        let count = match weather.rng.below(4) {
            0 => weather.rng.below(all + 1),
            1 => all.min(weather.rng.below(8)),
            _ => all,
        };
        if count > 0 {
            let mut bytes = vec![0; count];
            self.sent.take(&mut bytes);
            if weather.strikes(Fault::Urgent, 40) {
                self.urgent = Some(self.arrived.len() + weather.rng.below(count));
            }
            self.arrived.push(&bytes);
            self.raise(weather.delay());
        }
        match self.sent_end {
            Some(SentEnd::Fin) if self.sent.len() == 0 && !self.has_end => {
                self.has_end = true;
                self.raise(weather.delay());
            }
            Some(SentEnd::Reset) if !self.is_reset && weather.rng.below(3) == 0 => {
                self.is_reset = true;
                self.raise(weather.delay());
            }
            _ => {}
        }
        if self.is_refused && self.room() > 0 {
            self.is_refused = false;
            self.raise(weather.delay());
        }
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let ended = self.has_end || self.is_reset;
        Readiness {
            readable: self.arrived.len() > 0 || ended,
            writable: self.room() > 0 || self.is_reset,
            reads_to_end: ended || self.urgent.is_some(),
        }
    }

    /// Whether an edge is on its way, or will be without the server's doing.
    pub(crate) fn is_moving(&self) -> bool {
        let is_arriving = self.sent.len() > 0 && self.arrived.len() < self.arrived_max;
        let is_ending = match self.sent_end {
            Some(SentEnd::Fin) => !self.has_end && self.sent.len() == 0,
            Some(SentEnd::Reset) => !self.is_reset,
            None => false,
        };
        self.edge.is_some() || is_arriving || is_ending || (self.is_refused && self.room() > 0)
    }

    /// Whether a read would bring something, an end or an error.
    pub(crate) fn is_readable(&self) -> bool {
        self.arrived.len() > 0 || (self.has_end && !self.seen.has_end) || self.is_reset
    }

    /// Whether a write would take something, and the server has no reason to doubt it.
    pub(crate) fn is_writable(&self) -> bool {
        self.room() > 0 && !self.is_refused
    }

    fn room(&self) -> usize {
        self.left_max.saturating_sub(self.left.len())
    }

    // The server's end.

    /// What every call may meet.
    fn call(&mut self, weather: &mut Weather) -> io::Result<()> {
        if weather.strikes(Fault::Interrupted, 12) {
            return Err(ErrorKind::Interrupted.into());
        }
        match &mut self.breaks_at {
            Some(0) if !self.is_reset => {
                self.is_reset = true;
                self.raise(weather.delay());
            }
            Some(0) => {}
            Some(calls) => *calls -= 1,
            None => {}
        }
        Ok(())
    }

    fn error(&mut self, weather: &mut Weather) -> io::Error {
        self.seen.has_error = true;
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::TimedOut];
        weather.rng.pick(&kinds).into()
    }

    pub(crate) fn read(&mut self, buf: &mut [u8], weather: &mut Weather) -> io::Result<usize> {
        self.call(weather)?;
        if weather.strikes(Fault::MidTurn, 4) {
            self.deliver(weather);
        }
        if self.is_readable() && weather.strikes(Fault::WouldBlock, 12) {
            self.raise(weather.delay());
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut limit = self.arrived.len();
        match self.urgent {
            Some(0) => self.urgent = None,
            Some(mark) => limit = limit.min(mark),
            None => {}
        }
        if limit == 0 {
            if self.is_reset {
                return Err(self.error(weather));
            }
            self.seen.has_end |= self.has_end;
            return if self.has_end { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let count = limit.min(buf.len());
        self.arrived.take(&mut buf[..count]);
        self.urgent = self.urgent.map(|mark| mark - count);
        self.seen.consumed.extend(&buf[..count]);
        self.seen.read_max = self.seen.read_max.max(count);
        if weather.strikes(Fault::MidTurn, 4) {
            self.deliver(weather);
        }
        Ok(count)
    }

    pub(crate) fn write(&mut self, buffers: &[&[u8]], weather: &mut Weather) -> io::Result<usize> {
        self.call(weather)?;
        if self.seen.shutdown_at.is_some() {
            self.seen.mistake = Some("a write after the shutdown");
        }
        if self.is_reset {
            return Err(self.error(weather));
        }
        let len: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let mut count = len.min(self.room());
        if weather.strikes(Fault::ShortWrite, 6) {
            count = weather.rng.below(count + 1);
        }
        self.is_refused = count < len;
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut rest = count;
        for buffer in buffers {
            let piece = &buffer[..rest.min(buffer.len())];
            self.left.push(piece);
            self.seen.written.extend(piece);
            rest -= piece.len();
        }
        self.written_total += count;
        Ok(count)
    }

    /// How far the client's TCP has acknowledged what was written, until the server dropped it.
    pub(crate) fn send_progress(&self) -> SendProgress {
        if let Some(progress) = self.last_progress {
            return progress;
        }
        let unacknowledged = self.left.len().saturating_sub(self.peer_buffer);
        SendProgress {
            written: self.written_total as u64,
            acknowledged: (self.written_total - unacknowledged) as u64,
        }
    }

    pub(crate) fn shutdown(&mut self, now: Duration) -> io::Result<()> {
        self.seen.shutdown_at = Some(now);
        if self.is_reset {
            self.seen.has_error = true;
            return Err(ErrorKind::NotConnected.into());
        }
        Ok(())
    }

    /// The server closes. The kernel still delivers what it has taken, unless input is left unread:
    /// that resets the connection, and what the client has not read by then is lost.
    pub(crate) fn dropped(&mut self, now: Duration) {
        self.last_progress = Some(self.send_progress());
        self.is_gone = true;
        self.seen.dropped_at = Some(now);
        if self.arrived.len() > 0 {
            self.is_cut = true;
            self.left.clear();
        }
        self.arrived.clear();
        self.sent.clear();
    }
}

/// Bytes in, the same bytes out.
#[derive(Debug, Default)]
struct Pipe {
    bytes: Vec<u8>,
    taken: usize,
}

impl Pipe {
    const fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..std::mem::take(&mut self.taken));
        }
        self.bytes.extend(bytes);
    }

    /// Fills `buf`, for which there is enough.
    fn take(&mut self, buf: &mut [u8]) {
        buf.copy_from_slice(&self.bytes[self.taken..self.taken + buf.len()]);
        self.taken += buf.len();
    }

    fn clear(&mut self) {
        (self.bytes, self.taken) = (Vec::new(), 0);
    }
}

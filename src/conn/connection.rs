//! One connection: reads what its peer sent, lets the session and the handler answer, writes.
//!
//! The path of an echo, per turn one `recv` and one `send`:
//!
//! 1. [`Connection::ready`] remembers the edge, and [`advance`](Connection::advance) reads into the
//!    worker's scratch, which all its connections share.
//! 2. [`serve`](Connection::serve) takes frames from the [`Window`] over the read. The handler says
//!    [`Reply::Echo`], and the reply is written in front of the payload, in the same buffer.
//! 3. [`flush`](Connection::flush) sends the run of all replies at once. Only what the kernel
//!    refuses is copied, to the backlog.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::backlog::Backlog;
use super::tick::Tick;
use super::transport::{self, ReadResult, Readiness, Transport};
use crate::config::Config;
use crate::handler::{CloseCause, CloseEvent, Handler, Reply};
use crate::peer::{Outbox, Peer, PeerId, Sent};
use crate::protocol::{CloseCode, Event, HEADROOM_BYTES, HeadReader, Received, Session, Window};
use crate::stats::Counters;

/// Reads of one connection before the others get their turn.
const READS_PER_TURN: usize = 8;

/// What a worker lends to a connection for one turn.
pub(crate) struct Turn<'t, H> {
    pub(crate) id: PeerId,
    pub(crate) handler: &'t mut H,
    /// Goes on the wire before the window's run; empty between turns.
    pub(crate) out: &'t mut Vec<u8>,
    pub(crate) config: &'t Config,
    pub(crate) counters: &'t Counters,
    pub(crate) now: Tick,
}

/// What the worker has to do after a connection's turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Nothing, until the next edge or deadline.
    Wait,
    /// Give it another turn: there is readiness that it has not used up.
    Again,
    /// Drop it.
    Gone,
}

/// A connection of a worker.
#[derive(Debug)]
pub(crate) struct Connection<T, S> {
    pub(super) transport: T,
    pub(super) phase: Phase<S>,
    pub(super) backlog: Backlog,
    /// When the phase's deadline was last pushed back.
    pub(super) since: Tick,
    pub(super) flags: Flags,
}

/// ```text
///   Handshake ───► Open ───► Lingering ───► (gone)
///       └── refused, answered ──▲
/// ```
#[derive(Debug)]
pub(super) enum Phase<S> {
    /// The request has not all arrived.
    Handshake(Box<Opening>),
    /// Messages flow, or the closing handshake is under way.
    Open { session: Session, state: S },
    /// What is owed is sent, then the end of our direction; input is discarded until the peer ends
    /// its own, since closing with unread input would reset the connection and might destroy what
    /// is still in flight (RFC 6455 7.1.1).
    Lingering,
}

/// A connection whose request has not all arrived.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) address: SocketAddr,
    pub(super) reader: HeadReader,
}

/// What a connection remembers from turn to turn.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// An edge said readable, and no read has found the end of it.
    pub(super) readable: bool,
    /// The peer has ended its direction: read until the end of the stream shows.
    pub(super) read_closed: bool,
    /// The end of the stream has been read.
    pub(super) end_of_stream: bool,
    /// The end of our direction has been sent.
    pub(super) write_closed: bool,
    /// The backlog has exceeded its high mark and not yet fallen below the low one.
    pub(super) paused: bool,
    /// A ping has been sent since anything moved.
    pub(super) pinged: bool,
    /// On the worker's list for another turn.
    pub(super) queued: bool,
    /// The deadline is nearer than the one that the worker knows.
    pub(super) deadline_moved: bool,
}

impl<T: Transport, S: Default> Connection<T, S> {
    pub(crate) fn new(transport: T, address: SocketAddr, now: Tick) -> Self {
        let phase = Phase::Handshake(Box::new(Opening { address, reader: HeadReader::default() }));
        Self { transport, phase, backlog: Backlog::default(), since: now, flags: Flags::default() }
    }

    /// An edge arrived.
    pub(crate) fn ready<H: Handler<State = S>>(
        &mut self,
        readiness: Readiness,
        scratch: &mut [u8],
        turn: &mut Turn<'_, H>,
    ) -> Outcome {
        self.flags.readable |= readiness.readable || readiness.read_closed;
        self.flags.read_closed |= readiness.read_closed;
        if readiness.writable
            && !self.backlog.is_empty()
            && let Err(cause) = self.write_backlog(turn)
        {
            return self.gone(cause, turn);
        }
        self.resume(scratch, turn)
    }

    /// Whether this is news to the worker's `again` list.
    pub(crate) const fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.flags.queued, true)
    }

    /// The worker has taken it from its `again` list.
    pub(crate) const fn dequeue(&mut self) {
        self.flags.queued = false;
    }

    /// Whether the deadline has come nearer since the worker asked last.
    #[inline]
    pub(crate) const fn take_deadline_moved(&mut self) -> bool {
        std::mem::replace(&mut self.flags.deadline_moved, false)
    }

    /// Goes on with what is readable.
    pub(crate) fn resume<H: Handler<State = S>>(
        &mut self,
        scratch: &mut [u8],
        turn: &mut Turn<'_, H>,
    ) -> Outcome {
        match self.advance(scratch, turn) {
            Ok(()) if self.wants_read() => Outcome::Again,
            Ok(()) => Outcome::Wait,
            Err(cause) => self.gone(cause, turn),
        }
    }

    /// Reads and answers until there is nothing to read, the budget is spent, or the peer does not
    /// take its replies.
    fn advance<H: Handler<State = S>>(
        &mut self,
        scratch: &mut [u8],
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        for _ in 0..READS_PER_TURN {
            if !self.wants_read() {
                break;
            }
            let free = &mut scratch[HEADROOM_BYTES..];
            let len = match transport::read(&mut self.transport, free) {
                Ok(ReadResult::Bytes(len)) => len,
                Ok(ReadResult::EndOfStream) => return self.end_of_stream(turn),
                Ok(ReadResult::WouldBlock) => {
                    self.flags.readable = false;
                    break;
                }
                Err(_) => return Err(CloseCause::Transport),
            };
            self.flags.readable = !is_drained(len, free.len()) || self.flags.read_closed;
            let read = &mut scratch[..HEADROOM_BYTES + len];
            match &mut self.phase {
                Phase::Open { session, .. } => {
                    if session.is_open() {
                        self.since = turn.now;
                        self.flags.pinged = false;
                    }
                    let window = session.window(read);
                    self.serve(window, turn)?;
                }
                Phase::Handshake(_) => self.receive_request(read, turn)?,
                Phase::Lingering => {}
            }
        }
        Ok(())
    }

    /// Takes every event from `window`, and sends the replies.
    pub(super) fn serve<H: Handler<State = S>>(
        &mut self,
        mut window: Window<'_>,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let limits = turn.config.limits();
        while let Phase::Open { session, .. } = &mut self.phase {
            match session.next_event(&mut window, &limits, turn.out) {
                Ok(Some(Event::Message(received))) => self.deliver(received, &mut window, turn)?,
                Ok(Some(Event::Streamed { payload_len, message_end })) => {
                    count_echo(turn.counters, u64::from(message_end), payload_len);
                }
                Ok(Some(Event::Ping | Event::Pong(_))) => {}
                Ok(Some(Event::Close { code, reason, answers_ours })) => {
                    let code = code.unwrap_or(CloseCode::NO_STATUS);
                    let reason = std::str::from_utf8(window.bytes(&reason)).unwrap_or_default();
                    let cause = if answers_ours { CloseCause::Local } else { CloseCause::Peer };
                    self.leave_open(CloseEvent { code, reason, cause }, turn);
                }
                Ok(None) => break,
                Err(error) => self.failed(error, turn),
            }
        }
        self.flush(window.run(), turn)
    }

    /// Lends a message to the handler, and echoes it if it says so.
    #[inline]
    fn deliver<H: Handler<State = S>>(
        &mut self,
        received: Received,
        window: &mut Window<'_>,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let message = match received.lend(window) {
            Ok(message) => message,
            Err(error) => {
                if let Phase::Open { session, .. } = &mut self.phase {
                    session.fail(error, window, turn.out);
                }
                self.failed(error, turn);
                return Ok(());
            }
        };
        let len = message.as_bytes().len();
        turn.counters.messages_in.add(1);
        turn.counters.bytes_in.add(len as u64);
        let (reply, run_moved) =
            self.call(window.run(), turn, |handler, peer| handler.message(peer, message))?;
        if run_moved {
            window.clear_run();
        }
        if reply == Some(Reply::Echo) && self.is_open() {
            turn.counters.messages_out.add(1);
            turn.counters.bytes_out.add(len as u64);
            received.echo(window, turn.out);
        }
        // A handler may answer much to little: what it says goes out before more is asked.
        if turn.out.len() >= turn.config.backlog_bytes_high {
            self.flush(&[], turn)?;
        }
        Ok(())
    }

    /// Calls the handler with this connection, which must be open. Returns what it answered,
    /// `None` if it panicked, and whether `run` was moved to the out buffer.
    #[inline]
    pub(super) fn call<H: Handler<State = S>, R>(
        &mut self,
        run: &[u8],
        turn: &mut Turn<'_, H>,
        callback: impl FnOnce(&mut H, &mut Peer<'_, S>) -> R,
    ) -> Result<(Option<R>, bool), CloseCause> {
        let Phase::Open { session, state } = &mut self.phase else { return Ok((None, false)) };
        let mut sent = Sent::default();
        let outbox = Outbox::new(
            session,
            run,
            turn.out,
            self.backlog.len(),
            turn.config.backlog_bytes_max,
            &mut sent,
        );
        let mut peer = Peer::new(turn.id, state, outbox);
        let answer = guarded(turn.id, turn.counters, || callback(turn.handler, &mut peer));
        if answer.is_none() {
            peer.close(CloseCode::INTERNAL_ERROR, "");
        }
        if !session.is_open() {
            self.close_sent(turn.now);
        }
        self.account(sent, turn)?;
        Ok((answer, sent.run_moved))
    }

    /// Counts what was sent; more than the connection may hold ends it.
    pub(super) fn account<H>(&self, sent: Sent, turn: &Turn<'_, H>) -> Result<(), CloseCause> {
        turn.counters.messages_out.add(sent.messages);
        turn.counters.bytes_out.add(sent.bytes);
        if sent.overflowed { Err(CloseCause::BacklogOverflow) } else { Ok(()) }
    }

    /// Sends what the turn has laid out: the out buffer, then `run`. What the kernel refuses is
    /// queued, and above the high mark reading pauses.
    pub(super) fn flush<H>(
        &mut self,
        run: &[u8],
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let result = if turn.out.is_empty() {
            self.write_or_queue(run)
        } else {
            turn.out.extend_from_slice(run);
            self.write_or_queue(turn.out)
        };
        turn.out.clear();
        result?;
        self.flags.paused |= self.backlog.len() > turn.config.backlog_bytes_high;
        self.settle()
    }

    #[inline]
    fn write_or_queue(&mut self, bytes: &[u8]) -> Result<(), CloseCause> {
        let mut sent = 0;
        // With a backlog the kernel has refused bytes, and would again until a writable edge.
        if !bytes.is_empty() && self.backlog.is_empty() {
            let written = transport::write(&mut self.transport, bytes);
            sent = written.map_err(|_| CloseCause::Transport)?;
        }
        self.backlog.push(&bytes[sent..]);
        Ok(())
    }

    /// A writable edge: sends what is queued, and below the low mark reading resumes.
    fn write_backlog<H>(&mut self, turn: &Turn<'_, H>) -> Result<(), CloseCause> {
        let progress =
            self.backlog.write_to(&mut self.transport).map_err(|_| CloseCause::Transport)?;
        if progress {
            self.since = turn.now;
            self.flags.pinged = false;
        }
        self.flags.paused &= self.backlog.len() >= turn.config.backlog_bytes_low.max(1);
        self.settle()
    }

    /// Whether there may be something to read, and it may be read.
    #[inline]
    const fn wants_read(&self) -> bool {
        self.flags.readable && (!self.flags.paused || matches!(self.phase, Phase::Lingering))
    }

    fn is_open(&self) -> bool {
        matches!(&self.phase, Phase::Open { session, .. } if session.is_open())
    }
}

/// Whether a read of `len` bytes into `room` has emptied the socket: on Linux a short read of a
/// stream means so (epoll(7), question 9), which saves the read that would say WouldBlock.
const fn is_drained(len: usize, room: usize) -> bool {
    len < room
}

fn count_echo(counters: &Counters, messages: u64, bytes: usize) {
    for (count, n) in [
        (&counters.messages_in, messages),
        (&counters.messages_out, messages),
        (&counters.bytes_in, bytes as u64),
        (&counters.bytes_out, bytes as u64),
    ] {
        count.add(n);
    }
}

/// Runs a callback; `None` if it panicked, which its connection pays for and no other.
#[inline]
pub(super) fn guarded<R>(
    id: PeerId,
    counters: &Counters,
    callback: impl FnOnce() -> R,
) -> Option<R> {
    // A handler's state after a panic is its own concern: it is told that its peer is gone.
    let result = catch_unwind(AssertUnwindSafe(callback));
    if result.is_err() {
        counters.handler_panics.add(1);
        log::error!("the handler panicked over peer {id}");
    }
    result.ok()
}

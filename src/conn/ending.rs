//! The ways out of a connection, and its deadlines.
//!
//! | phase | deadline | then |
//! |---|---|---|
//! | handshake | `handshake_timeout` after accept | 408, lingering |
//! | open | half of `idle_timeout` after anything moved | a ping |
//! | open, pinged | half of `idle_timeout` after the ping | close 1001, lingering; dropped, if the kernel has no room for it |
//! | close frame sent | `close_timeout` after it, or after the kernel took anything queued | dropped |
//! | close frame waiting for the end of a streamed frame | `close_timeout` after it was asked for | dropped |
//! | lingering, bytes owed | `idle_timeout` after it began, or after the kernel took anything | dropped |
//! | lingering | `close_timeout` after all was sent | dropped |

use super::connection::{Connection, Outcome, Phase, Turn, guarded};
use super::tick::Tick;
use super::transport::Transport;
use crate::config::Config;
use crate::handler::{CloseCause, CloseEvent, Handler};
use crate::peer::Outbox;
use crate::protocol::{CloseCode, Message, ProtocolError, Response};

impl<T: Transport, S> Connection<T, S> {
    /// When [`expire`](Self::expire) is due, unless something moves before.
    pub(crate) fn deadline(&self, config: &Config) -> Tick {
        self.since.after(match &self.phase {
            Phase::Handshake(_) => config.handshake_timeout,
            Phase::Open { session, .. } if !session.is_open() => config.close_timeout,
            Phase::Open { .. } => config.idle_timeout / 2,
            // A kernel with full buffers takes nothing for long while the peer takes all it can.
            Phase::Lingering if !self.backlog.is_empty() => config.idle_timeout,
            Phase::Lingering => config.close_timeout,
        })
    }

    /// The deadline has come.
    pub(crate) fn expire<H: Handler<State = S>>(&mut self, turn: &mut Turn<'_, H>) -> Outcome {
        let result = match &mut self.phase {
            Phase::Handshake(opening) => {
                turn.counters.handshake_timeouts.add(1);
                log::debug!("{} is refused with 408: its request took too long", opening.address);
                self.respond(&Response::text(408, "the request took too long"), turn)
            }
            Phase::Open { session, .. } if session.is_open() && !self.flags.pinged => {
                // Counted from the ping, so that a late one can be answered too.
                self.since = turn.now;
                self.flags.pinged = true;
                // Closed cannot be: the session is open.
                let _ = session.ping(b"", turn.out);
                self.flush(&[], turn)
            }
            Phase::Open { session, .. } if session.is_open() => self.give_up(turn),
            Phase::Open { .. } => {
                turn.counters.close_timeouts.add(1);
                Err(CloseCause::CloseTimeout)
            }
            Phase::Lingering => Err(CloseCause::CloseTimeout),
        };
        match result {
            Ok(()) => Outcome::Wait,
            Err(cause) => self.gone(cause, turn),
        }
    }

    /// Nothing has moved for too long: says so to a peer that may listen.
    fn give_up<H: Handler<State = S>>(&mut self, turn: &mut Turn<'_, H>) -> Result<(), CloseCause> {
        let cause = CloseCause::IdleTimeout;
        turn.counters.idle_timeouts.add(1);
        let Phase::Open { session, .. } = &mut self.phase else { return Ok(()) };
        if !self.backlog.is_empty() || session.owes_frame() {
            return Err(cause);
        }
        // Closed cannot be: the session is open.
        let _ = session.close(CloseCode::GOING_AWAY, "idle timeout", turn.out);
        self.leave_open(CloseEvent::abnormal(cause), turn);
        self.flush(&[], turn)?;
        // Nor to one whose kernel has no room for it.
        if self.backlog.is_empty() { Ok(()) } else { Err(cause) }
    }

    /// Sends a message from outside a callback.
    pub(crate) fn send<H: Handler<State = S>>(
        &mut self,
        message: Message<'_>,
        turn: &mut Turn<'_, H>,
    ) -> Outcome {
        let session = match &mut self.phase {
            Phase::Open { session, .. } if session.is_open() => session,
            _ => {
                turn.counters.stale_sends.add(1);
                return Outcome::Wait;
            }
        };
        let (backlog_bytes, max) = (self.backlog.len(), turn.config.backlog_bytes_max);
        Outbox::new(session, &[], turn.out, backlog_bytes, max, &mut turn.tally).send(message);
        if turn.tally.overflowed {
            return self.gone(CloseCause::BacklogOverflow, turn);
        }
        let owed_bytes = self.backlog.len() + turn.out.len();
        match self.flush(&[], turn) {
            Ok(()) => {
                // The kernel took something, if not all.
                if self.backlog.len() < owed_bytes {
                    self.moved(turn.now);
                }
                Outcome::Wait
            }
            Err(cause) => self.gone(cause, turn),
        }
    }

    /// Starts the closing handshake from outside a callback; before the upgrade, refuses it.
    pub(crate) fn close<H: Handler<State = S>>(
        &mut self,
        code: CloseCode,
        reason: &str,
        turn: &mut Turn<'_, H>,
    ) -> Outcome {
        let result = match &mut self.phase {
            Phase::Handshake(_) => {
                turn.counters.turned_away.add(1);
                self.respond(&Response::text(503, "the server is shutting down"), turn)
            }
            Phase::Open { session, .. } => {
                if session.close(code, reason, turn.out).is_ok() {
                    self.close_sent(turn.now);
                }
                self.flush(&[], turn)
            }
            Phase::Lingering => Ok(()),
        };
        match result {
            Ok(()) => Outcome::Wait,
            Err(cause) => self.gone(cause, turn),
        }
    }

    /// The connection is over: nothing more can be sent or received.
    pub(crate) fn gone<H: Handler<State = S>>(
        &mut self,
        cause: CloseCause,
        turn: &mut Turn<'_, H>,
    ) -> Outcome {
        turn.out.clear();
        if matches!(self.phase, Phase::Open { .. }) {
            if cause == CloseCause::BacklogOverflow {
                turn.counters.backlog_overflows.add(1);
                let max = turn.config.backlog_bytes_max;
                log::warn!(
                    "peer {} is lost: it took too little of what it was sent, and more than {max} bytes (backlog_bytes_max) were queued",
                    turn.id
                );
            }
            self.leave_open(CloseEvent::abnormal(cause), turn);
        }
        Outcome::Gone
    }

    /// The peer's stream has ended: what it is owed is still sent.
    pub(super) fn end_of_stream<H: Handler<State = S>>(
        &mut self,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let cause = CloseCause::EndOfStream;
        self.flags.end_of_stream = true;
        self.flags.readable = false;
        match &self.phase {
            Phase::Handshake(_) => return Err(cause),
            Phase::Open { .. } => {
                self.leave_open(CloseEvent::abnormal(cause), turn);
            }
            Phase::Lingering => {}
        }
        self.settle()
    }

    /// The peer was at fault; the close frame is in the out buffer.
    pub(super) fn failed<H: Handler<State = S>>(
        &mut self,
        error: ProtocolError,
        turn: &mut Turn<'_, H>,
    ) {
        turn.counters.protocol_errors.add(1);
        let cause = CloseCause::Protocol(error);
        self.leave_open(CloseEvent { code: error.close_code(), reason: "", cause }, turn);
    }

    /// Our close frame is on its way, the peer's is awaited.
    pub(super) const fn close_sent(&mut self, now: Tick) {
        self.since = now;
        self.flags.deadline_moved = true;
    }

    /// No message will come or go any more: tells the handler, and lingers.
    pub(super) fn leave_open<H: Handler<State = S>>(
        &mut self,
        event: CloseEvent<'_>,
        turn: &mut Turn<'_, H>,
    ) {
        let Phase::Open { state, .. } = self.linger(turn.now) else { return };
        turn.counters.closed.add(1);
        log::debug!("peer {} closed with {}: {}", turn.id, event.code, event.cause);
        guarded(turn.id, turn.counters, || turn.handler.close(turn.id, state, &event));
    }

    /// Discards input from now on; returns the phase before.
    pub(super) fn linger(&mut self, now: Tick) -> Phase<S> {
        self.since = now;
        self.flags.deadline_moved = true;
        std::mem::replace(&mut self.phase, Phase::Lingering)
    }

    /// Lingering with nothing owed, ends our direction; with both ended, the connection.
    pub(super) fn settle(&mut self) -> Result<(), CloseCause> {
        if !matches!(self.phase, Phase::Lingering) || !self.backlog.is_empty() {
            return Ok(());
        }
        if self.flags.end_of_stream {
            return Err(CloseCause::EndOfStream);
        }
        if !self.flags.write_closed {
            self.flags.write_closed = true;
            self.flags.deadline_moved = true;
            self.transport.shutdown_write().map_err(|_| CloseCause::Transport)?;
        }
        Ok(())
    }
}

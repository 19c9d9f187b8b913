//! The ways out of a connection, and its deadlines.
//!
//! | phase | deadline | then |
//! |---|---|---|
//! | handshake | `handshake_timeout` after accept | 408, lingering |
//! | open | `ping_interval` after the last byte received | a ping |
//! | open, ping not acknowledged by TCP | the rest of `idle_timeout` after the ping, or after the last acknowledged progress | dropped |
//! | open, ping acknowledged | the rest of `idle_timeout` after that | close 1001, lingering |
//! | open, ping acknowledged, bytes unread since reading is paused | the same after the last acknowledged progress | dropped |
//! | open, no pings | `idle_timeout` after the last byte received, or after the last progress while bytes are unacknowledged | as above |
//! | close frame waiting for the end of a streamed frame | `close_timeout` after it was asked for, or after the last acknowledged progress; at the latest `idle_timeout` after it was asked for | dropped |
//! | close frame sent, or lingering; bytes unacknowledged | `idle_timeout` after it began, or after the last acknowledged progress | dropped |
//! | close frame sent, or lingering; all acknowledged | `close_timeout` after that | dropped |
//!
//! The transport does not report acknowledgements, so deadlines of their own query it: see
//! [`AckWatch`].

use super::connection::{Connection, Outcome, Phase, Turn};
use super::guard::guarded;
use super::liveness::AckWatch;
use super::tick::Tick;
use super::transport::{SendProgress, Transport};
use crate::config::Config;
use crate::handler::{CloseCause, CloseEvent, Handler};
use crate::peer::Outbox;
use crate::protocol::{CloseCode, Message, ProtocolError, Response};

impl<T: Transport, S> Connection<T, S> {
    /// When [`expire`](Self::expire) is due, unless something is received before.
    pub(crate) fn deadline(&self, config: &Config) -> Tick {
        match &self.phase {
            Phase::Handshake(_) => self.since.after(config.handshake_timeout),
            Phase::Open { session, .. } if session.is_open() => self.idle_deadline(config),
            Phase::Open { .. } | Phase::Lingering => self.close_deadline(config),
        }
    }

    fn idle_deadline(&self, config: &Config) -> Tick {
        let timeout = config.unanswered_timeout();
        let silence = config.silence_before_look();
        match &self.watch {
            None => self.since.after(silence),
            // At most `silence` after the last look: otherwise a received byte could move the
            // deadline nearer, which would cost another entry in the worker's timers.
            Some(watch) => watch.expiry(timeout).min(watch.next_look(timeout, silence)),
        }
    }

    fn close_deadline(&self, config: &Config) -> Tick {
        let Some(watch) = &self.watch else { return self.since.plus(1) };
        let expiry = self.close_expiry(watch, config);
        if watch.is_complete() {
            return expiry;
        }
        let timeout = config.idle_timeout;
        expiry.min(watch.next_look(timeout, timeout))
    }

    /// When a closing connection is dropped, by the last look at its acknowledgements.
    fn close_expiry(&self, watch: &AckWatch, config: &Config) -> Tick {
        if self.is_mid_frame() {
            // The peer has to send the rest of the frame first. While it goes on, it has
            // `idle_timeout` for that, so that one that sends a byte now and then cannot stay.
            let latest = self.since.after(config.idle_timeout.max(config.close_timeout));
            return watch.expiry(config.close_timeout).min(latest);
        }
        watch.expiry(match watch.is_complete() {
            true => config.close_timeout,
            false => config.idle_timeout,
        })
    }

    /// Whether a frame waits for the rest of a streamed one.
    fn is_mid_frame(&self) -> bool {
        matches!(&self.phase, Phase::Open { session, .. } if session.is_mid_frame())
    }

    /// The deadline has come.
    pub(crate) fn expire<H: Handler<State = S>>(&mut self, turn: &mut Turn<'_, H>) -> Outcome {
        let result = match &mut self.phase {
            Phase::Handshake(opening) => {
                turn.counters.handshake_timeouts.add(1);
                log::debug!("{} is refused with 408: its request took too long", opening.address);
                self.respond(&Response::text(408, "the request took too long"), turn)
            }
            Phase::Open { session, .. } if session.is_open() => self.check_idle(turn),
            Phase::Open { .. } => {
                let result = self.check_close(turn);
                turn.counters
                    .close_timeouts
                    .add(u64::from(result == Err(CloseCause::CloseTimeout)));
                result
            }
            Phase::Lingering => self.check_close(turn),
        };
        match result {
            Ok(()) => Outcome::Wait,
            Err(cause) => self.gone(cause, turn),
        }
    }

    /// The peer has been silent: sends a ping, checks for acknowledgements, or gives the peer up.
    fn check_idle<H: Handler<State = S>>(
        &mut self,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let sends_pings = turn.config.sends_pings();
        if self.watch.is_none() && sends_pings {
            self.send_ping(turn)?;
        }
        let progress = self.send_progress()?;
        let unsent_bytes = self.unsent_bytes();
        let all_bytes = progress.written + unsent_bytes as u64;
        let since = self.since;
        let watch = self.watch.get_or_insert_with(|| {
            Box::new(match sends_pings {
                true => AckWatch::new(Some(all_bytes), turn.now),
                false => AckWatch::new(None, since),
            })
        });
        if self.flags.paused && self.flags.readable {
            // The pong may be among the unread bytes.
            watch.extend(progress, unsent_bytes);
        }
        watch.look(progress, unsent_bytes, turn.now);
        if watch.expiry(turn.config.unanswered_timeout()) > turn.now {
            return Ok(());
        }
        let listens = watch.is_complete() || progress.acknowledged >= all_bytes;
        self.give_up(listens, turn)
    }

    fn send_ping<H: Handler<State = S>>(
        &mut self,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        if let Phase::Open { session, .. } = &mut self.phase {
            session.ping(b"", turn.workspace);
        }
        self.flush(&[], turn)
    }

    /// A close frame or the last response has been sent: checks whether it is acknowledged.
    fn check_close<H>(&mut self, turn: &Turn<'_, H>) -> Result<(), CloseCause> {
        let progress = self.send_progress()?;
        self.look_at_close(progress, turn.now);
        match &self.watch {
            Some(watch) if self.close_expiry(watch, turn.config) <= turn.now => {
                Err(CloseCause::CloseTimeout)
            }
            _ => Ok(()),
        }
    }

    /// Right after our close frame was written or queued, fixes the bytes that count: later ones,
    /// such as pongs, do not extend the time.
    pub(super) fn watch_close_frame(&mut self, now: Tick) {
        let is_closing = matches!(&self.phase, Phase::Open { session, .. } if session.is_closing());
        if is_closing
            && self.watch.is_none()
            // If it fails, the next look tells why.
            && let Ok(progress) = self.transport.send_progress()
        {
            self.look_at_close(progress, now);
        }
    }

    fn look_at_close(&mut self, progress: SendProgress, now: Tick) {
        let unsent_bytes = self.unsent_bytes();
        let all_bytes = progress.written + unsent_bytes as u64;
        // Behind a streamed frame more bytes will go out before the close frame.
        let end = if self.is_mid_frame() { None } else { Some(all_bytes) };
        let since = self.since;
        let watch = self.watch.get_or_insert_with(|| Box::new(AckWatch::new(end, since)));
        watch.look(progress, unsent_bytes, now);
    }

    fn send_progress(&self) -> Result<SendProgress, CloseCause> {
        self.transport.send_progress().map_err(CloseCause::transport)
    }

    /// Bytes that the kernel has not taken yet, including those that wait behind a streamed frame.
    fn unsent_bytes(&self) -> usize {
        let deferred_bytes = match &self.phase {
            Phase::Open { session, .. } => session.deferred_bytes(),
            _ => 0,
        };
        self.backlog.len() + deferred_bytes
    }

    /// The peer has been silent for too long. Sends a close frame if its TCP still acknowledges
    /// bytes (`listens`).
    fn give_up<H: Handler<State = S>>(
        &mut self,
        listens: bool,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let cause = CloseCause::IdleTimeout;
        turn.counters.idle_timeouts.add(1);
        let Phase::Open { session, .. } = &mut self.phase else { return Ok(()) };
        if !listens || !self.backlog.is_empty() || session.is_mid_frame() {
            return Err(cause);
        }
        session.close(CloseCode::GOING_AWAY, "idle timeout", turn.workspace);
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
        let (backlog, max) = (self.backlog.bytes(), turn.config.backlog_bytes_max);
        Outbox::new(session, &[], turn.workspace, backlog, max, &mut turn.tally).send(message);
        if turn.tally.overflowed {
            return self.gone(CloseCause::BacklogOverflow, turn);
        }
        match self.flush(&[], turn) {
            Ok(()) => Outcome::Wait,
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
                if session.close(code, reason, turn.workspace) {
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
        turn.workspace.clear();
        if matches!(self.phase, Phase::Open { .. }) {
            if cause == CloseCause::BacklogOverflow {
                turn.counters.backlog_overflows.add(1);
                let (id, max) = (turn.id, turn.config.backlog_bytes_max);
                if let Some(suppressed) = turn.throttles.overflows.admit(turn.now) {
                    log::warn!(
                        "peer {id} is lost: it left more than {max} bytes (backlog_bytes_max) of what the program sent{suppressed}"
                    );
                }
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
    pub(super) fn close_sent(&mut self, now: Tick) {
        self.since = now;
        self.watch = None;
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
        // Before the callback: nobody who knows that the connection has closed may find it open.
        turn.peers.remove(turn.id);
        log::debug!("peer {} closed with {}: {}", turn.id, event.code, event.cause);
        guarded(turn.guard(), || turn.handler.on_close(turn.id, state, &event));
    }

    /// Discards input from now on; returns the phase before.
    pub(super) fn linger(&mut self, now: Tick) -> Phase<S> {
        self.since = now;
        self.watch = None;
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
            self.transport.shutdown_write().map_err(CloseCause::transport)?;
        }
        Ok(())
    }
}

//! One connection: reads bytes, lets its phase process them, writes the replies.
//!
//! The path of an echo, per turn one `recv` and one `send`:
//!
//! 1. [`Connection::ready`] records the edge, and [`read`](Connection::read) receives into the
//!    worker's scratch, which all its connections share.
//! 2. [`Open::serve`] takes frames from the [`Window`] over the read. The handler returns
//!    [`Reply::Echo`](crate::Reply::Echo), and the reply is written in front of the payload, in the
//!    same buffer.
//! 3. [`flush`](Connection::flush) sends the run of all replies at once. Only bytes that the kernel
//!    refuses are copied, to the backlog.

use super::deadlines::Stage;
use super::lingering::Lingering;
use super::open::{End, Open};
use super::opening::{HandshakeOutcome, Opening};
use super::preface::Preface;
use super::schedule::Schedule;
use super::tick::Tick;
use super::tls::TlsFailure;
use super::transport::{Readiness, Transport};
use super::turn::{Flow, Outcome, TurnContext};
use super::wire::{Input, Wire};
use crate::config::Config;
use crate::connection_info::{Address, Origin};
use crate::forwarding;
use crate::handler::{CloseCause, CloseEvent, Handler};
use crate::protocol::{CloseCode, CloseFrame, HEADROOM_BYTES, Response, Window};
use crate::stats::handshake_failures::HandshakeFailure;

/// Reads of one connection before the others get their turn. A large message is better taken at
/// once than in turns with others, while its memory is in the cache.
const READS_PER_TURN: usize = 4;

/// Events of one connection before the others get their turn. A read of ordinary messages has
/// fewer; one of empty frames has ten times as many, and would keep the others waiting.
pub(crate) const EVENTS_PER_TURN: u32 = 4096;

/// A connection of a worker.
#[derive(Debug)]
pub(crate) struct Connection<T, H: Handler> {
    wire: Wire<T>,
    phase: Phase<H>,
    /// When the last byte was received; in other stages than `Open`, when the stage began.
    since: Tick,
    /// The stage at the end of the last turn.
    stage: Stage,
    pub(crate) schedule: Schedule,
}

/// ```text
///   Preface ───► Handshake ───► Open ───► Lingering ───► (dropped)
///      │             └── refused, answered ──▲               ▲
///      └── malformed, late ──────────────────────────────────┘
/// ```
#[derive(Debug)]
enum Phase<H: Handler> {
    /// The header of the PROXY protocol is incomplete.
    Preface(Box<Preface>),
    /// The request is incomplete.
    Handshake(Box<Opening>),
    /// Messages flow, or the closing handshake is in progress.
    Open(Open<H>),
    /// The last bytes are sent, and input is discarded.
    Lingering(Lingering),
}

impl<T: Transport, H: Handler> Connection<T, H> {
    /// A connection from `origin`.
    pub(crate) fn new(transport: T, origin: Origin, config: &Config, now: Tick) -> Self {
        let mut wire = Wire::new(transport);
        let phase = match config.proxy_protocol {
            true => Phase::Preface(Box::new(Preface::new(origin))),
            false => {
                if let Some(config) = &origin.tls {
                    wire.start_tls(config, &[]);
                }
                Phase::Handshake(Box::new(Opening::new(origin.address)))
            }
        };
        Self { wire, phase, since: now, stage: Stage::Handshake, schedule: Schedule::new(now) }
    }

    /// An edge arrived.
    pub(crate) fn ready(
        &mut self,
        readiness: Readiness,
        scratch: &mut [u8],
        turn: &mut TurnContext<'_, H>,
    ) -> Outcome {
        self.wire.on_edge(readiness);
        if readiness.writable
            && self.wire.has_backlog()
            && let Err(cause) = self.write_backlog(turn)
        {
            return self.terminate(cause, turn);
        }
        // A connection on the runnable list is served from there, so that no batch serves it twice.
        if self.schedule.is_runnable() { Outcome::Wait } else { self.resume(scratch, turn) }
    }

    /// Processes input until it ends, the peer does not take its replies, or the budget is
    /// spent: the rest waits for the next turn, so that other peers are not kept waiting.
    pub(crate) fn resume(&mut self, scratch: &mut [u8], turn: &mut TurnContext<'_, H>) -> Outcome {
        for _ in 0..READS_PER_TURN {
            if !self.wire.wants_read() || turn.events_left == 0 {
                break;
            }
            if self.wire.is_in_tls_handshake() && !turn.tls_handshakes.admit() {
                break;
            }
            if let Err(cause) = self.read(scratch, turn) {
                return self.terminate(cause, turn);
            }
        }
        self.next_turn()
    }

    /// Whether another turn is needed to read.
    fn next_turn(&self) -> Outcome {
        if self.wire.wants_read() { Outcome::Again } else { Outcome::Wait }
    }

    /// Ends a pause of the handler.
    pub(crate) fn resume_reading(&mut self) -> Outcome {
        self.wire.resume_for_handler();
        self.next_turn()
    }

    /// Reads once, and processes the bytes.
    #[inline]
    fn read(
        &mut self,
        scratch: &mut [u8],
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        let direct = match &mut self.phase {
            Phase::Open(_) if self.wire.is_encrypted() => None,
            Phase::Open(open) => open.direct_buffer(&turn.config.limits()),
            Phase::Preface(_) | Phase::Handshake(_) | Phase::Lingering(_) => None,
        };
        let (len, is_direct, is_new) = match self.wire.receive(direct, scratch, turn.config)? {
            Input::Scratch { len, is_new } => (len, false, is_new),
            Input::Direct { len } => (len, true, true),
            Input::EndOfStream => return self.on_end_of_stream(turn),
            Input::WouldBlock => return Ok(()),
            Input::TlsFailed(failure) => return self.on_tls_failure(failure, turn),
        };
        match &mut self.phase {
            Phase::Open(open) => {
                if is_new && open.is_open() {
                    // A received byte proves that the peer is alive. In other stages it must not
                    // extend the time.
                    self.since = turn.now;
                    self.wire.unwatch();
                }
                let mut window = match is_direct {
                    true => open.commit(len),
                    false => open.window(&mut scratch[..HEADROOM_BYTES + len]),
                };
                let end = open.serve(&mut window, &mut self.wire, turn)?;
                self.finish_read(end, &window, turn)
            }
            Phase::Preface(preface) => match preface.receive(&scratch[HEADROOM_BYTES..][..len]) {
                Ok(None) => Ok(()),
                Ok(Some((peer, consumed))) => {
                    self.end_preface(peer, &mut scratch[..HEADROOM_BYTES + len], consumed, turn)
                }
                Err(error) => {
                    preface.warn(error, turn.throttles, turn.now);
                    turn.counters.handshake_failures.count(HandshakeFailure::ProxyHeader);
                    Err(self.drop_silently())
                }
            },
            Phase::Handshake(_) => {
                self.receive_request(&mut scratch[..HEADROOM_BYTES + len], 0, turn)
            }
            Phase::Lingering(_) => Ok(()),
        }
    }

    /// The PROXY header is complete: the rest of the read belongs to the request, or to TLS.
    fn end_preface(
        &mut self,
        peer: Address,
        read: &mut [u8],
        consumed: usize,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        let Phase::Preface(preface) = &mut self.phase else { return Ok(()) };
        let tls = preface.take_tls();
        let rest = &read[HEADROOM_BYTES + consumed..];
        let is_proxy = forwarding::is_trusted(&peer, &turn.config.trusted_proxies);
        let is_refused = !is_proxy && turn.take_place(&peer).is_err();
        let mut opening = Opening::new(peer);
        if is_refused {
            opening.refuse_address(rest, turn);
            if tls.is_some() {
                // An answer would cost a handshake of TLS.
                return Err(self.drop_silently());
            }
            return self.linger_after_response(turn);
        }
        self.phase = Phase::Handshake(Box::new(opening));
        if let Some(config) = tls {
            self.wire.start_tls(&config, rest);
            return Ok(());
        }
        self.receive_request(read, consumed, turn)
    }

    /// Takes the bytes of a read, without the first `skipped` ones, as a part of the request.
    fn receive_request(
        &mut self,
        read: &mut [u8],
        skipped: usize,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        let Phase::Handshake(opening) = &mut self.phase else { return Ok(()) };
        let start = HEADROOM_BYTES + skipped;
        match opening.receive(&read[start..], &self.wire.endpoint(), turn) {
            None => Ok(()),
            Some((HandshakeOutcome::Responded, _)) => self.linger_after_response(turn),
            Some((HandshakeOutcome::Open(open, peer), consumed)) => {
                let window = Window::new(read, start + consumed);
                self.open(open, &peer, window, turn)
            }
        }
    }

    /// Sends the replies to a read.
    #[inline(always)]
    fn finish_read(
        &mut self,
        end: Option<End>,
        window: &Window<'_>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        match end {
            None => {
                self.flush(window.run(), turn)?;
                if !window.is_empty() {
                    self.wire.unread(window.unread());
                }
                Ok(())
            }
            Some(end) => {
                self.linger(&end.event(window), turn);
                self.flush(window.run(), turn)
            }
        }
    }

    /// Opens the connection. `window` holds the bytes behind the request.
    fn open(
        &mut self,
        mut open: Open<H>,
        peer: &Address,
        mut window: Window<'_>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        turn.counters.opened.add(1);
        // Before the callback, which may pass the id to other threads.
        turn.peers.insert(turn.id);
        let result = open
            .on_open(peer, &mut window, &mut self.wire, turn)
            .and_then(|()| open.serve(&mut window, &mut self.wire, turn));
        // Set after an error too, because every `on_open` is followed by an `on_close`.
        self.phase = Phase::Open(open);
        self.finish_read(result?, &window, turn)
    }

    /// Sends the turn's bytes: the workspace's `out`, then `run`. The backlog takes those that the
    /// kernel refuses.
    #[inline]
    fn flush(&mut self, run: &[u8], turn: &mut TurnContext<'_, H>) -> Result<(), CloseCause> {
        self.wire.flush(run, turn)?;
        match &mut self.phase {
            Phase::Preface(_) | Phase::Handshake(_) => Ok(()),
            Phase::Open(open) => {
                open.pause_if_above_high_mark(&mut self.wire, turn.config);
                Ok(())
            }
            Phase::Lingering(lingering) => lingering.finish_if_flushed(&mut self.wire),
        }
    }

    /// A writable edge: sends the backlog.
    fn write_backlog(&mut self, turn: &mut TurnContext<'_, H>) -> Result<(), CloseCause> {
        let has_drained = self.wire.write_backlog(turn)?;
        match &mut self.phase {
            Phase::Open(open) if has_drained => open.on_drained(&mut self.wire, turn),
            Phase::Preface(_) | Phase::Handshake(_) | Phase::Open(_) => Ok(()),
            Phase::Lingering(lingering) => lingering.finish_if_flushed(&mut self.wire),
        }
    }

    /// Bytes of messages and replies that the kernel has not taken yet.
    #[inline]
    fn queued_bytes(&self) -> usize {
        match &self.phase {
            Phase::Open(open) => self.wire.backlog_bytes().total + open.deferred_bytes(),
            Phase::Preface(_) | Phase::Handshake(_) | Phase::Lingering(_) => 0,
        }
    }

    /// The bytes that wait for the peer, and whether a pause keeps the connection from being read.
    #[inline]
    pub(crate) fn flow(&self) -> Flow {
        Flow { queued_bytes: self.queued_bytes(), is_paused: self.wire.is_paused() }
    }

    /// Whether the handshake has succeeded, and messages can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.is_open())
    }

    /// Sends the messages that wait for this connection, before everything else in its turn.
    pub(crate) fn take_deliveries(&mut self, turn: &mut TurnContext<'_, H>) -> Outcome {
        let result = match &mut self.phase {
            Phase::Open(open) => open.take_deliveries(&mut self.wire, turn),
            Phase::Preface(_) | Phase::Handshake(_) | Phase::Lingering(_) => {
                turn.fanout.deliveries.clear(turn.id.slot, turn.counters);
                Ok(())
            }
        };
        self.outcome(result, turn)
    }

    /// Starts the closing handshake from outside a callback; before the upgrade, refuses it.
    pub(crate) fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        turn: &mut TurnContext<'_, H>,
    ) -> Outcome {
        let result = match &mut self.phase {
            Phase::Preface(_) => {
                turn.counters.turned_away.add(1);
                turn.counters.handshake_failures.count(HandshakeFailure::ShuttingDown);
                Err(self.drop_silently())
            }
            Phase::Handshake(opening) => {
                turn.counters.turned_away.add(1);
                turn.counters.handshake_failures.count(HandshakeFailure::ShuttingDown);
                opening.write_response(&Response::text(503, "the server is shutting down"), turn);
                self.linger_after_response(turn)
            }
            Phase::Open(open) => {
                open.close(code, reason, self.wire.flow().1, turn);
                self.flush(&[], turn)
            }
            Phase::Lingering(_) => Ok(()),
        };
        self.outcome(result, turn)
    }

    /// The deadline that the handler set has passed.
    pub(crate) fn on_deadline(&mut self, turn: &mut TurnContext<'_, H>) -> Outcome {
        let result = match &mut self.phase {
            Phase::Open(open) if open.is_open() => {
                open.on_deadline(&mut self.wire, turn).and_then(|()| self.flush(&[], turn))
            }
            _ => Ok(()),
        };
        self.outcome(result, turn)
    }

    /// The deadline of the current stage has come.
    pub(crate) fn expire(&mut self, turn: &mut TurnContext<'_, H>) -> Outcome {
        let result = match &mut self.phase {
            Phase::Preface(preface) => {
                turn.counters.handshake_timeouts.add(1);
                turn.counters.handshake_failures.count(HandshakeFailure::Timeout);
                log::debug!("{} is dropped: its PROXY header took too long", preface.proxy());
                Err(self.drop_silently())
            }
            Phase::Handshake(opening) => {
                turn.counters.handshake_timeouts.add(1);
                turn.counters.handshake_failures.count(HandshakeFailure::Timeout);
                log::debug!("{} is refused with 408: its request took too long", opening.peer());
                opening.write_response(&Response::text(408, "the request took too long"), turn);
                self.linger_after_response(turn)
            }
            Phase::Open(open) if open.is_open() => {
                match open.check_idle(self.since, &mut self.wire, turn) {
                    Ok(Some(end)) => self.close_idle(&end, turn),
                    Ok(None) => Ok(()),
                    Err(cause) => Err(cause),
                }
            }
            Phase::Open(open) => {
                let deferred_bytes = open.deferred_bytes();
                let result = self.check_close(deferred_bytes, turn);
                let is_over = result == Err(CloseCause::CloseTimeout);
                turn.counters.close_timeouts.add(u64::from(is_over));
                result
            }
            Phase::Lingering(_) => {
                let result = self.check_close(0, turn);
                let is_over = result == Err(CloseCause::CloseTimeout);
                turn.counters.linger_timeouts.add(u64::from(is_over));
                result
            }
        };
        self.outcome(result, turn)
    }

    /// Sends the close frame to a silent peer, unless the kernel refuses it.
    fn close_idle(&mut self, end: &End, turn: &mut TurnContext<'_, H>) -> Result<(), CloseCause> {
        // It ended by the clock, so its reason is in no window.
        let window = Window::new(&mut [], 0);
        let event = end.event(&window);
        self.linger(&event, turn);
        self.flush(&[], turn)?;
        if self.wire.has_backlog() { Err(event.cause) } else { Ok(()) }
    }

    /// Checks whether the peer acknowledges the bytes up to our close frame or last response.
    fn check_close(
        &mut self,
        deferred_bytes: usize,
        turn: &TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        let progress = self.wire.progress(deferred_bytes)?;
        let (stage, since) = (self.stage, self.since);
        let watch = self.wire.watch_mut(|| stage.watch(progress, since));
        watch.look(progress, turn.now);
        match stage.close_expiry(since, watch, turn.config) <= turn.now {
            true => Err(CloseCause::CloseTimeout),
            false => Ok(()),
        }
    }

    /// The peer's stream has ended. Bytes for the peer are still sent.
    fn on_end_of_stream(&mut self, turn: &mut TurnContext<'_, H>) -> Result<(), CloseCause> {
        let cause = CloseCause::EndOfStream;
        match &self.phase {
            Phase::Preface(_) | Phase::Handshake(_) => return Err(cause),
            Phase::Open(_) => self.linger(&CloseEvent::abnormal(cause), turn),
            Phase::Lingering(_) => {}
        }
        if let Phase::Lingering(lingering) = &mut self.phase {
            lingering.on_end_of_stream();
            lingering.finish_if_flushed(&mut self.wire)?;
        }
        Ok(())
    }

    /// TLS has ended with an error: the peer gets the alert and the end of the stream. One that speaks
    /// no TLS gets a response that it understands.
    #[cold]
    fn on_tls_failure(
        &mut self,
        failure: TlsFailure,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        match &self.phase {
            Phase::Handshake(opening) => {
                log::debug!("{} is refused: {failure}", opening.peer());
                turn.counters.refused.add(1);
                turn.counters.handshake_failures.count(HandshakeFailure::Tls);
                if failure.is_of_plain_peer() {
                    self.wire.end_tls();
                    opening.write_response(&Response::text(400, "this port needs TLS"), turn);
                    return self.linger_after_response(turn);
                }
            }
            Phase::Open(_) => log::debug!("peer {}: {failure}", turn.id),
            Phase::Preface(_) | Phase::Lingering(_) => return Ok(()),
        }
        self.wire.discard_backlog();
        self.linger(&CloseEvent::abnormal(failure.cause()), turn);
        self.flush(&[], turn)
    }

    /// Sends the response in the workspace instead of opening the connection, and ends it.
    fn linger_after_response(&mut self, turn: &mut TurnContext<'_, H>) -> Result<(), CloseCause> {
        self.phase = Phase::Lingering(Lingering::default());
        self.flush(&[], turn)
    }

    /// Prepares for the end of a connection without an answer, since its protocol is unknown. Returns
    /// the cause.
    fn drop_silently(&mut self) -> CloseCause {
        self.phase = Phase::Lingering(Lingering::default());
        CloseCause::Local
    }

    /// Messages end here: tells the handler, and discards input from now on.
    fn linger(&mut self, event: &CloseEvent<'_>, turn: &mut TurnContext<'_, H>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Lingering(Lingering::default()));
        if let Phase::Open(open) = phase {
            open.end(event, turn);
            self.wire.resume_for_handler();
        }
    }

    /// Ends the connection at once: nothing more can be sent or received.
    pub(crate) fn terminate(
        &mut self,
        cause: CloseCause,
        turn: &mut TurnContext<'_, H>,
    ) -> Outcome {
        turn.workspace.clear();
        if matches!(self.phase, Phase::Preface(_) | Phase::Handshake(_)) {
            turn.counters.handshake_failures.count(HandshakeFailure::Disconnected);
        }
        if cause == CloseCause::BacklogOverflow && matches!(self.phase, Phase::Open(_)) {
            turn.counters.backlog_overflows.add(1);
            let (id, max) = (turn.id, turn.config.backlog_bytes_max);
            if let Some(suppressed) = turn.throttles.overflows.admit(turn.now) {
                log::warn!(
                    "peer {id} is dropped: more than {max} bytes (backlog_bytes_max) from the program were queued for it{suppressed}"
                );
            }
        }
        self.linger(&CloseEvent::abnormal(cause), turn);
        Outcome::Closed
    }

    fn outcome(
        &mut self,
        result: Result<(), CloseCause>,
        turn: &mut TurnContext<'_, H>,
    ) -> Outcome {
        match result {
            // The turn may have ended a pause of the handler.
            Ok(()) => self.next_turn(),
            Err(cause) => self.terminate(cause, turn),
        }
    }

    #[inline]
    fn current_stage(&self) -> Stage {
        match &self.phase {
            Phase::Preface(_) | Phase::Handshake(_) => Stage::Handshake,
            Phase::Open(open) => match open.close_frame() {
                CloseFrame::NotSent => Stage::Open,
                CloseFrame::Deferred => Stage::CloseDeferred,
                CloseFrame::Sent => Stage::CloseSent,
            },
            Phase::Lingering(_) => Stage::Lingering,
        }
    }

    /// At the end of a turn: a new stage starts its time. Returns the deadline if it comes before
    /// the connection's entry in the timing wheel. Without a change of the stage a deadline only
    /// moves away (see [`Stage::deadline`]), and the entry may stay.
    #[inline]
    pub(crate) fn end_turn(&mut self, config: &Config, now: Tick) -> Option<Tick> {
        let stage = self.current_stage();
        if stage == self.stage {
            return None;
        }
        self.enter(stage, now);
        Some(self.deadline(config)).filter(|deadline| self.schedule.is_late_for(*deadline))
    }

    #[cold]
    fn enter(&mut self, stage: Stage, now: Tick) {
        debug_assert!(stage != Stage::Handshake, "no connection returns to its handshake");
        self.stage = stage;
        self.since = now;
        self.wire.unwatch();
        let deferred_bytes = match &self.phase {
            Phase::Open(open) if stage.awaits_close() => open.deferred_bytes(),
            _ => return,
        };
        // If this fails, the next look reports the cause.
        if let Ok(progress) = self.wire.progress(deferred_bytes) {
            self.wire.watch_mut(|| stage.watch(progress, now)).look(progress, now);
        }
    }

    /// When [`expire`](Self::expire) is due, unless something is received before.
    pub(crate) fn deadline(&self, config: &Config) -> Tick {
        self.stage.deadline(self.since, self.wire.watch(), config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Echo;

    #[test]
    fn an_idle_connection_is_small() {
        assert_eq!(size_of::<Connection<std::net::TcpStream, Echo>>(), 48);
    }
}

//! An open connection: takes frames from a window, lets the handler answer, lays out the replies.

use std::fmt;
use std::ops::Range;

use super::guard::guarded;
use super::liveness::{AckWatch, SentPing};
use super::tick::Tick;
use super::transport::Transport;
use super::turn::TurnContext;
use super::wire::Wire;
use crate::config::Config;
use crate::connection_info::{Address, ConnectionInfo};
use crate::context::Context;
use crate::fanout::deliveries::Delivery;
use crate::fanout::slow_consumer::SlowConsumer;
use crate::handler::{CloseCause, CloseEvent, Handler, Reply};
use crate::peer::{BacklogBytes, Outbox, Peer, ReadPauses};
use crate::protocol::{
    CloseCode, CloseFrame, Event, Limits, ProtocolError, ReceivedMessage, Run, Session, Window,
};

/// A connection after its opening handshake: the protocol's state and the handler's.
pub(super) struct Open<H: Handler> {
    session: Session,
    state: H::State,
}

impl<H: Handler> fmt::Debug for Open<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("session", &self.session).finish_non_exhaustive()
    }
}

/// The end of a session, by its last event.
#[derive(Debug)]
pub(super) struct End {
    code: CloseCode,
    /// The place of the peer's reason in the window.
    reason: Range<usize>,
    cause: CloseCause,
}

impl End {
    /// An end without a close frame from the peer.
    const fn new(code: CloseCode, cause: CloseCause) -> Self {
        Self { code, reason: 0..0, cause }
    }

    /// The event for the handler. `window` is the one that the session ended in.
    pub(super) fn event<'w>(&self, window: &'w Window<'_>) -> CloseEvent<'w> {
        // The session has validated it.
        let reason = std::str::from_utf8(window.bytes(&self.reason)).unwrap_or_default();
        CloseEvent { code: self.code, reason, cause: self.cause }
    }
}

impl<H: Handler> Open<H> {
    pub(super) const fn new(session: Session, state: H::State) -> Self {
        Self { session, state }
    }

    /// Whether messages can still be sent: no close frame has been sent yet.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.session.is_open()
    }

    #[inline]
    pub(super) fn close_frame(&self) -> CloseFrame {
        self.session.close_frame()
    }

    /// Bytes in the session that wait for the end of a streamed frame or message.
    pub(super) fn deferred_bytes(&self) -> usize {
        self.session.deferred_bytes()
    }

    /// Memory of a large incomplete message, for the next read.
    #[inline]
    pub(super) fn direct_buffer(&mut self, limits: &Limits) -> Option<&mut [u8]> {
        self.session.direct_buffer(limits)
    }

    /// Takes `len` bytes that were read into the direct buffer. They have no window.
    pub(super) fn commit(&mut self, len: usize) -> Window<'static> {
        self.session.commit(len);
        Window::new(&mut [], 0)
    }

    /// Opens a window over a read, which lies in `read` behind the headroom.
    #[inline]
    pub(super) fn window<'b>(&mut self, read: &'b mut [u8]) -> Window<'b> {
        self.session.window(read)
    }

    /// Tells the handler that the connection is open.
    pub(super) fn on_open<T: Transport>(
        &mut self,
        address: &Address,
        window: &mut Window<'_>,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        let (backlog, (endpoint, pauses)) = (wire.backlog_bytes(), wire.split());
        let info = ConnectionInfo::new(address, &endpoint);
        #[cfg(feature = "deflate")]
        let info = info.with_deflate(self.session.deflate());
        self.notify(window, backlog, pauses, turn, |handler, peer| handler.on_open(peer, info))
    }

    /// Tells the handler that the peer's deadline has passed.
    pub(super) fn on_deadline<T: Transport>(
        &mut self,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        let mut window = Window::new(&mut [], 0);
        let (backlog, pauses) = wire.flow();
        self.notify(&mut window, backlog, pauses, turn, Handler::on_deadline)
    }

    /// Tells the handler that the backlog is below the low mark again.
    #[cold]
    pub(super) fn on_drained<T: Transport>(
        &mut self,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        if !self.session.is_open() {
            return Ok(());
        }
        turn.counters.drained.add(1);
        let mut window = Window::new(&mut [], 0);
        let (backlog, pauses) = wire.flow();
        self.notify(&mut window, backlog, pauses, turn, Handler::on_drained)?;
        self.flush_out(wire, turn)
    }

    /// Tells the handler the round trip, if this pong answers the last keepalive ping.
    #[cold]
    fn take_pong<T: Transport>(
        &mut self,
        payload: &Range<usize>,
        window: &mut Window<'_>,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        let Some(ping) = wire.take_ping(window.bytes(payload)) else { return Ok(()) };
        if !self.session.is_open() {
            return Ok(());
        }
        let round_trip = turn.instant.saturating_duration_since(ping.sent);
        turn.counters.round_trips.count(round_trip);
        let (backlog, pauses) = wire.flow();
        self.notify(window, backlog, pauses, turn, |handler, peer| {
            handler.on_pong(peer, round_trip)
        })
    }

    /// Makes a call that no message causes. A panic in it closes the connection.
    fn notify(
        &mut self,
        window: &mut Window<'_>,
        backlog: BacklogBytes,
        pauses: &mut ReadPauses,
        turn: &mut TurnContext<'_, H>,
        callback: impl FnOnce(&mut H, &mut Peer<'_, H::State>),
    ) -> Result<(), CloseCause> {
        let guard = turn.guard();
        let result =
            guarded(guard, || self.call(window.split().1, backlog, pauses, turn, callback));
        if result.is_none() {
            window.move_run(turn.workspace);
            self.send_own_copies(turn);
            self.close_after_panic(pauses, turn);
        }
        if turn.sends.overflowed { Err(CloseCause::BacklogOverflow) } else { Ok(()) }
    }

    /// Calls the handler with this connection as its peer. `run` holds the replies so far.
    #[inline(always)]
    fn call<R>(
        &mut self,
        run: Run<'_>,
        backlog: BacklogBytes,
        pauses: &mut ReadPauses,
        turn: &mut TurnContext<'_, H>,
        callback: impl FnOnce(&mut H, &mut Peer<'_, H::State>) -> R,
    ) -> R {
        let outbox = Outbox {
            session: &mut self.session,
            run,
            workspace: turn.workspace,
            backlog,
            backlog_bytes_max: turn.config.backlog_bytes_max,
            sends: &mut turn.sends,
            counts: &mut turn.counts,
            pauses,
        };
        let events_before = turn.fanout.events;
        let context = Context::new(turn.id, turn.fanout);
        let mut peer = Peer::new(turn.id, &mut self.state, outbox, context, turn.deadlines);
        let result = callback(turn.handler, &mut peer);
        peer.send_own_copies();
        // Requests count as events, so that a turn of many messages cannot collect them unbounded.
        let events = turn.fanout.events - events_before;
        if events > 0 {
            turn.charge(events);
        }
        result
    }

    /// Takes the events of `window` and lays out the replies. Returns how the session ended, if it
    /// did.
    #[inline]
    pub(super) fn serve<T: Transport>(
        &mut self,
        window: &mut Window<'_>,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<Option<End>, CloseCause> {
        match guarded(turn.guard(), || self.take_events(window, wire, turn)) {
            Some(result) => result,
            None => {
                // Every reply and message before the panic goes out, then 1011.
                window.move_run(turn.workspace);
                self.send_own_copies(turn);
                self.close_after_panic(wire.flow().1, turn);
                // After the close frame messages are skipped, so the handler is not called again.
                self.take_events(window, wire, turn)
            }
        }
    }

    fn take_events<T: Transport>(
        &mut self,
        window: &mut Window<'_>,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<Option<End>, CloseCause> {
        let limits = turn.config.limits();
        while self.session.has_input(window) && !wire.is_paused() && turn.events_left > 0 {
            turn.events_left -= 1;
            let mut deferred_bytes = 0;
            let event = match self.session.next_whole_message(window, &limits, turn.workspace) {
                Ok(Some(received)) => {
                    self.deliver(received, window, wire, turn)?;
                    continue;
                }
                Ok(None) => {
                    deferred_bytes = self.session.deferred_bytes();
                    let event = self.session.next_event_slow(window, &limits, turn.workspace);
                    #[cfg(feature = "deflate")]
                    turn.charge_inflated();
                    event
                }
                Err(error) => Err(error),
            };
            match event {
                Ok(Some(Event::Message(received))) => {
                    self.deliver_late(received, window, wire, turn)?;
                }
                Ok(Some(Event::Streamed { payload_len, message_end })) => {
                    if self.session.is_open() {
                        // Messages that waited for this end are in the workspace now.
                        turn.sends.bytes += deferred_bytes - self.session.deferred_bytes();
                    }
                    turn.counts.messages_in += u64::from(message_end);
                    turn.counts.messages_out += u64::from(message_end);
                    turn.counts.bytes_in += payload_len as u64;
                    turn.counts.bytes_out += payload_len as u64;
                }
                Ok(Some(Event::Pong(payload))) => self.take_pong(&payload, window, wire, turn)?,
                Ok(Some(Event::Fragment | Event::Ping)) => {}
                Ok(Some(Event::Close { code, reason, answers_ours })) => {
                    let code = code.unwrap_or(CloseCode::NO_STATUS);
                    turn.counters.close_codes_received.count(code);
                    let cause = match answers_ours {
                        true => CloseCause::Local,
                        false => {
                            // The answer has the same code (RFC 6455 5.5.1).
                            turn.counts.close_sent = Some(code);
                            CloseCause::Peer
                        }
                    };
                    return Ok(Some(End { code, reason, cause }));
                }
                Ok(None) => break,
                Err(error) => return Ok(Some(self.fail(error, turn))),
            }
        }
        Ok(None)
    }

    /// [`deliver`](Self::deliver) for a message that came in parts, out of line to keep the loop
    /// above small.
    #[cold]
    #[inline(never)]
    fn deliver_late<T: Transport>(
        &mut self,
        received: ReceivedMessage,
        window: &mut Window<'_>,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        self.deliver(received, window, wire, turn)
    }

    /// Lends a message to the handler, and echoes it if the handler asks for that.
    #[inline(always)]
    fn deliver<T: Transport>(
        &mut self,
        received: ReceivedMessage,
        window: &mut Window<'_>,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        debug_assert!(self.session.is_open(), "no message is delivered after our close frame");
        let (message, run) = received.lend_with_run(window);
        let len = message.as_bytes().len();
        turn.counts.messages_in += 1;
        turn.counts.bytes_in += len as u64;
        let (backlog, pauses) = wire.flow();
        let reply = self
            .call(run, backlog, pauses, turn, |handler, peer| handler.on_message(peer, message));
        // The callback may have closed the connection: then the echo would follow the close frame.
        if reply == Reply::Echo && self.session.is_open() {
            turn.counts.messages_out += 1;
            turn.counts.bytes_out += len as u64;
            received.echo(window, turn.workspace);
        } else {
            received.recycle(turn.workspace);
        }
        if turn.sends.overflowed {
            return Err(CloseCause::BacklogOverflow);
        }
        // A handler may send much for each message: this bounds the workspace.
        if turn.workspace.out.len() >= turn.config.backlog_bytes_high {
            self.flush_out(wire, turn)?;
        }
        Ok(())
    }

    /// Sends the workspace's `out` before the turn ends.
    fn flush_out<T: Transport>(
        &self,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        wire.flush(&[], turn)?;
        self.pause_if_above_high_mark(wire, turn.config);
        Ok(())
    }

    /// Pauses reading if the peer takes too little.
    #[inline]
    pub(super) fn pause_if_above_high_mark<T: Transport>(
        &self,
        wire: &mut Wire<T>,
        config: &Config,
    ) {
        // Without a backlog no writable edge would come to end the pause.
        if wire.has_backlog() {
            wire.pause_if_above_high_mark(self.session.in_progress_bytes(), config);
        }
    }

    /// Sends the messages of other connections and threads that wait for this connection.
    pub(super) fn take_deliveries<T: Transport>(
        &mut self,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        debug_assert!(turn.workspace.out.is_empty(), "no earlier bytes of this turn are unsent");
        let refused_bytes = wire.backlog_bytes().program;
        // Several are queued first, so that one call writes them.
        let is_gathered = !wire.has_backlog() && turn.fanout.deliveries.has_several(turn.id.slot);
        while let Some(delivery) = turn.fanout.deliveries.take(turn.id.slot) {
            if !self.session.is_open() {
                delivery.count_stale(turn.counters);
                continue;
            }
            let Delivery { frames, source } = delivery;
            if wire.is_slow() && source.policy() == SlowConsumer::Skip {
                turn.counters.skipped.add(frames.messages().into());
                continue;
            }
            if refused_bytes + self.session.deferred_bytes() > turn.config.backlog_bytes_max {
                return Err(CloseCause::BacklogOverflow);
            }
            turn.counts.messages_out += u64::from(frames.messages());
            turn.counts.bytes_out += frames.payload_bytes() as u64;
            turn.counters.delivered.add(frames.messages().into());
            if source.policy() != SlowConsumer::Close {
                wire.limit_unsent()?;
            }
            if self.session.defer(&frames.bytes()) {
                continue;
            }
            if is_gathered {
                wire.queue_shared(frames, source, 0, turn.counters);
            } else {
                wire.send_shared(frames, source, turn.counters)?;
                self.pause_if_above_high_mark(wire, turn.config);
            }
        }
        if is_gathered {
            wire.write_backlog(turn)?;
            self.pause_if_above_high_mark(wire, turn.config);
        }
        wire.check_program_bytes(turn.config)
    }

    /// Sends the messages that a callback published to its own connection before it panicked.
    fn send_own_copies(&mut self, turn: &mut TurnContext<'_, H>) {
        for message in std::mem::take(&mut turn.fanout.own) {
            if !self.session.is_open() {
                continue;
            }
            turn.counts.messages_out += 1;
            turn.counts.bytes_out += message.payload_len() as u64;
            if !self.session.defer(message.as_frame()) {
                turn.workspace.out.extend_from_slice(message.as_frame());
                turn.sends.bytes += message.as_frame().len();
            }
        }
    }

    /// Starts the closing handshake: the close frame goes to the workspace.
    /// A pause of the handler ends, because the peer's close frame has to be read.
    pub(super) fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        pauses: &mut ReadPauses,
        turn: &mut TurnContext<'_, H>,
    ) {
        if self.session.close(code, reason, turn.workspace) {
            turn.counts.close_sent = Some(code);
        }
        pauses.clear(ReadPauses::HANDLER);
    }

    fn close_after_panic(&mut self, pauses: &mut ReadPauses, turn: &mut TurnContext<'_, H>) {
        // Sends nothing if the callback had closed the connection before it panicked.
        self.close(CloseCode::INTERNAL_ERROR, "", pauses, turn);
    }

    /// The peer has been silent, at least since `since`: sends a ping, and checks for
    /// acknowledgements. If they too have stopped for long enough, the connection ends: after a
    /// close frame if the peer's TCP has acknowledged everything before it, otherwise at once.
    ///
    /// If the handler has paused reading, an answer may be among the unread bytes. Then the peer is
    /// pinged again and again, and acknowledgements of all bytes that can be sent are enough: those
    /// behind the rest of a streamed frame, which is not read, cannot.
    pub(super) fn check_idle<T: Transport>(
        &mut self,
        since: Tick,
        wire: &mut Wire<T>,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<Option<End>, CloseCause> {
        let is_held = wire.handler_holds_back_input();
        let is_stuck = is_held && self.session.is_mid_frame();
        let sends_pings = turn.config.sends_pings() && !is_stuck;
        let deferred_bytes = if is_held { 0 } else { self.session.deferred_bytes() };
        let pause = turn.config.silence_before_look();
        if is_held && wire.watch().is_some_and(|watch| watch.is_answered_for(pause, turn.now)) {
            wire.unwatch();
        }
        if wire.watch().is_none() && sends_pings {
            let ping = SentPing::new(turn.id, turn.instant);
            self.session.ping(&ping.payload, turn.workspace);
            wire.expect_pong(ping);
            self.flush_out(wire, turn)?;
        }
        let progress = wire.progress(deferred_bytes)?;
        let holds_back_input = wire.holds_back_input();
        let watch = wire.watch_mut(|| match sends_pings {
            true => AckWatch::new(Some(progress.end), turn.now),
            false => AckWatch::new(None, since),
        });
        if holds_back_input {
            // The pong may be among the unread bytes.
            watch.extend(progress);
        }
        watch.look(progress, turn.now);
        if is_held && progress.is_complete() {
            watch.restart_timeout(turn.now);
        }
        if watch.expiry(turn.config.unanswered_timeout()) > turn.now {
            return Ok(None);
        }
        let listens = watch.is_complete() || progress.is_complete();
        let cause = CloseCause::IdleTimeout;
        turn.counters.idle_timeouts.add(1);
        if !listens || wire.has_backlog() || self.session.is_mid_frame() {
            return Err(cause);
        }
        if self.session.close(CloseCode::GOING_AWAY, "idle timeout", turn.workspace) {
            turn.counts.close_sent = Some(CloseCode::GOING_AWAY);
        }
        Ok(Some(End::new(CloseCode::ABNORMAL, cause)))
    }

    /// The peer broke the protocol or a limit; the close frame is in the workspace.
    #[cold]
    fn fail(&self, error: ProtocolError, turn: &mut TurnContext<'_, H>) -> End {
        turn.counters.protocol_errors.add(1);
        if !self.session.has_failed_silently() {
            turn.counts.close_sent = Some(error.close_code());
        }
        End::new(error.close_code(), CloseCause::Protocol(error))
    }

    /// The connection has ended: tells the handler.
    pub(super) fn end(self, event: &CloseEvent<'_>, turn: &mut TurnContext<'_, H>) {
        turn.counters.closed.add(1);
        // Before the callback: a thread that knows of the end must not find the id open.
        turn.peers.remove(turn.id);
        log::debug!("peer {} closed with {}: {}", turn.id, event.code, event.cause);
        let (guard, id) = (turn.guard(), turn.id);
        turn.fanout.topics.unsubscribe_all(id.slot);
        turn.deadlines.remove(id.slot);
        let mut context = Context::of_worker(id.server, id.worker, turn.fanout);
        guarded(guard, || turn.handler.on_close(&mut context, id, self.state, event));
    }
}

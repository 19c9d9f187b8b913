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

use super::backlog::Backlog;
use super::date::Dates;
use super::guard::{Guard, guarded};
use super::liveness::AckWatch;
use super::throttle::Throttles;
use super::tick::Tick;
use super::transport::{self, ReadResult, Readiness, Transport};
use crate::config::Config;
use crate::handler::{CloseCause, CloseEvent, Handler, Reply};
use crate::peer::{OpenPeers, Outbox, Peer, PeerId, Tally};
use crate::protocol::{
    CloseCode, Event, HEADROOM_BYTES, HeadReader, ReceivedMessage, Session, Window, Workspace,
};
use crate::stats::Counters;

/// Reads of one connection before the others get their turn. A large message is better taken at
/// once than in turns with others: memory is used again while it is in the cache.
const READS_PER_TURN: usize = 4;

/// What is read at least, however little the backlog leaves of its high mark: less takes more calls
/// than it saves memory.
const READ_BYTES_MIN: usize = 16 * 1024;

/// Events of one connection before the others get their turn. A read of ordinary messages has
/// fewer; one of empty frames has ten times as many, and would keep the others waiting.
pub(crate) const EVENTS_PER_TURN: u32 = 4096;

/// What a worker lends to a connection for one turn.
pub(crate) struct Turn<'t, H> {
    pub(crate) id: PeerId,
    pub(crate) handler: &'t mut H,
    /// The list in which other threads look up open connections.
    pub(crate) peers: &'t OpenPeers,
    /// Its `out` goes on the wire before the window's run; empty between turns.
    pub(crate) workspace: &'t mut Workspace,
    pub(crate) config: &'t Config,
    pub(crate) counters: &'t Counters,
    pub(crate) throttles: &'t Throttles,
    pub(crate) now: Tick,
    pub(crate) dates: &'t mut Dates,
    /// What is left of the budget.
    pub(crate) events_left: u32,
    pub(crate) tally: Tally,
}

impl<'t, H> Turn<'t, H> {
    /// Who is to blame for a panic, and where it is reported.
    #[inline]
    pub(super) const fn guard(&self) -> Guard<'t> {
        Guard { id: self.id, now: self.now, counters: self.counters, throttles: self.throttles }
    }

    /// Adds what came of the turn to the worker's counters.
    #[inline]
    pub(crate) fn count(&self) {
        self.counters.messages_in.add(self.tally.messages_in);
        self.counters.bytes_in.add(self.tally.bytes_in);
        self.counters.messages_out.add(self.tally.messages_out);
        self.counters.bytes_out.add(self.tally.bytes_out);
    }
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
    /// What was read and not looked at, because the peer does not take the answers to what came
    /// before it, or because the turn was over: at most one read.
    held: Option<Held>,
    /// Set by the first check for acknowledgements; cleared when a byte is received, or when the
    /// phase changes.
    pub(super) watch: Option<Box<AckWatch>>,
    /// When the last byte was received; in the handshake and after a close frame, when that phase
    /// began.
    pub(super) since: Tick,
    /// When the worker's timers bring it up.
    scheduled: Tick,
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

/// Bytes of a read that wait for the next turn. Boxed twice, so that a connection without them is
/// eight bytes smaller.
#[derive(Debug)]
struct Held(Box<Box<[u8]>>);

/// What a connection remembers from turn to turn.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// An edge said readable, and no read has found the end of it.
    pub(super) readable: bool,
    /// A short read does not mean that nothing is left: see [`Readiness::reads_to_end`].
    pub(super) reads_to_end: bool,
    /// The end of the stream has been read.
    pub(super) end_of_stream: bool,
    /// The end of our direction has been sent.
    pub(super) write_closed: bool,
    /// The backlog has exceeded its high mark and not yet fallen below the low one.
    pub(super) paused: bool,
    /// On the worker's list for another turn.
    pub(super) queued: bool,
    /// The deadline may be nearer than the one that the worker knows.
    pub(super) deadline_moved: bool,
}

impl<T: Transport, S> Connection<T, S> {
    pub(crate) fn new(transport: T, address: SocketAddr, now: Tick) -> Self {
        let phase = Phase::Handshake(Box::new(Opening { address, reader: HeadReader::default() }));
        Self {
            transport,
            phase,
            backlog: Backlog::default(),
            held: None,
            watch: None,
            since: now,
            scheduled: now,
            flags: Flags::default(),
        }
    }

    /// An edge arrived.
    pub(crate) fn ready<H: Handler<State = S>>(
        &mut self,
        readiness: Readiness,
        scratch: &mut [u8],
        turn: &mut Turn<'_, H>,
    ) -> Outcome {
        self.flags.readable |= readiness.readable || readiness.reads_to_end;
        self.flags.reads_to_end |= readiness.reads_to_end;
        if readiness.writable
            && !self.backlog.is_empty()
            && let Err(cause) = self.write_backlog(turn)
        {
            return self.gone(cause, turn);
        }
        // On the list it has its turn anyway, and nobody has two.
        if self.flags.queued { Outcome::Wait } else { self.resume(scratch, turn) }
    }

    /// Whether this is news to the worker's `again` list.
    pub(crate) const fn enqueue(&mut self) -> bool {
        !std::mem::replace(&mut self.flags.queued, true)
    }

    /// The worker has taken it from its `again` list.
    pub(crate) const fn dequeue(&mut self) {
        self.flags.queued = false;
    }

    /// The deadline, if it is nearer than what is scheduled.
    #[inline]
    pub(crate) fn nearer_deadline(&mut self, config: &Config, now: Tick) -> Option<Tick> {
        if !std::mem::replace(&mut self.flags.deadline_moved, false) {
            return None;
        }
        self.watch_close_frame(now);
        Some(self.deadline(config)).filter(|due| *due < self.scheduled)
    }

    /// The deadline is in the worker's timers, where it comes up at `due`.
    pub(crate) const fn scheduled(&mut self, due: Tick) {
        self.scheduled = due;
    }

    /// Whether the entry that came up at `due` is the one that counts.
    pub(crate) fn is_scheduled(&self, due: Tick) -> bool {
        self.scheduled == due
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

    /// Reads and answers until there is nothing to read, the peer does not take its replies, or the
    /// budget is spent: what a peer has sent beyond that waits, so that it makes nobody else wait.
    fn advance<H: Handler<State = S>>(
        &mut self,
        scratch: &mut [u8],
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        for _ in 0..READS_PER_TURN {
            if !self.wants_read() || turn.events_left == 0 {
                break;
            }
            self.read(scratch, turn)?;
        }
        Ok(())
    }

    /// Takes what is held, or reads once.
    #[inline]
    fn read<H: Handler<State = S>>(
        &mut self,
        scratch: &mut [u8],
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        if let Some(Held(held)) = self.held.take() {
            let read = &mut scratch[..HEADROOM_BYTES + held.len()];
            read[HEADROOM_BYTES..].copy_from_slice(&held);
            return self.receive(read, turn);
        }
        let room = match &mut self.phase {
            Phase::Open { session, .. } => session.direct_buffer(&turn.config.limits()),
            _ => None,
        };
        let is_room = room.is_some();
        let free = match room {
            Some(room) => room,
            None if self.backlog.is_empty() => &mut scratch[HEADROOM_BYTES..],
            // What is read now will be queued.
            None => {
                let left = turn.config.backlog_bytes_high.saturating_sub(self.backlog.len());
                let len = left.max(READ_BYTES_MIN).min(scratch.len() - HEADROOM_BYTES);
                &mut scratch[HEADROOM_BYTES..][..len]
            }
        };
        match transport::read(&mut self.transport, free) {
            Ok(ReadResult::Bytes { len, is_drained }) => {
                self.flags.readable = !is_drained || self.flags.reads_to_end;
                self.note_received(turn.now);
                if is_room {
                    self.receive_in_room(len, turn)
                } else {
                    self.receive(&mut scratch[..HEADROOM_BYTES + len], turn)
                }
            }
            Ok(ReadResult::EndOfStream) => self.end_of_stream(turn),
            Ok(ReadResult::WouldBlock) => {
                self.flags.readable = false;
                Ok(())
            }
            Err(error) => Err(CloseCause::transport(error)),
        }
    }

    /// Takes `len` bytes that were read to the room of a large message.
    fn receive_in_room<H: Handler<State = S>>(
        &mut self,
        len: usize,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        if let Phase::Open { session, .. } = &mut self.phase {
            session.commit(len);
        }
        self.serve(Window::new(&mut [], 0), turn)
    }

    /// Takes what was read, which lies in `read` behind the headroom.
    #[inline]
    fn receive<H: Handler<State = S>>(
        &mut self,
        read: &mut [u8],
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        match &mut self.phase {
            Phase::Open { session, .. } => {
                let window = session.window(read);
                self.serve(window, turn)
            }
            Phase::Handshake(_) => self.receive_request(read, turn),
            Phase::Lingering => Ok(()),
        }
    }

    /// Takes the events from `window`, and sends the replies. What is left when the peer does not
    /// take them, or when the turn is over, is held.
    pub(super) fn serve<H: Handler<State = S>>(
        &mut self,
        mut window: Window<'_>,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let events = guarded(turn.guard(), || self.take_events(&mut window, turn));
        match events {
            Some(result) => result?,
            None => {
                self.panicked(&mut window, turn);
                // The session skips messages now: the handler, which panicked, is left alone.
                self.take_events(&mut window, turn)?;
            }
        }
        self.flush(window.run(), turn)?;
        if !window.is_empty() && matches!(self.phase, Phase::Open { .. }) {
            self.held = Some(Held(Box::new(window.unread().into())));
        }
        Ok(())
    }

    fn take_events<H: Handler<State = S>>(
        &mut self,
        window: &mut Window<'_>,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let limits = turn.config.limits();
        while let Phase::Open { session, .. } = &mut self.phase
            && session.has_input(window)
            && !self.flags.paused
            && turn.events_left > 0
        {
            turn.events_left -= 1;
            let mut deferred_bytes = 0;
            let event = match session.next_whole_message(window, &limits, turn.workspace) {
                Ok(Some(received)) => {
                    self.deliver(received, window, turn)?;
                    continue;
                }
                Ok(None) => {
                    deferred_bytes = session.deferred_bytes();
                    session.next_event_slow(window, &limits, turn.workspace)
                }
                Err(error) => Err(error),
            };
            match event {
                Ok(Some(Event::Message(received))) => self.deliver_late(received, window, turn)?,
                Ok(Some(Event::Streamed { payload_len, message_end })) => {
                    if session.is_open() {
                        // Messages deferred to this end are in the workspace now.
                        turn.tally.program_bytes += deferred_bytes - session.deferred_bytes();
                    } else if session.is_closing() && !session.is_mid_frame() {
                        // A close frame that waited for the end of this one goes out now.
                        self.close_sent(turn.now);
                    }
                    turn.tally.messages_in += u64::from(message_end);
                    turn.tally.messages_out += u64::from(message_end);
                    turn.tally.bytes_in += payload_len as u64;
                    turn.tally.bytes_out += payload_len as u64;
                }
                Ok(Some(Event::Fragment | Event::Ping | Event::Pong(_))) => {}
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
        Ok(())
    }

    /// As [`deliver`](Self::deliver), for a message that came in parts: apart, so that the loop
    /// above stays small.
    #[cold]
    #[inline(never)]
    fn deliver_late<H: Handler<State = S>>(
        &mut self,
        received: ReceivedMessage,
        window: &mut Window<'_>,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        self.deliver(received, window, turn)
    }

    /// Lends a message to the handler, and echoes it if it says so.
    #[inline(always)]
    fn deliver<H: Handler<State = S>>(
        &mut self,
        received: ReceivedMessage,
        window: &mut Window<'_>,
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let Phase::Open { session, state } = &mut self.phase else { return Ok(()) };
        let message = received.lend(window);
        let len = message.as_bytes().len();
        turn.tally.messages_in += 1;
        turn.tally.bytes_in += len as u64;
        let outbox = Outbox::new(
            session,
            window.run(),
            turn.workspace,
            self.backlog.bytes(),
            turn.config.backlog_bytes_max,
            &mut turn.tally,
        );
        let reply = turn.handler.on_message(&mut Peer::new(turn.id, state, outbox), message);
        if std::mem::take(&mut turn.tally.run_moved) {
            window.clear_run();
        }
        if !session.is_open() {
            self.close_sent(turn.now);
        } else if reply == Reply::Echo {
            turn.tally.messages_out += 1;
            turn.tally.bytes_out += len as u64;
            received.echo(window, turn.workspace);
        } else {
            received.recycle(turn.workspace);
        }
        if turn.tally.overflowed {
            return Err(CloseCause::BacklogOverflow);
        }
        // A handler may answer much to little: what it says goes out before more is asked.
        if turn.workspace.out.len() >= turn.config.backlog_bytes_high {
            self.flush(&[], turn)?;
        }
        Ok(())
    }

    /// The handler panicked over a message: every reply before it goes out, then 1011.
    #[cold]
    fn panicked<H: Handler<State = S>>(&mut self, window: &mut Window<'_>, turn: &mut Turn<'_, H>) {
        if std::mem::take(&mut turn.tally.run_moved) {
            window.clear_run();
        }
        window.move_run(turn.workspace);
        self.close_for_panic(turn);
    }

    pub(super) fn close_for_panic<H>(&mut self, turn: &mut Turn<'_, H>) {
        let Phase::Open { session, .. } = &mut self.phase else { return };
        // It may have closed the connection itself before it panicked.
        session.close(CloseCode::INTERNAL_ERROR, "", turn.workspace);
        self.close_sent(turn.now);
    }

    /// Sends what the turn has laid out: the out buffer, then `run`. What the kernel refuses is
    /// queued, and above the high mark reading pauses.
    pub(super) fn flush<H>(
        &mut self,
        run: &[u8],
        turn: &mut Turn<'_, H>,
    ) -> Result<(), CloseCause> {
        let program_bytes = std::mem::take(&mut turn.tally.program_bytes);
        let result = self.write_or_queue(turn.workspace, run, program_bytes);
        turn.workspace.clear();
        result?;
        let backlog = self.backlog.bytes();
        if backlog.program > turn.config.owed_bytes_max() {
            return Err(CloseCause::BacklogOverflow);
        }
        // With nothing queued no writable edge would come to end the pause.
        self.flags.paused |= backlog.total > 0
            && backlog.total + self.under_way_bytes() > turn.config.backlog_bytes_high;
        self.settle()
    }

    /// Bytes of a message that has not all arrived: they count as queued, since its echo will be.
    fn under_way_bytes(&self) -> usize {
        match &self.phase {
            Phase::Open { session, .. } => session.in_progress_bytes(),
            _ => 0,
        }
    }

    /// Writes `out`, of which `program_bytes` came from the program, then `run`. Queues the bytes
    /// that the kernel refuses.
    #[inline]
    fn write_or_queue(
        &mut self,
        workspace: &mut Workspace,
        run: &[u8],
        mut program_bytes: usize,
    ) -> Result<(), CloseCause> {
        // With a backlog the kernel has refused bytes, and would again until a writable edge.
        if self.backlog.is_empty() {
            let written = transport::write(&mut self.transport, &workspace.out, run);
            let sent = written.map_err(CloseCause::transport)?;
            if let Some(run_sent) = sent.checked_sub(workspace.out.len()) {
                if run_sent < run.len() {
                    self.backlog.push(&run[run_sent..]);
                }
                return Ok(());
            }
            self.backlog.push_rest(workspace, sent);
            program_bytes = program_bytes.saturating_sub(sent);
        } else {
            self.backlog.push(&workspace.out);
        }
        self.backlog.count_for_program(program_bytes);
        self.backlog.push(run);
        Ok(())
    }

    /// A writable edge: sends what is queued, and below the low mark reading resumes.
    fn write_backlog<H>(&mut self, turn: &mut Turn<'_, H>) -> Result<(), CloseCause> {
        self.backlog
            .write_to(&mut self.transport, turn.workspace)
            .map_err(CloseCause::transport)?;
        self.flags.paused &= self.backlog.len() >= turn.config.backlog_bytes_low.max(1);
        self.settle()
    }

    /// Bytes have arrived, so the peer is alive. That does not extend the time for a handshake or
    /// for a close.
    #[inline]
    fn note_received(&mut self, now: Tick) {
        if let Phase::Open { session, .. } = &self.phase
            && session.is_open()
        {
            self.since = now;
            self.watch = None;
        }
    }

    /// Whether there may be something to read, and it may be read.
    #[inline]
    const fn wants_read(&self) -> bool {
        (self.flags.readable || self.held.is_some())
            && (!self.flags.paused || matches!(self.phase, Phase::Lingering))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert_eq!(size_of::<Connection<std::net::TcpStream, ()>>(), 64);
    }
}

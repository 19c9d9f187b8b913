//! One thread's connections, and the turns in which they run.
//!
//! A worker makes all of its decisions in [`Worker::turn`], from readiness, commands and the time.
//! It reaches its sockets only through a [`Driver`], so a test can drive a worker with scripted
//! sockets. `poll.rs` is the only file that calls epoll or reads the clock.
//!
//! **Invariant of edge-triggered readiness:** epoll reports an edge once. If a turn does not read
//! all input, because the budget is spent or reading is paused, the connection remembers that it is
//! readable. If it can continue without another edge, it is also on the `runnable` list.

use std::time::{Duration, Instant};

use super::acceptor::{AcceptError, Acceptor};
use super::batches::Batches;
use super::context::WorkerContext;
use super::driver::Driver;
use super::lifecycle::Lifecycle;
use super::links::Links;
use super::mailbox::{Command, Mailbox};
use super::slots::{Slots, Token};
use super::ticker::Ticker;
use super::timers::Timers;
use crate::conn::connection::{Connection, EVENTS_PER_TURN};
use crate::conn::date::Dates;
use crate::conn::guard::{Guard, Subject, guarded};
use crate::conn::throttle::Throttles;
use crate::conn::tick::Tick;
use crate::conn::transport::Readiness;
use crate::conn::turn::{Outcome, TlsHandshakes, TurnContext};
use crate::connection_info::Origin;
use crate::context::Context;
use crate::fanout::deliveries::Source;
use crate::fanout::log::SharedFrames;
use crate::fanout::{Effect, Fanout};
use crate::handler::{CloseCause, Handler, TickEvent};
use crate::peer::{SendState, TurnCounts};
use crate::peer_deadlines::PeerDeadlines;
use crate::protocol::{CloseCode, EncodedMessage, HEADROOM_BYTES, Workspace};

/// The size of the largest read. Smaller reads need more calls for pipelined frames; larger ones
/// gain little. It exceeds a power of two, so that a message of such a size fits with its header.
const READ_BYTES: usize = 260 * 1024;

/// Connections accepted from one listener in a turn, so that a burst does not delay open
/// connections.
const ACCEPTS_PER_TURN: usize = 64;

/// Commands of other threads that are carried out in a turn, so that threads that keep posting do
/// not delay the connections.
const COMMANDS_PER_TURN: usize = 1024;

/// Connections that take their waiting messages in a turn. Each takes a system call of about 5 us,
/// so a message to many subscribers delays another peer by about 120 us at a time.
const DELIVERIES_PER_TURN: usize = 24;

/// Peers whose passed deadlines are reported to the handler in a turn.
const DEADLINES_PER_TURN: usize = 128;

/// One thread's share of a server.
#[derive(Debug)]
pub struct Worker<D: Driver, H: Handler> {
    acceptor: Acceptor<D>,
    handler: H,
    context: WorkerContext,
    mailbox: Mailbox<D::Stream>,
    links: Links<D::Stream>,
    slots: Slots<Connection<D::Stream, H>>,
    timers: Timers,
    ticker: Ticker,
    /// The deadlines that the handler set for its peers.
    deadlines: PeerDeadlines,
    /// Connections and listeners that continue in the next turn without another edge.
    runnable: Vec<Token>,
    /// The receive buffer of all connections. Most replies are laid out in it and sent from it.
    scratch: Box<[u8]>,
    /// Lent to each connection in its turn; its `out` is empty between turns.
    workspace: Workspace,
    /// Topics, and messages that wait for the turn of their connection.
    fanout: Fanout,
    start: Instant,
    /// The time at which the turn began, which serves for the whole turn.
    now: Instant,
    /// `now`, since `start`.
    elapsed: Duration,
    /// The tick of `elapsed`.
    tick: Tick,
    dates: Dates,
    batches: Batches,
    throttles: Throttles,
    tls_handshakes: TlsHandshakes,
    /// The mailbox may hold commands.
    has_mail: bool,
    /// Too much waits for other workers or for the turns of connections: no input is read in this
    /// turn.
    is_congested: bool,
    lifecycle: Lifecycle,
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// A worker that starts at `now`.
    pub fn new(
        driver: D,
        handler: H,
        context: WorkerContext,
        mailbox: Mailbox<D::Stream>,
        links: Links<D::Stream>,
        now: Instant,
    ) -> Self {
        let workspace = context.workspace();
        let dates = Dates::new(context.time_of_day);
        let fanout = Fanout::new(&context.config, links.is_empty());
        let ticker = Ticker::new(now, context.config.tick_interval);
        Self {
            acceptor: Acceptor::new(driver, context.clone()),
            handler,
            context,
            mailbox,
            links,
            slots: Slots::new(),
            timers: Timers::new(),
            ticker,
            deadlines: PeerDeadlines::new(now),
            runnable: Vec::new(),
            scratch: vec![0; HEADROOM_BYTES + READ_BYTES].into_boxed_slice(),
            workspace,
            fanout,
            start: now,
            now,
            elapsed: Duration::ZERO,
            tick: Tick::default(),
            dates,
            batches: Batches::default(),
            throttles: Throttles::default(),
            tls_handshakes: TlsHandshakes::default(),
            has_mail: false,
            is_congested: false,
            lifecycle: Lifecycle::Serving,
        }
    }

    /// Handles the edges in `ready`, then the runnable connections and listeners, then commands,
    /// then deadlines.
    pub fn turn(&mut self, ready: impl Iterator<Item = (Token, Readiness)>, now: Instant) {
        debug_assert!(now >= self.now, "the clock is monotonic");
        self.now = now;
        self.deadlines.begin_turn(now);
        self.tls_handshakes.begin_turn();
        self.elapsed = now.saturating_duration_since(self.start);
        self.tick = Tick::at(self.elapsed);
        let registered = self.slots.len() + self.acceptor.listeners().count() + 1;
        self.is_congested = self.links.is_congested()
            || self.fanout.deliveries.waiting_bytes() > self.context.config.mailbox_bytes_max;
        // Those that become runnable in this turn wait for the next one.
        let mut runnable = std::mem::take(&mut self.runnable);
        let mut batch = 0;
        for (token, readiness) in ready {
            batch += 1;
            if token.is_connection() {
                self.run_turn(token, |connection, scratch, turn| {
                    connection.ready(readiness, scratch, turn)
                });
            } else if token == Token::WAKER {
                self.mailbox.acknowledge_wake();
                self.has_mail = true;
            } else if !runnable.contains(&token) {
                runnable.push(token);
            }
        }
        if self.is_congested {
            self.runnable.append(&mut runnable);
        }
        self.tls_handshakes.begin_deferred();
        for token in runnable {
            if token.is_connection() {
                self.run_turn(token, |connection, scratch, turn| {
                    connection.schedule.clear_runnable();
                    connection.resume(scratch, turn)
                });
            } else {
                self.accept(token, ACCEPTS_PER_TURN);
            }
        }
        if self.has_mail {
            self.read_mail();
        }
        if let Some(until) = self.batches.complete_until(now, batch, registered) {
            let tick = if until == now { self.tick } else { self.tick_at(until) };
            self.expire_connections(tick);
            self.call_on_deadline(until);
        }
        self.expire();
        self.deliver();
        self.publish_to_other_workers();
        debug_assert!(
            !self.fanout.has_effects(),
            "requests of callbacks are carried out in their turn"
        );
    }

    /// The tick that has begun at this time.
    fn tick_at(&self, time: Instant) -> Tick {
        Tick::at(time.saturating_duration_since(self.start))
    }

    /// The longest time that a poll that starts at `now` may block; `None` for no limit.
    ///
    /// `now` is not the time of the last turn: callbacks take time, and the process may have been
    /// stopped since.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.wait_after(now.saturating_duration_since(self.now))
    }

    /// As [`wait`](Self::wait), at `time` after the start of the last turn. It works with durations,
    /// since a subtraction of two instants costs as much as a small callback.
    pub(super) fn wait_after(&self, time: Duration) -> Option<Duration> {
        let is_congested = self.links.is_congested();
        let can_run = !self.runnable.is_empty() && !is_congested;
        if can_run || self.has_mail || !self.fanout.deliveries.is_empty() {
            return Some(Duration::ZERO);
        }
        let ticks = self.timers.next().into_iter().chain(self.acceptor.paused_until());
        let instants = self.lifecycle.due().into_iter();
        // While congested, a wake-up of the other worker ends the wait.
        let instants = instants.chain(self.ticker.due().filter(|_| !is_congested));
        let instants = instants.chain(self.deadlines.next().filter(|_| !is_congested));
        let due = ticks
            .map(|tick| tick.elapsed().saturating_sub(self.elapsed))
            .chain(instants.map(|due| due.saturating_duration_since(self.now)))
            .min();
        due.map(|due| due.saturating_sub(time))
    }

    /// Counts the time of the last turn, which ended at `now`, and returns it.
    pub fn count_turn(&self, now: Instant) -> Duration {
        let time = now.saturating_duration_since(self.now);
        self.context.counters.turns.count(time);
        time
    }

    /// Whether the worker has been drained, its last connection has ended, and the other workers
    /// have its last messages.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let deadline = self.lifecycle.deadline().filter(|_| self.slots.is_empty());
        deadline.is_some_and(|deadline| !self.links.has_unsent() || deadline <= self.now)
    }

    /// Gives a connection a turn, if `token` still names one, and carries out its requests to others.
    #[inline]
    fn run_turn(
        &mut self,
        token: Token,
        act: impl FnOnce(&mut Connection<D::Stream, H>, &mut [u8], &mut TurnContext<'_, H>) -> Outcome,
    ) {
        self.run_own_turn(token, act);
        if self.fanout.has_effects() {
            self.carry_out_effects();
        }
    }

    /// Carries out the requests of callbacks in order, and then those that this causes.
    #[cold]
    fn carry_out_effects(&mut self) {
        while self.fanout.has_effects() {
            let mut effects = self.fanout.take_effects();
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send(peer, message) => self.send(Token::of_peer(peer), message),
                    Effect::Publish(publication, except) => {
                        self.context.counters.published.add(1);
                        self.fanout.publish(&publication, Some(except));
                    }
                    Effect::Close(peer, code, reason) => {
                        self.run_own_turn(Token::of_peer(peer), |connection, _, turn| {
                            connection.close(code, &reason, turn)
                        });
                    }
                    Effect::ResumeReading(peer) => {
                        self.run_own_turn(Token::of_peer(peer), |connection, _, _| {
                            connection.resume_reading()
                        });
                    }
                }
            }
            self.fanout.recycle(effects);
        }
    }

    /// Queues a message of the program for a connection.
    fn send(&mut self, token: Token, message: EncodedMessage) {
        if self.slots.get_mut(token).is_some() {
            let frames = SharedFrames::from(message);
            self.fanout.deliveries.count(frames.len());
            self.fanout.deliveries.push(token.index, &frames, Source::Direct);
        } else {
            self.context.counters.stale_sends.add(1);
        }
    }

    /// Posts this turn's messages to topics to the other workers, and those that had no space. After
    /// a shutdown has begun, these are the last.
    fn publish_to_other_workers(&mut self) {
        let (publications, refused) = self.fanout.take_outgoing();
        self.context.counters.refused_publications.add(refused.into());
        if self.links.is_empty() {
            return;
        }
        self.links.publish(publications, |worker| self.acceptor.wake(worker));
        if self.lifecycle == Lifecycle::Serving {
            return;
        }
        self.fanout.stop();
        if !self.links.has_unsent() {
            self.links.close(|worker| self.acceptor.wake(worker));
        }
    }

    /// Gives a turn to connections that messages wait for.
    fn deliver(&mut self) {
        for _ in 0..DELIVERIES_PER_TURN {
            let Some(slot) = self.fanout.deliveries.next_slot() else { return };
            let token = self.slots.token_at(slot);
            debug_assert!(token.is_some(), "the queue of a connection ends with it");
            if let Some(token) = token {
                self.run_turn(token, |_, _, _| Outcome::Wait);
            }
        }
    }

    /// Runs `act` on the connection of `token`, if it still exists, and then removes it, makes it
    /// runnable or updates its timer.
    #[inline]
    fn run_own_turn(
        &mut self,
        token: Token,
        act: impl FnOnce(&mut Connection<D::Stream, H>, &mut [u8], &mut TurnContext<'_, H>) -> Outcome,
    ) {
        let Some(connection) = self.slots.get_mut(token) else { return };
        // While too much waits, no callback may publish more.
        let may_read = !self.is_congested && !self.fanout.is_congested();
        let mut turn = TurnContext {
            id: token.peer_id(self.context.server, self.context.index),
            handler: &mut self.handler,
            peers: self.mailbox.peers(),
            workspace: &mut self.workspace,
            fanout: &mut self.fanout,
            deadlines: &mut self.deadlines,
            places: self.acceptor.places(),
            config: &self.context.config,
            counters: &self.context.counters,
            throttles: &self.throttles,
            now: self.tick,
            instant: self.now,
            dates: &mut self.dates,
            events_left: if may_read { EVENTS_PER_TURN } else { 0 },
            tls_handshakes: &mut self.tls_handshakes,
            counts: TurnCounts::default(),
            sends: SendState::default(),
        };
        let flow = connection.flow();
        let outcome = match turn.fanout.deliveries.has(token.index) {
            true => connection.take_deliveries(&mut turn),
            false => Outcome::Wait,
        };
        let outcome = match outcome {
            Outcome::Closed => Outcome::Closed,
            Outcome::Wait | Outcome::Again => act(connection, &mut self.scratch, &mut turn),
        };
        turn.count();
        turn.note_flow(flow, connection.flow(), outcome);
        debug_assert!(self.workspace.out.is_empty(), "a turn sends or queues all of its output");
        match outcome {
            Outcome::Wait => {}
            Outcome::Again => {
                if connection.schedule.set_runnable() {
                    self.runnable.push(token);
                }
            }
            Outcome::Closed => return self.remove(token),
        }
        if let Some(due) = connection.end_turn(&self.context.config, self.tick) {
            connection.schedule.set_due(self.timers.schedule(token.index, due));
        }
    }

    /// Accepts up to `budget` connections from a listener.
    fn accept(&mut self, listener: Token, budget: usize) {
        for _ in 0..budget {
            match self.acceptor.accept(listener, self.tick, &self.throttles) {
                Ok((stream, peer)) => self.place(listener, stream, peer),
                Err(AcceptError::Interrupted) => {}
                Err(AcceptError::WouldBlock | AcceptError::Exhausted) => return,
            }
        }
        // More connections may be waiting, and epoll has reported their edge already.
        self.runnable.push(listener);
    }

    /// Takes over a connection, or hands it to a worker with fewer if the kernel distributes none.
    fn place(&mut self, listener: Token, stream: D::Stream, peer: Origin) {
        let own = self.mailbox.load();
        let kept = match self.acceptor.distributes(listener) {
            true => self.links.hand_over(own, stream, peer, |worker| self.acceptor.wake(worker)),
            false => Some((stream, peer)),
        };
        if let Some((stream, peer)) = kept {
            own.raise();
            self.admit(stream, peer);
        }
    }

    /// Takes over a socket that the load of this worker counts, or answers it 503.
    fn admit(&mut self, mut stream: D::Stream, peer: Origin) {
        let token = self.slots.next_token();
        let at = (self.now, self.tick);
        if let Err(refusal) = self.acceptor.admit(&mut stream, &peer, token, at, &self.throttles) {
            self.acceptor.turn_away(stream, &peer, refusal, &mut self.scratch, &mut self.dates);
            self.mailbox.load().lower();
            return;
        }
        let mut connection = Connection::new(stream, peer, &self.context.config, self.tick);
        let due = connection.deadline(&self.context.config);
        connection.schedule.set_due(self.timers.schedule(token.index, due));
        let inserted = self.slots.insert(connection);
        debug_assert_eq!(inserted, token, "the socket is registered under the token of its slot");
    }

    fn remove(&mut self, token: Token) {
        self.fanout.deliveries.clear(token.index, &self.context.counters);
        let connection = self.slots.remove(token);
        debug_assert!(connection.is_some(), "a connection is removed once, after its own turn");
        self.mailbox.load().lower();
        self.acceptor.count_ended(token, self.now);
    }

    /// Carries out commands of other threads.
    fn read_mail(&mut self) {
        for _ in 0..COMMANDS_PER_TURN {
            let command = self.mailbox.take();
            self.has_mail = command.is_some();
            if let Some(command) = command {
                self.carry_out(command);
            }
            match self.mailbox.drain_deadline() {
                Some(deadline) if self.mailbox.has_open_links() => {
                    self.ticker.stop();
                    self.lifecycle.flush(deadline, self.now);
                }
                Some(deadline) => self.drain(deadline),
                None => {}
            }
            if !self.has_mail {
                break;
            }
        }
        let waiting = self.mailbox.take_waiting_workers();
        self.links.wake_waiting(&waiting, |worker| self.acceptor.wake(worker));
    }

    fn carry_out(&mut self, command: Command<D::Stream>) {
        match command {
            Command::Send(token, message) => self.send(token, message),
            Command::SendMany(tokens, message) => {
                for token in tokens {
                    self.send(token, message.clone());
                }
            }
            Command::Broadcast(message) => {
                let open = self.slots.iter().filter(|(_, connection)| connection.is_open());
                self.fanout.broadcast(&message, open.map(|(slot, _)| slot));
            }
            Command::Publish(publications) => {
                if self.context.index == 0 {
                    // Every worker gets the list, and one counts it.
                    self.context.counters.published.add(publications.len() as u64);
                }
                self.fanout.publish_all(&publications);
            }
            Command::Relay(publications) => self.fanout.publish_all(&publications),
            Command::Close(token, code, reason) => {
                self.run_turn(token, |connection, _, turn| connection.close(code, &reason, turn));
            }
            Command::Adopt(stream, peer) => self.admit(stream, peer),
        }
    }

    /// Stops accepting, and starts the closing handshake of every connection.
    fn drain(&mut self, deadline: Instant) {
        let before = std::mem::replace(&mut self.lifecycle, Lifecycle::Draining { deadline });
        if let Lifecycle::Draining { deadline: earlier } = before {
            debug_assert!(deadline <= earlier, "a later request only shortens a drain");
            return;
        }
        // Closing a listener resets the connections in its queue, so these are answered 503 first.
        self.acceptor.begin_shutdown();
        for listener in self.acceptor.listeners() {
            self.accept(listener, self.context.config.listen_backlog as usize);
        }
        self.acceptor.stop_listening();
        self.ticker.stop();
        self.fanout.stop();
        for token in self.slots.tokens() {
            self.run_turn(token, |connection, _, turn| {
                connection.close(CloseCode::GOING_AWAY, "the server is shutting down", turn)
            });
        }
    }

    /// Handles the timer entries of connections up to `until`.
    fn expire_connections(&mut self, until: Tick) {
        while let Some((due, slots)) = self.timers.pop(until) {
            for slot in slots {
                self.expire_connection(slot, due, until);
            }
        }
    }

    /// Handles a timer entry of tick `due`: if the deadline of the connection has passed, the
    /// connection acts on it. If it has moved further away, the connection is scheduled again.
    fn expire_connection(&mut self, slot: u32, due: Tick, until: Tick) {
        let Some(token) = self.slots.token_at(slot) else { return };
        let Some(connection) = self.slots.get_mut(token) else { return };
        if !connection.schedule.is_due(due) {
            return;
        }
        if connection.deadline(&self.context.config) <= until {
            self.run_turn(token, |connection, _, turn| connection.expire(turn));
        }
        // The turn may have removed the connection, or scheduled a nearer deadline.
        if let Some(connection) = self.slots.get_mut(token)
            && connection.schedule.is_due(due)
        {
            let due = connection.deadline(&self.context.config);
            connection.schedule.set_due(self.timers.schedule(slot, due));
        }
    }

    /// Handles the worker's own deadlines: the ends of a pause of accepting and of a drain, and ticks.
    fn expire(&mut self) {
        if self.acceptor.resume(self.tick) {
            for listener in self.acceptor.listeners() {
                self.accept(listener, ACCEPTS_PER_TURN);
            }
        }
        if self.may_publish()
            && let Some(event) = self.ticker.take(self.now)
        {
            self.call_on_tick(event);
        }
        if let Some(deadline) = self.lifecycle.overdue_drain(self.now) {
            self.drain(deadline);
        }
        if self.lifecycle.deadline().is_some_and(|deadline| deadline <= self.now) {
            for token in self.slots.tokens() {
                self.context.counters.drain_timeouts.add(1);
                self.run_turn(token, |connection, _, turn| {
                    connection.terminate(CloseCause::Shutdown, turn)
                });
            }
        }
    }

    /// Whether a callback may start that no message of a peer causes. While too much waits for other
    /// workers or for the turns of connections it may not, or it could add to that without bound.
    fn may_publish(&self) -> bool {
        !self.is_congested && !self.fanout.is_congested()
    }

    /// Calls the handler for peers whose deadlines have passed at `until`.
    fn call_on_deadline(&mut self, until: Instant) {
        for _ in 0..DEADLINES_PER_TURN {
            if !self.may_publish() {
                return;
            }
            let Some(slot) = self.deadlines.pop(until) else { return };
            let token = self.slots.token_at(slot);
            debug_assert!(token.is_some(), "the deadline of a connection ends with it");
            if let Some(token) = token {
                self.run_turn(token, |connection, _, turn| connection.on_deadline(turn));
            }
        }
    }

    /// Calls the handler for a tick.
    fn call_on_tick(&mut self, event: TickEvent) {
        let (server, worker) = (self.context.server, self.context.index);
        let guard = Guard {
            subject: Subject::Tick(worker),
            now: self.tick,
            counters: &self.context.counters,
            throttle: &self.throttles.tick_panics,
        };
        let mut context = Context::of_worker(server, worker, &mut self.fanout);
        guarded(guard, || self.handler.on_tick(&mut context, event));
        if self.fanout.has_effects() {
            self.carry_out_effects();
        }
    }
}

//! A worker: its connections, and what happens to them in one turn.
//!
//! Everything that a worker decides is decided in [`Worker::turn`], from readiness, commands and
//! the time. Sockets are behind a [`Driver`], so that a test can make them up; `poll.rs` is the
//! only file that knows the kernel's.
//!
//! **Invariant of edge-triggered readiness:** an edge comes once. What a turn does not use up (a
//! spent budget, a peer that is not read because it does not read) is remembered: by the
//! connection, and on the `runnable` list if it can go on by itself.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::listener::{AcceptError, accept_error};
use super::mailbox::{Command, Mailbox};
use super::slots::{Slots, Token};
use super::timers::Timers;
use crate::config::Config;
use crate::conn::connection::{Connection, EVENTS_PER_TURN, Outcome, Turn};
use crate::conn::date::Dates;
use crate::conn::throttle::{Throttle, Throttles};
use crate::conn::tick::Tick;
use crate::conn::transport::{Readiness, Transport};
use crate::handler::{CloseCause, Handler};
use crate::peer::{PeerId, Tally};
use crate::protocol::{CloseCode, HEADROOM_BYTES, HeadReader, Response, Workspace};
use crate::stats::Counters;

/// Bytes of one read at most: below, pipelined frames take more calls; above, little is gained. It is
/// a little more than a power of two, as are messages of such a size with their headers.
const READ_BYTES: usize = 260 * 1024;

/// Edges taken from the kernel at once, at most. A full batch is no loss: the rest comes with the
/// next.
pub const READY_PER_TURN: usize = 1024;

/// Connections accepted from one listener before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long accepting pauses when file descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a worker's sockets come from.
pub trait Driver {
    /// A connection's byte stream.
    type Stream: Transport;

    /// Accepts a connection from listener number `listener`.
    ///
    /// # Errors
    ///
    /// As accept(2); `WouldBlock` if no connection waits.
    fn accept(&mut self, listener: u32) -> io::Result<(Self::Stream, SocketAddr)>;

    /// Asks for the edges of `stream`, both directions, for as long as it lives.
    ///
    /// # Errors
    ///
    /// As epoll_ctl(2).
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// How many listeners there are.
    fn listeners(&self) -> u32;

    /// Closes the listeners.
    fn stop_listening(&mut self);
}

/// What the workers of a server have in common, and one of its own.
#[derive(Debug)]
pub struct WorkerContext {
    /// The server's settings.
    pub config: Arc<Config>,
    /// This worker's counters.
    pub counters: Arc<Counters>,
    /// TCP connections of all workers; touched at accept and at the end only.
    pub connections: Arc<AtomicUsize>,
    /// The server's number, which no other server of the process has.
    pub server: u32,
    /// This worker's number.
    pub index: u32,
    /// Reads the system clock, for the `Date` of a response.
    pub time_of_day: fn() -> SystemTime,
}

/// One thread's share of a server.
#[derive(Debug)]
pub struct Worker<D: Driver, H: Handler> {
    driver: D,
    handler: H,
    context: WorkerContext,
    mailbox: Mailbox<D::Stream>,
    slots: Slots<Connection<D::Stream, H::State>>,
    timers: Timers,
    /// Connections and listeners with readiness that they have not used up.
    runnable: Vec<Token>,
    /// Every read goes here, and most replies are laid out and sent from here.
    scratch: Box<[u8]>,
    /// Lent to each connection in its turn; its `out` is empty between turns.
    workspace: Workspace,
    start: Instant,
    /// When the turn began: the time is not asked for again.
    now: Instant,
    tick: Tick,
    dates: Dates,
    /// Since when every batch has been a full one, and the edges in them.
    full_batches: Option<(Tick, usize)>,
    accept_paused_until: Option<Tick>,
    throttles: Throttles,
    /// The log says that accepting is hampered, and not yet that it is no longer.
    has_complained: bool,
    /// Commands may be left in the mailbox.
    has_mail: bool,
    drain_deadline: Option<Instant>,
}

impl<D: Driver, H: Handler> Worker<D, H> {
    /// A worker that begins its life at `now`.
    pub fn new(
        driver: D,
        handler: H,
        context: WorkerContext,
        mailbox: Mailbox<D::Stream>,
        now: Instant,
    ) -> Self {
        let dates = Dates::new(context.time_of_day);
        Self {
            driver,
            handler,
            context,
            mailbox,
            slots: Slots::new(),
            timers: Timers::new(),
            runnable: Vec::new(),
            scratch: vec![0; HEADROOM_BYTES + READ_BYTES].into_boxed_slice(),
            workspace: Workspace::default(),
            start: now,
            now,
            tick: Tick::default(),
            dates,
            full_batches: None,
            accept_paused_until: None,
            throttles: Throttles::default(),
            has_complained: false,
            has_mail: false,
            drain_deadline: None,
        }
    }

    /// Does everything that can be done now: what is `ready`, what earlier turns left, commands,
    /// deadlines.
    pub fn turn(&mut self, ready: impl Iterator<Item = (Token, Readiness)>, now: Instant) {
        self.now = now;
        self.tick = Tick::at(now.saturating_duration_since(self.start));
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
        for token in runnable {
            if token.is_connection() {
                self.run_turn(token, |connection, scratch, turn| {
                    connection.dequeue();
                    connection.resume(scratch, turn)
                });
            } else {
                self.accept(token, ACCEPTS_PER_TURN);
            }
        }
        if self.has_mail {
            self.read_mail();
        }
        if let Some(until) = self.readiness_complete_until(batch) {
            self.expire_connections(until);
        }
        self.expire();
    }

    /// The moment up to which every edge has been seen, after a turn with `batch` of them; `None`
    /// if there is no news of that. A peer that has answered in time must not be given up because
    /// its answer is in the next batch. The kernel hands edges out in the order in which they came:
    /// those that waited when the first of several full batches came are no more than connections.
    fn readiness_complete_until(&mut self, batch: usize) -> Option<Tick> {
        if batch < READY_PER_TURN {
            self.full_batches = None;
            return Some(self.tick);
        }
        let (since, edges) = self.full_batches.take().unwrap_or((self.tick, 0));
        if edges + batch > self.slots.len() {
            return Some(since);
        }
        self.full_batches = Some((since, edges + batch));
        None
    }

    /// How long the poll that starts at `now` may block; `None` for as long as it takes.
    ///
    /// `now` is the time of polling, not of the last turn: callbacks take time, and the process may
    /// have been stopped in between.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        if !self.runnable.is_empty() || self.has_mail {
            return Some(Duration::ZERO);
        }
        let ticks = self.timers.next().into_iter().chain(self.accept_paused_until);
        let due = ticks.map(|tick| self.start + tick.elapsed()).chain(self.drain_deadline).min();
        due.map(|due| due.saturating_duration_since(now))
    }

    /// Whether the worker has been drained: nothing is left to do.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.drain_deadline.is_some() && self.slots.is_empty()
    }

    /// Gives a connection its turn, if `token` still names one, and sees to what comes of it.
    #[inline]
    fn run_turn(
        &mut self,
        token: Token,
        act: impl FnOnce(&mut Connection<D::Stream, H::State>, &mut [u8], &mut Turn<'_, H>) -> Outcome,
    ) {
        let Some(connection) = self.slots.get_mut(token) else { return };
        let mut turn = Turn {
            id: PeerId {
                server: self.context.server,
                worker: self.context.index,
                slot: token.index,
                generation: token.generation,
            },
            handler: &mut self.handler,
            peers: self.mailbox.peers(),
            workspace: &mut self.workspace,
            config: &self.context.config,
            counters: &self.context.counters,
            throttles: &self.throttles,
            now: self.tick,
            dates: &mut self.dates,
            events_left: EVENTS_PER_TURN,
            tally: Tally::default(),
        };
        let outcome = act(connection, &mut self.scratch, &mut turn);
        turn.count();
        debug_assert!(self.workspace.out.is_empty(), "a turn sends or queues all that it lays out");
        match outcome {
            Outcome::Wait => {}
            Outcome::Again => {
                if connection.enqueue() {
                    self.runnable.push(token);
                }
            }
            Outcome::Gone => return self.remove(token),
        }
        if let Some(due) = connection.nearer_deadline(&self.context.config, self.tick) {
            connection.scheduled(self.timers.schedule(token, due));
        }
    }

    /// Accepts what waits at a listener, up to `budget` connections.
    fn accept(&mut self, listener: Token, budget: usize) {
        for _ in 0..budget {
            if self.accept_paused_until.is_some() || listener.index >= self.driver.listeners() {
                return;
            }
            let error = match self.driver.accept(listener.index) {
                Ok((stream, address)) => {
                    self.admit(stream, address);
                    continue;
                }
                Err(error) => error,
            };
            match accept_error(&error) {
                AcceptError::WouldBlock => return,
                AcceptError::Next => {}
                AcceptError::Exhausted => {
                    // The edge is spent and connections may wait: only time brings us back.
                    self.complain(
                        |throttles| &throttles.accept_errors,
                        format_args!(
                            "no connection can be accepted: {error}; raise the limit, or set connections_max"
                        ),
                    );
                    self.context.counters.accept_pauses.add(1);
                    self.accept_paused_until = Some(self.tick.after(ACCEPT_PAUSE));
                    return;
                }
            }
        }
        self.runnable.push(listener);
    }

    /// Takes in an accepted socket, unless there are too many.
    fn admit(&mut self, mut stream: D::Stream, address: SocketAddr) {
        self.context.counters.accepted.add(1);
        let others = self.context.connections.fetch_add(1, Ordering::Relaxed);
        let is_full = self.context.config.connections_max.is_some_and(|max| others >= max);
        if is_full || self.drain_deadline.is_some() {
            if is_full {
                self.complain(
                    |throttles| &throttles.full,
                    format_args!("connections_max is reached: connections are answered 503"),
                );
            }
            let text = if is_full { "too many connections" } else { "the server is shutting down" };
            return self.turn_away(stream, text);
        }
        let token = self.slots.next_token();
        if let Err(error) = self.driver.register(&mut stream, token) {
            self.complain(
                |throttles| &throttles.unwatched,
                format_args!("the connection of {address} cannot be watched: {error}"),
            );
            return self.turn_away(stream, "no resources");
        }
        if std::mem::take(&mut self.has_complained) {
            log::info!("worker {} accepts connections again", self.context.index);
        }
        let mut connection = Connection::new(stream, address, self.tick);
        let due = connection.deadline(&self.context.config);
        connection.scheduled(self.timers.schedule(token, due));
        self.slots.insert(connection);
    }

    /// Warns of a problem with accepting, as often as the throttle of its kind allows.
    fn complain(&mut self, kind: fn(&Throttles) -> &Throttle, trouble: fmt::Arguments<'_>) {
        // A server that shuts down accepts nothing any more.
        if self.drain_deadline.is_some() {
            return;
        }
        if let Some(suppressed) = kind(&self.throttles).admit(self.tick) {
            self.has_complained = true;
            log::warn!("worker {}: {trouble}{suppressed}", self.context.index);
        }
    }

    /// Answers 503 as well as it can be without waiting, and drops the socket.
    fn turn_away(&mut self, mut stream: D::Stream, text: &str) {
        // Turning a client away must not wait: bytes that cannot be read or sent at once are lost.
        // If the request has arrived, it shows whether the response may have a body.
        let len = stream.read(&mut self.scratch).unwrap_or_default();
        let mut reader = HeadReader::default();
        let _ = reader.read(&self.scratch[..len], self.context.config.request_bytes_max);
        let response = Response::text(503, text);
        if reader.is_head_request() {
            response.write_head(self.dates.now(), &mut self.workspace.out);
        } else {
            response.write(self.dates.now(), &mut self.workspace.out);
        }
        let _ = stream.write(&self.workspace.out);
        let _ = stream.shutdown_write();
        // Unread bytes would turn the close into a reset, which can destroy the response.
        let _ = stream.read(&mut self.scratch);
        self.workspace.clear();
        self.context.counters.turned_away.add(1);
        self.count_ended();
    }

    fn remove(&mut self, token: Token) {
        if self.slots.remove(token).is_some() {
            self.count_ended();
        }
    }

    /// A TCP connection is no more.
    fn count_ended(&self) {
        self.context.counters.ended.add(1);
        self.context.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Does what other threads asked for: at most a full mailbox, then connections get their turn.
    fn read_mail(&mut self) {
        // Asked for now: what was posted before it is in the mailbox, which is emptied before it is
        // obeyed. What others post meanwhile may have to wait.
        let drain_deadline = self.mailbox.drain_deadline();
        for _ in 0..self.context.config.mailbox_capacity {
            let Some(command) = self.mailbox.take() else {
                self.has_mail = false;
                break;
            };
            match command {
                Command::Send(token, message) => match self.slots.get_mut(token) {
                    Some(_) => self.run_turn(token, |connection, _, turn| {
                        connection.send(message.as_message(), turn)
                    }),
                    None => self.context.counters.stale_sends.add(1),
                },
                Command::Close(token, code, reason) => {
                    self.run_turn(token, |connection, _, turn| {
                        connection.close(code, &reason, turn)
                    });
                }
                Command::Adopt(stream, address) => self.admit(stream, address),
            }
        }
        if let Some(deadline) = drain_deadline {
            self.drain(deadline);
        }
    }

    /// Stops accepting and asks every peer to go.
    fn drain(&mut self, deadline: Instant) {
        if self.drain_deadline.replace(deadline).is_some() {
            return;
        }
        // Connections that the kernel has completed are turned away: closing the listener would
        // reset them.
        for index in 0..self.driver.listeners() {
            self.accept_paused_until = None;
            self.accept(Token::listener(index), self.context.config.listen_backlog as usize);
        }
        self.accept_paused_until = None;
        self.driver.stop_listening();
        for token in self.slots.tokens() {
            self.run_turn(token, |connection, _, turn| {
                connection.close(CloseCode::GOING_AWAY, "the server is shutting down", turn)
            });
        }
    }

    /// An entry of the wheel has come up: the connection's deadline has come, or has moved away.
    fn expire_connection(&mut self, token: Token, due: Tick, until: Tick) {
        let Some(connection) = self.slots.get_mut(token) else { return };
        if !connection.is_scheduled(due) {
            return;
        }
        if connection.deadline(&self.context.config) <= until {
            self.run_turn(token, |connection, _, turn| connection.expire(turn));
        }
        if let Some(connection) = self.slots.get_mut(token)
            && connection.is_scheduled(due)
        {
            let due = connection.deadline(&self.context.config);
            connection.scheduled(self.timers.schedule(token, due));
        }
    }

    /// Sees to the deadlines of connections up to `until`.
    fn expire_connections(&mut self, until: Tick) {
        while let Some((due, tokens)) = self.timers.pop(until) {
            for token in tokens {
                self.expire_connection(token, due, until);
            }
        }
    }

    /// Sees to the worker's own deadlines.
    fn expire(&mut self) {
        if self.accept_paused_until.is_some_and(|until| until <= self.tick) {
            self.accept_paused_until = None;
            for index in 0..self.driver.listeners() {
                self.accept(Token::listener(index), ACCEPTS_PER_TURN);
            }
        }
        if self.drain_deadline.is_some_and(|deadline| deadline <= self.now) {
            for token in self.slots.tokens() {
                self.run_turn(token, |connection, _, turn| {
                    connection.gone(CloseCause::Shutdown, turn)
                });
            }
        }
    }
}

//! Accepts connections, enforces `connections_max`, and answers the rest with 503.
//!
//! An acceptor does not store connections: its worker takes each socket from
//! [`accept`](Acceptor::accept), has it [admitted](Acceptor::admit), and then stores it or has it
//! [turned away](Acceptor::turn_away).

use std::fmt;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use super::context::WorkerContext;
use super::driver::Driver;
use super::slots::Token;
use crate::address_limits::{AddressPlaces, AddressRefused};
use crate::conn::date::Dates;
use crate::conn::throttle::{Throttle, Throttles};
use crate::conn::tick::Tick;
use crate::conn::transport::Transport;
use crate::conn::turn::take_place;
use crate::connection_info::{Address, Origin};
use crate::forwarding;
use crate::protocol::{HeadReader, Response, proxy};
use crate::stats::handshake_failures::HandshakeFailure;

/// How long accepting pauses when file descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A worker's listeners.
#[derive(Debug)]
pub(super) struct Acceptor<D> {
    driver: D,
    context: WorkerContext,
    places: AddressPlaces,
    state: State,
    /// A warning about accepting has been logged, and no connection has been admitted since.
    has_warned: bool,
}

/// ```text
///   Accepting ◄──► Paused
///       └─────┬──────┘
///             ▼
///       ShuttingDown
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Connections are accepted, and admitted up to `connections_max`.
    Accepting,
    /// File descriptors or memory ran out: nothing is accepted before the tick `until`.
    Paused { until: Tick },
    /// Every connection is turned away, and no pause begins.
    ShuttingDown,
}

/// A reason why [`Acceptor::accept`] returned no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AcceptError {
    /// No connection is waiting.
    WouldBlock,
    /// This connection failed before it was accepted, or a signal interrupted the call. Another
    /// connection may be waiting.
    Interrupted,
    /// File descriptors or memory ran out (EMFILE, ENFILE, ENOBUFS, ENOMEM).
    Exhausted,
}

/// A reason for turning a connection away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// `connections_max` is reached.
    TooManyConnections,
    /// The worker is draining.
    ShuttingDown,
    /// The socket cannot be registered with epoll.
    NoResources,
    /// The client's address has too many connections or handshakes.
    AddressLimit,
}

impl<D: Driver> Acceptor<D> {
    pub(super) fn new(driver: D, context: WorkerContext) -> Self {
        let places = AddressPlaces::new(context.address_table.clone());
        Self { driver, context, places, state: State::Accepting, has_warned: false }
    }

    /// The places that the worker's connections have taken of those of their addresses.
    pub(super) const fn places(&mut self) -> &mut AddressPlaces {
        &mut self.places
    }

    /// Wakes another worker of the same server.
    pub(super) fn wake(&self, worker: u32) {
        self.driver.wake(worker);
    }

    /// Accepts the next connection of a listener.
    pub(super) fn accept(
        &mut self,
        listener: Token,
        now: Tick,
        throttles: &Throttles,
    ) -> Result<(D::Stream, Origin), AcceptError> {
        debug_assert!(listener.index < u32::MAX && !listener.is_connection(), "{listener:?}");
        if matches!(self.state, State::Paused { .. }) {
            return Err(AcceptError::Exhausted);
        }
        // The listener may have been closed since its token became runnable.
        if listener.index >= self.driver.listeners() {
            return Err(AcceptError::WouldBlock);
        }
        let accepted = self.driver.accept(listener.index).map_err(|error| {
            let class = classify(&error);
            if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                self.context.counters.accept_errors.add(1);
            }
            if class == AcceptError::Exhausted {
                self.pause(&error, now, throttles);
            }
            class
        });
        let (stream, address) = accepted?;
        Ok((stream, Origin { address, tls: self.driver.tls(listener.index) }))
    }

    /// Whether the connections of a listener must be distributed over the workers.
    pub(super) fn distributes(&self, listener: Token) -> bool {
        self.state == State::Accepting && self.driver.is_distributed(listener.index)
    }

    /// Stops accepting for a while. Only time resumes it: the edge has been consumed, so the kernel
    /// does not report the connections that still wait.
    fn pause(&mut self, error: &io::Error, now: Tick, throttles: &Throttles) {
        self.warn(
            &throttles.accept_errors,
            now,
            format_args!(
                "no connection can be accepted: {error}; raise the limit, or set connections_max"
            ),
        );
        self.context.counters.accept_pauses.add(1);
        if self.state == State::Accepting {
            self.state = State::Paused { until: now.after(ACCEPT_PAUSE) };
        }
    }

    /// Counts an accepted connection, checks the limits, and registers its socket as `token`.
    pub(super) fn admit(
        &mut self,
        stream: &mut D::Stream,
        peer: &Origin,
        token: Token,
        times: (Instant, Tick),
        throttles: &Throttles,
    ) -> Result<(), Refusal> {
        let (_, now) = times;
        let others = self.context.count_accepted();
        if self.context.config.connections_max.is_some_and(|max| others >= max) {
            self.warn(
                &throttles.full,
                now,
                format_args!("connections_max is reached: connections are answered 503"),
            );
            return Err(Refusal::TooManyConnections);
        }
        if self.state == State::ShuttingDown {
            return Err(Refusal::ShuttingDown);
        }
        if let Err(error) = self.driver.register(stream, token) {
            self.warn(
                &throttles.unwatched,
                now,
                format_args!("the connection of {} cannot be watched: {error}", peer.address),
            );
            return Err(Refusal::NoResources);
        }
        self.take_place(&peer.address, token, times, throttles)?;
        if std::mem::take(&mut self.has_warned) {
            log::info!("worker {} accepts connections again", self.context.index);
        }
        Ok(())
    }

    /// Takes a place for an admitted connection, unless the address of its client is known only after
    /// a header.
    fn take_place(
        &mut self,
        peer: &Address,
        token: Token,
        times: (Instant, Tick),
        throttles: &Throttles,
    ) -> Result<(), Refusal> {
        let WorkerContext { config, counters, .. } = &self.context;
        if config.proxy_protocol || forwarding::is_trusted(peer, &config.trusted_proxies) {
            return Ok(());
        }
        take_place(&mut self.places, token.index, peer, times, counters, throttles)
            .map_err(|AddressRefused| Refusal::AddressLimit)
    }

    /// Warns of a problem with accepting, as often as `throttle` allows.
    fn warn(&mut self, throttle: &Throttle, now: Tick, problem: fmt::Arguments<'_>) {
        // During a shutdown the operator expects that no connection is accepted.
        if self.state == State::ShuttingDown {
            return;
        }
        if let Some(suppressed) = throttle.admit(now) {
            self.has_warned = true;
            log::warn!("worker {}: {problem}{suppressed}", self.context.index);
        }
    }

    /// Answers 503 or 429, and drops the socket. Where a PROXY header must precede everything, there is no
    /// answer unless it has arrived. With TLS there is no answer either: it would cost a handshake.
    ///
    /// It does not wait for the client: bytes that cannot be read or written at once are lost. A
    /// request that has already arrived shows whether the response may have a body.
    pub(super) fn turn_away(
        &self,
        mut stream: D::Stream,
        peer: &Origin,
        refusal: Refusal,
        scratch: &mut [u8],
        dates: &mut Dates,
    ) {
        let len = stream.read(scratch).unwrap_or_default();
        let request = match self.context.config.proxy_protocol {
            true => proxy::skip(&scratch[..len]),
            false => Some(&scratch[..len]),
        };
        if let Some(request) = request.filter(|_| peer.tls.is_none()) {
            let mut reader = HeadReader::default();
            let _ = reader.read(request, self.context.config.request_bytes_max);
            let response = Response::text(refusal.status(), refusal.text());
            let mut out = Vec::new();
            if reader.is_head_request() {
                response.write_head(dates.now(), &mut out);
            } else {
                response.write(dates.now(), &mut out);
            }
            let _ = stream.write(&out);
        }
        let _ = stream.shutdown_write();
        // Closing a socket with unread bytes resets the connection, which can destroy the response.
        let _ = stream.read(scratch);
        self.context.counters.turned_away.add(1);
        self.context.counters.handshake_failures.count(refusal.into());
        self.context.count_ended();
    }

    /// Counts the end of an admitted connection, and returns its place.
    pub(super) fn count_ended(&mut self, token: Token, now: Instant) {
        self.places.release(token.index, now);
        self.context.count_ended();
    }

    /// The tokens of the listeners.
    pub(super) fn listeners(&self) -> impl Iterator<Item = Token> + use<D> {
        (0..self.driver.listeners()).map(Token::listener)
    }

    /// The end of the pause, if accepting is paused.
    pub(super) const fn paused_until(&self) -> Option<Tick> {
        match self.state {
            State::Paused { until } => Some(until),
            State::Accepting | State::ShuttingDown => None,
        }
    }

    /// Ends the pause if its time is over; returns whether it did.
    pub(super) fn resume(&mut self, now: Tick) -> bool {
        let is_over = self.paused_until().is_some_and(|until| until <= now);
        if is_over {
            self.state = State::Accepting;
        }
        is_over
    }

    /// From now on every connection is turned away.
    pub(super) fn begin_shutdown(&mut self) {
        debug_assert_ne!(self.state, State::ShuttingDown, "a shutdown begins once");
        self.state = State::ShuttingDown;
    }

    /// Closes the listeners, which resets the connections that were not accepted.
    pub(super) fn stop_listening(&mut self) {
        debug_assert_eq!(self.state, State::ShuttingDown, "a worker that serves keeps listening");
        self.driver.stop_listening();
        debug_assert_eq!(self.driver.listeners(), 0, "all listeners are closed");
    }
}

impl Refusal {
    /// The body of the response.
    const fn text(self) -> &'static str {
        match self {
            Self::TooManyConnections => "too many connections",
            Self::ShuttingDown => "the server is shutting down",
            Self::NoResources => "no resources",
            Self::AddressLimit => "too many connections from this address",
        }
    }

    /// The status of the response (RFC 6585 4).
    const fn status(self) -> u16 {
        match self {
            Self::AddressLimit => 429,
            Self::TooManyConnections | Self::ShuttingDown | Self::NoResources => 503,
        }
    }
}

impl From<Refusal> for HandshakeFailure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooManyConnections => Self::TooManyConnections,
            Refusal::ShuttingDown => Self::ShuttingDown,
            Refusal::NoResources => Self::NoResources,
            Refusal::AddressLimit => Self::AddressLimit,
        }
    }
}

/// Classifies an error of accept(2).
///
/// Linux passes pending network errors of the new connection on to the caller, so those concern one
/// connection only. An unknown error counts as exhaustion: its pause prevents a busy loop.
fn classify(error: &io::Error) -> AcceptError {
    match error.kind() {
        io::ErrorKind::WouldBlock => AcceptError::WouldBlock,
        io::ErrorKind::Interrupted
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::NetworkUnreachable => AcceptError::Interrupted,
        _ => AcceptError::Exhausted,
    }
}

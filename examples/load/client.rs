//! The state machine of one client connection.
//!
//! ```text
//! Connecting ──▶ Upgrading ──▶ Greeting ──▶ Open ──▶ Closing ──▶ Closed
//!      the whole 101 ───────────┘            │         │            │
//!      all messages of --skip ───────────────┘         │            │
//!      stopped, all messages answered ─────────────────┘            │
//!      the server's Close, or its end of the stream ────────────────┘
//! ```
//!
//! After a problem the run drops the connection. The socket is registered once, edge-triggered, for
//! both directions, so a turn reads until the socket is empty and then writes.

use std::io::{self, ErrorKind, Read};
use std::mem;

use mio::event::Event;

use crate::dial::{Dialled, Stream};
use crate::problem::Problem;
use crate::session::Session;
use crate::traffic::{Abandoned, Shared, Traffic};
use crate::upgrade::{Request, Upgrade};

/// A socket and its state.
#[derive(Debug)]
pub(crate) struct Connection<T> {
    index: u32,
    dialled: Dialled,
    stream: Stream,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Connecting(Upgrade),
    Upgrading(Upgrade),
    Greeting(Session<T>),
    Open(Session<T>),
    Closing(Session<T>),
    Closed,
}

/// The server's answer that a connection waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Awaited {
    Connection,
    Upgrade,
    Greeting,
    Message,
}

impl Awaited {
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Connection => "a connection",
            Self::Upgrade => "an answer to the upgrade",
            Self::Greeting => "a greeting (--skip)",
            Self::Message => "a message",
        }
    }
}

impl<T: Traffic> Connection<T> {
    /// `stream` is connecting. A failure to connect is reported by a later event.
    pub(crate) fn new(index: u32, dialled: Dialled, stream: Stream, request: &Request) -> Self {
        Self { index, dialled, stream, state: State::Connecting(Upgrade::new(request, index)) }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(crate) fn dialled(&self) -> &Dialled {
        &self.dialled
    }

    /// Handles an event: reads all input, then writes all messages that are due.
    pub(crate) fn ready(
        &mut self,
        event: &Event,
        shared: &mut Shared<T>,
        scratch: &mut [u8],
    ) -> Result<(), Problem> {
        if matches!(self.state, State::Connecting(_)) && !self.finish_connecting()? {
            return Ok(());
        }
        if event.is_readable() || event.is_read_closed() {
            // A short read means an empty socket (epoll(7)), unless the peer has ended the stream.
            self.read(shared, scratch, event.is_read_closed())?;
        }
        self.write(shared, scratch)
    }

    /// Sends the messages that are due, and Close once the run is over and every message is
    /// answered.
    pub(crate) fn write(
        &mut self,
        shared: &mut Shared<T>,
        scratch: &mut [u8],
    ) -> Result<(), Problem> {
        if let State::Open(session) = &self.state
            && shared.schedule.is_stopped()
            && session.traffic.is_idle(&shared.messages)
        {
            self.begin_close(shared);
        }
        let result = match &mut self.state {
            State::Upgrading(upgrade) => upgrade.send(&mut self.stream),
            State::Greeting(session) | State::Open(session) | State::Closing(session) => {
                let now = shared.recorder.now;
                session.send(&mut self.stream, shared, now)
            }
            State::Connecting(_) | State::Closed => Ok(()),
        };
        result.or_else(|error| {
            // If the server closed early, the unread input may say why.
            self.read(shared, scratch, true)?;
            self.broke("write", error, shared)
        })
    }

    /// Sends Close although messages may be unanswered.
    pub(crate) fn begin_close(&mut self, shared: &mut Shared<T>) {
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Open(mut session) => {
                session.send_close();
                shared.counts.closing += 1;
                State::Closing(session)
            }
            other => other,
        };
    }

    /// Accounts for a failure. Returns how many messages the connection has sent, and how many of
    /// them it still waits for.
    pub(crate) fn abandon(&mut self, shared: &mut Shared<T>) -> Abandoned {
        let counts = &mut shared.counts;
        match self.state {
            State::Open(_) => counts.failed_open += 1,
            State::Closing(_) => {
                counts.failed_open += 1;
                counts.closing -= 1;
            }
            _ => {}
        }
        counts.failed += 1;
        let Some(session) = self.session_mut() else { return Abandoned::default() };
        let (sent, unanswered) =
            (session.traffic.sent(), session.traffic.unanswered(&shared.messages));
        shared.counts.messages_lost += session.traffic.abandon(shared);
        Abandoned { sent, unanswered }
    }

    /// The session, once upgraded and unless it has ended.
    pub(crate) fn session(&self) -> Option<&Session<T>> {
        match &self.state {
            State::Greeting(session) | State::Open(session) | State::Closing(session) => {
                Some(session)
            }
            _ => None,
        }
    }

    /// Messages put in flight so far.
    pub(crate) fn sent(&self) -> u64 {
        self.session().map_or(0, |session| session.traffic.sent())
    }

    /// The next answer without which the connection cannot proceed.
    pub(crate) fn awaited(&self, shared: &Shared<T>) -> Option<Awaited> {
        match &self.state {
            State::Connecting(_) => Some(Awaited::Connection),
            State::Upgrading(_) => Some(Awaited::Upgrade),
            State::Greeting(_) => Some(Awaited::Greeting),
            State::Open(session) => {
                let is_idle = session.traffic.is_idle(&shared.messages);
                (!is_idle).then_some(Awaited::Message)
            }
            State::Closing(_) | State::Closed => None,
        }
    }

    fn session_mut(&mut self) -> Option<&mut Session<T>> {
        match &mut self.state {
            State::Greeting(session) | State::Open(session) | State::Closing(session) => {
                Some(session)
            }
            _ => None,
        }
    }

    /// Returns whether the connection is established.
    fn finish_connecting(&mut self) -> Result<bool, Problem> {
        if let Some(error) = self.stream.take_error().map_err(Problem::Connect)? {
            return Err(Problem::Connect(error));
        }
        // The event may be spurious; only a peer address proves a connection (see mio's docs).
        if !self.stream.is_connected() {
            return Ok(false);
        }
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Connecting(upgrade) => State::Upgrading(upgrade),
            other => other,
        };
        Ok(true)
    }

    fn read(
        &mut self,
        shared: &mut Shared<T>,
        scratch: &mut [u8],
        reads_to_end: bool,
    ) -> Result<(), Problem> {
        while !matches!(self.state, State::Closed) {
            match self.stream.read(scratch) {
                Ok(0) => return self.recv_end(shared),
                Ok(bytes) => {
                    shared.recorder.tick();
                    self.recv(&scratch[..bytes], shared)?;
                    if bytes < scratch.len() && !reads_to_end {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.broke("read", error, shared),
            }
        }
        Ok(())
    }

    fn recv(&mut self, bytes: &[u8], shared: &mut Shared<T>) -> Result<(), Problem> {
        let mut bytes = bytes;
        if let State::Upgrading(upgrade) = &mut self.state {
            let Some(rest) = upgrade.recv(bytes)? else { return Ok(()) };
            bytes = rest;
            self.state = State::Greeting(Session::new(self.index, shared));
            shared.recorder.progress_at = shared.recorder.now;
        }
        let now = shared.recorder.now;
        let Some(session) = self.session_mut() else { return Ok(()) };
        let close = session.recv(bytes, shared, now)?;
        self.finish_greeting(shared);
        let Some(close) = close else { return Ok(()) };
        if !matches!(self.state, State::Closing(_)) {
            return Err(Problem::Closed { code: close.code, reason: close.reason });
        }
        self.state = State::Closed;
        shared.counts.closed += 1;
        Ok(())
    }

    fn finish_greeting(&mut self, shared: &mut Shared<T>) {
        if !matches!(&self.state, State::Greeting(session) if session.is_greeted()) {
            return;
        }
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Greeting(session) => State::Open(session),
            other => other,
        };
        shared.counts.opened += 1;
    }

    fn recv_end(&mut self, shared: &mut Shared<T>) -> Result<(), Problem> {
        match &self.state {
            State::Connecting(upgrade) | State::Upgrading(upgrade) => Err(upgrade.cut()),
            State::Greeting(_) | State::Open(_) => Err(Problem::Ended),
            State::Closing(_) => {
                self.state = State::Closed;
                shared.counts.unanswered += 1;
                Ok(())
            }
            State::Closed => Ok(()),
        }
    }

    /// Reports a broken connection. After our Close it counts as the end of the stream.
    fn broke(
        &mut self,
        doing: &'static str,
        error: io::Error,
        shared: &mut Shared<T>,
    ) -> Result<(), Problem> {
        match self.state {
            State::Closing(_) | State::Closed => self.recv_end(shared),
            _ => Err(Problem::Broken { doing, error }),
        }
    }
}

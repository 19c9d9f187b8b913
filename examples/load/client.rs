//! The state machine of one client connection.
//!
//! ```text
//! Connecting ──▶ Upgrading ──▶ Open ──▶ Closing ──▶ Closed
//!      the whole 101 ───────────┘         │            │
//!      stopped, all messages answered ────┘            │
//!      the server's Close, or its end of the stream ───┘
//! ```
//!
//! The socket is registered once, edge-triggered, for both directions, so a turn reads until the
//! socket is empty and then writes.

use std::io::{self, ErrorKind, Read};
use std::mem;
use std::net::{IpAddr, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use crate::args::Url;
use crate::problem::Problem;
use crate::report::Recorder;
use crate::schedule::Schedule;
use crate::session::Session;
use crate::upgrade::Upgrade;
use crate::workload::Workload;

/// State that all connections use, one at a time.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) workload: Workload,
    pub(crate) schedule: Schedule,
    pub(crate) recorder: Recorder,
    pub(crate) counts: ConnectionCounts,
    /// Connections whose turn ended before their socket was full, so that no event will follow.
    pub(crate) unfinished: Vec<u32>,
}

/// Numbers of connections that have reached each stage.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCounts {
    pub(crate) opened: u32,
    pub(crate) closing: u32,
    /// The server answered our Close.
    pub(crate) closed: u32,
    /// The server ended the stream without answering our Close.
    pub(crate) unanswered: u32,
}

/// A socket and its state.
#[derive(Debug)]
pub(crate) struct Connection {
    index: u32,
    stream: TcpStream,
    state: State,
}

#[derive(Debug)]
enum State {
    Connecting(Upgrade),
    Upgrading(Upgrade),
    Open(Session),
    Closing(Session),
    Closed,
}

impl Connection {
    /// Starts to connect. A failure to connect is reported by a later event.
    pub(crate) fn dial(index: u32, url: &Url, source: Option<IpAddr>) -> io::Result<Self> {
        let stream = match source {
            None => TcpStream::connect(url.address)?,
            Some(source) => connect_from(source, url.address)?,
        };
        Ok(Self { index, stream, state: State::Connecting(Upgrade::new(url, index)) })
    }

    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Handles an event: reads all input, then writes all messages that are due.
    pub(crate) fn ready(
        &mut self,
        event: &Event,
        shared: &mut Shared,
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
    pub(crate) fn write(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> Result<(), Problem> {
        if let State::Open(session) = &self.state
            && shared.schedule.is_stopped()
            && session.is_idle()
        {
            self.begin_close(shared);
        }
        let result = match &mut self.state {
            State::Upgrading(upgrade) => upgrade.send(&mut self.stream),
            State::Open(session) | State::Closing(session) => {
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

    /// The session, once upgraded.
    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Open(session) | State::Closing(session) => Some(session),
            State::Connecting(_) | State::Upgrading(_) | State::Closed => None,
        }
    }

    /// The number of the message whose echo is outstanding; 0 for an unanswered upgrade.
    pub(crate) fn awaited(&self) -> Option<u64> {
        match &self.state {
            State::Connecting(_) | State::Upgrading(_) => Some(0),
            State::Open(session) => (!session.is_idle()).then(|| session.message()),
            State::Closing(_) | State::Closed => None,
        }
    }

    /// Returns whether the connection is established.
    fn finish_connecting(&mut self) -> Result<bool, Problem> {
        let connect = |error| Problem::Io { doing: "connect", error };
        if let Some(error) = self.stream.take_error().map_err(connect)? {
            return Err(connect(error));
        }
        // The event may be spurious; only a peer address proves a connection (see mio's docs).
        if self.stream.peer_addr().is_err() {
            return Ok(false);
        }
        self.stream.set_nodelay(true).map_err(connect)?;
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Connecting(upgrade) => State::Upgrading(upgrade),
            other => other,
        };
        Ok(true)
    }

    fn read(
        &mut self,
        shared: &mut Shared,
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

    fn recv(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<(), Problem> {
        let mut bytes = bytes;
        if let State::Upgrading(upgrade) = &mut self.state {
            let Some(rest) = upgrade.recv(bytes)? else { return Ok(()) };
            bytes = rest;
            self.state = State::Open(Session::new(self.index, shared));
            shared.counts.opened += 1;
        }
        let (State::Open(session) | State::Closing(session)) = &mut self.state else {
            return Ok(());
        };
        let now = shared.recorder.now;
        let Some(close) = session.recv(bytes, shared, now)? else { return Ok(()) };
        if matches!(self.state, State::Open(_)) {
            let message = self.awaited_or_next();
            return Err(Problem::Closed { message, code: close.code, reason: close.reason });
        }
        self.state = State::Closed;
        shared.counts.closed += 1;
        Ok(())
    }

    fn recv_end(&mut self, shared: &mut Shared) -> Result<(), Problem> {
        match &self.state {
            State::Connecting(upgrade) | State::Upgrading(upgrade) => Err(upgrade.cut()),
            State::Open(_) => Err(Problem::Ended { message: self.awaited_or_next() }),
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
        shared: &mut Shared,
    ) -> Result<(), Problem> {
        match self.state {
            State::Closing(_) | State::Closed => self.recv_end(shared),
            _ => Err(Problem::Io { doing, error }),
        }
    }

    fn begin_close(&mut self, shared: &mut Shared) {
        self.state = match mem::replace(&mut self.state, State::Closed) {
            State::Open(mut session) => {
                session.send_close(shared);
                shared.counts.closing += 1;
                State::Closing(session)
            }
            other => other,
        };
    }

    fn awaited_or_next(&self) -> u64 {
        self.session().map_or(0, Session::message)
    }
}

/// Like `TcpStream::connect`, but from the local address `source`.
fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// errno(3) of Linux; `ErrorKind::InProgress` is not stable.
const EINPROGRESS: i32 = 115;

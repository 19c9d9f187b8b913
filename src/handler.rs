//! The behaviour of a server: the trait that an embedding program implements.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::connection_info::ConnectionInfo;
use crate::context::Context;
use crate::peer::Peer;
use crate::peer_id::PeerId;
use crate::protocol::{Accept, CloseCode, Delivery, Message, ProtocolError, Request, Response};

/// The behaviour of a server. Each worker thread has a handler of its own, so a callback has it
/// exclusively: no locks, no sharing. The data of one connection is its [`State`](Self::State).
///
/// A callback must not block: every connection of its worker waits for it, and a peer may have up
/// to 4096 messages delivered before others have their turn. A panic in a callback ends its own
/// connection (1011, or 500 before the upgrade) and not the worker, unless the program is built with
/// `panic = "abort"`. A panic in [`on_tick`](Self::on_tick) ends nothing.
///
/// ```
/// use ws_reactor::{Handler, Message, Peer, Reply};
///
/// /// Answers each message with the number of messages so far.
/// struct Count;
///
/// impl Handler for Count {
///     type State = u64;
///
///     fn on_message(&mut self, peer: &mut Peer<'_, u64>, _: Message<'_>) -> Reply {
///         *peer.state += 1;
///         let count = peer.state.to_string();
///         peer.send(count.as_str());
///         Reply::None
///     }
/// }
/// ```
pub trait Handler: 'static {
    /// The handler's data for each connection; `()` if it has none. A connection starts with the
    /// default unless [`on_request`](Self::on_request) returns another state. If there is no sensible
    /// default, use an `Option`.
    type State: Default;

    /// A client asks for an upgrade, and its request is well-formed: accept or reject it. Origin
    /// checks, authentication and the choice of a subprotocol belong here.
    ///
    /// Default: accept.
    fn on_request(
        &mut self,
        request: &Request<'_>,
        info: ConnectionInfo<'_>,
    ) -> Upgrade<Self::State> {
        let _ = (request, info);
        Upgrade::accept(Self::State::default())
    }

    /// A client sent a plain HTTP request, which does not ask for an upgrade, such as a health
    /// check: answer it. The connection ends after the response.
    ///
    /// The method is GET or HEAD, and the version HTTP/1.x. Answer a HEAD like a GET: the server
    /// leaves out the body (RFC 9110 9.3.2). An HTTP/1.0 request is always plain, even with an
    /// `Upgrade` header (RFC 9110 7.8), and may have no host. The server itself answers other
    /// methods with 405 and requests with a body with 400.
    ///
    /// `None`, the default, is answered 426.
    fn on_http(&mut self, request: &Request<'_>, info: ConnectionInfo<'_>) -> Option<Response> {
        let _ = (request, info);
        None
    }

    /// A connection is open. Messages sent here are the first that the client gets.
    fn on_open(&mut self, peer: &mut Peer<'_, Self::State>, info: ConnectionInfo<'_>) {
        let _ = (peer, info);
    }

    /// A message arrived. Messages sent here go out before the returned reply.
    fn on_message(&mut self, peer: &mut Peer<'_, Self::State>, message: Message<'_>) -> Reply;

    /// The deadline that [`Peer::set_deadline`] set for this peer has passed. It is removed before the
    /// call, which may set another one.
    ///
    /// The call also comes while reading from the peer is paused. It does not come once a close frame
    /// has been sent, or the connection has closed. Input that the worker finds together with the
    /// passed deadline is delivered first.
    ///
    /// The call waits while more than [`mailbox_bytes_max`](crate::Config::mailbox_bytes_max) waits for
    /// another worker, or for the turns of other peers. In one turn, a worker makes at most 128 such
    /// calls, so that other peers are not kept waiting.
    fn on_deadline(&mut self, peer: &mut Peer<'_, Self::State>) {
        let _ = peer;
    }

    /// The peer reads again: more than [`backlog_bytes_high`] bytes were queued for it, and now fewer
    /// than [`backlog_bytes_low`] are. A handler that sends much to a peer stops when
    /// [`Peer::backlog_bytes`] is high, and continues here. Not called once the connection is
    /// closing.
    ///
    /// [`backlog_bytes_high`]: crate::Config::backlog_bytes_high
    /// [`backlog_bytes_low`]: crate::Config::backlog_bytes_low
    fn on_drained(&mut self, peer: &mut Peer<'_, Self::State>) {
        let _ = peer;
    }

    /// The peer has answered the server's last keepalive ping (see
    /// [`ping_interval`](crate::Config::ping_interval)). Only a pong with the payload of that ping
    /// counts, 8 random bytes, so a peer cannot answer early (RFC 6455 5.5.3). Not called for a ping of
    /// [`Peer::ping`], nor once the connection is closing.
    ///
    /// `round_trip` is the time between the starts of the worker's turns in which the ping was sent
    /// and the pong read. It includes the time that the ping waited behind other bytes, and that the
    /// worker was busy or did not read from the peer.
    fn on_pong(&mut self, peer: &mut Peer<'_, Self::State>, round_trip: Duration) {
        let _ = (peer, round_trip);
    }

    /// An open connection has closed, for any reason. This is the last call for it. `context`
    /// reaches the other connections of this worker.
    fn on_close(
        &mut self,
        context: &mut Context<'_>,
        id: PeerId,
        state: Self::State,
        event: &CloseEvent<'_>,
    ) {
        let _ = (context, id, state, event);
    }

    /// A tick of the worker: called at intervals of
    /// [`tick_interval`](crate::Config::tick_interval), independently of connections. Each worker
    /// calls its own handler.
    ///
    /// Tick number `n` is due at `n * tick_interval` after the start of the worker, and never comes
    /// early. While the worker is idle, a tick is late by about 1 ms at most. A late tick does not
    /// delay later ones: ticks that become due before the worker can make the call are skipped, and
    /// counted in [`TickEvent::missed`].
    ///
    /// The worker also skips ticks while more than
    /// [`mailbox_bytes_max`](crate::Config::mailbox_bytes_max) waits for another worker, or for the
    /// turns of its own peers. No tick comes once a shutdown has begun, because the peers have then
    /// been sent their close frames. After a panic, the requests made through `context` are carried
    /// out, and later ticks come as usual.
    ///
    /// ```
    /// use ws_reactor::{Context, Handler, Message, Peer, Reply, TickEvent};
    ///
    /// /// Publishes a number to each subscriber of "ticks".
    /// struct Metronome;
    ///
    /// impl Handler for Metronome {
    ///     type State = ();
    ///
    ///     fn on_message(&mut self, peer: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
    ///         // Fails only for a long name, or after many other subscriptions.
    ///         let _ = peer.subscribe("ticks");
    ///         Reply::None
    ///     }
    ///
    ///     fn on_tick(&mut self, context: &mut Context<'_>, tick: TickEvent) {
    ///         context.publish("ticks", &tick.number.to_string()[..]);
    ///     }
    /// }
    /// ```
    fn on_tick(&mut self, context: &mut Context<'_>, tick: TickEvent) {
        let _ = (context, tick);
    }

    /// How large binary messages are delivered; asked once for each connection.
    ///
    /// With [`Delivery::StreamedEcho`] they are echoed as they arrive, without
    /// [`on_message`](Self::on_message).
    fn delivery(&self) -> Delivery {
        Delivery::Whole
    }
}

/// The answer to a client's request for an upgrade.
#[derive(Debug)]
#[non_exhaustive]
pub enum Upgrade<S> {
    /// Open the connection, with this state.
    Accept(Accept, S),
    /// Reject the request with this status, headers and body.
    Reject(Response),
}

impl<S> Upgrade<S> {
    /// Opens the connection without a subprotocol or further headers.
    #[must_use]
    pub fn accept(state: S) -> Self {
        Self::Accept(Accept::default(), state)
    }

    /// Answers with `status` and a line of plain text, such as 403 and "unknown origin".
    ///
    /// # Panics
    ///
    /// Unless `status` is one of a final response: 200 to 599.
    #[must_use]
    pub fn reject(status: u16, text: &str) -> Self {
        Self::Reject(Response::text(status, text))
    }
}

/// The reply to a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// No reply, apart from messages that the callback has sent.
    None,
    /// The message itself. A message in one frame is not copied: its reply is laid out where it was
    /// received.
    Echo,
}

/// A tick of a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TickEvent {
    /// The number of this tick, counted from 1. Skipped ticks count, so the tick was due at
    /// `number * tick_interval` after the start of the worker.
    pub number: u64,
    /// The ticks that were skipped between the previous call and this one.
    pub missed: u64,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CloseEvent<'e> {
    /// The code of the peer's close frame, or of ours if the peer broke the protocol;
    /// [`CloseCode::NO_STATUS`] if the peer's close frame has no code, [`CloseCode::ABNORMAL`] if the
    /// peer sent no close frame.
    pub code: CloseCode,
    /// The reason in the peer's close frame, or an empty string.
    pub reason: &'e str,
    /// Why the connection ended.
    pub cause: CloseCause,
}

impl CloseEvent<'_> {
    /// The end of a connection without a close frame from the peer.
    pub(crate) const fn abnormal(cause: CloseCause) -> Self {
        Self { code: CloseCode::ABNORMAL, reason: "", cause }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CloseCause {
    /// The peer closed it.
    Peer,
    /// This side closed it, and the peer agreed; also after a callback panicked (1011).
    Local,
    /// The peer broke the protocol or a limit.
    Protocol(ProtocolError),
    /// The peer ended TCP without a close frame.
    EndOfStream,
    /// A system call on the socket failed with an error of this kind: for instance
    /// [`ConnectionReset`](io::ErrorKind::ConnectionReset) by the peer,
    /// [`TimedOut`](io::ErrorKind::TimedOut) or [`HostUnreachable`](io::ErrorKind::HostUnreachable).
    Transport(io::ErrorKind),
    /// The peer was silent for [`idle_timeout`](crate::Config::idle_timeout): it sent nothing, and
    /// its TCP acknowledged no byte that counts.
    IdleTimeout,
    /// The peer did not answer the server's close frame within
    /// [`close_timeout`](crate::Config::close_timeout) of its acknowledgement, or its TCP stopped
    /// acknowledging bytes up to that frame for [`idle_timeout`](crate::Config::idle_timeout).
    CloseTimeout,
    /// The program sent more than the peer received, beyond [`backlog_bytes_max`].
    ///
    /// [`backlog_bytes_max`]: crate::Config::backlog_bytes_max
    BacklogOverflow,
    /// The drain deadline passed before the closing handshake was complete.
    Shutdown,
}

impl CloseCause {
    /// The cause for a system call that failed with `error`; keeps only its kind.
    pub(crate) fn transport(error: io::Error) -> Self {
        Self::Transport(error.kind())
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "closed by the peer",
            Self::Local => "closed by the server",
            Self::Protocol(error) => return error.fmt(f),
            Self::EndOfStream => "the peer ended the stream without a close frame",
            Self::Transport(kind) => return write!(f, "TCP failed: {kind}"),
            Self::IdleTimeout => "the peer was silent for too long",
            Self::CloseTimeout => "the peer did not answer the close frame",
            Self::BacklogOverflow => "too many bytes were queued for the peer",
            Self::Shutdown => "the server shut down",
        })
    }
}

/// Echoes every message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Handler for Echo {
    type State = ();

    #[inline]
    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }

    fn delivery(&self) -> Delivery {
        Delivery::StreamedEcho
    }
}

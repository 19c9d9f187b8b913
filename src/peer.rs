//! A connection as its handler sees it: its id, its state, and the way to send to it.

use std::time::Duration;

use crate::context::Context;
use crate::fanout::slow_consumer::SlowConsumer;
use crate::fanout::topics::SubscribeError;
use crate::peer_deadlines::PeerDeadlines;
use crate::peer_id::PeerId;
use crate::protocol::{CloseCode, EncodedMessage, Message, Run, Session, Workspace};

/// An open connection, lent to a callback.
///
/// Messages sent here go out at the latest when the connection's turn ends, in the order of the
/// calls and after the replies to earlier messages.
#[derive(Debug)]
pub struct Peer<'p, S> {
    /// The handler's state for this connection.
    pub state: &'p mut S,
    id: PeerId,
    outbox: Outbox<'p>,
    context: Context<'p>,
    deadlines: &'p mut PeerDeadlines,
}

impl<'p, S> Peer<'p, S> {
    pub(crate) const fn new(
        id: PeerId,
        state: &'p mut S,
        outbox: Outbox<'p>,
        context: Context<'p>,
        deadlines: &'p mut PeerDeadlines,
    ) -> Self {
        Self { state, id, outbox, context, deadlines }
    }

    /// The connection's id, for [`ServerHandle::send`](crate::ServerHandle::send).
    #[must_use]
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// Reaches the other connections of this worker.
    pub const fn context(&mut self) -> &mut Context<'p> {
        &mut self.context
    }

    /// Whether messages can still be sent: no close frame has been sent yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.outbox.session.is_open()
    }

    /// Bytes queued for the peer that the kernel has not taken yet, including echoes.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.outbox.queued_bytes()
    }

    /// Sends a message. Returns whether it was taken: `false` once the connection is closing, or if
    /// the first of these limits is exceeded.
    ///
    /// The connection is dropped if more than [`backlog_bytes_max`] that the program sent is queued
    /// already, or if more than `backlog_bytes_max + message_bytes_max` is still queued when the
    /// callback has returned and the kernel has taken all it can. One large message can exceed the
    /// second limit, however fast the peer reads. Echoes do not count. A message that was taken is
    /// lost if the connection ends before the peer has received it.
    ///
    /// [`backlog_bytes_max`]: crate::Config::backlog_bytes_max
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) -> bool {
        self.send_own_copies();
        self.outbox.send(message.into())
    }

    /// Sends a message as [`send`](Self::send) does, but never compresses it: for secrets (see
    /// [`DeflateConfig`](crate::DeflateConfig)), and for data that is compressed already.
    #[cfg(feature = "deflate")]
    pub fn send_uncompressed<'m>(&mut self, message: impl Into<Message<'m>>) -> bool {
        self.send_own_copies();
        self.outbox.send_with(message.into(), Session::send_uncompressed)
    }

    /// Sends a message that is encoded already, as [`send`](Self::send) does.
    pub fn send_encoded(&mut self, message: &EncodedMessage) -> bool {
        self.send_own_copies();
        self.outbox.send_encoded(message)
    }

    /// Sends a ping; of a longer payload the first 125 bytes (RFC 6455 5.5). It counts against the
    /// limits of [`send`](Self::send), and returns the same.
    pub fn ping(&mut self, payload: &[u8]) -> bool {
        self.send_own_copies();
        self.outbox.ping(payload)
    }

    /// Stops reading from this peer until [`resume_reading`](Self::resume_reading) or
    /// [`Context::resume_reading`]. Messages that were received already wait: at most one read
    /// (260 KiB) in memory, the others in the kernel, so that TCP slows the peer down. Has no effect
    /// once the connection is closing, and ends when it closes.
    ///
    /// Pings continue. While input waits, the peer's answer may be part of it, so the peer counts as
    /// alive while its TCP acknowledges everything that it was sent. The end of its stream and its
    /// close frame wait too, and an error of the connection is only noticed by a send: without pings,
    /// a peer that has reset its connection stays until the pause ends.
    pub fn pause_reading(&mut self) {
        if self.is_open() {
            self.outbox.pauses.set(ReadPauses::HANDLER);
        }
    }

    /// Ends a pause of [`pause_reading`](Self::pause_reading). The messages that wait are delivered
    /// after the callback.
    pub fn resume_reading(&mut self) {
        self.outbox.pauses.clear(ReadPauses::HANDLER);
    }

    /// Closes the connection; of a longer reason the first 123 bytes are sent. Only pongs follow the
    /// close frame, and input that this handler has not seen is dropped. Nothing happens once the
    /// connection is closing.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.send_own_copies();
        self.outbox.close(code, reason);
    }

    /// Subscribes to a topic: from now on the peer gets each message that is published to it, on any
    /// worker. Returns `false` if it subscribed before. The subscription ends with the connection.
    ///
    /// A topic exists while it has subscribers, and its name is compared byte by byte. Messages
    /// count against the limits of [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// If the name is too long, or the connection has too many subscriptions.
    pub fn subscribe(&mut self, topic: &str) -> Result<bool, SubscribeError> {
        self.subscribe_with(topic, SlowConsumer::Close)
    }

    /// As [`subscribe`](Self::subscribe); chooses what happens to messages while the peer does not
    /// read. A later call for the same topic changes the choice.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_with(
        &mut self,
        topic: &str,
        policy: SlowConsumer,
    ) -> Result<bool, SubscribeError> {
        self.context.fanout().topics.subscribe(self.id.slot, topic, policy)
    }

    /// Ends a subscription. Returns `false` if the peer had none. No message that is published from
    /// now on is sent.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.context.fanout().topics.unsubscribe(self.id.slot, topic)
    }

    /// Sends a message to all subscribers of a topic except this peer; otherwise as
    /// [`Context::publish`].
    pub fn publish(&mut self, topic: &str, message: impl Into<EncodedMessage>) -> bool {
        self.context.publish_to_others(topic, message.into())
    }

    /// Sets a deadline, at which the worker calls
    /// [`Handler::on_deadline`](crate::Handler::on_deadline), in place of an earlier one. `None`
    /// removes it. By default a peer has no deadline.
    ///
    /// The time counts from the start of the worker's turn, so it includes the callbacks that ran
    /// before this one in the same turn. The call never comes early, and at most a few milliseconds
    /// late if the worker is idle. A deadline takes about 30 bytes.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ws_reactor::{CloseCode, ConnectionInfo, Handler, Message, Peer, Reply};
    /// /// Closes connections that do not send a token in time.
    /// struct Guarded;
    ///
    /// impl Handler for Guarded {
    ///     type State = ();
    ///
    ///     fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
    ///         peer.set_deadline(Some(Duration::from_secs(3)));
    ///     }
    ///
    ///     fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
    ///         if message.as_text() == Some("secret") {
    ///             peer.set_deadline(None);
    ///         }
    ///         Reply::None
    ///     }
    ///
    ///     fn on_deadline(&mut self, peer: &mut Peer<'_, ()>) {
    ///         peer.close(CloseCode::POLICY_VIOLATION, "no token in time");
    ///     }
    /// }
    /// ```
    pub fn set_deadline(&mut self, after: Option<Duration>) {
        self.deadlines.set(self.id.slot, after);
    }

    /// Sends the copies of messages that the callback has published to itself.
    #[inline]
    pub(crate) fn send_own_copies(&mut self) {
        if !self.context.fanout().own.is_empty() {
            for message in std::mem::take(&mut self.context.fanout().own) {
                self.outbox.send_encoded(&message);
            }
        }
    }
}

/// The way out of a callback: the session, the replies before, and the limits.
#[derive(Debug)]
pub(crate) struct Outbox<'o> {
    pub(crate) session: &'o mut Session,
    /// Replies laid out in place. They precede all frames that are sent here.
    pub(crate) run: Run<'o>,
    pub(crate) workspace: &'o mut Workspace,
    pub(crate) backlog: BacklogBytes,
    pub(crate) backlog_bytes_max: usize,
    pub(crate) sends: &'o mut SendState,
    pub(crate) counts: &'o mut TurnCounts,
    pub(crate) pauses: &'o mut ReadPauses,
}

/// The reasons why a connection is not read. They share a byte, because every connection has one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ReadPauses(u8);

impl ReadPauses {
    /// The backlog exceeded its high mark, and is not below the low mark yet.
    pub(crate) const BACKLOG: u8 = 1;
    /// The handler has paused reading.
    pub(crate) const HANDLER: u8 = 2;

    #[inline]
    pub(crate) const fn any(self) -> bool {
        self.0 != 0
    }

    pub(crate) const fn has(self, reason: u8) -> bool {
        self.0 & reason != 0
    }

    pub(crate) const fn set(&mut self, reason: u8) {
        self.0 |= reason;
    }

    pub(crate) const fn clear(&mut self, reason: u8) {
        self.0 &= !reason;
    }
}

/// Bytes that the kernel has refused so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct BacklogBytes {
    /// All of them.
    pub(crate) total: usize,
    /// The part that the program (the handler or another thread) sent. Bytes that the kernel takes
    /// are subtracted from this count first, so it may be too low.
    pub(crate) program: usize,
}

/// Messages, payload bytes and the close frame of one turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TurnCounts {
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    /// The code of the close frame, if one was sent or queued.
    pub(crate) close_sent: Option<CloseCode>,
}

/// The frames that the program has sent in one turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendState {
    /// Their bytes in the workspace, including frame headers.
    pub(crate) bytes: usize,
    /// One of them found too many bytes queued: the connection must be dropped.
    pub(crate) overflowed: bool,
}

impl Outbox<'_> {
    fn send(&mut self, message: Message<'_>) -> bool {
        self.send_with(message, Session::send)
    }

    #[inline]
    fn send_with(
        &mut self,
        message: Message<'_>,
        send: impl FnOnce(&mut Session, Message<'_>, &mut Workspace) -> bool,
    ) -> bool {
        let payload_len = message.as_bytes().len();
        let is_taken = self.append(payload_len, |session, workspace| {
            send(session, message, workspace);
        });
        self.count_message(is_taken, payload_len);
        is_taken
    }

    fn send_encoded(&mut self, message: &EncodedMessage) -> bool {
        let payload_len = message.payload_len();
        let is_taken = self.append(payload_len, |session, workspace| {
            if !session.defer(message.as_frame()) {
                workspace.out.extend_from_slice(message.as_frame());
            }
        });
        self.count_message(is_taken, payload_len);
        is_taken
    }

    fn ping(&mut self, payload: &[u8]) -> bool {
        self.append(payload.len(), |session, workspace| {
            session.ping(payload, workspace);
        })
    }

    /// Appends a frame behind all earlier replies, if it may be sent.
    #[inline]
    fn append(
        &mut self,
        payload_len: usize,
        write: impl FnOnce(&mut Session, &mut Workspace),
    ) -> bool {
        if !self.admits() {
            return false;
        }
        self.run.move_to(self.workspace);
        self.workspace.reserve(payload_len);
        let before = self.workspace.out.len();
        write(self.session, self.workspace);
        self.sends.bytes += self.workspace.out.len() - before;
        true
    }

    fn count_message(&mut self, is_taken: bool, payload_len: usize) {
        if is_taken {
            self.counts.messages_out += 1;
            self.counts.bytes_out += payload_len as u64;
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.run.move_to(self.workspace);
        if self.session.close(code, reason, self.workspace) {
            self.counts.close_sent = Some(code);
        }
        // The rest of the input is skipped up to the peer's close frame.
        self.pauses.clear(ReadPauses::HANDLER);
    }

    fn queued_bytes(&self) -> usize {
        self.backlog.total
            + self.workspace.out.len()
            + self.run.len()
            + self.session.deferred_bytes()
    }

    /// Whether a frame may be sent: the session is open, and few enough bytes of earlier callbacks
    /// are queued. Bytes that this callback sends do not count, because the kernel may take them at
    /// once.
    fn admits(&mut self) -> bool {
        if !self.session.is_open() {
            return false;
        }
        let refused_bytes = self.backlog.program + self.session.deferred_bytes();
        self.sends.overflowed |= refused_bytes > self.backlog_bytes_max;
        !self.sends.overflowed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::Config;
    use crate::fanout::Fanout;
    use crate::protocol::{Delivery, Window};

    /// Sends in each of three ways to a peer with `queued` bytes of earlier callbacks, where 100 are
    /// allowed. Returns the results, and whether the connection must be dropped.
    fn sends(queued: usize, is_closing: bool) -> ([bool; 3], bool) {
        let mut session = Session::new(Delivery::Whole);
        let mut workspace = Workspace::default();
        if is_closing {
            session.close(CloseCode::NORMAL, "", &mut workspace);
        }
        let (mut sends, mut counts) = (SendState::default(), TurnCounts::default());
        let mut window = Window::new(&mut [], 0);
        let mut pauses = ReadPauses::default();
        let outbox = Outbox {
            session: &mut session,
            run: window.split().1,
            workspace: &mut workspace,
            backlog: BacklogBytes { total: queued, program: queued },
            backlog_bytes_max: 100,
            sends: &mut sends,
            counts: &mut counts,
            pauses: &mut pauses,
        };
        let id = PeerId { server: 0, worker: 0, slot: 0, generation: 1 };
        let mut fanout = Fanout::new(&Config::default(), true);
        let mut state = ();
        let mut deadlines = PeerDeadlines::new(Instant::now());
        let context = Context::new(id, &mut fanout);
        let mut peer = Peer::new(id, &mut state, outbox, context, &mut deadlines);
        let taken = [peer.send("a"), peer.send_encoded(&EncodedMessage::new("b")), peer.ping(b"c")];
        assert_eq!(counts.messages_out, if taken[0] { 2 } else { 0 });
        (taken, sends.overflowed)
    }

    #[test]
    fn a_send_returns_whether_the_frame_was_taken() {
        assert_eq!(sends(0, false), ([true; 3], false));
        assert_eq!(sends(100, false), ([true; 3], false));
        assert_eq!(sends(101, false), ([false; 3], true));
        // A send that has no effect must not drop a connection that is closing.
        assert_eq!(sends(0, true), ([false; 3], false));
        assert_eq!(sends(101, true), ([false; 3], false));
    }
}

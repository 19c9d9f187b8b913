//! Requests of a callback that concern other connections.

use crate::fanout::{Effect, Fanout, Publication};
use crate::peer_id::PeerId;
use crate::protocol::{CloseCode, EncodedMessage};

/// Reaches other connections from a callback.
///
/// The worker carries out the requests after the turn of the callback's own connection, in the
/// order of the calls. They are carried out even if the callback panics after making them. Each
/// peer gets the messages of a callback in the order of the calls, including those that the callback
/// sends to its own peer.
///
/// Each request counts as an event of the turn, and a message to a topic as one more for each 64
/// subscribers: after 4096 events, the rest of the connection's input waits for its next turn.
#[derive(Debug)]
pub struct Context<'c> {
    /// The callback's own connection, or an id that no connection has.
    id: PeerId,
    fanout: &'c mut Fanout,
    /// Bytes of the messages to topics that this callback has published.
    published: usize,
}

impl<'c> Context<'c> {
    /// The context of a callback of the open connection `id`.
    #[inline]
    pub(crate) const fn new(id: PeerId, fanout: &'c mut Fanout) -> Self {
        Self { id, fanout, published: 0 }
    }

    /// The context of a callback without an open connection.
    pub(crate) const fn of_worker(server: u32, worker: u32, fanout: &'c mut Fanout) -> Self {
        // Slots number the connections of a worker from 0, and generations start at 1.
        Self::new(PeerId { server, worker, slot: u32::MAX, generation: 0 }, fanout)
    }

    /// Sends a message to all subscribers of a topic, on every worker; see
    /// [`Peer::subscribe`](crate::Peer::subscribe). The subscribers of a worker share its memory.
    ///
    /// Connections of this worker get it if they subscribe at the time of the call. On the other
    /// workers, a connection that subscribes while the message is on its way gets it too.
    ///
    /// If more than [`mailbox_bytes_max`](crate::Config::mailbox_bytes_max) waits for another worker,
    /// or for connections of this one, the worker stops reading from its peers until less does. So
    /// this returns `true`, unless this callback alone has published more than that already. Then the
    /// message is not sent to anyone, and counted in
    /// [`Stats::refused_publications`](crate::Stats::refused_publications). `false` too once the
    /// worker has noticed that the server shuts down. Earlier messages precede the close frames.
    ///
    /// ```
    /// # use ws_reactor::{CloseEvent, Context, Handler, Message, Peer, PeerId, Reply};
    /// # struct Chat;
    /// # impl Handler for Chat {
    /// #     type State = ();
    /// fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
    ///     peer.context().publish("lobby", message);
    ///     Reply::None
    /// }
    ///
    /// fn on_close(&mut self, context: &mut Context<'_>, id: PeerId, _: (), _: &CloseEvent<'_>) {
    ///     context.publish("lobby", &format!("{id} left")[..]);
    /// }
    /// # }
    /// ```
    pub fn publish(&mut self, topic: &str, message: impl Into<EncodedMessage>) -> bool {
        let message = message.into();
        if !self.fanout.topics.is_subscribed(self.id.slot, topic) {
            return self.publish_to_others(topic, message);
        }
        let is_taken = self.publish_to_others(topic, message.clone());
        if is_taken {
            self.fanout.own.push(message);
        }
        is_taken
    }

    /// Sends a message to all subscribers of a topic except to the callback's own peer.
    ///
    /// The subscriptions of that peer alone can change before the worker carries out the request, so
    /// no peer gets a message that was published before its subscription.
    pub(crate) fn publish_to_others(&mut self, topic: &str, message: EncodedMessage) -> bool {
        let topic = self.fanout.topics.name(topic);
        let publication = Publication { topic, message };
        let bytes = publication.bytes();
        let is_taken = self.fanout.ask_to_publish(publication, self.id.slot, self.published);
        if is_taken {
            self.published += bytes;
        }
        is_taken
    }

    /// Sends a message to another connection of this worker. The frame is shared, not copied.
    /// Returns `false`, and does nothing, if `peer` belongs to another worker or server: then use
    /// [`ServerHandle::send_encoded`](crate::ServerHandle::send_encoded).
    ///
    /// A message to a connection that is closing or has closed is dropped and counted in
    /// [`Stats::stale_sends`](crate::Stats::stale_sends). The limits of
    /// [`Peer::send`](crate::Peer::send) apply.
    pub fn send(&mut self, peer: PeerId, message: &EncodedMessage) -> bool {
        if peer == self.id {
            self.fanout.own.push(message.clone());
            return true;
        }
        let is_ours = self.is_ours(peer);
        if is_ours {
            self.fanout.ask(Effect::Send(peer, message.clone()));
        }
        is_ours
    }

    /// Starts the closing handshake of another connection of this worker; of a longer reason the
    /// first 123 bytes are sent. Returns `false`, and does nothing, if `peer` belongs to another
    /// worker or server. Has no effect if a close frame has been sent already.
    pub fn close(&mut self, peer: PeerId, code: CloseCode, reason: &str) -> bool {
        let is_ours = self.is_ours(peer);
        if is_ours {
            self.fanout.ask(Effect::Close(peer, code, reason.into()));
        }
        is_ours
    }

    /// Ends a pause of reading from a connection of this worker; see
    /// [`Peer::pause_reading`](crate::Peer::pause_reading). Returns `false`, and does nothing, if
    /// `peer` belongs to another worker or server. Has no effect if reading is not paused, or the
    /// connection has closed.
    pub fn resume_reading(&mut self, peer: PeerId) -> bool {
        let is_ours = self.is_ours(peer);
        if is_ours {
            self.fanout.ask(Effect::ResumeReading(peer));
        }
        is_ours
    }

    const fn is_ours(&self, peer: PeerId) -> bool {
        peer.server == self.id.server && peer.worker == self.id.worker
    }

    /// The parts of the worker behind this context.
    pub(crate) const fn fanout(&mut self) -> &mut Fanout {
        self.fanout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn connections_of_other_workers_and_servers_are_out_of_reach() {
        let id = PeerId { server: 1, worker: 2, slot: 3, generation: 4 };
        let mut fanout = Fanout::new(&Config::default(), true);
        let mut context = Context::new(id, &mut fanout);
        let message = EncodedMessage::new("hello");
        for other in [PeerId { server: 9, ..id }, PeerId { worker: 9, ..id }] {
            assert!(!context.send(other, &message));
            assert!(!context.close(other, CloseCode::NORMAL, ""));
            assert!(!context.resume_reading(other));
        }
        assert!(context.send(PeerId { slot: 9, ..id }, &message));
        assert!(context.close(id, CloseCode::NORMAL, ""));
        assert_eq!(fanout.take_effects().len(), 2);
    }
}

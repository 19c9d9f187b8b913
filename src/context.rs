//! Requests of a callback about other connections.

use crate::peer_id::PeerId;
use crate::protocol::{CloseCode, EncodedMessage};

/// Reaches the other connections of a worker from a callback.
///
/// The worker carries out the requests after the turn of the callback's own connection, in the
/// order of the calls. They are carried out even if the callback panics after making them.
#[derive(Debug)]
pub struct Context<'c> {
    server: u32,
    worker: u32,
    effects: &'c mut Vec<Effect>,
}

/// A request of a callback, for the worker to carry out.
#[derive(Debug)]
pub(crate) enum Effect {
    Send(PeerId, EncodedMessage),
    Close(PeerId, CloseCode, Box<str>),
}

impl<'c> Context<'c> {
    /// The context of a callback of the connection `id`.
    pub(crate) const fn new(id: PeerId, effects: &'c mut Vec<Effect>) -> Self {
        Self { server: id.server, worker: id.worker, effects }
    }

    /// Sends a message to another connection of this worker. The frame is shared, not copied.
    /// Returns `false`, and does nothing, if `peer` belongs to another worker or server: then use
    /// [`ServerHandle::send_encoded`](crate::ServerHandle::send_encoded).
    ///
    /// Each request counts as an event of the turn: after 4096 events, the rest of the connection's
    /// input waits for its next turn.
    ///
    /// A message to a connection that is closing or has closed is dropped and counted in
    /// [`Stats::stale_sends`](crate::Stats::stale_sends). The limits of
    /// [`Peer::send`](crate::Peer::send) apply.
    pub fn send(&mut self, peer: PeerId, message: &EncodedMessage) -> bool {
        let is_ours = self.is_ours(peer);
        if is_ours {
            self.effects.push(Effect::Send(peer, message.clone()));
        }
        is_ours
    }

    /// Starts the closing handshake of another connection of this worker; of a longer reason the
    /// first 123 bytes are sent. Returns `false`, and does nothing, if `peer` belongs to another
    /// worker or server. Has no effect if a close frame has been sent already.
    pub fn close(&mut self, peer: PeerId, code: CloseCode, reason: &str) -> bool {
        let is_ours = self.is_ours(peer);
        if is_ours {
            self.effects.push(Effect::Close(peer, code, reason.into()));
        }
        is_ours
    }

    const fn is_ours(&self, peer: PeerId) -> bool {
        peer.server == self.server && peer.worker == self.worker
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_other_workers_and_servers_are_out_of_reach() {
        let id = PeerId { server: 1, worker: 2, slot: 3, generation: 4 };
        let mut effects = Vec::new();
        let mut context = Context::new(id, &mut effects);
        let message = EncodedMessage::new("hello");
        for other in [PeerId { server: 9, ..id }, PeerId { worker: 9, ..id }] {
            assert!(!context.send(other, &message));
            assert!(!context.close(other, CloseCode::NORMAL, ""));
        }
        assert!(context.send(PeerId { slot: 9, ..id }, &message));
        assert!(context.close(id, CloseCode::NORMAL, ""));
        assert_eq!(effects.len(), 2);
    }
}

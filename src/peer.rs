//! A connection as its handler sees it: who it is, its state, and what may be sent to it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::{CloseCode, Message, Session, Workspace};

/// Identifies a connection of one server, for any thread. 16 bytes.
///
/// An id is stale once its connection has closed, and always stale for every other server of the
/// process. The numbers in it wrap around: a worker may reuse an id after 2^32 - 1 further
/// connections, and a server may reuse the number of an earlier server after 2^32 further ones.
///
/// `Display` writes `worker/slot.generation`, which is unique within a server.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PeerId {
    pub(crate) server: u32,
    pub(crate) worker: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.worker, self.slot, self.generation)
    }
}

/// The ids of one worker's open connections, for other threads to look up. An id is listed from
/// just before the `on_open` callback until just before the `on_close` callback.
///
/// The worker takes the lock when a connection opens or closes, and never for a message; other
/// threads take it to send or close.
#[derive(Debug, Default)]
pub(crate) struct OpenPeers {
    /// For each slot, the generation of its open connection; 0 if the slot is free.
    generations: Mutex<Vec<u32>>,
}

impl OpenPeers {
    /// Other threads can send to `id` from now on.
    pub(crate) fn insert(&self, id: PeerId) {
        let slot = id.slot as usize;
        let mut generations = self.lock();
        if generations.len() <= slot {
            generations.resize(slot + 1, 0);
        }
        generations[slot] = id.generation;
    }

    /// From now on `id` is stale.
    pub(crate) fn remove(&self, id: PeerId) {
        if let Some(generation) = self.lock().get_mut(id.slot as usize) {
            *generation = 0;
        }
    }

    /// Whether the connection with this slot and generation is open now.
    pub(crate) fn contains(&self, slot: u32, generation: u32) -> bool {
        self.lock().get(slot as usize) == Some(&generation)
    }

    /// A poisoned lock is no error: a thread that panics with it leaves the list consistent.
    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open connection, lent to a callback.
///
/// What is sent goes out when the callback's turn ends, in the order of the calls and after the
/// replies to earlier messages.
#[derive(Debug)]
pub struct Peer<'p, S> {
    /// What the handler keeps for this connection.
    pub state: &'p mut S,
    id: PeerId,
    outbox: Outbox<'p>,
}

impl<'p, S> Peer<'p, S> {
    pub(crate) const fn new(id: PeerId, state: &'p mut S, outbox: Outbox<'p>) -> Self {
        Self { state, id, outbox }
    }

    /// The connection's name, for [`ServerHandle::send`](crate::ServerHandle::send).
    #[must_use]
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// Whether messages can still be sent: no close frame has been.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.outbox.session.is_open()
    }

    /// Bytes queued for the peer that the kernel has not taken yet, including echoes.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.outbox.queued_bytes()
    }

    /// Sends a message. Nothing happens once the connection is closing.
    ///
    /// The connection is dropped if more than [`backlog_bytes_max`] that the program sent is queued
    /// already, or if more than `backlog_bytes_max + message_bytes_max` is still queued when the
    /// callback has returned and the kernel has taken all it can. One large message can exceed the
    /// second limit, however fast the peer reads. Echoes do not count.
    ///
    /// [`backlog_bytes_max`]: crate::Config::backlog_bytes_max
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) {
        self.outbox.send(message.into());
    }

    /// Sends a ping; of a longer payload the first 125 bytes. Nothing happens once the connection
    /// is closing. It counts as a message does that is [sent](Self::send).
    pub fn ping(&mut self, payload: &[u8]) {
        if self.outbox.has_room() {
            self.outbox.move_run();
            let before = self.outbox.workspace.out.len();
            self.outbox.session.ping(payload, self.outbox.workspace);
            self.outbox.tally.program_bytes += self.outbox.workspace.out.len() - before;
        }
    }

    /// Closes the connection: the last that is sent; of a longer reason the first 123 bytes. What
    /// the peer has sent and this handler has not seen is dropped. Nothing happens once the
    /// connection is closing.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.outbox.move_run();
        self.outbox.session.close(code, reason, self.outbox.workspace);
    }
}

/// The way out of a callback: the replies laid out so far, and the buffer behind them.
#[derive(Debug)]
pub(crate) struct Outbox<'o> {
    session: &'o mut Session,
    /// Replies laid out in place; empty once moved to `workspace`.
    run: &'o [u8],
    workspace: &'o mut Workspace,
    backlog: BacklogBytes,
    backlog_bytes_max: usize,
    tally: &'o mut Tally,
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

/// What came of a turn's callbacks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) bytes_out: u64,
    /// The run was moved to the workspace.
    pub(crate) run_moved: bool,
    /// Bytes in the workspace that the handler or another thread sent, including frame headers.
    pub(crate) program_bytes: usize,
    /// More was sent than the connection may hold.
    pub(crate) overflowed: bool,
}

impl<'o> Outbox<'o> {
    pub(crate) const fn new(
        session: &'o mut Session,
        run: &'o [u8],
        workspace: &'o mut Workspace,
        backlog: BacklogBytes,
        backlog_bytes_max: usize,
        tally: &'o mut Tally,
    ) -> Self {
        Self { session, run, workspace, backlog, backlog_bytes_max, tally }
    }

    pub(crate) fn send(&mut self, message: Message<'_>) {
        if !self.has_room() {
            return;
        }
        self.move_run();
        self.workspace.reserve(message.as_bytes().len());
        let before = self.workspace.out.len();
        if self.session.send(message, self.workspace) {
            self.tally.program_bytes += self.workspace.out.len() - before;
            self.tally.messages_out += 1;
            self.tally.bytes_out += message.as_bytes().len() as u64;
        }
    }

    fn queued_bytes(&self) -> usize {
        self.backlog.total
            + self.workspace.out.len()
            + self.run.len()
            + self.session.deferred_bytes()
    }

    /// Whether few enough bytes of earlier callbacks are queued. Bytes that this callback sends do
    /// not count, because the kernel may take them at once.
    fn has_room(&mut self) -> bool {
        let refused_bytes = self.backlog.program + self.session.deferred_bytes();
        self.tally.overflowed |= refused_bytes > self.backlog_bytes_max;
        !self.tally.overflowed
    }

    /// What is laid out in place goes on the wire before what is sent now.
    fn move_run(&mut self) {
        self.workspace.out.extend_from_slice(self.run);
        self.run = &[];
        self.tally.run_moved = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_takes_sixteen_bytes() {
        assert_eq!(size_of::<PeerId>(), 16);
    }

    #[test]
    fn a_peer_is_open_until_it_is_removed() {
        let peers = OpenPeers::default();
        let id = PeerId { server: 0, worker: 0, slot: 5, generation: 2 };
        assert!(!peers.contains(5, 2));
        peers.insert(id);
        assert!(peers.contains(5, 2));
        assert!(!peers.contains(5, 1), "the one before it in the slot");
        assert!(!peers.contains(4, 2) && !peers.contains(6, 2));
        peers.remove(id);
        assert!(!peers.contains(5, 2));
    }
}

//! The open connections of a worker, as other threads see them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::peer_id::PeerId;

/// The ids of one worker's open connections, for other threads to look up. An id is listed from
/// just before the `on_open` callback until just before the `on_close` callback.
///
/// The worker takes the lock when a connection opens or closes, and at the end of a turn in which
/// the backlog of a peer has changed, but never for a message that the kernel takes at once. Other
/// threads take it to send or close, or to read the size of a backlog.
#[derive(Debug, Default)]
pub(crate) struct OpenPeers {
    listed: Mutex<Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    /// For each slot, the generation of its open connection; 0 if the slot is free.
    generations: Vec<u32>,
    /// For each slot whose connection has a backlog, its size in bytes.
    backlogs: BTreeMap<u32, usize>,
}

impl Listed {
    fn contains(&self, slot: u32, generation: u32) -> bool {
        self.generations.get(slot as usize) == Some(&generation)
    }
}

impl OpenPeers {
    /// Other threads can send to `id` from now on.
    pub(crate) fn insert(&self, id: PeerId) {
        let slot = id.slot as usize;
        let generations = &mut self.lock().generations;
        if generations.len() <= slot {
            generations.resize(slot + 1, 0);
        }
        generations[slot] = id.generation;
    }

    /// From now on `id` is stale.
    pub(crate) fn remove(&self, id: PeerId) {
        let mut listed = self.lock();
        listed.backlogs.remove(&id.slot);
        if let Some(generation) = listed.generations.get_mut(id.slot as usize) {
            *generation = 0;
        }
    }

    /// The backlog of `id` has changed. Does nothing if `id` is stale.
    #[cold]
    pub(crate) fn set_backlog(&self, id: PeerId, bytes: usize) {
        let mut listed = self.lock();
        if bytes == 0 {
            listed.backlogs.remove(&id.slot);
        } else if listed.contains(id.slot, id.generation) {
            listed.backlogs.insert(id.slot, bytes);
        }
    }

    /// The backlog of the connection with this slot and generation, if it is open now.
    pub(crate) fn backlog(&self, slot: u32, generation: u32) -> Option<usize> {
        let listed = self.lock();
        let is_open = listed.contains(slot, generation);
        is_open.then(|| listed.backlogs.get(&slot).copied().unwrap_or(0))
    }

    /// Whether the connection with this slot and generation is open now.
    pub(crate) fn contains(&self, slot: u32, generation: u32) -> bool {
        self.lock().contains(slot, generation)
    }

    /// A poisoned lock is no error: a thread that panics with it leaves the list consistent.
    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_backlog_is_listed_only_while_its_connection_is_open() {
        let peers = OpenPeers::default();
        let id = PeerId { server: 0, worker: 0, slot: 5, generation: 2 };
        peers.set_backlog(id, 10);
        assert_eq!(peers.backlog(5, 2), None);
        peers.insert(id);
        assert_eq!(peers.backlog(5, 2), Some(0));
        peers.set_backlog(id, 10);
        assert_eq!((peers.backlog(5, 2), peers.backlog(5, 1)), (Some(10), None));
        peers.remove(id);
        peers.insert(PeerId { generation: 3, ..id });
        assert_eq!((peers.backlog(5, 2), peers.backlog(5, 3)), (None, Some(0)));
        peers.set_backlog(PeerId { generation: 3, ..id }, 7);
        peers.set_backlog(PeerId { generation: 3, ..id }, 0);
        assert!(peers.lock().backlogs.is_empty(), "a peer without a backlog takes no memory");
    }
}

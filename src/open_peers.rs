//! The open connections of a worker, as other threads see them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::peer_id::PeerId;

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
}

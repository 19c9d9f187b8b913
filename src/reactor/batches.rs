//! Which edges have been handled, although epoll reports a limited batch at once.

use std::time::Instant;

/// The largest batch of edges that is taken from epoll at once. epoll reports the remaining edges
/// in the next batch.
pub const READY_PER_TURN: usize = 1024;

/// Consecutive full batches of edges.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// Those since the last batch that was not full.
    full: Option<FullBatches>,
}

#[derive(Debug)]
struct FullBatches {
    /// The time of the first.
    since: Instant,
    /// Edges in all of them.
    edges: usize,
    /// The descriptors registered with epoll at the first.
    registered: usize,
}

impl Batches {
    /// After a batch of `batch` edges at `now`, the time up to which every edge has been handled;
    /// `None` if that is unknown. Deadlines after it must wait, since the next batch may hold the
    /// peer's answer.
    ///
    /// A batch that is not full empties epoll's queue. epoll reports edges in order and queues each
    /// descriptor at most once. So after as many edges as descriptors were `registered` at the first
    /// full batch, everything that was queued then has been handled.
    pub(super) fn complete_until(
        &mut self,
        now: Instant,
        batch: usize,
        registered: usize,
    ) -> Option<Instant> {
        if batch < READY_PER_TURN {
            self.full = None;
            return Some(now);
        }
        let first = FullBatches { since: now, edges: 0, registered };
        let mut batches = self.full.take().unwrap_or(first);
        batches.edges += batch;
        if batches.edges >= batches.registered {
            return Some(batches.since);
        }
        self.full = Some(batches);
        None
    }
}

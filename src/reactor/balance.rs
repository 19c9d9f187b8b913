//! Which worker gets a connection that one worker accepts for all.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of connections of a worker, with those that wait in its mailbox.
///
/// It is raised where the worker is chosen, so the next choice counts a connection that the worker
/// has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Load(AtomicUsize);

impl Load {
    /// Counts a connection that this worker gets.
    pub(super) fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of this worker has ended.
    pub(super) fn lower(&self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert_ne!(before, 0, "a connection that ends was counted when it got its worker");
    }

    fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The least loaded of `others`, if its load is below `own`: a hand-over costs a wake-up, and gains
/// nothing between equals.
pub(super) fn least_loaded<'l, W>(
    own: &Load,
    others: impl Iterator<Item = (W, &'l Load)>,
) -> Option<W> {
    let loads = others.map(|(worker, load)| (worker, load.value()));
    let least = loads.min_by_key(|(_, load)| *load);
    least.filter(|(_, load)| *load < own.value()).map(|(worker, _)| worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(connections: usize) -> Load {
        Load(AtomicUsize::new(connections))
    }

    #[test]
    fn only_a_worker_with_fewer_connections_is_chosen() {
        let others = [load(3), load(1), load(2)];
        let chosen = |own: usize| least_loaded(&load(own), (1..).zip(&others));
        assert_eq!(chosen(4), Some(2));
        assert_eq!(chosen(2), Some(2));
        assert_eq!(chosen(1), None, "a hand-over gains nothing");
        assert_eq!(chosen(0), None);
        assert_eq!(least_loaded::<u32>(&load(1), std::iter::empty()), None);
    }

    #[test]
    fn connections_in_turn_go_to_the_workers_in_equal_numbers() {
        let loads = [load(0), load(0), load(0)];
        for _ in 0..9 {
            let others = (1..).zip(&loads[1..]);
            loads[least_loaded(&loads[0], others).unwrap_or(0)].raise();
        }
        assert!(loads.iter().all(|load| load.value() == 3), "{loads:?}");
    }
}

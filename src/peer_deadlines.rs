//! The deadlines that a handler sets for its peers.

use std::time::{Duration, Instant};

/// The deadlines of a worker's peers, at most one for each.
///
/// They lie in a binary heap, apart from the connections, so that connections take no memory for
/// them if the handler sets none. A handler may set a deadline for each message: the table of places
/// finds the earlier one, which then moves within the heap, without an allocation.
#[derive(Debug)]
pub(crate) struct PeerDeadlines {
    /// The time of the worker's turn, from which new deadlines count.
    now: Instant,
    /// The earliest deadline is at the root.
    heap: Vec<Deadline>,
    /// The place in the heap, by slot; only as long as the highest slot that had a deadline.
    places: Vec<u32>,
}

/// A deadline, ordered by its time. Of two at the same time, the one of the lower slot comes first,
/// so that the order does not depend on the history.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Deadline {
    due: Instant,
    slot: u32,
}

/// The place of a slot without a deadline.
const NOWHERE: u32 = u32::MAX;

impl PeerDeadlines {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { now, heap: Vec::new(), places: Vec::new() }
    }

    /// A turn of the worker begins.
    pub(crate) const fn begin_turn(&mut self, now: Instant) {
        self.now = now;
    }

    /// Sets the deadline of the connection in `slot` to `after` from the start of the turn, or
    /// removes it.
    pub(crate) fn set(&mut self, slot: u32, after: Option<Duration>) {
        // A time that the clock cannot represent never comes.
        match after.and_then(|after| self.now.checked_add(after)) {
            Some(due) => self.insert(Deadline { due, slot }),
            None => self.remove(slot),
        }
    }

    /// The time of the earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|deadline| deadline.due)
    }

    /// Removes the earliest deadline, unless it comes after `until`; returns its slot.
    pub(crate) fn pop(&mut self, until: Instant) -> Option<u32> {
        let Deadline { due, slot } = *self.heap.first()?;
        if due > until {
            return None;
        }
        self.remove(slot);
        Some(slot)
    }

    /// Removes the deadline of the connection in `slot`, if it has one.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(place) = self.place(slot) else { return };
        self.places[slot as usize] = NOWHERE;
        let last = self.heap.pop().expect("the deadline is in the heap");
        if place < self.heap.len() {
            self.settle(place, last);
        }
    }

    fn insert(&mut self, deadline: Deadline) {
        let at = deadline.slot as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, NOWHERE);
        }
        let place = self.place(deadline.slot).unwrap_or_else(|| {
            self.heap.push(deadline);
            self.heap.len() - 1
        });
        self.settle(place, deadline);
    }

    fn place(&self, slot: u32) -> Option<usize> {
        let place = *self.places.get(slot as usize)?;
        (place != NOWHERE).then_some(place as usize)
    }

    /// Puts `deadline` into the heap in place of the one at `place`, and moves it up or down.
    fn settle(&mut self, mut place: usize, deadline: Deadline) {
        while place > 0 && deadline < self.heap[(place - 1) / 2] {
            let parent = (place - 1) / 2;
            self.put(place, self.heap[parent]);
            place = parent;
        }
        loop {
            let children = 2 * place + 1..self.heap.len().min(2 * place + 3);
            let Some(child) = children.min_by_key(|child| self.heap[*child]) else { break };
            if deadline <= self.heap[child] {
                break;
            }
            self.put(place, self.heap[child]);
            place = child;
        }
        self.put(place, deadline);
    }

    fn put(&mut self, place: usize, deadline: Deadline) {
        self.heap[place] = deadline;
        self.places[deadline.slot as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn deadlines_come_in_order_and_each_slot_has_one() {
        let start = Instant::now();
        let mut deadlines = PeerDeadlines::new(start);
        for (slot, after) in [(7, 30), (2, 10), (5, 20), (7, 5), (1, 10)] {
            deadlines.set(slot, Some(after * MS));
        }
        deadlines.set(5, None);
        deadlines.set(6, None);
        assert_eq!(deadlines.next(), Some(start + 5 * MS));
        assert_eq!(deadlines.pop(start + 4 * MS), None);
        let popped: Vec<_> = std::iter::from_fn(|| deadlines.pop(start + 10 * MS)).collect();
        assert_eq!(popped, [7, 1, 2]);
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_deadline_beyond_the_range_of_the_clock_never_comes() {
        let mut deadlines = PeerDeadlines::new(Instant::now());
        deadlines.set(0, Some(MS));
        deadlines.set(0, Some(Duration::MAX));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn many_changes_agree_with_a_sorted_map() {
        let start = Instant::now();
        let mut deadlines = PeerDeadlines::new(start);
        let mut model = BTreeMap::new();
        let mut random = 1_u32;
        for round in 0..50_000_u32 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (slot, after) = ((random >> 16) % 100, (random >> 8) % 50);
            let now = start + round * MS / 10;
            deadlines.begin_turn(now);
            let set = (after > 5).then_some(after * MS);
            deadlines.set(slot, set);
            match set {
                Some(after) => drop(model.insert(slot, now + after)),
                None => drop(model.remove(&slot)),
            }
            while let Some(popped) = deadlines.pop(now) {
                let first = model.iter().map(|(slot, due)| (*due, *slot)).min();
                assert_eq!(first.map(|(_, slot)| slot), Some(popped));
                assert!(model.remove(&popped).is_some_and(|due| due <= now));
            }
            assert_eq!(deadlines.next(), model.values().min().copied());
        }
    }
}

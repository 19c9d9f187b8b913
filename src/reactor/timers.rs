//! Deadlines of connections: a timing wheel with lazy rescheduling.
//!
//! A deadline that moves further away does not touch the wheel. Its entry comes up at the old time,
//! and the worker schedules the connection again at the new one. So a message costs no timer
//! operation, only a store of the time. A deadline that moves nearer gets another entry at once.
//! The superseded entry still comes up, and the worker ignores it because the connection is
//! [due](crate::conn::schedule::Schedule::is_due) at another tick.
//!
//! **Invariant:** each connection has an entry at the tick it is scheduled for. An entry holds only
//! a slot, to keep an idle connection small, and may outlive the connection that it was made for.
//! If it comes up at the tick for which the slot's next connection is scheduled, then that
//! connection is due at this tick anyway.

use crate::conn::tick::Tick;

/// The number of buckets, each one tick wide. An entry further ahead waits in the last one and is
/// then scheduled again.
const BUCKETS: u32 = 2048;

/// The wheel.
#[derive(Debug)]
pub(super) struct Timers {
    /// The slots of the connections that are due, by tick modulo `BUCKETS`.
    buckets: Box<[Vec<u32>]>,
    /// The buckets of all ticks before this one are empty.
    cursor: Tick,
    /// No entry comes up before this tick.
    next: Option<Tick>,
}

impl Timers {
    pub(super) fn new() -> Self {
        let buckets = (0..BUCKETS).map(|_| Vec::new()).collect();
        Self { buckets, cursor: Tick::default(), next: None }
    }

    /// Adds an entry for the connection in `slot`. Returns the tick at which it comes up: `due`,
    /// clamped to the range of the wheel.
    pub(super) fn schedule(&mut self, slot: u32, due: Tick) -> Tick {
        let due = due.clamp(self.cursor, self.cursor.plus(BUCKETS - 1));
        self.bucket(due).push(slot);
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
        due
    }

    /// The tick of the next entry.
    pub(super) const fn next(&self) -> Option<Tick> {
        self.next
    }

    /// Takes the entries of the first tick that has any, unless that is after `now`.
    pub(super) fn pop(&mut self, now: Tick) -> Option<(Tick, Vec<u32>)> {
        let Some(due) = self.next.filter(|due| *due <= now) else {
            self.cursor = self.cursor.max(now);
            return None;
        };
        debug_assert!(due >= self.cursor, "the cursor does not pass an entry");
        let slots = std::mem::take(self.bucket(due));
        debug_assert!(!slots.is_empty(), "`next` is the tick of an entry");
        self.cursor = due;
        self.next = self.next_entry();
        Some((due, slots))
    }

    /// The first tick from the cursor on whose bucket has an entry.
    fn next_entry(&mut self) -> Option<Tick> {
        let cursor = self.cursor;
        (0..BUCKETS).map(|ahead| cursor.plus(ahead)).find(|tick| !self.bucket(*tick).is_empty())
    }

    fn bucket(&mut self, tick: Tick) -> &mut Vec<u32> {
        &mut self.buckets[(tick.index() % BUCKETS) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn tick(index: u32) -> Tick {
        Tick::from_index(index)
    }

    fn expired(timers: &mut Timers, now: Tick) -> Vec<u32> {
        std::iter::from_fn(|| timers.pop(now)).flat_map(|(_, slots)| slots).collect()
    }

    #[test]
    fn each_entry_comes_up_once_at_its_tick() {
        let mut timers = Timers::new();
        timers.schedule(3, tick(30));
        timers.schedule(1, tick(10));
        timers.schedule(2, tick(10));
        assert_eq!(timers.next(), Some(tick(10)));
        assert_eq!(expired(&mut timers, tick(9)), []);
        assert_eq!(expired(&mut timers, tick(10)), [1, 2]);
        assert_eq!(timers.next(), Some(tick(30)));
        assert_eq!(expired(&mut timers, tick(1000)), [3]);
        assert_eq!(timers.next(), None);
        assert_eq!(expired(&mut timers, tick(9000)), []);
    }

    #[test]
    fn a_distant_entry_comes_up_early_and_a_past_one_at_once() {
        let mut timers = Timers::new();
        assert_eq!(expired(&mut timers, tick(5000)), []);
        timers.schedule(1, tick(90_000));
        timers.schedule(2, tick(3));
        assert_eq!(timers.next(), Some(tick(5000)));
        assert_eq!(expired(&mut timers, tick(5000)), [2]);
        assert_eq!(timers.next(), Some(tick(5000 + BUCKETS - 1)));
        assert_eq!(expired(&mut timers, tick(5000 + BUCKETS)), [1]);
    }

    #[test]
    fn over_many_rounds_each_entry_comes_up_once_and_in_time() {
        let mut timers = Timers::new();
        let mut due = Vec::new();
        let mut came_up = 0;
        for round in 0..10_000 {
            let now = round * 31;
            for slot in expired(&mut timers, tick(now)) {
                let due: u32 = due[slot as usize];
                assert!(due <= now && now < due + 31, "entry {slot} at {now}");
                came_up += 1;
            }
            due.push(now + 1 + round * 7 % (BUCKETS - 1));
            timers.schedule(round, tick(due[round as usize]));
        }
        came_up += expired(&mut timers, tick(10_000 * 31 + BUCKETS)).len();
        assert_eq!(came_up, due.len());
        assert_eq!(timers.next(), None);
    }
}

//! Deadlines of connections, in a wheel that is told late.
//!
//! A connection whose deadline moves away does not touch the wheel: its entry comes up at the old
//! time, the worker asks for the new one, and schedules again. So a message costs a store of the
//! time, and nothing here. Only a deadline that moves nearer is scheduled at once; the entry that
//! it leaves behind is known by its time when it comes up, and dropped.

use super::slots::Token;
use crate::conn::tick::Tick;

/// Buckets of the wheel, each a tick wide. What lies further ahead waits in the last one for
/// another round.
const BUCKETS: u32 = 2048;

/// The wheel.
#[derive(Debug)]
pub(super) struct Timers {
    buckets: Box<[Vec<Token>]>,
    /// Every bucket of a tick before this one is empty.
    cursor: Tick,
    /// No entry comes up before this tick.
    next: Option<Tick>,
}

impl Timers {
    pub(super) fn new() -> Self {
        let buckets = (0..BUCKETS).map(|_| Vec::new()).collect();
        Self { buckets, cursor: Tick::default(), next: None }
    }

    /// Brings `token` up at `due`, or earlier if that is too far ahead; returns when.
    pub(super) fn schedule(&mut self, token: Token, due: Tick) -> Tick {
        let due = due.clamp(self.cursor, self.cursor.plus(BUCKETS - 1));
        self.bucket(due).push(token);
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
        due
    }

    /// When the next entry comes up.
    pub(super) const fn next(&self) -> Option<Tick> {
        self.next
    }

    /// Takes the first entries that come up at `now` or before, all of one tick; `None` if there
    /// are no more.
    pub(super) fn pop(&mut self, now: Tick) -> Option<(Tick, Vec<Token>)> {
        let Some(due) = self.next.filter(|due| *due <= now) else {
            self.cursor = self.cursor.max(now);
            return None;
        };
        let tokens = std::mem::take(self.bucket(due));
        self.cursor = due;
        self.next = self.next_entry();
        Some((due, tokens))
    }

    /// The first tick from the cursor on whose bucket has an entry.
    fn next_entry(&mut self) -> Option<Tick> {
        let cursor = self.cursor;
        (0..BUCKETS).map(|ahead| cursor.plus(ahead)).find(|tick| !self.bucket(*tick).is_empty())
    }

    fn bucket(&mut self, tick: Tick) -> &mut Vec<Token> {
        &mut self.buckets[(tick.index() % BUCKETS) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn token(index: u32) -> Token {
        Token { index, generation: 1 }
    }

    const fn tick(index: u32) -> Tick {
        Tick::from_index(index)
    }

    fn expired(timers: &mut Timers, now: Tick) -> Vec<Token> {
        std::iter::from_fn(|| timers.pop(now)).flat_map(|(_, tokens)| tokens).collect()
    }

    #[test]
    fn entries_come_up_at_their_tick_and_once() {
        let mut timers = Timers::new();
        timers.schedule(token(3), tick(30));
        timers.schedule(token(1), tick(10));
        timers.schedule(token(2), tick(10));
        assert_eq!(timers.next(), Some(tick(10)));
        assert_eq!(expired(&mut timers, tick(9)), []);
        assert_eq!(expired(&mut timers, tick(10)), [token(1), token(2)]);
        assert_eq!(timers.next(), Some(tick(30)));
        assert_eq!(expired(&mut timers, tick(1000)), [token(3)]);
        assert_eq!(timers.next(), None);
        assert_eq!(expired(&mut timers, tick(9000)), []);
    }

    #[test]
    fn what_is_far_ahead_comes_up_early_and_what_is_past_at_once() {
        let mut timers = Timers::new();
        assert_eq!(expired(&mut timers, tick(5000)), []);
        timers.schedule(token(1), tick(90_000));
        timers.schedule(token(2), tick(3));
        assert_eq!(timers.next(), Some(tick(5000)));
        assert_eq!(expired(&mut timers, tick(5000)), [token(2)]);
        assert_eq!(timers.next(), Some(tick(5000 + BUCKETS - 1)));
        assert_eq!(expired(&mut timers, tick(5000 + BUCKETS)), [token(1)]);
    }

    #[test]
    fn over_many_rounds_each_entry_comes_up_once_and_in_time() {
        let mut timers = Timers::new();
        let mut due = Vec::new();
        let mut came_up = 0;
        for round in 0..10_000 {
            let now = round * 31;
            for entry in expired(&mut timers, tick(now)) {
                let due: u32 = due[entry.index as usize];
                assert!(due <= now && now < due + 31, "entry {} at {now}", entry.index);
                came_up += 1;
            }
            due.push(now + 1 + round * 7 % (BUCKETS - 1));
            timers.schedule(token(round), tick(due[round as usize]));
        }
        came_up += expired(&mut timers, tick(10_000 * 31 + BUCKETS)).len();
        assert_eq!(came_up, due.len());
        assert_eq!(timers.next(), None);
    }
}

//! When a worker calls [`Handler::on_tick`](crate::Handler::on_tick).

use std::time::{Duration, Instant};

use crate::handler::TickEvent;

/// Schedules the ticks of a worker: tick number `n` is due at `start + n * interval`.
///
/// Each due time is computed from the start, so a late tick does not delay later ones. It is an
/// [`Instant`], because the timing wheel for connections is too coarse for a game loop.
#[derive(Debug)]
pub(super) struct Ticker {
    start: Instant,
    interval: Duration,
    /// The number of the last tick.
    last: u64,
    /// When the next tick is due; `None` if no tick follows.
    due: Option<Instant>,
}

impl Ticker {
    /// A zero `interval` means no ticks.
    pub(super) fn new(start: Instant, interval: Duration) -> Self {
        let mut ticker = Self { start, interval, last: 0, due: None };
        if !interval.is_zero() {
            ticker.due = ticker.due_time(1);
        }
        ticker
    }

    /// When the next tick is due, if one follows.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The newest tick that is due at `now`. Older ones that are due too are skipped.
    #[inline]
    pub(super) fn take(&mut self, now: Instant) -> Option<TickEvent> {
        match self.due {
            Some(due) if due <= now => Some(self.advance(now)),
            _ => None,
        }
    }

    fn advance(&mut self, now: Instant) -> TickEvent {
        let elapsed = now.saturating_duration_since(self.start);
        // A worker would need 584 million years to exceed a u64, at one tick per millisecond.
        let number = (elapsed.as_nanos() / self.interval.as_nanos()) as u64;
        let missed = number - self.last - 1;
        self.last = number;
        self.due = self.due_time(number + 1);
        TickEvent { number, missed }
    }

    /// No tick follows.
    pub(super) const fn stop(&mut self) {
        self.due = None;
    }

    /// `None` if the time is too far away for the clock.
    fn due_time(&self, number: u64) -> Option<Instant> {
        let nanos = self.interval.as_nanos().checked_mul(number.into())?;
        self.start.checked_add(Duration::from_nanos(nanos.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn ticks_are_due_at_exact_multiples_of_the_interval() {
        let start = Instant::now();
        // 60 Hz: a sum of rounded waits would drift.
        let interval = Duration::from_nanos(16_666_667);
        let mut ticker = Ticker::new(start, interval);
        for number in 1..=1000 {
            let due = start + interval * number;
            assert_eq!(ticker.due(), Some(due));
            assert_eq!(ticker.take(due - Duration::from_nanos(1)), None);
            let tick = TickEvent { number: number.into(), missed: 0 };
            assert_eq!(ticker.take(due + MS), Some(tick), "a late tick");
        }
    }

    #[test]
    fn missed_ticks_are_skipped_and_counted() {
        let start = Instant::now();
        let mut ticker = Ticker::new(start, 10 * MS);
        assert_eq!(ticker.take(start + 57 * MS), Some(TickEvent { number: 5, missed: 4 }));
        assert_eq!(ticker.take(start + 57 * MS), None);
        assert_eq!(ticker.take(start + 60 * MS), Some(TickEvent { number: 6, missed: 0 }));
    }

    #[test]
    fn no_tick_follows_a_zero_or_endless_interval_or_a_stop() {
        let start = Instant::now();
        assert_eq!(Ticker::new(start, Duration::ZERO).due(), None);
        assert_eq!(Ticker::new(start, Duration::MAX).due(), None);
        let mut ticker = Ticker::new(start, MS);
        ticker.stop();
        assert_eq!(ticker.take(start + 10 * MS), None);
    }
}

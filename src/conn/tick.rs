//! Coarse time: a worker counts ticks since its start, and a connection stores one in four bytes.

use std::time::Duration;

/// Timeouts are seconds; one that is up to two ticks late is still right.
const TICKS_PER_S: u32 = 20;

/// How long a tick is.
const TICK: Duration = Duration::from_millis(1000 / TICKS_PER_S as u64);

/// A moment in a worker's life, which may last six years.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Tick(u32);

impl Tick {
    /// The tick that has begun when `elapsed` has passed since the worker's start.
    pub(crate) fn at(elapsed: Duration) -> Self {
        // Once a turn: not by a division of 128 bits.
        let ticks = elapsed.subsec_nanos() / TICK.subsec_nanos();
        Self((elapsed.as_secs() as u32).wrapping_mul(TICKS_PER_S) + ticks)
    }

    /// The first tick that is certainly `duration` or more after any moment in this one.
    pub(crate) fn after(self, duration: Duration) -> Self {
        let ticks = duration.as_nanos().div_ceil(TICK.as_nanos()) + 1;
        Self(self.0.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX)))
    }

    /// When this tick begins, since the worker's start.
    pub(crate) const fn elapsed(self) -> Duration {
        TICK.saturating_mul(self.0)
    }

    /// Whole ticks in `duration`.
    pub(crate) fn count(duration: Duration) -> u32 {
        u32::try_from(duration.as_nanos() / TICK.as_nanos()).unwrap_or(u32::MAX)
    }

    /// Ticks from `earlier` to this one.
    pub(crate) const fn since(self, earlier: Self) -> u32 {
        self.0.saturating_sub(earlier.0)
    }

    /// Ticks since the worker's start.
    pub(crate) const fn index(self) -> u32 {
        self.0
    }

    /// The tick that begins `index` ticks after the worker's start.
    #[cfg(test)]
    pub(crate) const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The tick `count` ticks later.
    pub(crate) const fn plus(self, count: u32) -> Self {
        Self(self.0.saturating_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early_and_at_most_two_ticks_late() {
        for start_ms in [0, 1, 49, 50, 99] {
            for timeout_ms in [1, 49, 50, 51, 10_000] {
                let start = Duration::from_millis(start_ms);
                let timeout = Duration::from_millis(timeout_ms);
                let due = Tick::at(start).after(timeout).elapsed();
                assert!(due >= start + timeout, "{start_ms} + {timeout_ms}");
                assert!(due <= start + timeout + 2 * TICK, "{start_ms} + {timeout_ms}");
            }
        }
    }
}

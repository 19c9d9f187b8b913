//! Durations in fixed buckets.

use std::fmt;
use std::time::Duration;

use super::counter::Counter;

/// The upper bound of the first bucket is this power of two, in nanoseconds: 8.2 us. A wait for the
/// kernel is seldom shorter.
const FIRST_BITS: u32 = 13;

/// Buckets with an upper bound: each bound is twice the one before, and the last is 8.6 s. They are
/// powers of two, so that a turn finds its bucket without a search.
const BOUNDED: usize = 21;

/// The bounded buckets, and one for all longer durations.
const BUCKETS: usize = BOUNDED + 1;

/// Durations since the start, counted in 21 buckets with upper bounds from 2^13 ns (8.2 us) to
/// 2^33 ns (8.6 s), and one bucket for longer ones.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    sum_ns: u64,
}

impl Histogram {
    /// The number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of the durations. Divided by [`count`](Self::count) it is the mean.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The upper bound of each bucket, inclusive, and the number of durations in it, from the
    /// shortest; `None` is the bound of the last bucket.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = (FIRST_BITS..).take(BOUNDED).map(|bits| Some(Duration::from_nanos(1 << bits)));
        bounds.chain([None]).zip(self.buckets)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum += count);
        self.sum_ns += other.sum_ns;
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count()).field("sum", &self.sum()).finish()
    }
}

/// The histogram of one worker.
#[derive(Debug, Default)]
pub(crate) struct HistogramCounters {
    buckets: [Counter; BUCKETS],
    sum_ns: Counter,
}

impl HistogramCounters {
    /// Counts a duration.
    #[inline]
    pub(crate) fn count(&self, duration: Duration) {
        // Not by `as_nanos`, which has 128 bits. 500 years fit.
        let ns =
            duration.as_secs().wrapping_mul(1_000_000_000) + u64::from(duration.subsec_nanos());
        self.buckets[bucket(ns)].add(1);
        self.sum_ns.add(ns);
    }

    pub(super) fn values(&self) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|at| self.buckets[at].value()),
            sum_ns: self.sum_ns.value(),
        }
    }
}

/// The bucket of a duration of `ns` nanoseconds.
#[inline]
const fn bucket(ns: u64) -> usize {
    // A bound is in its own bucket.
    let bits = u64::BITS - ns.saturating_sub(1).leading_zeros();
    let bucket = bits.saturating_sub(FIRST_BITS) as usize;
    if bucket < BOUNDED { bucket } else { BOUNDED }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for (at, (bound, _)) in Histogram::default().buckets().enumerate() {
            let Some(bound) = bound else { continue };
            let bound = bound.as_nanos() as u64;
            assert_eq!(bucket(bound), at, "{bound} ns");
            assert_eq!(bucket(bound + 1), at + 1, "{bound} ns and one more");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BOUNDED));
    }

    #[test]
    fn durations_are_counted_and_summed() {
        let counters = HistogramCounters::default();
        for us in [5, 5, 100, 20_000_000] {
            counters.count(Duration::from_micros(us));
        }
        let histogram = counters.values();
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.sum(), Duration::from_micros(20_000_110));
        let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        let bounds = [Some(Duration::from_nanos(1 << 13)), Some(Duration::from_nanos(1 << 17))];
        assert_eq!(filled, [(bounds[0], 2), (bounds[1], 1), (None, 1)]);
    }
}

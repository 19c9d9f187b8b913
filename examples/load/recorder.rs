//! Counts and latencies of the measured time, and the clock of the run.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Counts and latencies of the measured time, and the clock of the run.
#[derive(Debug)]
pub(crate) struct Recorder {
    epoch: Instant,
    /// Nanoseconds since the epoch at the last `tick`.
    pub(crate) now: u64,
    /// When any connection last made progress.
    pub(crate) progress_at: u64,
    phase: Phase,
    /// The measured time begins here, and ends here if the run is limited by time.
    measured_from: u64,
    planned_until: u64,
    /// When the measured time really ended.
    measured_until: u64,
    messages: u64,
    message_bytes: u64,
    last_message_at: u64,
    /// Those of the complete intervals.
    latencies_ns: Histogram<u64>,
    interval: Interval,
    /// How late the generator itself was. A part of the latencies, but not the server's.
    lateness_ns: Histogram<u64>,
}

/// About a second of the run.
#[derive(Debug)]
pub(crate) struct Interval {
    /// Nanoseconds since the epoch.
    pub(crate) from: u64,
    pub(crate) messages: u64,
    pub(crate) message_bytes: u64,
    pub(crate) latencies_ns: Histogram<u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Messages count once the warm-up is over.
    Running,
    /// The measured time is over. Only the latencies of the messages in flight are recorded.
    Draining,
    Over,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            now: 0,
            progress_at: 0,
            phase: Phase::Running,
            measured_from: u64::MAX,
            planned_until: u64::MAX,
            measured_until: u64::MAX,
            messages: 0,
            message_bytes: 0,
            last_message_at: 0,
            latencies_ns: latencies(),
            interval: Interval {
                from: 0,
                messages: 0,
                message_bytes: 0,
                latencies_ns: latencies(),
            },
            lateness_ns: latencies(),
        }
    }

    /// Reads the clock.
    #[inline]
    pub(crate) fn tick(&mut self) -> u64 {
        self.now = self.epoch.elapsed().as_nanos() as u64;
        self.now
    }

    /// Sets the measured time: from the end of `warmup`, for `duration` or without limit.
    pub(crate) fn measure(&mut self, warmup: Duration, duration: Option<Duration>) {
        self.measured_from = self.now + warmup.as_nanos() as u64;
        self.planned_until =
            duration.map_or(u64::MAX, |duration| self.measured_from + duration.as_nanos() as u64);
    }

    /// Ends the measured time. It includes everything that was received in the last turn.
    pub(crate) fn end(&mut self) {
        self.measured_until = self.tick();
        self.phase = Phase::Draining;
    }

    /// Records nothing from now on.
    pub(crate) fn close(&mut self) {
        self.phase = Phase::Over;
    }

    /// Whether an interval of the measured time has passed.
    pub(crate) fn is_interval_over(&self) -> bool {
        self.is_measuring() && self.now >= self.interval.from.max(self.measured_from) + INTERVAL_NS
    }

    /// Ends the interval. Call `begin_interval` next.
    pub(crate) fn end_interval(&mut self) -> &Interval {
        self.interval.from = self.interval.from.max(self.measured_from.min(self.now));
        &self.interval
    }

    /// The messages in flight at the end do not make the last interval longer.
    pub(crate) fn interval_end(&self) -> u64 {
        self.now.min(self.measured_until)
    }

    pub(crate) fn begin_interval(&mut self) {
        let added = self.latencies_ns.add(&self.interval.latencies_ns);
        added.expect("both have the same bounds");
        self.interval.from = self.now;
        self.interval.messages = 0;
        self.interval.message_bytes = 0;
        self.interval.latencies_ns.reset();
    }

    /// Nanoseconds from the start of the measured time to `at`.
    pub(crate) fn since_start(&self, at: u64) -> u64 {
        at.saturating_sub(self.measured_from)
    }

    /// Whether a message received at `now` counts.
    #[inline]
    pub(crate) fn counts(&self, now: u64) -> bool {
        self.phase == Phase::Running && now >= self.measured_from
    }

    /// Counts messages received at `now`.
    #[inline]
    pub(crate) fn received(&mut self, messages: u64, message_bytes: u64, now: u64) {
        if self.counts(now) {
            self.messages += messages;
            self.message_bytes += message_bytes;
            self.interval.messages += messages;
            self.interval.message_bytes += message_bytes;
            self.last_message_at = now;
        }
    }

    /// Whether a latency that is known at `now` counts.
    #[inline]
    pub(crate) fn takes_latencies(&self, now: u64) -> bool {
        self.phase != Phase::Over && now >= self.measured_from
    }

    /// Records the latency of `messages` sent at `sent_at` and received at `now`.
    #[inline]
    pub(crate) fn latency(&mut self, sent_at: u64, messages: u64, now: u64) {
        if self.takes_latencies(now) {
            self.interval.latencies_ns.saturating_record_n(now.saturating_sub(sent_at), messages);
        }
    }

    /// Records how late the generator comes to send a message of the open loop.
    #[inline]
    pub(crate) fn late(&mut self, lateness: u64) {
        if self.counts(self.now) {
            self.lateness_ns.saturating_record(lateness);
        }
    }

    /// The rest of the planned time; `None` once it is over.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.planned_until.checked_sub(self.now).filter(|&left| left > 0).map(Duration::from_nanos)
    }

    /// Whether the measured time has begun.
    pub(crate) fn is_measuring(&self) -> bool {
        self.now >= self.measured_from
    }

    /// The last moment at which a message may be due. One that is due exactly at the planned end
    /// would belong to the next second.
    pub(crate) fn due_until(&self) -> u64 {
        self.measured_until.min(self.planned_until - 1)
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) fn message_bytes(&self) -> u64 {
        self.message_bytes
    }

    pub(crate) fn latencies_ns(&self) -> &Histogram<u64> {
        &self.latencies_ns
    }

    pub(crate) fn lateness_ns(&self) -> &Histogram<u64> {
        &self.lateness_ns
    }

    /// Seconds of measured time, or up to the last message if it has no limit. More than zero, so
    /// that rates are finite.
    pub(crate) fn seconds(&self) -> f64 {
        let end = match self.planned_until {
            u64::MAX if self.messages > 0 => self.last_message_at,
            _ => self.measured_until,
        };
        end.saturating_sub(self.measured_from).max(1) as f64 / 1e9
    }
}

/// An empty histogram of nanoseconds.
pub(crate) fn latencies() -> Histogram<u64> {
    let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS);
    histogram.expect("the bounds are constants in range")
}

/// The length of an interval.
const INTERVAL_NS: u64 = 1_000_000_000;

/// Ten minutes; longer latencies are recorded as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// A precision of 0.1 %: finer than the difference between two runs.
const SIGNIFICANT_DIGITS: u8 = 3;

//! The states of a worker.

use std::time::{Duration, Instant};

/// The longest time for which a worker waits for the last messages of the others. They need a turn,
/// unless one is stuck in a callback; then the others still close their connections in order.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// ```text
///   Serving ──shutdown──► Flushing ──all links closed──► Draining ──last connection gone──► (done)
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lifecycle {
    /// Connections are accepted and served.
    Serving,
    /// A shutdown has begun. Connections are served, but nothing more is published: the workers post
    /// to each other the messages that were published before, so that these precede the close
    /// frames. The worker drains at `until` at the latest.
    Flushing { until: Instant, deadline: Instant },
    /// The listeners are closed, and every peer has been asked to close its connection. The
    /// connections that remain at `deadline` are dropped.
    Draining { deadline: Instant },
}

impl Lifecycle {
    /// Waits for the last messages of the other workers. At least half of the time until `deadline`
    /// is left for the drain.
    pub(super) fn flush(&mut self, deadline: Instant, now: Instant) {
        *self = match *self {
            Self::Draining { .. } => return,
            Self::Flushing { until, .. } => Self::Flushing { until: until.min(deadline), deadline },
            Self::Serving => {
                let half = deadline.saturating_duration_since(now) / 2;
                Self::Flushing { until: now + half.min(FLUSH_MAX), deadline }
            }
        };
    }

    /// The deadline of the drain that must begin at `now`, although messages may be missing.
    pub(super) fn overdue_drain(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Flushing { until, deadline } if until <= now => Some(deadline),
            _ => None,
        }
    }

    /// When the last connections are dropped, if the worker drains.
    pub(super) const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Draining { deadline } => Some(deadline),
            Self::Serving | Self::Flushing { .. } => None,
        }
    }

    /// When the next state begins, at the latest.
    pub(super) const fn due(self) -> Option<Instant> {
        match self {
            Self::Serving => None,
            Self::Flushing { until, .. } => Some(until),
            Self::Draining { deadline } => Some(deadline),
        }
    }
}

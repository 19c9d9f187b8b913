//! The states of a worker.

use std::time::Instant;

/// ```text
///   Serving ──shutdown──► Flushing ──all links closed──► Draining ──last connection gone──► (done)
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lifecycle {
    /// Connections are accepted and served.
    Serving,
    /// As `Serving`, but a shutdown has begun. The workers post to each other the messages that
    /// were published before, so that these precede the close frames.
    Flushing { deadline: Instant },
    /// The listeners are closed, and every peer has been asked to close its connection. The
    /// connections that remain at `deadline` are dropped.
    Draining { deadline: Instant },
}

impl Lifecycle {
    /// When the last connections are dropped, if a shutdown has begun.
    pub(super) const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Serving => None,
            Self::Flushing { deadline } | Self::Draining { deadline } => Some(deadline),
        }
    }
}

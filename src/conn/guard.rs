//! Catches panics of the handler's callbacks, so that a panic costs one connection, not the worker.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::throttle::Throttle;
use super::tick::Tick;
use crate::peer_id::PeerId;
use crate::stats::Counters;

/// The means to report a panic. They are separate from the rest of a turn, so that the callback can
/// borrow that.
pub(crate) struct Guard<'t> {
    pub(crate) subject: Subject,
    pub(crate) now: Tick,
    pub(crate) counters: &'t Counters,
    /// Limits the log lines about panics of this kind.
    pub(crate) throttle: &'t Throttle,
}

/// The subject of a callback.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    Peer(PeerId),
    /// A tick of this worker.
    Tick(u32),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(id) => write!(f, "over peer {id}"),
            Self::Tick(worker) => write!(f, "in a tick of worker {worker}"),
        }
    }
}

/// Runs a callback; `None` if it panicked. Then only its own connection ends.
#[inline]
pub(crate) fn guarded<R>(guard: Guard<'_>, callback: impl FnOnce() -> R) -> Option<R> {
    // `AssertUnwindSafe`: the handler may see its own state half changed, and gets
    // `on_close` for the connection.
    let result = catch_unwind(AssertUnwindSafe(callback));
    match result {
        Ok(answer) => Some(answer),
        Err(payload) => {
            guard.counters.handler_panics.add(1);
            if let Some(suppressed) = guard.throttle.admit(guard.now) {
                log::error!("the handler panicked {}{suppressed}", guard.subject);
            }
            // The payload's destructor may panic too. The payload of that second panic is leaked.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            dropped.unwrap_or_else(std::mem::forget);
            None
        }
    }
}

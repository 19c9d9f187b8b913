//! Catches panics of the handler's callbacks, so that a panic costs one connection, not the worker.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::throttle::Throttles;
use super::tick::Tick;
use crate::peer_id::PeerId;
use crate::stats::Counters;

/// The fields of a [`TurnContext`](super::turn::TurnContext) that are needed to report a panic. They are
/// separate, so that the callback can borrow the others.
pub(super) struct Guard<'t> {
    pub(super) id: PeerId,
    pub(super) now: Tick,
    pub(super) counters: &'t Counters,
    pub(super) throttles: &'t Throttles,
}

/// Runs a callback; `None` if it panicked. Then only its own connection ends.
#[inline]
pub(super) fn guarded<R>(guard: Guard<'_>, callback: impl FnOnce() -> R) -> Option<R> {
    // `AssertUnwindSafe`: the handler may see its own state half changed, and gets
    // `on_close` for the connection.
    let result = catch_unwind(AssertUnwindSafe(callback));
    match result {
        Ok(answer) => Some(answer),
        Err(payload) => {
            guard.counters.handler_panics.add(1);
            if let Some(suppressed) = guard.throttles.panics.admit(guard.now) {
                log::error!("the handler panicked over peer {}{suppressed}", guard.id);
            }
            // The payload's destructor may panic too. The payload of that second panic is leaked.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
            dropped.unwrap_or_else(std::mem::forget);
            None
        }
    }
}

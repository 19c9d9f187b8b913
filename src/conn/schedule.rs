//! A connection's place on the worker's lists: the timing wheel and the runnable list.

use super::tick::Tick;

/// The worker's notes on one connection.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// When the connection's entry in the timing wheel comes up.
    due: Tick,
    is_runnable: bool,
}

impl Schedule {
    pub(super) const fn new(now: Tick) -> Self {
        Self { due: now, is_runnable: false }
    }

    /// Records that the timing wheel brings the connection up at `due`.
    pub(crate) const fn set_due(&mut self, due: Tick) {
        self.due = due;
    }

    /// Whether the entry that came up at `due` is the current one. An earlier entry stays in the
    /// wheel when the deadline moves nearer.
    pub(crate) fn is_due(&self, due: Tick) -> bool {
        self.due == due
    }

    /// Whether `deadline` comes before the entry in the wheel.
    pub(super) fn is_late_for(&self, deadline: Tick) -> bool {
        deadline < self.due
    }

    /// Records that the connection is on the runnable list; returns whether it was not.
    pub(crate) const fn set_runnable(&mut self) -> bool {
        !std::mem::replace(&mut self.is_runnable, true)
    }

    /// Records that the worker has taken the connection from the runnable list.
    pub(crate) const fn clear_runnable(&mut self) {
        self.is_runnable = false;
    }

    pub(super) const fn is_runnable(&self) -> bool {
        self.is_runnable
    }
}

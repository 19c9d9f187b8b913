//! The faults of a simulation, each of which can be disabled.

use std::fmt;

/// A kind of fault, or of event that the peers do not cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// An edge is reported some rounds after it happened.
    Late,
    /// An edge without a reason, also of a connection that is gone.
    Spurious,
    /// An edge is reported again.
    Twice,
    /// EINTR.
    Interrupted,
    /// EAGAIN although there is something, and an edge later.
    WouldBlock,
    /// A write takes less than there is room for, and an edge comes later.
    ShortWrite,
    /// Bytes arrive while the worker reads.
    MidTurn,
    /// Urgent data: a read stops at it (tcp(7)).
    Urgent,
    /// The n-th call on a socket fails.
    Broken,
    /// Accept fails.
    Accept,
    /// Registration fails.
    Register,
    /// A worker has its turn later than it asked for.
    Stall,
    /// A worker has a turn that nothing called for.
    Idle,
    /// Messages are posted.
    Post,
    /// Closes are posted.
    Close,
    /// Sockets are handed over.
    Adopt,
    /// The workers are drained before the end.
    Drain,
    /// Small buffers in the kernel.
    Narrow,
    /// Time jumps.
    Jump,
}

/// Every kind, in the order in which a failure is tried without them.
pub(crate) const ALL: [Fault; 19] = [
    Fault::Late,
    Fault::Spurious,
    Fault::Twice,
    Fault::Interrupted,
    Fault::WouldBlock,
    Fault::ShortWrite,
    Fault::MidTurn,
    Fault::Urgent,
    Fault::Broken,
    Fault::Accept,
    Fault::Register,
    Fault::Stall,
    Fault::Idle,
    Fault::Post,
    Fault::Close,
    Fault::Adopt,
    Fault::Drain,
    Fault::Narrow,
    Fault::Jump,
];

/// A set of enabled faults.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FaultSet(u32);

impl FaultSet {
    pub(crate) const fn all() -> Self {
        Self(u32::MAX)
    }

    pub(crate) const fn none() -> Self {
        Self(0)
    }

    pub(crate) const fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }

    pub(crate) const fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u32))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

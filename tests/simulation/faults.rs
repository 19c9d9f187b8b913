//! The faults of a simulation. Each kind can be disabled.

use std::fmt;

/// A kind of fault, or of an event that no peer causes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// An edge is reported some rounds late.
    Late,
    /// An edge is reported without a cause, perhaps for an ended connection.
    Spurious,
    /// An edge is reported twice.
    Twice,
    /// A call fails with EINTR.
    Interrupted,
    /// A read fails with EAGAIN although input has arrived, and an edge follows.
    WouldBlock,
    /// A write takes fewer bytes than fit, and an edge follows.
    ShortWrite,
    /// Bytes arrive while the worker reads.
    MidTurn,
    /// Urgent data arrives, at which a read stops (tcp(7)).
    Urgent,
    /// The connection is reset before the n-th call.
    Broken,
    /// Accept fails.
    Accept,
    /// Registration fails.
    Register,
    /// A worker has its turn later than requested.
    Stall,
    /// A worker has a turn without a cause.
    Idle,
    /// Messages are posted.
    Post,
    /// Closes are posted.
    Close,
    /// Sockets are given to workers for adoption.
    Adopt,
    /// The workers are drained before the end.
    Drain,
    /// Small buffers in the kernel.
    Narrow,
    /// Time jumps.
    Jump,
}

/// Every kind, in the order in which shrinking disables them.
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

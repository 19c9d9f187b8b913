//! The id of a connection.

use std::fmt;

/// Identifies a connection of one server, for any thread. 16 bytes.
///
/// An id is stale once its connection has closed, and always stale for every other server of the
/// process. The numbers in it wrap around: a worker may reuse an id after 2^32 - 1 further
/// connections, and a server may reuse the number of an earlier server after 2^32 further ones.
///
/// `Display` writes `worker/slot.generation`, which is unique within a server.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PeerId {
    pub(crate) server: u32,
    pub(crate) worker: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.worker, self.slot, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_takes_sixteen_bytes() {
        assert_eq!(size_of::<PeerId>(), 16);
    }
}

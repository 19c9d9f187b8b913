//! Memory that a worker lends to one session at a time.

use super::pool::{Pool, SPARE_BYTES_MIN};
#[cfg(feature = "deflate")]
use crate::protocol::deflate::codec::Codec;
#[cfg(feature = "deflate")]
use crate::protocol::deflate::parameters::DeflateConfig;
use crate::protocol::frame::header::SERVER_HEADER_BYTES_MAX;

/// Memory lent to one session at a time, so that an idle session holds none: outgoing bytes, and up
/// to 4 MiB of spare memory for large messages.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Workspace {
    /// Outgoing bytes, which precede a window's run on the wire. [Clear](Self::clear) them once
    /// they are sent, before the workspace is lent to another session.
    pub out: Vec<u8>,
    pool: Pool,
    #[cfg(feature = "deflate")]
    pub(super) compression: Compression,
}

/// What a worker needs for compressed messages.
#[cfg(feature = "deflate")]
#[derive(Debug, Default)]
pub(super) struct Compression {
    pub(super) codec: Codec,
    /// Spare memory for an inflated message, with stale bytes.
    pub(super) spare: Vec<u8>,
    /// Bytes inflated since they were last asked for.
    pub(super) inflated_bytes: usize,
}

impl Workspace {
    /// A workspace for sessions with [`Session::with_deflate`](crate::protocol::Session::with_deflate).
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_deflate(config: &DeflateConfig) -> Self {
        let compression = Compression { codec: Codec::new(*config), ..Compression::default() };
        Self { compression, ..Self::default() }
    }

    /// The number of bytes that were inflated since the last call.
    #[cfg(feature = "deflate")]
    pub(crate) const fn take_inflated_bytes(&mut self) -> usize {
        std::mem::replace(&mut self.compression.inflated_bytes, 0)
    }

    /// Empties `out` after its bytes have been sent. The memory of a large message is kept for
    /// later ones.
    #[inline]
    pub fn clear(&mut self) {
        if self.out.capacity() < SPARE_BYTES_MIN {
            self.out.clear();
        } else {
            let memory = std::mem::take(&mut self.out);
            self.recycle(memory);
        }
    }

    /// Returns memory that is no longer needed: see [`Pool::recycle`].
    pub(crate) fn recycle(&mut self, memory: Vec<u8>) {
        self.pool.recycle(memory);
    }

    /// Takes spare memory for `len` bytes: see [`Pool::take_spare`].
    pub(super) fn take_spare(&mut self, len: usize, most: usize) -> Vec<u8> {
        self.pool.take_spare(len, most)
    }

    /// Prepares an empty `out` for a message of `len` bytes, with spare memory if the message is
    /// large.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.out.is_empty() && len >= SPARE_BYTES_MIN {
            self.out = self.take_spare(len.saturating_add(SERVER_HEADER_BYTES_MAX), usize::MAX);
            self.out.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_message_is_sent_from_spare_memory() {
        let mut workspace = Workspace::default();
        let spare = SPARE_BYTES_MIN * 5 / 4;
        workspace.recycle(Vec::with_capacity(spare));
        workspace.reserve(SPARE_BYTES_MIN - 1);
        assert_eq!(workspace.out.capacity(), 0, "the message is not large");
        workspace.reserve(SPARE_BYTES_MIN);
        assert_eq!((workspace.out.len(), workspace.out.capacity()), (0, spare));
        workspace.out.push(1);
        workspace.reserve(SPARE_BYTES_MIN);
        assert_eq!(workspace.out, [1], "unsent bytes stay");
    }

    #[test]
    fn clearing_keeps_small_memory_and_recycles_large_memory() {
        let mut workspace = Workspace::default();
        for (bytes, stays) in [(100, true), (2 * SPARE_BYTES_MIN, false)] {
            workspace.out.reserve_exact(bytes);
            workspace.clear();
            assert_eq!(workspace.out.capacity() >= bytes, stays, "{bytes}");
        }
    }
}

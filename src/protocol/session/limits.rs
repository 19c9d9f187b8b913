//! The limits of a message, applied to the lengths that its headers announce.

use crate::protocol::error::ProtocolError;
use crate::protocol::frame::header::FrameHeader;

/// The limits of a message, enforced at each frame's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Maximum payload of a message in bytes, all fragments together.
    pub message_bytes_max: usize,
    /// Maximum number of fragments. A message in one frame counts as one fragment.
    pub fragments_max: u32,
}

#[cfg(feature = "deflate")]
impl Limits {
    /// The limits of a compressed message. One that does not shrink is longer than its text, by a
    /// header for each of its blocks (RFC 1951 3.2.4); those of short blocks take a 16th.
    pub(super) const fn compressed(&self) -> Self {
        let bytes = self.message_bytes_max;
        Self { message_bytes_max: bytes.saturating_add(bytes / 16).saturating_add(64), ..*self }
    }
}

/// The size of an incomplete message, as announced by the headers so far.
#[derive(Debug, Default)]
pub(super) struct MessageSize {
    bytes: u64,
    fragments: u32,
}

impl MessageSize {
    /// Adds a frame, and fails if the message exceeds a limit.
    pub(super) const fn add(
        &mut self,
        header: &FrameHeader,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        self.bytes = self.bytes.saturating_add(header.payload_len);
        if self.bytes > limits.message_bytes_max as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        self.fragments = self.fragments.saturating_add(1);
        if self.fragments > limits.fragments_max {
            return Err(ProtocolError::TooManyFragments);
        }
        Ok(())
    }
}

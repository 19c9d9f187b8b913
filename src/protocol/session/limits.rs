//! What a message may come to, counted as its headers announce it.

use crate::protocol::error::ProtocolError;
use crate::protocol::frame::header::FrameHeader;

/// What a peer may send, enforced while it arrives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Payload bytes of a message, all fragments together; inclusive.
    pub message_bytes_max: usize,
    /// Fragments of a message, at least one; inclusive. A message in one frame is one fragment.
    pub fragments_max: u32,
}

/// What a message comes to so far, by what its headers announce.
#[derive(Debug, Default)]
pub(super) struct Extent {
    bytes: u64,
    fragments: u32,
}

impl Extent {
    /// Counts a further frame.
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

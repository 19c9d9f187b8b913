//! How large binary messages are delivered.

use crate::protocol::frame::header::FrameHeader;
use crate::protocol::frame::opcode::OpCode;

/// A binary message is streamed if its first frame is longer than this, or is a fragment. A shorter
/// one costs little to assemble, and the reply to an assembled message cannot stall inside a frame
/// when its sender is slow.
pub const STREAM_BYTES_MIN: usize = 16 * 1024;

/// How large binary messages are delivered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Delivery {
    /// As whole messages, like text and small binary messages.
    #[default]
    Whole,
    /// Echoed as they arrive, so that memory does not grow with their length.
    ///
    /// Other frames are deferred meanwhile: control frames until the streamed frame is complete,
    /// messages until the streamed message is.
    StreamedEcho,
}

impl Delivery {
    /// Whether the message that begins with `header` is streamed.
    #[inline]
    pub(super) fn streams(self, header: &FrameHeader) -> bool {
        self == Self::StreamedEcho
            && header.opcode == OpCode::Binary
            && (!header.fin || header.payload_len > STREAM_BYTES_MIN as u64)
    }
}

//! What a peer is in the middle of: an incomplete header, frame or message.

use super::assembly::{Assembled, Assembly};
use super::limits::{Extent, Limits};
use super::window::{Taken, Window};
use crate::protocol::error::ProtocolError;
use crate::protocol::frame::header::{CONTROL_PAYLOAD_BYTES_MAX, FrameHeader, MASK_KEY_BYTES};
use crate::protocol::frame::mask::MaskKey;

/// Free bytes that must precede a read in its buffer: what the read before it left incomplete, at
/// most a control frame but for its last byte, goes there.
pub const HEADROOM_BYTES: usize = 2 + MASK_KEY_BYTES + CONTROL_PAYLOAD_BYTES_MAX;

/// The state that a peer has only while something is under way.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// The message whose last frame has not arrived.
    pub(super) message: UnderWay,
    /// The frame whose payload has not all arrived; of no message if it comes after our close
    /// frame, and then it is skipped.
    pub(super) frame: Option<FrameRest>,
    /// Bytes that were read into the room of the message, masked as they came.
    pub(super) filled: usize,
    spill: Spill,
}

impl Partial {
    /// Keeps the unread bytes of `window`, an incomplete header or control frame, for the next.
    pub(super) fn keep_unread(&mut self, window: &mut Window<'_>) {
        let unread = window.unread();
        self.spill.bytes[..unread.len()].copy_from_slice(unread);
        self.spill.len = unread.len();
        window.discard();
    }

    /// Puts the kept bytes at the end of `headroom`; returns how many they are.
    pub(super) fn put_back(&mut self, headroom: &mut [u8]) -> usize {
        let kept = &self.spill.bytes[..self.spill.len];
        let start = headroom.len() - kept.len();
        headroom[start..].copy_from_slice(kept);
        std::mem::take(&mut self.spill.len)
    }

    /// The payload of the message being assembled is complete.
    pub(super) fn take_assembled(&mut self) -> Result<Option<Assembled>, ProtocolError> {
        match std::mem::take(&mut self.message) {
            UnderWay::Assembling { assembly, .. } => assembly.finish().map(Some),
            _ => Ok(None),
        }
    }

    /// Room for what comes next of the frame under way.
    pub(super) fn room(&mut self, limits: &Limits) -> Option<&mut [u8]> {
        match (&mut self.message, &self.frame) {
            (UnderWay::Assembling { assembly, .. }, Some(frame)) => {
                assembly.room(frame.left, limits.message_bytes_max)
            }
            _ => None,
        }
    }

    pub(super) const fn is_streaming(&self) -> bool {
        matches!(self.message, UnderWay::Streaming { .. })
    }

    /// Whether nothing is under way.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.message, UnderWay::Nothing) && self.frame.is_none() && self.spill.len == 0
    }
}

/// The bytes of an incomplete header or control frame, as they came.
#[derive(Debug)]
struct Spill {
    bytes: [u8; HEADROOM_BYTES],
    len: usize,
}

impl Default for Spill {
    fn default() -> Self {
        Self { bytes: [0; HEADROOM_BYTES], len: 0 }
    }
}

/// A message of which frames are still to come.
#[derive(Debug, Default)]
pub(super) enum UnderWay {
    #[default]
    Nothing,
    /// It is delivered whole.
    Assembling { assembly: Assembly, extent: Extent },
    /// It is echoed as it arrives.
    Streaming { extent: Extent, waiting: Waiting },
}

/// The part of a frame's payload that has not arrived.
#[derive(Debug)]
pub(super) struct FrameRest {
    pub(super) left: u64,
    pub(super) fin: bool,
    key: MaskKey,
}

impl FrameRest {
    pub(super) const fn new(header: &FrameHeader) -> Self {
        Self { left: header.payload_len, fin: header.fin, key: header.key }
    }

    /// Takes what `window` has of it.
    pub(super) fn take(&mut self, window: &mut Window<'_>) -> Taken {
        let len = self.left.min(window.unread().len() as u64) as usize;
        window.take_piece(len, self.advance(len))
    }

    /// Goes on by `len` bytes of payload; returns the key that they are masked with.
    pub(super) fn advance(&mut self, len: usize) -> MaskKey {
        self.left -= len as u64;
        let key = self.key.advance(len);
        std::mem::replace(&mut self.key, key)
    }
}

/// Frames sent while a streamed message is owed, encoded.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Control frames: they go out at the end of the streamed frame.
    pub(super) controls: Vec<u8>,
    /// Messages: they go out at the end of the streamed message.
    pub(super) messages: Vec<u8>,
}

//! The incoming half of a session: an incomplete header, frame or message.

use super::assembly::Assembly;
#[cfg(feature = "deflate")]
use super::compressed::Inflated;
use super::event::{Event, ReceivedMessage, Storage};
use super::limits::{Limits, MessageSize};
use super::window::{Taken, Window};
use super::workspace::Workspace;
#[cfg(feature = "deflate")]
use crate::protocol::deflate::parameters::DeflateParameters;
use crate::protocol::error::ProtocolError;
use crate::protocol::frame::header::{
    CONTROL_PAYLOAD_BYTES_MAX, FrameHeader, MASK_KEY_BYTES, ServerHeader,
};
use crate::protocol::frame::mask::MaskKey;
use crate::protocol::frame::opcode::OpCode;

/// Free bytes that must precede a read in its buffer. An incomplete header or control frame from
/// the previous read is copied there, so that it is parsed in one piece; the longest is a control
/// frame without its last byte.
pub const HEADROOM_BYTES: usize = 2 + MASK_KEY_BYTES + CONTROL_PAYLOAD_BYTES_MAX;

/// The incoming half of a session. It is allocated only while something is incomplete, so that an
/// idle session stays small.
#[derive(Debug, Default)]
pub(super) struct InProgress {
    /// The message whose last frame is incomplete.
    pub(super) message: MessageInProgress,
    /// The frame whose payload is incomplete. A frame without a message came after our close frame,
    /// and is skipped.
    pub(super) frame: Option<FrameInProgress>,
    /// Bytes in the direct buffer that are not processed yet, and so still masked.
    pub(super) committed: usize,
    spill: Spill,
}

impl InProgress {
    /// Keeps the unread bytes of `window`, an incomplete header or control frame, for the next
    /// window.
    pub(super) fn keep_unread(&mut self, window: &mut Window<'_>) {
        let unread = window.unread();
        self.spill.bytes[..unread.len()].copy_from_slice(unread);
        self.spill.len = unread.len();
        window.discard();
    }

    /// Moves the kept bytes to the end of `headroom`, and returns their number.
    pub(super) fn put_back(&mut self, headroom: &mut [u8]) -> usize {
        let kept = &self.spill.bytes[..self.spill.len];
        let start = headroom.len() - kept.len();
        headroom[start..].copy_from_slice(kept);
        std::mem::take(&mut self.spill.len)
    }

    /// Takes the header of a data frame, checks it against the message in progress (RFC 6455 5.4),
    /// and lays out the reply's header if the message is streamed.
    pub(super) fn begin_frame(
        &mut self,
        header: &FrameHeader,
        form: Form,
        window: &mut Window<'_>,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<(), ProtocolError> {
        debug_assert!(self.frame.is_none(), "the previous frame has ended");
        // Take only the header: the payload may be longer than the window. The reply's header ends
        // at this empty range.
        let start = window.take(header, 0).payload;
        if matches!(self.message, MessageInProgress::Nothing) {
            let size = MessageSize::default();
            self.message = match header.opcode {
                OpCode::Continuation => return Err(ProtocolError::ContinuationWithoutStart),
                _ if form == Form::Streamed => {
                    MessageInProgress::Streaming { size, deferred: Deferred::default() }
                }
                opcode => {
                    let arrived = window.unread().len();
                    let checks_text = opcode == OpCode::Text && form == Form::Whole;
                    let assembly = Assembly::new(header, checks_text, arrived, workspace);
                    MessageInProgress::Assembling { assembly, size, form }
                }
            };
        } else if header.opcode != OpCode::Continuation {
            return Err(ProtocolError::MessageInterrupted);
        }
        // The limits count announced bytes, so a message that is too big fails before it arrives.
        match &mut self.message {
            MessageInProgress::Nothing => {}
            #[cfg(feature = "deflate")]
            MessageInProgress::Assembling { size, form: Form::Compressed(..), .. } => {
                size.add(header, &limits.compressed())?;
            }
            MessageInProgress::Assembling { size, .. } => size.add(header, limits)?,
            MessageInProgress::Streaming { size, .. } => {
                size.add(header, limits)?;
                let reply = ServerHeader::new(header.fin, header.opcode, header.payload_len);
                window.reply(&reply, &start);
            }
        }
        self.frame = Some(FrameInProgress::new(header));
        Ok(())
    }

    /// Takes the header of a data frame whose payload will be skipped.
    pub(super) fn skip_frame(&mut self, header: &FrameHeader, window: &mut Window<'_>) {
        debug_assert!(matches!(self.message, MessageInProgress::Nothing), "no message is open");
        window.take(header, 0);
        self.frame = Some(FrameInProgress::new(header));
    }

    /// Takes the payload received so far of the current frame. `is_open` is false once our close
    /// frame has been sent or deferred.
    pub(super) fn continue_frame(
        &mut self,
        is_open: bool,
        window: &mut Window<'_>,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<Option<Event>, ProtocolError> {
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let piece = match (std::mem::take(&mut self.committed), &mut self.message) {
            (0, MessageInProgress::Assembling { assembly, .. }) => {
                let Taken { payload, is_ascii } = frame.take(window);
                assembly.append(window.bytes(&payload), is_ascii, limits.message_bytes_max)?;
                payload
            }
            // A direct read: the bytes are in place, but still masked.
            (len, MessageInProgress::Assembling { assembly, .. }) => {
                assembly.commit(len, frame.advance(len))?;
                0..0
            }
            (0, _) => frame.take(window).payload,
            // Our close frame dropped the message after the direct read. The bytes still count as
            // this frame's, or the next header would be read from its payload.
            (len, _) => {
                frame.advance(len);
                0..0
            }
        };
        let frame_end = frame.left == 0;
        let message_end = frame_end && frame.fin;
        if frame_end {
            self.frame = None;
        }
        match &mut self.message {
            // A skipped frame is an event too: it counts against the caller's budget.
            MessageInProgress::Nothing => Ok(frame_end.then_some(Event::Fragment)),
            MessageInProgress::Assembling { .. } if message_end => {
                self.finish_assembly(limits, workspace)
            }
            MessageInProgress::Assembling { .. } => Ok(frame_end.then_some(Event::Fragment)),
            MessageInProgress::Streaming { deferred, .. } => {
                window.reply_piece(&piece);
                // Deferred frames follow this piece on the wire, so move the run to `out` first.
                if frame_end && !deferred.controls.is_empty() {
                    window.move_run(workspace);
                    workspace.out.append(&mut deferred.controls);
                }
                // No message may follow our close frame (RFC 6455 5.5.1).
                if message_end && is_open && !deferred.messages.is_empty() {
                    window.move_run(workspace);
                    workspace.out.append(&mut deferred.messages);
                }
                if message_end || (frame_end && !is_open) {
                    self.message = MessageInProgress::Nothing;
                }
                Ok(Some(Event::Streamed { payload_len: piece.len(), message_end }))
            }
        }
    }

    /// Returns the event of an assembled message whose last byte has arrived.
    fn finish_assembly(
        &mut self,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<Option<Event>, ProtocolError> {
        #[cfg(not(feature = "deflate"))]
        let _ = (limits, workspace);
        let message = std::mem::take(&mut self.message);
        let MessageInProgress::Assembling { assembly, form, .. } = message else {
            return Ok(None);
        };
        let assembled = assembly.finish()?;
        let storage = match form {
            #[cfg(feature = "deflate")]
            Form::Compressed(opcode, parameters) => {
                let payload = assembled.message();
                let payload = payload.as_bytes();
                let inflated = Inflated::new(opcode, payload, parameters, limits, workspace)?;
                workspace.recycle(assembled.into_memory());
                Storage::Inflated(inflated)
            }
            _ => Storage::Assembled(assembled),
        };
        Ok(Some(Event::Message(ReceivedMessage(storage))))
    }

    /// See [`Session::direct_buffer`](crate::protocol::Session::direct_buffer).
    pub(super) fn direct_buffer(&mut self, limits: &Limits) -> Option<&mut [u8]> {
        match (&mut self.message, &self.frame) {
            (MessageInProgress::Assembling { assembly, .. }, Some(frame)) => {
                assembly.direct_buffer(frame.left, limits.message_bytes_max)
            }
            _ => None,
        }
    }

    /// Whether a streamed frame is incomplete.
    pub(super) const fn is_mid_frame(&self) -> bool {
        matches!(self.message, MessageInProgress::Streaming { .. }) && self.frame.is_some()
    }

    /// Whether nothing is incomplete.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.message, MessageInProgress::Nothing)
            && self.frame.is_none()
            && self.spill.len == 0
    }
}

/// The bytes of an incomplete header or control frame, still masked.
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

/// The form of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// It is delivered whole.
    Whole,
    /// It is inflated, and then delivered whole.
    #[cfg(feature = "deflate")]
    Compressed(OpCode, DeflateParameters),
    /// It is echoed as it arrives.
    Streamed,
}

/// The message in progress, if any.
#[derive(Debug, Default)]
pub(super) enum MessageInProgress {
    #[default]
    Nothing,
    /// Collected, to be delivered whole.
    Assembling {
        assembly: Assembly,
        size: MessageSize,
        /// Not `Streamed`. Of a compressed message the assembly holds the compressed payload.
        form: Form,
    },
    /// Echoed as it arrives.
    Streaming { size: MessageSize, deferred: Deferred },
}

/// A frame whose payload is incomplete.
#[derive(Debug)]
pub(super) struct FrameInProgress {
    pub(super) left: u64,
    pub(super) fin: bool,
    key: MaskKey,
}

impl FrameInProgress {
    pub(super) const fn new(header: &FrameHeader) -> Self {
        Self { left: header.payload_len, fin: header.fin, key: header.key }
    }

    /// Takes the part of the payload that `window` holds.
    pub(super) fn take(&mut self, window: &mut Window<'_>) -> Taken {
        let len = self.left.min(window.unread().len() as u64) as usize;
        window.take_piece(len, self.advance(len))
    }

    /// Advances by `len` payload bytes, and returns the key that masks them.
    pub(super) fn advance(&mut self, len: usize) -> MaskKey {
        self.left -= len as u64;
        let key = self.key.advance(len);
        std::mem::replace(&mut self.key, key)
    }
}

/// Encoded frames, held back while a streamed message is in progress.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// Control frames. They follow the streamed frame.
    pub(super) controls: Vec<u8>,
    /// Messages. They follow the streamed message.
    pub(super) messages: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::close_code::CloseCode;
    use crate::protocol::session::Session;
    use crate::protocol::session::delivery::Delivery;

    const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, fragments_max: 10 };

    /// A binary message of 100 000 bytes in one frame, and an empty close frame.
    fn large_message_and_close() -> Vec<u8> {
        let header = [0x82, 0xFF, 0, 0, 0, 0, 0, 0x01, 0x86, 0xA0, 0, 0, 0, 0];
        [&header[..], &[7; 100_000], &[0x88, 0x80, 0, 0, 0, 0]].concat()
    }

    #[test]
    fn a_direct_read_counts_after_a_close_too() {
        let input = large_message_and_close();
        let mut session = Session::new(Delivery::Whole);
        let mut workspace = Workspace::default();
        let mut buf = [&[0; HEADROOM_BYTES], &input[..50_000]].concat();
        let mut window = session.window(&mut buf);
        assert!(matches!(session.next_event(&mut window, &LIMITS, &mut workspace), Ok(None)));
        let direct_len = session.direct_buffer(&LIMITS).expect("a large message").len();
        session.commit(direct_len.min(10_000));
        assert!(session.close(CloseCode::NORMAL, "", &mut workspace));
        let mut buf = [&[0; HEADROOM_BYTES], &input[50_000 + direct_len.min(10_000)..]].concat();
        let mut window = session.window(&mut buf);
        while let Ok(Some(_)) = session.next_event(&mut window, &LIMITS, &mut workspace) {}
        assert!(session.is_closed());
    }

    #[test]
    fn a_failure_inside_a_streamed_frame_sends_no_close_frame() {
        let input = large_message_and_close();
        let mut session = Session::new(Delivery::StreamedEcho);
        let mut workspace = Workspace::default();
        let mut buf = [&[0; HEADROOM_BYTES], &input[..80_000]].concat();
        let mut window = session.window(&mut buf);
        while let Ok(Some(_)) = session.next_event(&mut window, &LIMITS, &mut workspace) {}
        let run_len = window.run().len();
        session.fail(ProtocolError::TooManyFragments, &mut window, &mut workspace);
        assert_eq!(workspace.out.len(), run_len);
    }
}

//! What a session yields.

use std::ops::Range;

use simdutf8::compat::from_utf8;

use super::assembly::Assembled;
use super::message::{Message, Text};
use super::out::OutBuffer;
use super::window::Window;
use crate::protocol::close_code::CloseCode;
use crate::protocol::error::ProtocolError;
use crate::protocol::frame::header::ServerHeader;
use crate::protocol::frame::opcode::OpCode;

/// What a peer did.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message. It is echoed, if at all, before the next event is asked for.
    Message(Received),
    /// A frame of a message that has not all arrived.
    Fragment,
    /// A part of a large binary message ([`Delivery::StreamedEcho`](super::Delivery::StreamedEcho)); its echo is in the run.
    Streamed {
        /// Bytes of payload in this part.
        payload_len: usize,
        /// Whether the message's last byte was among them.
        message_end: bool,
    },
    /// A ping; unless our close frame went before it, the pong is in the run.
    Ping,
    /// A pong, asked for or not (RFC 6455 5.5.3); its payload in the window.
    Pong(Range<usize>),
    /// The peer's close frame; unless it answers ours, its answer is in the run. The last event.
    Close {
        /// The code, if the frame carried one.
        code: Option<CloseCode>,
        /// The reason in the window; UTF-8, checked.
        reason: Range<usize>,
        /// Whether this side's close frame went before it.
        answers_ours: bool,
    },
}

/// A message that has arrived.
#[derive(Debug)]
pub struct Received(pub(super) Place);

/// Where a message is.
#[derive(Debug)]
pub(super) enum Place {
    /// It came as one frame in one read: it lies in the window, unmasked, with room in front of it
    /// for the header of its echo. Text that is not ASCII is not checked yet.
    Window { is_text: bool, is_ascii: bool, payload: Range<usize> },
    /// It came in parts, and was checked as they came.
    Assembled(Assembled),
}

impl Received {
    /// The message, its text checked.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::TextUtf8`]: tell the session with [`Session::fail`](super::Session::fail).
    #[inline(always)]
    pub fn lend<'m>(&'m self, window: &'m Window<'_>) -> Result<Message<'m>, ProtocolError> {
        match &self.0 {
            Place::Window { is_text: false, payload, .. } => {
                Ok(Message::Binary(window.bytes(payload)))
            }
            Place::Window { is_ascii: true, payload, .. } => {
                Ok(Message::Text(Text::checked(window.bytes(payload))))
            }
            Place::Window { payload, .. } => from_utf8(window.bytes(payload))
                .map(Message::from)
                .map_err(|_| ProtocolError::TextUtf8),
            Place::Assembled(assembled) => Ok(assembled.message()),
        }
    }

    /// Echoes the message, which has been [lent](Self::lend) and so checked. In the window the
    /// header goes in front of the payload; a message that was assembled goes to `out`, behind the
    /// window's run.
    #[inline(always)]
    pub fn echo(self, window: &mut Window<'_>, out: &mut OutBuffer) {
        match self.0 {
            Place::Window { is_text, payload, .. } => {
                let opcode = if is_text { OpCode::Text } else { OpCode::Binary };
                window.reply(&ServerHeader::new(true, opcode, payload.len() as u64), &payload);
            }
            Place::Assembled(assembled) => {
                window.move_run(out);
                assembled.echo(out);
            }
        }
    }

    /// Lets the memory of a message that is not echoed serve the next.
    #[inline(always)]
    pub fn give_back(self, out: &mut OutBuffer) {
        if let Place::Assembled(assembled) = self.0 {
            out.keep(assembled.into_memory());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::header::FrameHeader;
    use crate::protocol::frame::mask::MaskKey;
    use crate::protocol::session::assembly::Assembly;

    #[test]
    fn memory_of_a_message_that_is_not_echoed_serves_the_next() {
        const LEN: usize = 1 << 20;
        let (payload_len, key) = (LEN as u64, MaskKey([0; 4]));
        let header =
            FrameHeader { fin: true, opcode: OpCode::Text, header_len: 14, payload_len, key };
        let mut out = OutBuffer::default();
        let mut assembly = Assembly::new(&header, 0, &mut out);
        assembly.append(&[b'a'; LEN], true, LEN).unwrap();
        Received(Place::Assembled(assembly.finish().unwrap())).give_back(&mut out);
        assert!(out.is_empty());
        assert!(out.spare(LEN, usize::MAX).capacity() >= LEN);
    }
}

//! The events of a session.

use std::ops::Range;

use super::assembly::Assembled;
use super::message::{Message, Text};
use super::window::{Run, Window};
use super::workspace::Workspace;
use crate::protocol::close_code::CloseCode;
use crate::protocol::frame::header::ServerHeader;
use crate::protocol::frame::opcode::OpCode;

/// An act of the peer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(ReceivedMessage),
    /// A frame that completes no message: a fragment, or a frame skipped after our close frame.
    Fragment,
    /// A part of a large binary message, whose echo is in the run. Only with
    /// [`Delivery::StreamedEcho`](crate::protocol::Delivery::StreamedEcho).
    Streamed {
        /// Bytes of payload in this part.
        payload_len: usize,
        /// Whether the message's last byte was among them.
        message_end: bool,
    },
    /// A ping. Its pong is in the run, unless our close frame was sent before.
    Ping,
    /// A pong, solicited or not (RFC 6455 5.5.3), and the place of its payload in the window.
    Pong(Range<usize>),
    /// The peer's close frame, the last event. Its answer is in the run, unless it answers ours.
    Close {
        /// The code, if the frame carried one.
        code: Option<CloseCode>,
        /// The place of the reason in the window. Checked: UTF-8.
        reason: Range<usize>,
        /// Whether our close frame was sent before.
        answers_ours: bool,
    },
}

/// A message that has arrived. If it is text, its bytes are valid UTF-8: only a session makes one,
/// and it has checked them.
#[derive(Debug)]
pub struct ReceivedMessage(pub(super) Storage);

/// The place of a message.
#[derive(Debug)]
pub(super) enum Storage {
    /// In the window, unmasked, behind space for the header of its echo: it arrived as one frame in
    /// one read.
    Window { opcode: OpCode, payload: Range<usize> },
    /// In memory of its own: it arrived in parts.
    Assembled(Assembled),
}

impl ReceivedMessage {
    /// The message. `window` is the one that it was taken from.
    #[inline(always)]
    #[must_use]
    pub fn lend<'m>(&'m self, window: &'m mut Window<'_>) -> Message<'m> {
        self.lend_with_run(window).0
    }

    /// The message, and the replies before it, which a callback may have to move.
    #[inline(always)]
    pub(crate) fn lend_with_run<'m>(
        &'m self,
        window: &'m mut Window<'_>,
    ) -> (Message<'m>, Run<'m>) {
        let (bytes, run) = window.split();
        let message = match &self.0 {
            Storage::Window { opcode: OpCode::Text, payload } => {
                Message::Text(Text::checked(&bytes[payload.clone()]))
            }
            Storage::Window { payload, .. } => Message::Binary(&bytes[payload.clone()]),
            Storage::Assembled(assembled) => assembled.message(),
        };
        (message, run)
    }

    /// Echoes the message. In the window the reply's header goes in front of the payload. An
    /// assembled message goes to the workspace, behind the window's run.
    #[inline(always)]
    pub fn echo(self, window: &mut Window<'_>, workspace: &mut Workspace) {
        match self.0 {
            Storage::Window { opcode, payload } => {
                window.reply(&ServerHeader::new(true, opcode, payload.len() as u64), &payload);
            }
            Storage::Assembled(assembled) => {
                window.move_run(workspace);
                assembled.echo(workspace);
            }
        }
    }

    /// Gives the memory of a message that is not echoed to the next.
    #[inline(always)]
    pub fn recycle(self, workspace: &mut Workspace) {
        if let Storage::Assembled(assembled) = self.0 {
            workspace.recycle(assembled.into_memory());
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
    fn memory_of_a_message_that_is_not_echoed_is_recycled() {
        const LEN: usize = 1 << 20;
        let (payload_len, key) = (LEN as u64, MaskKey([0; 4]));
        let header =
            FrameHeader { fin: true, opcode: OpCode::Text, header_len: 14, payload_len, key };
        let mut workspace = Workspace::default();
        let mut assembly = Assembly::new(&header, 0, &mut workspace);
        assembly.append(&[b'a'; LEN], true, LEN).unwrap();
        ReceivedMessage(Storage::Assembled(assembly.finish().unwrap())).recycle(&mut workspace);
        assert!(workspace.out.is_empty());
        assert!(workspace.take_spare(LEN, usize::MAX).capacity() >= LEN);
    }
}

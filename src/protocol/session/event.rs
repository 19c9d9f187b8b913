//! The events of a session.

use std::ops::Range;

use super::assembly::Assembled;
#[cfg(feature = "deflate")]
use super::compressed::Inflated;
use super::message::{Message, Text};
use super::window::{Run, Window};
use super::workspace::Workspace;
use crate::protocol::close_code::CloseCode;
use crate::protocol::frame::header::ServerHeader;
use crate::protocol::frame::opcode::OpCode;

/// A message, or another frame that the peer sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(ReceivedMessage),
    /// A frame that completes no message: a fragment, or a frame skipped after our close frame.
    Fragment,
    /// A part of a large binary message; its echo is in the run. Only with
    /// [`Delivery::StreamedEcho`](crate::protocol::Delivery::StreamedEcho).
    Streamed {
        /// Payload bytes in this part.
        payload_len: usize,
        /// Whether this part completes the message.
        message_end: bool,
    },
    /// A ping. Its pong is in the run.
    Ping,
    /// A pong, solicited or not (RFC 6455 5.5.3), and the position of its payload in the window.
    Pong(Range<usize>),
    /// The peer's close frame, the last event. Its answer is in the run, unless it answers ours.
    Close {
        /// The code, if the frame carried one.
        code: Option<CloseCode>,
        /// The position of the reason, valid UTF-8, in the window.
        reason: Range<usize>,
        /// Whether our close frame was sent before.
        answers_ours: bool,
    },
}

/// A received message. Only a session creates one, and a text's bytes are valid UTF-8.
#[derive(Debug)]
pub struct ReceivedMessage(pub(super) Storage);

/// The memory that holds a message.
#[derive(Debug)]
pub(super) enum Storage {
    /// In the window, unmasked, after space for the header of its echo: it arrived as one frame in
    /// one read.
    Window { opcode: OpCode, payload: Range<usize> },
    /// In its own memory: it arrived in parts.
    Assembled(Assembled),
    /// In memory of its own: it was compressed.
    #[cfg(feature = "deflate")]
    Inflated(Inflated),
}

impl ReceivedMessage {
    /// Borrows the message. `window` must be the one that it was taken from.
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
            #[cfg(feature = "deflate")]
            Storage::Inflated(inflated) => inflated.message(),
        };
        (message, run)
    }

    /// Echoes the message. In the window, the reply's header is written in front of the payload. An
    /// assembled message is appended to the workspace's `out`, after the window's run, as is one that
    /// was compressed; that one is compressed again.
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
            #[cfg(feature = "deflate")]
            Storage::Inflated(inflated) => {
                window.move_run(workspace);
                inflated.echo(workspace);
            }
        }
    }

    /// Drops a message that is not echoed, and keeps its memory for later messages.
    #[inline(always)]
    pub fn recycle(self, workspace: &mut Workspace) {
        match self.0 {
            Storage::Window { .. } => {}
            Storage::Assembled(assembled) => workspace.recycle(assembled.into_memory()),
            #[cfg(feature = "deflate")]
            Storage::Inflated(inflated) => inflated.recycle(workspace),
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
        let mut assembly = Assembly::new(&header, true, 0, &mut workspace);
        assembly.append(&[b'a'; LEN], true, LEN).unwrap();
        ReceivedMessage(Storage::Assembled(assembly.finish().unwrap())).recycle(&mut workspace);
        assert!(workspace.out.is_empty());
        assert!(workspace.take_spare(LEN, usize::MAX).capacity() >= LEN);
    }
}

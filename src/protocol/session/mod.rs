//! One open WebSocket connection without its socket: frames in, events and replies out.
//!
//! ```text
//!          send_close                     the peer's close
//!   Open ──────────────► CloseSent ───────────────────────► Closed
//!    │                                                        ▲
//!    └──── the peer's close, answered; or its fault ──────────┘
//! ```
//!
//! The caller lends a [`Window`] over what it read and asks for events until there is none. What
//! RFC 6455 demands as an answer (pong, the reply to a close) is laid out in the window's run as
//! the event is yielded; the order of the events is the order on the wire.

pub(super) mod event;
pub(super) mod in_progress;
mod assembly;
pub(super) mod message;
pub(super) mod window;
pub(super) mod out;
pub(super) mod limits;
mod utf8;

use self::assembly::Assembly;
use self::event::{Event, Place, Received};
use self::in_progress::{FrameRest, HEADROOM_BYTES, Partial, UnderWay, Waiting};
use self::limits::{Extent, Limits};
use self::message::Message;
use self::out::OutBuffer;
use self::window::{Taken, Window};
use super::close_code::CloseCode;
use super::error::{Closed, ProtocolError};
use super::frame::close::{CODE_BYTES, parse_payload, push_close};
use super::frame::header::{CONTROL_PAYLOAD_BYTES_MAX, FrameHeader, ServerHeader, push_frame};
use super::frame::opcode::OpCode;

/// A binary message that begins with a frame of more than this, or with a fragment, is large: a
/// session that streams echoes it as it arrives. Up to here assembling costs little, and a reply
/// does not wait for a slow sender in the middle of a frame.
pub const STREAM_BYTES_MIN: usize = 16 * 1024;

/// How large binary messages are delivered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Delivery {
    /// As whole messages, like all others.
    #[default]
    Whole,
    /// Echoed frame by frame as they arrive, so that the memory held does not grow with them.
    ///
    /// While a streamed frame is owed, nothing else is written to the peer: control frames wait
    /// for its end, other messages for the streamed message's end.
    StreamedEcho,
}

/// The protocol's state of one open connection: 16 bytes while nothing is under way.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
    delivery: Delivery,
    /// `None` while nothing is under way.
    partial: Option<Box<Partial>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Open,
    CloseSent,
    Closed,
}

impl Session {
    /// The state right after the handshake.
    #[must_use]
    pub const fn new(delivery: Delivery) -> Self {
        Self { phase: Phase::Open, delivery, partial: None }
    }

    /// Room for what comes next of a large frame, in the memory of its message: what is read there
    /// need not be copied. The caller says with [`filled`](Self::filled) how much it was.
    ///
    /// `None` if the next read goes to a [`window`](Self::window): there is no such frame, or too
    /// little of it has arrived to take so much memory for it.
    #[inline]
    pub fn room(&mut self, limits: &Limits) -> Option<&mut [u8]> {
        self.partial.as_mut()?.room(limits)
    }

    /// The first `len` bytes of the [`room`](Self::room) have been filled. The next event takes
    /// them, before anything in a window.
    pub fn filled(&mut self, len: usize) {
        if let Some(partial) = &mut self.partial {
            partial.filled = len;
        }
    }

    /// Whether there is something to take an event from.
    #[inline]
    #[must_use]
    pub fn has_input(&self, window: &Window<'_>) -> bool {
        !window.is_empty() || self.partial.as_ref().is_some_and(|partial| partial.filled > 0)
    }

    /// Opens a window over a read: `buf` holds [`HEADROOM_BYTES`] free bytes, then what was read.
    ///
    /// # Panics
    ///
    /// If `buf` is shorter than that.
    #[inline]
    pub fn window<'b>(&mut self, buf: &'b mut [u8]) -> Window<'b> {
        let mut start = HEADROOM_BYTES;
        if let Some(partial) = &mut self.partial {
            start -= partial.put_back(&mut buf[..HEADROOM_BYTES]);
            self.drop_idle_partial();
        }
        Window::new(buf, start)
    }

    /// The next event; `None` once the window is used up.
    ///
    /// `out` holds what goes on the wire before the window's run. Only frames that waited for the
    /// end of a streamed one, and a failure's close frame, are put there.
    ///
    /// # Errors
    ///
    /// The peer's fault. Every reply before it is in `out`, and the close frame that names it, unless
    /// one was sent before.
    #[inline]
    pub fn next_event(
        &mut self,
        window: &mut Window<'_>,
        limits: &Limits,
        out: &mut OutBuffer,
    ) -> Result<Option<Event>, ProtocolError> {
        match self.whole_message(window, limits) {
            Some(received) => Ok(Some(Event::Message(received))),
            None => self.other_event(window, limits, out),
        }
    }

    /// The common case: the next frame, if it is a message and complete in the window. Anything
    /// else, faults too, is for [`other_event`](Self::other_event).
    #[inline(always)]
    pub(crate) fn whole_message(
        &self,
        window: &mut Window<'_>,
        limits: &Limits,
    ) -> Option<Received> {
        let header = self.whole_frame(window, limits)?;
        if self.is_streamed(&header) {
            return None;
        }
        let Taken { payload, is_ascii } = window.take(&header, header.payload_len as usize);
        let is_text = header.opcode == OpCode::Text;
        Some(Received(Place::Window { is_text, is_ascii, payload }))
    }

    /// The header of the next frame, if it is a message and complete in the window.
    #[inline]
    fn whole_frame(&self, window: &Window<'_>, limits: &Limits) -> Option<FrameHeader> {
        if self.phase != Phase::Open || self.partial.is_some() {
            return None;
        }
        let header = FrameHeader::decode(window.unread()).ok()??;
        let arrived = window.unread().len() - header.header_len;
        let is_whole = header.fin
            && matches!(header.opcode, OpCode::Text | OpCode::Binary)
            && header.payload_len <= arrived as u64
            && header.payload_len <= limits.message_bytes_max as u64;
        is_whole.then_some(header)
    }

    /// The next event that is not a [`whole_message`](Self::whole_message).
    pub(crate) fn other_event(
        &mut self,
        window: &mut Window<'_>,
        limits: &Limits,
        out: &mut OutBuffer,
    ) -> Result<Option<Event>, ProtocolError> {
        if let Some(header) = self.whole_frame(window, limits) {
            // Large, to be streamed: it has all arrived, and is echoed at once.
            let payload_len = header.payload_len as usize;
            let payload = window.take(&header, payload_len).payload;
            window.reply(&ServerHeader::new(true, OpCode::Binary, header.payload_len), &payload);
            return Ok(Some(Event::Streamed { payload_len, message_end: true }));
        }
        self.next_event_in_parts(window, limits, out).map_err(|error| self.fail(error, window, out))
    }

    fn is_streamed(&self, header: &FrameHeader) -> bool {
        self.delivery == Delivery::StreamedEcho
            && header.opcode == OpCode::Binary
            && (!header.fin || header.payload_len > STREAM_BYTES_MIN as u64)
    }

    /// Everything but the common case: control frames, fragments, frames that a read cut, faults.
    fn next_event_in_parts(
        &mut self,
        window: &mut Window<'_>,
        limits: &Limits,
        out: &mut OutBuffer,
    ) -> Result<Option<Event>, ProtocolError> {
        while self.phase != Phase::Closed {
            let event = if self.is_within_frame() {
                if !self.has_input(window) {
                    return Ok(None);
                }
                self.continue_frame(window, limits, out)?
            } else {
                let Some(header) = FrameHeader::decode(window.unread())? else { break };
                if header.opcode.is_control() {
                    let arrived = window.unread().len() - header.header_len;
                    if header.payload_len > arrived as u64 {
                        break;
                    }
                    self.control_frame(&header, window)?
                } else {
                    self.begin_frame(&header, window, limits, out)?;
                    self.continue_frame(window, limits, out)?
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        if self.phase == Phase::Closed {
            window.discard();
        } else if !window.is_empty() {
            self.partial_mut().keep_unread(window);
        }
        Ok(None)
    }

    fn is_within_frame(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.frame.is_some())
    }

    /// Takes a data frame's header: checks it against the message under way, and of a streamed
    /// message lays out the reply's header.
    fn begin_frame(
        &mut self,
        header: &FrameHeader,
        window: &mut Window<'_>,
        limits: &Limits,
        out: &mut OutBuffer,
    ) -> Result<(), ProtocolError> {
        let is_open = self.phase == Phase::Open;
        let is_streamed = self.is_streamed(header);
        let partial = self.partial_mut();
        let start = window.take(header, 0).payload;
        if !is_open {
            partial.frame = Some(FrameRest::new(header));
            return Ok(());
        }
        if matches!(partial.message, UnderWay::Nothing) {
            let extent = Extent::default();
            partial.message = match header.opcode {
                OpCode::Continuation => return Err(ProtocolError::ContinuationWithoutStart),
                _ if is_streamed => UnderWay::Streaming { extent, waiting: Waiting::default() },
                _ => {
                    let arrived = window.unread().len();
                    UnderWay::Assembling { extent, assembly: Assembly::new(header, arrived, out) }
                }
            };
        } else if header.opcode != OpCode::Continuation {
            return Err(ProtocolError::MessageInterrupted);
        }
        match &mut partial.message {
            UnderWay::Nothing => {}
            UnderWay::Assembling { extent, .. } => extent.add(header, limits)?,
            UnderWay::Streaming { extent, .. } => {
                extent.add(header, limits)?;
                let reply = ServerHeader::new(header.fin, header.opcode, header.payload_len);
                window.reply(&reply, &start);
            }
        }
        partial.frame = Some(FrameRest::new(header));
        Ok(())
    }

    /// Takes what the window has of the payload of the frame under way.
    fn continue_frame(
        &mut self,
        window: &mut Window<'_>,
        limits: &Limits,
        out: &mut OutBuffer,
    ) -> Result<Option<Event>, ProtocolError> {
        let Some(partial) = &mut self.partial else { return Ok(None) };
        let Some(frame) = &mut partial.frame else { return Ok(None) };
        let piece = match (std::mem::take(&mut partial.filled), &mut partial.message) {
            (0, UnderWay::Assembling { assembly, .. }) => {
                let Taken { payload, is_ascii } = frame.take(window);
                assembly.append(window.bytes(&payload), is_ascii, limits.message_bytes_max)?;
                payload
            }
            (len, UnderWay::Assembling { assembly, .. }) => {
                assembly.unmask(len, frame.advance(len))?;
                0..0
            }
            (0, _) => frame.take(window).payload,
            (len, _) => {
                frame.advance(len);
                0..0
            }
        };
        let frame_end = frame.left == 0;
        let message_end = frame_end && frame.fin;
        if frame_end {
            partial.frame = None;
        }
        let event = match &mut partial.message {
            UnderWay::Nothing => frame_end.then_some(Event::Fragment),
            UnderWay::Assembling { .. } if message_end => {
                let assembled = partial.take_assembled()?;
                assembled.map(|assembled| Event::Message(Received(Place::Assembled(assembled))))
            }
            UnderWay::Assembling { .. } => frame_end.then_some(Event::Fragment),
            UnderWay::Streaming { waiting, .. } => {
                window.reply_piece(&piece);
                if frame_end && !waiting.controls.is_empty() {
                    window.move_run(out);
                    out.append(&mut waiting.controls);
                }
                if message_end && self.phase == Phase::Open && !waiting.messages.is_empty() {
                    window.move_run(out);
                    out.append(&mut waiting.messages);
                }
                if message_end || (frame_end && self.phase == Phase::CloseSent) {
                    partial.message = UnderWay::Nothing;
                }
                Some(Event::Streamed { payload_len: piece.len(), message_end })
            }
        };
        self.drop_idle_partial();
        Ok(event)
    }

    /// Takes a complete control frame and lays out the answer that it demands.
    fn control_frame(
        &mut self,
        header: &FrameHeader,
        window: &mut Window<'_>,
    ) -> Result<Option<Event>, ProtocolError> {
        let payload = window.take(header, header.payload_len as usize).payload;
        let answers = self.phase == Phase::Open;
        let (answer, event) = match header.opcode {
            OpCode::Close => {
                let code = parse_payload(window.bytes(&payload))?;
                self.phase = Phase::Closed;
                self.partial = None;
                let code_end = payload.end.min(payload.start + CODE_BYTES);
                let reason = code_end..payload.end;
                (
                    Some((OpCode::Close, payload.start..code_end)),
                    Event::Close { code, reason, answers_ours: !answers },
                )
            }
            OpCode::Ping => (Some((OpCode::Pong, payload)), Event::Ping),
            _ => (None, Event::Pong(payload)),
        };
        // A ping is answered after our own close frame too: RFC 6455 5.5.2 exempts only an endpoint
        // that has received one.
        if let Some((opcode, payload)) = answer
            && (answers || opcode == OpCode::Pong)
        {
            window.reply(&ServerHeader::new(true, opcode, payload.len() as u64), &payload);
        }
        Ok(Some(event))
    }

    /// Ends the session for a fault of the peer: the close frame that names it, unless one was sent
    /// before, goes behind every reply so far, and all further input is discarded. Returns `error`, for the caller to report.
    pub fn fail(
        &mut self,
        error: ProtocolError,
        window: &mut Window<'_>,
        out: &mut Vec<u8>,
    ) -> ProtocolError {
        window.move_run(out);
        if self.phase == Phase::Open && !self.owes_frame() {
            push_close(out, error.close_code(), "");
        }
        self.phase = Phase::Closed;
        self.partial = None;
        window.discard();
        error
    }

    /// Sends a message: to the end of `out`, or behind the streamed message that is owed.
    ///
    /// A caller with a window open moves its run to `out` first; so for [`ping`](Self::ping) and
    /// [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// [`Closed`] once a close frame has been sent.
    pub fn send(&mut self, message: Message<'_>, out: &mut Vec<u8>) -> Result<(), Closed> {
        self.check_open()?;
        let out = match self.waiting() {
            Some((waiting, _)) => &mut waiting.messages,
            None => out,
        };
        push_frame(out, message.opcode(), message.as_bytes());
        Ok(())
    }

    /// Sends a ping: to the end of `out`, or behind the streamed frame that is owed. A payload of
    /// more than 125 bytes is cut there (RFC 6455 5.5).
    ///
    /// # Errors
    ///
    /// [`Closed`] once a close frame has been sent.
    pub fn ping(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Closed> {
        self.check_open()?;
        let payload = &payload[..payload.len().min(CONTROL_PAYLOAD_BYTES_MAX)];
        push_frame(self.control_out(out), OpCode::Ping, payload);
        Ok(())
    }

    /// Starts the closing handshake: to the end of `out`, or behind the streamed frame that is
    /// owed. Messages that wait for the end of a streamed one are dropped. What the peer sends from
    /// now on is skipped, up to its close frame. A reason of more than 123 bytes is cut (RFC 6455
    /// 5.5).
    ///
    /// # Errors
    ///
    /// [`Closed`] once a close frame has been sent.
    pub fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), Closed> {
        self.check_open()?;
        push_close(self.control_out(out), code, reason);
        self.phase = Phase::CloseSent;
        if let Some(partial) = &mut self.partial
            && !(partial.is_streaming() && partial.frame.is_some())
        {
            partial.message = UnderWay::Nothing;
            self.drop_idle_partial();
        }
        Ok(())
    }

    /// Whether a message can still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether our close frame has been sent, and the peer's is awaited.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::CloseSent
    }

    /// Whether no further event will come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Bytes that wait for the end of a streamed message.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        match self.partial.as_deref() {
            Some(Partial { message: UnderWay::Streaming { waiting, .. }, .. }) => {
                waiting.controls.len() + waiting.messages.len()
            }
            _ => 0,
        }
    }

    /// Bytes of a message under way that has to be whole before it is delivered.
    #[must_use]
    pub fn under_way_bytes(&self) -> usize {
        match self.partial.as_deref() {
            Some(Partial { message: UnderWay::Assembling { assembly, .. }, .. }) => assembly.len(),
            _ => 0,
        }
    }

    /// Whether a streamed frame is owed, so that nothing else may go on the wire.
    #[must_use]
    pub fn owes_frame(&self) -> bool {
        self.partial
            .as_ref()
            .is_some_and(|partial| partial.is_streaming() && partial.frame.is_some())
    }

    fn check_open(&self) -> Result<(), Closed> {
        if self.is_open() { Ok(()) } else { Err(Closed) }
    }

    /// Where a control frame goes.
    fn control_out<'o>(&'o mut self, out: &'o mut Vec<u8>) -> &'o mut Vec<u8> {
        match self.waiting() {
            Some((waiting, true)) => &mut waiting.controls,
            _ => out,
        }
    }

    /// What waits for the streamed message under way, and whether one of its frames is owed.
    fn waiting(&mut self) -> Option<(&mut Waiting, bool)> {
        match self.partial.as_deref_mut()? {
            Partial { message: UnderWay::Streaming { waiting, .. }, frame, .. } => {
                Some((waiting, frame.is_some()))
            }
            _ => None,
        }
    }

    fn partial_mut(&mut self) -> &mut Partial {
        self.partial.get_or_insert_default()
    }

    fn drop_idle_partial(&mut self) {
        if self.partial.as_ref().is_some_and(|partial| partial.is_idle()) {
            self.partial = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert_eq!(size_of::<Session>(), 16);
    }

    #[test]
    fn what_was_under_way_leaves_nothing_behind() {
        let limits = Limits { message_bytes_max: 100, fragments_max: 10 };
        // A message in two fragments, of the second of which the mask key is cut.
        let pieces = [&b"\x01\x81\0\0\0\0a\x80\x81\0\0"[..], b"\0\0b"];
        let mut session = Session::new(Delivery::Whole);
        for (piece, is_last) in pieces.into_iter().zip([false, true]) {
            let mut buf = [&[0; HEADROOM_BYTES], piece].concat();
            let mut window = session.window(&mut buf);
            let mut out = OutBuffer::default();
            while let Ok(Some(_)) = session.next_event(&mut window, &limits, &mut out) {}
            assert_eq!(session.partial.is_none(), is_last);
        }
    }

    const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, fragments_max: 10 };

    /// A binary message of 100 000 bytes in one frame, and an empty close frame.
    fn large_message_and_close() -> Vec<u8> {
        let header = [0x82, 0xFF, 0, 0, 0, 0, 0, 0x01, 0x86, 0xA0, 0, 0, 0, 0];
        [&header[..], &[7; 100_000], &[0x88, 0x80, 0, 0, 0, 0]].concat()
    }

    #[test]
    fn what_was_read_to_the_room_counts_after_a_close_too() {
        let input = large_message_and_close();
        let mut session = Session::new(Delivery::Whole);
        let mut out = OutBuffer::default();
        let mut buf = [&[0; HEADROOM_BYTES], &input[..50_000]].concat();
        let mut window = session.window(&mut buf);
        assert!(matches!(session.next_event(&mut window, &LIMITS, &mut out), Ok(None)));
        let room_len = session.room(&LIMITS).expect("a large message").len();
        session.filled(room_len.min(10_000));
        session.close(CloseCode::NORMAL, "", &mut out).unwrap();
        let mut buf = [&[0; HEADROOM_BYTES], &input[50_000 + room_len.min(10_000)..]].concat();
        let mut window = session.window(&mut buf);
        while let Ok(Some(_)) = session.next_event(&mut window, &LIMITS, &mut out) {}
        assert!(session.is_closed());
    }

    #[test]
    fn a_failure_within_a_streamed_frame_puts_nothing_into_it() {
        let input = large_message_and_close();
        let mut session = Session::new(Delivery::StreamedEcho);
        let mut out = OutBuffer::default();
        let mut buf = [&[0; HEADROOM_BYTES], &input[..80_000]].concat();
        let mut window = session.window(&mut buf);
        while let Ok(Some(_)) = session.next_event(&mut window, &LIMITS, &mut out) {}
        let owed_len = window.run().len();
        session.fail(ProtocolError::TooManyFragments, &mut window, &mut out);
        assert_eq!(out.len(), owed_len);
    }
}

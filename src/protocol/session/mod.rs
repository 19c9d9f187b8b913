//! One open WebSocket connection without its socket: frames in, events and replies out.
//!
//! ```text
//!          close                          the peer's close
//!   Open ──────────────► CloseSent ───────────────────────► Closed
//!    │                                                        ▲
//!    └──── the peer's close, answered; or its error ──────────┘
//! ```
//!
//! **Drain invariant:** take every event, move the run, then send. In full, for each read of a
//! connection:
//!
//! 1. Read into [`Session::direct_buffer`] if it returns one, and tell [`Session::commit`] how much
//!    was read. Otherwise read into a buffer after [`HEADROOM_BYTES`] free bytes.
//! 2. Open a window over that buffer with [`Session::window`], or an empty one after a direct read.
//! 3. Call [`Session::next_event`] until it returns `None` or an error. Each reply that RFC 6455
//!    requires (a pong, the answer to a close) is in the window's run when its event is returned,
//!    so replies leave in the order of the events.
//! 4. Echo or recycle a [`ReceivedMessage`] before the next call, which may overwrite its payload
//!    with a reply.
//! 5. Before [`Session::send`], [`Session::ping`] or [`Session::close`] move the run to the
//!    workspace with [`Window::move_run`]: they append to its `out`, which precedes the run.
//! 6. Write the workspace's `out`, then the run; then clear the workspace for the next session.
//!
//! The session itself moves the run when it must append to `out`: for an assembled message's echo,
//! deferred frames, and the close frame of a failure.

pub(super) mod in_progress;
pub(super) mod event;
mod assembly;
#[cfg(feature = "deflate")]
mod compressed;
pub(super) mod delivery;
pub(super) mod message;
pub(super) mod window;
pub(super) mod workspace;
mod pool;
pub(super) mod limits;
mod utf8;

use simdutf8::compat::from_utf8;

#[cfg(feature = "deflate")]
use self::compressed::{Inflated, push_compressed};
use self::delivery::Delivery;
use self::event::{Event, ReceivedMessage, Storage};
use self::in_progress::{Deferred, Form, HEADROOM_BYTES, InProgress, MessageInProgress};
use self::limits::Limits;
use self::message::Message;
use self::window::{Taken, Window};
use self::workspace::Workspace;
use super::close_code::CloseCode;
#[cfg(feature = "deflate")]
use super::deflate::parameters::DeflateParameters;
use super::error::ProtocolError;
use super::frame::close::{CODE_BYTES, parse_payload, push_close};
use super::frame::header::{CONTROL_PAYLOAD_BYTES_MAX, FrameHeader, ServerHeader, push_frame};
use super::frame::opcode::OpCode;

/// The protocol state of one open connection: 16 bytes while nothing is incomplete.
#[derive(Debug)]
pub struct Session {
    state: State,
    delivery: Delivery,
    /// The parameters of permessage-deflate, if both sides agreed to it.
    #[cfg(feature = "deflate")]
    deflate: Option<DeflateParameters>,
    /// `None` while nothing is incomplete.
    in_progress: Option<Box<InProgress>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    CloseSent,
    Closed,
    /// As `Closed`, after an error that is answered by no close frame: one had been sent before, or
    /// the peer would read it as payload.
    Failed,
}

/// The state of our close frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CloseFrame {
    NotSent,
    /// It waits for the end of a streamed frame.
    Deferred,
    /// It is in the workspace, in the backlog or on the wire.
    Sent,
}

impl Session {
    /// Starts a session, right after the opening handshake.
    #[must_use]
    pub const fn new(delivery: Delivery) -> Self {
        Self {
            state: State::Open,
            delivery,
            #[cfg(feature = "deflate")]
            deflate: None,
            in_progress: None,
        }
    }

    /// Permits compressed messages. They are delivered whole, as are all others.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn with_deflate(mut self, parameters: DeflateParameters) -> Self {
        self.deflate = Some(parameters);
        self.delivery = Delivery::Whole;
        self
    }

    /// The parameters of permessage-deflate, if both sides agreed to it.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        self.deflate
    }

    /// Returns memory of the message in progress for the next read, so that the rest of a large
    /// frame is not copied. `None` if the next read must go to a [`window`](Self::window): no large
    /// frame is incomplete, or too little of it has arrived to justify the memory.
    #[inline]
    pub fn direct_buffer(&mut self, limits: &Limits) -> Option<&mut [u8]> {
        self.in_progress.as_mut()?.direct_buffer(limits)
    }

    /// Tells the session that the first `len` bytes of the [`direct_buffer`](Self::direct_buffer)
    /// were read. The next event is taken from them, before any in a window.
    pub fn commit(&mut self, len: usize) {
        if let Some(in_progress) = &mut self.in_progress {
            in_progress.committed = len;
        }
    }

    /// Whether there are bytes to take an event from.
    #[inline]
    #[must_use]
    pub fn has_input(&self, window: &Window<'_>) -> bool {
        !window.is_empty()
            || self.in_progress.as_ref().is_some_and(|in_progress| in_progress.committed > 0)
    }

    /// Opens a window over a read: `buf` holds [`HEADROOM_BYTES`] free bytes, then the bytes read.
    ///
    /// # Panics
    ///
    /// If `buf` is shorter than that.
    #[inline]
    pub fn window<'b>(&mut self, buf: &'b mut [u8]) -> Window<'b> {
        let mut start = HEADROOM_BYTES;
        if let Some(in_progress) = &mut self.in_progress {
            start -= in_progress.put_back(&mut buf[..HEADROOM_BYTES]);
            self.drop_in_progress_if_idle();
        }
        Window::new(buf, start)
    }

    /// Takes the next event; `None` once the input is exhausted.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol or a limit. All earlier replies are in the workspace's `out`,
    /// followed by a close frame with the error's code, unless one was sent before.
    #[inline]
    pub fn next_event(
        &mut self,
        window: &mut Window<'_>,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<Option<Event>, ProtocolError> {
        match self.next_whole_message(window, limits, workspace)? {
            Some(received) => Ok(Some(Event::Message(received))),
            None => self.next_event_slow(window, limits, workspace),
        }
    }

    /// The fast path: the next frame, if it is a whole message in the window, and not streamed.
    /// `None` leaves the frame to [`next_event_slow`](Self::next_event_slow).
    ///
    /// # Errors
    ///
    /// As [`next_event`](Self::next_event), for a text that is not UTF-8.
    #[inline(always)]
    pub(crate) fn next_whole_message(
        &mut self,
        window: &mut Window<'_>,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<Option<ReceivedMessage>, ProtocolError> {
        let header = match self.whole_frame(window, limits) {
            Some(header) if !self.delivery.streams(&header) => header,
            _ => return Ok(None),
        };
        let Taken { payload, is_ascii } = window.take(&header, header.payload_len as usize);
        let opcode = header.opcode;
        // Unmasking has seen whether the text is ASCII, which spares most texts this second pass.
        if !is_ascii && opcode == OpCode::Text && from_utf8(window.bytes(&payload)).is_err() {
            return Err(self.fail(ProtocolError::TextUtf8, window, workspace));
        }
        Ok(Some(ReceivedMessage(Storage::Window { opcode, payload })))
    }

    /// The header of the next frame, if it is a whole message in the window.
    #[inline]
    fn whole_frame(&self, window: &Window<'_>, limits: &Limits) -> Option<FrameHeader> {
        if self.state != State::Open || self.in_progress.is_some() {
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

    /// The slow path: the next event, after [`next_whole_message`](Self::next_whole_message) has
    /// returned `None`.
    pub(crate) fn next_event_slow(
        &mut self,
        window: &mut Window<'_>,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<Option<Event>, ProtocolError> {
        if !window.is_empty()
            && let Some(header) = self.whole_frame(window, limits)
        {
            // A streamed message that has arrived whole needs no state: it is echoed at once.
            let payload_len = header.payload_len as usize;
            let payload = window.take(&header, payload_len).payload;
            window.reply(&ServerHeader::new(true, OpCode::Binary, header.payload_len), &payload);
            return Ok(Some(Event::Streamed { payload_len, message_end: true }));
        }
        self.next_event_in_parts(window, limits, workspace)
            .map_err(|error| self.fail(error, window, workspace))
    }

    /// Handles everything except a whole message: control frames, fragments, frames split across
    /// reads, errors.
    fn next_event_in_parts(
        &mut self,
        window: &mut Window<'_>,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<Option<Event>, ProtocolError> {
        // A data frame may yield no event yet, because its payload has only begun. So loop until
        // there is an event or the input is exhausted.
        while !self.is_closed() {
            let event = if self.is_within_frame() {
                if !self.has_input(window) {
                    return Ok(None);
                }
                self.continue_frame(window, limits, workspace)?
            } else {
                let Some((header, form)) = self.decode_header(window.unread())? else {
                    break;
                };
                if header.opcode.is_control() {
                    let arrived = window.unread().len() - header.header_len;
                    // A control frame is taken whole. An incomplete one fits into the headroom of
                    // the next window.
                    if header.payload_len > arrived as u64 {
                        break;
                    }
                    self.control_frame(&header, window)?
                } else {
                    #[cfg(feature = "deflate")]
                    if let Form::Compressed(_, parameters) = form
                        && self.is_open()
                        && self.in_progress.is_none()
                        && let Some(inflated) =
                            Inflated::take_whole(&header, parameters, window, limits, workspace)?
                    {
                        let received = ReceivedMessage(Storage::Inflated(inflated));
                        return Ok(Some(Event::Message(received)));
                    }
                    self.begin_frame(&header, form, window, limits, workspace)?;
                    self.continue_frame(window, limits, workspace)?
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        if self.is_closed() {
            // Bytes after the last frame are ignored (RFC 6455 5.5.1, 7.1.7).
            window.discard();
        } else if !window.is_empty() {
            self.in_progress_mut().keep_unread(window);
        }
        Ok(None)
    }

    /// Decodes a header. Returns the form of the message too, if it begins one.
    fn decode_header(&self, bytes: &[u8]) -> Result<Option<(FrameHeader, Form)>, ProtocolError> {
        #[cfg(feature = "deflate")]
        if let Some(parameters) = self.deflate {
            let decoded = FrameHeader::decode_compressed(bytes)?;
            return Ok(decoded.map(|(header, is_compressed)| match is_compressed {
                true => (header, Form::Compressed(header.opcode, parameters)),
                false => (header, Form::Whole),
            }));
        }
        Ok(FrameHeader::decode(bytes)?.map(|header| match self.delivery.streams(&header) {
            true => (header, Form::Streamed),
            false => (header, Form::Whole),
        }))
    }

    fn is_within_frame(&self) -> bool {
        self.in_progress.as_ref().is_some_and(|in_progress| in_progress.frame.is_some())
    }

    /// Takes a data frame's header. After our close frame the frame is skipped, because messages
    /// are no longer delivered.
    fn begin_frame(
        &mut self,
        header: &FrameHeader,
        form: Form,
        window: &mut Window<'_>,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<(), ProtocolError> {
        let is_open = self.is_open();
        let in_progress = self.in_progress_mut();
        if is_open {
            in_progress.begin_frame(header, form, window, limits, workspace)
        } else {
            in_progress.skip_frame(header, window);
            Ok(())
        }
    }

    /// Takes the payload received so far of the current data frame.
    fn continue_frame(
        &mut self,
        window: &mut Window<'_>,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<Option<Event>, ProtocolError> {
        let is_open = self.is_open();
        let Some(in_progress) = &mut self.in_progress else { return Ok(None) };
        let event = in_progress.continue_frame(is_open, window, limits, workspace)?;
        self.drop_in_progress_if_idle();
        Ok(event)
    }

    /// Takes a complete control frame, and lays out the reply if it requires one.
    fn control_frame(
        &mut self,
        header: &FrameHeader,
        window: &mut Window<'_>,
    ) -> Result<Option<Event>, ProtocolError> {
        let payload = window.take(header, header.payload_len as usize).payload;
        let answers = self.state == State::Open;
        let (answer, event) = match header.opcode {
            OpCode::Close => {
                let code = parse_payload(window.bytes(&payload))?;
                self.state = State::Closed;
                self.in_progress = None;
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

    /// Fails the connection because of the peer's `error` (RFC 6455 7.1.7): appends a close frame
    /// with its code to the replies so far, unless one was sent before, and discards all further
    /// input. Returns `error` for the caller to report.
    #[cold]
    fn fail(
        &mut self,
        error: ProtocolError,
        window: &mut Window<'_>,
        workspace: &mut Workspace,
    ) -> ProtocolError {
        debug_assert!(!self.is_closed(), "a closed session processes no input");
        window.move_run(workspace);
        // Inside a streamed frame the peer would read a close frame as payload.
        self.state = if self.state == State::Open && !self.is_mid_frame() {
            push_close(&mut workspace.out, error.close_code(), "");
            State::Closed
        } else {
            State::Failed
        };
        self.in_progress = None;
        window.discard();
        error
    }

    /// Appends a message to the workspace's `out`, or defers it until the end of the streamed
    /// message in progress. Does nothing and returns `false` unless the session is open.
    pub fn send(&mut self, message: Message<'_>, workspace: &mut Workspace) -> bool {
        if !self.is_open() {
            return false;
        }
        #[cfg(feature = "deflate")]
        if let Some(parameters) = &self.deflate
            && self.is_open()
            && push_compressed(message, parameters, workspace)
        {
            return true;
        }
        self.send_uncompressed(message, workspace)
    }

    /// As [`send`](Self::send), but never compresses the message.
    pub fn send_uncompressed(&mut self, message: Message<'_>, workspace: &mut Workspace) -> bool {
        if !self.is_open() {
            return false;
        }
        let out = match self.deferred() {
            Some((deferred, _)) => &mut deferred.messages,
            None => &mut workspace.out,
        };
        push_frame(out, message.opcode(), message.as_bytes());
        true
    }

    /// Defers an encoded data frame to the end of the streamed message in progress. Returns `false` if
    /// none is in progress: then the frame may be sent at once, behind all earlier replies.
    pub(crate) fn defer(&mut self, frame: &[u8]) -> bool {
        debug_assert!(self.is_open(), "no message follows our close frame (RFC 6455 5.5.1)");
        let Some((deferred, _)) = self.deferred() else { return false };
        deferred.messages.extend_from_slice(frame);
        true
    }

    /// Appends a ping to the workspace's `out`, or defers it until the end of the streamed frame in
    /// progress. The payload is truncated to 125 bytes (RFC 6455 5.5). Does nothing and returns
    /// `false` unless the session is open.
    pub fn ping(&mut self, payload: &[u8], workspace: &mut Workspace) -> bool {
        if !self.is_open() {
            return false;
        }
        let payload = &payload[..payload.len().min(CONTROL_PAYLOAD_BYTES_MAX)];
        push_frame(self.control_out(workspace), OpCode::Ping, payload);
        true
    }

    /// Starts the closing handshake: appends a close frame to the workspace's `out`, or defers it
    /// until the end of the streamed frame in progress. The reason is truncated to 123 bytes at a
    /// character boundary (RFC 6455 5.5). Messages deferred until the end of a streamed message are
    /// dropped. Data frames that the peer sends before its close frame are skipped. Does nothing
    /// and returns `false` unless the session is open.
    pub fn close(&mut self, code: CloseCode, reason: &str, workspace: &mut Workspace) -> bool {
        if !self.is_open() {
            return false;
        }
        push_close(self.control_out(workspace), code, reason);
        self.state = State::CloseSent;
        // A streamed reply that has begun a frame must complete it before the close frame.
        if let Some(in_progress) = &mut self.in_progress
            && !in_progress.is_mid_frame()
        {
            in_progress.message = MessageInProgress::Nothing;
            self.drop_in_progress_if_idle();
        }
        debug_assert!(self.is_mid_frame() || self.in_progress_bytes() + self.deferred_bytes() == 0);
        true
    }

    /// Where the closing handshake stands.
    #[inline]
    pub(crate) fn close_frame(&self) -> CloseFrame {
        match self.state {
            State::Open => CloseFrame::NotSent,
            _ if self.is_mid_frame() => CloseFrame::Deferred,
            _ => CloseFrame::Sent,
        }
    }

    /// Whether a message can still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether our close frame has been sent and the peer's has not arrived.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.state == State::CloseSent
    }

    /// Whether no further event will come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed | State::Failed)
    }

    /// Whether the session ended after an error without a close frame for it.
    pub(crate) fn has_failed_silently(&self) -> bool {
        self.state == State::Failed
    }

    /// Bytes of frames deferred until the end of a streamed frame or message.
    #[must_use]
    pub fn deferred_bytes(&self) -> usize {
        match self.in_progress.as_deref() {
            Some(InProgress { message: MessageInProgress::Streaming { deferred, .. }, .. }) => {
                deferred.controls.len() + deferred.messages.len()
            }
            _ => 0,
        }
    }

    /// Bytes held for an incomplete message that will be delivered whole.
    #[must_use]
    pub fn in_progress_bytes(&self) -> usize {
        match self.in_progress.as_deref() {
            Some(InProgress {
                message: MessageInProgress::Assembling { assembly, .. }, ..
            }) => assembly.len(),
            _ => 0,
        }
    }

    /// Whether the last reply is an incomplete streamed frame, so that no other frame may follow.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.in_progress.as_ref().is_some_and(|in_progress| in_progress.is_mid_frame())
    }

    /// Returns the buffer for a control frame, which may follow any frame of a streamed message but
    /// not interrupt one (RFC 6455 5.4).
    fn control_out<'o>(&'o mut self, workspace: &'o mut Workspace) -> &'o mut Vec<u8> {
        match self.deferred() {
            Some((deferred, true)) => &mut deferred.controls,
            _ => &mut workspace.out,
        }
    }

    /// The frames deferred by the streamed message in progress, and whether one of its frames is
    /// incomplete.
    fn deferred(&mut self) -> Option<(&mut Deferred, bool)> {
        match self.in_progress.as_deref_mut()? {
            InProgress {
                message: MessageInProgress::Streaming { deferred, .. }, frame, ..
            } => Some((deferred, frame.is_some())),
            _ => None,
        }
    }

    fn in_progress_mut(&mut self) -> &mut InProgress {
        self.in_progress.get_or_insert_default()
    }

    fn drop_in_progress_if_idle(&mut self) {
        if self.in_progress.as_ref().is_some_and(|in_progress| in_progress.is_idle()) {
            self.in_progress = None;
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
    fn a_completed_message_leaves_no_state_behind() {
        let limits = Limits { message_bytes_max: 100, fragments_max: 10 };
        // A message in two fragments; the first read ends inside the second one's mask key.
        let pieces = [&b"\x01\x81\0\0\0\0a\x80\x81\0\0"[..], b"\0\0b"];
        let mut session = Session::new(Delivery::Whole);
        for (piece, is_last) in pieces.into_iter().zip([false, true]) {
            let mut buf = [&[0; HEADROOM_BYTES], piece].concat();
            let mut window = session.window(&mut buf);
            let mut workspace = Workspace::default();
            while let Ok(Some(_)) = session.next_event(&mut window, &limits, &mut workspace) {}
            assert_eq!(session.in_progress.is_none(), is_last);
        }
    }
}

//! The bytes of one read, and the replies laid out over those already consumed.
//!
//! A client's header is four bytes longer than the server's for the same payload (the mask key),
//! so the reply to a frame fits where the frame was. Replies to consecutive frames are compacted
//! into one contiguous **run**, which one `send` writes straight from the receive buffer:
//!
//! ```text
//!            run.start           run.end     next                 filled
//! | (free)   | reply | reply | … | (stale)   | frame | frame | …  |
//! ```

use std::ops::Range;

use super::workspace::Workspace;
use crate::protocol::frame::header::{FrameHeader, ServerHeader};
use crate::protocol::frame::mask::{MaskKey, unmask_down};

/// A borrowed receive buffer, while its frames are taken and answered.
///
/// Architecture invariant: `run.start <= run.end <= next <= buf.len()`, and the payload handed out
/// last begins at `run.end` plus the length of its echo's header.
#[derive(Debug)]
pub struct Window<'b> {
    buf: &'b mut [u8],
    run: Range<usize>,
    next: usize,
}

/// The position of a payload taken from a window, and whether it is ASCII.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) payload: Range<usize>,
    pub(super) is_ascii: bool,
}

impl<'b> Window<'b> {
    /// Opens a window over the bytes of `buf` from `start` on.
    ///
    /// # Panics
    ///
    /// If `start` is beyond the end of `buf`.
    #[must_use]
    pub fn new(buf: &'b mut [u8], start: usize) -> Self {
        assert!(start <= buf.len(), "a window starts inside its buffer");
        Self { buf, run: start..start, next: start }
    }

    /// The bytes of `range`.
    #[inline]
    #[must_use]
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.buf[range.clone()]
    }

    /// The replies laid out so far, contiguous and in order.
    #[inline]
    #[must_use]
    pub fn run(&self) -> &[u8] {
        &self.buf[self.run.clone()]
    }

    /// Moves the run to the end of the workspace's `out`, so that bytes appended there later follow
    /// it on the wire.
    pub fn move_run(&mut self, workspace: &mut Workspace) {
        self.split().1.move_to(workspace);
    }

    /// Lends the bytes and, apart from them, the run: a payload can be read while the run is moved.
    #[inline]
    pub(crate) fn split(&mut self) -> (&[u8], Run<'_>) {
        let buf = &*self.buf;
        (buf, Run { buf, range: &mut self.run })
    }

    /// Whether every byte was consumed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.next == self.buf.len()
    }

    /// Writes a header in front of the payload handed out last, and adds the reply to the run.
    ///
    /// `payload` may be a prefix of the payload handed out.
    #[inline]
    pub(super) fn reply(&mut self, header: &ServerHeader, payload: &Range<usize>) {
        let start = header.write_before(self.buf, payload.start);
        self.join_run(start..payload.end);
    }

    /// Adds a further piece of a streamed frame to the run.
    pub(super) fn reply_piece(&mut self, payload: &Range<usize>) {
        self.join_run(payload.clone());
    }

    #[inline]
    fn join_run(&mut self, reply: Range<usize>) {
        if self.run.is_empty() {
            // The run may have been moved away since the payload was laid out.
            self.run.start = reply.start;
        } else {
            debug_assert_eq!(reply.start, self.run.end, "the payload was laid out for this reply");
        }
        self.run.end = reply.end;
    }

    /// The bytes not yet consumed, as received.
    #[inline]
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        &self.buf[self.next..]
    }

    /// Consumes the header and `len` payload bytes, unmasked and laid out for an echo.
    #[inline]
    pub(super) fn take(&mut self, header: &FrameHeader, len: usize) -> Taken {
        self.lay_out(header.header_len, header.reply_header_len(), len, header.key)
    }

    /// Consumes `len` further payload bytes of a frame whose header was taken before.
    pub(super) fn take_piece(&mut self, len: usize, key: MaskKey) -> Taken {
        self.lay_out(0, 0, len, key)
    }

    #[inline]
    fn lay_out(&mut self, skip: usize, header: usize, len: usize, key: MaskKey) -> Taken {
        let source = self.next + skip;
        if self.run.is_empty() {
            // An empty run has no fixed place: from here the payload need not move.
            self.run = source - header..source - header;
        }
        let target = self.run.end + header;
        let is_ascii = unmask_down(self.buf, source..source + len, target, key);
        self.next = source + len;
        Taken { payload: target..target + len, is_ascii }
    }

    /// Consumes the unread bytes without processing them.
    pub(super) const fn discard(&mut self) {
        self.next = self.buf.len();
    }
}

/// The run of a window whose bytes are lent at the same time.
#[derive(Debug)]
pub(crate) struct Run<'w> {
    buf: &'w [u8],
    range: &'w mut Range<usize>,
}

impl Run<'_> {
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// Moves the run to the end of the workspace's `out`.
    pub(crate) fn move_to(&mut self, workspace: &mut Workspace) {
        workspace.out.extend_from_slice(&self.buf[self.range.clone()]);
        self.range.end = self.range.start;
    }
}

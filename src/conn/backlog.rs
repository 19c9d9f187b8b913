//! Bytes that the kernel has refused so far.

use std::array;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

use crate::fanout::log::{SharedBytes, SharedFrames};
use crate::peer::BacklogBytes;
use crate::protocol::Workspace;

/// A queue of unsent bytes, in segments.
///
/// ```text
///    first segment      last segment
///   | sent | unsent |  …  | unsent |
///          ^ sent
/// ```
#[derive(Debug, Default)]
pub(super) struct Backlog {
    segments: VecDeque<Segment>,
    /// The bytes of the first segment that the kernel has taken.
    sent: usize,
    /// Unsent bytes of all segments.
    unsent: usize,
    /// Unsent bytes that came from the program, see [`BacklogBytes`]. Only their number is stored,
    /// not their place in the queue. If the kernel takes echoes before them, the number is too low,
    /// but the queue stays bounded: reading pauses when too many echoes are queued.
    program_bytes: usize,
}

#[derive(Debug)]
enum Segment {
    /// Bytes for this connection alone.
    Owned(Vec<u8>),
    /// Frames whose memory other connections share.
    Shared {
        frames: SharedFrames,
        /// The topic of a message that a newer one may replace.
        topic: Option<u32>,
    },
}

/// Up to this size, unsent bytes are copied to memory of their own size; above it they keep their
/// memory. The limits count unsent bytes and not memory, so that without this a few unsent bytes
/// could hold the memory of a large message while the peer (which `backlog_bytes_high` does not
/// pause yet) sends the next.
const MOVED_BYTES_MAX: usize = 64 * 1024;

/// A shorter frame is copied, because a segment of its own would take about as much memory as the
/// frame and count for less.
const SHARED_BYTES_MIN: usize = 1024;

/// Segments that one call writes. The kernel takes up to 1024 (IOV_MAX).
const WRITTEN_SEGMENTS_MAX: usize = 16;

impl Segment {
    fn bytes(&self) -> SharedBytes<'_> {
        match self {
            Self::Owned(bytes) => SharedBytes::Plain(bytes),
            Self::Shared { frames, .. } => frames.bytes(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Owned(bytes) => bytes.len(),
            Self::Shared { frames, .. } => frames.len(),
        }
    }

    /// Frees the first `*sent` bytes, and sets it to 0. The rest of a single shared frame is copied,
    /// since this connection may be the last that holds the frame.
    fn drop_sent(&mut self, sent: &mut usize) {
        match self {
            _ if *sent == 0 => {}
            Self::Owned(bytes) => {
                bytes.drain(..std::mem::take(sent));
                bytes.shrink_to_fit();
            }
            Self::Shared { frames, .. } if frames.is_logged() => {}
            Self::Shared { frames, .. } => {
                let rest = frames.bytes()[std::mem::take(sent)..].to_vec();
                *self = Self::Owned(rest);
            }
        }
    }
}

impl Backlog {
    /// The number of unsent bytes, and the part of them that came from the program.
    pub(super) const fn bytes(&self) -> BacklogBytes {
        BacklogBytes { total: self.unsent, program: self.program_bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.unsent == 0
    }

    /// Records that `len` of the bytes queued last came from the program.
    pub(super) const fn count_for_program(&mut self, len: usize) {
        self.program_bytes += len;
        debug_assert!(self.program_bytes <= self.unsent, "the program's bytes are queued");
    }

    /// Queues a copy of `bytes`, in memory for no more than that.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.unsent += bytes.len();
        let is_first = self.segments.len() == 1;
        match self.segments.back_mut() {
            Some(Segment::Owned(tail)) => {
                if tail.len() + bytes.len() > tail.capacity() {
                    if is_first {
                        tail.drain(..std::mem::take(&mut self.sent));
                    }
                    tail.reserve_exact(bytes.len());
                }
                tail.extend_from_slice(bytes);
            }
            _ => self.segments.push_back(Segment::Owned(bytes.to_vec())),
        }
    }

    /// Queues `workspace.out` without its first `sent` bytes. The backlog must be empty.
    pub(super) fn push_rest(&mut self, workspace: &mut Workspace, sent: usize) {
        debug_assert!(self.is_empty() && sent < workspace.out.len());
        if workspace.out.len() - sent <= MOVED_BYTES_MAX {
            return self.push(&workspace.out[sent..]);
        }
        let mut bytes = std::mem::take(&mut workspace.out);
        // Memory that grew by doubling may be several times larger than its contents.
        bytes.shrink_to_fit();
        self.unsent = bytes.len() - sent;
        self.sent = sent;
        self.segments.push_back(Segment::Owned(bytes));
    }

    /// Queues shared frames without their first `sent` bytes, which only an empty backlog has.
    /// `topic` is that of a message that a newer one may replace.
    pub(super) fn push_shared(&mut self, frames: SharedFrames, sent: usize, topic: Option<u32>) {
        debug_assert!(sent == 0 || self.is_empty());
        let len = frames.len() - sent;
        let is_copied = match frames.is_logged() {
            true => false,
            false => len < SHARED_BYTES_MIN || (sent > 0 && len <= MOVED_BYTES_MAX),
        };
        if is_copied && (topic.is_none() || sent > 0) {
            return self.push(&frames.bytes()[sent..]);
        }
        self.unsent += len;
        if let Some(Segment::Shared { frames: last, topic: None }) = self.segments.back_mut()
            && topic.is_none()
            && last.extend(&frames)
        {
            return;
        }
        if self.segments.is_empty() {
            self.sent = sent;
        }
        self.segments.push_back(Segment::Shared { frames, topic });
    }

    /// Removes the unsent messages of a topic, except one that has been sent in part. Returns their
    /// number.
    pub(super) fn remove_unsent(&mut self, topic: u32) -> u32 {
        let (mut messages, mut bytes) = (0, 0);
        let mut sent = self.sent;
        self.segments.retain(|segment| {
            let has_begun = std::mem::take(&mut sent) > 0;
            match segment {
                Segment::Shared { frames, topic: Some(of) } if *of == topic && !has_begun => {
                    messages += frames.messages();
                    bytes += frames.len();
                    false
                }
                _ => true,
            }
        });
        self.unsent -= bytes;
        self.program_bytes = self.program_bytes.saturating_sub(bytes);
        messages
    }

    /// Writes with `write` until it takes less than all of its slices. Memory goes back to `workspace`.
    pub(super) fn write_to(
        &mut self,
        workspace: &mut Workspace,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let count = self.segments.len().min(WRITTEN_SEGMENTS_MAX);
            let none = || SharedBytes::Plain(&[]);
            let lent: [_; WRITTEN_SEGMENTS_MAX] =
                array::from_fn(|at| self.segments.get(at).map_or_else(none, Segment::bytes));
            let mut skip = self.sent;
            let slices = lent.each_ref().map(|it| IoSlice::new(&it[std::mem::take(&mut skip)..]));
            let asked: usize = slices.iter().map(|slice| slice.len()).sum();
            let written = write(&slices[..count])?;
            drop(lent);
            self.advance(written, workspace);
            if written < asked {
                break;
            }
        }
        Ok(())
    }

    /// Removes `len` bytes that the kernel has taken.
    fn advance(&mut self, len: usize, workspace: &mut Workspace) {
        self.unsent -= len;
        self.program_bytes = self.program_bytes.saturating_sub(len);
        self.sent += len;
        while let Some(first) = self.segments.front()
            && self.sent >= first.len()
        {
            self.sent -= first.len();
            if let Some(Segment::Owned(bytes)) = self.segments.pop_front() {
                workspace.recycle(bytes);
            }
        }
        match self.segments.front_mut() {
            Some(first) if first.len() - self.sent <= MOVED_BYTES_MAX => {
                first.drop_sent(&mut self.sent);
            }
            Some(_) => {}
            None => self.segments = VecDeque::new(),
        }
        debug_assert!(self.segments.is_empty() == self.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::EncodedMessage;

    /// Takes `room` bytes, then refuses.
    fn kernel(
        mut room: usize,
        taken: &mut Vec<u8>,
    ) -> impl FnMut(&[IoSlice<'_>]) -> io::Result<usize> {
        move |slices| {
            let mut sum = 0;
            for slice in slices {
                let len = room.min(slice.len());
                room -= len;
                taken.extend_from_slice(&slice[..len]);
                sum += len;
            }
            Ok(sum)
        }
    }

    #[test]
    fn bytes_taken_are_deducted_from_those_of_the_program_first() {
        let mut workspace = Workspace::default();
        let mut backlog = Backlog::default();
        backlog.push(&[1; 1000]);
        backlog.push(&[2; 500]);
        backlog.count_for_program(500);
        for (taken, total, program) in [(300, 1200, 200), (300, 900, 0), (899, 1, 0), (1, 0, 0)] {
            backlog.write_to(&mut workspace, kernel(taken, &mut Vec::new())).unwrap();
            assert_eq!(backlog.bytes(), BacklogBytes { total, program });
        }
        assert!(backlog.is_empty());
    }

    #[test]
    fn queued_bytes_take_no_more_memory_than_their_number() {
        for (sent, len) in [
            (10, 1),
            (10, MOVED_BYTES_MAX),
            (10, MOVED_BYTES_MAX + 1),
            (10, 4 * MOVED_BYTES_MAX),
            (4 * MOVED_BYTES_MAX, 1),
            (4 * MOVED_BYTES_MAX, MOVED_BYTES_MAX),
        ] {
            let mut workspace = Workspace::default();
            workspace.out.reserve_exact(16 * MOVED_BYTES_MAX);
            workspace.out.extend(std::iter::repeat_n(7, sent + len));
            let mut backlog = Backlog::default();
            backlog.push_rest(&mut workspace, sent);
            backlog.push(&[8; 100]);
            assert_eq!(backlog.bytes().total, len + 100);
            let capacity: usize = backlog.segments.iter().map(capacity).sum();
            // The slack is for a long rest, which is not moved over the bytes before it.
            assert!(capacity <= len + 10 + 100, "{capacity} for {len} behind {sent}");
        }
    }

    fn capacity(segment: &Segment) -> usize {
        match segment {
            Segment::Owned(bytes) => bytes.capacity(),
            Segment::Shared { frames, .. } => frames.len(),
        }
    }

    #[test]
    fn segments_go_out_in_order_however_much_the_kernel_takes() {
        let large = EncodedMessage::new(&[3; 3000][..]);
        let small = EncodedMessage::new("small");
        let mut expected = vec![1; 500];
        expected.extend_from_slice(large.as_frame());
        expected.extend_from_slice(small.as_frame());
        expected.extend_from_slice(&[2; 100]);
        expected.extend_from_slice(&large.as_frame().repeat(40));
        for room in [1, 499, 501, 1024, 3000, 50_000, usize::MAX] {
            let (mut workspace, mut backlog) = (Workspace::default(), Backlog::default());
            backlog.push(&[1; 500]);
            backlog.push_shared(large.clone().into(), 0, None);
            backlog.push_shared(small.clone().into(), 0, None);
            backlog.push(&[2; 100]);
            (0..40).for_each(|_| backlog.push_shared(large.clone().into(), 0, None));
            let mut taken = Vec::new();
            while !backlog.is_empty() {
                backlog.write_to(&mut workspace, kernel(room, &mut taken)).unwrap();
            }
            assert_eq!(taken, expected, "{room} bytes at a time");
        }
    }

    #[test]
    fn a_few_unsent_bytes_do_not_hold_a_shared_frame() {
        let message = EncodedMessage::new(&[3; 4 * MOVED_BYTES_MAX][..]);
        let len = message.as_frame().len();
        let (mut workspace, mut backlog) = (Workspace::default(), Backlog::default());
        backlog.push_shared(message.clone().into(), 1, None);
        let room = len - 1 - MOVED_BYTES_MAX;
        backlog.write_to(&mut workspace, kernel(room, &mut Vec::new())).unwrap();
        assert_eq!(backlog.bytes().total, MOVED_BYTES_MAX);
        assert!(backlog.segments.iter().map(capacity).sum::<usize>() <= MOVED_BYTES_MAX);
        let mut backlog = Backlog::default();
        backlog.push_shared(message.clone().into(), len - MOVED_BYTES_MAX, None);
        assert!(backlog.segments.iter().map(capacity).sum::<usize>() <= MOVED_BYTES_MAX);
        assert_eq!(&*backlog.segments[0].bytes(), &message.as_frame()[len - MOVED_BYTES_MAX..]);
    }

    #[test]
    fn a_large_encoded_message_is_queued_without_a_copy() {
        let message = EncodedMessage::new(&[3; 2 * MOVED_BYTES_MAX][..]);
        let mut backlog = Backlog::default();
        backlog.push_shared(message.clone().into(), 10, None);
        backlog.push_shared(message.clone().into(), 0, None);
        let total = 2 * message.as_frame().len() - 10;
        assert_eq!(backlog.bytes(), BacklogBytes { total, program: 0 });
        for segment in &backlog.segments {
            assert!(std::ptr::eq(&*segment.bytes(), message.as_frame()));
        }
    }
}

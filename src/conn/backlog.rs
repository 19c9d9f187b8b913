//! Bytes that a peer is owed and the kernel has refused so far.

use std::io;

use super::transport::{self, Transport};
use crate::peer::BacklogBytes;
use crate::protocol::Workspace;

/// A queue of bytes; empty, it holds no memory.
///
/// ```text
/// | sent | owed … |
///        ^ sent   ^ bytes.len()
/// ```
#[derive(Debug, Default)]
pub(super) struct Backlog(Option<Box<Queue>>);

/// A rest of up to this is moved to memory of its own size, and a larger one keeps the memory that
/// it has. What a peer is held to counts what is owed: a rest that does not pause the peer (the
/// default of `backlog_bytes_high`) must not hold a large message's memory while it sends the next.
const MOVED_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
struct Queue {
    bytes: Vec<u8>,
    sent: usize,
    /// Unsent bytes that came from the program, see [`BacklogBytes`]. Only their number is stored,
    /// not their place in the queue. If the kernel takes echoes before them, the number is too low,
    /// but the queue stays bounded: reading pauses when too many echoes are queued.
    program_bytes: usize,
}

impl Backlog {
    /// Bytes owed.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes.len() - queue.sent)
    }

    /// The number of unsent bytes, and the part of them that came from the program.
    #[inline]
    pub(super) fn bytes(&self) -> BacklogBytes {
        self.0.as_ref().map_or_else(BacklogBytes::default, |queue| BacklogBytes {
            total: queue.bytes.len() - queue.sent,
            program: queue.program_bytes,
        })
    }

    /// Records that `len` of the bytes queued last came from the program.
    pub(super) fn count_for_program(&mut self, len: usize) {
        if let Some(queue) = &mut self.0 {
            queue.program_bytes += len;
        }
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Queues `bytes` behind what is owed, in memory for no more than that.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let queue = self.0.get_or_insert_with(|| Box::new(Queue::new(Vec::new(), 0)));
        if queue.bytes.len() + bytes.len() > queue.bytes.capacity() {
            queue.forget_sent();
            queue.bytes.reserve_exact(bytes.len());
        }
        queue.bytes.extend_from_slice(bytes);
    }

    /// Queues `workspace.out` without its first `sent` bytes. The backlog must be empty.
    pub(super) fn push_rest(&mut self, workspace: &mut Workspace, sent: usize) {
        debug_assert!(self.is_empty() && sent < workspace.out.len());
        if workspace.out.len() - sent <= MOVED_BYTES_MAX {
            self.push(&workspace.out[sent..]);
        } else {
            let mut bytes = std::mem::take(&mut workspace.out);
            // Memory that was grown may be several times what it holds.
            bytes.shrink_to_fit();
            self.0 = Some(Box::new(Queue::new(bytes, sent)));
        }
    }

    /// Writes as much as the kernel takes. Memory goes back to `workspace`.
    pub(super) fn write_to(
        &mut self,
        transport: &mut impl Transport,
        workspace: &mut Workspace,
    ) -> io::Result<()> {
        let Some(queue) = &mut self.0 else { return Ok(()) };
        let len = transport::write(transport, &queue.bytes[queue.sent..], &[])?;
        queue.sent += len;
        queue.program_bytes = queue.program_bytes.saturating_sub(len);
        let left = queue.bytes.len() - queue.sent;
        if left == 0 {
            workspace.recycle(std::mem::take(&mut queue.bytes));
            self.0 = None;
        } else if left <= MOVED_BYTES_MAX && queue.sent > 0 {
            queue.forget_sent();
            queue.bytes.shrink_to_fit();
        }
        Ok(())
    }
}

impl Queue {
    const fn new(bytes: Vec<u8>, sent: usize) -> Self {
        Self { bytes, sent, program_bytes: 0 }
    }

    fn forget_sent(&mut self) {
        self.bytes.drain(..self.sent);
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::conn::transport::SendProgress;

    /// Takes `room` bytes, then nothing.
    struct Wire {
        room: usize,
    }

    impl Read for Wire {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = self.room.min(bytes.len());
            self.room -= len;
            Ok(len)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Transport for Wire {
        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn send_progress(&self) -> io::Result<SendProgress> {
            Ok(SendProgress::default())
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
            backlog.write_to(&mut Wire { room: taken }, &mut workspace).unwrap();
            assert_eq!(backlog.bytes(), BacklogBytes { total, program });
        }
        assert!(backlog.is_empty());
    }

    #[test]
    fn what_is_queued_takes_no_more_memory_than_it_has_bytes() {
        for len in [1, MOVED_BYTES_MAX, MOVED_BYTES_MAX + 1, 4 * MOVED_BYTES_MAX] {
            let mut workspace = Workspace::default();
            workspace.out.reserve_exact(16 * MOVED_BYTES_MAX);
            workspace.out.extend(std::iter::repeat_n(7, len + 10));
            let mut backlog = Backlog::default();
            backlog.push_rest(&mut workspace, 10);
            backlog.push(&[8; 100]);
            assert_eq!(backlog.len(), len + 100);
            let capacity = backlog.0.as_ref().map_or(0, |queue| queue.bytes.capacity());
            assert!(capacity <= len + 10 + 100, "{capacity} for {len}");
        }
    }
}

//! Bytes that a peer is owed and the kernel has refused so far.

use std::io;

use super::transport::{self, Transport};

/// A queue of bytes; empty, it holds no memory.
///
/// ```text
/// | sent | owed … |
///        ^ sent   ^ bytes.len()
/// ```
#[derive(Debug, Default)]
pub(super) struct Backlog(Option<Box<Queue>>);

/// The memory of a queue is at most this many times what is owed: the marks that a peer is held to
/// count what is owed.
const WASTE_MAX: usize = 2;

#[derive(Debug)]
struct Queue {
    bytes: Vec<u8>,
    sent: usize,
}

impl Backlog {
    /// Bytes owed.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes.len() - queue.sent)
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
        let queue = self.0.get_or_insert_with(|| Box::new(Queue { bytes: Vec::new(), sent: 0 }));
        if queue.bytes.len() + bytes.len() > queue.bytes.capacity() {
            queue.forget_sent();
            queue.bytes.reserve_exact(bytes.len());
        }
        queue.bytes.extend_from_slice(bytes);
    }

    /// Queues what is left of `out` after the first `sent` bytes: with its memory, if that is not
    /// much more than what is owed, and else a copy. The backlog must be empty.
    pub(super) fn take(&mut self, out: &mut Vec<u8>, sent: usize) {
        debug_assert!(self.is_empty() && sent < out.len());
        if (out.len() - sent) * WASTE_MAX >= out.capacity() {
            self.0 = Some(Box::new(Queue { bytes: std::mem::take(out), sent }));
        } else {
            self.push(&out[sent..]);
        }
    }

    /// Writes until the kernel refuses; says whether it took anything.
    pub(super) fn write_to(&mut self, transport: &mut impl Transport) -> io::Result<bool> {
        let mut progress = false;
        while let Some(queue) = &mut self.0 {
            let owed = &queue.bytes[queue.sent..];
            let owed_len = owed.len();
            let len = transport::write(transport, owed, &[])?;
            queue.sent += len;
            progress |= len > 0;
            if len == owed_len {
                self.0 = None;
            } else if len == 0 {
                break;
            }
        }
        if let Some(queue) = &mut self.0
            && (queue.bytes.len() - queue.sent) * WASTE_MAX < queue.bytes.capacity()
        {
            queue.forget_sent();
            queue.bytes.shrink_to_fit();
        }
        Ok(progress)
    }
}

impl Queue {
    fn forget_sent(&mut self) {
        self.bytes.drain(..self.sent);
        self.sent = 0;
    }
}

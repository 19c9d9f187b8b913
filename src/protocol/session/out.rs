//! Replies that are not laid out in a window, and memory for large messages.

use std::ops::{Deref, DerefMut};

use crate::protocol::frame::header::SERVER_HEADER_BYTES_MAX;

/// Memory from this size on is worth keeping: new memory of that size comes from the kernel page by
/// page, which takes longer than to copy the message. It is more than what one peer's replies to
/// small messages take.
const SPARE_BYTES_MIN: usize = 384 * 1024;

/// What all spares may come to: four messages of the default limit.
const SPARES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What goes on the wire before a window's run. A `Vec<u8>` by dereference.
///
/// One serves many sessions in turn: what one has sent is [cleared](Self::clear) before the next.
/// It keeps some of the memory of large messages for the messages after them, at most 4 MiB.
#[derive(Debug, Default)]
pub struct OutBuffer {
    bytes: Vec<u8>,
    spares: Vec<Vec<u8>>,
}

impl OutBuffer {
    /// Forgets what has been sent.
    #[inline]
    pub fn clear(&mut self) {
        if self.bytes.capacity() < SPARE_BYTES_MIN {
            self.bytes.clear();
        } else {
            let bytes = std::mem::take(&mut self.bytes);
            self.keep(bytes);
        }
    }

    /// Keeps memory that has served its purpose, if it is worth it. What it holds stays as it is:
    /// to make it writable again would cost a pass over it.
    pub(crate) fn keep(&mut self, memory: Vec<u8>) {
        let bytes: usize = self.spares.iter().map(Vec::capacity).sum();
        let is_large = memory.capacity() >= SPARE_BYTES_MIN;
        if is_large && bytes + memory.capacity() <= SPARES_BYTES_MAX {
            self.spares.push(memory);
        }
    }

    /// Memory for `len` bytes, at most a quarter more and at most `most`, with whatever was there;
    /// empty if there is none.
    pub(super) fn spare(&mut self, len: usize, most: usize) -> Vec<u8> {
        let most = most.min(len.saturating_add(len / 4));
        let fits = |memory: &Vec<u8>| (len..=most).contains(&memory.capacity());
        match self.spares.iter().position(fits) {
            Some(index) => self.spares.swap_remove(index),
            None => Vec::new(),
        }
    }

    /// Has memory for a message of `len` bytes, if it is large and some was kept.
    pub(crate) fn make_room(&mut self, len: usize) {
        if self.bytes.is_empty() && len >= SPARE_BYTES_MIN {
            self.bytes = self.spare(len.saturating_add(SERVER_HEADER_BYTES_MAX), usize::MAX);
            self.bytes.clear();
        }
    }

    /// Sets all that goes out.
    pub(super) fn set(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    /// Takes all that goes out.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Deref for OutBuffer {
    type Target = Vec<u8>;

    #[inline]
    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for OutBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_memory_is_kept_and_found_by_its_size() {
        let mut out = OutBuffer::default();
        out.extend_from_slice(&[7; SPARE_BYTES_MIN]);
        out.clear();
        assert!(out.is_empty());
        assert!(out.spare(SPARE_BYTES_MIN / 4, usize::MAX).is_empty(), "far too large");
        assert!(out.spare(SPARE_BYTES_MIN * 4, usize::MAX).is_empty(), "too small");
        assert!(out.spare(SPARE_BYTES_MIN, SPARE_BYTES_MIN - 1).is_empty(), "more than wanted");
        assert_eq!(out.spare(SPARE_BYTES_MIN, usize::MAX), [7; SPARE_BYTES_MIN]);
        assert!(out.spare(SPARE_BYTES_MIN, usize::MAX).is_empty(), "it was taken");
    }

    #[test]
    fn a_large_message_is_sent_from_memory_that_was_kept() {
        let mut out = OutBuffer::default();
        let kept = SPARE_BYTES_MIN * 5 / 4;
        out.keep(Vec::with_capacity(kept));
        out.make_room(SPARE_BYTES_MIN - 1);
        assert_eq!(out.capacity(), 0, "not worth it");
        out.make_room(SPARE_BYTES_MIN);
        assert_eq!((out.len(), out.capacity()), (0, kept));
        out.push(1);
        out.make_room(SPARE_BYTES_MIN);
        assert_eq!(out.len(), 1, "what is there stays");
    }

    #[test]
    fn small_memory_stays_and_large_memory_is_for_all() {
        let mut out = OutBuffer::default();
        for (bytes, stays) in [(100, true), (2 * SPARE_BYTES_MIN, false)] {
            out.reserve_exact(bytes);
            out.clear();
            assert_eq!(out.capacity() >= bytes, stays, "{bytes}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut out = OutBuffer::default();
        for _ in 0..10 {
            out.keep(Vec::with_capacity(SPARES_BYTES_MAX / 4));
            out.keep(Vec::with_capacity(SPARE_BYTES_MIN - 1));
        }
        assert_eq!(out.spares.iter().map(Vec::capacity).sum::<usize>(), SPARES_BYTES_MAX);
    }
}

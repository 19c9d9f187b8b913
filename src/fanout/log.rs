//! Encoded frames that many connections send, in memory that they share.

use std::cell::{Ref, RefCell};
use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;

use crate::protocol::EncodedMessage;

/// Frames of a topic: each is appended once, and every subscriber sends a range of it.
///
/// ```text
///            | frame | frame | frame | frame |
///   peer A           |------ unsent -------->|
///   peer B                           |------>|
/// ```
///
/// The next frame extends the ranges that end before it, so a peer that does not read holds one
/// range per chunk, however many messages it misses. A chunk is freed when its last range has been
/// sent.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The chunk that takes the next frame.
    chunk: Rc<Chunk>,
}

/// A piece of memory that only grows while ranges of it exist.
#[derive(Default)]
struct Chunk {
    bytes: RefCell<Vec<u8>>,
}

/// A range that holds one unsent byte keeps a whole chunk, so chunks are as small as the number of
/// ranges of a slow peer allows: 16 in a mebibyte.
const CHUNK_BYTES: usize = 64 * 1024;

/// A longer frame is not copied to a chunk.
const LOGGED_BYTES_MAX: usize = 16 * 1024;

impl Log {
    /// Appends a message. Returns the frame in shared memory.
    pub(super) fn append(&mut self, message: &EncodedMessage) -> SharedFrames {
        let frame = message.as_frame();
        if frame.len() > LOGGED_BYTES_MAX {
            return SharedFrames::from(message.clone());
        }
        if let Some(chunk) = Rc::get_mut(&mut self.chunk) {
            // No range is left: all peers have sent these frames.
            chunk.bytes.get_mut().clear();
        } else if self.chunk.bytes.borrow().len() + frame.len() > CHUNK_BYTES {
            self.chunk = Rc::default();
        }
        let mut bytes = self.chunk.bytes.borrow_mut();
        let start = bytes.len();
        bytes.extend_from_slice(frame);
        SharedFrames {
            memory: Memory::Chunk { chunk: Rc::clone(&self.chunk), range: start..bytes.len() },
            messages: 1,
            payload_bytes: message.payload_len(),
        }
    }
}

/// One or more encoded frames, in memory that other connections share.
#[derive(Clone)]
pub(crate) struct SharedFrames {
    memory: Memory,
    messages: u32,
    payload_bytes: usize,
}

#[derive(Clone)]
enum Memory {
    Chunk { chunk: Rc<Chunk>, range: Range<usize> },
    Message(EncodedMessage),
}

impl SharedFrames {
    pub(crate) fn len(&self) -> usize {
        match &self.memory {
            Memory::Chunk { range, .. } => range.len(),
            Memory::Message(message) => message.as_frame().len(),
        }
    }

    /// The number of messages.
    pub(crate) const fn messages(&self) -> u32 {
        self.messages
    }

    /// The payload bytes of all messages.
    pub(crate) const fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// The frames, as they go on the wire.
    pub(crate) fn bytes(&self) -> SharedBytes<'_> {
        match &self.memory {
            Memory::Chunk { chunk, range } => {
                SharedBytes::Chunk(Ref::map(chunk.bytes.borrow(), |bytes| &bytes[range.clone()]))
            }
            Memory::Message(message) => SharedBytes::Plain(message.as_frame()),
        }
    }

    /// Adds `next`, if it lies directly behind in the same memory.
    pub(crate) fn extend(&mut self, next: &Self) -> bool {
        let (Memory::Chunk { chunk, range }, Memory::Chunk { chunk: next_chunk, range: added }) =
            (&mut self.memory, &next.memory)
        else {
            return false;
        };
        if range.end != added.start || !Rc::ptr_eq(chunk, next_chunk) {
            return false;
        }
        range.end = added.end;
        self.messages += next.messages;
        self.payload_bytes += next.payload_bytes;
        true
    }

    /// Whether the memory belongs to a topic, so that keeping a part of it holds the memory only as
    /// long as the topic's other subscribers do.
    pub(crate) const fn is_logged(&self) -> bool {
        matches!(self.memory, Memory::Chunk { .. })
    }
}

impl From<EncodedMessage> for SharedFrames {
    fn from(message: EncodedMessage) -> Self {
        let payload_bytes = message.payload_len();
        Self { memory: Memory::Message(message), messages: 1, payload_bytes }
    }
}

impl fmt::Debug for SharedFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedFrames({} messages, {} bytes)", self.messages, self.len())
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.bytes.borrow().len())
    }
}

/// Borrowed bytes, of [`SharedFrames`] or others.
#[derive(Debug)]
pub(crate) enum SharedBytes<'b> {
    Chunk(Ref<'b, [u8]>),
    Plain(&'b [u8]),
}

impl Deref for SharedBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Chunk(bytes) => bytes,
            Self::Plain(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> EncodedMessage {
        EncodedMessage::new(&vec![7; len][..])
    }

    #[test]
    fn a_range_grows_with_the_next_frame_of_its_log() {
        let mut log = Log::default();
        let mut first = log.append(&message(10));
        let second = log.append(&message(200));
        assert!(first.extend(&second));
        assert_eq!((first.messages(), first.payload_bytes()), (2, 210));
        let expected = [message(10).as_frame(), message(200).as_frame()].concat();
        assert_eq!(&*first.bytes(), expected);
        let mut other = log.append(&message(1));
        assert!(!other.extend(&second), "the frame lies before, not behind");
        assert!(!first.extend(&Log::default().append(&message(1))), "another log");
    }

    #[test]
    fn the_memory_of_sent_frames_is_used_again() {
        let mut log = Log::default();
        for _ in 0..1000 {
            drop(log.append(&message(1000)));
        }
        assert!(log.chunk.bytes.borrow().capacity() < 4096);
    }

    #[test]
    fn a_chunk_is_freed_with_its_last_range() {
        let mut log = Log::default();
        let unsent = log.append(&message(10));
        let chunk = Rc::downgrade(&log.chunk);
        let mut frames = Vec::new();
        while Rc::downgrade(&log.chunk).ptr_eq(&chunk) {
            frames.push(log.append(&message(10_000)));
        }
        assert!(chunk.upgrade().is_some());
        drop(frames);
        assert_eq!(&*unsent.bytes(), message(10).as_frame());
        drop(unsent);
        assert!(chunk.upgrade().is_none());
    }

    #[test]
    fn a_large_message_is_not_copied() {
        let message = message(LOGGED_BYTES_MAX);
        let frames = Log::default().append(&message);
        assert!(std::ptr::eq(&*frames.bytes(), message.as_frame()));
    }
}

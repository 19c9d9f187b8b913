//! Messages: what the embedding program sees, and how one that came in parts is put together.

use std::fmt;
use std::ops::Deref;

use simdutf8::compat::from_utf8;

use super::frame::{FrameHeader, ServerHeader};
use super::utf8::Utf8Tail;
use super::{OpCode, ProtocolError};

/// A whole message, borrowed from wherever its bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'m> {
    /// Text: UTF-8, checked.
    Text(Text<'m>),
    /// Binary: any bytes.
    Binary(&'m [u8]),
}

impl<'m> Message<'m> {
    /// The payload.
    #[inline]
    #[must_use]
    pub const fn as_bytes(&self) -> &'m [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    pub(super) const fn opcode(&self) -> OpCode {
        match self {
            Self::Text(_) => OpCode::Text,
            Self::Binary(_) => OpCode::Binary,
        }
    }
}

impl<'m> From<&'m str> for Message<'m> {
    fn from(text: &'m str) -> Self {
        Self::Text(text.into())
    }
}

impl<'m> From<&'m [u8]> for Message<'m> {
    fn from(bytes: &'m [u8]) -> Self {
        Self::Binary(bytes)
    }
}

/// The text of a message. It has been checked; it is a `str` by dereference.
///
/// A short text that is all ASCII is found to be so while it is unmasked, which is all that an
/// echo needs. The language wants it checked once more to make it a `str`, and that is done when
/// somebody asks for one.
#[derive(Clone, Copy)]
pub struct Text<'m>(Source<'m>);

#[derive(Clone, Copy)]
enum Source<'m> {
    Ascii(&'m [u8]),
    Utf8(&'m str),
}

impl<'m> Text<'m> {
    /// Text that is known to be ASCII.
    pub(super) const fn ascii(bytes: &'m [u8]) -> Self {
        Self(Source::Ascii(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &'m str {
        match self.0 {
            Source::Ascii(bytes) => from_utf8(bytes).expect("ASCII is UTF-8"),
            Source::Utf8(text) => text,
        }
    }

    /// The text's UTF-8.
    #[inline]
    #[must_use]
    pub const fn as_bytes(&self) -> &'m [u8] {
        match self.0 {
            Source::Ascii(bytes) => bytes,
            Source::Utf8(text) => text.as_bytes(),
        }
    }
}

impl<'m> From<&'m str> for Text<'m> {
    fn from(text: &'m str) -> Self {
        Self(Source::Utf8(text))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl Eq for Text<'_> {}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// A message under way: `header_len` free bytes, then its payload so far, unmasked.
///
/// A message of one frame leaves room for the header of its echo, so that the echo need not be
/// copied; of fragments the final length is not known until the end.
#[derive(Debug)]
pub(super) struct Assembly {
    header_len: usize,
    payload: Payload,
}

#[derive(Debug)]
enum Payload {
    /// `tail` holds a character of which some bytes are still to come.
    Text {
        text: String,
        tail: Utf8Tail,
    },
    Binary(Vec<u8>),
}

impl Assembly {
    /// An empty message, of the frame with `header` or beginning with it.
    pub(super) fn new(header: &FrameHeader) -> Self {
        let header_len = if header.fin { header.reply_header_len() } else { 0 };
        let payload = if header.opcode == OpCode::Text {
            Payload::Text { text: "\0".repeat(header_len), tail: Utf8Tail::default() }
        } else {
            Payload::Binary(vec![0; header_len])
        };
        Self { header_len, payload }
    }

    /// Appends a piece of the payload; fails on the first byte that no valid text has there.
    ///
    /// The caller has checked that the payload stays within `bytes_max`, and so does the memory.
    pub(super) fn append(&mut self, piece: &[u8], bytes_max: usize) -> Result<(), ProtocolError> {
        let bytes_max = self.header_len + bytes_max;
        match &mut self.payload {
            Payload::Text { text, tail } => {
                text.reserve_exact(growth(text.len(), text.capacity(), piece.len(), bytes_max));
                tail.append(text, piece).map_err(|_| ProtocolError::TextUtf8)
            }
            Payload::Binary(bytes) => {
                bytes.reserve_exact(growth(bytes.len(), bytes.capacity(), piece.len(), bytes_max));
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    /// The payload is complete.
    pub(super) fn finish(self) -> Result<Assembled, ProtocolError> {
        if let Payload::Text { tail, .. } = &self.payload {
            tail.finish().map_err(|_| ProtocolError::TextUtf8)?;
        }
        Ok(Assembled(self))
    }
}

/// A message that did not arrive as one frame in one read: complete, and checked.
#[derive(Debug)]
pub(super) struct Assembled(Assembly);

impl Assembled {
    pub(super) fn message(&self) -> Message<'_> {
        let start = self.0.header_len;
        match &self.0.payload {
            Payload::Text { text, .. } => Message::from(&text[start..]),
            Payload::Binary(bytes) => Message::Binary(&bytes[start..]),
        }
    }

    /// Puts the frame that echoes the message at the end of `out`.
    pub(super) fn echo(self, out: &mut Vec<u8>) {
        let message = self.message();
        let (opcode, len) = (message.opcode(), message.as_bytes().len());
        let header = ServerHeader::new(true, opcode, len as u64);
        let header_len = self.0.header_len;
        let mut bytes = match self.0.payload {
            Payload::Text { text, .. } => text.into_bytes(),
            Payload::Binary(bytes) => bytes,
        };
        if header_len > 0 && out.is_empty() {
            bytes[..header_len].copy_from_slice(header.as_bytes());
            *out = bytes;
        } else {
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(&bytes[header_len..]);
        }
    }
}

/// What to reserve for `more` bytes: several times the capacity, so that pieces are not copied over
/// and over, but no more than a whole message takes. Memory that is never written is never had.
/// By what the memory of a message under way grows.
const GROWTH: usize = 4;

fn growth(len: usize, capacity: usize, more: usize, bytes_max: usize) -> usize {
    let needed = len + more;
    if needed <= capacity {
        return 0;
    }
    (GROWTH * capacity).min(bytes_max).max(needed) - len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::MaskKey;

    const fn header(fin: bool, opcode: OpCode) -> FrameHeader {
        FrameHeader { fin, opcode, header_len: 8, payload_len: 1000, key: MaskKey([0; 4]) }
    }

    #[test]
    fn memory_grows_geometrically_up_to_one_message() {
        let bytes_max = 1000;
        let mut assembly = Assembly::new(&header(true, OpCode::Binary));
        let mut capacities = Vec::new();
        for _ in 0..bytes_max {
            assembly.append(b"x", bytes_max).unwrap();
            let Payload::Binary(bytes) = &assembly.payload else { unreachable!() };
            capacities.push(bytes.capacity());
        }
        capacities.dedup();
        assert_eq!(capacities.last(), Some(&1004));
        assert!(capacities.len() <= 8, "{capacities:?}");
    }

    #[test]
    fn the_echo_follows_what_goes_before_it() {
        for (fin, before) in [(true, ""), (true, "before"), (false, ""), (false, "before")] {
            let mut assembly = Assembly::new(&header(fin, OpCode::Text));
            let payload = "h\u{e9}".repeat(50);
            assembly.append(payload.as_bytes(), 1000).unwrap();
            let mut out = before.as_bytes().to_vec();
            let assembled = assembly.finish().unwrap();
            assert_eq!(assembled.message(), Message::from(payload.as_str()));
            assembled.echo(&mut out);
            assert_eq!(out, [before.as_bytes(), b"\x81\x7e\x00\x96", payload.as_bytes()].concat());
        }
    }
}

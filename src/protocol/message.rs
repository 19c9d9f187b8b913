//! Messages: what the embedding program sees, and how one that came in parts is put together.

use super::utf8::Utf8Tail;
use super::{OpCode, ProtocolError};

/// A whole message, borrowed from wherever its bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'m> {
    /// Text: UTF-8, checked.
    Text(&'m str),
    /// Binary: any bytes.
    Binary(&'m [u8]),
}

impl<'m> Message<'m> {
    /// The payload.
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
        Self::Text(text)
    }
}

impl<'m> From<&'m [u8]> for Message<'m> {
    fn from(bytes: &'m [u8]) -> Self {
        Self::Binary(bytes)
    }
}

/// A message that did not arrive as one frame in one read: complete, and checked.
#[derive(Debug)]
pub(super) struct Assembled(Assembly);

impl Assembled {
    pub(super) fn message(&self) -> Message<'_> {
        match &self.0 {
            Assembly::Text { text, .. } => Message::Text(text),
            Assembly::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

/// A message under way: its payload so far, unmasked.
#[derive(Debug)]
pub(super) enum Assembly {
    /// Text so far; `tail` holds a character of which some bytes are still to come.
    Text { text: String, tail: Utf8Tail },
    /// Bytes so far.
    Binary(Vec<u8>),
}

impl Assembly {
    pub(super) fn new(opcode: OpCode) -> Self {
        if opcode == OpCode::Text {
            Self::Text { text: String::new(), tail: Utf8Tail::default() }
        } else {
            Self::Binary(Vec::new())
        }
    }

    /// Appends a piece of the payload; fails on the first byte that no valid text has there.
    ///
    /// The caller has checked that the payload stays within `bytes_max`, and so does the memory.
    pub(super) fn append(&mut self, piece: &[u8], bytes_max: usize) -> Result<(), ProtocolError> {
        match self {
            Self::Text { text, tail } => {
                text.reserve_exact(growth(text.len(), text.capacity(), piece.len(), bytes_max));
                tail.append(text, piece).map_err(|_| ProtocolError::TextUtf8)
            }
            Self::Binary(bytes) => {
                bytes.reserve_exact(growth(bytes.len(), bytes.capacity(), piece.len(), bytes_max));
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    /// The payload is complete.
    pub(super) fn finish(self) -> Result<Assembled, ProtocolError> {
        if let Self::Text { tail, .. } = &self {
            tail.finish().map_err(|_| ProtocolError::TextUtf8)?;
        }
        Ok(Assembled(self))
    }
}

/// What to reserve for `more` bytes: twice the capacity, so that many small pieces are not copied
/// over and over, but no more than a whole message takes.
fn growth(len: usize, capacity: usize, more: usize, bytes_max: usize) -> usize {
    let needed = len + more;
    if needed <= capacity {
        return 0;
    }
    (2 * capacity).min(bytes_max).max(needed) - len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_geometrically_up_to_one_message() {
        let bytes_max = 1000;
        let mut assembly = Assembly::new(OpCode::Binary);
        let mut growths = 0;
        let mut capacity = 0;
        for _ in 0..bytes_max {
            assembly.append(b"x", bytes_max).unwrap();
            let Assembly::Binary(bytes) = &assembly else { unreachable!() };
            growths += usize::from(bytes.capacity() != capacity);
            capacity = bytes.capacity();
        }
        assert_eq!(capacity, bytes_max);
        assert!(growths < 12, "{growths} growths for 1000 bytes");
    }
}

//! How a message that comes in parts is put together.

use super::message::{Message, Text};
use super::out::OutBuffer;
use super::utf8::Utf8Check;
use crate::protocol::error::ProtocolError;
use crate::protocol::frame::header::{FrameHeader, ServerHeader};
use crate::protocol::frame::mask::{MaskKey, unmask};
use crate::protocol::frame::opcode::OpCode;

/// A message under way.
///
/// A message of one frame leaves room for the header of its echo, so that the echo need not be
/// copied; of fragments the final length is not known until the end.
///
/// ```text
/// | room for a header | payload, unmasked | (what was there before) |
/// ^ 0                 ^ header_len        ^ len                     ^ bytes.len()
/// ```
#[derive(Debug)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    header_len: usize,
    len: usize,
    /// Of a text message.
    check: Option<Utf8Check>,
}

/// A read into the room of a message brings at most this, so that no peer has a turn without end.
const ROOM_BYTES_MAX: usize = 1024 * 1024;

/// With less to come a read into the room is not worth it: the one after it might have brought it.
const ROOM_BYTES_MIN: usize = 16 * 1024;

impl Assembly {
    /// An empty message, of the frame with `header` or beginning with it, of whose payload
    /// `arrived` bytes are there. From `out` it takes no more memory than growing would.
    pub(super) fn new(header: &FrameHeader, arrived: usize, out: &mut OutBuffer) -> Self {
        let header_len = if header.fin { header.reply_header_len() } else { 0 };
        let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let needed = payload_len.saturating_add(header_len);
        let mut bytes = out.spare(needed, GROWTH_FACTOR * (header_len + arrived));
        if bytes.len() < header_len {
            bytes.resize(header_len, 0);
        }
        let check = (header.opcode == OpCode::Text).then(Utf8Check::default);
        Self { bytes, header_len, len: header_len, check }
    }

    /// Appends a piece of the payload; fails on the first byte that no valid text has there.
    ///
    /// The caller has checked that the payload stays within `bytes_max`, and so does the memory.
    pub(super) fn append(
        &mut self,
        piece: &[u8],
        is_ascii: bool,
        bytes_max: usize,
    ) -> Result<(), ProtocolError> {
        if let Some(check) = &mut self.check {
            check.check(piece, is_ascii).map_err(|_| ProtocolError::TextUtf8)?;
        }
        self.reserve(piece.len(), bytes_max);
        let there = &mut self.bytes[self.len..];
        let (over, beyond) = piece.split_at(piece.len().min(there.len()));
        there[..over.len()].copy_from_slice(over);
        self.bytes.extend_from_slice(beyond);
        self.len += piece.len();
        Ok(())
    }

    /// Where the next of the `left` bytes that are to come may be read to; `None` if they are few,
    /// or many for what has arrived.
    pub(super) fn room(&mut self, left: u64, bytes_max: usize) -> Option<&mut [u8]> {
        let free = self.bytes.capacity() - self.len;
        let grown = (GROWTH_FACTOR - 1) * self.len;
        let room = if free < ROOM_BYTES_MIN { grown } else { free };
        let room = left.min(room.min(ROOM_BYTES_MAX) as u64) as usize;
        if room < ROOM_BYTES_MIN {
            return None;
        }
        self.reserve(room, bytes_max);
        let end = self.len + room;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        Some(&mut self.bytes[self.len..end])
    }

    /// Takes `len` bytes that were read to the [`room`](Self::room); fails as
    /// [`append`](Self::append) does.
    pub(super) fn unmask(&mut self, len: usize, key: MaskKey) -> Result<(), ProtocolError> {
        let piece = &mut self.bytes[self.len..self.len + len];
        let is_ascii = unmask(piece, key);
        if let Some(check) = &mut self.check {
            check.check(piece, is_ascii).map_err(|_| ProtocolError::TextUtf8)?;
        }
        self.len += len;
        Ok(())
    }

    /// Bytes so far.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Takes memory for `more` bytes: several times what there is, so that pieces are not copied
    /// over and over, but no more than a whole message takes.
    fn reserve(&mut self, more: usize, bytes_max: usize) {
        let needed = self.len + more;
        if needed <= self.bytes.capacity() {
            return;
        }
        let bytes_max = self.header_len.saturating_add(bytes_max);
        let grown = (GROWTH_FACTOR * self.len).min(bytes_max).max(needed);
        self.bytes.reserve_exact(grown - self.bytes.len());
    }

    /// The payload is complete.
    pub(super) fn finish(mut self) -> Result<Assembled, ProtocolError> {
        if let Some(check) = &self.check {
            check.finish().map_err(|_| ProtocolError::TextUtf8)?;
        }
        self.bytes.truncate(self.len);
        Ok(Assembled(self))
    }
}

/// A message that did not arrive as one frame in one read: complete, and checked.
#[derive(Debug)]
pub(super) struct Assembled(Assembly);

impl Assembled {
    pub(super) fn message(&self) -> Message<'_> {
        let payload = &self.0.bytes[self.0.header_len..];
        match self.0.check {
            Some(_) => Message::Text(Text::checked(payload)),
            None => Message::Binary(payload),
        }
    }

    pub(super) fn into_memory(self) -> Vec<u8> {
        self.0.bytes
    }

    /// Puts the frame that echoes the message at the end of `out`.
    pub(super) fn echo(self, out: &mut OutBuffer) {
        let message = self.message();
        let header = ServerHeader::new(true, message.opcode(), message.as_bytes().len() as u64);
        let Assembly { mut bytes, header_len, .. } = self.0;
        if header_len > 0 && out.is_empty() {
            header.write_before(&mut bytes, header_len);
            out.set(bytes);
        } else {
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(&bytes[header_len..]);
        }
    }
}

/// By what the memory of a message under way grows.
const GROWTH_FACTOR: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const fn header(fin: bool, opcode: OpCode) -> FrameHeader {
        FrameHeader { fin, opcode, header_len: 8, payload_len: 1000, key: MaskKey([0; 4]) }
    }

    #[test]
    fn memory_grows_geometrically_up_to_one_message() {
        let bytes_max = 1000;
        let mut assembly =
            Assembly::new(&header(true, OpCode::Binary), 0, &mut OutBuffer::default());
        let mut capacities = Vec::new();
        for _ in 0..bytes_max {
            assembly.append(b"x", true, bytes_max).unwrap();
            capacities.push(assembly.bytes.capacity());
        }
        capacities.dedup();
        assert_eq!(capacities.last(), Some(&1004));
        assert!(capacities.len() <= 8, "{capacities:?}");
    }

    #[test]
    fn the_echo_follows_what_goes_before_it() {
        for (fin, before) in [(true, ""), (true, "before"), (false, ""), (false, "before")] {
            let mut out = OutBuffer::default();
            let mut assembly = Assembly::new(&header(fin, OpCode::Text), 0, &mut out);
            let payload = "h\u{e9}".repeat(50);
            assembly.append(payload.as_bytes(), false, 1000).unwrap();
            out.extend_from_slice(before.as_bytes());
            let assembled = assembly.finish().unwrap();
            assert_eq!(assembled.message(), Message::from(payload.as_str()));
            assembled.echo(&mut out);
            assert_eq!(*out, [before.as_bytes(), b"\x81\x7e\x00\x96", payload.as_bytes()].concat());
        }
    }
}

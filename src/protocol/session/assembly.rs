//! Assembles a message that arrives in parts, in a buffer of its own.

use super::message::{Message, Text};
use super::utf8::Utf8Check;
use super::workspace::Workspace;
use crate::protocol::error::ProtocolError;
use crate::protocol::frame::header::{FrameHeader, ServerHeader};
use crate::protocol::frame::mask::{MaskKey, unmask};

/// A message whose payload is incomplete.
///
/// The payload of a single frame is preceded by free bytes for the header of its echo, so that the
/// echo is sent from this memory. A fragmented message has no such space: the length of the header
/// is unknown until the last fragment.
///
/// ```text
/// | free for a header | payload, unmasked | stale bytes |
/// ^ 0                 ^ header_len        ^ len         ^ bytes.len()
/// ```
#[derive(Debug)]
pub(super) struct Assembly {
    bytes: Vec<u8>,
    header_len: usize,
    len: usize,
    /// `Some` for a text message.
    check: Option<Utf8Check>,
}

/// Limit of a direct read, so that one peer does not delay the others.
const DIRECT_BYTES_MAX: usize = 1024 * 1024;

/// Below this, reading directly into the message is not worthwhile: an ordinary read would have
/// returned these bytes together with the next frame.
const DIRECT_BYTES_MIN: usize = 16 * 1024;

impl Assembly {
    /// Starts a message whose first frame has `header`; `arrived` of its payload bytes are already
    /// in the window. If `checks_text`, they must be UTF-8. Spare memory is used only if it is no larger than growth for those bytes
    /// would be: an announced length alone must not claim memory.
    pub(super) fn new(
        header: &FrameHeader,
        checks_text: bool,
        arrived: usize,
        workspace: &mut Workspace,
    ) -> Self {
        let header_len = if header.fin { header.reply_header_len() } else { 0 };
        let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let needed = payload_len.saturating_add(header_len);
        let mut bytes = workspace.take_spare(needed, GROWTH_FACTOR * (header_len + arrived));
        if bytes.len() < header_len {
            bytes.resize(header_len, 0);
        }
        let check = checks_text.then(Utf8Check::default);
        Self { bytes, header_len, len: header_len, check }
    }

    /// Appends a piece of the payload, which the caller has checked against `bytes_max`. Fails as
    /// soon as a text can no longer be UTF-8.
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
        // Spare memory and direct buffers leave stale bytes after `len`. Overwrite these before
        // growing: clearing them would cost a pass over the memory.
        let stale = &mut self.bytes[self.len..];
        let (over, beyond) = piece.split_at(piece.len().min(stale.len()));
        stale[..over.len()].copy_from_slice(over);
        self.bytes.extend_from_slice(beyond);
        self.len += piece.len();
        Ok(())
    }

    /// Returns memory to read the next of the frame's `left` outstanding bytes into. `None` if few
    /// bytes are left, or if too few have arrived to justify the memory.
    pub(super) fn direct_buffer(&mut self, left: u64, bytes_max: usize) -> Option<&mut [u8]> {
        let free = self.bytes.capacity() - self.len;
        let grown = (GROWTH_FACTOR - 1) * self.len;
        let len = if free < DIRECT_BYTES_MIN { grown } else { free };
        let len = left.min(len.min(DIRECT_BYTES_MAX) as u64) as usize;
        if len < DIRECT_BYTES_MIN {
            return None;
        }
        self.reserve(len, bytes_max);
        let end = self.len + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        Some(&mut self.bytes[self.len..end])
    }

    /// Accepts `len` bytes that were read into the [`direct_buffer`](Self::direct_buffer): unmasks
    /// and checks them. Fails as [`append`](Self::append) does.
    pub(super) fn commit(&mut self, len: usize, key: MaskKey) -> Result<(), ProtocolError> {
        let piece = &mut self.bytes[self.len..self.len + len];
        let is_ascii = unmask(piece, key);
        if let Some(check) = &mut self.check {
            check.check(piece, is_ascii).map_err(|_| ProtocolError::TextUtf8)?;
        }
        self.len += len;
        Ok(())
    }

    /// Bytes received, plus the free bytes in front of them.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Reserves memory for `more` bytes. It grows geometrically to avoid repeated copies, up to the
    /// size of the largest message.
    fn reserve(&mut self, more: usize, bytes_max: usize) {
        let needed = self.len + more;
        if needed <= self.bytes.capacity() {
            return;
        }
        let bytes_max = self.header_len.saturating_add(bytes_max);
        let grown = (GROWTH_FACTOR * self.len).min(bytes_max).max(needed);
        self.bytes.reserve_exact(grown - self.bytes.len());
    }

    /// Completes the message. Fails if a text ends inside a character.
    pub(super) fn finish(mut self) -> Result<Assembled, ProtocolError> {
        if let Some(check) = &self.check {
            check.finish().map_err(|_| ProtocolError::TextUtf8)?;
        }
        self.bytes.truncate(self.len);
        Ok(Assembled(self))
    }
}

/// A complete message that did not arrive as one frame in one read. Text is valid UTF-8.
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

    /// Appends the frame that echoes the message to the workspace's `out`.
    pub(super) fn echo(self, workspace: &mut Workspace) {
        let message = self.message();
        let header = ServerHeader::new(true, message.opcode(), message.as_bytes().len() as u64);
        let Assembly { mut bytes, header_len, .. } = self.0;
        let out = &mut workspace.out;
        if header_len > 0 && out.is_empty() {
            header.write_before(&mut bytes, header_len);
            *out = bytes;
        } else {
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(&bytes[header_len..]);
        }
    }
}

/// The memory of an incomplete message grows by this factor.
const GROWTH_FACTOR: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::opcode::OpCode;

    const fn header(fin: bool, opcode: OpCode) -> FrameHeader {
        FrameHeader { fin, opcode, header_len: 8, payload_len: 1000, key: MaskKey([0; 4]) }
    }

    #[test]
    fn memory_grows_geometrically_up_to_one_message() {
        let bytes_max = 1000;
        let mut assembly =
            Assembly::new(&header(true, OpCode::Binary), false, 0, &mut Workspace::default());
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
    fn an_echo_follows_earlier_output() {
        for (fin, before) in [(true, ""), (true, "before"), (false, ""), (false, "before")] {
            let mut workspace = Workspace::default();
            let mut assembly = Assembly::new(&header(fin, OpCode::Text), true, 0, &mut workspace);
            let payload = "h\u{e9}".repeat(50);
            assembly.append(payload.as_bytes(), false, 1000).unwrap();
            workspace.out.extend_from_slice(before.as_bytes());
            let assembled = assembly.finish().unwrap();
            assert_eq!(assembled.message(), Message::from(payload.as_str()));
            assembled.echo(&mut workspace);
            assert_eq!(
                workspace.out,
                [before.as_bytes(), b"\x81\x7e\x00\x96", payload.as_bytes()].concat()
            );
        }
    }
}

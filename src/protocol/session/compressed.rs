//! Compressed messages of a session (RFC 7692).

use super::limits::Limits;
use super::message::{Message, Text};
use super::utf8::Utf8Check;
use super::window::Window;
use super::workspace::Workspace;
use crate::protocol::deflate::parameters::DeflateParameters;
use crate::protocol::error::ProtocolError;
use crate::protocol::frame::header::{
    FrameHeader, SERVER_HEADER_BYTES_MAX, ServerHeader, push_frame,
};
use crate::protocol::frame::opcode::OpCode;

/// Memory of an inflated message that is kept for the next one.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// Appends the compressed frame of a message to the workspace's `out`, if it shrinks.
pub(super) fn push_compressed(
    message: Message<'_>,
    parameters: &DeflateParameters,
    workspace: &mut Workspace,
) -> bool {
    let payload = message.as_bytes();
    let out = &mut workspace.out;
    let start = out.len();
    // The length of the header is known when the payload has been compressed.
    out.extend_from_slice(&[0; SERVER_HEADER_BYTES_MAX]);
    let payload_at = out.len();
    let codec = &mut workspace.compression.codec;
    if !codec.deflate(payload, parameters.server_max_window_bits, out) {
        out.truncate(start);
        return false;
    }
    let len = out.len() - payload_at;
    let header = ServerHeader::new(true, message.opcode(), len as u64).compressed();
    let header = header.as_bytes();
    out[start..start + header.len()].copy_from_slice(header);
    out.copy_within(payload_at.., start + header.len());
    out.truncate(start + header.len() + len);
    true
}

/// A message that was compressed. Text is valid UTF-8.
#[derive(Debug)]
pub(super) struct Inflated {
    /// The message, and stale bytes behind it.
    bytes: Vec<u8>,
    len: usize,
    opcode: OpCode,
    parameters: DeflateParameters,
}

impl Inflated {
    /// Inflates the payload of a message with this opcode.
    pub(super) fn new(
        opcode: OpCode,
        payload: &[u8],
        parameters: DeflateParameters,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<Self, ProtocolError> {
        let mut text = (opcode == OpCode::Text).then(Utf8Check::default);
        let mut inflated_bytes = 0;
        let check = |piece: &[u8]| {
            inflated_bytes += piece.len();
            match &mut text {
                Some(text) => {
                    text.check(piece, piece.is_ascii()).map_err(|_| ProtocolError::TextUtf8)
                }
                None => Ok(()),
            }
        };
        let mut bytes = std::mem::take(&mut workspace.compression.spare);
        let codec = &mut workspace.compression.codec;
        let result = codec.inflate(payload, &mut bytes, limits.message_bytes_max, check);
        workspace.compression.inflated_bytes += inflated_bytes;
        match (result, text.is_none_or(|text| text.finish().is_ok())) {
            (Ok(len), true) => Ok(Self { bytes, len, opcode, parameters }),
            (result, _) => {
                keep(bytes, workspace);
                Err(result.err().unwrap_or(ProtocolError::TextUtf8))
            }
        }
    }

    /// Inflates the frame with `header`, which is a whole message, if all of it is in the window.
    pub(super) fn take_whole(
        header: &FrameHeader,
        parameters: DeflateParameters,
        window: &mut Window<'_>,
        limits: &Limits,
        workspace: &mut Workspace,
    ) -> Result<Option<Self>, ProtocolError> {
        let arrived = window.unread().len() - header.header_len;
        let is_whole = header.fin
            && header.payload_len <= arrived as u64
            && header.payload_len <= limits.compressed().message_bytes_max as u64;
        if !is_whole {
            return Ok(None);
        }
        let payload = window.take(header, header.payload_len as usize).payload;
        let payload = window.bytes(&payload);
        Self::new(header.opcode, payload, parameters, limits, workspace).map(Some)
    }

    pub(super) fn message(&self) -> Message<'_> {
        let bytes = &self.bytes[..self.len];
        match self.opcode {
            OpCode::Text => Message::Text(Text::checked(bytes)),
            _ => Message::Binary(bytes),
        }
    }

    /// Appends the frame that echoes the message to the workspace's `out`.
    pub(super) fn echo(self, workspace: &mut Workspace) {
        if !push_compressed(self.message(), &self.parameters, workspace) {
            push_frame(&mut workspace.out, self.opcode, &self.bytes[..self.len]);
        }
        self.recycle(workspace);
    }

    pub(super) fn recycle(self, workspace: &mut Workspace) {
        keep(self.bytes, workspace);
    }
}

/// Keeps the memory of an inflated message.
fn keep(bytes: Vec<u8>, workspace: &mut Workspace) {
    if bytes.capacity() <= SPARE_BYTES_MAX {
        workspace.compression.spare = bytes;
    } else {
        workspace.recycle(bytes);
    }
}

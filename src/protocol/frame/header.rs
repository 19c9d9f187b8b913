//! Frame headers (RFC 6455 5.2): decoding those of a client, encoding those of a server.

use super::mask::MaskKey;
use super::opcode::OpCode;
use crate::protocol::error::ProtocolError;

/// Maximum payload of a control frame (RFC 6455 5.5), and the largest one-byte length.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// Maximum size of a client's header: two bytes, a 64-bit length, the mask key.
const CLIENT_HEADER_BYTES_MAX: usize = 2 + 8 + MASK_KEY_BYTES;

/// Maximum size of a server's header: a client's without the key.
pub(crate) const SERVER_HEADER_BYTES_MAX: usize = CLIENT_HEADER_BYTES_MAX - MASK_KEY_BYTES;

/// Size of the masking key, by which a client's header always exceeds a server's header for the
/// same payload. [`Window`](crate::protocol::Window) relies on this: the reply to a frame fits
/// where the frame was.
pub(crate) const MASK_KEY_BYTES: usize = 4;

const FIN: u8 = 0x80;
const RESERVED_BITS: u8 = 0x70;
#[cfg(feature = "deflate")]
const COMPRESSED: u8 = 0x40;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;
const LENGTH_IS_16_BITS: u8 = 126;
const LENGTH_IS_64_BITS: u8 = 127;

/// The validated header of a client's frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FrameHeader {
    /// Whether this is the message's last frame.
    pub fin: bool,
    /// The type of the frame.
    pub opcode: OpCode,
    /// Bytes of the header on the wire, including the mask key. The payload starts there.
    pub header_len: usize,
    /// Bytes of payload that the header announces.
    pub payload_len: u64,
    /// The key that masks the payload.
    pub key: MaskKey,
}

impl FrameHeader {
    /// Decodes the header at the start of `bytes`; `None` if it is incomplete.
    ///
    /// An error is reported as soon as the field that shows it has arrived: the first two bytes, or
    /// the whole length.
    ///
    /// # Errors
    ///
    /// If the header breaks RFC 6455 5.1, 5.2 or 5.5.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk::<2>() else {
            return Ok(None);
        };
        if first & RESERVED_BITS != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let fin = first & FIN != 0;
        let opcode = OpCode::try_from(first & OPCODE)?;
        if second & MASKED == 0 {
            return Err(ProtocolError::Unmasked);
        }
        let short = second & LENGTH;
        if opcode.is_control() {
            if usize::from(short) > CONTROL_PAYLOAD_BYTES_MAX {
                return Err(ProtocolError::ControlTooLong);
            }
            if !fin {
                return Err(ProtocolError::ControlFragmented);
            }
        }
        let Some((payload_len, length_bytes)) = decode_length(short, rest)? else {
            return Ok(None);
        };
        let Some(key) = rest[length_bytes..].first_chunk::<MASK_KEY_BYTES>() else {
            return Ok(None);
        };
        let header_len = 2 + length_bytes + MASK_KEY_BYTES;
        Ok(Some(Self { fin, opcode, header_len, payload_len, key: MaskKey(*key) }))
    }

    /// Decodes as [`decode`](Self::decode), but permits RSV1 in the first frame of a message, where it
    /// means that the message is compressed (RFC 7692 6). Returns whether it was set.
    #[cfg(feature = "deflate")]
    pub(in crate::protocol) fn decode_compressed(
        bytes: &[u8],
    ) -> Result<Option<(Self, bool)>, ProtocolError> {
        let is_compressed = bytes.first().is_some_and(|first| {
            first & COMPRESSED != 0
                && matches!(OpCode::try_from(first & OPCODE), Ok(OpCode::Text | OpCode::Binary))
        });
        if !is_compressed {
            return Ok(Self::decode(bytes)?.map(|header| (header, false)));
        }
        let mut start = [0; CLIENT_HEADER_BYTES_MAX];
        let len = bytes.len().min(start.len());
        start[..len].copy_from_slice(&bytes[..len]);
        start[0] &= !COMPRESSED;
        Ok(Self::decode(&start[..len])?.map(|header| (header, true)))
    }

    /// Size of the header that a server puts in front of the same payload.
    pub(in crate::protocol) const fn reply_header_len(&self) -> usize {
        self.header_len - MASK_KEY_BYTES
    }
}

/// The payload's length, and the number of bytes after the first two that encode it.
#[inline]
fn decode_length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    match short {
        LENGTH_IS_16_BITS => {
            let Some(bytes) = rest.first_chunk::<2>() else { return Ok(None) };
            let len = u16::from_be_bytes(*bytes);
            if len < u16::from(LENGTH_IS_16_BITS) {
                return Err(ProtocolError::LengthNotMinimal);
            }
            Ok(Some((u64::from(len), 2)))
        }
        LENGTH_IS_64_BITS => {
            let Some(bytes) = rest.first_chunk::<8>() else { return Ok(None) };
            let len = u64::from_be_bytes(*bytes);
            if len <= u64::from(u16::MAX) {
                return Err(ProtocolError::LengthNotMinimal);
            }
            if len > i64::MAX as u64 {
                return Err(ProtocolError::LengthTopBit);
            }
            Ok(Some((len, 8)))
        }
        short => Ok(Some((u64::from(short), 0))),
    }
}

/// An encoded server header: unmasked, with the length in its shortest encoding.
#[derive(Clone, Copy, Debug)]
pub struct ServerHeader {
    bytes: [u8; SERVER_HEADER_BYTES_MAX],
    len: usize,
}

impl ServerHeader {
    /// Encodes the header of a frame with `payload_len` bytes of payload.
    #[inline]
    #[must_use]
    pub fn new(fin: bool, opcode: OpCode, payload_len: u64) -> Self {
        let mut bytes = [0; SERVER_HEADER_BYTES_MAX];
        bytes[0] = if fin { FIN } else { 0 } | opcode as u8;
        let len = if payload_len <= CONTROL_PAYLOAD_BYTES_MAX as u64 {
            bytes[1] = payload_len as u8;
            2
        } else if let Ok(len) = u16::try_from(payload_len) {
            bytes[1] = LENGTH_IS_16_BITS;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            4
        } else {
            bytes[1] = LENGTH_IS_64_BITS;
            bytes[2..].copy_from_slice(&payload_len.to_be_bytes());
            SERVER_HEADER_BYTES_MAX
        };
        Self { bytes, len }
    }

    /// Marks the message as compressed (RFC 7692 6).
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn compressed(mut self) -> Self {
        self.bytes[0] |= COMPRESSED;
        self
    }

    /// The header's bytes on the wire.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Writes the header in front of `end`, and returns where it starts.
    #[inline]
    pub(in crate::protocol) fn write_before(&self, buf: &mut [u8], end: usize) -> usize {
        // A constant length compiles to a plain store instead of a call to memcpy.
        match self.len {
            2 => buf[end - 2..end].copy_from_slice(&self.bytes[..2]),
            4 => buf[end - 4..end].copy_from_slice(&self.bytes[..4]),
            len => buf[end - len..end].copy_from_slice(&self.bytes[..len]),
        }
        end - self.len
    }
}

/// Appends a frame.
pub(crate) fn push_frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let header = ServerHeader::new(true, opcode, payload.len() as u64);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_header(server: &ServerHeader, key: [u8; 4]) -> Vec<u8> {
        let mut bytes = server.as_bytes().to_vec();
        bytes[1] |= MASKED;
        bytes.extend(key);
        bytes
    }

    #[test]
    fn an_encoded_header_decodes_only_when_it_is_complete() {
        for payload_len in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40, i64::MAX as u64] {
            for (fin, opcode) in [(true, OpCode::Text), (false, OpCode::Binary)] {
                let server = ServerHeader::new(fin, opcode, payload_len);
                let bytes = client_header(&server, [1, 2, 3, 4]);
                for cut in 0..bytes.len() {
                    assert_eq!(FrameHeader::decode(&bytes[..cut]), Ok(None), "{payload_len}");
                }
                let header = FrameHeader {
                    fin,
                    opcode,
                    header_len: bytes.len(),
                    payload_len,
                    key: MaskKey([1, 2, 3, 4]),
                };
                assert_eq!(FrameHeader::decode(&bytes), Ok(Some(header)));
                assert_eq!(header.reply_header_len(), server.as_bytes().len());
            }
        }
    }

    #[test]
    fn errors_are_reported_at_the_byte_that_shows_them() {
        for (bytes, error) in [
            (&b"\xC1\x80"[..], ProtocolError::ReservedBits),
            (b"\xA1\x80", ProtocolError::ReservedBits),
            (b"\x91\x80", ProtocolError::ReservedBits),
            (b"\x83\x80", ProtocolError::ReservedOpCode(3)),
            (b"\x81\x00", ProtocolError::Unmasked),
            (b"\x89\xFE", ProtocolError::ControlTooLong),
            (b"\x09\x80", ProtocolError::ControlFragmented),
            (b"\x81\xFE\x00\x7D", ProtocolError::LengthNotMinimal),
            (b"\x82\xFF\0\0\0\0\0\0\xFF\xFF", ProtocolError::LengthNotMinimal),
            (b"\x82\xFF\x80\0\0\0\0\x01\0\0", ProtocolError::LengthTopBit),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(FrameHeader::decode(&bytes[..cut]), Ok(None));
            }
            assert_eq!(FrameHeader::decode(bytes), Err(error));
        }
    }
}

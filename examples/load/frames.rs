//! Encodes client frames and decodes server frames (RFC 6455 section 5).
//!
//! It shares no code with the library on purpose: a bug in shared code would pass unnoticed. It
//! knows no sockets and no expected payloads; `echoes.rs` checks those.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// The opcodes of RFC 6455 11.8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OpCode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl OpCode {
    pub(crate) fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

impl TryFrom<u8> for OpCode {
    type Error = FrameError;

    fn try_from(value: u8) -> Result<Self, FrameError> {
        match value {
            0 => Ok(Self::Continuation),
            1 => Ok(Self::Text),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            _ => Err(FrameError::UnknownOpCode(value)),
        }
    }
}

/// Appends one masked frame with FIN.
pub(crate) fn encode(opcode: OpCode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    encode_head(opcode, payload.len(), mask, out);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Appends the header of a masked frame with FIN and `bytes` of payload.
pub(crate) fn encode_head(opcode: OpCode, bytes: usize, mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    match bytes {
        0..=125 => out.push(0x80 | bytes as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(bytes as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
}

/// An unpredictable masking key (RFC 6455 5.3), from the only source of randomness in `std`. It is
/// never zero, which would leave the payload unmasked.
pub(crate) fn random_mask() -> [u8; 4] {
    ((RandomState::new().hash_one(0_u8) as u32) | 1).to_be_bytes()
}

/// The header of a server's frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    pub(crate) opcode: OpCode,
    pub(crate) fin: bool,
    pub(crate) payload_bytes: u64,
}

/// A part of a frame. One or more payload pieces follow a header, and `last` marks the final one;
/// an empty payload is one empty piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Piece<'a> {
    Head(Head),
    Payload { bytes: &'a [u8], last: bool },
}

/// An incremental decoder. It stores an incomplete header but never payload bytes.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
}

#[derive(Debug)]
enum State {
    Head { stash: [u8; HEAD_BYTES_MAX], stashed: usize },
    Payload { left: u64 },
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { state: State::between_frames() }
    }

    /// Takes the next piece from the front of `input`; `None` when it needs more bytes.
    #[inline]
    pub(crate) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, FrameError> {
        match &mut self.state {
            State::Payload { left } if *left > 0 && input.is_empty() => Ok(None),
            State::Payload { left } => {
                let taken =
                    usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                let (bytes, rest) = input.split_at(taken);
                *input = rest;
                *left -= taken as u64;
                let last = *left == 0;
                if last {
                    self.state = State::between_frames();
                }
                Ok(Some(Piece::Payload { bytes, last }))
            }
            State::Head { stash, stashed } => {
                let head = if *stashed == 0 { parse_head(input)? } else { None };
                let head = match head {
                    Some((head, used)) => {
                        *input = &input[used..];
                        Some(head)
                    }
                    None => resume_head(stash, stashed, input)?,
                };
                Ok(head.map(|head| {
                    self.state = State::Payload { left: head.payload_bytes };
                    Piece::Head(head)
                }))
            }
        }
    }
}

impl State {
    fn between_frames() -> Self {
        Self::Head { stash: [0; HEAD_BYTES_MAX], stashed: 0 }
    }
}

/// Completes a header that a read has split. This is rare, so byte by byte is fast enough.
#[cold]
fn resume_head(
    stash: &mut [u8; HEAD_BYTES_MAX],
    stashed: &mut usize,
    input: &mut &[u8],
) -> Result<Option<Head>, FrameError> {
    while let Some((&byte, rest)) = input.split_first() {
        *input = rest;
        stash[*stashed] = byte;
        *stashed += 1;
        if let Some((head, _)) = parse_head(&stash[..*stashed])? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// The header at the start of `bytes` and its length.
#[inline]
fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, FrameError> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(FrameError::ReservedBits(first >> 4 & 7));
    }
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let opcode = OpCode::try_from(first & 0x0f)?;
    let fin = first & 0x80 != 0;
    if opcode.is_control() && (!fin || second > 125) {
        return Err(FrameError::ControlTooLargeOrCut);
    }
    let (payload_bytes, used, minimum) = match second {
        126 => match rest.first_chunk() {
            Some(&length) => (u64::from(u16::from_be_bytes(length)), 4, 126),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(&length) => (u64::from_be_bytes(length), HEAD_BYTES_MAX, 0x1_0000),
            None => return Ok(None),
        },
        short => (u64::from(short), 2, 0),
    };
    if payload_bytes < minimum || payload_bytes > i64::MAX as u64 {
        return Err(FrameError::BadLength(payload_bytes));
    }
    Ok(Some((Head { opcode, fin, payload_bytes }, used)))
}

/// The server broke RFC 6455 section 5.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FrameError {
    /// 5.2: no extension was offered, so RSV1-3 must be 0.
    ReservedBits(u8),
    /// 5.1: a server must not mask.
    Masked,
    /// 5.2: 3-7 and 11-15 are reserved.
    UnknownOpCode(u8),
    /// 5.5: a control frame has FIN and at most 125 bytes.
    ControlTooLargeOrCut,
    /// 5.2: the encoding must be the shortest, and the most significant bit 0.
    BadLength(u64),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits(bits) => write!(f, "expected RSV bits 000, got {bits:03b}"),
            Self::Masked => f.write_str("expected an unmasked frame, got a masked one"),
            Self::UnknownOpCode(value) => write!(f, "expected a known opcode, got {value:#x}"),
            Self::ControlTooLargeOrCut => {
                f.write_str("expected a control frame with FIN and at most 125 bytes, got another")
            }
            Self::BadLength(bytes) => {
                write!(f, "expected the shortest encoding of a length, got another for {bytes}")
            }
        }
    }
}

/// First byte, second byte, 64-bit length; a server sends no mask.
const HEAD_BYTES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `bytes` in steps of `step`, and joins the payload pieces.
    fn decode(bytes: &[u8], step: usize) -> Result<Vec<(Head, Vec<u8>)>, FrameError> {
        let mut decoder = Decoder::new();
        let mut frames: Vec<(Head, Vec<u8>)> = Vec::new();
        for mut input in bytes.chunks(step) {
            while let Some(piece) = decoder.next(&mut input)? {
                match piece {
                    Piece::Head(head) => frames.push((head, Vec::new())),
                    Piece::Payload { bytes, .. } => {
                        frames.last_mut().expect("a head comes first").1.extend_from_slice(bytes);
                    }
                }
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_decode_alike_in_pieces_of_any_size() {
        let mut bytes = vec![0x01, 2, b'h', b'e', 0x89, 0, 0x80, 126, 0, 200];
        bytes.extend([b'x'; 200]);
        bytes.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        bytes.extend([b'y'; 65536]);
        let whole = decode(&bytes, bytes.len()).expect("legal frames");
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[0].1, b"he");
        assert!(!whole[0].0.fin);
        assert_eq!(whole[3].0.payload_bytes, 65536);
        for step in 1..20 {
            assert_eq!(decode(&bytes, step).expect("legal frames"), whole);
        }
    }

    #[test]
    fn malformed_frames_are_rejected() {
        for (bytes, error) in [
            (&[0xc1, 0][..], FrameError::ReservedBits(4)),
            (&[0x81, 0x80], FrameError::Masked),
            (&[0x83, 0], FrameError::UnknownOpCode(3)),
            (&[0x09, 0], FrameError::ControlTooLargeOrCut),
            (&[0x88, 126, 0, 200], FrameError::ControlTooLargeOrCut),
            (&[0x81, 126, 0, 125], FrameError::BadLength(125)),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255], FrameError::BadLength(65535)),
        ] {
            assert_eq!(decode(bytes, 1), Err(error));
        }
    }
}

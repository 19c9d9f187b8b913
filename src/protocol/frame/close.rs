//! The payload of a close frame (RFC 6455 5.5.1).

use super::header::{CONTROL_PAYLOAD_BYTES_MAX, ServerHeader, push_frame};
use super::opcode::OpCode;
use crate::protocol::close_code::CloseCode;
use crate::protocol::error::ProtocolError;

/// Bytes of the code at the start of a close frame's payload.
pub(crate) const CODE_BYTES: usize = 2;

/// Checks the payload of a received close frame, and returns its code. The reason follows the code.
pub(crate) fn parse_payload(payload: &[u8]) -> Result<Option<CloseCode>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk::<CODE_BYTES>() else {
        return match payload {
            [] => Ok(None),
            _ => Err(ProtocolError::ClosePayloadTooShort),
        };
    };
    let code = u16::from_be_bytes(*code);
    let code = CloseCode::new(code).ok_or(ProtocolError::ClosePayloadCode(code))?;
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(Some(code)),
        Err(_) => Err(ProtocolError::ClosePayloadUtf8),
    }
}

/// Appends a close frame. The reason is truncated after the last character that fits.
pub(crate) fn push_close(out: &mut Vec<u8>, code: CloseCode, reason: &str) {
    let bytes_max = reason.len().min(CONTROL_PAYLOAD_BYTES_MAX - CODE_BYTES);
    let cut = (0..=bytes_max).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or_default();
    let reason = &reason[..cut];
    if CloseCode::new(code.value()).is_none() {
        // 1005 and 1006 must not appear on the wire (RFC 6455 7.4.1): send no code instead.
        return push_frame(out, OpCode::Close, b"");
    }
    let header = ServerHeader::new(true, OpCode::Close, (CODE_BYTES + reason.len()) as u64);
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&code.value().to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_checked() {
        assert_eq!(parse_payload(b""), Ok(None));
        assert_eq!(parse_payload(b"\x03"), Err(ProtocolError::ClosePayloadTooShort));
        assert_eq!(parse_payload(b"\x03\xe8"), Ok(Some(CloseCode::NORMAL)));
        assert_eq!(parse_payload(b"\x03\xe8bye"), Ok(Some(CloseCode::NORMAL)));
        assert_eq!(parse_payload(b"\x03\xed"), Err(ProtocolError::ClosePayloadCode(1005)));
        assert_eq!(parse_payload(b"\x03\xe8\xff"), Err(ProtocolError::ClosePayloadUtf8));
    }
}

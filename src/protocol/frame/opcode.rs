//! The opcodes of RFC 6455 5.2, with their values on the wire.

use crate::protocol::error::ProtocolError;

/// The type of a frame. The discriminant is the value on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum OpCode {
    /// A further fragment of a message.
    Continuation = 0x0,
    /// The first (or only) frame of a text message.
    Text = 0x1,
    /// The first (or only) frame of a binary message.
    Binary = 0x2,
    /// Starts or completes the closing handshake (RFC 6455 5.5.1).
    Close = 0x8,
    /// Asks for a pong with the same payload (RFC 6455 5.5.2).
    Ping = 0x9,
    /// Answers a ping (RFC 6455 5.5.3).
    Pong = 0xA,
}

impl OpCode {
    /// Whether this is a control frame: at most 125 bytes, never fragmented (RFC 6455 5.5).
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

impl TryFrom<u8> for OpCode {
    type Error = ProtocolError;

    fn try_from(value: u8) -> Result<Self, ProtocolError> {
        Ok(match value {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return Err(ProtocolError::ReservedOpCode(value)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_rfc_6455_11_8() {
        assert_eq!(OpCode::try_from(0x0), Ok(OpCode::Continuation));
        assert_eq!(OpCode::try_from(0x1), Ok(OpCode::Text));
        assert_eq!(OpCode::try_from(0x2), Ok(OpCode::Binary));
        assert_eq!(OpCode::try_from(0x8), Ok(OpCode::Close));
        assert_eq!(OpCode::try_from(0x9), Ok(OpCode::Ping));
        assert_eq!(OpCode::try_from(0xA), Ok(OpCode::Pong));
        for opcode in [0x0, 0x1, 0x2, 0x8, 0x9, 0xA] {
            assert_eq!(OpCode::try_from(opcode).map(|known| known as u8), Ok(opcode));
        }
        for reserved in (0x3..=0x7).chain(0xB..=0xF) {
            assert_eq!(OpCode::try_from(reserved), Err(ProtocolError::ReservedOpCode(reserved)));
        }
    }

    #[test]
    fn close_ping_and_pong_are_control_frames() {
        for opcode in [OpCode::Close, OpCode::Ping, OpCode::Pong] {
            assert!(opcode.is_control());
        }
        for opcode in [OpCode::Continuation, OpCode::Text, OpCode::Binary] {
            assert!(!opcode.is_control());
        }
    }
}

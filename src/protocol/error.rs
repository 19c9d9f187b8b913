//! Protocol errors of a peer on an open connection, and the close code for each.

use std::fmt;

use super::close_code::CloseCode;

/// A violation of RFC 6455 or of a limit: always the peer's fault, never the embedding program's.
///
/// It fails the connection (RFC 6455 7.1.7): the peer is sent a close frame with
/// [`close_code`](Self::close_code), unless one was sent before, and further input is discarded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// RSV1, RSV2 or RSV3 is set and no extension gives it a meaning (RFC 6455 5.2). 1002.
    ReservedBits,
    /// An opcode that RFC 6455 5.2 reserves: 0x3 to 0x7 and 0xB to 0xF. 1002.
    ReservedOpCode(u8),
    /// A client's frame without a mask (RFC 6455 5.1). 1002.
    Unmasked,
    /// A length encoded in more bytes than necessary (RFC 6455 5.2). 1002.
    LengthNotMinimal,
    /// A 64-bit length with its top bit set (RFC 6455 5.2). 1002.
    LengthTopBit,
    /// A control frame of more than 125 bytes (RFC 6455 5.5). 1002.
    ControlTooLong,
    /// A control frame without FIN (RFC 6455 5.5). 1002.
    ControlFragmented,
    /// A continuation frame outside a fragmented message (RFC 6455 5.4). 1002.
    ContinuationWithoutStart,
    /// A new message inside a fragmented one (RFC 6455 5.4). 1002.
    MessageInterrupted,
    /// A close frame with a payload of one byte (RFC 6455 5.5.1). 1002.
    ClosePayloadTooShort,
    /// A close code that must not appear on the wire (RFC 6455 7.4). 1002.
    ClosePayloadCode(u16),
    /// A close reason that is not UTF-8 (RFC 6455 5.5.1). 1007.
    ClosePayloadUtf8,
    /// A text message that is not UTF-8 (RFC 6455 8.1). 1007.
    TextUtf8,
    /// A compressed message that does not inflate (RFC 7692 7.2.2). 1007.
    Compression,
    /// A message longer than `message_bytes_max` (RFC 6455 10.4). 1009.
    MessageTooBig,
    /// A message in more than `fragments_max` fragments (RFC 6455 10.4). 1008.
    TooManyFragments,
}

impl ProtocolError {
    /// The code of the close frame sent for this error (RFC 6455 7.4.1).
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpCode(_)
            | Self::Unmasked
            | Self::LengthNotMinimal
            | Self::LengthTopBit
            | Self::ControlTooLong
            | Self::ControlFragmented
            | Self::ContinuationWithoutStart
            | Self::MessageInterrupted
            | Self::ClosePayloadTooShort
            | Self::ClosePayloadCode(_) => CloseCode::PROTOCOL_ERROR,
            Self::ClosePayloadUtf8 | Self::TextUtf8 | Self::Compression => {
                CloseCode::INVALID_PAYLOAD
            }
            Self::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyFragments => CloseCode::POLICY_VIOLATION,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedBits => f.write_str("a reserved bit is set"),
            Self::ReservedOpCode(opcode) => write!(f, "opcode {opcode:#x} is reserved"),
            Self::Unmasked => f.write_str("a client's frame is not masked"),
            Self::LengthNotMinimal => f.write_str("a length is not in its shortest encoding"),
            Self::LengthTopBit => f.write_str("a 64-bit length has its top bit set"),
            Self::ControlTooLong => f.write_str("a control frame is longer than 125 bytes"),
            Self::ControlFragmented => f.write_str("a control frame is fragmented"),
            Self::ContinuationWithoutStart => {
                f.write_str("a continuation frame without a message to continue")
            }
            Self::MessageInterrupted => f.write_str("a message starts inside another"),
            Self::ClosePayloadTooShort => f.write_str("a close frame has a payload of one byte"),
            Self::ClosePayloadCode(code) => write!(f, "close code {code} must not be sent"),
            Self::ClosePayloadUtf8 => f.write_str("a close reason is not UTF-8"),
            Self::TextUtf8 => f.write_str("a text message is not UTF-8"),
            Self::Compression => f.write_str("a compressed message does not inflate"),
            Self::MessageTooBig => f.write_str("a message exceeds the limit"),
            Self::TooManyFragments => f.write_str("a message has too many fragments"),
        }
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_stays_small() {
        assert_eq!(size_of::<ProtocolError>(), 4);
    }

    #[test]
    fn errors_name_the_violation() {
        assert_eq!(ProtocolError::ReservedOpCode(11).to_string(), "opcode 0xb is reserved");
    }
}

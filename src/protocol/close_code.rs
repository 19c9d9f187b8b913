//! Close codes (RFC 6455 7.4).

use std::fmt;

/// A status code of the closing handshake (RFC 6455 7.4).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection has been fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server is shutting down, or a browser has left the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: the endpoint cannot accept this type of data.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: the close frame carried no code. It is never on the wire: closing with it sends a
    /// frame without code or reason.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a close frame. Like 1005, it is never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: a payload does not match its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the peer broke a rule of this endpoint.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message is too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: a client requires an extension that the server did not negotiate.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the server met an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server is restarting (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded, try again later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// The code for `value`, if a close frame may carry it: 1000 to 1003, 1007 to 1014 (1012 to
    /// 1014 from the IANA registry), and 3000 to 4999, reserved for libraries and applications.
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        match value {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(value)),
            _ => None,
        }
    }

    /// The number, sent in big-endian order on the wire.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_rfc_6455_7_4_1() {
        for (code, value) in [
            (CloseCode::NORMAL, 1000),
            (CloseCode::GOING_AWAY, 1001),
            (CloseCode::PROTOCOL_ERROR, 1002),
            (CloseCode::UNSUPPORTED_DATA, 1003),
            (CloseCode::NO_STATUS, 1005),
            (CloseCode::ABNORMAL, 1006),
            (CloseCode::INVALID_PAYLOAD, 1007),
            (CloseCode::POLICY_VIOLATION, 1008),
            (CloseCode::MESSAGE_TOO_BIG, 1009),
            (CloseCode::MANDATORY_EXTENSION, 1010),
            (CloseCode::INTERNAL_ERROR, 1011),
            (CloseCode::SERVICE_RESTART, 1012),
            (CloseCode::TRY_AGAIN_LATER, 1013),
        ] {
            assert_eq!((code.value(), code.to_string()), (value, value.to_string()));
        }
    }

    #[test]
    fn only_registered_and_private_codes_are_allowed_on_the_wire() {
        for value in 0..=u16::MAX {
            let on_the_wire = [1000..=1003, 1007..=1011, 1012..=1014, 3000..=3999, 4000..=4999]
                .iter()
                .any(|range| range.contains(&value));
            assert_eq!(CloseCode::new(value).is_some(), on_the_wire, "{value}");
        }
    }
}

//! The failures of one connection. Each is displayed in one line, without the connection's number
//! and address, which `failures` adds.

use std::{fmt, io};

use crate::frames::FrameError;

/// Why a connection failed.
#[derive(Debug)]
pub(crate) enum Problem {
    /// No connection: refused, unreachable, no ports or descriptors left.
    Connect(io::Error),
    /// The server's answer to the upgrade is not the expected 101.
    Upgrade { expected: &'static str, got: String },
    /// The server sent a malformed frame.
    Frame(FrameError),
    /// The frame is well-formed but is not the expected one.
    Mismatch { expected: String, got: String },
    /// The server sent Close before we did.
    Closed { code: Option<u16>, reason: String },
    /// The stream ended without Close.
    Ended,
    /// The connection broke, for example by a reset.
    Broken { doing: &'static str, error: io::Error },
    /// Nothing arrived in time.
    Silent { expected: &'static str, seconds: f64 },
}

/// The failures that are counted together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Connect,
    Upgrade,
    Frame,
    Wrong,
    Closed,
    Broken,
    Silent,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Connect,
        Self::Upgrade,
        Self::Frame,
        Self::Wrong,
        Self::Closed,
        Self::Broken,
        Self::Silent,
    ];

    /// The end of the key `failures_NAME` in the JSON line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Upgrade => "upgrade",
            Self::Frame => "frame",
            Self::Wrong => "wrong",
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Silent => "silent",
        }
    }

    /// In plain words, for the report.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Connect => "could not connect",
            Self::Upgrade => "upgrade failed",
            Self::Frame => "malformed frame",
            Self::Wrong => "wrong message",
            Self::Closed => "closed by the server",
            Self::Broken => "connection broken",
            Self::Silent => "no answer",
        }
    }
}

impl Problem {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Connect(_) => Kind::Connect,
            Self::Upgrade { .. } => Kind::Upgrade,
            Self::Frame(_) => Kind::Frame,
            Self::Mismatch { .. } => Kind::Wrong,
            Self::Closed { .. } | Self::Ended => Kind::Closed,
            Self::Broken { .. } => Kind::Broken,
            Self::Silent { .. } => Kind::Silent,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "connect: {error}"),
            Self::Upgrade { expected, got } => write!(f, "upgrade: expected {expected}, got {got}"),
            Self::Frame(error) => error.fmt(f),
            Self::Mismatch { expected, got } => write!(f, "expected {expected}, got {got}"),
            Self::Closed { code: Some(code), reason } if reason.is_empty() => {
                write!(f, "expected a message, got Close {code}")
            }
            Self::Closed { code: Some(code), reason } => {
                write!(f, "expected a message, got Close {code} {reason:?}")
            }
            Self::Closed { code: None, .. } => {
                f.write_str("expected a message, got Close without a code")
            }
            Self::Ended => f.write_str("expected a message, got the end of the stream"),
            Self::Broken { doing, error } => write!(f, "{doing}: {error}"),
            Self::Silent { expected, seconds } => {
                write!(f, "expected {expected}, got nothing for {seconds} s")
            }
        }
    }
}

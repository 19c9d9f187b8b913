//! The failures of one connection, each displayed in one line.
//!
//! Messages are counted from 1.

use std::{fmt, io};

use crate::frames::FrameError;

/// Why a connection failed.
#[derive(Debug)]
pub(crate) enum Problem {
    /// A socket error: connection refused or reset, no ports or descriptors left.
    Io { doing: &'static str, error: io::Error },
    /// The server's answer to the upgrade is not the expected 101.
    Upgrade { expected: &'static str, got: String },
    /// The server sent a malformed frame.
    Frame { message: u64, error: FrameError },
    /// The frame is well-formed but is not the echo of `message`.
    Mismatch { message: u64, expected: String, got: String },
    /// The server sent Close before we did.
    Closed { message: u64, code: Option<u16>, reason: String },
    /// The stream ended without Close.
    Ended { message: u64 },
    /// No connection made progress for `seconds`.
    Stalled { message: u64, seconds: u64 },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, error } => write!(f, "{doing}: {error}"),
            Self::Upgrade { expected, got } => write!(f, "upgrade: expected {expected}, got {got}"),
            Self::Frame { message, error } => write!(f, "message {message}: {error}"),
            Self::Mismatch { message, expected, got } => {
                write!(f, "message {message}: expected {expected}, got {got}")
            }
            Self::Closed { message, code: Some(code), reason } if reason.is_empty() => {
                write!(f, "message {message}: expected an echo, got Close {code}")
            }
            Self::Closed { message, code: Some(code), reason } => {
                write!(f, "message {message}: expected an echo, got Close {code} {reason:?}")
            }
            Self::Closed { message, code: None, .. } => {
                write!(f, "message {message}: expected an echo, got Close without a code")
            }
            Self::Ended { message } => {
                write!(f, "message {message}: expected an echo, got the end of the stream")
            }
            Self::Stalled { message: 0, seconds } => {
                write!(f, "upgrade: expected an answer, got nothing for {seconds} s")
            }
            Self::Stalled { message, seconds } => {
                write!(f, "message {message}: expected an echo, got nothing for {seconds} s")
            }
        }
    }
}

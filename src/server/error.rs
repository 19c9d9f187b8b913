//! Errors of starting a server and of sending a message.

use std::fmt;
use std::io;

use crate::config::ConfigError;
use crate::connection_info::Address;

/// The largest number of workers. It exceeds the cores of any machine, so a larger number is a
/// mistake.
pub(super) const WORKERS_MAX: usize = 4096;

/// The reason why a server did not start. `source` returns the error of the operating system, if
/// there is one.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is invalid.
    Config(ConfigError),
    /// [`ServerBuilder::workers`](crate::ServerBuilder::workers) was given zero.
    NoWorker,
    /// [`ServerBuilder::workers`](crate::ServerBuilder::workers) was given more than 4096.
    TooManyWorkers,
    /// [`ServerBuilder::unix_mode`](crate::ServerBuilder::unix_mode) was given more than
    /// permissions, 0o777.
    UnixMode(u32),
    /// Binding to an address or listening on it failed.
    Bind {
        /// The address given to [`ServerBuilder::bind`](crate::ServerBuilder::bind), or that of the
        /// listener given to [`ServerBuilder::listener`](crate::ServerBuilder::listener).
        address: Address,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Creating a worker's epoll instance or thread failed.
    Worker(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::NoWorker => f.write_str("a server needs at least one worker"),
            Self::TooManyWorkers => write!(f, "a server has at most {WORKERS_MAX} workers"),
            Self::UnixMode(mode) => {
                write!(f, "the mode {mode:o} of Unix sockets must be at most 777")
            }
            Self::Bind { address, .. } => write!(f, "cannot listen on {address}"),
            Self::Worker(_) => f.write_str("cannot start a worker"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Worker(source) => Some(source),
            Self::Config(_) | Self::NoWorker | Self::TooManyWorkers | Self::UnixMode(_) => None,
        }
    }
}

/// The reason why a message or a close was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SendError {
    /// The connection has closed, or belongs to another server.
    Stale,
    /// A worker's mailbox is full. A later attempt may succeed.
    MailboxFull,
    /// The worker has ended, or takes no further messages, because the server is shutting down or the
    /// worker has failed.
    Stopped,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stale => "the connection has closed",
            Self::MailboxFull => "the worker's mailbox is full",
            Self::Stopped => "the server has stopped",
        })
    }
}

impl std::error::Error for SendError {}

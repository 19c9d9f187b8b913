//! A multi-threaded epoll reactor WebSocket server without an async runtime.
#![forbid(unsafe_code)]

pub mod protocol;
mod config;
mod stats;
mod peer;
mod handler;
mod conn;
mod reactor;
mod server;

pub use config::{Config, ConfigError};
pub use handler::{Answer, CloseCause, CloseEvent, Echo, Handler, Reply};
pub use peer::{Peer, PeerId};
pub use protocol::{Accept, CloseCode, Delivery, Message, Request, Response};
pub use server::{SendError, Server, ServerBuilder, ServerHandle, StartError};
pub use stats::Stats;

/// What tests of a whole worker over made-up sockets need. Not part of the public interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::conn::transport::{Readiness, Transport};
    pub use crate::reactor::mailbox::{Command, Mailbox, OwnedMessage, Sender, mailbox};
    pub use crate::reactor::slots::Token;
    pub use crate::reactor::worker::{Driver, Shared, Worker};
    pub use crate::stats::Counters;
}

//! A multi-threaded epoll reactor WebSocket server without an async runtime.
//!
//! ```no_run
//! use ws_reactor::{Handler, Message, Peer, Reply, Server};
//!
//! struct Shout;
//!
//! impl Handler for Shout {
//!     type State = ();
//!
//!     fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
//!         let Message::Text(text) = message else { return Reply::Echo };
//!         peer.send(text.to_uppercase().as_str());
//!         Reply::None
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder().bind("127.0.0.1:9001".parse()?).start(|| Shout)?;
//!     Ok(server.join()?)
//! }
//! ```
//!
//! Start at [`Server`] to run one, at [`Handler`] to say what it does, at [`Config`] for limits and
//! timeouts, and at [`protocol`] for RFC 6455 without sockets.
//!
//! # Architecture
//!
//! A server is a few worker threads that share nothing on the path of a message. Each has a
//! listening socket of its own in a SO_REUSEPORT group, an epoll instance, a slab of connections
//! and one receive buffer. The kernel spreads the connections, and a connection stays with its
//! worker.
//!
//! The code is a house of five floors, and imports go down only:
//!
//! ```text
//!   server                                                  4  the front door: bind, threads, handle
//!   reactor: worker, poll, listener, slots, timers, mailbox 3  one thread: epoll, tokens, the slab
//!   conn: connection, opening, ending, backlog, ...         2  one socket's worth of glue
//!   handler, then peer, then config and stats               1  the vocabulary
//!   protocol                                                0  bytes in, events and bytes out
//! ```
//!
//! **Invariants, absences included.** [`protocol`] knows no socket, clock, thread or log. `conn`
//! knows no epoll and no token. In `reactor` only `poll.rs` touches the kernel's epoll or asks for
//! the time: all decisions are in `Worker::turn`, which a test drives with made-up sockets and a
//! made-up clock. The time of day is only for the `Date` of responses, and is a function that the
//! worker is given. There is no `unsafe` anywhere. A peer's input never panics.
//!
//! # The path of an echo
//!
//! To read it, open `reactor/worker.rs` and `conn/connection.rs`, and go from top to bottom.
//!
//! | step | where | what |
//! |---|---|---|
//! | 1 | `Worker::turn` | epoll reports an edge; the token finds the connection |
//! | 2 | `Connection::advance` | one `recv` into the worker's scratch |
//! | 3 | `Connection::serve` | [`Session`](protocol::Session) takes a frame: header checked, payload unmasked |
//! | 4 | `Connection::deliver` | [`Handler::on_message`] sees it, and says [`Reply::Echo`] |
//! | 5 | [`Window`](protocol::Window) | the reply's header goes in front of the payload, in the same buffer |
//! | 6 | `Connection::flush` | one `send` for the replies to all frames of the read |
//!
//! A client's header is four bytes longer than the reply's, for the mask key. So a reply fits where
//! its frame was, and the replies to many frames make one contiguous run. A connection has a buffer
//! of its own only while a frame or message is incomplete, or while the kernel refuses its replies.
//!
//! The rest of a large message that a read has cut is read straight into the message's own memory.
//! That memory goes out as it is, and then serves the next large message.
//!
//! What costs nothing per message: registration (once, edge-triggered, for both directions), timers
//! (a store of the time, read when the wheel comes round), the clock (once per turn), locks,
//! allocation.
//!
//! # Backpressure
//!
//! A peer that does not take its replies is not read from: above [`Config::backlog_bytes_high`]
//! reading pauses, below [`Config::backlog_bytes_low`] it resumes. An echo therefore loses nothing
//! and holds little. No peer has more than four reads and 4096 frames in a turn, so that one that
//! floods does not keep the others waiting.
//!
//! A client that writes a whole message before it reads any of it must keep the message below what
//! the kernel's socket buffers take (a few megabytes): above that, any server with bounded memory
//! waits for the client to read, while the client waits to write.
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
pub use protocol::{Accept, CloseCode, Delivery, Message, Method, Request, Response, Text};
pub use server::{SendError, Server, ServerBuilder, ServerHandle, StartError};
pub use stats::Stats;

/// Compiles what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// What tests of a whole worker over made-up sockets need. Not part of the public interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::conn::transport::{Readiness, SendProgress, Transport};
    pub use crate::reactor::mailbox::{Command, Mailbox, OwnedMessage, Sender, mailbox};
    pub use crate::reactor::slots::Token;
    pub use crate::reactor::worker::{Driver, READY_PER_TURN, Shared, Worker};
    pub use crate::stats::Counters;
}

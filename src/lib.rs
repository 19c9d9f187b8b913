//! A multi-threaded epoll reactor WebSocket server without an async runtime.
//!
//! ```no_run
//! use ws_reactor::{Address, Handler, Message, Peer, Reply, Server};
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
//!     let address: Address = "127.0.0.1:9001".parse()?;
//!     let server = Server::builder().bind(address).start(|_, _| Shout)?;
//!     Ok(server.join()?)
//! }
//! ```
//!
//! Start at [`Server`] to run one, at [`Handler`] for its behaviour, at [`Config`] for limits and
//! timeouts, and at [`protocol`] for RFC 6455 without sockets.
//!
//! # Architecture
//!
//! A server is a set of worker threads that share no data on the path of a message. Each worker has
//! its own listening socket in a SO_REUSEPORT group, its own epoll instance, a slab of connections
//! and one receive buffer. The kernel distributes new connections over the workers, and a connection
//! stays with its worker. With [`Balance::LeastConnections`] the worker that accepts a connection may hand it over.
//!
//! A Unix socket has no SO_REUSEPORT, and neither may a listener that the program made. There one
//! worker accepts, and hands each connection over to the worker with the fewest
//! (`reactor/balance.rs`) through its mailbox. If the accepting worker fails, its listeners close.
//!
//! The code has six layers, and imports go down only:
//!
//! ```text
//!   server                                                     5  the public entry: bind, threads, handle
//!   reactor: worker, acceptor, poll, slots, timers, mailbox    4  one thread: epoll, tokens, the slab
//!   conn: connection, its phases, wire, backlog, ...           3  one connection between socket and protocol
//!   handler, peer, context, connection_info, config, stats     2  the types that a handler uses
//!   fanout: topics, deliveries, log                            1  one message to many connections
//!   protocol: session, handshake, frame                        0  bytes in, events and bytes out
//! ```
//!
//! **Invariants.** [`protocol`] knows no socket, clock, thread or log. `conn` knows no epoll and no
//! token. In `reactor` only `poll.rs` calls epoll or reads the clock: every decision is made in
//! `Worker::turn`, so a test can drive a worker with scripted sockets and a virtual clock. The time
//! of day serves only the `Date` of responses, and is a function that the worker is given. This
//! crate has no `unsafe` code. No input from a peer causes a panic.
//!
//! # The path of an echo
//!
//! Read `reactor/worker.rs`, `conn/connection.rs` and `conn/open.rs` from top to bottom, for control;
//! `conn/wire.rs` and `protocol/session/window.rs` for the bytes.
//!
//! | step | where | action |
//! |---|---|---|
//! | 1 | `Worker::turn`, `Connection::ready` | takes an edge from epoll; its token finds the connection |
//! | 2 | `Connection::read`, `Wire::receive` | calls `recv` once, into the worker's receive buffer |
//! | 3 | `Open::serve`, `Open::take_events` | has [`Session`](protocol::Session) take a frame: check its header, unmask its payload, validate its text |
//! | 4 | `Open::deliver` | calls [`Handler::on_message`], which returns [`Reply::Echo`] |
//! | 5 | [`Window`](protocol::Window) | writes the reply's header in front of the payload, in the same buffer |
//! | 6 | `Connection::flush`, `Wire::flush` | calls `send` once, for the replies to all frames of the read |
//!
//! A client's header is four bytes longer than the reply's, because of the masking key. So a reply
//! fits where its frame was, and the replies to many frames form one contiguous run. A connection
//! has a buffer of its own only while a frame or message is incomplete, or while the kernel refuses
//! its replies.
//!
//! If a read ends inside a large message, the next read goes straight into the message's own memory.
//! That memory is sent as it is, and is then reused for the next large message.
//!
//! A message costs no registration (sockets are registered once, edge-triggered, for both
//! directions), no timer operation (it stores the time, which the timing wheel compares when its
//! entry comes up), no lock and no allocation. The clock is read twice per turn, however many
//! connections are ready.
//!
//! # The path of a published message
//!
//! | step | where | action |
//! |---|---|---|
//! | 1 | [`Context::publish`] | encodes the frame once, and records an `Effect` |
//! | 2 | `Worker::carry_out_effects`, after the callback's turn | copies the frame to the `Log` of its topic |
//! | 3 | `Topics::publish`, `Deliveries::push` | extends the range of the log that each subscriber will send |
//! | 4 | `Worker::deliver`, at the end of the worker's turn | gives 24 of them a turn, the others in the next turns |
//! | 5 | `Open::take_deliveries`, `Wire::send_shared` | sends the range with one `send`; its unsent rest, still a range, goes to the backlog |
//!
//! A connection takes its deliveries at the start of each of its turns, so later messages follow
//! them. A range grows with the frames behind it, so a slow subscriber holds a few ranges, and all
//! slow subscribers of a topic hold one copy of its frames.
//!
//! # Liveness
//!
//! A silent peer is pinged after [`Config::ping_interval`]. It is alive if it sends bytes, or if its
//! TCP acknowledges bytes that were sent before the ping; bytes that the local kernel accepts prove
//! nothing. A Unix socket has no acknowledgements: there the peer is alive if it sends bytes, or if it
//! reads (`reactor/send_progress.rs`). `conn/deadlines.rs` has the table of all deadlines,
//! `conn/liveness.rs` the rule for acknowledgements. The ping's payload is unpredictable, so that the
//! pong with the same payload gives the round trip, for [`Handler::on_pong`].
//!
//! # Timers
//!
//! Timeouts and pings are due in ticks of 50 ms (`conn/tick.rs`), and wait in a timing wheel that no
//! message touches. The handler's own timers are exact to about 1 ms: [`Handler::on_tick`] is due at
//! multiples of [`Config::tick_interval`] (`reactor/ticker.rs`), and [`Handler::on_deadline`] at the
//! time that [`Peer::set_deadline`] chose for a peer (`peer_deadlines.rs`). `Worker::wait` returns
//! the time to the earliest of all.
//!
//! # Backpressure
//!
//! The server stops reading from a peer that does not read its replies: above
//! [`Config::backlog_bytes_high`] reading pauses, below [`Config::backlog_bytes_low`] it resumes. So
//! an echo loses nothing and holds little memory. A peer has at most four reads and 4096 frames in a
//! turn, so that one that floods does not delay the others for long.
//!
//! A handler controls the flow too: it sees [`Peer::backlog_bytes`], learns from
//! [`Handler::on_drained`] that the backlog is below the low mark again, and stops reading from a peer
//! with [`Peer::pause_reading`]. Other threads see [`ServerHandle::backlog_bytes`].
//!
//! A client that writes a whole message before it reads any of the echo must keep the message below
//! the size of the kernel's socket buffers (a few megabytes). Above that, any server with bounded
//! memory waits for the client to read, while the client waits to write.
//!
//! # Where new features go
//!
//! | feature | place |
//! |---|---|
//! | another counter | a field of `counters!` in `stats/mod.rs`; [`Stats::iter`] exports it |
//! | another timer | its time in `Worker::wait`, its action in `Worker::expire`; for a timer of a peer, see `peer_deadlines.rs` |
#![forbid(unsafe_code)]

pub mod protocol;
mod tls;
mod connection_info;
mod forwarding;
mod config;
mod stats;
mod peer_id;
mod address_limits;
mod open_peers;
mod peer_deadlines;
mod fanout;
mod context;
mod peer;
mod handler;
mod conn;
mod reactor;
mod server;

pub use config::{Config, ConfigError};
pub use connection_info::{Address, AddressError, ConnectionInfo, Credentials};
pub use context::Context;
pub use fanout::slow_consumer::SlowConsumer;
pub use fanout::topics::SubscribeError;
pub use forwarding::{TrustedProxy, TrustedProxyError};
pub use handler::{CloseCause, CloseEvent, Echo, Handler, Reply, TickEvent, Upgrade};
pub use peer::Peer;
pub use peer_id::PeerId;
pub use protocol::{Accept, CloseCode, Delivery, EncodedMessage};
#[cfg(feature = "deflate")]
pub use protocol::{DeflateConfig, DeflateParameters};
pub use protocol::{Message, Method, Request, Response, Text};
pub use server::{Balance, Unsent};
pub use server::{Listener, SendError, Server, ServerBuilder, ServerHandle, StartError, Stream};
pub use stats::Stats;
pub use stats::close_codes::CloseCodes;
pub use stats::handshake_failures::{HandshakeFailure, HandshakeFailures};
pub use stats::histogram::Histogram;
pub use stats::metric::{Metric, MetricValue};

/// The TLS library, whose types [`TlsConfig`] and [`TlsInfo`] use.
#[cfg(feature = "tls")]
pub use rustls;
#[cfg(feature = "tls")]
pub use tls::{TlsConfig, TlsInfo};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// For tests of a whole worker over scripted sockets. Not part of the public interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::address_limits::AddressTable;
    pub use crate::conn::transport::{Readiness, SendProgress, Transport};
    pub use crate::connection_info::{Endpoint, Origin};
    pub use crate::fanout::Publication;
    pub use crate::reactor::batches::READY_PER_TURN;
    pub use crate::reactor::context::WorkerContext;
    pub use crate::reactor::driver::Driver;
    pub use crate::reactor::links::Links;
    pub use crate::reactor::mailbox::{Command, Mailbox, Refusal, Sender, mailbox};
    pub use crate::reactor::slots::Token;
    pub use crate::reactor::worker::Worker;
    pub use crate::stats::Counters;
}

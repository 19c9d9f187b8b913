//! One connection between its socket and the protocol.
//!
//! **Architecture invariant:** nothing here knows epoll, tokens or threads. A connection gets
//! the readiness of its transport and the time of the turn as arguments. Only a `Date` header reads the time of day.
//!
//! - [`connection`]: a connection and its phases: the hot path, from readiness to the reply's `send`
//! - [`preface`], [`opening`], [`open`], [`lingering`]: the four phases
//! - [`deadlines`]: the stage of a connection, and its deadline
//! - [`wire`]: the transport, its readiness, and the bytes that wait
//! - [`tls`]: TLS between the transport and the frames; `no_tls.rs` without the feature
//! - [`backlog`]: bytes that the kernel refused
//! - [`liveness`]: acknowledgements as proof that a peer is alive
//! - [`transport`]: the byte stream below
//! - [`turn`]: the context of a turn
//! - [`guard`]: callbacks that panic
//! - [`schedule`]: the worker's notes on a connection
//! - [`tick`]: coarse time
//! - [`throttle`]: the rate of log lines that a peer can provoke
//! - [`date`]: the time of day, for responses

pub(crate) mod connection;
mod preface;
mod opening;
mod open;
mod lingering;
mod deadlines;
mod wire;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod backlog;
mod liveness;
pub(crate) mod turn;
pub(crate) mod guard;
pub(crate) mod transport;
pub(crate) mod schedule;
pub(crate) mod throttle;
pub(crate) mod tick;
pub(crate) mod date;

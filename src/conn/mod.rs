//! One socket's worth of glue between the protocol and the reactor.
//!
//! **Architecture invariant:** nothing here knows epoll, tokens or threads. A connection is told
//! that its transport may be ready, and by whom its time is counted.
//!
//! - [`connection`]: the hot path, from readiness to the reply's `send`
//! - [`opening`]: the request, the handler's answer, the 101
//! - [`ending`]: the ways out, and the deadlines
//! - [`liveness`]: acknowledgements as proof that a peer is alive
//! - [`guard`]: callbacks that panic
//! - [`backlog`]: bytes that the kernel refused
//! - [`transport`]: the byte stream below
//! - [`tick`]: coarse time
//! - [`throttle`]: log lines that a peer can provoke
//! - [`date`]: the time of day, for responses

mod opening;
mod ending;
pub(crate) mod connection;
mod liveness;
mod guard;
mod backlog;
pub(crate) mod transport;
pub(crate) mod throttle;
pub(crate) mod tick;
pub(crate) mod date;

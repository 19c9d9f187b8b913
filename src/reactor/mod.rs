//! One thread's reactor: readiness in, turns of connections out.
//!
//! **Architecture invariant:** this is the only room that names tokens and the slab, and in it
//! `poll.rs` is the only file that names epoll or asks for the time.
//!
//! - [`worker`]: the decisions of a turn
//! - [`acceptor`]: new connections, their limits, errors of accept
//! - [`poll`]: epoll, the clock, TCP sockets
//! - [`tcp_info`]: the acknowledgements of a peer's TCP
//! - [`timers`]: deadlines of connections, in a timing wheel
//! - [`mailbox`]: commands from other threads
//! - [`driver`]: the sockets, as a worker sees them
//! - [`context`]: settings and counters
//! - [`slots`]: connections by token, with generations
//! - [`listener`]: SO_REUSEPORT sockets
//!
//! Listeners and connections are registered once, edge-triggered. A turn takes the batch that
//! epoll reports, then what earlier turns left over, then commands, then deadlines.

pub(crate) mod poll;
mod tcp_info;
pub(crate) mod worker;
mod acceptor;
mod timers;
pub(crate) mod mailbox;
pub(crate) mod driver;
pub(crate) mod context;
pub(crate) mod slots;
pub(crate) mod listener;

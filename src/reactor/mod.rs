//! One thread's reactor: it takes readiness from epoll and runs the turns of connections.
//!
//! **Architecture invariant:** this is the only module that names tokens and the slab. In it
//! `poll.rs` is the only file that calls epoll or reads the clock.
//!
//! - [`worker`]: the decisions of a turn
//! - [`acceptor`]: new connections, their limits, errors of accept
//! - [`poll`]: epoll, the clock
//! - [`socket`]: the sockets of connections
//! - [`send_progress`]: the bytes that a peer has acknowledged or read
//! - [`timers`]: deadlines of connections, in a timing wheel
//! - [`lifecycle`]: from serving to draining
//! - [`batches`]: which edges have been handled
//! - [`ticker`]: the times of the handler's ticks
//! - [`links`]: messages to the other workers
//! - [`mailbox`]: commands from other threads
//! - [`balance`]: the loads of the workers
//! - [`driver`]: the sockets, as a worker sees them
//! - [`context`]: settings and counters
//! - [`slots`]: connections by token, with generations
//! - [`unix_listener`], [`unix_file`]: Unix sockets that listen, and their files
//! - [`listener`]: sockets that listen, SO_REUSEPORT
//!
//! Listeners and connections are registered once, edge-triggered. A turn handles a batch of edges,
//! then the connections that an earlier turn interrupted, then commands, then deadlines.

pub(crate) mod poll;
pub(crate) mod socket;
mod send_progress;
pub(crate) mod worker;
mod acceptor;
mod timers;
pub(crate) mod batches;
mod ticker;
mod lifecycle;
pub(crate) mod links;
pub(crate) mod mailbox;
mod balance;
pub(crate) mod driver;
pub(crate) mod context;
pub(crate) mod slots;
pub(crate) mod unix_listener;
pub(crate) mod listener;
mod unix_file;

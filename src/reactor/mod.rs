//! One thread's reactor: readiness in, turns of connections out.
//!
//! **Architecture invariant:** this is the only room that names tokens and the slab, and in it
//! `poll.rs` is the only file that names epoll or asks for the time.
//!
//! - [`worker`]: what is decided in a turn
//! - [`poll`]: the kernel's side
//! - [`tcp_info`]: the acknowledgements of a peer's TCP
//! - [`slots`]: connections by token, with generations
//! - [`timers`]: deadlines, told late
//! - [`mailbox`]: commands from other threads
//! - [`listener`]: SO_REUSEPORT sockets, errors of accept
//!
//! Listeners and connections are registered once, edge-triggered. A turn takes the batch that
//! epoll reports, then what earlier turns left over, then commands, then deadlines.

pub(crate) mod poll;
mod tcp_info;
pub(crate) mod worker;
mod timers;
pub(crate) mod mailbox;
pub(crate) mod slots;
pub(crate) mod listener;

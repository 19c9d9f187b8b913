//! A whole worker over scripted sockets, in virtual time: its behaviour, its costs, and the attacks
//! that it must withstand.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/kernel/mod.rs"]
mod kernel;
#[path = "../support/scripted.rs"]
mod scripted;
#[path = "../support/world.rs"]
mod world;
mod probe;

mod calls;
mod backpressure;
mod flow;
mod pongs;
mod deadlines;
mod closing;
mod accepting;
mod proxied;
mod per_address;
mod forwarded;
mod from_outside;
mod context;
mod topics;
mod timers;
mod ending;
mod handlers;
mod plain;
mod log_lines;
mod stats;
#[cfg(feature = "tls")]
#[path = "../support/tls.rs"]
mod secure;
#[cfg(feature = "tls")]
mod tls;

//! The public entry: a builder that starts the workers, and a handle to them.
//!
//! - [`builder`]: settings, threads
//! - [`listening`]: listeners of the workers
//! - [`cpus`]: the CPU of each worker
//! - [`handle`]: messages, shutdown and counters, from any thread
//! - [`sockets`]: sockets that the program made
//! - [`error`]: errors of starting a server and of sending a message

mod builder;
mod cpus;
mod listening;
mod handle;
mod sockets;
mod error;

pub use self::builder::{Server, ServerBuilder};
pub use self::error::{SendError, StartError};
pub use self::handle::{ServerHandle, Unsent};
pub use self::listening::Balance;
pub use self::sockets::{Listener, Stream};

//! The public entry: a builder that starts the workers, and a handle to them.
//!
//! - [`builder`]: addresses, settings, threads
//! - [`handle`]: messages, shutdown and counters, from any thread
//! - [`error`]: why a server did not start, why a message was not sent

mod builder;
mod handle;
mod error;

pub use self::builder::{Server, ServerBuilder};
pub use self::error::{SendError, StartError};
pub use self::handle::ServerHandle;

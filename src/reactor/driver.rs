//! The interface between a worker and its sockets.

use std::io;

use super::slots::Token;
use crate::conn::transport::Transport;
use crate::connection_info::Address;
use crate::tls::TlsConfig;

/// Listens, accepts and registers sockets for a worker. `poll.rs` implements it for sockets, and a test
/// implements it for scripted sockets.
pub trait Driver {
    /// A connection's byte stream.
    type Stream: Transport;

    /// Accepts a connection from listener number `listener`.
    ///
    /// # Errors
    ///
    /// The errors of accept(2); `WouldBlock` if no connection is waiting.
    fn accept(&mut self, listener: u32) -> io::Result<(Self::Stream, Address)>;

    /// Whether the worker distributes the connections of this listener over all workers: no other
    /// worker listens on its address, or the server balances connections itself.
    fn is_distributed(&self, listener: u32) -> bool {
        let _ = listener;
        false
    }

    /// The configuration of TLS for the connections of this listener, if they have TLS.
    fn tls(&self, listener: u32) -> Option<TlsConfig> {
        let _ = listener;
        None
    }

    /// Registers `stream` for edges in both directions, until it is dropped.
    ///
    /// # Errors
    ///
    /// The errors of epoll_ctl(2).
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// Wakes worker number `worker` of the same server: its next poll reports the edge of its waker.
    fn wake(&self, worker: u32);

    /// The number of listeners.
    fn listeners(&self) -> u32;

    /// Closes the listeners.
    fn stop_listening(&mut self);
}

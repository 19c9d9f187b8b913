//! Sockets that another part of the program made.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use socket2::Socket;

/// A listener for [`ServerBuilder::listener`](crate::ServerBuilder::listener): a `TcpListener` or
/// `UnixListener` of the standard library.
#[derive(Debug)]
pub struct Listener(pub(super) Socket);

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self(listener.into())
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self(listener.into())
    }
}

/// A connection for [`ServerHandle::adopt`](crate::ServerHandle::adopt): a `TcpStream` or
/// `UnixStream` of the standard library.
#[derive(Debug)]
pub struct Stream(pub(super) Socket);

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(stream.into())
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(stream.into())
    }
}

//! The description of a connection that callbacks are lent.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// One end of a connection.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
}

impl Address {
    /// The IP address and port, unless the connection has none.
    #[must_use]
    pub const fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Describes a connection to the callbacks at its start. It is lent and not stored, so that an open
/// connection does not pay for it; a handler copies the parts that it needs into its state.
#[derive(Clone, Copy)]
pub struct ConnectionInfo<'c> {
    peer: &'c Address,
    endpoint: &'c dyn Endpoint,
}

/// The properties of a connection that its transport knows.
pub trait Endpoint {
    /// The address that the peer is connected to.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    fn local_address(&self) -> io::Result<Address>;
}

impl<'c> ConnectionInfo<'c> {
    pub(crate) const fn new(peer: &'c Address, endpoint: &'c dyn Endpoint) -> Self {
        Self { peer, endpoint }
    }

    /// The address of the peer, or of the proxy in front of it.
    #[must_use]
    pub const fn peer_address(&self) -> &'c Address {
        self.peer
    }

    /// The address that the peer is connected to. Costs a system call.
    ///
    /// # Errors
    ///
    /// As getsockname(2), which for an open connection does not fail.
    pub fn local_address(&self) -> io::Result<Address> {
        self.endpoint.local_address()
    }
}

impl fmt::Debug for ConnectionInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo").field("peer", self.peer).finish_non_exhaustive()
    }
}

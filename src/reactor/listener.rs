//! Listening sockets: one for each address and worker, in a SO_REUSEPORT group.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Config;

/// Whether other sockets may be bound to the same address, and share its connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sharing {
    /// No: the address is ours or in use.
    Exclusive,
    /// Yes: SO_REUSEPORT. The kernel spreads connections over the group by a hash of the address.
    Shared,
}

/// Binds a socket to `address`, not yet listening.
///
/// An IPv6 address means IPv6 only, also `[::]`: every address is what it says, and IPv4 can be
/// bound beside it.
pub(crate) fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of a server that has just ended must not keep its address (socket(7)).
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if sharing == Sharing::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Lets a bound socket listen.
pub(crate) fn listen(socket: Socket, config: &Config) -> io::Result<TcpListener> {
    // Linux passes the option on to accepted sockets, which saves a call for each.
    socket.set_tcp_nodelay(config.tcp_nodelay)?;
    socket.listen(i32::try_from(config.listen_backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into()))
}

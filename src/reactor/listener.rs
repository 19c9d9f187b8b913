//! Listening sockets: each worker has one per address, in a SO_REUSEPORT group.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::Config;

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener(Socket);

impl Listener {
    /// Accepts a connection, which does not block.
    pub(super) fn accept(&self) -> io::Result<(Socket, SockAddr)> {
        self.0.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Whether other sockets may be bound to the same address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sharing {
    /// Binding fails if another socket has the address.
    Exclusive,
    /// SO_REUSEPORT: the kernel distributes connections over the sockets of the group by a hash of
    /// their addresses.
    Shared,
}

/// Binds a socket to `address`, without listening.
///
/// A socket on an IPv6 address, `[::]` too, accepts IPv6 only. So `0.0.0.0` can be bound to the
/// same port.
pub(crate) fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Otherwise connections in TIME_WAIT would block the address after a restart (socket(7)).
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

/// Starts listening on a bound socket.
pub(crate) fn listen(socket: Socket, config: &Config) -> io::Result<Listener> {
    // Accepted sockets inherit the option on Linux, which saves a call for each of them.
    socket.set_tcp_nodelay(config.tcp_nodelay)?;
    socket.listen(i32::try_from(config.listen_backlog).unwrap_or(i32::MAX))?;
    Ok(Listener(socket))
}

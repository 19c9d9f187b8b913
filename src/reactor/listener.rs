//! Listening sockets.
//!
//! Each worker has one for a TCP address, in a SO_REUSEPORT group. A Unix address, or a listener that
//! the program made, has one socket, and one worker accepts for all. The worker that accepts keeps its
//! connections, or distributes them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::unix_file::UnixFile;
use crate::config::Config;
use crate::tls::TlsConfig;

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Removed before the socket is closed: see [`UnixFile`]. Fields are dropped in their order.
    _file: Option<UnixFile>,
    socket: Socket,
    is_distributed: bool,
    tls: Option<TlsConfig>,
}

impl Listener {
    /// A socket that listens already, and is the only one of its address.
    pub(crate) const fn sole(socket: Socket, file: Option<UnixFile>) -> Self {
        Self { _file: file, socket, is_distributed: true, tls: None }
    }

    /// The same listener, for connections with TLS if there is a configuration.
    pub(crate) fn with_tls(self, tls: Option<TlsConfig>) -> Self {
        Self { tls, ..self }
    }

    /// The configuration of TLS of its connections, if they have TLS.
    pub(super) const fn tls(&self) -> Option<&TlsConfig> {
        self.tls.as_ref()
    }

    /// Whether the worker distributes the connections over all workers, instead of keeping them.
    pub(super) const fn is_distributed(&self) -> bool {
        self.is_distributed
    }

    /// Accepts a connection, which does not block.
    pub(super) fn accept(&self) -> io::Result<(Socket, SockAddr)> {
        self.socket.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
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

/// Starts listening on a socket of a SO_REUSEPORT group.
pub(crate) fn listen(
    socket: Socket,
    is_distributed: bool,
    config: &Config,
) -> io::Result<Listener> {
    // Accepted sockets inherit the option on Linux, which saves a call for each of them.
    socket.set_tcp_nodelay(config.tcp_nodelay)?;
    socket.listen(backlog(config))?;
    Ok(Listener { _file: None, socket, is_distributed, tls: None })
}

/// The length of the queue of connections that are not yet accepted.
pub(super) fn backlog(config: &Config) -> i32 {
    i32::try_from(config.listen_backlog).unwrap_or(i32::MAX)
}

//! Opens sockets.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, SockAddr, Socket, Type};

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    /// The path of a Unix socket, or an abstract name behind a zero byte (unix(7)).
    Unix(Arc<str>),
}

impl Address {
    /// Whether it can be reached from `source`.
    pub(crate) fn is_reached_from(&self, source: IpAddr) -> bool {
        matches!(self, Self::Tcp(address) if address.is_ipv4() == source.is_ipv4())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(name) => match name.strip_prefix('\0') {
                Some(name) => write!(f, "unix-abstract:{name}"),
                None => write!(f, "unix:{name}"),
            },
        }
    }
}

/// Where and when a connection was dialled.
#[derive(Clone, Debug)]
pub(crate) struct Dialled {
    pub(crate) address: Address,
    pub(crate) source: Option<IpAddr>,
    /// The index of the address among those of the host.
    pub(crate) attempt: usize,
    pub(crate) has_next: bool,
    pub(crate) at: u64,
}

/// A stream socket, TCP or Unix.
#[derive(Debug)]
pub(crate) struct Stream(Socket);

impl Stream {
    /// The error that ended the socket, if one did.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.0.peer_addr().is_ok()
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Connects to `address`, from the local address `source` if there is one. A TCP socket may still be
/// connecting.
pub(crate) fn connect(address: &Address, source: Option<IpAddr>) -> io::Result<Stream> {
    match address {
        Address::Tcp(address) => connect_tcp(*address, source),
        Address::Unix(name) => connect_unix(name),
    }
    .map(Stream)
}

/// Waits while the server's queue is full, which a non-blocking connect would report as an error.
fn connect_unix(name: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    socket.connect(&SockAddr::unix(name)?).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    })?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn connect_tcp(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // bind(2) would take a port for this socket alone, and a source has only some 28 000.
        // connect(2) can share a port among connections to different addresses. Without the option,
        // bind works too.
        let _ = setsockopt(&socket, IpBindAddressNoPort, &true);
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// After this time without an answer to its SYN, a connection tries the next address. A Unix socket
/// waits as long for space in the server's queue.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// errno(3) of Linux; `ErrorKind::InProgress` is not stable.
const EINPROGRESS: i32 = 115;

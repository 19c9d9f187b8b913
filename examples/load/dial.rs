//! Opens sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Socket, Type};

/// Where and when a connection was dialled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialled {
    pub(crate) address: SocketAddr,
    pub(crate) source: Option<IpAddr>,
    /// The index of the address among those of the host.
    pub(crate) attempt: usize,
    pub(crate) has_next: bool,
    pub(crate) at: u64,
}

/// Like `TcpStream::connect`, but from the local address `source` if there is one.
pub(crate) fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(address) };
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    // bind(2) would take a port for this socket alone, and a source has only some 28 000. connect(2)
    // can share a port among connections to different addresses. Without the option, bind works too.
    let _ = setsockopt(&socket, IpBindAddressNoPort, &true);
    socket.bind(&SocketAddr::new(source, 0).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// errno(3) of Linux; `ErrorKind::InProgress` is not stable.
const EINPROGRESS: i32 = 115;

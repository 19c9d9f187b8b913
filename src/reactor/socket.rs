//! The socket of a connection: TCP or Unix, as the kernel sees no difference between their bytes.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use socket2::SockAddr;

use super::send_progress;
use crate::conn::transport::{SendProgress, Transport};
use crate::connection_info::{Address, Credentials, Endpoint};

/// A connected stream socket of any domain, without blocking. One type serves all domains, because
/// each idle connection holds one: an enum would need 8 bytes.
#[derive(Debug)]
pub(crate) struct Socket(socket2::Socket);

const _: () = assert!(size_of::<Socket>() == 4, "an idle connection stays small");

impl Socket {
    /// `socket` must not block.
    pub(crate) const fn new(socket: socket2::Socket) -> Self {
        Self(socket)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Read for Socket {
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

/// Every write has MSG_NOSIGNAL. SIGPIPE ends a process that does not ignore it, such as a C program
/// that embeds this library.
impl Write for Socket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_with_flags(bytes, libc::MSG_NOSIGNAL)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send_vectored_with_flags(buffers, libc::MSG_NOSIGNAL)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Endpoint for Socket {
    fn local_address(&self) -> io::Result<Address> {
        self.0.local_addr().map(|address| address_of(&address))
    }

    fn credentials(&self) -> Option<Credentials> {
        let peer = getsockopt(self, PeerCredentials).ok()?;
        // The kernel knows none for TCP, and then reports the id that no user has (chown(2)).
        (peer.uid() != u32::MAX).then(|| Credentials::new(peer.pid(), peer.uid(), peer.gid()))
    }
}

impl Transport for Socket {
    fn send_progress(&self) -> io::Result<SendProgress> {
        send_progress::of(self)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// A Unix socket has no limit for unsent bytes, but its buffer holds only bytes that the peer has
    /// not read.
    fn limit_unsent(&mut self, bytes: u32) -> io::Result<()> {
        match self.0.set_tcp_notsent_lowat(bytes) {
            Err(error) if send_progress::is_without_tcp(&error) => {
                self.0.set_send_buffer_size(bytes as usize)
            }
            result => result,
        }
    }
}

/// The address in a `sockaddr`.
pub(crate) fn address_of(address: &SockAddr) -> Address {
    let unix = || match (address.as_pathname(), address.as_abstract_namespace()) {
        (Some(path), _) => Address::Unix(path.to_path_buf()),
        (None, Some(name)) => Address::UnixAbstract(name.to_vec()),
        (None, None) => Address::UnixUnnamed,
    };
    address.as_socket().map_or_else(unix, Address::Tcp)
}

//! The description of a connection that callbacks are lent.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[cfg(feature = "deflate")]
use crate::protocol::DeflateParameters;
use crate::tls::TlsConfig;
#[cfg(feature = "tls")]
use crate::tls::TlsInfo;

/// One end of a connection, or where a server listens.
///
/// As text it is `IP:PORT`, `unix:PATH` or `unix-abstract:NAME`. A Unix socket without a name is
/// shown as `unix:`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket with a file.
    Unix(PathBuf),
    /// A Unix socket with a name in the abstract namespace of Linux, which needs no file (unix(7)).
    UnixAbstract(Vec<u8>),
    /// A Unix socket without a name, as clients have it.
    UnixUnnamed,
}

impl Address {
    /// The IP address and port, unless the connection has none.
    #[must_use]
    pub const fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) | Self::UnixAbstract(_) | Self::UnixUnnamed => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_path_buf())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::UnixAbstract(name) => {
                write!(f, "unix-abstract:{}", String::from_utf8_lossy(name))
            }
            Self::UnixUnnamed => f.write_str("unix:"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = match (text.strip_prefix("unix:"), text.strip_prefix("unix-abstract:")) {
            (Some(path), _) => Some(Self::Unix(path.into())).filter(|_| !path.is_empty()),
            (_, Some(name)) => Some(Self::UnixAbstract(name.into())).filter(|_| !name.is_empty()),
            (None, None) => text.parse().ok().map(Self::Tcp),
        };
        address.ok_or(AddressError(()))
    }
}

/// The error of parsing an [`Address`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddressError(());

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not an IP address and a port, such as 127.0.0.1:9001 or [::]:9001, \
             nor unix:PATH or unix-abstract:NAME",
        )
    }
}

impl std::error::Error for AddressError {}

/// The process at the other end of a Unix socket, as it was when it connected (SO_PEERCRED,
/// unix(7)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Credentials {
    /// Its number; 0 if this process cannot see it, because it is in another container.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl Credentials {
    pub(crate) const fn new(pid: i32, uid: u32, gid: u32) -> Self {
        Self { pid, uid, gid }
    }
}

/// Describes a connection to the callbacks at its start. It is lent and not stored, so that an open
/// connection does not pay for it; a handler copies the parts that it needs into its state.
#[derive(Clone, Copy)]
pub struct ConnectionInfo<'c> {
    peer: &'c Address,
    endpoint: &'c dyn Endpoint,
    #[cfg(feature = "deflate")]
    deflate: Option<DeflateParameters>,
}

/// The properties of a connection that its transport knows.
pub trait Endpoint {
    /// The address that the peer is connected to.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    fn local_address(&self) -> io::Result<Address>;

    /// The process at the other end, if the transport knows it.
    fn credentials(&self) -> Option<Credentials> {
        None
    }

    /// The result of the TLS handshake, if the connection has TLS.
    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<TlsInfo<'_>> {
        None
    }
}

/// Where an accepted connection comes from, and the layer that precedes its first request.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The address of the peer.
    pub(crate) address: Address,
    pub(crate) tls: Option<TlsConfig>,
}

#[cfg(feature = "tls")]
impl Origin {
    /// A peer whose first bytes belong to a TLS handshake.
    #[must_use]
    pub const fn with_tls(address: Address, config: TlsConfig) -> Self {
        Self { address, tls: Some(config) }
    }
}

impl From<Address> for Origin {
    fn from(address: Address) -> Self {
        Self { address, tls: None }
    }
}

impl<'c> ConnectionInfo<'c> {
    pub(crate) const fn new(peer: &'c Address, endpoint: &'c dyn Endpoint) -> Self {
        Self {
            peer,
            endpoint,
            #[cfg(feature = "deflate")]
            deflate: None,
        }
    }

    #[cfg(feature = "deflate")]
    pub(crate) const fn with_deflate(mut self, parameters: Option<DeflateParameters>) -> Self {
        self.deflate = parameters;
        self
    }

    /// The parameters of permessage-deflate, if both sides agreed to it. Known in
    /// [`Handler::on_open`](crate::Handler::on_open), and `None` before the upgrade.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub const fn deflate(&self) -> Option<DeflateParameters> {
        self.deflate
    }

    /// The address of the client: that of the socket, unless a proxy names another, in a header of the
    /// PROXY protocol ([`proxy_protocol`](crate::Config::proxy_protocol)) or of the request
    /// ([`trusted_proxies`](crate::Config::trusted_proxies)).
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

    /// The process at the other end of a Unix socket. Costs a system call.
    #[must_use]
    pub fn credentials(&self) -> Option<Credentials> {
        self.endpoint.credentials()
    }

    /// The result of the TLS handshake: version, server name, application protocol, client
    /// certificates. `None` for a connection without TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(&self) -> Option<TlsInfo<'c>> {
        self.endpoint.tls()
    }
}

impl fmt::Debug for ConnectionInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo").field("peer", self.peer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        let addresses = [
            ("127.0.0.1:80", Address::Tcp(([127, 0, 0, 1], 80).into())),
            ("[::1]:9001", Address::Tcp("[::1]:9001".parse().unwrap())),
            ("unix:/run/ws.sock", Address::Unix("/run/ws.sock".into())),
            ("unix:ws.sock", Address::Unix("ws.sock".into())),
            ("unix-abstract:ws", Address::UnixAbstract(b"ws".into())),
        ];
        for (text, address) in addresses {
            assert_eq!(text.parse(), Ok(address.clone()));
            assert_eq!(address.to_string(), text);
        }
        for text in ["", "127.0.0.1", "localhost:80", "/run/ws.sock", "unix:", "unix-abstract:"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError(())), "{text}");
        }
        assert_eq!(Address::UnixUnnamed.to_string(), "unix:");
    }
}

//! The address of the server: a ws:// URL, resolved, or a Unix socket.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::dial::Address;

/// A ws:// URL, resolved, or a Unix socket.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    /// Host and port as given, for the Host header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
    /// The addresses of the host, in the order in which they are tried; never empty.
    pub(crate) addresses: Vec<Address>,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            return Self::unix(path, path.to_owned());
        }
        if let Some(name) = url.strip_prefix("unix-abstract:") {
            return Self::unix(name, format!("\0{name}"));
        }
        if url.starts_with("wss://") {
            return Err("this program is built without TLS: the URL must begin with ws://".into());
        }
        let rest = url
            .strip_prefix("ws://")
            .ok_or("the URL must begin with ws://, unix: or unix-abstract:")?;
        // Other bytes could end the request line or a header of the upgrade.
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['@', '#']) {
            return Err("the URL must be ASCII without spaces, user or fragment".to_owned());
        }
        let (authority, target) = match rest.find(['/', '?']) {
            Some(end) if rest[end..].starts_with('/') => (&rest[..end], rest[end..].to_owned()),
            Some(end) => (&rest[..end], format!("/{}", &rest[end..])),
            None => (rest, "/".to_owned()),
        };
        // Only the last colon outside of an IPv6 address's brackets begins a port.
        let has_port = authority.rfind(':') > authority.rfind(']');
        if authority.is_empty() || authority.starts_with(':') {
            return Err("the URL has no host".to_owned());
        }
        let host_and_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let resolved = host_and_port.to_socket_addrs();
        let mut addresses: Vec<_> =
            resolved.map_err(|error| format!("{authority}: {error}"))?.collect();
        // A name such as localhost may have both: try IPv4 first, on which more servers listen.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        if addresses.is_empty() {
            return Err(format!("{authority}: the host has no address"));
        }
        let addresses = addresses.into_iter().map(Address::Tcp).collect();
        Ok(Self { authority: authority.to_owned(), target, addresses })
    }
}

impl Url {
    /// A Unix socket called `text`, with `name` in its address.
    fn unix(text: &str, name: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the name of the Unix socket is missing".to_owned());
        }
        let addresses = vec![Address::Unix(name.into())];
        Ok(Self { authority: "localhost".to_owned(), target: "/".to_owned(), addresses })
    }
}

//! The client's address in the header of a proxy that speaks HTTP: `X-Forwarded-For`, or `Forwarded`
//! (RFC 7239).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::connection_info::Address;

/// Proxies whose forwarding header is believed: see
/// [`Config::trusted_proxies`](crate::Config::trusted_proxies).
///
/// As text it is a network such as `10.0.0.0/8` or `fd00::/8`, an address, or `unix`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TrustedProxy(Network);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Network {
    /// The addresses that agree with this one in the first bits.
    Ip { address: IpAddr, bits: u32 },
    /// Everyone who can connect to a Unix socket.
    Unix,
}

impl TrustedProxy {
    /// Every connection to a Unix socket.
    pub const UNIX: Self = Self(Network::Unix);

    fn contains(self, peer: &Address) -> bool {
        match (self.0, peer.as_tcp()) {
            (Network::Unix, tcp) => tcp.is_none(),
            (Network::Ip { address, bits }, Some(peer)) => {
                let peer = peer.ip().to_canonical();
                address.is_ipv4() == peer.is_ipv4() && first_bits(peer, bits) == address
            }
            (Network::Ip { .. }, None) => false,
        }
    }
}

/// The address with all but its first `bits` bits cleared.
pub(crate) fn first_bits(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl FromStr for TrustedProxy {
    type Err = TrustedProxyError;

    fn from_str(text: &str) -> Result<Self, TrustedProxyError> {
        if text == "unix" {
            return Ok(Self::UNIX);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| TrustedProxyError::NoNetwork)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= bits_max)
                .ok_or(TrustedProxyError::NoNetwork)?,
        };
        let network = first_bits(address, bits);
        if network != address {
            return Err(TrustedProxyError::BitsBehindPrefix { network, bits });
        }
        Ok(Self(Network::Ip { address, bits }))
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Network::Ip { address, bits } => write!(f, "{address}/{bits}"),
            Network::Unix => f.write_str("unix"),
        }
    }
}

/// The error of parsing a [`TrustedProxy`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TrustedProxyError {
    /// Neither a network nor an address nor `unix`.
    NoNetwork,
    /// The address has bits behind the prefix, so one of the two is wrong.
    #[non_exhaustive]
    BitsBehindPrefix {
        /// The address without those bits.
        network: IpAddr,
        /// The length of the prefix.
        bits: u32,
    },
}

impl fmt::Display for TrustedProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNetwork => f.write_str(
                "not a network such as 10.0.0.0/8 or fd00::/8, nor an address, nor unix",
            ),
            Self::BitsBehindPrefix { network, bits } => {
                write!(f, "the address has bits behind the prefix; the network is {network}/{bits}")
            }
        }
    }
}

impl std::error::Error for TrustedProxyError {}

/// Whether an address is that of a trusted proxy.
pub(crate) fn is_trusted(address: &Address, trusted: &[TrustedProxy]) -> bool {
    trusted.iter().any(|proxy| proxy.contains(address))
}

/// The client of a request from `peer`, according to the values of its forwarding header in their
/// order. `None` if `peer` is not a trusted proxy.
///
/// Each proxy appends the address that it was connected from. So the walk begins at the last element,
/// and ends at the first address that is not a trusted proxy's: that is the client. The
/// elements in front of it are the client's own claim. An element that is malformed or hides the address ends the walk
/// too, and the last trusted address stands.
pub(crate) fn client<'v>(
    peer: &Address,
    header: &str,
    values: impl DoubleEndedIterator<Item = &'v [u8]>,
    trusted: &[TrustedProxy],
) -> Option<Address> {
    if !is_trusted(peer, trusted) {
        return None;
    }
    let is_forwarded = header.eq_ignore_ascii_case("forwarded");
    let mut client = peer.clone();
    for value in values.rev() {
        let elements = match is_forwarded {
            true => forwarded_elements(value),
            false => list_elements(value),
        };
        for element in elements.into_iter().rev() {
            let Some(address) = element else { return Some(client) };
            client = address.into();
            if !is_trusted(&client, trusted) {
                return Some(client);
            }
        }
    }
    Some(client)
}

/// The addresses of a list such as `192.0.2.1, 2001:db8::1`; `None` for a malformed one. Empty elements
/// do not count (RFC 9110 5.6.1).
fn list_elements(value: &[u8]) -> Vec<Option<SocketAddr>> {
    let elements = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty()).map(node_address).collect()
}

/// An address with or without a port, an IPv6 address with or without brackets. Without a port it is 0.
fn node_address(node: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(node).ok()?;
    let in_brackets = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match in_brackets {
        Some(v6) => SocketAddr::new(IpAddr::V6(v6.parse().ok()?), 0),
        None => match text.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, 0),
            Err(_) => text.parse().ok()?,
        },
    };
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// The addresses of the elements of a `Forwarded` header (RFC 7239 4). If its grammar is violated, all
/// of it counts as one malformed element, since a quote may hide where the elements begin.
fn forwarded_elements(value: &[u8]) -> Vec<Option<SocketAddr>> {
    let mut cursor = Cursor(value);
    let mut elements = Vec::new();
    loop {
        cursor.skip_white_space();
        if cursor.skip(b',') {
            continue;
        }
        if cursor.0.is_empty() {
            return elements;
        }
        let Some(node) = cursor.element() else { return vec![None] };
        elements.push(node.and_then(|node| forwarded_node(&node)));
        cursor.skip_white_space();
        if !cursor.0.is_empty() && !cursor.skip(b',') {
            return vec![None];
        }
    }
}

/// An address of RFC 7239 6, where IPv6 is in brackets. Neither `unknown` nor an obfuscated name is one.
fn forwarded_node(node: &[u8]) -> Option<SocketAddr> {
    let is_bare_v6 = node.first() != Some(&b'[') && node.iter().filter(|b| **b == b':').count() > 1;
    if is_bare_v6 { None } else { node_address(node) }
}

struct Cursor<'v>(&'v [u8]);

impl Cursor<'_> {
    fn skip_white_space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn skip(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Reads `name=value` pairs with semicolons between them. Returns the value of `for`, if there is
    /// one. `None` is a violation of the grammar.
    fn element(&mut self) -> Option<Option<Vec<u8>>> {
        let mut node = None;
        loop {
            let name = self.token()?;
            if !self.skip(b'=') {
                return None;
            }
            let value = self.value()?;
            if name.eq_ignore_ascii_case(b"for") && node.replace(value).is_some() {
                return None;
            }
            if !self.skip(b';') {
                return Some(node);
            }
        }
    }

    fn token(&mut self) -> Option<Vec<u8>> {
        let is_delimiter =
            |byte: &u8| !byte.is_ascii_graphic() || b"(),/:;<=>?@[\\]{}\"".contains(byte);
        let len = self.0.iter().position(is_delimiter).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(token.to_vec()).filter(|token| !token.is_empty())
    }

    /// A token or a quoted string, without its quotes.
    fn value(&mut self) -> Option<Vec<u8>> {
        if !self.skip(b'"') {
            return self.token();
        }
        let mut value = Vec::new();
        loop {
            let (byte, rest) = self.0.split_first()?;
            let (byte, rest) = match byte {
                b'"' => {
                    self.0 = rest;
                    return Some(value);
                }
                b'\\' => rest.split_first()?,
                _ => (byte, rest),
            };
            value.push(*byte);
            self.0 = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXIES: [&str; 4] = ["10.0.0.0/8", "192.0.2.1", "fd00::/8", "unix"];

    /// The client of a request from `peer`; `-` if the header is not believed.
    fn client_of(peer: &str, header: &str, values: &[&str]) -> String {
        let trusted = PROXIES.map(|proxy| proxy.parse().unwrap());
        let peer = if peer == "unix:" { Address::UnixUnnamed } else { peer.parse().unwrap() };
        let values = values.iter().map(|value| value.as_bytes());
        client(&peer, header, values, &trusted)
            .map_or_else(|| "-".into(), |client| client.to_string())
    }

    #[test]
    fn the_last_untrusted_address_is_the_client() {
        let xff = |values: &[&str]| client_of("10.0.0.1:5000", "X-Forwarded-For", values);
        assert_eq!(xff(&["203.0.113.9"]), "203.0.113.9:0");
        assert_eq!(xff(&["198.51.100.7, 203.0.113.9"]), "203.0.113.9:0", "a client's own claim");
        assert_eq!(xff(&["198.51.100.7, 203.0.113.9, 10.1.2.3,192.0.2.1"]), "203.0.113.9:0");
        assert_eq!(xff(&["203.0.113.9", "10.1.2.3"]), "203.0.113.9:0", "lines are joined");
        assert_eq!(xff(&["198.51.100.7", "203.0.113.9", "10.1.2.3"]), "203.0.113.9:0");
        assert_eq!(xff(&["10.1.2.4, 10.1.2.3"]), "10.1.2.4:0", "all are trusted");
        assert_eq!(xff(&[" , 203.0.113.9,, "]), "203.0.113.9:0", "empty elements do not count");
        assert_eq!(xff(&[]), "10.0.0.1:5000");
        assert_eq!(xff(&["", ","]), "10.0.0.1:5000");
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for peer in ["11.0.0.1:5000", "192.0.2.2:5000", "[fe00::1]:5000", "203.0.113.9:1"] {
            assert_eq!(client_of(peer, "X-Forwarded-For", &["198.51.100.7"]), "-", "{peer}");
        }
        for peer in
            ["10.255.0.1:1", "192.0.2.1:5000", "[fdff::1]:1", "[::ffff:10.0.0.1]:1", "unix:"]
        {
            let client = client_of(peer, "X-Forwarded-For", &["198.51.100.7"]);
            assert_eq!(client, "198.51.100.7:0", "{peer}");
        }
    }

    #[test]
    fn a_malformed_or_hidden_address_ends_the_walk() {
        for element in
            ["unknown", "_hidden", "203.0.113.999", "203.0.113.9:x", "[::1", "a b", "\u{fc}"]
        {
            let value = format!("198.51.100.7, {element}, 10.1.2.3");
            let client = client_of("10.0.0.1:5000", "X-Forwarded-For", &[&value]);
            assert_eq!(client, "10.1.2.3:0", "{element}");
            let client = client_of("10.0.0.1:5000", "X-Forwarded-For", &[element]);
            assert_eq!(client, "10.0.0.1:5000", "{element}");
        }
    }

    #[test]
    fn addresses_may_have_ports_and_brackets() {
        for (element, client) in [
            ("203.0.113.9:4711", "203.0.113.9:4711"),
            ("2001:db8::1", "[2001:db8::1]:0"),
            ("[2001:db8::1]", "[2001:db8::1]:0"),
            ("[2001:db8::1]:4711", "[2001:db8::1]:4711"),
            ("::ffff:203.0.113.9", "203.0.113.9:0"),
        ] {
            assert_eq!(client_of("10.0.0.1:5000", "x-real-ip", &[element]), client);
        }
    }

    #[test]
    fn forwarded_is_read_by_its_grammar() {
        let forwarded = |values: &[&str]| client_of("10.0.0.1:5000", "forwarded", values);
        // The examples of RFC 7239 4 and 6.
        assert_eq!(forwarded(&["For=\"[2001:db8:cafe::17]:4711\""]), "[2001:db8:cafe::17]:4711");
        assert_eq!(forwarded(&["for=192.0.2.60;proto=http;by=203.0.113.43"]), "192.0.2.60:0");
        assert_eq!(forwarded(&["for=192.0.2.43, for=198.51.100.17"]), "198.51.100.17:0");
        assert_eq!(forwarded(&["for=\"_gazonk\""]), "10.0.0.1:5000");
        assert_eq!(forwarded(&["for=unknown, for=10.1.1.1"]), "10.1.1.1:0");
        let values = ["for=203.0.113.9;host=\"a,b;for=\\\"x\"", "by=x;for=10.1.1.1"];
        assert_eq!(forwarded(&values), "203.0.113.9:0");
        // An element without an address hides it.
        assert_eq!(forwarded(&["for=203.0.113.9, proto=http"]), "10.0.0.1:5000");
    }

    #[test]
    fn a_quote_of_a_client_hides_no_element_of_a_proxy() {
        let forwarded = |values: &[&str]| client_of("10.0.0.1:5000", "Forwarded", values);
        for value in [
            "for=198.51.100.7;a=\", for=203.0.113.9",
            "for=198.51.100.7;a=\", for=\"203.0.113.9:80\"",
            "for=198.51.100.7;a=\"\\\", for=\"203.0.113.9:80\"",
            "for=198.51.100.7 x, for=203.0.113.9",
            "for=198.51.100.7;, for=203.0.113.9",
            "for=198.51.100.7;for=203.0.113.9",
            "for= 198.51.100.7",
            "for=[::1]",
            "for=203.0.113.9:80",
            "for=\"2001:db8::1\"",
        ] {
            assert_eq!(forwarded(&[value]), "10.0.0.1:5000", "{value}");
            assert_eq!(forwarded(&[value, "for=10.1.1.1"]), "10.1.1.1:0", "{value}");
        }
    }

    #[test]
    fn networks_are_read_as_they_are_shown() {
        for text in
            ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "fd00::/8", "::1/128", "unix"]
        {
            assert_eq!(text.parse::<TrustedProxy>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.1".parse(), "192.0.2.1/32".parse::<TrustedProxy>());
        for text in
            ["", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/", "10/8", "host/8", "Unix"]
        {
            assert_eq!(text.parse::<TrustedProxy>(), Err(TrustedProxyError::NoNetwork), "{text}");
        }
        let error = "10.0.0.1/8".parse::<TrustedProxy>().unwrap_err().to_string();
        assert!(error.ends_with("the network is 10.0.0.0/8"), "{error}");
    }
}

//! The header of the PROXY protocol, version 1 (text) and 2 (binary), with which a proxy names the
//! client that it connects for. It precedes everything else on a connection.
//!
//! The specification is HAProxy's `doc/proxy-protocol.txt`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header of version 1, with its CR LF (section 2.1).
const V1_BYTES_MAX: usize = 107;

/// The longest header of version 2. Addresses take at most 232 bytes; the rest is for the extensions
/// of a proxy, which are skipped.
const V2_BYTES_MAX: usize = 1024;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The start of version 2, its version and command, its family and transport, and a length.
const V2_FIXED_BYTES: usize = 16;

/// A path of a Unix socket, padded with zeros.
const UNIX_PATH_BYTES: usize = 108;

/// The client that a proxy connects for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ProxySource {
    /// The proxy connects for itself, as for a health check, or does not say: the socket's address
    /// stands.
    Own,
    /// The client's address.
    Tcp(SocketAddr),
    /// The client's Unix address as bytes: a path, an abstract name behind a zero, or nothing.
    Unix(Vec<u8>),
}

/// The connection does not begin with a header of the PROXY protocol, or the header is malformed or
/// too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ProxyError {
    Missing,
    Malformed,
    TooLong,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "it begins without a PROXY header",
            Self::Malformed => "its PROXY header is malformed",
            Self::TooLong => "its PROXY header is too long",
        })
    }
}

/// Reads one header that arrives in pieces.
#[derive(Debug, Default)]
pub(crate) struct ProxyReader {
    /// The header so far, if it did not arrive in one read.
    held: Vec<u8>,
}

impl ProxyReader {
    /// Reads the next piece. Once the header is complete, returns its source and the number of bytes
    /// of `input` that belong to it. `None` if all of `input` does.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
    ) -> Result<Option<(ProxySource, usize)>, ProxyError> {
        let before = self.held.len();
        if before == 0 {
            let header = parse(input)?;
            if header.is_none() {
                self.held = input.to_vec();
            }
            return Ok(header);
        }
        let space = V2_BYTES_MAX.saturating_sub(before);
        self.held.extend_from_slice(&input[..input.len().min(space)]);
        Ok(parse(&self.held)?.map(|(source, len)| (source, len - before)))
    }
}

/// The bytes behind a header, if it is complete.
pub(crate) fn skip(bytes: &[u8]) -> Option<&[u8]> {
    let (_, len) = parse(bytes).ok()??;
    Some(&bytes[len..])
}

/// Parses the header at the start of `bytes`, and returns its length too. `None` if it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(ProxySource, usize)>, ProxyError> {
    let begins = |start: &[u8]| {
        let len = start.len().min(bytes.len());
        bytes[..len] == start[..len]
    };
    if begins(V2_START) {
        parse_v2(bytes)
    } else if begins(V1_START) {
        parse_v1(bytes)
    } else {
        Err(ProxyError::Missing)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(ProxySource, usize)>, ProxyError> {
    let searched = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
        return if searched.len() == V1_BYTES_MAX { Err(ProxyError::TooLong) } else { Ok(None) };
    };
    let line = searched[..end].strip_suffix(b"\r").ok_or(ProxyError::Malformed)?;
    let rest = line.strip_prefix(V1_START).ok_or(ProxyError::Malformed)?;
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Ok(Some((ProxySource::Own, end + 1)));
    }
    let rest = str::from_utf8(rest).map_err(|_| ProxyError::Malformed)?;
    let source = match rest.split_once(' ') {
        Some(("TCP4", addresses)) => v1_source::<Ipv4Addr>(addresses),
        Some(("TCP6", addresses)) => v1_source::<Ipv6Addr>(addresses),
        _ => None,
    };
    Ok(Some((ProxySource::Tcp(source.ok_or(ProxyError::Malformed)?), end + 1)))
}

/// The source of `SOURCE DESTINATION SOURCE_PORT DESTINATION_PORT`.
fn v1_source<A: FromStr + Into<IpAddr>>(addresses: &str) -> Option<SocketAddr> {
    let mut words = addresses.split(' ');
    let source: A = words.next()?.parse().ok()?;
    let _: A = words.next()?.parse().ok()?;
    let source_port = v1_port(words.next()?)?;
    v1_port(words.next()?)?;
    match words.next() {
        None => Some(SocketAddr::new(source.into(), source_port)),
        Some(_) => None,
    }
}

fn v1_port(word: &str) -> Option<u16> {
    // `u16::from_str` takes a sign and leading zeros too.
    word.parse().ok().filter(|port: &u16| port.to_string() == word)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(ProxySource, usize)>, ProxyError> {
    if bytes.len() < V2_FIXED_BYTES {
        return Ok(None);
    }
    let (command, family) = (bytes[12], bytes[13]);
    let len = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if len > V2_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let source = match command {
        0x20 => Some(ProxySource::Own), // LOCAL: the addresses are ignored
        0x21 => v2_source(family, &header[V2_FIXED_BYTES..]),
        _ => None,
    };
    Ok(Some((source.ok_or(ProxyError::Malformed)?, len)))
}

/// The source in the addresses of a family. The datagram transports cannot be those of a stream.
fn v2_source(family: u8, addresses: &[u8]) -> Option<ProxySource> {
    /// The first of two addresses of `N` bytes, and, behind both, its port.
    fn inet<const N: usize>(addresses: &[u8]) -> Option<([u8; N], u16)> {
        let (source, rest) = addresses.split_first_chunk()?;
        let ports = rest.get(N..N + 4)?;
        Some((*source, u16::from_be_bytes([ports[0], ports[1]])))
    }
    Some(match family {
        0x00 => ProxySource::Own,
        0x11 => ProxySource::Tcp(inet::<4>(addresses)?.into()),
        0x21 => ProxySource::Tcp(inet::<16>(addresses)?.into()),
        0x31 => {
            let path = addresses.get(..2 * UNIX_PATH_BYTES)?.first_chunk::<UNIX_PATH_BYTES>()?;
            let is_abstract = usize::from(path[0] == 0);
            let end = path[is_abstract..].iter().position(|byte| *byte == 0);
            let end = end.map_or(path.len(), |end| is_abstract + end);
            let name = if end == is_abstract { &[] } else { &path[..end] };
            ProxySource::Unix(name.to_vec())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let len = (addresses.len() as u16).to_be_bytes();
        [&V2_START[..], &[command, family], &len, addresses].concat()
    }

    fn tcp(text: &str) -> ProxySource {
        ProxySource::Tcp(text.parse().unwrap())
    }

    fn unix(source: &[u8]) -> Vec<u8> {
        let mut addresses = source.to_vec();
        addresses.resize(2 * UNIX_PATH_BYTES, 0);
        v2(0x21, 0x31, &addresses)
    }

    /// The examples of the specification and the forms that it permits.
    fn valid() -> Vec<(Vec<u8>, ProxySource)> {
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdd, 0xd5, 0, 80];
        let v6: Vec<u8> = [&[0x20, 1, 0xd, 0xb8], &[0; 28][..], &[0xdd, 0xd5, 0, 80]].concat();
        let longest_v1 = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest_v1.len(), V1_BYTES_MAX, "section 2.1");
        vec![
            (b"PROXY TCP4 192.0.2.7 198.51.100.1 56789 80\r\n".into(), tcp("192.0.2.7:56789")),
            (
                b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".into(),
                tcp("255.255.255.255:65535"),
            ),
            (b"PROXY TCP6 2001:db8:: ::1 0 80\r\n".into(), tcp("[2001:db8::]:0")),
            (b"PROXY UNKNOWN\r\n".into(), ProxySource::Own),
            (b"PROXY UNKNOWN \xff is ignored\r\n".into(), ProxySource::Own),
            (longest_v1.into(), ProxySource::Own),
            (v2(0x21, 0x11, &v4), tcp("192.0.2.7:56789")),
            (v2(0x21, 0x21, &v6), tcp("[2001:db8::]:56789")),
            (v2(0x21, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat()), tcp("192.0.2.7:56789")),
            (v2(0x21, 0x11, &[&v4[..], &[0; 996]].concat()), tcp("192.0.2.7:56789")),
            (v2(0x21, 0x00, b""), ProxySource::Own),
            (v2(0x20, 0x00, b""), ProxySource::Own),
            (v2(0x20, 0x11, b"short"), ProxySource::Own),
            (unix(b"/run/a.sock"), ProxySource::Unix(b"/run/a.sock".into())),
            (unix(b"\0name"), ProxySource::Unix(b"\0name".into())),
            (unix(b""), ProxySource::Unix(Vec::new())),
            (unix(&[b'x'; 108]), ProxySource::Unix(vec![b'x'; 108])),
        ]
    }

    #[test]
    fn headers_are_read_in_any_two_pieces_and_end_exactly() {
        for (header, source) in valid() {
            let input = [&header, &b"GET / HTTP/1.1\r\n"[..]].concat();
            for cut in 0..=header.len() {
                let mut reader = ProxyReader::default();
                let first = reader.read(&input[..cut]);
                if cut == header.len() {
                    assert_eq!(first, Ok(Some((source.clone(), cut))));
                    continue;
                }
                assert_eq!(first, Ok(None), "{} bytes of {}", cut, header.escape_ascii());
                let second = reader.read(&input[cut..]);
                assert_eq!(second, Ok(Some((source.clone(), header.len() - cut))));
            }
        }
    }

    #[test]
    fn headers_are_read_byte_by_byte() {
        for (header, source) in valid() {
            let mut reader = ProxyReader::default();
            let (last, others) = header.split_last().unwrap();
            for byte in others {
                assert_eq!(reader.read(&[*byte]), Ok(None));
            }
            assert_eq!(reader.read(&[*last]), Ok(Some((source, 1))));
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let lines = [
            "PROXY TCP4 192.0.2.7 198.51.100.1 56789\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56789 80 \r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 56789 80\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 80\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +5678 80\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 0567 80\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56789 x\r\n",
            "PROXY TCP4 192.0.2 198.51.100.1 56789 80\r\n",
            "PROXY TCP4 192.0.2.7 ::1 56789 80\r\n",
            "PROXY TCP4 2001:db8:: ::1 56789 80\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 56789 80\r\n",
            "PROXY TCP5 192.0.2.7 198.51.100.1 56789 80\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY UNKNOWN\n",
            "PROXY UNKNOWN\r\r\n",
        ];
        for line in lines {
            assert_eq!(parse(line.as_bytes()), Err(ProxyError::Malformed), "{line:?}");
        }
        let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0xdd, 0xd5, 0, 80];
        for header in [
            v2(0x21, 0x11, &v4[..11]), // too short for its family
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x12, &v4), // a datagram
            v2(0x21, 0x41, &v4),
            v2(0x21, 0x13, &v4),
            v2(0x22, 0x11, &v4),
            v2(0x11, 0x11, &v4),
            v2(0x31, 0x11, &v4),
        ] {
            assert_eq!(parse(&header), Err(ProxyError::Malformed), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn other_bytes_are_refused_at_the_first_difference() {
        for start in [&b"G"[..], b"PU", b"p", b"\r\n\r\nG", b"\r\n\r\n\0\r\nQUIT\r", b"\x16"] {
            let (last, others) = start.split_last().unwrap();
            let mut reader = ProxyReader::default();
            assert_eq!(reader.read(others), Ok(None), "{}", start.escape_ascii());
            assert_eq!(reader.read(&[*last]), Err(ProxyError::Missing), "{}", start.escape_ascii());
        }
    }

    #[test]
    fn lengths_are_bounded_before_the_bytes_arrive() {
        let line = [&b"PROXY UNKNOWN "[..], &[b'x'; 91], b"\r\n"].concat();
        assert_eq!(line.len(), V1_BYTES_MAX);
        assert_eq!(parse(&line), Ok(Some((ProxySource::Own, V1_BYTES_MAX))));
        let line = [&b"PROXY UNKNOWN "[..], &[b'x'; 92], b"\r\n"].concat();
        assert_eq!(parse(&line[..V1_BYTES_MAX - 1]), Ok(None));
        assert_eq!(parse(&line[..V1_BYTES_MAX]), Err(ProxyError::TooLong));
        let fits = v2(0x20, 0, &[0; 1008]);
        assert_eq!(parse(&fits), Ok(Some((ProxySource::Own, V2_BYTES_MAX))));
        let too_long = v2(0x20, 0, &[0; 1009]);
        assert_eq!(parse(&too_long[..V2_FIXED_BYTES]), Err(ProxyError::TooLong));
    }

    #[test]
    fn a_header_in_pieces_holds_no_more_than_its_limit() {
        let header = v2(0x20, 0, &[0; 1008]);
        for piece_len in [1, 7, 1000] {
            let mut reader = ProxyReader::default();
            for piece in header[..header.len() - 1].chunks(piece_len) {
                assert_eq!(reader.read(piece), Ok(None));
                assert!(reader.held.len() <= V2_BYTES_MAX);
            }
            let mut last = vec![0; 100_000];
            last[0] = *header.last().unwrap();
            assert_eq!(reader.read(&last), Ok(Some((ProxySource::Own, 1))));
            assert!(reader.held.len() <= V2_BYTES_MAX);
        }
    }
}

//! A request head, parsed and checked (RFC 6455 4.2.1, RFC 9112).

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use super::{HandshakeError, headers};

/// Headers of a request, at most.
pub const HEADERS_MAX: usize = 100;

/// The version of the WebSocket protocol that is served (RFC 6455 4.1).
pub const WEBSOCKET_VERSION: &str = "13";

/// Bytes of a decoded `Sec-WebSocket-Key`.
const KEY_BYTES: usize = 16;

/// Clients need not clear the two bits that the last character of a key does not use.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A well-formed HTTP/1.1 GET with a host and no body; perhaps an upgrade, perhaps not.
#[derive(Debug)]
pub struct Request<'h> {
    path: &'h str,
    headers: Vec<httparse::Header<'h>>,
}

impl<'h> Request<'h> {
    /// Parses a complete head.
    ///
    /// # Errors
    ///
    /// Everything that makes it no HTTP request that this server answers.
    pub fn parse(head: &'h [u8]) -> Result<Self, HandshakeError> {
        let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut storage);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(HandshakeError::HeaderLine),
            Err(error) => return Err(explain(error, head)),
        }
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(HandshakeError::RequestLine);
        };
        if minor != 1 {
            return Err(HandshakeError::HttpVersion);
        }
        if method != "GET" {
            return Err(HandshakeError::Method);
        }
        let (authority, path) = split_target(target)?;
        let request = Self { path, headers: parsed.headers.to_vec() };
        request.check_host(authority)?;
        request.check_no_body()?;
        Ok(request)
    }

    /// Whether the client asks for an upgrade to WebSocket (RFC 6455 4.2.1, items 3 and 4).
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        headers::has_token(self.all("upgrade"), "websocket")
            && headers::has_token(self.all("connection"), "upgrade")
    }

    /// Checks what an upgrade needs; returns the client's key.
    ///
    /// # Errors
    ///
    /// What is missing or wrong.
    pub fn upgrade_key(&self) -> Result<&'h str, HandshakeError> {
        if !self.is_upgrade() {
            return Err(HandshakeError::NoUpgrade);
        }
        if self.single("sec-websocket-version")? != Some(WEBSOCKET_VERSION.as_bytes()) {
            return Err(HandshakeError::WebSocketVersion);
        }
        let key = self.single("sec-websocket-key")?.ok_or(HandshakeError::Key)?;
        let key = std::str::from_utf8(key).map_err(|_| HandshakeError::Key)?;
        match KEY_BASE64.decode(key) {
            Ok(decoded) if decoded.len() == KEY_BYTES => {}
            _ => return Err(HandshakeError::Key),
        }
        self.check_protocols()?;
        // No extension is offered by this server yet; a malformed offer still fails (RFC 6455 9.1).
        for extensions in self.all("sec-websocket-extensions") {
            headers::check_extensions(extensions)?;
        }
        Ok(key)
    }

    /// The path with its query, such as `/chat?room=1`. Of an absolute target (RFC 9112 3.2.2)
    /// what follows the authority.
    #[must_use]
    pub const fn path(&self) -> &'h str {
        self.path
    }

    /// The headers in their order: name and value. A value is any bytes but control characters; a
    /// tab may be among them (RFC 9110 5.5).
    pub fn headers(&self) -> impl Iterator<Item = (&'h str, &'h [u8])> + '_ {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// The value of the first header called `name`, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'h [u8]> {
        self.all(name).next()
    }

    /// The subprotocols that the client offers, in its order of preference.
    pub fn protocols(&self) -> impl Iterator<Item = &'h str> + '_ {
        self.all("sec-websocket-protocol")
            .flat_map(headers::list)
            .filter_map(|token| std::str::from_utf8(token).ok())
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.headers()
            .filter(move |(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of a header of which there may be only one.
    fn single(&self, name: &str) -> Result<Option<&'h [u8]>, HandshakeError> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() { Err(HandshakeError::DuplicateHeader) } else { Ok(value) }
    }

    /// Checks that there is one host, and that it is the target's, if that has one: whoever looks
    /// at the header then sees what the request is for (RFC 9112 3.2.2).
    fn check_host(&self, authority: Option<&str>) -> Result<(), HandshakeError> {
        let host = self.single("host")?.unwrap_or_default();
        if host.is_empty() {
            return Err(HandshakeError::HostMissing);
        }
        let is_targets =
            authority.is_none_or(|authority| authority.as_bytes().eq_ignore_ascii_case(host));
        if is_targets && headers::is_host(host) { Ok(()) } else { Err(HandshakeError::Host) }
    }

    fn check_protocols(&self) -> Result<(), HandshakeError> {
        let mut headers = self.all("sec-websocket-protocol").peekable();
        if headers.peek().is_none() {
            return Ok(());
        }
        let mut protocols: Vec<_> = headers.flat_map(headers::list).collect();
        protocols.sort_unstable();
        let is_list = !protocols.is_empty()
            && protocols.iter().all(|protocol| headers::is_token(protocol))
            && protocols.is_sorted_by(|one, next| one < next);
        if is_list { Ok(()) } else { Err(HandshakeError::Protocols) }
    }

    fn check_no_body(&self) -> Result<(), HandshakeError> {
        let has_length = self.all("content-length").any(|length| length != b"0");
        let is_encoded = self.all("transfer-encoding").next().is_some();
        if has_length || is_encoded { Err(HandshakeError::Body) } else { Ok(()) }
    }
}

/// What the parser's error means.
fn explain(error: httparse::Error, head: &[u8]) -> HandshakeError {
    match error {
        httparse::Error::TooManyHeaders => HandshakeError::TooManyHeaders,
        httparse::Error::Version if names_a_version(head) => HandshakeError::HttpVersion,
        httparse::Error::Token | httparse::Error::NewLine | httparse::Error::Version => {
            HandshakeError::RequestLine
        }
        _ => HandshakeError::HeaderLine,
    }
}

/// Whether the request line has its three words, and the last is an HTTP version, if not ours.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (Some([_, ..]), Some([_, ..]), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let Some(number) = version.strip_prefix(b"HTTP/") else { return false };
    matches!(number, [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// The authority, if any, and the path with its query of a target in origin form or absolute form
/// (RFC 9112 3.2.1, 3.2.2).
fn split_target(target: &str) -> Result<(Option<&str>, &str), HandshakeError> {
    if !target.is_ascii() || target.contains('#') {
        return Err(HandshakeError::Target);
    }
    if target.starts_with('/') {
        return Ok((None, target));
    }
    let (scheme, rest) = target.split_once("://").ok_or(HandshakeError::Target)?;
    let is_known =
        ["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_len);
    match path {
        _ if !is_known || !headers::is_host(authority.as_bytes()) => Err(HandshakeError::Target),
        "" => Ok((Some(authority), "/")),
        path if path.starts_with('/') => Ok((Some(authority), path)),
        // A query without a path: nobody routes on that.
        _ => Err(HandshakeError::Target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_line_that_is_wrong() {
        let error = |head: &[u8]| Request::parse(head).expect_err("it is wrong");
        for head in [&b"\x01\r\n\r\n"[..], b"GET / HTTP/1.1 \r\n\r\n", b"GET / HTTX/1.1\r\n\r\n"] {
            assert_eq!(error(head), HandshakeError::RequestLine, "{}", head.escape_ascii());
        }
        assert_eq!(error(b"GET / HTTP/3.0\r\n\r\n"), HandshakeError::HttpVersion);
        assert_eq!(error(b"GET / HTTP/1.1\r\nA B: c\r\n\r\n"), HandshakeError::HeaderLine);
    }

    #[test]
    fn targets() {
        for (target, parts) in [
            ("/", Ok((None, "/"))),
            ("/chat?room=1", Ok((None, "/chat?room=1"))),
            ("http://example.com", Ok((Some("example.com"), "/"))),
            ("HTTP://example.com:80/chat", Ok((Some("example.com:80"), "/chat"))),
            ("ws://example.com?x", Err(HandshakeError::Target)),
            ("*", Err(HandshakeError::Target)),
            ("example.com:80", Err(HandshakeError::Target)),
            ("http:///path", Err(HandshakeError::Target)),
            ("http://user@example.com/", Err(HandshakeError::Target)),
            ("gopher://example.com/", Err(HandshakeError::Target)),
            ("/chat#part", Err(HandshakeError::Target)),
            ("/caf\u{e9}", Err(HandshakeError::Target)),
        ] {
            assert_eq!(split_target(target), parts, "{target}");
        }
    }

    #[test]
    fn a_request_shows_its_parts() {
        let request = Request::parse(
            b"GET /a?b HTTP/1.1\r\nHOST: h\r\nOrigin:  o \r\nSec-WebSocket-Protocol: x, y\r\n\
              Sec-WebSocket-Protocol: z\r\n\r\n",
        )
        .unwrap();
        assert_eq!(request.path(), "/a?b");
        assert_eq!(request.header("origin"), Some(&b"o"[..]));
        assert_eq!(request.header("absent"), None);
        assert_eq!(request.protocols().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(request.headers().count(), 4);
        assert!(!request.is_upgrade());
    }
}

//! Parses and validates a request head (RFC 6455 4.2.1, RFC 9112).

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use super::error::HandshakeError;
use super::headers::{self, WEBSOCKET_VERSION};
use super::request_line::{Method, RequestLine, Target};

/// Maximum number of headers of a request.
pub const HEADERS_MAX: usize = 100;

/// Bytes of a decoded `Sec-WebSocket-Key`.
const KEY_BYTES: usize = 16;

/// Clients need not clear the unused bits of a key's last character.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// A well-formed HTTP/1.x GET or HEAD without a body. It may ask for an upgrade.
#[derive(Debug)]
pub struct Request<'h> {
    method: Method,
    is_http_1_0: bool,
    host: Option<&'h str>,
    path: &'h str,
    query: Option<&'h str>,
    headers: Vec<httparse::Header<'h>>,
}

impl<'h> Request<'h> {
    /// Parses a complete head, as returned by [`HeadReader`](super::head::HeadReader).
    ///
    /// A minor version above 1 counts as HTTP/1.1 (RFC 9110 2.5).
    ///
    /// # Errors
    ///
    /// The first error in the request, whether it asks for an upgrade or not.
    pub fn parse(head: &'h [u8]) -> Result<Self, HandshakeError> {
        let (line, header_lines) = RequestLine::parse(head)?;
        let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let headers = match httparse::parse_headers(header_lines, &mut storage) {
            Ok(httparse::Status::Complete((_, headers))) => headers.to_vec(),
            Err(httparse::Error::TooManyHeaders) => return Err(HandshakeError::TooManyHeaders),
            Ok(httparse::Status::Partial) | Err(_) => return Err(HandshakeError::HeaderLine),
        };
        let method = line.method()?;
        let Target { authority, path, query } = line.target()?;
        let is_http_1_0 = line.is_http_1_0;
        let mut request = Self { method, is_http_1_0, host: None, path, query, headers };
        let host = request.host_header()?;
        request.host = authority.or(host);
        request.check_no_body()?;
        Ok(request)
    }

    /// Whether the client asks for an upgrade to WebSocket (RFC 6455 4.2.1, items 1, 3 and 4).
    ///
    /// `false` for a HEAD, and for an HTTP/1.0 request, in which `Upgrade` must be ignored
    /// (RFC 9110 7.8).
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.method == Method::Get
            && !self.is_http_1_0
            && headers::has_token(self.all("upgrade"), "websocket")
            && headers::has_token(self.all("connection"), "upgrade")
    }

    /// Checks the headers of an upgrade, and returns the client's key.
    ///
    /// # Errors
    ///
    /// The first header that is missing or invalid.
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
        // A malformed offer fails (RFC 6455 9.1), even if no extension is enabled.
        for extensions in self.all("sec-websocket-extensions") {
            headers::check_extensions(extensions)?;
        }
        Ok(key)
    }

    /// The method. A HEAD is answered like a GET: the server sends the response without its body.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// The requested host, with the port if the client names one, such as `example.com:9001`.
    /// `None` only if an HTTP/1.0 request has no `Host` header.
    ///
    /// The host of a target in absolute form overrides the `Host` header (RFC 9112 3.2.2).
    #[must_use]
    pub const fn host(&self) -> Option<&'h str> {
        self.host
    }

    /// The path of the target without the query, such as `/chat`. It always begins with a slash.
    ///
    /// Percent escapes are not decoded, and `..` is not resolved.
    #[must_use]
    pub const fn path(&self) -> &'h str {
        self.path
    }

    /// The query, such as `room=1` in `/chat?room=1`: everything after the first question mark,
    /// possibly empty. `None` without a question mark.
    #[must_use]
    pub const fn query(&self) -> Option<&'h str> {
        self.query
    }

    /// Name and value of each header, in order. Of the control characters, a value may contain only
    /// tabs (RFC 9110 5.5).
    pub fn headers(&self) -> impl Iterator<Item = (&'h str, &'h [u8])> + '_ {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// The value of the first header with this name, ignoring case.
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

    /// The extensions that the client offers, in its order of preference: each with its parameters,
    /// such as `permessage-deflate; client_max_window_bits` (RFC 6455 9.1).
    #[cfg(feature = "deflate")]
    pub(crate) fn extensions(&self) -> impl Iterator<Item = &'h [u8]> + '_ {
        // A quoted value is a token, so it contains no comma.
        self.all("sec-websocket-extensions").flat_map(headers::list)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.headers()
            .filter(move |(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of a header that may occur only once.
    fn single(&self, name: &str) -> Result<Option<&'h [u8]>, HandshakeError> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() { Err(HandshakeError::DuplicateHeader) } else { Ok(value) }
    }

    /// The `Host` header, required in HTTP/1.1 and optional in HTTP/1.0 (RFC 9112 3.2).
    fn host_header(&self) -> Result<Option<&'h str>, HandshakeError> {
        match self.single("host")? {
            None if self.is_http_1_0 => Ok(None),
            None | Some([]) => Err(HandshakeError::HostMissing),
            Some(host) => match std::str::from_utf8(host) {
                Ok(text) if headers::is_host(host) => Ok(Some(text)),
                _ => Err(HandshakeError::Host),
            },
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_malformed_line() {
        let error = |head: &[u8]| Request::parse(head).expect_err("a malformed head");
        for head in [&b"\x01\r\n\r\n"[..], b"GET / HTTP/1.1 \r\n\r\n", b"GET / HTTX/1.1\r\n\r\n"] {
            assert_eq!(error(head), HandshakeError::RequestLine, "{}", head.escape_ascii());
        }
        assert_eq!(error(b"GET / HTTP/3.0\r\n\r\n"), HandshakeError::HttpVersion);
        assert_eq!(error(b"GET / HTTP/1.1\r\nA B: c\r\n\r\n"), HandshakeError::HeaderLine);
    }

    #[test]
    fn a_request_is_parsed_into_its_parts() {
        let request = Request::parse(
            b"GET /a?b HTTP/1.1\r\nHOST: h\r\nOrigin:  o \r\nSec-WebSocket-Protocol: x, y\r\n\
              Sec-WebSocket-Protocol: z\r\n\r\n",
        )
        .unwrap();
        assert_eq!(request.method(), Method::Get);
        assert_eq!((request.path(), request.query()), ("/a", Some("b")));
        assert_eq!(request.host(), Some("h"));
        assert_eq!(request.header("origin"), Some(&b"o"[..]));
        assert_eq!(request.header("absent"), None);
        assert_eq!(request.protocols().collect::<Vec<_>>(), ["x", "y", "z"]);
        assert_eq!(request.headers().count(), 4);
        assert!(!request.is_upgrade());
    }

    #[test]
    fn the_host_of_the_target_overrides_the_header() {
        let host = |head: &'static [u8]| Request::parse(head).map(|request| request.host());
        assert_eq!(host(b"GET http://a:80/ HTTP/1.1\r\nHost: b\r\n\r\n"), Ok(Some("a:80")));
        assert_eq!(host(b"GET / HTTP/1.0\r\nHost: b\r\n\r\n"), Ok(Some("b")));
        assert_eq!(host(b"GET / HTTP/1.0\r\n\r\n"), Ok(None));
        assert_eq!(host(b"GET http://a/ HTTP/1.0\r\n\r\n"), Ok(Some("a")));
        assert_eq!(host(b"GET http://a/ HTTP/1.1\r\n\r\n"), Err(HandshakeError::HostMissing));
        let bad = b"GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n";
        assert_eq!(host(bad), Err(HandshakeError::Host));
    }

    #[test]
    fn only_a_get_of_http_1_1_or_later_is_an_upgrade() {
        for (line, is_upgrade) in [
            ("GET / HTTP/1.1", true),
            ("GET / HTTP/1.2", true),
            ("GET / HTTP/1.0", false),
            ("HEAD / HTTP/1.1", false),
        ] {
            let head = format!(
                "{line}\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            let request = Request::parse(head.as_bytes()).unwrap();
            assert_eq!(request.is_upgrade(), is_upgrade, "{line}");
            let refusal = request.upgrade_key().err();
            assert_eq!(refusal, (!is_upgrade).then_some(HandshakeError::NoUpgrade), "{line}");
        }
    }
}

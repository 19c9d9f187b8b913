//! The first line of a request (RFC 9112 3): method, target, version.

use super::error::HandshakeError;
use super::headers::{is_host, is_token};

/// A supported request method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// `GET`: a plain request, or a request for an upgrade.
    Get,
    /// `HEAD`: a GET whose response is sent without its body (RFC 9110 9.3.2).
    Head,
}

/// A request line of a supported HTTP version, with any method.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLine<'h> {
    method: &'h [u8],
    target: &'h [u8],
    /// Every other 1.x counts as HTTP/1.1 (RFC 9110 2.5).
    pub(super) is_http_1_0: bool,
}

impl<'h> RequestLine<'h> {
    /// Parses the first line of `head`. Also returns the header lines after it.
    ///
    /// httparse refuses minor versions above 1, so it gets only the header lines.
    pub(super) fn parse(head: &'h [u8]) -> Result<(Self, &'h [u8]), HandshakeError> {
        let end = head.iter().position(|byte| *byte == b'\r').unwrap_or(head.len());
        let (line, rest) = head.split_at(end);
        let header_lines = rest.strip_prefix(b"\r\n").ok_or(HandshakeError::RequestLine)?;
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(HandshakeError::RequestLine);
        };
        if !is_token(method) || target.is_empty() {
            return Err(HandshakeError::RequestLine);
        }
        // HTTP-version = "HTTP/" DIGIT "." DIGIT (RFC 9112 2.3).
        let is_http_1_0 = match version.strip_prefix(b"HTTP/") {
            Some([b'1', b'.', minor]) if minor.is_ascii_digit() => *minor == b'0',
            Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit() => {
                return Err(HandshakeError::HttpVersion);
            }
            _ => return Err(HandshakeError::RequestLine),
        };
        Ok((Self { method, target, is_http_1_0 }, header_lines))
    }

    /// The method, if it is supported.
    pub(super) const fn method(&self) -> Result<Method, HandshakeError> {
        match self.method {
            b"GET" => Ok(Method::Get),
            b"HEAD" => Ok(Method::Head),
            _ => Err(HandshakeError::Method),
        }
    }

    /// The parts of the target.
    pub(super) fn target(&self) -> Result<Target<'h>, HandshakeError> {
        Target::parse(self.target)
    }
}

/// A target in origin form or absolute form (RFC 9112 3.2.1, 3.2.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Target<'h> {
    /// Host and port of an absolute form.
    pub(super) authority: Option<&'h str>,
    pub(super) path: &'h str,
    pub(super) query: Option<&'h str>,
}

impl<'h> Target<'h> {
    fn parse(target: &'h [u8]) -> Result<Self, HandshakeError> {
        let is_visible = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
        let text = std::str::from_utf8(target).ok().filter(|_| target.iter().all(is_visible));
        let text = text.ok_or(HandshakeError::Target)?;
        let (authority, rest) = if text.starts_with('/') {
            (None, text)
        } else {
            let (scheme, rest) = text.split_once("://").ok_or(HandshakeError::Target)?;
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let is_known = ["http", "https", "ws", "wss"]
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known));
            if !is_known || !is_host(authority.as_bytes()) {
                return Err(HandshakeError::Target);
            }
            (Some(authority), rest)
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // An absolute form without a path means the root (RFC 9110 4.2.3).
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { authority, path, query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(Method, bool), HandshakeError> {
        let head = format!("{line}\r\n\r\n");
        let (line, header_lines) = RequestLine::parse(head.as_bytes())?;
        assert_eq!(header_lines, b"\r\n");
        Ok((line.method()?, line.is_http_1_0))
    }

    #[test]
    fn get_and_head_of_every_version_1_are_served() {
        for (line, parts) in [
            ("GET / HTTP/1.0", Ok((Method::Get, true))),
            ("GET / HTTP/1.1", Ok((Method::Get, false))),
            ("GET / HTTP/1.2", Ok((Method::Get, false))),
            ("HEAD / HTTP/1.0", Ok((Method::Head, true))),
            ("HEAD / HTTP/1.9", Ok((Method::Head, false))),
            ("POST / HTTP/1.1", Err(HandshakeError::Method)),
            ("head / HTTP/1.1", Err(HandshakeError::Method)),
            ("GET / HTTP/0.9", Err(HandshakeError::HttpVersion)),
            ("GET / HTTP/2.0", Err(HandshakeError::HttpVersion)),
            ("GET / HTTP/1.10", Err(HandshakeError::RequestLine)),
            ("GET / HTTP/11", Err(HandshakeError::RequestLine)),
            ("GET / HTTP/1.x", Err(HandshakeError::RequestLine)),
            ("GET / HTTPS/1.1", Err(HandshakeError::RequestLine)),
            ("GET /", Err(HandshakeError::RequestLine)),
            ("GET / HTTP/1.1 ", Err(HandshakeError::RequestLine)),
            ("GET  HTTP/1.1", Err(HandshakeError::RequestLine)),
            (" / HTTP/1.1", Err(HandshakeError::RequestLine)),
            ("G(T / HTTP/1.1", Err(HandshakeError::RequestLine)),
            ("", Err(HandshakeError::RequestLine)),
        ] {
            assert_eq!(parse(line), parts, "{line}");
        }
    }

    #[test]
    fn a_line_without_its_end_is_malformed() {
        for head in [&b"GET / HTTP/1.1"[..], b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\rHost: a\r\n"] {
            let error = RequestLine::parse(head).expect_err("the line does not end");
            assert_eq!(error, HandshakeError::RequestLine, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_target_has_authority_path_and_query() {
        for (target, parts) in [
            ("/", (None, "/", None)),
            ("/chat?room=1", (None, "/chat", Some("room=1"))),
            ("/?", (None, "/", Some(""))),
            ("/a?b?c", (None, "/a", Some("b?c"))),
            ("//a", (None, "//a", None)),
            ("http://example.com", (Some("example.com"), "/", None)),
            ("HTTP://example.com:80/chat", (Some("example.com:80"), "/chat", None)),
            ("ws://example.com?x", (Some("example.com"), "/", Some("x"))),
        ] {
            let (authority, path, query) = parts;
            let expected = Target { authority, path, query };
            assert_eq!(Target::parse(target.as_bytes()), Ok(expected), "{target}");
        }
        for bad in [
            "*",
            "example.com:80",
            "http:///path",
            "http://user@example.com/",
            "gopher://example.com/",
            "/chat#part",
            "/caf\u{e9}",
            "/a\u{1}b",
            "/a\u{7f}",
        ] {
            assert_eq!(Target::parse(bad.as_bytes()), Err(HandshakeError::Target), "{bad}");
        }
    }
}

//! Responses to a request: the 101 that opens a connection, or a plain HTTP response.

use std::io::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha1_smol::Sha1;

use super::error::HandshakeError;
use super::headers::{WEBSOCKET_VERSION, is_token};

/// Appended to the client's key before hashing (RFC 6455 4.2.2).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A complete HTTP response, after which the connection ends.
///
/// The server adds `Date`, `Content-Length` and `Connection: close`, and `Upgrade: websocket` if
/// the status is 426. It answers a HEAD with the same headers and no body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    status: u16,
    headers: ExtraHeaders,
    body: Vec<u8>,
}

impl Response {
    /// A response with `status` and no body.
    ///
    /// # Panics
    ///
    /// If `status` is not final, that is, 200 to 599.
    #[must_use]
    pub fn new(status: u16) -> Self {
        assert!((200..600).contains(&status), "{status} is not the status of a final response");
        Self { status, headers: ExtraHeaders::default(), body: Vec::new() }
    }

    /// A response with a line of plain text.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status)
            .header("Content-Type", "text/plain; charset=utf-8")
            .body(format!("{text}\n"))
    }

    /// Adds a header.
    ///
    /// # Panics
    ///
    /// If `name` is not a token, if `value` contains a control character (a peer's bytes must not
    /// become header lines), or if the server writes this header itself.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.add(name, value);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    fn add_reserved(mut self, name: &str, value: &str) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Appends the response with its body: the answer to a GET, or to a malformed request.
    ///
    /// `date` is the time of writing in the format of RFC 9110 5.6.7, such as
    /// `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn write(&self, date: &str, out: &mut Vec<u8>) {
        self.write_head(date, out);
        if self.has_body() {
            out.extend_from_slice(&self.body);
        }
    }

    /// Appends the response without its body: the answer to a HEAD. The headers are those of
    /// [`write`](Self::write), including `Content-Length` (RFC 9110 9.3.2).
    pub fn write_head(&self, date: &str, out: &mut Vec<u8>) {
        push(out, format_args!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status)));
        push(out, format_args!("Date: {date}\r\n"));
        self.headers.write(out);
        if self.has_body() {
            push(out, format_args!("Content-Length: {}\r\n", self.body.len()));
        }
        out.extend_from_slice(match self.status {
            // A 426 must name the protocol to upgrade to (RFC 9110 15.5.22, 7.8).
            426 => b"Upgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
            _ => b"Connection: close\r\n\r\n",
        });
    }

    /// Whether the status allows a body. Otherwise `Content-Length` is omitted too, as RFC 9110 8.6
    /// requires for a 204.
    const fn has_body(&self) -> bool {
        !matches!(self.status, 204 | 304)
    }
}

impl From<HandshakeError> for Response {
    fn from(error: HandshakeError) -> Self {
        let status = error.http_status();
        let response = Self::text(status, &error.to_string());
        match status {
            // RFC 9110 15.5.6.
            405 => response.header("Allow", "GET, HEAD"),
            // RFC 6455 4.4.
            426 => response.add_reserved("Sec-WebSocket-Version", WEBSOCKET_VERSION),
            _ => response,
        }
    }
}

/// Accepts a connection: the subprotocol and additional headers of the 101.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Accept {
    protocol: Option<String>,
    headers: ExtraHeaders,
    #[cfg(feature = "deflate")]
    without_deflate: bool,
}

impl Accept {
    /// Chooses a subprotocol. If the client did not offer it, the server answers 500 instead
    /// (RFC 6455 4.2.2, item 5).
    ///
    /// # Panics
    ///
    /// If `protocol` is not a token (RFC 9110 5.6.2).
    #[must_use]
    pub fn protocol(mut self, protocol: &str) -> Self {
        assert!(is_token(protocol.as_bytes()), "{protocol:?} is not a valid subprotocol");
        self.protocol = Some(protocol.to_owned());
        self
    }

    /// Adds a header to the 101.
    ///
    /// # Panics
    ///
    /// As [`Response::header`].
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.add(name, value);
        self
    }

    /// Declines permessage-deflate, even if the client offers it: for a connection that mixes secrets
    /// with text that others choose. See [`DeflateConfig`](crate::DeflateConfig).
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn without_deflate(mut self) -> Self {
        self.without_deflate = true;
        self
    }

    /// Whether permessage-deflate may be negotiated.
    #[cfg(feature = "deflate")]
    pub(crate) const fn allows_deflate(&self) -> bool {
        !self.without_deflate
    }

    /// The chosen subprotocol.
    #[must_use]
    pub fn chosen_protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Appends the 101 that answers a request with `key`.
    pub fn write(&self, key: &str, out: &mut Vec<u8>) {
        self.write_with(key, None, out);
    }

    /// Appends the 101 that answers a request with `key`, and accepts `extensions`.
    pub(crate) fn write_with(&self, key: &str, extensions: Option<&str>, out: &mut Vec<u8>) {
        push(
            out,
            format_args!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n",
                accept_value(key)
            ),
        );
        if let Some(protocol) = &self.protocol {
            push(out, format_args!("Sec-WebSocket-Protocol: {protocol}\r\n"));
        }
        if let Some(extensions) = extensions {
            push(out, format_args!("Sec-WebSocket-Extensions: {extensions}\r\n"));
        }
        self.headers.write(out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Validated headers from the embedding program.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct ExtraHeaders {
    lines: String,
}

impl ExtraHeaders {
    fn add(&mut self, name: &str, value: &str) {
        assert!(is_token(name.as_bytes()), "{name:?} is not a valid header name");
        assert!(!is_reserved(name), "the server writes {name} itself");
        let is_value = value.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control());
        assert!(is_value, "the value of {name} contains a control character");
        self.push(name, value);
    }

    fn push(&mut self, name: &str, value: &str) {
        for part in [name, ": ", value, "\r\n"] {
            self.lines.push_str(part);
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.lines.as_bytes());
    }
}

/// Whether the server writes this header itself: framing, handshake, date.
fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 5] =
        ["Connection", "Content-Length", "Date", "Transfer-Encoding", "Upgrade"];
    const PREFIX: &str = "Sec-WebSocket-";
    RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
        || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// The value of `Sec-WebSocket-Accept` for a client's key (RFC 6455 4.2.2, item 5).
#[must_use]
pub fn accept_value(key: &str) -> String {
    let mut sha1 = Sha1::new();
    sha1.update(key.as_bytes());
    sha1.update(GUID.as_bytes());
    BASE64_STANDARD.encode(sha1.digest().bytes())
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory does not fail");
}

const fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        // The phrase may be empty (RFC 9112 4).
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_accept_value_is_that_of_rfc_6455_1_3() {
        assert_eq!(accept_value("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_426_names_the_supported_version() {
        let refusal =
            written(|out| Response::from(HandshakeError::WebSocketVersion).write(DATE, out));
        assert_eq!(
            refusal,
            "HTTP/1.1 426 Upgrade Required\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Sec-WebSocket-Version: 13\r\nContent-Length: 43\r\nUpgrade: websocket\r\n\
             Connection: Upgrade, close\r\n\r\nonly Sec-WebSocket-Version 13 is supported\n"
        );
    }

    #[test]
    fn the_response_to_a_head_lacks_only_the_body() {
        for response in [Response::text(200, "ok"), Response::from(HandshakeError::NoUpgrade)] {
            let whole = written(|out| response.write(DATE, out));
            let head = written(|out| response.write_head(DATE, out));
            let (expected, body) = whole.split_once("\r\n\r\n").unwrap();
            assert_eq!(head, format!("{expected}\r\n\r\n"));
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        }
    }

    #[test]
    fn a_status_without_a_body_has_no_length() {
        for status in [204, 304] {
            let response = Response::new(status).body("ignored");
            let whole = written(|out| response.write(DATE, out));
            assert!(whole.ends_with("Connection: close\r\n\r\n"), "{whole}");
            assert!(!whole.contains("Content-Length"), "{whole}");
        }
    }

    #[test]
    fn a_405_names_the_supported_methods() {
        let refusal = written(|out| Response::from(HandshakeError::Method).write(DATE, out));
        assert!(refusal.contains("\r\nAllow: GET, HEAD\r\n"), "{refusal}");
    }

    #[test]
    fn a_101_carries_the_subprotocol_and_extra_headers() {
        let accept = Accept::default().protocol("chat").header("X-Served-By", "a");
        assert_eq!(
            written(|out| accept.write("dGhlIHNhbXBsZSBub25jZQ==", out)),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\
             X-Served-By: a\r\n\r\n"
        );
    }

    #[test]
    fn a_status_has_its_registered_reason_phrase() {
        for (status, phrase) in [
            (200, "OK"),
            (204, "No Content"),
            (301, "Moved Permanently"),
            (302, "Found"),
            (304, "Not Modified"),
            (307, "Temporary Redirect"),
            (308, "Permanent Redirect"),
            (400, "Bad Request"),
            (401, "Unauthorized"),
            (403, "Forbidden"),
            (404, "Not Found"),
            (405, "Method Not Allowed"),
            (408, "Request Timeout"),
            (426, "Upgrade Required"),
            (429, "Too Many Requests"),
            (431, "Request Header Fields Too Large"),
            (500, "Internal Server Error"),
            (503, "Service Unavailable"),
            (505, "HTTP Version Not Supported"),
            (299, ""),
        ] {
            let response = Response::new(status);
            assert_eq!(response.status(), status);
            let start = format!("HTTP/1.1 {status} {phrase}\r\n");
            assert!(written(|out| response.write(DATE, out)).starts_with(&start), "{status}");
        }
    }

    #[test]
    fn header_names_and_subprotocols_must_be_tokens() {
        for name in ["", "a b", "a\r\nb", "a:", "h\u{e9}"] {
            let header = std::panic::catch_unwind(|| Response::new(200).header(name, "a"));
            assert!(header.is_err(), "{name:?}");
            let protocol = std::panic::catch_unwind(|| Accept::default().protocol(name));
            assert!(protocol.is_err(), "{name:?}");
        }
    }

    #[test]
    #[should_panic(expected = "control character")]
    fn a_value_cannot_become_a_header_line() {
        let _ = Response::new(200).header("X-Name", "a\r\nSet-Cookie: b");
    }

    #[test]
    #[should_panic(expected = "writes content-length itself")]
    fn a_program_cannot_set_a_framing_header() {
        let _ = Response::new(200).header("content-length", "7");
    }

    #[test]
    #[should_panic(expected = "writes date itself")]
    fn a_program_cannot_set_the_date() {
        let _ = Response::new(200).header("date", DATE);
    }
}

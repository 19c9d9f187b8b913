//! Opening handshakes, good and bad, and the responses of a strict server (RFC 6455 4.2, RFC 9112).
//!
//! The server accepts every origin and path, and chooses neither subprotocol nor extension. So
//! every accepted request with the sample key is answered with `GOOD_RESPONSE`.

mod accepted;
mod refused;

/// The first bytes of a client, and the response that it must receive.
#[derive(Clone, Debug)]
pub struct RequestCase {
    pub name: &'static str,
    /// The section that demands it.
    pub rfc: &'static str,
    /// The request's head, and the bytes that the client sends directly after it.
    pub input: Vec<u8>,
    pub status: u16,
    /// Header lines that the answer must contain.
    pub headers: &'static [(&'static str, &'static str)],
    /// The bytes after the head of a 101: the answers to the frames in `input`. A refusal has a
    /// body instead, whose text is not checked.
    pub frames: Vec<u8>,
}

/// All cases: first the accepted requests, then the refused ones.
pub fn request_cases() -> Vec<RequestCase> {
    [accepted::cases(), refused::cases()].concat()
}

/// The request of RFC 6455 1.2, with only the headers that a server needs.
pub const GOOD_REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\
    \r\n";

/// The complete answer to `GOOD_REQUEST`.
pub const GOOD_RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    \r\n";

/// Maximum size of a head, including its last empty line.
pub const HEAD_BYTES_MAX: usize = 8192;

/// Maximum number of header lines.
pub const HEADERS_MAX: usize = 100;

/// The good request with another first line.
fn with_request_line(line: &str) -> Vec<u8> {
    head(&[&[line], &GOOD_LINES[1..]].concat())
}

/// The good request with one more header line.
fn with(line: &str) -> Vec<u8> {
    with_all(&[line])
}

/// The good request with more header lines.
fn with_all(lines: &[&str]) -> Vec<u8> {
    head(&[&GOOD_LINES[..], lines].concat())
}

/// The good request without one header.
fn without(name: &str) -> Vec<u8> {
    replaced(name, &[])
}

/// The good request with other lines in place of the header `name`.
fn replaced(name: &str, lines: &[&str]) -> Vec<u8> {
    let at = GOOD_LINES.iter().position(|line| line.split(':').next() == Some(name));
    let at = at.expect("the good request has this header");
    head(&[&GOOD_LINES[..at], lines, &GOOD_LINES[at + 1..]].concat())
}

/// The good request with another value of one header.
fn valued(name: &str, value: &str) -> Vec<u8> {
    replaced(name, &[&format!("{name}: {value}")])
}

/// The good request, padded to a head of `length` bytes.
fn padded(length: usize) -> Vec<u8> {
    let missing = length - GOOD_REQUEST.len() - "X-Padding: \r\n".len();
    with(&format!("X-Padding: {}", "x".repeat(missing)))
}

/// The good request, with further headers up to `count` in total.
fn numbered(count: usize) -> Vec<u8> {
    let missing = count - (GOOD_LINES.len() - 1);
    let lines: Vec<String> = (0..missing).map(|number| format!("X-{number}: x")).collect();
    with_all(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A head with these lines, and the empty line at its end.
fn head(lines: &[&str]) -> Vec<u8> {
    let mut head = lines.join("\r\n").into_bytes();
    head.extend(b"\r\n\r\n");
    head
}

/// The lines of `GOOD_REQUEST`.
const GOOD_LINES: [&str; 6] = [
    "GET /chat HTTP/1.1",
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
];

//! The opening handshake from the client's side (RFC 6455 section 4.1).
//!
//! Anything but the 101 that was asked for is a problem: no redirects, no authentication, no
//! extension or subprotocol, because none is offered.

use std::io::{self, ErrorKind, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mio::net::TcpStream;
use sha1_smol::Sha1;

use crate::args::Url;
use crate::problem::Problem;

/// A request on its way out and the head of the answer as far as it has come.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// Of which `written` bytes are written.
    request: Vec<u8>,
    written: usize,
    /// What Sec-WebSocket-Accept must be.
    accept: String,
    /// The answer up to its empty line; no more than `HEAD_BYTES_MAX` and one read.
    head: Vec<u8>,
}

impl Upgrade {
    pub(crate) fn new(url: &Url, connection: u32) -> Self {
        let key = STANDARD.encode(nonce(connection));
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n",
            url.target, url.authority
        );
        let digest = Sha1::from(format!("{key}{GUID}")).digest();
        Self {
            request: request.into_bytes(),
            written: 0,
            accept: STANDARD.encode(digest.bytes()),
            head: Vec::new(),
        }
    }

    /// Writes what the socket takes of the request.
    pub(crate) fn send(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.written < self.request.len() {
            match stream.write(&self.request[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what was read; when the right answer is complete, returns what came behind it.
    pub(crate) fn recv<'a>(&mut self, input: &'a [u8]) -> Result<Option<&'a [u8]>, Problem> {
        let known = self.head.len();
        self.head.extend_from_slice(input);
        // The empty line may have begun up to three bytes before this read.
        let from = known.saturating_sub(3);
        let end = self.head[from..].windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end.map(|position| from + position + 4) else {
            return match self.head.len() {
                0..=HEAD_BYTES_MAX => Ok(None),
                _ => Err(unexpected("a head of at most 16 KiB", "a longer one".to_owned())),
            };
        };
        self.head.truncate(end);
        self.judge()?;
        Ok(Some(&input[end - known..]))
    }

    /// The stream ended or broke before the answer was complete.
    pub(crate) fn cut(&self) -> Problem {
        match self.head.is_empty() {
            true => unexpected("an answer", "the end of the stream".to_owned()),
            false => unexpected("a whole answer", format!("only {}", self.status_line())),
        }
    }

    fn judge(&self) -> Result<(), Problem> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        if response.parse(&self.head).is_err() || response.code != Some(101) {
            return Err(unexpected("status 101", self.status_line()));
        }
        let values = |name: &str| -> Vec<&str> {
            let named =
                response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| std::str::from_utf8(header.value).unwrap_or("?").trim()).collect()
        };
        let has_token = |name: &str, token: &str| {
            let lines = values(name);
            let mut tokens = lines.iter().flat_map(|line| line.split(','));
            tokens.any(|value| value.trim().eq_ignore_ascii_case(token))
        };
        if !has_token("upgrade", "websocket") {
            return Err(unexpected("Upgrade: websocket", format!("{:?}", values("upgrade"))));
        }
        if !has_token("connection", "upgrade") {
            return Err(unexpected("Connection: Upgrade", format!("{:?}", values("connection"))));
        }
        let accept = values("sec-websocket-accept");
        if accept != [self.accept.as_str()] {
            return Err(unexpected("the Sec-WebSocket-Accept of our key", format!("{accept:?}")));
        }
        for name in ["sec-websocket-extensions", "sec-websocket-protocol"] {
            if !values(name).is_empty() {
                return Err(unexpected(
                    "no extension or subprotocol",
                    format!("{:?}", values(name)),
                ));
            }
        }
        Ok(())
    }

    /// The first line of the answer, safe to print.
    fn status_line(&self) -> String {
        let line = self.head.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or(&[]);
        line[..line.len().min(STATUS_LINE_BYTES_MAX)].escape_ascii().to_string()
    }
}

fn unexpected(expected: &'static str, got: String) -> Problem {
    Problem::Upgrade { expected, got }
}

/// Sixteen bytes of its own for every connection: a cached or swapped answer is found out.
fn nonce(connection: u32) -> [u8; 16] {
    let seed = u128::from(connection) + 1;
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
}

/// RFC 6455 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A server that answers at greater length has not understood the question.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// As many as a proxy in between may add.
const HEADERS_MAX: usize = 64;

/// How much of a status line is worth showing.
const STATUS_LINE_BYTES_MAX: usize = 120;

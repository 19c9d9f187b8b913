//! The opening handshake from the client's side (RFC 6455 section 4.1).
//!
//! Every answer except a 101 is an error: redirects are not followed, and no extension is offered.

use std::io::{self, ErrorKind, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1_smol::Sha1;

use crate::problem::Problem;

/// The parts of the request that all connections share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) target: String,
    /// The value of Host, unless a header replaces it.
    pub(crate) authority: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Subprotocols to offer.
    pub(crate) protocols: Vec<String>,
}

impl Request {
    fn to_text(&self, key: &str) -> String {
        let mut text = format!("GET {} HTTP/1.1\r\n", self.target);
        let mut add = |name: &str, value: &str| {
            text.push_str(name);
            text.push_str(": ");
            text.push_str(value);
            text.push_str("\r\n");
        };
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            add("Host", &self.authority);
        }
        add("Upgrade", "websocket");
        add("Connection", "Upgrade");
        add("Sec-WebSocket-Key", key);
        add("Sec-WebSocket-Version", "13");
        if !self.protocols.is_empty() {
            add("Sec-WebSocket-Protocol", &self.protocols.join(", "));
        }
        self.headers.iter().for_each(|(name, value)| add(name, value));
        text.push_str("\r\n");
        text
    }
}

/// The request, and the head of the answer received so far.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// `written` bytes of it are written.
    request: Vec<u8>,
    written: usize,
    /// The expected Sec-WebSocket-Accept.
    accept: String,
    /// The offered subprotocols, of which the server must choose one.
    protocols: Vec<String>,
    /// The answer up to its empty line: at most `HEAD_BYTES_MAX` plus one read.
    head: Vec<u8>,
}

impl Upgrade {
    pub(crate) fn new(shared: &Request, connection: u32) -> Self {
        let key = STANDARD.encode(nonce(connection));
        let digest = Sha1::from(format!("{key}{GUID}")).digest();
        Self {
            request: shared.to_text(&key).into_bytes(),
            written: 0,
            accept: STANDARD.encode(digest.bytes()),
            protocols: shared.protocols.clone(),
            head: Vec::new(),
        }
    }

    /// Writes as much of the request as the socket accepts.
    pub(crate) fn send(&mut self, stream: &mut impl Write) -> io::Result<()> {
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

    /// Processes input. Once the expected answer is complete, returns the bytes after it.
    pub(crate) fn recv<'a>(&mut self, input: &'a [u8]) -> Result<Option<&'a [u8]>, Problem> {
        let known = self.head.len();
        self.head.extend_from_slice(input);
        // The empty line may have begun up to three bytes before this read.
        let from = known.saturating_sub(3);
        let end = self.head[from..].windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end.map(|position| from + position + 4) else {
            return match self.head.len() {
                0..=HEAD_BYTES_MAX => Ok(None),
                _ => Err(unexpected("a head of at most 16 KiB", "a longer head".to_owned())),
            };
        };
        self.head.truncate(end);
        self.check()?;
        Ok(Some(&input[end - known..]))
    }

    /// The stream ended or broke before the answer was complete.
    pub(crate) fn cut(&self) -> Problem {
        match self.head.is_empty() {
            true => unexpected("an answer", "the end of the stream".to_owned()),
            false => unexpected("a complete answer", format!("only {}", self.status_line())),
        }
    }

    fn check(&self) -> Result<(), Problem> {
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
        let extensions = values("sec-websocket-extensions");
        if !extensions.is_empty() {
            return Err(unexpected("no extension", format!("{extensions:?}")));
        }
        let chosen = values("sec-websocket-protocol");
        match (self.protocols.is_empty(), &chosen[..]) {
            (true, []) => Ok(()),
            (true, _) => Err(unexpected("no subprotocol", format!("{chosen:?}"))),
            (false, [chosen]) if self.protocols.iter().any(|it| it == chosen) => Ok(()),
            (false, _) => {
                Err(unexpected("one of the subprotocols of --protocol", format!("{chosen:?}")))
            }
        }
    }

    /// The first line of the answer, escaped for printing.
    fn status_line(&self) -> String {
        let line = self.head.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or(&[]);
        line[..line.len().min(STATUS_LINE_BYTES_MAX)].escape_ascii().to_string()
    }
}

fn unexpected(expected: &'static str, got: String) -> Problem {
    Problem::Upgrade { expected, got }
}

/// Sixteen bytes, different for each connection, so that a cached or swapped answer is detected.
fn nonce(connection: u32) -> [u8; 16] {
    let seed = u128::from(connection) + 1;
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
}

/// RFC 6455 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Maximum length of an answer's head; 101s are far shorter.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Enough for the headers that proxies may add.
const HEADERS_MAX: usize = 64;

/// Maximum length of a printed status line.
const STATUS_LINE_BYTES_MAX: usize = 120;

//! A request gets the same verdict for every way to cut it. An accepted request has the headers
//! that RFC 6455 4.2.1 demands, according to a check without a parser.

use tungstenite::handshake::derive_accept_key;
use ws_reactor::protocol::{Accept, HandshakeError, HeadReader, Request, Response};

use super::pieces::{Pieces, cut};

/// The result of a request.
#[derive(Debug, Eq, PartialEq)]
enum Verdict {
    /// The request is incomplete.
    Wait,
    Refused(HandshakeError),
    Accepted {
        /// Length of the request. The bytes after it are frames.
        len: usize,
        answer: Vec<u8>,
    },
}

/// An empty line may precede the request line (RFC 9112 2.2).
const EMPTY_LINE: &[u8] = b"\r\n";

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

pub fn handshake(input: &[u8]) {
    let mut pieces = Pieces::new(input);
    let bytes_max = pieces.pick(&[8192, 64, 300]);
    let steps = pieces.steps();
    let input = pieces.rest();
    let whole = judge(&[input], bytes_max);
    assert_eq!(judge(&cut(input, &steps), bytes_max), whole, "cut at {steps:?}");
    assert_eq!(judge(&cut(input, &[1]), bytes_max), whole, "byte by byte");
    match whole {
        Verdict::Wait => assert!(input.len() < bytes_max, "an incomplete request above the limit"),
        Verdict::Refused(error) => check_refusal(error),
        Verdict::Accepted { len, answer } => {
            assert!(len <= bytes_max);
            let head = &input[..len];
            check_accepted(head.strip_prefix(EMPTY_LINE).unwrap_or(head), &answer);
        }
    }
}

fn judge(reads: &[&[u8]], bytes_max: usize) -> Verdict {
    let mut reader = HeadReader::default();
    let mut before = 0;
    for read in reads {
        match reader.read(read, bytes_max) {
            Ok(None) => before += read.len(),
            Ok(Some(head)) => {
                let len = before + head.consumed;
                assert!([len, len - EMPTY_LINE.len()].contains(&head.bytes.len()));
                return match answer(head.bytes) {
                    Ok(answer) => Verdict::Accepted { len, answer },
                    Err(error) => Verdict::Refused(error),
                };
            }
            Err(error) => return Verdict::Refused(error),
        }
    }
    Verdict::Wait
}

fn answer(head: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let request = Request::parse(head)?;
    assert!(request.path().starts_with('/') && !request.path().contains('?'));
    assert!(request.host().is_none_or(|host| !host.is_empty()));
    assert!(request.protocols().all(|protocol| !protocol.is_empty()));
    let key = request.upgrade_key()?;
    let mut answer = Vec::new();
    Accept::default().write(key, &mut answer);
    Ok(answer)
}

/// Checks the response to an invalid request: its status, its length, its date and its headers.
fn check_refusal(error: HandshakeError) {
    let mut answer = Vec::new();
    Response::from(error).write(DATE, &mut answer);
    let answer = String::from_utf8(answer).expect("the response is UTF-8");
    let status = error.http_status();
    assert!((400..600).contains(&status));
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head that ends");
    let has = |line: &str| head.split("\r\n").any(|found| found == line);
    assert!(has(&format!("Content-Length: {}", body.len())), "{answer}");
    assert!(has(&format!("Date: {DATE}")), "{answer}");
    assert!(
        has(if status == 426 { "Connection: Upgrade, close" } else { "Connection: close" }),
        "{answer}"
    );
}

/// Checks the request against RFC 6455 4.2.1 and the answer against 4.2.2.
fn check_accepted(head: &[u8], answer: &[u8]) {
    let lines = head.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
    let mut lines = lines.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
    let first = lines.next().expect("a first line");
    let (start, minor) = first.split_at(first.len() - 1);
    assert!(start.starts_with(b"GET ") && start.ends_with(b" HTTP/1."), "{}", ascii(first));
    assert!((b'1'..=b'9').contains(&minor[0]), "{}", ascii(first));
    let headers: Vec<(Vec<u8>, &[u8])> = lines
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
            (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii())
        })
        .collect();
    let values = |name: &str| -> Vec<&[u8]> {
        let named = headers.iter().filter(|(known, _)| known == name.as_bytes());
        named.map(|(_, value)| *value).collect()
    };
    let has_token = |name: &str, token: &str| {
        let values = values(name).join(&b","[..]).to_ascii_lowercase();
        values.split(|byte| *byte == b',').any(|value| value.trim_ascii() == token.as_bytes())
    };
    assert!(matches!(values("host")[..], [[_, ..]]), "a host");
    assert!(has_token("upgrade", "websocket") && has_token("connection", "upgrade"));
    assert_eq!(values("sec-websocket-version"), [b"13"]);
    assert!(values("transfer-encoding").is_empty());
    let [key] = values("sec-websocket-key")[..] else { panic!("one key") };
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    let digits = key.strip_suffix(b"==").expect("sixteen bytes in base64");
    assert!(digits.len() == 22 && digits.iter().all(is_base64), "{}", ascii(key));
    let expected = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key)
    );
    assert_eq!(ascii(answer), ascii(expected.as_bytes()));
}

fn ascii(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

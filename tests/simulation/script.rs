//! The bytes that a peer sends: a request, then random frames.

use std::ops::Range;

use crate::handler::commands;
use crate::support::frames::{
    BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client, close_payload,
};
use crate::support::model::{Opening, Rules};
use crate::support::requests::GOOD_REQUEST;
use crate::support::rng::CHARACTERS;
use crate::support::rng::Rng;

/// Generates the frames of a peer.
pub(crate) struct FrameGenerator<'s> {
    pub(crate) rng: &'s mut Rng,
    pub(crate) rules: Rules,
    /// Payload bytes that it may still generate.
    pub(crate) budget: usize,
}

/// Sizes at which the encoding of a length changes, or the server's way to handle a message.
const EDGES: [usize; 13] =
    [0, 1, 2, 125, 126, 127, 700, 4096, 16_384, 16_385, 40_000, 65_535, 65_536];

/// Texts that are commands to the handler.
const COMMANDS: [&str; 4] = ["!send 10", "!send 3000", "!send 40000", commands::NOTHING];

/// The numbers of the faults of [`FrameGenerator::fault`].
pub(crate) const FAULTS: Range<usize> = 0..20;

/// Requests that are refused, with their statuses.
const REFUSED: [(&str, u16); 15] = [
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
    ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ("GET / HTTP/1.0\r\n\r\n", 426),
    ("GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 426),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("HEAD / HTTP/1.0\r\n\r\n", 426),
    ("\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
    ("HEAD / HTTP/1.1\r\n\r\n", 400),
    ("HEAD / HTTP/1.1\nHost: a\n\n", 400),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\nHost: a\n\n", 400),
    ("\r\n\r\n", 400),
    ("\u{16}\u{3}\u{1}\u{0}ClientHello", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400),
    ("hello\r\n\r\n", 400),
];

/// First lines of requests that are accepted.
const GOOD_LINES: [&str; 4] = [
    "GET /chat HTTP/1.1",
    "GET /chat HTTP/1.9",
    "GET http://other.example.com/chat HTTP/1.1",
    "\r\nGET /chat?room=1 HTTP/1.1",
];

/// A request that opens the connection.
pub(crate) fn good_request(rng: &mut Rng) -> (Vec<u8>, Opening) {
    let headers = GOOD_REQUEST.strip_prefix(GOOD_LINES[0].as_bytes()).expect("its first line");
    let mut request = [rng.pick(&GOOD_LINES).as_bytes(), headers].concat();
    if rng.below(3) == 0 {
        let padding = format!("X-Padding: {}\r\n", "p".repeat(rng.below(600)));
        let end = request.len() - 2;
        request.splice(end..end, padding.bytes());
    }
    let head_len = request.len();
    (request, Opening { head_len, status: 101, is_head: false })
}

/// A request that is refused.
pub(crate) fn bad_request(rng: &mut Rng, request_bytes_max: usize) -> (Vec<u8>, Opening) {
    if rng.below(REFUSED.len() + 1) == 0 {
        let request = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(request_bytes_max));
        let opening = Opening { head_len: request_bytes_max, status: 431, is_head: false };
        return (request.into_bytes(), opening);
    }
    let (request, status) = rng.pick(&REFUSED);
    let is_head = request.trim_start().starts_with("HEAD ");
    (request.into(), Opening { head_len: request.len(), status, is_head })
}

impl FrameGenerator<'_> {
    /// A message or a control frame, in one frame or several.
    pub(crate) fn unit(&mut self) -> Vec<Vec<u8>> {
        match self.rng.below(12) {
            0 => vec![self.control(PING)],
            1 => vec![self.control(PONG)],
            2 => vec![self.frame(TEXT, self.rng.clone().pick(&COMMANDS).as_bytes())],
            3..6 => self.fragments(),
            _ => vec![self.message()],
        }
    }

    /// Many small frames in one piece.
    pub(crate) fn flood(&mut self) -> Vec<u8> {
        let frame = match self.rng.below(4) {
            0 => self.frame(TEXT, b""),
            1 => self.frame(PING, b"f"),
            2 => self.frame(PONG, b""),
            _ => self.frame(TEXT, b"flood"),
        };
        let count = 1 + self.rng.below(20_000);
        self.budget = self.budget.saturating_sub(frame.len() * count);
        frame.repeat(count)
    }

    /// A large binary message in one frame.
    pub(crate) fn large(&mut self) -> Vec<u8> {
        let len = (self.rules.message_bytes_max as usize).min(self.budget.max(20_000));
        let payload = self.bytes(len);
        self.frame(BINARY, &payload)
    }

    /// The start of a frame whose rest never comes.
    pub(crate) fn truncated(&mut self) -> Vec<u8> {
        let len = 126 + self.rng.below(self.rules.message_bytes_max as usize - 126);
        let payload = self.bytes(len);
        let opcode = self.rng.pick(&[TEXT, BINARY, PING]);
        if opcode == PING {
            return self.frame(PING, b"half a ping")[..9].to_vec();
        }
        let frame = self.frame(opcode, if opcode == TEXT { &[b'x'; 200] } else { &payload });
        frame[..self.rng.below(frame.len())].to_vec()
    }

    pub(crate) fn close(&mut self) -> Vec<u8> {
        let reason = ["", "bye", "au revoir, très cher", "語"];
        let payload = match self.rng.below(4) {
            0 => Vec::new(),
            _ => {
                let code = self.rng.pick(&[1000, 1001, 1011, 3000, 4999]);
                close_payload(code, self.rng.pick(&reason).as_bytes())
            }
        };
        self.frame(CLOSE, &payload)
    }

    /// A text that makes the handler end the connection.
    pub(crate) fn farewell(&mut self) -> Vec<u8> {
        let text = self.rng.pick(&[commands::CLOSE, commands::PANIC]);
        self.frame(TEXT, text.as_bytes())
    }

    /// The frames of fault number `which`.
    pub(crate) fn fault(&mut self, which: usize) -> Vec<u8> {
        let key = self.key();
        let good = client(TEXT, b"good").key(key);
        let fragment = client(TEXT, b"frag").key(key).fin(false);
        let bad_text: &[u8] = self.rng.pick(&[b"a\xFFb", b"\xC3\x28", b"\xED\xA0\x80", b"\xC3"]);
        match which {
            0 => good.rsv(1 + self.rng.below(7) as u8),
            1 => client(self.rng.pick(&[0x3, 0x7, 0xB, 0xF]), b"").key(key),
            2 => good.unmasked(),
            3 => good.length16(4),
            4 => good.length64(4),
            5 => good.length64(1 << 63),
            6 => client(PING, &[b'p'; 126]).key(key),
            7 => client(PONG, b"p").key(key).fin(false),
            8 => client(CONTINUATION, b"of nothing").key(key),
            9 => return [fragment.bytes(), good.bytes()].concat(),
            10 => client(CLOSE, b"\x03").key(key),
            11 => {
                let code = self.rng.pick(&[0, 999, 1004, 1005, 1006, 1015, 2999, 5000]);
                client(CLOSE, &close_payload(code, b"")).key(key)
            }
            12 => client(CLOSE, &close_payload(1000, b"\xFF")).key(key),
            13 => client(TEXT, bad_text).key(key),
            14 => {
                let end = client(CONTINUATION, bad_text).key(key);
                return [fragment.bytes(), end.bytes()].concat();
            }
            15 => good.length64(self.rules.message_bytes_max + 65_536),
            16 => client(CLOSE, &[0; 126]).key(key),
            17 => return self.too_many(),
            18 => {
                // The limit applies to the sum, even after a part of a streamed message has been
                // sent.
                let start = self.bytes(600);
                let start = client(BINARY, &start).key(key).fin(false).bytes();
                let end = client(CONTINUATION, b"").key(key);
                let end = end.length64(self.rules.message_bytes_max.max(65_536));
                return [start, end.bytes()].concat();
            }
            _ => good.length16(125),
        }
        .bytes()
    }

    fn too_many(&mut self) -> Vec<u8> {
        let max = self.rules.fragments_max.min(200);
        let opcode = self.rng.pick(&[TEXT, BINARY]);
        let mut bytes = self.fragment(opcode, b"", false);
        for _ in 0..max {
            bytes.extend(self.fragment(CONTINUATION, b"", false));
        }
        if max < self.rules.fragments_max {
            // The number is allowed, so add another fault.
            bytes.extend(self.fragment(BINARY, b"", true));
        }
        bytes
    }

    fn message(&mut self) -> Vec<u8> {
        let (opcode, payload) = self.payload();
        self.frame(opcode, &payload)
    }

    /// A message cut into fragments at random, with pings in between.
    fn fragments(&mut self) -> Vec<Vec<u8>> {
        let (opcode, payload) = self.payload();
        let count = 1 + self.rng.below((self.rules.fragments_max as usize).min(7));
        let mut cuts: Vec<_> = (1..count).map(|_| self.rng.below(payload.len() + 1)).collect();
        cuts.extend([0, payload.len()]);
        cuts.sort_unstable();
        let mut frames = Vec::new();
        for (at, cut) in cuts.windows(2).enumerate() {
            let opcode = if at == 0 { opcode } else { CONTINUATION };
            frames.push(self.fragment(opcode, &payload[cut[0]..cut[1]], at + 1 == count));
            if self.rng.below(3) == 0 {
                frames.push(self.control(PING));
            }
        }
        frames
    }

    fn payload(&mut self) -> (u8, Vec<u8>) {
        let most = (self.rules.message_bytes_max as usize).min(self.budget);
        let len = match self.rng.below(8) {
            0..4 => self.rng.pick(&EDGES),
            4 => most.saturating_sub(self.rng.below(2)),
            _ => self.rng.below(2000),
        };
        let len = len.min(most);
        if self.rng.below(2) == 0 { (TEXT, self.text(len)) } else { (BINARY, self.bytes(len)) }
    }

    fn text(&mut self, len: usize) -> Vec<u8> {
        let characters = if self.rng.below(2) == 0 { &['x'][..] } else { &CHARACTERS };
        self.budget = self.budget.saturating_sub(len);
        self.rng.text(len, characters).into_bytes()
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = self.rng.bytes(len);
        // Posted messages begin with a zero byte, so that the matcher can distinguish them.
        if let Some(first) = bytes.first_mut() {
            *first |= 1;
        }
        self.budget = self.budget.saturating_sub(len);
        bytes
    }

    fn control(&mut self, opcode: u8) -> Vec<u8> {
        let len = self.rng.pick(&[0, 1, 5, 124, 125]);
        let payload = self.bytes(len);
        self.frame(opcode, &payload)
    }

    fn frame(&mut self, opcode: u8, payload: &[u8]) -> Vec<u8> {
        self.fragment(opcode, payload, true)
    }

    fn fragment(&mut self, opcode: u8, payload: &[u8], fin: bool) -> Vec<u8> {
        client(opcode, payload).key(self.key()).fin(fin).bytes()
    }

    fn key(&mut self) -> [u8; 4] {
        if self.rng.below(8) == 0 { [0; 4] } else { (self.rng.next() as u32).to_be_bytes() }
    }
}

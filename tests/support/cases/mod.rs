//! Frames after the handshake, and the bytes with which a strict echo server answers them.
//!
//! The server echoes a text message in one frame. It echoes a binary message frame by frame if it
//! is fragmented or larger than 16 KiB. Other servers may echo in other frames, so these tables do
//! not apply to them. The output is the same for every way to cut an input into reads. An input may
//! end inside a frame's payload, but not inside a header or the payload of a streamed frame.

mod close;
mod fragments;
mod frames;
mod limits;
mod utf8;

use super::frames::{CLOSE, Frame, close_payload, server};

/// The input of a client, and the output that it must receive.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    /// The section that demands it.
    pub rfc: &'static str,
    /// The largest message that the server takes, inclusive.
    pub message_max: usize,
    /// The frames of the client after the handshake. The last one may be incomplete.
    pub input: Vec<u8>,
    /// All bytes that the server sends.
    pub output: Vec<u8>,
    /// Whether the server ends the connection after the output. If not, it waits for more.
    pub ends: bool,
}

/// Every case, in the order of the sections of RFC 6455.
pub fn frame_cases() -> Vec<Case> {
    [frames::cases(), fragments::cases(), utf8::cases(), close::cases(), limits::cases()].concat()
}

impl Case {
    fn new(name: &'static str, rfc: &'static str) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { name, rfc, message_max: MESSAGE_MAX_DEFAULT, input, output, ends: false }
    }

    /// A case whose frame is answered with another.
    fn answers(name: &'static str, rfc: &'static str, recv: Frame, send: Frame) -> Self {
        Self::new(name, rfc).recv(recv).send(send)
    }

    /// A case whose frame fails the connection.
    fn fails(name: &'static str, rfc: &'static str, recv: Frame, code: u16) -> Self {
        Self::new(name, rfc).recv(recv).close(code)
    }

    /// Lets the server take messages of at most `message_max` bytes.
    fn message_max(mut self, message_max: usize) -> Self {
        self.message_max = message_max;
        self
    }

    /// The client sends a frame.
    fn recv(mut self, frame: Frame) -> Self {
        self.input.extend(frame.bytes());
        self
    }

    /// The server sends a frame.
    fn send(mut self, frame: Frame) -> Self {
        self.output.extend(frame.bytes());
        self
    }

    /// The server sends a Close frame with this code and no reason, then ends the connection.
    fn close(mut self, code: u16) -> Self {
        self = self.send(server(CLOSE, &close_payload(code, b"")));
        self.ends = true;
        self
    }

    /// The server answers an empty Close frame with another one, then ends the connection.
    fn close_empty(mut self) -> Self {
        self = self.send(server(CLOSE, b""));
        self.ends = true;
        self
    }

    /// Whether the input is too long to be tried with a cut at every byte.
    pub fn is_big(&self) -> bool {
        self.input.len() > 2048
    }
}

/// `length` bytes of ASCII in which no two neighbours are equal.
fn letters(length: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(length).collect()
}

/// The default limit.
pub const MESSAGE_MAX_DEFAULT: usize = 1 << 20;

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;
const POLICY_VIOLATION: u16 = 1008;
const TOO_BIG: u16 = 1009;

//! The frames of a client and the calls of the server between them: the common input of both
//! servers.

use std::fmt;

use tungstenite::Message;

use super::frames::{self, BINARY, CLOSE, CONTINUATION, TEXT};

/// A connection after its handshake, step by step.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) message_max: usize,
    pub(crate) fragments_max: u32,
    pub(crate) steps: Vec<Step>,
    /// The seed of the cuts of the input into reads.
    pub(crate) seed: u64,
}

/// A frame of the client, and the server's calls before and within it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Before the frame's first byte.
    pub(crate) before: Vec<Act>,
    pub(crate) frame: Sent,
    /// In the middle of the frame's payload, which has at least two bytes.
    pub(crate) within: Vec<Act>,
}

/// A call of the server that is no answer to a frame.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A text, a binary message, or a ping.
    Send(Message),
    Close(u16, String),
}

/// A frame of the client, valid or not.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) fin: bool,
    pub(crate) rsv: u8,
    pub(crate) opcode: u8,
    pub(crate) masked: bool,
    pub(crate) length: Length,
    pub(crate) payload: Vec<u8>,
}

/// How a frame announces the length of its payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Length {
    Minimal,
    Sixteen,
    SixtyFour,
    /// This length in 64 bits, without any payload. It exceeds the limit of both servers.
    Huge(u64),
}

impl Script {
    pub(crate) const fn new(message_max: usize, steps: Vec<Step>) -> Self {
        Self { message_max, fragments_max: u32::MAX, steps, seed: 0 }
    }

    /// The limit of both servers for a frame. In tungstenite it applies to control frames too.
    pub(crate) fn frame_max(&self) -> usize {
        self.message_max.max(125)
    }

    pub(crate) fn without_acts(&self) -> Self {
        let steps = self.steps.iter().map(|step| Step::new(step.frame.clone())).collect();
        Self { steps, ..self.clone() }
    }

    /// Whether our close frame goes out before the frame `at`.
    pub(crate) fn is_closed_before(&self, at: usize) -> bool {
        self.steps[..=at]
            .iter()
            .flat_map(|step| &step.before)
            .any(|act| matches!(act, Act::Close(..)))
    }

    /// The number of frames and bytes of the incomplete message before frame `at`.
    pub(crate) fn incomplete_message(&self, at: usize) -> Option<(u32, u64)> {
        let mut incomplete_message = None;
        for frame in self.steps[..at].iter().map(|step| &step.frame) {
            if frame.opcode < CLOSE {
                let (count, bytes) = incomplete_message.unwrap_or_default();
                incomplete_message = (!frame.fin).then_some((count + 1, bytes + frame.announced()));
            }
        }
        incomplete_message
    }
}

impl Step {
    pub(crate) const fn new(frame: Sent) -> Self {
        Self { before: Vec::new(), frame, within: Vec::new() }
    }

    pub(crate) fn before(mut self, act: Act) -> Self {
        self.before.push(act);
        self
    }

    /// In the middle of the payload, if it has one.
    pub(crate) fn within(mut self, act: Act) -> Self {
        let has_middle = self.frame.payload.len() >= 2;
        if has_middle { &mut self.within } else { &mut self.before }.push(act);
        self
    }
}

impl Sent {
    /// A final, masked frame.
    pub(crate) fn new(opcode: u8, payload: &[u8]) -> Self {
        let payload = payload.to_vec();
        Self { fin: true, rsv: 0, opcode, masked: true, length: Length::Minimal, payload }
    }

    pub(crate) const fn fin(mut self, fin: bool) -> Self {
        self.fin = fin;
        self
    }

    pub(crate) const fn rsv(mut self, rsv: u8) -> Self {
        self.rsv = rsv;
        self
    }

    pub(crate) const fn length(mut self, length: Length) -> Self {
        self.length = length;
        self
    }

    /// A frame whose header begins with these two bytes, and whose other fields are valid.
    pub(crate) fn from_header(first: u8, second: u8) -> Self {
        let (length, payload_len) = match second & 0x7F {
            126 => (Length::Sixteen, 126),
            127 => (Length::Huge(1 << 16), 0),
            len => (Length::Minimal, usize::from(len)),
        };
        Self {
            fin: first & 0x80 != 0,
            rsv: first >> 4 & 0x7,
            opcode: first & 0xF,
            masked: second & 0x80 != 0,
            length,
            // UTF-8, after code 1000 in a close frame.
            payload: [&[0x03, 0xE8], &[b'a'; 124][..]].concat()[..payload_len.min(2)]
                .iter()
                .copied()
                .filter(|_| first & 0xF == CLOSE)
                .chain(std::iter::repeat(b'a'))
                .take(payload_len)
                .collect(),
        }
    }

    /// The length that the header announces.
    pub(crate) const fn announced(&self) -> u64 {
        match self.length {
            Length::Huge(length) => length,
            _ => self.payload.len() as u64,
        }
    }

    pub(crate) const fn is_minimal(&self) -> bool {
        match self.length {
            Length::Minimal => true,
            Length::Sixteen => self.payload.len() > 125,
            Length::SixtyFour => self.payload.len() > 65_535,
            Length::Huge(length) => length > 65_535,
        }
    }

    pub(crate) const fn is_data(&self) -> bool {
        matches!(self.opcode, CONTINUATION | TEXT | BINARY)
    }

    pub(crate) const fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }

    pub(crate) const fn is_reserved(&self) -> bool {
        !matches!(self.opcode, 0..=2 | 8..=10)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let payload = if matches!(self.length, Length::Huge(_)) { &[] } else { &self.payload[..] };
        let frame = frames::client(self.opcode, payload).fin(self.fin).rsv(self.rsv);
        let frame = if self.masked { frame } else { frame.unmasked() };
        match self.length {
            Length::Minimal => frame,
            Length::Sixteen => match u16::try_from(payload.len()) {
                Ok(length) => frame.length16(length),
                Err(_) => frame,
            },
            Length::SixtyFour => frame.length64(payload.len() as u64),
            Length::Huge(length) => frame.length64(length),
        }
        .bytes()
    }

    /// The index of the middle of the payload in the frame's [bytes](Self::bytes).
    pub(crate) fn middle(&self) -> usize {
        self.bytes().len() - self.payload.len() + self.payload.len() / 2
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.opcode {
            CONTINUATION => f.write_str("Continuation")?,
            TEXT => f.write_str("Text")?,
            BINARY => f.write_str("Binary")?,
            CLOSE => f.write_str("Close")?,
            frames::PING => f.write_str("Ping")?,
            frames::PONG => f.write_str("Pong")?,
            opcode => write!(f, "Opcode{opcode}")?,
        }
        if !self.fin {
            f.write_str(" more-follows")?;
        }
        if self.rsv != 0 {
            write!(f, " rsv{:03b}", self.rsv)?;
        }
        if !self.masked {
            f.write_str(" unmasked")?;
        }
        if self.length != Length::Minimal {
            write!(f, " {:?}", self.length)?;
        }
        write!(f, " {} bytes", self.payload.len())?;
        let shown = &self.payload[..self.payload.len().min(SHOWN_BYTES_MAX)];
        let rest = if shown.len() < self.payload.len() { "..." } else { "" };
        write!(f, " \"{}{rest}\"", shown.escape_ascii())
    }
}

const SHOWN_BYTES_MAX: usize = 160;

//! Messages that nobody thought of, the same again for the same seed.

use std::hash::{BuildHasher, RandomState};

use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::dice::Dice;

/// Dice that throw messages.
#[derive(Clone, Debug)]
pub struct Random(Dice);

/// Sizes at which the form of a frame's length, or the server's way with it, changes.
const EDGES: [usize; 10] = [0, 1, 125, 126, 127, 4095, 4096, 65_535, 65_536, 65_537];

/// A character of each length in UTF-8, and the last one before the surrogates.
pub const CHARACTERS: [char; 6] = ['a', 'Z', 'é', '語', '\u{d7ff}', '🦀'];

/// A seed that is new in every run, or that of the environment's `SEED`. Shown if the test fails.
pub fn seed() -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => RandomState::new().hash_one("seed"),
    };
    println!("to repeat this run: SEED={seed}");
    seed
}

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(Dice::new(seed))
    }

    pub const fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A number less than `bound`.
    pub const fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound)
    }

    /// Mostly small, sometimes at an edge, seldom as large as `max`.
    pub const fn len(&mut self, max: usize) -> usize {
        match self.below(100) {
            0..=14 => EDGES[self.below(EDGES.len())],
            15..=79 => self.below(2048),
            80..=97 => self.below(40_000),
            _ => self.below(max + 1),
        }
    }

    /// A text or binary message with a payload of `len` bytes.
    pub fn message(&mut self, len: usize) -> Message {
        if self.below(2) == 0 { Message::binary(self.bytes(len)) } else { self.text(len) }
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn text(&mut self, len: usize) -> Message {
        let mut text = String::with_capacity(len);
        while text.len() < len {
            let character = CHARACTERS[self.below(CHARACTERS.len())];
            let fits = text.len() + character.len_utf8() <= len;
            text.push(if fits { character } else { '.' });
        }
        Message::text(text)
    }

    /// `message` in up to `count_max` frames, cut anywhere: empty ones and halves of characters
    /// included.
    pub fn fragments(&mut self, message: &Message, count_max: usize) -> Vec<Message> {
        let kind = if message.is_text() { Data::Text } else { Data::Binary };
        let payload = message.clone().into_data();
        let mut cuts: Vec<_> =
            (0..self.below(count_max)).map(|_| self.below(payload.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(payload.len());
        let mut from = 0;
        let mut frames = Vec::new();
        for (index, &to) in cuts.iter().enumerate() {
            let opcode = OpCode::Data(if index == 0 { kind } else { Data::Continue });
            let is_final = index + 1 == cuts.len();
            frames.push(Message::Frame(Frame::message(payload.slice(from..to), opcode, is_final)));
            from = to;
        }
        frames
    }
}

//! Random messages for the tests whose client is tungstenite.

use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::rng::{CHARACTERS, Rng};

/// Sizes at which the encoding of a frame's length changes, or the server's way to handle it.
const EDGES: [usize; 10] = [0, 1, 125, 126, 127, 4095, 4096, 65_535, 65_536, 65_537];

/// A payload length of at most `max` bytes: mostly small, sometimes one of [`EDGES`].
pub fn random_len(rng: &mut Rng, max: usize) -> usize {
    match rng.below(100) {
        0..=14 => rng.pick(&EDGES),
        15..=79 => rng.below(2048),
        80..=97 => rng.below(40_000),
        _ => rng.below(max + 1),
    }
}

/// A text or binary message with a payload of `len` bytes.
pub fn random_message(rng: &mut Rng, len: usize) -> Message {
    match rng.below(2) {
        0 => Message::binary(rng.bytes(len)),
        _ => Message::text(rng.text(len, &CHARACTERS)),
    }
}

/// `message` in up to `count_max` frames. Fragments may be empty, or begin inside a character.
pub fn random_fragments(rng: &mut Rng, message: &Message, count_max: usize) -> Vec<Message> {
    let kind = if message.is_text() { Data::Text } else { Data::Binary };
    let payload = message.clone().into_data();
    let mut cuts: Vec<_> =
        (0..rng.below(count_max)).map(|_| rng.below(payload.len() + 1)).collect();
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

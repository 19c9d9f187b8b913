//! The messages of a run, encoded once, and their expected echoes.
//!
//! Frames lie back to back in one buffer, so that a batch of any length is one slice and one
//! write. Neighbouring payloads differ, and the cycle has an odd number of rounds, so a lost,
//! doubled or swapped message arrives as a payload other than the expected one.

use std::ops::Range;

use crate::frames::{self, OpCode};

/// A cycle of frames that every connection sends, each from its own starting point.
#[derive(Debug)]
pub(crate) struct Workload {
    opcode: OpCode,
    /// Masked frames: the cycle, then its beginning again for batches that cross its end.
    encoded: Vec<u8>,
    /// Frame i is `encoded[frame_starts[i]..frame_starts[i + 1]]`.
    frame_starts: Vec<usize>,
    /// The expected echoes of one cycle, including the server's prefix.
    echoes: Vec<u8>,
    /// Echo i is `echoes[echo_starts[i]..echo_starts[i + 1]]`.
    echo_starts: Vec<usize>,
    prefix_bytes: usize,
}

/// The bytes of payloads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// Printable ASCII.
    Ascii,
    /// Text with characters of one to four bytes.
    Utf8,
    /// Any bytes.
    Binary,
}

/// A position in the workload, after the first `skip` bytes of frame `frame`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    /// `frame < workload.period()`
    frame: usize,
    /// Less than the frame's length.
    skip: usize,
}

impl Workload {
    pub(crate) fn new(sizes: &[usize], depth: u64, content: Content, prefix: &str) -> Self {
        let opcode = content.opcode();
        let mask = frames::random_mask();
        let round_bytes = sizes.iter().sum::<usize>().max(1);
        let rounds = (CYCLE_BYTES / round_bytes).clamp(ROUNDS_MIN, ROUNDS_MAX) | 1;
        let period = sizes.len() * rounds;
        let mut workload = Self {
            opcode,
            encoded: Vec::new(),
            frame_starts: vec![0],
            echoes: Vec::new(),
            echo_starts: vec![0],
            prefix_bytes: prefix.len(),
        };
        for (index, &size) in sizes.iter().cycle().take(period).enumerate() {
            let payload = payload(size, index, content);
            frames::encode(opcode, &payload, mask, &mut workload.encoded);
            workload.frame_starts.push(workload.encoded.len());
            workload.echoes.extend_from_slice(prefix.as_bytes());
            workload.echoes.extend_from_slice(&payload);
            workload.echo_starts.push(workload.echoes.len());
        }
        for frame in 0..depth as usize {
            let range = workload.frame_starts[frame]..workload.frame_starts[frame + 1];
            if workload.encoded.len() + range.len() > OVERLAP_BYTES_MAX {
                break;
            }
            workload.encoded.extend_from_within(range);
            workload.frame_starts.push(workload.encoded.len());
        }
        workload
    }

    /// The starting point of `connection`. Connections start at different frames, so that an echo
    /// sent to the wrong connection is detected.
    pub(crate) fn start(&self, connection: u32) -> Cursor {
        Cursor { frame: connection as usize % self.period(), skip: 0 }
    }

    /// The bytes of up to `frames_max` frames from `cursor` on, never beyond the workload's end.
    pub(crate) fn run(&self, cursor: Cursor, frames_max: u64) -> &[u8] {
        let frames_left = self.frame_starts.len() - 1 - cursor.frame;
        let frames = usize::try_from(frames_max).map_or(frames_left, |max| max.min(frames_left));
        let start = self.frame_starts[cursor.frame] + cursor.skip;
        &self.encoded[start..self.frame_starts[cursor.frame + frames]]
    }

    /// Advances `cursor` by `bytes` of a run. Returns how many frames are now complete.
    pub(crate) fn advance(&self, cursor: &mut Cursor, bytes: usize) -> u64 {
        let offset = self.frame_starts[cursor.frame] + cursor.skip + bytes;
        let mut frame = cursor.frame;
        while self.frame_starts.get(frame + 1).is_some_and(|&end| end <= offset) {
            frame += 1;
        }
        let completed = (frame - cursor.frame) as u64;
        *cursor = Cursor { frame: frame % self.period(), skip: offset - self.frame_starts[frame] };
        completed
    }

    /// The expected echo of the frame at `cursor`.
    #[inline]
    pub(crate) fn echo(&self, cursor: Cursor) -> &[u8] {
        let Range { start, end } = self.echo_range(cursor);
        &self.echoes[start..end]
    }

    /// The payload sent in the frame at `cursor`.
    pub(crate) fn message(&self, cursor: Cursor) -> &[u8] {
        &self.echo(cursor)[self.prefix_bytes..]
    }

    /// The payload bytes sent in the frame at `cursor`.
    #[inline]
    pub(crate) fn message_bytes(&self, cursor: Cursor) -> u64 {
        (self.echo_range(cursor).len() - self.prefix_bytes) as u64
    }

    #[inline]
    pub(crate) fn next(&self, cursor: Cursor) -> Cursor {
        let frame = cursor.frame + 1;
        Cursor { frame: if frame == self.period() { 0 } else { frame }, skip: 0 }
    }

    pub(crate) fn opcode(&self) -> OpCode {
        self.opcode
    }

    fn period(&self) -> usize {
        self.echo_starts.len() - 1
    }

    fn echo_range(&self, cursor: Cursor) -> Range<usize> {
        self.echo_starts[cursor.frame]..self.echo_starts[cursor.frame + 1]
    }
}

impl Cursor {
    /// Whether a frame has been written in part.
    pub(crate) fn is_inside_frame(self) -> bool {
        self.skip > 0
    }
}

impl Content {
    pub(crate) fn opcode(self) -> OpCode {
        match self {
            Self::Ascii | Self::Utf8 => OpCode::Text,
            Self::Binary => OpCode::Binary,
        }
    }
}

/// Pseudo-random bytes. The first byte distinguishes neighbours even in messages of one byte.
pub(crate) fn payload(size: usize, index: usize, content: Content) -> Vec<u8> {
    let mut state = index as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut random = || {
        // xorshift64 (Marsaglia 2003), whose low bits are weak.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    };
    let printable = |value: u32| b' ' + (value % 95) as u8;
    let mut bytes = Vec::with_capacity(size);
    bytes.extend((size > 0).then(|| printable(index as u32)));
    while bytes.len() < size {
        let value = random();
        match content {
            Content::Ascii => bytes.push(printable(value)),
            Content::Binary => bytes.push(value as u8),
            Content::Utf8 => {
                let character = character(value);
                let is_short = bytes.len() + character.len_utf8() <= size;
                let character = if is_short { character } else { char::from(printable(value)) };
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
    bytes
}

/// A character of one to four bytes: ASCII, Greek or Cyrillic, Chinese, or a pictogram.
fn character(value: u32) -> char {
    let (first, count) = match value % 4 {
        0 => (0x20, 95),
        1 => (0x390, 0xC0),
        2 => (0x4E00, 0x5000),
        _ => (0x1F300, 0x300),
    };
    char::from_u32(first + value / 4 % count).unwrap_or('?')
}

/// Small enough that the workload, its echoes and the read buffer stay in a second-level cache.
const CYCLE_BYTES: usize = 128 << 10;

/// For large messages: three payloads distinguish a swap from a loss.
const ROUNDS_MIN: usize = 3;

/// For small messages: the workload fits into a first-level cache. It is a prime, so that the loss
/// of a batch of 2^n messages is always detected.
const ROUNDS_MAX: usize = 61;

/// A batch that crosses the cycle's end is one write up to this size, and two writes above it.
const OVERLAP_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_any_length_yield_the_same_bytes() {
        let workload = Workload::new(&[0, 1, 130], 500, Content::Ascii, "p:");
        let mut whole = Vec::new();
        let mut cut = Vec::new();
        let (mut cursor, mut frames) = (workload.start(5), 0);
        for step in (1..90).cycle().take(5000) {
            let run = workload.run(cursor, 3);
            let taken = step.min(run.len());
            cut.extend_from_slice(&run[..taken]);
            frames += workload.advance(&mut cursor, taken);
        }
        let mut other = workload.start(5);
        for _ in 0..frames {
            let run = workload.run(other, 1);
            whole.extend_from_slice(run);
            assert_eq!(workload.echo(other).len() as u64, workload.message_bytes(other) + 2);
            assert_eq!(workload.advance(&mut other, run.len()), 1);
        }
        assert_eq!(whole, cut[..whole.len()]);
        assert!(frames > 3 * 61 + 500);
    }

    #[test]
    fn text_of_any_size_is_utf8_with_characters_of_every_length() {
        for size in 0..200 {
            for index in 0..5 {
                let payload = payload(size, index, Content::Utf8);
                assert_eq!(payload.len(), size);
                let text = String::from_utf8(payload).expect("UTF-8");
                let has = |bytes: usize| text.chars().any(|char| char.len_utf8() == bytes);
                assert!(size < 199 || (1..=4).all(has), "{text}");
            }
        }
    }
}

//! Unmasking (RFC 6455 5.3): a payload XOR a key of four bytes, repeated.

use std::ops::Range;

/// A frame's masking key, advanced to the payload byte that comes next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MaskKey(pub [u8; 4]);

impl MaskKey {
    /// The key as it applies after `len` more payload bytes.
    #[must_use]
    pub const fn advance(self, len: usize) -> Self {
        // Byte i of the payload meets byte i mod 4 of the key.
        let rotate = 8 * (len % 4) as u32;
        Self(u32::from_le_bytes(self.0).rotate_right(rotate).to_le_bytes())
    }
}

/// Bytes that are moved before they are unmasked; a multiple of the key's length.
const CHUNK: usize = 8 * 1024;

impl MaskKey {
    /// Two keys end to end.
    const fn word(self) -> u64 {
        let [a, b, c, d] = self.0;
        u64::from_ne_bytes([a, b, c, d, a, b, c, d])
    }
}

/// Bytes that one step of the main loop takes: enough to vectorise on the default target.
const BLOCK: usize = 32;

/// Unmasks `payload` where it stands.
pub fn unmask(payload: &mut [u8], key: MaskKey) {
    let word = key.word();
    let mut blocks = payload.chunks_exact_mut(BLOCK);
    for block in &mut blocks {
        for lane in block.chunks_exact_mut(8) {
            store(lane, 0, load(lane, 0) ^ word);
        }
    }
    // A block holds whole keys, so the key starts afresh here, and again after the words.
    let mut words = blocks.into_remainder().chunks_exact_mut(8);
    for lane in &mut words {
        store(lane, 0, load(lane, 0) ^ word);
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.0.into_iter().cycle()) {
        *byte ^= key;
    }
}

/// Moves the payload at `source` down to `target` within `buf` and unmasks it on the way.
///
/// ```text
/// before  | ... | target      | source: masked payload |
/// after   | ... | payload              | stale bytes   |
/// ```
#[inline]
pub(super) fn unmask_down(buf: &mut [u8], source: Range<usize>, target: usize, key: MaskKey) {
    debug_assert!(target <= source.start && source.end <= buf.len());
    if target == source.start {
        return unmask(&mut buf[source], key);
    }
    let len = source.len();
    // A chunk is moved, and unmasked while it is in the first-level cache.
    for at in (0..len).step_by(CHUNK) {
        let end = len.min(at + CHUNK);
        buf.copy_within(source.start + at..source.start + end, target + at);
        unmask(&mut buf[target + at..target + end], key);
    }
}

fn load(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
}

fn store(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455 5.3, word for word.
    fn naive(payload: &[u8], key: [u8; 4]) -> Vec<u8> {
        payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect()
    }

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 131 + 7) as u8).collect()
    }

    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

    #[test]
    fn every_length_equals_the_naive_loop() {
        for len in (0..300).chain([4095, 4096, 65_535, 65_537]) {
            let mut unmasked = payload(len);
            unmask(&mut unmasked, MaskKey(KEY));
            assert_eq!(unmasked, naive(&payload(len), KEY), "{len}");
        }
    }

    #[test]
    fn a_payload_in_two_pieces_equals_the_whole() {
        let whole = naive(&payload(70), KEY);
        for cut in 0..=70 {
            let mut pieces = payload(70);
            let (first, second) = pieces.split_at_mut(cut);
            unmask(first, MaskKey(KEY));
            unmask(second, MaskKey(KEY).advance(cut));
            assert_eq!(pieces, whole, "{cut}");
        }
    }

    #[test]
    fn moving_down_keeps_every_byte() {
        for len in 0..150 {
            for distance in 0..40 {
                let mut buf = vec![0xEE; distance];
                buf.extend(payload(len));
                unmask_down(&mut buf, distance..distance + len, 0, MaskKey(KEY));
                assert_eq!(buf[..len], naive(&payload(len), KEY), "{len} by {distance}");
            }
        }
    }
}

//! Unmasking (RFC 6455 5.3): a payload XOR a key of four bytes, repeated.

use std::cell::Cell;
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

    /// Two keys end to end.
    const fn word(self) -> u64 {
        let [a, b, c, d] = self.0;
        u64::from_ne_bytes([a, b, c, d, a, b, c, d])
    }
}

/// Words that one step of the main loop takes: enough to vectorise on the default target.
const LANES: usize = 4;

/// The top bit of each byte: clear in all of ASCII.
const TOP_BITS: u64 = 0x8080_8080_8080_8080;

/// Unmasks `payload` where it stands; says whether it is all ASCII.
pub fn unmask(payload: &mut [u8], key: MaskKey) -> bool {
    let word = key.word();
    let mut seen = [0; LANES];
    let mut blocks = payload.chunks_exact_mut(8 * LANES);
    for block in &mut blocks {
        for (lane, seen) in block.chunks_exact_mut(8).zip(&mut seen) {
            let plain = load(lane, 0) ^ word;
            store(lane, 0, plain);
            *seen |= plain;
        }
    }
    // A block holds whole keys, so the key starts afresh here, and again after the words.
    let mut seen = seen.into_iter().fold(0, |all, lane| all | lane);
    let mut words = blocks.into_remainder().chunks_exact_mut(8);
    for lane in &mut words {
        let plain = load(lane, 0) ^ word;
        store(lane, 0, plain);
        seen |= plain;
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.0.into_iter().cycle()) {
        *byte ^= key;
        seen |= u64::from(*byte);
    }
    seen & TOP_BITS == 0
}

/// Moves the payload at `source` down to `target` within `buf` and unmasks it on the way; says
/// whether it is all ASCII.
///
/// ```text
/// before  | ... | target      | source: masked payload |
/// after   | ... | payload              | stale bytes   |
/// ```
#[inline]
pub(super) fn unmask_down(
    buf: &mut [u8],
    source: Range<usize>,
    target: usize,
    key: MaskKey,
) -> bool {
    debug_assert!(target <= source.start && source.end <= buf.len());
    if target == source.start {
        return unmask(&mut buf[source], key);
    }
    let len = source.len();
    let region = &mut buf[target..source.end];
    // Front to back, and each step loads before it stores: what is overwritten has been moved.
    // Cells may be seen through two slices at once, which spares a check at every step.
    let cells = Cell::from_mut(region).as_slice_of_cells();
    let source = &cells[cells.len() - len..];
    let target = &cells[..len];
    let word = key.word();
    let mut seen = 0;
    let mut targets = target.chunks_exact(8);
    let mut sources = source.chunks_exact(8);
    for (target, source) in (&mut targets).zip(&mut sources) {
        let masked: [u8; 8] = std::array::from_fn(|i| source[i].get());
        let plain = u64::from_ne_bytes(masked) ^ word;
        for (target, byte) in target.iter().zip(plain.to_ne_bytes()) {
            target.set(byte);
        }
        seen |= plain;
    }
    let rest = targets.remainder().iter().zip(sources.remainder());
    for ((target, source), key) in rest.zip(key.0.into_iter().cycle()) {
        let plain = source.get() ^ key;
        target.set(plain);
        seen |= u64::from(plain);
    }
    seen & TOP_BITS == 0
}

#[inline]
fn load(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes are eight bytes"))
}

#[inline]
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
            let is_ascii = unmask(&mut unmasked, MaskKey(KEY));
            assert_eq!(unmasked, naive(&payload(len), KEY), "{len}");
            assert_eq!(is_ascii, unmasked.is_ascii(), "{len}");
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
        for len in (0..300).chain([4099]) {
            for distance in (0..12).chain([31, 32, 33, 1000]) {
                let mut buf = vec![0xEE; distance];
                buf.extend(payload(len));
                unmask_down(&mut buf, distance..distance + len, 0, MaskKey(KEY));
                assert_eq!(buf[..len], naive(&payload(len), KEY), "{len} by {distance}");
            }
        }
    }

    #[test]
    fn one_byte_above_ascii_is_noticed_wherever_it_is() {
        for len in [1, 7, 8, 9, 31, 32, 33, 127, 128, 129, 200] {
            for at in 0..len {
                for distance in [0, 4] {
                    let mut plain = vec![b'a'; len];
                    let mut buf = vec![0xEE; distance];
                    buf.extend(naive(&plain, KEY));
                    assert!(unmask_down(
                        &mut buf.clone(),
                        distance..distance + len,
                        0,
                        MaskKey(KEY)
                    ));
                    plain[at] = 0x80;
                    buf.truncate(distance);
                    buf.extend(naive(&plain, KEY));
                    assert!(!unmask_down(&mut buf, distance..distance + len, 0, MaskKey(KEY)));
                }
            }
        }
    }
}

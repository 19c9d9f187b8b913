//! Unmasking (RFC 6455 5.3): a payload XOR a key of four bytes, repeated.

use std::cell::Cell;
use std::ops::{BitOr, Range};

use fearless_simd::{Level, Simd, dispatch};

/// A frame's masking key, rotated so that its first byte applies to the next payload byte.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MaskKey(pub [u8; 4]);

impl MaskKey {
    /// The key for the payload after the next `len` bytes.
    #[must_use]
    pub const fn advance(self, len: usize) -> Self {
        // Byte i of the payload is masked with byte i mod 4 of the key (RFC 6455 5.3).
        let rotate = 8 * (len % 4) as u32;
        Self(u32::from_le_bytes(self.0).rotate_right(rotate).to_le_bytes())
    }

    /// The key twice, to mask eight bytes at once.
    const fn word(self) -> u64 {
        let key = u32::from_ne_bytes(self.0) as u64;
        key | key << 32
    }
}

/// The top bit of each byte, which is clear in ASCII.
const TOP_BITS: u64 = 0x8080_8080_8080_8080;

/// From this length on, the CPU's widest vectors are worth the cost of detecting them.
const WIDE_BYTES_MIN: usize = 1024;

/// Bytes moved per step: two of the widest vectors.
const BLOCK_BYTES: usize = 128;

/// Unmasks `payload` in place, and returns whether it is all ASCII.
#[inline]
pub fn unmask(payload: &mut [u8], key: MaskKey) -> bool {
    let seen = if payload.len() < WIDE_BYTES_MIN {
        unmask_words(payload, key)
    } else {
        dispatch!(Level::new(), simd => unmask_wide(simd, payload, key))
    };
    is_ascii(seen)
}

/// Moves the payload at `source` down to `target` within `buf`, unmasks it on the way, and returns
/// whether it is all ASCII.
///
/// ```text
/// before  | ... | target      | source: masked payload |
/// after   | ... | payload              | stale bytes   |
/// ```
#[inline]
pub(crate) fn unmask_down(
    buf: &mut [u8],
    source: Range<usize>,
    target: usize,
    key: MaskKey,
) -> bool {
    debug_assert!(target <= source.start && source.end <= buf.len());
    let distance = source.start - target;
    let region = &mut buf[target..source.end];
    if distance == 0 {
        unmask(region, key)
    } else if region.len() < WIDE_BYTES_MIN {
        is_ascii(move_words(region, distance, key))
    } else {
        is_ascii(dispatch!(Level::new(), simd => move_wide(simd, region, distance, key)))
    }
}

const fn is_ascii(seen: u64) -> bool {
    seen & TOP_BITS == 0
}

/// Unmasks with the vectors of `S`, and returns the OR of all words.
#[inline(always)]
fn unmask_wide<S: Simd>(_: S, payload: &mut [u8], key: MaskKey) -> u64 {
    unmask_words(payload, key)
}

/// Unmasks word by word. The compiler vectorises the loop with the CPU features enabled in its
/// caller.
#[inline(always)]
fn unmask_words(payload: &mut [u8], key: MaskKey) -> u64 {
    let word = key.word();
    let mut seen = 0;
    let (words, rest) = payload.as_chunks_mut();
    for bytes in words {
        let plain = u64::from_ne_bytes(*bytes) ^ word;
        *bytes = plain.to_ne_bytes();
        seen |= plain;
    }
    // A word holds two whole keys, so the rest starts with the key's first byte.
    for (byte, key) in rest.iter_mut().zip(key.0.into_iter().cycle()) {
        *byte ^= key;
        seen |= u64::from(*byte);
    }
    seen
}

/// Moves all but the first `distance` bytes of `region` to its start and unmasks them, in blocks.
///
/// Each step loads before it stores, front to back, so a byte is moved before it is overwritten.
#[inline(always)]
fn move_wide<S: Simd>(_: S, region: &mut [u8], distance: usize, key: MaskKey) -> u64 {
    let word = key.word();
    // One accumulator for each word of the block, so that all stay in vectors until the end.
    let mut seen = [0; BLOCK_BYTES / 8];
    let mut at = 0;
    while at + distance + BLOCK_BYTES <= region.len() {
        let mut block = [0; BLOCK_BYTES];
        block.copy_from_slice(&region[at + distance..][..BLOCK_BYTES]);
        for (bytes, seen) in block.as_chunks_mut().0.iter_mut().zip(&mut seen) {
            let plain = u64::from_ne_bytes(*bytes) ^ word;
            *bytes = plain.to_ne_bytes();
            *seen |= plain;
        }
        region[at..][..BLOCK_BYTES].copy_from_slice(&block);
        at += BLOCK_BYTES;
    }
    let seen = seen.into_iter().fold(0, u64::bitor);
    seen | move_words(&mut region[at..], distance, key)
}

/// As [`move_wide`], word by word.
#[inline]
fn move_words(region: &mut [u8], distance: usize, key: MaskKey) -> u64 {
    // Slices of cells may overlap, which avoids a bounds check at every step.
    let cells = Cell::from_mut(region).as_slice_of_cells();
    let source = &cells[distance..];
    let target = &cells[..source.len()];
    let word = key.word();
    let mut seen = 0;
    let (targets, target_rest) = target.as_chunks::<8>();
    let (sources, source_rest) = source.as_chunks::<8>();
    for (target, source) in targets.iter().zip(sources) {
        let plain = u64::from_ne_bytes(source.each_ref().map(Cell::get)) ^ word;
        for (target, byte) in target.iter().zip(plain.to_ne_bytes()) {
            target.set(byte);
        }
        seen |= plain;
    }
    for ((target, source), key) in
        target_rest.iter().zip(source_rest).zip(key.0.into_iter().cycle())
    {
        let plain = source.get() ^ key;
        target.set(plain);
        seen |= u64::from(plain);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A transcription of RFC 6455 5.3.
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
    fn many_non_ascii_bytes_do_not_cancel_out() {
        for len in 1..1400 {
            for distance in [0, 4] {
                let mut buf = vec![0xEE; distance];
                buf.extend(naive(&vec![0x80; len], KEY));
                assert!(!unmask_down(&mut buf, distance..distance + len, 0, MaskKey(KEY)), "{len}");
            }
        }
    }

    #[test]
    fn one_non_ascii_byte_is_detected_at_every_position() {
        for len in [1, 7, 8, 9, 31, 32, 33, 127, 128, 129, 200, 1023, 1024, 1025, 1300] {
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

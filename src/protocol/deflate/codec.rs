//! Compresses and inflates messages, with memory that all connections of a worker share.

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::parameters::{DeflateConfig, WINDOW_BITS_MAX, WINDOW_BITS_MIN};
use crate::protocol::error::ProtocolError;

/// The end of an empty block, which a sender removes from each message (RFC 7692 7.2.1), and then an
/// empty last block, which shows whether the message ended with a whole block.
const TAIL: [u8; 9] = [0x00, 0x00, 0xFF, 0xFF, 0x01, 0x00, 0x00, 0xFF, 0xFF];

/// The part of the tail that a sender removes.
const FLUSH_BYTES: usize = 4;

/// Inflated bytes that are put to the check at once.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The first memory of an inflated message.
const INFLATED_BYTES_MIN: usize = 4 * 1024;

/// A worker's decompressor and compressors.
#[derive(Default)]
pub(crate) struct Codec {
    config: DeflateConfig,
    inflater: Option<Decompress>,
    /// One for each size of window in use.
    compressors: [Option<Compress>; (WINDOW_BITS_MAX - WINDOW_BITS_MIN + 1) as usize],
}

impl Codec {
    pub(crate) fn new(config: DeflateConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Inflates the payload of a message into `bytes`, whose stale bytes are overwritten and which
    /// grows as needed. Returns the length of the message. Each piece is put to `check` as soon as
    /// it is inflated.
    ///
    /// # Errors
    ///
    /// If the data is corrupt or incomplete, the message exceeds `bytes_max`, or `check` fails.
    pub(crate) fn inflate(
        &mut self,
        payload: &[u8],
        bytes: &mut Vec<u8>,
        bytes_max: usize,
        mut check: impl FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<usize, ProtocolError> {
        // A window of the largest size inflates messages of every smaller one.
        let inflater = self
            .inflater
            .get_or_insert_with(|| Decompress::new_with_window_bits(false, WINDOW_BITS_MAX));
        inflater.reset(false);
        let mut len = 0;
        let mut is_ended = false;
        for mut input in [payload, &TAIL] {
            // A message that ends with a last block is complete without the tail.
            if is_ended {
                break;
            }
            loop {
                if len == bytes.len() {
                    // One byte more than the limit shows that a message is too long.
                    let grown = (2 * len).max(INFLATED_BYTES_MIN).min(bytes_max.saturating_add(1));
                    bytes.resize(grown, 0);
                }
                let end = bytes.len().min(len + PIECE_BYTES_MAX);
                let (taken, made) = (inflater.total_in(), inflater.total_out());
                let status = inflater
                    .decompress(input, &mut bytes[len..end], FlushDecompress::None)
                    .map_err(|_| ProtocolError::Compression)?;
                let taken = (inflater.total_in() - taken) as usize;
                let made = (inflater.total_out() - made) as usize;
                input = &input[taken..];
                check(&bytes[len..len + made])?;
                len += made;
                if len > bytes_max {
                    return Err(ProtocolError::MessageTooBig);
                }
                is_ended = status == Status::StreamEnd;
                if is_ended {
                    // More blocks may follow a last block (RFC 7692 7.2.3.4).
                    inflater.reset(false);
                } else if taken + made == 0 && !input.is_empty() {
                    return Err(ProtocolError::Compression);
                }
                // With space left, the inflater holds back no output.
                if input.is_empty() && (is_ended || len < end) {
                    break;
                }
            }
        }
        if is_ended { Ok(len) } else { Err(ProtocolError::Compression) }
    }

    /// Appends the compressed payload to `out`, for a window of `window_bits`. Does nothing and
    /// returns `false` if the message is too short, or does not shrink.
    pub(crate) fn deflate(&mut self, payload: &[u8], window_bits: u8, out: &mut Vec<u8>) -> bool {
        if payload.len() < self.config.message_bytes_min {
            return false;
        }
        let level = Compression::new(self.config.level);
        let compressor = self.compressors[usize::from(window_bits - WINDOW_BITS_MIN)]
            .get_or_insert_with(|| Compress::new_with_window_bits(level, false, window_bits));
        compressor.reset();
        let start = out.len();
        out.reserve(payload.len() + FLUSH_BYTES + 1);
        let result = compressor.compress_vec(payload, out, FlushCompress::Sync);
        debug_assert!(result.is_ok(), "the compressor is used as documented");
        // With space left, the compressor holds back no output.
        let is_complete = result.is_ok()
            && compressor.total_in() == payload.len() as u64
            && out.len() < out.capacity()
            && out.ends_with(&TAIL[..FLUSH_BYTES]);
        let end = out.len().saturating_sub(FLUSH_BYTES).max(start);
        let shrinks = is_complete && end - start < payload.len();
        out.truncate(if shrinks { end } else { start });
        shrinks
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, ProtocolError> {
        let mut bytes = Vec::new();
        let len = Codec::default().inflate(payload, &mut bytes, bytes_max, |_| Ok(()))?;
        bytes.truncate(len);
        assert!(bytes.capacity() <= 2 * bytes_max.max(INFLATED_BYTES_MIN));
        Ok(bytes)
    }

    fn deflate(message: &[u8], window_bits: u8) -> Option<Vec<u8>> {
        let config = DeflateConfig { message_bytes_min: 0, ..DeflateConfig::default() };
        let mut out = b"before".to_vec();
        let shrinks = Codec::new(config).deflate(message, window_bits, &mut out);
        let rest = out.strip_prefix(b"before").expect("earlier output stays");
        assert_eq!(shrinks, !rest.is_empty());
        shrinks.then(|| rest.to_vec())
    }

    #[test]
    fn the_examples_of_rfc_7692_7_2_3_inflate() {
        let examples: [&[u8]; 4] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            // A block without compression.
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // A last block.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // Two blocks.
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for example in examples {
            assert_eq!(inflate(example, 5), Ok(b"Hello".to_vec()), "{example:x?}");
            assert_eq!(inflate(example, 4), Err(ProtocolError::MessageTooBig), "{example:x?}");
        }
        // An empty message (RFC 7692 7.2.3.6), and one whose last byte is missing.
        assert_eq!(inflate(&[0x00], 5), Ok(Vec::new()));
        assert_eq!(inflate(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5), Ok(b"Hello".to_vec()));
    }

    #[test]
    fn corrupt_and_incomplete_data_fails() {
        let whole = deflate(&b"a message that repeats a message ".repeat(9), 15).unwrap();
        for cut in 1..whole.len() - 1 {
            let result = inflate(&whole[..cut], 1 << 20);
            assert_eq!(result, Err(ProtocolError::Compression), "cut at {cut}");
        }
        // A block of the reserved type, and a distance to before the start.
        assert_eq!(inflate(&[0x06], 100), Err(ProtocolError::Compression));
        assert_eq!(inflate(&[0x4b, 0x04, 0x13, 0x00], 100), Err(ProtocolError::Compression));
    }

    #[test]
    fn a_compressed_message_inflates_to_itself_with_every_window() {
        let mut message = Vec::new();
        for number in 0..20_000_u32 {
            message.extend_from_slice(format!("{{\"id\":{number}}}").as_bytes());
        }
        for window_bits in 9..=15 {
            let compressed = deflate(&message, window_bits).expect("it shrinks");
            assert!(compressed.len() < message.len() / 2);
            let inflated = inflate(&compressed, message.len());
            assert!(inflated.as_ref() == Ok(&message), "{window_bits}");
            let result = inflate(&compressed, message.len() - 1);
            assert_eq!(result, Err(ProtocolError::MessageTooBig), "{window_bits}");
        }
    }

    #[test]
    fn a_message_that_does_not_shrink_is_not_compressed() {
        assert_eq!(deflate(b"", 15), None);
        assert_eq!(deflate(b"abc", 15), None);
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(100_000)
        .collect();
        assert_eq!(deflate(&noise, 15), None);
        let mut out = Vec::new();
        assert!(!Codec::default().deflate(&[b'a'; 255], 15, &mut out), "shorter than the minimum");
        assert!(Codec::default().deflate(&[b'a'; 256], 15, &mut out));
    }

    #[test]
    fn a_check_sees_all_bytes_and_stops_a_bomb() {
        let bomb = deflate(&vec![0; 1 << 20], 15).unwrap();
        let (mut bytes, mut seen) = (Vec::new(), 0);
        let result = Codec::default().inflate(&bomb, &mut bytes, 1 << 20, |piece| {
            assert!(piece.len() <= PIECE_BYTES_MAX);
            seen += piece.len();
            Ok(())
        });
        assert_eq!((result, seen), (Ok(1 << 20), 1 << 20));
        let mut bytes = Vec::new();
        let fails = |_: &[u8]| Err(ProtocolError::TextUtf8);
        let result = Codec::default().inflate(&bomb, &mut bytes, 1 << 20, fails);
        assert_eq!(result, Err(ProtocolError::TextUtf8));
        assert_eq!(bytes.len(), INFLATED_BYTES_MIN, "no more than the first piece was inflated");
    }
}

//! UTF-8 validation of a text message that arrives in pieces; fails on the first bad byte.

use simdutf8::compat::from_utf8;

/// The text holds a byte that no valid UTF-8 has at its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InvalidUtf8;

/// The incomplete sequence at the end of the pieces seen so far: at most three bytes of a four-byte
/// sequence, and room for the fourth.
#[derive(Debug, Default)]
pub(super) struct Utf8Tail {
    bytes: [u8; 4],
    len: usize,
}

impl Utf8Tail {
    /// Appends `piece` to `text`, but for an incomplete sequence at its end, which waits here.
    ///
    /// # Errors
    ///
    /// As soon as a byte cannot continue any valid text (RFC 3629 4), not at the end of the piece.
    pub(super) fn append(&mut self, text: &mut String, piece: &[u8]) -> Result<(), InvalidUtf8> {
        let piece = self.complete(text, piece)?;
        let error = match from_utf8(piece) {
            Ok(valid) => {
                text.push_str(valid);
                return Ok(());
            }
            Err(error) => error,
        };
        if error.error_len().is_some() {
            return Err(InvalidUtf8);
        }
        let (valid, incomplete) = piece.split_at(error.valid_up_to());
        text.push_str(from_utf8(valid).expect("valid up to here"));
        self.len = incomplete.len();
        self.bytes[..self.len].copy_from_slice(incomplete);
        Ok(())
    }

    /// The message is over: an incomplete sequence stays incomplete.
    pub(super) const fn finish(&self) -> Result<(), InvalidUtf8> {
        if self.len == 0 { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Feeds the waiting sequence from `piece`, byte by byte; returns the rest of `piece`.
    fn complete<'p>(
        &mut self,
        text: &mut String,
        mut piece: &'p [u8],
    ) -> Result<&'p [u8], InvalidUtf8> {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { break };
            piece = rest;
            self.bytes[self.len] = byte;
            self.len += 1;
            match std::str::from_utf8(&self.bytes[..self.len]) {
                Ok(character) => {
                    text.push_str(character);
                    self.len = 0;
                }
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a\u{e9}\u{20ac}\u{1f600}z\u{d7ff}\u{e000}\u{10ffff}";

    #[test]
    fn any_two_cuts_give_the_same_text() {
        let bytes = TEXT.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (mut tail, mut text) = (Utf8Tail::default(), String::new());
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    tail.append(&mut text, piece).unwrap();
                }
                tail.finish().unwrap();
                assert_eq!(text, TEXT);
            }
        }
    }

    /// The length of the longest prefix of `bytes` that some valid text starts with, by std.
    fn viable(bytes: &[u8]) -> usize {
        match std::str::from_utf8(bytes) {
            Ok(_) => bytes.len(),
            Err(error) if error.error_len().is_none() => bytes.len(),
            Err(error) => {
                let at = error.valid_up_to();
                let rest = &bytes[at..];
                (1..=rest.len())
                    .find(|&len| {
                        std::str::from_utf8(&rest[..len]).is_err_and(|e| e.error_len().is_some())
                    })
                    .map_or(bytes.len(), |len| at + len - 1)
            }
        }
    }

    #[test]
    fn every_sequence_of_three_bytes_fails_at_its_first_bad_byte() {
        let edges = [
            0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
            0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF,
        ];
        for a in edges {
            for b in edges {
                for c in edges {
                    let bytes = [a, b, c, b'x'];
                    let (mut tail, mut text) = (Utf8Tail::default(), String::new());
                    let failed_at = bytes
                        .iter()
                        .position(|byte| tail.append(&mut text, &[*byte]).is_err())
                        .unwrap_or(bytes.len());
                    assert_eq!(failed_at, viable(&bytes), "{bytes:x?}");
                }
            }
        }
    }
}

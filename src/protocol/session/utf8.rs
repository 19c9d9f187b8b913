//! Validates the UTF-8 of a text that arrives in pieces, and fails on the first invalid byte.

use simdutf8::compat::from_utf8;

/// The text cannot be, or become, valid UTF-8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InvalidUtf8;

/// Validates one text. Between pieces it holds the incomplete sequence at the end of the last
/// piece: at most three bytes, with space for the fourth.
#[derive(Debug, Default)]
pub(super) struct Utf8Check {
    bytes: [u8; 4],
    len: usize,
}

impl Utf8Check {
    /// Validates the next piece. `is_ascii` is the caller's promise that every byte is below 0x80,
    /// which skips the check.
    ///
    /// # Errors
    ///
    /// At the first byte that cannot continue a valid text (RFC 3629 4).
    pub(super) fn check(&mut self, piece: &[u8], is_ascii: bool) -> Result<(), InvalidUtf8> {
        if is_ascii && (self.len == 0 || piece.is_empty()) {
            return Ok(());
        }
        let piece = self.complete(piece)?;
        let Err(error) = from_utf8(piece) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(InvalidUtf8);
        }
        let incomplete = &piece[error.valid_up_to()..];
        self.len = incomplete.len();
        self.bytes[..self.len].copy_from_slice(incomplete);
        Ok(())
    }

    /// Ends the text. Fails if a sequence is still incomplete.
    pub(super) const fn finish(&self) -> Result<(), InvalidUtf8> {
        if self.len == 0 { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Completes the held sequence from `piece`, byte by byte, and returns the rest of `piece`.
    fn complete<'p>(&mut self, mut piece: &'p [u8]) -> Result<&'p [u8], InvalidUtf8> {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { break };
            piece = rest;
            self.bytes[self.len] = byte;
            self.len += 1;
            match std::str::from_utf8(&self.bytes[..self.len]) {
                Ok(_) => self.len = 0,
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
    fn a_valid_text_is_valid_in_any_three_pieces() {
        let bytes = TEXT.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let mut check = Utf8Check::default();
                for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                    check.check(piece, piece.is_ascii()).unwrap();
                    let is_whole = TEXT
                        .is_char_boundary(piece.as_ptr_range().end.addr() - bytes.as_ptr().addr());
                    assert_eq!(check.finish().is_ok(), is_whole);
                }
            }
        }
    }

    /// The length of the longest prefix of `bytes` that can begin a valid text, according to `std`.
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
    fn every_sequence_of_three_bytes_fails_at_its_first_invalid_byte() {
        let edges = [
            0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0,
            0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF,
        ];
        for a in edges {
            for b in edges {
                for c in edges {
                    let bytes = [a, b, c, b'x'];
                    let mut check = Utf8Check::default();
                    let failed_at = bytes
                        .iter()
                        .position(|byte| check.check(&[*byte], byte.is_ascii()).is_err())
                        .unwrap_or(bytes.len());
                    assert_eq!(failed_at, viable(&bytes), "{bytes:x?}");
                }
            }
        }
    }
}

//! Finds the end of a request head that arrives in pieces, and examines each byte once.
//!
//! The scan resumes where it stopped, so a head sent byte by byte costs no more than a head sent
//! whole (parsing from the start at every read is quadratic: CVE-2023-43669). It rejects input that
//! the parser would tolerate: line feeds without carriage returns, NUL, folded headers (RFC 9112
//! 2.2, 5.2). It skips one empty line before the request line, which some clients send (RFC 9112
//! 2.2), and rejects a second one.

use super::error::HandshakeError;

/// Length of `HEAD ` and of an empty line before it.
const FIRST_BYTES: usize = 7;

/// Reads one request head.
#[derive(Debug, Default)]
pub struct HeadReader {
    at: At,
    scanned: usize,
    /// The first bytes of the input. They show whether the method is HEAD, even if the end of the
    /// head never arrives.
    first: [u8; FIRST_BYTES],
    first_len: u8,
    /// The head so far, if it did not arrive in one read.
    held: Vec<u8>,
}

/// The position after the last byte scanned.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Start,
    /// The carriage return of the empty line before the request line.
    FirstCarriageReturn,
    RequestLineStart,
    WithinLine,
    CarriageReturn,
    LineStart,
    LastCarriageReturn,
}

/// A complete request head, and the number of input bytes that belong to it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Head<'h> {
    /// The head, from the request line to the empty line that ends it, inclusive.
    pub bytes: &'h [u8],
    /// Bytes of the last input that belong to the head, including an empty line before it. Frames
    /// follow.
    pub consumed: usize,
}

impl HeadReader {
    /// Reads the next piece. `None` if the head does not end in `input`, all of which is then
    /// consumed.
    ///
    /// # Errors
    ///
    /// At the first byte that cannot be part of a request head, or if the head does not end within
    /// `bytes_max` bytes.
    pub fn read<'h>(
        &'h mut self,
        input: &'h [u8],
        bytes_max: usize,
    ) -> Result<Option<Head<'h>>, HandshakeError> {
        self.note_first(input);
        let Some(consumed) = self.scan(input, bytes_max)? else {
            self.hold(input, bytes_max);
            return Ok(None);
        };
        let input = &input[..consumed];
        if self.held.is_empty() {
            return Ok(Some(Head { bytes: without_empty_line(input), consumed }));
        }
        self.hold(input, bytes_max);
        Ok(Some(Head { bytes: without_empty_line(&self.held), consumed }))
    }

    /// Whether the method is HEAD, whose response must have no body (RFC 9110 9.3.2): see
    /// [`Response::write_head`](super::response::Response::write_head). The result is valid after
    /// an error too, once the method has been read.
    #[must_use]
    pub fn is_head_request(&self) -> bool {
        without_empty_line(&self.first[..usize::from(self.first_len)]).starts_with(b"HEAD ")
    }

    fn note_first(&mut self, input: &[u8]) {
        let missing = &mut self.first[usize::from(self.first_len)..];
        let len = missing.len().min(input.len());
        missing[..len].copy_from_slice(&input[..len]);
        self.first_len += len as u8;
    }

    /// Keeps a piece of the head. Memory doubles to avoid repeated copies, up to the longest
    /// permitted head.
    fn hold(&mut self, piece: &[u8], bytes_max: usize) {
        let needed = self.held.len() + piece.len();
        if needed > self.held.capacity() {
            let grown = (2 * self.held.capacity()).min(bytes_max).max(needed);
            self.held.reserve_exact(grown - self.held.len());
        }
        self.held.extend_from_slice(piece);
    }

    /// Returns the position in `input` after the end of the head.
    fn scan(&mut self, input: &[u8], bytes_max: usize) -> Result<Option<usize>, HandshakeError> {
        let scannable = input.len().min(bytes_max.saturating_sub(self.scanned));
        for (i, byte) in input[..scannable].iter().enumerate() {
            self.at = match (self.at, byte) {
                (_, 0) => return Err(HandshakeError::Nul),
                (At::LastCarriageReturn, b'\n') => return Ok(Some(i + 1)),
                (At::CarriageReturn, b'\n') => At::LineStart,
                (At::FirstCarriageReturn, b'\n') => At::RequestLineStart,
                (At::CarriageReturn | At::LastCarriageReturn | At::FirstCarriageReturn, _) => {
                    return Err(HandshakeError::BareCarriageReturn);
                }
                (_, b'\n') => return Err(HandshakeError::BareLineFeed),
                (At::Start, b'\r') => At::FirstCarriageReturn,
                (At::RequestLineStart, b'\r') => return Err(HandshakeError::RequestLine),
                (At::WithinLine, b'\r') => At::CarriageReturn,
                (At::LineStart, b'\r') => At::LastCarriageReturn,
                (At::LineStart, b' ' | b'\t') => return Err(HandshakeError::FoldedHeader),
                (At::Start | At::RequestLineStart | At::LineStart | At::WithinLine, _) => {
                    At::WithinLine
                }
            };
        }
        self.scanned += scannable;
        if self.scanned >= bytes_max { Err(HandshakeError::HeadTooLarge) } else { Ok(None) }
    }
}

/// Strips the empty line that may precede a request (RFC 9112 2.2).
fn without_empty_line(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\r\n").unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn any_two_cuts_find_the_same_head() {
        let input = [HEAD, b"\x81\x80frames"].concat();
        for first in 0..HEAD.len() {
            for second in first..HEAD.len() {
                let mut reader = HeadReader::default();
                assert!(reader.read(&input[..first], 100).unwrap().is_none());
                assert!(reader.read(&input[first..second], 100).unwrap().is_none());
                let head = reader.read(&input[second..], 100).unwrap().unwrap();
                assert_eq!((head.bytes, head.consumed), (HEAD, HEAD.len() - second));
            }
        }
    }

    #[test]
    fn an_empty_line_before_the_request_line_is_skipped_and_counts() {
        let input = [b"\r\n", HEAD].concat();
        for cut in 0..input.len() {
            let mut reader = HeadReader::default();
            assert!(reader.read(&input[..cut], input.len()).unwrap().is_none());
            let head = reader.read(&input[cut..], input.len()).unwrap().unwrap();
            assert_eq!((head.bytes, head.consumed), (HEAD, input.len() - cut));
        }
        let error = HeadReader::default().read(&input, input.len() - 1).unwrap_err();
        assert_eq!(error, HandshakeError::HeadTooLarge);
        let error = HeadReader::default().read(b"\r\n\r\n", 100).unwrap_err();
        assert_eq!(error, HandshakeError::RequestLine);
    }

    #[test]
    fn a_head_request_is_recognised_in_any_two_pieces_and_despite_errors() {
        for (input, is_head) in [
            (&b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"[..], true),
            (b"\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            (b"HEAD / HTTP/1.1\nHost: a\n\n", true),
            (b"HEAD / HTTP/1.1\r\nNot ended", true),
            (b"HEAD", false),
            (b"HEADS / HTTP/1.1\r\n\r\n", false),
            (b"head / HTTP/1.1\r\n\r\n", false),
            (HEAD, false),
        ] {
            for cut in 0..input.len() {
                let mut reader = HeadReader::default();
                if reader.read(&input[..cut], 100).is_ok() {
                    let _ = reader.read(&input[cut..], 100);
                }
                let input = input.escape_ascii();
                assert_eq!(reader.is_head_request(), is_head, "{input}, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_head_in_pieces_takes_no_more_memory_than_the_limit() {
        for piece_len in [1, 7, 3000] {
            let mut reader = HeadReader::default();
            for piece in [b'x'; 8191].chunks(piece_len) {
                assert!(reader.read(piece, 8192).unwrap().is_none());
                assert!(reader.held.capacity() <= 8192, "in pieces of {piece_len}");
            }
        }
    }

    #[test]
    fn the_limit_is_inclusive_and_applies_without_further_input() {
        let read =
            |bytes_max| HeadReader::default().read(HEAD, bytes_max).map(|head| head.is_some());
        assert_eq!(read(HEAD.len()), Ok(true));
        assert_eq!(read(HEAD.len() - 1), Err(HandshakeError::HeadTooLarge));
    }
}

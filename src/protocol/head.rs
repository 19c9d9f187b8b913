//! Finds the end of a request head that arrives in pieces; each byte is looked at once.
//!
//! The scan resumes where it stopped, so a head sent byte by byte costs no more than a head sent
//! whole (parsing from the start at every read is quadratic, and was an advisory elsewhere). It
//! refuses what the parser behind it would forgive: line feeds without carriage returns, empty
//! leading lines, NUL, folded headers (RFC 9112 2.2, 5.2).

use super::HandshakeError;

/// Reads one request head.
#[derive(Debug, Default)]
pub struct HeadReader {
    at: At,
    scanned: usize,
    /// The head so far, if it did not arrive in one read.
    held: Vec<u8>,
}

/// What the last byte was.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Start,
    WithinLine,
    CarriageReturn,
    LineStart,
    LastCarriageReturn,
}

/// A complete request head, after which its reader is done, and what it took of the input.
#[derive(Debug)]
#[non_exhaustive]
pub struct Head<'h> {
    /// The head, the empty line included.
    pub bytes: &'h [u8],
    /// Bytes of the input that belong to the head. What follows are frames.
    pub consumed: usize,
}

impl HeadReader {
    /// Reads on; `None` if the head does not end in `input`, all of which is then consumed.
    ///
    /// # Errors
    ///
    /// As soon as a byte is read that no request head has at its place, or `bytes_max` bytes are
    /// read and the head has not ended.
    pub fn read<'h>(
        &'h mut self,
        input: &'h [u8],
        bytes_max: usize,
    ) -> Result<Option<Head<'h>>, HandshakeError> {
        let Some(consumed) = self.scan(input, bytes_max)? else {
            self.hold(input, bytes_max);
            return Ok(None);
        };
        let input = &input[..consumed];
        if self.held.is_empty() {
            return Ok(Some(Head { bytes: input, consumed }));
        }
        self.hold(input, bytes_max);
        Ok(Some(Head { bytes: &self.held, consumed }))
    }

    /// Keeps a piece of the head. Memory doubles, so that pieces are not copied over and over, but
    /// to no more than the longest head takes.
    fn hold(&mut self, piece: &[u8], bytes_max: usize) {
        let needed = self.held.len() + piece.len();
        if needed > self.held.capacity() {
            let grown = (2 * self.held.capacity()).min(bytes_max).max(needed);
            self.held.reserve_exact(grown - self.held.len());
        }
        self.held.extend_from_slice(piece);
    }

    /// The position behind the head's end in `input`.
    fn scan(&mut self, input: &[u8], bytes_max: usize) -> Result<Option<usize>, HandshakeError> {
        let scannable = input.len().min(bytes_max.saturating_sub(self.scanned));
        for (i, byte) in input[..scannable].iter().enumerate() {
            self.at = match (self.at, byte) {
                (_, 0) => return Err(HandshakeError::Nul),
                (At::LastCarriageReturn, b'\n') => return Ok(Some(i + 1)),
                (At::CarriageReturn, b'\n') => At::LineStart,
                (At::CarriageReturn | At::LastCarriageReturn, _) => {
                    return Err(HandshakeError::BareCarriageReturn);
                }
                (_, b'\n') => return Err(HandshakeError::BareLineFeed),
                (At::Start, b'\r') => return Err(HandshakeError::RequestLine),
                (At::WithinLine, b'\r') => At::CarriageReturn,
                (At::LineStart, b'\r') => At::LastCarriageReturn,
                (At::LineStart, b' ' | b'\t') => return Err(HandshakeError::FoldedHeader),
                (At::Start | At::LineStart | At::WithinLine, _) => At::WithinLine,
            };
        }
        self.scanned += scannable;
        if self.scanned >= bytes_max { Err(HandshakeError::HeadTooLarge) } else { Ok(None) }
    }
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
    fn the_limit_is_inclusive_and_does_not_wait_for_more() {
        let read =
            |bytes_max| HeadReader::default().read(HEAD, bytes_max).map(|head| head.is_some());
        assert_eq!(read(HEAD.len()), Ok(true));
        assert_eq!(read(HEAD.len() - 1), Err(HandshakeError::HeadTooLarge));
    }
}

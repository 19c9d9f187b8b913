//! The judge: is what the server sends exactly the echo of what was sent, in order?
//!
//! A fragmented echo is legal and so are pings in between. Payloads are compared as they arrive,
//! straight from the read buffer; nothing is collected but the payload of a control frame.

use crate::frames::{self, Decoder, Head, OpCode, Piece};
use crate::problem::Problem;
use crate::tape::{Cursor, Tape};

/// The receiving side of one connection.
#[derive(Debug)]
pub(crate) struct Echoes {
    decoder: Decoder,
    /// The message whose echo comes next or is under way.
    expected: Cursor,
    /// Messages whose echo is complete.
    answered: u64,
    frame: Frame,
    /// Bytes of the echo that is under way; `None` between messages.
    matched: Option<usize>,
    /// The payload of a control frame, at most 125 bytes.
    control: Vec<u8>,
}

/// The kind of frame whose payload is coming.
#[derive(Clone, Copy, Debug)]
enum Frame {
    Data { fin: bool },
    Control(OpCode),
}

/// What one read brought.
#[derive(Debug, Default)]
pub(crate) struct Harvest {
    pub(crate) messages: u64,
    pub(crate) message_bytes: u64,
    pub(crate) close: Option<CloseFrame>,
}

/// The server's Close.
#[derive(Debug)]
pub(crate) struct CloseFrame {
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

impl Echoes {
    pub(crate) fn new(start: Cursor) -> Self {
        Self {
            decoder: Decoder::new(),
            expected: start,
            answered: 0,
            frame: Frame::Data { fin: true },
            matched: None,
            control: Vec::new(),
        }
    }

    /// Judges `input`, which may end anywhere, while `owed` echoes are owed. Appends to `pongs`
    /// the frames that answer pings. What follows a Close is not looked at.
    pub(crate) fn recv(
        &mut self,
        mut input: &[u8],
        owed: u64,
        tape: &Tape,
        pongs: &mut Vec<u8>,
    ) -> Result<Harvest, Problem> {
        let mut harvest = Harvest::default();
        while harvest.close.is_none() {
            let message = self.message();
            let piece = self.decoder.next(&mut input);
            match piece.map_err(|error| Problem::Frame { message, error })? {
                None => break,
                Some(Piece::Head(head)) if head.opcode.is_control() => {
                    self.control.clear();
                    self.frame = Frame::Control(head.opcode);
                }
                Some(Piece::Head(head)) => self.recv_head(head, harvest.messages < owed, tape)?,
                Some(Piece::Payload { bytes, last }) => match self.frame {
                    Frame::Data { fin } => {
                        self.recv_payload(bytes, tape)?;
                        if last && fin {
                            harvest.messages += 1;
                            harvest.message_bytes += tape.message_bytes(self.expected);
                            self.recv_message_end(tape);
                        }
                    }
                    Frame::Control(opcode) => {
                        self.control.extend_from_slice(bytes);
                        if last {
                            harvest.close = self.recv_control(opcode, tape, pongs)?;
                        }
                    }
                },
            }
        }
        Ok(harvest)
    }

    /// The number, from 1, of the message whose echo comes next.
    pub(crate) fn message(&self) -> u64 {
        self.answered + 1
    }

    /// Whether an echo has begun and not ended.
    pub(crate) fn is_inside_message(&self) -> bool {
        self.matched.is_some()
    }

    #[inline]
    fn recv_head(&mut self, head: Head, is_owed: bool, tape: &Tape) -> Result<(), Problem> {
        let expected = match self.matched {
            None => tape.opcode(),
            Some(_) => OpCode::Continuation,
        };
        let matched = self.matched.unwrap_or(0);
        let left = (tape.echo(self.expected).len() - matched) as u64;
        let is_length_right =
            if head.fin { head.payload_bytes == left } else { head.payload_bytes <= left };
        if !is_owed || head.opcode != expected || !is_length_right {
            let expected = if !is_owed {
                "nothing".to_owned()
            } else if head.fin {
                format!("{expected:?} with {left} bytes")
            } else {
                format!("{expected:?} with at most {left} bytes")
            };
            let got = format!("{:?} with {} bytes", head.opcode, head.payload_bytes);
            return Err(Problem::Mismatch { message: self.message(), expected, got });
        }
        self.matched = Some(matched);
        self.frame = Frame::Data { fin: head.fin };
        Ok(())
    }

    #[inline]
    fn recv_payload(&mut self, bytes: &[u8], tape: &Tape) -> Result<(), Problem> {
        let matched = self.matched.unwrap_or(0);
        // The head was checked: no frame brings more than is left of the echo.
        let expected = &tape.echo(self.expected)[matched..matched + bytes.len()];
        if bytes != expected {
            return Err(differing(self.message(), matched, expected, bytes));
        }
        self.matched = Some(matched + bytes.len());
        Ok(())
    }

    #[inline]
    fn recv_message_end(&mut self, tape: &Tape) {
        debug_assert_eq!(self.matched, Some(tape.echo(self.expected).len()));
        self.matched = None;
        self.answered += 1;
        self.expected = tape.next(self.expected);
    }

    fn recv_control(
        &self,
        opcode: OpCode,
        tape: &Tape,
        pongs: &mut Vec<u8>,
    ) -> Result<Option<CloseFrame>, Problem> {
        match opcode {
            OpCode::Ping => {
                if pongs.len() > PONG_BYTES_MAX {
                    return Err(Problem::Mismatch {
                        message: self.message(),
                        expected: "pongs to be read".to_owned(),
                        got: "ever more pings".to_owned(),
                    });
                }
                frames::encode(OpCode::Pong, &self.control, tape.mask(), pongs);
                Ok(None)
            }
            OpCode::Close => match self.control.as_slice() {
                [] => Ok(Some(CloseFrame { code: None, reason: String::new() })),
                [high, low, reason @ ..] => Ok(Some(CloseFrame {
                    code: Some(u16::from_be_bytes([*high, *low])),
                    reason: String::from_utf8_lossy(reason).into_owned(),
                })),
                [_] => Err(Problem::Mismatch {
                    message: self.message(),
                    expected: "Close with a code of two bytes".to_owned(),
                    got: "one byte".to_owned(),
                }),
            },
            // An unsolicited pong is legal and means nothing (RFC 6455 5.5.3).
            _ => Ok(None),
        }
    }
}

#[cold]
fn differing(message: u64, offset: usize, expected: &[u8], got: &[u8]) -> Problem {
    let at = expected.iter().zip(got).take_while(|(expected, got)| expected == got).count();
    let excerpt = |bytes: &[u8]| {
        let end = bytes.len().min(at + EXCERPT_BYTES);
        format!("\"{}\"", bytes[at..end].escape_ascii())
    };
    Problem::Mismatch {
        message,
        expected: format!("{} at byte {}", excerpt(expected), offset + at),
        got: excerpt(got),
    }
}

/// How much of a wrong payload is shown: enough to tell a swapped message from a flipped bit.
const EXCERPT_BYTES: usize = 16;

/// Unwritten pongs; a server that sends more pings than it reads pongs is broken.
const PONG_BYTES_MAX: usize = 64 << 10;

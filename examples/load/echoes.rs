//! Checks that the server echoes every message exactly and in order.
//!
//! An echo may be fragmented, with control frames in between. Payloads are compared in the read
//! buffer as they arrive; only the payload of a control frame is copied.

use crate::frames::{self, Decoder, Head, OpCode, Piece};
use crate::problem::Problem;
use crate::workload::{Cursor, Workload};

/// The receiving side of one connection.
#[derive(Debug)]
pub(crate) struct Echoes {
    decoder: Decoder,
    /// The message whose echo is in progress or comes next.
    expected: Cursor,
    /// Messages whose echo is complete.
    answered: u64,
    frame: Frame,
    /// Bytes received of the echo in progress; `None` between messages.
    matched: Option<usize>,
    /// The payload of a control frame, at most 125 bytes.
    control: Vec<u8>,
}

/// The kind of frame whose payload comes next.
#[derive(Clone, Copy, Debug)]
enum Frame {
    Data { fin: bool },
    Control(OpCode),
}

/// The complete messages and the Close of one read.
#[derive(Debug, Default)]
pub(crate) struct Received {
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

    /// Checks `input`, which may end anywhere, while `outstanding` echoes are expected. Appends the
    /// answers to pings to `pongs`. Ignores bytes after a Close.
    pub(crate) fn recv(
        &mut self,
        mut input: &[u8],
        outstanding: u64,
        workload: &Workload,
        pongs: &mut Vec<u8>,
    ) -> Result<Received, Problem> {
        let mut received = Received::default();
        while received.close.is_none() {
            let message = self.message();
            let piece = self.decoder.next(&mut input);
            match piece.map_err(|error| Problem::Frame { message, error })? {
                None => break,
                Some(Piece::Head(head)) if head.opcode.is_control() => {
                    self.control.clear();
                    self.frame = Frame::Control(head.opcode);
                }
                Some(Piece::Head(head)) => {
                    self.recv_head(head, received.messages < outstanding, workload)?
                }
                Some(Piece::Payload { bytes, last }) => match self.frame {
                    Frame::Data { fin } => {
                        self.recv_payload(bytes, workload)?;
                        if last && fin {
                            received.messages += 1;
                            received.message_bytes += workload.message_bytes(self.expected);
                            self.recv_message_end(workload);
                        }
                    }
                    Frame::Control(opcode) => {
                        self.control.extend_from_slice(bytes);
                        if last {
                            received.close = self.recv_control(opcode, workload, pongs)?;
                        }
                    }
                },
            }
        }
        Ok(received)
    }

    /// The number, counted from 1, of the message whose echo comes next.
    pub(crate) fn message(&self) -> u64 {
        self.answered + 1
    }

    /// Whether an echo is in progress.
    pub(crate) fn is_inside_message(&self) -> bool {
        self.matched.is_some()
    }

    #[inline]
    fn recv_head(
        &mut self,
        head: Head,
        is_expected: bool,
        workload: &Workload,
    ) -> Result<(), Problem> {
        let expected = match self.matched {
            None => workload.opcode(),
            Some(_) => OpCode::Continuation,
        };
        let matched = self.matched.unwrap_or(0);
        let left = (workload.echo(self.expected).len() - matched) as u64;
        let is_length_right =
            if head.fin { head.payload_bytes == left } else { head.payload_bytes <= left };
        if !is_expected || head.opcode != expected || !is_length_right {
            let expected = if !is_expected {
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
    fn recv_payload(&mut self, bytes: &[u8], workload: &Workload) -> Result<(), Problem> {
        let matched = self.matched.unwrap_or(0);
        // The header was checked: no frame is longer than the rest of the echo.
        let expected = &workload.echo(self.expected)[matched..matched + bytes.len()];
        if bytes != expected {
            return Err(differing(self.message(), matched, expected, bytes));
        }
        self.matched = Some(matched + bytes.len());
        Ok(())
    }

    #[inline]
    fn recv_message_end(&mut self, workload: &Workload) {
        debug_assert_eq!(self.matched, Some(workload.echo(self.expected).len()));
        self.matched = None;
        self.answered += 1;
        self.expected = workload.next(self.expected);
    }

    fn recv_control(
        &self,
        opcode: OpCode,
        workload: &Workload,
        pongs: &mut Vec<u8>,
    ) -> Result<Option<CloseFrame>, Problem> {
        match opcode {
            OpCode::Ping => {
                if pongs.len() > PONG_BYTES_MAX {
                    return Err(Problem::Mismatch {
                        message: self.message(),
                        expected: "the server to read our pongs".to_owned(),
                        got: "more pings".to_owned(),
                    });
                }
                frames::encode(OpCode::Pong, &self.control, workload.mask(), pongs);
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
                    got: "Close with one byte".to_owned(),
                }),
            },
            // An unsolicited pong is legal and needs no answer (RFC 6455 5.5.3).
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

/// Length of the excerpt from a wrong payload: enough to tell a swapped message from a flipped bit.
const EXCERPT_BYTES: usize = 16;

/// Maximum of unwritten pongs: a server that keeps sending pings must read their answers.
const PONG_BYTES_MAX: usize = 64 << 10;

//! Checks that the server echoes every message exactly and in order.
//!
//! An echo may be fragmented. Payloads are compared in the read buffer as they arrive.

use crate::frames::{Head, OpCode};
use crate::problem::Problem;
use crate::workload::{Cursor, Workload};

/// The expected echoes of one connection.
#[derive(Debug)]
pub(crate) struct Echoes {
    /// The message whose echo is in progress or comes next.
    expected: Cursor,
    /// Messages whose echo is complete.
    answered: u64,
    /// Bytes received of the echo in progress; `None` between messages.
    matched: Option<usize>,
}

impl Echoes {
    pub(crate) fn new(start: Cursor) -> Self {
        Self { expected: start, answered: 0, matched: None }
    }

    /// The number, counted from 1, of the message whose echo comes next.
    pub(crate) fn message(&self) -> u64 {
        self.answered + 1
    }

    /// Whether an echo is in progress.
    pub(crate) fn is_inside_message(&self) -> bool {
        self.matched.is_some()
    }

    /// Checks the header of a data frame. `is_expected`: an echo is outstanding.
    #[inline]
    pub(crate) fn recv_head(
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
            return Err(Problem::Mismatch { expected, got });
        }
        self.matched = Some(matched);
        Ok(())
    }

    /// Why the first echo has another length than expected, if a prefix explains it. `payload` is
    /// the beginning of the frame's payload.
    #[cold]
    pub(crate) fn explain(
        &self,
        head: Head,
        payload: &[u8],
        workload: &Workload,
    ) -> Option<String> {
        let message = workload.message(self.expected);
        let bytes = usize::try_from(head.payload_bytes).ok()?;
        let prefix_bytes = bytes.checked_sub(message.len())?;
        let (prefix, rest) = payload.get(..bytes)?.split_at(prefix_bytes);
        let is_explained = self.answered == 0 && self.matched.is_none() && rest == message;
        is_explained.then(|| match prefix {
            [] => "the server adds no prefix: omit --prefix".to_owned(),
            prefix => {
                let prefix = prefix.escape_ascii();
                format!("the server adds a prefix: --prefix '{prefix}'")
            }
        })
    }

    /// Checks a part of the payload. Returns the bytes of the message sent, at the end of its echo.
    #[inline]
    pub(crate) fn recv_payload(
        &mut self,
        bytes: &[u8],
        end: bool,
        workload: &Workload,
    ) -> Result<Option<u64>, Problem> {
        let matched = self.matched.unwrap_or(0);
        // The header was checked: no frame is longer than the rest of the echo.
        let expected = &workload.echo(self.expected)[matched..matched + bytes.len()];
        if bytes != expected {
            return Err(differing(matched, expected, bytes));
        }
        self.matched = Some(matched + bytes.len());
        if !end {
            return Ok(None);
        }
        debug_assert_eq!(self.matched, Some(workload.echo(self.expected).len()));
        let message_bytes = workload.message_bytes(self.expected);
        self.matched = None;
        self.answered += 1;
        self.expected = workload.next(self.expected);
        Ok(Some(message_bytes))
    }
}

/// `got` at `offset` of a message differs from `expected`.
#[cold]
pub(crate) fn differing(offset: usize, expected: &[u8], got: &[u8]) -> Problem {
    let at = expected.iter().zip(got).take_while(|(expected, got)| expected == got).count();
    let excerpt = |bytes: &[u8]| {
        let end = bytes.len().min(at + EXCERPT_BYTES);
        format!("\"{}\"", bytes[at..end].escape_ascii())
    };
    Problem::Mismatch {
        expected: format!("{} at byte {}", excerpt(expected), offset + at),
        got: excerpt(got),
    }
}

/// Length of the excerpt from a wrong payload: enough to tell a swapped message from a flipped bit.
const EXCERPT_BYTES: usize = 16;

//! The control frames that a connection sends: pongs and its Close.

use crate::frames::{self, OpCode};
use crate::problem::Problem;

/// Encoded control frames that wait to be written between other frames.
#[derive(Debug)]
pub(crate) struct Control {
    mask: [u8; 4],
    /// The first `written` bytes are written.
    bytes: Vec<u8>,
    written: usize,
}

impl Control {
    pub(crate) fn new(mask: [u8; 4]) -> Self {
        Self { mask, bytes: Vec::new(), written: 0 }
    }

    /// Queues the answer to a ping.
    pub(crate) fn pong(&mut self, payload: &[u8]) -> Result<(), Problem> {
        if self.bytes.len() > PONG_BYTES_MAX {
            return Err(Problem::Mismatch {
                expected: "the server to read our pongs".to_owned(),
                got: "more pings".to_owned(),
            });
        }
        frames::encode(OpCode::Pong, payload, self.mask, &mut self.bytes);
        Ok(())
    }

    /// Queues Close 1000.
    pub(crate) fn close(&mut self) {
        frames::encode(OpCode::Close, &1000_u16.to_be_bytes(), self.mask, &mut self.bytes);
    }

    #[inline]
    pub(crate) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
    }
}

/// Maximum of unwritten pongs: a server that keeps sending pings must read their answers.
const PONG_BYTES_MAX: usize = 64 << 10;

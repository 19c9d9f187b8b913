//! The frames that a connection receives. Pings are answered and greetings are skipped here, so
//! that the traffic sees only messages and the Close.

use crate::control::Control;
use crate::frames::{Decoder, Head, OpCode, Piece};
use crate::problem::Problem;

/// The receiving side of one connection.
#[derive(Debug)]
pub(crate) struct Inbound {
    decoder: Decoder,
    /// The frame whose payload comes next.
    frame: Frame,
    /// The payload of a control frame, at most 125 bytes.
    control: Vec<u8>,
    /// Messages still to be skipped.
    greetings: u64,
}

#[derive(Clone, Copy, Debug)]
enum Frame {
    Data { fin: bool },
    Greeting { fin: bool },
    Control(OpCode),
}

/// A part of a message, or the Close.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A data frame begins.
    Head(Head),
    /// A part of its payload. `end`: the message is complete.
    Payload {
        bytes: &'a [u8],
        end: bool,
    },
    Close(CloseFrame),
}

/// The server's Close.
#[derive(Debug)]
pub(crate) struct CloseFrame {
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

impl Inbound {
    /// Skips the first `greetings` messages.
    pub(crate) fn new(greetings: u64) -> Self {
        Self {
            decoder: Decoder::new(),
            frame: Frame::Data { fin: true },
            control: Vec::new(),
            greetings,
        }
    }

    /// Whether all greetings have arrived.
    pub(crate) fn is_greeted(&self) -> bool {
        self.greetings == 0
    }

    /// Takes the next event from the front of `input`; `None` when it needs more bytes. Queues
    /// answers to pings in `control`.
    #[inline]
    pub(crate) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        control: &mut Control,
    ) -> Result<Option<Event<'a>>, Problem> {
        loop {
            match self.decoder.next(input).map_err(Problem::Frame)? {
                None => return Ok(None),
                Some(Piece::Head(head)) if head.opcode.is_control() => {
                    self.control.clear();
                    self.frame = Frame::Control(head.opcode);
                }
                Some(Piece::Head(head)) if self.greetings > 0 => {
                    self.frame = Frame::Greeting { fin: head.fin };
                }
                Some(Piece::Head(head)) => {
                    self.frame = Frame::Data { fin: head.fin };
                    return Ok(Some(Event::Head(head)));
                }
                Some(Piece::Payload { bytes, last }) => match self.frame {
                    Frame::Data { fin } => {
                        return Ok(Some(Event::Payload { bytes, end: last && fin }));
                    }
                    Frame::Greeting { fin } => self.greetings -= u64::from(last && fin),
                    Frame::Control(opcode) => {
                        self.control.extend_from_slice(bytes);
                        if last && let Some(close) = self.recv_control(opcode, control)? {
                            return Ok(Some(Event::Close(close)));
                        }
                    }
                },
            }
        }
    }

    fn recv_control(
        &self,
        opcode: OpCode,
        control: &mut Control,
    ) -> Result<Option<CloseFrame>, Problem> {
        match opcode {
            OpCode::Ping => control.pong(&self.control).map(|()| None),
            OpCode::Close => match self.control.as_slice() {
                [] => Ok(Some(CloseFrame { code: None, reason: String::new() })),
                [high, low, reason @ ..] => Ok(Some(CloseFrame {
                    code: Some(u16::from_be_bytes([*high, *low])),
                    reason: String::from_utf8_lossy(reason).into_owned(),
                })),
                [_] => Err(Problem::Mismatch {
                    expected: "Close with a code of two bytes".to_owned(),
                    got: "Close with one byte".to_owned(),
                }),
            },
            // An unsolicited pong is legal and needs no answer (RFC 6455 5.5.3).
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The complete messages in `bytes`, which arrive in steps of `step`, and the queued answers.
    fn messages(bytes: &[u8], greetings: u64, step: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut inbound = Inbound::new(greetings);
        let mut control = Control::new([0; 4]);
        let (mut messages, mut message) = (Vec::new(), Vec::new());
        for mut input in bytes.chunks(step) {
            while let Some(event) = inbound.next(&mut input, &mut control).expect("legal frames") {
                if let Event::Payload { bytes, end } = event {
                    message.extend_from_slice(bytes);
                    if end {
                        messages.push(std::mem::take(&mut message));
                    }
                }
            }
        }
        (messages, control.unwritten().to_vec())
    }

    #[test]
    fn greetings_are_skipped_and_pings_answered() {
        let greeting = [0x01, 1, b'g', 0x89, 1, b'p', 0x80, 1, b'h', 0x82, 0];
        let message = [0x81, 2, b'h', b'i'];
        let bytes = [&greeting[..], &message].concat();
        for step in 1..=bytes.len() {
            let (messages, answers) = messages(&bytes, 2, step);
            assert_eq!(messages, [b"hi"]);
            assert_eq!(answers, [0x8a, 0x81, 0, 0, 0, 0, b'p']);
        }
    }
}

//! Checks that a connection receives every published message exactly, once, and in the order of
//! its publisher.
//!
//! A message may be fragmented. Its body is compared in the read buffer as it arrives.

use crate::bulletins::{Bulletins, Identity, SIZE_MIN};
use crate::echoes::differing;
use crate::frames::{Head, OpCode};
use crate::problem::Problem;

/// The deliveries to one connection.
#[derive(Debug)]
pub(crate) struct Deliveries {
    /// The number of the next message of each publisher.
    next: Vec<u64>,
    /// Complete messages.
    count: u64,
    /// Bytes received of the message in progress; `None` between messages.
    matched: Option<usize>,
    /// The first bytes of the message in progress.
    start: [u8; SIZE_MIN],
    /// Known once `start` is complete.
    identity: Option<Identity>,
}

/// A complete message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) identity: Identity,
    pub(crate) bytes: u64,
}

impl Deliveries {
    pub(crate) fn new(publishers: usize) -> Self {
        Self {
            next: vec![0; publishers],
            count: 0,
            matched: None,
            start: [0; SIZE_MIN],
            identity: None,
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The number of the next message of `publisher`.
    pub(crate) fn next(&self, publisher: u32) -> u64 {
        self.next[publisher as usize]
    }

    pub(crate) fn is_inside_message(&self) -> bool {
        self.matched.is_some()
    }

    /// Checks the header of a data frame.
    #[inline]
    pub(crate) fn recv_head(&mut self, head: Head, opcode: OpCode) -> Result<(), Problem> {
        let expected = if self.is_inside_message() { OpCode::Continuation } else { opcode };
        if head.opcode != expected {
            return Err(mismatch(format!("{expected:?}"), format!("{:?}", head.opcode)));
        }
        self.matched.get_or_insert(0);
        Ok(())
    }

    /// Checks a part of the payload. Returns the message at its end.
    #[inline]
    pub(crate) fn recv_payload(
        &mut self,
        bytes: &[u8],
        end: bool,
        bulletins: &Bulletins,
        is_published: impl Fn(Identity) -> bool,
    ) -> Result<Option<Delivery>, Problem> {
        let matched = self.matched.unwrap_or(0);
        let start_bytes = SIZE_MIN.saturating_sub(matched).min(bytes.len());
        let (start, body) = bytes.split_at(start_bytes);
        if start_bytes > 0 {
            self.start[matched..matched + start_bytes].copy_from_slice(start);
            if matched + start_bytes == SIZE_MIN {
                self.identity = Some(self.identify(is_published)?);
            }
        }
        self.matched = Some(matched + bytes.len());
        let Some(identity) = self.identity else {
            return match end {
                true => Err(mismatch(
                    format!("a message of at least {SIZE_MIN} bytes"),
                    format!("{} bytes", matched + bytes.len()),
                )),
                false => Ok(None),
            };
        };
        let expected = bulletins.body(identity);
        let offset = matched + start_bytes - SIZE_MIN;
        check_body(body, offset, end, expected)?;
        if !end {
            return Ok(None);
        }
        self.next[identity.publisher as usize] += 1;
        self.count += 1;
        self.matched = None;
        self.identity = None;
        Ok(Some(Delivery { identity, bytes: (SIZE_MIN + expected.len()) as u64 }))
    }

    /// The identity in `start`, which must be that of the publisher's next message.
    #[inline]
    fn identify(&self, is_published: impl Fn(Identity) -> bool) -> Result<Identity, Problem> {
        let found = Identity::from_bytes(&self.start);
        let Some(identity) = found.filter(|&identity| is_published(identity)) else {
            let got = format!("one that begins \"{}\"", self.start.escape_ascii());
            return Err(mismatch("a published message".to_owned(), got));
        };
        let next = self.next[identity.publisher as usize];
        if identity.number != next {
            let Identity { publisher, number } = identity;
            return Err(mismatch(
                format!("message {} of publisher {}", next + 1, publisher + 1),
                format!("message {}", number + 1),
            ));
        }
        Ok(identity)
    }
}

/// Compares a part of a body, from `offset` on, with `expected`.
#[inline]
fn check_body(body: &[u8], offset: usize, end: bool, expected: &[u8]) -> Result<(), Problem> {
    let received = offset + body.len();
    if received > expected.len() || (end && received < expected.len()) {
        let got = if end { "" } else { "at least " };
        return Err(mismatch(
            format!("{} bytes", SIZE_MIN + expected.len()),
            format!("{got}{} bytes", SIZE_MIN + received),
        ));
    }
    let expected = &expected[offset..received];
    match body == expected {
        true => Ok(()),
        false => Err(differing(SIZE_MIN + offset, expected, body)),
    }
}

#[cold]
fn mismatch(expected: String, got: String) -> Problem {
    Problem::Mismatch { expected, got }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Content;

    fn message(bulletins: &Bulletins, publisher: u32, number: u64) -> Vec<u8> {
        let identity = Identity { publisher, number };
        [&identity.to_bytes(), bulletins.body(identity)].concat()
    }

    /// Receives `messages`, each in pieces of `step` bytes.
    fn receive(bulletins: &Bulletins, messages: &[Vec<u8>], step: usize) -> Result<u64, Problem> {
        let mut deliveries = Deliveries::new(2);
        for message in messages {
            let head =
                Head { opcode: OpCode::Text, fin: true, payload_bytes: message.len() as u64 };
            deliveries.recv_head(head, OpCode::Text)?;
            let pieces = message.chunks(step);
            let last = pieces.len() - 1;
            for (index, piece) in pieces.enumerate() {
                let end = index == last;
                let is_published = |it: Identity| it.publisher < 2 && it.number < 2;
                let delivery = deliveries.recv_payload(piece, end, bulletins, is_published)?;
                assert_eq!(delivery.is_some(), end);
            }
        }
        Ok(deliveries.count())
    }

    #[test]
    fn messages_of_two_publishers_may_interleave_and_arrive_in_pieces() {
        let bulletins = Bulletins::new(&[40, 17], Content::Ascii);
        let messages = [(1, 0), (0, 0), (0, 1), (1, 1)]
            .map(|(publisher, number)| message(&bulletins, publisher, number));
        for step in 1..=41 {
            assert_eq!(receive(&bulletins, &messages, step).expect("all correct"), 4);
        }
    }

    #[test]
    fn wrong_deliveries_are_detected() {
        let bulletins = Bulletins::new(&[40], Content::Ascii);
        let good = |number| message(&bulletins, 0, number);
        let changed = |index: usize| {
            let mut message = good(0);
            message[index] ^= 1;
            message
        };
        let longer = [good(0), vec![b'x']].concat();
        for (wrong, expected) in [
            (vec![good(0), good(0)], "message 2 of publisher 1, got message 1"),
            (vec![good(1)], "message 1 of publisher 1, got message 2"),
            (vec![good(0), good(1), good(2)], "a published message"),
            (vec![good(0)[..39].to_vec()], "40 bytes, got 39 bytes"),
            (vec![good(0)[..15].to_vec()], "at least 16 bytes, got 15 bytes"),
            (vec![longer], "40 bytes, got"),
            (vec![changed(39)], "at byte 39"),
            (vec![changed(0)], "a published message"),
        ] {
            for step in [1, 7, 100] {
                let error = receive(&bulletins, &wrong, step).expect_err("wrong").to_string();
                assert!(error.contains(expected), "{error}");
            }
        }
    }
}

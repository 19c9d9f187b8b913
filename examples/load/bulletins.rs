//! The messages of a broadcast run. Each begins with its publisher and number, so that a receiver
//! can check the order of messages that several publishers send at once.

use crate::frames::{self, OpCode};
use crate::workload::{self, Content};

/// The bytes of all messages: sizes in turn, with a few different bodies of each size.
#[derive(Debug)]
pub(crate) struct Bulletins {
    opcode: OpCode,
    mask: [u8; 4],
    /// Bodies follow the identity. Their index is size * `VARIANTS` + variant.
    bodies: Vec<Body>,
}

#[derive(Debug)]
struct Body {
    plain: Vec<u8>,
    masked: Vec<u8>,
}

/// The identity of a message, unique in the run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    pub(crate) publisher: u32,
    /// The number among the messages of its publisher, from 0.
    pub(crate) number: u64,
}

impl Bulletins {
    pub(crate) fn new(sizes: &[usize], content: Content) -> Self {
        let mask = frames::random_mask();
        let variants = |&size: &usize| (0..VARIANTS).map(move |variant| (size, variant));
        let body = |(size, variant)| {
            let plain = workload::payload(size - SIZE_MIN, variant, content);
            let masked = masked(&plain, mask);
            Body { plain, masked }
        };
        let opcode = content.opcode();
        Self { opcode, mask, bodies: sizes.iter().flat_map(variants).map(body).collect() }
    }

    pub(crate) fn opcode(&self) -> OpCode {
        self.opcode
    }

    /// The bytes after the identity.
    #[inline]
    pub(crate) fn body(&self, identity: Identity) -> &[u8] {
        &self.bodies[self.index(identity)].plain
    }

    /// Appends the masked frame of a message.
    pub(crate) fn encode(&self, identity: Identity, out: &mut Vec<u8>) {
        let body = &self.bodies[self.index(identity)].masked;
        frames::encode_head(self.opcode, SIZE_MIN + body.len(), self.mask, out);
        out.extend(masked(&identity.to_bytes(), self.mask));
        out.extend_from_slice(body);
    }

    fn index(&self, Identity { publisher, number }: Identity) -> usize {
        let sizes = (self.bodies.len() / VARIANTS) as u64;
        let variant = (number / sizes + u64::from(publisher)) % VARIANTS as u64;
        (number % sizes) as usize * VARIANTS + variant as usize
    }
}

impl Identity {
    /// Printable ASCII, six bits in each byte: the publisher, then the number.
    pub(crate) fn to_bytes(self) -> [u8; SIZE_MIN] {
        let mut bytes = [0; SIZE_MIN];
        let (publisher, number) = bytes.split_at_mut(PUBLISHER_BYTES);
        put(self.publisher.into(), publisher);
        put(self.number, number);
        bytes
    }

    /// `None` for bytes that `to_bytes` cannot have written.
    #[inline]
    pub(crate) fn from_bytes(bytes: &[u8; SIZE_MIN]) -> Option<Self> {
        let (publisher, number) = bytes.split_at(PUBLISHER_BYTES);
        Some(Self { publisher: get(publisher)? as u32, number: get(number)? })
    }
}

fn put(mut value: u64, bytes: &mut [u8]) {
    for byte in bytes.iter_mut().rev() {
        *byte = FIRST_DIGIT + (value % 64) as u8;
        value /= 64;
    }
}

fn get(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(FIRST_DIGIT).filter(|digit| *digit < 64)?;
        Some(value << 6 | u64::from(digit))
    })
}

/// The length of an identity is a multiple of the mask's, so a body is masked from its beginning.
fn masked(bytes: &[u8], mask: [u8; 4]) -> Vec<u8> {
    bytes.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
}

/// The bytes of an identity, and so of the smallest message.
pub(crate) const SIZE_MIN: usize = 16;

const PUBLISHER_BYTES: usize = 4;

/// A receiver keeps eight bytes for each publisher.
pub(crate) const PUBLISHERS_MAX: i64 = 4096;

/// The 64 characters from here on are printable.
const FIRST_DIGIT: u8 = b'0';

/// Different bodies of a size, so that the body of a neighbouring message is detected.
const VARIANTS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive_encoding() {
        for (publisher, number) in [(0, 0), (1, 63), (4095, 64), (7, 1 << 59)] {
            let identity = Identity { publisher, number };
            let bytes = identity.to_bytes();
            assert!(bytes.iter().all(u8::is_ascii_graphic));
            assert_eq!(Identity::from_bytes(&bytes), Some(identity));
        }
        assert_eq!(Identity::from_bytes(b"0000000000 00000"), None);
        assert_eq!(Identity::from_bytes(b"000000000000000p"), None);
    }

    #[test]
    fn neighbouring_messages_differ_and_have_sizes_in_turn() {
        let bulletins = Bulletins::new(&[116, 216], Content::Ascii);
        let body = |publisher, number| bulletins.body(Identity { publisher, number });
        assert_eq!([0, 1, 2].map(|number| body(0, number).len()), [100, 200, 100]);
        assert_ne!(body(0, 0), body(0, 2));
        assert_ne!(body(0, 0), body(1, 0));
    }
}

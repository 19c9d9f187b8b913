//! A message that is encoded once and sent to many connections.

use std::fmt;
use std::sync::Arc;

use super::frame::header::ServerHeader;
use super::session::message::Message;

/// A message, encoded as one frame. Clones share its memory, so sending it to many connections
/// neither encodes nor copies it again.
///
/// ```
/// use ws_reactor::EncodedMessage;
///
/// let message = EncodedMessage::new("hi");
/// assert_eq!(message.as_frame(), b"\x81\x02hi"); // RFC 6455 5.2
/// assert_eq!(message.payload_len(), 2);
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct EncodedMessage {
    frame: Arc<[u8]>,
}

impl EncodedMessage {
    /// Encodes a message as one unmasked frame (RFC 6455 5.2).
    #[must_use]
    pub fn new<'m>(message: impl Into<Message<'m>>) -> Self {
        let message = message.into();
        let payload = message.as_bytes();
        let header = ServerHeader::new(true, message.opcode(), payload.len() as u64);
        let header = header.as_bytes();
        // Filled after it is allocated, because a vector would have to be copied to an `Arc`.
        let mut frame: Arc<[u8]> = std::iter::repeat_n(0, header.len() + payload.len()).collect();
        let bytes = Arc::make_mut(&mut frame);
        bytes[..header.len()].copy_from_slice(header);
        bytes[header.len()..].copy_from_slice(payload);
        Self { frame }
    }

    /// The frame, header and payload.
    #[must_use]
    pub fn as_frame(&self) -> &[u8] {
        &self.frame
    }

    /// The number of payload bytes.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        // The header of a server's frame (RFC 6455 5.2): the second byte gives its length.
        self.frame.len()
            - match self.frame[1] {
                126 => 4,
                127 => 10,
                _ => 2,
            }
    }
}

/// Encodes what converts to a [`Message`].
macro_rules! encode_from {
    ($($type:ty),*) => {
        $(impl From<$type> for EncodedMessage {
            fn from(message: $type) -> Self {
                Self::new(message)
            }
        })*
    };
}

encode_from!(Message<'_>, &str, &String, &[u8], &Vec<u8>);

/// Shares the frame.
impl From<&Self> for EncodedMessage {
    fn from(message: &Self) -> Self {
        message.clone()
    }
}

impl fmt::Debug for EncodedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedMessage({} bytes)", self.payload_len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_length_has_its_minimal_header() {
        for (len, header) in [
            (0, &b"\x82\x00"[..]),
            (125, b"\x82\x7d"),
            (126, b"\x82\x7e\x00\x7e"),
            (65_535, b"\x82\x7e\xff\xff"),
            (65_536, b"\x82\x7f\0\0\0\0\0\x01\0\0"),
        ] {
            let message = EncodedMessage::new(&vec![7; len][..]);
            assert_eq!(message.payload_len(), len);
            assert_eq!(message.as_frame(), [header, &vec![7; len]].concat());
        }
    }

    #[test]
    fn clones_share_the_frame() {
        let message = EncodedMessage::new("text");
        assert!(std::ptr::eq(message.clone().as_frame(), message.as_frame()));
    }
}

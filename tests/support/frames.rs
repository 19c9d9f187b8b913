//! Handwritten WebSocket frames (RFC 6455 5.2), valid or not.
//!
//! Nothing is checked, so that a test can announce a length that does not follow, set reserved
//! bits, or omit the mask.

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// The masking key of RFC 6455 5.7, the default of client frames.
pub const SAMPLE_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame with arbitrary fields.
#[derive(Clone, Debug)]
pub struct Frame {
    fin: bool,
    /// RSV1 is 4, RSV2 is 2, RSV3 is 1.
    rsv: u8,
    opcode: u8,
    length: Length,
    key: Option<[u8; 4]>,
    payload: Vec<u8>,
}

/// A final, masked frame as a client sends it.
pub fn client(opcode: u8, payload: &[u8]) -> Frame {
    Frame { key: Some(SAMPLE_KEY), ..server(opcode, payload) }
}

/// A final, unmasked frame as a server sends it.
pub fn server(opcode: u8, payload: &[u8]) -> Frame {
    let payload = payload.to_vec();
    Frame { fin: true, rsv: 0, opcode, length: Length::Minimal, key: None, payload }
}

/// The payload of a Close frame: the code, then the reason.
pub fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

impl Frame {
    #[must_use]
    pub fn fin(mut self, fin: bool) -> Self {
        self.fin = fin;
        self
    }

    /// Sets the three reserved bits: RSV1 is 4, RSV2 is 2, RSV3 is 1.
    #[must_use]
    pub fn rsv(mut self, rsv: u8) -> Self {
        self.rsv = rsv;
        self
    }

    #[must_use]
    pub fn key(mut self, key: [u8; 4]) -> Self {
        self.key = Some(key);
        self
    }

    #[must_use]
    pub fn unmasked(mut self) -> Self {
        self.key = None;
        self
    }

    /// Announces `length` in seven bits, independent of the payload.
    #[must_use]
    pub fn length7(mut self, length: u8) -> Self {
        self.length = Length::Seven(length);
        self
    }

    /// Announces `length` in the 16-bit form, independent of the payload.
    #[must_use]
    pub fn length16(mut self, length: u16) -> Self {
        self.length = Length::Sixteen(length);
        self
    }

    /// Announces `length` in the 64-bit form, independent of the payload.
    #[must_use]
    pub fn length64(mut self, length: u64) -> Self {
        self.length = Length::SixtyFour(length);
        self
    }

    /// The frame on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode];
        let mask_bit = u8::from(self.key.is_some()) << 7;
        match self.length {
            Length::Minimal => match self.payload.len() {
                length @ 0..=125 => bytes.push(mask_bit | length as u8),
                length @ 126..=0xFFFF => {
                    bytes.push(mask_bit | 126);
                    bytes.extend((length as u16).to_be_bytes());
                }
                length => {
                    bytes.push(mask_bit | 127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            },
            Length::Seven(length) => bytes.push(mask_bit | length),
            Length::Sixteen(length) => {
                bytes.push(mask_bit | 126);
                bytes.extend(length.to_be_bytes());
            }
            Length::SixtyFour(length) => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        match self.key {
            None => bytes.extend(&self.payload),
            Some(key) => {
                bytes.extend(key);
                bytes.extend(
                    self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key),
                );
            }
        }
        bytes
    }
}

/// How a frame announces the length of its payload.
#[derive(Clone, Copy, Debug)]
enum Length {
    /// In the shortest form that holds it, as RFC 6455 5.2 demands.
    Minimal,
    Seven(u8),
    Sixteen(u16),
    SixtyFour(u64),
}

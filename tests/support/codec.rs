//! Encodes and decodes frames as RFC 6455 5.2 defines them, for the tests that judge the library.

/// A header of a frame, valid or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    pub fin: bool,
    pub rsv: u8,
    pub opcode: u8,
    pub key: Option<[u8; 4]>,
    pub payload_len: u64,
    /// Bytes of the extended payload length: 0, 2 or 8.
    pub length_bytes: usize,
}

impl Header {
    /// The header at the start of `bytes`; `None` if it is incomplete.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let short = second & 0x7F;
        let length_bytes = length_bytes(short);
        let length = bytes.get(2..2 + length_bytes)?;
        let payload_len = match length_bytes {
            0 => u64::from(short),
            _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let key = match second & 0x80 {
            0 => None,
            _ => Some(bytes.get(2 + length_bytes..6 + length_bytes)?.try_into().ok()?),
        };
        let (fin, rsv, opcode) = (first & 0x80 != 0, first >> 4 & 7, first & 0xF);
        Some(Self { fin, rsv, opcode, key, payload_len, length_bytes })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mask = if self.key.is_some() { 0x80 } else { 0 };
        let short = match self.length_bytes {
            0 => self.payload_len as u8,
            2 => 126,
            _ => 127,
        };
        let mut bytes = vec![u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode, mask | short];
        bytes.extend(&self.payload_len.to_be_bytes()[8 - self.length_bytes..]);
        bytes.extend(self.key.iter().flatten());
        bytes
    }

    pub const fn len(&self) -> usize {
        2 + self.length_bytes + if self.key.is_some() { 4 } else { 0 }
    }

    pub const fn is_control(&self) -> bool {
        self.opcode >= 8
    }

    /// Whether RFC 6455 allows a client, or else a server, to send it.
    pub const fn is_valid(&self, of_client: bool) -> bool {
        let is_known = matches!(self.opcode, 0..=2 | 8..=10);
        let least = match self.length_bytes {
            0 => 0,
            2 => 126,
            _ => 65_536,
        };
        let is_length = self.payload_len >= least && self.payload_len <= i64::MAX as u64;
        let is_fit = !self.is_control() || (self.fin && self.payload_len <= 125);
        self.rsv == 0 && is_known && self.key.is_some() == of_client && is_length && is_fit
    }
}

/// Whether every frame of a client that begins with `bytes` is invalid.
pub fn is_invalid_start(bytes: &[u8]) -> bool {
    let [first, second, rest @ ..] = bytes else { return false };
    let length_bytes = length_bytes(second & 0x7F);
    let length = rest.get(..length_bytes).unwrap_or_else(|| &SOME_LENGTH[8 - length_bytes..]);
    let start = [&[*first, *second], length, &[0; 4]].concat();
    !Header::decode(&start).is_some_and(|header| header.is_valid(true))
}

/// A valid length in eight bytes, and in the last two of them.
const SOME_LENGTH: [u8; 8] = [0, 0, 0, 0, 0, 1, 1, 0];

/// The frames of a server, which must be valid and in a valid order. The payload of the last may be
/// incomplete.
#[track_caller]
pub fn replies(mut bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut is_within = false;
    let mut is_over = false;
    while !bytes.is_empty() {
        let header = Header::decode(bytes).expect("no header is left incomplete");
        assert!(header.is_valid(false), "{header:?}");
        assert!(!is_over, "bytes after a close frame or an incomplete payload");
        if !header.is_control() {
            assert_eq!(header.opcode == 0, is_within, "fragments out of order");
            is_within = !header.fin;
        }
        bytes = &bytes[header.len()..];
        let len = bytes.len().min(header.payload_len as usize);
        is_over = header.opcode == 8 || (len as u64) < header.payload_len;
        frames.push((header, bytes[..len].to_vec()));
        bytes = &bytes[len..];
    }
    frames
}

/// A server's header, with the shortest encoding of the length.
pub fn server_header(fin: bool, opcode: u8, len: usize) -> Vec<u8> {
    header(fin, opcode, None, len).encode()
}

/// A final frame of a server.
pub fn reply(opcode: u8, payload: &[u8]) -> Vec<u8> {
    [&server_header(true, opcode, payload.len()), payload].concat()
}

/// A final frame of a client.
pub fn client(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xFA, 0x21, 0x3D];
    [header(true, opcode, Some(key), payload.len()).encode(), masked(payload, key)].concat()
}

const fn header(fin: bool, opcode: u8, key: Option<[u8; 4]>, len: usize) -> Header {
    let length_bytes = match len {
        0..126 => 0,
        126..65_536 => 2,
        _ => 8,
    };
    Header { fin, rsv: 0, opcode, key, payload_len: len as u64, length_bytes }
}

/// `payload` masked with `key`, or unmasked (RFC 6455 5.3).
pub fn masked(payload: &[u8], key: [u8; 4]) -> Vec<u8> {
    payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
}

const fn length_bytes(short: u8) -> usize {
    match short {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

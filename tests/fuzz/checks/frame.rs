//! Frame headers, compared with a naive codec. An encoded header decodes to the same fields, and
//! both decoders reject the same bytes as early as possible.

use ws_reactor::protocol::{FrameHeader, MaskKey, OpCode, ServerHeader, unmask};

use super::codec::{Header, is_invalid_start, masked};
use super::pieces::Pieces;

pub fn frame(input: &[u8]) {
    decodes_alike(input);
    let mut pieces = Pieces::new(input);
    let opcode = OpCode::try_from(pieces.pick(&[0, 1, 2, 8, 9, 10])).expect("a known opcode");
    let fin = pieces.byte() % 2 == 1;
    let len_bits = pieces.byte() % 64;
    let payload_len = u64::from_le_bytes(std::array::from_fn(|_| pieces.byte())) >> len_bits;
    encodes(fin, opcode, payload_len);
    let key = std::array::from_fn(|_| pieces.byte());
    unmasks(pieces.rest(), key);
}

/// Decodes every prefix of `bytes`.
fn decodes_alike(bytes: &[u8]) {
    for len in 0..=bytes.len().min(HEADER_BYTES_MAX + 1) {
        let bytes = &bytes[..len];
        match FrameHeader::decode(bytes) {
            Err(error) => {
                assert!(is_invalid_start(bytes), "{error} in {bytes:x?}");
                assert_eq!(error.close_code().value(), 1002);
            }
            Ok(None) => {
                assert!(!is_invalid_start(bytes), "{bytes:x?} is incomplete");
                assert_eq!(Header::decode(bytes), None, "{bytes:x?} is incomplete");
            }
            Ok(Some(header)) => {
                let naive = Header::decode(bytes).expect("a header");
                assert!(naive.is_valid(true), "{bytes:x?}");
                assert_eq!(seen(&header), naive);
                assert_eq!(header.header_len, naive.len());
            }
        }
    }
}

/// Encodes a server's header, and decodes a client's header for the same payload.
fn encodes(fin: bool, opcode: OpCode, payload_len: u64) {
    let header = ServerHeader::new(fin, opcode, payload_len);
    let mut naive = Header::decode(header.as_bytes()).expect("a whole header");
    assert_eq!((naive.fin, naive.rsv, naive.opcode), (fin, 0, opcode as u8));
    assert_eq!((naive.payload_len, naive.key), (payload_len, None));
    assert_eq!(naive.len(), header.as_bytes().len());
    let is_allowed = !opcode.is_control() || (fin && payload_len <= 125);
    if is_allowed && payload_len <= i64::MAX as u64 {
        assert!(naive.is_valid(false), "{naive:?}");
        naive.key = Some([1, 2, 3, 4]);
        let decoded = FrameHeader::decode(&naive.encode());
        assert_eq!(decoded.map(|header| header.as_ref().map(seen)), Ok(Some(naive)));
    }
}

/// Unmasks a payload in place, and checks whether it is reported as ASCII.
fn unmasks(payload: &[u8], key: [u8; 4]) {
    let mut bytes = payload.to_vec();
    let is_ascii = unmask(&mut bytes, MaskKey(key));
    assert_eq!(bytes, masked(payload, key));
    assert_eq!(is_ascii, bytes.is_ascii(), "{bytes:x?}");
}

fn seen(header: &FrameHeader) -> Header {
    let MaskKey(key) = header.key;
    Header {
        fin: header.fin,
        rsv: 0,
        opcode: header.opcode as u8,
        key: Some(key),
        payload_len: header.payload_len,
        length_bytes: header.header_len - 6,
    }
}

/// Two bytes, the longest extended length, and the key.
const HEADER_BYTES_MAX: usize = 14;

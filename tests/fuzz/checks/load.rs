//! The parser of the load example, which measures any server. It returns the same frames for every
//! way to cut its input, and rejects every frame that a server must not send.

use std::fmt::Debug;

use super::codec::{Header, masked};
use super::pieces::{Pieces, cut};
use crate::frames::{Decoder, Head, OpCode, Piece, encode};
use crate::upgrade::{Request, Upgrade};

pub fn load(input: &[u8]) {
    let mut pieces = Pieces::new(input);
    let kind = pieces.byte() % 3;
    let steps = pieces.steps();
    let input = pieces.rest();
    match kind {
        0 => alike(input, &steps, decode),
        // The size limit is checked between reads, so the cut would matter for longer answers.
        1 if input.len() < ANSWER_BYTES_MAX => alike(input, &steps, upgrade),
        _ => encodes(input),
    }
}

fn alike<T: Debug + PartialEq>(input: &[u8], steps: &[u16], make: fn(&[&[u8]]) -> T) {
    let whole = make(&[input]);
    assert_eq!(make(&cut(input, steps)), whole, "cut at {steps:?}");
    assert_eq!(make(&cut(input, &[1])), whole, "byte by byte");
}

/// The frames of `reads`, and the error that follows them.
fn decode(reads: &[&[u8]]) -> (Vec<(Head, Vec<u8>)>, Option<String>) {
    let mut decoder = Decoder::new();
    let mut frames: Vec<(Head, Vec<u8>)> = Vec::new();
    let all = reads.concat();
    let mut starts = &all[..];
    for mut input in reads.iter().copied() {
        loop {
            let head = match decoder.next(&mut input) {
                Ok(Some(Piece::Head(head))) => head,
                Ok(Some(Piece::Payload { bytes, last })) => {
                    let (head, payload) = frames.last_mut().expect("a head comes first");
                    payload.extend(bytes);
                    assert_eq!(last, payload.len() as u64 == head.payload_bytes);
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!Header::decode(&padded(starts)).is_some_and(|it| it.is_valid(false)));
                    return (frames, Some(error.to_string()));
                }
            };
            let naive = Header::decode(starts).expect("a header");
            assert!(naive.is_valid(false), "{naive:?}");
            let is_same = (naive.fin, naive.opcode) == (head.fin, head.opcode as u8);
            assert!(is_same && naive.payload_len == head.payload_bytes, "{naive:?}, {head:?}");
            let len = (naive.len() as u64).saturating_add(naive.payload_len);
            starts = &starts[len.min(starts.len() as u64) as usize..];
            frames.push((head, Vec::new()));
        }
    }
    (frames, None)
}

/// Completes a header whose first bytes are already invalid.
fn padded(start: &[u8]) -> Vec<u8> {
    let mut bytes = start[..start.len().min(16)].to_vec();
    let length_bytes = match start.get(1).map(|second| second & 0x7F) {
        Some(126) => 2,
        Some(127) => 8,
        _ => 0,
    };
    if bytes.len() < 2 + length_bytes {
        bytes.truncate(2);
        bytes.extend(&[0, 0, 0, 0, 0, 1, 1, 0][8 - length_bytes..]);
    }
    bytes.extend([0; 4]);
    bytes
}

/// Parses the answer to an upgrade, and returns the number of bytes after it.
fn upgrade(reads: &[&[u8]]) -> Result<Option<usize>, String> {
    let request = Request { target: "/".to_owned(), ..Request::default() };
    let mut upgrade = Upgrade::new(&request, 0);
    let mut rest: usize = reads.iter().map(|read| read.len()).sum();
    for read in reads {
        rest -= read.len();
        match upgrade.recv(read) {
            Ok(None) => {}
            Ok(Some(behind)) => return Ok(Some(behind.len() + rest)),
            Err(problem) => return Err(problem.to_string()),
        }
    }
    assert!(!upgrade.cut().to_string().is_empty());
    Ok(None)
}

/// Encodes a message and checks its bytes.
fn encodes(payload: &[u8]) {
    let key = [payload.len() as u8, 0x37, 0, 0xFF];
    let mut bytes = Vec::new();
    encode(OpCode::Binary, payload, key, &mut bytes);
    let header = Header::decode(&bytes).expect("a header");
    assert!(header.is_valid(true) && header.fin && header.opcode == 2);
    assert_eq!((header.key, header.payload_len), (Some(key), payload.len() as u64));
    assert_eq!(bytes[header.len()..], masked(payload, key));
}

/// Below the size limit of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 10;

//! A client that compresses with miniz_oxide.

use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params,
};
use miniz_oxide::inflate::decompress_to_vec;
use ws_reactor::{Config, DeflateConfig, Handler};

use crate::scripted::SocketId;
use crate::support::codec::replies;
use crate::support::frames::{Frame, client};
use crate::support::requests::GOOD_REQUEST;
use crate::world::World;

pub(crate) const RSV1: u8 = 4;

pub(crate) fn config() -> Config {
    Config { deflate: Some(DeflateConfig::default()), ..Config::default() }
}

/// The good request with an offer of extensions.
pub(crate) fn request(offer: &str) -> Vec<u8> {
    let head = GOOD_REQUEST.strip_suffix(b"\r\n").expect("an empty line ends it");
    [head, format!("Sec-WebSocket-Extensions: {offer}\r\n\r\n").as_bytes()].concat()
}

/// A connection that has agreed to compression.
pub(crate) fn open<H: Handler>(world: &mut World<H>) -> SocketId {
    let (id, answer) = world.open(&request("permessage-deflate"));
    let answer = String::from_utf8(answer).expect("a head");
    assert!(answer.contains("\r\nSec-WebSocket-Extensions: permessage-deflate"), "{answer}");
    id
}

/// The payload of a compressed message (RFC 7692 7.2.1).
pub(crate) fn deflate(message: &[u8]) -> Vec<u8> {
    const LEVEL: i32 = 6;
    const RAW: i32 = -15;
    let flags = create_comp_flags_from_zip_params(LEVEL, RAW, 0);
    let mut out = Vec::new();
    let mut compressor = CompressorOxide::new(flags);
    compress_to_output(&mut compressor, message, TDEFLFlush::Sync, |bytes| {
        out.extend_from_slice(bytes);
        true
    });
    assert!(out.ends_with(b"\0\0\xff\xff"));
    out.truncate(out.len() - 4);
    out
}

/// The message of a compressed payload (RFC 7692 7.2.2).
pub(crate) fn inflate(payload: &[u8]) -> Vec<u8> {
    // An empty last block ends the stream.
    let stream = [payload, b"\0\0\xff\xff\x01\0\0\xff\xff"].concat();
    decompress_to_vec(&stream).expect("a compressed message")
}

/// A compressed message in one frame.
pub(crate) fn compressed(opcode: u8, message: &[u8]) -> Frame {
    client(opcode, &deflate(message)).rsv(RSV1)
}

/// Sends `input` in one read and returns the reply.
pub(crate) fn ask<H: Handler>(world: &mut World<H>, id: SocketId, input: &[u8]) -> Vec<u8> {
    world.send(id, input);
    world.run_until_quiet();
    world.take_received(id)
}

/// A message of the server: whether it was compressed, its opcode and its bytes.
pub(crate) type Received = (bool, u8, Vec<u8>);

/// The server's frames, inflated.
pub(crate) fn messages(bytes: &[u8]) -> Vec<Received> {
    // The decoder of the tests knows no extension.
    let mut plain = bytes.to_vec();
    let mut flags = Vec::new();
    let mut at = 0;
    while at < plain.len() {
        flags.push(plain[at] & 0x40 != 0);
        plain[at] &= !0x40;
        let (header_len, payload_len) = match plain[at + 1] {
            126 => (4, usize::from(u16::from_be_bytes([plain[at + 2], plain[at + 3]]))),
            127 => {
                let len = plain[at + 2..at + 10].try_into().expect("eight bytes");
                (10, u64::from_be_bytes(len) as usize)
            }
            short => (2, usize::from(short)),
        };
        at += header_len + payload_len;
    }
    let frames = replies(&plain).into_iter().zip(flags);
    frames
        .map(|((header, payload), is_compressed)| {
            let message = if is_compressed { inflate(&payload) } else { payload };
            (is_compressed, header.opcode, message)
        })
        .collect()
}

/// Text that shrinks to a fifth.
pub(crate) fn json(len: usize) -> Vec<u8> {
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= len {
            break;
        }
        text.push_str(&format!("{{\"id\":{number},\"name\":\"h\u{e9}llo\",\"on\":true}},"));
    }
    // Cut in the ASCII part: an incomplete character would be invalid.
    let end = (0..=len).rev().find(|end| text.is_char_boundary(*end)).expect("zero is one");
    text.truncate(end);
    text.into_bytes()
}

/// Bytes that do not shrink.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(len)
    .collect()
}

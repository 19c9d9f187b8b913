//! Faults of a peer: each ends its connection with the code that the RFCs name.

use ws_reactor::{Config, DeflateConfig, Echo};

use crate::client::{RSV1, ask, compressed, config, deflate, json, messages, open};
use crate::support::frames::{
    BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client, close_payload,
};
use crate::world::World;

/// Sends `input`, whole and byte by byte, and expects the connection to end with `code`.
fn expect_failure(name: &str, input: &[u8], code: u16) {
    let expected = [(false, CLOSE, close_payload(code, b""))];
    let mut world = World::new(Echo, config());
    let id = open(&mut world);
    assert_eq!(messages(&ask(&mut world, id, input)), expected, "{name}");
    let id = open(&mut world);
    for byte in input {
        world.send(id, &[*byte]);
    }
    world.run_until_quiet();
    assert_eq!(messages(&world.take_received(id)), expected, "{name}, byte by byte");
    assert_eq!(world.stats().protocol_errors, 2);
    // The worker serves others.
    let id = open(&mut world);
    let reply = ask(&mut world, id, &compressed(TEXT, &json(500)).bytes());
    assert_eq!(messages(&reply), [(true, TEXT, json(500))], "{name}");
}

#[test]
fn rsv1_marks_only_the_first_frame_of_a_message() {
    let payload = deflate(&json(500));
    let first = client(TEXT, &payload[..9]).rsv(RSV1).fin(false).bytes();
    for (name, frame) in [
        ("a ping", client(PING, b"").rsv(RSV1)),
        ("a pong", client(PONG, b"").rsv(RSV1)),
        ("a close", client(CLOSE, b"").rsv(RSV1)),
        ("RSV2", client(TEXT, &payload).rsv(RSV1 | 2)),
        ("RSV3", client(TEXT, b"").rsv(1)),
        ("a continuation of nothing", client(CONTINUATION, b"").rsv(RSV1)),
    ] {
        expect_failure(name, &frame.bytes(), 1002);
    }
    let next = client(CONTINUATION, &payload[9..]).rsv(RSV1).bytes();
    expect_failure("a continuation", &[&first[..], &next].concat(), 1002);
    let next = compressed(TEXT, &json(500)).bytes();
    expect_failure("a message inside another", &[&first[..], &next].concat(), 1002);
}

#[test]
fn data_that_does_not_inflate_is_answered_1007() {
    let whole = deflate(&json(500));
    for (name, payload) in [
        ("a block of the reserved type", &[0x06][..]),
        ("a distance to before the message", &[0x4b, 0x04, 0x13, 0x00]),
        ("a wrong length of a stored block", &[0x00, 0x05, 0x00, 0xfb, 0xff, 0x48]),
        ("no block", b"\xff\xff\xff\xff"),
        ("the first half", &whole[..whole.len() / 2]),
    ] {
        expect_failure(name, &client(BINARY, payload).rsv(RSV1).bytes(), 1007);
    }
}

#[test]
fn inflated_text_must_be_utf_8() {
    expect_failure("an invalid byte", &compressed(TEXT, b"a\xffb").bytes(), 1007);
    expect_failure("an incomplete character", &compressed(TEXT, b"a\xe2\x82").bytes(), 1007);
    let long = [&json(100_000)[..], b"\xc0\x80", &json(100_000)].concat();
    expect_failure("far behind the start", &compressed(TEXT, &long).bytes(), 1007);
    // The same bytes are fine in a binary message.
    let mut world = World::new(Echo, config());
    let id = open(&mut world);
    let reply = ask(&mut world, id, &compressed(BINARY, b"a\xffb").bytes());
    assert_eq!(messages(&reply), [(false, BINARY, b"a\xffb".to_vec())]);
}

#[test]
fn the_limit_of_a_message_holds_for_the_inflated_bytes() {
    let settings = Config { message_bytes_max: 10_000, ..config() };
    let mut world = World::new(Echo, settings);
    for (len, fits) in [(9_999, true), (10_000, true), (10_001, false), (10_000_000, false)] {
        let message = vec![b'a'; len];
        let id = open(&mut world);
        let reply = ask(&mut world, id, &compressed(TEXT, &message).bytes());
        match fits {
            true => assert!(messages(&reply) == [(true, TEXT, message)], "{len}"),
            false => {
                assert_eq!(messages(&reply), [(false, CLOSE, close_payload(1009, b""))], "{len}");
            }
        }
    }
    // No more was inflated than the limit, and one byte that shows that it is exceeded.
    assert!(world.stats().inflated_bytes <= 9_999 + 10_000 + 2 * 10_001);
}

#[test]
fn a_compressed_message_that_does_not_shrink_has_the_same_limit() {
    let settings = Config {
        message_bytes_max: 10_000,
        deflate: Some(DeflateConfig::default()),
        ..Config::default()
    };
    let mut world = World::new(Echo, settings);
    let id = open(&mut world);
    // Stored blocks of 1000 bytes: 10 050 bytes for 10 000.
    let block = [&[0x00, 0xe8, 0x03, 0x17, 0xfc][..], &[b'x'; 1000]].concat();
    let payload = [block.repeat(10), vec![0]].concat();
    let reply = ask(&mut world, id, &client(TEXT, &payload).rsv(RSV1).bytes());
    assert_eq!(messages(&reply), [(true, TEXT, vec![b'x'; 10_000])]);
    // A message of empty blocks that is longer than any of this limit.
    let payload = [0x00, 0x00, 0x00, 0xff, 0xff].repeat(3000);
    let reply = ask(&mut world, id, &client(TEXT, &payload).rsv(RSV1).bytes());
    assert_eq!(messages(&reply), [(false, CLOSE, close_payload(1009, b""))]);
}

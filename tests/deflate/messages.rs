//! Messages in both directions (RFC 7692 6 and 7.2).

use proptest::prelude::*;
use ws_reactor::{Config, DeflateConfig, Echo, Handler, Message, Peer, Reply};

use crate::client::{
    RSV1, ask, compressed, config, deflate, inflate, json, messages, noise, open, request,
};
use crate::support::frames::{BINARY, CONTINUATION, PING, PONG, TEXT, client};
use crate::world::World;

/// A compressed message in frames whose payloads end at `cuts`, with a ping after each frame.
fn fragments(opcode: u8, payload: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut start = 0;
    for (index, end) in cuts.iter().copied().chain([payload.len()]).enumerate() {
        let frame = match index {
            0 => client(opcode, &payload[start..end]).rsv(RSV1),
            _ => client(CONTINUATION, &payload[start..end]),
        };
        bytes.extend(frame.fin(end == payload.len() && index == cuts.len()).bytes());
        if index < cuts.len() {
            bytes.extend(client(PING, b"p").bytes());
        }
        start = end;
    }
    bytes
}

#[test]
fn a_compressed_message_is_echoed_compressed() {
    let mut world = World::new(Echo, config());
    let id = open(&mut world);
    for (opcode, message) in
        [(TEXT, json(256)), (BINARY, json(1000)), (TEXT, json(70_000)), (BINARY, vec![0; 1 << 20])]
    {
        let reply = ask(&mut world, id, &compressed(opcode, &message).bytes());
        assert_eq!(reply[0], 0xC0 | opcode, "FIN, RSV1");
        assert!(reply.len() < message.len() / 2);
        assert!(messages(&reply) == [(true, opcode, message)]);
    }
}

#[test]
fn short_messages_and_those_that_do_not_shrink_are_sent_uncompressed() {
    let mut world = World::new(Echo, config());
    let id = open(&mut world);
    for message in [Vec::new(), json(1), json(255), noise(256), noise(100_000)] {
        let reply = ask(&mut world, id, &compressed(BINARY, &message).bytes());
        assert!(messages(&reply) == [(false, BINARY, message)]);
    }
}

#[test]
fn a_message_that_came_uncompressed_is_echoed_uncompressed() {
    let mut world = World::new(Echo, config());
    let id = open(&mut world);
    for message in [json(10), json(1000), json(100_000)] {
        let reply = ask(&mut world, id, &client(BINARY, &message).bytes());
        assert!(messages(&reply) == [(false, BINARY, message)]);
    }
}

#[test]
fn a_message_may_be_cut_anywhere() {
    let message = json(600);
    let bytes = fragments(TEXT, &deflate(&message), &[0, 7, 7, 60]);
    let mut expected = vec![(false, PONG, b"p".to_vec()); 4];
    expected.push((true, TEXT, message));
    for cut in 0..=bytes.len() {
        let mut world = World::new(Echo, config());
        let id = open(&mut world);
        let first = ask(&mut world, id, &bytes[..cut]);
        let second = ask(&mut world, id, &bytes[cut..]);
        assert_eq!(messages(&[first, second].concat()), expected, "cut at {cut}");
    }
}

#[test]
fn a_large_message_arrives_in_many_reads() {
    let mut world = World::new(Echo, config());
    let id = open(&mut world);
    let message = [noise(200_000), json(500_000)].concat();
    let bytes = compressed(BINARY, &message).bytes();
    let mut reply = Vec::new();
    for piece in bytes.chunks(30_000) {
        assert_eq!(reply, b"", "no reply before the last byte");
        reply = ask(&mut world, id, piece);
    }
    assert!(messages(&reply) == [(true, BINARY, message)]);
}

#[test]
fn every_window_that_a_client_asks_for_is_kept() {
    // The second half repeats the first, out of reach for a smaller window.
    for bits in 9..=15 {
        let half = noise(1 << bits);
        let message = [&half[..], &half[..]].concat();
        let mut world = World::new(Echo, config());
        let (id, _) =
            world.open(&request(&format!("permessage-deflate; server_max_window_bits={bits}")));
        let reply = ask(&mut world, id, &compressed(BINARY, &message).bytes());
        let (_, _, echoed) = messages(&reply).remove(0);
        assert!(echoed == message, "{bits}");
        // A distance beyond the agreed window would make the reply much shorter.
        let allowed = 1 << bits;
        assert!(reply.len() > allowed, "{bits}: {}", reply.len());
    }
}

#[test]
fn blocks_of_every_kind_are_inflated() {
    let examples: [&[u8]; 5] = [
        // RFC 7692 7.2.3.1, .3, .4 and .5.
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        // Two last blocks.
        &[0xf3, 0x48, 0x05, 0x00, 0xcb, 0xc9, 0xc9, 0x07, 0x00, 0x00],
    ];
    for (index, example) in examples.into_iter().enumerate() {
        let mut world = World::new(Echo, config());
        let id = open(&mut world);
        let reply = ask(&mut world, id, &client(TEXT, example).rsv(RSV1).bytes());
        assert_eq!(messages(&reply), [(false, TEXT, b"Hello".to_vec())], "{index}");
    }
    // An empty message (RFC 7692 7.2.3.6).
    let mut world = World::new(Echo, config());
    let id = open(&mut world);
    let reply = ask(&mut world, id, &client(TEXT, &[0]).rsv(RSV1).bytes());
    assert_eq!(messages(&reply), [(false, TEXT, Vec::new())]);
}

/// Sends each message back twice, and then echoes it.
struct Thrice;

impl Handler for Thrice {
    type State = ();

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        assert!(peer.send(message) && peer.send(message));
        Reply::Echo
    }
}

#[test]
fn sent_messages_and_echoes_stay_in_order() {
    let mut world = World::new(Thrice, config());
    let id = open(&mut world);
    let [long, short, other] = [json(5000), json(5), json(900)];
    let input = [
        compressed(TEXT, &long).bytes(),
        client(PING, b"p").bytes(),
        client(BINARY, &short).bytes(),
        compressed(BINARY, &other).bytes(),
    ];
    let reply = ask(&mut world, id, &input.concat());
    let thrice = |message: (bool, u8, Vec<u8>)| vec![message; 3];
    let expected = [
        thrice((true, TEXT, long)),
        vec![(false, PONG, b"p".to_vec())],
        thrice((false, BINARY, short)),
        thrice((true, BINARY, other)),
    ];
    assert_eq!(messages(&reply), expected.concat());
    assert_eq!(world.stats().messages_out, 9);
}

fn a_message() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        (any::<u8>(), 0_usize..3000).prop_map(|(byte, len)| vec![byte; len]),
        (0_usize..3000).prop_map(json),
        (0_usize..3000).prop_map(noise),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any message, compressed by another program, in any fragments and reads, comes back, and that
    /// program inflates it.
    #[test]
    fn another_implementation_understands_every_echo(
        message in a_message(),
        level in 1_u32..=9,
        bits in 9_u8..=15,
        cuts in prop::collection::vec(0.0..1.0_f64, 0..4),
        read in 1_usize..5000,
    ) {
        let deflate_config =
            DeflateConfig { level, message_bytes_min: 0, server_max_window_bits: bits, ..DeflateConfig::default() };
        let settings = Config { deflate: Some(deflate_config), ..Config::default() };
        let mut world = World::new(Echo, settings);
        let id = open(&mut world);
        let payload = deflate(&message);
        prop_assert_eq!(&inflate(&payload), &message);
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| (cut * payload.len() as f64) as usize).collect();
        cuts.sort_unstable();
        for piece in fragments(BINARY, &payload, &cuts).chunks(read) {
            world.send(id, piece);
        }
        world.run_until_quiet();
        let mut replies = messages(&world.take_received(id));
        let (_, opcode, echoed) = replies.pop().expect("an echo");
        prop_assert_eq!((opcode, echoed), (BINARY, message));
        prop_assert_eq!(replies, vec![(false, PONG, b"p".to_vec()); cuts.len()]);
    }
}

//! Peers that send much in few bytes: they do not delay the others, and hold no memory.

use ws_reactor::{Config, Echo};

use crate::client::{ask, compressed, config, json, messages, open};
use crate::support::frames::{BINARY, TEXT, client};
use crate::world::World;

#[test]
fn inflated_bytes_count_against_the_turn() {
    let settings = config();
    let message_bytes_max = settings.message_bytes_max;
    let mut world = World::new(Echo, settings);
    let [greedy, other] = [open(&mut world), open(&mut world)];
    // A read of 30 MiB in 30 KiB.
    let bombs = compressed(BINARY, &vec![0; message_bytes_max]).bytes().repeat(30);
    assert!(bombs.len() < 260 * 1024, "one read");
    world.send(greedy, &bombs);
    world.turn();
    let inflated = world.stats().inflated_bytes as usize;
    assert!(inflated <= 2 * message_bytes_max, "{inflated} bytes in one turn");
    // Another peer has its turn before the rest.
    world.send(other, &client(TEXT, b"hi").bytes());
    let mut turns = 0;
    while world.received(other).is_empty() && turns < 3 {
        world.turn();
        turns += 1;
    }
    assert_eq!(messages(&world.take_received(other)), [(false, TEXT, b"hi".to_vec())]);
    let inflated = world.stats().inflated_bytes as usize;
    assert!(inflated <= 2 * (turns + 1) * message_bytes_max, "{inflated} bytes");
    world.run_until_quiet();
    assert_eq!(messages(&world.take_received(greedy)).len(), 30, "nothing is lost");
}

#[test]
fn many_peers_with_incomplete_messages_do_not_keep_others_waiting() {
    let mut world = World::new(Echo, Config { connections_max: None, ..config() });
    let message = json(5000);
    let bytes = compressed(TEXT, &message).bytes();
    let peers: Vec<_> = (0..200).map(|_| open(&mut world)).collect();
    for id in &peers {
        assert_eq!(ask(&mut world, *id, &bytes[..bytes.len() - 1]), b"");
    }
    let id = open(&mut world);
    assert_eq!(messages(&ask(&mut world, id, &bytes)), [(true, TEXT, message.clone())]);
    for id in peers {
        let reply = ask(&mut world, id, &bytes[bytes.len() - 1..]);
        assert_eq!(messages(&reply), [(true, TEXT, message.clone())]);
    }
}

#[test]
fn a_peer_that_does_not_read_is_not_read() {
    let mut world = World::new(Echo, config());
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 10_000;
    let message = crate::client::noise(4000);
    let message = [&message[..], &json(1000)].concat();
    let frame = compressed(BINARY, &message).bytes();
    for _ in 0..100 {
        world.send(id, &frame);
    }
    world.run_until_quiet();
    let consumed = world.socket(id).consumed;
    assert!(consumed < 40 * frame.len(), "reading pauses above 64 KiB: {consumed}");
    world.socket(id).client_reads = true;
    let mut received = Vec::new();
    while world.socket(id).written() > received.len() {
        let waiting = world.socket(id).written() - received.len();
        world.socket(id).drain(waiting);
        world.run_until_quiet();
        received.extend(world.take_received(id));
    }
    assert!(messages(&received) == vec![(true, BINARY, message); 100]);
}

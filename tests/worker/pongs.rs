//! Pongs: the round trip of keepalive pings, and pongs that answer none.

use std::time::Duration;

use crate::flow::{Flow, pings, run, take, world};
use crate::probe::{MOMENT, SLACK, close_reply, open, seconds, text, text_reply};
use crate::scripted::SocketId;
use crate::support::frames::{PING, PONG, client, server};
use crate::world::World;

/// Waits for a keepalive ping, and returns its payload.
fn next_ping(world: &mut World<Flow>, id: SocketId) -> Vec<u8> {
    world.advance(seconds(25) + SLACK);
    let received = world.take_received(id);
    assert_eq!((pings(&received), received.len()), (1, 10));
    received[2..].to_vec()
}

fn pong(payload: &[u8]) -> Vec<u8> {
    client(PONG, payload).bytes()
}

/// Sends bytes of a client, and lets the worker process them.
fn deliver(world: &mut World<Flow>, id: SocketId, bytes: &[u8]) {
    world.send(id, bytes);
    world.run_until_quiet();
}

#[test]
fn a_handler_learns_the_round_trip_of_a_keepalive_ping() {
    let (mut world, log) = world();
    let id = open(&mut world);
    let mut sum = 0;
    for count in 1..=3 {
        world.advance(seconds(25) - MOMENT);
        let mut sent = None;
        while sent.is_none() {
            world.advance(MOMENT);
            sent = Some(world.now()).filter(|_| !world.received(id).is_empty());
        }
        let payload = world.take_received(id)[2..].to_vec();
        // Far finer than a tick.
        let round_trip = Duration::from_micros(1234 * count);
        world.skip(round_trip);
        deliver(&mut world, id, &pong(&payload));
        let lines = take(&log);
        let us: u64 = lines[0]
            .strip_prefix("pong after ")
            .and_then(|line| line.strip_suffix(" us"))
            .expect("a round trip")
            .parse()
            .expect("a number");
        let most = (round_trip + MOMENT).as_micros() as u64;
        assert!((1234 * count..=most).contains(&us), "{us} us");
        sum += us;
        let round_trips = world.stats().round_trips;
        assert_eq!(round_trips.count(), count);
        // The callback's were rounded down to microseconds.
        let sums = sum..sum + count;
        assert!(sums.contains(&(round_trips.sum().as_micros() as u64)), "{round_trips:?}");
    }
}

/// RFC 6455 5.5.3: a pong has the payload of its ping, and may be unsolicited.
#[test]
fn only_a_pong_with_the_payload_of_the_ping_counts() {
    let (mut world, log) = world();
    let id = open(&mut world);
    deliver(&mut world, id, &[pong(b""), pong(&[0; 8])].concat());
    let payload = next_ping(&mut world, id);
    let mut wrong = payload.clone();
    wrong[7] ^= 1;
    let longer = [&*payload, b"x"].concat();
    for forged in [&b""[..], &[0; 8], &wrong, &payload[..7], &longer] {
        deliver(&mut world, id, &pong(forged));
        assert_eq!(take(&log), [""; 0], "{forged:?}");
    }
    deliver(&mut world, id, &pong(&payload));
    assert_eq!(take(&log).len(), 1, "messages and other pongs may precede it");
    deliver(&mut world, id, &pong(&payload));
    assert_eq!(take(&log), [""; 0], "each ping has one pong");
    assert_eq!(world.stats().round_trips.count(), 1);
}

#[test]
fn a_pong_answers_the_last_ping() {
    let (mut world, log) = world();
    let id = open(&mut world);
    let first = next_ping(&mut world, id);
    run(&mut world, id, "alive");
    let second = next_ping(&mut world, id);
    assert_ne!(first, second);
    take(&log);
    deliver(&mut world, id, &pong(&first));
    assert_eq!(take(&log), [""; 0]);
    deliver(&mut world, id, &pong(&second));
    assert_eq!(take(&log).len(), 1);
}

#[test]
fn each_peer_gets_another_payload() {
    let (mut world, log) = world();
    let ids: Vec<_> = (0..20).map(|_| open(&mut world)).collect();
    world.advance(seconds(25) + SLACK);
    let mut payloads: Vec<_> = ids.iter().map(|&id| world.take_received(id)).collect();
    deliver(&mut world, ids[0], &pong(&payloads[1][2..]));
    assert_eq!(take(&log), [""; 0], "a peer cannot answer for another");
    payloads.sort();
    payloads.dedup();
    assert_eq!(payloads.len(), 20);
}

#[test]
fn messages_of_the_pong_callback_keep_the_order_of_events() {
    let (mut world, _) = world();
    let id = open(&mut world);
    run(&mut world, id, "subscribe news;pong publish news,send pong");
    let payload = next_ping(&mut world, id);
    let ping = client(PING, b"?").bytes();
    let input = [text("send a"), ping, pong(&payload), text("send b")].concat();
    deliver(&mut world, id, &input);
    let before = [text_reply("a"), server(PONG, b"?").bytes()].concat();
    let after = ["news", "pong", "b"].map(text_reply).concat();
    assert_eq!(world.take_received(id), [before, after].concat());
}

#[test]
fn a_pause_in_the_pong_callback_delays_the_messages_behind_it() {
    let (mut world, log) = world();
    let (id, other) = (open(&mut world), open(&mut world));
    run(&mut world, id, "pong pause");
    let payload = next_ping(&mut world, id);
    take(&log);
    deliver(&mut world, id, &[pong(&payload), text("send b")].concat());
    assert_eq!(take(&log).len(), 1);
    run(&mut world, other, "resume 0");
    assert_eq!(take(&log), ["resume 0", "send b"]);
}

#[test]
fn a_panic_in_the_pong_callback_ends_only_its_connection() {
    let (mut world, log) = world();
    let id = open(&mut world);
    run(&mut world, id, "pong send last,panic");
    let payload = next_ping(&mut world, id);
    take(&log);
    let ping = client(PING, b"?").bytes();
    deliver(&mut world, id, &[ping, pong(&payload), text("send b")].concat());
    let expected = [server(PONG, b"?").bytes(), text_reply("last"), close_reply(1011, "")];
    assert_eq!(world.take_received(id), expected.concat());
    assert_eq!(world.stats().handler_panics, 1);
    assert_eq!(take(&log).len(), 1, "no message is delivered after it");
}

#[test]
fn a_pong_after_our_close_frame_is_ignored() {
    let (mut world, log) = world();
    let id = open(&mut world);
    let payload = next_ping(&mut world, id);
    run(&mut world, id, "close");
    take(&log);
    deliver(&mut world, id, &pong(&payload));
    assert_eq!(take(&log), [""; 0]);
    assert_eq!(world.stats().round_trips.count(), 0);
}

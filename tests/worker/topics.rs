//! Messages to topics: order, policies for subscribers that do not read, and the cost.

use std::time::Duration;

use ws_reactor::{
    CloseEvent, Config, ConnectionInfo, Context, Delivery, Handler, Message, Peer, PeerId, Reply,
    SlowConsumer, SubscribeError,
};

use crate::kernel::Call;
use crate::probe::{close as peer_close, close_reply, open, text, text_reply};
use crate::scripted::SocketId;
use crate::support::frames::{BINARY, client, server};
use crate::world::World;

/// Carries out the commands of a text message, which are separated by semicolons.
struct Commands;

impl Handler for Commands {
    type State = ();

    fn delivery(&self) -> Delivery {
        Delivery::StreamedEcho
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        let mut reply = Reply::None;
        for command in message.as_text().unwrap_or_default().split(';') {
            let words: Vec<&str> = command.splitn(3, ' ').collect();
            match words[..] {
                ["subscribe", topic] => assert_eq!(peer.subscribe(topic), Ok(true)),
                ["skip", topic] => {
                    peer.subscribe_with(topic, SlowConsumer::Skip).expect("few topics");
                }
                ["latest", topic] => {
                    peer.subscribe_with(topic, SlowConsumer::Latest).expect("few topics");
                }
                ["unsubscribe", topic] => assert!(peer.unsubscribe(topic)),
                ["publish", topic, text] => assert!(peer.context().publish(topic, text)),
                ["others", topic, text] => assert!(peer.publish(topic, text)),
                ["send", text] => assert!(peer.send(text)),
                ["echo"] => reply = Reply::Echo,
                _ => panic!("as requested"),
            }
        }
        reply
    }

    fn on_close(&mut self, context: &mut Context<'_>, _: PeerId, (): (), _: &CloseEvent<'_>) {
        context.publish("leaves", "left");
    }
}

/// A world with connections that have carried out `command`.
fn world_with(count: usize, command: &str) -> (World<Commands>, Vec<SocketId>) {
    let mut world = World::new(Commands, Config::default());
    let ids = (0..count).map(|_| open(&mut world)).collect();
    for &id in &ids {
        run(&mut world, id, command);
    }
    (world, ids)
}

/// Sends commands of a client, and lets the worker carry them out.
fn run(world: &mut World<Commands>, id: SocketId, commands: &str) {
    world.send(id, &text(commands));
    world.run_until_quiet();
}

fn texts(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|it| text_reply(it)).collect()
}

#[test]
fn a_published_message_reaches_every_subscriber_and_no_other_peer() {
    let (mut world, ids) = world_with(3, "subscribe news");
    let stranger = open(&mut world);
    run(&mut world, ids[0], "publish news one;publish other lost;publish news two");
    for &id in &ids {
        assert_eq!(world.take_received(id), texts(&["one", "two"]));
    }
    run(&mut world, stranger, "publish news three");
    for &id in &ids {
        assert_eq!(world.take_received(id), texts(&["three"]));
    }
    assert_eq!(world.take_received(stranger), b"");
    assert_eq!((world.stats().messages_out, world.stats().bytes_out), (9, 33));
}

#[test]
fn a_peer_that_publishes_to_the_others_gets_no_copy() {
    let (mut world, ids) = world_with(2, "subscribe news");
    run(&mut world, ids[0], "others news one;publish news two");
    assert_eq!(world.take_received(ids[0]), texts(&["two"]));
    assert_eq!(world.take_received(ids[1]), texts(&["one", "two"]));
}

#[test]
fn a_peer_gets_published_and_direct_messages_in_the_order_of_the_calls() {
    let (mut world, ids) = world_with(1, "subscribe news");
    run(&mut world, ids[0], "send a;publish news b;send c;publish news d;echo");
    let commands = "send a;publish news b;send c;publish news d;echo";
    assert_eq!(world.take_received(ids[0]), texts(&["a", "b", "c", "d", commands]));
}

#[test]
fn a_subscriber_gets_no_message_that_was_published_before_its_subscription() {
    let (mut world, ids) = world_with(2, "subscribe news");
    let late = open(&mut world);
    run(&mut world, late, "publish news 1;subscribe news;publish news 2");
    assert_eq!(world.take_received(late), texts(&["2"]));
    run(&mut world, late, "publish news 3;unsubscribe news;publish news 4;subscribe news");
    assert_eq!(world.take_received(late), texts(&["3"]));
    // The same for two callbacks in a turn.
    run(&mut world, late, "unsubscribe news");
    world.send(late, &["publish news 5", "subscribe news"].map(text).concat());
    world.run_until_quiet();
    assert_eq!(world.take_received(late), b"");
    assert_eq!(world.take_received(ids[0]), texts(&["1", "2", "3", "4", "5"]));
}

#[test]
fn messages_of_several_topics_arrive_in_the_order_of_the_calls() {
    let (mut world, ids) = world_with(2, "subscribe red;subscribe blue");
    run(&mut world, ids[0], "publish red 1;publish blue 2;publish red 3");
    assert_eq!(world.take_received(ids[1]), texts(&["1", "2", "3"]));
}

#[test]
fn messages_published_in_one_turn_leave_in_one_write_per_subscriber() {
    let (mut world, ids) = world_with(3, "subscribe red;subscribe blue");
    let writes = |world: &World<Commands>| world.socket(ids[1]).calls(Call::Write);
    let before = writes(&world);
    world.send(ids[0], &[text("publish red x").repeat(20), text("publish blue y")].concat());
    world.run_until_quiet();
    assert_eq!(world.take_received(ids[1]), texts(&[&["x"; 20][..], &["y"]].concat()));
    assert_eq!(writes(&world) - before, 1);
}

#[test]
fn a_message_to_many_subscribers_is_delivered_in_portions() {
    const PORTION: usize = 24;
    let (mut world, ids) = world_with(2 * PORTION + 1, "subscribe news");
    world.send(ids[0], &text("others news x"));
    let count = |world: &World<Commands>| {
        ids.iter().filter(|id| !world.socket(**id).received().is_empty()).count()
    };
    ids.iter().for_each(|id| drop(world.take_received(*id)));
    let mut counts = vec![0];
    while counts.last() != Some(&(2 * PORTION)) {
        world.turn();
        world.poll();
        counts.push(count(&world));
        let is_done = counts.last() == Some(&0) || counts.last() == Some(&(2 * PORTION));
        assert!(is_done || world.wait() == Some(Duration::ZERO), "the next turn follows at once");
    }
    counts.dedup();
    assert_eq!(counts, [0, PORTION, 2 * PORTION]);
}

#[test]
fn a_subscription_ends_with_unsubscribe_and_with_its_connection() {
    let (mut world, ids) = world_with(4, "subscribe news;subscribe leaves");
    run(&mut world, ids[1], "unsubscribe news");
    world.send(ids[2], &peer_close(1000));
    world.finish(ids[2]);
    world.run_until_quiet();
    assert!(world.is_dropped(ids[2]));
    let next = open(&mut world);
    run(&mut world, ids[0], "publish news one");
    assert_eq!(world.take_received(ids[0]), texts(&["left", "one"]));
    assert_eq!(world.take_received(ids[1]), texts(&["left"]));
    assert_eq!(world.take_received(ids[3]), texts(&["left", "one"]));
    assert_eq!(world.take_received(next), b"", "it has the slot of the connection that ended");
    run(&mut world, ids[3], "unsubscribe news");
    run(&mut world, ids[0], "publish news two");
    assert_eq!(world.take_received(ids[0]), texts(&["two"]));
    assert_eq!(world.take_received(ids[3]), b"");
}

#[test]
fn messages_before_a_panic_are_sent_and_precede_the_close() {
    let (mut world, ids) = world_with(2, "subscribe news");
    run(&mut world, ids[0], "send a;publish news b;panic");
    let close = close_reply(1011, "");
    assert_eq!(world.take_received(ids[0]), [texts(&["a", "b"]), close].concat());
    assert_eq!(world.take_received(ids[1]), texts(&["b"]));
}

#[test]
fn messages_published_before_a_drain_precede_the_close() {
    let (mut world, ids) = world_with(300, "subscribe news");
    world.send(ids[0], &text("publish news last"));
    while world.stats().messages_in < 301 {
        world.turn();
    }
    world.drain(Duration::from_secs(1));
    world.run_until_quiet();
    let close = close_reply(1001, "the server is shutting down");
    for &id in &ids {
        assert_eq!(world.take_received(id), [texts(&["last"]), close.clone()].concat());
    }
}

#[test]
fn a_published_message_waits_for_the_end_of_a_streamed_echo() {
    let (mut world, ids) = world_with(2, "subscribe news");
    let large = client(BINARY, &[7; 50_000]).bytes();
    world.send(ids[1], &large[..30_000]);
    world.run_until_quiet();
    run(&mut world, ids[0], "publish news x");
    world.send(ids[1], &large[30_000..]);
    world.run_until_quiet();
    assert!(
        world.take_received(ids[1])
            == [server(BINARY, &[7; 50_000]).bytes(), texts(&["x"])].concat()
    );
}

/// A publisher, and a subscriber that does not read, whose kernel buffer is full.
fn stalled(command: &str) -> (World<Commands>, SocketId, SocketId) {
    let (mut world, ids) = world_with(2, "subscribe unused");
    run(&mut world, ids[1], command);
    world.socket(ids[1]).client_reads = false;
    world.socket(ids[1]).capacity = 5;
    (world, ids[0], ids[1])
}

/// Publishes a numbered message of 10 KB.
fn publish(world: &mut World<Commands>, id: SocketId, topic: &str, number: usize) {
    run(world, id, &format!("publish {topic} {}", numbered(number)));
}

fn numbered(number: usize) -> String {
    format!("{number:0>10000}")
}

/// The subscriber reads everything. Returns the numbers, or the texts of short messages.
fn received(world: &mut World<Commands>, id: SocketId) -> Vec<String> {
    world.socket(id).client_reads = true;
    world.socket(id).capacity = 1 << 20;
    world.run_until_quiet();
    let bytes = world.take_received(id);
    let mut rest = &bytes[..];
    let mut messages = Vec::new();
    while let [0x81, len, ..] = *rest {
        let (start, len) = match len {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            len => (2, usize::from(len)),
        };
        let text = std::str::from_utf8(&rest[start..start + len]).expect("a text");
        messages.push(text.trim_start_matches('0').to_owned());
        rest = &rest[start + len..];
    }
    assert_eq!(rest, b"", "only whole texts");
    messages
}

#[test]
fn a_slow_subscriber_gets_every_message_and_loses_its_connection_above_the_limit() {
    let (mut world, publisher, slow) = stalled("subscribe news");
    for number in 1..=100 {
        publish(&mut world, publisher, "news", number);
    }
    let expected: Vec<String> = (1..=100).map(|number| number.to_string()).collect();
    assert_eq!(received(&mut world, slow), expected);
    world.socket(slow).client_reads = false;
    world.socket(slow).capacity = 5;
    for number in 0..120 {
        publish(&mut world, publisher, "news", number);
    }
    assert!(world.is_dropped(slow));
    assert_eq!(world.stats().backlog_overflows, 1);
}

#[test]
fn a_subscriber_that_skips_loses_the_newest_and_continues_when_it_has_read() {
    let (mut world, publisher, slow) = stalled("skip news");
    for number in 1..=100 {
        publish(&mut world, publisher, "news", number);
    }
    // 64 KiB is the high mark: the seventh message exceeds it.
    assert_eq!(received(&mut world, slow), ["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(world.stats().skipped, 93);
    publish(&mut world, publisher, "news", 101);
    assert_eq!(received(&mut world, slow), ["101"]);
}

#[test]
fn a_subscriber_to_the_latest_message_gets_no_older_one() {
    let (mut world, publisher, slow) = stalled("latest news;latest other");
    for number in 1..=100 {
        publish(&mut world, publisher, "news", number);
        publish(&mut world, publisher, "other", 1000 + number);
    }
    // Five bytes of the first have been sent.
    assert_eq!(received(&mut world, slow), ["1", "100", "1100"]);
    assert_eq!(world.stats().skipped, 197);
    publish(&mut world, publisher, "news", 101);
    assert_eq!(received(&mut world, slow), ["101"]);
}

#[test]
fn direct_messages_are_neither_skipped_nor_replaced() {
    for policy in ["skip", "latest"] {
        let (mut world, publisher, slow) = stalled(&format!("{policy} news;subscribe direct"));
        for number in 1..=20 {
            publish(&mut world, publisher, "news", number);
            run(&mut world, publisher, &format!("publish direct d{number}"));
        }
        let all = received(&mut world, slow);
        let direct: Vec<&String> = all.iter().filter(|it| it.starts_with('d')).collect();
        let expected: Vec<String> = (1..=20).map(|number| format!("d{number}")).collect();
        assert_eq!(direct, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_new_topic_does_not_replace_messages_of_an_ended_one() {
    let (mut world, publisher, slow) = stalled("latest old");
    for number in 1..=5 {
        publish(&mut world, publisher, "old", number);
    }
    world.send(slow, &text("unsubscribe old;latest new"));
    // Reading is paused, so the peer must take some first.
    world.socket(slow).client_reads = true;
    world.run_until_quiet();
    world.take_received(slow);
    world.socket(slow).client_reads = false;
    for number in 6..=15 {
        publish(&mut world, publisher, "new", number);
    }
    assert_eq!(received(&mut world, slow), ["6", "15"]);
}

/// Subscribes to the topic that a message names, and replies with the result.
struct Greedy;

impl Handler for Greedy {
    type State = ();

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        let name = message.as_text().expect("a text");
        let result = match peer.subscribe(name) {
            Ok(true) => "yes",
            Ok(false) => "again",
            Err(SubscribeError::NameTooLong) => "too long",
            Err(SubscribeError::TooManyTopics) => "too many",
            Err(_) => "unknown",
        };
        peer.send(result);
        Reply::None
    }
}

#[test]
fn names_and_numbers_of_subscriptions_are_limited() {
    let config = Config { topic_bytes_max: 3, topics_per_peer_max: 2, ..Config::default() };
    let mut world = World::new(Greedy, config);
    let id = open(&mut world);
    world.send(id, &["abc", "abcd", "abc", "", "ab", "abc"].map(text).concat());
    world.run_until_quiet();
    let expected = texts(&["yes", "too long", "again", "yes", "too many", "again"]);
    assert_eq!(world.take_received(id), expected);
}

#[test]
fn no_input_is_read_while_too_much_waits_for_the_turns_of_subscribers() {
    const MEMBERS: usize = 1000;
    let config = Config { mailbox_bytes_max: 50_000, ..Config::default() };
    let mut world = World::new(Commands, config);
    let ids: Vec<_> = (0..MEMBERS).map(|_| open(&mut world)).collect();
    ids.iter().for_each(|id| run(&mut world, *id, "subscribe news"));
    let before = world.stats().messages_in;
    let message = text(&format!("others news {}", numbered(1)));
    for id in &ids[..4] {
        (0..50).for_each(|_| world.send(*id, &message));
    }
    // A message to 1000 subscribers takes eight turns, and four peers have a read in each.
    let mut most = 0;
    while world.stats().messages_in < before + 200 {
        world.turn_with(world.poll());
        let delivered = (world.stats().messages_out / (MEMBERS as u64 - 1)) as usize;
        let waiting = (world.stats().messages_in - before) as usize - delivered;
        most = most.max(waiting * 10_000);
    }
    assert!(most <= 50_000 + 4 * 10_000 + 10_000, "{most} bytes waited");
    world.run_until_quiet();
    assert_eq!(world.stats().messages_out, 200 * (MEMBERS as u64 - 1));
}

/// In each callback, publishes the given number of messages of 1000 bytes to everyone.
struct Excessive;

impl Handler for Excessive {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        peer.subscribe("news").expect("one topic");
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        let count: usize = message.as_text().and_then(|it| it.parse().ok()).expect("a number");
        let payload = "x".repeat(1000);
        let taken = (0..count).filter(|_| peer.publish("news", &payload)).count();
        peer.send(taken.to_string().as_str());
        Reply::None
    }
}

#[test]
fn a_callback_that_publishes_more_than_the_bound_to_its_own_worker_is_told_and_counted() {
    let config = Config { mailbox_bytes_max: 10_000, ..Config::default() };
    let mut world = World::new(Excessive, config);
    let ids = [open(&mut world), open(&mut world)];
    world.send(ids[0], &text("1000"));
    world.run_until_quiet();
    let taken = world.take_received(ids[1]).len() / 1004;
    assert!((9..=10).contains(&taken), "{taken} messages of 1000 bytes, where 10 000 B may wait");
    assert_eq!(world.take_received(ids[0]), text_reply(&taken.to_string()));
    assert_eq!(world.stats().refused_publications as usize, 1000 - taken);
}

#[test]
fn a_callback_within_the_bound_is_not_refused_because_of_others() {
    let config = Config { mailbox_bytes_max: 10_000, ..Config::default() };
    let mut world = World::new(Excessive, config);
    let ids: Vec<_> = (0..20).map(|_| open(&mut world)).collect();
    // All are readable in the same turn, and each has two messages.
    ids.iter().for_each(|id| world.send(*id, &text("7").repeat(2)));
    let (before, mut most) = (world.stats().messages_in, 0);
    while world.stats().messages_in < before + 40 {
        let last = world.stats().messages_in;
        world.turn();
        most = most.max(world.stats().messages_in - last);
    }
    world.run_until_quiet();
    for id in ids {
        let received = world.take_received(id);
        assert_eq!(received.len(), 2 * 19 * 7 * 1004 + 2 * text_reply("7").len());
    }
    assert_eq!(world.stats().refused_publications, 0);
    assert!(most <= 2, "{most} callbacks of 7000 bytes in a turn, where 10 000 B may wait");
}

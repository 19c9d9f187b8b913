//! Peers that do not read: they take a bounded amount of memory, and lose nothing when they read
//! again.

use std::time::Duration;

use ws_reactor::internal::{Command, Readiness};
use ws_reactor::{Config, Echo, Message, Reply};

use crate::probe::{
    Probe, ask, assert_echoes, binary, binary_reply, close, close_reply, echo_world, open, text,
    text_reply,
};
use crate::scripted::{Call, SocketId};
use crate::support::frames::{PONG, client};
use crate::world::World;

/// Maximum number of bytes that one read takes.
const READ_BYTES: usize = 260 * 1024;

/// Bytes that one read may always take, even if much is queued.
const READ_BYTES_MIN: usize = 16 * 1024;

/// Size of the kernel's send buffer in these tests.
const CAPACITY: usize = 10_000;

fn payload() -> String {
    "x".repeat(996)
}

/// A peer that does not read. Its messages have 1004 bytes, and their echoes 1000.
fn peer_that_does_not_read<H: ws_reactor::Handler>(world: &mut World<H>) -> SocketId {
    let id = open(world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = CAPACITY;
    id
}

#[test]
fn reading_pauses_above_high_and_resumes_below_low() {
    let config = Config::default();
    let (high, low) = (config.backlog_bytes_high, config.backlog_bytes_low);
    let mut world = echo_world();
    let id = peer_that_does_not_read(&mut world);
    let (frame, reply) = (text(&payload()), text_reply(&payload()));
    assert_eq!((frame.len(), reply.len()), (1004, 1000));
    let consumed_before = world.socket(id).consumed;
    let all = consumed_before + 300 * frame.len();
    for _ in 0..300 {
        world.send(id, &frame);
    }
    world.run_until_quiet();
    // Bytes of replies that the kernel has refused.
    let unsent = |world: &World<_>, received: &[u8]| {
        let socket = world.socket(id);
        let replies = (socket.consumed - consumed_before) / frame.len() * reply.len();
        replies - socket.written() - received.len()
    };
    assert_eq!(unsent(&world, b""), 66_000, "the first total above {high}");
    let mut received = Vec::new();
    let mut is_paused = true;
    while received.len() < 300 * reply.len() {
        let (before, reads) = (unsent(&world, &received), world.socket(id).calls(Call::Read));
        world.socket(id).drain(700);
        world.turn();
        let has_read = world.socket(id).calls(Call::Read) > reads;
        is_paused &= before.saturating_sub(700) >= low;
        assert!(!(has_read && is_paused), "reads with {before} bytes unsent");
        assert!(has_read || is_paused || world.socket(id).consumed == all, "{before} bytes unsent");
        received.extend(world.take_received(id));
        assert!(unsent(&world, &received) <= high + reply.len());
        is_paused |= unsent(&world, &received) > high;
    }
    assert!(received == reply.repeat(300));
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert_echoes(&mut world, id);
    assert_eq!(world.socket(id).calls(Call::Register), 1);
}

#[test]
fn a_peer_that_never_reads_takes_one_read_or_slightly_more_than_high() {
    let high = Config::default().backlog_bytes_high;
    let input = text(&payload()).repeat(5000);
    // In the last case the replies to the first piece stay below `high`, and much more input waits.
    let all = input.len();
    for (first, further) in [(1004, 1004), (100_400, 100_400), (all, all), (40_160, all)] {
        let mut world = echo_world();
        let id = peer_that_does_not_read(&mut world);
        world.send(id, &input[..first]);
        for piece in input[first..].chunks(further) {
            world.send(id, piece);
        }
        world.run_until_quiet();
        let consumed = world.socket(id).consumed;
        let most = CAPACITY + READ_BYTES.min(first).max(high + READ_BYTES_MIN) + 2048;
        assert!(consumed <= most, "{consumed} of {most} in pieces of {first} and {further}");
        assert_ne!(world.wait(), Some(Duration::ZERO), "it waits for the peer");
        let reads = world.socket(id).calls(Call::Read);
        world.turn();
        assert_eq!(world.socket(id).calls(Call::Read), reads, "no read before the peer reads");
        world.socket(id).client_reads = true;
        world.run_until_quiet();
        assert!(world.take_received(id) == text_reply(&payload()).repeat(5000));
        assert_echoes(&mut world, id);
    }
}

#[test]
fn the_highest_possible_marks_never_pause_reading() {
    let most = usize::MAX;
    let config = Config { backlog_bytes_high: most, backlog_bytes_max: most, ..Config::default() };
    let mut world = World::new(Echo, config);
    let id = peer_that_does_not_read(&mut world);
    world.socket(id).capacity = 1000;
    // The queue grows past the kernel's buffer in steps of a few bytes.
    for _ in 0..500 {
        world.send(id, &text("x"));
        world.run_until_quiet();
    }
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == text_reply("x").repeat(500));
}

#[test]
fn an_incomplete_message_counts_as_queued() {
    let mut world = echo_world();
    let id = peer_that_does_not_read(&mut world);
    let large = "y".repeat(60_000);
    let frame = text(&large);
    let (start, rest) = frame.split_at(40_000);
    // 50 000 bytes of replies are unsent, and 40 000 of a message have arrived: together above
    // high.
    world.send(id, &text(&payload()).repeat(60));
    world.send(id, start);
    world.run_until_quiet();
    let consumed = world.socket(id).consumed;
    world.send(id, rest);
    world.run_until_quiet();
    assert_eq!(world.socket(id).consumed, consumed, "reading has paused");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    let echoes = [text_reply(&payload()).repeat(60), text_reply(&large)].concat();
    assert!(world.take_received(id) == echoes);
    assert_echoes(&mut world, id);
}

#[test]
fn a_large_message_of_a_peer_that_does_not_read_is_not_buffered() {
    let mut world = echo_world();
    let id = peer_that_does_not_read(&mut world);
    let input = binary(1 << 20);
    for piece in input.chunks(16 * 1024) {
        world.send(id, piece);
    }
    world.run_until_quiet();
    let consumed = world.socket(id).consumed;
    assert!(consumed < 128 * 1024, "{consumed} of a message of 1 MiB were read");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == binary_reply(1 << 20));
}

#[test]
fn an_end_of_stream_behind_backpressure_is_not_lost() {
    for drained in [1, 999, 50_000] {
        let (probe, log) = Probe::echo();
        let mut world = World::new(probe, Config::default());
        let id = peer_that_does_not_read(&mut world);
        let input = text(&payload()).repeat(200);
        for piece in input.chunks(20_000) {
            world.send(id, piece);
        }
        world.finish(id);
        world.run_until_quiet();
        assert!(!world.is_dropped(id), "its replies are not sent yet");
        // The first edges then report little space.
        world.socket(id).drain(drained);
        world.run_until_quiet();
        world.socket(id).client_reads = true;
        world.run_until_quiet();
        assert!(world.take_received(id) == text_reply(&payload()).repeat(200));
        assert!(world.is_dropped(id));
        assert_eq!((log.count("text"), log.count("close")), (200, 1));
    }
}

#[test]
fn a_close_frame_behind_backpressure_is_not_lost() {
    let mut world = echo_world();
    let id = peer_that_does_not_read(&mut world);
    for _ in 0..200 {
        world.send(id, &text(&payload()));
    }
    world.send(id, &close(1000));
    world.run_until_quiet();
    assert_eq!(world.socket(id).calls(Call::Shutdown), 0);
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    let reply = [text_reply(&payload()).repeat(200), close_reply(1000, "")].concat();
    assert!(world.take_received(id) == reply);
    assert_eq!(world.socket(id).calls(Call::Shutdown), 1);
}

#[test]
fn a_reset_behind_backpressure_is_noticed() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = peer_that_does_not_read(&mut world);
    world.send(id, &text(&payload()).repeat(200));
    world.run_until_quiet();
    world.reset(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_eq!(log.count("close"), 1);
}

#[test]
fn a_peer_that_does_not_read_delays_no_other() {
    let mut world = echo_world();
    let stuck = peer_that_does_not_read(&mut world);
    let other = open(&mut world);
    world.send(stuck, &text(&payload()).repeat(3000));
    for _ in 0..100 {
        assert_echoes(&mut world, other);
    }
}

#[test]
fn input_beyond_the_read_budget_waits_for_the_next_turn() {
    for flood_is_first in [true, false] {
        let mut world = echo_world();
        let mut peers = [open(&mut world), open(&mut world)];
        if !flood_is_first {
            peers.reverse();
        }
        let [flood, other] = peers;
        let count = 12 * READ_BYTES / 1004;
        world.send(flood, &text(&payload()).repeat(count));
        world.send(other, &text("hi"));
        let reads = world.socket(flood).calls(Call::Read);
        world.turn();
        assert_eq!(world.socket(flood).calls(Call::Read), reads + 4);
        assert_eq!(
            world.socket(other).written(),
            text_reply("hi").len(),
            "the other peer had its turn"
        );
        assert_eq!(world.wait(), Some(Duration::ZERO));
        // No further edge arrives.
        assert!(world.poll().is_empty());
        world.turn_with(Vec::new());
        world.run_until_quiet();
        assert!(world.take_received(flood) == text_reply(&payload()).repeat(count));
        assert_eq!(world.take_received(other), text_reply("hi"));
    }
}

/// The memory of a large message grows with it, but the size of one read does not.
#[test]
fn a_message_of_many_reads_waits_for_the_next_turn() {
    const TURN_BYTES_MAX: usize = 4 * 1024 * 1024;
    let config = Config { message_bytes_max: 64 << 20, ..Config::default() };
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, config);
    let (flood, other) = (open(&mut world), open(&mut world));
    world.send(flood, &binary(32 << 20));
    for turn in 0..6 {
        let before = world.socket(flood).consumed;
        world.send(other, &text("hi"));
        world.turn();
        let consumed = world.socket(flood).consumed - before;
        assert!(consumed <= TURN_BYTES_MAX, "{consumed} bytes in turn {turn}");
        world.socket(other).drain(usize::MAX);
        assert_eq!(world.take_received(other), text_reply("hi"), "the other peer had its turn");
    }
    world.run_until_quiet();
    assert!(world.take_received(flood) == binary_reply(32 << 20));
    assert_eq!(log.count("binary"), 1);
}

/// Forty thousand empty messages fit in one read, and take a hundred times as long as one large
/// message.
#[test]
fn frames_beyond_the_event_budget_wait_for_the_next_turn() {
    let mut world = echo_world();
    let (flood, other) = (open(&mut world), open(&mut world));
    let count = READ_BYTES / text("").len() - 1;
    world.send(flood, &text("").repeat(count));
    world.turn();
    let replies = world.socket(flood).written() / text_reply("").len();
    assert!(replies < 5000, "{replies} replies in a turn");
    assert_eq!(world.wait(), Some(Duration::ZERO), "no further edge will arrive");
    world.send(other, &text("hi"));
    world.turn();
    assert_eq!(
        world.socket(other).written(),
        text_reply("hi").len(),
        "the other peer had its turn"
    );
    world.run_until_quiet();
    assert!(world.take_received(flood) == text_reply("").repeat(count));
    assert_eq!(world.stats().messages_in, count as u64 + 1);
}

#[test]
fn edges_that_arrive_while_a_connection_waits_for_its_turn_are_not_lost() {
    let mut world = echo_world();
    let (flood, other) = (open(&mut world), open(&mut world));
    let count = 20 * READ_BYTES / 1004;
    world.send(flood, &text(&payload()).repeat(count));
    world.send(flood, &close(1000));
    world.finish(flood);
    for round in 0..3 {
        world.turn();
        assert_eq!(ask(&mut world, other, &text("hi")), text_reply("hi"), "round {round}");
    }
    world.run_until_quiet();
    let reply = [text_reply(&payload()).repeat(count), close_reply(1000, "")].concat();
    assert!(world.take_received(flood) == reply);
    assert!(world.is_dropped(flood));
}

/// An edge reports the state at the time of the poll, and later changes raise edges of their own.
#[test]
fn replies_keep_their_order_when_space_appears_during_a_turn() {
    let mut world = echo_world();
    let id = peer_that_does_not_read(&mut world);
    let mut reply = Vec::new();
    for count in 0..50 {
        let message = format!("{count} {}", payload());
        world.send(id, &text(&message));
        reply.extend(text_reply(&message));
        let edges = world.poll();
        world.socket(id).drain(500);
        world.turn_with(edges);
    }
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == reply);
}

#[test]
fn a_writable_edge_does_not_revoke_an_earlier_readable_edge() {
    let mut world = echo_world();
    let id = peer_that_does_not_read(&mut world);
    world.send(id, &text(&payload()).repeat(200));
    world.send(id, &text("the last"));
    world.run_until_quiet();
    let writable = Readiness { readable: false, writable: true, reads_to_end: false };
    let token = world.token(id);
    let mut received = Vec::new();
    for _ in 0..100 {
        world.socket(id).drain(CAPACITY);
        received.extend(world.take_received(id));
        world.turn_with(vec![(token, writable)]);
    }
    assert!(received == [text_reply(&payload()).repeat(200), text_reply("the last")].concat());
}

#[test]
fn a_handler_that_sends_past_max_loses_the_connection() {
    // The kernel takes 10 kB. A callback may leave at most 1 MiB and another message of 1 MiB
    // unsent.
    let (probe, log) = Probe::new(|peer, message| {
        let count = if message.as_bytes() == b"much" { 2200 } else { 2000 };
        for _ in 0..count {
            peer.send(payload().as_str());
        }
        Reply::None
    });
    let mut world = World::new(probe, Config::default());
    let (id, other) = (peer_that_does_not_read(&mut world), peer_that_does_not_read(&mut world));
    world.send(other, &text("little"));
    world.send(id, &text("much"));
    world.run_until_quiet();
    assert!(world.is_dropped(id) && !world.is_dropped(other));
    world.socket(other).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(other) == text_reply(&payload()).repeat(2000));
    assert_eq!(log.count("close 1006 \"\" too many bytes were queued for the peer"), 1);
    assert_eq!((world.stats().backlog_overflows, world.stats().closed), (1, 1));
}

#[test]
fn a_handler_that_pings_past_max_loses_the_connection() {
    const PINGS: usize = 20_000;
    let (probe, _) = Probe::new(|peer, _| {
        (0..PINGS).for_each(|_| assert!(peer.ping(&[b'x'; 125])));
        Reply::None
    });
    let mut world = World::new(probe, Config::default());
    let id = peer_that_does_not_read(&mut world);
    let config = Config::default();
    assert!(PINGS * 127 > CAPACITY + config.backlog_bytes_max + config.message_bytes_max);
    world.send(id, &text("ping me"));
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_eq!(world.stats().backlog_overflows, 1);
}

#[test]
fn messages_of_a_read_wait_while_the_peer_does_not_read_replies() {
    // Each message is answered with 100 kB, and the kernel takes 10 kB: after the first of forty
    // messages in one read, the connection pauses.
    let (probe, log) = Probe::new(|peer, message| {
        for _ in 0..100 {
            peer.send(message);
        }
        Reply::None
    });
    let mut world = World::new(probe, Config::default());
    let (neighbour, id) = (open(&mut world), peer_that_does_not_read(&mut world));
    world.send(id, &text(&payload()).repeat(40));
    world.run_until_quiet();
    assert_eq!(log.count("text"), 1);
    world.finish(id);
    world.run_until_quiet();
    assert!(!world.is_dropped(id), "the messages already read are still answered");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == text_reply(&payload()).repeat(4000));
    assert!(world.is_dropped(id));
    assert_eq!(world.stats().backlog_overflows, 0);
    world.send(neighbour, &text("a"));
    world.run_until_quiet();
    assert_eq!(world.take_received(neighbour), text_reply("a").repeat(100));
}

#[test]
fn many_messages_of_a_handler_all_reach_a_peer_that_reads() {
    let (probe, _) = Probe::new(|peer, message| {
        for _ in 0..100 {
            peer.send(message);
        }
        Reply::None
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    let output = ask(&mut world, id, &text(&payload()).repeat(50));
    assert!(output == text_reply(&payload()).repeat(5000), "{} bytes of 5 MB", output.len());
}

#[test]
fn another_thread_that_sends_past_max_loses_the_connection() {
    let config = Config { backlog_bytes_max: 100_000, ..Config::default() };
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, config);
    let id = peer_that_does_not_read(&mut world);
    let token = world.token(id);
    // The kernel takes 10 messages and 101 are queued, so message 112 exceeds the limit.
    for round in 1..=112 {
        assert!(!world.is_dropped(id), "before message {round}");
        let message = Message::from(payload().as_str()).into();
        assert!(world.post(Command::Send(token, message)));
        world.run_until_quiet();
    }
    assert!(world.is_dropped(id));
    assert_eq!(world.stats().backlog_overflows, 1);
    assert_eq!(log.count("close"), 1);
}

/// `Config::backlog_bytes_max`: echoes do not count.
#[test]
fn a_send_of_another_thread_after_a_long_echo_drops_no_connection() {
    const LEN: usize = 8 << 20;
    let config = Config { message_bytes_max: LEN, ..Config::default() };
    let (probe, _) = Probe::echo();
    let mut world = World::new(probe, config);
    let id = peer_that_does_not_read(&mut world);
    let token = world.token(id);
    world.send(id, &binary(LEN));
    world.run_until_quiet();
    assert!(world.post(Command::Send(token, Message::from("four").into())));
    world.run_until_quiet();
    assert!(!world.is_dropped(id));
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == [binary_reply(LEN), text_reply("four")].concat());
    assert_eq!(world.stats().backlog_overflows, 0);
}

#[test]
fn a_send_of_a_handler_among_many_echoes_drops_no_connection() {
    let config = Config {
        message_bytes_max: 4096,
        backlog_bytes_low: 1000,
        backlog_bytes_high: 64 * 1024,
        backlog_bytes_max: 64 * 1024,
        ..Config::default()
    };
    let (probe, _) = Probe::new(|peer, message| {
        if message.as_bytes() == b"news" {
            peer.send("of the handler");
        }
        Reply::Echo
    });
    let mut world = World::new(probe, config);
    let id = peer_that_does_not_read(&mut world);
    // All messages arrive in one read, and their echoes exceed the limit on sends of the program.
    let (before, after) = (text(&payload()).repeat(200), text(&payload()).repeat(50));
    world.send(id, &[before, text("news"), after].concat());
    world.run_until_quiet();
    assert!(!world.is_dropped(id));
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    let own = [text_reply("of the handler"), text_reply("news")].concat();
    let echo = text_reply(&payload());
    assert!(world.take_received(id) == [echo.repeat(200), own, echo.repeat(50)].concat());
    assert_eq!(world.stats().backlog_overflows, 0);
}

/// The number of messages of 1 kB that another thread can send before the connection is dropped.
fn sends_until_drop<H: ws_reactor::Handler>(world: &mut World<H>, id: SocketId) -> usize {
    let token = world.token(id);
    let mut sends = 0;
    while !world.is_dropped(id) {
        assert!(world.post(Command::Send(token, Message::from(payload().as_str()).into())));
        world.run_until_quiet();
        sends += 1;
    }
    assert_eq!(world.stats().backlog_overflows, 1);
    sends
}

#[test]
fn an_unsent_echo_does_not_lower_the_limit_for_sends() {
    let config =
        Config { backlog_bytes_max: 100_000, message_bytes_max: 500_000, ..Config::default() };
    let (probe, _) = Probe::echo();
    let mut world = World::new(probe, config);
    let id = peer_that_does_not_read(&mut world);
    world.send(id, &binary(500_000));
    world.run_until_quiet();
    // The first hundred reach the limit, the next one exceeds it, and the one after that ends the
    // connection.
    assert_eq!(sends_until_drop(&mut world, id), 102);
}

#[test]
fn messages_deferred_by_a_streamed_message_count_after_its_end() {
    let config = Config { backlog_bytes_max: 100_000, ..Config::default() };
    let mut world = World::new(Echo, config);
    let id = peer_that_does_not_read(&mut world);
    let token = world.token(id);
    let input = binary(20_000);
    world.send(id, &input[..10_000]);
    world.run_until_quiet();
    for _ in 0..60 {
        assert!(world.post(Command::Send(token, Message::from(payload().as_str()).into())));
    }
    world.run_until_quiet();
    world.send(id, &input[10_000..]);
    world.run_until_quiet();
    assert!(!world.is_dropped(id));
    // The kernel's buffer is full, so all sixty are still queued.
    assert_eq!(sends_until_drop(&mut world, id), 42);
}

/// While reading is paused the peer's pongs wait in the socket. Its acknowledgements are then the
/// only sign of life, so acknowledgements of bytes after the ping count too.
#[test]
fn a_slow_peer_that_sends_while_reading_is_paused_is_kept() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    let news = "n".repeat(10_000);
    let send_news = |world: &World<Echo>| {
        assert!(world.post(Command::Send(token, Message::from(news.as_str()).into())));
    };
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1000;
    for _ in 0..20 {
        send_news(&world);
    }
    world.run_until_quiet();
    for second in (0..1200).step_by(10) {
        world.send(id, &client(PONG, b"").bytes());
        world.advance(Duration::from_secs(10));
        assert!(!world.is_dropped(id), "after {second} s");
        send_news(&world);
        for _ in 0..10 {
            world.socket(id).drain(1000);
            world.run_until_quiet();
        }
    }
    assert_eq!(world.stats().idle_timeouts, 0);
}

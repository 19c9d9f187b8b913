//! Peers that do not read: the memory that they cost, and that nothing is lost when they read again.

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

/// Bytes that one read takes at most.
const READ_BYTES: usize = 260 * 1024;

/// Bytes that one read may take, however much is queued.
const READ_BYTES_MIN: usize = 16 * 1024;

/// What the kernel's send buffer takes in these tests.
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
    let owed = |world: &World<_>, received: &[u8]| {
        let socket = world.socket(id);
        let replies = (socket.consumed - consumed_before) / frame.len() * reply.len();
        replies - socket.written() - received.len()
    };
    assert_eq!(owed(&world, b""), 66_000, "the first that is above {high}");
    let mut received = Vec::new();
    let mut is_paused = true;
    while received.len() < 300 * reply.len() {
        let (before, reads) = (owed(&world, &received), world.socket(id).calls(Call::Read));
        world.socket(id).drain(700);
        world.turn();
        let has_read = world.socket(id).calls(Call::Read) > reads;
        is_paused &= before.saturating_sub(700) >= low;
        assert!(!(has_read && is_paused), "reads with {before} bytes owed");
        assert!(has_read || is_paused || world.socket(id).consumed == all, "{before} bytes owed");
        received.extend(world.take_received(id));
        assert!(owed(&world, &received) <= high + reply.len());
        is_paused |= owed(&world, &received) > high;
    }
    assert!(received == reply.repeat(300));
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert_echoes(&mut world, id);
    assert_eq!(world.socket(id).calls(Call::Register), 1);
}

#[test]
fn a_peer_that_never_reads_holds_one_read_or_a_little_above_high() {
    let high = Config::default().backlog_bytes_high;
    let input = text(&payload()).repeat(5000);
    // In the last, what is queued after the first piece is below high, and more than enough waits.
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
        assert_eq!(world.socket(id).calls(Call::Read), reads, "nobody reads until it reads");
        world.socket(id).client_reads = true;
        world.run_until_quiet();
        assert!(world.take_received(id) == text_reply(&payload()).repeat(5000));
        assert_echoes(&mut world, id);
    }
}

#[test]
fn marks_as_high_as_can_be_pause_nobody() {
    let most = usize::MAX;
    let config = Config { backlog_bytes_high: most, backlog_bytes_max: most, ..Config::default() };
    let mut world = World::new(Echo, config);
    let id = peer_that_does_not_read(&mut world);
    world.socket(id).capacity = 1000;
    // Every few bytes more than that are queued at some time.
    for _ in 0..500 {
        world.send(id, &text("x"));
        world.run_until_quiet();
    }
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == text_reply("x").repeat(500));
}

#[test]
fn a_message_under_way_counts_as_queued() {
    let mut world = echo_world();
    let id = peer_that_does_not_read(&mut world);
    let large = "y".repeat(60_000);
    let frame = text(&large);
    let (begun, rest) = frame.split_at(40_000);
    // 50 000 bytes are owed, and 40 000 of a message are there: more than high, together.
    world.send(id, &text(&payload()).repeat(60));
    world.send(id, begun);
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
fn a_large_message_to_a_peer_that_does_not_read_is_not_held() {
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
        assert!(!world.is_gone(id), "it is owed replies");
        // So that the first edges are small ones.
        world.socket(id).drain(drained);
        world.run_until_quiet();
        world.socket(id).client_reads = true;
        world.run_until_quiet();
        assert!(world.take_received(id) == text_reply(&payload()).repeat(200));
        assert!(world.is_gone(id));
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
    assert!(world.is_gone(id));
    assert_eq!(log.count("close"), 1);
}

#[test]
fn a_peer_that_does_not_read_holds_up_no_other() {
    let mut world = echo_world();
    let stuck = peer_that_does_not_read(&mut world);
    let other = open(&mut world);
    world.send(stuck, &text(&payload()).repeat(3000));
    for _ in 0..100 {
        assert_echoes(&mut world, other);
    }
}

#[test]
fn what_is_above_the_read_budget_waits_for_the_next_turn() {
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
        assert_eq!(world.socket(other).written(), text_reply("hi").len(), "it had its turn");
        assert_eq!(world.wait(), Some(Duration::ZERO));
        // No further edge comes.
        assert!(world.poll().is_empty());
        world.turn_with(Vec::new());
        world.run_until_quiet();
        assert!(world.take_received(flood) == text_reply(&payload()).repeat(count));
        assert_eq!(world.take_received(other), text_reply("hi"));
    }
}

/// What a message is read into grows with it; a read of it does not.
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
        assert_eq!(world.take_received(other), text_reply("hi"), "it had its turn");
    }
    world.run_until_quiet();
    assert!(world.take_received(flood) == binary_reply(32 << 20));
    assert_eq!(log.count("binary"), 1);
}

/// Forty thousand empty messages fit a read, and take a hundred times as long as one large one.
#[test]
fn frames_beyond_the_event_budget_wait_for_the_next_turn() {
    let mut world = echo_world();
    let (flood, other) = (open(&mut world), open(&mut world));
    let count = READ_BYTES / text("").len() - 1;
    world.send(flood, &text("").repeat(count));
    world.turn();
    let replies = world.socket(flood).written() / text_reply("").len();
    assert!(replies < 5000, "{replies} replies in a turn");
    assert_eq!(world.wait(), Some(Duration::ZERO), "no further edge will come");
    world.send(other, &text("hi"));
    world.turn();
    assert_eq!(world.socket(other).written(), text_reply("hi").len(), "it had its turn");
    world.run_until_quiet();
    assert!(world.take_received(flood) == text_reply("").repeat(count));
    assert_eq!(world.stats().messages_in, count as u64 + 1);
}

#[test]
fn edges_that_come_while_a_connection_waits_for_its_turn_are_not_lost() {
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
    assert!(world.is_gone(flood));
}

/// An edge reports the state at the time of the poll; later changes raise edges of their own.
#[test]
fn room_that_comes_in_the_middle_of_a_turn_lets_nothing_overtake() {
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
fn an_edge_that_says_only_writable_takes_back_nothing() {
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
    // The kernel takes 10 kB. A callback may leave 1 MiB and a message of as much, and not more.
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
    assert!(world.is_gone(id) && !world.is_gone(other));
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
        (0..PINGS).for_each(|_| peer.ping(&[b'x'; 125]));
        Reply::None
    });
    let mut world = World::new(probe, Config::default());
    let id = peer_that_does_not_read(&mut world);
    let config = Config::default();
    assert!(PINGS * 127 > CAPACITY + config.backlog_bytes_max + config.message_bytes_max);
    world.send(id, &text("ping me"));
    world.run_until_quiet();
    assert!(world.is_gone(id));
    assert_eq!(world.stats().backlog_overflows, 1);
}

#[test]
fn messages_of_a_read_wait_for_a_peer_that_does_not_take_the_answers() {
    // A message is answered with 100 kB, the kernel takes 10 kB: the first answer pauses the peer
    // in the middle of the read that brought forty.
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
    assert!(!world.is_gone(id), "what has been read is still answered");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == text_reply(&payload()).repeat(4000));
    assert!(world.is_gone(id));
    assert_eq!(world.stats().backlog_overflows, 0);
    world.send(neighbour, &text("a"));
    world.run_until_quiet();
    assert_eq!(world.take_received(neighbour), text_reply("a").repeat(100));
}

#[test]
fn a_handler_that_answers_much_loses_nothing_to_a_peer_that_reads() {
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
    // The kernel takes ten, a hundred and one are queued: the last of them is above.
    for round in 1..=112 {
        assert!(!world.is_gone(id), "before message {round}");
        let message = Message::from(payload().as_str()).into();
        assert!(world.post(Command::Send(token, message)));
        world.run_until_quiet();
    }
    assert!(world.is_gone(id));
    assert_eq!(world.stats().backlog_overflows, 1);
    assert_eq!(log.count("close"), 1);
}

/// `Config::backlog_bytes_max`: echoes do not count.
#[test]
fn a_send_of_another_thread_beside_a_long_echo_loses_nobody() {
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
    assert!(!world.is_gone(id));
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == [binary_reply(LEN), text_reply("four")].concat());
    assert_eq!(world.stats().backlog_overflows, 0);
}

#[test]
fn a_send_of_a_handler_among_many_echoes_loses_nobody() {
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
    // They all come with one read, and their echoes are more than may be queued by a program.
    let (before, after) = (text(&payload()).repeat(200), text(&payload()).repeat(50));
    world.send(id, &[before, text("news"), after].concat());
    world.run_until_quiet();
    assert!(!world.is_gone(id));
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    let own = [text_reply("of the handler"), text_reply("news")].concat();
    let echo = text_reply(&payload());
    assert!(world.take_received(id) == [echo.repeat(200), own, echo.repeat(50)].concat());
    assert_eq!(world.stats().backlog_overflows, 0);
}

/// How many messages of a kilobyte another thread can send until the connection is lost.
fn sends_until_lost<H: ws_reactor::Handler>(world: &mut World<H>, id: SocketId) -> usize {
    let token = world.token(id);
    let mut sends = 0;
    while !world.is_gone(id) {
        assert!(world.post(Command::Send(token, Message::from(payload().as_str()).into())));
        world.run_until_quiet();
        sends += 1;
    }
    assert_eq!(world.stats().backlog_overflows, 1);
    sends
}

#[test]
fn what_a_program_may_send_is_the_same_beside_a_long_echo() {
    let config =
        Config { backlog_bytes_max: 100_000, message_bytes_max: 500_000, ..Config::default() };
    let (probe, _) = Probe::echo();
    let mut world = World::new(probe, config);
    let id = peer_that_does_not_read(&mut world);
    world.send(id, &binary(500_000));
    world.run_until_quiet();
    // A hundred come to the mark, the next is above it, and the one after that is refused.
    assert_eq!(sends_until_lost(&mut world, id), 102);
}

#[test]
fn what_waited_for_the_end_of_a_streamed_message_still_counts_behind_it() {
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
    assert!(!world.is_gone(id));
    // The kernel has no room left for any of the sixty.
    assert_eq!(sends_until_lost(&mut world, id), 42);
}

/// While reading is paused its pongs wait in the socket: the server can judge the peer only by its
/// acknowledgements, so those of bytes behind the ping count too.
#[test]
fn a_slow_peer_that_sends_while_reading_is_paused_is_not_given_up() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    let news = "n".repeat(10_000);
    let tell = |world: &World<Echo>| {
        assert!(world.post(Command::Send(token, Message::from(news.as_str()).into())));
    };
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1000;
    for _ in 0..20 {
        tell(&world);
    }
    world.run_until_quiet();
    for second in (0..1200).step_by(10) {
        world.send(id, &client(PONG, b"").bytes());
        world.advance(Duration::from_secs(10));
        assert!(!world.is_gone(id), "after {second} s");
        tell(&world);
        for _ in 0..10 {
            world.socket(id).drain(1000);
            world.run_until_quiet();
        }
    }
    assert_eq!(world.stats().idle_timeouts, 0);
}

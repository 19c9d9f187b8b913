//! Timeouts, in made-up time. None is early; each is at most two ticks of 50 ms late.

use std::time::Duration;

use ws_reactor::internal::{Command, READY_PER_TURN};
use ws_reactor::{CloseCode, Config, Handler, Message};

use crate::probe::{
    Probe, ask, assert_echoes, binary, binary_reply, close, close_reply, echo_world, has_status,
    open, text, text_reply,
};
use crate::scripted::{Call, SocketId};
use crate::support::frames::{PING, PONG, client, server};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

const GRAIN: Duration = Duration::from_millis(100);
const JUST: Duration = Duration::from_millis(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ping() -> Vec<u8> {
    server(PING, b"").bytes()
}

/// The end of our direction has been sent; the peer's ends the connection, and `close_timeout` would.
fn assert_lingers<H: Handler>(world: &mut World<H>, id: SocketId) {
    assert!(!world.is_gone(id), "no reset may destroy what the peer was told last");
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_gone(id));
}

#[test]
fn a_request_that_does_not_come_is_answered_408_after_10_seconds() {
    for sent in [&b""[..], b"G", &GOOD_REQUEST[..GOOD_REQUEST.len() - 1]] {
        let mut world = echo_world();
        let id = world.connect();
        world.send(id, sent);
        world.advance(seconds(10) - JUST);
        assert!(!world.is_gone(id) && world.received(id).is_empty());
        world.advance(GRAIN + JUST);
        assert!(has_status(&world.received(id), 408), "{} bytes", sent.len());
        assert_lingers(&mut world, id);
        let stats = world.stats();
        assert_eq!((stats.handshake_timeouts, stats.refused, stats.opened), (1, 0, 0));
    }
}

#[test]
fn bytes_do_not_extend_the_time_for_a_request() {
    let mut world = echo_world();
    let id = world.connect();
    for byte in GOOD_REQUEST.chunks(1).take(10) {
        world.send(id, byte);
        world.advance(seconds(1));
    }
    world.advance(GRAIN);
    assert!(has_status(&world.received(id), 408));
    assert_lingers(&mut world, id);
}

#[test]
fn a_request_in_the_last_moment_is_in_time() {
    let mut world = echo_world();
    let id = world.connect();
    world.advance(seconds(10) - JUST);
    assert_eq!(ask(&mut world, id, GOOD_REQUEST), GOOD_RESPONSE);
    world.advance(seconds(59));
    assert_echoes(&mut world, id);
}

#[test]
fn an_idle_connection_is_pinged_at_half_and_closed_at_the_whole() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    world.advance(seconds(60) - JUST);
    assert_eq!(world.take_received(id), b"");
    world.advance(GRAIN + JUST);
    assert_eq!(world.take_received(id), ping());
    world.advance(seconds(60) - GRAIN - JUST);
    assert_eq!(world.take_received(id), b"");
    assert!(!world.is_gone(id));
    world.advance(GRAIN + JUST);
    assert_eq!(world.take_received(id), close_reply(1001, "idle timeout"));
    assert_lingers(&mut world, id);
    assert_eq!(log.count("close 1006 \"\" nothing moved for too long"), 1);
    assert_eq!((world.stats().idle_timeouts, world.stats().closed), (1, 1));
}

/// The kernel had room for the ping, and has none for the close frame.
#[test]
fn an_idle_peer_whose_kernel_is_full_is_dropped_in_time() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    world.socket(id).peer_reads = false;
    world.socket(id).capacity = ping().len();
    world.advance(seconds(120) - JUST);
    assert!(!world.is_gone(id));
    world.advance(GRAIN + GRAIN);
    assert!(world.is_gone(id));
    world.socket(id).drain(10);
    assert_eq!(world.take_received(id), ping());
    assert_eq!(log.count("close 1006 \"\" nothing moved for too long"), 1);
    assert_eq!((world.stats().idle_timeouts, world.stats().closed), (1, 1));
}

#[test]
fn a_pong_keeps_a_connection_open() {
    let mut world = echo_world();
    let id = open(&mut world);
    for _ in 0..20 {
        world.advance(seconds(60) + GRAIN);
        assert_eq!(world.take_received(id), ping());
        assert_eq!(ask(&mut world, id, &client(PONG, b"").bytes()), b"");
    }
    assert_echoes(&mut world, id);
    assert_eq!(world.stats().idle_timeouts, 0);
}

#[test]
fn messages_keep_a_connection_open_and_unpinged() {
    let mut world = echo_world();
    let id = open(&mut world);
    for _ in 0..20 {
        world.advance(seconds(59));
        assert_echoes(&mut world, id);
    }
    world.advance(seconds(60) + GRAIN);
    assert_eq!(world.take_received(id), ping());
}

#[test]
fn a_half_received_frame_does_not_keep_a_connection_open() {
    for half in [&text("half")[..3], &text("half")[..8], &binary(20_000)[..9_000]] {
        let mut world = echo_world();
        let id = open(&mut world);
        world.send(id, half);
        world.advance(seconds(125) + GRAIN + GRAIN);
        assert!(world.is_gone(id), "{} bytes", half.len());
        assert_eq!(world.stats().idle_timeouts, 1);
    }
}

#[test]
fn nothing_is_written_into_a_streamed_frame_when_time_is_up() {
    let mut world = echo_world();
    let id = open(&mut world);
    let half = &binary(20_000)[..9_000];
    world.send(id, half);
    world.advance(seconds(120) + GRAIN);
    assert!(world.is_gone(id));
    assert!(world.received(id) == binary_reply(20_000)[..9_000 - 4]);
}

#[test]
fn a_ping_waits_for_the_end_of_a_streamed_frame() {
    let mut world = echo_world();
    let id = open(&mut world);
    let input = binary(20_000);
    world.send(id, &input[..9_000]);
    world.advance(seconds(61));
    world.send(id, &input[9_000..]);
    world.run_until_quiet();
    assert!(world.take_received(id) == [binary_reply(20_000), ping()].concat());
    assert_echoes(&mut world, id);
}

/// Every 50 seconds the peer takes a little of what it is owed, and sends nothing.
#[test]
fn bytes_taken_from_the_backlog_keep_a_connection_open() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.socket(id).peer_reads = false;
    world.socket(id).capacity = 1000;
    world.send(id, &binary(10_000));
    for _ in 0..9 {
        world.advance(seconds(50));
        world.socket(id).drain(1000);
        world.run_until_quiet();
    }
    assert!(!world.is_gone(id));
    world.advance(seconds(121));
    assert!(world.is_gone(id));
}

/// `Config::idle_timeout`: "without a byte received, and without one accepted by the kernel".
#[test]
fn messages_that_the_kernel_takes_keep_a_connection_open() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    for round in 0..10 {
        world.advance(seconds(50));
        assert!(!world.is_gone(id), "round {round}");
        assert!(world.post(Command::Send(token, Message::from("news").into())));
        world.run_until_quiet();
        assert!(world.take_received(id).ends_with(&text_reply("news")), "round {round}");
    }
}

/// The deadline of an open connection may be nearer than the one of its handshake.
#[test]
fn an_idle_timeout_shorter_than_the_handshakes_is_kept() {
    for idle in [2, 4, 10, 19] {
        let mut world = World::new(
            Probe::echo().0,
            Config { idle_timeout: seconds(idle), ..Config::default() },
        );
        let id = open(&mut world);
        world.advance(seconds(idle) / 2 + GRAIN);
        assert_eq!(world.take_received(id), ping(), "half of {idle} s");
        world.advance(seconds(idle) / 2);
        assert_eq!(world.take_received(id), close_reply(1001, "idle timeout"), "{idle} s");
        assert_lingers(&mut world, id);
    }
}

fn closing(world: &mut World<Probe>) -> SocketId {
    let id = open(world);
    let token = world.token(id);
    assert!(world.post(Command::Close(token, CloseCode::NORMAL, "bye".into())));
    world.run_until_quiet();
    assert_eq!(world.take_received(id), close_reply(1000, "bye"));
    id
}

#[test]
fn a_close_that_is_not_answered_ends_after_5_seconds() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = closing(&mut world);
    world.advance(seconds(5) - JUST);
    assert!(!world.is_gone(id));
    world.advance(GRAIN + JUST);
    assert!(world.is_gone(id));
    assert_eq!(world.stats().close_timeouts, 1);
    assert_eq!(log.count("close 1006 \"\" the peer did not answer the close frame"), 1);
}

#[test]
fn messages_do_not_extend_the_time_for_a_close() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = closing(&mut world);
    for _ in 0..5 {
        assert_eq!(ask(&mut world, id, &text("chatter")), b"");
        world.advance(seconds(1));
    }
    world.advance(GRAIN);
    assert!(world.is_gone(id));
    assert_eq!((world.stats().close_timeouts, log.count("text")), (1, 0));
}

#[test]
fn a_close_that_is_answered_ends_at_once() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = closing(&mut world);
    assert_eq!(ask(&mut world, id, &close(1000)), b"");
    assert_eq!(world.socket(id).calls(Call::Shutdown), 1);
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_gone(id));
    assert_eq!(log.count("close 1000 \"\" closed by the server"), 1);
    assert_eq!(world.stats().close_timeouts, 0);
}

#[test]
fn a_peer_that_stays_after_the_end_is_dropped_after_5_seconds() {
    for last in [&close(1000)[..], b"\xff", &text("unmasked")[..1]] {
        for chatters in [false, true] {
            let mut world = echo_world();
            let id = open(&mut world);
            world.send(id, last);
            if last.len() == 1 && last[0] != 0xff {
                // Half a header is no end: the reserved bits are.
                world.send(id, b"\x00");
            } else if last.len() == 1 {
                world.send(id, b"\x80");
            }
            world.run_until_quiet();
            assert_eq!(world.socket(id).calls(Call::Shutdown), 1);
            for _ in 0..5 {
                assert!(!world.is_gone(id));
                if chatters {
                    world.send(id, b"more");
                }
                world.advance(seconds(1) - JUST);
            }
            assert!(!world.is_gone(id));
            world.advance(GRAIN + 5 * JUST);
            assert!(world.is_gone(id));
        }
    }
}

#[test]
fn a_refused_client_that_stays_is_dropped_after_5_seconds() {
    let mut world = echo_world();
    let (id, answer) = world.open(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(has_status(&answer, 405));
    world.advance(seconds(5) - JUST);
    assert!(!world.is_gone(id));
    world.advance(GRAIN + JUST);
    assert!(world.is_gone(id));
}

#[test]
fn a_close_frame_that_the_peer_does_not_take_is_given_up() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.socket(id).peer_reads = false;
    world.socket(id).capacity = 1;
    world.send(id, &close(1000));
    world.advance(seconds(100));
    assert!(!world.is_gone(id), "what it is owed may still be on its way");
    world.advance(seconds(20) + GRAIN);
    assert!(world.is_gone(id));
    assert_eq!(world.stats().ended, 1);
}

#[test]
fn without_connections_nothing_is_waited_for() {
    let mut world = echo_world();
    assert_eq!(world.wait(), None);
    let ids: Vec<_> = (0..50).map(|_| open(&mut world)).collect();
    assert!(world.wait().is_some());
    for id in ids {
        world.send(id, &close(1000));
        world.finish(id);
    }
    world.run_until_quiet();
    world.advance(seconds(121));
    assert_eq!(world.wait(), None);
    assert_eq!(world.stats().ended, 50);
}

#[test]
fn deadlines_of_many_connections_keep_apart() {
    let mut world = echo_world();
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(open(&mut world));
        world.advance(Duration::from_millis(700));
    }
    // The first has been idle for 70 s, the last for 0.7 s.
    for (id, age_ms) in ids.iter().zip((1..=100).rev().map(|count| count * 700)) {
        let pinged = !world.take_received(*id).is_empty();
        assert_eq!(pinged, age_ms > 60_000 + 50, "idle for {age_ms} ms");
    }
    for _ in 0..200 {
        world.advance(Duration::from_millis(700));
    }
    assert_eq!(world.stats().idle_timeouts, 100);
    assert_eq!(world.wait(), None);
}

/// A callback, or a stopped process, takes time between a turn and the next poll.
#[test]
fn a_wait_counts_from_the_poll_and_not_from_the_last_turn() {
    let mut world = echo_world();
    let id = world.connect();
    world.run_until_quiet();
    world.skip(seconds(9));
    assert!(world.wait().is_some_and(|wait| wait <= seconds(1) + GRAIN));
    world.skip(seconds(2));
    assert_eq!(world.wait(), Some(Duration::ZERO), "the deadline has passed");
    world.run_until_quiet();
    assert!(has_status(&world.received(id), 408));
}

/// The worker was away for longer than the idle timeout.
#[test]
fn time_that_the_worker_was_away_is_not_the_peers() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.skip(seconds(300));
    world.run_until_quiet();
    assert_eq!(world.take_received(id), ping(), "and not a close frame behind it");
    assert_echoes(&mut world, id);
}

/// The worker was away, and what its peers have sent meanwhile takes several batches of edges.
#[test]
fn what_waits_in_the_kernel_counts_after_the_worker_was_away() {
    let mut world = echo_world();
    let ids: Vec<_> = (0..3 * READY_PER_TURN).map(|_| open(&mut world)).collect();
    world.advance(seconds(60) + GRAIN);
    let late = world.connect();
    world.run_until_quiet();
    world.skip(seconds(65));
    for id in &ids {
        assert_eq!(world.take_received(*id), ping());
        world.send(*id, &client(PONG, b"").bytes());
    }
    world.run_until_quiet();
    assert!(has_status(&world.take_received(late), 408), "nothing came from it");
    assert_eq!((world.stats().idle_timeouts, world.stats().open()), (0, ids.len() as u64));
}

/// So much comes that no batch is ever less than a full one.
#[test]
fn deadlines_come_however_much_is_ready() {
    let mut world = echo_world();
    let ids: Vec<_> = (0..2 * READY_PER_TURN).map(|_| open(&mut world)).collect();
    let late = world.connect();
    for _ in 0..200 {
        for id in &ids {
            world.send(*id, &text("a"));
        }
        world.turn();
        world.turn();
        world.skip(Duration::from_millis(100));
    }
    assert!(world.is_gone(late), "it has not sent its request for 20 s");
    assert_eq!(world.stats().open(), ids.len() as u64);
}

/// Found by the simulation: what the kernel takes of a message counts, also if it is not all.
#[test]
fn a_posted_message_that_is_taken_in_part_puts_off_the_end() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.advance(seconds(100));
    assert_eq!(world.take_received(id), ping());
    world.socket(id).peer_reads = false;
    world.socket(id).capacity = 1000;
    let message = Message::from(&[0; 5000]).into();
    assert!(world.post(Command::Send(world.token(id), message)));
    world.advance(seconds(119));
    assert!(!world.is_gone(id), "the kernel took 1000 bytes 119 s ago");
    world.advance(seconds(2));
    assert!(world.is_gone(id));
}

/// Found by the simulation: the time to answer a close frame begins when it goes out.
#[test]
fn a_close_frame_that_waited_for_a_streamed_frame_leaves_time_for_its_answer() {
    let mut world = echo_world();
    let id = open(&mut world);
    let input = binary(30_000);
    let (start, rest) = input.split_at(20_000);
    world.send(id, start);
    world.run_until_quiet();
    assert!(world.post(Command::Close(world.token(id), CloseCode::NORMAL, "".into())));
    world.advance(seconds(4));
    world.send(id, rest);
    world.run_until_quiet();
    assert_eq!(world.take_received(id), [binary_reply(30_000), close_reply(1000, "")].concat());
    world.advance(seconds(4));
    assert!(!world.is_gone(id), "the close frame went out 4 s ago");
    world.advance(seconds(1) + GRAIN);
    assert!(world.is_gone(id));
}

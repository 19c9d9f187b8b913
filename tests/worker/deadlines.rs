//! Timeouts of the handshake and of an open connection, in virtual time. No timeout is early. Each
//! is at most two ticks of 50 ms late, and later by one check if it begins with an acknowledgement.

use std::time::Duration;

use ws_reactor::internal::{Command, READY_PER_TURN};
use ws_reactor::{Config, Handler, Message, Reply};

use crate::probe::{
    CHECK_SLACK, MOMENT, Probe, SLACK, ask, assert_echoes, binary, binary_reply, close,
    close_reply, echo_world, has_status, open, seconds, text, text_reply,
};
use crate::scripted::SocketId;
use crate::support::frames::{PING, PONG, client, server};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

/// The size of a keepalive ping, which has 8 bytes of payload.
const PING_BYTES: usize = 10;

#[track_caller]
fn assert_ping(received: &[u8]) {
    let payload = received.last_chunk::<8>().expect("8 bytes of payload");
    assert_eq!(received, server(PING, payload).bytes());
}

/// Checks that the server has ended its direction and waits for the end of the peer's.
fn assert_lingers<H: Handler>(world: &mut World<H>, id: SocketId) {
    assert!(!world.is_dropped(id), "a reset could destroy the last bytes sent to the peer");
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
}

#[test]
fn a_missing_request_is_answered_408_after_10_seconds() {
    for sent in [&b""[..], b"G", &GOOD_REQUEST[..GOOD_REQUEST.len() - 1]] {
        let mut world = echo_world();
        let id = world.connect();
        world.send(id, sent);
        world.advance(seconds(10) - MOMENT);
        assert!(!world.is_dropped(id) && world.received(id).is_empty());
        world.advance(SLACK + MOMENT);
        assert!(has_status(&world.received(id), 408), "{} bytes", sent.len());
        assert_lingers(&mut world, id);
        let stats = world.stats();
        assert_eq!((stats.handshake_timeouts, stats.refused, stats.opened), (1, 0, 0));
    }
}

#[test]
fn bytes_do_not_extend_the_handshake_timeout() {
    let mut world = echo_world();
    let id = world.connect();
    for byte in GOOD_REQUEST.chunks(1).take(10) {
        world.send(id, byte);
        world.advance(seconds(1));
    }
    world.advance(SLACK);
    assert!(has_status(&world.received(id), 408));
    assert_lingers(&mut world, id);
}

#[test]
fn a_request_just_before_the_handshake_timeout_is_accepted() {
    let mut world = echo_world();
    let id = world.connect();
    world.advance(seconds(10) - MOMENT);
    assert_eq!(ask(&mut world, id, GOOD_REQUEST), GOOD_RESPONSE);
    world.advance(seconds(24));
    assert_echoes(&mut world, id);
}

/// `Config::ping_interval` and `idle_timeout`: 25 and 120 seconds.
#[test]
fn an_idle_connection_is_pinged_and_then_closed_with_1001() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    world.advance(seconds(25) - MOMENT);
    assert_eq!(world.take_received(id), b"");
    world.advance(SLACK + MOMENT);
    assert_ping(&world.take_received(id));
    world.advance(seconds(95) - SLACK - MOMENT);
    assert_eq!(world.take_received(id), b"");
    assert!(!world.is_dropped(id));
    world.advance(CHECK_SLACK + MOMENT);
    assert_eq!(world.take_received(id), close_reply(1001, "idle timeout"));
    assert_lingers(&mut world, id);
    assert_eq!(log.count("close 1006 \"\" the peer was silent for too long"), 1);
    assert_eq!((world.stats().idle_timeouts, world.stats().closed), (1, 1));
}

/// Either the kernel's buffer is full after the ping, or the peer's TCP has not acknowledged the
/// ping. In both cases a close frame would not arrive.
#[test]
fn an_idle_peer_that_cannot_receive_a_close_frame_is_dropped() {
    for (capacity, peer_buffer) in [(PING_BYTES, 100), (usize::MAX, 0)] {
        let (probe, log) = Probe::echo();
        let mut world = World::new(probe, Config::default());
        let id = open(&mut world);
        world.socket(id).client_reads = false;
        world.socket(id).capacity = capacity;
        world.socket(id).peer_buffer = peer_buffer;
        world.advance(seconds(120) - MOMENT);
        assert!(!world.is_dropped(id));
        world.advance(CHECK_SLACK + MOMENT);
        assert!(world.is_dropped(id));
        world.socket(id).drain(usize::MAX);
        assert_ping(&world.take_received(id));
        assert_eq!(log.count("close 1006 \"\" the peer was silent for too long"), 1);
        assert_eq!((world.stats().idle_timeouts, world.stats().closed), (1, 1));
    }
}

/// As documented at `Config::ping_interval`.
#[test]
fn a_ping_interval_of_more_than_half_the_idle_timeout_counts_as_half() {
    for (interval, expected) in [(10, 10), (30, 30), (31, 30), (1000, 30)] {
        let config = Config {
            ping_interval: seconds(interval),
            idle_timeout: seconds(60),
            ..Config::default()
        };
        let mut world = World::new(Probe::echo().0, config);
        let id = open(&mut world);
        world.advance(seconds(expected) - MOMENT);
        assert_eq!(world.take_received(id), b"", "{interval} s");
        world.advance(SLACK + MOMENT);
        assert_ping(&world.take_received(id));
        world.advance(seconds(60 - expected) - SLACK);
        assert_eq!(world.take_received(id), b"", "{interval} s");
        world.advance(CHECK_SLACK);
        assert_eq!(world.take_received(id), close_reply(1001, "idle timeout"), "{interval} s");
    }
}

fn without_pings() -> Config {
    Config { ping_interval: Duration::ZERO, ..Config::default() }
}

#[test]
fn without_pings_a_silent_peer_is_closed_after_the_idle_timeout() {
    let mut world = World::new(Probe::echo().0, without_pings());
    let id = open(&mut world);
    world.advance(seconds(120) - MOMENT);
    assert_eq!(world.take_received(id), b"");
    world.advance(SLACK + MOMENT);
    assert_eq!(world.take_received(id), close_reply(1001, "idle timeout"));
    assert_lingers(&mut world, id);
}

/// A peer may receive a large echo slowly and send nothing meanwhile.
#[test]
fn without_pings_acknowledgements_keep_a_peer_while_others_are_outstanding() {
    let mut world = World::new(Probe::echo().0, without_pings());
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.send(id, &binary(10_000));
    for _ in 0..9 {
        world.advance(seconds(100));
        assert!(!world.is_dropped(id));
        world.socket(id).drain(1000);
    }
    world.advance(seconds(119));
    assert!(!world.is_dropped(id));
    world.advance(seconds(2) + seconds(120) / 32 + CHECK_SLACK);
    assert!(world.is_dropped(id), "no progress for 120 s");
}

/// The kernel accepts bytes for a peer that has disappeared, so an accepted write is no sign of
/// life.
#[test]
fn messages_from_another_thread_do_not_keep_a_silent_peer() {
    for (pings, acknowledges) in [(true, false), (true, true), (false, false), (false, true)] {
        let config = Config {
            idle_timeout: seconds(2),
            ping_interval: if pings { seconds(1) } else { Duration::ZERO },
            ..Config::default()
        };
        let mut world = World::new(Probe::echo().0, config);
        let id = open(&mut world);
        let token = world.token(id);
        world.socket(id).client_reads = acknowledges;
        let mut alive_ms = 0;
        while world.stats().open() == 1 {
            assert!(alive_ms < 2600, "pings: {pings}, acknowledges: {acknowledges}");
            assert!(world.post(Command::Send(token, Message::from("news").into())));
            world.advance(Duration::from_millis(500));
            alive_ms += 500;
        }
        assert!(alive_ms >= 2000, "pings: {pings}, acknowledges: {acknowledges}");
        assert_eq!(world.stats().idle_timeouts, 1);
    }
}

/// A peer on a slow link needs longer than the idle timeout for a large echo. The kernel has
/// accepted all of the echo, and the ping waits behind it.
#[test]
fn a_slow_peer_that_keeps_acknowledging_is_not_closed() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.send(id, &binary(100_000));
    let mut received = 0;
    for _ in 0..10 {
        world.advance(seconds(60));
        assert!(!world.is_dropped(id), "after {received} bytes");
        world.socket(id).drain(10_000);
        received += world.take_received(id).len();
    }
    assert_eq!(received, 100_000);
    world.socket(id).client_reads = true;
    assert_eq!(ask(&mut world, id, &client(PONG, b"").bytes()).len(), 10 + PING_BYTES);
    assert_echoes(&mut world, id);
    assert_eq!(world.stats().idle_timeouts, 0);
}

/// Once the peer's TCP has acknowledged the ping, a program that hangs is detected even if the
/// server sends further messages.
#[test]
fn acknowledgements_after_the_ping_do_not_keep_a_connection_open() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    world.advance(seconds(25) + SLACK);
    assert_ping(&world.take_received(id));
    for _ in 0..9 {
        world.advance(seconds(10));
        assert!(world.post(Command::Send(token, Message::from("news").into())));
        world.run_until_quiet();
        assert_eq!(world.take_received(id), text_reply("news"));
    }
    world.advance(seconds(5) + CHECK_SLACK);
    assert_eq!(world.take_received(id), close_reply(1001, "idle timeout"));
}

/// Reading pauses after the ping is acknowledged, with a pong unread, so the next acknowledgement
/// counts, and the documentation gives the server 1/32 of the timeout to notice it.
#[test]
fn an_acknowledgement_in_a_pause_after_the_ping_is_noticed_in_time() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    world.advance(seconds(25) + SLACK);
    assert_ping(&world.take_received(id));
    world.advance(seconds(1));
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1000;
    let news = "n".repeat(100_000);
    assert!(world.post(Command::Send(token, Message::from(news.as_str()).into())));
    world.run_until_quiet();
    world.send(id, &client(PONG, b"").bytes());
    world.run_until_quiet();
    world.socket(id).drain(500);
    world.run_until_quiet();
    world.advance(seconds(95) - MOMENT);
    assert!(!world.is_dropped(id), "the acknowledgement counts");
    world.advance(MOMENT + seconds(120) / 32 + CHECK_SLACK);
    assert!(world.is_dropped(id), "no progress for 95 s");
    assert_eq!(world.stats().idle_timeouts, 1);
}

#[test]
fn a_pong_keeps_a_connection_open() {
    let mut world = echo_world();
    let id = open(&mut world);
    for _ in 0..20 {
        world.advance(seconds(25) + SLACK);
        assert_ping(&world.take_received(id));
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
        world.advance(seconds(24));
        assert_echoes(&mut world, id);
    }
    world.advance(seconds(25) + SLACK);
    assert_ping(&world.take_received(id));
}

/// The server may read input long after it arrived, because reading pauses while the peer does not
/// read its replies.
#[test]
fn unread_input_counts_as_received_when_it_arrived() {
    const LARGE: usize = 100_000;
    let (probe, log) = Probe::new(|peer, _| {
        peer.send(&[7; LARGE]);
        Reply::None
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1000;
    world.send(id, &[text("first"), text("held back")].concat());
    world.advance(seconds(60));
    assert_eq!(log.count("text"), 1, "reading has paused");
    world.socket(id).client_reads = true;
    world.socket(id).capacity = usize::MAX;
    // The ping was sent after 25 s, and is acknowledged after 60 s.
    world.run_until_quiet();
    assert_eq!(log.count("text"), 2);
    assert_eq!(world.take_received(id).len(), 2 * (10 + LARGE) + PING_BYTES);
    world.advance(seconds(95) - MOMENT);
    assert_eq!(world.take_received(id), b"", "no further ping");
    world.advance(seconds(95) / 32 + CHECK_SLACK);
    assert_eq!(world.take_received(id), close_reply(1001, "idle timeout"));
}

#[test]
fn a_half_received_frame_does_not_keep_a_connection_open() {
    for half in [&text("half")[..3], &text("half")[..8], &binary(20_000)[..9_000]] {
        let mut world = echo_world();
        let id = open(&mut world);
        world.send(id, half);
        world.advance(seconds(125) + CHECK_SLACK + CHECK_SLACK);
        assert!(world.is_dropped(id), "{} bytes", half.len());
        assert_eq!(world.stats().idle_timeouts, 1);
    }
}

#[test]
fn a_timeout_writes_nothing_into_a_streamed_frame() {
    let mut world = echo_world();
    let id = open(&mut world);
    let half = &binary(20_000)[..9_000];
    world.send(id, half);
    world.advance(seconds(120) + CHECK_SLACK + seconds(95) / 32);
    assert!(world.is_dropped(id));
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
    let received = world.take_received(id);
    assert_ping(received.strip_prefix(&*binary_reply(20_000)).expect("the whole echo"));
    assert_echoes(&mut world, id);
}

/// Every 50 seconds the peer reads some of the unsent replies. It sends nothing.
#[test]
fn progress_of_the_backlog_keeps_a_connection_open() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1000;
    world.send(id, &binary(10_000));
    for _ in 0..9 {
        world.advance(seconds(50));
        world.socket(id).drain(1000);
        world.run_until_quiet();
    }
    assert!(!world.is_dropped(id));
    world.advance(seconds(121));
    assert!(world.is_dropped(id));
}

/// The deadline of an open connection may be earlier than that of its handshake.
#[test]
fn an_idle_timeout_below_the_handshake_timeout_takes_effect() {
    for idle in [2, 4, 10, 19] {
        let mut world = World::new(
            Probe::echo().0,
            Config { idle_timeout: seconds(idle), ..Config::default() },
        );
        let id = open(&mut world);
        world.advance(seconds(idle) / 2 + SLACK);
        assert_ping(&world.take_received(id));
        world.advance(seconds(idle) / 2 + CHECK_SLACK);
        assert_eq!(world.take_received(id), close_reply(1001, "idle timeout"), "{idle} s");
        assert_lingers(&mut world, id);
    }
}

#[test]
fn a_worker_without_connections_waits_without_a_timeout() {
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
fn deadlines_of_many_connections_are_independent() {
    let mut world = echo_world();
    let mut ids = Vec::new();
    for _ in 0..100 {
        ids.push(open(&mut world));
        world.advance(Duration::from_millis(700));
    }
    // The first has been idle for 70 s, the last for 0.7 s.
    for (id, age_ms) in ids.iter().zip((1..=100).rev().map(|count| count * 700)) {
        let pinged = !world.take_received(*id).is_empty();
        assert_eq!(pinged, age_ms > 25_000 + 50, "idle for {age_ms} ms");
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
    assert!(world.wait().is_some_and(|wait| wait <= seconds(1) + SLACK));
    world.skip(seconds(2));
    assert_eq!(world.wait(), Some(Duration::ZERO), "the deadline has passed");
    world.run_until_quiet();
    assert!(has_status(&world.received(id), 408));
}

/// The worker has no turn for longer than the idle timeout.
#[test]
fn a_delay_of_the_worker_does_not_count_against_the_peer() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.skip(seconds(300));
    world.run_until_quiet();
    assert_ping(&world.take_received(id));
    assert_echoes(&mut world, id);
}

/// The worker has no turn for a while, and the edges of its peers then fill several batches.
#[test]
fn input_in_the_kernel_counts_after_a_delay_of_the_worker() {
    let mut world = echo_world();
    let ids: Vec<_> = (0..3 * READY_PER_TURN).map(|_| open(&mut world)).collect();
    world.advance(seconds(60) + SLACK);
    let late = world.connect();
    world.run_until_quiet();
    world.skip(seconds(65));
    for id in &ids {
        assert_ping(&world.take_received(*id));
        world.send(*id, &client(PONG, b"").bytes());
    }
    world.run_until_quiet();
    assert!(has_status(&world.take_received(late), 408), "it has sent nothing");
    assert_eq!((world.stats().idle_timeouts, world.stats().open()), (0, ids.len() as u64));
}

/// After a batch that ends its connections, the worker must not assume that it has seen all edges.
#[test]
fn answers_behind_a_full_batch_of_resets_are_in_time() {
    let mut world = echo_world();
    let ids: Vec<_> = (0..READY_PER_TURN + 900).map(|_| open(&mut world)).collect();
    world.advance(seconds(60) + SLACK);
    world.skip(seconds(65));
    let (resets, answers) = ids.split_at(READY_PER_TURN);
    for id in resets {
        world.reset(*id);
    }
    for id in answers {
        world.send(*id, &client(PONG, b"").bytes());
    }
    world.run_until_quiet();
    assert_eq!((world.stats().idle_timeouts, world.stats().open()), (0, 900));
}

/// Every batch is full, so the worker never sees the end of the queue.
#[test]
fn deadlines_expire_even_if_every_batch_is_full() {
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
    assert!(world.is_dropped(late), "it has not sent its request for 20 s");
    assert_eq!(world.stats().open(), ids.len() as u64);
}

/// A timer entry names a slot, and may come up after a new connection has taken the slot.
#[test]
fn a_timer_of_an_earlier_connection_in_the_slot_does_not_end_a_later_one() {
    for gap in [seconds(0), seconds(1)] {
        let mut world = echo_world();
        let earlier = world.connect();
        world.run_until_quiet();
        world.reset(earlier);
        world.run_until_quiet();
        assert!(world.is_dropped(earlier));
        world.advance(gap);
        let later = world.connect();
        world.advance(seconds(10) - MOMENT);
        assert_eq!(world.stats().handshake_timeouts, 0, "{gap:?}: not before its own deadline");
        world.advance(SLACK + MOMENT);
        assert_eq!(world.stats().handshake_timeouts, 1, "{gap:?}: once at its own deadline");
        assert!(has_status(&world.received(later), 408));
    }
}

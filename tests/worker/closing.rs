//! Timeouts of closing, refused and lingering connections, in virtual time.

use std::time::Duration;

use ws_reactor::internal::Command;
use ws_reactor::{CloseCode, Config};

use crate::probe::{
    CHECK_SLACK, MOMENT, Probe, SLACK, ask, binary, binary_reply, close, close_reply, echo_world,
    has_status, open, seconds, text,
};
use crate::scripted::{Call, SocketId};
use crate::support::frames::{BINARY, PING, PONG, client, server};
use crate::world::World;

/// A connection that has sent its close frame.
fn closing(world: &mut World<Probe>) -> SocketId {
    let id = open(world);
    let token = world.token(id);
    assert!(world.post(Command::Close(token, CloseCode::NORMAL, "bye".into())));
    world.run_until_quiet();
    assert_eq!(world.take_received(id), close_reply(1000, "bye"));
    id
}

#[test]
fn an_unanswered_close_frame_ends_the_connection_after_5_seconds() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = closing(&mut world);
    world.advance(seconds(5) - MOMENT);
    assert!(!world.is_dropped(id));
    world.advance(CHECK_SLACK + MOMENT);
    assert!(world.is_dropped(id));
    assert_eq!(world.stats().close_timeouts, 1);
    assert_eq!(log.count("close 1006 \"\" the peer did not answer the close frame"), 1);
}

#[test]
fn messages_do_not_extend_the_close_timeout() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = closing(&mut world);
    for _ in 0..5 {
        assert_eq!(ask(&mut world, id, &text("chatter")), b"");
        world.advance(seconds(1));
    }
    world.advance(SLACK);
    assert!(world.is_dropped(id));
    assert_eq!((world.stats().close_timeouts, log.count("text")), (1, 0));
}

/// The client sends all its messages before it reads the first reply. When the server fails the
/// connection, reading is paused because the kernel has taken only a part of the replies. The
/// server must still read and discard the rest of the input, or the client never reaches the close
/// frame.
#[test]
fn input_after_a_failure_is_discarded_while_reading_is_paused() {
    let config = Config::default();
    let mut world = echo_world();
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1000;
    let count = 2 * config.backlog_bytes_high / 1000;
    let (message, reply) = (binary(1000), binary_reply(1000));
    let unmasked = client(BINARY, b"not masked").unmasked().bytes();
    let consumed = world.socket(id).consumed;
    world.send(id, &[message.repeat(count), unmasked].concat());
    let rest = [&message[..]; 20];
    rest.iter().for_each(|message| world.send(id, message));
    world.run_until_quiet();
    let sent = message.len() * (count + rest.len()) + 2 + b"not masked".len();
    assert_eq!(world.socket(id).consumed - consumed, sent, "the client can send all its bytes");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == [reply.repeat(count), close_reply(1002, "")].concat());
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
}

/// The server's kernel accepted all bytes at once, and the peer's TCP acknowledges 10 kB per 30
/// seconds.
#[test]
fn a_peer_that_acknowledges_bytes_before_our_close_is_not_reset() {
    for close_comes_from_peer in [false, true] {
        let mut world = echo_world();
        let id = open(&mut world);
        world.socket(id).client_reads = false;
        let input = [binary(50_000), if close_comes_from_peer { close(1000) } else { Vec::new() }];
        world.send(id, &input.concat());
        world.run_until_quiet();
        if !close_comes_from_peer {
            assert!(world.post(Command::Close(world.token(id), CloseCode::NORMAL, "".into())));
        }
        let mut received = Vec::new();
        while received.len() < binary_reply(50_000).len() + 4 {
            world.advance(seconds(30));
            assert!(!world.is_dropped(id), "after {} bytes", received.len());
            world.socket(id).drain(10_000);
            received.extend(world.take_received(id));
        }
        assert!(received == [binary_reply(50_000), close_reply(1000, "")].concat());
        world.advance(seconds(5) - MOMENT);
        assert!(!world.is_dropped(id));
        world.advance(seconds(120) / 32 + CHECK_SLACK);
        assert!(world.is_dropped(id), "5 s after the close frame was acknowledged");
    }
}

/// Acknowledgements of pongs after our close frame do not count.
#[test]
fn pings_do_not_extend_the_close_timeout() {
    let (probe, _) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = closing(&mut world);
    for _ in 0..10 {
        assert!(!world.is_dropped(id));
        assert_eq!(ask(&mut world, id, &client(PING, b"").bytes()), server(PONG, b"").bytes());
        world.advance(Duration::from_millis(490));
    }
    world.advance(CHECK_SLACK);
    assert!(world.is_dropped(id));
    assert_eq!(world.stats().close_timeouts, 1);
}

/// The peer's TCP acknowledges nothing, so the idle timeout applies.
#[test]
fn a_peer_that_does_not_acknowledge_our_close_is_dropped_after_the_idle_timeout() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    assert!(world.post(Command::Close(world.token(id), CloseCode::NORMAL, "".into())));
    world.advance(seconds(120) - MOMENT);
    assert!(!world.is_dropped(id));
    world.advance(CHECK_SLACK);
    assert!(world.is_dropped(id));
    assert_eq!(world.stats().close_timeouts, 1);
}

#[test]
fn an_answered_close_frame_ends_the_connection_at_once() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = closing(&mut world);
    assert_eq!(ask(&mut world, id, &close(1000)), b"");
    assert_eq!(world.socket(id).calls(Call::Shutdown), 1);
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_eq!(log.count("close 1000 \"\" closed by the server"), 1);
    assert_eq!(world.stats().close_timeouts, 0);
}

#[test]
fn a_peer_that_does_not_end_its_stream_is_dropped_after_5_seconds() {
    for last in [&close(1000)[..], b"\xff", &text("unmasked")[..1]] {
        for chatters in [false, true] {
            let mut world = echo_world();
            let id = open(&mut world);
            world.send(id, last);
            if last.len() == 1 && last[0] != 0xff {
                // One byte of this header is not an error yet. The second one lacks the mask bit.
                world.send(id, b"\x00");
            } else if last.len() == 1 {
                world.send(id, b"\x80");
            }
            world.run_until_quiet();
            assert_eq!(world.socket(id).calls(Call::Shutdown), 1);
            for _ in 0..5 {
                assert!(!world.is_dropped(id));
                if chatters {
                    world.send(id, b"more");
                }
                world.advance(seconds(1) - MOMENT);
            }
            assert!(!world.is_dropped(id));
            world.advance(SLACK + 5 * MOMENT);
            assert!(world.is_dropped(id));
        }
    }
}

#[test]
fn a_refused_client_that_does_not_end_its_stream_is_dropped_after_5_seconds() {
    let mut world = echo_world();
    let (id, answer) = world.open(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(has_status(&answer, 405));
    world.advance(seconds(5) - MOMENT);
    assert!(!world.is_dropped(id));
    world.advance(CHECK_SLACK + MOMENT);
    assert!(world.is_dropped(id));
}

#[test]
fn a_peer_that_does_not_read_the_close_frame_is_dropped() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1;
    world.send(id, &close(1000));
    world.advance(seconds(100));
    assert!(!world.is_dropped(id), "unsent bytes may still make progress");
    world.advance(seconds(20) + SLACK);
    assert!(world.is_dropped(id));
    assert_eq!(world.stats().ended, 1);
}

/// Found by the simulation.
#[test]
fn the_close_timeout_begins_when_a_delayed_close_frame_is_sent() {
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
    assert!(!world.is_dropped(id), "the close frame went out 4 s ago");
    world.advance(seconds(1) + SLACK);
    assert!(world.is_dropped(id));
}

/// The peer has received all bytes and could continue its frame, so `close_timeout` applies.
#[test]
fn a_close_frame_waits_for_a_stalled_streamed_frame_for_5_seconds() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.send(id, &binary(30_000)[..20_000]);
    world.run_until_quiet();
    let start = world.take_received(id);
    assert!(binary_reply(30_000).starts_with(&start) && !start.is_empty());
    assert!(world.post(Command::Close(world.token(id), CloseCode::NORMAL, "".into())));
    world.advance(seconds(5) - MOMENT);
    assert!(!world.is_dropped(id));
    world.advance(CHECK_SLACK + MOMENT);
    assert!(world.is_dropped(id));
    assert_eq!(world.take_received(id), b"", "nothing is written into a frame");
    assert_eq!(world.stats().close_timeouts, 1);
}

/// The pings arrive at the moment when our close frame is sent, and their pongs stay unread.
#[test]
fn pongs_directly_after_our_close_frame_do_not_extend_the_close_timeout() {
    let (probe, _) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = closing(&mut world);
    world.socket(id).client_reads = false;
    world.send(id, &client(PING, b"").bytes().repeat(100));
    world.advance(seconds(5) - MOMENT);
    assert!(!world.is_dropped(id));
    world.advance(CHECK_SLACK);
    assert!(world.is_dropped(id));
}

/// Our close frame waits for the rest of a streamed frame, which the peer sends slowly.
#[test]
fn a_peer_that_continues_a_streamed_frame_has_the_idle_timeout_for_the_rest() {
    for ends_in_time in [true, false] {
        let mut world = echo_world();
        let id = open(&mut world);
        let input = binary(100_000);
        let (start, rest) = input.split_at(50_000);
        world.send(id, start);
        world.run_until_quiet();
        assert!(world.post(Command::Close(world.token(id), CloseCode::NORMAL, "".into())));
        let pieces = if ends_in_time { rest.chunks(2000) } else { rest.chunks(500) };
        for (count, piece) in pieces.enumerate() {
            if count == 30 && !ends_in_time {
                break;
            }
            assert!(!world.is_dropped(id), "after {count} pieces");
            world.advance(seconds(4));
            world.send(id, piece);
        }
        world.run_until_quiet();
        if ends_in_time {
            let received = world.take_received(id);
            assert!(received == [binary_reply(100_000), close_reply(1000, "")].concat());
        } else {
            world.advance(CHECK_SLACK);
            assert!(world.is_dropped(id), "120 s after the close command");
        }
    }
}

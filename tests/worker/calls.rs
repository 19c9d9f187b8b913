//! The system calls of a turn, and calls that fail or are short.

use std::io::ErrorKind;

use ws_reactor::{Config, Echo};

use crate::probe::{
    Probe, ask, assert_echoes, binary, binary_reply, close, close_reply, echo_world, open, text,
    text_reply,
};
use crate::scripted::{Call, SocketId};
use crate::support::frames::{PING, PONG, client, server};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

#[test]
fn an_echo_costs_one_read_and_one_write() {
    let mut world = echo_world();
    let id = open(&mut world);
    for round in 1..=10 {
        assert_eq!(ask(&mut world, id, &text("hello")), text_reply("hello"));
        assert_eq!(calls(&world, id), [1, 1 + round, 1 + round, 0], "round {round}");
    }
}

#[test]
fn a_handshake_costs_one_accept_one_read_and_one_write() {
    let mut world = echo_world();
    let id = open(&mut world);
    assert_eq!(calls(&world, id), [1, 1, 1, 0]);
    // The second accept reports that no other connection waits.
    assert_eq!(world.kernel().listeners[0].accepts, 2);
}

#[test]
fn pipelined_frames_cost_one_read_and_one_write() {
    let mut world = echo_world();
    for count in [2, 10, 1000, 4000] {
        let id = open(&mut world);
        let reply = [text_reply("x").repeat(count), server(PONG, b"!").bytes()].concat();
        let input = [text("x").repeat(count), client(PING, b"!").bytes()].concat();
        assert_eq!(ask(&mut world, id, &input), reply);
        assert_eq!(calls(&world, id), [1, 2, 2, 0], "{count} frames");
    }
}

#[test]
fn a_close_costs_one_write_and_one_shutdown() {
    let mut world = echo_world();
    let id = open(&mut world);
    let input = [text("last"), close(1000)].concat();
    let reply = [text_reply("last"), close_reply(1000, "")].concat();
    assert_eq!(ask(&mut world, id, &input), reply);
    assert_eq!(calls(&world, id), [1, 2, 2, 1]);
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_eq!(calls(&world, id), [1, 3, 2, 1]);
}

#[test]
fn a_full_read_is_followed_by_another() {
    let mut world = echo_world();
    let id = open(&mut world);
    let message = "0123456789".repeat(100);
    let count = 300_000 / text(&message).len();
    let reply = ask(&mut world, id, &text(&message).repeat(count));
    assert!(reply == text_reply(&message).repeat(count));
    assert_eq!(calls(&world, id), [1, 3, 3, 0]);
}

#[test]
fn interrupted_calls_are_repeated() {
    for call in [Call::Read, Call::Write] {
        for nth in 1..=4 {
            let mut world = echo_world();
            let id = world.connect();
            world.socket(id).fault(call, nth, ErrorKind::Interrupted);
            world.socket(id).fault(call, nth + 1, ErrorKind::Interrupted);
            assert_eq!(converse(&mut world, id), conversation_reply(), "{call:?} {nth}");
            assert_eq!(
                calls(&world, id),
                [
                    1,
                    4 + 2 * usize::from(call == Call::Read) + 1,
                    4 + 2 * usize::from(call == Call::Write),
                    1
                ],
                "{call:?} {nth}"
            );
            assert!(world.is_dropped(id));
        }
    }
}

#[test]
fn calls_that_would_block_wait_for_an_edge() {
    for call in [Call::Read, Call::Write] {
        for nth in 1..=4 {
            let mut world = echo_world();
            let id = world.connect();
            world.socket(id).fault(call, nth, ErrorKind::WouldBlock);
            assert_eq!(converse(&mut world, id), conversation_reply(), "{call:?} {nth}");
            assert!(world.is_dropped(id));
        }
    }
}

#[test]
fn a_reset_at_any_call_ends_that_connection_and_notifies_the_handler_once() {
    let errors = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::TimedOut];
    for (call, calls) in [(Call::Read, 5), (Call::Write, 4), (Call::Shutdown, 1)] {
        for nth in 1..=calls {
            for error in errors {
                let (probe, log) = Probe::echo();
                let mut world = World::new(probe, Config::default());
                let neighbour = open(&mut world);
                let id = world.connect();
                world.socket(id).fault(call, nth, error);
                let output = converse(&mut world, id);
                let name = format!("{error} at {call:?} {nth}");
                assert!(conversation_reply().starts_with(&output), "{name}");
                assert!(world.is_dropped(id), "{name}");
                assert_eq!(world.socket(id).calls(call), nth, "{name}: no call after it");
                assert_eq!(log.count("close"), log.count("open") - 1, "{name}");
                assert_echoes(&mut world, neighbour);
                let stats = world.stats();
                assert_eq!((stats.accepted, stats.ended), (2, 1), "{name}");
                assert_eq!(
                    (stats.opened, stats.closed),
                    (log.count("open") as u64, stats.opened - 1)
                );
            }
        }
    }
}

#[test]
fn a_reset_between_turns_ends_that_connection_and_notifies_the_handler_once() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let (neighbour, id) = (open(&mut world), open(&mut world));
    world.reset(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_eq!(
        log.lines().last().map(String::as_str),
        Some("close 1006 \"\" TCP failed: connection reset")
    );
    assert_echoes(&mut world, neighbour);
    assert_eq!(log.count("close"), 1);
}

#[test]
fn on_close_receives_the_tcp_error() {
    for (kind, words) in [
        (ErrorKind::ConnectionReset, "connection reset"),
        (ErrorKind::TimedOut, "timed out"),
        (ErrorKind::HostUnreachable, "host unreachable"),
        (ErrorKind::BrokenPipe, "broken pipe"),
    ] {
        for call in [Call::Read, Call::Write] {
            let (probe, log) = Probe::echo();
            let mut world = World::new(probe, Config::default());
            let id = open(&mut world);
            let next = world.socket(id).calls(call) + 1;
            world.socket(id).fault(call, next, kind);
            world.send(id, &text("hello"));
            world.run_until_quiet();
            let last = format!("close 1006 \"\" TCP failed: {words}");
            assert_eq!(log.lines().last(), Some(&last), "{call:?}");
        }
    }
}

/// With a backlog the write after the writable edge reports the error.
#[test]
fn on_close_receives_the_tcp_error_despite_a_backlog() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 100;
    world.send(id, &text(&"x".repeat(1000)));
    world.run_until_quiet();
    let next = world.socket(id).calls(Call::Write) + 1;
    world.socket(id).fault(Call::Write, next, ErrorKind::TimedOut);
    world.socket(id).drain(100);
    world.run_until_quiet();
    let last = "close 1006 \"\" TCP failed: timed out";
    assert_eq!(log.lines().last().map(String::as_str), Some(last));
}

#[test]
fn short_writes_of_every_length_deliver_the_same_bytes() {
    let all = conversation_reply();
    for capacity in 1..=all.len() {
        let mut world = echo_world();
        let id = world.connect();
        world.socket(id).capacity = capacity;
        assert_eq!(converse(&mut world, id), all, "{capacity} bytes at once");
        assert!(world.is_dropped(id), "{capacity} bytes at once");
        assert_eq!(world.socket(id).calls(Call::Register), 1);
    }
}

#[test]
fn short_writes_of_long_replies_deliver_the_same_bytes() {
    let (input, reply) = long_conversation();
    for capacity in [1000, 4093, 65_536, 100_000] {
        let mut world = echo_world();
        let id = open(&mut world);
        world.socket(id).capacity = capacity;
        assert!(ask(&mut world, id, &input) == reply, "{capacity} bytes at once");
        for piece in input.chunks(7919) {
            world.send(id, piece);
        }
        world.run_until_quiet();
        assert!(world.take_received(id) == reply, "{capacity} bytes at once, in pieces");
    }
}

fn long_conversation() -> (Vec<u8>, Vec<u8>) {
    let ping = client(PING, b"between").bytes();
    let pong = server(PONG, b"between").bytes();
    let input = [binary(100), binary(300_000), ping, text("a").repeat(1000), binary(20_000)];
    let reply = [
        binary_reply(100),
        binary_reply(300_000),
        pong,
        text_reply("a").repeat(1000),
        binary_reply(20_000),
    ];
    (input.concat(), reply.concat())
}

/// A conversation of four reads, four writes and a shutdown, and a fifth read for the end of the
/// stream.
fn converse<H: ws_reactor::Handler>(world: &mut World<H>, id: SocketId) -> Vec<u8> {
    world.send(id, GOOD_REQUEST);
    world.send(id, &text("one"));
    world.send(id, &[text("two"), client(PING, b"three").bytes(), binary(200)].concat());
    world.send(id, &close(1000));
    world.run_until_quiet();
    world.finish(id);
    world.run_until_quiet();
    world.received(id)
}

fn conversation_reply() -> Vec<u8> {
    [
        GOOD_RESPONSE.to_vec(),
        text_reply("one"),
        text_reply("two"),
        server(PONG, b"three").bytes(),
        binary_reply(200),
        close_reply(1000, ""),
    ]
    .concat()
}

/// Registrations, reads, writes, shutdowns.
fn calls(world: &World<Echo>, id: SocketId) -> [usize; 4] {
    let socket = world.socket(id);
    [Call::Register, Call::Read, Call::Write, Call::Shutdown].map(|call| socket.calls(call))
}

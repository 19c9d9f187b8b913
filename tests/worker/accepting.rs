//! Accepting: errors, limits, and tokens of ended connections.

use std::io::{self, ErrorKind};
use std::time::Duration;

use ws_reactor::internal::{Readiness, Token, Worker};
use ws_reactor::{Config, Echo};

use crate::probe::{ask, assert_echoes, close, echo_world, has_status, open, text};
use crate::scripted::{Call, Net};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;

#[test]
fn a_lack_of_descriptors_or_memory_pauses_accepting() {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM
    for errno in [24, 23, 105, 12] {
        let mut world = echo_world();
        let neighbour = open(&mut world);
        let accepts = world.kernel().listeners[0].accepts;
        world.fail_accept(io::Error::from_raw_os_error(errno));
        let id = world.connect();
        world.send(id, GOOD_REQUEST);
        world.run_until_quiet();
        assert_eq!(
            world.kernel().listeners[0].accepts,
            accepts + 1,
            "errno {errno}: no further call"
        );
        assert_eq!(world.stats().accept_pauses, 1);
        let wait = world.wait().expect("accepting resumes after a pause");
        assert!(wait >= ACCEPT_PAUSE && wait <= 2 * ACCEPT_PAUSE, "{wait:?}");
        // Neither turns for other connections nor new connections end the pause.
        let late = world.connect();
        world.send(late, GOOD_REQUEST);
        for _ in 0..10 {
            assert_echoes(&mut world, neighbour);
        }
        assert_eq!(world.kernel().listeners[0].accepts, accepts + 1);
        world.advance(wait);
        assert_eq!(world.received(id), GOOD_RESPONSE);
        assert_eq!(world.received(late), GOOD_RESPONSE);
        assert_eq!(world.stats().accept_pauses, 1);
    }
}

#[test]
fn a_lasting_lack_of_descriptors_pauses_accepting_repeatedly() {
    let mut world = echo_world();
    for _ in 0..10 {
        world.fail_accept(io::Error::from_raw_os_error(24));
    }
    let id = world.connect();
    world.send(id, GOOD_REQUEST);
    world.advance(10 * ACCEPT_PAUSE - Duration::from_millis(1));
    let pauses = world.stats().accept_pauses;
    assert!((5..=10).contains(&pauses), "{pauses} pauses in a second");
    assert_eq!(world.kernel().listeners[0].accepts as u64, pauses);
    world.advance(10 * ACCEPT_PAUSE);
    assert_eq!(world.received(id), GOOD_RESPONSE);
    assert_eq!(world.stats().accept_pauses, 10);
}

#[test]
fn connections_that_fail_before_accept_do_not_stop_accepting() {
    let mut world = echo_world();
    let kinds = [ErrorKind::ConnectionAborted, ErrorKind::Interrupted, ErrorKind::ConnectionReset];
    let mut ids = Vec::new();
    for kind in kinds.repeat(10) {
        world.fail_accept(kind.into());
        ids.push(world.connect());
    }
    for id in &ids {
        world.send(*id, GOOD_REQUEST);
    }
    world.turn();
    world.run_until_quiet();
    for id in ids {
        assert_eq!(world.received(id), GOOD_RESPONSE);
    }
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.accept_pauses), (30, 0));
}

#[test]
fn all_waiting_connections_are_accepted_after_one_edge() {
    let mut world = echo_world();
    let neighbour = open(&mut world);
    let ids: Vec<_> = (0..1000).map(|_| world.connect()).collect();
    world.turn();
    assert_eq!(world.stats().accepted as usize, 1 + ACCEPTS_PER_TURN);
    assert_eq!(world.wait(), Some(Duration::ZERO));
    assert_echoes(&mut world, neighbour);
    assert_eq!(world.stats().accepted, 1001);
    for id in ids {
        assert_eq!(ask(&mut world, id, GOOD_REQUEST), GOOD_RESPONSE);
    }
}

/// Each new client raises another edge before the next turn.
#[test]
fn a_turn_accepts_a_limited_number_while_clients_keep_connecting() {
    let mut world = echo_world();
    for _ in 0..1000 {
        world.connect();
    }
    for turn in 1..=10 {
        world.connect();
        let before = world.stats().accepted;
        world.turn();
        let accepted = (world.stats().accepted - before) as usize;
        assert!(accepted <= ACCEPTS_PER_TURN, "{accepted} accepted in turn {turn}");
    }
}

#[test]
fn a_turn_accepts_a_limited_number_after_a_pause() {
    let mut world = echo_world();
    world.fail_accept(io::Error::from_raw_os_error(24));
    for _ in 0..1000 {
        world.connect();
    }
    world.turn();
    assert_eq!((world.stats().accept_pauses, world.stats().accepted), (1, 0));
    let wait = world.wait().expect("accepting resumes after a pause");
    world.skip(wait);
    world.turn();
    assert_eq!(world.stats().accepted as usize, ACCEPTS_PER_TURN);
}

#[test]
fn connections_above_the_limit_are_answered_503() {
    let config = Config { connections_max: Some(2), ..Config::default() };
    let mut world = World::new(Echo, config);
    let (first, second) = (open(&mut world), world.connect());
    // A connection in its handshake counts too.
    world.run_until_quiet();
    let third = world.connect();
    world.run_until_quiet();
    assert!(has_status(&world.received(third), 503));
    assert!(world.is_dropped(third));
    assert_eq!(world.socket(third).calls(Call::Register), 0);
    assert_eq!(ask(&mut world, second, GOOD_REQUEST), GOOD_RESPONSE);
    world.send(first, &close(1000));
    world.finish(first);
    world.run_until_quiet();
    assert!(world.is_dropped(first));
    let fourth = open(&mut world);
    assert_echoes(&mut world, fourth);
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.ended, stats.turned_away), (4, 2, 1));
}

#[test]
fn a_connection_that_cannot_be_registered_is_answered_503() {
    let mut world = echo_world();
    let id = world.connect();
    world.socket(id).fault(Call::Register, 1, ErrorKind::OutOfMemory);
    world.run_until_quiet();
    assert!(has_status(&world.received(id), 503));
    assert!(world.is_dropped(id));
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.ended, stats.turned_away), (1, 1, 1));
    let next = open(&mut world);
    assert_echoes(&mut world, next);
}

#[test]
fn edges_of_an_ended_connection_are_ignored() {
    let all = Readiness { readable: true, writable: true, reads_to_end: true };
    let mut world = echo_world();
    let ended = open(&mut world);
    let token = world.token(ended);
    world.reset(ended);
    // The first edge of the batch ends the connection, and the second one is stale.
    world.turn_with(vec![(token, all), (token, all)]);
    assert!(world.is_dropped(ended));
    let next = open(&mut world);
    assert_ne!(world.token(next), token);
    world.turn_with(vec![(token, all)]);
    assert_echoes(&mut world, next);
    assert_eq!(world.stats().ended, 1);
}

#[test]
fn an_edge_for_a_slot_reused_in_the_same_batch_is_ignored() {
    let all = Readiness { readable: true, writable: true, reads_to_end: true };
    let mut world = echo_world();
    let ended = open(&mut world);
    let token = world.token(ended);
    world.reset(ended);
    let next = world.connect();
    world.send(next, GOOD_REQUEST);
    world.turn_with(vec![(token, all), (Token::listener(0), all), (token, all)]);
    assert!(world.is_dropped(ended));
    assert_eq!(
        world.socket(next).calls(Call::Read),
        0,
        "the edge belongs to the earlier connection"
    );
    world.run_until_quiet();
    assert_eq!(world.received(next), GOOD_RESPONSE);
    let (old, new) = (mio::Token::from(token).0, mio::Token::from(world.token(next)).0);
    assert_eq!(old as u32, new as u32, "same slot");
    assert_ne!(old >> 32, new >> 32, "other generation");
}

#[test]
fn a_connection_that_ends_while_it_waits_for_its_turn_is_forgotten() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.send(id, &text("x").repeat(400_000));
    world.turn();
    assert_eq!(world.wait(), Some(Duration::ZERO));
    world.reset(id);
    let next = world.connect();
    world.send(next, GOOD_REQUEST);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_eq!(world.take_received(next), GOOD_RESPONSE);
    assert_echoes(&mut world, next);
}

/// A world whose first worker distributes its connections, and the second worker.
fn distributing(config: Config) -> (World<Echo>, Worker<Net, Echo>) {
    let (world, second) = World::with_second_worker(Echo, config);
    world.kernel().listeners[0].is_distributed = true;
    (world, second)
}

/// Clients connect one after the other and ask for the upgrade; returns how many have an answer.
fn answered(world: &mut World<Echo>, clients: usize) -> usize {
    let opened: Vec<_> = (0..clients).map(|_| world.open(GOOD_REQUEST)).collect();
    opened.iter().filter(|(_, answer)| answer == GOOD_RESPONSE).count()
}

#[test]
fn a_connection_that_waits_for_its_worker_counts_as_its_load() {
    let (mut world, mut second) = distributing(Config::default());
    assert_eq!(answered(&mut world, 6), 3, "the second worker has had no turn");
    assert_eq!(world.stats().accepted, 3);
    second.turn([(Token::WAKER, Readiness::default())].into_iter(), world.now());
    assert_eq!(answered(&mut world, 2), 1, "both have three");
}

#[test]
fn a_worker_with_a_full_mailbox_gets_no_connection() {
    let (mut world, mut second) =
        distributing(Config { mailbox_bytes_max: 1, ..Config::default() });
    assert_eq!(answered(&mut world, 10), 9, "an empty mailbox takes one");
    second.turn([(Token::WAKER, Readiness::default())].into_iter(), world.now());
    assert_eq!(answered(&mut world, 2), 1);
}

#[test]
fn a_worker_that_has_ended_gets_no_connection() {
    let (mut world, second) = distributing(Config::default());
    drop(second);
    assert_eq!(answered(&mut world, 10), 10);
}

#[test]
fn a_worker_that_drains_hands_over_no_connection() {
    let (mut world, _second) = distributing(Config::default());
    // The second worker has fewer connections.
    assert_eq!(answered(&mut world, 1), 1);
    for _ in 0..2 {
        world.connect();
    }
    world.drain(Duration::ZERO);
    // Without the edge of the listener, whose connections the drain takes itself.
    world.turn_with(vec![(Token::WAKER, Readiness::default())]);
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.turned_away), (3, 2));
}

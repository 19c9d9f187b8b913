//! The ends of connections and workers: half-closed peers, drains and counters.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ws_reactor::internal::{Command, Readiness, Sender, Token};
use ws_reactor::protocol::Request;
use ws_reactor::{
    CloseEvent, Config, ConnectionInfo, Context, Handler, Message, Peer, PeerId, Reply, Upgrade,
};

use crate::probe::{
    Probe, ask, binary, close, close_reply, echo_world, has_status, open, text, text_reply,
};
use crate::scripted::{Call, Stream};
use crate::support::frames::{PING, PONG, client, server};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

const DRAIN: Duration = Duration::from_secs(10);

/// Asks the worker to drain within 10 seconds.
fn drain<H: Handler>(world: &mut World<H>) {
    world.drain(DRAIN);
    world.run_until_quiet();
}

fn going_away() -> Vec<u8> {
    close_reply(1001, "the server is shutting down")
}

#[test]
fn messages_before_the_end_of_the_stream_are_answered() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = world.connect();
    let ping = client(PING, b"!").bytes();
    world.send(id, &[GOOD_REQUEST, &text("one"), &ping, &text("two"), &text("half")[..8]].concat());
    world.finish(id);
    world.run_until_quiet();
    let pong = server(PONG, b"!").bytes();
    let reply = [GOOD_RESPONSE, &text_reply("one"), &pong, &text_reply("two")].concat();
    assert_eq!(world.received(id), reply);
    assert!(world.is_dropped(id));
    assert_eq!(log.count("close 1006 \"\" the peer ended the stream without a close frame"), 1);
}

#[test]
fn an_end_of_stream_without_further_bytes_ends_the_connection() {
    for sent in [&b""[..], &GOOD_REQUEST[..50], GOOD_REQUEST] {
        let mut world = echo_world();
        let id = world.connect();
        world.send(id, sent);
        world.run_until_quiet();
        assert!(!world.is_dropped(id));
        world.finish(id);
        world.run_until_quiet();
        assert!(world.is_dropped(id), "after {} bytes", sent.len());
    }
}

/// epoll_wait(2) reports EPOLLHUP even if it was not requested, so it may come without EPOLLIN.
#[test]
fn an_edge_that_reports_only_the_end_of_the_stream_ends_the_connection() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.finish(id);
    let edges = world.poll();
    let token = world.token(id);
    assert!(matches!(edges[..], [(_, Readiness { reads_to_end: true, .. })]), "{edges:?}");
    let hang_up = Readiness { readable: false, writable: false, reads_to_end: true };
    world.turn_with(vec![(token, hang_up)]);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
}

#[test]
fn all_replies_to_a_half_closed_peer_are_sent_before_the_end() {
    let (probe, log) = Probe::new(|peer, message| {
        peer.send(message);
        peer.send("and");
        Reply::Echo
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    world.socket(id).capacity = 100;
    world.socket(id).client_reads = false;
    world.send(id, &binary(1000));
    world.finish(id);
    world.run_until_quiet();
    assert!(!world.is_dropped(id));
    assert_eq!(log.count("close"), 1, "no message can arrive or be sent");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert_eq!(world.received(id).len(), 2 * (4 + 1000) + 2 + 3);
    assert!(world.is_dropped(id));
    assert_eq!(log.count("close"), 1);
}

#[test]
fn a_half_closed_peer_that_does_not_read_is_dropped() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.socket(id).capacity = 100;
    world.socket(id).client_reads = false;
    world.send(id, &binary(1000));
    world.finish(id);
    world.advance(Duration::from_secs(121));
    assert!(world.is_dropped(id));
}

/// The kernel's buffer is full, and takes no byte until the slow peer reads.
#[test]
fn a_half_closed_peer_that_reads_slowly_gets_all_replies() {
    let mut world = echo_world();
    let id = open(&mut world);
    world.socket(id).capacity = 1000;
    world.socket(id).client_reads = false;
    world.send(id, &binary(3000));
    world.finish(id);
    let mut received = world.take_received(id).len();
    for _ in 0..4 {
        world.advance(Duration::from_secs(60));
        world.socket(id).drain(1000);
        world.run_until_quiet();
        received += world.take_received(id).len();
    }
    assert_eq!(received, 4 + 3000);
    assert!(world.is_dropped(id));
}

#[test]
fn a_drain_closes_every_open_connection_with_1001() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let ids: Vec<_> = (0..300).map(|_| open(&mut world)).collect();
    drain(&mut world);
    assert!(!world.worker.is_done());
    for id in &ids {
        assert_eq!(world.take_received(*id), going_away());
        assert_eq!(world.socket(*id).calls(Call::Shutdown), 0, "the peer's close is awaited");
        world.send(*id, &[text("unheard"), close(1001)].concat());
        world.finish(*id);
    }
    world.run_until_quiet();
    assert!(world.worker.is_done());
    assert_eq!((log.count("text"), log.count("close 1001 \"\" closed by the server")), (0, 300));
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.ended, stats.closed), (300, 300, 300));
}

/// RFC 6455 5.5.2: a ping is answered unless a close frame has been *received*.
#[test]
fn a_ping_after_our_close_frame_is_answered_until_the_peer_closes() {
    let mut world = echo_world();
    let id = open(&mut world);
    let ping = client(PING, b"still here").bytes();
    drain(&mut world);
    assert_eq!(world.take_received(id), going_away());
    for _ in 0..3 {
        assert_eq!(ask(&mut world, id, &ping), server(PONG, b"still here").bytes());
        assert_eq!(ask(&mut world, id, &text("unheard")), b"");
    }
    assert_eq!(ask(&mut world, id, &[close(1001), ping].concat()), b"");
}

#[test]
fn a_drain_answers_incomplete_requests_503() {
    let mut world = echo_world();
    let (early, waiting) = (world.connect(), open(&mut world));
    world.send(early, &GOOD_REQUEST[..30]);
    world.run_until_quiet();
    // This connection is not accepted yet when the drain begins.
    let unaccepted = world.connect();
    world.drain(DRAIN);
    let waker_only = world.poll().into_iter().take(1).collect();
    world.turn_with(waker_only);
    world.run_until_quiet();
    assert!(has_status(&world.received(early), 503));
    assert!(has_status(&world.received(unaccepted), 503));
    assert_eq!(world.take_received(waiting), going_away());
    assert_eq!(world.stats().turned_away, 2);
    for id in [early, waiting] {
        world.finish(id);
    }
    world.run_until_quiet();
    assert!(world.worker.is_done());
}

/// Closing the listener without accepting them would reset them.
#[test]
fn a_drain_answers_all_waiting_connections_503() {
    let mut world = echo_world();
    let ids: Vec<_> = (0..200).map(|_| world.connect()).collect();
    world.drain(DRAIN);
    let waker_only = world.poll().into_iter().take(1).collect();
    world.turn_with(waker_only);
    world.run_until_quiet();
    let answered = ids.iter().filter(|id| has_status(&world.received(**id), 503)).count();
    assert_eq!(answered, ids.len());
    assert!(world.worker.is_done());
}

#[test]
fn a_drain_drops_the_remaining_connections_at_its_deadline() {
    let (probe, log) = Probe::echo();
    // Longer than the drain deadline.
    let close_timeout = Duration::from_secs(30);
    let mut world = World::new(probe, Config { close_timeout, ..Config::default() });
    let id = open(&mut world);
    drain(&mut world);
    world.advance(DRAIN - Duration::from_millis(1));
    assert!(!world.worker.is_done());
    world.advance(Duration::from_millis(1));
    assert!(world.is_dropped(id));
    assert!(world.worker.is_done());
    assert_eq!(log.count("close 1006 \"\" the server shut down"), 1);
}

#[test]
fn a_second_drain_can_only_shorten_the_first() {
    for (first, second) in [(10, 3), (3, 10)] {
        let mut world = echo_world();
        open(&mut world);
        // The first two commands take effect in the same turn, and the third in a later one.
        world.drain(Duration::from_secs(first.max(5)));
        for seconds in [first, second] {
            world.drain(Duration::from_secs(seconds));
            world.run_until_quiet();
        }
        world.advance(Duration::from_millis(2999));
        assert!(!world.worker.is_done());
        world.advance(Duration::from_millis(1));
        assert!(world.worker.is_done());
    }
}

#[test]
fn a_drain_of_an_empty_worker_is_done_at_once() {
    let mut world = echo_world();
    assert!(!world.worker.is_done());
    drain(&mut world);
    assert!(world.worker.is_done());
}

#[test]
fn a_socket_that_is_adopted_during_a_drain_is_answered_503() {
    let mut world = echo_world();
    let last = open(&mut world);
    drain(&mut world);
    let (id, stream) = world.accepted_elsewhere();
    assert!(world.post(Command::Adopt(stream, crate::kernel::address(id).into())));
    world.run_until_quiet();
    assert!(has_status(&world.received(id), 503));
    world.finish(last);
    world.run_until_quiet();
    assert!(world.worker.is_done());
}

/// A drain must not fail because the mailbox is full.
#[test]
fn a_drain_takes_effect_after_the_commands_of_a_full_mailbox() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    let mut posted = Vec::new();
    while world.post(Command::Send(token, Message::from("x").into())) {
        posted.extend(text_reply("x"));
    }
    drain(&mut world);
    assert!(world.take_received(id) == [posted, going_away()].concat());
}

/// When its first connection ends, it posts a message to the other one and asks the worker to
/// drain.
struct DrainOnClose(Rc<RefCell<Option<Target>>>);

struct Target {
    sender: Rc<Sender<Stream>>,
    token: Token,
}

impl Handler for DrainOnClose {
    type State = ();

    fn on_request(&mut self, _: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<()> {
        Upgrade::accept(())
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), _: &CloseEvent<'_>) {
        let Some(Target { sender, token }) = self.0.take() else { return };
        assert!(sender.post(Command::Send(token, Message::from("news").into())).is_ok());
        sender.drain(Instant::now() + DRAIN);
    }
}

/// The mailbox holds one command. The turn that executes it posts another one and the drain.
#[test]
fn a_drain_does_not_overtake_earlier_commands() {
    let target = Rc::new(RefCell::new(None));
    let config = Config { mailbox_bytes_max: 1, ..Config::default() };
    let mut world = World::new(DrainOnClose(Rc::clone(&target)), config);
    let (dropped, other) = (open(&mut world), open(&mut world));
    let (sender, token) = (Rc::clone(&world.sender), world.token(other));
    *target.borrow_mut() = Some(Target { sender, token });
    world.socket(dropped).client_reads = false;
    world.socket(dropped).capacity = 0;
    let too_much = Message::from(&[0; 3 << 20]);
    assert!(world.post(Command::Send(world.token(dropped), too_much.into())));
    world.run_until_quiet();
    assert!(world.is_dropped(dropped));
    world.kernel().wake(0);
    world.run_until_quiet();
    assert_eq!(world.take_received(other), [text_reply("news"), going_away()].concat());
    assert_eq!(world.stats().stale_sends, 0);
}

#[test]
fn a_drain_sends_unsent_replies_before_its_close_frame() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    world.socket(id).capacity = 50;
    world.send(id, &text(&"x".repeat(1000)));
    assert!(world.post(Command::Send(token, Message::from("last words").into())));
    drain(&mut world);
    let replies = [text_reply(&"x".repeat(1000)), text_reply("last words"), going_away()].concat();
    assert_eq!(world.take_received(id), replies);
}

#[test]
fn counters_add_up() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config { connections_max: Some(8), ..Config::default() });
    let ids: Vec<_> = (0..10).map(|_| world.connect()).collect();
    for (count, id) in ids.iter().enumerate() {
        match count {
            0 => world.send(*id, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => world.send(*id, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
            _ => world.send(*id, GOOD_REQUEST),
        }
    }
    world.run_until_quiet();
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.turned_away, stats.ended), (10, 2, 2));
    assert_eq!((stats.opened, stats.closed, stats.answered, stats.refused), (6, 0, 1, 1));
    for (count, id) in ids[2..8].iter().enumerate() {
        let input = [text("five!").repeat(count), binary(1000), client(PING, b"ping").bytes()];
        ask(&mut world, *id, &input.concat());
    }
    let stats = world.stats();
    assert_eq!((stats.messages_in, stats.messages_out), (15 + 6, 15 + 6));
    assert_eq!((stats.bytes_in, stats.bytes_out), (15 * 5 + 6000, 15 * 5 + 6000));
    world.send(ids[2], &close(1000));
    world.send(ids[3], b"\xff\xff");
    world.reset(ids[4]);
    world.finish(ids[5]);
    world.run_until_quiet();
    let stats = world.stats();
    assert_eq!((stats.opened, stats.closed, stats.protocol_errors), (6, 4, 1));
    for id in &ids {
        world.finish(*id);
    }
    world.advance(Duration::from_secs(300));
    assert!(ids.iter().all(|id| world.is_dropped(*id)));
    let stats = world.stats();
    assert_eq!((stats.accepted, stats.ended, stats.opened, stats.closed), (10, 10, 6, 6));
    assert_eq!((log.count("open"), log.count("close")), (6, 6));
    assert_eq!(world.wait(), None, "no deadline is left");
}

#[test]
fn a_streamed_message_counts_once_and_with_all_its_bytes() {
    let mut world = echo_world();
    let id = open(&mut world);
    for piece in binary(100_000).chunks(7000) {
        world.send(id, piece);
    }
    world.run_until_quiet();
    let stats = world.stats();
    assert_eq!((stats.messages_in, stats.messages_out), (1, 1));
    assert_eq!((stats.bytes_in, stats.bytes_out), (100_000, 100_000));
}

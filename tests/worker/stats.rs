//! Each event is counted once, and a value of the moment returns to zero.

use std::io;
use std::time::Duration;

use ws_reactor::internal::{Command, Publication};
use ws_reactor::{
    CloseCode, Config, EncodedMessage, Handler, HandshakeFailure, Message, MetricValue, Peer,
    Reply, Stats,
};

use crate::probe::{Probe, ask, binary, close, echo_world, open, seconds, text};
use crate::support::frames::{CLOSE, PING, client};
use crate::support::requests::GOOD_REQUEST;
use crate::world::World;

/// The values of a metric that are not zero, with the values of its labels.
fn values(stats: &Stats, name: &str) -> Vec<(String, u64)> {
    let metrics = stats.iter().filter(|metric| metric.name == name);
    let values = metrics.map(|metric| {
        let labels: Vec<_> = metric.labels().map(|(_, value)| value).collect();
        match metric.value {
            MetricValue::Counter(value) | MetricValue::Gauge(value) => (labels.join(" "), value),
            _ => panic!("{name} is a number"),
        }
    });
    values.filter(|(_, value)| *value > 0).collect()
}

/// Closes with the code in a text message, and panics over other text.
fn closer() -> Probe {
    let (probe, _) = Probe::new(|peer, message| {
        let text = message.as_text().expect("a text");
        let code = text.parse().ok().and_then(CloseCode::new).expect("a panic without a code");
        peer.close(code, "");
        Reply::None
    });
    probe
}

#[test]
fn close_frames_are_counted_by_direction_and_code() {
    for (inputs, sent, received) in [
        // The answer has the peer's code (RFC 6455 5.5.1).
        (vec![close(1000)], Some("1000"), Some("1000")),
        (vec![close(1014)], Some("1014"), Some("1014")),
        (vec![close(3999)], Some("3xxx"), Some("3xxx")),
        (vec![close(4000)], Some("4xxx"), Some("4xxx")),
        (vec![client(CLOSE, b"").bytes()], Some("none"), Some("none")),
        // Our close frame is first; the peer's answers it, with another code.
        (vec![text("4001"), close(1001)], Some("4xxx"), Some("1001")),
        (vec![[text("4001"), close(1001)].concat()], Some("4xxx"), Some("1001")),
        (vec![text("panic"), close(1011)], Some("1011"), Some("1011")),
        // Nothing follows our close frame, so the error is not answered.
        (vec![text("1001"), b"\xff\xff".to_vec()], Some("1001"), None),
        (vec![b"\xff\xff".to_vec()], Some("1002"), None),
        (vec![client(CLOSE, b"\x03\xec").bytes()], Some("1002"), None),
        (vec![client(CLOSE, b"\x03\xe8\xff").bytes()], Some("1007"), None),
        (vec![client(PING, b"ping").bytes()], None, None),
    ] {
        let mut world = World::new(closer(), Config::default());
        let id = open(&mut world);
        for input in &inputs {
            ask(&mut world, id, input);
        }
        let direction = |name: &str, code: Option<&str>| {
            code.map(|code| (format!("{name} {code}"), 1)).into_iter().collect::<Vec<_>>()
        };
        let expected = [direction("sent", sent), direction("received", received)].concat();
        assert_eq!(values(&world.stats(), "close_codes"), expected, "{inputs:?}");
    }
}

#[test]
fn the_close_frame_for_an_error_between_streamed_frames_is_counted() {
    let mut world = echo_world();
    let id = open(&mut world);
    let mut fragment = binary(100_000);
    fragment[0] &= 0x7f;
    for part in fragment.chunks(50_000) {
        ask(&mut world, id, part);
    }
    // A message inside a message.
    ask(&mut world, id, &text("x"));
    assert_eq!(values(&world.stats(), "close_codes"), [("sent 1002".to_owned(), 1)]);
}

#[test]
fn idle_timeouts_and_drains_count_their_close_frame() {
    let mut world = echo_world();
    let idle = open(&mut world);
    world.advance(seconds(121));
    assert_eq!(values(&world.stats(), "close_codes"), [("sent 1001".to_owned(), 1)]);
    world.finish(idle);
    open(&mut world);
    world.drain(seconds(10));
    world.run_until_quiet();
    assert_eq!(values(&world.stats(), "close_codes"), [("sent 1001".to_owned(), 2)]);
}

/// Every accepted connection is opened, answered, or a failed handshake with one reason.
#[test]
fn failed_handshakes_are_counted_by_reason() {
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "y".repeat(9000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(101));
    let version = format!("GET / HTTP/1.1\r\nHost: a\r\n{UPGRADE}Sec-WebSocket-Version: 8\r\n\r\n");
    let good = String::from_utf8(GOOD_REQUEST.to_vec()).expect("ASCII");
    for (request, reason) in [
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", HandshakeFailure::Malformed),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", HandshakeFailure::Malformed),
        ("GET / HTTP/1.1\r\n\r\n", HandshakeFailure::Malformed),
        (&large, HandshakeFailure::TooLarge),
        (&many, HandshakeFailure::TooLarge),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", HandshakeFailure::NoUpgrade),
        (&version, HandshakeFailure::Version),
    ] {
        let mut world = echo_world();
        world.open(request.as_bytes());
        let stats = world.stats();
        assert_eq!(values(&stats, "handshake_failures"), [(reason.name().to_owned(), 1)]);
        assert_eq!(stats.handshake_failures.count(reason), 1);
        assert_eq!((stats.accepted, stats.opened, stats.answered), (1, 0, 0));
    }
    let (probe, _) = Probe::echo();
    let mut world = World::new(probe.panics_in("request"), Config::default());
    world.open(good.as_bytes());
    expect_failure(&world, HandshakeFailure::HandlerError);
}

#[track_caller]
fn expect_failure<H: Handler>(world: &World<H>, reason: HandshakeFailure) {
    let expected = [(reason.name().to_owned(), 1)];
    assert_eq!(values(&world.stats(), "handshake_failures"), expected);
}

#[test]
fn handshakes_that_end_without_a_complete_request_are_counted_by_reason() {
    let mut world = echo_world();
    world.connect();
    world.advance(seconds(11));
    expect_failure(&world, HandshakeFailure::Timeout);
    for finishes in [true, false] {
        let mut world = echo_world();
        let id = world.connect();
        world.run_until_quiet();
        match finishes {
            true => world.finish(id),
            false => world.reset(id),
        }
        world.advance(seconds(1));
        expect_failure(&world, HandshakeFailure::Disconnected);
    }
    let mut world = echo_world();
    world.connect();
    world.run_until_quiet();
    world.drain(seconds(5));
    world.advance(seconds(1));
    expect_failure(&world, HandshakeFailure::ShuttingDown);
    let mut world = echo_world();
    world.drain(seconds(5));
    world.connect();
    world.advance(seconds(1));
    expect_failure(&world, HandshakeFailure::ShuttingDown);
    let mut world =
        World::new(ws_reactor::Echo, Config { connections_max: Some(1), ..Config::default() });
    open(&mut world);
    world.connect();
    world.run_until_quiet();
    expect_failure(&world, HandshakeFailure::TooManyConnections);
}

#[test]
fn timeouts_are_counted_by_kind() {
    for (kind, after_s) in
        [("handshake", 11), ("idle", 125), ("close", 6), ("linger", 6), ("drain", 21)]
    {
        let close_timeout = seconds(if kind == "drain" { 100 } else { 5 });
        let mut world = World::new(closer(), Config { close_timeout, ..Config::default() });
        if kind == "handshake" {
            world.connect();
        } else {
            let id = open(&mut world);
            match kind {
                "close" => drop(ask(&mut world, id, &text("1000"))),
                // The client does not end its stream after its close frame.
                "linger" => drop(ask(&mut world, id, &close(1000))),
                "drain" => world.drain(seconds(20)),
                _ => {}
            }
        }
        world.advance(seconds(after_s));
        assert_eq!(values(&world.stats(), "timeouts"), [(kind.to_owned(), 1)]);
    }
}

#[test]
fn errors_of_accept_are_counted() {
    let mut world = echo_world();
    // EMFILE, ECONNABORTED; EINTR concerns no connection.
    for errno in [24, 103, 4] {
        world.fail_accept(io::Error::from_raw_os_error(errno));
    }
    let id = world.connect();
    world.send(id, GOOD_REQUEST);
    world.advance(seconds(1));
    let stats = world.stats();
    assert_eq!((stats.accept_errors, stats.accept_pauses, stats.opened), (2, 1, 1));
}

#[test]
fn queued_bytes_and_paused_peers_return_to_zero() {
    for ends in [false, true] {
        let mut world = echo_world();
        let ids = [open(&mut world), open(&mut world)];
        for id in ids {
            world.socket(id).client_reads = false;
            world.socket(id).capacity = 10_000;
            for _ in 0..100 {
                world.send(id, &text(&"x".repeat(996)));
            }
        }
        world.run_until_quiet();
        let stats = world.stats();
        assert_eq!(stats.paused_peers, 2);
        // More than `backlog_bytes_high` for each, less than all of the echoes.
        assert!((2 * 65_536..2 * 90_001).contains(&stats.backlog_bytes), "{stats:?}");
        for id in ids {
            if ends {
                world.reset(id);
            } else {
                world.socket(id).client_reads = true;
                world.socket(id).capacity = 1 << 20;
            }
        }
        world.advance(seconds(130));
        let stats = world.stats();
        assert_eq!((stats.paused_peers, stats.backlog_bytes), (0, 0), "ends: {ends}");
    }
}

/// Pauses reading over each message.
struct Pausing;

impl Handler for Pausing {
    type State = ();

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        peer.pause_reading();
        Reply::Echo
    }
}

#[test]
fn a_peer_that_the_handler_pauses_counts_until_its_end() {
    let mut world = World::new(Pausing, Config::default());
    let id = open(&mut world);
    ask(&mut world, id, &text("x"));
    assert_eq!(world.stats().paused_peers, 1);
    let token = world.token(id);
    world.post(Command::Close(token, CloseCode::NORMAL, "".into()));
    world.run_until_quiet();
    assert_eq!(world.stats().paused_peers, 0, "the peer's close frame has to be read");
}

#[test]
fn published_messages_count_once_and_each_delivery_too() {
    let (probe, _) = Probe::new(|peer, message| {
        assert_eq!(peer.subscribe("news"), Ok(true));
        peer.context().publish("news", message);
        Reply::None
    });
    let mut world = World::new(probe, Config::default());
    let ids = [open(&mut world), open(&mut world)];
    for id in ids {
        ask(&mut world, id, &text("x"));
    }
    let message = EncodedMessage::new("y");
    world.post(Command::Publish([Publication::new("news", message.clone())].into()));
    // Of another worker, which counts it.
    world.post(Command::Relay([Publication::new("news", message)].into()));
    world.run_until_quiet();
    let stats = world.stats();
    assert_eq!(stats.published, 3);
    // One to the first alone, and three to both; a copy for the publisher itself is a reply.
    assert_eq!(stats.messages_out, 1 + 2 + 2 + 2);
    assert!(stats.delivered >= 5, "{stats:?}");
}

#[test]
fn the_time_of_a_turn_is_counted() {
    let mut world = echo_world();
    open(&mut world);
    let before = world.stats().turns;
    world.turn();
    world.skip(Duration::from_millis(3));
    world.worker.count_turn(world.now());
    let turns = world.stats().turns;
    assert_eq!(turns.count() - before.count(), 1);
    assert_eq!(turns.sum() - before.sum(), Duration::from_millis(3));
}

//! The PROXY protocol: the header is read before anything else, and its address replaces the
//! socket's.

use std::time::Duration;

use ws_reactor::{Config, HandshakeFailure, Stats};

use crate::kernel::address;
use crate::probe::{
    Log, MOMENT, Probe, SLACK, assert_echoes, has_status, seconds, text, text_reply,
};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

const V1: &[u8] = b"PROXY TCP4 192.0.2.77 198.51.100.1 56789 80\r\n";
const CLIENT: &str = "192.0.2.77:56789";

/// The same addresses in version 2, with an extension.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\
    \xc0\0\x02\x4d\xc6\x33\x64\x01\xdd\xd5\0\x50\x04\0\x01\0";

const TIMEOUT: Duration = Duration::from_secs(10);

fn proxied_world(config: Config) -> (World<Probe>, Log) {
    let (probe, log) = Probe::echo();
    (World::new(probe, Config { proxy_protocol: true, ..config }), log)
}

fn failures(stats: &Stats, reason: HandshakeFailure) -> u64 {
    stats.handshake_failures.count(reason)
}

#[test]
fn the_address_of_the_header_replaces_that_of_the_socket() {
    let unix = [b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8/run/a.sock", &[0; 205][..]].concat();
    for (header, peer) in [
        (V1, CLIENT),
        (V2, CLIENT),
        (b"PROXY TCP6 2001:db8::7 ::1 56789 80\r\n", "[2001:db8::7]:56789"),
        (&unix[..], "unix:/run/a.sock"),
    ] {
        let (mut world, log) = proxied_world(Config::default());
        let (id, answer) = world.open(&[header, GOOD_REQUEST, &text("early")].concat());
        assert_eq!(answer, [GOOD_RESPONSE, &text_reply("early")].concat());
        assert_eq!(log.lines()[1], format!("open {peer}"));
        assert_echoes(&mut world, id);
    }
}

#[test]
fn a_header_without_a_client_leaves_the_address_of_the_socket() {
    let local: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let unspecified: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0";
    for header in [b"PROXY UNKNOWN\r\n", local, unspecified] {
        let (mut world, log) = proxied_world(Config::default());
        let (id, answer) = world.open(&[header, GOOD_REQUEST].concat());
        assert_eq!(answer, GOOD_RESPONSE);
        assert_eq!(log.lines()[1], format!("open {}", address(id)));
    }
}

#[test]
fn the_header_and_the_request_may_be_split_anywhere() {
    for header in [V1, V2] {
        let input = [header, GOOD_REQUEST, &text("early")].concat();
        for cut in 1..input.len() {
            let (mut world, log) = proxied_world(Config::default());
            let id = world.connect();
            world.send(id, &input[..cut]);
            world.run_until_quiet();
            world.send(id, &input[cut..]);
            world.run_until_quiet();
            let answer = [GOOD_RESPONSE, &text_reply("early")].concat();
            assert_eq!(world.received(id), answer, "cut at {cut}");
            assert_eq!(log.lines()[1], format!("open {CLIENT}"));
        }
        let (mut world, _) = proxied_world(Config::default());
        let id = world.connect();
        input.iter().for_each(|byte| world.send(id, &[*byte]));
        world.run_until_quiet();
        assert_eq!(world.received(id), [GOOD_RESPONSE, &text_reply("early")].concat());
    }
}

#[test]
fn a_missing_or_malformed_header_closes_the_connection_without_an_answer() {
    let too_short: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b\xc0\0\x02\x4d\xc6\x33\x64\x01\xdd\xd5\0";
    let too_long: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x04\0";
    for header in [&b""[..], b"PROXY TCP4 1.2.3.4\r\n", b"\x16\x03\x01", too_short, too_long] {
        let (mut world, log) = proxied_world(Config::default());
        let (_, answer) = world.open(&[V1, GOOD_REQUEST].concat());
        assert_eq!(answer, GOOD_RESPONSE);
        let (id, answer) = world.open(&[header, GOOD_REQUEST].concat());
        assert_eq!(answer, b"", "{}", header.escape_ascii());
        assert!(world.is_dropped(id));
        assert_eq!(failures(&world.stats(), HandshakeFailure::ProxyHeader), 1);
        assert_eq!(world.stats().handshake_failures.total(), 1);
        assert_eq!(log.count("request"), 1, "the handler is not asked");
    }
}

#[test]
fn a_second_header_is_not_a_request() {
    for header in [V1, V2] {
        let (mut world, log) = proxied_world(Config::default());
        let (_, answer) = world.open(&[header, header, GOOD_REQUEST].concat());
        assert!(has_status(&answer, 400) || has_status(&answer, 405), "{}", answer.escape_ascii());
        assert_eq!(log.lines(), Vec::<String>::new());
    }
}

#[test]
fn a_late_header_closes_the_connection_without_an_answer() {
    for sent in [0, 1, V1.len() - 1] {
        let (mut world, _) = proxied_world(Config::default());
        let id = world.connect();
        world.send(id, &V1[..sent]);
        world.advance(TIMEOUT - MOMENT);
        assert!(!world.is_dropped(id));
        world.advance(MOMENT + SLACK);
        assert!(world.is_dropped(id));
        assert_eq!(world.received(id), b"");
        assert_eq!(failures(&world.stats(), HandshakeFailure::Timeout), 1);
        assert_eq!(world.stats().handshake_timeouts, 1);
    }
}

#[test]
fn the_header_and_the_request_have_one_timeout() {
    let (mut world, _) = proxied_world(Config::default());
    let id = world.connect();
    world.advance(TIMEOUT - seconds(1));
    world.send(id, V1);
    world.advance(seconds(1) + SLACK);
    assert!(has_status(&world.received(id), 408));
}

#[test]
fn a_connection_that_ends_within_its_header_is_counted() {
    let (mut world, _) = proxied_world(Config::default());
    let id = world.connect();
    world.send(id, &V1[..20]);
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_eq!(failures(&world.stats(), HandshakeFailure::Disconnected), 1);
}

#[test]
fn a_shutdown_ends_a_connection_within_its_header_without_an_answer() {
    let (mut world, _) = proxied_world(Config::default());
    let id = world.connect();
    world.send(id, &V1[..20]);
    world.run_until_quiet();
    world.drain(seconds(5));
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_eq!(world.received(id), b"");
    assert_eq!(failures(&world.stats(), HandshakeFailure::ShuttingDown), 1);
}

#[test]
fn a_connection_above_the_limit_is_answered_behind_its_header_only() {
    let (mut world, _) = proxied_world(Config { connections_max: Some(1), ..Config::default() });
    world.open(&[V1, GOOD_REQUEST].concat());
    let (_, answer) = world.open(&[V1, GOOD_REQUEST].concat());
    assert!(
        has_status(&answer, 503) && answer.ends_with(b"too many connections\n"),
        "{}",
        answer.escape_ascii()
    );
    let (_, answer) = world.open(&[V2, b"HEAD / HTTP/1.1\r\n"].concat());
    assert!(has_status(&answer, 503) && answer.ends_with(b"\r\n\r\n"), "no body");
    let (id, answer) = world.open(GOOD_REQUEST);
    assert_eq!(answer, b"");
    assert!(world.is_dropped(id));
}

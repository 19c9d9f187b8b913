//! The limits for each client address: where they count, and how a refused client is answered.

use std::time::Duration;

use ws_reactor::{Config, Echo, HandshakeFailure};

use crate::probe::{assert_echoes, close, has_status};
use crate::scripted::SocketId;
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

/// At most two connections of an address.
fn limited() -> Config {
    Config { connections_per_ip_max: Some(2), ..Config::default() }
}

#[track_caller]
fn assert_refused(world: &mut World<Echo>, input: &[u8]) {
    let before = world.stats().handshake_failures.count(HandshakeFailure::AddressLimit);
    let (id, answer) = world.open(input);
    assert!(has_status(&answer, 429), "{}", answer.escape_ascii());
    assert!(answer.ends_with(b"too many connections from this address\n"));
    let refused = world.stats().handshake_failures.count(HandshakeFailure::AddressLimit);
    assert_eq!(refused, before + 1);
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
}

#[track_caller]
fn assert_open(world: &mut World<Echo>, input: &[u8]) -> SocketId {
    let (id, answer) = world.open(input);
    assert_eq!(answer, GOOD_RESPONSE);
    id
}

fn end(world: &mut World<Echo>, id: SocketId) {
    world.send(id, &close(1000));
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
}

/// A request behind a PROXY header of this client.
fn proxied(client: &str, request: &[u8]) -> Vec<u8> {
    let header = format!("PROXY TCP4 {client} 198.51.100.1 5000 80\r\n");
    [header.as_bytes(), request].concat()
}

/// A request with `X-Forwarded-For`.
fn forwarded(client: &str) -> Vec<u8> {
    let request = GOOD_REQUEST.strip_suffix(b"\r\n").expect("an empty line at the end");
    [request, format!("X-Forwarded-For: {client}\r\n\r\n").as_bytes()].concat()
}

/// The scripted sockets are connected from 192.0.2.1.
#[test]
fn connections_of_an_address_are_limited_at_accept_until_one_ends() {
    let mut world = World::new(Echo, limited());
    let first = assert_open(&mut world, GOOD_REQUEST);
    // A connection counts before its request.
    let silent = world.connect();
    world.run_until_quiet();
    assert_refused(&mut world, GOOD_REQUEST);
    assert_refused(&mut world, b"");
    let (_, answer) = world.open(b"HEAD / HTTP/1.1\r\n");
    assert!(has_status(&answer, 429) && answer.ends_with(b"\r\n\r\n"), "no body");
    assert_echoes(&mut world, first);
    end(&mut world, first);
    let second = assert_open(&mut world, GOOD_REQUEST);
    assert_refused(&mut world, GOOD_REQUEST);
    world.reset(silent);
    world.run_until_quiet();
    assert_open(&mut world, GOOD_REQUEST);
    assert_echoes(&mut world, second);
    assert_eq!(world.stats().uncounted_ips, 0);
}

#[test]
fn handshakes_of_an_address_are_limited_in_each_second() {
    let config = Config { handshakes_per_ip_rate: Some(4), ..Config::default() };
    let mut world = World::new(Echo, config);
    let second = |world: &mut World<Echo>| {
        for _ in 0..4 {
            let id = assert_open(world, GOOD_REQUEST);
            end(world, id);
        }
        assert_refused(world, GOOD_REQUEST);
    };
    second(&mut world);
    world.advance(Duration::from_millis(249));
    assert_refused(&mut world, GOOD_REQUEST);
    world.advance(Duration::from_millis(1));
    assert_open(&mut world, GOOD_REQUEST);
    assert_refused(&mut world, GOOD_REQUEST);
    world.advance(Duration::from_secs(1));
    second(&mut world);
}

#[test]
fn behind_the_proxy_protocol_the_client_counts_behind_the_header() {
    let mut world = World::new(Echo, Config { proxy_protocol: true, ..limited() });
    for client in ["203.0.113.1", "203.0.113.2"] {
        let ids = [(); 2].map(|()| assert_open(&mut world, &proxied(client, GOOD_REQUEST)));
        assert_refused(&mut world, &proxied(client, GOOD_REQUEST));
        assert_refused(&mut world, &proxied(client, b""));
        let (_, answer) = world.open(&proxied(client, b"HEAD / HTTP/1.1\r\n"));
        assert!(has_status(&answer, 429) && answer.ends_with(b"\r\n\r\n"), "no body");
        end(&mut world, ids[0]);
        assert_open(&mut world, &proxied(client, GOOD_REQUEST));
        assert_refused(&mut world, &proxied(client, GOOD_REQUEST));
    }
}

#[test]
fn behind_a_trusted_proxy_the_client_counts_behind_the_request() {
    let trusted = vec!["192.0.2.0/24".parse().expect("a network")];
    let mut world = World::new(Echo, Config { trusted_proxies: trusted, ..limited() });
    for client in ["203.0.113.1", "2001:db8::1"] {
        let ids = [(); 2].map(|()| assert_open(&mut world, &forwarded(client)));
        assert_refused(&mut world, &forwarded(client));
        end(&mut world, ids[0]);
        assert_open(&mut world, &forwarded(client));
        assert_refused(&mut world, &forwarded(client));
    }
    // The same /64.
    assert_refused(&mut world, &forwarded("2001:db8::2"));
    // Requests of the proxy itself, such as health checks.
    for _ in 0..5 {
        assert_open(&mut world, GOOD_REQUEST);
    }
}

#[test]
fn a_full_table_of_addresses_keeps_no_address_out() {
    let config = Config { proxy_protocol: true, limited_ips_max: 16, ..limited() };
    let mut world = World::new(Echo, config);
    for host in 0..100 {
        assert_open(&mut world, &proxied(&format!("203.0.113.{host}"), GOOD_REQUEST));
    }
    // The table has at most 16 of them.
    assert!(world.stats().uncounted_ips >= 84, "{}", world.stats().uncounted_ips);
}

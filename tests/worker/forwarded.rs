//! The forwarding header of a trusted proxy: the client's address replaces the proxy's.

use ws_reactor::{Config, TrustedProxy};

use crate::kernel::address;
use crate::probe::{Log, Probe, has_status};
use crate::support::requests::GOOD_REQUEST;
use crate::world::World;

fn trusting_world(proxies: &[&str], config: Config) -> (World<Probe>, Log) {
    let trusted = proxies.iter().map(|proxy| proxy.parse::<TrustedProxy>().expect("a proxy"));
    let (probe, log) = Probe::echo();
    (World::new(probe, Config { trusted_proxies: trusted.collect(), ..config }), log)
}

/// The request with these lines more, whose header names are in any case.
fn with_lines(lines: &[&str]) -> Vec<u8> {
    let request = GOOD_REQUEST.strip_suffix(b"\r\n").expect("an empty line at the end");
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    [request, lines.as_bytes(), b"\r\n"].concat()
}

/// The address that the handler is told for a request; `socket` for that of the socket.
fn told(proxies: &[&str], config: Config, input: &[u8]) -> String {
    let (mut world, log) = trusting_world(proxies, config);
    let (id, answer) = world.open(input);
    assert!(has_status(&answer, 101), "{}", answer.escape_ascii());
    let told = log.lines()[1].replace("open ", "");
    if told == address(id).to_string() { "socket".to_owned() } else { told }
}

/// The scripted sockets are connected from 192.0.2.1.
const PROXIES: &[&str] = &["192.0.2.0/24"];

#[test]
fn a_trusted_proxy_names_the_client() {
    let request =
        with_lines(&["X-Forwarded-For: 198.51.100.7", "x-forwarded-for: 203.0.113.9, 192.0.2.3"]);
    assert_eq!(told(PROXIES, Config::default(), &request), "203.0.113.9:0");
    assert_eq!(told(PROXIES, Config::default(), GOOD_REQUEST), "socket");
}

#[test]
fn without_a_trusted_proxy_the_header_is_ignored() {
    let request = with_lines(&["X-Forwarded-For: 203.0.113.9"]);
    for proxies in [&[][..], &["198.51.100.0/24"], &["unix"]] {
        assert_eq!(told(proxies, Config::default(), &request), "socket");
    }
}

#[test]
fn exactly_one_header_is_believed() {
    let request = with_lines(&[
        "X-Forwarded-For: 203.0.113.1",
        "X-Real-IP: 203.0.113.2",
        "Forwarded: for=203.0.113.3",
    ]);
    for (header, client) in [
        ("X-Forwarded-For", "203.0.113.1:0"),
        ("x-real-ip", "203.0.113.2:0"),
        ("FORWARDED", "203.0.113.3:0"),
        ("CF-Connecting-IP", "socket"),
    ] {
        let config = Config { client_ip_header: header.to_owned(), ..Config::default() };
        assert_eq!(told(PROXIES, config, &request), client, "{header}");
    }
}

#[test]
fn the_address_of_a_proxy_header_is_judged_and_not_that_of_the_socket() {
    let request = with_lines(&["X-Forwarded-For: 203.0.113.9"]);
    let config = Config { proxy_protocol: true, ..Config::default() };
    let from = |peer: &str| {
        let header = format!("PROXY TCP4 {peer} 198.51.100.1 5000 80\r\n");
        told(&["198.51.100.5"], config.clone(), &[header.as_bytes(), &request].concat())
    };
    assert_eq!(from("198.51.100.5"), "203.0.113.9:0");
    assert_eq!(from("192.0.2.1"), "192.0.2.1:5000");
}

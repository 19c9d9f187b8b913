//! Plain HTTP: health checks and pages, which the handler answers, and responses outside a request.

use std::time::Duration;

use ws_reactor::{Config, Echo};

use crate::probe::{Probe, ask, echo_world, has_status, open};
use crate::support::requests::GOOD_REQUEST;
use crate::world::{DATE_LINE, World};

/// The head of the probe's response to a plain request.
const FINE_HEAD: &str = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";

/// A response as its client sees it.
struct Seen {
    head: String,
    body: String,
}

fn seen(output: Vec<u8>) -> Seen {
    let text = String::from_utf8(output).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a complete head");
    Seen { head: head.to_owned(), body: body.to_owned() }
}

impl Seen {
    #[track_caller]
    fn assert_dated(&self) {
        assert!(self.head.split("\r\n").any(|line| line == DATE_LINE), "{}", self.head);
    }

    #[track_caller]
    fn assert_without_body(&self) {
        assert!(self.head.contains("\r\nContent-Length: "), "{}", self.head);
        assert!(!self.head.contains("\r\nContent-Length: 0\r\n"), "{}", self.head);
        assert_eq!(self.body, "", "{}", self.head);
    }
}

#[test]
fn plain_requests_of_every_kind_reach_the_handler() {
    for request in [
        // HAProxy, `option httpchk GET /healthz`.
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: server.example.com\r\n\r\n",
        "GET /healthz?full HTTP/1.1\r\nHost: server.example.com\r\n\r\n",
        "GET http://server.example.com/healthz HTTP/1.1\r\nHost: other.example.com\r\n\r\n",
        "GET /healthz HTTP/1.7\r\nHost: a\r\n\r\n",
        "GET /healthz HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "\r\nGET /healthz HTTP/1.0\r\nHost: a\r\n\r\n",
    ] {
        let head = request.replace("GET", "HEAD");
        for (request, body) in [(request, "fine\n"), (&*head, "")] {
            let (probe, log) = Probe::echo();
            let mut world = World::new(probe, Config::default());
            let (_, answer) = world.open(request.as_bytes());
            let answer = String::from_utf8(answer).expect("UTF-8");
            assert_eq!(answer, format!("{FINE_HEAD}{body}"), "{request:?}");
            assert_eq!(log.lines(), ["http /healthz"], "{request:?}");
            assert_eq!(world.stats().answered, 1, "{request:?}");
        }
    }
}

#[test]
fn a_head_request_with_the_headers_of_an_upgrade_reaches_the_handler() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let request = [b"HEAD", GOOD_REQUEST.strip_prefix(b"GET").expect("it is a GET")].concat();
    let (_, answer) = world.open(&request);
    assert_eq!(String::from_utf8_lossy(&answer), FINE_HEAD);
    assert_eq!(log.lines(), ["http /chat"]);
}

#[test]
fn a_panic_over_a_head_request_is_answered_500_without_a_body() {
    let (probe, _) = Probe::echo();
    let mut world = World::new(probe.panics_in("http"), Config::default());
    let (_, answer) = world.open(b"HEAD / HTTP/1.0\r\n\r\n");
    assert!(has_status(&answer, 500));
    let answer = seen(answer);
    answer.assert_dated();
    answer.assert_without_body();
}

#[test]
fn a_408_has_a_date() {
    for (start, is_head) in [("", false), ("HEAD", false), ("HEAD /", true), ("\r\nHEAD /", true)] {
        let mut world = echo_world();
        let id = world.connect();
        for byte in start.bytes() {
            world.send(id, &[byte]);
        }
        world.advance(Duration::from_secs(11));
        assert!(has_status(&world.received(id), 408), "{start:?}");
        let answer = seen(world.received(id));
        answer.assert_dated();
        if is_head {
            answer.assert_without_body();
        } else {
            assert_ne!(answer.body, "", "{start:?}");
        }
    }
}

#[test]
fn a_drain_answers_an_incomplete_head_request_without_a_body() {
    let mut world = echo_world();
    let id = world.connect();
    world.send(id, b"HEAD / HTTP/1.1\r\n");
    world.run_until_quiet();
    world.drain(Duration::from_secs(5));
    world.run_until_quiet();
    assert!(has_status(&world.received(id), 503));
    let answer = seen(world.received(id));
    answer.assert_dated();
    answer.assert_without_body();
}

#[test]
fn a_503_above_the_limit_has_a_date_and_no_body_for_head() {
    let config = Config { connections_max: Some(1), ..Config::default() };
    let mut world = World::new(Echo, config);
    open(&mut world);
    for (request, body) in [
        (&b""[..], "too many connections\n"),
        (b"GET / HTTP/1.0\r\n\r\n", "too many connections\n"),
        (b"HEAD / HTTP/1.0\r\n\r\n", ""),
    ] {
        let id = world.connect();
        let output = ask(&mut world, id, request);
        assert!(has_status(&output, 503));
        let answer = seen(output);
        answer.assert_dated();
        assert_eq!(answer.body, body, "{}", request.escape_ascii());
        assert!(answer.head.contains("\r\nContent-Length: 21\r\n"), "{}", answer.head);
        assert!(world.is_dropped(id));
    }
}

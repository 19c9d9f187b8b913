//! Connections with TLS: the same bytes as without, however the records are cut, and the right end of
//! those that break TLS.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConnection, Error, SupportedProtocolVersion};
use ws_reactor::internal::{Command, Origin, Readiness};
use ws_reactor::{
    Config, ConnectionInfo, Echo, Handler, HandshakeFailure, Message, Peer, Reply, Request, Upgrade,
};

use crate::kernel::address;
use crate::probe::{
    Probe, assert_echoes, binary, binary_reply, close, close_reply, echo_world, has_status, open,
    seconds, text, text_reply,
};
use crate::scripted::{Call, SocketId};
use crate::secure::{Identity, NAME, decrypt, take_ciphertext};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

/// A client with TLS of a world's worker.
struct Client {
    id: SocketId,
    tls: ClientConnection,
    /// The length of its reads by the worker.
    cut: usize,
}

impl Client {
    /// Connects, without sending anything.
    fn new<H: Handler>(world: &World<H>, version: &'static SupportedProtocolVersion) -> Self {
        let identity = Identity::new();
        let (id, stream) = world.accepted_elsewhere();
        let origin = Origin::with_tls(address(id), identity.tls_config());
        assert!(world.post(Command::Adopt(stream, origin)));
        Self { id, tls: identity.client(version), cut: usize::MAX }
    }

    /// Connects, and gets the 101.
    fn open<H: Handler>(world: &mut World<H>) -> Self {
        let mut client = Self::new(world, &TLS13);
        assert_eq!(client.ask(world, GOOD_REQUEST), Ok(GOOD_RESPONSE.to_vec()));
        client
    }

    /// Lets the worker read the ciphertext in pieces.
    fn push<H: Handler>(&self, world: &World<H>, ciphertext: &[u8]) {
        for chunk in ciphertext.chunks(self.cut) {
            world.send(self.id, chunk);
        }
    }

    /// Exchanges records until both sides are quiet. Returns the plaintext.
    fn exchange<H: Handler>(&mut self, world: &mut World<H>) -> Result<Vec<u8>, Error> {
        let mut plaintext = Vec::new();
        loop {
            let sent = take_ciphertext(&mut self.tls);
            self.push(world, &sent);
            world.run_until_quiet();
            let received = world.take_received(self.id);
            if sent.is_empty() && received.is_empty() {
                return Ok(plaintext);
            }
            plaintext.extend(decrypt(&mut self.tls, &received)?);
        }
    }

    /// Sends bytes, after the handshake, and returns the replies.
    fn ask<H: Handler>(&mut self, world: &mut World<H>, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut replies = self.exchange(world)?;
        for part in bytes.chunks(32 * 1024) {
            self.tls.writer().write_all(part).expect("room for two records");
            let sent = take_ciphertext(&mut self.tls);
            self.push(world, &sent);
        }
        replies.extend(self.exchange(world)?);
        Ok(replies)
    }
}

#[test]
fn a_connection_with_tls_answers_as_one_without() {
    for version in [&TLS12, &TLS13] {
        for cut in [usize::MAX, 1, 5, 6, 100, 4096, 4097, 16_401] {
            let mut world = echo_world();
            let mut client = Client::new(&world, version);
            client.cut = cut;
            let answer = client.ask(&mut world, GOOD_REQUEST);
            assert_eq!(answer, Ok(GOOD_RESPONSE.to_vec()), "{version:?} in pieces of {cut}");
            for len in [0, 1, 125, 126, 16_384, 16_385, 70_000] {
                let reply = client.ask(&mut world, &binary(len));
                assert!(reply == Ok(binary_reply(len)), "{len} bytes in pieces of {cut}");
            }
            let replies = client.ask(&mut world, &[text("a"), text("b")].concat());
            assert_eq!(replies, Ok([text_reply("a"), text_reply("b")].concat()));
        }
    }
}

#[test]
fn a_large_message_is_echoed() {
    let mut world = echo_world();
    let mut client = Client::open(&mut world);
    let len = 1024 * 1024;
    assert!(client.ask(&mut world, &binary(len)) == Ok(binary_reply(len)));
    let (probe, _) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let mut client = Client::open(&mut world);
    let len = 900_000;
    assert!(client.ask(&mut world, &binary(len)) == Ok(binary_reply(len)), "delivered whole");
}

#[test]
fn all_records_of_a_read_are_taken_at_its_edge() {
    let mut world = echo_world();
    let mut client = Client::open(&mut world);
    let mut ciphertext = Vec::new();
    for number in 0..2000 {
        client.tls.writer().write_all(&text(&number.to_string())).expect("room for a record");
        ciphertext.extend(take_ciphertext(&mut client.tls));
    }
    world.send(client.id, &ciphertext);
    let expected: Vec<u8> = (0..2000).flat_map(|number| text_reply(&number.to_string())).collect();
    assert!(client.exchange(&mut world) == Ok(expected));
}

#[test]
fn a_frame_may_be_cut_by_records() {
    let mut world = echo_world();
    let mut client = Client::open(&mut world);
    let frames = [text("first"), text("second")].concat();
    for cut in 1..frames.len() {
        let mut replies = Vec::new();
        for part in [&frames[..cut], &frames[cut..]] {
            replies.extend(client.ask(&mut world, part).expect("TLS works"));
        }
        assert_eq!(replies, [text_reply("first"), text_reply("second")].concat(), "at {cut}");
    }
}

#[test]
fn a_peer_that_does_not_read_is_not_read_and_loses_nothing() {
    let config = Config::default();
    let mut world = World::new(Echo, config.clone());
    let mut client = Client::open(&mut world);
    world.socket(client.id).client_reads = false;
    world.socket(client.id).capacity = 10_000;
    let consumed_before = world.socket(client.id).consumed;
    for _ in 0..300 {
        client.tls.writer().write_all(&binary(1000)).expect("room for a record");
        let sent = take_ciphertext(&mut client.tls);
        client.push(&world, &sent);
    }
    world.run_until_quiet();
    let consumed = world.socket(client.id).consumed - consumed_before;
    let max = config.backlog_bytes_high + 10_000 + 8_000;
    assert!(consumed <= max, "{consumed} bytes were read, and none of the replies");
    world.socket(client.id).client_reads = true;
    let expected = binary_reply(1000).repeat(300);
    assert!(client.exchange(&mut world) == Ok(expected));
}

#[test]
fn refused_ciphertext_leaves_with_a_writable_edge_alone() {
    let mut world = echo_world();
    let mut client = Client::open(&mut world);
    world.socket(client.id).client_reads = false;
    world.socket(client.id).capacity = 100;
    client.tls.writer().write_all(&binary(5000)).expect("room for a record");
    let sent = take_ciphertext(&mut client.tls);
    client.push(&world, &sent);
    world.run_until_quiet();
    let mut ciphertext = Vec::new();
    for _ in 0..100 {
        ciphertext.extend(world.take_received(client.id));
        world.socket(client.id).drain(usize::MAX);
        let writable = Readiness { writable: true, ..Readiness::default() };
        let token = world.token(client.id);
        world.turn_with(vec![(token, writable)]);
    }
    world.socket(client.id).drain(usize::MAX);
    ciphertext.extend(world.take_received(client.id));
    assert!(decrypt(&mut client.tls, &ciphertext) == Ok(binary_reply(5000)));
}

#[test]
fn replies_to_one_read_leave_in_one_send() {
    let mut world = echo_world();
    let mut client = Client::open(&mut world);
    let before = world.socket(client.id).calls(Call::Write);
    let replies = client.ask(&mut world, &text("hello").repeat(100));
    assert_eq!(replies, Ok(text_reply("hello").repeat(100)));
    assert_eq!(world.socket(client.id).calls(Call::Write) - before, 1);
}

#[test]
fn a_closing_handshake_ends_with_close_notify() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let mut client = Client::open(&mut world);
    assert_eq!(client.ask(&mut world, &close(1000)), Ok(close_reply(1000, "")));
    let state = client.tls.process_new_packets().expect("TLS works");
    assert!(state.peer_has_closed(), "close_notify precedes FIN");
    assert!(world.socket(client.id).shutdown_at.is_some(), "the server's direction has ended");
    assert_eq!(log.count("close 1000"), 1);
    client.tls.send_close_notify();
    client.exchange(&mut world).expect("TLS works");
    world.finish(client.id);
    world.run_until_quiet();
    assert!(world.is_dropped(client.id));
}

#[test]
fn a_close_frame_needs_no_close_notify_behind_it() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let mut client = Client::open(&mut world);
    client.ask(&mut world, &close(1000)).expect("TLS works");
    world.finish(client.id);
    world.run_until_quiet();
    assert!(world.is_dropped(client.id));
    assert_eq!(log.count("close 1000"), 1);
}

#[test]
fn the_end_of_the_stream_without_a_close_frame_is_abnormal() {
    for says_close_notify in [false, true] {
        let (probe, log) = Probe::echo();
        let mut world = World::new(probe, Config::default());
        let mut client = Client::open(&mut world);
        if says_close_notify {
            client.tls.send_close_notify();
            client.exchange(&mut world).expect("TLS works");
        } else {
            world.finish(client.id);
            world.run_until_quiet();
        }
        assert!(world.is_dropped(client.id));
        assert_eq!(log.count("close 1006"), 1, "{:?}", log.lines());
    }
}

#[test]
fn bytes_that_are_no_tls_end_their_connection_with_an_alert() {
    let mut world = echo_world();
    let mut good = Client::open(&mut world);
    let plain = open(&mut world);
    for garbage in [&b"\x16\x03\x01\xff\xff"[..], b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", &[0; 50]]
    {
        let mut client = Client::new(&world, &TLS13);
        world.send(client.id, garbage);
        world.run_until_quiet();
        let received = world.take_received(client.id);
        let refused = decrypt(&mut client.tls, &received);
        assert!(matches!(refused, Err(Error::AlertReceived(_))), "{refused:?} to {garbage:?}");
        assert!(world.socket(client.id).shutdown_at.is_some());
        world.finish(client.id);
        world.run_until_quiet();
        assert!(world.is_dropped(client.id));
    }
    assert_eq!(world.stats().handshake_failures.count(HandshakeFailure::Tls), 3);
    assert_eq!(good.ask(&mut world, &text("on")), Ok(text_reply("on")));
    assert_echoes(&mut world, plain);
}

#[test]
fn a_handshake_message_without_end_takes_bounded_memory() {
    let mut world = echo_world();
    let client = Client::new(&world, &TLS13);
    // A ClientHello of 16 MiB, in records of 16 KiB.
    let first = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff".iter().copied();
    let first: Vec<u8> = first.chain(std::iter::repeat_n(0, 0x4000 - 4)).collect();
    let next: Vec<u8> = b"\x16\x03\x01\x40\x00".iter().copied().chain([0; 0x4000]).collect();
    world.send(client.id, &first);
    for _ in 0..10 {
        world.send(client.id, &next);
    }
    world.run_until_quiet();
    assert!(world.socket(client.id).shutdown_at.is_some(), "it ends before 160 KiB");
    assert_eq!(world.stats().handshake_failures.count(HandshakeFailure::Tls), 1);
}

#[test]
fn a_changed_record_ends_its_connection_with_an_alert() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let mut client = Client::open(&mut world);
    client.tls.writer().write_all(&text("changed")).expect("room for a record");
    let mut sent = take_ciphertext(&mut client.tls);
    *sent.last_mut().expect("a record") ^= 1;
    world.send(client.id, &sent);
    world.run_until_quiet();
    let received = world.take_received(client.id);
    let alert = Error::AlertReceived(AlertDescription::BadRecordMac);
    assert_eq!(decrypt(&mut client.tls, &received), Err(alert));
    assert_eq!((log.count("text"), log.count("close 1006")), (0, 1), "{:?}", log.lines());
    world.finish(client.id);
    world.run_until_quiet();
    assert!(world.is_dropped(client.id));
}

#[test]
fn a_plain_request_gets_a_plain_400() {
    let mut world = echo_world();
    let client = Client::new(&world, &TLS13);
    world.send(client.id, GOOD_REQUEST);
    world.run_until_quiet();
    let answer = world.take_received(client.id);
    assert!(has_status(&answer, 400), "{}", String::from_utf8_lossy(&answer));
    assert!(world.socket(client.id).shutdown_at.is_some());
    assert_eq!(world.stats().handshake_failures.count(HandshakeFailure::Tls), 1);
}

#[test]
fn a_handshake_has_limited_time() {
    for bytes in [0, 1, 100] {
        let mut world = echo_world();
        let mut client = Client::new(&world, &TLS13);
        let hello = take_ciphertext(&mut client.tls);
        client.push(&world, &hello[..bytes]);
        world.run_until_quiet();
        world.advance(Config::default().handshake_timeout - seconds(1));
        assert!(world.socket(client.id).shutdown_at.is_none());
        world.advance(seconds(2));
        assert!(world.socket(client.id).shutdown_at.is_some(), "after {bytes} bytes");
        assert_eq!(world.stats().handshake_timeouts, 1);
        world.advance(Config::default().close_timeout + seconds(1));
        assert!(world.is_dropped(client.id));
    }
}

#[test]
fn a_crowd_of_handshakes_is_spread_over_turns() {
    let mut world = echo_world();
    let mut crowd: Vec<_> = (0..100).map(|_| Client::new(&world, &TLS13)).collect();
    world.run_until_quiet();
    for client in &mut crowd {
        let hello = take_ciphertext(&mut client.tls);
        client.push(&world, &hello);
    }
    let answered = |world: &World<Echo>| {
        crowd.iter().filter(|client| !world.received(client.id).is_empty()).count()
    };
    let mut counts = Vec::new();
    while answered(&world) < 100 {
        world.turn();
        // The client gets the bytes.
        world.kernel().deliver();
        counts.push(answered(&world));
        assert!(counts.len() < 20, "{counts:?}");
    }
    let mut before = 0;
    for count in counts {
        assert!(count - before <= 32, "at most 32 handshakes in a turn");
        before = count;
    }
}

/// Notes what the callbacks learn of TLS.
#[derive(Clone, Default)]
struct Observer(Rc<RefCell<Vec<String>>>);

impl Observer {
    fn note(&self, info: ConnectionInfo<'_>) {
        let line = info.tls().map_or_else(
            || "plain".to_owned(),
            |tls| {
                let alpn = tls.alpn_protocol().map(String::from_utf8_lossy);
                let name = tls.server_name();
                format!("{:?} {name:?} {alpn:?} {:?}", tls.version(), tls.peer_certificates())
            },
        );
        self.0.borrow_mut().push(line);
    }
}

impl Handler for Observer {
    type State = ();

    fn on_request(&mut self, _: &Request<'_>, info: ConnectionInfo<'_>) -> Upgrade<()> {
        self.note(info);
        Upgrade::accept(())
    }

    fn on_open(&mut self, _: &mut Peer<'_, ()>, info: ConnectionInfo<'_>) {
        self.note(info);
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }
}

#[test]
fn callbacks_learn_the_properties_of_tls() {
    for (version, name) in [(&TLS12, "TLSv1_2"), (&TLS13, "TLSv1_3")] {
        let observer = Observer::default();
        let mut world = World::new(observer.clone(), Config::default());
        let mut client = Client::new(&world, version);
        client.ask(&mut world, GOOD_REQUEST).expect("TLS works");
        open(&mut world);
        let line = format!("Some({name}) Some(\"{NAME}\") Some(\"http/1.1\") None");
        let lines = [&line[..], &line, "plain", "plain"];
        assert_eq!(*observer.0.borrow(), lines);
    }
}

#[test]
fn a_proxy_header_precedes_the_handshake_in_plaintext() {
    for cut in [usize::MAX, 1, 40] {
        let config = Config { proxy_protocol: true, ..Config::default() };
        let mut world = World::new(Echo, config);
        let mut client = Client::new(&world, &TLS13);
        let mut first = b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n".to_vec();
        first.extend(take_ciphertext(&mut client.tls));
        client.cut = cut;
        client.push(&world, &first);
        assert_eq!(client.ask(&mut world, GOOD_REQUEST), Ok(GOOD_RESPONSE.to_vec()), "{cut}");
    }
}

#[test]
fn a_shutdown_reaches_peers_with_tls() {
    let mut world = echo_world();
    let mut client = Client::open(&mut world);
    let half = Client::new(&world, &TLS13);
    world.run_until_quiet();
    world.drain(Duration::from_secs(5));
    let frames = client.exchange(&mut world);
    assert_eq!(frames, Ok(close_reply(1001, "the server is shutting down")));
    assert!(world.socket(half.id).shutdown_at.is_some());
}

//! Handlers that send messages besides echoes, and handlers that panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ws_reactor::protocol::{Accept, Request};
use ws_reactor::{CloseCode, Config, ConnectionInfo, Handler, Message, Peer, Reply, Upgrade};

use crate::probe::{
    Probe, ask, assert_echoes, close, close_reply, has_status, open, text, text_reply,
};
use crate::scripted::Call;
use crate::support::frames::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client, server};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

#[test]
fn a_message_and_an_echo_go_out_in_this_order() {
    let (probe, _) = Probe::new(|peer, _| {
        peer.send("before");
        Reply::Echo
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    let reply = [text_reply("before"), text_reply("a")].concat();
    assert_eq!(ask(&mut world, id, &text("a")), reply);
}

#[test]
fn a_message_behind_echoes_of_the_same_read_goes_out_behind_them() {
    let (probe, _) = Probe::new(|peer, message| {
        if message.as_bytes() == b"c" {
            peer.send("before c");
        }
        Reply::Echo
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    let input = ["a", "b", "c", "d"].map(text).concat();
    let reply = ["a", "b", "before c", "c", "d"].map(text_reply).concat();
    assert_eq!(ask(&mut world, id, &input), reply);
}

#[test]
fn a_message_instead_of_an_echo_goes_out_in_its_place() {
    let (probe, _) = Probe::new(|peer, message| {
        if message.as_bytes() == b"c" {
            peer.send("instead of c");
            return Reply::None;
        }
        Reply::Echo
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    let input = ["a", "b", "c", "d"].map(text).concat();
    let reply = ["a", "b", "instead of c", "d"].map(text_reply).concat();
    assert_eq!(ask(&mut world, id, &input), reply);
}

/// Message number `count` to the mixture handler, and the expected reply.
fn mixture(count: usize) -> (Vec<u8>, Vec<u8>) {
    let payload = format!("{count} {}", "x".repeat([0, 5, 120, 130, 3000][count % 5]));
    let half = payload.len() / 2;
    let input = match count % 3 {
        0 => client(TEXT, payload.as_bytes()).bytes(),
        1 => client(BINARY, payload.as_bytes()).bytes(),
        _ => [
            client(TEXT, &payload.as_bytes()[..half]).fin(false).bytes(),
            client(PING, b"").bytes(),
            client(CONTINUATION, &payload.as_bytes()[half..]).bytes(),
        ]
        .concat(),
    };
    let opcode = if count % 3 == 1 { BINARY } else { TEXT };
    let echo = server(opcode, payload.as_bytes()).bytes();
    let pong = if count % 3 == 2 { server(0xA, b"").bytes() } else { Vec::new() };
    let long = "y".repeat(70_000);
    let reply = match count % 7 {
        0 | 1 => echo,
        2 => [text_reply("before"), echo].concat(),
        3 => [text_reply("instead"), text_reply("twice")].concat(),
        4 => [server(PING, b"?").bytes(), echo].concat(),
        5 => [text_reply(&long), echo].concat(),
        _ => Vec::new(),
    };
    (input, [pong, reply].concat())
}

fn mixture_handler() -> Probe {
    let mut count = 0;
    let (probe, _) = Probe::new(move |peer, _| {
        count += 1;
        match (count - 1) % 7 {
            2 => assert!(peer.send("before")),
            3 => {
                peer.send("instead");
                peer.send("twice");
                return Reply::None;
            }
            4 => assert!(peer.ping(b"?")),
            5 => assert!(peer.send("y".repeat(70_000).as_str())),
            6 => return Reply::None,
            _ => {}
        }
        Reply::Echo
    });
    probe
}

#[test]
fn a_mixture_of_echoes_and_messages_keeps_the_order_of_events() {
    let (inputs, replies): (Vec<_>, Vec<_>) = (0..60).map(mixture).unzip();
    let (input, reply) = (inputs.concat(), replies.concat());
    for piece_bytes in [input.len(), 20_000, 5000, 1009, 101, 7, 1] {
        for capacity in [usize::MAX, 100_003] {
            let mut world = World::new(mixture_handler(), Config::default());
            let id = open(&mut world);
            world.socket(id).capacity = capacity;
            for piece in input.chunks(piece_bytes) {
                world.send(id, piece);
            }
            world.run_until_quiet();
            let output = world.take_received(id);
            let at = output.iter().zip(&reply).take_while(|(a, b)| a == b).count();
            assert!(
                output == reply,
                "reads of {piece_bytes}, writes of {capacity}: {} bytes for {}, equal up to {at}",
                output.len(),
                reply.len()
            );
        }
    }
}

#[test]
fn messages_sent_in_on_open_come_first() {
    struct Greeter;
    impl Handler for Greeter {
        type State = u32;
        fn on_open(&mut self, peer: &mut Peer<'_, u32>, _: ConnectionInfo<'_>) {
            *peer.state = 7;
            peer.send("welcome");
        }
        fn on_message(&mut self, peer: &mut Peer<'_, u32>, _: Message<'_>) -> Reply {
            assert_eq!(*peer.state, 7);
            Reply::Echo
        }
    }
    let mut world = World::new(Greeter, Config::default());
    let (id, output) = world.open(&[GOOD_REQUEST, &text("hello")].concat());
    assert_eq!(output, [GOOD_RESPONSE, &text_reply("welcome"), &text_reply("hello")].concat());
    assert_eq!(world.socket(id).calls(Call::Write), 1);
    assert_eq!(world.stats().handler_panics, 0);
}

#[test]
fn an_echo_after_a_close_is_not_sent() {
    let (probe, log) = Probe::new(|peer, message| {
        if message.as_bytes() == b"b" {
            assert!(peer.send("last"));
            peer.close(CloseCode::NORMAL, "done");
            assert!(!peer.is_open());
            assert!(!peer.send("too late"));
            assert!(!peer.ping(b"too late"));
            peer.close(CloseCode::GOING_AWAY, "too late");
        }
        Reply::Echo
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    let input = [text("a"), text("b"), text("c"), client(PING, b"").bytes()].concat();
    let reply = [text_reply("a"), text_reply("last"), close_reply(1000, "done")].concat();
    let pong = server(PONG, b"").bytes();
    assert_eq!(ask(&mut world, id, &input), [reply, pong].concat());
    assert_eq!(ask(&mut world, id, &text("d")), b"");
    assert_eq!(log.count("text"), 2);
    let stats = world.stats();
    assert_eq!((stats.messages_in, stats.messages_out, stats.bytes_out), (2, 2, 5));
    assert_eq!(ask(&mut world, id, &close(1000)), b"");
    assert_eq!(log.count("close 1000 \"\" closed by the server"), 1);
}

#[test]
fn a_handler_sees_the_size_of_the_backlog() {
    let (probe, _) = Probe::new(|peer, message| {
        if message.as_bytes() == b"how much?" {
            let count = peer.backlog_bytes().to_string();
            peer.send(count.as_str());
            return Reply::None;
        }
        Reply::Echo
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    assert_eq!(ask(&mut world, id, &text("how much?")), text_reply("0"));
    assert_eq!(
        ask(&mut world, id, &[text("12345"), text("how much?")].concat()),
        [text_reply("12345"), text_reply("7")].concat()
    );
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 5;
    world.send(id, &text("12345"));
    world.send(id, &text("how much?"));
    world.run_until_quiet();
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert_eq!(world.take_received(id), [text_reply("12345"), text_reply("2")].concat());
}

fn bad_request() -> Vec<u8> {
    String::from_utf8_lossy(GOOD_REQUEST).replace("/chat", "/bad").into()
}

#[test]
fn a_panic_in_on_request_is_answered_500() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe.panics_in("request /bad"), Config::default());
    let neighbour = open(&mut world);
    let (id, answer) = world.open(&bad_request());
    assert!(has_status(&answer, 500));
    assert_eq!(world.socket(id).calls(Call::Shutdown), 1);
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_echoes(&mut world, neighbour);
    assert_eq!((world.stats().handler_panics, world.stats().opened), (1, 1));
    assert_eq!((log.count("open"), log.count("close")), (1, 0));
}

#[test]
fn a_panic_in_on_http_is_answered_500() {
    let mut world = World::new(Probe::echo().0.panics_in("http"), Config::default());
    let neighbour = open(&mut world);
    let (id, answer) = world.open(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(has_status(&answer, 500));
    assert_eq!(world.socket(id).calls(Call::Shutdown), 1);
    assert_echoes(&mut world, neighbour);
    assert_eq!(world.stats().handler_panics, 1);
}

#[test]
fn a_panic_in_on_open_closes_with_1011() {
    let (probe, log) = Probe::echo();
    // This is the address of the second client.
    let mut world = World::new(probe.panics_in("open 192.0.2.1:1025"), Config::default());
    let neighbour = open(&mut world);
    let (id, answer) = world.open(&[GOOD_REQUEST, &text("unheard")].concat());
    assert_eq!(answer, [GOOD_RESPONSE, &close_reply(1011, "")].concat());
    ask(&mut world, id, &close(1011));
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_echoes(&mut world, neighbour);
    assert_eq!((world.stats().handler_panics, log.count("close"), log.count("text un")), (1, 1, 0));
}

#[test]
fn a_panic_in_on_message_closes_with_1011_after_earlier_replies() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe.panics_in("text bad"), Config::default());
    let neighbour = open(&mut world);
    let id = open(&mut world);
    let input = [text("good"), text("fine"), text("bad"), text("unheard")].concat();
    let reply = [text_reply("good"), text_reply("fine"), close_reply(1011, "")].concat();
    assert_eq!(ask(&mut world, id, &input), reply);
    assert_eq!(ask(&mut world, id, &close(1011)), b"");
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id));
    assert_echoes(&mut world, neighbour);
    assert_eq!((world.stats().handler_panics, log.count("close"), log.count("text un")), (1, 1, 0));
}

#[test]
fn a_panic_in_on_close_affects_no_other_connection() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe.panics_in("close"), Config::default());
    let ids = [(); 5].map(|()| open(&mut world));
    world.send(ids[0], &close(1000));
    world.send(ids[1], b"\xff\xff");
    world.reset(ids[2]);
    world.finish(ids[3]);
    world.run_until_quiet();
    assert_eq!(world.take_received(ids[0]), close_reply(1000, ""));
    assert_eq!(world.take_received(ids[1]), close_reply(1002, ""));
    assert_echoes(&mut world, ids[4]);
    assert_eq!((world.stats().handler_panics, log.count("close")), (4, 4));
    assert_eq!((world.stats().closed, world.stats().ended), (4, 2));
}

/// Panics the first time that one is dropped, and counts the drops.
#[derive(Default)]
struct PanicOnDrop(Arc<AtomicUsize>);

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "as requested");
    }
}

/// Its state panics when dropped. For `/bad` it chooses a subprotocol that was not offered, so that
/// the state is dropped unused.
struct Fragile(Arc<AtomicUsize>);

impl Handler for Fragile {
    type State = PanicOnDrop;

    fn on_request(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<PanicOnDrop> {
        let accept = match request.path() {
            "/bad" => Accept::default().protocol("unoffered"),
            _ => Accept::default(),
        };
        Upgrade::Accept(accept, PanicOnDrop(Arc::clone(&self.0)))
    }

    fn on_message(&mut self, _: &mut Peer<'_, PanicOnDrop>, _: Message<'_>) -> Reply {
        Reply::Echo
    }
}

#[test]
fn a_panic_when_an_unused_state_is_dropped_is_answered_500() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut world = World::new(Fragile(Arc::clone(&dropped)), Config::default());
    let (_, answer) = world.open(&bad_request());
    assert!(has_status(&answer, 500));
    let counts = (dropped.load(Ordering::Relaxed), world.stats().handler_panics);
    assert_eq!(counts, (1, 1));
    let id = open(&mut world);
    assert_echoes(&mut world, id);
}

#[test]
fn a_panic_payload_is_dropped_even_if_the_drop_panics() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let payload = Arc::clone(&dropped);
    let (probe, _) =
        Probe::new(move |_, _| std::panic::panic_any(PanicOnDrop(Arc::clone(&payload))));
    let mut world = World::new(probe, Config::default());
    for count in 1..=3 {
        let id = open(&mut world);
        assert_eq!(ask(&mut world, id, &text("a")), close_reply(1011, ""));
        assert_eq!(dropped.load(Ordering::Relaxed), count);
    }
}

#[test]
fn messages_sent_before_a_panic_are_delivered() {
    let (probe, _) = Probe::new(|peer, _| {
        peer.send("so far");
        panic!("as requested");
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    let reply = [text_reply("so far"), close_reply(1011, "")].concat();
    assert_eq!(ask(&mut world, id, &text("a")), reply);
    assert_eq!(world.stats().messages_out, 1);
}

/// A relay may close with the code that ended another connection, which can be 1005 or 1006.
#[test]
fn a_code_that_must_not_be_sent_gives_a_close_frame_without_a_code() {
    for code in [CloseCode::NO_STATUS, CloseCode::ABNORMAL] {
        let (probe, _) = Probe::new(move |peer, _| {
            peer.close(code, "of another");
            Reply::None
        });
        let mut world = World::new(probe, Config::default());
        let id = open(&mut world);
        assert_eq!(ask(&mut world, id, &text("a")), server(CLOSE, b"").bytes());
    }
}

#[test]
fn a_panic_after_a_close_leaves_the_close_timeout_unchanged() {
    let (probe, log) = Probe::new(|peer, _| {
        peer.close(CloseCode::NORMAL, "");
        panic!("as requested");
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    assert_eq!(ask(&mut world, id, &text("a")), close_reply(1000, ""));
    world.advance(Duration::from_secs(6));
    assert!(world.is_dropped(id));
    assert_eq!((world.stats().close_timeouts, log.count("close 1006")), (1, 1));
}

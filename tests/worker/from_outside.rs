//! Commands of other threads through the mailbox.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ws_reactor::internal::{Command, Sender, Token};
use ws_reactor::{
    CloseCode, CloseEvent, Config, ConnectionInfo, Context, Echo, Handler, Message, Peer, PeerId,
    Reply, Request, Upgrade,
};

use crate::kernel::address;
use crate::probe::{
    Probe, ask, assert_echoes, binary, binary_reply, close as peer_close, close_reply, echo_world,
    has_status, open, text, text_reply,
};
use crate::scripted::Stream;
use crate::support::frames::{BINARY, CONTINUATION, client, server};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

fn send(token: Token, text: &str) -> Command<Stream> {
    Command::Send(token, Message::from(text).into())
}

fn close(token: Token) -> Command<Stream> {
    Command::Close(token, CloseCode::NORMAL, "enough".into())
}

#[test]
fn messages_arrive_in_the_order_of_posting() {
    let mut world = echo_world();
    let (one, two) = (open(&mut world), open(&mut world));
    let (first, second) = (world.token(one), world.token(two));
    for count in 0..500 {
        assert!(world.post(send(first, &count.to_string())));
        let bytes = Message::Binary(&[count as u8]).into();
        assert!(world.post(Command::Send(second, bytes)));
    }
    world.run_until_quiet();
    let texts: Vec<_> = (0..500).flat_map(|count| text_reply(&count.to_string())).collect();
    let bytes: Vec<_> = (0..500).flat_map(|count| server(BINARY, &[count as u8]).bytes()).collect();
    assert!(world.take_received(one) == texts);
    assert!(world.take_received(two) == bytes);
    let stats = world.stats();
    assert_eq!((stats.messages_out, stats.bytes_out), (1000, texts.len() as u64 - 1000 + 500));
}

#[test]
fn a_full_mailbox_is_emptied_by_the_turn_that_it_wakes() {
    let config = Config { mailbox_bytes_max: 10_000, ..Config::default() };
    let mut world = World::new(Echo, config);
    let id = open(&mut world);
    let token = world.token(id);
    let mut posted = 0;
    while world.post(send(token, "x")) {
        posted += 1;
    }
    world.send(id, &text("mine"));
    world.turn();
    world.turn();
    let output = [text_reply("mine"), text_reply("x").repeat(posted)].concat();
    assert!(world.take_received(id) == output);
    assert_eq!(world.stats().messages_out as usize, posted + 1);
}

#[test]
fn a_message_to_an_ended_connection_is_counted() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let ended = open(&mut world);
    let token = world.token(ended);
    assert!(world.sender.is_open(token));
    assert!(world.post(send(token, "not delivered yet")));
    world.reset(ended);
    let edges: Vec<_> = world.poll().into_iter().rev().collect();
    world.turn_with(edges);
    assert!(!world.sender.is_open(token));
    let next = open(&mut world);
    assert!(world.post(send(token, "to no connection")));
    assert!(world.post(close(token)));
    assert_echoes(&mut world, next);
    assert_eq!(world.stats().stale_sends, 2);
    assert_eq!(log.count("close"), 1);
}

#[test]
fn a_message_to_a_connection_that_is_not_open_yet_is_counted() {
    let mut world = echo_world();
    let id = world.connect();
    world.run_until_quiet();
    let token = world.token(id);
    assert!(world.post(send(token, "early")));
    world.run_until_quiet();
    assert_eq!(ask(&mut world, id, GOOD_REQUEST), GOOD_RESPONSE);
    assert_eq!(world.stats().stale_sends, 1);
    assert_eq!(world.stats().messages_out, 0);
}

/// Notes in each callback whether other threads find the connection open.
struct Recorder {
    lookup: Rc<RefCell<Option<Lookup>>>,
    seen: Rc<RefCell<Vec<(&'static str, bool)>>>,
}

/// How another thread finds the connection.
struct Lookup {
    sender: Rc<Sender<Stream>>,
    token: Token,
}

impl Recorder {
    fn note(&self, callback: &'static str) {
        if let Some(Lookup { sender, token }) = &*self.lookup.borrow() {
            self.seen.borrow_mut().push((callback, sender.is_open(*token)));
        }
    }
}

impl Handler for Recorder {
    type State = ();

    fn on_request(&mut self, _: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<()> {
        self.note("request");
        Upgrade::accept(())
    }

    fn on_open(&mut self, _: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        self.note("open");
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        self.note("message");
        Reply::None
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), _: &CloseEvent<'_>) {
        self.note("close");
    }
}

#[test]
fn other_threads_find_a_connection_from_its_open_to_its_close_callback() {
    let (lookup, seen) = (Rc::default(), Rc::default());
    let recorder = Recorder { lookup: Rc::clone(&lookup), seen: Rc::clone(&seen) };
    let mut world = World::new(recorder, Config::default());
    let id = world.connect();
    world.run_until_quiet();
    let token = world.token(id);
    assert!(!world.sender.is_open(token), "its request has not arrived");
    *lookup.borrow_mut() = Some(Lookup { sender: Rc::clone(&world.sender), token });
    world.send(id, &[GOOD_REQUEST, &text("hello")].concat());
    world.run_until_quiet();
    assert!(world.sender.is_open(token));
    assert!(world.post(close(token)));
    world.run_until_quiet();
    assert!(world.sender.is_open(token), "the peer has not answered our close frame");
    world.send(id, &peer_close(1000));
    world.run_until_quiet();
    assert!(!world.is_dropped(id), "the peer has not ended its stream");
    assert!(!world.sender.is_open(token));
    let expected = [("request", false), ("open", true), ("message", true), ("close", false)];
    assert_eq!(*seen.borrow(), expected);
}

#[test]
fn other_threads_never_find_a_connection_whose_request_is_refused() {
    let mut world = echo_world();
    let id = world.connect();
    world.send(id, b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world.run_until_quiet();
    assert!(!world.is_dropped(id), "it lingers");
    assert!(!world.sender.is_open(world.token(id)));
}

#[test]
fn a_full_mailbox_refuses_commands_and_delivers_those_it_accepted() {
    let mut world = World::new(Echo, Config { mailbox_bytes_max: 500, ..Config::default() });
    let id = open(&mut world);
    let token = world.token(id);
    let taken = (0..20).filter(|count| world.post(send(token, &count.to_string()))).count();
    assert!((2..20).contains(&taken), "{taken} of 20 fit into 500 bytes");
    world.run_until_quiet();
    let texts: Vec<_> = (0..taken).flat_map(|count| text_reply(&count.to_string())).collect();
    assert_eq!(world.take_received(id), texts);
    assert!(world.post(send(token, "again")));
    world.run_until_quiet();
    assert_eq!(world.take_received(id), text_reply("again"));
}

#[test]
fn an_adopted_socket_is_a_connection_like_any_other() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let (id, stream) = world.accepted_elsewhere();
    // All bytes of the request may arrive before the socket is adopted.
    world.send(id, &[GOOD_REQUEST, &text("early")].concat());
    assert!(world.post(Command::Adopt(stream, address(id).into())));
    world.run_until_quiet();
    assert_eq!(world.take_received(id), [GOOD_RESPONSE, &text_reply("early")].concat());
    assert_echoes(&mut world, id);
    assert_eq!(log.count(&format!("open {}", address(id))), 1);
    assert_eq!(world.stats().accepted, 1);
}

#[test]
fn an_adopted_socket_above_the_limit_is_answered_503() {
    let mut world = World::new(Echo, Config { connections_max: Some(1), ..Config::default() });
    open(&mut world);
    let (id, stream) = world.accepted_elsewhere();
    assert!(world.post(Command::Adopt(stream, address(id).into())));
    world.run_until_quiet();
    assert!(has_status(&world.received(id), 503));
    assert!(world.is_dropped(id));
}

#[test]
fn a_message_waits_for_the_end_of_the_streamed_one() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    let input = binary(20_000);
    for cut in [14, 100, 19_999] {
        world.send(id, &input[..cut]);
        world.run_until_quiet();
        assert!(world.post(send(token, "one")) && world.post(send(token, "two")));
        world.run_until_quiet();
        world.send(id, &input[cut..]);
        world.run_until_quiet();
        let reply = [binary_reply(20_000), text_reply("one"), text_reply("two")].concat();
        assert!(world.take_received(id) == reply, "cut at {cut}");
    }
    assert_echoes(&mut world, id);
}

#[test]
fn a_message_between_streamed_fragments_waits_for_the_last() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    let first = ask(&mut world, id, &client(BINARY, b"one").fin(false).bytes());
    assert_eq!(first, server(BINARY, b"one").fin(false).bytes());
    assert!(world.post(send(token, "later")));
    world.run_until_quiet();
    assert_eq!(world.take_received(id), b"");
    let second = ask(&mut world, id, &client(CONTINUATION, b"two").fin(false).bytes());
    assert_eq!(second, server(CONTINUATION, b"two").fin(false).bytes());
    let last = [client(CONTINUATION, b"three").bytes(), text("own")].concat();
    let reply = [server(CONTINUATION, b"three").bytes(), text_reply("later"), text_reply("own")];
    assert_eq!(ask(&mut world, id, &last), reply.concat());
}

#[test]
fn a_peer_that_does_not_end_its_message_is_dropped_when_too_much_waits_for_it() {
    let (high, max, message_bytes_max) = (1000, 100_000, 50_000);
    let config = Config {
        backlog_bytes_low: high,
        backlog_bytes_high: high,
        backlog_bytes_max: max,
        message_bytes_max,
        ..Config::default()
    };
    let mut world = World::new(Echo, config);
    let (id, other) = (open(&mut world), open(&mut world));
    let token = world.token(id);
    world.send(id, &binary(20_000)[..100]);
    world.run_until_quiet();
    let message = "x".repeat(1000);
    let mut waiting = 0;
    while !world.is_dropped(id) {
        assert!(world.post(send(token, &message)));
        world.run_until_quiet();
        waiting += message.len();
        assert!(waiting <= max + message_bytes_max, "{waiting} bytes wait");
    }
    assert!(waiting > max, "{waiting} bytes may wait");
    assert_eq!(world.stats().backlog_overflows, 1);
    assert_echoes(&mut world, other);
}

#[test]
fn a_close_waits_for_the_end_of_the_streamed_frame() {
    for fin in [true, false] {
        let mut world = echo_world();
        let id = open(&mut world);
        let token = world.token(id);
        let payload = vec![b'x'; 20_000];
        let input = client(BINARY, &payload).fin(fin).bytes();
        world.send(id, &input[..9000]);
        world.run_until_quiet();
        assert!(world.post(close(token)));
        world.run_until_quiet();
        world.send(id, &[&input[9000..], &text("unheard")].concat());
        world.run_until_quiet();
        let reply = [server(BINARY, &payload).fin(fin).bytes(), close_reply(1000, "enough")];
        assert!(world.take_received(id) == reply.concat(), "fin {fin}");
    }
}

/// RFC 6455 5.5.1: no frame of data after a close frame.
#[test]
fn nothing_follows_a_close_frame_that_waited_with_a_message() {
    for fin in [true, false] {
        let mut world = echo_world();
        let id = open(&mut world);
        let token = world.token(id);
        let payload = vec![b'x'; 20_000];
        let input = client(BINARY, &payload).fin(fin).bytes();
        world.send(id, &input[..9000]);
        world.run_until_quiet();
        assert!(world.post(send(token, "before")) && world.post(close(token)));
        world.run_until_quiet();
        world.send(id, &input[9000..]);
        world.run_until_quiet();
        let output = world.take_received(id);
        let streamed = server(BINARY, &payload).fin(fin).bytes();
        let last = close_reply(1000, "enough");
        assert!(output.starts_with(&streamed), "fin {fin}");
        let behind = output[streamed.len()..].escape_ascii().to_string();
        assert!(output.ends_with(&last), "fin {fin}: after the streamed frame came \"{behind}\"");
    }
}

#[test]
fn nothing_is_sent_after_a_close_command() {
    let (probe, log) = Probe::echo();
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    let token = world.token(id);
    for command in [send(token, "before"), close(token), send(token, "after"), close(token)] {
        assert!(world.post(command));
    }
    assert_eq!(
        ask(&mut world, id, &text("unheard")),
        [text_reply("unheard"), text_reply("before"), close_reply(1000, "enough")].concat(),
        "readiness comes before commands"
    );
    assert_eq!(ask(&mut world, id, &text("unheard too")), b"");
    assert_eq!(log.count("text"), 1);
}

#[test]
fn messages_behind_a_backlog_keep_their_order() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 10;
    let mut reply = Vec::new();
    for count in 0..50 {
        world.send(id, &text(&format!("mine {count}")));
        world.run_until_quiet();
        assert!(world.post(send(token, &format!("yours {count}"))));
        world.run_until_quiet();
        reply.extend(text_reply(&format!("mine {count}")));
        reply.extend(text_reply(&format!("yours {count}")));
    }
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert_eq!(world.take_received(id), reply);
}

#[test]
fn messages_of_other_threads_do_not_extend_the_close_timeout() {
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    assert!(world.post(close(token)));
    for _ in 0..51 {
        world.advance(Duration::from_millis(100));
        world.post(send(token, "too late"));
        world.run_until_quiet();
    }
    assert!(world.is_dropped(id));
    assert_eq!(world.stats().close_timeouts, 1);
}

#[test]
fn commands_beyond_their_share_of_a_turn_wait_for_the_next() {
    const SHARE: usize = 1024;
    let mut world = echo_world();
    let id = open(&mut world);
    let token = world.token(id);
    (0..SHARE + 1).for_each(|_| assert!(world.post(send(token, "x"))));
    let before = world.stats().messages_out;
    world.turn();
    assert_eq!(world.stats().messages_out - before, SHARE as u64);
    assert_eq!(world.wait(), Some(Duration::ZERO));
    world.run_until_quiet();
    assert!(world.take_received(id) == text_reply("x").repeat(SHARE + 1));
}

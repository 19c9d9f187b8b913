//! Flow control by the handler: it sends more when a peer has read, and pauses reading from a peer.

use std::cell::RefCell;
use std::rc::Rc;

use ws_reactor::{
    CloseCode, CloseEvent, Config, ConnectionInfo, Context, Handler, Message, Peer, PeerId, Reply,
};

use crate::probe::{close_reply, open, text, text_reply};
use crate::scripted::SocketId;
use crate::world::World;

/// Carries out the commands of a text message, and logs its callbacks.
#[derive(Default)]
struct Flow {
    log: Rc<RefCell<Vec<String>>>,
    /// The peers in the order of their connections.
    peers: Vec<PeerId>,
    /// The command for the next `on_drained`.
    when_drained: String,
}

impl Flow {
    fn carry_out(&mut self, peer: &mut Peer<'_, ()>, commands: &str) {
        for command in commands.split(';') {
            let words: Vec<&str> = command.split(' ').collect();
            match words[..] {
                ["fill", count] => {
                    let chunk = chunk();
                    (0..count.parse().expect("a number"))
                        .for_each(|_| assert!(peer.send(chunk.as_str())));
                }
                ["send", text] => assert!(peer.send(text)),
                ["publish", topic] => assert!(peer.context().publish(topic, topic)),
                ["subscribe", topic] => assert_eq!(peer.subscribe(topic), Ok(true)),
                ["drained", ..] => {
                    self.when_drained = command["drained ".len()..].replace(',', ";")
                }
                ["close"] => peer.close(CloseCode::NORMAL, "done"),
                ["panic"] => panic!("as requested"),
                _ => {}
            }
        }
    }

    fn note(&self, line: String) {
        self.log.borrow_mut().push(line);
    }
}

impl Handler for Flow {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        self.peers.push(peer.id());
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        let commands = message.as_text().expect("these tests send text");
        self.note(commands.to_owned());
        self.carry_out(peer, commands);
        Reply::None
    }

    fn on_drained(&mut self, peer: &mut Peer<'_, ()>) {
        self.note(format!("drained at {}", peer.backlog_bytes()));
        let commands = std::mem::take(&mut self.when_drained);
        self.carry_out(peer, &commands);
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), event: &CloseEvent<'_>) {
        self.note(format!("close {}", event.code));
    }
}

type Log = Rc<RefCell<Vec<String>>>;

/// A text whose frame has 1000 bytes.
fn chunk() -> String {
    "x".repeat(996)
}

fn world() -> (World<Flow>, Log) {
    let log = Log::default();
    (World::new(Flow { log: Rc::clone(&log), ..Flow::default() }, Config::default()), log)
}

/// The lines of the log since the last call.
fn take(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.borrow_mut())
}

/// Sends commands of a client, and lets the worker carry them out.
fn run(world: &mut World<Flow>, id: SocketId, commands: &str) {
    world.send(id, &text(commands));
    world.run_until_quiet();
}

/// A peer for which the kernel takes 10 000 bytes, and which does not read.
fn slow_peer(world: &mut World<Flow>) -> SocketId {
    let id = open(world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 10_000;
    id
}

/// The peer reads `len` bytes, and the worker continues.
fn read(world: &mut World<Flow>, id: SocketId, len: usize) -> Vec<u8> {
    world.socket(id).drain(len);
    world.run_until_quiet();
    world.take_received(id)
}

#[test]
fn a_handler_learns_once_that_a_backlog_has_fallen_below_the_low_mark() {
    let config = Config::default();
    let (mut world, log) = world();
    let id = slow_peer(&mut world);
    run(&mut world, id, "fill 100;drained send more");
    // 90 000 bytes are queued. They must fall below `low` = 16 384.
    assert_eq!(take(&log), ["fill 100;drained send more"]);
    let mut received = Vec::new();
    while 100_000 - received.len() - 10_000 >= config.backlog_bytes_low {
        assert_eq!(take(&log), [""; 0], "{} bytes read", received.len());
        received.extend(read(&mut world, id, 700));
    }
    let [line] = &take(&log)[..] else { panic!("one call") };
    let at: usize = line.strip_prefix("drained at ").expect("a call").parse().expect("a size");
    assert!(at > 0 && at < config.backlog_bytes_low, "{at}");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    received.extend(world.take_received(id));
    assert!(received == [text_reply(&chunk()).repeat(100), text_reply("more")].concat());
    assert_eq!(take(&log), [""; 0]);
    assert_eq!(world.stats().drained, 1);
}

#[test]
fn a_backlog_that_stays_below_the_high_mark_does_not_drain() {
    let (mut world, log) = world();
    let id = slow_peer(&mut world);
    run(&mut world, id, "fill 70");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert_eq!(world.take_received(id).len(), 70_000);
    assert_eq!(take(&log), ["fill 70"]);
    assert_eq!(world.stats().drained, 0);
}

/// A handler that streams a long answer without a limit of its own on memory.
#[test]
fn a_handler_can_send_a_long_answer_in_portions() {
    let (mut world, log) = world();
    let id = slow_peer(&mut world);
    let after = "drained fill 90,send next";
    run(&mut world, id, &format!("fill 100;{after}"));
    take(&log);
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    let portions = [text_reply(&chunk()).repeat(190), text_reply("next")].concat();
    assert!(world.take_received(id) == portions);
    assert!(world.stats().drained >= 1);
}

#[test]
fn messages_received_during_a_backlog_follow_its_end() {
    let (mut world, log) = world();
    let id = slow_peer(&mut world);
    run(&mut world, id, "fill 100");
    run(&mut world, id, "send later");
    assert_eq!(take(&log), ["fill 100"], "reading is paused");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    let lines = take(&log);
    assert!(lines[0].starts_with("drained at "), "{lines:?}");
    assert_eq!(lines[1..], ["send later"]);
}

#[test]
fn requests_and_copies_of_a_callback_after_a_backlog_are_carried_out() {
    let (mut world, _) = world();
    let (id, other) = (slow_peer(&mut world), open(&mut world));
    for peer in [id, other] {
        run(&mut world, peer, "subscribe news");
    }
    run(&mut world, id, "fill 100;drained publish news,send after");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert_eq!(world.take_received(other), text_reply("news"));
    let expected = [text_reply(&chunk()).repeat(100), text_reply("news"), text_reply("after")];
    assert!(world.take_received(id) == expected.concat());
}

#[test]
fn a_panic_after_a_backlog_ends_only_its_connection() {
    let (mut world, log) = world();
    let (id, other) = (slow_peer(&mut world), open(&mut world));
    run(&mut world, id, "fill 100;drained send last,panic");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    let expected = [text_reply(&chunk()).repeat(100), text_reply("last"), close_reply(1011, "")];
    assert!(world.take_received(id) == expected.concat());
    assert_eq!(world.stats().handler_panics, 1);
    take(&log);
    run(&mut world, other, "send fine");
    assert_eq!(world.take_received(other), text_reply("fine"));
}

#[test]
fn a_closing_connection_is_not_reported_as_drained() {
    let (mut world, log) = world();
    let id = slow_peer(&mut world);
    run(&mut world, id, "fill 100;close");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id).ends_with(&close_reply(1000, "done")));
    assert_eq!(take(&log), ["fill 100;close"]);
    assert_eq!(world.stats().drained, 0);
}

//! Flow control by the handler: it sends more when a peer has read, and pauses reading from a peer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ws_reactor::internal::Command;
use ws_reactor::{
    CloseCode, CloseEvent, Config, ConnectionInfo, Context, Handler, Message, Peer, PeerId, Reply,
};

use crate::probe::{
    CHECK_SLACK, close as peer_close, close_reply, open, seconds, text, text_reply,
};
use crate::scripted::{Call, SocketId};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

/// Carries out the commands of a text message, and logs its callbacks.
#[derive(Default)]
pub(crate) struct Flow {
    log: Rc<RefCell<Vec<String>>>,
    /// The peers in the order of their connections.
    peers: Vec<PeerId>,
    /// The command for the next `on_drained`.
    when_drained: String,
    /// The command for each `on_pong`.
    when_pong: String,
    /// `on_open` pauses reading.
    pauses_when_open: bool,
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
                ["for", ms] => {
                    let ms = ms.parse().expect("a number");
                    peer.set_deadline(Some(Duration::from_millis(ms)));
                }
                ["pong", ..] => self.when_pong = command["pong ".len()..].replace(',', ";"),
                ["pause"] => peer.pause_reading(),
                ["resume"] => peer.resume_reading(),
                ["resume", at] => {
                    let id = self.peers[at.parse::<usize>().expect("a number")];
                    assert!(peer.context().resume_reading(id));
                }
                ["close", at] => {
                    let id = self.peers[at.parse::<usize>().expect("a number")];
                    assert!(peer.context().close(id, CloseCode::NORMAL, "done"));
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
        if self.pauses_when_open {
            peer.pause_reading();
        }
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

    fn on_deadline(&mut self, peer: &mut Peer<'_, ()>) {
        peer.resume_reading();
    }

    fn on_pong(&mut self, peer: &mut Peer<'_, ()>, round_trip: Duration) {
        self.note(format!("pong after {} us", round_trip.as_micros()));
        let commands = self.when_pong.clone();
        self.carry_out(peer, &commands);
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), event: &CloseEvent<'_>) {
        self.note(format!("close {}", event.code));
    }
}

pub(crate) type Log = Rc<RefCell<Vec<String>>>;

/// A text whose frame has 1000 bytes.
fn chunk() -> String {
    "x".repeat(996)
}

pub(crate) fn world() -> (World<Flow>, Log) {
    world_with(Config::default(), false)
}

pub(crate) fn world_with(config: Config, pauses_when_open: bool) -> (World<Flow>, Log) {
    let log = Log::default();
    let handler = Flow { log: Rc::clone(&log), pauses_when_open, ..Flow::default() };
    (World::new(handler, config), log)
}

/// The lines of the log since the last call.
pub(crate) fn take(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.borrow_mut())
}

/// Sends commands of a client, and lets the worker carry them out.
pub(crate) fn run(world: &mut World<Flow>, id: SocketId, commands: &str) {
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

#[test]
fn messages_wait_while_the_handler_pauses_reading() {
    let (mut world, log) = world();
    let (id, other) = (open(&mut world), open(&mut world));
    world.send(id, &[text("pause"), text("send a"), text("send b")].concat());
    world.run_until_quiet();
    assert_eq!(take(&log), ["pause"], "messages of the same read wait too");
    let reads = world.socket(id).calls(Call::Read);
    run(&mut world, id, "send c");
    assert_eq!(world.socket(id).calls(Call::Read), reads, "the kernel keeps later messages");
    assert_ne!(world.wait(), Some(Duration::ZERO), "the worker waits");
    run(&mut world, other, "send fine;resume 0;send too");
    assert_eq!(world.take_received(other), [text_reply("fine"), text_reply("too")].concat());
    assert_eq!(take(&log), ["send fine;resume 0;send too", "send a", "send b", "send c"]);
    assert_eq!(world.take_received(id), ["a", "b", "c"].map(text_reply).concat());
    run(&mut world, id, "send d");
    assert_eq!(world.take_received(id), text_reply("d"), "the pause has ended");
}

#[test]
fn a_pause_that_ends_in_the_same_callback_delays_no_message() {
    let (mut world, log) = world();
    let id = open(&mut world);
    world.send(id, &[text("pause;resume"), text("pause;resume 0"), text("send a")].concat());
    world.run_until_quiet();
    assert_eq!(take(&log), ["pause;resume", "pause;resume 0", "send a"]);
}

#[test]
fn a_connection_can_begin_with_a_pause() {
    let (mut world, log) = world_with(Config::default(), true);
    let (id, output) = world.open(&[GOOD_REQUEST, &text("send a")].concat());
    assert_eq!(output, GOOD_RESPONSE);
    assert_eq!(take(&log), [""; 0]);
    world.post(Command::Close(world.token(id), CloseCode::NORMAL, "done".into()));
    world.run_until_quiet();
    assert_eq!(world.take_received(id), close_reply(1000, "done"));
    assert_eq!(take(&log), [""; 0], "no message follows our close frame");
}

#[test]
fn a_callback_after_a_backlog_can_resume_reading() {
    let (mut world, log) = world();
    let id = slow_peer(&mut world);
    world.send(id, &[text("fill 100;pause;drained resume"), text("send a")].concat());
    world.run_until_quiet();
    assert_eq!(take(&log).len(), 1);
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id).ends_with(&text_reply("a")));
}

#[test]
fn a_deadline_can_end_a_pause() {
    let (mut world, log) = world();
    let id = open(&mut world);
    world.send(id, &[text("pause;for 70"), text("send a"), text("send b")].concat());
    world.advance(Duration::from_millis(69));
    assert_eq!(take(&log), ["pause;for 70"]);
    world.advance(Duration::from_millis(1));
    assert_eq!(take(&log), ["send a", "send b"]);
}

#[test]
fn the_end_of_a_backlog_does_not_end_a_pause_of_the_handler() {
    let (mut world, log) = world();
    let id = slow_peer(&mut world);
    world.send(id, &[text("fill 100;pause"), text("send a")].concat());
    world.run_until_quiet();
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    let lines = take(&log);
    assert!(lines.len() == 2 && lines[1].starts_with("drained at "), "{lines:?}");
}

#[test]
fn resuming_does_not_end_the_pause_of_a_backlog() {
    let (mut world, log) = world();
    let id = slow_peer(&mut world);
    world.send(id, &[text("pause;fill 100;resume"), text("send a")].concat());
    world.run_until_quiet();
    assert_eq!(take(&log), ["pause;fill 100;resume"]);
}

#[test]
fn other_threads_see_the_size_of_a_backlog() {
    let (mut world, _) = world();
    let id = slow_peer(&mut world);
    let token = world.token(id);
    let size = |world: &World<Flow>| world.sender.backlog_bytes(token);
    assert_eq!(size(&world), Some(0));
    run(&mut world, id, "fill 10");
    assert_eq!(size(&world), Some(0), "the kernel has taken all");
    run(&mut world, id, "fill 50");
    assert_eq!(size(&world), Some(50_000));
    read(&mut world, id, 7000);
    assert_eq!(size(&world), Some(43_000));
    let message = Message::from(chunk().as_str()).into();
    assert!(world.post(Command::Send(token, message)));
    world.run_until_quiet();
    assert_eq!(size(&world), Some(44_000));
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert_eq!(size(&world), Some(0));
    world.socket(id).client_reads = false;
    run(&mut world, id, "fill 50");
    world.reset(id);
    world.run_until_quiet();
    assert_eq!(size(&world), None, "it has closed");
}

/// The number of pings in `bytes`, which hold nothing else.
pub(crate) fn pings(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [0x89, len, rest @ ..] = bytes {
        bytes = &rest[usize::from(*len)..];
        count += 1;
    }
    assert_eq!(bytes, b"", "only pings");
    count
}

/// Its answers to pings are among the bytes that are not read.
#[test]
fn a_peer_that_the_handler_does_not_read_is_pinged_and_kept() {
    let (mut world, log) = world();
    let (id, other) = (open(&mut world), open(&mut world));
    run(&mut world, id, "pause");
    run(&mut world, id, "send a");
    for _ in 0..120 {
        world.advance(seconds(10));
        run(&mut world, other, "");
    }
    let count = pings(&world.take_received(id));
    assert!((40..=48).contains(&count), "{count} pings in 1200 s, not one each 25 s");
    assert!(!world.is_dropped(id));
    assert_eq!(world.stats().idle_timeouts, 0);
    take(&log);
    run(&mut world, other, "resume 0");
    assert_eq!(take(&log), ["resume 0", "send a"]);
    assert_eq!(world.take_received(id), text_reply("a"));
    world.take_received(other);
    world.advance(seconds(120) + CHECK_SLACK);
    assert_eq!(world.stats().idle_timeouts, 2, "from now on silence counts again");
}

#[test]
fn without_pings_a_peer_that_the_handler_does_not_read_is_kept() {
    let config = Config { ping_interval: Duration::ZERO, ..Config::default() };
    let (mut world, _) = world_with(config, false);
    let id = open(&mut world);
    run(&mut world, id, "pause");
    run(&mut world, id, "send a");
    world.advance(seconds(1200));
    assert_eq!(world.take_received(id), b"");
    assert_eq!(world.stats().idle_timeouts, 0);
}

#[test]
fn without_pings_a_peer_is_kept_while_its_messages_wait_in_memory() {
    let config = Config { ping_interval: Duration::ZERO, ..Config::default() };
    let (mut world, log) = world_with(config, false);
    let (id, other) = (open(&mut world), open(&mut world));
    // One segment: the second message is read together with the first.
    world.send(id, &[text("pause"), text("send a")].concat());
    world.run_until_quiet();
    for _ in 0..20 {
        world.advance(seconds(60));
        run(&mut world, other, "alive");
    }
    run(&mut world, other, "resume 0");
    assert_eq!(world.take_received(id), text_reply("a"));
    assert_eq!(world.stats().idle_timeouts, 0);
    drop(log);
}

#[test]
fn a_peer_whose_tcp_is_silent_is_dropped_during_a_pause() {
    for interval in [0, 25] {
        let config = Config { ping_interval: seconds(interval), ..Config::default() };
        let (mut world, log) = world_with(config, false);
        let id = open(&mut world);
        run(&mut world, id, "pause;send unread");
        world.take_received(id);
        run(&mut world, id, "send a");
        world.advance(seconds(300));
        assert!(!world.is_dropped(id), "it acknowledges");
        world.socket(id).client_reads = false;
        run(&mut world, id, "send b");
        if interval == 0 {
            // Without a ping only unacknowledged bytes show that the peer does not answer.
            let message = Message::from("unread").into();
            assert!(world.post(Command::Send(world.token(id), message)));
        }
        world.advance(seconds(120 + 25) + CHECK_SLACK);
        assert!(world.is_dropped(id), "pings each {interval} s");
        assert!(take(&log).contains(&"close 1006".to_owned()));
        assert_eq!(world.stats().idle_timeouts, 1);
    }
}

#[test]
fn a_silent_peer_is_closed_during_a_pause_if_no_input_waits() {
    let (mut world, _) = world();
    let id = open(&mut world);
    run(&mut world, id, "pause");
    world.advance(seconds(120) + CHECK_SLACK);
    assert!(world.take_received(id).ends_with(&close_reply(1001, "idle timeout")));
    world.finish(id);
    world.run_until_quiet();
    assert!(world.is_dropped(id), "input is discarded up to the end of the stream");
}

#[test]
fn closing_ends_a_pause() {
    for commands in ["pause;close", "close;pause", "pause;panic", "pause"] {
        let (mut world, log) = world();
        let (id, other) = (open(&mut world), open(&mut world));
        world.send(id, &[text(commands), text("send a")].concat());
        world.run_until_quiet();
        if commands == "pause" {
            run(&mut world, other, "close 0");
        }
        let (code, reason) = if commands == "pause;panic" { (1011, "") } else { (1000, "done") };
        assert_eq!(world.take_received(id), close_reply(code, reason), "{commands}");
        world.send(id, &peer_close(code));
        world.finish(id);
        world.run_until_quiet();
        assert!(world.is_dropped(id), "{commands}");
        assert!(!take(&log).contains(&"send a".to_owned()), "{commands}");
        assert_eq!(world.stats().close_timeouts, 0);
    }
}

#[test]
fn a_peer_that_does_not_answer_the_close_frame_is_dropped_despite_a_pause() {
    for drains in [false, true] {
        let (mut world, log) = world();
        let id = open(&mut world);
        run(&mut world, id, "pause");
        if drains {
            world.drain(seconds(60));
        } else {
            world.post(Command::Close(world.token(id), CloseCode::NORMAL, "done".into()));
        }
        world.advance(seconds(5) + CHECK_SLACK);
        assert!(world.is_dropped(id));
        assert_eq!(world.stats().close_timeouts, 1);
        assert_eq!(take(&log), ["pause", "close 1006"]);
    }
}

#[test]
fn a_drain_deadline_ends_a_paused_connection() {
    let (mut world, _) = world();
    let id = open(&mut world);
    run(&mut world, id, "pause");
    world.drain(seconds(1));
    world.advance(seconds(1));
    assert!(world.is_dropped(id) && world.worker.is_done());
}

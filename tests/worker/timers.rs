//! Ticks of a worker, and deadlines that a handler sets for its peers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ws_reactor::internal::{Command, READY_PER_TURN, Readiness, Token};
use ws_reactor::{
    CloseCode, Config, ConnectionInfo, Context, EncodedMessage, Handler, Message, Peer, PeerId,
    Reply, TickEvent,
};

use crate::probe::{MOMENT, close_reply, open, seconds, text, text_reply};
use crate::scripted::SocketId;
use crate::world::World;

/// The ticks of a handler, as pairs of number and missed ticks.
type Ticks = Rc<RefCell<Vec<(u64, u64)>>>;

type OnTick = Box<dyn FnMut(&mut Context<'_>, TickEvent, &[PeerId])>;

/// Records its ticks and then calls a function. Its peers subscribe to the topic `news`, and their
/// messages are published to it.
struct Ticking {
    ticks: Ticks,
    peers: Vec<PeerId>,
    on_tick: OnTick,
}

impl Handler for Ticking {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        self.peers.push(peer.id());
        peer.subscribe("news").expect("one topic");
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        peer.context().publish("news", message);
        Reply::None
    }

    fn on_tick(&mut self, context: &mut Context<'_>, tick: TickEvent) {
        self.ticks.borrow_mut().push((tick.number, tick.missed));
        (self.on_tick)(context, tick, &self.peers);
    }
}

fn ticking(
    interval: Duration,
    on_tick: impl FnMut(&mut Context<'_>, TickEvent, &[PeerId]) + 'static,
) -> (Ticking, Ticks, Config) {
    let ticks = Ticks::default();
    let handler =
        Ticking { ticks: Rc::clone(&ticks), peers: Vec::new(), on_tick: Box::new(on_tick) };
    (handler, ticks, Config { tick_interval: interval, ..Config::default() })
}

const TICK: Duration = Duration::from_millis(20);

#[test]
fn ticks_are_due_at_multiples_of_the_interval_after_the_start() {
    // 60 Hz: neither whole milliseconds nor a multiple of the 50 ms of other deadlines.
    let interval = Duration::from_nanos(16_666_667);
    let (handler, ticks, config) = ticking(interval, |_, _, _| {});
    let mut world = World::new(handler, config);
    let start = world.now();
    for number in 1..=200 {
        let wait = world.wait().expect("a tick is due");
        assert_eq!(world.now() + wait, start + interval * number);
        world.skip(wait - Duration::from_nanos(1));
        world.turn();
        assert_eq!(ticks.borrow().len() as u32, number - 1, "not early");
        // Late, as after a wait for epoll.
        world.skip(MOMENT);
        world.turn();
        assert_eq!(ticks.borrow().last(), Some(&(number.into(), 0)));
    }
}

#[test]
fn missed_ticks_are_skipped_and_reported() {
    let (handler, ticks, config) = ticking(TICK, |_, _, _| {});
    let mut world = World::new(handler, config);
    world.skip(TICK * 7 + TICK / 2);
    world.run_until_quiet();
    assert_eq!(world.wait(), Some(TICK / 2), "the next tick is at its usual time");
    world.advance(TICK);
    assert_eq!(*ticks.borrow(), [(7, 6), (8, 0)]);
}

#[test]
fn requests_of_a_tick_are_carried_out_in_its_turn() {
    let (handler, _, config) = ticking(TICK, |context, tick, peers| {
        if tick.number == 1 {
            assert!(context.publish("news", "published"));
            assert!(context.send(peers[0], &EncodedMessage::new("sent")));
            assert!(context.close(peers[1], CloseCode::NORMAL, "over"));
        }
    });
    let mut world = World::new(handler, config);
    let ids = [open(&mut world), open(&mut world)];
    world.skip(TICK);
    world.turn();
    world.poll();
    let published = text_reply("published");
    assert_eq!(world.take_received(ids[0]), [published.clone(), text_reply("sent")].concat());
    assert_eq!(world.take_received(ids[1]), [published, close_reply(1000, "over")].concat());
}

#[test]
fn ticks_continue_after_a_panic_and_its_requests_are_carried_out() {
    let (handler, ticks, config) = ticking(TICK, |context, tick, _| {
        context.publish("news", &tick.number.to_string()[..]);
        assert_ne!(tick.number, 2, "as requested");
    });
    let mut world = World::new(handler, config);
    let id = open(&mut world);
    world.advance(TICK * 3);
    assert_eq!(*ticks.borrow(), [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(world.take_received(id), ["1", "2", "3"].map(text_reply).concat());
    assert_eq!(world.stats().handler_panics, 1);
}

#[test]
fn no_tick_comes_once_a_drain_has_begun() {
    let (handler, ticks, config) = ticking(TICK, |_, _, _| {});
    let mut world = World::new(handler, config);
    open(&mut world);
    world.advance(TICK);
    world.drain(seconds(1));
    world.advance(TICK * 10);
    assert!(!world.worker.is_done(), "the peer has not answered the close frame");
    assert_eq!(*ticks.borrow(), [(1, 0)]);
}

#[test]
fn ticks_are_skipped_while_too_much_waits_for_another_worker() {
    const LEN: usize = 1000;
    let (handler, ticks, config) = ticking(TICK, |context, _, _| {
        assert!(context.publish("other", &[7; LEN][..]));
    });
    let config = Config { mailbox_bytes_max: 3 * LEN, ..config };
    let (mut world, mut second) = World::with_second_worker(handler, config);
    for _ in 0..50 {
        world.skip(TICK);
        world.turn();
    }
    let taken = ticks.borrow().len();
    // The mailbox and the queue hold up to three messages each, and the last one exceeds that.
    assert!((4..=7).contains(&taken), "{taken} ticks");
    assert_eq!(world.wait(), None, "a wake-up ends the pause");
    while taken == ticks.borrow().len() {
        second.turn([(Token::WAKER, Readiness::default())].into_iter(), world.now());
        world.run_until_quiet();
    }
    assert_eq!(ticks.borrow()[taken], (50, 49 - taken as u64));
    assert_eq!(world.stats().refused_publications, 0);
}

#[test]
fn a_tick_publishes_everything_after_a_turn_with_many_publications() {
    const LEN: usize = 1000;
    let (handler, ticks, config) = ticking(TICK, |context, _, _| {
        (0..3).for_each(|_| assert!(context.publish("other", &[7; LEN][..])));
    });
    let config = Config { mailbox_bytes_max: 4 * LEN, ..config };
    let (mut world, mut second) = World::with_second_worker(handler, config);
    let id = open(&mut world);
    // A peer publishes in the same turn. Its messages and those of the tick together would be refused.
    world.send(id, &[3000, 3900].map(|len| text(&"x".repeat(len))).concat());
    world.skip(TICK);
    while ticks.borrow().is_empty() {
        world.turn();
        second.turn([(Token::WAKER, Readiness::default())].into_iter(), world.now());
    }
    assert_eq!(world.stats().refused_publications, 0);
}

type OnDeadline = Box<dyn FnMut(&mut Peer<'_, ()>)>;

/// Carries out the messages of its peers: `off` removes the deadline, and a number sets it to that
/// many milliseconds; others are echoed. At a deadline it calls a function.
struct Deadlines {
    calls: Rc<RefCell<Vec<PeerId>>>,
    on_deadline: OnDeadline,
}

impl Handler for Deadlines {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        peer.subscribe("news").expect("one topic");
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Reply {
        let text = message.as_text().expect("a text");
        let after = text.parse().map(Duration::from_millis);
        match after {
            Ok(after) => peer.set_deadline(Some(after)),
            Err(_) if text == "off" => peer.set_deadline(None),
            Err(_) => return Reply::Echo,
        }
        Reply::None
    }

    fn on_deadline(&mut self, peer: &mut Peer<'_, ()>) {
        self.calls.borrow_mut().push(peer.id());
        (self.on_deadline)(peer);
    }
}

/// A world whose handler calls `on_deadline`, and the record of its calls.
fn deadline_world(
    on_deadline: impl FnMut(&mut Peer<'_, ()>) + 'static,
) -> (World<Deadlines>, Rc<RefCell<Vec<PeerId>>>) {
    let calls = Rc::default();
    let handler = Deadlines { calls: Rc::clone(&calls), on_deadline: Box::new(on_deadline) };
    (World::new(handler, Config::default()), calls)
}

fn say(world: &mut World<Deadlines>, id: SocketId, message: &str) {
    world.send(id, &text(message));
    world.run_until_quiet();
}

#[test]
fn a_deadline_comes_once_and_at_its_time() {
    let (mut world, calls) = deadline_world(|_| {});
    let id = open(&mut world);
    world.skip(Duration::from_millis(7));
    say(&mut world, id, "133");
    // It counts from the turn, and not in the 50 ms of other deadlines.
    assert_eq!(world.wait(), Some(Duration::from_millis(133)));
    world.advance(Duration::from_millis(133) - Duration::from_nanos(1));
    assert_eq!(calls.borrow().len(), 0, "not early");
    world.advance(Duration::from_nanos(1));
    assert_eq!(calls.borrow().len(), 1);
    world.advance(seconds(10));
    assert_eq!(calls.borrow().len(), 1);
}

#[test]
fn a_later_deadline_replaces_the_earlier_one_and_none_removes_it() {
    let (mut world, calls) = deadline_world(|_| {});
    let ids = [open(&mut world), open(&mut world), open(&mut world)];
    for (id, messages) in ids.into_iter().zip([["10", "30"], ["30", "10"], ["10", "off"]]) {
        messages.iter().for_each(|message| say(&mut world, id, message));
    }
    let slots = || calls.borrow().iter().map(PeerId::to_string).collect::<Vec<_>>();
    world.advance(Duration::from_millis(29));
    let at_10 = slots();
    world.advance(seconds(1));
    assert_eq!((at_10.len(), slots().len()), (1, 2));
    assert_ne!(slots()[0], slots()[1], "of different peers");
}

#[test]
fn a_deadline_may_be_set_again_in_its_callback() {
    let (mut world, calls) =
        deadline_world(|peer| peer.set_deadline(Some(Duration::from_millis(10))));
    let id = open(&mut world);
    say(&mut world, id, "10");
    world.advance(Duration::from_millis(1000));
    assert_eq!(calls.borrow().len(), 100);
}

#[test]
fn messages_of_a_deadline_are_sent_in_the_order_of_the_calls() {
    let (mut world, _) = deadline_world(|peer| {
        peer.send("a");
        assert!(peer.context().publish("news", "b"));
        peer.send("c");
        assert!(peer.context().publish("news", "d"));
    });
    let ids = [open(&mut world), open(&mut world)];
    say(&mut world, ids[0], "10");
    world.advance(Duration::from_millis(10));
    assert_eq!(world.take_received(ids[0]), ["a", "b", "c", "d"].map(text_reply).concat());
    assert_eq!(world.take_received(ids[1]), ["b", "d"].map(text_reply).concat());
    assert_eq!(world.stats().messages_out, 6);
}

#[test]
fn a_deadline_can_close_the_connection() {
    let (mut world, calls) =
        deadline_world(|peer| peer.close(CloseCode::POLICY_VIOLATION, "too late"));
    let id = open(&mut world);
    say(&mut world, id, "10");
    world.advance(Duration::from_millis(10));
    assert_eq!(world.take_received(id), close_reply(1008, "too late"));
    world.advance(seconds(6));
    assert!(world.is_dropped(id), "the peer does not answer for 5 s");
    assert_eq!(calls.borrow().len(), 1);
}

#[test]
fn a_panic_in_a_deadline_closes_its_connection_behind_its_messages() {
    let (mut world, _) = deadline_world(|peer| {
        peer.send("a");
        peer.context().publish("news", "b");
        panic!("as requested");
    });
    let ids = [open(&mut world), open(&mut world)];
    say(&mut world, ids[0], "10");
    world.advance(Duration::from_millis(10));
    let expected = [text_reply("a"), text_reply("b"), close_reply(1011, "")].concat();
    assert_eq!(world.take_received(ids[0]), expected);
    assert_eq!(world.take_received(ids[1]), text_reply("b"));
    assert_eq!(world.stats().handler_panics, 1);
}

#[test]
fn a_deadline_comes_while_reading_is_paused() {
    let (mut world, calls) = deadline_world(|peer| assert!(peer.send("late")));
    let id = open(&mut world);
    say(&mut world, id, "100");
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1000;
    let long = "a".repeat(100_000);
    say(&mut world, id, &long);
    say(&mut world, id, "off");
    world.advance(Duration::from_millis(100));
    assert_eq!(calls.borrow().len(), 1, "the last message is not read yet");
    world.socket(id).client_reads = true;
    world.run_until_quiet();
    assert!(world.take_received(id) == [text_reply(&long), text_reply("late")].concat());
}

#[test]
fn a_deadline_that_sends_too_much_ends_its_connection() {
    let (mut world, calls) = deadline_world(|peer| {
        peer.set_deadline(Some(Duration::from_millis(10)));
        peer.send(&[7; 100_000][..]);
    });
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1000;
    say(&mut world, id, "10");
    world.advance(seconds(1));
    assert!(world.is_dropped(id));
    assert_eq!(world.stats().backlog_overflows, 1);
    // 1 MiB may be queued, and the message that finds more is the last.
    assert_eq!(calls.borrow().len(), 12);
}

#[test]
fn no_deadline_comes_after_our_close_frame_or_the_end() {
    let (mut world, calls) = deadline_world(|_| {});
    let ids = [open(&mut world), open(&mut world)];
    ids.iter().for_each(|id| say(&mut world, *id, "10"));
    let token = world.token(ids[0]);
    assert!(world.post(Command::Close(token, CloseCode::NORMAL, "".into())));
    world.reset(ids[1]);
    world.run_until_quiet();
    assert!(world.is_dropped(ids[1]));
    // It has the slot of the connection that ended.
    let next = open(&mut world);
    world.advance(seconds(1));
    assert_eq!(calls.borrow().len(), 0);
    say(&mut world, next, "10");
    world.advance(seconds(1));
    assert_eq!(calls.borrow().len(), 1);
}

#[test]
fn no_deadline_comes_once_a_drain_has_begun() {
    let (mut world, calls) = deadline_world(|_| {});
    let id = open(&mut world);
    say(&mut world, id, "10");
    world.drain(seconds(1));
    world.advance(seconds(2));
    assert_eq!(calls.borrow().len(), 0);
}

#[test]
fn deadlines_that_pass_together_are_called_in_portions() {
    const PORTION: usize = 128;
    let (mut world, calls) = deadline_world(|_| {});
    let ids: Vec<_> = (0..2 * PORTION + 1).map(|_| open(&mut world)).collect();
    ids.iter().for_each(|id| world.send(*id, &text("1000")));
    world.run_until_quiet();
    world.skip(seconds(1));
    let mut counts = Vec::new();
    while world.wait() == Some(Duration::ZERO) {
        world.turn();
        counts.push(calls.borrow().len());
    }
    assert_eq!(counts, [PORTION, 2 * PORTION, 2 * PORTION + 1]);
}

/// The worker has no turn for a while, and the edges of its peers then fill several batches.
#[test]
fn input_in_the_kernel_counts_before_a_deadline_after_a_delay_of_the_worker() {
    let (mut world, calls) = deadline_world(|_| {});
    let ids: Vec<_> = (0..3 * READY_PER_TURN).map(|_| open(&mut world)).collect();
    ids.iter().for_each(|id| world.send(*id, &text("1000")));
    world.run_until_quiet();
    world.skip(seconds(2));
    ids.iter().for_each(|id| world.send(*id, &text("off")));
    world.run_until_quiet();
    assert_eq!(calls.borrow().len(), 0);
}

#[test]
fn deadlines_wait_while_too_much_waits_for_another_worker() {
    const LEN: usize = 1000;
    let calls = Rc::default();
    let on_deadline = |peer: &mut Peer<'_, ()>| {
        assert!(peer.context().publish("other", &[7; LEN][..]));
        peer.set_deadline(Some(TICK));
    };
    let handler = Deadlines { calls: Rc::clone(&calls), on_deadline: Box::new(on_deadline) };
    let config = Config { mailbox_bytes_max: 3 * LEN, ..Config::default() };
    let (mut world, mut second) = World::with_second_worker(handler, config);
    // In one turn, more messages than a callback alone may publish.
    for _ in 0..20 {
        let id = open(&mut world);
        world.send(id, &text("20"));
    }
    world.run_until_quiet();
    for _ in 0..50 {
        world.skip(TICK);
        world.turn();
    }
    let taken = calls.borrow().len();
    // As many messages as the mailbox and the queue hold, and those of one turn.
    assert!((4..=10).contains(&taken), "{taken} deadlines");
    while calls.borrow().len() < 100 {
        second.turn([(Token::WAKER, Readiness::default())].into_iter(), world.now());
        world.advance(TICK);
    }
    assert_eq!(world.stats().refused_publications, 0);
}

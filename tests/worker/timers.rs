//! Ticks of a worker, and deadlines that a handler sets for its peers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ws_reactor::internal::{Readiness, Token};
use ws_reactor::{
    CloseCode, Config, ConnectionInfo, Context, EncodedMessage, Handler, Message, Peer, PeerId,
    Reply, TickEvent,
};

use crate::probe::{MOMENT, close_reply, open, seconds, text, text_reply};
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

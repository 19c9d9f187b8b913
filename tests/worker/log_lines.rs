//! Log lines that a peer can provoke: one of each kind per ten seconds, with a count of the
//! suppressed ones.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use ws_reactor::internal::Command;
use ws_reactor::{
    Accept, Config, ConnectionInfo, Context, Echo, Handler, Message, Peer, Reply, Request,
    TickEvent, Upgrade,
};

use crate::probe::{Probe, binary, echo_world, open, text};
use crate::scripted::Call;
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::world::World;

/// The time for which further lines of a kind are suppressed, and two ticks.
const PAUSE: Duration = Duration::from_millis(10_100);

/// How often a peer provokes a line while it is suppressed.
const TIMES: usize = 40;

thread_local! {
    /// A worker runs on the thread of its test, so each test sees only its own lines.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps warnings, errors, and the messages that a problem is over.
struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

/// Starts capturing the lines of this thread.
fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Lines).expect("no other test has set one");
        log::set_max_level(LevelFilter::Info);
    });
    take_lines();
}

fn take_lines() -> Vec<String> {
    LINES.take()
}

/// Provokes a line many times, and once more after the pause. The log must contain the first line,
/// and after the pause one that reports the number of suppressed lines.
#[track_caller]
fn assert_throttled<H: Handler>(
    world: &mut World<H>,
    expected: &str,
    mut provoke: impl FnMut(&mut World<H>),
) {
    capture();
    (0..TIMES).for_each(|_| provoke(world));
    let lines = take_lines();
    let is_it = |line: &String| line.starts_with(expected);
    assert_eq!(lines.iter().filter(|line| is_it(line)).count(), 1, "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("more like this")), "{lines:#?}");
    world.advance(PAUSE);
    provoke(world);
    let lines = take_lines();
    let logged: Vec<_> = lines.iter().filter(|line| is_it(line)).collect();
    let suppressed = format!(" ({} more like this since the last such line)", TIMES - 1);
    assert!(matches!(logged[..], [line] if line.ends_with(&suppressed)), "{lines:#?}");
}

#[test]
fn panics_of_the_handler_are_logged_at_a_limited_rate() {
    let mut world = World::new(Probe::echo().0.panics_in("text panic"), Config::default());
    assert_throttled(&mut world, "ERROR the handler panicked over peer 0/", |world| {
        let id = open(world);
        world.send(id, &text("panic"));
        world.finish(id);
        world.run_until_quiet();
        assert!(world.is_dropped(id));
    });
    assert_eq!(world.stats().handler_panics, TIMES as u64 + 1, "all of them are counted");
}

#[test]
fn backlog_overflows_are_logged_at_a_limited_rate() {
    let config = Config { backlog_bytes_max: 70_000, message_bytes_max: 1, ..Config::default() };
    let mut world = World::new(Echo, config);
    assert_throttled(&mut world, "WARN peer 0/", |world| {
        let id = open(world);
        world.socket(id).client_reads = false;
        world.socket(id).capacity = 1;
        let token = world.token(id);
        let message = Message::Binary(&[0; 71_000]).into();
        assert!(world.post(Command::Send(token, message)));
        world.run_until_quiet();
        assert!(world.is_dropped(id));
    });
    assert_eq!(world.stats().backlog_overflows, TIMES as u64 + 1);
}

/// Always chooses a subprotocol, whether offered or not.
struct Chooser;

impl Handler for Chooser {
    type State = ();

    fn on_request(&mut self, _: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<()> {
        Upgrade::Accept(Accept::default().protocol("chat"), ())
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::None
    }
}

#[test]
fn subprotocols_that_were_not_offered_are_logged_at_a_limited_rate() {
    let mut world = World::new(Chooser, Config::default());
    assert_throttled(&mut world, "ERROR the handler chose Some(\"chat\")", |world| {
        let id = world.connect();
        world.send(id, GOOD_REQUEST);
        world.finish(id);
        world.run_until_quiet();
        assert!(world.is_dropped(id));
    });
    assert_eq!(world.stats().refused, TIMES as u64 + 1);
}

#[test]
fn connections_without_a_proxy_header_are_logged_at_a_limited_rate() {
    let mut world = World::new(Echo, Config { proxy_protocol: true, ..Config::default() });
    assert_throttled(&mut world, "WARN the connection of 192.0.2.1:", |world| {
        let id = world.connect();
        world.send(id, GOOD_REQUEST);
        world.run_until_quiet();
        assert!(world.is_dropped(id));
    });
}

#[test]
fn addresses_above_their_limit_are_logged_at_a_limited_rate() {
    let config = Config { connections_per_ip_max: Some(1), ..Config::default() };
    let mut world = World::new(Echo, config);
    open(&mut world);
    assert_throttled(&mut world, "WARN 192.0.2.1:", |world| {
        let id = world.connect();
        world.run_until_quiet();
        assert!(world.is_dropped(id));
    });
}

#[test]
fn connections_above_the_limit_are_logged_at_a_limited_rate() {
    let mut world = World::new(Echo, Config { connections_max: Some(1), ..Config::default() });
    open(&mut world);
    let expected = "WARN worker 0: connections_max is reached: connections are answered 503";
    assert_throttled(&mut world, expected, |world| {
        let id = world.connect();
        world.run_until_quiet();
        assert!(world.is_dropped(id));
    });
}

#[test]
fn connections_that_cannot_be_registered_are_logged_at_a_limited_rate() {
    let mut world = echo_world();
    assert_throttled(&mut world, "WARN worker 0: the connection of ", |world| {
        let id = world.connect();
        world.socket(id).fault(Call::Register, 1, ErrorKind::OutOfMemory);
        world.run_until_quiet();
        assert!(world.is_dropped(id));
    });
}

#[test]
fn a_lasting_lack_of_descriptors_is_logged_at_a_limited_rate() {
    let mut world = echo_world();
    let expected = "WARN worker 0: no connection can be accepted: ";
    assert_throttled(&mut world, expected, |world| {
        world.fail_accept(io::Error::from_raw_os_error(24));
        world.run_until_quiet();
        // Wait until accepting resumes.
        world.advance(Duration::from_millis(200));
    });
    let id = world.connect();
    world.send(id, GOOD_REQUEST);
    world.run_until_quiet();
    assert_eq!(world.received(id), GOOD_RESPONSE);
    assert_eq!(take_lines(), ["INFO worker 0 accepts connections again"]);
}

/// At the limit each connection that ends lets accepting resume for a moment.
#[test]
fn a_resumed_accept_is_logged_once_for_each_warning() {
    let mut world = World::new(Echo, Config { connections_max: Some(1), ..Config::default() });
    capture();
    for _ in 0..TIMES {
        let first = open(&mut world);
        let second = world.connect();
        world.run_until_quiet();
        assert!(world.is_dropped(second));
        world.reset(first);
        world.run_until_quiet();
    }
    let expected = [
        "WARN worker 0: connections_max is reached: connections are answered 503",
        "INFO worker 0 accepts connections again",
    ];
    assert_eq!(take_lines(), expected);
}

#[test]
fn a_line_of_one_kind_does_not_suppress_one_of_another() {
    let (probe, _) = Probe::new(|peer, _| {
        peer.send(&[0; 3 << 20][..]);
        panic!("as requested");
    });
    let mut world = World::new(probe, Config::default());
    let id = open(&mut world);
    world.socket(id).client_reads = false;
    world.socket(id).capacity = 1;
    capture();
    world.send(id, &binary(1));
    world.run_until_quiet();
    let starts = ["ERROR the handler panicked over peer 0/", "WARN peer 0/"];
    let lines = take_lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{lines:#?}");
}

/// Panics in the next tick.
struct PanicsInTick(Rc<Cell<bool>>);

impl Handler for PanicsInTick {
    type State = ();

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
        Reply::Echo
    }

    fn on_tick(&mut self, _: &mut Context<'_>, _: TickEvent) {
        assert!(!self.0.take(), "as requested");
    }
}

#[test]
fn panics_in_ticks_are_logged_at_a_limited_rate() {
    let panics = Rc::new(Cell::new(false));
    let config = Config { tick_interval: Duration::from_millis(5), ..Config::default() };
    let mut world = World::new(PanicsInTick(Rc::clone(&panics)), config.clone());
    assert_throttled(&mut world, "ERROR the handler panicked in a tick of worker 0", |world| {
        panics.set(true);
        world.advance(config.tick_interval);
    });
}

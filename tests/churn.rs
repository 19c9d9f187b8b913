//! Subscriptions that come and go for any length of time: every subscriber gets the messages of its
//! topics in order, and no memory is lost.
//!
//! `cargo test` runs it for four seconds; `SOAK_SECONDS` and `SEED` as for `tests/soak.rs`. After
//! each round all clients have disconnected, and the memory of the whole process is compared with
//! the warm-up's.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::client::{Client, connect, dial_narrow, request, reset, upgrade, wait_until};
use support::rng::{Rng, seed};
use support::servers::{address, serve_with, stop};
use tungstenite::Message;
use ws_reactor::{Config, Handler, Peer, Reply, ServerHandle, SlowConsumer};

/// The default of `SOAK_SECONDS`.
const SECONDS: u64 = 4;

/// Rounds in the warm-up, until memory has reached its level, and at least in the test after it.
const WARM_UP_ROUNDS: u32 = 4;

const ROUND: Duration = Duration::from_millis(400);

const THREADS: u64 = 4;

/// Three workers on two cores, so that one often waits for another.
const WORKERS: usize = 3;

/// Few, so that their subscribers change while others publish to them.
const TOPICS: usize = 12;

/// Limit by which the memory at rest may exceed its highest level during the warm-up. A minute has
/// about a hundred thousand subscriptions, so a leak of 10 bytes per subscription exceeds it.
const GROWTH_BYTES_MAX: usize = 1024 * 1024;

/// The system allocator, with a count of the bytes in use.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Carries out the commands of its peers, and echoes them: `+TOPIC POLICY` subscribes, `-TOPIC`
/// unsubscribes, `!TOPIC TEXT` publishes to all subscribers, and `?` does nothing.
struct Commands;

impl Handler for Commands {
    type State = ();

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: ws_reactor::Message<'_>) -> Reply {
        let (command, rest) = message.as_text().expect("a text").split_at(1);
        let (topic, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match command {
            "+" => {
                let policy = match rest {
                    "close" => SlowConsumer::Close,
                    "skip" => SlowConsumer::Skip,
                    _ => SlowConsumer::Latest,
                };
                peer.subscribe_with(topic, policy).expect("few topics");
            }
            "-" => assert!(peer.unsubscribe(topic), "it had subscribed"),
            "!" => {
                assert!(peer.context().publish(topic, &format!("{topic} {rest}")[..]));
                return Reply::None;
            }
            _ => {}
        }
        Reply::Echo
    }
}

#[test]
fn subscriptions_that_come_and_go_lose_no_message_and_no_memory() {
    let seconds = std::env::var("SOAK_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |seconds| seconds.parse().expect("a number of seconds"));
    let mut seeds = Rng::new(seed());
    // Small, so that workers often wait for space in the mailbox of another.
    let config = Config { mailbox_bytes_max: 4000, ..Config::default() };
    let server = serve_with(config, WORKERS, || Commands);
    let start = Instant::now();
    let (mut round, mut highest, mut last) = (0, 0, 0);
    while round < 2 * WARM_UP_ROUNDS || start.elapsed() < Duration::from_secs(seconds) {
        traffic(&server, &mut seeds);
        round += 1;
        last = LIVE_BYTES.load(Ordering::Relaxed);
        if round <= WARM_UP_ROUNDS {
            highest = highest.max(last);
        } else {
            let growth = last.saturating_sub(highest);
            assert!(growth <= GROWTH_BYTES_MAX, "{last} bytes after {highest} in the warm-up");
        }
    }
    let stats = stop(&server);
    println!("{} messages, {last} bytes at rest after {highest}", stats.messages_out);
    assert_eq!((stats.handler_panics, stats.backlog_overflows), (0, 0), "{stats:?}");
}

/// A round: clients on several threads, all of which disconnect.
fn traffic(server: &ServerHandle, seeds: &mut Rng) {
    let end = Instant::now() + ROUND;
    let clients = (0..THREADS).map(|_| {
        let (address, mut rng) = (address(server), Rng::new(seeds.next()));
        thread::spawn(move || {
            while Instant::now() < end {
                match rng.below(4) {
                    0 => leave_without_reading(address, &mut rng),
                    _ => Subscriber::connect(address).converse(&mut rng),
                }
            }
        })
    });
    // Started before the first is awaited.
    for client in clients.collect::<Vec<_>>() {
        client.join().expect("every message is correct");
    }
    wait_until("all connections have ended", || {
        let stats = server.stats();
        stats.accepted == stats.ended
    });
}

/// Subscribes to everything, and disconnects without a close frame, perhaps with messages unread.
fn leave_without_reading(address: SocketAddr, rng: &mut Rng) {
    let (mut client, _) = upgrade(dial_narrow(address, 4096), request(address, "/", &[]));
    for topic in 0..TOPICS {
        let policy = rng.pick(&["skip", "latest"]);
        client.write(Message::text(format!("+{topic} {policy}"))).expect("the server reads");
    }
    for _ in 0..rng.below(200) {
        let text = format!("!{} stranger {}", rng.below(TOPICS), "x".repeat(rng.below(300)));
        client.write(Message::text(text)).expect("the server reads");
    }
    client.flush().expect("the server reads");
    let stream = client.into_inner();
    if rng.below(2) == 0 { reset(stream) } else { drop(stream) }
}

/// A client that reads all of its messages, and publishes numbered ones.
struct Subscriber {
    client: Client,
    name: String,
    /// Policies by topic.
    subscriptions: HashMap<usize, &'static str>,
    /// The next number of its own messages, by topic.
    next: [usize; TOPICS],
    /// The numbers of the last messages, by topic and publisher, since the subscription.
    last: HashMap<(usize, String), usize>,
}

impl Subscriber {
    fn connect(address: SocketAddr) -> Self {
        static NEXT_NAME: AtomicU64 = AtomicU64::new(0);
        let name = NEXT_NAME.fetch_add(1, Ordering::Relaxed).to_string();
        let (client, subscriptions, last) = (connect(address), HashMap::new(), HashMap::new());
        Self { client, name, subscriptions, next: [0; TOPICS], last }
    }

    fn converse(mut self, rng: &mut Rng) {
        for _ in 0..rng.below(30) {
            let topic = rng.below(TOPICS);
            match rng.below(3) {
                0 => self.toggle(topic, rng.pick(&["close", "skip", "latest"])),
                _ => self.publish(topic, 1 + rng.below(20)),
            }
        }
        // The rest of its subscriptions end with the connection.
        self.command("?".into());
        close_after_messages(self.client);
    }

    fn toggle(&mut self, topic: usize, policy: &'static str) {
        if self.subscriptions.remove(&topic).is_some() {
            self.command(format!("-{topic}"));
            self.last.retain(|(other, _), _| *other != topic);
        } else {
            self.subscriptions.insert(topic, policy);
            self.command(format!("+{topic} {policy}"));
        }
    }

    fn publish(&mut self, topic: usize, count: usize) {
        for _ in 0..count {
            let text = format!("!{topic} {} {}", self.name, self.next[topic]);
            self.next[topic] += 1;
            self.client.write(Message::text(text)).expect("the server reads");
        }
        self.command("?".into());
        if self.subscriptions.contains_key(&topic) {
            let own = self.last.get(&(topic, self.name.clone()));
            assert_eq!(own, Some(&(self.next[topic] - 1)), "its own messages precede the echo");
        }
    }

    /// Sends a command, and reads everything up to its echo.
    fn command(&mut self, command: String) {
        self.client.send(Message::text(command.as_str())).expect("the server reads");
        loop {
            let message = self.client.read().expect("the server answers");
            let text = message.to_text().expect("a text");
            if text == command {
                return;
            }
            self.check(text);
        }
    }

    /// Checks a message to a topic: `TOPIC PUBLISHER NUMBER`.
    fn check(&mut self, text: &str) {
        let mut words = text.split(' ');
        let topic: usize = words.next().and_then(|word| word.parse().ok()).expect("a topic");
        let publisher = words.next().expect("a publisher");
        if publisher == "stranger" {
            return;
        }
        let number: usize = words.next().and_then(|word| word.parse().ok()).expect("a number");
        // It may have been sent just before the subscription ended.
        let last = self.last.insert((topic, publisher.into()), number);
        match (self.subscriptions.get(&topic), last) {
            (Some(&"close"), Some(last)) => assert_eq!(number, last + 1, "{text}"),
            (_, Some(last)) => assert!(number > last, "{text} after {last}"),
            (_, None) => {}
        }
    }
}

/// Closes a connection that may still get messages.
fn close_after_messages(mut client: Client) {
    client.close(None).expect("the server reads");
    while let Ok(message) = client.read() {
        assert!(message.is_text() || message.is_close(), "{message:?}");
    }
    drop(client);
}

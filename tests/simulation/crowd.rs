//! Workers whose peers publish to topics, over the simulated network: callbacks, ticks and other
//! threads publish, subscribers come, go and read slowly. `fanout.rs` decides what each must get.
//!
//! `CROWD_SEED=1234 cargo test --test simulation -- --nocapture topics` repeats one seed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ws_reactor::internal::{
    Command, Counters, Links, Publication, Sender, Worker, WorkerContext, mailbox,
};
use ws_reactor::{
    CloseCause, CloseCode, CloseEvent, Config, ConnectionInfo, Context, EncodedMessage, Handler,
    Message, Peer, PeerId, Reply, SlowConsumer, Stats, TickEvent,
};

use crate::Quiet;
use crate::fanout::{End, Limits, Model, Publisher, TOPICS, Target};
use crate::faults::{Fault, FaultSet};
use crate::kernel::SocketId;
use crate::net::{Net, NetworkFaults, Stream};
use crate::support::frames::{CLOSE, TEXT, client, close_payload};
use crate::support::requests::GOOD_REQUEST;
use crate::support::rng::Rng;

/// The number of new seeds in each run of the tests.
const SEEDS_PER_RUN: u64 = 60;

/// Clients that are connected at the same time.
const CLIENTS_MAX: usize = 8;

/// Turns of all workers in which they must come to rest.
const PASSES_MAX: usize = 50_000;

/// A size of buffers that never fill.
const WIDE: usize = 1 << 30;

const TOPIC_NAMES: [&str; TOPICS] = ["red", "green", "blue"];

const POLICIES: [SlowConsumer; 3] = [SlowConsumer::Close, SlowConsumer::Skip, SlowConsumer::Latest];

#[test]
fn topics_reach_their_subscribers_in_order_and_lose_only_what_policies_allow() {
    let _quiet = Quiet::new();
    if let Ok(seed) = std::env::var("CROWD_SEED") {
        let seed = seed.parse().expect("CROWD_SEED is a number");
        println!("{:?}", Crowd::new(seed).run().expect("the messages that the model expects"));
        return;
    }
    let seconds = std::env::var("SIMULATION_SECONDS").ok();
    let seconds: Option<u64> =
        seconds.map(|it| it.parse().expect("SIMULATION_SECONDS is a number"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first = now.as_millis() as u64 % 1_000_000_000 * 1000;
    let (start, mut messages) = (Instant::now(), 0);
    for seed in first.. {
        match Crowd::new(seed).run() {
            Ok(count) => messages += count,
            Err(fault) => {
                println!("CROWD_SEED={seed}: {fault}");
                drop(_quiet);
                panic!("the crowd of seed {seed} failed: {fault}");
            }
        }
        let is_over = match seconds {
            Some(seconds) => start.elapsed() >= Duration::from_secs(seconds),
            None => seed + 1 == first + SEEDS_PER_RUN,
        };
        if is_over {
            println!("{} crowds, {messages} messages", seed + 1 - first);
            return;
        }
    }
}

/// The handler, which obeys its peers and notes its calls in the model.
struct CrowdHandler {
    worker: usize,
    shared: Rc<RefCell<Shared>>,
}

#[derive(Default)]
struct Shared {
    model: Model,
    is_draining: bool,
}

/// A text that begins with its number.
fn text(number: usize, len: usize) -> String {
    format!("{number} {}", "x".repeat(len))
}

/// The bytes of its frame.
fn frame_bytes(text: &str) -> usize {
    EncodedMessage::new(text).as_frame().len()
}

impl CrowdHandler {
    /// Publishes from a callback. `peer` is the number of its peer, `send` makes the call.
    fn publish(
        &self,
        publisher: Publisher,
        target: Target,
        len: usize,
        send: impl FnOnce(&str) -> bool,
    ) {
        let text = text(self.shared.borrow().model.next(), len);
        if send(&text) {
            let bytes = frame_bytes(&text);
            self.shared.borrow_mut().model.publish(publisher, target, self.worker, bytes);
        }
    }

    fn obey(&self, peer: &mut Peer<'_, usize>, command: &str) {
        let me = *peer.state;
        let words: Vec<&str> = command.split(' ').collect();
        let number = |at: usize| words[at].parse::<usize>().expect("a number");
        let model = |act: &dyn Fn(&mut Model)| act(&mut self.shared.borrow_mut().model);
        match words[0] {
            "subscribe" => {
                let (topic, policy) = (number(1), POLICIES[number(2)]);
                peer.subscribe_with(TOPIC_NAMES[topic], policy).expect("few topics");
                model(&|model| model.change(me, topic, Some(policy)));
            }
            "unsubscribe" => {
                peer.unsubscribe(TOPIC_NAMES[number(1)]);
                model(&|model| model.change(me, number(1), None));
            }
            "publish" => {
                let (topic, target) = (TOPIC_NAMES[number(1)], Target::Topic(number(1), None));
                self.publish(Publisher::Peer(me), target, number(2), |text| {
                    peer.context().publish(topic, text)
                });
            }
            "others" => {
                let (topic, target) = (TOPIC_NAMES[number(1)], Target::Topic(number(1), Some(me)));
                self.publish(Publisher::Peer(me), target, number(2), |text| {
                    peer.publish(topic, text)
                });
            }
            "send" => {
                let target = Target::Direct(me);
                self.publish(Publisher::Peer(me), target, number(1), |text| peer.send(text));
            }
            "close" => {
                model(&|model| model.end(me, End::Asked));
                peer.close(CloseCode::NORMAL, "");
            }
            _ => {
                model(&|model| model.end(me, End::Asked));
                panic!("{}", crate::REQUESTED_PANIC);
            }
        }
    }
}

impl Handler for CrowdHandler {
    type State = usize;

    fn on_open(&mut self, peer: &mut Peer<'_, usize>, _: ConnectionInfo<'_>) {
        let number = self.shared.borrow_mut().model.open(self.worker);
        *peer.state = number;
        peer.send(format!("you are {number}").as_str());
    }

    fn on_message(&mut self, peer: &mut Peer<'_, usize>, message: Message<'_>) -> Reply {
        let commands = message.as_text().expect("clients send text");
        commands.split(';').for_each(|command| self.obey(peer, command));
        Reply::None
    }

    fn on_tick(&mut self, context: &mut Context<'_>, event: TickEvent) {
        let topic = event.number as usize % TOPICS;
        let publisher = Publisher::Worker(self.worker);
        self.publish(publisher, Target::Topic(topic, None), 20, |text| {
            context.publish(TOPIC_NAMES[topic], text)
        });
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_>,
        _: PeerId,
        me: usize,
        event: &CloseEvent<'_>,
    ) {
        {
            let Shared { model, is_draining } = &mut *self.shared.borrow_mut();
            if event.cause == CloseCause::BacklogOverflow {
                model.end(me, End::Dropped);
            }
            // While the server drains, other workers' messages have arrived before.
            if !*is_draining {
                (0..TOPICS).for_each(|topic| model.change(me, topic, None));
            }
        }
        let (publisher, topic) = (Publisher::Worker(self.worker), me % TOPICS);
        self.publish(publisher, Target::Topic(topic, None), 30, |text| {
            context.publish(TOPIC_NAMES[topic], text)
        });
    }
}

struct CrowdWorker {
    worker: Worker<Net, CrowdHandler>,
    sender: Sender<Stream>,
    counters: Arc<Counters>,
}

struct CrowdClient {
    socket: SocketId,
    /// Received, and not parsed.
    bytes: Vec<u8>,
    /// The number of its connection in the model, as soon as the handler has told it.
    number: Option<usize>,
    has_response: bool,
    is_leaving: bool,
}

struct Crowd {
    rng: Rng,
    net: Net,
    workers: Vec<CrowdWorker>,
    clients: Vec<CrowdClient>,
    shared: Rc<RefCell<Shared>>,
    config: Config,
    start: Instant,
}

fn config(rng: &mut Rng) -> Config {
    let high = rng.pick(&[300, 2000, 2000, 8000]);
    let hour = Duration::from_secs(3600);
    Config {
        backlog_bytes_high: high,
        backlog_bytes_low: rng.pick(&[1, high / 4, high]),
        backlog_bytes_max: high + rng.pick(&[500, 4000, 1 << 20]),
        mailbox_bytes_max: rng.pick(&[1, 500, 3000, 1 << 20]),
        tick_interval: Duration::from_millis(rng.pick(&[0, 2, 10])),
        idle_timeout: hour,
        handshake_timeout: hour,
        ping_interval: Duration::ZERO,
        ..Config::default()
    }
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = config(&mut rng);
        let count = rng.pick(&[1, 2, 2, 3]);
        let enabled = [Fault::Broken, Fault::Accept, Fault::Register, Fault::Urgent]
            .into_iter()
            .fold(FaultSet::all(), FaultSet::without);
        let network = NetworkFaults { rng: Rng::new(rng.next()), enabled, is_traced: false };
        let nets = Net::new(network, count);
        let net = nets[0].clone();
        let shared = Rc::new(RefCell::new(Shared::default()));
        let (connections, start) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let (senders, mailboxes): (Vec<_>, Vec<_>) =
            nets.iter().map(|_| mailbox(config.mailbox_bytes_max)).unzip();
        let worker = |(index, (net, mailbox)): (usize, (Net, _))| {
            let counters = Arc::new(Counters::default());
            let context = WorkerContext {
                config: Arc::new(config.clone()),
                counters: Arc::clone(&counters),
                address_table: None,
                connections: Arc::clone(&connections),
                server: 0,
                index: index as u32,
                time_of_day: || UNIX_EPOCH,
            };
            let handler = CrowdHandler { worker: index, shared: Rc::clone(&shared) };
            let links = Links::new(index as u32, &senders, config.mailbox_bytes_max);
            let worker = Worker::new(net, handler, context, mailbox, links, start);
            CrowdWorker { worker, sender: senders[index].clone(), counters }
        };
        let workers = nets.into_iter().zip(mailboxes).enumerate().map(worker).collect();
        Self { rng, net, workers, clients: Vec::new(), shared, config, start }
    }

    /// Runs to the end. Returns the number of messages.
    fn run(mut self) -> Result<usize, String> {
        for _ in 0..20 + self.rng.below(200) {
            self.round()?;
        }
        // Earlier publications precede the close frames.
        for client in &self.clients {
            let socket = &mut self.net.kernel().sockets[client.socket];
            socket.widen();
            (socket.client_reads, socket.capacity) = (true, WIDE);
        }
        if self.rng.below(3) == 0 {
            self.settle()?;
            self.publish_outside();
        }
        self.drain()?;
        let config = &self.config;
        let limits = Limits {
            high: config.backlog_bytes_high,
            low: config.backlog_bytes_low,
            max: config.backlog_bytes_max,
        };
        let shared = self.shared.borrow();
        let (skipped_min, skipped_max) = shared.model.check(limits)?;
        let stats = Stats::sum(self.workers.iter().map(|it| it.counters.stats()));
        if !(skipped_min..=skipped_max).contains(&(stats.skipped as usize)) {
            return Err(format!("{} messages of {skipped_min} were skipped", stats.skipped));
        }
        Ok(shared.model.next())
    }

    fn round(&mut self) -> Result<(), String> {
        let live = self.clients.iter().filter(|client| !client.is_leaving).count();
        if live < CLIENTS_MAX && self.rng.below(5) == 0 {
            self.connect();
        }
        for at in 0..self.clients.len() {
            if self.rng.below(4) == 0 {
                self.act(at);
            }
        }
        if self.rng.below(6) == 0 {
            self.publish_outside();
        }
        self.net.kernel().deliver();
        for index in 0..self.workers.len() {
            if self.rng.below(3) > 0 {
                self.turn(index);
            }
        }
        self.receive()?;
        if self.rng.below(30) == 0 {
            self.settle()?;
        }
        self.net.kernel().now += Duration::from_millis(self.rng.below(3) as u64);
        Ok(())
    }

    fn connect(&mut self) {
        let worker = self.rng.below(self.workers.len());
        let (is_fast, capacity) = (self.rng.below(2) == 0, self.rng.pick(&[100, 1000, 5000]));
        let kernel = &mut *self.net.kernel();
        let socket = kernel.connect(worker);
        kernel.push_accept(worker, Ok(socket));
        let it = &mut kernel.sockets[socket];
        it.widen();
        (it.client_reads, it.capacity) = (is_fast, if is_fast { WIDE } else { capacity });
        it.send(GOOD_REQUEST);
        self.clients.push(CrowdClient {
            socket,
            bytes: Vec::new(),
            number: None,
            has_response: false,
            is_leaving: false,
        });
    }

    /// A client sends commands, reads a little, or leaves.
    fn act(&mut self, at: usize) {
        let rng = &mut self.rng;
        let client = &mut self.clients[at];
        let kernel = &mut *self.net.kernel();
        let socket = &mut kernel.sockets[client.socket];
        socket.drain(rng.pick(&[0, 20, 500, 4000]));
        let Some(number) = client.number.filter(|_| !client.is_leaving) else { return };
        let text = match rng.below(60) {
            0 => {
                client.is_leaving = true;
                self.shared.borrow_mut().model.end(number, End::Asked);
                socket.send(&close_frame());
                return;
            }
            1 => format!("{};panic", commands(rng)),
            2 => format!("{};close", commands(rng)),
            _ => commands(rng),
        };
        socket.send(&client_text(&text));
    }

    /// A thread publishes to all workers.
    fn publish_outside(&mut self) {
        let topic = self.rng.below(TOPICS);
        let len = length(&mut self.rng);
        let shared = &mut *self.shared.borrow_mut();
        let text = text(shared.model.next(), len);
        let message = EncodedMessage::new(text.as_str());
        let publications: Arc<[_]> = [Publication::new(TOPIC_NAMES[topic], message)].into();
        let mut taken_by = Vec::new();
        for (index, worker) in self.workers.iter().enumerate() {
            let posted = worker.sender.post(Command::Publish(Arc::clone(&publications)));
            if posted == Ok(true) {
                self.net.kernel().wake(index);
            }
            taken_by.push(posted.is_ok());
        }
        shared.model.publish_outside(topic, taken_by, frame_bytes(&text));
    }

    /// A turn of a worker, if it has a reason for one.
    fn turn(&mut self, index: usize) -> bool {
        let CrowdWorker { worker, .. } = &mut self.workers[index];
        if worker.is_done() {
            return false;
        }
        let ready = self.net.kernel().next_batch(index);
        let now = self.start + self.net.kernel().now;
        if ready.is_empty() && worker.wait(now) != Some(Duration::ZERO) {
            return false;
        }
        worker.turn(ready.into_iter(), now);
        true
    }

    /// Lets the workers run until nothing moves.
    fn settle(&mut self) -> Result<(), String> {
        let enabled = std::mem::replace(&mut self.net.kernel().network.enabled, FaultSet::none());
        for _ in 0..PASSES_MAX {
            self.net.kernel().deliver();
            let turns = (0..self.workers.len()).filter(|index| self.turn(*index)).count();
            self.receive()?;
            let is_moving = |index: &usize| {
                !self.workers[*index].worker.is_done() && self.net.kernel().is_moving(*index)
            };
            if turns == 0 && !(0..self.workers.len()).any(|index| is_moving(&index)) {
                self.net.kernel().network.enabled = enabled;
                self.shared.borrow_mut().model.settle();
                return Ok(());
            }
        }
        Err("the workers do not come to rest".into())
    }

    /// The server shuts down, and the clients read everything.
    fn drain(&mut self) -> Result<(), String> {
        self.shared.borrow_mut().is_draining = true;
        let deadline = self.start + self.net.kernel().now + Duration::from_secs(60);
        for (index, worker) in self.workers.iter().enumerate() {
            if worker.sender.drain(deadline) {
                self.net.kernel().wake(index);
            }
        }
        while !self.workers.iter().all(|it| it.worker.is_done()) {
            self.settle()?;
            let now = self.start + self.net.kernel().now;
            let living = self.workers.iter().filter(|it| !it.worker.is_done());
            let due = living.filter_map(|it| it.worker.wait(now)).min();
            match due {
                Some(due) => self.net.kernel().now += due,
                None if self.workers.iter().all(|it| it.worker.is_done()) => break,
                None => return Err("a worker does not end".into()),
            }
        }
        self.receive()
    }

    /// The clients parse all bytes that they have read.
    fn receive(&mut self) -> Result<(), String> {
        for client in &mut self.clients {
            let kernel = &mut *self.net.kernel();
            let socket = &mut kernel.sockets[client.socket];
            client.bytes.extend(socket.take_received());
            let model = &mut self.shared.borrow_mut().model;
            if client.parse(model)? {
                socket.send(&close_frame());
            }
        }
        Ok(())
    }
}

impl CrowdClient {
    /// Passes the received messages to the model. Returns whether a close frame was among them.
    fn parse(&mut self, model: &mut Model) -> Result<bool, String> {
        if !self.has_response {
            let end = self.bytes.windows(4).position(|it| it == b"\r\n\r\n");
            let Some(end) = end else { return Ok(false) };
            self.bytes.drain(..end + 4);
            self.has_response = true;
        }
        let mut rest = &self.bytes[..];
        let mut is_closed = false;
        while let Some((opcode, payload, next)) = frame(rest) {
            rest = next;
            if opcode == CLOSE {
                is_closed = true;
                continue;
            }
            let text = std::str::from_utf8(payload).map_err(|_| "a frame that is no text")?;
            let Some(number) = self.number else {
                let number = text.strip_prefix("you are ").ok_or("no greeting came first")?;
                self.number = number.parse().ok();
                continue;
            };
            let message = text.split(' ').next().and_then(|it| it.parse().ok());
            model.receive(number, message.ok_or("a message without a number")?)?;
        }
        let parsed = self.bytes.len() - rest.len();
        self.bytes.drain(..parsed);
        Ok(is_closed)
    }
}

/// Splits a frame of a server off. `None` if it is not complete.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (start, len) = match *bytes.get(1)? {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        len => (2, usize::from(len)),
    };
    let payload = bytes.get(start..start + len)?;
    Some((bytes[0] & 0xF, payload, &bytes[start + len..]))
}

fn client_text(text: &str) -> Vec<u8> {
    client(TEXT, text.as_bytes()).bytes()
}

fn length(rng: &mut Rng) -> usize {
    rng.pick(&[1, 30, 200, 200, 1500, 20_000])
}

/// A few commands for the handler.
fn commands(rng: &mut Rng) -> String {
    let count = 1 + rng.below(5);
    let command = |rng: &mut Rng| {
        let topic = rng.below(TOPICS);
        match rng.below(9) {
            0 | 1 => format!("subscribe {topic} {}", rng.below(POLICIES.len())),
            2 => format!("unsubscribe {topic}"),
            3..6 => format!("publish {topic} {}", length(rng)),
            6 | 7 => format!("others {topic} {}", length(rng)),
            _ => format!("send {}", length(rng)),
        }
    };
    (0..count).map(|_| command(rng)).collect::<Vec<_>>().join(";")
}

fn close_frame() -> Vec<u8> {
    client(CLOSE, &close_payload(1000, b"")).bytes()
}

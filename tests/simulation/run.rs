//! One simulation from the first connection to the last: workers, peers, commands, time.
//!
//! In a round some peers act, the network moves bytes, other threads post commands, and each worker
//! that has a reason runs a turn; then time advances, at most to the next turn that a worker asked
//! for. Every turn and every round is checked. In the end no more faults happen, the peers finish,
//! and nothing may be left.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use ws_reactor::internal::{
    Command, Counters, Links, Publication, Sender, Worker, WorkerContext, mailbox,
};
use ws_reactor::{CloseCode, EncodedMessage, Stats};

use crate::faults::{Fault, FaultSet};
use crate::handler::{SimHandler, TOPIC, acts};
use crate::kernel::{SocketId, address};
use crate::memory::{self, Held};
use crate::net::{Kernel, Net, NetworkFaults, Stream};
use crate::peer::Peer;
use crate::plan::{Plan, Setting};
use crate::support::codec::reply;
use crate::support::model::Rules;
use crate::support::rng::Rng;
use crate::watch::{Moment, STALL_MAX, Watch};

/// The size of a simulation that has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// Turns of workers.
    pub(crate) turns: usize,
    pub(crate) connections: usize,
    pub(crate) messages: usize,
}

/// Rounds in which a simulation must end once no more faults happen.
const WIND_DOWN_ROUNDS_MAX: usize = 100_000;

/// Memory of a worker itself: the receive buffer, the timing wheel, spare memory, tables.
const WORKER_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Small blocks that a worker may keep after its last connection has ended: tables that have grown.
const REST_BYTES_MAX: isize = 64 * 1024;

/// The step of time if no worker asks for a turn.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// The longest pause of accepting, rounded up to ticks.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(200);

/// Runs a plan to its end.
///
/// # Errors
///
/// Describes the first check that failed, and its time.
pub(crate) fn run(plan: &Plan, is_traced: bool) -> Result<Done, String> {
    memory::forget();
    let mut simulation = Simulation::new(plan, is_traced);
    let result = simulation.run();
    let (now, round) = (simulation.net.kernel().now, simulation.round);
    result.map_err(|fault| format!("round {round}, {now:.3?}: {fault}"))
}

struct Simulation {
    plan: Plan,
    setting: Setting,
    rules: Rules,
    rng: Rng,
    net: Net,
    workers: Vec<SimWorker>,
    connections: Arc<AtomicUsize>,
    open: Rc<Cell<isize>>,
    start: Instant,
    peers: Vec<Peer>,
    /// The number of the plan's peers that have connected.
    arrived: usize,
    /// By socket.
    watches: Vec<Watch>,
    drain: Option<(Duration, Duration)>,
    posts: usize,
    /// Messages to all connections of a worker that it may not have read.
    posts_to_all: Vec<(usize, Vec<u8>)>,
    round: usize,
    turns: usize,
}

/// A worker, and the ends of its channels that other threads have.
struct SimWorker {
    worker: Worker<Net, SimHandler>,
    sender: Sender<Stream>,
    counters: Arc<Counters>,
}

impl Simulation {
    fn new(plan: &Plan, is_traced: bool) -> Self {
        let setting = plan.setting();
        let config = Arc::new(setting.config.clone());
        config.validate().expect("the settings make sense");
        let rules = Rules {
            message_bytes_max: config.message_bytes_max as u64,
            fragments_max: config.fragments_max,
            streams_above: setting.is_streamed.then_some(16 * 1024),
            handler: acts,
        };
        let mut rng = plan.rng();
        let rng_of_network = Rng::new(rng.next());
        let network = NetworkFaults { rng: rng_of_network, enabled: plan.faults, is_traced };
        let nets = Net::new(network, setting.workers);
        let net = nets[0].clone();
        let connections = Arc::new(AtomicUsize::new(0));
        let open = Rc::new(Cell::new(0));
        let start = Instant::now();
        let (senders, mailboxes): (Vec<_>, Vec<_>) =
            nets.iter().map(|_| mailbox(config.mailbox_bytes_max)).unzip();
        let sim_worker = |(index, (net, mailbox)): (u32, (Net, _))| {
            let counters = Arc::new(Counters::default());
            let shared = WorkerContext {
                config: Arc::clone(&config),
                counters: Arc::clone(&counters),
                address_table: None,
                connections: Arc::clone(&connections),
                server: 0,
                index,
                time_of_day: || UNIX_EPOCH,
            };
            let handler = SimHandler::new(setting.is_streamed, Rc::clone(&open));
            let sender = senders[index as usize].clone();
            let links = Links::new(index, &senders, config.mailbox_bytes_max);
            let worker =
                memory::inside(|| Worker::new(net, handler, shared, mailbox, links, start));
            SimWorker { worker, sender, counters }
        };
        let workers = (0..).zip(nets.into_iter().zip(mailboxes)).map(sim_worker).collect();
        Self {
            plan: plan.clone(),
            setting,
            rules,
            rng,
            net,
            workers,
            connections,
            open,
            start,
            peers: Vec::new(),
            arrived: 0,
            watches: Vec::new(),
            drain: None,
            posts: 0,
            posts_to_all: Vec::new(),
            round: 0,
            turns: 0,
        }
    }

    fn run(&mut self) -> Result<Done, String> {
        self.say(|s| format!("{:?}", s.setting));
        while self.round < self.plan.steps {
            self.round()?;
        }
        self.wind_down()?;
        self.check_end()?;
        let messages = self.watches.iter().map(|watch| watch.model.messages).sum();
        Ok(Done { turns: self.turns, connections: self.watches.len(), messages })
    }

    fn round(&mut self) -> Result<(), String> {
        self.round += 1;
        self.say(|s| format!("round {}, {:.3?}", s.round, s.net.kernel().now));
        if self.arrived < self.plan.peers.len() && (self.arrived == 0 || self.rng.below(6) == 0) {
            self.connect();
        }
        for peer in &mut self.peers {
            let kernel = &mut *self.net.kernel();
            if self.rng.below(2) == 0 {
                peer.act(&mut kernel.sockets[peer.id]);
            }
        }
        self.net.kernel().deliver();
        self.command();
        self.take_turns()?;
        self.check_deadlines()?;
        self.pass_time();
        Ok(())
    }

    /// The next peer connects, to a listener or handed over by another thread.
    fn connect(&mut self) {
        let number = self.plan.peers[self.arrived];
        self.arrived += 1;
        let index = self.rng.below(self.workers.len());
        let is_adopted = self.net.kernel().network.happens(Fault::Adopt, 4);
        if self.net.kernel().listeners[index].is_stopped {
            return;
        }
        let id = if is_adopted {
            let id = self.net.kernel().connect(index);
            self.post(index, Command::Adopt(self.net.stream(id), address(id).into()));
            id
        } else {
            let kernel = &mut *self.net.kernel();
            let id = kernel.connect(index);
            kernel.push_accept(index, Ok(id));
            id
        };
        let rng = self.plan.peer_rng(number);
        let request_bytes_max = self.setting.config.request_bytes_max;
        let peer = Peer::new(id, rng, self.rules, request_bytes_max, self.plan.frames);
        self.say(|_| format!("peer {number} is {:?}: socket {id}, worker {index}", peer.kind));
        let now = self.net.kernel().now;
        let mut watch = Watch::new(self.rules, peer.opening.clone(), now);
        // The worker may open this connection before it reads an earlier command.
        for (_, bytes) in self.posts_to_all.iter().filter(|(worker, _)| *worker == index) {
            watch.posted(bytes.clone());
        }
        self.watches.push(watch);
        self.peers.push(peer);
    }

    /// Whether a worker's mailbox has taken a command.
    fn post(&self, index: usize, command: Command<Stream>) -> bool {
        match self.workers[index].sender.post(command) {
            Ok(must_wake) => {
                if must_wake {
                    self.net.kernel().wake(index);
                }
                true
            }
            Err(_) => false,
        }
    }

    /// Other threads post commands, or nothing.
    fn command(&mut self) {
        let happens = |fault, n| self.net.kernel().network.happens(fault, n);
        let (posts, closes) = (happens(Fault::Post, 6), happens(Fault::Close, 150));
        let drains = self.drain.is_none() && happens(Fault::Drain, 900);
        if !self.watches.is_empty() && posts {
            self.post_message();
        }
        if !self.watches.is_empty() && closes {
            self.post_close();
        }
        if drains {
            let within = self.rng.pick(&[300, 3000, 300_000]);
            self.begin_drain(Duration::from_millis(within));
        }
    }

    fn post_message(&mut self) {
        let id = self.rng.below(self.watches.len());
        let Some((index, token)) = self.registered(id) else { return };
        let len = self.rng.pick(&[0, 5, 200, 3000, 20_000, 70_000]);
        let text = format!("\0post {} {}", self.posts, "p".repeat(len));
        self.posts += 1;
        let (opcode, message) = match self.rng.below(2) {
            0 => (0x1, EncodedMessage::new(text.as_str())),
            _ => (0x2, EncodedMessage::new(text.as_bytes())),
        };
        let (command, is_for_all) = match self.rng.below(8) {
            0 => (Command::Broadcast(message), true),
            1 => (Command::Publish([Publication::new(TOPIC, message)].into()), true),
            _ => (Command::Send(token, message), false),
        };
        let is_posted = self.post(index, command);
        self.say(|s| match is_for_all {
            true => format!("message {} to all of worker {index}: {is_posted}", s.posts - 1),
            false => format!("message {} to socket {id}: {is_posted}", s.posts - 1),
        });
        if !is_posted {
            return;
        }
        let bytes = reply(opcode, text.as_bytes());
        if !is_for_all {
            return self.watches[id].posted(bytes);
        }
        for (id, watch) in self.watches.iter_mut().enumerate() {
            if self.net.kernel().sockets[id].worker == index {
                watch.posted(bytes.clone());
            }
        }
        self.posts_to_all.push((index, bytes));
    }

    fn post_close(&mut self) {
        let id = self.rng.below(self.watches.len());
        let Some((index, token)) = self.registered(id) else { return };
        let code = self.rng.pick(&[CloseCode::NORMAL, CloseCode::SERVICE_RESTART]);
        if self.post(index, Command::Close(token, code, "from outside".into())) {
            self.say(|_| format!("close {code} to socket {id}"));
            let now = self.net.kernel().now;
            self.watches[id].close_asked(code.value(), now);
        }
    }

    /// The worker and the token of a socket, also after its end.
    fn registered(&self, id: SocketId) -> Option<(usize, ws_reactor::internal::Token)> {
        let kernel = self.net.kernel();
        let socket = &kernel.sockets[id];
        Some((socket.worker, socket.token?))
    }

    fn begin_drain(&mut self, within: Duration) {
        self.say(|_| format!("drain within {within:?}"));
        let now = self.net.kernel().now;
        self.drain = Some((now, now + within));
        for (index, worker) in self.workers.iter().enumerate() {
            if worker.sender.drain(self.start + now + within) {
                self.net.kernel().wake(index);
            }
        }
    }

    /// Runs a turn of each worker that has a reason for one.
    fn take_turns(&mut self) -> Result<bool, String> {
        let mut is_any = false;
        for index in 0..self.workers.len() {
            if self.workers[index].worker.is_done() {
                continue;
            }
            let ready = self.net.kernel().next_batch(index);
            let now = self.net.kernel().now;
            let is_due = self.due(index).is_some_and(|due| due <= now);
            let is_idle = self.net.kernel().network.happens(Fault::Idle, 10);
            if ready.is_empty() && !is_due && !is_idle {
                continue;
            }
            is_any = true;
            self.say(|_| format!("  worker {index}: {ready:?}"));
            self.turns += 1;
            let at = self.start + now;
            let worker = &mut self.workers[index].worker;
            memory::inside(|| worker.turn(ready.into_iter(), at));
            self.look(index)?;
        }
        Ok(is_any)
    }

    /// Checks the turn of a worker.
    fn look(&mut self, index: usize) -> Result<(), String> {
        let worker = &self.workers[index].worker;
        let kernel = &mut *self.net.kernel();
        let at = self.start + kernel.now;
        let moment = Moment {
            is_busy: worker.wait(at) == Some(Duration::ZERO),
            has_read_mail: !kernel.is_woken(index),
            ..moment(kernel, &self.setting, self.drain, self.plan.faults)
        };
        if moment.has_read_mail && !moment.is_busy {
            self.posts_to_all.retain(|(worker, _)| *worker != index);
        }
        for (id, watch) in self.watches.iter_mut().enumerate() {
            let socket = &mut kernel.sockets[id];
            if socket.worker == index {
                let looked = watch.look(socket, &moment);
                looked.map_err(|fault| format!("socket {id}, worker {index}: {fault}"))?;
            }
        }
        if kernel.has_forgotten(index) && worker.wait(at).is_none_or(|wait| wait > ACCEPT_PAUSE_MAX)
        {
            return Err(format!("worker {index} sleeps while connections wait to be accepted"));
        }
        let config = &self.setting.config;
        let live = |(id, watch): (usize, &Watch)| {
            if kernel.sockets[id].is_dropped() {
                0
            } else {
                watch.bytes_max(&kernel.sockets[id], config)
            }
        };
        let most: usize = self.watches.iter().enumerate().map(live).sum();
        let most = (most + self.workers.len() * WORKER_BYTES_MAX) as isize;
        let Held { small, large } = memory::held();
        if small + large > most {
            return Err(format!("{small} and {large} bytes are held, more than {most}"));
        }
        Ok(())
    }

    fn check_deadlines(&self) -> Result<(), String> {
        let kernel = &mut *self.net.kernel();
        let moment = moment(kernel, &self.setting, self.drain, self.plan.faults);
        for (id, watch) in self.watches.iter().enumerate() {
            let checked = watch.check_deadlines(&kernel.sockets[id], &moment);
            checked.map_err(|fault| format!("socket {id}: {fault}"))?;
        }
        let is_late = self.drain.is_some_and(|(_, deadline)| kernel.now > deadline + 2 * STALL_MAX);
        let has_ended = |(index, sim): (usize, &SimWorker)| {
            // One that has not been woken does not know of the drain.
            sim.worker.is_done() || kernel.is_woken(index)
        };
        if is_late && !self.workers.iter().enumerate().all(has_ended) {
            return Err("a worker has not ended by the drain's deadline".into());
        }
        Ok(())
    }

    /// When a worker wants its next turn.
    fn due(&self, index: usize) -> Option<Duration> {
        let worker = &self.workers[index].worker;
        let now = self.net.kernel().now;
        let wait = if worker.is_done() { None } else { worker.wait(self.start + now) };
        wait.map(|wait| now + wait)
    }

    fn next_due(&self) -> Option<Duration> {
        (0..self.workers.len()).filter_map(|index| self.due(index)).min()
    }

    /// Advances time at most to the next turn that a worker asks for, and a stalled worker a little
    /// beyond.
    fn pass_time(&mut self) {
        let due = self.next_due();
        let kernel = &mut *self.net.kernel();
        let is_jump = kernel.network.happens(Fault::Jump, 8);
        let ms = |ms| Duration::from_millis(ms as u64);
        let step = match self.rng.below(10) {
            _ if is_jump => due.map_or(HALF_A_SECOND, |due| due.saturating_sub(kernel.now)),
            0..7 => ms(self.rng.below(3)),
            7..9 => ms(self.rng.below(60)),
            _ => ms(self.rng.below(400)),
        };
        let end = kernel.now + step;
        kernel.now = due.map_or(end, |due| end.min(due.max(kernel.now)));
        if kernel.network.happens(Fault::Stall, 20) {
            kernel.now += ms(self.rng.below(STALL_MAX.as_millis() as usize));
        }
    }

    /// Without further faults: the peers finish, and the deadlines of the others pass.
    fn wind_down(&mut self) -> Result<(), String> {
        self.say(|_| "wind down".into());
        {
            let kernel = &mut *self.net.kernel();
            kernel.network.enabled = FaultSet::none();
            for socket in &mut kernel.sockets {
                socket.widen();
            }
        }
        for _ in 0..WIND_DOWN_ROUNDS_MAX {
            self.round += 1;
            self.say(|s| format!("round {}, {:.3?}", s.round, s.net.kernel().now));
            for peer in &mut self.peers {
                peer.wind_down(&mut self.net.kernel().sockets[peer.id]);
            }
            self.net.kernel().deliver();
            let has_turned = self.take_turns()?;
            self.check_deadlines()?;
            let lives = |index: &usize| !self.workers[*index].worker.is_done();
            let mut living = (0..self.workers.len()).filter(lives);
            let is_moving = living.any(|index| self.net.kernel().is_moving(index));
            if has_turned || is_moving {
                continue;
            }
            if let Some(due) = self.next_due() {
                let kernel = &mut *self.net.kernel();
                kernel.now = due.max(kernel.now);
            } else if self.drain.is_none() {
                self.check_rest()?;
                self.begin_drain(Duration::from_secs(1));
            } else {
                return Ok(());
            }
        }
        Err("the simulation does not end".into())
    }

    /// Nothing moves, and no worker asks for another turn.
    fn check_rest(&self) -> Result<(), String> {
        let kernel = self.net.kernel();
        let left = kernel.sockets.iter().position(|socket| !socket.is_dropped());
        match left {
            Some(id) => Err(format!("socket {id} is open, and has no deadline")),
            None => Ok(()),
        }
    }

    /// The workers have ended: nothing may be left.
    fn check_end(&mut self) -> Result<(), String> {
        if !self.workers.iter().all(|sim| sim.worker.is_done()) {
            return Err("a worker has not ended".into());
        }
        let stats = Stats::sum(self.workers.iter().map(|sim| sim.counters.stats()));
        let is_even = stats.accepted == stats.ended && stats.opened == stats.closed;
        if !is_even || self.connections.load(Ordering::Relaxed) != 0 || self.open.get() != 0 {
            return Err(format!("{} handlers' connections are left: {stats:?}", self.open.get()));
        }
        let outcomes = stats.opened + stats.answered + stats.handshake_failures.total();
        if stats.accepted != outcomes || stats.backlog_bytes != 0 || stats.paused_peers != 0 {
            return Err(format!("each connection has one outcome, and leaves no gauge: {stats:?}"));
        }
        let wheel_and_buffer = 400 * 1024;
        let Held { small, large } = memory::held();
        let most = self.workers.len() as isize * (REST_BYTES_MAX + wheel_and_buffer);
        if small > most || large > (self.workers.len() * WORKER_BYTES_MAX) as isize {
            return Err(format!("{small} and {large} bytes are held in the end"));
        }
        self.workers.clear();
        let Held { small, large } = memory::held();
        if large != 0 || small != 0 {
            return Err(format!("{small} and {large} bytes have leaked"));
        }
        Ok(())
    }

    fn say(&self, what: impl FnOnce(&Self) -> String) {
        if self.net.kernel().network.is_traced {
            eprintln!("{}", what(self));
        }
    }
}

fn moment<'s>(
    kernel: &Kernel,
    setting: &'s Setting,
    drain: Option<(Duration, Duration)>,
    faults: FaultSet,
) -> Moment<'s> {
    Moment {
        now: kernel.now,
        config: &setting.config,
        drain,
        may_turn_away: setting.config.connections_max.is_some() || faults.has(Fault::Register),
        is_busy: true,
        has_read_mail: false,
    }
}

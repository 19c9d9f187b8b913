//! The specification of topics: which peers must get which messages, and in which order.
//!
//! The handler and the other threads of `crowd.rs` note each call here when they make it. The clients
//! note each message that they receive. At most once; the messages of a publisher in the order of its
//! calls; only to subscribers; nothing lost unless the subscription allows it.

use ws_reactor::SlowConsumer;

/// The number of topics. They are named by numbers.
pub(crate) const TOPICS: usize = 3;

/// Who has published a message.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Publisher {
    /// The callbacks of a peer.
    Peer(usize),
    /// The ticks of a worker, or the ends of its connections.
    Worker(usize),
    /// A thread outside.
    Thread,
}

/// Who gets a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// One peer.
    Direct(usize),
    /// All subscribers of a topic, except for one peer.
    Topic(usize, Option<usize>),
}

#[derive(Debug)]
struct Message {
    publisher: Publisher,
    target: Target,
    /// The worker that published it.
    worker: Option<usize>,
    /// By worker, whether its mailbox took a message from outside.
    taken_by: Vec<bool>,
    at: usize,
    bytes: usize,
}

/// How a peer's connection has ended, as far as its client can tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// It has not, or the client has read everything up to the close frame of the shutdown.
    Complete,
    /// The client or a panic ended it.
    Asked,
    /// The worker dropped it.
    Dropped,
}

#[derive(Debug)]
struct Peer {
    worker: usize,
    /// By topic, the changes of the subscription and their times.
    changes: [Vec<(usize, Option<SlowConsumer>)>; TOPICS],
    /// The numbers of the messages that the client has received.
    received: Vec<usize>,
    /// By time, the bytes that the client had received.
    progress: Vec<(usize, usize)>,
    end: End,
}

/// What a message means to a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Duty {
    /// It arrives.
    Must,
    /// It arrives unless the peer is slow.
    MayBeSkipped(SlowConsumer),
    /// The subscription changed while another worker's message was on its way.
    May,
    Never,
}

/// The limits that decide about losses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) high: usize,
    pub(crate) low: usize,
    pub(crate) max: usize,
}

/// The calls and the received messages so far.
#[derive(Debug, Default)]
pub(crate) struct Model {
    clock: usize,
    messages: Vec<Message>,
    peers: Vec<Peer>,
    /// Times at which no message was on its way to another worker.
    settled: Vec<usize>,
}

impl Model {
    fn tick(&mut self) -> usize {
        self.clock += 1;
        self.clock
    }

    /// A connection has been opened. Returns its number.
    pub(crate) fn open(&mut self, worker: usize) -> usize {
        let (changes, received) = (Default::default(), Vec::new());
        let end = End::Complete;
        self.peers.push(Peer { worker, changes, received, progress: vec![(0, 0)], end });
        self.peers.len() - 1
    }

    /// A peer has subscribed, changed its policy, or ended its subscription.
    pub(crate) fn change(&mut self, peer: usize, topic: usize, policy: Option<SlowConsumer>) {
        let at = self.tick();
        self.peers[peer].changes[topic].push((at, policy));
    }

    /// The number of the next message, and so of those that were published.
    pub(crate) fn next(&self) -> usize {
        self.messages.len()
    }

    /// The next message was taken.
    pub(crate) fn publish(
        &mut self,
        publisher: Publisher,
        target: Target,
        worker: usize,
        bytes: usize,
    ) {
        let (at, worker, taken_by) = (self.tick(), Some(worker), Vec::new());
        self.messages.push(Message { publisher, target, worker, taken_by, at, bytes });
    }

    /// A thread has published the next message, which these workers have taken.
    pub(crate) fn publish_outside(&mut self, topic: usize, taken_by: Vec<bool>, bytes: usize) {
        let (at, target) = (self.tick(), Target::Topic(topic, None));
        let publisher = Publisher::Thread;
        self.messages.push(Message { publisher, target, worker: None, taken_by, at, bytes });
    }

    /// No message is on its way to another worker.
    pub(crate) fn settle(&mut self) {
        let at = self.tick();
        self.settled.push(at);
    }

    /// The client of a peer has received a message.
    pub(crate) fn receive(&mut self, peer: usize, number: usize) -> Result<(), String> {
        let Some(message) = self.messages.get(number) else {
            return Err(format!("peer {peer} got message {number}, which was not published"));
        };
        if self.duty(peer, message) == Duty::Never {
            return Err(format!("peer {peer} got message {number}, {message:?}, for others"));
        }
        let earlier = self.peers[peer].received.iter().rev();
        let mut earlier = earlier.filter(|it| self.messages[**it].publisher == message.publisher);
        if let Some(last) = earlier.next().filter(|last| **last >= number) {
            return Err(format!("peer {peer} got message {number} after {last}: {message:?}"));
        }
        let (at, bytes) = (self.tick(), self.messages[number].bytes);
        let peer = &mut self.peers[peer];
        peer.received.push(number);
        peer.progress.push((at, peer.progress.last().map_or(0, |(_, sum)| *sum) + bytes));
        Ok(())
    }

    /// The connection of a peer ends. The first reason counts.
    pub(crate) fn end(&mut self, peer: usize, end: End) {
        if self.peers[peer].end == End::Complete {
            self.peers[peer].end = end;
        }
    }

    /// The policy of a subscription at a time.
    fn policy(&self, peer: usize, topic: usize, at: usize) -> Option<SlowConsumer> {
        let changes = &self.peers[peer].changes[topic];
        changes.iter().rev().find(|(since, _)| *since <= at).and_then(|(_, policy)| *policy)
    }

    fn duty(&self, peer: usize, message: &Message) -> Duty {
        let topic = match message.target {
            Target::Direct(to) => return if to == peer { Duty::Must } else { Duty::Never },
            Target::Topic(_, Some(except)) if except == peer => return Duty::Never,
            Target::Topic(topic, _) => topic,
        };
        if message.taken_by.get(self.peers[peer].worker) == Some(&false) {
            return Duty::Never;
        }
        let policy = self.policy(peer, topic, message.at);
        if message.worker == Some(self.peers[peer].worker) {
            return match policy {
                None => Duty::Never,
                // A copy for the peer itself is sent directly.
                Some(SlowConsumer::Close) => Duty::Must,
                Some(_) if message.publisher == Publisher::Peer(peer) => Duty::Must,
                Some(policy) => Duty::MayBeSkipped(policy),
            };
        }
        // It arrives at some time until the workers have settled.
        let until = self.settled.iter().find(|at| **at > message.at).copied();
        let until = until.unwrap_or(usize::MAX);
        let changes = &self.peers[peer].changes[topic];
        let on_its_way = || changes.iter().filter(|(at, _)| (message.at..until).contains(at));
        match (policy, on_its_way().count()) {
            (None, _) if on_its_way().all(|(_, policy)| policy.is_none()) => Duty::Never,
            (Some(SlowConsumer::Close), 0) => Duty::Must,
            (Some(policy), 0) => Duty::MayBeSkipped(policy),
            _ => Duty::May,
        }
    }

    /// All clients have read everything: checks that nothing is missing. Returns the smallest and
    /// the largest number of skipped messages that explain the missing ones.
    pub(crate) fn check(&self, limits: Limits) -> Result<(usize, usize), String> {
        let (mut skipped_min, mut skipped_max) = (0, 0);
        for peer in 0..self.peers.len() {
            let missing = self.missing(peer);
            skipped_max += missing.len();
            match self.peers[peer].end {
                End::Complete => {
                    skipped_min += missing.iter().filter(|(_, duty)| *duty != Duty::May).count();
                    self.check_complete(peer, &missing, limits)?;
                }
                End::Asked => self.check_start(peer, &missing)?,
                End::Dropped => {
                    self.check_start(peer, &missing)?;
                    let bytes: usize = missing.iter().map(|(at, _)| self.messages[*at].bytes).sum();
                    if bytes <= limits.max {
                        return Err(format!("peer {peer} was dropped, and {bytes} bytes waited"));
                    }
                }
            }
        }
        Ok((skipped_min, skipped_max))
    }

    /// The messages that a peer may have got, and has not.
    fn missing(&self, peer: usize) -> Vec<(usize, Duty)> {
        let mut received = vec![false; self.messages.len()];
        self.peers[peer].received.iter().for_each(|number| received[*number] = true);
        let duties = self.messages.iter().map(|message| self.duty(peer, message));
        let missing =
            duties.enumerate().filter(|(number, duty)| *duty != Duty::Never && !received[*number]);
        missing.collect()
    }

    /// A peer that has read everything misses only what a policy allows.
    fn check_complete(
        &self,
        peer: usize,
        missing: &[(usize, Duty)],
        limits: Limits,
    ) -> Result<(), String> {
        let is_slow = self.slow_times(peer, missing, limits);
        for (number, duty) in missing {
            let message = &self.messages[*number];
            let fault = match duty {
                Duty::Must => "is lost",
                Duty::MayBeSkipped(SlowConsumer::Latest) if self.is_newest(peer, *number) => {
                    "is the latest, and lost"
                }
                Duty::MayBeSkipped(SlowConsumer::Skip)
                    if message.worker == Some(self.peers[peer].worker) && !is_slow[*number] =>
                {
                    "is skipped although the peer has read enough"
                }
                Duty::MayBeSkipped(_) | Duty::May | Duty::Never => continue,
            };
            return Err(format!("message {number} to peer {peer} {fault}: {message:?}"));
        }
        Ok(())
    }

    /// Whether no message that the peer got or may have got replaces this one.
    fn is_newest(&self, peer: usize, number: usize) -> bool {
        let Target::Topic(topic, _) = self.messages[number].target else { return true };
        // Messages of other workers may arrive in another order than they were published.
        let since = self.settled.iter().rev().find(|at| **at < self.messages[number].at);
        let since = since.copied().unwrap_or(0);
        !self.messages.iter().enumerate().any(|(other, message)| {
            let is_of_topic = matches!(message.target, Target::Topic(of, _) if of == topic);
            let is_later = other > number
                || (message.worker != self.messages[number].worker && message.at > since);
            other != number && is_of_topic && is_later && self.duty(peer, message) != Duty::Never
        })
    }

    /// By message, whether so much may have waited for the peer at its time that a message of the
    /// peer's own worker could be skipped.
    fn slow_times(&self, peer: usize, missing: &[(usize, Duty)], limits: Limits) -> Vec<bool> {
        // Messages that a newer one has replaced may have waited too.
        let has_waited = |duty| duty != Duty::MayBeSkipped(SlowConsumer::Skip);
        let replaced = missing.iter().filter(|(_, duty)| has_waited(*duty));
        let mut queued: Vec<usize> = replaced.map(|(number, _)| *number).collect();
        queued.extend(&self.peers[peer].received);
        queued.sort_unstable();
        let mut queued = queued.into_iter().peekable();
        let mut progress = self.peers[peer].progress.iter().peekable();
        let (mut sent, mut read, mut most) = (0, 0, 0);
        let at_each = self.messages.iter().enumerate().map(|(number, message)| {
            while let Some(earlier) = queued.next_if(|earlier| *earlier < number) {
                sent += self.messages[earlier].bytes;
            }
            while let Some((_, bytes)) = progress.next_if(|(at, _)| *at <= message.at) {
                read = *bytes;
            }
            let waiting = sent - read.min(sent);
            most = most.max(waiting);
            waiting >= limits.low && most > limits.high
        });
        at_each.collect()
    }

    /// A peer whose connection has ended has got a start of what each publisher sent it.
    fn check_start(&self, peer: usize, missing: &[(usize, Duty)]) -> Result<(), String> {
        let received = &self.peers[peer].received;
        for (number, _) in missing.iter().filter(|(_, duty)| *duty == Duty::Must) {
            let publisher = self.messages[*number].publisher;
            let later = |it: &&usize| **it > *number && self.messages[**it].publisher == publisher;
            if let Some(later) = received.iter().find(later) {
                return Err(format!("peer {peer} got message {later}, and not {number} before it"));
            }
        }
        Ok(())
    }
}

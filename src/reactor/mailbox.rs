//! A queue of commands from other threads to a worker, bounded in bytes.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::balance::Load;
use super::slots::Token;
use crate::connection_info::Origin;
use crate::fanout::Publication;
use crate::open_peers::OpenPeers;
use crate::protocol::{CloseCode, EncodedMessage};

/// An action that another thread asks of a worker. `T` is the type of sockets.
#[derive(Debug)]
pub enum Command<T> {
    /// Send a message to a connection.
    Send(Token, EncodedMessage),
    /// Send a message to several connections.
    SendMany(Vec<Token>, EncodedMessage),
    /// Send a message to every open connection.
    Broadcast(EncodedMessage),
    /// Send messages of a thread to the subscribers of their topics. All workers share the list.
    Publish(Arc<[Publication]>),
    /// The same for messages that callbacks of another worker published.
    Relay(Arc<[Publication]>),
    /// Start the closing handshake of a connection.
    Close(Token, CloseCode, Box<str>),
    /// Take over a socket that another thread accepted.
    Adopt(T, Origin),
}

impl<T> Command<T> {
    /// The memory that the command holds, in bytes.
    fn bytes(&self) -> usize {
        let held = match self {
            Self::Send(_, message) | Self::Broadcast(message) => message.as_frame().len(),
            Self::SendMany(tokens, message) => size_of_val(&tokens[..]) + message.as_frame().len(),
            Self::Publish(publications) | Self::Relay(publications) => {
                publications.iter().map(Publication::bytes).sum()
            }
            Self::Close(_, _, reason) => reason.len(),
            Self::Adopt(..) => 0,
        };
        size_of::<Self>() + held
    }

    /// Whether it sends a message. A worker that drains takes no further messages.
    const fn is_message(&self) -> bool {
        !matches!(self, Self::Close(..) | Self::Adopt(..))
    }
}

/// Creates the two ends of a mailbox for `bytes_max` bytes of commands.
#[must_use]
pub fn mailbox<T>(bytes_max: usize) -> (Sender<T>, Mailbox<T>) {
    let queue = Queue {
        commands: VecDeque::new(),
        bytes: 0,
        is_ended: false,
        drain_deadline: None,
        open_links: 0,
        waiting_workers: Vec::new(),
    };
    let common = Arc::new(Common {
        bytes_max,
        queue: Mutex::new(queue),
        space: Condvar::new(),
        woken: AtomicBool::new(false),
        peers: OpenPeers::default(),
        load: Load::default(),
    });
    let mailbox = Mailbox {
        common: Arc::clone(&common),
        taken: VecDeque::new(),
        drain_deadline: None,
        open_links: 0,
        waiting_workers: Vec::new(),
    };
    (Sender { common }, mailbox)
}

/// The state that both ends share.
#[derive(Debug)]
struct Common<T> {
    bytes_max: usize,
    queue: Mutex<Queue<T>>,
    /// Notified when the worker takes the commands, drains or ends.
    space: Condvar,
    /// Set when a sender wakes the worker, cleared when the worker reads the mailbox. So one wake
    /// serves many commands.
    woken: AtomicBool,
    /// The connections that other threads can send to.
    peers: OpenPeers,
    load: Load,
}

impl<T> Common<T> {
    /// Ignores poisoning: no code that holds the lock panics between two changes.
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, queue: &mut Queue<T>, command: Command<T>) {
        if matches!(command, Command::Adopt(..)) {
            self.load.raise();
        }
        queue.bytes += command.bytes();
        queue.commands.push_back(command);
    }

    fn must_wake(&self) -> bool {
        !self.woken.swap(true, Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Queue<T> {
    commands: VecDeque<Command<T>>,
    /// Of all commands.
    bytes: usize,
    /// The worker has ended.
    is_ended: bool,
    /// The deadline of the drain, if a shutdown has begun. It is not a command, so a full queue
    /// cannot block a shutdown.
    drain_deadline: Option<Instant>,
    /// Workers that may still post messages to topics, also after a shutdown has begun.
    open_links: u32,
    /// Workers that wait for space here, by their numbers.
    waiting_workers: Vec<u32>,
}

impl<T> Queue<T> {
    /// Whether a thread can append this command.
    fn check(&self, command: &Command<T>, bytes_max: usize) -> Result<(), Refusal> {
        if self.drain_deadline.is_some() && command.is_message() {
            return Err(Refusal::Stopped);
        }
        self.check_space(command.bytes(), bytes_max)
    }

    /// Whether there is space for a command of `bytes`. An empty queue takes a command of any size, or
    /// a large message could never be sent.
    fn check_space(&self, bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
        if self.is_ended {
            return Err(Refusal::Stopped);
        }
        if self.bytes > 0 && self.bytes + bytes > bytes_max {
            return Err(Refusal::Full);
        }
        Ok(())
    }
}

/// Why a mailbox did not take a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It has no space now.
    Full,
    /// The worker has ended, or drains and takes no further messages.
    Stopped,
}

/// The worker's end.
#[derive(Debug)]
pub struct Mailbox<T> {
    common: Arc<Common<T>>,
    /// Commands that the worker has taken from the queue, all at once, and not yet carried out.
    taken: VecDeque<Command<T>>,
    /// The deadline of the drain, as of the last look at the queue.
    drain_deadline: Option<Instant>,
    /// The number of open links, as of the last look at the queue.
    open_links: u32,
    /// Workers to wake, because the queue has space again.
    waiting_workers: Vec<u32>,
}

impl<T> Mailbox<T> {
    /// Takes the next command, if there is one.
    pub(super) fn take(&mut self) -> Option<Command<T>> {
        if self.taken.is_empty() {
            let mut queue = self.common.lock();
            mem::swap(&mut self.taken, &mut queue.commands);
            queue.bytes = 0;
            self.drain_deadline = queue.drain_deadline;
            self.open_links = queue.open_links;
            self.waiting_workers.append(&mut queue.waiting_workers);
            drop(queue);
            self.common.space.notify_all();
        }
        self.taken.pop_front()
    }

    /// Lets the next command wake the worker again. Called before the worker reads the mailbox;
    /// otherwise a command posted in between would wait for the next wake.
    pub(super) fn acknowledge_wake(&self) {
        self.common.woken.store(false, Ordering::SeqCst);
    }

    /// The deadline of the drain, if a shutdown has begun and the worker has taken all commands that
    /// were posted before.
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        self.drain_deadline.filter(|_| self.taken.is_empty())
    }

    /// Whether other workers may still post messages that were published before the shutdown.
    pub(super) const fn has_open_links(&self) -> bool {
        self.open_links > 0
    }

    /// Workers that wait for space in this mailbox, and must be woken now.
    pub(super) fn take_waiting_workers(&mut self) -> Vec<u32> {
        mem::take(&mut self.waiting_workers)
    }

    /// The load of this worker. A connection that is adopted has been counted when it was posted.
    pub(super) fn load(&self) -> &Load {
        &self.common.load
    }

    /// The list of open connections. Each connection adds and removes its own id.
    pub(super) fn peers(&self) -> &OpenPeers {
        &self.common.peers
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        let mut queue = self.common.lock();
        queue.is_ended = true;
        // Sockets among them are closed by this thread, as those of the worker are.
        let commands = mem::take(&mut queue.commands);
        drop(queue);
        self.common.space.notify_all();
        drop(commands);
    }
}

/// The other threads' end.
#[derive(Debug)]
pub struct Sender<T> {
    common: Arc<Common<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { common: Arc::clone(&self.common) }
    }
}

impl<T> Sender<T> {
    /// Appends a command to the queue. `Ok(true)` means that the caller must wake the worker.
    ///
    /// # Errors
    ///
    /// If the queue is full, or the worker has ended or drains. The command is dropped.
    pub fn post(&self, command: Command<T>) -> Result<bool, Refusal> {
        let mut queue = self.common.lock();
        queue.check(&command, self.common.bytes_max)?;
        self.common.push(&mut queue, command);
        drop(queue);
        Ok(self.common.must_wake())
    }

    /// As [`post`](Self::post), but waits while the queue is full. The worker is awake then.
    ///
    /// # Errors
    ///
    /// If the worker has ended or drains.
    pub fn post_blocking(&self, command: Command<T>) -> Result<bool, Refusal> {
        let mut queue = self.common.lock();
        loop {
            match queue.check(&command, self.common.bytes_max) {
                Ok(()) => break,
                Err(Refusal::Full) => {
                    let waited = self.common.space.wait(queue);
                    queue = waited.unwrap_or_else(PoisonError::into_inner);
                }
                Err(Refusal::Stopped) => return Err(Refusal::Stopped),
            }
        }
        self.common.push(&mut queue, command);
        drop(queue);
        Ok(self.common.must_wake())
    }

    /// Another worker may post with [`post_or_wait`](Self::post_or_wait) from now on.
    pub(super) fn open_link(&self) {
        self.common.lock().open_links += 1;
    }

    /// A worker will post no more. This one must be woken, since it waits for that before it drains.
    pub(super) fn close_link(&self) {
        self.common.lock().open_links -= 1;
    }

    /// Appends a command of worker number `worker`, which has an open link. It will repeat the
    /// command if the queue is full: then it is woken when the queue has space.
    pub(super) fn post_or_wait(&self, command: Command<T>, worker: u32) -> Result<bool, Refusal> {
        let mut queue = self.common.lock();
        if let Err(refusal) = queue.check_space(command.bytes(), self.common.bytes_max) {
            if refusal == Refusal::Full && !queue.waiting_workers.contains(&worker) {
                queue.waiting_workers.push(worker);
            }
            return Err(refusal);
        }
        self.common.push(&mut queue, command);
        drop(queue);
        Ok(self.common.must_wake())
    }

    /// Hands over a connection, as [`Command::Adopt`]. If the mailbox does not take it, returns it.
    pub(super) fn hand_over(&self, stream: T, peer: Origin) -> Result<bool, (Refusal, T, Origin)> {
        let mut queue = self.common.lock();
        if let Err(refusal) = queue.check_space(size_of::<Command<T>>(), self.common.bytes_max) {
            return Err((refusal, stream, peer));
        }
        self.common.push(&mut queue, Command::Adopt(stream, peer));
        drop(queue);
        Ok(self.common.must_wake())
    }

    /// The load of this worker.
    pub(super) fn load(&self) -> &Load {
        &self.common.load
    }

    /// Whether the caller must wake the worker, which has another reason than a command.
    pub(super) fn must_wake(&self) -> bool {
        self.common.must_wake()
    }

    /// Begins a shutdown: the worker carries out the commands posted before, and the messages that
    /// other workers published before they noticed it. Then it stops accepting, closes every
    /// connection with 1001, and ends after the last one, at the latest at `deadline`. `true` means
    /// that the caller must wake the worker.
    pub fn drain(&self, deadline: Instant) -> bool {
        let mut queue = self.common.lock();
        // A worker that drains relies on this: its deadline only moves nearer.
        let current = queue.drain_deadline;
        queue.drain_deadline = Some(current.map_or(deadline, |current| current.min(deadline)));
        drop(queue);
        self.common.space.notify_all();
        self.common.must_wake()
    }

    /// The number of commands that the worker has not taken yet, and their memory in bytes.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let queue = self.common.lock();
        (queue.commands.len(), queue.bytes)
    }

    /// Whether `token` belongs to an open connection: its handshake has succeeded, and its
    /// `on_close` callback has not been called.
    #[must_use]
    pub fn is_open(&self, token: Token) -> bool {
        self.common.peers.contains(token.index, token.generation)
    }

    /// Bytes that are queued for this connection, if it is open now.
    #[must_use]
    pub fn backlog_bytes(&self, token: Token) -> Option<usize> {
        let is_ended = self.common.lock().is_ended;
        self.common.peers.backlog(token.index, token.generation).filter(|_| !is_ended)
    }
}

/// Appends a command to the mailboxes of all workers that have not ended, or to none. Returns the
/// numbers of those to wake.
///
/// # Errors
///
/// If a mailbox is full, or all workers have ended or drain. With `may_wait` it waits for space
/// instead.
pub(crate) fn post_to_all<T>(
    senders: &[&Sender<T>],
    may_wait: bool,
    mut command: impl FnMut() -> Command<T>,
) -> Result<Vec<usize>, Refusal> {
    loop {
        // Locked in one order, so that two callers do not wait for each other.
        let mut queues: Vec<_> = senders.iter().map(|sender| sender.common.lock()).collect();
        let asked = command();
        let check = |at: usize| queues[at].check(&asked, senders[at].common.bytes_max);
        let checks: Vec<_> = (0..senders.len()).map(check).collect();
        if let Some(full) = checks.iter().position(|check| *check == Err(Refusal::Full)) {
            if !may_wait {
                return Err(Refusal::Full);
            }
            let queue = queues.swap_remove(full);
            drop(queues);
            drop(senders[full].common.space.wait(queue));
            continue;
        }
        let taking: Vec<usize> = (0..senders.len()).filter(|at| checks[*at].is_ok()).collect();
        if taking.is_empty() {
            return Err(Refusal::Stopped);
        }
        taking.iter().for_each(|at| senders[*at].common.push(&mut queues[*at], command()));
        drop(queues);
        return Ok(taking.into_iter().filter(|at| senders[*at].common.must_wake()).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(len: usize) -> Command<()> {
        Command::Send(Token { index: 0, generation: 1 }, EncodedMessage::new(&vec![7; len][..]))
    }

    #[test]
    fn a_full_mailbox_is_an_error_and_loses_nothing() {
        let (sender, mut mailbox) = mailbox(3000);
        assert_eq!(sender.post(send(1000)), Ok(true), "the first command wakes the worker");
        assert_eq!(sender.post(send(1000)), Ok(false), "one wake serves both commands");
        assert_eq!(sender.post(send(1000)), Err(Refusal::Full), "3000 bytes and three frames");
        mailbox.acknowledge_wake();
        assert!(mailbox.take().is_some() && mailbox.take().is_some());
        assert!(mailbox.take().is_none());
        assert_eq!(sender.post(send(1000)), Ok(true), "the next command wakes the worker again");
        drop(mailbox);
        assert_eq!(sender.post(send(1)), Err(Refusal::Stopped));
        assert_eq!(sender.post_blocking(send(1)), Err(Refusal::Stopped));
    }

    #[test]
    fn an_empty_mailbox_takes_a_message_of_any_size() {
        let (sender, mut mailbox) = mailbox(10);
        assert!(sender.post(send(1000)).is_ok());
        assert_eq!(sender.post(send(0)), Err(Refusal::Full));
        assert!(mailbox.take().is_some());
        assert!(sender.post(send(1000)).is_ok());
    }

    #[test]
    fn a_blocked_sender_continues_when_the_worker_takes_the_commands_or_ends() {
        let (sender, mut mailbox) = mailbox(10);
        assert!(sender.post(send(0)).is_ok());
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| sender.post_blocking(send(1)));
            while mailbox.take().is_none_or(|command| command.bytes() == send(0).bytes()) {}
            assert!(blocked.join().expect("no panic").is_ok());
            assert!(sender.post(send(0)).is_ok());
            let blocked = scope.spawn(|| sender.post_blocking(send(1)));
            drop(mailbox);
            assert_eq!(blocked.join().expect("no panic"), Err(Refusal::Stopped));
        });
    }

    #[test]
    fn a_command_for_all_is_posted_to_all_or_none() {
        let (a, mut mailbox_a) = mailbox(10);
        let (b, mut mailbox_b) = mailbox(10);
        let broadcast = || Command::Broadcast(EncodedMessage::new("x"));
        assert!(b.post(send(0)).is_ok());
        assert_eq!(post_to_all(&[&a, &b], false, broadcast), Err(Refusal::Full));
        assert!(mailbox_a.take().is_none());
        assert!(mailbox_b.take().is_some());
        assert_eq!(post_to_all(&[&a, &b], false, broadcast), Ok(vec![0]), "the second is awake");
        assert!(mailbox_a.take().is_some() && mailbox_b.take().is_some());
        drop(mailbox_a);
        assert!(post_to_all(&[&a, &b], false, broadcast).is_ok(), "a worker that has ended");
        drop(mailbox_b);
        assert_eq!(post_to_all(&[&a, &b], false, broadcast), Err(Refusal::Stopped));
    }

    #[test]
    fn a_drain_follows_the_commands_before_it_and_refuses_later_messages() {
        let (sender, mut mailbox) = mailbox(1000);
        let deadline = Instant::now();
        assert!(sender.post(send(0)).is_ok());
        assert!(sender.post(send(0)).is_ok());
        sender.drain(deadline);
        assert_eq!(sender.post(send(0)), Err(Refusal::Stopped));
        let close = Command::Close(Token { index: 0, generation: 1 }, CloseCode::NORMAL, "".into());
        assert!(sender.post(close).is_ok());
        assert!(mailbox.take().is_some());
        assert_eq!(mailbox.drain_deadline(), None, "a message before the drain is left");
        assert!(mailbox.take().is_some() && mailbox.take().is_some());
        assert_eq!(mailbox.drain_deadline(), Some(deadline));
    }

    #[test]
    fn a_worker_may_post_to_one_that_drains_until_its_link_is_closed() {
        let (sender, mut mailbox) = mailbox(1000);
        sender.open_link();
        sender.drain(Instant::now());
        assert_eq!(sender.post(send(0)), Err(Refusal::Stopped));
        assert!(sender.post_or_wait(send(0), 1).is_ok());
        assert!(mailbox.take().is_some() && mailbox.take().is_none());
        assert!(mailbox.has_open_links());
        mailbox.acknowledge_wake();
        assert!(sender.post_or_wait(send(0), 1).is_ok());
        sender.close_link();
        assert!(mailbox.take().is_some());
        assert!(!mailbox.has_open_links());
    }
}

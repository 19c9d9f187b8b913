//! A bounded queue of commands from other threads to a worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::slots::Token;
use crate::connection_info::Address;
use crate::open_peers::OpenPeers;
use crate::protocol::{CloseCode, EncodedMessage};

/// An action that another thread asks of a worker. `T` is the type of sockets.
#[derive(Debug)]
pub enum Command<T> {
    /// Send a message to a connection.
    Send(Token, EncodedMessage),
    /// Start the closing handshake of a connection.
    Close(Token, CloseCode, Box<str>),
    /// Take over a socket that another thread accepted.
    Adopt(T, Address),
}

/// Creates the two ends of a mailbox for `capacity` commands.
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Mailbox<T>) {
    let (sender, receiver) = sync_channel(capacity);
    let common = Arc::new(Common::default());
    (Sender { sender, common: Arc::clone(&common) }, Mailbox { receiver, common })
}

/// The state that both ends share.
#[derive(Debug, Default)]
struct Common {
    /// Set when a sender wakes the worker, cleared when the worker reads the mailbox. So one wake
    /// serves many commands.
    woken: AtomicBool,
    /// The connections that other threads can send to.
    peers: OpenPeers,
    /// The deadline of the drain, if a shutdown has begun. It is not a command, so a full queue
    /// cannot block a shutdown.
    drain_deadline: Mutex<Option<Instant>>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Mailbox<T> {
    receiver: Receiver<Command<T>>,
    common: Arc<Common>,
}

impl<T> Mailbox<T> {
    /// Takes the next command, if the queue is not empty.
    pub(super) fn take(&self) -> Option<Command<T>> {
        // A server whose last handle has been dropped keeps running, so a disconnect is no error.
        self.receiver.try_recv().ok()
    }

    /// Lets the next command wake the worker again. Called before the worker reads the mailbox;
    /// otherwise a command posted in between would wait for the next wake.
    pub(super) fn acknowledge_wake(&self) {
        self.common.woken.store(false, Ordering::SeqCst);
    }

    /// The deadline of the drain, if a shutdown has begun.
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        *lock(&self.common.drain_deadline)
    }

    /// The list of open connections. Each connection adds and removes its own id.
    pub(super) fn peers(&self) -> &OpenPeers {
        &self.common.peers
    }
}

/// The other threads' end.
#[derive(Debug)]
pub struct Sender<T> {
    sender: SyncSender<Command<T>>,
    common: Arc<Common>,
}

impl<T> Sender<T> {
    /// Appends a command to the queue. `Ok(true)` means that the caller must wake the worker.
    ///
    /// # Errors
    ///
    /// Returns the command if the queue is full or the worker has ended.
    pub fn post(&self, command: Command<T>) -> Result<bool, TrySendError<Command<T>>> {
        self.sender.try_send(command)?;
        Ok(self.must_wake())
    }

    /// Begins a shutdown: the worker carries out the commands posted before, stops accepting,
    /// closes every connection with 1001, and ends after the last one, at the latest at `deadline`.
    /// `true` means that the caller must wake the worker.
    pub fn drain(&self, deadline: Instant) -> bool {
        let mut current = lock(&self.common.drain_deadline);
        // A worker that drains relies on this: its deadline only moves nearer.
        *current = Some(current.map_or(deadline, |current| current.min(deadline)));
        self.must_wake()
    }

    fn must_wake(&self) -> bool {
        !self.common.woken.swap(true, Ordering::SeqCst)
    }

    /// Whether `token` belongs to an open connection: its handshake has succeeded, and its
    /// `on_close` callback has not been called.
    #[must_use]
    pub fn is_open(&self, token: Token) -> bool {
        self.common.peers.contains(token.index, token.generation)
    }
}

/// Ignores poisoning: the locked value is replaced in one step, so a panic leaves it consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_is_an_error_and_loses_nothing() {
        let (sender, mailbox) = mailbox::<char>(2);
        let address = Address::Tcp(([127, 0, 0, 1], 1).into());
        assert!(
            sender.post(Command::Adopt('a', address.clone())).unwrap(),
            "the first command wakes the worker"
        );
        assert!(
            !sender.post(Command::Adopt('b', address.clone())).unwrap(),
            "one wake serves both commands"
        );
        assert!(matches!(
            sender.post(Command::Adopt('c', address.clone())),
            Err(TrySendError::Full(_))
        ));
        mailbox.acknowledge_wake();
        assert!(matches!(mailbox.take(), Some(Command::Adopt('a', _))));
        assert!(matches!(mailbox.take(), Some(Command::Adopt('b', _))));
        assert!(mailbox.take().is_none());
        assert!(
            sender.post(Command::Adopt('d', address.clone())).unwrap(),
            "the next command wakes the worker again"
        );
        drop(mailbox);
        let gone = sender.post(Command::Adopt('e', address));
        assert!(matches!(gone, Err(TrySendError::Disconnected(_))));
    }
}

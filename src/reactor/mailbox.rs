//! What other threads ask of a worker: a bounded queue of commands, in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::slots::Token;
use crate::connection_info::Address;
use crate::open_peers::OpenPeers;
use crate::protocol::{CloseCode, EncodedMessage};

/// Something to do between two turns. `T` is a socket.
#[derive(Debug)]
pub enum Command<T> {
    /// Send a message to a connection.
    Send(Token, EncodedMessage),
    /// Start the closing handshake of a connection.
    Close(Token, CloseCode, Box<str>),
    /// Take over a socket that was accepted elsewhere.
    Adopt(T, Address),
}

/// Makes both ends of a mailbox for `capacity` commands.
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Mailbox<T>) {
    let (sender, receiver) = sync_channel(capacity);
    let common = Arc::new(Common::default());
    (Sender { sender, common: Arc::clone(&common) }, Mailbox { receiver, common })
}

/// What both ends see.
#[derive(Debug, Default)]
struct Common {
    /// Whether the worker has been woken and has not looked yet: one wake serves many commands.
    woken: AtomicBool,
    /// The connections that other threads can send to.
    peers: OpenPeers,
    /// When the worker has to be done, if it has been asked to end. Beside the queue, so that a
    /// full one cannot stand in its way.
    drain_deadline: Mutex<Option<Instant>>,
}

/// The worker's end.
#[derive(Debug)]
pub struct Mailbox<T> {
    receiver: Receiver<Command<T>>,
    common: Arc<Common>,
}

impl<T> Mailbox<T> {
    /// The next command; `None` if there is none now.
    pub(super) fn take(&self) -> Option<Command<T>> {
        // Without a handle left nothing will come, and the server runs on.
        self.receiver.try_recv().ok()
    }

    /// The worker is about to look: from now on a sender wakes it again.
    pub(super) fn acknowledge_wake(&self) {
        self.common.woken.store(false, Ordering::SeqCst);
    }

    /// When the worker has to be done, if it has been asked to end.
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
    /// Puts a command at the end of the queue. `Ok(true)` if the worker must be woken.
    ///
    /// # Errors
    ///
    /// The command, if the queue is full or the worker has ended.
    pub fn post(&self, command: Command<T>) -> Result<bool, TrySendError<Command<T>>> {
        self.sender.try_send(command)?;
        Ok(self.must_wake())
    }

    /// Asks the worker to stop accepting, close every connection with 1001, and end when the last
    /// is gone, at the latest at `deadline`. What was posted before is done before. `true` if the
    /// worker must be woken.
    pub fn drain(&self, deadline: Instant) -> bool {
        let mut current = lock(&self.common.drain_deadline);
        *current = Some(current.map_or(deadline, |current| current.min(deadline)));
        self.must_wake()
    }

    fn must_wake(&self) -> bool {
        !self.common.woken.swap(true, Ordering::SeqCst)
    }

    /// Whether `token` belongs to an open connection: its handshake has succeeded, and its `close`
    /// callback has not been called.
    #[must_use]
    pub fn is_open(&self, token: Token) -> bool {
        self.common.peers.contains(token.index, token.generation)
    }
}

/// What these locks guard is whole at every moment: a thread that panicked with one is no matter.
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
        assert!(sender.post(Command::Adopt('a', address.clone())).unwrap(), "the first wakes");
        assert!(!sender.post(Command::Adopt('b', address.clone())).unwrap(), "one wake is enough");
        assert!(matches!(
            sender.post(Command::Adopt('c', address.clone())),
            Err(TrySendError::Full(_))
        ));
        mailbox.acknowledge_wake();
        assert!(matches!(mailbox.take(), Some(Command::Adopt('a', _))));
        assert!(matches!(mailbox.take(), Some(Command::Adopt('b', _))));
        assert!(mailbox.take().is_none());
        assert!(sender.post(Command::Adopt('d', address.clone())).unwrap(), "wakes again");
        drop(mailbox);
        let gone = sender.post(Command::Adopt('e', address.clone()));
        assert!(matches!(gone, Err(TrySendError::Disconnected(_))));
    }
}

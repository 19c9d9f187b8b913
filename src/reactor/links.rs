//! The way from a worker to the other workers of its server.

use std::collections::VecDeque;
use std::sync::Arc;

use super::balance::{Load, least_loaded};
use super::mailbox::{Command, Refusal, Sender};
use crate::connection_info::Origin;
use crate::fanout::Publication;

/// The mailboxes of the other workers, and the messages that wait for space in them.
///
/// A worker never blocks on a full mailbox, or two workers that publish to each other could wait
/// for ever. It stops reading from its peers instead, and continues to empty its own mailbox.
#[derive(Debug)]
pub struct Links<T> {
    /// The number of this worker.
    own: u32,
    links: Vec<Link<T>>,
    bytes_max: usize,
}

/// The way to one other worker.
#[derive(Debug)]
struct Link<T> {
    worker: u32,
    mailbox: Sender<T>,
    /// One list per turn, oldest first.
    unsent: VecDeque<Arc<[Publication]>>,
    unsent_bytes: usize,
    /// No more is posted.
    is_closed: bool,
    /// The worker takes no more connections.
    has_ended: bool,
}

impl<T> Links<T> {
    /// The links of worker number `own`. `mailboxes` are those of all workers, in their order.
    #[must_use]
    pub fn new(own: u32, mailboxes: &[Sender<T>], bytes_max: usize) -> Self {
        let others = (0..).zip(mailboxes).filter(|(worker, _)| *worker != own);
        Self { own, links: others.map(|(worker, to)| Link::new(worker, to)).collect(), bytes_max }
    }

    /// Whether the server has no other worker.
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether so much is unsent that the worker must stop reading from its peers.
    pub(super) fn is_congested(&self) -> bool {
        self.links.iter().any(|link| link.unsent_bytes > self.bytes_max)
    }

    /// Posts a turn's messages to every other worker, in one command, behind those of earlier turns.
    /// Calls `wake` with the number of each worker to wake.
    pub(super) fn publish(&mut self, publications: Vec<Publication>, mut wake: impl FnMut(u32)) {
        let publications: Arc<[Publication]> = publications.into();
        for link in &mut self.links {
            if !publications.is_empty() {
                debug_assert!(!link.is_closed, "callbacks publish no more");
                link.unsent_bytes += bytes(&publications);
                link.unsent.push_back(Arc::clone(&publications));
            }
            link.post(self.own, &mut wake);
        }
    }

    /// Hands a connection over to the least loaded worker, whose number it gives to `wake`. Returns
    /// the connection if this worker, with the load `own`, must keep it.
    ///
    /// It does not wait for a full mailbox: that worker has more to do than this one.
    pub(super) fn hand_over(
        &mut self,
        own: &Load,
        stream: T,
        peer: Origin,
        wake: impl FnOnce(u32),
    ) -> Option<(T, Origin)> {
        let links = self.links.iter().enumerate();
        let takers = links.filter(|(_, link)| !link.is_closed && !link.has_ended);
        let loads = takers.map(|(index, link)| (index, link.mailbox.load()));
        let Some(index) = least_loaded(own, loads) else { return Some((stream, peer)) };
        let link = &mut self.links[index];
        match link.mailbox.hand_over(stream, peer) {
            Ok(must_wake) => {
                if must_wake {
                    wake(link.worker);
                }
                None
            }
            Err((refusal, stream, peer)) => {
                link.has_ended = refusal == Refusal::Stopped;
                Some((stream, peer))
            }
        }
    }

    /// Whether messages wait for space in a mailbox.
    pub(super) fn has_unsent(&self) -> bool {
        self.links.iter().any(|link| !link.unsent.is_empty())
    }

    /// Posts no more. The other workers, which wait for that before they drain, are woken.
    pub(super) fn close(&mut self, mut wake: impl FnMut(u32)) {
        for link in self.links.iter_mut().filter(|link| !link.is_closed) {
            link.close();
            if link.mailbox.must_wake() {
                wake(link.worker);
            }
        }
    }

    /// Wakes workers that waited for space in this worker's mailbox.
    pub(super) fn wake_waiting(&self, workers: &[u32], mut wake: impl FnMut(u32)) {
        for link in self.links.iter().filter(|link| workers.contains(&link.worker)) {
            if link.mailbox.must_wake() {
                wake(link.worker);
            }
        }
    }
}

impl<T> Link<T> {
    fn new(worker: u32, mailbox: &Sender<T>) -> Self {
        mailbox.open_link();
        let mailbox = mailbox.clone();
        Self {
            worker,
            mailbox,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            is_closed: false,
            has_ended: false,
        }
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.mailbox.close_link();
        }
    }

    /// Posts what the mailbox has space for.
    fn post(&mut self, own: u32, wake: &mut impl FnMut(u32)) {
        while let Some(publications) = self.unsent.front() {
            let command = Command::Relay(Arc::clone(publications));
            match self.mailbox.post_or_wait(command, own) {
                Ok(must_wake) => {
                    if must_wake {
                        wake(self.worker);
                    }
                    self.unsent_bytes -= bytes(publications);
                    self.unsent.pop_front();
                }
                Err(Refusal::Full) => return,
                Err(Refusal::Stopped) => {
                    self.unsent.clear();
                    self.unsent_bytes = 0;
                }
            }
        }
    }
}

/// A worker that has ended posts no more. No other worker is woken, so none may be marked as woken.
impl<T> Drop for Link<T> {
    fn drop(&mut self) {
        self.close();
    }
}

fn bytes(publications: &[Publication]) -> usize {
    publications.iter().map(Publication::bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::EncodedMessage;
    use crate::reactor::mailbox::mailbox;

    fn publications(len: usize) -> Vec<Publication> {
        let message = EncodedMessage::new(&vec![7; len][..]);
        vec![Publication { topic: "topic".into(), message }]
    }

    #[test]
    fn messages_without_space_wait_and_congest_the_worker_until_the_mailbox_is_read() {
        let (sender, mut mailbox) = mailbox::<()>(1000);
        let own = sender.clone();
        let mut links = Links::new(0, &[own, sender], 1000);
        let mut woken = Vec::new();
        for _ in 0..3 {
            links.publish(publications(900), |worker| woken.push(worker));
        }
        assert_eq!(woken, [1], "one wake serves all");
        assert!(links.is_congested(), "two are unsent");
        assert!(mailbox.take().is_some());
        assert_eq!(mailbox.take_waiting_workers(), [0]);
        links.publish(Vec::new(), |_| {});
        assert!(!links.is_congested(), "one is unsent");
        assert!(mailbox.take().is_some());
        links.publish(Vec::new(), |_| {});
        assert!(mailbox.take().is_some() && mailbox.take().is_none());
        assert_eq!(links.links[0].unsent_bytes, 0);
    }

    #[test]
    fn nothing_waits_for_a_worker_that_has_ended() {
        let (sender, mailbox) = mailbox::<()>(1000);
        let mut links = Links::new(1, &[sender], 1000);
        drop(mailbox);
        for _ in 0..3 {
            links.publish(publications(900), |_| panic!("it cannot be woken"));
        }
        assert!(!links.is_congested());
    }
}

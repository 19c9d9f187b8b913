//! Messages that wait for the turn of the connection that they go to.

use std::collections::VecDeque;

use slab::Slab;

use super::log::SharedFrames;
use super::slow_consumer::SlowConsumer;
use crate::stats::Counters;

/// A queue for each connection that a message waits for, and the order in which these connections
/// get a turn. Connections are named by their slots.
///
/// A connection takes its queue at the start of each of its turns, so that everything it sends
/// later follows.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    entries: Slab<Entry>,
    /// By slot; only as long as the highest slot that a message was sent to.
    queues: Vec<Queue>,
    /// Slots whose queue may hold messages, each once.
    listed: VecDeque<u32>,
    /// Connections of the current round that have not had their turn. A round gives one to each that
    /// was listed when it began.
    round: usize,
    /// Bytes of messages that came in this round, and in the one before it. The others have been
    /// taken by all connections.
    bytes: [usize; 2],
}

/// A linked list of entries.
#[derive(Clone, Copy, Debug)]
struct Queue {
    first: u32,
    last: u32,
    is_listed: bool,
}

/// The end of a linked list.
const END: u32 = u32::MAX;

#[derive(Debug)]
struct Entry {
    delivery: Delivery,
    next: u32,
}

/// Frames for one connection.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) frames: SharedFrames,
    pub(crate) source: Source,
}

impl Delivery {
    /// Counts messages whose connection cannot take them any more.
    pub(crate) fn count_stale(&self, counters: &Counters) {
        // A subscription ends with its connection, which needs no later message of the topic.
        if self.source == Source::Direct {
            counters.stale_sends.add(self.frames.messages().into());
        }
    }
}

/// Where the frames of a delivery come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// They were sent to this connection.
    Direct,
    /// They were published to a topic, named by its id, that the connection subscribes to.
    Topic(u32, SlowConsumer),
}

impl Source {
    /// The policy for a peer that does not read.
    pub(crate) const fn policy(self) -> SlowConsumer {
        match self {
            Self::Direct => SlowConsumer::Close,
            Self::Topic(_, policy) => policy,
        }
    }

    /// The topic whose unsent message a newer one replaces.
    pub(crate) fn replaces(self) -> Option<u32> {
        match self {
            Self::Topic(topic, SlowConsumer::Latest) => Some(topic),
            _ => None,
        }
    }
}

impl Deliveries {
    /// Whether no message waits.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Counts a message that is queued for one or more connections.
    pub(crate) const fn count(&mut self, bytes: usize) {
        self.bytes[0] += bytes;
    }

    /// Bytes of messages that may still wait, each counted once.
    pub(crate) fn waiting_bytes(&self) -> usize {
        if self.is_empty() { 0 } else { self.bytes[0] + self.bytes[1] }
    }

    /// Whether a message waits for the connection in `slot`.
    #[inline]
    pub(crate) fn has(&self, slot: u32) -> bool {
        !self.is_empty() && self.first(slot) != END
    }

    /// Whether more than one delivery waits for the connection in `slot`.
    pub(crate) fn has_several(&self, slot: u32) -> bool {
        self.queues.get(slot as usize).is_some_and(|queue| queue.first != queue.last)
    }

    /// Queues frames for the connection in `slot`.
    pub(crate) fn push(&mut self, slot: u32, frames: &SharedFrames, source: Source) {
        let at = slot as usize;
        if at >= self.queues.len() {
            self.queues.resize(at + 1, Queue { first: END, last: END, is_listed: false });
        }
        let queue = &mut self.queues[at];
        // Messages of which only the latest counts stay apart, so that each can be removed.
        if queue.last != END && source.replaces().is_none() {
            let last = &mut self.entries[queue.last as usize].delivery;
            if last.source == source && last.frames.extend(frames) {
                return;
            }
        }
        let delivery = Delivery { frames: frames.clone(), source };
        let entry = self.entries.insert(Entry { delivery, next: END }) as u32;
        match queue.last {
            END => queue.first = entry,
            last => self.entries[last as usize].next = entry,
        }
        queue.last = entry;
        if !queue.is_listed {
            queue.is_listed = true;
            self.listed.push_back(slot);
        }
    }

    /// Takes the next delivery for the connection in `slot`.
    pub(crate) fn take(&mut self, slot: u32) -> Option<Delivery> {
        let first = self.first(slot);
        if first == END {
            return None;
        }
        let Entry { delivery, next } = self.entries.remove(first as usize);
        let queue = &mut self.queues[slot as usize];
        queue.first = next;
        if next == END {
            queue.last = END;
        }
        Some(delivery)
    }

    /// Drops the messages for the connection in `slot`, which has ended.
    pub(crate) fn clear(&mut self, slot: u32, counters: &Counters) {
        while let Some(delivery) = self.take(slot) {
            delivery.count_stale(counters);
        }
    }

    /// The next connection that needs a turn to take its messages.
    pub(crate) fn next_slot(&mut self) -> Option<u32> {
        while let Some(slot) = self.listed.pop_front() {
            if self.round == 0 {
                self.round = self.listed.len() + 1;
                self.bytes = [0, self.bytes[0]];
            }
            self.round -= 1;
            self.queues[slot as usize].is_listed = false;
            // The queue is empty if the connection has had a turn since.
            if self.first(slot) != END {
                return Some(slot);
            }
        }
        None
    }

    fn first(&self, slot: u32) -> u32 {
        self.queues.get(slot as usize).map_or(END, |queue| queue.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::log::Log;
    use crate::protocol::EncodedMessage;

    const TOPIC: Source = Source::Topic(3, SlowConsumer::Close);

    fn texts(deliveries: &mut Deliveries, slot: u32) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| deliveries.take(slot)).map(|it| it.frames.bytes().to_vec()).collect()
    }

    #[test]
    fn each_connection_is_listed_once_and_takes_its_messages_in_order() {
        let mut deliveries = Deliveries::default();
        let [a, b] = ["a", "b"].map(|text| SharedFrames::from(EncodedMessage::new(text)));
        for slot in [7, 2, 7] {
            deliveries.push(slot, &a, Source::Direct);
            deliveries.push(slot, &b, Source::Direct);
        }
        assert!(deliveries.has(7) && deliveries.has(2) && !deliveries.has(3));
        assert_eq!(deliveries.next_slot(), Some(7));
        assert!(deliveries.has(7), "it waits until it is taken");
        let (a, b) = (b"\x81\x01a".to_vec(), b"\x81\x01b".to_vec());
        assert_eq!(texts(&mut deliveries, 7), [&a, &b, &a, &b].map(Clone::clone));
        assert_eq!(texts(&mut deliveries, 2), [a, b], "a turn of its own came first");
        assert_eq!(deliveries.next_slot(), None);
        assert!(deliveries.is_empty());
    }

    #[test]
    fn a_message_counts_until_all_connections_have_had_a_turn() {
        let mut deliveries = Deliveries::default();
        let frames = SharedFrames::from(EncodedMessage::new("x"));
        let serve = |deliveries: &mut Deliveries| {
            let slot = deliveries.next_slot()?;
            while deliveries.take(slot).is_some() {}
            Some(slot)
        };
        for number in 1..=100 {
            deliveries.count(frames.len());
            (0..2).for_each(|slot| deliveries.push(slot, &frames, Source::Direct));
            assert!(serve(&mut deliveries).is_some(), "one of two, so that a message always waits");
            let waiting = deliveries.waiting_bytes() / frames.len();
            assert!((1..=4).contains(&waiting), "{waiting} of {number} messages");
        }
        while serve(&mut deliveries).is_some() {}
        assert_eq!(deliveries.waiting_bytes(), 0);
    }

    #[test]
    fn frames_that_follow_each_other_in_a_log_are_one_delivery() {
        let (mut deliveries, mut log) = (Deliveries::default(), Log::default());
        for text in ["a", "b"] {
            let frames = log.append(&EncodedMessage::new(text));
            deliveries.push(0, &frames, TOPIC);
            deliveries.push(1, &frames, Source::Topic(3, SlowConsumer::Latest));
        }
        assert!(!deliveries.has_several(0) && deliveries.has_several(1));
        assert_eq!(texts(&mut deliveries, 0), [b"\x81\x01a\x81\x01b".to_vec()]);
        assert_eq!(texts(&mut deliveries, 1), [b"\x81\x01a".to_vec(), b"\x81\x01b".to_vec()]);
    }
}

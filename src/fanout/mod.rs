//! One message to many connections of a worker: topics, and the messages that wait for their
//! connections' turns.
//!
//! ```text
//!   publish ──► topics: who subscribes? ──► log: one copy ──► deliveries: a queue per connection
//!   send to another connection ───────────────────────────────────▲
//! ```
//!
//! A callback asks for effects ([`Effect`]), which the worker carries out in order when the turn of
//! the callback's own connection has ended. They queue messages. A connection takes its queue at the
//! start of its next turn, which the worker gives it soon, and writes all of it with one call.

pub(crate) mod topics;
pub(crate) mod deliveries;
pub(crate) mod log;
pub(crate) mod slow_consumer;

use std::mem;
use std::sync::Arc;

use self::deliveries::{Deliveries, Source};
use self::log::Log;
use self::topics::Topics;
use crate::config::Config;
use crate::peer_id::PeerId;
use crate::protocol::{CloseCode, EncodedMessage};

/// The part of a worker that reaches several connections. Lent to each connection in its turn.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) topics: Topics,
    pub(crate) deliveries: Deliveries,
    /// Messages to every connection.
    everyone: Log,
    /// Requests of callbacks, until they are carried out.
    effects: Vec<Effect>,
    /// The work that these cause, in events of a turn.
    pub(crate) events: u32,
    /// Copies for the callback's own connection. They precede its next message.
    pub(crate) own: Vec<EncodedMessage>,
    /// Messages of this turn for the subscribers of other workers, which are posted in one command.
    /// `None` without other workers.
    outgoing: Option<Vec<Publication>>,
    /// Bytes of the messages to topics that callbacks published in this turn.
    published_bytes: usize,
    /// When more bytes are published in a turn, or by a callback, no more may follow.
    published_bytes_max: usize,
    /// Messages of this turn that were not published, because the callback had published too much.
    refused: u32,
    is_stopped: bool,
}

/// A message to the subscribers of a topic.
#[derive(Clone, Debug)]
pub struct Publication {
    pub(crate) topic: Arc<str>,
    pub(crate) message: EncodedMessage,
}

impl Publication {
    /// A message to the subscribers of `topic`.
    #[must_use]
    pub fn new(topic: &str, message: EncodedMessage) -> Self {
        Self { topic: topic.into(), message }
    }

    /// The memory that it holds, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.topic.len() + self.message.as_frame().len()
    }
}

/// A request of a callback, for the worker to carry out.
#[derive(Debug)]
pub(crate) enum Effect {
    Send(PeerId, EncodedMessage),
    Close(PeerId, CloseCode, Box<str>),
    /// End the handler's pause of reading.
    ResumeReading(PeerId),
    /// Send to all subscribers of the topic, except to the connection in this slot.
    Publish(Publication, u32),
}

/// Deliveries that cost as much as one event. A delivery is queued much faster than a message is
/// received.
const DELIVERIES_PER_EVENT: usize = 64;

impl Fanout {
    /// `is_alone` if the server has no other worker.
    pub(crate) fn new(config: &Config, is_alone: bool) -> Self {
        Self {
            topics: Topics::new(config),
            deliveries: Deliveries::default(),
            everyone: Log::default(),
            effects: Vec::new(),
            events: 0,
            own: Vec::new(),
            outgoing: (!is_alone).then(Vec::new),
            published_bytes: 0,
            published_bytes_max: config.mailbox_bytes_max,
            refused: 0,
            is_stopped: false,
        }
    }

    /// Records a request of a callback.
    pub(crate) fn ask(&mut self, effect: Effect) {
        self.events += 1;
        self.effects.push(effect);
    }

    /// Records a message of a callback to a topic, for the subscribers of all workers except the
    /// connection in slot `except`. `false` if the callback has published too much already, of which
    /// `before` is the number of bytes, or after [`stop`](Self::stop).
    pub(crate) fn ask_to_publish(
        &mut self,
        publication: Publication,
        except: u32,
        before: usize,
    ) -> bool {
        if self.is_stopped {
            return false;
        }
        if before > self.published_bytes_max {
            self.refused += 1;
            return false;
        }
        self.published_bytes += publication.bytes();
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.push(publication.clone());
        }
        let subscribers = self.topics.subscribers(&publication.topic);
        self.events += (subscribers / DELIVERIES_PER_EVENT) as u32;
        self.ask(Effect::Publish(publication, except));
        true
    }

    /// Refuses messages to topics from now on, because the server shuts down.
    pub(crate) const fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Whether so much has been published in this turn that no further callback may add to it.
    #[inline]
    pub(crate) const fn is_congested(&self) -> bool {
        self.published_bytes > self.published_bytes_max
    }

    /// Takes the messages of this turn for the subscribers of other workers, and the number of those
    /// that were refused.
    pub(crate) fn take_outgoing(&mut self) -> (Vec<Publication>, u32) {
        self.published_bytes = 0;
        let publications = self.outgoing.as_mut().map(mem::take).unwrap_or_default();
        (publications, mem::take(&mut self.refused))
    }

    #[inline]
    pub(crate) const fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Takes the requests so far. Give the empty vector back with [`recycle`](Self::recycle).
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        self.events = 0;
        mem::take(&mut self.effects)
    }

    /// Keeps the memory of taken requests, unless there are new ones.
    pub(crate) fn recycle(&mut self, effects: Vec<Effect>) {
        debug_assert!(effects.is_empty(), "all requests are carried out");
        if self.effects.is_empty() {
            self.effects = effects;
        }
    }

    /// Queues a message for all subscribers of a topic, except for the connection in slot `except`.
    pub(crate) fn publish(&mut self, publication: &Publication, except: Option<u32>) {
        let Publication { topic, message } = publication;
        self.topics.publish(topic, message, except, &mut self.deliveries);
    }

    /// Queues messages for all subscribers of their topics.
    pub(crate) fn publish_all(&mut self, publications: &[Publication]) {
        for publication in publications {
            self.publish(publication, None);
        }
    }

    /// Queues a message for the connections in these slots.
    pub(crate) fn broadcast(&mut self, message: &EncodedMessage, slots: impl Iterator<Item = u32>) {
        let frames = self.everyone.append(message);
        self.deliveries.count(frames.len());
        slots.for_each(|slot| self.deliveries.push(slot, &frames, Source::Direct));
    }
}

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

use std::sync::Arc;

use self::deliveries::Deliveries;
use self::topics::Topics;
use crate::config::Config;
use crate::peer_id::PeerId;
use crate::protocol::{CloseCode, EncodedMessage};

/// The part of a worker that reaches several connections. Lent to each connection in its turn.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) topics: Topics,
    pub(crate) deliveries: Deliveries,
    /// Requests of callbacks, until they are carried out.
    effects: Vec<Effect>,
    /// The work that these cause, in events of a turn.
    pub(crate) events: u32,
    /// Copies for the callback's own connection. They precede its next message.
    pub(crate) own: Vec<EncodedMessage>,
}

/// A request of a callback, for the worker to carry out.
#[derive(Debug)]
pub(crate) enum Effect {
    Send(PeerId, EncodedMessage),
    Close(PeerId, CloseCode, Box<str>),
    /// Send to all subscribers of the topic, except to the connection in this slot.
    Publish(Arc<str>, EncodedMessage, Option<u32>),
}

/// Deliveries that cost as much as one event. A delivery is queued much faster than a message is
/// received.
const DELIVERIES_PER_EVENT: usize = 64;

impl Fanout {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            topics: Topics::new(config),
            deliveries: Deliveries::default(),
            effects: Vec::new(),
            events: 0,
            own: Vec::new(),
        }
    }

    /// Records a request of a callback.
    pub(crate) fn ask(&mut self, effect: Effect) {
        self.events += 1;
        if let Effect::Publish(topic, ..) = &effect {
            self.events += (self.topics.subscribers(topic) / DELIVERIES_PER_EVENT) as u32;
        }
        self.effects.push(effect);
    }

    #[inline]
    pub(crate) const fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Takes the requests so far. Give the empty vector back with [`recycle`](Self::recycle).
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        self.events = 0;
        std::mem::take(&mut self.effects)
    }

    /// Keeps the memory of taken requests, unless there are new ones.
    pub(crate) fn recycle(&mut self, effects: Vec<Effect>) {
        debug_assert!(effects.is_empty(), "all requests are carried out");
        if self.effects.is_empty() {
            self.effects = effects;
        }
    }

    /// Queues a message for all subscribers of a topic, except for the connection in slot `except`.
    pub(crate) fn publish(&mut self, topic: &str, message: &EncodedMessage, except: Option<u32>) {
        self.topics.publish(topic, message, except, &mut self.deliveries);
    }
}

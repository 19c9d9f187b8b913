//! The topics of a worker and their subscribers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use slab::Slab;

use super::deliveries::{Deliveries, Source};
use super::log::Log;
use super::slow_consumer::SlowConsumer;
use crate::config::Config;
use crate::protocol::EncodedMessage;

/// The topics that connections of this worker subscribe to. Connections are named by their slots.
#[derive(Debug)]
pub(crate) struct Topics {
    by_name: HashMap<Arc<str>, u32>,
    topics: Slab<Topic>,
    subscriptions: Slab<Subscription>,
    /// By slot, the first subscription of the connection; only as long as the highest slot that has
    /// subscribed.
    firsts: Vec<u32>,
    topic_bytes_max: usize,
    topics_per_peer_max: usize,
    /// The id of the next topic.
    next_id: u32,
}

#[derive(Debug)]
struct Topic {
    /// Unlike a key, it is not given to another topic soon, for queued messages name it.
    id: u32,
    name: Arc<str>,
    log: Log,
    members: Vec<Member>,
}

/// A subscription, as its topic sees it.
#[derive(Clone, Copy, Debug)]
struct Member {
    slot: u32,
    /// The key of the subscription.
    subscription: u32,
    policy: SlowConsumer,
}

/// A subscription, as its connection sees it.
#[derive(Clone, Copy, Debug)]
struct Subscription {
    /// The key of the topic.
    topic: u32,
    /// The index among the topic's members.
    member: u32,
    /// The next subscription of the same connection.
    next: u32,
}

/// The end of a linked list.
const END: u32 = u32::MAX;

impl Topics {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            by_name: HashMap::new(),
            topics: Slab::new(),
            subscriptions: Slab::new(),
            firsts: Vec::new(),
            topic_bytes_max: config.topic_bytes_max,
            topics_per_peer_max: config.topics_per_peer_max,
            next_id: 0,
        }
    }

    /// Subscribes the connection in `slot`. `false` if it had subscribed before: then only the
    /// policy changes.
    pub(crate) fn subscribe(
        &mut self,
        slot: u32,
        name: &str,
        policy: SlowConsumer,
    ) -> Result<bool, SubscribeError> {
        if let Some(subscription) = self.find(slot, name) {
            let Subscription { topic, member, .. } = self.subscriptions[subscription as usize];
            self.topics[topic as usize].members[member as usize].policy = policy;
            return Ok(false);
        }
        if name.len() > self.topic_bytes_max {
            return Err(SubscribeError::NameTooLong);
        }
        if self.of(slot).count() >= self.topics_per_peer_max {
            return Err(SubscribeError::TooManyTopics);
        }
        let topic = self.topic(name);
        let members = &mut self.topics[topic as usize].members;
        let at = slot as usize;
        if at >= self.firsts.len() {
            self.firsts.resize(at + 1, END);
        }
        let member = members.len() as u32;
        let next = self.firsts[at];
        let subscription = self.subscriptions.insert(Subscription { topic, member, next }) as u32;
        self.firsts[at] = subscription;
        members.push(Member { slot, subscription, policy });
        Ok(true)
    }

    /// Ends a subscription of the connection in `slot`. `false` if it has none.
    pub(crate) fn unsubscribe(&mut self, slot: u32, name: &str) -> bool {
        let Some(found) = self.find(slot, name) else { return false };
        let next = self.subscriptions[found as usize].next;
        let before = self.of(slot).find(|it| self.subscriptions[*it as usize].next == found);
        match before {
            Some(before) => self.subscriptions[before as usize].next = next,
            None => self.firsts[slot as usize] = next,
        }
        self.end(found);
        true
    }

    /// Ends all subscriptions of the connection in `slot`.
    pub(crate) fn unsubscribe_all(&mut self, slot: u32) {
        let Some(first) = self.firsts.get_mut(slot as usize) else { return };
        let mut subscription = std::mem::replace(first, END);
        while subscription != END {
            let next = self.subscriptions[subscription as usize].next;
            self.end(subscription);
            subscription = next;
        }
    }

    /// Whether the connection in `slot` subscribes to the topic.
    pub(crate) fn is_subscribed(&self, slot: u32, name: &str) -> bool {
        self.find(slot, name).is_some()
    }

    /// The number of subscribers.
    pub(crate) fn subscribers(&self, name: &str) -> usize {
        self.by_name.get(name).map_or(0, |topic| self.topics[*topic as usize].members.len())
    }

    /// The shared name of a topic.
    pub(crate) fn name(&self, name: &str) -> Arc<str> {
        self.by_name.get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name))
    }

    /// Queues a message for all subscribers except the connection in slot `except`.
    pub(crate) fn publish(
        &mut self,
        name: &str,
        message: &EncodedMessage,
        except: Option<u32>,
        deliveries: &mut Deliveries,
    ) {
        let Some(key) = self.by_name.get(name) else { return };
        let topic = &mut self.topics[*key as usize];
        let frames = topic.log.append(message);
        deliveries.count(frames.len());
        for member in &topic.members {
            if Some(member.slot) != except {
                deliveries.push(member.slot, &frames, Source::Topic(topic.id, member.policy));
            }
        }
    }

    /// The key of the topic, which is created if it does not exist.
    fn topic(&mut self, name: &str) -> u32 {
        if let Some(topic) = self.by_name.get(name) {
            return *topic;
        }
        let name: Arc<str> = name.into();
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let topic = Topic { id, name: Arc::clone(&name), log: Log::default(), members: Vec::new() };
        let key = self.topics.insert(topic) as u32;
        self.by_name.insert(name, key);
        key
    }

    /// The keys of the subscriptions of the connection in `slot`.
    fn of(&self, slot: u32) -> impl Iterator<Item = u32> {
        let first = self.firsts.get(slot as usize).copied().unwrap_or(END);
        let end_as_none = |key: u32| (key != END).then_some(key);
        std::iter::successors(end_as_none(first), move |key| {
            end_as_none(self.subscriptions[*key as usize].next)
        })
    }

    /// The key of the subscription of the connection in `slot` to the topic.
    fn find(&self, slot: u32, name: &str) -> Option<u32> {
        let topic = *self.by_name.get(name)?;
        self.of(slot).find(|key| self.subscriptions[*key as usize].topic == topic)
    }

    /// Removes a subscription from its topic, and the topic after its last subscription.
    fn end(&mut self, subscription: u32) {
        let Subscription { topic: key, member, .. } =
            self.subscriptions.remove(subscription as usize);
        let topic = &mut self.topics[key as usize];
        topic.members.swap_remove(member as usize);
        if let Some(moved) = topic.members.get(member as usize) {
            self.subscriptions[moved.subscription as usize].member = member;
        }
        if topic.members.is_empty() {
            let topic = self.topics.remove(key as usize);
            self.by_name.remove(&topic.name);
        }
    }
}

/// Why a connection cannot subscribe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The topic's name is longer than [`Config::topic_bytes_max`](crate::Config::topic_bytes_max).
    NameTooLong,
    /// The connection subscribes to
    /// [`Config::topics_per_peer_max`](crate::Config::topics_per_peer_max) topics already.
    TooManyTopics,
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameTooLong => "the topic's name is longer than topic_bytes_max",
            Self::TooManyTopics => {
                "the connection subscribes to topics_per_peer_max topics already"
            }
        })
    }
}

impl std::error::Error for SubscribeError {}

//! The published messages of a broadcast run that are not yet delivered to all.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use crate::bulletins::{Bulletins, Identity};
use crate::recorder::Recorder;

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) bulletins: Bulletins,
    pub(crate) publishers: Vec<Publisher>,
    /// Connections that receive.
    pub(crate) members: u32,
    /// Messages that are not yet delivered to all.
    pub(crate) outstanding: u64,
    /// Messages delivered to all in the measured time, and the times from sending each to its last
    /// delivery.
    pub(crate) published: u64,
    pub(crate) last_ns: Histogram<u64>,
}

/// The messages of one publisher that are not yet delivered to all.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    /// The number of the first of `pending`.
    pub(crate) first: u64,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) has_failed: bool,
}

#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) sent_at: u64,
    pub(crate) missing: u32,
}

impl Board {
    pub(crate) fn is_published(&self, Identity { publisher, number }: Identity) -> bool {
        let publisher = self.publishers.get(publisher as usize);
        publisher.is_some_and(|state| {
            // The last messages of a failed publisher may still arrive.
            state.has_failed || number < state.first + state.pending.len() as u64
        })
    }

    /// Counts one delivery of a message. Returns whether its publisher may now send more.
    pub(crate) fn deliver(
        &mut self,
        identity: Identity,
        recorder: &mut Recorder,
        now: u64,
    ) -> bool {
        let state = &mut self.publishers[identity.publisher as usize];
        let index = identity.number.checked_sub(state.first);
        let pending = index.and_then(|index| state.pending.get_mut(index as usize));
        let Some(pending) = pending else { return false };
        recorder.latency(pending.sent_at, 1, now);
        pending.missing -= 1;
        pending.missing == 0 && self.complete(identity.publisher, recorder, now)
    }

    /// Removes the messages that are delivered to all. Returns whether there was one.
    fn complete(&mut self, publisher: u32, recorder: &Recorder, now: u64) -> bool {
        let state = &mut self.publishers[publisher as usize];
        let before = state.pending.len();
        while state.pending.front().is_some_and(|pending| pending.missing == 0) {
            let Some(done) = state.pending.pop_front() else { break };
            state.first += 1;
            self.outstanding -= 1;
            if recorder.takes_latencies(now) {
                self.last_ns.saturating_record(now.saturating_sub(done.sent_at));
            }
            self.published += u64::from(recorder.counts(now));
        }
        state.pending.len() < before
    }

    /// A receiver has failed: does not wait for the deliveries to it from message `next` on.
    /// Returns their number.
    pub(crate) fn skip(&mut self, publisher: u32, next: u64, recorder: &Recorder, now: u64) -> u64 {
        let state = &mut self.publishers[publisher as usize];
        let received = next.saturating_sub(state.first) as usize;
        let mut skipped = 0;
        for pending in state.pending.iter_mut().skip(received) {
            pending.missing -= 1;
            skipped += 1;
        }
        self.complete(publisher, recorder, now);
        skipped
    }

    /// A connection has failed: if it is a publisher, does not wait for its messages. Returns the
    /// number of missing deliveries.
    pub(crate) fn fail(&mut self, connection: u32) -> u64 {
        let Some(state) = self.publishers.get_mut(connection as usize) else { return 0 };
        let missing = state.pending.iter().map(|pending| u64::from(pending.missing)).sum();
        self.outstanding -= state.pending.len() as u64;
        state.first += state.pending.len() as u64;
        state.pending.clear();
        state.has_failed = true;
        missing
    }
}

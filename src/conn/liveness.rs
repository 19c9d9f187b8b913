//! Acknowledgements of a peer's TCP as proof that it is alive.
//!
//! Bytes that the kernel accepted prove nothing, because a send buffer holds megabytes for a dead
//! peer. Bytes that the peer's TCP acknowledged are proof. The kernel counts them
//! ([`SendProgress`](super::transport::SendProgress)), but reading the count is a system call, made only when a deadline comes up.
//!
//! A Unix socket has no acknowledgements. There, bytes count as acknowledged when the peer has read
//! them, which proves more: its program runs.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::tick::Tick;
use crate::peer_id::PeerId;

/// Looks per timeout, at least: progress is noticed at most this fraction of the timeout late.
const LOOKS_PER_TIMEOUT: u32 = 32;

/// The pause before the next look is this fraction of the time since the start. An acknowledgement
/// after a normal round trip is noticed at once, and a peer that stays silent costs few looks.
const LOOK_GROWTH: u32 = 8;

/// The progress of a connection's outgoing stream: two offsets from its start, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The end of all bytes so far, whether or not the kernel has taken them.
    pub(super) end: u64,
    /// The bytes that the peer's TCP has acknowledged.
    pub(super) acknowledged: u64,
}

impl Progress {
    /// Whether all bytes so far are acknowledged.
    pub(super) const fn is_complete(self) -> bool {
        self.acknowledged >= self.end
    }
}

/// Follows the acknowledgements of the bytes up to a ping, or up to a close frame.
#[derive(Debug)]
pub(super) struct AckWatch {
    /// The stream offset behind the ping or close frame; later bytes do not count. `None` without
    /// either: then an acknowledgement counts if it leaves other bytes unacknowledged.
    end: Option<u64>,
    acknowledged: u64,
    started: Tick,
    looked: Tick,
    /// The start, or the last look that found progress.
    progressed: Tick,
}

impl AckWatch {
    /// Watches the bytes up to the stream offset `end`, or all bytes. The peer has until its timeout
    /// after `since`; the first look counts as progress if anything has been acknowledged.
    pub(super) const fn new(end: Option<u64>, since: Tick) -> Self {
        Self { end, acknowledged: 0, started: since, looked: since, progressed: since }
    }

    /// Also watches the bytes sent since the ping.
    pub(super) fn extend(&mut self, progress: Progress) {
        self.end = self.end.map(|_| progress.end);
    }

    /// Compares with the last look.
    pub(super) fn look(&mut self, progress: Progress, now: Tick) {
        let acknowledged = progress.acknowledged;
        let is_all = progress.is_complete();
        if is_all && let Some(end) = &mut self.end {
            // It may have been too high: see `SendProgress::written`.
            *end = acknowledged.min(*end);
        }
        let counted = |bytes: u64| self.end.map_or(bytes, |end| bytes.min(end));
        let is_proof = self.end.is_some() || !is_all;
        if is_proof && counted(acknowledged) > counted(self.acknowledged) {
            self.progressed = now;
        }
        self.acknowledged = acknowledged;
        self.looked = now;
    }

    /// Counts this moment as progress.
    pub(super) const fn restart_timeout(&mut self, now: Tick) {
        self.progressed = now;
    }

    /// Whether all bytes that count have been acknowledged, and the watch began at least `pause` ago.
    pub(super) fn is_answered_for(&self, pause: Duration, now: Tick) -> bool {
        self.is_complete() && self.started.after(pause) <= now
    }

    /// Whether all bytes that count have been acknowledged.
    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.acknowledged >= end)
    }

    /// The moment at which the peer has made no progress for `timeout`.
    pub(super) fn expiry(&self, timeout: Duration) -> Tick {
        self.progressed.after(timeout)
    }

    /// The time of the next look, which is at most `pause` after the last one. Looks continue when
    /// all bytes that count are acknowledged, because a pause of reading makes later bytes count
    /// without an event that could bring the next look forward.
    pub(super) fn next_look(&self, timeout: Duration, pause: Duration) -> Tick {
        let at_most = Tick::count(timeout) / LOOKS_PER_TIMEOUT;
        let grown = self.looked.since(self.started) / LOOK_GROWTH;
        self.looked.plus(grown.min(at_most).max(1)).min(self.looked.after(pause))
    }
}

/// The last keepalive ping that was sent, until its pong arrives (RFC 6455 5.5.3).
#[derive(Debug)]
pub(super) struct SentPing {
    /// Unpredictable, so that a peer has to read it before it can answer.
    pub(super) payload: [u8; 8],
    pub(super) sent: Instant,
}

impl SentPing {
    /// A ping with a payload that the peer cannot predict.
    pub(super) fn new(id: PeerId, now: Instant) -> Self {
        // Its keys come from the operating system's random numbers.
        let keys = RandomState::new();
        Self { payload: keys.hash_one((id, now)).to_be_bytes(), sent: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(95);

    const fn progress(end: u64, acknowledged: u64) -> Progress {
        Progress { end, acknowledged }
    }

    fn tick(index: u32) -> Tick {
        Tick::from_index(index)
    }

    #[test]
    fn only_bytes_up_to_the_end_are_progress() {
        let mut watch = AckWatch::new(Some(110), tick(0));
        watch.look(progress(110, 50), tick(100));
        assert_eq!(watch.expiry(TIMEOUT), tick(100).after(TIMEOUT));
        watch.look(progress(500, 400), tick(200));
        assert!(watch.is_complete());
        assert_eq!(watch.expiry(TIMEOUT), tick(200).after(TIMEOUT));
        watch.look(progress(900, 900), tick(300));
        assert_eq!(watch.expiry(TIMEOUT), tick(200).after(TIMEOUT), "later bytes do not count");
    }

    #[test]
    fn without_an_end_progress_counts_while_bytes_are_unacknowledged() {
        let mut watch = AckWatch::new(None, tick(0));
        watch.look(progress(100, 50), tick(100));
        assert_eq!(watch.expiry(TIMEOUT), tick(100).after(TIMEOUT));
        watch.look(progress(100, 100), tick(200));
        assert_eq!(watch.expiry(TIMEOUT), tick(100).after(TIMEOUT), "nothing is left to wait for");
        assert!(!watch.is_complete());
    }

    #[test]
    fn an_extended_watch_keeps_the_time_of_earlier_acknowledgements() {
        let mut watch = AckWatch::new(Some(100), tick(0));
        watch.look(progress(100, 100), tick(10));
        watch.look(progress(500, 300), tick(20));
        watch.extend(progress(500, 300));
        watch.look(progress(500, 300), tick(30));
        assert_eq!(
            watch.expiry(TIMEOUT),
            tick(10).after(TIMEOUT),
            "no progress since the last look"
        );
        watch.look(progress(500, 301), tick(40));
        assert_eq!(watch.expiry(TIMEOUT), tick(40).after(TIMEOUT));
    }

    #[test]
    fn an_end_that_was_too_high_is_reached_when_all_is_acknowledged() {
        let mut watch = AckWatch::new(Some(5000), tick(0));
        watch.look(progress(5000, 100), tick(10));
        assert!(!watch.is_complete());
        watch.look(progress(901, 900), tick(20));
        assert!(!watch.is_complete(), "a byte is unsent");
        watch.look(progress(900, 900), tick(30));
        assert!(watch.is_complete());
        assert_eq!(watch.expiry(TIMEOUT), tick(20).after(TIMEOUT), "the last progress");
    }

    #[test]
    fn looks_come_soon_at_first_and_then_a_fixed_number_in_a_timeout() {
        for acknowledged in [40, 100] {
            let mut watch = AckWatch::new(Some(100), tick(0));
            let mut looks = Vec::new();
            while watch.next_look(TIMEOUT, TIMEOUT) < tick(Tick::count(TIMEOUT)) {
                let now = watch.next_look(TIMEOUT, TIMEOUT);
                watch.look(progress(100, acknowledged), now);
                looks.push(now);
            }
            assert_eq!(looks[0], tick(1));
            assert!(looks.len() < 100, "{} looks", looks.len());
            let last = looks[looks.len() - 1];
            let at_most = TIMEOUT / LOOKS_PER_TIMEOUT;
            assert!(last.after(at_most) >= tick(Tick::count(TIMEOUT)), "{last:?} was the last");
        }
    }
}

//! Counters: each worker writes its own, and any thread may read the sums.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer. Reads from other threads see a recent value.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`: a load and a store, since no other thread writes.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one worker, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        /// The counters of a server since its start, summed over all workers.
        ///
        /// They are read one by one while the workers run, so counters that agree at rest, such as
        /// messages in and out of an echo server, may differ by a few events.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// WebSocket connections that are open now.
            #[must_use]
            pub const fn open(&self) -> u64 {
                // Not one snapshot: `closed` may count a connection that `opened` does not yet.
                self.opened.saturating_sub(self.closed)
            }

            /// Adds up the counters of all workers.
            #[doc(hidden)]
            pub fn sum<'c>(workers: impl Iterator<Item = &'c Counters>) -> Self {
                workers.fold(Self::default(), |sum, counters| Self {
                    $($name: sum.$name + counters.$name.value(),)*
                })
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections ended, for any reason.
    ended,
    /// Connections turned away at once, with 503, because of `connections_max`, a shutdown, or lack
    /// of resources.
    turned_away,
    /// Requests refused, by the protocol or by the handler.
    refused,
    /// Requests answered with plain HTTP.
    answered,
    /// WebSocket connections opened.
    opened,
    /// WebSocket connections closed.
    closed,
    /// Messages received whole.
    messages_in,
    /// Messages sent, or queued for sending.
    messages_out,
    /// Payload bytes of messages received.
    bytes_in,
    /// Payload bytes of messages sent, or queued for sending.
    bytes_out,
    /// Connections ended for a fault of the peer (1002, 1007, 1008, 1009).
    protocol_errors,
    /// Connections ended because the request did not arrive in time.
    handshake_timeouts,
    /// Connections closed because the peer was silent for `idle_timeout`.
    idle_timeouts,
    /// Connections dropped because the peer did not complete the closing handshake in time.
    close_timeouts,
    /// Connections dropped because too many unsent bytes were queued for the peer.
    backlog_overflows,
    /// Callbacks that panicked.
    handler_panics,
    /// Messages from other threads, or from callbacks of other connections, that were dropped
    /// because the connection was closing or had closed when its worker came to send them.
    stale_sends,
    /// Messages to a topic that a subscriber did not get because it did not read: see
    /// [`SlowConsumer`](crate::SlowConsumer).
    skipped,
    /// Calls of [`Handler::on_drained`](crate::Handler::on_drained): peers that read again after too
    /// many bytes were queued for them.
    drained,
    /// Calls of [`Handler::on_pong`](crate::Handler::on_pong): keepalive pings that were answered.
    round_trips,
    /// The sum of their round trips in microseconds. Divided by `round_trips` it is the mean.
    round_trip_us,
    /// Messages to a topic that were not sent, because one callback published more than
    /// [`mailbox_bytes_max`](crate::Config::mailbox_bytes_max).
    refused_publications,
    /// Pauses of accepting because of a lack of file descriptors or memory.
    accept_pauses,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let workers = [Counters::default(), Counters::default()];
        workers[0].opened.add(2);
        workers[1].opened.add(3);
        workers[1].opened.add(1);
        assert_eq!(Stats::sum(workers.iter()), Stats { opened: 6, ..Stats::default() });
    }
}

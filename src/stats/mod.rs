//! Counters: each worker writes its own, and any thread may read them.
//!
//! - [`close_codes`], [`handshake_failures`]: counters by a closed set of labels
//! - [`histogram`]: durations in fixed buckets
//! - [`metric`]: a value with its name, for exporters
//! - [`counter`]: one number that one thread writes

pub(crate) mod close_codes;
pub(crate) mod handshake_failures;
pub(crate) mod metric;
pub(crate) mod histogram;
mod counter;

use self::close_codes::{CloseCodeCounters, CloseCodes};
use self::counter::Counter;
use self::handshake_failures::{HandshakeFailureCounters, HandshakeFailures};
use self::histogram::{Histogram, HistogramCounters};
use self::metric::{Labels, Metric, MetricValue};

/// `$name` is the field of [`Stats`]. `$kind` is the metric's type, `$metric` its name and `$help` its
/// description, with a label if several fields are one metric.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $metric:literal $(($key:literal = $value:literal))? $help:literal,)*) => {
        /// The counters of one worker, on cache lines of their own.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $(pub(crate) $name: Counter,)*
            pub(crate) close_codes_sent: CloseCodeCounters,
            pub(crate) close_codes_received: CloseCodeCounters,
            pub(crate) handshake_failures: HandshakeFailureCounters,
            pub(crate) round_trips: HistogramCounters,
            pub(crate) turns: HistogramCounters,
        }

        /// The counters of a server since its start, summed over all workers or of one of them.
        ///
        /// They are read one by one while the workers run, so counters that agree at rest, such as
        /// messages in and out of an echo server, may differ by a few events.
        ///
        /// The fields are for a program that looks for one of them; [`iter`](Self::iter) is for one
        /// that exports all of them by name.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Commands of other threads and workers that wait in the mailbox now.
            pub mailbox_commands: u64,
            /// The memory of these commands in bytes, of at most
            /// [`mailbox_bytes_max`](crate::Config::mailbox_bytes_max) for each worker.
            pub mailbox_bytes: u64,
            /// Close frames sent, or queued for sending, by code.
            pub close_codes_sent: CloseCodes,
            /// Close frames received, by code.
            pub close_codes_received: CloseCodes,
            /// Connections that ended without a WebSocket, by reason.
            pub handshake_failures: HandshakeFailures,
            /// The round trips of keepalive pings that were answered: calls of
            /// [`Handler::on_pong`](crate::Handler::on_pong).
            pub round_trips: Histogram,
            /// The times of the workers' turns, from the end of a wait for events to the start of the
            /// next. A worker serves all connections that are ready in one turn, so a long turn
            /// delays all of them.
            pub turns: Histogram,
        }

        impl Counters {
            /// The values now, without the mailbox.
            #[doc(hidden)]
            #[must_use]
            pub fn stats(&self) -> Stats {
                Stats {
                    $($name: self.$name.value(),)*
                    mailbox_commands: 0,
                    mailbox_bytes: 0,
                    close_codes_sent: self.close_codes_sent.values(),
                    close_codes_received: self.close_codes_received.values(),
                    handshake_failures: self.handshake_failures.values(),
                    round_trips: self.round_trips.values(),
                    turns: self.turns.values(),
                }
            }
        }

        impl Stats {
            /// Adds the values of another worker.
            fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                self.mailbox_commands += other.mailbox_commands;
                self.mailbox_bytes += other.mailbox_bytes;
                self.close_codes_sent.add(&other.close_codes_sent);
                self.close_codes_received.add(&other.close_codes_received);
                self.handshake_failures.add(&other.handshake_failures);
                self.round_trips.add(&other.round_trips);
                self.turns.add(&other.turns);
            }

            /// The metrics of the numbers, in the order of their fields.
            fn numbers(&self) -> impl Iterator<Item = Metric<'_>> {
                [$(Metric {
                    name: $metric,
                    help: $help,
                    labels: Labels::NONE$(.with($key, $value))?,
                    value: MetricValue::$kind(self.$name),
                },)*]
                .into_iter()
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted: Counter "connections_accepted" "Connections accepted",
    /// Connections ended, for any reason.
    ended: Counter "connections_ended" "Connections ended, for any reason",
    /// Connections turned away at once: with 503 because of `connections_max`, a shutdown, or lack
    /// of resources, and with 429 because of their address.
    turned_away: Counter "connections_turned_away" "Connections answered 503 or 429 at once",
    /// Connections admitted without the limits for each address, since the table was full: see
    /// [`limited_ips_max`](crate::Config::limited_ips_max).
    uncounted_ips: Counter "address_table_full"
        "Connections admitted without limits for their address",
    /// Requests refused, by the protocol or by the handler.
    refused: Counter "requests_refused" "Requests refused, by the protocol or by the handler",
    /// Requests answered with plain HTTP.
    answered: Counter "requests_answered" "Requests answered with plain HTTP",
    /// WebSocket connections opened.
    opened: Counter "connections_opened" "WebSocket connections opened",
    /// WebSocket connections closed.
    closed: Counter "connections_closed" "WebSocket connections closed",
    /// Messages received whole.
    messages_in: Counter "messages_received" "Messages received whole",
    /// Messages sent, or queued for sending.
    messages_out: Counter "messages_sent" "Messages sent, or queued for sending",
    /// Payload bytes of messages received.
    bytes_in: Counter "bytes_received" "Payload bytes of messages received",
    /// Payload bytes of messages sent, or queued for sending.
    bytes_out: Counter "bytes_sent" "Payload bytes of messages sent, or queued for sending",
    /// Connections ended for a fault of the peer (1002, 1007, 1008, 1009).
    protocol_errors: Counter "protocol_errors" "Connections ended for a fault of the peer",
    /// Connections ended because the request did not arrive in time.
    handshake_timeouts: Counter "timeouts" ("kind" = "handshake") "Connections ended by a timeout",
    /// Connections closed because the peer was silent for `idle_timeout`.
    idle_timeouts: Counter "timeouts" ("kind" = "idle") "Connections ended by a timeout",
    /// Connections dropped because the peer did not complete the closing handshake in time.
    close_timeouts: Counter "timeouts" ("kind" = "close") "Connections ended by a timeout",
    /// Connections dropped because the peer did not end TCP in time, after the last bytes for it.
    linger_timeouts: Counter "timeouts" ("kind" = "linger") "Connections ended by a timeout",
    /// Connections dropped at the end of a drain.
    drain_timeouts: Counter "timeouts" ("kind" = "drain") "Connections ended by a timeout",
    /// Connections dropped because too many unsent bytes were queued for the peer.
    backlog_overflows: Counter "backlog_overflows"
        "Connections dropped because too many unsent bytes were queued",
    /// Callbacks that panicked.
    handler_panics: Counter "handler_panics" "Callbacks that panicked",
    /// Messages to topics that callbacks of this worker published. Those of threads count in the
    /// first worker.
    published: Counter "messages_published" "Messages to topics that were published",
    /// Messages to topics, of threads and of callbacks of other connections that were sent to a
    /// connection, or queued for sending. They are among `messages_out`.
    delivered: Counter "messages_delivered"
        "Messages of topics, threads and other connections that were sent",
    /// Messages from other threads, or from callbacks of other connections, that were dropped
    /// because the connection was closing or had closed when its worker came to send them.
    stale_sends: Counter "messages_dropped" "Messages dropped because the connection had closed",
    /// Messages to a topic that a subscriber did not get because it did not read: see
    /// [`SlowConsumer`](crate::SlowConsumer).
    skipped: Counter "messages_skipped" "Messages that a slow subscriber did not get",
    /// Messages to a topic that were not sent, because one callback published more than
    /// [`mailbox_bytes_max`](crate::Config::mailbox_bytes_max).
    refused_publications: Counter "publications_refused"
        "Messages to topics refused because a callback published too many",
    /// Calls of [`Handler::on_drained`](crate::Handler::on_drained): peers that read again after too
    /// many bytes were queued for them.
    drained: Counter "backlogs_drained" "Peers that read again after too many bytes were queued",
    /// Pauses of accepting because of a lack of file descriptors or memory.
    accept_pauses: Counter "accept_pauses" "Pauses of accepting for lack of descriptors or memory",
    /// Connections that could not be accepted: accept(2) failed, for another reason than that none
    /// waited.
    accept_errors: Counter "accept_errors" "Failed calls of accept(2)",
    /// WebSocket connections opened with permessage-deflate (RFC 7692).
    deflate_opened: Counter "deflate_connections_opened"
        "WebSocket connections opened with permessage-deflate",
    /// Bytes of messages inflated.
    inflated_bytes: Counter "inflated_bytes" "Bytes of messages inflated",
    /// Bytes queued for all peers now that the kernel has not taken.
    backlog_bytes: Gauge "backlog_bytes" "Bytes queued for all peers",
    /// Connections that are not read now, because the peer does not read or the handler paused it.
    paused_peers: Gauge "peers_paused" "Connections that are not read now",
}

impl Stats {
    /// WebSocket connections that are open now.
    #[must_use]
    pub const fn open(&self) -> u64 {
        // Not one snapshot: `closed` may count a connection that `opened` does not yet.
        self.opened.saturating_sub(self.closed)
    }

    /// All values, each with its name: `connections_open` is [`open`](Self::open), the others are
    /// the fields. Values of the same name follow each other, and differ in their labels.
    ///
    /// ```
    /// # use ws_reactor::{MetricValue, Stats};
    /// for metric in Stats::default().iter() {
    ///     if let MetricValue::Counter(value) | MetricValue::Gauge(value) = metric.value {
    ///         println!("{}{:?} {value}", metric.name, metric.labels().collect::<Vec<_>>());
    ///     }
    /// }
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Metric<'_>> {
        let gauge = |name, help, value| {
            let value = MetricValue::Gauge(value);
            Metric { name, help, labels: Labels::NONE, value }
        };
        let histogram = |name, help, histogram| {
            let value = MetricValue::Histogram(histogram);
            Metric { name, help, labels: Labels::NONE, value }
        };
        let open = gauge("connections_open", "WebSocket connections that are open", self.open());
        let mailbox = [
            gauge("mailbox_commands", "Commands that wait for a worker", self.mailbox_commands),
            gauge("mailbox_bytes", "Bytes of commands that wait for a worker", self.mailbox_bytes),
        ];
        let histograms = [
            histogram("round_trip_seconds", "Round trips of keepalive pings", &self.round_trips),
            histogram("turn_seconds", "Times of the workers' turns", &self.turns),
        ];
        [open]
            .into_iter()
            .chain(self.numbers())
            .chain(mailbox)
            .chain(self.close_codes_sent.metrics("sent"))
            .chain(self.close_codes_received.metrics("received"))
            .chain(self.handshake_failures.metrics())
            .chain(histograms)
    }

    /// Adds up the values of all workers.
    #[doc(hidden)]
    pub fn sum(workers: impl Iterator<Item = Self>) -> Self {
        workers.fold(Self::default(), |mut sum, worker| {
            sum.add(&worker);
            sum
        })
    }
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
        let sum = Stats::sum(workers.iter().map(Counters::stats));
        assert_eq!(sum, Stats { opened: 6, ..Stats::default() });
    }

    /// Exporters group values by name, and a value must not occur twice.
    #[test]
    fn values_of_a_name_follow_each_other_and_have_distinct_labels() {
        let stats = Stats::default();
        let mut ended = Vec::new();
        let mut current = ("", Vec::new());
        for metric in stats.iter() {
            if metric.name != current.0 {
                assert!(!ended.contains(&metric.name), "{}", metric.name);
                ended.push(metric.name);
                current = (metric.name, Vec::new());
            }
            let labels: Vec<_> = metric.labels().collect();
            assert!(!current.1.contains(&labels), "{} {labels:?}", metric.name);
            current.1.push(labels);
        }
        assert!(ended.contains(&"connections_open") && ended.contains(&"turn_seconds"));
    }
}

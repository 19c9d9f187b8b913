//! Connections that ended without a WebSocket, by reason.

use std::fmt;

use super::counter::Counter;
use super::metric::{Labels, Metric, MetricValue};
use crate::protocol::HandshakeError;

/// Why a connection ended before a WebSocket was open, and without an answer of
/// [`Handler::on_http`](crate::Handler::on_http).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// The request is not valid: 400, 405 or 505.
    Malformed,
    /// The request head is too large, or has too many headers: 431.
    TooLarge,
    /// A plain request that the handler did not answer: 426.
    NoUpgrade,
    /// Another version of WebSocket than 13: 426.
    Version,
    /// The handler rejected the request, with a response of its own.
    Rejected,
    /// The handler panicked, or chose a subprotocol that was not offered: 500.
    HandlerError,
    /// The request did not arrive in time: 408, or no answer if not even a PROXY header did.
    Timeout,
    /// The connection did not begin with a valid PROXY header; no answer.
    ProxyHeader,
    /// The handshake of TLS failed, or the client speaks none: an alert, or 400.
    Tls,
    /// The client ended or reset the connection before its request was complete. Health checks that
    /// only connect are counted here.
    Disconnected,
    /// [`connections_max`](crate::Config::connections_max) is reached: 503.
    TooManyConnections,
    /// The client's address has too many connections or handshakes: 429. See
    /// [`connections_per_ip_max`](crate::Config::connections_per_ip_max).
    AddressLimit,
    /// The server is shutting down: 503.
    ShuttingDown,
    /// The socket could not be registered with epoll: 503.
    NoResources,
}

/// All of them, in the order of their declaration.
const ALL: [HandshakeFailure; 14] = [
    HandshakeFailure::Malformed,
    HandshakeFailure::TooLarge,
    HandshakeFailure::NoUpgrade,
    HandshakeFailure::Version,
    HandshakeFailure::Rejected,
    HandshakeFailure::HandlerError,
    HandshakeFailure::Timeout,
    HandshakeFailure::ProxyHeader,
    HandshakeFailure::Tls,
    HandshakeFailure::Disconnected,
    HandshakeFailure::TooManyConnections,
    HandshakeFailure::AddressLimit,
    HandshakeFailure::ShuttingDown,
    HandshakeFailure::NoResources,
];

impl HandshakeFailure {
    /// The name for logs and metrics, in lower case with underscores.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::NoUpgrade => "no_upgrade",
            Self::Version => "version",
            Self::Rejected => "rejected",
            Self::HandlerError => "handler_error",
            Self::Timeout => "timeout",
            Self::ProxyHeader => "proxy_header",
            Self::Tls => "tls",
            Self::Disconnected => "disconnected",
            Self::TooManyConnections => "too_many_connections",
            Self::AddressLimit => "address_limit",
            Self::ShuttingDown => "shutting_down",
            Self::NoResources => "no_resources",
        }
    }
}

impl From<HandshakeError> for HandshakeFailure {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::HeadTooLarge | HandshakeError::TooManyHeaders => Self::TooLarge,
            HandshakeError::NoUpgrade => Self::NoUpgrade,
            HandshakeError::WebSocketVersion => Self::Version,
            _ => Self::Malformed,
        }
    }
}

/// Counts of failed handshakes by reason. See [`Stats`](crate::Stats).
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct HandshakeFailures([u64; ALL.len()]);

impl HandshakeFailures {
    /// The failures for this reason.
    #[must_use]
    pub const fn count(&self, reason: HandshakeFailure) -> u64 {
        self.0[reason as usize]
    }

    /// The failures for all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The counts of all reasons.
    pub fn iter(&self) -> impl Iterator<Item = (HandshakeFailure, u64)> {
        ALL.into_iter().zip(self.0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    pub(super) fn metrics(&self) -> impl Iterator<Item = Metric<'_>> {
        self.iter().map(|(reason, count)| Metric {
            name: "handshake_failures",
            help: "Connections that ended without a WebSocket or an answer to a plain request",
            labels: Labels::NONE.with("reason", reason.name()),
            value: MetricValue::Counter(count),
        })
    }
}

impl fmt::Debug for HandshakeFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub(crate) struct HandshakeFailureCounters([Counter; ALL.len()]);

impl HandshakeFailureCounters {
    pub(crate) fn count(&self, reason: HandshakeFailure) {
        self.0[reason as usize].add(1);
    }

    pub(super) fn values(&self) -> HandshakeFailures {
        HandshakeFailures(std::array::from_fn(|at| self.0[at].value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        for (at, reason) in ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at, "{reason:?}");
        }
    }
}

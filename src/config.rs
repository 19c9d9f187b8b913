//! The settings of a server: plain data, validated once before any thread starts.

use std::fmt;
use std::time::Duration;

use crate::forwarding::TrustedProxy;
#[cfg(feature = "deflate")]
use crate::protocol::DeflateConfig;
use crate::protocol::{HEADERS_MAX, Limits, is_token};

/// Limits and timeouts of a server, the same for all its workers. Later versions may add fields, so
/// start from [`Config::default`].
///
/// ```
/// use ws_reactor::Config;
///
/// let config = Config { message_bytes_max: 64 * 1024, ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Payload of a message in bytes, all fragments together; inclusive. Default 1 MiB.
    ///
    /// A longer message ends the connection with 1009 as soon as a header announces it. An
    /// incomplete message holds up to this much memory.
    pub message_bytes_max: usize,

    /// Fragments of a message; inclusive. Default 131 072.
    ///
    /// More fragments end the connection with 1008. A fragment needs no memory of its own; the
    /// limit bounds the work caused by a message of empty fragments.
    pub fragments_max: u32,

    /// Bytes of a request head, including the empty line that ends it and an empty line before it.
    /// Default 8 KiB.
    ///
    /// A longer head is answered 431, as is one with more than 100 headers. A request that arrives
    /// in pieces holds up to this much memory.
    pub request_bytes_max: usize,

    /// Time from accept to the last byte of the request; then the answer is 408. Default 10 s.
    ///
    /// Bytes that arrive do not extend it.
    pub handshake_timeout: Duration,

    /// Every connection begins with a header of the PROXY protocol, version 1 or 2, from the proxy or
    /// load balancer in front. Default false.
    ///
    /// The address in it replaces that of the socket, in [`ConnectionInfo`] and in the log. A header
    /// that names no client (LOCAL, UNKNOWN, UNSPEC), as health checks send it, leaves the socket's
    /// address. The header arrives once, within `handshake_timeout`, and takes at most 107 bytes in
    /// version 1 and 1024 in version 2, whose extensions (TLV) are skipped. Otherwise the connection is
    /// closed without an answer.
    ///
    /// It holds for all listeners and for adopted sockets. Anyone who can connect to them can claim any
    /// address, so let only the proxy reach them.
    ///
    /// [`ConnectionInfo`]: crate::ConnectionInfo
    pub proxy_protocol: bool,

    /// Proxies whose `client_ip_header` is believed. Default: none, and the header is ignored.
    ///
    /// Each proxy appends the address that it was connected from to the header. If the peer is a
    /// trusted proxy, the last address in the header that is not one too is the client's, and replaces
    /// that of the peer in [`ConnectionInfo`]. The lines of the header are joined in their order. A
    /// malformed element, or one that hides the address, ends the search: the trusted address behind
    /// it then counts as the client's. An address without a port gets port 0.
    ///
    /// With `proxy_protocol` the address in the PROXY header must be trusted.
    ///
    /// [`ConnectionInfo`]: crate::ConnectionInfo
    pub trusted_proxies: Vec<TrustedProxy>,

    /// The only header that names a client. Default `X-Forwarded-For`: a list of addresses, as it is in
    /// a header of any other name, such as `X-Real-IP`, but `Forwarded` (RFC 7239).
    ///
    /// Every trusted proxy must write it: one that passes on a client's own header lets clients choose
    /// their address.
    pub client_ip_header: String,

    /// How long a peer may be silent before its connection is closed with 1001. Default 120 s.
    ///
    /// Two things show that a peer is alive: bytes that it sends, and bytes that its TCP
    /// acknowledges; bytes that the server's own kernel accepts for sending do not.
    /// Acknowledgements count only up to that of the ping. From then on the connection ends after
    /// `idle_timeout - ping_interval` unless a byte arrives. So a peer that slowly receives a large
    /// message keeps its connection, and a program that hangs loses it. A peer whose TCP has not
    /// acknowledged the ping is dropped without a close frame.
    ///
    /// While reading is paused (see `backlog_bytes_high`) and the peer's bytes wait to be read,
    /// every acknowledgement counts. Without pings, an acknowledgement counts if it leaves other
    /// bytes unacknowledged.
    ///
    /// The server checks for acknowledgements at intervals, so the connection may end late by up to
    /// 1/32 of `idle_timeout`; without pings, by up to 1/8.
    pub idle_timeout: Duration,

    /// The server sends a ping after receiving nothing for this long, even if it has sent much.
    /// Default 25 s, because many proxies and load balancers close a connection after 60 s of
    /// silence. A value above half of `idle_timeout` counts as half of it. Zero turns pings off.
    pub ping_interval: Duration,

    /// How long a peer may take to answer the server's close frame once its TCP has acknowledged
    /// that frame, and then to end TCP. Default 5 s. After that the connection is dropped.
    ///
    /// Until the close frame is acknowledged, `idle_timeout` applies, and restarts with each
    /// acknowledgement of bytes up to the close frame. If the close frame must wait for the rest of
    /// a streamed frame, the peer has `idle_timeout` in all to send it, and `close_timeout` for
    /// each piece. A drain deadline (see [`ServerHandle::shutdown`](crate::ServerHandle::shutdown))
    /// ends the connection in any case.
    pub close_timeout: Duration,

    /// Reading from a peer pauses when more bytes than this are queued for it. Once any are queued,
    /// the received bytes of an incomplete message count too. Default 64 KiB.
    ///
    /// For a peer that does not read, an echo server holds at most one message and the larger of
    /// the replies to one read (260 KiB) and this value plus 16 KiB.
    pub backlog_bytes_high: usize,

    /// Reading resumes when fewer bytes than this are queued. Default 16 KiB.
    pub backlog_bytes_low: usize,

    /// Bytes from the handler or from other threads that may be queued for a peer when one of them
    /// sends again. Default 1 MiB. If more are queued, the connection is dropped and the message is
    /// lost. The last message may exceed the limit by up to `message_bytes_max`.
    ///
    /// Echoes do not count, because the server stops reading from a peer that does not receive
    /// them. The queue mixes both, and bytes that the kernel accepts are subtracted from this count
    /// first, so it may be too low but never too high. In all, a peer can make the server hold the
    /// echoes that `backlog_bytes_high` allows, this many bytes, and one message.
    pub backlog_bytes_max: usize,

    /// Bytes of a topic's name; inclusive. Default 255. [`Peer::subscribe`] fails for a longer one.
    ///
    /// [`Peer::subscribe`]: crate::Peer::subscribe
    pub topic_bytes_max: usize,

    /// Topics that a connection may subscribe to at the same time. Default 128.
    ///
    /// A subscription takes about 50 bytes, and a topic with subscribers about 200.
    pub topics_per_peer_max: usize,

    /// Connections of all workers together; more are answered 503 and closed. Default: limited only
    /// by the file descriptors of the process.
    pub connections_max: Option<usize>,

    /// Open connections of an IP address, of all workers together; more are answered 429. Default: no
    /// limit.
    ///
    /// The address is that of [`ConnectionInfo::peer_address`]: a connection counts when it is accepted;
    /// with `proxy_protocol` behind the PROXY header; and from a trusted proxy behind the request, where
    /// the proxy's own requests, which name no client, do not count. Clients of Unix sockets have no IP
    /// address and no limit.
    ///
    /// [`ConnectionInfo::peer_address`]: crate::ConnectionInfo::peer_address
    pub connections_per_ip_max: Option<u32>,

    /// Connections that an IP address may begin in a second; more are answered 429. Default: no limit.
    ///
    /// After a pause an address may begin as many at once, and then regains one in each part of a
    /// second. They count as those of `connections_per_ip_max` do.
    pub handshakes_per_ip_rate: Option<u32>,

    /// The first bits of an IPv6 address that the limits for an address see, from 1 to 128. Default 64,
    /// since a client usually has such a network to itself.
    pub ipv6_prefix_bits: u8,

    /// Addresses that the limits for an address are kept for, about 100 bytes each while they have
    /// connections or have had one in the last second. Default 65 536.
    ///
    /// With more, the connections of further addresses are admitted without these limits, since a
    /// flood of addresses must not keep the others out; `connections_max` still holds.
    /// [`Stats::uncounted_ips`](crate::Stats::uncounted_ips) counts them.
    pub limited_ips_max: usize,

    /// Connections that the kernel queues for each listener until they are accepted, capped at
    /// `net.core.somaxconn`. Default 4096.
    pub listen_backlog: u32,

    /// Sets TCP_NODELAY: small replies are sent without delay (no Nagle algorithm). Default true.
    pub tcp_nodelay: bool,

    /// Bytes of messages and other commands that may wait for a worker: in its mailbox from other
    /// threads; at each other worker from that worker's callbacks; and in the worker, until the
    /// connections that they go to have had their turns. Default 4 MiB. While more waits in a worker,
    /// it does not read from its peers.
    ///
    /// A command counts about 60 bytes more than its message. Sending to a full mailbox is an error;
    /// [`ServerHandle::blocking_send`](crate::ServerHandle::blocking_send) waits instead. A mailbox
    /// that is empty takes a message of any size.
    pub mailbox_bytes_max: usize,

    /// How long a worker polls for readiness before it blocks. Default zero: it blocks at once.
    ///
    /// Waking a blocked thread takes longer than an echo. Where each worker has its own core, a
    /// value above the clients' pauses, such as 50 us, halves the round trip. Polling keeps the
    /// core busy, so without a spare core for each worker it only takes time from other threads.
    pub busy_poll: Duration,

    /// How often each worker calls [`Handler::on_tick`]. Default zero: never. At least 1 ms.
    ///
    /// [`Handler::on_tick`]: crate::Handler::on_tick
    pub tick_interval: Duration,

    /// Compresses messages with permessage-deflate (RFC 7692), if the client offers it. Default
    /// `None`: every offer is declined. Needs the feature `deflate`.
    #[cfg(feature = "deflate")]
    pub deflate: Option<DeflateConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            message_bytes_max: 1024 * 1024,
            fragments_max: 131_072,
            request_bytes_max: 8 * 1024,
            handshake_timeout: Duration::from_secs(10),
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            client_ip_header: "X-Forwarded-For".to_owned(),
            idle_timeout: Duration::from_secs(120),
            ping_interval: Duration::from_secs(25),
            close_timeout: Duration::from_secs(5),
            backlog_bytes_high: 64 * 1024,
            backlog_bytes_low: 16 * 1024,
            backlog_bytes_max: 1024 * 1024,
            topic_bytes_max: 255,
            topics_per_peer_max: 128,
            connections_max: None,
            connections_per_ip_max: None,
            handshakes_per_ip_rate: None,
            ipv6_prefix_bits: 64,
            limited_ips_max: 65_536,
            listen_backlog: 4096,
            tcp_nodelay: true,
            mailbox_bytes_max: 4 * 1024 * 1024,
            busy_poll: Duration::ZERO,
            tick_interval: Duration::ZERO,
            #[cfg(feature = "deflate")]
            deflate: None,
        }
    }
}

/// The precision of a wait for epoll: shorter intervals could not be met.
const TICK_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Every valid handshake request is longer than this.
const REQUEST_BYTES_MIN: usize = 128;

impl Config {
    /// Checks each setting and their combination. [`ServerBuilder::start`] calls it.
    ///
    /// # Errors
    ///
    /// The first invalid setting.
    ///
    /// [`ServerBuilder::start`]: crate::ServerBuilder::start
    pub fn validate(&self) -> Result<(), ConfigError> {
        let timeouts = [
            ("handshake_timeout", self.handshake_timeout),
            ("idle_timeout", self.idle_timeout),
            ("close_timeout", self.close_timeout),
        ];
        if let Some((name, _)) = timeouts.iter().find(|(_, timeout)| timeout.is_zero()) {
            return Err(ConfigError::Zero(name));
        }
        let counts = [
            ("message_bytes_max", self.message_bytes_max),
            ("fragments_max", self.fragments_max as usize),
            ("listen_backlog", self.listen_backlog as usize),
            ("mailbox_bytes_max", self.mailbox_bytes_max),
            ("connections_max", self.connections_max.unwrap_or(1)),
            ("connections_per_ip_max", self.connections_per_ip_max.unwrap_or(1) as usize),
            ("handshakes_per_ip_rate", self.handshakes_per_ip_rate.unwrap_or(1) as usize),
            ("limited_ips_max", self.limited_ips_max),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(ConfigError::Zero(name));
        }
        if self.request_bytes_max < REQUEST_BYTES_MIN {
            return Err(ConfigError::RequestBytesTooFew);
        }
        if !(1..=128).contains(&self.ipv6_prefix_bits) {
            return Err(ConfigError::OutOfRange("ipv6_prefix_bits", 1, 128));
        }
        if !is_token(self.client_ip_header.as_bytes()) {
            return Err(ConfigError::ClientIpHeader);
        }
        if self.backlog_bytes_low > self.backlog_bytes_high {
            return Err(ConfigError::BacklogLowAboveHigh);
        }
        if self.backlog_bytes_high > self.backlog_bytes_max {
            return Err(ConfigError::BacklogHighAboveMax);
        }
        if !self.tick_interval.is_zero() && self.tick_interval < TICK_INTERVAL_MIN {
            return Err(ConfigError::TickIntervalTooShort);
        }
        #[cfg(feature = "deflate")]
        if let Some((name, low, high)) = self.deflate.as_ref().and_then(DeflateConfig::invalid) {
            return Err(ConfigError::OutOfRange(name, low, high));
        }
        Ok(())
    }

    /// The limit of the program's bytes in a backlog.
    pub(crate) const fn program_bytes_max(&self) -> usize {
        self.backlog_bytes_max.saturating_add(self.message_bytes_max)
    }

    /// Whether the server sends pings.
    pub(crate) const fn sends_pings(&self) -> bool {
        !self.ping_interval.is_zero()
    }

    /// How long a peer may be silent before the server sends a ping or, without pings, first checks
    /// for acknowledgements.
    pub(crate) fn silence_before_look(&self) -> Duration {
        if self.sends_pings() {
            self.ping_interval.min(self.idle_timeout / 2)
        } else {
            self.idle_timeout / 8
        }
    }

    /// How long a connection may last after the ping, or after the last acknowledgement that
    /// counts; without pings, after the last byte received.
    pub(crate) fn unanswered_timeout(&self) -> Duration {
        if self.sends_pings() {
            self.idle_timeout - self.silence_before_look()
        } else {
            self.idle_timeout
        }
    }

    pub(crate) const fn limits(&self) -> Limits {
        Limits { message_bytes_max: self.message_bytes_max, fragments_max: self.fragments_max }
    }
}

/// An invalid setting: the embedding program's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// This setting must not be zero.
    Zero(&'static str),
    /// `request_bytes_max` is less than any handshake needs.
    RequestBytesTooFew,
    /// `backlog_bytes_low` is above `backlog_bytes_high`: reading would never resume.
    BacklogLowAboveHigh,
    /// `backlog_bytes_high` is above `backlog_bytes_max`: a peer could lose its connection before
    /// reading pauses.
    BacklogHighAboveMax,
    /// `tick_interval` is neither zero nor at least 1 ms.
    TickIntervalTooShort,
    /// `client_ip_header` is not the name of a header.
    ClientIpHeader,
    /// This setting must be at least the first number, and at most the second.
    OutOfRange(&'static str, u32, u32),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero(name) => write!(f, "{name} must not be zero"),
            Self::RequestBytesTooFew => {
                write!(f, "request_bytes_max must be at least {REQUEST_BYTES_MIN}")
            }
            Self::OutOfRange(name, low, high) => write!(f, "{name} must be {low} to {high}"),
            Self::BacklogLowAboveHigh => {
                f.write_str("backlog_bytes_low must not be above backlog_bytes_high")
            }
            Self::BacklogHighAboveMax => {
                f.write_str("backlog_bytes_high must not be above backlog_bytes_max")
            }
            Self::ClientIpHeader => f.write_str(
                "client_ip_header must be the name of a header, such as X-Forwarded-For",
            ),
            Self::TickIntervalTooShort => {
                f.write_str("tick_interval must be zero or at least 1 ms")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

const _: () = assert!(HEADERS_MAX == 100, "named in the docs of request_bytes_max");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_invalid_setting_has_its_error() {
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate()
        };
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(
            with(|c| c.idle_timeout = Duration::ZERO),
            Err(ConfigError::Zero("idle_timeout"))
        );
        assert_eq!(with(|c| c.fragments_max = 0), Err(ConfigError::Zero("fragments_max")));
        assert_eq!(
            with(|c| c.connections_max = Some(0)),
            Err(ConfigError::Zero("connections_max"))
        );
        let prefix_error = ConfigError::OutOfRange("ipv6_prefix_bits", 1, 128);
        assert_eq!(with(|c| c.ipv6_prefix_bits = 0), Err(prefix_error));
        assert_eq!(with(|c| c.ipv6_prefix_bits = 129), Err(prefix_error));
        assert_eq!(with(|c| c.client_ip_header.clear()), Err(ConfigError::ClientIpHeader));
        assert_eq!(with(|c| c.client_ip_header.push(':')), Err(ConfigError::ClientIpHeader));
        assert_eq!(with(|c| c.request_bytes_max = 1), Err(ConfigError::RequestBytesTooFew));
        assert_eq!(with(|c| c.backlog_bytes_low = 1 << 20), Err(ConfigError::BacklogLowAboveHigh));
        assert_eq!(with(|c| c.backlog_bytes_high = 2 << 20), Err(ConfigError::BacklogHighAboveMax));
        assert_eq!(
            with(|c| c.tick_interval = Duration::from_micros(999)),
            Err(ConfigError::TickIntervalTooShort)
        );
        assert_eq!(with(|c| c.tick_interval = Duration::from_millis(1)), Ok(()));
    }
}

//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use ws_reactor::{Address, AddressError, Balance, Config, TrustedProxy};

use crate::tls::Tls;

/// A WebSocket echo server.
///
/// SIGTERM and SIGINT close every connection with 1001; the exit status is 0, even if
/// --drain-timeout dropped some of them. A second signal ends the server at once, with status 128
/// plus its number. SIGHUP reads the files of --tls-cert and --tls-key again. The status is 1 if the
/// server fails while it runs, and 2 if an option, file or address cannot be used.
///
/// The log goes to standard error; if its reader does not keep up, lines are dropped and counted.
/// RUST_LOG=debug also logs refused requests and messages; RUST_LOG=warn logs only warnings and
/// errors.
#[derive(Debug, Parser)]
#[command(version, allow_negative_numbers = true)]
pub(crate) struct Args {
    /// Address to listen on, as IP:PORT, unix:PATH or unix-abstract:NAME; repeat for more. Port 0
    /// takes a free one. plain:IP:PORT has no TLS beside others with --tls-cert
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    pub(crate) addr: Vec<Listen>,

    /// Certificate for TLS (wss://) on every TCP address: a file with PEM, the server's own first and
    /// then those that lead to the root. SIGHUP reads both files again, for new connections
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert: a file with PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Permissions of the files of Unix sockets, in octal [default: those that the umask leaves]
    #[arg(long, value_name = "MODE", value_parser = octal)]
    pub(crate) unix_mode: Option<u32>,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) workers: Option<usize>,

    /// Hand each connection to the worker with the fewest (least), or let the kernel choose by a
    /// hash of the addresses (hash)
    #[arg(long, value_name = "HOW", value_parser = balance, default_value = "hash")]
    pub(crate) balance: Balance,

    /// Pin each worker to a CPU; use it if the CPUs have nothing else to do
    #[arg(long)]
    pub(crate) pin_cpus: bool,

    /// Put TEXT in front of the echo of each text message
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,

    /// Send each message to everyone who is connected, its sender included, instead of an echo
    #[arg(long, conflicts_with = "prefix")]
    pub(crate) broadcast: bool,

    /// Longest message, in bytes of payload
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = positive,
        default_value_t = Config::default().message_bytes_max
    )]
    message_max: usize,

    /// Connections of all workers together; more are answered 503 [default: no limit]
    #[arg(long, value_name = "N", value_parser = positive)]
    connections_max: Option<usize>,

    /// Open connections of an IP address, or of a /64 of IPv6; more are answered 429 [default: no
    /// limit]
    #[arg(long, value_name = "N", value_parser = positive_u32)]
    connections_per_ip: Option<u32>,

    /// Connections that an IP address, or a /64 of IPv6, may begin in a second; more are answered 429
    /// [default: no limit]
    #[arg(long, value_name = "N", value_parser = positive_u32)]
    handshakes_per_ip: Option<u32>,

    /// Time from accept to the end of the request
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    handshake_timeout: Duration,

    /// Every connection begins with a header of the PROXY protocol, version 1 or 2, which names the
    /// client; let only the proxy reach the addresses
    #[arg(long)]
    proxy_protocol: bool,

    /// Believe --client-ip-header from this network, address, or `unix`; repeat for more
    #[arg(long, value_name = "CIDR")]
    trust_proxy: Vec<TrustedProxy>,

    /// The header in which trusted proxies name the client; `Forwarded` is read by RFC 7239
    #[arg(long, value_name = "NAME", requires = "trust_proxy", value_parser = header_name, default_value = "X-Forwarded-For")]
    client_ip_header: String,

    /// Close a connection whose peer has been silent for this long
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "120")]
    idle_timeout: Duration,

    /// Send a ping after receiving nothing for this long; 0 turns pings off, and more than half of
    /// --idle-timeout counts as half
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero, default_value = "25")]
    ping_interval: Duration,

    /// How long a peer may take to answer a close frame, and then to end TCP
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    close_timeout: Duration,

    /// Poll for this many microseconds before blocking: halves the latency if each worker has its
    /// own core
    #[arg(long, value_name = "US", value_parser = micros, default_value = "0")]
    busy_poll: Duration,

    /// Bind even if another process listens on the address, and share its connections
    #[arg(long)]
    pub(crate) share_port: bool,

    /// After the first signal, accept and serve for this long while /readyz fails, so that load
    /// balancers stop sending connections before any is refused
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_zero, default_value = "0")]
    pub(crate) drain_delay: Duration,

    /// How long connections may take to close after the first signal and --drain-delay:
    /// --close-timeout for the answer to a close frame, the rest for unsent messages before it
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub(crate) drain_timeout: Duration,

    /// Serve /metrics (for Prometheus), /healthz and /readyz at this address, as --addr; keep it
    /// private
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<Address>,

    /// Print a line on standard output at this interval: open connections, rates over the interval,
    /// and totals since the start
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) stats: Option<Duration>,
}

/// An address to listen on.
#[derive(Clone, Debug)]
pub(crate) struct Listen {
    pub(crate) address: Address,
    /// Without TLS, also with a certificate.
    pub(crate) is_plain: bool,
}

impl FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let plain = text.strip_prefix("plain:");
        let address: Address = plain.unwrap_or(text).parse()?;
        Ok(Self { is_plain: plain.is_some() || address.as_tcp().is_none(), address })
    }
}

impl Args {
    /// The certificate and key, if there are any. The error names the option and the problem.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, String> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Tls::load(certificate, key).map(Some),
            _ => Ok(None),
        }
    }

    /// The server's settings.
    pub(crate) fn config(&self) -> Config {
        Config {
            message_bytes_max: self.message_max,
            connections_max: self.connections_max,
            connections_per_ip_max: self.connections_per_ip,
            handshakes_per_ip_rate: self.handshakes_per_ip,
            handshake_timeout: self.handshake_timeout,
            proxy_protocol: self.proxy_protocol,
            trusted_proxies: self.trust_proxy.clone(),
            client_ip_header: self.client_ip_header.clone(),
            idle_timeout: self.idle_timeout,
            ping_interval: self.ping_interval,
            close_timeout: self.close_timeout,
            busy_poll: self.busy_poll,
            ..Config::default()
        }
    }
}

fn balance(text: &str) -> Result<Balance, &'static str> {
    match text {
        "hash" => Ok(Balance::Hash),
        "least" => Ok(Balance::LeastConnections),
        _ => Err("neither hash nor least"),
    }
}

fn header_name(text: &str) -> Result<String, &'static str> {
    let config = Config { client_ip_header: text.to_owned(), ..Config::default() };
    config.validate().map_err(|_| "not the name of a header")?;
    Ok(config.client_ip_header)
}

fn octal(text: &str) -> Result<u32, &'static str> {
    u32::from_str_radix(text, 8).map_err(|_| "not an octal number, such as 660")
}

fn positive(text: &str) -> Result<usize, &'static str> {
    let number: usize = text.parse().map_err(|_| "not a whole number")?;
    if number == 0 { Err("must be more than zero") } else { Ok(number) }
}

fn positive_u32(text: &str) -> Result<u32, &'static str> {
    u32::try_from(positive(text)?).map_err(|_| "is too large")
}

fn micros(text: &str) -> Result<Duration, &'static str> {
    text.parse().map(Duration::from_micros).map_err(|_| "not a whole number of microseconds")
}

/// A positive number of seconds; fractions are allowed.
fn seconds(text: &str) -> Result<Duration, &'static str> {
    let duration = seconds_or_zero(text)?;
    if duration.is_zero() { Err("must be more than zero") } else { Ok(duration) }
}

fn seconds_or_zero(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration.is_zero() && seconds > 0.0 => Err("is shorter than a nanosecond"),
        Ok(duration) => Ok(duration),
        Err(_) => Err("must not be negative, and must fit a clock"),
    }
}

//! The command line. An invalid option is rejected here, with exit status 2.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

use crate::usage;

/// Measures the throughput and latency of a WebSocket echo server, and checks every echo.
///
/// Without --rate every connection keeps --depth messages in flight (closed loop). With --rate
/// messages are due at fixed times and latency counts from then, so that it includes the wait of
/// messages that a stalled server keeps from being sent.
///
/// Exit status: 0 if all echoes are correct, 1 if one is not or the server cannot be reached, 2 for
/// a usage error or an unknown host.
#[derive(Debug, Parser)]
#[command(name = "load", allow_negative_numbers = true)]
pub(crate) struct Options {
    /// The server, as ws://HOST[:PORT][/PATH].
    #[arg(long, default_value = "ws://127.0.0.1:9001/")]
    pub(crate) url: Url,

    /// Connections, all opened before the first message is sent.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) connections: u32,

    /// Payload bytes of a message; several sizes are sent in turn, as in 32,1024,65536.
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "32",
        value_delimiter = ',',
        value_parser = parse_size
    )]
    pub(crate) size: Vec<usize>,

    /// Messages in flight per connection; with --rate their maximum.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=DEPTH_MAX)
    )]
    pub(crate) depth: u32,

    /// Measured time in seconds.
    #[arg(
        long,
        value_name = "S",
        default_value = "5",
        value_parser = parse_positive_seconds,
        conflicts_with = "count"
    )]
    pub(crate) duration: Duration,

    /// Messages to send on all connections together, instead of --duration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Messages per second on all connections together [default: as fast as they are echoed].
    #[arg(long, value_name = "MSGS_PER_S", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,

    /// Seconds over which to open the connections evenly; 0 is as fast as possible.
    #[arg(long, value_name = "S", default_value = "0", value_parser = parse_seconds)]
    pub(crate) ramp_up: Duration,

    /// Seconds of messages before the measured time; echoes are checked but not counted.
    #[arg(
        long,
        value_name = "S",
        default_value = "0",
        value_parser = parse_seconds,
        conflicts_with = "count"
    )]
    pub(crate) warmup: Duration,

    /// Send binary messages [default: text].
    #[arg(long)]
    pub(crate) binary: bool,

    /// Prefix that the server adds to every echo [default: none].
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,

    /// Local address of the connections [default: chosen by the system].
    #[arg(long, value_name = "IP")]
    pub(crate) source: Option<IpAddr>,

    /// Process of a server on this machine, whose CPU time is reported.
    #[arg(long, value_parser = parse_pid)]
    pub(crate) pid: Option<u32>,

    /// Print one line of JSON, and no progress bar.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A ws:// URL, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    /// Host and port as given, for the Host header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) address: SocketAddr,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if url.starts_with("wss://") {
            return Err("this program is built without TLS: the URL must begin with ws://".into());
        }
        let rest = url.strip_prefix("ws://").ok_or("the URL must begin with ws://")?;
        // Other bytes could end the request line or a header of the upgrade.
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['@', '#']) {
            return Err("the URL must be ASCII without spaces, user or fragment".to_owned());
        }
        let (authority, target) = match rest.find(['/', '?']) {
            Some(end) if rest[end..].starts_with('/') => (&rest[..end], rest[end..].to_owned()),
            Some(end) => (&rest[..end], format!("/{}", &rest[end..])),
            None => (rest, "/".to_owned()),
        };
        // Only the last colon outside of an IPv6 address's brackets begins a port.
        let has_port = authority.rfind(':') > authority.rfind(']');
        if authority.is_empty() || authority.starts_with(':') {
            return Err("the URL has no host".to_owned());
        }
        let host_and_port = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let addresses = host_and_port.to_socket_addrs().map_err(|error| error.to_string())?;
        // A name such as localhost may have both: prefer IPv4, on which more servers listen.
        let address = addresses.min_by_key(SocketAddr::is_ipv6).ok_or("the host has no address")?;
        Ok(Self { authority: authority.to_owned(), target, address })
    }
}

fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if bytes <= SIZE_MAX => Ok(bytes),
        _ => Err(format!("a size is a number of bytes from 0 to {SIZE_MAX}")),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (RATE_MIN..=RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err(format!("a rate is a number of messages per second, {RATE_MIN} to {RATE_MAX}")),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!("a time is a number of seconds from 0 to {SECONDS_MAX}")),
    }
}

fn parse_pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(pid) if usage::is_readable(pid) => Ok(pid),
        Ok(_) => Err("there is no such process, or its CPU time cannot be read".to_owned()),
        Err(_) => Err("a process id is a number".to_owned()),
    }
}

fn parse_positive_seconds(text: &str) -> Result<Duration, String> {
    match parse_seconds(text)? {
        Duration::ZERO => Err("the time must be more than zero".to_owned()),
        seconds => Ok(seconds),
    }
}

/// 1 GiB: above it the run would measure the generator's memory.
const SIZE_MAX: usize = 1 << 30;

/// More would only measure queues.
const DEPTH_MAX: i64 = 65_536;

/// One message every 1000 s.
const RATE_MIN: f64 = 0.001;

/// One message per nanosecond, the unit of all times here.
const RATE_MAX: f64 = 1e9;

/// Thirty days.
const SECONDS_MAX: f64 = 30.0 * 86_400.0;

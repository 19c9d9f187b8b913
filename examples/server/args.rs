//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use ws_reactor::Config;

/// A WebSocket echo server.
///
/// SIGTERM and SIGINT close every connection with 1001 and end with status 0; a second signal ends
/// at once, with status 128 and its number. An option or address that cannot be used ends with
/// status 2. The log goes to standard error; RUST_LOG=debug logs refused requests and messages too.
#[derive(Debug, Parser)]
#[command(version, allow_negative_numbers = true)]
pub(crate) struct Args {
    /// Address to listen on; repeat for more. Port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", value_parser = address, default_value = "127.0.0.1:9001")]
    pub(crate) addr: Vec<SocketAddr>,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) workers: Option<usize>,

    /// Answer each text message with TEXT in front of it
    #[arg(long, value_name = "TEXT")]
    pub(crate) prefix: Option<String>,

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

    /// From accept to the end of the request
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    handshake_timeout: Duration,

    /// Without a byte in or out for this long a connection is given up; a ping comes at half
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "120")]
    idle_timeout: Duration,

    /// Look for readiness this many microseconds before waiting for it: half the latency, if each
    /// worker has a core of its own
    #[arg(long, value_name = "US", value_parser = micros, default_value = "0")]
    busy_poll: Duration,

    /// Bind even if another process listens on the address, and share its connections
    #[arg(long)]
    pub(crate) share_port: bool,

    /// How long connections have to close after the first signal: 5 s for the answer to a close
    /// frame, the rest for what they are owed before
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub(crate) drain_timeout: Duration,

    /// Print the counters this often
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) stats: Option<Duration>,
}

impl Args {
    /// The server's settings.
    pub(crate) fn config(&self) -> Config {
        Config {
            message_bytes_max: self.message_max,
            connections_max: self.connections_max,
            handshake_timeout: self.handshake_timeout,
            idle_timeout: self.idle_timeout,
            busy_poll: self.busy_poll,
            ..Config::default()
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "not an IP address and a port, such as 127.0.0.1:9001 or [::]:9001")
}

fn positive(text: &str) -> Result<usize, &'static str> {
    let number: usize = text.parse().map_err(|_| "not a whole number")?;
    if number == 0 { Err("must be more than zero") } else { Ok(number) }
}

fn micros(text: &str) -> Result<Duration, &'static str> {
    text.parse().map(Duration::from_micros).map_err(|_| "not a whole number of microseconds")
}

/// A positive number of seconds, perhaps with a fraction.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be more than zero, and fit a clock".to_owned()),
    }
}

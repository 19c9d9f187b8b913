//! The command line. An invalid option is rejected here, with exit status 2.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};

use crate::bulletins;
use crate::dial::Address;
use crate::parse::{self, Sources};
use crate::upgrade::Request;
use crate::url::Url;
use crate::workload::Content;

/// Measures the throughput and latency of a WebSocket server, and checks every message.
///
/// The server echoes every message to its sender, or with --broadcast sends it to everyone.
///
/// Without --rate every connection keeps --depth messages in flight (closed loop). With --rate
/// messages are due at fixed times and latency counts from then, so that it includes the wait of
/// messages that a stalled server keeps from being sent.
///
/// Exit status: 0 if all messages are correct, 1 if one is not or a connection fails, 2 for a
/// usage error, a file that cannot be written, or an unknown host.
#[derive(Debug, Parser)]
#[command(name = "load", allow_negative_numbers = true)]
pub(crate) struct Options {
    /// The server, as ws://HOST[:PORT][/PATH], unix:PATH or unix-abstract:NAME.
    #[arg(
        value_name = "URL",
        default_value = "ws://127.0.0.1:9001/",
        conflicts_with = "url_option"
    )]
    url_argument: Url,

    /// The same as URL.
    #[arg(long = "url", value_name = "URL", id = "url_option")]
    url_option: Option<Url>,

    /// A header of the upgrade request, as 'NAME: VALUE'; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = parse::header)]
    header: Vec<(String, String)>,

    /// Subprotocols to offer; the server must choose one of them.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = parse::token)]
    protocol: Vec<String>,

    /// Messages that the server sends first on every connection, which are not checked.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) skip: u64,

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
        value_parser = parse::size
    )]
    pub(crate) size: Vec<usize>,

    /// Messages in flight per connection; with --rate their maximum.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=DEPTH_MAX),
        conflicts_with = "broadcast"
    )]
    pub(crate) depth: u32,

    /// The server sends every message to every connection, its sender included: measure
    /// deliveries instead of echoes.
    #[arg(long, conflicts_with = "prefix")]
    pub(crate) broadcast: bool,

    /// Connections that publish; all receive.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=bulletins::PUBLISHERS_MAX),
        requires = "broadcast"
    )]
    pub(crate) publishers: u32,

    /// Messages per publisher that are not yet delivered to all; with --rate their maximum.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=DEPTH_MAX),
        requires = "broadcast"
    )]
    pub(crate) window: u32,

    /// Measured time in seconds.
    #[arg(
        long,
        value_name = "S",
        default_value = "5",
        value_parser = parse::positive_seconds,
        conflicts_with = "count"
    )]
    pub(crate) duration: Duration,

    /// Messages to send on all connections together, instead of --duration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Messages per second on all connections together [default: as fast as they are answered].
    #[arg(long, value_name = "MSGS_PER_S", value_parser = parse::rate)]
    pub(crate) rate: Option<f64>,

    /// Seconds without progress on any connection after which those that wait fail, while
    /// connections are opened and in a run with --count.
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse::positive_seconds)]
    pub(crate) timeout: Duration,

    /// Seconds over which to open the connections evenly; 0 is as fast as possible.
    #[arg(long, value_name = "S", default_value = "0", value_parser = parse::seconds)]
    pub(crate) ramp_up: Duration,

    /// Seconds of messages before the measured time; they are checked but not counted.
    #[arg(
        long,
        value_name = "S",
        default_value = "0",
        value_parser = parse::seconds,
        conflicts_with = "count"
    )]
    pub(crate) warmup: Duration,

    /// Send binary messages [default: text].
    #[arg(long)]
    pub(crate) binary: bool,

    /// Characters of text messages.
    #[arg(long, value_enum, default_value_t = Text::Ascii, conflicts_with = "binary")]
    text: Text,

    /// Prefix that the server adds to every echo [default: none].
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,

    /// Local address of the connections, or a range such as 10.0.0.2-10.0.0.9; may be repeated,
    /// and connections take the addresses in turn [default: chosen by the system].
    #[arg(long, value_name = "IP", value_parser = parse::sources)]
    source: Vec<Sources>,

    /// Process of a server on this machine, whose CPU time is reported.
    #[arg(long, value_parser = parse::pid)]
    pub(crate) pid: Option<u32>,

    /// Write the latencies of each second to a file, as a log of HdrHistogram.
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,

    /// Write the rate and latencies of each second to a file, as comma-separated values.
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,

    /// Print one line of JSON, and no progress bar.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Characters of text messages.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Text {
    /// One byte each.
    Ascii,
    /// One to four bytes each.
    Utf8,
}

/// How the server answers a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// To its sender.
    Echo { depth: u32 },
    /// To every connection.
    Broadcast { publishers: u32, window: u32 },
}

impl Options {
    /// Parses the command line and checks the options together.
    pub(crate) fn from_command_line() -> Result<Self, clap::Error> {
        let options = Self::try_parse()?;
        let refuse = |why: String| Err(Self::command().error(ErrorKind::ValueValidation, why));
        if let Mode::Broadcast { publishers, .. } = options.mode() {
            if publishers > options.connections {
                return refuse(format!(
                    "--publishers {publishers} is more than --connections {}",
                    options.connections
                ));
            }
            if options.size.iter().any(|&size| size < bulletins::SIZE_MIN) {
                return refuse(format!(
                    "with --broadcast a --size is at least {}: a message names its publisher and \
                     number",
                    bulletins::SIZE_MIN
                ));
            }
        }
        for source in options.source.iter().flat_map(|sources| &sources.0) {
            if !options.url().addresses.iter().any(|address| address.is_reached_from(*source)) {
                let authority = &options.url().authority;
                return refuse(format!(
                    "--source {source}: no address of {authority} is of its kind"
                ));
            }
        }
        Ok(options)
    }

    pub(crate) fn mode(&self) -> Mode {
        match self.broadcast {
            false => Mode::Echo { depth: self.depth },
            true => Mode::Broadcast { publishers: self.publishers, window: self.window },
        }
    }

    pub(crate) fn content(&self) -> Content {
        match (self.binary, self.text) {
            (true, _) => Content::Binary,
            (false, Text::Ascii) => Content::Ascii,
            (false, Text::Utf8) => Content::Utf8,
        }
    }

    pub(crate) fn request(&self) -> Request {
        let url = self.url();
        Request {
            target: url.target.clone(),
            authority: url.authority.clone(),
            headers: self.header.clone(),
            protocols: self.protocol.clone(),
        }
    }

    fn url(&self) -> &Url {
        self.url_option.as_ref().unwrap_or(&self.url_argument)
    }

    /// The local address of connection `index`, and the server's addresses that it can reach from
    /// there.
    pub(crate) fn route(&self, index: usize) -> (Option<IpAddr>, Vec<Address>) {
        let mut sources = self.source.iter().flat_map(|sources| &sources.0);
        let count: usize = self.source.iter().map(|sources| sources.0.len()).sum();
        let source = index.checked_rem(count).and_then(|index| sources.nth(index)).copied();
        let addresses = self.url().addresses.iter();
        let is_reachable =
            |address: &&Address| source.is_none_or(|source| address.is_reached_from(source));
        (source, addresses.filter(is_reachable).cloned().collect())
    }

    /// The sizes as given.
    pub(crate) fn sizes(&self) -> String {
        self.size.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Mode {
    /// Connections that send messages, the first ones.
    pub(crate) fn senders(self, connections: u32) -> u32 {
        match self {
            Self::Echo { .. } => connections,
            Self::Broadcast { publishers, .. } => publishers,
        }
    }

    /// Unanswered messages of a sender.
    pub(crate) fn in_flight_max(self) -> u32 {
        match self {
            Self::Echo { depth } => depth,
            Self::Broadcast { window, .. } => window,
        }
    }
}

/// More would only measure queues.
const DEPTH_MAX: i64 = 65_536;

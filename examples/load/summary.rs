//! The report for people.

use std::fmt;

use crate::args::Mode;
use crate::report::{Latencies, Report};
use crate::usage::Usage;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_throughput(f)?;
        if let Some(usage) = &self.usage {
            let (per_message, message) = (self.server_us_per_message(), self.message());
            f.write_str("\nserver cpu  ")?;
            fmt_number(f, per_message, 3)?;
            let (server, load) = (usage.server_cores, usage.load_cores);
            write!(f, " us/{message}  {server:.2} cores  (load itself: {load:.2})")?;
            // With --rate the rate is the limit, and load polls the clock while it waits.
            if let (Some(limit), None) = (limit(usage), self.rate) {
                write!(f, "\nlimit       {limit}")?;
            }
        }
        if let (Some(p99), Some(max)) = (self.lateness.get("p99"), self.lateness.get("max")) {
            write!(
                f,
                "\nlateness us  p99 {p99:.1}  max {max:.1}  (of load itself, in the latency)"
            )?;
        }
        let tally = &self.tally;
        if tally.messages_unsent > 0 {
            write!(f, "\nunsent      {} messages were due but not sent", tally.messages_unsent)?;
        }
        if tally.messages_unanswered > 0 {
            let (count, messages) = (tally.messages_unanswered, self.messages_name());
            write!(f, "\nunanswered  {count} {messages} had not arrived a second after the end")?;
        }
        if tally.closes_unanswered > 0 {
            let count = tally.closes_unanswered;
            write!(f, "\nunclosed    {count} connections did not answer Close")?;
        }
        Ok(())
    }
}

impl Report {
    fn fmt_throughput(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} connections, {} bytes, ", self.connections, self.sizes)?;
        let (messages, seconds, rate) = (self.messages, self.seconds, self.messages_per_s);
        match self.mode {
            Mode::Echo { depth } => {
                writeln!(f, "depth {depth}: {messages} messages in {seconds:.3} s")?;
            }
            Mode::Broadcast { publishers, window } => {
                write!(f, "{publishers} publishers, window {window}: ")?;
                writeln!(f, "{messages} deliveries in {seconds:.3} s")?;
            }
        }
        let (name, megabytes) = (self.messages_name(), self.megabytes_per_s);
        write!(f, "throughput  {rate:.0} {name}/s  {megabytes:.1} MB/s")?;
        match &self.fan_out {
            None => self.latencies.fmt_line(f, "latency us"),
            Some(published) => {
                writeln!(
                    f,
                    "\npublished   {:.0} messages/s, each delivered to all",
                    published.per_s
                )?;
                self.latencies.fmt_line(f, "each us")?;
                published.last.fmt_line(f, "last us")
            }
        }
    }

    /// One echo or one delivery.
    fn message(&self) -> &'static str {
        match self.mode {
            Mode::Echo { .. } => "message",
            Mode::Broadcast { .. } => "delivery",
        }
    }

    fn messages_name(&self) -> &'static str {
        match self.mode {
            Mode::Echo { .. } => "messages",
            Mode::Broadcast { .. } => "deliveries",
        }
    }
}

impl Latencies {
    fn fmt_line(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        write!(f, "\n{name:10}")?;
        for (name, value) in self.quantiles {
            write!(f, "  {name} ")?;
            fmt_number(f, value, 1)?;
        }
        f.write_str("  mean ")?;
        fmt_number(f, self.mean, 1)
    }
}

/// The bottleneck, if one of the two used all its CPU time.
fn limit(usage: &Usage) -> Option<&'static str> {
    if usage.server_busiest > BUSY_CORES {
        Some("the server: one of its threads was fully busy")
    } else if usage.load_cores > BUSY_CORES {
        Some("load, not the server: run several to measure more")
    } else {
        None
    }
}

fn fmt_number(f: &mut fmt::Formatter<'_>, value: Option<f64>, decimals: usize) -> fmt::Result {
    match value {
        Some(value) => write!(f, "{value:.decimals$}"),
        None => f.write_str("-"),
    }
}

/// A thread that uses this share of a core counts as fully busy.
const BUSY_CORES: f64 = 0.93;

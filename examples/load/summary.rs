//! The report for people.

use std::fmt;

use crate::args::Mode;
use crate::failures::Failures;
use crate::report::{Latencies, Report};

/// A report with the failures of its run.
#[derive(Debug)]
pub(crate) struct Summary<'a>(pub(crate) &'a Report, pub(crate) &'a Failures);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report, failures) = *self;
        report.fmt_throughput(f)?;
        report.latencies.fmt_histogram(f)?;
        if let Some(server) = report.server() {
            f.write_str("\nserver cpu  ")?;
            fmt_number(f, report.server_us_per_message(), 3)?;
            write!(f, " us/{}  {:.2} cores", report.message(), server.cores)?;
        }
        if let (Some(p99), Some(max)) = (report.lateness.get("p99"), report.lateness.get("max")) {
            write!(f, "\nlateness us  p99 {p99:.1}  max {max:.1}  (of load itself)")?;
        }
        report.fmt_missing(f)?;
        fmt_failures(f, failures)?;
        if failures.total() == 0 && report.has_measured() {
            write!(f, "\nchecked     every {} was correct", report.answer())?;
        }
        write!(f, "\nlimit       {}", report.limit())
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
        let total = megabytes * seconds;
        write!(f, "throughput  {rate:.0} {name}/s  {megabytes:.1} MB/s  {total:.1} MB in all")?;
        match &self.fan_out {
            None => self.latencies.fmt_line(f, "latency us"),
            Some(published) => {
                write!(f, "\npublished   {:.0} messages/s, ", published.per_s)?;
                write!(f, "{} delivered to all", published.messages)?;
                self.latencies.fmt_line(f, "each us")?;
                published.last.fmt_line(f, "last us")
            }
        }
    }

    /// The messages without an answer.
    fn fmt_missing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tally, messages) = (&self.tally, self.messages_name());
        if tally.messages_unsent > 0 {
            write!(f, "\nunsent      {} messages were due but not sent", tally.messages_unsent)?;
        }
        if tally.messages_unanswered > 0 {
            let count = tally.messages_unanswered;
            write!(f, "\nunanswered  {count} {messages} had not arrived a second after the end")?;
        }
        if tally.messages_lost > 0 {
            write!(f, "\nlost        {} {messages}, by failures", tally.messages_lost)?;
        }
        if tally.closes_unanswered > 0 {
            let count = tally.closes_unanswered;
            write!(f, "\nunclosed    {count} connections did not answer Close")?;
        }
        Ok(())
    }

    /// The bottleneck, in plain words.
    fn limit(&self) -> String {
        let load_cores = self.usage.map_or(0.0, |usage| usage.load_cores);
        if self.rate.is_some() {
            return match (self.lateness.get("p99"), self.latencies.get("p99")) {
                (Some(late), Some(latency)) if late > LATE_US && late > latency / 2.0 => {
                    "load, not the server: it sent too late (see lateness)".to_owned()
                }
                _ if self.tally.messages_unsent > 0 => {
                    "the server: it did not keep up with --rate".to_owned()
                }
                _ => "--rate: all messages were sent in time".to_owned(),
            };
        }
        match self.server() {
            Some(server) if server.busiest_thread > BUSY_CORES => {
                "the server: one of its threads was fully busy".to_owned()
            }
            _ if load_cores > BUSY_CORES => {
                format!("load, not the server: it used {load_cores:.2} cores; run several")
            }
            Some(_) => format!(
                "the messages in flight: neither the server nor load ({load_cores:.2} cores) was busy"
            ),
            None => format!(
                "not load, which used {load_cores:.2} cores; --pid shows if it was the server"
            ),
        }
    }

    /// One echo or one delivery.
    fn message(&self) -> &'static str {
        match self.mode {
            Mode::Echo { .. } => "message",
            Mode::Broadcast { .. } => "delivery",
        }
    }

    fn answer(&self) -> &'static str {
        match self.mode {
            Mode::Echo { .. } => "echo",
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

    fn fmt_histogram(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.ranges.iter().map(|(_, count)| count).sum();
        let largest = self.ranges.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
        for &(limit_us, count) in &self.ranges {
            let percent = count as f64 * 100.0 / total.max(1) as f64;
            let bar = "#".repeat((count * BAR_CHARACTERS / largest) as usize);
            write!(f, "\n{:>12} us {percent:5.1} % {bar}", format!("< {limit_us}"))?;
        }
        Ok(())
    }
}

fn fmt_failures(f: &mut fmt::Formatter<'_>, failures: &Failures) -> fmt::Result {
    if failures.total() == 0 {
        return f.write_str("\nfailures    none");
    }
    write!(f, "\nfailures    {} connections", failures.total())?;
    for (kind, count) in failures.counts().filter(|(_, count)| *count > 0) {
        write!(f, "; {}: {count}", kind.description())?;
    }
    Ok(())
}

fn fmt_number(f: &mut fmt::Formatter<'_>, value: Option<f64>, decimals: usize) -> fmt::Result {
    match value {
        Some(value) => write!(f, "{value:.decimals$}"),
        None => f.write_str("-"),
    }
}

/// A thread that uses this share of a core counts as fully busy.
const BUSY_CORES: f64 = 0.93;

/// A generator that is less late than this is in time.
const LATE_US: f64 = 1000.0;

/// The longest bar of the histogram.
const BAR_CHARACTERS: u64 = 40;

//! Records counts and latencies, and prints them.
//!
//! The keys of the JSON line are stable, because scripts read them.

use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::args::Options;
use crate::usage::Usage;

/// Counts and latencies of the measured time, and the clock of the run.
#[derive(Debug)]
pub(crate) struct Recorder {
    epoch: Instant,
    /// Nanoseconds since the epoch at the last `tick`.
    pub(crate) now: u64,
    /// When any connection last made progress.
    pub(crate) progress_at: u64,
    /// Only echoes that arrive in `measured_from..measured_until` count.
    measured_from: u64,
    measured_until: u64,
    messages: u64,
    message_bytes: u64,
    last_echo_at: u64,
    latencies_ns: Histogram<u64>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let latencies_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS);
        Self {
            epoch: Instant::now(),
            now: 0,
            progress_at: 0,
            measured_from: u64::MAX,
            measured_until: u64::MAX,
            messages: 0,
            message_bytes: 0,
            last_echo_at: 0,
            latencies_ns: latencies_ns.expect("the bounds are constants in range"),
        }
    }

    /// Reads the clock.
    #[inline]
    pub(crate) fn tick(&mut self) -> u64 {
        self.now = self.epoch.elapsed().as_nanos() as u64;
        self.now
    }

    /// Sets the measured time: from the end of `warmup`, for `duration` or without limit.
    pub(crate) fn measure(&mut self, warmup: Duration, duration: Option<Duration>) {
        self.measured_from = self.now + warmup.as_nanos() as u64;
        self.measured_until =
            duration.map_or(u64::MAX, |duration| self.measured_from + duration.as_nanos() as u64);
    }

    #[inline]
    pub(crate) fn echoed(&mut self, messages: u64, message_bytes: u64, now: u64) {
        if (self.measured_from..self.measured_until).contains(&now) {
            self.messages += messages;
            self.message_bytes += message_bytes;
            self.last_echo_at = now;
        }
    }

    /// Records the latency of `messages` sent at `sent_at` and echoed at `now`.
    #[inline]
    pub(crate) fn latency(&mut self, sent_at: u64, messages: u64, now: u64) {
        if (self.measured_from..self.measured_until).contains(&now) {
            self.latencies_ns.saturating_record_n(now.saturating_sub(sent_at), messages);
        }
    }

    /// The rest of the measured time; `None` once it is over.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        self.measured_until.checked_sub(self.now).filter(|&left| left > 0).map(Duration::from_nanos)
    }

    /// Whether the measured time has begun.
    pub(crate) fn is_measuring(&self) -> bool {
        self.now >= self.measured_from
    }

    /// The end of the measured time.
    pub(crate) fn measured_until(&self) -> u64 {
        self.measured_until
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Nanoseconds of measured time, or up to the last echo if it has no limit.
    fn elapsed(&self) -> u64 {
        let end = match self.measured_until {
            u64::MAX => self.last_echo_at,
            until => until,
        };
        end.saturating_sub(self.measured_from)
    }
}

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Report {
    connections: u32,
    depth: u32,
    sizes: String,
    rate: Option<f64>,
    messages: u64,
    messages_unsent: u64,
    closes_unanswered: u32,
    seconds: f64,
    messages_per_s: f64,
    megabytes_per_s: f64,
    latency_us: [(&'static str, f64); 5],
    latency_mean_us: f64,
    cpu: Option<Cpu>,
}

/// CPU time of the server and of this process.
#[derive(Debug)]
struct Cpu {
    server_us_per_message: f64,
    usage: Usage,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        recorder: &Recorder,
        usage: Option<Usage>,
        messages_unsent: u64,
        closes_unanswered: u32,
    ) -> Self {
        // At least a nanosecond, so that the rate is finite.
        let seconds = recorder.elapsed().max(1) as f64 / 1e9;
        let messages_per_s = recorder.messages as f64 / seconds;
        let latencies = &recorder.latencies_ns;
        let quantile = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            connections: options.connections,
            depth: options.depth,
            sizes: options.size.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
            rate: options.rate,
            messages: recorder.messages,
            messages_unsent,
            closes_unanswered,
            seconds,
            messages_per_s,
            megabytes_per_s: recorder.message_bytes as f64 / seconds / 1e6,
            latency_us: [
                ("p50", quantile(0.5)),
                ("p90", quantile(0.9)),
                ("p99", quantile(0.99)),
                ("p99.9", quantile(0.999)),
                ("max", latencies.max() as f64 / 1e3),
            ],
            latency_mean_us: latencies.mean() / 1e3,
            cpu: usage.map(|usage| Cpu::new(usage, messages_per_s)),
        }
    }

    /// One flat object on one line. Every value is a number, null, or a string of digits and
    /// commas, so nothing needs escaping.
    pub(crate) fn to_json(&self) -> String {
        let rate = self.rate.map_or_else(|| "null".to_owned(), |rate| rate.to_string());
        let latencies: String = self
            .latency_us
            .iter()
            .map(|(name, value)| format!("\"latency_{}_us\":{value:.1},", name.replace('.', "")))
            .collect();
        format!(
            "{{\"connections\":{},\"depth\":{},\"sizes_bytes\":\"{}\",\"rate_messages_per_s\":{rate},\
             \"messages\":{},\"seconds\":{:.6},\"messages_per_s\":{:.1},\"megabytes_per_s\":{:.3},\
             {latencies}\"latency_mean_us\":{:.1},\"messages_unsent\":{},\"closes_unanswered\":{},\
             \"server_cpu_us_per_message\":{},\"server_cores\":{},\"load_cores\":{}}}",
            self.connections,
            self.depth,
            self.sizes,
            self.messages,
            self.seconds,
            self.messages_per_s,
            self.megabytes_per_s,
            self.latency_mean_us,
            self.messages_unsent,
            self.closes_unanswered,
            number_or_null(self.cpu.as_ref().map(|cpu| cpu.server_us_per_message)),
            number_or_null(self.cpu.as_ref().map(|cpu| cpu.usage.server_cores)),
            number_or_null(self.cpu.as_ref().map(|cpu| cpu.usage.load_cores)),
        )
    }
}

impl Cpu {
    fn new(usage: Usage, messages_per_s: f64) -> Self {
        let server_us_per_message = match messages_per_s {
            // Printed as null.
            0.0 => f64::NAN,
            messages_per_s => usage.server_cores * 1e6 / messages_per_s,
        };
        Self { server_us_per_message, usage }
    }

    /// The bottleneck, if one of the two used all its CPU time.
    fn limit(&self) -> Option<&'static str> {
        if self.usage.server_busiest > BUSY_CORES {
            Some("the server: one of its threads was fully busy")
        } else if self.usage.load_cores > BUSY_CORES {
            Some("load, not the server: run several to measure more")
        } else {
            None
        }
    }
}

fn number_or_null(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.4}"),
        _ => "null".to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} connections, {} bytes, depth {}: {} messages in {:.3} s",
            self.connections, self.sizes, self.depth, self.messages, self.seconds
        )?;
        writeln!(
            f,
            "throughput  {:.0} messages/s  {:.1} MB/s",
            self.messages_per_s, self.megabytes_per_s
        )?;
        f.write_str("latency us")?;
        for (name, value) in self.latency_us {
            write!(f, "  {name} {value:.1}")?;
        }
        if let Some(cpu) = &self.cpu {
            write!(f, "\n{cpu}")?;
            // With --rate the rate is the limit, and load polls the clock while it waits.
            if let (Some(limit), None) = (cpu.limit(), self.rate) {
                write!(f, "\nlimit       {limit}")?;
            }
        }
        if self.messages_unsent > 0 {
            write!(f, "\nunsent      {} messages were due but not sent", self.messages_unsent)?;
        }
        if self.closes_unanswered > 0 {
            write!(f, "\nunclosed    {} connections did not answer Close", self.closes_unanswered)?;
        }
        Ok(())
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "server cpu  {:.3} us/message  {:.2} cores  (load itself: {:.2})",
            self.server_us_per_message, self.usage.server_cores, self.usage.load_cores
        )
    }
}

/// A thread that uses this share of a core counts as fully busy.
const BUSY_CORES: f64 = 0.93;

/// Ten minutes; longer latencies are recorded as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// A precision of 0.1 %: finer than the difference between two runs.
const SIGNIFICANT_DIGITS: u8 = 3;

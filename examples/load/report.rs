//! The outcome of a run, and its JSON line. `summary` prints it for people.
//!
//! The keys of the JSON line are stable, because scripts read them.

use hdrhistogram::Histogram;

use crate::args::{Mode, Options};
use crate::failures::Failures;
use crate::recorder::Recorder;
use crate::traffic::FanOut;
use crate::usage::{ServerUsage, Usage};

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) connections: u32,
    pub(crate) mode: Mode,
    pub(crate) sizes: String,
    pub(crate) rate: Option<f64>,
    /// Echoes or deliveries.
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) messages_per_s: f64,
    pub(crate) megabytes_per_s: f64,
    /// From sending a message to its echo, or to each of its deliveries.
    pub(crate) latencies: Latencies,
    /// How late the generator itself was; without --rate there is no sample.
    pub(crate) lateness: Latencies,
    /// Only of a broadcast.
    pub(crate) fan_out: Option<Published>,
    pub(crate) tally: Tally,
    pub(crate) usage: Option<Usage>,
}

/// Messages without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    /// They were due but not sent.
    pub(crate) messages_unsent: u64,
    /// Echoes or deliveries that had not arrived a second after the end.
    pub(crate) messages_unanswered: u64,
    /// Echoes or deliveries that were missing when their connection failed.
    pub(crate) messages_lost: u64,
    pub(crate) closes_unanswered: u32,
}

/// Messages that were delivered to all connections.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) messages: u64,
    pub(crate) per_s: f64,
    /// From sending a message to its last delivery.
    pub(crate) last: Latencies,
}

/// Microseconds; `None` without a sample.
#[derive(Debug)]
pub(crate) struct Latencies {
    pub(crate) quantiles: [(&'static str, Option<f64>); 5],
    pub(crate) mean: Option<f64>,
    /// Upper limit and number of samples of each range, without empty ranges at the ends.
    pub(crate) ranges: Vec<(u64, u64)>,
}

impl Latencies {
    pub(crate) fn new(histogram: &Histogram<u64>) -> Self {
        let of_any = |value_ns: f64| (!histogram.is_empty()).then_some(value_ns / 1e3);
        let quantile = |quantile| of_any(histogram.value_at_quantile(quantile) as f64);
        Self {
            quantiles: [
                ("p50", quantile(0.5)),
                ("p90", quantile(0.9)),
                ("p99", quantile(0.99)),
                ("p99.9", quantile(0.999)),
                ("max", of_any(histogram.max() as f64)),
            ],
            mean: of_any(histogram.mean()),
            ranges: ranges(histogram),
        }
    }

    /// By its name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.quantiles.iter().find(|(quantile, _)| *quantile == name).and_then(|(_, value)| *value)
    }

    fn add_to(&self, json: &mut Json, name: &str) {
        for (quantile, value) in self.quantiles {
            json.decimal(&format!("{name}_{}_us", quantile.replace('.', "")), value, 1);
        }
        json.decimal(&format!("{name}_mean_us"), self.mean, 1);
    }
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        recorder: &Recorder,
        usage: Option<Usage>,
        tally: Tally,
        fan_out: Option<FanOut<'_>>,
    ) -> Self {
        let seconds = recorder.seconds();
        let fan_out = fan_out.map(|fan_out| Published {
            messages: fan_out.published,
            per_s: fan_out.published as f64 / seconds,
            last: Latencies::new(fan_out.last_ns),
        });
        Self {
            connections: options.connections,
            mode: options.mode(),
            sizes: options.sizes(),
            rate: options.rate,
            messages: recorder.messages(),
            seconds,
            messages_per_s: recorder.messages() as f64 / seconds,
            megabytes_per_s: recorder.message_bytes() as f64 / seconds / 1e6,
            latencies: Latencies::new(recorder.latencies_ns()),
            lateness: Latencies::new(recorder.lateness_ns()),
            fan_out,
            tally,
            usage,
        }
    }

    /// Whether a message was echoed, or delivered to all.
    pub(crate) fn has_measured(&self) -> bool {
        self.fan_out.as_ref().map_or(self.messages, |published| published.messages) > 0
    }

    /// CPU time of the server per echo or delivery.
    pub(crate) fn server_us_per_message(&self) -> Option<f64> {
        let server = self.server().filter(|_| self.messages > 0)?;
        Some(server.cores * 1e6 / self.messages_per_s)
    }

    pub(crate) fn server(&self) -> Option<ServerUsage> {
        self.usage.and_then(|usage| usage.server)
    }

    /// One flat object on one line.
    pub(crate) fn to_json(&self, failures: &Failures) -> String {
        let mut json = Json::default();
        json.add("connections", self.connections);
        match self.mode {
            Mode::Echo { depth } => json.add("depth", depth),
            Mode::Broadcast { publishers, window } => {
                json.add("publishers", publishers);
                json.add("window", window);
            }
        }
        // Digits and commas, which need no escaping.
        json.add("sizes_bytes", format_args!("\"{}\"", self.sizes));
        match self.rate {
            Some(rate) => json.add("rate_messages_per_s", rate),
            None => json.add("rate_messages_per_s", "null"),
        }
        let message = match &self.fan_out {
            None => {
                self.add_echoes(&mut json);
                "message"
            }
            Some(published) => {
                self.add_deliveries(published, &mut json);
                "delivery"
            }
        };
        let tally = &self.tally;
        json.add("messages_unsent", tally.messages_unsent);
        json.add("closes_unanswered", tally.closes_unanswered);
        let per_message = format!("server_cpu_us_per_{message}");
        json.decimal(&per_message, self.server_us_per_message(), 4);
        json.decimal("server_cores", self.server().map(|server| server.cores), 4);
        json.decimal("load_cores", self.usage.as_ref().map(|usage| usage.load_cores), 4);
        json.add("messages_unanswered", tally.messages_unanswered);
        json.add("messages_lost", tally.messages_lost);
        json.decimal("generator_late_p99_us", self.lateness.get("p99"), 1);
        json.decimal("generator_late_max_us", self.lateness.get("max"), 1);
        json.add("failures", failures.total());
        for (kind, count) in failures.counts() {
            json.add(&format!("failures_{}", kind.name()), count);
        }
        json.finish()
    }

    fn add_echoes(&self, json: &mut Json) {
        json.add("messages", self.messages);
        json.decimal("seconds", Some(self.seconds), 6);
        json.decimal("messages_per_s", Some(self.messages_per_s), 1);
        json.decimal("megabytes_per_s", Some(self.megabytes_per_s), 3);
        self.latencies.add_to(json, "latency");
    }

    fn add_deliveries(&self, published: &Published, json: &mut Json) {
        json.add("published", published.messages);
        json.add("deliveries", self.messages);
        json.decimal("seconds", Some(self.seconds), 6);
        json.decimal("published_per_s", Some(published.per_s), 1);
        json.decimal("deliveries_per_s", Some(self.messages_per_s), 1);
        json.decimal("megabytes_per_s", Some(self.megabytes_per_s), 3);
        self.latencies.add_to(json, "each");
        published.last.add_to(json, "last");
    }
}

/// The samples in ranges that end at 1, 2 and 5 times a power of ten microseconds.
fn ranges(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let limits = (0..9).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
    let mut from = 0;
    let mut ranges: Vec<_> = limits
        .map(|limit_us| {
            let to = limit_us * 1000 - 1;
            let count =
                histogram.iter_recorded().map(|it| (it.value_iterated_to(), it.count_at_value()));
            let count = count.filter(|(value, _)| (from..=to).contains(value)).map(|it| it.1).sum();
            from = to + 1;
            (limit_us, count)
        })
        .skip_while(|(_, count)| *count == 0)
        .collect();
    while ranges.pop_if(|(_, count)| *count == 0).is_some() {}
    ranges
}

/// A flat object in progress. Names and values need no escaping.
#[derive(Debug, Default)]
struct Json(Vec<String>);

impl Json {
    fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push(format!("\"{name}\":{value}"));
    }

    /// Adds `value` with this number of decimals, or null.
    fn decimal(&mut self, name: &str, value: Option<f64>, decimals: usize) {
        match value {
            Some(value) => self.add(name, format_args!("{value:.decimals$}")),
            None => self.add(name, "null"),
        }
    }

    fn finish(self) -> String {
        format!("{{{}}}", self.0.join(","))
    }
}

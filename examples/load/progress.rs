//! The progress bar on standard error.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Options;
use crate::recorder::Interval;

/// A bar that is updated a few times per second.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    due_at: u64,
    /// The rate and p99 of the last interval.
    live: String,
}

impl Progress {
    pub(crate) fn new(options: &Options) -> Self {
        let bar = if options.json || !io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3}%  {msg}");
            ProgressBar::no_length().with_style(style.expect("the template is a constant"))
        };
        Self { bar, due_at: 0, live: String::new() }
    }

    pub(crate) fn show(&mut self, now: u64, position: u64, length: u64, what: &'static str) {
        if now >= self.due_at {
            self.due_at = now + PERIOD.as_nanos() as u64;
            self.bar.set_length(length);
            self.bar.set_position(position.min(length));
            self.bar.set_message(format!("{what}{}", self.live));
        }
    }

    /// Shows the rate and p99 of an interval until the next one.
    pub(crate) fn interval(&mut self, interval: &Interval, length: Duration) {
        let per_s = interval.messages as f64 / length.as_secs_f64().max(1e-9);
        let p99_us = interval.latencies_ns.value_at_quantile(0.99) / 1000;
        self.live = format!("  {per_s:.0} messages/s  p99 {p99_us} us");
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

const PERIOD: Duration = Duration::from_millis(100);

//! The progress bar on standard error.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Options;

/// A bar that is updated a few times per second.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    due_at: u64,
}

impl Progress {
    pub(crate) fn new(options: &Options) -> Self {
        let bar = if options.json || !io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let style = ProgressStyle::with_template("{msg:>12} {wide_bar} {percent:>3}%");
            ProgressBar::no_length().with_style(style.expect("the template is a constant"))
        };
        Self { bar, due_at: 0 }
    }

    pub(crate) fn show(&mut self, now: u64, position: u64, length: u64, what: &'static str) {
        if now >= self.due_at {
            self.due_at = now + PERIOD.as_nanos() as u64;
            self.bar.set_length(length);
            self.bar.set_position(position.min(length));
            self.bar.set_message(what);
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

const PERIOD: Duration = Duration::from_millis(100);

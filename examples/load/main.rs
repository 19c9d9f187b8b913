//! Load generator for WebSocket servers: one thread, every message checked.
//!
//! It shares no code with the library that it measures. `phases` opens, measures and closes the
//! connections, and `client` is one of them. `schedule` decides when a message is sent. There are
//! two kinds of `traffic`: `echo` and `broadcast`.
//!
//! ```sh
//! cargo run --release --example load -- --url ws://127.0.0.1:9001/ --connections 64 --depth 32
//! ```

mod args;
#[path = "../shared/blocked_signals.rs"]
mod blocked_signals;
mod board;
mod broadcast;
mod bulletins;
mod client;
mod control;
mod deliveries;
mod dial;
mod echo;
mod echoes;
mod export;
mod failures;
mod frames;
mod inbound;
mod parse;
mod phases;
mod problem;
mod progress;
mod recorder;
mod report;
mod run;
mod schedule;
mod session;
mod signals;
mod summary;
mod traffic;
mod upgrade;
mod url;
mod usage;
mod workload;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::args::{Mode, Options};
use crate::broadcast::Member;
use crate::echo::Echo;
use crate::export::Exports;
use crate::phases::Outcome;
use crate::run::Run;
use crate::signals::Interrupt;
use crate::summary::Summary;

fn main() -> ExitCode {
    let options = match Options::from_command_line() {
        Ok(options) => options,
        // Help and version are not errors.
        Err(asked) if !asked.use_stderr() => asked.exit(),
        Err(error) => {
            let error = error.to_string();
            // The usage follows after an empty line.
            let lines = error.lines().take_while(|line| !line.is_empty()).map(str::trim);
            let line = lines.collect::<Vec<_>>().join(" ");
            let line = line.trim_start_matches("error: ");
            eprintln!("load: {line} (--help lists the options)");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let exports = match Exports::create(options.hdr.as_deref(), options.csv.as_deref()) {
        Ok(exports) => exports,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let result = run(&options, exports).and_then(|outcome| print(&outcome, options.json));
    result.unwrap_or_else(|error| {
        eprintln!("load: {error}");
        ExitCode::FAILURE
    })
}

fn run(options: &Options, exports: Exports) -> io::Result<Outcome> {
    let interrupt = Interrupt::on_signal()?;
    // Without more descriptors the connections that need them fail, and say so.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    match options.mode() {
        Mode::Echo { .. } => Run::<Echo>::new(options, exports, interrupt)?.finish(),
        Mode::Broadcast { .. } => Run::<Member>::new(options, exports, interrupt)?.finish(),
    }
}

/// Prints the failures and the report. A run without a message is no success.
fn print(outcome: &Outcome, json: bool) -> io::Result<ExitCode> {
    for line in outcome.failures.lines() {
        eprintln!("load: {line}");
    }
    let Some(report) = &outcome.report else {
        if outcome.failures.total() == 0 {
            eprintln!("load: interrupted before a connection was open");
        }
        return Ok(ExitCode::FAILURE);
    };
    let text = match json {
        true => report.to_json(&outcome.failures),
        false => Summary(report, &outcome.failures).to_string(),
    };
    writeln!(io::stdout(), "{text}")?;
    if !report.has_measured() {
        eprintln!("load: no message was answered in the measured time");
    }
    let is_success = report.has_measured() && outcome.failures.total() == 0;
    Ok(if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The exit status if an option cannot be used.
const USAGE_ERROR: u8 = 2;

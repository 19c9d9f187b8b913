//! Load generator for WebSocket echo servers: one thread, every echo checked.
//!
//! It shares no code with the library that it measures. `schedule` decides when a message is sent,
//! `workload` holds its bytes, `session` writes and times it, and `echoes` checks the reply.
//!
//! ```sh
//! cargo run --release --example load -- --url ws://127.0.0.1:9001/ --connections 64 --depth 32
//! ```

mod args;
mod client;
mod echoes;
mod frames;
mod problem;
mod report;
mod run;
mod schedule;
mod session;
mod upgrade;
mod usage;
mod workload;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::args::Options;
use crate::run::Run;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        // Help and version are not errors.
        Err(asked) if !asked.use_stderr() => asked.exit(),
        Err(error) => {
            let error = error.to_string();
            let line = error.lines().next().unwrap_or_default().trim_start_matches("error: ");
            eprintln!("load: {line} (--help lists the options)");
            return ExitCode::from(2);
        }
    };
    let report = match Run::new(&options).and_then(Run::finish) {
        Ok(report) => report,
        Err(failure) => {
            eprintln!("load: {failure}");
            return ExitCode::FAILURE;
        }
    };
    let text = if options.json { report.to_json() } else { report.to_string() };
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: stdout: {error}");
            ExitCode::FAILURE
        }
    }
}

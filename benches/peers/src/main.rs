//! Compares ws-reactor with other WebSocket servers: the same work, in turn, in one run.
//!
//! `servers` lists and builds them, and `process` runs one on its own core; `speed`, `fan_out`,
//! `latency`, `mixed`, `memory`, `churn`, `steps` and `busy_poll` each measure one thing and print it.
//!
//! ```sh
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --help
//! ```

mod args;
mod servers;
mod build;
mod process;
mod machine;
mod cells;
mod campaign;
mod load;
mod client;
mod speed;
mod fan_out;
mod latency;
mod mixed;
mod memory;
mod churn;
mod steps;
mod busy_poll;
mod record;
mod plot;
mod outcome;
mod table;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Bench};

/// An error ends the run and is printed in one line.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let Arguments { bench, options } = Arguments::parse();
    // The servers inherit the limit. If it cannot be raised, the default must suffice.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let result = match bench.unwrap_or(Bench::Speed) {
        Bench::Speed => speed::run(&options),
        Bench::Memory => memory::run(&options),
        Bench::Churn => churn::run(&options),
        Bench::Steps => steps::run(&options),
        Bench::FixedRate => latency::run(&options),
        Bench::Mixed => mixed::LARGE.run(&options),
        Bench::BesideTopic => mixed::TOPIC.run(&options),
        Bench::FanOut => fan_out::run(&options),
        Bench::BusyPoll => busy_poll::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

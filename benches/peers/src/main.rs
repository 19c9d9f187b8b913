//! Measures ws-reactor beside other WebSocket servers: the same work, in turn, in one run.
//!
//! `servers` knows what there is to measure and builds it, `process` runs one of them on its own
//! core; `speed`, `memory`, `churn`, `steps` and `busy_poll` each measure one thing and print it.
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
mod load;
mod client;
mod speed;
mod memory;
mod churn;
mod steps;
mod busy_poll;
mod record;
mod plot;
mod table;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, What};

/// A failure is told to a person, in one line, and ends the run.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let Arguments { what, options } = Arguments::parse();
    // For the servers, too, which inherit it. What it cannot be raised to is done without.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let result = match what.unwrap_or(What::Speed) {
        What::Speed => speed::run(&options),
        What::Memory => memory::run(&options),
        What::Churn => churn::run(&options),
        What::Steps => steps::run(&options),
        What::BusyPoll => busy_poll::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

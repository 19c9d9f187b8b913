//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Compares ws-reactor with other WebSocket servers: the same work, in turn, in one run.
///
/// Builds everything first. Servers whose tools (Node, Python, a C compiler) are missing are
/// reported and skipped.
#[derive(Debug, Parser)]
#[command(name = "peers")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) bench: Option<Bench>,

    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Bench {
    /// Throughput, latency, CPU time per message and idle memory, as tables, CSV and plots
    /// [the default].
    Speed,
    /// Memory of an idle connection, and of our server while it echoes a message of 64 MiB.
    Memory,
    /// CPU time of a connection: connect, upgrade, one echo, close.
    Churn,
    /// CPU time per message with two workers compared to one, for ws-reactor and raw-epoll.
    Steps,
    /// One message to many: CPU time per delivery and deliveries per second, as tables, CSV and plot.
    FanOut,
    /// Round trip of one connection with and without `--busy-poll`, for ws-reactor.
    BusyPoll,
}

#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Runs of each server in each cell; the tables show medians.
    #[arg(long, global = true, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Measured seconds of a run, after a second of warm-up.
    #[arg(long, global = true, value_name = "S", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,

    /// Cells to measure: small, all, or names, as in 64c-32B-d1,4c-1M-d2.
    #[arg(long, global = true, value_name = "CELLS", default_value = "all")]
    pub(crate) cells: String,

    /// Names of the servers to measure, as in ws-reactor,axum [default: all that are available].
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Worker threads of each server.
    #[arg(long, global = true, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: u32,

    /// Send binary messages [default: text].
    #[arg(long, global = true)]
    pub(crate) binary: bool,

    /// Idle connections for the measurement of memory; fewer if there are too few file descriptors.
    #[arg(long, global = true, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) idle: u32,

    /// CPU of the load generator.
    #[arg(long, global = true, value_name = "CPU", default_value_t = 0)]
    pub(crate) load_cpu: u32,

    /// CPUs of the servers, in taskset's notation [default: 1, or 1-N with N workers].
    #[arg(long, global = true, value_name = "CPUS")]
    pub(crate) server_cpus: Option<String>,

    /// Folder for CSV files and plots [default: peers/ in the project's target folder].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

impl Options {
    pub(crate) fn server_cpus(&self) -> String {
        match (&self.server_cpus, self.workers) {
            (Some(cpus), _) => cpus.clone(),
            (None, 1) => "1".to_owned(),
            (None, workers) => format!("1-{workers}"),
        }
    }
}

//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cells::{self, Cell};

/// Measures ws-reactor beside other WebSocket servers: the same work, in turn, in one run.
///
/// Builds everything first. What is not on the machine (Node, Python, a C compiler) is said and
/// left out.
#[derive(Debug, Parser)]
#[command(name = "peers")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) what: Option<What>,

    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum What {
    /// Throughput, latency, CPU time per message and idle memory, as tables, CSV and plots
    /// [the default].
    Speed,
    /// Memory of an idle connection, and of our server while it echoes a message of 64 MiB.
    Memory,
    /// CPU time of a connection: connect, upgrade, one echo, close.
    Churn,
    /// CPU time per message of two workers against one; ours and the yardstick.
    Steps,
    /// Round trip of one connection, with `--busy-poll` and without; ours.
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

    /// What to measure: small, all, or names, as in 64c-32B-d1,4c-1M-d2.
    #[arg(long, global = true, value_name = "CELLS", default_value = "all",
        value_parser = cells::parse)]
    pub(crate) cells: Cells,

    /// Whom to measure, by their names [default: whatever is on the machine].
    #[arg(long, global = true, value_name = "NAME", value_delimiter = ',')]
    pub(crate) servers: Vec<String>,

    /// Worker threads of each server.
    #[arg(long, global = true, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) workers: u32,

    /// Send binary messages [default: text].
    #[arg(long, global = true)]
    pub(crate) binary: bool,

    /// Idle connections that the memory is measured with; fewer if file descriptors do not
    /// suffice.
    #[arg(long, global = true, value_name = "N", default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) idle: u32,

    /// Where the load generator runs.
    #[arg(long, global = true, value_name = "CPU", default_value_t = 0)]
    pub(crate) load_cpu: u32,

    /// Where the servers run, as taskset takes it [default: 1, or 1-N with N workers].
    #[arg(long, global = true, value_name = "CPUS")]
    pub(crate) server_cpus: Option<String>,

    /// Where CSV files and plots go [default: peers/ in the project's target folder].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What `--cells` names.
pub(crate) type Cells = std::sync::Arc<[Cell]>;

impl Options {
    pub(crate) fn server_cpus(&self) -> String {
        match (&self.server_cpus, self.workers) {
            (Some(cpus), _) => cpus.clone(),
            (None, 1) => "1".to_owned(),
            (None, workers) => format!("1-{workers}"),
        }
    }
}

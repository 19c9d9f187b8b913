//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::servers::PORT;

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
    /// Latency at a fixed rate, the same for every server: 50 % and 80 % of the throughput of the
    /// slowest, as tables, CSV and plot.
    FixedRate,
    /// Latency of small echoes on 63 connections beside one that sends messages of 1 MiB, as tables,
    /// CSV and plot.
    Mixed,
    /// Latency of echoes on one connection beside a topic of 5000 subscribers with ten messages a
    /// second, for ws-reactor and rawfan, as tables, CSV and plot.
    BesideTopic,
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

    /// Also measure the server that COMMAND starts, repeatable. It listens on 127.0.0.1:{port}, has
    /// {workers} threads if the command says so, and stays one process in the foreground.
    #[arg(long, global = true, value_name = "NAME=COMMAND", value_parser = Also::parse)]
    pub(crate) also: Vec<Also>,

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

/// A server that the user starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Also {
    pub(crate) name: String,
    /// The program and its arguments, with placeholders.
    pub(crate) command: Vec<String>,
}

impl Also {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("there is no = after the name")?;
        if name.is_empty() || name.contains(',') {
            return Err("the name must not be empty or contain a comma".to_owned());
        }
        // The shell's quotes, but no variables and no operators: a shell would be a further process.
        let command = shlex::split(command).ok_or("a quote is not closed")?;
        if command.is_empty() {
            return Err("there is no command after the =".to_owned());
        }
        if !command.iter().any(|part| part.contains(PORT)) {
            return Err("the command has no {port} on which the server listens".to_owned());
        }
        Ok(Self { name: name.to_owned(), command })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_the_user_is_a_name_and_a_command() {
        let also = Also::parse("mine=node 'my server.js' --port={port} --name=x").expect("valid");
        assert_eq!(also.name, "mine");
        assert_eq!(also.command, ["node", "my server.js", "--port={port}", "--name=x"]);
    }

    #[test]
    fn a_server_of_the_user_without_name_command_or_port_is_refused() {
        for text in
            ["node {port}", "=node {port}", "a,b=node {port}", "a=", "a=node", "a='node {port}"]
        {
            assert!(Also::parse(text).is_err(), "{text}");
        }
    }
}

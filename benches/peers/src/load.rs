//! One run of the `load` example against one server.

use std::path::Path;
use std::process::{Command, Output};

use serde::Deserialize;

use crate::Result;
use crate::args::Options;
use crate::cells::Cell;
use crate::machine;
use crate::outcome::STOLEN_PERCENT_MAX;
use crate::process::{self, Running};
use crate::record::{Column, column};
use crate::servers::Server;

/// The figures of `load`'s report that are used here.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Figures {
    pub(crate) messages_per_s: f64,
    pub(crate) megabytes_per_s: f64,
    pub(crate) latency_p50_us: f64,
    pub(crate) latency_p99_us: f64,
    pub(crate) latency_p999_us: f64,
    pub(crate) server_cpu_us_per_message: f64,
    pub(crate) server_cores: f64,
    pub(crate) load_cores: f64,
    /// CPU time of the machine that the hypervisor gave to others, in percent.
    #[serde(skip)]
    pub(crate) stolen_percent: f64,
    /// Workers of the server.
    #[serde(skip)]
    pub(crate) workers: u32,
}

impl Figures {
    /// Their columns in a CSV file.
    pub(crate) fn columns(&self) -> [Column; 9] {
        [
            column("messages_per_s", self.messages_per_s),
            column("megabytes_per_s", self.megabytes_per_s),
            column("latency_p50_us", self.latency_p50_us),
            column("latency_p99_us", self.latency_p99_us),
            column("latency_p999_us", self.latency_p999_us),
            column("server_cpu_us_per_message", self.server_cpu_us_per_message),
            column("server_cores", self.server_cores),
            column("load_cores", self.load_cores),
            column("stolen_percent", self.stolen_percent),
        ]
    }
}

/// The CPUs and workers of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) workers: u32,
    pub(crate) cpus: &'a str,
    /// Cores of the machine.
    pub(crate) cores: usize,
}

/// The program `load`, and how to run it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) program: &'a Path,
    pub(crate) place: Place<'a>,
    pub(crate) options: &'a Options,
    /// The path of its requests.
    pub(crate) path: &'static str,
    /// Seconds of messages before the measured ones.
    pub(crate) warmup_s: u32,
}

impl Load<'_> {
    /// Measures `server` on a quiet machine: as fast as it echoes, or at `rate` messages per second.
    pub(crate) fn measure(
        &self,
        server: &Server,
        cell: &Cell,
        rate: Option<f64>,
    ) -> Result<Figures> {
        let once = || {
            let running = Running::start(server, self.place.workers, self.place.cpus)?;
            let output = self.command(&running, cell, rate).output();
            figures(&output.map_err(|error| format!("load: {error}"))?)
        };
        let (figures, stolen_percent) = machine::undisturbed(self.place.cores, once)
            .map_err(|error| format!("{}: {error}", cell.name))?;
        Ok(Figures { stolen_percent, workers: self.place.workers, ..figures })
    }

    /// The program, with the server's address and process, and the duration of the measurement.
    pub(crate) fn program(&self, running: &Running, path: &str, seconds: u32) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--json").args(["--url", &format!("ws://{}{path}", running.address)]);
        command.args(["--pid", &running.pid().to_string()]);
        command.args(["--duration", &seconds.to_string()]);
        command
    }

    /// The command that measures a server and prints a report.
    pub(crate) fn command(&self, running: &Running, cell: &Cell, rate: Option<f64>) -> Command {
        let mut command = self.program(running, self.path, self.options.seconds);
        for (option, value) in [
            ("--connections", cell.connections),
            ("--size", cell.size as u32),
            ("--depth", cell.depth),
            ("--warmup", self.warmup_s),
        ] {
            command.args([option, &value.to_string()]);
        }
        if let Some(rate) = rate {
            command.args(["--rate", &format!("{rate:.0}")]);
        }
        if self.options.binary {
            command.arg("--binary");
        }
        command
    }
}

/// The report of a run, if no connection failed.
pub(crate) fn report(output: &Output) -> Result<serde_json::Value> {
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout)?),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
    }
}

/// The figures in the report of a run.
pub(crate) fn figures(output: &Output) -> Result<Figures> {
    let figures: Figures = serde_json::from_value(report(output)?)?;
    process::check_that_it_worked(figures.server_cores)?;
    Ok(figures)
}

/// A warning if the machine was disturbed.
pub(crate) fn stolen_note(figures: &Figures) -> String {
    match figures.stolen_percent > STOLEN_PERCENT_MAX {
        true => "the hypervisor stole time".to_owned(),
        false => String::new(),
    }
}

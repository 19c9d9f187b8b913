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
            .map_err(|error| format!("{} in {}: {error}", server.name, cell.name))?;
        Ok(Figures { stolen_percent, workers: self.place.workers, ..figures })
    }

    /// The command that measures a server and prints a report.
    pub(crate) fn command(&self, running: &Running, cell: &Cell, rate: Option<f64>) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--json").args(["--warmup", WARMUP_S]);
        command.args(["--url", &format!("ws://{}/", running.address)]);
        for (option, value) in [
            ("--pid", running.pid()),
            ("--connections", cell.connections),
            ("--size", cell.size as u32),
            ("--depth", cell.depth),
            ("--duration", self.options.seconds),
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

/// The report of a run.
pub(crate) fn figures(output: &Output) -> Result<Figures> {
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().into());
    }
    let figures: Figures = serde_json::from_slice(&output.stdout)?;
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

/// Long enough for Node's compiler.
const WARMUP_S: &str = "1";

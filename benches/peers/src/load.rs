//! One run of the `load` example against one server.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::Result;
use crate::args::Options;
use crate::cells::Cell;
use crate::machine;
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

/// Measures `server` on a quiet machine.
pub(crate) fn measure(
    load: &Path,
    server: &Server,
    cell: &Cell,
    place: Place<'_>,
    options: &Options,
) -> Result<Figures> {
    let once = || measure_once(load, server, cell, place, options);
    let (figures, stolen_percent) = machine::undisturbed(place.cores, once)
        .map_err(|error| format!("{} in {}: {error}", server.name, cell.name))?;
    Ok(Figures { stolen_percent, ..figures })
}

fn measure_once(
    load: &Path,
    server: &Server,
    cell: &Cell,
    place: Place<'_>,
    options: &Options,
) -> Result<Figures> {
    let running = Running::start(server, place.workers, place.cpus)?;
    let mut command = Command::new(load);
    command.arg("--json").args(["--warmup", WARMUP_S]);
    command.args(["--url", &format!("ws://{}/", running.address)]);
    for (option, value) in [
        ("--pid", running.pid()),
        ("--connections", cell.connections),
        ("--size", cell.size as u32),
        ("--depth", cell.depth),
        ("--duration", options.seconds),
    ] {
        command.args([option, &value.to_string()]);
    }
    if options.binary {
        command.arg("--binary");
    }
    let output = command.output().map_err(|error| format!("load: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().into());
    }
    let figures: Figures = serde_json::from_slice(&output.stdout)?;
    process::check_that_it_worked(figures.server_cores)?;
    Ok(Figures { workers: place.workers, ..figures })
}

/// Long enough for Node's compiler.
const WARMUP_S: &str = "1";

//! A campaign of measurements: the servers that take part, where they run, and where results go.

use std::fs;
use std::path::PathBuf;

use crate::Result;
use crate::args::Options;
use crate::build;
use crate::load::{Load, Place};
use crate::machine::Machine;
use crate::process;
use crate::servers::{self, Server, Task};

/// Everything that the runs of one measurement share.
#[derive(Debug)]
pub(crate) struct Campaign<'o> {
    pub(crate) options: &'o Options,
    pub(crate) servers: Vec<Server>,
    pub(crate) machine: Machine,
    /// The CPUs of the servers.
    pub(crate) cpus: String,
    /// Results are written here.
    pub(crate) folder: PathBuf,
    load: PathBuf,
    failed_runs: u32,
}

impl<'o> Campaign<'o> {
    /// Builds the servers that can do `task`, and moves this program to the load generator's CPU.
    pub(crate) fn prepare(options: &'o Options, task: Task) -> Result<Self> {
        Self::prepare_some(options, task, options.server_cpus(), |_| true)
    }

    /// As [`prepare`](Self::prepare), with the built-in servers whose name is `among` those wanted.
    pub(crate) fn prepare_some(
        options: &'o Options,
        task: Task,
        cpus: String,
        among: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        // First, because a pinned process sees one core.
        let machine = Machine::detect()?;
        let (servers, load) = servers::prepare(options, task, among)?;
        process::pin_this_process(options.load_cpu, &cpus)?;
        let folder = options.out.clone().unwrap_or_else(build::out_folder);
        Ok(Self { options, servers, machine, cpus, folder, load, failed_runs: 0 })
    }

    /// The place of a server with as many workers as the options say.
    pub(crate) fn place(&self) -> Place<'_> {
        self.place_of(self.options.workers)
    }

    /// The place of a server with `workers` workers.
    pub(crate) fn place_of(&self, workers: u32) -> Place<'_> {
        Place { workers, cpus: &self.cpus, cores: self.machine.cores }
    }

    /// The load generator for a server at `place`.
    pub(crate) fn load<'a>(&'a self, place: Place<'a>) -> Load<'a> {
        Load { program: &self.load, place, options: self.options, path: "/", warmup_s: WARMUP_S }
    }

    /// Prints the conditions of the measurement.
    pub(crate) fn print_heading(&self, messages: &str) {
        self.machine.print_heading(self.options, messages);
    }

    /// Measures every server with `run`, one after the other, and again for each further round.
    /// Returns the runs of each server. A run that fails is reported, and the others go on.
    pub(crate) fn measure<F>(
        &mut self,
        mut run: impl FnMut(&Self, &Server, u32) -> Result<F>,
    ) -> Vec<Vec<F>> {
        let mut runs: Vec<Vec<F>> = self.servers.iter().map(|_| Vec::new()).collect();
        for round in 1..=self.options.rounds {
            for (server, runs) in self.servers.iter().zip(&mut runs) {
                match run(self, server, round) {
                    Ok(figures) => runs.push(figures),
                    Err(error) => {
                        eprintln!("{}: {error}", server.name);
                        self.failed_runs += 1;
                    }
                }
            }
        }
        runs
    }

    /// Writes a result to a file.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<str>) -> Result<()> {
        let path = self.folder.join(name);
        let written = fs::write(&path, text.as_ref());
        Ok(written.map_err(|error| format!("{}: {error}", path.display()))?)
    }

    /// Says where the results are. Fails if runs have failed, after everything else is reported.
    pub(crate) fn finish(&self, files: &str) -> Result<()> {
        println!("\n{files} are in {}", self.folder.display());
        self.check_runs()
    }

    /// Fails if runs have failed.
    pub(crate) fn check_runs(&self) -> Result<()> {
        match self.failed_runs {
            0 => Ok(()),
            failed => Err(format!("{failed} runs failed, see above").into()),
        }
    }
}

/// Long enough for Node's compiler.
const WARMUP_S: u32 = 1;

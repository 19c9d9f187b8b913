//! The round trip of one connection with and without `--busy-poll`.

use crate::Result;
use crate::args::Options;
use crate::cells;
use crate::load::{Load, Place};
use crate::machine::Machine;
use crate::process;
use crate::servers::{self, OURS, Task};
use crate::speed;
use crate::table::{Table, number};

pub(crate) fn run(options: &Options) -> Result<()> {
    let (servers, load) = servers::prepare_some(options, Task::Echo, |name| name == OURS)?;
    let ours = servers.into_iter().find(|server| server.name == OURS);
    let Some(blocking) = ours else { return Err("only ws-reactor has it".into()) };
    let servers = [blocking.clone(), blocking.with_arguments(&["--busy-poll", BUDGET_US])];
    let cores = Machine::detect()?.cores;
    let cpus = options.server_cpus();
    process::pin_this_process(options.load_cpu, &cpus)?;
    let place = Place { workers: options.workers, cpus: &cpus, cores };
    let load = Load { program: &load, place, options };
    let cell = cells::LATENCY;
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds {
        for (server, runs) in servers.iter().zip(&mut runs) {
            runs.push(load.measure(server, &cell, None)?);
        }
    }
    let medians = runs.each_ref().map(|runs| speed::medians(runs));
    let mut table = Table::new(&["--busy-poll", "p50 us", "p99 us", "to 0", ""]);
    for (budget, figures) in ["0", BUDGET_US].into_iter().zip(&medians) {
        table.add([
            budget.to_owned(),
            number(figures.latency_p50_us),
            number(figures.latency_p99_us),
            format!("{:.2}", figures.latency_p50_us / medians[0].latency_p50_us),
            String::new(),
        ]);
    }
    print!("{}  ({})\n{table}", cell.name, cell.title());
    Ok(())
}

/// Longer than the client's part of a round trip on one machine.
const BUDGET_US: &str = "50";

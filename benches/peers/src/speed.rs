//! Throughput, latency and CPU time per message: every server in every cell, in turn.

use std::fs;

use crate::Result;
use crate::args::Options;
use crate::build;
use crate::load::{self, Figures, Place};
use crate::machine::Machine;
use crate::memory;
use crate::outcome::{CellOutcome, Outcome, SATURATED_CORES, is_server_the_limit};
use crate::plot;
use crate::process;
use crate::record::{Record, SpeedRow};
use crate::servers::{self, NAMES, OURS, Server};
use crate::table::{Table, median, number};

pub(crate) fn run(options: &Options) -> Result<()> {
    let (servers, load) = servers::prepare(options, &NAMES)?;
    let machine = Machine::detect()?;
    let cpus = options.server_cpus();
    process::pin_this_process(options.load_cpu, &cpus)?;
    let place = Place { workers: options.workers, cpus: &cpus, cores: machine.cores };
    let folder = options.out.clone().unwrap_or_else(build::out_folder);
    let mut record = Record::create(&folder, "speed.csv")?;
    println!("{}, {} cores, Linux {}", machine.cpu, machine.cores, machine.kernel);
    println!(
        "workers: {} on CPU {cpus}; load: CPU {}; {} messages; medians over {} x {} s",
        options.workers,
        options.load_cpu,
        if options.binary { "binary" } else { "text" },
        options.rounds,
        options.seconds,
    );
    let mut all = Vec::new();
    for cell in options.cells.iter() {
        let mut runs: Vec<Vec<Figures>> = vec![Vec::new(); servers.len()];
        for round in 1..=options.rounds {
            for (server, runs) in servers.iter().zip(&mut runs) {
                match load::measure(&load, server, cell, place, options) {
                    Ok(figures) => {
                        record
                            .add(SpeedRow::new(&machine, options, cell, server, round, figures))?;
                        runs.push(figures);
                    }
                    Err(error) => eprintln!("{error}"),
                }
            }
        }
        let outcomes = outcomes(&servers, &runs);
        print!("\n{}  ({})\n{}", cell.name, cell.title(), table(&outcomes));
        all.push(CellOutcome { cell: *cell, outcomes });
    }
    for (name, drawing) in
        [("throughput.svg", plot::throughput(&all)?), ("latency.svg", plot::latency(&all)?)]
    {
        fs::write(folder.join(name), drawing)?;
    }
    println!();
    memory::idle(&servers, &machine, &cpus, options)?;
    println!("\nspeed.csv, memory.csv, throughput.svg and latency.svg are in {}", folder.display());
    Ok(())
}

/// Medians of the servers that have at least one run.
fn outcomes(servers: &[Server], runs: &[Vec<Figures>]) -> Vec<Outcome> {
    let pairs = servers.iter().zip(runs).filter(|(_, runs)| !runs.is_empty());
    pairs.map(|(server, runs)| Outcome { server: server.name, figures: medians(runs) }).collect()
}

pub(crate) fn medians(runs: &[Figures]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| median(runs.iter().map(figure));
    Figures {
        messages_per_s: of(|run| run.messages_per_s),
        megabytes_per_s: of(|run| run.megabytes_per_s),
        latency_p50_us: of(|run| run.latency_p50_us),
        latency_p99_us: of(|run| run.latency_p99_us),
        latency_p999_us: of(|run| run.latency_p999_us),
        server_cpu_us_per_message: of(|run| run.server_cpu_us_per_message),
        server_cores: of(|run| run.server_cores),
        load_cores: of(|run| run.load_cores),
        stolen_percent: of(|run| run.stolen_percent),
        workers: runs.first().map_or(0, |run| run.workers),
    }
}

/// A warning for a row that does not show the server's limit.
fn note(figures: &Figures) -> String {
    let mut notes = Vec::new();
    if !is_server_the_limit(figures) {
        notes.push(match figures.load_cores >= SATURATED_CORES {
            true => "load was the limit, not the server",
            false => "neither the server nor load was the limit",
        });
    }
    if figures.stolen_percent > load::STOLEN_PERCENT_MAX {
        notes.push("the hypervisor stole time");
    }
    notes.join("; ")
}

fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(&[
        "server",
        "messages/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "CPU us/message",
        "to ours",
        "cores",
        "",
    ]);
    let ours = outcomes.iter().find(|outcome| outcome.server == OURS);
    for Outcome { server, figures } in outcomes {
        let cpu = figures.server_cpu_us_per_message;
        let ratio = ours.map(|ours| cpu / ours.figures.server_cpu_us_per_message);
        table.add([
            (*server).to_owned(),
            number(figures.messages_per_s),
            number(figures.latency_p50_us),
            number(figures.latency_p99_us),
            number(figures.latency_p999_us),
            format!("{cpu:.3}"),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            format!("{:.2}", figures.server_cores),
            note(figures),
        ]);
    }
    table
}

//! Throughput, latency and CPU time per message: every server in every cell, in turn.

use std::fs;

use crate::Result;
use crate::args::Options;
use crate::build;
use crate::cells::{self, CELLS};
use crate::load::{Figures, Load, Place};
use crate::machine::Machine;
use crate::memory;
use crate::outcome::{self, CellOutcome, Outcome, note};
use crate::plot;
use crate::process;
use crate::record::{Record, SpeedRow};
use crate::servers::{self, OURS, Server, Task};
use crate::table::{Markdown, Table, median, number, ratio};

pub(crate) fn run(options: &Options) -> Result<()> {
    let cells = cells::select(&options.cells, CELLS)?;
    let (servers, load) = servers::prepare(options, Task::Echo)?;
    let machine = Machine::detect()?;
    let cpus = options.server_cpus();
    process::pin_this_process(options.load_cpu, &cpus)?;
    let place = Place { workers: options.workers, cpus: &cpus, cores: machine.cores };
    let load = Load { program: &load, place, options };
    let folder = options.out.clone().unwrap_or_else(build::out_folder);
    let mut record = Record::create(&folder, "speed.csv")?;
    let kind = if options.binary { "binary" } else { "text" };
    machine.print_heading(options, &format!("{kind} messages"));
    let (mut all, mut failures) = (Vec::new(), 0);
    for cell in &cells {
        let mut runs: Vec<Vec<Figures>> = vec![Vec::new(); servers.len()];
        for round in 1..=options.rounds {
            for (server, runs) in servers.iter().zip(&mut runs) {
                match load.measure(server, cell, None) {
                    Ok(figures) => {
                        record
                            .add(SpeedRow::new(&machine, options, cell, server, round, figures))?;
                        runs.push(figures);
                    }
                    Err(error) => {
                        eprintln!("{error}");
                        failures += 1;
                    }
                }
            }
        }
        let outcomes = outcomes(&servers, &runs, medians);
        print!("\n{}  ({})\n{}", cell.name, cell.title(), table(&outcomes));
        all.push(CellOutcome { title: cell.title(), outcomes });
    }
    for (name, text) in [
        ("throughput.svg", plot::throughput(&all)?),
        ("latency.svg", plot::latency(&all, "Echo latency")?),
        ("speed.md", markdown(&servers, &all).to_string()),
    ] {
        fs::write(folder.join(name), text)?;
    }
    println!();
    memory::idle(&servers, &machine, &cpus, options)?;
    println!(
        "\nspeed.csv, speed.md, memory.csv, throughput.svg and latency.svg are in {}",
        folder.display()
    );
    outcome::all_succeeded(failures)
}

/// The README's table: CPU time per message, ours in microseconds and the others as multiples.
fn markdown(servers: &[Server], cells: &[CellOutcome<Figures>]) -> Markdown {
    let mut table = Markdown::new("messages", servers.iter().map(|server| server.name.clone()));
    for cell in cells {
        let ours = cell.of(OURS).map(|ours| ours.server_cpu_us_per_message);
        table.add(
            &cell.title,
            servers.iter().map(|server| {
                let cpu = cell.of(&server.name)?.server_cpu_us_per_message;
                Some(match ours {
                    Some(ours) if server.name != OURS => ratio(cpu / ours),
                    _ => format!("{} us", number(cpu)),
                })
            }),
        );
    }
    table
}

/// Medians of the servers that have at least one run.
pub(crate) fn outcomes<F>(
    servers: &[Server],
    runs: &[Vec<F>],
    medians: impl Fn(&[F]) -> F,
) -> Vec<Outcome<F>> {
    let pairs = servers.iter().zip(runs).filter(|(_, runs)| !runs.is_empty());
    let outcome = |(server, runs): (&Server, &Vec<F>)| Outcome {
        server: server.name.clone(),
        figures: medians(runs),
    };
    pairs.map(outcome).collect()
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

fn table(outcomes: &[Outcome<Figures>]) -> Table {
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
            server.clone(),
            number(figures.messages_per_s),
            number(figures.latency_p50_us),
            number(figures.latency_p99_us),
            number(figures.latency_p999_us),
            format!("{cpu:.3}"),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            format!("{:.2}", figures.server_cores),
            note(figures.server_cores, figures.load_cores, figures.workers, figures.stolen_percent),
        ]);
    }
    table
}

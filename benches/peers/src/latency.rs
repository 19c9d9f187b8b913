//! Round trips at fixed rates, the same for every server: shares of the throughput of the slowest.
//! Messages are due at fixed times and latency counts from then, so a server that stalls shows it.

use std::fs;

use crate::Result;
use crate::args::Options;
use crate::build;
use crate::cells::{self, Cell, FIXED_RATE};
use crate::load::{self, Figures, Load, Place};
use crate::machine::Machine;
use crate::outcome::{self, CellOutcome, Outcome};
use crate::plot;
use crate::process;
use crate::record::{LatencyRow, Record};
use crate::servers::{self, Server, Task};
use crate::speed;
use crate::table::{Markdown, Table, median, number};

pub(crate) fn run(options: &Options) -> Result<()> {
    let cells = cells::select(&options.cells, FIXED_RATE)?;
    let (servers, load) = servers::prepare(options, Task::Echo)?;
    let machine = Machine::detect()?;
    let cpus = options.server_cpus();
    process::pin_this_process(options.load_cpu, &cpus)?;
    let place = Place { workers: options.workers, cpus: &cpus, cores: machine.cores };
    let folder = options.out.clone().unwrap_or_else(build::out_folder);
    let mut record = Record::create(&folder, "fixed-rate.csv")?;
    machine.print_heading(options, "text messages");
    let load = Load { program: &load, place, options };
    let (mut all, mut failures) = (Vec::new(), 0);
    for cell in &cells {
        let mut open = *cell;
        open.depth = IN_FLIGHT_MAX;
        let slowest = throughput_of_the_slowest(load, &servers, cell)?;
        for percent in PERCENTS {
            let rate = slowest * f64::from(percent) / 100.0;
            let mut runs: Vec<Vec<Figures>> = vec![Vec::new(); servers.len()];
            for round in 1..=options.rounds {
                for (server, runs) in servers.iter().zip(&mut runs) {
                    match load.measure(server, &open, Some(rate)) {
                        Ok(figures) => {
                            let condition = format!("{percent} %");
                            let row = LatencyRow::new(
                                &machine, cell.name, &condition, server, round, &figures,
                            );
                            record.add(row.at(rate))?;
                            runs.push(figures);
                        }
                        Err(error) => {
                            eprintln!("{error}");
                            failures += 1;
                        }
                    }
                }
            }
            let outcomes = speed::outcomes(&servers, &runs, speed::medians);
            let title = format!("{}, {} messages/s", cell.title(), number(rate));
            print!("\n{title}: {percent} % of the slowest\n{}", table(&outcomes));
            all.push(CellOutcome { title, outcomes });
        }
    }
    let markdown = markdown(&servers, &all).to_string();
    print!("\n{markdown}");
    fs::write(folder.join("fixed-rate.md"), markdown)?;
    fs::write(folder.join("fixed-rate.svg"), plot::latency(&all, "Echo latency at a fixed rate")?)?;
    println!("\nfixed-rate.csv, fixed-rate.md and fixed-rate.svg are in {}", folder.display());
    outcome::all_succeeded(failures)
}

/// Messages per second that each server can echo.
fn throughput_of_the_slowest(load: Load<'_>, servers: &[Server], cell: &Cell) -> Result<f64> {
    let mut slowest = f64::INFINITY;
    for server in servers {
        // A server that fails here is reported again at its first run.
        let run = |_| load.measure(server, cell, None).ok();
        let runs: Vec<_> = (0..load.options.rounds).filter_map(run).collect();
        if !runs.is_empty() {
            let throughput = median(runs.iter().map(|run| run.messages_per_s));
            println!("{}: {} echoes {} messages/s", cell.name, server.name, number(throughput));
            slowest = slowest.min(throughput);
        }
    }
    match slowest.is_finite() {
        true => Ok(slowest),
        false => Err(format!("no server can be measured in {}", cell.name).into()),
    }
}

fn table(outcomes: &[Outcome<Figures>]) -> Table {
    let mut table =
        Table::new(&["server", "messages/s", "p50 us", "p99 us", "p99.9 us", "cores", ""]);
    for Outcome { server, figures } in outcomes {
        table.add([
            server.clone(),
            number(figures.messages_per_s),
            number(figures.latency_p50_us),
            number(figures.latency_p99_us),
            number(figures.latency_p999_us),
            format!("{:.2}", figures.server_cores),
            load::stolen_note(figures),
        ]);
    }
    table
}

/// The README's table: p50, p99 and p99.9 of each server in each cell.
pub(crate) fn markdown(servers: &[Server], cells: &[CellOutcome<Figures>]) -> Markdown {
    let heads = cells.iter().map(|cell| cell.title.clone());
    let mut table = Markdown::new("p50 / p99 / p99.9 in us", heads);
    for server in servers {
        let percentiles = |cell: &CellOutcome<Figures>| {
            let figures = cell.of(&server.name)?;
            let all = [figures.latency_p50_us, figures.latency_p99_us, figures.latency_p999_us];
            Some(all.map(number).join(" / "))
        };
        table.add(&server.name, cells.iter().map(percentiles));
    }
    table
}

/// Shares of the throughput of the slowest server.
const PERCENTS: [u32; 2] = [50, 80];

/// Messages of a connection that may be in flight. Further ones wait in `load`, and their latency
/// counts from the time at which they were due.
const IN_FLIGHT_MAX: u32 = 64;

//! Small echoes on many connections beside a connection that floods the server with large messages.

use std::fs;
use std::process::Stdio;

use crate::Result;
use crate::args::Options;
use crate::build;
use crate::cells::{MIXED_LARGE, MIXED_SMALL};
use crate::latency;
use crate::load::{self, Figures, Load, Place};
use crate::machine::{self, Machine};
use crate::outcome::{self, CellOutcome, Outcome};
use crate::plot;
use crate::process::{self, Running};
use crate::record::{LatencyRow, Record};
use crate::servers::{self, Server, Task};
use crate::speed;
use crate::table::{Table, number};

pub(crate) fn run(options: &Options) -> Result<()> {
    let (servers, load) = servers::prepare(options, Task::Echo)?;
    let machine = Machine::detect()?;
    let cpus = options.server_cpus();
    process::pin_this_process(options.load_cpu, &cpus)?;
    let place = Place { workers: options.workers, cpus: &cpus, cores: machine.cores };
    let folder = options.out.clone().unwrap_or_else(build::out_folder);
    let mut record = Record::create(&folder, "mixed.csv")?;
    machine.print_heading(options, "text messages");
    let load = Load { program: &load, place, options };
    let mut failures = 0;
    // For each server, the runs without and with the large messages.
    let mut runs = vec![[Vec::new(), Vec::new()]; servers.len()];
    for round in 1..=options.rounds {
        for (server, runs) in servers.iter().zip(&mut runs) {
            let measured = [load.measure(server, &MIXED_SMALL, None), beside_large(load, server)];
            for ((condition, measured), runs) in CONDITIONS.iter().zip(measured).zip(runs) {
                match measured {
                    Ok(figures) => {
                        let name = MIXED_SMALL.name;
                        record.add(LatencyRow::new(
                            &machine, name, condition, server, round, &figures,
                        ))?;
                        runs.push(figures);
                    }
                    Err(error) => {
                        eprintln!("{error}");
                        failures += 1;
                    }
                }
            }
        }
    }
    let [alone, beside] = [0, 1].map(|index| {
        let runs: Vec<_> = runs.iter().map(|runs| runs[index].clone()).collect();
        let title = format!("{}, {}", MIXED_SMALL.title(), CONDITIONS[index]);
        CellOutcome { title, outcomes: speed::outcomes(&servers, &runs, speed::medians) }
    });
    print!("\n{}\n{}", beside.title, table(&alone, &beside));
    let all = [alone, beside];
    let markdown = latency::markdown(&servers, &all).to_string();
    print!("\n{markdown}");
    fs::write(folder.join("mixed.md"), markdown)?;
    fs::write(folder.join("mixed.svg"), plot::latency(&all, "Latency of small echoes")?)?;
    println!("\nmixed.csv, mixed.md and mixed.svg are in {}", folder.display());
    outcome::all_succeeded(failures)
}

/// The figures of the small echoes, and the throughput of both kinds together in MB/s.
fn beside_large(load: Load<'_>, server: &Server) -> Result<Figures> {
    let once = || {
        let running = Running::start(server, load.place.workers, load.place.cpus)?;
        let mut flood = load.command(&running, &MIXED_LARGE, None);
        let flood = flood
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("load: {error}"))?;
        let small = load.command(&running, &MIXED_SMALL, None).output()?;
        let large = load::figures(&flood.wait_with_output()?)?;
        let small = load::figures(&small)?;
        let megabytes_per_s = small.megabytes_per_s + large.megabytes_per_s;
        Ok(Figures { megabytes_per_s, ..small })
    };
    let (figures, stolen_percent) = machine::undisturbed(load.place.cores, once)
        .map_err(|error| format!("{} beside large messages: {error}", server.name))?;
    Ok(Figures { stolen_percent, workers: load.place.workers, ..figures })
}

fn table(alone: &CellOutcome<Figures>, beside: &CellOutcome<Figures>) -> Table {
    let mut table = Table::new(&[
        "server",
        "messages/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "alone p50 us",
        "p99 us",
        "p99.9 us",
        "MB/s",
        "",
    ]);
    for Outcome { server, figures } in &beside.outcomes {
        let alone = alone.of(server);
        let alone = |figure: fn(&Figures) -> f64| alone.map_or(f64::NAN, figure);
        table.add([
            server.clone(),
            number(figures.messages_per_s),
            number(figures.latency_p50_us),
            number(figures.latency_p99_us),
            number(figures.latency_p999_us),
            number(alone(|figures| figures.latency_p50_us)),
            number(alone(|figures| figures.latency_p99_us)),
            number(alone(|figures| figures.latency_p999_us)),
            number(figures.megabytes_per_s),
            load::stolen_note(figures),
        ]);
    }
    table
}

const CONDITIONS: [&str; 2] = ["alone", "beside 1 MiB"];

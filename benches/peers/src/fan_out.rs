//! One message to many: every server sends each message to all subscribers. Driven by `fan`, which
//! is hand-written C and checks every delivery.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::Result;
use crate::args::Options;
use crate::build;
use crate::campaign::Campaign;
use crate::cells::{self, Named, size_title};
use crate::machine;
use crate::outcome::{self, CellOutcome, Outcome, note};
use crate::plot;
use crate::process::{self, Running};
use crate::record::{Column, Record, column};
use crate::servers::{FAN_YARDSTICK, Server, Task};
use crate::table::{Markdown, Table, median, number, ratio};

/// A workload: all subscribers get each message.
#[derive(Clone, Copy, Debug)]
struct FanCell {
    name: &'static str,
    subscribers: u32,
    size: usize,
    /// Messages that the publisher sends with one call, once everyone has the previous ones.
    burst: u32,
}

impl Named for FanCell {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_small(&self) -> bool {
        self.subscribers <= 1000 && self.size == 64
    }
}

impl FanCell {
    /// The columns that describe it in a CSV file.
    fn columns(&self) -> [Column; 4] {
        [
            column("cell", self.name),
            column("subscribers", self.subscribers),
            column("size_bytes", self.size),
            column("messages_at_once", self.burst),
        ]
    }

    fn title(&self) -> String {
        let title = format!("{} subscribers, {}", self.subscribers, size_title(self.size));
        if self.burst == 1 { title } else { format!("{title}, {} at once", self.burst) }
    }
}

const fn cell(name: &'static str, subscribers: u32, size: usize, burst: u32) -> FanCell {
    FanCell { name, subscribers, size, burst }
}

const CELLS: &[FanCell] = &[
    cell("100s-64B-m1", 100, 64, 1),
    cell("1000s-64B-m1", 1000, 64, 1),
    cell("1000s-1K-m1", 1000, 1 << 10, 1),
    cell("1000s-64B-m32", 1000, 64, 32),
    cell("8000s-64B-m1", 8000, 64, 1),
];

/// The report of `fan`.
#[derive(Clone, Copy, Debug, Deserialize)]
struct FanFigures {
    deliveries_per_s: f64,
    server_cpu_us_per_delivery: f64,
    server_cores: f64,
    load_cores: f64,
    /// From publishing a message to each of its deliveries.
    each_p50_us: f64,
    each_p99_us: f64,
    /// To the last of them.
    last_p50_us: f64,
    last_p99_us: f64,
    #[serde(skip)]
    stolen_percent: f64,
}

impl FanFigures {
    /// Their columns in a CSV file.
    fn columns(&self) -> [Column; 9] {
        [
            column("deliveries_per_s", self.deliveries_per_s),
            column("each_p50_us", self.each_p50_us),
            column("each_p99_us", self.each_p99_us),
            column("last_p50_us", self.last_p50_us),
            column("last_p99_us", self.last_p99_us),
            column("server_cpu_us_per_delivery", self.server_cpu_us_per_delivery),
            column("server_cores", self.server_cores),
            column("load_cores", self.load_cores),
            column("stolen_percent", self.stolen_percent),
        ]
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let cells = cells::select(&options.cells, CELLS)?;
    let mut campaign = Campaign::prepare(options, Task::FanOut)?;
    let fan = build::yardstick("fan")?;
    let mut record = Record::create(&campaign, "fan-out.csv")?;
    campaign.print_heading("binary messages");
    let mut all = Vec::new();
    for cell in &cells {
        let runs = campaign.measure(|campaign, server, round| {
            let figures = measure(&fan, server, cell, campaign)?;
            let columns = cell.columns().into_iter().chain(figures.columns());
            record.add(campaign, server, round, columns)?;
            Ok(figures)
        });
        let outcomes = outcome::outcomes(&campaign.servers, &runs, medians);
        print!("\n{}  ({})\n{}", cell.name, cell.title(), table(&outcomes, options.workers));
        all.push(CellOutcome { title: cell.title(), outcomes });
    }
    let markdown = markdown(&campaign.servers, &all).to_string();
    print!("\n{markdown}");
    campaign.write("fan-out.md", markdown)?;
    campaign.write("fan-out.svg", draw(&all)?)?;
    campaign.finish("fan-out.csv, fan-out.md and fan-out.svg")
}

/// Measures `server` on a quiet machine.
fn measure(
    fan: &Path,
    server: &Server,
    cell: &FanCell,
    campaign: &Campaign<'_>,
) -> Result<FanFigures> {
    let once = || measure_once(fan, server, cell, campaign);
    let (figures, stolen_percent) = machine::undisturbed(campaign.machine.cores, once)
        .map_err(|error| format!("{}: {error}", cell.name))?;
    Ok(FanFigures { stolen_percent, ..figures })
}

fn measure_once(
    fan: &Path,
    server: &Server,
    cell: &FanCell,
    campaign: &Campaign<'_>,
) -> Result<FanFigures> {
    let Campaign { options, cpus, .. } = campaign;
    let running = Running::start(server, options.workers, cpus)?;
    let mut command = Command::new(fan);
    command.args(["--host", &running.address.ip().to_string()]);
    for (option, value) in [
        ("--port", running.address.port().into()),
        ("--pid", running.pid()),
        ("--subs", cell.subscribers),
        ("--size", cell.size as u32),
        ("--window", cell.burst),
        ("--burst", cell.burst),
        ("--secs", options.seconds),
        ("--warmup", 1),
    ] {
        command.args([option, &value.to_string()]);
    }
    let output = command.output().map_err(|error| format!("fan: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().into());
    }
    let figures: FanFigures = serde_json::from_slice(&output.stdout)?;
    process::check_that_it_worked(figures.server_cores)?;
    Ok(figures)
}

fn medians(runs: &[FanFigures]) -> FanFigures {
    let of = |figure: fn(&FanFigures) -> f64| median(runs.iter().map(figure));
    FanFigures {
        deliveries_per_s: of(|run| run.deliveries_per_s),
        server_cpu_us_per_delivery: of(|run| run.server_cpu_us_per_delivery),
        server_cores: of(|run| run.server_cores),
        load_cores: of(|run| run.load_cores),
        each_p50_us: of(|run| run.each_p50_us),
        each_p99_us: of(|run| run.each_p99_us),
        last_p50_us: of(|run| run.last_p50_us),
        last_p99_us: of(|run| run.last_p99_us),
        stolen_percent: of(|run| run.stolen_percent),
    }
}

fn table(outcomes: &[Outcome<FanFigures>], workers: u32) -> Table {
    let mut table = Table::new(&[
        "server",
        "deliveries/s",
        "each p50 us",
        "p99 us",
        "last p50 us",
        "p99 us",
        "CPU us/delivery",
        "to rawfan",
        "cores",
        "",
    ]);
    let limit = outcomes.iter().find(|outcome| outcome.server == FAN_YARDSTICK);
    for Outcome { server, figures } in outcomes {
        let cpu = figures.server_cpu_us_per_delivery;
        let to_limit = limit.map(|limit| cpu / limit.figures.server_cpu_us_per_delivery);
        table.add([
            server.clone(),
            number(figures.deliveries_per_s),
            number(figures.each_p50_us),
            number(figures.each_p99_us),
            number(figures.last_p50_us),
            number(figures.last_p99_us),
            format!("{cpu:.3}"),
            to_limit.map_or_else(|| "-".to_owned(), ratio),
            format!("{:.2}", figures.server_cores),
            note(figures.server_cores, figures.load_cores, workers, figures.stolen_percent),
        ]);
    }
    table
}

/// The README's table: CPU time per delivery, that of the yardstick in microseconds and the others
/// as multiples of it, with deliveries per second.
fn markdown(servers: &[Server], cells: &[CellOutcome<FanFigures>]) -> Markdown {
    let mut table = Markdown::new("server", cells.iter().map(|cell| cell.title.clone()));
    for server in servers {
        table.add(
            &server.name,
            cells.iter().map(|cell| {
                let figures = cell.of(&server.name)?;
                let cpu = figures.server_cpu_us_per_delivery;
                let cost = match cell.of(FAN_YARDSTICK) {
                    Some(limit) if server.name != FAN_YARDSTICK => {
                        ratio(cpu / limit.server_cpu_us_per_delivery)
                    }
                    _ => format!("{} us", number(cpu)),
                };
                Some(format!("{cost} ({}/s)", plot::short(figures.deliveries_per_s)))
            }),
        );
    }
    table
}

fn draw(cells: &[CellOutcome<FanFigures>]) -> Result<String> {
    let legend = "deliveries for each second of the server's CPU time, more is better";
    let per_cpu_second = |figures: &FanFigures| (1e6 / figures.server_cpu_us_per_delivery, "");
    plot::bars(cells, "One message to many", legend, per_cpu_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_the_workloads() {
        for FanCell { name, subscribers, size, burst } in CELLS {
            let size = cells::size_name(*size);
            assert_eq!(*name, format!("{subscribers}s-{size}-m{burst}"));
        }
    }

    #[test]
    fn the_markdown_table_shows_multiples_of_the_yardstick() {
        let figures = |cpu| FanFigures {
            deliveries_per_s: 220_000.0,
            server_cpu_us_per_delivery: cpu,
            server_cores: 1.0,
            load_cores: 1.0,
            each_p50_us: 1.0,
            each_p99_us: 1.0,
            last_p50_us: 1.0,
            last_p99_us: 1.0,
            stolen_percent: 0.0,
        };
        let outcome =
            |(server, cpu): (&str, f64)| Outcome { server: server.into(), figures: figures(cpu) };
        let outcomes = [(FAN_YARDSTICK, 4.0), ("b", 8.0)].map(outcome).into();
        let cell = CellOutcome { title: "some subscribers".to_owned(), outcomes };
        let servers = [FAN_YARDSTICK, "b", "c"].map(Server::named);
        let text = "| server | some subscribers |\n|---|---|\n| rawfan | 4.00 us (220 k/s) |\n\
                    | b | 2.00 (220 k/s) |\n| c | - |\n";
        assert_eq!(markdown(&servers, &[cell]).to_string(), text);
    }
}

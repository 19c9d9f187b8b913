//! Round trips at fixed rates, the same for every server: shares of the throughput of the slowest.
//! Messages are due at fixed times and latency counts from then, so a server that stalls shows it.

use crate::Result;
use crate::args::Options;
use crate::campaign::Campaign;
use crate::cells::{self, Cell, FIXED_RATE};
use crate::load::{self, Figures};
use crate::outcome::{self, CellOutcome, Outcome};
use crate::plot;
use crate::record::{Record, column};
use crate::servers::{Server, Task};
use crate::speed;
use crate::table::{Markdown, Table, median, number};

pub(crate) fn run(options: &Options) -> Result<()> {
    let cells = cells::select(&options.cells, FIXED_RATE)?;
    let mut campaign = Campaign::prepare(options, Task::Echo)?;
    let mut record = Record::create(&campaign, "fixed-rate.csv")?;
    campaign.print_heading("text messages");
    let mut all = Vec::new();
    for cell in &cells {
        let slowest = throughput_of_the_slowest(&mut campaign, cell)?;
        let mut open = *cell;
        open.depth = IN_FLIGHT_MAX;
        for percent in PERCENTS {
            let rate = slowest * f64::from(percent) / 100.0;
            let runs = campaign.measure(|campaign, server, round| {
                let load = campaign.load(campaign.place());
                let figures = load.measure(server, &open, Some(rate))?;
                let condition = [
                    column("cell", cell.name),
                    column("percent_of_the_slowest", percent),
                    column("rate_per_s", rate),
                ];
                let columns = condition.into_iter().chain(figures.columns());
                record.add(campaign, server, round, columns)?;
                Ok(figures)
            });
            let outcomes = outcome::outcomes(&campaign.servers, &runs, speed::medians);
            let title = format!("{}, {} messages/s", cell.title(), number(rate));
            print!("\n{title}: {percent} % of the slowest\n{}", table(&outcomes));
            all.push(CellOutcome { title, outcomes });
        }
    }
    let markdown = markdown(&campaign.servers, &all).to_string();
    print!("\n{markdown}");
    campaign.write("fixed-rate.md", markdown)?;
    campaign.write("fixed-rate.svg", plot::latency(&all, "Echo latency at a fixed rate")?)?;
    campaign.finish("fixed-rate.csv, fixed-rate.md and fixed-rate.svg")
}

/// Messages per second that each server can echo.
fn throughput_of_the_slowest(campaign: &mut Campaign<'_>, cell: &Cell) -> Result<f64> {
    let runs = campaign.measure(|campaign, server, _| {
        Ok(campaign.load(campaign.place()).measure(server, cell, None)?.messages_per_s)
    });
    let mut slowest = f64::INFINITY;
    for (server, runs) in campaign.servers.iter().zip(runs) {
        if !runs.is_empty() {
            let throughput = median(runs);
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

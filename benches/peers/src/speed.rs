//! Throughput, latency and CPU time per message: every server in every cell, in turn.

use crate::Result;
use crate::args::Options;
use crate::campaign::Campaign;
use crate::cells::{self, CELLS};
use crate::load::Figures;
use crate::memory;
use crate::outcome::{self, CellOutcome, Outcome, note};
use crate::plot;
use crate::record::Record;
use crate::servers::{OURS, Server, Task};
use crate::table::{Markdown, Table, median, number, ratio};

pub(crate) fn run(options: &Options) -> Result<()> {
    let cells = cells::select(&options.cells, CELLS)?;
    let mut campaign = Campaign::prepare(options, Task::Echo)?;
    let mut record = Record::create(&campaign, "speed.csv")?;
    let kind = if options.binary { "binary" } else { "text" };
    campaign.print_heading(&format!("{kind} messages"));
    let mut all = Vec::new();
    for cell in &cells {
        let runs = campaign.measure(|campaign, server, round| {
            let figures = campaign.load(campaign.place()).measure(server, cell, None)?;
            let workload = cell.columns().into_iter().chain([("kind", kind.into())]);
            record.add(campaign, server, round, workload.chain(figures.columns()))?;
            Ok(figures)
        });
        let outcomes = outcome::outcomes(&campaign.servers, &runs, medians);
        print!("\n{}  ({})\n{}", cell.name, cell.title(), table(&outcomes));
        all.push(CellOutcome { title: cell.title(), outcomes });
    }
    campaign.write("throughput.svg", plot::throughput(&all)?)?;
    campaign.write("latency.svg", plot::latency(&all, "Echo latency")?)?;
    campaign.write("speed.md", markdown(&campaign.servers, &all).to_string())?;
    println!();
    memory::idle(&campaign)?;
    campaign.finish("speed.csv, speed.md, memory.csv, throughput.svg and latency.svg")
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

//! The round trip of one connection with and without `--busy-poll`.

use crate::Result;
use crate::args::Options;
use crate::campaign::Campaign;
use crate::cells;
use crate::servers::{OURS, Task};
use crate::speed;
use crate::table::{Table, number};

pub(crate) fn run(options: &Options) -> Result<()> {
    let cpus = options.server_cpus();
    let mut campaign = Campaign::prepare_some(options, Task::Echo, cpus, |name| name == OURS)?;
    campaign.servers.retain(|server| server.name == OURS);
    let Some(blocking) = campaign.servers.pop() else {
        return Err("only ws-reactor has it".into());
    };
    campaign.servers = vec![blocking.clone(), blocking.with_arguments(&["--busy-poll", BUDGET_US])];
    let cell = cells::LATENCY;
    let runs = campaign.measure(|campaign, server, _| {
        campaign.load(campaign.place()).measure(server, &cell, None)
    });
    campaign.check_runs()?;
    let medians: Vec<_> = runs.iter().map(|runs| speed::medians(runs)).collect();
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

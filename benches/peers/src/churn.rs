//! The cost of short connections, one at a time: connect, upgrade, one echo, close.

use std::time::{Duration, Instant};

use crate::Result;
use crate::args::Options;
use crate::campaign::Campaign;
use crate::client::Client;
use crate::machine::{self, Stolen};
use crate::process::Running;
use crate::servers::{OURS, Server, Task};
use crate::table::{Table, median, number};

/// One run.
#[derive(Clone, Copy, Debug)]
struct Churn {
    connections_per_s: f64,
    server_cpu_us_per_connection: f64,
    stolen_percent: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut campaign = Campaign::prepare(options, Task::Echo)?;
    let runs = campaign.measure(|campaign, server, _| churn(server, campaign));
    let servers = &campaign.servers;
    let cpu = |runs: &[Churn]| median(runs.iter().map(|run| run.server_cpu_us_per_connection));
    let ours = servers.iter().position(|server| server.name == OURS).map(|ours| cpu(&runs[ours]));
    let mut table =
        Table::new(&["server", "connections/s", "CPU us/connection", "to ours", "stolen %", ""]);
    for (server, runs) in servers.iter().zip(&runs) {
        let ratio = ours.map(|ours| cpu(runs) / ours);
        table.add([
            server.name.clone(),
            number(median(runs.iter().map(|run| run.connections_per_s))),
            number(cpu(runs)),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            format!("{:.1}", median(runs.iter().map(|run| run.stolen_percent))),
            String::new(),
        ]);
    }
    print!("connect, upgrade, one echo, close\n{table}");
    campaign.check_runs()
}

fn churn(server: &Server, campaign: &Campaign<'_>) -> Result<Churn> {
    let Campaign { options, machine, cpus, .. } = campaign;
    let running = Running::start(server, options.workers, cpus)?;
    rounds(&running, WARMUP)?;
    let (began, stolen) = (Instant::now(), Stolen::begin()?);
    let cpu_before = machine::cpu_seconds(running.pid())?;
    let connections = rounds(&running, Duration::from_secs(options.seconds.into()))?;
    let cpu = machine::cpu_seconds(running.pid())? - cpu_before;
    Ok(Churn {
        connections_per_s: connections / began.elapsed().as_secs_f64(),
        server_cpu_us_per_connection: cpu * 1e6 / connections,
        stolen_percent: stolen.percent(machine.cores)?,
    })
}

/// Makes connections for `duration`. Returns their number.
fn rounds(running: &Running, duration: Duration) -> Result<f64> {
    let began = Instant::now();
    let mut connections = 0;
    while began.elapsed() < duration {
        Client::connect(running.address, 0)?.echo("a text of thirty-two characters.")?;
        connections += 1;
    }
    Ok(f64::from(connections))
}

const WARMUP: Duration = Duration::from_secs(1);

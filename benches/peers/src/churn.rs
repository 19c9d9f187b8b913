//! The cost of short connections, one at a time: connect, upgrade, one echo, close.

use std::time::{Duration, Instant};

use crate::Result;
use crate::args::Options;
use crate::client::Client;
use crate::machine::{self, Machine, Stolen};
use crate::process::{self, Running};
use crate::servers::{self, OURS, Server, Task};
use crate::table::{Table, median, number};

/// One run.
#[derive(Clone, Copy, Debug)]
struct Churn {
    connections_per_s: f64,
    server_cpu_us_per_connection: f64,
    stolen_percent: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let (servers, _) = servers::prepare(options, Task::Echo)?;
    let machine = Machine::detect()?;
    let cpus = options.server_cpus();
    process::pin_this_process(options.load_cpu, &cpus)?;
    let mut runs: Vec<Vec<Churn>> = vec![Vec::new(); servers.len()];
    for _ in 0..options.rounds {
        for (server, runs) in servers.iter().zip(&mut runs) {
            runs.push(churn(server, &cpus, machine.cores, options)?);
        }
    }
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
    Ok(())
}

fn churn(server: &Server, cpus: &str, cores: usize, options: &Options) -> Result<Churn> {
    let running = Running::start(server, options.workers, cpus)?;
    rounds(&running, WARMUP)?;
    let (began, stolen) = (Instant::now(), Stolen::begin()?);
    let cpu_before = machine::cpu_seconds(running.pid())?;
    let connections = rounds(&running, Duration::from_secs(options.seconds.into()))?;
    let cpu = machine::cpu_seconds(running.pid())? - cpu_before;
    Ok(Churn {
        connections_per_s: connections / began.elapsed().as_secs_f64(),
        server_cpu_us_per_connection: cpu * 1e6 / connections,
        stolen_percent: stolen.percent(cores)?,
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

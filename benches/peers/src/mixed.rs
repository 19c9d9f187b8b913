//! Latency of small echoes beside other traffic of the same server: large messages, or a topic.

use std::error::Error;
use std::process::{Child, Command, Stdio};

use crate::Result;
use crate::args::Options;
use crate::campaign::Campaign;
use crate::cells::{Cell, LATENCY, MIXED_LARGE, MIXED_SMALL};
use crate::latency;
use crate::load::{self, Figures, Load};
use crate::machine;
use crate::outcome::{self, CellOutcome, Outcome};
use crate::plot;
use crate::process::Running;
use crate::record::{Record, column};
use crate::servers::{ECHO_PATH, Server, Task};
use crate::speed;
use crate::table::{Table, number};

/// A mix of small echoes and other traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// The name of its files.
    name: &'static str,
    task: Task,
    echoes: Cell,
    /// The path of the echoes.
    path: &'static str,
    /// The traffic beside them.
    beside: &'static str,
    command: fn(Load<'_>, &Running) -> Command,
    /// Seconds of echoes before the measured ones, in which the other traffic begins.
    warmup_s: u32,
}

/// Small echoes on many connections beside a connection that sends large messages.
pub(crate) const LARGE: Mix = Mix {
    name: "mixed",
    task: Task::Echo,
    echoes: MIXED_SMALL,
    path: "/",
    beside: "beside 1 MiB",
    command: |load, running| load.command(running, &MIXED_LARGE, None),
    warmup_s: 1,
};

/// Echoes on one connection beside a topic with many subscribers.
pub(crate) const TOPIC: Mix = Mix {
    name: "beside-topic",
    task: Task::EchoAndFanOut,
    echoes: LATENCY,
    path: ECHO_PATH,
    beside: "beside a topic",
    command: |load, running| {
        let mut command = load.program(running, "/", load.options.seconds + TOPIC_WARMUP_S);
        command.args(["--broadcast", "--size", "64"]);
        command.args(["--connections", &SUBSCRIBERS.to_string()]);
        command.args(["--rate", &MESSAGES_PER_S.to_string()]);
        command
    },
    warmup_s: TOPIC_WARMUP_S,
};

impl Mix {
    pub(crate) fn run(&self, options: &Options) -> Result<()> {
        let name = self.name;
        let mut campaign = Campaign::prepare(options, self.task)?;
        let mut record = Record::create(&campaign, &format!("{name}.csv"))?;
        campaign.print_heading("text messages");
        let runs = campaign.measure(|campaign, server, round| {
            let mut measure = |beside| {
                let figures = self.measure(campaign, server, beside)?;
                let condition = if beside { self.beside } else { ALONE };
                let workload = [column("cell", self.echoes.name), column("condition", condition)];
                record.add(
                    campaign,
                    server,
                    round,
                    workload.into_iter().chain(figures.columns()),
                )?;
                Ok::<_, Box<dyn Error>>(figures)
            };
            Ok([measure(false)?, measure(true)?])
        });
        let [alone, beside] = [(0, ALONE), (1, self.beside)].map(|(index, condition)| {
            let runs: Vec<Vec<Figures>> =
                runs.iter().map(|runs| runs.iter().map(|run| run[index]).collect()).collect();
            let title = format!("{}, {condition}", self.echoes.title());
            let outcomes = outcome::outcomes(&campaign.servers, &runs, speed::medians);
            CellOutcome { title, outcomes }
        });
        print!("\n{}\n{}", beside.title, table(&alone, &beside));
        let all = [alone, beside];
        let markdown = latency::markdown(&campaign.servers, &all).to_string();
        print!("\n{markdown}");
        campaign.write(&format!("{name}.md"), markdown)?;
        let plot = plot::latency(&all, "Latency of small echoes")?;
        campaign.write(&format!("{name}.svg"), plot)?;
        campaign.finish(&format!("{name}.csv, {name}.md and {name}.svg"))
    }

    /// The figures of the small echoes, and the throughput of all traffic together in MB/s.
    fn measure(
        &self,
        campaign: &Campaign<'_>,
        server: &Server,
        is_beside: bool,
    ) -> Result<Figures> {
        let place = campaign.place();
        let load = campaign.load(place);
        let echoes = Load { path: self.path, warmup_s: self.warmup_s, ..load };
        let once = || {
            let running = Running::start(server, place.workers, place.cpus)?;
            let other = is_beside.then(|| start((self.command)(load, &running))).transpose()?;
            let mut figures =
                load::figures(&echoes.command(&running, &self.echoes, None).output()?)?;
            if let Some(other) = other {
                let report = load::report(&other.wait_with_output()?)?;
                figures.megabytes_per_s += report["megabytes_per_s"].as_f64().unwrap_or(0.0);
            }
            Ok(figures)
        };
        let condition = if is_beside { self.beside } else { ALONE };
        let (figures, stolen_percent) = machine::undisturbed(place.cores, once)
            .map_err(|error| format!("{condition}: {error}"))?;
        Ok(Figures { stolen_percent, workers: place.workers, ..figures })
    }
}

/// Starts a load generator whose report is read later.
fn start(mut command: Command) -> Result<Child> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    Ok(child.map_err(|error| format!("load: {error}"))?)
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

const ALONE: &str = "alone";

/// Connections that get each message of the topic.
const SUBSCRIBERS: u32 = 5000;

/// Messages to the topic.
const MESSAGES_PER_S: u32 = 10;

/// Enough to connect the subscribers.
const TOPIC_WARMUP_S: u32 = 3;

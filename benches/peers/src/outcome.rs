//! The results of a cell, for its tables and its panels of the plots.

use crate::servers::Server;

/// Medians of a server's runs in a cell.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<F> {
    pub(crate) server: String,
    pub(crate) figures: F,
}

/// The results of all servers in a cell.
#[derive(Debug)]
pub(crate) struct CellOutcome<F> {
    pub(crate) title: String,
    pub(crate) outcomes: Vec<Outcome<F>>,
}

impl<F> CellOutcome<F> {
    /// The figures of `server`, unless it has none.
    pub(crate) fn of(&self, server: &str) -> Option<&F> {
        let outcome = self.outcomes.iter().find(|outcome| outcome.server == server);
        outcome.map(|outcome| &outcome.figures)
    }
}

/// Whether a server used all CPU time of its workers. Otherwise throughput and latency show the
/// limit of the load generator or of the machine.
pub(crate) fn is_server_the_limit(server_cores: f64, workers: u32) -> bool {
    server_cores >= SATURATED_CORES * f64::from(workers)
}

/// A warning for a row that does not show the server's limit.
pub(crate) fn note(
    server_cores: f64,
    load_cores: f64,
    workers: u32,
    stolen_percent: f64,
) -> String {
    let mut notes = Vec::new();
    if !is_server_the_limit(server_cores, workers) {
        notes.push(match load_cores >= SATURATED_CORES {
            true => "load was the limit, not the server",
            false => "neither the server nor load was the limit",
        });
    }
    if stolen_percent > STOLEN_PERCENT_MAX {
        notes.push("the hypervisor stole time");
    }
    notes.join("; ")
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

/// A process that uses less of its core than this was waiting.
const SATURATED_CORES: f64 = 0.9;

/// Maximum stolen time of a run that counts as undisturbed.
pub(crate) const STOLEN_PERCENT_MAX: f64 = 3.0;

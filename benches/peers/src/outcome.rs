//! The results of a cell, for its table and its panels of the plots.

use crate::cells::Cell;
use crate::load::Figures;

/// Medians of a server's runs in a cell.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) server: &'static str,
    pub(crate) figures: Figures,
}

/// The results of all servers in a cell.
#[derive(Debug)]
pub(crate) struct CellOutcome {
    pub(crate) cell: Cell,
    pub(crate) outcomes: Vec<Outcome>,
}

/// Whether the server used all its CPU time. Otherwise throughput and latency show the limit of the
/// load generator or of the machine.
pub(crate) fn is_server_the_limit(figures: &Figures) -> bool {
    figures.server_cores >= SATURATED_CORES * f64::from(figures.workers)
}

/// A process that uses less of its core than this was waiting.
pub(crate) const SATURATED_CORES: f64 = 0.9;

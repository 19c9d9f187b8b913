//! Writes measurements to CSV files, one row per run.

use std::fs::{self, File};
use std::path::Path;

use serde::Serialize;

use crate::Result;
use crate::args::Options;
use crate::cells::Cell;
use crate::fan_out::{FanCell, FanFigures};
use crate::load::Figures;
use crate::machine::Machine;
use crate::servers::Server;

/// A file to which each run adds a row, so that earlier results survive a failure.
#[derive(Debug)]
pub(crate) struct Record {
    writer: csv::Writer<File>,
}

impl Record {
    /// Creates `name` in `folder`, and replaces an older one.
    pub(crate) fn create(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let failed = |error| format!("{}: {error}", path.display());
        fs::create_dir_all(folder).map_err(failed)?;
        Ok(Self { writer: csv::Writer::from_writer(File::create(&path).map_err(failed)?) })
    }

    pub(crate) fn add(&mut self, row: impl Serialize) -> Result<()> {
        self.writer.serialize(row)?;
        Ok(self.writer.flush()?)
    }
}

/// A run of `speed`.
#[derive(Debug, Serialize)]
pub(crate) struct SpeedRow<'a> {
    date: &'a str,
    cpu: &'a str,
    kernel: &'a str,
    cores: usize,
    cell: &'a str,
    connections: u32,
    size_bytes: usize,
    depth: u32,
    kind: &'a str,
    server: &'a str,
    version: &'a str,
    workers: u32,
    round: u32,
    seconds: u32,
    messages_per_s: f64,
    megabytes_per_s: f64,
    latency_p50_us: f64,
    latency_p99_us: f64,
    latency_p999_us: f64,
    server_cpu_us_per_message: f64,
    server_cores: f64,
    load_cores: f64,
    stolen_percent: f64,
}

impl<'a> SpeedRow<'a> {
    pub(crate) fn new(
        machine: &'a Machine,
        options: &'a Options,
        cell: &'a Cell,
        server: &'a Server,
        round: u32,
        figures: Figures,
    ) -> Self {
        Self {
            date: &machine.date,
            cpu: &machine.cpu,
            kernel: &machine.kernel,
            cores: machine.cores,
            cell: cell.name,
            connections: cell.connections,
            size_bytes: cell.size,
            depth: cell.depth,
            kind: if options.binary { "binary" } else { "text" },
            server: &server.name,
            version: &server.version,
            workers: options.workers,
            round,
            seconds: options.seconds,
            messages_per_s: figures.messages_per_s,
            megabytes_per_s: figures.megabytes_per_s,
            latency_p50_us: figures.latency_p50_us,
            latency_p99_us: figures.latency_p99_us,
            latency_p999_us: figures.latency_p999_us,
            server_cpu_us_per_message: figures.server_cpu_us_per_message,
            server_cores: figures.server_cores,
            load_cores: figures.load_cores,
            stolen_percent: figures.stolen_percent,
        }
    }
}

/// A run of `fixed-rate` or `mixed`.
#[derive(Debug, Serialize)]
pub(crate) struct LatencyRow<'a> {
    date: &'a str,
    cpu: &'a str,
    kernel: &'a str,
    cores: usize,
    cell: &'a str,
    condition: &'a str,
    server: &'a str,
    version: &'a str,
    workers: u32,
    round: u32,
    /// Empty in closed loop.
    rate_per_s: Option<f64>,
    messages_per_s: f64,
    megabytes_per_s: f64,
    latency_p50_us: f64,
    latency_p99_us: f64,
    latency_p999_us: f64,
    server_cores: f64,
    load_cores: f64,
    stolen_percent: f64,
}

impl<'a> LatencyRow<'a> {
    pub(crate) fn new(
        machine: &'a Machine,
        cell: &'a str,
        condition: &'a str,
        server: &'a Server,
        round: u32,
        figures: &Figures,
    ) -> Self {
        Self {
            date: &machine.date,
            cpu: &machine.cpu,
            kernel: &machine.kernel,
            cores: machine.cores,
            cell,
            condition,
            server: &server.name,
            version: &server.version,
            workers: figures.workers,
            round,
            rate_per_s: None,
            messages_per_s: figures.messages_per_s,
            megabytes_per_s: figures.megabytes_per_s,
            latency_p50_us: figures.latency_p50_us,
            latency_p99_us: figures.latency_p99_us,
            latency_p999_us: figures.latency_p999_us,
            server_cores: figures.server_cores,
            load_cores: figures.load_cores,
            stolen_percent: figures.stolen_percent,
        }
    }

    /// A run at a fixed rate.
    pub(crate) fn at(self, rate: f64) -> Self {
        Self { rate_per_s: Some(rate), ..self }
    }
}

/// A run of `fan-out`.
#[derive(Debug, Serialize)]
pub(crate) struct FanOutRow<'a> {
    date: &'a str,
    cpu: &'a str,
    kernel: &'a str,
    cores: usize,
    cell: &'a str,
    subscribers: u32,
    size_bytes: usize,
    messages_at_once: u32,
    server: &'a str,
    version: &'a str,
    workers: u32,
    round: u32,
    seconds: u32,
    deliveries_per_s: f64,
    each_p50_us: f64,
    each_p99_us: f64,
    last_p50_us: f64,
    last_p99_us: f64,
    server_cpu_us_per_delivery: f64,
    server_cores: f64,
    load_cores: f64,
    stolen_percent: f64,
}

impl<'a> FanOutRow<'a> {
    pub(crate) fn new(
        machine: &'a Machine,
        options: &'a Options,
        cell: &'a FanCell,
        server: &'a Server,
        round: u32,
        figures: FanFigures,
    ) -> Self {
        Self {
            date: &machine.date,
            cpu: &machine.cpu,
            kernel: &machine.kernel,
            cores: machine.cores,
            cell: cell.name,
            subscribers: cell.subscribers,
            size_bytes: cell.size,
            messages_at_once: cell.burst,
            server: &server.name,
            version: &server.version,
            workers: options.workers,
            round,
            seconds: options.seconds,
            deliveries_per_s: figures.deliveries_per_s,
            each_p50_us: figures.each_p50_us,
            each_p99_us: figures.each_p99_us,
            last_p50_us: figures.last_p50_us,
            last_p99_us: figures.last_p99_us,
            server_cpu_us_per_delivery: figures.server_cpu_us_per_delivery,
            server_cores: figures.server_cores,
            load_cores: figures.load_cores,
            stolen_percent: figures.stolen_percent,
        }
    }
}

/// The measurement of a server by `memory`.
#[derive(Debug, Serialize)]
pub(crate) struct MemoryRow<'a> {
    pub(crate) date: &'a str,
    pub(crate) cpu: &'a str,
    pub(crate) kernel: &'a str,
    pub(crate) server: &'a str,
    pub(crate) version: &'a str,
    pub(crate) connections: u32,
    pub(crate) idle_bytes_per_connection: f64,
    pub(crate) idle_bytes_per_connection_after_an_echo: f64,
}

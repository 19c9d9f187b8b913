//! The settings and counters of a worker, some of them shared with the other workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::address_limits::AddressTable;
use crate::config::Config;
use crate::protocol::Workspace;
use crate::stats::Counters;

/// The part of a worker that its server creates.
#[derive(Clone, Debug)]
pub struct WorkerContext {
    /// The server's settings.
    pub config: Arc<Config>,
    /// This worker's counters.
    pub counters: Arc<Counters>,
    /// The connections of each address, for all workers, if they are limited.
    pub address_table: Option<Arc<AddressTable>>,
    /// The connections of all workers. Changed only when a connection is accepted or ends.
    pub connections: Arc<AtomicUsize>,
    /// The server's number, unique within the process.
    pub server: u32,
    /// This worker's number.
    pub index: u32,
    /// Reads the system clock, for the `Date` of a response.
    pub time_of_day: fn() -> SystemTime,
}

impl WorkerContext {
    /// The memory that the worker lends to its connections.
    pub(super) fn workspace(&self) -> Workspace {
        #[cfg(feature = "deflate")]
        if let Some(deflate) = &self.config.deflate {
            return Workspace::with_deflate(deflate);
        }
        Workspace::default()
    }

    /// Counts an accepted connection; returns the number of connections before it.
    pub(super) fn count_accepted(&self) -> usize {
        self.counters.accepted.add(1);
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts the end of a connection.
    pub(super) fn count_ended(&self) {
        self.counters.ended.add(1);
        let before = self.connections.fetch_sub(1, Ordering::Relaxed);
        debug_assert_ne!(before, 0, "a connection that ends was counted when it was accepted");
    }
}

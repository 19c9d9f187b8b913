//! The health checks of load balancers and orchestrators.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ws_reactor::Response;

/// Whether new connections should be sent here. Clones share the state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<AtomicU8>);

/// The states, in their order.
const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Readiness {
    /// The server listens.
    pub(crate) fn set_ready(&self) {
        // A signal may have come first.
        let _ = self.0.compare_exchange(STARTING, READY, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The server is about to stop.
    pub(crate) fn set_draining(&self) {
        self.0.store(DRAINING, Ordering::Relaxed);
    }

    /// The answer to a plain request for `path`: `/healthz` is answered 200 as long as the process
    /// serves, `/readyz` only from its start until it drains.
    pub(crate) fn answer(&self, path: &str) -> Option<Response> {
        match (path, self.0.load(Ordering::Relaxed)) {
            ("/healthz", _) => Some(Response::text(200, "ok")),
            ("/readyz", READY) => Some(Response::text(200, "ready")),
            ("/readyz", STARTING) => Some(Response::text(503, "starting")),
            ("/readyz", _) => Some(Response::text(503, "draining")),
            _ => None,
        }
    }
}

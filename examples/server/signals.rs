//! Handles SIGTERM, SIGINT and SIGHUP.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use ws_reactor::ServerHandle;

use crate::blocked_signals;
use crate::health::Readiness;
use crate::log_queue::LogQueue;

/// The signals that the server handles.
const HANDLED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// A signal that follows the first sooner than this counts as the same one: timeout(1) sends it to
/// the process and then to its group.
const SECOND_SIGNAL_MIN: Duration = Duration::from_millis(50);

/// The blocked signals, which the `signals` thread waits for.
pub(crate) struct Signals {
    blocked: SigSet,
}

impl Signals {
    /// Blocks the handled signals in this thread, and in the threads that it starts later.
    pub(crate) fn block() -> io::Result<Self> {
        Ok(Self { blocked: blocked_signals::block(&HANDLED)? })
    }

    /// Starts a thread that drains the server at the first SIGTERM or SIGINT, and exits at the
    /// second.
    pub(crate) fn watch(
        self,
        server: ServerHandle,
        drain: Duration,
        readiness: Readiness,
        log: LogQueue,
    ) -> io::Result<()> {
        let watch = move || {
            let Some(signal) = self.wait_for_stop() else { return };
            let first = Instant::now();
            readiness.set_draining();
            let open = server.stats().open();
            log::info!("{signal}: closing {open} connections within {drain:?}");
            server.shutdown(drain);
            let second = std::iter::from_fn(|| self.wait_for_stop())
                .find(|_| first.elapsed() >= SECOND_SIGNAL_MIN);
            if let Some(signal) = second {
                let open = server.stats().open();
                log::warn!("second signal, {signal}: dropping {open} connections");
                log.flush();
                std::process::exit(128 + signal as i32);
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
    }

    /// The next signal that asks the server to stop.
    fn wait_for_stop(&self) -> Option<Signal> {
        loop {
            match self.blocked.wait() {
                Ok(Signal::SIGHUP) => log::info!("SIGHUP: there is no configuration to reload"),
                Ok(signal) => return Some(signal),
                Err(error) => {
                    log::error!("cannot wait for signals: {error}");
                    return None;
                }
            }
        }
    }
}

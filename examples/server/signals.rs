//! Handles SIGTERM, SIGINT and SIGHUP.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use ws_reactor::ServerHandle;

use crate::blocked_signals;
use crate::health::Readiness;
use crate::log_queue::LogQueue;
use crate::tls::Tls;

/// The signals that the server handles.
const HANDLED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// A signal that follows the first sooner than this counts as the same one: timeout(1) sends it to
/// the process and then to its group.
const SECOND_SIGNAL_MIN: Duration = Duration::from_millis(50);

/// How the server stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stop {
    /// New connections are still accepted for this long, while `/readyz` fails.
    pub(crate) delay: Duration,
    /// How long the open connections may then take to close.
    pub(crate) drain: Duration,
}

impl Stop {
    /// Drains the server after the delay, during which this thread can take a second signal.
    fn begin(self, signal: Signal, server: ServerHandle) -> io::Result<()> {
        let drain = move || {
            let open = server.stats().open();
            log::info!("{signal}: closing {open} connections within {:?}", self.drain);
            server.shutdown(self.drain);
        };
        if self.delay.is_zero() {
            drain();
            return Ok(());
        }
        log::info!("{signal}: /readyz fails; connections are closed in {:?}", self.delay);
        let wait = move || {
            thread::sleep(self.delay);
            drain();
        };
        thread::Builder::new().name("drain".to_owned()).spawn(wait).map(drop)
    }
}

/// The blocked signals, which the `signals` thread waits for.
pub(crate) struct Signals {
    blocked: SigSet,
    /// The files that SIGHUP reads again.
    tls: Option<Tls>,
}

impl Signals {
    /// Blocks the handled signals in this thread, and in the threads that it starts later.
    pub(crate) fn block() -> io::Result<Self> {
        Ok(Self { blocked: blocked_signals::block(&HANDLED)?, tls: None })
    }

    /// Sets the files that SIGHUP reads again.
    pub(crate) fn with_reload(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Starts a thread that stops the server at the first SIGTERM or SIGINT, and exits at the second.
    pub(crate) fn watch(
        self,
        server: ServerHandle,
        stop: Stop,
        readiness: Readiness,
        log: LogQueue,
    ) -> io::Result<()> {
        let watch = move || {
            let Some(signal) = self.wait_for_stop() else { return };
            let first = Instant::now();
            readiness.set_draining();
            let stopped = stop.begin(signal, server.clone());
            if let Err(error) = stopped {
                log::error!("cannot wait for --drain-delay: {error}; the drain begins at once");
                server.shutdown(stop.drain);
            }
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

    fn reload(&self) {
        match self.tls.as_ref().map(Tls::reload) {
            None => log::info!("SIGHUP: there is no configuration to reload"),
            Some(Ok(())) => log::info!("SIGHUP: new connections get the certificate as it is now"),
            Some(Err(error)) => log::error!("SIGHUP: the earlier certificate stays: {error}"),
        }
    }

    /// The next signal that asks the server to stop.
    fn wait_for_stop(&self) -> Option<Signal> {
        loop {
            match self.blocked.wait() {
                Ok(Signal::SIGHUP) => self.reload(),
                Ok(signal) => return Some(signal),
                Err(error) => {
                    log::error!("cannot wait for signals: {error}");
                    return None;
                }
            }
        }
    }
}

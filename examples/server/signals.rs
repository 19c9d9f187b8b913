//! Handles SIGTERM, SIGINT and SIGHUP.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use ws_reactor::ServerHandle;

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
    ///
    /// Signals that the parent has set to be ignored, as nohup(1) does with SIGHUP and a shell with
    /// SIGINT in the background, stay ignored: if blocked, Linux would queue them. SIGTERM is
    /// always handled.
    pub(crate) fn block() -> io::Result<Self> {
        let ignored = ignored_signals();
        let is_ignored = |signal: Signal| ignored >> (signal as u32 - 1) & 1 == 1;
        let is_wanted = |signal: &Signal| *signal == Signal::SIGTERM || !is_ignored(*signal);
        let blocked = SigSet::from_iter(HANDLED.into_iter().filter(is_wanted));
        blocked.thread_block()?;
        Ok(Self { blocked })
    }

    /// Starts a thread that drains the server at the first SIGTERM or SIGINT, and exits at the
    /// second.
    pub(crate) fn watch(
        self,
        server: ServerHandle,
        drain: Duration,
        log: LogQueue,
    ) -> io::Result<()> {
        let watch = move || {
            let Some(signal) = self.wait_for_stop() else { return };
            let first = Instant::now();
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

/// The signals that this process ignores: bit 0 is signal 1. Empty if /proc is not mounted.
///
/// Reads /proc because sigaction(2) is `unsafe` in nix.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

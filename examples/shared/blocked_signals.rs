//! Blocks signals, so that one thread can wait for them.

use std::fs;
use std::io;

use nix::sys::signal::{SigSet, Signal};

/// Blocks `signals` in this thread, and in the threads that it starts later. Call it before the
/// first thread starts.
///
/// Signals that the parent has set to be ignored, as nohup(1) does with SIGHUP and a shell with
/// SIGINT in the background, stay ignored: if blocked, Linux would queue them. SIGTERM is always
/// blocked.
pub(crate) fn block(signals: &[Signal]) -> io::Result<SigSet> {
    let ignored = ignored_signals();
    let is_ignored = |signal: Signal| ignored >> (signal as u32 - 1) & 1 == 1;
    let is_wanted = |signal: &Signal| *signal == Signal::SIGTERM || !is_ignored(*signal);
    let blocked = SigSet::from_iter(signals.iter().copied().filter(is_wanted));
    blocked.thread_block()?;
    Ok(blocked)
}

/// The signals that this process ignores: bit 0 is signal 1. Empty if /proc is not mounted.
///
/// Reads /proc because sigaction(2) is `unsafe` in nix.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

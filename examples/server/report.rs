//! Prints the addresses and the counters of the server on standard output.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ws_reactor::{Address, ServerHandle, Stats};

/// Starts a thread that prints the server's addresses and that of its metrics, and then its counters
/// once per `period`.
///
/// A full pipe blocks only this thread.
pub(crate) fn start(
    server: ServerHandle,
    admin: Option<Address>,
    period: Option<Duration>,
) -> io::Result<()> {
    let print = move || {
        let mut output = Output { has_failed: false };
        for address in server.local_addresses() {
            output.print(&format!("listening on {address} ({} workers)", server.workers()));
        }
        if let Some(admin) = admin {
            output.print(&format!("metrics at {admin} (/metrics, /healthz, /readyz)"));
        }
        if let Some(period) = period {
            print_counters(&server, period, &mut output);
        }
    };
    thread::Builder::new().name("report".to_owned()).spawn(print).map(drop)
}

/// Standard output. Lines that cannot be written are dropped: it may be a closed pipe, or a file on
/// a disk that is full for a while.
struct Output {
    has_failed: bool,
}

impl Output {
    fn print(&mut self, line: &str) {
        let result = writeln!(io::stdout(), "{line}");
        if let Err(error) = &result
            && !self.has_failed
        {
            log::warn!("cannot write to standard output: {error}");
        }
        self.has_failed = result.is_err();
    }
}

fn print_counters(server: &ServerHandle, period: Duration, output: &mut Output) -> ! {
    let mut before = (Instant::now(), server.stats());
    loop {
        thread::sleep(period);
        let now = (Instant::now(), server.stats());
        let counters = counters(now.0 - before.0, &before.1, &now.1);
        let time = humantime::format_rfc3339_seconds(SystemTime::now());
        output.print(&format!("{time} {counters}"));
        log::debug!("{:?}", now.1);
        before = now;
    }
}

/// The rates between two readings of the counters, `elapsed` apart, and the totals of the second.
fn counters(elapsed: Duration, before: &Stats, stats: &Stats) -> String {
    let per_s = |count: fn(&Stats) -> u64| {
        count(stats).saturating_sub(count(before)) as f64 / elapsed.as_secs_f64()
    };
    let errors = [
        ("protocol", stats.protocol_errors),
        ("handshake timeout", stats.handshake_timeouts),
        ("idle timeout", stats.idle_timeouts),
        ("close timeout", stats.close_timeouts),
        ("overflow", stats.backlog_overflows),
        ("panic", stats.handler_panics),
    ];
    let total: u64 = errors.iter().map(|(_, count)| count).sum();
    let kinds: Vec<_> = errors
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let kinds = if total > 0 { format!(" ({})", kinds.join(", ")) } else { String::new() };
    format!(
        "open {}, opened {:.0}/s, in {:.0} msg/s {:.3} MB/s, out {:.0} msg/s {:.3} MB/s; \
         since start: refused {}, accept pauses {}, errors {total}{kinds}",
        stats.open(),
        per_s(|stats| stats.opened),
        per_s(|stats| stats.messages_in),
        per_s(|stats| stats.bytes_in) / 1e6,
        per_s(|stats| stats.messages_out),
        per_s(|stats| stats.bytes_out) / 1e6,
        stats.refused + stats.turned_away,
        stats.accept_pauses,
    )
}

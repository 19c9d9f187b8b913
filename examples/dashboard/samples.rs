//! Reads `/proc` (proc(5)), and keeps the last samples.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use ws_reactor::EncodedMessage;

/// Samples that a newcomer gets.
pub(crate) const HISTORY_MAX: usize = 60;

/// The last samples, encoded once for all newcomers.
#[derive(Default)]
pub(crate) struct History(VecDeque<EncodedMessage>);

impl History {
    pub(crate) fn push(&mut self, sample: EncodedMessage) {
        if self.0.len() == HISTORY_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The oldest first.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &EncodedMessage> {
        self.0.iter()
    }
}

/// Takes samples. Rates are averages since the last one.
pub(crate) struct Sampler {
    /// The number of the last sample.
    number: u64,
    time: Instant,
    last: Counters,
}

/// Counters since the start of the machine.
struct Counters {
    /// Processor time of all cores, in ticks of the kernel.
    busy: u64,
    total: u64,
    /// Bytes.
    received: u64,
    sent: u64,
}

impl Sampler {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { number: 0, time: Instant::now(), last: Counters::read()? })
    }

    /// The next sample, as a line of JSON.
    pub(crate) fn sample(&mut self) -> io::Result<EncodedMessage> {
        let load = read("/proc/loadavg", |text| text.split(' ').next()?.parse::<f64>().ok())?;
        let [memory_used, memory_total] = read("/proc/meminfo", memory)?;
        let (time, now) = (Instant::now(), Counters::read()?);
        let seconds = (time - self.time).as_secs_f64();
        // The counters of an interface vanish with it.
        let rate = |now: u64, last| now.saturating_sub(last) as f64 / seconds;
        // No tick of the kernel may have passed.
        let ticks = now.total.saturating_sub(self.last.total).max(1);
        let cpu = now.busy.saturating_sub(self.last.busy) as f64 / ticks as f64;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sample = json!({
            "type": "sample", "number": self.number + 1, "time": since_1970.as_millis() as u64,
            "load": load, "cpu": cpu, "memory_used": memory_used, "memory_total": memory_total,
            "received": rate(now.received, self.last.received),
            "sent": rate(now.sent, self.last.sent),
        });
        *self = Self { number: self.number + 1, time, last: now };
        Ok(EncodedMessage::from(&sample.to_string()))
    }
}

impl Counters {
    fn read() -> io::Result<Self> {
        let [busy, total] = read("/proc/stat", processor_time)?;
        let [received, sent] = read("/proc/net/dev", network)?;
        Ok(Self { busy, total, received, sent })
    }
}

/// The busy and the total processor time.
fn processor_time(stat: &str) -> Option<[u64; 2]> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // User, nice, system, idle, waiting for disks, interrupts (two kinds), stolen by the hypervisor.
    // Guests follow, but are part of user.
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|it| it.parse().ok()).collect();
    let total = times.iter().sum();
    Some([total - times.get(3)? - times.get(4)?, total])
}

/// Used and total memory, in bytes. Memory counts as used if a program could not have it.
fn memory(meminfo: &str) -> Option<[u64; 2]> {
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    let total = bytes("MemTotal:")?;
    Some([total.saturating_sub(bytes("MemAvailable:")?), total])
}

/// Bytes received and sent on all interfaces except loopback.
fn network(dev: &str) -> Option<[u64; 2]> {
    // Two lines of titles come first.
    let interfaces = dev.lines().skip(2).filter_map(|line| line.split_once(':'));
    let mut sums = [0, 0];
    for (_, counts) in interfaces.filter(|(name, _)| name.trim() != "lo") {
        let counts: Vec<&str> = counts.split_whitespace().collect();
        for (sum, column) in sums.iter_mut().zip([0, 8]) {
            *sum += counts.get(column)?.parse::<u64>().ok()?;
        }
    }
    Some(sums)
}

/// The name of this machine.
pub(crate) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// The cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// Reads a file and parses it. An error names the file.
fn read<T>(path: &str, parse: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {path}: {error}")))?;
    let unknown = || io::Error::new(io::ErrorKind::InvalidData, format!("cannot parse {path}"));
    parse(&text).ok_or_else(unknown)
}

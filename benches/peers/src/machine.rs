//! Data about the machine and a process, from Linux's /proc.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Instant;

use crate::Result;
use crate::args::Options;
use crate::outcome::STOLEN_PERCENT_MAX;

/// The machine and the date of the measurement.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) kernel: String,
    pub(crate) cores: usize,
}

impl Machine {
    pub(crate) fn detect() -> Result<Self> {
        let date = Command::new("date").args(["-u", "+%FT%TZ"]).output()?.stdout;
        let cpus = read("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            date: String::from_utf8(date)?.trim().to_owned(),
            cpu: model.map_or("unknown", |(_, model)| model).to_owned(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cores: thread::available_parallelism()?.get(),
        })
    }

    /// Prints the conditions of the measurement.
    pub(crate) fn print_heading(&self, options: &Options, messages: &str) {
        println!("{}, {} cores, Linux {}", self.cpu, self.cores, self.kernel);
        println!(
            "workers: {} on CPU {}; load: CPU {}; {messages}; medians over {} x {} s",
            options.workers,
            options.server_cpus(),
            options.load_cpu,
            options.rounds,
            options.seconds,
        );
        if options.rounds == 1 {
            println!(
                "One round decides nothing: two runs of one server differ by more than two servers."
            );
        }
    }
}

/// Measures on a quiet machine: a run with too much stolen time is repeated, and the run with the
/// least stolen time counts. Returns its result and its stolen time in percent of `cores`.
pub(crate) fn undisturbed<T>(cores: usize, mut run: impl FnMut() -> Result<T>) -> Result<(T, f64)> {
    let mut best: Option<(T, f64)> = None;
    for _ in 0..TRIES {
        let stolen = Stolen::begin()?;
        let result = run()?;
        let percent = stolen.percent(cores)?;
        if best.as_ref().is_none_or(|(_, least)| percent < *least) {
            best = Some((result, percent));
        }
        if percent <= STOLEN_PERCENT_MAX {
            break;
        }
    }
    Ok(best.expect("at least one try"))
}

/// Measures the CPU time that the hypervisor gives to others.
#[derive(Debug)]
pub(crate) struct Stolen {
    began: Instant,
    ticks: f64,
}

impl Stolen {
    pub(crate) fn begin() -> Result<Self> {
        Ok(Self { began: Instant::now(), ticks: stolen_ticks(&read("/proc/stat")?) })
    }

    /// In percent of all cores together.
    pub(crate) fn percent(&self, cores: usize) -> Result<f64> {
        let ticks = stolen_ticks(&read("/proc/stat")?) - self.ticks;
        Ok(ticks / TICKS_PER_S / self.began.elapsed().as_secs_f64() / cores as f64 * 100.0)
    }
}

/// The eighth number of the first line, which is the sum over all cores (proc(5)).
fn stolen_ticks(stat: &str) -> f64 {
    let steal = stat.split_whitespace().nth(8).and_then(|ticks| ticks.parse().ok());
    steal.unwrap_or(0.0)
}

/// Bytes of anonymous memory of process `pid`, summed over its page tables: the counters of
/// /proc/PID/status are off by some hundred KiB.
pub(crate) fn anonymous_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let kilobytes = kilobytes(&read(&path)?, "Anonymous:").ok_or_else(|| path + ": not a number");
    Ok(kilobytes? << 10)
}

/// Peak resident memory of process `pid`, including the pages of its program.
pub(crate) fn resident_peak_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let kilobytes = kilobytes(&read(&path)?, "VmHWM:").ok_or_else(|| path + ": no VmHWM");
    Ok(kilobytes? << 10)
}

/// The number in the line that begins with `key`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    value.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// CPU time in seconds of the threads of process `pid`. Ended threads are not counted, but the
/// servers' workers do not end.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let tasks = format!("/proc/{pid}/task");
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(&tasks).map_err(|error| format!("{tasks}: {error}"))? {
        // The thread may have ended since the directory was read.
        let Ok(schedstat) = read(task?.path().join("schedstat")) else { continue };
        let first = schedstat.split(' ').next().unwrap_or_default();
        nanoseconds += first.parse::<f64>().map_err(|error| format!("{tasks}: {error}"))?;
    }
    Ok(nanoseconds / 1e9)
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    Ok(fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// The first try and up to three repetitions.
const TRIES: u32 = 4;

/// USER_HZ, the unit of /proc/stat, is 100 on all current platforms.
const TICKS_PER_S: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_parsed_from_proc_files() {
        let stat = "cpu  10 20 30 40 50 60 70 80 90 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
        assert_eq!(stolen_ticks(stat), 80.0);
        assert_eq!(kilobytes("Rss:   12 kB\nAnonymous:    345 kB\n", "Anonymous:"), Some(345));
        assert_eq!(kilobytes("Rss:   12 kB\n", "Anonymous:"), None);
    }

    #[test]
    fn memory_and_cpu_time_of_this_process_are_positive() {
        let pid = std::process::id();
        assert!(anonymous_bytes(pid).expect("a number") > 0);
        assert!(resident_peak_bytes(pid).expect("a number") > 0);
        assert!(cpu_seconds(pid).expect("a number") > 0.0);
    }
}

//! CPU time of the server and of this process, from Linux's /proc, to show which is the bottleneck.

use std::fs;
use std::io;
use std::process;
use std::time::Instant;

/// Reads the CPU time of a server and of this process at the start and end of the measured time.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: Option<u32>,
    began: Option<Sample>,
}

/// Average number of cores used during the measured time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Only with --pid.
    pub(crate) server: Option<ServerUsage>,
    pub(crate) load_cores: f64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerUsage {
    pub(crate) cores: f64,
    pub(crate) busiest_thread: f64,
}

impl Meter {
    pub(crate) fn new(pid: Option<u32>) -> Self {
        Self { pid, began: None }
    }

    /// Takes the first sample. Call it after the measured time has begun; later calls do nothing.
    #[inline]
    pub(crate) fn begin(&mut self) {
        if self.began.is_none() {
            self.began = self.sample();
        }
    }

    /// Takes the second sample, after the measured time. `None` if the server has ended.
    pub(crate) fn end(&self) -> Option<Usage> {
        let (began, ended) = (self.began.as_ref()?, self.sample()?);
        // The samples are not taken exactly at the measured time's limits, so use their own times.
        let elapsed_ns = (ended.at - began.at).as_nanos().max(1) as f64;
        let share = |cpu_ns: u64| cpu_ns as f64 / elapsed_ns;
        let server = || cpu_ns_between(&began.server, &ended.server);
        Some(Usage {
            server: self.pid.map(|_| ServerUsage {
                cores: share(server().sum()),
                busiest_thread: share(server().max().unwrap_or_default()),
            }),
            load_cores: share(cpu_ns_between(&began.load, &ended.load).sum()),
        })
    }

    fn sample(&self) -> Option<Sample> {
        let server = self.pid.map_or(Ok(Vec::new()), threads).ok()?;
        let load = threads(process::id()).ok()?;
        Some(Sample { at: Instant::now(), server, load })
    }
}

/// The CPU times of all threads at one moment.
#[derive(Debug)]
struct Sample {
    at: Instant,
    server: Vec<Thread>,
    load: Vec<Thread>,
}

/// A thread's CPU time since it started.
#[derive(Clone, Copy, Debug)]
struct Thread {
    id: u32,
    cpu_ns: u64,
}

/// Every thread of process `pid`.
fn threads(pid: u32) -> io::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        // The thread may have ended since the directory was read.
        let Ok(schedstat) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
        let cpu_ns = schedstat.split(' ').next().and_then(|first| first.parse().ok());
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(id), Some(cpu_ns)) = (id, cpu_ns) {
            threads.push(Thread { id, cpu_ns });
        }
    }
    if threads.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(threads)
}

/// Whether the CPU time of process `pid` can be read.
pub(crate) fn is_readable(pid: u32) -> bool {
    threads(pid).is_ok()
}

/// CPU time of each thread in the second sample since the first. Threads that ended in between are
/// omitted, and new threads count from 0.
fn cpu_ns_between(began: &[Thread], ended: &[Thread]) -> impl Iterator<Item = u64> {
    let used_before = |id| began.iter().find(|thread| thread.id == id).map_or(0, |it| it.cpu_ns);
    ended.iter().map(move |thread| thread.cpu_ns.saturating_sub(used_before(thread.id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_start_or_end_between_samples_are_counted_correctly() {
        let thread = |id, cpu_ns| Thread { id, cpu_ns };
        let began = [thread(1, 100), thread(2, 5000)];
        let used = |ended: &[Thread]| cpu_ns_between(&began, ended).collect::<Vec<_>>();
        assert_eq!(used(&[thread(1, 150), thread(3, 20)]), [50, 20]);
        assert_eq!(used(&[]), []);
    }
}

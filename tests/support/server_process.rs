//! The server example as a process, so that a test can read its resources from /proc and its
//! counters from its log.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use super::client::wait_until;
use super::programs::Program;

/// How often the server reports its counters.
const STATS: &str = "--stats 0.05";

/// Marks a log line with all counters, each a total since the start.
const COUNTERS: &str = "Stats {";

/// A running server example. By default it has one worker, so that all its peers compete for the
/// same thread.
#[derive(Debug)]
pub struct ServerProcess {
    program: Program,
    address: SocketAddr,
}

impl ServerProcess {
    /// A server on a free port.
    #[track_caller]
    pub fn start(arguments: &str) -> Self {
        Self::of(Program::start_quiet("server", &with_defaults(arguments), &[]))
    }

    /// A server whose allocator returns large freed blocks to the kernel at once (mallopt(3)), so
    /// that its memory size excludes freed blocks.
    #[track_caller]
    pub fn start_frugal(arguments: &str) -> Self {
        let frugal = [("MALLOC_MMAP_THRESHOLD_", "32768")];
        Self::of(Program::start_quiet("server", &with_defaults(arguments), &frugal))
    }

    /// A server with at most `descriptors` open descriptors.
    #[track_caller]
    pub fn start_limited(descriptors: usize, arguments: &str) -> Self {
        Self::of(Program::start_limited("server", descriptors, &with_defaults(arguments)))
    }

    #[track_caller]
    fn of(program: Program) -> Self {
        let line = program.line("listening on ");
        let address = line.split(' ').nth(2).and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        Self { program, address }
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its resident anonymous memory, without the kernel's socket buffers.
    #[track_caller]
    pub fn memory_bytes(&self) -> usize {
        self.bytes("smaps_rollup", "Anonymous:")
    }

    /// Its private writable memory, resident or not.
    #[track_caller]
    pub fn reserved_bytes(&self) -> usize {
        self.bytes("status", "VmData:")
    }

    /// The peak of its resident memory, including the program itself.
    #[track_caller]
    pub fn resident_bytes_max(&self) -> usize {
        self.bytes("status", "VmHWM:")
    }

    /// The number of its open descriptors.
    #[track_caller]
    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.path("fd")).expect("the server runs").count()
    }

    /// The CPU time that its threads have used.
    #[track_caller]
    pub fn cpu_time(&self) -> Duration {
        self.program.cpu_time()
    }

    /// The counters that it reports next.
    #[track_caller]
    pub fn counters(&self) -> Counters {
        let logged = self.program.last_error_line(COUNTERS).0;
        let mut counters = None;
        wait_until("the server reports its counters", || {
            // The first line found may have been written before this call.
            let (count, line) = self.program.last_error_line(COUNTERS);
            counters = line.filter(|_| count > logged + 1);
            counters.is_some()
        });
        Counters(counters.expect("a line has been found"))
    }

    /// Waits until the counters satisfy `condition`, and returns them.
    #[track_caller]
    pub fn wait_for(&self, name: &str, condition: impl Fn(&Counters) -> bool) -> Counters {
        let mut counters = None;
        wait_until(name, || {
            counters = self.program.last_error_line(COUNTERS).1.map(Counters);
            counters.as_ref().is_some_and(&condition)
        });
        counters.expect("a line has been found")
    }

    /// Stops it with SIGTERM. It must exit with 0, and no thread may have panicked.
    #[track_caller]
    pub fn finish(self) {
        self.program.signal("TERM");
        let ended = self.program.wait();
        assert_eq!(ended.status.code(), Some(0), "{:?}", ended.stderr.last());
        let panic = ended.stderr.iter().find(|line| line.contains("panicked"));
        assert_eq!(panic, None);
    }

    /// The size in the line of a /proc file that begins with `start`.
    #[track_caller]
    fn bytes(&self, file: &str, start: &str) -> usize {
        let text = fs::read_to_string(self.path(file)).expect("the server runs");
        let line = text.lines().find_map(|line| line.strip_prefix(start));
        let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        kb.unwrap_or_else(|| panic!("no {start} in {text}")) * 1024
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.program.id())
    }
}

fn with_defaults(arguments: &str) -> String {
    let workers = if arguments.contains("--workers") { "" } else { "--workers 1" };
    format!("--addr 127.0.0.1:0 {workers} {STATS} {arguments}")
}

/// The server's counters, as it logged them.
#[derive(Debug)]
pub struct Counters(String);

impl Counters {
    /// The counter of this name.
    #[track_caller]
    pub fn of(&self, name: &str) -> u64 {
        let start = format!(" {name}: ");
        let rest = self.0.split_once(&start).map(|(_, rest)| rest);
        let digits = rest.and_then(|rest| rest.split([',', ' ']).next());
        let value = digits.and_then(|digits| digits.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }
}

//! The log: a bounded queue of lines, and one thread that writes them to standard error.
//!
//! A write to a full pipe blocks until the pipe is read. Only the writer thread may wait for that;
//! other threads append a line to the queue, or drop and count it if the queue is full.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use env_logger::{Builder, Target, WriteStyle};

/// Bytes of queued lines: some ten thousand lines, enough for a burst of connections while the
/// reader is busy. The writer may hold as much again.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// The memory that a buffer keeps after a burst, in bytes.
const BUFFER_BYTES_KEPT: usize = 4 * 1024;

/// How long the program waits for the writer before it exits. A live reader empties a full queue in
/// milliseconds; supervisors kill a service that takes ten seconds or more to stop.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Pause between attempts to write to a full pipe that another process has made non-blocking.
const RETRY: Duration = Duration::from_millis(10);

/// A handle to the log; clones share the queue.
#[derive(Clone)]
pub(crate) struct LogQueue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the writer.
    arrived: Condvar,
    /// Wakes `flush`.
    written: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines dropped since the writer last took the queue. They come after `lines`.
    dropped: u64,
    /// Whether the writer holds lines that it has not written yet.
    is_writing: bool,
}

impl Queue {
    const fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

impl LogQueue {
    /// Starts the writer thread.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let log = Self { shared: Arc::clone(&shared) };
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_for_ever())?;
        Ok(log)
    }

    /// Makes this the destination of the `log` facade, filtered by RUST_LOG, and of panics.
    pub(crate) fn install(&self) {
        let mut builder = Builder::new();
        // env_logger cannot know that this queue leads to a terminal.
        if io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none() {
            builder.write_style(WriteStyle::Always);
        }
        builder.parse_default_env();
        // Service files set a variable to the empty string to unset it.
        if env::var_os("RUST_LOG").is_none_or(|filters| filters.is_empty()) {
            builder.parse_filters("info");
        }
        builder.target(Target::Pipe(Box::new(self.clone()))).init();

        let log = self.clone();
        // The default hook writes to standard error itself, which could block a worker.
        std::panic::set_hook(Box::new(move |panic| {
            let thread = thread::current();
            let name = thread.name().unwrap_or("unnamed");
            let backtrace = Backtrace::capture();
            match backtrace.status() {
                BacktraceStatus::Captured => log::error!("thread {name} {panic}\n{backtrace}"),
                _ => log::error!("thread {name} {panic}"),
            }
            if name == "main" {
                log.flush();
            }
        }));
    }

    /// Writes a line unchanged, regardless of RUST_LOG.
    pub(crate) fn print(&self, line: &str) {
        self.shared.push(format!("{line}\n").as_bytes());
    }

    /// Waits until all lines are written, for at most `FLUSH_MAX`: the reader may have stopped.
    pub(crate) fn flush(&self) {
        let queue = self.shared.lock();
        let is_waited_for = |queue: &mut Queue| queue.is_writing || !queue.is_empty();
        // After that the remaining lines are lost when the process ends.
        drop(self.shared.written.wait_timeout_while(queue, FLUSH_MAX, is_waited_for));
    }
}

/// The logger writes one record with each call.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.lock();
        let must_wake = queue.is_empty() && !queue.is_writing;
        // After a dropped line drop the next ones too, so that the log has one gap.
        if queue.dropped > 0 || queue.lines.len() + line.len() > QUEUE_BYTES_MAX {
            queue.dropped += 1;
        } else {
            queue.lines.extend_from_slice(line);
        }
        drop(queue);
        if must_wake {
            self.arrived.notify_one();
        }
    }

    fn write_for_ever(&self) {
        let mut stderr = io::stderr();
        let mut lines = Vec::new();
        let mut dropped = 0;
        loop {
            dropped += self.take(&mut lines);
            dropped += write_lines(&mut stderr, &lines);
            if dropped > 0 {
                let now = humantime::format_rfc3339_seconds(SystemTime::now());
                let report = format!("[{now} WARN  server] {dropped} log lines were dropped\n");
                if write_lines(&mut stderr, report.as_bytes()) == 0 {
                    dropped = 0;
                }
            }
        }
    }

    /// Waits for lines, and swaps them with the lines `written` last. Returns how many lines were
    /// dropped after them.
    fn take(&self, written: &mut Vec<u8>) -> u64 {
        written.clear();
        written.shrink_to(BUFFER_BYTES_KEPT);
        let mut queue = self.lock();
        queue.is_writing = false;
        self.written.notify_all();
        let waiting = self.arrived.wait_while(queue, |queue| queue.is_empty());
        let mut queue = waiting.unwrap_or_else(PoisonError::into_inner);
        queue.is_writing = true;
        std::mem::swap(&mut queue.lines, written);
        std::mem::take(&mut queue.dropped)
    }
}

/// Writes `lines`, and returns how many of them could not be written.
fn write_lines(output: &mut impl Write, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match output.write(lines) {
            Ok(bytes) if bytes > 0 => lines = &lines[bytes..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
            // The pipe is closed, or the disk is full.
            _ => return lines.iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
    0
}

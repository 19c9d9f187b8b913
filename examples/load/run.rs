//! The run: opens every connection, measures, and closes them. One thread, one `Poll`.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal};
use std::mem;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mio::{Events, Interest, Poll, Token};

use crate::args::Options;
use crate::client::{Connection, ConnectionCounts, Shared};
use crate::frames::OpCode;
use crate::problem::Problem;
use crate::report::{Recorder, Report};
use crate::schedule::Schedule;
use crate::usage::{Meter, Usage};
use crate::workload::Workload;

/// A run in progress.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    options: &'a Options,
    poll: Poll,
    events: Events,
    /// In the order of dialling; a connection's token is its index.
    connections: Vec<Connection>,
    shared: Shared,
    meter: Meter,
    /// The one read buffer.
    scratch: Vec<u8>,
    bar: ProgressBar,
    bar_due_at: u64,
}

impl<'a> Run<'a> {
    pub(crate) fn new(options: &'a Options) -> Result<Self, Failure> {
        let opcode = if options.binary { OpCode::Binary } else { OpCode::Text };
        let Options { connections, depth, rate, count, .. } = *options;
        Ok(Self {
            options,
            poll: Poll::new().map_err(Failure::Poll)?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            connections: Vec::new(),
            shared: Shared {
                workload: Workload::new(&options.size, depth.into(), opcode, &options.prefix),
                schedule: Schedule::new(connections, depth, rate, count),
                recorder: Recorder::new(),
                counts: ConnectionCounts::default(),
                unfinished: Vec::new(),
            },
            meter: Meter::new(options.pid),
            scratch: vec![0; SCRATCH_BYTES],
            bar: progress_bar(options),
            bar_due_at: 0,
        })
    }

    /// Runs from start to end.
    pub(crate) fn finish(mut self) -> Result<Report, Failure> {
        self.open()?;
        let usage = self.measure()?;
        let messages_unsent = self.record_waiting();
        self.close()?;
        self.bar.finish_and_clear();
        let unanswered = self.options.connections - self.shared.counts.closed;
        Ok(Report::new(self.options, &self.shared.recorder, usage, messages_unsent, unanswered))
    }

    /// Dials evenly over the ramp-up until every connection is upgraded.
    fn open(&mut self) -> Result<(), Failure> {
        let Options { connections, ramp_up, .. } = *self.options;
        let gap = (ramp_up / connections).as_nanos() as u64;
        let start = self.shared.recorder.tick();
        while self.shared.counts.opened < connections {
            let now = self.shared.recorder.now;
            let dialled = self.connections.len() as u32;
            let due_at = start + gap * u64::from(dialled);
            let may_dial =
                dialled < connections && dialled - self.shared.counts.opened < OPENING_MAX;
            if may_dial && due_at <= now {
                self.dial(dialled)?;
                continue;
            }
            let wait = if may_dial { Duration::from_nanos(due_at - now) } else { TURN_MAX };
            self.turn(wait.min(TURN_MAX))?;
            self.check_stall()?;
            let opened = self.shared.counts.opened;
            self.show(u64::from(opened), connections.into(), "connections");
        }
        Ok(())
    }

    /// Sends and receives until the time is over or the count is reached. Returns the CPU time used
    /// meanwhile, with --pid.
    fn measure(&mut self) -> Result<Option<Usage>, Failure> {
        let Options { count, warmup, duration, .. } = *self.options;
        let start = self.shared.recorder.tick();
        self.shared.recorder.measure(warmup, count.is_none().then_some(duration));
        self.shared.schedule.start(start);
        self.begin_metering();
        if !self.shared.schedule.is_open_loop() {
            for index in 0..self.connections.len() {
                self.write(index)?;
            }
        }
        while let Some(left) = self.shared.recorder.time_left() {
            let messages = self.shared.recorder.messages();
            if count.is_some_and(|count| messages >= count) {
                break;
            }
            let now = self.shared.recorder.now;
            self.begin_metering();
            for index in self.shared.schedule.take_due(now) {
                self.write(index)?;
            }
            self.turn(self.poll_timeout().min(left))?;
            self.check_stall()?;
            let (position, length) = match count {
                Some(count) => (messages, count),
                None => (now - start, (warmup + duration).as_nanos() as u64),
            };
            self.show(position, length, "measuring");
        }
        Ok(self.meter.end())
    }

    /// In the open loop, records the latency so far of the messages not echoed at the end. Returns
    /// the number of those that were due but not sent.
    fn record_waiting(&mut self) -> u64 {
        // A message due exactly at the end would belong to the next second.
        let end = self.shared.recorder.measured_until() - 1;
        if !self.shared.schedule.is_open_loop() || self.options.count.is_some() {
            return 0;
        }
        let sessions = self.connections.iter().filter_map(Connection::session);
        sessions.map(|session| session.record_waiting(&mut self.shared, end)).sum()
    }

    /// Waits for the outstanding echoes, then at most a second for the answers to Close.
    fn close(&mut self) -> Result<(), Failure> {
        self.shared.schedule.stop();
        for index in 0..self.connections.len() {
            self.write(index)?;
        }
        while self.shared.counts.closing < self.options.connections {
            self.turn(TURN_MAX)?;
            self.check_stall()?;
        }
        let deadline = self.shared.recorder.tick() + CLOSE_TIMEOUT.as_nanos() as u64;
        let is_over =
            |counts: &ConnectionCounts| counts.closed + counts.unanswered == counts.closing;
        while !is_over(&self.shared.counts) && self.shared.recorder.now < deadline {
            self.turn(TURN_MAX)?;
        }
        Ok(())
    }

    fn dial(&mut self, index: u32) -> Result<(), Failure> {
        let failed = |error| Failure::at(index as usize, Problem::Io { doing: "connect", error });
        let Options { url, source, .. } = self.options;
        let mut connection = Connection::dial(index, url, *source).map_err(failed)?;
        self.poll
            .registry()
            .register(
                connection.stream_mut(),
                Token(index as usize),
                Interest::READABLE | Interest::WRITABLE,
            )
            .map_err(Failure::Poll)?;
        self.connections.push(connection);
        self.shared.recorder.progress_at = self.shared.recorder.now;
        Ok(())
    }

    fn write(&mut self, index: usize) -> Result<(), Failure> {
        // Sending thousands of first messages takes time, so each has its own send time.
        self.shared.recorder.tick();
        self.connections[index]
            .write(&mut self.shared, &mut self.scratch)
            .map_err(|problem| Failure::at(index, problem))
    }

    /// Waits for events for at most `timeout`, and handles each of them once.
    fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        let mut unfinished = mem::take(&mut self.shared.unfinished);
        let timeout = if unfinished.is_empty() { timeout } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(Failure::Poll(error));
            }
            // A signal interrupted the wait, so the events are stale.
            Err(_) => self.events.clear(),
            Ok(()) => {}
        }
        self.shared.recorder.tick();
        for event in &self.events {
            let Token(index) = event.token();
            self.connections[index]
                .ready(event, &mut self.shared, &mut self.scratch)
                .map_err(|problem| Failure::at(index, problem))?;
        }
        unfinished.sort_unstable();
        unfinished.dedup();
        for index in unfinished {
            self.write(index as usize)?;
        }
        Ok(())
    }

    /// How long a turn may sleep. epoll counts in milliseconds, and a message sent late would count
    /// as the server's latency, so the last millisecond before a message is due is spent polling.
    fn poll_timeout(&self) -> Duration {
        let Some(due_at) = self.shared.schedule.next_due() else { return TURN_MAX };
        let millis = due_at.saturating_sub(self.shared.recorder.now) / 1_000_000;
        Duration::from_millis(millis.saturating_sub(1)).min(TURN_MAX)
    }

    /// Fails if nothing has progressed for a while: a lost message must not hang the run.
    fn check_stall(&self) -> Result<(), Failure> {
        let recorder = &self.shared.recorder;
        if recorder.now.saturating_sub(recorder.progress_at) < STALL_TIMEOUT.as_nanos() as u64 {
            return Ok(());
        }
        let awaited = self.connections.iter().map(Connection::awaited).enumerate();
        match awaited.flat_map(|(index, message)| Some((index, message?))).next() {
            None => Ok(()),
            Some((index, message)) => {
                let seconds = STALL_TIMEOUT.as_secs();
                Err(Failure::at(index, Problem::Stalled { message, seconds }))
            }
        }
    }

    /// Takes the first sample of CPU time once the warm-up is over.
    fn begin_metering(&mut self) {
        if self.shared.recorder.is_measuring() {
            self.meter.begin();
        }
    }

    fn show(&mut self, position: u64, length: u64, what: &'static str) {
        let now = self.shared.recorder.now;
        if now >= self.bar_due_at {
            self.bar_due_at = now + BAR_PERIOD.as_nanos() as u64;
            self.bar.set_length(length);
            self.bar.set_position(position.min(length));
            self.bar.set_message(what);
        }
    }
}

/// The reason why there is no report.
#[derive(Debug)]
pub(crate) enum Failure {
    Poll(io::Error),
    /// Connections are counted from 1, like messages.
    Connection {
        number: usize,
        problem: Problem,
    },
}

impl Failure {
    fn at(index: usize, problem: Problem) -> Self {
        Self::Connection { number: index + 1, problem }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poll(error) => write!(f, "poll: {error}"),
            Self::Connection { number, problem } => write!(f, "connection {number}: {problem}"),
        }
    }
}

fn progress_bar(options: &Options) -> ProgressBar {
    if options.json || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:>12} {wide_bar} {percent:>3}%");
    ProgressBar::no_length().with_style(style.expect("the template is a constant"))
}

/// Large enough for several 64 KiB echoes in one read, small enough for the cache.
const SCRATCH_BYTES: usize = 256 << 10;

const EVENTS_PER_TURN: usize = 1024;

/// Concurrent handshakes: fewer than the smallest common listen backlog (128), because a dropped
/// SYN is retransmitted only after a second.
const OPENING_MAX: u32 = 100;

/// The longest sleep, so that the checks for stalls and the progress bar run.
const TURN_MAX: Duration = Duration::from_millis(100);

/// How long all connections together may make no progress while echoes are outstanding.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for answers to Close after the last echo.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

const BAR_PERIOD: Duration = Duration::from_millis(100);

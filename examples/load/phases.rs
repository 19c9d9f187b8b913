//! The phases of a run: opens every connection, measures, and closes them.

use std::io;
use std::time::Duration;

use crate::args::Options;
use crate::client::{Awaited, Connection};
use crate::dial::CONNECT_TIMEOUT;
use crate::failures::Failures;
use crate::problem::Problem;
use crate::report::{Report, Tally};
use crate::run::{Run, Slot};
use crate::traffic::Traffic;
use crate::usage::Usage;

/// The outcome of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `None` if no connection could be opened.
    pub(crate) report: Option<Report>,
    pub(crate) failures: Failures,
}

impl<T: Traffic> Run<'_, T> {
    /// Runs from start to end. Fails only if epoll does.
    pub(crate) fn finish(mut self) -> io::Result<Outcome> {
        self.open()?;
        if self.open_now() == 0 {
            return Ok(Outcome { report: None, failures: self.failures });
        }
        let usage = self.measure()?;
        let messages_unsent = self.record_unsent();
        let messages_unanswered = self.drain()?;
        self.close()?;
        self.progress.finish();
        let counts = &self.shared.counts;
        let tally = Tally {
            messages_unsent,
            messages_unanswered,
            messages_lost: counts.messages_lost,
            closes_unanswered: counts.opened - counts.failed_open - counts.closed,
        };
        let fan_out = T::fan_out(&self.shared.messages);
        let report = Report::new(self.options, &self.shared.recorder, usage, tally, fan_out);
        Ok(Outcome { report: Some(report), failures: self.failures })
    }

    /// Dials evenly over the ramp-up until every connection is open or has failed.
    fn open(&mut self) -> io::Result<()> {
        let Options { connections, ramp_up, .. } = *self.options;
        let gap = (ramp_up / connections).as_nanos() as u64;
        let start = self.shared.recorder.tick();
        loop {
            let now = self.shared.recorder.now;
            let dialled = self.slots.len() as u32;
            let done = self.shared.counts.opened + self.shared.counts.failed;
            if done >= connections || self.interrupt.is_raised() {
                return Ok(());
            }
            let due_at = start + gap * u64::from(dialled);
            let may_dial = dialled < connections && dialled - done < OPENING_MAX;
            if may_dial && due_at <= now {
                self.dial();
                continue;
            }
            let wait = if may_dial { Duration::from_nanos(due_at - now) } else { TURN_MAX };
            self.turn(wait.min(TURN_MAX))?;
            self.fail_silent(|awaited| awaited != Awaited::Message);
            self.progress.show(now, done.into(), connections.into(), "connections");
        }
    }

    /// Sends and receives until the time is over or the count is reached. Returns the CPU time used
    /// meanwhile, with --pid.
    fn measure(&mut self) -> io::Result<Option<Usage>> {
        self.settle()?;
        let Options { count, warmup, duration, .. } = *self.options;
        let start = self.shared.recorder.tick();
        self.shared.recorder.measure(warmup, count.is_none().then_some(duration));
        self.shared.schedule.start(start);
        self.begin_metering();
        if !self.shared.schedule.is_open_loop() && !self.interrupt.is_raised() {
            self.write_all();
        }
        while let Some(left) = self.shared.recorder.time_left() {
            let completed = T::completed(&self.shared);
            if count.is_some_and(|count| completed + self.abandoned >= count)
                || self.senders_left == 0
                || self.interrupt.is_raised()
            {
                break;
            }
            let now = self.shared.recorder.now;
            self.begin_metering();
            for lateness in self.shared.schedule.lateness(now) {
                self.shared.recorder.late(lateness);
            }
            for index in self.shared.schedule.take_due(now) {
                self.write(index);
            }
            self.turn(self.poll_timeout().min(left))?;
            if self.shared.recorder.is_interval_over() {
                self.finish_interval()?;
            }
            if count.is_some() {
                self.fail_silent(|awaited| awaited == Awaited::Message);
            }
            let (position, length) = match count {
                Some(count) => (completed, count),
                None => (now - start, (warmup + duration).as_nanos() as u64),
            };
            self.progress.show(now, position, length, "measuring");
        }
        self.shared.recorder.end();
        Ok(self.meter.end())
    }

    /// Handles events for the time that the server may need before the first message.
    fn settle(&mut self) -> io::Result<()> {
        let until = self.shared.recorder.tick() + T::SETTLE_MS * 1_000_000;
        while self.shared.recorder.now < until && !self.interrupt.is_raised() {
            self.turn(Duration::from_nanos(until - self.shared.recorder.now).min(TURN_MAX))?;
        }
        Ok(())
    }

    /// In the open loop, records the wait so far of the messages that were due but not sent, and
    /// returns their number. Those of failed connections are counted, but are not late.
    fn record_unsent(&mut self) -> u64 {
        let until = self.shared.recorder.due_until();
        let shared = &mut self.shared;
        if !shared.schedule.is_open_loop() || self.options.count.is_some() {
            return 0;
        }
        let mut total = 0;
        let senders = self.options.mode().senders(self.options.connections);
        for (index, slot) in (0..senders).zip(&self.slots) {
            let (is_live, sent) = match slot {
                Slot::Live(connection) => (true, connection.sent()),
                Slot::Failed(abandoned) => (false, abandoned.sent),
            };
            let unsent = shared.schedule.unsent(index, sent, until);
            total += unsent;
            for message in (sent..sent + unsent).filter(|_| is_live) {
                let due_at = shared.schedule.intended(index, message, until);
                shared.recorder.latency(due_at, 1, shared.recorder.now);
            }
        }
        total
    }

    /// Waits for the answers to the messages in flight, for a limited time, and records how long
    /// the others have waited. Returns their number.
    fn drain(&mut self) -> io::Result<u64> {
        self.shared.schedule.stop();
        self.write_all();
        let deadline = self.shared.recorder.now + DRAIN_TIMEOUT.as_nanos() as u64;
        while self.shared.counts.closing < self.open_now() {
            let left = deadline.saturating_sub(self.shared.recorder.now);
            if left == 0 {
                break;
            }
            self.turn(Duration::from_nanos(left).min(TURN_MAX))?;
            if T::ARE_ALL_IDLE_AT_ONCE {
                self.write_all();
            }
        }
        let now = self.shared.recorder.tick();
        let sessions = self.slots.iter().filter_map(Slot::live).filter_map(Connection::session);
        let waiting = sessions.map(|it| it.traffic.record_waiting(&mut self.shared, now)).sum();
        self.finish_interval()?;
        self.exports.flush()?;
        self.shared.recorder.close();
        Ok(waiting)
    }

    /// Shows and exports the figures of about a second.
    fn finish_interval(&mut self) -> io::Result<()> {
        let recorder = &mut self.shared.recorder;
        let until = recorder.interval_end();
        let from = recorder.end_interval().from;
        let since_start = Duration::from_nanos(recorder.since_start(from));
        let length = Duration::from_nanos(until.saturating_sub(from));
        let interval = recorder.end_interval();
        self.exports.add(interval, since_start, length)?;
        self.progress.interval(interval, length);
        recorder.begin_interval();
        Ok(())
    }

    /// Sends Close on every connection, and waits a limited time for the answers.
    fn close(&mut self) -> io::Result<()> {
        for slot in &mut self.slots {
            if let Slot::Live(connection) = slot {
                connection.begin_close(&mut self.shared);
            }
        }
        self.write_all();
        let deadline = self.shared.recorder.tick() + CLOSE_TIMEOUT.as_nanos() as u64;
        loop {
            let counts = &self.shared.counts;
            let left = deadline.saturating_sub(self.shared.recorder.now);
            if counts.closed + counts.unanswered == self.open_now() || left == 0 {
                return Ok(());
            }
            self.turn(Duration::from_nanos(left).min(TURN_MAX))?;
        }
    }

    /// Connections that have been opened and have not failed.
    fn open_now(&self) -> u32 {
        self.shared.counts.opened - self.shared.counts.failed_open
    }

    /// How long a turn may sleep. epoll counts in milliseconds, and a message sent late would count
    /// as the server's latency, so the last millisecond before a message is due is spent polling.
    fn poll_timeout(&self) -> Duration {
        let Some(due_at) = self.shared.schedule.next_due() else { return TURN_MAX };
        let millis = due_at.saturating_sub(self.shared.recorder.now) / 1_000_000;
        Duration::from_millis(millis.saturating_sub(1)).min(TURN_MAX)
    }

    /// Fails connections that wait for too long: those that are still connecting, after
    /// `CONNECT_TIMEOUT`, and those that wait for something that `concerns` this phase, once no
    /// connection has made progress for --timeout.
    fn fail_silent(&mut self, concerns: impl Fn(Awaited) -> bool) {
        let now = self.shared.recorder.now;
        if now < self.silence_checked_at + TURN_MAX.as_nanos() as u64 {
            return;
        }
        self.silence_checked_at = now;
        let progress_at = self.shared.recorder.progress_at;
        let timeout = self.options.timeout;
        let is_stalled = now.saturating_sub(progress_at) >= timeout.as_nanos() as u64;
        for index in 0..self.slots.len() {
            let Slot::Live(connection) = &self.slots[index] else { continue };
            let Some(awaited) = connection.awaited(&self.shared).filter(|&it| concerns(it)) else {
                continue;
            };
            let waits = now.saturating_sub(connection.dialled().at);
            if awaited == Awaited::Connection {
                if waits >= CONNECT_TIMEOUT.as_nanos() as u64 {
                    self.fail(index, Problem::Connect(io::ErrorKind::TimedOut.into()));
                }
            } else if is_stalled {
                let seconds = timeout.as_secs_f64();
                self.fail(index, Problem::Silent { expected: awaited.description(), seconds });
            }
        }
    }

    /// Takes the first sample of CPU time once the warm-up is over.
    fn begin_metering(&mut self) {
        if self.shared.recorder.is_measuring() {
            self.meter.begin();
        }
    }
}

/// Concurrent handshakes: fewer than the smallest common listen backlog (128), because a dropped
/// SYN is retransmitted only after a second.
const OPENING_MAX: u32 = 100;

/// The longest sleep, so that the checks for stalls and the progress line run.
const TURN_MAX: Duration = Duration::from_millis(100);

/// How long to wait for the messages in flight at the end. Together with `CLOSE_TIMEOUT` less than
/// the two seconds that a run may last longer than --duration.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(1000);

/// How long to wait for answers to Close.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(700);

//! Echo traffic: every connection sends, and expects each message back.

use std::collections::VecDeque;

use crate::args::Options;
use crate::echoes::Echoes;
use crate::frames::Head;
use crate::inbound::Event;
use crate::problem::Problem;
use crate::traffic::{Extent, Shared, Traffic};
use crate::workload::{Cursor, Workload};

/// The messages of one connection.
#[derive(Debug)]
pub(crate) struct Echo {
    connection: u32,
    echoes: Echoes,
    in_flight: InFlight,
    /// Messages put in flight so far. The last `unwritten` of them are not completely written.
    sent: u64,
    unwritten: u64,
    cursor: Cursor,
    /// Echoes that the current read may contain, and those that it has completed.
    outstanding: u64,
    completed: u64,
    completed_bytes: u64,
}

impl Traffic for Echo {
    type Messages = Workload;

    fn messages(options: &Options) -> Workload {
        let depth = options.mode().in_flight_max().into();
        Workload::new(&options.size, depth, options.content(), &options.prefix)
    }

    fn new(connection: u32, workload: &mut Workload) -> Self {
        let start = workload.start(connection);
        Self {
            connection,
            echoes: Echoes::new(start),
            in_flight: InFlight::default(),
            sent: 0,
            unwritten: 0,
            cursor: start,
            outstanding: 0,
            completed: 0,
            completed_bytes: 0,
        }
    }

    fn begin_read(&mut self) {
        // An unwritten message has no echo yet, but a partly written one may already be echoed in
        // fragments.
        let in_flight = self.in_flight.messages;
        let begun = u64::from(self.cursor.is_inside_frame());
        self.outstanding = (in_flight.saturating_sub(self.unwritten) + begun).min(in_flight);
        (self.completed, self.completed_bytes) = (0, 0);
    }

    #[inline]
    fn recv(
        &mut self,
        event: &Event<'_>,
        rest: &[u8],
        shared: &mut Shared<Self>,
        _now: u64,
    ) -> Result<(), Problem> {
        match *event {
            Event::Head(head) => {
                let is_expected = self.completed < self.outstanding;
                let result = self.echoes.recv_head(head, is_expected, &shared.messages);
                result.map_err(|problem| self.explain(problem, head, rest, &shared.messages))?;
            }
            Event::Payload { bytes, end } => {
                if let Some(bytes) = self.echoes.recv_payload(bytes, end, &shared.messages)? {
                    self.completed += 1;
                    self.completed_bytes += bytes;
                }
            }
            Event::Close(_) => {}
        }
        Ok(())
    }

    fn end_read(&mut self, shared: &mut Shared<Self>, now: u64) {
        let recorder = &mut shared.recorder;
        // Pings do not count as progress: they must not keep a run alive after a lost message.
        if self.completed > 0 || self.echoes.is_inside_message() {
            recorder.progress_at = now;
        }
        if self.completed > 0 {
            recorder.received(self.completed, self.completed_bytes, now);
            self.in_flight.complete(self.completed, |sent_at, messages| {
                recorder.latency(sent_at, messages, now);
            });
        }
    }

    fn put_in_flight(&mut self, shared: &mut Shared<Self>, now: u64) {
        let schedule = &shared.schedule;
        let allowed = schedule.allowance(self.connection, self.sent, self.in_flight.messages, now);
        for index in self.sent..self.sent + allowed {
            self.in_flight.push(schedule.intended(self.connection, index, now));
        }
        self.sent += allowed;
        self.unwritten += allowed;
    }

    fn unwritten<'a>(&'a self, workload: &'a Workload, extent: Extent) -> &'a [u8] {
        match extent {
            Extent::CurrentFrame => workload.run(self.cursor, 1),
            Extent::Everything if self.unwritten > 0 => workload.run(self.cursor, self.unwritten),
            Extent::Everything => &[],
        }
    }

    fn wrote(&mut self, bytes: usize, workload: &Workload) {
        self.unwritten -= workload.advance(&mut self.cursor, bytes);
    }

    fn is_inside_frame(&self) -> bool {
        self.cursor.is_inside_frame()
    }

    fn is_idle(&self, _: &Workload) -> bool {
        self.in_flight.messages == 0
    }

    fn message(&self) -> u64 {
        self.echoes.message()
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn unanswered(&self, _: &Workload) -> u64 {
        self.in_flight.messages
    }

    fn completed(shared: &Shared<Self>) -> u64 {
        shared.recorder.messages()
    }

    fn abandon(&mut self, _: &mut Shared<Self>) -> u64 {
        self.in_flight.messages
    }

    fn record_waiting(&self, shared: &mut Shared<Self>, now: u64) -> u64 {
        for &(sent_at, messages) in &self.in_flight.runs {
            shared.recorder.latency(sent_at, messages, now);
        }
        self.in_flight.messages
    }
}

impl Echo {
    /// Adds a reason that the user can remove to a wrong header.
    #[cold]
    fn explain(&self, problem: Problem, head: Head, rest: &[u8], workload: &Workload) -> Problem {
        match (problem, self.echoes.explain(head, rest, workload)) {
            (Problem::Mismatch { expected, got }, Some(reason)) => {
                Problem::Mismatch { expected, got: format!("{got}; {reason}") }
            }
            (problem, _) => problem,
        }
    }
}

/// The send times of unanswered messages, oldest first; a batch shares one entry.
#[derive(Debug, Default)]
struct InFlight {
    /// Send time and number of messages, which is never 0.
    runs: VecDeque<(u64, u64)>,
    /// The sum over `runs`.
    messages: u64,
}

impl InFlight {
    #[inline]
    fn push(&mut self, sent_at: u64) {
        self.messages += 1;
        match self.runs.back_mut() {
            Some((last, messages)) if *last == sent_at => *messages += 1,
            _ => self.runs.push_back((sent_at, 1)),
        }
    }

    /// Removes the oldest `messages`, and passes their send times to `each`.
    #[inline]
    fn complete(&mut self, messages: u64, mut each: impl FnMut(u64, u64)) {
        debug_assert!(messages <= self.messages);
        self.messages -= messages;
        let mut left = messages;
        while left > 0 {
            let Some((sent_at, run)) = self.runs.front_mut() else { return };
            let taken = left.min(*run);
            each(*sent_at, taken);
            left -= taken;
            *run -= taken;
            if *run == 0 {
                self.runs.pop_front();
            }
        }
    }
}

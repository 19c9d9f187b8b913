//! The run: all connections in one thread with one `Poll`. `phases` opens, measures and closes
//! them.

use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::args::Options;
use crate::client::Connection;
use crate::dial::{self, Dialled};
use crate::export::Exports;
use crate::failures::{Failures, Place};
use crate::frames;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::schedule::Schedule;
use crate::signals::Interrupt;
use crate::traffic::{Abandoned, ConnectionCounts, Shared, Traffic};
use crate::upgrade::Request;
use crate::usage::Meter;

/// A run in progress.
#[derive(Debug)]
pub(crate) struct Run<'a, T: Traffic> {
    pub(crate) options: &'a Options,
    poll: Poll,
    events: Events,
    request: Request,
    /// In the order of dialling; a connection's token is its index.
    pub(crate) slots: Vec<Slot<T>>,
    pub(crate) shared: Shared<T>,
    pub(crate) failures: Failures,
    /// Senders that have not failed.
    pub(crate) senders_left: u32,
    /// Messages of failed connections that a run with --count does not wait for.
    pub(crate) abandoned: u64,
    pub(crate) silence_checked_at: u64,
    pub(crate) meter: Meter,
    /// The one read buffer.
    scratch: Vec<u8>,
    pub(crate) progress: Progress,
    pub(crate) interrupt: Interrupt,
    pub(crate) exports: Exports,
}

/// A connection or its remains.
#[derive(Debug)]
pub(crate) enum Slot<T: Traffic> {
    Live(Connection<T>),
    Failed(Abandoned),
}

impl<T: Traffic> Slot<T> {
    pub(crate) fn live(&self) -> Option<&Connection<T>> {
        match self {
            Self::Live(connection) => Some(connection),
            Self::Failed(_) => None,
        }
    }
}

impl<'a, T: Traffic> Run<'a, T> {
    pub(crate) fn new(
        options: &'a Options,
        exports: Exports,
        interrupt: Interrupt,
    ) -> io::Result<Self> {
        let mode = options.mode();
        let senders = mode.senders(options.connections);
        let schedule = Schedule::new(senders, mode.in_flight_max(), options.rate, options.count);
        Ok(Self {
            options,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            request: options.request(),
            slots: Vec::new(),
            shared: Shared {
                messages: T::messages(options),
                schedule,
                recorder: Recorder::new(),
                counts: ConnectionCounts::default(),
                mask: frames::random_mask(),
                greetings: options.skip,
                unfinished: Vec::new(),
            },
            failures: Failures::default(),
            senders_left: senders,
            abandoned: 0,
            silence_checked_at: 0,
            meter: Meter::new(options.pid),
            scratch: vec![0; SCRATCH_BYTES],
            progress: Progress::new(options),
            interrupt,
            exports,
        })
    }

    /// Dials a new connection.
    pub(crate) fn dial(&mut self) {
        let index = self.slots.len();
        self.slots.push(Slot::Failed(Abandoned::default()));
        self.dial_from(index, 0);
    }

    /// Dials the host's addresses from number `attempt` on, until a connection is in progress.
    fn dial_from(&mut self, index: usize, attempt: usize) {
        let (source, addresses) = self.options.route(index);
        for attempt in attempt..addresses.len() {
            let address = addresses[attempt].clone();
            let at = self.shared.recorder.tick();
            let has_next = attempt + 1 < addresses.len();
            let dialled = Dialled { address: address.clone(), source, attempt, has_next, at };
            match self.connect(index, dialled) {
                Ok(connection) => {
                    self.slots[index] = Slot::Live(connection);
                    self.shared.recorder.progress_at = at;
                    return;
                }
                Err(_) if has_next => {}
                Err(error) => {
                    self.shared.counts.failed += 1;
                    let place = Place { connection: index + 1, address, message: None };
                    self.count_failure(index, place, &Problem::Connect(error));
                }
            }
        }
    }

    fn connect(&self, index: usize, dialled: Dialled) -> io::Result<Connection<T>> {
        let stream = dial::connect(&dialled.address, dialled.source)?;
        let connection = Connection::new(index as u32, dialled, stream, &self.request);
        let both = Interest::READABLE | Interest::WRITABLE;
        let descriptor = connection.stream().as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&descriptor), Token(index), both)?;
        Ok(connection)
    }

    /// Lets a connection write the messages that are due.
    pub(crate) fn write(&mut self, index: usize) {
        // Sending thousands of first messages takes time, so each has its own send time.
        self.shared.recorder.tick();
        let Some(Slot::Live(connection)) = self.slots.get_mut(index) else { return };
        if let Err(problem) = connection.write(&mut self.shared, &mut self.scratch) {
            self.fail(index, problem);
        }
    }

    pub(crate) fn write_all(&mut self) {
        (0..self.slots.len()).for_each(|index| self.write(index));
    }

    /// Waits for events for at most `timeout`, and handles each of them once.
    pub(crate) fn turn(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = if self.shared.unfinished.is_empty() { timeout } else { Duration::ZERO };
        let mut events = mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            // A signal interrupted the wait, so the events are stale.
            Err(_) => events.clear(),
            Ok(()) => {}
        }
        self.shared.recorder.tick();
        for event in &events {
            let Token(index) = event.token();
            let Some(Slot::Live(connection)) = self.slots.get_mut(index) else { continue };
            if let Err(problem) = connection.ready(event, &mut self.shared, &mut self.scratch) {
                self.fail(index, problem);
            }
        }
        self.events = events;
        let mut unfinished = mem::take(&mut self.shared.unfinished);
        unfinished.sort_unstable();
        unfinished.dedup();
        for index in unfinished {
            self.write(index as usize);
        }
        Ok(())
    }

    /// Tries the next address if a connection cannot be made, or counts the failure.
    pub(crate) fn fail(&mut self, index: usize, problem: Problem) {
        let Slot::Live(connection) = &mut self.slots[index] else { return };
        let Dialled { address, attempt, has_next, .. } = connection.dialled().clone();
        if matches!(problem, Problem::Connect(_)) && has_next {
            self.dial_from(index, attempt + 1);
            return;
        }
        let message = connection.session().map(|session| session.traffic.message());
        let abandoned = connection.abandon(&mut self.shared);
        self.slots[index] = Slot::Failed(abandoned);
        self.abandoned += abandoned.unanswered;
        self.count_failure(index, Place { connection: index + 1, address, message }, &problem);
    }

    fn count_failure(&mut self, index: usize, place: Place, problem: &Problem) {
        let Slot::Failed(Abandoned { sent, .. }) = self.slots[index] else { return };
        let mode = self.options.mode();
        if index < mode.senders(self.options.connections) as usize {
            self.senders_left -= 1;
            let share = self.shared.schedule.share_of_count(index as u32);
            self.abandoned += share.saturating_sub(sent);
        }
        self.failures.add(place, problem);
        self.shared.recorder.progress_at = self.shared.recorder.now;
    }
}

/// Large enough for several 64 KiB echoes in one read, small enough for the cache.
const SCRATCH_BYTES: usize = 256 << 10;

const EVENTS_PER_TURN: usize = 1024;

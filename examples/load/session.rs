//! An upgraded connection: what is in flight, what is still to be written, what comes back.
//!
//! Reading never waits for writing: a server that will not read more until its echoes have been
//! read is served, however large `depth` times `size` is.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

use mio::net::TcpStream;

use crate::client::Shared;
use crate::echoes::{CloseFrame, Echoes};
use crate::frames::{self, OpCode};
use crate::problem::Problem;
use crate::tape::Cursor;

/// Both directions of one connection after the 101.
#[derive(Debug)]
pub(crate) struct Session {
    connection: u32,
    echoes: Echoes,
    in_flight: InFlight,
    /// Messages put in flight so far; the last `unwritten` of them not or only partly written.
    sent: u64,
    unwritten: u64,
    cursor: Cursor,
    /// Pongs and our Close, of which `control_written` bytes are written; they go between frames.
    control: Vec<u8>,
    control_written: usize,
}

impl Session {
    pub(crate) fn new(connection: u32, shared: &Shared) -> Self {
        let start = shared.tape.start(connection);
        Self {
            connection,
            echoes: Echoes::new(start),
            in_flight: InFlight::default(),
            sent: 0,
            unwritten: 0,
            cursor: start,
            control: Vec::new(),
            control_written: 0,
        }
    }

    /// Takes what was read at `now`; returns the server's Close if it was among it.
    pub(crate) fn recv(
        &mut self,
        bytes: &[u8],
        shared: &mut Shared,
        now: u64,
    ) -> Result<Option<CloseFrame>, Problem> {
        // Nothing is owed for a message unwritten, but a frame partly written may be echoed in
        // fragments already.
        let in_flight = self.in_flight.messages;
        let begun = u64::from(self.cursor.is_inside_frame());
        let owed = (in_flight.saturating_sub(self.unwritten) + begun).min(in_flight);
        let harvest = self.echoes.recv(bytes, owed, &shared.tape, &mut self.control)?;
        // Pings are no progress: they must not keep a run alive that has lost a message.
        if harvest.messages > 0 || self.echoes.is_inside_message() {
            shared.recorder.progress_at = now;
        }
        if harvest.messages > 0 {
            let recorder = &mut shared.recorder;
            recorder.echoed(harvest.messages, harvest.message_bytes, now);
            self.in_flight.settle(harvest.messages, |sent_at, messages| {
                recorder.latency(sent_at, messages, now);
            });
        }
        Ok(harvest.close)
    }

    /// Puts in flight what the schedule allows and writes all that the socket takes.
    pub(crate) fn send(
        &mut self,
        stream: &mut TcpStream,
        shared: &mut Shared,
        now: u64,
    ) -> io::Result<()> {
        let schedule = &shared.schedule;
        let allowed = schedule.allowance(self.connection, self.sent, self.in_flight.messages, now);
        for index in self.sent..self.sent + allowed {
            self.in_flight.push(schedule.intended(self.connection, index, now));
        }
        self.sent += allowed;
        self.unwritten += allowed;
        self.flush(stream, shared, now)
    }

    /// Queues Close 1000 behind the last message.
    pub(crate) fn send_close(&mut self, shared: &Shared) {
        debug_assert!(self.is_idle());
        frames::encode(
            OpCode::Close,
            &1000_u16.to_be_bytes(),
            shared.tape.mask(),
            &mut self.control,
        );
    }

    /// Whether every message sent has been answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.messages == 0
    }

    /// The number, from 1, of the message whose echo comes next.
    pub(crate) fn message(&self) -> u64 {
        self.echoes.message()
    }

    /// At the end of an open loop: every message that was due and has no echo has waited at
    /// least this long, and leaving it out would hide a stall that lasted to the end. Returns
    /// how many of them were never sent.
    pub(crate) fn record_waiting(&self, shared: &mut Shared, now: u64) -> u64 {
        for &(sent_at, messages) in &self.in_flight.runs {
            shared.recorder.latency(sent_at, messages, now);
        }
        let owed = shared.schedule.owed(self.connection, self.sent, now);
        for index in self.sent..self.sent + owed {
            let due_at = shared.schedule.intended(self.connection, index, now);
            shared.recorder.latency(due_at, 1, now);
        }
        owed
    }

    fn flush(&mut self, stream: &mut TcpStream, shared: &mut Shared, now: u64) -> io::Result<()> {
        let mut budget = WRITE_BYTES_PER_TURN;
        while budget > 0 {
            let wants_control = self.control_written < self.control.len();
            let bytes = if wants_control && !self.cursor.is_inside_frame() {
                &self.control[self.control_written..]
            } else if wants_control {
                // Control frames wait for the end of one frame, not of the whole batch.
                shared.tape.run(self.cursor, 1)
            } else if self.unwritten > 0 {
                shared.tape.run(self.cursor, self.unwritten)
            } else {
                return Ok(());
            };
            match stream.write(&bytes[..bytes.len().min(budget)]) {
                Ok(written) => {
                    budget -= written;
                    self.wrote(written, shared, now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        shared.unfinished.push(self.connection);
        Ok(())
    }

    fn wrote(&mut self, bytes: usize, shared: &mut Shared, now: u64) {
        let wants_control = self.control_written < self.control.len();
        if wants_control && !self.cursor.is_inside_frame() {
            self.control_written += bytes;
            if self.control_written == self.control.len() {
                self.control.clear();
                self.control_written = 0;
            }
        } else {
            self.unwritten -= shared.tape.advance(&mut self.cursor, bytes);
            shared.recorder.progress_at = now;
        }
    }
}

/// The send times of unanswered messages, oldest first; a batch shares one entry.
#[derive(Debug, Default)]
struct InFlight {
    /// Send time and number of messages; never 0 of them.
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

    /// Removes the oldest `messages`, telling `each` their send times.
    #[inline]
    fn settle(&mut self, messages: u64, mut each: impl FnMut(u64, u64)) {
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

/// A server that reads as fast as we write must not keep the others' echoes waiting.
const WRITE_BYTES_PER_TURN: usize = 1 << 20;

//! An upgraded connection: writes messages, tracks those in flight, and checks their echoes.
//!
//! Reading never waits for writing, so a server that stops reading until its echoes are read causes
//! no deadlock, however large `depth` times `size` is.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};

use mio::net::TcpStream;

use crate::client::Shared;
use crate::echoes::{CloseFrame, Echoes};
use crate::frames::{self, OpCode};
use crate::problem::Problem;
use crate::workload::Cursor;

/// Both directions of one connection after the 101.
#[derive(Debug)]
pub(crate) struct Session {
    connection: u32,
    echoes: Echoes,
    in_flight: InFlight,
    /// Messages put in flight so far. The last `unwritten` of them are not completely written.
    sent: u64,
    unwritten: u64,
    cursor: Cursor,
    /// Pongs and our Close, to be written between other frames; `control_written` bytes are
    /// written.
    control: Vec<u8>,
    control_written: usize,
}

impl Session {
    pub(crate) fn new(connection: u32, shared: &Shared) -> Self {
        let start = shared.workload.start(connection);
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

    /// Processes bytes read at `now`. Returns the server's Close if they include it.
    pub(crate) fn recv(
        &mut self,
        bytes: &[u8],
        shared: &mut Shared,
        now: u64,
    ) -> Result<Option<CloseFrame>, Problem> {
        // An unwritten message has no echo yet, but a partly written one may already be echoed in
        // fragments.
        let in_flight = self.in_flight.messages;
        let begun = u64::from(self.cursor.is_inside_frame());
        let outstanding = (in_flight.saturating_sub(self.unwritten) + begun).min(in_flight);
        let received = self.echoes.recv(bytes, outstanding, &shared.workload, &mut self.control)?;
        // Pings do not count as progress: they must not keep a run alive after a lost message.
        if received.messages > 0 || self.echoes.is_inside_message() {
            shared.recorder.progress_at = now;
        }
        if received.messages > 0 {
            let recorder = &mut shared.recorder;
            recorder.echoed(received.messages, received.message_bytes, now);
            self.in_flight.complete(received.messages, |sent_at, messages| {
                recorder.latency(sent_at, messages, now);
            });
        }
        Ok(received.close)
    }

    /// Puts the allowed messages in flight, and writes as much as the socket accepts.
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

    /// Queues Close 1000 after the last message.
    pub(crate) fn send_close(&mut self, shared: &Shared) {
        debug_assert!(self.is_idle());
        frames::encode(
            OpCode::Close,
            &1000_u16.to_be_bytes(),
            shared.workload.mask(),
            &mut self.control,
        );
    }

    /// Whether every message sent has been answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.messages == 0
    }

    /// The number, counted from 1, of the message whose echo comes next.
    pub(crate) fn message(&self) -> u64 {
        self.echoes.message()
    }

    /// At the end of an open loop, records the latency so far of every message that was due and has
    /// no echo: omitting them would hide a stall that lasts to the end. Returns how many of them
    /// were not sent.
    pub(crate) fn record_waiting(&self, shared: &mut Shared, now: u64) -> u64 {
        for &(sent_at, messages) in &self.in_flight.runs {
            shared.recorder.latency(sent_at, messages, now);
        }
        let unsent = shared.schedule.unsent(self.connection, self.sent, now);
        for index in self.sent..self.sent + unsent {
            let due_at = shared.schedule.intended(self.connection, index, now);
            shared.recorder.latency(due_at, 1, now);
        }
        unsent
    }

    fn flush(&mut self, stream: &mut TcpStream, shared: &mut Shared, now: u64) -> io::Result<()> {
        let mut budget = WRITE_BYTES_PER_TURN;
        while budget > 0 {
            let wants_control = self.control_written < self.control.len();
            let bytes = if wants_control && !self.cursor.is_inside_frame() {
                &self.control[self.control_written..]
            } else if wants_control {
                // A control frame waits for the end of the current frame, not of the batch.
                shared.workload.run(self.cursor, 1)
            } else if self.unwritten > 0 {
                shared.workload.run(self.cursor, self.unwritten)
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
            self.unwritten -= shared.workload.advance(&mut self.cursor, bytes);
            shared.recorder.progress_at = now;
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

/// Limit of a turn, so that a connection that accepts every write does not delay the others.
const WRITE_BYTES_PER_TURN: usize = 1 << 20;

//! An upgraded connection: reads frames for its traffic, and writes its messages and control
//! frames.
//!
//! Reading never waits for writing, so a server that stops reading until its echoes are read causes
//! no deadlock, however large the messages in flight are.

use std::io::{self, ErrorKind, Write};

use crate::control::Control;
use crate::inbound::{CloseFrame, Event, Inbound};
use crate::problem::Problem;
use crate::traffic::{Extent, Shared, Traffic};

/// Both directions of one connection after the 101.
#[derive(Debug)]
pub(crate) struct Session<T> {
    connection: u32,
    inbound: Inbound,
    control: Control,
    pub(crate) traffic: T,
}

impl<T: Traffic> Session<T> {
    pub(crate) fn new(connection: u32, shared: &mut Shared<T>) -> Self {
        Self {
            connection,
            inbound: Inbound::new(shared.greetings),
            control: Control::new(shared.mask),
            traffic: T::new(connection, &mut shared.messages),
        }
    }

    /// Whether all greetings have arrived.
    pub(crate) fn is_greeted(&self) -> bool {
        self.inbound.is_greeted()
    }

    /// Processes bytes read at `now`. Returns the server's Close if they include it.
    pub(crate) fn recv(
        &mut self,
        bytes: &[u8],
        shared: &mut Shared<T>,
        now: u64,
    ) -> Result<Option<CloseFrame>, Problem> {
        self.traffic.begin_read();
        let result = self.recv_events(bytes, shared, now);
        // Also after a failure, because the messages before it were correct.
        self.traffic.end_read(shared, now);
        result
    }

    #[inline]
    fn recv_events(
        &mut self,
        mut bytes: &[u8],
        shared: &mut Shared<T>,
        now: u64,
    ) -> Result<Option<CloseFrame>, Problem> {
        while let Some(event) = self.inbound.next(&mut bytes, &mut self.control)? {
            if let Event::Close(close) = event {
                return Ok(Some(close));
            }
            self.traffic.recv(&event, bytes, shared, now)?;
        }
        Ok(None)
    }

    /// Puts the allowed messages in flight, and writes as much as the socket accepts.
    pub(crate) fn send(
        &mut self,
        stream: &mut impl Write,
        shared: &mut Shared<T>,
        now: u64,
    ) -> io::Result<()> {
        self.traffic.put_in_flight(shared, now);
        let mut budget = WRITE_BYTES_PER_TURN;
        while budget > 0 {
            let control = self.control.unwritten();
            let is_control = !control.is_empty() && !self.traffic.is_inside_frame();
            let bytes = if is_control {
                control
            } else {
                // A control frame waits for the end of the current frame, not of the batch.
                let extent = match control.is_empty() {
                    true => Extent::Everything,
                    false => Extent::CurrentFrame,
                };
                self.traffic.unwritten(&shared.messages, extent)
            };
            if bytes.is_empty() {
                return Ok(());
            }
            match stream.write(&bytes[..bytes.len().min(budget)]) {
                Ok(written) if is_control => {
                    budget -= written;
                    self.control.wrote(written);
                }
                Ok(written) => {
                    budget -= written;
                    self.traffic.wrote(written, &shared.messages);
                    shared.recorder.progress_at = now;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        shared.unfinished.push(self.connection);
        Ok(())
    }

    /// Queues Close 1000.
    pub(crate) fn send_close(&mut self) {
        self.control.close();
    }
}

/// Limit of a turn, so that a connection that accepts every write does not delay the others.
const WRITE_BYTES_PER_TURN: usize = 1 << 20;

//! Broadcast traffic: some connections publish, and every connection expects every message, those
//! of each publisher in order.

use std::collections::VecDeque;

use crate::args::{Mode, Options};
use crate::board::{Board, Pending, Publisher};
use crate::bulletins::{Bulletins, Identity};
use crate::deliveries::Deliveries;
use crate::inbound::Event;
use crate::problem::Problem;
use crate::recorder;
use crate::traffic::{Extent, FanOut, Shared, Traffic};

/// The messages of one connection.
#[derive(Debug)]
pub(crate) struct Member {
    connection: u32,
    deliveries: Deliveries,
    /// Encoded messages, of which the first `written` bytes are written. Only publishers have any.
    out: Vec<u8>,
    written: usize,
    /// The ends in `out` of the messages that are not completely written.
    frame_ends: VecDeque<usize>,
    is_inside_frame: bool,
    sent: u64,
    /// Deliveries of the current read.
    completed: u64,
    completed_bytes: u64,
}

impl Traffic for Member {
    type Messages = Board;

    /// A server may subscribe a connection only after it has answered the upgrade.
    const SETTLE_MS: u64 = 300;

    const ARE_ALL_IDLE_AT_ONCE: bool = true;

    fn messages(options: &Options) -> Board {
        let publishers = match options.mode() {
            Mode::Broadcast { publishers, .. } => publishers,
            Mode::Echo { .. } => 0,
        };
        Board {
            bulletins: Bulletins::new(&options.size, options.content()),
            publishers: (0..publishers).map(|_| Publisher::default()).collect(),
            members: 0,
            outstanding: 0,
            published: 0,
            last_ns: recorder::latencies(),
        }
    }

    fn new(connection: u32, board: &mut Board) -> Self {
        board.members += 1;
        Self {
            connection,
            deliveries: Deliveries::new(board.publishers.len()),
            out: Vec::new(),
            written: 0,
            frame_ends: VecDeque::new(),
            is_inside_frame: false,
            sent: 0,
            completed: 0,
            completed_bytes: 0,
        }
    }

    fn begin_read(&mut self) {
        (self.completed, self.completed_bytes) = (0, 0);
    }

    fn recv(
        &mut self,
        event: &Event<'_>,
        _rest: &[u8],
        shared: &mut Shared<Self>,
        now: u64,
    ) -> Result<(), Problem> {
        match *event {
            Event::Head(head) => {
                self.deliveries.recv_head(head, shared.messages.bulletins.opcode())
            }
            Event::Payload { bytes, end } => {
                let board = &mut shared.messages;
                let is_published = |identity| board.is_published(identity);
                let bulletins = &board.bulletins;
                let Some(delivery) =
                    self.deliveries.recv_payload(bytes, end, bulletins, is_published)?
                else {
                    return Ok(());
                };
                self.completed += 1;
                self.completed_bytes += delivery.bytes;
                if board.deliver(delivery.identity, &mut shared.recorder, now) {
                    shared.unfinished.push(delivery.identity.publisher);
                }
                Ok(())
            }
            Event::Close(_) => Ok(()),
        }
    }

    fn end_read(&mut self, shared: &mut Shared<Self>, now: u64) {
        if self.completed > 0 || self.deliveries.is_inside_message() {
            shared.recorder.progress_at = now;
        }
        if self.completed > 0 {
            shared.recorder.received(self.completed, self.completed_bytes, now);
        }
    }

    fn put_in_flight(&mut self, shared: &mut Shared<Self>, now: u64) {
        let Shared { messages: board, schedule, .. } = shared;
        let Some(publisher) = board.publishers.get_mut(self.connection as usize) else { return };
        let pending = publisher.pending.len() as u64;
        let allowed = schedule.allowance(self.connection, self.sent, pending, now);
        for number in self.sent..self.sent + allowed {
            let sent_at = schedule.intended(self.connection, number, now);
            publisher.pending.push_back(Pending { sent_at, missing: board.members });
            let identity = Identity { publisher: self.connection, number };
            board.bulletins.encode(identity, &mut self.out);
            self.frame_ends.push_back(self.out.len());
        }
        board.outstanding += allowed;
        self.sent += allowed;
    }

    fn unwritten<'a>(&'a self, _: &'a Board, extent: Extent) -> &'a [u8] {
        match (extent, self.frame_ends.front()) {
            (Extent::CurrentFrame, Some(&end)) => &self.out[self.written..end],
            (_, _) => &self.out[self.written..],
        }
    }

    fn wrote(&mut self, bytes: usize, _: &Board) {
        self.written += bytes;
        self.is_inside_frame = true;
        while let Some(&end) = self.frame_ends.front().filter(|&&end| end <= self.written) {
            self.is_inside_frame = end < self.written;
            self.frame_ends.pop_front();
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written > self.out.len() / 2 {
            self.out.drain(..self.written);
            self.frame_ends.iter_mut().for_each(|end| *end -= self.written);
            self.written = 0;
        }
    }

    fn is_inside_frame(&self) -> bool {
        self.is_inside_frame
    }

    fn is_idle(&self, board: &Board) -> bool {
        board.outstanding == 0
    }

    fn message(&self) -> u64 {
        self.deliveries.count() + 1
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn unanswered(&self, board: &Board) -> u64 {
        let own = board.publishers.get(self.connection as usize);
        own.map_or(0, |publisher| publisher.pending.len() as u64)
    }

    fn completed(shared: &Shared<Self>) -> u64 {
        shared.messages.published
    }

    fn abandon(&mut self, shared: &mut Shared<Self>) -> u64 {
        let Shared { messages: board, recorder, unfinished, .. } = shared;
        let now = recorder.now;
        let mut lost = board.fail(self.connection);
        board.members -= 1;
        for publisher in 0..board.publishers.len() as u32 {
            lost += board.skip(publisher, self.deliveries.next(publisher), recorder, now);
            unfinished.push(publisher);
        }
        lost
    }

    fn record_waiting(&self, shared: &mut Shared<Self>, now: u64) -> u64 {
        let Shared { messages: board, recorder, .. } = shared;
        let mut waiting = 0;
        for (publisher, state) in (0..).zip(&board.publishers) {
            let received = self.deliveries.next(publisher).saturating_sub(state.first) as usize;
            for pending in state.pending.iter().skip(received) {
                recorder.latency(pending.sent_at, 1, now);
                waiting += 1;
            }
            if publisher == self.connection && recorder.takes_latencies(now) {
                for pending in &state.pending {
                    board.last_ns.saturating_record(now.saturating_sub(pending.sent_at));
                }
            }
        }
        waiting
    }

    fn fan_out(board: &Board) -> Option<FanOut<'_>> {
        Some(FanOut { published: board.published, last_ns: &board.last_ns })
    }
}

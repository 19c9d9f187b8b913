//! Decides how many messages a connection may send now, and when each was due.
//!
//! Closed loop: `depth` messages are always in flight. Open loop: the messages of the whole run are
//! due at fixed times, assigned to the connections in turn, whether the server keeps up or not;
//! `depth` only limits the messages in flight, and delayed messages keep their due times. This
//! needs no queue, because a due time is computed from the message's number. Times are nanoseconds
//! since the run's epoch.

/// The schedule of all connections together.
#[derive(Debug)]
pub(crate) struct Schedule {
    connections: u64,
    depth: u64,
    messages_per_s: Option<f64>,
    count: Option<u64>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting,
    /// `take_due` has returned the connections of all messages before `offered`.
    Started {
        at: u64,
        offered: u64,
    },
    Stopped,
}

impl Schedule {
    pub(crate) fn new(
        connections: u32,
        depth: u32,
        messages_per_s: Option<f64>,
        count: Option<u64>,
    ) -> Self {
        Self {
            connections: connections.into(),
            depth: depth.into(),
            messages_per_s,
            count,
            state: State::Waiting,
        }
    }

    pub(crate) fn start(&mut self, now: u64) {
        self.state = State::Started { at: now, offered: 0 };
    }

    /// Allows no further messages.
    pub(crate) fn stop(&mut self) {
        self.state = State::Stopped;
    }

    /// How late the generator is at `now` for each message that came due since `take_due` was last
    /// called, oldest first.
    pub(crate) fn lateness(&self, now: u64) -> impl Iterator<Item = u64> + use<> {
        let due = self.due(now);
        let (range, at, rate) = match (self.state, self.messages_per_s) {
            (State::Started { at, offered }, Some(rate)) => (offered..due, at, rate),
            _ => (0..0, 0, 1.0),
        };
        range.map(move |message| now.saturating_sub(due_at(at, rate, message)))
    }

    /// The connections whose next message came due since the last call, in order.
    pub(crate) fn take_due(&mut self, now: u64) -> impl Iterator<Item = usize> + use<> {
        let due = self.due(now);
        let connections = self.connections;
        let range = match &mut self.state {
            State::Started { offered, .. } => {
                // If more than one round is late, one visit sends all due messages of a connection.
                let from = (*offered).max(due.saturating_sub(connections));
                *offered = due.max(*offered);
                from..due
            }
            State::Waiting | State::Stopped => 0..0,
        };
        range.map(move |message| (message % connections) as usize)
    }

    /// How many messages `connection` may send now, after `sent` of which `in_flight` have no echo.
    pub(crate) fn allowance(&self, connection: u32, sent: u64, in_flight: u64, now: u64) -> u64 {
        if !matches!(self.state, State::Started { .. }) {
            return 0;
        }
        let free = self.depth.saturating_sub(in_flight);
        free.min(self.unsent(connection, sent, now))
    }

    /// How many messages of `connection` are due but not sent.
    pub(crate) fn unsent(&self, connection: u32, sent: u64, now: u64) -> u64 {
        // In the closed loop without a count, messages are always due.
        let due = match (self.messages_per_s, self.count) {
            (Some(_), _) => self.share(connection, self.due(now)),
            (None, Some(count)) => self.share(connection, count),
            (None, None) => return u64::MAX,
        };
        due.saturating_sub(sent)
    }

    /// When the `index`th message of `connection` was due.
    pub(crate) fn intended(&self, connection: u32, index: u64, now: u64) -> u64 {
        match (self.state, self.messages_per_s) {
            (State::Started { at, .. }, Some(rate)) => {
                due_at(at, rate, index * self.connections + u64::from(connection))
            }
            _ => now,
        }
    }

    /// When the next message of the open loop is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        match (self.state, self.messages_per_s) {
            (State::Started { at, offered }, Some(rate))
                if self.count.is_none_or(|count| offered < count) =>
            {
                Some(due_at(at, rate, offered))
            }
            _ => None,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    pub(crate) fn is_open_loop(&self) -> bool {
        self.messages_per_s.is_some()
    }

    /// How many messages of the open loop are due by `now` on all connections together.
    fn due(&self, now: u64) -> u64 {
        let (State::Started { at, .. }, Some(rate)) = (self.state, self.messages_per_s) else {
            return 0;
        };
        let due = (now.saturating_sub(at) as f64 * rate / 1e9) as u64 + 1;
        due.min(self.count.unwrap_or(u64::MAX))
    }

    /// The messages of a run with a count that `connection` sends; 0 without a count.
    pub(crate) fn share_of_count(&self, connection: u32) -> u64 {
        self.count.map_or(0, |count| self.share(connection, count))
    }

    /// The number of messages among the first `total` that are assigned to `connection`.
    fn share(&self, connection: u32, total: u64) -> u64 {
        (total + self.connections - 1).saturating_sub(connection.into()) / self.connections
    }
}

fn due_at(start: u64, messages_per_s: f64, message: u64) -> u64 {
    start + (message as f64 * 1e9 / messages_per_s) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_loop_fills_the_depth_and_keeps_the_count() {
        let mut schedule = Schedule::new(3, 4, None, Some(11));
        assert_eq!(schedule.allowance(0, 0, 0, 0), 0);
        schedule.start(0);
        assert_eq!(schedule.allowance(0, 0, 0, 0), 4);
        assert_eq!(schedule.allowance(0, 2, 1, 0), 2);
        assert_eq!((0..3).map(|connection| schedule.unsent(connection, 0, 0)).sum::<u64>(), 11);
        schedule.stop();
        assert_eq!(schedule.allowance(0, 0, 0, 0), 0);
    }

    #[test]
    fn open_loop_assigns_messages_in_turn_and_keeps_their_due_times() {
        let mut schedule = Schedule::new(2, 100, Some(1000.0), None);
        schedule.start(500);
        assert_eq!(schedule.take_due(500).collect::<Vec<_>>(), [0]);
        assert_eq!(schedule.next_due(), Some(1_000_500));
        assert_eq!(schedule.lateness(2_000_600).collect::<Vec<_>>(), [1_000_100, 100]);
        assert_eq!(schedule.take_due(2_000_500).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(schedule.lateness(2_000_500).count(), 0);
        assert_eq!(schedule.intended(1, 1, 9_000_000), 3_000_500);
        assert_eq!(schedule.allowance(0, 1, 0, 4_000_500), 2);
        // After a stall of a second every connection is visited once, for all its due messages.
        assert_eq!(schedule.take_due(1_000_000_500).count(), 2);
        assert_eq!(schedule.unsent(0, 0, 1_000_000_500), 501);
        assert_eq!(schedule.unsent(1, 0, 1_000_000_500), 500);
    }
}

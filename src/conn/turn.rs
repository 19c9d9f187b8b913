//! The context that a worker lends to a connection for one turn.

use std::time::Instant;

use super::date::Dates;
use super::guard::{Guard, Subject};
use super::throttle::Throttles;
use super::tick::Tick;
use crate::address_limits::{AddressPlaces, AddressRefused};
use crate::config::Config;
use crate::connection_info::Address;
use crate::fanout::Fanout;
use crate::open_peers::OpenPeers;
use crate::peer::{SendState, TurnCounts};
use crate::peer_deadlines::PeerDeadlines;
use crate::peer_id::PeerId;
use crate::protocol::Workspace;
use crate::stats::Counters;

/// The worker's resources, and the state of the turn.
pub(crate) struct TurnContext<'t, H> {
    pub(crate) id: PeerId,
    pub(crate) handler: &'t mut H,
    /// Other threads look up open connections here.
    pub(crate) peers: &'t OpenPeers,
    /// Its `out` precedes the window's run on the wire, and is empty between turns.
    pub(crate) workspace: &'t mut Workspace,
    /// Topics, messages for other connections, and requests of callbacks, which the worker carries
    /// out after the turn.
    pub(crate) fanout: &'t mut Fanout,
    /// The deadlines that callbacks have set.
    pub(crate) deadlines: &'t mut PeerDeadlines,
    /// The places of the addresses.
    pub(crate) places: &'t mut AddressPlaces,
    pub(crate) config: &'t Config,
    pub(crate) counters: &'t Counters,
    pub(crate) throttles: &'t Throttles,
    pub(crate) now: Tick,
    /// The moment at which the worker's turn began.
    pub(crate) instant: Instant,
    pub(crate) dates: &'t mut Dates,
    /// The events that the connection may still take in this turn.
    pub(crate) events_left: u32,
    /// The reads of TLS handshakes that the worker may still do in this turn.
    pub(crate) tls_handshakes: &'t mut TlsHandshakes,
    pub(crate) counts: TurnCounts,
    pub(crate) sends: SendState,
}

/// Inflated bytes that count as one event. A turn of 4096 events inflates 1 MiB and one message, as
/// many bytes as its reads may bring without compression.
#[cfg(feature = "deflate")]
const INFLATED_PER_EVENT: usize = 256;

/// Reads of TLS handshakes in one turn of a worker. Each may cost a signature, about 50 us to 1 ms, so
/// that a crowd of new connections would keep the messages of the others waiting.
const TLS_HANDSHAKE_READS_PER_TURN: u32 = 32;

/// The budget of a worker's turn for TLS handshakes. Those that it defers come first in the next
/// turn.
#[derive(Debug, Default)]
pub(crate) struct TlsHandshakes {
    left: u32,
    has_deferred: bool,
}

impl TlsHandshakes {
    /// A turn begins. New handshakes have to wait behind the deferred ones.
    pub(crate) const fn begin_turn(&mut self) {
        self.left = if self.has_deferred { 0 } else { TLS_HANDSHAKE_READS_PER_TURN };
    }

    /// The connections that earlier turns deferred come now.
    pub(crate) fn begin_deferred(&mut self) {
        if std::mem::take(&mut self.has_deferred) {
            self.left += TLS_HANDSHAKE_READS_PER_TURN;
        }
    }

    /// Whether one more read is in the budget.
    pub(crate) const fn admit(&mut self) -> bool {
        let is_admitted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.has_deferred |= !is_admitted;
        is_admitted
    }
}

/// The worker's next step after a connection's turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Wait for the next edge or deadline.
    Wait,
    /// Give the connection another turn: input may be left.
    Again,
    /// Drop the connection.
    Closed,
}

/// The output that waits for a connection, and the state of its input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Flow {
    pub(crate) queued_bytes: usize,
    /// Reading is paused.
    pub(crate) is_paused: bool,
}

/// Takes a place for a connection whose client's address is known now. Tells the operator what the
/// limits of an address do.
pub(crate) fn take_place(
    places: &mut AddressPlaces,
    slot: u32,
    client: &Address,
    times: (Instant, Tick),
    counters: &Counters,
    throttles: &Throttles,
) -> Result<(), AddressRefused> {
    let (instant, now) = times;
    let result = places.take(slot, client, instant);
    let throttle = match result {
        Ok(true) => return Ok(()),
        Ok(false) => {
            counters.uncounted_ips.add(1);
            &throttles.address_table
        }
        Err(AddressRefused) => &throttles.address_limits,
    };
    if let Some(suppressed) = throttle.admit(now) {
        match result {
            Ok(_) => log::warn!(
                "too many addresses for limited_ips_max: {client} has no limits{suppressed}"
            ),
            Err(AddressRefused) => log::warn!(
                "{client} is answered 429: its address has too many connections or handshakes{suppressed}"
            ),
        }
    }
    result.map(|_| ())
}

impl<'t, H> TurnContext<'t, H> {
    /// Takes a place for this connection: see [`take_place`].
    pub(super) fn take_place(&mut self, client: &Address) -> Result<(), AddressRefused> {
        let times = (self.instant, self.now);
        take_place(self.places, self.id.slot, client, times, self.counters, self.throttles)
    }

    /// The report of a panic in a callback of this turn.
    #[inline]
    pub(super) const fn guard(&self) -> Guard<'t> {
        Guard {
            subject: Subject::Peer(self.id),
            now: self.now,
            counters: self.counters,
            throttle: &self.throttles.panics,
        }
    }

    /// Counts requests of a callback as `events` of the turn, which ends when too many messages wait
    /// for other workers.
    #[cold]
    pub(super) fn charge(&mut self, events: u32) {
        self.events_left = match self.fanout.is_congested() {
            true => 0,
            false => self.events_left.saturating_sub(events),
        };
    }

    /// Counts inflated bytes as events of the turn: a compressed message may be a thousand times
    /// longer than the bytes that were read.
    #[cfg(feature = "deflate")]
    pub(super) fn charge_inflated(&mut self) {
        let bytes = self.workspace.take_inflated_bytes();
        if bytes == 0 {
            return;
        }
        self.counters.inflated_bytes.add(bytes as u64);
        self.events_left = self.events_left.saturating_sub((bytes / INFLATED_PER_EVENT) as u32);
    }

    /// Publishes how the turn has changed the flow of the connection.
    #[inline]
    pub(crate) fn note_flow(&self, before: Flow, after: Flow, outcome: Outcome) {
        // An echo to a peer that reads changes nothing.
        if before != after || after.is_paused {
            self.note_changed_flow(before, after, outcome);
        }
    }

    #[cold]
    fn note_changed_flow(&self, before: Flow, after: Flow, outcome: Outcome) {
        if before.queued_bytes != after.queued_bytes {
            self.peers.set_backlog(self.id, after.queued_bytes);
            let (before, after) = (before.queued_bytes as u64, after.queued_bytes as u64);
            self.counters.backlog_bytes.replace(before, after);
        }
        let is_paused = after.is_paused && outcome != Outcome::Closed;
        if before.is_paused != is_paused {
            self.counters.paused_peers.replace(before.is_paused.into(), is_paused.into());
        }
    }

    /// Adds the turn's counts to the worker's counters.
    #[inline]
    pub(crate) fn count(&self) {
        self.counters.messages_in.add(self.counts.messages_in);
        self.counters.bytes_in.add(self.counts.bytes_in);
        self.counters.messages_out.add(self.counts.messages_out);
        self.counters.bytes_out.add(self.counts.bytes_out);
        if let Some(code) = self.counts.close_sent {
            self.counters.close_codes_sent.count(code);
        }
    }
}

//! Limits for each client address, exact over all workers.
//!
//! A connection takes its place when the address of its client is known, and returns it at its end.
//! No message touches the table.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::connection_info::Address;
use crate::forwarding::first_bits;

/// Parts of the table with a lock each, so that workers seldom wait for each other.
const SHARDS: usize = 16;

/// The shortest time between two searches of a full shard for entries that are no longer needed, so
/// that a flood of addresses does not cause one for each connection.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// The connections and handshakes of each address, for all workers of a server.
#[derive(Debug)]
pub struct AddressTable {
    connections_max: Option<u32>,
    /// The time in which an address regains one handshake, and the number that it has at first.
    handshakes: Option<(Duration, u32)>,
    ipv6_prefix_bits: u32,
    shard_entries_max: usize,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<IpAddr, Usage>,
    swept: Option<Instant>,
}

#[derive(Debug, Default)]
struct Usage {
    connections: u32,
    /// When the address will have regained all of its handshakes.
    regained: Option<Instant>,
}

impl Usage {
    fn is_needed(&self, now: Instant) -> bool {
        self.connections > 0 || self.regained.is_some_and(|regained| regained > now)
    }
}

/// The answer to a connection of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Admission {
    /// It is counted.
    Counted,
    /// The table is full: it is admitted, and not counted.
    Uncounted,
    /// The address has too many connections, or had too many handshakes in the last second.
    Refused,
}

impl AddressTable {
    /// The table of a server. `None` if its settings have no limit for an address.
    #[must_use]
    pub fn new(config: &Config) -> Option<Arc<Self>> {
        if config.connections_per_ip_max.is_none() && config.handshakes_per_ip_rate.is_none() {
            return None;
        }
        let rate = config.handshakes_per_ip_rate;
        Some(Arc::new(Self {
            connections_max: config.connections_per_ip_max,
            handshakes: rate.map(|rate| (Duration::from_secs(1) / rate, rate)),
            ipv6_prefix_bits: config.ipv6_prefix_bits.into(),
            shard_entries_max: config.limited_ips_max.div_ceil(SHARDS),
            hasher: RandomState::new(),
            shards: Default::default(),
        }))
    }

    /// The address that the limits apply to.
    fn key(&self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => v4,
            v6 @ IpAddr::V6(_) => first_bits(v6, self.ipv6_prefix_bits),
        }
    }

    /// Ignores poisoning: no code that holds the lock panics between two changes.
    fn shard(&self, key: IpAddr) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, key: IpAddr, now: Instant) -> Admission {
        let shard = &mut *self.shard(key);
        if shard.entries.len() >= self.shard_entries_max && !shard.entries.contains_key(&key) {
            shard.sweep(now);
            if shard.entries.len() >= self.shard_entries_max {
                return Admission::Uncounted;
            }
        }
        let usage = shard.entries.entry(key).or_default();
        if self.connections_max.is_some_and(|max| usage.connections >= max) {
            return Admission::Refused;
        }
        if let Some((interval, burst)) = self.handshakes {
            let regained = usage.regained.map_or(now, |regained| regained.max(now)) + interval;
            if regained > now + interval * burst {
                return Admission::Refused;
            }
            usage.regained = Some(regained);
        }
        usage.connections += 1;
        Admission::Counted
    }

    fn release(&self, key: IpAddr, now: Instant) {
        if let Entry::Occupied(mut entry) = self.shard(key).entries.entry(key) {
            debug_assert!(entry.get().connections > 0, "a connection that ends was counted");
            entry.get_mut().connections = entry.get().connections.saturating_sub(1);
            if !entry.get().is_needed(now) {
                entry.remove();
            }
        }
    }
}

impl Shard {
    /// Removes the entries that are no longer needed.
    #[cold]
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_PAUSE) {
            self.swept = Some(now);
            self.entries.retain(|_, usage| usage.is_needed(now));
        }
    }
}

/// The places that the connections of a worker have taken.
#[derive(Debug)]
pub(crate) struct AddressPlaces {
    table: Option<Arc<AddressTable>>,
    /// By slot.
    taken: HashMap<u32, IpAddr>,
}

/// A connection is refused: its address has too many, or begins too many.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct AddressRefused;

impl AddressPlaces {
    pub(crate) fn new(table: Option<Arc<AddressTable>>) -> Self {
        Self { table, taken: HashMap::new() }
    }

    /// Takes a place for the connection in `slot`, whose client is at `client`. A client without an IP
    /// address needs none. Returns whether the limits were applied.
    #[inline]
    pub(crate) fn take(
        &mut self,
        slot: u32,
        client: &Address,
        now: Instant,
    ) -> Result<bool, AddressRefused> {
        match (&self.table, client.as_tcp()) {
            (Some(table), Some(client)) => {
                let key = table.key(client.ip());
                match table.admit(key, now) {
                    Admission::Counted => {
                        let before = self.taken.insert(slot, key);
                        debug_assert!(before.is_none(), "a connection takes one place");
                        Ok(true)
                    }
                    Admission::Uncounted => Ok(false),
                    Admission::Refused => Err(AddressRefused),
                }
            }
            _ => Ok(true),
        }
    }

    /// The connection in `slot` has ended.
    #[inline]
    pub(crate) fn release(&mut self, slot: u32, now: Instant) {
        if let Some(table) = &self.table
            && let Some(key) = self.taken.remove(&slot)
        {
            table.release(key, now);
        }
    }
}

impl Drop for AddressPlaces {
    /// A worker that fails loses its connections; the places are free for the other workers.
    fn drop(&mut self) {
        let Some(table) = &self.table else { return };
        let now = Instant::now();
        self.taken.drain().for_each(|(_, key)| table.release(key, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Admission::{Counted, Refused, Uncounted};

    fn table(change: impl FnOnce(&mut Config)) -> Arc<AddressTable> {
        let mut config = Config::default();
        change(&mut config);
        AddressTable::new(&config).expect("a limit")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_limited_until_one_ends() {
        let table = table(|config| config.connections_per_ip_max = Some(2));
        let now = Instant::now();
        let admit = |address| table.admit(table.key(ip(address)), now);
        assert_eq!([(); 3].map(|()| admit("192.0.2.1")), [Counted, Counted, Refused]);
        assert_eq!(admit("::ffff:192.0.2.1"), Refused, "the same address in IPv6");
        assert_eq!(admit("192.0.2.2"), Counted);
        table.release(ip("192.0.2.1"), now);
        assert_eq!([(); 2].map(|()| admit("192.0.2.1")), [Counted, Refused]);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        for (bits, same, other) in [
            (64, "2001:db8::2:1", "2001:db8:0:1::1"),
            (128, "2001:db8::1", "2001:db8::2"),
            (48, "2001:db8:0:1::1", "2001:db8:1::1"),
        ] {
            let table = table(|config| {
                config.connections_per_ip_max = Some(1);
                config.ipv6_prefix_bits = bits;
            });
            let now = Instant::now();
            let admit = |address| table.admit(table.key(ip(address)), now);
            assert_eq!(admit("2001:db8::1"), Counted);
            assert_eq!(admit(same), Refused, "/{bits}");
            assert_eq!(admit(other), Counted, "another /{bits}");
        }
    }

    #[test]
    fn handshakes_are_limited_in_each_second() {
        let table = table(|config| config.handshakes_per_ip_rate = Some(4));
        let start = Instant::now();
        let admit = |after_ms| {
            let now = start + Duration::from_millis(after_ms);
            let admission = table.admit(ip("192.0.2.1"), now);
            if admission == Counted {
                table.release(ip("192.0.2.1"), now);
            }
            admission
        };
        assert_eq!([0; 5].map(admit), [Counted, Counted, Counted, Counted, Refused]);
        assert_eq!([249, 250, 251].map(admit), [Refused, Counted, Refused]);
        assert_eq!([1250; 5].map(admit), [Counted, Counted, Counted, Counted, Refused]);
    }

    #[test]
    fn a_full_table_admits_without_counting_and_forgets_addresses_that_have_ended() {
        let table = table(|config| {
            config.connections_per_ip_max = Some(1);
            config.handshakes_per_ip_rate = Some(1);
            config.limited_ips_max = SHARDS;
        });
        let start = Instant::now();
        let keys: Vec<IpAddr> = (0..10_000_u32).map(|n| IpAddr::V4(n.into())).collect();
        let counted = |now| keys.iter().filter(|key| table.admit(**key, now) == Counted).count();
        assert_eq!(counted(start), SHARDS, "an address for each shard");
        let entries =
            || table.shards.iter().map(|s| s.lock().unwrap().entries.len()).sum::<usize>();
        assert_eq!(entries(), SHARDS);
        assert!(keys.iter().any(|key| table.admit(*key, start) == Uncounted));
        for key in &keys {
            table.release(*key, start);
        }
        assert_eq!(entries(), SHARDS, "their handshakes still count");
        assert_eq!(counted(start + Duration::from_millis(999)), 0);
        assert_eq!(counted(start + Duration::from_millis(1100)), SHARDS);
    }

    #[test]
    fn an_address_without_connections_takes_no_memory() {
        let table = table(|config| config.connections_per_ip_max = Some(1));
        let now = Instant::now();
        table.admit(ip("192.0.2.1"), now);
        table.release(ip("192.0.2.1"), now);
        assert!(table.shards.iter().all(|shard| shard.lock().unwrap().entries.is_empty()));
    }

    #[test]
    fn the_places_of_a_worker_that_fails_are_free_again() {
        let table = table(|config| config.connections_per_ip_max = Some(1));
        let now = Instant::now();
        let client = Address::Tcp("192.0.2.1:5000".parse().unwrap());
        let mut places = [(); 2].map(|()| AddressPlaces::new(Some(Arc::clone(&table))));
        assert_eq!(places[0].take(0, &client, now), Ok(true));
        assert_eq!(places[1].take(0, &client, now), Err(AddressRefused), "of all workers");
        let [first, mut second] = places;
        drop(first);
        assert_eq!(second.take(0, &client, now), Ok(true));
        assert_eq!(second.take(1, &Address::UnixUnnamed, now), Ok(true), "it has no IP address");
        second.release(0, now);
        assert_eq!(second.take(2, &client, now), Ok(true));
    }
}

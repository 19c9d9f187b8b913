//! Storage of a worker's connections: a slab, whose tokens do not outlive their connections.

use slab::Slab;

use crate::peer_id::PeerId;

/// Identifies a connection, a listener or the waker, in the eight bytes that epoll returns with an
/// event.
///
/// ```text
///   63         32 31          0
///  | generation  | index       |
/// ```
///
/// Connections have generations from 1 on. Generation 0 marks the listeners and the waker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Token {
    /// The slot of a connection, or the number of a listener.
    pub(crate) index: u32,
    /// Distinguishes a connection from earlier ones in the same slot.
    pub(crate) generation: u32,
}

impl Token {
    /// The token of the waker.
    pub const WAKER: Self = Self { index: u32::MAX, generation: 0 };

    /// The token of listener number `index`.
    #[must_use]
    pub const fn listener(index: u32) -> Self {
        Self { index, generation: 0 }
    }

    /// The id of the connection with this token on worker number `worker` of `server`.
    #[inline]
    pub(super) const fn peer_id(self, server: u32, worker: u32) -> PeerId {
        PeerId { server, worker, slot: self.index, generation: self.generation }
    }

    /// The token of a connection on its own worker.
    pub(crate) const fn of_peer(peer: PeerId) -> Self {
        Self { index: peer.slot, generation: peer.generation }
    }

    /// Whether this is the token of a connection, present or past.
    #[must_use]
    pub const fn is_connection(self) -> bool {
        self.generation != 0
    }
}

const _: () = assert!(usize::BITS == 64, "a token packs two u32 into a usize");

impl From<Token> for mio::Token {
    fn from(token: Token) -> Self {
        Self((token.generation as usize) << 32 | token.index as usize)
    }
}

impl From<mio::Token> for Token {
    fn from(token: mio::Token) -> Self {
        Self { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

/// A slab of `T`. Each value has a token that no earlier value had.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slab: Slab<Slot<T>>,
    /// The generation of the newest token. It wraps after 2^32 - 1 connections, and a token of that
    /// age could name another connection.
    generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: T,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Self { slab: Slab::new(), generation: 0 }
    }

    /// The token that the next [`insert`](Self::insert) returns.
    pub(super) fn next_token(&self) -> Token {
        let generation = self.generation.wrapping_add(1).max(1);
        Token { index: self.slab.vacant_key() as u32, generation }
    }

    pub(super) fn insert(&mut self, value: T) -> Token {
        let token = self.next_token();
        self.generation = token.generation;
        let index = self.slab.insert(Slot { generation: token.generation, value });
        debug_assert_eq!(index, token.index as usize, "the slab uses its vacant key");
        debug_assert!(token.is_connection(), "generation 0 marks listeners and the waker");
        token
    }

    /// The value of `token`; `None` if it was removed, even if its slot has a new value.
    #[inline]
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.slab.get_mut(token.index as usize) {
            Some(slot) if slot.generation == token.generation => Some(&mut slot.value),
            _ => None,
        }
    }

    /// The token of the value in slot number `index`, if the slot is occupied.
    pub(super) fn token_at(&self, index: u32) -> Option<Token> {
        let slot = self.slab.get(index as usize)?;
        Some(Token { index, generation: slot.generation })
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        self.get_mut(token)?;
        Some(self.slab.remove(token.index as usize).value)
    }

    /// The values with the numbers of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slab.iter().map(|(index, slot)| (index as u32, &slot.value))
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        let token = |(index, slot): (usize, &Slot<T>)| Token {
            index: index as u32,
            generation: slot.generation,
        };
        self.slab.iter().map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_token_does_not_name_a_new_value() {
        let mut slots = Slots::new();
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!(first.index, second.index);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut 'b'));
        assert_eq!(slots.token_at(second.index), Some(second));
        assert_eq!(slots.token_at(second.index + 1), None);
    }

    #[test]
    fn the_id_of_a_token_leads_back_to_it() {
        let token = Token { index: 3, generation: 9 };
        let id = token.peer_id(1, 2);
        assert_eq!((id.server, id.worker), (1, 2));
        assert_eq!(Token::of_peer(id), token);
    }

    #[test]
    fn generations_skip_zero_when_they_wrap() {
        let mut slots = Slots::new();
        slots.generation = u32::MAX;
        assert_eq!(slots.insert('a').generation, 1);
    }

    #[test]
    fn a_token_is_unchanged_by_epoll() {
        for token in [
            Token::WAKER,
            Token::listener(7),
            Token { index: 3, generation: 9 },
            Token { index: u32::MAX, generation: u32::MAX },
        ] {
            assert_eq!(Token::from(mio::Token::from(token)), token);
        }
    }
}

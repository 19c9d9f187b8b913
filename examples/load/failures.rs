//! Counts the failed connections by kind, and keeps the first message of each kind.

use std::fmt;

use crate::dial::Address;
use crate::problem::{Kind, Problem};

/// The failures of a run.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    counts: [u32; Kind::ALL.len()],
    first: [Option<String>; Kind::ALL.len()],
}

/// Where a connection failed.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Counted from 1.
    pub(crate) connection: usize,
    pub(crate) address: Address,
    /// The number, counted from 1, of the message that was expected; `None` before the upgrade.
    pub(crate) message: Option<u64>,
}

impl Failures {
    pub(crate) fn add(&mut self, place: Place, problem: &Problem) {
        let kind = problem.kind() as usize;
        self.counts[kind] += 1;
        self.first[kind].get_or_insert_with(|| format!("{place}: {problem}"));
    }

    pub(crate) fn total(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Each kind with its number of connections, which may be 0.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Kind, u32)> {
        Kind::ALL.into_iter().map(|kind| (kind, self.counts[kind as usize]))
    }

    /// One line for each kind that has occurred: its first failure, and how many more.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.counts().filter_map(|(kind, count)| {
            let first = self.first[kind as usize].as_ref()?;
            Some(match count {
                1 => first.clone(),
                _ => format!("{first} (and {} more: {})", count - 1, kind.description()),
            })
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} to {}", self.connection, self.address)?;
        match self.message {
            Some(message) => write!(f, ": message {message}"),
            None => Ok(()),
        }
    }
}

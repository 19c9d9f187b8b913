//! Limits the rate of log lines that a peer can provoke, so that no peer can fill the log.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use super::tick::Tick;

/// The shortest time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// A worker's throttles, one for each kind of line.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    /// A callback of a peer panicked.
    pub(crate) panics: Throttle,
    /// The callback of a tick panicked.
    pub(crate) tick_panics: Throttle,
    /// The handler chose a subprotocol that the client did not offer.
    pub(crate) protocols: Throttle,
    /// A connection was dropped because too many bytes from the program were queued for it.
    pub(crate) overflows: Throttle,
    /// A connection did not begin with a valid PROXY header.
    pub(crate) prefaces: Throttle,
    /// An address has too many connections or handshakes.
    pub(crate) address_limits: Throttle,
    /// The table of addresses is full.
    pub(crate) address_table: Throttle,
    /// `accept` failed because file descriptors or memory ran out.
    pub(crate) accept_errors: Throttle,
    /// `connections_max` is reached.
    pub(crate) full: Throttle,
    /// An accepted socket could not be registered.
    pub(crate) unwatched: Throttle,
}

/// Limits one kind of line to one in ten seconds, and counts the suppressed ones.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// When the next line is allowed. A cell, because a panic is reported while the turn is
    /// borrowed.
    resumes: Cell<Tick>,
    suppressed: Cell<u64>,
}

impl Throttle {
    /// `None` if the line must be suppressed. Otherwise the end of the line, which tells how many
    /// lines were suppressed since the last one.
    pub(crate) fn admit(&self, now: Tick) -> Option<Suppressed> {
        if now < self.resumes.get() {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.resumes.set(now.after(PAUSE));
        Some(Suppressed(self.suppressed.take()))
    }
}

/// The end of a log line: nothing, or how many lines like it were suppressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more like this since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_in_ten_seconds_and_counts_the_others() {
        let throttle = Throttle::default();
        let at = |seconds| Tick::at(Duration::from_secs(seconds));
        assert_eq!(throttle.admit(at(0)), Some(Suppressed(0)));
        for second in 0..10 {
            assert_eq!(throttle.admit(at(second)), None);
        }
        assert_eq!(throttle.admit(at(11)), Some(Suppressed(10)));
        assert_eq!(throttle.admit(at(12)), None);
        assert_eq!(throttle.admit(at(60)), Some(Suppressed(1)));
        assert_eq!(throttle.admit(at(600)), Some(Suppressed(0)));
    }

    #[test]
    fn a_line_says_how_many_were_suppressed_if_any_were() {
        assert_eq!(format!("lost{}", Suppressed(0)), "lost");
        let line = "lost (7 more like this since the last such line)";
        assert_eq!(format!("lost{}", Suppressed(7)), line);
    }
}

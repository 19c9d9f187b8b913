//! The deadlines of a connection.
//!
//! | stage | deadline | then |
//! |---|---|---|
//! | handshake | `handshake_timeout` after accept | 408, lingering |
//! | open | `ping_interval` after the last byte received | a ping |
//! | open, ping not acknowledged by TCP | `idle_timeout - ping_interval` after the ping, or after the last acknowledged progress | dropped |
//! | open, ping acknowledged | `idle_timeout - ping_interval` after the acknowledgement | close 1001, lingering |
//! | open, ping acknowledged, bytes unread since reading is paused | `idle_timeout - ping_interval` after the last acknowledged progress | dropped |
//! | open, ping acknowledged, bytes unread since the handler has paused reading | `ping_interval` after the ping | another ping |
//! | open, no pings | `idle_timeout` after the last byte received, or after the last progress while bytes are unacknowledged | close 1001 if all is acknowledged, otherwise dropped |
//! | close frame deferred to the end of a streamed frame | `close_timeout` after it was asked for, or after the last acknowledged progress; at the latest `idle_timeout` after it was asked for | dropped |
//! | close frame sent, or lingering; bytes unacknowledged | `idle_timeout` after it began, or after the last acknowledged progress | dropped |
//! | close frame sent, or lingering; all acknowledged | `close_timeout` after the acknowledgement | dropped |
//!
//! No event announces an acknowledgement, so some deadlines only look for it: see [`AckWatch`].

use super::liveness::{AckWatch, Progress};
use super::tick::Tick;
use crate::config::Config;

/// The stage of a connection, which decides its deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    Handshake,
    Open,
    /// Our close frame waits for the end of a streamed frame.
    CloseDeferred,
    /// Our close frame was written or queued; the peer's has not arrived.
    CloseSent,
    Lingering,
}

impl Stage {
    /// Whether the bytes up to our close frame are watched from the stage's first turn on.
    pub(super) const fn awaits_close(self) -> bool {
        matches!(self, Self::CloseDeferred | Self::CloseSent)
    }

    /// When to check the connection, unless the stage changes or a byte is received before.
    /// `since` is the last byte received, and in the other stages than `Open` their beginning.
    pub(super) fn deadline(self, since: Tick, watch: Option<&AckWatch>, config: &Config) -> Tick {
        match (self, watch) {
            (Self::Handshake, _) => since.after(config.handshake_timeout),
            (Self::Open, None) => since.after(config.silence_before_look()),
            (Self::Open, Some(watch)) => {
                let timeout = config.unanswered_timeout();
                // At most `silence_before_look` after the last look: otherwise a received byte could
                // move the deadline nearer, which would cost another entry in the timing wheel.
                let look = watch.next_look(timeout, config.silence_before_look());
                watch.expiry(timeout).min(look)
            }
            (_, None) => since.plus(1),
            (_, Some(watch)) => {
                let expiry = self.close_expiry(since, watch, config);
                if watch.is_complete() {
                    return expiry;
                }
                expiry.min(watch.next_look(config.idle_timeout, config.idle_timeout))
            }
        }
    }

    /// When a closing or lingering connection is dropped, by the last look at acknowledgements.
    pub(super) fn close_expiry(self, since: Tick, watch: &AckWatch, config: &Config) -> Tick {
        if self == Self::CloseDeferred {
            // The peer has to send the rest of the frame first. A peer that continues has
            // `idle_timeout` for that in all, so that occasional bytes do not keep the connection.
            let latest = since.after(config.idle_timeout.max(config.close_timeout));
            return watch.expiry(config.close_timeout).min(latest);
        }
        watch.expiry(match watch.is_complete() {
            true => config.close_timeout,
            false => config.idle_timeout,
        })
    }

    /// The watch of a closing or lingering connection. Later bytes than those so far, such as
    /// pongs, do not extend its time.
    pub(super) const fn watch(self, progress: Progress, since: Tick) -> AckWatch {
        // Behind a streamed frame more bytes will go out before the close frame.
        let end = match self {
            Self::CloseDeferred => None,
            _ => Some(progress.end),
        };
        AckWatch::new(end, since)
    }
}

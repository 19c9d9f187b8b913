//! The choice of a subscriber that does not read.

/// What happens to messages for a subscriber that does not read: when more than
/// [`backlog_bytes_high`](crate::Config::backlog_bytes_high) is queued for it, until less than
/// [`backlog_bytes_low`](crate::Config::backlog_bytes_low) is.
///
/// Messages that are sent to the peer directly always follow `Close`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum SlowConsumer {
    /// They are queued. Above [`backlog_bytes_max`](crate::Config::backlog_bytes_max) the connection
    /// is dropped. The default: for a chat, in which no message may be missing.
    #[default]
    Close,
    /// New messages are dropped, and counted in [`Stats::skipped`](crate::Stats::skipped).
    Skip,
    /// A new message replaces the unsent one of its topic, which is counted in
    /// [`Stats::skipped`](crate::Stats::skipped). For states, such as positions or prices.
    Latest,
}

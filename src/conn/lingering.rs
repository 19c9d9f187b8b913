//! The end of a connection: the last bytes are sent, then each direction ends.

use super::transport::Transport;
use super::wire::Wire;
use crate::handler::CloseCause;

/// A connection that sends its last bytes and then ends its own direction. It discards input until
/// the peer ends the other one, because closing with unread input would reset the connection and
/// could destroy the last bytes in flight (RFC 6455 7.1.1).
#[derive(Debug, Default)]
pub(super) struct Lingering {
    /// The end of the peer's stream has been read.
    end_of_stream: bool,
    /// The end of our direction has been sent.
    write_closed: bool,
}

impl Lingering {
    /// The peer has ended its direction.
    pub(super) const fn on_end_of_stream(&mut self) {
        self.end_of_stream = true;
    }

    /// Once all bytes are sent, ends our direction; with both ended, the connection.
    pub(super) fn finish_if_flushed(
        &mut self,
        wire: &mut Wire<impl Transport>,
    ) -> Result<(), CloseCause> {
        debug_assert!(
            !wire.is_paused(),
            "a paused connection is not read, so its session does not end"
        );
        if wire.has_backlog() {
            return Ok(());
        }
        if self.end_of_stream {
            return Err(CloseCause::EndOfStream);
        }
        if !self.write_closed {
            self.write_closed = wire.shutdown_write()?;
        }
        Ok(())
    }
}

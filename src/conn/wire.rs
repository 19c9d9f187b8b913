//! The transport of a connection, with the bytes that wait in either direction.

use std::io::{self, IoSlice};

use super::backlog::Backlog;
use super::liveness::{AckWatch, Progress, SentPing};
use super::tls::{Tls, TlsFailure};
use super::transport::{self, ReadResult, Readiness, Transport};
use super::turn::TurnContext;
use crate::config::Config;
use crate::connection_info::{Address, Credentials, Endpoint};
use crate::fanout::deliveries::Source;
use crate::fanout::log::SharedFrames;
use crate::handler::CloseCause;
use crate::peer::{BacklogBytes, ReadPauses};
use crate::protocol::{HEADROOM_BYTES, Workspace};
use crate::stats::Counters;
use crate::tls::TlsConfig;
#[cfg(feature = "tls")]
use crate::tls::TlsInfo;

/// The shortest buffer for a read, however close the backlog is to its high mark: smaller reads
/// cost more calls than they save memory.
const READ_BYTES_MIN: usize = 16 * 1024;

/// The same with TLS, where ciphertext and plaintext share the buffer.
const ENCRYPTED_BYTES_MIN: usize = 4 * READ_BYTES_MIN;

/// Unsent bytes in the kernel for a subscriber that may skip messages: enough for the link of a
/// fast peer to stay busy until the next turn, and few enough that a slow one gets recent messages.
const UNSENT_BYTES_MAX: u32 = 16 * 1024;

/// A transport, its readiness, and the bytes that wait.
#[derive(Debug)]
pub(super) struct Wire<T> {
    transport: T,
    pending: Option<Box<Pending>>,
    /// An edge announced input, and no read has found its end since.
    readable: bool,
    /// A short read does not mean that the socket is empty: see [`Readiness::reads_to_end`].
    reads_to_end: bool,
    pauses: ReadPauses,
    /// The kernel holds few unsent bytes: see [`limit_unsent`](Self::limit_unsent).
    limits_unsent: bool,
}

/// The parts of a wire that are empty while it is idle and without TLS. They share one box, so that an
/// idle connection has one pointer for all of them.
#[derive(Debug, Default)]
struct Pending {
    /// Bytes that the kernel has refused so far.
    backlog: Backlog,
    /// The rest of a read that the connection did not process, because the peer does not take the
    /// replies or the turn was over. At most one read.
    unread: Vec<u8>,
    /// Acknowledgements that a deadline depends on.
    watch: Option<AckWatch>,
    /// The last keepalive ping, while its pong may arrive.
    ping: Option<SentPing>,
    /// From the first byte to the end of the connection.
    tls: Option<Box<Tls>>,
}

/// The result of [`Wire::receive`].
pub(super) enum Input {
    /// The first `len` bytes of the direct buffer were read.
    Direct {
        len: usize,
    },
    /// `len` bytes lie in the scratch, behind the headroom. If `is_new`, they were read just now.
    Scratch {
        len: usize,
        is_new: bool,
    },
    EndOfStream,
    /// There is nothing to process now.
    WouldBlock,
    /// TLS has ended with an error.
    TlsFailed(TlsFailure),
}

/// The properties of a connection that its wire knows.
pub(super) struct WireEndpoint<'w, T> {
    transport: &'w T,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "the feature reads it"))]
    tls: Option<&'w Tls>,
}

impl<T: Transport> Wire<T> {
    pub(super) fn new(transport: T) -> Self {
        Self {
            transport,
            pending: None,
            readable: false,
            reads_to_end: false,
            pauses: ReadPauses::default(),
            limits_unsent: false,
        }
    }

    /// Begins TLS, with the next byte in either direction. `read` are bytes of it that have been read
    /// already.
    #[cold]
    pub(super) fn start_tls(&mut self, config: &TlsConfig, read: &[u8]) {
        self.pending.get_or_insert_default().tls = Some(Tls::new(config, read));
        self.readable |= !read.is_empty();
    }

    /// Continues without TLS: the peer speaks none.
    #[cold]
    pub(super) fn end_tls(&mut self) {
        self.pending.get_or_insert_default().tls = None;
        self.release_if_idle();
    }

    fn tls(&self) -> Option<&Tls> {
        self.pending.as_ref()?.tls.as_deref()
    }

    /// Whether a layer between the transport and the frames changes the bytes.
    #[inline]
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls().is_some()
    }

    /// Whether the next bytes of the peer belong to the handshake of TLS.
    #[inline]
    pub(super) fn is_in_tls_handshake(&self) -> bool {
        self.tls().is_some_and(Tls::is_handshaking)
    }

    /// The properties of the connection.
    pub(super) fn endpoint(&self) -> WireEndpoint<'_, T> {
        WireEndpoint { transport: &self.transport, tls: self.tls() }
    }

    /// An edge arrived.
    pub(super) const fn on_edge(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable || readiness.reads_to_end;
        self.reads_to_end |= readiness.reads_to_end;
    }

    /// Whether there may be input, and reading is not paused.
    #[inline]
    pub(super) fn wants_read(&self) -> bool {
        (self.readable || self.has_unread()) && !self.pauses.any()
    }

    /// Whether the kernel may hold input that a pause keeps there.
    pub(super) const fn holds_back_input(&self) -> bool {
        self.pauses.any() && self.readable
    }

    /// Whether input may wait because the handler has paused reading.
    pub(super) fn handler_holds_back_input(&self) -> bool {
        self.pauses.has(ReadPauses::HANDLER) && (self.readable || self.has_unread())
    }

    fn has_unread(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| !pending.unread.is_empty())
    }

    /// Returns the bytes of [`unread`](Self::unread), or reads once: into `direct` if the session
    /// has a direct buffer, otherwise into the scratch.
    #[inline(always)]
    pub(super) fn receive(
        &mut self,
        direct: Option<&mut [u8]>,
        scratch: &mut [u8],
        config: &Config,
    ) -> Result<Input, CloseCause> {
        let space = &mut scratch[HEADROOM_BYTES..];
        if self.has_unread() {
            let len = self.take_unread(space);
            debug_assert!(direct.is_none(), "an incomplete frame leaves nothing unread");
            return Ok(Input::Scratch { len, is_new: false });
        }
        if self.is_encrypted() {
            debug_assert!(direct.is_none(), "decryption needs more space than the plaintext");
            return self.receive_encrypted(space, config);
        }
        let is_direct = direct.is_some();
        let buf = match direct {
            Some(buf) => buf,
            None if !self.has_backlog() => space,
            // The replies to this read will be queued.
            None => {
                let left = config.backlog_bytes_high.saturating_sub(self.backlog_bytes().total);
                let len = left.max(READ_BYTES_MIN).min(space.len());
                &mut space[..len]
            }
        };
        match transport::read(&mut self.transport, buf).map_err(CloseCause::transport)? {
            ReadResult::Bytes { len, is_drained } => {
                self.readable = !is_drained || self.reads_to_end;
                Ok(if is_direct {
                    Input::Direct { len }
                } else {
                    Input::Scratch { len, is_new: true }
                })
            }
            ReadResult::EndOfStream => {
                self.readable = false;
                Ok(Input::EndOfStream)
            }
            ReadResult::WouldBlock => {
                self.readable = false;
                Ok(Input::WouldBlock)
            }
        }
    }

    /// [`receive`](Self::receive) with TLS, into the scratch.
    #[cold]
    #[inline(never)]
    fn receive_encrypted(
        &mut self,
        space: &mut [u8],
        config: &Config,
    ) -> Result<Input, CloseCause> {
        let left = config.backlog_bytes_high.saturating_sub(self.backlog_bytes().total);
        let len = match self.has_backlog() {
            true => left.max(ENCRYPTED_BYTES_MIN).min(space.len()),
            false => space.len(),
        };
        let Some(tls) = self.pending.as_mut().and_then(|pending| pending.tls.as_mut()) else {
            return Ok(Input::WouldBlock);
        };
        let read = tls.read(&mut self.transport, &mut space[..len]);
        Ok(match read.map_err(CloseCause::transport)? {
            Ok(ReadResult::Bytes { len, is_drained }) => {
                self.readable = !is_drained || self.reads_to_end;
                match len {
                    0 => Input::WouldBlock,
                    _ => Input::Scratch { len, is_new: true },
                }
            }
            Ok(ReadResult::EndOfStream) => {
                self.readable = false;
                Input::EndOfStream
            }
            Ok(ReadResult::WouldBlock) => {
                self.readable = false;
                Input::WouldBlock
            }
            Err(failure) => Input::TlsFailed(failure),
        })
    }

    /// Keeps the unprocessed end of a read for the next [`receive`](Self::receive).
    #[cold]
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        let pending = self.pending.get_or_insert_default();
        debug_assert!(pending.unread.is_empty(), "unread bytes are received before others");
        pending.unread = bytes.into();
    }

    #[cold]
    fn take_unread(&mut self, space: &mut [u8]) -> usize {
        let bytes = std::mem::take(&mut self.pending.get_or_insert_default().unread);
        self.release_if_idle();
        space[..bytes.len()].copy_from_slice(&bytes);
        bytes.len()
    }

    #[inline]
    pub(super) fn has_backlog(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.has_backlog())
    }

    #[inline]
    pub(super) fn backlog_bytes(&self) -> BacklogBytes {
        self.pending.as_ref().map_or_else(BacklogBytes::default, |pending| pending.backlog_bytes())
    }

    /// Sends the bytes that the turn has laid out: the workspace's `out`, then `run`. Queues the
    /// bytes that the kernel refuses.
    #[inline]
    pub(super) fn flush<H>(
        &mut self,
        run: &[u8],
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        let result = self.write_or_queue(run, turn);
        turn.workspace.clear();
        turn.sends.bytes = 0;
        result
    }

    #[inline]
    fn write_or_queue<H>(
        &mut self,
        run: &[u8],
        turn: &mut TurnContext<'_, H>,
    ) -> Result<(), CloseCause> {
        let mut sent = 0;
        // With a backlog the kernel has refused bytes, and would again until a writable edge.
        if !self.has_backlog() {
            sent = self.write(&turn.workspace.out, run)?;
            if sent == turn.workspace.out.len() + run.len() {
                return Ok(());
            }
        }
        self.queue(run, sent, turn.workspace, turn.sends.bytes);
        self.check_program_bytes(turn.config)
    }

    /// Writes two buffers, one behind the other. Returns how many bytes of them were taken.
    #[inline]
    fn write(&mut self, first: &[u8], second: &[u8]) -> Result<usize, CloseCause> {
        if self.is_encrypted() {
            return self.write_encrypted(first, second);
        }
        transport::write(&mut self.transport, first, second).map_err(CloseCause::transport)
    }

    #[cold]
    #[inline(never)]
    fn write_encrypted(&mut self, first: &[u8], second: &[u8]) -> Result<usize, CloseCause> {
        let Some(tls) = self.pending.as_mut().and_then(|pending| pending.tls.as_mut()) else {
            return Ok(0);
        };
        let buffers = [IoSlice::new(first), IoSlice::new(second)];
        tls.write(&mut self.transport, &buffers).map_err(CloseCause::transport)
    }

    /// Queues `out`, of which `program_bytes` came from the program, and `run`, without the first
    /// `sent` bytes.
    #[cold]
    fn queue(&mut self, run: &[u8], sent: usize, workspace: &mut Workspace, program_bytes: usize) {
        let backlog = self.backlog_mut();
        let run_sent = sent.checked_sub(workspace.out.len());
        if run_sent.is_none() && backlog.is_empty() {
            backlog.push_rest(workspace, sent);
            backlog.count_for_program(program_bytes.saturating_sub(sent));
        } else if run_sent.is_none() {
            backlog.push(&workspace.out);
            backlog.count_for_program(program_bytes);
        }
        backlog.push(&run[run_sent.unwrap_or(0)..]);
    }

    /// Sends frames of the program, or queues their unsent rest. The memory stays shared.
    pub(super) fn send_shared(
        &mut self,
        frames: SharedFrames,
        source: Source,
        counters: &Counters,
    ) -> Result<(), CloseCause> {
        let mut sent = 0;
        if !self.has_backlog() {
            sent = self.write(&frames.bytes(), &[])?;
            if sent == frames.len() {
                return Ok(());
            }
        }
        self.queue_shared(frames, source, sent, counters);
        Ok(())
    }

    /// Queues frames of the program without their first `sent` bytes. An older unsent message that
    /// they replace is removed.
    #[cold]
    pub(super) fn queue_shared(
        &mut self,
        frames: SharedFrames,
        source: Source,
        sent: usize,
        counters: &Counters,
    ) {
        let is_slow = self.is_slow();
        let backlog = self.backlog_mut();
        let len = frames.len() - sent;
        let topic = source.replaces();
        if let Some(topic) = topic
            && is_slow
        {
            counters.skipped.add(backlog.remove_unsent(topic).into());
        }
        backlog.push_shared(frames, sent, topic);
        backlog.count_for_program(len);
    }

    /// Lets the kernel hold few unsent bytes, so that old messages wait here, where newer ones can
    /// replace them.
    pub(super) fn limit_unsent(&mut self) -> Result<(), CloseCause> {
        if std::mem::replace(&mut self.limits_unsent, true) {
            return Ok(());
        }
        self.transport.limit_unsent(UNSENT_BYTES_MAX).map_err(CloseCause::transport)
    }

    pub(super) fn check_program_bytes(&self, config: &Config) -> Result<(), CloseCause> {
        if self.backlog_bytes().program > config.program_bytes_max() {
            return Err(CloseCause::BacklogOverflow);
        }
        Ok(())
    }

    /// A writable edge: sends the backlog. Below the low mark reading resumes. Returns whether that
    /// happened now.
    pub(super) fn write_backlog<H>(
        &mut self,
        turn: &mut TurnContext<'_, H>,
    ) -> Result<bool, CloseCause> {
        let was_slow = self.is_slow();
        if let Some(pending) = &mut self.pending {
            pending
                .write_backlog(&mut self.transport, turn.workspace)
                .map_err(CloseCause::transport)?;
            if pending.backlog_bytes().total < turn.config.backlog_bytes_low.max(1) {
                self.pauses.clear(ReadPauses::BACKLOG);
            }
            self.release_if_idle();
        }
        Ok(was_slow && !self.is_slow())
    }

    /// Pauses reading if the backlog, together with the `arrived` bytes of an incomplete message
    /// (whose echo will be queued), is above the high mark.
    pub(super) fn pause_if_above_high_mark(&mut self, arrived: usize, config: &Config) {
        debug_assert!(self.has_backlog(), "a writable edge ends the pause");
        if self.backlog_bytes().total + arrived > config.backlog_bytes_high {
            self.pauses.set(ReadPauses::BACKLOG);
        }
    }

    #[inline]
    pub(super) const fn is_paused(&self) -> bool {
        self.pauses.any()
    }

    /// Whether the backlog has exceeded its high mark, and is not below the low mark yet.
    pub(super) const fn is_slow(&self) -> bool {
        self.pauses.has(ReadPauses::BACKLOG)
    }

    /// The properties of the connection, and the pauses, which a callback may change.
    #[inline]
    pub(super) fn split(&mut self) -> (WireEndpoint<'_, T>, &mut ReadPauses) {
        let tls = self.pending.as_ref().and_then(|pending| pending.tls.as_deref());
        (WireEndpoint { transport: &self.transport, tls }, &mut self.pauses)
    }

    /// The state of the flow to and from the peer, for a callback.
    #[inline]
    pub(super) fn flow(&mut self) -> (BacklogBytes, &mut ReadPauses) {
        (self.backlog_bytes(), &mut self.pauses)
    }

    /// Ends a pause of the handler.
    pub(super) const fn resume_for_handler(&mut self) {
        self.pauses.clear(ReadPauses::HANDLER);
    }

    /// Ends our direction. Returns `false` if the kernel refuses the end of TLS before it; then the
    /// next writable edge must call this again.
    pub(super) fn shutdown_write(&mut self) -> Result<bool, CloseCause> {
        debug_assert!(!self.has_backlog(), "all bytes precede the end of the stream");
        let tls = self.pending.as_mut().and_then(|pending| pending.tls.as_mut());
        if let Some(tls) = tls
            && !tls.close(&mut self.transport).map_err(CloseCause::transport)?
        {
            return Ok(false);
        }
        self.transport.shutdown_write().map_err(CloseCause::transport)?;
        Ok(true)
    }

    /// Discards the bytes that wait: the peer gets nothing more.
    #[cold]
    pub(super) fn discard_backlog(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.backlog = Backlog::default();
            self.pauses.clear(ReadPauses::BACKLOG);
        }
    }

    /// The progress of all bytes so far, including those of the backlog and `deferred_bytes` that
    /// wait in the session.
    pub(super) fn progress(&self, deferred_bytes: usize) -> Result<Progress, CloseCause> {
        let sent = self.transport.send_progress().map_err(CloseCause::transport)?;
        let unsent = self.backlog_bytes().total + deferred_bytes;
        Ok(Progress { end: sent.written + unsent as u64, acknowledged: sent.acknowledged })
    }

    pub(super) fn watch(&self) -> Option<&AckWatch> {
        self.pending.as_ref()?.watch.as_ref()
    }

    /// The watch of acknowledgements; `start` makes it if it does not exist.
    pub(super) fn watch_mut(&mut self, start: impl FnOnce() -> AckWatch) -> &mut AckWatch {
        self.pending.get_or_insert_default().watch.get_or_insert_with(start)
    }

    /// Ends the watch of acknowledgements.
    #[inline]
    pub(super) fn unwatch(&mut self) {
        if self.watch().is_some() {
            self.pending.get_or_insert_default().watch = None;
            self.release_if_idle();
        }
    }

    /// Expects the pong to this ping, and to no earlier one.
    pub(super) fn expect_pong(&mut self, ping: SentPing) {
        self.pending.get_or_insert_default().ping = Some(ping);
    }

    /// Takes the ping that a pong with this payload answers. A pong without a ping or with another
    /// payload is unsolicited, and ignored (RFC 6455 5.5.3).
    #[cold]
    pub(super) fn take_ping(&mut self, payload: &[u8]) -> Option<SentPing> {
        let ping = self.pending.as_mut()?.ping.take_if(|ping| ping.payload == payload);
        self.release_if_idle();
        ping
    }

    fn backlog_mut(&mut self) -> &mut Backlog {
        &mut self.pending.get_or_insert_default().backlog
    }

    #[cold]
    fn release_if_idle(&mut self) {
        if self.pending.as_ref().is_some_and(|pending| {
            pending.backlog.is_empty()
                && pending.unread.is_empty()
                && pending.watch.is_none()
                && pending.ping.is_none()
                && pending.tls.is_none()
        }) {
            self.pending = None;
        }
    }
}

impl Pending {
    #[inline]
    fn has_backlog(&self) -> bool {
        !self.backlog.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.unsent_bytes() > 0)
    }

    #[inline]
    fn backlog_bytes(&self) -> BacklogBytes {
        let mut bytes = self.backlog.bytes();
        bytes.total += self.tls.as_ref().map_or(0, |tls| tls.unsent_bytes());
        bytes
    }

    fn write_backlog(
        &mut self,
        transport: &mut impl Transport,
        workspace: &mut Workspace,
    ) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self
                .backlog
                .write_to(workspace, |slices| transport::write_slices(transport, slices));
        };
        if !tls.send_unsent(transport)? {
            return Ok(());
        }
        self.backlog.write_to(workspace, |slices| tls.write(transport, slices))
    }
}

impl<T: Transport> Endpoint for WireEndpoint<'_, T> {
    fn local_address(&self) -> io::Result<Address> {
        self.transport.local_address()
    }

    fn credentials(&self) -> Option<Credentials> {
        self.transport.credentials()
    }

    #[cfg(feature = "tls")]
    fn tls(&self) -> Option<TlsInfo<'_>> {
        self.tls.map(Tls::info)
    }
}

//! The byte stream under a connection, and the meaning of its readiness.

use std::io::{self, IoSlice, Read, Write};

use crate::connection_info::Endpoint;

/// The progress of an outgoing stream: two offsets from its start, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SendProgress {
    /// Bytes that the kernel has accepted from this process. Exact once all are acknowledged; before,
    /// it may be too high.
    pub written: u64,
    /// Bytes that the peer's TCP has acknowledged. For a Unix socket, `written` without those that the
    /// peer has not read: later bytes lower it, and only the peer raises it.
    pub acknowledged: u64,
}

/// A nonblocking byte stream with two directions that end separately.
///
/// Like a socket it reads and writes as much as it can in one call, with `write_vectored` too. A
/// shorter result means that nothing more is possible until the next edge.
pub trait Transport: Read + Write + Endpoint {
    /// Ends the direction to the peer, once everything written is sent.
    ///
    /// # Errors
    ///
    /// If the connection has failed already.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// How many bytes were written and acknowledged. A transport without acknowledgements reports
    /// the bytes that the kernel accepted for both.
    ///
    /// # Errors
    ///
    /// If the connection has failed already.
    fn send_progress(&self) -> io::Result<SendProgress>;

    /// Makes the kernel refuse further bytes while it holds more than `bytes` that it has not sent.
    /// A transport without this option does nothing.
    ///
    /// # Errors
    ///
    /// If the connection has failed already.
    fn limit_unsent(&mut self, bytes: u32) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// Writes several buffers with one call.
    ///
    /// # Errors
    ///
    /// As [`Write::write`].
    fn send_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored(buffers)
    }
}

/// The report of an edge: a change since the last edge. It may announce more than has happened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Readiness {
    /// There may be bytes, an end of the stream or an error to read.
    pub readable: bool,
    /// The kernel may take bytes again.
    pub writable: bool,
    /// A short read does not mean that the socket is empty: the peer has ended its direction, or the
    /// connection has failed, and no further edge will come; or there is urgent data, at which a
    /// read stops (tcp(7)).
    pub reads_to_end: bool,
}

/// The result of a read.
pub(super) enum ReadResult {
    Bytes {
        len: usize,
        /// The socket is empty: on Linux a short read of a stream means that (epoll(7), question 9),
        /// which saves the read that would return WouldBlock.
        is_drained: bool,
    },
    EndOfStream,
    WouldBlock,
}

/// Reads once. A read that a signal interrupts is repeated.
pub(super) fn read(transport: &mut impl Transport, buf: &mut [u8]) -> io::Result<ReadResult> {
    loop {
        return match transport.read(buf) {
            Ok(0) => Ok(ReadResult::EndOfStream),
            Ok(len) => Ok(ReadResult::Bytes { len, is_drained: len < buf.len() }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(ReadResult::WouldBlock),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

/// Writes two buffers, one behind the other, with one call; see [`write_slices`].
#[inline]
pub(super) fn write(
    transport: &mut impl Transport,
    first: &[u8],
    second: &[u8],
) -> io::Result<usize> {
    match (first, second) {
        ([], []) => Ok(0),
        ([], bytes) | (bytes, []) => retry(|| transport.write(bytes)),
        _ => write_slices(transport, &[IoSlice::new(first), IoSlice::new(second)]),
    }
}

/// Writes buffers, one behind the other, with one call; returns how many bytes the kernel took.
///
/// Less than all of them means that its buffer is full: a writable edge will come.
pub(super) fn write_slices(
    transport: &mut impl Transport,
    buffers: &[IoSlice<'_>],
) -> io::Result<usize> {
    match buffers {
        [bytes] => retry(|| transport.write(bytes)),
        _ => retry(|| transport.send_vectored(buffers)),
    }
}

/// Repeats a write that a signal interrupted. A write that would block has written nothing.
#[inline]
fn retry(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        return match write() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            written => written,
        };
    }
}

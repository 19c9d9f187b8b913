//! The byte stream under a connection, and what the readiness of one means.

use std::io::{self, IoSlice, Read, Write};

/// The progress of an outgoing stream: two offsets from its start, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SendProgress {
    /// Bytes that the kernel has accepted from this process. Exact once all are acknowledged; before,
    /// it may be too high.
    pub written: u64,
    /// Bytes that the peer's TCP has acknowledged.
    pub acknowledged: u64,
}

/// A nonblocking byte stream with two directions that end separately.
///
/// Like a socket it reads and writes all that it can at once, with `write_vectored` too: less than
/// asked means that there is no more, until the next edge.
pub trait Transport: Read + Write {
    /// Ends the direction to the peer, once everything written is sent.
    ///
    /// # Errors
    ///
    /// If the connection is gone already.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// How many bytes were written and acknowledged. A transport without acknowledgements reports
    /// the bytes that the kernel accepted for both.
    ///
    /// # Errors
    ///
    /// If the connection is gone already.
    fn send_progress(&self) -> io::Result<SendProgress>;

    /// Writes several buffers with one call.
    ///
    /// # Errors
    ///
    /// As [`Write::write`].
    fn send_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored(buffers)
    }
}

/// What an edge reported: something happened since the last time, perhaps less than it says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Readiness {
    /// There may be bytes, an end of the stream or an error to read.
    pub readable: bool,
    /// The kernel may take bytes again.
    pub writable: bool,
    /// A short read does not mean that nothing is left: the peer has ended its direction, or the
    /// connection has failed, and no further edge will tell; or there is urgent data, at which a
    /// read stops (tcp(7)).
    pub reads_to_end: bool,
}

/// What a read brought.
pub(super) enum ReadResult {
    Bytes {
        len: usize,
        /// The socket is empty: on Linux a short read of a stream means so (epoll(7), question 9),
        /// which saves the read that would say WouldBlock.
        is_drained: bool,
    },
    EndOfStream,
    WouldBlock,
}

/// Reads once; an interrupted read is tried again.
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

/// Writes two buffers, one behind the other, with one call; says how much was taken. An interrupted
/// write is tried again, and nothing is written with none.
///
/// Less than all of it means that the kernel's buffer is full: a writable edge will come.
#[inline]
pub(super) fn write(
    transport: &mut impl Transport,
    first: &[u8],
    second: &[u8],
) -> io::Result<usize> {
    loop {
        let written = match (first, second) {
            ([], []) => Ok(0),
            ([], bytes) | (bytes, []) => transport.write(bytes),
            _ => transport.send_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
        };
        return match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            written => written,
        };
    }
}

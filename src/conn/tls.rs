//! TLS between the transport of a connection and its frames.
//!
//! rustls holds no bytes between two calls from here, except an incomplete record:
//!
//! - A read decrypts all complete records. The ciphertext lies in the worker's scratch behind a
//!   [gap](GAP_BYTES), and the plaintext overwrites it from the start.
//! - A write encrypts at most 64 KiB (the limit of rustls), and again only when the kernel has taken
//!   all of that. Ciphertext that the kernel refuses waits in `unsent`, and counts as backlog.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};

use rustls::ServerConnection;

use super::transport::{self, ReadResult, Transport};
use crate::handler::CloseCause;
use crate::tls::{TlsConfig, TlsInfo};

/// The room for plaintext in front of the ciphertext of a read. It exceeds a record of the largest
/// size (RFC 8446 5.2), which rustls may hold from earlier reads, so that plaintext never overtakes the
/// ciphertext that is still to be decrypted.
const GAP_BYTES: usize = 20 * 1024;

/// The shortest read of ciphertext, however small the buffer is.
const READ_BYTES_MIN: usize = 8 * 1024;

/// Bytes of one read after which rustls gives its buffer back: it has at most 4 KiB before.
const SMALL_READ_BYTES: usize = 4 * 1024;

/// Unsent ciphertext at which a connection fails. Writes stop earlier, so only answers of TLS itself,
/// to a peer that provokes them and does not read, come to this.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// The first byte of every connection (RFC 8446 5.1): a record with a handshake message.
const HANDSHAKE_RECORD: u8 = 22;

/// The state of TLS of one connection.
#[derive(Debug)]
pub(super) struct Tls {
    connection: ServerConnection,
    /// Ciphertext that the kernel has refused.
    unsent: Vec<u8>,
    /// The first ciphertext, if it was read together with bytes before TLS.
    unread: Vec<u8>,
    state: State,
}

/// ```text
///   New ──► Flowing ──► PeerClosed
///    └───┬─────┘
///        ▼
///      Failed
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// The peer has sent nothing.
    New,
    /// Both sides send records.
    Flowing,
    /// The peer has sent close_notify: its bytes have ended, though not its stream.
    PeerClosed,
    /// An alert has ended TLS. Input is discarded, and so is output.
    Failed,
}

/// Why the TLS of a connection has ended.
#[derive(Debug)]
pub(super) enum TlsFailure {
    /// The first byte belongs to no TLS: it may be a plain HTTP request.
    NotTls,
    /// The peer broke the protocol, or no agreement is possible. An alert is on its way.
    Protocol(rustls::Error),
    /// The peer provokes answers and does not read them.
    UnreadAnswers,
}

impl TlsFailure {
    /// Whether the peer may understand a plain response.
    pub(super) const fn is_of_plain_peer(&self) -> bool {
        matches!(self, Self::NotTls)
    }

    /// The cause for the handler.
    pub(super) const fn cause(&self) -> CloseCause {
        CloseCause::Transport(io::ErrorKind::InvalidData)
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTls => f.write_str("the peer speaks no TLS"),
            Self::Protocol(error) => write!(f, "TLS failed: {error}"),
            Self::UnreadAnswers => f.write_str("TLS failed: the peer does not read its answers"),
        }
    }
}

impl Tls {
    /// The state before the handshake. `unread` are bytes of it that have been read already.
    pub(super) fn new(config: &TlsConfig, unread: &[u8]) -> Box<Self> {
        let connection = ServerConnection::new(config.current());
        let connection = connection.expect("`TlsConfig` accepts no configuration that fails");
        Box::new(Self {
            connection,
            unsent: Vec::new(),
            unread: unread.to_vec(),
            state: State::New,
        })
    }

    pub(super) fn info(&self) -> TlsInfo<'_> {
        TlsInfo::new(&self.connection)
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Ciphertext that the kernel has refused, in bytes.
    pub(super) const fn unsent_bytes(&self) -> usize {
        self.unsent.len()
    }

    /// Reads once, and decrypts into the front of `buf`. A read without plaintext has no bytes.
    pub(super) fn read<T: Transport>(
        &mut self,
        transport: &mut T,
        buf: &mut [u8],
    ) -> io::Result<Result<ReadResult, TlsFailure>> {
        if self.state == State::PeerClosed {
            return Ok(Ok(ReadResult::EndOfStream));
        }
        debug_assert!(buf.len() >= GAP_BYTES + READ_BYTES_MIN);
        let (len, is_drained) = match self.read_ciphertext(transport, &mut buf[GAP_BYTES..])? {
            ReadResult::Bytes { len, is_drained } => (len, is_drained),
            other => return Ok(Ok(other)),
        };
        let first = buf[GAP_BYTES];
        match self.state {
            State::Failed => return Ok(Ok(ReadResult::Bytes { len: 0, is_drained })),
            State::New if first != HANDSHAKE_RECORD && first.is_ascii_uppercase() => {
                self.state = State::Failed;
                return Ok(Err(TlsFailure::NotTls));
            }
            State::New | State::Flowing | State::PeerClosed => self.state = State::Flowing,
        }
        let decrypted = self.decrypt(buf, len);
        self.send(transport)?;
        let len = match decrypted {
            Ok(len) => len,
            Err(error) => {
                self.state = State::Failed;
                return Ok(Err(TlsFailure::Protocol(error)));
            }
        };
        if self.unsent.len() > UNSENT_BYTES_MAX {
            self.state = State::Failed;
            return Ok(Err(TlsFailure::UnreadAnswers));
        }
        // The next read reports the end.
        let is_drained = is_drained && self.state != State::PeerClosed;
        Ok(Ok(ReadResult::Bytes { len, is_drained }))
    }

    fn read_ciphertext<T: Transport>(
        &mut self,
        transport: &mut T,
        buf: &mut [u8],
    ) -> io::Result<ReadResult> {
        if self.unread.is_empty() {
            return transport::read(transport, buf);
        }
        let len = self.unread.len().min(buf.len());
        buf[..len].copy_from_slice(&self.unread[..len]);
        self.unread.drain(..len);
        self.unread.shrink_to_fit();
        Ok(ReadResult::Bytes { len, is_drained: false })
    }

    /// Decrypts the `len` bytes behind the gap, into the front of `buf`. Returns the number of bytes
    /// of plaintext.
    fn decrypt(&mut self, buf: &mut [u8], len: usize) -> Result<usize, rustls::Error> {
        // Memory as a stream has one error: a message of the handshake exceeds 64 KiB.
        let too_large = |error: io::Error| rustls::Error::General(error.to_string());
        let (mut taken, mut out) = (0, 0);
        while taken < len && self.state != State::PeerClosed {
            let mut rest = &buf[GAP_BYTES + taken..GAP_BYTES + len];
            taken += self.connection.read_tls(&mut rest).map_err(too_large)?;
            let state = self.connection.process_new_packets()?;
            let plain = state.plaintext_bytes_to_read();
            debug_assert!(out + plain <= GAP_BYTES + taken, "plaintext is shorter than ciphertext");
            let plaintext = &mut buf[out..out + plain];
            self.connection.reader().read_exact(plaintext).map_err(too_large)?;
            out += plain;
            if state.peer_has_closed() {
                self.state = State::PeerClosed;
            }
        }
        if len > SMALL_READ_BYTES {
            // Without an incomplete record rustls makes its buffer small before each read.
            let _ = self.connection.read_tls(&mut NoInput);
        }
        Ok(out)
    }

    /// Encrypts and sends several buffers, one behind the other. Returns the number of bytes of
    /// plaintext that were taken: fewer than all, if the kernel's buffer is full.
    pub(super) fn write<T: Transport>(
        &mut self,
        transport: &mut T,
        buffers: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let asked: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if self.state == State::Failed || self.is_handshaking() {
            // Nothing can follow the alert, nor precede the handshake.
            return Ok(asked);
        }
        let (mut one, mut several);
        let mut rest: &mut [IoSlice<'_>] = match buffers {
            [bytes] => {
                one = [*bytes];
                &mut one
            }
            _ => {
                several = buffers.to_vec();
                &mut several
            }
        };
        let mut taken = 0;
        while taken < asked && self.unsent.is_empty() {
            let len = self.connection.writer().write_vectored(rest)?;
            IoSlice::advance_slices(&mut rest, len);
            taken += len;
            self.send(transport)?;
        }
        Ok(taken)
    }

    /// Sends the unsent ciphertext. Returns whether that was all.
    pub(super) fn send_unsent<T: Transport>(&mut self, transport: &mut T) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = transport::write(transport, &self.unsent, &[])?;
            self.unsent.drain(..sent);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        Ok(self.unsent.is_empty())
    }

    /// Sends close_notify, unless TLS has failed. Returns whether all ciphertext is sent.
    pub(super) fn close<T: Transport>(&mut self, transport: &mut T) -> io::Result<bool> {
        if self.state != State::Failed {
            // It has an effect only once.
            self.connection.send_close_notify();
        }
        self.send(transport)?;
        self.send_unsent(transport)
    }

    /// Sends the ciphertext of rustls, behind the unsent bytes.
    fn send<T: Transport>(&mut self, transport: &mut T) -> io::Result<()> {
        while self.connection.wants_write() {
            let mut output = Output { transport, unsent: &mut self.unsent };
            self.connection.write_tls(&mut output)?;
        }
        Ok(())
    }
}

/// Takes all ciphertext of rustls: the bytes that the kernel refuses become unsent.
struct Output<'o, T> {
    transport: &'o mut T,
    unsent: &'o mut Vec<u8>,
}

impl<T: Transport> Write for Output<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut sent = match self.unsent.is_empty() {
            true => transport::write_slices(self.transport, buffers)?,
            false => 0,
        };
        let mut total = 0;
        for buffer in buffers {
            total += buffer.len();
            let skipped = sent.min(buffer.len());
            sent -= skipped;
            self.unsent.extend_from_slice(&buffer[skipped..]);
        }
        Ok(total)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A read of it finds nothing.
struct NoInput;

impl Read for NoInput {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

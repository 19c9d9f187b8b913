//! Many clients at once, on one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::support::client::{dial, dial_narrow, expect_bytes, wait_until};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::support::server_process::ServerProcess;

/// Descriptors of this process that are left to other tests.
const DESCRIPTORS_LEFT: u64 = 3000;

/// The kernel's receive buffer of a client that never reads. It is as small as the kernel allows,
/// so that the server's echoes soon fill it.
const RECEIVE_BUFFER_BYTES: usize = 4096;

/// If no client can write for this time, and the server is idle, then no client can write any more.
const QUIET: Duration = Duration::from_millis(150);

/// Keeps the floods of other tests from running at the same time. Together they would overload the
/// machine, and delay the canaries.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of clients: `wanted`, or fewer if the limit of descriptors requires it.
pub(crate) fn size(wanted: usize) -> usize {
    let limit = rlimit::increase_nofile_limit(u64::MAX).expect("the limit can be raised");
    wanted.min(usize::try_from(limit.saturating_sub(DESCRIPTORS_LEFT)).unwrap_or(usize::MAX))
}

/// Connections on which nothing has been sent.
#[track_caller]
pub(crate) fn dial_all(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| dial(address)).collect()
}

/// Open WebSocket connections.
#[track_caller]
pub(crate) fn open_all(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = dial_all(address, count);
    greet(&mut streams);
    streams
}

/// Open WebSocket connections with small receive buffers.
#[track_caller]
pub(crate) fn open_slow_readers(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let dial = |_| dial_narrow(address, RECEIVE_BUFFER_BYTES);
    let mut streams: Vec<_> = (0..count).map(dial).collect();
    greet(&mut streams);
    streams
}

#[track_caller]
fn greet(streams: &mut [TcpStream]) {
    for stream in &mut *streams {
        stream.write_all(GOOD_REQUEST).expect("the server reads");
    }
    for stream in streams {
        expect_bytes(stream, GOOD_RESPONSE);
    }
}

/// Writes `flood` repeatedly from every client, and reads nothing, until no client can write any
/// more and the server is idle. Returns the total number of bytes written.
#[track_caller]
pub(crate) fn write_until_stuck(
    server: &ServerProcess,
    streams: &mut [TcpStream],
    flood: &[u8],
) -> usize {
    let mut written = vec![0; streams.len()];
    // When the last write succeeded, and the server's CPU time at that moment.
    let mut quiet = None;
    wait_until("no client can write any more", || {
        for (stream, written) in streams.iter_mut().zip(&mut written) {
            stream.set_nonblocking(true).expect("a socket option");
            match stream.write(&flood[*written % flood.len()..]) {
                Ok(len) => {
                    *written += len;
                    quiet = None;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
        }
        let (since, used) = *quiet.get_or_insert_with(|| (Instant::now(), server.cpu_time()));
        let is_quiet = since.elapsed() > QUIET;
        let is_idle = is_quiet && server.cpu_time() - used < QUIET / 5;
        if is_quiet && !is_idle {
            quiet = None;
        }
        is_idle
    });
    written.iter().sum()
}

/// A client that sends its request byte by byte, and the answer that it has received.
#[derive(Debug)]
pub(crate) struct Dripping {
    stream: TcpStream,
    sent: usize,
    pub(crate) answer: Vec<u8>,
    pub(crate) has_ended: bool,
}

impl Dripping {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a socket option");
        Self { stream, sent: 0, answer: Vec::new(), has_ended: false }
    }

    /// Sends the next byte of `bytes`.
    #[track_caller]
    pub(crate) fn drip(&mut self, bytes: &[u8]) {
        if !self.has_ended {
            let byte = &bytes[self.sent..][..1];
            self.sent += self.stream.write(byte).expect("a byte fits");
        }
    }

    /// Reads the available bytes of the answer.
    #[track_caller]
    pub(crate) fn read(&mut self) {
        let mut buf = [0; 1024];
        while !self.has_ended {
            match self.stream.read(&mut buf) {
                Ok(0) => self.has_ended = true,
                Ok(len) => self.answer.extend_from_slice(&buf[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("not an orderly end: {error}"),
            }
        }
    }
}

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

/// The kernel's receive buffer of a client that never reads: the least that there is, so that the
/// server's echoes soon have nowhere to go.
const RECEIVE_BUFFER_BYTES: usize = 4096;

/// When nothing has moved for so long, and the server has rested, nothing will.
const QUIET: Duration = Duration::from_millis(150);

/// Waits until none of the other floods is under way, so that nobody waits for this machine.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Up to `wanted` clients, or as many as this process may have.
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

/// Open WebSocket connections that will take little of what they are sent.
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

/// Writes `flood` over and over from every client, and reads nothing, until no client can write
/// any more and the server rests; returns what they wrote, all together.
#[track_caller]
pub(crate) fn write_until_stuck(
    server: &ServerProcess,
    streams: &mut [TcpStream],
    flood: &[u8],
) -> usize {
    let mut written = vec![0; streams.len()];
    // Since when nothing moves, and what CPU time the server had used by then.
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
        let is_over = since.elapsed() > QUIET;
        let rests = is_over && server.cpu_time() - used < QUIET / 5;
        if is_over && !rests {
            quiet = None;
        }
        rests
    });
    written.iter().sum()
}

/// A client that sends a byte now and then, and what it has been answered.
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

    /// Takes what there is of the answer.
    #[track_caller]
    pub(crate) fn listen(&mut self) {
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

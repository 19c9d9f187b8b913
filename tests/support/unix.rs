//! Clients of Unix sockets, and folders for their files.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of a test binary has no outside")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::client::{DEADLINE, expect_bytes, open_on, read_all};
use super::frames::{self, TEXT};

/// An empty folder, which is removed with its files.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    #[track_caller]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ws-reactor-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a new folder");
        Self(folder)
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A connection to the socket at `path`.
#[track_caller]
pub fn dial(path: &Path) -> UnixStream {
    with_timeouts(UnixStream::connect(path).expect("the server accepts"))
}

/// Sets the timeouts of a client.
#[track_caller]
pub fn with_timeouts(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket option");
    stream
}

/// A connection after the handshake.
#[track_caller]
pub fn open(path: &Path) -> UnixStream {
    open_on(dial(path))
}

/// Sends a text message and expects its echo.
#[track_caller]
pub fn expect_echo(stream: &mut (impl Read + Write), text: &str) {
    stream.write_all(&frames::client(TEXT, text.as_bytes()).bytes()).expect("the server reads");
    expect_bytes(stream, &frames::server(TEXT, text.as_bytes()).bytes());
}

/// Closes a connection in order.
#[track_caller]
pub fn close(mut stream: impl Read + Write) {
    let close = frames::close_payload(1000, b"");
    stream.write_all(&frames::client(frames::CLOSE, &close).bytes()).expect("the server reads");
    expect_bytes(&mut stream, &frames::server(frames::CLOSE, &close).bytes());
    assert_eq!(read_all(&mut stream), "");
}

//! A multi-threaded epoll reactor WebSocket server without an async runtime.
#![forbid(unsafe_code)]

pub mod protocol;

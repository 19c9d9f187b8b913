//! Code that the servers in Rust share: takes the number of workers, binds a free port, prints its
//! address, accepts, and sends a message to everyone.

#![allow(dead_code, reason = "no server uses all of it")]

use std::env;
use std::io;
use std::net::Ipv4Addr;

use futures_util::{Sink, SinkExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

/// The number of worker threads: the first argument.
pub(crate) fn workers() -> usize {
    env::args().nth(1).and_then(|workers| workers.parse().ok()).unwrap_or(1)
}

/// Whether messages go to everyone instead of back.
pub(crate) fn is_broadcast() -> bool {
    env::args().any(|argument| argument == "--broadcast")
}

/// A runtime with [`workers`] threads.
pub(crate) fn runtime() -> Runtime {
    runtime_builder().build().expect("a runtime can be started")
}

/// One worker uses tokio's current-thread runtime, which needs no locks and no other threads.
pub(crate) fn runtime_builder() -> Builder {
    let mut builder = match workers() {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(workers()).enable_io();
    builder
}

/// A listener on a free port, whose address is printed on standard output.
pub(crate) async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(listener)
}

/// Accepts the next connection, and sets TCP_NODELAY.
pub(crate) async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Writes the messages of a broadcast channel to a connection until one of them ends, and flushes
/// once no more messages are ready.
pub(crate) async fn deliver<M: Clone>(
    mut messages: Receiver<M>,
    mut connection: impl Sink<M> + Unpin,
) {
    while let Ok(mut message) = messages.recv().await {
        loop {
            if connection.feed(message).await.is_err() {
                return;
            }
            message = match messages.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Empty) => break,
                // A subscriber that has missed messages would show a wrong cost.
                Err(_) => return,
            };
        }
        if connection.flush().await.is_err() {
            return;
        }
    }
}

/// Messages that a broadcast channel keeps, more than are sent at once.
pub(crate) const CHANNEL_MESSAGES: usize = 1024;

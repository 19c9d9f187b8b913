//! Code that all servers in Rust share: takes the number of workers, binds a free port, prints its
//! address, and accepts.

use std::env;
use std::io;
use std::net::Ipv4Addr;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// A runtime with the number of threads given by the first argument. One worker uses tokio's
/// current-thread runtime, which needs no locks and no other threads.
pub(crate) fn runtime() -> Runtime {
    let workers = env::args().nth(1).and_then(|workers| workers.parse().ok()).unwrap_or(1);
    let mut builder = match workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let builder = builder.worker_threads(workers).enable_io();
    builder.build().expect("a runtime can be started")
}

/// A listener on a free port, whose address is printed on standard output.
pub(crate) async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(listener)
}

/// Accepts the next connection, and sets TCP_NODELAY.
#[allow(dead_code, reason = "axum accepts by itself")]
pub(crate) async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

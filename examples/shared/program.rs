//! The life of an example that serves a page: its signals, its output and its exit status.

mod blocked_signals;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use ws_reactor::{Server, ServerBuilder, ServerHandle};

/// How long the connections may take to close after a signal.
const DRAIN: Duration = Duration::from_secs(5);

/// The address or an option cannot be used, so a restart alone does not help.
const EXIT_USAGE: u8 = 2;

/// A server on `address`, with one worker for each core unless `workers` is given.
pub(crate) fn builder(address: SocketAddr, workers: Option<usize>) -> ServerBuilder {
    let builder = Server::builder().bind(address);
    match workers {
        Some(workers) => builder.workers(workers),
        None => builder,
    }
}

/// Serves until SIGINT or SIGTERM, and returns the exit status of the example `name`: 0 after a
/// signal, 1 if the server failed while it ran, 2 if `start` failed. Errors are one line.
///
/// Prints the address, and a link to the page, which ends with `fragment`.
pub(crate) fn run<E: Into<Box<dyn Error>>>(
    name: &str,
    fragment: &str,
    start: impl FnOnce() -> Result<ServerHandle, E>,
) -> ExitCode {
    env_logger::init();
    let fail = |error: Box<dyn Error>, status| {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        eprintln!("{name}: {error}{cause}");
        ExitCode::from(status)
    };
    let signals = match blocked_signals::block(&[Signal::SIGINT, Signal::SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => return fail(error.into(), 1),
    };
    let server = match start() {
        Ok(server) => server,
        Err(error) => return fail(error.into(), EXIT_USAGE),
    };
    let address = &server.local_addresses()[0];
    let listening = format!("listening on {address} ({} workers)", server.workers());
    // Fails if standard output is a closed pipe, which must not end the server.
    let _ = writeln!(io::stdout(), "{listening}\nopen http://{address}/{fragment}");
    thread::spawn({
        let server = server.clone();
        move || signals.wait().map(|_| server.shutdown(DRAIN))
    });
    match server.join() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.into(), 1),
    }
}

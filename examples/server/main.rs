//! A WebSocket echo server.
//!
//! `cargo run --release --example server -- --help` lists the options. Connections are logged on
//! standard error when they open and close; `RUST_LOG=debug` also logs messages.

mod args;
#[path = "../shared/blocked_signals.rs"]
mod blocked_signals;
mod client;
mod handlers;
mod log_queue;
mod report;
mod signals;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use ws_reactor::{Server, ServerHandle, StartError};

use args::Args;
use handlers::{Broadcast, LoggedEcho, PrefixedEcho};
use log_queue::LogQueue;
use signals::Signals;

/// An option or the environment is invalid, so a restart alone does not help.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    // The signals must be blocked in every thread, so block them before the log starts the first.
    let begun = Signals::block().and_then(|signals| Ok((signals, LogQueue::start()?)));
    let (signals, log) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            eprintln!("server: {error}");
            return ExitCode::FAILURE;
        }
    };
    let status = match Args::try_parse() {
        Ok(args) => run(&args, signals, &log),
        // Help and version are not errors.
        Err(asked) if !asked.use_stderr() => asked.exit(),
        Err(error) => {
            let error = error.to_string();
            let line = error.lines().next().unwrap_or_default().trim_start_matches("error: ");
            usage(&format!("{line} (--help lists the options)"), &log)
        }
    };
    log.flush();
    status
}

/// Runs the server until it has stopped.
fn run(args: &Args, signals: Signals, log: &LogQueue) -> ExitCode {
    log.install();
    let server = match start(args) {
        Ok(server) => server,
        Err(error) => {
            return match error.source() {
                Some(cause) => usage(&format!("{error}: {cause}"), log),
                None => usage(&error, log),
            };
        }
    };
    match serve(args, &server, signals, log) {
        Ok(()) => {
            let stats = server.stats();
            log::info!("stopped: {} connections, {} messages", stats.opened, stats.messages_in);
            ExitCode::SUCCESS
        }
        Err(error) => {
            log.print(&format!("server: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn usage(error: &dyn std::fmt::Display, log: &LogQueue) -> ExitCode {
    log.print(&format!("server: {error}"));
    ExitCode::from(EXIT_USAGE)
}

fn serve(args: &Args, server: &ServerHandle, signals: Signals, log: &LogQueue) -> io::Result<()> {
    signals.watch(server.clone(), args.drain_timeout, log.clone())?;
    report::start(server.clone(), args.stats)?;
    server.join().inspect_err(|_| {
        // One worker failed. Close the peers of the others properly before the process ends.
        server.shutdown(args.drain_timeout);
        while server.join().is_err() {}
    })
}

fn start(args: &Args) -> Result<ServerHandle, StartError> {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        log::warn!("cannot raise the limit of file descriptors: {error}");
    }
    let mut builder = Server::builder()
        .config(args.config())
        .share_port(args.share_port)
        .balance(args.balance)
        .pin_cpus(args.pin_cpus);
    for address in &args.addr {
        builder = builder.bind(address.clone());
    }
    if let Some(mode) = args.unix_mode {
        builder = builder.unix_mode(mode);
    }
    if let Some(workers) = args.workers {
        builder = builder.workers(workers);
    }
    match &args.prefix {
        _ if args.broadcast => builder.start(|_, _| Broadcast),
        Some(prefix) => builder.start(|_, _| PrefixedEcho::new(prefix)),
        None => builder.start(|_, _| LoggedEcho),
    }
}

//! A WebSocket echo server.
//!
//! `cargo run --release --example server -- --help` lists the options. Connections are logged on
//! standard error when they open and close; `RUST_LOG=debug` also logs messages.

mod admin;
mod args;
#[path = "../shared/blocked_signals.rs"]
mod blocked_signals;
mod client;
mod handlers;
mod health;
mod log_queue;
mod report;
mod signals;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;

use std::error::Error;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use ws_reactor::{Server, ServerHandle, StartError};

use admin::Admin;
use args::Args;
use handlers::{Broadcast, LoggedEcho, PrefixedEcho};
use health::Readiness;
use log_queue::LogQueue;
use signals::{Signals, Stop};
use tls::Tls;

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
            // A list of missing options is behind the first line, up to an empty one.
            let lines = error.lines().map(str::trim).take_while(|line| !line.is_empty());
            let line = lines.collect::<Vec<_>>().join(" ");
            let line = line.trim_start_matches("error: ");
            usage(&format!("{line} (--help lists the options)"), &log)
        }
    };
    log.flush();
    status
}

/// Runs the server until it has stopped.
fn run(args: &Args, signals: Signals, log: &LogQueue) -> ExitCode {
    log.install();
    let tls = match args.tls() {
        Ok(tls) => tls,
        Err(error) => return usage(&error, log),
    };
    let readiness = Readiness::default();
    let admin = match start_admin(args, &readiness) {
        Ok(admin) => admin,
        Err(error) => return usage(&error, log),
    };
    let server = match start(args, tls.as_ref(), &readiness) {
        Ok(server) => server,
        Err(error) => return usage(&with_cause(&error), log),
    };
    if let Some(admin) = &admin {
        admin.observe(&server);
    }
    readiness.set_ready();
    let signals = signals.with_reload(tls);
    let served = serve(args, &server, admin.as_ref(), signals, &readiness, log);
    // After the last connection of the other, so that its drain can be watched.
    if let Some(admin) = admin {
        admin.stop();
    }
    match served {
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

fn with_cause(error: &StartError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn usage(error: &dyn std::fmt::Display, log: &LogQueue) -> ExitCode {
    log.print(&format!("server: {error}"));
    ExitCode::from(EXIT_USAGE)
}

fn serve(
    args: &Args,
    server: &ServerHandle,
    admin: Option<&Admin>,
    signals: Signals,
    readiness: &Readiness,
    log: &LogQueue,
) -> io::Result<()> {
    let stop = Stop { delay: args.drain_delay, drain: args.drain_timeout };
    signals.watch(server.clone(), stop, readiness.clone(), log.clone())?;
    report::start(server.clone(), admin.map(|it| it.address().clone()), args.stats)?;
    server.join().inspect_err(|_| {
        readiness.set_draining();
        // One worker failed. Close the peers of the others properly before the process ends.
        server.shutdown(args.drain_timeout);
        while server.join().is_err() {}
    })
}

/// Starts the operator's server. The error names the option and the fix.
fn start_admin(args: &Args, readiness: &Readiness) -> Result<Option<Admin>, String> {
    let Some(address) = &args.admin else { return Ok(None) };
    // With --share-port both would share the port, and each would get a part of the requests.
    if args.addr.iter().any(|it| it.address == *address)
        && address.as_tcp().is_none_or(|tcp| tcp.port() != 0)
    {
        return Err(format!("--admin {address}: this is an --addr too; choose another port"));
    }
    let admin = Admin::start(address.clone(), args.unix_mode, readiness.clone());
    admin
        .map(Some)
        .map_err(|error| format!("--admin: {}; choose another address", with_cause(&error)))
}

fn start(
    args: &Args,
    tls: Option<&Tls>,
    readiness: &Readiness,
) -> Result<ServerHandle, StartError> {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        log::warn!("cannot raise the limit of file descriptors: {error}");
    }
    let mut builder = Server::builder()
        .config(args.config())
        .share_port(args.share_port)
        .balance(args.balance)
        .pin_cpus(args.pin_cpus);
    for listen in &args.addr {
        let address = listen.address.clone();
        builder = match tls {
            Some(tls) if !listen.is_plain => tls.bind(builder, address),
            _ => builder.bind(address),
        };
    }
    if let Some(mode) = args.unix_mode {
        builder = builder.unix_mode(mode);
    }
    if let Some(workers) = args.workers {
        builder = builder.workers(workers);
    }
    match &args.prefix {
        _ if args.broadcast => builder.start(|_, _| Broadcast { readiness: readiness.clone() }),
        Some(prefix) => builder.start(|_, _| PrefixedEcho::new(prefix, readiness.clone())),
        None => builder.start(|_, _| LoggedEcho { readiness: readiness.clone() }),
    }
}

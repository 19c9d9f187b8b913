//! A WebSocket echo server.
//!
//! `cargo run --release --example server -- --help` lists the options. Connections and their ends
//! are logged on standard error, messages too with `RUST_LOG=debug`.

mod args;
mod handlers;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use clap::Parser;
use log::Level;
use nix::sys::signal::{SigSet, Signal};
use ws_reactor::{Server, ServerHandle, StartError};

use args::Args;
use handlers::{LoggedEcho, PrefixedEcho};

/// An option or the environment is wrong: the operator has something to do first.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and version are no mistakes.
        Err(asked) if !asked.use_stderr() => asked.exit(),
        Err(error) => {
            let error = error.to_string();
            let line = error.lines().next().unwrap_or_default().trim_start_matches("error: ");
            return fail(&format!("{line} (--help lists the options)"));
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let run = || -> Result<ExitCode, std::io::Error> {
        // From here on, and in every thread to come, a signal waits until it is asked for.
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        signals.thread_block()?;
        match start(&args) {
            Ok(server) => serve(&args, server, signals).map(|()| ExitCode::SUCCESS),
            Err(error) => Ok(match error.source() {
                Some(cause) => fail(&format!("{error}: {cause}")),
                None => fail(&error),
            }),
        }
    };
    run().unwrap_or_else(|error| {
        eprintln!("server: {error}");
        ExitCode::FAILURE
    })
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("server: {error}");
    ExitCode::from(EXIT_USAGE)
}

fn serve(args: &Args, server: ServerHandle, signals: SigSet) -> std::io::Result<()> {
    stop_on_signal(signals, server.clone(), args.drain_timeout);
    let mut stdout = std::io::stdout();
    for address in server.local_addresses() {
        writeln!(stdout, "listening on {address} ({} workers)", server.workers())
            .map_err(|error| std::io::Error::other(format!("stdout: {error}")))?;
    }
    if let Some(period) = args.stats {
        print_stats(server.clone(), period);
    }
    server.join()?;
    let stats = server.stats();
    log::info!("stopped: {} connections served, {} messages", stats.opened, stats.messages_in);
    Ok(())
}

fn start(args: &Args) -> Result<ServerHandle, StartError> {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        log::warn!("the limit of file descriptors stays as it is: {error}");
    }
    let mut builder = Server::builder().config(args.config()).share_port(args.share_port);
    for address in &args.addr {
        builder = builder.bind(*address);
    }
    if let Some(workers) = args.workers {
        builder = builder.workers(workers);
    }
    match &args.prefix {
        Some(prefix) => builder.start(|| PrefixedEcho::new(prefix)),
        None => builder.start(|| LoggedEcho),
    }
}

/// A signal that comes sooner after the first is the same one: timeout(1) sends it to the process
/// and then to its group.
const SECOND_SIGNAL_MIN: Duration = Duration::from_millis(50);

/// How long a signal waits for its line in the log.
const LOG_WAIT_MAX: Duration = Duration::from_millis(50);

/// The first signal drains the server, a second one ends it at once.
fn stop_on_signal(signals: SigSet, server: ServerHandle, drain: Duration) {
    std::thread::spawn(move || {
        let mut signals = std::iter::repeat_with(|| signals.wait()).map_while(Result::ok);
        let Some(signal) = signals.next() else { return };
        let since = Instant::now();
        let open = server.stats().open();
        say(Level::Info, format!("{signal}: closing {open} connections, for at most {drain:?}"));
        server.shutdown(drain);
        if let Some(signal) = signals.find(|_| since.elapsed() >= SECOND_SIGNAL_MIN) {
            let open = server.stats().open();
            say(Level::Warn, format!("{signal} again: dropping {open} connections"));
            std::process::exit(128 + signal as i32);
        }
    });
}

/// Logs `line`, and does not wait for long: who reads the log may have stopped reading, and a signal
/// must work all the same.
fn say(level: Level, line: String) {
    let (sender, said) = channel();
    std::thread::spawn(move || {
        log::log!(level, "{line}");
        // Nobody waits any more.
        let _ = sender.send(());
    });
    let _ = said.recv_timeout(LOG_WAIT_MAX);
}

fn print_stats(server: ServerHandle, period: Duration) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(period);
            let stats = server.stats();
            // A reader that has gone is no reason to end.
            let _ = writeln!(std::io::stdout(), "{} open, {stats:?}", stats.open());
        }
    });
}

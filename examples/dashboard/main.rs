//! A dashboard: samples of this machine, pushed each second to everyone who has the token.
//!
//! Run `cargo run --example dashboard` and open the link that it prints. `samples.rs` reads `/proc`,
//! `access.rs` checks tokens and origins, `handler.rs` has the callbacks and the format of the
//! messages, `page.html` the plots.

mod access;
mod handler;
#[path = "../shared/program.rs"]
mod program;
mod samples;

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use ws_reactor::{Config, ServerHandle};

use access::Access;
use handler::Dashboard;
use samples::{History, Sampler};

/// A server that shows the load of its machine. Open the link that it prints in a browser.
#[derive(Parser)]
struct Args {
    /// Address to listen on. Port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9005")]
    addr: SocketAddr,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// The secret that opens the dashboard [default: a random one, printed at the start]. Other users
    /// of this machine can read it from the command line, but not from the environment
    #[arg(long, env = "DASHBOARD_TOKEN", hide_env_values = true, value_parser = access::token)]
    token: Option<String>,

    /// Allow pages of this origin too, such as https://example.com; repeat for more. The page of this
    /// server is always allowed
    #[arg(long, value_name = "ORIGIN", value_parser = access::origin)]
    allow_origin: Vec<String>,

    /// Seconds between two samples
    #[arg(long, value_name = "SECONDS", value_parser = interval, default_value = "1")]
    interval: Duration,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let token = args.token.clone().map_or_else(access::random_token, Ok);
    // A browser does not send the fragment, so the token does not appear in the logs of proxies.
    let fragment = match (&args.token, &token) {
        (None, Ok(random)) => format!("#token={random}"),
        _ => String::new(),
    };
    program::run("dashboard", &fragment, || start(&args, token?))
}

fn start(args: &Args, token: String) -> Result<ServerHandle, Box<dyn Error>> {
    let access = Arc::new(Access { token, origins: args.allow_origin.clone() });
    let history = Arc::new(Mutex::new(History::default()));
    let mut sampler = Some(Sampler::new()?);
    let config = Config {
        tick_interval: args.interval,
        // Clients only receive.
        message_bytes_max: 1,
        connections_max: Some(1000),
        ..Config::default()
    };
    let builder = program::builder(args.addr, args.workers).config(config);
    let interval = args.interval;
    // The first worker gets the sampler.
    Ok(builder.start(|_, _| Dashboard {
        access: Arc::clone(&access),
        history: Arc::clone(&history),
        sampler: sampler.take(),
        interval,
    })?)
}

/// A number of seconds, within the limits of [`Config::tick_interval`].
fn interval(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if !(0.001..=86_400.0).contains(&seconds) {
        return Err("must be at least 0.001, and at most 86400");
    }
    Ok(Duration::from_secs_f64(seconds))
}

//! A chat: rooms, names, the last messages for newcomers, and the page, all on one port.
//!
//! Run `cargo run --example chat` and open <http://127.0.0.1:9003/> in two tabs. `rooms.rs` has the
//! rooms that the workers share, `handler.rs` the callbacks and the format of the messages,
//! `page.html` the client.

mod handler;
#[path = "../shared/program.rs"]
mod program;
mod rooms;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use ws_reactor::{Config, ServerHandle, StartError};

use handler::Chat;
use rooms::Rooms;

/// A chat server. Open its address in a browser.
#[derive(Parser)]
struct Args {
    /// Address to listen on. Port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9003")]
    addr: SocketAddr,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::run("chat", "", || start(&args))
}

fn start(args: &Args) -> Result<ServerHandle, StartError> {
    let config = Config {
        // The rooms hold at most 100 times 50 messages, each with up to six bytes of JSON for a
        // byte: 60 MB.
        message_bytes_max: 2000,
        connections_max: Some(1000),
        // A name stays taken until a lost connection is noticed, so notice it soon.
        ping_interval: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(30),
        ..Config::default()
    };
    let builder = program::builder(args.addr, args.workers).config(config);
    let rooms = Arc::new(Mutex::new(Rooms::default()));
    builder.start(|_, _| Chat::new(Arc::clone(&rooms)))
}

//! A game: players move in rooms and collect coins, with their positions sent 20 times a second.
//!
//! Run `cargo run --example arena` and open <http://127.0.0.1:9004/> in two tabs. `rooms.rs` has the
//! rooms that the workers share and the rules, `handler.rs` the callbacks and the format of the
//! messages, `page.html` the client.

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

use handler::Arena;
use rooms::{INPUT_BYTES_MAX, Rooms};

/// 20 ticks per second.
const TICK: Duration = Duration::from_millis(50);

/// A game server. Open its address in a browser.
#[derive(Parser)]
struct Args {
    /// Address to listen on. Port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9004")]
    addr: SocketAddr,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    program::run("arena", "", || start(&args))
}

fn start(args: &Args) -> Result<ServerHandle, StartError> {
    let config = Config {
        tick_interval: TICK,
        message_bytes_max: INPUT_BYTES_MAX,
        connections_max: Some(2000),
        // A player that does not read gets the latest state only, once more than this is unsent:
        // about ten states of a full room, or half a second.
        backlog_bytes_high: 4096,
        backlog_bytes_low: 1024,
        // A player stays in the room until a lost connection is noticed, so notice it soon.
        ping_interval: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(30),
        ..Config::default()
    };
    let builder = program::builder(args.addr, args.workers).config(config);
    let rooms = Arc::new(Mutex::new(Rooms::default()));
    // The first worker moves the players of all rooms, also those connected to other workers.
    builder.start(|_, worker| Arena::new(Arc::clone(&rooms), worker == 0))
}

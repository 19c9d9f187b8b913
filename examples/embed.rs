//! The server inside another program: a handler with a state for each connection, counters, a
//! message sent from another thread, and a shutdown.
//!
//! `cargo run --example embed [IP:PORT]`, then talk to it with any WebSocket client, at a path that
//! is your name: each line is answered with its number, and every ten seconds all clients are told
//! how long the server has been up. `quit`, or the end of standard input, ends it.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ws_reactor::{
    Answer, CloseEvent, Config, Handler, Message, Peer, PeerId, Reply, Request, Response, Server,
    ServerHandle,
};

/// The connections that are open, for the thread that writes to all of them.
type Members = Arc<Mutex<BTreeSet<PeerId>>>;

/// Numbers what each client says. Every worker has one; `members` is what they share.
struct Numbered {
    members: Members,
}

impl Numbered {
    fn update(&self, change: impl FnOnce(&mut BTreeSet<PeerId>)) {
        change(&mut self.members.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What the handler keeps for a client.
#[derive(Default)]
struct Client {
    name: String,
    messages: u64,
}

impl Handler for Numbered {
    type State = Client;

    /// The path is the client's name; without one it may not come in.
    fn request(&mut self, request: &Request<'_>, _: SocketAddr) -> Answer<Client> {
        let path = request.path().split('?').next().unwrap_or_default();
        match path.trim_start_matches('/') {
            "" => Answer::reject(403, "ask for /your-name"),
            name => Answer::accept(Client { name: name.to_owned(), messages: 0 }),
        }
    }

    fn http(&mut self, request: &Request<'_>, _: SocketAddr) -> Option<Response> {
        (request.path() == "/health").then(|| Response::text(200, "ok"))
    }

    fn open(&mut self, peer: &mut Peer<'_, Client>, address: SocketAddr) {
        let greeting = format!("Hello {}, you come from {address}.", peer.state.name);
        peer.send(&greeting);
        self.update(|members| _ = members.insert(peer.id()));
    }

    fn message(&mut self, peer: &mut Peer<'_, Client>, message: Message<'_>) -> Reply {
        peer.state.messages += 1;
        match message {
            Message::Text(text) => {
                let answer = format!("{}: {text}", peer.state.messages);
                peer.send(&answer);
                Reply::None
            }
            Message::Binary(_) => Reply::Echo,
        }
    }

    fn close(&mut self, id: PeerId, client: Client, event: &CloseEvent<'_>) {
        self.update(|members| _ = members.remove(&id));
        println!("{} said {} things and left: {}", client.name, client.messages, event.cause);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9002".to_owned());
    let Ok(address) = address.parse() else {
        eprintln!("embed: {address} is no IP:PORT; usage: embed [IP:PORT]");
        std::process::exit(2);
    };
    let members = Members::default();
    let server = Server::builder()
        .bind(address)
        .workers(2)
        .config(Config { message_bytes_max: 64 * 1024, ..Config::default() })
        .start(|| Numbered { members: Arc::clone(&members) })?;
    println!("listening on {}; quit ends it", server.local_addresses()[0]);

    tell_the_time(server.clone(), members);
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "quit" => break,
            _ => println!("{:#?}", server.stats()),
        }
    }
    server.shutdown(Duration::from_secs(5));
    server.join()?;
    Ok(())
}

/// Sends from a thread that is none of the server's.
fn tell_the_time(server: ServerHandle, members: Members) {
    let start = Instant::now();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(10));
            let news = format!("up for {} s", start.elapsed().as_secs());
            let members = members.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for peer in members {
                if let Err(error) = server.send(peer, &news) {
                    println!("{peer} is not told: {error}");
                }
            }
        }
    });
}

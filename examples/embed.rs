//! A server embedded in another program: a handler with per-connection state, counters, messages
//! from another thread, and a shutdown.
//!
//! Run `cargo run --example embed [ADDRESS]` and connect any WebSocket client to `/your-name`. Each
//! text is answered with its number, and every ten seconds all clients receive the server's uptime.
//! On standard input, `stats` prints the counters, `quit` or the end of input ends the server, and
//! any other line is sent to all clients.

use std::io::BufRead;
use std::time::{Duration, Instant};

use ws_reactor::{
    Address, CloseEvent, Config, ConnectionInfo, Context, Handler, Message, Peer, PeerId, Reply,
    Request, Response, Server, ServerHandle, Upgrade,
};

/// Numbers each client's messages.
struct Numbered;

/// The state of a connection.
#[derive(Default)]
struct Client {
    name: String,
    messages: u64,
}

impl Handler for Numbered {
    type State = Client;

    /// The path is the client's name; a client without one is rejected.
    fn on_request(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<Client> {
        match request.path().trim_start_matches('/') {
            "" => Upgrade::reject(403, "ask for /your-name"),
            name => Upgrade::accept(Client { name: name.to_owned(), messages: 0 }),
        }
    }

    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        (request.path() == "/health").then(|| Response::text(200, "ok"))
    }

    fn on_open(&mut self, peer: &mut Peer<'_, Client>, info: ConnectionInfo<'_>) {
        let greeting = format!("Hello {}, you come from {}.", peer.state.name, info.peer_address());
        peer.send(&greeting);
    }

    fn on_message(&mut self, peer: &mut Peer<'_, Client>, message: Message<'_>) -> Reply {
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

    fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, client: Client, event: &CloseEvent<'_>) {
        println!("{} said {} things and left: {}", client.name, client.messages, event.cause);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9002".to_owned());
    let Ok(address) = address.parse::<Address>() else {
        eprintln!("embed: {address} is neither IP:PORT nor unix:PATH; usage: embed [ADDRESS]");
        std::process::exit(2);
    };
    let server = Server::builder()
        .bind(address)
        .workers(2)
        .config(Config { message_bytes_max: 64 * 1024, ..Config::default() })
        .start(|_, _| Numbered)?;
    println!("listening on {}; quit ends it", server.local_addresses()[0]);

    tell_the_time(server.clone());
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "quit" => break,
            "stats" => println!("{:#?}", server.stats()),
            text => tell_all(&server, text),
        }
    }
    server.shutdown(Duration::from_secs(5));
    server.join()?;
    Ok(())
}

/// Sends from a thread that does not belong to the server.
fn tell_the_time(server: ServerHandle) {
    let start = Instant::now();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(10));
            tell_all(&server, &format!("up for {} s", start.elapsed().as_secs()));
        }
    });
}

/// Sends `text` to every client. Waits while a worker has not taken the messages before.
fn tell_all(server: &ServerHandle, text: &str) {
    if let Err(error) = server.blocking_broadcast(text) {
        println!("cannot send {text:?}: {error}");
    }
}

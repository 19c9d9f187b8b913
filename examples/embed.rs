//! The server inside another program: a handler with a state for each connection, counters, a
//! message sent from another thread, and a shutdown.
//!
//! `cargo run --example embed [IP:PORT]`, then talk to it with any WebSocket client, at a path that
//! is your name: each line is answered with its number, and every ten seconds all clients are told
//! how long the server has been up. On standard input, `stats` prints the counters, `quit` or the
//! end of input ends the server, and any other line is sent to all clients.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ws_reactor::{
    CloseEvent, Config, ConnectionInfo, Context, Handler, Message, Peer, PeerId, Reply, Request,
    Response, SendError, Server, ServerHandle, Upgrade,
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
        self.update(|members| _ = members.insert(peer.id()));
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

    fn on_close(
        &mut self,
        _: &mut Context<'_>,
        id: PeerId,
        client: Client,
        event: &CloseEvent<'_>,
    ) {
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
        .start(|_, _| Numbered { members: Arc::clone(&members) })?;
    println!("listening on {}; quit ends it", server.local_addresses()[0]);

    tell_the_time(server.clone(), Arc::clone(&members));
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "quit" => break,
            "stats" => println!("{:#?}", server.stats()),
            text => tell_all(&server, &members, text),
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
            tell_all(&server, &members, &format!("up for {} s", start.elapsed().as_secs()));
        }
    });
}

/// Sends `text` to every client.
fn tell_all(server: &ServerHandle, members: &Members, text: &str) {
    // A copy: a worker that opens or closes a connection must not wait for the end of this loop.
    let peers = members.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for peer in peers {
        match send(server, peer, text) {
            Ok(()) => {}
            Err(SendError::Stale) => {
                members.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
            }
            Err(error) => println!("cannot send to {peer}: {error}"),
        }
    }
}

/// How long a sender pauses while a mailbox is full. A worker takes hundreds of messages meanwhile.
const MAILBOX_PAUSE: Duration = Duration::from_millis(1);

/// Sends `text` to one client, and waits while the mailbox of its worker is full: a loop produces
/// messages faster than a worker sends them. A callback must not wait like this, since the mailbox
/// may be that of its own worker.
fn send(server: &ServerHandle, peer: PeerId, text: &str) -> Result<(), SendError> {
    loop {
        match server.send(peer, text) {
            Err(SendError::MailboxFull) => std::thread::sleep(MAILBOX_PAUSE),
            result => return result,
        }
    }
}

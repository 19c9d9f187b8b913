//! Topics, broadcasts and messages to many connections, on several workers and from threads.

mod support;

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use support::client::{
    Client, DEADLINE, close, connect, dial, dial_narrow, expect_close, request, upgrade,
    wait_until, writing_half,
};
use support::servers::{LOCAL, serve_with, stop};
use tungstenite::Message;
use ws_reactor::{
    CloseCode, CloseEvent, Config, ConnectionInfo, Context, Handler, Peer, PeerId, Reply,
    SendError, ServerHandle, SlowConsumer,
};

const WORKERS: usize = 3;

/// Subscribes everyone to one topic, and publishes each message to it.
struct Lobby {
    opened: Sender<PeerId>,
}

impl Handler for Lobby {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        peer.subscribe("lobby").expect("one topic");
        self.opened.send(peer.id()).expect("the test listens");
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: ws_reactor::Message<'_>) -> Reply {
        assert!(peer.context().publish("lobby", message), "one message is not too much");
        Reply::None
    }

    fn on_close(&mut self, context: &mut Context<'_>, _: PeerId, (): (), _: &CloseEvent<'_>) {
        context.publish("lobby", "left");
    }
}

/// A server with a client on each worker.
fn lobby(config: Config) -> (ServerHandle, Vec<Client>, Vec<PeerId>) {
    let (opened, ids) = channel();
    let server = serve_with(config, WORKERS, || Lobby { opened: opened.clone() });
    let listener = TcpListener::bind(LOCAL).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut peers = Vec::new();
    let clients = (0..WORKERS)
        .map(|worker| {
            let stream = dial(address);
            let (accepted, _) = listener.accept().expect("a client");
            server.adopt(worker, accepted).expect("the worker runs");
            let (client, _) = upgrade(stream, request(address, "/", &[]));
            peers.push(ids.recv_timeout(DEADLINE).expect("the connection opens"));
            client
        })
        .collect();
    (server, clients, peers)
}

fn read(client: &mut Client) -> String {
    client.read().expect("a message").into_text().expect("a text").to_string()
}

/// Ends the server. Each client may get reports of other ends before its close frame.
fn end(server: &ServerHandle, clients: Vec<Client>) {
    server.shutdown(DEADLINE);
    for mut client in clients {
        loop {
            match client.read().expect("a message") {
                Message::Text(text) => assert_eq!(text.as_str(), "left"),
                Message::Close(_) => break,
                other => panic!("not expected: {other:?}"),
            }
        }
    }
    stop(server);
}

#[test]
fn a_published_message_reaches_the_subscribers_of_all_workers() {
    let (server, mut clients, _) = lobby(Config::default());
    for round in 0..100 {
        let from = round % WORKERS;
        clients[from].send(Message::text(format!("{round}"))).unwrap();
        for client in &mut clients {
            assert_eq!(read(client), format!("{round}"));
        }
    }
    let leaver = clients.remove(0);
    close(leaver);
    for client in &mut clients {
        assert_eq!(read(client), "left");
    }
    end(&server, clients);
}

#[test]
fn messages_from_a_thread_arrive_in_order_at_every_subscriber() {
    let (server, mut clients, peers) = lobby(Config::default());
    for number in 0..1000 {
        let text = number.to_string();
        match number % 3 {
            0 => server.publish("lobby", &text).unwrap(),
            1 => server.broadcast(&text).unwrap(),
            _ => assert!(server.send_many(&peers, &text).is_empty()),
        }
    }
    for client in &mut clients {
        (0..1000).for_each(|number| assert_eq!(read(client), number.to_string()));
    }
    assert_eq!(server.stats().messages_out, 3000);
    end(&server, clients);
}

#[test]
fn send_many_reports_stale_connections_and_sends_to_the_others() {
    let (server, mut clients, peers) = lobby(Config::default());
    close(clients.remove(0));
    for client in &mut clients {
        assert_eq!(read(client), "left");
    }
    let unsent = server.send_many(&peers, "news");
    assert_eq!((unsent.stale, unsent.full, unsent.stopped), (vec![peers[0]], vec![], vec![]));
    for client in &mut clients {
        assert_eq!(read(client), "news");
    }
    end(&server, clients);
}

#[test]
fn blocking_calls_lose_nothing_in_small_mailboxes() {
    let config = Config { mailbox_bytes_max: 200, ..Config::default() };
    let (server, mut clients, peers) = lobby(config);
    let sender = thread::spawn({
        let server = server.clone();
        move || {
            for number in 0..3000 {
                let text = number.to_string();
                match number % 3 {
                    0 => server.blocking_publish("lobby", &text).unwrap(),
                    1 => server.blocking_broadcast(&text).unwrap(),
                    _ => peers.iter().for_each(|it| server.blocking_send(*it, &text).unwrap()),
                }
            }
        }
    });
    for client in &mut clients {
        (0..3000).for_each(|number| assert_eq!(read(client), number.to_string()));
    }
    sender.join().unwrap();
    end(&server, clients);
}

#[test]
fn workers_that_publish_to_each_other_through_small_mailboxes_lose_nothing() {
    const MESSAGES: usize = 3000;
    let config = Config { mailbox_bytes_max: 300, ..Config::default() };
    let (server, mut clients, _) = lobby(config);
    let writers: Vec<_> = clients
        .iter()
        .map(writing_half)
        .enumerate()
        .map(|(from, mut client)| {
            thread::spawn(move || {
                for number in 0..MESSAGES {
                    client.write(Message::text(format!("{from} {number}"))).unwrap();
                }
                client.flush().unwrap();
            })
        })
        .collect();
    thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(move || {
                let mut next = [0; WORKERS];
                for _ in 0..WORKERS * MESSAGES {
                    let text = read(client);
                    let (from, number) = text.split_once(' ').expect("two numbers");
                    let next = &mut next[from.parse::<usize>().expect("a number")];
                    assert_eq!(number, next.to_string(), "in order, from {from}");
                    *next += 1;
                }
            });
        }
    });
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(server.stats().refused_publications, 0);
    end(&server, clients);
}

#[test]
fn messages_published_before_a_shutdown_precede_the_close_and_later_ones_are_errors() {
    let (server, mut clients, peers) = lobby(Config::default());
    for number in 0..500 {
        server.publish("lobby", &number.to_string()).unwrap();
    }
    server.shutdown(DEADLINE);
    assert_eq!(server.publish("lobby", "late"), Err(SendError::Stopped));
    assert_eq!(server.blocking_broadcast("late"), Err(SendError::Stopped));
    assert!(matches!(server.send(peers[0], "late"), Err(SendError::Stopped | SendError::Stale)));
    for client in &mut clients {
        (0..500).for_each(|number| assert_eq!(read(client), number.to_string()));
    }
    for client in clients {
        expect_close(client, 1001, "the server is shutting down");
    }
    stop(&server);
}

/// In its first callback, publishes to the other worker more than a mailbox holds.
struct Excessive {
    server: ServerHandle,
    results: Sender<Vec<bool>>,
}

impl Handler for Excessive {
    type State = ();

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
        let payload = "x".repeat(1000);
        let taken = (0..30).map(|_| peer.publish("topic", &payload)).collect();
        self.results.send(taken).expect("the test listens");
        // A callback must not wait for another worker, or for its own.
        let failed = (0..100).find_map(|_| self.server.blocking_broadcast(&payload).err());
        assert_eq!(failed, Some(SendError::MailboxFull));
        Reply::Echo
    }
}

#[test]
fn a_callback_that_publishes_more_than_a_mailbox_holds_is_told_and_counted() {
    let (sender, results) = channel();
    let config = Config { mailbox_bytes_max: 10_000, ..Config::default() };
    let server = ws_reactor::Server::builder()
        .bind(LOCAL)
        .workers(2)
        .config(config)
        .start(|server, _| Excessive { server: server.clone(), results: sender.clone() })
        .expect("the server starts");
    let mut client = connect(support::servers::address(&server));
    client.send(Message::text("go")).unwrap();
    let taken = results.recv_timeout(DEADLINE).unwrap();
    let count = taken.iter().filter(|taken| **taken).count();
    assert!((10..=20).contains(&count), "{count} messages of 1000 bytes were taken");
    assert!(taken[..count].iter().all(|taken| *taken), "the first ones");
    // The broadcasts of the callback, then its echo.
    while read(&mut client) != "go" {}
    wait_until("the worker counts", || server.stats().refused_publications as usize == 30 - count);
    assert_eq!(server.stats().handler_panics, 0);
    drop(client);
    server.shutdown(Duration::ZERO);
    server.join().unwrap();
}

/// Subscribes everyone to the latest message of a topic.
struct Prices;

impl Handler for Prices {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        peer.subscribe_with("prices", SlowConsumer::Latest).expect("one topic");
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
        Reply::Echo
    }
}

#[test]
fn a_slow_subscriber_to_the_latest_message_gets_recent_ones() {
    const MESSAGES: usize = 20_000;
    let server = serve_with(Config::default(), 1, || Prices);
    let address = support::servers::address(&server);
    let stream = dial_narrow(address, 16 * 1024);
    let (mut slow, _) = upgrade(stream, request(address, "/", &[]));
    let mut fast = connect(address);
    let reader = thread::spawn(move || {
        while !read(&mut fast).starts_with(&format!("{} ", MESSAGES - 1)) {}
        fast
    });
    for number in 0..MESSAGES {
        server.blocking_publish("prices", &format!("{number} {}", "x".repeat(1000))).unwrap();
    }
    let fast = reader.join().unwrap();
    let mut numbers = Vec::new();
    while numbers.last() != Some(&(MESSAGES - 1)) {
        let text = read(&mut slow);
        let number = text.split(' ').next().and_then(|it| it.parse().ok()).expect("a number");
        assert!(numbers.last().is_none_or(|last| *last < number), "{number} after {numbers:?}");
        numbers.push(number);
    }
    // Before the newest message there are the few that the kernel held when the backlog began.
    let count = numbers.len();
    assert!(count < 1000, "{count} messages were kept for a peer that did not read");
    server.shutdown(DEADLINE);
    for client in [slow, fast] {
        expect_close(client, 1001, "the server is shutting down");
    }
    let stats = stop(&server);
    assert!(stats.skipped as usize >= MESSAGES - count, "{stats:?}");
}

/// Publishes a message, and shuts the server down in the same callback.
struct LastWords {
    server: ServerHandle,
    opened: Sender<PeerId>,
    closed: Sender<PeerId>,
    /// The first worker's ends of the channels.
    first: Option<(Receiver<PeerId>, Receiver<PeerId>)>,
}

impl Handler for LastWords {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        peer.subscribe("all").expect("one topic");
        self.opened.send(peer.id()).expect("the test listens");
    }

    fn on_message(&mut self, peer: &mut Peer<'_, ()>, message: ws_reactor::Message<'_>) -> Reply {
        let (opened, closed) = self.first.as_ref().expect("the first worker");
        let last = opened.iter().take(WORKERS + 1).last().expect("all are open");
        assert!(peer.context().publish("all", message));
        self.server.shutdown(DEADLINE);
        // Its worker reads the command after it has noticed the shutdown.
        self.server.close(last, CloseCode::NORMAL, "first").expect("it is open");
        assert_eq!(closed.recv_timeout(DEADLINE), Ok(last));
        Reply::None
    }

    fn on_close(&mut self, _: &mut Context<'_>, id: PeerId, (): (), _: &CloseEvent<'_>) {
        let _ = self.closed.send(id);
    }
}

#[test]
fn a_message_published_before_a_shutdown_precedes_the_close_frames_of_other_workers() {
    let (opened, opened_ids) = channel();
    let (closed, closed_ids) = channel();
    let mut first = Some((opened_ids, closed_ids));
    let server = ws_reactor::Server::builder()
        .workers(WORKERS)
        .bind(LOCAL)
        .start(|server, _| LastWords {
            server: server.clone(),
            opened: opened.clone(),
            closed: closed.clone(),
            first: first.take(),
        })
        .expect("the server starts");
    let listener = TcpListener::bind(LOCAL).expect("a free port");
    let address = listener.local_addr().expect("bound");
    // Two on the second worker.
    let mut clients = [0, 2, 1, 1].map(|worker| {
        let stream = dial(address);
        let (accepted, _) = listener.accept().expect("a client");
        server.adopt(worker, accepted).expect("the worker runs");
        upgrade(stream, request(address, "/", &[])).0
    });
    clients[0].send(Message::text("bye")).expect("the server reads");
    let [first, third, second, closed] = clients;
    expect_close(closed, 1000, "first");
    for mut client in [first, second, third] {
        assert_eq!(read(&mut client), "bye");
        expect_close(client, 1001, "the server is shutting down");
    }
    server.join().expect("no worker failed");
    assert_eq!(server.stats().handler_panics, 0);
}

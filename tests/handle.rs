//! The handle of a running server: how other threads use its connections.

mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use support::client::{
    DEADLINE, ask, close, connect, dial, expect_bytes, expect_close, open_raw, request, upgrade,
    wait_until,
};
use support::frames;
use support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use support::servers::{LOCAL, address, serve, serve_with, stop};
use tungstenite::Message;
use ws_reactor::{
    CloseCause, CloseCode, CloseEvent, Config, ConnectionInfo, Context, Echo, Handler, Peer,
    PeerId, Reply, SendError, ServerHandle,
};

/// Reports the ids of its peers, and why their connections end.
struct Register {
    opened: Sender<PeerId>,
    closed: Sender<(PeerId, CloseCause)>,
}

impl Handler for Register {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        self.opened.send(peer.id()).expect("the test listens");
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
        Reply::Echo
    }

    fn on_close(&mut self, _: &mut Context<'_>, id: PeerId, (): (), event: &CloseEvent<'_>) {
        self.closed.send((id, event.cause)).expect("the test listens");
    }
}

/// A server whose peers are known to the test.
struct Registered {
    server: ServerHandle,
    opened: Receiver<PeerId>,
    closed: Receiver<(PeerId, CloseCause)>,
}

fn registered(workers: usize) -> Registered {
    let (opened_sender, opened) = channel();
    let (closed_sender, closed) = channel();
    let server = serve(workers, || Register {
        opened: opened_sender.clone(),
        closed: closed_sender.clone(),
    });
    Registered { server, opened, closed }
}

/// The id of the peer that has just connected.
#[track_caller]
fn id(opened: &Receiver<PeerId>) -> PeerId {
    opened.recv_timeout(DEADLINE).expect("the connection opens")
}

/// Sends, and retries while the mailbox is full.
fn send_with_retries(server: &ServerHandle, peer: PeerId, text: &str) {
    let mut result = Err(SendError::MailboxFull);
    wait_until("the mailbox is not full", || {
        result = server.send(peer, text);
        result != Err(SendError::MailboxFull)
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn messages_of_each_thread_arrive_in_its_order() {
    const THREADS: usize = 4;
    const MESSAGES: usize = 1000;
    let Registered { server, opened, .. } = registered(2);
    let mut client = connect(address(&server));
    let peer = id(&opened);
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let server = server.clone();
            thread::spawn(move || {
                for message in 0..MESSAGES {
                    send_with_retries(&server, peer, &format!("{number} {message}"));
                }
            })
        })
        .collect();
    let mut counts = HashMap::new();
    for _ in 0..THREADS * MESSAGES {
        let text = client.read().expect("a message").into_text().expect("text");
        let (number, message) = text.split_once(' ').expect("two numbers");
        let count = counts.entry(number.to_owned()).or_insert(0);
        assert_eq!(message.parse(), Ok(*count), "of thread {number}");
        *count += 1;
    }
    threads.into_iter().for_each(|thread| thread.join().expect("everything is sent"));
    ask(&mut client, "the last message", "the last message");
    close(client);
    assert_eq!(stop(&server).messages_out, (THREADS * MESSAGES) as u64 + 1);
}

#[test]
fn a_message_reaches_only_its_connection() {
    let Registered { server, opened, .. } = registered(2);
    let mut clients = Vec::new();
    for number in 0..20 {
        let client = connect(address(&server));
        let peer = id(&opened);
        clients.push((number, client, peer));
    }
    for (number, _, peer) in &clients {
        server.send(*peer, format!("text {number}").as_str()).unwrap();
        server.send(*peer, &[*number; 70_000][..]).unwrap();
    }
    for (number, mut client, _) in clients {
        assert_eq!(client.read().unwrap(), Message::text(format!("text {number}")));
        assert_eq!(client.read().unwrap(), Message::binary(vec![number; 70_000]));
        close(client);
    }
    stop(&server);
}

#[test]
fn a_close_from_another_thread_follows_earlier_messages() {
    let Registered { server, opened, closed } = registered(1);
    let mut client = connect(address(&server));
    let peer = id(&opened);
    let other_thread = thread::spawn({
        let server = server.clone();
        move || {
            server.send(peer, "last words")?;
            server.close(peer, CloseCode::TRY_AGAIN_LATER, "come back")?;
            // The connection may have ended by now. In any case the message is not delivered.
            let _ = server.send(peer, "not delivered");
            Ok::<_, SendError>(())
        }
    });
    assert_eq!(client.read().unwrap(), Message::text("last words"));
    expect_close(client, 1013, "come back");
    other_thread.join().unwrap().unwrap();
    assert_eq!(closed.recv_timeout(DEADLINE).unwrap(), (peer, CloseCause::Local));
    stop(&server);
}

#[test]
fn an_id_stays_stale_after_its_connection_has_ended() {
    let Registered { server, opened, .. } = registered(1);
    close(connect(address(&server)));
    let stale = id(&opened);
    wait_until("the id is stale", || server.send(stale, "hello") == Err(SendError::Stale));
    assert_eq!(server.close(stale, CloseCode::NORMAL, ""), Err(SendError::Stale));
    for _ in 0..10 {
        // A new connection in the same slot must not be reached by the old id.
        let mut client = connect(address(&server));
        let peer = id(&opened);
        assert_ne!(peer, stale);
        assert_eq!(server.send(stale, "hello"), Err(SendError::Stale));
        server.send(peer, "to you").unwrap();
        assert_eq!(client.read().unwrap(), Message::text("to you"));
        close(client);
        wait_until("it has ended", || server.stats().ended == server.stats().accepted);
    }
    stop(&server);
}

#[test]
fn an_id_is_stale_once_the_close_callback_has_been_called() {
    let Registered { server, opened, closed } = registered(1);
    // The server still waits for the end of each stream, so neither TCP connection has ended.
    let mut closes = open_raw(address(&server));
    let first = id(&opened);
    closes.write_all(&frames::client(frames::CLOSE, b"").bytes()).unwrap();
    assert_eq!(closed.recv_timeout(DEADLINE).unwrap(), (first, CloseCause::Peer));
    assert_eq!(server.send(first, "hello"), Err(SendError::Stale));
    assert_eq!(server.close(first, CloseCode::NORMAL, ""), Err(SendError::Stale));
    let mut breaks = open_raw(address(&server));
    let second = id(&opened);
    breaks.write_all(&frames::client(frames::TEXT, b"no mask").unmasked().bytes()).unwrap();
    let (peer, cause) = closed.recv_timeout(DEADLINE).unwrap();
    assert!(peer == second && matches!(cause, CloseCause::Protocol(_)), "{peer}: {cause}");
    assert_eq!(server.send(second, "hello"), Err(SendError::Stale));
    assert_eq!(server.close(second, CloseCode::NORMAL, ""), Err(SendError::Stale));
    assert_eq!(server.backlog_bytes(second), Err(SendError::Stale));
    drop((closes, breaks));
    assert_eq!(stop(&server).stale_sends, 0, "nothing was posted");
}

#[test]
fn an_id_of_another_server_is_stale() {
    let (one, two) = (registered(1), registered(1));
    let mut first = connect(address(&one.server));
    let mut second = connect(address(&two.server));
    let (first_id, second_id) = (id(&one.opened), id(&two.opened));
    assert_eq!(first_id.to_string(), second_id.to_string(), "worker, slot and generation agree");
    assert_ne!(first_id, second_id);
    assert_eq!(two.server.send(first_id, "hello"), Err(SendError::Stale));
    assert_eq!(two.server.close(first_id, CloseCode::NORMAL, ""), Err(SendError::Stale));
    assert_eq!(two.server.backlog_bytes(first_id), Err(SendError::Stale));
    assert_eq!(one.server.send(second_id, "hello"), Err(SendError::Stale));
    for (server, peer, client) in
        [(&one.server, first_id, &mut first), (&two.server, second_id, &mut second)]
    {
        server.send(peer, "to you").unwrap();
        assert_eq!(client.read().unwrap(), Message::text("to you"));
    }
    close(first);
    close(second);
    stop(&one.server);
    stop(&two.server);
}

#[test]
fn a_stopped_server_rejects_commands() {
    let Registered { server, opened, closed } = registered(1);
    let mut client = connect(address(&server));
    let peer = id(&opened);
    server.shutdown(Duration::ZERO);
    server.join().unwrap();
    assert_eq!(closed.recv_timeout(DEADLINE).unwrap(), (peer, CloseCause::Shutdown));
    assert_eq!(server.send(peer, "hello"), Err(SendError::Stale));
    let listener = TcpListener::bind(LOCAL).unwrap();
    let _client = dial(listener.local_addr().unwrap());
    let error = server.adopt(0, listener.accept().unwrap().0).unwrap_err();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<SendError>());
    assert_eq!(inner, Some(&SendError::Stopped));
    match client.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("not a close frame: {other:?}"),
    }
    stop(&server);
}

#[test]
fn a_full_mailbox_is_an_error_and_its_commands_are_still_executed() {
    /// Blocks in a callback until the test continues.
    struct Stuck {
        opened: Sender<PeerId>,
        stuck: Sender<()>,
        go_on: Receiver<()>,
    }

    impl Handler for Stuck {
        type State = ();

        fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
            self.opened.send(peer.id()).expect("the test listens");
        }

        fn on_message(&mut self, _: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
            self.stuck.send(()).expect("the test listens");
            self.go_on.recv_timeout(DEADLINE).expect("the test continues");
            Reply::Echo
        }
    }

    let (opened_sender, opened) = channel();
    let (stuck_sender, stuck) = channel();
    let (go_on, receiver) = channel();
    let mut handler = Some(Stuck { opened: opened_sender, stuck: stuck_sender, go_on: receiver });
    let config = Config { mailbox_bytes_max: 200, ..Config::default() };
    let server = serve_with(config, 1, || handler.take().expect("one worker"));
    let mut client = connect(address(&server));
    let peer = id(&opened);
    client.send(Message::text("echo")).unwrap();
    stuck.recv_timeout(DEADLINE).unwrap();
    let taken = (0..20).take_while(|_| server.send(peer, "news").is_ok()).count();
    assert!((1..20).contains(&taken), "{taken} of 20 messages fit into 200 bytes");
    assert_eq!(server.send(peer, "news"), Err(SendError::MailboxFull));
    assert_eq!(server.broadcast("news"), Err(SendError::MailboxFull));
    assert_eq!(server.publish("topic", "news"), Err(SendError::MailboxFull));
    let unsent = server.send_many(&[peer], "news");
    assert_eq!((unsent.stale, unsent.full, unsent.stopped), (vec![], vec![peer], vec![]));
    assert_eq!(server.close(peer, CloseCode::NORMAL, "a reason"), Err(SendError::MailboxFull));
    go_on.send(()).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("echo"));
    for _ in 0..taken {
        assert_eq!(client.read().unwrap(), Message::text("news"));
    }
    send_with_retries(&server, peer, "fourth");
    assert_eq!(client.read().unwrap(), Message::text("fourth"));
    close(client);
    stop(&server);
}

#[test]
fn a_socket_accepted_elsewhere_is_adopted_by_the_given_worker() {
    /// Sends the number of its worker.
    struct Numbered(usize);

    impl Handler for Numbered {
        type State = ();

        fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
            peer.send(self.0.to_string().as_str());
        }

        fn on_message(&mut self, _: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
            Reply::Echo
        }
    }

    let numbers = Mutex::new(0..);
    let server = serve(2, || Numbered(numbers.lock().unwrap().next().expect("no end")));
    let listener = TcpListener::bind(LOCAL).unwrap();
    let elsewhere = listener.local_addr().unwrap();
    for number in 0..6_usize {
        let stream = dial(elsewhere);
        server.adopt(number, listener.accept().unwrap().0).unwrap();
        let (mut client, _) = upgrade(stream, request(elsewhere, "/", &[]));
        assert_eq!(client.read().unwrap(), Message::text((number % 2).to_string()));
        ask(&mut client, "hello", "hello");
        close(client);
    }
    let stats = stop(&server);
    assert_eq!((stats.accepted, stats.opened), (6, 6));
}

#[test]
fn input_received_before_adoption_is_read() {
    let server = serve(1, || Echo);
    let listener = TcpListener::bind(LOCAL).unwrap();
    let mut stream = dial(listener.local_addr().unwrap());
    let frame = frames::client(frames::TEXT, b"early").bytes();
    stream.write_all(&[GOOD_REQUEST, &frame].concat()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    // The whole request arrives before the server has the socket.
    let mut peeked = vec![0; GOOD_REQUEST.len() + frame.len()];
    wait_until("the request has arrived", || accepted.peek(&mut peeked).unwrap() == peeked.len());
    server.adopt(0, accepted).unwrap();
    expect_bytes(&mut stream, GOOD_RESPONSE);
    expect_bytes(&mut stream, &frames::server(frames::TEXT, b"early").bytes());
    drop(stream);
    stop(&server);
}

/// Announces every client of its worker to all the others.
struct Announcer {
    server: ServerHandle,
    worker: usize,
    peers: std::sync::Arc<Mutex<Vec<PeerId>>>,
}

impl Handler for Announcer {
    type State = ();

    fn on_open(&mut self, peer: &mut Peer<'_, ()>, _: ConnectionInfo<'_>) {
        let mut peers = self.peers.lock().expect("no callback panics");
        for other in &*peers {
            let text = format!("a client of worker {}", self.worker);
            self.server.send(*other, text.as_str()).expect("the mailbox is not full");
        }
        peers.push(peer.id());
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
        Reply::Echo
    }
}

#[test]
fn a_handler_is_made_with_the_servers_handle_and_its_workers_number() {
    let peers = std::sync::Arc::default();
    let mut made = Vec::new();
    let server = ws_reactor::Server::builder().bind(LOCAL).workers(3).start(|server, worker| {
        made.push(worker);
        let peers = std::sync::Arc::clone(&peers);
        Announcer { server: server.clone(), worker, peers }
    });
    let server = server.expect("the server starts");
    assert_eq!(made, [0, 1, 2]);
    let mut first = connect(address(&server));
    let second = connect(address(&server));
    let text = first.read().expect("the second is announced").into_text().expect("as text");
    assert!(["0", "1", "2"].iter().any(|worker| text == format!("a client of worker {worker}")));
    drop((first, second));
    stop(&server);
}

#[test]
fn a_server_outlives_its_handles() {
    let server = serve(2, || Echo);
    let address = address(&server);
    let mut before = connect(address);
    let clone = server.clone();
    drop(server);
    ask(&mut before, "one handle left", "one handle left");
    drop(clone);
    ask(&mut before, "no handle left", "no handle left");
    for _ in 0..10 {
        let mut after = connect(address);
        ask(&mut after, "hello", "hello");
        close(after);
    }
    close(before);
}

#[test]
fn commands_sent_before_the_last_handle_is_dropped_are_executed() {
    for _ in 0..100 {
        let Registered { server, opened, closed } = registered(1);
        let mut client = connect(address(&server));
        let peer = id(&opened);
        server.send(peer, "first").unwrap();
        server.shutdown(DEADLINE);
        drop(server);
        assert_eq!(client.read().unwrap(), Message::text("first"));
        expect_close(client, 1001, "the server is shutting down");
        assert_eq!(closed.recv_timeout(DEADLINE).unwrap(), (peer, CloseCause::Local));
    }
}

#[test]
fn another_thread_sees_how_much_a_peer_has_not_received() {
    let Registered { server, opened, .. } = registered(1);
    let mut client = connect(address(&server));
    let peer = id(&opened);
    assert_eq!(server.backlog_bytes(peer), Ok(0));
    let chunk = vec![7; 64 * 1024];
    let mut sent = 0;
    wait_until("the kernel takes no more", || {
        if server.stats().messages_out == sent && server.backlog_bytes(peer) == Ok(0) {
            server.send(peer, &chunk[..]).expect("the mailbox is empty");
            sent += 1;
        }
        server.backlog_bytes(peer).expect("the peer is open") > 0
    });
    for _ in 0..sent {
        assert!(client.read().expect("a message").into_data() == chunk);
    }
    wait_until("all is received", || server.backlog_bytes(peer) == Ok(0));
    close(client);
    stop(&server);
}

#[test]
fn sending_more_than_a_peer_receives_drops_only_that_peer() {
    let Registered { server, opened, closed } = registered(1);
    let mut other = connect(address(&server));
    id(&opened);
    let mut stream = open_raw(address(&server));
    let peer = id(&opened);
    let chunk = vec![7; 1024 * 1024];
    // The kernel accepts some mebibytes and the backlog one more; then the connection is dropped.
    wait_until("the peer is dropped", || server.send(peer, &chunk[..]) == Err(SendError::Stale));
    assert_eq!(closed.recv_timeout(DEADLINE).unwrap(), (peer, CloseCause::BacklogOverflow));
    ask(&mut other, "still here", "still here");
    // The stream may end inside a frame, but has no wrong byte.
    let frame = frames::server(frames::BINARY, &chunk).bytes();
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    assert!(!received.is_empty());
    for (index, piece) in received.chunks(frame.len()).enumerate() {
        assert!(frame.starts_with(piece), "frame {index}");
    }
    close(other);
    assert_eq!(stop(&server).backlog_overflows, 1);
}

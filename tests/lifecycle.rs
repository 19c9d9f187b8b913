//! The callbacks of a connection, in order: request, open, messages, close.

mod support;

use std::io::{ErrorKind, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime};

use support::client::{
    DEADLINE, ask, close, connect, dial, exchange, expect_bytes, expect_close,
    expect_end_without_close, half_close, open_raw, read_all, refused, request, reset, upgrade,
    wait_until, writing_half,
};
use support::frames;
use support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use support::servers::{address, serve, serve_with, stop};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode as TheirCloseCode;
use ws_reactor::{
    Accept, CloseCause, CloseCode, CloseEvent, Config, ConnectionInfo, Context, Echo, Handler,
    Peer, PeerId, Reply, Request, Response, Upgrade,
};

/// Reports every callback.
struct Recorder {
    events: Sender<Seen>,
}

/// A recorded callback.
#[derive(Debug, Eq, PartialEq)]
enum Seen {
    Request { path: String, query: Option<String> },
    Open(PeerId),
    Message { path: String, number: u32, text: String },
    Close { id: PeerId, messages: u32, code: u16, reason: String, cause: CloseCause },
}

/// The recorder's state for a connection.
#[derive(Default)]
struct Visit {
    path: String,
    messages: u32,
}

impl Recorder {
    fn saw(&self, event: Seen) {
        self.events.send(event).expect("the test listens");
    }
}

/// Both ends of a connection of these tests are on this machine.
fn assert_loopback(info: ConnectionInfo<'_>) {
    let local = info.local_address().expect("a connected socket");
    for end in [info.peer_address(), &local] {
        assert!(end.as_tcp().is_some_and(|end| end.ip().is_loopback()), "{end}");
    }
}

impl Handler for Recorder {
    type State = Visit;

    fn on_request(&mut self, request: &Request<'_>, info: ConnectionInfo<'_>) -> Upgrade<Visit> {
        assert_loopback(info);
        let path = request.path().to_owned();
        self.saw(Seen::Request { path, query: request.query().map(str::to_owned) });
        Upgrade::accept(Visit { path: request.path().to_owned(), messages: 0 })
    }

    fn on_open(&mut self, peer: &mut Peer<'_, Visit>, info: ConnectionInfo<'_>) {
        assert_loopback(info);
        assert!(peer.is_open());
        peer.send(format!("welcome to {}", peer.state.path).as_str());
        self.saw(Seen::Open(peer.id()));
    }

    fn on_message(
        &mut self,
        peer: &mut Peer<'_, Visit>,
        message: ws_reactor::Message<'_>,
    ) -> Reply {
        peer.state.messages += 1;
        self.saw(Seen::Message {
            path: peer.state.path.clone(),
            number: peer.state.messages,
            text: String::from_utf8_lossy(message.as_bytes()).into_owned(),
        });
        Reply::Echo
    }

    fn on_close(&mut self, _: &mut Context<'_>, id: PeerId, state: Visit, event: &CloseEvent<'_>) {
        self.saw(Seen::Close {
            id,
            messages: state.messages,
            code: event.code.value(),
            reason: event.reason.to_owned(),
            cause: event.cause,
        });
    }
}

/// Returns a factory of recorders, and the receiver of their callbacks.
fn recorder() -> (impl Fn() -> Recorder, Receiver<Seen>) {
    let (sender, events) = channel();
    (move || Recorder { events: sender.clone() }, events)
}

#[track_caller]
fn next(events: &Receiver<Seen>) -> Seen {
    events.recv_timeout(DEADLINE).expect("a callback")
}

#[track_caller]
fn next_open(events: &Receiver<Seen>) -> PeerId {
    loop {
        if let Seen::Open(id) = next(events) {
            return id;
        }
    }
}

/// The code, reason and cause of the next connection that ends.
#[track_caller]
fn next_close(events: &Receiver<Seen>) -> (u16, String, CloseCause) {
    loop {
        if let Seen::Close { code, reason, cause, .. } = next(events) {
            return (code, reason, cause);
        }
    }
}

fn message(path: &str, number: u32, text: &str) -> Seen {
    Seen::Message { path: path.to_owned(), number, text: text.to_owned() }
}

#[test]
fn callbacks_are_in_order_and_have_the_state_of_their_connection() {
    let (make, events) = recorder();
    let server = serve(1, make);
    let address = address(&server);
    let mut clients = Vec::new();
    let mut ids = Vec::new();
    for (target, path, query) in [("/a", "/a", None), ("/b?c=d", "/b", Some("c=d"))] {
        let (mut client, _) = upgrade(dial(address), request(address, target, &[]));
        assert_eq!(client.read().unwrap(), Message::text(format!("welcome to {path}")));
        let query = query.map(str::to_owned);
        assert_eq!(next(&events), Seen::Request { path: path.to_owned(), query });
        match next(&events) {
            Seen::Open(id) => ids.push(id),
            other => panic!("not an open: {other:?}"),
        }
        clients.push(client);
    }
    assert_ne!(ids[0], ids[1]);
    ask(&mut clients[0], "one", "one");
    ask(&mut clients[1], "eins", "eins");
    ask(&mut clients[0], "two", "two");
    let code = TheirCloseCode::from(4321);
    let frame = CloseFrame { code, reason: "so long".into() };
    clients[0].send(Message::Close(Some(frame))).unwrap();
    for expected in [message("/a", 1, "one"), message("/b", 1, "eins"), message("/a", 2, "two")] {
        assert_eq!(next(&events), expected);
    }
    let (code, reason, cause) = (4321, "so long".to_owned(), CloseCause::Peer);
    assert_eq!(next(&events), Seen::Close { id: ids[0], messages: 2, code, reason, cause });
    ask(&mut clients[1], "zwei", "zwei");
    assert_eq!(next(&events), message("/b", 2, "zwei"));
    drop(clients);
    let (code, reason, cause) = (1006, String::new(), CloseCause::EndOfStream);
    assert_eq!(next(&events), Seen::Close { id: ids[1], messages: 2, code, reason, cause });
    stop(&server);
    assert!(events.try_recv().is_err(), "on_close is the last callback");
}

#[test]
fn a_close_frame_without_a_code_is_reported_as_1005() {
    let (make, events) = recorder();
    let server = serve(1, make);
    let mut client = connect(address(&server));
    client.close(None).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("welcome to /"));
    assert_eq!(client.read().unwrap(), Message::Close(None), "the answer has no code either");
    assert_eq!(next_close(&events), (1005, String::new(), CloseCause::Peer));
    drop(client);
    stop(&server);
}

/// Always chooses the given subprotocol, whether offered or not.
struct Chooser(&'static str);

impl Handler for Chooser {
    type State = ();

    fn on_request(&mut self, _: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<()> {
        let accept = Accept::default().protocol(self.0).header("X-Served-By", "worker seven");
        Upgrade::Accept(accept.header("Set-Cookie", "a=b").header("Set-Cookie", "c=d"), ())
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
        Reply::Echo
    }
}

#[test]
fn the_101_has_the_chosen_subprotocol_and_extra_headers() {
    let server = serve(1, || Chooser("superchat"));
    let address = address(&server);
    let offers = [("Sec-WebSocket-Protocol", "chat, superchat")];
    let (mut client, response) = upgrade(dial(address), request(address, "/", &offers));
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], "superchat");
    assert_eq!(response.headers()["x-served-by"], "worker seven");
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=b", "c=d"]);
    ask(&mut client, "hello", "hello");
    close(client);
    assert_eq!(stop(&server).refused, 0);
}

#[test]
fn a_subprotocol_that_was_not_offered_is_answered_500() {
    let server = serve(1, || Chooser("superchat"));
    let address = address(&server);
    let offers = [("Sec-WebSocket-Protocol", "chat")];
    assert_eq!(refused(dial(address), request(address, "/", &offers)), 500);
    assert_eq!(refused(dial(address), request(address, "/", &[])), 500);
    let stats = stop(&server);
    assert_eq!((stats.refused, stats.opened), (2, 0));
}

/// Accepts pages of one origin, and answers health checks.
struct OriginCheck;

impl Handler for OriginCheck {
    type State = ();

    fn on_request(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Upgrade<()> {
        match request.header("Origin") {
            Some(b"https://example.com") => Upgrade::accept(()),
            Some(_) => Upgrade::reject(403, "unknown origin"),
            None => Upgrade::Reject(
                Response::new(401)
                    .header("WWW-Authenticate", "Basic realm=\"tests\"")
                    .body("who are you?"),
            ),
        }
    }

    fn on_http(&mut self, request: &Request<'_>, _: ConnectionInfo<'_>) -> Option<Response> {
        (request.path() == "/health").then(|| Response::text(200, "ok"))
    }

    fn on_message(&mut self, _: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
        Reply::Echo
    }
}

#[test]
fn only_the_allowed_origin_is_accepted() {
    let server = serve(1, || OriginCheck);
    let address = address(&server);
    let from = |origin| request(address, "/", &[("Origin", origin)]);
    assert_eq!(refused(dial(address), from("https://example.com.evil.test")), 403);
    assert_eq!(refused(dial(address), from("null")), 403);
    let (mut client, _) = upgrade(dial(address), from("https://example.com"));
    ask(&mut client, "hello", "hello");
    close(client);
    let stats = stop(&server);
    assert_eq!((stats.refused, stats.opened), (2, 1));
}

/// A response without its `Date` line, which must hold the current time.
#[track_caller]
fn undated(response: &str) -> String {
    let mut date = None;
    let mut rest = String::new();
    for line in response.split_inclusive("\r\n") {
        match line.strip_prefix("Date: ") {
            Some(value) => date = Some(value.trim_end()),
            None => rest.push_str(line),
        }
    }
    let date = httpdate::parse_http_date(date.expect("a date")).expect("an HTTP date");
    let now = SystemTime::now();
    let age = now.duration_since(date).unwrap_or_else(|error| error.duration());
    assert!(age < Duration::from_secs(60), "{response}");
    rest
}

#[test]
fn a_rejection_has_its_status_headers_and_body() {
    let server = serve(1, || OriginCheck);
    let mut stream = dial(address(&server));
    stream.write_all(GOOD_REQUEST).unwrap();
    assert_eq!(
        undated(&read_all(&mut stream)),
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"tests\"\r\n\
         Content-Length: 12\r\nConnection: close\r\n\r\nwho are you?"
    );
    drop(stream);
    stop(&server);
}

#[test]
fn plain_http_is_answered_by_the_handler_or_with_426() {
    let server = serve(1, || OriginCheck);
    let get = |path| {
        exchange(address(&server), &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    };
    assert_eq!(
        undated(&get("/health")),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\
         Connection: close\r\n\r\nok\n"
    );
    let other = get("/other");
    assert!(other.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{other}");
    assert!(other.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{other}");
    assert!(other.contains("\r\nUpgrade: websocket\r\n"), "{other}");
    let stats = stop(&server);
    assert_eq!((stats.answered, stats.refused, stats.opened), (1, 1, 0));
}

#[test]
fn frames_sent_with_the_request_are_answered_after_the_greeting() {
    let (make, events) = recorder();
    let server = serve(1, make);
    let mut stream = dial(address(&server));
    let first = frames::client(frames::TEXT, b"early").bytes();
    let second = frames::client(frames::BINARY, &[7; 300]).bytes();
    // The second frame is incomplete at first.
    let (start, rest) = second.split_at(100);
    stream.write_all(&[GOOD_REQUEST, &first, start].concat()).unwrap();
    expect_bytes(&mut stream, GOOD_RESPONSE);
    expect_bytes(&mut stream, &frames::server(frames::TEXT, b"welcome to /chat").bytes());
    expect_bytes(&mut stream, &frames::server(frames::TEXT, b"early").bytes());
    stream.write_all(rest).unwrap();
    expect_bytes(&mut stream, &frames::server(frames::BINARY, &[7; 300]).bytes());
    assert_eq!(next(&events), Seen::Request { path: "/chat".to_owned(), query: None });
    assert!(matches!(next(&events), Seen::Open(_)));
    assert_eq!(next(&events), message("/chat", 1, "early"));
    drop(stream);
    stop(&server);
}

#[test]
fn all_echoes_arrive_after_a_half_close() {
    const MESSAGES: usize = 2000;
    let (make, events) = recorder();
    let server = serve(1, make);
    let mut client = connect(address(&server));
    assert_eq!(client.read().unwrap(), Message::text("welcome to /"));
    let mut writer = writing_half(&client);
    let text = |number: usize| format!("{number}:{}", "x".repeat(number));
    let writer = thread::spawn(move || {
        for number in 0..MESSAGES {
            writer.write(Message::text(text(number))).expect("the server reads");
        }
        writer.flush().expect("the server reads");
        half_close(writer.get_ref());
    });
    for number in 0..MESSAGES {
        assert_eq!(client.read().expect("an echo"), Message::text(text(number)));
    }
    writer.join().expect("everything is written");
    expect_end_without_close(&mut client);
    assert_eq!(next_close(&events), (1006, String::new(), CloseCause::EndOfStream));
    // The peer has ended its direction, so the server ends the connection without waiting.
    wait_until("the connection has ended", || server.stats().ended == 1);
    stop(&server);
}

#[test]
fn a_reset_ends_the_connection() {
    let (make, events) = recorder();
    let server = serve(1, make);
    for _ in 0..20 {
        let stream = open_raw(address(&server));
        let id = next_open(&events);
        reset(stream);
        match next(&events) {
            Seen::Close { id: closed, code, cause, .. } => {
                let reset = CloseCause::Transport(ErrorKind::ConnectionReset);
                assert_eq!((closed, code, cause), (id, 1006, reset));
            }
            other => panic!("not a close: {other:?}"),
        }
    }
    // One connection inside its request, and one before it.
    let mut stream = dial(address(&server));
    stream.write_all(&GOOD_REQUEST[..50]).unwrap();
    reset(stream);
    reset(dial(address(&server)));
    wait_until("all connections have ended", || {
        let stats = server.stats();
        stats.accepted == 22 && stats.ended == 22
    });
    let stats = stop(&server);
    assert_eq!((stats.opened, stats.closed), (20, 20));
}

#[test]
fn a_handler_closes_with_its_code_and_the_peer_answers() {
    /// Closes each connection on its first message.
    struct Goodbye(Sender<(u16, CloseCause)>);

    impl Handler for Goodbye {
        type State = ();

        fn on_message(&mut self, peer: &mut Peer<'_, ()>, _: ws_reactor::Message<'_>) -> Reply {
            peer.send("last words");
            peer.close(CloseCode::new(4000).expect("an application's code"), "enough");
            assert!(!peer.is_open());
            peer.send("not delivered");
            Reply::Echo
        }

        fn on_close(&mut self, _: &mut Context<'_>, _: PeerId, (): (), event: &CloseEvent<'_>) {
            self.0.send((event.code.value(), event.cause)).expect("the test listens");
        }
    }

    let (sender, events) = channel();
    let server = serve(1, || Goodbye(sender.clone()));
    let mut client = connect(address(&server));
    client.write(Message::text("hello")).unwrap();
    client.send(Message::text("dropped")).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("last words"));
    expect_close(client, 4000, "enough");
    assert_eq!(events.recv_timeout(DEADLINE).unwrap(), (4000, CloseCause::Local));
    let stats = stop(&server);
    assert_eq!((stats.messages_in, stats.messages_out), (1, 1));
}

#[test]
fn connections_beyond_the_limit_are_answered_503_until_one_ends() {
    let config = Config { connections_max: Some(2), ..Config::default() };
    let server = serve_with(config, 2, || Echo);
    let first = connect(address(&server));
    let mut second = connect(address(&server));
    let refusal = read_all(&mut dial(address(&server)));
    assert!(refusal.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{refusal}");
    assert!(refusal.ends_with("\r\n\r\ntoo many connections\n"), "{refusal}");
    ask(&mut second, "still here", "still here");
    close(first);
    wait_until("the first has ended", || server.stats().ended == 2);
    let mut third = connect(address(&server));
    ask(&mut third, "accepted", "accepted");
    drop((second, third));
    let stats = stop(&server);
    assert_eq!((stats.turned_away, stats.accepted, stats.opened), (1, 4, 3));
}

#[test]
fn the_connections_of_an_address_are_counted_over_all_workers() {
    const MAX: u32 = 5;
    let config = Config { connections_per_ip_max: Some(MAX), ..Config::default() };
    let server = serve_with(config, 4, || Echo);
    let mut clients: Vec<_> = (0..MAX).map(|_| connect(address(&server))).collect();
    for _ in 0..20 {
        let refusal = read_all(&mut dial(address(&server)));
        assert!(refusal.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{refusal}");
    }
    for _ in 0..20 {
        close(clients.remove(0));
        wait_until("the others are left", || {
            let stats = server.stats();
            stats.accepted - stats.ended == u64::from(MAX - 1)
        });
        clients.push(connect(address(&server)));
        let refusal = read_all(&mut dial(address(&server)));
        assert!(refusal.starts_with("HTTP/1.1 429 "), "{refusal}");
    }
    drop(clients);
    assert_eq!(stop(&server).turned_away, 40);
}

//! Starting a server, errors at the start, and the counters at the end.

mod support;

use std::error::Error;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use support::client::{DEADLINE, ask, close, connect, dial, exchange, wait_until};
use support::messages::random_message;
use support::rng::{Rng, seed};
use support::servers::{LOCAL, address, local, serve, serve_with, stop};

use ws_reactor::{
    CloseCode, Config, ConfigError, Echo, Handler, HandshakeFailure, Message, Peer, Reply, Server,
    ServerBuilder, StartError, Stats,
};

#[track_caller]
fn start_error(builder: ServerBuilder) -> StartError {
    builder.start(|_, _| Echo).expect_err("it cannot start")
}

#[track_caller]
fn expect_in_use(error: &StartError, taken: SocketAddr) {
    match error {
        StartError::Bind { address, source } => {
            assert_eq!(address.as_tcp(), Some(taken));
            assert_eq!(source.kind(), ErrorKind::AddrInUse);
        }
        other => panic!("not the address: {other:?}"),
    }
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    assert!(error.source().is_some());
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let listener = TcpListener::bind(LOCAL).unwrap();
    let taken = listener.local_addr().unwrap();
    expect_in_use(&start_error(Server::builder().bind(taken)), taken);
    expect_in_use(&start_error(Server::builder().bind(taken).share_port(true)), taken);
}

#[test]
fn a_second_server_on_an_address_is_an_error() {
    let first = serve(2, || Echo);
    let taken = address(&first);
    expect_in_use(&start_error(Server::builder().bind(taken).workers(1)), taken);
    for _ in 0..20 {
        let mut client = connect(taken);
        ask(&mut client, "hello", "hello");
        close(client);
    }
    assert_eq!(stop(&first).opened, 20);
}

#[test]
fn the_same_address_twice_is_an_error() {
    let listener = TcpListener::bind(local(8)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    expect_in_use(&start_error(Server::builder().bind(address).bind(address)), address);
}

#[test]
fn a_server_that_does_not_start_releases_its_addresses() {
    let free = TcpListener::bind(local(9)).unwrap().local_addr().unwrap();
    let listener = TcpListener::bind(LOCAL).unwrap();
    let taken = listener.local_addr().unwrap();
    expect_in_use(&start_error(Server::builder().bind(free).bind(taken)), taken);
    let server = Server::builder().bind(free).workers(2).start(|_, _| Echo);
    stop(&server.expect("the first address is free again"));
}

#[test]
fn two_servers_can_share_a_port() {
    // Each connection goes to either with equal probability: 2^-200 that one gets none.
    const CONNECTIONS_MAX: usize = 200;
    let first = serve(1, || Echo);
    let shared = address(&first);
    let builder = Server::builder().bind(shared).workers(1).share_port(true);
    let second = builder.start(|_, _| Echo).expect("the port is shared");
    assert_eq!(address(&second), shared);
    let connections = (1..=CONNECTIONS_MAX).find(|_| {
        let mut client = connect(shared);
        ask(&mut client, "hello", "hello");
        close(client);
        first.stats().opened > 0 && second.stats().opened > 0
    });
    let connections = connections.expect("both get some of the connections");
    assert_eq!(stop(&first).opened + stop(&second).opened, connections as u64);
}

#[test]
fn a_server_needs_a_worker() {
    let error = start_error(Server::builder().bind(LOCAL).workers(0));
    assert!(matches!(error, StartError::NoWorker), "{error:?}");
    assert!(error.source().is_none());
    for workers in [4097, usize::MAX] {
        let error = start_error(Server::builder().bind(LOCAL).workers(workers));
        assert!(matches!(error, StartError::TooManyWorkers), "{error:?}");
    }
}

#[test]
fn invalid_settings_are_an_error_before_anything_starts() {
    let config = Config { idle_timeout: Duration::ZERO, ..Config::default() };
    let listener = TcpListener::bind(LOCAL).unwrap();
    // The settings are checked first, before binding the address, which is in use.
    let builder = Server::builder().bind(listener.local_addr().unwrap()).config(config);
    let mut handlers = 0;
    let error = builder.start(|_, _| {
        handlers += 1;
        Echo
    });
    match error.expect_err("it cannot start") {
        StartError::Config(error) => assert_eq!(error, ConfigError::Zero("idle_timeout")),
        other => panic!("not the settings: {other:?}"),
    }
    assert_eq!(handlers, 0);
    let config = Config { backlog_bytes_low: 1 << 20, ..Config::default() };
    let error = start_error(Server::builder().bind(LOCAL).config(config));
    assert_eq!(error.to_string(), "backlog_bytes_low must not be above backlog_bytes_high");
}

#[test]
fn the_kernel_queues_as_many_connections_as_configured() {
    const BACKLOG: u32 = 4;

    /// Blocks its worker until the test continues.
    struct Busy {
        busy: Sender<()>,
        go_on: Receiver<()>,
    }

    impl Handler for Busy {
        type State = ();

        fn on_message(&mut self, _: &mut Peer<'_, ()>, _: Message<'_>) -> Reply {
            self.busy.send(()).expect("the test listens");
            self.go_on.recv_timeout(DEADLINE).expect("the test continues");
            Reply::Echo
        }
    }

    let (busy_sender, busy) = channel();
    let (go_on, receiver) = channel();
    let mut handler = Some(Busy { busy: busy_sender, go_on: receiver });
    let config = Config { listen_backlog: BACKLOG, ..Config::default() };
    let server = serve_with(config, 1, || handler.take().expect("one worker"));
    let mut client = connect(address(&server));
    client.send(tungstenite::Message::text("hi")).unwrap();
    busy.recv_timeout(DEADLINE).unwrap();
    let connect = |_| TcpStream::connect_timeout(&address(&server), Duration::from_secs(1));
    let waiting: Vec<_> = (0..100).map_while(|number| connect(number).ok()).collect();
    // The kernel's queue holds one more than the backlog (listen(2)).
    assert_eq!(waiting.len(), BACKLOG as usize + 1);
    go_on.send(()).unwrap();
    assert_eq!(client.read().unwrap(), tungstenite::Message::text("hi"));
    drop((waiting, client));
    stop(&server);
}

#[test]
fn the_default_is_one_worker_per_core() {
    let cores = thread::available_parallelism().unwrap().get();
    let server = Server::builder().bind(LOCAL).start(|_, _| Echo).expect("the server starts");
    assert_eq!(server.workers(), cores);
    stop(&server);
}

#[test]
fn the_counters_add_up_after_a_busy_run() {
    const CLIENTS: u64 = 8;
    const MESSAGES: u64 = 300;
    let seed = seed();
    let server = serve(3, || Echo);
    let address = address(&server);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            thread::spawn(move || {
                let mut rng = Rng::new(seed.wrapping_add(number));
                let mut client = connect(address);
                let mut bytes = 0;
                for _ in 0..MESSAGES {
                    let len = rng.below(3000);
                    let message = random_message(&mut rng, len);
                    bytes += message.len() as u64;
                    client.send(message.clone()).expect("the server reads");
                    assert_eq!(client.read().expect("an echo"), message);
                }
                close(client);
                bytes
            })
        })
        .collect();
    let bytes: u64 =
        clients.into_iter().map(|client| client.join().expect("every echo is correct")).sum();
    // One connection that sends nothing, and one that is refused.
    drop(dial(address));
    let answer = exchange(address, "BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    wait_until("all connections have ended", || server.stats().ended == CLIENTS + 2);
    let mut expected = Stats::default();
    expected.accepted = CLIENTS + 2;
    expected.ended = CLIENTS + 2;
    expected.refused = 1;
    expected.opened = CLIENTS;
    expected.closed = CLIENTS;
    expected.messages_in = CLIENTS * MESSAGES;
    expected.messages_out = CLIENTS * MESSAGES;
    expected.bytes_in = bytes;
    expected.bytes_out = bytes;
    let stats = stop(&server);
    for close_codes in [stats.close_codes_received, stats.close_codes_sent] {
        assert_eq!(close_codes.count(CloseCode::NORMAL), CLIENTS);
        assert_eq!(close_codes.total(), CLIENTS);
    }
    assert_eq!(stats.handshake_failures.count(HandshakeFailure::Disconnected), 1);
    assert_eq!(stats.handshake_failures.count(HandshakeFailure::Malformed), 1);
    assert_eq!(stats.handshake_failures.total(), 2);
    assert!(stats.turns.count() > 0 && stats.turns.sum() > Duration::ZERO, "{:?}", stats.turns);
    expected.close_codes_sent = stats.close_codes_sent;
    expected.close_codes_received = stats.close_codes_received;
    expected.handshake_failures = stats.handshake_failures;
    expected.turns = stats.turns;
    assert_eq!(stats, expected);
}

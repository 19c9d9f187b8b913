//! Runs the load example against the server example, and against servers that misbehave.

#[path = "../support/mod.rs"]
mod support;

mod failures;
mod options;
mod report;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use support::client::{DEADLINE, wait_until};
use support::programs::{Ended, Program, run, server, terminate};
use support::servers::{LOCAL, local};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// Runs the load example against `address`.
fn load(address: SocketAddr, arguments: &str) -> Ended {
    run("load", &format!("--url ws://{address}/ {arguments}"))
}

/// The text of the value under `key` in `json`, a flat object.
#[track_caller]
fn value<'a>(json: &'a str, key: &str) -> &'a str {
    let start = format!("\"{key}\":");
    let (_, rest) = json.split_once(&start).unwrap_or_else(|| panic!("no {key} in {json}"));
    &rest[..rest.find([',', '}']).expect("a value ends")]
}

/// The number under `key` in `json`, a flat object.
#[track_caller]
fn number(json: &str, key: &str) -> f64 {
    value(json, key).parse().unwrap_or_else(|error| panic!("{key} in {json}: {error}"))
}

/// A server that treats each connection, once upgraded, as `behave` says.
fn fake(behave: impl Fn(WebSocket<TcpStream>) + Send + Sync + 'static) -> SocketAddr {
    fake_with(|_, response| response, behave)
}

/// Echoes messages until the connection ends.
fn echo_all(mut client: WebSocket<TcpStream>) {
    while let Ok(message) = client.read() {
        if message.is_text() || message.is_binary() {
            // The end of the connection shows in the next read.
            let _ = client.send(message);
        }
    }
}

/// A server that answers the upgrade with `respond`, and then treats the connection as `behave`
/// says.
#[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
fn fake_with(
    respond: impl Fn(&Request, Response) -> Response + Send + Sync + 'static,
    behave: impl Fn(WebSocket<TcpStream>) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(LOCAL).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        thread::scope(|scope| {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                let (respond, behave) = (&respond, &behave);
                // load may refuse the answer.
                scope.spawn(move || {
                    let respond = |request: &Request, response| Ok(respond(request, response));
                    if let Ok(client) = tungstenite::accept_hdr(stream, respond) {
                        behave(client);
                    }
                });
            }
        });
    });
    address
}

#[test]
fn measures_and_checks_every_echo() {
    let (server, address) = server("--workers 2");
    let ended = load(address, "--connections 8 --size 32 --depth 4 --duration 1 --json");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stdout.len(), 1, "one line of JSON: {ended:?}");
    let json = &ended.stdout[0];
    assert!(json.starts_with('{') && json.ends_with('}'), "{json}");
    assert_eq!(number(json, "connections"), 8.0);
    assert_eq!(number(json, "depth"), 4.0);
    assert!(number(json, "messages") > 100.0, "{json}");
    assert!((0.9..1.5).contains(&number(json, "seconds")), "{json}");
    assert!(number(json, "messages_per_s") > 0.0, "{json}");
    assert!(number(json, "latency_p50_us") <= number(json, "latency_p99_us"), "{json}");
    assert_eq!(number(json, "closes_unanswered"), 0.0);
    let log = terminate(server).stderr.join("\n");
    assert_eq!(log.matches(" closed with 1000: closed by the peer").count(), 8, "{log}");
}

#[test]
fn sends_the_requested_number_of_messages() {
    let (server, address) = server("--workers 2");
    let arguments = "--connections 3 --size 0,1,125,126,65535,65536,300000 --depth 8 --count 200";
    for kind in ["", "--binary"] {
        let ended = load(address, &format!("{arguments} {kind} --json"));
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(number(&ended.stdout[0], "messages"), 200.0);
    }
    terminate(server);
}

#[test]
fn reports_the_cpu_time_of_the_server() {
    let (server, address) = server("--workers 1");
    let arguments = format!("--connections 8 --duration 0.5 --warmup 0.1 --pid {}", server.id());
    let used_before = server.cpu_time();
    let ended = load(address, &format!("{arguments} --json"));
    let used = (server.cpu_time() - used_before).as_secs_f64();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let json = &ended.stdout[0];
    // Five sixths of the messages are measured, and the clocks are not read at the same time.
    let measured = number(json, "server_cores") * number(json, "seconds");
    assert!((0.5..1.1).contains(&(measured / used)), "{used} s: {json}");
    let messages = number(json, "messages");
    let by_message = number(json, "server_cpu_us_per_message") * messages / 1e6;
    assert!((0.5..1.1).contains(&(by_message / used)), "{used} s: {json}");
    assert!((0.01..1.1).contains(&number(json, "load_cores")), "{json}");
    let ended = load(address, &arguments);
    assert!(ended.stdout.iter().any(|line| line.starts_with("server cpu")), "{ended:?}");
    terminate(server);
}

#[test]
fn reports_a_wrong_echo() {
    let (server, address) = server("--workers 1 --prefix >");
    let ended = load(address, "--connections 2 --count 10 --json");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(number(&ended.stdout[0], "messages"), 0.0);
    assert_eq!(number(&ended.stdout[0], "failures_wrong"), 2.0);
    assert!(ended.stderr[0].contains("message 1: expected"), "{ended:?}");
    let ended = load(address, "--connections 2 --count 10 --json --prefix >");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    terminate(server);
}

#[test]
fn reports_an_unreachable_server() {
    let listener = TcpListener::bind(local(11)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let ended = load(address, "--connections 2 --json");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(ended.stdout, [""; 0]);
    assert_eq!(ended.stderr.len(), 1, "{ended:?}");
}

#[test]
fn every_delivery_of_a_broadcast_is_checked_and_measured() {
    let (server, address) = server("--workers 2 --broadcast");
    for kind in ["", "--binary"] {
        let arguments =
            "--broadcast --connections 20 --publishers 3 --window 4 --size 16,70000,126";
        let ended = load(address, &format!("{arguments} --count 60 --json {kind}"));
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let json = &ended.stdout[0];
        for (key, expected) in [
            ("connections", 20.0),
            ("publishers", 3.0),
            ("window", 4.0),
            ("published", 60.0),
            ("deliveries", 1200.0),
            ("messages_unanswered", 0.0),
            ("closes_unanswered", 0.0),
            ("failures", 0.0),
        ] {
            assert_eq!(number(json, key), expected, "{key} in {json}");
        }
        assert!(number(json, "deliveries_per_s") > number(json, "published_per_s"), "{json}");
        assert!(number(json, "each_p50_us") <= number(json, "last_p50_us"), "{json}");
        assert!(number(json, "each_max_us") <= number(json, "last_max_us"), "{json}");
        assert_eq!(value(json, "server_cpu_us_per_delivery"), "null");
    }
    terminate(server);
}

#[test]
fn a_broadcast_at_a_fixed_rate_reports_the_cpu_time_of_each_delivery() {
    let (server, address) = server("--workers 1 --broadcast");
    let arguments = format!(
        "--broadcast --connections 10 --window 100 --rate 200 --duration 0.5 --pid {} --json",
        server.id()
    );
    let ended = load(address, &arguments);
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let json = &ended.stdout[0];
    let sent = number(json, "published") + number(json, "messages_unsent");
    assert!((90.0..=100.0).contains(&sent), "{json}");
    let by_delivery = number(json, "server_cpu_us_per_delivery") * number(json, "deliveries") / 1e6;
    let by_cores = number(json, "server_cores") * number(json, "seconds");
    assert!((by_delivery / by_cores - 1.0).abs() < 0.01, "{json}");
    terminate(server);
}

/// A broadcast server that only echoes: the other connections receive nothing.
#[test]
fn a_delivery_that_is_missing_is_no_success() {
    let (server, address) = server("--workers 1");
    let ended = load(address, "--broadcast --connections 2 --duration 0.3 --json");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let json = &ended.stdout[0];
    assert_eq!(number(json, "published"), 0.0);
    assert_eq!(number(json, "messages_unanswered"), 1.0);
    assert!(number(json, "last_max_us") >= 300_000.0, "it waited to the end: {json}");
    terminate(server);
}

#[test]
fn a_delivery_that_is_doubled_reordered_or_of_another_kind_is_reported() {
    for (answers, expected) in [
        (&[0, 0][..], "message 2: expected message 2 of publisher 1, got message 1"),
        (&[1], "message 1: expected message 1 of publisher 1, got message 2"),
    ] {
        let address = fake(move |mut client| {
            let messages = [(); 2].map(|()| client.read().expect("a message"));
            for &answer in answers {
                client.send(messages[answer].clone()).expect("load reads");
            }
            // The next message is the Close, or the end of a connection that has failed.
            let _ = client.read();
        });
        let ended = load(address, "--broadcast --connections 1 --window 2 --count 2 --json");
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.stderr[0].contains(expected), "{ended:?}");
        assert_eq!(number(&ended.stdout[0], "failures_wrong"), 1.0);
    }
    let address = fake(|mut client| {
        let text = client.read().expect("a message").into_text().expect("text");
        client.send(Message::binary(text.as_bytes().to_vec())).expect("load reads");
        let _ = client.read();
    });
    let ended = load(address, "--broadcast --connections 1 --count 1");
    assert!(ended.stderr[0].contains("message 1: expected Text, got Binary"), "{ended:?}");
}

/// A server that answers `count` messages of each connection and no further ones. `answered` gets
/// a message after each answer.
fn freezing(count: usize, answered: Sender<()>) -> SocketAddr {
    fake(move |mut client| {
        for _ in 0..count {
            let message = client.read().expect("a message");
            client.send(message).expect("load reads");
            // The test may not be interested.
            let _ = answered.send(());
        }
        // Blocks until load ends the connection.
        while client.get_mut().read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0) {}
    })
}

#[test]
fn messages_without_an_echo_count_with_the_time_that_they_have_waited() {
    let started = Instant::now();
    let address = freezing(10, channel().0);
    let ended = load(address, "--connections 1 --depth 2 --duration 0.5 --json");
    assert!(started.elapsed() < DEADLINE, "the run ends soon after --duration");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let json = &ended.stdout[0];
    assert_eq!(number(json, "messages"), 10.0);
    assert_eq!(number(json, "messages_unanswered"), 2.0);
    assert_eq!(number(json, "closes_unanswered"), 1.0);
    // It waits for the echoes until a second after the end.
    assert!(number(json, "latency_max_us") >= 1_000_000.0, "{json}");
    assert!(number(json, "latency_p99_us") >= 1_000_000.0, "{json}");
    assert!(number(json, "latency_p50_us") < number(json, "latency_max_us"), "{json}");
}

#[test]
fn a_run_without_an_echo_is_no_success() {
    let address = freezing(0, channel().0);
    let ended = load(address, "--connections 2 --duration 0.1 --json");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(number(&ended.stdout[0], "messages"), 0.0);
    assert!(number(&ended.stdout[0], "latency_p50_us") >= 1_000_000.0, "{ended:?}");
    assert!(ended.stderr[0].contains("no message was answered"), "{ended:?}");
}

/// The warm-up is longer than the test needs, so no latency is recorded.
#[test]
fn without_a_sample_a_percentile_is_null_or_a_dash() {
    let arguments = "--connections 1 --warmup 3600 --duration 1";
    for json in [true, false] {
        let address = fake(|mut client| {
            client.read().expect("a message");
        });
        let ended = load(address, &format!("{arguments} {}", if json { "--json" } else { "" }));
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        if json {
            for key in ["latency_p50_us", "latency_p99_us", "latency_max_us", "latency_mean_us"] {
                assert_eq!(value(&ended.stdout[0], key), "null", "{ended:?}");
            }
            assert_eq!(value(&ended.stdout[0], "messages_per_s"), "0.0");
        } else {
            assert!(ended.stdout.iter().any(|line| line.contains("p99 -")), "{ended:?}");
        }
    }
}

#[test]
fn a_late_generator_is_told_from_a_late_server() {
    let (answered, answers) = channel();
    let address = freezing(usize::MAX, answered);
    let url = format!("--url ws://{address}/ --connections 1");
    let arguments = "--rate 100 --depth 1000 --duration 1.5 --json";
    let late_generator = Program::start("load", &format!("{url} {arguments}"));
    answers.recv().expect("an answer");
    late_generator.signal("STOP");
    let stopped = Instant::now();
    wait_until("it is stopped for a while", || stopped.elapsed() > Duration::from_millis(300));
    late_generator.signal("CONT");
    let ended = late_generator.wait();
    assert!(number(&ended.stdout[0], "generator_late_max_us") >= 250_000.0, "{ended:?}");
    assert!(number(&ended.stdout[0], "latency_max_us") >= 250_000.0, "{ended:?}");

    let address = freezing(1, channel().0);
    let ended = run(
        "load",
        &format!("--url ws://{address}/ --connections 1 --rate 100 --depth 9 --duration 1 --json"),
    );
    let json = &ended.stdout[0];
    let waited = number(json, "latency_p50_us");
    assert!(waited > 2.0 * number(json, "generator_late_p99_us"), "{json}");
    assert!(number(json, "messages_unsent") > 0.0, "{json}");
    assert_eq!(number(json, "messages_unanswered"), 9.0);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for (arguments, names) in [
        ("--bogus", "--bogus"),
        ("--url http://127.0.0.1/", "ws://"),
        ("--url wss://127.0.0.1/", "without TLS"),
        ("--connections 0", "--connections"),
        ("--size 1,x", "--size"),
        ("--depth 0", "--depth"),
        ("--duration 0", "--duration"),
        ("--pid 0", "--pid"),
        ("--pid 4294967295", "--pid"),
        ("--pid self", "--pid"),
        ("--broadcast --size 15,32", "at least 16"),
        ("--broadcast --connections 2 --publishers 3", "--publishers"),
        ("--broadcast --prefix x", "--prefix"),
        ("--window 2", "--broadcast"),
        ("argument", "ws://"),
        ("ws://127.0.0.1/ --url ws://127.0.0.1/", "--url"),
        ("-H Cookie", "NAME: VALUE"),
        ("-H Connection:close", "belongs to the upgrade"),
        ("-H Sec-WebSocket-Protocol:a", "--protocol"),
        ("--text utf8 --binary", "--binary"),
        ("--text latin1", "utf8"),
        ("--source 127.0.0", "no address"),
        ("--source 127.0.0.9-127.0.0.8", "range"),
        ("--source 127.0.0.1-::1", "same kind"),
        ("--source ::1 ws://127.0.0.1/", "--source ::1"),
    ] {
        let ended = run("load", arguments);
        assert_eq!(ended.status.code(), Some(2), "{arguments}: {ended:?}");
        assert_eq!(ended.stdout, [""; 0], "{arguments}");
        let stderr = ended.stderr.join("\n");
        assert!(stderr.contains(names), "{arguments}: {stderr}");
    }
}

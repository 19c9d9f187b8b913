//! The server example seen by its operator: `--admin` with metrics and health checks.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use support::client::{
    ask, close, connect, exchange, expect_bytes, open_raw, read_all, refused, request, wait_until,
};
use support::frames::{self, CLOSE};
use support::programs::{Program, run, server, terminate};
use support::servers::LOCAL;
use support::unix::{self, Folder};

const TEXT_TYPE: &str =
    "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";

/// A server with `--admin`, and both of its addresses.
#[track_caller]
fn observed(arguments: &str) -> (Program, SocketAddr, SocketAddr) {
    let (server, address) = server(&format!("--admin 127.0.0.1:0 {arguments}"));
    let line = server.line("metrics at ");
    let admin = line.split(' ').nth(2).expect("an address").parse().expect("an address");
    (server, address, admin)
}

#[track_caller]
fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
}

/// The values of the metrics by name and labels, as they are written.
#[track_caller]
fn scrape(admin: SocketAddr) -> BTreeMap<String, f64> {
    let answer = get(admin, "/metrics");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(format!("{head}\r\n").contains(TEXT_TYPE), "{head}");
    // OpenMetrics 1.0: the text must end with this line.
    assert!(body.ends_with("\n# EOF\n"), "{body}");
    let values = body.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    values.collect()
}

/// The sum over the workers and labels of the values whose name begins with `ws_reactor_` and `name`,
/// and whose labels include `labels`.
#[track_caller]
fn sum(values: &BTreeMap<String, f64>, name: &str, labels: &str) -> f64 {
    let start = format!("ws_reactor_{name}{{");
    let found: Vec<f64> = values
        .iter()
        .filter(|(key, _)| key.starts_with(&start) && key.contains(labels))
        .map(|(_, value)| *value)
        .collect();
    assert!(!found.is_empty(), "{name} {labels}");
    found.iter().sum()
}

#[test]
fn the_metrics_agree_with_the_traffic() {
    let (server, address, admin) = observed("--workers 2");
    let mut clients: Vec<_> = (0..3).map(|_| connect(address)).collect();
    for client in &mut clients {
        for _ in 0..5 {
            ask(client, "four", "four");
        }
    }
    exchange(address, "BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    get(address, "/healthz");
    close(clients.pop().expect("there are three"));
    let mut values = scrape(admin);
    wait_until("three connections have ended", || {
        values = scrape(admin);
        sum(&values, "connections_ended_total", "") == 3.0
    });
    for (name, labels, expected) in [
        ("connections_open", "", 2.0),
        ("connections_accepted_total", "", 5.0),
        ("connections_opened_total", "", 3.0),
        ("messages_received_total", "", 15.0),
        ("messages_sent_total", "", 15.0),
        ("bytes_received_total", "", 60.0),
        ("bytes_sent_total", "", 60.0),
        ("requests_answered_total", "", 1.0),
        ("handshake_failures_total", "", 1.0),
        ("handshake_failures_total", "reason=\"malformed\"", 1.0),
        ("close_codes_total", "direction=\"received\",code=\"1000\"", 1.0),
        ("close_codes_total", "", 2.0),
        ("timeouts_total", "kind=\"idle\"", 0.0),
        ("mailbox_bytes", "", 0.0),
        ("backlog_bytes", "", 0.0),
        ("accept_errors_total", "", 0.0),
    ] {
        assert_eq!(sum(&values, name, labels), expected, "{name} {labels}");
    }
    let workers: Vec<_> =
        values.keys().filter(|key| key.starts_with("ws_reactor_connections_open{")).collect();
    assert_eq!(workers.len(), 2, "{workers:?}");
    let turns = sum(&values, "turn_seconds_count", "");
    assert!(turns > 5.0, "at least one turn for each echo of a client: {turns}");
    assert_eq!(sum(&values, "turn_seconds_bucket", "le=\"+Inf\""), turns);
    clients.into_iter().for_each(close);
    terminate(server);
}

#[test]
fn the_operators_server_answers_only_its_paths() {
    let (server, address, admin) = observed("--workers 1");
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/", 404), ("/metrics/", 404)] {
        let answer = get(admin, path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    assert_eq!(refused(support::client::dial(admin), request(admin, "/", &[])), 404);
    // The other listeners do not show the counters to everyone.
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 426 "));
    for path in ["/healthz", "/readyz"] {
        assert!(get(address, path).starts_with("HTTP/1.1 200 "), "{path}");
    }
    terminate(server);
}

/// A balancer that asks `/readyz` must see the drain, and an operator its end.
#[test]
fn the_operators_server_reports_a_drain_until_the_last_connection_has_ended() {
    const REASON: &str = "the server is shutting down";
    let (server, address, admin) =
        observed("--workers 2 --drain-timeout 3600 --close-timeout 3600");
    let mut stream = open_raw(address);
    let payload = frames::close_payload(1001, REASON.as_bytes());
    assert!(get(admin, "/readyz").starts_with("HTTP/1.1 200 OK\r\n"));
    server.signal("TERM");
    // The server closes the connection, and waits for the answer.
    expect_bytes(&mut stream, &frames::server(CLOSE, &payload).bytes());
    let answer = get(admin, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("draining\n"), "{answer}");
    assert!(get(admin, "/healthz").starts_with("HTTP/1.1 200 OK\r\n"));
    let values = scrape(admin);
    assert_eq!(sum(&values, "connections_open", ""), 1.0);
    assert_eq!(sum(&values, "close_codes_total", "direction=\"sent\",code=\"1001\""), 1.0);
    stream.write_all(&frames::client(CLOSE, &payload).bytes()).expect("the server reads");
    assert_eq!(read_all(&mut stream), "");
    drop(stream);
    let ended = server.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn an_operators_address_that_cannot_be_used_exits_with_2_and_names_the_option() {
    let taken = TcpListener::bind(LOCAL).expect("a free port");
    let taken = taken.local_addr().expect("an address");
    for (arguments, fix) in [
        ("--admin nonsense".to_owned(), "such as 127.0.0.1:9001"),
        (format!("--addr 127.0.0.1:0 --admin {taken}"), "choose another address"),
        ("--addr 127.0.0.1:0 --admin 192.0.2.1:9100".to_owned(), "choose another address"),
        (format!("--addr {taken} --admin {taken} --share-port"), "choose another port"),
        ("--addr 127.0.0.1:0 --admin unix:/nowhere/socket".to_owned(), "choose another address"),
    ] {
        let ended = run("server", &arguments);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert_eq!((ended.stdout.len(), ended.stderr.len()), (0, 1), "{ended:?}");
        let line = &ended.stderr[0];
        assert!(line.contains("--admin") && line.contains(fix), "{line}");
    }
}

#[test]
fn metrics_are_served_on_a_unix_socket_whose_file_is_removed() {
    let folder = Folder::new();
    let path = folder.file("admin");
    let (server, _) = server(&format!("--admin unix:{} --unix-mode 600", path.display()));
    let line = server.line("metrics at ");
    assert!(line.contains("unix:"), "{line}");
    let mut stream = unix::dial(&path);
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("the server reads");
    assert!(read_all(&mut stream).contains("ws_reactor_connections_open{worker=\"0\"} 0\n"));
    terminate(server);
    assert!(!path.exists());
}

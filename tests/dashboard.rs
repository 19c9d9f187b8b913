//! Runs the dashboard example as a process: tokens, origins, samples on several workers, the page.

mod support;

use std::net::SocketAddr;

use serde_json::Value;
use support::client::{Client, dial, exchange, expect_close, refused, request, upgrade};
use support::programs::{Program, listening, refuses_unusable_options, run, terminate};
use tungstenite::Message;

const TOKEN: &str = "a-token-of-the-tests";

/// Samples of a full history.
const HISTORY: usize = 60;

fn dashboard(arguments: &str) -> (Program, SocketAddr) {
    let arguments = format!("--addr 127.0.0.1:0 --token {TOKEN} {arguments}");
    let dashboard = Program::start("dashboard", &arguments);
    let address = listening(&dashboard);
    (dashboard, address)
}

/// A client that has the token, and the first message to it.
#[track_caller]
fn open(address: SocketAddr) -> (Client, Value) {
    let path = format!("/samples?token={TOKEN}");
    let (mut client, _) = upgrade(dial(address), request(address, &path, &[]));
    let hello = receive(&mut client);
    assert_eq!(hello["type"], "hello", "{hello}");
    (client, hello)
}

#[track_caller]
fn receive(client: &mut Client) -> Value {
    let message = client.read().expect("a message").into_text().expect("a text");
    serde_json::from_str(&message).unwrap_or_else(|error| panic!("{message}: {error}"))
}

#[track_caller]
fn sample(client: &mut Client) -> Value {
    let sample = receive(client);
    assert_eq!(sample["type"], "sample", "{sample}");
    sample
}

fn number(sample: &Value) -> u64 {
    sample["number"].as_u64().expect("a number")
}

fn get(address: SocketAddr, path: &str, headers: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"))
}

#[test]
fn every_client_gets_samples_of_this_machine() {
    let (dashboard, address) = dashboard("--workers 3 --interval 0.1");
    // With three workers, six clients are very probably not all on one.
    let mut clients: Vec<_> = (0..6).map(|_| open(address)).collect();
    for (client, hello) in &mut clients {
        assert_eq!(hello["interval"], 0.1);
        assert_eq!(hello["history"], HISTORY);
        assert!(hello["cores"].as_u64() > Some(0), "{hello}");
        assert!(hello["host"].as_str() > Some(""), "{hello}");
        let mut last = 0;
        while last < 5 {
            let sample = sample(client);
            last = number(&sample);
            assert!(sample["time"].as_u64() > Some(1_700_000_000_000), "{sample}");
            for (key, min, max) in [
                ("load", 0.0, 1e6),
                ("cpu", 0.0, 1.0),
                ("memory_used", 1e6, sample["memory_total"].as_f64().expect("bytes")),
                ("received", 0.0, 1e12),
                ("sent", 0.0, 1e12),
            ] {
                let value = sample[key].as_f64().expect("a number");
                assert!((min..=max).contains(&value), "{key}: {sample}");
            }
        }
    }
    drop(clients);
    let ended = terminate(dashboard);
    let listening = format!("listening on {address} (3 workers)");
    assert_eq!(ended.stdout, [listening, format!("open http://{address}/")], "without the token");
}

#[test]
fn a_newcomer_gets_the_last_60_samples_first() {
    let (dashboard, address) = dashboard("--workers 3 --interval 0.02");
    let (mut old, _) = open(address);
    let mut seen = Vec::new();
    while seen.len() < HISTORY + 40 {
        let sample = sample(&mut old);
        if seen.last().is_none_or(|last| number(last) < number(&sample)) {
            seen.push(sample);
        }
    }
    // Each on any worker, also on that which takes the samples.
    for _ in 0..6 {
        let (mut newcomer, _) = open(address);
        let history: Vec<_> = (0..HISTORY).map(|_| sample(&mut newcomer)).collect();
        let first = number(&history[0]);
        assert!(first > 40, "the oldest samples have been dropped: {first}");
        let expected = first..first + HISTORY as u64;
        assert!(history.iter().map(number).eq(expected), "each once and in order");
        while number(seen.last().expect("some")) < number(&history[HISTORY - 1]) {
            seen.push(sample(&mut old));
        }
        let from = seen.iter().position(|sample| number(sample) == first).expect("it was seen");
        assert_eq!(history, seen[from..from + HISTORY]);
        // Samples of the history may arrive again, but none is missing.
        let mut last = first + HISTORY as u64 - 1;
        while last < first + HISTORY as u64 {
            let number = number(&sample(&mut newcomer));
            assert!(number <= last + 1, "{number} after {last}");
            last = last.max(number);
        }
    }
    drop(old);
    terminate(dashboard);
}

#[test]
fn a_request_needs_the_token() {
    let (dashboard, address) = dashboard("--workers 2");
    let right = format!("Bearer {TOKEN}");
    for (path, authorization) in [
        ("/samples", ""),
        ("/samples?token=", ""),
        ("/samples?token=a-token-of-the-test", ""),
        ("/samples?token=a-token-of-the-testss", ""),
        ("/samples?token=A-token-of-the-tests", ""),
        ("/samples?tokens=a-token-of-the-tests", ""),
        ("/samples?a-token-of-the-tests", ""),
        ("/samples", "Bearer wrong"),
        ("/samples", TOKEN),
        ("/samples", &right.replace("Bearer", "Basic")),
    ] {
        let headers: Vec<_> = Some(("Authorization", authorization))
            .filter(|it| !it.1.is_empty())
            .into_iter()
            .collect();
        let case = format!("{path} {authorization}");
        assert_eq!(refused(dial(address), request(address, path, &headers)), 401, "{case}");
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let answer = get(address, path, &lines);
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{case}: {answer}");
        assert!(answer.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{case}: {answer}");
        assert!(answer.ends_with("\r\n\r\nthe token is missing or wrong\n"), "{case}: {answer}");
    }
    for authorization in [right.clone(), right.replace("Bearer", "bearer")] {
        let headers = [("Authorization", authorization.as_str())];
        let (mut client, _) = upgrade(dial(address), request(address, "/samples", &headers));
        assert_eq!(receive(&mut client)["type"], "hello");
    }
    let encoded = "/samples?x&token=a%2Dtoken-of-the-tests";
    let (mut client, _) = upgrade(dial(address), request(address, encoded, &[]));
    assert_eq!(receive(&mut client)["type"], "hello");
    drop(client);
    terminate(dashboard);
}

#[test]
fn pages_of_foreign_origins_are_refused() {
    let (dashboard, address) = dashboard(
        "--workers 2 --allow-origin https://a.example --allow-origin http://b.example:8080",
    );
    let path = format!("/samples?token={TOKEN}");
    let port = address.port();
    for origin in [
        "https://evil.example",
        "null",
        "",
        "http://127.0.0.1",
        &format!("http://localhost:{port}"),
        &format!("http://127.0.0.1:{port}.evil.example"),
        "http://a.example",
        "https://a.example:444",
        "https://a.example.evil.example",
        "https://b.example:8080",
    ] {
        let headers = [("Origin", origin)];
        // The origin comes first, so that a foreign page cannot try tokens.
        for path in [path.as_str(), "/samples?token=wrong"] {
            assert_eq!(refused(dial(address), request(address, path, &headers)), 403, "{origin}");
        }
        let answer = get(address, &path, &format!("Origin: {origin}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{origin}: {answer}");
        assert!(answer.ends_with("\r\n\r\npages of this origin are not allowed\n"), "{answer}");
    }
    for origin in [
        &format!("http://{address}"),
        &format!("https://{address}"),
        "https://a.example",
        "HTTPS://A.example",
        "http://b.example:8080",
    ] {
        let headers = [("Origin", origin)];
        let (mut client, _) = upgrade(dial(address), request(address, &path, &headers));
        assert_eq!(receive(&mut client)["type"], "hello", "{origin}");
        let wrong = request(address, "/samples?token=wrong", &headers);
        assert_eq!(refused(dial(address), wrong), 401, "{origin}");
    }
    terminate(dashboard);
}

#[test]
fn a_random_token_is_printed_and_different_each_time() {
    let tokens = [0, 1].map(|_| {
        let dashboard = Program::start("dashboard", "--addr 127.0.0.1:0 --workers 1");
        let address = listening(&dashboard);
        let line = dashboard.line("open ");
        let start = format!("open http://{address}/#token=");
        let token = line.strip_prefix(&start).unwrap_or_else(|| panic!("no token: {line}"));
        assert!(token.len() == 32 && token.bytes().all(|it| it.is_ascii_hexdigit()), "{token}");
        let path = format!("/samples?token={token}");
        let (mut client, _) = upgrade(dial(address), request(address, &path, &[]));
        assert_eq!(receive(&mut client)["type"], "hello");
        drop(client);
        terminate(dashboard);
        token.to_owned()
    });
    assert_ne!(tokens[0], tokens[1]);
}

#[test]
fn a_message_from_a_client_ends_its_connection() {
    let (dashboard, address) = dashboard("--workers 1 --interval 3600");
    for (message, code, reason) in [
        (Message::text(""), 1008, "this server only sends"),
        (Message::binary(vec![1]), 1008, "this server only sends"),
        (Message::text("hello"), 1009, ""),
    ] {
        let (mut client, _) = open(address);
        client.send(message).expect("the server reads");
        expect_close(client, code, reason);
    }
    terminate(dashboard);
}

#[test]
fn the_page_and_the_health_check_need_no_token() {
    let (dashboard, address) = dashboard("--workers 1");
    let answer = get(address, "/", "");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("Content-Type: text/html; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("\r\n\r\n<!doctype html>\n<html lang=\"en\">"), "{answer}");
    assert!(get(address, "/healthz", "").ends_with("\r\n\r\nok\n"));
    for path in ["/favicon.ico", "/samples/"] {
        assert!(get(address, path, "").starts_with("HTTP/1.1 404 "), "{path}");
        let with_token = format!("{path}?token={TOKEN}");
        assert_eq!(refused(dial(address), request(address, &with_token, &[])), 404, "{path}");
    }
    terminate(dashboard);
}

#[test]
fn sigint_tells_every_client_that_the_server_shuts_down() {
    let (dashboard, address) = dashboard("--workers 2 --interval 3600");
    let (client, _) = open(address);
    dashboard.signal("INT");
    expect_close(client, 1001, "the server is shutting down");
    assert_eq!(dashboard.wait().status.code(), Some(0));
}

#[test]
fn an_address_in_use_and_wrong_options_exit_with_2() {
    refuses_unusable_options("dashboard");
    for (arguments, reason) in [
        ("--token short", "at least 16 characters"),
        ("--allow-origin example.com", "not an origin"),
        ("--allow-origin https://example.com/", "without a slash at the end"),
        ("--allow-origin *", "not an origin"),
        ("--interval 0", "at least 0.001"),
        ("--interval soon", "not a number"),
    ] {
        let ended = run("dashboard", arguments);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(ended.stderr[0].contains(reason), "{ended:?}");
    }
}

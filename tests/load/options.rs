//! Options of the request, the messages and the sockets.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::channel;

use tungstenite::Message;
use tungstenite::handshake::server::{Request, Response};

use crate::support::programs::{Program, listening, run, server, terminate};
use crate::{echo_all, fake, fake_with, freezing, load, number};

#[test]
fn the_request_has_the_given_path_headers_and_subprotocols() {
    let (seen, requests) = channel();
    let address = fake_with(
        move |request: &Request, mut response: Response| {
            let headers = request.headers();
            let all = |name: &str| {
                let values = headers.get_all(name).iter();
                values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            let names = ["host", "x-token", "cookie", "sec-websocket-protocol"];
            seen.send((request.uri().to_string(), names.map(all))).unwrap();
            response.headers_mut().insert("sec-websocket-protocol", "v2".parse().unwrap());
            response
        },
        echo_all,
    );
    let url = format!("ws://{address}/chat?room=1");
    let headers = ["-H", "X-Token: a: b", "-H", "Cookie: c=1", "-H", "Cookie: c=2"];
    let others = ["--protocol", "v1,v2", "--connections", "1", "--count", "3"];
    let arguments = [&[&*url][..], &headers, &others].concat();
    let ended = Program::start_with("load", &arguments).wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let (uri, [host, token, cookies, protocols]) = requests.recv().unwrap();
    assert_eq!(uri, "/chat?room=1");
    assert_eq!(host, [address.to_string()]);
    assert_eq!(token, ["a: b"]);
    assert_eq!(cookies, ["c=1", "c=2"]);
    assert_eq!(protocols, ["v1, v2"]);
    let ended = load(address, "--connections 1 --count 3");
    assert!(ended.stderr[0].contains("upgrade: expected no subprotocol"), "{ended:?}");
    let arguments = [&*url, "--protocol", "v1", "-H", "Host: example", "--connections", "1"];
    let ended = Program::start_with("load", &arguments).wait();
    assert!(ended.stderr[0].contains("one of the subprotocols of --protocol"), "{ended:?}");
    assert_eq!(requests.iter().nth(1).unwrap().1[0], ["example"]);
}

#[test]
fn utf8_text_has_characters_of_every_length() {
    let (seen, texts) = channel();
    let address = fake(move |mut client| {
        while let Ok(message) = client.read() {
            if let Message::Text(text) = &message {
                seen.send(text.to_string()).unwrap();
            }
            let _ = client.send(message);
        }
    });
    let ended = load(address, "--text utf8 --size 3,1000 --connections 1 --count 2");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(texts.recv().unwrap().len(), 3);
    let text = texts.recv().unwrap();
    assert_eq!(text.len(), 1000);
    for bytes in 1..=4 {
        assert!(text.chars().any(|char| char.len_utf8() == bytes), "{bytes} bytes: {text}");
    }
    let (server, address) = server("--workers 1");
    let ended = load(address, "--text utf8 --size 1,2,3,4,5,70001 --connections 3 --count 100");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    terminate(server);
}

#[test]
fn greetings_are_skipped() {
    let address = fake(|mut client| {
        client.send(Message::text("welcome")).expect("load reads");
        client.send(Message::Ping("?".into())).expect("load reads");
        // load may have failed because of the first message.
        let _ = client.send(Message::binary(vec![0; 70_000]));
        echo_all(client);
    });
    let ended = load(address, "--skip 2 --connections 4 --count 40 --json");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(number(&ended.stdout[0], "messages"), 40.0);
    let ended = load(address, "--skip 1 --connections 1 --count 40 --json");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr[0].contains("got Binary with 70000 bytes"), "{ended:?}");
}

/// The server listens on the address of localhost that load tries last.
#[test]
fn every_address_of_a_name_is_tried() {
    let mut addresses: Vec<_> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let last = addresses.last().expect("localhost has an address");
    let server = Program::start("server", &format!("--addr {last} --workers 1"));
    let port = listening(&server).port();
    let ended = run("load", &format!("ws://localhost:{port}/ --connections 3 --count 30 --json"));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(number(&ended.stdout[0], "failures"), 0.0);
    terminate(server);
}

#[test]
fn connections_come_from_the_given_addresses_in_turn() {
    let (seen, addresses) = channel();
    let address = fake(move |client| {
        seen.send(client.get_ref().peer_addr().unwrap().ip().to_string()).unwrap();
        echo_all(client);
    });
    let sources = "--source 127.0.0.2-127.0.0.3 --source 127.0.0.9";
    let ended = load(address, &format!("{sources} --connections 6 --count 6"));
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let mut seen: Vec<_> = addresses.iter().take(6).collect();
    seen.sort_unstable();
    let expected = ["127.0.0.2", "127.0.0.3", "127.0.0.9"].map(|it| [it, it]).concat();
    assert_eq!(seen, expected);
}

#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let (server, address) = server("--workers 1");
    let arguments = format!("ws://{address}/ --connections 200 --count 200 --json");
    let ended = Program::start_with_soft_limit("load", 50, &arguments).wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    terminate(server);
}

#[test]
fn sigint_ends_the_run_and_prints_the_report() {
    let (answered, answers) = channel();
    let address = freezing(usize::MAX, answered);
    let arguments = "--connections 2 --duration 3600 --json";
    let load = Program::start("load", &format!("ws://{address}/ {arguments}"));
    answers.recv().expect("an answer");
    load.signal("INT");
    let ended = load.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let json = &ended.stdout[0];
    assert!(number(json, "messages") >= 1.0, "{json}");
    assert!(number(json, "seconds") < 3600.0, "{json}");
}

//! Every kind of failure is counted, and its message names the address and the cause.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;

use crate::support::client::reset;
use crate::support::frames;
use crate::support::programs::{Ended, Program, listening, run, server, terminate};
use crate::support::servers::LOCAL;
use crate::{echo_all, fake, freezing, load, number};

/// Expects two connections that failed with `kind`, and a message with `cause`.
#[track_caller]
fn expect_failure(ended: &Ended, address: SocketAddr, kind: &str, cause: &str) {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let json = &ended.stdout[0];
    assert_eq!(number(json, "failures"), 2.0, "{ended:?}");
    assert_eq!(number(json, &format!("failures_{kind}")), 2.0, "{ended:?}");
    let line = &ended.stderr[0];
    assert!(line.contains(&format!(" to {address}: ")), "{line}");
    assert!(line.contains(cause), "{line}");
    assert!(line.contains("(and 1 more: "), "{line}");
}

/// Two connections to a server that answers their first message with `bytes` fail. A third one,
/// which is served by the same server, does not.
#[track_caller]
fn failure_after(bytes: &'static [u8], kind: &str, cause: &str) {
    let count = AtomicU32::new(0);
    let address = fake(move |mut client| {
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            return echo_all(client);
        }
        let _ = client.read();
        client.get_mut().write_all(bytes).expect("load reads");
        client.get_mut().shutdown(Shutdown::Write).expect("it is open");
        // Until load ends the connection.
        let _ = client.read();
    });
    let ended = load(address, "--connections 3 --duration 0.3 --json");
    expect_failure(&ended, address, kind, cause);
    assert!(number(&ended.stdout[0], "messages") > 0.0, "the third continues: {ended:?}");
    assert_eq!(number(&ended.stdout[0], "messages_lost"), 2.0);
    assert_eq!(number(&ended.stdout[0], "closes_unanswered"), 0.0);
}

#[test]
fn a_malformed_frame_is_a_failure() {
    failure_after(&[0xf1, 0], "frame", "message 1: expected RSV bits 000, got 111");
}

#[test]
fn a_wrong_message_is_a_failure() {
    failure_after(&[0x81, 1, b'?'], "wrong", "message 1: expected Text with 32 bytes, got Text");
}

#[test]
fn a_close_by_the_server_is_a_failure() {
    failure_after(&[0x88, 5, 0x03, 0xf3, b'b', b'u', b'g'], "closed", "got Close 1011 \"bug\"");
}

#[test]
fn the_end_of_the_stream_is_a_failure() {
    failure_after(b"", "closed", "message 1: expected a message, got the end of the stream");
}

#[test]
fn an_answer_other_than_101_is_a_failure() {
    // A server that serves one connection answers the others 503.
    let (server, address) = server("--workers 1 --connections-max 1");
    let ended = load(address, "--connections 3 --duration 0.3 --json");
    expect_failure(&ended, address, "upgrade", "expected status 101, got HTTP/1.1 503");
    assert!(number(&ended.stdout[0], "messages") > 0.0, "{ended:?}");
    terminate(server);
}

#[test]
fn a_connection_that_cannot_be_made_is_a_failure() {
    let address = fake(echo_all);
    // 192.0.2.1 is not an address of this machine (RFC 5737).
    let sources = "--source 127.0.0.1 --source 192.0.2.1 --source 192.0.2.1";
    let ended = load(address, &format!("{sources} --connections 3 --duration 0.3 --json"));
    expect_failure(&ended, address, "connect", "connect: Cannot assign requested address");
    assert!(number(&ended.stdout[0], "messages") > 0.0, "{ended:?}");
}

#[test]
fn a_reset_is_a_failure() {
    let address = fake(|mut client| {
        let _ = client.read();
        reset(client.get_ref().try_clone().expect("a descriptor"));
    });
    let ended = load(address, "--connections 2 --duration 0.3 --json");
    expect_failure(&ended, address, "broken", "read: Connection reset by peer");
}

#[test]
fn silence_is_a_failure() {
    let address = freezing(1, channel().0);
    let ended = load(address, "--connections 2 --count 4 --timeout 0.2 --json");
    expect_failure(
        &ended,
        address,
        "silent",
        "message 2: expected a message, got nothing for 0.2 s",
    );
    assert_eq!(number(&ended.stdout[0], "messages"), 2.0);
    // A listener that does not accept: the system does, but the upgrade has no answer.
    let listener = TcpListener::bind(LOCAL).unwrap();
    let address = listener.local_addr().unwrap();
    let ended = load(address, "--connections 2 --count 4 --timeout 0.2 --json");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let cause = "expected an answer to the upgrade, got nothing for 0.2 s";
    assert!(ended.stderr[0].contains(cause), "{ended:?}");
}

/// The publisher comes from 127.0.0.2. The other connection fails once a message was sent.
#[test]
fn a_broadcast_does_not_wait_for_a_receiver_that_failed() {
    let (published, messages) = channel();
    let messages = Mutex::new(messages);
    let address = fake(move |mut client| {
        if client.get_ref().peer_addr().unwrap().ip().to_string() == "127.0.0.2" {
            let message = client.read().expect("a message");
            published.send(()).unwrap();
            client.send(message).expect("load reads");
            echo_all(client);
        } else {
            messages.lock().unwrap().recv().unwrap();
            let _ = client.close(None);
        }
    });
    let arguments = "--broadcast --connections 2 --count 5 --json";
    let sources = "--source 127.0.0.2 --source 127.0.0.3";
    let ended = load(address, &format!("{arguments} {sources}"));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(number(&ended.stdout[0], "published"), 5.0);
    assert_eq!(number(&ended.stdout[0], "failures_closed"), 1.0);
}

#[test]
fn a_prefix_that_load_does_not_expect_is_named() {
    let prefix = ["--prefix", "Echo: "];
    let server = ["--addr", "127.0.0.1:0", "--workers", "1"];
    let server = Program::start_with("server", &[&server[..], &prefix].concat());
    let address = listening(&server);
    let url = format!("ws://{address}/");
    let ended = run("load", &format!("{url} --connections 1 --count 2"));
    assert!(ended.stderr[0].contains("the server adds a prefix: --prefix 'Echo: '"), "{ended:?}");
    let ended = run("load", &format!("{url} --connections 1 --count 2 --prefix >"));
    assert!(ended.stderr[0].contains("the server adds a prefix: --prefix 'Echo: '"), "{ended:?}");
    let others = [&*url, "--connections", "1", "--count", "2"];
    let ended = Program::start_with("load", &[&others[..], &prefix].concat()).wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    terminate(server);
}

#[test]
fn an_echo_without_the_expected_prefix_points_to_the_option() {
    let (server, address) = server("--workers 1");
    let ended = load(address, "--connections 1 --count 2 --prefix >");
    assert!(ended.stderr[0].contains("the server adds no prefix: omit --prefix"), "{ended:?}");
    terminate(server);
}

#[test]
fn a_masked_frame_is_a_failure() {
    let address = fake(|mut client| {
        let _ = client.read();
        let bytes = frames::client(frames::TEXT, b"hi").bytes();
        client.get_mut().write_all(&bytes).expect("load reads");
        let _ = client.read();
    });
    let ended = load(address, "--connections 1 --count 1 --json");
    assert_eq!(number(&ended.stdout[0], "failures_frame"), 1.0);
    assert!(ended.stderr[0].contains("expected an unmasked frame"), "{ended:?}");
}

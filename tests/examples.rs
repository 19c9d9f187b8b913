//! Runs the examples as processes, and checks their output and exit status.

mod support;

use std::net::TcpListener;
use std::time::Duration;

use support::client::{
    ask, close, connect, dial, exchange, expect_bytes, expect_close, expect_keepalive_ping,
    open_raw, read_all, refused, request, upgrade, wait_until,
};
use support::frames;
use support::programs::{Program, full_pipe, listening, run, server, terminate};
use support::servers::LOCAL;
use tungstenite::Message;

/// The reason in the server's close frame at shutdown.
const REASON: &str = "the server is shutting down";

#[test]
fn the_server_prints_its_address_and_echoes() {
    let (server, address) = server("--workers 2");
    assert_eq!(address.ip(), LOCAL.ip());
    assert_ne!(address.port(), 0);
    let mut client = connect(address);
    ask(&mut client, "hi", "hi");
    client.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert_eq!(client.read().unwrap(), Message::binary(vec![1, 2, 3]));
    close(client);
    let ended = terminate(server);
    assert_eq!(ended.stdout, [format!("listening on {address} (2 workers)")]);
}

#[test]
fn the_server_listens_on_every_given_address() {
    let (server, first) = server("--addr [::1]:0 --workers 3");
    let line = server.line("listening on [::1]:");
    let second = line.split(' ').nth(2).and_then(|address| address.parse().ok()).expect("IPv6");
    for address in [first, second] {
        let mut client = connect(address);
        ask(&mut client, "hi", "hi");
        close(client);
    }
    let expected = [first, second].map(|address| format!("listening on {address} (3 workers)"));
    assert_eq!(terminate(server).stdout, expected);
}

#[test]
fn a_prefix_is_added_to_text_echoes() {
    let (server, address) = {
        let arguments = ["--addr", "127.0.0.1:0", "--workers", "1", "--prefix", "Echo: "];
        let server = Program::start_with("server", &arguments);
        let address = listening(&server);
        (server, address)
    };
    let mut client = connect(address);
    ask(&mut client, "hi", "Echo: hi");
    ask(&mut client, "", "Echo: ");
    close(client);
    terminate(server);
}

#[test]
fn a_broadcast_reaches_everyone_with_its_opcode() {
    let (server, address) = server("--workers 3 --broadcast");
    let mut clients: Vec<_> = (0..8).map(|_| connect(address)).collect();
    for message in [Message::text("hi"), Message::binary(vec![0xFF; 70_000])] {
        clients[0].send(message.clone()).unwrap();
        for client in &mut clients {
            assert!(client.read().unwrap() == message);
        }
    }
    clients.into_iter().for_each(close);
    terminate(server);
}

#[test]
fn opens_and_closes_are_logged() {
    let (server, address) = server("--workers 1");
    let mut client = connect(address);
    let from = client.get_ref().local_addr().unwrap();
    ask(&mut client, "a secret", "a secret");
    let opened = server.error_line(&format!(" connected from {from}"));
    let (_, rest) = opened.split_once("peer ").expect("a peer");
    let id = rest.split(' ').next().expect("its name").to_owned();
    close(client);
    let closed = server.error_line(" closed with 1000: closed by the peer");
    assert!(closed.contains(&format!("peer {id} ({from}, open for ")), "{closed}");
    let dropped = connect(address);
    let from = dropped.get_ref().local_addr().unwrap();
    server.error_line(&format!(" connected from {from}"));
    drop(dropped);
    server.error_line(" closed with 1006: ");
    let ended = terminate(server);
    let log = ended.stderr.join("\n");
    assert!(!log.contains("secret"), "messages are logged only when asked for: {log}");
    assert!(log.contains("INFO"), "{log}");
}

#[test]
fn sigterm_and_sigint_close_every_connection_with_1001() {
    for signal in ["TERM", "INT"] {
        let (server, address) = server("--workers 2");
        let mut clients: Vec<_> = (0..5).map(|_| connect(address)).collect();
        for client in &mut clients {
            ask(client, "hi", "hi");
        }
        server.signal(signal);
        for client in clients {
            expect_close(client, 1001, REASON);
        }
        let ended = server.wait();
        assert_eq!(ended.status.code(), Some(0), "{signal}: {ended:?}");
        let log = ended.stderr.join("\n");
        assert_eq!(log.matches(" closed with 1001: closed by the server").count(), 5, "{log}");
    }
}

#[test]
fn the_drain_timeout_ends_a_server_whose_peers_do_not_answer() {
    let (server, address) = server("--workers 1 --drain-timeout 0.2");
    let stream = open_raw(address);
    let ended = terminate(server);
    assert!(
        ended.stderr.join("\n").contains("closed with 1006: the server shut down"),
        "{ended:?}"
    );
    drop(stream);
}

/// Sends signals until the server ends: a second one too soon after the first counts as the same.
#[track_caller]
fn assert_signals_end(mut server: Program) {
    wait_until("it ends", || {
        server.signal("TERM");
        server.has_ended()
    });
    let ended = server.wait();
    assert_eq!(ended.status.code(), Some(128 + 15), "{ended:?}");
}

/// Until a balancer has noticed, it still sends connections, which must not be refused.
#[test]
fn connections_are_accepted_during_the_drain_delay() {
    let (server, address) = server("--workers 2 --drain-delay 3600");
    let mut early = connect(address);
    server.signal("TERM");
    server.error_line("SIGTERM: /readyz fails");
    let mut late = connect(address);
    for (path, answer) in [("/readyz", "HTTP/1.1 503 "), ("/healthz", "HTTP/1.1 200 ")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(exchange(address, &request).starts_with(answer), "{path}");
    }
    ask(&mut early, "early", "early");
    ask(&mut late, "late", "late");
    assert_signals_end(server);
}

#[test]
fn connections_are_closed_after_the_drain_delay() {
    let (server, address) = server("--workers 2 --drain-delay 0.2 --drain-timeout 3600");
    let client = connect(address);
    server.signal("TERM");
    server.error_line("SIGTERM: closing 1 connections");
    expect_close(client, 1001, REASON);
    let ended = server.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let (server, address) = server("--workers 1 --drain-timeout 3600");
    let mut stream = open_raw(address);
    server.signal("TERM");
    let payload = frames::close_payload(1001, REASON.as_bytes());
    expect_bytes(&mut stream, &frames::server(frames::CLOSE, &payload).bytes());
    assert_signals_end(server);
}

/// A log collector that hangs must not keep the server from ending.
#[test]
fn signals_end_a_server_whose_log_is_not_read() {
    let arguments = "--addr 127.0.0.1:0 --workers 1 --drain-timeout 3600";
    let (unread, log) = full_pipe();
    let server = Program::start_logging_to("server", arguments, "info", log);
    let address = listening(&server);
    // This peer does not answer the close frame, so the server does not end without a second
    // signal.
    let _stream = open_raw(address);
    assert_signals_end(server);
    drop(unread);
}

/// Otherwise clients that reconnect could flood the log.
#[test]
fn a_full_server_logs_refusals_at_a_limited_rate() {
    const ROUNDS: usize = 20;
    let (server, address) = server("--workers 1 --connections-max 1");
    for _ in 0..ROUNDS {
        let mut first = None;
        wait_until("the server accepts a connection again", || {
            let (stream, request) = (dial(address), request(address, "/", &[]));
            first = tungstenite::client(request, stream).ok();
            first.is_some()
        });
        assert_eq!(refused(dial(address), request(address, "/", &[])), 503);
        close(first.expect("it is open").0);
    }
    server.error_line("connections_max is reached: connections are answered 503");
    let ended = terminate(server);
    let is_complaint = |line: &&String| line.contains("connections_max is reached");
    let complaints = ended.stderr.iter().filter(is_complaint).count();
    assert!(complaints < ROUNDS / 2, "{complaints}: {ended:?}");
}

#[test]
fn limits_on_the_command_line_take_effect() {
    let (server, address) = server(
        "--workers 1 --message-max 10 --connections-max 2 --handshake-timeout 0.8 --idle-timeout 60",
    );
    let mut first = connect(address);
    ask(&mut first, "0123456789", "0123456789");
    let answer = read_all(&mut dial(address));
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // The connection that timed out ends soon, and another is then accepted.
    let mut second = None;
    wait_until("a second connection is accepted", || {
        let stream = dial(address);
        match tungstenite::client::client(request(address, "/", &[]), stream) {
            Ok((client, _)) => second = Some(client),
            Err(error) => println!("not yet: {error}"),
        }
        second.is_some()
    });
    let answer = read_all(&mut dial(address));
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    first.send(Message::text("0123456789A")).unwrap();
    match first.read() {
        Ok(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1009),
        other => panic!("not a close frame: {other:?}"),
    }
    drop((first, second));
    terminate(server);
}

#[test]
fn an_idle_timeout_on_the_command_line_takes_effect() {
    let (server, address) = server("--workers 1 --idle-timeout 0.2 --handshake-timeout 60");
    let mut stream = open_raw(address);
    expect_keepalive_ping(&mut stream);
    let payload = frames::close_payload(1001, b"idle timeout");
    expect_bytes(&mut stream, &frames::server(frames::CLOSE, &payload).bytes());
    assert_eq!(read_all(&mut stream), "");
    server.error_line("closed with 1006: the peer was silent for too long");
    terminate(server);
}

#[test]
fn a_busy_polling_server_uses_its_core_and_still_serves() {
    let (server, address) = server("--workers 1 --busy-poll 3600000000");
    wait_until("it polls", || server.cpu_time() > Duration::from_millis(100));
    let mut client = connect(address);
    ask(&mut client, "hi", "hi");
    close(client);
    terminate(server);
}

#[test]
fn an_address_in_use_prints_one_line_and_exits_with_2() {
    let listener = TcpListener::bind(LOCAL).unwrap();
    let taken = listener.local_addr().unwrap();
    for arguments in [format!("--addr {taken}"), format!("--addr 127.0.0.1:0 --addr {taken}")] {
        let ended = run("server", &arguments);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert_eq!(ended.stdout, [""; 0]);
        assert_eq!(ended.stderr.len(), 1, "{ended:?}");
        assert!(ended.stderr[0].contains(&taken.to_string()), "{ended:?}");
    }
}

#[test]
fn a_second_server_needs_share_port() {
    let (first, address) = server("--workers 2");
    let ended = run("server", &format!("--addr {address}"));
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert_eq!(ended.stderr.len(), 1, "{ended:?}");
    assert!(ended.stderr[0].contains(&address.to_string()), "{ended:?}");
    let shared = format!("--addr {address} --workers 1 --share-port");
    let second = Program::start("server", &shared);
    assert_eq!(second.line("listening on "), format!("listening on {address} (1 workers)"));
    terminate(first);
    let mut client = connect(address);
    ask(&mut client, "hi", "hi");
    close(client);
    terminate(second);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for (name, arguments, names) in [
        ("server", "--bogus", "--bogus"),
        ("server", "argument", "argument"),
        ("server", "--addr nonsense", "nonsense"),
        ("server", "--addr localhost:9001", "such as 127.0.0.1:9001"),
        ("server", "--addr 127.0.0.1", "127.0.0.1"),
        ("server", "--addr", "--addr"),
        ("server", "--addr 127.0.0.1:0 --workers 0", "--workers"),
        ("server", "--workers -1", "not a whole number"),
        ("server", "--addr 127.0.0.1:0 --workers 5000", "at most 4096"),
        ("server", "--workers many", "many"),
        ("server", "--balance most", "--balance"),
        ("server", "--message-max=-1", "--message-max"),
        ("server", "--addr 127.0.0.1:0 --connections-max 0", "--connections-max"),
        ("server", "--handshake-timeout 0", "--handshake-timeout"),
        ("server", "--idle-timeout soon", "--idle-timeout"),
        ("server", "--trust-proxy 10.0.0.1/8", "the network is 10.0.0.0/8"),
        ("server", "--connections-per-ip 0", "must be more than zero"),
        ("server", "--handshakes-per-ip 5000000000", "--handshakes-per-ip"),
        ("server", "--trust-proxy proxy", "such as 10.0.0.0/8"),
        ("server", "--trust-proxy ::1/129", "--trust-proxy"),
        ("server", "--trust-proxy unix --client-ip-header a:b", "--client-ip-header"),
        ("server", "--client-ip-header Forwarded", "--trust-proxy"),
        ("server", "--ping-interval=-1", "--ping-interval"),
        ("server", "--close-timeout 0", "--close-timeout"),
        ("server", "--drain-timeout NaN", "--drain-timeout"),
        ("server", "--drain-delay=-1", "--drain-delay"),
        ("server", "--stats=-1", "--stats"),
        ("server", "--busy-poll forever", "--busy-poll"),
        ("server", "--broadcast --prefix x", "--broadcast"),
        ("load", "ws://127.0.0.1:1/ --hdr /nowhere/log", "cannot write /nowhere/log"),
        ("load", "ws://127.0.0.1:1/ --csv /nowhere/csv", "cannot write /nowhere/csv"),
    ] {
        let ended = run(name, arguments);
        assert_eq!(ended.status.code(), Some(2), "{name} {arguments}: {ended:?}");
        assert_eq!(ended.stdout, [""; 0], "{name} {arguments}");
        let stderr = ended.stderr.join("\n");
        assert!(stderr.contains(names), "{name} {arguments}: {stderr}");
    }
}

#[test]
fn the_server_example_answers_its_page_health_checks_and_no_other_plain_request() {
    for options in ["--workers 1", "--workers 1 --prefix >"] {
        let (server, address) = server(options);
        for (line, start, end) in [
            ("GET /healthz", "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n"),
            ("HEAD /healthz", "HTTP/1.1 200 OK\r\n", "\r\n\r\n"),
            ("GET /readyz", "HTTP/1.1 200 OK\r\n", "\r\n\r\nready\n"),
            ("GET /healthz?full", "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n"),
            ("GET /", "HTTP/1.1 200 OK\r\n", "</script>\n"),
            ("HEAD /", "HTTP/1.1 200 OK\r\n", "\r\n\r\n"),
            ("GET /favicon.ico", "HTTP/1.1 426 Upgrade Required\r\n", "\n"),
            ("GET /healthz/", "HTTP/1.1 426 Upgrade Required\r\n", "\n"),
            ("OPTIONS /healthz", "HTTP/1.1 405 Method Not Allowed\r\n", "\n"),
        ] {
            for version in [" HTTP/1.0\r\n\r\n", " HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
                let answer = exchange(address, &format!("{line}{version}"));
                assert!(answer.starts_with(start) && answer.ends_with(end), "{line}: {answer}");
            }
        }
        terminate(server);
    }
}

#[test]
fn embed_greets_clients_numbers_messages_and_quits() {
    // Its address is fixed, and may be in use, for example by this test in another checkout.
    let mut embed = Program::start("embed", "");
    wait_until("the address of the embed example is free", || {
        if embed.has_ended() {
            embed = Program::start("embed", "");
        }
        embed.has_printed("listening on ")
    });
    let line = embed.line("listening on ");
    let address = line.split([' ', ';']).nth(2).and_then(|address| address.parse().ok());
    let address = address.expect("an address");
    assert_eq!(refused(dial(address), request(address, "/", &[])), 403);
    let health = exchange(address, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n"), "{health}");
    let (mut ada, _) = upgrade(dial(address), request(address, "/ada", &[]));
    let from = ada.get_ref().local_addr().unwrap();
    let greeting = Message::text(format!("Hello ada, you come from {from}."));
    assert_eq!(ada.read().unwrap(), greeting);
    let (mut bob, _) = upgrade(dial(address), request(address, "/bob", &[]));
    bob.read().expect("a greeting");
    ask(&mut ada, "hi", "1: hi");
    ask(&mut bob, "hi", "1: hi");
    ask(&mut ada, "hi again", "2: hi again");
    close(ada);
    assert_eq!(embed.line("ada said"), "ada said 2 things and left: closed by the peer");
    embed.say("quit");
    expect_close(bob, 1001, REASON);
    let ended = embed.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    let last = ended.stdout.last().map(String::as_str);
    assert_eq!(last, Some("bob said 1 things and left: closed by the server"));
}

#[test]
fn embed_loses_no_message_to_a_full_mailbox() {
    // Far more than the 2048 messages that two mailboxes hold.
    const CLIENTS: usize = 50;
    const LINES: usize = 200;
    let mut embed = Program::start("embed", "127.0.0.1:0");
    let line = embed.line("listening on ");
    let address = line.split([' ', ';']).nth(2).and_then(|address| address.parse().ok());
    let address = address.expect("an address");
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut client, _) = upgrade(dial(address), request(address, "/ada", &[]));
            client.read().expect("a greeting");
            // The other thread knows the connection once `on_open` has returned.
            ask(&mut client, "hi", "1: hi");
            client
        })
        .collect();
    (0..LINES).for_each(|line| embed.say(&format!("line {line}")));
    for client in &mut clients {
        let mut line = 0;
        while line < LINES {
            let text = client.read().expect("a message").into_text().expect("text");
            if !text.starts_with("up for ") {
                assert_eq!(text, format!("line {line}"));
                line += 1;
            }
        }
    }
    clients.into_iter().for_each(close);
    embed.say("quit");
    let ended = embed.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert_eq!(ended.stdout.len(), 1 + CLIENTS, "{ended:?}");
}

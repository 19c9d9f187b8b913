//! The server example in operation: signals, a log or an output that is not read, and the lines
//! that report problems.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use support::client::{
    ask, close, connect, exchange, expect_bytes, expect_close, expect_keepalive_ping, open_raw,
    read_all, wait_until,
};
use support::frames;
use support::programs::{Program, full_pipe, listening, run, server, terminate};
use support::servers::local;
use support::unix::{self, Folder};

const REASON: &str = "the server is shutting down";

/// A free address for a server whose standard output, and so its address, cannot be read.
fn reserved_address(host: u8) -> SocketAddr {
    let listener = TcpListener::bind(local(host)).expect("a free port");
    listener.local_addr().expect("an address")
}

#[track_caller]
fn wait_for_server(address: SocketAddr) {
    wait_until("the server listens", || TcpStream::connect(address).is_ok());
}

#[test]
fn an_empty_rust_log_counts_as_unset() {
    let server = Program::start_filtered("server", "--addr 127.0.0.1:0 --workers 1", "");
    let client = connect(listening(&server));
    server.error_line(" connected from ");
    close(client);
    terminate(server);
}

#[test]
fn a_server_whose_log_is_not_read_serves_and_ends_after_its_drain_timeout() {
    let arguments = "--addr 127.0.0.1:0 --workers 1 --drain-timeout 0.2";
    let (unread, log) = full_pipe();
    let server = Program::start_logging_to("server", arguments, "debug", log);
    let address = listening(&server);
    for _ in 0..20 {
        let mut client = connect(address);
        ask(&mut client, "hi", "hi");
        close(client);
    }
    let _unanswering = open_raw(address);
    terminate(server);
    drop(unread);
}

/// The queue holds only some of these lines, and the pipe one.
#[test]
fn log_lines_above_the_queue_limit_are_dropped_and_counted() {
    const MESSAGES: usize = 60;
    const TEXT_BYTES: usize = 60_000;
    let arguments = "--addr 127.0.0.1:0 --workers 1";
    let (reader, log) = std::io::pipe().unwrap();
    let server = Program::start_logging_to("server", arguments, "server::handlers=debug", log);
    let mut client = connect(listening(&server));
    let text = "x".repeat(TEXT_BYTES);
    for _ in 0..MESSAGES {
        ask(&mut client, &text, &text);
    }

    let mut lines = BufReader::new(reader).lines().map(|line| line.unwrap());
    let mut read = 0;
    let report = loop {
        let line = lines.next().expect("the log continues");
        if line.contains(" log lines were dropped") {
            break line;
        }
        // The first line reports the connection.
        assert!(read == 0 || line.ends_with("x\""), "line {read}: {line}");
        read += 1;
    };
    let count = report.split(' ').rev().nth(4).and_then(|count| count.parse::<usize>().ok());
    assert_eq!(count, Some(1 + MESSAGES - read), "{report}");
    assert!(read < MESSAGES, "the queue is bounded");
    assert!(read > 10, "the queue holds a burst: {read}");

    ask(&mut client, "later", "later");
    assert!(lines.next().expect("the log continues").ends_with(" sent \"later\""));
    close(client);
    terminate(server);
}

/// Names and blocked signals of a server's threads. Bit 0 is signal 1.
fn threads(server: &Program) -> Vec<(String, u64)> {
    let paths = fs::read_dir(format!("/proc/{}/task", server.id())).expect("the server runs");
    let thread = |path: PathBuf| {
        let name = fs::read_to_string(path.join("comm")).expect("the thread runs");
        let status = fs::read_to_string(path.join("status")).expect("the thread runs");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("a mask");
        let blocked = u64::from_str_radix(mask.trim(), 16).expect("hexadecimal digits");
        (name.trim().to_owned(), blocked)
    };
    let mut threads: Vec<_> =
        paths.map(|entry| thread(entry.expect("the server runs").path())).collect();
    threads.sort();
    threads
}

/// The kernel may deliver a signal of the process to any thread that does not block it.
#[test]
fn every_thread_blocks_the_handled_signals() {
    const HUP_INT_TERM: u64 = 1 << 0 | 1 << 1 | 1 << 14;
    const NAMES: [&str; 6] = ["log", "report", "server", "signals", "ws-worker-0", "ws-worker-1"];
    let (server, _) = server("--workers 2 --stats 3600");
    let mut found = Vec::new();
    wait_until("every thread has its name", || {
        found = threads(&server);
        found.iter().map(|(name, _)| name).eq(NAMES)
    });
    for (name, blocked) in found {
        // sigwait(3) unblocks the signals while it waits.
        if name != "signals" {
            assert_eq!(blocked & HUP_INT_TERM, HUP_INT_TERM, "{name}");
        }
    }
    terminate(server);
}

#[test]
fn sighup_is_logged_and_ignored() {
    let (server, address) = server("--workers 1");
    let mut client = connect(address);
    server.signal("HUP");
    server.error_line("SIGHUP: there is no configuration to reload");
    ask(&mut client, "hi", "hi");
    server.signal("TERM");
    expect_close(client, 1001, REASON);
    let ended = server.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

/// nohup(1), and a shell in the background, start programs in this way.
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let arguments = "--addr 127.0.0.1:0 --workers 1";
    let server = Program::start_ignoring("server", arguments, "HUP INT");
    let mut client = connect(listening(&server));
    server.signal("HUP");
    server.signal("INT");
    ask(&mut client, "hi", "hi");
    close(client);
    // If the other signals were pending, they would be delivered before this one.
    let log = terminate(server).stderr.join("\n");
    assert!(log.contains("SIGTERM: closing "), "{log}");
    assert!(!log.contains("SIGHUP") && !log.contains("SIGINT"), "{log}");
}

#[test]
fn sigterm_ends_the_server_even_if_ignored_at_the_start() {
    let arguments = "--addr 127.0.0.1:0 --workers 1";
    let server = Program::start_ignoring("server", arguments, "TERM");
    let client = connect(listening(&server));
    server.signal("TERM");
    expect_close(client, 1001, REASON);
    let ended = server.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

#[test]
fn a_full_standard_output_neither_ends_nor_blocks_the_server() {
    let address = reserved_address(20);
    let (unread, output) = full_pipe();
    let arguments = format!("--addr {address} --workers 1 --stats 0.01");
    let server = Program::start_printing_to("server", &arguments, output);
    wait_for_server(address);
    let mut client = connect(address);
    ask(&mut client, "hi", "hi");
    close(client);
    terminate(server);
    drop(unread);
}

#[test]
fn a_standard_output_without_a_reader_does_not_end_the_server() {
    let address = reserved_address(21);
    let (reader, output) = std::io::pipe().unwrap();
    drop(reader);
    let arguments = format!("--addr {address} --workers 1 --stats 0.01");
    let server = Program::start_printing_to("server", &arguments, output);
    server.error_line("cannot write to standard output: ");
    let mut client = connect(address);
    ask(&mut client, "hi", "hi");
    close(client);
    let log = terminate(server).stderr.join("\n");
    assert_eq!(log.matches("standard output").count(), 1, "{log}");
}

/// The duration, in seconds, in a line about the end of a connection from `client`.
#[track_caller]
fn seconds_open(line: &str, client: SocketAddr) -> f64 {
    let (_, rest) = line.split_once(&format!(" ({client}, open for ")).expect("the client");
    let (seconds, _) = rest.split_once(" s) closed with ").expect("a time");
    seconds.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn the_end_of_a_connection_is_logged_with_its_address_and_its_duration() {
    // Times are truncated, so their difference may be off by one unit.
    const UNIT_S: f64 = 0.01;
    let (server, first) = server("--workers 1 --addr [::1]:0 --idle-timeout 0.3");
    let line = server.line("listening on [::1]:");
    let second = line.split(' ').nth(2).and_then(|address| address.parse().ok()).expect("IPv6");
    for address in [first, second] {
        let start = Instant::now();
        let silent = open_raw(address);
        let client = silent.local_addr().unwrap();
        let line = server.error_line(&format!(" ({client}, "));
        let seconds = seconds_open(&line, client);
        assert!(line.contains(" closed with 1006: the peer was silent for too long"), "{line}");
        assert!(seconds >= 0.3 - UNIT_S, "{line}");
        assert!(seconds <= start.elapsed().as_secs_f64() + UNIT_S, "{line}");
    }
    terminate(server);
}

/// Replaces every number in `line` with `0`.
fn form(line: &str) -> String {
    let mut form = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if form.ends_with('0') => {}
            '0'..='9' => form.push('0'),
            _ => form.push(c),
        }
    }
    form
}

#[test]
fn the_counters_are_printed_in_one_line() {
    let (server, address) = server("--workers 1 --stats 0.05");
    let client = connect(address);
    let line = server.line(" open 1, ");
    assert_eq!(
        form(&line),
        "0-0-0T0:0:0Z open 0, opened 0/s, in 0 msg/s 0.0 MB/s, out 0 msg/s 0.0 MB/s; \
         since start: refused 0, accept pauses 0, errors 0"
    );
    assert!(line.ends_with("since start: refused 0, accept pauses 0, errors 0"), "{line}");
    close(client);
    terminate(server);
}

#[test]
fn rates_cover_the_last_interval() {
    const QUIET: &str = " in 0 msg/s 0.000 MB/s, out 0 msg/s 0.000 MB/s; ";
    let (server, address) = server("--workers 1 --stats 0.05");
    server.line(QUIET);
    let mut client = connect(address);
    let text = "x".repeat(1_000_000);
    ask(&mut client, &text, &text);
    wait_until("a line counts the message, and a later line does not", || {
        let lines = server.lines();
        let mut reports = lines.iter().filter(|line| line.contains(" msg/s "));
        reports.any(|line| !line.contains(QUIET)) && reports.any(|line| line.contains(QUIET))
    });
    close(client);
    terminate(server);
}

#[test]
fn refusals_and_errors_are_totals_since_the_start() {
    let (server, address) = server("--workers 1 --stats 0.05");
    assert!(exchange(address, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    server.line("; since start: refused 1, accept pauses 0, errors 0");
    let mut faulty = open_raw(address);
    // RFC 6455 5.1: a server closes the connection on an unmasked frame.
    faulty.write_all(&frames::server(frames::TEXT, b"x").bytes()).unwrap();
    server.line("; since start: refused 1, accept pauses 0, errors 1 (protocol 1)");
    drop(faulty);
    terminate(server);
}

#[test]
fn a_ping_interval_on_the_command_line_takes_effect() {
    let (server, address) = server("--workers 1 --ping-interval 0.1 --idle-timeout 3600");
    let mut stream = open_raw(address);
    expect_keepalive_ping(&mut stream);
    drop(stream);
    terminate(server);
}

#[test]
fn without_a_ping_interval_there_are_no_pings() {
    let (server, address) = server("--workers 1 --ping-interval 0 --idle-timeout 0.2");
    let mut stream = open_raw(address);
    let payload = frames::close_payload(1001, b"idle timeout");
    expect_bytes(&mut stream, &frames::server(frames::CLOSE, &payload).bytes());
    assert_eq!(read_all(&mut stream), "");
    drop(stream);
    terminate(server);
}

#[test]
fn a_close_timeout_on_the_command_line_takes_effect() {
    let (server, address) = server("--workers 1 --close-timeout 0.2 --drain-timeout 3600");
    let unanswering = open_raw(address);
    let ended = terminate(server);
    let log = ended.stderr.join("\n");
    assert!(log.contains(" closed with 1006: the peer did not answer the close frame"), "{log}");
    drop(unanswering);
}

#[test]
fn a_unix_socket_is_served_beside_tcp_and_its_clients_are_logged_by_process() {
    let folder = Folder::new();
    let path = folder.file("ws.sock");
    let name = format!("ws-reactor-server-{}", std::process::id());
    let unix = format!("unix:{}", path.display());
    let (server, address) =
        server(&format!("--workers 2 --unix-mode 600 --addr {unix} --addr unix-abstract:{name}"));
    server.line(&format!("listening on {unix} (2 workers)"));
    server.line(&format!("listening on unix-abstract:{name} (2 workers)"));
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    let uid = fs::metadata(&path).expect("the file").uid();
    unix::close(unix::open(&path));
    let client = format!("unix: pid {}, uid {uid}", std::process::id());
    server.error_line(&format!(" connected from {client}"));
    let line = server.error_line(&format!(" ({client}, open for "));
    assert!(line.contains(" s) closed with 1000: closed by the peer"), "{line}");
    for url in [unix, format!("unix-abstract:{name}"), format!("ws://{address}/")] {
        let ended = run("load", &format!("{url} --connections 8 --count 200"));
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    }
    terminate(server);
    assert!(!path.exists(), "the file is removed");
}

#[test]
fn a_unix_socket_that_cannot_be_used_is_one_line_and_status_2() {
    let folder = Folder::new();
    let [live, text] = ["live.sock", "text"].map(|name| folder.file(name));
    let _listener = UnixListener::bind(&live).expect("a new file");
    fs::write(&text, "precious").expect("a new file");
    for (addr, options, reason) in [
        (live.to_str(), "", "another process listens on it; stop that, or choose another address"),
        (text.to_str(), "", "the file is not a socket; remove it, or choose another path"),
        (Some(""), "", "invalid value 'unix:' for '--addr <ADDRESS>'"),
        (Some("unused"), "--unix-mode 9", "not an octal number, such as 660"),
        (Some("unused"), "--unix-mode 1777", "the mode 1777 of Unix sockets must be at most 777"),
    ] {
        let addr = addr.expect("UTF-8");
        let ended = run("server", &format!("--addr unix:{addr} {options}"));
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert_eq!(ended.stderr.len(), 1, "{ended:?}");
        assert!(ended.stderr[0].contains(reason), "{ended:?}");
        if !reason.contains("value") && options.is_empty() {
            let start = format!("server: cannot listen on unix:{addr}: ");
            assert!(ended.stderr[0].starts_with(&start), "{ended:?}");
        }
    }
    assert_eq!(fs::read_to_string(&text).expect("the file is left"), "precious");
}

#[test]
fn load_says_that_a_unix_socket_cannot_be_reached() {
    let missing = Folder::new().file("missing.sock");
    let url = format!("unix:{}", missing.display());
    let ended = run("load", &format!("{url} --connections 1 --count 1"));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr[0].contains(&format!("connection 1 to {url}: ")), "{ended:?}");
    let ended = run("load", "unix:");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    assert!(ended.stderr[0].contains("the name of the Unix socket is missing"), "{ended:?}");
}

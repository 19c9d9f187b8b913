//! The server example in an operator's hands: signals, a log or an output that nobody reads, the
//! lines to read when something is wrong.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use support::client::{ask, close, connect, expect_close, open_raw, wait_until};
use support::programs::{Program, full_pipe, listening, server, terminate};

const REASON: &str = "the server is shutting down";

#[test]
fn an_empty_rust_log_is_an_unset_one() {
    let server = Program::start_filtered("server", "--addr 127.0.0.1:0 --workers 1", "");
    let client = connect(listening(&server));
    server.error_line(" connected from ");
    close(client);
    terminate(server);
}

#[test]
fn a_server_whose_log_nobody_reads_serves_and_ends_by_its_drain_timeout() {
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

/// The queue has room for some of these lines only, and the pipe for one.
#[test]
fn log_lines_that_nobody_reads_are_dropped_and_counted() {
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
        let line = lines.next().expect("the log goes on");
        if line.contains(" log lines were dropped") {
            break line;
        }
        // The first line is that of the connection.
        assert!(read == 0 || line.ends_with("x\""), "line {read}: {line}");
        read += 1;
    };
    let count = report.split(' ').rev().nth(4).and_then(|count| count.parse::<usize>().ok());
    assert_eq!(count, Some(1 + MESSAGES - read), "{report}");
    assert!(read < MESSAGES, "the queue is bounded");
    assert!(read > 10, "the queue holds a burst: {read}");

    ask(&mut client, "later", "later");
    assert!(lines.next().expect("the log goes on").ends_with(" sent \"later\""));
    close(client);
    terminate(server);
}

/// The threads of a server: their names, and the signals that they block. Bit 0 is signal 1.
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

/// The kernel delivers a signal of the process to any thread that does not block it.
#[test]
fn every_thread_blocks_the_handled_signals() {
    const HUP_INT_TERM: u64 = 1 << 0 | 1 << 1 | 1 << 14;
    const NAMES: [&str; 5] = ["log", "server", "signals", "ws-worker-0", "ws-worker-1"];
    let (server, _) = server("--workers 2");
    let mut found = Vec::new();
    wait_until("every thread has its name", || {
        found = threads(&server);
        found.iter().map(|(name, _)| name).eq(NAMES)
    });
    for (name, blocked) in found {
        // sigwait(3) unblocks them while it waits for them.
        if name != "signals" {
            assert_eq!(blocked & HUP_INT_TERM, HUP_INT_TERM, "{name}");
        }
    }
    terminate(server);
}

#[test]
fn sighup_is_logged_and_ends_nothing() {
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

/// As nohup(1) starts a program, and a shell one in the background.
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let arguments = "--addr 127.0.0.1:0 --workers 1";
    let server = Program::start_ignoring("server", arguments, "HUP INT");
    let mut client = connect(listening(&server));
    server.signal("HUP");
    server.signal("INT");
    ask(&mut client, "hi", "hi");
    close(client);
    // Of several signals that are pending, this one would come last.
    let log = terminate(server).stderr.join("\n");
    assert!(log.contains("SIGTERM: closing "), "{log}");
    assert!(!log.contains("SIGHUP") && !log.contains("SIGINT"), "{log}");
}

#[test]
fn sigterm_ends_the_server_even_if_it_was_ignored_at_the_start() {
    let arguments = "--addr 127.0.0.1:0 --workers 1";
    let server = Program::start_ignoring("server", arguments, "TERM");
    let client = connect(listening(&server));
    server.signal("TERM");
    expect_close(client, 1001, REASON);
    let ended = server.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}

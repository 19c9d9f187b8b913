//! The server example in an operator's hands: signals, a log or an output that nobody reads, the
//! lines to read when something is wrong.

mod support;

use std::io::{BufRead, BufReader};

use support::client::{ask, close, connect, open_raw};
use support::programs::{Program, full_pipe, listening, terminate};

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

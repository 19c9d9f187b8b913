//! A server process that is stopped and continued (SIGSTOP, SIGCONT), as by a debugger, a container
//! freezer or a job-control shell: its deadlines still apply, and bytes that arrived in time count.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use support::programs::Program;
use support::requests::{GOOD_REQUEST, GOOD_RESPONSE};

/// Far more stops than fit into the timeout of one second.
const STOPS_MAX: usize = 200;

/// epoll_wait(2) ends with EINTR after each SIGCONT (signal(7)), so no wait of this server lasts as
/// long as its timeout.
#[test]
fn a_handshake_times_out_in_a_process_that_keeps_being_stopped() {
    let server = Program::start("server", "--addr 127.0.0.1:0 --workers 1 --handshake-timeout 1");
    let line = server.line("listening on ");
    let address = line.split(' ').nth(2).expect("the address is the third word");
    let mut client = TcpStream::connect(address).expect("the server listens");
    let (answered, answer) = channel();
    thread::spawn(move || {
        let mut text = String::new();
        let _ = answered.send(client.read_to_string(&mut text).map(|_| text));
    });
    let mut received = None;
    for _ in 0..STOPS_MAX {
        server.signal("STOP");
        received = answer.recv_timeout(Duration::from_millis(20)).ok();
        server.signal("CONT");
        received = received.or_else(|| answer.recv_timeout(Duration::from_millis(200)).ok());
        if received.is_some() {
            break;
        }
    }
    let text = received.expect("an answer after the timeout").expect("the connection is not reset");
    assert!(text.starts_with("HTTP/1.1 408 "), "{text:?}");
}

/// The wait that SIGCONT interrupts reports no events, although the request has arrived.
#[test]
fn a_request_that_arrived_while_the_process_was_stopped_is_answered_after_its_deadline() {
    let server = Program::start("server", "--addr 127.0.0.1:0 --workers 1 --handshake-timeout 3");
    let line = server.line("listening on ");
    let address = line.split(' ').nth(2).expect("the address is the third word");
    let connect = || TcpStream::connect(address).expect("the server listens");
    let (mut first, mut second) = (connect(), connect());
    // The worker accepts in order: once the second is open, the timeout of the first has started.
    assert_eq!(ask(&mut second), GOOD_RESPONSE);
    server.signal("STOP");
    while !is_stopped(server.id()) {
        thread::yield_now();
    }
    first.write_all(GOOD_REQUEST).expect("the kernel accepts it");
    second.set_read_timeout(Some(Duration::from_secs(4))).expect("it is not zero");
    let _ = second.read(&mut [0]).expect_err("a stopped server sends nothing");
    server.signal("CONT");
    assert_eq!(response(&mut first), GOOD_RESPONSE);
}

/// Whether every thread of the process has stopped: kill(2) does not wait for that.
fn is_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses (proc(5)).
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
    })
}

fn ask(client: &mut TcpStream) -> Vec<u8> {
    client.write_all(GOOD_REQUEST).expect("the server reads");
    response(client)
}

fn response(client: &mut TcpStream) -> Vec<u8> {
    let mut response = vec![0; GOOD_RESPONSE.len()];
    client.read_exact(&mut response).expect("the server answers");
    response
}

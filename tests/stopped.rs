//! A server process that is stopped and continued again and again (SIGSTOP, SIGCONT), as a debugger, a
//! container's freezer or a job-control shell does: its deadlines still come.

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use support::programs::Program;

/// Far more stops than the one second of the timeout takes.
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
    let text = received.expect("the timeout comes").expect("the connection is not reset");
    assert!(text.starts_with("HTTP/1.1 408 "), "{text:?}");
}

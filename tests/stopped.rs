//! A server process that is stopped and continued again and again (SIGSTOP, SIGCONT), as a debugger, a
//! container's freezer or a job-control shell does: its deadlines still come.

mod support;

use std::io::Read;
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
    let mut client = std::net::TcpStream::connect(address).expect("the server listens");
    let answer = thread::spawn(move || {
        let mut answer = String::new();
        client.read_to_string(&mut answer).map(|_| answer)
    });
    let mut stops = 0;
    while !answer.is_finished() {
        assert!(stops < STOPS_MAX, "the timeout does not come");
        stops += 1;
        server.signal("STOP");
        thread::sleep(Duration::from_millis(20));
        server.signal("CONT");
        thread::sleep(Duration::from_millis(200));
    }
    let answer = answer.join().expect("the client ends").expect("the connection is not reset");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
}

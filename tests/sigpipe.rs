//! A peer that disconnects does not end a program that, unlike Rust programs, does not ignore
//! SIGPIPE.

mod support;

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

use support::client::{half_close, open_raw, reset, wait_until};
use support::frames::{TEXT, client};
use support::servers::{address, serve, stop};
use ws_reactor::{Handler, Message, Peer, Reply};

/// Sends a message on the first and echoes the second, once the test permits it, so that two
/// buffers are written in one call.
struct Answers {
    asked: Sender<()>,
    permitted: Receiver<()>,
}

impl Handler for Answers {
    type State = u32;

    fn on_message(&mut self, peer: &mut Peer<'_, u32>, _: Message<'_>) -> Reply {
        *peer.state += 1;
        if *peer.state == 2 {
            return Reply::Echo;
        }
        peer.send("first");
        self.asked.send(()).expect("the test waits");
        self.permitted.recv().expect("the test permits");
        Reply::None
    }
}

#[test]
fn writing_to_a_closed_connection_does_not_end_the_process() {
    // SAFETY: no thread of this process relies on a handler for the signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (asked, is_asked) = channel();
    let (permit, permitted) = channel();
    let mut handler = Some(Answers { asked, permitted });
    let server = serve(1, || handler.take().expect("there is one worker"));
    let mut stream = open_raw(address(&server));
    stream.write_all(&client(TEXT, b"x").bytes().repeat(2)).unwrap();
    is_asked.recv().unwrap();
    // Writing fails with EPIPE only if the stream's end preceded the reset (tcp(7)).
    half_close(&stream);
    reset(stream);
    permit.send(()).unwrap();
    wait_until("the connection ends", || server.stats().ended == 1);
    assert_eq!(stop(&server).messages_in, 2);
}

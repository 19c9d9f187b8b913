//! A program that does not ignore SIGPIPE, as Rust's do, is not ended by a peer that goes away.

mod support;

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};

use support::client::{half_close, open_raw, reset, wait_until};
use support::frames::{TEXT, client};
use support::servers::{address, serve, stop};
use ws_reactor::{Handler, Message, Peer, Reply};

/// Answers the first message with one of its own and the second with itself, when it is told to: two
/// buffers, one call.
struct Answers {
    asked: Sender<()>,
    told: Receiver<()>,
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
        self.told.recv().expect("the test tells");
        Reply::None
    }
}

#[test]
fn a_peer_that_is_gone_when_it_is_answered_is_the_end_of_nobody_else() {
    // SAFETY: no thread of this process has a handler of its own for the signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let (asked, is_asked) = channel();
    let (tell, told) = channel();
    let mut handler = Some(Answers { asked, told });
    let server = serve(1, || handler.take().expect("there is one worker"));
    let mut stream = open_raw(address(&server));
    stream.write_all(&client(TEXT, b"x").bytes().repeat(2)).unwrap();
    is_asked.recv().unwrap();
    // A reset is an EPIPE only behind an end of the stream (tcp(7)).
    half_close(&stream);
    reset(stream);
    tell.send(()).unwrap();
    wait_until("the connection ends", || server.stats().ended == 1);
    assert_eq!(stop(&server).messages_in, 2);
}

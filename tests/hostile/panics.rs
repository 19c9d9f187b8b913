//! A handler with a fault that peers can find.

use std::io::Write;

use ws_reactor::{Handler, Peer, Reply};

use crate::crowd::open_all;
use crate::support::canary::Canary;
use crate::support::client::{expect_raw_close, wait_until};
use crate::support::frames::{TEXT, client};
use crate::support::servers::{address, serve, stop};

/// Peers that find it, all at once.
const CLIENTS: usize = 100;

/// Echoes, and panics over a certain word.
struct Faulty;

impl Handler for Faulty {
    type State = ();

    fn on_message(&mut self, _: &mut Peer<'_, ()>, message: ws_reactor::Message<'_>) -> Reply {
        if message.as_bytes() == b"abracadabra" {
            // A panic that is not reported a hundred times.
            std::panic::resume_unwind(Box::new("told to"));
        }
        Reply::Echo
    }
}

#[test]
fn a_hundred_peers_that_make_the_handler_panic_lose_themselves_only() {
    let server = serve(1, || Faulty);
    let canary = Canary::start(address(&server));
    let mut streams = open_all(address(&server), CLIENTS);
    for stream in &mut streams {
        stream.write_all(&client(TEXT, b"abracadabra").bytes()).expect("the server reads");
    }
    for stream in streams {
        expect_raw_close(stream, 1011, "");
    }
    wait_until("they have ended", || server.stats().ended == CLIENTS as u64);
    canary.finish();
    let stats = stop(&server);
    assert_eq!((stats.handler_panics, stats.opened), (CLIENTS as u64, CLIENTS as u64 + 1));
}

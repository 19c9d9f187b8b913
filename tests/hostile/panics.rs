//! A handler that peers can make panic.

use std::io::Write;

use ws_reactor::{Handler, Peer, Reply};

use crate::crowd::open_all;
use crate::support::canary::Canary;
use crate::support::client::{expect_raw_close, wait_until};
use crate::support::frames::{TEXT, client};
use crate::support::servers::{address, serve, stop};

/// Peers that cause a panic at the same time.
const CLIENTS: usize = 100;

/// Echoes, and panics on a certain message.
struct Faulty;

impl Handler for Faulty {
    type State = ();

    fn on_message(&mut self, _: &mut Peer<'_, ()>, message: ws_reactor::Message<'_>) -> Reply {
        if message.as_bytes() == b"abracadabra" {
            // This skips the panic hook, which would print a hundred reports.
            std::panic::resume_unwind(Box::new("as requested"));
        }
        Reply::Echo
    }
}

#[test]
fn a_hundred_handler_panics_end_only_their_own_connections() {
    let server = serve(1, || Faulty);
    let canary = Canary::start(address(&server));
    let mut streams = open_all(address(&server), CLIENTS);
    for stream in &mut streams {
        stream.write_all(&client(TEXT, b"abracadabra").bytes()).expect("the server reads");
    }
    for stream in streams {
        expect_raw_close(stream, 1011, "");
    }
    wait_until("the connections have ended", || server.stats().ended == CLIENTS as u64);
    canary.finish();
    let stats = stop(&server);
    assert_eq!((stats.handler_panics, stats.opened), (CLIENTS as u64, CLIENTS as u64 + 1));
}

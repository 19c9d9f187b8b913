//! Clients that end TCP at every byte of a session.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::canary::Canary;
use crate::support::client::{dial, expect_bytes, half_close, reset, wait_until};
use crate::support::frames::{
    BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client, close_payload, server,
};
use crate::support::requests::{GOOD_REQUEST, GOOD_RESPONSE};
use crate::support::server_process::ServerProcess;

/// The bytes that a client sends in one piece, and the answer.
type Step = (Vec<u8>, Vec<u8>);

/// A session with every kind of message and control frame.
fn session() -> Vec<Step> {
    let close = close_payload(1000, b"bye");
    let echo =
        |opcode, payload: &[u8]| (client(opcode, payload).bytes(), server(opcode, payload).bytes());
    let first = client(TEXT, b"frag").fin(false).bytes();
    let last = client(CONTINUATION, b"ments").bytes();
    let binary =
        (client(BINARY, b"st").fin(false).bytes(), server(BINARY, b"st").fin(false).bytes());
    vec![
        (GOOD_REQUEST.to_vec(), GOOD_RESPONSE.to_vec()),
        echo(TEXT, b"text"),
        (client(PING, b"ping").bytes(), server(PONG, b"ping").bytes()),
        ([first, client(PING, b"").bytes()].concat(), server(PONG, b"").bytes()),
        (last, server(TEXT, b"fragments").bytes()),
        binary,
        echo(CONTINUATION, b"reamed"),
        (client(CLOSE, &close).bytes(), server(CLOSE, &close[..2]).bytes()),
    ]
}

/// The first `cut` bytes of the session, and the answers to the complete steps in them.
fn start_of(session: &[Step], cut: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut input, mut output) = (Vec::new(), Vec::new());
    for (sent, answer) in session {
        input.extend(sent);
        if input.len() <= cut {
            output.extend(answer);
        }
    }
    input.truncate(cut);
    (input, output)
}

#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    HalfClose,
    Reset,
}

impl End {
    #[track_caller]
    fn act(self, mut stream: TcpStream) {
        match self {
            Self::Close => drop(stream),
            Self::Reset => reset(stream),
            Self::HalfClose => {
                half_close(&stream);
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).expect("the server ends its direction too");
            }
        }
    }
}

/// One client for each byte of the session ends TCP there. If `waits`, each first waits for the
/// answers, so that the server has read all its bytes.
fn end_everywhere(end: End, waits: bool) {
    let server = ServerProcess::start("");
    let canary = Canary::start(server.address());
    let descriptors = server.descriptors();
    let session = session();
    let length: usize = session.iter().map(|(sent, _)| sent.len()).sum();
    for cut in 0..=length {
        let (input, output) = start_of(&session, cut);
        let mut stream = dial(server.address());
        stream.write_all(&input).expect("the server reads");
        if waits {
            expect_bytes(&mut stream, &output);
        }
        end.act(stream);
    }
    wait_until(&format!("{end:?} leaves no descriptor open"), || {
        server.descriptors() == descriptors
    });
    let ended = length as u64 + 1;
    let counters = server.wait_for("all have ended", |counters| counters.of("ended") == ended);
    assert_eq!(counters.of("accepted"), ended + 1, "the canary is connected too");
    assert_eq!(counters.of("opened"), counters.of("closed") + 1, "{end:?}");
    if waits {
        let without_request = GOOD_REQUEST.len() as u64;
        assert_eq!(counters.of("closed"), ended - without_request, "{end:?}");
    }
    assert_eq!(counters.of("close_timeouts"), 0, "{end:?} ends a connection at once");
    canary.finish();
    server.finish();
}

#[test]
fn a_close_at_every_byte_leaves_no_connection() {
    end_everywhere(End::Close, false);
    end_everywhere(End::Close, true);
}

#[test]
fn a_half_close_at_every_byte_leaves_no_connection() {
    end_everywhere(End::HalfClose, false);
    end_everywhere(End::HalfClose, true);
}

#[test]
fn a_reset_at_every_byte_leaves_no_connection() {
    end_everywhere(End::Reset, false);
    end_everywhere(End::Reset, true);
}

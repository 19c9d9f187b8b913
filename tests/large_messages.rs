//! Large messages that arrive in many reads, which go straight into the message's memory: the
//! events and replies are the same, and memory grows with the bytes that have arrived.

mod support;

use support::frames::{BINARY, TEXT, client, server};
use ws_reactor::protocol::{Delivery, Event, HEADROOM_BYTES, Limits, Session, Workspace};

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, fragments_max: 10 };

/// Maximum memory of an incomplete message, per byte received.
const GROWTH_FACTOR: usize = 4;

/// Maximum size of a frame's header, of a client or a server.
const HEADER_BYTES_MAX: usize = 14;

/// A session that echoes, with a count of bytes read directly into a message.
struct Echo {
    session: Session,
    workspace: Workspace,
    direct_bytes: usize,
}

impl Echo {
    fn new(delivery: Delivery, workspace: Workspace) -> Self {
        Self { session: Session::new(delivery), workspace, direct_bytes: 0 }
    }

    /// Reads up to `len` bytes of `input`, into the direct buffer if there is one. Returns their
    /// number.
    fn take(&mut self, input: &[u8], len: usize) -> usize {
        let mut len = len.min(input.len());
        let mut buf = vec![0; HEADROOM_BYTES];
        match self.session.direct_buffer(&LIMITS) {
            Some(direct) => {
                len = len.min(direct.len());
                direct[..len].copy_from_slice(&input[..len]);
                self.session.commit(len);
                self.direct_bytes += len;
            }
            None => buf.extend(&input[..len]),
        }
        let mut window = self.session.window(&mut buf);
        while let Ok(Some(event)) =
            self.session.next_event(&mut window, &LIMITS, &mut self.workspace)
        {
            if let Event::Message(received) = event {
                received.echo(&mut window, &mut self.workspace);
            }
        }
        window.move_run(&mut self.workspace);
        len
    }

    fn direct_buffer_len(&mut self) -> usize {
        self.session.direct_buffer(&LIMITS).map_or(0, |direct| direct.len())
    }
}

/// Echoes `input`, which arrives in a read of `first` bytes and further reads of `step` bytes.
/// Returns the output, and the number of bytes read directly into messages.
fn echo(input: &[u8], first: usize, step: usize) -> (Vec<u8>, usize) {
    let mut echo = Echo::new(Delivery::Whole, Workspace::default());
    let mut taken = echo.take(input, first);
    while taken < input.len() {
        taken += echo.take(&input[taken..], step);
    }
    (echo.workspace.out, echo.direct_bytes)
}

#[test]
fn direct_reads_produce_the_same_output() {
    let payload = "h\u{e9}llo \u{1f600}".repeat(20_000);
    let input = client(TEXT, payload.as_bytes()).bytes().repeat(2);
    let expected = server(TEXT, payload.as_bytes()).bytes().repeat(2);
    for first in [15, 5_000, 40_001, 100_000] {
        for step in [9_999, 16_385, 1 << 20] {
            let (out, direct_bytes) = echo(&input, first, step);
            assert!(out == expected, "{first} {step}");
            let is_cut_late = first > 5_000 || step < 1 << 20;
            assert_eq!(direct_bytes > 0, is_cut_late, "{first} {step}");
        }
    }
}

#[test]
fn an_invalid_byte_in_a_direct_read_fails_at_once() {
    let mut payload = "h\u{e9}".repeat(40_000).into_bytes();
    payload[90_000] = 0xFF;
    let (out, direct_bytes) = echo(&client(TEXT, &payload).bytes(), 40_000, 60_000);
    assert_eq!(out, b"\x88\x02\x03\xEF");
    assert!(direct_bytes > 0);
}

/// A frame that announces a million bytes, in pieces of several sizes.
#[test]
fn memory_grows_with_the_bytes_received() {
    let input = client(TEXT, &[b'a'; 1_000_000]).bytes();
    for first in [14, 15, 1_000, 5_600, 16_398, 20_000, 65_550, 200_000] {
        for step in [1, 7, 16_500] {
            let mut echo = Echo::new(Delivery::Whole, Workspace::default());
            let mut taken = echo.take(&input, first);
            for _ in 0..50 {
                let bytes = taken + echo.direct_buffer_len();
                assert!(bytes <= GROWTH_FACTOR * taken, "{bytes} for {taken}: {first} {step}");
                taken += echo.take(&input[taken..], step);
            }
        }
    }
}

/// An announced length alone must not claim the worker's spare memory.
#[test]
fn spare_memory_is_used_only_for_bytes_received() {
    let kept = || {
        let mut workspace = Workspace::default();
        workspace.out.reserve_exact((1 << 20) + HEADER_BYTES_MAX);
        workspace.clear();
        workspace
    };
    let input = client(TEXT, &[b'a'; 1 << 20]).bytes();
    for first in [14, 15, 20_000, 200_000, 262_158, 266_240] {
        let mut echo = Echo::new(Delivery::Whole, kept());
        let taken = echo.take(&input, first);
        let bytes = taken + echo.direct_buffer_len();
        assert!(bytes <= GROWTH_FACTOR * taken, "{bytes} for {taken}");
        assert_eq!(bytes > 1 << 20, first > 262_150, "{bytes} for {taken}");
    }
}

/// The echo of a large binary message begins before the message is complete.
#[test]
fn binary_messages_above_16_kib_are_streamed() {
    for len in [100, 16 * 1024, 16 * 1024 + 1, 100_000] {
        let payload = vec![7; len];
        let input = client(BINARY, &payload).bytes();
        let mut echo = Echo::new(Delivery::StreamedEcho, Workspace::default());
        let taken = echo.take(&input, input.len() - 10);
        assert_eq!(!echo.workspace.out.is_empty(), len > 16 * 1024, "{len}");
        echo.take(&input[taken..], 10);
        assert!(echo.workspace.out == server(BINARY, &payload).bytes(), "{len}");
    }
}

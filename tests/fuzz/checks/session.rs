//! A session returns the same events and replies for every way to cut its input, with and without
//! the direct buffer. Its replies are valid frames and equal those of the model, and its memory is
//! bounded.

use ws_reactor::protocol::{
    CloseCode, Delivery, Event, HEADROOM_BYTES, Limits, Message, ProtocolError, STREAM_BYTES_MIN,
    Session, Workspace,
};

use super::codec::{Header, masked, replies};
use super::model::{Model, Rules, echo};
use super::pieces::{Pieces, or_whole, step_len};

/// The events and replies for an input.
#[derive(Debug, Default, Eq, PartialEq)]
struct Outcome {
    events: Vec<Seen>,
    out: Vec<u8>,
    /// The last reply is incomplete, because it streams an incomplete frame.
    is_mid_frame: bool,
    is_closed: bool,
}

#[derive(Debug, Eq, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    /// Bytes of a streamed message, and whether it is complete.
    Streamed(usize, bool),
    Fragment,
    Ping,
    Pong(Vec<u8>),
    Close(Option<CloseCode>, Vec<u8>),
    Failed(ProtocolError),
}

pub fn session(input: &[u8]) {
    let mut pieces = Pieces::new(input);
    let delivery = pieces.pick(&[Delivery::Whole, Delivery::StreamedEcho]);
    let limits = Limits {
        message_bytes_max: pieces.pick(&[70_000, 10, 125, 126, 1000, 17_000]),
        fragments_max: pieces.pick(&[1000, 1, 3]),
    };
    let steps = pieces.steps();
    let input =
        if pieces.byte().is_multiple_of(2) { pieces.rest().to_vec() } else { frames(&mut pieces) };

    let whole = feed(&input, delivery, &limits, &[]);
    assert!(replies(&whole.out).len() <= 1 + input.len() / 6, "at most one reply for each frame");
    let mut model = Model::opened(Rules {
        message_bytes_max: limits.message_bytes_max as u64,
        fragments_max: limits.fragments_max,
        streams_above: (delivery == Delivery::StreamedEcho).then_some(STREAM_BYTES_MIN as u64),
        handler: echo,
    });
    model.feed(&input);
    assert!(whole.out == model.expected, "the model's replies differ: {whole:?}");
    for steps in [&steps[..], &[1]] {
        let walked: usize = steps.iter().map(|step| step_len(*step, input.len())).sum();
        if input.len() * steps.len() <= READS_MAX * walked {
            let cut = feed(&input, delivery, &limits, steps);
            assert!(cut == whole, "cut at {steps:?}: {cut:?}, whole: {whole:?}");
        }
    }
}

/// Valid and invalid frames in a compact description.
fn frames(pieces: &mut Pieces<'_>) -> Vec<u8> {
    let mut input = Vec::new();
    while !pieces.is_empty() && input.len() < INPUT_BYTES_MAX {
        let (first, form) = (pieces.byte(), pieces.byte());
        let len = match form >> 4 & 3 {
            0 | 1 => pieces.byte().into(),
            2 => usize::from(pieces.byte()) * 8,
            _ => usize::from(pieces.short()) + 5000,
        };
        let pattern_len = usize::from(pieces.byte() % 16);
        let pattern = pieces.bytes(pattern_len);
        let payload: Vec<u8> = pattern.iter().chain(b"a").copied().cycle().take(len).collect();
        let length_bytes = match (form & 3, len) {
            (0, 0..126) => 0,
            (0, 126..65_536) | (1, _) => 2,
            (2, _) | (0, _) => 8,
            _ => 0,
        };
        let header = Header {
            fin: first & 0x80 != 0,
            rsv: first >> 4 & 7,
            opcode: first & 0xF,
            key: (form & 4 == 0).then_some([0x37, 0xFA, 0x21, first]),
            payload_len: if length_bytes == 0 { len as u64 % 126 } else { len as u64 },
            length_bytes,
        };
        input.extend(header.encode());
        let sent = if form & 8 == 0 { len } else { len / 2 };
        input.extend(masked(&payload[..sent], header.key.unwrap_or_default()));
    }
    input
}

/// Feeds `input` to a session that echoes, cut in steps.
fn feed(all: &[u8], delivery: Delivery, limits: &Limits, steps: &[u16]) -> Outcome {
    let mut session = Session::new(delivery);
    let mut workspace = Workspace::default();
    let mut outcome = Outcome::default();
    let mut input = all;
    for step in or_whole(steps).iter().cycle() {
        let len = step_len(*step, input.len());
        if input.is_empty() {
            break;
        }
        let mut buf = vec![0; HEADROOM_BYTES];
        let taken = match session.direct_buffer(limits) {
            Some(direct) if step & DIRECT != 0 => {
                assert!(direct.len() <= limits.message_bytes_max, "larger than a message");
                let arrived = all.len() - input.len();
                assert!(direct.len() <= 3 * arrived, "memory for bytes that have not arrived");
                let taken = len.min(direct.len());
                direct[..taken].copy_from_slice(&input[..taken]);
                session.commit(taken);
                taken
            }
            _ => {
                buf.extend(&input[..len]);
                len
            }
        };
        input = &input[taken..];
        let was_closed = session.is_closed();
        let seen = outcome.events.len();
        take(&mut session, &mut buf, limits, &mut workspace, &mut outcome);
        assert!(!was_closed || outcome.events.len() == seen, "an event after the last");
        assert!(
            workspace.out.capacity() <= 4 * (INPUT_BYTES_MAX + limits.message_bytes_max),
            "memory"
        );
        outcome.out.append(&mut workspace.out);
    }
    outcome.is_mid_frame = session.is_mid_frame();
    outcome.is_closed = session.is_closed();
    outcome
}

/// Takes every event of a read.
fn take(
    session: &mut Session,
    buf: &mut [u8],
    limits: &Limits,
    workspace: &mut Workspace,
    outcome: &mut Outcome,
) {
    let mut window = session.window(buf);
    loop {
        let event = match session.next_event(&mut window, limits, workspace) {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(error) => {
                assert!(session.is_closed());
                outcome.events.push(Seen::Failed(error));
                continue;
            }
        };
        let seen = match event {
            Event::Message(received) => {
                let message = received.lend(&mut window);
                assert!(message.as_bytes().len() <= limits.message_bytes_max);
                let seen = match message {
                    Message::Text(text) => {
                        assert!(
                            std::str::from_utf8(text.as_bytes()).is_ok(),
                            "the session has validated it"
                        );
                        Seen::Text(text.as_bytes().to_vec())
                    }
                    Message::Binary(bytes) => Seen::Binary(bytes.to_vec()),
                };
                received.echo(&mut window, workspace);
                seen
            }
            Event::Streamed { payload_len, message_end } => {
                let before = match outcome.events.last() {
                    Some(Seen::Streamed(before, false)) => *before,
                    _ => 0,
                };
                if before > 0 || matches!(outcome.events.last(), Some(Seen::Streamed(0, false))) {
                    outcome.events.pop();
                }
                Seen::Streamed(before + payload_len, message_end)
            }
            Event::Fragment => Seen::Fragment,
            Event::Ping => Seen::Ping,
            Event::Pong(payload) => Seen::Pong(window.bytes(&payload).to_vec()),
            Event::Close { code, reason, .. } => Seen::Close(code, window.bytes(&reason).to_vec()),
            other => panic!("{other:?} has no `Seen` yet"),
        };
        outcome.events.push(seen);
    }
    assert!(window.is_empty(), "the session has taken all input");
    window.move_run(workspace);
}

/// The bit of a step that selects the direct buffer, if there is one.
const DIRECT: u16 = 0x8000;

/// Maximum number of reads. Inputs whose steps would need more are not cut.
const READS_MAX: usize = 600;

/// Described frames are added until they exceed this size.
const INPUT_BYTES_MAX: usize = 1 << 17;

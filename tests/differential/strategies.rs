//! Proptest strategies for scripts: mostly valid frames, and some invalid ones.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tungstenite::Message;
use ws_reactor::protocol::STREAM_BYTES_MIN;

use super::frames::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload};
use super::rng::Rng;
use super::script::{Act, Length, Script, Sent, Step};

/// A script of valid and invalid frames in any order.
pub(crate) fn any_script() -> impl Strategy<Value = Script> {
    let limits = prop_oneof![9 => select(vec![10, 124, 125, 126, 1000]), 1 => Just(70_000)];
    limits.prop_flat_map(|message_max| {
        let frames = vec(any_frames(message_max), 1..6).prop_map(|frames| frames.concat());
        let faults = vec((any::<Index>(), fault(message_max)), 0..3);
        let close = weighted(0.25, (any::<Index>(), close_act()));
        let fragments_max = select(vec![1, 3, u32::MAX, u32::MAX]);
        (frames, faults, close, fragments_max, any::<u64>()).prop_map(
            move |(mut frames, faults, close, fragments_max, seed)| {
                for (at, fault) in faults {
                    fault.apply(&mut frames, at);
                }
                let mut steps: Vec<_> = frames.into_iter().map(Step::new).collect();
                if let (Some((at, close)), false) = (close, steps.is_empty()) {
                    at.get_mut(&mut steps).before.push(close);
                }
                Script { message_max, fragments_max, steps, seed }
            },
        )
    })
}

/// A script of valid frames, with calls of the server.
pub(crate) fn good_script() -> impl Strategy<Value = Script> {
    let message_max = GOOD_BYTES_MAX;
    let frames = vec(good_frames(message_max), 1..5).prop_map(|frames| frames.concat());
    let acts = vec((any::<Index>(), any::<bool>(), act()), 0..6);
    (frames, acts, any::<u64>()).prop_map(move |(frames, acts, seed)| {
        let mut steps: Vec<_> = frames.into_iter().map(Step::new).collect();
        for (at, is_within, act) in acts {
            let step = at.get_mut(&mut steps);
            let done = if is_within { step.clone().within(act) } else { step.clone().before(act) };
            *step = done;
        }
        Script { seed, ..Script::new(message_max, steps) }
    })
}

/// A message, a control frame, or a random frame.
fn any_frames(message_max: usize) -> impl Strategy<Value = Vec<Sent>> {
    prop_oneof![
        6 => good_frames(message_max),
        1 => close_frame().prop_map(|frame| vec![frame]),
        1 => wild_frame(message_max).prop_map(|frame| vec![frame]),
    ]
}

/// The message limit of scripts of valid frames.
const GOOD_BYTES_MAX: usize = 70_000;

fn good_frames(message_max: usize) -> impl Strategy<Value = Vec<Sent>> {
    prop_oneof![
        3 => message(message_max),
        1 => control().prop_map(|frame| vec![frame]),
    ]
}

/// A message in up to six frames, cut anywhere, with control frames between them.
fn message(message_max: usize) -> impl Strategy<Value = Vec<Sent>> {
    let cuts = prop_oneof![1 => Just(Vec::new()), 1 => vec((any::<Index>(), weighted(0.3, control())), 1..6)];
    (any::<bool>(), size(message_max), any::<u64>(), cuts).prop_map(
        |(is_text, size, seed, mut cuts)| {
            let payload = if is_text { text(size, seed) } else { bytes(size, seed) };
            let first = if is_text { TEXT } else { BINARY };
            cuts.sort_by_key(|(at, _)| at.index(size + 1));
            let mut frames: Vec<Sent> = Vec::new();
            let mut from = 0;
            for (at, control) in cuts {
                let to = at.index(size + 1);
                let opcode = if frames.is_empty() { first } else { CONTINUATION };
                frames.push(Sent::new(opcode, &payload[from..to]).fin(false));
                frames.extend(control);
                from = to;
            }
            let opcode = if frames.is_empty() { first } else { CONTINUATION };
            frames.push(Sent::new(opcode, &payload[from..]));
            frames
        },
    )
}

fn control() -> impl Strategy<Value = Sent> {
    let size = prop_oneof![0..20_usize, select(vec![0, 124, 125])];
    (select(vec![PING, PONG]), size, any::<u64>())
        .prop_map(|(opcode, size, seed)| Sent::new(opcode, &bytes(size, seed)))
}

fn close_frame() -> impl Strategy<Value = Sent> {
    let code = prop_oneof![3 => code(), 1 => 990..1020_u16, 1 => any::<u16>()];
    let reason = prop_oneof![
        3 => (0..40_usize, any::<u64>()).prop_map(|(size, seed)| text(size, seed)),
        1 => (120..124_usize, any::<u64>()).prop_map(|(size, seed)| text(size, seed)),
        1 => vec(any::<u8>(), 1..5),
    ];
    prop_oneof![
        1 => Just(Vec::new()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        8 => (code, reason).prop_map(|(code, reason)| close_payload(code, &reason)),
    ]
    .prop_map(|payload| Sent::new(CLOSE, &payload))
}

/// A frame with random fields.
fn wild_frame(message_max: usize) -> impl Strategy<Value = Sent> {
    let rsv = prop_oneof![3 => Just(0), 1 => 0..8_u8];
    let length = prop_oneof![3 => Just(Length::Minimal), 1 => length(message_max)];
    let opcode = prop_oneof![2 => select(vec![0, 1, 2, 8, 9, 10]), 1 => 0..16_u8];
    (any::<bool>(), rsv, opcode, weighted(0.8, Just(())), length, size(message_max), any::<u64>())
        .prop_map(|(fin, rsv, opcode, mask, length, size, seed)| {
            let payload = bytes(size, seed);
            let frame = Sent::new(opcode, &payload).fin(fin).rsv(rsv).length(length);
            without_hidden_payload(Sent { masked: mask.is_some(), ..frame })
        })
}

/// An encoding of a length other than the shortest.
fn length(message_max: usize) -> impl Strategy<Value = Length> {
    let least = message_max.max(1 << 16) as u64 + 1;
    prop_oneof![
        2 => Just(Length::Sixteen),
        2 => Just(Length::SixtyFour),
        1 => select(vec![least, i64::MAX as u64, 1 << 63, u64::MAX]).prop_map(Length::Huge),
        1 => (least..).prop_map(Length::Huge),
    ]
}

/// A size of a message: small, at a boundary of the encoding or of the library, or near the limit.
fn size(message_max: usize) -> impl Strategy<Value = usize> {
    let boundaries = [0, 1, 125, 126, 127, STREAM_BYTES_MIN, STREAM_BYTES_MIN + 1, 65_535, 65_536];
    let boundaries: Vec<_> = boundaries.into_iter().filter(|size| *size <= message_max).collect();
    prop_oneof![
        12 => 0..message_max.min(40),
        4 => select(boundaries),
        1 => message_max - 1..=message_max + 1,
        1 => 0..=message_max,
    ]
    // A script of valid frames must not exceed the limit.
    .prop_map(move |size| if message_max == GOOD_BYTES_MAX { size.min(message_max) } else { size })
}

/// A call of the server.
fn act() -> impl Strategy<Value = Act> {
    let size = || prop_oneof![12 => 0..40_usize, 2 => select(vec![125, 126]), 1 => select(vec![65_535, 65_536])];
    prop_oneof![
        2 => (size(), any::<u64>()).prop_map(|(size, seed)| {
            let text = String::from_utf8(text(size, seed)).expect("the text is UTF-8");
            Act::Send(Message::text(text))
        }),
        2 => (size(), any::<u64>())
            .prop_map(|(size, seed)| Act::Send(Message::binary(bytes(size, seed)))),
        2 => (0..140_usize, any::<u64>())
            .prop_map(|(size, seed)| Act::Send(Message::Ping(bytes(size, seed).into()))),
        1 => close_act(),
    ]
}

fn close_act() -> impl Strategy<Value = Act> {
    (code(), prop_oneof![0..20_usize, 118..140_usize], any::<u64>()).prop_map(
        |(code, size, seed)| {
            Act::Close(code, String::from_utf8(text(size, seed)).expect("the text is UTF-8"))
        },
    )
}

/// A code that may be sent, and that tungstenite knows.
fn code() -> impl Strategy<Value = u16> {
    select(vec![1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4999])
}

/// A change that may make valid frames invalid.
#[derive(Clone, Debug)]
enum Fault {
    Rsv(u8),
    OpCode(u8),
    Fin(bool),
    Unmask,
    Length(Length),
    /// Replaces bytes of the payload.
    Bytes(Index, Vec<u8>),
    /// Removes the last byte of the payload.
    Shorten,
    Drop,
    Repeat,
    /// Swaps the frame with the next one.
    Swap,
}

fn fault(message_max: usize) -> impl Strategy<Value = Fault> {
    let not_utf8 =
        [&b"\x80"[..], b"\xC0", b"\xC3", b"\xE2\x82", b"\xED\xA0\x80", b"\xF4\x90", b"\xFF"];
    let not_utf8: Vec<_> = not_utf8.iter().map(|bytes| bytes.to_vec()).collect();
    prop_oneof![
        1 => (1..8_u8).prop_map(Fault::Rsv),
        1 => (0..16_u8).prop_map(Fault::OpCode),
        2 => select(vec![0, 1, 2, 8, 9, 10]).prop_map(Fault::OpCode),
        3 => any::<bool>().prop_map(Fault::Fin),
        1 => Just(Fault::Unmask),
        3 => length(message_max).prop_map(Fault::Length),
        6 => (any::<Index>(), select(not_utf8)).prop_map(|(at, bytes)| Fault::Bytes(at, bytes)),
        1 => Just(Fault::Shorten),
        2 => Just(Fault::Drop),
        1 => Just(Fault::Repeat),
        2 => Just(Fault::Swap),
    ]
}

impl Fault {
    fn apply(self, frames: &mut Vec<Sent>, at: Index) {
        if frames.is_empty() {
            return;
        }
        let at = at.index(frames.len());
        let frame = &mut frames[at];
        match self {
            Self::Rsv(rsv) => frame.rsv = rsv,
            Self::OpCode(opcode) => frame.opcode = opcode,
            Self::Fin(fin) => frame.fin = fin,
            Self::Unmask => frame.masked = false,
            Self::Length(length) => {
                *frame = without_hidden_payload(frame.clone().length(length));
            }
            Self::Bytes(at, bytes) => {
                let at = at.index(frame.payload.len() + 1);
                for (to, byte) in frame.payload[at..].iter_mut().zip(bytes) {
                    *to = byte;
                }
            }
            Self::Shorten => _ = frame.payload.pop(),
            Self::Drop => _ = frames.remove(at),
            Self::Repeat => {
                let again = frame.clone();
                frames.insert(at, again);
            }
            Self::Swap => {
                let next = (at + 1) % frames.len();
                frames.swap(at, next);
            }
        }
    }
}

/// Removes the payload of a frame of a huge length, and gives a payload that needs it the 64-bit
/// form.
fn without_hidden_payload(mut frame: Sent) -> Sent {
    match frame.length {
        Length::Huge(_) => frame.payload.clear(),
        Length::Sixteen if frame.payload.len() > 65_535 => frame.length = Length::SixtyFour,
        _ => {}
    }
    frame
}

/// `size` bytes of UTF-8, in characters of any length or of one byte each.
fn text(size: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let characters: &[char] = match rng.below(3) {
        0 => &['a', 'b', 'c'],
        _ => &['a', 'é', '語', '\u{d7ff}', '\u{e000}', '🦀', '\u{10ffff}'],
    };
    rng.text(size, characters).into_bytes()
}

fn bytes(size: usize, seed: u64) -> Vec<u8> {
    Rng::new(seed).bytes(size)
}

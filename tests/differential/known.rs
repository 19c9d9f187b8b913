//! The differences between this library and tungstenite, and why ours is right.
//!
//! An entry defines the frames that it covers, so a difference at any other frame fails the test.
//! It also defines the reaction of both servers, so the test fails too if a difference disappears
//! or changes.

use super::frames::{BINARY, CLOSE, CONTINUATION, PING, TEXT, close_payload};
use super::ours;
use super::script::{Act, Length, Script, Sent, Step};
use super::seen::Seen;
use ws_reactor::protocol::Delivery;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Known {
    FaultInTooLongFrame,
    LengthNotMinimal,
    DataAfterOurClose,
    StrayFrameTooLong,
    TooManyFragments,
    CloseCode1014,
    CloseCodeAndReasonBad,
    CloseCodeBad,
    CloseCodeBadInAnswer,
}

impl Known {
    pub(crate) const ALL: [Self; 9] = [
        Self::FaultInTooLongFrame,
        Self::LengthNotMinimal,
        Self::DataAfterOurClose,
        Self::StrayFrameTooLong,
        Self::TooManyFragments,
        Self::CloseCode1014,
        Self::CloseCodeAndReasonBad,
        Self::CloseCodeBad,
        Self::CloseCodeBadInAnswer,
    ];
}

/// A known difference.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) difference: Known,
    /// The section of the RFC that supports us, and the reason.
    pub(crate) rfc: &'static str,
    /// Whether it covers the frame at this index.
    covers: fn(&Script, usize) -> bool,
    ours: Reaction,
    theirs: Reaction,
}

/// The reaction of a server to a frame.
#[derive(Debug)]
enum Reaction {
    Fails(u16),
    /// Skips it.
    Nothing,
    /// Accepts the close frame with its code and reason.
    TakesClose,
    /// Accepts the close frame as if it had this code and reason.
    TakesCloseAs(u16, &'static str),
    /// The reaction of our server to the frame at the same index of another script.
    AsIf(fn(&Script, usize) -> Script),
}

/// For each frame the first entry that covers it applies.
pub(crate) const TABLE: [Entry; 9] = [
    Entry {
        difference: Known::FaultInTooLongFrame,
        rfc: "RFC 6455 5.2 and 7.4.1: the header itself is invalid, and 1009 is about the size of \
              a message; tungstenite checks the length first",
        covers: |script, at| is_too_long(script, at) && is_header_invalid(&script.steps[at].frame),
        ours: Reaction::Fails(1002),
        theirs: Reaction::Fails(1009),
    },
    Entry {
        difference: Known::LengthNotMinimal,
        rfc: "RFC 6455 5.2: the minimal number of bytes MUST be used to encode the length; \
              tungstenite accepts any",
        covers: |script, at| {
            let frame = &script.steps[at].frame;
            !frame.is_reserved() && !frame.is_minimal()
        },
        ours: Reaction::Fails(1002),
        theirs: Reaction::AsIf(|script, at| {
            changed(script, at, |frame| frame.length = Length::Minimal)
        }),
    },
    Entry {
        difference: Known::DataAfterOurClose,
        rfc: "RFC 6455 5.5.1: we MUST NOT send data after our close frame, so we cannot answer; \
              tungstenite checks the frame and passes it to its caller",
        covers: |script, at| {
            let frame = &script.steps[at].frame;
            script.is_closed_before(at) && frame.is_data() && !is_header_invalid(frame)
        },
        ours: Reaction::Nothing,
        theirs: Reaction::AsIf(|script, _| Script {
            fragments_max: u32::MAX,
            ..script.without_acts()
        }),
    },
    Entry {
        difference: Known::StrayFrameTooLong,
        rfc: "RFC 6455 5.4 and 7.4.1: the frame belongs to no message, and 1009 is about the size \
              of a message; tungstenite checks the length first",
        covers: |script, at| {
            let opcode = script.steps[at].frame.opcode;
            let is_stray = match script.incomplete_message(at) {
                None => opcode == CONTINUATION,
                Some(_) => opcode == TEXT || opcode == BINARY,
            };
            is_stray && is_too_long(script, at) && !is_header_invalid(&script.steps[at].frame)
        },
        ours: Reaction::Fails(1002),
        theirs: Reaction::Fails(1009),
    },
    Entry {
        difference: Known::TooManyFragments,
        rfc: "RFC 6455 10.4: an implementation may set limits; tungstenite has none for fragments",
        covers: |script, at| {
            let frame = &script.steps[at].frame;
            let (count, bytes) = script.incomplete_message(at).unwrap_or_default();
            let continues = (count > 0) == (frame.opcode == CONTINUATION);
            continues
                && frame.is_data()
                && !is_header_invalid(frame)
                && count >= script.fragments_max
                && bytes + frame.announced() <= script.message_max as u64
        },
        ours: Reaction::Fails(1008),
        theirs: Reaction::AsIf(|script, _| Script { fragments_max: u32::MAX, ..script.clone() }),
    },
    Entry {
        difference: Known::CloseCode1014,
        rfc: "RFC 6455 7.4.2 and 11.7: IANA has registered 1014 (bad gateway); tungstenite does \
              not know it",
        covers: |script, at| {
            !script.is_closed_before(at)
                && close_of(script, at).is_some_and(|(code, is_utf8)| code == 1014 && is_utf8)
        },
        ours: Reaction::TakesClose,
        theirs: Reaction::TakesCloseAs(1002, "Protocol violation"),
    },
    Entry {
        difference: Known::CloseCodeAndReasonBad,
        rfc: "RFC 6455 5.5.1 and 7.4: code and reason are both invalid, and the code comes first; \
              tungstenite checks the reason first",
        covers: |script, at| {
            close_of(script, at).is_some_and(|(code, is_utf8)| !is_allowed(code) && !is_utf8)
        },
        ours: Reaction::Fails(1002),
        theirs: Reaction::Fails(1007),
    },
    Entry {
        difference: Known::CloseCodeBad,
        rfc: "RFC 6455 7.4.1 and 7.4.2: the code MUST NOT be sent, so this is a protocol error; \
              tungstenite answers 1002 too, but reports an orderly close with that code",
        covers: |script, at| {
            !script.is_closed_before(at)
                && close_of(script, at).is_some_and(|(code, _)| !is_allowed(code))
        },
        ours: Reaction::Fails(1002),
        theirs: Reaction::TakesCloseAs(1002, "Protocol violation"),
    },
    Entry {
        difference: Known::CloseCodeBadInAnswer,
        rfc: "RFC 6455 7.4.1 and 7.4.2: the code MUST NOT be sent in an answer either; tungstenite \
              does not check it there",
        covers: |script, at| close_of(script, at).is_some_and(|(code, _)| !is_allowed(code)),
        ours: Reaction::Fails(1002),
        theirs: Reaction::TakesClose,
    },
];

/// The entry that covers frame `at`.
pub(crate) fn find(script: &Script, at: usize) -> Option<&'static Entry> {
    const { &TABLE }.iter().find(|entry| (entry.covers)(script, at))
}

/// Our events for frame `at` according to `entry`.
pub(crate) fn ours(entry: &Entry, script: &Script, at: usize) -> Vec<Seen> {
    entry.ours.seen(script, at)
}

/// The events that tungstenite must report for frame `at`: the same as ours, or those of the table.
pub(crate) fn theirs(script: &Script, at: usize) -> Vec<Seen> {
    match find(script, at) {
        None => ours::judge(script, Delivery::Whole).of_frames.swap_remove(at),
        Some(entry) => entry.theirs.seen(script, at),
    }
}

impl Reaction {
    fn seen(&self, script: &Script, at: usize) -> Vec<Seen> {
        let seen = match self {
            Self::Fails(code) => Seen::Failed(*code),
            Self::Nothing => return Vec::new(),
            Self::TakesClose => {
                let (code, reason) = script.steps[at].frame.payload.split_at(2);
                let reason =
                    String::from_utf8(reason.to_vec()).expect("the entry covers only UTF-8");
                Seen::Close(Some(u16::from_be_bytes([code[0], code[1]])), reason)
            }
            Self::TakesCloseAs(code, reason) => Seen::Close(Some(*code), (*reason).to_owned()),
            Self::AsIf(change) => return theirs(&change(script, at), at),
        };
        vec![seen]
    }
}

/// One or more scripts for each entry, which covers the last frame.
pub(crate) fn examples() -> Vec<(Known, Script)> {
    let script = |frames: &[Sent]| {
        Script::new(1000, frames.iter().map(|frame| Step::new(frame.clone())).collect())
    };
    let close = |code, reason| Sent::new(CLOSE, &close_payload(code, reason));
    let ours_before =
        |frame| Script::new(1000, vec![Step::new(frame).before(Act::Close(1001, String::new()))]);
    let huge = Length::Huge(1 << 40);
    let fragment = |opcode| Sent::new(opcode, b"a").fin(false);
    let too_many = script(&[fragment(TEXT), fragment(CONTINUATION), Sent::new(CONTINUATION, b"a")]);
    let mut all = vec![
        (Known::LengthNotMinimal, script(&[Sent::new(TEXT, b"a").length(Length::Sixteen)])),
        (Known::LengthNotMinimal, script(&[Sent::new(PING, b"a").length(Length::Sixteen)])),
        (Known::LengthNotMinimal, script(&[Sent::new(CLOSE, b"").length(Length::SixtyFour)])),
        (
            Known::LengthNotMinimal,
            script(&[Sent::new(BINARY, &[0; 126]).length(Length::SixtyFour)]),
        ),
        (Known::DataAfterOurClose, ours_before(Sent::new(TEXT, b"a"))),
        (Known::DataAfterOurClose, ours_before(Sent::new(TEXT, b"\xFF"))),
        (Known::DataAfterOurClose, ours_before(Sent::new(BINARY, b"a").length(huge))),
        (Known::DataAfterOurClose, ours_before(Sent::new(CONTINUATION, b"a"))),
        (Known::StrayFrameTooLong, script(&[Sent::new(CONTINUATION, b"").length(huge)])),
        (Known::StrayFrameTooLong, script(&[fragment(TEXT), Sent::new(BINARY, b"").length(huge)])),
        (Known::TooManyFragments, Script { fragments_max: 2, ..too_many }),
        (Known::CloseCode1014, script(&[close(1014, b"")])),
        (Known::CloseCodeAndReasonBad, script(&[close(1005, b"\xFF")])),
        (Known::CloseCodeAndReasonBad, ours_before(close(1005, b"\xFF"))),
        (Known::CloseCodeBad, script(&[close(1005, b"")])),
        (Known::CloseCodeBad, script(&[close(5000, b"why")])),
        (Known::CloseCodeBadInAnswer, ours_before(close(1006, b"why"))),
    ];
    let too_long = Sent::new(BINARY, b"").length(huge);
    let top_bit = Sent::new(BINARY, b"").length(Length::Huge(1 << 63));
    for frame in [
        top_bit,
        too_long.clone().rsv(4),
        Sent { masked: false, ..too_long },
        Sent::new(PING, b"").length(huge),
        Sent::new(PING, b"").length(huge).fin(false),
        Sent::new(BINARY, &[0; 1001]).length(Length::SixtyFour),
    ] {
        all.push((Known::FaultInTooLongFrame, script(&[frame])));
    }
    all
}

fn changed(script: &Script, at: usize, change: fn(&mut Sent)) -> Script {
    let mut script = script.clone();
    change(&mut script.steps[at].frame);
    script
}

/// Whether the frame exceeds tungstenite's limit.
fn is_too_long(script: &Script, at: usize) -> bool {
    script.steps[at].frame.announced() > script.frame_max() as u64
}

/// Whether the header is invalid regardless of earlier frames. A reserved opcode does not count,
/// because tungstenite checks it even before the length.
fn is_header_invalid(frame: &Sent) -> bool {
    let is_bad_control = frame.is_control() && (!frame.fin || frame.announced() > 125);
    let is_bad_length = !frame.is_minimal() || frame.announced() > i64::MAX as u64;
    !frame.is_reserved() && (frame.rsv != 0 || !frame.masked || is_bad_control || is_bad_length)
}

/// The code of a close frame with a valid header, and whether the reason is UTF-8.
fn close_of(script: &Script, at: usize) -> Option<(u16, bool)> {
    let frame = &script.steps[at].frame;
    if frame.opcode != CLOSE || is_header_invalid(frame) {
        return None;
    }
    let (code, reason) = frame.payload.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*code), std::str::from_utf8(reason).is_ok()))
}

/// Whether a close frame may carry `code` (RFC 6455 7.4, and the IANA registry for 1012 to 1014).
const fn is_allowed(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

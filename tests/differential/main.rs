//! The protocol compared with tungstenite, an independent implementation, on random frames.
//!
//! As servers both must handle every frame alike: they report the same messages, pings, pongs and
//! close frames, and fail at the same frame with the same code. [`known`] lists the exceptions,
//! with the sections of RFC 6455 that support us. As a client tungstenite must receive exactly the
//! replies that we intend to send.
//!
//! `PROPTEST_CASES=100000 cargo test --test differential` tests more scripts than the default run,
//! and `PROPTEST_RNG_SEED` repeats a run.

#[path = "../support/rng.rs"]
#[allow(dead_code, reason = "a part is used")]
#[allow(unreachable_pub, reason = "a module of a test binary has no outside")]
mod rng;
#[path = "../support/frames.rs"]
#[allow(dead_code, reason = "a part is used")]
#[allow(unreachable_pub, reason = "a module of a test binary has no outside")]
mod frames;
mod script;
mod strategies;
mod seen;
mod ours;
mod theirs;
mod replies;
mod known;

use proptest::test_runner::{Config, TestRunner};
use tungstenite::Message;
use ws_reactor::protocol::{Delivery, STREAM_BYTES_MIN};

use frames::{BINARY, CLOSE, CONTINUATION, PING, TEXT, close_payload};
use known::Known;
use script::{Act, Script, Sent, Step};
use seen::{Seen, alike};

const DELIVERIES: [Delivery; 2] = [Delivery::Whole, Delivery::StreamedEcho];

#[test]
fn both_servers_handle_every_frame_alike() {
    run(2000, strategies::any_script(), |script| compare(&script));
}

#[test]
fn a_client_receives_the_expected_replies() {
    run(500, strategies::good_script(), |script| {
        let outcomes = theirs::judge(&script.without_acts());
        for delivery in DELIVERIES {
            let ours = ours::judge(&script, delivery);
            let expected = replies::expected(&script, &outcomes, delivery);
            replies::check(&ours.replies, &expected, delivery);
        }
    });
}

#[test]
fn a_client_receives_messages_of_boundary_sizes() {
    let sizes = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537];
    let streamed = [STREAM_BYTES_MIN - 1, STREAM_BYTES_MIN, STREAM_BYTES_MIN + 1];
    for size in sizes.into_iter().chain(streamed) {
        for opcode in [TEXT, BINARY] {
            let payload = vec![b'a'; size];
            let message = match opcode {
                TEXT => Message::text("b".repeat(size)),
                _ => Message::binary(vec![0xFF; size]),
            };
            let ping = Act::Send(Message::Ping(vec![b'c'; size.min(125)].into()));
            let whole = Step::new(Sent::new(opcode, &payload))
                .before(Act::Send(message.clone()))
                .within(ping);
            let first = Step::new(Sent::new(opcode, &payload).fin(false));
            let last = Step::new(Sent::new(CONTINUATION, &payload)).within(Act::Send(message));
            let script = Script::new(1 << 20, vec![whole, first, last]);
            let outcomes = theirs::judge(&script.without_acts());
            for delivery in DELIVERIES {
                for seed in 0..4 {
                    let ours = ours::judge(&Script { seed, ..script.clone() }, delivery);
                    let expected = replies::expected(&script, &outcomes, delivery);
                    assert_eq!(expected.messages.len(), 5);
                    replies::check(&ours.replies, &expected, delivery);
                }
            }
        }
    }
}

#[test]
fn both_servers_judge_every_header_alike() {
    for first in 0..=u8::MAX {
        // Lengths around zero, around the maximum of a control frame, and in the longer forms.
        for second in [0, 1, 2, 124, 125, 126, 127].into_iter().flat_map(|len| [len, len | 0x80]) {
            let opening = Step::new(Sent::new(TEXT, b"a").fin(false));
            let frame = Step::new(Sent::from_header(first, second));
            // If the frame is accepted, the ping shows that both agree on its end.
            let ping = Step::new(Sent::new(PING, b"after"));
            compare(&Script::new(1000, vec![frame.clone(), ping.clone()]));
            compare(&Script::new(1000, vec![opening, frame, ping]));
        }
    }
}

#[test]
fn both_servers_judge_every_close_code_alike() {
    for code in (0..=5100).chain((5101..=u16::MAX).step_by(101)).chain([u16::MAX]) {
        let close = Step::new(Sent::new(CLOSE, &close_payload(code, b"reason")));
        compare(&Script::new(1000, vec![close.clone()]));
        let answer = close.before(Act::Close(1001, "going away".to_owned()));
        compare(&Script::new(1000, vec![answer]));
    }
}

#[test]
fn every_known_difference_still_exists() {
    let mut shown = Vec::new();
    for (difference, script) in known::examples() {
        let at = script.steps.len() - 1;
        let found = known::find(&script, at).map(|entry| entry.difference);
        assert_eq!(found, Some(difference), "the last frame of {script:?}");
        let theirs = theirs::judge(&script);
        for delivery in DELIVERIES {
            let ours = ours::judge(&script, delivery);
            let is_alike = alike(&ours.of_frames[at], &theirs[at]);
            assert!(!is_alike, "{difference:?} no longer exists: {:?}", theirs[at]);
        }
        compare(&script);
        shown.push(difference);
    }
    for entry in &known::TABLE {
        assert!(shown.contains(&entry.difference), "{:?} has no example", entry.difference);
        assert!(entry.rfc.starts_with("RFC 6455 "), "{:?}: {}", entry.difference, entry.rfc);
    }
}

/// Runs both servers on the same frames. Each frame must lead to the same events, or to those of
/// the table, and tungstenite as a client must receive the expected replies.
fn compare(script: &Script) {
    let theirs = theirs::judge(script);
    let whole = ours::judge(script, Delivery::Whole);
    let streamed = ours::judge(script, Delivery::StreamedEcho);
    for at in 0..script.steps.len() {
        let theirs = &theirs[at];
        let known = known::find(script, at);
        let difference = known.map(|entry| entry.difference);
        if known.is_some() {
            let expected = known::theirs(script, at);
            assert_eq!(*theirs, expected, "theirs of frame {at}, {difference:?}");
        }
        for (ours, delivery) in [(&whole, Delivery::Whole), (&streamed, Delivery::StreamedEcho)] {
            let ours = &ours.of_frames[at];
            match known {
                None => assert!(
                    alike(ours, theirs),
                    "frame {at}, {delivery:?}: {ours:?}, theirs {theirs:?}"
                ),
                Some(entry) => {
                    let expected = known::ours(entry, script, at);
                    assert_eq!(*ours, expected, "ours of frame {at}, {delivery:?}, {difference:?}");
                }
            }
        }
        if whole.of_frames[at].iter().chain(theirs).any(Seen::is_last) {
            break;
        }
    }
    for (ours, delivery) in [(&whole, Delivery::Whole), (&streamed, Delivery::StreamedEcho)] {
        let expected = replies::expected(script, &whole.of_frames, delivery);
        replies::check(&ours.replies, &expected, delivery);
    }
}

/// Runs `test` on `cases` scripts, or on the number in the environment variable `PROPTEST_CASES`.
fn run(
    cases: u32,
    scripts: impl proptest::strategy::Strategy<Value = Script>,
    test: impl Fn(Script),
) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let test = |script| {
        test(script);
        Ok(())
    };
    if let Err(error) = TestRunner::new(config).run(&scripts, test) {
        panic!("{error}");
    }
}

#[test]
fn every_known_difference_is_in_the_table_once() {
    let named: Vec<_> = known::TABLE.iter().map(|entry| entry.difference).collect();
    for (at, difference) in named.iter().enumerate() {
        assert!(!named[..at].contains(difference), "{difference:?} twice");
    }
    let all: [Known; known::TABLE.len()] = Known::ALL;
    assert!(all.iter().all(|difference| named.contains(difference)));
}

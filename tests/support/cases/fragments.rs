//! Fragmented messages (RFC 6455 5.4): text is echoed in one frame, binary fragment by fragment.

use super::{Case, POLICY_VIOLATION, PROTOCOL_ERROR, letters};
use crate::support::frames::{
    BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, client, server,
};

pub(super) fn cases() -> Vec<Case> {
    [
        text(),
        text_and_control(),
        binary(),
        binary_sizes(),
        binary_and_control(),
        one_after_another(),
        unfinished(),
        continuation_without_start(),
        start_inside_a_message(),
        failures_inside_a_message(),
        close_inside_a_message(),
        count(),
    ]
    .concat()
}

fn text() -> Vec<Case> {
    let rfc = "RFC 6455 5.4";
    let joined = |name, fragments: &[&[u8]]| {
        let case = Case::new(name, rfc).send(server(TEXT, &fragments.concat()));
        recv_fragments(case, TEXT, fragments)
    };
    vec![
        joined("text_in_2_fragments_is_echoed_in_1_frame", &[b"Hel", b"lo"]),
        joined("text_in_3_fragments_is_echoed_in_1_frame", &[b"Hel", b"lo, ", b"world"]),
        joined("text_in_5_fragments_is_echoed_in_1_frame", &[b"H", b"e", b"l", b"l", b"o"]),
        joined("text_with_an_empty_first_fragment_is_echoed", &[b"", b"Hello"]),
        joined("text_with_an_empty_middle_fragment_is_echoed", &[b"Hel", b"", b"lo"]),
        joined("text_with_an_empty_last_fragment_is_echoed", &[b"Hello", b""]),
        joined("text_of_2_empty_fragments_is_echoed", &[b"", b""]),
        joined("text_of_3_empty_fragments_is_echoed", &[b"", b"", b""]),
        joined("text_of_125_in_fragments_has_the_short_header", &[&letters(25), &letters(100)]),
        joined("text_of_126_in_fragments_has_the_16_bit_header", &[&letters(26), &letters(100)]),
        joined(
            "text_of_65535_in_fragments_has_the_16_bit_header",
            &[&letters(65_435), &letters(100)],
        ),
        joined(
            "text_of_65536_in_fragments_has_the_64_bit_header",
            &[&letters(65_436), &letters(100)],
        ),
        joined("text_in_fragments_above_16384_is_echoed_in_1_frame", &[&letters(16_385), b"end"]),
    ]
}

fn text_and_control() -> Vec<Case> {
    let rfc = "RFC 6455 5.4";
    vec![
        Case::new("ping_inside_a_text_is_answered_before_it", rfc)
            .recv(client(TEXT, b"Hel").fin(false))
            .recv(client(PING, b"?"))
            .recv(client(CONTINUATION, b"lo"))
            .send(server(PONG, b"?"))
            .send(server(TEXT, b"Hello")),
        Case::new("empty_ping_inside_a_text_is_answered_before_it", rfc)
            .recv(client(TEXT, b"Hel").fin(false))
            .recv(client(PING, b""))
            .recv(client(CONTINUATION, b"lo"))
            .send(server(PONG, b""))
            .send(server(TEXT, b"Hello")),
        Case::new("pings_between_all_fragments_of_a_text_are_answered", rfc)
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(PING, b"1"))
            .recv(client(PING, b"2"))
            .recv(client(CONTINUATION, b"b").fin(false))
            .recv(client(PING, b"3"))
            .recv(client(CONTINUATION, b"c"))
            .recv(client(PING, b"4"))
            .send(server(PONG, b"1"))
            .send(server(PONG, b"2"))
            .send(server(PONG, b"3"))
            .send(server(TEXT, b"abc"))
            .send(server(PONG, b"4")),
        Case::new("ping_of_125_inside_a_text_is_answered", rfc)
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(PING, &letters(125)))
            .recv(client(CONTINUATION, b"b"))
            .send(server(PONG, &letters(125)))
            .send(server(TEXT, b"ab")),
        Case::new("pong_inside_a_text_is_ignored", rfc)
            .recv(client(TEXT, b"Hel").fin(false))
            .recv(client(PONG, b"!"))
            .recv(client(CONTINUATION, b"lo"))
            .send(server(TEXT, b"Hello")),
    ]
}

fn binary() -> Vec<Case> {
    let rfc = "RFC 6455 5.4";
    let streamed = |name, fragments: &[&[u8]]| {
        let case = recv_fragments(Case::new(name, rfc), BINARY, fragments);
        send_fragments(case, BINARY, fragments)
    };
    vec![
        streamed("binary_in_2_fragments_is_echoed_in_2", &[b"Hel", b"lo"]),
        streamed("binary_in_3_fragments_is_echoed_in_3", &[b"Hel", b"lo, ", b"world"]),
        streamed("binary_with_an_empty_first_fragment_is_echoed", &[b"", b"Hello"]),
        streamed("binary_with_an_empty_middle_fragment_is_echoed", &[b"Hel", b"", b"lo"]),
        streamed("binary_with_an_empty_last_fragment_is_echoed", &[b"Hello", b""]),
        streamed("binary_of_2_empty_fragments_is_echoed", &[b"", b""]),
        streamed("binary_that_is_not_utf8_in_fragments_is_echoed", &[b"\xff\xc0", b"\x80\xed"]),
    ]
}

/// The header of each streamed fragment has the length of its own frame.
fn binary_sizes() -> Vec<Case> {
    let streamed = |name, sizes: [usize; 2]| {
        let (first, last) = (letters(sizes[0]), letters(sizes[1]));
        let fragments: [&[u8]; 2] = [&first, &last];
        let case = recv_fragments(Case::new(name, "RFC 6455 5.2"), BINARY, &fragments);
        send_fragments(case, BINARY, &fragments)
    };
    vec![
        streamed("binary_fragments_of_125_and_126_are_echoed", [125, 126]),
        streamed("binary_fragments_of_126_and_125_are_echoed", [126, 125]),
        streamed("binary_fragments_of_127_and_0_are_echoed", [127, 0]),
        streamed("binary_fragments_of_16384_and_16385_are_echoed", [16_384, 16_385]),
        streamed("binary_fragments_of_16385_and_1_are_echoed", [16_385, 1]),
        streamed("binary_fragments_of_1_and_16385_are_echoed", [1, 16_385]),
        streamed("binary_fragments_of_65535_and_65536_are_echoed", [65_535, 65_536]),
        streamed("binary_fragments_of_65536_and_65535_are_echoed", [65_536, 65_535]),
    ]
}

fn binary_and_control() -> Vec<Case> {
    let rfc = "RFC 6455 5.4";
    vec![
        Case::new("ping_inside_a_binary_is_answered_between_its_frames", rfc)
            .recv(client(BINARY, b"Hel").fin(false))
            .recv(client(PING, b"?"))
            .recv(client(CONTINUATION, b"lo"))
            .send(server(BINARY, b"Hel").fin(false))
            .send(server(PONG, b"?"))
            .send(server(CONTINUATION, b"lo")),
        Case::new("pings_between_all_frames_of_a_binary_are_answered", rfc)
            .recv(client(BINARY, b"a").fin(false))
            .recv(client(PING, b"1"))
            .recv(client(PING, b"2"))
            .recv(client(CONTINUATION, b"").fin(false))
            .recv(client(PING, b""))
            .recv(client(CONTINUATION, b"c"))
            .recv(client(PING, b"4"))
            .send(server(BINARY, b"a").fin(false))
            .send(server(PONG, b"1"))
            .send(server(PONG, b"2"))
            .send(server(CONTINUATION, b"").fin(false))
            .send(server(PONG, b""))
            .send(server(CONTINUATION, b"c"))
            .send(server(PONG, b"4")),
        Case::new("pong_inside_a_binary_is_ignored", rfc)
            .recv(client(BINARY, b"Hel").fin(false))
            .recv(client(PONG, b"!"))
            .recv(client(CONTINUATION, b"lo"))
            .send(server(BINARY, b"Hel").fin(false))
            .send(server(CONTINUATION, b"lo")),
        Case::new("ping_after_a_large_binary_is_answered_after_it", rfc)
            .recv(client(BINARY, &letters(20_000)))
            .recv(client(PING, b"?"))
            .send(server(BINARY, &letters(20_000)))
            .send(server(PONG, b"?")),
        Case::new("ping_between_large_frames_of_a_binary_is_answered_between_them", rfc)
            .recv(client(BINARY, &letters(20_000)).fin(false))
            .recv(client(PING, b"?"))
            .recv(client(CONTINUATION, &letters(17_000)))
            .send(server(BINARY, &letters(20_000)).fin(false))
            .send(server(PONG, b"?"))
            .send(server(CONTINUATION, &letters(17_000))),
    ]
}

fn one_after_another() -> Vec<Case> {
    let rfc = "RFC 6455 5.4";
    vec![
        Case::new("fragmented_texts_in_a_row_are_echoed", rfc)
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(CONTINUATION, b"b"))
            .recv(client(TEXT, b"c").fin(false))
            .recv(client(CONTINUATION, b"d"))
            .send(server(TEXT, b"ab"))
            .send(server(TEXT, b"cd")),
        Case::new("fragmented_binaries_in_a_row_are_echoed", rfc)
            .recv(client(BINARY, b"a").fin(false))
            .recv(client(CONTINUATION, b"b"))
            .recv(client(BINARY, b"c").fin(false))
            .recv(client(CONTINUATION, b"d"))
            .send(server(BINARY, b"a").fin(false))
            .send(server(CONTINUATION, b"b"))
            .send(server(BINARY, b"c").fin(false))
            .send(server(CONTINUATION, b"d")),
        Case::new("text_after_a_fragmented_binary_is_echoed_whole", rfc)
            .recv(client(BINARY, b"a").fin(false))
            .recv(client(CONTINUATION, b"b"))
            .recv(client(TEXT, b"c").fin(false))
            .recv(client(CONTINUATION, b"d"))
            .send(server(BINARY, b"a").fin(false))
            .send(server(CONTINUATION, b"b"))
            .send(server(TEXT, b"cd")),
        Case::new("binary_after_a_fragmented_text_is_echoed", rfc)
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(CONTINUATION, b"b"))
            .recv(client(BINARY, b"\xff"))
            .send(server(TEXT, b"ab"))
            .send(server(BINARY, b"\xff")),
        Case::new("text_after_a_large_binary_is_echoed", rfc)
            .recv(client(BINARY, &letters(20_000)))
            .recv(client(TEXT, b"small"))
            .send(server(BINARY, &letters(20_000)))
            .send(server(TEXT, b"small")),
        Case::new("fragmented_text_between_whole_messages_is_echoed", rfc)
            .recv(client(TEXT, b"first"))
            .recv(client(TEXT, b"sec").fin(false))
            .recv(client(CONTINUATION, b"ond"))
            .recv(client(BINARY, b"third"))
            .send(server(TEXT, b"first"))
            .send(server(TEXT, b"second"))
            .send(server(BINARY, b"third")),
    ]
}

fn unfinished() -> Vec<Case> {
    let rfc = "RFC 6455 5.4";
    vec![
        Case::new("text_without_its_end_is_not_echoed", rfc)
            .recv(client(TEXT, b"Hel").fin(false))
            .recv(client(CONTINUATION, b"lo").fin(false)),
        Case::new("binary_without_its_end_is_echoed_so_far", rfc)
            .recv(client(BINARY, b"Hel").fin(false))
            .recv(client(CONTINUATION, b"lo").fin(false))
            .send(server(BINARY, b"Hel").fin(false))
            .send(server(CONTINUATION, b"lo").fin(false)),
        Case::new("ping_in_a_text_without_its_end_is_answered", rfc)
            .recv(client(TEXT, b"Hel").fin(false))
            .recv(client(PING, b"?"))
            .send(server(PONG, b"?")),
    ]
}

fn continuation_without_start() -> Vec<Case> {
    let rfc = "RFC 6455 5.4";
    let fails = |name, frame| Case::fails(name, rfc, frame, PROTOCOL_ERROR);
    vec![
        fails("continuation_first_is_refused", client(CONTINUATION, b"stray")),
        fails("empty_continuation_first_is_refused", client(CONTINUATION, b"")),
        fails("open_continuation_first_is_refused", client(CONTINUATION, b"stray").fin(false)),
        Case::new("continuation_after_a_whole_text_is_refused", rfc)
            .recv(client(TEXT, b"whole"))
            .recv(client(CONTINUATION, b"stray"))
            .send(server(TEXT, b"whole"))
            .close(PROTOCOL_ERROR),
        Case::new("continuation_after_a_whole_binary_is_refused", rfc)
            .recv(client(BINARY, b"whole"))
            .recv(client(CONTINUATION, b"stray"))
            .send(server(BINARY, b"whole"))
            .close(PROTOCOL_ERROR),
        Case::new("continuation_after_a_large_binary_is_refused", rfc)
            .recv(client(BINARY, &letters(20_000)))
            .recv(client(CONTINUATION, b"stray"))
            .send(server(BINARY, &letters(20_000)))
            .close(PROTOCOL_ERROR),
        Case::new("continuation_after_a_fragmented_text_is_refused", rfc)
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(CONTINUATION, b"b"))
            .recv(client(CONTINUATION, b"stray"))
            .send(server(TEXT, b"ab"))
            .close(PROTOCOL_ERROR),
        Case::new("continuation_after_a_fragmented_binary_is_refused", rfc)
            .recv(client(BINARY, b"a").fin(false))
            .recv(client(CONTINUATION, b"b"))
            .recv(client(CONTINUATION, b"stray"))
            .send(server(BINARY, b"a").fin(false))
            .send(server(CONTINUATION, b"b"))
            .close(PROTOCOL_ERROR),
        Case::new("continuation_after_a_ping_is_refused", rfc)
            .recv(client(PING, b"?"))
            .recv(client(CONTINUATION, b"stray"))
            .send(server(PONG, b"?"))
            .close(PROTOCOL_ERROR),
    ]
}

fn start_inside_a_message() -> Vec<Case> {
    let inside = |name, start: Frame| {
        Case::new(name, "RFC 6455 5.4")
            .recv(client(TEXT, b"open").fin(false))
            .recv(start)
            .close(PROTOCOL_ERROR)
    };
    let inside_binary = |name, start: Frame| {
        Case::new(name, "RFC 6455 5.4")
            .recv(client(BINARY, b"open").fin(false))
            .recv(start)
            .send(server(BINARY, b"open").fin(false))
            .close(PROTOCOL_ERROR)
    };
    vec![
        inside("text_inside_a_text_is_refused", client(TEXT, b"new")),
        inside("empty_text_inside_a_text_is_refused", client(TEXT, b"")),
        inside("open_text_inside_a_text_is_refused", client(TEXT, b"new").fin(false)),
        inside("binary_inside_a_text_is_refused", client(BINARY, b"new")),
        inside("open_binary_inside_a_text_is_refused", client(BINARY, b"new").fin(false)),
        inside_binary("text_inside_a_binary_is_refused", client(TEXT, b"new")),
        inside_binary("open_text_inside_a_binary_is_refused", client(TEXT, b"new").fin(false)),
        inside_binary("binary_inside_a_binary_is_refused", client(BINARY, b"new")),
        inside_binary("open_binary_inside_a_binary_is_refused", client(BINARY, b"").fin(false)),
    ]
}

/// The echo of the first fragments of a binary message has already been sent.
fn failures_inside_a_message() -> Vec<Case> {
    let inside = |name, bad: Frame| {
        Case::new(name, "RFC 6455 7.1.7")
            .recv(client(BINARY, b"one").fin(false))
            .recv(client(CONTINUATION, b"two").fin(false))
            .recv(bad)
            .recv(client(CONTINUATION, b"after"))
            .send(server(BINARY, b"one").fin(false))
            .send(server(CONTINUATION, b"two").fin(false))
            .close(PROTOCOL_ERROR)
    };
    vec![
        inside("unmasked_inside_a_binary_is_refused", server(CONTINUATION, b"bad")),
        inside("rsv_inside_a_binary_is_refused", client(CONTINUATION, b"bad").rsv(1)),
        inside("opcode_3_inside_a_binary_is_refused", client(0x3, b"bad")),
        inside("long_ping_inside_a_binary_is_refused", client(PING, b"").length16(126)),
        inside("length_not_minimal_inside_a_binary", client(CONTINUATION, b"bad").length16(3)),
        inside("top_bit_inside_a_binary", client(CONTINUATION, b"").length64(1 << 63)),
    ]
}

fn close_inside_a_message() -> Vec<Case> {
    let rfc = "RFC 6455 5.5.1";
    vec![
        Case::new("close_inside_a_text_is_answered", rfc)
            .recv(client(TEXT, b"Hel").fin(false))
            .recv(client(CLOSE, b"\x03\xe8"))
            .close(1000),
        Case::new("close_inside_a_binary_is_answered_after_its_frames", rfc)
            .recv(client(BINARY, b"Hel").fin(false))
            .recv(client(CLOSE, b"\x03\xe8"))
            .send(server(BINARY, b"Hel").fin(false))
            .close(1000),
        Case::new("rest_of_a_message_after_close_is_ignored", rfc)
            .recv(client(TEXT, b"Hel").fin(false))
            .recv(client(CLOSE, b"\x03\xe8"))
            .recv(client(CONTINUATION, b"lo"))
            .close(1000),
        Case::new("rest_of_a_binary_after_close_is_ignored", rfc)
            .recv(client(BINARY, b"Hel").fin(false))
            .recv(client(CLOSE, b""))
            .recv(client(CONTINUATION, b"lo"))
            .send(server(BINARY, b"Hel").fin(false))
            .close_empty(),
    ]
}

/// A server counts the fragments of a message, because an empty one adds nothing to its size.
fn count() -> Vec<Case> {
    let rfc = "RFC 6455 10.4";
    // A text that starts and has this many fragments without its end.
    let open = |case: Case, fragments: usize| {
        let mut case = case.recv(client(TEXT, b"").fin(false));
        let empty = client(CONTINUATION, b"").fin(false).bytes();
        case.input.extend(empty.repeat(fragments - 1));
        case
    };
    vec![
        open(Case::new("text_of_131072_fragments_is_echoed", rfc), 131_071)
            .recv(client(CONTINUATION, b"end"))
            .send(server(TEXT, b"end")),
        open(Case::new("text_of_131073_fragments_is_refused", rfc), 131_072)
            .recv(client(CONTINUATION, b""))
            .close(POLICY_VIOLATION),
        open(Case::new("text_of_131073_fragments_is_refused_before_its_end", rfc), 131_073)
            .close(POLICY_VIOLATION),
        open(
            open(Case::new("fragments_are_counted_per_message", rfc), 70_000)
                .recv(client(CONTINUATION, b"one"))
                .send(server(TEXT, b"one")),
            70_000,
        )
        .recv(client(CONTINUATION, b"two"))
        .send(server(TEXT, b"two")),
    ]
}

/// The client sends `fragments` as one message.
fn recv_fragments(mut case: Case, opcode: u8, fragments: &[&[u8]]) -> Case {
    for frame in message(client, opcode, fragments) {
        case = case.recv(frame);
    }
    case
}

/// The server sends `fragments` as one message.
fn send_fragments(mut case: Case, opcode: u8, fragments: &[&[u8]]) -> Case {
    for frame in message(server, opcode, fragments) {
        case = case.send(frame);
    }
    case
}

fn message(frame: fn(u8, &[u8]) -> Frame, opcode: u8, fragments: &[&[u8]]) -> Vec<Frame> {
    let opcodes = [opcode].into_iter().chain(std::iter::repeat(CONTINUATION));
    let frames = fragments.iter().zip(opcodes).enumerate();
    frames
        .map(|(at, (payload, opcode))| frame(opcode, payload).fin(at + 1 == fragments.len()))
        .collect()
}

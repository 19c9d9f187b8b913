//! Text is UTF-8 (RFC 3629), over all fragments of a message, and fails at its first bad byte.

use super::{Case, INVALID_PAYLOAD, letters};
use crate::support::frames::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client, server};

pub(super) fn cases() -> Vec<Case> {
    [
        good(),
        bad(),
        bad_after_good(),
        cut_at_the_end(),
        split_over_fragments(),
        split_and_broken(),
        first_bad_byte(),
        awaited(),
        not_text(),
        around_it(),
    ]
    .concat()
}

fn good() -> Vec<Case> {
    let echo = |name, text: &str| {
        let text = text.as_bytes();
        Case::answers(name, "RFC 3629 3", client(TEXT, text), server(TEXT, text))
    };
    vec![
        echo("u0000_is_text", "\u{0}"),
        echo("u007f_is_text", "\u{7F}"),
        echo("u0080_is_text", "\u{80}"),
        echo("u07ff_is_text", "\u{7FF}"),
        echo("u0800_is_text", "\u{800}"),
        echo("u0fff_is_text", "\u{FFF}"),
        echo("u1000_is_text", "\u{1000}"),
        echo("ucfff_is_text", "\u{CFFF}"),
        echo("ud7ff_is_text", "\u{D7FF}"),
        echo("ue000_is_text", "\u{E000}"),
        echo("ufdd0_the_noncharacter_is_text", "\u{FDD0}"),
        echo("ufeff_the_byte_order_mark_is_text", "\u{FEFF}"),
        echo("ufffd_the_replacement_is_text", "\u{FFFD}"),
        echo("ufffe_the_noncharacter_is_text", "\u{FFFE}"),
        echo("uffff_the_noncharacter_is_text", "\u{FFFF}"),
        echo("u10000_is_text", "\u{10000}"),
        echo("u3ffff_is_text", "\u{3FFFF}"),
        echo("u40000_is_text", "\u{40000}"),
        echo("ufffff_is_text", "\u{FFFFF}"),
        echo("u100000_is_text", "\u{100000}"),
        echo("u10ffff_is_text", "\u{10FFFF}"),
        echo("greek_is_text", "κόσμε"),
        echo("all_lengths_of_sequences_are_text", "a\u{E9}\u{20AC}\u{1F600}z"),
        echo("emoji_in_a_row_are_text", "\u{1F600}\u{1F601}\u{1F602}\u{1F603}\u{1F604}"),
        echo("sequences_across_64_bytes_are_text", &"\u{20AC}".repeat(65)),
        echo("sequences_across_64_bytes_after_a_letter_are_text", &format!("x{}", "é".repeat(97))),
    ]
}

fn bad() -> Vec<Case> {
    let fails = |name, payload: &[u8]| {
        Case::fails(name, "RFC 3629 3", client(TEXT, payload), INVALID_PAYLOAD)
    };
    vec![
        fails("lone_continuation_80_is_refused", b"\x80"),
        fails("lone_continuation_bf_is_refused", b"\xbf"),
        fails("continuations_in_a_row_are_refused", b"\x80\xbf\x80\xbf"),
        fails("overlong_slash_in_2_bytes_is_refused", b"\xc0\xaf"),
        fails("overlong_slash_in_3_bytes_is_refused", b"\xe0\x80\xaf"),
        fails("overlong_slash_in_4_bytes_is_refused", b"\xf0\x80\x80\xaf"),
        fails("overlong_u0000_in_2_bytes_is_refused", b"\xc0\x80"),
        fails("overlong_u007f_in_2_bytes_is_refused", b"\xc1\xbf"),
        fails("overlong_u0000_in_3_bytes_is_refused", b"\xe0\x80\x80"),
        fails("overlong_u07ff_in_3_bytes_is_refused", b"\xe0\x9f\xbf"),
        fails("overlong_u0000_in_4_bytes_is_refused", b"\xf0\x80\x80\x80"),
        fails("overlong_uffff_in_4_bytes_is_refused", b"\xf0\x8f\xbf\xbf"),
        fails("overlong_in_5_bytes_is_refused", b"\xf8\x80\x80\x80\xaf"),
        fails("overlong_in_6_bytes_is_refused", b"\xfc\x80\x80\x80\x80\xaf"),
        fails("surrogate_d800_is_refused", b"\xed\xa0\x80"),
        fails("surrogate_db7f_is_refused", b"\xed\xad\xbf"),
        fails("surrogate_dbff_is_refused", b"\xed\xaf\xbf"),
        fails("surrogate_dc00_is_refused", b"\xed\xb0\x80"),
        fails("surrogate_dfff_is_refused", b"\xed\xbf\xbf"),
        fails("pair_of_surrogates_is_refused", b"\xed\xa0\xbd\xed\xb8\x80"),
        fails("u110000_is_refused", b"\xf4\x90\x80\x80"),
        fails("u13ffff_is_refused", b"\xf4\xbf\xbf\xbf"),
        fails("u140000_is_refused", b"\xf5\x80\x80\x80"),
        fails("u1fffff_is_refused", b"\xf7\xbf\xbf\xbf"),
        fails("sequence_of_5_bytes_is_refused", b"\xf8\x88\x80\x80\x80"),
        fails("sequence_of_6_bytes_is_refused", b"\xfc\x84\x80\x80\x80\x80"),
        fails("byte_fe_is_refused", b"\xfe"),
        fails("byte_ff_is_refused", b"\xff"),
        fails("letter_in_2_bytes_is_refused", b"\xc3\x28"),
        fails("letter_second_of_3_bytes_is_refused", b"\xe2\x28\xa1"),
        fails("letter_third_of_3_bytes_is_refused", b"\xe2\x82\x28"),
        fails("letter_second_of_4_bytes_is_refused", b"\xf0\x28\x8c\xbc"),
        fails("letter_third_of_4_bytes_is_refused", b"\xf0\x90\x28\xbc"),
        fails("letter_fourth_of_4_bytes_is_refused", b"\xf0\x90\x8c\x28"),
        fails("start_inside_2_bytes_is_refused", b"\xc3\xc3\xa9"),
        fails("start_inside_3_bytes_is_refused", b"\xe2\x82\xe2\x82\xac"),
        fails("start_inside_4_bytes_is_refused", b"\xf0\x9f\x98\xf0\x9f\x98\x80"),
        fails("fifth_byte_of_4_is_refused", b"\xf0\x9f\x98\x80\x80"),
    ]
}

fn bad_after_good() -> Vec<Case> {
    let fails = |name, payload: &[u8]| {
        Case::fails(name, "RFC 6455 8.1", client(TEXT, payload), INVALID_PAYLOAD)
    };
    let after = |length, bad: &[u8]| [&letters(length), bad].concat();
    vec![
        fails("bad_last_byte_is_refused", b"Hello\xff"),
        fails("bad_byte_inside_is_refused", b"Hello\xffworld"),
        fails("bad_byte_after_greek_is_refused", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xbc\xce\xb5\x80"),
        fails("surrogate_after_greek_is_refused", b"\xce\xba\xed\xa0\x80edited"),
        fails("bad_byte_after_15_letters_is_refused", &after(15, b"\xff")),
        fails("bad_byte_after_16_letters_is_refused", &after(16, b"\xff")),
        fails("bad_byte_after_63_letters_is_refused", &after(63, b"\xff")),
        fails("bad_byte_after_64_letters_is_refused", &after(64, b"\xff")),
        fails("bad_byte_after_124_letters_is_refused", &after(124, b"\xff")),
        fails("bad_byte_after_125_letters_is_refused", &after(125, b"\xff")),
        fails("bad_byte_after_200_letters_is_refused", &after(200, b"\xc0after")),
        fails("overlong_across_64_bytes_is_refused", &after(63, b"\xc0\x80")),
        fails("surrogate_across_64_bytes_is_refused", &after(62, b"\xed\xa0\x80")),
        fails("bad_last_byte_of_16385_is_refused", &after(16_384, b"\xff")),
        fails("bad_last_byte_of_65536_is_refused", &after(65_535, b"\xff")),
    ]
}

fn cut_at_the_end() -> Vec<Case> {
    let fails = |name, payload: &[u8]| {
        Case::fails(name, "RFC 6455 8.1", client(TEXT, payload), INVALID_PAYLOAD)
    };
    vec![
        fails("text_that_ends_1_byte_into_2_is_refused", b"\xc3"),
        fails("text_that_ends_1_byte_into_3_is_refused", b"\xe2"),
        fails("text_that_ends_2_bytes_into_3_is_refused", b"\xe2\x82"),
        fails("text_that_ends_1_byte_into_4_is_refused", b"\xf0"),
        fails("text_that_ends_2_bytes_into_4_is_refused", b"\xf0\x9f"),
        fails("text_that_ends_3_bytes_into_4_is_refused", b"\xf0\x9f\x98"),
        fails("letters_that_end_inside_2_bytes_are_refused", b"Hello\xc3"),
        fails("letters_that_end_inside_4_bytes_are_refused", b"Hello\xf0\x9f\x98"),
        fails("64_bytes_that_end_inside_3_are_refused", &[&letters(62)[..], b"\xe2\x82"].concat()),
        Case::new("last_fragment_that_ends_inside_a_sequence", "RFC 6455 8.1")
            .recv(client(TEXT, b"Hel").fin(false))
            .recv(client(CONTINUATION, b"lo\xe2\x82"))
            .close(INVALID_PAYLOAD),
        Case::new("empty_last_fragment_inside_a_sequence", "RFC 6455 8.1")
            .recv(client(TEXT, b"Hello\xe2\x82").fin(false))
            .recv(client(CONTINUATION, b""))
            .close(INVALID_PAYLOAD),
        Case::new("sequence_does_not_continue_in_the_next_message", "RFC 6455 8.1")
            .recv(client(TEXT, b"\xc3"))
            .recv(client(TEXT, b"\xa9"))
            .close(INVALID_PAYLOAD),
    ]
}

fn split_over_fragments() -> Vec<Case> {
    let joined = |name, fragments: &[&[u8]]| {
        let case = Case::new(name, "RFC 6455 5.6").send(server(TEXT, &fragments.concat()));
        recv_text(case, fragments)
    };
    vec![
        joined("2_bytes_split_after_1_are_text", &[b"\xc3", b"\xa9"]),
        joined("3_bytes_split_after_1_are_text", &[b"\xe2", b"\x82\xac"]),
        joined("3_bytes_split_after_2_are_text", &[b"\xe2\x82", b"\xac"]),
        joined("3_bytes_split_at_each_are_text", &[b"\xe2", b"\x82", b"\xac"]),
        joined("4_bytes_split_after_1_are_text", &[b"\xf0", b"\x9f\x98\x80"]),
        joined("4_bytes_split_after_2_are_text", &[b"\xf0\x9f", b"\x98\x80"]),
        joined("4_bytes_split_after_3_are_text", &[b"\xf0\x9f\x98", b"\x80"]),
        joined("4_bytes_split_at_each_are_text", &[b"\xf0", b"\x9f", b"\x98", b"\x80"]),
        joined("u0800_split_after_its_first_byte_is_text", &[b"\xe0", b"\xa0\x80"]),
        joined("ud7ff_split_after_its_first_byte_is_text", &[b"\xed", b"\x9f\xbf"]),
        joined("u10000_split_after_its_first_byte_is_text", &[b"\xf0", b"\x90\x80\x80"]),
        joined("u10ffff_split_after_its_first_byte_is_text", &[b"\xf4", b"\x8f\xbf\xbf"]),
        joined("4_bytes_split_with_letters_around_are_text", &[b"abc\xf0\x9f", b"\x98\x80def"]),
        joined("split_around_empty_fragments_is_text", &[b"\xe2", b"", b"\x82", b"", b"\xac", b""]),
        joined("two_splits_in_a_row_are_text", &[b"\xc3", b"\xa9\xe2", b"\x82\xac"]),
        Case::new("sequence_split_around_a_ping_is_text", "RFC 6455 5.6")
            .recv(client(TEXT, b"\xe2\x82").fin(false))
            .recv(client(PING, b"\x80"))
            .recv(client(CONTINUATION, b"\xac"))
            .send(server(PONG, b"\x80"))
            .send(server(TEXT, b"\xe2\x82\xac")),
        Case::new("sequence_split_around_a_pong_is_text", "RFC 6455 5.6")
            .recv(client(TEXT, b"\xf0\x9f\x98").fin(false))
            .recv(client(PONG, b"\xff"))
            .recv(client(CONTINUATION, b"\x80"))
            .send(server(TEXT, b"\xf0\x9f\x98\x80")),
    ]
}

/// The fragment that makes a sequence invalid fails before the end of the message.
fn split_and_broken() -> Vec<Case> {
    let fails = |name, good: &[u8], bad: &[u8]| {
        Case::new(name, "RFC 6455 8.1")
            .recv(client(TEXT, good).fin(false))
            .recv(client(CONTINUATION, bad).fin(false))
            .close(INVALID_PAYLOAD)
    };
    vec![
        fails("2_bytes_broken_at_the_second", b"\xc3", b"\x28"),
        fails("3_bytes_broken_at_the_second", b"\xe2", b"\x28\xa1"),
        fails("3_bytes_broken_at_the_third", b"\xe2\x82", b"\x28"),
        fails("4_bytes_broken_at_the_second", b"\xf0", b"\x28\x8c\xbc"),
        fails("4_bytes_broken_at_the_third", b"\xf0\x9f", b"\x28\xbc"),
        fails("4_bytes_broken_at_the_fourth", b"\xf0\x9f\x98", b"\x28"),
        fails("overlong_3_bytes_split_after_the_first", b"\xe0", b"\x80\x80"),
        fails("overlong_3_bytes_split_at_the_border", b"\xe0", b"\x9f\xbf"),
        fails("overlong_4_bytes_split_after_the_first", b"\xf0", b"\x8f\xbf\xbf"),
        fails("surrogate_split_after_the_first", b"\xed", b"\xa0\x80"),
        fails("u110000_split_after_the_first", b"\xf4", b"\x90\x80\x80"),
        fails("4_bytes_followed_by_a_fifth", b"\xf0\x9f\x98", b"\x80\x80"),
        fails("bad_byte_in_a_later_fragment", b"Hello", b"wor\xffld"),
        fails("lone_continuation_in_a_later_fragment", b"Hello", b"\x80"),
        Case::fails(
            "bad_byte_in_a_first_fragment",
            "RFC 6455 8.1",
            client(TEXT, b"Hel\xfflo").fin(false),
            INVALID_PAYLOAD,
        ),
        Case::new("sequence_broken_after_an_empty_fragment", "RFC 6455 8.1")
            .recv(client(TEXT, b"\xe2\x82").fin(false))
            .recv(client(CONTINUATION, b"").fin(false))
            .recv(client(CONTINUATION, b"\x28"))
            .close(INVALID_PAYLOAD),
        Case::new("sequence_broken_in_one_byte_fragments", "RFC 6455 8.1")
            .recv(client(TEXT, b"\xf0").fin(false))
            .recv(client(CONTINUATION, b"\x9f").fin(false))
            .recv(client(CONTINUATION, b"\x98").fin(false))
            .recv(client(CONTINUATION, b"\xc0").fin(false))
            .close(INVALID_PAYLOAD),
    ]
}

/// The frame announces 100 bytes, and the server fails at the first invalid one.
fn first_bad_byte() -> Vec<Case> {
    let fails = |name, payload: &[u8]| {
        let input = client(TEXT, payload).length7(100);
        Case::fails(name, "RFC 6455 8.1", input, INVALID_PAYLOAD)
    };
    vec![
        fails("byte_ff_fails_at_once", b"\xff"),
        fails("byte_80_fails_at_once", b"\x80"),
        fails("byte_c0_fails_at_once", b"\xc0"),
        fails("byte_c1_fails_at_once", b"\xc1"),
        fails("byte_f5_fails_at_once", b"\xf5"),
        fails("byte_f8_fails_at_once", b"\xf8"),
        fails("overlong_3_bytes_fail_at_the_second", b"\xe0\x9f"),
        fails("overlong_4_bytes_fail_at_the_second", b"\xf0\x8f"),
        fails("surrogate_fails_at_its_second_byte", b"\xed\xa0"),
        fails("u110000_fails_at_its_second_byte", b"\xf4\x90"),
        fails("2_bytes_fail_at_the_second", b"\xc3\x28"),
        fails("3_bytes_fail_at_the_third", b"\xe2\x82\x28"),
        fails("4_bytes_fail_at_the_fourth", b"\xf0\x9f\x98\x28"),
        fails("bad_byte_after_letters_fails_at_once", b"Hello, \xff"),
        Case::new("bad_byte_of_a_later_fragment_fails_at_once", "RFC 6455 8.1")
            .recv(client(TEXT, b"Hel\xf4").fin(false))
            .recv(client(CONTINUATION, b"\x90").fin(false).length7(100))
            .close(INVALID_PAYLOAD),
        Case::new("bad_byte_of_a_long_text_fails_at_once", "RFC 6455 8.1")
            .recv(client(TEXT, b"Hello, \xff").length64(1 << 20))
            .close(INVALID_PAYLOAD),
    ]
}

/// The start of a valid sequence is neither echoed nor refused.
fn awaited() -> Vec<Case> {
    let waits = |name, payload: &[u8]| {
        Case::new(name, "RFC 6455 8.1").recv(client(TEXT, payload).length7(100))
    };
    vec![
        waits("letters_without_their_end_are_awaited", b"Hello"),
        waits("1_byte_of_2_is_awaited", b"\xdf"),
        waits("1_byte_of_3_is_awaited", b"\xe0"),
        waits("2_bytes_of_3_are_awaited", b"\xed\x9f"),
        waits("1_byte_of_4_is_awaited", b"\xf4"),
        waits("2_bytes_of_4_are_awaited", b"\xf4\x8f"),
        waits("3_bytes_of_4_are_awaited", b"\xf0\x90\x80"),
        Case::new("fragment_that_ends_inside_a_sequence_is_awaited", "RFC 6455 5.6")
            .recv(client(TEXT, b"Hel\xf0\x9f\x98").fin(false)),
    ]
}

fn not_text() -> Vec<Case> {
    let bad = b"\xff\xfe\xc0\x80\xed\xa0\x80";
    let rfc = "RFC 6455 5.6";
    vec![
        Case::answers("binary_need_not_be_utf8", rfc, client(BINARY, bad), server(BINARY, bad)),
        Case::answers("ping_need_not_be_utf8", rfc, client(PING, bad), server(PONG, bad)),
        Case::new("pong_need_not_be_utf8", rfc).recv(client(PONG, bad)),
        Case::new("continuation_of_a_binary_need_not_be_utf8", rfc)
            .recv(client(BINARY, b"text").fin(false))
            .recv(client(CONTINUATION, bad))
            .send(server(BINARY, b"text").fin(false))
            .send(server(CONTINUATION, bad)),
        Case::new("binary_that_ends_inside_a_sequence_affects_no_later_text", rfc)
            .recv(client(BINARY, b"\xe2\x82"))
            .recv(client(TEXT, b"text"))
            .send(server(BINARY, b"\xe2\x82"))
            .send(server(TEXT, b"text")),
    ]
}

fn around_it() -> Vec<Case> {
    let rfc = "RFC 6455 7.1.7";
    vec![
        Case::new("messages_around_bad_text", rfc)
            .recv(client(TEXT, b"before"))
            .recv(client(TEXT, b"bad\xff"))
            .recv(client(TEXT, b"after"))
            .recv(client(PING, b"after"))
            .send(server(TEXT, b"before"))
            .close(INVALID_PAYLOAD),
        Case::new("close_after_bad_text_is_ignored", rfc)
            .recv(client(TEXT, b"bad\xff"))
            .recv(client(CLOSE, b"\x03\xe8"))
            .close(INVALID_PAYLOAD),
        Case::new("fragments_after_bad_text_are_ignored", rfc)
            .recv(client(TEXT, b"bad\xff").fin(false))
            .recv(client(CONTINUATION, b"after"))
            .recv(client(TEXT, b"after"))
            .close(INVALID_PAYLOAD),
        Case::new("text_after_split_text_is_checked_from_its_start", rfc)
            .recv(client(TEXT, b"\xc3").fin(false))
            .recv(client(CONTINUATION, b"\xa9"))
            .recv(client(TEXT, b"\xa9"))
            .send(server(TEXT, b"\xc3\xa9"))
            .close(INVALID_PAYLOAD),
    ]
}

/// The client sends `fragments` as one text.
fn recv_text(mut case: Case, fragments: &[&[u8]]) -> Case {
    for (at, payload) in fragments.iter().enumerate() {
        let opcode = if at == 0 { TEXT } else { CONTINUATION };
        case = case.recv(client(opcode, payload).fin(at + 1 == fragments.len()));
    }
    case
}

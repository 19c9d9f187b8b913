//! The closing handshake (RFC 6455 5.5.1, 7.1.5) and the table of close codes (7.4).

use super::{Case, INVALID_PAYLOAD, PROTOCOL_ERROR, letters};
use crate::support::frames::{
    BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, client, close_payload, server,
};

pub(super) fn cases() -> Vec<Case> {
    [codes_answered(), codes_refused(), reasons(), bad_payloads(), nothing_after(), frames_before()]
        .concat()
}

/// A case for each code, with its number in the name.
macro_rules! close_codes {
    ($name:literal, $rfc:expr, $answer:expr, [$($code:literal),* $(,)?]) => {
        vec![$(
            Case::new(concat!("close_", $code, $name), $rfc)
                .recv(client(CLOSE, &close_payload($code, b"")))
                .close($answer($code))
        ),*]
    };
}

/// RFC 6455 7.4.1, the codes that IANA added (1012 to 1014), and 7.4.2 from 3000 on.
fn codes_answered() -> Vec<Case> {
    close_codes!(
        "_is_answered_with_itself",
        "RFC 6455 7.4",
        |code| code,
        [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001,
            3999, 4000, 4001, 4998, 4999,
        ]
    )
}

/// Codes out of range, reserved, unassigned, or never to be sent (1005, 1006, 1015).
fn codes_refused() -> Vec<Case> {
    close_codes!(
        "_is_refused",
        "RFC 6455 7.4",
        |_| PROTOCOL_ERROR,
        [
            0, 1, 125, 255, 256, 998, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1099, 1100, 1999,
            2000, 2001, 2998, 2999, 5000, 5001, 9999, 32767, 32768, 65534, 65535,
        ]
    )
}

fn reasons() -> Vec<Case> {
    let answered = |name, code, reason: &[u8]| {
        let input = client(CLOSE, &close_payload(code, reason));
        Case::new(name, "RFC 6455 5.5.1").recv(input).close(code)
    };
    vec![
        Case::new("empty_close_is_answered_with_an_empty_close", "RFC 6455 5.5.1")
            .recv(client(CLOSE, b""))
            .close_empty(),
        answered("reason_of_1_is_not_sent_back", 1000, b"x"),
        answered("reason_of_some_words_is_not_sent_back", 1001, b"going away"),
        answered("reason_of_123_is_not_sent_back", 1000, &letters(123)),
        answered("reason_of_123_with_a_private_code_is_not_sent_back", 4999, &letters(123)),
        answered("reason_of_the_zero_byte_is_not_sent_back", 1000, b"\0"),
        answered("reason_in_greek_is_not_sent_back", 1000, "κόσμε".as_bytes()),
        answered("reason_of_an_emoji_is_not_sent_back", 3000, "\u{1F600}".as_bytes()),
        answered("reason_of_u10ffff_is_not_sent_back", 1011, "\u{10FFFF}".as_bytes()),
    ]
}

fn bad_payloads() -> Vec<Case> {
    let rfc = "RFC 6455 5.5.1";
    let not_utf8 = |name, reason: &[u8]| {
        let input = client(CLOSE, &close_payload(1000, reason));
        Case::fails(name, "RFC 6455 8.1", input, INVALID_PAYLOAD)
    };
    vec![
        Case::fails("close_of_1_byte_is_refused", rfc, client(CLOSE, b"\x03"), PROTOCOL_ERROR),
        Case::fails("close_of_1_zero_is_refused", rfc, client(CLOSE, b"\0"), PROTOCOL_ERROR),
        not_utf8("reason_of_ff_is_refused", b"\xff"),
        not_utf8("reason_of_a_lone_continuation_is_refused", b"\x80"),
        not_utf8("reason_with_a_bad_byte_is_refused", b"going\xffaway"),
        not_utf8("reason_with_a_bad_last_byte_is_refused", b"going away\xc0"),
        not_utf8("reason_cut_inside_2_bytes_is_refused", b"\xc3"),
        not_utf8("reason_cut_inside_3_bytes_is_refused", b"\xe2\x82"),
        not_utf8("reason_cut_inside_4_bytes_is_refused", b"\xf0\x9f\x98"),
        not_utf8("reason_of_a_surrogate_is_refused", b"\xed\xa0\x80"),
        not_utf8("reason_that_is_overlong_is_refused", b"\xc0\xaf"),
        not_utf8("reason_above_u10ffff_is_refused", b"\xf4\x90\x80\x80"),
        not_utf8("reason_of_123_with_a_bad_last_byte", &[&letters(122)[..], b"\xff"].concat()),
        Case::new("close_whose_payload_is_late_is_not_answered", rfc)
            .recv(client(CLOSE, b"\x03").length7(2)),
    ]
}

fn nothing_after() -> Vec<Case> {
    let after = |name, frame: Frame| {
        Case::new(name, "RFC 6455 5.5.1").recv(client(CLOSE, b"\x03\xe8")).recv(frame).close(1000)
    };
    vec![
        after("text_after_close_is_ignored", client(TEXT, b"late")),
        after("binary_after_close_is_ignored", client(BINARY, b"late")),
        after("large_binary_after_close_is_ignored", client(BINARY, &letters(20_000))),
        after("open_binary_after_close_is_ignored", client(BINARY, b"late").fin(false)),
        after("ping_after_close_is_ignored", client(PING, b"late")),
        after("pong_after_close_is_ignored", client(PONG, b"late")),
        after("second_close_is_ignored", client(CLOSE, b"\x03\xe9")),
        after("second_empty_close_is_ignored", client(CLOSE, b"")),
        after("bad_close_after_close_is_ignored", client(CLOSE, b"\x03")),
        after("unmasked_after_close_is_ignored", server(TEXT, b"late")),
        after("rsv_after_close_is_ignored", client(TEXT, b"late").rsv(7)),
        after("opcode_3_after_close_is_ignored", client(0x3, b"late")),
        after("continuation_after_close_is_ignored", client(CONTINUATION, b"late")),
        after("bad_text_after_close_is_ignored", client(TEXT, b"\xff")),
        after("huge_header_after_close_is_ignored", client(TEXT, b"").length64(u64::MAX)),
        Case::new("text_after_an_empty_close_is_ignored", "RFC 6455 5.5.1")
            .recv(client(CLOSE, b""))
            .recv(client(TEXT, b"late"))
            .close_empty(),
    ]
}

fn frames_before() -> Vec<Case> {
    let rfc = "RFC 6455 5.5.1";
    vec![
        Case::new("text_before_close_is_echoed", rfc)
            .recv(client(TEXT, b"early"))
            .recv(client(CLOSE, b"\x03\xe8bye"))
            .send(server(TEXT, b"early"))
            .close(1000),
        Case::new("ping_before_close_is_answered", rfc)
            .recv(client(PING, b"early"))
            .recv(client(CLOSE, b"\x03\xe9"))
            .send(server(PONG, b"early"))
            .close(1001),
        Case::new("all_before_close_are_answered_in_order", rfc)
            .recv(client(TEXT, b"one"))
            .recv(client(PING, b"two"))
            .recv(client(BINARY, b"three"))
            .recv(client(CLOSE, b""))
            .send(server(TEXT, b"one"))
            .send(server(PONG, b"two"))
            .send(server(BINARY, b"three"))
            .close_empty(),
        Case::new("text_before_a_bad_close_is_echoed", rfc)
            .recv(client(TEXT, b"early"))
            .recv(client(CLOSE, &close_payload(1005, b"")))
            .send(server(TEXT, b"early"))
            .close(PROTOCOL_ERROR),
        Case::new("large_binary_before_close_is_echoed", rfc)
            .recv(client(BINARY, &letters(20_000)))
            .recv(client(CLOSE, b"\x03\xe8"))
            .send(server(BINARY, &letters(20_000)))
            .close(1000),
    ]
}

//! The limit of a message, inclusive, on the sum of its fragments (RFC 6455 10.4).

use super::{Case, TOO_BIG, letters};
use crate::support::frames::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client, server};

pub(super) fn cases() -> Vec<Case> {
    [inclusive(), exceeded(), announced(), fragments(), fragments_exceeded(), control()].concat()
}

fn inclusive() -> Vec<Case> {
    let echo = |name, opcode, message_max| {
        let payload = letters(message_max);
        Case::answers(name, "RFC 6455 10.4", client(opcode, &payload), server(opcode, &payload))
            .message_max(message_max)
    };
    vec![
        echo("text_at_a_limit_of_1_is_echoed", TEXT, 1),
        echo("text_at_a_limit_of_10_is_echoed", TEXT, 10),
        echo("text_at_a_limit_of_125_is_echoed", TEXT, 125),
        echo("text_at_a_limit_of_126_is_echoed", TEXT, 126),
        echo("text_at_a_limit_of_65535_is_echoed", TEXT, 65_535),
        echo("text_at_a_limit_of_65536_is_echoed", TEXT, 65_536),
        echo("text_at_the_default_limit_is_echoed", TEXT, 1 << 20),
        echo("binary_at_a_limit_of_1_is_echoed", BINARY, 1),
        echo("binary_at_a_limit_of_10_is_echoed", BINARY, 10),
        echo("binary_at_a_limit_of_125_is_echoed", BINARY, 125),
        echo("binary_at_a_limit_of_126_is_echoed", BINARY, 126),
        echo("binary_at_a_limit_of_20000_is_echoed", BINARY, 20_000),
        echo("binary_at_a_limit_of_65535_is_echoed", BINARY, 65_535),
        echo("binary_at_the_default_limit_is_echoed", BINARY, 1 << 20),
    ]
}

fn exceeded() -> Vec<Case> {
    let fails = |name, opcode, message_max| {
        let input = client(opcode, &letters(message_max + 1));
        Case::fails(name, "RFC 6455 10.4", input, TOO_BIG).message_max(message_max)
    };
    vec![
        fails("text_over_a_limit_of_1_is_refused", TEXT, 1),
        fails("text_over_a_limit_of_10_is_refused", TEXT, 10),
        fails("text_over_a_limit_of_125_is_refused", TEXT, 125),
        fails("text_over_a_limit_of_126_is_refused", TEXT, 126),
        fails("text_over_a_limit_of_65535_is_refused", TEXT, 65_535),
        fails("binary_over_a_limit_of_1_is_refused", BINARY, 1),
        fails("binary_over_a_limit_of_10_is_refused", BINARY, 10),
        fails("binary_over_a_limit_of_125_is_refused", BINARY, 125),
        fails("binary_over_a_limit_of_20000_is_refused", BINARY, 20_000),
        fails("binary_over_a_limit_of_65535_is_refused", BINARY, 65_535),
        Case::new("messages_around_one_over_the_limit", "RFC 6455 10.4")
            .message_max(10)
            .recv(client(TEXT, b"before"))
            .recv(client(TEXT, b"eleven byte"))
            .recv(client(TEXT, b"after"))
            .recv(client(CLOSE, b""))
            .send(server(TEXT, b"before"))
            .close(TOO_BIG),
        Case::new("limit_applies_to_each_message", "RFC 6455 10.4")
            .message_max(10)
            .recv(client(TEXT, b"ten bytes."))
            .recv(client(BINARY, b"ten bytes."))
            .recv(client(TEXT, b"ten bytes."))
            .send(server(TEXT, b"ten bytes."))
            .send(server(BINARY, b"ten bytes."))
            .send(server(TEXT, b"ten bytes.")),
    ]
}

/// The header exceeds the limit, so the server fails without waiting for the payload.
fn announced() -> Vec<Case> {
    let fails = |name, frame| Case::fails(name, "RFC 6455 10.4", frame, TOO_BIG);
    let (text, binary) = (|| client(TEXT, b""), || client(BINARY, b""));
    let max = 1 << 20;
    vec![
        fails("text_over_the_default_limit_is_refused_at_its_header", text().length64(max + 1)),
        fails("binary_over_the_default_limit_is_refused_at_its_header", binary().length64(max + 1)),
        fails("text_of_4_gib_is_refused_at_its_header", text().length64(1 << 32)),
        fails("binary_of_4_gib_is_refused_at_its_header", binary().length64(1 << 32)),
        fails("text_of_4_gib_and_1_is_refused_at_its_header", text().length64((1 << 32) + 1)),
        fails("text_of_the_largest_length_is_refused", text().length64(u64::MAX >> 1)),
        fails("binary_of_the_largest_length_is_refused", binary().length64(u64::MAX >> 1)),
        fails("open_text_over_the_limit_is_refused", text().fin(false).length64(max + 1)),
        fails("open_binary_over_the_limit_is_refused", binary().fin(false).length64(max + 1)),
        fails("text_of_11_is_refused_at_its_header", text().length7(11)).message_max(10),
        fails("binary_of_11_is_refused_at_its_header", binary().length7(11)).message_max(10),
        fails("text_of_126_is_refused_at_its_header", text().length16(126)).message_max(125),
        fails("text_of_65535_is_refused_at_its_header", text().length16(65_535))
            .message_max(65_534),
        fails("text_over_the_limit_is_refused_before_its_bad_byte", client(TEXT, b"a\xff"))
            .message_max(1),
        Case::new("text_at_the_default_limit_is_awaited", "RFC 6455 10.4")
            .recv(text().length64(max)),
        Case::new("text_at_a_limit_is_awaited", "RFC 6455 10.4")
            .message_max(10)
            .recv(client(TEXT, b"ten").length7(10)),
    ]
}

fn fragments() -> Vec<Case> {
    let rfc = "RFC 6455 10.4";
    vec![
        Case::new("fragments_of_a_text_at_the_limit_are_echoed", rfc)
            .message_max(10)
            .recv(client(TEXT, b"1234").fin(false))
            .recv(client(CONTINUATION, b"5678").fin(false))
            .recv(client(CONTINUATION, b"90"))
            .send(server(TEXT, b"1234567890")),
        Case::new("empty_fragment_of_a_text_at_the_limit_is_taken", rfc)
            .message_max(10)
            .recv(client(TEXT, b"1234567890").fin(false))
            .recv(client(CONTINUATION, b"").fin(false))
            .recv(client(CONTINUATION, b""))
            .send(server(TEXT, b"1234567890")),
        Case::new("fragments_of_a_binary_at_the_limit_are_echoed", rfc)
            .message_max(10)
            .recv(client(BINARY, b"12345678").fin(false))
            .recv(client(CONTINUATION, b"90"))
            .send(server(BINARY, b"12345678").fin(false))
            .send(server(CONTINUATION, b"90")),
        Case::new("empty_fragment_of_a_binary_at_the_limit_is_echoed", rfc)
            .message_max(10)
            .recv(client(BINARY, b"1234567890").fin(false))
            .recv(client(CONTINUATION, b""))
            .send(server(BINARY, b"1234567890").fin(false))
            .send(server(CONTINUATION, b"")),
        Case::new("fragmented_messages_at_the_limit_are_counted_separately", rfc)
            .message_max(10)
            .recv(client(TEXT, b"12345").fin(false))
            .recv(client(CONTINUATION, b"67890"))
            .recv(client(BINARY, b"12345").fin(false))
            .recv(client(CONTINUATION, b"67890"))
            .recv(client(TEXT, b"12345").fin(false))
            .recv(client(CONTINUATION, b"67890"))
            .send(server(TEXT, b"1234567890"))
            .send(server(BINARY, b"12345").fin(false))
            .send(server(CONTINUATION, b"67890"))
            .send(server(TEXT, b"1234567890")),
    ]
}

fn fragments_exceeded() -> Vec<Case> {
    let rfc = "RFC 6455 10.4";
    vec![
        Case::new("second_fragment_of_a_text_over_the_limit_is_refused", rfc)
            .message_max(10)
            .recv(client(TEXT, b"123456").fin(false))
            .recv(client(CONTINUATION, b"78901"))
            .close(TOO_BIG),
        Case::new("third_fragment_of_a_text_over_the_limit_is_refused", rfc)
            .message_max(10)
            .recv(client(TEXT, b"12345").fin(false))
            .recv(client(CONTINUATION, b"67890").fin(false))
            .recv(client(CONTINUATION, b"1"))
            .close(TOO_BIG),
        Case::new("fragment_of_a_text_over_the_limit_is_refused_at_its_header", rfc)
            .message_max(10)
            .recv(client(TEXT, b"12345").fin(false))
            .recv(client(CONTINUATION, b"").length7(6))
            .close(TOO_BIG),
        Case::new("fragment_of_a_text_of_the_largest_length_is_refused", rfc)
            .recv(client(TEXT, b"12345").fin(false))
            .recv(client(CONTINUATION, b"").length64(u64::MAX >> 1))
            .close(TOO_BIG),
        Case::new("second_fragment_of_a_binary_over_the_limit_is_refused", rfc)
            .message_max(10)
            .recv(client(BINARY, b"123456").fin(false))
            .recv(client(CONTINUATION, b"78901"))
            .send(server(BINARY, b"123456").fin(false))
            .close(TOO_BIG),
        Case::new("third_fragment_of_a_binary_over_the_limit_is_refused", rfc)
            .message_max(10)
            .recv(client(BINARY, b"12345").fin(false))
            .recv(client(CONTINUATION, b"67890").fin(false))
            .recv(client(CONTINUATION, b"1"))
            .send(server(BINARY, b"12345").fin(false))
            .send(server(CONTINUATION, b"67890").fin(false))
            .close(TOO_BIG),
        Case::new("fragment_of_a_binary_over_the_limit_is_refused_at_its_header", rfc)
            .message_max(10)
            .recv(client(BINARY, b"12345").fin(false))
            .recv(client(CONTINUATION, b"").fin(false).length7(6))
            .send(server(BINARY, b"12345").fin(false))
            .close(TOO_BIG),
        Case::new("fragment_of_a_binary_of_the_largest_length_is_refused", rfc)
            .recv(client(BINARY, b"12345").fin(false))
            .recv(client(CONTINUATION, b"").length64(u64::MAX >> 1))
            .send(server(BINARY, b"12345").fin(false))
            .close(TOO_BIG),
        Case::new("large_fragment_of_a_binary_over_the_limit_is_refused", rfc)
            .message_max(30_000)
            .recv(client(BINARY, &letters(20_000)).fin(false))
            .recv(client(CONTINUATION, b"").length16(10_001))
            .send(server(BINARY, &letters(20_000)).fin(false))
            .close(TOO_BIG),
    ]
}

/// Control frames belong to no message.
fn control() -> Vec<Case> {
    let rfc = "RFC 6455 10.4";
    vec![
        Case::new("ping_over_the_message_limit_is_answered", rfc)
            .message_max(1)
            .recv(client(PING, b"ping"))
            .send(server(PONG, b"ping")),
        Case::new("close_over_the_message_limit_is_answered", rfc)
            .message_max(1)
            .recv(client(CLOSE, b"\x03\xe8going away"))
            .close(1000),
        Case::new("ping_inside_a_text_at_the_limit_is_answered", rfc)
            .message_max(10)
            .recv(client(TEXT, b"1234567890").fin(false))
            .recv(client(PING, b"not counted"))
            .recv(client(CONTINUATION, b""))
            .send(server(PONG, b"not counted"))
            .send(server(TEXT, b"1234567890")),
        Case::new("pong_inside_a_text_at_the_limit_is_ignored", rfc)
            .message_max(10)
            .recv(client(TEXT, b"12345").fin(false))
            .recv(client(PONG, b"not counted"))
            .recv(client(CONTINUATION, b"67890"))
            .send(server(TEXT, b"1234567890")),
    ]
}

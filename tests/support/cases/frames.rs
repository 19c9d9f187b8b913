//! Single frames: opcodes, lengths, masks, reserved bits (RFC 6455 5.1 to 5.3 and 5.5 to 5.8).

use super::{Case, PROTOCOL_ERROR, letters};
use crate::support::frames::{
    BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, SAMPLE_KEY, TEXT, client, server,
};

pub(super) fn cases() -> Vec<Case> {
    [
        opcodes(),
        reserved_opcodes(),
        lengths(),
        lengths_on_the_mask_word(),
        lengths_not_minimal(),
        masks(),
        unmasked(),
        reserved_bits(),
        reserved_bits_of_each_opcode(),
        control(),
        control_too_long_or_fragmented(),
        samples_of_the_rfc(),
        pipelined(),
        failures_end_it(),
    ]
    .concat()
}

fn opcodes() -> Vec<Case> {
    let rfc = "RFC 6455 11.8";
    vec![
        Case::fails("opcode_0_is_continuation", rfc, client(0x0, b"hi"), PROTOCOL_ERROR),
        Case::answers("opcode_1_is_text", rfc, client(0x1, b"hi"), server(0x1, b"hi")),
        Case::answers("opcode_2_is_binary", rfc, client(0x2, b"hi"), server(0x2, b"hi")),
        Case::new("opcode_8_is_close", rfc).recv(client(0x8, b"")).close_empty(),
        Case::answers("opcode_9_is_ping", rfc, client(0x9, b"hi"), server(0xA, b"hi")),
        Case::new("opcode_a_is_pong", rfc).recv(client(0xA, b"hi")),
    ]
}

fn reserved_opcodes() -> Vec<Case> {
    let rfc = "RFC 6455 5.2";
    let fails = |name, frame| Case::fails(name, rfc, frame, PROTOCOL_ERROR);
    vec![
        fails("opcode_3_is_refused", client(0x3, b"")),
        fails("opcode_4_is_refused", client(0x4, b"")),
        fails("opcode_5_is_refused", client(0x5, b"")),
        fails("opcode_6_is_refused", client(0x6, b"")),
        fails("opcode_7_is_refused", client(0x7, b"")),
        fails("opcode_b_is_refused", client(0xB, b"")),
        fails("opcode_c_is_refused", client(0xC, b"")),
        fails("opcode_d_is_refused", client(0xD, b"")),
        fails("opcode_e_is_refused", client(0xE, b"")),
        fails("opcode_f_is_refused", client(0xF, b"")),
        fails("opcode_3_with_payload_is_refused", client(0x3, b"hi")),
        fails("opcode_3_without_fin_is_refused", client(0x3, b"hi").fin(false)),
        fails("opcode_b_with_payload_is_refused", client(0xB, b"hi")),
        fails("opcode_3_is_refused_before_its_payload", client(0x3, b"").length7(125)),
        Case::new("opcode_7_inside_a_message_is_refused", rfc)
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(0x7, b"b"))
            .close(PROTOCOL_ERROR),
    ]
}

fn lengths() -> Vec<Case> {
    let echo = |name, opcode, length| {
        let payload = letters(length);
        Case::answers(name, "RFC 6455 5.2", client(opcode, &payload), server(opcode, &payload))
    };
    vec![
        echo("text_of_0_is_echoed", TEXT, 0),
        echo("text_of_1_is_echoed", TEXT, 1),
        echo("text_of_124_is_echoed", TEXT, 124),
        echo("text_of_125_is_echoed", TEXT, 125),
        echo("text_of_126_is_echoed", TEXT, 126),
        echo("text_of_127_is_echoed", TEXT, 127),
        echo("text_of_128_is_echoed", TEXT, 128),
        echo("text_of_255_is_echoed", TEXT, 255),
        echo("text_of_256_is_echoed", TEXT, 256),
        echo("text_of_16384_is_echoed", TEXT, 16_384),
        echo("text_of_16385_is_echoed", TEXT, 16_385),
        echo("text_of_65535_is_echoed", TEXT, 65_535),
        echo("text_of_65536_is_echoed", TEXT, 65_536),
        echo("text_of_65537_is_echoed", TEXT, 65_537),
        echo("binary_of_0_is_echoed", BINARY, 0),
        echo("binary_of_1_is_echoed", BINARY, 1),
        echo("binary_of_124_is_echoed", BINARY, 124),
        echo("binary_of_125_is_echoed", BINARY, 125),
        echo("binary_of_126_is_echoed", BINARY, 126),
        echo("binary_of_127_is_echoed", BINARY, 127),
        echo("binary_of_128_is_echoed", BINARY, 128),
        echo("binary_of_255_is_echoed", BINARY, 255),
        echo("binary_of_256_is_echoed", BINARY, 256),
        echo("binary_of_16383_is_echoed", BINARY, 16_383),
        echo("binary_of_16384_is_echoed", BINARY, 16_384),
        echo("binary_of_16385_is_echoed", BINARY, 16_385),
        echo("binary_of_65535_is_echoed", BINARY, 65_535),
        echo("binary_of_65536_is_echoed", BINARY, 65_536),
        echo("binary_of_65537_is_echoed", BINARY, 65_537),
    ]
}

/// Lengths around the words over which a mask is applied, with a key whose bytes all differ.
fn lengths_on_the_mask_word() -> Vec<Case> {
    let echo = |name, length| {
        let payload = letters(length);
        let input = client(BINARY, &payload).key([1, 2, 4, 8]);
        Case::answers(name, "RFC 6455 5.3", input, server(BINARY, &payload))
    };
    vec![
        echo("mask_of_1_byte_is_undone", 1),
        echo("mask_of_2_bytes_is_undone", 2),
        echo("mask_of_3_bytes_is_undone", 3),
        echo("mask_of_4_bytes_is_undone", 4),
        echo("mask_of_5_bytes_is_undone", 5),
        echo("mask_of_7_bytes_is_undone", 7),
        echo("mask_of_8_bytes_is_undone", 8),
        echo("mask_of_9_bytes_is_undone", 9),
        echo("mask_of_15_bytes_is_undone", 15),
        echo("mask_of_16_bytes_is_undone", 16),
        echo("mask_of_17_bytes_is_undone", 17),
        echo("mask_of_31_bytes_is_undone", 31),
        echo("mask_of_32_bytes_is_undone", 32),
        echo("mask_of_33_bytes_is_undone", 33),
        echo("mask_of_63_bytes_is_undone", 63),
        echo("mask_of_64_bytes_is_undone", 64),
        echo("mask_of_65_bytes_is_undone", 65),
    ]
}

fn lengths_not_minimal() -> Vec<Case> {
    let fails = |name, frame| Case::fails(name, "RFC 6455 5.2", frame, PROTOCOL_ERROR);
    let empty = || client(BINARY, b"");
    let of = |length| client(BINARY, &letters(length));
    vec![
        fails("length_0_in_16_bits_is_refused", empty().length16(0)),
        fails("length_1_in_16_bits_is_refused", of(1).length16(1)),
        fails("length_125_in_16_bits_is_refused", of(125).length16(125)),
        fails("length_0_in_64_bits_is_refused", empty().length64(0)),
        fails("length_1_in_64_bits_is_refused", of(1).length64(1)),
        fails("length_125_in_64_bits_is_refused", of(125).length64(125)),
        fails("length_126_in_64_bits_is_refused", of(126).length64(126)),
        fails("length_65535_in_64_bits_is_refused", empty().length64(65_535)),
        fails("text_length_5_in_16_bits_is_refused", client(TEXT, b"Hello").length16(5)),
        fails("text_length_5_in_64_bits_is_refused", client(TEXT, b"Hello").length64(5)),
        fails("ping_length_4_in_16_bits_is_refused", client(PING, b"ping").length16(4)),
        fails("ping_length_4_in_64_bits_is_refused", client(PING, b"ping").length64(4)),
        fails("pong_length_4_in_16_bits_is_refused", client(PONG, b"pong").length16(4)),
        fails("close_length_2_in_16_bits_is_refused", client(CLOSE, b"\x03\xe8").length16(2)),
        fails("close_length_0_in_64_bits_is_refused", client(CLOSE, b"").length64(0)),
        fails("length_with_the_top_bit_is_refused", empty().length64(1 << 63)),
        fails("length_with_the_top_bit_and_1_is_refused", empty().length64(1 << 63 | 1)),
        fails("length_of_all_bits_is_refused", empty().length64(u64::MAX)),
        fails("text_length_with_the_top_bit_is_refused", client(TEXT, b"").length64(1 << 63)),
        Case::new("continuation_length_not_minimal_is_refused", "RFC 6455 5.2")
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(CONTINUATION, b"b").length16(1))
            .close(PROTOCOL_ERROR),
    ]
}

fn masks() -> Vec<Case> {
    let rfc = "RFC 6455 5.3";
    let echo = |name, key| {
        let input = client(TEXT, b"Hello, world").key(key);
        Case::answers(name, rfc, input, server(TEXT, b"Hello, world"))
    };
    vec![
        echo("mask_of_the_zero_key_is_undone", [0; 4]),
        echo("mask_of_all_bits_is_undone", [0xFF; 4]),
        echo("mask_of_one_bit_is_undone", [0, 0, 0, 1]),
        echo("mask_of_four_bytes_is_undone", [0x01, 0x23, 0x45, 0x67]),
        echo("mask_that_looks_like_a_frame_is_undone", [0x81, 0x85, 0x88, 0x80]),
        Case::answers(
            "mask_equal_to_the_payload_is_undone",
            rfc,
            client(BINARY, &SAMPLE_KEY),
            server(BINARY, &SAMPLE_KEY),
        ),
        Case::new("each_frame_has_its_own_mask", rfc)
            .recv(client(TEXT, b"first").key([1, 2, 3, 4]))
            .recv(client(TEXT, b"second").key([0xF0, 0xE1, 0xD2, 0xC3]))
            .send(server(TEXT, b"first"))
            .send(server(TEXT, b"second")),
        Case::new("mask_restarts_in_each_fragment", rfc)
            .recv(client(TEXT, b"abc").fin(false).key([1, 2, 3, 4]))
            .recv(client(CONTINUATION, b"defgh").fin(false).key([5, 6, 7, 8]))
            .recv(client(CONTINUATION, b"ij").key([1, 2, 3, 4]))
            .send(server(TEXT, b"abcdefghij")),
        Case::answers(
            "mask_of_a_ping_is_undone",
            rfc,
            client(PING, b"ping").key([9, 8, 7, 6]),
            server(PONG, b"ping"),
        ),
        Case::new("mask_of_a_close_is_undone", rfc)
            .recv(client(CLOSE, b"\x03\xe9").key([0x03, 0xE8, 0, 0]))
            .close(1001),
    ]
}

fn unmasked() -> Vec<Case> {
    let fails = |name, frame: Frame| Case::fails(name, "RFC 6455 5.1", frame, PROTOCOL_ERROR);
    vec![
        fails("unmasked_text_is_refused", server(TEXT, b"hi")),
        fails("unmasked_empty_text_is_refused", server(TEXT, b"")),
        fails("unmasked_binary_is_refused", server(BINARY, b"hi")),
        fails("unmasked_ping_is_refused", server(PING, b"hi")),
        fails("unmasked_pong_is_refused", server(PONG, b"hi")),
        fails("unmasked_close_is_refused", server(CLOSE, b"\x03\xe8")),
        fails("unmasked_empty_close_is_refused", server(CLOSE, b"")),
        fails("unmasked_text_of_126_is_refused", server(TEXT, &letters(126))),
        fails("unmasked_text_of_65536_is_refused", server(TEXT, b"").length64(65_536)),
        Case::new("unmasked_continuation_is_refused", "RFC 6455 5.1")
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(CONTINUATION, b"b").unmasked())
            .close(PROTOCOL_ERROR),
        Case::new("unmasked_ping_inside_a_message_is_refused", "RFC 6455 5.1")
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(PING, b"").unmasked())
            .close(PROTOCOL_ERROR),
    ]
}

fn reserved_bits() -> Vec<Case> {
    let fails =
        |name, rsv| Case::fails(name, "RFC 6455 5.2", client(TEXT, b"hi").rsv(rsv), PROTOCOL_ERROR);
    vec![
        fails("rsv3_is_refused", 1),
        fails("rsv2_is_refused", 2),
        fails("rsv2_and_rsv3_are_refused", 3),
        fails("rsv1_is_refused", 4),
        fails("rsv1_and_rsv3_are_refused", 5),
        fails("rsv1_and_rsv2_are_refused", 6),
        fails("all_of_rsv_are_refused", 7),
    ]
}

fn reserved_bits_of_each_opcode() -> Vec<Case> {
    let rfc = "RFC 6455 5.2";
    let fails = |name, frame| Case::fails(name, rfc, frame, PROTOCOL_ERROR);
    vec![
        fails("rsv1_of_an_empty_text_is_refused", client(TEXT, b"").rsv(4)),
        fails("rsv1_of_a_first_fragment_is_refused", client(TEXT, b"a").fin(false).rsv(4)),
        fails("rsv1_of_binary_is_refused", client(BINARY, b"hi").rsv(4)),
        fails("rsv2_of_binary_is_refused", client(BINARY, b"hi").rsv(2)),
        fails("rsv3_of_binary_is_refused", client(BINARY, b"hi").rsv(1)),
        fails("rsv1_of_a_ping_is_refused", client(PING, b"hi").rsv(4)),
        fails("rsv2_of_a_ping_is_refused", client(PING, b"hi").rsv(2)),
        fails("rsv3_of_a_ping_is_refused", client(PING, b"hi").rsv(1)),
        fails("rsv1_of_a_pong_is_refused", client(PONG, b"hi").rsv(4)),
        fails("rsv2_of_a_pong_is_refused", client(PONG, b"hi").rsv(2)),
        fails("rsv3_of_a_pong_is_refused", client(PONG, b"hi").rsv(1)),
        fails("rsv1_of_a_close_is_refused", client(CLOSE, b"\x03\xe8").rsv(4)),
        fails("rsv2_of_a_close_is_refused", client(CLOSE, b"\x03\xe8").rsv(2)),
        fails("rsv3_of_a_close_is_refused", client(CLOSE, b"\x03\xe8").rsv(1)),
        Case::new("rsv1_of_a_continuation_is_refused", rfc)
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(CONTINUATION, b"b").rsv(4))
            .close(PROTOCOL_ERROR),
        Case::new("rsv2_of_a_continuation_is_refused", rfc)
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(CONTINUATION, b"b").fin(false).rsv(2))
            .close(PROTOCOL_ERROR),
    ]
}

fn control() -> Vec<Case> {
    let pong = |name, payload: &[u8]| {
        Case::answers(name, "RFC 6455 5.5.3", client(PING, payload), server(PONG, payload))
    };
    vec![
        pong("empty_ping_gets_an_empty_pong", b""),
        pong("ping_of_1_gets_its_pong", b"p"),
        pong("ping_of_124_gets_its_pong", &letters(124)),
        pong("ping_of_125_gets_its_pong", &letters(125)),
        pong("ping_that_is_not_utf8_gets_its_pong", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
        Case::new("each_ping_gets_its_pong_in_order", "RFC 6455 5.5.3")
            .recv(client(PING, b"one"))
            .recv(client(PING, b""))
            .recv(client(PING, b"three"))
            .send(server(PONG, b"one"))
            .send(server(PONG, b""))
            .send(server(PONG, b"three")),
        Case::new("pong_is_ignored", "RFC 6455 5.5.3").recv(client(PONG, b"unsolicited")),
        Case::new("empty_pong_is_ignored", "RFC 6455 5.5.3").recv(client(PONG, b"")),
        Case::new("pong_of_125_is_ignored", "RFC 6455 5.5.3").recv(client(PONG, &letters(125))),
        Case::new("pong_before_a_ping_is_ignored", "RFC 6455 5.5.3")
            .recv(client(PONG, b"unsolicited"))
            .recv(client(PING, b"asked"))
            .send(server(PONG, b"asked")),
        Case::new("ping_whose_payload_is_late_is_not_answered", "RFC 6455 5.5.2")
            .recv(client(PING, b"pi").length7(4)),
    ]
}

fn control_too_long_or_fragmented() -> Vec<Case> {
    let fails = |name, frame| Case::fails(name, "RFC 6455 5.5", frame, PROTOCOL_ERROR);
    let payload = letters(126);
    vec![
        fails("ping_of_126_is_refused", client(PING, &payload)),
        fails("ping_of_65535_is_refused", client(PING, b"").length16(65_535)),
        fails("ping_of_65536_is_refused", client(PING, b"").length64(65_536)),
        fails("ping_over_the_message_limit_is_refused", client(PING, b"").length64(1 << 40)),
        fails("ping_of_126_is_refused_before_its_payload", client(PING, b"").length16(126)),
        fails("pong_of_126_is_refused", client(PONG, &payload)),
        fails("pong_of_65536_is_refused", client(PONG, b"").length64(65_536)),
        fails("close_of_126_is_refused", client(CLOSE, &[b"\x03\xe8", &payload[2..]].concat())),
        fails("close_of_65536_is_refused", client(CLOSE, b"").length64(65_536)),
        fails("fragmented_ping_is_refused", client(PING, b"hi").fin(false)),
        fails("fragmented_empty_ping_is_refused", client(PING, b"").fin(false)),
        fails("fragmented_pong_is_refused", client(PONG, b"hi").fin(false)),
        fails("fragmented_close_is_refused", client(CLOSE, b"\x03\xe8").fin(false)),
        fails("fragmented_empty_close_is_refused", client(CLOSE, b"").fin(false)),
        Case::new("fragmented_ping_inside_a_message_is_refused", "RFC 6455 5.5")
            .recv(client(TEXT, b"a").fin(false))
            .recv(client(PING, b"b").fin(false))
            .recv(client(CONTINUATION, b"c"))
            .close(PROTOCOL_ERROR),
    ]
}

/// The examples of RFC 6455 5.7, as the bytes that are printed there.
fn samples_of_the_rfc() -> Vec<Case> {
    let mut hello = Case::new("sample_of_a_masked_text", "RFC 6455 5.7");
    hello.input.extend(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    hello.output.extend(b"\x81\x05Hello");
    let mut ping = Case::new("sample_of_a_masked_ping", "RFC 6455 5.7");
    ping.input.extend(b"\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    ping.output.extend(b"\x8a\x05Hello");
    vec![hello, ping]
}

fn pipelined() -> Vec<Case> {
    let rfc = "RFC 6455 5.4";
    vec![
        Case::new("empty_input_is_not_answered", rfc),
        Case::new("messages_in_a_row_are_echoed_in_order", rfc)
            .recv(client(TEXT, b"one"))
            .recv(client(BINARY, b"two"))
            .recv(client(TEXT, b""))
            .recv(client(TEXT, b"four"))
            .send(server(TEXT, b"one"))
            .send(server(BINARY, b"two"))
            .send(server(TEXT, b""))
            .send(server(TEXT, b"four")),
        Case::new("messages_and_pings_are_answered_in_order", rfc)
            .recv(client(TEXT, b"one"))
            .recv(client(PING, b"two"))
            .recv(client(PONG, b"three"))
            .recv(client(BINARY, b"four"))
            .send(server(TEXT, b"one"))
            .send(server(PONG, b"two"))
            .send(server(BINARY, b"four")),
        Case::new("short_and_long_messages_in_a_row_are_echoed", rfc)
            .recv(client(TEXT, b"short"))
            .recv(client(BINARY, &letters(300)))
            .recv(client(BINARY, &letters(125)))
            .recv(client(TEXT, &letters(126)))
            .send(server(TEXT, b"short"))
            .send(server(BINARY, &letters(300)))
            .send(server(BINARY, &letters(125)))
            .send(server(TEXT, &letters(126))),
        Case::new("payload_that_looks_like_frames_is_echoed", rfc)
            .recv(client(BINARY, &client(CLOSE, b"").bytes()).key([0; 4]))
            .recv(client(TEXT, b"still here"))
            .send(server(BINARY, &client(CLOSE, b"").bytes()))
            .send(server(TEXT, b"still here")),
        Case::new("text_whose_payload_is_late_is_not_answered", rfc)
            .recv(client(TEXT, b"on time"))
            .recv(client(TEXT, b"la").length7(4))
            .send(server(TEXT, b"on time")),
    ]
}

fn failures_end_it() -> Vec<Case> {
    let rfc = "RFC 6455 7.1.7";
    let between = |name, frame| {
        Case::new(name, rfc)
            .recv(client(TEXT, b"before"))
            .recv(frame)
            .recv(client(TEXT, b"after"))
            .recv(client(PING, b"after"))
            .recv(client(CLOSE, b"\x03\xe8"))
            .send(server(TEXT, b"before"))
            .close(PROTOCOL_ERROR)
    };
    vec![
        between("frames_around_an_unmasked_one", client(TEXT, b"bad").unmasked()),
        between("frames_around_a_reserved_bit", client(TEXT, b"bad").rsv(4)),
        between("frames_around_a_reserved_opcode", client(0x3, b"bad")),
        between("frames_around_a_length_not_minimal", client(TEXT, b"bad").length16(3)),
        between("frames_around_a_stray_continuation", client(CONTINUATION, b"bad")),
        between("frames_around_a_fragmented_ping", client(PING, b"bad").fin(false)),
        Case::new("failure_is_reported_once", rfc)
            .recv(client(0x3, b"bad"))
            .recv(client(0x4, b"bad"))
            .recv(server(TEXT, b"bad"))
            .close(PROTOCOL_ERROR),
        Case::new("pings_before_a_failure_are_answered", rfc)
            .recv(client(PING, b"one"))
            .recv(client(PING, b"two"))
            .recv(client(0xF, b"bad"))
            .send(server(PONG, b"one"))
            .send(server(PONG, b"two"))
            .close(PROTOCOL_ERROR),
    ]
}

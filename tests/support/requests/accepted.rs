//! Unusual requests that a strict server accepts.

use super::{
    GOOD_REQUEST, HEAD_BYTES_MAX, HEADERS_MAX, RequestCase, head, numbered, padded, replaced,
    valued, with, with_all, with_request_line,
};
use crate::support::frames::{CLOSE, PING, PONG, TEXT, client, server};

pub(super) fn cases() -> Vec<RequestCase> {
    [
        targets(),
        http_versions(),
        empty_line_first(),
        names_and_spaces(),
        connection(),
        upgrade(),
        keys(),
        extensions(),
        other_headers(),
        sizes(),
        of_real_clients(),
        frames_in_the_same_read(),
    ]
    .concat()
}

fn accepted(name: &'static str, rfc: &'static str, input: Vec<u8>) -> RequestCase {
    RequestCase { name, rfc, input, status: 101, headers: SAMPLE_HEADERS, frames: Vec::new() }
}

fn targets() -> Vec<RequestCase> {
    let target = |name, target: &str| {
        accepted(name, "RFC 9112 3.2", with_request_line(&format!("GET {target} HTTP/1.1")))
    };
    // The host of the target takes precedence over the header. They are not compared.
    let absolute = |name, url| RequestCase { rfc: "RFC 9112 3.2.2", ..target(name, url) };
    vec![
        accepted("sample_of_the_rfc", "RFC 6455 1.2", GOOD_REQUEST.to_vec()),
        target("target_of_the_root", "/"),
        target("target_with_a_query", "/chat?room=1&name=%C3%A9"),
        target("target_with_an_empty_query", "/?"),
        target("target_with_many_slashes", "//chat///room"),
        target("target_with_marks", "/~chat/(a)/b;c=d,e@f:g!$&'*+-._"),
        target("target_of_1000_bytes", &format!("/{}", "a".repeat(999))),
        target("target_in_absolute_form", "http://server.example.com/chat"),
        target("target_in_absolute_form_of_https", "https://server.example.com/chat?a=b"),
        target("target_in_absolute_form_without_a_path", "http://server.example.com"),
        target("target_in_absolute_form_with_a_query_only", "http://server.example.com?a=b"),
        absolute("target_with_another_host_than_the_header", "http://other.example.com/chat"),
        absolute("target_with_a_port_beside_a_host_without", "http://server.example.com:80/chat"),
    ]
}

/// Every minor version above 1 is treated as HTTP/1.1.
fn http_versions() -> Vec<RequestCase> {
    let version = |name, version: &str| {
        accepted(name, "RFC 9110 2.5", with_request_line(&format!("GET /chat {version}")))
    };
    vec![version("http_1_2_is_accepted", "HTTP/1.2"), version("http_1_9_is_accepted", "HTTP/1.9")]
}

/// An empty line is ignored, and counts towards the size of the head.
fn empty_line_first() -> Vec<RequestCase> {
    let after_empty_line =
        |name, request: Vec<u8>| accepted(name, "RFC 9112 2.2", [b"\r\n", &request[..]].concat());
    vec![
        after_empty_line("empty_line_first_is_ignored", GOOD_REQUEST.to_vec()),
        after_empty_line("head_of_8192_bytes_with_an_empty_line_first", padded(HEAD_BYTES_MAX - 2)),
    ]
}

fn names_and_spaces() -> Vec<RequestCase> {
    let names = "RFC 9110 5.1";
    let spaces = "RFC 9112 5.1";
    vec![
        accepted("header_names_in_small_letters", names, {
            head(&[
                "GET /chat HTTP/1.1",
                "host: server.example.com",
                "upgrade: websocket",
                "connection: Upgrade",
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
                "sec-websocket-version: 13",
            ])
        }),
        accepted("header_names_in_capitals", names, {
            head(&[
                "GET /chat HTTP/1.1",
                "HOST: server.example.com",
                "UPGRADE: websocket",
                "CONNECTION: Upgrade",
                "SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==",
                "SEC-WEBSOCKET-VERSION: 13",
            ])
        }),
        accepted("headers_in_another_order", names, {
            head(&[
                "GET /chat HTTP/1.1",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Host: server.example.com",
            ])
        }),
        accepted("no_space_after_the_colons", spaces, {
            head(&[
                "GET /chat HTTP/1.1",
                "Host:server.example.com",
                "Upgrade:websocket",
                "Connection:Upgrade",
                "Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Version:13",
            ])
        }),
        accepted("tabs_and_spaces_around_the_values", spaces, {
            head(&[
                "GET /chat HTTP/1.1",
                "Host: \t server.example.com \t ",
                "Upgrade:\twebsocket\t",
                "Connection:   Upgrade   ",
                "Sec-WebSocket-Key:\t \tdGhlIHNhbXBsZSBub25jZQ==\t \t",
                "Sec-WebSocket-Version:  13\t",
            ])
        }),
    ]
}

fn connection() -> Vec<RequestCase> {
    let rfc = "RFC 9110 7.6.1";
    let value = |name, value| accepted(name, rfc, valued("Connection", value));
    let lines = |name, lines: &[&str]| accepted(name, rfc, replaced("Connection", lines));
    vec![
        value("connection_in_small_letters", "upgrade"),
        value("connection_in_capitals", "UPGRADE"),
        value("connection_in_mixed_letters", "uPgRaDe"),
        value("connection_with_keep_alive_first", "keep-alive, Upgrade"),
        value("connection_with_keep_alive_last", "Upgrade, keep-alive"),
        value("connection_without_a_space", "keep-alive,Upgrade"),
        value("connection_with_tabs", "keep-alive\t,\tUpgrade"),
        value("connection_with_spaces_before_the_comma", "keep-alive  ,  upgrade"),
        value("connection_of_three", "x-one, upgrade, x-two"),
        value("connection_twice_upgrade", "upgrade, Upgrade"),
        value("connection_with_empty_elements", ", ,Upgrade,,"),
        lines("connection_in_2_lines", &["Connection: keep-alive", "Connection: Upgrade"]),
        lines("connection_in_2_lines_reversed", &["Connection: Upgrade", "connection: keep-alive"]),
        lines(
            "connection_in_3_lines",
            &["Connection: a, b", "CONNECTION: c,upgrade ,d", "Connection: e"],
        ),
    ]
}

fn upgrade() -> Vec<RequestCase> {
    let rfc = "RFC 9110 7.8";
    let value = |name, value| accepted(name, rfc, valued("Upgrade", value));
    let lines = |name, lines: &[&str]| accepted(name, rfc, replaced("Upgrade", lines));
    vec![
        value("upgrade_with_capitals", "WebSocket"),
        value("upgrade_in_capitals", "WEBSOCKET"),
        value("upgrade_with_another_first", "h2c, websocket"),
        value("upgrade_with_another_last", "websocket,h2c"),
        value("upgrade_with_tabs", "h2c\t,\twebsocket"),
        value("upgrade_with_a_versioned_other", "IRC/6.9, websocket"),
        value("upgrade_with_empty_elements", ",,websocket, ,"),
        lines("upgrade_in_2_lines", &["Upgrade: h2c", "Upgrade: websocket"]),
        lines("upgrade_in_2_lines_reversed", &["UPGRADE: WebSocket", "upgrade: h2c"]),
    ]
}

fn keys() -> Vec<RequestCase> {
    let key = |name, key, headers| RequestCase {
        headers,
        ..accepted(name, "RFC 6455 4.2.2", valued("Sec-WebSocket-Key", key))
    };
    vec![
        key(
            "key_of_zeros",
            "AAAAAAAAAAAAAAAAAAAAAA==",
            &[("Sec-WebSocket-Accept", "ICX+Yqv66kxgM0FcWaLWlFLwTAI=")],
        ),
        key(
            "key_of_all_bits",
            "/////////////////////w==",
            &[("Sec-WebSocket-Accept", "XXpj4jYzLM2yUE0C7TIgMwTQh2g=")],
        ),
        key(
            "key_with_both_marks",
            "+/+/+/+/+/+/+/+/+/+/+w==",
            &[("Sec-WebSocket-Accept", "M0DUs3om0SqzerhOhYSMM7WQuBQ=")],
        ),
    ]
}

/// The server supports no extension, so it accepts none.
fn extensions() -> Vec<RequestCase> {
    let rfc = "RFC 6455 9.1";
    let extension = |name, value: &str| {
        accepted(name, rfc, with(&format!("Sec-WebSocket-Extensions: {value}")))
    };
    vec![
        extension("extension_of_no_parameters", "foo"),
        extension("extensions_in_a_list", "foo, bar,baz"),
        extension("extension_with_a_parameter", "foo; bar"),
        extension("extension_with_a_value", "foo; bar=1"),
        extension("extension_with_many_parameters", "foo; a; b=1; c=\"2\";d;e=f"),
        extension("extension_with_a_quoted_value", "foo; bar=\"baz\""),
        extension("extension_with_a_quoted_pair", "foo; bar=\"b\\az\""),
        extension("extension_with_spaces_around_its_marks", "foo ; bar = 1 , baz"),
        extension("extension_with_tabs_around_its_marks", "foo\t;\tbar\t,\tbaz"),
        extension("extension_with_every_mark_of_a_token", "!#$%&'*+-.^_`|~; a1=Z9"),
        extension("extension_named_twice", "foo; a=1, foo; a=2, foo"),
        extension("extensions_with_an_empty_element", "foo, , bar"),
        extension("deflate_as_chromium_offers_it", "permessage-deflate; client_max_window_bits"),
        accepted(
            "extensions_in_2_lines",
            rfc,
            with_all(&["Sec-WebSocket-Extensions: foo", "sec-websocket-extensions: bar; baz=2"]),
        ),
    ]
}

fn other_headers() -> Vec<RequestCase> {
    let more = |name, rfc, line| accepted(name, rfc, with(line));
    let host = |name, value| accepted(name, "RFC 9112 3.2", valued("Host", value));
    let mut latin = GOOD_REQUEST[..GOOD_REQUEST.len() - 2].to_vec();
    latin.extend(b"X-Name: Ren\xe9\r\n\r\n");
    vec![
        host("host_with_a_port", "server.example.com:9001"),
        host("host_of_ipv4", "127.0.0.1:9001"),
        host("host_of_ipv6", "[::1]:9001"),
        more("origin_is_accepted", "RFC 6455 4.2.2", "Origin: http://example.com"),
        more("null_origin_is_accepted", "RFC 6455 4.2.2", "Origin: null"),
        more(
            "subprotocols_are_not_chosen",
            "RFC 6455 4.2.2",
            "Sec-WebSocket-Protocol: chat, super",
        ),
        accepted(
            "subprotocols_in_2_lines_are_not_chosen",
            "RFC 6455 11.3.4",
            with_all(&["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat"]),
        ),
        more("empty_value_is_accepted", "RFC 9110 5.5", "X-Empty:"),
        more("value_of_spaces_is_accepted", "RFC 9110 5.5", "X-Empty: \t "),
        more("value_with_colons_is_accepted", "RFC 9110 5.5", "X-Time: 12:34:56"),
        more("value_with_a_tab_inside_is_accepted", "RFC 9110 5.5", "X-Tab: a\tb"),
        more("value_in_utf8_is_accepted", "RFC 9110 5.5", "X-Name: \u{BA}\u{3C2}"),
        accepted("value_in_latin_1_is_accepted", "RFC 9110 5.5", latin),
        more("header_name_of_marks_is_accepted", "RFC 9110 5.1", "!#$%&'*+-.^_`|~: x"),
        more("content_length_of_0_is_no_body", "RFC 9112 6.2", "Content-Length: 0"),
        accepted(
            "other_headers_may_come_twice",
            "RFC 9110 5.3",
            with_all(&["Cookie: a=b", "Cookie: c=d"]),
        ),
    ]
}

fn sizes() -> Vec<RequestCase> {
    let frame = client(TEXT, b"right after it");
    vec![
        accepted("head_of_8191_bytes", "RFC 9112 3", padded(HEAD_BYTES_MAX - 1)),
        accepted("head_of_8192_bytes", "RFC 9112 3", padded(HEAD_BYTES_MAX)),
        RequestCase {
            frames: server(TEXT, b"right after it").bytes(),
            ..accepted("head_of_8192_bytes_then_a_frame", "RFC 9112 3", {
                [padded(HEAD_BYTES_MAX), frame.bytes()].concat()
            })
        },
        accepted("head_of_99_headers", "RFC 9110 5.4", numbered(HEADERS_MAX - 1)),
        accepted("head_of_100_headers", "RFC 9110 5.4", numbered(HEADERS_MAX)),
    ]
}

fn of_real_clients() -> Vec<RequestCase> {
    let rfc = "RFC 6455 4.1";
    vec![
        accepted("request_of_chromium", rfc, {
            head(&[
                "GET /chat HTTP/1.1",
                "Host: 127.0.0.1:9001",
                "Connection: Upgrade",
                "Pragma: no-cache",
                "Cache-Control: no-cache",
                "User-Agent: Mozilla/5.0 AppleWebKit/537.36 Chrome/126.0.0.0",
                "Upgrade: websocket",
                "Origin: http://127.0.0.1:8000",
                "Sec-WebSocket-Version: 13",
                "Accept-Encoding: gzip, deflate, br, zstd",
                "Accept-Language: en-US,en;q=0.9",
                "Cookie: session=0123456789abcdef",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
            ])
        }),
        accepted("request_of_firefox", rfc, {
            head(&[
                "GET /chat HTTP/1.1",
                "Host: 127.0.0.1:9001",
                "User-Agent: Mozilla/5.0 (X11; rv:127.0) Gecko/20100101 Firefox/127.0",
                "Accept: */*",
                "Accept-Language: en-US,en;q=0.5",
                "Accept-Encoding: gzip, deflate, br, zstd",
                "Sec-WebSocket-Version: 13",
                "Origin: null",
                "Sec-WebSocket-Extensions: permessage-deflate",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "DNT: 1",
                "Connection: keep-alive, Upgrade",
                "Sec-Fetch-Dest: empty",
                "Sec-Fetch-Mode: websocket",
                "Sec-Fetch-Site: cross-site",
                "Pragma: no-cache",
                "Cache-Control: no-cache",
                "Upgrade: websocket",
            ])
        }),
        accepted("request_through_a_proxy", rfc, {
            head(&[
                "GET /chat HTTP/1.1",
                "upgrade: websocket",
                "connection: upgrade",
                "host: echo.example.com",
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-proto: https",
                "sec-websocket-version: 13",
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            ])
        }),
    ]
}

/// A client should wait for the 101, but bytes that it sends earlier are not lost.
fn frames_in_the_same_read() -> Vec<RequestCase> {
    let followed = |name, input: &[u8], frames| RequestCase {
        frames,
        ..accepted(name, "RFC 6455 4.1", [GOOD_REQUEST, input].concat())
    };
    let text = client(TEXT, b"Hello").bytes();
    let ping = client(PING, b"?").bytes();
    let close = client(CLOSE, b"\x03\xe8").bytes();
    let echo = server(TEXT, b"Hello").bytes();
    let pong = server(PONG, b"?").bytes();
    let closed = server(CLOSE, b"\x03\xe8").bytes();
    let refused = server(CLOSE, b"\x03\xea").bytes();
    vec![
        followed("text_right_after_the_head", &text, echo.clone()),
        followed("ping_right_after_the_head", &ping, pong.clone()),
        followed("close_right_after_the_head", &close, closed.clone()),
        followed("half_a_header_right_after_the_head", &text[..3], Vec::new()),
        followed("half_a_text_right_after_the_head", &text[..8], Vec::new()),
        followed("unmasked_right_after_the_head", &echo, refused.clone()),
        followed("second_request_right_after_the_head", GOOD_REQUEST, refused),
        followed(
            "frames_right_after_the_head",
            &[&text[..], &ping, &text, &close, &text].concat(),
            [&echo[..], &pong, &echo, &closed].concat(),
        ),
    ]
}

/// The headers of every answer to the sample key.
const SAMPLE_HEADERS: &[(&str, &str)] = &[
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
];

//! Requests that a strict server refuses, nearly all of them because of a single error.
//!
//! If there are several errors, the first in this order decides the status: line ends (400) or the
//! size (431), the request line (400), the version of HTTP (505), the header lines (400, 431), the
//! method (405), the target, the host, duplicates and the body (400), the upgrade (426), the
//! WebSocket version (426), the key (400).

use super::{
    GOOD_LINES, GOOD_REQUEST, HEAD_BYTES_MAX, HEADERS_MAX, RequestCase, head, numbered, padded,
    replaced, valued, with, with_all, with_request_line, without,
};
use crate::support::frames::{TEXT, client};

pub(super) fn cases() -> Vec<RequestCase> {
    [
        methods(),
        plain(),
        http_1_0(),
        http_versions(),
        request_lines(),
        line_ends(),
        header_lines(),
        hosts(),
        connection(),
        upgrade(),
        websocket_versions(),
        keys(),
        protocols(),
        duplicates(),
        bodies(),
        extensions(),
        too_large(),
        several_faults(),
    ]
    .concat()
}

fn bad_request(name: &'static str, rfc: &'static str, input: Vec<u8>) -> RequestCase {
    let headers = &[("Connection", "close")];
    RequestCase { name, rfc, input, status: 400, headers, frames: Vec::new() }
}

fn bad_method(name: &'static str, input: Vec<u8>) -> RequestCase {
    let headers = &[("Connection", "close"), ("Allow", "GET, HEAD")];
    RequestCase { status: 405, headers, ..bad_request(name, "RFC 9110 15.5.6", input) }
}

fn upgrade_required(name: &'static str, rfc: &'static str, input: Vec<u8>) -> RequestCase {
    let headers = &[
        ("Connection", "Upgrade, close"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
    ];
    RequestCase { status: 426, headers, ..bad_request(name, rfc, input) }
}

fn head_too_large(name: &'static str, input: Vec<u8>) -> RequestCase {
    RequestCase { status: 431, ..bad_request(name, "RFC 6585 5", input) }
}

fn bad_http_version(name: &'static str, input: Vec<u8>) -> RequestCase {
    RequestCase { status: 505, ..bad_request(name, "RFC 9110 15.6.6", input) }
}

fn methods() -> Vec<RequestCase> {
    let method =
        |name, method| bad_method(name, with_request_line(&format!("{method} /chat HTTP/1.1")));
    vec![
        method("post_is_refused", "POST"),
        method("put_is_refused", "PUT"),
        method("delete_is_refused", "DELETE"),
        method("options_is_refused", "OPTIONS"),
        method("patch_is_refused", "PATCH"),
        method("trace_is_refused", "TRACE"),
        method("unknown_method_is_refused", "BREW"),
        method("method_that_starts_like_get_is_refused", "GETS"),
        method("method_in_small_letters_is_refused", "get"),
        method("method_in_mixed_letters_is_refused", "Get"),
        bad_method("options_of_all_is_refused", with_request_line("OPTIONS * HTTP/1.1")),
        bad_method("connect_is_refused", {
            with_request_line("CONNECT server.example.com:80 HTTP/1.1")
        }),
    ]
}

/// Plain requests, without a handler that answers them.
fn plain() -> Vec<RequestCase> {
    let head_rfc = "RFC 9110 9.3.2";
    let host = "Host: server.example.com";
    let plain = |name, rfc, lines: &[&str]| upgrade_required(name, rfc, head(lines));
    vec![
        plain(
            "get_of_a_browser_is_plain",
            "RFC 9110 15.5.22",
            &["GET / HTTP/1.1", host, "User-Agent: Mozilla/5.0", "Accept: */*"],
        ),
        plain("get_of_http_1_2_is_plain", "RFC 9110 2.5", &["GET / HTTP/1.2", host]),
        plain(
            "head_of_curl_is_plain",
            head_rfc,
            &["HEAD /healthz HTTP/1.1", host, "User-Agent: curl/8.14.1", "Accept: */*"],
        ),
        upgrade_required("head_with_an_upgrade_is_plain", "RFC 6455 4.1", {
            with_request_line("HEAD /chat HTTP/1.1")
        }),
        upgrade_required("head_with_an_upgrade_and_no_key_is_plain", "RFC 6455 4.1", {
            head(&["HEAD / HTTP/1.1", host, "Upgrade: websocket", "Connection: Upgrade"])
        }),
        plain("head_after_an_empty_line_is_plain", "RFC 9112 2.2", &["", "HEAD / HTTP/1.1", host]),
        bad_request("head_without_a_host_is_refused", head_rfc, head(&["HEAD / HTTP/1.1"])),
        bad_request("head_with_a_line_feed_alone_is_refused", head_rfc, {
            b"HEAD / HTTP/1.1\nHost: server.example.com\n\n".to_vec()
        }),
        head_too_large("head_without_its_end_is_refused", {
            format!("HEAD /{}", "x".repeat(HEAD_BYTES_MAX)).into_bytes()
        }),
        bad_http_version("head_of_http_2_0_is_refused", with_request_line("HEAD / HTTP/2.0")),
    ]
}

/// Requests of HTTP/1.0, which are plain because that version has no upgrades (RFC 9110 7.8).
fn http_1_0() -> Vec<RequestCase> {
    let rfc = "RFC 9112 3.2";
    let get = "GET /healthz HTTP/1.0";
    let faulty = |name, lines: &[&str]| bad_request(name, rfc, head(lines));
    vec![
        upgrade_required("http_1_0_with_an_upgrade_is_plain", "RFC 9110 7.8", {
            with_request_line("GET /chat HTTP/1.0")
        }),
        upgrade_required("http_1_0_without_a_host_is_plain", rfc, head(&[get])),
        upgrade_required("http_1_0_with_a_host_is_plain", rfc, head(&[get, "Host: a"])),
        upgrade_required("http_1_0_in_absolute_form_is_plain", rfc, {
            head(&["GET http://server.example.com/ HTTP/1.0"])
        }),
        upgrade_required("head_in_http_1_0_is_plain", rfc, head(&["HEAD /healthz HTTP/1.0"])),
        faulty("http_1_0_with_an_empty_host_is_refused", &[get, "Host:"]),
        faulty("http_1_0_with_a_bad_host_is_refused", &[get, "Host: a b"]),
        faulty("http_1_0_with_2_hosts_is_refused", &[get, "Host: a", "Host: a"]),
        faulty("http_1_0_with_a_body_is_refused", &[get, "Content-Length: 1"]),
        bad_method("health_check_of_old_haproxy_is_refused", head(&["OPTIONS / HTTP/1.0"])),
        bad_method("post_in_http_1_0_is_refused", with_request_line("POST / HTTP/1.0")),
    ]
}

fn http_versions() -> Vec<RequestCase> {
    let version =
        |name, version| bad_http_version(name, with_request_line(&format!("GET /chat {version}")));
    vec![
        version("http_0_9_is_refused", "HTTP/0.9"),
        version("http_0_0_is_refused", "HTTP/0.0"),
        version("http_2_0_is_refused", "HTTP/2.0"),
        version("http_3_0_is_refused", "HTTP/3.0"),
        version("http_9_9_is_refused", "HTTP/9.9"),
    ]
}

fn request_lines() -> Vec<RequestCase> {
    let rfc = "RFC 9112 3";
    let line = |name, line| bad_request(name, rfc, with_request_line(line));
    let raw = |name, input: &[u8]| bad_request(name, rfc, input.to_vec());
    vec![
        line("request_line_without_a_version_is_refused", "GET /chat"),
        line("request_line_without_a_target_is_refused", "GET HTTP/1.1"),
        line("request_line_of_one_word_is_refused", "GET"),
        line("request_line_of_words_is_refused", "hello, is this a chat?"),
        line("request_line_with_a_fourth_word_is_refused", "GET /chat HTTP/1.1 please"),
        line("request_line_with_2_spaces_is_refused", "GET  /chat HTTP/1.1"),
        line("request_line_with_2_spaces_at_the_version", "GET /chat  HTTP/1.1"),
        line("request_line_with_a_tab_is_refused", "GET\t/chat HTTP/1.1"),
        line("request_line_with_a_space_first_is_refused", " GET /chat HTTP/1.1"),
        line("request_line_with_a_space_last_is_refused", "GET /chat HTTP/1.1 "),
        line("target_with_a_space_is_refused", "GET /chat room HTTP/1.1"),
        line("target_with_a_control_character_is_refused", "GET /ch\u{1}at HTTP/1.1"),
        line("target_with_nul_is_refused", "GET /ch\0at HTTP/1.1"),
        line("target_outside_ascii_is_refused", "GET /caf\u{E9} HTTP/1.1"),
        line("target_with_a_name_and_a_host_is_refused", {
            "GET http://user@server.example.com/chat HTTP/1.1"
        }),
        line("target_without_a_host_is_refused", "GET http://:80/chat HTTP/1.1"),
        line("method_with_a_bracket_is_refused", "G(T /chat HTTP/1.1"),
        line("method_with_a_colon_is_refused", "GET: /chat HTTP/1.1"),
        line("empty_method_is_refused", " /chat HTTP/1.1"),
        line("version_without_its_name_is_refused", "GET /chat 1.1"),
        line("version_without_digits_is_refused", "GET /chat HTTP/x.y"),
        line("version_with_a_long_minor_is_refused", "GET /chat HTTP/1.10"),
        line("version_of_another_protocol_is_refused", "GET /chat FTP/1.1"),
        line("version_in_small_letters_is_refused", "GET /chat http/1.1"),
        line("response_is_refused", "HTTP/1.1 200 OK"),
        raw("empty_line_alone_is_refused", b"\r\n\r\n"),
        raw("nul_bytes_are_refused", b"\0\0\0\0\0\0\0\0\r\n\r\n"),
        raw("client_hello_is_refused", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\n\r\n"),
        raw("frame_without_a_handshake_is_refused", b"\x81\x82\x37\xfa\x21\x3d\x5f\x93\r\n\r\n"),
    ]
}

fn line_ends() -> Vec<RequestCase> {
    let rfc = "RFC 9112 2.2";
    // The good request with the first occurrence of `found` replaced.
    let changed = |name, found: &str, by: &str| {
        let good = std::str::from_utf8(GOOD_REQUEST).expect("the good request is ASCII");
        bad_request(name, rfc, good.replacen(found, by, 1).into_bytes())
    };
    vec![
        changed("empty_lines_first_are_refused", "GET", "\r\n\r\nGET"),
        changed("empty_line_first_that_lacks_its_line_feed", "GET", "\rGET"),
        changed("empty_line_first_then_a_carriage_return", "GET", "\r\n\rGET"),
        changed("empty_line_first_then_a_line_feed", "GET", "\r\n\nGET"),
        changed("empty_line_first_then_a_space", "GET", "\r\n GET"),
        changed("space_in_the_empty_line_first", "GET", " \r\nGET"),
        changed("line_feed_first_is_refused", "GET", "\nGET"),
        changed("line_feed_alone_after_the_request_line", "HTTP/1.1\r\n", "HTTP/1.1\n"),
        changed("line_feed_alone_after_a_header", "websocket\r\n", "websocket\n"),
        changed("line_feed_alone_after_the_last_header", "13\r\n", "13\n"),
        changed("line_feed_alone_as_the_empty_line", "13\r\n\r\n", "13\r\n\n"),
        changed("line_feed_alone_twice_at_the_end", "13\r\n\r\n", "13\n\n"),
        changed("line_feed_inside_a_value", "server.example", "server\nexample"),
        changed("carriage_return_alone_after_the_request_line", "HTTP/1.1\r\n", "HTTP/1.1\r"),
        changed("carriage_return_alone_after_a_header", "websocket\r\n", "websocket\r"),
        changed("carriage_return_inside_a_value", "server.example", "server\rexample"),
        changed("carriage_return_inside_a_name", "Upgrade:", "Up\rgrade:"),
        changed("carriage_return_inside_the_target", "/chat", "/ch\rat"),
        changed("carriage_return_twice_after_a_header", "websocket\r\n", "websocket\r\r\n"),
        bad_request("line_feeds_alone_everywhere", rfc, {
            GOOD_REQUEST.iter().copied().filter(|byte| *byte != b'\r').collect()
        }),
    ]
}

fn header_lines() -> Vec<RequestCase> {
    let rfc = "RFC 9112 5.1";
    let fold = "RFC 9112 5.2";
    let more = |name, rfc, line: &str| bad_request(name, rfc, with(line));
    let mut latin = GOOD_REQUEST[..GOOD_REQUEST.len() - 2].to_vec();
    latin.extend(b"X-Ren\xe9: x\r\n\r\n");
    vec![
        more("space_before_the_colon_is_refused", rfc, "X-Space : x"),
        more("tab_before_the_colon_is_refused", rfc, "X-Tab\t: x"),
        bad_request("space_before_the_colon_of_host", rfc, {
            replaced("Host", &["Host : server.example.com"])
        }),
        more("line_without_a_colon_is_refused", rfc, "X-No-Colon"),
        more("line_with_an_empty_name_is_refused", rfc, ": x"),
        more("name_with_a_space_is_refused", rfc, "X Space: x"),
        more("name_with_a_bracket_is_refused", rfc, "X(Bracket): x"),
        more("name_with_a_slash_is_refused", rfc, "X/Slash: x"),
        more("name_with_a_quote_is_refused", rfc, "X\"Quote\": x"),
        more("name_with_nul_is_refused", rfc, "X\0Nul: x"),
        bad_request("name_in_latin_1_is_refused", rfc, latin),
        more("value_with_nul_is_refused", "RFC 9110 5.5", "X-Nul: a\0b"),
        more("value_of_nul_is_refused", "RFC 9110 5.5", "X-Nul: \0"),
        more("folded_line_is_refused", fold, "X-Folded: a\r\n b"),
        more("line_folded_by_a_tab_is_refused", fold, "X-Folded: a\r\n\tb"),
        more("line_folded_to_nothing_is_refused", fold, "X-Folded: a\r\n "),
        bad_request("line_folded_inside_connection", fold, {
            replaced("Connection", &["Connection: keep-alive,", " Upgrade"])
        }),
        bad_request("space_before_the_first_header", fold, {
            replaced("Host", &[" Host: server.example.com"])
        }),
    ]
}

fn hosts() -> Vec<RequestCase> {
    let rfc = "RFC 9112 3.2";
    let host = |name, value| bad_request(name, rfc, valued("Host", value));
    vec![
        host("host_with_a_space_is_refused", "server example.com"),
        host("host_with_a_path_is_refused", "server.example.com/chat"),
        host("host_with_a_name_is_refused", "user@server.example.com"),
        host("host_that_is_a_url_is_refused", "http://server.example.com"),
        host("host_with_2_ports_is_refused", "server.example.com:80:80"),
        host("host_with_a_port_of_letters_is_refused", "server.example.com:http"),
        host("host_that_is_a_port_is_refused", ":80"),
        host("host_of_an_address_without_its_end_is_refused", "[::1"),
        host("host_of_an_address_without_brackets_is_refused", "::1"),
        host("host_with_half_an_escape_is_refused", "server%2.example.com"),
        host("host_outside_ascii_is_refused", "caf\u{E9}.example.com"),
        bad_request("bad_host_beside_an_absolute_target", "RFC 9112 3.2.2", {
            let target = "GET http://server.example.com/chat HTTP/1.1";
            head(&[&[target, "Host: a b"], &GOOD_LINES[2..]].concat())
        }),
        bad_request("2_hosts_beside_an_absolute_target", "RFC 9112 3.2.2", {
            let target = "GET http://server.example.com/chat HTTP/1.1";
            head(&[&[target, "Host: a", "Host: b"], &GOOD_LINES[2..]].concat())
        }),
        bad_request("host_missing_is_refused", rfc, without("Host")),
        bad_request("host_empty_is_refused", rfc, replaced("Host", &["Host:"])),
        bad_request("host_of_spaces_is_refused", rfc, replaced("Host", &["Host: \t "])),
        bad_request("host_missing_beside_an_absolute_target", rfc, {
            let mut lines = vec!["GET http://server.example.com/chat HTTP/1.1"];
            lines.extend(&GOOD_LINES[2..]);
            head(&lines)
        }),
    ]
}

fn connection() -> Vec<RequestCase> {
    let rfc = "RFC 6455 4.2.1";
    let value = |name, value| upgrade_required(name, rfc, valued("Connection", value));
    vec![
        upgrade_required("connection_missing_is_refused", rfc, without("Connection")),
        upgrade_required(
            "connection_empty_is_refused",
            rfc,
            replaced("Connection", &["Connection:"]),
        ),
        value("connection_keep_alive_is_refused", "keep-alive"),
        value("connection_of_commas_is_refused", ", ,"),
        value("connection_upgraded_is_refused", "Upgraded"),
        value("connection_upgrad_is_refused", "upgrad"),
        value("connection_no_upgrade_is_refused", "no-upgrade"),
        value("connection_list_without_upgrade_is_refused", "keep-alive, not-upgrade, upgrades"),
        upgrade_required("connection_lines_without_upgrade", rfc, {
            replaced("Connection", &["Connection: keep-alive", "Connection: x"])
        }),
    ]
}

fn upgrade() -> Vec<RequestCase> {
    let rfc = "RFC 6455 4.2.1";
    let value = |name, value| upgrade_required(name, rfc, valued("Upgrade", value));
    vec![
        upgrade_required("upgrade_missing_is_refused", rfc, without("Upgrade")),
        upgrade_required("upgrade_empty_is_refused", rfc, replaced("Upgrade", &["Upgrade:"])),
        value("upgrade_to_another_protocol_is_refused", "h2c"),
        value("upgrade_to_others_is_refused", "h2c, IRC/6.9"),
        value("upgrade_of_commas_is_refused", ", ,"),
        value("upgrade_websockets_is_refused", "websockets"),
        value("upgrade_websocke_is_refused", "websocke"),
        value("upgrade_x_websocket_is_refused", "x-websocket"),
        upgrade_required("upgrade_lines_without_websocket", rfc, {
            replaced("Upgrade", &["Upgrade: h2c", "Upgrade: x"])
        }),
        upgrade_required("upgrade_named_in_another_header", rfc, {
            replaced("Upgrade", &["X-Upgrade: websocket"])
        }),
    ]
}

fn websocket_versions() -> Vec<RequestCase> {
    let rfc = "RFC 6455 4.4";
    let name_of = "Sec-WebSocket-Version";
    let version = |name, value| upgrade_required(name, rfc, valued(name_of, value));
    vec![
        upgrade_required("version_missing_is_refused", rfc, without(name_of)),
        upgrade_required("version_empty_is_refused", rfc, {
            replaced(name_of, &["Sec-WebSocket-Version:"])
        }),
        version("version_0_is_refused", "0"),
        version("version_7_is_refused", "7"),
        version("version_8_is_refused", "8"),
        version("version_12_is_refused", "12"),
        version("version_14_is_refused", "14"),
        version("version_25_is_refused", "25"),
        version("version_130_is_refused", "130"),
        version("version_256_more_than_13_is_refused", "269"),
        version("version_with_a_zero_first_is_refused", "013"),
        version("version_with_a_plus_is_refused", "+13"),
        version("version_with_a_fraction_is_refused", "13.0"),
        version("version_of_a_word_is_refused", "thirteen"),
        version("version_list_is_refused", "13, 8"),
    ]
}

fn keys() -> Vec<RequestCase> {
    let rfc = "RFC 6455 4.2.1";
    let name_of = "Sec-WebSocket-Key";
    let key = |name, value| bad_request(name, rfc, valued(name_of, value));
    vec![
        bad_request("key_missing_is_refused", rfc, without(name_of)),
        bad_request("key_empty_is_refused", rfc, replaced(name_of, &["Sec-WebSocket-Key:"])),
        key("key_of_0_bytes_is_refused", "===="),
        key("key_of_1_byte_is_refused", "dA=="),
        key("key_of_15_bytes_is_refused", "dGhlIHNhbXBsZSBub25j"),
        key("key_of_17_bytes_is_refused", "dGhlIHNhbXBsZSBub25jZWQ="),
        key("key_of_18_bytes_is_refused", "dGhlIHNhbXBsZSBub25jZWRk"),
        key("key_of_32_bytes_is_refused", "dGhlIHNhbXBsZSBub25jZXRoZSBzYW1wbGUgbm9uY2U="),
        key("key_without_padding_is_refused", "dGhlIHNhbXBsZSBub25jZQ"),
        key("key_with_half_its_padding_is_refused", "dGhlIHNhbXBsZSBub25jZQ="),
        key("key_with_more_padding_is_refused", "dGhlIHNhbXBsZSBub25jZQ==="),
        key("key_with_a_foreign_character_is_refused", "dGhlIHNhbXBsZSBub25j!Q=="),
        key("key_with_a_space_is_refused", "dGhlIHNhbXB sZSBub25jZQ=="),
        key("key_of_the_url_alphabet_is_refused", "-_-_-_-_-_-_-_-_-_-_-w=="),
        key("key_in_quotes_is_refused", "\"dGhlIHNhbXBsZSBub25jZQ==\""),
        key("key_followed_by_more_is_refused", "dGhlIHNhbXBsZSBub25jZQ==x"),
        key("key_list_is_refused", "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="),
        key("key_outside_ascii_is_refused", "dGhlIHNhbXBsZSBub25j\u{E9}=="),
    ]
}

fn protocols() -> Vec<RequestCase> {
    let rfc = "RFC 6455 4.1";
    let protocols = |name, value: &str| {
        bad_request(name, rfc, with(&format!("Sec-WebSocket-Protocol: {value}")))
    };
    vec![
        bad_request("protocols_of_nothing_are_refused", rfc, with("Sec-WebSocket-Protocol:")),
        protocols("protocols_of_commas_are_refused", ", ,"),
        protocols("protocol_with_a_space_is_refused", "chat room"),
        protocols("protocol_with_a_slash_is_refused", "chat, chat/2"),
        protocols("protocol_with_a_parameter_is_refused", "chat; version=1"),
        protocols("protocol_in_quotes_is_refused", "\"chat\""),
        protocols("protocol_outside_ascii_is_refused", "caf\u{E9}"),
        protocols("protocol_twice_is_refused", "chat, superchat, chat"),
        bad_request("protocol_again_in_a_second_line_is_refused", rfc, {
            with_all(&["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: chat"])
        }),
    ]
}

fn duplicates() -> Vec<RequestCase> {
    let host = "RFC 9112 3.2";
    let field = "RFC 6455 11.3";
    let twice = |name, rfc, line| bad_request(name, rfc, with(line));
    vec![
        twice("host_twice_is_refused", host, "Host: server.example.com"),
        twice("host_twice_in_other_letters_is_refused", host, "hOST: server.example.com"),
        twice("another_host_is_refused", host, "Host: other.example.com"),
        twice("key_twice_is_refused", field, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        twice("another_key_is_refused", field, "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=="),
        twice("version_twice_is_refused", field, "Sec-WebSocket-Version: 13"),
        twice("another_version_is_refused", field, "sec-websocket-version: 8"),
    ]
}

fn bodies() -> Vec<RequestCase> {
    let rfc = "RFC 9112 6";
    let more = |name, line| bad_request(name, rfc, with(line));
    let followed = |name, line, body: &[u8]| bad_request(name, rfc, [&with(line), body].concat());
    vec![
        followed("content_length_of_5_is_refused", "Content-Length: 5", b"hello"),
        followed("content_length_in_small_letters", "content-length: 5", b"hello"),
        more("content_length_of_5_is_refused_before_its_body", "Content-Length: 5"),
        more("content_length_of_1_is_refused", "Content-Length: 1"),
        more("content_length_beyond_64_bits_is_refused", "Content-Length: 18446744073709551617"),
        more("content_length_of_a_word_is_refused", "Content-Length: none"),
        more("content_length_below_0_is_refused", "Content-Length: -1"),
        more("content_length_with_a_plus_is_refused", "Content-Length: +0"),
        more("content_length_empty_is_refused", "Content-Length:"),
        bad_request("content_length_of_0_and_5_is_refused", rfc, {
            with_all(&["Content-Length: 0", "Content-Length: 5"])
        }),
        followed(
            "chunked_body_is_refused",
            "Transfer-Encoding: chunked",
            b"5\r\nhello\r\n0\r\n\r\n",
        ),
        followed("empty_chunked_body_is_refused", "Transfer-Encoding: chunked", b"0\r\n\r\n"),
        more("transfer_encoding_of_gzip_is_refused", "transfer-encoding: gzip, chunked"),
        more("transfer_encoding_of_identity_is_refused", "Transfer-Encoding: identity"),
        bad_request("transfer_encoding_and_length_0_are_refused", rfc, {
            with_all(&["Content-Length: 0", "Transfer-Encoding: chunked"])
        }),
    ]
}

fn extensions() -> Vec<RequestCase> {
    let rfc = "RFC 6455 9.1";
    let extension = |name, value: &str| {
        bad_request(name, rfc, with(&format!("Sec-WebSocket-Extensions: {value}")))
    };
    vec![
        bad_request("extensions_of_nothing_are_refused", rfc, with("Sec-WebSocket-Extensions:")),
        extension("extension_of_a_semicolon_is_refused", ";"),
        extension("extension_without_a_name_is_refused", "; bar"),
        extension("extension_without_its_parameter_is_refused", "foo;"),
        extension("extension_with_2_semicolons_is_refused", "foo;; bar"),
        extension("extension_cut_before_a_comma_is_refused", "foo; , bar"),
        extension("parameter_without_its_name_is_refused", "foo; =1"),
        extension("parameter_without_its_value_is_refused", "foo; bar="),
        extension("parameter_cut_before_a_comma_is_refused", "foo; bar=, baz"),
        extension("parameter_with_2_values_is_refused", "foo; bar=1=2"),
        extension("parameter_with_a_space_in_it_is_refused", "foo; bar baz"),
        extension("extension_with_a_space_in_it_is_refused", "foo bar"),
        extension("extension_with_a_value_of_its_own_is_refused", "foo=1"),
        extension("extension_with_a_slash_is_refused", "foo/bar"),
        extension("extension_in_quotes_is_refused", "\"foo\""),
        extension("extension_in_brackets_is_refused", "(foo)"),
        extension("extension_outside_ascii_is_refused", "f\u{F6}\u{F6}"),
        extension("parameter_with_an_at_sign_is_refused", "foo; b@r"),
        extension("value_with_an_at_sign_is_refused", "foo; bar=b@z"),
        extension("quote_without_its_end_is_refused", "foo; bar=\"baz"),
        extension("quote_that_ends_in_a_pair_is_refused", "foo; bar=\"baz\\\""),
        extension("quote_of_nothing_is_refused", "foo; bar=\"\""),
        extension("quote_with_a_space_is_refused", "foo; bar=\"b z\""),
        extension("quote_with_a_comma_is_refused", "foo; bar=\"b,z\""),
        extension("quote_with_a_quoted_quote_is_refused", "foo; bar=\"b\\\"z\""),
        extension("quote_followed_by_more_is_refused", "foo; bar=\"baz\"qux"),
        extension("good_extension_before_a_bad_one_is_refused", "foo; bar=1, baz;"),
        bad_request("bad_extension_in_a_second_line_is_refused", rfc, {
            with_all(&["Sec-WebSocket-Extensions: foo", "Sec-WebSocket-Extensions: bar;"])
        }),
    ]
}

fn too_large() -> Vec<RequestCase> {
    let unfinished = |name, start: &str| {
        let missing = HEAD_BYTES_MAX + 1 - start.len();
        head_too_large(name, format!("{start}{}", "x".repeat(missing)).into_bytes())
    };
    vec![
        head_too_large("head_of_8193_bytes_is_refused", padded(HEAD_BYTES_MAX + 1)),
        head_too_large("head_of_8193_bytes_with_an_empty_line_first", {
            [b"\r\n", &padded(HEAD_BYTES_MAX - 1)[..]].concat()
        }),
        head_too_large("head_of_8194_bytes_is_refused", padded(HEAD_BYTES_MAX + 2)),
        head_too_large("head_of_8195_bytes_is_refused", padded(HEAD_BYTES_MAX + 3)),
        head_too_large("head_of_8196_bytes_is_refused", padded(HEAD_BYTES_MAX + 4)),
        head_too_large("head_of_16384_bytes_is_refused", padded(2 * HEAD_BYTES_MAX)),
        unfinished("target_without_its_end_is_refused", "GET /"),
        unfinished("header_without_its_end_is_refused", "GET / HTTP/1.1\r\nX-Padding: "),
        unfinished("header_name_without_its_end_is_refused", "GET / HTTP/1.1\r\n"),
        head_too_large("head_of_101_headers_is_refused", numbered(HEADERS_MAX + 1)),
        head_too_large("head_of_500_headers_is_refused", numbered(500)),
    ]
}

fn several_faults() -> Vec<RequestCase> {
    let get = "GET / HTTP/1.1";
    vec![
        bad_request("get_alone_is_refused", "RFC 9112 3.2", head(&[get])),
        bad_http_version(
            "preface_of_http_2_is_refused",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ),
        bad_http_version("post_in_http_2_0_is_refused", with_request_line("POST / HTTP/2.0")),
        bad_method("post_with_a_body_is_refused", {
            let head = head(&["POST / HTTP/1.1", "Host: server.example.com", "Content-Length: 2"]);
            [&head[..], b"{}"].concat()
        }),
        bad_request("post_with_a_folded_line_is_refused", "RFC 9112 5.2", {
            head(&["POST / HTTP/1.1", "Host: server.example.com", "X-Folded: a", " b"])
        }),
        upgrade_required("old_version_without_a_key_is_refused", "RFC 6455 4.4", {
            head(&[
                get,
                "Host: server.example.com",
                "Upgrade: WebSocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 8",
            ])
        }),
        bad_request("frame_after_a_refused_head_is_not_answered", "RFC 6455 4.2.1", {
            [without("Sec-WebSocket-Key"), client(TEXT, b"hi").bytes()].concat()
        }),
    ]
}

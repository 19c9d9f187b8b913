//! The grammar of header values (RFC 9110 5.6, RFC 9112 3.2, RFC 6455 9.1).

use super::error::HandshakeError;

/// The supported version of the WebSocket protocol (RFC 6455 4.1).
pub const WEBSOCKET_VERSION: &str = "13";

/// The elements of a comma-separated list, trimmed, except empty ones (RFC 9110 5.6.1).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Whether any list in `values` contains `token`, ignoring case.
pub(super) fn has_token<'v>(mut values: impl Iterator<Item = &'v [u8]>, token: &str) -> bool {
    values.any(|value| list(value).any(|element| element.eq_ignore_ascii_case(token.as_bytes())))
}

/// Whether a token may contain `byte` (RFC 9110 5.6.2).
const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`'
        | b'|' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
}

/// Whether `bytes` are a token (RFC 9110 5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// Whether `value` is a host with an optional port (RFC 9112 3.2, RFC 3986 3.2.2).
pub(super) fn is_host(value: &[u8]) -> bool {
    // The colons of an IPv6 address are between brackets.
    let address_len = value.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    let port_at = value[address_len..].iter().position(|byte| *byte == b':');
    let (host, port) = value.split_at(port_at.map_or(value.len(), |at| address_len + at));
    let is_host = match host {
        [] | [b'[', b']'] => false,
        [b'[', address @ .., b']'] => {
            address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
        }
        name => {
            name.iter().all(is_name_byte) && name.split(|byte| *byte == b'%').skip(1).all(is_escape)
        }
    };
    is_host && port.iter().skip(1).all(u8::is_ascii_digit)
}

/// Whether a host name may contain `byte`; a percent sign begins an escape.
fn is_name_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(byte)
}

/// Whether `rest`, which follows a percent sign, begins with two hexadecimal digits.
fn is_escape(rest: &[u8]) -> bool {
    rest.first_chunk().is_some_and(|digits: &[u8; 2]| digits.iter().all(u8::is_ascii_hexdigit))
}

/// Checks a list of extensions: `token *( ";" token [ "=" ( token | quoted-string ) ] )`.
pub(super) fn check_extensions(value: &[u8]) -> Result<(), HandshakeError> {
    let mut cursor = Cursor { rest: value };
    let mut extensions = 0;
    loop {
        cursor.skip_white_space();
        // Empty elements are permitted (RFC 9110 5.6.1).
        if cursor.skip(b',') {
            continue;
        }
        if cursor.rest.is_empty() {
            return if extensions > 0 { Ok(()) } else { Err(HandshakeError::Extensions) };
        }
        cursor.extension()?;
        extensions += 1;
        if !cursor.rest.is_empty() && !cursor.skip(b',') {
            return Err(HandshakeError::Extensions);
        }
    }
}

struct Cursor<'v> {
    rest: &'v [u8],
}

impl Cursor<'_> {
    fn extension(&mut self) -> Result<(), HandshakeError> {
        self.token()?;
        self.skip_white_space();
        while self.skip(b';') {
            self.skip_white_space();
            self.token()?;
            self.skip_white_space();
            if self.skip(b'=') {
                self.skip_white_space();
                if self.skip(b'"') {
                    self.quoted_token()?
                } else {
                    self.token()?
                }
                self.skip_white_space();
            }
        }
        Ok(())
    }

    fn token(&mut self) -> Result<(), HandshakeError> {
        let len = self.rest.iter().take_while(|byte| is_token_byte(**byte)).count();
        self.rest = &self.rest[len..];
        if len == 0 { Err(HandshakeError::Extensions) } else { Ok(()) }
    }

    /// Parses the rest of a quoted string, which must be a token when unquoted (RFC 6455 9.1).
    fn quoted_token(&mut self) -> Result<(), HandshakeError> {
        let mut is_empty = true;
        while !self.skip(b'"') {
            self.skip(b'\\');
            match self.rest {
                [byte, rest @ ..] if is_token_byte(*byte) => self.rest = rest,
                _ => return Err(HandshakeError::Extensions),
            }
            is_empty = false;
        }
        if is_empty { Err(HandshakeError::Extensions) } else { Ok(()) }
    }

    fn skip(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn skip_white_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_lists_match_in_any_case() {
        let values = || [&b"keep-alive , Upgrade"[..], b"x"].into_iter();
        assert!(has_token(values(), "upgrade"));
        assert!(has_token(values(), "X"));
        assert!(!has_token(values(), "grade"));
        assert!(!has_token([&b"upgraded"[..]].into_iter(), "upgrade"));
    }

    #[test]
    fn hosts_match_their_grammar() {
        for good in [
            "a",
            "server.example.com",
            "a_b-c~d",
            "127.0.0.1:9001",
            "a:",
            "[::1]",
            "[::ffff:1.2.3.4]:80",
            "%C3%A9.example",
            "a,b;c=d",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "[]", "[]:80", "[::1", "::1", "[::1]a", "[::g]", "[a[", "a]", "a b", "a/b",
            "a?b", "a#b", "user@a", "a:b", "a:80:80", "a:8 0", "<a>", "a\\b", "\u{e9}", "%", "a%z",
            "a%1", "%zz", "%1%23",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn extensions_match_their_grammar() {
        for good in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=10 , x-other ; a=\"b\"",
            " a,, b ,",
        ] {
            assert_eq!(check_extensions(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "",
            ",",
            "a b",
            "a;",
            "a; =1",
            "a; b=",
            "a; b=\"",
            "a; b=\"\"",
            "a; b=\"c d\"",
            "=a",
            "a/b",
        ] {
            assert_eq!(check_extensions(bad.as_bytes()), Err(HandshakeError::Extensions), "{bad}");
        }
    }
}

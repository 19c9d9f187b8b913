//! Messages, as the embedding program sees them.

use std::fmt;
use std::ops::Deref;

use simdutf8::compat::from_utf8;

use crate::protocol::frame::opcode::OpCode;

/// A whole message, borrowed from the buffer that holds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'m> {
    /// Text: valid UTF-8.
    Text(Text<'m>),
    /// Binary: any bytes.
    Binary(&'m [u8]),
}

impl<'m> Message<'m> {
    /// The payload.
    #[inline]
    #[must_use]
    pub const fn as_bytes(&self) -> &'m [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// The text of a text message.
    #[must_use]
    pub fn as_text(&self) -> Option<&'m str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            Self::Binary(_) => None,
        }
    }

    pub(in crate::protocol) const fn opcode(&self) -> OpCode {
        match self {
            Self::Text(_) => OpCode::Text,
            Self::Binary(_) => OpCode::Binary,
        }
    }
}

impl<'m> From<&'m str> for Message<'m> {
    fn from(text: &'m str) -> Self {
        Self::Text(text.into())
    }
}

impl<'m> From<&'m [u8]> for Message<'m> {
    fn from(bytes: &'m [u8]) -> Self {
        Self::Binary(bytes)
    }
}

impl<'m> From<&'m String> for Message<'m> {
    fn from(text: &'m String) -> Self {
        text.as_str().into()
    }
}

impl<'m> From<&'m Vec<u8>> for Message<'m> {
    fn from(bytes: &'m Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl<'m, const N: usize> From<&'m [u8; N]> for Message<'m> {
    fn from(bytes: &'m [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

/// The text of a message: valid UTF-8. Dereferences to `str`.
///
/// The bytes were validated on arrival (ASCII already during unmasking), which is all that an echo
/// needs. Without `unsafe`, producing a `&str` validates them again, so only callers of
/// [`as_str`](Self::as_str), or of the dereference, pay for that.
#[derive(Clone, Copy)]
pub struct Text<'m>(Source<'m>);

#[derive(Clone, Copy)]
enum Source<'m> {
    /// Validated by the session.
    Checked(&'m [u8]),
    Str(&'m str),
}

impl<'m> Text<'m> {
    /// Wraps bytes that the session has validated.
    pub(super) const fn checked(bytes: &'m [u8]) -> Self {
        Self(Source::Checked(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &'m str {
        match self.0 {
            Source::Checked(bytes) => from_utf8(bytes).expect("validated on arrival"),
            Source::Str(text) => text,
        }
    }

    /// The text's UTF-8.
    #[inline]
    #[must_use]
    pub const fn as_bytes(&self) -> &'m [u8] {
        match self.0 {
            Source::Checked(bytes) => bytes,
            Source::Str(text) => text.as_bytes(),
        }
    }
}

impl<'m> From<&'m str> for Text<'m> {
    fn from(text: &'m str) -> Self {
        Self(Source::Str(text))
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl Eq for Text<'_> {}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_str_from_either_source() {
        for text in [Text::checked("h\u{e9}\n".as_bytes()), Text::from("h\u{e9}\n")] {
            assert_eq!(Message::Text(text).as_text(), Some("h\u{e9}\n"));
            assert_eq!((text.as_str(), text.chars().count()), ("h\u{e9}\n", 3));
            assert_eq!(format!("{text} {text:?}"), "h\u{e9}\n \"h\u{e9}\\n\"");
            assert!(text == *"h\u{e9}\n" && text == Text::from("h\u{e9}\n"));
            assert!(text != *"h\u{e9}" && text != Text::from("h\u{e9}"));
        }
        assert_eq!(Message::Binary(b"a").as_text(), None);
    }
}

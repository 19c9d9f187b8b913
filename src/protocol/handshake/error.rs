//! Errors in a client's request, and the HTTP status that answers each.

use std::fmt;

/// The reason why a request does not open a WebSocket connection. Always the client's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The request line is malformed (RFC 9112 3). 400.
    RequestLine,
    /// The target is neither a path nor a URL with a host (RFC 9112 3.2), or has a fragment. 400.
    Target,
    /// A header line is malformed: no colon, a space before it, a bad character (RFC 9112 5). 400.
    HeaderLine,
    /// A header continues on the next line (obs-fold, RFC 9112 5.2). 400.
    FoldedHeader,
    /// A line feed without a carriage return (RFC 9112 2.2). 400.
    BareLineFeed,
    /// A carriage return without a line feed (RFC 9112 2.2). 400.
    BareCarriageReturn,
    /// A zero byte, so the input may not be HTTP (RFC 9110 5.5). 400.
    Nul,
    /// The head is longer than `request_bytes_max`. 431.
    HeadTooLarge,
    /// The head has more than [`HEADERS_MAX`](crate::protocol::HEADERS_MAX) headers. 431.
    TooManyHeaders,
    /// A major version of HTTP other than 1 (RFC 9110 15.6.6). 505.
    HttpVersion,
    /// Neither GET nor HEAD (RFC 9110 15.5.6). 405.
    Method,
    /// No `Host` in HTTP/1.1, or an empty one (RFC 6455 4.2.1, RFC 9112 3.2). 400.
    HostMissing,
    /// `Host` is not a host with an optional port (RFC 9112 3.2). 400.
    Host,
    /// A repeated `Host`, `Sec-WebSocket-Key` or `Sec-WebSocket-Version`. 400.
    DuplicateHeader,
    /// The request has a body. 400.
    Body,
    /// A plain request that the handler did not answer: no `Upgrade: websocket` with `Connection:
    /// Upgrade`, a HEAD, or HTTP/1.0 (RFC 6455 4.2.1, RFC 9110 7.8). 426.
    NoUpgrade,
    /// `Sec-WebSocket-Version` is not 13 (RFC 6455 4.4). 426.
    WebSocketVersion,
    /// No `Sec-WebSocket-Key`, or not base64 of 16 bytes (RFC 6455 4.2.1). 400.
    Key,
    /// `Sec-WebSocket-Protocol` is not a list of distinct tokens (RFC 6455 4.1, item 10). 400.
    Protocols,
    /// `Sec-WebSocket-Extensions` does not match its grammar (RFC 6455 9.1). 400.
    Extensions,
}

impl HandshakeError {
    /// The status of the response to this error.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::RequestLine
            | Self::Target
            | Self::HeaderLine
            | Self::FoldedHeader
            | Self::BareLineFeed
            | Self::BareCarriageReturn
            | Self::Nul
            | Self::HostMissing
            | Self::Host
            | Self::DuplicateHeader
            | Self::Body
            | Self::Key
            | Self::Protocols
            | Self::Extensions => 400,
            Self::Method => 405,
            Self::NoUpgrade | Self::WebSocketVersion => 426,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::HttpVersion => 505,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "the request line is malformed",
            Self::Target => "the request target is malformed",
            Self::HeaderLine => "a header line is malformed",
            Self::FoldedHeader => "a header continues on the next line",
            Self::BareLineFeed => "a line ends without a carriage return",
            Self::BareCarriageReturn => "a carriage return without a line feed",
            Self::Nul => "the request contains a zero byte",
            Self::HeadTooLarge => "the request head is too large",
            Self::TooManyHeaders => "the request has too many headers",
            Self::HttpVersion => "only HTTP/1.x is supported",
            Self::Method => "only GET and HEAD are supported",
            Self::HostMissing => "the Host header is missing or empty",
            Self::Host => "the Host header is malformed",
            Self::DuplicateHeader => "a header that may occur only once is repeated",
            Self::Body => "the request must not have a body",
            Self::NoUpgrade => "this is a WebSocket server: request an upgrade to websocket",
            Self::WebSocketVersion => "only Sec-WebSocket-Version 13 is supported",
            Self::Key => "Sec-WebSocket-Key must be base64 of 16 bytes",
            Self::Protocols => "Sec-WebSocket-Protocol is malformed",
            Self::Extensions => "Sec-WebSocket-Extensions is malformed",
        })
    }
}

impl std::error::Error for HandshakeError {}

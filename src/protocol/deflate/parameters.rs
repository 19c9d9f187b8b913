//! What the embedding program allows, and what a connection has agreed to.

/// The settings of permessage-deflate (RFC 7692). They are the same for all connections.
///
/// Neither side keeps the history of earlier messages (`server_no_context_takeover` and
/// `client_no_context_takeover`, RFC 7692 7.1.1), so an idle connection needs no memory for
/// compression. A worker has one decompressor, of about 50 KiB, and one compressor for each size of
/// window that its peers have agreed to, of up to 350 KiB. Both are made on first use.
///
/// Do not compress secrets together with text that others choose: the length of the result tells
/// them about the secret (CRIME, BREACH). See `Peer::send_uncompressed` and
/// `Accept::without_deflate`.
///
/// ```
/// use ws_reactor::{Config, DeflateConfig};
///
/// let config = Config { deflate: Some(DeflateConfig::default()), ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeflateConfig {
    /// The level of compression: from 1, the fastest, to 9, the smallest. Default 1.
    pub level: u32,

    /// A shorter message is sent uncompressed; bytes. Default 256.
    ///
    /// A message that does not shrink is sent uncompressed too.
    pub message_bytes_min: usize,

    /// The largest window for messages to the client, as a power of two: 9 to 15. Default 15, that
    /// is, 32 KiB. The client may ask for a smaller one (RFC 7692 7.1.2.1).
    pub server_max_window_bits: u8,

    /// The largest window for messages from the client, as a power of two: 9 to 15. Default 15. A
    /// smaller one is asked for only if the client supports that (RFC 7692 7.1.2.2).
    pub client_max_window_bits: u8,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self {
            level: 1,
            message_bytes_min: 256,
            server_max_window_bits: WINDOW_BITS_MAX,
            client_max_window_bits: WINDOW_BITS_MAX,
        }
    }
}

impl DeflateConfig {
    /// The name of the first setting that is out of its range, with the range.
    pub(crate) fn invalid(&self) -> Option<(&'static str, u32, u32)> {
        let (low, high) = (u32::from(WINDOW_BITS_MIN), u32::from(WINDOW_BITS_MAX));
        let settings = [
            ("deflate.level", self.level, 1, 9),
            ("deflate.server_max_window_bits", self.server_max_window_bits.into(), low, high),
            ("deflate.client_max_window_bits", self.client_max_window_bits.into(), low, high),
        ];
        let (name, _, low, high) =
            settings.into_iter().find(|(_, value, low, high)| !(*low..=*high).contains(value))?;
        Some((name, low, high))
    }
}

/// The smallest window of our compressor: zlib cannot make one of 256 bytes.
pub(super) const WINDOW_BITS_MIN: u8 = 9;

/// The largest window of the format (RFC 1951 2).
pub(crate) const WINDOW_BITS_MAX: u8 = 15;

/// The parameters of permessage-deflate that both sides of a connection have agreed to (RFC 7692
/// 7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct DeflateParameters {
    /// The server compresses each message independently of earlier ones.
    pub server_no_context_takeover: bool,
    /// The client compresses each message independently of earlier ones.
    pub client_no_context_takeover: bool,
    /// The window of messages to the client, as a power of two: 9 to 15.
    pub server_max_window_bits: u8,
    /// The window of messages from the client, as a power of two: 8 to 15.
    pub client_max_window_bits: u8,
}

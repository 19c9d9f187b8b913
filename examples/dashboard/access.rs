//! Who may read the samples: everyone with the token, from pages of this server or of an allowed
//! origin.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};

use ws_reactor::{Request, Response};

/// Characters of a token.
const TOKEN_CHARS_MIN: usize = 16;

/// Bytes of a random token: more than can be guessed.
const RANDOM_BYTES: usize = 16;

pub(crate) struct Access {
    pub(crate) token: String,
    /// Allowed origins besides that of the server itself.
    pub(crate) origins: Vec<String>,
}

impl Access {
    /// Refuses a request from a foreign origin with 403, and one without the token with 401.
    ///
    /// The origin comes first, so that a foreign page cannot try tokens. A browser sends the origin
    /// of the page with each request for a WebSocket (RFC 6455 4.1); programs need not send one.
    pub(crate) fn check(&self, request: &Request<'_>) -> Result<(), Response> {
        let origin = request.header("origin");
        if origin.is_some_and(|origin| !self.allows(origin, request.host().unwrap_or_default())) {
            return Err(Response::text(403, "pages of this origin are not allowed"));
        }
        if !tokens(request).any(|token| is_equal(token.as_bytes(), self.token.as_bytes())) {
            // RFC 9110 15.5.2 requires the header.
            let response = Response::text(401, "the token is missing or wrong");
            return Err(response.header("WWW-Authenticate", "Bearer"));
        }
        Ok(())
    }

    /// Whether pages of `origin` are allowed. The server itself speaks HTTP, and a proxy in front of
    /// it may speak HTTPS.
    fn allows(&self, origin: &[u8], host: &str) -> bool {
        let is = |allowed: &str| origin.eq_ignore_ascii_case(allowed.as_bytes());
        let is_own = is(&format!("http://{host}")) || is(&format!("https://{host}"));
        is_own || self.origins.iter().any(|allowed| is(allowed))
    }
}

/// The tokens of a request: in the header `Authorization: Bearer TOKEN` (RFC 6750 2.1), and in the
/// query as `token`, because a page cannot add headers to its request for a WebSocket.
fn tokens(request: &Request<'_>) -> impl Iterator<Item = String> {
    let header = request.header("authorization").and_then(|value| str::from_utf8(value).ok());
    let bearer = header.and_then(|value| value.split_once(' ')).and_then(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let query = request.query().unwrap_or_default();
    let pairs = form_urlencoded::parse(query.as_bytes());
    let values = pairs.filter(|(key, _)| key == "token").map(|(_, token)| token.into_owned());
    bearer.into_iter().chain(values)
}

/// Compares all bytes, so that the duration does not reveal the first difference.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (one, other)| all | (one ^ other));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

/// 32 hexadecimal digits from the kernel.
pub(crate) fn random_token() -> io::Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let mut token = String::new();
    for byte in bytes {
        write!(token, "{byte:02x}").expect("a string takes all");
    }
    Ok(token)
}

/// Parses the option `--token`.
pub(crate) fn token(text: &str) -> Result<String, String> {
    if text.chars().count() < TOKEN_CHARS_MIN {
        return Err(format!("a token has at least {TOKEN_CHARS_MIN} characters"));
    }
    Ok(text.to_owned())
}

/// Parses the option `--allow-origin`. A browser sends an origin without a path (RFC 6454 6.2).
pub(crate) fn origin(text: &str) -> Result<String, &'static str> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains('/') => Ok(text.to_owned()),
        _ => Err("not an origin such as https://example.com, without a slash at the end"),
    }
}

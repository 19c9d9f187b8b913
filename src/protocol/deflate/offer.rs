//! The negotiation (RFC 7692 5 and 7.1): the client's offers in, the answer out.

use super::parameters::{DeflateConfig, DeflateParameters, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// The name of the extension.
const NAME: &[u8] = b"permessage-deflate";

/// The parameters of one offer.
#[derive(Debug, Default, Eq, PartialEq)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// `Some` if the client supports the parameter, with the largest window that it needs.
    client_max_window_bits: Option<u8>,
}

/// An offer that the server accepts.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Agreement {
    pub(crate) parameters: DeflateParameters,
    /// The value of `Sec-WebSocket-Extensions` in the 101.
    pub(crate) answer: String,
}

/// Accepts the first of the client's offers that the server supports. `offers` are the elements of
/// `Sec-WebSocket-Extensions`, whose grammar has been checked.
pub(crate) fn negotiate<'o>(
    mut offers: impl Iterator<Item = &'o [u8]>,
    config: &DeflateConfig,
) -> Option<Agreement> {
    offers.find_map(|offer| Some(Offer::parse(offer)?.accept(config)))
}

impl Offer {
    /// Parses an offer. `None` if it is one of another extension, or if a parameter is unknown,
    /// repeated, invalid (RFC 7692 7.1), or not supported.
    fn parse(offer: &[u8]) -> Option<Self> {
        let mut parts = offer.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        if parts.next()? != NAME {
            return None;
        }
        let mut parsed = Self::default();
        for parameter in parts {
            let mut halves = parameter.splitn(2, |byte| *byte == b'=').map(<[u8]>::trim_ascii);
            let (name, value) = (halves.next()?, halves.next());
            match name {
                b"server_no_context_takeover" => {
                    set_flag(&mut parsed.server_no_context_takeover, value)?;
                }
                b"client_no_context_takeover" => {
                    set_flag(&mut parsed.client_no_context_takeover, value)?;
                }
                b"server_max_window_bits" => {
                    let bits = window_bits(value?)?;
                    if bits < WINDOW_BITS_MIN {
                        return None;
                    }
                    set_once(&mut parsed.server_max_window_bits, bits)?;
                }
                b"client_max_window_bits" => {
                    let bits = value.map_or(Some(WINDOW_BITS_MAX), window_bits)?;
                    set_once(&mut parsed.client_max_window_bits, bits)?;
                }
                _ => return None,
            }
        }
        Some(parsed)
    }

    fn accept(&self, config: &DeflateConfig) -> Agreement {
        let client_bits = match self.client_max_window_bits {
            Some(bits) => bits.min(config.client_max_window_bits),
            // The client cannot be asked for a smaller window.
            None => WINDOW_BITS_MAX,
        };
        let server_bits = self.server_max_window_bits.unwrap_or(WINDOW_BITS_MAX);
        let server_bits = server_bits.min(config.server_max_window_bits);
        // The server may require these two even if the client does not offer them (RFC 7692 7.1.1).
        let mut answer = String::from(
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        );
        if self.server_max_window_bits.is_some() || server_bits < WINDOW_BITS_MAX {
            answer.push_str(&format!("; server_max_window_bits={server_bits}"));
        }
        if client_bits < WINDOW_BITS_MAX {
            answer.push_str(&format!("; client_max_window_bits={client_bits}"));
        }
        let parameters = DeflateParameters {
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: server_bits,
            client_max_window_bits: client_bits,
        };
        Agreement { parameters, answer }
    }
}

/// Sets a parameter that has no value, and may occur only once.
fn set_flag(flag: &mut bool, value: Option<&[u8]>) -> Option<()> {
    (!std::mem::replace(flag, true) && value.is_none()).then_some(())
}

/// Sets a parameter that may occur only once.
fn set_once(bits: &mut Option<u8>, value: u8) -> Option<()> {
    bits.replace(value).is_none().then_some(())
}

/// Parses the value of a window: 8 to 15 without leading zeros (RFC 7692 7.1.2), possibly quoted
/// (RFC 6455 9.1).
fn window_bits(value: &[u8]) -> Option<u8> {
    let is_quoted = value.first() == Some(&b'"');
    let digits: Vec<u8> =
        value.iter().copied().filter(|byte| !(is_quoted && b"\"\\".contains(byte))).collect();
    match digits[..] {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn list(header: &[u8]) -> impl Iterator<Item = &[u8]> {
        header.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
    }

    fn answer(header: &str, config: &DeflateConfig) -> Option<String> {
        negotiate(list(header.as_bytes()), config).map(|agreement| agreement.answer)
    }

    #[test]
    fn an_answer_confirms_the_parameters_of_its_offer() {
        for (offer, more) in [
            ("", ""),
            ("; server_no_context_takeover", ""),
            ("; client_no_context_takeover ;server_no_context_takeover", ""),
            ("; client_max_window_bits", ""),
            ("; client_max_window_bits=15", ""),
            ("; client_max_window_bits=8", "; client_max_window_bits=8"),
            (";client_max_window_bits=\"10\"", "; client_max_window_bits=10"),
            (";client_max_window_bits = \"1\\0\"", "; client_max_window_bits=10"),
            ("; server_max_window_bits=15", "; server_max_window_bits=15"),
            ("; server_max_window_bits=9", "; server_max_window_bits=9"),
            (
                "; server_max_window_bits=10; client_max_window_bits=12",
                "; server_max_window_bits=10; client_max_window_bits=12",
            ),
        ] {
            let header = format!("permessage-deflate{offer}");
            let expected = Some(format!("{BASE}{more}"));
            assert_eq!(answer(&header, &DeflateConfig::default()), expected, "{offer}");
        }
    }

    #[test]
    fn an_invalid_or_unsupported_offer_is_declined() {
        for offer in [
            "; server_max_window_bits=8",
            "; server_max_window_bits",
            "; server_max_window_bits=7",
            "; server_max_window_bits=16",
            "; server_max_window_bits=010",
            "; server_max_window_bits=1x",
            "; client_max_window_bits=16",
            "; client_max_window_bits=08",
            "; client_max_window_bits=\"100\"",
            "; client_max_window_bits; client_max_window_bits",
            "; client_max_window_bits=9; client_max_window_bits=9",
            "; server_max_window_bits=9; server_max_window_bits=9",
            "; server_no_context_takeover; server_no_context_takeover",
            "; client_no_context_takeover; client_no_context_takeover",
            "; server_no_context_takeover=1",
            "; client_no_context_takeover=1",
            "; unknown",
        ] {
            let header = format!("permessage-deflate{offer}");
            assert_eq!(answer(&header, &DeflateConfig::default()), None, "{offer}");
            // The next offer counts then.
            let header = format!("x-other, {header}, permessage-deflate");
            assert_eq!(answer(&header, &DeflateConfig::default()), Some(BASE.into()), "{offer}");
        }
        assert_eq!(answer("x-webkit-deflate-frame", &DeflateConfig::default()), None);
    }

    #[test]
    fn the_server_asks_for_smaller_windows() {
        let config = DeflateConfig {
            server_max_window_bits: 11,
            client_max_window_bits: 12,
            ..DeflateConfig::default()
        };
        for (offer, more) in [
            // RFC 7692 7.1.2.2: not without the client's parameter.
            ("", "; server_max_window_bits=11"),
            ("; client_max_window_bits", "; server_max_window_bits=11; client_max_window_bits=12"),
            (
                "; client_max_window_bits=9; server_max_window_bits=15",
                "; server_max_window_bits=11; client_max_window_bits=9",
            ),
            ("; server_max_window_bits=9", "; server_max_window_bits=9"),
        ] {
            let header = format!("permessage-deflate{offer}");
            assert_eq!(answer(&header, &config), Some(format!("{BASE}{more}")), "{offer}");
        }
        let agreed = negotiate(list(b"permessage-deflate"), &config).unwrap().parameters;
        let windows = (agreed.server_max_window_bits, agreed.client_max_window_bits);
        assert_eq!(windows, (11, WINDOW_BITS_MAX));
    }
}

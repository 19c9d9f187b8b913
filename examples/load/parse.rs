//! Parses the values of options.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::usage;

pub(crate) fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if bytes <= SIZE_MAX => Ok(bytes),
        _ => Err(format!("a size is a number of bytes from 0 to {SIZE_MAX}")),
    }
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (RATE_MIN..=RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err(format!("a rate is a number of messages per second, {RATE_MIN} to {RATE_MAX}")),
    }
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!("a time is a number of seconds from 0 to {SECONDS_MAX}")),
    }
}

pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("the time must be more than zero".to_owned()),
        seconds => Ok(seconds),
    }
}

/// `NAME: VALUE`, of which the upgrade itself does not need the name.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
    let (name, value) = (token(name)?, value.trim());
    // Other bytes could end the header (RFC 9110 5.5).
    if !value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
        return Err("a header's value must not contain control characters".to_owned());
    }
    let lowercase = name.to_ascii_lowercase();
    match &*lowercase {
        "sec-websocket-protocol" => Err("use --protocol".to_owned()),
        "connection" | "upgrade" => Err(format!("{name} belongs to the upgrade")),
        _ if lowercase.starts_with("sec-websocket-") => {
            Err(format!("{name} belongs to the upgrade"))
        }
        _ => Ok((name, value.to_owned())),
    }
}

/// A token of RFC 9110 5.6.2.
pub(crate) fn token(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_allowed) {
        true => Ok(text.to_owned()),
        false => Err("a name consists of letters, digits and a few signs".to_owned()),
    }
}

/// The local addresses of one --source.
#[derive(Clone, Debug)]
pub(crate) struct Sources(pub(crate) Vec<IpAddr>);

/// An address, or a range with both ends included.
pub(crate) fn sources(text: &str) -> Result<Sources, String> {
    let address =
        |text: &str| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no address"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let numbers = match (address(first)?, address(last)?) {
        (IpAddr::V4(first), IpAddr::V4(last)) => first.to_bits().into()..=last.to_bits().into(),
        (IpAddr::V6(first), IpAddr::V6(last)) => first.to_bits()..=last.to_bits(),
        _ => return Err("both ends of a range must be of the same kind".to_owned()),
    };
    let is_ipv4 = !first.contains(':');
    let address_of = |number: u128| match is_ipv4 {
        true => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
        false => IpAddr::V6(Ipv6Addr::from_bits(number)),
    };
    match numbers.end().checked_sub(*numbers.start()) {
        Some(more) if more < SOURCES_MAX => Ok(Sources(numbers.map(address_of).collect())),
        _ => Err(format!("a range has 1 to {SOURCES_MAX} addresses")),
    }
}

pub(crate) fn pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(pid) if usage::is_readable(pid) => Ok(pid),
        Ok(_) => Err("there is no such process, or its CPU time cannot be read".to_owned()),
        Err(_) => Err("a process id is a number".to_owned()),
    }
}

/// 1 GiB: above it the run would measure the generator's memory.
const SIZE_MAX: usize = 1 << 30;

/// One message every 1000 s.
const RATE_MIN: f64 = 0.001;

/// One message per nanosecond, the unit of all times here.
const RATE_MAX: f64 = 1e9;

/// Thirty days.
const SECONDS_MAX: f64 = 30.0 * 86_400.0;

/// A /16 of IPv4.
const SOURCES_MAX: u128 = 65_536;

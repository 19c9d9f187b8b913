//! Parses the values of options.

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

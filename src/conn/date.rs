//! The date of a response, formatted once a second at most.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// The last second whose year has four digits (RFC 9110 5.6.7): 9999-12-31 23:59:59.
const SECONDS_MAX: u64 = 253_402_300_799;

/// A worker's source of `Date` headers.
///
/// It reads the time of day for each response, so that it follows changes of the system clock.
#[derive(Debug)]
pub(crate) struct Dates {
    /// A parameter, so that a test can expect an exact date.
    time_of_day: fn() -> SystemTime,
    /// The time of `text`, in whole seconds since 1970.
    second: Option<u64>,
    text: String,
}

impl Dates {
    pub(crate) const fn new(time_of_day: fn() -> SystemTime) -> Self {
        Self { time_of_day, second: None, text: String::new() }
    }

    /// The date of a response that is written now, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub(crate) fn now(&mut self) -> &str {
        self.at((self.time_of_day)())
    }

    fn at(&mut self, time: SystemTime) -> &str {
        // The formatter panics outside of the years 1970 to 9999.
        let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since_1970.as_secs().min(SECONDS_MAX);
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            write!(self.text, "{date}").expect("writing to memory does not fail");
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dates() -> Dates {
        Dates::new(|| UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    #[test]
    fn a_date_is_that_of_rfc_9110_5_6_7() {
        assert_eq!(dates().now(), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_date_follows_the_clock_forwards_and_backwards() {
        let mut dates = dates();
        for (millis, date) in [
            (1_000_000_000_999, "Sun, 09 Sep 2001 01:46:40 GMT"),
            (1_000_000_001_000, "Sun, 09 Sep 2001 01:46:41 GMT"),
            (1_000_000_000_000, "Sun, 09 Sep 2001 01:46:40 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            assert_eq!(dates.at(UNIX_EPOCH + Duration::from_millis(millis)), date, "{millis}");
        }
    }

    #[test]
    fn a_date_is_formatted_once_a_second() {
        let mut dates = dates();
        let second = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        dates.at(second);
        // Formatting again would remove this mark.
        dates.text.push('!');
        let last = second + Duration::from_nanos(999_999_999);
        assert!(dates.at(last).ends_with('!'));
        assert!(!dates.at(second + Duration::from_secs(1)).ends_with('!'));
    }

    #[test]
    fn a_clock_that_is_far_off_is_no_panic() {
        let past = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(dates().at(past), "Thu, 01 Jan 1970 00:00:00 GMT");
        let future = UNIX_EPOCH + Duration::from_secs(SECONDS_MAX + 1);
        assert_eq!(dates().at(future), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}

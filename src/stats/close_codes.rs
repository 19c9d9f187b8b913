//! Close frames by their code.

use std::fmt;

use super::counter::Counter;
use super::metric::{Labels, Metric, MetricValue};
use crate::protocol::CloseCode;

/// The registered codes (RFC 6455 7.4.1 and the IANA registry), the ranges for libraries and
/// applications, frames without a code, and the codes that have no name here. A peer chooses its
/// codes, so those of a range are counted together.
const LABELS: [&str; 16] = [
    "1000", "1001", "1002", "1003", "1007", "1008", "1009", "1010", "1011", "1012", "1013", "1014",
    "3xxx", "4xxx", "none", "other",
];

/// The label of a code; [`CloseCode::NO_STATUS`] stands for a frame without a code.
const fn index(code: CloseCode) -> usize {
    match code.value() {
        code @ 1000..=1003 => (code - 1000) as usize,
        code @ 1007..=1014 => (code - 1007) as usize + 4,
        3000..=3999 => 12,
        4000..=4999 => 13,
        1005 | 1006 => 14,
        _ => 15,
    }
}

/// Counts of close frames by code. See [`Stats`](crate::Stats).
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct CloseCodes([u64; LABELS.len()]);

impl CloseCodes {
    /// The frames with this code; [`CloseCode::NO_STATUS`] for those without a code. All codes from
    /// 3000 to 3999 are counted together, as are those from 4000 to 4999.
    #[must_use]
    pub const fn count(&self, code: CloseCode) -> u64 {
        self.0[index(code)]
    }

    /// The frames of all codes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The counts with their labels: a registered number, `3xxx`, `4xxx`, `none` or `other`.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LABELS.into_iter().zip(self.0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    pub(super) fn metrics(&self, direction: &'static str) -> impl Iterator<Item = Metric<'_>> {
        self.iter().map(move |(code, count)| Metric {
            name: "close_codes",
            help: "Close frames by direction and code",
            labels: Labels::NONE.with("direction", direction).with("code", code),
            value: MetricValue::Counter(count),
        })
    }
}

impl fmt::Debug for CloseCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
    }
}

/// The counters of one worker and direction.
#[derive(Debug, Default)]
pub(crate) struct CloseCodeCounters([Counter; LABELS.len()]);

impl CloseCodeCounters {
    /// Counts a close frame; [`CloseCode::NO_STATUS`] for one without a code.
    pub(crate) fn count(&self, code: CloseCode) {
        self.0[index(code)].add(1);
    }

    pub(super) fn values(&self) -> CloseCodes {
        CloseCodes(std::array::from_fn(|at| self.0[at].value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(code: CloseCode) -> &'static str {
        LABELS[index(code)]
    }

    #[test]
    fn every_code_of_the_wire_has_the_label_of_its_number_or_range() {
        for code in (0..=u16::MAX).filter_map(CloseCode::new) {
            let label = label(code);
            match code.value() {
                3000..=3999 => assert_eq!(label, "3xxx"),
                4000..=4999 => assert_eq!(label, "4xxx"),
                value => assert_eq!(label, value.to_string()),
            }
        }
        // Closing with one of these sends a frame without a code.
        assert_eq!(label(CloseCode::NO_STATUS), "none");
        assert_eq!(label(CloseCode::ABNORMAL), "none");
    }
}

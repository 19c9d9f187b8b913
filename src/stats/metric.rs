//! A value of the statistics with its name, for exporters.

use super::histogram::Histogram;

/// One value of [`Stats`](crate::Stats), with the name and labels that an exporter gives it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Metric<'s> {
    /// Lower case with underscores, and without a prefix or a suffix for the type, such as
    /// `messages_received`.
    pub name: &'static str,
    /// A description in one line; the same for all values of a name.
    pub help: &'static str,
    pub(super) labels: Labels,
    /// The value and its type.
    pub value: MetricValue<'s>,
}

/// The value of a [`Metric`], by its type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum MetricValue<'s> {
    /// A total since the start, which only grows.
    Counter(u64),
    /// A value of this moment.
    Gauge(u64),
    /// Durations since the start.
    Histogram(&'s Histogram),
}

impl Metric<'_> {
    /// The keys and values that distinguish this value from the others of its name. Both come from
    /// a closed set, so a peer cannot create new ones.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.labels.0.into_iter().flatten()
    }
}

/// Up to two labels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Labels([Option<(&'static str, &'static str)>; 2]);

impl Labels {
    pub(super) const NONE: Self = Self([None; 2]);

    /// Adds a label.
    pub(super) const fn with(self, key: &'static str, value: &'static str) -> Self {
        let [first, second] = self.0;
        debug_assert!(second.is_none(), "no metric has three labels");
        match first {
            None => Self([Some((key, value)), None]),
            Some(_) => Self([first, Some((key, value))]),
        }
    }
}

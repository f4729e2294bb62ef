//! Families of metrics, as iterators give them.

use interlock_api::Histogram;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;

/// Names and values.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Bounds of a histogram's buckets, in microseconds: octaves from 32 us to 8.4 s. They are bounds of what is counted too.
const BOUNDS: std::ops::RangeInclusive<u32> = 5..=23;

/// Durations of one operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durations<'a> {
    pub(super) count: u64,
    pub(super) sum_us: u64,
    /// `None`: only the sum is known.
    pub(super) spread: Option<&'a Histogram>,
}

/// The page that is written.
#[derive(Debug)]
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    fn family<L: EncodeLabelSet, V>(
        &mut self,
        (name, help, unit, kind): (&str, &str, Option<&str>, MetricType),
        all: impl IntoIterator<Item = (L, V)>,
        write: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let unit = unit.map(|unit| if unit == "seconds" { Unit::Seconds } else { Unit::Other(unit.to_owned()) });
        let mut all = all.into_iter().peekable();
        // A family without a series says nothing, not even its name.
        if all.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in all {
            write(family.encode_family(&labels)?, value)?;
        }
        Ok(())
    }

    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family((name, help, None, MetricType::Gauge), all, |mut to, value| to.encode_gauge(&value))
    }

    pub(super) fn gauges_in<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        unit: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family((name, help, Some(unit), MetricType::Gauge), all, |mut to, value| to.encode_gauge(&value))
    }

    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family((name, help, None, MetricType::Counter), all, |mut to, value| {
            to.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    pub(super) fn counters_in<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        unit: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family((name, help, Some(unit), MetricType::Counter), all, |mut to, value| {
            to.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    /// A counter of the whole host.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// A gauge of the whole host.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A counter of a time of the whole host.
    pub(super) fn seconds(&mut self, name: &str, help: &str, ms: u64) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut to = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        to.encode_counter::<NoLabelSet, _, f64>(&(ms as f64 / 1e3), None)
    }

    pub(super) fn histograms<'a, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, Durations<'a>)>,
    ) -> fmt::Result {
        self.family((name, help, Some("seconds"), MetricType::Histogram), all, |mut to, time| {
            to.encode_histogram::<NoLabelSet>(time.sum_us as f64 / 1e6, time.count, &buckets(&time), None)
        })
    }
}

/// Counts between one bound and the next, with the bound in seconds; the last has none.
fn buckets(time: &Durations<'_>) -> Vec<(f64, u64)> {
    let mut buckets = Vec::with_capacity(21);
    let mut before = 0;
    if let Some(spread) = time.spread {
        // Both are in order: one walk.
        let mut filled = spread.0.iter().peekable();
        for bound in BOUNDS.map(|power| 1_u64 << power) {
            let mut here = 0;
            while let Some((_, count)) = filled.next_if(|(below, _)| below.is_some_and(|below| below <= bound)) {
                here += count;
            }
            buckets.push((bound as f64 / 1e6, here));
            before += here;
        }
    }
    buckets.push((f64::INFINITY, time.count.saturating_sub(before)));
    buckets
}

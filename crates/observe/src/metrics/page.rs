//! OpenMetrics text: families, series, and how their values are written.
//!
//! A page of a thousand paths has fifteen megabytes, nearly all of it labels. So everything is written straight into one
//! string, the labels of a device are escaped once for all families that it is in, and what the lines of a family have in
//! common is put together once.

use interlock_api::Histogram;

/// Bounds of a histogram's buckets, as powers of two in microseconds: octaves from 32 us to 8.4 s. They are bounds of what is
/// counted too.
const BOUNDS: std::ops::RangeInclusive<u32> = 5..=23;

/// Labels as they stand between the braces.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels(String);

impl Labels {
    /// Names and values, in this order.
    pub(super) fn of<const N: usize>(labels: [(&str, &str); N]) -> Self {
        labels.into_iter().fold(Self::default(), |all, (name, value)| all.with(name, value))
    }

    /// These, and one more.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        self.0.push('"');
        self
    }
}

/// Durations of one operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Durations<'a> {
    pub(super) count: u64,
    pub(super) sum_us: u64,
    /// `None`: only the sum is known.
    pub(super) spread: Option<&'a Histogram>,
}

/// The page that is written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A family: `write` writes its series, which begin with the name that it is given.
    fn family(
        &mut self,
        name: &str,
        kind: &str,
        unit: Option<&str>,
        help: &str,
        write: impl FnOnce(&mut String, &str),
    ) {
        let name = match unit {
            Some(unit) => format!("interlock_{name}_{unit}"),
            None => format!("interlock_{name}"),
        };
        let text = &mut self.0;
        let before = text.len();
        for (what, said) in [("HELP", Some(help)), ("TYPE", Some(kind)), ("UNIT", unit)] {
            if let Some(said) = said {
                text.extend(["# ", what, " ", &name, " ", said, "\n"]);
            }
        }
        let begun = text.len();
        write(text, &name);
        // A family without a series says nothing, not even its name.
        if text.len() == begun {
            text.truncate(before);
        }
    }

    /// Series of whole numbers; what is not known is left out.
    fn numbers<L: AsRef<Labels>>(
        &mut self,
        (name, kind, unit, help): (&str, &str, Option<&str>, &str),
        all: impl IntoIterator<Item = (L, Option<u64>)>,
    ) {
        self.family(name, kind, unit, help, |text, name| {
            let total = if kind == "counter" { "_total" } else { "" };
            for (labels, value) in all {
                let Some(value) = value else { continue };
                let labels = &labels.as_ref().0;
                if labels.is_empty() {
                    text.extend([name, total, " "]);
                } else {
                    text.extend([name, total, "{", labels, "} "]);
                }
                number(text, value);
                text.push('\n');
            }
        });
    }

    /// Gauges; what is not known is left out.
    pub(super) fn gauges<L: AsRef<Labels>>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, Option<u64>)>,
    ) {
        self.numbers((name, "gauge", None, help), all);
    }

    /// Gauges in bytes; what is not known is left out.
    pub(super) fn gauges_in_bytes<L: AsRef<Labels>>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, Option<u64>)>,
    ) {
        self.numbers((name, "gauge", Some("bytes"), help), all);
    }

    /// Counters; what is not known is left out.
    pub(super) fn counters<L: AsRef<Labels>>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, Option<u64>)>,
    ) {
        self.numbers((name, "counter", None, help), all);
    }

    /// Counters in bytes.
    pub(super) fn counters_in_bytes<L: AsRef<Labels>>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, Option<u64>)>,
    ) {
        self.numbers((name, "counter", Some("bytes"), help), all);
    }

    /// A state as one series for each of `states`: 1 for the one that it is.
    pub(super) fn states<'a, L: AsRef<Labels>>(
        &mut self,
        name: &str,
        help: &str,
        states: &[&str],
        all: impl IntoIterator<Item = (L, &'a str)>,
    ) {
        let ends: Vec<String> = states.iter().map(|state| format!("{}}} ", Labels::of([("state", state)]).0)).collect();
        self.family(name, "gauge", None, help, |text, name| {
            for (labels, now) in all {
                for (state, end) in states.iter().zip(&ends) {
                    let value = if *state == now { "1\n" } else { "0\n" };
                    text.extend([name, "{", &labels.as_ref().0, ",", end, value]);
                }
            }
        });
    }

    /// A counter of the whole host.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [(&Labels::default(), Some(value))]);
    }

    /// A gauge of the whole host.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.gauges(name, help, [(&Labels::default(), Some(value))]);
    }

    /// A counter of a time of the whole host, which is `ms` milliseconds.
    pub(super) fn seconds(&mut self, name: &str, help: &str, ms: u64) {
        self.family(name, "counter", Some("seconds"), help, |text, name| {
            text.extend([name, "_total "]);
            seconds(text, u128::from(ms) * 1000);
            text.push('\n');
        });
    }

    /// Histograms, in seconds.
    pub(super) fn histograms<'a, L: AsRef<Labels>>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, Durations<'a>)>,
    ) {
        self.family(name, "histogram", Some("seconds"), help, |text, name| {
            let begin = |bound: &str| format!("{name}_bucket{{le=\"{bound}\",");
            let bounds: Vec<(u64, String)> = BOUNDS
                .map(|power| 1_u64 << power)
                .map(|bound| {
                    let mut said = String::new();
                    seconds(&mut said, bound.into());
                    (bound, begin(&said))
                })
                .collect();
            let (all_begin, mut end) = (begin("+Inf"), String::new());
            for (labels, time) in all {
                // The two may be copied at different moments; a page has to agree with itself.
                let count = time.count.max(time.spread.map_or(0, Histogram::count));
                end.clear();
                end.extend([&labels.as_ref().0, "} "]);
                text.extend([name, "_sum{", &end]);
                seconds(text, time.sum_us.into());
                text.extend(["\n", name, "_count{", &end]);
                number(text, count);
                text.push('\n');
                let mut line = |begin: &str, count: u64| {
                    text.extend([begin, &end]);
                    number(text, count);
                    text.push('\n');
                };
                let mut below = 0;
                if let Some(spread) = time.spread {
                    // Both are in order: one walk.
                    let mut filled = spread.0.iter().peekable();
                    for (bound, begin) in &bounds {
                        while let Some((_, count)) = filled.next_if(|(end, _)| end.is_some_and(|end| end <= *bound)) {
                            below += count;
                        }
                        line(begin, below);
                    }
                }
                line(&all_begin, count);
            }
        });
    }

    /// The whole page.
    pub(super) fn done(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

impl AsRef<Self> for Labels {
    fn as_ref(&self) -> &Self {
        self
    }
}

fn number(text: &mut String, value: u64) {
    text.push_str(itoa::Buffer::new().format(value));
}

/// Microseconds as seconds, exactly, with one digit after the point at least: that makes it a time for those who read.
fn seconds(text: &mut String, us: u128) {
    text.push_str(itoa::Buffer::new().format(us / 1_000_000));
    text.push('.');
    // A one before it keeps the zeroes in front.
    let part = itoa::Buffer::new().format(1_000_000 + us % 1_000_000)[1..].to_owned();
    let part = part.trim_end_matches('0');
    text.push_str(if part.is_empty() { "0" } else { part });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for (us, said) in [
            (0, "0.0"),
            (1, "0.000001"),
            (32, "0.000032"),
            (8_388_608, "8.388608"),
            (9_000_000, "9.0"),
            (1_500_000, "1.5"),
            (u64::MAX.into(), "18446744073709.551615"),
        ] {
            let mut text = String::new();
            seconds(&mut text, us);
            assert_eq!(text, said);
        }
    }

    #[test]
    fn a_page_is_text_of_families_that_have_series() {
        let mut page = Page::default();
        page.gauges::<&Labels>("nothing", "Not said", []);
        page.counters("unknown", "Not said", [(&Labels::of([("a", "b")]), None)]);
        page.counters_in_bytes("moved", "Moved", [(Labels::of([("a", "\\\"\n"), ("b", "ä")]), Some(u64::MAX))]);
        page.states("mood", "How it is", &["good", "bad"], [(Labels::of([("a", "b")]), "bad")]);
        page.seconds("held", "Held", 1500);
        let expected = "\
# HELP interlock_moved_bytes Moved
# TYPE interlock_moved_bytes counter
# UNIT interlock_moved_bytes bytes
interlock_moved_bytes_total{a=\"\\\\\\\"\\n\",b=\"ä\"} 18446744073709551615
# HELP interlock_mood How it is
# TYPE interlock_mood gauge
interlock_mood{a=\"b\",state=\"good\"} 0
interlock_mood{a=\"b\",state=\"bad\"} 1
# HELP interlock_held_seconds Held
# TYPE interlock_held_seconds counter
# UNIT interlock_held_seconds seconds
interlock_held_seconds_total 1.5
# EOF
";
        assert_eq!(page.done(), expected);
    }

    #[test]
    fn buckets_add_up_and_the_last_has_all() {
        let spread = Histogram(vec![(Some(32), 1), (Some(40), 2), (None, 1)]);
        let mut page = Page::default();
        let time = Durations { count: 4, sum_us: 7, spread: Some(&spread) };
        let torn = Durations { count: 0, sum_us: 0, spread: Some(&spread) };
        let sum_only = Durations { count: 4, sum_us: 7, spread: None };
        let labels = |op| Labels::of([("op", op)]);
        page.histograms("took", "Took", [(labels("a"), time), (labels("b"), torn), (labels("c"), sum_only)]);
        let page = page.done();
        for line in [
            "interlock_took_seconds_sum{op=\"a\"} 0.000007",
            "interlock_took_seconds_count{op=\"a\"} 4",
            "interlock_took_seconds_bucket{le=\"0.000032\",op=\"a\"} 1",
            "interlock_took_seconds_bucket{le=\"8.388608\",op=\"a\"} 3",
            "interlock_took_seconds_bucket{le=\"+Inf\",op=\"a\"} 4",
            "interlock_took_seconds_bucket{le=\"+Inf\",op=\"b\"} 4",
            "interlock_took_seconds_count{op=\"b\"} 4",
            "interlock_took_seconds_bucket{le=\"+Inf\",op=\"c\"} 4",
        ] {
            assert!(page.lines().any(|other| other == line), "{line}\n{page}");
        }
        assert_eq!(page.matches("op=\"c\"").count(), 3, "no buckets where only the sum is known\n{page}");
    }
}

//! The older text format of Prometheus, made from OpenMetrics: many scrapers ask for nothing else.

use std::collections::BTreeSet;

/// The content type of [`plain`].
pub const PLAIN_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The same page in text format 0.0.4: counters are declared by the names of their series, and there are no units and no
/// end mark. Nothing else differs for gauges, counters and histograms, the only types that there are.
#[must_use]
pub fn plain(openmetrics: &str) -> String {
    // HELP and TYPE come in any order: which names are counters is known beforehand.
    let types = openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let counters: BTreeSet<&str> = types.filter(|(_, kind)| *kind == "counter").map(|(name, _)| name).collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.split_inclusive('\n') {
        if line.starts_with("# UNIT ") || line.starts_with("# EOF") {
            continue;
        }
        let declared = ["# TYPE ", "# HELP "].into_iter().find_map(|what| Some((what, line.strip_prefix(what)?)));
        let Some((what, rest)) = declared else {
            text.push_str(line);
            continue;
        };
        let (name, said) = rest.split_once(' ').unwrap_or((rest.trim_end(), "\n"));
        let total = if counters.contains(name) { "_total" } else { "" };
        text.extend([what, name, total, " "]);
        // Quotes are escaped in the help of OpenMetrics only.
        text.push_str(&said.replace("\\\"", "\""));
    }
    text
}

/// Whether a scraper that sends this `Accept` header wants OpenMetrics at least as much as the older format. One that says nothing
/// of OpenMetrics gets the older format, which all of them understand.
#[must_use]
pub fn wants_openmetrics(accept: Option<&str>) -> bool {
    let (mut openmetrics, mut plain) = (0, 0);
    for range in accept.unwrap_or_default().split(',') {
        let mut parts = range.split(';').map(str::trim);
        let weight = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => &mut openmetrics,
            "text/plain" | "text/*" | "*/*" => &mut plain,
            _ => continue,
        };
        *weight = (*weight).max(quality(parts));
    }
    openmetrics > 0 && openmetrics >= plain
}

/// The weight among the parameters of a media range, in thousandths. RFC 9110, "Quality Values".
fn quality<'a>(mut parameters: impl Iterator<Item = &'a str>) -> u32 {
    let weight = parameters.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim_end().eq_ignore_ascii_case("q").then_some(value.trim_start())
    });
    let Some(weight) = weight else { return 1000 };
    let (whole, rest) = weight.split_once('.').unwrap_or((weight, ""));
    match (whole, format!("{rest:0<3}").get(..3).and_then(|digits| digits.parse().ok())) {
        ("0", Some(thousandths)) => thousandths,
        // What is no number says nothing.
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_declares_counters_by_their_series() {
        let page = "# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes Moved, \\\"all\\\"\na_bytes_total{x=\"1\"} 7\n\
                    # TYPE b gauge\n# HELP b Now\nb 1\n# EOF\n";
        let want = "# TYPE a_bytes_total counter\n# HELP a_bytes_total Moved, \"all\"\na_bytes_total{x=\"1\"} 7\n\
                    # TYPE b gauge\n# HELP b Now\nb 1\n";
        assert_eq!(plain(page), want);
        // As the pages of this program have it.
        assert_eq!(
            plain("# HELP a Moved\n# TYPE a counter\na_total 7\n"),
            "# HELP a_total Moved\n# TYPE a_total counter\na_total 7\n"
        );
    }

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
                          text/plain;version=0.0.4;q=0.4,*/*;q=0.3";
        for (accept, want) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/plain;version=0.0.4"), false),
            (Some("application/openmetrics-text; q=0"), false),
            (Some("application/openmetrics-text"), true),
            (Some(prometheus), true),
            (Some("application/openmetrics-text;q=0.000"), false),
            (Some("text/plain;q=1, application/openmetrics-text;q=0.1"), false),
            (Some("text/plain, application/openmetrics-text"), true),
            (Some("*/*;q=0.1,Application/OpenMetrics-Text;version=1.0.0;Q=0.25"), true),
            (Some("application/openmetrics-text;q=0.2,*/*;q=0.3"), false),
        ] {
            assert_eq!(wants_openmetrics(accept), want, "{accept:?}");
        }
    }
}

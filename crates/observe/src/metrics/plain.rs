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

/// Whether a scraper that sends this `Accept` header takes OpenMetrics. One that says nothing gets the older format, which
/// all of them understand.
#[must_use]
pub fn wants_openmetrics(accept: Option<&str>) -> bool {
    accept.unwrap_or_default().split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
        named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
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
        ] {
            assert_eq!(wants_openmetrics(accept), want, "{accept:?}");
        }
    }
}

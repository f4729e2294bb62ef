//! Numbers as people read them at a glance: at most six characters.

/// A rate: `0`, `12.3`, `999`, `1.23k`, `45.6M`.
pub(crate) fn rate(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G", "T"])
}

/// Bytes per second: `0`, `512B`, `1.50K`, `3.25G`, powers of 1024.
pub(crate) fn bytes(value: f64) -> String {
    if value < 0.005 { "0".to_owned() } else { scaled(value, 1024.0, &["B", "K", "M", "G", "T"]) }
}

/// Milliseconds: `0`, `0.42`, `12.3`, `1.20s`.
pub(crate) fn millis(value: f64) -> String {
    if value >= 1000.0 { format!("{}s", digits(value / 1000.0)) } else { digits(value) }
}

/// A number of things: `0`, `17`, `1.23k`.
pub(crate) fn count(value: f64) -> String {
    if value < 1000.0 { format!("{value:.0}") } else { rate(value) }
}

/// A share: `0`, `12`, `100`.
pub(crate) fn percent(value: f64) -> String {
    format!("{value:.0}")
}

/// A total that somebody may want to compare with another tool: all digits. `-` if there is none.
pub(crate) fn total(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let mut value = value.max(0.0);
    let mut unit = 0;
    // What would be printed as 1000 belongs to the next unit.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    format!("{}{}", digits(value), units[unit])
}

/// Three significant digits, without a fraction that says nothing.
fn digits(value: f64) -> String {
    if value < 0.005 {
        "0".to_owned()
    } else if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read() {
        for (value, text) in [
            (0.0, "0"),
            (0.5, "0.50"),
            (12.34, "12.3"),
            (99.96, "100"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (45_600_000.0, "45.6M"),
            (-1.0, "0"),
        ] {
            assert_eq!(rate(value), text, "{value}");
        }
        for (value, text) in [(0.0, "0"), (512.0, "512B"), (1536.0, "1.50K"), (3.25 * 1024.0_f64.powi(3), "3.25G")] {
            assert_eq!(bytes(value), text, "{value}");
        }
        assert_eq!(millis(0.421), "0.42");
        assert_eq!(millis(1200.0), "1.20s");
        assert_eq!(total(None), "-");
    }

    proptest::proptest! {
        #[test]
        fn six_characters_are_enough(value in 0.0..1e15_f64) {
            proptest::prop_assert!(rate(value).len() <= 6 && bytes(value).len() <= 6, "{} {}", rate(value), bytes(value));
        }
    }
}

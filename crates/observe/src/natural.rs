//! `nvme2` comes before `nvme10`, as people count.

use std::cmp::Ordering;

/// Compares names piece by piece: digits as numbers, everything else as text.
///
/// ```
/// use interlock_observe::natural_order;
/// let mut names = ["nvme10", "nvme2c1n1", "nvme2"];
/// names.sort_by(|a, b| natural_order(a, b));
/// assert_eq!(names, ["nvme2", "nvme2c1n1", "nvme10"]);
/// ```
#[must_use]
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        match (left.is_empty(), right.is_empty()) {
            (true, true) => return a.cmp(b),
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let (first, rest_left) = piece(left);
        let (second, rest_right) = piece(right);
        let order = match (number(first), number(second)) {
            (Some(first), Some(second)) => first.cmp(&second),
            _ => first.cmp(second),
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (rest_left, rest_right);
    }
}

/// The longest front of `text` that is all digits or all something else.
fn piece(text: &str) -> (&str, &str) {
    // Byte by byte: a digit is one byte, and no part of another character.
    let digits = text.as_bytes()[0].is_ascii_digit();
    let end = text.bytes().position(|byte| byte.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at(end)
}

/// The number that a piece is. Nobody's name has one of 39 digits.
fn number(piece: &str) -> Option<u128> {
    piece.as_bytes()[0].is_ascii_digit().then(|| piece.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::natural_order;
    use std::cmp::Ordering;

    #[test]
    fn digits_count_as_numbers_and_leading_zeroes_still_order() {
        for (a, b) in [("nvme2", "nvme10"), ("nvme0c9n1", "nvme0c10n1"), ("nvme1", "nvme1n1"), ("a", "b")] {
            assert_eq!(natural_order(a, b), Ordering::Less, "{a} {b}");
            assert_eq!(natural_order(b, a), Ordering::Greater, "{b} {a}");
        }
        assert_eq!(natural_order("nvme01", "nvme1"), Ordering::Less, "different names are never equal");
        assert_eq!(natural_order("nvme1", "nvme1"), Ordering::Equal);
    }
}

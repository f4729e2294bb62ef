//! What the reader wants to see: rows in which every word of the filter stands somewhere.

/// Words that a row must contain, whatever the case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    text: String,
}

impl Filter {
    /// Characters of a filter at most; more than a row is wide helps nobody.
    const LONGEST: usize = 64;

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn push(&mut self, c: char) {
        if self.text.chars().count() < Self::LONGEST && !c.is_control() {
            self.text.push(c);
        }
    }

    pub(crate) fn pop(&mut self) {
        self.text.pop();
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// True if each word stands in one of `texts`.
    pub(crate) fn admits<'a>(&self, texts: impl Iterator<Item = &'a str> + Clone) -> bool {
        self.text.split_whitespace().all(|word| {
            let word = word.to_lowercase();
            texts.clone().any(|text| text.to_lowercase().contains(&word))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_somewhere() {
        let mut filter = Filter::default();
        assert!(filter.admits(["nvme0"].into_iter()));
        "NVME0 conn".chars().for_each(|c| filter.push(c));
        assert!(filter.admits(["nvme0", "connecting"].into_iter()));
        assert!(!filter.admits(["nvme0", "live"].into_iter()));
        for _ in 0..200 {
            filter.push('x');
        }
        assert_eq!(filter.text().chars().count(), Filter::LONGEST);
        filter.clear();
        filter.push('\u{1b}');
        assert!(filter.is_empty());
    }
}

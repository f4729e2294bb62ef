//! What happened lately, newest first.

use interlock_observe::changes::{Change, Weight};
use std::collections::VecDeque;
use std::time::Duration;

/// Entries kept at most.
const KEPT: usize = 500;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// When, on the clock of the source.
    pub(crate) at: Duration,
    pub(crate) subsystem: String,
    pub(crate) device: String,
    pub(crate) what: String,
    pub(crate) weight: Weight,
}

/// A bounded list of what happened.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    entries: VecDeque<Entry>,
}

impl Timeline {
    pub(crate) fn add(&mut self, at: Duration, changes: Vec<Change>) {
        for Change { subsystem, device, what, weight } in changes {
            if self.entries.len() == KEPT {
                self.entries.pop_back();
            }
            self.entries.push_front(Entry { at, subsystem, device, what, weight });
        }
    }

    /// Newest first; of one subsystem, if one is named.
    pub(crate) fn of<'a>(&'a self, subsystem: Option<&'a str>) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| subsystem.is_none_or(|name| entry.subsystem == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_first_and_bounded() {
        let mut timeline = Timeline::default();
        for second in 0..KEPT as u64 + 7 {
            let change = Change {
                subsystem: format!("nvme-subsys{}", second % 2),
                device: "nvme0".into(),
                what: second.to_string(),
                weight: Weight::Info,
            };
            timeline.add(Duration::from_secs(second), vec![change]);
        }
        assert_eq!(timeline.of(None).count(), KEPT);
        assert_eq!(timeline.of(None).next().map(|entry| entry.what.as_str()), Some("506"));
        assert!(timeline.of(Some("nvme-subsys1")).all(|entry| entry.at.as_secs() % 2 == 1));
    }
}

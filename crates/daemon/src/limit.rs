//! No path may drown the log: a flapping one would say the same lines thousands of times an hour.

use std::collections::BTreeMap;
use std::time::Duration;

/// Lines that one controller may say at once.
const BURST: u32 = 40;
/// Afterwards one line for each of these.
const EACH: Duration = Duration::from_secs(2);
/// Controllers with an account of their own; the oldest is forgotten first.
const ACCOUNTS: usize = 4_096;

/// Accounts of lines, by controller.
#[derive(Debug, Default)]
pub(crate) struct Limits(BTreeMap<Option<u32>, Account>);

#[derive(Debug)]
struct Account {
    left: u32,
    since: Duration,
    kept: u64,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Say it, and that so many before it were kept back.
    Say(u64),
    /// Keep it back.
    Keep,
}

impl Limits {
    /// A line of this controller, at this time since any zero.
    pub(crate) fn line(&mut self, controller: Option<u32>, now: Duration) -> Verdict {
        if self.0.len() >= ACCOUNTS && !self.0.contains_key(&controller) {
            self.0.pop_first();
        }
        let account = self.0.entry(controller).or_insert(Account { left: BURST, since: now, kept: 0 });
        let earned = now.saturating_sub(account.since).as_nanos() / EACH.as_nanos();
        if earned > 0 {
            account.left = BURST.min(account.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)));
            account.since = now;
        }
        if account.left == 0 {
            account.kept += 1;
            return Verdict::Keep;
        }
        account.left -= 1;
        Verdict::Say(std::mem::take(&mut account.kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_controller_is_limited_and_others_are_not() {
        let mut limits = Limits::default();
        let start = Duration::from_secs(100);
        for _ in 0..BURST {
            assert_eq!(limits.line(Some(0), start), Verdict::Say(0));
        }
        for _ in 0..7 {
            assert_eq!(limits.line(Some(0), start + EACH / 2), Verdict::Keep);
        }
        assert_eq!(limits.line(Some(1), start), Verdict::Say(0));
        assert_eq!(limits.line(Some(0), start + EACH), Verdict::Say(7), "and says what was kept");
        assert_eq!(limits.line(Some(0), start + EACH), Verdict::Keep);
        let calm = start + EACH * (BURST + 9);
        assert!((0..BURST).all(|_| matches!(limits.line(Some(0), calm), Verdict::Say(_))));
        assert_eq!(limits.line(Some(0), calm), Verdict::Keep, "no more than a burst is saved up");
    }
}

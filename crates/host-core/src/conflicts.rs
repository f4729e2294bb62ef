//! Commands that controllers refuse because of a reservation of another host, at a rate that people can read.
//!
//! Base Specification, "Reservations": while another host holds a namespace, each of this host's writes (and, with some types of
//! reservation, each read) fails with Reservation Conflict. That is no fault of a path, and thousands of them come in a second. So
//! the first one is reported at once, and those that follow as a number, once in [`REPORT_EVERY`] for each namespace. Each lane
//! has a machine for what it is answered, and Control has one for what the lanes report.

use crate::HeadId;
use alloc::collections::BTreeMap;
use core::time::Duration;
use interlock_base::Instant;

/// A namespace is reported once in this time at most, by each lane and by the host.
pub const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Namespaces with an account at most. With more in conflict at once, the one that was reported longest ago is forgotten, and
/// with it the number that was not reported.
pub const ACCOUNTS_MAX: usize = 256;

/// One namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Account {
    reported: Instant,
    /// Commands since then.
    silent: u64,
}

/// When conflicts are reported, and how many.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Conflicts(BTreeMap<HeadId, Account>);

impl Conflicts {
    /// This many commands of a namespace failed. Returns how many to report now: those that failed since the last report, these
    /// included. `None`: it is too early.
    pub fn handle(&mut self, now: Instant, head: HeadId, commands: u64) -> Option<u64> {
        if let Some(account) = self.0.get_mut(&head) {
            account.silent = account.silent.saturating_add(commands);
            if now < account.reported + REPORT_EVERY {
                return None;
            }
            account.reported = now;
            return Some(core::mem::take(&mut account.silent));
        }
        if self.0.len() >= ACCOUNTS_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, account)| account.reported).map(|(head, _)| *head)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(head, Account { reported: now, silent: 0 });
        Some(commands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn the_first_conflict_of_each_namespace_is_reported_and_the_others_as_a_number() {
        let mut conflicts = Conflicts::default();
        assert_eq!(conflicts.handle(at(0), HeadId(1), 1), Some(1));
        for ms in 1..=999 {
            assert_eq!(conflicts.handle(at(ms), HeadId(1), 1), None);
        }
        assert_eq!(conflicts.handle(at(5), HeadId(2), 3), Some(3), "each namespace has an account");
        assert_eq!(conflicts.handle(at(10_000), HeadId(1), 1), Some(1_000));
        assert_eq!(conflicts.handle(at(10_001), HeadId(1), 1), None);
        assert_eq!(conflicts.handle(at(60_000), HeadId(1), 7), Some(8));
    }

    #[test]
    fn any_number_of_namespaces_has_a_bounded_number_of_accounts() {
        let mut conflicts = Conflicts::default();
        for head in 0..10 * ACCOUNTS_MAX as u32 {
            assert_eq!(conflicts.handle(at(u64::from(head)), HeadId(head), 1), Some(1));
            assert!(conflicts.0.len() <= ACCOUNTS_MAX);
        }
        assert_eq!(conflicts.handle(at(2_560), HeadId(10 * ACCOUNTS_MAX as u32 - 1), 1), None, "the latest is kept");
    }
}

//! May an export serve, and what do its clients get meanwhile?
//!
//! An export is wanted by its place, a subsystem and an NSID, and bound to the disk that was there when it was made. This
//! machine is told what is seen at that place and decides, and nothing else does: whether clients may have it, wait, or
//! get errors. It knows no socket and no host, so that every order of loss, removal and replacement is tried in a test.
//!
//! - No controller that could say anything: clients wait, as the export's [`OnLoss`](crate::OnLoss) says.
//! - A live controller says that the namespace is gone: clients wait for [`GONE_AFTER`], then get errors.
//! - Another disk is there: clients get errors at once, and nobody new is let in.
//! - The same disk is there again: clients go on.
//! - Which disk it was bound to was forgotten: clients get errors until the operator has said which it is.

use crate::{Difference, DiskIdentity};
use interlock_base::Instant;
use interlock_host::HeadId;
use std::fmt;
use std::time::Duration;

/// For so long a namespace may be gone, while a live controller says so, before clients get errors: a target that is
/// reconfigured takes it away for a moment.
pub const GONE_AFTER: Duration = Duration::from_secs(5);

/// One namespace at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The host's name for it.
    pub head: HeadId,
    /// What it is.
    pub disk: DiskIdentity,
    /// True if at least one path leads to it.
    pub has_path: bool,
}

/// What is seen at the place of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight<'a> {
    /// No controller of the subsystem is live: nothing is known.
    Nothing,
    /// A controller of the subsystem is live, and nobody has had the namespace since.
    Gone,
    /// These namespaces have the NSID: one, or an old and a new one. Not empty.
    Found(&'a [Seen]),
}

/// What an export waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Waits {
    /// A controller of its subsystem.
    Controller,
    /// A path to its namespace.
    Path,
    /// Its namespace: the subsystem does not have it.
    Namespace,
    /// That the disk it is bound to is written down.
    Record,
    /// The operator: which disk it was bound to is not known any more.
    Operator,
    /// Its own disk: something else is there.
    Disk(Difference),
}

/// What clients get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The disk, through this head.
    Serve(HeadId),
    /// Those who are there wait; others may come and wait too.
    Hold(HeadId, Waits),
    /// Errors; nobody new is let in.
    Shut(Waits),
}

impl Verdict {
    /// Through which head clients are served or wait. `None`: they get errors.
    #[must_use]
    pub const fn head(&self) -> Option<HeadId> {
        match self {
            Self::Serve(head) | Self::Hold(head, _) => Some(*head),
            Self::Shut(_) => None,
        }
    }

    /// What is waited for.
    #[must_use]
    pub const fn waits(&self) -> Option<&Waits> {
        match self {
            Self::Serve(_) => None,
            Self::Hold(_, waits) | Self::Shut(waits) => Some(waits),
        }
    }
}

/// The machine of one export.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permit {
    bound: Option<DiskIdentity>,
    /// What it would be bound to.
    offered: Option<DiskIdentity>,
    /// It was bound to a disk, or may have been, and nobody knows to which.
    unconfirmed: bool,
    verdict: Verdict,
    /// Since when the namespace is gone while clients wait for it.
    gone_since: Option<Instant>,
}

impl Permit {
    /// Of an export that is bound to a disk, or to none yet: then the first that is seen is
    /// [offered](Permit::offered).
    #[must_use]
    pub const fn new(bound: Option<DiskIdentity>) -> Self {
        let verdict = Verdict::Shut(Waits::Controller);
        Self { bound, offered: None, unconfirmed: false, verdict, gone_since: None }
    }

    /// Of an export that may have been bound to a disk, and nobody knows to which: nothing is served and nothing offered
    /// before it is [bound](Permit::bind).
    #[must_use]
    pub const fn unconfirmed() -> Self {
        Self { unconfirmed: true, ..Self::new(None) }
    }

    /// True if somebody must say first which disk it is for.
    #[must_use]
    pub const fn is_unconfirmed(&self) -> bool {
        self.unconfirmed
    }

    /// What clients get.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The disk it is bound to.
    #[must_use]
    pub const fn bound(&self) -> Option<&DiskIdentity> {
        self.bound.as_ref()
    }

    /// The disk to write down and then [bind](Permit::bind) it to.
    #[must_use]
    pub const fn offered(&self) -> Option<&DiskIdentity> {
        self.offered.as_ref()
    }

    /// When [`Permit::handle_sight`] wants to be called again, if nothing changes before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.gone_since.map(|since| since + GONE_AFTER)
    }

    /// From now on it is bound to this disk: that is written down. Look again.
    pub const fn bind(&mut self, disk: DiskIdentity) {
        self.bound = Some(disk);
        self.offered = None;
        self.unconfirmed = false;
    }

    /// What is seen now.
    pub fn handle_sight(&mut self, now: Instant, sight: Sight<'_>) {
        let before = self.verdict.head();
        let gone = matches!(sight, Sight::Gone) && before.is_some();
        self.gone_since = if gone { self.gone_since.or(Some(now)) } else { None };
        self.offered = None;
        self.verdict = match (sight, before) {
            (Sight::Nothing, Some(head)) => Verdict::Hold(head, Waits::Controller),
            (Sight::Nothing, None) => Verdict::Shut(Waits::Controller),
            (Sight::Gone, Some(head)) if self.gone_since.is_some_and(|since| now < since + GONE_AFTER) => {
                Verdict::Hold(head, Waits::Namespace)
            }
            (Sight::Gone, _) => {
                self.gone_since = None;
                Verdict::Shut(Waits::Namespace)
            }
            (Sight::Found(seen), _) => self.judge(seen, before),
        };
    }

    fn judge(&mut self, seen: &[Seen], before: Option<HeadId>) -> Verdict {
        // What a path leads to is there; what none leads to is only remembered.
        let Some(there) = seen.iter().find(|one| one.has_path).or(seen.first()) else {
            debug_assert!(false, "an empty list is not a sight");
            return Verdict::Shut(Waits::Namespace);
        };
        if self.unconfirmed {
            return Verdict::Shut(Waits::Operator);
        }
        let Some(bound) = self.bound else {
            self.offered = Some(there.disk);
            return Verdict::Shut(Waits::Record);
        };
        match bound.difference(&there.disk) {
            Some(difference) => Verdict::Shut(Waits::Disk(difference)),
            None if there.has_path => Verdict::Serve(there.head),
            None if before == Some(there.head) => Verdict::Hold(there.head, Waits::Path),
            None => Verdict::Shut(Waits::Path),
        }
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => f.write_str("a live controller of its subsystem"),
            Self::Path => f.write_str("a path to its namespace"),
            Self::Namespace => f.write_str("its namespace: the subsystem does not have it any more, or not yet"),
            Self::Record => f.write_str("that the disk it is bound to is written down"),
            Self::Operator => f.write_str("the operator: which disk it is for was lost with a damaged record"),
            Self::Disk(difference) => write!(f, "its own disk: {difference}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::tests::disk;

    const HEAD: HeadId = HeadId(3);
    const OTHER: HeadId = HeadId(4);

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    const fn seen(head: HeadId, id: u8, has_path: bool) -> Seen {
        Seen { head, disk: disk(id), has_path }
    }

    /// Bound to disk 1, and serving since second 0.
    fn serving() -> Permit {
        let mut permit = Permit::new(Some(disk(1)));
        permit.handle_sight(at(0), Sight::Found(&[seen(HEAD, 1, true)]));
        assert_eq!(*permit.verdict(), Verdict::Serve(HEAD));
        permit
    }

    #[test]
    fn clients_wait_for_paths_as_long_as_nobody_says_that_the_namespace_is_gone() {
        let mut permit = serving();
        permit.handle_sight(at(1), Sight::Found(&[seen(HEAD, 1, false)]));
        assert_eq!(*permit.verdict(), Verdict::Hold(HEAD, Waits::Path));
        permit.handle_sight(at(2), Sight::Nothing);
        assert_eq!(*permit.verdict(), Verdict::Hold(HEAD, Waits::Controller));
        assert_eq!(permit.next_deadline(), None);
        permit.handle_sight(at(100_000), Sight::Nothing);
        assert_eq!(*permit.verdict(), Verdict::Hold(HEAD, Waits::Controller));
        permit.handle_sight(at(100_001), Sight::Found(&[seen(HEAD, 1, true)]));
        assert_eq!(*permit.verdict(), Verdict::Serve(HEAD));
    }

    #[test]
    fn a_namespace_that_was_removed_is_waited_for_and_then_not() {
        let mut permit = serving();
        permit.handle_sight(at(1), Sight::Gone);
        assert_eq!(*permit.verdict(), Verdict::Hold(HEAD, Waits::Namespace));
        assert_eq!(permit.next_deadline(), Some(at(1) + GONE_AFTER));
        permit.handle_sight(at(5), Sight::Gone);
        assert_eq!(*permit.verdict(), Verdict::Hold(HEAD, Waits::Namespace), "the time runs from the first");
        permit.handle_sight(at(6), Sight::Gone);
        assert_eq!(*permit.verdict(), Verdict::Shut(Waits::Namespace));
        assert_eq!(permit.next_deadline(), None);
        // Losing the controller that said so does not open it again.
        permit.handle_sight(at(7), Sight::Nothing);
        assert_eq!(*permit.verdict(), Verdict::Shut(Waits::Controller));
        permit.handle_sight(at(8), Sight::Found(&[seen(HEAD, 1, true)]));
        assert_eq!(*permit.verdict(), Verdict::Serve(HEAD), "the same disk is there again");
    }

    #[test]
    fn the_time_runs_anew_when_it_was_there_meanwhile() {
        let mut permit = serving();
        permit.handle_sight(at(1), Sight::Gone);
        permit.handle_sight(at(2), Sight::Found(&[seen(HEAD, 1, true)]));
        assert_eq!((*permit.verdict(), permit.next_deadline()), (Verdict::Serve(HEAD), None));
        permit.handle_sight(at(10), Sight::Gone);
        assert_eq!(*permit.verdict(), Verdict::Hold(HEAD, Waits::Namespace));
    }

    #[test]
    fn another_disk_is_never_served_whoever_was_there_before() {
        let other = [seen(OTHER, 2, true)];
        let away: [fn(&mut Permit); 4] = [
            |_| {},
            |permit| permit.handle_sight(at(1), Sight::Nothing),
            |permit| permit.handle_sight(at(1), Sight::Gone),
            |permit| permit.handle_sight(at(1), Sight::Found(&[seen(HEAD, 1, false)])),
        ];
        for before in away {
            for mut permit in [serving(), Permit::new(Some(disk(1)))] {
                before(&mut permit);
                permit.handle_sight(at(2), Sight::Found(&other));
                assert!(matches!(permit.verdict(), Verdict::Shut(Waits::Disk(Difference::Identifier { .. }))));
                assert_eq!(permit.offered(), None, "it stays bound");
                // Its controller is lost: that makes it no better.
                permit.handle_sight(at(3), Sight::Nothing);
                assert_eq!(*permit.verdict(), Verdict::Shut(Waits::Controller));
                permit.handle_sight(at(4), Sight::Found(&[seen(HEAD, 1, true)]));
                assert_eq!(*permit.verdict(), Verdict::Serve(HEAD));
            }
        }
    }

    #[test]
    fn what_a_path_leads_to_decides_and_not_what_is_remembered() {
        for order in [[seen(HEAD, 1, false), seen(OTHER, 2, true)], [seen(OTHER, 2, true), seen(HEAD, 1, false)]] {
            let mut permit = serving();
            permit.handle_sight(at(1), Sight::Found(&order));
            assert!(matches!(permit.verdict(), Verdict::Shut(Waits::Disk(_))));
        }
        let mut permit = serving();
        permit.handle_sight(at(1), Sight::Found(&[seen(OTHER, 2, false), seen(HEAD, 1, true)]));
        assert_eq!(*permit.verdict(), Verdict::Serve(HEAD));
    }

    #[test]
    fn blocks_of_another_size_shut_it() {
        let mut permit = serving();
        let mut formatted = seen(HEAD, 1, true);
        formatted.disk.block_size = 512;
        permit.handle_sight(at(1), Sight::Found(&[formatted]));
        assert_eq!(*permit.verdict(), Verdict::Shut(Waits::Disk(Difference::BlockSize { bound: 4096, found: 512 })));
    }

    #[test]
    fn it_serves_nothing_before_its_disk_is_written_down() {
        let mut permit = Permit::new(None);
        permit.handle_sight(at(0), Sight::Gone);
        assert_eq!((*permit.verdict(), permit.offered()), (Verdict::Shut(Waits::Namespace), None));
        let there = [seen(HEAD, 1, true)];
        permit.handle_sight(at(1), Sight::Found(&there));
        assert_eq!((*permit.verdict(), permit.offered()), (Verdict::Shut(Waits::Record), Some(&disk(1))));
        permit.handle_sight(at(2), Sight::Found(&[seen(OTHER, 2, true)]));
        assert_eq!(permit.offered(), Some(&disk(2)), "nothing was promised yet");
        permit.bind(disk(2));
        permit.handle_sight(at(3), Sight::Found(&there));
        assert!(matches!(permit.verdict(), Verdict::Shut(Waits::Disk(_))));
    }

    #[test]
    fn an_export_of_which_nobody_knows_the_disk_takes_none_before_it_is_told() {
        let there = [seen(HEAD, 1, true)];
        let mut permit = Permit::unconfirmed();
        for sight in [Sight::Nothing, Sight::Gone, Sight::Found(&there), Sight::Nothing, Sight::Found(&there)] {
            permit.handle_sight(at(0), sight);
            assert!(matches!(permit.verdict(), Verdict::Shut(_)) && permit.offered().is_none(), "{permit:?}");
        }
        assert_eq!(*permit.verdict(), Verdict::Shut(Waits::Operator));
        permit.bind(disk(1));
        permit.handle_sight(at(1), Sight::Found(&[seen(OTHER, 2, true)]));
        assert!(matches!(permit.verdict(), Verdict::Shut(Waits::Disk(_))));
        permit.handle_sight(at(2), Sight::Found(&there));
        assert_eq!(*permit.verdict(), Verdict::Serve(HEAD));
    }
}

//! Through whom a lost life is reset.
//!
//! About half of the controllers of a failing array die together and are noticed in random order, so the nearest
//! sibling is often dying too. The order prefers those that do not share the fate of the lost one.

use crate::LifeId;
use crate::guards::{self as conditions, Guard};
use alloc::collections::{BTreeMap, BTreeSet};
use core::cmp::Reverse;
use core::time::Duration;
use interlock_wire::ccr::{Entry, State as EntryState};

/// Concurrent CCR commands on one source, whatever its limit: the admin queue has other work too.
pub(crate) const MAX_CONCURRENT: usize = 16;
/// Reads until a log counts as purged, or as one that keeps its entries.
const MAX_PURGE_READS: u8 = 4;
/// Names whose entries were returned and not looked for again; beyond that the whole log is purged.
const MAX_RETURNED: usize = 256;
/// Latencies remembered per source.
const LATENCIES: usize = 64;

/// A live controller that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Candidate {
    pub(crate) life: LifeId,
    pub(crate) cntlid: u16,
    /// Same remote address or same local interface as the lost one.
    pub(crate) shares_fate: bool,
    /// CCR commands it could not serve lately.
    pub(crate) failures: u32,
    /// 99th percentile of its admin latency.
    pub(crate) latency_p99: Duration,
    /// Began after the loss: the way was just proven.
    pub(crate) newer: bool,
}

/// The best of them: not sharing fate (unless it was connected since), fewest failures, lowest latency, CNTLID.
pub(crate) fn choose<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> Option<Candidate> {
    candidates
        .min_by_key(|c| (c.shares_fate && !c.newer, c.failures, Reverse(c.newer), c.latency_p99, c.cntlid, c.life))
        .copied()
}

/// How resets of this name ended, by the log: none if one is under way, because what else has its name is older.
pub(crate) fn ends_of(entries: &[Entry], name: (u16, u8)) -> impl Iterator<Item = EntryState> {
    let named = move |entry: &&Entry| (entry.icid, entry.ciu) == name;
    let strict = conditions::enabled(Guard::LogSuccessOnly);
    let under_way = strict && entries.iter().filter(named).any(|entry| entry.state == EntryState::InProgress);
    entries.iter().filter(named).filter(move |_| !under_way).map(|entry| entry.state)
}

/// Whether the CCR log of a source is known to hold nothing old.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Purge {
    Needed,
    Reading {
        reads: u8,
    },
    /// A read is under way that began too early: another follows it.
    Rereading,
    Done,
}

/// What Control keeps of a live controller as a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    limit: usize,
    purge: Purge,
    /// Entries that the last read left there: no CCR of these names can be judged by this log.
    stale: BTreeSet<(u16, u8)>,
    /// Names of completed entries that a read returned and no later read has looked for: a target that keeps what was to
    /// be removed (Retain Managed Contents is a wish) would show them again beside the entry of a later reset.
    returned: BTreeSet<(u16, u8)>,
    /// CCR commands sent whose end is not known, by name; `answered` once the CQE is there.
    open: BTreeMap<(u16, u8), Open>,
    /// False from a read of its log that failed until the next attempt.
    readable: bool,
    /// A read of its log is under way.
    reading: bool,
    pub(crate) failures: u32,
    latencies: [Duration; LATENCIES],
    latency_count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Open {
    life: LifeId,
    answered: bool,
    /// The read that was under way when it was answered still is: what that shows may be older than the reset.
    early: bool,
}

impl Source {
    pub(crate) fn new(ccrl: u8) -> Self {
        Self {
            limit: usize::from(ccrl).min(MAX_CONCURRENT),
            purge: Purge::Needed,
            stale: BTreeSet::new(),
            returned: BTreeSet::new(),
            open: BTreeMap::new(),
            readable: true,
            reading: false,
            failures: 0,
            latencies: [Duration::ZERO; LATENCIES],
            latency_count: 0,
        }
    }

    pub(crate) const fn is_capable(&self) -> bool {
        self.limit > 0 && self.readable
    }

    /// True if the log must be read before anything is asked. Starts that read. It waits for the answers to what was
    /// asked already, because their entries must not be removed unseen.
    pub(crate) fn begin_purge(&mut self) -> bool {
        if !self.is_capable() || !self.may_remove() || matches!(self.purge, Purge::Reading { .. } | Purge::Rereading) {
            return false;
        }
        self.purge = Purge::Reading { reads: 0 };
        true
    }

    /// True if a CCR for this name may be sent through it now, for this life.
    pub(crate) fn may_serve(&self, name: (u16, u8), life: LifeId) -> bool {
        // One command of a name at a time. The same life may ask again once it was answered.
        let free = match self.open.get(&name) {
            None => self.open.len() < self.limit,
            Some(open) => open.life == life && open.answered,
        };
        let barred = conditions::enabled(Guard::StaleEntryBars) && self.stale.contains(&name);
        let clean = self.purge == Purge::Done && !barred && !self.is_unverified(name);
        self.is_capable() && free && (clean || !conditions::enabled(Guard::PurgeBeforeUse))
    }

    /// True if only an old entry of this name keeps it from serving.
    pub(crate) fn is_blocked_by_stale(&self, name: (u16, u8)) -> bool {
        self.is_capable() && self.purge == Purge::Done && self.stale.contains(&name)
    }

    /// True if the log that was read now can prove something about this name: nothing old was there, and the source had
    /// said that it began the reset before the log was asked for, so that the log shows that one.
    pub(crate) fn is_open_for(&self, name: (u16, u8), life: LifeId) -> bool {
        let open = self.open.get(&name).filter(|open| open.life == life);
        open.is_some_and(|open| {
            let late = !open.early || !conditions::enabled(Guard::ReadAfterAnswer);
            (open.answered && late) || !conditions::enabled(Guard::PurgeBeforeUse)
        })
    }

    /// True if a read may remove what is completed. While an answer is awaited it may not: an entry that cannot be judged
    /// yet would be gone when it could.
    pub(crate) fn may_remove(&self) -> bool {
        self.open.values().all(|open| open.answered)
    }

    pub(crate) fn handle_sent(&mut self, name: (u16, u8), life: LifeId) {
        self.open.insert(name, Open { life, answered: false, early: false });
    }

    /// CCR for a life was completed. `name`: of that life, if it is still known. `pending`: its end stands elsewhere.
    pub(crate) fn handle_answered(&mut self, name: Option<(u16, u8)>, life: LifeId, pending: bool, failed: bool) {
        if failed {
            self.failures += 1;
        }
        // Nobody waits for the end of a life that is over: the purge finds what it left.
        if pending && name.is_some() {
            for open in self.open.values_mut().filter(|open| open.life == life) {
                open.answered = true;
                open.early = self.reading;
            }
        } else {
            let before = self.open.len();
            self.open.retain(|_, open| open.life != life);
            if pending && self.open.len() < before {
                self.want_purge();
            }
        }
    }

    /// Its log must be read before it serves again.
    pub(crate) fn want_purge(&mut self) {
        self.purge = match self.purge {
            Purge::Reading { .. } | Purge::Rereading => Purge::Rereading,
            Purge::Needed | Purge::Done => Purge::Needed,
        };
    }

    /// True if its log must be read, and nobody does so yet.
    pub(crate) fn needs_purge(&self) -> bool {
        self.is_capable() && self.purge == Purge::Needed
    }

    /// True if its log must be read before it can serve this name: an end of that name was read from it, and whether it
    /// is still there is not known.
    pub(crate) fn needs_purge_for(&self, name: (u16, u8)) -> bool {
        self.needs_purge() || self.is_capable() && self.purge == Purge::Done && self.is_unverified(name)
    }

    fn is_unverified(&self, name: (u16, u8)) -> bool {
        conditions::enabled(Guard::ReturnedEntriesCount) && self.returned.contains(&name)
    }

    /// A read of its log is sent.
    pub(crate) const fn handle_read(&mut self) {
        self.reading = true;
    }

    /// It could not be sent.
    pub(crate) const fn handle_not_read(&mut self) {
        self.reading = false;
    }

    /// The read is over: whatever is read from here on was asked for after every answer so far.
    fn end_read(&mut self) {
        self.reading = false;
        for open in self.open.values_mut() {
            open.early = false;
        }
    }

    /// The log was read; `removed`: with RMC = 1. True if it must be read again to see what stays.
    pub(crate) fn handle_log(&mut self, entries: &[Entry], removed: bool) -> bool {
        self.readable = true;
        let completed = |name: &(u16, u8)| ends_of(entries, *name).next().is_some();
        self.open.retain(|name, open| !open.answered || open.early || !completed(name));
        self.end_read();
        if !removed {
            if entries.iter().any(|entry| entry.state != EntryState::InProgress) {
                self.want_purge();
            }
            return matches!(self.purge, Purge::Reading { .. } | Purge::Rereading);
        }
        let ended = entries.iter().filter(|entry| entry.state != EntryState::InProgress);
        let ended: BTreeSet<_> = ended.map(|entry| (entry.icid, entry.ciu)).collect();
        // What this read does not show is gone.
        self.returned.retain(|name| ended.contains(name));
        if self.purge == Purge::Rereading {
            self.purge = Purge::Reading { reads: 0 };
            return true;
        }
        let Purge::Reading { reads } = &mut self.purge else {
            self.returned.extend(ended);
            if self.returned.len() > MAX_RETURNED {
                self.want_purge();
            }
            return false;
        };
        *reads += 1;
        // Entries of CCRs that are under way are ours; any other would be mistaken for a later one of that name.
        let stale: BTreeSet<_> =
            entries.iter().map(|e| (e.icid, e.ciu)).filter(|name| !self.open.contains_key(name)).collect();
        if !stale.is_empty() && *reads < MAX_PURGE_READS {
            return true;
        }
        self.stale = stale;
        self.returned.clear();
        self.purge = Purge::Done;
        false
    }

    /// The log could not be read: until it can be, nothing that it might say is known, so it serves nobody.
    pub(crate) fn handle_log_failed(&mut self) {
        self.end_read();
        self.readable = false;
        self.purge = Purge::Needed;
        self.failures += 1;
    }

    /// Time to try again.
    pub(crate) fn read_again(&mut self) {
        self.readable = true;
    }

    /// The fence that asked is over. What it left here is found by the purge that follows.
    pub(crate) fn handle_fence_over(&mut self, life: LifeId) {
        let before = self.open.len();
        self.open.retain(|_, open| open.life != life || !open.answered);
        if self.open.len() < before {
            self.want_purge();
        }
    }

    pub(crate) fn add_latency(&mut self, latency: Duration) {
        self.latencies[self.latency_count % LATENCIES] = latency;
        self.latency_count += 1;
    }

    /// 99th percentile of the last latencies: with fewer than 100 samples that is the largest.
    pub(crate) fn latency_p99(&self) -> Duration {
        self.latencies.iter().take(self.latency_count).max().copied().unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn candidate(life: u64) -> Candidate {
        Candidate {
            life: LifeId(life),
            cntlid: 1,
            shares_fate: false,
            failures: 0,
            latency_p99: Duration::ZERO,
            newer: false,
        }
    }

    fn entry(icid: u16, state: EntryState) -> Entry {
        Entry { icid, ciu: 0x5A, acid: 0, state, flags: 0 }
    }

    #[test]
    fn those_that_do_not_share_the_fate_come_first() {
        let twin = Candidate { shares_fate: true, ..candidate(1) };
        let slow = Candidate { latency_p99: Duration::from_millis(9), ..candidate(2) };
        let failed = Candidate { failures: 1, ..candidate(3) };
        let again = Candidate { shares_fate: true, newer: true, ..candidate(4) };
        assert_eq!(choose([twin, failed, slow].iter()), Some(slow));
        assert_eq!(choose([twin, failed].iter()), Some(failed));
        assert_eq!(choose([twin, again].iter()), Some(again));
        assert_eq!(choose([].iter()), None);
    }

    #[test]
    fn nothing_is_asked_before_the_log_is_purged() {
        let mut source = Source::new(2);
        let name = (3, 0x5A);
        assert!(!source.may_serve(name, LifeId(9)));
        assert!(source.begin_purge());
        assert!(!source.begin_purge(), "one read at a time");
        assert!(!source.may_serve(name, LifeId(9)));
        assert!(source.handle_log(&[entry(3, EntryState::Success)], true), "read again to see whether it is gone");
        assert!(!source.handle_log(&[], true));
        assert!(source.may_serve(name, LifeId(9)));
    }

    #[test]
    fn an_entry_that_stays_bars_its_name_only() {
        let mut source = Source::new(2);
        source.begin_purge();
        while source.handle_log(&[entry(3, EntryState::Success)], true) {}
        assert!(!source.may_serve((3, 0x5A), LifeId(9)));
        assert!(source.is_blocked_by_stale((3, 0x5A)));
        assert!(source.may_serve((4, 0x5A), LifeId(9)));
    }

    #[test]
    fn a_read_that_began_before_the_answer_proves_nothing() {
        let name = (3, 0x5A);
        let mut source = purged(2);
        // An old entry comes up, and the log is read; meanwhile a life of that name is lost, and its reset begins.
        source.handle_read();
        source.handle_sent(name, LifeId(9));
        source.handle_answered(Some(name), LifeId(9), true, false);
        assert!(!source.is_open_for(name, LifeId(9)), "what that read shows was there before");
        source.handle_log(&[entry(3, EntryState::Success)], true);
        assert!(source.is_open_for(name, LifeId(9)), "the next one was asked for after the answer");
        source.handle_log(&[entry(3, EntryState::Success)], true);
        assert!(!source.is_open_for(name, LifeId(9)));
    }

    #[test]
    fn an_end_that_was_read_once_is_looked_for_before_its_name_is_served_again() {
        let (name, other) = ((3, 0x5A), (4, 0x5A));
        let mut source = purged(2);
        source.handle_sent(name, LifeId(9));
        source.handle_answered(Some(name), LifeId(9), true, false);
        // The reset ended and was told; a target that keeps its entries still has this one.
        assert!(!source.handle_log(&[entry(3, EntryState::Success)], true));
        source.handle_fence_over(LifeId(9));
        assert!(!source.may_serve(name, LifeId(10)), "a later instance of the same name");
        assert!(source.needs_purge_for(name) && !source.needs_purge_for(other));
        assert!(source.may_serve(other, LifeId(11)), "nobody else waits for that");
        let kept = source.clone();
        assert!(source.begin_purge());
        while source.handle_log(&[entry(3, EntryState::Success)], true) {}
        assert!(source.is_blocked_by_stale(name) && source.may_serve(other, LifeId(11)));
        // Removed as it should be, any later read shows that.
        let mut source = kept;
        source.handle_log(&[], true);
        assert!(source.may_serve(name, LifeId(10)));
    }

    #[test]
    fn names_that_were_returned_are_bounded() {
        let mut source = purged(2);
        let many: Vec<_> = (0..=MAX_RETURNED as u16).map(|icid| entry(icid, EntryState::Success)).collect();
        source.handle_log(&many, true);
        assert!(source.needs_purge());
    }

    #[test]
    fn before_the_answer_the_log_proves_nothing_and_keeps_what_it_has() {
        let (name, life) = ((3, 0x5A), LifeId(9));
        let mut source = purged(2);
        assert!(source.may_remove());
        source.handle_sent(name, life);
        // An event of somebody else's made Control look; whose the entry is cannot be said yet.
        assert!(!source.may_remove() && !source.begin_purge());
        assert!(!source.is_open_for(name, life));
        assert!(!source.handle_log(&[entry(3, EntryState::Success)], false));
        assert!(source.needs_purge(), "it was left there");
        source.handle_answered(Some(name), life, true, false);
        assert!(source.may_remove() && source.is_open_for(name, life));
        source.begin_purge();
        source.handle_log(&[entry(3, EntryState::Success), entry(3, EntryState::InProgress)], true);
        assert!(source.is_open_for(name, life), "an old entry beside the one under way ends nothing");
        source.handle_log(&[entry(3, EntryState::Success)], true);
        assert!(!source.is_open_for(name, life));
    }

    fn purged(limit: u8) -> Source {
        let mut source = Source::new(limit);
        source.begin_purge();
        source.handle_log(&[], true);
        source
    }

    #[test]
    fn one_ccr_per_name_and_no_more_than_the_limit() {
        let mut source = Source::new(2);
        source.begin_purge();
        source.handle_log(&[], true);
        source.handle_sent((3, 0x5A), LifeId(1));
        assert!(!source.may_serve((3, 0x5A), LifeId(9)));
        source.handle_sent((4, 0x5A), LifeId(2));
        assert!(!source.may_serve((5, 0x5A), LifeId(9)), "CCRL 2");
        source.handle_answered(Some((4, 0x5A)), LifeId(2), false, true);
        assert!(source.may_serve((5, 0x5A), LifeId(9)));
        // Accepted, and its fence ended otherwise: the name stays barred until a purge has seen the log.
        source.handle_answered(Some((3, 0x5A)), LifeId(1), true, false);
        source.handle_fence_over(LifeId(1));
        source.begin_purge();
        while source.handle_log(&[entry(3, EntryState::InProgress)], true) {}
        assert!(!source.may_serve((3, 0x5A), LifeId(9)));
    }

    #[test]
    fn one_refusal_makes_it_no_worse_than_the_second_choice() {
        let mut source = purged(4);
        source.handle_sent((3, 1), LifeId(1));
        source.handle_answered(Some((3, 1)), LifeId(1), false, true);
        assert_eq!(source.failures, 1);
        assert!(source.is_capable() && source.may_serve((3, 1), LifeId(1)));
        assert!(!Source::new(0).is_capable());
    }
}

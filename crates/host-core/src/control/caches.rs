//! Which controllers may hold answered writes in a cache of their own, and which were lost with some.
//!
//! Kept only for namespaces whose controllers do not share their cache (`FlushScope::Controller`). Every life that was
//! ever told to the lanes as a usable path of a namespace may hold writes of it, whichever lane they came from; so control
//! says whom a flush has to ask. A life that ends is judged by what all lanes say of it: until then no flush of its
//! namespaces is answered, and if it ended with something unflushed, every flush fails until one of them was told so.
//!
//! A disk whose identifiers were misread has two names ([`super::names`]: twins), and what was written under one of them is
//! flushed under the other: a flush asks the lives of all twins, waits for all of their verdicts and is told all losses.

use crate::guards::{self as conditions, Guard};
use crate::{CacheEntry, HeadId, LaneId, LifeId, ToLane};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

/// Lost lives that are kept by name until a flush was told. Of more than these the newest are: a flush that is told of one
/// comes after the loss of every older one.
const MAX_NAMED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Use {
    /// Under this namespace identifier.
    Serves { nsid: u32 },
    /// It is lost or ends in order, and is not judged yet.
    Ends,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Caches {
    /// Namespaces whose controllers were ever said to have a cache each. It holds for as long as this host runs, also when the
    /// last of those controllers is gone: what it had answered, or answers late, is still in its cache alone.
    own: BTreeSet<HeadId>,
    used: BTreeMap<(HeadId, LifeId), Use>,
    said: BTreeMap<LifeId, Vec<(LaneId, CacheEntry)>>,
    /// What is still to be told under each name. A loss is told under each name that the disk may have.
    lost: BTreeMap<HeadId, BTreeSet<LifeId>>,
    /// Names that may be those of one disk, both ways.
    twins: BTreeMap<HeadId, BTreeSet<HeadId>>,
    asked: VecDeque<(LaneId, u64, HeadId)>,
}

impl Caches {
    /// Lanes may write to the namespace through this life from now on.
    pub(super) fn serves(&mut self, head: HeadId, life: LifeId, nsid: u32) {
        self.own.insert(head);
        self.used.entry((head, life)).or_insert(Use::Serves { nsid });
    }

    /// Two names may be those of one disk: what was lost under one of them and not told yet is lost under the other.
    pub(super) fn alike(&mut self, one: HeadId, other: HeadId) {
        if one == other || !self.twins.entry(one).or_default().insert(other) {
            return;
        }
        self.twins.entry(other).or_default().insert(one);
        let lost = |head| self.lost.get(&head).cloned().unwrap_or_default();
        for (to, lives) in [(one, lost(other)), (other, lost(one))] {
            lives.into_iter().for_each(|life| self.lose(to, life));
        }
        if self.is_own(one) || self.is_own(other) {
            self.own.extend([one, other]);
        }
    }

    /// Nothing was ever sent under these names.
    pub(super) fn forget(&mut self, heads: &[HeadId]) {
        for head in heads {
            self.own.remove(head);
            self.lost.remove(head);
            for twin in self.twins.remove(head).unwrap_or_default() {
                if let Some(twins) = self.twins.get_mut(&twin) {
                    twins.remove(head);
                }
            }
        }
        self.used.retain(|(head, _), _| !heads.contains(head));
    }

    fn lose(&mut self, head: HeadId, life: LifeId) {
        let lives = self.lost.entry(head).or_default();
        lives.insert(life);
        if lives.len() > MAX_NAMED {
            lives.pop_first();
        }
    }

    /// This name, and then the others that its disk may have.
    fn names_of(&self, head: HeadId) -> impl Iterator<Item = HeadId> + '_ {
        core::iter::once(head).chain(self.twins.get(&head).into_iter().flatten().copied())
    }

    /// Whether each controller of this namespace has a cache of its own.
    pub(super) fn is_own(&self, head: HeadId) -> bool {
        self.own.contains(&head)
    }

    /// It is condemned, or drained.
    pub(super) fn ends(&mut self, life: LifeId) {
        for (_, of) in self.used.iter_mut().filter(|((_, of), _)| *of == life) {
            *of = Use::Ends;
        }
    }

    /// What a lane knows of a life that ends; it comes before the lane says that it has stopped.
    pub(super) fn says(&mut self, lane: LaneId, life: LifeId, entries: Vec<CacheEntry>) {
        if self.used.keys().any(|(_, of)| *of == life) {
            self.said.entry(life).or_default().extend(entries.into_iter().map(|entry| (lane, entry)));
        }
    }

    /// Every lane has stopped: judges the life. `flushed` if it has said itself, by the end of an orderly shutdown, that
    /// nothing is left. Answers with the namespaces of which something was lost.
    pub(super) fn over(&mut self, life: LifeId, flushed: bool) -> Vec<HeadId> {
        let said = self.said.remove(&life).unwrap_or_default();
        let heads: Vec<HeadId> = self.used.keys().filter(|(_, of)| *of == life).map(|(head, _)| *head).collect();
        self.used.retain(|(_, of), _| *of != life);
        let dirty = |head: &HeadId| {
            let of_head = || said.iter().filter(|(_, entry)| entry.head == *head);
            of_head().any(|(lane, entry)| {
                // A lane knows by itself which of its own flushes cover a write; of another lane's it is the clock that
                // says whether it was sent after the write was answered.
                let covered =
                    |wrote| of_head().any(|(other, entry)| other != lane && entry.flushed.is_some_and(|at| at > wrote));
                entry.wrote.is_some_and(|wrote| !covered(wrote))
            })
        };
        let lost: Vec<HeadId> = heads.into_iter().filter(|head| !flushed && dirty(head)).collect();
        if !lost.is_empty() && !conditions::enabled(Guard::CacheLossTold) {
            return Vec::new();
        }
        for head in &lost {
            let names: Vec<HeadId> = self.names_of(*head).collect();
            names.into_iter().for_each(|name| self.lose(name, life));
        }
        lost
    }

    /// A flush wants to know whom to ask.
    pub(super) fn asks(&mut self, lane: LaneId, seq: u64, head: HeadId) {
        self.asked.push_back((lane, seq, head));
    }

    /// A flush was ended with these losses, and somebody has heard it.
    pub(super) fn told(&mut self, head: HeadId, lives: &[LifeId]) {
        if let Some(lost) = self.lost.get_mut(&head) {
            lost.retain(|life| !lives.contains(life));
            if lost.is_empty() {
                self.lost.remove(&head);
            }
        }
    }

    /// The answer to the next question that can be answered. Call until `None` after every other call.
    pub(super) fn poll(&mut self) -> Option<(LaneId, ToLane)> {
        let used = |head: HeadId| {
            let of_name = |name| self.used.range((name, LifeId(0))..=(name, LifeId(u64::MAX)));
            self.names_of(head).flat_map(of_name).map(|((_, life), of)| (*life, *of))
        };
        let ready = |(_, _, head): &(LaneId, u64, HeadId)| {
            used(*head).all(|(_, of)| of != Use::Ends || !conditions::enabled(Guard::FlushWaitsVerdict))
        };
        let at = self.asked.iter().position(ready)?;
        let (_, _, head) = *self.asked.get(at)?;
        let mut lives = BTreeMap::new();
        for (life, of) in used(head) {
            if let Use::Serves { nsid } = of {
                // The identifier under its own name, if it has both.
                lives.entry(life).or_insert(nsid);
            }
        }
        let (lane, seq, head) = self.asked.remove(at)?;
        let lost = self.lost.get(&head).map(|lost| lost.iter().copied().collect()).unwrap_or_default();
        Some((lane, ToLane::FlushPlan { seq, lives: lives.into_iter().collect(), lost }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use interlock_base::Instant;

    const HEAD: HeadId = HeadId(3);
    const A: LifeId = LifeId(1);
    const B: LifeId = LifeId(2);
    const LANES: [LaneId; 2] = [LaneId(0), LaneId(1)];

    fn caches() -> Caches {
        let mut caches = Caches::default();
        caches.serves(HEAD, A, 1);
        caches.serves(HEAD, B, 1);
        caches.serves(HeadId(4), B, 2);
        caches
    }

    fn entry(wrote: Option<u64>, flushed: Option<u64>) -> CacheEntry {
        CacheEntry { head: HEAD, wrote: wrote.map(Instant::from_millis), flushed: flushed.map(Instant::from_millis) }
    }

    /// Whom to ask, and what was lost.
    type Plan = (Vec<(LifeId, u32)>, Vec<LifeId>);

    fn plan(caches: &mut Caches) -> Option<Plan> {
        caches.poll().map(|(lane, plan)| {
            let ToLane::FlushPlan { seq, lives, lost } = plan else { panic!("{plan:?}") };
            assert_eq!((lane, seq), (LANES[1], 7));
            (lives, lost)
        })
    }

    #[test]
    fn a_life_is_judged_by_what_all_lanes_say() {
        let none = entry(None, None);
        for (zero, one, lost, why) in [
            (none, none, false, "nothing was written"),
            (entry(Some(5), None), none, true, "written on one lane"),
            (none, entry(Some(5), None), true, "on the other"),
            (entry(Some(5), None), entry(None, Some(6)), false, "flushed by the other lane after that"),
            (entry(Some(5), None), entry(None, Some(5)), true, "sent in the same instant: who knows"),
            (entry(Some(5), None), entry(None, Some(4)), true, "flushed before that"),
            (entry(Some(5), Some(6)), none, true, "a lane's own flush has taken the write off, if it covers it"),
            (entry(Some(5), None), entry(Some(7), Some(6)), true, "written again after the flush"),
        ] {
            let mut caches = caches();
            caches.ends(A);
            for (lane, entry) in LANES.into_iter().zip([zero, one]) {
                caches.says(lane, A, vec![entry]);
            }
            let mut orderly = caches.clone();
            assert_eq!(caches.over(A, false), if lost { vec![HEAD] } else { Vec::new() }, "{why}");
            assert_eq!(orderly.over(A, true), [], "{why}: but its controller has flushed it");
        }
    }

    #[test]
    fn a_flush_asks_every_life_that_serves_and_waits_for_those_that_end() {
        let mut caches = caches();
        caches.asks(LANES[1], 7, HEAD);
        assert_eq!(plan(&mut caches), Some((vec![(A, 1), (B, 1)], Vec::new())));
        assert_eq!(plan(&mut caches), None, "answered once");
        caches.ends(A);
        caches.asks(LANES[1], 7, HEAD);
        assert_eq!(plan(&mut caches), None, "nobody knows yet what was lost with it");
        caches.asks(LANES[1], 7, HeadId(4));
        assert_eq!(plan(&mut caches), Some((vec![(B, 2)], Vec::new())), "others do not wait for it");
        caches.over(A, false);
        assert_eq!(plan(&mut caches), Some((vec![(B, 1)], Vec::new())));
    }

    #[test]
    fn what_was_written_under_one_name_of_a_disk_is_flushed_and_lost_under_each() {
        let other = HeadId(9);
        for known_before in [true, false] {
            let mut caches = caches();
            // A had the namespace by a misread identifier; C has it by the right one.
            let c = LifeId(5);
            if known_before {
                caches.alike(other, HEAD);
            }
            caches.serves(other, c, 1);
            caches.alike(HEAD, other);
            caches.asks(LANES[1], 7, other);
            assert_eq!(plan(&mut caches), Some((vec![(A, 1), (B, 1), (c, 1)], Vec::new())), "each may hold something");
            caches.ends(A);
            caches.asks(LANES[1], 7, other);
            assert_eq!(plan(&mut caches), None, "nobody knows yet what was lost with it");
            caches.says(LANES[0], A, vec![entry(Some(5), None)]);
            assert_eq!(caches.over(A, false), [HEAD]);
            assert_eq!(plan(&mut caches), Some((vec![(B, 1), (c, 1)], vec![A])), "lost under this name, too");
            caches.told(other, &[A]);
            for (head, lost) in [(other, Vec::new()), (HEAD, vec![A]), (HeadId(4), Vec::new())] {
                caches.asks(LANES[1], 7, head);
                assert_eq!(plan(&mut caches).expect("answered").1, lost, "told once under each name: {head:?}");
            }
        }
    }

    #[test]
    fn a_name_that_turns_up_after_a_loss_has_it() {
        let other = HeadId(9);
        let mut caches = caches();
        caches.ends(A);
        caches.says(LANES[0], A, vec![entry(Some(5), None)]);
        caches.over(A, false);
        caches.alike(other, HEAD);
        assert!(caches.is_own(other), "its flushes have to ask");
        caches.asks(LANES[1], 7, other);
        assert_eq!(plan(&mut caches), Some((vec![(B, 1)], vec![A])));
        caches.told(other, &[A]);
        caches.alike(HEAD, other);
        caches.asks(LANES[1], 7, other);
        assert_eq!(plan(&mut caches), Some((vec![(B, 1)], Vec::new())), "what was told is not lost again");
    }

    #[test]
    fn a_loss_beside_many_others_fails_a_flush_of_its_own() {
        let mut caches = Caches::default();
        let lose = |caches: &mut Caches, life: LifeId| {
            caches.serves(HEAD, life, 1);
            caches.ends(life);
            caches.says(LANES[0], life, vec![entry(Some(5), None)]);
            assert_eq!(caches.over(life, false), [HEAD]);
        };
        let lost = |caches: &mut Caches| {
            caches.asks(LANES[1], 7, HEAD);
            plan(caches).expect("answered").1
        };
        let many = MAX_NAMED as u64;
        (1..=many).for_each(|life| lose(&mut caches, LifeId(life)));
        let told = lost(&mut caches);
        assert_eq!(told.len(), MAX_NAMED);
        // While that flush was under way there was no room for another name.
        lose(&mut caches, LifeId(many + 1));
        caches.told(HEAD, &told);
        assert_eq!(lost(&mut caches), [LifeId(many + 1)]);
        (1..=many * 3).for_each(|life| lose(&mut caches, LifeId(1000 + life)));
        assert_eq!(lost(&mut caches).len(), MAX_NAMED, "bounded");
    }

    #[test]
    fn a_loss_is_told_to_every_flush_until_one_has_ended_with_it() {
        let mut caches = caches();
        caches.ends(A);
        caches.says(LANES[0], A, vec![entry(Some(5), None)]);
        caches.over(A, false);
        for _ in 0..2 {
            caches.asks(LANES[1], 7, HEAD);
            assert_eq!(plan(&mut caches), Some((vec![(B, 1)], vec![A])));
        }
        caches.told(HEAD, &[A]);
        caches.asks(LANES[1], 7, HEAD);
        assert_eq!(plan(&mut caches), Some((vec![(B, 1)], Vec::new())));
    }
}

//! What is the same namespace, seen through several controllers.
//!
//! Taking two disks for one corrupts both, so a path joins a head only if it is known by subsystem, NSID and identifiers
//! ([`Names`]), and only if it looks the same. Whatever does not is refused, named and looked at again. A [`HeadId`]
//! belongs to a disk in one format for as long as the host runs: guards outlive the controllers they come from.

use super::names::{Doubt, Names, Ties};
use super::scan::Found;
use crate::guards::{self as conditions, Guard};
use crate::{AnaState, CtrlId, FlushScope, Head, HeadId, IoPolicy, LifeId, Path, PathTable, Shape};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use interlock_fence::Protection;
use interlock_wire::ana;
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::Nqn;

/// What a life contributes to each of its paths.
#[derive(Clone, Copy, Default)]
pub(super) struct PathOf {
    /// It is avoided.
    pub(super) slow: bool,
    /// Its I/O queues.
    pub(super) queues: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OnePath {
    ctrl: CtrlId,
    ana_group: u32,
    ana: AnaState,
    /// What its controller stated last.
    stated: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OneHead {
    subnqn: Nqn,
    nsid: u32,
    shape: Shape,
    shared: bool,
    policy: IoPolicy,
    paths: BTreeMap<LifeId, OnePath>,
    /// Controllers that had it when they were last asked.
    members: BTreeSet<CtrlId>,
}

/// One namespace, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadInfo<'a> {
    /// Its name here.
    pub id: HeadId,
    /// Its subsystem.
    pub subnqn: &'a Nqn,
    /// Its name there.
    pub nsid: u32,
    /// By what it is known.
    pub ids: &'a NamespaceIds,
    /// What it looks like.
    pub shape: Shape,
    /// Controller, life, ANA state and ANA group of every path.
    pub paths: Vec<(CtrlId, LifeId, AnaState, u32)>,
}

/// What taking a namespace of a life as a path meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Taken {
    /// A namespace that was not there.
    New(HeadId),
    /// A path of a namespace that is there.
    Path(HeadId),
    /// The same, and it changed its shape.
    Resized(HeadId, Shape),
}

/// Why it was none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct NotTaken {
    /// In one sentence.
    pub(super) why: String,
    /// It may be this one after all: its controller may serve it again.
    pub(super) keeps: Option<HeadId>,
    /// It contradicts this one: either may have been misread.
    pub(super) contradicts: Option<HeadId>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Heads {
    heads: BTreeMap<HeadId, OneHead>,
    names: Names,
    epoch: u64,
}

impl Heads {
    pub(super) fn iter(&self) -> impl Iterator<Item = HeadInfo<'_>> {
        self.heads.iter().filter_map(|(id, head)| {
            Some(HeadInfo {
                id: *id,
                subnqn: &head.subnqn,
                nsid: head.nsid,
                ids: &self.names.get(*id)?.ids,
                shape: head.shape,
                paths: head.paths.iter().map(|(life, path)| (path.ctrl, *life, path.ana, path.ana_group)).collect(),
            })
        })
    }

    /// Everything that it has ever stated.
    pub(super) fn ids(&self, id: HeadId) -> Option<&NamespaceIds> {
        self.names.get(id).map(|known| &known.ids)
    }

    /// Every namespace of the subsystem that has a name, gone ones included.
    pub(super) fn of_subsystem(&self, subnqn: &Nqn) -> impl Iterator<Item = HeadId> {
        self.names.of_subsystem(subnqn)
    }

    /// Whose namespace it is.
    pub(super) fn subsystem(&self, id: HeadId) -> Option<&Nqn> {
        self.heads.get(&id).map(|head| &head.subnqn)
    }

    /// True if every one of these identifiers is known of one namespace that has had this NSID.
    pub(super) fn knows(&self, subnqn: &Nqn, nsid: u32, ids: &NamespaceIds) -> bool {
        self.names.knows(subnqn, nsid, ids)
    }

    /// Takes a namespace that was found on a life as a path, or says why not.
    ///
    /// # Errors
    /// It is no path, for now: it is looked at again.
    pub(super) fn take(
        &mut self,
        (ctrl, life): (CtrlId, LifeId),
        subnqn: &Nqn,
        policy: IoPolicy,
        found: &Found,
        ana: AnaState,
        protection: impl Fn(HeadId) -> Protection,
    ) -> Result<Taken, NotTaken> {
        let id = self.name_of((ctrl, life), subnqn, found, &protection)?;
        let path = OnePath { ctrl, ana_group: found.ana_group, ana, stated: found.shape };
        let (before, now) = (self.heads.get(&id).map(|head| head.shape), found.shape);
        if let Some(head) = self.heads.get(&id) {
            head.judge((ctrl, life), found, self.names.get(id).is_some_and(|known| known.ids.is_known()))?;
        }
        self.names.learn(id, &found.ids);
        let head = self.heads.entry(id).or_insert_with(|| OneHead {
            subnqn: subnqn.clone(),
            nsid: found.nsid,
            shape: now,
            shared: found.shared,
            policy,
            paths: BTreeMap::new(),
            members: BTreeSet::new(),
        });
        head.shape = now;
        head.shared = found.shared;
        head.paths.insert(life, path);
        head.members.insert(ctrl);
        Ok(match before {
            None => Taken::New(id),
            Some(was) if was == now => Taken::Path(id),
            Some(was) => Taken::Resized(id, was),
        })
    }

    /// The name of what was found, an old one or a new one.
    fn name_of(
        &mut self,
        (ctrl, life): (CtrlId, LifeId),
        subnqn: &Nqn,
        found: &Found,
        protection: impl Fn(HeadId) -> Protection,
    ) -> Result<HeadId, NotTaken> {
        let strict = conditions::enabled(Guard::HeadIdentity);
        let ties = |id: HeadId| {
            let head = self.heads.get(&id);
            let elsewhere = head.is_some_and(|head| {
                head.paths.keys().any(|other| *other != life) || (strict && head.members.iter().any(|m| *m != ctrl))
            });
            match (elsewhere || (strict && protection(id) != Protection::None), head) {
                (true, _) => Ties::Bound,
                (false, Some(_)) if strict => Ties::Own,
                (false, _) => Ties::None,
            }
        };
        let heads = &self.heads;
        let unused = |id: HeadId| match (heads.contains_key(&id), protection(id)) {
            (false, Protection::None) => Ties::None,
            _ => Ties::Bound,
        };
        let name = match self.names.find(subnqn, found.nsid, &found.ids, found.shape.into(), ties) {
            Ok(None) => self.names.make_room(subnqn, found.nsid, &found.ids, unused).map(|()| None),
            other => other,
        };
        match name {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Ok(self.names.add(subnqn, found.nsid, &found.ids, found.shape.into())),
            Err(doubt) => {
                // It may be that one, and say so again: as long as that can be hoped for its I/O waits.
                let keeps = if let Doubt::Unclear(id) = doubt { Some(id) } else { None };
                let contradicts = match doubt {
                    Doubt::Other(id) | Doubt::Format { head: id, .. } => Some(id),
                    _ => None,
                };
                Err(NotTaken { why: doubt.to_string(), keeps, contradicts })
            }
        }
    }

    /// A scan of this life is complete: what it no longer has is no path of it any more. What `waits` may become one again.
    pub(super) fn keep_only(&mut self, ctrl: CtrlId, life: LifeId, kept: &BTreeSet<HeadId>, waits: &BTreeSet<HeadId>) {
        for (id, head) in self.heads.iter_mut().filter(|(id, _)| !kept.contains(id)) {
            head.paths.remove(&life);
            if !waits.contains(id) {
                head.members.remove(&ctrl);
            }
        }
    }

    /// Namespaces that the controller had when it was asked last, by NSID, and whether this life is a path of them.
    pub(super) fn members_of(&self, ctrl: CtrlId, life: LifeId) -> impl Iterator<Item = (u32, HeadId, bool)> {
        let members = self.heads.iter().filter(move |(_, head)| head.members.contains(&ctrl));
        members.map(move |(id, head)| (head.nsid, *id, head.paths.contains_key(&life)))
    }

    /// Lives that are paths of it.
    pub(super) fn lives_of(&self, id: HeadId) -> Vec<LifeId> {
        self.heads.get(&id).map(|head| head.paths.keys().copied().collect()).unwrap_or_default()
    }

    /// The life is no path any more; its controller may come back.
    pub(super) fn drop_life(&mut self, life: LifeId) {
        for head in self.heads.values_mut() {
            head.paths.remove(&life);
        }
    }

    /// The controller is gone for good.
    pub(super) fn drop_controller(&mut self, ctrl: CtrlId) {
        for head in self.heads.values_mut() {
            head.members.remove(&ctrl);
            head.paths.retain(|_, path| path.ctrl != ctrl);
        }
    }

    /// Commands may be sent to the namespace from now on. False if it is not there, nor was, or is forgotten.
    pub(super) fn open(&mut self, id: HeadId) -> bool {
        self.names.open(id)
    }

    /// Names that were forgotten since this was called last: nothing was ever sent under them.
    pub(super) fn take_forgotten(&mut self) -> Vec<HeadId> {
        self.names.take_forgotten()
    }

    /// Removes and names the heads that no controller has any more.
    pub(super) fn sweep(&mut self) -> Vec<HeadId> {
        let gone: Vec<_> =
            self.heads.iter().filter(|(_, h)| h.members.is_empty() && h.paths.is_empty()).map(|(id, _)| *id).collect();
        for id in &gone {
            self.heads.remove(id);
        }
        gone
    }

    /// Applies an ANA log of a life; names what changed.
    pub(super) fn apply_ana(&mut self, life: LifeId, log: &ana::Log) -> Vec<(HeadId, AnaState)> {
        let mut changed = Vec::new();
        for (id, head) in &mut self.heads {
            let nsid = head.nsid;
            if let Some(path) = head.paths.get_mut(&life) {
                let state = state_in(log, path.ana_group, nsid);
                if path.ana != state {
                    path.ana = state;
                    changed.push((*id, state));
                }
            }
        }
        changed
    }

    /// The table for the lanes.
    pub(super) fn table(&mut self, of: impl Fn(LifeId) -> PathOf, may_serve: impl Fn(CtrlId) -> bool) -> PathTable {
        self.epoch += 1;
        let heads = self.heads.iter().map(|(id, head)| {
            let paths = head
                .paths
                .iter()
                .map(|(life, path)| {
                    let PathOf { slow, queues } = of(*life);
                    Path { life: *life, nsid: head.nsid, ana: path.ana, slow, queues }
                })
                .collect();
            let may_return = head.members.iter().any(|ctrl| may_serve(*ctrl));
            (*id, Head { shape: head.shape, policy: head.policy, flush: FlushScope::Subsystem, paths, may_return })
        });
        let either = conditions::enabled(Guard::EitherMatch);
        let twins = self.heads.keys().filter(|_| either).map(|id| (*id, self.names.twins(*id)));
        let twins = twins.filter(|(_, twins)| !twins.is_empty()).collect();
        PathTable { epoch: self.epoch, heads: heads.collect(), twins }
    }

    /// Every namespace that ever had this name, gone ones included, and those that may be the same disk.
    pub(super) fn named(&self, subnqn: &Nqn, nsid: u32) -> BTreeSet<HeadId> {
        let named = self.names.named(subnqn, nsid);
        let twins = named.iter().flat_map(|id| self.names.twins(*id)).map(|twin| twin.head);
        named.iter().copied().chain(twins).collect()
    }

    /// How lanes choose among the paths of every namespace of a subsystem.
    pub(super) fn set_policy(&mut self, subnqn: &Nqn, policy: IoPolicy) {
        for head in self.heads.values_mut().filter(|head| head.subnqn == *subnqn) {
            head.policy = policy;
        }
    }

    /// True if another life than this one is a path of a namespace that this one serves.
    pub(super) fn has_other_path(&self, life: LifeId) -> bool {
        self.heads.values().any(|head| head.paths.contains_key(&life) && head.paths.len() > 1)
    }
}

impl OneHead {
    /// Whether this can be a path of it, seen from a life.
    fn judge(&self, (ctrl, life): (CtrlId, LifeId), found: &Found, has_name: bool) -> Result<(), NotTaken> {
        let refuse = |why| Err(NotTaken { why, keeps: None, contradicts: None });
        let others = self.paths.keys().any(|other| *other != life);
        let known = self.paths.contains_key(&life);
        // Another controller has a private namespace for itself also while it is lost: two of them are two disks.
        let elsewhere = others || self.members.iter().any(|member| *member != ctrl);
        if elsewhere && !known && (!self.shared || !found.shared) {
            return refuse("it is not shared (NMIC bit 0 is 0), but another controller has it too".to_string());
        }
        if others && !known && !has_name {
            return refuse("it has no identifier by which it could be known on a second path".to_string());
        }
        let (was, now) = (self.shape, found.shape);
        // A controller that states something new is believed. One that repeats what another has changed meanwhile, or that
        // comes with it, is no path until both agree.
        let is_news = self.paths.get(&life).is_some_and(|path| path.stated != now);
        if others && !is_news && was.blocks != now.blocks {
            return refuse(format!("it has {} blocks, on other paths {}", now.blocks, was.blocks));
        }
        if others && !is_news && was.read_only != now.read_only {
            return refuse("its write protection differs from that on other paths".to_string());
        }
        Ok(())
    }
}

/// The state of a namespace in a log. What the log does not name is unusable until it does.
pub(super) fn state_in(log: &ana::Log, group: u32, nsid: u32) -> AnaState {
    let state = log.state_of(nsid).or_else(|| log.group(group).map(|group| group.state));
    match state {
        Some(ana::State::Optimized) => AnaState::Optimized,
        Some(ana::State::NonOptimized) => AnaState::NonOptimized,
        Some(ana::State::PersistentLoss) => AnaState::PersistentLoss,
        Some(ana::State::Change) => AnaState::Change,
        Some(ana::State::Inaccessible) | None => AnaState::Inaccessible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: (CtrlId, LifeId) = (CtrlId(0), LifeId(1));
    const B: (CtrlId, LifeId) = (CtrlId(1), LifeId(2));

    fn nqn() -> Nqn {
        Nqn::new("nqn.2014-08.org.example:s").expect("valid")
    }

    fn found(nsid: u32, id: u8) -> Found {
        Found {
            nsid,
            ids: NamespaceIds { uuid: Some([id; 16]), ..NamespaceIds::default() },
            shape: Shape { block_size: 512, blocks: 100, metadata: 0, read_only: false },
            shared: true,
            ana_group: 1,
        }
    }

    fn take(heads: &mut Heads, who: (CtrlId, LifeId), found: &Found) -> Result<Taken, String> {
        take_under(heads, who, found, Protection::None)
    }

    fn take_under(
        heads: &mut Heads,
        who: (CtrlId, LifeId),
        found: &Found,
        protection: Protection,
    ) -> Result<Taken, String> {
        let taken = heads.take(who, &nqn(), IoPolicy::RoundRobin, found, AnaState::Optimized, |_| protection);
        taken.map_err(|refused| refused.why)
    }

    #[test]
    fn a_private_namespace_is_not_that_of_another_controller_that_is_lost() {
        let private = Found { ids: NamespaceIds::default(), shared: false, ..found(1, 0) };
        let mut heads = Heads::default();
        let first = take(&mut heads, A, &private).expect("the first");
        heads.drop_life(A.1);
        let refused = take(&mut heads, B, &private).expect_err("it is another disk");
        assert!(refused.contains("not shared"), "{refused}");
        let again = (A.0, LifeId(9));
        assert!(
            matches!((first, take(&mut heads, again, &private)), (Taken::New(id), Ok(Taken::Path(same))) if id == same)
        );
    }

    #[test]
    fn two_paths_one_head_and_its_name_outlives_both() {
        let mut heads = Heads::default();
        assert_eq!(take(&mut heads, A, &found(1, 7)), Ok(Taken::New(HeadId(0))));
        assert_eq!(take(&mut heads, B, &found(1, 7)), Ok(Taken::Path(HeadId(0))));
        assert!(heads.has_other_path(A.1));
        let table = heads.table(|_| PathOf::default(), |ctrl| ctrl == A.0);
        assert_eq!(table.heads[&HeadId(0)].paths.len(), 2);
        assert!(table.heads[&HeadId(0)].may_return);
        heads.drop_controller(A.0);
        assert_eq!(heads.sweep(), []);
        assert!(!heads.table(|_| PathOf::default(), |ctrl| ctrl == A.0).heads[&HeadId(0)].may_return);
        heads.drop_controller(B.0);
        assert_eq!(heads.sweep(), [HeadId(0)]);
        assert_eq!(take(&mut heads, A, &found(2, 9)), Ok(Taken::New(HeadId(1))));
        assert_eq!(take(&mut heads, A, &found(1, 7)), Ok(Taken::New(HeadId(0))), "same identity, same name");
    }

    #[test]
    fn whatever_is_not_the_same_is_refused() {
        let mut heads = Heads::default();
        take(&mut heads, A, &found(1, 7)).expect("first");
        let other = |f: fn(&mut Found)| {
            let mut found = found(1, 7);
            f(&mut found);
            found
        };
        for (wrong, word) in [
            (other(|f| f.ids.uuid = Some([8; 16])), "identifiers differ"),
            (other(|f| f.nsid = 2), "same identifier"),
            (other(|f| f.shape.block_size = 4096), "blocks have 4096"),
            (other(|f| f.shape.metadata = 8), "blocks have 512"),
            (other(|f| f.shape.blocks = 99), "99 blocks"),
            (other(|f| f.shape.read_only = true), "write protection"),
            (other(|f| f.shared = false), "not shared"),
        ] {
            let refused = take(&mut heads, B, &wrong).expect_err(word);
            assert!(refused.contains(word), "{refused}");
        }
        let table = heads.table(|_| PathOf::default(), |_| true);
        assert_eq!(table.heads[&HeadId(0)].paths.len(), 1);
    }

    #[test]
    fn a_namespace_without_a_name_has_one_path() {
        let mut heads = Heads::default();
        let nameless = Found { ids: NamespaceIds::default(), ..found(1, 0) };
        take(&mut heads, A, &nameless).expect("first");
        assert!(take(&mut heads, B, &nameless).is_err());
        heads.drop_life(A.1);
        assert_eq!(take(&mut heads, B, &nameless), Ok(Taken::Path(HeadId(0))));
    }

    #[test]
    fn a_path_that_is_there_may_grow() {
        let mut heads = Heads::default();
        take(&mut heads, A, &found(1, 7)).expect("first");
        take(&mut heads, B, &found(1, 7)).expect("second");
        let mut grown = found(1, 7);
        grown.shape.blocks = 200;
        assert_eq!(take(&mut heads, A, &grown), Ok(Taken::Resized(HeadId(0), found(1, 7).shape)));
        assert_eq!(take(&mut heads, B, &grown), Ok(Taken::Path(HeadId(0))));
        heads.keep_only(A.0, A.1, &BTreeSet::new(), &BTreeSet::new());
        heads.keep_only(B.0, B.1, &BTreeSet::new(), &BTreeSet::new());
        assert_eq!(heads.sweep(), [HeadId(0)]);
    }

    #[test]
    fn what_was_known_counts_also_when_no_path_is_left() {
        for protection in [Protection::None, Protection::Left, Protection::Held] {
            let mut heads = Heads::default();
            take(&mut heads, A, &found(1, 7)).expect("first");
            heads.drop_life(A.1);
            let after = (A.0, LifeId(9));
            let nameless = Found { ids: NamespaceIds::default(), ..found(1, 0) };
            let why = take_under(&mut heads, after, &nameless, protection).expect_err("it may be another one");
            assert!(why.contains("no identifier"), "{why}");
            assert_eq!(take_under(&mut heads, after, &found(1, 7), protection), Ok(Taken::Path(HeadId(0))));
            heads.drop_controller(A.0);
            heads.sweep();
            // Nobody has it any more; what is protected of it still is.
            let other = take_under(&mut heads, B, &found(1, 8), protection);
            match protection {
                Protection::None => assert_eq!(other, Ok(Taken::New(HeadId(1)))),
                _ => assert!(other.expect_err("protected").contains("identifiers differ")),
            }
            let moved = take_under(&mut heads, B, &found(2, 7), protection);
            assert_eq!(moved.is_ok(), protection == Protection::None, "the same disk elsewhere: {moved:?}");
        }
    }

    #[test]
    fn a_disk_in_another_format_waits_for_what_is_protected_and_has_a_name_of_its_own() {
        let mut formatted = found(1, 7);
        formatted.shape.block_size = 4096;
        for protection in [Protection::Left, Protection::Held] {
            let mut heads = Heads::default();
            take(&mut heads, A, &found(1, 7)).expect("first");
            assert!(heads.open(HeadId(0)), "something may be sent to it");
            let refused = take_under(&mut heads, A, &formatted, protection).expect_err("protected");
            assert!(refused.contains("4096 bytes now, and 512 before"), "{refused}");
            heads.keep_only(A.0, A.1, &BTreeSet::new(), &BTreeSet::new());
            heads.sweep();
            assert!(take_under(&mut heads, A, &formatted, protection).is_err(), "also when no path is left");
            assert_eq!(take(&mut heads, A, &formatted), Ok(Taken::New(HeadId(1))));
            let table = heads.table(|_| PathOf::default(), |_| true);
            assert_eq!(table.twins[&HeadId(1)], [crate::Twin { head: HeadId(0), whole: true, same: true }]);
            assert!(!table.heads.contains_key(&HeadId(0)), "whoever holds the old name finds nothing under it");
        }
        let mut heads = Heads::default();
        take(&mut heads, A, &found(1, 7)).expect("first");
        take(&mut heads, B, &found(1, 7)).expect("second");
        assert!(take(&mut heads, A, &formatted).is_err(), "another path has it as it was");
    }

    #[test]
    fn a_disk_that_is_replaced_is_the_twin_of_the_one_before() {
        let mut heads = Heads::default();
        take(&mut heads, A, &found(1, 7)).expect("first");
        assert_eq!(take(&mut heads, A, &found(1, 8)), Ok(Taken::New(HeadId(1))), "nothing holds the old one");
        heads.keep_only(A.0, A.1, &BTreeSet::from([HeadId(1)]), &BTreeSet::new());
        assert_eq!(heads.sweep(), [HeadId(0)]);
        let table = heads.table(|_| PathOf::default(), |_| true);
        // What was sent to the old one may arrive at the new one: they have the same address.
        assert_eq!(table.twins[&HeadId(1)], [crate::Twin { head: HeadId(0), whole: false, same: false }]);
    }

    #[test]
    fn what_the_log_does_not_name_is_unusable() {
        let log = ana::Log {
            change_count: 1,
            groups: alloc::vec![ana::Group {
                id: 1,
                change_count: 1,
                state: ana::State::NonOptimized,
                nsids: alloc::vec![1],
            }],
        };
        assert_eq!(state_in(&log, 1, 1), AnaState::NonOptimized);
        assert_eq!(state_in(&log, 2, 5), AnaState::Inaccessible);
        let mut heads = Heads::default();
        take(&mut heads, A, &found(1, 7)).expect("first");
        assert_eq!(heads.apply_ana(A.1, &log), [(HeadId(0), AnaState::NonOptimized)]);
        assert_eq!(heads.apply_ana(A.1, &log), []);
    }
}

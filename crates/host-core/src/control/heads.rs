//! What is the same namespace, seen through several controllers.
//!
//! Taking two disks for one corrupts both, so a path joins a head only if subsystem, NSID and every identifier agree,
//! and only if it looks the same. Whatever does not is refused and named. A [`HeadId`] belongs to an identity for as
//! long as the host runs: guards outlive the controllers they come from.

use super::scan::Found;
use crate::{AnaState, CtrlId, FlushScope, Head, HeadId, IoPolicy, LifeId, Path, PathTable, Shape};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use interlock_wire::ana;
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::Nqn;

/// Namespaces this host remembers, over all subsystems.
const MAX_HEADS: usize = 65_536;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Identity {
    subnqn: Nqn,
    nsid: u32,
    ids: NamespaceIds,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OnePath {
    ctrl: CtrlId,
    ana_group: u32,
    ana: AnaState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OneHead {
    identity: Identity,
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

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Heads {
    heads: BTreeMap<HeadId, OneHead>,
    names: BTreeMap<Identity, HeadId>,
    epoch: u64,
}

impl Heads {
    pub(super) fn iter(&self) -> impl Iterator<Item = HeadInfo<'_>> {
        self.heads.iter().map(|(id, head)| HeadInfo {
            id: *id,
            subnqn: &head.identity.subnqn,
            nsid: head.identity.nsid,
            ids: &head.identity.ids,
            shape: head.shape,
            paths: head.paths.iter().map(|(life, path)| (path.ctrl, *life, path.ana, path.ana_group)).collect(),
        })
    }

    /// Whose namespace it is.
    pub(super) fn subsystem(&self, id: HeadId) -> Option<&Nqn> {
        self.heads.get(&id).map(|head| &head.identity.subnqn)
    }

    /// Takes a namespace that was found on a life as a path, or says why not.
    pub(super) fn take(
        &mut self,
        (ctrl, life): (CtrlId, LifeId),
        subnqn: &Nqn,
        policy: IoPolicy,
        found: &Found,
        ana: AnaState,
    ) -> Result<Taken, String> {
        let identity = Identity { subnqn: subnqn.clone(), nsid: found.nsid, ids: found.ids };
        self.refuse_conflicts(life, &identity)?;
        let id = match self.names.get(&identity) {
            Some(id) => *id,
            None if self.names.len() >= MAX_HEADS => return Err(format!("more than {MAX_HEADS} namespaces")),
            None => {
                let id = HeadId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
                self.names.insert(identity.clone(), id);
                id
            }
        };
        let path = OnePath { ctrl, ana_group: found.ana_group, ana };
        let Some(head) = self.heads.get_mut(&id) else {
            let head = OneHead {
                identity,
                shape: found.shape,
                shared: found.shared,
                policy,
                paths: BTreeMap::from([(life, path)]),
                members: BTreeSet::from([ctrl]),
            };
            self.heads.insert(id, head);
            return Ok(Taken::New(id));
        };
        let others = head.paths.keys().any(|other| *other != life);
        let known = head.paths.contains_key(&life);
        if others && !known {
            if !head.shared || !found.shared {
                return Err("it is not shared (NMIC bit 0 is 0), but another path has it too".to_string());
            }
            if !head.identity.ids.is_known() {
                return Err("it has no identifier by which it could be known on a second path".to_string());
            }
        }
        let (was, now) = (head.shape, found.shape);
        if others && (was.block_size, was.metadata) != (now.block_size, now.metadata) {
            return Err(format!("its blocks have {} bytes, on other paths {}", now.block_size, was.block_size));
        }
        if others && !known && was.blocks != now.blocks {
            return Err(format!("it has {} blocks, on other paths {}", now.blocks, was.blocks));
        }
        if others && !known && was.read_only != now.read_only {
            return Err("its write protection differs from that on other paths".to_string());
        }
        head.shape = now;
        head.shared = found.shared;
        head.paths.insert(life, path);
        head.members.insert(ctrl);
        Ok(if was == now { Taken::Path(id) } else { Taken::Resized(id, was) })
    }

    /// The same NSID with other identifiers, or the same identifier under another NSID, while a path has it.
    fn refuse_conflicts(&self, life: LifeId, new: &Identity) -> Result<(), String> {
        for head in self.heads.values().filter(|head| head.paths.keys().any(|other| *other != life)) {
            let old = &head.identity;
            if old.subnqn != new.subnqn || old == new {
                continue;
            }
            if old.nsid == new.nsid {
                return Err("its identifiers differ from those on other paths".to_string());
            }
            let same = |a: Option<&[u8]>, b: Option<&[u8]>| a.is_some() && a == b;
            if same(old.ids.uuid.as_ref().map(<[u8; 16]>::as_slice), new.ids.uuid.as_ref().map(<[u8; 16]>::as_slice))
                || same(
                    old.ids.nguid.as_ref().map(<[u8; 16]>::as_slice),
                    new.ids.nguid.as_ref().map(<[u8; 16]>::as_slice),
                )
                || same(
                    old.ids.eui64.as_ref().map(<[u8; 8]>::as_slice),
                    new.ids.eui64.as_ref().map(<[u8; 8]>::as_slice),
                )
            {
                return Err(format!("namespace {} of the subsystem has the same identifier", old.nsid));
            }
        }
        Ok(())
    }

    /// A scan of this life is complete: what it no longer has is no path of it any more.
    pub(super) fn keep_only(&mut self, ctrl: CtrlId, life: LifeId, kept: &BTreeSet<HeadId>) {
        for (_, head) in self.heads.iter_mut().filter(|(id, _)| !kept.contains(id)) {
            head.paths.remove(&life);
            head.members.remove(&ctrl);
        }
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
            let nsid = head.identity.nsid;
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
    pub(super) fn table(&mut self, is_slow: impl Fn(LifeId) -> bool, may_serve: impl Fn(CtrlId) -> bool) -> PathTable {
        self.epoch += 1;
        let heads = self.heads.iter().map(|(id, head)| {
            let paths = head
                .paths
                .iter()
                .map(|(life, path)| Path { life: *life, nsid: head.identity.nsid, ana: path.ana, slow: is_slow(*life) })
                .collect();
            let may_return = head.members.iter().any(|ctrl| may_serve(*ctrl));
            (*id, Head { shape: head.shape, policy: head.policy, flush: FlushScope::Subsystem, paths, may_return })
        });
        PathTable { epoch: self.epoch, heads: heads.collect() }
    }

    /// Every namespace that ever had this name, gone ones included.
    pub(super) fn named(&self, subnqn: &Nqn, nsid: u32) -> Vec<HeadId> {
        self.names.iter().filter(|(id, _)| id.subnqn == *subnqn && id.nsid == nsid).map(|(_, head)| *head).collect()
    }

    /// How lanes choose among the paths of every namespace of a subsystem.
    pub(super) fn set_policy(&mut self, subnqn: &Nqn, policy: IoPolicy) {
        for head in self.heads.values_mut().filter(|head| head.identity.subnqn == *subnqn) {
            head.policy = policy;
        }
    }

    /// True if another life than this one is a path of a namespace that this one serves.
    pub(super) fn has_other_path(&self, life: LifeId) -> bool {
        self.heads.values().any(|head| head.paths.contains_key(&life) && head.paths.len() > 1)
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
        heads.take(who, &nqn(), IoPolicy::RoundRobin, found, AnaState::Optimized)
    }

    #[test]
    fn two_paths_one_head_and_its_name_outlives_both() {
        let mut heads = Heads::default();
        assert_eq!(take(&mut heads, A, &found(1, 7)), Ok(Taken::New(HeadId(0))));
        assert_eq!(take(&mut heads, B, &found(1, 7)), Ok(Taken::Path(HeadId(0))));
        assert!(heads.has_other_path(A.1));
        let table = heads.table(|_| false, |ctrl| ctrl == A.0);
        assert_eq!(table.heads[&HeadId(0)].paths.len(), 2);
        assert!(table.heads[&HeadId(0)].may_return);
        heads.drop_controller(A.0);
        assert_eq!(heads.sweep(), []);
        assert!(!heads.table(|_| false, |ctrl| ctrl == A.0).heads[&HeadId(0)].may_return);
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
            (other(|f| f.shape.blocks = 99), "99 blocks"),
            (other(|f| f.shape.read_only = true), "write protection"),
            (other(|f| f.shared = false), "not shared"),
        ] {
            let refused = take(&mut heads, B, &wrong).expect_err(word);
            assert!(refused.contains(word), "{refused}");
        }
        let table = heads.table(|_| false, |_| true);
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
        heads.keep_only(A.0, A.1, &BTreeSet::new());
        heads.keep_only(B.0, B.1, &BTreeSet::new());
        assert_eq!(heads.sweep(), [HeadId(0)]);
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

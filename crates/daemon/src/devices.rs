//! Which disk has which device name.
//!
//! `nvme0n1` is mounted, exported and written in scripts, so it must not lead to another disk after a restart. An NSID may:
//! a target gives it to the next namespace as soon as the first one is deleted, also while no daemon runs. So a name is
//! *bound* to what the namespace states of itself, in the record, and found again by that. The number of a name is the
//! NSID if no other disk of the subsystem has that number; a disk that takes the place of another one gets the lowest
//! number that is neither a name nor an NSID there. The name of the disk that is gone waits for it and leads nowhere.
//!
//! Names belong to one subsystem: an equal identifier in another subsystem is found under another name. A namespace that
//! states no identifier is known by its place alone, and never has the name of one that states any, or the other way round.

use crate::names;
use crate::record::{BoundDisk, Record, RecordError, RecordFile};
use interlock_export::DiskIdentity;
use interlock_host::{CtrlId, HeadId, NamespaceStatus};
use std::collections::{BTreeMap, BTreeSet};

/// Names of one subsystem that are remembered, as many as the host has names for.
const OF_SUBSYSTEM_MAX: usize = 8_192;
/// Namespaces of which it is remembered why they are no path.
const REFUSED_MAX: usize = 4_096;

/// A namespace that the host sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) head: HeadId,
    pub(crate) subnqn: &'a str,
    pub(crate) nsid: u32,
    pub(crate) disk: DiskIdentity,
    pub(crate) has_path: bool,
}

impl<'a> From<&'a NamespaceStatus> for Seen<'a> {
    fn from(ns: &'a NamespaceStatus) -> Self {
        Self {
            head: ns.head,
            subnqn: &ns.subnqn,
            nsid: ns.nsid,
            disk: DiskIdentity::new(&ns.ids, ns.shape.block_size),
            has_path: !ns.paths.is_empty(),
        }
    }
}

/// What is worth telling of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It belongs to this disk from now on.
    Bound { name: String, disk: DiskIdentity },
    /// The disk has this name because another disk has the one with its NSID.
    Another { name: String, disk: DiskIdentity, nsid: u32, taken: String, meant: DiskIdentity },
    /// So many names of disks that are not there were forgotten, to make room.
    Forgotten { subsystem: String, names: usize },
}

/// A name whose disk is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) name: String,
    pub(crate) subsystem: u32,
    pub(crate) subnqn: String,
    /// Where its disk was.
    pub(crate) nsid: u32,
    pub(crate) disk: DiskIdentity,
    /// What it waits for.
    pub(crate) waits_for: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    subnqn: String,
    number: u32,
}

/// The names that are in use, beside those that the record knows.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    given: BTreeMap<HeadId, Given>,
    /// Why what a controller has under an NSID is no path.
    refused: BTreeMap<(CtrlId, u32), String>,
    /// To be told once it is written down.
    untold: Vec<Naming>,
    /// The record was changed here, and that was not written yet.
    unsaved: bool,
    /// What was told of names that cannot be written down; `None`: all of them are.
    pub(crate) unwritten: Option<String>,
}

impl Devices {
    /// The last number in the name of a namespace: as in `nvme0n1`.
    pub(crate) fn number(&self, head: HeadId) -> Option<u32> {
        self.given.get(&head).map(|given| given.number)
    }

    /// Names what is seen, in the record too, which is not written by this.
    pub(crate) fn name(&mut self, record: &mut Record, seen: &[Seen<'_>]) -> Vec<Naming> {
        let mut told = Vec::new();
        // Of two that could have a name, the one that is there, and then the older one.
        let mut order: Vec<&Seen<'_>> = seen.iter().collect();
        order.sort_unstable_by_key(|one| (!one.has_path, one.head));
        for one in order {
            self.number_subsystems(record, [one.subnqn].into_iter());
            let subsystem = record.subsystem(one.subnqn);
            let number = match self.number(one.head) {
                Some(number) => number,
                None => {
                    let number = self.choose(record, subsystem, one, seen, &mut told);
                    self.given.insert(one.head, Given { subnqn: one.subnqn.to_owned(), number });
                    number
                }
            };
            let name = names::head(subsystem, number);
            let before = record.names.get(&name);
            let disk = before.map_or(one.disk, |bound| learnt(bound.disk(), one.disk));
            let bound = BoundDisk::new((one.subnqn, one.nsid), &disk);
            if before != Some(&bound) {
                if before.is_none() && !told.iter().any(|t| matches!(t, Naming::Another { name: n, .. } if *n == name))
                {
                    told.push(Naming::Bound { name: name.clone(), disk });
                }
                record.names.insert(name, bound);
                self.unsaved = true;
            }
        }
        told
    }

    /// Numbers subsystems that have none yet, in the record, which is not written by this.
    pub(crate) fn number_subsystems<'a>(&mut self, record: &mut Record, nqns: impl Iterator<Item = &'a str>) {
        for nqn in nqns {
            self.unsaved |= !record.subsystems.contains_key(nqn);
            record.subsystem(nqn);
        }
    }

    /// Writes down what was changed here. Where nothing was, the record is not looked at.
    pub(crate) fn save(&mut self, file: &mut RecordFile) -> Result<(), RecordError> {
        if self.unsaved {
            file.save()?;
            self.unsaved = false;
        }
        Ok(())
    }

    /// The same; what is worth telling waits until it is written down.
    pub(crate) fn name_later(&mut self, record: &mut Record, seen: &[Seen<'_>]) {
        let told = self.name(record, seen);
        self.untold.extend(told);
    }

    /// What is worth telling.
    pub(crate) fn take_untold(&mut self) -> Vec<Naming> {
        std::mem::take(&mut self.untold)
    }

    /// Namespaces that the host does not know any more need no name of this process, and what is a path is not refused. `seen`
    /// is everything.
    pub(crate) fn forget(&mut self, seen: &[Seen<'_>], is_path: impl Fn(CtrlId, u32) -> bool) {
        let there: BTreeSet<HeadId> = seen.iter().map(|one| one.head).collect();
        self.given.retain(|head, _| there.contains(head));
        self.refused.retain(|(ctrl, nsid), _| !is_path(*ctrl, *nsid));
    }

    /// A controller that is not live refuses nothing.
    pub(crate) fn not_live(&mut self, ctrl: CtrlId) {
        self.refused.retain(|(of, _), _| *of != ctrl);
    }

    /// The host does not take what a controller has under an NSID as a path.
    pub(crate) fn refused(&mut self, ctrl: CtrlId, nsid: u32, why: &str) {
        if self.refused.len() >= REFUSED_MAX && !self.refused.contains_key(&(ctrl, nsid)) {
            self.refused.pop_first();
        }
        self.refused.insert((ctrl, nsid), why.to_owned());
    }

    fn choose(
        &self,
        record: &mut Record,
        subsystem: u32,
        one: &Seen<'_>,
        seen: &[Seen<'_>],
        told: &mut Vec<Naming>,
    ) -> u32 {
        let held: BTreeSet<u32> =
            self.given.values().filter(|given| given.subnqn == one.subnqn).map(|given| given.number).collect();
        let is_same = |bound: &BoundDisk| {
            bound.disk().difference(&one.disk).is_none() && (one.disk.is_stated() || bound.place().1 == one.nsid)
        };
        let is_here = |bound: &BoundDisk| bound.place() == (one.subnqn, one.nsid) && is_same(bound);
        if !held.contains(&one.nsid) && record.names.get(&names::head(subsystem, one.nsid)).is_some_and(is_here) {
            return one.nsid; // nearly all of them
        }
        let mut bound: Vec<(u32, &BoundDisk)> = record.names_of(subsystem).collect();
        let same = bound.iter().filter(|(number, bound)| !held.contains(number) && is_same(bound));
        // The name that it had at this place, if it has had several.
        if let Some((_, number)) = same.map(|(number, bound)| (bound.place().1 != one.nsid, *number)).min() {
            return number;
        }
        if bound.len() >= OF_SUBSYSTEM_MAX {
            let names = record.forget_names(subsystem, |number| held.contains(&number));
            told.push(Naming::Forgotten { subsystem: names::subsystem(subsystem), names });
            bound = record.names_of(subsystem).collect();
        }
        let taken: BTreeSet<u32> = bound.iter().map(|(number, _)| *number).chain(held).collect();
        if !taken.contains(&one.nsid) {
            return one.nsid;
        }
        let places = bound.iter().map(|(_, bound)| bound.place().1);
        let here = seen.iter().filter(|other| other.subnqn == one.subnqn).map(|other| other.nsid);
        let places: BTreeSet<u32> = places.chain(here).collect();
        let free = |number: &u32| !taken.contains(number) && !places.contains(number);
        let number = (1..u32::MAX).find(free).unwrap_or(u32::MAX);
        let taken = names::head(subsystem, one.nsid);
        let meant = record.names.get(&taken).map_or(one.disk, BoundDisk::disk);
        told.push(Naming::Another {
            name: names::head(subsystem, number),
            disk: one.disk,
            nsid: one.nsid,
            taken,
            meant,
        });
        number
    }

    /// Names whose disks are not there while something else is known of their places. `seen` is everything, and was
    /// [named](Self::name); `of` is the subsystem of a controller.
    pub(crate) fn waiting(
        &self,
        record: &Record,
        seen: &[Seen<'_>],
        of: impl Fn(CtrlId) -> Option<String>,
    ) -> Vec<Waiting> {
        let named = |one: &Seen<'_>| Some(names::head(*record.subsystems.get(one.subnqn)?, self.number(one.head)?));
        let there: Vec<(String, &Seen<'_>)> =
            seen.iter().filter(|one| one.has_path).filter_map(|one| Some((named(one)?, one))).collect();
        let served: BTreeSet<&str> = there.iter().map(|(name, _)| name.as_str()).collect();
        let mut places: BTreeMap<(&str, u32), Vec<&(String, &Seen<'_>)>> = BTreeMap::new();
        for one in &there {
            places.entry((one.1.subnqn, one.1.nsid)).or_default().push(one);
        }
        let refused: BTreeMap<(String, u32), String> = self
            .refused
            .iter()
            .filter_map(|((ctrl, nsid), why)| Some(((of(*ctrl)?, *nsid), format!("{ctrl}: {why}"))))
            .collect();
        let waiting = record.names.iter().filter(|(name, _)| !served.contains(name.as_str()));
        let waiting = waiting.filter_map(|(name, bound)| {
            let (disk, (subnqn, nsid)) = (bound.disk(), bound.place());
            let elsewhere = || {
                let same = |one: &Seen<'_>| disk.is_stated() && disk.difference(&one.disk).is_none();
                there.iter().find(|(_, one)| same(one)).map(|(name, _)| name)
            };
            let mut waits_for = match (places.get(&(subnqn, nsid)), refused.get(&(subnqn.to_owned(), nsid))) {
                (Some(others), _) => {
                    let (other, one) = others.first()?;
                    match disk.difference(&one.disk) {
                        Some(difference) => format!("its own disk: {difference}, as {other}"),
                        None => format!("its own disk: that is {other} now"),
                    }
                }
                (None, Some(why)) => format!("its own disk: what is there is not used: {why}"),
                (None, None) => return None,
            };
            if let Some(other) = elsewhere().filter(|other| !waits_for.contains(*other)) {
                waits_for.push_str(&format!("; a disk of the same identity is {other}"));
            }
            let subsystem = *record.subsystems.get(subnqn)?;
            Some(Waiting { name: name.clone(), subsystem, subnqn: subnqn.to_owned(), nsid, disk, waits_for })
        });
        waiting.collect()
    }
}

/// What is known of a disk that states this too.
const fn learnt(known: DiskIdentity, stated: DiskIdentity) -> DiskIdentity {
    const fn or<const N: usize>(one: Option<[u8; N]>, other: Option<[u8; N]>) -> Option<[u8; N]> {
        if one.is_some() { one } else { other }
    }
    DiskIdentity {
        uuid: or(known.uuid, stated.uuid),
        nguid: or(known.nguid, stated.nguid),
        eui64: or(known.eui64, stated.eui64),
        block_size: known.block_size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{empty, settings};

    const A: &str = "nqn.2014-08.org.example:a";
    const B: &str = "nqn.2014-08.org.example:b";

    /// A disk by its UUID; 0: it states nothing.
    fn disk(id: u8) -> DiskIdentity {
        DiskIdentity { uuid: (id != 0).then_some([id; 16]), nguid: None, eui64: None, block_size: 512 }
    }

    fn seen(head: u32, subnqn: &str, nsid: u32, id: u8) -> Seen<'_> {
        Seen { head: HeadId(head), subnqn, nsid, disk: disk(id), has_path: true }
    }

    /// The names of what a process sees that knows only the record.
    fn after_restart(record: &mut Record, all: &[Seen<'_>]) -> (Vec<String>, Devices) {
        let mut devices = Devices::default();
        devices.name(record, all);
        (named(&devices, record, all), devices)
    }

    fn named(devices: &Devices, record: &Record, all: &[Seen<'_>]) -> Vec<String> {
        let name =
            |one: &Seen<'_>| names::head(record.subsystems[one.subnqn], devices.number(one.head).expect("named"));
        all.iter().map(name).collect()
    }

    fn waits(devices: &Devices, record: &Record, all: &[Seen<'_>]) -> Vec<(String, String)> {
        let of = |ctrl: CtrlId| (ctrl.0 == 0).then(|| A.to_owned());
        devices.waiting(record, all, of).into_iter().map(|one| (one.name, one.waits_for)).collect()
    }

    #[test]
    fn a_name_is_the_nsid_and_comes_back_with_its_disk() {
        let mut record = empty();
        let all = [seen(0, A, 1, 1), seen(1, A, 7, 2), seen(2, B, 1, 3)];
        let mut devices = Devices::default();
        let told = devices.name(&mut record, &all);
        assert_eq!(told.len(), 3);
        assert!(matches!(&told[1], Naming::Bound { name, disk: bound } if name == "nvme0n7" && *bound == disk(2)));
        assert_eq!(named(&devices, &record, &all), ["nvme0n1", "nvme0n7", "nvme1n1"]);
        assert_eq!(devices.name(&mut record, &all), [], "nothing new");
        let (names, _) = after_restart(&mut record, &[seen(9, B, 1, 3), seen(4, A, 7, 2), seen(0, A, 1, 1)]);
        assert_eq!(names, ["nvme1n1", "nvme0n7", "nvme0n1"]);
    }

    #[test]
    fn a_look_at_which_nothing_is_new_compares_and_writes_nothing() {
        let dir = std::env::temp_dir().join(format!("interlock-devices-{}", std::process::id()));
        let (mut file, _) = RecordFile::open(&dir, &settings()).expect("a directory");
        let nqns: Vec<String> = (0..500).map(|n| format!("nqn.2014-08.org.example:{n}")).collect();
        let all: Vec<Seen<'_>> = (0..500).zip(&nqns).map(|(head, nqn)| seen(head, nqn, 1, 1)).collect();
        let mut devices = Devices::default();
        devices.name_later(&mut file.record, &all);
        devices.save(&mut file).expect("written");
        let written = (file.compared, file.bytes);
        for _ in 0..100 {
            devices.name_later(&mut file.record, &all);
            devices.save(&mut file).expect("nothing to do");
        }
        assert_eq!((file.compared, file.bytes), written);
        devices.name_later(&mut file.record, &[seen(1_000, &nqns[0], 2, 2)]);
        devices.save(&mut file).expect("written");
        assert!(file.bytes > written.1);
        let (again, _) = RecordFile::open(&dir, &settings()).expect("ours");
        assert_eq!(again.record.names.len(), 501);
        std::fs::remove_dir_all(dir).expect("ours");
    }

    #[test]
    fn a_namespace_made_anew_while_nobody_looked_gets_another_name_and_the_old_one_waits() {
        let mut record = empty();
        after_restart(&mut record, &[seen(0, A, 1, 1), seen(1, A, 2, 2)]);
        let mut devices = Devices::default();
        let all = [seen(0, A, 1, 9), seen(1, A, 2, 2)];
        let told = devices.name(&mut record, &all);
        assert_eq!(named(&devices, &record, &all), ["nvme0n3", "nvme0n2"]);
        let meant = disk(1);
        let another =
            Naming::Another { name: "nvme0n3".into(), disk: disk(9), nsid: 1, taken: "nvme0n1".into(), meant };
        assert_eq!(told, [another]);
        let waiting = waits(&devices, &record, &all);
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].0, "nvme0n1");
        assert!(waiting[0].1.starts_with("its own disk: another disk is there: UUID 09090909"), "{waiting:?}");
        assert!(waiting[0].1.ends_with("is meant, as nvme0n3"), "{waiting:?}");
        // It is there again, beside the other or in its place.
        let (names, devices) = after_restart(&mut record, &[seen(0, A, 1, 1), seen(1, A, 5, 9)]);
        assert_eq!(names, ["nvme0n1", "nvme0n3"]);
        assert_eq!(waits(&devices, &record, &[seen(0, A, 1, 1), seen(1, A, 5, 9)]), []);
        // What has moved is written down where it is.
        assert_eq!(record.names["nvme0n3"].place(), (A, 5));
    }

    #[test]
    fn the_same_without_a_restart() {
        let mut record = empty();
        let mut devices = Devices::default();
        devices.name(&mut record, &[seen(0, A, 1, 1)]);
        // The old head is still open, without a path.
        let all = [Seen { has_path: false, ..seen(0, A, 1, 1) }, seen(1, A, 1, 9)];
        devices.name(&mut record, &all);
        assert_eq!(named(&devices, &record, &all), ["nvme0n1", "nvme0n2"]);
        assert_eq!(waits(&devices, &record, &all)[0].0, "nvme0n1");
        // Forgotten by the host, it is found again by what it is.
        devices.forget(&all[1..], |_, _| false);
        let all = [seen(1, A, 1, 9), seen(2, A, 2, 1)];
        devices.name(&mut record, &all);
        assert_eq!(named(&devices, &record, &all), ["nvme0n2", "nvme0n1"]);
    }

    #[test]
    fn identifiers_that_are_lost_do_not_give_the_name_away_and_found_again_have_it() {
        let mut record = empty();
        after_restart(&mut record, &[seen(0, A, 1, 1)]);
        let lost = [seen(0, A, 1, 0)];
        let (names, devices) = after_restart(&mut record, &lost);
        assert_eq!(names, ["nvme0n2"], "nothing says that it is the same");
        assert!(waits(&devices, &record, &lost)[0].1.contains("as nvme0n2"));
        assert_eq!(after_restart(&mut record, &lost).0, ["nvme0n2"], "and keeps it, as far as anybody can know");
        assert_eq!(after_restart(&mut record, &[seen(0, A, 1, 1)]).0, ["nvme0n1"]);
        // One that states nothing is known by its place.
        assert_eq!(after_restart(&mut record, &[seen(0, A, 4, 0)]).0, ["nvme0n4"]);
        // One that stated nothing before does not have the name, either.
        let mut record = empty();
        after_restart(&mut record, &lost);
        assert_eq!(after_restart(&mut record, &[seen(0, A, 1, 1)]).0, ["nvme0n2"]);
    }

    #[test]
    fn what_a_disk_states_in_addition_is_remembered() {
        let mut record = empty();
        let both = DiskIdentity { nguid: Some([7; 16]), ..disk(1) };
        let mut devices = Devices::default();
        devices.name(&mut record, &[seen(0, A, 1, 1)]);
        assert_eq!(devices.name(&mut record, &[Seen { disk: both, ..seen(0, A, 1, 1) }]), [], "no new name");
        let nguid = DiskIdentity { uuid: None, ..both };
        assert_eq!(after_restart(&mut record, &[Seen { disk: nguid, ..seen(0, A, 1, 0) }]).0, ["nvme0n1"]);
        assert_eq!(record.names["nvme0n1"].disk(), both, "nothing is forgotten");
        let formatted = DiskIdentity { block_size: 4096, ..both };
        assert_eq!(after_restart(&mut record, &[Seen { disk: formatted, ..seen(0, A, 1, 0) }]).0, ["nvme0n2"]);
    }

    #[test]
    fn two_subsystems_that_swap_their_disks_swap_no_names_and_a_clone_has_its_own() {
        let mut record = empty();
        after_restart(&mut record, &[seen(0, A, 1, 1), seen(1, B, 1, 2)]);
        let swapped = [seen(0, A, 1, 2), seen(1, B, 1, 1)];
        let (names, devices) = after_restart(&mut record, &swapped);
        assert_eq!(names, ["nvme0n2", "nvme1n2"]);
        let waiting = waits(&devices, &record, &swapped);
        assert_eq!(waiting.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(), ["nvme0n1", "nvme1n1"]);
        assert!(waiting[0].1.ends_with("as nvme0n2; a disk of the same identity is nvme1n2"), "{waiting:?}");
        let (names, _) = after_restart(&mut record, &[seen(0, A, 1, 1), seen(1, B, 1, 2)]);
        assert_eq!(names, ["nvme0n1", "nvme1n1"]);
        // Equal identifiers in another subsystem.
        assert_eq!(after_restart(&mut record, &[seen(0, A, 1, 1), seen(1, B, 5, 1)]).0, ["nvme0n1", "nvme1n2"]);
        let mut record = empty();
        assert_eq!(after_restart(&mut record, &[seen(1, B, 5, 1), seen(0, A, 1, 1)]).0, ["nvme1n5", "nvme0n1"]);
        // Two of one subsystem: one name each.
        assert_eq!(after_restart(&mut record, &[seen(0, A, 1, 1), seen(1, A, 2, 1)]).0, ["nvme0n1", "nvme0n2"]);
    }

    #[test]
    fn what_is_refused_at_its_place_is_said_as_long_as_its_controller_is_live() {
        let mut record = empty();
        let mut devices = Devices::default();
        let gone = [Seen { has_path: false, ..seen(0, A, 1, 1) }];
        devices.name(&mut record, &gone);
        assert_eq!(waits(&devices, &record, &gone), [], "paths are lost all the time");
        devices.refused(CtrlId(0), 1, "it states no identifier");
        let expected = "its own disk: what is there is not used: nvme0: it states no identifier";
        assert_eq!(waits(&devices, &record, &gone), [("nvme0n1".into(), expected.into())]);
        assert_eq!(waits(&devices, &record, &[seen(0, A, 1, 1)]), [], "another path leads to it");
        devices.forget(&gone, |ctrl, nsid| (ctrl, nsid) == (CtrlId(0), 1));
        assert_eq!(waits(&devices, &record, &gone), [], "it is not refused any more");
        devices.refused(CtrlId(0), 1, "it states no identifier");
        devices.not_live(CtrlId(0));
        assert_eq!(waits(&devices, &record, &gone), []);
        (0..2 * REFUSED_MAX as u32).for_each(|nsid| devices.refused(CtrlId(0), nsid, "why"));
        assert_eq!(devices.refused.len(), REFUSED_MAX);
    }

    #[test]
    fn names_that_could_not_be_written_down_are_given_to_nobody_else() {
        let mut record = empty();
        let mut devices = Devices::default();
        devices.name(&mut record, &[seen(0, A, 1, 1)]);
        record.names.clear();
        let all = [seen(0, A, 1, 1), seen(1, A, 1, 2)];
        devices.name(&mut record, &all);
        assert_eq!(named(&devices, &record, &all), ["nvme0n1", "nvme0n2"]);
        assert_eq!(record.names.keys().collect::<Vec<_>>(), ["nvme0n1", "nvme0n2"], "and to be written again");
    }

    #[test]
    fn a_target_that_shows_other_disks_all_the_time_fills_no_record() {
        let mut record = empty();
        let subsystem = record.subsystem(A);
        let unique = |n: u32| DiskIdentity { eui64: Some(u64::from(n).to_be_bytes()), ..disk(0) };
        for n in 1..=OF_SUBSYSTEM_MAX as u32 {
            record.names.insert(names::head(subsystem, n), BoundDisk::new((A, n), &unique(n)));
        }
        record.disks.insert("export".into(), BoundDisk::new((A, 17), &unique(17)));
        let mut devices = Devices::default();
        devices.name(&mut record, &[Seen { disk: unique(40), ..seen(0, A, 40, 0) }]);
        let told = devices.name(&mut record, &[seen(1, A, 41, 1)]);
        let forgotten = Naming::Forgotten { subsystem: "nvme-subsys0".into(), names: OF_SUBSYSTEM_MAX - 2 };
        assert_eq!(told[0], forgotten);
        assert_eq!(record.names.keys().collect::<Vec<_>>(), ["nvme0n17", "nvme0n40", "nvme0n41"]);
    }
}

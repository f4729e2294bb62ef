//! What changed in a record since it was last written: a line each, so that what is written grows with what changed and
//! not with what is there.

use super::{BoundDisk, Known, Record, WantedExport};
use interlock_api::ConnectRequest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One change. Applying it twice is the same as once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Change {
    Controller(Known),
    ControllerForgotten(u32),
    Subsystem {
        nqn: String,
        number: u32,
    },
    SubsystemForgotten(String),
    Export(WantedExport),
    ExportEnded(String),
    Disk {
        export: String,
        disk: BoundDisk,
    },
    DiskForgotten(String),
    Name {
        device: String,
        disk: BoundDisk,
    },
    NameForgotten(String),
    /// All of them: there are few.
    Discovery(Vec<ConnectRequest>),
}

/// What a record held when it was last written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    controllers: BTreeMap<u32, Known>,
    subsystems: BTreeMap<String, u32>,
    exports: BTreeMap<String, WantedExport>,
    disks: BTreeMap<String, BoundDisk>,
    names: BTreeMap<String, BoundDisk>,
    discovery: Vec<ConnectRequest>,
}

/// What is to be put and what is to be dropped, to get from `old` to `new`.
fn differing<'a, K: Ord + Clone + 'a, V: PartialEq + 'a>(
    old: &'a BTreeMap<K, V>,
    new: impl Iterator<Item = (&'a K, &'a V)>,
    put: impl Fn(&K, &V) -> Change,
    drop: impl Fn(K) -> Change,
    changes: &mut Vec<Change>,
) {
    let mut same = 0;
    let mut seen: Vec<&K> = Vec::with_capacity(old.len());
    for (key, value) in new {
        match old.get(key) {
            Some(known) if known == value => same += 1,
            _ => changes.push(put(key, value)),
        }
        seen.push(key);
    }
    if same < old.len() {
        seen.sort_unstable();
        changes.extend(old.keys().filter(|key| seen.binary_search(key).is_err()).map(|key| drop(key.clone())));
    }
}

/// The values of `old`, in the order that they have in `now`; those that are not there come first.
fn restored<K: Ord, V: Clone>(old: &BTreeMap<K, V>, now: &[V], key: impl Fn(&V) -> K) -> Vec<V> {
    let kept: Vec<K> = now.iter().map(key).filter(|key| old.contains_key(key)).collect();
    let there: BTreeSet<&K> = kept.iter().collect();
    let dropped = old.iter().filter(|(key, _)| !there.contains(key)).map(|(_, value)| value);
    dropped.chain(kept.iter().filter_map(|key| old.get(key))).cloned().collect()
}

impl Written {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            controllers: record.controllers.iter().map(|known| (known.number, known.clone())).collect(),
            subsystems: record.subsystems.clone(),
            exports: record.exports.iter().map(|export| (export.name.clone(), export.clone())).collect(),
            disks: record.disks.clone(),
            names: record.names.clone(),
            discovery: record.discovery.clone(),
        }
    }

    /// What this record changes.
    pub(super) fn changes(&self, record: &Record) -> Vec<Change> {
        let mut changes = Vec::new();
        let controllers = record.controllers.iter().map(|known| (&known.number, known));
        let put = |_: &u32, known: &Known| Change::Controller(known.clone());
        differing(&self.controllers, controllers, put, Change::ControllerForgotten, &mut changes);
        let put = |nqn: &String, number: &u32| Change::Subsystem { nqn: nqn.clone(), number: *number };
        differing(&self.subsystems, record.subsystems.iter(), put, Change::SubsystemForgotten, &mut changes);
        let exports = record.exports.iter().map(|export| (&export.name, export));
        let put = |_: &String, export: &WantedExport| Change::Export(export.clone());
        differing(&self.exports, exports, put, Change::ExportEnded, &mut changes);
        let put = |export: &String, disk: &BoundDisk| Change::Disk { export: export.clone(), disk: disk.clone() };
        differing(&self.disks, record.disks.iter(), put, Change::DiskForgotten, &mut changes);
        let put = |device: &String, disk: &BoundDisk| Change::Name { device: device.clone(), disk: disk.clone() };
        differing(&self.names, record.names.iter(), put, Change::NameForgotten, &mut changes);
        if self.discovery != record.discovery {
            changes.push(Change::Discovery(record.discovery.clone()));
        }
        changes
    }

    /// Whether this path was written.
    pub(super) fn has_path(&self, number: u32) -> bool {
        self.controllers.contains_key(&number)
    }

    /// What this record changes of one path, and of the number of a subsystem.
    pub(super) fn changes_of_path(&self, record: &Record, number: u32, subnqn: &str) -> Vec<Change> {
        // New ones come last.
        let known = record.controllers.iter().rev().find(|known| known.number == number);
        let known = known.filter(|known| self.controllers.get(&number) != Some(*known));
        let subsystem = record.subsystems.get_key_value(subnqn);
        let subsystem = subsystem.filter(|(nqn, number)| self.subsystems.get(*nqn) != Some(*number));
        let subsystem = subsystem.map(|(nqn, number)| Change::Subsystem { nqn: nqn.clone(), number: *number });
        known.cloned().map(Change::Controller).into_iter().chain(subsystem).collect()
    }

    /// Makes these again what they were when they were last written.
    pub(super) fn restore_path(&self, record: &mut Record, number: u32, subnqn: &str) {
        match self.controllers.get(&number) {
            Some(old) => _ = record.known(number).map(|known| known.clone_from(old)),
            None => record.controllers.retain(|known| known.number != number),
        }
        match self.subsystems.get(subnqn) {
            Some(old) => _ = record.subsystems.insert(subnqn.to_owned(), *old),
            None => _ = record.subsystems.remove(subnqn),
        }
    }

    /// Makes a record again what it was when it was last written. What it holds still keeps its place; what it has dropped
    /// comes first.
    pub(super) fn restore(&self, record: &mut Record) {
        let Self { controllers, subsystems, exports, disks, names, discovery } = self;
        record.controllers = restored(controllers, &record.controllers, |known| known.number);
        record.exports = restored(exports, &record.exports, |export| export.name.clone());
        record.subsystems.clone_from(subsystems);
        record.disks.clone_from(disks);
        record.names.clone_from(names);
        record.discovery.clone_from(discovery);
    }

    /// They were written.
    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Controller(known) => drop(self.controllers.insert(known.number, known)),
                Change::ControllerForgotten(number) => drop(self.controllers.remove(&number)),
                Change::Subsystem { nqn, number } => _ = self.subsystems.insert(nqn, number),
                Change::SubsystemForgotten(nqn) => _ = self.subsystems.remove(&nqn),
                Change::Export(export) => drop(self.exports.insert(export.name.clone(), export)),
                Change::ExportEnded(name) => drop(self.exports.remove(&name)),
                Change::Disk { export, disk } => drop(self.disks.insert(export, disk)),
                Change::DiskForgotten(export) => drop(self.disks.remove(&export)),
                Change::Name { device, disk } => drop(self.names.insert(device, disk)),
                Change::NameForgotten(device) => drop(self.names.remove(&device)),
                Change::Discovery(discovery) => self.discovery = discovery,
            }
        }
    }
}

impl Record {
    /// With changes that were written after it. Those that were known keep their place, new ones come last: the oldest is
    /// forgotten first.
    pub(super) fn with(mut self, changes: Vec<Change>) -> Self {
        let mut places: BTreeMap<u32, usize> =
            self.controllers.iter().enumerate().map(|(place, known)| (known.number, place)).collect();
        let mut controllers: Vec<Option<Known>> = self.controllers.drain(..).map(Some).collect();
        for change in changes {
            match change {
                Change::Controller(known) => match places.get(&known.number) {
                    Some(place) => controllers[*place] = Some(known),
                    None => {
                        places.insert(known.number, controllers.len());
                        controllers.push(Some(known));
                    }
                },
                Change::ControllerForgotten(number) => {
                    if let Some(place) = places.remove(&number) {
                        controllers[place] = None;
                    }
                }
                Change::Subsystem { nqn, number } => _ = self.subsystems.insert(nqn, number),
                Change::SubsystemForgotten(nqn) => _ = self.subsystems.remove(&nqn),
                Change::Export(export) => {
                    self.exports.retain(|old| old.name != export.name);
                    self.exports.push(export);
                }
                Change::ExportEnded(name) => self.exports.retain(|old| old.name != name),
                Change::Disk { export, disk } => drop(self.disks.insert(export, disk)),
                Change::DiskForgotten(export) => drop(self.disks.remove(&export)),
                Change::Name { device, disk } => drop(self.names.insert(device, disk)),
                Change::NameForgotten(device) => drop(self.names.remove(&device)),
                Change::Discovery(discovery) => self.discovery = discovery,
            }
        }
        self.controllers = controllers.into_iter().flatten().collect();
        self
    }
}

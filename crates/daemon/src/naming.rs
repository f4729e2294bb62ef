//! Device names as the service gives them: to what the host has, written down, and told.

use crate::devices::{Naming, Seen, Waiting};
use crate::names;
use crate::refusal::Refusal;
use crate::service::Service;
use interlock_api::{self as api, Level};
use interlock_host::{CtrlId, HeadId, Instant, NamespaceStatus};
use interlock_ring::now;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

/// Names that could not be written down are tried again so often.
const AGAIN: Duration = Duration::from_secs(1);
/// Names that one event tells of.
const TOLD_AT_ONCE: usize = 16;

impl Service {
    /// The last number in the name of each namespace. `all` are those that the host has.
    pub(crate) fn head_numbers(&self, all: &[NamespaceStatus]) -> BTreeMap<HeadId, u32> {
        let seen: Vec<Seen<'_>> = all.iter().map(Seen::from).collect();
        let mut devices = self.devices();
        devices.name_later(&mut self.record().record, &seen);
        all.iter().filter_map(|ns| Some((ns.head, devices.number(ns.head)?))).collect()
    }

    /// The name of each namespace.
    pub(crate) fn head_names(&self, all: &[NamespaceStatus]) -> BTreeMap<HeadId, String> {
        let numbers = self.head_numbers(all);
        let file = self.record();
        let name = |ns: &NamespaceStatus| {
            let subsystem = *file.record.subsystems.get(&ns.subnqn)?;
            Some((ns.head, names::head(subsystem, *numbers.get(&ns.head)?)))
        };
        all.iter().filter_map(name).collect()
    }

    /// How events call a namespace that has just been found.
    pub(crate) fn name_head(&self, head: HeadId) {
        let Ok(Some(found)) = self.host.namespace_of(head) else { return };
        let known = self.devices().number(head);
        let number = known.or_else(|| {
            // Many come at once: all of them have their names with the first.
            let all = self.host.namespaces().ok()?;
            self.head_numbers(&all).get(&head).copied()
        });
        if let Some(number) = number {
            let name = names::head(self.subsystem_number(&found.subnqn), number);
            self.told.name_head(head, name);
        }
    }

    /// Writes down what disk each name is of, and tells it. Called when something has changed at the host; says when it wants
    /// to be called again if nothing does.
    pub(crate) fn bind_names(&self) -> Option<Instant> {
        let all = self.host.namespaces().ok()?;
        let seen: Vec<Seen<'_>> = all.iter().map(Seen::from).collect();
        let paths: BTreeSet<(CtrlId, u32)> =
            all.iter().flat_map(|ns| ns.paths.iter().map(|path| (path.ctrl, ns.nsid))).collect();
        let mut devices = self.devices();
        devices.forget(&seen, |ctrl, nsid| paths.contains(&(ctrl, nsid)));
        let mut file = self.record();
        devices.name_later(&mut file.record, &seen);
        let written = devices.save(&mut file);
        drop(file);
        if let Err(error) = written {
            let text = format!("it cannot be written down which disks device names are of: {error}");
            let is_new = devices.unwritten.replace(text.clone()).as_ref() != Some(&text);
            drop(devices);
            if is_new {
                self.told.note(Level::Error, "names-not-bound", text);
            }
            return Some(now() + AGAIN);
        }
        devices.unwritten = None;
        let untold = devices.take_untold();
        drop(devices);
        self.tell_names(&untold);
        None
    }

    fn tell_names(&self, untold: &[Naming]) {
        let mut bound = Vec::new();
        for naming in untold {
            match naming {
                Naming::Bound { name, disk } => bound.push(format!("{name} is {disk}")),
                Naming::Another { name, disk, nsid, taken, meant } => {
                    let text = format!(
                        "{taken} is the name of {meant}, and another disk is found as namespace {nsid}: {disk} is {name}"
                    );
                    self.told.note(Level::Warn, "name-taken", text);
                }
                Naming::Forgotten { subsystem, names } => {
                    let text = format!("{subsystem}: {names} names of disks that are not there were forgotten");
                    self.told.note(Level::Warn, "names-forgotten", text);
                }
            }
        }
        if bound.is_empty() {
            return;
        }
        let mut text = bound.iter().take(TOLD_AT_ONCE).map(String::as_str).collect::<Vec<_>>().join(", ");
        if bound.len() > TOLD_AT_ONCE {
            // Writing to a String cannot fail.
            let _ = write!(text, " and {} more", bound.len() - TOLD_AT_ONCE);
        }
        self.told.note(Level::Info, "names-bound", format!("device names belong to their disks from now on: {text}"));
    }

    /// Names whose disks are not there, and why.
    pub(crate) fn waiting_names(&self) -> Result<Vec<api::WaitingName>, Refusal> {
        Ok(self.waiting_of(&self.host.namespaces()?))
    }

    /// The same, of what the host has.
    pub(crate) fn waiting_of(&self, all: &[NamespaceStatus]) -> Vec<api::WaitingName> {
        let seen: Vec<Seen<'_>> = all.iter().map(Seen::from).collect();
        let devices = self.devices();
        let file = self.record();
        let of = |ctrl: CtrlId| {
            let known = file.record.controllers.iter().find(|known| known.number == ctrl.0);
            known.map(|known| known.request.subnqn.clone())
        };
        let waiting = devices.waiting(&file.record, &seen, of);
        waiting
            .into_iter()
            .map(|Waiting { name, subsystem, subnqn, nsid, disk, waits_for }| api::WaitingName {
                name,
                subsystem: names::subsystem(subsystem),
                subnqn,
                nsid,
                bound_to: disk.to_string(),
                waits_for,
            })
            .collect()
    }
}

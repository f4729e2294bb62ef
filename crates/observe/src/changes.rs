//! What happened between two snapshots, in words: the timeline of somebody who could only look.
//!
//! A source that has events of its own is better. The kernel has none that name a reason, but it has states and
//! counters, and their differences tell most of a failover: a controller left `live`, requests moved off its paths, it
//! tried to reconnect, it is back.

use crate::model::named_near;
use crate::{Controller, Head, Path, Snapshot, Subsystem, Word};
use serde::Serialize;

/// How much a change matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Good news, or none.
    Info,
    /// Worth a look.
    Warning,
    /// Somebody's I/O suffers.
    Critical,
}

/// One thing that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The subsystem it belongs to.
    pub subsystem: String,
    /// Controller, path or namespace.
    pub device: String,
    /// What, in words.
    pub what: String,
    /// How much it matters.
    pub weight: Weight,
}

/// What changed from `before` to `now`, in the order of `now`.
#[must_use]
pub fn between(before: &Snapshot, now: &Snapshot) -> Vec<Change> {
    let mut found = Vec::new();
    let name: fn(&Subsystem) -> &String = |subsystem| &subsystem.name;
    let (old, new) = (&before.subsystems, &now.subsystems);
    for (at, subsystem) in new.iter().enumerate() {
        match named_near(old, at, name, &subsystem.name) {
            Some(old) => in_subsystem(old, subsystem, &mut found),
            None => note(&mut found, subsystem, &subsystem.name, "appeared".to_owned(), Weight::Info),
        }
    }
    for gone in gone(old, new, name) {
        note(&mut found, gone, &gone.name, "is gone".to_owned(), Weight::Warning);
    }
    found
}

/// Those of `old` that are not in `now`.
fn gone<'a, T>(old: &'a [T], now: &'a [T], name: fn(&T) -> &String) -> impl Iterator<Item = &'a T> {
    let left = move |(at, one): &(usize, &T)| named_near(now, *at, name, name(one)).is_none();
    old.iter().enumerate().filter(left).map(|(_, one)| one)
}

fn note(found: &mut Vec<Change>, subsystem: &Subsystem, device: &str, what: String, weight: Weight) {
    found.push(Change { subsystem: subsystem.name.clone(), device: device.to_owned(), what, weight });
}

fn in_subsystem(old: &Subsystem, now: &Subsystem, found: &mut Vec<Change>) {
    let name: fn(&Controller) -> &String = |controller| &controller.name;
    for (at, controller) in now.controllers.iter().enumerate() {
        match named_near(&old.controllers, at, name, &controller.name) {
            Some(before) => in_controller(now, before, controller, found),
            None => note(found, now, &controller.name, format!("appeared, {}", controller.state), Weight::Info),
        }
    }
    for gone in gone(&old.controllers, &now.controllers, name) {
        note(found, now, &gone.name, "was removed".to_owned(), Weight::Warning);
    }
    let name: fn(&Head) -> &String = |head| &head.name;
    for (at, head) in now.namespaces.iter().enumerate() {
        match named_near(&old.namespaces, at, name, &head.name) {
            Some(before) => in_head(now, before, head, found),
            None => note(found, now, &head.name, format!("namespace{} appeared", nsid(head)), Weight::Info),
        }
    }
    for gone in gone(&old.namespaces, &now.namespaces, name) {
        note(found, now, &gone.name, format!("namespace{} was removed", nsid(gone)), Weight::Warning);
    }
    if old.live() > 0 && now.live() == 0 && !now.controllers.is_empty() {
        note(found, now, &now.name, "has no live controller: I/O waits or fails".to_owned(), Weight::Critical);
    }
    if old.iopolicy != now.iopolicy
        && let (Some(from), Some(to)) = (&old.iopolicy, &now.iopolicy)
    {
        note(found, now, &now.name, format!("iopolicy {from} -> {to}"), Weight::Info);
    }
}

/// Its identifier after a blank, if it is known.
fn nsid(head: &Head) -> String {
    head.nsid.map_or_else(String::new, |nsid| format!(" {nsid}"))
}

fn in_controller(subsystem: &Subsystem, old: &Controller, now: &Controller, found: &mut Vec<Change>) {
    if old.state != now.state {
        let weight = if now.is_live() { Weight::Info } else { Weight::Warning };
        note(found, subsystem, &now.name, format!("{} -> {}", old.state, now.state), weight);
    }
    for (before, after, what) in [
        (old.counters.reset_count, now.counters.reset_count, "reset"),
        (old.counters.reconnect_count, now.counters.reconnect_count, "attempt to reconnect"),
        (old.counters.command_error_count, now.counters.command_error_count, "admin command error"),
    ] {
        risen(subsystem, &now.name, before, after, what, Weight::Warning, found);
    }
}

fn in_head(subsystem: &Subsystem, old: &Head, now: &Head, found: &mut Vec<Change>) {
    let name: fn(&Path) -> &String = |path| &path.name;
    for (at, path) in now.paths.iter().enumerate() {
        if let Some(before) = named_near(&old.paths, at, name, &path.name) {
            in_path(subsystem, before, path, found);
        } else {
            note(found, subsystem, &path.name, format!("path through {} appeared", path.controller), Weight::Info);
        }
    }
    for gone in gone(&old.paths, &now.paths, name) {
        note(found, subsystem, &gone.name, format!("path through {} is gone", gone.controller), Weight::Warning);
    }
    let (before, after) = (&old.counters, &now.counters);
    risen(
        subsystem,
        &now.name,
        before.io_requeue_no_usable_path_count,
        after.io_requeue_no_usable_path_count,
        "I/O put aside for want of a usable path",
        Weight::Warning,
        found,
    );
    risen(
        subsystem,
        &now.name,
        before.io_fail_no_available_path_count,
        after.io_fail_no_available_path_count,
        "I/O failed for want of any path",
        Weight::Critical,
        found,
    );
    if let (Some(from), Some(to)) = (old.size_bytes, now.size_bytes)
        && from != to
    {
        note(found, subsystem, &now.name, format!("resized from {from} to {to} bytes"), Weight::Info);
    }
}

fn in_path(subsystem: &Subsystem, old: &Path, now: &Path, found: &mut Vec<Change>) {
    if old.ana_state != now.ana_state
        && let (Some(from), Some(to)) = (&old.ana_state, &now.ana_state)
    {
        let weight = if matches!(to, Word::Known(state) if state.is_usable()) { Weight::Info } else { Weight::Warning };
        note(found, subsystem, &now.name, format!("ANA {from} -> {to}"), weight);
    }
    for (before, after, what) in [
        (old.counters.multipath_failover_count, now.counters.multipath_failover_count, "failover to another path"),
        (old.counters.command_retries_count, now.counters.command_retries_count, "retry on the same path"),
        (old.counters.command_error_count, now.counters.command_error_count, "command error"),
    ] {
        risen(subsystem, &now.name, before, after, what, Weight::Warning, found);
    }
}

fn risen(
    subsystem: &Subsystem,
    device: &str,
    before: Option<u64>,
    after: Option<u64>,
    what: &str,
    weight: Weight,
    found: &mut Vec<Change>,
) {
    let (Some(before), Some(after)) = (before, after) else { return };
    if after > before {
        note(found, subsystem, device, format!("{what} +{} ({after} in all)", after - before), weight);
    } else if after < before {
        note(found, subsystem, device, format!("{what}: counter set from {before} to {after}"), Weight::Info);
    }
}

//! Our controllers as files, laid out as Linux 7.3 lays out the kernel's in `/sys`.
//!
//! Tools and scripts of twenty years read these files; nothing has to be taught to them. A [`Tree`] is a snapshot by path:
//! it resolves a path to a directory, a link or an attribute without a file system, so that everything can be tested
//! without a mount. `mount` carries it to the kernel. What can be written is an [`Order`], which somebody else carries
//! out.

mod attributes;
mod mount;

pub use mount::{Mount, MountError, Operator};

use crate::{Controller, Counter, CounterName, Head, Path, Snapshot, Subsystem};
use attributes::{Attribute, Of};
use std::collections::{BTreeMap, BTreeSet};

/// What a write into an attribute asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Let a counter show this.
    Count(Counter, u64),
    /// Seconds between attempts to reconnect, of a controller.
    ReconnectDelay(String, u32),
    /// Seconds until a lost controller is given up; negative: never.
    CtrlLossTmo(String, i64),
    /// Seconds until requests of a lost controller fail; negative: off.
    FastIoFailTmo(String, i64),
    /// How a path of a subsystem is chosen.
    IoPolicy(String, String),
    /// End the life of a controller in order, and begin a new one.
    Reset(String),
    /// Look at the namespaces of a controller now.
    Rescan(String),
    /// Disconnect a controller.
    Delete(String),
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory, mode 0755.
    Directory,
    /// A symbolic link, and where it leads.
    Link(String),
    /// An attribute, by its mode.
    Attribute(u16),
}

/// Where a device is in the snapshot.
#[derive(Clone, Copy, Debug)]
enum Place {
    Subsystem(usize),
    Controller(usize, usize),
    Head(usize, usize),
    Path(usize, usize, usize),
}

/// A device with everything above it.
#[derive(Clone, Copy, Debug)]
struct Device<'a> {
    subsystem: &'a Subsystem,
    controller: Option<&'a Controller>,
    head: Option<&'a Head>,
    path: Option<&'a Path>,
}

/// A snapshot as files. Paths are relative to the root: `sys/class/nvme/nvme0`.
#[derive(Debug, Default)]
pub struct Tree {
    snapshot: Snapshot,
    devices: BTreeMap<String, Place>,
    links: BTreeMap<String, String>,
    /// Directories that are no device.
    plain: BTreeSet<String>,
}

const CTL: &str = "sys/devices/virtual/nvme-fabrics/ctl";
const SUBSYSTEMS: &str = "sys/devices/virtual/nvme-subsystem";

impl Tree {
    /// The tree of a snapshot.
    #[must_use]
    pub fn of(snapshot: Snapshot) -> Self {
        let mut tree = Self::default();
        for directory in [
            CTL,
            SUBSYSTEMS,
            "sys/class/nvme",
            "sys/class/nvme-subsystem",
            "sys/class/nvme-fabrics",
            "sys/class/block",
            "sys/block",
            // `nvme list -v` looks for slots.
            "sys/bus/pci/slots",
        ] {
            tree.directory(directory);
        }
        tree.link("sys/class/nvme-fabrics/ctl", "../../devices/virtual/nvme-fabrics/ctl");
        tree.link(&format!("{CTL}/subsystem"), "../../../../class/nvme-fabrics");
        for (number, subsystem) in snapshot.subsystems.iter().enumerate() {
            tree.subsystem(number, subsystem);
        }
        tree.snapshot = snapshot;
        tree
    }

    fn directory(&mut self, path: &str) {
        let mut at = 0;
        while let Some(slash) = path[at..].find('/') {
            self.plain.insert(path[..at + slash].to_owned());
            at += slash + 1;
        }
        self.plain.insert(path.to_owned());
    }

    fn link(&mut self, from: &str, to: &str) {
        self.links.insert(from.to_owned(), to.to_owned());
    }

    fn subsystem(&mut self, number: usize, subsystem: &Subsystem) {
        let name = &subsystem.name;
        let root = format!("{SUBSYSTEMS}/{name}");
        self.devices.insert(root.clone(), Place::Subsystem(number));
        self.link(&format!("{root}/subsystem"), "../../../../class/nvme-subsystem");
        self.link(&format!("sys/class/nvme-subsystem/{name}"), &format!("../../devices/virtual/nvme-subsystem/{name}"));
        for (at, controller) in subsystem.controllers.iter().enumerate() {
            let name = &controller.name;
            let device = format!("{CTL}/{name}");
            self.link(&format!("{root}/{name}"), &format!("../../nvme-fabrics/ctl/{name}"));
            self.link(&format!("sys/class/nvme/{name}"), &format!("../../devices/virtual/nvme-fabrics/ctl/{name}"));
            self.link(&format!("{device}/device"), "../../ctl");
            self.link(&format!("{device}/subsystem"), "../../../../../class/nvme");
            self.devices.insert(device, Place::Controller(number, at));
        }
        for (at, head) in subsystem.namespaces.iter().enumerate() {
            let device = format!("{root}/{}", head.name);
            self.link(
                &format!("sys/block/{}", head.name),
                &format!("../devices/virtual/nvme-subsystem/{name}/{}", head.name),
            );
            self.link(&format!("{device}/device"), &format!("../../{name}"));
            self.link(&format!("{device}/subsystem"), "../../../../../class/block");
            self.plain.insert(format!("{device}/multipath"));
            for (which, path) in head.paths.iter().enumerate() {
                let below = format!("nvme-fabrics/ctl/{}/{}", path.controller, path.name);
                self.link(&format!("{device}/multipath/{}", path.name), &format!("../../../../{below}"));
                self.link(&format!("sys/block/{}", path.name), &format!("../devices/virtual/{below}"));
                let place = format!("sys/devices/virtual/{below}");
                self.link(&format!("{place}/device"), &format!("../../{}", path.controller));
                self.link(&format!("{place}/subsystem"), "../../../../../../class/block");
                self.devices.insert(place, Place::Path(number, at, which));
            }
            self.devices.insert(device, Place::Head(number, at));
        }
    }

    fn device(&self, place: Place) -> (Device<'_>, Of) {
        let of = |number: usize| &self.snapshot.subsystems[number];
        let bare = |subsystem| Device { subsystem, controller: None, head: None, path: None };
        match place {
            Place::Subsystem(number) => (bare(of(number)), Of::Subsystem),
            Place::Controller(number, at) => {
                let device = bare(of(number));
                (Device { controller: Some(&device.subsystem.controllers[at]), ..device }, Of::Controller)
            }
            Place::Head(number, at) => {
                let device = bare(of(number));
                (Device { head: Some(&device.subsystem.namespaces[at]), ..device }, Of::Head)
            }
            Place::Path(number, at, which) => {
                let device = bare(of(number));
                let head = &device.subsystem.namespaces[at];
                let path = &head.paths[which];
                let controller = device.subsystem.controller(&path.controller);
                (Device { controller, head: Some(head), path: Some(path), ..device }, Of::Path)
            }
        }
    }

    /// The device that `path` is below of, and the rest of the path.
    fn above<'p>(&self, path: &'p str) -> Option<(Device<'_>, Of, &'p str)> {
        let ends = path.rmatch_indices('/').map(|(at, _)| at);
        ends.into_iter().find_map(|at| {
            let (device, of) = self.device(*self.devices.get(&path[..at])?);
            Some((device, of, &path[at + 1..]))
        })
    }

    fn attribute(&self, path: &str) -> Option<(Device<'_>, &'static Attribute)> {
        let (device, of, name) = self.above(path)?;
        let attribute = of.attributes().iter().find(|attribute| attribute.name == name)?;
        // What is not known has no file, as in the kernel what does not apply has none.
        (attribute.show)(&device).map(|_| (device, attribute))
    }

    /// What is at `path`; the root is the empty path.
    #[must_use]
    pub fn node(&self, path: &str) -> Option<Node> {
        if path.is_empty() || self.plain.contains(path) || self.devices.contains_key(path) {
            return Some(Node::Directory);
        }
        if let Some(to) = self.links.get(path) {
            return Some(Node::Link(to.clone()));
        }
        if let Some((_, attribute)) = self.attribute(path) {
            return Some(Node::Attribute(attribute.mode));
        }
        let (_, of, name) = self.above(path)?;
        let group = |attribute: &&Attribute| attribute.name.split_once('/').is_some_and(|(group, _)| group == name);
        of.attributes().iter().find(group).map(|_| Node::Directory)
    }

    /// The names in a directory, in order; `None` if there is none.
    #[must_use]
    pub fn list(&self, path: &str) -> Option<Vec<String>> {
        if self.node(path)? != Node::Directory {
            return None;
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let mut names = BTreeSet::new();
        let mut below = |whole: &str| {
            let rest = whole.strip_prefix(&prefix)?;
            names.insert(rest.split('/').next()?.to_owned());
            Some(())
        };
        let from = prefix.clone()..;
        self.plain.range(from.clone()).map_while(|path| below(path)).for_each(drop);
        self.devices.range(from.clone()).map_while(|(path, _)| below(path)).for_each(drop);
        self.links.range(from).map_while(|(path, _)| below(path)).for_each(drop);
        let device = self.devices.get(path).map(|place| (self.device(*place), ""));
        let device = device.or_else(|| self.above(path).map(|(device, of, group)| ((device, of), group)));
        if let Some(((device, of), group)) = device {
            for attribute in of.attributes().iter().filter(|attribute| (attribute.show)(&device).is_some()) {
                let name = if group.is_empty() { attribute.name.split('/').next() } else { attribute.in_group(group) };
                names.extend(name.map(str::to_owned));
            }
        }
        names.remove("");
        Some(names.into_iter().collect())
    }

    /// The text of an attribute; `None` if there is none, or it is for writing only.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<String> {
        let (device, attribute) = self.attribute(path)?;
        // An empty list is an empty file, as the kernel prints it.
        let line = |text: String| if text.is_empty() { text } else { text + "\n" };
        (attribute.mode & 0o444 != 0).then(|| (attribute.show)(&device).map(line))?
    }

    /// What writing `text` into an attribute asks for; `None` if there is none that can be written.
    ///
    /// # Errors
    /// If the text is not what the attribute takes: EINVAL.
    #[must_use]
    pub fn write(&self, path: &str, text: &str) -> Option<Result<Order, Invalid>> {
        let (device, attribute) = self.attribute(path)?;
        let store = attribute.store.as_ref()?;
        Some(store(&device, text.trim_end_matches('\n').trim()).ok_or(Invalid))
    }
}

/// A text that an attribute does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

impl Device<'_> {
    fn counter(&self, name: CounterName, value: u64) -> Option<Order> {
        let device = match name {
            CounterName::ControllerErrors | CounterName::Resets | CounterName::Reconnects => &self.controller?.name,
            CounterName::Retries | CounterName::PathErrors | CounterName::Failovers => &self.path?.name,
            CounterName::Requeued | CounterName::Failed => &self.head?.name,
        };
        Some(Order::Count(Counter { device: device.clone(), name }, value))
    }
}

#[cfg(test)]
mod tests;

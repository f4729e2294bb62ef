//! The recent past of every device: what the sparklines show and what rates are computed from.

use interlock_observe::{Io, Rates, Snapshot};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Samples kept of a device: two minutes at one a second.
pub(crate) const KEPT: usize = 120;

/// Rates per device name, newest last.
#[derive(Debug, Default)]
pub(crate) struct History {
    at: Option<Duration>,
    interval: Duration,
    devices: BTreeMap<String, Device>,
}

#[derive(Debug, Default)]
struct Device {
    io: Option<Io>,
    rates: VecDeque<Rates>,
}

impl History {
    /// Takes in a sample. Devices that are gone are forgotten.
    pub(crate) fn add(&mut self, snapshot: &Snapshot) {
        self.interval = self.at.map_or(Duration::ZERO, |at| snapshot.at.saturating_sub(at));
        self.at = Some(snapshot.at);
        let mut before = std::mem::take(&mut self.devices);
        for subsystem in &snapshot.subsystems {
            let mut heads = Vec::new();
            let mut by_controller: BTreeMap<&str, Vec<Rates>> = BTreeMap::new();
            for head in &subsystem.namespaces {
                for path in &head.paths {
                    // Without multipath the namespace is its own path: one device, counted once.
                    let rates = self.device(&mut before, &path.name, path.io);
                    by_controller.entry(&path.controller).or_default().push(rates);
                }
                let rates = if self.devices.contains_key(&head.name) {
                    self.latest(&head.name)
                } else {
                    self.device(&mut before, &head.name, head.io)
                };
                heads.push(rates);
            }
            for controller in &subsystem.controllers {
                let rates = by_controller.remove(controller.name.as_str()).unwrap_or_default();
                self.sum(&mut before, &controller.name, rates);
            }
            self.sum(&mut before, &subsystem.name, heads);
        }
    }

    fn device(&mut self, before: &mut BTreeMap<String, Device>, name: &str, io: Option<Io>) -> Rates {
        let mut device = before.remove(name).unwrap_or_default();
        let rates = io.map(|io| Rates::between(device.io.as_ref(), &io, self.interval)).unwrap_or_default();
        device.io = io;
        self.keep(name, device, rates);
        rates
    }

    fn sum(&mut self, before: &mut BTreeMap<String, Device>, name: &str, parts: Vec<Rates>) {
        let device = before.remove(name).unwrap_or_default();
        self.keep(name, device, Rates::together(parts));
    }

    fn keep(&mut self, name: &str, mut device: Device, rates: Rates) {
        if device.rates.len() == KEPT {
            device.rates.pop_front();
        }
        device.rates.push_back(rates);
        self.devices.insert(name.to_owned(), device);
    }

    /// The latest rates of a device; nothing is zero.
    pub(crate) fn latest(&self, name: &str) -> Rates {
        self.devices.get(name).and_then(|device| device.rates.back()).copied().unwrap_or_default()
    }

    /// All that is kept of a device, oldest first.
    pub(crate) fn past(&self, name: &str) -> impl ExactSizeIterator<Item = &Rates> {
        static NOTHING: VecDeque<Rates> = VecDeque::new();
        self.devices.get(name).map_or(&NOTHING, |device| &device.rates).iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_observe::{Controller, Head, Path, Subsystem};

    fn snapshot(at_s: u64, reads: u64) -> Snapshot {
        let io = Some(Io { reads, ..Io::default() });
        let path = |name: &str, controller: &str| Path {
            name: name.into(),
            controller: controller.into(),
            io,
            ..Path::default()
        };
        let controller = |name: &str| Controller { name: name.into(), ..Controller::default() };
        Snapshot {
            at: Duration::from_secs(at_s),
            subsystems: vec![Subsystem {
                name: "nvme-subsys0".into(),
                controllers: vec![controller("nvme0"), controller("nvme1")],
                namespaces: vec![Head {
                    name: "nvme0n1".into(),
                    io: Some(Io { reads: 2 * reads, ..Io::default() }),
                    paths: vec![path("nvme0c0n1", "nvme0"), path("nvme0c1n1", "nvme1")],
                    ..Head::default()
                }],
                ..Subsystem::default()
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_of_devices_and_of_what_they_make_up() {
        let mut history = History::default();
        history.add(&snapshot(1, 0));
        history.add(&snapshot(3, 100));
        for (name, iops) in [("nvme0c0n1", 50.0), ("nvme0", 50.0), ("nvme0n1", 100.0), ("nvme-subsys0", 100.0)] {
            assert!((history.latest(name).iops() - iops).abs() < 1e-9, "{name}");
        }
    }

    #[test]
    fn the_past_is_bounded_and_what_is_gone_is_forgotten() {
        let mut history = History::default();
        for second in 0..(KEPT as u64 + 50) {
            history.add(&snapshot(second, second));
        }
        assert_eq!(history.past("nvme0n1").len(), KEPT);
        history.add(&Snapshot { at: Duration::from_secs(1000), subsystems: Vec::new(), ..Snapshot::default() });
        assert_eq!(history.past("nvme0n1").len(), 0);
        assert!(history.devices.is_empty());
    }
}

//! The recent past of every device: what the sparklines show and what rates and percentiles are computed from.

use interlock_api::Histogram;
use interlock_observe::{Io, Percentiles, Rates, Snapshot, Times};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Samples kept of a device: two minutes at one a second.
pub(crate) const KEPT: usize = 120;

/// Rates per device name, newest last.
#[derive(Debug, Default)]
pub(crate) struct History {
    at: Option<Duration>,
    interval: Duration,
    devices: HashMap<String, Device>,
    /// The source keeps histograms.
    spread: bool,
}

/// What a device did between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moment {
    pub(crate) rates: Rates,
    /// Of reads and writes; `None` if none ended.
    pub(crate) spread: Option<Percentiles>,
}

#[derive(Debug, Default)]
struct Device {
    io: Option<Io>,
    /// How long reads and writes took, since the device appeared.
    times: Option<Histogram>,
    past: VecDeque<Moment>,
}

/// What a part of something did: its rates, and how long reads and writes took, for those above it.
type Part = (Rates, Option<Histogram>);

impl History {
    /// Takes in a sample. Devices that are gone are forgotten.
    pub(crate) fn add(&mut self, snapshot: &Snapshot) {
        self.interval = self.at.map_or(Duration::ZERO, |at| snapshot.at.saturating_sub(at));
        self.at = Some(snapshot.at);
        let room = self.devices.len();
        let mut before = std::mem::replace(&mut self.devices, HashMap::with_capacity(room));
        for subsystem in &snapshot.subsystems {
            let mut heads = Vec::new();
            let mut by_controller: HashMap<&str, Vec<Part>> = HashMap::new();
            for head in &subsystem.namespaces {
                for path in &head.paths {
                    // Without multipath the namespace is its own path: one device, counted once.
                    let part = self.device(&mut before, &path.name, path.io, path.times.as_deref());
                    by_controller.entry(&path.controller).or_default().push(part);
                }
                heads.push(if self.devices.contains_key(&head.name) {
                    (self.latest(&head.name).rates, None)
                } else {
                    self.device(&mut before, &head.name, head.io, head.times.as_deref())
                });
            }
            for controller in &subsystem.controllers {
                let parts = by_controller.remove(controller.name.as_str()).unwrap_or_default();
                self.sum(&mut before, &controller.name, parts);
            }
            self.sum(&mut before, &subsystem.name, heads);
        }
    }

    fn device(
        &mut self,
        before: &mut HashMap<String, Device>,
        name: &str,
        io: Option<Io>,
        times: Option<&Times>,
    ) -> Part {
        let (name, mut device) = known(before, name);
        let rates = io.map(|io| Rates::between(device.io.as_ref(), &io, self.interval)).unwrap_or_default();
        self.spread |= times.is_some();
        let times = times.map(Times::reads_and_writes);
        let took = times.as_ref().zip(device.times.as_ref()).map(|(now, before)| now.since(before));
        device.io = io;
        device.times = times;
        self.keep(name, device, rates, took.as_ref());
        (rates, took)
    }

    fn sum(&mut self, before: &mut HashMap<String, Device>, name: &str, parts: Vec<Part>) {
        let (name, device) = known(before, name);
        let rates = Rates::together(parts.iter().map(|(rates, _)| *rates));
        let took = parts.into_iter().filter_map(|(_, took)| took).reduce(|mut all, part| {
            all.add(&part);
            all
        });
        self.keep(name, device, rates, took.as_ref());
    }

    fn keep(&mut self, name: String, mut device: Device, rates: Rates, took: Option<&Histogram>) {
        if device.past.len() == KEPT {
            device.past.pop_front();
        }
        device.past.push_back(Moment { rates, spread: took.and_then(Percentiles::of) });
        self.devices.insert(name, device);
    }

    /// True if the source tells how times spread, and not only their sums.
    pub(crate) const fn knows_spread(&self) -> bool {
        self.spread
    }

    /// What a device did lately; nothing is zero.
    pub(crate) fn latest(&self, name: &str) -> Moment {
        self.devices.get(name).and_then(|device| device.past.back()).copied().unwrap_or_default()
    }

    /// All that is kept of a device, oldest first.
    pub(crate) fn past(&self, name: &str) -> impl ExactSizeIterator<Item = &Moment> + DoubleEndedIterator {
        static NOTHING: VecDeque<Moment> = VecDeque::new();
        self.devices.get(name).map_or(&NOTHING, |device| &device.past).iter()
    }
}

/// What was known of a device, under its name.
fn known(before: &mut HashMap<String, Device>, name: &str) -> (String, Device) {
    before.remove_entry(name).unwrap_or_else(|| (name.to_owned(), Device::default()))
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
            assert!((history.latest(name).rates.iops() - iops).abs() < 1e-9, "{name}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_interval_also_of_what_devices_make_up() {
        let with = |at_s, times: &[(u64, u64)]| {
            let mut snapshot = snapshot(at_s, at_s);
            let read = Histogram(times.iter().map(|&(below, count)| (Some(below), count)).collect());
            let times = Some(Box::new(Times { read, ..Times::default() }));
            let head = &mut snapshot.subsystems[0].namespaces[0];
            head.times.clone_from(&times);
            head.paths[1].times.clone_from(&times);
            snapshot
        };
        let mut history = History::default();
        history.add(&snapshot(0, 0));
        assert!(!history.knows_spread(), "sums alone");
        history.add(&with(1, &[(8000, 500)]));
        assert!(history.knows_spread());
        assert_eq!(history.latest("nvme0n1").spread, None, "what was before the first look says nothing of now");
        history.add(&with(2, &[(1000, 90), (8000, 510)]));
        let seen = Some(Percentiles { p50_ms: 1.0, p99_ms: 8.0 });
        for name in ["nvme0c1n1", "nvme1", "nvme0n1", "nvme-subsys0"] {
            assert_eq!(history.latest(name).spread, seen, "{name}");
        }
        assert_eq!(history.latest("nvme0c0n1").spread, None);
        history.add(&with(3, &[(1000, 90), (8000, 510)]));
        assert_eq!(history.latest("nvme0n1").spread, None, "nothing ended");
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

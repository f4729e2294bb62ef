//! What is measured.

use interlock_base::Rng;
use std::time::Duration;

/// The goal for the cases with a bar: the median of the ratio to the limit program.
pub(crate) const BAR: f64 = 0.90;

/// The goal for the lower quartile of the ratio.
pub(crate) const LOWER_BAR: f64 = 0.80;

/// What the host is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scene {
    pub(crate) memory: bool,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    pub(crate) connections: u16,
    /// Reactors look for news before they sleep.
    pub(crate) spin: bool,
}

/// The plain one: a null namespace, no digests, one connection.
const PLAIN: Scene = Scene { memory: false, header_digest: false, data_digest: false, connections: 1, spin: true };

/// Who asks for the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// A service on the host's reactor, through the library.
    Library,
    /// A client of an NBD export, a thread of its own.
    Nbd,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) scene: Scene,
    pub(crate) door: Door,
    /// Of a hundred requests, so many read.
    pub(crate) reads: u64,
    pub(crate) blocks: u32,
    /// Requests in flight, per connection.
    pub(crate) depth: u32,
    /// It has a goal.
    pub(crate) bar: bool,
}

impl Case {
    fn new(name: &str, scene: Scene, reads: u64, blocks: u32, depth: u32, bar: bool) -> Self {
        let name = format!("{} KiB {name}", 4 * blocks);
        Self { name, scene, door: Door::Library, reads, blocks, depth, bar }
    }

    pub(crate) const fn plan(&self, duration: Duration, seed: u64) -> Plan {
        Plan { reads: self.reads, depth: self.depth, blocks: self.blocks, duration, seed }
    }

    /// Every case: those with a bar first.
    pub(crate) fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for (name, reads) in [("read", 100), ("write", 0)] {
            cases.extend([1, 8, 32, 128].map(|depth| Self::new(name, PLAIN, reads, 1, depth, true)));
            cases.extend([8, 32].map(|depth| Self::new(name, PLAIN, reads, 32, depth, true)));
        }
        let other = |name: &str, scene, reads| Self::new(name, scene, reads, 1, 32, false);
        let memory = Scene { memory: true, ..PLAIN };
        let header = Scene { header_digest: true, ..PLAIN };
        let both = Scene { data_digest: true, ..header };
        for (name, reads) in [("read", 100), ("write", 0)] {
            cases.push(other(&format!("{name}, memory"), memory, reads));
            cases.push(other(&format!("{name}, header digest"), header, reads));
            cases.push(other(&format!("{name}, both digests"), both, reads));
            cases.push(other(&format!("{name}, 4 connections"), Scene { connections: 4, ..PLAIN }, reads));
            let nbd = other(&format!("{name}, through NBD"), memory, reads);
            cases.push(Self { door: Door::Nbd, ..nbd });
            for depth in [1, 32] {
                let no_spin = Scene { spin: false, ..PLAIN };
                cases.push(Self::new(&format!("{name}, spin off"), no_spin, reads, 1, depth, false));
            }
        }
        cases.push(other("70 % read", PLAIN, 70));
        cases
    }
}

/// What to run in one round of one case.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Of a hundred requests, so many read.
    pub(crate) reads: u64,
    pub(crate) depth: u32,
    pub(crate) blocks: u32,
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
}

impl Plan {
    /// Whether the next request reads.
    pub(crate) fn reads(&self, dice: &mut Rng) -> bool {
        match self.reads {
            0 => false,
            100 => true,
            part => dice.below(100) < part,
        }
    }

    /// The same, so many times side by side.
    pub(crate) const fn times(self, connections: u16) -> Self {
        Self { depth: self.depth * connections as u32, ..self }
    }
}

//! SIGKILL of either side under verified load.
//!
//! A process that is killed ends nothing in order: what it had in flight is decided by what lies on the disk, in the
//! kernel, and with its peer. Both sides are children, as a user runs them; only their kernel is shared.

mod child;
mod host;
mod target;

use super::{Bench, Case, Depth, Setup};
use anyhow::Result;
pub use child::main as child_main;

/// How often each side is killed: as often as the promise says, or what a change's check has time for.
const TIMES: (u32, u32) = (5, 50);

/// The namespace that is served: a file, because a target that is killed must find it again.
const NSID: u32 = 1;

/// Slots of the load, and blocks in each.
const SLOTS: usize = 64;
const SLOT_BLOCKS: u32 = 4;

pub(super) const CASES: &[Case<Sigkill>] = &[
    Case {
        name: "sigkill-target",
        proves: "the target is killed under load and started again: every answered write is there, the host recovers",
        from: Depth::Quick,
        steps: target::killed,
    },
    Case {
        name: "sigkill-host",
        proves: "the host is killed under load, writes held inside the target: the successor fences, no old write lands",
        from: Depth::Quick,
        steps: host::killed,
    },
    Case {
        name: "connect-storm",
        proves: "2,000 connects and disconnects leave the target as it was: status, descriptors, memory",
        from: Depth::Quick,
        steps: target::storm,
    },
];

/// The bench: every case starts its own target.
pub(super) struct Sigkill {
    setup: Setup,
}

impl Sigkill {
    pub(super) fn start(setup: Setup) -> Result<Self> {
        std::fs::create_dir_all(&setup.dir)?;
        Ok(Self { setup })
    }
}

impl Bench for Sigkill {
    fn before(&mut self, _case: &str) -> Result<()> {
        Ok(())
    }

    fn after(&mut self, _case: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// A number from `low` to below `high` that looks drawn and is the same in every run.
fn drawn(round: u32, low: u64, high: u64) -> u64 {
    low + u64::from(round).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23) % (high - low)
}

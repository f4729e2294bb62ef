//! A dead wire between our host and our target.
//!
//! Loopback never loses a packet, so on it nothing shows what a kernel goes on sending after its program has decided to
//! stop. Here both ends have namespaces of their own and two wires between them; one is cut, slowed or narrowed while
//! writes are queued on it, and what passed is captured on both sides of the place where it happens.

mod capture;
mod dead;
mod host;
mod net;
mod rough;
mod world;

pub use host::main as host_main;

use super::{Bench, Case, Depth, Setup};
use anyhow::Result;

pub(super) const CASES: &[Case<Wire>] = &[
    Case {
        name: "dead-out",
        proves: "the host's packets vanish with 1 MiB of writes queued, healed after the fence: no byte leaves after t0",
        from: Depth::Full,
        steps: dead::out,
    },
    Case {
        name: "dead-back",
        proves: "the target's packets vanish: the writes are executed and nobody hears of it; no byte leaves after t0",
        from: Depth::Full,
        steps: dead::back,
    },
    Case {
        name: "dead-both-healed-before-fence",
        proves: "both directions dead, healed while the writes are held: nothing of the condemned life arrives",
        from: Depth::Quick,
        steps: dead::healed_before,
    },
    Case {
        name: "dead-both-healed-at-fence",
        proves: "the same, healed in the moment in which the hold ends",
        from: Depth::Full,
        steps: dead::healed_at,
    },
    Case {
        name: "dead-both-healed-after-fence",
        proves: "the same, healed after the writes were repeated over the other wire",
        from: Depth::Full,
        steps: dead::healed_after,
    },
    Case {
        name: "dead-both-ccr",
        proves: "a target with CCR: the dead life is reset through the other wire",
        from: Depth::Full,
        steps: dead::ccr,
    },
    Case {
        name: "blip",
        proves: "both directions dead for less than a Keep Alive: no life is lost, everything is answered",
        from: Depth::Full,
        steps: dead::blip,
    },
    Case {
        name: "host-killed",
        proves: "SIGKILL with 1 MiB queued on the dead wire: no byte leaves after it, the successor fences and rewrites",
        from: Depth::Full,
        steps: dead::killed,
    },
    Case {
        name: "host-killed-long-wire",
        proves: "SIGKILL with bytes under way on a wire of 200 ms: only what the network carried already arrives",
        from: Depth::Full,
        steps: dead::killed_long_wire,
    },
    Case {
        name: "loss",
        proves: "1 % of all packets lost in both directions: everything is answered, no life is lost",
        from: Depth::Full,
        steps: rough::loss,
    },
    Case {
        name: "delay",
        proves: "200 ms in each direction: connect and verified load, no false alarm",
        from: Depth::Full,
        steps: rough::delay,
    },
    Case {
        name: "mtu-drop",
        proves: "the way becomes narrower and says so: verified load goes on, no life is lost",
        from: Depth::Full,
        steps: rough::mtu,
    },
    Case {
        name: "mtu-black-hole",
        proves: "large packets vanish without a word, small ones do not: the path is given up, fenced, and comes back",
        from: Depth::Full,
        steps: rough::black_hole,
    },
];

/// Why no wires can be laid on this machine, if so.
pub(super) fn unavailable() -> Option<String> {
    net::Net::unavailable()
}

/// The bench: every case lays its own wires.
pub(super) struct Wire {
    setup: Setup,
}

impl Wire {
    pub(super) fn start(setup: Setup) -> Result<Self> {
        std::fs::create_dir_all(&setup.dir)?;
        Ok(Self { setup })
    }
}

impl Bench for Wire {
    fn before(&mut self, _case: &str) -> Result<()> {
        Ok(())
    }

    fn after(&mut self, _case: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

//! Hosts of other makers, as far as a host of our own can play them: what SPDK, nvme-cli and the kernel do and our own host never
//! does.
//!
//! Such hosts open and close queues as they like, ask for every event that the specification knows, drop what they asked for when
//! they reset a controller, and go without a word. A target has to live with all of it; a host that is answered what it has
//! dropped ends its connection.

mod churn;
mod connects;
mod features;
mod host;
mod shutdown;

use super::target::OurTarget;
use super::{Bench, Case, Depth, Setup};
use anyhow::{Result, ensure};

pub(super) const CASES: &[Case<Foreign>] = &[
    Case {
        name: "queue-churn-idle",
        proves: "I/O queues come and go for longer than a loss takes to be noticed, also the last one: nothing is lost",
        from: Depth::Quick,
        steps: churn::idle,
    },
    Case {
        name: "queue-churn-load",
        proves: "the same beside three queues under verified load: they notice nothing",
        from: Depth::Quick,
        steps: churn::under_load,
    },
    Case {
        name: "feature-bits",
        proves: "Asynchronous Event Configuration with every bit, alone and together; an event comes as asked for",
        from: Depth::Quick,
        steps: features::event_configuration,
    },
    Case {
        name: "shutdown-with-requests",
        proves: "CC.SHN and CC.EN = 0 with event requests outstanding: they return nothing, and the controller serves again",
        from: Depth::Quick,
        steps: shutdown::with_requests,
    },
    Case {
        name: "quick-connects",
        proves: "many hosts without a name that leave without CC.SHN, in any order: nothing is left, and others notice nothing",
        from: Depth::Quick,
        steps: connects::quick,
    },
];

/// The bench: one target serves all cases.
pub(super) struct Foreign {
    setup: Setup,
    target: OurTarget,
    /// Bytes of the target's log before the case.
    said: usize,
}

impl Foreign {
    pub(super) fn start(setup: Setup) -> Result<Self> {
        let target = OurTarget::new(&setup.binary, &setup.dir.join("target"))?;
        Ok(Self { setup, target, said: 0 })
    }

    /// No association was lost since the case began; those that their host reset were not.
    fn nothing_was_lost(&self) -> Result<()> {
        let log = self.target.said()?;
        let lost = |line: &&str| line.contains(" lost: ") && !line.ends_with(" lost: Reset");
        let lost: Vec<&str> = log[self.said..].lines().filter(lost).collect();
        ensure!(lost.is_empty(), "the target gave up {}", lost.join(" | "));
        Ok(())
    }
}

impl Bench for Foreign {
    fn before(&mut self, _case: &str) -> Result<()> {
        self.target.restore()?;
        self.said = self.target.said()?.len();
        Ok(())
    }

    fn after(&mut self, _case: &str) -> Result<Vec<String>> {
        self.target.ensure_serving()?;
        Ok(Vec::new())
    }
}

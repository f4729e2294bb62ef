//! Our host with Linux's target.

mod drill;
mod faults;
mod io;
mod looks;

use super::guest::Guest;
use super::target::free_ports;
use super::{Bench, Case, Depth, Setup};
use anyhow::{Context, Result};
use interlock_host::{ControllerSpec, CtrlId, Event, EventKind, Host, HostSettings, Nqn, Pool, PoolConfig};
use std::ops::Range;
use std::process::{Command, Output};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// The subsystem's name, as in `interop/guest/nvmet`.
const NQN: &str = "nqn.2026-11.io.interlock:peer";
/// Keep Alive Timeout where nothing is taken away: an emulated machine on a busy one is slow.
const KATO: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

pub(super) const CASES: &[Case<LinuxTarget>] = &[
    Case {
        name: "discover",
        proves: "interlock discover reads Linux's discovery log",
        from: Depth::Quick,
        steps: looks::discover,
    },
    Case {
        name: "doctor",
        proves: "interlock doctor says that this target has neither CCR nor CQT, and that a hold would be assumed",
        from: Depth::Quick,
        steps: looks::doctor,
    },
    Case {
        name: "io-plain",
        proves: "verified I/O over two ports on both namespaces, without digests",
        from: Depth::Quick,
        steps: io::plain,
    },
    Case {
        name: "io-digests",
        proves: "the same with header and data digests",
        from: Depth::Quick,
        steps: io::digests,
    },
    Case {
        name: "queue-depths",
        proves: "verified I/O at queue depths 1 to 128",
        from: Depth::Quick,
        steps: io::depths,
    },
    Case {
        name: "odd-sizes",
        proves: "sizes around the in-capsule limit and MDTS, one block more, and up to 4 MiB where there is no limit",
        from: Depth::Quick,
        steps: io::sizes,
    },
    Case {
        name: "trim-and-zeroes",
        proves: "Write Zeroes and Dataset Management do what they say, and no more",
        from: Depth::Quick,
        steps: io::trim,
    },
    Case {
        name: "ana-change",
        proves: "under verified load a port's ANA state changes: the event comes, I/O moves, nothing fails",
        from: Depth::Full,
        steps: faults::ana_change,
    },
    Case {
        name: "namespace-events",
        proves: "a namespace is removed, returned and resized while connected, and the host hears of it",
        from: Depth::Full,
        steps: faults::namespace_events,
    },
    Case {
        name: "port-removed-and-returned",
        proves: "under verified load a port goes and returns: held writes wait for an assumed hold, with its receipt",
        from: Depth::Full,
        steps: faults::port_removed,
    },
    Case {
        name: "subsystem-removed",
        proves: "a subsystem that is gone (Do Not Retry) ends the controllers clearly, and I/O fails instead of waiting",
        from: Depth::Full,
        steps: faults::subsystem_removed,
    },
    Case {
        name: "drill-spares-data",
        proves: "interlock drill refuses a namespace that holds data, says what it would overwrite, and writes nothing",
        from: Depth::Quick,
        steps: drill::spares_data,
    },
    Case {
        name: "drill-unfenced",
        proves: "interlock drill --no-fence: bytes delayed in the network do harm, and the verdict is UNSAFE",
        from: Depth::Full,
        steps: drill::unfenced,
    },
    Case {
        name: "drill-fenced",
        proves: "the same fenced: SAFE under a named assumption, and what was blank is blank again",
        from: Depth::Full,
        steps: drill::fenced,
    },
    Case {
        name: "drill-destroys-data",
        proves: "with --destroy-data the drill plays on a namespace that holds data",
        from: Depth::Full,
        steps: drill::destroys_data,
    },
    Case {
        name: "connect-storm",
        proves: "100 connects and disconnects of our host leave nothing behind in the kernel or here",
        from: Depth::Full,
        steps: faults::connect_storm,
    },
];

/// A guest as target, and our host here.
pub(super) struct LinuxTarget {
    guest: Guest,
    /// Ports of 127.0.0.1 that lead to the two of the guest.
    ports: [u16; 2],
    setup: Setup,
}

/// Our host on reactors of its own.
struct Ours {
    pool: Pool,
    host: Host,
    ctrls: Vec<CtrlId>,
}

impl LinuxTarget {
    pub(super) fn start(setup: Setup) -> Result<Self> {
        let ports: [u16; 2] = free_ports()?;
        let guest = Guest::boot(&setup.dir, &[(ports[0], 4420), (ports[1], 4421)])?;
        guest.sh(". /share/guest/nvmet && serve")?;
        Ok(Self { guest, ports, setup })
    }

    /// A step that knows the target's folders.
    fn nvmet(&self, step: &str) -> Result<String> {
        self.guest.sh(&format!(". /share/guest/nvmet; {step}"))
    }

    /// How a port is connected if nothing else is asked for.
    fn spec(&self, port: usize) -> Result<ControllerSpec> {
        let mut spec = ControllerSpec::new("127.0.0.1", self.ports[port], Nqn::new(NQN)?);
        spec.kato = KATO;
        Ok(spec)
    }

    /// A host with both ports, each as `set` leaves it.
    fn connect(&self, set: impl Fn(&mut ControllerSpec)) -> Result<Ours> {
        self.connect_ports(0..self.ports.len(), set)
    }

    /// A host with some of the ports.
    fn connect_ports(&self, ports: Range<usize>, set: impl Fn(&mut ControllerSpec)) -> Result<Ours> {
        let pool = Pool::new(PoolConfig { name: "interop".into(), ..PoolConfig::default() })?;
        let host = Host::start(pool.reactors(), HostSettings::random()?)?;
        let mut ours = Ours { pool, host, ctrls: Vec::new() };
        for port in ports {
            let mut spec = self.spec(port)?;
            set(&mut spec);
            ours.ctrls.push(ours.host.connect_and_wait(spec, CONNECT_WITHIN)?);
        }
        Ok(ours)
    }

    /// The product's program, with options.
    fn interlock(&self, args: &[&str]) -> Result<Output> {
        Command::new(&self.setup.binary).args(args).output().context("the product cannot be run")
    }
}

impl Ours {
    /// Ends it in order.
    fn end(self) -> Result<()> {
        self.host.shutdown(Duration::from_secs(30))?;
        self.pool.shutdown(Duration::from_secs(10)).map_err(|why| anyhow::anyhow!("the reactors did not end: {why}"))
    }
}

/// Waits for an event.
fn event<T>(
    events: &Receiver<Event>,
    what: &str,
    within: Duration,
    mut wanted: impl FnMut(&EventKind) -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut seen = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = events
            .recv_timeout(left)
            .with_context(|| format!("{what}: no such event within {} s, but {}", within.as_secs(), seen.join("; ")))?;
        if let Some(found) = wanted(&event.kind) {
            return Ok(found);
        }
        seen.push(event.kind.to_string());
    }
}

impl Bench for LinuxTarget {
    fn before(&mut self, case: &str) -> Result<()> {
        self.guest.mark(case)
    }

    fn after(&mut self, case: &str) -> Result<Vec<String>> {
        // Whatever a case took away is put back.
        self.nvmet("restore")?;
        let log = self.guest.kernel_log(case)?;
        std::fs::write(self.setup.dir.join(format!("{case}.dmesg")), &log)?;
        Ok(self.setup.exceptions.complaints(case, &log))
    }
}

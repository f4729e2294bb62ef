//! Linux as the host of our target.

mod admin;
mod control;
mod faults;
mod io;

use super::guest::Guest;
use super::target::{NQN, OurTarget};
use super::{Bench, Case, Depth, Setup};
use anyhow::{Result, ensure};

/// Keep Alive Timeout in seconds. An emulated machine on a busy one is slow; a shorter one would end by itself.
const KATO: u32 = 30;

pub(super) const CASES: &[Case<LinuxHost>] = &[
    Case {
        name: "discover",
        proves: "nvme discover reads the log: both ports, and the discovery service itself",
        from: Depth::Quick,
        steps: admin::discover,
    },
    Case {
        name: "connect-two-ports",
        proves: "the kernel connects both ports, and takes both ANA states; list, list-subsys, show-topology agree",
        from: Depth::Quick,
        steps: admin::connect_two_ports,
    },
    Case {
        name: "connect-all",
        proves: "nvme connect-all follows the discovery log to every port",
        from: Depth::Quick,
        steps: admin::connect_all,
    },
    Case {
        name: "identify",
        proves: "id-ctrl, id-ns and the ANA log say what the target was configured with",
        from: Depth::Quick,
        steps: admin::identify,
    },
    Case {
        name: "opcodes",
        proves: "Compare tells equal from different, Verify what can be read; unknown opcodes are refused, nothing breaks",
        from: Depth::Quick,
        steps: admin::opcodes,
    },
    Case {
        name: "io-plain",
        proves: "verified fio on both namespaces; each iopolicy uses the paths as it says; without digests",
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
        name: "trim-and-zeroes",
        proves: "discarded and zeroed ranges read as zeroes, and their neighbours are as they were",
        from: Depth::Quick,
        steps: io::trim,
    },
    Case {
        name: "file-system",
        proves: "mkfs, mount, verified fio, fstrim, umount, and a clean fsck",
        from: Depth::Full,
        steps: io::file_system,
    },
    Case {
        name: "port-away-and-back",
        proves: "under verified load one port is cut off twice and comes back; no error reaches fio",
        from: Depth::Full,
        steps: faults::port_away_and_back,
    },
    Case {
        name: "dead-wire",
        proves: "under verified load every packet of one port is dropped until keep alive gives it up, then it heals",
        from: Depth::Full,
        steps: faults::dead_wire,
    },
    Case {
        name: "target-killed",
        proves: "the target is killed and started again under load: everything that was flushed is there",
        from: Depth::Full,
        steps: faults::target_killed,
    },
    Case {
        name: "host-frozen",
        proves: "a host that stops for longer than KATO loses its controllers, and finds them again",
        from: Depth::Full,
        steps: faults::host_frozen,
    },
    Case {
        name: "reset-and-rescan",
        proves: "controller resets and rescans under verified load",
        from: Depth::Full,
        steps: faults::reset_and_rescan,
    },
    Case {
        name: "connect-storm",
        proves: "100 connects and disconnects leave neither a connection nor memory behind",
        from: Depth::Full,
        steps: faults::connect_storm,
    },
    Case {
        name: "port-closed-and-opened",
        proves: "under verified load the target's operator closes the port in use and opens it again; fio sees nothing",
        from: Depth::Full,
        steps: control::port_closed_and_opened,
    },
    Case {
        name: "ana-change",
        proves: "ANA states of one of two groups change under load: I/O moves, no controller is lost",
        from: Depth::Full,
        steps: control::ana_change,
    },
    Case {
        name: "namespace-events",
        proves: "a namespace is added, resized and removed while connected, and the kernel follows each event",
        from: Depth::Full,
        steps: control::namespace_events,
    },
];

/// A guest as host, and our target outside.
pub(super) struct LinuxHost {
    guest: Guest,
    target: OurTarget,
    setup: Setup,
    /// Bytes of the target's log when the present case began.
    log_from: usize,
}

impl LinuxHost {
    pub(super) fn start(setup: Setup) -> Result<Self> {
        let target = OurTarget::new(&setup.binary, &setup.dir)?;
        let guest = Guest::boot(&setup.dir, &[])?;
        guest.sh("modprobe nvme-tcp")?;
        Ok(Self { guest, target, setup, log_from: 0 })
    }

    /// Connects one port, by its place.
    fn connect(&self, port: usize, more: &str) -> Result<()> {
        self.connect_at("10.0.2.2", self.target.ports[port], more)
    }

    fn connect_at(&self, addr: &str, port: u16, more: &str) -> Result<()> {
        let kato = if more.contains("-k ") { String::new() } else { format!("-k {KATO}") };
        self.guest.sh(&format!("nvme connect -t tcp -a {addr} -s {port} -n {NQN} {kato} {more}")).map(drop)
    }

    /// Connects both ports and waits for both namespaces.
    fn connect_both(&self, more: &str) -> Result<()> {
        self.connect(0, more)?;
        self.connect(1, more)?;
        self.namespaces()
    }

    fn namespaces(&self) -> Result<()> {
        self.guest.sh("namespaces 1 2").map(drop)
    }

    fn policy(&self, policy: &str) -> Result<()> {
        self.guest.sh(&format!("echo {policy} >/sys/class/nvme-subsystem/nvme-subsys*/iopolicy")).map(drop)
    }

    /// What the target said since the case began.
    fn target_said(&self) -> Result<String> {
        Ok(self.target.said()?.split_off(self.log_from))
    }
}

impl Bench for LinuxHost {
    fn before(&mut self, case: &str) -> Result<()> {
        self.target.ensure_serving()?;
        self.guest.mark(case)?;
        self.log_from = self.target.said()?.len();
        Ok(())
    }

    fn after(&mut self, case: &str) -> Result<Vec<String>> {
        self.guest.sh("cleanup")?;
        self.target.restore()?;
        let log = self.guest.kernel_log(case)?;
        std::fs::write(self.setup.dir.join(format!("{case}.dmesg")), &log)?;
        self.target.ensure_serving()?;
        let said = self.target_said()?;
        ensure!(!said.contains("panicked"), "our target panicked: {}", super::guest::tail(&said));
        Ok(self.setup.exceptions.complaints(case, &log))
    }
}

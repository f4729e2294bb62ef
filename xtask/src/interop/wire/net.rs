//! A network of namespaces: a host and a target with two wires between them, and a router in the middle of both.
//!
//! The router is where things go wrong, so that neither end sees more of it than silence: dropping in the host's own
//! namespace would tell its kernel. Nothing of it has a name outside; it ends with the processes that hold it.

use crate::interop::prepare::found;
use crate::interop::root;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Which end, or what is between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Host,
    Target,
    Router,
}

/// The target's addresses, one for each wire.
pub(super) const TARGET: [&str; 2] = ["10.77.3.1", "10.77.4.1"];
/// The host's.
pub(super) const HOST: [&str; 2] = ["10.77.1.1", "10.77.2.1"];

/// What happens to the packets of wire A; the other one is always well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Those of the host are dropped.
    Out,
    /// Those of the target are dropped.
    Back,
    /// All are dropped.
    Both,
    /// So many of a hundred are dropped, in both directions.
    Loss(u8),
    /// Those of the host with more bytes (IP and up) are dropped, and nobody is told.
    Above(u16),
}

impl Fault {
    fn rules(self) -> Vec<String> {
        let (out, back) = (r#"iifname "ha""#, r#"iifname "ta""#);
        match self {
            Self::Out => vec![format!("{out} drop")],
            Self::Back => vec![format!("{back} drop")],
            Self::Both => vec![format!("{out} drop"), format!("{back} drop")],
            Self::Loss(percent) => {
                [out, back].map(|way| format!("{way} numgen random mod 100 < {percent} drop")).into()
            }
            Self::Above(bytes) => vec![format!("{out} meta length > {bytes} drop")],
        }
    }
}

/// A process in a namespace of its own that waits for the end of its input: the namespace lives as long.
struct Anchor {
    child: Child,
    user: bool,
}

impl Anchor {
    fn hold(mut command: Command, user: bool) -> Result<Self> {
        command.args(["sh", "-c", "echo held; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().context("unshare cannot be run")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        if line.trim() != "held" {
            let mut error = String::new();
            child.stderr.take().context("piped")?.read_to_string(&mut error)?;
            child.wait()?;
            bail!("no network namespace can be made here: {}", error.trim());
        }
        Ok(Self { child, user })
    }

    /// A command that runs in this namespace, and ends with us.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.child.id().to_string(), "--net"]);
        if self.user {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["setpriv", "--pdeathsig", "KILL", program]);
        command
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All of it.
pub(super) struct Net {
    host: Anchor,
    target: Anchor,
    router: Anchor,
}

/// What the network is made with.
const TOOLS: [&str; 7] = ["unshare", "nsenter", "setpriv", "ip", "nft", "sh", "python3"];

impl Net {
    /// Why no such network can be made on this machine, if so.
    pub(super) fn unavailable() -> Option<String> {
        let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !found(tool)).collect();
        if !missing.is_empty() {
            return Some(format!(
                "this machine has no {} (packages iproute2, nftables, util-linux)",
                missing.join(", ")
            ));
        }
        Self::lay().and_then(|net| net.hurt(&[Fault::Both])).err().map(|error| format!("{error:#}"))
    }

    /// Lays both wires.
    pub(super) fn lay() -> Result<Self> {
        let root = Command::new("id").arg("-u").output().context("id")?.stdout.trim_ascii() == b"0";
        let mut first = Command::new("unshare");
        first.arg("--net");
        if !root {
            first.args(["--user", "--map-root-user"]);
        }
        let router = Anchor::hold(first, !root)?;
        let inside = |anchor: &Anchor| -> Result<Anchor> {
            let mut command = anchor.command("unshare");
            command.arg("--net");
            Anchor::hold(command, !root)
        };
        let (host, target) = (inside(&router)?, inside(&router)?);
        let net = Self { host, target, router };
        let ends = [("host", &net.host), ("target", &net.target)];
        let mut script = String::from("set -e\necho 1 >/proc/sys/net/ipv4/ip_forward\n");
        for (wire, index) in [("a", 0), ("b", 1)] {
            for (end, anchor) in ends {
                let (letter, own) = (&end[..1], if end == "host" { HOST[index] } else { TARGET[index] });
                let gateway = gateway(own);
                let pid = anchor.child.id();
                script += &format!(
                    "ip link add {letter}{wire} type veth peer name {wire} netns {pid}
                     ip addr add {gateway}/24 dev {letter}{wire}
                     ip link set dev {letter}{wire} up\n"
                );
            }
        }
        script += "nft add table inet wire
            nft 'add chain inet wire forward { type filter hook forward priority 0; }'\n";
        net.run(Place::Router, &script)?;
        for (place, own, other) in [(Place::Host, HOST, TARGET), (Place::Target, TARGET, HOST)] {
            let mut script = String::from("set -e\nip link set lo up\n");
            for (wire, index) in [("a", 0), ("b", 1)] {
                let (own, far) = (own[index], gateway(other[index]).replace(".254", ".0"));
                // Packets as they are on a real wire: none is larger than its MTU.
                script += &format!(
                    "ip link set dev {wire} gso_max_segs 1
                     ip addr add {own}/24 dev {wire}
                     ip link set dev {wire} up
                     ip route add {far}/24 via {gateway} dev {wire}\n",
                    gateway = gateway(own)
                );
            }
            net.run(place, &script)?;
        }
        Ok(net)
    }

    fn anchor(&self, place: Place) -> &Anchor {
        match place {
            Place::Host => &self.host,
            Place::Target => &self.target,
            Place::Router => &self.router,
        }
    }

    /// A program that runs in a place, and ends with us.
    pub(super) fn command(&self, place: Place, program: &str) -> Command {
        self.anchor(place).command(program)
    }

    /// Runs a script to its end, which must be a good one.
    pub(super) fn run(&self, place: Place, script: &str) -> Result<String> {
        let output = self.command(place, "sh").args(["-c", script]).stdin(Stdio::null()).output()?;
        let error = format!("in the namespace of the {place:?}: {}", String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{}", crate::interop::guest::tail(&error));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Connections over TCP that some process in a place, or a ring that outlives one, still has.
    pub(super) fn connections(&self, place: Place) -> Result<usize> {
        /// `TCP_TIME_WAIT` and `TCP_LISTEN`: nobody's any more, and nobody's yet.
        const NONE: [&str; 2] = ["06", "0A"];
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.anchor(place).child.id()))?;
        let states = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        Ok(states.filter(|state| !NONE.contains(state)).count())
    }

    /// These faults, and no others, from now on; in one transaction.
    pub(super) fn hurt(&self, faults: &[Fault]) -> Result<()> {
        let rules = faults.iter().flat_map(|fault| fault.rules());
        let mut script = String::from("flush chain inet wire forward\n");
        rules.for_each(|rule| script += &format!("add rule inet wire forward {rule}\n"));
        let mut child = self.command(Place::Router, "nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().context("piped")?.write_all(script.as_bytes())?;
        ensure!(child.wait()?.success(), "nft did not take {faults:?}");
        Ok(())
    }

    /// Everything is well again.
    pub(super) fn heal(&self) -> Result<()> {
        self.hurt(&[])
    }

    /// Every packet of wire A takes so much longer, in each direction, until the delay is dropped.
    pub(super) fn delay(&self, milliseconds: u32) -> Result<Helper> {
        let helper = Helper::start(self, Place::Router, &["delay", "slow", &milliseconds.to_string()])?;
        // What comes in over wire A is led through the helper; what the helper gives back goes on as ever.
        let route = "set -e
            ip link set dev slow up mtu 1500
            ip route replace default dev slow table 77
            for wire in ha ta; do ip rule add iif $wire lookup 77; done";
        self.run(Place::Router, route)?;
        Ok(helper)
    }

    /// Takes the delay away.
    pub(super) fn no_delay(&self, helper: Helper) -> Result<()> {
        self.run(Place::Router, "for wire in ha ta; do ip rule del iif $wire lookup 77; done")?;
        helper.end().map(drop)
    }

    /// Writes down what comes in over an interface.
    pub(super) fn capture(&self, place: Place, interface: &str, file: &Path) -> Result<Helper> {
        Helper::start(self, place, &["capture", interface, &file.to_string_lossy()])
    }
}

fn gateway(address: &str) -> String {
    let (network, _) = address.rsplit_once('.').unwrap_or((address, ""));
    format!("{network}.254")
}

/// `interop/wire` at work.
pub(super) struct Helper {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Helper {
    fn start(net: &Net, place: Place, args: &[&str]) -> Result<Self> {
        let program = root().join("interop/wire");
        let mut command = net.command(place, &program.to_string_lossy());
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("piped")?);
        let mut helper = Self { child, input, output };
        ensure!(helper.line()? == "ready", "`interop/wire {}` did not begin", args.join(" "));
        Ok(helper)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Ends it; its last word.
    pub(super) fn end(mut self) -> Result<String> {
        drop(self.input.take());
        let line = self.line()?;
        ensure!(self.child.wait()?.success(), "`interop/wire` failed");
        Ok(line)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens a file for a child's words.
pub(super) fn words(path: &Path) -> Result<File> {
    File::create(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_of_wire_a_alone() {
        for fault in [Fault::Out, Fault::Back, Fault::Both, Fault::Loss(1), Fault::Above(1400)] {
            for rule in fault.rules() {
                assert!(rule.ends_with(" drop") && (rule.contains(r#""ha""#) || rule.contains(r#""ta""#)), "{rule}");
            }
        }
        assert_eq!(Fault::Both.rules().len(), 2);
        assert_eq!(gateway("10.77.1.1"), "10.77.1.254");
    }
}

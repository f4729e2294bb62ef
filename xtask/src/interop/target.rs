//! Our target as a child process, as a user runs it.

use super::wait;
use anyhow::{Context, Result, bail, ensure};
use interlock_base::Rng;
use std::fmt::Write;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// Bytes of each namespace.
pub(super) const NAMESPACE: u64 = 64 << 20;

pub(super) const NQN: &str = "nqn.2026-11.io.interlock:target";

/// A target with two ports (optimized, non-optimized), a discovery port, a memory namespace with blocks of 512 bytes
/// and, in an ANA group of its own, a file namespace with blocks of 4096.
pub(super) struct OurTarget {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    control: PathBuf,
    pub(super) ports: [u16; 2],
    pub(super) discovery: u16,
    child: Option<Child>,
}

/// Ports of 127.0.0.1 that are free now. Fixed from then on: a target that is started again must be found again. They lie below
/// those that the kernel gives away: while the target is down, the next connection of anybody would take them.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let first: u16 = range.split_whitespace().next().context("ip_local_port_range")?.parse()?;
    let least = 10_240.min(first / 2);
    let mut rng =
        Rng::new(u64::from(std::process::id()) << 32 ^ u64::from(SystemTime::UNIX_EPOCH.elapsed()?.subsec_nanos()));
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let (found, listener) = (0..1000)
            .map(|_| least + rng.below(u64::from(first - least)) as u16)
            .find_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)))
            .context("no port below the kernel's own is free")?;
        *port = found;
        listeners.push(listener);
    }
    Ok(ports)
}

impl OurTarget {
    pub(super) fn new(binary: &Path, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let [first, second, discovery] = free_ports()?;
        let disk = dir.join("disk.img");
        File::create(&disk)?.set_len(NAMESPACE)?;
        let mut config = format!("nqn = \"{NQN}\"\nana_groups = 2\n");
        write!(config, "[[port]]\nlisten = \"127.0.0.1:{first}\"\n")?;
        write!(config, "[[port]]\nlisten = \"127.0.0.1:{second}\"\nana = \"non-optimized\"\n")?;
        write!(config, "[[discovery]]\nlisten = \"127.0.0.1:{discovery}\"\n")?;
        write!(config, "[[namespace]]\nbacking = \"mem:{NAMESPACE}\"\nblock_size = 512\n")?;
        write!(config, "[[namespace]]\nbacking = \"file:{}\"\nblock_size = 4096\nana_group = 2\n", disk.display())?;
        let path = dir.join("target.toml");
        fs::write(&path, config)?;
        let (binary, log, control) = (binary.to_owned(), dir.join("target.log"), dir.join("target.sock"));
        let mut target = Self { binary, config: path, log, control, ports: [first, second], discovery, child: None };
        target.start()?;
        Ok(target)
    }

    /// Starts it, and waits until it serves.
    pub(super) fn start(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.args(["target", "-v", "--output-format", "json", "--config"]).arg(&self.config);
        command.arg("--control").arg(&self.control);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the target's output")?).read_line(&mut line)?;
        if line.is_empty() {
            let status = child.wait()?;
            bail!("our target did not start ({status}): {}", super::guest::tail(&self.said()?));
        }
        self.child = Some(child);
        Ok(())
    }

    /// Tells it something while it runs, as its operator would.
    pub(super) fn ctl(&self, verb: &[&str]) -> Result<()> {
        self.asked(verb).map(drop)
    }

    /// How it stands.
    pub(super) fn status(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.asked(&["status", "-o", "json"])?)?)
    }

    fn asked(&self, verb: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.binary);
        let output = command.args(["target", "ctl", "--control"]).arg(&self.control).args(verb).output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`interlock target ctl {}`: {}", verb.join(" "), error.trim());
        Ok(output.stdout)
    }

    /// Everything as it was configured, whatever a case left behind.
    pub(super) fn restore(&mut self) -> Result<()> {
        self.ensure_serving()?;
        for (port, state) in [("0", "optimized"), ("1", "non-optimized")] {
            for group in ["1", "2"] {
                self.ctl(&["ana", port, state, "--group", group])?;
            }
        }
        // Both are refused if there is nothing to put right.
        let _ = self.ctl(&["port", "open", "0"]);
        let _ = self.ctl(&["namespace", "remove", "3"]);
        Ok(())
    }

    /// SIGKILL, as a crash.
    pub(super) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("our target is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Fails if it ended by itself; starts it if a case left it killed.
    pub(super) fn ensure_serving(&mut self) -> Result<()> {
        match &mut self.child {
            None => self.start(),
            Some(child) => match child.try_wait()? {
                None => Ok(()),
                Some(status) => {
                    self.child = None;
                    let said = super::guest::tail(&self.said()?);
                    self.start()?;
                    bail!("our target ended by itself ({status}): {said}")
                }
            },
        }
    }

    /// All that it said of its events.
    pub(super) fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Waits until it has said something about an event after `since` bytes of its log.
    pub(super) fn wait_said(&self, since: usize, text: &str, within: Duration) -> Result<()> {
        wait::for_some(&format!("our target's word `{text}`"), within, || {
            Ok(self.said()?[since..].contains(text).then_some(()))
        })
    }

    /// Its resident memory in KiB, and its open files.
    pub(super) fn size(&self) -> Result<(u64, usize)> {
        let pid = self.child.as_ref().context("our target is not running")?.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib = line.trim().trim_end_matches(" kB").parse()?;
        Ok((kib, fs::read_dir(format!("/proc/{pid}/fd"))?.count()))
    }

    /// Ends it with SIGTERM, in order.
    fn end(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        Command::new("kill").arg(child.id().to_string()).status()?;
        match wait::for_some("our target's end", Duration::from_secs(20), || Ok(child.try_wait()?)) {
            Ok(status) => {
                ensure!(status.success(), "our target ended with {status}");
                Ok(())
            }
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }
}

impl Drop for OurTarget {
    fn drop(&mut self) {
        // The cases have their results by now.
        let _ = self.end();
    }
}

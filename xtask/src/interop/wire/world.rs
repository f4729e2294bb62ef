//! Both ends on their wires, and what a case asks of them.

use super::capture::Capture;
use super::host::monotonic;
use super::net::{HOST, Helper, Net, Place, TARGET, words};
use crate::interop::{Setup, wait};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

pub(super) const NQN: &str = "nqn.2026-11.io.interlock:wire";
/// Another subsystem that has the healthy wire alone.
const BESIDE: &str = "nqn.2026-11.io.interlock:beside";
const PORT: u16 = 4420;
const BESIDE_PORT: u16 = 4430;

/// Keep Alive Timeout where a wire dies.
pub(super) const KATO: Duration = Duration::from_secs(2);

/// Starting a program on a busy machine.
const SHORTLY: Duration = Duration::from_secs(60);

/// What the target offers a host that lost a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offers {
    Ccr,
    /// Command Quiesce Time alone: a hold by time.
    Time,
}

/// Wires, targets, captures.
pub(super) struct World {
    pub(super) net: Net,
    dir: PathBuf,
    targets: Vec<Child>,
    captures: Option<[Helper; 2]>,
    hosts: u32,
}

impl World {
    /// Lays the wires and starts two targets: one on both, one beside it on the second.
    pub(super) fn new(setup: &Setup, case: &str, offers: Offers) -> Result<Self> {
        let dir = setup.dir.join(case);
        fs::create_dir_all(&dir)?;
        let net = Net::lay()?;
        // What the host sends, as it leaves it; and what the target gets, as it arrives there.
        let captures = [
            net.capture(Place::Router, "ha", &dir.join("sent.pcap"))?,
            net.capture(Place::Target, "a", &dir.join("arrived.pcap"))?,
        ];
        let mut world = Self { net, dir, targets: Vec::new(), captures: Some(captures), hosts: 0 };
        let mut config = format!("nqn = \"{NQN}\"\n[recovery]\nccr = {}\n", offers == Offers::Ccr);
        writeln!(config, "cqt_ms = 1000\nquiesce_ms = 500")?;
        writeln!(config, "[[port]]\nlisten = \"{}:{PORT}\"", TARGET[0])?;
        writeln!(config, "[[port]]\nlisten = \"{}:{PORT}\"\nana = \"non-optimized\"", TARGET[1])?;
        writeln!(config, "[[namespace]]\nbacking = \"mem:{}\"\nblock_size = 512", 64 << 20)?;
        world.target(&setup.binary, "target", &config)?;
        let mut beside = format!("nqn = \"{BESIDE}\"\n[[port]]\nlisten = \"{}:{BESIDE_PORT}\"\n", TARGET[1]);
        writeln!(beside, "[[namespace]]\nbacking = \"mem:{}\"\nblock_size = 512", 16 << 20)?;
        world.target(&setup.binary, "beside", &beside)?;
        Ok(world)
    }

    fn target(&mut self, binary: &Path, name: &str, config: &str) -> Result<()> {
        let file = self.dir.join(format!("{name}.toml"));
        fs::write(&file, config)?;
        let mut command = self.net.command(Place::Target, &binary.to_string_lossy());
        command.args(["target", "-v", "--threads", "1", "--output-format", "json", "--config"]).arg(&file);
        let log = words(&self.dir.join(format!("{name}.log")))?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        self.targets.push(child);
        ensure!(!line.is_empty(), "our target did not start: {}", crate::interop::guest::tail(&self.said(name)?));
        Ok(())
    }

    fn said(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join(format!("{name}.log")))?)
    }

    /// Starts our host; `more` are options of `wire-host`. It has the state directory of the one before.
    pub(super) fn host(&mut self, kato: Duration, more: &[&str]) -> Result<OurHost> {
        self.hosts += 1;
        let program = std::env::current_exe().context("this program's own file")?;
        let mut command = self.net.command(Place::Host, &program.to_string_lossy());
        command.args(["wire-host", "--nqn", NQN, "--kato", &kato.as_millis().to_string()]);
        for address in TARGET {
            command.args(["--path", &format!("{address}:{PORT}")]);
        }
        command.args(["--beside", &format!("{}:{BESIDE_PORT}={BESIDE}", TARGET[1])]);
        command.arg("--state").arg(self.dir.join("state")).args(more);
        OurHost::start(command, &self.dir.join(format!("host{}.jsonl", self.hosts)))
    }

    /// Ends the captures: what the host sent, and what the target got, on wire A.
    pub(super) fn captured(&mut self) -> Result<[Capture; 2]> {
        for helper in self.captures.take().context("the captures have ended already")? {
            let word = helper.end()?;
            ensure!(word.ends_with(" 0 lost"), "the capture shows nothing, it lost frames: {word}");
        }
        let said = self.said("target")?;
        ensure!(!said.contains("panicked"), "our target panicked: {}", crate::interop::guest::tail(&said));
        let read = |file: &str| Capture::read(&self.dir.join(file), HOST[0]);
        Ok([read("sent.pcap")?, read("arrived.pcap")?])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for target in &mut self.targets {
            let _ = target.kill();
            let _ = target.wait();
        }
    }
}

/// Our host at work, and what it says.
pub(super) struct OurHost {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// What was said and read already; a case may ask for events in any order.
    seen: Vec<Value>,
    /// The controller on wire A.
    pub(super) ctrl: String,
}

impl OurHost {
    fn start(mut command: Command, log: &Path) -> Result<Self> {
        let errors = words(&log.with_extension("err"))?;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn()?;
        let output = BufReader::new(child.stdout.take().context("piped")?);
        let (sender, lines) = mpsc::channel();
        let mut log = words(log)?;
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The log is for people; a case fails by what it does not hear.
                let _ = writeln!(log, "{line}");
                let Ok(value) = serde_json::from_str(&line) else { continue };
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let mut host = Self { child, input, lines, seen: Vec::new(), ctrl: String::new() };
        let path = host.wait("path", SHORTLY, |_| true)?;
        let first: SocketAddr = path["to"].as_str().unwrap_or_default().parse()?;
        ensure!(first.ip().to_string() == TARGET[0], "the first path is not wire A: {path}");
        host.ctrl = path["ctrl"].as_str().context("a controller")?.to_owned();
        host.wait("loaded", SHORTLY, |_| true)?;
        Ok(host)
    }

    /// Waits for an event, or finds it among those that were.
    pub(super) fn wait(&mut self, name: &str, within: Duration, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let wanted = |line: &Value| line["event"] == name && is_it(line);
        if let Some(line) = self.seen.iter().find(|line| wanted(line)) {
            return Ok(line.clone());
        }
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                let last: Vec<String> = self.seen.iter().rev().take(5).rev().map(Value::to_string).collect();
                bail!("our host did not say `{name}` within {} s, but {}", within.as_secs(), last.join(" "));
            };
            self.seen.push(line.clone());
            if line["event"] == "failed" {
                bail!("our host failed: {}", line["why"].as_str().unwrap_or_default());
            }
            if wanted(&line) {
                return Ok(line);
            }
        }
    }

    /// The same for the controller on wire A, or its life.
    pub(super) fn wait_a(&mut self, name: &str, within: Duration, after: u64) -> Result<Value> {
        let ctrl = self.ctrl.clone();
        self.wait(name, within, |line| line["ctrl"] == ctrl.as_str() && at(line) >= after)
    }

    /// All events of a name so far.
    pub(super) fn count(&mut self, name: &str) -> usize {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().filter(|line| line["event"] == name).count()
    }

    pub(super) fn tell(&mut self, word: &str) -> Result<()> {
        writeln!(self.input.as_mut().context("our host has ended")?, "{word}").context("our host has ended")
    }

    /// Stops the load; what it did, after everything was read back.
    pub(super) fn stop(&mut self) -> Result<Value> {
        self.tell("stop")?;
        self.wait("verified", Duration::from_secs(120), |_| true)
    }

    /// Reads everything back once more.
    pub(super) fn verify_again(&mut self) -> Result<()> {
        let now = monotonic();
        self.tell("verify")?;
        self.wait("verified-again", SHORTLY, |line| at(line) >= now).map(drop)
    }

    /// Ends it in order.
    pub(super) fn end(mut self) -> Result<()> {
        drop(self.input.take());
        let status = wait::for_some("our host's end", SHORTLY, || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "our host ended with {status}");
        Ok(())
    }

    /// SIGKILL. Gives the time at which nothing of the process was left: its sockets are let go by its ring, which ends a moment
    /// after it, and which a successor waits for, too.
    pub(super) fn kill(mut self, net: &Net) -> Result<u64> {
        self.child.kill()?;
        self.child.wait()?;
        let none = || Ok((net.connections(Place::Host)? == 0).then(monotonic));
        wait::for_some("the end of the killed host's sockets", SHORTLY, none)
    }
}

impl Drop for OurHost {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// When it was.
pub(super) fn at(line: &Value) -> u64 {
    line["at"].as_u64().unwrap_or_default()
}

//! The target is killed, and the one that is started in its place must hold what was answered.

use super::super::load::{Done, Load, Until};
use super::super::target::{NQN, free_ports};
use super::super::{guest, wait};
use super::{NSID, SLOT_BLOCKS, SLOTS, Sigkill, TIMES, drawn};
use anyhow::{Context, Result, bail, ensure};
use interlock_host::{ControllerSpec, Host, HostSettings, Nqn, Pool, PoolConfig};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of the file.
const FILE: u64 = 64 << 20;

/// Resident memory that a storm may add, in bytes: what allocators keep for next time.
const RESIDENT_MORE: u64 = 16 << 20;

/// A target as a child, with a file namespace, two ports and a control socket.
pub(super) struct Victim {
    binary: PathBuf,
    dir: PathBuf,
    pub(super) ports: [u16; 2],
    child: Option<Child>,
}

impl Victim {
    pub(super) fn start(binary: &Path, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        File::create(dir.join("disk.img"))?.set_len(FILE)?;
        let mut victim = Self { binary: binary.to_owned(), dir, ports: free_ports()?, child: None };
        victim.restart()?;
        Ok(victim)
    }

    /// Starts it, and waits until it serves.
    fn restart(&mut self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.dir.join("target.log"))?;
        let backing = format!("file:{}", self.dir.join("disk.img").display());
        let mut command = Command::new(&self.binary);
        command
            .args(["target", "-v", "-o", "json", "--nqn", NQN, "--namespace", &backing, "--control"])
            .arg(self.socket());
        for port in self.ports {
            command.arg("--port").arg(format!("127.0.0.1:{port}"));
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the target's output")?).read_line(&mut line)?;
        if line.is_empty() {
            bail!("the target did not start ({}): {}", child.wait()?, guest::tail(&self.log()?));
        }
        self.child = Some(child);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the target is not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    pub(super) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("target.log"))?)
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// `interlock target ctl`.
    pub(super) fn tell(&self, verb: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.binary);
        command.args(["target", "ctl", "-o", "json", "--control"]).arg(self.socket()).args(verb);
        let output = command.output()?;
        ensure!(output.status.success(), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Ends it in order; it must not have ended by itself.
    pub(super) fn end(mut self) -> Result<()> {
        self.tell(&["shutdown"])?;
        let mut child = self.child.take().context("the target is not running")?;
        let status = wait::for_some("the target's end", Duration::from_secs(30), || Ok(child.try_wait()?))?;
        ensure!(status.success(), "the target ended with {status}: {}", guest::tail(&self.log()?));
        Ok(())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // After a failed case only.
        let _ = self.kill();
    }
}

fn spec(port: u16) -> Result<ControllerSpec> {
    let mut spec = ControllerSpec::new("127.0.0.1", port, Nqn::new(NQN)?);
    spec.kato = Duration::from_secs(1);
    spec.reconnect.delay = Duration::from_millis(100);
    Ok(spec)
}

pub(super) fn killed(bench: &mut Sigkill) -> Result<String> {
    let mut victim = Victim::start(&bench.setup.binary, bench.setup.dir.join("target"))?;
    let pool = Pool::new(PoolConfig { name: "sigkill".into(), ..PoolConfig::default() })?;
    let host = Host::start(pool.reactors(), HostSettings::random()?)?;
    for port in victim.ports {
        host.connect_and_wait(spec(port)?, Duration::from_secs(30))?;
    }
    let mut load = Load::new(host.namespace(NQN, NSID)?, SLOTS, SLOT_BLOCKS);
    let times = bench.setup.times(TIMES.0, TIMES.1);
    let mut sum = Done::default();
    for round in 0..times {
        let done = one_kill(&mut victim, &mut load, round).with_context(|| format!("kill {round}"))?;
        ensure!(done.writes > 0, "kill {round}: nothing was written");
        sum.writes += done.writes;
        sum.reads += done.reads;
        sum.unknown += done.unknown;
        sum.longest = sum.longest.max(done.longest);
        load.verify().with_context(|| format!("after kill {round}"))?;
    }
    host.shutdown(Duration::from_secs(30))?;
    pool.shutdown(Duration::from_secs(10)).map_err(|why| anyhow::anyhow!("the reactors did not end: {why}"))?;
    victim.end()?;
    Ok(format!(
        "{times} kills, {} writes, {} reads checked, {} of unknown outcome, longest stall {} ms",
        sum.writes,
        sum.reads,
        sum.unknown,
        sum.longest.as_millis()
    ))
}

/// Load, kill, start again; the load ends when it has an answer to everything.
fn one_kill(victim: &mut Victim, load: &mut Load, round: u32) -> Result<Done> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| load.run(16, Until::Told(&stop)));
        wait::pass(Duration::from_millis(drawn(round, 20, 250)));
        let killed = victim.kill().and_then(|()| {
            wait::pass(Duration::from_millis(drawn(round, 0, 50)));
            victim.restart()
        });
        if killed.is_ok() {
            wait::pass(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        let done = running.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        killed?;
        done
    })
}

/// What must be the same before and after.
fn baseline(victim: &Victim) -> Result<(Value, u64, u64)> {
    // The connections of the last host are over when its lives are.
    let status = wait::for_some("the end of the last life", Duration::from_secs(60), || {
        let status = victim.tell(&["status"])?;
        let idle = ["connections", "controllers", "lives"]
            .iter()
            .all(|key| status[*key].as_array().is_some_and(Vec::is_empty));
        Ok(idle.then_some(status))
    })?;
    let mut rest = status.clone();
    let memory = rest.as_object_mut().and_then(|members| members.remove("memory")).context("memory")?;
    let number = |key: &str| memory[key].as_u64().with_context(|| format!("{key} in {memory}"));
    ensure!(number("buffers")? == 0 && number("inside")? == 0, "{memory}");
    Ok((rest, number("descriptors")?, number("resident")?))
}

pub(super) fn storm(bench: &mut Sigkill) -> Result<String> {
    let victim = Victim::start(&bench.setup.binary, bench.setup.dir.join("storm"))?;
    let times = bench.setup.times(100, 2000);
    // What is made once and kept is no leak.
    connects(&victim, 50)?;
    let (before, descriptors, resident) = baseline(&victim)?;
    let since = Instant::now();
    connects(&victim, times)?;
    let took = since.elapsed();
    let (after, descriptors_after, resident_after) = baseline(&victim)?;
    ensure!(before == after, "the status differs: {before} and {after}");
    ensure!(descriptors == descriptors_after, "{descriptors} descriptors became {descriptors_after}");
    let more = resident_after.saturating_sub(resident);
    ensure!(more < RESIDENT_MORE, "{} KiB more are resident", more >> 10);
    victim.end()?;
    Ok(format!(
        "{times} connects in {:.1} s, {descriptors} descriptors before and after, {} KiB resident became {}",
        took.as_secs_f64(),
        resident >> 10,
        resident_after >> 10
    ))
}

/// Connects one port after the other, writes and reads a block, and leaves.
fn connects(victim: &Victim, times: u32) -> Result<()> {
    let pool = Pool::new(PoolConfig { name: "storm".into(), ..PoolConfig::default() })?;
    let host = Host::start(pool.reactors(), HostSettings::random()?)?;
    for round in 0..times {
        let port = victim.ports[round as usize % 2];
        let ctrl =
            host.connect_and_wait(spec(port)?, Duration::from_secs(30)).with_context(|| format!("connect {round}"))?;
        let mut load = Load::new(host.namespace(NQN, NSID)?, 4, 1);
        load.run(4, Until::Writes(4))?;
        load.verify()?;
        host.disconnect(ctrl)?;
        wait::for_some("the end of a controller", Duration::from_secs(30), || {
            Ok(host.status()?.controllers.iter().all(|ctrl| ctrl.peer.is_none()).then_some(()))
        })?;
    }
    host.shutdown(Duration::from_secs(30))?;
    pool.shutdown(Duration::from_secs(10)).map_err(|why| anyhow::anyhow!("the reactors did not end: {why}"))
}

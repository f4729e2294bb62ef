//! A target in this process, and daemons beside it, each with its file tree mounted; one exports the namespace.

use crate::BYTES;
use crate::case::Plan;
use crate::cpu::{self, Cores, Spent};
use crate::nbd;
use crate::round::Round;
use anyhow::{Context, Result, bail, ensure};
use interlock_api::{Client, ConnectRequest, Connected, ExportRequest, ExportStatus};
use interlock_daemon::{Options, Places};
use interlock_ring::{Pool, PoolConfig};
use interlock_target::Target;
use interlock_target::config::{Config, SAMPLE_NQN};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything but a stretch may take.
const WITHIN: Duration = Duration::from_secs(60);

/// Between two looks at a process that ends.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The daemon's reactors are called so, and a number.
const REACTOR: &str = "interlock-0";
/// Below the directory of a daemon.
const TREE: &str = "tree";
const DISK: &str = "nvme0n1";

/// What the daemon is started with: everything lies in one directory.
pub(crate) fn options(dir: &Path) -> Options {
    Options {
        places: Places {
            state: dir.join("state"),
            socket: dir.join("control.sock"),
            nvme: dir.join("nvme"),
            config: dir.join("interlock.toml"),
        },
        config_named: true,
        hostnqn: None,
        hostid: None,
        group: None,
        sysfs: Some(dir.join(TREE)),
        share_identity_with_kernel: true,
        sys: "/sys".into(),
        metrics: None,
        no_restore: false,
    }
}

/// Everything that is measured: a daemon under load, and one like it that nobody uses.
pub(crate) struct Rig {
    loaded: Daemon,
    idle: Daemon,
    target: Target,
    pool: Pool,
    socket: PathBuf,
}

/// A daemon in a directory of its own. Killed at its end, if it has not ended before.
struct Daemon {
    dir: TempDir,
    process: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Daemon {
    /// One that is connected to every port of the target.
    fn on(target: &Target) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("interlock.toml"), "[daemon]\nreactors = 1\n")?;
        let daemon = Self { process: start(dir.path())?, dir };
        let client = daemon.client();
        for port in target.ports() {
            let request: ConnectRequest = serde_json::from_value(serde_json::json!({
                "traddr": port.ip().to_string(), "trsvcid": port.port(), "subnqn": SAMPLE_NQN,
                "nr_io_queues": 1, "iopolicy": "round-robin",
            }))?;
            let connected: Connected = client.send("POST", "/v1/controllers", &request)?;
            ensure!(connected.live, "{} is not live", connected.device);
        }
        Ok(daemon)
    }

    fn client(&self) -> Client {
        Client::new(options(self.dir.path()).places.socket, WITHIN)
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join(TREE)
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(i32::try_from(self.process.id())?).context("a process has a number")
    }

    fn end(&mut self) -> Result<()> {
        kill_process(self.pid()?, Signal::TERM)?;
        let deadline = Instant::now() + WITHIN;
        loop {
            if let Some(status) = self.process.try_wait()? {
                ensure!(status.success(), "the daemon ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the daemon does not end within {WITHIN:?}");
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }
}

impl Rig {
    /// Daemons that are connected so many times, and whose every thread has its core if there are two.
    pub(crate) fn new(controllers: u16, cores: Option<Cores>) -> Result<Self> {
        ensure!(controllers > 0, "without a controller there is nothing to load");
        let pool = Pool::new(PoolConfig { reactors: 1, name: "target".into(), ..PoolConfig::default() })?;
        let port = "[[port]]\nlisten = \"127.0.0.1:0\"\n".repeat(controllers.into());
        // Two hosts, of which each may have all ports, with an admin and an I/O connection each.
        let all = controllers.saturating_mul(2);
        let limits = format!(
            // One address may have most of them.
            "[limits]\ncontrollers = {}\nconnections = {}\n",
            all.saturating_mul(2),
            (u32::from(all) * 4).max(1024)
        );
        let config = Config::from_toml(&format!(
            "nqn = \"{SAMPLE_NQN}\"\n{port}[[namespace]]\nbacking = \"mem:64M\"\n{limits}"
        ))?;
        let target = Target::start(pool.reactors(), &config)?;
        let (loaded, idle) = (Daemon::on(&target)?, Daemon::on(&target)?);
        let socket = loaded.dir.path().join("nbd.sock");
        let request: ExportRequest =
            serde_json::from_value(serde_json::json!({ "namespace": DISK, "socket": socket }))?;
        let export: ExportStatus = loaded.client().send("POST", "/v1/exports", &request)?;
        ensure!(export.name == DISK, "the export is called {}", export.name);
        if let Some(cores) = cores {
            cpu::pin(cpu::me(), "", cores.io, cores.io)?;
            cpu::pin(loaded.pid()?, REACTOR, cores.io, cores.rest)?;
            cpu::pin(idle.pid()?, "", cores.rest, cores.rest)?;
        }
        Ok(Self { loaded, idle, target, pool, socket })
    }

    /// Where the file tree of the daemon under load is.
    pub(crate) fn tree(&self) -> PathBuf {
        self.loaded.tree()
    }

    /// Where that of the other is.
    pub(crate) fn idle_tree(&self) -> PathBuf {
        self.idle.tree()
    }

    /// What the threads of the daemon under load have taken so far.
    pub(crate) fn spent(&self) -> Result<Spent> {
        Spent::of(self.loaded.pid()?, REACTOR)
    }

    /// A round of load through the export.
    pub(crate) fn load(&self, plan: Plan) -> Result<Round> {
        nbd::round(&self.socket, DISK, plan, BYTES)
    }

    /// Ends everything in order.
    pub(crate) fn end(mut self) -> Result<()> {
        self.loaded.end()?;
        self.idle.end()?;
        self.target.shutdown(WITHIN)?;
        Ok(self.pool.shutdown(WITHIN)?)
    }
}

/// Starts this program as a daemon, and waits until it says, as it would say to systemd, that it is ready.
fn start(dir: &Path) -> Result<Child> {
    let notify = dir.join("notify.sock");
    let told = UnixDatagram::bind(&notify)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--as-daemon")
        .arg(dir)
        .env("NOTIFY_SOCKET", &notify)
        .spawn()
        .context("this program cannot be started")?;
    let deadline = Instant::now() + WITHIN;
    let mut text = [0; 256];
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
        told.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        if let Ok(bytes) = told.recv(&mut text)
            && text[..bytes].starts_with(b"READY=1")
        {
            return Ok(child);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the daemon ended with {status}");
        }
        ensure!(Instant::now() < deadline, "the daemon is not ready within {WITHIN:?}");
    }
}

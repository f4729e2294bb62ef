//! What the tests share: an embedded target with two ports, a host connected to both, and an export of its namespace.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

pub mod lacking;
pub mod raw;

use interlock_export::{ExportSettings, ExportStatus, NbdServer, NbdSettings};
use interlock_host::{ControllerSpec, Host, HostSettings, Namespace, Nqn, Pool, PoolConfig};
use interlock_target::Target;
use interlock_target::config::{Config, SAMPLE_NQN};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of its own, removed at the end.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("interlock-export-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the temporary directory takes a new one");
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A target, a host with a path to each of its ports, and a server. Ended in this order: server, host, target.
pub struct Stage {
    pub dir: Dir,
    pub server: NbdServer,
    pub host: Host,
    pub target: Target,
    pub pools: [Pool; 2],
}

/// How the stage is set.
pub struct Setting {
    pub backing: &'static str,
    pub block_size: u32,
    pub reactors: usize,
    /// Further lines of the target's configuration.
    pub more: &'static str,
    /// Of every path.
    pub fast_io_fail: Option<Duration>,
    /// What stands between the host and a port: where it listens.
    pub through: Option<fn(SocketAddr) -> SocketAddr>,
}

impl Default for Setting {
    fn default() -> Self {
        Self { backing: "mem:64M", block_size: 4096, reactors: 1, more: "", fast_io_fail: None, through: None }
    }
}

impl Stage {
    pub fn set(setting: &Setting) -> Self {
        let Setting { backing, block_size, more, .. } = setting;
        let config = format!(
            "nqn = \"{SAMPLE_NQN}\"\n{more}\n[[port]]\nlisten = \"127.0.0.1:0\"\n[[port]]\nlisten = \"127.0.0.1:0\"\n\
             [[namespace]]\nbacking = \"{backing}\"\nblock_size = {block_size}\n"
        );
        let config = Config::from_toml(&config).expect("the configuration is right");
        let pool = |reactors, name: &str| {
            let config = PoolConfig { reactors, spin: Duration::ZERO, name: name.into(), ..PoolConfig::default() };
            Pool::new(config).expect("io_uring is there")
        };
        let pools = [pool(1, "target"), pool(setting.reactors, "host")];
        let target = Target::start(pools[0].reactors(), &config).expect("the target starts");
        let host = HostSettings::random().expect("random numbers");
        let host = Host::start(pools[1].reactors(), host).expect("the host starts");
        for port in target.ports() {
            let mut spec = self::spec(setting.through.map_or(*port, |through| through(*port)));
            spec.reconnect.fast_io_fail = setting.fast_io_fail;
            host.connect_and_wait(spec, PATIENCE).expect("the path connects");
        }
        let dir = Dir::new();
        let server = NbdServer::start(pools[1].reactors(), NbdSettings::new(dir.file("nbd"))).expect("it listens");
        Self { dir, server, host, target, pools }
    }

    pub fn namespace(&self) -> Namespace {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.host.namespace(SAMPLE_NQN, 1) {
                Ok(namespace) => return namespace,
                Err(error) => assert!(Instant::now() < until, "no namespace: {error}"),
            }
            std::thread::yield_now();
        }
    }

    /// Exports the namespace as `disk`.
    pub fn exported(self) -> Self {
        self.server.add(ExportSettings::new("disk", self.namespace())).expect("the name is free");
        self
    }

    /// The one export, as it stands.
    pub fn status(&self) -> ExportStatus {
        self.server.status().swap_remove(0)
    }

    pub fn socket(&self) -> &Path {
        self.server.socket()
    }

    pub fn uri(&self) -> String {
        format!("nbd+unix:///disk?socket={}", self.socket().display())
    }

    pub fn strike(self) {
        let Self { dir, server, host, target, pools } = self;
        server.stop(interlock_export::Stop::Force, PATIENCE).expect("force always ends");
        drop(server);
        host.shutdown(PATIENCE).expect("the host ends");
        target.shutdown(PATIENCE).expect("the target ends");
        for pool in pools {
            pool.shutdown(PATIENCE).expect("no service panicked");
        }
        drop(dir);
    }
}

pub fn spec(port: SocketAddr) -> ControllerSpec {
    let mut spec = ControllerSpec::new("127.0.0.1", port.port(), Nqn::new(SAMPLE_NQN).expect("an NQN"));
    spec.kato = Duration::from_secs(1);
    spec.reconnect.delay = Duration::from_millis(100);
    spec
}

/// Waits until `done` gives something.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// A client program; `None`, said aloud, if this machine does not have it.
pub fn client(program: &str) -> Option<Command> {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        say(&format!("SKIPPED: {program} is not installed"));
        return None;
    }
    Some(Command::new(program))
}

pub fn say(text: &str) {
    use std::io::Write as _;
    // Past the capture of the test harness: a skipped test must be seen.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Runs a client to its end and gives what it printed.
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it can be started");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{text}");
    text
}

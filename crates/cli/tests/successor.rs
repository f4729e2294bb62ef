//! A host process is killed while the target holds its writes; the next process of the same host comes.
//!
//! Two real processes, because what is tested is what the kernel does with the sockets, the lock and the file of a
//! process that is gone. This program starts itself as the first of them, so it has no test harness. Each story is told
//! with the state directory and once without: without it the ghost must execute, or the others prove nothing.

use interlock_host::{
    ControllerSpec, EventKind, FileStore, Host, HostError, HostSettings, Loss, Method, Nqn, Outcome, Pool, PoolConfig,
    StoreError, UnfencedWhy,
};
use interlock_target::config::{Ana, Backing, Config, NamespaceConfig, PortConfig, Recovery, SAMPLE_NQN};
use interlock_target::{Fault, PortId, Stamped, Target, TargetEvent};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);
const WRITES: u64 = 8;
const OLD: u8 = 0xAA;
const NEW: u8 = 0xBB;
const A: PortId = PortId(0);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, role, addr, dir] = args.as_slice()
        && role == "predecessor"
    {
        return predecessor(addr.parse().expect("an address"), Path::new(dir));
    }
    let mut out = std::io::stdout();
    for (name, story) in [
        ("a_successor_fences_by_ccr_before_its_first_write", by_ccr as fn()),
        ("a_successor_without_ccr_waits_from_the_end_of_the_old_sockets", by_time),
        ("without_a_state_directory_the_ghost_executes", unfenced),
    ] {
        writeln!(out, "test {name} ...").expect("standard output");
        story();
        writeln!(out, "test {name} ... ok").expect("standard output");
    }
}

// --- The first process ---

/// Writes and never hears of it; waits to be killed.
fn predecessor(addr: SocketAddr, dir: &Path) {
    let (pool, host) = host(Some(dir)).expect("the directory is free");
    connect(&host, addr);
    let namespace = host.namespace(SAMPLE_NQN, 1).expect("a namespace");
    let mut pending = Vec::new();
    for slba in 0..WRITES {
        let mut buf = namespace.buffer(1);
        buf.get_mut().expect("our own buffer").fill(OLD);
        pending.push(namespace.write(slba, buf));
    }
    // One lane, one queue pair, one stream of bytes: an answer to what came later says that the target has the writes.
    let (outcome, _) = namespace.read(100, 1).wait();
    assert_eq!(outcome, Outcome::Ok);
    writeln!(std::io::stdout(), "sent").expect("a pipe");
    let mut line = String::new();
    // The parent never writes; should it die instead of killing, this ends.
    let _ = std::io::stdin().read_line(&mut line);
    drop((pending, host, pool));
}

// --- Both ---

/// One identity for both processes.
fn settings() -> HostSettings {
    let hostid = interlock_host::HostId(*b"two processes...");
    HostSettings { hostnqn: Nqn::of_host(hostid), hostid }
}

fn host(dir: Option<&Path>) -> Result<(Pool, Host), StoreError> {
    let pool = Pool::new(PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() }).expect("a reactor");
    let host = match dir {
        Some(dir) => Host::start_with(pool.reactors(), settings(), Box::new(FileStore::open(dir, &settings())?)),
        None => Host::start(pool.reactors(), settings()),
    };
    Ok((pool, host.expect("a host")))
}

fn connect(host: &Host, addr: SocketAddr) {
    let mut spec = ControllerSpec::new(addr.ip().to_string(), addr.port(), Nqn::new(SAMPLE_NQN).expect("a name"));
    spec.kato = Duration::from_secs(1);
    host.connect_and_wait(spec, PATIENCE).expect("the target is there");
}

// --- The second process, and the target ---

struct Scene {
    target: Target,
    pool: Pool,
    events: Receiver<Stamped>,
    dir: PathBuf,
}

impl Scene {
    fn set(name: &str, recovery: Recovery) -> Self {
        let pool = Pool::new(PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() }).expect("a reactor");
        let config = Config {
            ports: vec![PortConfig { listen: ([127, 0, 0, 1], 0).into(), ana: Ana::Optimized }],
            namespaces: vec![NamespaceConfig {
                nsid: Some(1),
                block_size: 512,
                ..NamespaceConfig::new(Backing::Memory { bytes: 1 << 20 })
            }],
            recovery: Recovery { traffic_based_keep_alive: false, ..recovery },
            nqn: Some(SAMPLE_NQN.into()),
            ..Config::default()
        };
        let target = Target::start(pool.reactors(), &config).expect("a target");
        let events = target.subscribe();
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
        Self { target, pool, events, dir }
    }

    fn addr(&self) -> SocketAddr {
        self.target.ports()[0]
    }

    /// The first process writes into a target that holds the writes, and is killed; the target lets later writes pass.
    fn kill_the_predecessor(&self, dir: &Path, while_it_runs: impl FnOnce(&Child)) {
        self.target.script(Fault::HoldWrites { port: A });
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg("predecessor")
            .arg(self.addr().to_string())
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        said.read_line(&mut line).expect("a pipe");
        assert_eq!(line, "sent\n", "{}", rest(said));
        while_it_runs(&child);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        for _ in 0..WRITES {
            self.wait(|event| matches!(event, TargetEvent::GhostArmed(_)));
        }
        self.target.script(Fault::StopHolding { port: A });
    }

    fn wait(&self, what: impl Fn(&TargetEvent) -> bool) {
        loop {
            let event = self.events.recv_timeout(PATIENCE).expect("the target does this in time").event;
            if what(&event) {
                return;
            }
        }
    }

    /// Lets the ghosts try: how many executed, how many were refused.
    fn release(&self) -> (u64, u64) {
        self.target.script(Fault::Release);
        let (mut executed, mut refused) = (0, 0);
        while executed + refused < WRITES {
            match self.events.recv_timeout(PATIENCE).expect("every ghost tries").event {
                TargetEvent::GhostExecuted(_) => executed += 1,
                TargetEvent::GhostRefused { .. } => refused += 1,
                _ => {}
            }
        }
        (executed, refused)
    }

    fn strike(self, pool: Pool, host: Host) {
        host.shutdown(PATIENCE).expect("an orderly end");
        drop(host);
        pool.shutdown(PATIENCE).expect("an orderly end");
        self.target.shutdown(PATIENCE).expect("an orderly end");
        drop(self.target);
        self.pool.shutdown(PATIENCE).expect("an orderly end");
        if self.dir.exists() {
            let left = FileStore::open(&self.dir, &settings())
                .map(|mut store| interlock_host::LifeStore::predecessors(&mut store).len());
            assert_eq!(left.expect("the directory is free"), 0, "what ended in order needs no fence");
            std::fs::remove_dir_all(&self.dir).expect("our own directory");
        }
    }
}

fn rest(mut said: impl Read) -> String {
    let mut text = String::new();
    let _ = said.read_to_string(&mut text);
    text
}

/// Block 0 gets its new contents; it is what ghosts would overwrite.
fn write_anew(host: &Host) {
    let namespace = host.namespace(SAMPLE_NQN, 1).expect("a namespace");
    let mut buf = namespace.buffer(1);
    buf.get_mut().expect("our own buffer").fill(NEW);
    assert_eq!(namespace.write(0, buf).wait().0, Outcome::Ok);
}

fn block_0(host: &Host) -> u8 {
    let (outcome, buf) = host.namespace(SAMPLE_NQN, 1).expect("a namespace").read(0, 1).wait();
    assert_eq!(outcome, Outcome::Ok);
    buf.expect("a buffer").as_slice()[0]
}

fn by_ccr() {
    // Nothing but a reset ends the ghosts while this runs.
    let scene = Scene::set("by-ccr", Recovery { ccr: true, cqt_ms: 60_000, quiesce_ms: 60_000, ..Recovery::default() });
    let dir = scene.dir.clone();
    scene.kill_the_predecessor(&dir, |child| {
        let refused = host(Some(&dir)).map(|_| ()).expect_err("one process at a time");
        assert!(matches!(refused, StoreError::InUse { pid: Some(pid), .. } if pid == child.id()), "{refused}");
        // Its record names what a successor must see gone: the admin connection and one I/O queue.
        let lives = std::fs::read_to_string(dir.join("lives")).expect("our own file");
        let (record, _) = lives.lines().nth(1).and_then(|line| line.rsplit_once(' ')).expect("one life");
        let record: serde_json::Value = serde_json::from_str(record).expect("an entry");
        let sockets = record["life"]["sockets"].as_array().expect("a list");
        let to_target = |pair: &&serde_json::Value| pair[1] == scene.addr().to_string() && pair[0] != pair[1];
        assert_eq!((sockets.len(), sockets.iter().filter(to_target).count()), (2, 2), "{record}");
    });
    // The reset takes a while, so that a write that does not wait for it would be first.
    scene.target.script(Fault::SlowDrain { ms: 1_500 });
    let (pool, host) = host(Some(&dir)).expect("its owner is dead");
    let status = host.status().expect("it answers");
    assert_eq!(status.tombstones.len(), 1, "one life was left");
    let left = status.tombstones[0].life;
    connect(&host, scene.addr());
    assert_eq!(block_0(&host), 0, "reads flow");
    let early = host.wait_fenced(SAMPLE_NQN, 1, Duration::ZERO).expect_err("and nothing is fenced yet");
    assert!(matches!(&early, HostError::NotFenced { left: lives, .. } if lives.len() == 1 && lives[0].life == left));
    assert_eq!(early.to_string(), format!("1 life is not fenced within 0ns: {left} of nvme0"));
    write_anew(&host);
    // The target answered the write, so all that came before it has been told.
    let told: Vec<TargetEvent> = scene.events.try_iter().map(|stamped| stamped.event).collect();
    assert!(
        told.iter()
            .any(|event| matches!(event, TargetEvent::Fenced { cancelled, .. } if u64::from(*cancelled) == WRITES)),
        "fenced before the first write: {told:?}"
    );
    assert_eq!(scene.release(), (0, WRITES));
    assert_eq!(block_0(&host), NEW);
    let status = host.status().expect("it answers");
    let [receipt] = status.receipts.as_slice() else { panic!("one receipt: {:?}", status.receipts) };
    assert_eq!((receipt.life, receipt.method, &receipt.loss), (left, Method::Log, &Loss::Predecessor));
    assert!(status.tombstones.is_empty());
    let alive = host.wait_fenced(SAMPLE_NQN, 1, PATIENCE).expect("fenced");
    assert!(alive.len() == 1 && alive[0].why == UnfencedWhy::Alive && alive[0].life > left, "{alive:?}");
    scene.strike(pool, host);
}

fn by_time() {
    let scene = Scene::set("by-time", Recovery { ccr: false, cqt_ms: 500, quiesce_ms: 400, ..Recovery::default() });
    let dir = scene.dir.clone();
    scene.kill_the_predecessor(&dir, |_| {});
    let (pool, host) = host(Some(&dir)).expect("its owner is dead");
    let events = host.subscribe();
    connect(&host, scene.addr());
    write_anew(&host);
    let fenced = events.try_iter().find_map(|event| match event.kind {
        EventKind::Fenced(receipt) => Some(receipt),
        _ => None,
    });
    let receipt = fenced.expect("fenced before the first write");
    assert_eq!((receipt.method, &receipt.loss), (Method::Time, &Loss::Predecessor));
    let held = receipt.fenced - receipt.t0.expect("its sockets are gone");
    assert!(held >= Duration::from_millis(2_500), "twice KATO and CQT from there: {held:?}");
    assert_eq!(scene.release(), (0, WRITES));
    assert_eq!(block_0(&host), NEW);
    scene.strike(pool, host);
}

fn unfenced() {
    let scene =
        Scene::set("unfenced", Recovery { ccr: true, cqt_ms: 60_000, quiesce_ms: 60_000, ..Recovery::default() });
    let dir = scene.dir.clone();
    scene.kill_the_predecessor(&dir, |_| {});
    std::fs::remove_dir_all(&dir).expect("our own directory");
    let (pool, host) = host(None).expect("no directory, no owner");
    connect(&host, scene.addr());
    write_anew(&host);
    assert_eq!(block_0(&host), NEW);
    assert_eq!(scene.release(), (WRITES, 0), "nothing had ended them");
    assert_eq!(block_0(&host), OLD, "the stale write that a state directory prevents");
    scene.strike(pool, host);
}

//! The targets of a thousand controllers, in a process of their own: what the host costs is to be seen alone.
//!
//! The parent says a word per line, and has the answer as a line of JSON.

use crate::machine;
use anyhow::{Context, Result, bail, ensure};
use interlock_ring::{Pool, PoolConfig};
use interlock_target::config::{Ana, Backing, Config, NamespaceConfig, PortConfig, Recovery};
use interlock_target::{Fault, PortId, Stamped, Target, TargetEvent};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The targets go on with what they hold for longer than the host may take.
const QUIESCE_MS: u16 = 10_000;

/// Ports of every subsystem: A, which is lost, and B.
const PORTS: usize = 2;
const A: PortId = PortId(0);

/// No answer takes longer.
const ANSWER: Duration = Duration::from_secs(60);

/// What the parent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Writes that come in through A stall from now on.
    Hold,
    /// Every port A is gone: its connections are reset, and it listens no more.
    Lose,
    /// What is held is tried.
    Try,
}

/// What became of the held commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ghosts {
    pub(crate) armed: usize,
    pub(crate) refused: usize,
    pub(crate) executed: usize,
}

/// Name of a subsystem.
pub(crate) fn nqn(place: usize) -> String {
    format!("nqn.2026-11.io.interlock:scale-{place}")
}

/// Serves so many subsystems until the parent is gone.
pub(crate) fn serve(subsystems: usize) -> Result<()> {
    machine::many_files()?;
    let pool = Pool::new(PoolConfig { reactors: 1, name: "targets".into(), ..PoolConfig::default() })?;
    machine::pin(&pool.reactor(0), 1)?;
    let targets = (0..subsystems).map(|place| target(&pool, place)).collect::<Result<Vec<_>>>()?;
    let events: Vec<Receiver<Stamped>> = targets.iter().map(Target::subscribe).collect();
    let ports: Vec<&[SocketAddr]> = targets.iter().map(Target::ports).collect();
    answer(&ports)?;
    for line in std::io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line?)?;
        let script = |fault| targets.iter().for_each(|target| target.script(fault));
        match order {
            Order::Hold => script(Fault::HoldWrites { port: A }),
            Order::Lose => script(Fault::ClosePort { port: A }),
            Order::Try => script(Fault::Clear),
        }
        // Done when every target has answered.
        for target in &targets {
            target.status()?;
        }
        let mut ghosts = Ghosts::default();
        if order == Order::Try {
            for event in events.iter().flat_map(Receiver::try_iter) {
                match event.event {
                    TargetEvent::GhostArmed(_) => ghosts.armed += 1,
                    TargetEvent::GhostRefused { .. } => ghosts.refused += 1,
                    TargetEvent::GhostExecuted(_) => ghosts.executed += 1,
                    _ => {}
                }
            }
        }
        answer(&ghosts)?;
    }
    Ok(())
}

fn answer(data: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, data)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn target(pool: &Pool, place: usize) -> Result<Target> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = Config {
        nqn: Some(nqn(place)),
        ports: vec![PortConfig { listen, ana: Ana::Optimized }; PORTS],
        namespaces: vec![NamespaceConfig {
            nsid: Some(1),
            block_size: 4096,
            ..NamespaceConfig::new(Backing::Null { bytes: 1 << 30 })
        }],
        recovery: Recovery { cqt_ms: QUIESCE_MS, quiesce_ms: QUIESCE_MS.into(), ..Recovery::default() },
        ..Config::default()
    };
    Ok(Target::start(pool.reactors(), &config)?)
}

/// The process of the targets, from the host's side. It ends with this.
pub(crate) struct Targets {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
    /// The ports of every subsystem.
    pub(crate) ports: Vec<Vec<SocketAddr>>,
}

impl Targets {
    pub(crate) fn start(subsystems: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(format!("--serve-targets={subsystems}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the targets' process does not start")?;
        let orders = child.stdin.take().context("piped above")?;
        let lines = BufReader::new(child.stdout.take().context("piped above")?).lines();
        let (say, answers) = channel();
        std::thread::Builder::new().name("answers".into()).spawn(move || {
            // Ends with the process, or with whoever listens.
            lines.map_while(Result::ok).all(|line| say.send(line).is_ok())
        })?;
        let mut targets = Self { child, orders, answers, ports: Vec::new() };
        targets.ports = targets.answer()?;
        ensure!(targets.ports.len() == subsystems, "{} targets instead of {subsystems}", targets.ports.len());
        Ok(targets)
    }

    /// Gives an order, and waits until it is done.
    pub(crate) fn order(&mut self, order: Order) -> Result<Ghosts> {
        serde_json::to_writer(&mut self.orders, &order)?;
        writeln!(self.orders)?;
        self.answer()
    }

    fn answer<T: for<'de> Deserialize<'de>>(&self) -> Result<T> {
        let Ok(line) = self.answers.recv_timeout(ANSWER) else { bail!("the targets do not answer within {ANSWER:?}") };
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

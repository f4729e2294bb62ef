//! How to test your own program against a lost path: the target runs inside the test and misbehaves on command.
//!
//! ```sh
//! cargo run -p interlock-drill --example lost_path
//! ```
//!
//! A write stalls inside the target as in a hung array, its path breaks, the host fences the lost controller and writes again on
//! the other path, and a newer write follows. Then the target tries to execute the stale one.

use interlock_host::{ControllerSpec, EventKind, Host, HostSettings, Namespace, Nqn, Outcome, Pool, PoolConfig};
use interlock_target::{Fault, PortId, Target, TargetEvent, config::Config};
use std::error::Error;
use std::io::Write;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(10);
const DOOMED: PortId = PortId(0);

fn main() -> Result<(), Box<dyn Error>> {
    // Two ports; the host prefers the first one, because the second is not optimized.
    let config = Config::from_toml(
        r#"
        [[port]]
        listen = "127.0.0.1:0"
        [[port]]
        listen = "127.0.0.1:0"
        ana = "non-optimized"
        [[namespace]]
        backing = "mem:64M"
        "#,
    )?;
    // Reactors of their own: host and target share nothing but sockets.
    let target_pool = Pool::new(PoolConfig { reactors: 1, name: "target".into(), ..PoolConfig::default() })?;
    let target = Target::start(target_pool.reactors(), &config)?;
    let target_events = target.subscribe();

    let host_pool = Pool::new(PoolConfig { reactors: 1, name: "host".into(), ..PoolConfig::default() })?;
    let host = Host::start(host_pool.reactors(), HostSettings::random()?)?;
    let events = host.subscribe();
    let subnqn = Nqn::new(target.nqn())?;
    for port in target.ports() {
        host.connect_and_wait(ControllerSpec::new(port.ip().to_string(), port.port(), subnqn.clone()), WITHIN)?;
    }
    let namespace = host.namespace(subnqn.as_str(), 1)?;

    // The write reaches the target and stalls there.
    target.script(Fault::HoldWrites { port: DOOMED });
    let stalled = write(&namespace, 1)?;
    while !matches!(target_events.recv_timeout(WITHIN)?.event, TargetEvent::Held(_)) {}

    // Its path breaks. The host fences the lost controller, and only then writes on the other path.
    target.script(Fault::StopHolding { port: DOOMED });
    target.script(Fault::ResetConnections { port: DOOMED });
    expect_ok("the stalled write, on the other path", stalled.wait().0)?;
    expect_ok("a newer write", write(&namespace, 2)?.wait().0)?;

    // The target tries to execute what it still holds.
    target.script(Fault::Release);
    while !matches!(
        target_events.recv_timeout(WITHIN)?.event,
        TargetEvent::GhostRefused { .. } | TargetEvent::GhostExecuted(_)
    ) {}
    let (outcome, buf) = namespace.read(0, 1).wait();
    expect_ok("the read", outcome)?;
    let byte = buf.ok_or("a read returns its buffer")?.as_slice()[0];
    if byte != 2 {
        return Err(format!("the block holds {byte}: the stale write overwrote the newer one").into());
    }

    let mut out = std::io::stdout().lock();
    for event in events.try_iter() {
        if matches!(event.kind, EventKind::Fenced(_)) {
            writeln!(out, "{event}")?;
        }
    }
    writeln!(out, "the newer write is there, the stale one was stopped")?;
    host.shutdown(WITHIN)?;
    target.shutdown(WITHIN)?;
    Ok(())
}

/// Writes the first block.
fn write(namespace: &Namespace, byte: u8) -> Result<interlock_host::Pending, Box<dyn Error>> {
    let mut buf = namespace.buffer(1);
    buf.get_mut().ok_or("a fresh buffer has one holder")?.fill(byte);
    Ok(namespace.write(0, buf))
}

fn expect_ok(what: &str, outcome: Outcome) -> Result<(), Box<dyn Error>> {
    if outcome == Outcome::Ok { Ok(()) } else { Err(format!("{what} ended with {outcome:?}").into()) }
}

//! A target that dies of one block, on real sockets: the command fails, and nothing else does.

use interlock_host::poison::Stage;
use interlock_host::{ControllerSpec, EventKind, Host, HostSettings, Nqn, Op, Outcome, Pending, Pool, PoolConfig};
use interlock_target::Target;
use interlock_target::config::{Config, FaultConfig, SAMPLE_NQN};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// The block of which controllers die.
const DEADLY: u64 = 8;

fn pool(reactors: usize, name: &str) -> Pool {
    let config = PoolConfig { reactors, spin: Duration::ZERO, name: name.into(), ..PoolConfig::default() };
    Pool::new(config).expect("io_uring or epoll is there")
}

#[test]
fn a_block_of_which_controllers_die_takes_no_path_away() {
    let port = "[[port]]\nlisten = \"127.0.0.1:0\"\n";
    let namespace = "[[namespace]]\nbacking = \"mem:4M\"\n";
    let config = Config::from_toml(&format!("nqn = \"{SAMPLE_NQN}\"\n{port}{port}{namespace}"));
    let pools = [pool(2, "target"), pool(2, "host")];
    let target = Target::start(pools[0].reactors(), &config.expect("the configuration is right")).expect("it starts");
    let host = Host::start(pools[1].reactors(), HostSettings::random().expect("random numbers")).expect("a host");
    let events = host.subscribe();
    for address in target.ports() {
        let spec = ControllerSpec::new("127.0.0.1", address.port(), Nqn::new(SAMPLE_NQN).expect("a name"));
        host.connect_and_wait(spec, PATIENCE).expect("the target is there");
    }
    let namespace = host.namespace(SAMPLE_NQN, 1).expect("it is there");
    for port in 0..2 {
        target.script_config(FaultConfig::CrashOn { port, nsid: 1, lba: DEADLY }).expect("the target knows it");
    }
    let until = Instant::now() + PATIENCE;
    let end = loop {
        let [deadly, neighbour] = [DEADLY, DEADLY - 1].map(|lba| namespace.write(lba, namespace.buffer(1)));
        let ended = |write: Pending| write.wait_until(until).ok().expect("it ends").0;
        assert_eq!(ended(neighbour), Outcome::Ok, "it is lost with the deadly one, and does not fail");
        match ended(deadly) {
            // The target has not heard of its fault yet.
            Outcome::Ok => {}
            other => break other,
        }
    };
    assert!(matches!(end, Outcome::Poison { instances: 5.. }), "{end:?}");
    let (mut failed, mut named) = (0, false);
    while let Ok(event) = events.recv_timeout(Duration::from_millis(200)) {
        match event.kind {
            EventKind::Suspect { stage: Stage::Failed, command } => {
                assert_eq!((command.range, command.op), (DEADLY..DEADLY + 1, Op::Write { fua: false }));
                failed += 1;
            }
            EventKind::Fenced(receipt) => named |= receipt.suspect.is_some(),
            _ => {}
        }
    }
    assert_eq!((failed, named), (1, true), "an event tells it, and a receipt names it");
    let status = host.status().expect("the host answers");
    assert!(status.namespaces[0].suspects.is_empty(), "nothing waits any more");
    assert_eq!(status.namespaces[0].paths.len(), 2, "both paths are there");
    host.shutdown(PATIENCE).expect("an orderly end");
    drop((namespace, host));
    target.shutdown(PATIENCE).expect("an orderly end");
    for pool in pools {
        pool.shutdown(PATIENCE).expect("an orderly end");
    }
}

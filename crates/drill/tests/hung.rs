//! A reactor of the host hangs while a controller of its is lost: another thread ends what it keeps.

use interlock_host::{ControllerSpec, EventKind, Host, HostSettings, Nqn, Pool, PoolConfig};
use interlock_ring::{Cx, Event, Service};
use interlock_target::Target;
use interlock_target::config::{Config, SAMPLE_NQN};
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A service whose reactor does nothing else before it is told to.
struct Blocks(mpsc::Receiver<()>, mpsc::Sender<()>);

impl Service for Blocks {
    fn handle(&mut self, _cx: &mut Cx<'_>, event: Event) {
        if matches!(event, Event::Attached) {
            self.1.send(()).expect("somebody waits for it");
            // Until it is told, or whoever could tell it is gone.
            let _ = self.0.recv();
        }
    }
}

fn pool(reactors: usize, name: &str) -> Pool {
    let config = PoolConfig { reactors, spin: Duration::ZERO, name: name.into(), ..PoolConfig::default() };
    Pool::new(config).expect("io_uring is there")
}

/// The near ends of this machine's connections to a port of 127.0.0.1, in whatever hands.
fn established_to(port: u16) -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells");
    let peer = format!("0100007F:{port:04X}");
    let near = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        (columns[2] == peer && columns[3] == "01").then(|| columns[1].to_owned())
    };
    table.lines().filter_map(near).collect()
}

#[test]
fn a_reactor_that_hangs_keeps_no_socket_of_a_lost_controller() {
    let port = "[[port]]\nlisten = \"127.0.0.1:0\"\n[[namespace]]\nbacking = \"mem:4M\"\n";
    let config = Config::from_toml(&format!("nqn = \"{SAMPLE_NQN}\"\n{port}")).expect("the configuration is right");
    let pools = [pool(1, "target"), pool(2, "host")];
    let target = Target::start(pools[0].reactors(), &config).expect("the target starts");
    let host = Host::start(pools[1].reactors(), HostSettings::random().expect("random numbers")).expect("a host");
    let events = host.subscribe();
    let port = target.ports()[0].port();
    let mut spec = ControllerSpec::new("127.0.0.1", port, Nqn::new(SAMPLE_NQN).expect("a name"));
    spec.timeouts.drain = Duration::from_millis(100);
    let ctrl = host.connect_and_wait(spec, PATIENCE).expect("the target is there");
    let old = established_to(port);
    assert_eq!(old.len(), 3, "an admin queue, and one for each lane");

    let (go_on, told) = mpsc::channel();
    let (say, blocked) = mpsc::channel();
    pools[1].reactor(1).attach(move |_| Box::new(Blocks(told, say))).expect("a reactor that runs");
    blocked.recv_timeout(PATIENCE).expect("it hangs");
    host.disconnect(ctrl).expect("it is asked for");
    let mut named = false;
    loop {
        let event = events.recv_timeout(PATIENCE).expect("the hold begins although the lane says nothing");
        named |= matches!(event.kind, EventKind::LaneSilent { .. });
        if matches!(event.kind, EventKind::HoldUntil { .. }) {
            break;
        }
    }
    assert!(named, "by name first");
    // The admin queue is control's: its send queue is empty, and it stays open for late answers.
    assert_eq!(established_to(port).intersection(&old).count(), 1, "the lane still hangs, and has no connection left");
    drop(go_on);
    host.shutdown(PATIENCE).expect("an orderly end");
    drop(host);
    target.shutdown(PATIENCE).expect("an orderly end");
    for pool in pools {
        pool.shutdown(PATIENCE).expect("an orderly end");
    }
}

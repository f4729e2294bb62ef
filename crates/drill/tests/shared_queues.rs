//! A target that grants fewer I/O queues than the host has reactors: the reactors share them.

use interlock_host::{Buf, ControllerSpec, Host, HostSettings, Namespace, Nqn, Outcome, Pool, PoolConfig, StateName};
use interlock_target::config::{Config, SAMPLE_NQN};
use interlock_target::{PortId, Target};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const REACTORS: usize = 4;
/// Requests of each handle.
const ROUNDS: u64 = 64;

fn pool(reactors: usize, name: &str) -> Pool {
    let config = PoolConfig { reactors, spin: Duration::ZERO, name: name.into(), ..PoolConfig::default() };
    Pool::new(config).expect("reactors")
}

fn filled(ns: &Namespace, with: u8) -> Buf {
    let mut buf = ns.buffer(1);
    buf.get_mut().expect("our own buffer").fill(with);
    buf
}

#[test]
fn reactors_share_the_queues_of_a_target_that_grants_fewer() {
    for queues in [1, 3] {
        let rest = "[[port]]\nlisten = \"127.0.0.1:0\"\n[[namespace]]\nbacking = \"mem:4M\"\n";
        let text = format!("nqn = \"{SAMPLE_NQN}\"\nio_queues = {queues}\n{rest}");
        let config = Config::from_toml(&text).expect("the configuration is right");
        let pools = [pool(1, "target"), pool(REACTORS, "host")];
        let target = Target::start(pools[0].reactors(), &config).expect("the target starts");
        let host = Host::start(pools[1].reactors(), HostSettings::random().expect("random numbers")).expect("a host");
        let nqn = Nqn::new(SAMPLE_NQN).expect("a name");
        let spec = ControllerSpec::new("127.0.0.1", target.ports()[0].port(), nqn);
        host.connect_and_wait(spec, PATIENCE).expect("it can be used");
        // Handles take the lanes in turn.
        let handles: Vec<Namespace> =
            (0..REACTORS).map(|_| host.namespace(SAMPLE_NQN, 1).expect("a namespace")).collect();
        let block = |of: usize, round: u64| of as u64 * ROUNDS + round;
        let value = |of: usize, round: u64| (block(of, round) % 251) as u8;
        let writes: Vec<_> = (0..ROUNDS)
            .flat_map(|round| (0..REACTORS).map(move |of| (of, round)))
            .map(|(of, round)| handles[of].write(block(of, round), filled(&handles[of], value(of, round))))
            .collect();
        for write in writes {
            let (outcome, buf) = write.wait();
            assert_eq!((outcome, buf.is_some()), (Outcome::Ok, true), "and the buffer comes back");
        }
        for (at, handle) in handles.iter().enumerate() {
            assert_eq!(handle.flush().wait().0, Outcome::Ok);
            // What another lane has written.
            let of = (at + 1) % REACTORS;
            for round in 0..ROUNDS {
                let (outcome, buf) = handle.read(block(of, round), 1).wait();
                let buf = buf.expect("the buffer comes back");
                assert_eq!(outcome, Outcome::Ok);
                assert!(buf.as_slice().iter().all(|byte| *byte == value(of, round)), "block {}", block(of, round));
            }
        }
        // What is given up on the way ends, and what comes after it waits for that and goes on.
        for handle in &handles {
            drop(handle.write(0, filled(handle, 1)));
            assert_eq!(handle.write(0, filled(handle, 2)).wait().0, Outcome::Ok);
            let (outcome, buf) = handle.read(0, 1).wait();
            assert_eq!(outcome, Outcome::Ok);
            assert!(buf.expect("the buffer comes back").as_slice().iter().all(|byte| *byte == 2), "no stale write");
        }
        let counters = host.data_counters().expect("the host runs").lanes;
        assert!(counters.forwarded > 0 && counters.forwarded <= counters.served, "{queues} queues: {counters:?}");
        host.shutdown(PATIENCE).expect("an orderly end");
        drop(host);
        target.shutdown(PATIENCE).expect("an orderly end");
        for pool in pools {
            pool.shutdown(PATIENCE).expect("an orderly end");
        }
    }
}

/// Each of two paths has another number of I/O queues, so that some reactors have a queue of their own on one path only. A
/// failover in either direction changes whose queues they use, and loses, doubles and mixes up nothing.
#[test]
fn reactors_share_the_queues_of_two_paths_with_different_numbers_of_them() {
    for queues in [(1, 3), (4, 2)] {
        let port = "[[port]]\nlisten = \"127.0.0.1:0\"\n";
        let text = format!("nqn = \"{SAMPLE_NQN}\"\n{port}{port}[[namespace]]\nbacking = \"mem:4M\"\n");
        let config = Config::from_toml(&text).expect("the configuration is right");
        let pools = [pool(1, "target"), pool(REACTORS, "host")];
        let target = Target::start(pools[0].reactors(), &config).expect("the target starts");
        let host = Host::start(pools[1].reactors(), HostSettings::random().expect("random numbers")).expect("a host");
        for (port, queues) in [(0, queues.0), (1, queues.1)] {
            let nqn = Nqn::new(SAMPLE_NQN).expect("a name");
            let mut spec = ControllerSpec::new("127.0.0.1", target.ports()[port].port(), nqn);
            spec.nr_io_queues = queues;
            spec.reconnect.delay = Duration::from_secs(1);
            host.connect_and_wait(spec, PATIENCE).expect("it can be used");
        }
        let handles: Vec<Namespace> =
            (0..REACTORS).map(|_| host.namespace(SAMPLE_NQN, 1).expect("a namespace")).collect();
        let write_all = |value: u8| {
            let writes: Vec<_> = (0..ROUNDS)
                .flat_map(|round| (0..REACTORS as u64).map(move |of| of * ROUNDS + round))
                .map(|block| {
                    let handle = &handles[(block / ROUNDS) as usize];
                    handle.write(block, filled(handle, value))
                })
                .collect();
            for write in writes {
                assert_eq!(write.wait().0, Outcome::Ok, "{queues:?}");
            }
        };
        let read_all = |value: u8| {
            for block in 0..ROUNDS * REACTORS as u64 {
                // Through another lane than the one that wrote it.
                let (outcome, buf) = handles[(block % REACTORS as u64) as usize].read(block, 1).wait();
                assert_eq!(outcome, Outcome::Ok);
                let buf = buf.expect("the buffer comes back");
                assert!(buf.as_slice().iter().all(|byte| *byte == value), "{queues:?}: block {block}");
            }
        };
        write_all(1);
        read_all(1);
        for (value, away) in [(2, 0), (3, 1)] {
            target.close_port(PortId(away)).expect("it was open");
            write_all(value);
            read_all(value);
            target.open_port(PortId(away)).expect("its address is free");
            let events = host.subscribe();
            let live = || host.status().is_ok_and(|all| all.controllers.iter().all(|one| one.state == StateName::Live));
            while !live() {
                events.recv_timeout(PATIENCE).expect("the path comes back");
            }
        }
        write_all(4);
        read_all(4);
        host.shutdown(PATIENCE).expect("a graceful end");
        drop(host);
        target.shutdown(PATIENCE).expect("a graceful end");
        for pool in pools {
            pool.shutdown(PATIENCE).expect("a graceful end");
        }
    }
}

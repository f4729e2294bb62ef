//! Short, interrupted and refused system calls on both sides, under verified load.
//!
//! Host and target run in this process, and a decider stands at the boundary of both to the kernel: calls move what is
//! drawn, from one byte on, are interrupted, or find no memory.

use crate::child::NQN;
use crate::load::{Good, PATIENCE, quiet};
use crate::serving::Scratch;
use interlock_target::config::{Config, NamespaceConfig, PortConfig};
use interlock_target::{Call, Faults, Pool, Target, Verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const ENOBUFS: i32 = 105;

/// Draws from a counter: the same decisions in every run, in the order in which the calls come.
struct Drawn {
    state: AtomicU64,
    /// Of 100 calls, so many are cut short or fail.
    percent: u64,
    counts: [AtomicU64; 3],
}

impl Drawn {
    fn new(seed: u64, percent: u64) -> Arc<Self> {
        Arc::new(Self { state: AtomicU64::new(seed), percent, counts: Default::default() })
    }

    fn next(&self) -> u64 {
        let mut word = self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ word >> 31
    }
}

impl Faults for Drawn {
    fn decide(&self, call: &Call<'_>) -> Verdict {
        if self.next() % 100 >= self.percent {
            return Verdict::Pass;
        }
        let (kind, most) = match call {
            Call::Abort => return Verdict::Pass,
            Call::Send(len) => (0, *len),
            Call::Receive(len) => (1, *len),
            // With `O_DIRECT` the kernel itself moves whole blocks only.
            Call::File(_) => {
                self.counts[2].fetch_add(1, Ordering::Relaxed);
                return match self.next() % 8 {
                    0 => Verdict::Fail(EINTR),
                    1 => Verdict::Fail(EAGAIN),
                    _ => Verdict::AtMost(4096 * (1 + (self.next() % 32) as usize)),
                };
            }
        };
        self.counts[kind].fetch_add(1, Ordering::Relaxed);
        match (self.next() % 16, kind) {
            (0 | 1, _) => Verdict::Fail(EINTR),
            (2, 0) => Verdict::Fail(ENOBUFS),
            (2, _) => Verdict::Fail(ENOMEM),
            // Small ones are where headers are cut.
            (3..8, _) => Verdict::AtMost(1 + (self.next() % 128) as usize),
            _ => Verdict::AtMost(1 + (self.next() % most.max(1) as u64) as usize),
        }
    }
}

/// In blocks: in a capsule, staged, and received in place.
const SIZES: [u32; 12] = [1, 1, 2, 3, 1, 16, 1, 64, 5, 33, 1, 128];

fn run(name: &str, backing: &str, digests: bool, passes: u8) {
    let (ours, theirs) = (Drawn::new(7, 70), Drawn::new(11, 70));
    let pool = Pool::with_faults(quiet(), theirs.clone()).expect("a reactor");
    let config = Config {
        ports: vec!["127.0.0.1:0".parse::<PortConfig>().expect("an address"); 2],
        namespaces: vec![NamespaceConfig::new(backing.parse().expect("a backing"))],
        nqn: Some(NQN.into()),
        ..Config::default()
    };
    let target = Target::start(pool.reactors(), &config).expect("a target");
    let ports: Vec<u16> = target.ports().iter().map(|addr| addr.port()).collect();
    let good = Good::connect(Pool::with_faults(quiet(), ours.clone()).expect("a reactor"), &ports, digests);
    for salt in 0..passes {
        good.pass(salt, &SIZES);
    }
    let status = good.host.status().expect("it answers");
    assert_eq!(status.controllers.len(), 2, "{name}");
    let lives = target.status().expect("it answers").lives;
    assert!(lives.len() == 2 && lives.iter().all(|life| life.state == "live"), "{name}: no path was lost: {lives:?}");
    good.end();
    target.shutdown(PATIENCE).expect("an orderly end");
    pool.shutdown(PATIENCE).expect("an orderly end");
    for (side, drawn) in [("host", ours), ("target", theirs)] {
        let counts: Vec<u64> = drawn.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert!(counts[0] > 50 && counts[1] > 50, "{name}: too little was tried at the {side}: {counts:?}");
        assert!(side == "host" || backing.starts_with("mem") || counts[2] > 50, "{name}: {side}: {counts:?}");
    }
}

#[test]
fn memory_without_digests() {
    run("memory", "mem:4M", false, 6);
}

#[test]
fn memory_with_digests() {
    run("digests", "mem:4M", true, 6);
}

#[test]
fn a_file_with_digests() {
    let disk = Scratch::new("short.img", &vec![0; 4 << 20]);
    run("file", &format!("file:{}", disk.path()), true, 6);
}

/// One byte at a time, everywhere.
struct OneByOne;

impl Faults for OneByOne {
    fn decide(&self, call: &Call<'_>) -> Verdict {
        match call {
            Call::Send(_) | Call::Receive(_) => Verdict::AtMost(1),
            Call::File(_) | Call::Abort => Verdict::Pass,
        }
    }
}

#[test]
fn every_byte_boundary_of_a_conversation() {
    let pool = Pool::with_faults(quiet(), Arc::new(OneByOne)).expect("a reactor");
    let config = Config {
        ports: vec!["127.0.0.1:0".parse::<PortConfig>().expect("an address")],
        namespaces: vec![NamespaceConfig::new("mem:1M".parse().expect("a backing"))],
        nqn: Some(NQN.into()),
        ..Config::default()
    };
    let target = Target::start(pool.reactors(), &config).expect("a target");
    let ours = Pool::with_faults(quiet(), Arc::new(OneByOne)).expect("a reactor");
    let good = Good::connect(ours, &[target.ports()[0].port()], true);
    good.pass(1, &[1, 2, 5]);
    good.end();
    target.shutdown(PATIENCE).expect("an orderly end");
    pool.shutdown(PATIENCE).expect("an orderly end");
}

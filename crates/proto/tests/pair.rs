//! Whatever the split of the byte stream and the order of events: data is equal, every command completes once.
#![allow(clippy::unwrap_used)] // a test that unwraps nothing fails

mod common;

use common::{Op, Pair, Settings, length, pattern};
use interlock_proto::host;
use proptest::prelude::*;

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![Just(512_u32), Just(4096), (1_u32..=10_000).prop_map(|n| n * 4)];
    prop_oneof![
        1 => Just(Op::Nothing),
        3 => (len.clone(), any::<bool>()).prop_map(|(len, bytes)| Op::Write { len, bytes }),
        3 => (len, any::<bool>()).prop_map(|(len, bytes)| Op::Read { len, bytes }),
        1 => Just(Op::Read { len: 300_000, bytes: false }),
        1 => Just(Op::Write { len: 300_000, bytes: false }),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let in_capsule = prop_oneof![Just(0_u32), Just(4096), Just(8192), Just(16384)];
    let maxh2cdata = prop_oneof![Just(4096_u32), Just(8196), Just(1 << 20)];
    (any::<bool>(), any::<bool>(), in_capsule, maxh2cdata, 1_u16..=9, any::<bool>()).prop_map(
        |(hdgst, ddgst, in_capsule, maxh2cdata, depth, sq_flow_control)| Settings {
            hdgst,
            ddgst,
            in_capsule,
            maxh2cdata,
            depth,
            sq_flow_control,
        },
    )
}

/// Runs a pair until everything is done, and checks what came out.
fn run(settings: Settings, seed: u64, ops: &[Op]) {
    let mut pair = Pair::new(settings, seed, ops);
    let moved: u64 = ops.iter().map(|op| length(*op)).sum();
    // Far above what the slowest appetite (one byte at a time, or a 3000th of everything) needs.
    let bound = 200_000 + (moved.min(3000) + 1000 * ops.len() as u64) * 40;
    let mut steps = 0_u64;
    while !pair.done() {
        pair.step();
        steps += 1;
        assert!(steps < bound, "no end after {steps} steps: {:?}", pair.host.outstanding().collect::<Vec<_>>());
    }
    assert_eq!(pair.host.in_flight(), 0);
    assert_eq!(pair.sent.len(), ops.len());
    for (tag, op) in ops.iter().enumerate() {
        let Some(host::Event::Completed { cqe, data, error, .. }) = &pair.completed[tag] else { unreachable!() };
        assert!(cqe.status().is_success());
        assert_eq!(*error, None);
        match *op {
            Op::Nothing => {}
            Op::Write { .. } => assert!(pair.stored.contains(&(tag as u32))),
            Op::Read { len, bytes: true } => assert!(*data == pattern(tag as u32, len), "read {tag} differs"),
            Op::Read { len, bytes: false } => {
                let at = ops[..tag].iter().filter(|op| is_span(**op)).count();
                assert!(pair.host_store.0[at] == pattern(tag as u32, len), "read {tag} differs");
            }
        }
    }
}

fn is_span(op: Op) -> bool {
    matches!(op, Op::Write { bytes: false, .. } | Op::Read { bytes: false, .. })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn data_is_equal_and_every_command_completes_once(
        settings in settings(), seed: u64, ops in prop::collection::vec(op(), 1..14)
    ) {
        run(settings, seed, &ops);
    }
}

#[test]
fn many_commands_with_reused_identifiers() {
    for (hdgst, ddgst) in [(false, false), (true, false), (false, true), (true, true)] {
        let settings = Settings { hdgst, ddgst, depth: 3, ..Settings::PLAIN };
        let ops: Vec<Op> = (0..120)
            .map(|n| match n % 3 {
                0 => Op::Nothing,
                1 => Op::Write { len: 512 * (1 + n % 20), bytes: n % 2 == 0 },
                _ => Op::Read { len: 512 * (1 + n % 20), bytes: n % 2 == 0 },
            })
            .collect();
        run(settings, 3, &ops);
    }
}

//! What the cores do for a request, with no kernel, clock or thread around them: to be counted by `cargo xtask instructions`.
//!
//! `instructions read|write COUNT [STOCK]` joins the two rigs, warms them up, and then does so many requests of 4 KiB, 32 in
//! flight, inside [`steady`], which is where the counting begins and ends. STOCK is what a lane of the target keeps in free
//! buffers, in bytes; as in the shipped target if it is not given.

use interlock_fuzz::rig::host::HostRig;
use interlock_fuzz::rig::joint::Joint;
use interlock_fuzz::rig::target::{BLOCK, BLOCKS, TargetRig, config};
use interlock_host_core::{Op, Outcome};
use interlock_target_core::config::Limits;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

/// Requests in flight.
const DEPTH: usize = 32;

/// Blocks of a request: 4 KiB.
const NLB: u32 = 4096 / BLOCK;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let op = match args.get(1).map(String::as_str) {
        Some("read") => Op::Read,
        Some("write") => Op::Write { fua: false },
        _ => return ExitCode::FAILURE,
    };
    let Some(Ok(count)) = args.get(2).map(|count| count.parse()) else { return ExitCode::FAILURE };
    let Ok(stock) = args.get(3).map_or(Ok(1 << 20), |stock| stock.parse()) else { return ExitCode::FAILURE };
    let mut joint = Joint::new(HostRig::new(9), TargetRig::new(config(Limits { stock, ..Limits::default() })));
    joint.connect(4420, |_| {});
    joint.until(Duration::from_secs(5), "the namespace is known", |joint| joint.host.head().is_some());
    batches(&mut joint, op, 4 * DEPTH);
    steady(&mut joint, op, count);
    ExitCode::SUCCESS
}

/// What is counted.
#[inline(never)]
fn steady(joint: &mut Joint, op: Op, count: usize) {
    black_box(&mut *joint);
    batches(joint, op, count);
}

fn batches(joint: &mut Joint, op: Op, count: usize) {
    let mut slba = 0;
    for _ in 0..count.div_ceil(DEPTH) {
        let tokens: Vec<u64> = (0..DEPTH)
            .map(|_| {
                slba = (slba + u64::from(NLB)) % BLOCKS;
                joint.host.submit(op, slba, NLB, BLOCK).expect("there is room for 32 requests")
            })
            .collect();
        joint.run();
        for token in tokens {
            assert_eq!(joint.host.done.remove(&token), Some(Outcome::Ok), "nothing goes wrong here");
            joint.host.read.remove(&token);
        }
    }
}

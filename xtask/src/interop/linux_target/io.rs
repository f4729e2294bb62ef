//! Data.

use super::{LinuxTarget, Ours};
use crate::interop::load::{Load, Until};
use anyhow::{Context, Result, ensure};
use interlock_host::{Namespace, Outcome, Refused};

pub(super) fn plain(bench: &mut LinuxTarget) -> Result<String> {
    verified(bench, false)
}

pub(super) fn digests(bench: &mut LinuxTarget) -> Result<String> {
    verified(bench, true)
}

fn verified(bench: &LinuxTarget, digests: bool) -> Result<String> {
    let ours = bench.connect(|spec| (spec.hdgst, spec.ddgst) = (digests, digests))?;
    let count = u64::from(bench.setup.times(300, 1500));
    let mut requests = 0;
    for nsid in [1, 2] {
        let namespace = ours.host.namespace(super::NQN, nsid)?;
        let block = namespace.shape().block_size;
        for bytes in [4 << 10, 16 << 10, 64 << 10] {
            let mut load = Load::new(namespace.clone(), 64, bytes / block);
            let done = load.run(16, Until::Writes(count))?;
            load.verify()?;
            requests += done.reads + done.writes;
        }
    }
    let status = ours.host.status()?;
    ensure!(status.receipts.is_empty(), "a life was lost: {:?}", status.receipts);
    ours.end()?;
    Ok(format!("{requests} requests on 2 namespaces"))
}

pub(super) fn depths(bench: &mut LinuxTarget) -> Result<String> {
    let ours = bench.connect(|_| {})?;
    let namespace = ours.host.namespace(super::NQN, 1)?;
    let count = u64::from(bench.setup.times(256, 1024));
    let mut tried = Vec::new();
    for depth in [1, 2, 3, 8, 31, 32, 64, 127, 128] {
        let mut load = Load::new(namespace.clone(), 256, 8);
        load.run(depth, Until::Writes(count))?;
        load.verify()?;
        tried.push(depth.to_string());
    }
    ours.end()?;
    Ok(format!("depths {}", tried.join(", ")))
}

/// Writes and reads back `blocks` blocks; what they hold depends on `seed`.
fn round_trip(namespace: &Namespace, slba: u64, blocks: u32, seed: u8) -> Result<Outcome> {
    let mut buf = namespace.buffer(blocks);
    let bytes = buf.get_mut().context("a fresh buffer has one holder")?;
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = (index % 251) as u8 ^ (index >> 9) as u8 ^ seed;
    }
    let (outcome, buf) = namespace.write(slba, buf).wait();
    if outcome != Outcome::Ok {
        return Ok(outcome);
    }
    let (outcome, back) = namespace.read(slba, blocks).wait();
    let same = buf.zip(back).is_some_and(|(buf, back)| buf.as_slice() == back.as_slice());
    ensure!(outcome != Outcome::Ok || same, "{blocks} blocks at {slba} do not read as written");
    Ok(outcome)
}

/// Port 1 of the guest: MDTS 5, in pages of 4 KiB.
const MDTS_BYTES: u32 = 128 << 10;

pub(super) fn sizes(bench: &mut LinuxTarget) -> Result<String> {
    let one = bench.connect_ports(0..1, |_| {})?;
    let bounded = sizes_of(&one)?;
    one.end()?;
    // Port 2 states no limit.
    let one = bench.connect_ports(1..2, |_| {})?;
    let unbounded = sizes_of(&one)?;
    one.end()?;
    ensure!(unbounded.max == u32::MAX, "a port without MDTS is taken to allow {} bytes", unbounded.max);
    if bounded.max == u32::MAX {
        return Ok(format!("{} sizes; this kernel's nvmet knows no MDTS", unbounded.tried));
    }
    ensure!(bounded.max == MDTS_BYTES, "MDTS is {MDTS_BYTES} bytes, and the host says {}", bounded.max);
    // With both, what is too large for one path takes the other.
    let both = bench.connect(|_| {})?;
    let namespace = both.host.namespace(super::NQN, 1)?;
    let outcome = round_trip(&namespace, 0, MDTS_BYTES / namespace.shape().block_size + 1, 3)?;
    ensure!(outcome == Outcome::Ok, "MDTS and one block, with another path that has no MDTS, ended with {outcome:?}");
    both.end()?;
    Ok(format!(
        "{} bytes in a capsule; {} sizes up to MDTS ({} bytes) and none beyond, {} sizes up to 4 MiB without",
        bounded.in_capsule, bounded.tried, bounded.max, unbounded.tried
    ))
}

/// What was tried, and within which limits.
struct Tried {
    in_capsule: u32,
    max: u32,
    tried: usize,
}

fn sizes_of(ours: &Ours) -> Result<Tried> {
    let status = ours.host.status()?;
    let facts = status.controllers.iter().filter_map(|ctrl| ctrl.facts.as_ref());
    let (in_capsule, max) = facts
        .map(|facts| (facts.in_capsule, facts.max_transfer))
        .reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)))
        .context("no facts")?;
    let mut tried = 0;
    for nsid in [1, 2] {
        let namespace = ours.host.namespace(super::NQN, nsid)?;
        let block = namespace.shape().block_size;
        let (edge, most) = (in_capsule / block, max.min(4 << 20) / block);
        let mut sizes = vec![1, 2, 3, 5, 7, 8, 9, 31, 33, 63, 65, 127, 129, 255, 257];
        sizes.extend([edge - 1, edge, edge + 1, most / 2 + 1, most - 1, most]);
        sizes.retain(|blocks| *blocks <= most);
        for (seed, blocks) in (1..).zip(sizes) {
            let outcome = round_trip(&namespace, u64::from(seed), blocks, seed)?;
            ensure!(outcome == Outcome::Ok, "{blocks} blocks of {block} bytes ended with {outcome:?}");
            tried += 1;
        }
        if max < u32::MAX {
            let outcome = round_trip(&namespace, 0, max / block + 1, 0)?;
            ensure!(
                outcome == Outcome::NotSent(Refused::TooLarge),
                "one block more than a command may carry ended with {outcome:?}"
            );
        }
    }
    Ok(Tried { in_capsule, max, tried })
}

pub(super) fn trim(bench: &mut LinuxTarget) -> Result<String> {
    let ours = bench.connect(|_| {})?;
    for nsid in [1, 2] {
        let namespace = ours.host.namespace(super::NQN, nsid)?;
        for round in 0..3_u8 {
            let outcome = round_trip(&namespace, 0, 96, round)?;
            ensure!(outcome == Outcome::Ok, "the pattern ended with {outcome:?}");
            let (outcome, _) = match round {
                0 => namespace.write_zeroes(32, 32, false).wait(),
                1 => namespace.write_zeroes(32, 32, true).wait(),
                _ => namespace.discard(32, 32).wait(),
            };
            ensure!(outcome == Outcome::Ok, "round {round} on namespace {nsid} ended with {outcome:?}");
            let (outcome, back) = namespace.read(0, 96).wait();
            ensure!(outcome == Outcome::Ok, "the read ended with {outcome:?}");
            let back = back.context("a read gives its buffer back")?;
            let part = 32 * namespace.shape().block_size as usize;
            let as_written = |from: usize| {
                let bytes = &back.as_slice()[from..from + part];
                let pattern = |index: usize| (index % 251) as u8 ^ (index >> 9) as u8 ^ round;
                bytes.iter().enumerate().all(|(index, byte)| *byte == pattern(from + index))
            };
            ensure!(as_written(0) && as_written(2 * part), "round {round} on namespace {nsid} hit its neighbours");
            let zero = back.as_slice()[part..2 * part].iter().all(|byte| *byte == 0);
            // What deallocated blocks read as is the target's choice, unless zeroes were asked for.
            ensure!(zero || (round == 2 && as_written(part)), "round {round} on namespace {nsid} left something else");
        }
    }
    ours.end()?;
    Ok("zeroes, zeroes with deallocate, and discard on both namespaces".into())
}

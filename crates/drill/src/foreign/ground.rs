//! What a drill may write on.
//!
//! A wrong namespace named on a command line must cost nobody anything. So every block that would be overwritten is
//! read first, and some others too: a volume whose beginning is blank is seldom empty.

use crate::foreign::{Consent, Foreign, ForeignError};
use crate::load::Ground;
use crate::run::Options;
use crate::stage::{CONNECT_WITHIN, END_WITHIN};
use interlock_api::TargetIdentity;
use interlock_base::Rng;
use interlock_check::{Deallocated, Initial, Weights};
use interlock_host::{
    ControllerSpec, Host, HostError, LifeFacts, Namespace, Outcome, Pool, PoolConfig, Shape, SplitEnd,
};
use std::time::{Duration, Instant};

/// The load uses at most so many bytes, from the beginning.
const REGION: u64 = 64 << 20;

/// Bytes of one read.
const READ: u64 = 32 << 10;

/// Reads in flight.
const DEPTH: usize = 16;

/// So many blocks outside the region are looked at.
const SAMPLES: u64 = 64;

/// Namespaces are found a moment after the controller is live; those that are not there by then are not there.
const SETTLE: Duration = Duration::from_secs(2);

/// Nothing more is found after so long without news.
const QUIET: Duration = Duration::from_millis(250);

/// The namespace, and how the load may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) nsid: u32,
    pub(crate) block_size: u32,
    pub(crate) ground: Ground,
}

/// Finds the namespace and looks whether it may be used.
pub(super) fn look(foreign: &Foreign, options: &Options) -> Result<(Found, Option<TargetIdentity>), ForeignError> {
    let config = PoolConfig { reactors: 1, spin: options.spin, name: "drill-look".into(), ..PoolConfig::default() };
    let pool = Pool::new(config)?;
    let host = Host::start(pool.reactors(), foreign.host()?)?;
    let found = look_with(&host, foreign, options);
    // What has been found does not change if the end takes too long; the reactor is ended in any case.
    let _ = host.shutdown(END_WITHIN);
    drop(host);
    let _ = pool.shutdown(END_WITHIN);
    found
}

fn look_with(
    host: &Host,
    foreign: &Foreign,
    options: &Options,
) -> Result<(Found, Option<TargetIdentity>), ForeignError> {
    let subnqn = foreign.subnqn.to_string();
    // All of them: what moves to another path must fit there.
    for addr in &foreign.targets {
        let spec = ControllerSpec::new(addr.ip().to_string(), addr.port(), foreign.subnqn.clone());
        host.connect_and_wait(spec, CONNECT_WITHIN)?;
    }
    let nsid = nsid(host, foreign)?;
    let namespace = host.namespace(&subnqn, nsid)?;
    let shape = namespace.shape();
    if shape.read_only {
        return Err(ForeignError::WriteProtected { subnqn, nsid });
    }
    let block = u64::from(shape.block_size);
    let blocks = shape.blocks.min(REGION / block);
    if foreign.consent == Consent::Blank {
        match first_data(&namespace, shape, blocks, options.seed) {
            Ok(None) => {}
            Ok(Some(lba)) => {
                let (size, bytes) = (shape.blocks * block, blocks * block);
                return Err(ForeignError::HoldsData { subnqn, nsid, size, lba, blocks, bytes });
            }
            Err((lba, why)) => return Err(ForeignError::Unreadable { subnqn, nsid, lba, why }),
        }
    }
    let facts: Vec<LifeFacts> = host.status()?.controllers.into_iter().filter_map(|ctrl| ctrl.facts).collect();
    let identify = facts.first().map(identity);
    let in_capsule = facts.first().map_or(0, |facts| facts.in_capsule);
    let max_transfer = facts.iter().map(|facts| facts.max_transfer).min().unwrap_or(u32::MAX);
    let max_blocks = largest(shape.block_size, in_capsule, max_transfer);
    let max_blocks = max_blocks.min(u32::try_from(blocks).unwrap_or(u32::MAX));
    let ground = Ground {
        blocks,
        max_blocks,
        before: Initial::Unknown,
        deallocated: Deallocated::Unreported,
        weights: can_do(&namespace, max_blocks),
    };
    Ok((Found { nsid, block_size: shape.block_size, ground }, identify))
}

/// What the controller said of itself.
fn identity(facts: &LifeFacts) -> TargetIdentity {
    let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let vs = facts.vs;
    TargetIdentity {
        model: facts.model.value().cloned().unwrap_or_default(),
        serial: facts.serial.value().cloned().unwrap_or_default(),
        firmware: facts.firmware.clone(),
        version: format!("{}.{}.{}", vs >> 16, vs >> 8 & 0xff, vs & 0xff),
        ccrl: facts.ccrl.value().copied().filter(|limit| *limit > 0),
        cqt_ms: facts.cqt.value().map(millis).filter(|time| *time > 0),
        kato_ms: facts.kato.value().map(millis).filter(|time| *time > 0),
    }
}

/// What it can do, tried on its first blocks, which may be overwritten by then and are made to hold zeroes in any case.
/// Discards are left out: a target may do some and refuse others, and need not say what they leave behind.
fn can_do(namespace: &Namespace, max_blocks: u32) -> Weights {
    let mut weights = Weights { discard: 0, ..Weights::default() };
    if namespace.write_zeroes(0, max_blocks, false).wait().0 != Outcome::Ok {
        weights.write_zeroes = 0;
    }
    let mut buf = namespace.buffer(max_blocks);
    buf.get_mut().expect("a fresh buffer has one holder").fill(0);
    // A namespace that cannot be written to will be found out by the load.
    let _ = namespace.write(0, buf).wait();
    weights
}

/// Most writes fit in a capsule and can be held whole; some do not.
fn largest(block_size: u32, in_capsule: u32, max_transfer: u32) -> u32 {
    let bytes = (in_capsule.min(256 << 10) / 2 * 3).max(8 * block_size);
    (bytes.min(max_transfer) / block_size).max(1)
}

fn nsid(host: &Host, foreign: &Foreign) -> Result<u32, ForeignError> {
    let events = host.subscribe();
    let deadline = Instant::now() + SETTLE;
    loop {
        let all = host.namespaces()?;
        let nsids: Vec<u32> = all.iter().filter(|ns| ns.subnqn == foreign.subnqn.as_str()).map(|ns| ns.nsid).collect();
        let subnqn = || foreign.subnqn.to_string();
        match (foreign.nsid, nsids.as_slice()) {
            (Some(wanted), found) if found.contains(&wanted) => return Ok(wanted),
            // Another one may be found in the next moment.
            (None, [only]) if events.recv_timeout(QUIET).is_err() => return Ok(*only),
            (None, [_]) => continue,
            (None, [_, _, ..]) => return Err(ForeignError::WhichNamespace { subnqn: subnqn(), nsids }),
            _ => {}
        }
        // Whatever happens next may be that one was found.
        if events.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            let nsid = foreign.nsid.unwrap_or(1);
            return Err(HostError::NoSuchNamespace { subnqn: subnqn(), nsid, known: nsids }.into());
        }
    }
}

/// The lowest block found that is not blank. The blocks of the load are looked at one by one, others here and there,
/// the last one always.
fn first_data(namespace: &Namespace, shape: Shape, blocks: u64, seed: u64) -> Result<Option<u64>, (u64, String)> {
    let step = (READ / u64::from(shape.block_size)).max(1);
    let mut reads: Vec<(u64, u64)> =
        (0..blocks).step_by(step as usize).map(|lba| (lba, step.min(blocks - lba))).collect();
    if shape.blocks > blocks {
        let mut rng = Rng::new(seed);
        let mut others: Vec<u64> = (0..SAMPLES).map(|_| blocks + rng.below(shape.blocks - blocks)).collect();
        others.push(shape.blocks - 1);
        others.sort_unstable();
        reads.extend(others.into_iter().map(|lba| (lba, 1)));
    }
    for some in reads.chunks(DEPTH) {
        let pending: Vec<_> = some.iter().map(|(lba, nlb)| (*lba, namespace.read_split(*lba, *nlb as u32))).collect();
        for (lba, read) in pending {
            match read.wait() {
                SplitEnd { outcome: Outcome::Ok, buf: Some(buf), .. } => {
                    let mut blocks = buf.as_slice().chunks(shape.block_size as usize);
                    if let Some(index) = blocks.position(|block| block.iter().any(|byte| *byte != 0)) {
                        return Ok(Some(lba + index as u64));
                    }
                }
                SplitEnd { outcome, done, .. } => return Err((lba + u64::from(done), outcome.to_string())),
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_writes_do_not_fit_in_a_capsule_and_all_fit_in_a_transfer() {
        assert_eq!(largest(512, 16 << 10, u32::MAX), 48);
        assert_eq!(largest(4096, 8 << 10, u32::MAX), 8);
        assert_eq!(largest(4096, 0, 16 << 10), 4);
        assert_eq!(largest(4096, 0, 512), 1);
        assert_eq!(largest(512, u32::MAX, u32::MAX), 768);
    }
}

//! The drill against a target that is not ours.
//!
//! It takes no script, so that the network between must misbehave: a proxy in this process. That shows whether bytes
//! delayed in the network can do harm, which is the failure hosts are known for; what a target does with a command that
//! it has taken and delays inside cannot be provoked from outside, and the report says so. And it is somebody's: a
//! namespace that holds data is not touched unless that was asked for.

mod evidence;
mod ground;
mod run;
mod stage;
mod words;

pub(crate) use evidence::NetLog;

use crate::report;
use crate::run::{Options, Plan, Progress};
use ground::Found;
use interlock_api::{DrillReport, ForeignTarget, PathAddress, TargetIdentity};
use interlock_check::Verdict;
use interlock_host::{HostError, HostSettings, Nqn};
use std::io;
use std::net::SocketAddr;

/// Which target to drill, and what may be done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Two or more ways to it. The first is the one that breaks.
    pub targets: Vec<SocketAddr>,
    /// Its subsystem.
    pub subnqn: Nqn,
    /// The namespace; `None`: the only one there is.
    pub nsid: Option<u32>,
    /// What may become of the blocks that the load uses.
    pub consent: Consent,
    /// Who connects; `None`: a new host each time. Whoever gives one has its [`interlock_host::IdentityLock`].
    pub identity: Option<HostSettings>,
}

impl Foreign {
    pub(crate) fn host(&self) -> io::Result<HostSettings> {
        self.identity.clone().map_or_else(HostSettings::random, Ok)
    }
}

/// What may become of the blocks that the load uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// They may be overwritten if they are blank.
    Blank,
    /// They may be overwritten.
    Destroy,
}

/// Why the drill did not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// There is nothing to fail over to.
    #[error("a drill needs two paths to the target, the first of which it breaks; {0} given")]
    TooFewPaths(usize),
    /// This machine.
    #[error("the drill cannot start its threads: {0}")]
    Threads(#[from] io::Error),
    /// The target, or the way to it.
    #[error("{0}")]
    Host(#[from] HostError),
    /// Nobody said which.
    #[error("subsystem `{subnqn}` has {} namespaces: {}", .nsids.len(), listed(.nsids))]
    WhichNamespace {
        /// Where.
        subnqn: String,
        /// Those it has.
        nsids: Vec<u32>,
    },
    /// A drill writes.
    #[error("namespace {nsid} of `{subnqn}` is write protected")]
    WriteProtected {
        /// Where.
        subnqn: String,
        /// Which.
        nsid: u32,
    },
    /// It could not be seen whether it holds data.
    #[error("LBA {lba} of namespace {nsid} of `{subnqn}` cannot be read, so nobody knows whether it holds data: {why}")]
    Unreadable {
        /// Where.
        subnqn: String,
        /// Which.
        nsid: u32,
        /// The first block of the read that failed.
        lba: u64,
        /// In words.
        why: String,
    },
    /// It holds data and nobody allowed to overwrite it.
    #[error(
        "namespace {nsid} of `{subnqn}` ({size} bytes) holds data: LBA {lba} is not zero; the drill would overwrite \
         its first {blocks} blocks ({bytes} bytes)"
    )]
    HoldsData {
        /// Where.
        subnqn: String,
        /// Which.
        nsid: u32,
        /// Its size in bytes.
        size: u64,
        /// The first block that is not blank.
        lba: u64,
        /// What would be overwritten.
        blocks: u64,
        /// The same in bytes.
        bytes: u64,
    },
}

fn listed(nsids: &[u32]) -> String {
    nsids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Plays `plan` (of [`crate::FOREIGN`]) against a target that is not ours. Blocks that were blank before are blank
/// afterwards.
///
/// # Errors
/// If it did not begin. Whatever goes wrong later is in the report.
pub fn drill_foreign(
    plan: &[Plan],
    foreign: &Foreign,
    options: &Options,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<DrillReport, ForeignError> {
    if foreign.targets.len() < 2 {
        return Err(ForeignError::TooFewPaths(foreign.targets.len()));
    }
    watch(Progress::Phase("looking whether the namespace holds data"));
    let (found, identify) = ground::look(foreign, options)?;
    let mut results = Vec::new();
    let mut verdicts: Vec<Verdict> = Vec::new();
    for (index, item) in plan.iter().enumerate() {
        watch(Progress::Begun { plan: *item, place: index + 1, of: plan.len() });
        // Stamps of the scenarios before must not pass for those of this one.
        let options = Options { seed: options.seed ^ (index as u64) << 32, ..options.clone() };
        let outcome = run::play(*item, foreign, &found, &options, watch);
        let (result, verdict) = report::result(*item, options.require, outcome);
        watch(Progress::Ended(&result));
        results.push(result);
        verdicts.push(verdict);
    }
    Ok(report::report(options.seed, Some(describe(foreign, &found, identify)), results, &verdicts))
}

fn describe(foreign: &Foreign, found: &Found, identify: Option<TargetIdentity>) -> ForeignTarget {
    let path = |addr: &SocketAddr| PathAddress::tcp(addr.ip().to_string(), addr.port());
    ForeignTarget {
        subsystem: foreign.subnqn.to_string(),
        nsid: found.nsid,
        blocks: found.ground.blocks,
        block_size: found.block_size,
        paths: foreign.targets.iter().map(path).collect(),
        identify,
    }
}

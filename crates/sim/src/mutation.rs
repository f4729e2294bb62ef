//! Ways to break the machines on purpose, to prove that the checkers see it.
//!
//! Two kinds. *Tampering* changes what two machines say to each other; it needs nothing of the cores. *Core guards* are
//! single conditions of the host core that can be switched off in a build with the feature `mutations`.

use std::fmt;

/// Invariants that die when something comes too late or not at all.
const LATE: [&str; 5] = [
    "hold_ends_by_deadline",
    "stall_within_budget",
    "everything_ends_after_healing",
    "every_wait_has_a_deadline",
    "healed_paths_serve",
];

/// A change between two machines, or between a machine and the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tampering {
    /// The policy that today's hosts have.
    LegacyPolicy,
    /// Lanes other than the first are given empty guard tables, and confirm them.
    GuardsDropped,
    /// A lane's sockets count as quiet as soon as it condemned, whatever lies in their send queues.
    QuietTooEarly,
    /// A lane's ledger arrives without its entries.
    LedgerTruncated,
    /// The ledger arrives without its last entry.
    LedgerShortened,
    /// A success without Immediate Reset Successful arrives with it.
    ImmediateFaked,
    /// Any refusal of a CCR arrives as immediate success.
    RefusalAsSuccess,
    /// An abort behaves like a close: what the kernel has is delivered all the same, whenever the path allows.
    AbortDelivers,
    /// Send queues are reported empty although they are not.
    DrainFaked,
    /// Operations in the backing device count as done when they begin.
    MediaDoneTooEarly,
    /// The target goes on for twice the quiesce time that it states, and more.
    QuiesceTimeLie,
    /// Lanes are told that a life is fenced as soon as it is condemned.
    SettledAtOnce,
    /// Records of lives are answered before they are synced, and lost with the power.
    RecordNotSynced,
    /// A process is not told of the last life that an earlier one left.
    PredecessorForgotten,
    /// Sockets of an earlier process deliver what they have (no `SO_LINGER`), and are said to be gone although they are not.
    OldSocketsOverlooked,
    /// Devices answer a flush and do nothing.
    FlushSkipped,
    /// Devices ignore Force Unit Access.
    UnitAccessIgnored,
    /// A target that was declared to drain says that a controller is disabled before it has drained.
    DisabledBeforeDrained,
    /// A second process is not refused while the first hangs.
    LockMissing,
    /// Devices answer every compare as if the blocks were equal.
    DifferenceOverlooked,
    /// The operator says of a life that it is over, and it is not.
    RiskTakenTooEarly,
    /// Lanes of a target are never told until when a life may execute: only timers end it, and those of a machine that was
    /// stopped run out late.
    GateByClock,
    /// A target that remembers flushes which lost data forgets the first of them.
    FlushErrorForgotten,
    /// What a host asks to be reset is an instance of another host that says it is the same.
    ResetsTheOther,
    /// The change count of an ANA log seems to stand still while the log is read in pieces, whatever changes.
    AnaCountStands,
}

impl Tampering {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::LegacyPolicy,
        Self::GuardsDropped,
        Self::QuietTooEarly,
        Self::LedgerTruncated,
        Self::LedgerShortened,
        Self::ImmediateFaked,
        Self::RefusalAsSuccess,
        Self::AbortDelivers,
        Self::DrainFaked,
        Self::MediaDoneTooEarly,
        Self::QuiesceTimeLie,
        Self::SettledAtOnce,
        Self::RecordNotSynced,
        Self::PredecessorForgotten,
        Self::OldSocketsOverlooked,
        Self::FlushSkipped,
        Self::UnitAccessIgnored,
        Self::DisabledBeforeDrained,
        Self::LockMissing,
        Self::DifferenceOverlooked,
        Self::RiskTakenTooEarly,
        Self::GateByClock,
        Self::FlushErrorForgotten,
        Self::ResetsTheOther,
        Self::AnaCountStands,
    ];
}

/// One way to break the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Between machines.
    Tampering(Tampering),
    /// Inside the host core.
    #[cfg(feature = "mutations")]
    Guard(interlock_host_core::guards::Guard),
}

impl Mutation {
    /// All that this build can do.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let all = Tampering::ALL.into_iter().map(Self::Tampering);
        #[cfg(feature = "mutations")]
        let all = all.chain(interlock_host_core::guards::Guard::ALL.into_iter().map(Self::Guard));
        all.collect()
    }

    /// All that this build can do, from one that the seed decides on: what of them fits into a time is another sample with
    /// another seed, and many seeds leave none out.
    #[must_use]
    pub fn rotated(seed: u64) -> Vec<Self> {
        let mut all = Self::all();
        let first = seed % all.len() as u64;
        all.rotate_left(first as usize);
        all
    }

    /// True if it was reached in this process since it was installed, as far as the cores can tell.
    #[must_use]
    pub fn reached() -> bool {
        #[cfg(feature = "mutations")]
        return interlock_host_core::guards::reached();
        #[cfg(not(feature = "mutations"))]
        false
    }

    /// True if its condition was asked for in this process, whether it was installed or not.
    #[must_use]
    pub fn was_asked_for(self) -> bool {
        match self {
            Self::Tampering(_) => false,
            #[cfg(feature = "mutations")]
            Self::Guard(guard) => interlock_host_core::guards::asked(guard),
        }
    }

    /// True if a run notes whether it took effect.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        match self {
            Self::Tampering(what) => !matches!(what, Tampering::LegacyPolicy | Tampering::QuiesceTimeLie),
            #[cfg(feature = "mutations")]
            Self::Guard(_) => true,
        }
    }

    /// True if `invariant` is what this mutation breaks, and not only a consequence: that something is late, or does not
    /// end, says little where safety was taken away. Where only time and ends are at stake, they count.
    #[must_use]
    pub fn is_proven_by(self, invariant: &str) -> bool {
        #[cfg(feature = "mutations")]
        {
            use interlock_host_core::guards::Guard;
            if matches!(self, Self::Guard(Guard::HardLimitEnds | Guard::WitnessTimed)) {
                return true;
            }
        }
        !LATE.contains(&invariant)
    }

    /// Switches it on for this process, if it is in the cores. Tampering belongs to a run and needs nothing.
    pub fn install(this: Option<Self>) {
        #[cfg(feature = "mutations")]
        {
            let guard = match this {
                Some(Self::Guard(guard)) => Some(guard),
                Some(Self::Tampering(_)) | None => None,
            };
            interlock_host_core::guards::disable(guard);
        }
        #[cfg(not(feature = "mutations"))]
        let _ = this;
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tampering(what) => write!(f, "{what:?}"),
            #[cfg(feature = "mutations")]
            Self::Guard(guard) => write!(f, "without {guard:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_begins_anywhere_and_leaves_nothing_out() {
        let all = Mutation::all();
        for seed in [0, 1, 1_800_000_000, u64::MAX] {
            let mut sample = Mutation::rotated(seed);
            assert_eq!(sample[0], all[(seed % all.len() as u64) as usize]);
            sample.sort_by_key(|mutation| all.iter().position(|known| known == mutation));
            assert_eq!(sample, all);
        }
    }
}

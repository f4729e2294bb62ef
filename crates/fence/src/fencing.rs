//! One lost instance: how far its fence is, and what it waits for.
//!
//! ```text
//!                    every lane has said                   a proof
//! lost ──> Sorting ─────────────────────> Pursuing ─────────────────> Proven ──> Releasing ──> over
//!             │ a proof comes first           │ nobody waits any more    ▲  lanes hold  │ the host is
//!             └───────────────────────────────┼──────────────────────────┤  the table   │ still this one
//!                                             └──> GivenUp ──────────────┘
//! ```
//!
//! Nothing in doubt, or nothing any more: it is over at once, from `Sorting`, `Pursuing` and every later state.

use crate::door::Lost;
use crate::guards::{self as conditions, Guard};
use crate::pursuit::{Proof, Pursuit};
use crate::{FencedBy, GuardKey, Guarded, Hold, Identity, LaneId, LedgerEntry, LifeId, Loss, Tombstone};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use interlock_base::Instant;

/// Which lanes and sockets can still send something of the instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stopping {
    /// Lanes that have not said what is in doubt.
    pub(crate) unsorted: BTreeSet<LaneId>,
    /// Lanes whose sockets may still send.
    pub(crate) noisy: BTreeSet<LaneId>,
    last_quiet: Instant,
    /// Since when the admin socket cannot.
    pub(crate) admin: Option<Instant>,
}

impl Stopping {
    pub(crate) fn new(now: Instant, lanes: u16, admin: Option<Instant>) -> Self {
        let lanes: BTreeSet<LaneId> = (0..lanes).map(LaneId).collect();
        Self { unsorted: lanes.clone(), noisy: lanes, last_quiet: now, admin }
    }

    /// True once every lane has said what is in doubt.
    pub(crate) fn is_sorted(&self) -> bool {
        self.unsorted.is_empty()
    }

    /// False if this lane was quiet before.
    pub(crate) fn handle_quiet(&mut self, lane: LaneId, at: Instant) -> bool {
        let first = self.noisy.remove(&lane);
        if first {
            self.last_quiet = self.last_quiet.max(at);
        }
        first
    }

    /// The moment from which nothing of the instance can leave this host, once it is known.
    fn t0(&self, lost_at: Instant) -> Option<Instant> {
        if !conditions::enabled(Guard::HoldFromQuiet) {
            return Some(lost_at);
        }
        let all = self.noisy.is_empty() || !conditions::enabled(Guard::AllLanesQuiet);
        self.admin.filter(|_| all).map(|at| at.max(self.last_quiet))
    }
}

/// The commands of which nobody knows whether they took effect, and whether they still may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Doubt {
    pub(crate) commands: BTreeSet<GuardKey>,
    pub(crate) ever: usize,
    /// When the oldest of them was sent.
    pub(crate) oldest: Option<Instant>,
    pub(crate) answered_late: usize,
    /// Commands that went on at once.
    pub(crate) settled: usize,
    /// The epoch of the table that protects their ranges.
    pub(crate) epoch: u64,
}

impl Doubt {
    pub(crate) fn add(&mut self, entries: &[LedgerEntry], settled: usize) {
        for entry in entries {
            self.commands.insert(entry.key);
            self.oldest = Some(self.oldest.map_or(entry.since, |oldest| oldest.min(entry.since)));
        }
        self.ever += entries.len();
        self.settled += settled;
    }
}

/// A proof, or what counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proven {
    pub(crate) proof: Proof,
    /// Who gave it, noted when it came: the source may be gone when the receipt is written.
    pub(crate) by: Option<FencedBy>,
    /// What was held had been given up before.
    pub(crate) tombstone: bool,
}

/// Whether this process still speaks for its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// Asked since then.
    Asked(Instant),
    Confirmed,
}

/// How far the fence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fencing {
    /// Lanes have still to say what is in doubt.
    Sorting {
        /// One of them keeps the others waiting: sources are asked without knowing whether that is needed.
        overdue: bool,
    },
    /// What is in doubt is held; sources are asked, time runs.
    Pursuing,
    /// It can execute nothing more. Every lane has still to say what is in doubt, and to hold the table.
    Proven(Proven),
    /// ... and this process must be known to be the host still.
    Releasing(Proven, Owner),
    /// What was held has ended as not known. What it may change stays protected until there is a proof.
    GivenUp,
}

/// One lost instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    pub(crate) lost: Box<Lost>,
    pub(crate) at: Instant,
    pub(crate) stopping: Stopping,
    pub(crate) doubt: Doubt,
    pub(crate) pursuit: Pursuit,
    pub(crate) fencing: Fencing,
    /// What is held is to be given up as soon as that is allowed.
    pub(crate) give_up: bool,
    /// Sources that were named as barred by an old entry.
    pub(crate) stale_told: BTreeSet<LifeId>,
}

impl Instance {
    pub(crate) fn new(now: Instant, lanes: u16, lost: Box<Lost>) -> Self {
        let hold = lost.terms.as_ref().map_or(Hold::Unbounded, Hold::of);
        let is_predecessor = lost.loss == Loss::Predecessor;
        Self {
            at: now,
            stopping: Stopping::new(now, if is_predecessor { 0 } else { lanes }, lost.admin_quiet),
            doubt: Doubt::default(),
            pursuit: Pursuit::new(lost.identity, hold),
            fencing: if is_predecessor { Fencing::GivenUp } else { Fencing::Sorting { overdue: false } },
            give_up: false,
            stale_told: BTreeSet::new(),
            lost,
        }
    }

    pub(crate) fn is_predecessor(&self) -> bool {
        self.lost.loss == Loss::Predecessor
    }

    /// True while something may still take effect: known by command, or known only to an earlier process.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.is_predecessor() || !self.doubt.commands.is_empty()
    }

    /// True if a lane keeps the others waiting for what is in doubt.
    pub(crate) const fn is_overdue(&self) -> bool {
        matches!(self.fencing, Fencing::Sorting { overdue: true })
    }

    /// True if its commands were ended as not known.
    pub(crate) const fn is_tombstone(&self) -> bool {
        match self.fencing {
            Fencing::GivenUp => true,
            Fencing::Proven(proven) | Fencing::Releasing(proven, _) => proven.tombstone,
            Fencing::Sorting { .. } | Fencing::Pursuing => false,
        }
    }

    pub(crate) const fn proven(&self) -> Option<Proven> {
        match self.fencing {
            Fencing::Proven(proven) | Fencing::Releasing(proven, _) => Some(proven),
            Fencing::Sorting { .. } | Fencing::Pursuing | Fencing::GivenUp => None,
        }
    }

    /// Its full name, if it ever stated one.
    pub(crate) fn identity(&self) -> Option<Identity> {
        Some(self.lost.identity).filter(Identity::is_reported)
    }

    /// As CCR names it in its log.
    pub(crate) fn name(&self) -> Option<(u16, u8)> {
        self.identity().map(|identity| (identity.cntlid, identity.ciu))
    }

    pub(crate) fn t0(&self) -> Option<Instant> {
        self.stopping.t0(self.at)
    }

    /// Every lane has said what is in doubt.
    pub(crate) const fn handle_sorted(&mut self) {
        if matches!(self.fencing, Fencing::Sorting { .. }) {
            self.fencing = Fencing::Pursuing;
        }
    }

    /// The first proof wins.
    pub(crate) fn prove(&mut self, proof: Proof, by: Option<FencedBy>) {
        let tombstone = match self.fencing {
            Fencing::Sorting { .. } | Fencing::Pursuing => false,
            Fencing::GivenUp => true,
            Fencing::Proven(_) | Fencing::Releasing(..) => return,
        };
        self.fencing = Fencing::Proven(Proven { proof, by, tombstone });
    }

    /// The commands have ended as not known.
    pub(crate) const fn bury(&mut self) {
        self.give_up = false;
        match &mut self.fencing {
            Fencing::Sorting { .. } | Fencing::Pursuing | Fencing::GivenUp => self.fencing = Fencing::GivenUp,
            Fencing::Proven(proven) | Fencing::Releasing(proven, _) => proven.tombstone = true,
        }
    }

    pub(crate) fn tombstone(&self) -> Option<Tombstone> {
        let guarded =
            if self.is_predecessor() { Guarded::Subsystem } else { Guarded::Commands(self.doubt.commands.len()) };
        self.is_tombstone().then(|| Tombstone {
            ctrl: self.lost.ctrl,
            life: self.lost.life,
            subnqn: self.lost.subnqn.clone(),
            identity: self.lost.identity,
            guarded,
            until: self.pursuit.deadline(),
        })
    }
}

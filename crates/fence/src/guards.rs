//! The conditions that recovery hangs on, by name.
//!
//! A checker that never fails may be blind. So each of these conditions can be switched off, one at a time, in a build
//! with the feature `mutations`, which only the simulator enables; it then shows which invariant dies. In every other
//! build `enabled` is the constant `true` and costs nothing.

/// The enumeration and the list of its members, from one list.
macro_rules! guards {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// One condition.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Guard {
            $($(#[$doc])+ $name,)+
        }

        impl Guard {
            /// All of them.
            pub const ALL: [Self; [$(Self::$name,)+].len()] = [$(Self::$name,)+];
        }
    };
}

guards! {
    /// What is in doubt is held.
    Hold,
    /// What overlaps a guarded range waits.
    OverlapsWait,
    /// Of released commands that overlap, the earlier goes first.
    ReleaseOrder,
    /// Reads that were taken from a lost queue get no data from it any more.
    Detach,
    /// The log of a source is purged before it is used, and only what is read after the answer counts.
    PurgeBeforeUse,
    /// A read of a source's log that was asked for before the source had said that it began the reset proves nothing.
    ReadAfterAnswer,
    /// A source that began no reset itself proves nothing by its log.
    OwnEntriesOnly,
    /// A completed entry that was read counts as still there until a later read does not show it.
    ReturnedEntriesCount,
    /// The hold begins when the last lane is quiet.
    AllLanesQuiet,
    /// The multiplier of KATO in the hold.
    Multiplier,
    /// The quiesce time in the hold.
    QuiesceTime,
    /// The hold allows for a target whose clock is slow.
    SlewMargin,
    /// The hold waits for the clock that nobody sets.
    RawClock,
    /// The hold waits for the clock by which moments are told, too.
    MonotonicClock,
    /// The hold reckons with the KATO in force.
    EffectiveKato,
    /// Of a late answer Control decides once.
    LateOnce,
    /// Nothing is released before every lane has the guards.
    ReleaseWaitsGuardSeen,
    /// Nothing is given up before every lane has the guards.
    GiveUpWaitsGuardSeen,
    /// What is given up unfenced stays guarded.
    TombstoneKept,
    /// An abandoned write is never sent again.
    AbandonedNeverRetried,
    /// An abandoned write is guarded.
    AbandonedIsGuarded,
    /// What was abandoned on a lane is guarded on every lane.
    AbandonedOnEveryLane,
    /// A lane asks what was abandoned anywhere before it takes a request.
    EpochAtDequeue,
    /// A success without Immediate Reset Successful is no proof.
    ImmediateOnly,
    /// CCR names the life that was lost, not the one that came after it.
    IdentitySnapshot,
    /// A driver forgets what it polled from a lost queue.
    StopSending,
    /// What a target has lost ends at the hard limit.
    HardLimitEnds,
    /// Only an entry that says so proves success in a CCR log.
    LogSuccessOnly,
    /// What a reset or disconnect leaves unanswered is fenced as after any loss.
    OrderlyEndIsFenced,
    /// A command of which the kernel was given anything counts as sent.
    SentIsInDoubt,
    /// Write Zeroes and Deallocate change media as a write does.
    ZeroingIsHeld,
    /// A life is used only once its record is durable.
    RecordFirst,
    /// A namespace that a live controller begins to serve is used only once its identifiers are durably recorded.
    DisksFirst,
    /// A life is marked clean only if nothing of it is unanswered.
    CleanMeansAnswered,
    /// What an earlier process could write to is guarded wherever it is found.
    LeftElsewhere,
    /// A name under which commands were sent is not forgotten.
    OpenedStays,
    /// A life is used only once its controller has answered after its I/O queues had joined it.
    QueuesJoined,
    /// Only paths whose ANA state allows it are chosen.
    UsablePathsOnly,
    /// A command without an answer condemns nobody by itself.
    SecondWitness,
    /// What an earlier process left guards every namespace of its subsystem.
    PredecessorGuardsAll,
    /// The hold begins when nothing can leave the host any more, not when the life was lost.
    HoldFromQuiet,
    /// Where each controller has a cache of its own, a flush goes to all of them.
    FlushEachCache,
    /// What was lost in the cache of a controller fails a flush.
    CacheLossTold,
    /// Whom a flush asks is said once every life that has ended is judged.
    FlushWaitsVerdict,
    /// The admin queue of a condemned life is halted.
    AdminHalted,
    /// The hold begins when the admin socket of the life is quiet, too.
    AdminQuiet,
    /// The hold is longer than its bound by a constant, for timers that fire late.
    HoldMargin,
    /// What is released stays guarded until it has ended.
    ReleasedStayGuarded,
    /// An entry that a CCR log keeps bars its name.
    StaleEntryBars,
    /// Nothing is released before it is known that this process is the host still.
    OwnerConfirmed,
    /// What is found under an NSID is compared with all that was known of it, also when no path is left.
    HeadIdentity,
    /// A namespace that has another format has another name.
    HeadFormat,
    /// What is protected of a namespace is protected of whatever may be the same disk.
    EitherMatch,
    /// After a flush that failed none succeeds.
    FlushLatch,
    /// No two controllers of a subsystem have one name.
    DuplicateCntlid,
    /// A command that instances were lost with is judged only after it was alone on one.
    SuspectAlone,
    /// It fails only if instances live and serve I/O without it.
    SuspectWitness,
    /// The witness of an isolated instance is timed as any command is.
    WitnessTimed,
    /// What a forwarded request was lost with goes with it to the lane that carries it out.
    CountTravels,
    /// Nothing is released before every lane has said what is in doubt.
    ReleaseWaitsSorted,
    /// All controllers of a subsystem have one serial number and one model.
    OneSerial,
    /// What is protected in one subsystem is no matter of another one.
    SubsystemsApart,
    /// A forwarded request that is given up is given up at the lane that serves it before its own lane says that it is
    /// guarded.
    GiveUpFollows,
}

/// True: the condition holds.
#[cfg(not(feature = "mutations"))]
#[must_use]
#[inline]
pub const fn enabled(_guard: Guard) -> bool {
    true
}

#[cfg(feature = "mutations")]
mod switch {
    use super::Guard;
    use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// The condition that is switched off, by its place in the list; none has this one.
    const NONE: usize = usize::MAX;
    static DISABLED: AtomicUsize = AtomicUsize::new(NONE);
    static REACHED: AtomicBool = AtomicBool::new(false);
    static ASKED: [AtomicBool; Guard::ALL.len()] = [const { AtomicBool::new(false) }; Guard::ALL.len()];

    /// False if the condition is switched off.
    #[inline]
    pub fn enabled(guard: Guard) -> bool {
        // Threads share what they only read.
        if !ASKED[guard as usize].load(Ordering::Relaxed) {
            ASKED[guard as usize].store(true, Ordering::Relaxed);
        }
        let off = DISABLED.load(Ordering::Relaxed) == guard as usize;
        if off {
            REACHED.store(true, Ordering::Relaxed);
        }
        !off
    }

    /// Switches one condition off in this process, and every other on.
    pub fn disable(guard: Option<Guard>) {
        REACHED.store(false, Ordering::Relaxed);
        DISABLED.store(guard.map_or(NONE, |guard| guard as usize), Ordering::Relaxed);
    }

    /// True if a condition that is off was asked for since it was switched off.
    #[must_use]
    pub fn reached() -> bool {
        REACHED.load(Ordering::Relaxed)
    }

    /// True if the condition was ever asked for in this process.
    #[must_use]
    pub fn asked(guard: Guard) -> bool {
        ASKED[guard as usize].load(Ordering::Relaxed)
    }
}

#[cfg(feature = "mutations")]
pub use switch::{asked, disable, enabled, reached};

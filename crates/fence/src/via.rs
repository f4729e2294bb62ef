//! What is known of one source within one fence, and what follows from what it says: a table.
//!
//! A fence asks one source after the other, and each of them may answer late, refuse, begin a reset and fail at it, or
//! vanish. What any of that means must not depend on who happens to be looking, so it is one function of the stage and
//! of what happened, tested pair by pair and drawn in `docs/tables.md`. When things happen next is the fence's affair.

use core::fmt;

/// Where a source stands in a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ViaStage {
    /// Never asked.
    Fresh,
    /// CCR was sent, its patience runs.
    Asked,
    /// No answer in time: others are asked, its answer stays valid.
    Overdue,
    /// It has begun a reset; its log will say how that ended.
    Pending,
    /// A reset is in progress, by its own word or because its log does not say how the one that it began ended: others are
    /// asked, and it is asked again.
    Elsewhere,
    /// Its log was full: purged, and asked again.
    Full,
    /// It could not help now, and may be asked again later.
    Spent,
}

/// What may happen to a source in a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ViaEvent {
    /// CCR is sent through it.
    Sent,
    /// It could not be sent after all.
    NotSent,
    /// It has not answered, or its log has not said how the reset ended, within its patience.
    NoAnswer,
    /// Success, with Immediate Reset Successful.
    Immediate,
    /// Success without it: the reset has begun.
    Begun,
    /// "Cross-Controller Reset in Progress".
    InProgress,
    /// "Cross-Controller Reset Log Page Full".
    LogFull,
    /// "Cross-Controller Reset Limit Exceeded".
    Limit,
    /// Any other status: the same command may be answered otherwise later, whatever the status says.
    Refused,
    /// An entry of its log names the life as reset.
    EntrySuccess,
    /// An entry of its log says that the reset failed, or something that is not understood.
    EntryFailed,
    /// It is no longer live.
    Lost,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ViaNext {
    /// Nothing: it cannot mean this fence.
    Stays,
    /// It stands there now.
    To(ViaStage),
    /// The life is fenced.
    Proof,
}

impl ViaStage {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Fresh, Self::Asked, Self::Overdue, Self::Pending, Self::Elsewhere, Self::Full, Self::Spent];

    /// What follows from `event`.
    #[must_use]
    pub const fn next(self, event: ViaEvent) -> ViaNext {
        use ViaStage::{Asked, Elsewhere, Fresh, Full, Overdue, Pending, Spent};
        match (self, event) {
            // Before it was asked nothing it says can mean this fence.
            (Fresh, ViaEvent::Sent) => ViaNext::To(Asked),
            (Fresh, _) => ViaNext::Stays,
            // Who is lost never comes back under this name.
            (_, ViaEvent::Lost) => ViaNext::To(Fresh),
            (Elsewhere | Full | Spent, ViaEvent::Sent) => ViaNext::To(Asked),
            (Asked | Overdue | Pending, ViaEvent::Sent) => ViaNext::Stays,
            (Asked, ViaEvent::NoAnswer) => ViaNext::To(Overdue),
            (Pending, ViaEvent::NoAnswer) => ViaNext::To(Elsewhere),
            (_, ViaEvent::NoAnswer) => ViaNext::Stays,
            (Asked, ViaEvent::NotSent) => ViaNext::To(Spent),
            (_, ViaEvent::NotSent) => ViaNext::Stays,
            (_, ViaEvent::Immediate) => ViaNext::Proof,
            (_, ViaEvent::Begun) => ViaNext::To(Pending),
            (_, ViaEvent::InProgress) => ViaNext::To(Elsewhere),
            (_, ViaEvent::LogFull) => ViaNext::To(Full),
            (_, ViaEvent::Limit | ViaEvent::Refused) => ViaNext::To(Spent),
            // Where nothing is under way an entry is of an earlier attempt, and was looked at then.
            (Asked | Overdue | Pending | Elsewhere, ViaEvent::EntrySuccess) => ViaNext::Proof,
            (Asked | Overdue | Pending | Elsewhere, ViaEvent::EntryFailed) => ViaNext::To(Spent),
            (Full | Spent, ViaEvent::EntrySuccess | ViaEvent::EntryFailed) => ViaNext::Stays,
        }
    }
}

impl ViaStage {
    /// Why `event` cannot happen to a source that stands here; `None`: it can. The table says what would follow all the same, so
    /// that nothing rests on this.
    #[must_use]
    pub const fn impossible(self, event: ViaEvent) -> Option<&'static str> {
        use ViaStage::{Asked, Elsewhere, Fresh, Full, Overdue, Pending, Spent};
        match (self, event) {
            (_, ViaEvent::Lost)
            | (Fresh | Elsewhere | Full | Spent, ViaEvent::Sent)
            | (Asked, ViaEvent::NotSent)
            | (Asked | Pending, ViaEvent::NoAnswer)
            | (Pending | Elsewhere, ViaEvent::EntrySuccess | ViaEvent::EntryFailed) => None,
            (Asked | Overdue, event) if event.is_answer() => None,
            (Asked | Overdue | Pending, ViaEvent::Sent) => {
                Some("it is not asked again before it has answered and its reset has ended")
            }
            (_, ViaEvent::NotSent) => Some("that is said in the moment in which it is asked"),
            (_, ViaEvent::NoAnswer) => Some("no patience runs"),
            (Fresh, _) => Some("what was never asked, or is lost, says nothing of this instance"),
            (Asked | Overdue, _) => Some("its log counts only after its answer"),
            (Full | Spent, ViaEvent::EntrySuccess | ViaEvent::EntryFailed) => {
                Some("nothing is under way there, and its log is not looked at for this instance")
            }
            _ => Some("it has answered, and was not asked again"),
        }
    }
}

impl ViaEvent {
    /// True for the ways in which a CCR command may be completed.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Immediate | Self::Begun | Self::InProgress | Self::LogFull | Self::Limit | Self::Refused)
    }

    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Sent,
        Self::NotSent,
        Self::NoAnswer,
        Self::Immediate,
        Self::Begun,
        Self::InProgress,
        Self::LogFull,
        Self::Limit,
        Self::Refused,
        Self::EntrySuccess,
        Self::EntryFailed,
        Self::Lost,
    ];
}

/// A row was asked for: so that a walk can say which it never met. Built only with the feature `mutations`; otherwise empty.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn note(_stage: ViaStage, _event: ViaEvent) {}

#[cfg(feature = "mutations")]
mod seen {
    use super::{ViaEvent, ViaStage};
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU16, Ordering};

    static SEEN: [AtomicU16; ViaStage::ALL.len()] = [const { AtomicU16::new(0) }; ViaStage::ALL.len()];

    pub(crate) fn note(stage: ViaStage, event: ViaEvent) {
        SEEN[stage as usize].fetch_or(1 << event as u16, Ordering::Relaxed);
    }

    /// Every row of the table of sources, and whether it was asked for in this process.
    #[must_use]
    pub fn via_rows() -> Vec<(ViaStage, ViaEvent, bool)> {
        let row =
            |stage: ViaStage, event: ViaEvent| SEEN[stage as usize].load(Ordering::Relaxed) & (1 << event as u16) != 0;
        let all = ViaStage::ALL.into_iter().flat_map(|stage| ViaEvent::ALL.map(|event| (stage, event)));
        all.map(|(stage, event)| (stage, event, row(stage, event))).collect()
    }
}

#[cfg(feature = "mutations")]
pub(crate) use seen::note;
#[cfg(feature = "mutations")]
pub use seen::via_rows;

impl fmt::Display for ViaStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Asked => "asked",
            Self::Overdue => "overdue",
            Self::Pending => "pending",
            Self::Elsewhere => "elsewhere",
            Self::Full => "full",
            Self::Spent => "spent",
        })
    }
}

impl fmt::Display for ViaEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sent => "CCR is sent",
            Self::NotSent => "it could not be sent",
            Self::NoAnswer => "no answer in time",
            Self::Immediate => "success, immediate",
            Self::Begun => "success, begun",
            Self::InProgress => "in progress",
            Self::LogFull => "log full",
            Self::Limit => "limit exceeded",
            Self::Refused => "any other status",
            Self::EntrySuccess => "entry: success",
            Self::EntryFailed => "entry: anything else",
            Self::Lost => "it is lost",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_happen_to_a_source_is_thirty_rows() {
        let all = ViaStage::ALL.into_iter().flat_map(|stage| ViaEvent::ALL.map(|event| (stage, event)));
        let possible = all.filter(|(stage, event)| stage.impossible(*event).is_none()).count();
        assert_eq!(possible, 30);
    }

    #[test]
    fn what_a_source_says_is_understood_pair_by_pair() {
        use ViaStage::{Asked, Elsewhere, Full, Overdue, Pending, Spent};
        // Rows: stages. Columns: sent, not sent, no answer, immediate, begun, in progress, full, limit, refused,
        // entry: success, entry: anything else, lost. `-` stays, `!` is the proof, a letter is the stage to go to.
        let table = [
            (ViaStage::Fresh, "a-----------"),
            (Asked, "-so!pefss!sz"),
            (Overdue, "---!pefss!sz"),
            (Pending, "--e!pefss!sz"),
            (Elsewhere, "a--!pefss!sz"),
            (Full, "a--!pefss--z"),
            (Spent, "a--!pefss--z"),
        ];
        let read = |mark| match mark {
            '-' => ViaNext::Stays,
            '!' => ViaNext::Proof,
            'a' => ViaNext::To(Asked),
            'o' => ViaNext::To(Overdue),
            'p' => ViaNext::To(Pending),
            'e' => ViaNext::To(Elsewhere),
            'f' => ViaNext::To(Full),
            's' => ViaNext::To(Spent),
            _ => ViaNext::To(ViaStage::Fresh),
        };
        assert_eq!(table.map(|(stage, _)| stage), ViaStage::ALL);
        for (stage, row) in table {
            assert_eq!(row.len(), ViaEvent::ALL.len());
            for (event, mark) in ViaEvent::ALL.into_iter().zip(row.chars()) {
                assert_eq!(stage.next(event), read(mark), "{stage}: {event}");
            }
        }
    }
}

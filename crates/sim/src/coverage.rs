//! What the hunt never met.
//!
//! A million runs say little if they all walk the same way. So what the machines told is held against their tables: which
//! changes of a controller's state, which happenings in which stage of a fence, which rows of the classification. What was
//! never met is named; and a happening in a stage for which the table has no place is a finding.

use crate::checkers::Seen;
use crate::draw::Plan;
use crate::run::caught;
use crate::world::World;
use interlock_base::Instant;
use interlock_host_core::{EventKind, LifeId, StateName, coverage as core_coverage};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How far the end of a life has come, by what control told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Stage {
    /// Lost; lanes have not all said what is in doubt.
    Sorting,
    /// Something is in doubt, nobody is asked.
    Held,
    /// A source was asked and has not answered.
    Asked,
    /// A source has accepted; its log will tell.
    Pending,
    /// Left unfenced.
    Tombstone,
    /// There is a receipt.
    Fenced,
}

/// What can happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Happening {
    Sorted,
    Asked,
    Immediate,
    Accepted,
    Refused,
    HoldKnown,
    LateTaken,
    LateDropped,
    LaneSilent,
    StaleEntry,
    FencedByReset,
    FencedByLog,
    FencedByTime,
    NothingInDoubt,
    GivenUp,
    Released,
    TombstoneEnded,
}

use Happening as H;
use Stage as S;

/// What may happen when. A source may be asked before all lanes have answered, because one of them may hang.
const FENCE: &[(Stage, Happening)] = &[
    (S::Sorting, H::Sorted),
    (S::Sorting, H::Asked),
    (S::Sorting, H::HoldKnown),
    (S::Sorting, H::LateTaken),
    (S::Sorting, H::LateDropped),
    (S::Sorting, H::LaneSilent),
    (S::Sorting, H::StaleEntry),
    (S::Sorting, H::NothingInDoubt),
    // A lane that hung, of a life for which a source was asked and has refused.
    (S::Held, H::Sorted),
    (S::Held, H::Asked),
    (S::Held, H::Refused),
    (S::Held, H::Immediate),
    (S::Held, H::Accepted),
    (S::Held, H::HoldKnown),
    (S::Held, H::LateTaken),
    (S::Held, H::LateDropped),
    (S::Held, H::StaleEntry),
    (S::Held, H::LaneSilent),
    (S::Held, H::FencedByReset),
    (S::Held, H::FencedByLog),
    (S::Held, H::FencedByTime),
    (S::Held, H::NothingInDoubt),
    (S::Held, H::GivenUp),
    (S::Asked, H::Asked),
    (S::Asked, H::Sorted),
    (S::Asked, H::LaneSilent),
    (S::Asked, H::Immediate),
    (S::Asked, H::Accepted),
    (S::Asked, H::Refused),
    (S::Asked, H::HoldKnown),
    (S::Asked, H::LateTaken),
    (S::Asked, H::LateDropped),
    (S::Asked, H::StaleEntry),
    (S::Asked, H::FencedByReset),
    (S::Asked, H::FencedByLog),
    (S::Asked, H::FencedByTime),
    (S::Asked, H::NothingInDoubt),
    (S::Asked, H::GivenUp),
    (S::Pending, H::Asked),
    (S::Pending, H::Sorted),
    (S::Pending, H::LaneSilent),
    (S::Pending, H::Immediate),
    (S::Pending, H::Accepted),
    (S::Pending, H::Refused),
    (S::Pending, H::HoldKnown),
    (S::Pending, H::LateTaken),
    (S::Pending, H::LateDropped),
    (S::Pending, H::StaleEntry),
    (S::Pending, H::FencedByReset),
    (S::Pending, H::FencedByLog),
    (S::Pending, H::FencedByTime),
    (S::Pending, H::NothingInDoubt),
    (S::Pending, H::GivenUp),
    (S::Tombstone, H::Asked),
    (S::Tombstone, H::Immediate),
    (S::Tombstone, H::Accepted),
    (S::Tombstone, H::Refused),
    (S::Tombstone, H::LateDropped),
    (S::Tombstone, H::StaleEntry),
    (S::Tombstone, H::FencedByReset),
    (S::Tombstone, H::FencedByLog),
    (S::Tombstone, H::FencedByTime),
    (S::Tombstone, H::NothingInDoubt),
    (S::Fenced, H::Released),
    (S::Fenced, H::TombstoneEnded),
    (S::Fenced, H::Refused),
    (S::Fenced, H::Immediate),
    (S::Fenced, H::Accepted),
    (S::Fenced, H::LateDropped),
];

/// What runs have met.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Runs.
    pub runs: u64,
    states: BTreeMap<(StateName, StateName), u64>,
    fences: BTreeMap<(Stage, Happening), u64>,
    stages: BTreeMap<LifeId, Stage>,
}

impl Coverage {
    pub(crate) fn see(&mut self, seen: &Seen<'_>) {
        let Seen::Host(event) = seen else { return };
        if let EventKind::ControllerState { from, to, .. } = event {
            *self.states.entry((*from, *to)).or_default() += 1;
        }
        // A process that died leaves its names to the next one.
        if let EventKind::LifeBegan { life, .. } | EventKind::PredecessorFound { life, .. } = event {
            self.stages.remove(life);
        }
        if let EventKind::PredecessorFound { life, .. } = event {
            // What an earlier process left is held from the first moment on.
            self.stages.insert(*life, Stage::Held);
        }
        let Some((life, happening, next)) = step(event) else { return };
        if matches!(event, EventKind::Lost { .. }) {
            self.stages.insert(life, Stage::Sorting);
            return;
        }
        // One that never served is not told as lost, but its lanes are asked all the same.
        let stage = self.stages.entry(life).or_insert(Stage::Sorting);
        if let Some(happening) = happening {
            *self.fences.entry((*stage, happening)).or_default() += 1;
        }
        if let Some(next) = next
            && *stage != Stage::Fenced
            && (*stage != Stage::Tombstone || next == Stage::Fenced)
        {
            *stage = next;
        }
    }

    /// A run is over: the next one names its lives anew.
    fn end_run(&mut self) {
        self.runs += 1;
        self.stages.clear();
    }

    /// Happenings for which the table has no place.
    pub fn unexpected(&self) -> impl Iterator<Item = String> + '_ {
        self.fences.keys().filter(|pair| !FENCE.contains(pair)).map(|(stage, what)| format!("{stage:?}: {what:?}"))
    }
}

/// Which life an event of a fence is about, what happened, and where that leads.
fn step(event: &EventKind) -> Option<(LifeId, Option<Happening>, Option<Stage>)> {
    use interlock_host_core::Method;
    Some(match event {
        EventKind::Lost { life, .. } => (*life, None, Some(S::Sorting)),
        EventKind::Condemned { life, .. } => (*life, Some(H::Sorted), Some(S::Held)),
        EventKind::CcrSent { life, .. } => (*life, Some(H::Asked), Some(S::Asked)),
        EventKind::CcrAnswered { life, status, immediate, .. } => match (status.is_success(), immediate) {
            (true, true) => (*life, Some(H::Immediate), None),
            (true, false) => (*life, Some(H::Accepted), Some(S::Pending)),
            (false, _) => (*life, Some(H::Refused), Some(S::Held)),
        },
        EventKind::HoldUntil { life, .. } => (*life, Some(H::HoldKnown), None),
        EventKind::Late { life, counted: true } => (*life, Some(H::LateTaken), None),
        EventKind::Late { life, counted: false } => (*life, Some(H::LateDropped), None),
        EventKind::LaneSilent { life, .. } => (*life, Some(H::LaneSilent), None),
        EventKind::StaleEntry { life, .. } => (*life, Some(H::StaleEntry), None),
        EventKind::Fenced(receipt) => {
            let how = match receipt.method {
                Method::Immediate => H::FencedByReset,
                Method::Log => H::FencedByLog,
                _ => H::FencedByTime,
            };
            (receipt.life, Some(how), Some(S::Fenced))
        }
        EventKind::NothingInDoubt { life, .. } => (*life, Some(H::NothingInDoubt), Some(S::Fenced)),
        EventKind::TombstoneSet { life, .. } => (*life, Some(H::GivenUp), Some(S::Tombstone)),
        EventKind::Released { life, .. } => (*life, Some(H::Released), None),
        EventKind::TombstoneEnded { life, .. } => (*life, Some(H::TombstoneEnded), None),
        _ => return None,
    })
}

/// Runs seeds from `first` on and notes what they meet.
#[must_use]
pub fn cover(first: u64, runs: u64) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in first..first.saturating_add(runs) {
        let mut world = World::new(Plan::draw(seed, None), false);
        world.coverage = Some(coverage);
        // What goes wrong is the business of the hunt.
        let _ = caught(Instant::ZERO, || world.run());
        coverage = world.coverage.take().unwrap_or_default();
        coverage.end_run();
    }
    coverage
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<(StateName, StateName)> = StateName::ALL
            .into_iter()
            .flat_map(|from| StateName::ALL.into_iter().map(move |to| (from, to)))
            .filter(|(from, to)| from.allows(*to))
            .collect();
        let states = all.iter().map(|pair| (format!("{} -> {}", pair.0, pair.1), self.states.contains_key(pair)));
        let fences = FENCE.iter().map(|pair| (format!("{:?}: {:?}", pair.0, pair.1), self.fences.contains_key(pair)));
        writeln!(f, "{} runs", self.runs)?;
        section(f, "changes of a controller's state", states)?;
        section(f, "happenings in the stages of a fence", fences)?;
        section(f, "rows of the classification", core_coverage::classification().into_iter())?;
        let unexpected: BTreeSet<String> = self.unexpected().collect();
        for what in unexpected {
            writeln!(f, "NOT IN THE TABLE: {what}")?;
        }
        Ok(())
    }
}

fn section(f: &mut fmt::Formatter<'_>, what: &str, rows: impl Iterator<Item = (String, bool)>) -> fmt::Result {
    let rows: Vec<(String, bool)> = rows.collect();
    let met = rows.iter().filter(|(_, met)| *met).count();
    let share = met as f64 * 100.0 / rows.len().max(1) as f64;
    writeln!(f, "{what}: {met} of {} met ({share:.0} %)", rows.len())?;
    for (name, _) in rows.iter().filter(|(_, met)| !met) {
        writeln!(f, "  never: {name}")?;
    }
    Ok(())
}

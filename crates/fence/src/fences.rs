//! The machine: all lost instances, all sources, and the one table of what nobody may touch.
//!
//! Everything that a lost instance waits for comes together in `advance`, which is called after each of it and decides again
//! from the state alone: there is no order of inputs that it depends on.

mod ends;
mod sources;

use crate::door::{Input, Lost, Output, Predecessor, Told, Wait};
use crate::fencing::{Fencing, Instance, Owner};
use crate::guards::{self as conditions, Guard};
use crate::predecessor::Left;
use crate::protected::Protected;
use crate::pursuit::Ask;
use crate::{CtrlId, FencePolicy, GuardKey, HeadId, Hold, LaneId, LedgerEntry, LifeId, Loss, Tombstone};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::{Deadline, Instant, Timers};
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::Nqn;
use interlock_wire::sqe::Cqe;
use sources::Sources;

/// A lane that has not confirmed a lost instance for so long is named, again and again: its reactor hangs. Nothing is
/// released meanwhile.
const LANE_ANSWER: Duration = Duration::from_millis(100);
/// Once it was named, the sockets that it keeps are aborted from outside after this, and again as often until the kernel
/// has confirmed it. Not sooner: a busy machine is no hung reactor, and late answers would be lost with the sockets.
pub const LANE_CUT: Duration = Duration::from_secs(1);
/// A predecessor that no time fences (KATO 0) has so long to be reset once a controller of its subsystem is live. Then
/// what overlaps it is refused instead of waiting.
const LAST_CHANCE: Duration = Duration::from_secs(5);
/// Sockets of an earlier process that are still there are told of so often.
const OLD_SOCKETS: Duration = Duration::from_secs(10);

/// What is still to be decided once everything before it has been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Every step that is possible now for this instance.
    Advance(LifeId),
    /// A CCR was handed out, and nobody has said that it could not be sent.
    Sent { life: LifeId, source: LifeId, name: (u16, u8) },
    /// It could not be sent: ask another, then go on.
    Pursue(LifeId),
}

/// What is protected of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// Nothing.
    None,
    /// Ranges for which nobody waits any more.
    Left,
    /// Ranges of commands that are held and may be sent again.
    Held,
}

/// How a lost instance stands, for those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Standing {
    /// An earlier process left it.
    pub predecessor: bool,
    /// Every lane has said what is in doubt.
    pub sorted: bool,
    /// When time alone ends it, as far as it is known.
    pub until: Option<Instant>,
}

/// When may a command in doubt be sent again? See the text of the crate.
#[derive(Clone, Debug, Hash)]
pub struct Fences {
    lanes: u16,
    instances: BTreeMap<LifeId, Instance>,
    /// Lost instances by subsystem: only those of one subsystem concern one another.
    by_subsystem: BTreeMap<Nqn, BTreeSet<LifeId>>,
    sources: Sources,
    protected: Protected,
    /// What predecessors could write to.
    left: Left,
    timers: Timers<Wait>,
    agenda: VecDeque<Step>,
    outputs: VecDeque<Output>,
    next_receipt: u64,
    /// Names of what is protected whole, which belong to no lane.
    next_whole: u64,
}

impl Fences {
    /// Nothing is lost, nobody may be asked. `lanes`: of the host, numbered from 0.
    #[must_use]
    pub fn new(lanes: u16) -> Self {
        Self {
            lanes,
            instances: BTreeMap::new(),
            by_subsystem: BTreeMap::new(),
            sources: Sources::default(),
            protected: Protected::new(lanes),
            left: Left::default(),
            timers: Timers::new(),
            agenda: VecDeque::new(),
            outputs: VecDeque::new(),
            next_receipt: 1,
            next_whole: 1,
        }
    }

    /// Something happened at `now`, which never goes back. Poll until there is nothing more.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Lost(lost) => self.handle_lost(now, lost),
            Input::Predecessor(left) => self.handle_predecessor(now, *left),
            Input::Ledger { lane, life, entries, settled } => self.handle_ledger(lane, life, &entries, settled),
            Input::Quiet { lane, life, at } => {
                if self.instances.get_mut(&life).is_some_and(|lost| lost.stopping.handle_quiet(lane, at)) {
                    self.agenda.push_back(Step::Advance(life));
                }
            }
            Input::Admin { life, disabled, quiet } => {
                if let Some(lost) = self.instances.get_mut(&life) {
                    if disabled {
                        lost.pursuit.handle_disabled(now);
                    }
                    lost.stopping.admin = quiet;
                    self.agenda.push_back(Step::Advance(life));
                }
            }
            Input::SocketsGone { life, at } => {
                if let Some(lost) = self.instances.get_mut(&life).filter(|lost| lost.is_predecessor()) {
                    lost.stopping.admin = Some(at);
                    self.timers.stop(Wait::OldSockets(life));
                    self.agenda.push_back(Step::Advance(life));
                }
            }
            Input::TableSeen { lane, epoch } => self.handle_table_seen(lane, epoch),
            Input::Late { lane, life, key, cqe, cached } => self.handle_late(lane, life, key, cqe, cached),
            Input::Abandoned(entry) => self.handle_abandoned(&entry),
            Input::Resolved(keys) => {
                for key in &keys {
                    self.protected.remove(*key);
                }
                self.publish();
            }
            Input::SourceFound(facts) => self.handle_source_found(*facts),
            Input::SourceUp(source) => {
                self.sources.handle_up(source);
                self.advance_kin(source);
            }
            Input::SourceDown(source) => {
                self.sources.handle_down(source);
                self.handle_source_lost(now, source);
                self.advance_kin(source);
            }
            Input::SourceGone(source) => self.sources.remove(source),
            Input::Latency(source, latency) => self.sources.handle_latency(source, latency),
            Input::CcrNotSent { life, source } => self.handle_not_sent(now, life, source),
            Input::CcrAnswer { life, source, status, immediate } => {
                self.handle_ccr(now, life, source, status, immediate);
            }
            Input::LogNotSent(source) => self.sources.handle_log_not_sent(source),
            Input::LogChanged(source) => self.read_log(source),
            Input::Log { source, removed, entries } => self.handle_log(now, source, removed, entries),
            Input::Purge { source, anew } => self.handle_purge(source, anew),
            Input::RawClock { life, raw } => {
                if let Some(lost) = self.instances.get_mut(&life) {
                    lost.pursuit.handle_raw_clock(now, raw);
                    self.agenda.push_back(Step::Advance(life));
                }
            }
            Input::Owner(life) => self.handle_owner(life),
            Input::Disowned => {
                let lost: Vec<LifeId> = self.instances.keys().copied().collect();
                for life in lost {
                    self.timers.stop(Wait::Owner(life));
                    self.want_give_up(life);
                }
            }
            Input::GiveUp(life) => self.want_give_up(life),
            Input::GiveUpBy(life, at) => {
                if self.instances.contains_key(&life) {
                    self.timers.set_earliest(Wait::GiveUp(life), at);
                }
            }
            Input::AcceptRisk(life) => {
                if let Some(lost) = self.instances.get_mut(&life) {
                    lost.pursuit.handle_accepted(now);
                    self.agenda.push_back(Step::Advance(life));
                }
            }
            Input::Closed(life) => {
                self.protected.remove_life(life);
                self.publish();
            }
            Input::Found { subnqn, heads } => self.handle_found(now, &subnqn, &heads),
        }
    }

    /// What to do next. Carry each out before the next is polled: a command that cannot be sent is answered at once, and the
    /// next decision rests on that.
    pub fn poll(&mut self, now: Instant) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            match self.agenda.pop_front()? {
                Step::Advance(life) => self.advance(now, life),
                Step::Sent { life, source, name } => {
                    self.sources.handle_sent(source, name, life);
                    self.decide(now, life);
                }
                Step::Pursue(life) => {
                    if !self.pursue(now, life) {
                        self.decide(now, life);
                    }
                }
            }
        }
    }

    /// The next wait to end, if there is one. Then call [`Fences::handle_timeout`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline<Wait>> {
        self.timers.next()
    }

    /// Everything that is waited for, the earliest first (`every_wait_has_a_deadline`).
    pub fn waits(&self) -> impl Iterator<Item = Deadline<Wait>> + '_ {
        self.timers.iter()
    }

    /// The next wait has ended, if one has at `now`. Poll, and call again until there is none.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.timers.expired(now) {
            Some(Wait::Source(life) | Wait::Hold(life)) => self.agenda.push_back(Step::Advance(life)),
            Some(Wait::Lanes(life)) => self.handle_lane_overdue(now, life),
            Some(Wait::GiveUp(life)) => self.handle_last_chance(life),
            Some(Wait::OldSockets(life)) => {
                self.timers.set(Wait::OldSockets(life), now + OLD_SOCKETS);
                self.tell(Told::PredecessorLingers { life });
            }
            Some(Wait::Owner(life)) => self.handle_owner_silent(now, life),
            None => {}
        }
    }

    // --- Getters ---

    /// True if it was lost and is not over.
    #[must_use]
    pub fn is_lost(&self, life: LifeId) -> bool {
        self.instances.contains_key(&life)
    }

    /// How a lost instance stands; `None` if it is none, or none any more.
    #[must_use]
    pub fn standing(&self, life: LifeId) -> Option<Standing> {
        self.instances.get(&life).map(|lost| Standing {
            predecessor: lost.is_predecessor(),
            sorted: lost.stopping.is_sorted(),
            until: lost.pursuit.deadline(),
        })
    }

    /// What a lost instance was known by.
    #[must_use]
    pub fn lost(&self, life: LifeId) -> Option<&Lost> {
        self.instances.get(&life).map(|lost| &*lost.lost)
    }

    /// True if it was lost, and no time ends that.
    #[must_use]
    pub fn is_unbounded(&self, life: LifeId) -> bool {
        self.instances.get(&life).is_some_and(|lost| lost.pursuit.hold() == Hold::Unbounded)
    }

    /// True if its commands were ended as not known.
    #[must_use]
    pub fn is_tombstone(&self, life: LifeId) -> bool {
        self.instances.get(&life).is_some_and(Instance::is_tombstone)
    }

    /// Instances that were given up unfenced, and what they may change is still protected.
    pub fn tombstones(&self) -> impl Iterator<Item = Tombstone> + '_ {
        self.instances.values().filter_map(Instance::tombstone)
    }

    /// The namespace of a protected command.
    #[must_use]
    pub fn head_of(&self, key: GuardKey) -> Option<HeadId> {
        self.protected.head_of(key)
    }

    /// True if something of `head` is protected for the sake of `life`.
    #[must_use]
    pub fn concerns(&self, life: LifeId, head: HeadId) -> bool {
        self.protected.concerns(life, head)
    }

    /// Instances that earlier processes left, and that could write to a disk with one of these identifiers.
    pub fn could_write(&self, ids: &NamespaceIds) -> impl Iterator<Item = LifeId> {
        self.left.could_write(ids)
    }

    /// What is protected of a namespace of this subsystem: by the table, or because a lane has not said yet what is in doubt.
    #[must_use]
    pub fn protection(&self, subnqn: &Nqn, head: HeadId) -> Protection {
        if self.of(subnqn).any(|(_, lost)| !lost.stopping.is_sorted()) {
            return Protection::Held;
        }
        let held = |life| self.instances.get(&life).is_some_and(|lost| !lost.is_tombstone());
        match self.protected.lives_of(head).map(held).max() {
            Some(true) => Protection::Held,
            Some(false) => Protection::Left,
            None => Protection::None,
        }
    }

    // --- Inside ---

    fn tell(&mut self, told: Told) {
        self.outputs.push_back(Output::Told(told));
    }

    /// Lost instances of a subsystem, in the order of their names.
    fn of(&self, subnqn: &Nqn) -> impl Iterator<Item = (LifeId, &Instance)> {
        let kin = self.by_subsystem.get(subnqn).into_iter().flatten();
        kin.filter_map(|life| Some((*life, self.instances.get(life)?)))
    }

    fn insert(&mut self, now: Instant, lost: Box<Lost>) {
        self.by_subsystem.entry(lost.subnqn.clone()).or_default().insert(lost.life);
        self.instances.insert(lost.life, Instance::new(now, self.lanes, lost));
    }

    fn remove(&mut self, life: LifeId) -> Option<Instance> {
        let lost = self.instances.remove(&life)?;
        if let Some(kin) = self.by_subsystem.get_mut(&lost.lost.subnqn) {
            kin.remove(&life);
            if kin.is_empty() {
                self.by_subsystem.remove(&lost.lost.subnqn);
            }
        }
        self.left.remove(life);
        for wait in [
            Wait::Lanes(life),
            Wait::Source(life),
            Wait::Hold(life),
            Wait::GiveUp(life),
            Wait::OldSockets(life),
            Wait::Owner(life),
        ] {
            self.timers.stop(wait);
        }
        Some(lost)
    }

    fn handle_lost(&mut self, now: Instant, lost: Box<Lost>) {
        let (life, asked_for) = (lost.life, lost.loss.is_asked_for());
        let (served, policy, last_chance) = (lost.served, lost.policy, lost.last_chance);
        self.insert(now, lost);
        self.timers.set(Wait::Lanes(life), now + LANE_ANSWER);
        // Where time proves nothing, what is held must not be held for ever: a source that is not there after a whole
        // attempt to come back is not waited for.
        if self.is_unbounded(life) && served && policy == FencePolicy::Strict {
            self.timers.set(Wait::GiveUp(life), now + last_chance);
        }
        if asked_for && !conditions::enabled(Guard::OrderlyEndIsFenced) {
            // As if the disable that it ends with had been a fence.
            if let Some(lost) = self.instances.get_mut(&life) {
                lost.pursuit.handle_accepted(now);
            }
        }
        // Whoever waited for it as a source asks another in this same transition.
        self.sources.remove(life);
        self.handle_source_lost(now, life);
        self.advance_kin(life);
    }

    fn handle_predecessor(&mut self, now: Instant, left: Predecessor) {
        let Predecessor { life, ctrl, subnqn, addr, identity, terms, disks } = left;
        self.insert(
            now,
            Box::new(Lost {
                life,
                ctrl,
                subnqn: subnqn.clone(),
                addr: Some(addr),
                local: crate::Local::default(),
                identity,
                terms: Some(terms),
                policy: FencePolicy::Strict,
                loss: Loss::Predecessor,
                served: true,
                suspect: None,
                admin_quiet: None,
                late_grace: Duration::ZERO,
                last_chance: LAST_CHANCE,
            }),
        );
        self.left.add(life, disks);
        self.timers.set(Wait::OldSockets(life), now + OLD_SOCKETS);
        self.tell(Told::PredecessorFound { ctrl, life, subnqn, identity });
    }

    fn handle_ledger(&mut self, lane: LaneId, life: LifeId, entries: &[LedgerEntry], settled: usize) {
        let Some(lost) = self.instances.get_mut(&life) else { return };
        if !lost.stopping.unsorted.remove(&lane) {
            return;
        }
        lost.doubt.add(entries, settled);
        if lost.lost.policy == FencePolicy::Strict {
            for entry in entries {
                self.protected.add(entry);
            }
            self.publish();
        }
        let epoch = self.protected.epoch();
        let Some(lost) = self.instances.get_mut(&life) else { return };
        lost.doubt.epoch = epoch;
        if lost.stopping.is_sorted() {
            lost.handle_sorted();
            let oldest = lost.doubt.oldest.map(|oldest| lost.at.since(oldest));
            let (in_doubt, settled) = (lost.doubt.ever, lost.doubt.settled);
            self.outputs.push_back(Output::Sorted { life, in_doubt, settled, oldest });
        }
        self.agenda.push_back(Step::Advance(life));
    }

    fn handle_table_seen(&mut self, lane: LaneId, epoch: u64) {
        let before = self.protected.seen_by_all();
        self.protected.handle_seen(lane, epoch);
        let seen = before + 1..=self.protected.seen_by_all();
        // Those that waited for this epoch; to the others it says nothing.
        let waited = self.instances.iter().filter(|(_, lost)| seen.contains(&lost.doubt.epoch));
        self.agenda.extend(waited.map(|(life, _)| Step::Advance(*life)));
    }

    /// A late answer is decided once, here: before the fence it is the result, after it nothing
    /// (`late_completion_decided_once`).
    fn handle_late(&mut self, lane: LaneId, life: LifeId, key: GuardKey, cqe: Cqe, cached: bool) {
        let taken = self.instances.get_mut(&life).is_some_and(|lost| {
            let held = !lost.is_tombstone() && !cached && lost.doubt.commands.remove(&key);
            lost.doubt.answered_late += usize::from(held);
            held
        }) || !conditions::enabled(Guard::LateOnce);
        self.tell(Told::Late { life, counted: taken });
        if taken {
            self.outputs.push_back(Output::Answer { lane, key, cqe });
        } else {
            // It came late for an instance whose end left a tombstone: the command is over, whatever was told its caller.
            let over = self
                .instances
                .get_mut(&life)
                .is_some_and(|lost| (lost.is_tombstone() || !cached) && lost.doubt.commands.remove(&key));
            if !over {
                return;
            }
        }
        self.protected.remove(key);
        self.publish();
        self.agenda.push_back(Step::Advance(life));
    }

    fn handle_abandoned(&mut self, entry: &LedgerEntry) {
        if let Some(lost) = self.instances.get(&entry.life) {
            // The ledger of its lane holds it already, and with that everything is said; or the ledger that is still to come
            // will hold it.
            let known =
                lost.doubt.commands.contains(&entry.key) || lost.stopping.unsorted.contains(&LaneId(entry.key.lane));
            if !known {
                return;
            }
        }
        self.protected.add(entry);
        self.publish();
    }

    /// Protects the namespaces that were found against what predecessors may still do to them. Said before they are paths, so
    /// no lane can write first.
    fn handle_found(&mut self, now: Instant, subnqn: &Nqn, found: &[(HeadId, Option<NamespaceIds>)]) {
        if !conditions::enabled(Guard::PredecessorGuardsAll) {
            return;
        }
        let heads: BTreeSet<HeadId> = found.iter().map(|(head, _)| *head).collect();
        let of_subsystem = self.of(subnqn).filter(|(_, lost)| lost.is_predecessor());
        let mut guarded: BTreeMap<LifeId, BTreeSet<HeadId>> =
            of_subsystem.map(|(life, _)| (life, heads.clone())).collect();
        for (head, ids) in found {
            for life in ids.iter().flat_map(|ids| self.left.could_write(ids)) {
                guarded.entry(life).or_default().insert(*head);
            }
        }
        for (life, heads) in guarded {
            if self.is_unbounded(life) && !self.protected.is_endless(life) {
                self.timers.set_earliest(Wait::GiveUp(life), now + LAST_CHANCE);
            }
            for head in heads {
                if self.protected.add_whole(life, head, self.next_whole) {
                    self.next_whole += 1;
                }
            }
        }
        self.publish();
    }

    /// Tells every lane what nobody may touch, if that changed.
    fn publish(&mut self) {
        if let Some((epoch, entries)) = self.protected.publish() {
            self.outputs.push_back(Output::Table { epoch, entries });
        }
    }

    /// Every fence of the subsystem of this instance, after something that may concern any of them.
    fn advance_kin(&mut self, life: LifeId) {
        let lost = self.instances.get(&life).map(|lost| &lost.lost.subnqn);
        let Some(subnqn) = lost.or_else(|| self.sources.subsystem(life)) else { return };
        // Those with most commands held come first where sources are scarce.
        let mut lives: Vec<_> =
            self.of(subnqn).map(|(life, lost)| (core::cmp::Reverse(lost.doubt.commands.len()), life)).collect();
        lives.sort_unstable();
        self.agenda.extend(lives.into_iter().map(|(_, life)| Step::Advance(life)));
    }

    /// Takes every step that is possible now for a lost instance.
    fn advance(&mut self, now: Instant, life: LifeId) {
        let Some(lost) = self.instances.get_mut(&life) else { return };
        if lost.stopping.is_sorted() {
            if !lost.is_doubtful() {
                self.end_without_doubt(life);
                return;
            }
            if lost.lost.policy == FencePolicy::Legacy {
                self.end_legacy(now, life);
                return;
            }
        }
        if lost.pursuit.t0().is_none()
            && let Some(t0) = lost.t0()
        {
            lost.pursuit.handle_t0(t0);
            let (deadline, assumed) = (lost.pursuit.deadline(), lost.pursuit.hold().is_assumed());
            // Of an instance that never served nobody was told that it is lost, and nobody is told its end.
            if lost.lost.policy == FencePolicy::Strict && lost.lost.served {
                self.tell(Told::HoldUntil { life, t0, deadline, assumed });
            }
        }
        self.note_proof(life);
        if !self.pursue(now, life) {
            self.decide(now, life);
        }
    }

    /// Notes a proof, and who gave it while it is there to be named.
    fn note_proof(&mut self, life: LifeId) {
        let Some(lost) = self.instances.get_mut(&life) else { return };
        if let Some(proof) = lost.pursuit.proof() {
            let by = proof.source.and_then(|source| self.sources.named(source));
            lost.prove(proof, by);
        }
    }

    /// Whether what is held may go on, or must end.
    fn decide(&mut self, now: Instant, life: LifeId) {
        self.note_proof(life);
        self.try_release(now, life);
        self.try_give_up(life);
        self.watch_lanes(now, life);
    }

    /// Asks sources as far as that makes sense now. True if the next decision waits for whether that could be sent.
    fn pursue(&mut self, now: Instant, life: LifeId) -> bool {
        let candidates = self.candidates(life);
        let Some(lost) = self.instances.get_mut(&life) else { return false };
        // With a proof this asks nobody, and ends what was waited for.
        let matters = lost.is_doubtful() || lost.is_overdue() || lost.proven().is_some();
        if lost.lost.policy == FencePolicy::Legacy || !matters {
            return false;
        }
        let asks = lost.pursuit.poll(now, &candidates);
        let next = [(Wait::Source(life), lost.pursuit.next_deadline(now)), (Wait::Hold(life), lost.pursuit.hold_due())];
        for (wait, at) in next {
            match at {
                Some(at) => self.timers.set(wait, at),
                None => self.timers.stop(wait),
            }
        }
        // A CCR is the last of them.
        let mut waits = false;
        for ask in asks {
            match ask {
                Ask::Ccr(source) => waits = self.send_ccr(life, source),
                Ask::ReadLog(source) => self.read_log(source),
                Ask::Purge(source) => self.purge_again(source),
                Ask::RawClock => self.outputs.push_back(Output::RawClock(life)),
            }
        }
        waits
    }

    /// Lanes without whose word a lost instance does not go on: they have not stopped, may still be sending, or do not hold
    /// the table that a release or an end waits for.
    fn awaited_lanes(&self, life: LifeId) -> Vec<LaneId> {
        let Some(lost) = self.instances.get(&life) else { return Vec::new() };
        let mut lanes: BTreeSet<LaneId> = lost.stopping.unsorted.union(&lost.stopping.noisy).copied().collect();
        if lost.pursuit.proof().is_some() || lost.give_up {
            lanes.extend(self.protected.unseen(lost.doubt.epoch));
        }
        lanes.into_iter().collect()
    }

    /// While a lane is waited for, there is a deadline at which that is told.
    fn watch_lanes(&mut self, now: Instant, life: LifeId) {
        let wait = Wait::Lanes(life);
        if self.awaited_lanes(life).is_empty() {
            self.timers.stop(wait);
        } else if self.timers.at(wait).is_none() {
            self.timers.set(wait, now + LANE_CUT);
        }
    }

    fn handle_lane_overdue(&mut self, now: Instant, life: LifeId) {
        let Some(lost) = self.instances.get_mut(&life) else { return };
        let stopped = lost.stopping.is_sorted();
        let quiet_by = lost.at + lost.lost.late_grace + LANE_ANSWER;
        if let Fencing::Sorting { overdue } = &mut lost.fencing {
            *overdue |= !stopped;
        }
        if stopped && now < quiet_by {
            // Its sockets have their time for late answers first.
            self.timers.set(Wait::Lanes(life), quiet_by);
            return;
        }
        let lanes = self.awaited_lanes(life);
        if lanes.is_empty() {
            return;
        }
        self.timers.set(Wait::Lanes(life), now + LANE_CUT);
        self.tell(Told::LaneSilent { life, lanes });
        self.cut_noisy(now, life);
        self.agenda.push_back(Step::Advance(life));
    }

    /// What a hung lane keeps in its sockets must not leave them after the hold has begun, and the hold must not wait for
    /// a lane that never comes back: another thread aborts them. That makes the instance quiet and no more: what is in doubt
    /// is known to the lane alone, so nothing is released, and nothing given up, before it answers.
    fn cut_noisy(&mut self, now: Instant, life: LifeId) {
        let Some(lost) = self.instances.get(&life).filter(|lost| now >= lost.at + LANE_CUT) else { return };
        self.outputs.extend(lost.stopping.noisy.iter().map(|lane| Output::Cut(*lane, life)));
    }

    /// Paths of this configured controller that are lost and not over.
    pub fn lost_of(&self, ctrl: CtrlId) -> impl Iterator<Item = LifeId> + '_ {
        self.instances.iter().filter(move |(_, lost)| lost.lost.ctrl == ctrl).map(|(life, _)| *life)
    }

    /// True while this process is asked whether it is still the host, for this instance.
    fn owner(&self, life: LifeId) -> Option<Owner> {
        match self.instances.get(&life)?.fencing {
            Fencing::Releasing(_, owner) => Some(owner),
            Fencing::Sorting { .. } | Fencing::Pursuing | Fencing::Proven(_) | Fencing::GivenUp => None,
        }
    }
}

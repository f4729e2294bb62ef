//! Namespaces and the ways to them: control's path table as the data path wants it.
//!
//! The table names lives; here each path points at the life's slot, so that a choice touches no map. Namespaces and
//! counters once seen keep their slots, because counters outlive what they counted, until control says that a namespace
//! is forgotten: nothing was ever asked of it.

use super::counters::{IoCounters, nanos};
use super::latency::Latencies;
use super::life::{Life, LifeStanding};
use super::requests::Bias;
use super::{HeadCounters, PathCounters};
use crate::forward;
use crate::guards::{self as conditions, Guard};
use crate::{
    AnaState, ConnId, CtrlId, FlushScope, HeadId, IoPolicy, LaneId, LifeId, Path, PathTable, Refused, Request, Shape,
};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use interlock_base::{Instant, Key, Rng, Slab};

#[derive(Clone, Debug, Hash)]
pub(super) struct Heads {
    lane: LaneId,
    table: Arc<PathTable>,
    /// Sorted by name.
    by_id: Vec<(HeadId, u32)>,
    slots: Vec<HeadSlot>,
    /// One per slot.
    head_counters: Vec<HeadCounters>,
    path_counters: Vec<PathCounters>,
    /// One per slot.
    head_latencies: Vec<Latencies>,
    /// One per path counter.
    path_latencies: Vec<Latencies>,
    /// One per path counter: commands that were the whole of their request, accepted and sent in the same moment. They are
    /// counted here alone, and are of the path and of its namespace alike: nearly all requests are such.
    whole: Vec<(IoCounters, Latencies)>,
    /// One per path counter: when the latest submitted command was submitted that this path has answered.
    answered: Vec<Instant>,
    /// Slots of path counters.
    by_path: BTreeMap<(HeadId, CtrlId), u32>,
    /// Slots of namespaces that were forgotten, and of their path counters: they are used again.
    free: Vec<u32>,
    free_paths: Vec<u32>,
    /// Lives of which only other lanes have queues, and to which nothing is forwarded: a suspect is alone there for a moment.
    closed: BTreeSet<LifeId>,
    /// Slots whose backlog is not empty.
    pub(super) backlogged: VecDeque<u32>,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct HeadSlot {
    pub(super) id: HeadId,
    /// `None` once it is gone from the table.
    view: Option<HeadView>,
    /// Each of its controllers has a cache of its own: said once, it holds, also for answers that come when it is gone.
    own_caches: bool,
    /// Where round robin goes on.
    cursor: usize,
    /// Requests that wait for a free slot on a queue, in order.
    pub(super) backlog: VecDeque<u32>,
}

#[derive(Clone, Debug, Hash)]
struct HeadView {
    shape: Shape,
    policy: IoPolicy,
    may_return: bool,
    /// Those whose life has ever had a queue on this lane.
    paths: Vec<PathView>,
    /// Those on which other lanes have queues, and this one has none.
    elsewhere: Vec<Elsewhere>,
}

/// A usable path on which this lane has no queue.
#[derive(Clone, Copy, Debug, Hash)]
struct Elsewhere {
    life: LifeId,
    /// Who serves this lane there.
    to: LaneId,
    /// As of [`PathView::tier`].
    tier: u8,
}

#[derive(Clone, Debug, Hash)]
struct PathView {
    life: Key,
    nsid: u32,
    ana: AnaState,
    slow: bool,
    counters: u32,
    /// It answered with an ANA status; unusable until the next table.
    stale: bool,
}

/// The path chosen for one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chosen {
    pub(super) life: Key,
    pub(super) conn: ConnId,
    pub(super) nsid: u32,
    /// Slot of its counters.
    pub(super) counters: u32,
    /// Position among the paths of its namespace, if it was chosen among them.
    position: Option<usize>,
}

/// What path choice found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    Path(Chosen),
    /// A path is usable, but its queues are full.
    Full,
    /// The best path is one on which this lane has no queue: that lane has one.
    Elsewhere(LaneId),
    /// No path is usable.
    Nothing {
        may_return: bool,
    },
    /// Paths are usable, but none carries so much in one command.
    TooLarge,
    /// The namespace is gone.
    NoSuchNamespace,
}

impl Heads {
    pub(super) fn new(lane: LaneId) -> Self {
        Self {
            lane,
            table: Arc::default(),
            by_id: Vec::new(),
            slots: Vec::new(),
            head_counters: Vec::new(),
            path_counters: Vec::new(),
            head_latencies: Vec::new(),
            path_latencies: Vec::new(),
            whole: Vec::new(),
            answered: Vec::new(),
            by_path: BTreeMap::new(),
            free: Vec::new(),
            free_paths: Vec::new(),
            closed: BTreeSet::new(),
            backlogged: VecDeque::new(),
        }
    }

    /// Which table of control this is.
    pub(super) fn table_epoch(&self) -> u64 {
        self.table.epoch
    }

    pub(super) fn set_table(&mut self, table: Arc<PathTable>, lives: &Slab<Life>, rng: &mut Rng) {
        self.table = table;
        self.compile(lives, rng);
    }

    /// Draws the table up again, after it or the set of lives has changed.
    pub(super) fn compile(&mut self, lives: &Slab<Life>, rng: &mut Rng) {
        for slot in &mut self.slots {
            slot.view = None;
        }
        let table = Arc::clone(&self.table);
        let lives: BTreeMap<LifeId, (Key, CtrlId)> =
            lives.iter().map(|(key, life)| (life.id, (key, life.ctrl))).collect();
        for (id, head) in &table.heads {
            let mut paths = Vec::with_capacity(head.paths.len());
            let mut elsewhere = Vec::new();
            for path in &head.paths {
                let Some(&(life, ctrl)) = lives.get(&path.life) else {
                    elsewhere.extend(Elsewhere::of(path, self.lane));
                    continue;
                };
                let counters = self.counters_of(*id, ctrl);
                let (nsid, ana, slow) = (path.nsid, path.ana, path.slow);
                paths.push(PathView { life, nsid, ana, slow, counters, stale: false });
            }
            let index = self.slot_or_new(*id, rng);
            let (shape, policy, may_return) = (head.shape, head.policy, head.may_return);
            let slot = &mut self.slots[index as usize];
            slot.own_caches |= head.flush == FlushScope::Controller;
            slot.view = Some(HeadView { shape, policy, may_return, paths, elsewhere });
        }
    }

    pub(super) fn slot_or_new(&mut self, id: HeadId, rng: &mut Rng) -> u32 {
        match self.by_id.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(at) => self.by_id[at].1,
            Err(at) => {
                let cursor = usize::from(rng.next_u64() as u8);
                let slot = HeadSlot { id, view: None, own_caches: false, cursor, backlog: VecDeque::new() };
                let index = if let Some(free) = self.free.pop() {
                    self.slots[free as usize] = slot;
                    self.head_counters[free as usize] = HeadCounters::new(id);
                    free
                } else {
                    self.slots.push(slot);
                    self.head_counters.push(HeadCounters::new(id));
                    self.head_latencies.push(Latencies::default());
                    u32::try_from(self.slots.len() - 1).expect("namespaces are fewer than 2^32")
                };
                self.by_id.insert(at, (id, index));
                index
            }
        }
    }

    fn counters_of(&mut self, head: HeadId, ctrl: CtrlId) -> u32 {
        *self.by_path.entry((head, ctrl)).or_insert_with(|| {
            if let Some(free) = self.free_paths.pop() {
                self.path_counters[free as usize] = PathCounters::new(head, ctrl);
                return free;
            }
            self.path_counters.push(PathCounters::new(head, ctrl));
            self.path_latencies.push(Latencies::default());
            self.whole.push((IoCounters::new(), Latencies::default()));
            self.answered.push(Instant::ZERO);
            u32::try_from(self.path_counters.len() - 1).expect("paths are fewer than 2^32")
        })
    }

    /// These namespaces are gone for good, and nothing was ever asked of them: their slots are free, and so are those of
    /// their paths, whose counters say nothing. One that is busy all the same keeps its slot.
    #[cold]
    pub(super) fn forget(&mut self, ids: &[HeadId], is_busy: impl Fn(u32) -> bool) {
        for id in ids {
            let Ok(at) = self.by_id.binary_search_by_key(id, |(id, _)| *id) else { continue };
            let slot = self.by_id[at].1;
            if self.table.heads.contains_key(id) || is_busy(slot) {
                debug_assert!(false, "{id} was forgotten, and is in use");
                continue;
            }
            self.by_id.remove(at);
            self.slots[slot as usize].view = None;
            self.free.push(slot);
            let paths: Vec<(HeadId, CtrlId)> =
                self.by_path.range((*id, CtrlId(0))..=(*id, CtrlId(u32::MAX))).map(|(path, _)| *path).collect();
            self.free_paths.extend(paths.iter().filter_map(|path| self.by_path.remove(path)));
        }
    }

    pub(super) fn find(&self, id: HeadId) -> Option<u32> {
        self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok().map(|at| self.by_id[at].1)
    }

    /// The namespace that has this NSID on a life.
    pub(super) fn on(&self, life: Key, nsid: u32) -> Option<HeadId> {
        let is_there = |view: &HeadView| view.paths.iter().any(|path| path.life == life && path.nsid == nsid);
        self.slots.iter().find(|slot| slot.view.as_ref().is_some_and(is_there)).map(|slot| slot.id)
    }

    pub(super) fn slot_mut(&mut self, slot: u32) -> &mut HeadSlot {
        &mut self.slots[slot as usize]
    }

    /// Puts a request behind those that wait for a free queue slot.
    pub(super) fn backlog(&mut self, slot: u32, index: u32) {
        let backlog = &mut self.slots[slot as usize].backlog;
        backlog.push_back(index);
        if backlog.len() == 1 {
            self.backlogged.push_back(slot);
        }
    }

    /// Takes a request out of the backlog.
    pub(super) fn leave_backlog(&mut self, slot: u32, index: u32) {
        let backlog = &mut self.slots[slot as usize].backlog;
        backlog.retain(|other| *other != index);
        if backlog.is_empty() {
            self.backlogged.retain(|other| *other != slot);
        }
    }

    /// Checks a request against its namespace.
    pub(super) fn check(&self, slot: u32, request: &Request, lives: &Slab<Life>) -> Result<(), Refused> {
        let view = self.slots[slot as usize].view.as_ref().ok_or(Refused::NoSuchNamespace)?;
        let shape = &view.shape;
        if request.op == crate::Op::Flush {
            return if request.data.is_none() { Ok(()) } else { Err(Refused::WrongLength) };
        }
        let end = request.slba.checked_add(u64::from(request.nlb)).ok_or(Refused::OutOfRange)?;
        if request.nlb == 0 || end > shape.blocks {
            return Err(Refused::OutOfRange);
        }
        if shape.read_only && request.op.changes_media() {
            return Err(Refused::ReadOnly);
        }
        if !matches!(request.op, crate::Op::Discard) && request.nlb > super::command::MAX_BLOCKS {
            return Err(Refused::TooLarge);
        }
        let bytes = request.op.carries_blocks().then(|| u64::from(request.nlb) * u64::from(shape.block_size));
        if bytes != request.data.map(|span| u64::from(span.len)) {
            return Err(Refused::WrongLength);
        }
        let most = view.paths.iter().filter_map(|path| lives.get(path.life)).map(|life| life.max_transfer).max();
        match (most, request.data) {
            // Others know what the paths carry on which this lane has no queue.
            (Some(most), Some(span)) if span.len > most && view.elsewhere.is_empty() => Err(Refused::TooLarge),
            _ => Ok(()),
        }
    }

    /// Chooses among usable paths (`no_io_on_unusable_path`): first what `bias` says, then paths that are not slow,
    /// then the better ANA state, then the policy.
    pub(super) fn choose(&self, slot: u32, lives: &Slab<Life>, bytes: u32, bias: Bias) -> Choice {
        let slot = &self.slots[slot as usize];
        let Some(view) = &slot.view else { return Choice::NoSuchNamespace };
        let mut too_small = false;
        let mut best: Option<u8> = None;
        for path in &view.paths {
            if let Some((tier, fits)) = path.tier(lives, bytes, bias) {
                too_small |= !fits;
                if fits && best.is_none_or(|best| tier < best) {
                    best = Some(tier);
                }
            }
        }
        if best != Some(0)
            && let Some(to) = view.elsewhere(best, &self.closed)
        {
            return Choice::Elsewhere(to);
        }
        let Some(best) = best else {
            let may_return = view.may_return || view.is_isolated(lives);
            return if too_small { Choice::TooLarge } else { Choice::Nothing { may_return } };
        };
        let count = view.paths.len();
        let first = if view.policy == IoPolicy::Numa { 0 } else { slot.cursor % count };
        let mut chosen: Option<(u32, Chosen)> = None;
        for position in (first..count).chain(0..first) {
            let path = &view.paths[position];
            if path.tier(lives, bytes, bias) != Some((best, true)) {
                continue;
            }
            let Some(life) = lives.get(path.life) else { continue };
            let Some(conn) = life.free_queue() else { continue };
            let cost = if view.policy == IoPolicy::QueueDepth { life.in_flight } else { 0 };
            if chosen.as_ref().is_none_or(|(least, _)| cost < *least) {
                let (life, nsid, counters) = (path.life, path.nsid, path.counters);
                chosen = Some((cost, Chosen { life, conn, nsid, counters, position: Some(position) }));
            }
            if cost == 0 {
                break;
            }
        }
        chosen.map_or(Choice::Full, |(_, chosen)| Choice::Path(chosen))
    }

    /// True if the namespace is gone, or has no usable path and none may return.
    pub(super) fn is_hopeless(&self, slot: u32, lives: &Slab<Life>) -> bool {
        matches!(
            self.choose(slot, lives, 0, Bias::None),
            Choice::NoSuchNamespace | Choice::Nothing { may_return: false }
        )
    }

    /// True if only another lane has a queue for the namespace. One on which a suspect is alone for a moment is a queue.
    pub(super) fn is_only_elsewhere(&self, slot: u32, lives: &Slab<Life>) -> bool {
        let elsewhere = matches!(self.choose(slot, lives, 0, Bias::None), Choice::Elsewhere(_));
        let view = self.slots[slot as usize].view.as_ref();
        elsewhere && view.is_some_and(|view| !view.paths.iter().any(|path| path.is_way(lives)))
    }

    /// Nothing is forwarded to a lane for this life before [`Heads::open_elsewhere`].
    pub(super) fn close_elsewhere(&mut self, life: LifeId) {
        self.closed.insert(life);
    }

    /// The life is as any other again, or over. True if it was not.
    pub(super) fn open_elsewhere(&mut self, life: LifeId) -> bool {
        self.closed.remove(&life)
    }

    /// The path was taken: round robin goes on behind it.
    pub(super) fn took(&mut self, slot: u32, chosen: &Chosen) {
        if let Some(position) = chosen.position {
            self.slots[slot as usize].cursor = position + 1;
        }
    }

    /// True if a flush has to go to every controller that has answered a write.
    pub(super) fn flushes_each(&self, slot: u32) -> bool {
        self.slots[slot as usize].own_caches
    }

    /// A path that was not chosen: the one that it must be.
    pub(super) fn pinned(&mut self, head: HeadId, ctrl: CtrlId, life: Key, conn: ConnId, nsid: u32) -> Chosen {
        Chosen { life, conn, nsid, counters: self.counters_of(head, ctrl), position: None }
    }

    /// The path of `life` answered with an ANA status: not chosen again before the next table.
    pub(super) fn mark_stale(&mut self, slot: u32, life: Key) {
        if let Some(view) = &mut self.slots[slot as usize].view {
            for path in view.paths.iter_mut().filter(|path| path.life == life) {
                path.stale = true;
            }
        }
    }

    /// Remembers that a command submitted at `since` was answered on the path.
    pub(super) fn answered(&mut self, path: u32, since: Instant) {
        let at = &mut self.answered[path as usize];
        *at = since.max(*at);
    }

    /// When the latest submitted command was submitted that any path through this controller has answered.
    #[cold]
    pub(super) fn last_answered(&self, ctrl: CtrlId) -> Option<Instant> {
        let mine = self.path_counters.iter().zip(&self.answered).filter(|(path, _)| path.ctrl == ctrl);
        mine.map(|(_, at)| *at).max().filter(|at| *at > Instant::ZERO)
    }

    /// True if another path of the same namespace answered something that was submitted after `since`.
    pub(super) fn others_answer(&self, path: u32, since: Instant) -> bool {
        let own = self.path_counters[path as usize];
        let others = self.path_counters.iter().zip(&self.answered);
        others.filter(|(other, _)| other.head == own.head && other.ctrl != own.ctrl).any(|(_, at)| *at > since)
    }

    /// The slots of namespaces, in the order in which they are reported.
    fn known(&self) -> impl Iterator<Item = usize> {
        self.by_id.iter().map(|(_, slot)| *slot as usize)
    }

    /// The slots of path counters, in the order in which they are reported.
    fn known_paths(&self) -> impl Iterator<Item = usize> {
        self.by_path.values().map(|slot| *slot as usize)
    }

    pub(super) fn head_counters(&self) -> Vec<HeadCounters> {
        let mut all = self.head_counters.clone();
        for (slot, (io, _)) in self.wholes() {
            all[slot].io.add(io);
        }
        self.known().map(|slot| all[slot]).collect()
    }

    pub(super) fn head_counter(&mut self, slot: u32) -> &mut HeadCounters {
        &mut self.head_counters[slot as usize]
    }

    pub(super) fn path_counters(&self) -> Vec<PathCounters> {
        let mut all = self.path_counters.clone();
        for (path, (io, _)) in all.iter_mut().zip(&self.whole) {
            path.io.add(io);
        }
        self.known_paths().map(|slot| all[slot]).collect()
    }

    pub(super) fn path_counter(&mut self, path: u32) -> &mut PathCounters {
        &mut self.path_counters[path as usize]
    }

    pub(super) fn head_latencies(&self) -> Vec<Latencies> {
        let mut all = self.head_latencies.clone();
        for (slot, (_, times)) in self.wholes() {
            all[slot].add(times);
        }
        self.known().map(|slot| core::mem::take(&mut all[slot])).collect()
    }

    pub(super) fn path_latencies(&self) -> Vec<Latencies> {
        let mut all = self.path_latencies.clone();
        for (path, (_, times)) in all.iter_mut().zip(&self.whole) {
            path.add(times);
        }
        self.known_paths().map(|slot| core::mem::take(&mut all[slot])).collect()
    }

    /// What was counted once for a path and its namespace, with the slot of the namespace.
    fn wholes(&self) -> impl Iterator<Item = (usize, &(IoCounters, Latencies))> {
        let paths = self.known_paths().map(|slot| (&self.path_counters[slot], &self.whole[slot]));
        paths.filter_map(|(path, whole)| Some((self.find(path.head)? as usize, whole)))
    }

    /// A command that began at `since`, as its request did, and that ended it was answered well on the path.
    pub(super) fn count_whole(&mut self, path: u32, request: &Request, since: Instant, now: Instant) {
        let (io, times) = &mut self.whole[path as usize];
        let bytes = u64::from(request.data.map_or(0, |span| span.len));
        io.good(times, request.op, bytes, nanos(since, now));
    }

    /// A command that began at `since` was answered well on the path.
    pub(super) fn count_command(&mut self, path: u32, request: &Request, since: Instant, now: Instant) {
        let at = path as usize;
        let bytes = u64::from(request.data.map_or(0, |span| span.len));
        self.path_counters[at].io.good(&mut self.path_latencies[at], request.op, bytes, nanos(since, now));
    }

    /// A request that began at `since` ended well.
    pub(super) fn count_request(&mut self, slot: u32, request: &Request, since: Instant, now: Instant) {
        let at = slot as usize;
        let bytes = u64::from(request.data.map_or(0, |span| span.len));
        self.head_counters[at].io.good(&mut self.head_latencies[at], request.op, bytes, nanos(since, now));
    }

    /// Slots of namespaces and of paths, free ones included.
    #[cfg(test)]
    pub(super) const fn slots(&self) -> (usize, usize) {
        (self.slots.len(), self.path_counters.len())
    }

    pub(super) fn backlog_len(&self) -> usize {
        self.slots.iter().map(|slot| slot.backlog.len()).sum()
    }
}

impl HeadView {
    /// The lane to ask if its path is better than the best of this lane's own.
    #[cold]
    fn elsewhere(&self, best: Option<u8>, closed: &BTreeSet<LifeId>) -> Option<LaneId> {
        let open = self.elsewhere.iter().filter(|path| !closed.contains(&path.life));
        let least = open.min_by_key(|path| path.tier)?;
        best.is_none_or(|best| least.tier < best).then_some(least.to)
    }

    /// True if a path would be usable if no suspect were alone on it.
    #[cold]
    fn is_isolated(&self, lives: &Slab<Life>) -> bool {
        !self.elsewhere.is_empty() || self.paths.iter().any(|path| path.is_way(lives))
    }
}

impl Elsewhere {
    /// The path, if another lane has a queue on it and this one has none.
    fn of(path: &Path, lane: LaneId) -> Option<Self> {
        let to = forward::serving(lane, path.queues).filter(|_| path.ana.is_usable())?;
        Some(Self { life: path.life, to, tier: tier(false, path.slow, path.ana) })
    }
}

/// How good a path is, 0 the best.
const fn tier(disliked: bool, slow: bool, ana: AnaState) -> u8 {
    let worse_ana = !matches!(ana, AnaState::Optimized);
    (disliked as u8) << 2 | (slow as u8) << 1 | worse_ana as u8
}

impl PathView {
    /// True if it is usable, or would be if no suspect were alone on it.
    fn is_way(&self, lives: &Slab<Life>) -> bool {
        let up = |life: &Life| {
            matches!(life.standing, LifeStanding::Active | LifeStanding::Isolated)
                && life.queues.iter().any(|queue| queue.up)
        };
        !self.stale && self.ana.is_usable() && lives.get(self.life).is_some_and(up)
    }

    /// How good the path is, 0 the best, and whether it carries so many bytes; `None` if it is not usable.
    fn tier(&self, lives: &Slab<Life>, bytes: u32, bias: Bias) -> Option<(u8, bool)> {
        let life = lives.get(self.life).filter(|life| life.is_usable())?;
        if self.stale || (!self.ana.is_usable() && conditions::enabled(Guard::UsablePathsOnly)) {
            return None;
        }
        let disliked = match bias {
            Bias::None => false,
            Bias::Prefer(life) => life != self.life,
            Bias::Avoid(life) => life == self.life,
        };
        Some((tier(disliked, self.slow, self.ana), bytes <= life.max_transfer))
    }
}

//! The application: verified load on few blocks, and the two oracles that watch it.

mod abandon;
mod orphans;
mod relay;

use self::abandon::Abandons;
use self::orphans::Orphans;
pub(crate) use self::relay::Letter;
use self::relay::Relay;
use crate::checkers::Seen;
use crate::disks::Disk;
use crate::draw::Plan;
use crate::media::BLOCK;
use crate::mix::Kind;
use crate::net::Owner;
use crate::parts::Division;
use crate::world::{Ev, Phase, World, note};
use interlock_base::{Instant, Rng, Span};
use interlock_check::{
    Content, Life, Load, LoadConfig, Method, Op, OpId, OpKind, Oracle, OracleConfig, Outcome, Overlap, Stamp, Weights,
    WhiteBox,
};
use interlock_host_core as host;
use interlock_target_core as target;
use interlock_wire::nqn::Nqn;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

/// One disk, as the application sees it.
struct Volume {
    disk: Disk,
    load: Load,
    oracle: Oracle,
    head: Option<host::HeadId>,
    /// As which disk the host has had it, by each of its names.
    known_as: BTreeMap<host::HeadId, Disk>,
    /// Block by block, which change was answered last.
    answered: BTreeMap<u64, u64>,
    /// Changes that were answered, all of them.
    done: BTreeSet<u64>,
    /// Of these, what was lost with the cache of a controller, as a flush was told.
    told: BTreeSet<u64>,
    /// Block by block, up to which change of all somebody has dealt with the loss that a flush told.
    accepted: BTreeMap<u64, u64>,
}

impl Volume {
    fn new(plan: &Plan, run: u64, disk: Disk, rng: &mut Rng) -> Self {
        Self {
            disk,
            load: Load::new(LoadConfig {
                run,
                seed: rng.next_u64(),
                first_lba: 0,
                blocks: plan.blocks,
                hot: 8,
                very_hot: 2 + rng.below(2),
                max_blocks: 4,
                weights: Weights { read: 22, write: 60, write_zeroes: 6, discard: 6, flush: 4, compare: 3 },
                overlap: if plan.overlap { Overlap::Allowed } else { Overlap::Disjoint },
                ..LoadConfig::default()
            }),
            oracle: Oracle::new(OracleConfig::new(run)),
            head: None,
            known_as: BTreeMap::new(),
            answered: BTreeMap::new(),
            done: BTreeSet::new(),
            told: BTreeSet::new(),
            accepted: BTreeMap::new(),
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) op: Op,
    /// The lane that it was given to.
    pub(crate) door: usize,
    since: Instant,
    volume: usize,
    buf: Option<interlock_base::BufId>,
    pub(crate) ended: Option<Instant>,
    /// From here on it must not take effect any more.
    over: Option<Instant>,
    /// Not one byte of it was sent, as its caller was told.
    not_sent: bool,
    pub(crate) abandoned: bool,
    /// Its name among the guards, once a lane took it.
    pub(crate) key: Option<host::GuardKey>,
    /// What it was asked of.
    head: Option<host::HeadId>,
    must_succeed: bool,
    /// The number of its change of the media, the last of several.
    change: u64,
    /// Which change is its own is not certain: others asked for the same zeroes.
    vague: bool,
    /// Of a compare: what it was given, block by block.
    expected: Vec<Content>,
    /// Of a flush: what must be safe when it is answered, block by block.
    promised: Vec<(u64, u64)>,
}

pub(crate) struct App {
    volumes: Vec<Volume>,
    /// Which of them each namespace is now.
    mounted: Vec<usize>,
    /// So many in each part of the world.
    namespaces: usize,
    division: Division,
    /// Where each head was found.
    places: BTreeMap<host::HeadId, (Nqn, u32)>,
    /// By number over all volumes.
    pub(crate) asked: BTreeMap<u64, Asked>,
    /// Not ended.
    pub(crate) open: BTreeSet<u64>,
    accepted: Vec<u64>,
    pub(crate) by_key: BTreeMap<host::GuardKey, u64>,
    abandons: Abandons,
    relay: Relay,
    /// What control published last.
    listed: BTreeMap<host::GuardKey, host::HeadId>,
    /// Ended as indeterminate, and still guarded.
    pub(crate) indeterminate: BTreeMap<host::GuardKey, u64>,
    /// Were in doubt: their blocks are rewritten once they are answered.
    doubtful: BTreeSet<u64>,
    /// On which life commands are in doubt.
    in_doubt: BTreeMap<host::GuardKey, host::LifeId>,
    white: WhiteBox,
    /// Lives that the target has forgotten, as the host names them.
    over_there: BTreeSet<host::LifeId>,
    /// What dead processes left.
    orphans: Vec<Orphans>,
    /// The target's lives by subsystem and Controller ID, the newest last.
    lives: BTreeMap<(u16, u16), Vec<Begun>>,
    /// Through which port a Controller ID of a subsystem was given out last.
    created: BTreeMap<(u16, u16), target::PortId>,
    by_id: BTreeMap<target::LifeId, target::Life>,
    /// What the host's lives are at the target.
    named: BTreeMap<host::LifeId, target::Life>,
    rng: Rng,
    issued: u32,
    wanted: u32,
    depth: usize,
    abandon_percent: u64,
    lanes: usize,
}

/// A life as the target began it.
struct Begun {
    life: target::Life,
    /// `None` if nobody said through which port its controller was made.
    port: Option<target::PortId>,
    /// How often the target had been switched off before.
    start: u32,
}

/// What the application knows of one process.
pub(crate) struct Known {
    heads: Vec<Option<host::HeadId>>,
    accepted: Vec<u64>,
    abandons: Abandons,
    relay: Relay,
}

fn global(volume: usize, op: OpId) -> u64 {
    (volume as u64) << 32 | op.0
}

impl App {
    pub(crate) fn new(plan: &Plan, mut rng: Rng) -> Self {
        let own = if plan.division.shares_disks() { 1 } else { plan.division.parts() };
        let disks = (0..own).flat_map(|part| (1..).take(plan.namespaces).map(move |nsid| (part, nsid)));
        let volumes: Vec<Volume> = disks
            .zip(1..)
            .map(|((part, nsid), run)| Volume::new(plan, run, Disk::first(plan.division, part, nsid), &mut rng))
            .collect();
        Self {
            mounted: (0..volumes.len()).cycle().take(plan.namespaces * usize::from(plan.division.parts())).collect(),
            namespaces: plan.namespaces,
            division: plan.division,
            places: BTreeMap::new(),
            volumes,
            asked: BTreeMap::new(),
            open: BTreeSet::new(),
            accepted: vec![0; usize::from(plan.host_lanes)],
            by_key: BTreeMap::new(),
            abandons: Abandons::new(usize::from(plan.host_lanes)),
            relay: Relay::default(),
            listed: BTreeMap::new(),
            indeterminate: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            in_doubt: BTreeMap::new(),
            white: WhiteBox::new(),
            over_there: BTreeSet::new(),
            orphans: Vec::new(),
            lives: BTreeMap::new(),
            created: BTreeMap::new(),
            by_id: BTreeMap::new(),
            named: BTreeMap::new(),
            rng,
            issued: 0,
            wanted: plan.ios,
            depth: plan.depth,
            abandon_percent: plan.abandon_percent,
            lanes: usize::from(plan.host_lanes),
        }
    }

    pub(crate) fn known(&self) -> Known {
        let heads = self.volumes.iter().map(|volume| volume.head).collect();
        Known { heads, accepted: self.accepted.clone(), abandons: self.abandons.clone(), relay: self.relay.clone() }
    }

    /// A process goes on that the application had known before.
    pub(crate) fn knows(&mut self, known: Known) {
        for (volume, head) in self.volumes.iter_mut().zip(known.heads) {
            volume.head = head;
        }
        (self.accepted, self.abandons, self.relay) = (known.accepted, known.abandons, known.relay);
    }

    fn is_known(&self, place: usize) -> bool {
        self.volumes[self.mounted[place]].head.is_some()
    }

    /// The host has a head for every disk that is there: part and NSID.
    pub(crate) fn is_ready(&self, is_there: impl Fn(u16, u32) -> bool) -> bool {
        let place = |place| ((place / self.namespaces) as u16, (place % self.namespaces + 1) as u32);
        let mut places = (0..self.mounted.len()).map(|at| (at, place(at)));
        places.all(|(at, (part, nsid))| !is_there(part, nsid) || self.is_known(at))
    }

    /// The host has a head for every NSID.
    pub(crate) fn is_ready_somewhere(&self) -> bool {
        let parts = |nsid| (nsid..self.mounted.len()).step_by(self.namespaces);
        (0..self.namespaces).all(|nsid| parts(nsid).any(|place| self.is_known(place)))
    }

    /// The heads of the disks that are there, in these parts.
    pub(crate) fn mounted_heads(&self, parts: impl Fn(u16) -> bool) -> impl Iterator<Item = (u16, host::HeadId)> {
        let volumes = self.mounted.iter().map(|volume| &self.volumes[*volume]);
        volumes
            .filter(move |volume| parts(volume.disk.part))
            .filter_map(|volume| Some((volume.disk.part, volume.head?)))
    }

    /// The number of the disk that a namespace is now.
    pub(crate) fn mounted_number(&self, part: u16, nsid: u32) -> usize {
        self.mounted[usize::from(part) * self.namespaces + nsid as usize - 1]
    }

    /// The disk that a namespace is now.
    pub(crate) fn mounted(&self, part: u16, nsid: u32) -> Disk {
        self.volumes[self.mounted_number(part, nsid)].disk
    }

    /// The disk has another name from now on.
    pub(crate) fn rename(&mut self, nsid: u32, times: u8) -> Disk {
        let number = self.mounted_number(0, nsid);
        let disk = &mut self.volumes[number].disk;
        *disk = disk.renamed(times);
        *disk
    }

    /// What control published last: what is protected, and of which head.
    pub(crate) fn protected(&self) -> impl Iterator<Item = (host::GuardKey, host::HeadId)> {
        self.listed.iter().map(|(key, head)| (*key, *head))
    }

    /// Where a head was found.
    pub(crate) fn place_of(&self, head: host::HeadId) -> Option<(Nqn, u32)> {
        self.places.get(&head).cloned()
    }

    pub(crate) fn place(&mut self, head: host::HeadId, subnqn: Nqn, nsid: u32) {
        self.places.insert(head, (subnqn, nsid));
    }

    /// A request of such a disk that has not ended for so long, and since when.
    pub(crate) fn open_since(&self, of: impl Fn(Disk) -> bool, now: Instant, span: Duration) -> Option<(u64, Instant)> {
        let open = self.open.iter().filter_map(|id| Some((*id, self.asked.get(id)?)));
        let mine = open.filter(|(_, asked)| of(self.volumes[asked.volume].disk) && !asked.abandoned);
        mine.map(|(id, asked)| (id, asked.since)).find(|(_, since)| now > *since + span)
    }

    pub(crate) fn disk(&self, volume: usize) -> Option<Disk> {
        self.volumes.get(volume).map(|volume| volume.disk)
    }

    pub(crate) fn volumes_made(&self) -> usize {
        self.volumes.len()
    }

    /// Another disk takes the place of the one that has its NSID.
    pub(crate) fn mount(&mut self, plan: &Plan, disk: Disk) {
        let number = self.volumes.len();
        self.volumes.push(Volume::new(plan, number as u64 + 1, disk, &mut self.rng));
        self.mounted[usize::from(disk.part) * self.namespaces + disk.nsid as usize - 1] = number;
    }

    /// This head is the newest disk of which that is true.
    pub(crate) fn bind(&mut self, head: host::HeadId, is: impl Fn(Disk) -> bool) {
        if let Some(volume) = self.volumes.iter_mut().rev().find(|volume| is(volume.disk)) {
            volume.head = Some(head);
            volume.known_as.insert(head, volume.disk);
        }
    }

    /// As which disk the host has this volume, by this name or by the one that it has now.
    pub(crate) fn known_as(&self, volume: usize, head: Option<host::HeadId>) -> Option<Disk> {
        let volume = self.volumes.get(volume)?;
        volume.known_as.get(&head.or(volume.head)?).copied()
    }

    fn is_mounted(&self, volume: usize) -> bool {
        self.mounted.contains(&volume)
    }

    /// Which operation this change of the media carries out.
    pub(crate) fn executed(
        &self,
        volume: usize,
        range: &Range<u64>,
        kind: OpKind,
        data: &[u8],
        _now: Instant,
    ) -> Option<OpId> {
        if kind == OpKind::Write {
            let Content::Stamp(stamp) = Content::decode(data.get(..BLOCK)?) else { return None };
            return Some(OpId(global(usize::try_from(stamp.run).ok()?.checked_sub(1)?, stamp.op)));
        }
        let here = self.zeroing(range, kind, |of| of == volume);
        // Nobody asked this disk for it: who asked another that had its NSID?
        let nsid = self.disk(volume)?.nsid;
        here.or_else(|| self.zeroing(range, kind, |of| self.disk(of).is_some_and(|disk| disk.nsid == nsid)))
    }

    fn zeroing(&self, range: &Range<u64>, kind: OpKind, of: impl Fn(usize) -> bool) -> Option<OpId> {
        // Zeroes name nobody: of those that asked for just this, the one that was over last or is not over.
        self.asked
            .iter()
            .filter(|(_, asked)| !asked.not_sent && asked.key.is_some())
            .filter(|(_, asked)| of(asked.volume) && asked.op.kind == kind && asked.op.range() == *range)
            .max_by_key(|(_, asked)| asked.over.map_or(u64::MAX, Instant::as_nanos))
            .map(|(id, _)| OpId(*id))
    }

    /// What the host calls the lives of the target.
    pub(crate) fn host_names(&self) -> impl Iterator<Item = (host::LifeId, target::Life)> {
        self.named.iter().map(|(name, life)| (*name, *life))
    }

    /// What the host calls a life of the target.
    pub(crate) fn host_name(&self, life: target::Life) -> Option<host::LifeId> {
        self.named.iter().find(|(_, known)| known.id == life.id).map(|(name, _)| *name)
    }

    /// One of the target's lives, by the target's own name.
    pub(crate) fn life(&self, id: target::LifeId) -> target::Life {
        self.by_id.get(&id).copied().expect("a life is enabled before it executes anything")
    }

    /// Its change took effect, as the one of this number.
    pub(crate) fn applied(&mut self, op: OpId, change: u64, own_caches: bool) {
        let Some(asked) = self.asked.get(&op.0) else { return };
        let (volume, kind, range) = (asked.volume, asked.op.kind, asked.op.range());
        if own_caches && kind != OpKind::Write {
            let mut same: Vec<&mut Asked> = self
                .asked
                .values_mut()
                .filter(|asked| asked.key.is_some() && asked.over.is_none())
                .filter(|asked| asked.volume == volume && asked.op.kind == kind && asked.op.range() == range)
                .collect();
            if same.len() > 1 {
                same.iter_mut().for_each(|asked| asked.vague = true);
            }
        }
        if let Some(asked) = self.asked.get_mut(&op.0).filter(|asked| asked.ended.is_none()) {
            asked.change = change;
        }
    }

    /// Of a flush: what it was asked of, by both names.
    pub(crate) fn flush_of(&self, token: u64) -> Option<(host::HeadId, usize)> {
        let asked = self.asked.get(&token).filter(|asked| asked.op.kind == OpKind::Flush)?;
        Some((asked.head?, asked.volume))
    }

    /// Which volume this head is.
    pub(crate) fn volume_of(&self, head: host::HeadId) -> Option<usize> {
        self.volumes.iter().position(|volume| volume.head == Some(head))
    }

    /// Somebody has dealt with the loss of these changes: nothing promises them any more.
    pub(crate) fn loss_accepted(&mut self, volume: usize, lost: Vec<(u64, u64)>) {
        self.volumes[volume].accepted.extend(lost);
    }

    /// A flush was told that what these lives had in their caches is lost: no later one promises it.
    pub(crate) fn cache_loss_told(
        &mut self,
        head: host::HeadId,
        lives: &[host::LifeId],
        holder: impl Fn(u64) -> Option<target::Life>,
    ) {
        let lost: Vec<target::Life> = lives.iter().filter_map(|life| self.named.get(life).copied()).collect();
        for volume in self.volumes.iter_mut().filter(|volume| volume.head == Some(head)) {
            let with_them = |change: &&u64| holder(**change).is_some_and(|life| lost.contains(&life));
            volume.told.extend(volume.done.iter().filter(with_them));
        }
    }

    /// It must not take effect any more.
    fn over(&mut self, id: u64, now: Instant) {
        if let Some(asked) = self.asked.get_mut(&id) {
            asked.over.get_or_insert(now);
        }
        self.white.answered(OpId(id), now);
    }

    /// It had been given up, and a change that was asked for later is answered.
    fn overtaken(&mut self, id: u64, later: u64, now: Instant) {
        if let Some(asked) = self.asked.get_mut(&id) {
            asked.over.get_or_insert(now);
        }
        self.white.overtaken(OpId(id), OpId(later), now);
    }

    pub(crate) fn white_box_executed(&mut self, op: Option<OpId>, life: target::Life, now: Instant) {
        if let Some(op) = op {
            self.white.executed(op, white(life), now);
        }
    }

    /// The target says that it has forgotten a life; `None`: all, because it was switched off.
    pub(crate) fn over_at_target(&mut self, life: Option<target::Life>) {
        let those = self.named.iter().filter(|(_, known)| life.is_none_or(|life| life == **known));
        self.over_there.extend(those.map(|(name, _)| *name));
    }

    pub(crate) fn is_over_at_target(&self, life: host::LifeId) -> bool {
        self.over_there.contains(&life)
    }

    /// Changes that a caller may give up: on which lane each is.
    pub(crate) fn may_be_given_up(&self) -> Vec<(usize, OpId)> {
        let open = self.open.iter().filter_map(|id| Some((*id, self.asked.get(id)?)));
        let changes = open.filter(|(_, asked)| asked.op.kind.changes_media() && !asked.abandoned);
        changes.filter_map(|(id, asked)| asked.key.map(|_| (asked.door, OpId(id)))).collect()
    }

    /// True if a caller on another lane has given a change up that overlaps this one and may still take effect.
    fn is_given_up_elsewhere(&self, id: u64) -> bool {
        let Some(mine) = self.asked.get(&id).filter(|mine| mine.op.kind.changes_media()) else { return false };
        let (Some(key), range) = (mine.key, mine.op.range()) else { return false };
        self.asked.values().any(|other| {
            let given_up = other.abandoned && other.over.is_none() && other.op.kind.changes_media();
            let elsewhere = other.key.is_some_and(|of| of.lane != key.lane);
            let overlaps = range.start.max(other.op.lba) < range.end.min(other.op.range().end);
            given_up && elsewhere && other.volume == mine.volume && overlaps
        })
    }

    /// True while a change that was sent may still take effect although its path, its caller or its process is gone.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let may_happen =
            |id: &u64| self.asked.get(id).is_some_and(|asked| asked.op.kind.changes_media() && asked.over.is_none());
        self.in_doubt.keys().filter_map(|key| self.by_key.get(key)).any(may_happen)
            || self.indeterminate.values().any(may_happen)
            || self.orphans.iter().any(|orphans| orphans.ops().iter().any(may_happen))
    }

    fn unfinished(&self) -> usize {
        self.open.len()
    }
}

/// True if a write asks to be durable before it is answered.
const fn is_forced(id: u64) -> bool {
    id.is_multiple_of(5)
}

const fn white(life: target::Life) -> Life {
    Life { cntlid: life.cntlid, ciu: life.ciu, cirn: life.cirn }
}

impl World {
    /// The load goes on.
    pub(crate) fn tick(&mut self) {
        if self.phase == Phase::Faults {
            if self.app.unfinished() < self.app.depth && self.app.issued < self.app.wanted {
                let count = 1 + self.app.rng.below(3);
                for _ in 0..count {
                    self.issue();
                }
            }
        } else if self.phase != Phase::Starting {
            return;
        }
        let mean = self.chaos.expected().as_micros() as u64 / u64::from(self.plan.ios.max(1));
        let pause = Duration::from_micros(1 + self.app.rng.below(2 * mean.max(100)));
        self.after(pause, Ev::Tick);
    }

    /// Several requests at once, around the moments at which things go wrong.
    /// Callers give some of their changes up, and write the same blocks again at once.
    pub(crate) fn give_some_up(&mut self, count: u64) {
        for _ in 0..count {
            let may = self.app.may_be_given_up();
            if may.is_empty() {
                return;
            }
            let (lane, op) = may[self.app.rng.below(may.len() as u64) as usize];
            self.give_up(lane, op);
            if let Some(Asked { op, volume, .. }) = self.app.asked.get(&op.0).cloned() {
                self.app.volumes[volume].load.rewrite_of(&op);
            }
            self.burst(2);
        }
    }

    pub(crate) fn burst(&mut self, count: u64) {
        for _ in 0..count {
            if self.app.unfinished() < self.app.depth * 3 && self.app.issued < self.app.wanted * 2 {
                self.issue();
            }
        }
    }

    fn issue(&mut self) {
        let volume = self.app.rng.below(self.app.volumes.len() as u64) as usize;
        if self.process.down || self.app.volumes[volume].head.is_none() || !self.app.volumes[volume].disk.is_loaded() {
            return;
        }
        // Who holds the handle of a disk that is there no more still uses it now and then.
        if !self.app.is_mounted(volume) && !self.app.rng.percent(30) {
            return;
        }
        if let Some(op) = self.app.volumes[volume].load.next_op() {
            self.issue_op(volume, op, false);
        }
    }

    fn issue_op(&mut self, volume: usize, op: Op, must_succeed: bool) {
        self.app.issued += 1;
        let drawn = u64::from(self.app.issued);
        if !must_succeed && self.plan.cut.ops.contains(&drawn) {
            return self.app.volumes[volume].load.finished(op.id);
        }
        if !must_succeed {
            self.submitted.push(drawn);
        }
        let id = global(volume, op.id);
        self.app.volumes[volume].oracle.submitted(op, self.now);
        let asked = Asked {
            op,
            door: 0,
            since: self.now,
            volume,
            buf: None,
            ended: None,
            over: None,
            not_sent: false,
            abandoned: false,
            key: None,
            head: None,
            must_succeed,
            change: 0,
            vague: false,
            expected: Vec::new(),
            promised: Vec::new(),
        };
        self.app.asked.insert(id, asked);
        self.app.open.insert(id);
        let lane = self.app.rng.below(self.app.lanes as u64) as usize;
        let delay = Duration::from_nanos(200 + self.app.rng.below(200_000));
        self.after(delay, Ev::Submit(lane, OpId(id)));
        if !must_succeed && self.app.rng.percent(self.app.abandon_percent) {
            let us = if self.app.rng.percent(50) { 400 } else { 400_000 };
            let later = delay + Duration::from_micros(self.app.rng.below(us));
            self.after(later, Ev::Abandon(lane, OpId(id)));
        }
    }

    pub(crate) fn submit(&mut self, lane: usize, op: OpId) {
        let Some(asked) = self.app.asked.get(&op.0).cloned() else { return };
        if asked.ended.is_some() {
            return;
        }
        let Asked { op: what, volume, .. } = asked;
        let Some(head) = self.app.volumes[volume].head else {
            self.end(op.0, host::Outcome::NotSent(host::Refused::NoSuchNamespace), None);
            return;
        };
        let bytes = what.nlb as usize * BLOCK;
        let mut expected = Vec::new();
        let data = match what.kind {
            OpKind::Read => Some(vec![0xee; bytes]),
            OpKind::Write => {
                let mut data = vec![0; bytes];
                for (block, lba) in data.chunks_mut(BLOCK).zip(what.range()) {
                    Stamp::of(volume as u64 + 1, &what, lba).encode(block);
                }
                Some(data)
            }
            OpKind::Compare => {
                let mut data = vec![0; bytes];
                let oracle = &self.app.volumes[volume].oracle;
                expected = what.range().map(|lba| oracle.believed(lba).unwrap_or(Content::Zero)).collect();
                for (block, content) in data.chunks_mut(BLOCK).zip(&expected) {
                    content.encode(block);
                }
                Some(data)
            }
            OpKind::WriteZeroes | OpKind::Discard | OpKind::Flush => None,
        };
        let buf = data.map(|data| self.lanes[lane].memory.insert(data));
        let request = host::Request {
            head,
            op: match what.kind {
                OpKind::Read => host::Op::Read,
                OpKind::Write => host::Op::Write { fua: is_forced(op.0) },
                OpKind::WriteZeroes => host::Op::WriteZeroes { deallocate: op.0.is_multiple_of(2) },
                OpKind::Discard => host::Op::Discard,
                OpKind::Flush => host::Op::Flush,
                OpKind::Compare => host::Op::Compare,
            },
            slba: what.lba,
            nlb: what.nlb,
            data: buf.map(|buf| Span { buf, offset: 0, len: bytes as u32 }),
        };
        note!(self, "app: #{:x} {} {:?} on lane{lane}", op.0, what.kind.name(), what.range());
        self.read_abandoned(lane);
        match self.lanes[lane].lane.submit(self.now, request, op.0) {
            Ok(()) => {
                self.app.accepted[lane] += 1;
                let key = host::GuardKey { seq: self.app.accepted[lane], lane: lane as u16 };
                self.app.by_key.insert(key, op.0);
                let answered = &self.app.volumes[volume].answered;
                if let Some(asked) = self.app.asked.get_mut(&op.0) {
                    if what.kind == OpKind::Flush {
                        asked.promised = answered.iter().map(|(lba, change)| (*lba, *change)).collect();
                    }
                    asked.key = Some(key);
                    asked.door = lane;
                    asked.head = Some(head);
                    asked.buf = buf;
                    asked.expected = expected;
                }
                self.see(&Seen::Accepted { op, key, nsid: volume as u32 + 1 });
                let met = self.stats.met;
                let news = met.ever.contains(Kind::GivenUp) && !met.in_doubt.contains(Kind::GivenUpOverwritten);
                if news && self.app.is_given_up_elsewhere(op.0) {
                    self.met(Kind::GivenUpOverwritten);
                }
            }
            Err(refused) => {
                if let Some(buf) = buf {
                    self.lanes[lane].memory.remove(buf);
                }
                self.end(op.0, host::Outcome::NotSent(refused), None);
            }
        }
        self.drain_host();
    }

    /// A lane says that a request has ended.
    pub(crate) fn done(&mut self, lane: usize, token: u64, outcome: host::Outcome) {
        if self.guest_done(lane, token, outcome) {
            return;
        }
        if self.process.zombie && self.app.asked.get(&token).is_some_and(|asked| asked.ended.is_some()) {
            if let Some(buf) = self.app.asked.get(&token).and_then(|asked| asked.buf) {
                self.lanes[lane].memory.remove(buf);
            }
            return;
        }
        let Some(asked) = self.app.asked.get(&token) else {
            return self.violate("completes_exactly_once", format!("#{token:x} was never asked for, and ended"));
        };
        if asked.ended.is_some() || asked.key.is_none() || asked.door != lane {
            return self.violate("completes_exactly_once", format!("#{token:x} ended twice"));
        }
        let data = asked.buf.and_then(|buf| self.lanes[lane].memory.remove(buf));
        let outcome = self.flush_ended(token, outcome);
        self.end(token, outcome, data);
    }

    fn end(&mut self, id: u64, outcome: host::Outcome, data: Option<Vec<u8>>) {
        let now = self.now;
        note!(self, "app: #{id:x} ends: {outcome:?}");
        let Some(asked) = self.app.asked.get_mut(&id) else { return };
        asked.ended = Some(now);
        asked.not_sent = matches!(outcome, host::Outcome::NotSent(_));
        let asked = asked.clone();
        let Asked { op, volume, abandoned, key, must_succeed, .. } = asked;
        self.app.open.remove(&id);
        self.stats.ios += 1;
        self.see(&Seen::Done { op: OpId(id), key, outcome });
        if matches!(outcome, host::Outcome::CacheLost { .. }) && !self.plan.own_caches {
            self.violate("flush_covers_answered_writes", format!("#{id:x}: {outcome:?}, of a cache that all share"));
        }
        if matches!(outcome, host::Outcome::Poison { .. }) {
            let nsid = self.app.volumes[volume].disk.nsid;
            if !self.was_deadly(nsid, &op.range()) {
                let text = format!("#{id:x} ({}, {:?}): {outcome:?}", op.kind.name(), op.range());
                self.violate("innocents_never_poisoned", text);
            }
        }
        if must_succeed && outcome != host::Outcome::Ok {
            self.violate("healed_paths_serve", format!("#{id:x}, read after everything was healed: {outcome:?}"));
        }
        let ends = match outcome {
            host::Outcome::Ok => Outcome::Ok,
            host::Outcome::Failed(_) | host::Outcome::CacheLost { .. } => Outcome::Failed,
            host::Outcome::NotSent(_) => Outcome::NotSent,
            host::Outcome::Indeterminate { .. } => Outcome::Indeterminate,
            host::Outcome::OutcomeUnknown | host::Outcome::Poison { .. } => Outcome::UnknownSettled,
        };
        let Volume { oracle, load, .. } = &mut self.app.volumes[volume];
        match (ends, op.kind, data) {
            // It was given up, and a read has no effect.
            _ if abandoned && !op.kind.changes_media() => {}
            (Outcome::Ok, OpKind::Compare, _) => oracle.compared(op.id, &asked.expected, true, now),
            (Outcome::Failed, OpKind::Compare, _) if outcome.is_different() => {
                oracle.compared(op.id, &asked.expected, false, now);
            }
            (Outcome::Ok, OpKind::Read, Some(data)) => {
                let contents: Vec<Content> = data.chunks(BLOCK).map(Content::decode).collect();
                oracle.read_answered(op.id, &contents, now);
            }
            _ => oracle.answered(op.id, ends, now),
        }
        let overtaken =
            if ends == Outcome::Ok && op.kind.changes_media() { oracle.overtaken_by(op.id) } else { BTreeSet::new() };
        if !abandoned {
            load.finished(op.id);
        }
        if ends == Outcome::Indeterminate {
            if let Some(key) = key {
                self.app.indeterminate.insert(key, id);
            }
            self.settle_indeterminate();
        } else {
            self.app.over(id, now);
        }
        for other in overtaken {
            self.app.overtaken(global(volume, other), id, now);
        }
        if ends == Outcome::Ok {
            self.promise(id);
        }
        self.judge_black_box();
        if self.app.doubtful.remove(&id) && self.phase == Phase::Faults {
            // Rewritten at once, so that a ghost of it shows.
            self.app.volumes[volume].load.rewrite_of(&op);
            self.burst(1);
            self.chaos_answered();
        }
    }

    /// A request ended well: what that says about others and about later flushes.
    fn promise(&mut self, id: u64) {
        let Some(asked) = self.app.asked.get(&id) else { return };
        let (volume, op, change, vague) = (asked.volume, asked.op, asked.change, asked.vague);
        let durable = self.media.durable(volume);
        let mut owed = asked.promised.clone();
        if op.kind.changes_media() {
            let Volume { answered, done, .. } = &mut self.app.volumes[volume];
            done.insert(change);
            for lba in op.range() {
                if vague && self.plan.own_caches {
                    // Whatever is safe of this block is so by a change that has no certain name.
                    answered.remove(&lba);
                    continue;
                }
                let last = answered.entry(lba).or_default();
                *last = change.max(*last);
            }
            if op.kind == OpKind::Write && is_forced(id) {
                owed.extend(op.range().map(|lba| (lba, change)));
            }
        }
        let Volume { told, accepted, .. } = &self.app.volumes[volume];
        let lost = owed
            .into_iter()
            .filter(|(lba, change)| accepted.get(lba).is_none_or(|accepted| change > accepted))
            .filter(|(lba, change)| !told.contains(change) && !self.is_forgiven(volume, *lba, *change))
            .find(|(lba, change)| durable.get(*lba as usize).is_none_or(|safe| safe < change));
        if let Some((lba, change)) = lost {
            let text = format!(
                "#{id:x} ({}) was answered, and change {change} of LBA {lba}, answered before, would not survive",
                op.kind.name()
            );
            let is_lost = self.media.is_lost(volume, lba, change);
            self.violate(if is_lost { "failed_flush_latches" } else { "flush_covers_answered_writes" }, text);
        }
        if op.kind.changes_media() {
            self.app.orphans_must_be_over(volume, self.is_moved(), self.now);
        }
    }

    fn judge_black_box(&mut self) {
        let found = self.app.volumes.iter().flat_map(|volume| volume.oracle.violations());
        let found: Vec<_> = found.map(|violation| (violation.invariant(), violation.to_string())).collect();
        for (invariant, text) in found {
            self.violate(invariant, text);
        }
    }

    /// At the end of a run: what the target's own log says.
    pub(crate) fn judge(&mut self) {
        self.judge_black_box();
        let found = self.app.white.violations();
        let found: Vec<_> = found.map(|violation| (violation.invariant(), violation.to_string())).collect();
        for (invariant, text) in found {
            self.violate(invariant, text);
        }
        if let Some(id) = self.app.open.first() {
            self.violate("completes_exactly_once", format!("#{id:x} never ended"));
        }
        let others = self.other.as_ref().map_or(0, |other| other.site.buffers());
        let buffers: usize = self.lanes.iter().map(|lane| lane.memory.len()).sum::<usize>() + others;
        if buffers > 0 {
            self.violate("buffer_outlives_its_last_use", format!("{buffers} buffers were never given back"));
        }
    }

    /// What control tells the world.
    pub(crate) fn host_event(&mut self, event: &host::EventKind) {
        if self.is_others_turn() {
            return self.others_event(event);
        }
        match event {
            host::EventKind::NamespaceAdded { head, nsid, .. } => {
                self.head_added(*head, *nsid);
            }
            host::EventKind::Lost { .. } => self.stats.lost += 1,
            host::EventKind::Condemned { in_doubt, .. } => self.stats.in_doubt += *in_doubt as u64,
            host::EventKind::Fenced(receipt) => self.receipt(receipt),
            host::EventKind::HoldUntil { life, .. } => {
                self.met_clocks();
                if self.plan.extras.brink {
                    self.met(Kind::BoundsTight);
                    if self.plan.extras.timers_late {
                        self.met(Kind::TimersLate);
                    }
                }
                let unsent = self.unsent(*life);
                self.see(&Seen::HoldBegins { life: *life, unsent });
            }
            host::EventKind::Disowned { .. } => self.disowned(),
            host::EventKind::TombstoneEnded { .. } | host::EventKind::NothingInDoubt { .. } => {}
            _ => {}
        }
        self.see(&Seen::Host(event));
        self.parts_heard(event);
        self.chaos_heard(event);
        self.operator_heard(event);
    }

    fn receipt(&mut self, receipt: &host::Receipt) {
        self.app.life_over(receipt.life, self.now);
        let Some(known) = self.app.named.get(&receipt.life).copied() else { return };
        let method = match receipt.method {
            host::Method::Immediate => Method::Immediate,
            host::Method::Log => Method::Log,
            host::Method::DrainedDisable => Method::DrainedDisable,
            // What is assumed is true in these worlds.
            host::Method::Time | host::Method::Assumed => Method::Time,
            host::Method::Legacy => Method::Legacy,
            host::Method::AcceptedRisk => Method::AcceptedRisk,
        };
        self.stats.fences += u64::from(method.is_proof());
        self.stats.by_reset += u64::from(matches!(method, Method::Immediate | Method::Log));
        let open: usize = self
            .target_lanes
            .iter()
            .map(|lane| {
                lane.lane.executable(self.target_now()).filter(|id| self.app.by_id.get(id) == Some(&known)).count()
            })
            .sum();
        let today = self.app.by_id.get(&known.id) == Some(&known);
        let executable = open + if today { self.media.pending(known.id) } else { 0 };
        self.app.white.receipt(white(known), method, executable as u32, self.now);
    }

    /// The target gave out a Controller ID.
    pub(crate) fn controller_created(&mut self, cntlid: u16, port: target::PortId) {
        let subsystem = self.subsystem_of(usize::from(port.0)).0;
        self.whose_controller(subsystem, cntlid);
        self.app.created.insert((subsystem, cntlid), port);
    }

    /// The target began a life.
    pub(crate) fn life_enabled(&mut self, life: target::Life) {
        self.app.by_id.insert(life.id, life);
        self.whose_life(life);
        let port = self.app.created.get(&(life.subsystem.0, life.cntlid)).copied();
        let begun = Begun { life, port, start: self.target_start };
        self.app.lives.entry((life.subsystem.0, life.cntlid)).or_default().push(begun);
    }

    /// The host records a life: from here on it is known which of the target's it is.
    pub(crate) fn life_named(&mut self, record: &host::LifeRecord) {
        let host::Identity { cntlid, cirn, .. } = record.identity;
        // A target without cross-controller reset tells no more than the Controller ID, and one that was switched off since,
        // or another port of it, may have given that out again: the life is one of the port, and of the start of the target,
        // that the admin queue was connected to.
        let admin = self.links.iter().rev().find(|link| {
            let ours = link.process == self.process.number && link.owner == Owner::Control;
            ours && self.control.life_of(link.conn) == Some(record.life)
        });
        let Some(admin) = admin else { return };
        let (port, start) = (target::PortId(admin.port as u16), admin.target_start);
        let mine = |begun: &&Begun| match cirn {
            0 => begun.port == Some(port) && begun.start == start,
            cirn => begun.life.cirn == cirn,
        };
        let subsystem = self.subsystem_of(admin.port).0;
        let lives = self.app.lives.get(&(subsystem, cntlid)).map_or(&[][..], Vec::as_slice);
        let known = lives.iter().rev().filter(mine).map(|begun| begun.life).find(|life| !self.is_others_life(life.id));
        if let Some(known) = known {
            self.app.named.insert(record.life, known);
            self.app.over_there.remove(&record.life);
        }
    }

    /// Lanes reported what is in doubt.
    pub(crate) fn ledger(&mut self, ledger: &[host::LedgerEntry]) {
        for entry in ledger {
            self.app.in_doubt.insert(entry.key, entry.life);
            if let Some(id) = self.app.by_key.get(&entry.key) {
                self.app.doubtful.insert(*id);
            }
        }
        self.met_ways();
        if self.is_poisoned() {
            self.met(Kind::PoisonCommand);
        }
    }

    /// Control releases a life: what was given up before is not sent again.
    pub(crate) fn life_released(&mut self, life: host::LifeId) {
        let of_life = self.app.in_doubt.iter().filter(|(_, of)| **of == life);
        let given_up: Vec<u64> = of_life
            .filter_map(|(key, _)| self.app.by_key.get(key).copied())
            .filter(|id| self.app.asked.get(id).is_some_and(|asked| asked.abandoned && asked.ended.is_none()))
            // Its lane may read the release before it reads that this was given up.
            .filter(|id| !self.app.abandons.is_unread(OpId(*id)) && !self.app.relay.is_unread(OpId(*id)))
            .collect();
        for id in given_up {
            self.app.over(id, self.now);
        }
        self.app.in_doubt.retain(|_, of| *of != life);
    }

    /// Control publishes what nobody may touch: what is not there any more cannot happen any more.
    pub(crate) fn guards_published(&mut self, entries: &[host::GuardEntry]) {
        self.app.listed = entries.iter().map(|entry| (entry.key, entry.head)).collect();
        self.settle_indeterminate();
    }

    fn settle_indeterminate(&mut self) {
        let listed = &self.app.listed;
        let over: Vec<(host::GuardKey, u64)> = self
            .app
            .indeterminate
            .iter()
            .filter(|(key, _)| !listed.contains_key(key))
            .map(|(k, id)| (*k, *id))
            .collect();
        for (key, id) in over {
            self.app.indeterminate.remove(&key);
            let Some(asked) = self.app.asked.get(&id) else { continue };
            let (volume, op) = (asked.volume, asked.op.id);
            self.app.volumes[volume].oracle.life_settled(op, self.now);
            self.app.over(id, self.now);
        }
    }

    /// Reads everything that was ever touched.
    pub(crate) fn read_back(&mut self) {
        for volume in self.app.mounted.clone() {
            if !self.is_lasting(self.app.volumes[volume].disk.part) {
                continue;
            }
            for op in self.app.volumes[volume].load.read_back() {
                self.issue_op(volume, op, true);
            }
        }
    }
}

//! The process of the host dies, and another one takes over; and the target dies, and is switched on again.
//!
//! What a process knows dies with it; what it gave to its kernel does not, at first: sockets are reset when the kernel
//! gets round to it (their owner had asked for a reset instead of an orderly end), and until then everything queued goes
//! on being sent. What it recorded is read by its successor, which takes the lock, waits for the old sockets, and fences
//! the recorded lives before it lets any write go. A record that was not yet answered may or may not be there; when power
//! fails, whatever was not synced is gone, and what was being written is torn and does not count.

use crate::app::Known;
use crate::checkers::Seen;
use crate::mix::Kind;
use crate::mutation::Tampering;
use crate::net::{HostState, Link, Owner, Piece, TargetState, Way};
use crate::world::{Box_, Ev, HostLane, Machine, Mail, World, machines_of_host, machines_of_target, note};
use interlock_base::{Instant, Rng};
use interlock_host_core::{ConnEvent, ConnId, ConnectionEnd, Control, DownReason, Job, JobId, LifeId, LifeRecord};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Between two looks for old sockets: at first, and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What the records of lives look like on their disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    /// With the process that wrote it.
    durable: BTreeMap<LifeId, (u32, LifeRecord)>,
    /// Answered without being synced (tampering).
    unsynced: Vec<(u32, Job)>,
}

impl Store {
    pub(crate) fn carry_out(&mut self, process: u32, job: &Job, synced: bool) {
        if !synced {
            self.unsynced.push((process, job.clone()));
            return;
        }
        match job {
            Job::Resolve { .. } | Job::ConfirmOwner => {}
            Job::RecordLife(record) => {
                self.durable.insert(record.life, (process, (**record).clone()));
            }
            Job::MarkClean(life) | Job::ForgetLife(life) => {
                self.unsynced.retain(|(_, job)| !matches!(job, Job::RecordLife(record) if record.life == *life));
                self.durable.remove(life);
            }
        }
    }
}

/// A process that stands still while another one runs.
struct First {
    number: u32,
    control: Control,
    lanes: Vec<HostLane>,
    by_host: BTreeMap<(Owner, ConnId), usize>,
    mail: Vec<(Box_, VecDeque<Mail>)>,
    known: Known,
}

/// A lane that is about to panic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panic {
    pub(crate) lane: usize,
    pub(crate) again: Duration,
    /// It is being called.
    pub(crate) called: bool,
}

/// One process of the host, as far as it is not its machines.
#[derive(Default)]
pub(crate) struct Process {
    /// Counts them.
    pub(crate) number: u32,
    /// It is dead, and its successor has not begun.
    pub(crate) down: bool,
    pub(crate) store: Store,
    /// Begun and not done, in order: a driver does one after the other.
    jobs: Vec<(JobId, Job)>,
    jobs_until: Instant,
    /// One that was not refused a second process (tampering), and that will go on.
    first: Option<Box<First>>,
    /// It goes on although its requests were given up: nobody hears what it says.
    pub(crate) zombie: bool,
    /// Another one owns the state directory.
    pub(crate) disowned: bool,
    /// Lives of earlier processes whose sockets may still be there.
    watched: Vec<(LifeId, u32, std::net::SocketAddr)>,
}

impl Process {
    /// The first of a host whose processes are counted from this number on.
    pub(crate) fn first(number: u32) -> Self {
        Self { number, ..Self::default() }
    }

    /// What the disk says of lives that are not over.
    pub(crate) fn records(&self) -> Vec<LifeRecord> {
        self.store.durable.values().map(|(_, record)| record.clone()).collect()
    }

    pub(crate) fn begin_job(&mut self, at: Instant, id: JobId, job: Job) -> Instant {
        self.jobs.push((id, job));
        self.jobs_until = self.jobs_until.max(at);
        self.jobs_until
    }

    /// The job that is done now; `None` if it died with its process.
    pub(crate) fn finish_job(&mut self, process: u32, id: JobId) -> Option<Job> {
        if process != self.number {
            return None;
        }
        let at = self.jobs.iter().position(|(job, _)| *job == id)?;
        Some(self.jobs.remove(at).1)
    }

    /// Some of what was being written has reached the disk, in order.
    fn die(&mut self, power: bool, rng: &mut Rng) {
        let jobs = std::mem::take(&mut self.jobs);
        let reached = rng.below(jobs.len() as u64 + 1) as usize;
        for (_, job) in &jobs[..reached] {
            self.store.carry_out(self.number, job, true);
        }
        let unsynced = std::mem::take(&mut self.store.unsynced);
        if !power {
            for (process, job) in unsynced {
                self.store.carry_out(process, &job, true);
            }
        }
        self.watched.clear();
        self.disowned = false;
        self.number += 1;
        self.down = true;
    }
}

impl World {
    /// True if the process that opened this connection is alive.
    pub(crate) fn is_ours(&self, link: usize) -> bool {
        self.links[link].process == self.process.number
    }

    /// The process is killed, or (`power`) its whole machine loses power. Its successor begins after a while.
    pub(crate) fn crash(&mut self, power: bool, again: Duration, linger: Duration) {
        if self.process.down || self.process.first.is_some() {
            return;
        }
        self.panics = None;
        // A process that begins knows nobody by whom to tell two targets of one name apart.
        self.impostor_off();
        self.stats.crashes += 1;
        self.see(&Seen::Crashed);
        let dying: Vec<usize> = (0..self.links.len())
            .filter(|link| self.is_ours(*link) && self.links[*link].host != HostState::Gone)
            .collect();
        self.process.die(power, &mut self.mail_rng);
        for link in dying {
            let entry = &mut self.links[link];
            entry.host_out.clear();
            entry.draining = false;
            entry.closing = false;
            if entry.host == HostState::Opening {
                entry.host = HostState::Gone;
            } else if power {
                self.end_host(link, false);
            } else {
                let most = u64::try_from(linger.as_micros()).unwrap_or(u64::MAX);
                let late = Duration::from_micros(self.mail_rng.below(most + 1));
                self.after(late, Ev::Orphan(link));
            }
        }
        self.forget_process();
        self.after(again, Ev::Restart);
    }

    /// A lane of the process panics when it is called next.
    pub(crate) const fn panic_lane(&mut self, lane: usize, again: Duration) {
        self.panics = Some(Panic { lane, again, called: false });
    }

    /// True if the process has just ended, because the lane that was called panicked: nothing of what it wanted is done.
    pub(crate) fn panics_now(&mut self) -> bool {
        let Some(Panic { again, .. }) = self.panics.filter(|panic| panic.called) else { return false };
        self.panics = None;
        if self.process.down || self.process.first.is_some() {
            return false;
        }
        self.met(Kind::LanePanics);
        note!(self, "host: a lane panics, and the process ends");
        self.crash(false, again, Duration::from_millis(20));
        true
    }

    /// Both ends of a connection are told that it is over.
    pub(crate) fn lose_link(&mut self, link: usize) {
        if self.links[link].target != TargetState::Gone {
            self.give(link, Way::ToTarget, Piece::Rst);
        }
        let Link { owner, conn, host, .. } = self.links[link];
        if host != HostState::Gone {
            self.end_host(link, true);
            if self.is_ours(link) {
                self.tell_conn(owner, conn, ConnEvent::Down(DownReason::Lost(ConnectionEnd::Reset)));
            }
        }
    }

    /// Nothing of the process is left but its sockets and its records.
    fn forget_process(&mut self) {
        self.by_host.clear();
        self.host_flush.clear();
        for opening in &mut self.opening {
            opening.clear();
        }
        self.mail.retain(|which| matches!(which, Box_::ToTargetLane(_) | Box_::FromTargetLane(_)));
        let of_target = |machine: &Machine| matches!(machine, Machine::TargetControl | Machine::TargetLane(_));
        self.resume_those(|machine| !of_target(machine));
        self.armed.retain(of_target);
        (self.control, self.lanes) = machines_of_host(&self.plan, &mut self.mail_rng);
        self.host_mail_us = self.plan.mail_us;
        self.forget_flush_errors();
        let left: Vec<LifeId> = self.process.store.durable.keys().copied().collect();
        self.app_died(left);
    }

    /// A second process is started under the same identity. The lock of the state directory refuses it, whatever the
    /// first one is doing.
    pub(crate) fn second_process(&mut self) {
        if self.process.down || self.process.first.is_some() {
            return;
        }
        if !self.tampers(Tampering::LockMissing) {
            note!(self, "host: a second process is refused: the lock is held");
            return;
        }
        self.stats.mutated = 1;
        self.see(&Seen::Crashed);
        let (control, lanes) = machines_of_host(&self.plan, &mut self.mail_rng);
        let hosts = |which: &Box_| matches!(which, Box_::ToHostLane(_) | Box_::FromHostLane(_) | Box_::HostLanes(..));
        let first = First {
            number: self.process.number,
            control: std::mem::replace(&mut self.control, control),
            lanes: std::mem::replace(&mut self.lanes, lanes),
            by_host: std::mem::take(&mut self.by_host),
            mail: self
                .mail
                .iter()
                .filter(|(which, _)| hosts(which))
                .map(|(which, mail)| (*which, mail.clone()))
                .collect(),
            known: self.app.known(),
        };
        self.process.die(false, &mut self.mail_rng);
        self.forget_process();
        self.process.first = Some(Box::new(first));
        self.restart();
    }

    /// The first process goes on where it stood. What the second did is done; to see what the first does now, it ends.
    pub(crate) fn wake_first(&mut self) {
        let Some(first) = self.process.first.take() else { return };
        let number = self.process.number + 1;
        self.crash(false, Duration::from_secs(3600), Duration::ZERO);
        let First { number: mine, control, lanes, by_host, mail, known } = *first;
        self.process.zombie = true;
        self.process.down = false;
        self.process.number = mine;
        (self.control, self.lanes, self.by_host) = (control, lanes, by_host);
        self.app.knows(known);
        for (which, letters) in mail {
            for letter in letters {
                self.post(which, letter);
            }
        }
        let gone: Vec<_> = self
            .by_host
            .iter()
            .filter(|(_, link)| self.links[**link].host == HostState::Gone)
            .map(|(of, _)| *of)
            .collect();
        for (owner, conn) in gone {
            let lost = DownReason::Lost(ConnectionEnd::Closed);
            self.tell_conn(owner, conn, ConnEvent::Down(lost));
        }
        note!(self, "host: the first process goes on, after {number} others");
        self.drain_host();
    }

    /// The target dies and is switched on again: every life is over, nobody remembers any, and what was done stays done.
    pub(crate) fn crash_target(&mut self, silent: bool) {
        self.see(&Seen::TargetCrashed);
        for link in 0..self.links.len() {
            if self.links[link].target == TargetState::Gone {
                continue;
            }
            self.links[link].to_host.segments.clear();
            self.links[link].to_host.queued = 0;
            self.forget_target(link);
            if self.links[link].host != HostState::Gone && !silent {
                self.give(link, Way::ToHost, Piece::Rst);
            }
        }
        self.by_target.clear();
        self.target_start += 1;
        self.mail.retain(|which| !matches!(which, Box_::ToTargetLane(_) | Box_::FromTargetLane(_)));
        let of_host = |machine: &Machine| matches!(machine, Machine::HostControl | Machine::HostLane(_));
        self.resume_those(|machine| !of_host(machine));
        self.armed.retain(of_host);
        self.media.stop();
        self.app.over_at_target(None);
        self.chaos.fake_next_answer = false;
        self.peer.forget();
        self.forget_logs();
        for path in &mut self.net.paths {
            path.open = false;
            path.muted = false;
        }
        (self.target, self.target_lanes) = machines_of_target(&self.plan, &mut self.mail_rng);
        self.remount();
        self.script_standing();
        self.drain_target();
    }

    /// The kernel takes a socket of a dead process down.
    pub(crate) fn orphan(&mut self, link: usize) {
        if self.tampers(Tampering::OldSocketsOverlooked) && self.links[link].to_target.queued > 0 {
            // As without SO_LINGER: what it has is delivered before the end.
            self.stats.mutated = 1;
            self.links[link].host = HostState::Gone;
            return self.give(link, Way::ToTarget, Piece::Fin);
        }
        self.end_host(link, true);
    }

    /// The next process begins, with what the last one left.
    pub(crate) fn restart(&mut self) {
        if !self.process.down {
            return;
        }
        self.process.down = false;
        self.move_over();
        let mut records: Vec<(u32, LifeRecord)> = self.process.store.durable.values().cloned().collect();
        let number = self.process.number;
        note!(self, "host: process {number} begins, {} lives are recorded", records.len());
        if self.tampers(Tampering::PredecessorForgotten) {
            self.stats.mutated |= u64::from(!records.is_empty());
            records.pop();
        }
        self.stats.predecessors += records.len() as u64;
        let durable = &self.process.store.durable;
        let all: Vec<_> = durable.values().map(|(_, record)| record.clone()).collect();
        self.see(&Seen::Restarted(&all));
        self.process.watched = records.iter().map(|(process, old)| (old.life, *process, old.addr)).collect();
        let records = records.into_iter().map(|(_, record)| record).collect();
        self.control.predecessors(self.now, records);
        for port in 0..self.plan.ports {
            self.connect(port);
        }
        self.drain_host();
        self.tell_disturbed();
        self.look_for_old_sockets(self.process.number, LOOK.0);
    }

    /// Tells control of the lives whose process has no socket left to the port they were on.
    pub(crate) fn look_for_old_sockets(&mut self, process: u32, pause: Duration) {
        if process != self.process.number || self.process.down {
            return;
        }
        let early = self.tampers(Tampering::OldSocketsOverlooked);
        let watched = std::mem::take(&mut self.process.watched);
        let (open, gone): (Vec<_>, Vec<_>) = watched.into_iter().partition(|(_, process, addr)| {
            self.links.iter().any(|link| {
                let there = link.host != HostState::Gone || link.to_target.queued > 0;
                link.process == *process && crate::world::address(link.port) == *addr && there
            })
        });
        self.process.watched = open;
        for (life, ..) in gone {
            self.control.predecessor_gone(self.now, life, self.now);
        }
        if early {
            for (life, ..) in std::mem::take(&mut self.process.watched) {
                self.stats.mutated = 1;
                self.control.predecessor_gone(self.now, life, self.now);
            }
        }
        if !self.process.watched.is_empty() {
            self.after(pause, Ev::Look(process, (pause * 2).min(LOOK.1)));
        }
        self.drain_host();
    }
}

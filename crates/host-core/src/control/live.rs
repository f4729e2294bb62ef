//! What a live controller is asked, and what it says unasked: Keep Alive, asynchronous events, namespaces, ANA.

use super::Control;
use super::admin::{Answer, Purpose, plain, reading};
use super::heads::{self, NotTaken, PathOf, Taken};
use super::life::{Life, Phase, Probing, Task, Todo};
use super::scan::{LIST_PAGE, Scan};
use super::storm::Next;
use super::waits::Why;
use crate::guards::{self as conditions, Guard};
use crate::{AnaState, ConnectFailure, EventKind, FlushScope, HeadId, LifeId, Loss, StateName, Suspicion, Witness};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_fence::{Input, Protection};
use interlock_proto::host::{Pulse, Unread};
use interlock_wire::admin::{self, Abort, AsyncEvent, GetLog, IDENTIFY_LEN, Identify};
use interlock_wire::identify::{IdentifyController, NamespaceIds, parse_list};
use interlock_wire::log::{ChangedNamespaces, LID_CHANGED_NAMESPACES};
use interlock_wire::nqn::Nqn;
use interlock_wire::{ana, ccr};

/// Before what could not be read is read again: twice as long each time, up to the bound. As long as the controller is
/// live it is tried: a namespace that nobody sees is worse than a question every minute.
const REREAD: Duration = Duration::from_secs(1);
const REREAD_MAX: Duration = Duration::from_secs(60);
/// A path that answered with an ANA status although its log says that it is usable is tried again after this.
const PATH_AGAIN: Duration = Duration::from_millis(100);

/// A namespace that was there and could not be told apart since is waited for over so many looks, some minutes: then its
/// I/O fails, as it does when a namespace is gone.
const PATIENCE: u32 = 8;

/// How often a live controller is looked at although it has told of nothing: its list of namespaces and its ANA log, two
/// or three commands. An event may be lost, and a controller may have none.
const LOOK: Duration = Duration::from_secs(60);

/// So many looks follow soon when a namespace that was there is gone, within two minutes: a list that was empty, or short,
/// twice is believed, and may be whole again without an event.
const LOOKS_WHEN_GONE: u32 = 6;

/// When the next such look comes: within a fifth, so that those that came up together do not look together.
pub(super) fn next_look(life: LifeId) -> Duration {
    LOOK + Duration::from_millis(life.0.wrapping_mul(7_919) % 12_000)
}

/// How long to wait before the next look, after so many that failed.
fn again_in(failed: u32) -> Duration {
    REREAD.saturating_mul(1 << failed.min(6)).min(REREAD_MAX)
}

const _: () = assert!(size_of::<IdentifyController>() == IDENTIFY_LEN as usize);

impl Control {
    // --- Keep Alive ---

    pub(super) fn poll_keep_alive(&mut self, now: Instant, life_id: LifeId) {
        loop {
            let Some(life) = self.lives.get_mut(&life_id).filter(|life| life.may_send()) else { return };
            let Some(keep_alive) = &mut life.keep_alive else { return };
            match keep_alive.poll(now) {
                // Its own machine watches for the answer.
                Pulse::Send => {
                    self.ask(now, life_id, Purpose::KeepAlive, plain(admin::keep_alive()), None);
                }
                Pulse::AskTraffic => self.tell_lanes(&crate::ToLane::AskTraffic(life_id)),
                Pulse::Lost { .. } => {
                    if let Some(ctrl) = self.controllers.get_mut(&life.ctrl) {
                        ctrl.counters.keep_alive_timeouts += 1;
                    }
                    self.life_failed(now, life_id, Loss::KeepAlive);
                    return;
                }
                Pulse::Wait(at) => {
                    self.timers.set(Why::KeepAlive(life_id), at);
                    return;
                }
                Pulse::Off => {
                    self.timers.stop(Why::KeepAlive(life_id));
                    return;
                }
            }
        }
    }

    pub(super) fn handle_keep_alive(&mut self, now: Instant, life_id: LifeId) {
        if let Some(keep_alive) = self.lives.get_mut(&life_id).and_then(|life| life.keep_alive.as_mut()) {
            keep_alive.handle_answer();
        }
        self.poll_keep_alive(now, life_id);
    }

    /// I/O that was submitted then has been answered: under traffic based keep alive the controller has heard of this host.
    pub(super) fn handle_traffic(&mut self, now: Instant, life_id: LifeId, submitted: Instant) {
        if let Some(keep_alive) = self.lives.get_mut(&life_id).and_then(|life| life.keep_alive.as_mut()) {
            keep_alive.handle_traffic(submitted);
        }
        self.poll_keep_alive(now, life_id);
    }

    // --- Suspicion ---

    /// I/O of a life had no answer in time. That condemns it only with a second witness.
    pub(super) fn handle_suspicion(&mut self, now: Instant, life_id: LifeId, why: Suspicion) {
        let Suspicion::IoTimeout { since, others_answer, oldest } = why;
        let Some(life) = self.lives.get(&life_id) else { return };
        if !matches!(life.phase, Phase::Live | Phase::Draining { .. }) {
            return;
        }
        let Some(ctrl) = self.controllers.get_mut(&life.ctrl) else { return };
        ctrl.counters.io_timeouts += 1;
        let hard = now - since >= ctrl.spec.timeouts.io_hard;
        let probe = life.facts.as_ref().map_or(ctrl.spec.timeouts.admin, |facts| {
            if facts.kato_in_force().is_zero() { ctrl.spec.timeouts.admin } else { facts.kato_in_force() / 2 }
        });
        let last_path = !self.heads.has_other_path(life_id);
        // An idle sibling is no witness, and what a target has lost must end all the same.
        let in_turn = last_path || (!self.fenced_lately(now, life_id) && conditions::enabled(Guard::HardLimitEnds));
        if !conditions::enabled(Guard::SecondWitness) {
            self.timed_out(now, life_id, Witness::HardLimit);
        } else if others_answer && !self.fenced_lately(now, life_id) {
            self.timed_out(now, life_id, Witness::OtherPathAnswers);
        } else if hard && in_turn {
            self.timed_out(now, life_id, Witness::HardLimit);
        } else if life.probing.is_none() {
            if let Some(life) = self.lives.get_mut(&life_id) {
                life.probing = Some(Probing { since, oldest });
            }
            self.timers.set(Why::Probe(life_id), now + probe);
            self.ask(now, life_id, Purpose::Probe, plain(admin::keep_alive()), None);
        }
    }

    /// True if an I/O timeout ended another life of the subsystem within the longest hold: slow media must not take
    /// one path down after the other.
    fn fenced_lately(&self, now: Instant, life_id: LifeId) -> bool {
        let Some(life) = self.lives.get(&life_id) else { return false };
        let Some(spec) = self.controllers.get(&life.ctrl).map(|ctrl| &ctrl.spec) else { return false };
        let hold = life.facts.as_ref().and_then(|facts| crate::stall::hold_terms(spec, facts).hold());
        // Where no time fences, a lost life is given up after this: until then it may be doubtful.
        let hold = hold.unwrap_or(spec.timeouts.connect_total);
        self.timeout_fences.get(&spec.subnqn).is_some_and(|at| now < *at + hold)
    }

    fn timed_out(&mut self, now: Instant, life_id: LifeId, witness: Witness) {
        if let Some(subnqn) =
            self.lives.get(&life_id).and_then(|l| self.controllers.get(&l.ctrl)).map(|ctrl| ctrl.spec.subnqn.clone())
        {
            self.timeout_fences.insert(subnqn, now);
        }
        self.life_failed(now, life_id, Loss::IoTimeout(witness));
    }

    /// The probe was answered: the controller is there, the path is slow.
    pub(super) fn handle_probe(&mut self, now: Instant, life_id: LifeId) {
        self.timers.stop(Why::Probe(life_id));
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Some(probing) = life.probing.take() else { return };
        let since = probing.since;
        let was = core::mem::replace(&mut life.slow, true);
        let ctrl_id = life.ctrl;
        let Some(ctrl) = self.controllers.get_mut(&ctrl_id) else { return };
        let calm = ctrl.spec.timeouts.io * 2;
        if !was {
            ctrl.counters.slow += 1;
            self.emit(now, EventKind::Slow { ctrl: ctrl_id, life: life_id, since });
            self.publish_paths();
        }
        self.timers.set(Why::Slow(life_id), now + calm);
        self.abort_once(now, life_id, probing);
    }

    /// The controller is there and a command of it is not: it may have lost that one. Asked to abort it, it may answer for
    /// it, which is the only thing that counts: that Abort was answered, or not, proves nothing about the command.
    fn abort_once(&mut self, now: Instant, life_id: LifeId, waits: Probing) {
        let limit = self.admin_limit(life_id);
        let Some(life) = self.lives.get_mut(&life_id).filter(|life| life.aborted != Some(waits)) else { return };
        life.aborted = Some(waits);
        let ctrl = life.ctrl;
        let sqe = Abort { sqid: waits.oldest.qid, cid: waits.oldest.cid }.to_sqe();
        if self.ask(now, life_id, Purpose::Abort, plain(sqe), limit)
            && let Some(ctrl) = self.controllers.get_mut(&ctrl)
        {
            ctrl.counters.aborts += 1;
        }
    }

    pub(super) fn handle_probe_timeout(&mut self, now: Instant, life_id: LifeId) {
        self.timed_out(now, life_id, Witness::AdminSilent);
    }

    pub(super) fn handle_calm(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        if core::mem::replace(&mut life.slow, false) {
            let ctrl = life.ctrl;
            self.emit(now, EventKind::NoLongerSlow { ctrl, life: life_id });
            self.publish_paths();
        }
    }

    // --- Asynchronous events ---

    pub(super) fn ask_async_event(&mut self, now: Instant, life_id: LifeId) {
        self.ask(now, life_id, Purpose::AsyncEvent, plain(admin::async_event_request()), None);
    }

    pub(super) fn handle_async_event(&mut self, now: Instant, life_id: LifeId, answer: &Answer) {
        if !answer.status().is_success() {
            // It may have none, or none at the moment: asked again, less and less often. Meanwhile it is looked at by time.
            let Some(life) = self.lives.get_mut(&life_id) else { return };
            life.again.events = true;
            let delay = again_in(life.eventless);
            life.eventless = life.eventless.saturating_add(1);
            self.timers.set_earliest(Why::Reread(life_id), now + delay);
            return;
        }
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        life.eventless = 0;
        let (ctrl, next) = (life.ctrl, life.events.handle_event(now));
        match next {
            Next::Now => self.ask_async_event(now, life_id),
            Next::At { at, first } => {
                self.timers.set(Why::Event(life_id), at);
                if first {
                    self.emit(now, EventKind::EventStorm { ctrl, life: life_id });
                }
            }
        }
        let event = AsyncEvent::from_dw0(answer.cqe.dw0.get());
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        match event {
            AsyncEvent::NAMESPACE_CHANGED => life.todo.rescan = true,
            AsyncEvent::ANA_CHANGED => life.todo.ana = true,
            AsyncEvent::CCR_COMPLETED => self.fence(now, Input::LogChanged(life_id)),
            AsyncEvent::PERSISTENT_ERROR => {
                self.life_failed(now, life_id, Loss::Protocol("persistent internal error".to_string()));
                return;
            }
            _ => {} // Discovery and the rest are not ours.
        }
        self.do_tasks(now, life_id);
    }

    // --- The CCR log as a source ---

    pub(super) fn handle_ccr_log(&mut self, now: Instant, source: LifeId, removed: bool, answer: &Answer) {
        let read = ccr::parse_log(&answer.data).ok().filter(|_| answer.status().is_success());
        if read.is_none() {
            self.read_again(now, source, Todo { ccr: true, ..Todo::default() });
        }
        self.fence(now, Input::Log { source, removed, entries: read });
    }

    // --- Namespaces and ANA ---

    /// Starts what should be read next, if nothing is being read.
    pub(super) fn do_tasks(&mut self, now: Instant, life_id: LifeId) {
        let limit = self.admin_limit(life_id);
        let Some(life) = self.lives.get_mut(&life_id).filter(|life| life.is_live()) else { return };
        if life.task != Task::Idle {
            return;
        }
        if core::mem::take(&mut life.todo.rescan) {
            // Reading the list re-arms the event; which ones changed does not matter, all are looked at.
            life.task = Task::Changed;
            let get = GetLog::new(LID_CHANGED_NAMESPACES, ChangedNamespaces::LEN);
            self.ask(now, life_id, Purpose::Task, reading(get.to_sqe(), get.len), limit);
        } else if core::mem::take(&mut life.todo.ana) {
            let Some(log) = life.ana_log.clone() else {
                // It reports no ANA, and has answered with an ANA status all the same.
                if core::mem::take(&mut life.todo.tell) {
                    life.again.tell = true;
                    self.timers.set_earliest(Why::Reread(life_id), now + PATH_AGAIN);
                }
                return;
            };
            let get = log.ask();
            life.task = Task::Ana(log);
            self.ask(now, life_id, Purpose::Task, reading(get.to_sqe(), get.len), limit);
        } else if core::mem::take(&mut life.todo.list) {
            life.task = Task::List;
            let list = Identify::ActiveNamespaces { after: 0 };
            self.ask(now, life_id, Purpose::Task, reading(list.to_sqe(), IDENTIFY_LEN), limit);
        }
    }

    /// Asks the next thing of a scan, or goes on after it.
    pub(super) fn go_on_with_task(&mut self, now: Instant, life_id: LifeId) {
        let limit = self.admin_limit(life_id);
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Task::Scan(scan) = &mut life.task else { return };
        if let Some(identify) = scan.ask() {
            self.ask(now, life_id, Purpose::Task, reading(identify.to_sqe(), IDENTIFY_LEN), limit);
            return;
        }
        life.found = core::mem::take(&mut scan.found);
        let seen = core::mem::take(&mut scan.seen);
        life.listed = core::mem::take(&mut scan.listed);
        life.task = Task::Idle;
        life.unread_nsids = seen.iter().filter(|(_, seen)| seen.is_unread()).map(|(nsid, _)| *nsid).collect();
        life.refused.retain(|nsid, _| seen.contains_key(nsid));
        let is_new = matches!(life.phase, Phase::Scanning);
        life.todo.ana |= !is_new;
        for (nsid, seen) in seen {
            self.say_refused(now, life_id, nsid, seen.into_why());
        }
        if is_new {
            self.open_queues(life_id);
        } else {
            if let Some(life) = self.lives.get_mut(&life_id) {
                life.unread = 0;
            }
            self.record_disks(life_id);
            self.take_namespaces(now, life_id);
            self.publish_paths();
            self.do_tasks(now, life_id);
        }
    }

    /// The store has answered for a record with so many disks of a live controller: those may be used.
    pub(super) fn disks_recorded(&mut self, now: Instant, life_id: LifeId, disks: usize) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        life.recorded.stored(disks);
        if life.is_live() {
            self.take_namespaces(now, life_id);
            self.publish_paths();
        }
    }

    /// The store has refused one: those disks are looked at again after a while, and then it is asked again.
    pub(super) fn disks_not_recorded(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        life.recorded.refused();
        self.look_again(now, life_id, true);
    }

    /// The store has refused a record with changed settings: it is given again when its namespaces are looked at next, soon.
    pub(super) fn terms_not_recorded(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        life.recorded.terms_refused();
        if life.is_live() {
            self.look_again(now, life_id, true);
        }
    }

    pub(super) fn handle_task(&mut self, now: Instant, life_id: LifeId, answer: &Answer) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        match &mut life.task {
            Task::Idle => {}
            Task::Changed => {
                let vs = life.facts.as_ref().map_or(0, |facts| facts.vs);
                let expected = self.heads.members_of(life.ctrl, life_id).map(|(nsid, ..)| nsid).collect();
                life.task = Task::Scan(Scan::new(vs, expected));
                self.go_on_with_task(now, life_id);
            }
            Task::Scan(scan) => {
                let (heads, subnqn) = (&self.heads, &life.subnqn);
                let is_known = |nsid, ids: &NamespaceIds| heads.knows(subnqn, nsid, ids);
                let Err(why) = scan.handle_answer(answer.status(), &answer.data, is_known) else {
                    return self.go_on_with_task(now, life_id);
                };
                life.task = Task::Idle;
                if life.is_live() {
                    self.read_again(now, life_id, Todo { rescan: true, ..Todo::default() });
                    self.do_tasks(now, life_id);
                } else {
                    self.attempt_failed(now, life_id, ConnectFailure::Refused, why, false);
                }
            }
            Task::List => {
                life.task = Task::Idle;
                // A look that failed says nothing; the next one may.
                if let (true, Ok(list)) = (answer.status().is_success(), parse_list(&answer.data, 0)) {
                    life.todo.rescan |=
                        !life.listed.starts_with(&list) || (list.len() < LIST_PAGE && list != life.listed);
                }
                self.do_tasks(now, life_id);
            }
            Task::Ana(reading_log) => {
                let status = answer.status();
                let read = if status.is_success() {
                    reading_log.handle_answer(&answer.data).map_err(|error| error.to_string())
                } else if reading_log.handle_error(status) {
                    Ok(None)
                } else {
                    Err(Unread::Status(status).to_string())
                };
                if let Ok(None) = read {
                    let (get, limit) = (reading_log.ask(), self.admin_limit(life_id));
                    self.ask(now, life_id, Purpose::Task, reading(get.to_sqe(), get.len), limit);
                    return;
                }
                life.task = Task::Idle;
                match read {
                    // Of one instance the count only grows: an answer with a smaller one is an old one.
                    Ok(Some(log)) if life.ana.as_ref().is_none_or(|had| log.change_count >= had.change_count) => {
                        self.apply_ana(now, life_id, log);
                    }
                    Ok(_) => self.ana_unread(now, life_id, "its change count went backwards".to_string()),
                    Err(why) => self.ana_unread(now, life_id, why),
                }
                self.do_tasks(now, life_id);
            }
        }
    }

    fn apply_ana(&mut self, now: Instant, life_id: LifeId, log: ana::Log) {
        let changed = self.heads.apply_ana(life_id, &log);
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        life.ana = Some(log);
        life.unread = 0;
        let told = core::mem::take(&mut life.todo.tell);
        if told && changed.is_empty() {
            // It changed and changed back before it was read, or the controller contradicts itself: then not too often.
            life.again.tell = true;
            self.timers.set_earliest(Why::Reread(life_id), now + PATH_AGAIN);
        }
        self.watch_transition(now, life_id);
        if !changed.is_empty() {
            for (head, to) in changed {
                self.emit(now, EventKind::AnaChanged { head, life: life_id, to });
            }
            self.publish_paths();
        }
    }

    /// The ANA log could not be read: told once, and tried again. What the lanes have put aside for it is tried as well,
    /// because its state is not known, and the log may never be.
    fn ana_unread(&mut self, now: Instant, life_id: LifeId, why: String) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let (ctrl, first, tell) = (life.ctrl, life.unread == 0, core::mem::take(&mut life.todo.tell));
        if first {
            self.emit(now, EventKind::AnaUnread { ctrl, life: life_id, why });
        }
        self.read_again(now, life_id, Todo { ana: true, tell, ..Todo::default() });
    }

    /// Something of a live controller could not be read: once more, after a while.
    fn read_again(&mut self, now: Instant, life_id: LifeId, what: Todo) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        life.again = life.again.with(what);
        let delay = again_in(life.unread);
        life.unread = life.unread.saturating_add(1);
        self.timers.set_earliest(Why::Reread(life_id), now + delay);
    }

    /// Time for a look.
    pub(super) fn handle_look(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id).filter(|life| life.is_live()) else { return };
        // The first look reads everything once more: what was misread while it was connected is noticed.
        let whole = !core::mem::replace(&mut life.looked, true);
        life.todo =
            life.todo.with(Todo { rescan: whole, list: !whole, ana: life.ana_log.is_some(), ..Todo::default() });
        let (since, left) = (LOOKS_WHEN_GONE - life.looks.min(LOOKS_WHEN_GONE), life.looks);
        life.looks = left.saturating_sub(1);
        let soon = if life.looks > 0 { again_in(since + 1) } else { next_look(life_id) };
        self.timers.set(Why::Look(life_id), now + soon);
        self.fence(now, Input::Purge { source: life_id, anew: false });
        self.do_tasks(now, life_id);
    }

    pub(super) fn handle_reread(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id).filter(|life| life.may_send()) else { return };
        if !life.is_live() {
            self.timers.set(Why::Reread(life_id), now + REREAD);
            return;
        }
        let again = core::mem::take(&mut life.again);
        life.todo = life.todo.with(Todo { tell: false, ccr: false, events: false, ..again });
        if again.tell {
            self.publish(true);
        }
        if again.events {
            self.ask_async_event(now, life_id);
        }
        if again.ccr {
            self.fence(now, Input::Purge { source: life_id, anew: true });
        }
        self.do_tasks(now, life_id);
    }

    /// A group may stay in the Change state for ANATT; Linux gives it twice that.
    fn watch_transition(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get(&life_id) else { return };
        let changing =
            life.ana.as_ref().is_some_and(|log| log.groups.iter().any(|group| group.state == ana::State::Change));
        let anatt = life.facts.as_ref().map(|facts| facts.anatt).unwrap_or_default();
        if changing && !anatt.is_zero() {
            self.timers.set_earliest(Why::AnaTransition(life_id), now + anatt * 2);
        } else {
            self.timers.stop(Why::AnaTransition(life_id));
        }
    }

    /// Makes what was found on a life its paths, and names what is not taken.
    pub(super) fn take_namespaces(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get(&life_id) else { return };
        let ctrl_id = life.ctrl;
        let (found, not_recorded): (Vec<_>, Vec<_>) =
            life.found.iter().cloned().partition(|ns| life.recorded.knows(&ns.ids));
        let not_recorded: BTreeSet<u32> = not_recorded.iter().map(|ns| ns.nsid).collect();
        let (unread, patient) = (life.unread_nsids.clone(), life.doubts < PATIENCE);
        let Some(spec) = self.controllers.get(&ctrl_id).map(|ctrl| &ctrl.spec) else { return };
        let (subnqn, policy) = (spec.subnqn.clone(), spec.iopolicy);
        let reports_ana = life.facts.as_ref().is_some_and(|facts| facts.ana);
        let log = life.ana.clone();
        let (mut kept, mut waits) = (BTreeSet::new(), BTreeSet::new());
        for (_, head, is_path) in self.heads.members_of(ctrl_id, life_id).filter(|(nsid, ..)| unread.contains(nsid)) {
            // A look that failed removes nothing; and what is to come again is waited for, but not for ever.
            if is_path {
                kept.insert(head);
            } else if patient {
                waits.insert(head);
            }
        }
        let members = self.heads.members_of(ctrl_id, life_id).filter(|(nsid, ..)| not_recorded.contains(nsid));
        waits.extend(members.filter(|_| patient).map(|(_, head, _)| head));
        let listed: BTreeSet<u32> = found.iter().map(|ns| ns.nsid).chain(unread.iter().copied()).collect();
        let members = self.heads.members_of(ctrl_id, life_id).filter(|(nsid, ..)| listed.contains(nsid));
        let mut stays: BTreeMap<HeadId, u32> = members.map(|(nsid, head, _)| (head, nsid)).collect();
        let mut doubtful = !unread.is_empty();
        let mut resized = BTreeSet::new();
        for ns in &found {
            let ana = match (&log, reports_ana) {
                (_, false) => AnaState::Optimized,
                (Some(log), true) => heads::state_in(log, ns.ana_group, ns.nsid),
                (None, true) => AnaState::Inaccessible,
            };
            let fences = &self.fences;
            // One disk has one NSID: what this controller lists under another one has not moved.
            let here = |head| stays.get(&head).is_some_and(|nsid| *nsid != ns.nsid);
            let protection = |head| match fences.protection(&subnqn, head) {
                Protection::None if here(head) => Protection::Left,
                other => other,
            };
            let taken = match self.heads.take((ctrl_id, life_id), &subnqn, policy, ns, ana, protection) {
                Ok(Taken::New(head)) => {
                    self.emit(now, EventKind::NamespaceAdded { head, nsid: ns.nsid, shape: ns.shape });
                    head
                }
                Ok(Taken::Path(head)) => head,
                Ok(Taken::Resized(head, from)) => {
                    self.emit(now, EventKind::NamespaceResized { head, from, to: ns.shape });
                    resized.insert(head);
                    head
                }
                Err(NotTaken { why, keeps, contradicts }) => {
                    doubtful = true;
                    self.read_anew(now, life_id, contradicts.or(keeps));
                    waits.extend(keeps.filter(|_| patient));
                    self.say_refused(now, life_id, ns.nsid, why);
                    continue;
                }
            };
            kept.insert(taken);
            stays.insert(taken, ns.nsid);
            if let Some(life) = self.lives.get_mut(&life_id) {
                life.refused.remove(&ns.nsid);
            }
        }
        let stays = |head: &HeadId| kept.contains(head) || waits.contains(head);
        if self.heads.members_of(ctrl_id, life_id).any(|(_, head, _)| !stays(&head)) {
            self.look_for_what_is_gone(now, life_id);
        }
        self.heads.keep_only(ctrl_id, life_id, &kept, &waits);
        // What is not recorded yet is neither found nor missing: the store will say.
        if doubtful || not_recorded.is_empty() {
            self.look_again(now, life_id, doubtful);
        }
        for head in resized {
            self.ask_others(now, life_id, head);
        }
        self.guard_for_predecessors(now, &subnqn, &kept);
        self.sweep_heads(now);
        self.watch_transition(now, life_id);
    }

    /// A namespace of a life is no path, or not wholly believed: said once, until it is another reason.
    fn say_refused(&mut self, now: Instant, life_id: LifeId, nsid: u32, why: String) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        if life.refused.get(&nsid) != Some(&why) {
            life.refused.insert(nsid, why.clone());
            let ctrl = life.ctrl;
            self.emit(now, EventKind::PathRefused { ctrl, nsid, why });
        }
    }

    /// A controller says of a namespace what others do not say, or less: they are asked again, because it may be they that
    /// were misread.
    fn read_anew(&mut self, now: Instant, life_id: LifeId, doubted: Option<HeadId>) {
        let lives = doubted.map(|head| self.heads.lives_of(head)).unwrap_or_default();
        for other in lives.into_iter().filter(|other| *other != life_id) {
            if let Some(life) = self.lives.get_mut(&other) {
                life.again.rescan = true;
                self.timers.set_earliest(Why::Reread(other), now + REREAD);
            }
        }
    }

    /// A controller states a new size of a namespace: do the others know? One that does not is no path meanwhile.
    fn ask_others(&mut self, now: Instant, life_id: LifeId, head: HeadId) {
        for other in self.heads.lives_of(head).into_iter().filter(|other| *other != life_id) {
            if let Some(life) = self.lives.get_mut(&other) {
                life.todo.rescan = true;
                self.do_tasks(now, other);
            }
        }
    }

    /// A controller says that it has a namespace no more: soon it is asked for its list again, and then less often.
    fn look_for_what_is_gone(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        life.looks = LOOKS_WHEN_GONE;
        self.timers.set_earliest(Why::Look(life_id), now + again_in(0));
    }

    /// Namespaces that could not be read, or were not taken, are looked at again: soon, and then less often.
    fn look_again(&mut self, now: Instant, life_id: LifeId, doubtful: bool) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        if !doubtful {
            life.doubts = 0;
            return;
        }
        let delay = again_in(life.doubts);
        life.doubts = life.doubts.saturating_add(1);
        life.again.rescan = true;
        self.timers.set_earliest(Why::Reread(life_id), now + delay);
    }

    pub(super) fn sweep_heads(&mut self, now: Instant) {
        for head in self.heads.sweep() {
            self.emit(now, EventKind::NamespaceRemoved { head });
        }
    }

    /// Tells every lane the paths as they are now, if they differ from what was told.
    pub(super) fn publish_paths(&mut self) {
        self.publish(false);
    }

    /// The same; `always` also if nothing differs, for lanes that have put a path aside until they hear of it again.
    fn publish(&mut self, always: bool) {
        self.publish_table(always);
        let forgotten = self.heads.take_forgotten();
        if !forgotten.is_empty() {
            self.caches.forget(&forgotten);
            self.tell_lanes(&crate::ToLane::Forget(Arc::new(forgotten)));
        }
    }

    fn publish_table(&mut self, always: bool) {
        let (lives, controllers) = (&self.lives, &self.controllers);
        let mut table = self.heads.table(
            |life| {
                let queues = |life: &Life| u16::try_from(life.queues.len()).unwrap_or(u16::MAX);
                lives.get(&life).map_or_else(PathOf::default, |life| PathOf { slow: life.slow, queues: queues(life) })
            },
            |ctrl| controllers.get(&ctrl).is_some_and(|ctrl| ctrl.state.may_serve() && !ctrl.fast_failed),
        );
        let own: BTreeSet<&Nqn> = controllers
            .values()
            .filter(|ctrl| ctrl.spec.flush_scope == FlushScope::Controller && ctrl.state.name() != StateName::Dead)
            .map(|ctrl| &ctrl.spec.subnqn)
            .collect();
        for (id, twins) in &table.twins {
            twins.iter().for_each(|twin| self.caches.alike(*id, twin.head));
        }
        for (id, head) in &mut table.heads {
            if !self.caches.is_own(*id) && !self.heads.subsystem(*id).is_some_and(|nqn| own.contains(nqn)) {
                continue;
            }
            head.flush = FlushScope::Controller;
            for path in head.paths.iter().filter(|path| path.ana.is_usable()) {
                self.caches.serves(*id, path.life, path.nsid);
            }
        }
        if !always && table.heads == self.paths.heads && table.twins == self.paths.twins && self.paths.epoch > 0 {
            return;
        }
        self.paths = Arc::new(table);
        let message = crate::ToLane::Paths(Arc::clone(&self.paths));
        self.tell_lanes(&message);
    }
}

//! Worlds whose ANA log is longer than one command carries, and changes while it is read.
//!
//! A host reads such a log in pieces, and two of them may be of two moments. What it makes of them must be a log that the
//! target had at one moment: the one whose change count it states (`ana_of_one_moment`). The target knows RGO, ignores it, or
//! refuses it.

use crate::draw::{Plan, pick};
use crate::mix::Kind;
use crate::mutation::Tampering;
use crate::world::{Box_, Mail, World};
use interlock_base::Rng;
use interlock_host_core::LifeId;
use interlock_target_core::{ConnId, PortId, ToControl, ToLane};
use interlock_wire::admin::{Command, GetLog};
use interlock_wire::ana::{self, State};
use interlock_wire::log::LID_ANA;
use interlock_wire::status::Status;
use std::collections::BTreeMap;

/// ANA groups of such a target: their descriptors alone are longer than what a host asks for at once (16 KiB).
pub(crate) const GROUPS: u32 = 540;
/// Bytes of the header of the log, which a host reads again at the end.
const HEADER: u32 = 16;
/// LSP in the tenth dword of Get Log Page.
const LSP: u32 = 0x7F << 8;

/// What a target makes of a host that asks for the groups alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupsOnly {
    Known,
    Ignored,
    Refused,
}

impl GroupsOnly {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        *pick(rng, &[Self::Known, Self::Known, Self::Ignored, Self::Refused])
    }
}

/// The groups that are not optimized.
type States = BTreeMap<u32, State>;

/// What was read of the log, and what it was.
#[derive(Default)]
pub(crate) struct Logs {
    /// By the start of the target, the port and the change count.
    had: BTreeMap<(u32, usize, u64), States>,
    /// Commands that the target has not answered.
    asked: BTreeMap<(usize, ConnId, u16), GetLog>,
    /// The first piece of what is being read on a connection: its change count, and what there was.
    first: BTreeMap<(usize, ConnId), (u64, States)>,
    /// The change count of each life that was judged last.
    judged: BTreeMap<LifeId, u64>,
    /// A page was answered wrongly on purpose: what a host makes of that is its matter.
    bent: bool,
}

impl Plan {
    /// The ANA group of a namespace. In a long log some are in the first piece and others in the last.
    pub(crate) const fn ana_group(&self, nsid: u32) -> u32 {
        if self.ana && self.extras.long_log.is_some() && nsid.is_multiple_of(2) { GROUPS - nsid } else { nsid }
    }

    pub(crate) const fn ana_groups(&self) -> u32 {
        match self.extras.long_log {
            _ if !self.ana => 0,
            Some(_) => GROUPS,
            None => self.namespaces as u32,
        }
    }
}

impl World {
    /// A lane of the target hands a command to its control. False: it was answered instead.
    pub(crate) fn log_is_asked(&mut self, lane: usize, message: &mut ToControl) -> bool {
        let Some(groups_only) = self.plan.extras.long_log else { return true };
        match message {
            ToControl::Admin { conn, slot, sqe, .. } => {
                let Ok(Command::GetLog(get)) = Command::from_sqe(sqe) else { return true };
                if get.lid != LID_ANA {
                    return true;
                }
                if get.lsp & ana::LSP_GROUPS_ONLY != 0 {
                    match groups_only {
                        GroupsOnly::Known => {}
                        GroupsOnly::Ignored => sqe.cdw10.set(sqe.cdw10.get() & !LSP),
                        GroupsOnly::Refused => {
                            let status = Status::INVALID_FIELD.with_dnr();
                            let (conn, slot) = (*conn, *slot);
                            let answer = ToLane::Answer { conn, slot, status, dw0: 0, dw1: 0, data: Vec::new() };
                            self.post(Box_::ToTargetLane(lane), Mail::TargetDown(answer));
                            return false;
                        }
                    }
                }
                self.logs.asked.insert((lane, *conn, *slot), get);
            }
            ToControl::Gone { conn, .. } => {
                self.logs.asked.retain(|(of, asked, _), _| (*of, *asked) != (lane, *conn));
                self.logs.first.remove(&(lane, *conn));
            }
            _ => {}
        }
        true
    }

    /// Its control answers: what there is at this moment is noted.
    pub(crate) fn log_is_answered(&mut self, lane: usize, message: &mut ToLane) {
        let ToLane::Answer { conn, slot, status, data, .. } = message else { return };
        let Some(get) = self.logs.asked.remove(&(lane, *conn, *slot)) else { return };
        let Some(link) = self.by_target.get(&(lane, *conn)) else { return };
        if !status.is_success() {
            return;
        }
        let port = self.links[*link].port;
        let Some(namespaces) = self.target.namespaces(self.subsystem_of(port)) else { return };
        let state = |group| Some((group, namespaces.state(PortId(port as u16), group)));
        let states: States = (1..=GROUPS).filter_map(state).filter(|(_, state)| *state != State::Optimized).collect();
        let read = (lane, *conn);
        if get.offset == 0 && get.len > HEADER {
            let count = count_in(data);
            self.logs.had.insert((self.target_start, port, count), states.clone());
            self.logs.first.insert(read, (count, states));
            return;
        }
        let Some((count, before)) = self.logs.first.get(&read) else { return };
        let (count, changed) = (*count, *before != states);
        if get.offset == 0 && self.tampers(Tampering::AnaCountStands) && count_in(data) != count {
            if data.len() < 8 {
                data.resize(8, 0);
            }
            data[..8].copy_from_slice(&count.to_le_bytes());
            self.stats.mutated += 1;
        }
        if changed {
            self.met(Kind::AnaLogChanges);
        }
    }

    /// An answer with a log is bent on its way.
    pub(crate) const fn log_is_bent(&mut self) {
        self.logs.bent = true;
    }

    /// The target was switched off: nobody answers what was asked before.
    pub(crate) fn forget_logs(&mut self) {
        self.logs.asked.clear();
        self.logs.first.clear();
    }

    /// What the host made of its pieces is what the target had at one moment.
    pub(crate) fn judge_logs(&mut self) {
        if self.plan.extras.long_log.is_none() || self.logs.bent {
            return;
        }
        let judged = &self.logs.judged;
        let fresh: Vec<_> = self
            .control
            .ana_logs()
            .filter(|(_, life, log)| judged.get(life) != Some(&log.change_count))
            .map(|(ctrl, life, log)| (ctrl, life, log.change_count))
            .collect();
        for (ctrl, life, count) in fresh {
            self.logs.judged.insert(life, count);
            let spec = self.control.controllers().find(|info| info.id == ctrl).map(|info| info.spec.traddr.clone());
            let here = |port: &usize| Some(crate::world::address(*port).ip().to_string()) == spec;
            let Some(port) = (0..self.plan.ports).find(here) else { continue };
            let Some((_, _, log)) = self.control.ana_logs().find(|(_, id, _)| *id == life) else { continue };
            let states: States = log
                .groups
                .iter()
                .map(|group| (group.id, group.state))
                .filter(|(_, state)| *state != State::Optimized)
                .collect();
            let groups = log.groups.len();
            // A life may be of an earlier start of the target.
            let had = |start| self.logs.had.get(&(start, port, count));
            let mut had = (0..=self.target_start).filter_map(had).peekable();
            if had.peek().is_some() && (groups != GROUPS as usize || !had.any(|had| *had == states)) {
                let text = format!(
                    "{life}: the ANA log with change count {count} and {groups} groups that the host goes by ({states:?}) is none \
                     that the target ever had on port {port}"
                );
                self.violate("ana_of_one_moment", text);
            }
        }
    }
}

/// The change count of a log that begins so; zeroes at its end may be left out.
fn count_in(data: &[u8]) -> u64 {
    let mut count = [0; 8];
    let len = data.len().min(8);
    count[..len].copy_from_slice(&data[..len]);
    u64::from_le_bytes(count)
}

//! What the network's own log proves.
//!
//! A foreign target keeps no log for us. But a write that was held in the network has one of two ends that the network
//! sees: the target answers it, or the target has ended the connection that it would have come on. And whatever it did
//! behind our back, the blocks show.

use crate::evidence::Record;
use crate::load::Suspect;
use crate::proxy::{ConnId, Extent, HeldWrite, NetEvent, StampedNet};
use interlock_api::Reach;
use interlock_base::Instant;
use interlock_check::{Evidence, Ghosts, Life};
use std::collections::BTreeMap;

/// What became of a held write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waits,
    /// The target answered that it was done.
    Executed(Instant),
    /// The target failed it, or had ended the connection.
    Stopped(Instant),
}

/// Everything that the network said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetLog(Vec<StampedNet>);

impl NetLog {
    /// One event more.
    pub(crate) fn push(&mut self, event: StampedNet) {
        self.0.push(event);
    }

    /// Writes that were held, ever.
    pub(crate) fn held(&self) -> usize {
        self.fates().count()
    }

    /// Held writes without an end.
    pub(crate) fn waiting(&self) -> usize {
        self.fates().filter(|(_, fate)| *fate == Fate::Waits).count()
    }

    fn fates(&self) -> impl Iterator<Item = (HeldWrite, Fate)> {
        let mut fates: BTreeMap<(ConnId, u16), (HeldWrite, Fate)> = BTreeMap::new();
        for StampedNet { at, event } in &self.0 {
            let (conn, write, fate) = match event {
                NetEvent::Held { conn, write } => (conn, write, Fate::Waits),
                NetEvent::Answered { conn, write, ok: true } => (conn, write, Fate::Executed(*at)),
                NetEvent::Answered { conn, write, ok: false } | NetEvent::Refused { conn, write } => {
                    (conn, write, Fate::Stopped(*at))
                }
                _ => continue,
            };
            fates.insert((*conn, write.cid), (*write, fate));
        }
        fates.into_values()
    }

    /// What the verdict rests on.
    pub(crate) fn evidence(&self, record: &Record) -> Evidence {
        let fenced = record.receipts().map(|receipt| receipt.fenced).max();
        let after_fence = |at: Instant| fenced.is_some_and(|fenced| at > fenced);
        let held = self.held() as u64;
        let mut ghosts = Ghosts { armed: held, ..Ghosts::default() };
        for (_, fate) in self.fates() {
            match fate {
                Fate::Executed(at) if after_fence(at) => ghosts.executed += 1,
                Fate::Stopped(at) if after_fence(at) => ghosts.stopped += 1,
                Fate::Executed(_) | Fate::Stopped(_) => ghosts.ended_before_fence += 1,
                Fate::Waits => {}
            }
        }
        Evidence {
            writes_in_doubt: record.condemned().map(|(_, _, in_doubt)| in_doubt as u64).sum(),
            held_at_fence: held,
            ghosts,
            fence: record.fence(),
            violations: record.violations.iter().copied().chain(self.white_box(record)).collect(),
            read_back: record.read_back,
        }
    }

    /// Held writes that the host called settled before it called their life fenced.
    pub(crate) fn answered_too_early(&self, record: &Record) -> Vec<String> {
        let fenced = record.receipts().map(|receipt| receipt.fenced).max();
        let early = self.fates().filter_map(|(write, _)| {
            let suspect = suspect(record, &write)?;
            let (answered, _) = suspect.answered?;
            let name = format!("{} {} was in doubt and was answered", suspect.op.kind.name(), suspect.op.id);
            match fenced {
                Some(fenced) if answered >= fenced => None,
                Some(fenced) => {
                    Some(format!("{name} {:.3} ms before its life was fenced", (fenced - answered).as_secs_f64() * 1e3))
                }
                None => Some(format!("{name} although its life was never fenced")),
            }
        });
        early.collect()
    }

    /// Writes executed after the application had been told that they were over.
    fn white_box(&self, record: &Record) -> Vec<interlock_check::Violation> {
        let mut white = record.white_box_of_suspects();
        let lost = record.condemned().find_map(|(life, ..)| record.identity(life));
        let life = lost.map_or(Life { cntlid: 0, ciu: 0, cirn: 0 }, |identity| Life {
            cntlid: identity.cntlid,
            ciu: identity.ciu,
            cirn: identity.cirn,
        });
        for (write, fate) in self.fates() {
            if let (Fate::Executed(at), Some(suspect)) = (fate, suspect(record, &write)) {
                white.executed(suspect.op.id, life, at);
            }
        }
        white.violations().collect()
    }

    /// How far a verdict reaches.
    pub(crate) fn reach(&self) -> Reach {
        let mut exercised = Vec::new();
        if self.fates().any(|(write, _)| write.extent == Extent::Capsule) {
            exercised.push("writes delayed in the network as a whole".to_owned());
        }
        if self.fates().any(|(write, _)| write.extent == Extent::Data) {
            exercised.push("writes whose command the target knows and whose data is delayed in the network".to_owned());
        }
        let mut not_exercised = vec!["commands delayed inside the target".to_owned()];
        if exercised.is_empty() {
            not_exercised.insert(0, "bytes delayed in the network".to_owned());
        }
        Reach { exercised, not_exercised }
    }

    /// What else there is to know.
    pub(crate) fn notes(&self) -> Vec<String> {
        let half = self.fates().filter(|(write, _)| write.extent == Extent::Data).count();
        let mut notes = vec![format!("the network held {} writes, of {half} only the data", self.held())];
        let closed = self.0.iter().filter(|stamped| matches!(stamped.event, NetEvent::TargetClosed { kept: 1.., .. }));
        if closed.count() > 0 {
            notes.push("the target ended the connection before the held bytes were delivered".into());
        }
        notes
    }
}

/// Operations in flight do not overlap, so blocks and kind name one.
fn suspect(record: &Record, write: &HeldWrite) -> Option<Suspect> {
    let (slba, nlb) = write.blocks?;
    let is_it = |suspect: &&Suspect| suspect.op.kind == write.kind && suspect.op.lba == slba && suspect.op.nlb == nlb;
    record.suspects.iter().filter(is_it).min_by_key(|suspect| suspect.submitted).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_check::OpKind;

    const CONN: ConnId = ConnId(4);

    fn write(cid: u16, extent: Extent) -> HeldWrite {
        HeldWrite { cid, kind: OpKind::Write, blocks: Some((u64::from(cid) * 8, 8)), extent }
    }

    fn log(events: impl IntoIterator<Item = NetEvent>) -> NetLog {
        let mut log = NetLog::default();
        for (at, event) in (1..).zip(events) {
            log.push(StampedNet { at: Instant::from_millis(at), event });
        }
        log
    }

    #[test]
    fn every_held_write_has_one_end_or_waits() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|cid| write(cid, Extent::Capsule));
        let mut events: Vec<NetEvent> = [a, b, c, d].map(|write| NetEvent::Held { conn: CONN, write }).into();
        events.push(NetEvent::Answered { conn: CONN, write: a, ok: true });
        events.push(NetEvent::Answered { conn: CONN, write: b, ok: false });
        events.push(NetEvent::Refused { conn: CONN, write: c });
        let log = log(events);
        assert_eq!((log.held(), log.waiting()), (4, 1));
        let fates: Vec<Fate> = log.fates().map(|(_, fate)| fate).collect();
        let at = Instant::from_millis;
        assert_eq!(fates, [Fate::Executed(at(5)), Fate::Stopped(at(6)), Fate::Stopped(at(7)), Fate::Waits]);
    }

    #[test]
    fn the_reach_names_what_was_exercised_and_never_the_inside_of_the_target() {
        let nothing = log([]).reach();
        assert_eq!(nothing.exercised, Vec::<String>::new());
        assert_eq!(nothing.not_exercised.len(), 2);
        let both = log([Extent::Capsule, Extent::Data]
            .map(|extent| NetEvent::Held { conn: CONN, write: write(extent as u16, extent) }));
        assert_eq!(both.reach().exercised.len(), 2);
        assert_eq!(both.reach().not_exercised, ["commands delayed inside the target"]);
    }
}

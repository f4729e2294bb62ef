//! A reset is asked for exactly the lives that were lost, and a proof names a life that its target has quiesced.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{EventKind, Identity, LifeId, Method};
use interlock_target_core::Event;
use std::collections::{BTreeMap, BTreeSet};

type Name = (u16, u8, u64);

#[derive(Default)]
pub(super) struct Check {
    began: BTreeMap<LifeId, Name>,
    lost: BTreeSet<Name>,
    /// Quiesced, by the target's own word.
    over: BTreeSet<Name>,
}

const fn name(identity: Identity) -> Name {
    (identity.cntlid, identity.ciu, identity.cirn)
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "fence_bound_to_one_life"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Host(EventKind::LifeBegan { life, facts, .. }) => {
                self.began.insert(*life, name(facts.identity));
            }
            Seen::Host(EventKind::Lost { life, .. }) => self.lost.extend(self.began.get(life)),
            // Whatever the dead process had is lost.
            Seen::Crashed => self.lost.extend(std::mem::take(&mut self.began).into_values()),
            Seen::Restarted(lives) => {
                for record in *lives {
                    self.began.insert(record.life, name(record.identity));
                    self.lost.insert(name(record.identity));
                }
            }
            Seen::Target(Event::Fenced { life, .. }) => {
                self.over.insert((life.cntlid, life.ciu, life.cirn));
            }
            Seen::Target(Event::CcrReceived { icid, ciu, cirn, .. }) => {
                let asked = (*icid, *ciu, *cirn);
                // A life that never became usable may be reset as well: it has no name here.
                if self.began.values().any(|began| *began == asked) && !self.lost.contains(&asked) {
                    return Some(format!("a reset of {asked:x?} was asked for, which is not lost"));
                }
            }
            Seen::Host(EventKind::Fenced(receipt)) => {
                let named = name(receipt.identity);
                if self.began.get(&receipt.life).is_some_and(|began| *began != named) {
                    return Some(format!("the receipt of {} names {named:x?}", receipt.life));
                }
                let by_target = matches!(receipt.method, Method::Immediate | Method::Log);
                if by_target && !self.over.contains(&named) {
                    return Some(format!(
                        "the receipt of {} ({}) names {named:x?}, which the target has not quiesced",
                        receipt.life,
                        receipt.method.name()
                    ));
                }
            }
            _ => {}
        }
        None
    }
}

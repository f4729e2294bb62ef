//! What instances were lost with has one name as long as it is asked for, whichever lane carries it out: losses that are counted
//! under two names make no suspect.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_check::OpId;
use interlock_host_core::poison::Report;
use interlock_host_core::{GuardKey, ToControl};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Check {
    /// Every lane that takes a request over has a name for it.
    ops: BTreeMap<GuardKey, OpId>,
    /// Under which name a request was outstanding on a lost instance.
    names: BTreeMap<OpId, GuardKey>,
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "suspects_keep_their_names"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed => *self = Self::default(),
            Seen::Accepted { op, key, .. } => {
                self.ops.insert(*key, *op);
            }
            Seen::Done { op, .. } => {
                self.names.remove(op);
            }
            Seen::LaneSaid(_, ToControl::Poison(Report::Answered(key))) => {
                self.names.retain(|_, name| name != key);
            }
            Seen::LaneSaid(lane, ToControl::Poison(Report::Carried { life, commands })) => {
                for carried in commands {
                    let name = carried.command.key;
                    let Some(op) = self.ops.get(&name).copied() else {
                        return Some(format!("lane{lane} lost {name:?} with {life}, and nobody asked for it"));
                    };
                    let first = *self.names.entry(op).or_insert(name);
                    if first != name {
                        return Some(format!(
                            "lane{lane} lost #{:x} with {life} as {name:?}, and it was lost as {first:?} before",
                            op.0
                        ));
                    }
                }
            }
            _ => {}
        }
        None
    }
}

//! Nothing is sent to a namespace through a path that the lane knows to be unusable: one that is not in its table, or
//! whose ANA state forbids it. What it had put on a queue before it knew may still go.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{LifeId, PathTable, ToLane};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct Known {
    /// Since when a path can be used no more.
    unusable: BTreeMap<(LifeId, u32), Instant>,
    usable: BTreeSet<(LifeId, u32)>,
}

#[derive(Default)]
pub(super) struct Check {
    lanes: BTreeMap<usize, Known>,
}

fn usable(table: &PathTable) -> BTreeSet<(LifeId, u32)> {
    let paths = table.heads.values().flat_map(|head| &head.paths);
    paths.filter(|path| path.ana.is_usable()).map(|path| (path.life, path.nsid)).collect()
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "no_io_on_unusable_path"
    }

    fn see(&mut self, now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed => self.lanes.clear(),
            Seen::LaneTook(lane, ToLane::Paths(table)) => {
                let known = self.lanes.entry(*lane).or_default();
                let usable = usable(table);
                for path in known.usable.difference(&usable) {
                    known.unusable.insert(*path, now);
                }
                for path in &usable {
                    known.unusable.remove(path);
                }
                known.usable = usable;
            }
            Seen::Sent { lane, life, nsid, queued_since } => {
                let since = self.lanes.get(lane)?.unusable.get(&(*life, *nsid))?;
                if queued_since > since {
                    return Some(format!(
                        "lane{lane} sent to namespace {nsid} on {life}, which it knew to be unusable since {since}"
                    ));
                }
            }
            _ => {}
        }
        None
    }
}

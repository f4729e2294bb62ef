//! What the lanes counted, as one.
//!
//! A lane counts in memory that it alone writes. Whoever wants to know asks it by mail and gets a copy, so that counting
//! costs an I/O neither a lock nor a shared cache line, and looking costs a lane one copy for each look.

use interlock_base::Instant;
use interlock_host_core::{CtrlId, HeadCounters, HeadId, Lane, LaneCounters, Latencies, PathCounters};
use std::collections::BTreeMap;

/// Counters of the data path, added up over the lanes. They outlive what they count.
#[derive(Clone, Debug, Default)]
pub struct DataCounters {
    /// When they were taken.
    pub at: Instant,
    /// Of the lanes as a whole.
    pub lanes: LaneCounters,
    /// Of every namespace that was ever seen, with the times of its requests.
    pub heads: BTreeMap<HeadId, (HeadCounters, Latencies)>,
    /// Of every path that was ever seen, with the times of its commands.
    pub paths: BTreeMap<(HeadId, CtrlId), (PathCounters, Latencies)>,
}

impl DataCounters {
    /// A copy of what one lane counted.
    pub(crate) fn of(lane: &Lane, now: Instant) -> Self {
        let present = |io: &mut interlock_host_core::IoCounters| {
            io.busy_nanos = io.busy_nanos_at(now);
            io.busy_since = now;
        };
        let heads = lane.head_counters().into_iter().zip(lane.head_latencies()).map(|(mut head, times)| {
            present(&mut head.io);
            (head.head, (head, times))
        });
        let paths = lane.path_counters().into_iter().zip(lane.path_latencies()).map(|(mut path, times)| {
            present(&mut path.io);
            ((path.head, path.ctrl), (path, times))
        });
        Self { at: now, lanes: *lane.counters(), heads: heads.collect(), paths: paths.collect() }
    }

    /// Adds what another lane counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.at = self.at.max(other.at);
        self.lanes.add(&other.lanes);
        for (id, (head, times)) in other.heads {
            if let Some((mine, all)) = self.heads.get_mut(&id) {
                mine.add(&head);
                all.add(&times);
            } else {
                self.heads.insert(id, (head, times));
            }
        }
        for (id, (path, times)) in other.paths {
            if let Some((mine, all)) = self.paths.get_mut(&id) {
                mine.add(&path);
                all.add(&times);
            } else {
                self.paths.insert(id, (path, times));
            }
        }
    }
}

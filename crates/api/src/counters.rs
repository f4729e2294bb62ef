//! Counters, under the names that Linux 7.2 gave them in `diag/`, and those that only a fencing host has.
//!
//! All are 64 bits wide and count up for as long as the process lives. An operator who sets one - to zero, as a rule -
//! sets a baseline that the daemon keeps: what is shown begins anew at once, and what is scraped goes on
//! ([`Counters`] with `monotonic`).

use crate::basics::Version;
use crate::receipt::Method;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Everything that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Counters {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// When they were taken, on the monotonic clock of the host.
    pub at_us: u64,
    /// When counting began, since 1970.
    pub since_unix_ms: u64,
    /// By controller, `nvme0`.
    pub controllers: BTreeMap<String, ControllerCounters>,
    /// By path, `nvme0c1n1`.
    pub paths: BTreeMap<String, PathCounters>,
    /// By head, `nvme0n1`.
    pub heads: BTreeMap<String, HeadCounters>,
    /// By subsystem, `nvme-subsys0`: with what is gone, and never set back.
    pub subsystems: BTreeMap<String, SubsystemCounters>,
    /// Of the whole host; never set back.
    pub host: HostCounters,
}

/// `nvmeX/diag/`, and what only a fencing host counts of a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ControllerCounters {
    /// Admin commands that ended with an error.
    pub command_error_count: u64,
    /// Transitions into `resetting`.
    pub reset_count: u64,
    /// Attempts to reconnect.
    pub reconnect_count: u64,
    /// State transitions that were asked for and refused.
    pub transitions_refused: u64,
    /// Keep Alives without an answer.
    pub keep_alive_timeouts: u64,
    /// I/O commands without an answer in time.
    pub io_timeouts: u64,
    /// Commands it was asked to abort because they were late.
    pub aborts: u64,
    /// Times it was marked slow.
    pub slow_count: u64,
    /// Cross-Controller Reset commands sent through it.
    pub ccr_sent: u64,
    /// Those it completed, by status in hexadecimal digits (`SCT << 8 | SC`): `0x000` is success.
    pub ccr_by_status: BTreeMap<String, u64>,
    /// What became of its lives.
    pub fences: FenceCounters,
}

/// What became of lives that were condemned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct FenceCounters {
    /// Lives condemned.
    pub attempts: u64,
    /// Of these, those without a command in doubt: no fence was needed.
    pub not_needed: u64,
    /// Ends of lives by method. `assumed`, `legacy` and `accepted-risk` are no proof.
    pub by_method: BTreeMap<Method, u64>,
    /// Commands in doubt.
    pub in_doubt: u64,
    /// Most commands in doubt of one life.
    pub in_doubt_max: u64,
    /// Time for which commands were held, summed over lives.
    pub hold_time_total_ms: u64,
    /// Late answers that came before the fence, and were taken.
    pub late_taken: u64,
    /// Late answers that came after the fence, and were dropped.
    pub late_dropped: u64,
    /// Commands retried without a fence: should stay 0.
    pub unsafe_failovers: u64,
    /// Lives left unfenced, with ranges guarded.
    pub tombstones: u64,
}

/// `nvmeXcYnZ/diag/`, and what went over the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct PathCounters {
    /// The namespace it leads to.
    pub namespace: String,
    /// The controller it leads through.
    pub controller: String,
    /// Its ANA state when the controller last told; `null` if it never did.
    pub ana_state: Option<crate::AnaState>,
    /// Requests sent again on the same path.
    pub command_retries_count: u64,
    /// Requests that ended with an error.
    pub command_error_count: u64,
    /// Requests that left this path for another one.
    pub multipath_failover_count: u64,
    /// Of these, moved while in doubt (policy `legacy`): should stay 0.
    pub unsafe_failovers: u64,
    /// Commands, from queue to answer.
    pub io: IoCounters,
}

/// `nvmeXnY/diag/`, and what went to the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct HeadCounters {
    /// Requests that found no usable path and waited for one.
    pub io_requeue_no_usable_path_count: u64,
    /// Requests that failed because no path was to be expected.
    pub io_fail_no_available_path_count: u64,
    /// Requests, from submission to answer: with every wait and every failover.
    pub io: IoCounters,
}

/// The sums over everything that a subsystem has or had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct SubsystemCounters {
    /// Its NQN.
    pub nqn: String,
    /// Over its controllers.
    pub reset_count: u64,
    /// Over its controllers.
    pub reconnect_count: u64,
    /// Over its paths.
    pub command_retries_count: u64,
    /// Over its paths.
    pub command_error_count: u64,
    /// Over its paths.
    pub multipath_failover_count: u64,
    /// Over its namespaces.
    pub io_requeue_no_usable_path_count: u64,
    /// Over its namespaces.
    pub io_fail_no_available_path_count: u64,
    /// Over its controllers.
    pub fences: FenceCounters,
}

/// What is counted for the host as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct HostCounters {
    /// What became of lives.
    pub fences: FenceCounters,
    /// Transitions into `resetting`.
    pub reset_count: u64,
    /// Attempts to reconnect.
    pub reconnect_count: u64,
    /// Requests that were held because they were in doubt.
    pub held: u64,
    /// Of these, let go after a fence.
    pub released: u64,
    /// Requests that waited because they overlap one in doubt.
    pub failover_delayed: u64,
    /// Answers that came after their life was condemned.
    pub late_completions: u64,
    /// Answers that nobody waited for.
    pub stray_completions: u64,
    /// Requests whose caller gave up.
    pub abandoned: u64,
    /// How long lives took from detection to proof, by method.
    pub fence_durations: BTreeMap<Method, Durations>,
    /// How long the stages of failovers took: `detect` (from when the oldest command in doubt was sent until the loss was
    /// noticed), `fence` (from detection to proof), `release` (from proof until commands went on), `reconnect` (from loss
    /// until the controller was back).
    pub failover_durations: BTreeMap<String, Durations>,
}

/// I/O that was answered well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct IoCounters {
    /// Reads.
    pub reads: u64,
    /// Writes, write zeroes and discards.
    pub writes: u64,
    /// Compares, with equal blocks or with different ones.
    #[serde(default)]
    pub compares: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes of payload written.
    pub written_bytes: u64,
    /// Time of all reads.
    pub read_us: u64,
    /// Time of all writes.
    pub write_us: u64,
    /// Time of all flushes.
    pub flush_us: u64,
    /// Under way.
    pub in_flight: u64,
    /// Time in which at least one was under way.
    pub busy_us: u64,
    /// How long reads took.
    pub read_times: Histogram,
    /// How long writes took.
    pub write_times: Histogram,
    /// How long flushes took.
    pub flush_times: Histogram,
}

/// How long something took, each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Durations {
    /// Altogether.
    pub sum_us: u64,
    /// How they spread.
    pub times: Histogram,
}

/// Times by bucket: pairs of the first microsecond that is too long for a bucket (`null`: none is) and how many fell into
/// it, shortest first. Empty buckets are left out. Four buckets make an octave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[schema(value_type = Vec<Vec<Option<u64>>>)]
pub struct Histogram(pub Vec<(Option<u64>, u64)>);

impl Histogram {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// How many took less than so many microseconds, of those whose bucket ends there or before.
    #[must_use]
    pub fn below(&self, us: u64) -> u64 {
        self.0.iter().filter(|(below, _)| below.is_some_and(|below| below <= us)).map(|(_, count)| count).sum()
    }

    /// The time in microseconds that the share `part` (0 to 1) of all did not exceed, at most a quarter too high; `None`
    /// if nothing was counted. What is longer than every bound is given as the last of them.
    #[must_use]
    pub fn percentile(&self, part: f64) -> Option<u64> {
        let rank = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let mut last = 0;
        for (below, count) in &self.0 {
            last = below.unwrap_or(last);
            seen += count;
            if seen >= rank {
                return Some(last);
            }
        }
        None
    }

    /// What was counted since `before`. A bucket that went backwards counts as nothing.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        // Both are in order: one walk.
        let mut earlier = before.0.iter().peekable();
        let mut left = Vec::with_capacity(self.0.len());
        for &(below, count) in &self.0 {
            while earlier.next_if(|(other, _)| rank(*other) < rank(below)).is_some() {}
            let already = earlier.next_if(|(other, _)| *other == below).map_or(0, |(_, count)| *count);
            if count > already {
                left.push((below, count - already));
            }
        }
        Self(left)
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        // Both are in order: one walk.
        let mut at = 0;
        for &(below, count) in &other.0 {
            while self.0.get(at).is_some_and(|(mine, _)| rank(*mine) < rank(below)) {
                at += 1;
            }
            match self.0.get_mut(at) {
                Some((mine, sum)) if *mine == below => *sum += count,
                _ => self.0.insert(at, (below, count)),
            }
        }
    }
}

/// Where a bucket stands: an open end comes last.
fn rank(below: Option<u64>) -> u64 {
    below.unwrap_or(u64::MAX)
}

impl FenceCounters {
    /// Lives whose end was proven.
    #[must_use]
    pub fn proven(&self) -> u64 {
        self.by_method.iter().filter(|(method, _)| method.is_proof()).map(|(_, count)| count).sum()
    }

    /// Lives whose end was assumed, or not waited for.
    #[must_use]
    pub fn unproven(&self) -> u64 {
        self.by_method.iter().filter(|(method, _)| !method.is_proof()).map(|(_, count)| count).sum()
    }
}

/// What an operator asks for when a counter shall begin anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCounter {
    /// Controller, path or head: `nvme0`, `nvme0c1n1`, `nvme0n1`.
    pub device: String,
    /// Its counter, as `diag/` names it; `null`: all of the device.
    #[serde(default)]
    pub counter: Option<String>,
    /// What it shows from now on.
    #[serde(default)]
    pub value: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_add_subtract_and_rank() {
        let mut all = Histogram(vec![(Some(2), 1), (Some(8), 2)]);
        let before = all.clone();
        all.add(&Histogram(vec![(Some(4), 1), (Some(8), 1), (None, 1)]));
        assert_eq!(all, Histogram(vec![(Some(2), 1), (Some(4), 1), (Some(8), 3), (None, 1)]));
        assert_eq!(all.since(&before), Histogram(vec![(Some(4), 1), (Some(8), 1), (None, 1)]));
        assert_eq!(before.since(&all), Histogram::default());
        assert_eq!(all.since(&Histogram(vec![(Some(1), 1), (Some(5), 1), (None, 1)])), Histogram(all.0[..3].to_vec()));
        let mut none = Histogram::default();
        none.add(&all);
        assert_eq!(none, all);
        assert_eq!((all.count(), all.below(4), all.below(7)), (6, 2, 2));
        assert_eq!([0.0, 0.3, 0.5, 0.99].map(|part| all.percentile(part)), [Some(2), Some(4), Some(8), Some(8)]);
        assert_eq!(Histogram::default().percentile(0.5), None);
    }
}

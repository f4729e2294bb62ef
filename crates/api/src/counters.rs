//! Counters, under the names that Linux 7.2 gave them in `diag/`, and those that only a fencing host has.
//!
//! All count up for as long as the process lives; a reset by an operator is a baseline kept by the reader.

use crate::basics::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Everything that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Counters {
    /// 1.
    pub format_version: Version<1>,
    /// By controller, `nvme0`.
    pub controllers: BTreeMap<String, ControllerCounters>,
    /// By path, `nvme0c1n1`.
    pub paths: BTreeMap<String, PathCounters>,
    /// By head, `nvme0n1`.
    pub heads: BTreeMap<String, HeadCounters>,
    /// Of the whole host.
    pub fences: FenceCounters,
}

/// `nvmeX/diag/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ControllerCounters {
    /// Admin commands that ended with an error.
    pub command_error_count: u64,
    /// Transitions into `resetting`.
    pub reset_count: u64,
    /// Attempts to reconnect.
    pub reconnect_count: u64,
}

/// `nvmeXcYnZ/diag/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathCounters {
    /// Requests sent again on the same path.
    pub command_retries_count: u64,
    /// Requests that ended with an error.
    pub command_error_count: u64,
    /// Requests that left this path for another one.
    pub multipath_failover_count: u64,
}

/// `nvmeXnY/diag/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeadCounters {
    /// Requests that found no usable path and waited for one.
    pub io_requeue_no_usable_path_count: u64,
    /// Requests that failed because no path was to be expected.
    pub io_fail_no_available_path_count: u64,
}

/// What only a fencing host counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FenceCounters {
    /// Lives that had to be fenced.
    pub fence_attempts: u64,
    /// Cross-Controller Reset commands sent.
    pub ccr_sent: u64,
    /// Of these, those that fenced a life.
    pub ccr_succeeded: u64,
    /// Of these, those refused or lost, by status in words.
    pub ccr_failed: BTreeMap<String, u64>,
    /// Fences by method `immediate`.
    pub fences_immediate: u64,
    /// Fences by method `log`.
    pub fences_log: u64,
    /// Fences by method `drained-disable`.
    pub fences_drained_disable: u64,
    /// Fences by method `time`.
    pub fences_time: u64,
    /// Ends of a hold by assumption: no proof.
    pub fences_assumed: u64,
    /// Failovers without any fence (policy `legacy`): should stay 0.
    pub unsafe_failovers: u64,
    /// Time for which commands were held, summed over fences.
    pub hold_time_total_ms: u64,
    /// The most requests held at once.
    pub held_requests_max: u64,
    /// Requests that waited because they overlap one in doubt.
    pub failover_delayed: u64,
    /// Answers that came after their life was condemned.
    pub late_completions: u64,
    /// State transitions that were asked for and refused.
    pub transitions_refused: u64,
}

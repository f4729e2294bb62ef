//! What is counted. 64 bits, never decreasing (`counters_never_decrease`); a reset is the reader's baseline.

use crate::Method;
use alloc::collections::BTreeMap;

/// Counters of one controller. Those that Linux has bear its `diag/` names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ControllerCounters {
    /// Admin commands that ended with an error (`diag/command_error_count`).
    pub command_error_count: u64,
    /// Lives that were ended, by loss or on request (`diag/reset_count`).
    pub reset_count: u64,
    /// Attempts to connect after the first loss (`diag/reconnect_count`).
    pub reconnect_count: u64,
    /// Transitions that the table refused.
    pub transitions_refused: u64,
    /// Keep Alives without an answer.
    pub keep_alive_timeouts: u64,
    /// I/O timeouts reported by lanes.
    pub io_timeouts: u64,
    /// Commands it was asked to abort because they were late.
    pub aborts: u64,
    /// Times it was marked slow.
    pub slow: u64,
    /// CCR commands sent through it.
    pub ccr_sent: u64,
    /// CCR commands it completed, by status code (SCT << 8 | SC).
    pub ccr_by_status: BTreeMap<u16, u64>,
    /// Fences and other ends of its lives.
    pub fences: FenceCounters,
}

/// Counters of the host: the sum over all controllers, also those that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostCounters {
    /// Fences and other ends of lives.
    pub fences: FenceCounters,
    /// Attempts to connect after a first loss.
    pub reconnect_count: u64,
    /// Lives that were ended.
    pub reset_count: u64,
}

/// What became of lives that were condemned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FenceCounters {
    /// Lives condemned.
    pub attempts: u64,
    /// By method.
    pub by_method: BTreeMap<Method, u64>,
    /// Lives without a command in doubt.
    pub not_needed: u64,
    /// Commands in doubt, over all lives.
    pub in_doubt: u64,
    /// Most commands in doubt of one life.
    pub in_doubt_max: u64,
    /// Time that commands were held, in milliseconds.
    pub held_ms: u64,
    /// Late answers that came before the fence.
    pub late_taken: u64,
    /// Late answers that came after the fence, and were dropped.
    pub late_dropped: u64,
    /// Commands retried unfenced, by legacy policy or because somebody accepted the risk.
    pub unsafe_failovers: u64,
    /// Lives left unfenced with guards.
    pub tombstones: u64,
}

impl FenceCounters {
    /// Lives that ended by this method.
    #[must_use]
    pub fn by(&self, method: Method) -> u64 {
        self.by_method.get(&method).copied().unwrap_or(0)
    }
}

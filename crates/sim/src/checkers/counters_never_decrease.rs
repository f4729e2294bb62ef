//! Counters only grow.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::HostCounters;

#[derive(Default)]
pub(super) struct Check {
    last: HostCounters,
}

fn numbers(counters: &HostCounters) -> Vec<u64> {
    let fences = &counters.fences;
    vec![
        fences.attempts,
        fences.by_method.values().sum(),
        fences.not_needed,
        fences.in_doubt,
        fences.in_doubt_max,
        fences.held_ms,
        fences.late_taken,
        fences.late_dropped,
        fences.unsafe_failovers,
        fences.tombstones,
        counters.reconnect_count,
        counters.reset_count,
    ]
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "counters_never_decrease"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        let counters = match seen {
            Seen::Counters(counters) => counters,
            Seen::Crashed => {
                self.last = HostCounters::default();
                return None;
            }
            _ => return None,
        };
        let fell = numbers(&self.last).into_iter().zip(numbers(counters)).any(|(last, now)| now < last);
        let before = std::mem::replace(&mut self.last, (*counters).clone());
        fell.then(|| format!("{before:?} became {counters:?}"))
    }
}

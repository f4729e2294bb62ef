//! Lanes that share I/O queues.
//!
//! A controller may grant fewer I/O queues than the host has lanes, each path its own number, and another one after every
//! reconnect. Queues go to lanes in turn, so with `n` queues the lanes 0 to `n` - 1 have one on that path, and the others
//! none. A lane that can reach a namespace only, or better, through a path on which it has no queue *forwards* the request to
//! a lane that has one ([`serving`]):
//!
//! ```text
//! origin   Lane::attempt: no path of its own, and another lane has one
//!          LaneOutput::Forward   nothing of it is on a queue here, and nothing is guarded for it here from now on
//! serving  Lane::serve           a request like any other: its barrier, its guards, its ledger, its choke point
//!          LaneOutput::Done      its driver carries the end, and the buffer, back
//! origin   Lane::handle_served   LaneOutput::Done for the caller
//! ```
//!
//! So a command belongs to the lane on whose queue it is, from before it is sent until it has ended, and every rule of safety
//! is kept where the queue is. What an earlier command of the request may have done goes with it ([`Past`]), and so does what is
//! known of a command that instances were lost with ([`poison`](crate::poison)): its name, by which control counts, and how often
//! it was lost. Its lane keeps it back, or the one that it is forwarded to; and nothing is forwarded to an instance that is
//! isolated for a suspect.
//!
//! **No circles.** The serving lane always has a lower number than the origin, because its number is smaller than the number of
//! queues, and the origin's is not. For the same reason it has a queue on every path on which the origin has one: a request never has
//! to come back. Lane 0 serves everything.
//!
//! **No older table.** The serving lane may hear of a path later than the origin. It decides nothing about the request before it
//! has the table by which the origin decided.
//!
//! **Giving up.** Its caller's lane is the origin. What is given up there is given up again at the serving lane
//! ([`LaneOutput::GiveUp`](crate::LaneOutput::GiveUp)): in the log that all lanes read ([`barrier`](crate::barrier)), under a
//! number of the serving lane, *before* the origin says that it has handed its own number over. So at every moment one of the two numbers
//! stands in the way of a later change of the blocks, or the guard does.

use crate::poison::Carriers;
use crate::{LaneId, Outcome, Refused};
use interlock_base::Instant;
use interlock_wire::status::Status;

/// The lane that serves `lane` on a path with this number of I/O queues; `None`: it has a queue of its own there.
#[must_use]
pub const fn serving(lane: LaneId, queues: u16) -> Option<LaneId> {
    if lane.0 < queues {
        return None;
    }
    match lane.0.checked_rem(queues) {
        Some(to) => Some(LaneId(to)),
        // No queue at all: nobody serves it.
        None => None,
    }
}

/// What earlier commands of a request may have done, for the case that no later one is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Doubt {
    /// Nothing.
    None,
    /// The last of them was answered with this error: what it did before it failed its controller alone knows.
    Answered(Status),
    /// They may have taken effect and cannot any more.
    Fenced,
    /// They may have taken effect and may still do so (legacy).
    Unfenced,
}

impl Doubt {
    /// How a request ends of which nothing is on any queue.
    pub(crate) const fn unsent(self, why: Refused) -> Outcome {
        match self {
            Self::None => Outcome::NotSent(why),
            Self::Answered(status) => Outcome::Failed(status),
            Self::Fenced => Outcome::OutcomeUnknown,
            Self::Unfenced => Outcome::Indeterminate { until: None },
        }
    }
}

/// What a forwarded request has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Past {
    /// When its first lane accepted it.
    pub(crate) since: Instant,
    /// The table of paths by which it was forwarded.
    pub(crate) table: u64,
    pub(crate) doubt: Doubt,
    pub(crate) retries: u8,
    /// Instances that were lost with it.
    pub(crate) carriers: Option<Carriers>,
}

impl Past {
    /// How it ends if no lane takes it.
    #[must_use]
    pub const fn refused(&self, why: Refused) -> Outcome {
        self.doubt.unsent(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_serves_has_a_queue_and_a_lower_number() {
        for queues in 0..20 {
            for lane in 0..20 {
                let to = serving(LaneId(lane), queues);
                assert_eq!(to.is_none(), lane < queues || queues == 0, "lane{lane}, {queues} queues");
                assert!(to.is_none_or(|to| to.0 < queues && to.0 < lane), "lane{lane}, {queues} queues: {to:?}");
            }
        }
        assert_eq!(serving(LaneId(3), 2), Some(LaneId(1)), "spread over those that serve");
    }
}

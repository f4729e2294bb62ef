//! Checkers: one property each, under the name it has in the design. They see what machines say, never what they think.

mod counters_never_decrease;
mod fence_bound_to_one_life;
mod guard_before_giving_up;
mod healthy_paths_undisturbed;
mod hold_ends_by_deadline;
mod late_completion_decided_once;
mod life_recorded_before_first_write;
mod no_io_on_unusable_path;
mod no_send_after_condemned;
mod only_the_owner_releases;
mod overlaps_wait;
mod predecessors_first;
mod stall_within_budget;
mod suspects_keep_their_names;

use crate::draw::Plan;
use crate::world::Violation;
use interlock_base::Instant;
use interlock_check::OpId;
use interlock_host_core as host;
use interlock_target_core as target;
use std::ops::Range;

/// Something that happened where it can be seen.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// A lane took a request over.
    Accepted {
        op: OpId,
        key: host::GuardKey,
        nsid: u32,
    },
    /// The application gave a request up that has not ended.
    Abandoned {
        op: OpId,
        key: host::GuardKey,
        nsid: u32,
        range: Range<u64>,
    },
    /// The lane that carried a request out for another one has ended it; the application does not know yet.
    GuestDone {
        op: OpId,
    },
    /// A request ended.
    Done {
        op: OpId,
        key: Option<host::GuardKey>,
        outcome: host::Outcome,
    },
    /// Bytes of an I/O queue of this life were given to a kernel.
    Given {
        lane: usize,
        life: host::LifeId,
    },
    /// Bytes of the admin queue of this life were given to a kernel.
    GivenOnAdmin {
        life: host::LifeId,
    },
    /// The hold of this life begins, and so many bytes lie in the send queues of its sockets.
    HoldBegins {
        life: host::LifeId,
        unsent: usize,
    },
    /// The process of the host is the host no more, and does not know.
    Disowned,
    /// A command for this namespace is polled from a lane; it was put on its queue after the moment named.
    Sent {
        lane: usize,
        life: host::LifeId,
        nsid: u32,
        queued_since: Instant,
    },
    /// Nothing comes through to the host's end of this controller, or from it, any more; or does again.
    Silent {
        ctrl: host::CtrlId,
        silent: bool,
    },
    /// Time passes.
    Tick,
    ControlSaid(usize, &'a host::ToLane),
    LaneTook(usize, &'a host::ToLane),
    LaneSaid(usize, &'a host::ToControl),
    ControlTook(usize, &'a host::ToControl),
    JobDone(&'a host::Job),
    Host(&'a host::EventKind),
    Target(&'a target::Event),
    /// A change takes effect on the media.
    Executed {
        op: Option<OpId>,
        nsid: u32,
        range: Range<u64>,
        life: target::Life,
    },
    /// The target was switched off and on.
    TargetCrashed,
    /// The process of the host is dead.
    Crashed,
    /// A process begins that knows these lives of earlier ones. It numbers its own from there on: what an earlier one
    /// never recorded has its number again.
    Restarted(&'a [host::LifeRecord]),
    /// Something was done to the path of this controller, or (`None`) to everything.
    Disturbed(Option<host::CtrlId>),
    /// The counters, now and then.
    Counters(&'a host::HostCounters),
    /// Nothing is held up on purpose any more, or so long at most.
    Delays(std::time::Duration),
}

trait Checker {
    /// The name of the invariant.
    fn name(&self) -> &'static str;
    /// Says what is wrong with what was just seen.
    fn see(&mut self, now: Instant, seen: &Seen<'_>) -> Option<String>;
}

/// All of them.
pub(crate) struct Checkers(Vec<Box<dyn Checker>>);

impl Checkers {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self(vec![
            Box::new(no_send_after_condemned::Check::new(plan.spec(0).disable_is_fence)),
            Box::<only_the_owner_releases::Check>::default(),
            Box::<fence_bound_to_one_life::Check>::default(),
            Box::new(hold_ends_by_deadline::Check::new(plan)),
            Box::<overlaps_wait::Check>::default(),
            Box::new(predecessors_first::Check::new(plan)),
            Box::<no_io_on_unusable_path::Check>::default(),
            Box::new(stall_within_budget::Check::new(plan)),
            Box::<guard_before_giving_up::Check>::default(),
            Box::<late_completion_decided_once::Check>::default(),
            Box::new(life_recorded_before_first_write::Check::new(plan)),
            Box::<healthy_paths_undisturbed::Check>::default(),
            Box::<counters_never_decrease::Check>::default(),
            Box::<suspects_keep_their_names::Check>::default(),
        ])
    }

    pub(crate) fn see(&mut self, now: Instant, seen: &Seen<'_>) -> Vec<Violation> {
        let mut found = Vec::new();
        for checker in &mut self.0 {
            if let Some(text) = checker.see(now, seen) {
                found.push(Violation { invariant: checker.name().to_owned(), at: now, text });
            }
        }
        found
    }
}

//! The story of a failover, from the events that were told of it.
//!
//! After an outage people ask the same questions in the same order: what was lost, how was that noticed, was anything in
//! doubt, why is the data safe, how long did it take and why, what did the application feel, and what should be changed?
//! The answers stand in the event stream, and this is the one place that reads them out of it: [`story`] is a pure function
//! from events, so that the daemon, a file that somebody sent and a drill tell the same story in the same words.
//!
//! [`trace`](self) walks over the events once and notes what concerns this one life; `judge` says what that means; `page`
//! prints it.

mod judge;
mod page;
#[cfg(test)]
mod tests;
mod trace;

pub use page::page;

use interlock_api::{Event, Story, What};
use trace::Trace;

/// The story of the failover that began with the event `id`. `events` are those of its process in order, from as far back
/// as is known; those of other controllers may be among them, and may be missing. `None`: no failover began there.
#[must_use]
pub fn story(events: &[Event], id: u64) -> Option<Story> {
    Trace::of(events, id).map(|trace| judge::judge(&trace))
}

/// The failovers that begin in these events, by their numbers, in order.
#[must_use]
pub fn failovers(events: &[Event]) -> Vec<u64> {
    events.iter().filter(|event| begins(&event.what)).map(|event| event.seq).collect()
}

/// True if a failover begins with this.
const fn begins(what: &What) -> bool {
    matches!(what, What::Lost { .. } | What::PredecessorFound { .. })
}

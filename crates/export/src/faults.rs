//! What an administrator hears of I/O that failed, and how often.
//!
//! A client is told of every failure. Whoever looks at the machine is told of the first one at once, and of those that follow
//! as a number: a disk with a bad block fails thousands of times a second.

use crate::disk::Fault;
use crate::fault::told;
use interlock_base::Instant;
use interlock_host::Status;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Failures of one export are reported so often at most.
pub const TELL_EVERY: Duration = Duration::from_secs(10);

/// Who is told of failed I/O of one export, in a sentence. Called on a reactor: it must not wait. Clones share how often.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Shared>>);

struct Shared {
    pace: Mutex<Pace>,
    tell: Box<dyn Fn(String) + Send + Sync>,
}

/// When something was reported last, and what was not since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Pace {
    last: Option<Instant>,
    silent: u64,
}

impl Pace {
    /// Something failed: how many were not reported before it, if this one is to be.
    fn handle(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + TELL_EVERY) {
            self.silent += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.silent))
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Faults(told)" } else { "Faults(silent)" })
    }
}

impl Faults {
    /// Reports to `tell`. The default reports to nobody.
    #[must_use]
    pub fn new(tell: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Shared { pace: Mutex::default(), tell: Box::new(tell) })))
    }

    /// A request failed. `what` describes it, `read of 4096 bytes at 8192`.
    #[cold]
    pub(crate) fn note(&self, now: Instant, fault: Fault, what: impl FnOnce() -> String) {
        let Some(shared) = &self.0 else { return };
        // What the export itself refuses is shown as its state, and the host has an event for conflicts of reservations.
        let reported = match fault {
            Fault::Refused(_) | Fault::NotFast | Fault::Shut => true,
            Fault::Failed(status) => status.is(Status::RESERVATION_CONFLICT),
            _ => false,
        };
        if reported {
            return;
        }
        let Some(silent) = shared.pace.lock().unwrap_or_else(PoisonError::into_inner).handle(now) else { return };
        let more = match silent {
            0 => String::new(),
            1 => "; 1 more failed since the last report".to_owned(),
            more => format!("; {more} more failed since the last report"),
        };
        (shared.tell)(format!("{} failed: {}{more}", what(), told(fault).1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_host::Refused;

    #[test]
    fn the_first_failure_is_reported_and_the_others_as_a_number() {
        let (sender, said) = std::sync::mpsc::channel();
        let faults = Faults::new(move |text| sender.send(text).expect("somebody listens"));
        let at = |ms| Instant::from_millis(ms);
        let fault = Fault::Failed(Status::UNRECOVERED_READ.with_dnr());
        let fails = |ms| faults.note(at(ms), fault, || "read of 4096 bytes at 0".into());
        fails(0);
        faults.note(at(1), Fault::Shut, || unreachable!("its state says so"));
        faults.note(at(1), Fault::Refused(Refused::NoPath), || unreachable!("its state says so"));
        let conflict = Fault::Failed(Status::RESERVATION_CONFLICT.with_dnr());
        faults.note(at(1), conflict, || unreachable!("the host has an event for it"));
        fails(2);
        faults.clone().note(at(9_999), Fault::CacheLost, || unreachable!("too soon"));
        fails(10_000);
        fails(30_000);
        let said: Vec<String> = said.try_iter().collect();
        let one =
            "read of 4096 bytes at 0 failed: the controller answered: Unrecovered Read Error (281h, do not retry)";
        assert_eq!(said, [one, &format!("{one}; 2 more failed since the last report"), one]);
        Faults::default().note(at(0), fault, || unreachable!("nobody listens"));
    }
}

//! What becomes of a host whose control or lane has panicked.
//!
//! A lane that panics takes with it what it knew of writes that were sent and not answered. The other lanes would write
//! over them, and whoever waits for a fence would wait for ever. So nothing of the host goes on: either the process
//! ends, and its successor fences what the store of lives remembers before it writes; or, where no store remembers,
//! because then a successor would know less than this process, the host alone ends: every lane refuses what is asked of
//! it from that moment on, and what was under way ends as indeterminate.
//!
//! A panic in a service that only uses the host (an export's client, say) is none of the host's: its door is closed, and
//! what it had asked for is abandoned as after any other drop.

use crate::abandon::Abandons;
use crate::control::ControlMail;
use interlock_carry::Mailbox;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a panic in a host's control or in one of its lanes ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnPanic {
    /// The process, by an abort (SIGABRT), after one line on standard error. The kernel resets its connections; the next
    /// process of this host fences what is recorded before it writes. The default with a store that outlives the process.
    EndProcess,
    /// The host. Its requests end, those that were sent and not answered as
    /// [`Outcome::Indeterminate`](crate::Outcome::Indeterminate) without a time; new ones are refused. They may take effect
    /// until their controllers have lost this host: after M * KATO + CQT, as [`stall`](crate::stall) reckons it. Until
    /// then the program must not write to these namespaces through another host, nor let another process do it.
    EndHost,
}

/// Ends a host as its program has chosen.
pub(crate) struct Ending {
    on_panic: OnPanic,
    /// A store remembers the lives of this host when the process is gone.
    remembered: bool,
    abandons: Arc<Abandons>,
    control: Mailbox<ControlMail>,
    begun: AtomicBool,
}

impl Ending {
    pub(crate) fn new(
        on_panic: OnPanic,
        remembered: bool,
        abandons: Arc<Abandons>,
        control: Mailbox<ControlMail>,
    ) -> Self {
        Self { on_panic, remembered, abandons, control, begun: AtomicBool::new(false) }
    }

    /// `who` has panicked. Returns only if it is the host alone that ends; no lane takes anything from then on.
    pub(crate) fn begin(&self, who: &str, message: &str) {
        self.end(&format!("panicked: {message}"), who);
    }

    /// The reactor of `who` has ended and did not wait for the host's end.
    pub(crate) fn begin_without_reactor(&self, who: &str) {
        self.end("has lost its reactor, which ended before the host did", who);
    }

    fn end(&self, what: &str, who: &str) {
        if self.on_panic == OnPanic::EndProcess {
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("without a name");
            let next = if self.remembered {
                "the next process of this host fences that before it writes"
            } else {
                "no store remembers it: write to these namespaces only after KATO and CQT have run out"
            };
            // Standard error may be closed: the process ends in any case.
            let _ = writeln!(
                std::io::stderr(),
                "interlock: {who} (thread {thread}) {what}: this process ends, because nobody knows any more \
                 what it has in doubt; {next}"
            );
            std::process::abort();
        }
        if !self.begun.swap(true, Ordering::AcqRel) {
            self.abandons.close();
            // One that is gone, or has panicked itself, ends nothing more.
            drop(self.control.offer(ControlMail::Ask(Box::new(|control, now| control.shutdown(now)))));
        }
    }
}

/// Stands while a service of somebody else runs code of a lane: a panic there is the lane's.
pub(crate) struct Sentry<'a>(&'a Ending);

impl<'a> Sentry<'a> {
    pub(crate) fn new(ending: &'a Ending) -> Self {
        Self(ending)
    }

    /// All went well.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Sentry<'_> {
    fn drop(&mut self) {
        self.0.begin("a lane, called by a service of its reactor,", "see the message before this one");
    }
}

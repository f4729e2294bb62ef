//! Breaks real paths under verified load, and gives a verdict.
//!
//! "It fences" is a claim. Here it is put at risk: an embedded target holds writes back inside, as a stalled array does,
//! the path they came on breaks, the host fails over, the load rewrites what was retried, and then the target tries to
//! execute the old writes after all. If it can, a block reads as something older than what was answered.
//!
//! Host and target run on separate reactors and share nothing but sockets; faults go in through the target's script. A
//! scenario counts only if it could have gone wrong: the verdict is computed in `check` from the target's own log, the
//! host's receipts and what was read back. And the check itself is put to the test: [`Fencing::Legacy`] does what today's
//! hosts do, and must be caught.
//!
//! ```no_run
//! use interlock_drill::{Fencing, Options, Plan, SCENARIOS, drill};
//!
//! let plan: Vec<Plan> = SCENARIOS.iter().map(|scenario| Plan { scenario, fencing: Fencing::Strict }).collect();
//! let report = drill(&plan, &Options::default(), &mut |_| {});
//! assert_eq!(report.exit_code, 0);
//! ```

mod course;
mod evidence;
mod foreign;
mod load;
mod page;
mod proxy;
mod receipts;
mod recording;
mod report;
mod run;
mod scenario;
mod stage;
mod words;

pub use evidence::Fencing;
pub use foreign::{Consent, Foreign, ForeignError, drill_foreign};
pub use page::page;
#[doc(hidden)]
pub use proxy::fuzz_frames;
pub use run::{Options, Plan, Progress, Requirement, Side, drill};
pub use scenario::{Break, FOREIGN, Offers, Paths, Reset, SCENARIOS, Scenario, Telling};

/// Exit status of a drill that did not take place: it says nothing about any data. The exit status of one that did is in its
/// report.
pub const NOT_DRILLED: u8 = 3;

/// What became of Cross-Controller Reset, in words.
#[must_use]
pub fn ccr_in_words(ccr: &interlock_api::CcrUse) -> String {
    use interlock_api::CcrUse;
    match ccr {
        CcrUse::Used { sent } => format!("CCR was used ({sent} sent)"),
        CcrUse::Refused { sent: 1, status } => format!("CCR was refused: {}", status.text),
        CcrUse::Refused { sent, status } => format!("CCR was refused {sent} times: {}", status.text),
        CcrUse::Unanswered { sent } => format!("CCR had no answer in time ({sent} sent)"),
        CcrUse::NotOffered => "CCR is not offered by the target".into(),
        CcrUse::NotSent => "CCR was not needed".into(),
    }
}

/// When I/O failed for want of a path, in words.
#[must_use]
pub fn fast_io_fail_in_words(times: &interlock_api::FastIoFail) -> String {
    format!(
        "settled I/O failed {} ms after the loss ({} ms predicted), writes in doubt ended after {} ms",
        times.settled_ms, times.foretold_ms, times.doubt_ms
    )
}

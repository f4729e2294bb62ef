//! From evidence to what is printed.

use crate::evidence::{Fencing, Record};
use crate::load::Felt;
use crate::receipts::{self, Paths, method, whole_millis};
use crate::run::{Plan, Requirement};
use interlock_api::{
    CcrUse, DrillReport, FastIoFail, FenceSummary, ForeignTarget, GhostCounts, LossDetection, ReasonKind, Recording,
    ScenarioResult, StaleBlock, StallTimes, Verdict as ApiVerdict, Version, WriteRef,
};
use interlock_check::{Content, Reason, Verdict, Violation, Written, exit_code};
use interlock_host::Method;
use interlock_target::By;

/// Everything there is to say of one scenario.
pub(crate) struct Outcome {
    /// What was observed; `None` if it did not come to that.
    pub(crate) record: Option<Record>,
    /// Where each controller is reached.
    pub(crate) paths: Paths,
    /// What the application felt.
    pub(crate) felt: Option<Felt>,
    /// Why it shows nothing: waits that had no end in time, and I/O that failed though it should not.
    pub(crate) troubles: Vec<String>,
    /// What else a reader should know.
    pub(crate) notes: Vec<String>,
    /// When I/O failed for want of a path.
    pub(crate) fast_io_fail: Option<FastIoFail>,
    /// How it went, if that was asked for.
    pub(crate) recording: Option<Recording>,
}

/// The result of one scenario, and the verdict that counts for the exit code.
pub(crate) fn result(plan: Plan, require: Option<Requirement>, outcome: Outcome) -> (ScenarioResult, Verdict) {
    let Plan { scenario, fencing } = plan;
    let Outcome { record, paths, felt, troubles, mut notes, fast_io_fail, recording } = outcome;
    let mut result = ScenarioResult {
        name: scenario.name.into(),
        verdict: ApiVerdict::Inconclusive,
        assumed_ms: None,
        reason_kinds: vec![ReasonKind::StepFailed; troubles.len()],
        reasons: troubles,
        detection: None,
        writes_in_doubt: 0,
        fence: None,
        ccr: None,
        fast_io_fail,
        stall: StallTimes { longest_ms: 0.0, p99_ms: 0.0 },
        reconnect_attempts: 0,
        ghosts: GhostCounts::default(),
        stale: Vec::new(),
        violations: Vec::new(),
        notes: Vec::new(),
        receipts: Vec::new(),
        reach: None,
        recording,
    };
    if let Some(felt) = felt {
        let ms = |span: std::time::Duration| span.as_micros() as f64 / 1e3;
        result.stall = StallTimes { longest_ms: ms(felt.longest), p99_ms: ms(felt.p99) };
    }
    let mut verdict = Verdict::Inconclusive { reasons: Vec::new() };
    if let Some(record) = record {
        let evidence = record.evidence();
        verdict = Verdict::of(&evidence);
        result.detection = record
            .detection()
            .map(|(loss, after)| LossDetection { how: receipts::how(loss), ms: after.as_micros() as f64 / 1e3 });
        result.writes_in_doubt = evidence.writes_in_doubt;
        result.fence = fence(&record);
        result.ccr = Some(record.ccr());
        result.reconnect_attempts = record.reconnect_attempts();
        let ghosts = evidence.ghosts;
        result.ghosts = GhostCounts { armed: ghosts.armed, stopped: ghosts.stopped, executed: ghosts.executed };
        result.receipts = receipts::receipts(&record, &paths);
        result.violations = record.answered_too_early();
        if !result.violations.is_empty() && !matches!(verdict, Verdict::Unsafe { .. }) {
            verdict = Verdict::Unsafe { violations: Vec::new() };
        }
        if let Some(network) = &record.network {
            result.reach = Some(network.reach());
            notes.extend(network.notes());
        } else if evidence.held_at_fence > 0 {
            notes.push(format!("the target held {} writes when the fence began", evidence.held_at_fence));
        }
        if let Some(kato) = record.assumed_kato() {
            notes.push(format!(
                "and if its Keep Alive Timeout is at most {} ms, which it does not report: assumed",
                kato.as_millis()
            ));
        }
        notes.extend(record.stopped_by().into_iter().map(stopped_by));
    }
    match &verdict {
        Verdict::Safe | Verdict::SafeIf { .. } if !result.reasons.is_empty() => {
            verdict = Verdict::Inconclusive { reasons: Vec::new() };
        }
        Verdict::SafeIf { assumed_ms } => result.assumed_ms = Some(*assumed_ms),
        Verdict::Inconclusive { reasons } => {
            result.reasons.extend(reasons.iter().map(ToString::to_string));
            result.reason_kinds.extend(reasons.iter().map(reason_kind));
        }
        Verdict::Unsafe { violations } => {
            for violation in violations {
                match stale(violation) {
                    Some(block) => result.stale.push(block),
                    None => result.violations.push(violation.to_string()),
                }
            }
        }
        Verdict::Safe => {}
    }
    if let Some(why) = require.filter(|_| fencing == Fencing::Strict).and_then(|require| unmet(require, &result))
        && matches!(verdict, Verdict::Safe | Verdict::SafeIf { .. })
    {
        // A fence that nothing but time or an assumption proved does not do here.
        result.reasons.push(why);
        result.reason_kinds.push(ReasonKind::RequirementUnmet);
        result.assumed_ms = None;
        verdict = Verdict::Inconclusive { reasons: Vec::new() };
    }
    if fencing == Fencing::Legacy && !scenario.must_be_caught() {
        notes.push("without a second path an unfenced run need not be caught".into());
    }
    result.notes = notes;
    result.verdict = in_words(&verdict);
    (result, verdict)
}

const fn reason_kind(reason: &Reason) -> ReasonKind {
    match reason {
        Reason::TooFewInDoubt { .. } => ReasonKind::TooFewInDoubt,
        Reason::NothingHeld => ReasonKind::NothingHeld,
        Reason::NothingStopped => ReasonKind::NothingStopped,
        Reason::GhostsUndecided { .. } => ReasonKind::GhostsUndecided,
        Reason::ReadBackIncomplete { .. } => ReasonKind::ReadBackIncomplete,
        Reason::NotCaught => ReasonKind::NotCaught,
    }
}

/// Why a scenario does not have what is required; `None` if it does.
fn unmet(require: Requirement, result: &ScenarioResult) -> Option<String> {
    match (require, &result.ccr) {
        (Requirement::Ccr, Some(CcrUse::Used { .. })) => None,
        (Requirement::Ccr, ccr) => {
            let words = ccr.as_ref().map_or_else(|| "nothing is known of it".into(), crate::ccr_in_words);
            Some(format!("CCR is required: {words}"))
        }
    }
}

/// All of them.
pub(crate) fn report(
    seed: u64,
    target: Option<ForeignTarget>,
    scenarios: Vec<ScenarioResult>,
    verdicts: &[Verdict],
) -> DrillReport {
    let verdict = scenarios.iter().map(|result| result.verdict).max().unwrap_or(ApiVerdict::Inconclusive);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    DrillReport {
        format_version: Version,
        version: Some(env!("CARGO_PKG_VERSION").into()),
        unix_ms: u64::try_from(since.as_millis()).ok(),
        seed,
        target,
        scenarios,
        verdict,
        exit_code: exit_code(verdicts),
    }
}

const fn in_words(verdict: &Verdict) -> ApiVerdict {
    match verdict {
        Verdict::Safe => ApiVerdict::Safe,
        Verdict::SafeIf { .. } => ApiVerdict::SafeIf,
        Verdict::Inconclusive { .. } => ApiVerdict::Inconclusive,
        Verdict::Unsafe { .. } => ApiVerdict::Unsafe,
    }
}

fn stopped_by(by: By) -> String {
    let by = match by {
        By::Ccr => "the cross-controller reset",
        By::Time => "the target's own quiescing",
        By::Reset => "a reset of the controller",
    };
    format!("held writes were stopped by {by}")
}

/// The weakest fence of the scenario, with the longest hold.
fn fence(record: &Record) -> Option<FenceSummary> {
    let strength = |method: Method| match method {
        Method::Immediate | Method::Log | Method::DrainedDisable => 0,
        Method::Time => 1,
        Method::Assumed => 2,
        Method::Legacy | Method::AcceptedRisk => 3,
    };
    let weakest = record.receipts().max_by_key(|receipt| (strength(receipt.method), receipt.held()))?;
    let held = record.receipts().map(interlock_host::Receipt::held).max()?;
    Some(FenceSummary {
        method: method(weakest.method),
        source: weakest.source.map(|source| source.ctrl.to_string()),
        held_ms: whole_millis(held),
    })
}

fn stale(violation: &Violation) -> Option<StaleBlock> {
    let text = violation.to_string();
    let written = |by: Written| WriteRef { op: by.op.0, generation: by.generation };
    match *violation {
        Violation::Stale { lba, found, overwrote } | Violation::GivenUpCameBack { lba, found, later: overwrote } => {
            let found = Some(WriteRef { op: found.op.0, generation: found.generation });
            Some(StaleBlock { lba, found, overwritten: written(overwrote), text })
        }
        Violation::Lost { lba, found, lost, .. } => {
            let found = match found {
                Content::Stamp(stamp) => Some(WriteRef { op: stamp.op.0, generation: stamp.generation }),
                Content::Zero | Content::Ones | Content::Torn { .. } | Content::Foreign => None,
            };
            Some(StaleBlock { lba, found, overwritten: written(lost), text })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_check::{OpId, OpKind, Stamp};

    fn broken_off(troubles: Vec<String>) -> Outcome {
        let paths = Paths::new();
        Outcome { record: None, paths, felt: None, troubles, notes: vec![], fast_io_fail: None, recording: None }
    }

    #[test]
    fn a_scenario_that_was_broken_off_is_inconclusive_and_says_why() {
        let plan = Plan { scenario: &crate::SCENARIOS[0], fencing: Fencing::Strict };
        let why = "waited 5s for the loss to be noticed".to_owned();
        let (result, verdict) = result(plan, None, broken_off(vec![why.clone()]));
        assert_eq!((result.verdict, result.reasons), (ApiVerdict::Inconclusive, vec![why]));
        assert_eq!(exit_code([&verdict]), 2);
    }

    #[test]
    fn ccr_that_is_required_must_have_been_used() {
        let plan = Plan { scenario: &crate::SCENARIOS[0], fencing: Fencing::Strict };
        let (mut unclear, _) = result(plan, None, broken_off(Vec::new()));
        let status = interlock_api::StatusCode { code: 0x141, dnr: false, text: "odd (141h)".into() };
        for (ccr, why) in [
            (Some(CcrUse::Used { sent: 1 }), None),
            (Some(CcrUse::Refused { sent: 30, status }), Some("CCR is required: CCR was refused 30 times: odd (141h)")),
            (Some(CcrUse::NotOffered), Some("CCR is required: CCR is not offered by the target")),
            (None, Some("CCR is required: nothing is known of it")),
        ] {
            unclear.ccr = ccr;
            assert_eq!(unmet(Requirement::Ccr, &unclear).as_deref(), why);
        }
    }

    #[test]
    fn stale_and_lost_blocks_are_named_and_the_rest_is_text() {
        let overwrote = Written { op: OpId(9), kind: OpKind::Write, generation: 4 };
        let found = Stamp { lba: 5, generation: 3, op: OpId(7), run: 1 };
        let block = stale(&Violation::Stale { lba: 5, found, overwrote }).expect("it is a stale block");
        assert_eq!((block.lba, block.found), (5, Some(WriteRef { op: 7, generation: 3 })));
        assert_eq!(block.overwritten, WriteRef { op: 9, generation: 4 });
        let zeroed = Violation::Lost { lba: 5, found: Content::Zero, lost: overwrote, suspect: None };
        assert_eq!(stale(&zeroed).expect("it is a stale block").found, None);
        assert_eq!(stale(&Violation::GhostsExecuted { count: 1 }), None);
    }

    #[test]
    fn the_worst_verdict_is_that_of_the_drill() {
        let plan = Plan { scenario: &crate::SCENARIOS[0], fencing: Fencing::Strict };
        let (unclear, verdict) = result(plan, None, broken_off(vec!["why".into()]));
        let safe = ScenarioResult { verdict: ApiVerdict::Safe, ..unclear.clone() };
        let report = report(3, None, vec![safe, unclear], &[Verdict::Safe, verdict]);
        assert_eq!((report.verdict, report.exit_code, report.seed), (ApiVerdict::Inconclusive, 2, 3));
    }
}

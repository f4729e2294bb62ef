//! The drill on real sockets: a fence holds, and the lack of one is caught.

use interlock_api::{DetectedHow, DrillReport, Method, Verdict};
use interlock_drill::{Fencing, Options, Plan, Scenario, drill};

#[expect(clippy::print_stdout, reason = "the harness shows it only if a test fails")]
fn play(name: &str, fencing: Fencing) -> DrillReport {
    let scenario = Scenario::named(name).expect("it is one of ours");
    let mut log = Vec::new();
    let plan = [Plan { scenario, fencing }];
    let report =
        drill(&plan, &Options { digests: true, ..Options::default() }, &mut |step| log.push(format!("{step:?}")));
    assert_eq!(report.scenarios.len(), 1);
    println!("{}\n{report:#?}", log.join("\n"));
    report
}

#[test]
fn a_reset_path_is_fenced_before_its_writes_are_retried() {
    let report = play("reset", Fencing::Strict);
    let result = &report.scenarios[0];
    assert_eq!((result.verdict, report.exit_code), (Verdict::Safe, 0), "{:?}", result.reasons);
    assert_eq!(result.fence.as_ref().map(|fence| fence.method), Some(Method::Immediate));
    assert_eq!(result.detection.map(|detection| detection.how), Some(DetectedHow::ConnectionReset));
    assert!(result.writes_in_doubt >= 8 && result.ghosts.stopped > 0 && result.ghosts.executed == 0);
    assert!(result.receipts.iter().any(|receipt| receipt.source.is_some()), "through the other path");
}

#[test]
fn a_reset_path_without_a_fence_is_caught_with_the_stale_block_named() {
    let report = play("reset", Fencing::Legacy);
    let result = &report.scenarios[0];
    assert_eq!((result.verdict, report.exit_code), (Verdict::Unsafe, 1), "{:?}", result.reasons);
    assert_eq!(result.fence.as_ref().map(|fence| fence.method), Some(Method::Legacy));
    assert!(result.ghosts.executed > 0 && result.ghosts.stopped == 0);
    let stale = result.stale.first().expect("a stale block is named");
    assert!(stale.text.contains(&format!("LBA {}", stale.lba)), "{}", stale.text);
}

#[test]
fn one_path_that_comes_back_is_fenced_through_itself() {
    let report = play("single-path", Fencing::Strict);
    let result = &report.scenarios[0];
    assert_eq!(result.verdict, Verdict::Safe, "{:?}", result.reasons);
    let receipt = result.receipts.first().expect("there is a fence");
    let source = receipt.source.as_ref().expect("it is a CCR");
    assert_eq!(source.controller, receipt.controller, "through the path that came back");
    assert_ne!(source.life, receipt.life, "as a new life");
}

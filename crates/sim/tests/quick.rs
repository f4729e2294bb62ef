//! The quick set: a few worlds, the same world twice, seeds that once failed, and mutations that must be seen.

use interlock_sim::{Mutation, Tampering, Until, run_many, run_seed};

/// Seeds that once showed a mistake of the cores. What each showed stands beside it.
const CORPUS: [u64; 6] = [
    0x1b4,  // commands that vanished beside an idle sibling never ended
    0x424,  // the same with two queues per lane
    0x6e8,  // the same with two namespaces
    0x1044, // an entry in the log of a source that had begun no reset
    0x1ec2, // the same
    0x1677, // a target that noticed a loss a whole timeout late
];

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [1, 7, 42] {
        let (one, other) = (run_seed(seed, None, true), run_seed(seed, None, true));
        assert!(one.trace.as_ref().is_some_and(|trace| trace.lines().count() > 500), "nothing happened");
        assert_eq!(one, other, "seed {seed:#x}");
    }
}

#[test]
fn a_few_worlds_without_a_violation() {
    let summary = run_many(0x10_0000, Until::Runs(60), 2, None, 1);
    let found: Vec<_> = summary.found.iter().map(|outcome| (outcome.seed, &outcome.violation)).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(summary.total.ios >= 200 * summary.runs && summary.total.faults >= 3 * summary.runs);
    assert!(summary.total.fences >= summary.runs && summary.total.ghosts_refused >= summary.runs);
}

#[test]
fn seeds_that_once_failed() {
    for seed in CORPUS {
        let outcome = run_seed(seed, None, false);
        assert_eq!(outcome.violation, None, "seed {seed:#x}");
    }
}

#[test]
fn tampering_is_seen() {
    for what in
        [Tampering::LegacyPolicy, Tampering::LedgerTruncated, Tampering::SettledAtOnce, Tampering::ImmediateFaked]
    {
        let summary = run_many(0, Until::Runs(100), 2, Some(Mutation::Tampering(what)), 1);
        assert!(!summary.found.is_empty(), "{what:?} survived {} runs", summary.runs);
    }
}

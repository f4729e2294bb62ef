//! The quick set: a few worlds, the same world twice, seeds that once failed, and mutations that must be seen.

use interlock_sim::{Mutation, Tampering, Until, run_many, run_seed};

/// Seeds that once showed a mistake, and what it was.
const CORPUS: &str = include_str!("../corpus/seeds.txt");

fn corpus() -> Vec<(u64, &'static str)> {
    let lines = CORPUS.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (seed, why) = line.split_once(' ').expect("a seed and a reason");
            let hex = seed.strip_prefix("0x").expect("a seed begins with 0x");
            (u64::from_str_radix(hex, 16).expect("a seed is hexadecimal"), why.trim())
        })
        .collect()
}

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
    let corpus = corpus();
    assert!(corpus.len() >= 13, "seeds are added, never taken away");
    for (seed, why) in corpus {
        let outcome = run_seed(seed, None, false);
        assert_eq!(outcome.violation, None, "seed {seed:#x}, which once showed: {why}");
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

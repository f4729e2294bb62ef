//! What went wrong is cut down and told.

use interlock_sim::{Mutation, Tampering, Until, minimise, run_many};

#[test]
fn a_retry_without_a_fence_is_told_in_a_page() {
    let mutation = Some(Mutation::Tampering(Tampering::LegacyPolicy));
    let found = run_many(0, Until::Runs(100), 2, mutation, 1).found;
    let outcome = found.first().expect("the policy of today's hosts is unsafe");
    let told = || minimise(outcome.seed, mutation, 120).expect("it goes wrong again");
    let story = told();
    let (invariant, text) = (&story.violation.invariant, story.to_string());
    assert_eq!(Some(invariant), outcome.violation.as_ref().map(|violation| &violation.invariant));
    assert!(story.faults.0 < story.faults.1 && story.requests.0 * 2 < story.requests.1, "{text}");
    assert!(text.contains("takes effect, through life") && text.contains("ghost"), "{text}");
    assert_eq!(text, told().to_string(), "the same seed, the same story");
}

#[test]
fn there_is_no_story_where_nothing_is_wrong() {
    assert!(minimise(1, None, 10).is_none());
}

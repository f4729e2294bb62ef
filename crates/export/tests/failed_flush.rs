//! A flush that failed for one client fails for all, until somebody acts.

mod common;

use common::raw::{Answer, FLUSH, Raw, WRITE};
use common::{Setting, Stage, wait_for};
use interlock_host::{Outcome, Status};
use interlock_target::{Fault, PortId};

fn answer_with(stage: &Stage, status: Status) {
    for port in [PortId(0), PortId(1)] {
        stage.target.script(Fault::FailIo { port, status });
    }
}

fn flush(client: &mut Raw) -> Answer {
    client.ask(FLUSH, 0, 0, 0, &[])
}

/// Once no write succeeds any more, or they do again.
fn wait_until_it_counts(client: &mut Raw, fails: bool) {
    wait_for("the script is in force", || {
        let failed = matches!(client.ask(WRITE, 0, 0, 4096, &[7; 4096]), Answer::Error(..));
        (failed == fails).then_some(())
    });
}

#[test]
fn a_flush_that_failed_for_one_client_fails_for_the_others_until_somebody_acts() {
    let stage = Stage::set(&Setting { reactors: 2, ..Setting::default() }).exported();
    let (mut one, mut other) = (Raw::open(stage.socket(), "disk", false), Raw::open(stage.socket(), "disk", false));
    assert_eq!(other.ask(WRITE, 0, 8192, 4096, &[1; 4096]), Answer::Done);
    let lost = Status::INTERNAL_ERROR.with_dnr();
    answer_with(&stage, lost);
    wait_until_it_counts(&mut one, true);
    assert!(matches!(flush(&mut one), Answer::Error(5, _)));
    answer_with(&stage, Status::SUCCESS);
    wait_until_it_counts(&mut one, false);
    for client in [&mut one, &mut other] {
        assert!(matches!(flush(client), Answer::Error(5, _)), "the controller has forgotten it, the host has not");
    }
    let namespace = stage.namespace();
    assert_eq!(namespace.flush().wait().0, Outcome::Failed(lost), "nor for a program");
    let mut third = Raw::open(stage.socket(), "disk", false);
    assert!(matches!(flush(&mut third), Answer::Error(5, _)));
    assert_eq!(namespace.clear_flush_error(), Some(Outcome::Failed(lost)));
    for client in [&mut one, &mut other, &mut third] {
        assert_eq!(flush(client), Answer::Done);
    }
    stage.strike();
}

#[test]
fn a_flush_that_failed_for_a_client_that_is_gone_fails_for_the_next_one() {
    let stage = Stage::set(&Setting::default()).exported();
    let mut gone = Raw::open(stage.socket(), "disk", false);
    answer_with(&stage, Status::WRITE_FAULT.with_dnr());
    wait_until_it_counts(&mut gone, true);
    gone.command(FLUSH, 0, 9, 0, 0, &[]);
    let namespace = stage.namespace();
    wait_for("the flush has failed", || namespace.flush_error());
    drop(gone);
    answer_with(&stage, Status::SUCCESS);
    let mut next = Raw::open(stage.socket(), "disk", false);
    wait_until_it_counts(&mut next, false);
    assert!(matches!(flush(&mut next), Answer::Error(5, _)));
    stage.strike();
}

#[test]
fn a_path_that_cannot_be_used_says_nothing_of_the_data() {
    let stage = Stage::set(&Setting::default()).exported();
    let mut client = Raw::open(stage.socket(), "disk", false);
    answer_with(&stage, Status::NAMESPACE_NOT_READY);
    wait_until_it_counts(&mut client, true);
    assert!(matches!(flush(&mut client), Answer::Error(5, _)));
    answer_with(&stage, Status::SUCCESS);
    wait_until_it_counts(&mut client, false);
    assert_eq!(flush(&mut client), Answer::Done, "the controller asks to be tried again");
    stage.strike();
}

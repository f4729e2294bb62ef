//! Each rule of the evidence, tried on a recorded story: 10 writes held on life A of the target, broken at 100 ms.

use super::*;
use interlock_check::{Op, OpId, Reason, Verdict};
use interlock_host::{ConnectionEnd, CtrlId, DownReason, Fact, FencedBy, LifeFacts, Nqn};
use interlock_target::{Life as TargetLife, PortId};
use std::time::Duration;

const BROKEN: u64 = 100;
const CTRL: CtrlId = CtrlId(0);
const HOST_LIFE: LifeId = LifeId(1);
const WRITES: u64 = 10;

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn target_life() -> TargetLife {
    let (id, subsystem) = ids();
    TargetLife { id, subsystem, cntlid: 3, ciu: 7, cirn: 70 }
}

/// The target's own numbers, which the evidence does not look at.
fn ids() -> (interlock_target::LifeId, interlock_target::SubsystemId) {
    (interlock_target::LifeId(1), interlock_target::SubsystemId(0))
}

fn ghost(slba: u64) -> Ghost {
    let namespace = interlock_target::NamespaceKey { subsystem: ids().1, nsid: 1 };
    Ghost { life: target_life(), namespace, change: Change::Write, slba, blocks: 2 }
}

fn suspect(slba: u64, answered: u64) -> Suspect {
    let op = Op { id: OpId(slba), kind: OpKind::Write, lba: slba, nlb: 2, generation: 1 };
    Suspect { op, submitted: ms(90), answered: Some((ms(answered), Outcome::Ok)), overtaken: None }
}

fn facts(identity: Identity) -> LifeFacts {
    LifeFacts {
        identity,
        uniquifier: interlock_host::Uniquifier::of(identity),
        vs: 0x20300,
        kato: Fact::Stated(Duration::from_secs(1)),
        tbkas: Fact::NotOffered,
        cqt: Fact::NotOffered,
        ccrl: Fact::Stated(4),
        ccr_event: true,
        ana: false,
        anatt: Duration::ZERO,
        io_queues: 1,
        lanes: 1,
        sqsize_max: 127,
        in_capsule: 8192,
        max_transfer: u32::MAX,
        vwc: false,
        retry_delays: [Duration::ZERO; 3],
        shutdown: Duration::ZERO,
        serial: Fact::NotOffered,
        model: Fact::NotOffered,
        firmware: String::new(),
    }
}

fn receipt(identity: Identity, method: HostMethod, fenced: u64) -> Receipt {
    Receipt {
        number: 1,
        ctrl: CTRL,
        life: HOST_LIFE,
        subnqn: Nqn::new("nqn.2014-08.org.example:s").expect("valid"),
        identity,
        addr: None,
        terms: None,
        method,
        source: Some(FencedBy {
            ctrl: CtrlId(1),
            life: LifeId(2),
            identity: Identity { cntlid: 4, ciu: 1, cirn: 1 },
            addr: None,
        }),
        in_doubt: WRITES as usize,
        answered_late: 0,
        settled: 0,
        loss: Loss::KeepAlive,
        detected: ms(101),
        t0: None,
        fenced: ms(fenced),
        released: ms(fenced + 1),
        deadline: None,
        assumed_cqt: (method == HostMethod::Assumed).then_some(Duration::from_secs(1)),
        assumed_kato: None,
        attempts: interlock_host::CcrAttempts::default(),
        suspect: None,
    }
}

/// How the story goes.
#[derive(Clone, Copy)]
struct Story {
    fencing: Fencing,
    method: HostMethod,
    /// The host's receipt.
    fenced: u64,
    /// The target's end of the life.
    quiesced: Option<u64>,
    /// The target's attempt to execute what it held.
    tried: u64,
    /// The application's answers.
    answered: u64,
    /// By CCR, with this count.
    ccr_held: Option<u32>,
    /// The target names its lives.
    named: bool,
}

const GOOD: Story = Story {
    fencing: Fencing::Strict,
    method: HostMethod::Immediate,
    fenced: 110,
    quiesced: Some(109),
    tried: 200,
    answered: 120,
    ccr_held: Some(10),
    named: true,
};

fn record(story: Story) -> Record {
    let identity =
        if story.named { Identity { cntlid: 3, ciu: 7, cirn: 70 } } else { Identity { cntlid: 3, ciu: 0, cirn: 0 } };
    let host = |at: u64, kind: EventKind| Event { at: ms(at), kind };
    let target = |at: u64, event: TargetEvent| Stamped { at: ms(at), event };
    let mut record = Record {
        fencing: story.fencing,
        broken: ms(BROKEN),
        host: vec![
            host(11, EventKind::LifeBegan { ctrl: CTRL, life: HOST_LIFE, facts: Box::new(facts(identity)), queues: 1 }),
            host(
                101,
                EventKind::Lost {
                    ctrl: CTRL,
                    life: HOST_LIFE,
                    how: Loss::AdminConnection(DownReason::Lost(ConnectionEnd::Reset)),
                },
            ),
            host(
                102,
                EventKind::Condemned {
                    ctrl: CTRL,
                    life: HOST_LIFE,
                    in_doubt: WRITES as usize,
                    settled: 0,
                    oldest: None,
                },
            ),
            host(story.fenced, EventKind::Fenced(Box::new(receipt(identity, story.method, story.fenced)))),
        ],
        target: vec![target(10, TargetEvent::Enabled { life: target_life() })],
        network: None,
        suspects: (0..WRITES).map(|write| suspect(write * 10, story.answered)).collect(),
        violations: Vec::new(),
        read_back: ReadBack::Complete,
    };
    record.target.extend((0..WRITES).map(|write| target(101, TargetEvent::GhostArmed(ghost(write * 10)))));
    if let Some(held) = story.ccr_held {
        record.target.push(target(108, TargetEvent::CcrReceived { source: 4, icid: 3, ciu: 7, cirn: 70, held }));
    }
    if let Some(at) = story.quiesced {
        let event = TargetEvent::Fenced { life: target_life(), by: By::Ccr, cancelled: WRITES as u32 };
        record.target.push(target(at, event));
    }
    let stopped = story.quiesced.is_some_and(|at| at < story.tried);
    record.target.extend((0..WRITES).map(|write| {
        let ghost = ghost(write * 10);
        let event =
            if stopped { TargetEvent::GhostRefused { ghost, by: By::Ccr } } else { TargetEvent::GhostExecuted(ghost) };
        target(story.tried, event)
    }));
    record
}

#[test]
fn a_fence_that_held_is_safe() {
    let record = record(GOOD);
    let evidence = record.evidence();
    assert_eq!(evidence.writes_in_doubt, 10);
    assert_eq!(evidence.held_at_fence, 10);
    assert_eq!(evidence.ghosts, Ghosts { armed: 10, ended_before_fence: 0, stopped: 10, executed: 0 });
    assert_eq!(Verdict::of(&evidence), Verdict::Safe);
    assert!(record.answered_too_early().is_empty());
    assert_eq!(record.stopped_by().into_iter().collect::<Vec<_>>(), [By::Ccr]);
    assert_eq!(record.ghosts_waiting(), 0);
    assert_eq!(record.detection().map(|(_, after)| after), Some(Duration::from_millis(1)));
}

#[test]
fn a_ghost_executed_after_the_receipt_is_found_without_any_read() {
    let evidence = record(Story { quiesced: None, ..GOOD }).evidence();
    assert_eq!(evidence.ghosts.executed, 10);
    assert!(evidence.violations.contains(&Violation::ExecutableAtReceipt {
        life: life_of(target_life()),
        method: Method::Immediate,
        commands: 10
    }));
    assert!(matches!(Verdict::of(&evidence), Verdict::Unsafe { .. }));
}

#[test]
fn a_receipt_before_the_target_had_ended_the_life_is_wrong_even_if_nothing_came_of_it() {
    let evidence = record(Story { quiesced: Some(150), ..GOOD }).evidence();
    assert_eq!(evidence.ghosts.executed, 0);
    assert!(matches!(Verdict::of(&evidence), Verdict::Unsafe { .. }));
}

#[test]
fn a_ghost_executed_before_the_receipt_is_harmless_and_shows_nothing() {
    let record = record(Story { quiesced: None, tried: 105, ..GOOD });
    let evidence = record.evidence();
    assert_eq!(evidence.ghosts, Ghosts { armed: 10, ended_before_fence: 10, stopped: 0, executed: 0 });
    assert_eq!(Verdict::of(&evidence), Verdict::Inconclusive { reasons: vec![Reason::NothingStopped] });
}

#[test]
fn a_refusal_before_the_receipt_is_not_a_ghost_that_was_stopped() {
    let evidence = record(Story { quiesced: Some(103), tried: 105, ..GOOD }).evidence();
    assert_eq!((evidence.ghosts.stopped, evidence.ghosts.ended_before_fence), (0, 10));
}

#[test]
fn without_ccr_the_hold_must_have_begun_before_the_target_quiesced() {
    let by_time = Story { method: HostMethod::Time, ccr_held: None, named: false, fenced: 150, answered: 160, ..GOOD };
    let evidence = record(by_time).evidence();
    assert_eq!(evidence.held_at_fence, 10, "quiesced at 109, condemned at 102");
    assert_eq!(Verdict::of(&evidence), Verdict::Safe);
    let evidence = record(Story { quiesced: Some(101), ..by_time }).evidence();
    assert_eq!(evidence.held_at_fence, 0);
    assert_eq!(Verdict::of(&evidence), Verdict::Inconclusive { reasons: vec![Reason::NothingHeld] });
}

#[test]
fn an_assumption_is_said() {
    let assumed = Story { method: HostMethod::Assumed, ccr_held: None, named: false, ..GOOD };
    assert_eq!(Verdict::of(&record(assumed).evidence()), Verdict::SafeIf { assumed_ms: 1000 });
}

#[test]
fn without_a_fence_an_execution_after_the_answer_is_caught() {
    let legacy = Story {
        fencing: Fencing::Legacy,
        method: HostMethod::Legacy,
        fenced: 102,
        quiesced: None,
        answered: 103,
        ccr_held: None,
        ..GOOD
    };
    let record = record(legacy);
    let evidence = record.evidence();
    assert_eq!(evidence.fence, Fence::None);
    assert_eq!(evidence.ghosts.executed, 10);
    let found = Violation::ExecutedAfterAnswer { op: OpId(0), life: life_of(target_life()), late_ns: 97_000_000 };
    assert!(evidence.violations.contains(&found), "{:?}", evidence.violations);
    assert!(record.answered_too_early().is_empty(), "nobody promised otherwise");
}

#[test]
fn an_answer_before_the_fence_breaks_a_promise() {
    let early = record(Story { answered: 105, ..GOOD }).answered_too_early();
    assert_eq!(early.len(), 10);
    assert_eq!(
        early[0],
        "write #0 was in doubt and was answered 5.000 ms before life 3/07/0000000000000046 was fenced"
    );
    let mut never = record(GOOD);
    never.host.retain(|event| !matches!(event.kind, EventKind::Fenced(_)));
    assert!(never.answered_too_early()[0].ends_with("was never fenced"));
}

#[test]
fn what_happened_before_the_fault_does_not_count() {
    let mut record = record(GOOD);
    record.broken = ms(1000);
    let evidence = record.evidence();
    assert_eq!((evidence.writes_in_doubt, evidence.held_at_fence, evidence.ghosts.armed), (0, 0, 0));
    assert_eq!(record.reconnect_attempts(), 0);
}

#[test]
fn a_cancelled_command_counts_as_held_before_it_tries() {
    let mut record = record(GOOD);
    record
        .target
        .retain(|stamped| !matches!(stamped.event, TargetEvent::GhostArmed(_) | TargetEvent::GhostRefused { .. }));
    assert_eq!((record.armed(), record.ghosts_waiting()), (10, 10));
    let reason = Reason::GhostsUndecided { left: 10 };
    let Verdict::Inconclusive { reasons } = Verdict::of(&record.evidence()) else { panic!("it shows nothing") };
    assert!(reasons.contains(&reason));
}

#[test]
fn another_port_is_of_no_interest() {
    let mut record = record(GOOD);
    let conn = interlock_target::ConnId(1);
    record.target.push(Stamped { at: ms(300), event: TargetEvent::Accepted { conn, port: PortId(1) } });
    assert_eq!(Verdict::of(&record.evidence()), Verdict::Safe);
}

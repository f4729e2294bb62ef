//! Time that nobody noticed: the process was stopped, or the machine was. Whatever is looked at first afterwards, the gate
//! lets nothing through that a host must have given up by then.

use crate::rig::*;
use core::time::Duration;
use interlock_target_core::{By, Event, Fault, Loss};
use interlock_wire::IntoBytes;
use interlock_wire::admin;
use interlock_wire::nvm::Command;
use interlock_wire::status::Status;

const KATO_MS: u32 = 1000;
/// What the rig's subsystem quiesces in.
const QUIESCE_MS: u64 = 400;
/// With traffic-based keep alive: two timeouts and the quiesce time.
const LIMIT_MS: u64 = 2 * KATO_MS as u64 + QUIESCE_MS;

fn pair_with(change: impl FnOnce(&mut interlock_target_core::Config)) -> (Rig, Path, Path) {
    let mut config = config();
    change(&mut config);
    let mut rig = Rig::new(config);
    let host = Host { kato_ms: KATO_MS, ..Host::new(1) };
    let a = host.live(&mut rig, A);
    let b = Host::new(1).live(&mut rig, B);
    (rig, a, b)
}

fn pair() -> (Rig, Path, Path) {
    pair_with(|_| {})
}

/// Time passes, and nobody looks at anything.
fn stop(rig: &mut Rig, ms: u64) {
    rig.now += Duration::from_millis(ms);
}

fn count(rig: &Rig, which: impl Fn(&Event) -> bool) -> usize {
    rig.events.iter().filter(|event| which(event)).count()
}

fn too_late(rig: &Rig) -> usize {
    count(rig, |event| matches!(event, Event::TooLate(_)))
}

#[test]
fn what_was_received_while_nobody_looked_is_not_executed() {
    for ms in [LIMIT_MS, LIMIT_MS + 1, 8500, 20_500, 86_400_000] {
        let (mut rig, a, b) = pair();
        stop(&mut rig, ms);
        // The lane looks first, and control is not reached.
        rig.cut_off.insert(LANE_A);
        let token = a.write(&mut rig, 3, 0x11);
        assert_eq!((rig.disk(3), too_late(&rig)), (0, 1), "after {ms} ms");
        rig.cut_off.clear();
        rig.run();
        assert!(rig.answer(a.io, token).is_none_or(|(cqe, _)| !cqe.status().is_success()));
        rig.advance(0);
        assert_eq!(count(&rig, |event| matches!(event, Event::Lost { why: Loss::KeepAlive, .. })), 1);
        assert!(!rig.is_open(a.admin));
        let token = b.write(&mut rig, 3, 0x22);
        assert!(rig.answer(b.io, token).unwrap().0.status().is_success(), "a host that keeps nothing alive goes on");
    }
}

#[test]
fn nothing_is_refused_before_the_host_must_have_given_up() {
    let (mut rig, a, _) = pair();
    stop(&mut rig, LIMIT_MS - 1);
    rig.cut_off.insert(LANE_A);
    a.write(&mut rig, 3, 0x11);
    assert_eq!((rig.disk(3), too_late(&rig)), (0x11, 0));
}

#[test]
fn every_kind_of_command_is_refused() {
    let ranges = admin_ranges(7);
    let commands: [(Command, Vec<u8>); 5] = [
        (Command::Write { slba: 5, nlb: 1, fua: true }, vec![9; 512]),
        (Command::WriteZeroes { slba: 5, nlb: 1, deallocate: true, fua: false }, Vec::new()),
        (Command::Compare { slba: 5, nlb: 1, fua: false }, vec![0; 512]),
        (Command::Flush, Vec::new()),
        (Command::Dsm { ranges: 1, deallocate: true }, ranges),
    ];
    for (command, data) in commands {
        let (mut rig, a, _) = pair();
        let token = a.write(&mut rig, 7, 0x77);
        assert!(rig.answer(a.io, token).is_some());
        stop(&mut rig, LIMIT_MS);
        rig.slow_media = true;
        let token = rig.submit(a.io, command.to_sqe(1), &data, 0);
        assert!(rig.media.is_empty(), "{command:?} is not even begun");
        let answer = rig.answer(a.io, token).map(|(cqe, _)| cqe.status());
        assert!(answer.is_none_or(|status| status == Status::ABORT_REQUESTED), "{answer:?}");
        assert_eq!(rig.buffers(), 0);
    }
}

fn admin_ranges(slba: u64) -> Vec<u8> {
    interlock_wire::nvm::DsmRange::new(slba, 1).as_bytes().to_vec()
}

#[test]
fn what_stalled_inside_is_refused_also_by_the_lane_that_nobody_told() {
    for fault in [Fault::HoldWrites { port: A }, Fault::Delay { port: A, ms: 5000 }] {
        let (mut rig, a, _) = pair();
        rig.script(fault);
        a.write(&mut rig, 3, 0x11);
        rig.cut_off.insert(LANE_A);
        stop(&mut rig, 6000);
        // The lane is the first to look: at its own timer, or at what a script releases.
        let now = rig.now;
        rig.lanes[LANE_A].handle_timeout(now);
        rig.lanes[LANE_A].handle_control(now, interlock_target_core::ToLane::Fault(Fault::Release));
        rig.run();
        assert_eq!((rig.disk(3), too_late(&rig)), (0, 1), "{fault:?}");
    }
}

#[test]
fn ghosts_of_a_lost_connection_are_refused_by_the_clock() {
    let (mut rig, a, _) = pair();
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 3, 0x11);
    rig.script(Fault::ResetConnections { port: A });
    rig.cut_off.insert(LANE_A);
    stop(&mut rig, QUIESCE_MS);
    let now = rig.now;
    rig.lanes[LANE_A].handle_control(now, interlock_target_core::ToLane::Fault(Fault::Release));
    rig.run();
    assert_eq!(rig.disk(3), 0);
    assert_eq!(count(&rig, |event| matches!(event, Event::GhostRefused { by: By::Time, .. })), 1);
}

#[test]
fn data_that_was_asked_for_and_comes_too_late_is_not_written() {
    let (mut rig, a, _) = pair();
    rig.wires.get_mut(&a.io).unwrap().sends = Some(72);
    let token = rig.submit(a.io, Command::Write { slba: 3, nlb: 4, fua: false }.to_sqe(1), &[0x11; 2048], 0);
    assert_eq!(rig.buffers(), 1, "R2T was sent, and its data is missing");
    stop(&mut rig, LIMIT_MS);
    rig.wires.get_mut(&a.io).unwrap().sends = None;
    rig.run();
    assert_eq!((rig.disk(3), too_late(&rig), rig.buffers()), (0, 1, 0));
    assert!(rig.answer(a.io, token).is_none_or(|(cqe, _)| !cqe.status().is_success()));
}

#[test]
fn keep_alives_that_are_read_too_late_renew_nothing() {
    for tbkas in [true, false] {
        let (mut rig, a, _) = pair_with(|config| config.subsystems[0].tbkas = tbkas);
        let limit = if tbkas { 2 } else { 1 } * u64::from(KATO_MS);
        stop(&mut rig, limit);
        rig.submit(a.admin, admin::keep_alive(), &[], 0);
        let token = a.write(&mut rig, 3, 0x11);
        assert_eq!(rig.disk(3), 0, "tbkas {tbkas}: the association is over");
        assert!(rig.answer(a.io, token).is_none());
        assert!(!rig.is_open(a.admin) && !rig.is_open(a.io));
    }
}

/// Control was busy, and reads what another host sent first.
#[test]
fn a_host_that_spoke_in_time_is_not_lost_because_it_was_read_late() {
    for (tbkas, io) in [(true, false), (true, true), (false, false)] {
        let (mut rig, a, b) = pair_with(|config| config.subsystems[0].tbkas = tbkas);
        rig.cut_off.insert(LANE_A);
        // With traffic-based keep alive it was heard in the first interval.
        let spoke = if tbkas { 1900 } else { 900 };
        stop(&mut rig, spoke);
        if io {
            a.write(&mut rig, 3, 0x11);
        } else {
            rig.submit(a.admin, admin::keep_alive(), &[], 0);
        }
        stop(&mut rig, 600);
        rig.submit(b.admin, admin::async_event_request(), &[], 0);
        rig.submit(b.io, Command::Flush.to_sqe(1), &[], 0);
        rig.cut_off.clear();
        rig.run();
        rig.advance(0);
        assert!(rig.is_open(a.admin), "tbkas {tbkas}, I/O {io}");
        // Its next interval ends as if nothing had been late.
        let left = if tbkas { 3000 - 2500 } else { 1900 - 1500 };
        rig.advance(left - 1);
        assert!(rig.is_open(a.admin), "tbkas {tbkas}, I/O {io}");
        rig.advance(1);
        assert!(!rig.is_open(a.admin), "tbkas {tbkas}, I/O {io}");
    }
}

/// What is read first is what it sent too late: nothing that came in time lies before it.
#[test]
fn a_host_that_spoke_too_late_is_lost_by_what_it_says() {
    for tbkas in [true, false] {
        let (mut rig, a, b) = pair_with(|config| config.subsystems[0].tbkas = tbkas);
        stop(&mut rig, if tbkas { 2000 } else { 1000 });
        // Nobody looks at a timer.
        let token = rig.submit(a.admin, admin::keep_alive(), &[], 0);
        assert!(rig.answer(a.admin, token).is_none() && !rig.is_open(a.admin), "tbkas {tbkas}");
        let joins = |host: Host, cntlid| host.data(SUBNQN, cntlid);
        let second = rig.dial(A);
        let connect = interlock_wire::fabrics::Connect { qid: 2, sqsize: 31, sq_flow_control: false, kato_ms: 0 };
        assert!(!rig.connect(second, connect, &joins(Host::new(1), a.cntlid)).status().is_success());
        assert!(rig.is_open(b.admin));
    }
}

/// What the kernel had received before the process was stopped says nothing of the time after.
#[test]
fn what_is_read_late_was_not_heard_late() {
    let (mut rig, a, _) = pair();
    let looked = rig.now;
    stop(&mut rig, 900);
    rig.lanes[LANE_A].handle_looked(looked);
    a.write(&mut rig, 3, 0x11);
    rig.submit(a.admin, admin::keep_alive(), &[], 0);
    assert_eq!(rig.disk(3), 0x11);
    rig.advance(1101);
    assert!(!rig.is_open(a.admin), "silent since it was looked at last: lost after two timeouts");
}

/// A connection that was not read for a while, although the lane looked all the time: what it had received is as old as that.
#[test]
fn what_lay_in_a_connection_that_was_not_read_was_not_heard_late() {
    for fault_ends in [Fault::Unmute { port: A }, Fault::Clear] {
        let (mut rig, a, _) = pair();
        let look = |rig: &mut Rig| rig.lanes[LANE_A].handle_looked(rig.now);
        look(&mut rig);
        rig.script(Fault::Mute { port: A });
        a.write(&mut rig, 3, 0x11);
        rig.submit(a.admin, admin::keep_alive(), &[], 0);
        for _ in 0..15 {
            rig.advance(100);
            look(&mut rig);
        }
        rig.script(fault_ends);
        assert_eq!(rig.disk(3), 0x11);
        rig.advance(501);
        assert!(!rig.is_open(a.admin), "silent since it fell mute: lost after two timeouts");
        // What comes after that counts as before.
        let (mut rig, a, _) = pair();
        look(&mut rig);
        rig.script(Fault::Mute { port: A });
        rig.advance(500);
        look(&mut rig);
        rig.script(fault_ends);
        for n in 0..20 {
            rig.advance(450);
            look(&mut rig);
            rig.submit(a.admin, admin::keep_alive(), &[], 0);
            a.write(&mut rig, 3, n);
        }
        assert!(rig.is_open(a.admin));
    }
}

#[test]
fn a_host_that_speaks_is_never_refused() {
    for tbkas in [true, false] {
        let (mut rig, a, _) = pair_with(|config| config.subsystems[0].tbkas = tbkas);
        for n in 0..200_u8 {
            rig.advance(450);
            rig.submit(a.admin, admin::keep_alive(), &[], 0);
            let token = a.write(&mut rig, 3, n);
            assert!(rig.answer(a.io, token).unwrap().0.status().is_success());
        }
        assert_eq!((rig.disk(3), too_late(&rig)), (199, 0));
    }
}

#[test]
fn a_new_keep_alive_timeout_holds_at_once() {
    let (mut rig, a, _) = pair();
    rig.get(a.admin, admin::SetFeatures::keep_alive(100).to_sqe(), 0);
    stop(&mut rig, 2 * 100 + QUIESCE_MS);
    rig.cut_off.insert(LANE_A);
    a.write(&mut rig, 3, 0x11);
    assert_eq!((rig.disk(3), too_late(&rig)), (0, 1));
    let (mut rig, a, _) = pair();
    rig.get(a.admin, admin::SetFeatures::keep_alive(0).to_sqe(), 0);
    stop(&mut rig, 86_400_000);
    a.write(&mut rig, 3, 0x11);
    assert_eq!(rig.disk(3), 0x11, "a host that keeps nothing alive is never given up by time");
}

#[test]
fn a_life_that_exceeds_the_stated_quiesce_time_is_told_and_counted() {
    let (mut rig, a, _) = pair();
    rig.slow_media = true;
    a.write(&mut rig, 3, 0x11);
    let until = rig.media[0].1.until;
    assert_eq!(
        until,
        Some(rig.now + Duration::from_millis(LIMIT_MS)),
        "what hands it on knows until when it may begin"
    );
    rig.hang_up(a.admin);
    rig.advance(499);
    assert_eq!(rig.control.overruns(), 0);
    rig.advance(1);
    assert_eq!(rig.control.overruns(), 1);
    let told = |event: &Event| matches!(event, Event::QuiesceOverrun { life, cqt_ms: 500 } if life.cntlid == a.cntlid);
    assert_eq!(count(&rig, told), 1);
    rig.advance(10_000);
    assert_eq!(rig.control.overruns(), 1, "once for each life");
    rig.media_step();
    rig.run();
    assert_eq!(count(&rig, |event| matches!(event, Event::Fenced { by: By::Time, .. })), 1);
}

#[test]
fn whoever_notices_a_loss_late_has_no_more_time_for_it() {
    let (mut rig, a, _) = pair();
    rig.slow_media = true;
    a.write(&mut rig, 3, 0x11);
    stop(&mut rig, LIMIT_MS + 100);
    rig.advance(0);
    assert_eq!(rig.control.overruns(), 1, "two timeouts and the stated 500 ms are over");
}

#[test]
fn a_queue_whose_connect_is_read_late_was_not_heard_late() {
    let (mut rig, a, _) = pair();
    let looked = rig.now;
    stop(&mut rig, 1100);
    rig.lanes[LANE_A].handle_looked(looked);
    let second = Host { kato_ms: KATO_MS, ..Host::new(1) }.queue(&mut rig, A, a.cntlid, 2);
    assert!(rig.is_open(second));
    rig.advance(901);
    assert!(!rig.is_open(a.admin), "silent in the whole second interval: lost after two timeouts");
}

//! The heart: when is a life over, and who may say so.

use crate::rig::*;
use interlock_target_core::config::Ccr;
use interlock_target_core::{By, Event, Fault, LifeState, Loss};
use interlock_wire::admin::{AsyncEvent, EventMask, GetLog};
use interlock_wire::ccr::{self, Instance, State};
use interlock_wire::fabrics::Cc;
use interlock_wire::status::Status;

fn fenced(rig: &Rig, instance: Instance) -> Option<(By, u32)> {
    rig.events.iter().find_map(|event| match event {
        Event::Fenced { life, by, cancelled } if (life.cntlid, life.cirn) == (instance.cntlid, instance.cirn) => {
            Some((*by, *cancelled))
        }
        _ => None,
    })
}

fn count(rig: &Rig, which: impl Fn(&Event) -> bool) -> usize {
    rig.events.iter().filter(|event| which(event)).count()
}

fn refused(rig: &Rig) -> usize {
    count(rig, |event| matches!(event, Event::GhostRefused { .. }))
}

fn executed(rig: &Rig) -> usize {
    count(rig, |event| matches!(event, Event::GhostExecuted(_)))
}

fn pair() -> (Rig, Path, Path) {
    pair_with(|_| {})
}

fn pair_with(change: impl FnOnce(&mut interlock_target_core::Config)) -> (Rig, Path, Path) {
    let mut config = config();
    change(&mut config);
    let mut rig = Rig::new(config);
    let host = Host::new(1);
    let a = host.live(&mut rig, A);
    let b = host.live(&mut rig, B);
    (rig, a, b)
}

#[test]
fn an_idle_life_is_reset_immediately_and_again_is_already_reset() {
    let (mut rig, a, b) = pair();
    assert_eq!(b.ccr_now(&mut rig, a.instance), (Status::SUCCESS, true));
    assert!(!rig.is_open(a.admin) && !rig.is_open(a.io), "the connections of the impacted controller are gone");
    assert!(rig.is_open(b.admin) && rig.is_open(b.io));
    assert_eq!(fenced(&rig, a.instance), Some((By::Ccr, 0)));
    assert_eq!(b.log(&mut rig, false), [], "immediate leaves no entry");
    assert_eq!(b.ccr_now(&mut rig, a.instance), (Status::SUCCESS, true), "the wanted end is there already");
}

#[test]
fn ghosts_are_cancelled_by_ccr_and_refused_when_they_try() {
    let (mut rig, a, b) = pair();
    rig.script(Fault::HoldWrites { port: A });
    for n in 0..8 {
        a.write(&mut rig, n, 0x11);
    }
    assert_eq!(rig.buffers(), 8, "held commands keep their data");
    rig.script(Fault::ResetConnections { port: A });
    assert_eq!(count(&rig, |event| matches!(event, Event::GhostArmed(_))), 8);
    assert_eq!(b.ccr_now(&mut rig, a.instance), (Status::SUCCESS, true));
    assert_eq!(count(&rig, |event| matches!(event, Event::CcrReceived { held: 8, .. })), 1);
    assert_eq!(fenced(&rig, a.instance), Some((By::Ccr, 8)));
    assert_eq!(rig.buffers(), 0);
    // The host goes on.
    let token = b.write(&mut rig, 3, 0x22);
    assert!(rig.answer(b.io, token).unwrap().0.status().is_success());
    rig.script(Fault::Release);
    assert_eq!(refused(&rig), 8, "each ghost tried and was stopped");
    assert!(rig.events.iter().any(
        |event| matches!(event, Event::GhostRefused { ghost, by: By::Ccr } if ghost.slba == 3 && ghost.life.cntlid == a.cntlid)
    ));
    assert_eq!((executed(&rig), rig.disk(3)), (0, 0x22));
}

#[test]
fn ghosts_execute_while_nobody_fenced_their_life() {
    let (mut rig, a, b) = pair();
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 3, 0x11);
    rig.script(Fault::ResetConnections { port: A });
    let token = b.write(&mut rig, 3, 0x22);
    assert!(rig.answer(b.io, token).unwrap().0.status().is_success(), "retried at once on the other path");
    rig.script(Fault::Release);
    assert_eq!((executed(&rig), refused(&rig)), (1, 0));
    assert_eq!(rig.disk(3), 0x11, "the stale write: this is the hazard");
    assert_eq!(rig.buffers(), 0);
}

#[test]
fn ghosts_are_refused_once_the_quiesce_time_is_over() {
    let (mut rig, a, _) = pair();
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 3, 0x11);
    rig.hang_up(a.admin);
    rig.advance(399);
    assert_eq!(fenced(&rig, a.instance), None);
    rig.advance(2);
    assert_eq!(fenced(&rig, a.instance), Some((By::Time, 1)));
    rig.script(Fault::Release);
    assert_eq!((executed(&rig), refused(&rig), rig.disk(3)), (0, 1, 0));
}

#[test]
fn a_held_write_of_a_living_connection_is_answered_on_release() {
    let (mut rig, a, _) = pair();
    rig.script(Fault::HoldWrites { port: A });
    let token = a.write(&mut rig, 3, 0x11);
    assert_eq!(a.read(&mut rig, 3), 0, "reads are not held");
    rig.script(Fault::Release);
    assert!(rig.answer(a.io, token).unwrap().0.status().is_success());
    assert_eq!((rig.disk(3), executed(&rig)), (0x11, 0), "somebody waited for it: no ghost");
}

#[test]
fn ccr_waits_for_a_lane_that_was_not_reached() {
    let (mut rig, a, b) = pair();
    rig.cut_off.insert(LANE_A);
    let token = b.ccr(&mut rig, a.instance);
    assert!(rig.answer(b.admin, token).is_none(), "nothing is said while a lane is silent");
    rig.advance(10);
    let (cqe, _) = rig.answer(b.admin, token).expect("pending after the answer time");
    assert_eq!((cqe.status(), ccr::immediate(cqe.dw0.get())), (Status::SUCCESS, false));
    assert_eq!(b.log(&mut rig, false)[0].state, State::InProgress);
    rig.advance(1000);
    assert_eq!(b.log(&mut rig, true)[0].state, State::InProgress, "in progress is never removed and never success");
    assert_eq!(fenced(&rig, a.instance), None);
    rig.cut_off.clear();
    rig.run();
    assert_eq!(fenced(&rig, a.instance), Some((By::Ccr, 0)));
    assert_eq!(b.log(&mut rig, true)[0].state, State::Success);
    assert_eq!(b.log(&mut rig, true), [], "a completed entry is removed by the read that returned it");
}

#[test]
fn ccr_waits_for_the_last_media_operation() {
    let (mut rig, a, b) = pair();
    b.want_events(&mut rig, EventMask::CCR);
    let aer = b.aer(&mut rig);
    rig.slow_media = true;
    a.write(&mut rig, 3, 0x11);
    a.write(&mut rig, 4, 0x11);
    let token = b.ccr(&mut rig, a.instance);
    rig.advance(5000);
    let (cqe, _) = rig.answer(b.admin, token).unwrap();
    assert!(!ccr::immediate(cqe.dw0.get()));
    assert!(!rig.is_open(a.io), "the connection is cut although the life is not over");
    rig.media_step();
    rig.run();
    assert_eq!(b.log(&mut rig, false)[0].state, State::InProgress, "one operation is still out");
    assert!(rig.answer(b.admin, aer).is_none());
    rig.media_step();
    rig.run();
    let (cqe, _) = rig.answer(b.admin, aer).expect("the event");
    assert_eq!(AsyncEvent::from_dw0(cqe.dw0.get()), AsyncEvent::CCR_COMPLETED);
    let log = b.log(&mut rig, true);
    assert_eq!((log.len(), log[0].icid, log[0].ciu, log[0].state), (1, a.cntlid, a.instance.ciu, State::Success));
    assert_eq!(rig.buffers(), 0);
    assert_eq!(rig.disk(4), 0x11, "it completed before the success, so it was no ghost");
}

#[test]
fn a_life_that_drains_is_pending_and_still_dangerous() {
    let (mut rig, a, b) = pair();
    rig.script(Fault::HoldWrites { port: A });
    rig.script(Fault::SlowDrain { ms: 200 });
    a.write(&mut rig, 3, 0x11);
    a.write(&mut rig, 4, 0x11);
    assert_eq!(b.ccr_now(&mut rig, a.instance), (Status::SUCCESS, false), "said at once: it cannot be immediate");
    rig.advance(199);
    assert_eq!(b.log(&mut rig, false)[0].state, State::InProgress);
    assert_eq!(rig.control.lives().filter(|(_, state)| *state == (LifeState::Draining { by: By::Ccr })).count(), 1);
    // A host that took IRS=0 for permission would be caught here.
    rig.script(Fault::Release);
    assert_eq!((executed(&rig), rig.disk(3)), (2, 0x11));
    rig.advance(1);
    assert_eq!(b.log(&mut rig, true)[0].state, State::Success);
}

/// The host that asks for a reset still counts on the time by which the life would have ended without it.
#[test]
fn a_reset_that_drains_slowly_ends_no_later_than_silence_would_have() {
    let mut config = config();
    config.subsystems[0].tbkas = false;
    let mut rig = Rig::new(config);
    let a = Host { kato_ms: 1000, ..Host::new(1) }.live(&mut rig, A);
    let b = Host::new(1).live(&mut rig, B);
    rig.script(Fault::SlowDrain { ms: 5000 });
    rig.advance(900);
    assert_eq!(b.ccr_now(&mut rig, a.instance), (Status::SUCCESS, false));
    rig.advance(499);
    assert_eq!(fenced(&rig, a.instance), None);
    rig.advance(1);
    assert_eq!(fenced(&rig, a.instance), Some((By::Ccr, 0)), "KATO and the quiesce time after the last command");
}

#[test]
fn ccr_is_refused_by_what_it_names() {
    let (mut rig, a, b) = pair();
    let invalid = (Status::INVALID_FIELD.with_dnr(), false);
    assert_eq!(b.ccr_now(&mut rig, b.instance), invalid, "its own controller");
    let stale = Instance { cirn: a.instance.cirn ^ 1, ..a.instance };
    assert_eq!(b.ccr_now(&mut rig, stale), invalid, "a CIRN that never was");
    let stale = Instance { ciu: a.instance.ciu.wrapping_add(1).max(1), ..a.instance };
    assert_eq!(b.ccr_now(&mut rig, stale), invalid, "a CIU that is not this life's");
    assert_eq!(b.ccr_now(&mut rig, Instance { cntlid: 99, ..a.instance }), invalid, "no such controller");
    // The same name or the same identifier alone is another host.
    for other in [Host { id: Host::new(9).id, ..Host::new(1) }, Host { nqn: Host::new(9).nqn, ..Host::new(1) }] {
        let c = other.live(&mut rig, B);
        assert_eq!(c.ccr_now(&mut rig, a.instance), invalid, "another host's life");
    }
    assert!(rig.is_open(a.admin) && rig.is_open(a.io), "nothing happened to it");
    assert!(b.ccr_now(&mut rig, a.instance).1);
}

#[test]
fn an_earlier_life_of_the_same_controller_does_not_fence_the_present_one() {
    let (mut rig, a, b) = pair();
    set_cc(&mut rig, a.admin, Cc::new(false));
    assert!(!csts(&mut rig, a.admin).ready());
    set_cc(&mut rig, a.admin, Cc::new(false).with_enable(true));
    let now = identify(&mut rig, a.admin).instance();
    assert_eq!(now.ciu, if a.instance.ciu == 255 { 1 } else { a.instance.ciu + 1 });
    assert_ne!(now.cirn, a.instance.cirn);
    assert_eq!(b.ccr_now(&mut rig, a.instance), (Status::SUCCESS, true), "that one was over by the reset");
    assert!(csts(&mut rig, a.admin).ready(), "and the present one lives on");
    assert!(b.ccr_now(&mut rig, now).1);
    assert!(!rig.is_open(a.admin));
}

#[test]
fn a_read_removes_what_it_returned_and_nothing_else() {
    let (mut rig, _, b) = pair_with(|config| {
        config.subsystems[0].ccr = Ccr::On { limit: 4, drain_ms: 1, answer_ms: 0 };
    });
    let host = Host::new(1);
    let lost: Vec<u16> = (0..4)
        .map(|_| {
            let c = host.live(&mut rig, A);
            assert!(b.ccr_now(&mut rig, c.instance).0.is_success());
            rig.advance(1);
            c.cntlid
        })
        .collect();
    let left = |rig: &mut Rig| -> Vec<u16> { b.log(rig, false).iter().map(|entry| entry.icid).collect() };
    assert_eq!(left(&mut rig), lost);
    let read = |rig: &mut Rig, offset, len| {
        let get = GetLog { offset, len, ..ccr::get_log(true) };
        rig.get(b.admin, get.to_sqe(), len)
    };
    // The head alone, half an entry, and the halves of two.
    for (offset, len) in [(0, 8), (8, 4), (12, 8)] {
        read(&mut rig, offset, len);
        assert_eq!(left(&mut rig), lost, "{len} bytes from {offset} on hold no whole entry");
    }
    assert_eq!(read(&mut rig, 16, 8)[..2], lost[1].to_le_bytes());
    assert_eq!(left(&mut rig), [lost[0], lost[2], lost[3]], "the second one alone was returned");
    read(&mut rig, 16, 4096);
    assert_eq!(left(&mut rig), [lost[0]], "what lies before the offset was not returned");
    read(&mut rig, 0, 4096);
    assert_eq!(left(&mut rig), []);
}

#[test]
fn ciu_skips_zero() {
    let (mut rig, a, _) = pair();
    let mut seen = Vec::new();
    for _ in 0..300 {
        set_cc(&mut rig, a.admin, Cc::new(false));
        set_cc(&mut rig, a.admin, Cc::new(false).with_enable(true));
        seen.push(identify(&mut rig, a.admin).ciu);
    }
    assert!(seen.contains(&255) && seen.contains(&1) && !seen.contains(&0));
}

#[test]
fn one_reset_at_a_time_per_life_and_ccrl_per_source() {
    let (mut rig, a, b) = pair_with(|config| {
        config.subsystems[0].ccr = Ccr::On { limit: 1, drain_ms: 100, answer_ms: 10 };
    });
    let host = Host::new(1);
    let c = host.live(&mut rig, B);
    let d = host.live(&mut rig, A);
    assert_eq!(b.ccr_now(&mut rig, a.instance), (Status::SUCCESS, false));
    assert_eq!(c.ccr_now(&mut rig, a.instance).0, Status::CCR_IN_PROGRESS, "through another source");
    assert_eq!(b.ccr_now(&mut rig, a.instance).0, Status::CCR_IN_PROGRESS, "through the same source");
    assert_eq!(b.ccr_now(&mut rig, d.instance).0, Status::CCR_LIMIT_EXCEEDED);
    assert_eq!(c.ccr_now(&mut rig, d.instance), (Status::SUCCESS, false), "the limit is per source");
    rig.advance(100);
    assert_eq!(c.ccr_now(&mut rig, a.instance), (Status::SUCCESS, true));
    assert_eq!(b.log(&mut rig, true)[0].state, State::Success);
}

#[test]
fn the_log_is_full_at_511_entries_and_a_read_makes_room() {
    let (mut rig, _, b) = pair_with(|config| {
        config.subsystems[0].ccr = Ccr::On { limit: 4, drain_ms: 1, answer_ms: 0 };
    });
    let host = Host::new(1);
    for n in 0..512 {
        let c = host.live(&mut rig, A);
        let (status, _) = b.ccr_now(&mut rig, c.instance);
        if n == 511 {
            assert_eq!(status, Status::CCR_LOG_FULL);
            assert_eq!(b.log(&mut rig, true).len(), 511);
            assert_eq!(b.ccr_now(&mut rig, c.instance).0, Status::SUCCESS);
        } else {
            assert_eq!(status, Status::SUCCESS);
        }
        rig.advance(1);
    }
    assert_eq!(b.log(&mut rig, true).len(), 1);
}

#[test]
fn disabling_waits_for_the_media_and_cancels_what_stalls() {
    let (mut rig, a, b) = pair();
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 3, 0x11);
    rig.slow_media = true;
    let read = interlock_wire::nvm::Command::Read { slba: 0, nlb: 1, fua: false }.to_sqe(1);
    rig.submit(a.io, read, &[], 512);
    set_cc(&mut rig, a.admin, Cc::new(false));
    assert!(csts(&mut rig, a.admin).ready(), "RDY stays until the last operation is over");
    assert!(!rig.is_open(a.io) && rig.is_open(a.admin));
    assert_eq!(b.ccr_now_pending(&mut rig, a.instance), (Status::SUCCESS, false), "a CCR meanwhile is pending");
    rig.media_step();
    rig.run();
    assert_eq!(fenced(&rig, a.instance), Some((By::Reset, 1)));
    rig.script(Fault::Release);
    assert_eq!((executed(&rig), refused(&rig), rig.disk(3)), (0, 1, 0));
}

impl Path {
    fn ccr_now_pending(&self, rig: &mut Rig, impacted: Instance) -> (Status, bool) {
        let token = self.ccr(rig, impacted);
        rig.advance(10);
        let (cqe, _) = rig.answer(self.admin, token).expect("an answer in time");
        (cqe.status(), ccr::immediate(cqe.dw0.get()))
    }
}

#[test]
fn rdy_falls_when_the_last_operation_is_over() {
    let (mut rig, a, _) = pair();
    rig.slow_media = true;
    a.write(&mut rig, 3, 0x11);
    set_cc(&mut rig, a.admin, Cc::new(false));
    rig.advance(3000);
    assert!(csts(&mut rig, a.admin).ready());
    rig.media_step();
    rig.run();
    assert!(!csts(&mut rig, a.admin).ready());
    set_cc(&mut rig, a.admin, Cc::new(false).with_enable(true));
    assert!(csts(&mut rig, a.admin).ready(), "and a new life can begin");
}

#[test]
fn a_target_that_reports_ready_too_early_lets_ghosts_through() {
    let (mut rig, a, _) = pair();
    rig.script(Fault::RdyBeforeDrained);
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 3, 0x11);
    set_cc(&mut rig, a.admin, Cc::new(false));
    assert!(!csts(&mut rig, a.admin).ready(), "the lie");
    rig.script(Fault::Release);
    assert_eq!((executed(&rig), rig.disk(3)), (1, 0x11));
}

/// A host that was frozen after its shutdown, or before its enable, must not keep the controller for ever.
#[test]
fn an_association_that_serves_nothing_ends_in_silence() {
    use interlock_target_core::config::ASSOCIATION_IDLE;
    use interlock_wire::fabrics::Shutdown;
    let mut rig = Rig::new(config());
    for kato_ms in [0, 5000] {
        let host = Host { kato_ms, ..Host::new(1) };
        let shut_down = host.live(&mut rig, A).admin;
        set_cc(&mut rig, shut_down, Cc::new(false).with_enable(true).with_shutdown(Shutdown::Normal));
        let disabled = host.live(&mut rig, A).admin;
        set_cc(&mut rig, disabled, Cc::new(false));
        let (never_enabled, _) = host.admin(&mut rig, A, SUBNQN);
        let serving = Host::new(2).live(&mut rig, A).admin;
        rig.advance(ASSOCIATION_IDLE.as_millis() as u64 / 2);
        assert!(csts(&mut rig, shut_down).shutdown() == interlock_wire::fabrics::ShutdownStatus::Complete);
        rig.advance(ASSOCIATION_IDLE.as_millis() as u64 / 2 + 1);
        assert!(rig.is_open(shut_down), "it said something meanwhile");
        rig.advance(ASSOCIATION_IDLE.as_millis() as u64 * 2);
        for conn in [shut_down, disabled, never_enabled] {
            assert!(!rig.is_open(conn), "{conn:?} of a host with KATO {kato_ms} is still there");
        }
        assert!(rig.is_open(serving), "a live controller without keep alive stays: its host asked for that");
    }
}

#[test]
fn shutdown_is_complete_when_the_life_is_over() {
    use interlock_wire::fabrics::{Shutdown, ShutdownStatus};
    let (mut rig, a, _) = pair();
    rig.slow_media = true;
    a.write(&mut rig, 3, 0x11);
    set_cc(&mut rig, a.admin, Cc::new(false).with_enable(true).with_shutdown(Shutdown::Normal));
    assert_eq!(csts(&mut rig, a.admin).shutdown(), ShutdownStatus::Occurring);
    rig.media_step();
    rig.run();
    assert_eq!(csts(&mut rig, a.admin).shutdown(), ShutdownStatus::Complete);
    rig.hang_up(a.admin);
    assert_eq!(count(&rig, |event| matches!(event, Event::Fenced { .. })), 1);
}

#[test]
fn a_lost_queue_ends_the_association_and_a_new_life_may_fence_the_old() {
    let (mut rig, a, b) = pair();
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 3, 0x11);
    rig.hang_up(a.io);
    rig.advance(4999);
    assert!(rig.is_open(a.admin), "the host may end it in order");
    rig.advance(1);
    assert!(!rig.is_open(a.admin), "the admin connection follows");
    assert!(rig.events.iter().any(|event| matches!(event, Event::Lost { why: Loss::Sibling, .. })));
    rig.hang_up(b.admin);
    // Single path: reconnect at once, as a new life, and fence the old one through it.
    let again = Host::new(1).live(&mut rig, A);
    assert_ne!(again.cntlid, a.cntlid, "an id is not reused at once");
    assert_eq!(again.ccr_now(&mut rig, a.instance), (Status::SUCCESS, true));
    rig.script(Fault::Release);
    assert_eq!((executed(&rig), refused(&rig)), (0, 1));
}

#[test]
fn a_host_that_closes_its_queues_first_can_still_shut_down_in_order() {
    let (mut rig, a, _) = pair();
    rig.hang_up(a.io);
    set_cc(
        &mut rig,
        a.admin,
        Cc::new(false).with_enable(true).with_shutdown(interlock_wire::fabrics::Shutdown::Normal),
    );
    assert_eq!(csts(&mut rig, a.admin).shutdown(), interlock_wire::fabrics::ShutdownStatus::Complete);
    rig.advance(6000);
    assert!(rig.is_open(a.admin), "nothing is left of the lost queue's wait");
    assert!(!rig.events.iter().any(|event| matches!(event, Event::Lost { why: Loss::Sibling, .. })));
}

#[test]
fn keep_alive_without_traffic_counts_from_the_last_keep_alive() {
    let (mut rig, ..) = pair_with(|config| config.subsystems[0].tbkas = false);
    let host = Host { kato_ms: 950, ..Host::new(1) };
    let c = host.live(&mut rig, A);
    rig.advance(900);
    rig.get(c.admin, interlock_wire::admin::keep_alive(), 0);
    for _ in 0..9 {
        rig.advance(100);
        c.read(&mut rig, 0);
    }
    assert!(rig.is_open(c.admin));
    rig.advance(100);
    assert!(!rig.is_open(c.admin) && !rig.is_open(c.io), "reads do not count");
    assert!(rig.events.iter().any(|event| matches!(event, Event::Lost { why: Loss::KeepAlive, .. })));
}

#[test]
fn the_connect_of_an_io_queue_is_no_keep_alive() {
    let (mut rig, ..) = pair_with(|config| config.subsystems[0].tbkas = false);
    let host = Host { kato_ms: 950, ..Host::new(1) };
    let c = host.live(&mut rig, A);
    rig.advance(1001);
    assert!(!rig.is_open(c.admin) && !rig.is_open(c.io), "one timeout after it was enabled, not two");
}

#[test]
fn keep_alive_by_traffic_is_checked_once_per_timeout() {
    let (mut rig, ..) = pair();
    let host = Host { kato_ms: 1000, ..Host::new(1) };
    let c = host.live(&mut rig, A);
    for _ in 0..50 {
        rig.advance(300);
        c.read(&mut rig, 0);
    }
    assert!(rig.is_open(c.admin), "reads on the I/O queue keep it alive");
    rig.advance(999);
    assert!(rig.is_open(c.admin), "never before a whole timeout after the last command");
    rig.advance(1001);
    assert!(!rig.is_open(c.admin) && !rig.is_open(c.io), "and never after two");
    rig.advance(400);
    assert_eq!(fenced(&rig, c.instance), Some((By::Time, 0)));
}

#[test]
fn a_late_report_a_lost_event_and_a_stale_entry() {
    let (mut rig, a, b) = pair_with(|config| {
        config.subsystems[0].ccr = Ccr::On { limit: 4, drain_ms: 50, answer_ms: 10 };
    });
    b.want_events(&mut rig, EventMask::CCR);
    rig.script(Fault::CcrStaleEntry);
    let aer = b.aer(&mut rig);
    assert!(rig.answer(b.admin, aer).is_some(), "it announces itself as a real one would");
    let stale = b.log(&mut rig, false);
    assert_eq!((stale[0].icid, stale[0].ciu, stale[0].state), (a.cntlid, a.instance.ciu, State::Success));
    assert_eq!(fenced(&rig, a.instance), None, "and proves nothing");
    b.log(&mut rig, true);
    rig.script(Fault::CcrLate { ms: 300 });
    rig.script(Fault::CcrLoseEvent);
    let aer = b.aer(&mut rig);
    assert_eq!(b.ccr_now(&mut rig, a.instance), (Status::SUCCESS, false));
    rig.advance(349);
    assert_eq!(fenced(&rig, a.instance), Some((By::Ccr, 0)));
    assert_eq!(b.log(&mut rig, true)[0].state, State::InProgress);
    rig.advance(1);
    assert_eq!(b.log(&mut rig, true)[0].state, State::Success);
    assert!(rig.answer(b.admin, aer).is_none(), "the event is lost");
}

#[test]
fn ccr_can_be_refused_with_any_status_or_not_be_there() {
    let (mut rig, a, b) = pair();
    rig.script(Fault::CcrRefuse(Status::CCR_LOG_FULL));
    assert_eq!(b.ccr_now(&mut rig, a.instance).0, Status::CCR_LOG_FULL);
    rig.script(Fault::Clear);
    assert!(b.ccr_now(&mut rig, a.instance).1);

    let (mut rig, a, b) = pair_with(|config| config.subsystems[0].ccr = Ccr::Off);
    let identify = identify(&mut rig, b.admin);
    assert_eq!((identify.ccrl, identify.ciu, identify.cirn.get()), (0, 0, 0));
    let impacted = Instance { cntlid: a.cntlid, ciu: 1, cirn: 1 };
    assert_eq!(b.ccr_now(&mut rig, impacted).0, Status::INVALID_OPCODE.with_dnr());
}

#[test]
fn the_end_of_the_target_waits_for_every_life() {
    let (mut rig, a, _) = pair();
    rig.slow_media = true;
    a.write(&mut rig, 3, 0x11);
    rig.control.shutdown(rig.now);
    rig.run();
    assert!(rig.wires.values().all(|wire| !wire.open));
    assert!(!rig.events.contains(&Event::ShutDown));
    rig.media_step();
    rig.run();
    assert!(rig.events.contains(&Event::ShutDown));
    assert_eq!((rig.control.controllers(), rig.control.lives().count(), rig.buffers()), (0, 0, 0));
}

#[test]
fn held_writes_are_told_when_they_stall_execute_stop_and_are_overtaken() {
    let mut rig = Rig::new(config());
    let (a, b) = (Host::new(1).live(&mut rig, A), Host::new(1).live(&mut rig, B));
    rig.script(Fault::HoldWrites { port: A });
    let first = a.write(&mut rig, 3, 0x11);
    a.write(&mut rig, 5, 0x11);
    let held = |rig: &Rig| -> Vec<(u64, &str)> {
        let told = |event: &Event| match event {
            Event::Held(ghost) => Some((ghost.slba, "held")),
            Event::HeldExecuted(ghost) => Some((ghost.slba, "executed")),
            Event::HeldStopped { ghost, by: By::Ccr } => Some((ghost.slba, "stopped")),
            Event::Overtaken { ghost, by } if by.cntlid == b.cntlid => Some((ghost.slba, "overtaken")),
            _ => None,
        };
        rig.events.iter().filter_map(told).collect()
    };
    assert_eq!(held(&rig), [(3, "held"), (5, "held")]);
    // Through the other port, on another lane; what meets none of them is not told, and nothing twice.
    for slba in [5, 5, 6] {
        b.write(&mut rig, slba, 0x22);
    }
    assert_eq!(held(&rig)[2..], [(5, "overtaken")]);
    rig.script(Fault::StopHolding { port: A });
    rig.script(Fault::Release);
    assert_eq!(held(&rig)[3..], [(3, "executed"), (5, "executed")]);
    assert!(rig.answer(a.io, first).is_some());
    b.write(&mut rig, 3, 0x22);
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 7, 0x11);
    assert!(b.ccr_now(&mut rig, a.instance).1);
    b.write(&mut rig, 7, 0x22);
    assert_eq!(held(&rig)[5..], [(7, "held"), (7, "stopped")], "what can execute no more is overtaken by nothing");
}

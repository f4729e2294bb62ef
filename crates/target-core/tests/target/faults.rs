//! The scripted faults that are about ports.

use crate::rig::*;
use interlock_target_core::SubsystemId;
use interlock_target_core::status::ConnStage;
use interlock_target_core::{By, ControlOutput, Event, Fault, Loss, Namespace};
use interlock_wire::admin::AsyncEvent;
use interlock_wire::nvm::{Command, DsmRange};
use interlock_wire::status::Status;

const S: SubsystemId = SubsystemId(0);

#[test]
fn connections_are_reset_on_their_port_only() {
    let mut rig = Rig::new(config());
    let (a, b) = (Host::new(1).live(&mut rig, A), Host::new(1).live(&mut rig, B));
    rig.script(Fault::ResetConnections { port: A });
    assert!(!rig.is_open(a.admin) && !rig.is_open(a.io) && rig.is_open(b.admin) && rig.is_open(b.io));
    assert_eq!(rig.events.iter().filter(|e| matches!(e, Event::Lost { why: Loss::Script, .. })).count(), 1);
    Host::new(1).live(&mut rig, A);
}

#[test]
fn ports_close_and_open() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.script(Fault::ClosePort { port: A });
    assert!(!rig.is_open(a.admin));
    rig.script(Fault::OpenPort { port: A });
    assert_eq!(rig.ports, [ControlOutput::ClosePort(A), ControlOutput::OpenPort(A)]);
}

#[test]
fn clear_ends_everything_and_delivers_what_was_held() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.script(Fault::HoldWrites { port: A });
    rig.script(Fault::Mute { port: B });
    rig.script(Fault::SlowDrain { ms: 1000 });
    let token = a.write(&mut rig, 0, 0x11);
    rig.script(Fault::Clear);
    assert!(rig.answer(a.io, token).is_some());
    assert!(!rig.lanes[LANE_B].is_port_muted(B));
    let b = Host::new(1).live(&mut rig, B);
    assert!(b.ccr_now(&mut rig, a.instance).1, "no slow drain any more");
}

#[test]
fn commands_of_one_port_are_answered_as_scripted_and_not_executed() {
    let mut rig = Rig::new(config());
    let (a, b) = (Host::new(1).live(&mut rig, A), Host::new(1).live(&mut rig, B));
    for status in [Status::CONTROLLER_PATH_ERROR, Status::INTERNAL_ERROR.with_dnr()] {
        rig.script(Fault::FailIo { port: A, status });
        let token = a.write(&mut rig, 3, 0x11);
        assert_eq!(rig.answer(a.io, token).expect("it is answered").0.status(), status);
        assert_eq!(rig.disk(3), 0);
    }
    let token = b.write(&mut rig, 3, 0x22);
    assert_eq!(rig.answer(b.io, token).expect("it is answered").0.status(), Status::SUCCESS);
    assert_eq!(rig.disk(3), 0x22);
    rig.script(Fault::FailIo { port: A, status: Status::SUCCESS });
    let token = a.write(&mut rig, 3, 0x33);
    assert_eq!(rig.answer(a.io, token).expect("it is answered").0.status(), Status::SUCCESS);
    assert_eq!(rig.disk(3), 0x33);
}

#[test]
fn an_event_is_told_twice_as_scripted_while_its_log_is_not_read() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    let (first, second, third) = (a.aer(&mut rig), a.aer(&mut rig), a.aer(&mut rig));
    rig.script(Fault::RepeatEvent);
    assert!(rig.answer(a.admin, first).is_none(), "nothing was told yet");
    rig.control.resize_namespace(S, 1, 17).unwrap();
    rig.run();
    let event = |rig: &mut Rig, token| rig.answer(a.admin, token).map(|(cqe, _)| AsyncEvent::from_dw0(cqe.dw0.get()));
    assert_eq!(event(&mut rig, first), Some(AsyncEvent::NAMESPACE_CHANGED));
    assert_eq!(event(&mut rig, second), None, "masked until its log is read");
    rig.script(Fault::RepeatEvent);
    assert_eq!(event(&mut rig, second), Some(AsyncEvent::NAMESPACE_CHANGED));
    assert_eq!(event(&mut rig, third), None, "once");
}

#[test]
fn a_mute_port_expires_and_quiesces_by_time() {
    let mut rig = Rig::new(config());
    let a = Host { kato_ms: 1000, ..Host::new(1) }.live(&mut rig, A);
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 5, 0x11);
    rig.script(Fault::Mute { port: A });
    rig.advance(2000);
    assert!(rig.events.iter().any(|e| matches!(e, Event::Lost { why: Loss::KeepAlive, .. })));
    assert!(rig.wires[&a.io].parked);
    rig.advance(400);
    assert!(rig.events.iter().any(|e| matches!(e, Event::Fenced { by: By::Time, cancelled: 1, .. })));
    rig.script(Fault::Release);
    assert!(rig.events.iter().any(|e| matches!(e, Event::GhostRefused { by: By::Time, .. })));
    assert_eq!(rig.disk(5), 0);
}

#[test]
fn a_held_write_does_not_reach_another_namespace_of_the_same_number() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.script(Fault::HoldWrites { port: A });
    let waiting = a.write(&mut rig, 3, 0x11);
    rig.control.remove_namespace(S, 1).unwrap();
    rig.control.add_namespace(S, Namespace { nguid: [9; 16], uuid: [9; 16], ..namespace(1) }).unwrap();
    rig.run();
    rig.script(Fault::Release);
    let (cqe, _) = rig.answer(a.io, waiting).expect("it is answered");
    assert_eq!(cqe.status(), Status::INVALID_NAMESPACE.with_dnr());
    assert_eq!(rig.disk(3), 0, "the newcomer is untouched");
}

/// Takes namespace 1 away and puts another in its place.
fn replace(rig: &mut Rig, newcomer: &Namespace) {
    rig.control.remove_namespace(S, 1).unwrap();
    rig.control.add_namespace(S, Namespace { nguid: [9; 16], uuid: [9; 16], ..newcomer.clone() }).unwrap();
    rig.run();
}

/// A command is checked when it comes. Then it waits for its data or for a buffer, and is executed later.
#[test]
fn a_command_that_waits_does_not_reach_another_namespace_of_the_same_number() {
    let write = Command::Write { slba: 3, nlb: 8, fua: false };
    let short = Command::Write { slba: 3, nlb: 1, fua: false };
    let ranges = DsmRange::encode(&[DsmRange::new(3, 8)]);
    let other_blocks = Namespace { block_shift: 12, blocks: BLOCKS / 8, ..namespace(1) };
    let small = Namespace { blocks: 4, ..namespace(1) };
    for newcomer in [namespace(1), other_blocks, small] {
        for (command, data, comes) in [
            // Its data is asked for.
            (write, vec![0x22; 4096], Some(CAPSULE)),
            // It is in the capsule.
            (short, vec![0x22; 512], Some(CAPSULE + 100)),
            (Command::Compare { slba: 3, nlb: 1, fua: false }, vec![0x22; 512], Some(CAPSULE + 100)),
            (Command::Dsm { ranges: 1, deallocate: true }, ranges.clone(), Some(CAPSULE + 8)),
            // There is no buffer yet.
            (short, vec![0x22; 512], None),
            (Command::Read { slba: 3, nlb: 1, fua: false }, vec![], None),
        ] {
            let mut config = config();
            config.limits.stock = 0;
            let mut rig = Rig::new(config);
            let a = Host::new(1).live(&mut rig, A);
            a.write(&mut rig, 3, 0x77);
            rig.no_buffers = comes.is_none();
            rig.wires.get_mut(&a.io).unwrap().sends = comes;
            let into = if data.is_empty() { 512 } else { 0 };
            let waiting = rig.submit(a.io, command.to_sqe(1), &data, into);
            assert!(rig.answer(a.io, waiting).is_none(), "{command:?} waits");
            replace(&mut rig, &newcomer);
            rig.no_buffers = false;
            rig.wires.get_mut(&a.io).unwrap().sends = None;
            rig.run();
            let (cqe, got) = rig.answer(a.io, waiting).expect("it is answered");
            assert_eq!(cqe.status(), Status::INVALID_NAMESPACE.with_dnr(), "{command:?} with {newcomer:?}");
            assert!(got.iter().all(|byte| *byte == 0), "nothing of the newcomer is read");
            assert_eq!(rig.disk(3), 0x77, "the newcomer is untouched by {command:?}");
            assert_eq!((rig.buffers(), rig.lanes[LANE_A].inside()), (0, 0));
        }
    }
}

#[test]
fn what_waits_for_its_turn_at_the_media_does_not_reach_another_namespace() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.slow_media = true;
    let zero = Command::WriteZeroes { slba: 0, nlb: BLOCKS as u32, deallocate: false, fua: false };
    let tokens: Vec<u64> = (0..31).map(|_| rig.submit(a.io, zero.to_sqe(1), &[], 0)).collect();
    let begun = rig.media.len();
    assert!((1..31).contains(&begun), "{begun} have begun, and some wait");
    replace(&mut rig, &namespace(1));
    rig.slow_media = false;
    rig.run();
    let statuses: Vec<Status> =
        tokens.into_iter().map(|token| rig.answer(a.io, token).expect("it is answered").0.status()).collect();
    assert_eq!(statuses.iter().filter(|status| status.is_success()).count(), begun);
    assert_eq!(statuses.iter().filter(|status| **status == Status::INVALID_NAMESPACE.with_dnr()).count(), 31 - begun);
    assert_eq!(rig.lanes[LANE_A].inside(), 0);
}

#[test]
fn a_write_whose_data_comes_after_a_smaller_end_is_refused() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.wires.get_mut(&a.io).unwrap().sends = Some(CAPSULE);
    let beyond = rig.submit(a.io, Command::Write { slba: 0, nlb: 8, fua: false }.to_sqe(1), &[0x22; 4096], 0);
    rig.control.resize_namespace(S, 1, 4).unwrap();
    rig.run();
    rig.wires.get_mut(&a.io).unwrap().sends = None;
    rig.run();
    assert_eq!(rig.answer(a.io, beyond).expect("it is answered").0.status(), Status::LBA_OUT_OF_RANGE.with_dnr());
    assert_eq!(rig.disk(0), 0);
    // Any other change of the table leaves a command that waits as it is.
    rig.wires.get_mut(&a.io).unwrap().sends = Some(CAPSULE + 100);
    let within = a.write(&mut rig, 1, 0x33);
    rig.control.resize_namespace(S, 1, 3).unwrap();
    rig.run();
    rig.wires.get_mut(&a.io).unwrap().sends = None;
    rig.run();
    assert_eq!(rig.answer(a.io, within).expect("it is answered").0.status(), Status::SUCCESS);
    assert_eq!(rig.disk(1), 0x33);
}

#[test]
fn a_held_write_beyond_a_smaller_end_is_refused() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.script(Fault::HoldWrites { port: A });
    let (inside, beyond) = (a.write(&mut rig, 0, 0x11), a.write(&mut rig, 7, 0x11));
    rig.control.resize_namespace(S, 1, 4).unwrap();
    rig.run();
    rig.script(Fault::Release);
    assert_eq!(rig.answer(a.io, inside).expect("it is answered").0.status(), Status::SUCCESS);
    assert_eq!(rig.answer(a.io, beyond).expect("it is answered").0.status(), Status::LBA_OUT_OF_RANGE.with_dnr());
    assert_eq!((rig.disk(0), rig.disk(7)), (0x11, 0));
}

#[test]
fn views_show_what_there_is_and_nothing_afterwards() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 0, 0x11);
    let controllers: Vec<_> = rig.control.controller_views().collect();
    assert_eq!((controllers.len(), controllers[0].queues, controllers[0].port), (1, 1, A));
    assert_eq!(rig.control.life_views().map(|life| life.held).collect::<Vec<_>>(), [1]);
    let stages: Vec<_> = rig.lanes[LANE_A].conn_views().map(|conn| (conn.stage, conn.commands)).collect();
    assert_eq!(stages.len(), 2);
    assert!(matches!(stages[1], (ConnStage::Io(_), 1)), "{stages:?}");
    assert!(rig.lanes[LANE_A].buffered() > 0 && rig.lanes[LANE_A].inside() == 1);
    rig.script(Fault::Clear);
    rig.hang_up(a.admin);
    rig.advance(10_000);
    assert_eq!(rig.control.controller_views().count() + rig.control.life_views().count(), 0);
    let lane = &rig.lanes[LANE_A];
    assert_eq!((lane.conn_views().count(), lane.buffered(), lane.inside()), (0, 0, 0));
}

//! Who gets a controller, which queue may join it, and what a refusal says.

use crate::rig::*;
use core::time::Duration;
use interlock_proto::host::{Association, AssociationConfig, Fact, Kind, Step};
use interlock_target_core::config::{Hosts, Offers};
use interlock_target_core::{Event, Fault, Loss};
use interlock_wire::admin::EventMask;
use interlock_wire::fabrics::{
    Cc, Connect, ConnectAnswer, ConnectData, InvalidParameter, PropertyGet, PropertySet, PropertySize,
};
use interlock_wire::nqn::{DISCOVERY_NQN, HostId, Nqn};
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;

const ADMIN: Connect = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms: 0 };
const IO: Connect = Connect { qid: 1, sqsize: 31, sq_flow_control: false, kato_ms: 0 };

fn invalid(cqe: &Cqe, parameter: InvalidParameter) {
    assert_eq!(cqe.status(), Status::CONNECT_INVALID_PARAMETERS.with_dnr());
    assert_eq!(InvalidParameter::from_dw0(cqe.dw0.get()), parameter);
}

fn try_connect(rig: &mut Rig, connect: Connect, data: &ConnectData) -> Cqe {
    let conn = rig.dial(A);
    rig.connect(conn, connect, data)
}

#[test]
fn a_refused_admin_connect_names_the_field() {
    let mut rig = Rig::new(config());
    let host = Host::new(1);
    let good = host.data(SUBNQN, 0xFFFF);
    invalid(&try_connect(&mut rig, ADMIN, &host.data("nqn.2026-01.test:other", 0xFFFF)), InvalidParameter::SUBNQN);
    invalid(&try_connect(&mut rig, ADMIN, &host.data(SUBNQN, 5)), InvalidParameter::CNTLID);
    invalid(&try_connect(&mut rig, Connect { sqsize: 0, ..ADMIN }, &good), InvalidParameter::SQSIZE);
    invalid(&try_connect(&mut rig, Connect { sqsize: 64, ..ADMIN }, &good), InvalidParameter::SQSIZE);
    let unterminated = ConnectData { hostnqn: [b'x'; 256], ..good };
    invalid(&try_connect(&mut rig, ADMIN, &unterminated), InvalidParameter::HOSTNQN);
    let nobody = Host { id: HostId([0; 16]), ..Host::new(1) };
    invalid(&try_connect(&mut rig, ADMIN, &nobody.data(SUBNQN, 0xFFFF)), InvalidParameter::HOSTID);
    assert_eq!(rig.control.controllers(), 0);
}

/// SPDK's tools say no name where any host is allowed.
#[test]
fn a_host_without_a_name_is_told_by_its_identifier() {
    let nameless = |host: &Host, cntlid| ConnectData { hostnqn: [0; 256], ..host.data(SUBNQN, cntlid) };
    let mut rig = Rig::new(config());
    let (one, two) = (Host::new(1), Host::new(2));
    let cqe = try_connect(&mut rig, ADMIN, &nameless(&one, 0xFFFF));
    assert_eq!(cqe.status(), Status::SUCCESS);
    let admin = *rig.wires.keys().last().unwrap();
    set_cc(&mut rig, admin, Cc::new(false).with_enable(true));
    let cntlid = ConnectAnswer::from_dw0(cqe.dw0.get()).cntlid;
    assert!(!try_connect(&mut rig, IO, &nameless(&two, cntlid)).status().is_success(), "another one");
    assert!(!try_connect(&mut rig, IO, &one.data(SUBNQN, cntlid)).status().is_success(), "one with a name");
    assert_eq!(try_connect(&mut rig, IO, &nameless(&one, cntlid)).status(), Status::SUCCESS);
    let mut listed = config();
    listed.subsystems[0].hosts = Hosts::List(vec![one.nqn.clone()]);
    let mut rig = Rig::new(listed);
    invalid(&try_connect(&mut rig, ADMIN, &nameless(&one, 0xFFFF)), InvalidParameter::HOSTNQN);
}

#[test]
fn a_keep_alive_timeout_that_keeps_everything_for_weeks_is_refused() {
    let mut rig = Rig::new(config());
    for (kato_ms, fits) in [(3_600_000, true), (3_600_001, false), (u32::MAX, false)] {
        let cqe = try_connect(&mut rig, Connect { kato_ms, ..ADMIN }, &Host::new(1).data(SUBNQN, 0xFFFF));
        assert_eq!(cqe.status().is_success(), fits, "{kato_ms} ms: {}", cqe.status());
    }
}

/// SPDK's block layer opens and closes queues as it likes.
#[test]
fn closing_an_idle_queue_ends_nothing() {
    let mut rig = Rig::new(config());
    let host = Host::new(1);
    let a = host.live(&mut rig, A);
    for qid in 2..40 {
        let io = host.queue(&mut rig, A, a.cntlid, qid);
        rig.finish(io);
    }
    rig.finish(a.io);
    rig.advance(60_000);
    assert!(rig.is_open(a.admin));
    let io = host.queue(&mut rig, A, a.cntlid, 1);
    let again = Path { io, ..a };
    let token = again.write(&mut rig, 3, 0x11);
    assert!(rig.answer(io, token).unwrap().0.status().is_success());
}

/// While a lane has no queue of an instance it is not told how long that may go on: the next queue brings it along.
#[test]
fn a_queue_that_comes_after_a_time_without_any_is_served() {
    for tbkas in [true, false] {
        let mut config = config();
        config.subsystems[0].tbkas = tbkas;
        let mut rig = Rig::new(config);
        let host = Host { kato_ms: 1000, ..Host::new(1) };
        let a = host.live(&mut rig, A);
        rig.finish(a.io);
        for _ in 0..20 {
            rig.advance(450);
            rig.get(a.admin, interlock_wire::admin::keep_alive(), 0);
        }
        let again = Path { io: host.queue(&mut rig, A, a.cntlid, 1), ..a };
        let token = again.write(&mut rig, 3, 0x11);
        assert_eq!(rig.answer(again.io, token).unwrap().0.status(), Status::SUCCESS, "by traffic: {tbkas}");
        // And no longer than its host is heard.
        rig.advance(if tbkas { 2400 } else { 1400 });
        assert!(!rig.is_open(a.admin));
    }
}

#[test]
fn a_queue_that_is_closed_with_something_inside_has_a_moment_to_be_made_up_for() {
    type Fill = fn(&mut Rig, &Path);
    let fills: [Fill; 3] = [
        |rig, a| {
            rig.script(Fault::HoldWrites { port: A });
            a.write(rig, 3, 0x11);
        },
        |rig, a| {
            rig.slow_media = true;
            a.write(rig, 3, 0x11);
        },
        |rig, a| {
            rig.wires.get_mut(&a.io).unwrap().sends = Some(20);
            a.write(rig, 3, 0x11);
        },
    ];
    for fill in fills {
        for made_up_for in [false, true] {
            let mut rig = Rig::new(config());
            let host = Host::new(1);
            let a = host.live(&mut rig, A);
            fill(&mut rig, &a);
            rig.finish(a.io);
            if made_up_for {
                host.queue(&mut rig, A, a.cntlid, 1);
            }
            rig.advance(6000);
            assert_eq!(rig.is_open(a.admin), made_up_for);
        }
    }
}

#[test]
fn a_queue_that_was_reset_is_not_made_up_for() {
    let mut rig = Rig::new(config());
    let host = Host::new(1);
    let a = host.live(&mut rig, A);
    rig.hang_up(a.io);
    host.queue(&mut rig, A, a.cntlid, 1);
    rig.advance(6000);
    assert!(!rig.is_open(a.admin));
}

#[test]
fn a_connection_may_try_again_after_a_refusal() {
    let mut rig = Rig::new(config());
    let host = Host::new(1);
    let conn = rig.dial(A);
    rig.connect(conn, ADMIN, &host.data("nqn.2026-01.test:other", 0xFFFF));
    assert_eq!(rig.connect(conn, ADMIN, &host.data(SUBNQN, 0xFFFF)).status(), Status::SUCCESS);
    let (again, _) = (rig.connect(conn, ADMIN, &host.data(SUBNQN, 0xFFFF)), ());
    assert_eq!(again.status(), Status::COMMAND_SEQUENCE_ERROR.with_dnr(), "but not after a success");
}

#[test]
fn an_io_queue_joins_only_its_own_controller() {
    let mut rig = Rig::new(config());
    let host = Host::new(1);
    let (admin, cntlid) = host.admin(&mut rig, A, SUBNQN);
    let data = host.data(SUBNQN, cntlid);
    assert_eq!(try_connect(&mut rig, IO, &data).status(), Status::COMMAND_SEQUENCE_ERROR.with_dnr(), "not enabled");
    set_cc(&mut rig, admin, Cc::new(false).with_enable(true));
    invalid(&try_connect(&mut rig, IO, &host.data(SUBNQN, cntlid + 1)), InvalidParameter::CNTLID);
    invalid(&try_connect(&mut rig, Connect { qid: 65, ..IO }, &data), InvalidParameter::QID);
    let other = Host::new(2).data(SUBNQN, cntlid);
    assert_eq!(try_connect(&mut rig, IO, &other).status(), Status::CONNECT_INVALID_HOST.with_dnr());
    let twin = Host { id: HostId([7; 16]), ..Host::new(1) };
    invalid(&try_connect(&mut rig, IO, &twin.data(SUBNQN, cntlid)), InvalidParameter::HOSTID);
    let through_b = rig.dial(B);
    invalid(&rig.connect(through_b, IO, &data), InvalidParameter::CNTLID);
    assert_eq!(try_connect(&mut rig, IO, &data).status(), Status::SUCCESS);
    assert_eq!(try_connect(&mut rig, IO, &data).status(), Status::COMMAND_SEQUENCE_ERROR.with_dnr(), "twice");
    assert_eq!(try_connect(&mut rig, Connect { qid: 2, ..IO }, &data).status(), Status::SUCCESS);
}

#[test]
fn nothing_but_connect_comes_first() {
    let mut rig = Rig::new(config());
    let conn = rig.dial(A);
    let (cqe, _) = rig.ask(conn, PropertyGet::CAP.to_sqe(), &[], 0);
    assert_eq!(cqe.status(), Status::COMMAND_SEQUENCE_ERROR.with_dnr());
    assert!(rig.is_open(conn));
}

#[test]
fn only_listed_hosts_and_only_where_offered() {
    let mut config = config();
    config.subsystems[0].hosts = Hosts::List(vec![Host::new(1).nqn]);
    config.ports[1].offers = Offers::Discovery;
    let mut rig = Rig::new(config);
    let stranger = Host::new(2).data(SUBNQN, 0xFFFF);
    assert_eq!(try_connect(&mut rig, ADMIN, &stranger).status(), Status::CONNECT_INVALID_HOST.with_dnr());
    Host::new(1).live(&mut rig, A);
    let conn = rig.dial(B);
    invalid(&rig.connect(conn, ADMIN, &Host::new(1).data(SUBNQN, 0xFFFF)), InvalidParameter::SUBNQN);
    Host::new(2).admin(&mut rig, B, DISCOVERY_NQN);
}

#[test]
fn controllers_are_bounded_and_busy_is_not_for_ever() {
    let mut config = config();
    // One of them is for another address.
    config.limits.controllers = 3;
    config.subsystems[0].cntlids = (10, 12);
    let mut rig = Rig::new(config);
    let host = Host::new(1);
    let (first, id) = host.admin(&mut rig, A, SUBNQN);
    assert_eq!(id, 10);
    assert_eq!(host.admin(&mut rig, A, SUBNQN).1, 11);
    let busy = try_connect(&mut rig, ADMIN, &host.data(SUBNQN, 0xFFFF));
    assert_eq!(busy.status(), Status::CONNECT_CONTROLLER_BUSY, "without DNR");
    host.admin(&mut rig, A, DISCOVERY_NQN);
    rig.hang_up(first);
    assert_eq!(host.admin(&mut rig, A, SUBNQN).1, 12, "the free id that was used longest ago");
}

#[test]
fn an_id_is_not_given_away_while_its_life_can_still_write() {
    let mut config = config();
    config.subsystems[0].cntlids = (10, 10);
    config.subsystems[0].quiesce_ms = 50;
    let mut rig = Rig::new(config);
    let a = Host::new(1).live(&mut rig, A);
    rig.hang_up(a.admin);
    let data = Host::new(1).data(SUBNQN, 0xFFFF);
    assert_eq!(try_connect(&mut rig, ADMIN, &data).status(), Status::CONNECT_CONTROLLER_BUSY);
    rig.advance(51);
    assert_eq!(Host::new(1).admin(&mut rig, A, SUBNQN).1, 10);
}

#[test]
fn garbage_costs_its_connection_only() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    let conn = rig.dial(A);
    rig.inject(conn, b"GET / HTTP/1.1\r\n\r\n");
    assert!(!rig.is_open(conn) && rig.wires[&conn].fatal.is_some());
    assert_eq!(a.read(&mut rig, 0), 0);
    // On a queue of an association it ends the association.
    rig.inject(a.io, &[0xFF; 64]);
    assert!(!rig.is_open(a.admin));
    assert!(rig.events.iter().any(|event| matches!(event, Event::Lost { why: Loss::Protocol, .. })));
}

#[test]
fn properties() {
    let mut rig = Rig::new(config());
    let (admin, _) = Host::new(1).admin(&mut rig, A, SUBNQN);
    let refuse = |rig: &mut Rig, sqe| {
        let (cqe, _) = rig.ask(admin, sqe, &[], 0);
        assert_eq!(cqe.status(), Status::INVALID_FIELD.with_dnr());
        assert!(rig.is_open(admin));
    };
    refuse(&mut rig, PropertyGet { offset: 0x1000, size: PropertySize::Four }.to_sqe());
    refuse(&mut rig, PropertyGet { size: PropertySize::Four, ..PropertyGet::CAP }.to_sqe());
    refuse(&mut rig, PropertySet { offset: 0x1C, size: PropertySize::Four, value: 0 }.to_sqe());
    refuse(&mut rig, PropertySet { size: PropertySize::Eight, ..PropertySet::cc(Cc::new(false)) }.to_sqe());
    let (cqe, _) = rig.ask(admin, PropertyGet::CAP.to_sqe(), &[], 0);
    assert_eq!(interlock_wire::fabrics::Cap(cqe.result()).mqes(), 63);
    assert!(!csts(&mut rig, admin).ready());
    let (cqe, _) = rig.ask(admin, interlock_wire::admin::Identify::Controller.to_sqe(), &[], 4096);
    assert_eq!(cqe.status(), Status::COMMAND_SEQUENCE_ERROR.with_dnr(), "not enabled");
    // A page size that is not there.
    set_cc(&mut rig, admin, Cc(Cc::new(false).0 | 1 << 7).with_enable(true));
    assert!(csts(&mut rig, admin).fatal() && !csts(&mut rig, admin).ready());
    set_cc(&mut rig, admin, Cc::new(false));
    set_cc(&mut rig, admin, Cc::new(false).with_enable(true));
    assert!(csts(&mut rig, admin).ready());
}

#[test]
fn a_real_host_comes_to_live() {
    let mut rig = Rig::new(config());
    rig.digests = true;
    for (subnqn, kind) in [(SUBNQN, Kind::Io), (DISCOVERY_NQN, Kind::Discovery)] {
        let host = Host::new(1);
        let conn = rig.dial(A);
        let mut association = Association::new(AssociationConfig {
            hostnqn: host.nqn.clone(),
            hostid: host.id,
            subnqn: Nqn::new(subnqn).unwrap(),
            kind,
            kato_ms: 1050,
            admin_sqsize: 31,
            cntlid: 0xFFFF,
            io_queues_wanted: 4,
            want_events: EventMask::all(),
        });
        let mut step = association.start();
        let facts = loop {
            step = match step {
                Step::Ask(command) => {
                    let (cqe, data) = rig.ask(conn, command.sqe, &command.out, command.into);
                    association.handle_answer(rig.now, &cqe, &data, None).expect("a step")
                }
                Step::Wait(time) => {
                    rig.advance(time.as_millis() as u64);
                    association.handle_waited(rig.now).expect("a step")
                }
                Step::Live(facts) => break facts,
            };
        };
        if kind == Kind::Io {
            let ms = |ms| Fact::Stated(Duration::from_millis(ms));
            assert_eq!((facts.kato, facts.cqt, facts.ccrl), (ms(1100), ms(500), Fact::Stated(4)));
            assert_eq!(facts.io_queues, 4);
            assert!(facts.tbkas.stated().is_some() && facts.uniquifier.stated().is_some());
            assert_eq!((facts.max_transfer, facts.in_capsule_io), (Some(65_536), 8192));
        } else {
            assert_eq!((facts.ccrl, facts.io_queues), (Fact::NotOffered, 0));
        }
    }
}

#[test]
fn a_mute_port_is_dead_without_a_word() {
    let mut rig = Rig::new(config());
    let host = Host { kato_ms: 1000, ..Host::new(1) };
    let a = host.live(&mut rig, A);
    let b = Host::new(1).live(&mut rig, B);
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 3, 0x11);
    rig.script(Fault::Mute { port: A });
    let token = a.write(&mut rig, 4, 0x11);
    assert!(rig.lanes[LANE_A].is_port_muted(A) && rig.lanes[LANE_A].is_muted(a.io));
    assert!(b.ccr_now(&mut rig, a.instance).1);
    assert!(rig.is_open(a.io) && rig.wires[&a.io].parked, "no reset goes out either");
    rig.script(Fault::Unmute { port: A });
    assert!(!rig.is_open(a.io) && !rig.is_open(a.admin));
    assert!(rig.answer(a.io, token).is_none());
    rig.script(Fault::Release);
    assert_eq!(rig.disk(3), 0);
    assert_eq!(rig.lanes[LANE_A].connections(), 0);
}

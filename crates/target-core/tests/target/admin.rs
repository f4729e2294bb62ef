//! What a Linux host asks when it connects, the logs, features and events.

use crate::rig::*;
use interlock_base::Instant;
use interlock_target_core::config::{Hosts, Offers};
use interlock_target_core::{Config, Control, MediaResult, NamespaceError, PortId, SubsystemId};
use interlock_wire::FromBytes;
use interlock_wire::admin::{
    self, AsyncEvent, EventMask, FID_ASYNC_EVENTS, FID_HOST_ID, FID_KEEP_ALIVE, FID_QUEUES, FID_VOLATILE_WRITE_CACHE,
    GetFeatures, GetLog, Identify, QueueCount, SetFeatures,
};
use interlock_wire::ana::{self, State};
use interlock_wire::discovery::{self, Kind};
use interlock_wire::fabrics::{Cc, PropertyGet, Shutdown, Version};
use interlock_wire::identify::{
    CNTRLTYPE_DISCOVERY, IdentifyNamespace, NamespaceIds, NamespaceIndependent, parse_list,
};
use interlock_wire::log::*;
use interlock_wire::nqn::DISCOVERY_NQN;
use interlock_wire::nvm::Command;
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;
use std::net::SocketAddr;

const S: SubsystemId = SubsystemId(0);

fn live() -> (Rig, Path) {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    (rig, a)
}

fn status(rig: &mut Rig, a: Path, sqe: Sqe, into: u32) -> Status {
    rig.ask(a.admin, sqe, &[], into).0.status()
}

#[test]
fn the_controller_says_what_linux_insists_on() {
    let (mut rig, a) = live();
    let id = identify(&mut rig, a.admin);
    assert_eq!((id.cntlid.get(), id.cntrltype, id.cmic), (a.cntlid, 1, 0b1011));
    assert!(id.kas.get() > 0 && id.ioccsz.get() >= 4 && id.iorcsz.get() == 1 && id.icdoff.get() == 0);
    assert_eq!((id.sqes, id.cqes, id.sgls.get() & 3, id.maxcmd.get()), (0x66, 0x44, 1, 64));
    assert!(id.mnan.get() > 0 && id.mnan.get() <= id.nn.get());
    let ana_log = ana::Log::max_len(id.nanagrpid.get(), id.mnan.get());
    assert!(ana_log <= u64::from(id.max_transfer(0).unwrap()), "the ANA log fits one transfer");
    assert_eq!(
        (id.serial(), id.model(), id.subnqn().unwrap().to_string()),
        ("serial-1".into(), "model".into(), SUBNQN.into())
    );
    assert_eq!((id.ccrl, id.cqt.get(), id.traffic_based_keep_alive()), (4, 500, true));
    assert_eq!(id.events(), EventMask::NAMESPACE | EventMask::ANA | EventMask::CCR);
    let (cqe, _) = rig.ask(a.admin, PropertyGet::VS.to_sqe(), &[], 0);
    assert_eq!((cqe.dw0.get(), id.ver.get()), (Version::V2_3.0, Version::V2_3.0));
}

#[test]
fn namespaces_describe_themselves_alike_everywhere() {
    let (mut rig, a) = live();
    let list = rig.get(a.admin, Identify::ActiveNamespaces { after: 0 }.to_sqe(), 4096);
    assert_eq!(parse_list(&list, 0).unwrap(), [1]);
    let list = rig.get(a.admin, Identify::ActiveNamespaces { after: 1 }.to_sqe(), 4096);
    assert_eq!(parse_list(&list, 1).unwrap(), []);
    let page = rig.get(a.admin, Identify::Namespace { nsid: 1 }.to_sqe(), 4096);
    let ns = IdentifyNamespace::read_from_bytes(&page).unwrap();
    let geometry = ns.geometry().unwrap();
    assert_eq!((geometry.blocks, geometry.block_size, geometry.metadata), (BLOCKS, 512, 0));
    assert!(ns.is_shared() && !ns.is_write_protected());
    let ids = NamespaceIds::parse(&rig.get(a.admin, Identify::Descriptors { nsid: 1 }.to_sqe(), 4096)).unwrap();
    assert_eq!((ids.nguid, ids.uuid, ids.csi), (Some([1; 16]), Some([101; 16]), Some(0)));
    let page = rig.get(a.admin, Identify::NamespaceIndependent { nsid: 1 }.to_sqe(), 4096);
    let other = NamespaceIndependent::read_from_bytes(&page).unwrap();
    assert_eq!((other.nstat, other.nmic, other.anagrpid), (1, ns.nmic, ns.anagrpid));
    rig.get(a.admin, Identify::ControllerCsi { csi: 0 }.to_sqe(), 4096);
    rig.get(a.admin, Identify::NamespaceCsi { nsid: 1, csi: 0 }.to_sqe(), 4096);
    assert!(rig.get(a.admin, Identify::Namespace { nsid: 2 }.to_sqe(), 4096).iter().all(|byte| *byte == 0));
    let none = Status::INVALID_NAMESPACE.with_dnr();
    for identify in [
        Identify::Namespace { nsid: 0 },
        Identify::Namespace { nsid: u32::MAX },
        Identify::Descriptors { nsid: 2 },
        Identify::ActiveNamespaces { after: u32::MAX },
    ] {
        assert_eq!(status(&mut rig, a, identify.to_sqe(), 4096), none);
    }
    let mut unknown = Identify::Controller.to_sqe();
    unknown.cdw10.set(0x1C);
    assert_eq!(status(&mut rig, a, unknown, 4096), Status::INVALID_FIELD.with_dnr());
    assert_eq!(status(&mut rig, a, Identify::Controller.to_sqe(), 512), Status::SGL_DATA_LENGTH_INVALID.with_dnr());
}

#[test]
fn every_supported_log_can_be_read_and_no_other() {
    let (mut rig, a) = live();
    let supported = SupportedLogs::read_from_bytes(&log(&mut rig, a.admin, LID_SUPPORTED, 1024)).unwrap();
    for lid in 0..=255 {
        let want = if supported.has(lid) { Status::SUCCESS } else { Status::INVALID_LOG_PAGE.with_dnr() };
        assert_eq!(status(&mut rig, a, GetLog::new(lid, 4096).to_sqe(), 4096), want, "log {lid:#x}");
    }
    for lid in [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x0C, 0x1E] {
        assert!(supported.has(lid));
    }
    let effects = EffectsLog::read_from_bytes(&log(&mut rig, a.admin, LID_EFFECTS, 4096)).unwrap();
    assert!(effects.admin(0x38).contains(Effects::SUPPORTED) && effects.io(0x01).contains(Effects::BLOCK_CHANGE));
    let beyond = GetLog::new(LID_SMART, 512).at(516).to_sqe();
    assert_eq!(status(&mut rig, a, beyond, 512), Status::INVALID_FIELD.with_dnr());
}

#[test]
fn features() {
    let (mut rig, a) = live();
    let host = Host::new(1);
    let b = host.admin(&mut rig, A, SUBNQN).0;
    set_cc(&mut rig, b, Cc::new(false).with_enable(true));
    let (cqe, _) = rig.ask(b, SetFeatures::queues(QueueCount::pairs(1000)).to_sqe(), &[], 0);
    assert_eq!(QueueCount::from_u32(cqe.dw0.get()).usable(), 64);
    let (cqe, _) = rig.ask(b, SetFeatures::keep_alive(1234).to_sqe(), &[], 0);
    assert!(cqe.status().is_success());
    let get = |rig: &mut Rig, fid| rig.ask(b, GetFeatures::current(fid).to_sqe(), &[], 0).0.dw0.get();
    assert_eq!(get(&mut rig, FID_KEEP_ALIVE), 1300, "in force, rounded up");
    assert_eq!(get(&mut rig, FID_QUEUES), QueueCount::pairs(64).to_u32());
    assert_eq!(get(&mut rig, FID_ASYNC_EVENTS), (EventMask::NAMESPACE | EventMask::ANA).bits());
    assert_eq!(get(&mut rig, FID_VOLATILE_WRITE_CACHE), 1);
    let mut hostid = GetFeatures::current(FID_HOST_ID).to_sqe();
    hostid.cdw11.set(1);
    assert_eq!(rig.get(b, hostid, 16), host.id.0);
    for (set, want) in [
        (SetFeatures { save: true, ..SetFeatures::keep_alive(1) }, Status::FEATURE_NOT_SAVEABLE),
        (SetFeatures::async_events(EventMask::DISCOVERY), Status::INVALID_FIELD),
        (SetFeatures::queues(QueueCount { nsq: 0xFFFF, ncq: 0 }), Status::INVALID_FIELD),
        (SetFeatures { fid: 0x55, save: false, nsid: 0, cdw11: 0 }, Status::INVALID_FIELD),
    ] {
        assert_eq!(status(&mut rig, a, set.to_sqe(), 0), want.with_dnr());
    }
    assert_eq!(
        status(&mut rig, a, SetFeatures::queues(QueueCount::pairs(1)).to_sqe(), 0),
        Status::COMMAND_SEQUENCE_ERROR.with_dnr(),
        "queues exist"
    );
    assert_eq!(status(&mut rig, a, admin::keep_alive(), 0), Status::KEEP_ALIVE_INVALID.with_dnr(), "KATO is 0");
    let abort = admin::Abort { sqid: 0, cid: 1 }.to_sqe();
    assert_eq!(rig.ask(a.admin, abort, &[], 0).0.dw0.get(), 1, "not aborted");
    assert_eq!(status(&mut rig, a, Sqe::new(0xC0), 0), Status::INVALID_OPCODE.with_dnr());
}

#[test]
fn namespace_changes_are_told_once_until_the_log_is_read() {
    let (mut rig, a) = live();
    rig.control.add_namespace(S, namespace(2)).unwrap();
    rig.run();
    let event = |rig: &mut Rig, token| rig.answer(a.admin, token).map(|(cqe, _)| AsyncEvent::from_dw0(cqe.dw0.get()));
    let first = a.aer(&mut rig);
    assert_eq!(event(&mut rig, first), Some(AsyncEvent::NAMESPACE_CHANGED), "what happened before is kept");
    let second = a.aer(&mut rig);
    rig.control.resize_namespace(S, 2, 77).unwrap();
    rig.control.remove_namespace(S, 1).unwrap();
    rig.run();
    assert_eq!(event(&mut rig, second), None, "masked");
    let retained = GetLog { retain_event: true, ..GetLog::new(LID_CHANGED_NAMESPACES, 4096) };
    let page = rig.get(a.admin, retained.to_sqe(), 4096);
    assert_eq!(ChangedNamespaces::parse(&page), ChangedNamespaces::These(vec![1, 2]));
    let page = log(&mut rig, a.admin, LID_CHANGED_NAMESPACES, 4096);
    assert_eq!(ChangedNamespaces::parse(&page), ChangedNamespaces::These(vec![1, 2]));
    let page = log(&mut rig, a.admin, LID_CHANGED_NAMESPACES, 4096);
    assert_eq!(ChangedNamespaces::parse(&page), ChangedNamespaces::These(vec![]));
    assert_eq!(event(&mut rig, second), None, "the read told it all");
    rig.control.resize_namespace(S, 2, 78).unwrap();
    rig.run();
    assert_eq!(event(&mut rig, second), Some(AsyncEvent::NAMESPACE_CHANGED));
    // The lanes know too.
    let read = interlock_wire::nvm::Command::Read { slba: 0, nlb: 1, fua: false };
    let (cqe, _) = rig.ask(a.io, read.to_sqe(1), &[], 512);
    assert_eq!(cqe.status(), Status::INVALID_NAMESPACE.with_dnr());
    assert_eq!(rig.control.add_namespace(S, namespace(2)), Err(NamespaceError::Taken(2)));
    let twin = interlock_target_core::Namespace { nsid: 3, ..namespace(2) };
    assert_eq!(rig.control.add_namespace(S, twin), Err(NamespaceError::SameIdentity(2, 3)));
    assert_eq!(rig.control.remove_namespace(S, 9), Err(NamespaceError::Absent(9)));
}

#[test]
fn event_requests_are_bounded_and_end_with_the_life() {
    let (mut rig, a) = live();
    let tokens: Vec<u64> = (0..4).map(|_| a.aer(&mut rig)).collect();
    let fifth = a.aer(&mut rig);
    assert_eq!(rig.answer(a.admin, fifth).unwrap().0.status(), Status::AER_LIMIT_EXCEEDED.with_dnr());
    set_cc(&mut rig, a.admin, Cc::new(false));
    for token in tokens {
        assert!(rig.answer(a.admin, token).is_none(), "hosts have dropped them, and expect no answer");
    }
}

#[test]
fn requests_that_a_reset_takes_away_take_no_place_on_the_queue() {
    let (mut rig, a) = live();
    // As often as the host of the rig can, which never gives a command up.
    for round in 0..6 {
        if round == 3 {
            // The other way to end it.
            set_cc(&mut rig, a.admin, Cc::new(false).with_enable(true).with_shutdown(Shutdown::Normal));
        }
        set_cc(&mut rig, a.admin, Cc::new(false));
        set_cc(&mut rig, a.admin, Cc::new(false).with_enable(true));
        for _ in 0..4 {
            let aer = a.aer(&mut rig);
            assert!(rig.answer(a.admin, aer).is_none());
        }
    }
    assert_eq!(rig.lanes[LANE_A].conn_views().find(|view| view.conn == a.admin).unwrap().commands, 4);
}

#[test]
fn what_a_controller_of_this_version_must_have() {
    let (mut rig, a) = live();
    let page = identify(&mut rig, a.admin);
    assert_eq!(page.lpa & 0b10_0000, 0b10_0000);
    for (fid, value) in [(0x01, 7), (0x02, 0), (0x04, 0x157), (0x05, 0), (0x0A, 0)] {
        let (cqe, _) = rig.ask(a.admin, GetFeatures::current(fid).to_sqe(), &[], 0);
        assert_eq!((cqe.status(), cqe.dw0.get()), (Status::SUCCESS, value), "feature {fid:#x}");
        let set = SetFeatures { fid, save: false, nsid: 0, cdw11: 1 };
        assert_eq!(status(&mut rig, a, set.to_sqe(), 0), Status::FEATURE_NOT_CHANGEABLE.with_dnr());
    }
    let features = log(&mut rig, a.admin, 0x12, 4096);
    assert!(features[4 * 0x0B] & 1 == 1 && features[4 * 0x0C] == 0);
    assert_eq!(log(&mut rig, a.admin, 0x13, 4096), vec![0; 4096]);
    for (nsid, want) in
        [(1, Status::INVALID_FIELD.with_dnr()), (99, Status::INVALID_FIELD.with_dnr()), (0, Status::SUCCESS)]
    {
        let get = GetLog { nsid, ..GetLog::new(LID_SMART, 512) };
        assert_eq!(status(&mut rig, a, get.to_sqe(), 512), want, "health of namespace {nsid}");
    }
    // SPDK asks for all health warnings; OAES says nothing of them.
    let wanted = EventMask::NAMESPACE | EventMask::from_bits_retain(0xFF);
    assert!(status(&mut rig, a, SetFeatures::async_events(wanted).to_sqe(), 0).is_success());
    let (cqe, _) = rig.ask(a.admin, GetFeatures::current(FID_ASYNC_EVENTS).to_sqe(), &[], 0);
    assert_eq!(cqe.dw0.get(), wanted.bits());
    assert_eq!(
        status(&mut rig, a, SetFeatures::keep_alive(u32::MAX).to_sqe(), 0),
        Status::KEEP_ALIVE_INVALID.with_dnr()
    );
}

#[test]
fn ana_changes_are_told_on_their_port() {
    let (mut rig, a) = live();
    let b = Host::new(1).live(&mut rig, B);
    let (at_a, at_b) = (a.aer(&mut rig), b.aer(&mut rig));
    rig.control.set_ana(S, 2, A, State::Inaccessible);
    rig.run();
    let (cqe, _) = rig.answer(a.admin, at_a).unwrap();
    assert_eq!(AsyncEvent::from_dw0(cqe.dw0.get()), AsyncEvent::ANA_CHANGED);
    assert!(rig.answer(b.admin, at_b).is_none());
    let page = ana::Log::parse(&log(&mut rig, a.admin, LID_ANA, 4096)).unwrap();
    assert_eq!((page.change_count, page.groups.len()), (1, 2));
    assert_eq!((page.groups[0].state, page.groups[0].nsids.clone()), (State::Optimized, vec![1]));
    assert_eq!((page.groups[1].state, page.groups[1].change_count), (State::Inaccessible, 1));
    let page = ana::Log::parse(&log(&mut rig, b.admin, LID_ANA, 4096)).unwrap();
    assert_eq!((page.change_count, page.groups[1].state), (0, State::Optimized));
    let groups = GetLog { lsp: ana::LSP_GROUPS_ONLY, ..GetLog::new(LID_ANA, 4096) };
    let page = ana::Log::parse(&rig.get(a.admin, groups.to_sqe(), 4096)).unwrap();
    assert!(page.groups.iter().all(|group| group.nsids.is_empty()));
}

fn records(rig: &mut Rig, admin: interlock_target_core::ConnId) -> (u64, Vec<discovery::Record>) {
    let page = rig.get(admin, discovery::get_log(16_384).to_sqe(), 16_384);
    let log = discovery::Log::parse(&page).unwrap();
    (log.generation, log.records.into_iter().map(Result::unwrap).collect())
}

#[test]
fn discovery_shows_what_this_host_can_reach() {
    let mut config = config();
    let mut private = config.subsystems[0].clone();
    private.nqn = interlock_wire::nqn::Nqn::new("nqn.2026-01.test:private").unwrap();
    private.hosts = Hosts::List(vec![Host::new(2).nqn]);
    private.namespaces.clear();
    config.subsystems.push(private);
    config.ports[1].offers = Offers::Some(vec![S]);
    config.ports[1].address = SocketAddr::from(([0, 0, 0, 0], 4421));
    let mut rig = Rig::new(config);
    let host = Host { kato_ms: 30_000, ..Host::new(1) };
    let (admin, cntlid) = host.admin(&mut rig, A, DISCOVERY_NQN);
    set_cc(&mut rig, admin, Cc::new(false).with_enable(true));
    let id = identify(&mut rig, admin);
    assert_eq!((id.cntrltype, id.cntlid.get(), id.ccrl, id.nn.get()), (CNTRLTYPE_DISCOVERY, cntlid, 0, 0));
    let (generation, found) = records(&mut rig, admin);
    let short: Vec<_> = found.iter().map(|r| (r.kind, r.portid, r.traddr.as_str(), r.trsvcid)).collect();
    assert_eq!(
        short,
        [(Kind::Current, 1, "127.0.0.1", 4420), (Kind::Nvm, 1, "127.0.0.1", 4420), (Kind::Nvm, 2, "192.0.2.1", 4421),]
    );
    // The driver bound an ephemeral port: persistent readers are told.
    let aer = rig.submit(admin, admin::async_event_request(), &[], 0);
    rig.control.set_port_address(A, SocketAddr::from(([127, 0, 0, 1], 50_000)));
    rig.run();
    let (cqe, _) = rig.answer(admin, aer).unwrap();
    assert_eq!(AsyncEvent::from_dw0(cqe.dw0.get()), AsyncEvent::DISCOVERY_CHANGED);
    let (later, found) = records(&mut rig, admin);
    assert_eq!((later, found[0].trsvcid), (generation + 1, 50_000));
    let (cqe, _) = rig.ask(admin, Identify::ActiveNamespaces { after: 0 }.to_sqe(), &[], 4096);
    assert_eq!(cqe.status(), Status::INVALID_FIELD.with_dnr());
    let (other, _) = Host::new(2).admin(&mut rig, A, DISCOVERY_NQN);
    set_cc(&mut rig, other, Cc::new(false).with_enable(true));
    assert_eq!(records(&mut rig, other).1.len(), 4, "with the private one");
    // Without keep alive it ends when idle.
    rig.advance(29_000);
    rig.get(admin, admin::keep_alive(), 0);
    rig.advance(240_001);
    assert!(!rig.is_open(other) && !rig.is_open(admin));
    assert_eq!(rig.now, Instant::from_millis(1000 + 29_000 + 240_001));
}

#[test]
fn a_configuration_that_cannot_work_is_named() {
    let refused = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Control::new(config, 0).unwrap_err().to_string()
    };
    for (change, words) in [
        ((|c| c.ports[1].id = PortId(1)) as fn(&mut Config), "port 1 is there twice"),
        (|c| c.subsystems.push(c.subsystems[0].clone()), "is there twice"),
        (|c| c.lanes = 0, "lanes is 0; it must be 1 to 1024"),
        (|c| c.limits.max_transfer = 12_288, "power of two"),
        (|c| c.subsystems[0].cntlids = (5, 4), "highest CNTLID is 4"),
        (|c| c.subsystems[0].serial = "x".repeat(21), "at most 20 characters"),
        (|c| c.subsystems[0].namespaces.push(namespace(1)), "namespace 1 is there already"),
        (|c| c.subsystems[0].namespaces[0].block_shift = 10, "512 or 4096"),
        (|c| c.subsystems[0].namespaces[0].ana_group = 3, "ANA group 3 does not exist"),
    ] {
        let text = refused(change);
        assert!(text.contains(words), "{text}");
    }
}

/// The parts of an error log entry: count, queue, opcode, status, block, namespace.
fn errors(page: &[u8]) -> Vec<(u64, u16, u8, u16, u64, u32)> {
    let entries = page.chunks_exact(64).map(|bytes| ErrorEntry::read_from_bytes(bytes).unwrap());
    let parts = |entry: ErrorEntry| {
        let status = entry.status.get() >> 1;
        (entry.count.get(), entry.sqid.get(), entry.opcode, status, entry.lba.get(), entry.nsid.get())
    };
    entries.filter(|entry| entry.count.get() > 0).map(parts).collect()
}

#[test]
fn errors_are_logged_the_newest_first_and_counted() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    let b = Host::new(2).live(&mut rig, B);
    assert_eq!(identify(&mut rig, a.admin).elpe, 63);
    assert_eq!(errors(&log(&mut rig, a.admin, LID_ERROR, 4096)), []);
    let read = |slba| Command::Read { slba, nlb: 1, fua: false }.to_sqe(1);
    let (cqe, _) = rig.ask(a.io, read(BLOCKS), &[], 512);
    let beyond = cqe.status();
    rig.media_fails = Some(MediaResult::ReadFailed);
    let (cqe, _) = rig.ask(a.io, read(7), &[], 512);
    let unread = cqe.status();
    rig.media_fails = None;
    let (cqe, _) = rig.ask(a.admin, GetFeatures::current(0x7f).to_sqe(), &[], 0);
    let invalid = cqe.status();
    let page = log(&mut rig, a.admin, LID_ERROR, 4096);
    let all = errors(&page);
    let mut kinds: Vec<_> =
        all.iter().map(|(_, qid, opcode, status, lba, nsid)| (*qid, *opcode, *status, *lba, *nsid)).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [(0, 10, invalid.0, 0, 0), (1, 2, unread.0, 7, 1), (1, 2, beyond.0, BLOCKS, 1)]);
    assert_eq!(all.iter().map(|entry| entry.0).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!(log(&mut rig, a.admin, LID_ERROR, 4096), page, "the same errors have the same numbers");
    assert_eq!(errors(&log(&mut rig, b.admin, LID_ERROR, 4096)), [], "another controller had none");
    // More than there is room for: the last ones, and all are counted.
    for _ in 0..100 {
        rig.ask(a.io, read(BLOCKS), &[], 512);
    }
    let all = errors(&log(&mut rig, a.admin, LID_ERROR, 4096));
    assert_eq!((all.len(), all[0].0, all[63].0), (64, 103, 40));
}

#[test]
fn health_counts_what_hosts_move_on_all_lanes() {
    let mut rig = Rig::new(config());
    let (a, b) = (Host::new(1).live(&mut rig, A), Host::new(2).live(&mut rig, B));
    for n in 0..30 {
        let sqe = Command::Write { slba: n, nlb: 128, fua: false }.to_sqe(1);
        rig.submit(if n % 2 == 0 { a.io } else { b.io }, sqe, &[1; 65_536], 0);
    }
    for _ in 0..5 {
        a.read(&mut rig, 0);
    }
    rig.media_fails = Some(MediaResult::WriteFailed);
    b.write(&mut rig, 0, 1);
    rig.media_fails = None;
    rig.hang_up(b.admin);
    rig.advance(3_600_000);
    let smart = |rig: &mut Rig| Smart::read_from_bytes(&log(rig, a.admin, LID_SMART, 512)).unwrap();
    let page = smart(&mut rig);
    let counts = [page.host_writes, page.host_reads, page.data_units_written, page.data_units_read];
    assert_eq!(counts.map(|count| count.get()), [30, 5, 4, 1], "also of a controller that has gone");
    assert_eq!((page.media_errors.get(), page.error_entries.get(), page.power_on_hours.get()), (1, 0, 1));
    // A lane that does not answer is not waited for; a reset takes the question along.
    rig.cut_off.insert(LANE_B);
    let token = rig.submit(a.admin, GetLog::new(LID_SMART, 512).to_sqe(), &[], 512);
    assert!(rig.answer(a.admin, token).is_none());
    rig.advance(100);
    assert!(rig.answer(a.admin, token).is_some());
    let token = rig.submit(a.admin, GetLog::new(LID_ERROR, 512).to_sqe(), &[], 512);
    set_cc(&mut rig, a.admin, Cc::new(false));
    rig.cut_off.clear();
    rig.advance(1000);
    assert!(rig.answer(a.admin, token).is_none());
}

//! What is built is read back as the same.

use interlock_wire::{
    admin::{Abort, AsyncEvent, Command as Admin, GetFeatures, GetLog, Identify, QueueCount, Select, SetFeatures},
    ana, ccr,
    discovery::{self, Family, Kind, Record, RecordError, SecureChannel, Security},
    fabrics::{Command as Fabrics, Connect, PropertyGet, PropertySet, PropertySize, disconnect},
    identify::{self, DescriptorError, ListError, NamespaceIds},
    log::{ChangedNamespaces, Effects, EffectsLog, SupportedLogs},
    nqn::Nqn,
    nvm::Command as Nvm,
    sqe::{Sgl, Sqe},
    status::Status,
};
use proptest::{collection::vec, prelude::*};

#[test]
fn fabrics_commands() {
    for command in [
        Fabrics::Connect(Connect { qid: 0xFFFF, sqsize: 31, sq_flow_control: true, kato_ms: u32::MAX }),
        Fabrics::PropertyGet(PropertyGet::CAP),
        Fabrics::PropertySet(PropertySet { offset: 0x14, size: PropertySize::Four, value: 0x46_0001 }),
        Fabrics::PropertySet(PropertySet { offset: 0x30, size: PropertySize::Eight, value: u64::MAX }),
        Fabrics::Disconnect,
    ] {
        let sqe = match command {
            Fabrics::Connect(c) => c.to_sqe(),
            Fabrics::PropertyGet(c) => c.to_sqe(),
            Fabrics::PropertySet(c) => c.to_sqe(),
            _ => disconnect(),
        };
        assert_eq!(Fabrics::from_sqe(&sqe), Ok(command));
        assert_eq!(sqe.check_flags(), Ok(()));
    }
    assert!(Fabrics::from_sqe(&Sqe::fabrics(0xC0)).expect_err("vendor specific").is(Status::INVALID_FIELD));
    let mut bad = PropertyGet::CC.to_sqe();
    bad.cdw10.set(2);
    assert!(PropertyGet::from_sqe(&bad).expect_err("no such size").is(Status::INVALID_FIELD));
    assert!(Fabrics::Disconnect.allowed_on_io_queue() && !Fabrics::PropertyGet(PropertyGet::CC).allowed_on_io_queue());
}

#[test]
fn admin_commands() {
    let nsid = 9;
    for command in [
        Admin::GetLog(GetLog::new(0x70, 4096).at(1 << 40)),
        Admin::Identify(Identify::Namespace { nsid }),
        Admin::Identify(Identify::Controller),
        Admin::Identify(Identify::ActiveNamespaces { after: nsid }),
        Admin::Identify(Identify::Descriptors { nsid }),
        Admin::Identify(Identify::NamespaceCsi { nsid, csi: 1 }),
        Admin::Identify(Identify::ControllerCsi { csi: 0 }),
        Admin::Identify(Identify::NamespaceIndependent { nsid }),
        Admin::Abort(Abort { sqid: 3, cid: 0x8001 }),
        Admin::SetFeatures(SetFeatures::queues(QueueCount::pairs(65_535))),
        Admin::SetFeatures(SetFeatures { fid: 6, save: true, nsid, cdw11: 1 }),
        Admin::GetFeatures(GetFeatures { fid: 0x0F, select: Select::Capabilities, nsid: 0 }),
        Admin::AsyncEventRequest,
        Admin::KeepAlive,
    ] {
        assert_eq!(Admin::from_sqe(&command.to_sqe()), Ok(command));
        assert_eq!(command.to_sqe().check_flags(), Ok(()));
        assert!(!command.is_media_changing());
    }
}

#[test]
fn sgls() {
    for sgl in [
        Sgl::InCapsule { len: 1024 },
        Sgl::Transport { len: 4096 },
        Sgl::NONE,
        Sgl::Unsupported { kind: 0x40, address: 5, len: 6 },
        Sgl::Unsupported { kind: Sgl::KIND_IN_CAPSULE, address: 8, len: 16 },
    ] {
        let mut sqe = Sqe::new(1);
        sqe.set_sgl(sgl);
        assert_eq!(sqe.sgl(), sgl);
    }
}

#[test]
fn namespace_lists() {
    let page = identify::encode_list([1, 2, 500]);
    assert_eq!(page.len(), 4096);
    assert_eq!(identify::parse_list(&page, 0), Ok(vec![1, 2, 500]));
    assert_eq!(identify::parse_list(&page, 1), Err(ListError::NotAscending { before: 1, next: 1 }));
    assert_eq!(identify::parse_list(&identify::encode_list([u32::MAX]), 0), Err(ListError::BadNamespace(u32::MAX)));
    assert_eq!(identify::parse_list(&identify::encode_list(1..=2000), 0).map(|list| list.len()), Ok(1024));

    let these = ChangedNamespaces::These(vec![3, 7]);
    assert_eq!(ChangedNamespaces::parse(&these.encode()), these);
    assert_eq!(ChangedNamespaces::parse(&ChangedNamespaces::Overflow.encode()), ChangedNamespaces::Overflow);
    let many = ChangedNamespaces::These((1..=1025).collect());
    assert_eq!(ChangedNamespaces::parse(&many.encode()), ChangedNamespaces::Overflow);
}

#[test]
fn namespace_identifiers() {
    let ids = NamespaceIds { eui64: Some([1; 8]), nguid: Some([2; 16]), uuid: Some([3; 16]), csi: Some(0) };
    let page = ids.encode();
    assert_eq!(page.len(), 4096);
    assert_eq!(NamespaceIds::parse(&page), Ok(ids));
    assert!(ids.is_known() && !NamespaceIds { csi: Some(0), ..NamespaceIds::default() }.is_known());
    assert_eq!(NamespaceIds::parse(&[]), Ok(NamespaceIds::default()));
    assert_eq!(NamespaceIds::parse(&page[..20]), Err(DescriptorError::Truncated(12)));
    assert_eq!(
        NamespaceIds::parse(&[2, 8, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]),
        Err(DescriptorError::Length { at: 0, nidt: 2, nidl: 8 })
    );
    assert_eq!(NamespaceIds::parse(&[4, 1, 0, 0, 1, 4, 1, 0, 0, 2]), Err(DescriptorError::Twice(4)));
    assert_eq!(NamespaceIds::parse(&[9, 1, 0, 0, 1, 4, 1, 0, 0, 2]).map(|ids| ids.csi), Ok(Some(2)), "unknown skipped");
    let mut zero = vec![1, 8, 0, 0];
    zero.extend([0; 8]);
    assert_eq!(NamespaceIds::parse(&zero), Ok(NamespaceIds::default()), "an identifier of zeros identifies nothing");
}

fn ana_log() -> ana::Log {
    let group = |id, state, nsids: &[u32]| ana::Group { id, change_count: 4, state, nsids: nsids.to_vec() };
    ana::Log {
        change_count: 9,
        groups: vec![
            group(1, ana::State::Optimized, &[1, 4]),
            group(2, ana::State::Inaccessible, &[2]),
            group(7, ana::State::Change, &[]),
        ],
    }
}

#[test]
fn ana_logs() {
    use ana::LogError;
    let log = ana_log();
    let page = log.encode(false);
    assert_eq!(page.len() as u64, ana::Log::max_len(3, 3));
    assert_eq!(ana::Log::parse(&page), Ok(log.clone()));
    let mut longer = page.clone();
    longer.resize(4096, 0);
    assert_eq!(ana::Log::parse(&longer), Ok(log.clone()), "read with room to spare");
    let groups = ana::Log::parse(&log.encode(true)).expect("groups only");
    assert!(groups.groups.iter().all(|group| group.nsids.is_empty()) && groups.groups.len() == 3);
    assert_eq!(log.state_of(4), Some(ana::State::Optimized));
    assert_eq!(log.state_of(3), None);
    assert_eq!(log.group(2).map(|group| group.state), Some(ana::State::Inaccessible));

    let spoil = |at: usize, byte: u8| {
        let mut page = page.clone();
        page[at] = byte;
        ana::Log::parse(&page)
    };
    // Groups begin at 16, 56 and 92.
    assert_eq!(ana::Log::parse(&page[..15]), Err(LogError::NoHeader(15)));
    assert_eq!(ana::Log::parse(&page[..page.len() - 1]), Err(LogError::Truncated { index: 2, groups: 3 }));
    assert_eq!(spoil(8, 4), Err(LogError::Truncated { index: 3, groups: 4 }));
    assert_eq!(spoil(23, 0xFF), Err(LogError::Truncated { index: 0, groups: 3 }), "4 billion namespaces do not fit");
    assert_eq!(spoil(16, 0), Err(LogError::GroupZero));
    assert_eq!(spoil(16, 7), Err(LogError::GroupTwice(7)));
    assert_eq!(spoil(32, 0), Err(LogError::UnknownState { group: 1, state: 0 }));
    assert_eq!(spoil(32, 5), Err(LogError::UnknownState { group: 1, state: 5 }));
    assert_eq!(spoil(48, 0), Err(LogError::BadNamespace { group: 1, nsid: 0 }));
    assert_eq!(spoil(48, 2), Err(LogError::NamespaceTwice(2)));
}

#[test]
fn ana_states() {
    for state in ana::State::ALL {
        assert_eq!(ana::State::from_u8(state as u8), Some(state));
        assert_eq!(state.is_usable(), state.status().is_none(), "{state}");
        assert!(state.status().is_none_or(Status::is_ana), "{state}");
    }
}

#[test]
fn reset_logs() {
    let entry = |icid, state| ccr::Entry { icid, ciu: 7, acid: 0, state, flags: 1 };
    let entries = [entry(1, ccr::State::InProgress), entry(2, ccr::State::Success), entry(3, ccr::State::Failed)];
    let page = ccr::encode_log(&entries);
    assert_eq!(page.len(), 4096);
    assert_eq!(ccr::parse_log(&page).expect("well formed"), entries);
    let full = ccr::encode_log(&[entries[0]; 600]);
    assert_eq!((full.len(), ccr::parse_log(&full).expect("well formed").len()), (4096, 511));
}

fn record() -> Record {
    Record {
        kind: Kind::Nvm,
        family: Family::Ipv6,
        traddr: "fd00::1".into(),
        trsvcid: 4420,
        subnqn: Nqn::new("nqn.2024-01.io.example:disk").expect("a name"),
        portid: 2,
        cntlid: 0xFFFF,
        asqsz: 32,
        eflags: discovery::EFLAG_EPCSD,
        secure_channel: SecureChannel::NotRequired,
        may_disable_sq_flow_control: true,
        security: Security::None,
    }
}

#[test]
fn discovery_logs() {
    use discovery::{Log, LogError};
    let mut other = record();
    (other.kind, other.family, other.security) = (Kind::Current, Family::Ipv4, Security::Tls13);
    (other.subnqn, other.traddr) = (Nqn::discovery(), "192.0.2.7".into());
    let records = [record(), other];
    let page = Log::encode(77, &records);
    let log = Log::parse(&page).expect("well formed");
    assert_eq!(log.generation, 77);
    let read: Vec<Record> = log.records.into_iter().map(|record| record.expect("usable")).collect();
    assert_eq!(read, records);

    assert_eq!(Log::parse(&page[..1000]), Err(LogError::NoHeader(1000)));
    assert_eq!(Log::parse(&page[..2100]), Err(LogError::Truncated { claimed: 2, present: 1 }));
    let spoil = |at: usize, byte: u8| {
        let mut page = page.clone();
        page[at] = byte;
        Log::parse(&page)
    };
    assert_eq!(spoil(16, 1), Err(LogError::Format(1)));
    assert_eq!(spoil(15, 0xFF), Err(LogError::Truncated { claimed: 0xFF00_0000_0000_0002, present: 2 }));
    let first = |at: usize, byte| spoil(1024 + at, byte).expect("the page is good").records.remove(0);
    assert_eq!(first(0, 1), Err(RecordError::Transport(1)));
    assert_eq!(first(1, 4), Err(RecordError::Family(4)));
    assert_eq!(first(2, 9), Err(RecordError::Kind(9)));
    assert_eq!(first(32, b'x'), Err(RecordError::Service("x420".into())));
    assert_eq!(first(512, 0), Err(RecordError::NoAddress));
    assert!(matches!(first(256, 0), Err(RecordError::Name(_))));
    // Others pad with spaces, and one bad record leaves the rest usable.
    let mut entry = record().to_entry();
    entry.traddr[7..].fill(b' ');
    entry.trsvcid[4..].fill(b' ');
    assert_eq!(entry.parse(), Ok(record()));
    assert!(spoil(1024, 1).expect("the page is good").records[1].is_ok());
}

#[test]
fn capability_logs() {
    let logs = SupportedLogs::of(&[0x02, 0x1E]);
    assert!(logs.has(0x1E) && logs.has(0x02) && !logs.has(0x0C));
    let mut effects = EffectsLog::default();
    effects.set_admin(0x38, Effects::SUPPORTED | Effects::CONTROLLER_CHANGE);
    effects.set_io(0x01, Effects::SUPPORTED | Effects::BLOCK_CHANGE);
    assert!(effects.admin(0x38).contains(Effects::SUPPORTED) && effects.io(0x38).is_empty());
    assert!(effects.io(0x01).contains(Effects::BLOCK_CHANGE));
}

proptest! {
    #[test]
    fn nvm_commands(slba in any::<u64>(), nlb in 1u32..=65_536, a in any::<bool>(), b in any::<bool>(), ranges in 1u16..=256) {
        for command in [
            Nvm::Flush,
            Nvm::Read { slba, nlb, fua: a },
            Nvm::Write { slba, nlb, fua: a },
            Nvm::WriteUncorrectable { slba, nlb },
            Nvm::Compare { slba, nlb, fua: a },
            Nvm::WriteZeroes { slba, nlb, deallocate: b, fua: a },
            Nvm::Dsm { ranges, deallocate: b },
            Nvm::Verify { slba, nlb },
        ] {
            let sqe = command.to_sqe(5);
            prop_assert_eq!(Nvm::from_sqe(&sqe), Ok(command));
            prop_assert_eq!(sqe.nsid.get(), 5);
            prop_assert_eq!(sqe.opcode, command.opcode());
        }
    }

    #[test]
    fn events(kind in 0u8..8, info in any::<u8>(), log in any::<u8>()) {
        let event = AsyncEvent { kind, info, log };
        prop_assert_eq!(AsyncEvent::from_dw0(event.to_dw0()), event);
    }

    #[test]
    fn ana_logs_of_any_shape(states in vec((0usize..5, 0usize..4, any::<u64>()), 0..20), change_count in any::<u64>()) {
        let mut next = 0;
        let groups = states
            .into_iter()
            .enumerate()
            .map(|(at, (state, members, change_count))| ana::Group {
                id: at as u32 + 1,
                change_count,
                state: ana::State::ALL[state],
                nsids: (0..members).map(|_| { next += 3; next }).collect(),
            })
            .collect();
        let log = ana::Log { change_count, groups };
        prop_assert_eq!(ana::Log::parse(&log.encode(false)), Ok(log));
    }
}

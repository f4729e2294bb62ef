//! One body per group of parsers: any bytes have an answer, never more than what was given, and what is understood is
//! understood the same way when it is written again.

use crate::input::Input;
use crate::pdus::{Pdus, Read};
use interlock_wire::admin::{self, AsyncEvent, GetLog};
use interlock_wire::fabrics::{self, ConnectAnswer, ConnectData, InvalidParameter};
use interlock_wire::identify::{
    IdentifyController, IdentifyNamespace, NamespaceIds, NamespaceIndependent, NvmNamespace, parse_list,
};
use interlock_wire::log::{self, ChangedNamespaces, ErrorEntry, SupportedLogs};
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::nvm::{self, DsmRange};
use interlock_wire::pdu::{
    Agreed, C2hData, CapsuleCmd, CommonHeader, Direction, Fes, H2cData, IcReq, IcResp, Layout, PduType, R2t, TermReq,
    validate,
};
use interlock_wire::sqe::{Cqe, Sqe};
use interlock_wire::{FromBytes, FromZeros, IntoBytes, ana, ccr, discovery};

fn agreed(input: &mut Input<'_>) -> Agreed {
    let bits = input.byte();
    Agreed {
        hdgst: bits & 1 != 0,
        ddgst: bits & 2 != 0,
        ready: bits & 4 == 0,
        align: if bits & 8 == 0 { 4 } else { (u32::from(input.byte() & 31) + 1) * 4 },
        max_data: if bits & 16 == 0 { 131_072 } else { input.dword() },
        max_in_capsule: if bits & 32 == 0 { 8192 } else { input.dword() },
    }
}

/// The common header for both roles, every header's own checks, and a stream cut into PDUs.
pub(crate) fn pdu(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let agreed = agreed(&mut input);
    let rest = input.rest();
    let mut head = [0; 128];
    let len = rest.len().min(128);
    head[..len].copy_from_slice(&rest[..len]);
    let common = CommonHeader::read_from_prefix(&head).expect("128 bytes").0;
    for dir in [Direction::ToController, Direction::ToHost] {
        match validate(dir, &common, &agreed) {
            Err(fatal) => assert!(fatal.fei <= 4 && !fatal.why.is_empty()),
            Ok(layout) => understood(dir, &head, &layout, &agreed, common.plen.get()),
        }
        let mut pdus = Pdus::new(dir, agreed);
        pdus.push(rest);
        while let Read::Pdu(pdu) = pdus.read() {
            assert!(pdu.data.len() <= rest.len());
        }
    }
}

/// What the validator lets through, it describes truthfully and within every agreed bound.
fn understood(dir: Direction, head: &[u8; 128], layout: &Layout, agreed: &Agreed, plen: u32) {
    assert_eq!((layout.total(), layout.pdu.direction()), (u64::from(plen), dir));
    assert!(layout.head_total <= 132 && layout.pad <= 128);
    let bound = match layout.pdu {
        PduType::CapsuleCmd => agreed.max_in_capsule,
        PduType::H2cData | PduType::C2hData => agreed.max_data,
        PduType::H2cTermReq | PduType::C2hTermReq => 128,
        _ => 0,
    };
    assert!(layout.data <= bound);
    let request = IcReq::new(true, false, 4, 0);
    match layout.pdu {
        PduType::IcReq => {
            let req = IcReq::read_from_bytes(head).expect("128 bytes");
            if req.check().is_ok() {
                assert!((4..=128).contains(&req.align()));
            }
        }
        PduType::IcResp => {
            let resp = IcResp::read_from_bytes(head).expect("128 bytes");
            if resp.check(&request).is_ok() {
                assert!(!resp.ddgst() && resp.maxh2cdata.get() >= 4096 && resp.align() <= 128);
            }
        }
        PduType::CapsuleCmd => {
            let _ = CapsuleCmd::read_from_bytes(&head[..72]).expect("72 bytes").check(layout);
        }
        PduType::H2cData => {
            let data = H2cData::read_from_bytes(&head[..24]).expect("24 bytes");
            if data.check(layout, agreed).is_ok() {
                assert_eq!(data.datal.get(), layout.data);
            }
        }
        PduType::C2hData => {
            let data = C2hData::read_from_bytes(&head[..24]).expect("24 bytes");
            if data.check(layout).is_ok() {
                assert_eq!(data.datal.get(), layout.data);
            }
        }
        PduType::R2t => {
            let r2t = R2t::read_from_bytes(&head[..24]).expect("24 bytes");
            if r2t.check(4096, 65_536).is_ok() {
                assert!(r2t.r2tl.get() > 0 && r2t.r2to.get() == 4096 && r2t.r2tl.get() <= 61_440);
            }
        }
        PduType::H2cTermReq | PduType::C2hTermReq => {
            let term = TermReq::decode(head).expect("24 bytes");
            if let Some(fes) = Fes::from_u16(term.fes.get()) {
                assert_eq!(fes as u16, term.fes.get());
            }
        }
        PduType::CapsuleResp => {}
    }
}

/// Submission and completion queue entries of every kind.
pub(crate) fn commands(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let blocks = input.qword();
    let sqe = Sqe::read_from_bytes(&input.array::<64>()).expect("64 bytes");
    let _ = (sqe.sgl().len(), sqe.data_direction(), sqe.check_flags());
    let _ = (nvm::late_effect(&sqe), admin::late_effect(&sqe));
    if let Ok(command) = nvm::Command::from_sqe(&sqe) {
        assert_eq!(nvm::Command::from_sqe(&command.to_sqe(1)), Ok(command));
        let _ = command.data_len(u32::MAX);
        if let (Ok(()), Some((slba, nlb))) = (command.check_range(blocks), command.blocks()) {
            assert!(slba.checked_add(u64::from(nlb)).is_some_and(|end| end <= blocks));
        }
    }
    if let Ok(command) = admin::Command::from_sqe(&sqe) {
        assert_eq!(admin::Command::from_sqe(&command.to_sqe()), Ok(command));
    }
    if let Ok(fabrics::Command::Connect(connect)) = fabrics::Command::from_sqe(&sqe) {
        assert_eq!(fabrics::Connect::from_sqe(&connect.to_sqe()), Ok(connect));
    }
    let cqe = Cqe::read_from_bytes(&input.array::<16>()).expect("16 bytes");
    assert!(!cqe.status().to_string().is_empty());
    assert_eq!(cqe.with_status(cqe.status()).status(), cqe.status());
    let dw0 = cqe.dw0.get();
    let _ = (AsyncEvent::from_dw0(dw0).to_string(), AsyncEvent::from_dw0(dw0).mask());
    let _ = (ConnectAnswer::from_dw0(dw0), InvalidParameter::from_dw0(dw0).to_string());
    let count = input.word() % 300;
    let rest = input.rest();
    if let Ok(ranges) = DsmRange::decode(rest, count) {
        assert_eq!(ranges.len(), usize::from(count));
    }
    if let Some(data) = ConnectData::decode(rest) {
        let _ = (data.subnqn(), data.hostnqn(), data.hostid().to_string());
    }
}

/// Identify pages, short ones included.
pub(crate) fn identify(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (after, mpsmin) = (input.dword(), input.byte());
    let rest = input.rest();
    let mut page = [0; 4096];
    let len = rest.len().min(page.len());
    page[..len].copy_from_slice(&rest[..len]);
    let id = IdentifyController::read_from_bytes(&page).expect("4096 bytes");
    let _ = (id.subnqn(), id.serial(), id.model(), id.firmware(), id.instance(), id.max_namespaces());
    let _ = (id.max_transfer(mpsmin), id.retry_delay(mpsmin), id.in_capsule_io());
    let _ = (id.command_quiesce_time(), id.keep_alive_granularity(), id.events(), id.optional_commands());
    let ns = IdentifyNamespace::read_from_bytes(&page).expect("4096 bytes");
    if let Ok(geometry) = ns.geometry() {
        assert!(geometry.block_size.is_power_of_two() && geometry.block_size >= 512);
        assert!(geometry.blocks.checked_mul(u64::from(geometry.block_size)).is_some());
    }
    let _ = (NamespaceIndependent::read_from_bytes(&page), NvmNamespace::read_from_bytes(&page));
    if let Ok(list) = parse_list(rest, after) {
        assert!(list.len() <= 1024 && list.first().is_none_or(|first| *first > after));
        assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
    }
    if let Ok(ids) = NamespaceIds::parse(rest) {
        assert_eq!(NamespaceIds::parse(&ids.encode()), Ok(ids));
    }
}

/// Log pages, CCR and ANA among them, and what a target cuts out of one.
pub(crate) fn logs(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (offset, dwords) = (if input.flag() { input.qword() } else { u64::from(input.word()) }, input.word());
    let rest = input.rest();
    if let Ok(log) = ana::Log::parse(rest) {
        assert!(log.groups.len() <= rest.len() / 32);
        assert!(log.groups.iter().map(|group| group.nsids.len()).sum::<usize>() <= rest.len() / 4);
        assert!(log.groups.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert_eq!(ana::Log::parse(&log.encode(false)), Ok(log));
    }
    if let Ok(entries) = ccr::parse_log(rest) {
        assert!(entries.len() <= rest.len() / 8);
        assert_eq!(ccr::parse_log(&ccr::encode_log(&entries)), Ok(entries));
    }
    let changed = ChangedNamespaces::parse(rest);
    assert_eq!(ChangedNamespaces::parse(&changed.encode()), changed);
    let mut supported = SupportedLogs::new_zeroed();
    let len = rest.len().min(supported.as_bytes().len());
    supported.as_mut_bytes()[..len].copy_from_slice(&rest[..len]);
    let _ = (0..=255).filter(|lid| supported.has(*lid)).count();
    let _ = ErrorEntry::read_from_prefix(rest);
    let get = GetLog::new(2, (u32::from(dwords) + 1) * 4).at(offset & !3);
    match log::slice(rest, &get, 4096) {
        Ok(out) => {
            assert_eq!(out.len() as u64, u64::from(get.len));
            let from = usize::try_from(get.offset).expect("an offset within the page");
            let common = (rest.len() - from).min(out.len());
            assert_eq!(out[..common], rest[from..from + common]);
            assert!(out[common..].iter().all(|byte| *byte == 0));
        }
        Err(_) => assert!(get.len > 4096 || get.offset > rest.len() as u64),
    }
}

/// The discovery log.
pub(crate) fn discovery(bytes: &[u8]) {
    if let Ok(log) = discovery::Log::parse(bytes) {
        assert!(log.records.len() < bytes.len().div_ceil(1024));
    }
    // A page with one entry: what is accepted reads the same when it is written again.
    let mut entry = [0; 1024];
    let len = bytes.len().min(entry.len());
    entry[..len].copy_from_slice(&bytes[..len]);
    let entry = discovery::Entry::read_from_bytes(&entry).expect("1024 bytes");
    // Only an address that leaves no room for its terminator is cut by a byte.
    if let Ok(record) = entry.parse()
        && record.traddr.len() < entry.traddr.len()
    {
        assert_eq!(record.to_entry().parse(), Ok(record));
    }
}

/// NQNs and Host Identifiers, as text and as fields.
pub(crate) fn names(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(nqn) = Nqn::new(text) {
            assert_eq!(Nqn::from_field(&nqn.to_field()), Ok(nqn));
        }
        if let Ok(id) = text.parse::<HostId>() {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
    let mut field = [0; 256];
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
    if let Ok(nqn) = Nqn::from_field(&field) {
        assert_eq!(Nqn::new(nqn.as_str()), Ok(nqn));
    }
}

/// The file of lives.
pub(crate) fn lives_file(bytes: &[u8]) {
    interlock_host::fuzz_lives(bytes);
}

/// An NBD client.
pub(crate) fn nbd(bytes: &[u8]) {
    interlock_export::fuzz_nbd(bytes);
}

/// What the daemon remembers.
pub(crate) fn record_file(bytes: &[u8]) {
    interlock_daemon::fuzz_record(bytes);
}

/// Configuration files: ours and those of nvme-cli.
pub(crate) fn config_files(bytes: &[u8]) {
    interlock_daemon::fuzz_config(bytes);
}

/// Bodies of requests to the control socket.
pub(crate) fn requests(bytes: &[u8]) {
    interlock_daemon::fuzz_requests(bytes);
}

/// A target's configuration file.
pub(crate) fn target_file(bytes: &[u8]) {
    interlock_target::fuzz_file(bytes);
}

/// Lines of a target's control channel.
pub(crate) fn target_channel(bytes: &[u8]) {
    interlock_target::fuzz_channel(bytes);
}

/// What answers on the daemon's control socket.
pub(crate) fn answers(bytes: &[u8]) {
    interlock_api::fuzz_answer(bytes);
}

/// The proxy's view of a stream.
pub(crate) fn proxy_frames(bytes: &[u8]) {
    interlock_drill::fuzz_frames(bytes);
}

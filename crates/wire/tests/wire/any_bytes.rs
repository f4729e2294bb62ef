//! Any bytes into every parser: an answer, never a panic, never more than what was given.

use interlock_wire::{
    FromBytes,
    admin::{self, AsyncEvent, GetLog},
    ana, ccr, discovery,
    fabrics::{self, ConnectAnswer, ConnectData, InvalidParameter},
    identify::{self, IdentifyController, IdentifyNamespace, NamespaceIds},
    log::{self, ChangedNamespaces},
    nqn::{HostId, Nqn},
    nvm::{self, DsmRange},
    pdu::{
        Agreed, C2hData, CapsuleCmd, CommonHeader, Direction, Fes, H2cData, IcReq, IcResp, PduType, R2t, TermReq,
        validate,
    },
    sqe::{Cqe, Sqe},
};
use proptest::{collection::vec, prelude::*};

/// Bytes that look a little like a page: mostly zero, so that counts stay small and parsers get further.
fn page() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![6 => Just(0u8), 2 => 0u8..5, 1 => any::<u8>()];
    prop_oneof![vec(any::<u8>(), 0..600), vec(byte, 0..2600)]
}

fn agreed() -> impl Strategy<Value = Agreed> {
    (any::<bool>(), any::<bool>(), 1u32..=32, any::<u32>(), any::<u32>(), any::<bool>()).prop_map(
        |(hdgst, ddgst, dwords, max_data, max_in_capsule, ready)| Agreed {
            hdgst,
            ddgst,
            align: dwords * 4,
            max_data,
            max_in_capsule,
            ready,
        },
    )
}

proptest! {
    #[test]
    fn logs(bytes in page(), after in any::<u32>(), count in 0u16..300) {
        if let Ok(log) = ana::Log::parse(&bytes) {
            prop_assert!(log.groups.len() <= bytes.len() / 32);
            prop_assert!(log.groups.iter().map(|g| g.nsids.len()).sum::<usize>() <= bytes.len() / 4);
            prop_assert!(log.groups.windows(2).all(|pair| pair[0].id < pair[1].id));
        }
        if let Ok(log) = discovery::Log::parse(&bytes) {
            prop_assert!(log.records.len() < bytes.len().div_ceil(1024));
        }
        if let Ok(entries) = ccr::parse_log(&bytes) {
            prop_assert!(entries.len() <= bytes.len() / 8);
        }
        if let Ok(list) = identify::parse_list(&bytes, after) {
            prop_assert!(list.len() <= 1024 && list.first().is_none_or(|first| *first > after));
            prop_assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
        }
        if let Ok(ranges) = DsmRange::decode(&bytes, count) {
            prop_assert_eq!(ranges.len(), usize::from(count));
        }
        let _ = (NamespaceIds::parse(&bytes), ChangedNamespaces::parse(&bytes), ConnectData::decode(&bytes));
    }

    #[test]
    fn structures(seed in vec(any::<u8>(), 4096)) {
        let id = IdentifyController::read_from_bytes(&seed).expect("4096 bytes");
        let _ = (id.subnqn(), id.serial(), id.model(), id.firmware(), id.instance(), id.max_namespaces());
        for n in [0, 1, 15, 255] {
            let _ = (id.max_transfer(n), id.retry_delay(n));
        }
        let _ = (id.in_capsule_io(), id.command_quiesce_time(), id.keep_alive_granularity());
        let ns = IdentifyNamespace::read_from_bytes(&seed).expect("4096 bytes");
        if let Ok(geometry) = ns.geometry() {
            prop_assert!(geometry.block_size.is_power_of_two() && geometry.block_size >= 512);
            prop_assert!(geometry.blocks.checked_mul(u64::from(geometry.block_size)).is_some());
        }
        let entry = discovery::Entry::read_from_bytes(&seed[..1024]).expect("1024 bytes");
        let _ = entry.parse();
        let data = ConnectData::read_from_bytes(&seed[1024..2048]).expect("1024 bytes");
        let _ = (data.subnqn(), data.hostnqn(), data.hostid().to_string());
    }

    #[test]
    fn commands(raw in any::<[u8; 64]>(), opcode in prop_oneof![any::<u8>(), Just(0x7F), Just(0x38), 0u8..0x20]) {
        let mut sqe = Sqe::read_from_bytes(&raw).expect("64 bytes");
        sqe.opcode = opcode;
        let _ = (sqe.sgl().len(), sqe.data_direction(), sqe.check_flags());
        let _ = (fabrics::Command::from_sqe(&sqe), nvm::late_effect(&sqe), admin::late_effect(&sqe));
        if let Ok(command) = nvm::Command::from_sqe(&sqe) {
            prop_assert_eq!(nvm::Command::from_sqe(&command.to_sqe(1)), Ok(command));
            let _ = (command.check_range(u64::MAX), command.data_len(u32::MAX));
        }
        if let Ok(command) = admin::Command::from_sqe(&sqe) {
            prop_assert_eq!(admin::Command::from_sqe(&command.to_sqe()), Ok(command));
        }
    }

    #[test]
    fn completions(raw in any::<[u8; 16]>()) {
        let cqe = Cqe::read_from_bytes(&raw).expect("16 bytes");
        prop_assert!(!cqe.status().to_string().is_empty());
        prop_assert_eq!(cqe.with_status(cqe.status()).status(), cqe.status());
        let dw0 = cqe.dw0.get();
        let _ = (AsyncEvent::from_dw0(dw0).to_string(), AsyncEvent::from_dw0(dw0).mask());
        let _ = (ConnectAnswer::from_dw0(dw0), InvalidParameter::from_dw0(dw0).to_string());
    }

    /// What the validator lets through, it describes truthfully and within every agreed bound.
    #[test]
    fn validator(
        raw in any::<[u8; 8]>(),
        kind in 0u8..12,
        hlen in prop_oneof![Just(24u8), Just(72), Just(128), any::<u8>()],
        plen in prop_oneof![0u32..300, any::<u32>()],
        agreed in agreed(),
        to_host in any::<bool>(),
    ) {
        let mut ch = CommonHeader::read_from_bytes(&raw).expect("8 bytes");
        (ch.pdu_type, ch.hlen) = (kind, hlen);
        ch.flags &= 0xF;
        ch.plen.set(plen);
        let dir = if to_host { Direction::ToHost } else { Direction::ToController };
        match validate(dir, &ch, &agreed) {
            Err(fatal) => prop_assert!(fatal.fei <= 4 && !fatal.why.is_empty()),
            Ok(layout) => {
                prop_assert_eq!(layout.total(), u64::from(plen));
                prop_assert_eq!(layout.pdu.direction(), dir);
                prop_assert!(layout.head_total <= 132 && layout.pad <= 128);
                let bound = match layout.pdu {
                    PduType::CapsuleCmd => agreed.max_in_capsule,
                    PduType::H2cData | PduType::C2hData => agreed.max_data,
                    PduType::H2cTermReq | PduType::C2hTermReq => 128,
                    _ => 0,
                };
                prop_assert!(layout.data <= bound);
            }
        }
    }

    #[test]
    fn headers(raw in vec(any::<u8>(), 128), agreed in agreed(), data in any::<u32>(), a in any::<u32>(), b in any::<u32>()) {
        let layout = interlock_wire::pdu::Layout {
            pdu: PduType::CapsuleCmd, header: 72, head_total: 72, pad: 0, data, ddgst: false,
        };
        let req = IcReq::read_from_bytes(&raw).expect("128 bytes");
        let _ = req.check().map(|()| req.align());
        let _ = IcResp::read_from_bytes(&raw).expect("128 bytes").check(&req);
        let _ = CapsuleCmd::read_from_bytes(&raw[..72]).expect("72 bytes").check(&layout);
        let _ = H2cData::read_from_bytes(&raw[..24]).expect("24 bytes").check(&layout, &agreed);
        let _ = C2hData::read_from_bytes(&raw[..24]).expect("24 bytes").check(&layout);
        let _ = R2t::read_from_bytes(&raw[..24]).expect("24 bytes").check(a, b);
        let req = TermReq::decode(&raw).expect("24 bytes");
        let _ = Fes::from_u16(req.fes.get());
    }

    #[test]
    fn slices(page in vec(any::<u8>(), 0..5000), offset in prop_oneof![0u64..6000, any::<u64>()], dwords in 1u32..2000) {
        let get = GetLog::new(2, dwords * 4).at(offset);
        match log::slice(&page, &get, 4096) {
            Ok(out) => {
                prop_assert_eq!(out.len() as u32, get.len);
                prop_assert!(get.len <= 4096 && offset <= page.len() as u64);
                let rest = &page[offset as usize..];
                let common = rest.len().min(out.len());
                prop_assert_eq!(&out[..common], &rest[..common]);
                prop_assert!(out[common..].iter().all(|b| *b == 0));
            }
            Err(_) => prop_assert!(get.len > 4096 || offset > page.len() as u64),
        }
    }

    #[test]
    fn names(text in any::<String>(), field in vec(any::<u8>(), 256), id in any::<[u8; 16]>()) {
        if let Ok(nqn) = Nqn::new(text) {
            prop_assert_eq!(Nqn::from_field(&nqn.to_field()), Ok(nqn));
        }
        let field: [u8; 256] = field.try_into().expect("256 bytes");
        let _ = Nqn::from_field(&field);
        let id = HostId(id);
        prop_assert!(id.is_zero() || id.to_string().parse() == Ok(id));
    }
}

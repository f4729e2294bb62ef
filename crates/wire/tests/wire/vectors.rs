//! Vectors: bytes whose meaning does not depend on this code.

use core::time::Duration;

use interlock_wire::{
    FromBytes, IntoBytes,
    admin::{AsyncEvent, Command as Admin, EventMask, GetLog, Identify, QueueCount, SetFeatures},
    ccr::{self, CrossControllerReset, Instance},
    digest::{Crc32c, crc32c, crc32c_append},
    fabrics::{Connect, ConnectAnswer, ConnectData, InvalidParameter, PropertyGet, PropertySet},
    identify::{IdentifyController, IdentifyNamespace, Lbaf},
    nqn::{DISCOVERY_NQN, HostId, Nqn},
    nvm::{self, Command as Nvm, DsmRange},
    pdu::{C2hData, CapsuleResp, CommonHeader, Flags, Framing, IcReq, PduType, R2t, encode_header},
    property::{Cap, Cc, Csts, Shutdown, ShutdownStatus, Version},
    sqe::{Cqe, DataDirection, LateEffect, Sgl, Sqe},
    status::Status,
};

const BOTH: Framing = Framing { hdgst: true, ddgst: true, align: 4 };

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn crc32c_of_published_inputs() {
    let rising: Vec<u8> = (0..32).collect();
    let falling: Vec<u8> = (0..32).rev().collect();
    let table: [(&[u8], u32); 9] = [
        (b"123456789", 0xE306_9283),
        (&[0; 32], 0x8A91_36AA),
        (&[0xFF; 32], 0x62A8_AB43),
        (&rising, 0x46DD_794E),
        (&falling, 0x113F_DB5C),
        (&[0; 512], 0x30FC_EDC0),
        (&[0; 4096], 0x98F9_4189),
        (&[1, 2, 3, 4, 5], 0x5351_8FAB),
        (&[1, 2, 3, 4, 5, 0, 0, 0], 0x678C_781C),
    ];
    for (input, expected) in table {
        assert_eq!(crc32c(input), expected, "of {} bytes", input.len());
        for cut in [0, 1, input.len() / 2, input.len()] {
            assert_eq!(crc32c_append(crc32c(&input[..cut]), &input[cut..]), expected, "cut at {cut}");
            let mut pieces = Crc32c::resume(crc32c(&input[..cut]));
            pieces.update(&input[cut..]);
            assert_eq!(pieces.value(), expected);
        }
    }
    assert_eq!(crc32c_append(0, b"123456789"), 0xE306_9283, "a seed of 0 begins");
    assert_eq!(Crc32c::new().value(), 0, "nothing sums to 0");
    assert_eq!(crc32c(b"123456789").to_le_bytes(), [0x83, 0x92, 0x06, 0xE3], "little-endian on the wire");
}

#[test]
fn headers_with_digest() {
    let mut out = Vec::new();
    assert_eq!(encode_header(&R2t::new(0x1234, 7, 0, 4096, &BOTH), &mut out), 28);
    assert_eq!(hex(&out), "090118001c000000341207000000000000100000000000009fa391c9");

    out.clear();
    let cqe = Cqe::new(3, 1, Status::SUCCESS);
    assert_eq!(encode_header(&CapsuleResp::new(cqe, &BOTH), &mut out), 28);
    assert_eq!(hex(&out), "050118001c0000000000000000000000010000000300000085e61da2");

    out.clear();
    let data = C2hData::new(3, 0, 512, Flags::LAST | Flags::SUCCESS, &BOTH);
    assert_eq!(encode_header(&data, &mut out), 28);
    assert_eq!(hex(&out), "070f181c20020000030000000000000000020000000000003c8986b5");

    out.clear();
    assert_eq!(encode_header(&R2t::new(1, 1, 0, 512, &Framing::PLAIN), &mut out), 24, "no digest, none appended");
}

#[test]
fn sample_icreq() {
    let req = IcReq::new(true, true, 4, 0);
    assert_eq!(hex(&req.as_bytes()[..16]), "00008000800000000000000300000000");
    assert!(req.as_bytes()[16..].iter().all(|b| *b == 0));
    assert_eq!(req.check(), Ok(()));
    assert_eq!(IcReq::new(false, false, 128, 0).hpda, 31);
    assert_eq!(IcReq::new(false, false, 128, 0).align(), 128);
}

#[test]
fn padding_follows_the_alignment() {
    let at = |align| {
        let ch = CommonHeader::build(PduType::CapsuleCmd, Flags::empty(), 512, &Framing { align, ..BOTH });
        (ch.pdo, ch.plen.get())
    };
    assert_eq!(at(4), (76, 76 + 512 + 4));
    assert_eq!(at(64), (128, 128 + 512 + 4));
    assert_eq!(at(128), (128, 128 + 512 + 4));
    let bare = CommonHeader::build(PduType::CapsuleCmd, Flags::empty(), 0, &BOTH);
    assert_eq!((bare.pdo, bare.plen.get(), bare.flags()), (0, 76, Flags::HDGST), "no data, no data digest");
}

#[test]
fn cross_controller_reset() {
    let impacted = Instance { cntlid: 3, ciu: 0x5A, cirn: 0x1122_3344_5566_7788 };
    let sqe = CrossControllerReset { impacted }.to_sqe();
    let bytes = sqe.as_bytes();
    assert_eq!((bytes[0], bytes[1]), (0x38, 0x40));
    assert_eq!(sqe.cdw10.get(), 0x005A_0003);
    assert_eq!(hex(&bytes[40..44]), "03005a00");
    assert_eq!(hex(&bytes[48..56]), "8877665544332211");
    assert_eq!(sqe.nsid.get(), 0);
    assert_eq!(CrossControllerReset::from_sqe(&sqe), Ok(CrossControllerReset { impacted }));
    assert_eq!(impacted.to_string(), "controller 0x0003, instance 5a/1122334455667788");

    for broken in [Instance { ciu: 0, ..impacted }, Instance { cirn: 0, ..impacted }] {
        let sqe = CrossControllerReset { impacted: broken }.to_sqe();
        let refused = CrossControllerReset::from_sqe(&sqe).expect_err("names no life");
        assert!(refused.is(Status::INVALID_FIELD));
    }
    assert!(ccr::immediate(1) && ccr::immediate(0xFFFF_FFFF) && !ccr::immediate(2));
}

#[test]
fn reset_log_is_asked_for_whole() {
    assert_eq!(ccr::get_log(true).to_sqe().cdw10.get(), 0x03FF_011E);
    assert_eq!(ccr::get_log(false).to_sqe().cdw10.get(), 0x03FF_001E);
    assert_eq!(ccr::get_log(false).to_sqe().nsid.get(), 0xFFFF_FFFF);
    assert!(ccr::removes_completed(&ccr::get_log(true)) && !ccr::removes_completed(&ccr::get_log(false)));
}

#[test]
fn reset_log_by_hand() {
    let mut page = vec![0u8; 4096];
    page[0] = 2;
    page[8..16].copy_from_slice(&[0x03, 0x00, 0x5A, 0, 0x07, 0x00, 1, 3]);
    page[16..24].copy_from_slice(&[0x04, 0x01, 0x11, 0, 0, 0, 9, 0]);
    let entries = ccr::parse_log(&page).expect("well formed");
    assert_eq!(entries[0], ccr::Entry { icid: 3, ciu: 0x5A, acid: 7, state: ccr::State::Success, flags: 3 });
    assert_eq!(entries[1].icid, 0x104);
    assert_eq!(entries[1].state, ccr::State::Reserved(9), "an unknown state proves nothing and hides nothing");
    assert_eq!(ccr::parse_log(&page[..23]), Err(ccr::LogError::Truncated { claimed: 2, room: 1 }));
    assert_eq!(ccr::parse_log(&page[..7]), Err(ccr::LogError::NoHeader(7)));
    page[1] = 2;
    assert_eq!(ccr::parse_log(&page), Err(ccr::LogError::TooMany(0x202)));
}

#[test]
fn events() {
    assert_eq!(AsyncEvent::CCR_COMPLETED.to_dw0(), 0x001E_F402);
    assert_eq!(AsyncEvent::from_dw0(0x001E_F402), AsyncEvent::CCR_COMPLETED);
    assert_eq!(AsyncEvent::CCR_COMPLETED.mask(), Some(EventMask::CCR));
    assert_eq!(EventMask::CCR.bits(), 0x0010_0000);
    assert_eq!(AsyncEvent::ANA_CHANGED.to_dw0(), 0x000C_0302);
    assert_eq!(AsyncEvent::CCR_COMPLETED.to_string(), "Cross-Controller Reset completed");
}

#[test]
fn connect_by_hand() {
    let connect = Connect { qid: 2, sqsize: 127, sq_flow_control: false, kato_ms: 5000 };
    let sqe = connect.to_sqe();
    let bytes = sqe.as_bytes();
    assert_eq!((bytes[0], bytes[1], bytes[4]), (0x7F, 0x40, 0x01));
    assert_eq!(hex(&bytes[40..47]), "000002007f0004");
    assert_eq!(hex(&bytes[48..52]), "88130000");
    assert_eq!(sqe.sgl(), Sgl::InCapsule { len: 1024 });
    assert_eq!(bytes[39], 0x01);
    assert_eq!(sqe.data_direction(), DataDirection::ToController);
    let mut other = sqe;
    other.cdw10.set(1);
    assert!(Connect::from_sqe(&other).expect_err("another format").is(Status::CONNECT_INCOMPATIBLE_FORMAT));

    let hostid: HostId = "01234567-89ab-cdef-0123-456789abcdef".parse().expect("a uuid");
    let data = ConnectData::new(hostid, &Nqn::of_host(hostid), &Nqn::discovery(), 0xFFFF);
    let bytes = data.as_bytes();
    assert_eq!(hex(&bytes[..18]), "0123456789abcdef0123456789abcdefffff");
    assert!(bytes[256..].starts_with(DISCOVERY_NQN.as_bytes()));
    assert!(bytes[512..].starts_with(b"nqn.2014-08.org.nvmexpress:uuid:01234567-89ab-cdef-0123-456789abcdef\0"));
    assert_eq!(ConnectData::decode(&bytes[..1023]), None);

    let answer = ConnectAnswer::from_dw0(0x0002_0005);
    assert_eq!(answer, ConnectAnswer { cntlid: 5, authentication_required: true, secure_channel_required: false });
    assert_eq!(answer.to_dw0(), 0x0002_0005);
    assert_eq!(InvalidParameter::SUBNQN.to_dw0(), 0x0001_0100);
    assert_eq!(InvalidParameter::from_dw0(0x0001_0100).to_string(), "subsystem NQN (byte 256 of the data)");
    assert_eq!(InvalidParameter::from_dw0(44), InvalidParameter::SQSIZE);
}

#[test]
fn properties() {
    let cap = Cap::new(127, Duration::from_millis(7300));
    assert_eq!((cap.mqes(), cap.to(), cap.mpsmin()), (127, Duration::from_millis(7500), 0));
    assert!(cap.css_nvm() && !cap.css_csi() && !cap.crwms());
    let cc = Cc::new(false).with_enable(true);
    assert_eq!(cc.0, 0x0046_0001);
    assert_eq!(cc.with_shutdown(Shutdown::Normal).0, 0x0046_4001);
    assert_eq!(cc.with_shutdown(Shutdown::Normal).shutdown(), Shutdown::Normal);
    assert_eq!(Cc::new(true).css(), 0b110);
    assert_eq!((cc.iosqes(), cc.iocqes(), cc.mps(), cc.ams()), (6, 4, 0, 0));
    let csts = Csts::default().with_ready(true).with_fatal(true).with_shutdown(ShutdownStatus::Complete);
    assert_eq!(csts.0, 0b1011);
    assert!(csts.ready() && csts.fatal() && csts.shutdown() == ShutdownStatus::Complete);
    assert_eq!((Version(0x10300).to_string(), Version::V2_1.to_string()), ("1.3".into(), "2.1".into()));

    let sqe = PropertySet::cc(cc).to_sqe();
    assert_eq!(hex(&sqe.as_bytes()[40..56]), "00000000140000000100460000000000");
    let sqe = PropertyGet::CAP.to_sqe();
    assert_eq!((sqe.fctype(), sqe.cdw10.get(), sqe.cdw11.get()), (4, 1, 0));
    let answer = Cqe::new(1, 0, Status::SUCCESS).with_result(0x89AB_CDEF, 0x0123_4567);
    assert_eq!(PropertyGet::CAP.value(&answer), 0x0123_4567_89AB_CDEF);
    assert_eq!(PropertyGet::CSTS.value(&answer), 0x89AB_CDEF);
}

#[test]
fn admin_commands_by_hand() {
    let get = GetLog { lid: 0x0C, nsid: 0xFFFF_FFFF, lsp: 1, retain_event: true, offset: 0x1_0000_0004, len: 0x50000 };
    let sqe = get.to_sqe();
    assert_eq!((sqe.cdw10.get(), sqe.cdw11.get()), (0x3FFF_810C, 1));
    assert_eq!((sqe.cdw12.get(), sqe.cdw13.get()), (4, 1));
    assert_eq!(sqe.data_direction(), DataDirection::ToHost);
    for spoil in [
        |s: &mut Sqe| s.cdw12.set(6),
        |s: &mut Sqe| s.cdw14.set(1 << 23),
        |s: &mut Sqe| {
            s.cdw10.set(u32::MAX);
            s.cdw11.set(u32::MAX);
        },
    ] {
        let mut bad = sqe;
        spoil(&mut bad);
        assert!(GetLog::from_sqe(&bad).expect_err("spoilt").is(Status::INVALID_FIELD));
    }
    let sqe = Identify::NamespaceCsi { nsid: 7, csi: 2 }.to_sqe();
    assert_eq!((sqe.opcode, sqe.nsid.get(), sqe.cdw10.get(), sqe.cdw11.get()), (6, 7, 5, 2 << 24));
    assert_eq!(sqe.sgl(), Sgl::Transport { len: 4096 });
    assert_eq!(sqe.as_bytes()[39], 0x5A);

    let sqe = SetFeatures::queues(QueueCount::pairs(4)).to_sqe();
    assert_eq!((sqe.cdw10.get(), sqe.cdw11.get()), (7, 0x0003_0003));
    assert_eq!(QueueCount::from_u32(0x007F_0003).usable(), 4);
    assert!(!QueueCount::from_u32(0xFFFF_0003).is_valid());
    let save = SetFeatures { save: true, ..SetFeatures::keep_alive(5000) };
    assert_eq!(save.to_sqe().cdw10.get(), 0x8000_000F);
    assert!(Admin::SetFeatures(save).has_late_effect() && !Admin::KeepAlive.has_late_effect());
    assert!(Admin::from_sqe(&Sqe::new(0x55)).expect_err("unknown").is(Status::INVALID_OPCODE));
}

#[test]
fn nvm_commands_by_hand() {
    let sqe = Nvm::Write { slba: 0x1_0000_0002, nlb: 8, fua: true }.to_sqe(1);
    assert_eq!((sqe.opcode, sqe.nsid.get()), (1, 1));
    assert_eq!((sqe.cdw10.get(), sqe.cdw11.get(), sqe.cdw12.get()), (2, 1, 0x4000_0007));
    let sqe = Nvm::WriteZeroes { slba: 0, nlb: 65_536, deallocate: true, fua: false }.to_sqe(1);
    assert_eq!(sqe.cdw12.get(), 0x0200_FFFF);
    let dsm = Nvm::Dsm { ranges: 2, deallocate: true };
    assert_eq!((dsm.to_sqe(1).cdw10.get(), dsm.to_sqe(1).cdw11.get()), (1, 4));
    assert_eq!(dsm.data_len(512), 32);
    let data = DsmRange::encode(&[DsmRange::new(8, 16), DsmRange::new(0x100, 1)]);
    assert_eq!(hex(&data[..16]), "00000000100000000800000000000000");
    let mut padded = data.clone();
    padded.resize(4096, 0xEE);
    assert_eq!(DsmRange::decode(&padded, 2).expect("enough").len(), 2, "hosts send more than they announce");
    assert!(DsmRange::decode(&data[..31], 2).expect_err("too few").is(Status::SGL_DATA_LENGTH_INVALID));

    let read = Nvm::Read { slba: u64::MAX, nlb: 1, fua: false };
    assert!(read.check_range(u64::MAX).expect_err("wraps").is(Status::LBA_OUT_OF_RANGE));
    assert_eq!(Nvm::Read { slba: 92, nlb: 8, fua: false }.check_range(100), Ok(()));
    assert!(Nvm::Read { slba: 93, nlb: 8, fua: false }.check_range(100).is_err());
}

#[test]
fn what_is_in_doubt_and_what_may_be_repeated() {
    let class = |command: Nvm| nvm::late_effect(&command.to_sqe(1));
    for harmless in [
        Nvm::Flush,
        Nvm::Read { slba: 0, nlb: 1, fua: false },
        Nvm::Compare { slba: 0, nlb: 1, fua: false },
        Nvm::Verify { slba: 0, nlb: 1 },
        Nvm::Dsm { ranges: 1, deallocate: false },
    ] {
        assert_eq!(class(harmless), LateEffect::None, "{harmless:?}");
        assert!(!harmless.is_media_changing() && !harmless.has_late_effect(), "{harmless:?}");
    }
    for changing in [
        Nvm::Write { slba: 0, nlb: 1, fua: false },
        Nvm::WriteUncorrectable { slba: 0, nlb: 1 },
        Nvm::WriteZeroes { slba: 0, nlb: 1, deallocate: false, fua: false },
        Nvm::Dsm { ranges: 1, deallocate: true },
    ] {
        assert_eq!(class(changing), LateEffect::Repeatable, "{changing:?}");
        assert!(changing.is_media_changing() && changing.has_late_effect(), "{changing:?}");
    }
    // Reservation Register, Acquire, Release, Copy, Zone Append, Zone Management Send, vendor specific.
    for opcode in [0x0D, 0x11, 0x15, 0x19, 0x7D, 0x79, 0x80] {
        assert_eq!(nvm::late_effect(&Sqe::new(opcode)), LateEffect::Unrepeatable, "{opcode:#x}");
    }
    assert_eq!(nvm::late_effect(&Sqe::new(0x0E)), LateEffect::None, "Reservation Report only asks");
    let mut fused = Nvm::Compare { slba: 0, nlb: 1, fua: false }.to_sqe(1);
    fused.flags |= 1;
    assert_eq!(nvm::late_effect(&fused), LateEffect::Unrepeatable);
    assert!(fused.check_flags().expect_err("fused").is(Status::INVALID_FIELD));
    // Namespace Management, Format NVM, Sanitize, Security Send, Firmware Commit.
    for opcode in [0x0D, 0x80, 0x84, 0x81, 0x10] {
        assert_eq!(interlock_wire::admin::late_effect(&Sqe::new(opcode)), LateEffect::Unrepeatable, "{opcode:#x}");
    }
}

#[test]
fn statuses() {
    let word = Cqe::read_from_bytes(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0x04, 0x96]).expect("16 bytes");
    let status = word.status();
    // 9604h: DNR, CRD 1, SCT 3, SC 02h.
    assert_eq!((status.sct(), status.sc(), status.code()), (3, 2, 0x302));
    assert!(status.dnr() && !status.more() && status.crd() == 1);
    assert!(status.is_path_related() && status.is_ana() && status.is(Status::ANA_INACCESSIBLE));
    assert_eq!(status.to_string(), "Asymmetric Access Inaccessible (302h, do not retry)");
    assert_eq!(Status::SUCCESS.to_string(), "Success");
    assert_eq!(Status::new(7, 0x12).to_string(), "unnamed vendor specific status (712h)");
    assert!(!Status::HOST_PATH_ERROR.is_ana() && Status::HOST_PATH_ERROR.is_path_related());
    assert_eq!(Status::INVALID_FIELD.with_crd(3).with_dnr().crd(), 3);
    for (code, name) in [
        (0x13F, "Cross-Controller Reset in Progress"),
        (0x140, "Cross-Controller Reset Log Page Full"),
        (0x141, "Cross-Controller Reset Limit Exceeded"),
    ] {
        assert_eq!(Status(code).name(), Some(name));
    }
    for status in Status::ALL {
        assert!(status.name().is_some() && status.0 == status.code(), "{status:?}");
    }
    assert!(Status::ALL.windows(2).all(|pair| pair[0] < pair[1]), "the table ascends, so no code stands twice");
}

#[test]
fn identify_fields_by_offset() {
    let mut page = vec![0u8; 4096];
    page[77] = 5;
    page[78..80].copy_from_slice(&[3, 0]);
    page[96] = 0x40;
    page[128..130].copy_from_slice(&[7, 0]);
    page[135] = 0x5A;
    page[136..144].copy_from_slice(&0x1122_3344_5566_7788u64.to_le_bytes());
    page[320] = 10;
    page[386..388].copy_from_slice(&[0x10, 0x27]);
    page[1792] = 0x04;
    page[1793] = 0x04;
    page[1807] = 4;
    page[4..8].copy_from_slice(b"SN1 ");
    let id = IdentifyController::read_from_bytes(&page).expect("4096 bytes");
    assert_eq!(id.instance(), Instance { cntlid: 3, ciu: 0x5A, cirn: 0x1122_3344_5566_7788 });
    assert_eq!(id.command_quiesce_time(), Some(Duration::from_secs(10)));
    assert_eq!(IdentifyController::default().command_quiesce_time(), None);
    assert_eq!(id.max_transfer(0), Some(128 * 1024));
    assert_eq!(IdentifyController { mdts: 255, ..id }.max_transfer(15), None, "a limit beyond 4 GiB is none");
    assert_eq!(IdentifyController::default().in_capsule_io(), 0, "IOCCSZ below its minimum is no in-capsule data");
    assert_eq!(id.in_capsule_io(), 16384);
    assert_eq!(id.ccrl, 4);
    assert!(id.traffic_based_keep_alive() && !id.reports_ana());
    assert_eq!(id.keep_alive_granularity(), Some(Duration::from_secs(1)));
    assert_eq!(id.serial(), "SN1");
    assert_eq!(id.retry_delay(1), Duration::from_millis(700));
    assert_eq!((id.retry_delay(0), id.retry_delay(9)), (Duration::ZERO, Duration::ZERO));
    assert!(id.subnqn().is_err());
}

#[test]
fn geometry_of_namespaces() {
    use interlock_wire::identify::{Geometry, GeometryError};
    let mut ns = IdentifyNamespace::default();
    assert_eq!(ns.geometry(), Err(GeometryError::NotAttached));
    ns.nsze.set(1000);
    ns.ncap.set(1000);
    assert_eq!(ns.geometry(), Err(GeometryError::NoSuchFormat { used: 0, formats: 1 }));
    ns.lbaf[17] = Lbaf { lbads: 12, ..Lbaf::default() };
    ns.flbas = 0x01 | 1 << 5;
    let expected = Geometry { blocks: 1000, block_size: 4096, metadata: 0, extended: false };
    assert_eq!(ns.geometry(), Ok(expected), "format 17 is 1 in bits 3:0 and 1 in bits 6:5");
    ns.lbaf[17].lbads = 8;
    assert_eq!(ns.geometry(), Err(GeometryError::BlockSize(8)));
    ns.lbaf[17].lbads = 9;
    ns.nsze.set(u64::MAX);
    assert_eq!(ns.geometry(), Err(GeometryError::TooLarge { blocks: u64::MAX, block_size: 512 }));
}

#[test]
fn names() {
    use interlock_wire::nqn::{HostIdError, NqnError};
    assert_eq!(Nqn::new(""), Err(NqnError::Empty));
    assert_eq!(Nqn::new("x".repeat(224)), Err(NqnError::TooLong(224)));
    assert!(Nqn::new("x".repeat(223)).is_ok());
    assert_eq!(Nqn::new("nqn\0"), Err(NqnError::Control(3)));
    assert_eq!(Nqn::from_field(&[b'x'; 256]), Err(NqnError::Unterminated));
    let mut field = [0; 256];
    field[..3].copy_from_slice(&[b'a', 0xFF, b'b']);
    assert_eq!(Nqn::from_field(&field), Err(NqnError::NotUtf8(1)));
    assert!(Nqn::discovery().is_discovery());
    for bad in ["", "01234567-89ab-cdef-0123-456789abcde", "0123456789ab-cdef-0123-456789abcdef-----", "é"] {
        assert_eq!(bad.parse::<HostId>(), Err(HostIdError::NotUuid), "{bad}");
    }
    assert_eq!("00000000-0000-0000-0000-000000000000".parse::<HostId>(), Err(HostIdError::Zero));
}

//! One row for everything a peer can do wrong in a header: the status and the offset it earns.

use interlock_wire::{
    IntoBytes,
    pdu::{
        Agreed, C2hData, CapsuleCmd, CapsuleResp, CommonHeader, Direction, Fatal, Fes, Flags, Framing, H2cData, IcReq,
        IcResp, Layout, PduType, R2t, TermReq, check_window, validate,
    },
    sqe::{Cqe, Sgl, Sqe},
};

use Direction::{ToController, ToHost};

const BOTH: Framing = Framing { hdgst: true, ddgst: true, align: 4 };
const PLAIN: Agreed =
    Agreed { hdgst: false, ddgst: false, align: 4, max_data: 131_072, max_in_capsule: 8192, ready: true };
const DIGESTS: Agreed = Agreed { hdgst: true, ddgst: true, ..PLAIN };

type Row = (&'static str, Direction, CommonHeader, Agreed, Fes, u32);

fn ch(pdu: PduType, data: u32, framing: Framing) -> CommonHeader {
    CommonHeader::build(pdu, Flags::empty(), data, &framing)
}

fn spoilt(mut ch: CommonHeader, spoil: impl Fn(&mut CommonHeader)) -> CommonHeader {
    spoil(&mut ch);
    ch
}

fn earned(result: Result<Layout, Fatal>) -> Option<(Fes, u32)> {
    result.err().map(|fatal| (fatal.fes, fatal.fei))
}

#[test]
fn every_row_earns_its_termination() {
    use Fes::{DataTransferLimitExceeded, DataTransferOutOfRange, InvalidPduHeaderField as Field, PduSequenceError};
    use PduType::{C2hTermReq, CapsuleResp, H2cTermReq};
    const FRESH: Agreed = Agreed { ready: false, ..Agreed::NOTHING };
    let none = Framing::PLAIN;
    let cmd = ch(PduType::CapsuleCmd, 0, none);
    let cmd_data = ch(PduType::CapsuleCmd, 512, none);
    let h2c = ch(PduType::H2cData, 4096, none);
    let c2h = ch(PduType::C2hData, 4096, none);
    let resp = ch(CapsuleResp, 0, none);
    let r2t = ch(PduType::R2t, 0, none);
    let icreq = ch(PduType::IcReq, 0, none);
    let icresp = ch(PduType::IcResp, 0, none);
    let flags = |of: CommonHeader, bits: u8| spoilt(of, |ch| ch.flags = bits);
    let pdo = |of: CommonHeader, pdo: u8| spoilt(of, |ch| ch.pdo = pdo);
    let plen = |of: CommonHeader, plen: u32| spoilt(of, |ch| ch.plen.set(plen));
    let kind = |of: CommonHeader, kind: u8| spoilt(of, |ch| ch.pdu_type = kind);
    let rows: Vec<Row> = vec![
        ("unassigned type 08h", ToController, kind(cmd, 0x08), PLAIN, Field, 0),
        ("kickstart request", ToController, kind(cmd, 0x0A), PLAIN, Field, 0),
        ("unknown type FFh", ToHost, kind(cmd, 0xFF), PLAIN, Field, 0),
        ("a command sent to a host", ToHost, cmd, PLAIN, Field, 0),
        ("data for a host sent to a controller", ToController, c2h, PLAIN, Field, 0),
        ("a command before ICReq", ToController, cmd, FRESH, PduSequenceError, 0),
        ("a response before ICResp", ToHost, resp, FRESH, PduSequenceError, 0),
        ("second ICReq", ToController, icreq, PLAIN, PduSequenceError, 0),
        ("second ICResp", ToHost, icresp, PLAIN, PduSequenceError, 0),
        ("reserved FLAGS bit", ToController, flags(cmd, 0x10), PLAIN, Field, 1),
        ("SUCCESS on a response", ToHost, flags(resp, 8), PLAIN, Field, 1),
        ("LAST on a command", ToController, flags(cmd, 4), PLAIN, Field, 1),
        ("SUCCESS on H2CData", ToController, flags(h2c, 12), PLAIN, Field, 1),
        ("HDGSTF on ICReq", ToController, flags(icreq, 1), FRESH, Field, 1),
        ("HDGSTF not agreed", ToController, flags(cmd, 1), PLAIN, Field, 1),
        ("HDGSTF missing", ToController, ch(PduType::CapsuleCmd, 0, none), DIGESTS, Field, 1),
        ("DDGSTF not agreed", ToController, flags(cmd_data, 2), PLAIN, Field, 1),
        ("DDGSTF missing", ToController, flags(ch(PduType::CapsuleCmd, 512, BOTH), 1), DIGESTS, Field, 1),
        ("DDGSTF without data", ToController, flags(ch(PduType::CapsuleCmd, 0, BOTH), 3), DIGESTS, Field, 1),
        ("DDGSTF on R2T", ToHost, flags(ch(PduType::R2t, 0, BOTH), 3), DIGESTS, Field, 1),
        ("SUCCESS without LAST", ToHost, flags(c2h, 8), PLAIN, Field, 1),
        ("HLEN", ToController, spoilt(cmd, |ch| ch.hlen = 71), PLAIN, Field, 2),
        ("HLEN with the digest in it", ToHost, spoilt(resp, |ch| ch.hlen = 28), PLAIN, Field, 2),
        ("PDO on ICReq", ToController, pdo(icreq, 128), FRESH, Field, 3),
        ("PDO on a response", ToHost, pdo(resp, 8), PLAIN, Field, 3),
        ("PDO on R2T", ToHost, pdo(r2t, 28), PLAIN, Field, 3),
        ("PDO on a termination", ToController, pdo(ch(H2cTermReq, 8, none), 24), PLAIN, Field, 3),
        ("PDO without data", ToController, pdo(cmd, 76), PLAIN, Field, 3),
        ("PDO 0 with data", ToController, pdo(cmd_data, 0), PLAIN, Field, 3),
        ("PDO in the header", ToController, pdo(cmd_data, 68), PLAIN, Field, 3),
        ("PDO in the digest", ToController, pdo(ch(PduType::CapsuleCmd, 512, BOTH), 72), DIGESTS, Field, 3),
        ("PDO above 128", ToController, pdo(h2c, 132), PLAIN, Field, 3),
        ("PDO behind the PDU", ToController, pdo(plen(h2c, 30), 32), PLAIN, Field, 3),
        ("PDO not aligned", ToController, h2c, Agreed { align: 64, ..PLAIN }, Field, 3),
        ("ICReq of 127 bytes", ToController, plen(icreq, 127), FRESH, Field, 4),
        ("ICResp of 132 bytes", ToHost, plen(icresp, 132), FRESH, Field, 4),
        ("a response with a tail", ToHost, plen(resp, 28), PLAIN, Field, 4),
        ("R2T without its digest", ToHost, plen(ch(PduType::R2t, 0, BOTH), 24), DIGESTS, Field, 4),
        ("a command shorter than its header", ToController, plen(cmd, 71), PLAIN, Field, 4),
        ("a PLEN of 0", ToController, plen(cmd, 0), PLAIN, Field, 4),
        ("data without data", ToController, plen(h2c, 24), PLAIN, Field, 4),
        ("padding without data", ToController, plen(pdo(cmd_data, 80), 80), PLAIN, Field, 4),
        ("no room for the data digest", ToHost, plen(ch(PduType::C2hData, 4, BOTH), 30), DIGESTS, Field, 4),
        ("only the data digest", ToHost, plen(ch(PduType::C2hData, 4, BOTH), 32), DIGESTS, Field, 4),
        ("a termination of 23 bytes", ToController, plen(ch(H2cTermReq, 0, none), 23), PLAIN, Field, 4),
        ("a termination of 153 bytes", ToHost, plen(ch(C2hTermReq, 8, none), 153), FRESH, Field, 4),
        ("in-capsule data", ToController, ch(PduType::CapsuleCmd, 8196, none), PLAIN, DataTransferLimitExceeded, 0),
        ("H2CData", ToController, ch(PduType::H2cData, 131_076, none), PLAIN, DataTransferLimitExceeded, 0),
        ("C2HData", ToHost, ch(PduType::C2hData, 131_076, none), PLAIN, DataTransferOutOfRange, 0),
        ("a PLEN of 4 GiB", ToHost, plen(c2h, u32::MAX), PLAIN, DataTransferOutOfRange, 0),
        // of several bad fields the lowest counts
        ("flags before length", ToController, plen(flags(cmd, 0x80), 0), PLAIN, Field, 1),
        ("header length before data offset", ToHost, spoilt(pdo(c2h, 1), |ch| ch.hlen = 0), PLAIN, Field, 2),
        ("data offset before length", ToController, plen(pdo(cmd_data, 1), 100_000), PLAIN, Field, 3),
    ];
    for (name, dir, ch, agreed, fes, fei) in rows {
        assert_eq!(earned(validate(dir, &ch, &agreed)), Some((fes, fei)), "{name}");
    }
}

#[test]
fn good_headers_say_where_everything_is() {
    let fresh = Agreed::NOTHING;
    let layout = |pdu, header, head_total, pad, data, ddgst| Layout { pdu, header, head_total, pad, data, ddgst };
    let padded = Framing { align: 64, ..BOTH };
    let rows = [
        (ToController, ch(PduType::IcReq, 0, BOTH), fresh, layout(PduType::IcReq, 128, 128, 0, 0, false)),
        (ToHost, ch(PduType::IcResp, 0, BOTH), fresh, layout(PduType::IcResp, 128, 128, 0, 0, false)),
        (ToHost, ch(PduType::C2hTermReq, 24, BOTH), fresh, layout(PduType::C2hTermReq, 24, 24, 0, 24, false)),
        (ToController, ch(PduType::H2cTermReq, 128, BOTH), DIGESTS, layout(PduType::H2cTermReq, 24, 24, 0, 128, false)),
        (ToController, ch(PduType::CapsuleCmd, 0, BOTH), DIGESTS, layout(PduType::CapsuleCmd, 72, 76, 0, 0, false)),
        (ToController, ch(PduType::CapsuleCmd, 512, BOTH), DIGESTS, layout(PduType::CapsuleCmd, 72, 76, 0, 512, true)),
        (
            ToController,
            ch(PduType::CapsuleCmd, 512, padded),
            Agreed { align: 64, ..DIGESTS },
            layout(PduType::CapsuleCmd, 72, 76, 52, 512, true),
        ),
        (ToHost, ch(PduType::CapsuleResp, 0, BOTH), DIGESTS, layout(PduType::CapsuleResp, 24, 28, 0, 0, false)),
        (ToHost, ch(PduType::R2t, 0, Framing::PLAIN), PLAIN, layout(PduType::R2t, 24, 24, 0, 0, false)),
        (ToController, ch(PduType::H2cData, 5, BOTH), DIGESTS, layout(PduType::H2cData, 24, 28, 0, 5, true)),
        (ToHost, ch(PduType::C2hData, 131_072, BOTH), DIGESTS, layout(PduType::C2hData, 24, 28, 0, 131_072, true)),
    ];
    for (dir, ch, agreed, expected) in rows {
        assert_eq!(validate(dir, &ch, &agreed), Ok(expected));
        assert_eq!(expected.total(), u64::from(ch.plen.get()), "{:?}: the parts make the whole", expected.pdu);
    }
    // Some peers set PDO to the end of the header where there is no data.
    let tolerated = spoilt(ch(PduType::CapsuleCmd, 0, Framing::PLAIN), |ch| ch.pdo = 72);
    assert!(validate(ToController, &tolerated, &PLAIN).is_ok());
}

#[test]
fn initialization_fields() {
    let good = IcReq::new(true, false, 4, 0);
    let req = |spoil: fn(&mut IcReq)| {
        let mut req = good;
        spoil(&mut req);
        req.check().map_err(|fatal| (fatal.fes, fatal.fei))
    };
    assert_eq!(req(|r| r.maxr2t.set(u32::MAX)), Ok(()));
    assert_eq!(req(|r| r.pfv.set(1)), Err((Fes::UnsupportedParameter, 8)));
    assert_eq!(req(|r| r.hpda = 32), Err((Fes::InvalidPduHeaderField, 10)));
    assert_eq!(req(|r| r.dgst = 4), Err((Fes::InvalidPduHeaderField, 11)));

    let resp = |spoil: fn(&mut IcResp)| {
        let mut resp = IcResp::new(true, false, 4, 4096);
        spoil(&mut resp);
        resp.check(&good).map_err(|fatal| (fatal.fes, fatal.fei))
    };
    assert_eq!(resp(|_| {}), Ok(()));
    assert_eq!(resp(|r| r.dgst = 0), Ok(()), "declining is legal on the wire");
    assert_eq!(resp(|r| r.pfv.set(1)), Err((Fes::UnsupportedParameter, 8)));
    assert_eq!(resp(|r| r.cpda = 32), Err((Fes::InvalidPduHeaderField, 10)));
    assert_eq!(resp(|r| r.dgst = 0x80), Err((Fes::InvalidPduHeaderField, 11)));
    assert_eq!(resp(|r| r.dgst = 3), Err((Fes::UnsupportedParameter, 11)));
    assert_eq!(resp(|r| r.maxh2cdata.set(4092)), Err((Fes::InvalidPduHeaderField, 12)));
    assert_eq!(resp(|r| r.maxh2cdata.set(4098)), Err((Fes::InvalidPduHeaderField, 12)));
}

#[test]
fn the_sgl_must_agree_with_the_capsule() {
    let check = |sgl: Sgl, data: u32| {
        let mut sqe = Sqe::new(1);
        sqe.set_sgl(sgl);
        let capsule = CapsuleCmd::new(sqe, data, &Framing::PLAIN);
        let layout = validate(ToController, &capsule.ch, &PLAIN).expect("a good common header");
        capsule.check(&layout).map_err(|fatal| (fatal.fes, fatal.fei))
    };
    let at = |address, len| Sgl::Unsupported { kind: Sgl::KIND_IN_CAPSULE, address, len };
    let keyed = Sgl::Unsupported { kind: 0x40, address: 0, len: 512 };
    assert_eq!(check(Sgl::InCapsule { len: 512 }, 512), Ok(()));
    assert_eq!(check(Sgl::Transport { len: 512 }, 0), Ok(()));
    assert_eq!(check(Sgl::NONE, 0), Ok(()));
    assert_eq!(check(Sgl::InCapsule { len: 0 }, 0), Ok(()), "no data in either form");
    assert_eq!(check(Sgl::InCapsule { len: 516 }, 512), Err((Fes::InvalidPduHeaderField, 4)));
    assert_eq!(check(Sgl::InCapsule { len: 512 }, 0), Err((Fes::InvalidPduHeaderField, 4)));
    assert_eq!(check(Sgl::Transport { len: 512 }, 512), Err((Fes::InvalidPduHeaderField, 4)));
    assert_eq!(check(at(4, 512), 512), Err((Fes::UnsupportedParameter, 32)));
    assert_eq!(check(at(4, 508), 512), Err((Fes::InvalidPduHeaderField, 4)), "the lowest field counts");
    assert_eq!(check(keyed, 512), Err((Fes::UnsupportedParameter, 47)));
    assert_eq!(check(keyed, 0), Ok(()), "without data a status can say it");
}

#[test]
fn data_must_be_what_and_where_it_says() {
    let h2c = |spoil: fn(&mut H2cData), max_data| {
        let mut pdu = H2cData::new(1, 2, 0, 4096, true, &Framing::PLAIN);
        let layout = validate(ToController, &pdu.ch, &PLAIN).expect("a good common header");
        spoil(&mut pdu);
        pdu.check(&layout, &Agreed { max_data, ..PLAIN }).map_err(|fatal| (fatal.fes, fatal.fei))
    };
    assert_eq!(h2c(|_| {}, 4096), Ok(()));
    assert_eq!(h2c(|p| p.datal.set(4095), 4096), Err((Fes::InvalidPduHeaderField, 16)));
    assert_eq!(h2c(|_| {}, 4092), Err((Fes::DataTransferLimitExceeded, 0)));

    let mut c2h = C2hData::new(1, 0, 4096, Flags::LAST, &Framing::PLAIN);
    let layout = validate(ToHost, &c2h.ch, &PLAIN).expect("a good common header");
    assert_eq!(c2h.check(&layout), Ok(()));
    c2h.datal.set(0);
    assert_eq!(c2h.check(&layout).map_err(|fatal| fatal.fei), Err(16));

    let window = |offset, len, expected, end| check_window(offset, len, expected, end).map_err(|fatal| fatal.fes);
    assert_eq!(window(4096, 4096, 4096, 8192), Ok(()));
    assert_eq!(window(4096, 4097, 4096, 8192), Err(Fes::DataTransferOutOfRange));
    assert_eq!(window(u32::MAX, u32::MAX, 0, 8192), Err(Fes::DataTransferOutOfRange), "offsets do not wrap");
    assert_eq!(window(0, 4096, 4096, 8192), Err(Fes::PduSequenceError));

    let r2t = |offset, len| {
        R2t::new(1, 2, offset, len, &Framing::PLAIN).check(4096, 8192).map_err(|fatal| (fatal.fes, fatal.fei))
    };
    assert_eq!(r2t(4096, 4096), Ok(()));
    assert_eq!(r2t(4096, 0), Err((Fes::InvalidPduHeaderField, 16)));
    assert_eq!(r2t(0, 4096), Err((Fes::PduSequenceError, 0)));
    assert_eq!(r2t(4096, 8192), Err((Fes::DataTransferOutOfRange, 0)));
}

#[test]
fn terminations_carry_the_offender() {
    let fatal = Fatal::new(Fes::InvalidPduHeaderField, 0x0102_0304, "a reason");
    let offender = CapsuleResp::new(Cqe::default(), &Framing::PLAIN);
    let bytes = TermReq::encode(ToHost, &fatal, offender.as_bytes());
    assert_eq!(bytes.len(), 48);
    assert_eq!(&bytes[..16], [3, 0, 24, 0, 48, 0, 0, 0, 1, 0, 4, 3, 2, 1, 0, 0]);
    assert_eq!(&bytes[24..], offender.as_bytes());
    let req = TermReq::decode(&bytes).expect("24 bytes and more");
    assert_eq!((Fes::from_u16(req.fes.get()), req.fei.get()), (Some(fatal.fes), fatal.fei));
    assert_eq!(TermReq::decode(&bytes[..23]), None);
    assert_eq!(TermReq::encode(ToController, &fatal, &[]).len(), 32, "some peers refuse one without data");
    assert_eq!(TermReq::encode(ToController, &fatal, &[7; 500]).len(), 152, "never more than 128 bytes of it");
    assert_eq!(fatal.to_string(), "peer broke the protocol: a reason (Invalid PDU Header Field, FEI 16909060)");
    for code in 1..=6 {
        assert_eq!(Fes::from_u16(code).map(|fes| fes as u16), Some(code));
    }
    assert_eq!((Fes::from_u16(0), Fes::from_u16(7)), (None, None));
}

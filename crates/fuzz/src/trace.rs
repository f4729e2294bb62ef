//! A tapped conversation as text, one PDU a line, in the specification's words.
//!
//! A golden trace is read by people when it changes: so it names fields instead of dumping bytes, and stands for data
//! by its length and its CRC-32C.

use crate::pdus::{Pdu, Pdus, Read};
use crate::rig::joint::{Line, Tapped};
use interlock_base::Instant;
use interlock_wire::digest::crc32c;
use interlock_wire::fabrics::{self, ConnectData};
use interlock_wire::pdu::{
    Agreed, C2hData, CapsuleCmd, CapsuleResp, Direction, Fes, Flags, H2cData, IcReq, IcResp, PduType, R2t, TermReq,
};
use interlock_wire::sqe::{Sgl, Sqe};
use interlock_wire::{admin, nvm};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Both directions of one connection.
struct Conn {
    up: Pdus,
    down: Pdus,
    /// It is the admin queue: unknown until Connect said so.
    qid: Option<u16>,
}

impl Conn {
    fn new() -> Self {
        let fresh = |dir| Pdus::new(dir, Agreed::NOTHING);
        Self { up: fresh(Direction::ToController), down: fresh(Direction::ToHost), qid: None }
    }
}

/// The whole conversation.
#[must_use]
pub fn text(lines: &[Line]) -> String {
    let mut out = String::new();
    let mut conns: BTreeMap<usize, Conn> = BTreeMap::new();
    for (at, number, what) in lines {
        let conn = conns.entry(*number).or_insert_with(Conn::new);
        match what {
            Tapped::Open(port) => line(&mut out, *at, *number, "=", &format!("connects to port {port}")),
            Tapped::End(dir, orderly) => {
                let how = if *orderly { "closes" } else { "resets" };
                line(&mut out, *at, *number, arrow(*dir), how);
            }
            Tapped::Bytes(dir, bytes) => {
                let pdus = match dir {
                    Direction::ToController => &mut conn.up,
                    Direction::ToHost => &mut conn.down,
                };
                pdus.push(bytes);
                while let Some(text) = next(conn, *dir) {
                    line(&mut out, *at, *number, arrow(*dir), &text);
                }
            }
        }
    }
    out
}

fn line(out: &mut String, at: Instant, number: usize, arrow: &str, text: &str) {
    // Rigs begin at one second.
    let micros = at.since(Instant::from_millis(1000)).as_micros();
    let _ = writeln!(out, "{:>6}.{:06} #{number} {arrow} {text}", micros / 1_000_000, micros % 1_000_000);
}

const fn arrow(dir: Direction) -> &'static str {
    match dir {
        Direction::ToController => ">",
        Direction::ToHost => "<",
    }
}

fn next(conn: &mut Conn, dir: Direction) -> Option<String> {
    let pdus = match dir {
        Direction::ToController => &mut conn.up,
        Direction::ToHost => &mut conn.down,
    };
    match pdus.read() {
        Read::More => None,
        // Said once: the rest of this direction is nobody's.
        Read::Bad(fatal) => {
            *pdus = Pdus::new(dir, Agreed::NOTHING);
            Some(format!("illegal: {fatal}"))
        }
        Read::Pdu(pdu) => Some(describe(conn, &pdu)),
    }
}

fn describe(conn: &mut Conn, pdu: &Pdu) -> String {
    let mut text = match pdu.layout.pdu {
        PduType::IcReq => {
            let req: IcReq = pdu.read().expect(LENGTH);
            let digests = digests(req.hdgst(), req.ddgst());
            format!("ICReq pfv={} hpda={} dgst={digests} maxr2t={}", req.pfv, req.hpda, req.maxr2t)
        }
        PduType::IcResp => {
            let resp: IcResp = pdu.read().expect(LENGTH);
            let (hdgst, ddgst) = (resp.hdgst(), resp.ddgst());
            let agreed = Agreed { hdgst, ddgst, align: 4, max_data: u32::MAX, max_in_capsule: u32::MAX, ready: true };
            conn.up.agree(agreed);
            conn.down.agree(agreed);
            let digests = digests(hdgst, ddgst);
            format!("ICResp pfv={} cpda={} dgst={digests} maxh2cdata={}", resp.pfv, resp.cpda, resp.maxh2cdata)
        }
        PduType::H2cTermReq | PduType::C2hTermReq => {
            let term = TermReq::decode(&pdu.head).expect(LENGTH);
            let fes = Fes::from_u16(term.fes.get()).map_or_else(|| "unknown".to_owned(), |fes| fes.to_string());
            let data = pdu.bytes.len() - pdu.head.len();
            format!("{:?} {fes} fei={} with {data} bytes of the offender", pdu.layout.pdu, term.fei)
        }
        PduType::CapsuleCmd => {
            let capsule: CapsuleCmd = pdu.read().expect(LENGTH);
            let sqe = &capsule.sqe;
            format!("CapsuleCmd cid={:04x} {}{}", sqe.cid, command(conn, sqe, &pdu.data), sgl(sqe.sgl()))
        }
        PduType::CapsuleResp => {
            let cqe = pdu.read::<CapsuleResp>().expect(LENGTH).cqe;
            let result = if cqe.result() == 0 { String::new() } else { format!(" result={:x}", cqe.result()) };
            format!("CapsuleResp cid={:04x} sqhd={} {}{result}", cqe.cid, cqe.sqhd, cqe.status())
        }
        PduType::H2cData => {
            let data: H2cData = pdu.read().expect(LENGTH);
            format!("H2CData cid={:04x} ttag={} datao={}", data.cccid, data.ttag, data.datao)
        }
        PduType::C2hData => {
            let data: C2hData = pdu.read().expect(LENGTH);
            format!("C2HData cid={:04x} datao={}", data.cccid, data.datao)
        }
        PduType::R2t => {
            let r2t: R2t = pdu.read().expect(LENGTH);
            format!("R2T cid={:04x} ttag={} r2to={} r2tl={}", r2t.cccid, r2t.ttag, r2t.r2to, r2t.r2tl)
        }
    };
    if !pdu.data.is_empty() && !matches!(pdu.layout.pdu, PduType::H2cTermReq | PduType::C2hTermReq) {
        let _ = write!(text, " data={}:{:08x}", pdu.data.len(), crc32c(&pdu.data));
    }
    for (flag, name) in [(Flags::HDGST, "HDGST"), (Flags::DDGST, "DDGST"), (Flags::LAST, "LAST")] {
        if pdu.flags.contains(flag) {
            text += " ";
            text += name;
        }
    }
    if pdu.flags.contains(Flags::SUCCESS) {
        text += " SUCCESS";
    }
    if !pdu.digests_ok {
        text += " (a digest is wrong)";
    }
    text
}

const LENGTH: &str = "the validator fixed the header length";

fn digests(hdgst: bool, ddgst: bool) -> &'static str {
    match (hdgst, ddgst) {
        (false, false) => "none",
        (true, false) => "header",
        (false, true) => "data",
        (true, true) => "both",
    }
}

fn sgl(sgl: Sgl) -> String {
    match sgl {
        Sgl::InCapsule { len } => format!(" in-capsule={len}"),
        Sgl::Transport { len: 0 } => String::new(),
        Sgl::Transport { len } => format!(" transport={len}"),
        Sgl::Unsupported { kind, len, .. } => format!(" sgl {kind:02x}={len}"),
    }
}

/// What a command asks for. The Connect says which queue it is, and so whose commands follow.
fn command(conn: &mut Conn, sqe: &Sqe, data: &[u8]) -> String {
    if sqe.is_fabrics() {
        let Ok(command) = fabrics::Command::from_sqe(sqe) else { return format!("Fabrics {:02x}", sqe.fctype()) };
        let mut text = format!("{command:?}");
        if let fabrics::Command::Connect(connect) = command {
            conn.qid = Some(connect.qid);
            if let Some(data) = ConnectData::decode(data) {
                let name = |nqn: Result<interlock_wire::nqn::Nqn, _>| nqn.map_or("?".to_owned(), |nqn| nqn.to_string());
                let _ = write!(text, " cntlid={:04x} subnqn={}", data.cntlid, name(data.subnqn()));
            }
        }
        return text;
    }
    if conn.qid == Some(0) {
        return admin::Command::from_sqe(sqe)
            .map_or_else(|_| format!("admin opcode {:02x}", sqe.opcode), |command| format!("{command:?}"));
    }
    nvm::Command::from_sqe(sqe)
        .map_or_else(|_| format!("opcode {:02x}", sqe.opcode), |command| format!("{command:?} nsid={}", sqe.nsid))
}

//! A host that is no machine: it says what a test wants, legal or not, and reads the answers.
//!
//! A real queue pair would refuse to misbehave. This one frames what it is given, keeps the few facts that a next lie
//! needs (tags of R2Ts, identifiers of commands), and checks that what the target says is legal whatever it was told.

use crate::pdus::{Pdu, Pdus, Read};
use crate::rig::target::{SUBNQN, TargetRig};
use interlock_target_core::ConnId;
use interlock_wire::IntoBytes;
use interlock_wire::digest::crc32c;
use interlock_wire::fabrics::{Cc, Connect, ConnectAnswer, ConnectData, PropertySet};
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::pdu::{
    Agreed, C2hData, CapsuleCmd, CapsuleResp, Direction, Flags, Framing, H2cData, IcReq, IcResp, PduType, R2t, TermReq,
    encode_header,
};
use interlock_wire::sqe::{Cqe, Sgl, Sqe};
use interlock_wire::status::Status;
use std::collections::VecDeque;
use zerocopy::Immutable;

/// The bytes of a PDU: header, digests, padding, data.
#[must_use]
pub fn pdu<T: IntoBytes + Immutable>(header: &T, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_header(header, &mut out);
    let pdo = usize::from(header.as_bytes()[3]);
    if !data.is_empty() {
        out.resize(pdo.max(out.len()), 0);
        out.extend_from_slice(data);
        if header.as_bytes()[1] & Flags::DDGST.bits() != 0 {
            out.extend_from_slice(&crc32c(data).to_le_bytes());
        }
    }
    out
}

/// One connection to a target.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name at the target.
    pub conn: ConnId,
    /// How it frames.
    pub framing: Framing,
    /// R2Ts that were not answered in full: the tag, the command, what is still to come.
    pub r2ts: VecDeque<R2t>,
    /// Answers that nobody has looked at.
    pub answers: VecDeque<Cqe>,
    /// Data that nobody has looked at, with the command it is for.
    pub data: VecDeque<(u16, Vec<u8>)>,
    /// The target's termination request.
    pub termination: Option<TermReq>,
    /// Commands it may have sent, and answers it got.
    pub commands: u64,
    answered: u64,
    next_cid: u16,
    pdus: Pdus,
}

/// Most facts of a kind that are kept.
const KEPT: usize = 64;

impl Peer {
    /// Connects; nothing is said yet.
    pub fn dial(rig: &mut TargetRig, port: u16) -> Self {
        Self {
            conn: rig.accept(port),
            framing: Framing::PLAIN,
            r2ts: VecDeque::new(),
            answers: VecDeque::new(),
            data: VecDeque::new(),
            termination: None,
            commands: 0,
            answered: 0,
            next_cid: 0,
            pdus: Pdus::new(Direction::ToHost, Agreed::NOTHING),
        }
    }

    /// ICReq with these digests, answered.
    pub fn greet(&mut self, rig: &mut TargetRig, hdgst: bool, ddgst: bool) {
        self.say(rig, IcReq::new(hdgst, ddgst, 4, 0).as_bytes());
        self.listen(rig);
    }

    /// A connection that is the admin queue of an enabled controller. Answers the CNTLID.
    ///
    /// # Panics
    /// If the target refuses.
    pub fn admin(rig: &mut TargetRig, port: u16, host: u8, kato_ms: u32, digests: bool) -> (Self, u16) {
        let mut peer = Self::dial(rig, port);
        peer.greet(rig, digests, digests);
        let connect = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms };
        let cqe = peer.ask(rig, connect.to_sqe(), connect_data(host, SUBNQN, 0xFFFF).as_bytes());
        assert_eq!(cqe.status(), Status::SUCCESS);
        let enable = PropertySet::cc(Cc::new(false).with_enable(true)).to_sqe();
        assert_eq!(peer.ask(rig, enable, &[]).status(), Status::SUCCESS);
        (peer, ConnectAnswer::from_dw0(cqe.dw0.get()).cntlid)
    }

    /// An I/O queue of a controller, without SQ flow control.
    ///
    /// # Panics
    /// If the target refuses.
    pub fn io(rig: &mut TargetRig, port: u16, host: u8, cntlid: u16, digests: bool) -> Self {
        let mut peer = Self::dial(rig, port);
        peer.greet(rig, digests, digests);
        let connect = Connect { qid: 1, sqsize: 31, sq_flow_control: false, kato_ms: 0 };
        let cqe = peer.ask(rig, connect.to_sqe(), connect_data(host, SUBNQN, cntlid).as_bytes());
        assert_eq!(cqe.status(), Status::SUCCESS);
        peer
    }

    /// A CID that was not used for long.
    pub fn cid(&mut self) -> u16 {
        self.next_cid = (self.next_cid + 1) % 512;
        self.next_cid
    }

    /// A command capsule with data in it.
    #[must_use]
    pub fn capsule(&self, mut sqe: Sqe, data: &[u8]) -> Vec<u8> {
        let len = u32::try_from(data.len()).expect("a test's data is small");
        if len > 0 {
            sqe.set_sgl(Sgl::InCapsule { len });
        }
        pdu(&CapsuleCmd::new(sqe, len, &self.framing), data)
    }

    /// H2CData.
    #[must_use]
    pub fn h2c(&self, cid: u16, ttag: u16, offset: u32, len: u32, last: bool) -> Vec<u8> {
        pdu(&H2cData::new(cid, ttag, offset, len, last, &self.framing), &vec![0xA5; len as usize])
    }

    /// Says anything.
    pub fn say(&self, rig: &mut TargetRig, bytes: &[u8]) {
        rig.deliver(self.conn, bytes);
        rig.run();
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Panics
    /// If it is not answered at once.
    pub fn ask(&mut self, rig: &mut TargetRig, mut sqe: Sqe, data: &[u8]) -> Cqe {
        let cid = self.cid();
        sqe.cid.set(cid);
        self.commands += 1;
        let bytes = self.capsule(sqe, data);
        self.say(rig, &bytes);
        self.listen(rig);
        let at = self.answers.iter().position(|cqe| cqe.cid.get() == cid).expect("an answer at once");
        self.answers.remove(at).expect("it is there")
    }

    /// Reads everything that the target said on this connection.
    ///
    /// # Panics
    /// If the target broke the protocol.
    pub fn listen(&mut self, rig: &mut TargetRig) {
        loop {
            let bytes = rig.take(self.conn);
            if bytes.is_empty() {
                break;
            }
            self.pdus.push(&bytes);
            loop {
                match self.pdus.read() {
                    Read::More => break,
                    Read::Bad(fatal) => panic!("the target broke the protocol: {fatal}"),
                    Read::Pdu(pdu) => self.heard(&pdu),
                }
            }
            // There is room in its socket again.
            rig.run();
        }
        assert!(self.answered <= self.commands, "more answers than commands");
        for kept in [self.answers.len(), self.data.len(), self.r2ts.len()] {
            assert!(kept <= KEPT);
        }
    }

    fn heard(&mut self, pdu: &Pdu) {
        assert!(pdu.digests_ok, "the target's digests are right");
        assert!(self.termination.is_none(), "nothing comes after a termination request");
        match pdu.layout.pdu {
            PduType::IcResp => {
                let resp: IcResp = pdu.read().expect("the validator fixed the length");
                let (hdgst, ddgst) = (resp.hdgst(), resp.ddgst());
                self.framing = Framing { hdgst, ddgst, align: resp.align() };
                // The largest answer is the largest transfer.
                let max_data = 8192;
                self.pdus.agree(Agreed { hdgst, ddgst, align: 4, max_data, max_in_capsule: 0, ready: true });
            }
            PduType::C2hTermReq => self.termination = TermReq::decode(&pdu.head),
            PduType::CapsuleResp => {
                self.answered += 1;
                let resp: CapsuleResp = pdu.read().expect("the validator fixed the length");
                keep(&mut self.answers, resp.cqe);
            }
            PduType::C2hData => {
                self.answered += u64::from(pdu.flags.contains(Flags::SUCCESS));
                let header: C2hData = pdu.read().expect("the validator fixed the length");
                assert!(header.check(&pdu.layout).is_ok());
                let cid = header.cccid.get();
                keep(&mut self.data, (cid, pdu.data.clone()));
                if pdu.flags.contains(Flags::SUCCESS) {
                    keep(&mut self.answers, Cqe::new(cid, 0, Status::SUCCESS));
                }
            }
            PduType::R2t => {
                let r2t: R2t = pdu.read().expect("the validator fixed the length");
                assert!(r2t.r2tl.get() > 0 && r2t.r2to.get() == 0, "one R2T for the whole transfer");
                keep(&mut self.r2ts, r2t);
            }
            PduType::IcReq | PduType::H2cTermReq | PduType::CapsuleCmd | PduType::H2cData => {
                unreachable!("the validator refuses them")
            }
        }
    }
}

fn keep<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() == KEPT {
        all.pop_front();
    }
    all.push_back(one);
}

/// The data of a Connect by host number `host`.
#[must_use]
pub fn connect_data(host: u8, subnqn: &str, cntlid: u16) -> ConnectData {
    let id = HostId([host; 16]);
    ConnectData::new(id, &Nqn::of_host(id), &Nqn::new(subnqn).expect("a valid name"), cntlid)
}

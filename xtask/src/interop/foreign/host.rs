//! A host that follows nobody's habits: it says command by command what a case wants, and looks at every byte of the answers.

use super::super::target::NQN;
use anyhow::{Context, Result, bail, ensure};
use interlock_fuzz::pdus::{Pdu, Pdus, Read as Next};
use interlock_fuzz::peer::pdu;
use interlock_wire::IntoBytes;
use interlock_wire::admin;
use interlock_wire::fabrics::{Cc, Connect, ConnectAnswer, ConnectData, Csts, PropertyGet, PropertySet};
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::nvm::Command;
use interlock_wire::pdu::{
    Agreed, C2hData, CapsuleCmd, CapsuleResp, Direction, Flags, Framing, IcReq, IcResp, PduType,
};
use interlock_wire::sqe::{Cqe, Sgl, Sqe};
use interlock_wire::status::Status;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a block of the namespace that is used, and its NSID: the file namespace.
pub(super) const BLOCK: usize = 4096;
pub(super) const NSID: u32 = 2;

/// Entries of a queue, 0's based.
const SQSIZE: u16 = 31;

/// An answer, and the data that came with it.
pub(super) type Answer = (Cqe, Vec<u8>);

/// Who a host says that it is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// None: it says no name, as the tools of SPDK do.
    pub(super) nqn: Option<Nqn>,
    pub(super) id: HostId,
}

impl Identity {
    /// One with a name of its own.
    pub(super) fn named(number: u8) -> Result<Self> {
        let nqn = Nqn::new(format!("nqn.2026-01.io.example:foreign-{number}"))?;
        Ok(Self { nqn: Some(nqn), id: HostId([number; 16]) })
    }

    fn data(&self, cntlid: u16) -> Result<ConnectData> {
        let subnqn = Nqn::new(NQN)?;
        // Any name, to be taken out again.
        let nqn = self.nqn.as_ref().unwrap_or(&subnqn);
        let data = ConnectData::new(self.id, nqn, &subnqn, cntlid);
        Ok(if self.nqn.is_some() { data } else { ConnectData { hostnqn: [0; 256], ..data } })
    }
}

/// One queue.
pub(super) struct Queue {
    stream: TcpStream,
    pdus: Pdus,
    framing: Framing,
    cid: u16,
    /// Commands that the host waits for.
    outstanding: BTreeSet<u16>,
    /// Data that came for them.
    data: BTreeMap<u16, Vec<u8>>,
    /// Answers that were not asked for yet.
    answers: VecDeque<Answer>,
}

impl Queue {
    /// A connection that is initialized, without digests.
    pub(super) fn open(port: u16) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.write_all(IcReq::new(false, false, 4, 0).as_bytes())?;
        let none = Agreed { hdgst: false, ddgst: false, align: 4, max_data: 0, max_in_capsule: 0, ready: false };
        let mut queue = Self {
            stream,
            pdus: Pdus::new(Direction::ToHost, none),
            framing: Framing { hdgst: false, ddgst: false, align: 4 },
            cid: 0,
            outstanding: BTreeSet::new(),
            data: BTreeMap::new(),
            answers: VecDeque::new(),
        };
        let answer = queue.pdu(Instant::now() + PATIENCE)?.context("no ICResp came")?;
        ensure!(answer.layout.pdu == PduType::IcResp, "{:?} instead of ICResp", answer.layout.pdu);
        let answer: IcResp = answer.read().context("ICResp")?;
        queue.framing.align = answer.align();
        queue.pdus.agree(Agreed { max_data: 1 << 20, ready: true, ..none });
        Ok(queue)
    }

    /// The next PDU, or none by then.
    fn pdu(&mut self, by: Instant) -> Result<Option<Pdu>> {
        loop {
            match self.pdus.read() {
                Next::Pdu(pdu) => return Ok(Some(*pdu)),
                Next::Bad(fatal) => bail!("the target broke the protocol: {fatal}"),
                Next::More => {}
            }
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = vec![0; 65_536];
            match self.stream.read(&mut bytes) {
                Ok(0) => bail!("the target closed the connection"),
                Ok(count) => self.pdus.push(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
    }

    /// Sends a command with data in its capsule, or with room for what it wants; answers its CID.
    pub(super) fn submit(&mut self, mut sqe: Sqe, data: &[u8], room: u32) -> Result<u16> {
        self.cid = self.cid % 0x7FFF + 1;
        sqe.cid.set(self.cid);
        let len = u32::try_from(data.len())?;
        sqe.set_sgl(if data.is_empty() { Sgl::Transport { len: room } } else { Sgl::InCapsule { len } });
        self.outstanding.insert(self.cid);
        self.stream.write_all(&pdu(&CapsuleCmd::new(sqe, len, &self.framing), data)).context("sending a command")?;
        Ok(self.cid)
    }

    /// Reads until an answer came; none by then. What answers no command that the host waits for is an error, as it is for SPDK.
    fn answer(&mut self, by: Instant) -> Result<Option<Answer>> {
        loop {
            let Some(pdu) = self.pdu(by)? else { return Ok(None) };
            let cqe = match pdu.layout.pdu {
                PduType::CapsuleResp => pdu.read::<CapsuleResp>().context("a response")?.cqe,
                PduType::C2hData => {
                    let header: C2hData = pdu.read().context("C2HData")?;
                    let cid = header.cccid.get();
                    ensure!(self.outstanding.contains(&cid), "data came for command {cid}, which nobody waits for");
                    self.data.entry(cid).or_default().extend(&pdu.data);
                    if !pdu.flags.contains(Flags::SUCCESS) {
                        continue;
                    }
                    Cqe::new(cid, 0, Status::SUCCESS)
                }
                other => bail!("{other:?} came"),
            };
            let cid = cqe.cid.get();
            ensure!(
                self.outstanding.remove(&cid),
                "command {cid} was answered, and nobody waits for it: {}",
                cqe.status()
            );
            return Ok(Some((cqe, self.data.remove(&cid).unwrap_or_default())));
        }
    }

    /// The answer to a command.
    pub(super) fn wait(&mut self, cid: u16) -> Result<Answer> {
        let by = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.answers.iter().position(|(cqe, _)| cqe.cid.get() == cid) {
                return self.answers.remove(at).context("it is there");
            }
            let answer = self.answer(by)?.with_context(|| format!("command {cid} has no answer"))?;
            self.answers.push_back(answer);
        }
    }

    /// Sends a command and waits for its answer.
    pub(super) fn ask(&mut self, sqe: Sqe, data: &[u8], room: u32) -> Result<Answer> {
        let cid = self.submit(sqe, data, room)?;
        self.wait(cid)
    }

    /// The same, and it must succeed.
    pub(super) fn get(&mut self, sqe: Sqe, data: &[u8], room: u32) -> Result<Answer> {
        let opcode = sqe.opcode;
        let answer = self.ask(sqe, data, room)?;
        ensure!(answer.0.status().is_success(), "opcode {opcode:#x}: {}", answer.0.status());
        Ok(answer)
    }

    /// The host has dropped everything that it waited for: an answer is an error from now on.
    pub(super) fn drop_all(&mut self) {
        self.outstanding.clear();
    }

    /// Nothing comes for so long that would be an answer.
    pub(super) fn is_quiet(&mut self, time: Duration) -> Result<()> {
        ensure!(self.answers.is_empty(), "{} answers came that nobody asked for", self.answers.len());
        let answer = self.answer(Instant::now() + time)?;
        ensure!(answer.is_none(), "an answer came: {:?}", answer.map(|(cqe, _)| cqe.status()));
        Ok(())
    }

    /// Ends the connection in order: all that came was asked for, and the target closes it as well.
    pub(super) fn finish(mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write)?;
        self.stream.set_read_timeout(Some(PATIENCE))?;
        ensure!(self.pdus.pending() == 0 && self.answers.is_empty(), "there is something that nobody has read");
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            // A target that lets go at once may reset what it has nothing to say on.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => return Err(error).context("the target does not close the connection"),
        }
        ensure!(rest.is_empty(), "{} bytes came at the end", rest.len());
        Ok(())
    }

    /// Writes a block in which every byte is `byte`.
    pub(super) fn write(&mut self, slba: u64, byte: u8) -> Result<()> {
        self.get(Command::Write { slba, nlb: 1, fua: false }.to_sqe(NSID), &[byte; BLOCK], 0).map(drop)
    }

    /// Reads a block, in which every byte must be `byte`.
    pub(super) fn verify(&mut self, slba: u64, byte: u8) -> Result<()> {
        let (_, data) = self.get(Command::Read { slba, nlb: 1, fua: false }.to_sqe(NSID), &[], BLOCK as u32)?;
        ensure!(
            data.len() == BLOCK && data.iter().all(|read| *read == byte),
            "block {slba} is not {byte:#x} throughout"
        );
        Ok(())
    }
}

/// A controller that is enabled, and its admin queue.
pub(super) struct Association {
    pub(super) admin: Queue,
    pub(super) cntlid: u16,
    identity: Identity,
    port: u16,
}

impl Association {
    /// Connects and enables a controller.
    pub(super) fn open(port: u16, identity: &Identity, kato: Duration) -> Result<Self> {
        let kato_ms = u32::try_from(kato.as_millis())?;
        let connect = Connect { qid: 0, sqsize: SQSIZE, sq_flow_control: true, kato_ms };
        let mut admin = Queue::open(port)?;
        let (cqe, _) = admin.get(connect.to_sqe(), identity.data(0xFFFF)?.as_bytes(), 0)?;
        let cntlid = ConnectAnswer::from_dw0(cqe.dw0.get()).cntlid;
        let mut association = Self { admin, cntlid, identity: identity.clone(), port };
        association.set_cc(Cc::new(false).with_enable(true))?;
        ensure!(association.csts()?.ready(), "an enabled controller is ready");
        Ok(association)
    }

    /// An I/O queue of it.
    pub(super) fn queue(&self, qid: u16) -> Result<Queue> {
        let mut queue = Queue::open(self.port)?;
        let connect = Connect { qid, sqsize: SQSIZE, sq_flow_control: true, kato_ms: 0 };
        queue
            .get(connect.to_sqe(), self.identity.data(self.cntlid)?.as_bytes(), 0)
            .with_context(|| format!("connecting queue {qid}"))?;
        Ok(queue)
    }

    /// Sets CC.
    pub(super) fn set_cc(&mut self, cc: Cc) -> Result<()> {
        self.admin.get(PropertySet::cc(cc).to_sqe(), &[], 0).map(drop)
    }

    /// CSTS.
    pub(super) fn csts(&mut self) -> Result<Csts> {
        Ok(Csts(self.admin.get(PropertyGet::CSTS.to_sqe(), &[], 0)?.0.dw0.get()))
    }

    /// Keep Alive.
    pub(super) fn keep_alive(&mut self) -> Result<()> {
        self.admin.get(admin::keep_alive(), &[], 0).map(drop)
    }

    /// Asks for an event; answers the CID of the request.
    pub(super) fn ask_for_event(&mut self) -> Result<u16> {
        self.admin.submit(admin::async_event_request(), &[], 0)
    }
}

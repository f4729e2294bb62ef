//! Streams as a host sends them, for tests.

use interlock_wire::fabrics::{Connect, ConnectData};
use interlock_wire::nvm::Command;
use interlock_wire::pdu::{CapsuleCmd, CommonHeader, Framing, H2cData, IcReq, encode_header};
use interlock_wire::sqe::{Sgl, Sqe};

/// Without and with digests, and with an alignment that makes padding.
pub(crate) const FRAMINGS: [Framing; 3] =
    [Framing::PLAIN, Framing { hdgst: true, ddgst: true, align: 4 }, Framing { hdgst: true, ddgst: false, align: 128 }];

/// A stream, and where its PDUs end.
#[derive(Default)]
pub(crate) struct Sample {
    pub(crate) stream: Vec<u8>,
    pub(crate) ends: Vec<usize>,
}

impl Sample {
    fn pdu(&mut self, head: impl FnOnce(&mut Vec<u8>) -> usize, common: CommonHeader, data: u32) {
        let begin = self.stream.len();
        head(&mut self.stream);
        if data > 0 {
            self.stream.resize(begin + usize::from(common.pdo), 0);
            self.stream.extend(std::iter::repeat_n(0xda, data as usize));
        }
        // The data digest, whose value nobody on the way looks at.
        self.stream.resize(begin + common.plen.get() as usize, 0);
        self.ends.push(self.stream.len());
    }

    /// ICReq and Connect of queue `qid`.
    pub(crate) fn connected(qid: u16, framing: &Framing) -> Self {
        let mut sample = Self::default();
        let icreq = IcReq::new(framing.hdgst, framing.ddgst, 4, 0);
        sample.pdu(|out| encode_header(&icreq, out), icreq.ch, 0);
        let connect = Connect { qid, sqsize: 31, sq_flow_control: false, kato_ms: 0 };
        sample.capsule(connect.to_sqe(), size_of::<ConnectData>() as u32, framing);
        sample
    }

    /// A command with `data` bytes in its capsule.
    pub(crate) fn capsule(&mut self, sqe: Sqe, data: u32, framing: &Framing) {
        let capsule = CapsuleCmd::new(sqe, data, framing);
        self.pdu(|out| encode_header(&capsule, out), capsule.ch, data);
    }

    /// A write of 8 blocks of 512 bytes from `slba` on, all in its capsule.
    pub(crate) fn write(&mut self, cid: u16, slba: u64, framing: &Framing) {
        self.capsule(write(cid, slba, Sgl::InCapsule { len: 4096 }), 4096, framing);
    }

    /// The same, whose data is to be asked for.
    pub(crate) fn transfer(&mut self, cid: u16, slba: u64, framing: &Framing) {
        self.capsule(write(cid, slba, Sgl::Transport { len: 4096 }), 0, framing);
    }

    /// A read.
    pub(crate) fn read(&mut self, cid: u16, framing: &Framing) {
        let mut sqe = Command::Read { slba: 0, nlb: 8, fua: false }.to_sqe(1);
        sqe.cid.set(cid);
        sqe.set_sgl(Sgl::Transport { len: 4096 });
        self.capsule(sqe, 0, framing);
    }

    /// Data that was asked for.
    pub(crate) fn data(&mut self, cid: u16, offset: u32, len: u32, framing: &Framing) {
        let data = H2cData::new(cid, 7, offset, len, offset + len == 4096, framing);
        self.pdu(|out| encode_header(&data, out), data.ch, len);
    }
}

fn write(cid: u16, slba: u64, sgl: Sgl) -> Sqe {
    let mut sqe = Command::Write { slba, nlb: 8, fua: false }.to_sqe(1);
    sqe.cid.set(cid);
    sqe.set_sgl(sgl);
    sqe
}

/// A bit of everything.
pub(crate) fn stream(framing: &Framing) -> Sample {
    let mut sample = Sample::connected(1, framing);
    sample.read(1, framing);
    sample.write(2, 8, framing);
    sample.transfer(3, 16, framing);
    sample.data(3, 0, 2048, framing);
    sample.data(3, 2048, 2048, framing);
    sample.write(4, 24, framing);
    sample
}

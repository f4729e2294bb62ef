//! A host that speaks command by command, and says what no well-behaved host does.

use crate::child::{NQN, Target};
use crate::load::PATIENCE;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

pub(crate) const BLOCK: usize = 4096;

/// One queue, spoken to command by command.
pub(crate) struct Queue {
    pub(crate) stream: TcpStream,
    cid: u16,
}

/// The parts of a submission queue entry that matter here.
#[derive(Default)]
pub(crate) struct Sqe {
    pub(crate) opcode: u8,
    /// FCTYPE of a Fabrics command, else the NSID.
    pub(crate) dword1: u32,
    /// Bytes that the host wants.
    pub(crate) room: u32,
    /// Bytes 40 to 63.
    pub(crate) rest: Vec<u8>,
}

impl Queue {
    pub(crate) fn new(target: &Target) -> Self {
        Self::from(target, Ipv4Addr::LOCALHOST)
    }

    /// From this address of the machine.
    pub(crate) fn from(target: &Target, address: Ipv4Addr) -> Self {
        let number: u16 = target.port(0).parse().expect("a port");
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddrV4::new(address, 0)).expect("a loopback address");
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, number)).expect("it listens");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut icreq = vec![0; 128];
        (icreq[2], icreq[4]) = (128, 128);
        stream.write_all(&icreq).expect("it takes bytes");
        let mut icresp = [0; 128];
        stream.read_exact(&mut icresp).expect("it answers");
        Self { stream, cid: 0 }
    }

    pub(crate) fn send(&mut self, sqe: &Sqe, data: &[u8]) {
        self.cid += 1;
        let mut pdu = vec![4, 0, 72, if data.is_empty() { 0 } else { 72 }];
        pdu.extend((72 + data.len() as u32).to_le_bytes());
        let mut entry = vec![0; 64];
        (entry[0], entry[1]) = (sqe.opcode, 0x40);
        entry[2..4].copy_from_slice(&self.cid.to_le_bytes());
        entry[4..8].copy_from_slice(&sqe.dword1.to_le_bytes());
        let (len, kind) = if data.is_empty() { (sqe.room, 0x5a) } else { (data.len() as u32, 0x01) };
        entry[32..36].copy_from_slice(&len.to_le_bytes());
        entry[39] = kind;
        entry[40..40 + sqe.rest.len()].copy_from_slice(&sqe.rest);
        pdu.extend(entry);
        pdu.extend(data);
        self.stream.write_all(&pdu).expect("it takes bytes");
    }

    /// Status, DW0 and data of the next answer.
    pub(crate) fn answer(&mut self) -> (u16, u32, Vec<u8>) {
        let mut data = Vec::new();
        loop {
            let mut header = [0; 8];
            self.stream.read_exact(&mut header).expect("an answer");
            let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
            let mut body = vec![0; len - 8];
            self.stream.read_exact(&mut body).expect("an answer");
            match header[0] {
                7 => {
                    data.extend(&body[16..]);
                    if header[1] & 8 != 0 {
                        return (0, 0, data);
                    }
                }
                5 => {
                    let dw0 = u32::from_le_bytes([body[0], body[1], body[2], body[3]]);
                    return (u16::from_le_bytes([body[14], body[15]]) >> 1, dw0, data);
                }
                other => panic!("PDU type {other}"),
            }
        }
    }

    pub(crate) fn ask(&mut self, sqe: &Sqe, data: &[u8]) -> (u32, Vec<u8>) {
        self.send(sqe, data);
        let (status, dw0, data) = self.answer();
        assert_eq!(status, 0);
        (dw0, data)
    }

    pub(crate) fn connect(&mut self, qid: u16, cntlid: u16, kato_ms: u32) -> u16 {
        self.connect_to(NQN, qid, cntlid, kato_ms)
    }

    /// The Controller Identifier.
    pub(crate) fn connect_to(&mut self, nqn: &str, qid: u16, cntlid: u16, kato_ms: u32) -> u16 {
        let mut rest = vec![0; 2];
        rest.extend(qid.to_le_bytes());
        rest.extend(31_u16.to_le_bytes());
        rest.extend([0, 0]);
        rest.extend(kato_ms.to_le_bytes());
        let mut data = vec![0; 1024];
        data[..16].fill(0x22);
        data[16..18].copy_from_slice(&cntlid.to_le_bytes());
        data[256..256 + nqn.len()].copy_from_slice(nqn.as_bytes());
        let host = b"nqn.2014-08.org.nvmexpress:uuid:22222222-2222-4222-8222-222222222222";
        data[512..512 + host.len()].copy_from_slice(host);
        self.ask(&Sqe { opcode: 0x7f, dword1: 1, rest, ..Sqe::default() }, &data).0 as u16
    }

    /// Sets CC.EN, and sees that it is ready.
    pub(crate) fn enable(&mut self) {
        self.set_cc(0x0046_0001);
        let (csts, _) = self.ask(&Sqe { opcode: 0x7f, dword1: 4, rest: property(0x1c, 0), ..Sqe::default() }, &[]);
        assert_eq!(csts & 1, 1, "ready");
    }

    pub(crate) fn set_cc(&mut self, cc: u32) {
        self.ask(&Sqe { opcode: 0x7f, rest: property(0x14, cc), ..Sqe::default() }, &[]);
    }

    pub(crate) fn identify(&mut self, cns: u8, nsid: u32) -> Vec<u8> {
        self.ask(&Sqe { opcode: 6, dword1: nsid, room: 4096, rest: vec![cns] }, &[]).1
    }

    pub(crate) fn write(&mut self, byte: u8) {
        self.send(&Sqe { opcode: 1, dword1: 1, ..Sqe::default() }, &[byte; BLOCK]);
    }

    pub(crate) fn read(&mut self) -> u8 {
        let (_, data) = self.ask(&Sqe { opcode: 2, dword1: 1, room: BLOCK as u32, rest: Vec::new() }, &[]);
        data[0]
    }
}

fn property(offset: u32, value: u32) -> Vec<u8> {
    let mut rest = vec![0; 4];
    rest.extend(offset.to_le_bytes());
    rest.extend(value.to_le_bytes());
    rest
}

/// An admin queue and an I/O queue of an enabled controller.
pub(crate) fn host(target: &Target, kato_ms: u32) -> (Queue, Queue) {
    host_from(target, Ipv4Addr::LOCALHOST, kato_ms)
}

/// The same from an address of the machine.
pub(crate) fn host_from(target: &Target, address: Ipv4Addr, kato_ms: u32) -> (Queue, Queue) {
    let mut admin = Queue::from(target, address);
    let cntlid = admin.connect(0, 0xffff, kato_ms);
    admin.enable();
    let mut io = Queue::from(target, address);
    io.connect(1, cntlid, 0);
    (admin, io)
}

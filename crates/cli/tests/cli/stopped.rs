//! A target that was stopped while a host gave it up: a write that lay in its receive buffer must not be executed when it
//! goes on.

use crate::child::{NQN, Target};
use crate::load::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;

/// One queue, spoken to command by command.
struct Queue {
    stream: TcpStream,
    cid: u16,
}

/// The parts of a submission queue entry that matter here.
#[derive(Default)]
struct Sqe {
    opcode: u8,
    /// FCTYPE of a Fabrics command, else the NSID.
    dword1: u32,
    /// Bytes that the host wants.
    room: u32,
    /// Bytes 40 to 63.
    rest: Vec<u8>,
}

impl Queue {
    fn new(target: &Target) -> Self {
        let number: u16 = target.port(0).parse().expect("a port");
        let mut stream = TcpStream::connect(("127.0.0.1", number)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut icreq = vec![0; 128];
        (icreq[2], icreq[4]) = (128, 128);
        stream.write_all(&icreq).expect("it takes bytes");
        let mut icresp = [0; 128];
        stream.read_exact(&mut icresp).expect("it answers");
        Self { stream, cid: 0 }
    }

    fn send(&mut self, sqe: &Sqe, data: &[u8]) {
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
    fn answer(&mut self) -> (u16, u32, Vec<u8>) {
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

    fn ask(&mut self, sqe: &Sqe, data: &[u8]) -> (u32, Vec<u8>) {
        self.send(sqe, data);
        let (status, dw0, data) = self.answer();
        assert_eq!(status, 0);
        (dw0, data)
    }

    fn connect(&mut self, qid: u16, cntlid: u16, kato_ms: u32) -> u16 {
        let mut rest = vec![0; 2];
        rest.extend(qid.to_le_bytes());
        rest.extend(31_u16.to_le_bytes());
        rest.extend([0, 0]);
        rest.extend(kato_ms.to_le_bytes());
        let mut data = vec![0; 1024];
        data[..16].fill(0x22);
        data[16..18].copy_from_slice(&cntlid.to_le_bytes());
        data[256..256 + NQN.len()].copy_from_slice(NQN.as_bytes());
        let host = b"nqn.2014-08.org.nvmexpress:uuid:22222222-2222-4222-8222-222222222222";
        data[512..512 + host.len()].copy_from_slice(host);
        self.ask(&Sqe { opcode: 0x7f, dword1: 1, rest, ..Sqe::default() }, &data).0 as u16
    }

    fn write(&mut self, byte: u8) {
        self.send(&Sqe { opcode: 1, dword1: 1, ..Sqe::default() }, &[byte; BLOCK]);
    }

    fn read(&mut self) -> u8 {
        let (_, data) = self.ask(&Sqe { opcode: 2, dword1: 1, room: BLOCK as u32, rest: Vec::new() }, &[]);
        data[0]
    }
}

/// An admin queue and an I/O queue of an enabled controller.
fn host(target: &Target, kato_ms: u32) -> (Queue, Queue) {
    let mut admin = Queue::new(target);
    let cntlid = admin.connect(0, 0xffff, kato_ms);
    let property = |offset: u32, value: u32| {
        let mut rest = vec![0; 4];
        rest.extend(offset.to_le_bytes());
        rest.extend(value.to_le_bytes());
        rest
    };
    admin.ask(&Sqe { opcode: 0x7f, rest: property(0x14, 0x0046_0001), ..Sqe::default() }, &[]);
    let (csts, _) = admin.ask(&Sqe { opcode: 0x7f, dword1: 4, rest: property(0x1c, 0), ..Sqe::default() }, &[]);
    assert_eq!(csts & 1, 1, "ready");
    let mut io = Queue::new(target);
    io.connect(1, cntlid, 0);
    (admin, io)
}

/// Keep Alive Timeout of the host: the smallest that the target grants.
const KATO: Duration = Duration::from_secs(1);

/// The target's Command Quiesce Time.
const CQT: Duration = Duration::from_millis(100);

/// A host that counts at the target's pace and with traffic-based keep alive must wait so long: it knows no margin here.
const HOLD: Duration = Duration::from_millis(3 * KATO.as_millis() as u64 + CQT.as_millis() as u64);

fn signal(target: &Target, signal: Signal) {
    let pid = Pid::from_raw(target.pid() as i32).expect("a process");
    kill_process(pid, signal).expect("it is there");
}

/// Waits until no thread of it runs any more: a signal is on its way for a moment.
fn wait_stopped(target: &Target) {
    let over = Instant::now() + PATIENCE;
    let stopped = |path: std::path::PathBuf| {
        // `PID (NAME) STATE ...`
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = || std::fs::read_dir(format!("/proc/{}/task", target.pid())).expect("a process").flatten();
    while !tasks().all(|task| stopped(task.path())) {
        assert!(Instant::now() < over, "it does not stop");
        std::thread::yield_now();
    }
}

#[test]
fn a_write_that_was_received_by_a_stopped_target_is_not_executed_later() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stopped-{}.img", std::process::id()));
    std::fs::File::create(&file).and_then(|file| file.set_len(1 << 20)).expect("a file");
    for backing in ["mem:1M".to_owned(), format!("file:{}", file.display())] {
        let target = Target::start(&["--port", "127.0.0.1:0", "--namespace", &backing, "--cqt", "100", "--nqn", NQN]);
        let (admin, mut io) = host(&target, KATO.as_millis() as u32);
        io.write(0xee);
        assert_eq!(io.answer().0, 0);
        signal(&target, Signal::STOP);
        wait_stopped(&target);
        io.write(0x11);
        drop((admin, io));
        let over = Instant::now() + HOLD;
        while Instant::now() < over {
            std::thread::park_timeout(over.saturating_duration_since(Instant::now()));
        }
        signal(&target, Signal::CONT);
        let (_admin, mut io) = host(&target, 0);
        assert_eq!(io.read(), 0xee, "{backing}: the write was executed after its host had given it up");
        assert!(target.stop(Signal::TERM).0.success());
    }
    std::fs::remove_file(file).expect("it is ours");
}

//! Peers that break the protocol, on real sockets: they end themselves, and nobody else.

use interlock_proto::host::{Event, Queue, QueueConfig};
use interlock_proto::{SendList, Sink, Source};
use interlock_target::config::{Config, SAMPLE_NQN};
use interlock_target::{Pool, PoolConfig, Target};
use interlock_wire::IntoBytes;
use interlock_wire::fabrics::{Cc, Connect, ConnectAnswer, ConnectData, PropertySet};
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::nvm::Command;
use interlock_wire::pdu::{Direction, Fatal, Fes, TermReq};
use interlock_wire::sqe::{Cqe, Sqe};
use interlock_wire::status::Status;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Blocks of a read of 1 MiB, and as many reads as no pair of sockets holds.
const BLOCKS: u32 = 2048;
const READS: usize = 24;

/// One queue, as a host has it.
struct Peer {
    socket: TcpStream,
    queue: Queue,
}

impl Peer {
    fn dial(at: SocketAddr, connect: Connect, cntlid: u16) -> (Self, Cqe) {
        let socket = TcpStream::connect(at).expect("the target listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        let queue = Queue::new(QueueConfig { depth: 31, hdgst: false, ddgst: false, in_capsule: 4096 });
        let mut peer = Self { socket, queue };
        let nqn = Nqn::new("nqn.2014-08.org.example:peer").expect("a name");
        let data = ConnectData::new(HostId([7; 16]), &nqn, &Nqn::new(SAMPLE_NQN).expect("a name"), cntlid);
        let cqe = peer.ask(connect.to_sqe(), data.as_bytes().to_vec(), 0).0;
        assert_eq!(cqe.status(), Status::SUCCESS);
        (peer, cqe)
    }

    fn submit(&mut self, sqe: Sqe, out: Vec<u8>, into: u32) {
        let out = if out.is_empty() { Source::None } else { Source::Bytes(out) };
        let into = if into == 0 { Sink::None } else { Sink::Bytes(into) };
        self.queue.submit(sqe, out, into, 1).expect("a place in the queue");
    }

    fn send(&mut self) {
        let mut list = SendList::new();
        self.queue.poll_send(&mut list);
        self.socket.write_all(&list.headers).expect("the target takes commands");
        self.queue.handle_given(list.bytes());
    }

    fn ask(&mut self, sqe: Sqe, out: Vec<u8>, into: u32) -> (Cqe, Vec<u8>) {
        self.submit(sqe, out, into);
        let mut bytes = vec![0; 4096];
        loop {
            self.send();
            while let Some(event) = self.queue.poll_event() {
                if let Event::Completed { cqe, data, .. } = event {
                    return (cqe, data);
                }
            }
            let count = self.socket.read(&mut bytes).expect("an answer");
            assert!(count > 0, "the target closed the connection");
            let taken = self.queue.handle_bytes(&bytes[..count]).expect("the target keeps to the protocol");
            assert_eq!(taken.used, count);
        }
    }
}

/// A controller with an I/O queue.
fn associate(at: SocketAddr) -> (Peer, Peer) {
    let admin = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms: 0 };
    let (mut admin, cqe) = Peer::dial(at, admin, 0xFFFF);
    let cntlid = ConnectAnswer::from_dw0(cqe.dw0.get()).cntlid;
    admin.ask(PropertySet::cc(Cc::new(false).with_enable(true)).to_sqe(), Vec::new(), 0);
    let io = Connect { qid: 1, sqsize: 31, sq_flow_control: false, kato_ms: 0 };
    (admin, Peer::dial(at, io, cntlid).0)
}

fn read(nlb: u32) -> Sqe {
    Command::Read { slba: 0, nlb, fua: false }.to_sqe(1)
}

#[test]
fn who_takes_no_answers_and_then_breaks_the_protocol_ends_alone() {
    let pool =
        Pool::new(PoolConfig { reactors: 1, spin: Duration::ZERO, name: "target".into(), ..PoolConfig::default() });
    let pool = pool.expect("io_uring or epoll is there");
    let port = "[[port]]\nlisten = \"127.0.0.1:0\"\n";
    let namespace = "[[namespace]]\nbacking = \"mem:4M\"\nblock_size = 512\n";
    let config = Config::from_toml(&format!("nqn = \"{SAMPLE_NQN}\"\n{port}{namespace}"));
    let target = Target::start(pool.reactors(), &config.expect("the configuration is right")).expect("it starts");
    let at = target.ports()[0];
    let (_admin, mut good) = associate(at);
    let why = Fatal::new(Fes::PduSequenceError, 0, "as the host says");
    for end in [vec![0xFF; 8], TermReq::encode(Direction::ToController, &why, &[0; 8])] {
        let (_admin, mut bad) = associate(at);
        for _ in 0..READS {
            bad.submit(read(BLOCKS), Vec::new(), BLOCKS * 512);
        }
        bad.send();
        // The first byte of an answer: the target has read all commands, and cannot get rid of what they ask for.
        bad.socket.read_exact(&mut [0]).expect("an answer");
        bad.socket.write_all(&end).expect("the target reads");
        let mut rest = vec![0; 1 << 20];
        // An end or a reset: what was on its way may come before it.
        while bad.socket.read(&mut rest).is_ok_and(|count| count > 0) {}
        let (cqe, data) = good.ask(read(8), Vec::new(), 4096);
        assert_eq!((cqe.status(), data), (Status::SUCCESS, vec![0; 4096]));
    }
    assert!(pool.panicked().is_empty());
    target.shutdown(PATIENCE).expect("it ends in order");
    pool.shutdown(PATIENCE).expect("no service panicked");
}

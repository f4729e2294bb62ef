//! Connections as a successor and a fence must see them: until the kernel has let go, and whatever their address.

use super::*;
use interlock_base::Span;
use interlock_proto::{SendList, Taken};
use interlock_ring::{Call, Faults, Pool, PoolConfig, Service, Verdict};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

const WITHIN: Duration = Duration::from_secs(20);
const CONN: ConnId = ConnId(1);
const LIFE: LifeId = LifeId(7);
const EPERM: i32 = 1;

/// A security module that forbids to disconnect, and a ring that holds what was closed.
#[derive(Default)]
struct Refuses(AtomicBool);

impl Faults for Refuses {
    fn decide(&self, call: &Call<'_>) -> Verdict {
        let refused = matches!(call, Call::Abort) && self.0.load(Ordering::SeqCst);
        if refused { Verdict::Fail(EPERM) } else { Verdict::Pass }
    }
}

/// Writes down what it is told.
#[derive(Default)]
struct Told(Vec<ConnEvent>);

impl Machine for Told {
    type Conn = ConnId;

    fn handle_bytes(&mut self, _: Instant, _: ConnId, bytes: &[u8]) -> Taken {
        Taken { used: bytes.len(), place: None }
    }
    fn handle_placed(&mut self, _: Instant, _: ConnId, _: u32, _: u32) {}
    fn direct(&self, _: ConnId, _: u32) -> Option<(Span, Option<u32>)> {
        None
    }
    fn handle_given(&mut self, _: Instant, _: ConnId, _: u64) {}
    fn poll_send(&mut self, _: ConnId, _: &mut SendList) {}
    fn is_blocked(&self, _: ConnId) -> bool {
        false
    }
}

impl HostMachine for Told {
    fn handle_conn(&mut self, _: Instant, _: ConnId, event: ConnEvent) {
        self.0.push(event);
    }
    fn life_of(&self, _: ConnId) -> Option<LifeId> {
        Some(LIFE)
    }
}

/// How the connection ends first, and how the kernel is asked again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Asked,
    LostAndTriedAgain,
}

struct Script {
    links: Links,
    sockets: Sockets,
    machine: Told,
    memory: BufTable,
    faults: Arc<Refuses>,
    way: Way,
    done: Sender<Vec<ConnEvent>>,
}

impl Script {
    fn refused(&mut self, cx: &mut Cx<'_>) {
        assert_eq!(std::mem::take(&mut self.machine.0), [ConnEvent::Up]);
        // It was dialled as any address of this machine, and the kernel says which it took.
        let pairs = self.sockets.of(LIFE);
        assert!(pairs.len() == 1 && pairs[0].peer.ip().is_loopback(), "{pairs:?}");
        assert_eq!(self.sockets.of(LifeId(8)), []);
        self.faults.0.store(true, Ordering::SeqCst);
        let lane = LaneId(0);
        match self.way {
            Way::Asked => self.links.act(cx, &mut self.machine, ConnAction::Abort(CONN)),
            Way::LostAndTriedAgain => self.links.ended(cx, &mut self.machine, CONN, Io::Ended(None)),
        }
        assert!(!self.sockets.cut(lane, LIFE), "its reactor let go of it, and the kernel did not");
        self.links.act(cx, &mut self.machine, ConnAction::WatchDrain(CONN));
        self.links.act(cx, &mut self.machine, ConnAction::Abort(CONN));
        self.links.act(cx, &mut self.machine, ConnAction::WatchDrain(CONN));
        assert!(!self.sockets.cut(lane, LIFE));
        assert_eq!(self.machine.0, [], "what it holds may still be delivered");
        self.faults.0.store(false, Ordering::SeqCst);
        assert!(!self.sockets.cut(lane, LIFE), "nobody has asked the kernel since");
        if self.way == Way::Asked {
            self.links.act(cx, &mut self.machine, ConnAction::Abort(CONN));
        }
    }
}

impl Service for Script {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Attached | Event::Deadline => {}
            Event::Connected { .. } => {
                self.links.handle(cx, &mut self.machine, &mut self.memory, event);
                self.refused(cx);
            }
            event => self.links.handle(cx, &mut self.machine, &mut self.memory, event),
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        self.links.turn(cx, &mut self.machine, &self.memory);
        cx.set_deadline(self.links.next_deadline());
        if self.machine.0.last() == Some(&ConnEvent::Aborted) {
            assert!(self.sockets.cut(LaneId(0), LIFE), "it is gone");
            drop(self.done.send(std::mem::take(&mut self.machine.0)));
        }
    }
}

fn told(way: Way) -> Vec<ConnEvent> {
    let faults = Arc::new(Refuses::default());
    let config = PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() };
    let pool = Pool::with_faults(config, faults.clone()).expect("a reactor");
    let target = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = target.local_addr().expect("it has one").port();
    let addr = (std::net::Ipv4Addr::UNSPECIFIED, port).into();
    let (done, end) = channel();
    let script = move |cx: &mut Cx<'_>| -> Box<dyn Service> {
        let sockets = Sockets::default();
        let links = Links::new(Some(LaneId(0)), sockets.clone());
        let (machine, memory) = (Told::default(), BufTable::default());
        let mut script = Script { links, sockets, machine, memory, faults, way, done };
        let dial = Dial { addr, local: None, iface: None, user_timeout: WITHIN };
        script.links.act(cx, &mut script.machine, ConnAction::Open(CONN, dial));
        Box::new(script)
    };
    pool.reactor(0).attach(script).expect("attached");
    let told = end.recv_timeout(WITHIN).expect("the kernel lets go of it in the end, and that is told");
    pool.shutdown(WITHIN).expect("ends");
    told
}

#[test]
fn an_abort_that_the_kernel_refuses_is_not_told_as_done_however_it_is_asked_again() {
    assert_eq!(told(Way::Asked), [ConnEvent::Aborted]);
}

#[test]
fn a_connection_that_was_lost_and_refused_to_end_is_tried_again_by_itself() {
    assert_eq!(told(Way::LostAndTriedAgain), [ConnEvent::Aborted]);
}

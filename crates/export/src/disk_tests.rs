//! What a disk makes of the end of its host.

use super::*;
use interlock_host::{Host, HostSettings, NamespaceStatus, Shape};
use interlock_ring::{Event, Pool, PoolConfig, Service};
use std::sync::mpsc::{Sender, channel};

const WITHIN: Duration = Duration::from_secs(20);

/// What was finished, how much is in flight, and whether that is left.
type Told = (Vec<Result<usize, Fault>>, usize, bool);

/// Asks for one flush whenever it gets mail and nothing is in flight, and tells what became of it.
struct Client {
    disk: Disk,
    told: Sender<Told>,
}

impl Service for Client {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Mail if self.disk.in_flight() == 0 => self.disk.submit(cx, Work::Flush, 7),
            Event::Deadline => self.disk.handle_timeout(cx),
            _ => {}
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        let mut ended = Vec::new();
        while let Some(Finished { result, .. }) = self.disk.poll(cx) {
            ended.push(result.map(|parts| parts.len()));
        }
        cx.set_deadline(self.disk.next_deadline());
        if self.disk.next_deadline().is_some() || self.disk.is_left() || !ended.is_empty() {
            drop(self.told.send((ended, self.disk.in_flight(), self.disk.is_left())));
        }
    }
}

/// What becomes of a flush that the host's end meets: asked for `before` it, or after.
fn end_of(on_loss: OnLoss, before: bool) -> Told {
    let pool = Pool::new(PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() }).expect("a reactor");
    let host = Host::start(pool.reactors(), HostSettings::random().expect("random")).expect("starts");
    let namespace = host.open(NamespaceStatus {
        head: interlock_host::HeadId(0),
        subnqn: "nqn.2014-08.org.example:s".to_owned(),
        nsid: 1,
        shape: Shape { block_size: 512, blocks: 8, metadata: 0, read_only: false },
        ids: interlock_host::NamespaceIds::default(),
        paths: Vec::new(),
        suspects: Vec::new(),
    });
    let (told, ends) = channel();
    let (wake, waker) = channel();
    let make = move |cx: &mut Cx<'_>| -> Box<dyn Service> {
        let door = namespace.local(cx).expect("its lane runs here");
        wake.send(cx.waker()).expect("awaited");
        Box::new(Client { disk: Disk::new(door, BufPool::default(), on_loss), told })
    };
    pool.reactor(0).attach(make).expect("attached");
    let waker = waker.recv_timeout(WITHIN).expect("made");
    if before {
        waker.wake();
        assert_eq!(ends.recv_timeout(WITHIN), Ok((vec![], 1, false)), "no such namespace yet: it is held");
    }
    host.shutdown(WITHIN).expect("ends");
    waker.wake();
    let last = loop {
        let told = ends.recv_timeout(WITHIN).expect("it comes to an end");
        if told.2 || !told.0.is_empty() {
            break told;
        }
    };
    pool.shutdown(WITHIN).expect("ends");
    last
}

#[test]
fn what_is_held_when_the_host_ends_is_left_without_an_answer() {
    assert_eq!(end_of(OnLoss::Hold, true), (vec![], 1, true));
}

#[test]
fn what_comes_after_the_end_of_the_host_is_left_too_or_fails_where_losses_fail() {
    assert_eq!(end_of(OnLoss::Hold, false), (vec![], 1, true));
    let refused = Err(Fault::Refused(Refused::ShuttingDown));
    assert_eq!(end_of(OnLoss::Fail, false), (vec![refused], 0, false));
}

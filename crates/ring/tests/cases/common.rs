//! What the tests share: a service made of a closure, and a pool that does not spin.
#![allow(unreachable_pub, reason = "every test file uses its own part")]

use interlock_ring::{Cx, Event, Pool, PoolConfig, Reactor, Service, ServiceId};
use std::sync::mpsc;
use std::time::Duration;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A service whose `handle` is a closure.
pub struct Script<F>(pub F);

impl<F: FnMut(&mut Cx<'_>, Event)> Service for Script<F> {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        (self.0)(cx, event);
    }
}

pub fn script(work: impl FnMut(&mut Cx<'_>, Event) + 'static) -> Box<dyn Service> {
    Box::new(Script(work))
}

pub fn pool(reactors: usize) -> Pool {
    spinning(reactors, Duration::ZERO)
}

pub fn spinning(reactors: usize, spin: Duration) -> Pool {
    Pool::new(PoolConfig { reactors, spin, staging: 64 << 10, name: "test".into(), backend: Some(crate::BACKEND) })
        .unwrap()
}

/// Attaches a closure that also gets a sender; gives its other end.
pub fn attach<T: Send + 'static, F: FnMut(&mut Cx<'_>, Event) + 'static>(
    reactor: &Reactor,
    make: impl FnOnce(&mut Cx<'_>, mpsc::Sender<T>) -> F + Send + 'static,
) -> (ServiceId, mpsc::Receiver<T>) {
    let (send, receive) = mpsc::channel();
    let id = reactor.attach(move |cx| script(make(cx, send))).unwrap();
    (id, receive)
}

pub fn next<T>(receiver: &mpsc::Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("the event comes")
}

pub fn finish(pool: Pool) {
    pool.shutdown(PATIENCE).unwrap();
}

pub const ANY: &str = "127.0.0.1:0";

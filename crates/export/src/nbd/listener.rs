//! Takes connections and hands each to a reactor.

use super::connection::Connection;
use super::table::Table;
use interlock_ring::{Cx, Event, Reactor, Service};
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(super) struct ListenerService {
    table: Arc<Table>,
    reactors: Vec<Reactor>,
    next: usize,
}

impl ListenerService {
    pub(super) fn new(table: Arc<Table>, reactors: Vec<Reactor>) -> Self {
        Self { table, reactors, next: 0 }
    }

    /// On its reactor.
    pub(super) fn attach(self, cx: &mut Cx<'_>, socket: OwnedFd) -> Box<dyn Service> {
        cx.adopt_listener(socket).expect("the socket was told to listen");
        Box::new(self)
    }
}

impl Service for ListenerService {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        // A connection that cannot be taken now is tried again by the reactor; the client waits.
        let Event::AcceptedLocal { sock, .. } = event else { return };
        let peer = cx.with_fd(sock, |fd| rustix::net::sockopt::socket_peercred(fd));
        let pid = peer.ok().and_then(Result::ok).map(|peer| peer.pid.as_raw_nonzero().get());
        // Without a seat it is dropped: too many, or everything ends.
        let Some(seated) = self.table.seat(pid, cx.now()) else { return drop(cx.abort(sock)) };
        let Ok(loose) = cx.release(sock) else { return };
        let reactor = &self.reactors[self.next % self.reactors.len()];
        self.next = self.next.wrapping_add(1);
        // A reactor that has ended drops the connection, and its seat.
        let _ = reactor.attach(move |cx| Box::new(Connection::new(cx, loose, seated)));
    }
}

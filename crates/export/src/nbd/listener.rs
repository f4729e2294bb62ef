//! Takes connections and hands each to a reactor.

use super::connection::Connection;
use super::table::Table;
use crate::turns::{Comer, Comers, Pace, Turns};
use interlock_ring::{Cx, Event, Listener, Reactor, Service};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// How often one process may connect.
const PROCESS: Pace = Pace { burst: 64, each: Duration::from_micros(62_500) };
/// How often one user may, with all of its processes.
const USER: Pace = Pace { burst: 256, each: Duration::from_micros(15_625) };
/// How often connections are taken from the kernel at all, those included that are sent away: the others wait there.
const ALL: Pace = Pace { burst: 256, each: Duration::from_millis(2) };
/// A connection whose turn is later is sent away.
const TURN_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct ListenerService {
    table: Arc<Table>,
    reactors: Vec<Reactor>,
    next: usize,
    comers: Comers,
    taken: Turns<()>,
    /// The listener, while it takes nothing.
    paused: Option<Listener>,
}

impl ListenerService {
    pub(super) fn new(table: Arc<Table>, reactors: Vec<Reactor>) -> Self {
        let (comers, taken) = (Comers::new(PROCESS, USER, TURN_WITHIN), Turns::new(ALL, TURN_WITHIN));
        Self { table, reactors, next: 0, comers, taken, paused: None }
    }

    /// On its reactor.
    pub(super) fn attach(self, cx: &mut Cx<'_>, socket: OwnedFd) -> Box<dyn Service> {
        cx.adopt_listener(socket).expect("the socket was told to listen");
        Box::new(self)
    }

    /// One was taken: whether the next may be, and when.
    fn rest(&mut self, cx: &mut Cx<'_>, listener: Listener) {
        let now = cx.now();
        let next = self.taken.take((), now).unwrap_or(now + TURN_WITHIN);
        if next > now && cx.pause_accept(listener, true).is_ok() {
            self.paused = Some(listener);
            cx.set_deadline(Some(next));
        }
    }
}

impl Service for ListenerService {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        // A connection that cannot be taken now is tried again by the reactor; the client waits.
        let (listener, sock) = match event {
            Event::AcceptedLocal { listener, sock } => (listener, sock),
            Event::Deadline => {
                if let Some(listener) = self.paused.take() {
                    let _ = cx.pause_accept(listener, false); // it is closed with this service only
                }
                return;
            }
            _ => return,
        };
        self.rest(cx, listener);
        let peer = cx.with_fd(sock, |fd| rustix::net::sockopt::socket_peercred(fd)).ok().and_then(Result::ok);
        let comer =
            Comer { pid: peer.map(|peer| peer.pid.as_raw_nonzero().get()), uid: peer.map(|peer| peer.uid.as_raw()) };
        let Some(turn) = self.comers.take(comer, cx.now()) else { return drop(cx.abort(sock)) };
        // Without a seat it is dropped: too many, or everything ends.
        let Some(seated) = self.table.seat(comer.pid, cx.now()) else { return drop(cx.abort(sock)) };
        let Ok(loose) = cx.release(sock) else { return };
        let reactor = &self.reactors[self.next % self.reactors.len()];
        self.next = self.next.wrapping_add(1);
        // A reactor that has ended drops the connection, and its seat.
        let _ = reactor.attach(move |cx| Box::new(Connection::new(cx, loose, seated, turn)));
    }
}

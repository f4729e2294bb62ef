//! The proxy on its reactor.

use crate::proxy::conn::{Conn, Far, Near, Side, Voice};
use crate::proxy::{ConnId, Fault, NetEvent, StampedNet};
use interlock_ring::{ConnectOptions, Cx, Event, Listener, Sock};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender};

/// One connection takes at most so many pieces in a turn.
const PIECES: usize = 16;

struct Path {
    listener: Listener,
    target: SocketAddr,
}

/// What became of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    InOrder,
    Broken,
}

/// The service.
pub(crate) struct Service {
    faults: Receiver<Fault>,
    tell: Sender<StampedNet>,
    paths: Vec<Path>,
    conns: BTreeMap<ConnId, Conn>,
    socks: BTreeMap<Sock, (ConnId, Side)>,
    next: u64,
}

impl Service {
    pub(crate) fn new(faults: Receiver<Fault>, tell: Sender<StampedNet>) -> Self {
        let (paths, conns, socks) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { faults, tell, paths, conns, socks, next: 0 }
    }

    /// One more path, to `target`: says where the host finds it.
    pub(crate) fn listen(&mut self, cx: &mut Cx<'_>, target: SocketAddr) -> io::Result<SocketAddr> {
        let here = match target {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        };
        let (listener, port) = cx.listen(here)?;
        self.paths.push(Path { listener, target });
        Ok(port)
    }

    fn say(&self, event: NetEvent) {
        // Whoever asked may be gone.
        let _ = self.tell.send(StampedNet { at: interlock_ring::now(), event });
    }

    fn inject(&mut self, cx: &mut Cx<'_>, fault: Fault) {
        match fault {
            Fault::Hold { path } => self.on(path).for_each(|conn| conn.cutter.hold()),
            Fault::Reset { path } => {
                for id in self.ids(Some(path)) {
                    self.reset(cx, id);
                }
            }
            Fault::Mute { path } => {
                // The kernel goes on completing handshakes, and then there is silence.
                let _ = self.paths.get(path).map(|path| cx.pause_accept(path.listener, true));
                for conn in self.on(path) {
                    conn.cutter.cut();
                    conn.voice = Voice::Mute;
                }
            }
            Fault::Release => {
                for path in &self.paths {
                    let _ = cx.pause_accept(path.listener, false);
                }
                for id in self.ids(None) {
                    self.release(cx, id);
                }
            }
        }
    }

    fn on(&mut self, path: usize) -> impl Iterator<Item = &mut Conn> {
        self.conns.values_mut().filter(move |conn| conn.path == path)
    }

    fn ids(&self, path: Option<usize>) -> Vec<ConnId> {
        let wanted = self.conns.values().filter(|conn| path.is_none_or(|path| conn.path == path));
        wanted.map(|conn| conn.id).collect()
    }

    fn reset(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        // What has reached the network before is in the network.
        self.read(cx, id, Side::Host);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(host) = conn.host() else { return };
        conn.cutter.cut();
        conn.near = Near::Gone;
        self.socks.remove(&host);
        let _ = cx.abort(host);
        self.say(NetEvent::Reset { conn: id });
    }

    fn release(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.voice = Voice::Speaks;
        if !conn.cutter.is_cut() {
            return;
        }
        let (kept, writes) = conn.cutter.release();
        conn.told = 0;
        if conn.far == Far::Closed {
            for write in writes {
                self.say(NetEvent::Refused { conn: id, write });
            }
            self.close_host(cx, id, Ended::Broken);
            return;
        }
        let (bytes, count) = (kept.len(), writes.len());
        conn.to_target.bytes.extend(kept);
        conn.awaited = writes;
        if bytes > 0 {
            self.say(NetEvent::Delivered { conn: id, bytes, writes: count });
        }
        self.flush(cx, id, Side::Target);
    }

    fn accept(&mut self, cx: &mut Cx<'_>, listener: Listener, host: Sock) {
        let Some(path) = self.paths.iter().position(|path| path.listener == listener) else { return };
        match cx.connect(&ConnectOptions::to(self.paths[path].target)) {
            Ok(target) => {
                let id = ConnId(self.next);
                self.next += 1;
                self.socks.insert(host, (id, Side::Host));
                self.socks.insert(target, (id, Side::Target));
                self.conns.insert(id, Conn::new(id, path, host, target));
            }
            Err(error) => {
                let _ = cx.abort(host);
                self.say(NetEvent::Unreachable { path, why: error.to_string() });
            }
        }
    }

    fn connected(&mut self, cx: &mut Cx<'_>, sock: Sock) {
        let Some((id, _)) = self.socks.get(&sock).copied() else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.far = Far::Open(sock);
        let path = conn.path;
        self.say(NetEvent::Opened { conn: id, path });
        self.flush(cx, id, Side::Target);
    }

    fn read(&mut self, cx: &mut Cx<'_>, id: ConnId, side: Side) {
        for _ in 0..PIECES {
            let Some(conn) = self.conns.get_mut(&id) else { return };
            let (sock, must_wait) = match side {
                Side::Host => (conn.host(), conn.host_must_wait()),
                Side::Target => (conn.target(), conn.target_must_wait()),
            };
            let Some(sock) = sock else { return };
            if must_wait {
                conn.set_waits(side, true);
                let _ = cx.pause_read(sock, true);
                return;
            }
            let mut answers = Vec::new();
            let received = cx.with_staging(|cx, staging| {
                let received = cx.recv(sock, staging)?;
                let bytes = &staging[..received];
                match side {
                    Side::Host => conn.cutter.handle_bytes(bytes, &mut conn.to_target.bytes),
                    Side::Target => {
                        answers = conn.answers.handle_bytes(bytes);
                        if conn.voice == Voice::Speaks && conn.host().is_some() {
                            conn.to_host.bytes.extend_from_slice(bytes);
                        }
                    }
                }
                Ok::<usize, io::Error>(received)
            });
            match received {
                Ok(0) => return self.ended(cx, id, side, Ended::InOrder),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.ended(cx, id, side, Ended::Broken),
            }
            match side {
                Side::Host => {
                    self.tell_held(id);
                    self.flush(cx, id, Side::Target);
                }
                Side::Target => {
                    for (cid, ok) in answers {
                        self.answered(id, cid, ok);
                    }
                    self.flush(cx, id, Side::Host);
                }
            }
        }
        if let Some(conn) = self.conns.get(&id) {
            let sock = match side {
                Side::Host => conn.host(),
                Side::Target => conn.target(),
            };
            sock.into_iter().for_each(|sock| cx.again(sock));
        }
    }

    fn tell_held(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let new = conn.cutter.held()[conn.told..].to_vec();
        conn.told += new.len();
        for write in new {
            self.say(NetEvent::Held { conn: id, write });
        }
    }

    fn answered(&mut self, id: ConnId, cid: u16, ok: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.cutter.answered(cid);
        if let Some(index) = conn.awaited.iter().position(|write| write.cid == cid) {
            let write = conn.awaited.remove(index);
            self.say(NetEvent::Answered { conn: id, write, ok });
        }
    }

    /// Sends what is on its way to `side`.
    fn flush(&mut self, cx: &mut Cx<'_>, id: ConnId, side: Side) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (result, sender) = match (side, conn.far) {
            (Side::Target, Far::Open(sock)) => (conn.to_target.flush(cx, sock), Side::Host),
            (Side::Target, _) => return,
            (Side::Host, _) => {
                let Some(sock) = conn.host() else { return };
                (conn.to_host.flush(cx, sock), Side::Target)
            }
        };
        if result.is_err() {
            return self.ended(cx, id, side, Ended::Broken);
        }
        let (sock, must_wait) = match sender {
            Side::Host => (conn.host(), conn.host_must_wait()),
            Side::Target => (conn.target(), conn.target_must_wait()),
        };
        if conn.waits(sender) && !must_wait {
            conn.set_waits(sender, false);
            sock.into_iter().for_each(|sock| drop(cx.pause_read(sock, false)));
        }
        if conn.near == Near::Ended && conn.to_target.left() == 0 {
            self.close_target(cx, id, Ended::InOrder);
        }
    }

    /// A side has ended.
    fn ended(&mut self, cx: &mut Cx<'_>, id: ConnId, side: Side, how: Ended) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match side {
            Side::Host => {
                let Some(host) = conn.host() else { return };
                self.socks.remove(&host);
                match how {
                    Ended::InOrder => cx.close(host),
                    Ended::Broken => {
                        let _ = cx.abort(host);
                    }
                }
                if conn.is_broken() {
                    // Whatever the host says now, the network does not carry it.
                    conn.near = Near::Gone;
                } else if how == Ended::InOrder {
                    conn.near = Near::Ended;
                    self.flush(cx, id, Side::Target);
                } else {
                    conn.near = Near::Ended;
                    self.close_target(cx, id, how);
                }
            }
            Side::Target => {
                self.close_target(cx, id, Ended::Broken);
                self.close_host(cx, id, how);
            }
        }
    }

    fn close_target(&mut self, cx: &mut Cx<'_>, id: ConnId, how: Ended) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(target) = conn.target() else { return };
        conn.far = Far::Closed;
        self.socks.remove(&target);
        match how {
            Ended::InOrder => cx.close(target),
            Ended::Broken => {
                let _ = cx.abort(target);
            }
        }
        let kept = conn.cutter.kept();
        let refused = std::mem::take(&mut conn.awaited);
        self.say(NetEvent::TargetClosed { conn: id, kept });
        for write in refused {
            self.say(NetEvent::Refused { conn: id, write });
        }
        self.forget(id);
    }

    /// The target has ended; the host is told, unless the path is dead.
    fn close_host(&mut self, cx: &mut Cx<'_>, id: ConnId, how: Ended) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.voice == Voice::Speaks
            && let Some(host) = conn.host()
        {
            // What does not fit now was overtaken by the end.
            let _ = conn.to_host.flush(cx, host);
            conn.near = Near::Ended;
            self.socks.remove(&host);
            match how {
                Ended::InOrder => cx.close(host),
                Ended::Broken => {
                    let _ = cx.abort(host);
                }
            }
        }
        self.forget(id);
    }

    /// Nothing is left of it but, perhaps, held writes.
    fn forget(&mut self, id: ConnId) {
        let over = |conn: &Conn| conn.host().is_none() && conn.target().is_none() && !conn.cutter.is_cut();
        if self.conns.get(&id).is_some_and(over) {
            self.conns.remove(&id);
        }
    }
}

impl interlock_ring::Service for Service {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Mail => {
                while let Ok(fault) = self.faults.try_recv() {
                    self.inject(cx, fault);
                }
            }
            Event::Accepted { listener, sock, .. } => self.accept(cx, listener, sock),
            Event::Connected { sock } => self.connected(cx, sock),
            Event::ConnectFailed { sock, error } => {
                let Some((id, _)) = self.socks.remove(&sock) else { return };
                let Some(conn) = self.conns.get_mut(&id) else { return };
                conn.far = Far::Closed;
                let path = conn.path;
                self.say(NetEvent::Unreachable { path, why: error.to_string() });
                self.close_host(cx, id, Ended::Broken);
            }
            Event::Readable { sock } => {
                if let Some((id, side)) = self.socks.get(&sock).copied() {
                    self.read(cx, id, side);
                }
            }
            Event::Writable { sock } => {
                if let Some((id, side)) = self.socks.get(&sock).copied() {
                    self.flush(cx, id, side);
                }
            }
            Event::Hangup { sock, .. } => {
                if let Some((id, side)) = self.socks.get(&sock).copied() {
                    self.read(cx, id, side);
                    // What was there was read above; the rest of a sender that is dead does not come.
                    self.ended(cx, id, side, Ended::Broken);
                }
            }
            // Another attempt follows by itself.
            Event::AcceptedLocal { .. }
            | Event::AcceptFailed { .. }
            | Event::Attached
            | Event::Deadline
            | Event::Op { .. }
            | Event::Detach => {}
        }
    }
}

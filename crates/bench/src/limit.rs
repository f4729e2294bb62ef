//! The limit program: the same bytes over the same sockets in the best way known, and no NVMe at all.
//!
//! A figure alone says more about the machine than about the code. This is what it is compared with: a client and a server
//! on the same reactors as host and target, that move requests of 72 bytes and answers of 24, with the payload behind the
//! request (writes) or behind the answer (reads). Everything ready leaves in one vectored call, received bytes are staged
//! once, and each payload is copied into the buffer of its request. There are no tags to check, no paths to choose, no
//! guard, no ledger and no time limits.

use crate::case::Plan;
use crate::round::{Round, Tally};
use anyhow::{Result, anyhow};
use interlock_base::Rng;
use interlock_ring::{Buf, ConnectOptions, Cx, Event, Listener, Service, Sock};
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

/// A command capsule without data.
const REQUEST: usize = 72;
/// A response capsule, and the header of C2HData.
const ANSWER: usize = 24;
/// Pieces given to the kernel in one call, as the host does.
const SLICES: usize = 64;

/// A stream of pieces on its way into a socket.
struct Outbox<const HEAD: usize> {
    /// Header, and the slot whose payload follows it.
    pieces: VecDeque<([u8; HEAD], Option<usize>)>,
    /// How much of the first piece was given.
    given: usize,
}

impl<const HEAD: usize> Outbox<HEAD> {
    const fn new() -> Self {
        Self { pieces: VecDeque::new(), given: 0 }
    }

    /// Gives the kernel what it takes; true if something is left.
    fn flush<'a>(&mut self, cx: &mut Cx<'_>, sock: Sock, payload: impl Fn(usize) -> &'a [u8]) -> std::io::Result<bool> {
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            let mut skip = self.given;
            for (head, slot) in &self.pieces {
                if count + 2 > SLICES {
                    break;
                }
                let body: &[u8] = slot.map_or(&[], &payload);
                if skip < HEAD {
                    slices[count] = IoSlice::new(&head[skip..]);
                    count += 1;
                }
                let body_from = skip.saturating_sub(HEAD);
                if body_from < body.len() {
                    slices[count] = IoSlice::new(&body[body_from..]);
                    count += 1;
                }
                skip = 0;
            }
            match cx.send_vectored(sock, &slices[..count]) {
                Ok(bytes) => self.advance(bytes, &payload),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn advance<'a>(&mut self, mut bytes: usize, payload: &impl Fn(usize) -> &'a [u8]) {
        while let Some((_, slot)) = self.pieces.front() {
            let left = HEAD + slot.map_or(0, |slot| payload(slot).len()) - self.given;
            if bytes < left {
                self.given += bytes;
                return;
            }
            bytes -= left;
            self.given = 0;
            self.pieces.pop_front();
        }
    }
}

/// A stream of messages: a header of fixed length, then so much payload as the header's first byte says.
struct Inbox<const HEAD: usize> {
    head: [u8; HEAD],
    have: usize,
    body_left: usize,
}

impl<const HEAD: usize> Inbox<HEAD> {
    const fn new() -> Self {
        Self { head: [0; HEAD], have: 0, body_left: 0 }
    }

    /// Takes bytes apart. `body` places payload of the current message; `done` ends it.
    fn feed(
        &mut self,
        mut bytes: &[u8],
        body_len: usize,
        mut body: impl FnMut(&[u8; HEAD], usize, &[u8]),
        mut done: impl FnMut(&[u8; HEAD]),
    ) {
        while !bytes.is_empty() {
            if self.have < HEAD {
                let take = (HEAD - self.have).min(bytes.len());
                self.head[self.have..self.have + take].copy_from_slice(&bytes[..take]);
                self.have += take;
                bytes = &bytes[take..];
                if self.have < HEAD {
                    return;
                }
                self.body_left = if self.head[0] == 1 { body_len } else { 0 };
            }
            let take = self.body_left.min(bytes.len());
            if take > 0 {
                body(&self.head, body_len - self.body_left, &bytes[..take]);
                self.body_left -= take;
                bytes = &bytes[take..];
            }
            if self.body_left == 0 {
                done(&self.head);
                self.have = 0;
            }
        }
    }
}

/// Header of a message: byte 0 says whether payload follows it, bytes 4..8 are the slot.
fn head<const HEAD: usize>(with_body: bool, slot: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[0] = u8::from(with_body);
    head[4..8].copy_from_slice(&slot.to_le_bytes());
    head
}

fn slot_of(head: &[u8]) -> u32 {
    u32::from_le_bytes([head[4], head[5], head[6], head[7]])
}

/// The server: lives for one round.
pub(crate) struct Server {
    listener: Option<Listener>,
    sock: Option<Sock>,
    inbox: Inbox<REQUEST>,
    outbox: Outbox<ANSWER>,
    payload: Buf,
}

impl Server {
    pub(crate) fn new(cx: &mut Cx<'_>, bytes: usize, bound: &Sender<std::io::Result<SocketAddr>>) -> Self {
        let listening = cx.listen(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listening.as_ref().ok().map(|(listener, _)| *listener);
        // The receiver waits for exactly this.
        let _ = bound.send(listening.map(|(_, addr)| addr));
        Self { listener, sock: None, inbox: Inbox::new(), outbox: Outbox::new(), payload: Buf::zeroed(bytes) }
    }

    fn receive(&mut self, cx: &mut Cx<'_>, sock: Sock) {
        let len = self.payload.as_slice().len();
        let (inbox, outbox) = (&mut self.inbox, &mut self.outbox);
        let ended = cx.with_staging(|cx, staging| {
            loop {
                match cx.recv(sock, staging) {
                    Ok(0) => return true,
                    Ok(count) => {
                        // A null namespace drops what is written, and so does this.
                        inbox.feed(
                            &staging[..count],
                            len,
                            |_, _, _| {},
                            |head| {
                                let reads = head[0] == 0;
                                let answer = self::head(reads, slot_of(head));
                                outbox.pieces.push_back((answer, reads.then_some(0)));
                            },
                        );
                        if count < staging.len() {
                            return false;
                        }
                    }
                    Err(error) => return error.kind() != ErrorKind::WouldBlock,
                }
            }
        });
        if ended {
            cx.detach();
        }
    }
}

impl Service for Server {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Accepted { sock, .. } => {
                if let Some(listener) = self.listener.take() {
                    cx.close_listener(listener);
                }
                self.sock = Some(sock);
            }
            Event::Readable { sock } => self.receive(cx, sock),
            Event::Hangup { .. } => cx.detach(),
            _ => {}
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        if let Some(sock) = self.sock {
            let payload = self.payload.as_slice();
            match self.outbox.flush(cx, sock, |_| payload) {
                // A socket that is gone needs no wish.
                Ok(more) => drop(cx.want_write(sock, more)),
                Err(_) => cx.detach(),
            }
        }
    }
}

/// The client: runs one round, and tells.
pub(crate) struct Client {
    plan: Plan,
    result: Sender<Result<Round>>,
    sock: Option<Sock>,
    inbox: Inbox<ANSWER>,
    outbox: Outbox<REQUEST>,
    bufs: Vec<Buf>,
    dice: Rng,
    tally: Tally,
}

impl Client {
    pub(crate) fn new(
        cx: &mut Cx<'_>,
        plan: Plan,
        bytes: usize,
        addr: SocketAddr,
        result: Sender<Result<Round>>,
    ) -> Self {
        if let Err(error) = cx.connect(&ConnectOptions::to(addr)) {
            // The receiver waits for exactly this.
            let _ = result.send(Err(anyhow!("the limit program cannot connect: {error}")));
        }
        Self {
            plan,
            result,
            sock: None,
            inbox: Inbox::new(),
            outbox: Outbox::new(),
            dice: Rng::new(plan.seed),
            bufs: (0..plan.depth).map(|_| Buf::zeroed(bytes)).collect(),
            tally: Tally::new(cx.now(), plan.depth),
        }
    }

    fn submit(&mut self, cx: &Cx<'_>, slot: u32) {
        let writes = !self.plan.reads(&mut self.dice);
        self.tally.submitted(cx.now(), slot as usize);
        self.outbox.pieces.push_back((head(writes, slot), writes.then_some(slot as usize)));
    }

    fn receive(&mut self, cx: &mut Cx<'_>, sock: Sock) {
        let (inbox, bufs) = (&mut self.inbox, &mut self.bufs);
        let mut finished = Vec::new();
        let len = bufs[0].as_slice().len();
        let broken = cx.with_staging(|cx, staging| {
            loop {
                match cx.recv(sock, staging) {
                    Ok(0) => return true,
                    Ok(count) => {
                        let place = |head: &[u8; ANSWER], at: usize, bytes: &[u8]| {
                            if let Some(buf) = bufs[slot_of(head) as usize].get_mut() {
                                buf[at..at + bytes.len()].copy_from_slice(bytes);
                            }
                        };
                        inbox.feed(&staging[..count], len, place, |head| finished.push(slot_of(head)));
                        if count < staging.len() {
                            return false;
                        }
                    }
                    Err(error) => return error.kind() != ErrorKind::WouldBlock,
                }
            }
        });
        for slot in finished {
            self.tally.finished(cx.now(), slot as usize);
            if self.tally.goes_on(cx.now(), self.plan.duration) {
                self.submit(cx, slot);
            }
        }
        if broken || self.tally.is_idle() {
            let outcome = if broken {
                Err(anyhow!("the limit program lost its connection"))
            } else {
                Ok(self.tally.round(cx.now()))
            };
            // The receiver may have given up.
            let _ = self.result.send(outcome);
            cx.detach();
        }
    }
}

impl Service for Client {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Connected { sock } => {
                self.sock = Some(sock);
                self.tally = Tally::new(cx.now(), self.plan.depth);
                for slot in 0..self.plan.depth {
                    self.submit(cx, slot);
                }
            }
            Event::Readable { sock } => self.receive(cx, sock),
            Event::ConnectFailed { error, .. } => {
                // The receiver waits for exactly this.
                let _ = self.result.send(Err(anyhow!("the limit program cannot connect: {error}")));
                cx.detach();
            }
            _ => {}
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        if let Some(sock) = self.sock {
            let bufs = &self.bufs;
            // A connection that breaks here is told by the receive that follows.
            if let Ok(more) = self.outbox.flush(cx, sock, |slot| bufs[slot].as_slice()) {
                drop(cx.want_write(sock, more));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_of_the_stream_gives_the_same_messages() {
        let stream: Vec<u8> = (0..3_u32)
            .flat_map(|slot| {
                [head::<ANSWER>(true, slot).to_vec(), vec![slot as u8 + 1; 10], head::<ANSWER>(false, slot).to_vec()]
            })
            .flatten()
            .collect();
        for step in 1..stream.len() {
            let mut inbox = Inbox::<ANSWER>::new();
            let (mut placed, mut done) = (Vec::new(), Vec::new());
            for part in stream.chunks(step) {
                inbox.feed(
                    part,
                    10,
                    |head, at, bytes| placed.push((slot_of(head), at, bytes.to_vec())),
                    |head| {
                        done.push((head[0], slot_of(head)));
                    },
                );
            }
            assert_eq!(done, [(1, 0), (0, 0), (1, 1), (0, 1), (1, 2), (0, 2)], "{step} bytes at a time");
            let bytes: usize =
                placed.iter().map(|(slot, _, bytes)| bytes.iter().filter(|b| **b == *slot as u8 + 1).count()).sum();
            assert_eq!(bytes, 30, "{step} bytes at a time");
        }
    }
}

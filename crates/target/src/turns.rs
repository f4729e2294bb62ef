//! Who is served next when a lane has more to do than time.
//!
//! Every peer can make the target work: commands, data, answers that nobody takes. The time of a reactor belongs to all, so it is
//! charged, as bytes and slots are ([`interlock_target_core::Payer`]), to the address that a connection comes from, and not to the
//! connection, of which a peer can have as many as it likes. Work is done in pieces, and the next piece is for whoever has had least:
//! a host that asks for little is served after the piece that is under way, however much others ask for. Networks of IPv6 in
//! which one owner has many addresses are one party, whose addresses share what it gets.
//!
//! Who had nothing to do for a while saves nothing up, and who ends its connections does not end what it owes.

use interlock_base::Instant;
use interlock_target_core::{ConnId, Payer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Bytes that are read in one piece: few at first, because a command of 72 bytes can ask for a megabyte; more of a connection whose pieces
/// are [`CHEAP`], fewer after one that is [`DEAR`].
const READ_LEAST: usize = 1024;
const READ_MOST: usize = 256 << 10;
const CHEAP: Duration = Duration::from_micros(100);
const DEAR: Duration = Duration::from_micros(400);

/// Parties of which is remembered what they had, while they wait for nothing.
const REMEMBERED: usize = 4096;

/// Bytes of a connection that are in the kernel, and since when at most.
///
/// The target gives a host up by what it heard from it, and must not take old bytes for a sign of life. Bytes that wait for
/// their turn had come in after `from`; what comes behind the first `old` of them, after `then`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    from: Instant,
    then: Instant,
    old: u64,
}

impl Backlog {
    /// All that is there may have come in right after this moment, and nobody knows how much it is.
    pub(crate) const fn since(from: Instant) -> Self {
        Self { from, then: from, old: 0 }
    }

    /// After which moment the next bytes came in.
    pub(crate) const fn from(&self) -> Instant {
        self.from
    }

    /// So many bytes were read, and there may be more. True if it must be looked how many there are: see [`Backlog::look`].
    pub(crate) const fn read(&mut self, bytes: u64) -> bool {
        self.old = self.old.saturating_sub(bytes);
        self.old == 0
    }

    /// So many bytes are there at `now`; everything that was there at the look before is read.
    pub(crate) const fn look(&mut self, now: Instant, bytes: u64) {
        *self = Self { from: self.then, then: now, old: bytes };
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// Its bytes are to be read.
    pub(crate) read: Option<Backlog>,
    /// There is something to send.
    pub(crate) write: bool,
}

/// Who of several had how much, and who of them waits.
#[derive(Debug)]
struct Shares<K> {
    had: BTreeMap<K, Duration>,
    waiting: BTreeSet<(Duration, K)>,
    /// What the one had that was served last. Nobody who comes is taken to have had less.
    level: Duration,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { had: BTreeMap::new(), waiting: BTreeSet::new(), level: Duration::ZERO }
    }
}

impl<K: Copy + Ord> Shares<K> {
    fn had(&self, party: K) -> Duration {
        self.had.get(&party).copied().unwrap_or_default()
    }

    fn wait(&mut self, party: K) {
        let had = self.had(party);
        if !self.waiting.contains(&(had, party)) {
            let had = had.max(self.level);
            self.had.insert(party, had);
            self.waiting.insert((had, party));
        }
    }

    /// It waits for nothing any more. What it had above the others is remembered.
    fn rest(&mut self, party: K) {
        let had = self.had(party);
        self.waiting.remove(&(had, party));
        if had <= self.level {
            self.had.remove(&party);
        }
        if self.had.len() > REMEMBERED {
            let Self { had, waiting, .. } = self;
            had.retain(|party, had| waiting.contains(&(*had, *party)));
        }
    }

    /// Who had least of those who wait.
    fn first(&mut self) -> Option<K> {
        let (had, party) = *self.waiting.first()?;
        self.level = self.level.max(had);
        Some(party)
    }

    fn charge(&mut self, party: K, took: Duration) {
        let had = self.had(party);
        let after = had.max(self.level) + took;
        self.had.insert(party, after);
        if self.waiting.remove(&(had, party)) {
            self.waiting.insert((after, party));
        }
    }
}

/// A connection, whether it waits or not.
#[derive(Debug)]
struct Known {
    payer: Payer,
    /// Bytes that are read of it in one piece.
    piece: usize,
}

/// A piece of work.
#[derive(Debug)]
pub(crate) struct Piece {
    /// For this connection.
    pub(crate) conn: ConnId,
    /// Who pays for it.
    pub(crate) payer: Payer,
    /// What to do.
    pub(crate) wants: Wants,
    /// Bytes to read at most, unless they are payload that goes straight into its place.
    pub(crate) read: usize,
}

/// The connections of a lane that wait for a piece of its time.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    known: BTreeMap<ConnId, Known>,
    /// How many connections each payer has.
    connections: BTreeMap<Payer, usize>,
    wants: BTreeMap<ConnId, Wants>,
    queues: BTreeMap<Payer, VecDeque<ConnId>>,
    sites: Shares<Payer>,
    /// Within each site of which somebody waits.
    within: BTreeMap<Payer, Shares<Payer>>,
}

impl Turns {
    /// A connection is there.
    pub(crate) fn enter(&mut self, conn: ConnId, payer: Payer) {
        if self.known.insert(conn, Known { payer, piece: READ_LEAST }).is_none() {
            *self.connections.entry(payer).or_default() += 1;
        }
    }

    /// A connection is gone, and what it waited for.
    pub(crate) fn leave(&mut self, conn: ConnId) {
        let Some(Known { payer, .. }) = self.known.remove(&conn) else { return };
        if let Some(count) = self.connections.get_mut(&payer) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&payer);
            }
        }
        if self.wants.remove(&conn).is_some() {
            self.unqueue(payer, |waiting| *waiting == conn);
        }
    }

    /// How many payers have connections.
    pub(crate) fn payers(&self) -> usize {
        self.connections.len()
    }

    /// True if nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// There are bytes to be read.
    pub(crate) fn wants_read(&mut self, conn: ConnId, backlog: Backlog) {
        if let Some(wants) = self.wants(conn) {
            // What waits already is the oldest.
            wants.read.get_or_insert(backlog);
        }
    }

    /// There is something to send.
    pub(crate) fn wants_write(&mut self, conn: ConnId) {
        if let Some(wants) = self.wants(conn) {
            wants.write = true;
        }
    }

    /// What a connection of this lane waits for, once it stands in the queue of its payer.
    fn wants(&mut self, conn: ConnId) -> Option<&mut Wants> {
        let payer = self.known.get(&conn)?.payer;
        if !self.wants.contains_key(&conn) {
            self.queues.entry(payer).or_default().push_back(conn);
            let site = site(payer);
            self.sites.wait(site);
            self.within.entry(site).or_default().wait(payer);
        }
        Some(self.wants.entry(conn).or_default())
    }

    /// A connection that waits to be read need not wait for its turn: nothing follows.
    pub(crate) fn take_read(&mut self, conn: ConnId) -> Option<Backlog> {
        self.wants.get_mut(&conn)?.read.take()
    }

    /// What to do next.
    pub(crate) fn next(&mut self) -> Option<Piece> {
        let site = self.sites.first()?;
        let payer = self.within.get_mut(&site)?.first()?;
        let conn = *self.queues.get(&payer)?.front()?;
        self.unqueue(payer, |waiting| *waiting == conn);
        let read = self.known.get(&conn)?.piece;
        Some(Piece { conn, payer, wants: self.wants.remove(&conn)?, read })
    }

    /// A piece took so long.
    pub(crate) fn charge(&mut self, piece: &Piece, took: Duration) {
        if piece.wants.read.is_some()
            && let Some(known) = self.known.get_mut(&piece.conn)
        {
            if took < CHEAP {
                known.piece = (known.piece * 2).min(READ_MOST);
            } else if took > DEAR {
                known.piece = (known.piece / 8).max(READ_LEAST);
            }
        }
        let payer = piece.payer;
        let site = site(payer);
        self.sites.charge(site, took);
        if let Some(within) = self.within.get_mut(&site) {
            within.charge(payer, took);
        }
    }

    fn unqueue(&mut self, payer: Payer, gone: impl Fn(&ConnId) -> bool) {
        let Some(queue) = self.queues.get_mut(&payer) else { return };
        match queue.front() {
            Some(first) if gone(first) => drop(queue.pop_front()),
            _ => queue.retain(|conn| !gone(conn)),
        }
        if !queue.is_empty() {
            return;
        }
        self.queues.remove(&payer);
        let site = site(payer);
        if let Some(within) = self.within.get_mut(&site) {
            within.rest(payer);
            if within.waiting.is_empty() {
                self.within.remove(&site);
                self.sites.rest(site);
            }
        }
    }
}

/// The party that a payer belongs to: of IPv6, the network of 48 bits, of which one site has all addresses.
fn site(payer: Payer) -> Payer {
    let Payer::Address(address) = payer;
    match address {
        IpAddr::V4(_) => payer,
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            Payer::Address(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: Duration = Duration::from_millis(1);

    fn at(address: &str) -> Payer {
        Payer::at(address.parse().unwrap())
    }

    fn of(conns: &[(u32, &str)]) -> Turns {
        let mut turns = Turns::default();
        for (conn, address) in conns {
            turns.enter(ConnId(*conn), at(address));
        }
        turns
    }

    /// Serves so many pieces, each of which takes as long; connections that are in `greedy` want another one at once.
    fn serve(turns: &mut Turns, pieces: usize, greedy: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut served = Vec::new();
        for _ in 0..pieces {
            let Some(piece) = turns.next() else { break };
            assert!(piece.wants.write);
            served.push(piece.conn.0);
            if greedy(piece.conn.0) {
                turns.wants_write(piece.conn);
            }
            turns.charge(&piece, PIECE);
        }
        served
    }

    #[test]
    fn who_asks_for_little_is_next_however_many_connections_others_have() {
        let hostile: Vec<(u32, &str)> = (1..=100).map(|conn| (conn, "192.0.2.1")).collect();
        let mut turns = of(&[&hostile[..], &[(200, "192.0.2.2")]].concat());
        for (conn, _) in &hostile {
            turns.wants_write(ConnId(*conn));
        }
        assert_eq!(serve(&mut turns, 5, |_| true), [1, 2, 3, 4, 5]);
        for _ in 0..10 {
            turns.wants_write(ConnId(200));
            assert!(serve(&mut turns, 2, |conn| conn != 200).contains(&200));
        }
        assert_eq!(turns.payers(), 2);
    }

    #[test]
    fn addresses_that_want_all_share_alike() {
        let mut turns = of(&[(1, "192.0.2.1"), (2, "192.0.2.1"), (3, "192.0.2.2"), (4, "::ffff:192.0.2.3")]);
        (1..=4).for_each(|conn| turns.wants_write(ConnId(conn)));
        let served = serve(&mut turns, 300, |_| true);
        let count = |conns: &[u32]| served.iter().filter(|conn| conns.contains(conn)).count();
        assert_eq!((count(&[1, 2]), count(&[3]), count(&[4])), (100, 100, 100));
        assert_eq!(count(&[1]), 50, "connections of one address take turns");
    }

    #[test]
    fn addresses_of_one_site_share_what_it_gets() {
        let mut turns =
            of(&[(1, "2001:db8:1:1::1"), (2, "2001:db8:1:2::1"), (3, "2001:db8:1:3::1"), (4, "2001:db8:2::1")]);
        (1..=4).for_each(|conn| turns.wants_write(ConnId(conn)));
        let served = serve(&mut turns, 300, |_| true);
        let count = |conn| served.iter().filter(|served| **served == conn).count();
        assert_eq!((count(1), count(2), count(3), count(4)), (50, 50, 50, 150));
    }

    #[test]
    fn nobody_saves_up_and_nobody_flees_from_what_it_owes() {
        let mut turns = of(&[(1, "192.0.2.1"), (2, "192.0.2.2")]);
        turns.wants_write(ConnId(1));
        assert_eq!(serve(&mut turns, 100, |_| true).len(), 100);
        turns.wants_write(ConnId(2));
        // It had nothing so far: it is next once, and has no right to a hundred.
        let served = serve(&mut turns, 20, |_| true);
        assert_eq!(served.iter().filter(|conn| **conn == 2).count(), 10, "{served:?}");
        // One long piece, and its connections are gone: another one from there waits all the same.
        turns.wants_write(ConnId(1));
        let piece = loop {
            match turns.next().unwrap() {
                piece if piece.conn == ConnId(1) => break piece,
                other => {
                    turns.wants_write(other.conn);
                    turns.charge(&other, PIECE);
                }
            }
        };
        turns.leave(ConnId(1));
        turns.charge(&piece, PIECE * 50);
        turns.enter(ConnId(9), at("192.0.2.1"));
        turns.wants_write(ConnId(9));
        assert!(serve(&mut turns, 40, |_| true).iter().all(|conn| *conn == 2));
    }

    #[test]
    fn who_left_waits_for_nothing() {
        let mut turns = of(&[(1, "192.0.2.1"), (2, "192.0.2.1"), (3, "192.0.2.3")]);
        (1..=3).for_each(|conn| turns.wants_write(ConnId(conn)));
        turns.wants_read(ConnId(3), Backlog::since(Instant::ZERO));
        assert!(turns.take_read(ConnId(3)).is_some() && turns.take_read(ConnId(1)).is_none());
        turns.leave(ConnId(1));
        turns.leave(ConnId(3));
        turns.wants_write(ConnId(3));
        assert_eq!(serve(&mut turns, 9, |_| false), [2]);
        assert!(turns.is_empty() && turns.payers() == 1 && turns.within.is_empty());
    }

    #[test]
    fn more_is_read_at_once_where_it_costs_little() {
        let mut turns = of(&[(1, "192.0.2.1")]);
        let mut read = |took| {
            turns.wants_read(ConnId(1), Backlog::since(Instant::ZERO));
            let piece = turns.next().unwrap();
            turns.charge(&piece, took);
            piece.read
        };
        assert_eq!([0; 4].map(|_| read(CHEAP / 2)), [1, 2, 4, 8].map(|times| times * READ_LEAST));
        assert_eq!([0; 3].map(|_| read(CHEAP)), [16 * READ_LEAST; 3]);
        assert_eq!([0; 3].map(|_| read(DEAR * 2)), [16, 2, 1].map(|times| times * READ_LEAST));
        for _ in 0..20 {
            read(CHEAP / 2);
        }
        assert_eq!(read(CHEAP), READ_MOST);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut turns = Turns::default();
        for n in 0..REMEMBERED as u32 * 3 {
            let (conn, payer) = (ConnId(n), Payer::at(IpAddr::V4(n.into())));
            turns.enter(conn, payer);
            turns.wants_write(conn);
            assert_eq!(serve(&mut turns, 1, |_| false), [n]);
            turns.leave(conn);
        }
        assert!(turns.sites.had.len() <= REMEMBERED + 1, "{}", turns.sites.had.len());
    }

    #[test]
    fn old_bytes_are_taken_for_old_until_they_are_read() {
        let ms = Instant::from_millis;
        let mut backlog = Backlog::since(ms(100));
        assert!(backlog.read(1024), "nobody knows how much is there");
        backlog.look(ms(200), 3000);
        assert_eq!(backlog.from(), ms(100), "these 3,000 bytes may have been there all the time");
        assert!(!backlog.read(1024) && !backlog.read(1024) && backlog.from() == ms(100));
        assert!(backlog.read(1024));
        backlog.look(ms(300), 500);
        assert_eq!(backlog.from(), ms(200), "what is there now came after the look before");
        let mut turns = of(&[(1, "192.0.2.1")]);
        turns.wants_read(ConnId(1), Backlog::since(ms(100)));
        turns.wants_read(ConnId(1), Backlog::since(ms(200)));
        assert_eq!(turns.next().unwrap().wants.read.unwrap().from(), ms(100));
    }
}

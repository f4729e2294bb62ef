//! Who may hold how much of what belongs to all.
//!
//! Connections, buffers, controllers and turns at the media are there for every host, and every peer can ask for all of them. So
//! whatever a peer makes the target hold is charged to whom it can be charged to: its address, because a name that a peer
//! merely claims can be invented, or spent by somebody else. Once a host can prove its identity, that identity is a payer too.
//!
//! What one payer may hold depends on what is left, not on a fixed part ([`SHARE`]). Whoever owns an IPv6 network of 48 or 32 bits has
//! thousands of addresses that pay, and each would find what the one before it left. So such a network as a whole has a share
//! as well ([`NETWORK_SHARE`]), and leaves something to all others.
//!
//! Where there is no room a command waits, and those who wait take turns ([`Turns`]): payers first, then the connections of one payer.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::ops::RangeInclusive;
use interlock_base::Share;

/// How all of it is shared: one alone gets nearly four fifths.
pub const SHARE: Share = Share { times: 8, kept_back: 8, part: 1 };

/// How it is shared between a network and all others: one alone gets nine tenths.
const NETWORK_SHARE: Share = Share { times: 64, kept_back: 16, part: 1 };

/// Networks of IPv6 that somebody may own, by the length of their prefixes: that of a site, and that of a provider.
const NETWORKS: [u32; 2] = [48, 32];

/// Smallest buffer that a driver gives, in bytes.
const BUFFER_MIN: u32 = 4096;

/// Of everything that peers may hold, what connections and controllers as such may take at most: one part of so many. The rest is
/// for commands, so that there is always room for one.
const FIXED_PART: u64 = 2;

/// The same of what came on connections that are blocked, and that their drivers keep for them.
const KEPT_PART: u64 = 8;

/// Whom something is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payer {
    /// Everybody at one address: an IPv4 address, or an IPv6 network of 64 bits, all of which one host can use.
    Address(IpAddr),
}

impl Payer {
    /// Who pays for a connection from `address`.
    #[must_use]
    pub const fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// The networks that this payer is one of many in: whoever is at their addresses.
    pub(crate) fn networks(self) -> impl Iterator<Item = RangeInclusive<Self>> {
        let Self::Address(address) = self;
        let bits = match address {
            IpAddr::V6(address) => Some(address.to_bits()),
            IpAddr::V4(_) => None,
        };
        let at = |bits| Self::Address(IpAddr::V6(Ipv6Addr::from_bits(bits)));
        let network = move |bits: u128, len: u32| at(bits & !(u128::MAX >> len))..=at(bits | u128::MAX >> len);
        NETWORKS.into_iter().filter_map(move |len| bits.map(|bits| network(bits, len)))
    }

    /// The payer and its networks, each with what it is called by; where it is in no network, the payer again.
    pub(crate) fn circles(self) -> [RangeInclusive<Self>; 3] {
        let alone = self..=self;
        let mut networks = self.networks();
        let site = networks.next().unwrap_or_else(|| alone.clone());
        let provider = networks.next().unwrap_or_else(|| site.clone());
        [alone, site, provider]
    }

    /// The smallest of them, or the payer alone.
    pub(crate) fn site(self) -> RangeInclusive<Self> {
        self.networks().next().unwrap_or(self..=self)
    }
}

/// Whether `payer` may have `wanted` more of `total`, of which all hold `used` and the payers of a range hold `held`.
pub(crate) fn admits(
    payer: Payer,
    total: u64,
    used: u64,
    wanted: u64,
    held: impl Fn(RangeInclusive<Payer>) -> u64,
) -> bool {
    SHARE.admits_first(total, used, held(payer..=payer), wanted)
        && payer.networks().all(|network| NETWORK_SHARE.admits_first(total, used, held(network), wanted))
}

impl fmt::Display for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address @ IpAddr::V4(_)) => write!(f, "{address}"),
            Self::Address(network @ IpAddr::V6(_)) => write!(f, "{network}/64"),
        }
    }
}

/// The part of what peers may hold that commands get only by little.
const LAST_PART: u64 = 16;

/// What a buffer of `len` bytes takes: drivers keep them in powers of two.
#[must_use]
pub(crate) const fn buffer(len: u32) -> u64 {
    if len <= BUFFER_MIN { BUFFER_MIN as u64 } else { (len as u64).next_power_of_two() }
}

/// Names an account of a lane, as long as its payer holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AccountId(u32);

/// What one payer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    pub(crate) payer: Payer,
    pub(crate) connections: u64,
    /// Of them, those without a complete Connect.
    pub(crate) half_open: u64,
    /// Bytes, of commands and of connections as such.
    pub(crate) held: u64,
    /// Of them, those of connections as such.
    fixed: u64,
    /// Of these, those that came on connections that are blocked.
    kept: u64,
    /// What its media operations under way cost.
    media: u64,
    /// Commands that are inside without their connection. They may hold nothing.
    orphans: u64,
    /// Connections that it was refused, or that were ended to make room.
    pub(crate) refused: u64,
}

impl Account {
    const fn as_such(&self) -> u64 {
        self.fixed - self.kept
    }
}

/// What a lane lends to its peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ledger {
    /// By id; those that nobody has are in `unused`.
    accounts: Vec<Account>,
    unused: Vec<AccountId>,
    by_payer: BTreeMap<Payer, AccountId>,
    /// Bytes that may be held, and that are; of these, those of connections as such, and of them those that drivers keep.
    total: u64,
    used: u64,
    fixed: u64,
    kept: u64,
    /// Up to here everybody has what it wants: [`SHARE`] would say so.
    plenty: u64,
    /// Connections that may be there, and that are.
    connections_max: u64,
    connections: u64,
    /// Cost of media operations that may be under way, and that are.
    media_max: u64,
    media: u64,
    refused: u64,
}

impl Ledger {
    pub(crate) const fn new(total: u64, connections_max: u64, media_max: u64) -> Self {
        Self {
            accounts: Vec::new(),
            unused: Vec::new(),
            by_payer: BTreeMap::new(),
            total,
            used: 0,
            fixed: 0,
            kept: 0,
            plenty: total / 2,
            connections_max,
            connections: 0,
            media_max,
            media: 0,
            refused: 0,
        }
    }

    /// Bytes that are held.
    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that commands hold.
    pub(crate) const fn in_transit(&self) -> u64 {
        self.used - self.fixed
    }

    /// Connections that were refused, or ended to make room.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = &Account> + '_ {
        self.by_payer.values().map(|id| self.account(*id))
    }

    fn account(&self, id: AccountId) -> &Account {
        &self.accounts[id.0 as usize]
    }

    fn account_mut(&mut self, id: AccountId) -> &mut Account {
        &mut self.accounts[id.0 as usize]
    }

    /// The account of a payer that has one.
    pub(crate) fn find(&self, payer: Payer) -> Option<AccountId> {
        self.by_payer.get(&payer).copied()
    }

    /// Connections without a complete Connect of whoever has the most of them.
    pub(crate) fn most_half_open(&self) -> u64 {
        self.accounts().map(|account| account.half_open).max().unwrap_or(0)
    }

    /// Connections without a complete Connect of an account.
    pub(crate) fn half_open(&self, id: AccountId) -> u64 {
        self.account(id).half_open
    }

    /// Connections of an account.
    pub(crate) fn connections(&self, id: AccountId) -> u64 {
        self.account(id).connections
    }

    /// What the payers of a range hold of something.
    fn held(&self, payers: RangeInclusive<Payer>, what: impl Fn(&Account) -> u64) -> u64 {
        self.by_payer.range(payers).map(|(_, id)| what(self.account(*id))).sum()
    }

    /// Whether a payer may have one more connection, which takes `bytes` as such.
    pub(crate) fn has_place(&self, payer: Payer, bytes: u64) -> bool {
        let connections = |payers| self.held(payers, |account| account.connections);
        admits(payer, self.connections_max, self.connections, 1, connections) && self.has_fixed(payer, bytes)
    }

    fn has_fixed(&self, payer: Payer, bytes: u64) -> bool {
        let used = self.fixed - self.kept;
        admits(payer, self.total / FIXED_PART, used, bytes, |payers| self.held(payers, Account::as_such))
            && self.used + bytes <= self.but_the_last()
    }

    /// A connection of a payer came, and has a place.
    pub(crate) fn enter(&mut self, payer: Payer, bytes: u64) -> AccountId {
        let id = self.find(payer).unwrap_or_else(|| self.open(payer));
        self.connections += 1;
        let account = self.account_mut(id);
        account.connections += 1;
        account.half_open += 1;
        self.add_fixed(id, bytes);
        id
    }

    fn open(&mut self, payer: Payer) -> AccountId {
        let account = Account {
            payer,
            connections: 0,
            half_open: 0,
            held: 0,
            fixed: 0,
            kept: 0,
            media: 0,
            orphans: 0,
            refused: 0,
        };
        let id = match self.unused.pop() {
            Some(id) => {
                *self.account_mut(id) = account;
                id
            }
            None => {
                self.accounts.push(account);
                // There are no more than connections, and commands whose connections are gone.
                AccountId(self.accounts.len() as u32 - 1)
            }
        };
        self.by_payer.insert(payer, id);
        id
    }

    /// The Connect of a connection is complete.
    pub(crate) fn connected(&mut self, id: AccountId) {
        self.account_mut(id).half_open -= 1;
    }

    /// A connection is gone, and with it the bytes that it took as such.
    pub(crate) fn leave(&mut self, id: AccountId, bytes: u64, half_open: bool) {
        self.connections -= 1;
        let account = self.account_mut(id);
        account.connections -= 1;
        account.half_open -= u64::from(half_open);
        self.give_fixed(id, bytes);
        self.tidy(id);
    }

    /// A payer was refused something. One that holds nothing is not remembered, but counted.
    pub(crate) fn refuse(&mut self, payer: Payer) {
        self.refused += 1;
        if let Some(id) = self.find(payer) {
            self.account_mut(id).refused += 1;
        }
    }

    /// A connection takes more as such, if its payer may.
    pub(crate) fn take_fixed(&mut self, id: AccountId, bytes: u64) -> bool {
        let fits = self.has_fixed(self.account(id).payer, bytes);
        if fits {
            self.add_fixed(id, bytes);
        }
        fits
    }

    fn add_fixed(&mut self, id: AccountId, bytes: u64) {
        self.used += bytes;
        self.fixed += bytes;
        let account = self.account_mut(id);
        account.held += bytes;
        account.fixed += bytes;
    }

    pub(crate) fn give_fixed(&mut self, id: AccountId, bytes: u64) {
        self.used -= bytes;
        self.fixed -= bytes;
        let account = self.account_mut(id);
        account.held -= bytes;
        account.fixed -= bytes;
    }

    /// A command takes `bytes`, if its payer may have them.
    pub(crate) fn take(&mut self, id: AccountId, bytes: u64) -> bool {
        let after = self.used + bytes;
        if after > self.plenty && !self.may_take(id, bytes) {
            return false;
        }
        self.used = after;
        self.accounts[id.0 as usize].held += bytes;
        true
    }

    /// Who has none may have one, unless that is of the very last.
    #[cold]
    fn may_take(&self, id: AccountId, bytes: u64) -> bool {
        let commands = |account: &Account| account.held - account.fixed;
        let account = self.account(id);
        let holds = commands(account);
        let first = holds == 0 && self.used + bytes <= self.but_the_last();
        let network = |payers| NETWORK_SHARE.admits_first(self.total, self.used, self.held(payers, commands), bytes);
        (first || SHARE.admits(self.total, self.used, holds, bytes)) && account.payer.networks().all(network)
    }

    /// What there is without the part that is for little commands.
    const fn but_the_last(&self) -> u64 {
        self.total - self.total / LAST_PART
    }

    /// The driver of a blocked connection keeps `bytes` of it, which nobody could refuse. False if that is more than its payer
    /// may have kept.
    pub(crate) fn keep(&mut self, id: AccountId, bytes: u64) -> bool {
        let held = self.account(id).kept;
        let may = bytes == 0
            || SHARE.admits_first(self.total / KEPT_PART, self.kept, held, bytes)
                && self.used + bytes <= self.but_the_last();
        self.kept += bytes;
        self.account_mut(id).kept += bytes;
        self.add_fixed(id, bytes);
        may
    }

    /// They are kept no more.
    pub(crate) fn give_kept(&mut self, id: AccountId, bytes: u64) {
        self.kept -= bytes;
        self.account_mut(id).kept -= bytes;
        self.give_fixed(id, bytes);
    }

    /// Of what a connection takes as such, `bytes` are a command's for now.
    #[cold]
    pub(crate) fn lend(&mut self, id: AccountId, bytes: u64) {
        self.fixed -= bytes;
        self.account_mut(id).fixed -= bytes;
    }

    /// They are the connection's again: of what a command has given back just now.
    #[cold]
    pub(crate) fn repay(&mut self, id: AccountId, bytes: u64) {
        self.add_fixed(id, bytes);
    }

    /// Bytes of a command are free again.
    pub(crate) fn give(&mut self, id: AccountId, bytes: u64) {
        self.used -= bytes;
        let account = &mut self.accounts[id.0 as usize];
        account.held -= bytes;
        if account.connections == 0 {
            self.tidy(id);
        }
    }

    /// A media operation begins, if its payer may have one more under way.
    #[cold]
    pub(crate) fn begin(&mut self, id: AccountId, cost: u64) -> bool {
        let media = |payers| self.held(payers, |account| account.media);
        let may = admits(self.account(id).payer, self.media_max, self.media, cost, media);
        if may {
            self.account_mut(id).media += cost;
            self.media += cost;
        }
        may
    }

    /// A media operation is over.
    #[cold]
    pub(crate) fn end(&mut self, id: AccountId, cost: u64) {
        self.media -= cost;
        self.account_mut(id).media -= cost;
        self.tidy(id);
    }

    /// A command stays inside although its connection is gone: its account is kept for it.
    #[cold]
    pub(crate) fn orphan(&mut self, id: AccountId) {
        self.account_mut(id).orphans += 1;
    }

    /// An orphan is over, or at the media.
    #[cold]
    pub(crate) fn end_orphan(&mut self, id: AccountId) {
        self.account_mut(id).orphans -= 1;
        self.tidy(id);
    }

    /// Forgets a payer that holds nothing.
    #[cold]
    fn tidy(&mut self, id: AccountId) {
        let Account { payer, connections, held, media, orphans, .. } = *self.account(id);
        if (connections, held, media, orphans) == (0, 0, 0, 0) {
            self.by_payer.remove(&payer);
            self.unused.push(id);
        }
    }
}

/// Those who wait, by payer. Payers take turns, and what waits for one payer has its order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Turns<T> {
    order: VecDeque<AccountId>,
    queues: BTreeMap<AccountId, VecDeque<T>>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: BTreeMap::new() }
    }
}

impl<T> Turns<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many payers wait.
    pub(crate) fn payers(&self) -> usize {
        self.order.len()
    }

    /// Whether a payer waits.
    pub(crate) fn contains(&self, key: AccountId) -> bool {
        self.queues.contains_key(&key)
    }

    /// The last in the queue of its payer.
    pub(crate) fn push(&mut self, key: AccountId, item: T) {
        let order = &mut self.order;
        let queue = self.queues.entry(key).or_insert_with(|| {
            order.push_back(key);
            VecDeque::new()
        });
        queue.push_back(item);
    }

    /// Whose turn it is, and the first of what waits for it.
    pub(crate) fn front(&self) -> Option<(AccountId, &T)> {
        let key = *self.order.front()?;
        Some((key, self.queues.get(&key)?.front()?))
    }

    /// Takes the first out. What else waits for its payer comes after the others.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let key = self.order.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        item
    }

    /// It is the turn of the next payer.
    pub(crate) fn pass(&mut self) {
        if let Some(key) = self.order.pop_front() {
            self.order.push_back(key);
        }
    }

    /// The first becomes the last of its payer, and it is the turn of the next one.
    pub(crate) fn requeue(&mut self) {
        if let Some(queue) = self.order.front().and_then(|key| self.queues.get_mut(key))
            && let Some(item) = queue.pop_front()
        {
            queue.push_back(item);
        }
        self.pass();
    }

    /// Takes out what no longer waits.
    pub(crate) fn remove_where(&mut self, key: AccountId, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let Some(queue) = self.queues.remove(&key) else { return Vec::new() };
        let (gone, left): (Vec<T>, VecDeque<T>) =
            queue.into_iter().fold((Vec::new(), VecDeque::new()), |(mut out, mut left), item| {
                if gone(&item) {
                    out.push(item);
                } else {
                    left.push_back(item);
                }
                (out, left)
            });
        if left.is_empty() {
            self.order.retain(|known| *known != key);
        } else {
            self.queues.insert(key, left);
        }
        gone
    }

    pub(crate) fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use core::net::Ipv4Addr;

    fn payer(n: u8) -> Payer {
        Payer::at(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)))
    }

    /// Takes pieces until it gets no more; says how many bytes it has.
    fn greed(ledger: &mut Ledger, key: AccountId, piece: u64) -> u64 {
        while ledger.take(key, piece) {}
        ledger.account(key).held
    }

    #[test]
    fn an_address_pays_for_all_that_one_host_can_use() {
        let at = |text: &str| Payer::at(text.parse().unwrap());
        assert_eq!(at("::ffff:192.0.2.7"), at("192.0.2.7"));
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(
            (at("192.0.2.7").to_string(), at("2001:db8:1:2::1").to_string()),
            ("192.0.2.7".into(), "2001:db8:1:2::/64".into())
        );
    }

    /// The networks of 64 bits of one site.
    fn neighbour(n: u16) -> Payer {
        Payer::at(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, n, 0, 0, 0, 1)))
    }

    #[test]
    fn whoever_owns_a_network_leaves_something_to_all_others() {
        let at = |text: &str| Payer::at(text.parse().unwrap());
        let networks: Vec<_> = neighbour(9).networks().collect();
        assert!(networks.iter().all(|network| network.contains(&at("2001:db8:7:ffff::1"))));
        assert_eq!(networks.iter().filter(|network| network.contains(&at("2001:db8:8::1"))).count(), 1);
        assert!(!networks.iter().any(|network| network.contains(&at("2001:db7:ffff::1"))));
        assert!(payer(1).networks().next().is_none() && payer(1).site() == (payer(1)..=payer(1)));
        assert!(payer(1).circles().iter().all(|circle| *circle == (payer(1)..=payer(1))));
        // The whole of one provider, who has many sites, takes what it can get.
        const TOTAL: u64 = 1 << 20;
        let mut ledger = Ledger::new(TOTAL, 1_000, TOTAL);
        let hostile = |n: u16| Payer::at(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, n / 8, n, 0, 0, 0, 1)));
        let mut last = 0;
        for n in 0..5_000 {
            while ledger.has_place(hostile(n), 64) && ledger.connections < 1_000 {
                last = ledger.enter(hostile(n), 64).0;
            }
        }
        for key in (0..=last).map(AccountId) {
            while ledger.take(key, 64) || ledger.begin(key, 64) {}
        }
        for good in [payer(1), at("2001:db7::1")] {
            for _ in 0..5 {
                assert!(ledger.has_place(good, 64), "{} connections", ledger.connections);
                ledger.enter(good, 64);
            }
            let key = ledger.find(good).unwrap();
            assert!(ledger.take(key, 1024), "{} bytes are used", ledger.used);
            assert!(ledger.begin(key, 1024), "{} at the media", ledger.media);
        }
        // One site alone has nearly all.
        let mut ledger = Ledger::new(TOTAL, 1_000, TOTAL);
        for n in 0..100 {
            while ledger.has_place(neighbour(n), 64) {
                ledger.enter(neighbour(n), 64);
            }
        }
        assert!(ledger.connections > 900, "{}", ledger.connections);
    }

    #[test]
    fn one_alone_has_nearly_all_and_newcomers_find_room() {
        const TOTAL: u64 = 1 << 20;
        let mut ledger = Ledger::new(TOTAL, 100, 0);
        let first = ledger.enter(payer(1), 0);
        assert!(greed(&mut ledger, first, 1024) >= TOTAL * 3 / 4);
        let mut keys = alloc::vec![first];
        for n in 2..30 {
            let key = ledger.enter(payer(n), 0);
            assert!(greed(&mut ledger, key, 256) >= 512, "payer {n}");
            keys.push(key);
        }
        assert!(ledger.used() <= TOTAL);
        // The first one gives back what it has: there is more for all.
        let held = ledger.account(first).held;
        ledger.give(first, held);
        for key in keys.iter().chain(&keys) {
            greed(&mut ledger, *key, 256);
        }
        let held = |key: &AccountId| ledger.account(*key).held;
        let (least, most) = (keys.iter().map(held).min().unwrap(), keys.iter().map(held).max().unwrap());
        assert!(ledger.used() <= TOTAL && least > 0, "{least} {most}");
    }

    #[test]
    fn everybody_may_have_one_command_but_not_of_the_last() {
        let mut ledger = Ledger::new(16 << 10, 100, 0);
        let (greedy, other, modest) =
            (ledger.enter(payer(1), 1000), ledger.enter(payer(2), 1000), ledger.enter(payer(3), 0));
        assert!(ledger.take(greedy, 10 << 10), "its first");
        assert!(!ledger.take(greedy, 4096) && !ledger.take(other, 4096));
        assert!(ledger.take(other, 2048), "its first");
        assert!(!ledger.take(modest, 2048) && ledger.take(modest, 100), "a little");
        ledger.give(greedy, 10 << 10);
        assert!(ledger.take(modest, 4096));
    }

    #[test]
    fn connections_as_such_leave_room_for_commands() {
        let mut ledger = Ledger::new(1 << 20, 1 << 20, 0);
        let mut n = 0;
        'all: for payer in (1..=250).map(payer) {
            while ledger.has_place(payer, 4096) {
                ledger.enter(payer, 4096);
                n += 1;
                if n > 1000 {
                    break 'all;
                }
            }
        }
        assert!((64..=128).contains(&n), "{n} connections of 4 KiB in a half of 1 MiB");
        let key = ledger.find(payer(1)).unwrap();
        assert!(ledger.take(key, 256 << 10));
    }

    #[test]
    fn a_place_is_left_for_another_address() {
        let mut ledger = Ledger::new(1 << 30, 16, 0);
        while ledger.has_place(payer(1), 0) {
            ledger.enter(payer(1), 0);
        }
        assert!(!ledger.has_place(payer(1), 0) && ledger.has_place(payer(2), 0));
        let key = ledger.find(payer(1)).unwrap();
        assert_eq!(ledger.account(key).connections, 12, "of 16");
    }

    #[test]
    fn who_holds_nothing_is_forgotten() {
        let mut ledger = Ledger::new(1 << 20, 100, 1 << 20);
        let key = ledger.enter(payer(1), 100);
        assert!(ledger.take(key, 4096) && ledger.begin(key, 10));
        ledger.leave(key, 100, true);
        assert_eq!(ledger.accounts().count(), 1, "a command of it is inside");
        ledger.give(key, 4096);
        assert_eq!(ledger.accounts().count(), 1, "a media operation of it is under way");
        ledger.end(key, 10);
        assert_eq!((ledger.accounts().count(), ledger.used(), ledger.find(payer(1))), (0, 0, None));
    }

    #[test]
    fn the_media_have_room_for_who_comes_later() {
        let mut ledger = Ledger::new(0, 100, 64 << 20);
        let (greedy, modest) = (ledger.enter(payer(1), 0), ledger.enter(payer(2), 0));
        let mut begun = 0;
        while ledger.begin(greedy, 1 << 20) {
            begun += 1;
        }
        assert!((45..60).contains(&begun), "{begun} of 64");
        assert!(ledger.begin(modest, 1 << 20) && !ledger.begin(greedy, 1 << 20));
        ledger.end(greedy, 1 << 20);
        ledger.end(modest, 1 << 20);
        assert!(ledger.begin(greedy, 1 << 20));
    }

    #[test]
    fn payers_take_turns_and_each_has_its_order() {
        let mut ledger = Ledger::new(0, 100, 0);
        let (a, b) = (ledger.enter(payer(1), 0), ledger.enter(payer(2), 0));
        let mut turns = Turns::default();
        for n in 0..6 {
            turns.push(a, n);
        }
        turns.push(b, 10);
        let served: Vec<i32> = core::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(served, [0, 10, 1, 2, 3, 4, 5]);
        for n in 0..4 {
            turns.push(a, n);
            turns.push(b, 10 + n);
        }
        assert_eq!(turns.remove_where(a, |n| n % 2 == 0), [0, 2]);
        assert_eq!((turns.len(), turns.payers()), (6, 2));
        turns.pass();
        assert_eq!(turns.front().map(|(key, item)| (key, *item)), Some((b, 10)));
        turns.requeue();
        assert_eq!(turns.front().map(|(key, item)| (key, *item)), Some((a, 1)));
        turns.pass();
        assert_eq!(turns.pop(), Some(11));
        assert!(turns.contains(a) && turns.contains(b) && !turns.is_empty());
    }
}

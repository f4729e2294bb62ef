//! Who may hold how much of what all clients share: memory for payload, and connections.
//!
//! Every connection may hold [`FLOOR`] without asking, so that small requests go on whatever others do. What exceeds
//! that comes out of one pot for all clients, whose end is known before any buffer is made. No client gets more than a
//! quarter of it, nor more than what is left for a newcomer ([`Share`]), and whoever finds nothing still has its floor. A
//! client is a process, however many connections it has.
//!
//! What a client has abandoned (it vanished while its reads were on their way, or its writes wait for a fence) is held by
//! the lanes and stays charged to it until it is over: who asks, vanishes and comes again gets no more than who stays.

use interlock_base::{Instant, Pot, Share};
use interlock_ring::{Account, BufPool, Waker};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of payload that every connection may have in flight without asking.
pub(super) const FLOOR: usize = 256 << 10;

/// Bytes that are asked for at once, so that a client with many small requests asks seldom.
const STEP: usize = 1 << 20;

/// Bytes of free buffers that are kept for reuse.
const CACHED: usize = 64 << 20;

/// Who waits for memory that was not given back by a connection looks again so often.
pub(super) const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What all clients of one or several servers may hold together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NbdLimits {
    /// Bytes of payload in flight, beyond the 256 KiB that every connection has for itself; one process gets a quarter.
    /// Default 256 MiB. A request that needs more than that quarter is never carried out.
    pub payload: usize,
    /// Connections at once; one process gets a quarter. Default 1,024.
    pub connections: usize,
    /// A request that gets no memory for so long is answered with an error. While others wait for memory, who holds some
    /// and neither sends what it has announced nor reads its answers for so long is sent away. Default 30 s.
    pub patience: Duration,
}

impl Default for NbdLimits {
    fn default() -> Self {
        Self { payload: 256 << 20, connections: 1024, patience: Duration::from_secs(30) }
    }
}

impl NbdLimits {
    /// All payload at once, in bytes, with what was abandoned and is not over.
    const fn held_max(&self) -> usize {
        self.payload + self.connections * FLOOR
    }
}

/// To whom something is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Client {
    /// All connections of a process.
    Process(i32),
    /// The kernel does not say whose it is.
    Connection(u64),
}

/// A process gets a quarter of all at most, and no more than it leaves to others.
const SHARE: Share = Share { times: 1, kept_back: 0, part: 4 };

struct Ledger {
    payload: Pot<Client>,
    connections: Pot<Client>,
    /// What clients have abandoned and is not over.
    abandoned: BTreeMap<Client, Vec<Account>>,
    /// Connections that wait for memory, by their number.
    waiting: BTreeMap<u64, Waker>,
}

impl Ledger {
    /// Bytes that this client has abandoned, and that all have. Forgets what is over.
    fn abandoned(&mut self, client: Client) -> [u64; 2] {
        let mut sum = [0; 2];
        self.abandoned.retain(|other, accounts| {
            accounts.retain(|account| account.held() > 0);
            let held: u64 = accounts.iter().map(|account| account.held() as u64).sum();
            sum = [sum[0] + if *other == client { held } else { 0 }, sum[1] + held];
            !accounts.is_empty()
        });
        sum
    }

    fn abandon(&mut self, client: Client, account: Account) {
        if account.held() > 0 {
            self.abandoned.entry(client).or_default().push(account);
        }
    }
}

struct Shared {
    limits: NbdLimits,
    buffers: BufPool,
    ledger: Mutex<Ledger>,
    /// How many wait, to be looked at without the lock.
    waiting: AtomicUsize,
    numbers: AtomicUsize,
}

/// What the NBD clients of one or several servers share: memory for payload and connections, with [`NbdLimits`] that
/// hold for all of them together. A clone is the same.
#[derive(Clone)]
pub struct NbdMemory(Arc<Shared>);

impl Default for NbdMemory {
    fn default() -> Self {
        Self::new(NbdLimits::default())
    }
}

impl NbdMemory {
    /// With these limits.
    #[must_use]
    pub fn new(limits: NbdLimits) -> Self {
        let pot = |total: usize| Pot::new(total as u64, SHARE);
        let (payload, connections) = (pot(limits.payload), pot(limits.connections));
        let ledger = Ledger { payload, connections, abandoned: BTreeMap::new(), waiting: BTreeMap::new() };
        Self(Arc::new(Shared {
            limits,
            buffers: BufPool::new(CACHED),
            ledger: Mutex::new(ledger),
            waiting: AtomicUsize::new(0),
            numbers: AtomicUsize::new(0),
        }))
    }

    /// Bytes of payload that are held at this moment: being received, in flight, not read yet, or abandoned and not over.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.buffers.held()
    }

    pub(super) fn limits(&self) -> &NbdLimits {
        &self.0.limits
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of one more connection of this process; `None`: too many, or too much is held already.
    pub(super) fn admit(&self, pid: Option<i32>) -> Option<Allowance> {
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed) as u64;
        let client = pid.map_or(Client::Connection(number), Client::Process);
        let held = self.held();
        let mut ledger = self.ledger();
        let [own, _] = ledger.abandoned(client);
        let admitted = held <= self.limits().held_max()
            && own <= self.limits().payload as u64 / 4
            && ledger.connections.take(client, 1);
        drop(ledger);
        admitted.then(|| {
            let account = Account::default();
            let buffers = self.0.buffers.on_account(&account);
            Allowance { memory: self.clone(), client, number, granted: 0, account, buffers }
        })
    }

    fn wake(&self, waiting: BTreeMap<u64, Waker>) {
        self.0.waiting.fetch_sub(waiting.len(), Ordering::AcqRel);
        waiting.into_values().for_each(|waker| waker.wake());
    }
}

impl fmt::Debug for NbdMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ledger = self.ledger();
        let (granted, connections) = (ledger.payload.used(), ledger.connections.used());
        write!(f, "NbdMemory({} bytes held, {granted} granted, {connections} connections)", self.0.buffers.held())
    }
}

/// What one connection may hold. Everything is given back when it is dropped.
pub(super) struct Allowance {
    memory: NbdMemory,
    client: Client,
    number: u64,
    /// Out of the pot.
    granted: usize,
    account: Account,
    buffers: BufPool,
}

impl Allowance {
    /// Where the memory of this connection comes from.
    pub(super) const fn buffers(&self) -> &BufPool {
        &self.buffers
    }

    /// What it had submitted is abandoned, and the connection goes on.
    pub(super) fn abandon(&mut self) {
        let account = std::mem::take(&mut self.account);
        self.buffers = self.memory.0.buffers.on_account(&self.account);
        self.memory.ledger().abandon(self.client, account);
    }

    /// True if this connection may hold `bytes` in all from now on. If not, `waker` is woken when there may be room.
    pub(super) fn covers(&mut self, bytes: usize, waker: impl FnOnce() -> Waker) -> bool {
        let Some(missing) = bytes.checked_sub(FLOOR + self.granted).filter(|missing| *missing > 0) else { return true };
        self.ask(missing, waker)
    }

    #[cold]
    fn ask(&mut self, missing: usize, waker: impl FnOnce() -> Waker) -> bool {
        let mut ledger = self.memory.ledger();
        if let Some(amount) = self.granted_now(&mut ledger, missing) {
            self.granted += amount;
            return true;
        }
        if ledger.waiting.insert(self.number, waker()).is_none() {
            self.memory.0.waiting.fetch_add(1, Ordering::AcqRel);
        }
        false
    }

    /// What comes out of the pot for it if it misses so much; `None`: not now.
    fn granted_now(&self, ledger: &mut Ledger, missing: usize) -> Option<usize> {
        let (held, abandoned) = (self.memory.held(), ledger.abandoned(self.client));
        [missing.next_multiple_of(STEP), missing].into_iter().find(|amount| {
            held.saturating_add(*amount) <= self.memory.limits().held_max()
                && ledger.payload.take_beside(self.client, *amount as u64, abandoned)
        })
    }

    /// It waits no more.
    pub(super) fn give_up(&mut self) {
        if self.memory.ledger().waiting.remove(&self.number).is_some() {
            self.memory.0.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The connection holds so much now: what it does not need, it gives back when that is most of it, or if others wait.
    pub(super) fn settle(&mut self, bytes: usize) {
        let needed = bytes.saturating_sub(FLOOR);
        if self.granted > needed && (needed <= self.granted / 2 || self.others_wait()) {
            self.give(self.granted - needed);
        }
    }

    pub(super) fn patience(&self) -> Duration {
        self.memory.limits().patience
    }

    /// True if it has something out of the pot that others wait for.
    pub(super) fn is_wanted(&self) -> bool {
        self.granted > 0 && self.others_wait()
    }

    pub(super) const fn has_grant(&self) -> bool {
        self.granted > 0
    }

    fn others_wait(&self) -> bool {
        self.memory.0.waiting.load(Ordering::Acquire) > 0
    }

    #[cold]
    fn give(&mut self, amount: usize) {
        let mut ledger = self.memory.ledger();
        ledger.payload.give(self.client, amount as u64);
        self.granted -= amount;
        let waiting = std::mem::take(&mut ledger.waiting);
        drop(ledger);
        self.memory.wake(waiting);
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        let mut ledger = self.memory.ledger();
        ledger.payload.give(self.client, self.granted as u64);
        ledger.abandon(self.client, self.account.clone());
        ledger.connections.give(self.client, 1);
        let waiting = std::mem::take(&mut ledger.waiting);
        drop(ledger);
        self.memory.wake(waiting);
    }
}

/// How long a client has neither taken nor given a byte while it holds what others may want.
#[derive(Debug)]
pub(super) struct Stall {
    patience: Duration,
    bytes: u64,
    since: Option<Instant>,
}

impl Stall {
    pub(super) const fn new(patience: Duration) -> Self {
        Self { patience, bytes: 0, since: None }
    }

    /// `bytes` have been exchanged so far; `owes`: the client has announced payload that did not come, or has answers to
    /// read. Gives the moment at which it is to be looked at again.
    pub(super) fn observe(&mut self, now: Instant, bytes: u64, owes: bool) -> Option<Instant> {
        if !owes || bytes != self.bytes {
            (self.bytes, self.since) = (bytes, None);
        }
        if !owes {
            return None;
        }
        let until = *self.since.get_or_insert(now) + self.patience;
        Some(until.max(now + AGAIN_AFTER))
    }

    /// True if it has stalled for too long.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now >= since + self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_begins_with_its_floor_and_gives_back_what_it_does_not_need() {
        let memory = NbdMemory::default();
        let mut one = memory.admit(Some(1)).expect("room");
        let quarter = memory.limits().payload / 4;
        let never = || unreachable!("there is room");
        assert!(one.covers(FLOOR, never));
        assert_eq!(one.granted, 0);
        assert!(one.covers(FLOOR + 1, never));
        assert_eq!(one.granted, STEP, "asked for in steps");
        assert!(one.covers(FLOOR + quarter, never), "and exactly, where a step does not fit");
        one.settle(quarter);
        assert_eq!(one.granted, quarter, "it needs most of it");
        one.settle(0);
        assert_eq!((one.granted, memory.ledger().payload.used()), (0, 0));
        assert!(one.covers(FLOOR + STEP, never));
        drop(one);
        let ledger = memory.ledger();
        assert_eq!((ledger.payload.used(), ledger.connections.used()), (0, 0));
    }

    #[test]
    fn what_a_client_has_abandoned_stays_charged_to_it_and_not_to_others() {
        let memory = NbdMemory::new(NbdLimits { payload: 64 << 20, ..NbdLimits::default() });
        let granted = |one: &mut Allowance, bytes| {
            let granted = one.granted_now(&mut memory.ledger(), bytes);
            one.granted += granted.unwrap_or(0);
            granted.is_some()
        };
        let mut left = Vec::new();
        // It comes, takes its quarter, vanishes, and comes again.
        let rounds = (0..100).take_while(|_| {
            let Some(mut one) = memory.admit(Some(1)) else { return false };
            if granted(&mut one, 8 << 20) {
                left.push(one.buffers().take(8 << 20));
            }
            left.push(one.buffers().take(FLOOR));
            true
        });
        assert!(rounds.count() < 100, "in the end it is not let in");
        assert!(memory.held() <= (16 << 20) + 2 * FLOOR, "{} bytes", memory.held());
        let mut other = memory.admit(Some(2)).expect("others are");
        assert!(granted(&mut other, 16 << 20), "and have what they had");
        other.abandon();
        drop(left);
        assert!(granted(&mut memory.admit(Some(1)).expect("it is over"), 8 << 20));
        assert!(memory.ledger().abandoned.is_empty(), "and forgotten");
    }

    #[test]
    fn a_process_gets_a_quarter_of_the_connections() {
        let memory = NbdMemory::default();
        let mine: Vec<_> = std::iter::from_fn(|| memory.admit(Some(1))).collect();
        assert_eq!(mine.len(), memory.limits().connections / 4);
        let other = memory.admit(Some(2)).expect("others have room");
        let unknown = memory.admit(None).expect("and so have those that nobody knows");
        drop((mine, other, unknown));
        assert!(memory.admit(Some(1)).is_some());
    }

    #[test]
    fn a_stall_counts_from_the_last_byte_and_only_while_something_is_owed() {
        let mut stall = Stall::new(Duration::from_secs(30));
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        assert_eq!(stall.observe(at(0), 5, true), Some(at(30)));
        assert_eq!(stall.observe(at(20), 6, true), Some(at(50)), "a byte moved");
        assert!(!stall.is_over(at(49)) && stall.is_over(at(50)));
        assert_eq!(stall.observe(at(60), 6, true), Some(at(60) + AGAIN_AFTER), "nobody waited then: looked at again");
        assert_eq!(stall.observe(at(61), 6, false), None);
        assert_eq!(stall.observe(at(70), 6, true), Some(at(100)));
        assert!(!stall.is_over(at(99)) && stall.is_over(at(100)));
    }
}

//! What the clients of the control socket can make this host want, and how much of it each of them.
//!
//! Whoever may open the socket may ask for connections, and each costs memory, sockets, attempts without end, a place in the record
//! and a line of every status. So there is a bound on all of them together, and each user has a share of it: that of root and of the
//! user the daemon runs as is everything, that of any other user a quarter, and never more than it leaves for the next one. The
//! attempts that requests wait for are bounded in the same way, and by process besides; exports and discovery controllers by user.
//!
//! What the configuration names, or was wanted by an earlier process, is counted and never refused. What discovery logs name has
//! a share of its own.

use crate::refusal::Refusal;
use interlock_api::{LimitsStatus, ProblemKind};
use interlock_base::{Pot, Share};
use interlock_host::CtrlId;
use rustix::process::getuid;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Controllers that this host wants at once, if the configuration does not say otherwise.
pub(crate) const CONTROLLERS: u32 = 4_096;
/// Connections at once whose requests wait for the first attempt. A silent target lets one take a minute.
const ATTEMPTS: u64 = 1_024;
/// One process, and one user other than root, may have a quarter, and never more than it leaves.
const QUARTER: Share = Share { times: 1, kept_back: 0, part: 4 };
/// What logs name may have most, and an eighth is kept back from it.
const MOST: Share = Share { times: 8, kept_back: 8, part: 1 };

/// Who asks, as the kernel says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    /// 0: of another PID namespace.
    pub(crate) pid: i32,
}

/// On whose account a controller is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Payer {
    /// The configuration, or a record of an earlier process, which does not say who asked.
    Operator,
    /// A user who asked for it.
    User(u32),
    /// Logs of discovery controllers.
    Discovery,
}

impl fmt::Display for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => write!(f, "the configuration"),
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Discovery => write!(f, "the logs of discovery controllers"),
        }
    }
}

/// Why no more are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    /// Of all that may be wanted at once, nothing is left for this payer.
    Controllers { most: u64, all: u64, payer: Payer, held: u64 },
    /// So many requests wait for the first attempt of their connection.
    Attempts { most: u64, all: u64, peer: Peer, held: u64 },
    /// The same of exports or discovery controllers.
    Wanted { what: Kind, most: u64, all: u64, payer: Payer, held: u64 },
}

/// What else is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exports,
    DiscoveryControllers,
}

impl Kind {
    const fn words(self) -> [&'static str; 2] {
        match self {
            Self::Exports => ["exports that there may be", "end those that are not needed: `interlock unexport NAME`"],
            Self::DiscoveryControllers => [
                "discovery controllers that may be watched",
                "end those that are not needed: `interlock disconnect --discovery ADDR:PORT`",
            ],
        }
    }
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        match exceeded {
            Exceeded::Controllers { most, all, payer, held } => {
                let text =
                    format!("of {most} controllers that may be wanted at once there are {all}, {held} for {payer}");
                Self::new(ProblemKind::InUse, text)
                    .hint("disconnect those that are not needed: `interlock list` shows them")
                    .hint("or raise `[daemon] max_controllers` and restart the daemon")
            }
            Exceeded::Attempts { most, all, peer: Peer { uid, pid }, held } => {
                let text = format!(
                    "of {most} connections that may be attempted at once there are {all}, {held} for process {pid} or user {uid}"
                );
                Self::new(ProblemKind::InUse, text)
                    .hint("try again when some of them have ended")
                    .hint("or do not wait for the first attempt: `interlock connect --keep-trying`")
            }
            Exceeded::Wanted { what, most, all, payer, held } => {
                let [of, hint] = what.words();
                Self::new(ProblemKind::InUse, format!("of {most} {of} at once there are {all}, {held} for {payer}"))
                    .hint(hint)
            }
        }
    }
}

/// A controller that is on somebody's account, for as long as it is wanted or there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    payer: Payer,
    wanted: bool,
    there: bool,
}

/// The accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ledger {
    most: u64,
    /// The user the daemon runs as.
    own: u32,
    /// What each payer has; what is not named yet counts.
    controllers: BTreeMap<Payer, u64>,
    entries: BTreeMap<CtrlId, Entry>,
    users: Pot<u32>,
    processes: Pot<(u32, i32)>,
}

impl Ledger {
    /// For so many controllers at once; the daemon runs as this user.
    pub(crate) const fn new(most: u32, own: u32) -> Self {
        Self {
            most: most as u64,
            own,
            controllers: BTreeMap::new(),
            entries: BTreeMap::new(),
            users: Pot::new(ATTEMPTS, QUARTER),
            processes: Pot::new(ATTEMPTS, QUARTER),
        }
    }

    /// Root, or the user the daemon runs as.
    pub(crate) const fn is_root(&self, uid: u32) -> bool {
        uid == 0 || uid == self.own
    }

    /// As `status` shows it.
    pub(crate) fn status(&self) -> LimitsStatus {
        LimitsStatus { controllers: self.used(), controllers_max: self.most }
    }

    /// Controllers that are wanted or there.
    fn used(&self) -> u64 {
        self.controllers.values().sum()
    }

    /// Whether this payer may have one more, of so many that there may be, that there are, and that it has.
    fn admits(&self, payer: Payer, [most, all, held]: [u64; 3]) -> bool {
        match payer {
            Payer::Operator => true,
            Payer::User(uid) if self.is_root(uid) => all < most,
            Payer::User(_) => QUARTER.admits(most, all, held, 1),
            Payer::Discovery => MOST.admits(most, all, held, 1),
        }
    }

    /// The same of what is counted elsewhere: `payers` are those of all that there are.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn one_more(
        &self,
        what: Kind,
        most: usize,
        payer: Payer,
        payers: impl Iterator<Item = Payer>,
    ) -> Result<(), Exceeded> {
        let (mut all, mut held) = (0, 0);
        for other in payers {
            all += 1;
            held += u64::from(other == payer);
        }
        let most = most as u64;
        if self.admits(payer, [most, all, held]) {
            return Ok(());
        }
        Err(Exceeded::Wanted { what, most, all, payer, held })
    }

    /// Puts one more on this account.
    ///
    /// # Errors
    /// There is no room.
    fn reserve(&mut self, payer: Payer) -> Result<(), Exceeded> {
        let (most, all) = (self.most, self.used());
        let held = self.controllers.get(&payer).copied().unwrap_or(0);
        if !self.admits(payer, [most, all, held]) {
            return Err(Exceeded::Controllers { most, all, payer, held });
        }
        *self.controllers.entry(payer).or_default() += 1;
        Ok(())
    }

    fn give_back(&mut self, payer: Payer) {
        if let Some(held) = self.controllers.get_mut(&payer) {
            *held -= 1;
            if *held == 0 {
                self.controllers.remove(&payer);
            }
        }
    }

    /// What was reserved is this controller. If it was known before it stays on the account on which it was. True if it was
    /// not there.
    fn is(&mut self, id: CtrlId, payer: Payer) -> bool {
        match self.entries.get_mut(&id) {
            None => {
                self.entries.insert(id, Entry { payer, wanted: false, there: true });
                true
            }
            Some(entry) => {
                let new = !std::mem::replace(&mut entry.there, true);
                self.give_back(payer);
                new
            }
        }
    }

    /// True if it is on somebody's account.
    pub(crate) fn knows(&self, id: CtrlId) -> bool {
        self.entries.contains_key(&id)
    }

    /// Of these, the host has none any more.
    pub(crate) fn ended_but_for(&mut self, before: &[CtrlId], there: &BTreeSet<CtrlId>) {
        before.iter().filter(|id| !there.contains(id)).for_each(|id| self.ended(*id));
    }

    /// Those that are there.
    pub(crate) fn there(&self) -> Vec<CtrlId> {
        self.entries.iter().filter(|(_, entry)| entry.there).map(|(id, _)| *id).collect()
    }

    /// It is wanted from now on, or no more.
    pub(crate) fn wanted(&mut self, id: CtrlId, wanted: bool) {
        self.change(id, |entry| entry.wanted = wanted);
    }

    /// It is wanted, and there again if it was known before.
    pub(crate) fn began(&mut self, id: CtrlId) {
        self.change(id, |entry| (entry.wanted, entry.there) = (true, true));
    }

    /// The host has ended it.
    pub(crate) fn ended(&mut self, id: CtrlId) {
        self.change(id, |entry| entry.there = false);
    }

    fn change(&mut self, id: CtrlId, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        change(entry);
        if !entry.wanted && !entry.there {
            let payer = entry.payer;
            self.entries.remove(&id);
            self.give_back(payer);
        }
    }

    fn attempt(&mut self, peer: Peer) -> Result<(), Exceeded> {
        let Peer { uid, pid } = peer;
        let (all, process) = (self.processes.used(), self.processes.held((uid, pid)));
        let is_root = self.is_root(uid);
        let exceeded = |held| Exceeded::Attempts { most: ATTEMPTS, all, peer, held };
        if !is_root && !self.users.take_beside(uid, 1, [0, all - self.users.used()]) {
            return Err(exceeded(self.users.held(uid)));
        }
        if !self.processes.take((uid, pid), 1) {
            if !is_root {
                self.users.give(uid, 1);
            }
            return Err(exceeded(process));
        }
        Ok(())
    }

    fn attempted(&mut self, Peer { uid, pid }: Peer) {
        self.processes.give((uid, pid), 1);
        if !self.is_root(uid) {
            self.users.give(uid, 1);
        }
    }
}

/// The accounts, for all threads.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Mutex<Ledger>>);

impl Budget {
    /// For so many controllers at once.
    pub(crate) fn new(most: u32) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(most, getuid().as_raw()))))
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more controller on this account.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn reserve(&self, payer: Payer) -> Result<Reserved, Refusal> {
        self.ledger().reserve(payer)?;
        Ok(Reserved { budget: self.clone(), payer, named: false })
    }

    /// A place for a connection whose first attempt a request waits for.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn attempt(&self, peer: Peer) -> Result<Attempt, Refusal> {
        self.ledger().attempt(peer)?;
        Ok(Attempt { budget: self.clone(), peer })
    }
}

/// Room for a controller that has no name yet; dropped, it is given back.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: Budget,
    payer: Payer,
    named: bool,
}

impl Reserved {
    /// It is for this one, which `begin` begins. What cannot be begun costs nothing.
    pub(crate) fn spent_on<E>(mut self, id: CtrlId, begin: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        self.named = true;
        // Before it begins: its end must not be heard of first.
        let new = self.budget.ledger().is(id, self.payer);
        begin().inspect_err(|_| {
            if new {
                self.budget.ledger().ended(id);
            }
        })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.named {
            self.budget.ledger().give_back(self.payer);
        }
    }
}

/// A place among the attempts; dropped, it is given back.
#[derive(Debug)]
pub(crate) struct Attempt {
    budget: Budget,
    peer: Peer,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.budget.ledger().attempted(self.peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: u32 = 990;

    fn ledger(most: u32) -> Ledger {
        Ledger::new(most, DAEMON)
    }

    /// As many as this payer gets.
    fn greed(ledger: &mut Ledger, payer: Payer, first: u32) -> u64 {
        let mut number = first;
        while ledger.reserve(payer).is_ok() {
            ledger.is(CtrlId(number), payer);
            number += 1;
        }
        u64::from(number - first)
    }

    #[test]
    fn a_user_has_a_quarter_and_leaves_as_much_as_it_takes() {
        let mut ledger = ledger(1_000);
        let got: Vec<u64> = (0..4).map(|user| greed(&mut ledger, Payer::User(1_000 + user), user * 10_000)).collect();
        assert_eq!(got, [250, 250, 250, 125]);
        let text = Refusal::from(ledger.reserve(Payer::User(1_000)).expect_err("no more")).0;
        assert!(
            text.error.starts_with("of 1000 controllers that may be wanted at once there are 875, 250 for user 1000")
        );
        assert!(text.hints[1].contains("max_controllers"), "{:?}", text.hints);
        assert_eq!(greed(&mut ledger, Payer::Discovery, 50_000), 13);
        assert_eq!(greed(&mut ledger, Payer::User(0), 60_000), 112, "the rest is root's");
        assert!(ledger.reserve(Payer::User(DAEMON)).is_err());
        assert!(ledger.reserve(Payer::Operator).is_ok(), "what the operator wrote down is never refused");
        assert_eq!(ledger.used(), 1_001);
    }

    #[test]
    fn what_is_neither_wanted_nor_there_costs_nothing() {
        let mut ledger = ledger(1);
        let user = Payer::User(0);
        let take = |ledger: &mut Ledger| ledger.reserve(user).map(|()| ledger.is(CtrlId(7), user)).is_ok();
        assert!(take(&mut ledger) && !take(&mut ledger));
        ledger.ended(CtrlId(7));
        assert!(take(&mut ledger), "its attempt failed");
        ledger.wanted(CtrlId(7), true);
        ledger.ended(CtrlId(7));
        assert!(!take(&mut ledger), "given up, and wanted all the same");
        ledger.wanted(CtrlId(7), false);
        assert_eq!((ledger.used(), ledger.entries.len()), (0, 0));
        // Ends in the other order.
        assert!(take(&mut ledger));
        ledger.wanted(CtrlId(7), true);
        ledger.wanted(CtrlId(7), false);
        assert_eq!(ledger.used(), 1);
        ledger.ended(CtrlId(7));
        ledger.ended(CtrlId(7));
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn one_that_begins_again_is_paid_once_by_whoever_paid_before() {
        let mut ledger = ledger(10);
        for payer in [Payer::User(5), Payer::Operator, Payer::Discovery] {
            ledger.reserve(payer).expect("room");
            ledger.is(CtrlId(1), payer);
        }
        assert_eq!(ledger.controllers, BTreeMap::from([(Payer::User(5), 1)]));
        let budget = Budget(Arc::new(Mutex::new(ledger)));
        drop(budget.reserve(Payer::User(6)).expect("room"));
        assert_eq!(budget.ledger().used(), 1, "what came to nothing is given back");
        for (id, used) in [(1, 1), (2, 1)] {
            let room = budget.reserve(Payer::User(6)).expect("room");
            assert_eq!(room.spent_on(CtrlId(id), || Err(())), Err(()));
            assert_eq!(budget.ledger().used(), used, "a controller that was there before is not ended by that");
        }
        let there = budget.ledger().there();
        budget.ledger().ended_but_for(&there, &BTreeSet::from([CtrlId(1)]));
        assert_eq!(budget.ledger().used(), 1);
        budget.ledger().ended_but_for(&there, &BTreeSet::new());
        assert_eq!(budget.ledger().used(), 0);
    }

    #[test]
    fn exports_and_discovery_controllers_are_shared_by_user() {
        let ledger = ledger(1);
        let mut all: Vec<Payer> = Vec::new();
        let mut greed = |payer| {
            let before = all.len();
            while ledger.one_more(Kind::Exports, 256, payer, all.iter().copied()).is_ok() && all.len() < 300 {
                all.push(payer);
            }
            all.len() - before
        };
        assert_eq!([1_000, 1_001, 1_000, 1_002].map(|uid| greed(Payer::User(uid))), [64, 64, 0, 64]);
        assert_eq!(greed(Payer::User(1_003)), 32, "and each leaves something for the next");
        assert_eq!(greed(Payer::User(0)), 32, "root may have the rest");
        assert!(greed(Payer::Operator) > 0, "what the operator wrote down is never refused");
        let exceeded = ledger.one_more(Kind::DiscoveryControllers, 1, Payer::User(7), [Payer::User(7)].into_iter());
        let Refusal(problem) = exceeded.expect_err("no more").into();
        assert_eq!(problem.kind, ProblemKind::InUse);
        let text = "of 1 discovery controllers that may be watched at once there are 1, 1 for user 7";
        assert_eq!(problem.error, text);
    }

    #[test]
    fn attempts_are_shared_by_user_and_by_process() {
        let mut ledger = ledger(10);
        let mut greed = |uid, pids: &[i32]| {
            let mut got = 0;
            for pid in pids {
                while ledger.attempt(Peer { uid, pid: *pid }).is_ok() {
                    got += 1;
                }
            }
            got
        };
        assert_eq!(greed(1_000, &[1]), 256);
        assert_eq!(greed(1_000, &[2, 3, 4]), 0, "more processes do not make it more");
        assert_eq!(greed(1_001, &[5, 6]), 256);
        assert_eq!(greed(0, &[7]), 256);
        assert_eq!(greed(0, &[8, 9]), 192, "root may have the rest, and one process leaves something for the next");
        assert!(ledger.attempt(Peer { uid: 0, pid: 10 }).is_ok());
        ledger.attempted(Peer { uid: 1_000, pid: 1 });
        assert!(ledger.attempt(Peer { uid: 1_000, pid: 2 }).is_err(), "it has more than it leaves");
        let text = Refusal::from(ledger.attempt(Peer { uid: 1_000, pid: 1 }).expect_err("no more")).0;
        assert!(text.error.contains("255 for process 1 or user 1000"), "{}", text.error);
    }
}

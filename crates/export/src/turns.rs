//! When it is the turn of those who come again and again.
//!
//! Each new connection costs the thread that serves everybody some time, before it is known what the client wants. A client that
//! connects, vanishes and connects again as fast as it can would take all of that thread's time from those who stay. So
//! each process, and each user other than root and the one this process runs as, may come a number of times at once
//! and then once in each interval. Who comes earlier waits, and is not looked at before it is its turn; who would wait too
//! long is sent away.

use interlock_base::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// Payers that are remembered at once. One is forgotten as soon as it may come as often as a new one.
const REMEMBERED: usize = 4_096;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// So often at once.
    pub burst: u32,
    /// Then once in this interval; not zero.
    pub each: Duration,
}

/// The turns of payers at one pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns<K> {
    pace: Pace,
    /// Who would wait longer is sent away.
    wait_max: Duration,
    /// When all that the payer did would be done if it had kept to the interval.
    done: BTreeMap<K, Instant>,
}

impl<K: Copy + Ord> Turns<K> {
    /// Turns at this pace; nobody waits longer than `wait_max`.
    #[must_use]
    pub const fn new(pace: Pace, wait_max: Duration) -> Self {
        Self { pace, wait_max, done: BTreeMap::new() }
    }

    /// When it is this payer's turn if it comes now; `None`: later than it may wait. Nothing is taken.
    #[must_use]
    pub fn look(&self, payer: K, now: Instant) -> Option<Instant> {
        let done = self.done.get(&payer).map_or(now, |done| (*done).max(now));
        let wait = done.since(now).saturating_sub(self.pace.each * self.pace.burst.saturating_sub(1));
        (wait <= self.wait_max).then(|| now + wait)
    }

    /// The same, and the turn is this payer's.
    pub fn take(&mut self, payer: K, now: Instant) -> Option<Instant> {
        let turn = self.look(payer, now)?;
        if self.done.len() >= REMEMBERED && !self.done.contains_key(&payer) {
            self.done.retain(|_, done| *done > now);
            if self.done.len() >= REMEMBERED {
                // More came within the time of one burst than are remembered: the one that owes least is as good as new.
                let least = self.done.iter().min_by_key(|(_, done)| **done).map(|(payer, _)| *payer);
                least.map(|payer| self.done.remove(&payer));
            }
        }
        let done = self.done.entry(payer).or_insert(now);
        *done = (*done).max(now) + self.pace.each;
        Some(turn)
    }
}

/// Who comes, as far as the kernel says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comer {
    /// The process; `None`: of another PID namespace.
    pub pid: Option<i32>,
    /// The user.
    pub uid: Option<u32>,
}

/// Turns by process and by user.
#[derive(Clone, Debug)]
pub struct Comers {
    processes: Turns<Option<i32>>,
    users: Turns<Option<u32>>,
    /// The user this process runs as: as root, not bounded as a user.
    own: u32,
}

impl Comers {
    /// Turns at these paces; nobody waits longer than `wait_max`.
    #[must_use]
    pub fn new(process: Pace, user: Pace, wait_max: Duration) -> Self {
        let own = rustix::process::getuid().as_raw();
        Self { processes: Turns::new(process, wait_max), users: Turns::new(user, wait_max), own }
    }

    /// When it is the turn of somebody who comes now; `None`: it is to be sent away.
    pub fn take(&mut self, Comer { pid, uid }: Comer, now: Instant) -> Option<Instant> {
        if uid.is_some_and(|uid| uid == 0 || uid == self.own) {
            return self.processes.take(pid, now);
        }
        self.processes.look(pid, now)?;
        let user = self.users.take(uid, now)?;
        self.processes.take(pid, now).map(|process| process.max(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PACE: Pace = Pace { burst: 4, each: Duration::from_millis(10) };

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1_000 + millis)
    }

    #[test]
    fn who_comes_too_often_waits_and_nobody_else_does() {
        let mut turns = Turns::new(PACE, 50 * MS);
        let mut come = |payer, now| turns.take(payer, now).map(|turn| turn.since(now).as_millis());
        let burst: Vec<_> = (0..12).map(|_| come('a', at(0))).collect();
        let waits = [0, 0, 0, 0, 10, 20, 30, 40, 50];
        assert_eq!(burst[..9], waits.map(Some));
        assert_eq!(burst[9..], [None; 3], "and who is sent away owes nothing for it");
        assert_eq!(come('b', at(0)), Some(0));
        assert_eq!(come('a', at(10)), Some(50));
        assert_eq!(come('a', at(100)), Some(0));
        assert_eq!(come('a', at(9_000)), Some(0));
        assert_eq!((0..4).map(|_| come('a', at(9_000))).max(), Some(Some(10)), "no more than a burst is saved up");
    }

    #[test]
    fn the_pace_is_kept_for_as_long_as_somebody_comes() {
        let mut turns = Turns::new(PACE, Duration::ZERO);
        let served = (0..10_000).filter(|now| turns.take((), at(*now)).is_some()).count();
        assert!((1_000..=1_004).contains(&served), "{served} in 10 s");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut turns = Turns::new(PACE, 50 * MS);
        for payer in 0..3 * REMEMBERED {
            assert!(turns.take(payer, at(0)).is_some());
        }
        assert!(turns.done.len() <= REMEMBERED);
        let late = at(1_000);
        for payer in 0..REMEMBERED {
            assert_eq!(turns.take(payer, late), Some(late));
        }
        assert!(turns.done.len() <= REMEMBERED);
    }

    #[test]
    fn more_processes_do_not_make_a_user_come_more_often() {
        let pace = |burst| Pace { burst, ..PACE };
        let mut comers = Comers::new(pace(4), pace(10), Duration::ZERO);
        let (user, own) = (Some(comers.own.wrapping_add(1_000)), Some(comers.own));
        let mut come = |pid, uid| (0..20).filter(|_| comers.take(Comer { pid, uid }, at(0)).is_some()).count();
        assert_eq!([1, 2, 3, 4].map(|pid| come(Some(pid), user)), [4, 4, 2, 0]);
        assert_eq!([5, 6, 7].map(|pid| come(Some(pid), own)), [4; 3]);
        assert_eq!(
            [come(None, Some(0)), come(None, Some(0))],
            [4, 0],
            "processes that the kernel does not name are one"
        );
    }
}

//! Who may hold how much of what belongs to all.
//!
//! What one payer may hold depends on what is left, not on a fixed part: a payer alone gets most of it, two greedy ones share it, and
//! nobody has to be told when payers come and go. Each that is greedy finds a fraction of what the one before it found, and
//! the next one still finds something.

use alloc::collections::BTreeMap;

/// A rule for sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// How many times what it leaves to others one payer may hold; at least 1.
    pub times: u64,
    /// One part of so many is kept back from that greed: of it, each may hold no more than one part of so many of what is left, so
    /// that many who never give anything back leave room for the next. 0: nothing is kept back.
    pub kept_back: u64,
    /// One payer may hold one part of so many of all at most; at least 1.
    pub part: u64,
}

impl Share {
    /// Whether a payer that holds `held` may have `wanted` more, of `total` of which all payers together hold `used`.
    #[must_use]
    pub const fn admits(self, total: u64, used: u64, held: u64, wanted: u64) -> bool {
        let after = used.saturating_add(wanted);
        let holds = held.saturating_add(wanted);
        if after > total || holds > total / self.part {
            return false;
        }
        if self.kept_back == 0 {
            return holds <= (total - after).saturating_mul(self.times);
        }
        let greedy = (total - total / self.kept_back).saturating_sub(after).saturating_mul(self.times);
        holds <= greedy || holds <= (total - after) / self.kept_back
    }

    /// The same where one that holds nothing may have the last.
    #[must_use]
    pub const fn admits_first(self, total: u64, used: u64, held: u64, wanted: u64) -> bool {
        held == 0 && used.saturating_add(wanted) <= total || self.admits(total, used, held, wanted)
    }
}

/// A quantity that payers share by a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pot<K> {
    share: Share,
    total: u64,
    used: u64,
    held: BTreeMap<K, u64>,
}

impl<K: Copy + Ord> Pot<K> {
    /// A pot of `total` that nobody has anything of.
    #[must_use]
    pub const fn new(total: u64, share: Share) -> Self {
        Self { share, total, used: 0, held: BTreeMap::new() }
    }

    /// What all payers hold, at most the total.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// What a payer holds.
    #[must_use]
    pub fn held(&self, payer: K) -> u64 {
        self.held.get(&payer).copied().unwrap_or(0)
    }

    /// Who holds something, and how much.
    pub fn payers(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        self.held.iter().map(|(payer, held)| (*payer, *held))
    }

    /// True if the payer has `amount` more from now on.
    #[must_use]
    pub fn take(&mut self, payer: K, amount: u64) -> bool {
        self.take_beside(payer, amount, [0; 2])
    }

    /// The same where something is held beside this pot that counts like what is taken from it: by the payer, and by all.
    #[must_use]
    pub fn take_beside(&mut self, payer: K, amount: u64, beside: [u64; 2]) -> bool {
        let ([own, all], held) = (beside, self.held(payer));
        let may = self.share.admits(self.total, self.used.saturating_add(all), held.saturating_add(own), amount);
        if may && amount > 0 {
            self.used += amount;
            self.held.insert(payer, held + amount);
        }
        may
    }

    /// The payer gives back `amount`, at most what it holds.
    pub fn give(&mut self, payer: K, amount: u64) {
        let Some(held) = self.held.get_mut(&payer) else { return };
        debug_assert!(*held >= amount, "more is given back than was taken");
        let amount = amount.min(*held);
        *held -= amount;
        self.used -= amount;
        if *held == 0 {
            self.held.remove(&payer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use alloc::vec::Vec;

    const QUARTER: Share = Share { times: 1, kept_back: 0, part: 4 };
    const MOST: Share = Share { times: 8, kept_back: 8, part: 1 };

    /// What each of so many payers gets that take all they can, one after the other.
    fn greed(share: Share, payers: u32) -> Vec<u64> {
        let mut pot = Pot::new(1000, share);
        (0..payers)
            .map(|payer| {
                while pot.take(payer, 1) {}
                pot.held(payer)
            })
            .collect()
    }

    #[test]
    fn the_greedy_leave_room_for_a_newcomer() {
        assert_eq!(greed(QUARTER, 8), [250, 250, 250, 125, 62, 31, 16, 8]);
        assert_eq!(greed(MOST, 8), [777, 87, 15, 13, 12, 10, 9, 8], "most, then a part of what is kept back");
        assert_eq!(greed(Share { kept_back: 0, ..MOST }, 4), [888, 99, 11, 1]);
    }

    #[test]
    fn who_holds_nothing_may_have_the_last() {
        assert!(!MOST.admits(10, 9, 0, 1) && MOST.admits_first(10, 9, 0, 1));
        assert!(!MOST.admits_first(10, 9, 1, 1) && !MOST.admits_first(10, 10, 0, 1));
        assert!(!QUARTER.admits(u64::MAX, 1, 1, u64::MAX) && !MOST.admits(u64::MAX, 1, 1, u64::MAX));
        assert!(!MOST.admits_first(8, u64::MAX, 0, u64::MAX));
    }

    #[test]
    fn what_is_given_back_is_there_again_and_nobody_is_remembered() {
        let mut pot = Pot::new(100, QUARTER);
        assert!(pot.take('a', 25) && !pot.take('a', 1) && pot.take('b', 0));
        assert_eq!(pot.payers().collect::<Vec<_>>(), [('a', 25)]);
        pot.give('a', 20);
        assert!(pot.take('a', 20));
        pot.give('a', 25);
        pot.give('z', 0);
        assert_eq!((pot.used(), pot.payers().count()), (0, 0));
    }

    #[test]
    fn a_pot_is_never_overdrawn() {
        for share in [QUARTER, MOST] {
            let (mut pot, mut rng) = (Pot::new(1000, share), Rng::new(7));
            for _ in 0..2000 {
                let (payer, amount) = (rng.below(5), rng.below(600));
                if rng.below(2) == 0 {
                    let _ = pot.take(payer, amount);
                } else {
                    pot.give(payer, amount.min(pot.held(payer)));
                }
                assert!(pot.used() <= 1000);
                assert_eq!(pot.used(), pot.payers().map(|(_, held)| held).sum::<u64>());
                assert!(pot.payers().all(|(_, held)| held <= 1000 / share.part));
            }
        }
    }
}

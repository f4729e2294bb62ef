//! The end of a life, as one table.
//!
//! A life must stay known until its last media operation has completed, whatever ended it: a CCR that finds it gone too
//! early would answer "already reset" while a write is still on its way. This is the place where that cannot happen:
//! only [`Input::Quiesced`], sent when *every* lane has answered, ends a life.
//!
//! ```text
//!            lost: cut, wait quiesce time      drain over: tell lanes      all lanes answered
//!   Live ───────────────────────────────────┐ ┌───────────────────────> Quiescing{by} ───────> ended
//!     ├── reset: cut, drain 0 ──────────────┼─┤
//!     └── ccr: cut, wait drain time ────────┴─┴ Draining{by}
//! ```
//! `Draining` is the dangerous part: connections are gone, and what stalls inside may still execute.

use crate::{By, Life, Payer};
use alloc::collections::{BTreeMap, VecDeque};
use core::cmp::Reverse;
use core::ops::RangeInclusive;
use interlock_wire::nqn::{HostId, Nqn};

/// Where a life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LifeState {
    /// Enabled; its association is up.
    Live,
    /// Its connections are cut. Commands inside may still execute until the drain time is over.
    Draining {
        /// What will have quiesced it.
        by: By,
    },
    /// Every lane was told to refuse what is left; waiting until each has answered.
    Quiescing {
        /// What quiesced it.
        by: By,
    },
}

/// What can happen to a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// The association ended: connection, keep alive, script.
    Lost,
    /// A valid CCR names it.
    Ccr,
    /// CC.EN=0, shutdown by the host, or end of the target.
    Reset,
    /// The drain time is over.
    DrainOver,
    /// Every lane has answered `Quiesced`.
    Quiesced,
}

/// What must be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Nothing.
    None,
    /// Cut its connections, and wait for the drain time of the new state.
    CutAndDrain,
    /// The drain time of the new state applies if it ends earlier.
    Hasten,
    /// Tell every lane to refuse what is left.
    Quiesce,
    /// It is over: report it and remember it among the ended.
    End {
        /// What quiesced it.
        by: By,
    },
}

impl LifeState {
    /// The state after `input`, and what to do.
    #[must_use]
    pub(crate) const fn after(self, input: Input) -> (Self, Action) {
        match (self, input) {
            (Self::Live, Input::Lost) => (Self::Draining { by: By::Time }, Action::CutAndDrain),
            (Self::Live, Input::Ccr) => (Self::Draining { by: By::Ccr }, Action::CutAndDrain),
            (Self::Live, Input::Reset) => (Self::Draining { by: By::Reset }, Action::CutAndDrain),
            (Self::Draining { by: By::Time | By::Reset }, Input::Ccr) => {
                (Self::Draining { by: By::Ccr }, Action::Hasten)
            }
            (Self::Draining { by: By::Time }, Input::Reset) => (Self::Draining { by: By::Reset }, Action::Hasten),
            (Self::Draining { by }, Input::DrainOver) => (Self::Quiescing { by }, Action::Quiesce),
            (Self::Quiescing { by }, Input::Quiesced) => (self, Action::End { by }),
            // A life is lost, reset or fenced once; what comes later finds it on its way.
            (Self::Draining { .. } | Self::Quiescing { .. }, Input::Lost | Input::Ccr | Input::Reset) => {
                (self, Action::None)
            }
            // Timers and answers of a state that is over.
            (Self::Live | Self::Quiescing { .. }, Input::DrainOver) => (self, Action::None),
            (Self::Live | Self::Draining { .. }, Input::Quiesced) => (self, Action::None),
        }
    }
}

/// Whose life it was: a CCR is for the same host only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HostIdentity {
    /// Host NQN.
    pub(crate) nqn: Nqn,
    /// Host Identifier.
    pub(crate) id: HostId,
}

/// How many ended lives are remembered. An older one is unknown: CCR answers Invalid Field and the host waits, which is
/// safe.
pub(crate) const ENDED_LIVES_MAX: usize = 4096;

/// The lives that are over for good: a CCR for one of them is "already reset". Whoever has most of them forgets first, an IPv6
/// network with all its addresses before any of these: peers that come and go must not make the lives of others unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct EndedLives {
    /// The oldest first, numbered in the order in which they ended.
    of: BTreeMap<Payer, VecDeque<(u64, Life, HostIdentity)>>,
    count: usize,
    next: u64,
}

impl EndedLives {
    /// Remembers `life`. If there are too many, the payer with the most forgets its oldest.
    pub(crate) fn remember(&mut self, life: Life, host: HostIdentity, payer: Payer) {
        self.of.entry(payer).or_default().push_back((self.next, life, host));
        self.next += 1;
        self.count += 1;
        if self.count > ENDED_LIVES_MAX {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let oldest = |lives: &VecDeque<(u64, Life, HostIdentity)>| lives.front().map(|(number, ..)| Reverse(*number));
        // By site: how many it has, and who of it has the most. The payers of a site stand side by side.
        let (mut most, mut site) = (None, None);
        for (payer, lives) in &self.of {
            let own = (lives.len(), oldest(lives), *payer);
            site = match site {
                Some((all, first, payers)) if RangeInclusive::contains(&payers, payer) => {
                    Some((all + lives.len(), own.max(first), payers))
                }
                _ => Some((lives.len(), own, payer.site())),
            };
            most = most.max(site.as_ref().map(|(all, first, _)| (*all, *first)));
        }
        let Some((_, (_, _, payer))) = most else { return };
        if let Some(lives) = self.of.get_mut(&payer) {
            lives.pop_front();
            self.count -= 1;
            if lives.is_empty() {
                self.of.remove(&payer);
            }
        }
    }

    /// The ended life that `matches` and that belonged to `host`; of several the newest: hosts ask about what they have just
    /// lost.
    #[must_use]
    pub(crate) fn find(&self, host: &HostIdentity, matches: impl Fn(&Life) -> bool) -> Option<Life> {
        let all = self.of.values().flatten().filter(|(_, life, owner)| matches(life) && owner == host);
        all.max_by_key(|(number, ..)| *number).map(|(_, life, _)| *life)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LifeId, SubsystemId};

    const TIME: LifeState = LifeState::Draining { by: By::Time };
    const CCR: LifeState = LifeState::Draining { by: By::Ccr };
    const RESET: LifeState = LifeState::Draining { by: By::Reset };

    #[test]
    fn every_pair_of_state_and_input() {
        use Input::{Ccr, DrainOver, Lost, Quiesced, Reset};
        let live = LifeState::Live;
        let q = |by| LifeState::Quiescing { by };
        let table = [
            (live, Lost, TIME, Action::CutAndDrain),
            (live, Ccr, CCR, Action::CutAndDrain),
            (live, Reset, RESET, Action::CutAndDrain),
            (live, DrainOver, live, Action::None),
            (live, Quiesced, live, Action::None),
            (TIME, Lost, TIME, Action::None),
            (TIME, Ccr, CCR, Action::Hasten),
            (TIME, Reset, RESET, Action::Hasten),
            (TIME, DrainOver, q(By::Time), Action::Quiesce),
            (TIME, Quiesced, TIME, Action::None),
            (CCR, Lost, CCR, Action::None),
            (CCR, Ccr, CCR, Action::None),
            (CCR, Reset, CCR, Action::None),
            (CCR, DrainOver, q(By::Ccr), Action::Quiesce),
            (CCR, Quiesced, CCR, Action::None),
            (RESET, Lost, RESET, Action::None),
            (RESET, Ccr, CCR, Action::Hasten),
            (RESET, Reset, RESET, Action::None),
            (RESET, DrainOver, q(By::Reset), Action::Quiesce),
            (RESET, Quiesced, RESET, Action::None),
            (q(By::Time), Lost, q(By::Time), Action::None),
            (q(By::Time), Ccr, q(By::Time), Action::None),
            (q(By::Time), Reset, q(By::Time), Action::None),
            (q(By::Time), DrainOver, q(By::Time), Action::None),
            (q(By::Time), Quiesced, q(By::Time), Action::End { by: By::Time }),
        ];
        for (state, input, after, action) in table {
            assert_eq!(state.after(input), (after, action), "{state:?} after {input:?}");
        }
    }

    #[test]
    fn only_the_last_answer_of_the_lanes_ends_a_life() {
        // From every reachable state, no input but `Quiesced` in `Quiescing` yields `End`.
        let mut reached = alloc::vec![LifeState::Live];
        let mut next = 0;
        while let Some(state) = reached.get(next).copied() {
            next += 1;
            for input in [Input::Lost, Input::Ccr, Input::Reset, Input::DrainOver, Input::Quiesced] {
                let (after, action) = state.after(input);
                let ends = matches!(action, Action::End { .. });
                assert_eq!(ends, matches!(state, LifeState::Quiescing { .. }) && input == Input::Quiesced);
                if !reached.contains(&after) {
                    reached.push(after);
                }
            }
        }
        assert_eq!(reached.len(), 7, "live, three ways to drain, three to quiesce");
    }

    #[test]
    fn the_ring_forgets_the_oldest_and_asks_for_the_owner() {
        let host = |byte| HostIdentity {
            nqn: Nqn::new("nqn.2026-01.test:host").expect("a valid name"),
            id: HostId([byte; 16]),
        };
        let life = |n| Life { id: LifeId(n), subsystem: SubsystemId(0), cntlid: 1, ciu: 1, cirn: n + 1 };
        let payer = |n: u8| Payer::at([192, 0, 2, n].into());
        let mut ended = EndedLives::default();
        for n in 0..=ENDED_LIVES_MAX as u64 {
            ended.remember(life(n), host(1), payer(1));
        }
        assert!(ended.find(&host(1), |life| life.cirn == 1).is_none(), "the oldest was forgotten");
        assert!(ended.find(&host(1), |life| life.cirn == 2).is_some());
        assert!(ended.find(&host(2), |life| life.cirn == 2).is_none(), "another host's life");
        // However many lives one peer begins and ends, it makes no life of another one unknown.
        ended.remember(life(0), host(2), payer(2));
        for n in 0..2 * ENDED_LIVES_MAX as u64 {
            ended.remember(life(10_000 + n), host(1), payer(1));
        }
        assert!(ended.find(&host(2), |life| life.cirn == 1).is_some());
        assert_eq!((ended.count, ended.of[&payer(1)].len()), (ENDED_LIVES_MAX, ENDED_LIVES_MAX - 1));
        // Nor do those from the addresses of a whole network, each of which has one.
        ended.remember(life(1), host(2), payer(2));
        for n in 0..ENDED_LIVES_MAX as u16 + 50 {
            let own = Payer::at(core::net::IpAddr::from([0x2001, 0xdb8, 7, n, 0, 0, 0, 1]));
            ended.remember(life(20_000 + u64::from(n)), host(3), own);
        }
        assert!(ended.find(&host(2), |life| life.cirn == 1).is_some_and(|life| life.id == LifeId(0)));
        assert_eq!((ended.count, ended.of[&payer(2)].len()), (ENDED_LIVES_MAX, 2));
    }
}

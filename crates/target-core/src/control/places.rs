//! Who gets a controller where many want one.
//!
//! There are so many controllers of each kind, and what one payer may have of them depends on how many are left to others
//! ([`crate::quota`]); so does what a network may have. A host that keeps nothing alive (Keep Alive Timeout 0) is never given up by time, so its controller
//! could stay for ever: where a newcomer finds none, the one of those that was silent for longest makes room, if its payer has
//! more than the newcomer and so have its networks: whoever owns a network would otherwise come from one address after the other and
//! displace everybody. Nobody makes room whose place would not help.

use super::Control;
use super::controller::{Controller, ControllerKey, Kind};
use super::fencing::LifeEntry;
use crate::message::ToLane;
use crate::quota::admits;
use crate::{Loss, Payer};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;
use core::time::Duration;
use interlock_base::Instant;

/// Lives that still drain after their association are remembered, and have their CNTLIDs: so many for each controller that there
/// may be.
const DRAINING_PER_CONTROLLER: u64 = 8;

/// A host that keeps nothing alive is silent if nothing was heard of it for so long.
const SILENT: Duration = Duration::from_secs(2);

impl Control {
    /// Whether a payer may have one more controller of a kind, after one made room if that helps.
    pub(super) fn find_place(&mut self, now: Instant, kind: Kind, payer: Payer) -> bool {
        let (used, _) = self.places(kind, &(payer..=payer));
        if !self.may_drain(kind, payer) {
            return false;
        }
        if used * 2 >= u64::from(self.config.limits.controllers) {
            self.listen_to_the_silent(now, kind);
        }
        if self.has_place(kind, payer) {
            return true;
        }
        match self.silent(now, kind, payer) {
            Some(key) => {
                self.lose(now, key, Loss::Crowded);
                self.has_place(kind, payer)
            }
            None => false,
        }
    }

    fn has_place(&self, kind: Kind, payer: Payer) -> bool {
        let (used, _) = self.places(kind, &(payer..=payer));
        let most = u64::from(self.config.limits.controllers);
        admits(payer, most, used, 1, |payers| self.places(kind, &payers).1)
    }

    /// Whether a payer may have one more controller, and with it one more life that drains after it: of a target whose lives take
    /// long to end, a peer that comes and goes must not take every CNTLID.
    fn may_drain(&self, kind: Kind, payer: Payer) -> bool {
        let Kind::Io(subsystem) = kind else { return true };
        let (low, high) = self.config.subsystems[usize::from(subsystem.0)].cntlids;
        let most = (u64::from(high - low) + 1).min(u64::from(self.config.limits.controllers) * DRAINING_PER_CONTROLLER);
        let drains = |entry: &&LifeEntry| entry.controller.is_none() && entry.life.subsystem == subsystem;
        let count = |payers: &RangeInclusive<Payer>| {
            self.lives.values().filter(drains).fold(self.places(kind, payers), |(all, own), entry| {
                (all + 1, own + u64::from(payers.contains(&entry.payer)))
            })
        };
        admits(payer, most, count(&(payer..=payer)).0, 1, |payers| count(&payers).1)
    }

    /// Controllers of a kind, and those of them that the payers of a range have.
    fn places(&self, kind: Kind, payers: &RangeInclusive<Payer>) -> (u64, u64) {
        self.controllers
            .values()
            .filter(|other| other.kind == kind)
            .fold((0, 0), |(used, held), other| (used + 1, held + u64::from(payers.contains(&other.payer))))
    }

    /// The controller without keep alive that was silent for longest, of those that may make room for `payer` and whose place
    /// helps it.
    fn silent(&self, now: Instant, kind: Kind, payer: Payer) -> Option<ControllerKey> {
        let is_silent = |other: &Controller| {
            other.kind == kind && other.payer != payer && other.kato_ms == 0 && other.heard + SILENT <= now
        };
        if !self.controllers.values().any(is_silent) {
            return None;
        }
        let tally = Tally::of(self.controllers.values().filter(|other| other.kind == kind).map(|other| other.payer));
        let most = u64::from(self.config.limits.controllers);
        self.controllers
            .iter()
            .filter(|(_, other)| is_silent(other) && tally.may_displace(payer, other.payer, most))
            .min_by_key(|(key, other)| (other.heard, **key))
            .map(|(key, _)| *key)
    }

    /// It may become necessary to know who is silent: lanes report the next command of each host that keeps nothing alive.
    fn listen_to_the_silent(&mut self, now: Instant, kind: Kind) {
        let lives: Vec<_> = self
            .controllers
            .values_mut()
            .filter(|other| other.kind == kind && other.kato_ms == 0 && !other.listened)
            .filter_map(|other| {
                other.listened = true;
                other.life()
            })
            .collect();
        for life in lives {
            self.broadcast(&ToLane::Listen { life, since: now });
        }
    }
}

/// How many controllers payers and their networks have.
struct Tally {
    all: u64,
    /// By how wide a circle is, and where it begins.
    circles: BTreeMap<(usize, Payer), u64>,
}

impl Tally {
    fn of(owners: impl Iterator<Item = Payer>) -> Self {
        let mut tally = Self { all: 0, circles: BTreeMap::new() };
        for owner in owners {
            tally.all += 1;
            for (width, circle) in owner.circles().iter().enumerate() {
                *tally.circles.entry((width, *circle.start())).or_default() += 1;
            }
        }
        tally
    }

    fn held(&self, width: usize, circle: &RangeInclusive<Payer>) -> u64 {
        self.circles.get(&(width, *circle.start())).copied().unwrap_or(0)
    }

    /// Whether a controller of `owner` may make room for `newcomer`, and there would be a place then.
    fn may_displace(&self, newcomer: Payer, owner: Payer, most: u64) -> bool {
        let own = newcomer.circles();
        let has_more = own.iter().zip(&owner.circles()).enumerate().all(|(width, (own, others))| {
            // Within one network only what is smaller counts.
            own == others || self.held(width, others) > self.held(width, own)
        });
        has_more
            && admits(newcomer, most, self.all - 1, 1, |payers| {
                let width = own.iter().position(|circle| *circle == payers).unwrap_or(0);
                self.held(width, &payers) - u64::from(payers.contains(&owner))
            })
    }
}

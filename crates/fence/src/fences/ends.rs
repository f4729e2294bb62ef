//! How a lost instance ends: released with a receipt, without one because nothing was in doubt, or given up as a
//! tombstone.
//!
//! Nothing that is held goes on before the proof is there, every lane has stopped and holds the table, and this process
//! is known to be the host still.

use super::{Fences, Step};
use crate::door::{Output, Told, Wait};
use crate::fencing::{Fencing, Owner, Proven};
use crate::guards::{self as conditions, Guard};
use crate::pursuit::Proof;
use crate::{Hold, LifeId, Method, Receipt, Release};
use alloc::boxed::Box;
use core::time::Duration;
use interlock_base::Instant;

/// Whether this process is still the host is a look at a file; after this it is told that nobody has looked.
const OWNER_ANSWER: Duration = Duration::from_secs(1);
/// A store that is silent for so long says nothing any more: this host ends as if it were disowned, and a successor fences.
const OWNER_SILENCE: Duration = Duration::from_secs(120);

impl Fences {
    /// Releases, if the proof is there and every lane has stopped and holds the table.
    pub(super) fn try_release(&mut self, now: Instant, life: LifeId) {
        let Some(lost) = self.instances.get(&life) else { return };
        let Some(Proven { proof, tombstone, .. }) = lost.proven() else { return };
        // The first condition says at once what the second brings about for all but an empty table: a lane has said what
        // is in doubt before it says that it has seen a table. So no test can tell whether it is there.
        let seen = self.protected.is_seen(lost.doubt.epoch) || !conditions::enabled(Guard::ReleaseWaitsGuardSeen);
        let sorted = lost.stopping.is_sorted() || !conditions::enabled(Guard::ReleaseWaitsSorted);
        if !sorted || !seen {
            return;
        }
        if conditions::enabled(Guard::OwnerConfirmed) && !self.is_owner(now, life) {
            return;
        }
        let Some(lost) = self.instances.get(&life) else { return };
        let commands = lost.doubt.commands.len();
        self.issue_receipt(now, life, proof);
        if tombstone {
            self.tell(Told::TombstoneEnded { life, method: proof.method });
            self.protected.remove_life(life);
            self.publish();
        } else {
            if conditions::enabled(Guard::ReleasedStayGuarded) {
                self.protected.release(life);
            } else {
                self.protected.remove_life(life);
            }
            self.publish();
            self.tell(Told::Released { life, commands, method: proof.method });
        }
        self.outputs.push_back(Output::Settle { life, release: Release::Retry });
        self.finish(life);
    }

    /// True once it is known that this process still speaks for its host. Asks, if nobody has.
    fn is_owner(&mut self, now: Instant, life: LifeId) -> bool {
        let Some(lost) = self.instances.get_mut(&life) else { return false };
        match lost.fencing {
            Fencing::Releasing(_, owner) => return owner == Owner::Confirmed,
            Fencing::Proven(proven) => lost.fencing = Fencing::Releasing(proven, Owner::Asked(now)),
            Fencing::Sorting { .. } | Fencing::Pursuing | Fencing::GivenUp => return false,
        }
        self.timers.set(Wait::Owner(life), now + OWNER_ANSWER);
        self.outputs.push_back(Output::ConfirmOwner(life));
        false
    }

    pub(super) fn handle_owner(&mut self, life: LifeId) {
        self.timers.stop(Wait::Owner(life));
        if let Some(lost) = self.instances.get_mut(&life) {
            if let Fencing::Releasing(_, owner) = &mut lost.fencing {
                *owner = Owner::Confirmed;
            }
            self.agenda.push_back(Step::Advance(life));
        }
    }

    /// Nobody has said whether this process still speaks for its host. It is waited for: what is released to a second
    /// owner is what two processes write. But not for ever: then what is held ends as not known, and stays protected.
    pub(super) fn handle_owner_silent(&mut self, now: Instant, life: LifeId) {
        if let Some(Owner::Asked(since)) = self.owner(life)
            && now >= since + OWNER_SILENCE
        {
            let why = "the state directory has not said for 120 s whether this process is still the host";
            self.outputs.push_back(Output::Disowned(why.into()));
            return;
        }
        self.timers.set(Wait::Owner(life), now + OWNER_ANSWER);
        self.tell(Told::OwnerUnconfirmed { life });
    }

    /// Nothing is in doubt: no fence is needed, or none any more.
    pub(super) fn end_without_doubt(&mut self, life: LifeId) {
        let Some(lost) = self.instances.get(&life) else { return };
        let answered_late = lost.doubt.answered_late;
        if lost.lost.served {
            self.tell(Told::NothingInDoubt { life, answered_late });
        }
        self.protected.remove_life(life);
        self.publish();
        self.outputs.push_back(Output::Settle { life, release: Release::Retry });
        self.finish(life);
    }

    /// Legacy: the lanes have retried already; this says so.
    pub(super) fn end_legacy(&mut self, now: Instant, life: LifeId) {
        let Some(lost) = self.instances.get(&life) else { return };
        let commands = lost.doubt.commands.len();
        let method = Method::Legacy;
        self.issue_receipt(now, life, Proof { method, source: None, at: now });
        self.protected.remove_life(life);
        self.publish();
        self.outputs.push_back(Output::Settle { life, release: Release::Retry });
        self.tell(Told::Released { life, commands, method });
        self.finish(life);
    }

    /// Ends the commands of an instance unfenced, if that was asked for: not before t0 is known, and not before every lane
    /// holds the table (`guard_before_giving_up`).
    pub(super) fn try_give_up(&mut self, life: LifeId) {
        let Some(lost) = self.instances.get_mut(&life) else { return };
        if !lost.give_up
            || !lost.stopping.is_sorted()
            || lost.pursuit.t0().is_none()
            || (!self.protected.is_seen(lost.doubt.epoch) && conditions::enabled(Guard::GiveUpWaitsGuardSeen))
        {
            return;
        }
        lost.bury();
        let (until, in_doubt) = (lost.pursuit.deadline(), lost.doubt.commands.len());
        let is_endless = lost.pursuit.hold() == Hold::Unbounded;
        self.outputs.push_back(Output::Settle { life, release: Release::Indeterminate { until } });
        self.tell(Told::TombstoneSet { life, in_doubt, until });
        if is_endless {
            self.protected.endless(life);
            self.publish();
        }
        if !conditions::enabled(Guard::TombstoneKept) {
            self.protected.remove_life(life);
            self.publish();
        }
        self.outputs.push_back(Output::GivenUp(life));
    }

    /// The commands of an instance are to be ended although it is not fenced.
    pub(super) fn want_give_up(&mut self, life: LifeId) {
        if let Some(lost) = self.instances.get_mut(&life).filter(|lost| !lost.give_up && !lost.is_tombstone()) {
            lost.give_up = true;
            self.agenda.push_back(Step::Advance(life));
        }
    }

    /// An instance had its time to be fenced before it is given up. What waits for a predecessor that no time fences waits no
    /// longer.
    pub(super) fn handle_last_chance(&mut self, life: LifeId) {
        if self.is_unbounded(life) && self.is_tombstone(life) {
            if self.protected.endless(life) {
                self.publish();
            }
            return;
        }
        self.want_give_up(life);
    }

    fn issue_receipt(&mut self, now: Instant, life: LifeId, proof: Proof) {
        let Some(lost) = self.instances.get(&life) else { return };
        let assumed = lost.lost.terms.filter(|_| proof.method == Method::Assumed);
        let receipt = Receipt {
            number: self.next_receipt,
            ctrl: lost.lost.ctrl,
            life,
            subnqn: lost.lost.subnqn.clone(),
            identity: lost.lost.identity,
            addr: lost.lost.addr,
            terms: lost.lost.terms,
            method: proof.method,
            source: lost.proven().and_then(|proven| proven.by),
            in_doubt: lost.doubt.ever,
            answered_late: lost.doubt.answered_late,
            settled: lost.doubt.settled,
            loss: lost.lost.loss.clone(),
            detected: lost.at,
            t0: lost.pursuit.t0(),
            fenced: proof.at,
            released: now,
            deadline: lost.pursuit.deadline(),
            assumed_cqt: assumed.filter(|terms| terms.cqt.is_none()).and_then(|terms| terms.assumed_cqt),
            assumed_kato: assumed.filter(|terms| terms.kato_assumed).map(|terms| terms.kato),
            attempts: lost.pursuit.attempts().clone(),
            suspect: lost.lost.suspect.clone(),
        };
        self.next_receipt += 1;
        self.outputs.push_back(Output::Fenced(Box::new(receipt)));
    }

    /// A lost instance is over: its sources are purged, it is forgotten.
    fn finish(&mut self, life: LifeId) {
        let Some(lost) = self.remove(life) else { return };
        self.outputs.push_back(Output::Over(life));
        for source in self.sources.live_of(&lost.lost.subnqn) {
            self.sources.handle_fence_over(source, life);
            self.purge_if_needed(source);
        }
        self.outputs.push_back(Output::Left(lost.lost.ctrl));
    }
}

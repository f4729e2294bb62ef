//! The disk with the records of lives: it may be slow, and it may fail.
//!
//! A job that failed may have been done all the same: that a record could not be synced does not take it away.

use crate::checkers::Seen;
use crate::mix::Kind;
use crate::world::{Phase, World, note};
use interlock_host_core::Job;
use std::time::Duration;

/// How a job of the store ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// Its caller is told that it failed; `done`: it is on the disk all the same.
    Failed {
        done: bool,
    },
}

/// A disk that is worse than usual for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadDisk {
    pub(crate) refused_permille: u64,
    pub(crate) slow: Duration,
}

impl World {
    fn disk(&self) -> BadDisk {
        if !matches!(self.phase, Phase::Starting | Phase::Faults) {
            return BadDisk { refused_permille: 0, slow: Duration::ZERO };
        }
        self.bad_disk
            .unwrap_or(BadDisk { refused_permille: self.plan.ways.refused_permille, slow: self.plan.ways.slow })
    }

    /// How long a job takes, beside what it always does.
    pub(crate) fn disk_delay(&mut self) -> Duration {
        let slow = self.disk().slow;
        if slow.is_zero() || !self.plan.kinds.contains(Kind::StoreLate) {
            return Duration::ZERO;
        }
        self.met(Kind::StoreLate);
        self.see(&Seen::Delays(slow));
        let most = u64::try_from(slow.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.mail_rng.below(most))
    }

    /// What becomes of a job.
    pub(crate) fn fate(&mut self, job: &Job) -> Fate {
        let records = matches!(job, Job::RecordLife(_) | Job::MarkClean(_) | Job::ForgetLife(_));
        let permille = self.disk().refused_permille;
        if !records || permille == 0 || !self.plan.kinds.contains(Kind::StoreRefuses) {
            return Fate::Done;
        }
        if self.mail_rng.below(1000) >= permille {
            return Fate::Done;
        }
        self.met(Kind::StoreRefuses);
        self.disturb(None);
        let done = self.mail_rng.percent(50);
        note!(self, "store: {job:?} fails, done all the same: {done}");
        Fate::Failed { done }
    }
}

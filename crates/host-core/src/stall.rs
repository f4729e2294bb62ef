//! How long a failover may take: one pure function for those who ask beforehand and those who check afterwards
//! (`stall_within_budget`).

use crate::guards::{self as conditions, Guard};
use crate::{ControllerSpec, FencePolicy, LifeFacts};
use core::time::Duration;
pub use interlock_fence::{DEFAULT_SLEW_PERMILLE, HoldTerms, MARGIN};

/// What the hold of one life is made of.
#[must_use]
pub fn hold_terms(spec: &ControllerSpec, facts: &LifeFacts) -> HoldTerms {
    HoldTerms {
        kato: if conditions::enabled(Guard::EffectiveKato) { facts.kato_in_force() } else { spec.kato },
        kato_assumed: facts.kato.assumption().is_some(),
        tbkas: facts.tbkas.value().is_some(),
        cqt: facts.cqt.value().copied(),
        assumed_cqt: spec.timeouts.assumed_cqt,
        proxy_delay: spec.proxy_delay(),
        slew_permille: spec.timeouts.clock_slew_permille,
    }
}

/// The worst case of each stage of a failover. Stages overlap where the text says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stall {
    /// Until a path that is lost without a word is noticed. A path that is closed or reset is noticed at once.
    /// `None`: without Keep Alive nothing bounds it but the I/O timeout, which needs a witness.
    pub detect: Option<Duration>,
    /// From the loss noticed until no byte can leave this host any more.
    pub stop: Duration,
    /// From there until a life is over by time alone. `None`: never.
    pub hold: Option<Duration>,
    /// True if `hold` rests on an assumed quiesce time, or on an assumed KATO.
    pub assumed: bool,
    /// Until commands in doubt are answered when nobody can reset the life: the sum.
    pub worst: Option<Duration>,
    /// From the loss noticed until I/O that is not in doubt fails, if no other path is there. `None`: it waits.
    pub settled_fails_after: Option<Duration>,
    /// From the loss noticed until the controller is given up. `None`: never.
    pub given_up_after: Option<Duration>,
}

/// The worst stall that these settings allow with a target that says this of itself.
#[must_use]
pub fn worst_stall(spec: &ControllerSpec, facts: &LifeFacts) -> Stall {
    let terms = hold_terms(spec, facts);
    // A Keep Alive at least every KATO/2, and half of KATO for its answer.
    let detect = Some(facts.kato_in_force()).filter(|kato| !kato.is_zero());
    let stop = spec.timeouts.late_grace;
    let hold = if spec.fence == FencePolicy::Legacy { Some(Duration::ZERO) } else { terms.hold() };
    Stall {
        detect,
        stop,
        hold,
        assumed: spec.fence == FencePolicy::Strict && terms.is_assumed() && hold.is_some(),
        worst: detect.zip(hold).map(|(detect, hold)| detect + stop + hold),
        settled_fails_after: spec.reconnect.fast_io_fail.or(spec.reconnect.ctrl_loss),
        given_up_after: spec.reconnect.ctrl_loss,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fact;
    use interlock_wire::nqn::Nqn;

    #[test]
    fn the_worst_stall_is_detection_and_hold() {
        let nqn = Nqn::new("nqn.2014-08.org.example:s").expect("valid");
        let mut spec = ControllerSpec::new("192.0.2.1", 4420, nqn);
        let stall = worst_stall(&spec, &LifeFacts::sample());
        assert_eq!(stall.detect, Some(Duration::from_secs(5)));
        assert!(stall.assumed);
        // 3 * 5 s + 5 s assumed, 10 % and 100 ms.
        assert_eq!(stall.hold, Some(Duration::from_millis(22_100)));
        assert_eq!(stall.worst, Some(Duration::from_millis(5_000 + 250 + 22_100)));
        assert_eq!(stall.settled_fails_after, Some(Duration::from_secs(600)));
        let no_kato = LifeFacts { kato: Fact::NotOffered, ..LifeFacts::sample() };
        assert_eq!(worst_stall(&spec, &no_kato).worst, None);
        spec.fence = FencePolicy::Legacy;
        assert_eq!(worst_stall(&spec, &LifeFacts::sample()).hold, Some(Duration::ZERO));
    }
}

//! How long an instance must be held if nobody resets it.
//!
//! The formula stands here once: those who ask beforehand and those who check afterwards use this one, because a bound
//! that is computed twice is computed differently once.

use crate::guards::{self as conditions, Guard};
use core::time::Duration;

/// Added to every hold: for timers that are late, and for what is measured with a grain.
pub const MARGIN: Duration = Duration::from_millis(100);

/// By how much longer than stated a target's spans may be because its clock is slow, in thousandths: what is allowed for
/// unless the operator says otherwise. A clock that chrony slows down as much as it ever does by default (83,333 ppm) makes
/// them longer by 91.
pub const DEFAULT_SLEW_PERMILLE: u16 = 100;

/// What a hold by time is made of. Base Specification, "Communication Loss Handling"; TP4129.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HoldTerms {
    /// KATO in force. 0: no bound is known.
    pub kato: Duration,
    /// The controller does not report it: it was assumed.
    pub kato_assumed: bool,
    /// Traffic Based Keep Alive: the controller may need a window more to notice.
    pub tbkas: bool,
    /// Command Quiesce Time; `None` if not reported.
    pub cqt: Option<Duration>,
    /// What to assume then; `None`: nothing, so that no time bounds it.
    pub assumed_cqt: Option<Duration>,
    /// The longest delay of a declared box in between.
    pub proxy_delay: Duration,
    /// By how much longer than stated these spans may be because the target's clock is slow, in thousandths. The host's own
    /// clocks need no allowance: the hold ends only once both of them have gone so far.
    pub slew_permille: u16,
}

impl HoldTerms {
    /// True if the bound rests on something that the target does not state: then what has passed is no proof.
    #[must_use]
    pub const fn is_assumed(&self) -> bool {
        self.kato_assumed || self.cqt.is_none()
    }

    /// M * KATO + CQT + proxy delay, as the target's behaviour bounds it. `None`: KATO is 0, or no quiesce time is stated and none
    /// may be assumed.
    #[must_use]
    pub fn bound(&self) -> Option<Duration> {
        if self.kato.is_zero() {
            return None;
        }
        let multiplier = if self.tbkas { 3 } else { 2 };
        let multiplier = if conditions::enabled(Guard::Multiplier) { multiplier } else { multiplier - 1 };
        let quiesce = self.cqt.or(self.assumed_cqt)?;
        let quiesce = if conditions::enabled(Guard::QuiesceTime) { quiesce } else { Duration::ZERO };
        Some(self.kato * multiplier + quiesce + self.proxy_delay)
    }

    /// What is added to the bound because the target's clock may be slow. `None`: KATO is 0.
    #[must_use]
    pub fn slew(&self) -> Option<Duration> {
        let permille = if conditions::enabled(Guard::SlewMargin) { self.slew_permille } else { 0 };
        self.bound().map(|bound| bound * u32::from(permille) / 1_000)
    }

    /// The bound with its margins: what is really waited from t0 on.
    #[must_use]
    pub fn hold(&self) -> Option<Duration> {
        let margin = if conditions::enabled(Guard::HoldMargin) { MARGIN } else { Duration::ZERO };
        Some(self.bound()? + self.slew()? + margin)
    }
}

/// How long a life must be held if nobody resets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// So long after t0, by what the target states.
    Stated(Duration),
    /// So long after t0, if what was assumed of the target is true.
    Assumed(Duration),
    /// KATO is 0, or nothing may be assumed of the quiesce time: time proves nothing.
    Unbounded,
}

impl Hold {
    /// How long a life with these terms must be held.
    #[must_use]
    pub fn of(terms: &HoldTerms) -> Self {
        match terms.hold() {
            None => Self::Unbounded,
            Some(hold) if terms.is_assumed() => Self::Assumed(hold),
            Some(hold) => Self::Stated(hold),
        }
    }

    /// How long that is; `None`: time proves nothing.
    #[must_use]
    pub const fn span(self) -> Option<Duration> {
        match self {
            Self::Stated(hold) | Self::Assumed(hold) => Some(hold),
            Self::Unbounded => None,
        }
    }

    /// True if what has passed is an assumption, not a proof.
    #[must_use]
    pub const fn is_assumed(self) -> bool {
        matches!(self, Self::Assumed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn terms(kato_s: u64, tbkas: bool, cqt_ms: u64) -> HoldTerms {
        HoldTerms {
            kato: Duration::from_secs(kato_s),
            kato_assumed: false,
            tbkas,
            cqt: if cqt_ms == 0 { None } else { Some(Duration::from_millis(cqt_ms)) },
            assumed_cqt: Some(Duration::ZERO),
            proxy_delay: Duration::ZERO,
            slew_permille: DEFAULT_SLEW_PERMILLE,
        }
    }

    #[test]
    fn the_published_table_of_hold_times() {
        // KATO s, CQT ms, then ms without and with TBKAS.
        for (kato, cqt, command_based, traffic_based) in
            [(5, 0, 10_000, 15_000), (5, 1, 10_001, 15_001), (5, 5_000, 15_000, 20_000), (10, 10_000, 30_000, 40_000)]
        {
            assert_eq!(terms(kato, false, cqt).bound(), Some(Duration::from_millis(command_based)));
            assert_eq!(terms(kato, true, cqt).bound(), Some(Duration::from_millis(traffic_based)));
        }
        assert_eq!(terms(0, true, 5).bound(), None, "KATO 0 bounds nothing");
        assert_eq!(terms(5, false, 5_000).hold(), Some(Duration::from_millis(16_600)), "10 % and 100 ms");
    }

    #[test]
    fn the_allowance_covers_a_target_whose_clock_is_slewed() {
        // chrony and the kernel's adjtime(3) slow a clock down by at most 83,333 and 500 ppm.
        for (ppm, permille) in [(83_333, DEFAULT_SLEW_PERMILLE), (83_833, DEFAULT_SLEW_PERMILLE), (100_000, 112)] {
            for (kato, cqt) in [(1, 10), (5, 5_000), (120, 60_000)] {
                let terms = HoldTerms { slew_permille: permille, ..terms(kato, true, cqt) };
                let bound = terms.bound().expect("KATO is not 0");
                let by_its_clock = bound.as_nanos() * 1_000_000 / (1_000_000 - ppm);
                assert!(terms.hold().expect("it ends").as_nanos() > by_its_clock, "{ppm} ppm, {bound:?}");
            }
        }
    }

    #[test]
    fn what_is_not_stated_is_assumed_and_what_is_declared_is_added() {
        let assumed = HoldTerms { assumed_cqt: Some(Duration::from_secs(5)), ..terms(5, false, 0) };
        let never = HoldTerms { assumed_cqt: None, ..assumed };
        assert_eq!((never.bound(), never.hold()), (None, None), "nothing may be assumed: no time proves it");
        assert!(
            HoldTerms { cqt: Some(Duration::ZERO), ..never }.hold().is_some(),
            "what is stated needs no assumption"
        );
        assert_eq!(assumed.bound(), Some(Duration::from_secs(15)));
        let proxied = HoldTerms { proxy_delay: Duration::from_secs(7), ..terms(5, false, 1) };
        assert_eq!(proxied.bound(), Some(Duration::from_millis(17_001)));
    }
}

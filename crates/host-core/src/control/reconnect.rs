//! When to try again, and when to stop: a pure policy.
//!
//! The first attempt comes at once: a blip of 200 ms must not cost 10 s. Later ones keep the configured delay, drawn
//! within ten percent so that a thousand controllers do not come back in phase. Limits are deadlines from the loss, not
//! counts of attempts: an attempt that takes long must not stretch them.

use crate::Reconnect;
use core::time::Duration;
use interlock_base::{Instant, Rng};

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Next {
    /// Try again then.
    At(Instant),
    /// Try again when somebody asks for it.
    WhenAsked,
    /// Stop, for this reason.
    Stop(&'static str),
}

/// Before the first retry of an attempt that failed because another controller seems to be there, which is asked now.
pub(super) const SOON: Duration = Duration::from_millis(200);

/// Decides after an attempt failed. `lost`: when the path was lost. `permanent`: the answer had Do Not Retry.
pub(super) fn after_failure(policy: &Reconnect, now: Instant, lost: Instant, permanent: bool, rng: &mut Rng) -> Next {
    if permanent {
        return Next::Stop("the target said Do Not Retry");
    }
    if policy.delay.is_zero() {
        return Next::Stop("reconnect_delay is 0: one attempt only");
    }
    if policy.ctrl_loss.is_some_and(|limit| now >= lost + limit) {
        return Next::Stop("ctrl_loss_tmo has passed");
    }
    Next::At(now + jitter(policy.delay, rng))
}

/// A path that was lost this soon after it was begun flaps: a target that accepts and drops must not keep the host
/// busy.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// A flapping path pauses no longer than this.
const MAX_FLAP_PAUSE: Duration = Duration::from_secs(60);

/// Before the first attempt after a loss: nothing, unless the life that was lost was a short one. Then the pause doubles
/// from loss to loss, up to a bound, until a life lasts longer than the pause before it.
pub(super) fn flap_pause(policy: &Reconnect, lived: Duration, before: Duration) -> Duration {
    if policy.delay.is_zero() || lived >= SHORT_LIFE.max(before) {
        return Duration::ZERO;
    }
    (before * 2).clamp(SHORT_LIFE.min(policy.delay), MAX_FLAP_PAUSE.max(policy.delay))
}

/// Within ten percent of `delay`.
fn jitter(delay: Duration, rng: &mut Rng) -> Duration {
    let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX / 4);
    let tenth = nanos / 10;
    Duration::from_nanos(nanos - tenth + rng.below(2 * tenth + 1))
}

/// As many attempts as fit, for people ("attempt 1/60"). `None`: without end.
pub(super) fn max_attempts(policy: &Reconnect) -> Option<u32> {
    if policy.delay.is_zero() {
        return Some(1);
    }
    let limit = policy.ctrl_loss?;
    Some(u32::try_from(limit.as_millis().div_ceil(policy.delay.as_millis().max(1))).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Reconnect =
        Reconnect { delay: Duration::from_secs(10), ctrl_loss: Some(Duration::from_secs(600)), fast_io_fail: None };

    #[test]
    fn the_delay_keeps_within_ten_percent_and_varies() {
        let mut rng = Rng::new(1);
        let now = Instant::from_millis(5_000);
        let mut seen = alloc::collections::BTreeSet::new();
        for _ in 0..100 {
            let Next::At(at) = after_failure(&POLICY, now, Instant::ZERO, false, &mut rng) else { panic!("stopped") };
            assert!((9_000..=11_000).contains(&(at - now).as_millis()), "{at}");
            seen.insert(at);
        }
        assert!(seen.len() > 50);
    }

    #[test]
    fn limits_are_deadlines_from_the_loss() {
        let mut rng = Rng::new(1);
        let lost = Instant::from_millis(1_000);
        let at = |s: u64| lost + Duration::from_secs(s);
        assert!(matches!(after_failure(&POLICY, at(599), lost, false, &mut rng), Next::At(_)));
        assert!(matches!(after_failure(&POLICY, at(600), lost, false, &mut rng), Next::Stop(_)));
        assert!(matches!(after_failure(&POLICY, at(1), lost, true, &mut rng), Next::Stop(_)));
        let never = Reconnect { ctrl_loss: None, ..POLICY };
        assert!(matches!(after_failure(&never, at(1_000_000), lost, false, &mut rng), Next::At(_)));
        let once = Reconnect { delay: Duration::ZERO, ..POLICY };
        assert!(matches!(after_failure(&once, at(1), lost, false, &mut rng), Next::Stop(_)));
    }

    #[test]
    fn attempts_are_counted_as_linux_counts_them() {
        assert_eq!(max_attempts(&POLICY), Some(60));
        assert_eq!(max_attempts(&Reconnect { ctrl_loss: None, ..POLICY }), None);
        assert_eq!(max_attempts(&Reconnect { delay: Duration::ZERO, ..POLICY }), Some(1));
        assert_eq!(max_attempts(&Reconnect { ctrl_loss: Some(Duration::from_secs(1)), ..POLICY }), Some(1));
    }
}

//! What may be changed while a controller runs, and the outside hand of the policy that only notifies.
//!
//! A limit that runs is measured from the loss, whenever it is changed: a shorter one may be over at once, a longer one
//! begins where the old one began.

use super::bring_up::Pause;
use super::waits::Why;
use super::{Control, NoSuchController, SpecError, State, StateName};
use crate::{CtrlId, EventKind, FencePolicy, IoPolicy, OnLoss};
use core::fmt;
use core::time::Duration;
use interlock_base::Instant;

/// What can be changed at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setting {
    /// Between attempts; zero: one attempt only. A controller that waits begins the new delay now.
    ReconnectDelay(Duration),
    /// After this, from the loss, the controller is given up; `None`: never.
    CtrlLossTmo(Option<Duration>),
    /// After this, from the loss, settled I/O without another path fails; `None`: it waits.
    FastIoFailTmo(Option<Duration>),
    /// How lanes choose among paths. It belongs to the subsystem: all its controllers get it.
    IoPolicy(IoPolicy),
    /// Fence, or do what today's hosts do. For losses from now on.
    FencePolicy(FencePolicy),
    /// Reconnect, or tell and wait to be told. For losses from now on.
    OnLoss(OnLoss),
    /// By how much longer than stated the target's spans may be because its clock is slow, in thousandths. For losses from now
    /// on.
    ClockSlew(u16),
    /// The quiesce time assumed where the target states none; `None`: nothing is assumed. For losses from now on.
    AssumedCqt(Option<Duration>),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |f: &mut fmt::Formatter<'_>, name: &str, span: Option<Duration>| match span {
            Some(span) => write!(f, "{name} = {} s", span.as_secs_f64()),
            None => write!(f, "{name} = off"),
        };
        match *self {
            Self::ReconnectDelay(delay) => seconds(f, "reconnect_delay", Some(delay)),
            Self::CtrlLossTmo(limit) => seconds(f, "ctrl_loss_tmo", limit),
            Self::FastIoFailTmo(limit) => seconds(f, "fast_io_fail_tmo", limit),
            Self::IoPolicy(IoPolicy::Numa) => f.write_str("iopolicy = numa"),
            Self::IoPolicy(IoPolicy::RoundRobin) => f.write_str("iopolicy = round-robin"),
            Self::IoPolicy(IoPolicy::QueueDepth) => f.write_str("iopolicy = queue-depth"),
            Self::FencePolicy(FencePolicy::Strict) => f.write_str("fence_policy = strict"),
            Self::FencePolicy(FencePolicy::Legacy) => f.write_str("fence_policy = legacy"),
            Self::OnLoss(OnLoss::Reconnect) => f.write_str("on_loss = reconnect"),
            Self::OnLoss(OnLoss::Notify) => f.write_str("on_loss = notify"),
            Self::AssumedCqt(Some(span)) => write!(f, "assumed_cqt = {} ms", span.as_millis()),
            Self::AssumedCqt(None) => f.write_str("assumed_cqt = never"),
            Self::ClockSlew(permille) => write!(f, "clock_slew = {}.{} %", permille / 10, permille % 10),
        }
    }
}

/// Why a setting was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SettingError {
    /// There is no such controller.
    #[error(transparent)]
    NoSuchController(#[from] NoSuchController),
    /// It contradicts itself, or another setting.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl Control {
    /// Changes a setting of a controller.
    ///
    /// # Errors
    /// There is no such controller, or the setting cannot be; then nothing was changed.
    pub fn set(&mut self, now: Instant, id: CtrlId, setting: Setting) -> Result<(), SettingError> {
        self.known(id)?;
        let Some(ctrl) = self.controllers.get_mut(&id) else { return Ok(()) };
        let mut spec = ctrl.spec.clone();
        match setting {
            Setting::ReconnectDelay(delay) => spec.reconnect.delay = delay,
            Setting::CtrlLossTmo(limit) => spec.reconnect.ctrl_loss = limit,
            Setting::FastIoFailTmo(limit) => spec.reconnect.fast_io_fail = limit,
            Setting::IoPolicy(policy) => spec.iopolicy = policy,
            Setting::FencePolicy(policy) => spec.fence = policy,
            Setting::OnLoss(policy) => spec.on_loss = policy,
            Setting::ClockSlew(permille) => spec.timeouts.clock_slew_permille = permille,
            Setting::AssumedCqt(span) => spec.timeouts.assumed_cqt = span,
        }
        spec.check()?;
        ctrl.spec = spec;
        self.emit(now, EventKind::SettingChanged { ctrl: id, setting });
        match setting {
            Setting::ReconnectDelay(_) => self.delay_changed(now, id),
            Setting::CtrlLossTmo(_) | Setting::FastIoFailTmo(_) => self.limits_changed(now, id),
            Setting::IoPolicy(policy) => self.policy_changed(id, policy),
            Setting::FencePolicy(_) | Setting::OnLoss(_) => {}
            // Who comes after this process must hold as long.
            Setting::ClockSlew(_) | Setting::AssumedCqt(_) => self.record_again(id),
        }
        self.settle_down(now);
        Ok(())
    }

    /// Tries now what would be tried later: the next attempt of a controller that waits. Where the policy is to notify
    /// only, nothing else begins one. A controller that is live or connecting is left alone.
    ///
    /// # Errors
    /// There is no such controller, or it is gone.
    pub fn reconnect(&mut self, now: Instant, id: CtrlId) -> Result<(), NoSuchController> {
        self.known(id)?;
        if let Some(State::Waiting { attempt }) = self.controllers.get(&id).map(|ctrl| ctrl.state) {
            self.begin_attempt(now, id, attempt + 1, "asked to reconnect");
        }
        self.settle_down(now);
        Ok(())
    }

    fn delay_changed(&mut self, now: Instant, id: CtrlId) {
        if let Some(State::Waiting { .. }) = self.controllers.get(&id).map(|ctrl| ctrl.state) {
            self.pause(now, id, Pause::Delay);
        }
    }

    /// The limits that run from the loss, as they are now.
    pub(super) fn limits_changed(&mut self, now: Instant, id: CtrlId) {
        let Some(ctrl) = self.controllers.get_mut(&id) else { return };
        let (lost_at, reconnect) = (ctrl.lost_at, ctrl.spec.reconnect);
        if matches!(ctrl.state.name(), StateName::Live | StateName::Resetting | StateName::Deleting | StateName::Dead) {
            return;
        }
        match reconnect.ctrl_loss {
            // At the first loss: a controller that never was live was not lost.
            Some(limit) if limit.is_zero() && !ctrl.ever_live => self.timers.stop(Why::ControllerLoss(id)),
            Some(limit) => self.timers.set(Why::ControllerLoss(id), now.max(lost_at + limit)),
            None => self.timers.stop(Why::ControllerLoss(id)),
        }
        // Before the first life there is no I/O that could fail.
        let fail_at = reconnect.fast_io_fail.filter(|_| ctrl.ever_live).map(|limit| lost_at + limit);
        let failed = ctrl.fast_failed && fail_at.is_some_and(|at| at <= now);
        let again = core::mem::replace(&mut ctrl.fast_failed, failed) && !failed;
        match fail_at {
            Some(at) if !failed => self.timers.set(Why::FastIoFail(id), now.max(at)),
            _ => self.timers.stop(Why::FastIoFail(id)),
        }
        if again {
            self.publish_paths();
        }
    }

    fn policy_changed(&mut self, id: CtrlId, policy: IoPolicy) {
        let Some(subnqn) = self.controllers.get(&id).map(|ctrl| ctrl.spec.subnqn.clone()) else { return };
        for ctrl in self.controllers.values_mut().filter(|ctrl| ctrl.spec.subnqn == subnqn) {
            ctrl.spec.iopolicy = policy;
        }
        self.heads.set_policy(&subnqn, policy);
        self.publish_paths();
    }
}

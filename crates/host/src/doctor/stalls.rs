//! The worst stall after each kind of failure, stage by stage.

use super::millis;
use interlock_api::{Failure, Stage, Stall};
use interlock_host_core::stall::worst_stall;
use interlock_host_core::{ControllerSpec, LifeFacts};
use std::time::Duration;

pub(super) fn stalls(spec: &ControllerSpec, facts: &LifeFacts) -> Vec<Stall> {
    let worst = worst_stall(spec, facts);
    let stop = stage("stop", Some(worst.stop), "until no byte can leave this host any more".into());
    let fence = stage("fence", worst.hold, fence_because(spec, facts));
    let at_once = stage("detect", Some(Duration::ZERO), "the kernel tells at once".into());
    let by_keep_alive = stage(
        "detect",
        worst.detect,
        match worst.detect {
            Some(kato) => format!("a Keep Alive every half of KATO {} and as long for its answer", text(kato)),
            None => "keep alive is off: a path that dies without a word is not noticed".into(),
        },
    );
    let attempt = spec.timeouts.connect_total;
    let reconnect = stage(
        "reconnect",
        Some(attempt),
        "at once, while the fence runs; this long only if the target answers slowly".into(),
    );
    let wait = match (spec.reconnect.fast_io_fail, worst.settled_fails_after) {
        (Some(fast), _) => stage(
            "wait",
            Some(fast),
            "fast_io_fail_tmo: then I/O fails that is not in doubt, if no path came back".into(),
        ),
        (None, Some(loss)) => {
            stage("wait", Some(loss), "ctrl_loss_tmo: then I/O fails that is not in doubt, if no path came back".into())
        }
        (None, None) => stage("wait", None, "ctrl_loss_tmo is off: I/O waits until a path comes back".into()),
    };
    let fenced = worst.hold.map(|hold| worst.stop + hold);
    let of = |failure, stages, total: Option<Duration>| Stall {
        failure,
        stages,
        total_ms: total.map(millis),
        assumed: worst.assumed,
    };
    vec![
        of(Failure::SignalledLoss, vec![at_once.clone(), stop.clone(), fence.clone()], fenced),
        of(Failure::SilentLoss, vec![by_keep_alive.clone(), stop.clone(), fence.clone()], worst.worst),
        of(
            Failure::SinglePath,
            vec![at_once, stop.clone(), reconnect, fence.clone()],
            fenced.map(|fenced| fenced.max(attempt)),
        ),
        of(
            Failure::LastPath,
            vec![by_keep_alive, stop, fence, wait],
            worst
                .worst
                .zip(worst.settled_fails_after)
                .zip(worst.detect)
                .map(|((all, wait), seen)| all.max(seen + wait)),
        ),
    ]
}

fn stage(name: &str, bound: Option<Duration>, because: String) -> Stage {
    Stage { name: name.into(), ms: bound.map(millis), because }
}

fn fence_because(spec: &ControllerSpec, facts: &LifeFacts) -> String {
    if facts.kato_in_force().is_zero() {
        return "without keep alive no time bounds it: only a reset of the controller ends it".into();
    }
    let times = if facts.tbkas.value().is_some() { 3 } else { 2 };
    let quiesce = match (facts.cqt.value().copied(), spec.timeouts.assumed_cqt) {
        (Some(cqt), _) => format!("CQT {}", text(cqt)),
        (None, Some(assumed)) => format!("{} assumed, because the target states no CQT", text(assumed)),
        (None, None) => {
            return "the target states no CQT and nothing may be assumed: only a reset of the controller ends it"
                .into();
        }
    };
    let assumed = facts.kato.assumption().map_or("", |_| " (assumed)");
    let kato = text(facts.kato_in_force());
    let slew = spec.timeouts.clock_slew_permille;
    let (whole, tenths) = (slew / 10, slew % 10);
    let hold = format!(
        "{times} x KATO {kato}{assumed} + {quiesce}, {whole}.{tenths} % for a target whose clock is slow, and 100 ms"
    );
    if facts.offers_ccr() {
        format!("usually milliseconds, by Cross-Controller Reset; if that fails {hold}")
    } else {
        hold
    }
}

/// `5 s`, `1.5 s`, `250 ms`.
pub(super) fn text(time: Duration) -> String {
    match millis(time) {
        ms if ms < 1000 => format!("{ms} ms"),
        ms if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        ms => format!("{}.{} s", ms / 1000, format!("{:03}", ms % 1000).trim_end_matches('0')),
    }
}

//! One kill: what it cost the application, and what stood in doubt.

use super::ground::{Ground, Subject, WITHIN};
use super::load::{Load, Sample};
use super::scene::{Death, Scene, Traffic};
use anyhow::{Result, bail, ensure};
use interlock_base::Instant;
use interlock_host::{EventKind, Method, Receipt};
use interlock_ring::{Pool, now};
use interlock_target::{Fault, PortId, TargetEvent};
use std::time::Duration;

/// The port that dies.
const PORT: PortId = PortId(0);

/// Load before the kill, and after all is well again.
const QUIET: Duration = Duration::from_millis(20);

/// What came of it.
pub(crate) struct Fall {
    /// Commands in doubt.
    pub(crate) in_doubt: usize,
    /// From the kill until every request that it met was answered.
    pub(crate) stall: Duration,
    /// From the kill until the host knew.
    pub(crate) detected: Duration,
    /// From there until what was in doubt was let go.
    pub(crate) held: Duration,
    /// From the kill until the path was back.
    pub(crate) back: Duration,
    /// Held commands that the target tried to execute after the fence, and was stopped.
    pub(crate) ghosts: usize,
    /// Latencies on paths that were well all the time: before the kill, until all was released, and after the path was back.
    pub(crate) healthy: [Vec<Duration>; 3],
}

/// Kills the first path of a subsystem and waits until it is back. Nothing comes of it if nothing was in doubt.
pub(crate) fn kill(pool: &Pool, ground: &Ground, subject: &Subject, scene: &Scene, seed: u64) -> Result<Option<Fall>> {
    let bystander = Load::begin(pool, &ground.bystander.namespace, Traffic::Running(1), seed)?;
    subject.target.script(match scene.traffic {
        // As a device does; without it a reset may find nothing under way.
        Traffic::Running(_) => Fault::Delay { port: PORT, ms: 1 },
        Traffic::Held(_) => Fault::HoldWrites { port: PORT },
    });
    ground.let_pass(QUIET);
    let load = Load::begin(pool, &subject.namespace, scene.traffic, seed)?;
    match scene.traffic {
        // Not in step with the device.
        Traffic::Running(_) => ground.let_pass(QUIET + Duration::from_micros(seed * 377 % 2000)),
        Traffic::Held(_) => {
            load.settled(WITHIN)?;
            // What comes later on this port is not to be held.
            subject.target.script(Fault::StopHolding { port: PORT });
        }
    }
    while subject.target_events.try_recv().is_ok() {}
    let killed = now();
    subject.target.script(match scene.death {
        Death::Signalled => Fault::ResetConnections { port: PORT },
        Death::Silent => Fault::Mute { port: PORT },
    });
    let outcome = fenced(ground, subject, scene, killed)?;
    ground.let_pass(QUIET);
    let samples = load.end(WITHIN)?;
    let healthy = bystander.end(WITHIN)?;
    let ghosts = ghosts(subject, scene)?;
    let Some((receipt, back)) = outcome else { return Ok(None) };
    ensure!(receipt.method.is_proof() && receipt.method != Method::Time, "fenced by {}", receipt.method.name());
    let met = samples.iter().filter(|sample| sample.asked <= receipt.detected && sample.answered > killed);
    let last = met.map(|sample| sample.answered).max().unwrap_or(killed);
    let between = |from: Instant, until: Instant| {
        let inside = |sample: &&Sample| sample.asked >= from && sample.asked < until;
        healthy.iter().filter(inside).map(|sample| sample.answered - sample.asked).collect()
    };
    Ok(Some(Fall {
        in_doubt: receipt.in_doubt,
        stall: last - killed,
        detected: receipt.detected - killed,
        held: receipt.released - receipt.detected,
        back: back - killed,
        ghosts,
        healthy: [between(Instant::ZERO, killed), between(killed, receipt.released), between(back, now())],
    }))
}

/// Waits for the receipt and for the path's next life.
fn fenced(ground: &Ground, subject: &Subject, scene: &Scene, killed: Instant) -> Result<Option<(Receipt, Instant)>> {
    let deadline = killed + WITHIN;
    // How the lost life ended: with a receipt, or with nothing in doubt.
    let (mut end, mut back): (Option<Option<Receipt>>, _) = (None, None);
    while end.is_none() || back.is_none() {
        let Some(event) = ground.event(deadline) else { bail!("not fenced and back within {WITHIN:?}") };
        match event.kind {
            EventKind::Fenced(receipt) if receipt.ctrl == subject.victim => end = Some(Some(*receipt)),
            EventKind::NothingInDoubt { ctrl, .. } if ctrl == subject.victim => end = Some(None),
            EventKind::LifeBegan { ctrl, .. } if ctrl == subject.victim => {
                back = Some(event.at);
                continue;
            }
            _ => continue,
        }
        // The lost life is over: its port may come back.
        if scene.death == Death::Silent {
            subject.target.script(Fault::Unmute { port: PORT });
        }
    }
    Ok(end.flatten().zip(back))
}

/// Lets the target try what it held, and counts what was stopped. One that was executed is what must never be.
fn ghosts(subject: &Subject, scene: &Scene) -> Result<usize> {
    // Whatever is held is tried now.
    subject.target.script(Fault::Clear);
    if let Traffic::Running(_) = scene.traffic {
        return Ok(0);
    }
    let deadline = now() + WITHIN;
    let (mut armed, mut refused) = (0, 0);
    loop {
        let Ok(stamped) = subject.target_events.recv_timeout(deadline - now()) else {
            bail!("{armed} commands were held when their path died, and {refused} of them were tried within {WITHIN:?}")
        };
        match stamped.event {
            TargetEvent::GhostArmed(_) => armed += 1,
            TargetEvent::GhostRefused { .. } => refused += 1,
            TargetEvent::GhostExecuted(ghost) => bail!("a stale write was executed after its fence: {ghost:?}"),
            _ => {}
        }
        if armed > 0 && refused >= armed {
            return Ok(refused);
        }
    }
}

//! What a lost path costs the application, over many kills.
//!
//! A stall counts from the kill to the answer of the last request that the kill met. A kill that left nothing in doubt
//! had nothing to fence: it is counted as such and is no figure. Load runs beside it on another subsystem of the same host, to
//! see what a failover does to paths that are well.

mod ground;
mod kill;
mod load;
mod scene;
mod table;

use crate::machine::Pair;
use anyhow::Result;
use ground::Ground;
use kill::{Fall, kill};
use scene::{SCENES, Scene};
use serde::Serialize;
use std::time::Duration;
use table::{Healthy, ratio};

pub(crate) use ground::namespace;
pub(crate) use table::{Percentiles, text};

/// What came out for one scene.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) scene: &'static str,
    /// Kills that left something in doubt: only these count.
    pub(crate) kills: usize,
    /// Kills that left nothing in doubt.
    pub(crate) inconclusive: usize,
    /// Commands in doubt per kill.
    pub(crate) in_doubt: Percentiles,
    /// Held commands that the target tried after the fence, all of them stopped.
    pub(crate) ghosts: usize,
    /// From the kill, or, where the death is silent, from its detection, until all was answered, in milliseconds.
    pub(crate) stall_ms: Percentiles,
    /// From the kill until the host knew, in milliseconds.
    pub(crate) detected_ms: Percentiles,
    /// From there until what was in doubt was let go, in milliseconds.
    pub(crate) held_ms: Percentiles,
    /// From the kill until the path was back, in milliseconds.
    pub(crate) back_ms: Percentiles,
    /// What 99 of 100 stalls may take, in milliseconds.
    pub(crate) goal_ms: f64,
    pub(crate) met: bool,
    /// Latencies of another subsystem of the same host.
    pub(crate) healthy: Healthy,
}

/// Plays every scene whose name has all of `words`.
pub(crate) fn measure(pair: &Pair, kills: Option<usize>, words: &[String]) -> Result<Vec<Row>> {
    let wanted = SCENES.iter().filter(|scene| words.iter().all(|word| scene.name.contains(word.as_str())));
    wanted.map(|scene| play(pair, scene, kills.unwrap_or(scene.kills))).collect()
}

fn play(pair: &Pair, scene: &Scene, kills: usize) -> Result<Row> {
    let ground = Ground::new(&pair.host, &pair.target, scene)?;
    let mut falls = Vec::new();
    for (turn, subject) in (0..kills).zip(ground.subjects.iter().cycle()) {
        if turn % ground.subjects.len() == 0 {
            // Every path has lived for longer than one that flaps.
            ground.let_pass(Duration::from_millis(1_100));
        }
        falls.push(kill(&pair.host, &ground, subject, scene, turn as u64)?);
    }
    ground.end()?;
    let empty = falls.iter().filter(|fall| fall.is_none()).count();
    let counted: Vec<Fall> = falls.into_iter().flatten().collect();
    let of = |figure: &dyn Fn(&Fall) -> f64| Percentiles::of(counted.iter().map(figure).collect());
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let stall = of(&|fall| match scene.death {
        scene::Death::Signalled => ms(fall.stall),
        scene::Death::Silent => ms(fall.stall.saturating_sub(fall.detected)),
    });
    Ok(Row {
        scene: scene.name,
        kills: counted.len(),
        inconclusive: empty,
        in_doubt: of(&|fall| fall.in_doubt as f64),
        ghosts: counted.iter().map(|fall| fall.ghosts).sum(),
        stall_ms: stall,
        detected_ms: of(&|fall| ms(fall.detected)),
        held_ms: of(&|fall| ms(fall.held)),
        back_ms: of(&|fall| ms(fall.back)),
        goal_ms: ms(scene.goal),
        met: stall.p99 <= ms(scene.goal),
        healthy: Healthy {
            before_us: pooled(&counted, 0),
            during_us: pooled(&counted, 1),
            after_us: pooled(&counted, 2),
            during_ratio: ratio(&counted, 1),
            after_ratio: ratio(&counted, 2),
        },
    })
}

/// Latencies of all kills together, in microseconds.
fn pooled(falls: &[Fall], part: usize) -> Percentiles {
    let all = falls.iter().flat_map(|fall| &fall.healthy[part]);
    Percentiles::of(all.map(|latency| latency.as_secs_f64() * 1e6).collect())
}

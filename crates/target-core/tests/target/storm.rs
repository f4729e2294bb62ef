//! Everything at once, from a seed: faults, losses, resets, lanes that hear late, media that answer late.
//!
//! One property: once a life is reported as over - by event, by "immediate", by a log entry, by RDY=0 - no media
//! operation of it is under way, and none ever begins again.

use crate::rig::*;
use interlock_base::Rng;
use interlock_target_core::config::Ccr;
use interlock_target_core::{Event, Fault, LifeId};
use interlock_wire::ccr::{Instance, State, immediate};
use interlock_wire::fabrics::Cc;
use std::collections::{BTreeMap, BTreeSet};

/// What the hosts and the checker remember.
#[derive(Default)]
struct Watch {
    seen: usize,
    over: BTreeSet<LifeId>,
    by_instance: BTreeMap<Instance, LifeId>,
    /// Answered or not: which instance a CCR of a source was about.
    asked: Vec<(Path, u64, Instance)>,
}

impl Watch {
    fn look(&mut self, rig: &mut Rig, seed: u64) {
        for event in &rig.events[self.seen..] {
            match event {
                Event::Enabled { life } => {
                    let instance = Instance { cntlid: life.cntlid, ciu: life.ciu, cirn: life.cirn };
                    self.by_instance.insert(instance, life.id);
                }
                Event::Fenced { life, .. } => {
                    self.over.insert(life.id);
                }
                Event::GhostExecuted(ghost) => {
                    assert!(!self.over.contains(&ghost.life.id), "seed {seed}: a ghost after the fence");
                }
                _ => {}
            }
        }
        self.seen = rig.events.len();
        for (source, token, impacted) in self.asked.clone() {
            if let Some((cqe, _)) = rig.answer(source.admin, token)
                && cqe.status().is_success()
                && immediate(cqe.dw0.get())
            {
                let life = self.by_instance[&impacted];
                assert!(self.over.contains(&life), "seed {seed}: immediate, and not over");
            }
        }
        for (lane, op) in &rig.media {
            assert!(!self.over.contains(&op.life), "seed {seed}: lane {lane} works for a life that is over");
        }
    }
}

fn storm(seed: u64) -> (usize, usize) {
    let mut rng = Rng::new(seed);
    let mut config = config();
    config.subsystems[0].quiesce_ms = 20;
    config.subsystems[0].ccr = Ccr::On { limit: 2, drain_ms: if rng.percent(30) { 15 } else { 0 }, answer_ms: 5 };
    let mut rig = Rig::new(config);
    let host = Host { kato_ms: 500, ..Host::new(1) };
    let mut paths: Vec<Path> = vec![host.live(&mut rig, A), host.live(&mut rig, B)];
    let mut ended: Vec<Instance> = Vec::new();
    let mut watch = Watch::default();
    rig.slow_media = true;
    for _ in 0..150 {
        paths.retain(|path| {
            let alive = rig.is_open(path.admin) && rig.is_open(path.io);
            if !alive {
                ended.push(path.instance);
            }
            alive
        });
        let path = paths.get(rng.below(paths.len() as u64) as usize).copied();
        match (rng.below(16), path) {
            (0..=4, Some(path)) => {
                if rig.wires[&path.io].queue.in_flight() < 20 {
                    path.write(&mut rig, rng.below(16), rng.below(255) as u8 + 1);
                }
            }
            (5, _) => rig.script(Fault::HoldWrites { port: if rng.percent(50) { A } else { B } }),
            (6, _) => rig.script(Fault::Release),
            (7, Some(path)) => rig.hang_up(if rng.percent(50) { path.io } else { path.admin }),
            (8 | 9, Some(path)) => {
                let others = paths.iter().map(|other| other.instance).chain(ended.iter().copied());
                let targets: Vec<Instance> = others.filter(|instance| *instance != path.instance).collect();
                if !targets.is_empty() && rig.wires[&path.admin].queue.in_flight() < 20 {
                    let impacted = targets[rng.below(targets.len() as u64) as usize];
                    let token = path.ccr(&mut rig, impacted);
                    watch.asked.push((path, token, impacted));
                }
            }
            (10, _) => {
                let lane = rng.below(2) as usize;
                if !rig.cut_off.remove(&lane) {
                    rig.cut_off.insert(lane);
                }
                rig.run();
            }
            (11, Some(path)) if rig.cut_off.is_empty() => {
                set_cc(&mut rig, path.admin, Cc::new(false));
                if !csts(&mut rig, path.admin).ready() {
                    watch.look(&mut rig, seed);
                    assert!(watch.over.contains(&watch.by_instance[&path.instance]), "seed {seed}: RDY=0 too early");
                }
                rig.hang_up(path.admin);
            }
            (12, _) => rig.advance(rng.below(30)),
            (13, _) => rig.script(Fault::Delay { port: A, ms: rng.below(20) as u32 }),
            _ => {
                for _ in 0..rng.below(4) {
                    rig.media_step();
                    rig.run();
                }
            }
        }
        watch.look(&mut rig, seed);
        if paths.len() < 2 && rig.cut_off.is_empty() {
            paths.push(host.live(&mut rig, if rng.percent(50) { A } else { B }));
        }
        watch.look(&mut rig, seed);
    }
    // Heal, and everything ends.
    rig.cut_off.clear();
    rig.slow_media = false;
    rig.script(Fault::Clear);
    rig.advance(100);
    watch.look(&mut rig, seed);
    for path in paths.iter().filter(|path| rig.is_open(path.admin)).copied().collect::<Vec<_>>() {
        assert!(path.log(&mut rig, true).iter().all(|entry| entry.state == State::Success), "seed {seed}");
    }
    rig.control.shutdown(rig.now);
    rig.run();
    watch.look(&mut rig, seed);
    assert!(rig.events.contains(&Event::ShutDown), "seed {seed}");
    assert_eq!((rig.buffers(), rig.control.lives().count()), (0, 0), "seed {seed}");
    assert!(rig.lanes.iter().all(|lane| lane.lives().count() == 0), "seed {seed}");
    let count = |which: fn(&Event) -> bool| rig.events.iter().filter(|event| which(event)).count();
    (
        count(|event| matches!(event, Event::GhostRefused { .. })),
        count(|event| matches!(event, Event::GhostExecuted(_))),
    )
}

#[test]
fn nothing_of_a_life_happens_after_its_end() {
    let (mut refused, mut executed) = (0, 0);
    for seed in 0..150 {
        let (stopped, landed) = storm(seed);
        refused += stopped;
        executed += landed;
    }
    // The storm counts only if it could have gone wrong.
    assert!(refused > 100 && executed > 100, "{refused} ghosts were stopped, {executed} were not");
}

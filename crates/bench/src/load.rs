//! One case of one round, as a service on the host's reactor.

use anyhow::{Result, anyhow, bail};
use hdrhistogram::Histogram;
use interlock_base::{Instant, Rng};
use interlock_host::{Buf, LocalNamespace, Namespace, Op, Outcome};
use interlock_ring::{Cx, Event, Service};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// What to run.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) op: Op,
    pub(crate) depth: u32,
    pub(crate) blocks: u32,
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
}

/// What came out.
pub(crate) struct Round {
    pub(crate) iops: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

pub(crate) struct Load {
    plan: Plan,
    door: Option<LocalNamespace>,
    result: Sender<Result<Round>>,
    rng: Rng,
    positions: u64,
    /// When each slot's command was submitted.
    since: Vec<Instant>,
    began: Instant,
    done: u64,
    in_flight: u32,
    latencies: Histogram<u64>,
    failure: Option<Outcome>,
}

impl Load {
    pub(crate) fn new(cx: &Cx<'_>, namespace: &Namespace, plan: Plan, result: Sender<Result<Round>>) -> Self {
        let shape = namespace.shape();
        Self {
            plan,
            door: namespace.local(cx),
            result,
            rng: Rng::new(plan.seed),
            positions: shape.blocks / u64::from(plan.blocks),
            since: vec![cx.now(); plan.depth as usize],
            began: cx.now(),
            done: 0,
            in_flight: 0,
            latencies: Histogram::new(3).expect("3 significant digits are allowed"),
            failure: None,
        }
    }

    fn submit(&mut self, cx: &Cx<'_>, slot: u64, buf: Option<Buf>) {
        let Some(door) = &self.door else { return };
        let slba = self.rng.below(self.positions) * u64::from(self.plan.blocks);
        self.since[slot as usize] = cx.now();
        self.in_flight += 1;
        door.submit(cx, self.plan.op, slba, self.plan.blocks, buf, slot);
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let Some(bytes) = self.door.as_ref().map(|door| door.shape().block_size * self.plan.blocks) else {
            // The receiver waits for exactly this.
            let _ = self.result.send(Err(anyhow!("no lane of the host runs on this reactor")));
            cx.detach();
            return;
        };
        self.began = cx.now();
        for slot in 0..u64::from(self.plan.depth) {
            self.submit(cx, slot, Some(Buf::zeroed(bytes as usize)));
        }
    }

    fn collect(&mut self, cx: &mut Cx<'_>) {
        while let Some(completion) = self.door.as_ref().and_then(LocalNamespace::poll) {
            let now = cx.now();
            self.in_flight -= 1;
            self.done += 1;
            // Latencies above the histogram's range would be minutes; it grows by itself.
            let _ = self.latencies.record((now - self.since[completion.token as usize]).as_nanos() as u64);
            if completion.outcome != Outcome::Ok {
                self.failure.get_or_insert(completion.outcome);
            }
            if self.failure.is_none() && now - self.began < self.plan.duration {
                self.submit(cx, completion.token, completion.buf);
            }
        }
        if self.in_flight == 0 {
            // The receiver may have given up.
            let _ = self.result.send(self.round(cx.now()));
            cx.detach();
        }
    }

    fn round(&self, now: Instant) -> Result<Round> {
        if let Some(outcome) = self.failure {
            bail!("a command ended with {outcome:?}");
        }
        let us = |part| self.latencies.value_at_quantile(part) as f64 / 1000.0;
        Ok(Round { iops: self.done as f64 / (now - self.began).as_secs_f64(), p50_us: us(0.5), p99_us: us(0.99) })
    }
}

impl Service for Load {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Attached => self.start(cx),
            Event::Mail => self.collect(cx),
            _ => {}
        }
    }
}

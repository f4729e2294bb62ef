//! One case of one round on the host, as a service on its reactor.

use crate::case::Plan;
use crate::round::{Round, Tally};
use anyhow::{Result, anyhow, bail};
use interlock_base::Rng;
use interlock_host::{Buf, LocalNamespace, Namespace, Op, Outcome};
use interlock_ring::{Cx, Event, Service};
use std::sync::mpsc::Sender;

pub(crate) struct Load {
    plan: Plan,
    door: Option<LocalNamespace>,
    result: Sender<Result<Round>>,
    rng: Rng,
    positions: u64,
    tally: Tally,
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
            tally: Tally::new(cx.now(), plan.depth),
            failure: None,
        }
    }

    fn submit(&mut self, cx: &Cx<'_>, slot: u64, buf: Option<Buf>) {
        let Some(door) = &self.door else { return };
        let op = if self.plan.reads(&mut self.rng) { Op::Read } else { Op::Write { fua: false } };
        let slba = self.rng.below(self.positions) * u64::from(self.plan.blocks);
        self.tally.submitted(cx.now(), slot as usize);
        door.submit(cx, op, slba, self.plan.blocks, buf, slot);
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let Some(bytes) = self.door.as_ref().map(|door| door.shape().block_size * self.plan.blocks) else {
            // The receiver waits for exactly this.
            let _ = self.result.send(Err(anyhow!("no lane of the host runs on this reactor")));
            cx.detach();
            return;
        };
        self.tally = Tally::new(cx.now(), self.plan.depth);
        for slot in 0..u64::from(self.plan.depth) {
            self.submit(cx, slot, Some(Buf::zeroed(bytes as usize)));
        }
    }

    fn collect(&mut self, cx: &mut Cx<'_>) {
        while let Some(completion) = self.door.as_ref().and_then(LocalNamespace::poll) {
            self.tally.finished(cx.now(), completion.token as usize);
            if completion.outcome != Outcome::Ok {
                self.failure.get_or_insert(completion.outcome);
            }
            if self.failure.is_none() && self.tally.goes_on(cx.now(), self.plan.duration) {
                self.submit(cx, completion.token, completion.buf);
            }
        }
        if self.tally.is_idle() {
            // The receiver may have given up.
            let _ = self.result.send(self.round(cx));
            cx.detach();
        }
    }

    fn round(&self, cx: &Cx<'_>) -> Result<Round> {
        if let Some(outcome) = self.failure {
            bail!("a command ended with {outcome:?}");
        }
        Ok(self.tally.round(cx.now()))
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

//! What an application does while a path dies, and when each of its requests was asked and answered.

use super::scene::Traffic;
use anyhow::{Context, Result, anyhow, bail};
use interlock_base::{Instant, Rng};
use interlock_host::{Buf, LocalNamespace, Namespace, Op, Outcome};
use interlock_ring::{Cx, Event, Pool, Service};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
}

/// A load that runs until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    samples: Receiver<Result<Vec<Sample>>>,
    /// Says once that what was to be answered without a loss was.
    settled: Receiver<()>,
}

/// Half of the requests of a held load go to the path that lives and are answered: this many for each that is held.
const PER_HELD: u32 = 2;

impl Load {
    /// Begins on the host's reactor.
    pub(crate) fn begin(pool: &Pool, namespace: &Namespace, traffic: Traffic, seed: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (say, samples) = channel();
        let (say_settled, settled) = channel();
        let (namespace, stopped) = (namespace.clone(), Arc::clone(&stop));
        pool.reactor(0)
            .attach(move |cx| {
                Box::new(Player {
                    traffic,
                    door: namespace.local(cx),
                    stop: stopped,
                    say,
                    settled: Some(say_settled),
                    rng: Rng::new(seed),
                    asked: Vec::new(),
                    samples: Vec::new(),
                    open: 0,
                    failure: None,
                })
            })
            .context("the host's reactor has ended")?;
        Ok(Self { stop, samples, settled })
    }

    /// Waits until only what is held is left.
    pub(crate) fn settled(&self, within: Duration) -> Result<()> {
        self.settled.recv_timeout(within).context("not all writes that are not held were answered")
    }

    /// Ends it, and answers what it saw.
    pub(crate) fn end(self, within: Duration) -> Result<Vec<Sample>> {
        // Read by a service after its next answer; nothing else hangs on it.
        self.stop.store(true, Ordering::Relaxed);
        self.samples.recv_timeout(within).context("requests were not answered in time")?
    }
}

struct Player {
    traffic: Traffic,
    door: Option<LocalNamespace>,
    stop: Arc<AtomicBool>,
    say: Sender<Result<Vec<Sample>>>,
    settled: Option<Sender<()>>,
    rng: Rng,
    asked: Vec<Instant>,
    samples: Vec<Sample>,
    open: usize,
    failure: Option<Outcome>,
}

impl Player {
    fn submit(&mut self, cx: &Cx<'_>, slot: usize, buf: Option<Buf>) {
        let Some(blocks) = self.door.as_ref().map(|door| door.shape().blocks) else { return };
        let (op, slba) = match self.traffic {
            Traffic::Running(_) if self.rng.below(2) == 0 => (Op::Read, self.rng.below(blocks)),
            Traffic::Running(_) => (Op::Write { fua: false }, self.rng.below(blocks)),
            // Apart, so that none waits for another.
            Traffic::Held(_) => (Op::Write { fua: false }, slot as u64),
        };
        self.asked[slot] = cx.now();
        self.open += 1;
        let Some(door) = &self.door else { return };
        door.submit(cx, op, slba, 1, buf, slot as u64);
    }

    fn start(&mut self, cx: &mut Cx<'_>) {
        let Some(bytes) = self.door.as_ref().map(|door| door.shape().block_size) else {
            // The receiver waits for exactly this.
            let _ = self.say.send(Err(anyhow!("no lane of the host runs on this reactor")));
            cx.detach();
            return;
        };
        let depth = match self.traffic {
            Traffic::Running(depth) => depth,
            Traffic::Held(held) => held * PER_HELD,
        };
        self.asked = vec![cx.now(); depth as usize];
        for slot in 0..depth as usize {
            self.submit(cx, slot, Some(Buf::zeroed(bytes as usize)));
        }
    }

    fn collect(&mut self, cx: &mut Cx<'_>) {
        while let Some(completion) = self.door.as_ref().and_then(LocalNamespace::poll) {
            let slot = completion.token as usize;
            self.open -= 1;
            self.samples.push(Sample { asked: self.asked[slot], answered: cx.now() });
            if completion.outcome != Outcome::Ok {
                self.failure.get_or_insert(completion.outcome);
            }
            let again = matches!(self.traffic, Traffic::Running(_)) && !self.stop.load(Ordering::Relaxed);
            if again && self.failure.is_none() {
                self.submit(cx, slot, completion.buf);
            }
        }
        if let Traffic::Held(held) = self.traffic
            && self.open <= held as usize
            && let Some(settled) = self.settled.take()
        {
            // Whoever asked may have given up.
            let _ = settled.send(());
        }
        if self.open == 0 {
            let seen = self.seen();
            // The receiver may have given up.
            let _ = self.say.send(seen);
            cx.detach();
        }
    }

    fn seen(&mut self) -> Result<Vec<Sample>> {
        if let Some(outcome) = self.failure {
            bail!("a request ended with {outcome:?}");
        }
        Ok(std::mem::take(&mut self.samples))
    }
}

impl Service for Player {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Attached => self.start(cx),
            Event::Mail => self.collect(cx),
            _ => {}
        }
    }
}

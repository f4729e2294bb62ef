//! The runner for our own target, which can be told to misbehave.
//!
//! Warm up, hold writes back, break the path, fail over, rewrite what was retried, let the ghosts try, read everything
//! back. Every wait has a deadline and says what it waited for; a wait that is not over in time makes the scenario
//! inconclusive, never safe.

use crate::course::{self, Course, Phases, Scene, Trouble};
use crate::evidence::{Fencing, Record, life_of};
use crate::foreign::NetLog;
use crate::load::{Feed, Ground};
use crate::receipts::whole_millis;
use crate::report::{self, Outcome};
use crate::scenario::{Break, Paths, Reset, Scenario, Telling};
use crate::stage::Stage;
use crate::words;
use interlock_api::{DrillReport, FastIoFail, ScenarioResult};
use interlock_base::Instant;
use interlock_check::Verdict;
use interlock_host::{ControllerSpec, Event, Host, Namespace, stall};
use interlock_ring::now;
use interlock_target::{Fault, PortId, TargetEvent};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Verified I/O before anything happens. Longer than what a host takes for a life that has barely begun, after whose
/// loss it pauses before it reconnects.
pub(crate) const WARM_UP: Duration = Duration::from_millis(1200);

/// Verified I/O after everything was rewritten.
pub(crate) const COOL_DOWN: Duration = Duration::from_millis(200);

/// While the target begins to hold, operations come at this pace: most in flight are those that stall.
pub(crate) const PACE: Duration = Duration::from_millis(1);

/// A change without an answer for so long is held.
const HELD_AFTER: Duration = Duration::from_millis(25);

/// So many are to be held before the path breaks; 8 is the least that counts.
const HELD_MIN: usize = 14;

/// Anything that takes milliseconds when all is well.
pub(crate) const SHORTLY: Duration = Duration::from_secs(10);

/// Longer than the longest hold of a scenario.
const HOLD_WITHIN: Duration = Duration::from_secs(20);

/// Settled I/O may fail so much later than `fast_io_fail_tmo` on a busy machine.
const IN_TIME: Duration = Duration::from_millis(500);

/// How a drill is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of the load.
    pub seed: u64,
    /// Header and data digests.
    pub digests: bool,
    /// How long reactors look for news before they sleep.
    pub spin: Duration,
    /// Record how each scenario goes, to draw it.
    pub record: bool,
    /// Keep Alive Timeout to ask for; `None`: that of the scenario.
    pub kato: Option<Duration>,
    /// Quiesce time to assume where the target states none; `None`: that of the scenario.
    pub assumed_cqt: Option<Duration>,
    /// I/O queues of each controller; `None`: one for each reactor.
    pub nr_io_queues: Option<u16>,
    /// What must have proven a fence.
    pub require: Option<Requirement>,
}

/// What must have proven the fence of a scenario that fences: without it the scenario is inconclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Cross-Controller Reset.
    Ccr,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            digests: false,
            spin: Duration::ZERO,
            record: false,
            kato: None,
            assumed_cqt: None,
            nr_io_queues: None,
            require: None,
        }
    }
}

/// One scenario to be played.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Which.
    pub scenario: &'static Scenario,
    /// Whether the host fences.
    pub fencing: Fencing,
}

/// Whose event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The host's.
    Host,
    /// The target's.
    Target,
    /// The network's, between them.
    Network,
    /// The drill's own doing.
    Drill,
}

/// What a drill says while it runs.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// A scenario begins.
    Begun {
        /// Which.
        plan: Plan,
        /// Its place, from 1.
        place: usize,
        /// How many there are.
        of: usize,
    },
    /// What is being waited for.
    Phase(&'a str),
    /// Something to know before it happens.
    Note(&'a str),
    /// Something happened.
    Happened {
        /// Since the scenario began.
        after: Duration,
        /// Whose event.
        side: Side,
        /// In words.
        text: String,
    },
    /// A scenario is over.
    Ended(&'a ScenarioResult),
}

/// Plays every scenario of `plan`, one after the other, and reports. Nothing is left behind.
pub fn drill(plan: &[Plan], options: &Options, watch: &mut dyn FnMut(Progress<'_>)) -> DrillReport {
    let mut results = Vec::new();
    let mut verdicts: Vec<Verdict> = Vec::new();
    for (index, item) in plan.iter().enumerate() {
        watch(Progress::Begun { plan: *item, place: index + 1, of: plan.len() });
        let outcome = play(*item, options, watch);
        let (result, verdict) = report::result(*item, options.require, outcome);
        watch(Progress::Ended(&result));
        results.push(result);
        verdicts.push(verdict);
    }
    report::report(options.seed, None, results, &verdicts)
}

fn play(plan: Plan, options: &Options, watch: &mut dyn FnMut(Progress<'_>)) -> Outcome {
    let set = || Stage::set(plan.scenario, plan.fencing, options);
    let ground = |stage: &Stage| Ground::fresh(stage.namespace.shape().blocks);
    let phases = Phases {
        play: |run: &mut Run<'_>| run.steps(),
        read_back: SHORTLY,
        promises: |run: &mut Run<'_>| run.promises(),
        last: |_| {},
    };
    course::play(plan, options, set, ground, &phases, watch)
}

impl Scene for Stage {
    fn host(&self) -> (&Host, &ControllerSpec) {
        (&self.host, &self.spec)
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn host_events(&self) -> &Receiver<Event> {
        &self.host_events
    }

    fn other_side(&mut self, record: &mut Record) -> Vec<(Instant, Side, String)> {
        let mut news = Vec::new();
        while let Ok(stamped) = self.target_events.try_recv() {
            news.push((stamped.at, Side::Target, words::event(&stamped.event)));
            record.target.push(stamped);
        }
        news
    }

    fn network_log(&self) -> Option<NetLog> {
        None
    }

    fn paths(&self) -> &crate::receipts::Paths {
        &self.paths
    }

    fn strike(self) -> Vec<String> {
        Self::strike(self)
    }
}

type Run<'a> = Course<'a, Stage>;

const A: PortId = PortId(0);
const B: PortId = PortId(1);

impl Run<'_> {
    fn steps(&mut self) -> Result<(), Trouble> {
        self.foretell();
        self.phase("verified load");
        self.driver.feed(Feed::Mixed);
        self.go_on(WARM_UP);
        self.arm()?;
        self.break_paths();
        self.fail_over()?;
        self.stop_load()?;
        self.let_ghosts_try();
        Ok(())
    }

    /// Ports whose connections break.
    fn ports(&self) -> &'static [PortId] {
        match self.plan.scenario.breaks {
            Break::Reset | Break::Silent => &[A],
            Break::LastPath { .. } => &[A, B],
        }
    }

    /// With `fast_io_fail_tmo` people want to know beforehand what fails when.
    fn foretell(&mut self) {
        let Some(fast) = self.plan.scenario.fast_io_fail else { return };
        let Some(facts) = self.stage.facts().filter(|_| self.plan.fencing == Fencing::Strict) else { return };
        let worst = stall::worst_stall(&self.stage.spec, &facts);
        let doubt = worst.hold.map_or_else(
            || "after a fence only".to_owned(),
            |hold| {
                format!("only after their fence, {} ms after the loss at the latest", (worst.stop + hold).as_millis())
            },
        );
        let note =
            format!("predicted: settled I/O fails {} ms after the loss, writes in doubt end {doubt}", fast.as_millis());
        self.note(note);
    }

    /// The target begins to hold writes back that come in on the ports that will break.
    fn arm(&mut self) -> Result<(), Trouble> {
        self.phase("the target holds writes back");
        self.driver.feed(Feed::Paced(PACE));
        if let Reset::Slow { ms, telling } = self.plan.scenario.reset {
            self.script(Fault::SlowDrain { ms });
            if telling == Telling::EventLost {
                self.script(Fault::CcrLoseEvent);
            }
        }
        for port in self.ports() {
            self.script(Fault::HoldWrites { port: *port });
        }
        self.wait_for("the target to hold writes back", SHORTLY, |run| run.driver.stuck(HELD_AFTER) >= HELD_MIN)
    }

    fn break_paths(&mut self) {
        if matches!(self.plan.scenario.reset, Reset::Slow { telling: Telling::StaleEntry, .. }) {
            self.script(Fault::CcrStaleEntry);
        }
        self.breaks();
        for port in self.ports() {
            let port = *port;
            // What comes over new connections is not held, and what is held stays held.
            let faults = match self.plan.scenario.breaks {
                Break::Reset => [Fault::StopHolding { port }, Fault::ResetConnections { port }],
                Break::Silent => [Fault::Mute { port }, Fault::StopHolding { port }],
                Break::LastPath { .. } => [Fault::StopHolding { port }, Fault::ClosePort { port }],
            };
            for fault in faults {
                self.script(fault);
            }
        }
        self.driver.feed(Feed::Mixed);
    }

    /// Until every write that was in doubt has its answer, and its blocks are rewritten.
    fn fail_over(&mut self) -> Result<(), Trouble> {
        self.phase("the loss is noticed");
        let lives = self.ports().len();
        self.wait_for("the loss to be noticed", SHORTLY, |run| run.record.condemned().count() >= lives)?;
        match self.plan.scenario.breaks {
            Break::LastPath { returns_after: Some(after) } => {
                self.phase("no path is left");
                self.go_on(after.saturating_sub(now() - self.record.broken));
                self.script(Fault::OpenPort { port: A });
            }
            Break::LastPath { returns_after: None } => {
                self.phase("no path is left, writes in doubt wait for their fence");
                self.wait_for("writes in doubt to have an end", HOLD_WITHIN, |run| run.driver.suspects_answered())?;
                self.script(Fault::OpenPort { port: A });
            }
            Break::Reset | Break::Silent => {}
        }
        let lives = match self.plan.scenario.paths {
            Paths::One => 2,
            Paths::Two => 3,
        };
        self.move_over(HOLD_WITHIN, lives)
    }

    /// The target tries to execute what it held. What then did not end in time is for the verdict to weigh.
    fn let_ghosts_try(&mut self) {
        self.phase("the target notices the loss");
        let noticed = self.wait_for("the target to notice the loss", SHORTLY, Self::is_noticed);
        self.phase("the target tries to execute what it held");
        if self.plan.scenario.breaks == Break::Silent {
            self.script(Fault::Unmute { port: A });
        }
        self.script(Fault::Release);
        let tried = self.wait_for("every held write to be executed or refused", SHORTLY, |run| {
            run.record.armed() > 0 && run.record.ghosts_waiting() == 0
        });
        self.notes.extend(noticed.err().into_iter().chain(tried.err()));
    }

    /// The target knows that the lives the host lost are lost: what it holds of them are ghosts.
    fn is_noticed(&self) -> bool {
        self.record.condemned().filter_map(|(life, ..)| self.record.life(life)).all(|lost| {
            self.record.target.iter().any(|stamped| match stamped.event {
                TargetEvent::Lost { life, .. } => life_of(life) == lost,
                _ => false,
            })
        })
    }

    /// I/O that failed although it should not, or later than it should.
    fn promises(&mut self) -> Vec<Trouble> {
        let Some(fast) = self.plan.scenario.fast_io_fail else { return self.no_failures() };
        let mut troubles = Vec::new();
        let Some(lost) = self.record.condemned().map(|(_, at, _)| at).max() else { return troubles };
        let held = self.record.held_ops();
        let settled = self.driver.failures().iter().filter(|failure| failure.settled);
        let latest = settled.map(|failure| failure.at - failure.submitted.max(lost)).max();
        let doubt = self.driver.suspects().filter(|suspect| held.contains(&suspect.op.id));
        let doubt = doubt.filter_map(|suspect| suspect.answered).map(|(at, _)| at - lost).max();
        let doubt = doubt.unwrap_or_default();
        match latest {
            Some(latest) if latest <= fast + IN_TIME => {
                let [foretold_ms, settled_ms, doubt_ms] = [fast, latest, doubt].map(whole_millis);
                self.fast_io_fail = Some(FastIoFail { foretold_ms, settled_ms, doubt_ms });
            }
            Some(latest) => troubles.push(format!(
                "settled I/O failed {} ms after the loss, {} ms were promised",
                latest.as_millis(),
                fast.as_millis()
            )),
            None => troubles.push("no settled I/O failed although no path was left".into()),
        }
        troubles
    }

    fn script(&mut self, fault: Fault) {
        self.happened(now(), Side::Drill, words::fault(fault));
        self.stage.target.script(fault);
    }
}

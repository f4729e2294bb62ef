//! The runner for foreign targets: the phases are those of the embedded drill, the faults are the network's.

use crate::evidence::{Fencing, Record};
use crate::foreign::evidence::NetLog;
use crate::foreign::ground::Found;
use crate::foreign::stage::Stage;
use crate::foreign::{Consent, Foreign, words};
use crate::load::{Driver, Feed, TURN};
use crate::proxy::Fault;
use crate::receipts::Paths;
use crate::report::Outcome;
use crate::run::{COOL_DOWN, Options, PACE, Plan, Progress, SHORTLY, Side, WARM_UP};
use crate::scenario::Break;
use interlock_base::Instant;
use interlock_check::{MIN_IN_DOUBT, ReadBack};
use interlock_host::EventKind;
use interlock_ring::now;
use std::time::Duration;

/// So many writes are to be held before the path breaks.
const HELD_MIN: usize = MIN_IN_DOUBT as usize + 2;

/// What a hold may take longer than foretold, on a busy machine.
const SLACK: Duration = Duration::from_secs(20);

/// After the last held write has its end a target gets so long to do what it may still do.
const SETTLE: Duration = Duration::from_secs(2);

/// To read everything back, on an emulated machine too.
const READ_BACK_WITHIN: Duration = Duration::from_secs(60);

/// To write zeroes over what the load has touched, on an emulated machine too.
const CLEAN_WITHIN: Duration = Duration::from_secs(30);

/// The path that breaks.
const A: usize = 0;

pub(super) fn play(
    plan: Plan,
    foreign: &Foreign,
    found: &Found,
    options: &Options,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Outcome {
    let started = now();
    watch(Progress::Phase("connecting"));
    let stage = match Stage::set(plan.scenario, plan.fencing, foreign, found, options) {
        Ok(stage) => stage,
        Err(error) => {
            let troubles = vec![error.to_string()];
            return Outcome { record: None, paths: Paths::new(), felt: None, troubles, notes: vec![] };
        }
    };
    let record = Record {
        fencing: plan.fencing,
        broken: started,
        host: Vec::new(),
        target: Vec::new(),
        network: Some(NetLog::default()),
        suspects: Vec::new(),
        violations: Vec::new(),
        read_back: ReadBack::Absent,
    };
    let driver = Driver::new(stage.namespace.clone(), found.ground, plan.fencing, options.seed);
    let mut run = Run { plan, stage, driver, record, broken: false, hold: SHORTLY, started, notes: Vec::new(), watch };
    let mut troubles: Vec<String> = run.play().err().into_iter().collect();
    run.drain();
    run.record.suspects = run.driver.suspects().copied().collect();
    troubles.extend(run.promises());
    run.record.violations = run.driver.violations().to_vec();
    if foreign.consent == Consent::Blank {
        run.clean();
    }
    let Run { stage, driver, record, broken, notes, .. } = run;
    let felt = Some(driver.felt());
    let paths = stage.paths.clone();
    drop(driver);
    troubles.extend(stage.strike());
    Outcome { record: broken.then_some(record), paths, felt, troubles, notes }
}

/// A wait that was not over in time, in words.
type Trouble = String;

struct Run<'a> {
    plan: Plan,
    stage: Stage,
    driver: Driver,
    record: Record,
    broken: bool,
    /// The longest that the fence may take.
    hold: Duration,
    started: Instant,
    notes: Vec<String>,
    watch: &'a mut dyn FnMut(Progress<'_>),
}

impl Run<'_> {
    fn play(&mut self) -> Result<(), Trouble> {
        self.foretell();
        self.phase("verified load");
        self.driver.feed(Feed::Mixed);
        self.go_on(WARM_UP);
        self.phase("the network holds writes back");
        self.driver.feed(Feed::Paced(PACE));
        self.inject(Fault::Hold { path: A });
        self.wait_for("the network to hold writes back", SHORTLY, |run| run.network().held() >= HELD_MIN)?;
        self.break_path();
        self.fail_over()?;
        self.phase("stopping the load");
        self.driver.feed(Feed::Off);
        self.wait_for("every operation in flight to be answered", SHORTLY, |run| run.driver.in_flight() == 0)?;
        self.let_ghosts_try();
        self.phase("reading everything back");
        self.record.read_back = self.driver.read_back(READ_BACK_WITHIN);
        Ok(())
    }

    /// People want to know beforehand how long it takes.
    fn foretell(&mut self) {
        let Some((worst, facts)) = self.stage.worst() else { return };
        let detect = match self.plan.scenario.breaks {
            Break::Silent => worst.detect.unwrap_or_default(),
            Break::Reset | Break::LastPath { .. } => Duration::ZERO,
        };
        let hold = worst.hold.unwrap_or_default();
        self.hold = detect + worst.stop + hold + SLACK;
        let kato = facts.kato.as_millis();
        let note = match self.plan.fencing {
            Fencing::Legacy => format!(
                "foretold: KATO is {kato} ms, the loss is noticed within {} ms, and nothing is waited for",
                detect.as_millis()
            ),
            Fencing::Strict if facts.ccrl > 0 => format!(
                "foretold: KATO is {kato} ms, the loss is noticed within {} ms; the target offers cross-controller \
                 reset, without it the fence takes {} ms",
                detect.as_millis(),
                hold.as_millis()
            ),
            Fencing::Strict => format!(
                "foretold: KATO is {kato} ms, the loss is noticed within {} ms, the fence by time takes {} ms{}",
                detect.as_millis(),
                hold.as_millis(),
                if worst.assumed { " (with an assumed quiesce time)" } else { "" }
            ),
        };
        (self.watch)(Progress::Note(&note));
        self.notes.push(note);
    }

    fn break_path(&mut self) {
        self.phase("the path breaks");
        let at = now();
        self.record.broken = at;
        self.broken = true;
        self.driver.broken(at);
        match self.plan.scenario.breaks {
            Break::Reset | Break::LastPath { .. } => self.inject(Fault::Reset { path: A }),
            Break::Silent => self.inject(Fault::Mute { path: A }),
        }
        self.driver.feed(Feed::Mixed);
    }

    /// Until every write that was in doubt has its answer, and its blocks are rewritten.
    fn fail_over(&mut self) -> Result<(), Trouble> {
        self.phase("the loss is noticed");
        self.wait_for("the loss to be noticed", SHORTLY, |run| run.record.condemned().count() > 0)?;
        let hold = self.hold;
        self.phase("failing over");
        if self.plan.fencing == Fencing::Strict {
            self.wait_for("the fence", hold, Self::is_fenced)?;
        }
        self.wait_for("writes in doubt to be answered", hold, |run| run.driver.suspects_answered())?;
        self.phase("rewriting what was retried");
        self.wait_for("their blocks to be rewritten", hold, |run| run.driver.rewrites_answered())?;
        if self.plan.fencing == Fencing::Strict {
            // Without a fence there is no time to lose: the target ends the lost life by itself in the end.
            self.go_on(COOL_DOWN);
            if self.plan.scenario.breaks == Break::Reset {
                let lives = self.stage.paths.len() + 1;
                self.wait_for("the path to be reconnected", SHORTLY, |run| run.lives() >= lives)?;
            }
        }
        Ok(())
    }

    /// Every life that was lost with something in doubt has its receipt.
    fn is_fenced(&self) -> bool {
        let fenced = |life| self.record.receipts().any(|receipt| receipt.life == life);
        self.record.condemned().filter(|(_, _, in_doubt)| *in_doubt > 0).all(|(life, ..)| fenced(life))
    }

    fn lives(&self) -> usize {
        self.record.host.iter().filter(|event| matches!(event.kind, EventKind::LifeBegan { .. })).count()
    }

    /// The network delivers what it held. What then did not end in time is for the verdict to weigh.
    fn let_ghosts_try(&mut self) {
        self.phase("the network delivers what it held");
        self.inject(Fault::Release);
        let tried = self.wait_for("every held write to be answered or refused", SHORTLY, |run| {
            run.network().held() > 0 && run.network().waiting() == 0
        });
        self.notes.extend(tried.err());
        self.go_on(SETTLE);
    }

    /// I/O that failed although it should not.
    fn promises(&mut self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        if self.driver.failures_total() > 0 {
            let why = self.driver.failures().first().map_or("", |failure| failure.why.as_str());
            let text = format!("{} operations ended other than well, the first: {why}", self.driver.failures_total());
            match self.plan.fencing {
                Fencing::Strict => troubles.push(text),
                Fencing::Legacy => self.notes.push(text),
            }
        }
        if self.driver.rewritten() > 0 {
            self.notes.push(format!("{} writes were rewritten with new stamps", self.driver.rewritten()));
        }
        troubles
    }

    /// What was blank is blank again.
    fn clean(&mut self) {
        self.phase("leaving blocks blank as they were");
        let dirty = self.driver.clean(CLEAN_WITHIN);
        if dirty > 0 {
            self.notes.push(format!("{dirty} blocks that were blank could not be left blank"));
        }
    }

    fn network(&self) -> &NetLog {
        self.record.network.as_ref().expect("a foreign drill has a network")
    }

    fn phase(&mut self, what: &str) {
        (self.watch)(Progress::Phase(what));
    }

    fn inject(&mut self, fault: Fault) {
        self.happened(now(), Side::Drill, words::fault(fault));
        self.stage.proxy.inject(fault);
    }

    /// The load goes on for a while.
    fn go_on(&mut self, time: Duration) {
        let until = now() + time;
        while now() < until {
            self.turn(until);
        }
    }

    /// The load goes on until `is_so`.
    fn wait_for(&mut self, what: &str, within: Duration, is_so: impl Fn(&Self) -> bool) -> Result<(), Trouble> {
        let deadline = now() + within;
        while !is_so(self) {
            if now() >= deadline {
                return Err(format!("waited {within:?} for {what}"));
            }
            self.turn(deadline.min(now() + TURN));
        }
        Ok(())
    }

    fn turn(&mut self, until: Instant) {
        self.driver.submit();
        let answers = self.driver.wait(until);
        // Events first: an answer that a failover gave belongs to an operation that is suspect by then.
        self.drain();
        for answer in answers {
            self.driver.answer(answer);
        }
    }

    fn drain(&mut self) {
        let mut news = Vec::new();
        while let Ok(event) = self.stage.host_events.try_recv() {
            news.push((event.at, Side::Host, event.kind.to_string()));
            if self.broken && matches!(event.kind, EventKind::Lost { .. }) {
                self.driver.lost(event.at);
            }
            self.record.host.push(event);
        }
        while let Ok(stamped) = self.stage.proxy.events().try_recv() {
            news.push((stamped.at, Side::Network, words::event(&stamped.event)));
            if let Some(network) = &mut self.record.network {
                network.push(stamped);
            }
        }
        // Both sides count from one clock.
        news.sort_by_key(|(at, ..)| *at);
        for (at, side, text) in news {
            self.happened(at, side, text);
        }
    }

    fn happened(&mut self, at: Instant, side: Side, text: String) {
        (self.watch)(Progress::Happened { after: at - self.started, side, text });
    }
}

//! What every drill does between its own phases: the load goes on, news come in, and every wait has a deadline.
//!
//! The embedded drill and the one for foreign targets differ in who misbehaves and what is asked of whom; how a run waits,
//! listens, ends the load and gives its outcome is one thing, and stands here.

use crate::evidence::{Fencing, Record};
use crate::foreign::NetLog;
use crate::load::{Driver, Feed, Ground, TURN};
use crate::receipts::Paths;
use crate::recording::Recorder;
use crate::report::Outcome;
use crate::run::{COOL_DOWN, Options, Plan, Progress, SHORTLY, Side};
use crate::scenario::Break;
use crate::stage::StageError;
use interlock_api::{FastIoFail, Mark};
use interlock_base::Instant;
use interlock_check::ReadBack;
use interlock_host::{ControllerSpec, Event, EventKind, Host, Namespace};
use interlock_ring::now;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// A wait that was not over in time, in words.
pub(crate) type Trouble = String;

/// What a course is run on: a host, and something that can be made to misbehave.
pub(crate) trait Scene {
    /// The host that fails over, and what it was told about each path.
    fn host(&self) -> (&Host, &ControllerSpec);
    /// What the load writes on.
    fn namespace(&self) -> &Namespace;
    /// What the host says.
    fn host_events(&self) -> &Receiver<Event>;
    /// Takes what the other side said into the record, and gives it in words.
    fn other_side(&mut self, record: &mut Record) -> Vec<(Instant, Side, String)>;
    /// Where the network's events are kept, if the network is part of it.
    fn network_log(&self) -> Option<NetLog>;
    /// Where each controller is reached.
    fn paths(&self) -> &Paths;
    /// Takes it down; what does not end in time is said in words.
    fn strike(self) -> Vec<String>;
}

/// One run of one scenario.
pub(crate) struct Course<'a, S> {
    pub(crate) plan: Plan,
    pub(crate) stage: S,
    pub(crate) driver: Driver,
    pub(crate) record: Record,
    pub(crate) notes: Vec<String>,
    pub(crate) fast_io_fail: Option<FastIoFail>,
    /// What the drill did, and when.
    marks: Vec<Mark>,
    pub(crate) watch: &'a mut dyn FnMut(Progress<'_>),
    broken: bool,
    started: Instant,
}

/// The phases that are a kind of drill's own.
pub(crate) struct Phases<S> {
    /// Until the load has ended and the ghosts have tried.
    pub(crate) play: fn(&mut Course<'_, S>) -> Result<(), Trouble>,
    /// Reading everything back takes no longer.
    pub(crate) read_back: Duration,
    /// What was promised and not kept.
    pub(crate) promises: fn(&mut Course<'_, S>) -> Vec<Trouble>,
    /// Before the host ends.
    pub(crate) last: fn(&mut Course<'_, S>),
}

/// Plays one scenario on what `set` sets up.
pub(crate) fn play<S: Scene>(
    plan: Plan,
    options: &Options,
    set: impl FnOnce() -> Result<S, StageError>,
    ground: impl FnOnce(&S) -> Ground,
    phases: &Phases<S>,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Outcome {
    let started = now();
    watch(Progress::Phase("connecting"));
    let stage = match set() {
        Ok(stage) => stage,
        Err(error) => {
            let troubles = vec![error.to_string()];
            let paths = Paths::new();
            return Outcome {
                record: None,
                paths,
                felt: None,
                troubles,
                notes: vec![],
                fast_io_fail: None,
                recording: None,
            };
        }
    };
    let record = Record {
        fencing: plan.fencing,
        broken: started,
        host: Vec::new(),
        target: Vec::new(),
        network: stage.network_log(),
        suspects: Vec::new(),
        violations: Vec::new(),
        read_back: ReadBack::Absent,
    };
    let recorder = options.record.then(|| Recorder::start(stage.host().0.clone()));
    let driver = Driver::new(stage.namespace().clone(), ground(&stage), plan.fencing, options.seed);
    let mut course = Course {
        plan,
        stage,
        driver,
        record,
        notes: Vec::new(),
        fast_io_fail: None,
        marks: Vec::new(),
        watch,
        broken: false,
        started,
    };
    let mut troubles: Vec<Trouble> = course.play(phases).err().into_iter().collect();
    course.drain();
    course.record.suspects = course.driver.suspects().copied().collect();
    troubles.extend((phases.promises)(&mut course));
    if course.driver.rewritten() > 0 {
        course.notes.push(format!("{} writes were rewritten with new stamps", course.driver.rewritten()));
    }
    course.record.violations = course.driver.violations().to_vec();
    (phases.last)(&mut course);
    let Course { stage, driver, record, broken, notes, fast_io_fail, marks, .. } = course;
    let recording = recorder.map(|recorder| recorder.end(&record, stage.host().1, stage.paths(), marks));
    let felt = Some(driver.felt());
    let paths = stage.paths().clone();
    drop(driver);
    troubles.extend(stage.strike());
    Outcome { record: broken.then_some(record), paths, felt, troubles, notes, fast_io_fail, recording }
}

impl<S: Scene> Course<'_, S> {
    fn play(&mut self, phases: &Phases<S>) -> Result<(), Trouble> {
        (phases.play)(self)?;
        self.phase("reading everything back");
        self.record.read_back = self.driver.read_back(phases.read_back);
        Ok(())
    }

    /// The path breaks now.
    pub(crate) fn breaks(&mut self) {
        self.phase("the path breaks");
        let at = now();
        self.record.broken = at;
        self.broken = true;
        self.driver.broken(at);
    }

    /// Until every write that was in doubt has its answer, and its blocks are rewritten; then until `lives` lives have
    /// begun, if a host that fences can reconnect.
    pub(crate) fn move_over(&mut self, within: Duration, lives: usize) -> Result<(), Trouble> {
        self.phase("failing over");
        if self.plan.fencing == Fencing::Strict {
            self.wait_for("the fence", within, Self::is_fenced)?;
        }
        self.wait_for("writes in doubt to be answered", within, |run| run.driver.suspects_answered())?;
        self.phase("rewriting what was retried");
        self.wait_for("their blocks to be rewritten", within, |run| run.driver.rewrites_answered())?;
        if self.plan.fencing == Fencing::Strict {
            // Without a fence there is no time to lose: the target ends the lost life by itself in the end.
            self.go_on(COOL_DOWN);
            if self.plan.scenario.breaks == Break::Reset {
                self.wait_for("the path to be reconnected", SHORTLY, |run| run.lives() >= lives)?;
            }
        }
        Ok(())
    }

    /// Nothing new, and everything answered.
    pub(crate) fn stop_load(&mut self) -> Result<(), Trouble> {
        self.phase("stopping the load");
        self.driver.feed(Feed::Off);
        self.wait_for("every operation in flight to be answered", SHORTLY, |run| run.driver.in_flight() == 0)
    }

    /// Every life that was lost with something in doubt has its receipt.
    fn is_fenced(&self) -> bool {
        let fenced = |life| self.record.receipts().any(|receipt| receipt.life == life);
        self.record.condemned().filter(|(_, _, in_doubt)| *in_doubt > 0).all(|(life, ..)| fenced(life))
    }

    fn lives(&self) -> usize {
        self.record.host.iter().filter(|event| matches!(event.kind, EventKind::LifeBegan { .. })).count()
    }

    /// I/O that failed although none should. A host that does not fence may have said what it did not know.
    pub(crate) fn no_failures(&mut self) -> Vec<Trouble> {
        if self.driver.failures_total() == 0 {
            return Vec::new();
        }
        let why = self.driver.failures().first().map_or("", |failure| failure.why.as_str());
        let text = format!("{} operations ended other than well, the first: {why}", self.driver.failures_total());
        match self.plan.fencing {
            Fencing::Strict => vec![text],
            Fencing::Legacy => {
                self.notes.push(text);
                Vec::new()
            }
        }
    }

    /// What is known before it happens.
    pub(crate) fn note(&mut self, note: String) {
        (self.watch)(Progress::Note(&note));
        self.notes.push(note);
    }

    pub(crate) fn phase(&mut self, what: &str) {
        (self.watch)(Progress::Phase(what));
    }

    /// The load goes on for a while.
    pub(crate) fn go_on(&mut self, time: Duration) {
        let until = now() + time;
        while now() < until {
            self.turn(until);
        }
    }

    /// The load goes on until `is_so`.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        is_so: impl Fn(&Self) -> bool,
    ) -> Result<(), Trouble> {
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
        while let Ok(event) = self.stage.host_events().try_recv() {
            news.push((event.at, Side::Host, event.kind.to_string()));
            if self.broken && matches!(event.kind, EventKind::Lost { .. }) {
                self.driver.lost(event.at);
            }
            self.record.host.push(event);
        }
        news.extend(self.stage.other_side(&mut self.record));
        // Both sides count from one clock.
        news.sort_by_key(|(at, ..)| *at);
        for (at, side, text) in news {
            self.happened(at, side, text);
        }
    }

    pub(crate) fn happened(&mut self, at: Instant, side: Side, text: String) {
        if side == Side::Drill {
            self.marks.push(Mark { at_ns: at.as_nanos(), text: text.clone() });
        }
        (self.watch)(Progress::Happened { after: at - self.started, side, text });
    }
}

//! The runner for foreign targets: the phases are those of the embedded drill, the faults are the network's.

use crate::course::{self, Course, Phases, Scene, Trouble};
use crate::evidence::{Fencing, Record};
use crate::foreign::evidence::NetLog;
use crate::foreign::ground::Found;
use crate::foreign::stage::{GIVEN_UP_AFTER, Stage, gives_up_early};
use crate::foreign::{Consent, Foreign, words};
use crate::load::Feed;
use crate::proxy::Fault;
use crate::receipts::Paths;
use crate::report::Outcome;
use crate::run::{Options, PACE, Plan, Progress, SHORTLY, Side, WARM_UP};
use crate::scenario::Break;
use interlock_base::Instant;
use interlock_check::MIN_IN_DOUBT;
use interlock_host::{ControllerSpec, Event, Host, Namespace};
use interlock_ring::now;
use std::sync::mpsc::Receiver;
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
    let set = || Stage::set(plan.scenario, plan.fencing, foreign, found, options);
    let phases = Phases {
        play: |run: &mut Run<'_>| run.steps(),
        read_back: READ_BACK_WITHIN,
        promises: |run: &mut Run<'_>| run.no_failures(),
        last: match foreign.consent {
            Consent::Blank => |run: &mut Run<'_>| run.clean(),
            Consent::Destroy => |_: &mut Run<'_>| {},
        },
    };
    course::play(plan, options, set, |_| found.ground, &phases, watch)
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
        while let Ok(stamped) = self.proxy.events().try_recv() {
            news.push((stamped.at, Side::Network, words::event(&stamped.event)));
            if let Some(network) = &mut record.network {
                network.push(stamped);
            }
        }
        news
    }

    fn network_log(&self) -> Option<NetLog> {
        Some(NetLog::default())
    }

    fn paths(&self) -> &Paths {
        &self.paths
    }

    fn strike(self) -> Vec<String> {
        Self::strike(self)
    }
}

type Run<'a> = Course<'a, Stage>;

impl Run<'_> {
    fn steps(&mut self) -> Result<(), Trouble> {
        let hold = self.foretell();
        self.phase("verified load");
        self.driver.feed(Feed::Mixed);
        self.go_on(WARM_UP);
        self.phase("the network holds writes back");
        self.driver.feed(Feed::Paced(PACE));
        self.inject(Fault::Hold { path: A });
        self.wait_for("the network to hold writes back", SHORTLY, |run| run.network().held() >= HELD_MIN)?;
        self.break_path();
        self.phase("the loss is noticed");
        self.wait_for("the loss to be noticed", SHORTLY, |run| run.record.condemned().count() > 0)?;
        self.move_over(hold, self.stage.paths.len() + 1)?;
        self.stop_load()?;
        self.let_ghosts_try();
        Ok(())
    }

    /// People want to know beforehand how long it takes. Gives the longest that the fence may take.
    fn foretell(&mut self) -> Duration {
        let Some((worst, facts)) = self.stage.worst() else { return SHORTLY };
        let detect = match self.plan.scenario.breaks {
            Break::Silent if gives_up_early(self.plan.scenario, self.plan.fencing) => GIVEN_UP_AFTER,
            Break::Silent => worst.detect.unwrap_or_default(),
            Break::Reset | Break::LastPath { .. } => Duration::ZERO,
        };
        let hold = worst.hold.unwrap_or_default();
        let kato = facts.kato_in_force().as_millis();
        let note = match self.plan.fencing {
            Fencing::Legacy => format!(
                "predicted: KATO is {kato} ms, the loss is noticed within {} ms, and nothing is waited for",
                detect.as_millis()
            ),
            Fencing::Strict if facts.can_reset() => format!(
                "predicted: KATO is {kato} ms, the loss is noticed within {} ms; the target offers cross-controller \
                 reset, without it the fence takes {} ms",
                detect.as_millis(),
                hold.as_millis()
            ),
            Fencing::Strict => format!(
                "predicted: KATO is {kato} ms, the loss is noticed within {} ms, the fence by time takes {} ms{}",
                detect.as_millis(),
                hold.as_millis(),
                if worst.assumed { " (with an assumed quiesce time)" } else { "" }
            ),
        };
        self.note(note);
        detect + worst.stop + hold + SLACK
    }

    fn break_path(&mut self) {
        self.breaks();
        match self.plan.scenario.breaks {
            Break::Reset | Break::LastPath { .. } => self.inject(Fault::Reset { path: A }),
            Break::Silent => self.inject(Fault::Mute { path: A }),
        }
        self.driver.feed(Feed::Mixed);
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

    fn inject(&mut self, fault: Fault) {
        self.happened(now(), Side::Drill, words::fault(fault));
        self.stage.proxy.inject(fault);
    }
}

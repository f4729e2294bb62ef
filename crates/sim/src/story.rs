//! What happened in a run, told so that a person can follow it: when, who, what, and which life.
//!
//! A trace has everything and is read by nobody. A story has what was asked and answered, what broke, who was lost,
//! fenced and released, and what took effect on the media. Lives have one name on both sides, requests a number.

use crate::chaos::Act;
use crate::checkers::Seen;
use crate::peer::{Bend, Subject};
use crate::world::{Machine, Phase, Violation, World};
use interlock_base::Instant;
use interlock_check::{OpId, OpKind};
use interlock_host_core as host;
use interlock_target_core as target;
use interlock_target_core::Fault;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    at: Instant,
    who: &'static str,
    what: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.as_nanos() / 1000;
        write!(f, "{:>6}.{:03} ms  {:<9}{}", micros / 1000, micros % 1000, self.who, self.what)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<Line>,
    /// Requests by the order in which they came.
    names: BTreeMap<u64, usize>,
    /// Lives of which something is in doubt.
    doubtful: BTreeSet<host::LifeId>,
}

impl Lines {
    /// The story up to the effect that was wrong, if it was one: oracles that read the target's log judge at the end.
    pub(crate) fn lines(mut self, violation: Option<&Violation>) -> Vec<Line> {
        if violation.is_some_and(|found| found.invariant == "no_stale_write_after_failover")
            && let Some(last) = self.lines.iter().rposition(|line| line.who == "media")
        {
            self.lines.truncate(last + 1);
        }
        self.lines
    }

    /// Requests by the names they have in the story.
    pub(crate) fn renamed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (id, number) in &self.names {
            for old in [format!("#{id} "), format!("#{id:x} ")] {
                text = text.replace(&old, &format!("\u{1}{number} "));
            }
        }
        text.replace('\u{1}', "#")
    }
}

fn port_name(port: usize) -> char {
    char::from(b'A' + port as u8)
}

impl World {
    fn say(&mut self, who: &'static str, what: String) {
        let at = self.now;
        if let Some(story) = &mut self.story {
            story.lines.push(Line { at, who, what });
        }
    }

    /// A request: its number, and what it does.
    fn request(&mut self, op: OpId) -> String {
        let known = self.app.asked.get(&op.0).map(|asked| asked.op);
        let Some(story) = &mut self.story else { return String::new() };
        let next = story.names.len() + 1;
        let number = *story.names.entry(op.0).or_insert(next);
        match known {
            Some(known) if known.kind == OpKind::Flush => format!("#{number} (flush)"),
            Some(known) => {
                let (from, to) = (known.range().start, known.range().end - 1);
                let blocks = if from == to { format!("{from}") } else { format!("{from} to {to}") };
                format!("#{number} ({} LBA {blocks})", known.kind.name())
            }
            None => format!("#{number}"),
        }
    }

    /// What is wrong, with the names of the story.
    pub(crate) fn retold(&self, violation: Violation) -> Violation {
        let Some(story) = &self.story else { return violation };
        let mut text = story.renamed(&violation.text);
        for (name, life) in self.app.host_names() {
            let old = format!("life {}/{:02x}/{:016x}", life.cntlid, life.ciu, life.cirn);
            text = text.replace(&old, &name.to_string());
        }
        Violation { text, ..violation }
    }

    /// A life of the target, by the name that the host gave it.
    fn life_name(&self, life: target::Life) -> String {
        match self.app.host_name(life) {
            Some(name) => name.to_string(),
            None => format!("a life of controller {:#06x} that the host does not know", life.cntlid),
        }
    }

    /// Tells what was seen, if it is part of the story.
    pub(crate) fn tell(&mut self, seen: &Seen<'_>) {
        if self.phase == Phase::Starting && !matches!(seen, Seen::Host(host::EventKind::LifeBegan { .. })) {
            return;
        }
        match seen {
            Seen::Accepted { op, key, .. } => {
                let text = self.request(*op);
                if self.app.asked.get(&op.0).is_some_and(|asked| asked.door != usize::from(key.lane)) {
                    self.say("host", format!("lane{} carries {text} out for another lane", key.lane));
                } else {
                    self.say("app", format!("asks for {text} on lane{}", key.lane));
                }
            }
            Seen::Abandoned { op, .. } => {
                let text = self.request(*op);
                self.say("app", format!("gives {text} up"));
            }
            Seen::Done { op, outcome, .. } => {
                let text = self.request(*op);
                let how = match outcome {
                    host::Outcome::Ok => "is told that all is well".to_owned(),
                    host::Outcome::Failed(status) => format!("is told that it failed: {status}"),
                    host::Outcome::NotSent(why) => format!("is told that it was not sent: {why:?}"),
                    host::Outcome::Indeterminate { until } => match until {
                        Some(at) => format!("is told that it may still happen, until {at}"),
                        None => "is told that it may still happen".to_owned(),
                    },
                    host::Outcome::CacheLost { life } => {
                        format!("is told that answered writes may be lost with the cache of {life}")
                    }
                    host::Outcome::Poison { instances } => {
                        format!("is told that it failed, because {instances} instances were lost with it")
                    }
                    host::Outcome::OutcomeUnknown => {
                        "is told that it may have happened, and cannot any more".to_owned()
                    }
                };
                self.say("app", format!("{how}: {text}"));
            }
            Seen::Executed { op, range, life, .. } => {
                let text = match op {
                    Some(op) => self.request(*op),
                    None => format!("zeroes for LBA {} to {}", range.start, range.end - 1),
                };
                let life = self.life_name(*life);
                self.say("media", format!("{text} takes effect, through {life}"));
            }
            Seen::Host(event) => self.tell_host(event),
            Seen::Target(event) => self.tell_target(event),
            Seen::ControlTook(lane, host::ToControl::Condemned { life, ledger, .. }) if !ledger.is_empty() => {
                if let Some(story) = &mut self.story {
                    story.doubtful.insert(*life);
                }
                self.say("host", format!("lane{lane} has {} in doubt on {life}", ledger.len()));
            }
            Seen::LaneTook(lane, host::ToLane::Settle { life, release })
                if self.story.as_ref().is_some_and(|story| story.doubtful.contains(life)) =>
            {
                let how = match release {
                    host::Release::Retry => "may retry what it holds of",
                    host::Release::Indeterminate { .. } => "gives up what it holds of",
                };
                self.say("host", format!("lane{lane} {how} {life}"));
            }
            Seen::TargetCrashed => self.say("target", "was switched off and on".to_owned()),
            _ => {}
        }
    }

    fn tell_host(&mut self, event: &host::EventKind) {
        use host::EventKind as Kind;
        let chatter = matches!(
            event,
            Kind::ReconnectAttempt { .. }
                | Kind::NamespaceAdded { .. }
                | Kind::FirstGood { .. }
                | Kind::SettingChanged { .. }
                | Kind::Reconnected { .. }
                | Kind::ConnectFailed { .. }
                | Kind::ControllerState { from: host::StateName::Waiting, .. }
                | Kind::ControllerState { to: host::StateName::Waiting, .. }
        );
        if !chatter {
            self.say("host", event.to_string());
        }
    }

    fn tell_target(&mut self, event: &target::Event) {
        use target::Event as Kind;
        let ghost = |world: &Self, ghost: &target::Ghost| {
            format!("a {:?} of LBA {} that came through {}", ghost.change, ghost.slba, world.life_name(ghost.life))
        };
        let text = match event {
            Kind::Lost { life, why } => format!("notices that {} is lost ({why:?})", self.life_name(*life)),
            Kind::CcrReceived { source, icid, held, .. } => {
                format!("controller {source:#06x} is asked to reset {icid:#06x}, which holds {held} writes")
            }
            Kind::CcrAnswered { source, icid, status, immediate } => {
                let immediate = if *immediate { ", immediate" } else { "" };
                format!("controller {source:#06x} answers for {icid:#06x}: {status}{immediate}")
            }
            Kind::Fenced { life, by, cancelled } => {
                format!(
                    "{} can change nothing any more ({by:?}); {cancelled} held writes were cancelled",
                    self.life_name(*life)
                )
            }
            Kind::GhostArmed(of) => format!("still holds {}, whose connection is gone: a ghost", ghost(self, of)),
            Kind::GhostExecuted(of) => format!("lets the ghost go on: {}", ghost(self, of)),
            Kind::GhostRefused { ghost: of, by } => format!("stops the ghost ({by:?}): {}", ghost(self, of)),
            _ => return,
        };
        self.say("target", text);
    }

    /// An admin command is answered badly.
    pub(crate) fn tell_bend(&mut self, subject: Subject, bend: Bend) {
        if self.story.is_some() {
            self.say("target", format!("{}: {}", subject.words(), bend.words()));
        }
    }

    /// Something is about to go wrong.
    pub(crate) fn tell_act(&mut self, act: &Act) {
        if self.story.is_none() {
            return;
        }
        let (who, what) = words(act);
        self.say(who, what);
    }
}

fn words(act: &Act) -> (&'static str, String) {
    let path = |port: usize| format!("path {}", port_name(port));
    match *act {
        Act::Script(fault) => ("target", fault_words(fault)),
        Act::Rst { port, host, target } => {
            let who = match (host, target) {
                (true, true) => "both ends hear of it",
                (true, false) => "only the host hears of it",
                _ => "only the target hears of it",
            };
            ("network", format!("{}: every connection is reset, and {who}", path(port)))
        }
        Act::RstAdmin { port } => ("network", format!("{}: the admin connection is reset at the host", path(port))),
        Act::Silence { port, to_target, to_host } => {
            let what = match (to_target, to_host) {
                (true, true) => "nothing arrives any more, either way",
                (true, false) => "nothing arrives at the target any more",
                (false, true) => "nothing arrives at the host any more",
                (false, false) => "everything arrives again",
            };
            ("network", format!("{}: {what}", path(port)))
        }
        Act::Drip { port } => ("network", format!("{}: one segment of each connection gets through", path(port))),
        Act::Limbo { port, extra } if extra.is_zero() => {
            ("network", format!("{}: nothing lingers any more", path(port)))
        }
        Act::Limbo { port, extra } => {
            ("network", format!("{}: what goes to the target lingers for {} ms", path(port), extra.as_millis()))
        }
        Act::SlowMedia(true) => ("media", "everything takes as long as it may".to_owned()),
        Act::MediaErrors(true) => ("media", "operations fail now and then".to_owned()),
        Act::MediaErrors(false) => ("media", "nothing fails any more".to_owned()),
        Act::SlowMedia(false) => ("media", "everything is fast again".to_owned()),
        Act::Reset(port) => ("operator", format!("resets the controllers of {}", path(port))),
        Act::Disconnect(port) => ("operator", format!("disconnects {}", path(port))),
        Act::Connect(port) => ("operator", format!("connects {}", path(port))),
        Act::Stall { machine, span } => {
            let who = match machine {
                Machine::HostControl => "control".to_owned(),
                Machine::HostLane(lane) => format!("lane{lane}"),
                other => format!("{other:?}"),
            };
            ("host", format!("{who} hangs for {} ms", span.as_millis()))
        }
        Act::Mail { us } => ("host", format!("messages between control and lanes take up to {us} us")),
        Act::Burst(requests) => ("app", format!("asks for {requests} things at once")),
        Act::Crash { power, .. } => {
            ("host", if power { "its machine loses power" } else { "its process is killed" }.to_owned())
        }
        Act::BadHour(Some(_)) => ("target", "answers admin commands badly from now on".to_owned()),
        Act::BadHour(None) => ("target", "answers admin commands as it should again".to_owned()),
        Act::KillSources(kill) => {
            let what = if kill { "whoever is asked to reset a life dies soon" } else { "sources die no more" };
            ("network", what.to_owned())
        }
        ref other => ("fault", format!("{other:?}")),
    }
}

fn fault_words(fault: Fault) -> String {
    let through = |port: target::PortId| format!("path {}", port_name(usize::from(port.0)));
    match fault {
        Fault::HoldWrites { port } => format!("writes that come through {} stall inside", through(port)),
        Fault::StopHolding { port } => format!("new writes through {} do not stall any more", through(port)),
        Fault::Release => "goes on with every write it holds".to_owned(),
        Fault::Delay { port, ms: 0 } => format!("commands through {} are fast again", through(port)),
        Fault::Delay { port, ms } => format!("commands through {} stall for {ms} ms", through(port)),
        Fault::Drop { port } => format!("commands through {} vanish", through(port)),
        Fault::CrashOn { port, nsid, lba } => {
            format!("dies of commands through {} for LBA {lba} of namespace {nsid}", through(port))
        }
        Fault::FailIo { port, status } if status.is_success() => {
            format!("commands through {} succeed again", through(port))
        }
        Fault::FailIo { port, status } => format!("answers commands through {} with {status}", through(port)),
        Fault::Mute { port } => format!("says and hears nothing on {} any more", through(port)),
        Fault::Unmute { port } => format!("speaks on {} again", through(port)),
        Fault::ResetConnections { port } => format!("resets every connection of {}", through(port)),
        Fault::ClosePort { port } => format!("closes the port of {}", through(port)),
        Fault::OpenPort { port } => format!("opens the port of {} again", through(port)),
        Fault::CcrRefuse(status) => format!("refuses every reset: {status}"),
        Fault::CcrLate { ms } => format!("reports resets {ms} ms late"),
        Fault::CcrLoseEvent => "loses the events of resets".to_owned(),
        Fault::RepeatEvent => "tells every controller's last event once more".to_owned(),
        Fault::CcrStaleEntry => "has an entry of an earlier life in every log of resets".to_owned(),
        Fault::CcrKeepEntries => "keeps every entry in its logs of resets".to_owned(),
        Fault::CcrFail => "accepts resets that come to nothing".to_owned(),
        Fault::SlowDrain { ms } => format!("goes on for {ms} ms after a reset was asked for"),
        Fault::RdyBeforeDrained => "says that it is disabled before it has drained".to_owned(),
        Fault::Clear => "everything that was scripted ends".to_owned(),
    }
}

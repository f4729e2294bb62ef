//! Events of the host in the words of `api`: one translation for log, journal, stream and drill.
//!
//! The host tells of lives and heads by number, and of instants that mean nothing outside this process. A [`Teller`]
//! remembers whose they are, and says spans instead, so that a line can be understood on its own, years later.

use super::{detected, life, method, path, receipt, suspect, whole_millis};
use interlock_api::{self as api, ControllerState, Level, What};
use interlock_host_core::poison::{Stage, SuspectCommand};
use interlock_host_core::stall::worst_stall;
use interlock_host_core::{
    AnaState, ConnectFailure, ControllerSpec, CtrlId, Event, EventKind, FencePolicy, HeadId, LifeFacts, LifeId,
    Setting, Shape, StateName,
};
use interlock_wire::status::Status;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Lives whose controller is remembered.
const LIVES: usize = 8_192;
/// Namespaces that are gone and whose names are remembered.
const GONE: usize = 4_096;

/// What is said of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// How loud.
    pub level: Level,
    /// The controller that it concerns.
    pub controller: Option<CtrlId>,
    /// Its subsystem.
    pub subsystem: Option<String>,
    /// Its life.
    pub life: Option<LifeId>,
    /// What happened.
    pub what: What,
    /// The same in words, the controller first.
    pub text: String,
}

/// Remembers what events refer to.
#[derive(Clone, Debug, Default)]
pub struct Teller {
    specs: BTreeMap<CtrlId, ControllerSpec>,
    owners: BTreeMap<LifeId, CtrlId>,
    heads: BTreeMap<HeadId, (String, u32)>,
    /// Namespaces that are gone, the oldest first; their names are still told for a while.
    gone: VecDeque<HeadId>,
}

impl Teller {
    /// A controller that is to be connected so.
    pub fn name_controller(&mut self, ctrl: CtrlId, spec: ControllerSpec) {
        self.specs.insert(ctrl, spec);
    }

    /// A life, for instance of an earlier process.
    pub fn name_life(&mut self, life: LifeId, ctrl: CtrlId) {
        if self.owners.len() >= LIVES {
            self.owners.pop_first();
        }
        self.owners.insert(life, ctrl);
    }

    /// How a namespace is called. Without that it is said as `head3`.
    pub fn name_head(&mut self, head: HeadId, name: String) {
        self.heads.entry(head).or_default().0 = name;
    }

    /// Something happened.
    pub fn tell(&mut self, event: &Event) -> Said {
        self.learn(&event.kind);
        let (of_kind, life) = concerns(&event.kind);
        let controller = of_kind.or_else(|| life.and_then(|life| self.owners.get(&life).copied()));
        Said {
            level: level(&event.kind),
            controller,
            subsystem: self.subsystem(&event.kind, controller),
            life,
            what: self.what(event),
            text: self.words(event, controller),
        }
    }

    fn learn(&mut self, kind: &EventKind) {
        match kind {
            EventKind::LifeBegan { life, ctrl, .. }
            | EventKind::Lost { life, ctrl, .. }
            | EventKind::PredecessorFound { life, ctrl, .. } => self.name_life(*life, *ctrl),
            EventKind::NamespaceAdded { head, shape, .. } => {
                self.heads.entry(*head).or_insert_with(|| (head.to_string(), 0)).1 = shape.block_size;
                self.gone.retain(|gone| gone != head);
            }
            EventKind::NamespaceRemoved { head } => {
                self.gone.push_back(*head);
                if self.gone.len() > GONE
                    && let Some(oldest) = self.gone.pop_front()
                {
                    self.heads.remove(&oldest);
                }
            }
            EventKind::SettingChanged { ctrl, setting } => {
                let Some(spec) = self.specs.get_mut(ctrl) else { return };
                match *setting {
                    Setting::ReconnectDelay(delay) => spec.reconnect.delay = delay,
                    Setting::CtrlLossTmo(limit) => spec.reconnect.ctrl_loss = limit,
                    Setting::FastIoFailTmo(limit) => spec.reconnect.fast_io_fail = limit,
                    Setting::IoPolicy(policy) => spec.iopolicy = policy,
                    Setting::FencePolicy(policy) => spec.fence = policy,
                    Setting::OnLoss(policy) => spec.on_loss = policy,
                    Setting::ClockSlew(permille) => spec.timeouts.clock_slew_permille = permille,
                    Setting::AssumedCqt(span) => spec.timeouts.assumed_cqt = span,
                }
            }
            _ => {}
        }
    }

    fn subsystem(&self, kind: &EventKind, controller: Option<CtrlId>) -> Option<String> {
        match kind {
            EventKind::Fenced(receipt) => Some(receipt.subnqn.to_string()),
            EventKind::PredecessorFound { subnqn, .. } => Some(subnqn.to_string()),
            _ => controller.and_then(|ctrl| self.specs.get(&ctrl)).map(|spec| spec.subnqn.to_string()),
        }
    }

    fn head(&self, head: HeadId) -> String {
        self.heads.get(&head).map_or_else(|| head.to_string(), |(name, _)| name.clone())
    }

    fn connected(&self, ctrl: CtrlId, facts: &LifeFacts, queues: u16) -> What {
        let spec = self.specs.get(&ctrl);
        What::Connected {
            identity: life(facts.identity),
            path: spec.map_or_else(|| path(None), address),
            io_queues: queues,
            kato_ms: whole_millis(facts.kato_in_force()),
            cqt_ms: facts.cqt.value().copied().map(whole_millis),
            ccr: facts.offers_ccr(),
            fence: match spec.map(|spec| spec.fence).unwrap_or_default() {
                FencePolicy::Strict => api::FencePolicy::Strict,
                FencePolicy::Legacy => api::FencePolicy::Legacy,
            },
            predicted: predicted(spec, facts),
        }
    }

    fn what(&self, event: &Event) -> What {
        use EventKind as K;
        let since = |at: interlock_base::Instant| whole_millis(event.at.since(at));
        let until = |at: interlock_base::Instant| whole_millis(at.since(event.at));
        match &event.kind {
            K::ControllerState { from, to, why, .. } => {
                What::ControllerState { from: state(*from), to: state(*to), reason: why.clone() }
            }
            K::TransitionRefused { from, to, .. } => What::TransitionRefused { from: state(*from), to: state(*to) },
            K::LifeBegan { ctrl, facts, queues, .. } => self.connected(*ctrl, facts, *queues),
            K::Lost { how, .. } => What::Lost { how: detected(how), reason: how.to_string() },
            K::Slow { since: at, .. } => What::Slow { oldest_ms: since(*at) },
            K::NoLongerSlow { .. } => What::NoLongerSlow,
            K::Condemned { in_doubt, settled, oldest, .. } => What::Condemned {
                in_doubt: *in_doubt as u64,
                settled: *settled as u64,
                oldest_ms: oldest.map(whole_millis),
            },
            K::CacheLost { .. } => What::CacheLost,
            K::LaneSilent { lanes, .. } => What::LaneSilent { lanes: lanes.len() as u64 },
            K::CcrSent { source, .. } => What::CcrSent { source: source.to_string() },
            K::CcrAnswered { source, status, immediate, .. } => answered(source.to_string(), *status, *immediate),
            K::StaleEntry { source, .. } => What::CcrStaleEntry { source: source.to_string() },
            K::HoldUntil { t0, deadline, assumed, .. } => What::HoldStarted {
                t0_ns: t0.as_nanos(),
                hold_ms: deadline.map(|at| whole_millis(at.since(*t0))),
                assumed: *assumed,
            },
            K::Fenced(proof) => What::Fenced { receipt: Box::new(receipt(proof)) },
            K::NothingInDoubt { answered_late, .. } => What::NothingInDoubt { answered_late: *answered_late as u64 },
            K::Released { commands, .. } => What::Released { commands: *commands as u64 },
            K::Late { counted: true, .. } => What::LateCompletion { decision: api::LateDecision::Answered },
            K::Late { counted: false, .. } => What::LateCompletion { decision: api::LateDecision::Dropped },
            K::TombstoneSet { in_doubt, until: at, .. } => {
                What::TombstoneLeft { in_doubt: *in_doubt as u64, left_ms: at.map(until) }
            }
            K::Suspect { command, stage } => self.suspect(command, *stage),
            K::TombstoneEnded { method: by, .. } => What::TombstoneEnded { method: method(*by) },
            K::PredecessorFound { identity, .. } => What::PredecessorFound { identity: life(*identity) },
            K::PredecessorLingers { .. } => What::PredecessorLingers,
            K::OwnerUnconfirmed { .. } => What::OwnerUnconfirmed,
            K::StoreRefused { .. } => What::Note { topic: "store-refused".into() },
            K::Disowned { why } => What::Disowned { reason: why.clone() },
            K::ReconnectWanted { since: at, .. } => What::ReconnectWanted { lost_for_ms: since(*at) },
            K::SettingChanged { setting, .. } => What::SettingChanged { setting: setting.to_string() },
            K::ReconnectAttempt { attempt, max, .. } => {
                What::ReconnectAttempt { attempt: u64::from(*attempt), max_attempts: max.map(u64::from) }
            }
            K::ConnectFailed { attempt, kind, why, next, .. } => What::ReconnectFailed {
                attempt: u64::from(*attempt),
                kind: Some(connect_failure(*kind)),
                error: why.clone(),
                next_ms: next.map(until),
            },
            K::Reconnected { attempt, max, after, .. } => What::Reconnected {
                attempt: u64::from(*attempt),
                max_attempts: max.map(u64::from),
                after_ms: whole_millis(*after),
            },
            K::FastIoFail { .. } => What::FastIoFail,
            K::GivenUp { why, .. } => What::GivenUp { reason: why.clone() },
            K::AnaUnread { .. } => What::Note { topic: "ana-unread".into() },
            K::EventStorm { .. } => What::Note { topic: "event-storm".into() },
            K::PathRefused { nsid, why, .. } => What::PathRefused { nsid: *nsid, reason: why.clone() },
            K::NamespaceAdded { head, nsid, shape } => {
                What::NamespaceAdded { namespace: self.head(*head), nsid: *nsid, size_bytes: size(shape) }
            }
            K::NamespaceRemoved { head } => What::NamespaceRemoved { namespace: self.head(*head) },
            K::NamespaceResized { head, from, to } => {
                What::NamespaceResized { namespace: self.head(*head), from_bytes: size(from), to_bytes: size(to) }
            }
            K::AnaChanged { head, to, .. } => What::AnaChange { namespace: self.head(*head), to: ana(*to) },
            K::ReservationConflict { head, status, commands, .. } => What::ReservationConflict {
                namespace: self.head(*head),
                status: status_code(*status),
                commands: *commands,
            },
            K::FirstGood { .. } => What::FirstGood,
            K::ShutDown => What::ShutDown,
        }
    }

    fn suspect(&self, command: &SuspectCommand, stage: Stage) -> What {
        What::SuspectCommand {
            namespace: self.head(command.head),
            suspect: suspect(command),
            stage: match stage {
                Stage::Suspected => api::SuspectStage::Suspected,
                Stage::Alone(_) => api::SuspectStage::Alone,
                Stage::Cleared => api::SuspectStage::Cleared,
                Stage::Waits(_) => api::SuspectStage::Waits,
                Stage::Failed => api::SuspectStage::Failed,
            },
        }
    }

    /// The event in words, its controller first, times as spans.
    fn words(&self, event: &Event, controller: Option<CtrlId>) -> String {
        let text = match &event.kind {
            EventKind::ConnectFailed { attempt, why, next, .. } => {
                let next = next.map_or_else(String::new, |at| {
                    format!("; Reconnecting in {} seconds...", at.since(event.at).as_secs_f64().round())
                });
                format!("Failed reconnect attempt {attempt}: {why}{next}")
            }
            EventKind::HoldUntil { life, deadline, assumed, .. } => match deadline {
                Some(at) => format!(
                    "{life}: time-based recovery, timeout = {}ms{}",
                    at.since(event.at).as_millis(),
                    if *assumed { " (assumed)" } else { "" }
                ),
                None => format!("{life}: no time bound, KATO is 0"),
            },
            EventKind::ReconnectWanted { .. } => "lost, and asks to be reconnected (`interlock reconnect`)".into(),
            EventKind::Slow { since, .. } => {
                format!("I/O unanswered for {} ms: slow, avoided, not reset", event.at.since(*since).as_millis())
            }
            other => other.to_string(),
        };
        let text = match head(&event.kind).and_then(|head| Some((head, self.heads.get(&head)?))) {
            Some((head, (name, _))) => text.replacen(&head.to_string(), name, 1),
            None => text,
        };
        match controller.map(|ctrl| ctrl.to_string()) {
            Some(ctrl) if !text.starts_with(&format!("{ctrl}:")) => format!("{ctrl}: {text}"),
            _ => text,
        }
    }
}

fn address(spec: &ControllerSpec) -> api::PathAddress {
    let numeric = spec.traddr.parse().map(|ip| path(Some(SocketAddr::new(ip, spec.trsvcid))));
    numeric.unwrap_or_else(|_| api::PathAddress::tcp(&spec.traddr, spec.trsvcid))
}

/// What `doctor` says beforehand. Of a controller that nobody named nothing is known but what it says itself.
fn predicted(spec: Option<&ControllerSpec>, facts: &LifeFacts) -> api::Predicted {
    let Some(spec) = spec else {
        return api::Predicted {
            detect_ms: None,
            stop_ms: 0,
            hold_ms: None,
            assumed: false,
            reconnect_ms: 0,
            settled_fails_ms: None,
        };
    };
    let worst = worst_stall(spec, facts);
    api::Predicted {
        detect_ms: worst.detect.map(whole_millis),
        stop_ms: whole_millis(worst.stop),
        hold_ms: worst.hold.map(whole_millis),
        assumed: worst.assumed,
        reconnect_ms: whole_millis(spec.timeouts.connect_total),
        settled_fails_ms: worst.settled_fails_after.map(whole_millis),
    }
}

fn answered(source: String, status: Status, immediate: bool) -> What {
    let answer = match (status.is_success(), immediate) {
        (true, true) => api::CcrAnswer::Immediate,
        (true, false) => api::CcrAnswer::Accepted,
        (false, _) => api::CcrAnswer::Refused,
    };
    let refused = !status.is_success();
    What::CcrAnswered { source, answer, status: refused.then(|| status_code(status)) }
}

fn status_code(status: Status) -> api::StatusCode {
    api::StatusCode { code: status.code(), dnr: status.dnr(), text: status.to_string() }
}

fn size(shape: &Shape) -> u64 {
    shape.blocks.saturating_mul(shape.block_size.into())
}

/// The state of a controller.
#[must_use]
pub const fn state(state: StateName) -> ControllerState {
    match state {
        StateName::New => ControllerState::New,
        StateName::Connecting => ControllerState::Connecting,
        StateName::Live => ControllerState::Live,
        StateName::Resetting => ControllerState::Resetting,
        StateName::Waiting => ControllerState::Waiting,
        StateName::Deleting => ControllerState::Deleting,
        StateName::Dead => ControllerState::Dead,
    }
}

const fn connect_failure(kind: ConnectFailure) -> api::ConnectFailure {
    match kind {
        ConnectFailure::Name => api::ConnectFailure::Name,
        ConnectFailure::Unreachable => api::ConnectFailure::Unreachable,
        ConnectFailure::Lost => api::ConnectFailure::Lost,
        ConnectFailure::Protocol => api::ConnectFailure::Protocol,
        ConnectFailure::Refused => api::ConnectFailure::Refused,
        ConnectFailure::TimedOut => api::ConnectFailure::TimedOut,
        ConnectFailure::Unsuitable => api::ConnectFailure::Unsuitable,
        ConnectFailure::Record => api::ConnectFailure::Record,
    }
}

const fn ana(state: AnaState) -> api::AnaState {
    match state {
        AnaState::Optimized => api::AnaState::Optimized,
        AnaState::NonOptimized => api::AnaState::NonOptimized,
        AnaState::Inaccessible => api::AnaState::Inaccessible,
        AnaState::PersistentLoss => api::AnaState::PersistentLoss,
        AnaState::Change => api::AnaState::Change,
    }
}

fn level(kind: &EventKind) -> Level {
    use EventKind as K;
    match kind {
        K::LaneSilent { .. }
        | K::CacheLost { .. }
        | K::FastIoFail { .. }
        | K::GivenUp { .. }
        | K::PathRefused { .. }
        | K::OwnerUnconfirmed { .. }
        | K::StoreRefused { .. }
        | K::Disowned { .. } => Level::Error,
        K::Suspect { stage: Stage::Failed, .. } => Level::Error,
        K::Fenced(receipt) if !receipt.method.is_proof() => Level::Error,
        K::Lost { how, .. } if how.is_asked_for() => Level::Info,
        K::ControllerState { to: StateName::Dead, .. }
        | K::TransitionRefused { .. }
        | K::Lost { .. }
        | K::AnaUnread { .. }
        | K::EventStorm { .. }
        | K::ReservationConflict { .. }
        | K::Slow { .. }
        | K::StaleEntry { .. }
        | K::Suspect { stage: Stage::Suspected | Stage::Waits(_), .. }
        | K::HoldUntil { .. }
        | K::TombstoneSet { .. }
        | K::PredecessorFound { .. }
        | K::PredecessorLingers { .. }
        | K::ReconnectWanted { .. }
        | K::ConnectFailed { .. }
        | K::NamespaceRemoved { .. }
        | K::NamespaceResized { .. } => Level::Warn,
        K::ControllerState { .. }
        | K::LifeBegan { .. }
        | K::NoLongerSlow { .. }
        | K::Condemned { .. }
        | K::CcrSent { .. }
        | K::CcrAnswered { .. }
        | K::Fenced(_)
        | K::NothingInDoubt { .. }
        | K::Released { .. }
        | K::Late { .. }
        | K::TombstoneEnded { .. }
        | K::Suspect { .. }
        | K::SettingChanged { .. }
        | K::ReconnectAttempt { .. }
        | K::Reconnected { .. }
        | K::NamespaceAdded { .. }
        | K::AnaChanged { .. }
        | K::FirstGood { .. }
        | K::ShutDown => Level::Info,
    }
}

/// The controller and the life that an event names.
fn concerns(kind: &EventKind) -> (Option<CtrlId>, Option<LifeId>) {
    use EventKind as K;
    match kind {
        K::LifeBegan { ctrl, life, .. }
        | K::Lost { ctrl, life, .. }
        | K::AnaUnread { ctrl, life, .. }
        | K::EventStorm { ctrl, life }
        | K::Slow { ctrl, life, .. }
        | K::NoLongerSlow { ctrl, life }
        | K::Condemned { ctrl, life, .. }
        | K::NothingInDoubt { ctrl, life, .. }
        | K::PredecessorFound { ctrl, life, .. } => (Some(*ctrl), Some(*life)),
        K::Fenced(receipt) => (Some(receipt.ctrl), Some(receipt.life)),
        K::ControllerState { ctrl, .. }
        | K::TransitionRefused { ctrl, .. }
        | K::ReconnectWanted { ctrl, .. }
        | K::SettingChanged { ctrl, .. }
        | K::ReconnectAttempt { ctrl, .. }
        | K::ConnectFailed { ctrl, .. }
        | K::Reconnected { ctrl, .. }
        | K::FastIoFail { ctrl }
        | K::GivenUp { ctrl, .. }
        | K::PathRefused { ctrl, .. } => (Some(*ctrl), None),
        K::LaneSilent { life, .. }
        | K::CacheLost { life, .. }
        | K::CcrSent { life, .. }
        | K::CcrAnswered { life, .. }
        | K::StaleEntry { life, .. }
        | K::HoldUntil { life, .. }
        | K::Released { life, .. }
        | K::Late { life, .. }
        | K::TombstoneSet { life, .. }
        | K::TombstoneEnded { life, .. }
        | K::PredecessorLingers { life }
        | K::OwnerUnconfirmed { life }
        | K::StoreRefused { life, .. }
        | K::AnaChanged { life, .. }
        | K::ReservationConflict { life, .. }
        | K::FirstGood { life } => (None, Some(*life)),
        K::Suspect { stage: Stage::Alone(life), .. } => (None, Some(*life)),
        K::Suspect { .. }
        | K::Disowned { .. }
        | K::NamespaceAdded { .. }
        | K::NamespaceRemoved { .. }
        | K::NamespaceResized { .. }
        | K::ShutDown => (None, None),
    }
}

fn head(kind: &EventKind) -> Option<HeadId> {
    use EventKind as K;
    match kind {
        K::NamespaceAdded { head, .. }
        | K::NamespaceRemoved { head }
        | K::NamespaceResized { head, .. }
        | K::CacheLost { head, .. }
        | K::ReservationConflict { head, .. }
        | K::AnaChanged { head, .. } => Some(*head),
        K::Suspect { command, .. } => Some(command.head),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_base::Instant;
    use interlock_host_core::Fact;
    use interlock_wire::nqn::Nqn;
    use std::time::Duration;

    fn teller() -> Teller {
        let mut teller = Teller::default();
        let nqn = Nqn::new("nqn.2014-08.org.example:s").expect("valid");
        teller.name_controller(CtrlId(1), ControllerSpec::new("192.0.2.1", 4420, nqn));
        teller.name_head(HeadId(3), "nvme0n1".into());
        teller.name_life(LifeId(4), CtrlId(1));
        teller
    }

    fn said(kind: EventKind) -> Said {
        teller().tell(&Event { at: Instant::from_millis(1_000), kind })
    }

    #[test]
    fn lines_begin_with_their_controller_and_have_the_words_people_search_for() {
        let ms = Instant::from_millis;
        let hold = EventKind::HoldUntil { life: LifeId(4), t0: ms(1_000), deadline: Some(ms(16_000)), assumed: false };
        let failed = EventKind::ConnectFailed {
            ctrl: CtrlId(0),
            attempt: 2,
            kind: ConnectFailure::Unreachable,
            why: "refused".into(),
            permanent: false,
            next: Some(ms(11_000)),
        };
        let again = EventKind::Reconnected { ctrl: CtrlId(0), attempt: 1, max: Some(60), after: Duration::ZERO };
        for (kind, text) in [
            (failed, "nvme0: Failed reconnect attempt 2: refused; Reconnecting in 10 seconds..."),
            (hold, "nvme1: life4: time-based recovery, timeout = 15000ms"),
            (
                EventKind::CcrSent { life: LifeId(4), source: CtrlId(2), source_life: LifeId(9) },
                "nvme1: life4: attempting CCR through nvme2",
            ),
            (EventKind::NamespaceRemoved { head: HeadId(3) }, "nvme0n1: removed"),
            (
                EventKind::ReservationConflict {
                    head: HeadId(3),
                    life: LifeId(4),
                    status: Status::RESERVATION_CONFLICT,
                    commands: 37,
                },
                "nvme1: nvme0n1: Reservation Conflict (083h) on life4: another host holds a reservation of the namespace; \
                 37 commands have failed since the last report",
            ),
            (again, "nvme0: Successfully reconnected (attempt 1/60)"),
        ] {
            assert_eq!(said(kind).text, text);
        }
    }

    #[test]
    fn a_life_is_told_with_its_controller_its_subsystem_and_spans() {
        let ms = Instant::from_millis;
        let hold = said(EventKind::HoldUntil { life: LifeId(4), t0: ms(990), deadline: None, assumed: true });
        assert_eq!((hold.controller, hold.life), (Some(CtrlId(1)), Some(LifeId(4))));
        assert_eq!(hold.subsystem.as_deref(), Some("nqn.2014-08.org.example:s"));
        assert_eq!(hold.what, What::HoldStarted { t0_ns: 990_000_000, hold_ms: None, assumed: true });
        let wanted = said(EventKind::ReconnectWanted { ctrl: CtrlId(1), since: ms(400) });
        assert_eq!((wanted.level, wanted.what), (Level::Warn, What::ReconnectWanted { lost_for_ms: 600 }));
        let stranger = said(EventKind::FirstGood { life: LifeId(77) });
        assert_eq!((stranger.controller, stranger.subsystem), (None, None));
    }

    #[test]
    fn a_new_life_says_what_its_loss_would_cost_with_the_settings_in_force() {
        let mut teller = teller();
        let facts = LifeFacts {
            identity: interlock_host_core::Identity { cntlid: 1, ciu: 1, cirn: 7 },
            uniquifier: Fact::Stated(interlock_host_core::Uniquifier { ciu: 1, cirn: 7 }),
            vs: 0x20300,
            kato: Fact::Stated(Duration::from_secs(5)),
            tbkas: Fact::Stated(()),
            cqt: Fact::NotOffered,
            ccrl: Fact::Stated(4),
            ccr_event: true,
            ana: false,
            anatt: Duration::ZERO,
            io_queues: 1,
            lanes: 1,
            sqsize_max: 127,
            in_capsule: 0,
            max_transfer: u32::MAX,
            vwc: false,
            retry_delays: [Duration::ZERO; 3],
            shutdown: Duration::ZERO,
            serial: Fact::NotOffered,
            model: Fact::NotOffered,
            firmware: String::new(),
        };
        let at = Instant::from_millis(5);
        let began = EventKind::LifeBegan { ctrl: CtrlId(1), life: LifeId(9), facts: Box::new(facts), queues: 2 };
        let predicted_of = |said: Said| match said.what {
            What::Connected { predicted, ccr, fence, path, .. } => (predicted, ccr, fence, path.to_string()),
            other => panic!("{other:?}"),
        };
        let (first, ccr, fence, path) = predicted_of(teller.tell(&Event { at, kind: began.clone() }));
        assert_eq!((first.detect_ms, first.hold_ms, first.assumed), (Some(5_000), Some(22_100), true));
        assert_eq!((ccr, fence, path.as_str()), (true, api::FencePolicy::Strict, "192.0.2.1:4420"));
        let legacy = Setting::FencePolicy(FencePolicy::Legacy);
        teller.tell(&Event { at, kind: EventKind::SettingChanged { ctrl: CtrlId(1), setting: legacy } });
        let (then, _, fence, _) = predicted_of(teller.tell(&Event { at, kind: began }));
        assert_eq!((then.hold_ms, fence), (Some(0), api::FencePolicy::Legacy));
    }
}

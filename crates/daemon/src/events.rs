//! What happens, told: to the log, to whoever listens on the control socket, and to `status`.
//!
//! One line per transition, with the words that people already search their logs for (those of Linux), the controller
//! first. A listener that is too slow learns from the gap in the numbers that it missed something.

use crate::limit::{Limits, Verdict};
use interlock_api::{EventLine, Version};
use interlock_host::{CtrlId, Event, EventKind, HeadId, LifeId, StateName};
use interlock_ring::now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

/// Lines that a listener may be behind, and that a new one may ask for.
pub(crate) const KEPT: usize = 1_024;
/// Lives whose controller is remembered.
const LIVES: usize = 8_192;

/// The state of a controller: since when and why.
#[derive(Clone, Debug)]
pub(crate) struct Since {
    pub(crate) at: interlock_host::Instant,
    pub(crate) why: String,
}

/// What was heard so far.
#[derive(Debug)]
pub(crate) struct Told {
    inner: Mutex<Inner>,
    lines: broadcast::Sender<EventLine>,
}

#[derive(Debug, Default)]
struct Inner {
    seq: u64,
    kept: VecDeque<EventLine>,
    since: BTreeMap<CtrlId, Since>,
    owners: BTreeMap<LifeId, CtrlId>,
    heads: BTreeMap<HeadId, String>,
    limits: Limits,
}

impl Told {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::default(), lines: broadcast::channel(KEPT).0 }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines that are kept, from `after` on, and all that follow.
    pub(crate) fn listen(&self, after: Option<u64>) -> (Vec<EventLine>, broadcast::Receiver<EventLine>) {
        let inner = self.inner();
        let old = inner.kept.iter().filter(|line| after.is_some_and(|after| line.seq > after)).cloned().collect();
        (old, self.lines.subscribe())
    }

    /// Since when a controller is in its state.
    pub(crate) fn since(&self, ctrl: CtrlId) -> Option<Since> {
        self.inner().since.get(&ctrl).cloned()
    }

    /// How a namespace is called.
    pub(crate) fn name_head(&self, head: HeadId, name: String) {
        self.inner().heads.insert(head, name);
    }

    /// A life of an earlier process.
    pub(crate) fn name_life(&self, life: LifeId, ctrl: CtrlId) {
        self.inner().own(life, ctrl);
    }

    /// Something happened.
    pub(crate) fn tell(&self, event: &Event) {
        let mut inner = self.inner();
        if let EventKind::ControllerState { ctrl, why, .. } = &event.kind {
            inner.since.insert(*ctrl, Since { at: event.at, why: why.clone() });
        }
        match &event.kind {
            EventKind::LifeBegan { life, ctrl, .. }
            | EventKind::Lost { life, ctrl, .. }
            | EventKind::PredecessorFound { life, ctrl, .. } => inner.own(*life, *ctrl),
            _ => {}
        }
        let ctrl =
            controller(&event.kind).or_else(|| life(&event.kind).and_then(|life| inner.owners.get(&life).copied()));
        let text = inner.words(event, ctrl);
        let (level, name) = class(&event.kind);
        inner.say(level, name, ctrl, text, &self.lines);
    }

    /// Something else than an event of the host happened.
    pub(crate) fn note(&self, level: Level, name: &str, text: String) {
        self.inner().say(level, name, None, text, &self.lines);
    }
}

impl Inner {
    fn own(&mut self, life: LifeId, ctrl: CtrlId) {
        if self.owners.len() >= LIVES {
            self.owners.pop_first();
        }
        self.owners.insert(life, ctrl);
    }

    fn say(
        &mut self,
        level: Level,
        name: &str,
        ctrl: Option<CtrlId>,
        text: String,
        lines: &broadcast::Sender<EventLine>,
    ) {
        match self.limits.line(ctrl.map(|ctrl| ctrl.0), now().since(interlock_host::Instant::ZERO)) {
            Verdict::Keep => {}
            Verdict::Say(kept) => {
                if kept > 0 {
                    tracing::warn!(
                        "{}{kept} lines were kept back",
                        ctrl.map_or_else(String::new, |id| format!("{id}: "))
                    );
                }
                match level {
                    Level::Info => tracing::info!("{text}"),
                    Level::Warn => tracing::warn!("{text}"),
                    Level::Error => tracing::error!("{text}"),
                }
            }
        }
        self.seq += 1;
        let line = EventLine {
            format_version: Version,
            seq: self.seq,
            unix_ms: unix_ms(),
            level: level.word().into(),
            event: name.into(),
            controller: ctrl.map(|ctrl| ctrl.to_string()),
            text,
        };
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(line.clone());
        // Nobody need listen.
        let _ = lines.send(line);
    }

    /// The event in words, its controller first, times as spans: instants of this process mean nothing to a reader.
    fn words(&self, event: &Event, ctrl: Option<CtrlId>) -> String {
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
            Some((head, name)) => text.replacen(&head.to_string(), name, 1),
            None => text,
        };
        match ctrl.map(|ctrl| ctrl.to_string()) {
            Some(ctrl) if !text.starts_with(&format!("{ctrl}:")) => format!("{ctrl}: {text}"),
            _ => text,
        }
    }
}

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How loud, and its stable word.
fn class(kind: &EventKind) -> (Level, &'static str) {
    use EventKind as K;
    use Level::{Error, Info, Warn};
    match kind {
        K::ControllerState { to: StateName::Dead, .. } => (Warn, "controller-state"),
        K::ControllerState { .. } => (Info, "controller-state"),
        K::TransitionRefused { .. } => (Warn, "transition-refused"),
        K::LifeBegan { .. } => (Info, "connected"),
        K::Lost { how, .. } if how.is_asked_for() => (Info, "lost"),
        K::Lost { .. } => (Warn, "lost"),
        K::Slow { .. } => (Warn, "slow"),
        K::NoLongerSlow { .. } => (Info, "no-longer-slow"),
        K::Condemned { .. } => (Info, "condemned"),
        K::LaneSilent { .. } => (Error, "lane-silent"),
        K::CcrSent { .. } => (Info, "ccr-sent"),
        K::CcrAnswered { .. } => (Info, "ccr-answered"),
        K::StaleEntry { .. } => (Warn, "ccr-stale-entry"),
        K::HoldUntil { .. } => (Warn, "hold-started"),
        K::Fenced(receipt) if receipt.method.is_proof() => (Info, "fenced"),
        K::Fenced(_) => (Error, "fenced"),
        K::NothingInDoubt { .. } => (Info, "nothing-in-doubt"),
        K::Released { .. } => (Info, "released"),
        K::Late { .. } => (Info, "late-completion"),
        K::TombstoneSet { .. } => (Warn, "tombstone-left"),
        K::TombstoneEnded { .. } => (Info, "tombstone-ended"),
        K::PredecessorFound { .. } => (Warn, "predecessor-found"),
        K::PredecessorLingers { .. } => (Warn, "predecessor-lingers"),
        K::ReconnectWanted { .. } => (Warn, "reconnect-wanted"),
        K::SettingChanged { .. } => (Info, "setting-changed"),
        K::ReconnectAttempt { .. } => (Info, "reconnect-attempt"),
        K::ConnectFailed { .. } => (Warn, "reconnect-failed"),
        K::Reconnected { .. } => (Info, "reconnected"),
        K::FastIoFail { .. } => (Error, "fast-io-fail"),
        K::GivenUp { .. } => (Error, "given-up"),
        K::PathRefused { .. } => (Error, "path-refused"),
        K::NamespaceAdded { .. } => (Info, "namespace-added"),
        K::NamespaceRemoved { .. } => (Warn, "namespace-removed"),
        K::NamespaceResized { .. } => (Warn, "namespace-resized"),
        K::AnaChanged { .. } => (Info, "ana-change"),
        K::FirstGood { .. } => (Info, "first-good"),
        K::OwnerUnconfirmed { .. } => (Error, "owner-unconfirmed"),
        K::Disowned { .. } => (Error, "disowned"),
        K::ShutDown => (Info, "shut-down"),
    }
}

fn controller(kind: &EventKind) -> Option<CtrlId> {
    use EventKind as K;
    match kind {
        K::ControllerState { ctrl, .. }
        | K::TransitionRefused { ctrl, .. }
        | K::LifeBegan { ctrl, .. }
        | K::Lost { ctrl, .. }
        | K::Slow { ctrl, .. }
        | K::NoLongerSlow { ctrl, .. }
        | K::Condemned { ctrl, .. }
        | K::NothingInDoubt { ctrl, .. }
        | K::PredecessorFound { ctrl, .. }
        | K::ReconnectWanted { ctrl, .. }
        | K::SettingChanged { ctrl, .. }
        | K::ReconnectAttempt { ctrl, .. }
        | K::ConnectFailed { ctrl, .. }
        | K::Reconnected { ctrl, .. }
        | K::FastIoFail { ctrl }
        | K::GivenUp { ctrl, .. }
        | K::PathRefused { ctrl, .. } => Some(*ctrl),
        K::Fenced(receipt) => Some(receipt.ctrl),
        _ => None,
    }
}

fn life(kind: &EventKind) -> Option<LifeId> {
    use EventKind as K;
    match kind {
        K::LaneSilent { life, .. }
        | K::CcrSent { life, .. }
        | K::CcrAnswered { life, .. }
        | K::StaleEntry { life, .. }
        | K::HoldUntil { life, .. }
        | K::Released { life, .. }
        | K::Late { life, .. }
        | K::TombstoneSet { life, .. }
        | K::TombstoneEnded { life, .. }
        | K::PredecessorLingers { life }
        | K::AnaChanged { life, .. }
        | K::FirstGood { life } => Some(*life),
        _ => None,
    }
}

fn head(kind: &EventKind) -> Option<HeadId> {
    use EventKind as K;
    match kind {
        K::NamespaceAdded { head, .. }
        | K::NamespaceRemoved { head }
        | K::NamespaceResized { head, .. }
        | K::AnaChanged { head, .. } => Some(*head),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_host::Instant;

    fn told(kinds: impl IntoIterator<Item = EventKind>) -> Vec<String> {
        let told = Told::new();
        told.name_head(HeadId(3), "nvme0n1".into());
        told.name_life(LifeId(4), CtrlId(1));
        for kind in kinds {
            told.tell(&Event { at: Instant::from_millis(1_000), kind });
        }
        let (lines, _) = told.listen(Some(0));
        assert!(lines.iter().zip(1..).all(|(line, seq)| line.seq == seq));
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_begin_with_their_controller_and_have_the_words_people_search_for() {
        let lines = told([
            EventKind::ConnectFailed {
                ctrl: CtrlId(0),
                attempt: 2,
                why: "refused".into(),
                permanent: false,
                next: Some(Instant::from_millis(11_000)),
            },
            EventKind::HoldUntil {
                life: LifeId(4),
                t0: Instant::from_millis(1_000),
                deadline: Some(Instant::from_millis(16_000)),
                assumed: false,
            },
            EventKind::CcrSent { life: LifeId(4), source: CtrlId(2), source_life: LifeId(9) },
            EventKind::NamespaceRemoved { head: HeadId(3) },
            EventKind::Reconnected { ctrl: CtrlId(0), attempt: 1, max: Some(60), after: Duration::ZERO },
        ]);
        assert_eq!(
            lines,
            [
                "nvme0: Failed reconnect attempt 2: refused; Reconnecting in 10 seconds...",
                "nvme1: life4: time-based recovery, timeout = 15000ms",
                "nvme1: life4: attempting CCR through nvme2",
                "nvme0n1: removed",
                "nvme0: Successfully reconnected (attempt 1/60)",
            ]
        );
    }

    #[test]
    fn a_listener_gets_what_it_missed_and_what_comes() {
        let told = Told::new();
        for number in 0..KEPT as u64 + 5 {
            told.note(Level::Info, "note", number.to_string());
        }
        let (all, mut more) = told.listen(Some(0));
        assert_eq!((all.len(), all[0].seq), (KEPT, 6), "only so many are kept");
        assert!(told.listen(None).0.is_empty());
        told.note(Level::Info, "note", "new".into());
        assert_eq!(more.try_recv().expect("it").text, "new");
    }
}

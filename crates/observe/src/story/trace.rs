//! What the events say of one life, from its loss to its end. No judgement.

use super::begins;
use interlock_api::{
    CcrAnswer, DetectedHow, Event, FencePolicy, Method, PathAddress, Predicted, Receipt, StoryState, Way, What,
};
use std::collections::BTreeMap;

/// Nanoseconds on the monotonic clock.
pub(super) type At = u64;

/// A life as it was told when it began.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) name: Option<String>,
    pub(super) subsystem: Option<String>,
    pub(super) path: PathAddress,
    pub(super) kato_ms: u64,
    pub(super) ccr: bool,
    pub(super) fence: FencePolicy,
    pub(super) predicted: Predicted,
}

/// One Cross-Controller Reset.
#[derive(Clone, Debug)]
pub(super) struct Reset {
    pub(super) source: String,
    pub(super) sent: At,
    pub(super) answered: Option<(At, CcrAnswer, Option<String>)>,
}

/// The hold by time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) t0: At,
    pub(super) ms: Option<u64>,
}

/// How it came back, or did not.
#[derive(Clone, Debug, Default)]
pub(super) struct Return {
    /// Somebody was asked to reconnect it: when first, and how often.
    pub(super) wanted: Option<(At, u64)>,
    /// The first attempt.
    pub(super) tried: Option<At>,
    pub(super) attempts: u64,
    pub(super) last_error: Option<String>,
    /// A new life.
    pub(super) live: Option<At>,
    /// Its first I/O.
    pub(super) first_good: Option<At>,
    /// It was given up, or somebody disconnected it.
    pub(super) ended: Option<(At, String)>,
}

/// Everything that the events say.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) id: u64,
    pub(super) unix_ms: u64,
    pub(super) controller: String,
    pub(super) subsystem: Option<String>,
    pub(super) life: String,
    /// As it was when it began, if that is known.
    pub(super) was: Option<Life>,
    pub(super) how: DetectedHow,
    pub(super) reason: String,
    pub(super) lost: At,
    /// In doubt, settled, age of the oldest in doubt.
    pub(super) condemned: Option<(At, u64, u64, Option<u64>)>,
    pub(super) resets: Vec<Reset>,
    pub(super) stale_logs: Vec<String>,
    pub(super) hold: Option<Hold>,
    pub(super) answered_late: u64,
    pub(super) dropped_late: u64,
    pub(super) fenced: Option<(At, Receipt)>,
    pub(super) not_needed: Option<At>,
    pub(super) released: Option<(At, u64)>,
    pub(super) tombstone: Option<(At, u64, Option<u64>)>,
    pub(super) tombstone_ended: Option<(At, Method)>,
    pub(super) lane_silent: bool,
    pub(super) owner_unconfirmed: bool,
    pub(super) lingers: bool,
    /// Commands of the subsystem that failed with Reservation Conflict meanwhile.
    pub(super) conflicts: u64,
    pub(super) fast_io_fail: Option<At>,
    pub(super) back: Return,
    /// What was connected to the subsystem when commands moved on.
    pub(super) ways: Vec<Way>,
    pub(super) state: StoryState,
}

/// Who is connected, by controller.
type Connected = BTreeMap<String, Life>;

impl Trace {
    /// Walks over the events.
    pub(super) fn of(events: &[Event], id: u64) -> Option<Self> {
        let place = events.iter().position(|event| event.seq == id && begins(&event.what))?;
        let began = events[..place].iter().rposition(|event| matches!(event.what, What::Started { .. })).unwrap_or(0);
        let mut connected = Connected::new();
        for event in &events[began..place] {
            note_ways(&mut connected, event);
        }
        let mut trace = Self::begin(&events[place], &connected)?;
        note_ways(&mut connected, &events[place]);
        for event in &events[place + 1..] {
            if matches!(event.what, What::Started { .. }) {
                if trace.state == StoryState::Ongoing {
                    trace.state = StoryState::Interrupted;
                }
                break;
            }
            let moved_on = trace.moves_on(event);
            if let What::ReservationConflict { commands, .. } = event.what
                && event.subsystem == trace.subsystem
            {
                trace.conflicts = trace.conflicts.saturating_add(commands);
            }
            if trace.is_of_life(event) {
                trace.note_life(event);
            } else {
                trace.note_controller(event);
            }
            note_ways(&mut connected, event);
            if moved_on {
                trace.ways = trace.ways_now(&connected);
            }
            if trace.is_over() {
                trace.state = StoryState::Over;
                if trace.back.first_good.is_some() || trace.back.ended.is_some() {
                    break;
                }
            }
        }
        if trace.ways.is_empty() {
            trace.ways = trace.ways_now(&connected);
        }
        Some(trace)
    }

    fn begin(event: &Event, connected: &Connected) -> Option<Self> {
        let controller = event.controller.clone()?;
        let (how, reason) = match &event.what {
            What::Lost { how, reason } => (*how, reason.clone()),
            _ => (DetectedHow::Predecessor, "an earlier process of this host left it".into()),
        };
        let was = connected.get(&controller).filter(|life| life.name.is_none() || life.name == event.life).cloned();
        Some(Self {
            id: event.seq,
            unix_ms: event.unix_ms,
            subsystem: event.subsystem.clone().or_else(|| was.as_ref()?.subsystem.clone()),
            controller,
            life: event.life.clone().unwrap_or_default(),
            was,
            how,
            reason,
            lost: event.at_ns,
            condemned: None,
            resets: Vec::new(),
            stale_logs: Vec::new(),
            hold: None,
            answered_late: 0,
            dropped_late: 0,
            fenced: None,
            not_needed: None,
            released: None,
            tombstone: None,
            tombstone_ended: None,
            lane_silent: false,
            owner_unconfirmed: false,
            lingers: false,
            conflicts: 0,
            fast_io_fail: None,
            back: Return::default(),
            ways: Vec::new(),
            state: StoryState::Ongoing,
        })
    }

    fn is_of_life(&self, event: &Event) -> bool {
        event.life.as_ref() == Some(&self.life)
    }

    /// True of the moment at which commands go elsewhere.
    fn moves_on(&self, event: &Event) -> bool {
        let now = match event.what {
            What::Released { .. } | What::NothingInDoubt { .. } => true,
            What::Condemned { in_doubt, .. } => in_doubt == 0,
            _ => false,
        };
        now && self.is_of_life(event) && self.ways.is_empty()
    }

    fn note_life(&mut self, event: &Event) {
        let at = event.at_ns;
        match &event.what {
            What::Condemned { in_doubt, settled, oldest_ms } => {
                self.condemned = Some((at, *in_doubt, *settled, *oldest_ms));
            }
            What::CcrSent { source } => {
                self.resets.push(Reset { source: source.clone(), sent: at, answered: None });
            }
            What::CcrAnswered { source, answer, status } => {
                let open = self.resets.iter_mut().rev().find(|reset| reset.source == *source);
                if let Some(reset) = open.filter(|reset| reset.answered.is_none()) {
                    reset.answered = Some((at, *answer, status.as_ref().map(|status| status.text.clone())));
                }
            }
            What::CcrStaleEntry { source } => self.stale_logs.push(source.clone()),
            What::HoldStarted { t0_ns, hold_ms, .. } => {
                self.hold = Some(Hold { t0: *t0_ns, ms: *hold_ms });
            }
            What::LateCompletion { decision: interlock_api::LateDecision::Answered } => self.answered_late += 1,
            What::LateCompletion { decision: interlock_api::LateDecision::Dropped } => self.dropped_late += 1,
            What::Fenced { receipt } => self.fenced = Some((at, (**receipt).clone())),
            What::NothingInDoubt { .. } => self.not_needed = Some(at),
            What::Released { commands } => self.released = Some((at, *commands)),
            What::TombstoneLeft { in_doubt, left_ms } => self.tombstone = Some((at, *in_doubt, *left_ms)),
            What::TombstoneEnded { method } => self.tombstone_ended = Some((at, *method)),
            What::LaneSilent { .. } => self.lane_silent = true,
            What::OwnerUnconfirmed => self.owner_unconfirmed = true,
            What::PredecessorLingers => self.lingers = true,
            _ => {}
        }
    }

    /// What concerns the controller, until it is back: what comes then belongs to another story.
    fn note_controller(&mut self, event: &Event) {
        let at = event.at_ns;
        if matches!(event.what, What::ShutDown) && self.back.live.is_none() {
            self.back.ended = Some((at, "the host ended".into()));
        }
        if event.controller.as_ref() != Some(&self.controller) || self.back.ended.is_some() {
            return;
        }
        if self.back.live.is_some() {
            if matches!(event.what, What::FirstGood) && self.back.first_good.is_none() {
                self.back.first_good = Some(at);
            }
            return;
        }
        match &event.what {
            What::ReconnectWanted { .. } => {
                let (first, count) = self.back.wanted.unwrap_or((at, 0));
                self.back.wanted = Some((first, count + 1));
            }
            What::ReconnectAttempt { attempt, .. } => {
                self.back.tried.get_or_insert(at);
                self.back.attempts = self.back.attempts.max(*attempt);
            }
            What::ReconnectFailed { error, .. } => self.back.last_error = Some(error.clone()),
            What::FastIoFail => self.fast_io_fail = Some(at),
            What::Connected { .. } => self.back.live = Some(at),
            What::GivenUp { reason } => self.back.ended = Some((at, reason.clone())),
            What::ControllerState { to: interlock_api::ControllerState::Dead, reason, .. } => {
                self.back.ended = Some((at, reason.clone()));
            }
            _ => {}
        }
    }

    fn ways_now(&self, connected: &Connected) -> Vec<Way> {
        let same = |life: &Life| self.subsystem.is_none() || life.subsystem == self.subsystem;
        connected
            .iter()
            .filter(|(_, life)| same(life) && life.name.as_deref() != Some(self.life.as_str()))
            .map(|(controller, life)| Way { controller: controller.clone(), path: Some(life.path.clone()) })
            .collect()
    }

    fn is_over(&self) -> bool {
        let moved = self.released.is_some() || self.not_needed.is_some() || self.tombstone_ended.is_some();
        // Of an earlier process there is no controller that should come back.
        let back = self.back.live.is_some() || self.back.ended.is_some() || self.how == DetectedHow::Predecessor;
        moved && back
    }
}

/// Keeps who is connected.
fn note_ways(connected: &mut Connected, event: &Event) {
    let Some(controller) = &event.controller else { return };
    match &event.what {
        What::Connected { path, kato_ms, ccr, fence, predicted, .. } => {
            let life = Life {
                name: event.life.clone(),
                subsystem: event.subsystem.clone(),
                path: path.clone(),
                kato_ms: *kato_ms,
                ccr: *ccr,
                fence: *fence,
                predicted: *predicted,
            };
            connected.insert(controller.clone(), life);
        }
        What::Lost { .. } | What::GivenUp { .. } => {
            connected.remove(controller);
        }
        What::ControllerState { to, .. } if *to == interlock_api::ControllerState::Dead => {
            connected.remove(controller);
        }
        _ => {}
    }
}

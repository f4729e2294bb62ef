//! A peer that has a bad hour: any admin command may fail with any status, be answered late, or be answered wrongly once.
//!
//! It stands between the lanes of the target and its control. An answer is bent on its way out, so that what the command did
//! is done; or the command is refused before control has heard of it. What it never does is state a KATO, a quiesce time or the
//! end of a reset that is not true: no host could survive that.

use crate::mix::Kind;
use crate::world::{Box_, Ev, Mail, Phase, World, note};
use interlock_base::Rng;
use interlock_target_core::{ConnId, ToControl, ToLane};
use interlock_wire::admin::{Command, FID_KEEP_ALIVE, FID_QUEUES, Identify, QueueCount};
use interlock_wire::log;
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;
use std::collections::BTreeMap;
use std::time::Duration;

/// What an admin command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Connect,
    Property,
    Controller,
    NamespaceList,
    Descriptors,
    /// Everything else that Identify says of a namespace.
    Namespace,
    ResetLog,
    AnaLog,
    OtherLog,
    KeepAliveTimer,
    Feature,
    KeepAlive,
    EventRequest,
    Reset,
    Other,
}

impl Subject {
    fn of(sqe: &Sqe) -> Self {
        if sqe.is_fabrics() {
            return Self::Property;
        }
        match Command::from_sqe(sqe) {
            Ok(Command::Identify(Identify::Controller | Identify::ControllerCsi { .. })) => Self::Controller,
            Ok(Command::Identify(Identify::ActiveNamespaces { .. })) => Self::NamespaceList,
            Ok(Command::Identify(Identify::Descriptors { .. })) => Self::Descriptors,
            Ok(Command::Identify(_)) => Self::Namespace,
            Ok(Command::GetLog(get)) if get.lid == log::LID_CCR => Self::ResetLog,
            Ok(Command::GetLog(get)) if get.lid == log::LID_ANA => Self::AnaLog,
            Ok(Command::GetLog(_)) => Self::OtherLog,
            Ok(Command::GetFeatures(get)) if get.fid == FID_KEEP_ALIVE => Self::KeepAliveTimer,
            Ok(Command::GetFeatures(_) | Command::SetFeatures(_)) => Self::Feature,
            Ok(Command::KeepAlive) => Self::KeepAlive,
            Ok(Command::AsyncEventRequest) => Self::EventRequest,
            Ok(Command::CrossControllerReset(_)) => Self::Reset,
            Ok(Command::Abort(_)) | Err(_) => Self::Other,
        }
    }

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Connect => "Connect",
            Self::Property => "a property",
            Self::Controller => "Identify Controller",
            Self::NamespaceList => "the list of namespaces",
            Self::Descriptors => "the identifiers of a namespace",
            Self::Namespace => "Identify Namespace",
            Self::ResetLog => "the log of cross-controller resets",
            Self::AnaLog => "the ANA log",
            Self::OtherLog => "a log",
            Self::KeepAliveTimer => "the keep-alive time in force",
            Self::Feature => "a feature",
            Self::KeepAlive => "a Keep Alive",
            Self::EventRequest => "an Asynchronous Event Request",
            Self::Reset => "a cross-controller reset",
            Self::Other => "an admin command",
        }
    }

    /// True if an answer to it carries a page.
    const fn has_page(self) -> bool {
        matches!(
            self,
            Self::Controller
                | Self::NamespaceList
                | Self::Descriptors
                | Self::Namespace
                | Self::ResetLog
                | Self::AnaLog
                | Self::OtherLog
        )
    }
}

/// How an answer is bent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bend {
    /// Any error, with or without Do Not Retry and a retry delay.
    Fail,
    /// Invalid Field or Invalid Opcode, as from a controller that does not know the command.
    Unsupported,
    /// The answer comes late, or later than anybody waits.
    Late,
    /// Success, with less data than was asked for.
    Short,
    /// Success, with zeroes.
    Zeroed,
    /// Success, and some of what should be in a list is not.
    Lacking,
}

impl Bend {
    const ALL: [Self; 6] = [Self::Fail, Self::Unsupported, Self::Late, Self::Short, Self::Zeroed, Self::Lacking];

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Fail => "is answered with an error",
            Self::Unsupported => "is answered as if it were not supported",
            Self::Late => "is answered late",
            Self::Short => "is answered with less data than was asked for",
            Self::Zeroed => "is answered with zeroes",
            Self::Lacking => "is answered, and something in it is missing",
        }
    }

    const fn suits(self, subject: Subject) -> bool {
        match self {
            Self::Fail => true,
            Self::Unsupported => !matches!(subject, Subject::Connect | Subject::KeepAlive),
            // An event request is answered when there is something to say.
            Self::Late => !matches!(subject, Subject::EventRequest | Subject::Connect),
            Self::Short | Self::Zeroed => subject.has_page(),
            // Of a controller: its page is cut off before it has named its subsystem.
            Self::Lacking => matches!(subject, Subject::NamespaceList | Subject::Descriptors | Subject::Controller),
        }
    }

    fn kind(self, subject: Subject) -> Kind {
        match (subject, self) {
            (_, Self::Late) => Kind::AdminLate,
            (Subject::KeepAliveTimer, _) => Kind::KatoUnread,
            (Subject::EventRequest, _) => Kind::EventRequestFails,
            (Subject::ResetLog, Self::Fail | Self::Unsupported) => Kind::ResetLogFails,
            (Subject::AnaLog, _) => Kind::AnaLogFails,
            (Subject::Namespace, Self::Fail | Self::Unsupported) => Kind::NamespaceUnread,
            (Subject::Descriptors, _) => Kind::IdentifiersMissing,
            (Subject::NamespaceList, Self::Lacking | Self::Zeroed | Self::Short) => Kind::NamespacesMissing,
            (_, Self::Fail) => Kind::AdminFails,
            (_, Self::Unsupported) => Kind::AdminUnsupported,
            (_, Self::Short) => Kind::AdminShort,
            (_, Self::Zeroed | Self::Lacking) => Kind::AdminZeroed,
        }
    }
}

/// A while in which a peer is worse than usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hour {
    /// How many of the commands in question are answered badly.
    pub(crate) percent: u64,
    /// About what, and how; `None`: any command, in any way.
    pub(crate) only: Option<(Subject, Bend)>,
}

impl Hour {
    /// One of the bad hours that a peer may have.
    pub(crate) fn draw(rng: &mut Rng, ana: bool) -> Self {
        let subjects: &[Subject] = &[
            Subject::Connect,
            Subject::Property,
            Subject::Controller,
            Subject::NamespaceList,
            Subject::NamespaceList,
            Subject::Descriptors,
            Subject::Descriptors,
            Subject::Namespace,
            Subject::ResetLog,
            Subject::ResetLog,
            Subject::KeepAliveTimer,
            Subject::KeepAliveTimer,
            Subject::Feature,
            Subject::KeepAlive,
            Subject::EventRequest,
            Subject::EventRequest,
            Subject::Reset,
            Subject::AnaLog,
            Subject::AnaLog,
            Subject::AnaLog,
        ];
        let subjects = if ana { subjects } else { &subjects[..subjects.len() - 3] };
        let percent = *crate::draw::pick(rng, &[10, 35, 70, 100]);
        let only = rng.percent(80).then(|| {
            let subject = *crate::draw::pick(rng, subjects);
            let bends: Vec<Bend> = Bend::ALL.into_iter().filter(|bend| bend.suits(subject)).collect();
            (subject, *crate::draw::pick(rng, &bends))
        });
        Self { percent: if only.is_some() { percent } else { percent / 4 }, only }
    }
}

/// The state of the peer's temper.
pub(crate) struct Peer {
    rng: Rng,
    hour: Option<Hour>,
    /// Answers bent so far.
    bent: u64,
    /// Commands that control was given, and how their answers are bent.
    asked: BTreeMap<(usize, ConnId, u16), (Subject, Bend)>,
    /// Answers that come late, and of which start of the target.
    late: BTreeMap<u64, (u32, usize, ToLane)>,
    last: u64,
    /// How many queues it grants.
    queues: Rng,
}

/// Among the faults of a run, an answer that is bent.
const BENT: u64 = 1 << 48;

/// A command of the host is given up after this ([`crate::draw::Plan::spec`]): an answer may come before, about then, or never.
const LATE_MS: [u64; 5] = [2, 40, 600, 2900, 3300];

impl Peer {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = Rng::new(seed ^ 0x51a1_5eed_0000_0011);
        Self {
            rng,
            hour: None,
            bent: 0,
            asked: BTreeMap::new(),
            late: BTreeMap::new(),
            last: 0,
            queues: Rng::new(seed ^ 0x51a1_5eed_0000_0012),
        }
    }

    pub(crate) const fn begin(&mut self, hour: Hour) {
        self.hour = Some(hour);
    }

    /// It is as usual from now on.
    pub(crate) const fn end(&mut self) {
        self.hour = None;
    }

    /// True if a host may have been told to try no more.
    pub(crate) const fn has_bent(&self) -> bool {
        self.bent > 0
    }

    /// The target was switched off: nobody answers what was asked before.
    pub(crate) fn forget(&mut self) {
        self.asked.clear();
        self.late.clear();
    }

    fn bend(&mut self, permille: u64, subject: Subject) -> Option<Bend> {
        if let Some(hour) = self.hour
            && hour.only.is_none_or(|(only, _)| only == subject)
            && self.rng.percent(hour.percent)
        {
            return Some(match hour.only {
                Some((_, bend)) => bend,
                None => self.any_bend(subject),
            });
        }
        (permille > 0 && self.rng.below(1000) < permille).then(|| self.any_bend(subject))
    }

    fn any_bend(&mut self, subject: Subject) -> Bend {
        let bends: Vec<Bend> = Bend::ALL.into_iter().filter(|bend| bend.suits(subject)).collect();
        *crate::draw::pick(&mut self.rng, &bends)
    }

    fn error(&mut self, bend: Bend) -> Status {
        let status = if bend == Bend::Unsupported {
            *crate::draw::pick(&mut self.rng, &[Status::INVALID_FIELD, Status::INVALID_OPCODE])
        } else {
            let known = *crate::draw::pick(&mut self.rng, Status::ALL);
            let code = 1 + self.rng.below(0x7fe) as u16;
            let any = Status::new((code >> 8) as u8, code as u8);
            match self.rng.below(10) {
                0..=3 => Status::INTERNAL_ERROR,
                4..=7 if !known.is_success() => known,
                _ => any,
            }
        };
        let status = if self.rng.percent(25) { status.with_crd(1 + self.rng.below(3) as u8) } else { status };
        if self.rng.percent(30) { status.with_dnr() } else { status }
    }
}

impl World {
    /// A lane of the target says something to its control: what arrives, if anything does.
    pub(crate) fn asked_of_target(&mut self, lane: usize, mut message: ToControl) -> Option<ToControl> {
        self.call_inside(&mut message);
        self.tamper_reset(lane, &mut message);
        self.grant_fewer(&mut message);
        if !self.log_is_asked(lane, &mut message) {
            return None;
        }
        if !matches!(self.phase, Phase::Starting | Phase::Faults) {
            return Some(message);
        }
        let (conn, slot, subject) = match &message {
            ToControl::Admin { conn, slot, sqe, .. } => (*conn, *slot, Subject::of(sqe)),
            ToControl::Connect { conn, slot, .. } => (*conn, *slot, Subject::Connect),
            ToControl::Gone { conn, .. } => {
                self.peer.asked.retain(|(of, asked, _), _| (*of, *asked) != (lane, *conn));
                return Some(message);
            }
            _ => return Some(message),
        };
        if self.by_target.get(&(lane, conn)).is_some_and(|link| self.is_spared_link(*link)) {
            return Some(message);
        }
        let Some(bend) = self.peer.bend(self.plan.bent_permille, subject) else { return Some(message) };
        let kind = bend.kind(subject);
        self.peer.bent += 1;
        let key = BENT | self.peer.bent;
        if !self.plan.kinds.contains(kind) || self.plan.cut.acts.contains(&key) {
            return Some(message);
        }
        self.struck.push(key);
        self.met(kind);
        self.disturb_link_of(lane, conn);
        self.tell_bend(subject, bend);
        note!(self, "peer: {subject:?} of lane{lane} {conn:?} {slot}: {bend:?}");
        let refuses = matches!(bend, Bend::Fail | Bend::Unsupported);
        if refuses && (matches!(subject, Subject::Connect | Subject::EventRequest) || self.peer.rng.percent(50)) {
            let status = self.peer.error(bend);
            let answer = ToLane::Answer { conn, slot, status, dw0: 0, dw1: 0, data: Vec::new() };
            self.post(Box_::ToTargetLane(lane), Mail::TargetDown(answer));
            return None;
        }
        self.peer.asked.insert((lane, conn, slot), (subject, bend));
        Some(message)
    }

    /// The target's control answers: what its lane is told, if it is told now.
    pub(crate) fn answer_of_target(&mut self, lane: usize, mut message: ToLane) -> Option<ToLane> {
        self.call_outside(&mut message);
        self.log_is_answered(lane, &mut message);
        let ToLane::Answer { conn, slot, status, dw0, dw1, mut data } = message else { return Some(message) };
        let Some((subject, bend)) = self.peer.asked.remove(&(lane, conn, slot)) else {
            return Some(ToLane::Answer { conn, slot, status, dw0, dw1, data });
        };
        if subject == Subject::AnaLog {
            self.log_is_bent();
        }
        match bend {
            Bend::Fail | Bend::Unsupported => {
                let status = self.peer.error(bend);
                return Some(ToLane::Answer { conn, slot, status, dw0: 0, dw1: 0, data: Vec::new() });
            }
            Bend::Late => {
                let ms = *crate::draw::pick(&mut self.peer.rng, &LATE_MS);
                self.peer.last += 1;
                let key = self.peer.last;
                let answer = ToLane::Answer { conn, slot, status, dw0, dw1, data };
                self.peer.late.insert(key, (self.target_start, lane, answer));
                self.after(Duration::from_millis(ms), Ev::LateAnswer(key));
                return None;
            }
            Bend::Short => data.truncate(self.peer.rng.below(data.len() as u64 / 4 + 1) as usize * 4),
            Bend::Zeroed => data.fill(0),
            Bend::Lacking => {
                // Namespaces stand in four bytes each, identifiers in pieces of which the first says whose they are: what is
                // behind some point is not there.
                let used = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last / 4 + 1);
                let keep = self.peer.rng.below(used as u64 + 1) as usize * 4;
                if let Some(lost) = data.get_mut(keep..) {
                    lost.fill(0);
                }
            }
        }
        Some(ToLane::Answer { conn, slot, status, dw0, dw1, data })
    }

    /// Of the I/O queues that the host asks for it gets fewer, mostly: as if it had asked for so many.
    fn grant_fewer(&mut self, message: &mut ToControl) {
        let ToControl::Admin { sqe, .. } = message else { return };
        if self.plan.extras.few_queues
            && let Ok(Command::SetFeatures(set)) = Command::from_sqe(sqe)
            && set.fid == FID_QUEUES
        {
            let wanted = QueueCount::from_u32(set.cdw11).usable();
            let granted = 1 + self.peer.queues.below(u64::from(wanted)) as u16;
            sqe.cdw11 = QueueCount::pairs(granted).to_u32().into();
        }
    }

    /// An answer comes at last.
    pub(crate) fn late_answer(&mut self, key: u64) {
        let Some((start, lane, answer)) = self.peer.late.remove(&key) else { return };
        if start == self.target_start {
            self.post(Box_::ToTargetLane(lane), Mail::TargetDown(answer));
        }
    }

    /// What a path loses whose peer answers badly needs no other reason.
    fn disturb_link_of(&mut self, lane: usize, conn: ConnId) {
        if let Some(link) = self.by_target.get(&(lane, conn)) {
            let port = self.links[*link].port;
            self.disturb(Some(port));
        }
    }
}

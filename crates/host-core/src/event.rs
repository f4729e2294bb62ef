//! What Control tells the world: one stream that feeds log, counters, journal and receipts.
//!
//! Everything a person would ask after a failover is an event with its moment; nothing is decided by whoever reads it.
//! Texts reuse the phrases of Linux where they fit, so that log searches people already have go on working.

use crate::control::{Setting, StateName};
use crate::poison::{Stage, SuspectCommand};
use crate::{ConnectFailure, CtrlId, HeadId, Identity, LifeFacts, LifeId, Loss, Method, Receipt, Shape};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::nqn::Nqn;
use interlock_wire::status::Status;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
}

/// What the store is asked to do with the record of a life, beside making it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreWork {
    /// Mark it clean: a successor need not fence it.
    MarkClean,
    /// Forget it: the life is fenced.
    Forget,
    /// Record the terms of its hold again, after a setting has changed.
    Terms,
    /// Record it again, with the identifiers of a namespace that it serves since.
    Disks,
}

impl StoreWork {
    /// What follows if the store refuses.
    const fn consequence(self) -> &'static str {
        match self {
            Self::MarkClean | Self::Forget => "a successor of this process will fence the life again",
            Self::Terms => "a successor of this process will wait by the old settings",
            Self::Disks => "namespaces that it serves since are not used, and the store is asked again later",
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A controller changed its state.
    ControllerState {
        /// Which.
        ctrl: CtrlId,
        /// From.
        from: StateName,
        /// To.
        to: StateName,
        /// Why.
        why: String,
    },
    /// A transition that the table does not allow was asked for and refused.
    TransitionRefused {
        /// Which.
        ctrl: CtrlId,
        /// From.
        from: StateName,
        /// To.
        to: StateName,
    },
    /// A controller is live: a new life.
    LifeBegan {
        /// Which.
        ctrl: CtrlId,
        /// Its life.
        life: LifeId,
        /// What it said about itself.
        facts: Box<LifeFacts>,
        /// I/O queue pairs.
        queues: u16,
    },
    /// A life was lost: nothing more is sent on it ("starting controller fencing").
    Lost {
        /// Which.
        ctrl: CtrlId,
        /// Its life.
        life: LifeId,
        /// How it was noticed.
        how: Loss,
    },
    /// A life ended with answered writes in a cache of its own, which no flush had covered: the next flush says so.
    CacheLost {
        /// The namespace.
        head: HeadId,
        /// The life.
        life: LifeId,
    },
    /// Something looks wrong; no proof. The path is avoided meanwhile.
    Slow {
        /// Which.
        ctrl: CtrlId,
        /// Its life.
        life: LifeId,
        /// The oldest unanswered command waits since.
        since: Instant,
    },
    /// A slow path has had no complaint for a while.
    NoLongerSlow {
        /// Which.
        ctrl: CtrlId,
        /// Its life.
        life: LifeId,
    },
    /// Every lane has stopped; this many commands are in doubt.
    Condemned {
        /// Which.
        ctrl: CtrlId,
        /// Its life.
        life: LifeId,
        /// Commands in doubt. 0: no fence is needed.
        in_doubt: usize,
        /// Commands that went on at once.
        settled: usize,
        /// How long the oldest of those in doubt had waited when the loss was noticed. `None`: nothing is in doubt.
        oldest: Option<Duration>,
    },
    /// A lane has not confirmed a condemned life in time. The fence goes on waiting: safety does not depend on it.
    LaneSilent {
        /// Its life.
        life: LifeId,
        /// Which lanes.
        lanes: Vec<crate::LaneId>,
    },
    /// "attempting CCR".
    CcrSent {
        /// The life to reset.
        life: LifeId,
        /// Through this controller.
        source: CtrlId,
        /// Its life.
        source_life: LifeId,
    },
    /// CCR was completed.
    CcrAnswered {
        /// The life to reset.
        life: LifeId,
        /// Through this controller.
        source: CtrlId,
        /// Status.
        status: Status,
        /// Immediate Reset Successful.
        immediate: bool,
    },
    /// A live controller cannot be a source for this life: its log still holds an entry of the same name.
    StaleEntry {
        /// The life to reset.
        life: LifeId,
        /// The controller.
        source: CtrlId,
    },
    /// Nothing can leave this host any more; by time alone the life is over at the deadline.
    HoldUntil {
        /// The life.
        life: LifeId,
        /// From here on the hold counts.
        t0: Instant,
        /// When it ends. `None`: no bound is known (KATO 0).
        deadline: Option<Instant>,
        /// True if it rests on an assumed quiesce time.
        assumed: bool,
    },
    /// Fenced (or, with [`Method::Legacy`], not).
    Fenced(Box<Receipt>),
    /// No fence was needed, or is needed any more: nothing is in doubt.
    NothingInDoubt {
        /// Which.
        ctrl: CtrlId,
        /// The life.
        life: LifeId,
        /// Commands that were answered late.
        answered_late: usize,
    },
    /// The held commands of a life were let go to the lanes.
    Released {
        /// The life.
        life: LifeId,
        /// How many.
        commands: usize,
    },
    /// A late answer arrived.
    Late {
        /// The life.
        life: LifeId,
        /// True: it came before the fence and is the result. False: it came after and was dropped.
        counted: bool,
    },
    /// A life is left unfenced; its ranges stay guarded.
    TombstoneSet {
        /// The life.
        life: LifeId,
        /// Commands in doubt.
        in_doubt: usize,
        /// Until when. `None`: until a CCR succeeds.
        until: Option<Instant>,
    },
    /// Instances were lost with a command: what becomes of it ([`poison`](crate::poison)).
    Suspect {
        /// The command.
        command: SuspectCommand,
        /// What.
        stage: Stage,
    },
    /// A tombstone ended.
    TombstoneEnded {
        /// The life.
        life: LifeId,
        /// By what.
        method: Method,
    },
    /// An earlier process of this host left a life that is not fenced: nothing is written to its subsystem until it is.
    PredecessorFound {
        /// The path it belonged to.
        ctrl: CtrlId,
        /// The life.
        life: LifeId,
        /// Its subsystem.
        subnqn: Nqn,
        /// Its name for the target.
        identity: Identity,
    },
    /// Sockets of an earlier process still exist: time does not fence its life yet.
    PredecessorLingers {
        /// The life.
        life: LifeId,
    },
    /// Whether this process still speaks for its host is not known yet: what a fence would release waits for that.
    OwnerUnconfirmed {
        /// The fenced life.
        life: LifeId,
    },
    /// The store did not change the record of a life: until it does, a successor of this process judges by the old one.
    StoreRefused {
        /// The life.
        life: LifeId,
        /// What the store was asked to do.
        work: StoreWork,
        /// Why it did not, in one sentence.
        why: String,
    },
    /// Another process may be this host now: nothing that was held goes on, and this host ends.
    Disowned {
        /// In one sentence.
        why: String,
    },
    /// A lost controller waits for somebody to call [`Control::reconnect`](crate::Control::reconnect).
    ReconnectWanted {
        /// Which.
        ctrl: CtrlId,
        /// When it was lost.
        since: Instant,
    },
    /// A setting was changed.
    SettingChanged {
        /// Of this controller.
        ctrl: CtrlId,
        /// What it is now.
        setting: Setting,
    },
    /// An attempt to connect begins.
    ReconnectAttempt {
        /// Which.
        ctrl: CtrlId,
        /// Counted from 1 since the loss (or since `connect`).
        attempt: u32,
        /// As many as fit into `ctrl_loss`, if that is finite.
        max: Option<u32>,
    },
    /// An attempt failed.
    ConnectFailed {
        /// Which.
        ctrl: CtrlId,
        /// Counted from 1.
        attempt: u32,
        /// What kind of failure it is.
        kind: ConnectFailure,
        /// In one sentence.
        why: String,
        /// True if trying again cannot help.
        permanent: bool,
        /// When the next one begins ("Reconnecting in 10 seconds...").
        next: Option<Instant>,
    },
    /// "Successfully reconnected (attempt 1/60)".
    Reconnected {
        /// Which.
        ctrl: CtrlId,
        /// Attempts it took.
        attempt: u32,
        /// As many as were allowed.
        max: Option<u32>,
        /// Since the loss.
        after: Duration,
    },
    /// `fast_io_fail_tmo` has passed for this controller.
    FastIoFail {
        /// Which.
        ctrl: CtrlId,
    },
    /// The controller was given up.
    GivenUp {
        /// Which.
        ctrl: CtrlId,
        /// Why.
        why: String,
    },
    /// A namespace of a controller was not taken as a path.
    PathRefused {
        /// Which.
        ctrl: CtrlId,
        /// Its namespace identifier.
        nsid: u32,
        /// Why.
        why: String,
    },
    /// The ANA log of a live controller could not be read. It is read again, and what lanes have put aside is tried.
    AnaUnread {
        /// Which.
        ctrl: CtrlId,
        /// Its life.
        life: LifeId,
        /// Why.
        why: String,
    },
    /// A controller sends more events than any needs to: from now on it is asked for one a second. Reported once, until it
    /// has been calm again.
    EventStorm {
        /// Which.
        ctrl: CtrlId,
        /// Its life.
        life: LifeId,
    },
    /// A namespace appeared.
    NamespaceAdded {
        /// Its name here.
        head: HeadId,
        /// Its name there.
        nsid: u32,
        /// What it looks like.
        shape: Shape,
    },
    /// A namespace is gone from every controller.
    NamespaceRemoved {
        /// Its name here.
        head: HeadId,
    },
    /// A namespace changed its size or its write protection.
    NamespaceResized {
        /// Its name here.
        head: HeadId,
        /// Before.
        from: Shape,
        /// Now.
        to: Shape,
    },
    /// The ANA state of a path changed.
    AnaChanged {
        /// Its head.
        head: HeadId,
        /// Its life.
        life: LifeId,
        /// Now.
        to: crate::AnaState,
    },
    /// Commands failed because another host holds a reservation of the namespace. Reported for each namespace once in
    /// [`REPORT_EVERY`](crate::conflicts::REPORT_EVERY) at most.
    ReservationConflict {
        /// The namespace.
        head: HeadId,
        /// The life that answered the last one.
        life: LifeId,
        /// What it answered.
        status: Status,
        /// Commands since the last report, this one included.
        commands: u64,
    },
    /// The first I/O that ended well after the life had become usable.
    FirstGood {
        /// The life.
        life: LifeId,
    },
    /// Everything ended after [`Control::shutdown`](crate::Control::shutdown).
    ShutDown,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.kind, f)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControllerState { ctrl, from, to, why } => write!(f, "{ctrl}: {from} -> {to}: {why}"),
            Self::TransitionRefused { ctrl, from, to } => write!(f, "{ctrl}: {from} -> {to} refused"),
            Self::LifeBegan { ctrl, life, facts, queues } => {
                write!(f, "{ctrl}: new ctrl, {life}, {}, {queues} I/O queues", facts.identity)?;
                if facts.shares_queues() { write!(f, ", shared by {} reactors", facts.lanes) } else { Ok(()) }
            }
            Self::Lost { ctrl, life, how } => write!(f, "{ctrl}: {how}; starting controller fencing ({life})"),
            Self::Slow { ctrl, since, .. } => {
                write!(f, "{ctrl}: I/O unanswered since {since}: slow, avoided, not reset")
            }
            Self::NoLongerSlow { ctrl, .. } => write!(f, "{ctrl}: no longer slow"),
            Self::Condemned { ctrl, life, in_doubt, settled, .. } => {
                write!(f, "{ctrl}: {life} condemned, {in_doubt} commands in doubt")?;
                if *settled > 0 { write!(f, ", {settled} go on at once") } else { Ok(()) }
            }
            Self::CacheLost { head, life } => {
                write!(f, "{head}: {life} was lost with answered writes in its cache; the next flush fails")
            }
            Self::LaneSilent { life, lanes } => write!(f, "{life}: {} lanes have not answered", lanes.len()),
            Self::CcrSent { life, source, .. } => write!(f, "{life}: attempting CCR through {source}"),
            Self::CcrAnswered { life, source, status, immediate } => {
                write!(f, "{life}: CCR through {source}: {status}{}", if *immediate { ", immediate" } else { "" })
            }
            Self::StaleEntry { life, source } => {
                write!(f, "{life}: {source} is no CCR source, its log keeps an entry of the same name")
            }
            Self::HoldUntil { life, deadline, assumed, .. } => match deadline {
                Some(at) if *assumed => write!(f, "{life}: time-based recovery ends at {at} (assumed)"),
                Some(at) => write!(f, "{life}: time-based recovery ends at {at}"),
                None => write!(f, "{life}: no time bound, KATO is 0"),
            },
            Self::Fenced(r) => match (r.method, r.source) {
                (Method::Legacy, _) => write!(f, "{}: NOT fenced, {} commands retried at once", r.life, r.in_doubt),
                (Method::AcceptedRisk, _) => write!(f, "{}: NOT fenced, the risk was accepted", r.life),
                (_, Some(by)) => write!(f, "{}: CCR succeeded using {}", r.life, by.ctrl),
                (method, None) => write!(f, "{}: Time-based recovery finished ({})", r.life, method.name()),
            },
            Self::NothingInDoubt { life, .. } => write!(f, "{life}: nothing in doubt, no fence needed"),
            Self::Released { life, commands } => write!(f, "{life}: {commands} held commands released"),
            Self::Late { life, counted: true } => write!(f, "{life}: late completion, taken as the result"),
            Self::Late { life, counted: false } => write!(f, "{life}: late completion after the fence, dropped"),
            Self::TombstoneSet { life, in_doubt, .. } => {
                write!(f, "{life}: left unfenced, {in_doubt} ranges stay guarded")
            }
            Self::Suspect { command, stage } => {
                let (lost, alone) = (command.instances, command.alone);
                match stage {
                    Stage::Suspected => {
                        write!(
                            f,
                            "{command}: suspect, {lost} instances were lost with it; it is sent alone from now on"
                        )
                    }
                    Stage::Alone(life) => write!(f, "{command}: suspect, sent alone on {life}"),
                    Stage::Cleared => write!(f, "{command}: suspect no longer, it was answered or has ended"),
                    Stage::Waits(why) => write!(f, "{command}: suspect, waits for another turn alone: {why}"),
                    Stage::Failed => write!(
                        f,
                        "{command}: fails, {lost} instances were lost with it, {alone} of them carried nothing else while \
                         others lived without it"
                    ),
                }
            }
            Self::TombstoneEnded { life, method } => write!(f, "{life}: tombstone ended ({})", method.name()),
            Self::PredecessorFound { ctrl, life, subnqn, identity } => {
                write!(f, "{ctrl}: {life} ({identity}) of an earlier process is not fenced: writes to {subnqn} wait")
            }
            Self::PredecessorLingers { life } => write!(f, "{life}: sockets of an earlier process still exist"),
            Self::OwnerUnconfirmed { life } => {
                write!(f, "{life}: fenced, but the store does not say whether this process is still this host")
            }
            Self::StoreRefused { life, work, why } => {
                write!(f, "{life}: the state directory refused a change ({why}); {}", work.consequence())
            }
            Self::Disowned { why } => write!(f, "the host ends, and nothing that is held goes on: {why}"),
            Self::ReconnectWanted { ctrl, since } => write!(f, "{ctrl}: lost since {since}, asks to be reconnected"),
            Self::SettingChanged { ctrl, setting } => write!(f, "{ctrl}: {setting}"),
            Self::ReconnectAttempt { ctrl, attempt, max } => {
                write!(f, "{ctrl}: connecting (attempt {attempt}/{})", Most(*max))
            }
            Self::ConnectFailed { ctrl, attempt, why, next, .. } => {
                write!(f, "{ctrl}: Failed reconnect attempt {attempt}: {why}")?;
                next.map_or(Ok(()), |at| write!(f, "; reconnecting at {at}"))
            }
            Self::Reconnected { ctrl, attempt, max, .. } => {
                write!(f, "{ctrl}: Successfully reconnected (attempt {attempt}/{})", Most(*max))
            }
            Self::FastIoFail { ctrl } => write!(f, "{ctrl}: fast_io_fail_tmo has passed"),
            Self::GivenUp { ctrl, why } => write!(f, "{ctrl}: Removing controller: {why}"),
            Self::PathRefused { ctrl, nsid, why } => write!(f, "{ctrl}: namespace {nsid} refused: {why}"),
            Self::ReservationConflict { head, life, status, commands } => {
                write!(
                    f,
                    "{head}: {status} on {life}: another host holds a reservation of the namespace; {commands} "
                )?;
                f.write_str(if *commands == 1 {
                    "command has failed"
                } else {
                    "commands have failed since the last report"
                })
            }
            Self::AnaUnread { ctrl, why, .. } => {
                write!(f, "{ctrl}: the ANA log could not be read, and is read again: {why}")
            }
            Self::EventStorm { ctrl, .. } => {
                write!(f, "{ctrl}: sends events without end: it is asked for one a second, until it is calm")
            }
            Self::NamespaceAdded { head, nsid, .. } => write!(f, "{head}: namespace {nsid} added"),
            Self::NamespaceRemoved { head } => write!(f, "{head}: removed"),
            Self::NamespaceResized { head, from, to } => {
                write!(f, "{head}: {} blocks -> {} blocks", from.blocks, to.blocks)
            }
            Self::AnaChanged { head, life, to } => write!(f, "{head}: {life} is now {to}"),
            Self::FirstGood { life } => write!(f, "{life}: first I/O done"),
            Self::ShutDown => f.write_str("host ended"),
        }
    }
}

struct Most(Option<u32>);

impl fmt::Display for Most {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(max) => write!(f, "{max}"),
            None => f.write_str("-1"),
        }
    }
}

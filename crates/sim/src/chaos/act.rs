//! Everything that a run does to its world, one act at a time.

use crate::disks::Replaced;
use crate::mix::Kind;
use crate::peer::Hour;
use crate::store::BadDisk;
use crate::world::Machine;
use interlock_host_core::Setting;
use interlock_target_core::Fault;
use interlock_wire::ana::State as Ana;
use std::time::Duration;

/// One thing that goes wrong, or stops going wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The next episode begins.
    Episode,
    Script(Fault),
    /// A reset packet: at the host, at the target, or both.
    Rst {
        port: usize,
        host: bool,
        target: bool,
    },
    /// When the host opens its next I/O queue, or has just connected one (`joined`), the target is started again, and only the second
    /// host is told.
    NumbersAgain {
        joined: bool,
    },
    /// A reset packet at the second host alone, on every connection through a port.
    RstOther {
        port: usize,
    },
    /// The same, once more on a path that flaps.
    Flap {
        port: usize,
    },
    /// From now on a command for this block of a namespace ends its controller, on every port; of namespace 0: every command
    /// does; `None`: no command does.
    Poison(Option<(u32, u64)>),
    /// The target dies once more, and everybody is told.
    CrashAgain,
    /// A reset packet at the host, on admin connections only.
    RstAdmin {
        port: usize,
    },
    /// Nothing arrives any more, or does again.
    Silence {
        port: usize,
        to_target: bool,
        to_host: bool,
    },
    /// Of each connection that is silent towards the target, the next segment comes through all the same.
    Drip {
        port: usize,
    },
    /// A box on the way keeps what goes to the target for so long.
    Limbo {
        port: usize,
        extra: Duration,
    },
    SlowMedia(bool),
    /// Operations of the media fail now and then.
    MediaErrors(bool),
    Ana {
        port: usize,
        group: u32,
        state: Ana,
    },
    Resize {
        nsid: u32,
        blocks: u64,
    },
    Reset(usize),
    Disconnect(usize),
    Connect(usize),
    Stall {
        machine: Machine,
        span: Duration,
    },
    Mail {
        us: u64,
    },
    Burst(u64),
    /// The process of the host dies (`power`: with its machine), and is started again.
    Crash {
        power: bool,
        again: Duration,
        /// The kernel resets its sockets within this.
        linger: Duration,
    },
    /// The target dies (`silent`: nobody is told), and is switched on again; its ports listen after a while.
    TargetOff {
        silent: bool,
    },
    TargetOn,
    /// The whole process of the host stands still for so long.
    Hang(Duration),
    /// The whole machine of the target stands still for so long.
    StopTarget(Duration),
    /// The raw clock of the host goes ahead.
    StepRawClock(Duration),
    /// The machine of the host is suspended for so long.
    SuspendHost(Duration),
    /// A second target of the same name is switched on for so long, if the first one serves.
    ImpostorOn(Duration),
    ImpostorOff,
    /// The disks are given other identifiers.
    RenameDisks,
    /// A disk that was not there yet is there.
    BringDisk,
    /// Somebody starts a second process.
    Second,
    /// The first goes on.
    Wake,
    /// Admin commands are answered badly, or as usual again.
    BadHour(Option<Hour>),
    /// A reset packet at the host just after the next command on an admin connection of the port.
    LastWords {
        port: usize,
    },
    /// Another disk has the NSID, from the moment on at which no association stands.
    Replace {
        nsid: u32,
        how: Replaced,
    },
    /// Somebody else takes the state directory of the host.
    LoseOwnership,
    /// The disk with the records is bad, or as usual again.
    BadDisk(Option<BadDisk>),
    /// A lane panics when it is called next, and its process with it.
    LanePanics {
        lane: usize,
        again: Duration,
    },
    /// Callers give up so many changes, and the same blocks are written again.
    GiveUp(u64),
    /// The operator changes a setting of the controllers of a port.
    Set {
        port: usize,
        setting: Setting,
    },
    Rescan(usize),
    /// The operator asks for everything that is lost to be connected.
    Reconnect,
    /// The operator says that every flush that failed was dealt with.
    ClearFlushErrors,
    /// The operator says of everything that the target has forgotten that it is over.
    AcceptRisk,
    /// Whoever is asked to reset a life dies soon after.
    KillSources(bool),
}

impl Act {
    /// Where it is done, if at one port.
    pub(crate) fn port(&self) -> Option<usize> {
        match self {
            Self::Rst { port, .. }
            | Self::RstAdmin { port }
            | Self::Silence { port, .. }
            | Self::Drip { port }
            | Self::Limbo { port, .. }
            | Self::Ana { port, .. }
            | Self::Reset(port)
            | Self::Disconnect(port)
            | Self::Connect(port)
            | Self::LastWords { port }
            | Self::Set { port, .. }
            | Self::Rescan(port) => Some(*port),
            Self::Script(
                Fault::HoldWrites { port }
                | Fault::StopHolding { port }
                | Fault::Delay { port, .. }
                | Fault::Drop { port }
                | Fault::FailIo { port, .. }
                | Fault::Mute { port }
                | Fault::Unmute { port }
                | Fault::ResetConnections { port }
                | Fault::ClosePort { port }
                | Fault::OpenPort { port },
            ) => Some(usize::from(port.0)),
            _ => None,
        }
    }

    /// True if it makes something worse.
    pub(crate) fn is_fault(&self) -> bool {
        self.kind().is_some()
            || matches!(
                self,
                Self::BadHour(Some(_))
                    | Self::LanePanics { .. }
                    | Self::LoseOwnership
                    | Self::BadDisk(Some(_))
                    | Self::Drip { .. }
                    | Self::LastWords { .. }
                    | Self::KillSources(true)
                    | Self::Second
                    | Self::Replace { .. }
            )
    }

    /// What kind of fault it is; `None` if it is none, or the end of one.
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Script(fault) => return of_script(fault),
            Self::Flap { .. } => Kind::PathFlaps,
            Self::CrashAgain | Self::Poison(Some((0, _))) => Kind::TargetCrashLoops,
            Self::Rst { .. } | Self::RstAdmin { .. } | Self::RstOther { .. } => Kind::PathReset,
            Self::Silence { to_target, to_host, .. } if *to_target || *to_host => Kind::PathSilent,
            Self::Limbo { extra, .. } if !extra.is_zero() => Kind::BytesLinger,
            Self::SlowMedia(true) => Kind::MediaSlow,
            Self::MediaErrors(true) => Kind::MediaFail,
            Self::Ana { .. } => Kind::AnaChanges,
            Self::Resize { .. } => Kind::Resized,
            Self::Reset(_) | Self::Disconnect(_) | Self::Connect(_) => Kind::OperatorActs,
            Self::Set { .. } => Kind::SettingsChange,
            Self::Rescan(_) => Kind::Rescan,
            Self::Stall { .. } => Kind::LaneHangs,
            Self::Mail { .. } => Kind::MailSlow,
            Self::Crash { .. } => Kind::HostDies,
            Self::TargetOff { .. } => Kind::TargetDies,
            Self::Hang(_) => Kind::HostStops,
            Self::StopTarget(_) => Kind::TargetStops,
            Self::StepRawClock(_) => Kind::RawClockSteps,
            Self::SuspendHost(_) => Kind::HostSuspended,
            Self::Episode
            | Self::Silence { .. }
            | Self::Drip { .. }
            | Self::Limbo { .. }
            | Self::SlowMedia(false)
            | Self::MediaErrors(false)
            | Self::Burst(_)
            | Self::TargetOn
            | Self::Second
            | Self::Wake
            // What comes of them counts.
            | Self::Poison(_)
            | Self::BadDisk(_)
            | Self::LanePanics { .. }
            | Self::GiveUp(_)
            | Self::Reconnect
            | Self::AcceptRisk
            | Self::ClearFlushErrors
            // Each answer counts by itself.
            | Self::BadHour(_)
            | Self::LastWords { .. }
            | Self::NumbersAgain { .. }
            | Self::ImpostorOn(_)
            | Self::ImpostorOff
            | Self::RenameDisks
            | Self::BringDisk
            | Self::LoseOwnership
            | Self::Replace { .. }
            | Self::KillSources(_) => return None,
        })
    }
}

fn of_script(fault: &Fault) -> Option<Kind> {
    Some(match fault {
        Fault::HoldWrites { .. } | Fault::Delay { .. } => Kind::CommandsStall,
        Fault::Drop { .. } => Kind::CommandsVanish,
        Fault::FailIo { status, .. } if !status.is_success() => Kind::CommandsFail,
        Fault::Mute { .. } | Fault::ClosePort { .. } => Kind::PathSilent,
        Fault::ResetConnections { .. } => Kind::PathReset,
        Fault::CcrRefuse(_)
        | Fault::CcrLate { .. }
        | Fault::CcrLoseEvent
        | Fault::CcrStaleEntry
        | Fault::SlowDrain { .. }
        | Fault::RepeatEvent => Kind::ResetFails,
        Fault::CcrFail => Kind::EntriesStay,
        _ => return None,
    })
}

//! The whole host at one moment: what is connected, what is waited for, and until when.

use crate::basics::{AnaState, Hex64, PathAddress, Version};
use crate::control::{DiscoveryStatus, ExportStatus, FencePolicy, FlushScope, IoPolicy, OnLoss};
use crate::event::{ControllerState, SuspectCommand};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Everything that `status`, `list` and the others print.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it began, since 1970.
    pub started_unix_ms: u64,
    /// Host NQN.
    pub hostnqn: String,
    /// Host Identifier.
    pub hostid: String,
    /// Subsystems with a controller.
    pub subsystems: Vec<SubsystemStatus>,
    /// Controllers; those that were given up included, those that were disconnected not.
    pub controllers: Vec<ControllerStatus>,
    /// Namespaces.
    pub namespaces: Vec<NamespaceStatus>,
    /// Device names whose disks are not there, while something else is at their places. Such a name leads nowhere.
    #[serde(default)]
    pub waiting_names: Vec<WaitingName>,
    /// Exports.
    pub exports: Vec<ExportStatus>,
    /// Discovery controllers that are watched.
    pub discovery: Vec<DiscoveryStatus>,
    /// Lives that ended unfenced: what they may still write is guarded.
    pub tombstones: Vec<TombstoneStatus>,
    /// What has happened so far.
    pub totals: Totals,
    /// The journal of events; `null` if there is none.
    pub journal: Option<JournalStatus>,
    /// What may be asked for, and how much of it is taken.
    #[serde(default)]
    pub limits: LimitsStatus,
}

/// What may be asked for, and how much of it is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct LimitsStatus {
    /// Controllers that are wanted, or not ended yet.
    pub controllers: u64,
    /// As many as there may be; those of the configuration count, and are never refused.
    pub controllers_max: u64,
}

/// One subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct SubsystemStatus {
    /// `nvme-subsys0`.
    pub name: String,
    /// Its NQN.
    pub nqn: String,
    /// How paths are chosen.
    pub iopolicy: IoPolicy,
    /// Model number; empty while none of its controllers was live.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
    /// True if no controller of it is live: model, serial number and firmware revision are those that the last one reported.
    #[serde(default)]
    pub last_known: bool,
}

/// One controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ControllerStatus {
    /// `nvme0`.
    pub name: String,
    /// `nvme-subsys0`.
    pub subsystem: String,
    /// NQN of its subsystem.
    pub subnqn: String,
    /// Where it is.
    pub path: PathAddress,
    /// Local address asked for.
    pub host_traddr: Option<String>,
    /// Interface asked for.
    pub host_iface: Option<String>,
    /// Address it is connected to.
    pub peer: Option<String>,
    /// Its state, as Linux has it: never `waiting`.
    pub state: ControllerState,
    /// For so long.
    pub for_ms: u64,
    /// Why it came into this state.
    pub reason: String,
    /// Something looks wrong; it is avoided.
    pub slow: bool,
    /// What it waits for.
    pub waits: Vec<WaitStatus>,
    /// Earlier lives of it that are not fenced yet.
    pub fencing: Vec<String>,
    /// Why it is not live; `null` if it is, or if nothing went wrong.
    pub last_error: Option<String>,
    /// What it says about itself; `null` while it is not live.
    pub facts: Option<ControllerFacts>,
    /// What is in force.
    pub settings: SettingsStatus,
    /// What was counted.
    pub counters: crate::counters::ControllerCounters,
}

/// What a live controller says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ControllerFacts {
    /// Its present life, `life3`.
    pub life: String,
    /// Controller ID.
    pub cntlid: u16,
    /// Controller Instance Uniquifier; 0: none.
    pub ciu: u8,
    /// Controller Instance Random Number.
    #[schema(value_type = String)]
    pub cirn: Hex64,
    /// Keep Alive Timeout in force.
    pub kato_ms: u64,
    /// Command Quiesce Time; `null` if it states none.
    pub cqt_ms: Option<u64>,
    /// Cross-Controller Reset Limit; 0: it cannot reset others.
    pub ccrl: u8,
    /// I/O queue pairs.
    pub io_queues: u16,
    /// Reactors of the host. If they are more, they share the I/O queues.
    #[serde(default)]
    pub reactors: u16,
    /// Entries of an I/O submission queue, less one.
    #[serde(default)]
    pub sqsize: u16,
    /// Model number.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
}

impl ControllerFacts {
    /// True if reactors share the I/O queues, because they are fewer.
    #[must_use]
    pub const fn shares_queues(&self) -> bool {
        self.io_queues < self.reactors
    }
}

/// Settings in force.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct SettingsStatus {
    /// Between attempts to reconnect.
    pub reconnect_delay_s: u64,
    /// -1: never.
    pub ctrl_loss_tmo_s: i64,
    /// -1: off.
    pub fast_io_fail_tmo_s: i64,
    /// How paths are chosen.
    pub iopolicy: IoPolicy,
    /// When a command of a lost path may be repeated.
    pub fence: FencePolicy,
    /// Who reconnects.
    pub on_loss: OnLoss,
    /// The quiesce time assumed where the target states none; -1: never.
    pub assumed_cqt_ms: i64,
    /// By how much longer than stated the target's spans may be because its clock is slow, in thousandths.
    #[serde(default)]
    pub clock_slew_permille: u16,
    /// How long a box between host and target may hold data back; 0: there is none.
    pub proxy_delay_ms: u64,
    /// An orderly end of a controller counts as a fence.
    pub disable_is_fence: bool,
    /// It is tried again although the target answered with Do Not Retry.
    #[serde(default)]
    pub ignore_dnr: bool,
    /// How far a flush reaches.
    #[serde(default)]
    pub flush_scope: FlushScope,
    /// Header digests are asked for.
    #[serde(default)]
    pub hdr_digest: bool,
    /// Data digests are asked for.
    #[serde(default)]
    pub data_digest: bool,
}

/// What a controller, or one of its lives, waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WaitKind {
    /// The next attempt to connect; under the policy that leaves it to others, the next call for it.
    Reconnect,
    /// `ctrl_loss_tmo`: the controller is given up.
    ControllerLoss,
    /// `fast_io_fail_tmo`: settled I/O without another path fails.
    FastIoFail,
    /// TCP connect of the admin queue.
    TcpConnect,
    /// ICResp and Connect of the admin queue.
    Handshake,
    /// Everything from TCP connect to LIVE.
    ConnectTotal,
    /// The next look at CSTS.
    Poll,
    /// The oldest admin command must be answered.
    Admin,
    /// A termination request to leave the admin queue.
    LastWords,
    /// The next Keep Alive, or the end of the one under way.
    KeepAlive,
    /// The answer to a probe that shall witness an I/O timeout.
    Probe,
    /// The life is slow until it has been silent about it for so long.
    Slow,
    /// What could not be read of a live controller is read again, or a path that lanes have put aside is tried again.
    Reread,
    /// A controller that sends too many events is asked for the next one.
    Event,
    /// A live controller is looked at although it has told of nothing.
    Look,
    /// An ANA group must leave the Change state.
    AnaTransition,
    /// The drain of an orderly end.
    Drain,
    /// The orderly shutdown of the controller.
    Shutdown,
    /// The disable of a controller that is known to drain first.
    Disable,
    /// Lanes must say that they stopped, are quiet, and hold the guards.
    LaneAnswer,
    /// The admin socket of a condemned life is aborted, and again until it is known to be gone.
    LateGrace,
    /// Something to do about a fence: a source to try, a log page to read.
    Fence,
    /// The fence by time.
    Hold,
    /// A forced end leaves a tombstone; so does a life that no time fences.
    Grace,
    /// The sockets of an earlier process must be gone; it is told as long as they are not.
    OldSockets,
    /// The store must say whether this process still speaks for its host; it is told as long as it does not.
    Owner,
    /// A step with commands that instances were lost with: the next turn of one alone, or the end of a turn.
    Suspects,
}

/// Something that is waited for. Every wait has an end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct WaitStatus {
    /// What for.
    pub kind: WaitKind,
    /// The life that it is about, `life3`; `null` if it is about the controller whatever its life.
    pub life: Option<String>,
    /// What for, in words.
    pub reason: String,
    /// It ends after so long.
    pub left_ms: u64,
}

/// One namespace, merged over its paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct NamespaceStatus {
    /// `nvme0n1`.
    pub name: String,
    /// `nvme-subsys0`.
    pub subsystem: String,
    /// NQN of its subsystem.
    pub subnqn: String,
    /// Its identifier there.
    pub nsid: u32,
    /// Capacity.
    pub size_bytes: u64,
    /// Block size.
    pub block_bytes: u32,
    /// Write protected.
    pub read_only: bool,
    /// UUID; `null` if it has none.
    pub uuid: Option<String>,
    /// NGUID; `null` if it has none.
    pub nguid: Option<String>,
    /// EUI-64; `null` if it has none.
    pub eui64: Option<String>,
    /// How a flush of it failed, data being lost perhaps: no flush of it succeeds until that is cleared. `null` if none did.
    #[serde(default)]
    pub flush_error: Option<String>,
    /// Commands with which instances were lost: each waits to be sent alone.
    #[serde(default)]
    pub suspects: Vec<SuspectCommand>,
    /// Its paths.
    pub paths: Vec<PathStatus>,
    /// Paths through controllers that are not live. One that has not been live since the daemon began is taken to have had
    /// every namespace of its subsystem.
    #[serde(default)]
    pub lost_paths: Vec<LostPath>,
    /// Why no I/O can be sent to it; `null` if a path can be used.
    #[serde(default)]
    pub unreachable: Option<Unreachable>,
}

/// A device name whose disk is not there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct WaitingName {
    /// `nvme0n1`.
    pub name: String,
    /// `nvme-subsys0`.
    pub subsystem: String,
    /// NQN of its subsystem.
    pub subnqn: String,
    /// Where its disk was seen last.
    pub nsid: u32,
    /// Its disk, by the strongest identifier.
    pub bound_to: String,
    /// What it waits for, and what is there instead.
    pub waits_for: String,
}

/// One path of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct PathStatus {
    /// `nvme0c1n1`.
    pub name: String,
    /// Through this controller.
    pub controller: String,
    /// Its ANA state.
    pub ana_state: AnaState,
    /// Its ANA group; `null` if it is in none.
    #[serde(default)]
    pub ana_group: Option<u32>,
}

/// A path of a namespace whose controller is not live.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct LostPath {
    /// `nvme0c1n1`.
    pub name: String,
    /// Through this controller.
    pub controller: String,
    /// Its last ANA state; `null` if it is not known.
    pub ana_state: Option<AnaState>,
}

/// Why no I/O can be sent to a namespace: it waits, or fails once `fast_io_fail_tmo` or `ctrl_loss_tmo` has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Unreachable {
    /// No live controller has it.
    NoPath,
    /// Live controllers have it, and the ANA state of every path forbids I/O.
    NoUsablePath,
}

impl Unreachable {
    /// Judges the paths through live controllers.
    #[must_use]
    pub fn of(paths: &[PathStatus]) -> Option<Self> {
        if paths.is_empty() {
            Some(Self::NoPath)
        } else if paths.iter().any(|path| path.ana_state.is_usable()) {
            None
        } else {
            Some(Self::NoUsablePath)
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NoPath => "NO PATH: I/O waits",
            Self::NoUsablePath => "NO USABLE PATH: I/O waits",
        })
    }
}

/// A life that ended unfenced.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct TombstoneStatus {
    /// The controller it belonged to.
    pub controller: String,
    /// The life, `life3`: `fence --accept-risk` takes this name.
    pub life: String,
    /// NQN of its subsystem.
    pub subnqn: String,
    /// What may not be written meanwhile, in words.
    pub guarded: String,
    /// It is over by time after so long; `null` if only a fence ends it.
    pub left_ms: Option<u64>,
}

/// What has happened since the daemon began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Lives that were ended.
    pub reset_count: u64,
    /// Attempts to reconnect.
    pub reconnect_count: u64,
    /// Lives that had commands in doubt, or that an earlier process left.
    pub fence_attempts: u64,
    /// Lives without a command in doubt.
    pub fences_not_needed: u64,
    /// Fences, by method.
    pub fences: std::collections::BTreeMap<String, u64>,
    /// Commands retried without a fence: should stay 0.
    pub unsafe_failovers: u64,
}

/// How the journal stands. Counts are those of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct JournalStatus {
    /// Events that were written.
    pub written: u64,
    /// Events that were not, because the disk was too slow or refused: they are missing in it.
    pub dropped: u64,
    /// Its size.
    pub size_bytes: u64,
}

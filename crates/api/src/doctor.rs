//! What a failover through a subsystem would look like, before it happens.

use crate::basics::{AnaState, Hex64, PathAddress, Severity, Version};
use crate::event::ControllerState;
use serde::{Deserialize, Serialize};

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SubsystemFacts {
    /// Subsystem NQN.
    pub nqn: String,
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Firmware revision.
    pub firmware: String,
    /// NVMe version, `2.1.0`.
    pub version: String,
    /// The controller that was asked.
    pub cntlid: u16,
}

/// Cross-Controller Reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CcrFacts {
    /// True if a lost controller of this subsystem can be reset through another one.
    pub supported: bool,
    /// How many may be in progress on one controller (CCRL).
    pub ccrl: u8,
    /// Controller Instance Uniquifier.
    pub ciu: u8,
    /// Controller Instance Random Number.
    pub cirn: Hex64,
}

/// Keep Alive Timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KatoFacts {
    /// What was asked for.
    pub requested_ms: u64,
    /// What is in force; 0 if keep alive is off.
    pub effective_ms: u64,
    /// Granularity (KAS); 0 if keep alive is not supported.
    pub granularity_ms: u64,
}

/// One ANA group, as seen through the controller that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AnaGroup {
    /// ANA group ID.
    pub id: u32,
    /// Its state.
    pub state: AnaState,
    /// Its namespaces.
    pub nsids: Vec<u32>,
}

/// Asymmetric namespace access.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AnaFacts {
    /// True if the subsystem reports it.
    pub supported: bool,
    /// Transition time (ANATT); `null` if not supported.
    pub anatt_s: Option<u64>,
    /// The groups; empty if not supported.
    pub groups: Vec<AnaGroup>,
}

/// One way to the subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortFacts {
    /// Port ID; `null` if discovery was not asked.
    pub portid: Option<u16>,
    /// Where it is.
    pub path: PathAddress,
    /// True if this is the one that was asked.
    pub asked: bool,
}

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamespaceFacts {
    /// Namespace ID.
    pub nsid: u32,
    /// Capacity.
    pub size_bytes: u64,
    /// Block size.
    pub block_bytes: u32,
    /// True if several controllers may have it at once (NMIC).
    pub shared: bool,
    /// True if hosts can reserve it (RESCAP): a reservation of another host makes commands fail with Reservation Conflict.
    #[serde(default)]
    pub reservations: bool,
    /// ANA group; `null` if ANA is not supported.
    pub anagrpid: Option<u32>,
}

/// A failure whose stall is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The peer resets or closes the connection; another path is there.
    SignalledLoss,
    /// A path goes dead without a word; another path is there.
    SilentLoss,
    /// The only path is reset and its port is still there.
    SinglePath,
    /// All paths are lost.
    LastPath,
}

/// One part of a stall.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stage {
    /// `detect`, `fence`, `reconnect` and so on.
    pub name: String,
    /// At most so long; `null` if nothing bounds it.
    pub ms: Option<u64>,
    /// Where that number comes from, in words.
    pub because: String,
}

/// How long the application waits in the worst case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stall {
    /// After what.
    pub failure: Failure,
    /// In order.
    pub stages: Vec<Stage>,
    /// In all; `null` if nothing bounds it.
    pub total_ms: Option<u64>,
    /// True if the bound rests on an assumption about the target.
    pub assumed: bool,
}

/// Something to know or to change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// A stable name, `no-ccr`.
    pub code: String,
    /// What is the case.
    pub text: String,
    /// What to change; `null` if nothing can be.
    pub change: Option<String>,
}

/// What `doctor` says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DoctorReport {
    /// 1.
    pub format_version: Version<1>,
    /// Who answered.
    pub subsystem: SubsystemFacts,
    /// Who asked: host NQN.
    pub hostnqn: String,
    /// Ways to the subsystem that are known.
    pub ports: Vec<PortFacts>,
    /// Cross-Controller Reset.
    pub ccr: CcrFacts,
    /// Command Quiesce Time; `null` if the target states none.
    pub cqt_ms: Option<u64>,
    /// Keep Alive Timeout.
    pub kato: KatoFacts,
    /// True if any traffic counts as keep alive (CTRATT.TBKAS).
    pub tbkas: bool,
    /// Asymmetric namespace access.
    pub ana: AnaFacts,
    /// True if a volatile write cache is present (VWC).
    pub vwc: bool,
    /// The namespaces.
    pub namespaces: Vec<NamespaceFacts>,
    /// Worst cases.
    pub stalls: Vec<Stall>,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// What a running daemon says; `null` if none is there that has this subsystem connected. Then its settings were
    /// judged.
    pub live: Option<LiveFacts>,
}

/// What a running daemon says of a subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LiveFacts {
    /// Its process.
    pub pid: u32,
    /// Its controllers of the subsystem.
    pub controllers: Vec<LiveController>,
    /// Lives that ended unfenced.
    pub unfenced: Vec<String>,
    /// Commands repeated without a fence since it began, over all subsystems: should stay 0.
    pub unsafe_failovers: u64,
}

/// A controller of a running daemon.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LiveController {
    /// `nvme0`.
    pub name: String,
    /// Where it is.
    pub path: PathAddress,
    /// Its state, as Linux has it.
    pub state: ControllerState,
    /// For so long.
    pub for_ms: u64,
}

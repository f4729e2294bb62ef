//! What may be asked of the daemon, and what it answers.
//!
//! Requests refuse fields they do not know, because a misspelt timeout that is silently ignored is an outage later.
//! Everything that has a default may be left out; defaults are those of Linux and nvme-cli.

use crate::address::{canonical_address, link_local};
use crate::basics::{PathAddress, Version};
use crate::event::ControllerState;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// How paths are chosen, in Linux' words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IoPolicy {
    /// In turn over the paths of the best ANA state.
    #[default]
    RoundRobin,
    /// The path with the fewest commands in flight.
    QueueDepth,
    /// The first path of the best ANA state.
    Numa,
}

/// What a Flush through one controller makes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FlushScope {
    /// What any controller of the subsystem has answered: they share their write cache, or have none.
    #[default]
    Subsystem,
    /// What the same controller has answered: each has a cache of its own. A flush goes to all of them.
    Controller,
}

/// When a command of a lost path may be repeated on another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FencePolicy {
    /// After the lost life was fenced.
    #[default]
    Strict,
    /// At once, as today's hosts do. UNSAFE: a stale write may follow.
    Legacy,
}

/// Who reconnects a lost controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// The host itself.
    #[default]
    Reconnect,
    /// Somebody who is told by an event, and asks for it.
    Notify,
}

/// What to stay connected to: one port of one subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// Transport; `tcp` is the only one.
    #[serde(default = "tcp")]
    pub transport: String,
    /// Address or name of the target; link-local IPv6 with its scope.
    pub traddr: String,
    /// TCP port.
    #[serde(default = "nvme_port")]
    pub trsvcid: u16,
    /// Subsystem NQN.
    pub subnqn: String,
    /// Local address to come from.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub host_traddr: Option<IpAddr>,
    /// Network interface to use.
    #[serde(default)]
    pub host_iface: Option<String>,
    /// I/O queue pairs; 0: one per reactor.
    #[serde(default)]
    pub nr_io_queues: u16,
    /// Entries per I/O queue, 2 to 4096.
    #[serde(default = "queue_size")]
    pub queue_size: u16,
    /// Keep Alive Timeout, 1 to 60 s.
    #[serde(default = "keep_alive")]
    pub keep_alive_tmo_s: u16,
    /// Between attempts to reconnect.
    #[serde(default = "reconnect_delay")]
    pub reconnect_delay_s: u32,
    /// A lost controller is given up after this; -1: never.
    #[serde(default = "ctrl_loss")]
    pub ctrl_loss_tmo_s: i64,
    /// I/O that is not in doubt fails after this without a path; -1: off.
    #[serde(default = "off")]
    pub fast_io_fail_tmo_s: i64,
    /// Ask for header digests.
    #[serde(default)]
    pub hdr_digest: bool,
    /// Ask for data digests.
    #[serde(default)]
    pub data_digest: bool,
    /// How paths are chosen.
    #[serde(default)]
    pub iopolicy: IoPolicy,
    /// When a command of a lost path may be repeated.
    #[serde(default)]
    pub fence: FencePolicy,
    /// Who reconnects.
    #[serde(default)]
    pub on_loss: OnLoss,
    /// The quiesce time assumed where the target states none (CQT 0), in milliseconds; -1: never, so that only a reset or
    /// an operator ends a doubt.
    #[serde(default = "assumed_cqt")]
    pub assumed_cqt_ms: i64,
    /// By how much longer than it states a target's KATO and quiesce time may be because its clock is slow, in thousandths of
    /// them, 0 to 1,000.
    #[serde(default = "clock_slew")]
    pub clock_slew_permille: u16,
    /// A box between host and target ends TCP connections, and may hold data back so long, in milliseconds; 0: there is
    /// none.
    #[serde(default)]
    pub proxy_delay_ms: u32,
    /// This target is known to finish or drop every command before it says that it is disabled: then an orderly end is a
    /// fence. Many targets are not like that (Linux nvmet is not).
    #[serde(default)]
    pub disable_is_fence: bool,
    /// Keep connecting although the target answered with Do Not Retry: for targets that say so while they are reconfigured.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_dnr: bool,
    /// Whether each controller has a write cache of its own. The same for every controller of a subsystem.
    #[serde(default)]
    pub flush_scope: FlushScope,
    /// False: the connection is tried until it succeeds. True: if the first attempt fails, nothing is left behind.
    #[serde(default = "yes")]
    pub first_attempt_decides: bool,
    /// True if a discovery log or a configuration named it, and nobody asked for it by name: then exclusion lists apply to
    /// it whenever the daemon starts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub found: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

fn tcp() -> String {
    "tcp".into()
}

const fn nvme_port() -> u16 {
    4420
}

const fn queue_size() -> u16 {
    128
}

const fn keep_alive() -> u16 {
    5
}

const fn reconnect_delay() -> u32 {
    10
}

const fn ctrl_loss() -> i64 {
    600
}

const fn assumed_cqt() -> i64 {
    5_000
}

const fn clock_slew() -> u16 {
    100
}

const fn off() -> i64 {
    -1
}

const fn yes() -> bool {
    true
}

impl ConnectRequest {
    /// With its address in its one form. The interface of a link-local address is a part of it, whether it was given as its
    /// scope or as the interface to use.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.traddr = canonical_address(&self.traddr);
        if let (Some((address, scope)), Some(iface)) = (link_local(&self.traddr), &self.host_iface)
            && scope.is_none_or(|scope| scope == iface)
        {
            self.traddr = format!("{address}%{iface}");
            self.host_iface = None;
        }
        self
    }

    /// With the defaults.
    #[must_use]
    pub fn new(traddr: impl Into<String>, trsvcid: u16, subnqn: impl Into<String>) -> Self {
        Self {
            transport: tcp(),
            traddr: traddr.into(),
            trsvcid,
            subnqn: subnqn.into(),
            host_traddr: None,
            host_iface: None,
            nr_io_queues: 0,
            queue_size: queue_size(),
            keep_alive_tmo_s: keep_alive(),
            reconnect_delay_s: reconnect_delay(),
            ctrl_loss_tmo_s: ctrl_loss(),
            fast_io_fail_tmo_s: off(),
            hdr_digest: false,
            data_digest: false,
            iopolicy: IoPolicy::default(),
            fence: FencePolicy::default(),
            on_loss: OnLoss::default(),
            assumed_cqt_ms: assumed_cqt(),
            clock_slew_permille: clock_slew(),
            proxy_delay_ms: 0,
            disable_is_fence: false,
            ignore_dnr: false,
            flush_scope: FlushScope::default(),
            first_attempt_decides: true,
            found: false,
        }
    }

    /// True if both lead through the same port to the same subsystem by the same way.
    #[must_use]
    pub fn is_same_path(&self, other: &Self) -> bool {
        let way = |one: &Self| one.host_traddr.map(|ip| ip.to_canonical());
        (self.trsvcid, &self.subnqn, way(self), &self.host_iface)
            == (other.trsvcid, &other.subnqn, way(other), &other.host_iface)
            && crate::same_address(&self.traddr, &other.traddr)
    }
}

/// A controller was connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Connected {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// Its name, `nvme0`.
    pub device: String,
    /// The name of its subsystem, `nvme-subsys0`.
    pub subsystem: String,
    /// False if it is still being tried.
    pub live: bool,
}

/// What may be changed while a controller runs. Only what is there is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRequest {
    /// Between attempts to reconnect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect_delay_s: Option<u32>,
    /// A lost controller is given up after this; -1: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctrl_loss_tmo_s: Option<i64>,
    /// I/O that is not in doubt fails after this without a path; -1: off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_io_fail_tmo_s: Option<i64>,
    /// How paths are chosen; for all controllers of the subsystem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iopolicy: Option<IoPolicy>,
    /// When a command of a lost path may be repeated; for losses from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<FencePolicy>,
    /// Who reconnects; for losses from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_loss: Option<OnLoss>,
    /// The quiesce time assumed where the target states none, in milliseconds; -1: never; for losses from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assumed_cqt_ms: Option<i64>,
    /// By how much longer than stated the target's spans may be because its clock is slow, in thousandths; for losses from now
    /// on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_slew_permille: Option<u16>,
}

/// It was done, to these controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// Their names.
    pub devices: Vec<String>,
}

/// What an export does with I/O when no path is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExportOnLoss {
    /// It waits for a path.
    #[default]
    Hold,
    /// It fails. Writes in doubt wait for their fence all the same.
    Fail,
}

/// How a namespace is offered as a block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExportKind {
    /// To NBD clients, over a Unix socket.
    #[default]
    Nbd,
    /// As a block device of the kernel, `/dev/ublkb0`: it outlives the daemon, and a mounted file system with it.
    Ublk,
}

/// Offer a namespace as a block device.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportRequest {
    /// The namespace: `nvme0n1`, or `NQN:NSID`.
    pub namespace: String,
    /// How.
    #[serde(default)]
    pub kind: ExportKind,
    /// Its name for clients; default: the name of the namespace.
    #[serde(default)]
    pub name: Option<String>,
    /// `nbd`: the Unix socket for its clients; default: one in the daemon's directory.
    #[serde(default)]
    pub socket: Option<String>,
    /// `ublk`: N of `/dev/ublkbN`; default: the lowest that is free.
    #[serde(default)]
    pub ublk_id: Option<u32>,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
    /// What happens when no path is left.
    #[serde(default)]
    pub on_loss: ExportOnLoss,
}

/// An export, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ExportStatus {
    /// Its name for clients.
    pub name: String,
    /// The namespace, `nvme0n1`.
    pub namespace: String,
    /// Its subsystem.
    pub subnqn: String,
    /// Its identifier there.
    pub nsid: u32,
    /// How it is offered.
    pub kind: ExportKind,
    /// The Unix socket; `null` for a block device of the kernel.
    pub socket: Option<String>,
    /// What NBD clients are given; `null` for a block device of the kernel.
    pub uri: Option<String>,
    /// The block device of the kernel, `/dev/ublkb0`; `null` for NBD.
    pub device: Option<String>,
    /// A link to that block device, by the export's name; `null` for NBD, and where none could be made.
    pub link: Option<String>,
    /// Writes are refused.
    pub read_only: bool,
    /// What happens when no path is left.
    pub on_loss: ExportOnLoss,
    /// True if it serves: its own disk is there, and a path leads to it.
    pub serving: bool,
    /// What it waits for, or why it failed; `null` if it serves.
    pub waits_for: Option<String>,
    /// The disk it is bound to, by its strongest identifier (`UUID 0191...`); `null` if it is bound to none yet, or to one
    /// that states no identifier. No other disk is ever served under its name.
    #[serde(default)]
    pub bound_to: Option<String>,
    /// Clients that are connected; `null` for a block device of the kernel, which does not tell who has it open.
    pub clients: Option<u64>,
    /// Requests in flight.
    pub in_flight: u64,
}

impl ExportStatus {
    /// What a client is given: the URI of NBD, or the block device.
    #[must_use]
    pub fn address(&self) -> &str {
        self.uri.as_ref().or(self.device.as_ref()).map_or("", String::as_str)
    }
}

/// All exports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Exports {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// They, by name.
    pub exports: Vec<ExportStatus>,
}

/// A discovery controller that is watched, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct DiscoveryStatus {
    /// Where it is.
    pub path: PathAddress,
    /// Who wants it: `configuration`, `asked for`, or who refers to it.
    pub origin: String,
    /// `live`, or `connecting` while it is tried.
    pub state: ControllerState,
    /// For so long.
    pub for_ms: u64,
    /// Generation of its log; `null` if it was never read.
    pub generation: Option<u64>,
    /// Records of its log.
    pub records: u64,
    /// Why it is not live; `null` if it is.
    pub last_error: Option<String>,
    /// It is tried again after so long; `null` if it is live, or just being tried.
    pub next_attempt_ms: Option<u64>,
}

/// All discovery controllers that are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct DiscoveryControllers {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// They, by address.
    pub controllers: Vec<DiscoveryStatus>,
}

/// Why a life may still change a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnfencedKind {
    /// It is connected.
    Alive,
    /// It is being connected, and can write once it is live.
    Connecting,
    /// It was lost, and its fence is awaited.
    Lost,
    /// An earlier process of this host left it, and its fence is awaited.
    Predecessor,
}

/// A life that may still change a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct UnfencedLife {
    /// Its controller, `nvme0`.
    pub controller: String,
    /// The life, `life3`.
    pub life: String,
    /// Why it may still write.
    pub why: UnfencedKind,
    /// It is over by time after so long; `null` if that is not known, or if it is alive.
    pub left_ms: Option<u64>,
}

/// Every lost life of this host is proven unable to change the namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Fenced {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// The namespace.
    pub namespace: String,
    /// Those that are alive: only if there is none, this host can write there no more.
    pub alive: Vec<UnfencedLife>,
}

/// Every lost life of this host is proven unable to change any namespace of the subsystem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Drained {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// Subsystem NQN.
    pub subsystem: String,
    /// Controllers that are connected, or are being connected: only if there is none, this host can write there no more.
    pub alive: Vec<UnfencedLife>,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// The request cannot be.
    BadRequest,
    /// There is no such thing.
    NotFound,
    /// It is so already.
    Already,
    /// Something uses it.
    InUse,
    /// The target, or the way to it.
    Target,
    /// It took too long.
    Timeout,
    /// The daemon itself.
    Internal,
    /// There is no daemon to ask. Never an answer of one.
    NoDaemon,
    /// The caller has no permission: for the control socket, a file or a device.
    Denied,
    /// Something else. Never an answer of the daemon.
    Failed,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// What kind.
    pub kind: ProblemKind,
    /// In one sentence.
    pub error: String,
    /// What to do; may be empty.
    pub hints: Vec<String>,
    /// The device that it is about, `nvme0`; `null` if none is.
    pub device: Option<String>,
}

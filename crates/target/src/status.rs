//! What a target looks like now, as data that programs read.
//!
//! A target that is said to leak nothing must be able to show what it holds: after the last host has left, everything
//! here is as it was before the first one came.

use crate::config::Ana;
use crate::lane::{LaneMail, LaneStatus};
use crate::shape::ana_words;
use crate::target::{ANSWER_WITHIN, SUBSYSTEM, Target, TargetError};
use interlock_target_core::config::Offers;
use interlock_target_core::status::{ConnStage, ControllerStage, ControllerView, LifeView, PortView};
use interlock_target_core::{Control, Life, LifeState, Payer, PortId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{PoisonError, mpsc};

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Subsystem NQN.
    pub nqn: String,
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Its ports, discovery-only ones last.
    pub ports: Vec<PortStatus>,
    /// Its namespaces, by ascending NSID.
    pub namespaces: Vec<NamespaceStatus>,
    /// Controllers, in the order in which they were made.
    pub controllers: Vec<ControllerStatus>,
    /// Lives that can still change media, in the order in which they began.
    pub lives: Vec<LifeStatus>,
    /// Connections, by lane.
    pub connections: Vec<ConnectionStatus>,
    /// What all of this takes.
    pub memory: MemoryStatus,
    /// What peers hold of what they may.
    #[serde(default)]
    pub quota: QuotaStatus,
    /// What went wrong since the target was started.
    #[serde(default)]
    pub troubles: TroubleStatus,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Its number, as verbs and faults name it.
    pub port: u16,
    /// Where it listens.
    pub listen: SocketAddr,
    /// It listens now.
    pub open: bool,
    /// It offers the discovery service only.
    pub discovery_only: bool,
    /// The ANA states through it, group 1 first; none if it offers no subsystem.
    pub ana: Vec<Ana>,
}

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceStatus {
    /// Namespace Identifier.
    pub nsid: u32,
    /// What holds its blocks.
    pub backing: String,
    /// Bytes that hosts see.
    pub bytes: u64,
    /// Bytes per block.
    pub block_size: u32,
    /// Write protected.
    pub read_only: bool,
    /// Its ANA group.
    pub ana_group: u32,
    /// Why a flush of it has failed, while nobody has said that this was dealt with: no flush succeeds until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush_failed: Option<String>,
}

/// One controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerStatus {
    /// Controller Identifier.
    pub cntlid: u16,
    /// A discovery controller.
    pub discovery: bool,
    /// Host NQN.
    pub host: String,
    /// Through which port it was made.
    pub port: u16,
    /// Keep Alive Timeout in milliseconds; 0: off.
    pub kato_ms: u32,
    /// I/O queues that are connected.
    pub queues: usize,
    /// `disabled`, `ready`, `ending`, `shut-down` or `failed`.
    pub state: String,
    /// Its life, `CNTLID/CIU/CIRN`, if it has one.
    pub life: Option<String>,
    /// Asynchronous Event Requests that wait.
    pub event_requests: usize,
    /// Completed entries of its CCR log.
    pub ccr_entries: usize,
}

/// One life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeStatus {
    /// `CNTLID/CIU/CIRN`.
    pub life: String,
    /// `live`, `draining` or `quiescing`.
    pub state: String,
    /// What quiesces it: `ccr`, `time` or `reset`, once something does.
    pub by: Option<String>,
    /// Media-changing commands that stall inside.
    pub held: u32,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Its lane.
    pub lane: u16,
    /// Its number there.
    pub connection: u32,
    /// Where it came in.
    pub port: u16,
    /// Where it came from, while the kernel knows.
    pub peer: Option<SocketAddr>,
    /// `new` (no Connect yet), `admin`, `io` or `over`.
    pub queue: String,
    /// The life that it belongs to, as an I/O queue.
    pub life: Option<String>,
    /// Commands that were received and not wholly answered.
    pub commands: usize,
}

/// What a target takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Bytes in buffers that commands hold.
    pub buffers: u64,
    /// Bytes in free buffers that are kept for reuse.
    pub cached: u64,
    /// Commands that stall inside, and media operations under way.
    pub inside: usize,
    /// Bytes of the whole process that are resident; 0 if the kernel does not say.
    pub resident: u64,
    /// Descriptors that the process has open; 0 if the kernel does not say.
    pub descriptors: usize,
}

/// What peers hold, and who holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaStatus {
    /// Bytes that peers can make the target hold, whatever they do.
    pub total: u64,
    /// Bytes that they hold.
    pub held: u64,
    /// Connections that were refused since the target was started, or ended to make room for others.
    pub refused: u64,
    /// Everybody who holds something, by address.
    pub payers: Vec<PayerStatus>,
}

/// What one payer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayerStatus {
    /// Whom it is charged to: an IPv4 address, or an IPv6 network of 64 bits.
    pub address: String,
    /// Controllers, discovery controllers included.
    pub controllers: usize,
    /// Connections.
    pub connections: u64,
    /// Bytes.
    pub bytes: u64,
    /// Connections that it was refused while it held something, or that were ended to make room for others.
    pub refused: u64,
}

/// What went wrong since a target was started, by count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleStatus {
    /// Lives that were not over when the Command Quiesce Time of their controller was.
    pub quiesce_overruns: u64,
    /// Commands that were not executed, because they came to it when their host had to be given up already: the process was
    /// stopped, or the machine was.
    pub too_late: u64,
}

/// What control knows.
struct ControlView {
    overruns: u64,
    ports: Vec<(PortView, Vec<Ana>)>,
    sizes: BTreeMap<u32, u64>,
    controllers: Vec<ControllerView>,
    lives: Vec<LifeView>,
}

fn look(control: &mut Control) -> ControlView {
    let namespaces = control.namespaces(SUBSYSTEM);
    let ana = |port: PortId| {
        let groups = namespaces.map_or(0, |all| all.groups());
        (1..=groups).filter_map(|group| namespaces.map(|all| ana_words(all.state(port, group)))).collect()
    };
    ControlView {
        overruns: control.overruns(),
        ports: control.port_views().map(|view| (view.clone(), ana(view.port))).collect(),
        sizes: namespaces.map_or_else(BTreeMap::new, |all| {
            all.iter().map(|namespace| (namespace.nsid, namespace.blocks << namespace.block_shift)).collect()
        }),
        controllers: control.controller_views().collect(),
        lives: control.life_views().collect(),
    }
}

impl Target {
    /// What it looks like now. Its parts are asked one after the other: they agree once nothing moves.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn status(&self) -> Result<Status, TargetError> {
        let view = self.ask(|control, _| look(control))?;
        let lanes = self.lane_status()?;
        let life_of = |id| view.lives.iter().find(|known| known.life.id == id).map(|known| named(&known.life));
        let open: Vec<PortId> = lanes.iter().flat_map(|lane| lane.open.iter().copied()).collect();
        let ports = view.ports.iter().map(|(port, ana)| port_status(port, ana, &open)).collect();
        let kept = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let namespaces = kept
            .iter()
            .map(|(nsid, kept)| NamespaceStatus {
                nsid: *nsid,
                backing: kept.config.backing.to_string(),
                bytes: view.sizes.get(nsid).copied().unwrap_or(0),
                block_size: kept.config.block_size,
                read_only: kept.config.read_only,
                ana_group: kept.config.ana_group,
                flush_failed: kept.backing.flush_failed(),
            })
            .collect();
        let mut connections = Vec::new();
        for (lane, status) in (0..).zip(&lanes) {
            for (conn, peer) in &status.connections {
                let (queue, life) = match conn.stage {
                    ConnStage::New => ("new", None),
                    ConnStage::Admin => ("admin", None),
                    ConnStage::Io(id) => ("io", life_of(id)),
                    ConnStage::Over => ("over", None),
                };
                connections.push(ConnectionStatus {
                    lane,
                    connection: conn.conn.0,
                    port: conn.port.0,
                    peer: *peer,
                    queue: queue.into(),
                    life,
                    commands: conn.commands,
                });
            }
        }
        Ok(Status {
            nqn: self.names.nqn.clone(),
            serial: self.names.serial.clone(),
            model: self.config.model.clone(),
            ports,
            namespaces,
            controllers: view.controllers.iter().map(|view| controller_status(view, life_of)).collect(),
            lives: view.lives.iter().map(life_status).collect(),
            connections,
            memory: memory_status(&lanes),
            quota: quota_status(self.config.limits.memory_mib, &view.controllers, &lanes),
            troubles: TroubleStatus {
                quiesce_overruns: view.overruns,
                too_late: lanes.iter().map(|lane| lane.too_late).sum(),
            },
        })
    }

    /// Asks every lane. When it returns, all mail that was sent to them before has been read.
    pub(crate) fn lane_status(&self) -> Result<Vec<LaneStatus>, TargetError> {
        let ask = |lane: &interlock_carry::Mailbox<LaneMail>| {
            let (sender, answer) = mpsc::channel();
            lane.send(LaneMail::Status(sender));
            answer
        };
        let answers: Vec<_> = self.lanes.iter().map(ask).collect();
        answers.iter().map(|answer| answer.recv_timeout(ANSWER_WITHIN).map_err(|_| TargetError::Gone)).collect()
    }
}

fn named(life: &Life) -> String {
    life.to_string()
}

fn port_status(view: &PortView, ana: &[Ana], open: &[PortId]) -> PortStatus {
    let discovery_only = view.offers == Offers::Discovery;
    PortStatus {
        port: view.port.0,
        listen: view.address,
        open: open.contains(&view.port),
        discovery_only,
        ana: if discovery_only { Vec::new() } else { ana.to_vec() },
    }
}

fn controller_status(
    view: &ControllerView,
    life_of: impl Fn(interlock_target_core::LifeId) -> Option<String>,
) -> ControllerStatus {
    let (state, life) = match view.stage {
        ControllerStage::Disabled => ("disabled", None),
        ControllerStage::Ready(life) => ("ready", life),
        ControllerStage::Ending(life) => ("ending", Some(life)),
        ControllerStage::ShutDown => ("shut-down", None),
        ControllerStage::Failed => ("failed", None),
    };
    ControllerStatus {
        cntlid: view.cntlid,
        discovery: view.subsystem.is_none(),
        host: view.host.to_string(),
        port: view.port.0,
        kato_ms: view.kato_ms,
        queues: view.queues,
        state: state.into(),
        life: life.and_then(life_of),
        event_requests: view.event_requests,
        ccr_entries: view.ccr_entries,
    }
}

fn life_status(view: &LifeView) -> LifeStatus {
    let (state, by) = match view.state {
        LifeState::Live => ("live", None),
        LifeState::Draining { by } => ("draining", Some(by)),
        LifeState::Quiescing { by } => ("quiescing", Some(by)),
    };
    LifeStatus { life: named(&view.life), state: state.into(), by: by.map(|by| by.to_string()), held: view.held }
}

fn quota_status(memory_mib: u32, controllers: &[ControllerView], lanes: &[LaneStatus]) -> QuotaStatus {
    let mut payers: BTreeMap<Payer, PayerStatus> = BTreeMap::new();
    let of = |payer: Payer| PayerStatus {
        address: payer.to_string(),
        controllers: controllers.iter().filter(|known| known.payer == payer).count(),
        connections: 0,
        bytes: 0,
        refused: 0,
    };
    for view in lanes.iter().flat_map(|lane| &lane.payers) {
        let payer = payers.entry(view.payer).or_insert_with(|| of(view.payer));
        payer.connections += view.connections;
        payer.bytes += view.bytes;
        payer.refused += view.refused;
    }
    QuotaStatus {
        total: u64::from(memory_mib) << 20,
        held: lanes.iter().map(|lane| lane.held).sum(),
        refused: lanes.iter().map(|lane| lane.refused).sum(),
        payers: payers.into_values().collect(),
    }
}

fn memory_status(lanes: &[LaneStatus]) -> MemoryStatus {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    // Reading the folder opens one more.
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
    MemoryStatus {
        buffers: lanes.iter().map(|lane| lane.buffered).sum(),
        cached: lanes.iter().map(|lane| lane.cached).sum(),
        inside: lanes.iter().map(|lane| lane.inside).sum(),
        resident: resident.unwrap_or(0u64) * 1024,
        descriptors,
    }
}

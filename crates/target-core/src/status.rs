//! What a target looks like now, for people and tests.
//!
//! Read-only copies: whoever asks `status` must not be able to hold a machine still, or to see half of a change.

use crate::config::Offers;
use crate::control::ControllerKey;
use crate::{ConnId, Life, LifeId, LifeState, Payer, PortId, SubsystemId};
use core::net::SocketAddr;
use interlock_wire::nqn::Nqn;

/// One controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ControllerView {
    /// Names it for as long as the target runs.
    pub key: ControllerKey,
    /// Controller Identifier.
    pub cntlid: u16,
    /// Its subsystem; none for a discovery controller.
    pub subsystem: Option<SubsystemId>,
    /// Host NQN.
    pub host: Nqn,
    /// Through which port it was made.
    pub port: PortId,
    /// Keep Alive Timeout in force, in milliseconds; 0: off.
    pub kato_ms: u32,
    /// I/O queues that are connected.
    pub queues: usize,
    /// Where it stands.
    pub stage: ControllerStage,
    /// Asynchronous Event Requests that wait.
    pub event_requests: usize,
    /// Completed entries of its CCR log.
    pub ccr_entries: usize,
    /// Who pays for it.
    pub payer: Payer,
}

/// What a payer holds on a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PayerView {
    /// Who.
    pub payer: Payer,
    /// Connections.
    pub connections: u64,
    /// Bytes.
    pub bytes: u64,
    /// Connections that it was refused, or that were ended to make room.
    pub refused: u64,
}

/// Where a controller stands between enable and reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControllerStage {
    /// Not enabled.
    Disabled,
    /// CSTS.RDY is 1; an I/O controller has a life.
    Ready(Option<LifeId>),
    /// A reset or shutdown waits for the last media operation of this life.
    Ending(LifeId),
    /// Shut down.
    ShutDown,
    /// CSTS.CFS is 1.
    Failed,
}

/// One life that can still change media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LifeView {
    /// Its names.
    pub life: Life,
    /// How far its end has come.
    pub state: LifeState,
    /// Media-changing commands that stall inside the target.
    pub held: u32,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortView {
    /// Which.
    pub port: PortId,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it offers.
    pub offers: Offers,
}

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnStage {
    /// Its Connect has not been answered with success.
    New,
    /// The admin queue of a controller.
    Admin,
    /// An I/O queue of this life.
    Io(LifeId),
    /// Over; only its socket remains for a moment.
    Over,
}

/// One connection of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnView {
    /// Which.
    pub conn: ConnId,
    /// Where it came in.
    pub port: PortId,
    /// What it is.
    pub stage: ConnStage,
    /// Commands that were received and not wholly answered.
    pub commands: usize,
}

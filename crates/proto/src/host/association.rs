//! skeleton: bodies follow
use crate::DataError;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::fabrics::Cap;
use interlock_wire::identify::IdentifyController;
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::sqe::{Cqe, Sqe};
use interlock_wire::status::Status;

/// What kind of controller is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An I/O controller.
    Io,
    /// A discovery controller.
    Discovery,
}

/// What to connect to, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssociationConfig {
    /// Who we are.
    pub hostnqn: Nqn,
    /// Which of us.
    pub hostid: HostId,
    /// The subsystem.
    pub subnqn: Nqn,
    /// I/O or discovery.
    pub kind: Kind,
    /// Keep Alive Timeout to ask for, milliseconds.
    pub kato_ms: u32,
    /// 0's based size of the admin queue.
    pub admin_sqsize: u16,
    /// FFFFh: the subsystem chooses.
    pub cntlid: u16,
    /// How many I/O queues are wanted (I/O only).
    pub io_queues_wanted: u16,
    /// Asynchronous events wanted (Set Features 0Bh), cut to what OAES offers.
    pub want_events: u32,
}

/// One admin command to submit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdminCommand {
    /// Without CID and SGL: the queue fills them in.
    pub sqe: Sqe,
    /// Data to send: `Source::Bytes`, or none if empty.
    pub out: Vec<u8>,
    /// Bytes to receive: `Sink::Bytes`, or none if 0.
    pub into: u32,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Submit this and give the answer to `handle_answer`.
    Ask(AdminCommand),
    /// Call `handle_waited` after this time.
    Wait(Duration),
    /// Done: the controller is live.
    Live(Box<Facts>),
}

/// What a live controller said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Controller ID.
    pub cntlid: u16,
    /// Capabilities.
    pub cap: Cap,
    /// Version property.
    pub vs: u32,
    /// Identify Controller.
    pub identify: Box<IdentifyController>,
    /// Keep Alive Timeout in force: the larger of what was asked and what the controller reports.
    pub kato_ms: u32,
    /// I/O queues granted, at most what was wanted.
    pub io_queues: u16,
    /// Largest 0's based SQSIZE for an I/O queue.
    pub sqsize_max: u16,
    /// Most bytes of in-capsule data on an I/O queue.
    pub in_capsule_io: u32,
    /// Traffic based keep alive.
    pub tbkas: bool,
    /// Command Quiesce Time, milliseconds; 0 if not reported.
    pub cqt_ms: u32,
    /// Cross-Controller Reset Limit.
    pub ccrl: u8,
    /// Controller Instance Uniquifier.
    pub ciu: u8,
    /// Controller Instance Random Number.
    pub cirn: u64,
    /// Events enabled.
    pub events: u32,
    /// The ANA log page, if the controller reports ANA.
    pub ana: Option<Vec<u8>>,
}

/// Why there is no association.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {why}")]
pub struct ConnectError {
    /// Which step failed, in words.
    pub step: &'static str,
    /// What went wrong, in words.
    pub why: String,
    /// The controller's answer, if it gave one.
    pub status: Option<Status>,
    /// True if trying again cannot help.
    pub permanent: bool,
    /// What to do about it.
    pub hint: &'static str,
}

/// From Connect to a live controller.
#[derive(Clone, Debug)]
pub struct Association {}

#[allow(missing_docs, unused_variables, clippy::all)]
impl Association {
    pub fn new(config: AssociationConfig) -> Self { todo!() }
    pub fn start(&mut self) -> Step { todo!() }
    pub fn handle_answer(&mut self, now: Instant, cqe: &Cqe, data: &[u8], error: Option<DataError>) -> Result<Step, ConnectError> { todo!() }
    pub fn handle_waited(&mut self, now: Instant) -> Result<Step, ConnectError> { todo!() }
}

//! What the operator says: who this host is, and what to stay connected to.

use crate::{FencePolicy, FlushScope, Identity, IoPolicy, OnLoss, Reconnect, Timeouts};
use alloc::string::String;
use core::net::IpAddr;
use core::time::Duration;
use interlock_proto::host::{Fact, Uniquifier};
use interlock_wire::nqn::{HostId, Nqn};

/// Largest KATO: it multiplies into the hold, so an hour here would be hours of waiting writes.
pub const MAX_KATO: Duration = Duration::from_secs(60);
/// Smallest KATO except 0: targets round up to whole seconds.
pub const MIN_KATO: Duration = Duration::from_secs(1);
/// Longest time between attempts, and longest limit from a loss: one year.
pub const MAX_RECONNECT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Largest allowance for a slow clock: a target whose clock goes at half the rate.
pub const MAX_SLEW_PERMILLE: u16 = 1_000;
/// Most I/O queue pairs of one controller.
pub const MAX_IO_QUEUES: u16 = 1024;

/// Who this host is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostConfig {
    /// Host NQN.
    pub hostnqn: Nqn,
    /// Host Identifier.
    pub hostid: HostId,
    /// Lanes; they are named 0, 1, ... At least 1.
    pub lanes: u16,
    /// Of everything that is drawn (jitter). Same seed, same inputs: same outputs.
    pub seed: u64,
}

/// What to stay connected to: one port of one subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ControllerSpec {
    /// Address or name.
    pub traddr: String,
    /// TCP port. Default 4420.
    pub trsvcid: u16,
    /// Local address to bind.
    pub host_traddr: Option<IpAddr>,
    /// Interface to bind.
    pub host_iface: Option<String>,
    /// Subsystem.
    pub subnqn: Nqn,
    /// Keep Alive Timeout to ask for. 1 s to 60 s; 0 only with `allow_no_kato`. Default 5 s, as in Linux.
    pub kato: Duration,
    /// Entries per I/O queue, 2 to 4096. Default 128, as in Linux.
    pub queue_size: u16,
    /// I/O queue pairs over all lanes; 0: one per lane. Lanes share queues that are fewer ([`forward`](crate::forward)), as
    /// they share those of a controller that grants fewer.
    pub nr_io_queues: u16,
    /// Header digest.
    pub hdgst: bool,
    /// Data digest.
    pub ddgst: bool,
    /// After a loss.
    pub reconnect: Reconnect,
    /// Who reconnects it after a loss.
    pub on_loss: OnLoss,
    /// Limits of everything that waits.
    pub timeouts: Timeouts,
    /// Fence, or do what today's hosts do.
    pub fence: FencePolicy,
    /// Whether each controller of the subsystem has a write cache of its own. The same for all of them.
    pub flush_scope: FlushScope,
    /// How lanes choose among paths.
    pub iopolicy: IoPolicy,
    /// Accept a controller whose KATO is 0: then only CCR ends a doubt, time never does.
    pub allow_no_kato: bool,
    /// A box that ends TCP connections lies between: `timeouts.proxy_delay` is added to the hold.
    pub proxied: bool,
    /// Go on reconnecting although the target said Do Not Retry.
    pub ignore_dnr: bool,
    /// This target is known to finish or drop every command before it says that it is disabled (CSTS.RDY = 0): then that
    /// counts as a fence where an orderly end left commands unanswered. The specification demands it, but common targets
    /// do not do it; nobody but the operator can know. Default: no.
    pub disable_is_fence: bool,
}

impl ControllerSpec {
    /// With the defaults.
    #[must_use]
    pub fn new(traddr: impl Into<String>, trsvcid: u16, subnqn: Nqn) -> Self {
        Self {
            traddr: traddr.into(),
            trsvcid,
            host_traddr: None,
            host_iface: None,
            subnqn,
            kato: Duration::from_secs(5),
            queue_size: 128,
            nr_io_queues: 0,
            hdgst: false,
            ddgst: false,
            reconnect: Reconnect::default(),
            on_loss: OnLoss::default(),
            timeouts: Timeouts::default(),
            fence: FencePolicy::default(),
            flush_scope: FlushScope::default(),
            iopolicy: IoPolicy::default(),
            allow_no_kato: false,
            proxied: false,
            ignore_dnr: false,
            disable_is_fence: false,
        }
    }

    /// Checks everything that can be checked without the target.
    ///
    /// # Errors
    /// The setting that is wrong, and what it may be.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.traddr.is_empty() {
            return Err(SpecError::NoAddress);
        }
        if self.subnqn.is_discovery() {
            return Err(SpecError::Discovery);
        }
        if self.kato.is_zero() && !self.allow_no_kato {
            return Err(SpecError::NoKato);
        }
        if !self.kato.is_zero() && !(MIN_KATO..=MAX_KATO).contains(&self.kato) {
            return Err(SpecError::Kato);
        }
        if !(2..=4096).contains(&self.queue_size) {
            return Err(SpecError::QueueSize);
        }
        if self.nr_io_queues > MAX_IO_QUEUES {
            return Err(SpecError::Queues);
        }
        if let (Some(fast), Some(loss)) = (self.reconnect.fast_io_fail, self.reconnect.ctrl_loss)
            && fast > loss
        {
            return Err(SpecError::FastIoFail);
        }
        if self.timeouts.clock_slew_permille > MAX_SLEW_PERMILLE {
            return Err(SpecError::ClockSlew);
        }
        let longest = [Some(self.reconnect.delay), self.reconnect.ctrl_loss, self.reconnect.fast_io_fail];
        if longest.into_iter().flatten().any(|span| span > MAX_RECONNECT) {
            return Err(SpecError::TooLong);
        }
        Ok(())
    }

    /// I/O queue pairs to ask for.
    #[must_use]
    pub fn queues(&self, lanes: u16) -> u16 {
        if self.nr_io_queues == 0 { lanes } else { self.nr_io_queues }
    }

    /// The longest that a declared box in between may delay what was sent.
    #[must_use]
    pub fn proxy_delay(&self) -> Duration {
        if self.proxied { self.timeouts.proxy_delay } else { Duration::ZERO }
    }
}

/// Why a controller was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SpecError {
    /// Empty address.
    #[error("traddr is empty: give an address or a name")]
    NoAddress,
    /// Not a subsystem with namespaces.
    #[error("this is the discovery NQN: connect to a subsystem it lists, or use `discover`")]
    Discovery,
    /// KATO 0.
    #[error("keep_alive_tmo 0 leaves no time bound for a lost path: give 1 to 60 s")]
    NoKato,
    /// KATO out of range.
    #[error("keep_alive_tmo must be 1 to 60 s")]
    Kato,
    /// Queue size out of range.
    #[error("queue_size must be 2 to 4096")]
    QueueSize,
    /// Too many queues.
    #[error("nr_io_queues must be 0 (one per reactor) to {MAX_IO_QUEUES}")]
    Queues,
    /// Times that contradict each other.
    #[error("fast_io_fail_tmo is larger than ctrl_loss_tmo")]
    FastIoFail,
    /// A clock so slow is a clock that stands still.
    #[error("clock_slew must be 0 to 100 %")]
    ClockSlew,
    /// A time without an end in sight.
    #[error("reconnect_delay, ctrl_loss_tmo and fast_io_fail_tmo are at most one year; switch a limit off instead")]
    TooLong,
    /// A cache is shared by all controllers of a subsystem, or by none.
    #[error("flush_scope must be the same for every controller of a subsystem: {0} has another")]
    FlushScope(crate::CtrlId),
    /// The same port is configured already.
    #[error("already connected: {0} is this port of this subsystem")]
    Duplicate(crate::CtrlId),
    /// Another controller has the name that was asked for.
    #[error("the name {0} is in use")]
    NameInUse(crate::CtrlId),
    /// Too late.
    #[error("the host is shutting down")]
    ShuttingDown,
}

/// There is no controller of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("there is no controller {0}")]
pub struct NoSuchController(pub crate::CtrlId);

/// What a live controller said about itself, snapped when its life began and never re-read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LifeFacts {
    /// Its name for the target, with zeroes where it offers none.
    pub identity: Identity,
    /// What names it in a cross-controller reset; where it is not offered nobody can reset it.
    pub uniquifier: Fact<Uniquifier>,
    /// Version property.
    pub vs: u32,
    /// KATO in force: the larger of what was asked for and what the controller reports. Zero, or not offered: none.
    pub kato: Fact<Duration>,
    /// Traffic Based Keep Alive. A hold reckons with it also where it is assumed.
    pub tbkas: Fact<()>,
    /// Command Quiesce Time.
    pub cqt: Fact<Duration>,
    /// Cross-Controller Reset Limit; where it is not offered the controller cannot be a source.
    pub ccrl: Fact<u8>,
    /// It announces the completion of a CCR by an asynchronous event.
    pub ccr_event: bool,
    /// It reports ANA.
    pub ana: bool,
    /// Longest stay in the ANA Change state.
    pub anatt: Duration,
    /// I/O queue pairs granted, at most as many as were asked for.
    pub io_queues: u16,
    /// Lanes of the host. If they are more they share the queues.
    pub lanes: u16,
    /// Largest SQSIZE (0's based).
    pub sqsize_max: u16,
    /// In-capsule data bytes on I/O queues.
    pub in_capsule: u32,
    /// Bytes per command; `u32::MAX` if unlimited.
    pub max_transfer: u32,
    /// A volatile write cache is present.
    pub vwc: bool,
    /// How long a retry waits that the controller asks for with CRD 1, 2 or 3.
    pub retry_delays: [Duration; 3],
    /// Longest time of an orderly shutdown it states.
    pub shutdown: Duration,
    /// Serial number; not offered where it is blank. Then it neither contradicts another controller nor proves anything.
    pub serial: Fact<String>,
    /// Model number; the same.
    pub model: Fact<String>,
    /// Firmware revision.
    pub firmware: String,
}

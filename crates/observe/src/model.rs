//! What there is: subsystems, their controllers, their namespaces, and the paths between.
//!
//! Everything a source may not know is an [`Option`]: a controller that reconnects has no source address, a kernel
//! without multipath has no failovers, and zero would be a lie about both.

use crate::{Word, natural_order};
use interlock_api::{
    AnaState, ControllerCounters as Counted, ControllerState, Hex64, Histogram, HostCounters, SubsystemCounters,
    SuspectCommand, TombstoneStatus, WaitStatus,
};
use serde::Serialize;
use std::time::Duration;

/// All that a source saw at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// When, on the source's own monotonic clock.
    #[serde(skip)]
    pub at: Duration,
    /// In natural order of their names.
    pub subsystems: Vec<Subsystem>,
    /// Of the host that drives them; `None` for the kernel.
    pub host: Option<Box<HostFacts>>,
}

/// What our own host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When counting began, since 1970.
    pub since_unix_ms: u64,
    /// Host NQN.
    pub hostnqn: String,
    /// Host Identifier.
    pub hostid: String,
    /// What is counted for the host as a whole.
    pub counters: HostCounters,
    /// Lives that ended unfenced: what they may still write is guarded.
    pub tombstones: Vec<TombstoneStatus>,
}

/// An NVMe subsystem as this host knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Subsystem {
    /// `nvme-subsys0`.
    pub name: String,
    /// Its NQN.
    pub nqn: String,
    /// Model number, without padding.
    pub model: String,
    /// Serial number, without padding.
    pub serial: String,
    /// Firmware revision, without padding.
    pub firmware: String,
    /// `nvm` or `discovery`.
    pub kind: String,
    /// How a path is chosen; `None` without multipath.
    pub iopolicy: Option<String>,
    /// Sums over everything that it has or had; `None` where nobody keeps them.
    pub totals: Option<Box<SubsystemCounters>>,
    /// In natural order of their names.
    pub controllers: Vec<Controller>,
    /// In natural order of their names.
    pub namespaces: Vec<Head>,
}

/// A controller: one association of this host with a subsystem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Controller {
    /// `nvme0`.
    pub name: String,
    /// `tcp`, `rdma`, `fc`, `loop`, `pcie`.
    pub transport: String,
    /// As in sysfs: `traddr=A,trsvcid=P,src_addr=B`; a bus address for `pcie`.
    pub address: String,
    /// Its state; of a kernel, whatever that says.
    pub state: Word<ControllerState>,
    /// Controller ID.
    pub cntlid: Option<u16>,
    /// The host's NQN; `None` for `pcie`.
    pub hostnqn: Option<String>,
    /// The host's ID; `None` for `pcie`.
    pub hostid: Option<String>,
    /// Keep Alive Timeout, in seconds.
    pub kato_s: Option<u32>,
    /// Seconds between attempts to reconnect; `None` if off or not a fabric.
    pub reconnect_delay_s: Option<u32>,
    /// Seconds until a lost controller is given up; `None` if never or not a fabric.
    pub ctrl_loss_tmo_s: Option<u32>,
    /// Seconds until requests of a lost controller fail; `None` if off or not a fabric.
    pub fast_io_fail_tmo_s: Option<u32>,
    /// Queue pairs, with the admin queue.
    pub queues: Option<u32>,
    /// Entries of an I/O submission queue, less one.
    pub sqsize: Option<u16>,
    /// NUMA node; `None` if it belongs to none.
    pub numa_node: Option<u32>,
    /// What went wrong so far.
    pub counters: ControllerCounters,
    /// What only a host that fences knows of it.
    pub recovery: Option<Box<Recovery>>,
}

/// What only a host that fences knows of a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Its present life, `life3`; `None` while it is not live.
    pub life: Option<String>,
    /// Controller Instance Uniquifier.
    pub ciu: Option<u8>,
    /// Controller Instance Random Number.
    pub cirn: Option<Hex64>,
    /// Command Quiesce Time, in milliseconds; `None` if it states none.
    pub cqt_ms: Option<u64>,
    /// Cross-Controller Reset Limit; 0: it cannot reset others.
    pub ccrl: Option<u8>,
    /// In its state for so long.
    pub for_ms: u64,
    /// Why it came into its state.
    pub reason: String,
    /// Why it is not live.
    pub last_error: Option<String>,
    /// Something looks wrong; it is avoided.
    pub slow: bool,
    /// What it waits for, and how long still.
    pub waits: Vec<WaitStatus>,
    /// Earlier lives of it that are not fenced yet.
    pub fencing: Vec<String>,
    /// Everything that is counted of it.
    pub counted: Counted,
}

impl Controller {
    /// True in the one state in which its paths are used.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state.is(ControllerState::Live)
    }
}

/// Counters of a controller (`diag/` in sysfs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ControllerCounters {
    /// Admin commands that ended with an error.
    pub command_error_count: Option<u64>,
    /// Resets, asked for or by error recovery.
    pub reset_count: Option<u64>,
    /// Attempts to reconnect; fabrics only.
    pub reconnect_count: Option<u64>,
}

/// A namespace, with the paths that lead to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Head {
    /// `nvme0n1`.
    pub name: String,
    /// Namespace ID; `None` if unknown.
    pub nsid: Option<u32>,
    /// Capacity in bytes.
    pub size_bytes: Option<u64>,
    /// Bytes in a logical block.
    pub block_bytes: Option<u32>,
    /// True if it is write protected; `None` if unknown.
    pub read_only: Option<bool>,
    /// UUID, in the usual form.
    pub uuid: Option<String>,
    /// Namespace Globally Unique Identifier, as hexadecimal digits.
    pub nguid: Option<String>,
    /// IEEE Extended Unique Identifier, as hexadecimal digits.
    pub eui64: Option<String>,
    /// I/O of the namespace, whatever path it took.
    pub io: Option<Io>,
    /// How long it took; `None` where only sums are known.
    pub times: Option<Box<Times>>,
    /// What went wrong so far.
    pub counters: HeadCounters,
    /// How a flush failed after which none succeeds until that is cleared; `None` if none did, or if the source does not say.
    pub flush_error: Option<String>,
    /// Commands with which instances were lost: each waits to be sent alone. Empty if the source does not say.
    pub suspects: Vec<SuspectCommand>,
    /// In natural order of their names. Without multipath there is one, with the name of the namespace.
    pub paths: Vec<Path>,
}

/// Counters of a namespace head (`diag/` in sysfs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeadCounters {
    /// I/O put aside because no path was usable.
    pub io_requeue_no_usable_path_count: Option<u64>,
    /// I/O failed because no path was left.
    pub io_fail_no_available_path_count: Option<u64>,
}

/// One namespace through one controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Path {
    /// `nvme0c1n1`.
    pub name: String,
    /// Name of its controller.
    pub controller: String,
    /// `optimized`, `non-optimized`, `inaccessible`, `persistent-loss`, `change`; `None` if unknown.
    pub ana_state: Option<Word<AnaState>>,
    /// ANA group.
    pub ana_group: Option<u32>,
    /// Commands under way, as the queue-depth policy counts them.
    pub queue_depth: Option<u32>,
    /// NUMA nodes that prefer this path, as the numa policy writes them.
    pub numa_nodes: Option<String>,
    /// I/O over this path.
    pub io: Option<Io>,
    /// How long it took; `None` where only sums are known.
    pub times: Option<Box<Times>>,
    /// What went wrong so far.
    pub counters: PathCounters,
}

/// Counters of a path (`diag/` in sysfs).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PathCounters {
    /// Commands sent again on this path.
    pub command_retries_count: Option<u64>,
    /// Commands that ended with an error.
    pub command_error_count: Option<u64>,
    /// Requests moved off this path to another.
    pub multipath_failover_count: Option<u64>,
}

/// I/O since the device appeared. Differences of two of these are [`Rates`](crate::Rates).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Io {
    /// Reads completed.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Time of all reads, added up, in microseconds.
    pub read_us: u64,
    /// Writes completed.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Time of all writes, added up, in microseconds.
    pub write_us: u64,
    /// Compares completed, with equal blocks or with different ones; `None` where nobody counts them apart, as in the
    /// kernel.
    pub compares: Option<u64>,
    /// Flushes completed.
    pub flushes: u64,
    /// Time of all flushes, added up, in microseconds.
    pub flush_us: u64,
    /// Under way now.
    pub in_flight: u64,
    /// Time in which at least one was under way, in microseconds.
    pub busy_us: u64,
}

/// How long I/O took since the device appeared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// Reads.
    pub read: Histogram,
    /// Writes.
    pub write: Histogram,
    /// Flushes.
    pub flush: Histogram,
}

impl Times {
    /// What took place since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            read: self.read.since(&before.read),
            write: self.write.since(&before.write),
            flush: self.flush.since(&before.flush),
        }
    }

    /// Reads and writes as one.
    #[must_use]
    pub fn reads_and_writes(&self) -> Histogram {
        let mut all = self.read.clone();
        all.add(&self.write);
        all
    }

    /// Adds those of another device.
    pub fn add(&mut self, other: &Self) {
        self.read.add(&other.read);
        self.write.add(&other.write);
        self.flush.add(&other.flush);
    }
}

/// The one of this name. Sources give everything in order; what is not found where it should be may still be where somebody
/// put it.
fn named<'a, T>(all: &'a [T], of: fn(&T) -> &String, name: &str) -> Option<&'a T> {
    let found = all.binary_search_by(|one| natural_order(of(one), name)).ok();
    found.map(|at| &all[at]).or_else(|| all.iter().find(|one| of(one) == name))
}

/// [`named`], for those who know where it was: two samples are nearly always of the same devices.
pub(crate) fn named_near<'a, T>(all: &'a [T], near: usize, of: fn(&T) -> &String, name: &str) -> Option<&'a T> {
    all.get(near).filter(|one| of(one) == name).or_else(|| named(all, of, name))
}

impl Subsystem {
    /// Paths of all namespaces.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.namespaces.iter().flat_map(|head| &head.paths)
    }

    /// The controller of this name.
    #[must_use]
    pub fn controller(&self, name: &str) -> Option<&Controller> {
        named(&self.controllers, |controller| &controller.name, name)
    }

    /// Live controllers.
    #[must_use]
    pub fn live(&self) -> usize {
        self.controllers.iter().filter(|controller| controller.is_live()).count()
    }
}

impl Snapshot {
    /// The subsystem of this name.
    #[must_use]
    pub fn subsystem(&self, name: &str) -> Option<&Subsystem> {
        named(&self.subsystems, |subsystem| &subsystem.name, name)
    }
}

//! What there is: subsystems, their controllers, their namespaces, and the paths between.
//!
//! Everything a source may not know is an [`Option`]: a controller that reconnects has no source address, a kernel
//! without multipath has no failovers, and zero would be a lie about both.

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
    /// `live`, `resetting`, `connecting`, `deleting`, `dead` ...
    pub state: String,
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
    /// NUMA node; `None` if it belongs to none.
    pub numa_node: Option<u32>,
    /// What went wrong so far.
    pub counters: ControllerCounters,
}

impl Controller {
    /// True in the one state in which its paths are used.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state == "live"
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
    /// Namespace ID.
    pub nsid: u32,
    /// Capacity in bytes.
    pub size_bytes: Option<u64>,
    /// Bytes in a logical block.
    pub block_bytes: Option<u32>,
    /// I/O of the namespace, whatever path it took.
    pub io: Option<Io>,
    /// What went wrong so far.
    pub counters: HeadCounters,
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
    pub ana_state: Option<String>,
    /// ANA group.
    pub ana_group: Option<u32>,
    /// Commands under way, as the queue-depth policy counts them.
    pub queue_depth: Option<u32>,
    /// NUMA nodes that prefer this path, as the numa policy writes them.
    pub numa_nodes: Option<String>,
    /// I/O over this path.
    pub io: Option<Io>,
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
    /// Under way now.
    pub in_flight: u64,
    /// Time in which at least one was under way, in microseconds.
    pub busy_us: u64,
}

impl Subsystem {
    /// Paths of all namespaces.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.namespaces.iter().flat_map(|head| &head.paths)
    }

    /// The controller of this name.
    #[must_use]
    pub fn controller(&self, name: &str) -> Option<&Controller> {
        self.controllers.iter().find(|controller| controller.name == name)
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
        self.subsystems.iter().find(|subsystem| subsystem.name == name)
    }
}

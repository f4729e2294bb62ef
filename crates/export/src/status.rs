//! What the exports are busy with, for people and programs.

use crate::Faults;
use interlock_base::Instant;
use interlock_host::Namespace;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a client sees when a request cannot be carried out because its paths are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum OnLoss {
    /// It waits: what is in doubt until it is fenced, and everything else until a path is back. A client is never told
    /// "failed" of a write that may still take effect. Ends with the path, or when the export is stopped by force; what
    /// still waits when the host ends gets no answer from this process: an NBD connection is closed, and a block device of
    /// the kernel asks its next process.
    #[default]
    Hold,
    /// It fails as soon as the host gives it up (`fast_io_fail_tmo`, `ctrl_loss_tmo`). The range of a write that may
    /// still take effect stays guarded by the host.
    Fail,
}

impl fmt::Display for OnLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hold => "hold",
            Self::Fail => "fail",
        })
    }
}

impl FromStr for OnLoss {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hold" => Ok(Self::Hold),
            "fail" => Ok(Self::Fail),
            _ => Err(format!("`{text}` is neither `hold` nor `fail`")),
        }
    }
}

/// How an export, or everything, is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// Only if no client is connected to it.
    IfUnused,
    /// Clients get the answers to what they have sent, then their connections are closed in order.
    Drain,
    /// At once: connections are dropped, and what is in flight is abandoned (its ranges stay guarded by the host).
    Force,
}

/// What to export under which name.
#[derive(Clone)]
pub struct ExportSettings {
    /// The name clients ask for; at most 4096 bytes. A client that asks for the empty name gets the only export there is.
    pub name: String,
    /// Shown to clients that ask. May be empty.
    pub description: String,
    /// What is exported. The reactors of the server must be reactors of its host.
    pub namespace: Namespace,
    /// Refuse everything that changes it. True anyway if the namespace is write protected.
    pub read_only: bool,
    /// What clients see when the paths are lost.
    pub on_loss: OnLoss,
    /// Who is told of I/O that failed. Default: nobody but the client.
    pub faults: Faults,
}

impl ExportSettings {
    /// A writable export that holds on loss.
    #[must_use]
    pub fn new(name: impl Into<String>, namespace: Namespace) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            namespace,
            read_only: false,
            on_loss: OnLoss::default(),
            faults: Faults::default(),
        }
    }
}

/// Counters, and the same as an array of words: each is named once.
macro_rules! counters {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// What was done, and what is under way.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
        pub struct Counters {
            $($(#[$about])* pub $name: u64,)*
            /// Since when the oldest of those that are held waits.
            pub held_since: Option<Instant>,
        }

        const FIELDS: usize = [$(stringify!($name)),*].len() + 1;

        impl Counters {
            fn to_array(self) -> [u64; FIELDS] {
                let since = |at: Instant| at.since(Instant::ZERO).as_nanos().try_into().unwrap_or(u64::MAX);
                [$(self.$name,)* self.held_since.map_or(u64::MAX, since)]
            }

            fn from_array(fields: [u64; FIELDS]) -> Self {
                let [$($name,)* since] = fields;
                let held_since = (since != u64::MAX).then(|| Instant::ZERO + std::time::Duration::from_nanos(since));
                Self { $($name,)* held_since }
            }
        }
    };
}

counters! {
    /// Reads that ended well.
    reads,
    /// Bytes they gave.
    read_bytes,
    /// Writes that ended well.
    writes,
    /// Bytes they took.
    written_bytes,
    /// Flushes that ended well.
    flushes,
    /// Trims that ended well.
    trims,
    /// Write-zeroes commands that ended well.
    zeroes,
    /// Commands answered with an error, refused ones included.
    errors,
    /// Commands that were abandoned because their connection was gone.
    abandoned,
    /// Commands without an answer at this moment.
    in_flight,
    /// Of those, pieces that wait because no path takes them.
    held,
}

impl Counters {
    /// Adds what another one counted; of two waits the longer.
    pub(crate) fn add(&mut self, other: &Self) {
        let since = match (self.held_since, other.held_since) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let (a, b) = (self.to_array(), other.to_array());
        *self = Self::from_array(std::array::from_fn(|at| a[at].saturating_add(b[at])));
        self.held_since = since;
    }
}

/// Counters that one thread writes and others read, without a lock.
#[derive(Debug)]
pub(crate) struct Published([AtomicU64; FIELDS]);

impl Default for Published {
    fn default() -> Self {
        let published = Self(std::array::from_fn(|_| AtomicU64::new(0)));
        published.set(Counters::default());
        published
    }
}

impl Published {
    pub(crate) fn set(&self, counters: Counters) {
        for (cell, value) in self.0.iter().zip(counters.to_array()) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> Counters {
        Counters::from_array(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }
}

/// One export, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportStatus {
    /// Its name.
    pub name: String,
    /// Where it is offered.
    pub socket: PathBuf,
    /// Its subsystem.
    pub subnqn: String,
    /// Its namespace identifier.
    pub nsid: u32,
    /// Bytes.
    pub size: u64,
    /// Bytes per block, the minimum block size that clients are told.
    pub block_size: u32,
    /// Refuses changes.
    pub read_only: bool,
    /// What clients see when the paths are lost.
    pub on_loss: OnLoss,
    /// Over all connections, those that are gone included.
    pub counters: Counters,
    /// False while clients get errors, because its namespace is gone or is another one.
    pub open: bool,
    /// Connections at this moment.
    pub connections: Vec<ConnectionStatus>,
}

/// One connection, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Its number, never used again.
    pub id: u64,
    /// The process at the other end, as it was when it connected.
    pub pid: Option<i32>,
    /// Since when.
    pub since: Instant,
    /// What it did.
    pub counters: Counters,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counters_survive_being_published_and_added() {
        let at = |secs| Some(Instant::ZERO + Duration::from_secs(secs));
        let a = Counters { reads: 1, read_bytes: 2, abandoned: 9, held: 1, held_since: at(5), ..Counters::default() };
        let published = Published::default();
        assert_eq!(published.get(), Counters::default());
        published.set(a);
        assert_eq!(published.get(), a);
        let mut sum = Counters { reads: 10, held_since: at(7), ..Counters::default() };
        sum.add(&a);
        assert_eq!((sum.reads, sum.read_bytes, sum.abandoned, sum.held_since), (11, 2, 9, at(5)));
        sum.add(&Counters::default());
        assert_eq!((sum.reads, sum.held_since), (11, at(5)));
    }

    #[test]
    fn on_loss_reads_what_it_writes() {
        for policy in [OnLoss::Hold, OnLoss::Fail] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("drop".parse::<OnLoss>(), Err("`drop` is neither `hold` nor `fail`".into()));
    }
}

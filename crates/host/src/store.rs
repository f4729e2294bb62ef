//! Where the lives of a host are recorded, so that a process that comes after it can fence them.
//!
//! A process that is killed leaves writes behind that only its target knows. What a successor needs to end them is
//! little: the names of the lives, how long each must be held if nobody can reset it, and by which sockets one sees
//! that the old process cannot send any more. It must be durable before the first write of a life is sent.

mod file;
mod format;
mod system;

pub use file::{FileStore, StoreError};
pub(crate) use system::{is_running, still_open};

/// For fuzzing: reads any bytes as a file of lives. What can be read reads the same when it is written again.
#[doc(hidden)]
pub fn fuzz_lives(bytes: &[u8]) {
    if let Ok((header, lives)) = format::read(bytes) {
        let mut again = format::write_header(&header);
        for life in lives.values() {
            again += &format::write_entry(&format::Entry::Life(Box::new(life.clone())));
        }
        assert_eq!(format::read(again.as_bytes()), Ok((header, lives)));
    }
}

use interlock_host_core::{LifeId, LifeRecord};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

/// A TCP connection of this host, by its two ends and its socket: once it is gone, another socket may have the same ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketPair {
    /// Here.
    pub local: SocketAddr,
    /// The target's port.
    pub peer: SocketAddr,
    /// Which socket of the machine it is, as the kernel numbers them; 0: not known.
    pub inode: u64,
}

/// How it is known that the sockets of an earlier process are gone, given that the process itself is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldSockets {
    /// The machine was started since.
    Gone,
    /// None of these is open any more. A life without any cannot be looked for, and is as [`OldSockets::Unseen`].
    Look(Vec<SocketPair>),
    /// They cannot be seen from here, in another network namespace for example: nothing of them is left after the longest
    /// time that the kernel keeps trying to deliver (`TCP_USER_TIMEOUT`, which is KATO).
    Unseen,
}

/// A life that an earlier process left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// What it recorded.
    pub record: LifeRecord,
    /// Its sockets.
    pub sockets: OldSockets,
}

/// Where the lives of this host are recorded.
///
/// [`LifeStore::record`] returns only when the record is as durable as the store can make it: no write of the life is
/// sent before (`life_recorded_before_first_write`).
pub trait LifeStore: Send {
    /// True if a later process finds what was recorded: only then it makes sense to leave the fence to it.
    fn outlives_process(&self) -> bool;

    /// What earlier processes left, neither fenced nor clean. Asked once, before anything else. Whoever answers holds a
    /// lock by which it knows that those processes are gone.
    fn predecessors(&mut self) -> Vec<Predecessor> {
        Vec::new()
    }

    /// Records a life, and the connections through which it can be written to.
    ///
    /// # Errors
    /// If it could not be made durable: the path is then not used.
    fn record(&mut self, record: &LifeRecord, sockets: &[SocketPair]) -> io::Result<()>;

    /// The life ended with nothing unanswered.
    ///
    /// # Errors
    /// If that could not be made durable: a successor will fence the life needlessly.
    fn mark_clean(&mut self, life: LifeId) -> io::Result<()>;

    /// True to what [`LifeStore::predecessors`] promised: this process is still the only one that speaks for its host.
    /// Asked before anything is released that was held.
    ///
    /// # Errors
    /// If another process may speak for it. Then this one ends.
    fn confirm_owner(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The life is fenced.
    ///
    /// # Errors
    /// If that could not be made durable: a successor will fence the life needlessly.
    fn forget(&mut self, life: LifeId) -> io::Result<()>;
}

/// Records that end with the process: a successor knows nothing of its predecessor, and fences nothing.
#[derive(Debug, Default)]
pub struct MemoryStore(BTreeMap<LifeId, LifeRecord>);

impl LifeStore for MemoryStore {
    fn outlives_process(&self) -> bool {
        false
    }

    fn record(&mut self, record: &LifeRecord, _sockets: &[SocketPair]) -> io::Result<()> {
        self.0.insert(record.life, record.clone());
        Ok(())
    }

    fn mark_clean(&mut self, life: LifeId) -> io::Result<()> {
        self.forget(life)
    }

    fn forget(&mut self, life: LifeId) -> io::Result<()> {
        self.0.remove(&life);
        Ok(())
    }
}

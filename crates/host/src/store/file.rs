//! Records that outlive the process, in a directory of their own.
//!
//! The directory belongs to one host identity and to one process at a time: the lock on a file in it is held for as long
//! as the process lives, so whoever gets it knows that its predecessor is gone. It must lie on a file system that keeps
//! what was synced; on a volume that a container loses, it fences nothing.

use super::format::{self, Entry, FORMAT, Header, Place, Recorded, Unusable};
use super::{LifeStore, Predecessor, SocketPair, system};
use crate::HostSettings;
use interlock_host_core::{LifeId, LifeRecord};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

const LIVES: &str = "lives";
const NEW: &str = "lives.new";
const LOCK: &str = "lock";

/// The file is written anew when it has grown to this, and to four times what was needed of it when that was done last.
const COMPACT_AT: u64 = 256 << 10;

/// The kernel may let go of a dead process's files a while after it is dead.
const DEAD_LOCK: Duration = Duration::from_secs(5);

/// Why a state directory cannot be used. Each says how to go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process of this host runs.
    #[error("{dir} is in use{}: a host has one process; end that one first, or give this one an identity and a \
             directory of its own", pid.map_or_else(String::new, |pid| format!(" by process {pid}")))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// That process, as far as it can be known.
        pid: Option<u32>,
    },
    /// It belongs to another host identity.
    #[error("{file} belongs to the host {hostnqn} with Host ID {hostid}: give that identity, or another directory")]
    Foreign {
        /// The file of lives.
        file: PathBuf,
        /// Whose it is.
        hostnqn: String,
        /// Whose it is.
        hostid: String,
    },
    /// A later program wrote it.
    #[error("{file} has format {format}, this program knows up to {FORMAT}: use version {writer} or later")]
    Newer {
        /// The file of lives.
        file: PathBuf,
        /// Its format.
        format: u32,
        /// The version that began it.
        writer: String,
    },
    /// It is something else.
    #[error("{file} is not an Interlock state file: give another directory")]
    NotOurs {
        /// The file.
        file: PathBuf,
    },
    /// It is not what was written, so what an earlier process left is not known.
    #[error(
        "{file}, line {line}: {why}. Writes of an earlier process may still land, and which is not known: wait until \
             every target has dropped them (three times the keep alive time, and its quiesce time), or reset the \
             controllers of this host there; then remove the file and start again"
    )]
    Damaged {
        /// The file of lives.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused.
    #[error("cannot {what} {file}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        file: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

/// Lives in a file that outlives the process. See [`FileStore::open`].
#[derive(Debug)]
pub struct FileStore {
    dir: PathBuf,
    /// Locked. Closed on exec, and never given to a ring, which could keep it beyond the end of the process.
    lock: File,
    file: File,
    bytes: u64,
    /// As it was when it was written anew last.
    needed: u64,
    header: Header,
    settings: HostSettings,
    place: Place,
    /// Of earlier processes and of this one: neither clean nor fenced.
    lives: BTreeMap<u64, Recorded>,
    predecessors: Vec<Predecessor>,
    /// True after a failed write: nobody knows what the file holds, so it is written anew first.
    torn: bool,
}

fn failed<'a>(what: &'static str, file: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |error| StoreError::Io { what, file: file.to_owned(), error }
}

impl FileStore {
    /// Takes the state directory `dir` for this process and this identity, making it if it is not there.
    ///
    /// # Errors
    /// If another process has it, if it is not this host's, or if what an earlier process left cannot be read.
    pub fn open(dir: impl AsRef<Path>, settings: &HostSettings) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        let place = system::place().map_err(failed("read the boot id and network namespace in", Path::new("/proc")))?;
        Self::open_at(dir, settings, place)
    }

    fn open_at(dir: &Path, settings: &HostSettings, place: Place) -> Result<Self, StoreError> {
        make(dir).map_err(failed("make", dir))?;
        let lock = lock(dir)?;
        let path = dir.join(LIVES);
        let old = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let header = Header {
            format: FORMAT,
            writer: env!("CARGO_PKG_VERSION").to_owned(),
            hostnqn: settings.hostnqn.to_string(),
            hostid: settings.hostid.to_string(),
        };
        let mut lives = BTreeMap::new();
        if let Some(old) = old {
            let (whose, left) = format::read(&old).map_err(|why| unusable(&path, why))?;
            if (&whose.hostnqn, &whose.hostid) != (&header.hostnqn, &header.hostid) {
                return Err(StoreError::Foreign { file: path, hostnqn: whose.hostnqn, hostid: whose.hostid });
            }
            lives = left;
        }
        let mut predecessors = Vec::new();
        for life in lives.values() {
            let record = life.record(&settings.hostnqn, settings.hostid).expect("names are checked when they are read");
            predecessors.push(Predecessor { record, sockets: life.sockets(&place) });
        }
        let (file, bytes) = rewrite(dir, &header, &lives).map_err(failed("write", &path))?;
        let settings = settings.clone();
        Ok(Self {
            dir: dir.to_owned(),
            lock,
            file,
            bytes,
            needed: bytes,
            header,
            settings,
            place,
            lives,
            predecessors,
            torn: false,
        })
    }

    /// Appends and syncs; `Ok` means that it survives the loss of power.
    fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.check_lock()?;
        let line = format::write_entry(entry);
        if self.torn || self.bytes > COMPACT_AT.max(self.needed.saturating_mul(4)) {
            (self.file, self.bytes) = rewrite(&self.dir, &self.header, &self.lives)?;
            self.needed = self.bytes;
            self.torn = false;
        }
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        self.torn = written.is_err();
        self.bytes += line.len() as u64;
        written
    }

    /// The lock must still be the one that others would try: a restored or replaced directory protects nobody.
    fn check_lock(&self) -> io::Result<()> {
        let (ours, theirs) = (self.lock.metadata()?, fs::metadata(self.dir.join(LOCK))?);
        if (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()) {
            return Ok(());
        }
        let text = format!(
            "the lock in {} was replaced: another process may be this host now. End this one",
            self.dir.display()
        );
        Err(io::Error::other(text))
    }

    fn end(&mut self, life: LifeId, entry: &Entry) -> io::Result<()> {
        if !self.lives.contains_key(&life.0) {
            return Ok(()); // It ended before it was recorded.
        }
        self.append(entry)?;
        self.lives.remove(&life.0);
        Ok(())
    }
}

impl LifeStore for FileStore {
    fn outlives_process(&self) -> bool {
        true
    }

    fn predecessors(&mut self) -> Vec<Predecessor> {
        std::mem::take(&mut self.predecessors)
    }

    fn record(&mut self, record: &LifeRecord, sockets: &[SocketPair]) -> io::Result<()> {
        if (&record.hostnqn, record.hostid) != (&self.settings.hostnqn, self.settings.hostid) {
            return Err(io::Error::other("the store was opened for another host identity"));
        }
        let recorded = Recorded::new(record, &self.place, sockets);
        self.append(&Entry::Life(Box::new(recorded.clone())))?;
        self.lives.insert(recorded.id(), recorded);
        Ok(())
    }

    fn confirm_owner(&mut self) -> io::Result<()> {
        self.check_lock()
    }

    fn mark_clean(&mut self, life: LifeId) -> io::Result<()> {
        self.end(life, &Entry::Clean(life.0))
    }

    fn forget(&mut self, life: LifeId) -> io::Result<()> {
        self.end(life, &Entry::Fenced(life.0))
    }
}

fn unusable(file: &Path, why: Unusable) -> StoreError {
    let file = file.to_owned();
    match why {
        Unusable::NotOurs => StoreError::NotOurs { file },
        Unusable::Newer { format, writer } => StoreError::Newer { file, format, writer },
        Unusable::Damaged { line, why } => StoreError::Damaged { file, line, why },
    }
}

/// Makes a directory, so that it is still there after the loss of power.
fn make(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Writes the whole file beside the old one and puts it in its place: at every moment one of the two is whole.
fn rewrite(dir: &Path, header: &Header, lives: &BTreeMap<u64, Recorded>) -> io::Result<(File, u64)> {
    let mut text = format::write_header(header);
    for life in lives.values() {
        text.push_str(&format::write_entry(&Entry::Life(Box::new(life.clone()))));
    }
    let new = dir.join(NEW);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, dir.join(LIVES))?;
    File::open(dir)?.sync_all()?;
    Ok((file, text.len() as u64))
}

/// Takes the lock for as long as the process lives, and says in it who has it.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    loop {
        let mut open = OpenOptions::new();
        let file = open.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Who it is makes a better message, nothing else.
                let _ = file.read_to_string(&mut text);
                let pid = text.trim().parse().ok();
                let in_use = || StoreError::InUse { dir: dir.to_owned(), pid };
                if pid.is_some_and(system::is_running) {
                    return Err(in_use());
                }
                file = lock_of_the_dead(file).map_err(failed("wait for the lock", &path))?.ok_or_else(in_use)?;
            }
        }
        // Between opening and locking it may have been removed: then others lock another file.
        let (ours, theirs) = (file.metadata().map_err(failed("look at", &path))?, fs::metadata(&path));
        if theirs.is_ok_and(|theirs| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino())) {
            let pid = format!("{}\n", std::process::id());
            let said = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
            said.map_err(failed("write", &path))?;
            return Ok(file);
        }
    }
}

/// The kernel may let go of the files of a dead process late. `None` if that takes too long; the thread that still waits
/// then lets go of the lock as soon as it has it.
fn lock_of_the_dead(file: File) -> io::Result<Option<File>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("interlock-lock".into()).spawn(move || {
        // Whoever waited may have given up.
        let _ = sender.send(file.lock().map(|()| file));
    })?;
    receiver.recv_timeout(DEAD_LOCK).ok().transpose()
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

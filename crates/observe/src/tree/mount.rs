//! A [`Tree`] as a mounted file system.
//!
//! A walk over thousands of files must not ask the host thousands of times: the tree is made anew when it is older than
//! [`FRESH`] (or than a hundred times what it took to ask, if that is longer), and after every write, so that whoever writes
//! reads what he wrote. Nor need the kernel ask for every directory on the way to every file: it may keep names and attributes
//! for as long as the tree that they are of is fresh. What a file holds it never keeps.

use super::{Node, Order, Tree};
use crate::Snapshot;
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use rustix::fs::statfs;
use rustix::mount::{UnmountFlags, unmount};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A tree is used for so long.
const FRESH: Duration = Duration::from_millis(100);
/// And for so many times what it took to ask for it, if that is longer: whoever reads takes no more than a hundredth of the
/// time of those who tell and carry I/O.
const SPARING: u32 = 100;
/// But never for longer than this.
const STALE: Duration = Duration::from_secs(1);
/// As an attribute of sysfs says, whatever it holds.
const PAGE: u64 = 4096;

/// Who knows the host and may change it.
pub trait Operator: Send + Sync + 'static {
    /// What there is now; `None` if it cannot be asked.
    fn snapshot(&self) -> Option<Snapshot>;

    /// Does what somebody wrote.
    ///
    /// # Errors
    /// What the writer is told: `NotFound`, `InvalidInput`, `ResourceBusy` or something else.
    fn carry_out(&self, order: Order) -> io::Result<()>;
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Its directory.
    #[error("the file tree cannot be mounted on {}: {error}", dir.display())]
    Directory {
        /// Where.
        dir: PathBuf,
        /// In the system's words.
        error: io::Error,
    },
    /// FUSE.
    #[error("the file tree cannot be mounted on {}: {error} (it needs /dev/fuse, and root or fusermount3)", dir.display())]
    Fuse {
        /// Where.
        dir: PathBuf,
        /// In the system's words.
        error: io::Error,
    },
}

/// A mounted tree; dropped, it is unmounted.
#[derive(Debug)]
pub struct Mount {
    dir: PathBuf,
    session: Option<BackgroundSession>,
}

impl Mount {
    /// Mounts the tree of `operator` on `dir`, which is made if it is not there. A mount that a dead process left is taken
    /// away first.
    ///
    /// # Errors
    /// If the directory cannot be used, or there is no FUSE.
    pub fn on(dir: &Path, operator: Arc<dyn Operator>) -> Result<Self, MountError> {
        let failed = |error| MountError::Directory { dir: dir.to_owned(), error };
        // Whoever serves it must answer this: the kernel may still know the attributes that a dead process gave it.
        match statfs(dir) {
            Err(rustix::io::Errno::NOTCONN) => detach(dir).map_err(failed)?,
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(failed(error.into())),
        }
        fs::create_dir_all(dir).map_err(failed)?;
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("interlock".to_owned()),
            MountOption::Subtype("sysfs".to_owned()),
            MountOption::DefaultPermissions,
            MountOption::NoSuid,
            MountOption::NoDev,
            MountOption::NoExec,
        ];
        // Modes decide who may do what, as in /sys.
        config.acl = if rustix::process::geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
        let session = fuser::spawn_mount(Files::of(operator), dir, &config)
            .map_err(|error| MountError::Fuse { dir: dir.to_owned(), error })?;
        Ok(Self { dir: dir.to_owned(), session: Some(session) })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Detached: whoever stands in it does not hold up the end. If that fails, the session's own end tries again.
        let _ = detach(&self.dir);
        drop(self.session.take());
    }
}

/// Takes a mount away, also from under those who use it.
fn detach(dir: &Path) -> io::Result<()> {
    match unmount(dir, UnmountFlags::DETACH) {
        Err(rustix::io::Errno::PERM) => {
            let done = Command::new("fusermount3").args(["-u", "-z"]).arg(dir).status()?;
            if done.success() { Ok(()) } else { Err(io::Error::other("fusermount3 -u failed")) }
        }
        other => other.map_err(io::Error::from),
    }
}

struct Files {
    operator: Arc<dyn Operator>,
    /// Until when the tree is fresh, and the tree.
    tree: Mutex<(Option<Instant>, Arc<Tree>)>,
    inodes: Mutex<Inodes>,
    began: SystemTime,
}

/// Numbers of paths. A path keeps its number for as long as the tree is mounted.
#[derive(Default)]
struct Inodes {
    paths: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u64>,
}

impl Inodes {
    fn number(&mut self, path: &str) -> u64 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        let path: Arc<str> = path.into();
        self.paths.push(Arc::clone(&path));
        let number = self.paths.len() as u64;
        self.numbers.insert(path, number);
        number
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files {
    fn of(operator: Arc<dyn Operator>) -> Self {
        let mut inodes = Inodes::default();
        // The root is number 1.
        inodes.number("");
        Self { operator, tree: Mutex::default(), inodes: Mutex::new(inodes), began: SystemTime::now() }
    }

    fn tree(&self) -> Arc<Tree> {
        self.kept_tree().0
    }

    /// The tree, and for how long it is fresh: so long may the kernel keep what is named in it.
    fn kept_tree(&self) -> (Arc<Tree>, Duration) {
        let mut held = lock(&self.tree);
        let now = Instant::now();
        if held.0.is_none_or(|until| until < now)
            && let Some(snapshot) = self.operator.snapshot()
        {
            // It is as old as the question.
            *held = (Some(now + fresh(now.elapsed())), Arc::new(Tree::of(snapshot)));
        }
        let left = held.0.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        (Arc::clone(&held.1), left)
    }

    fn path(&self, ino: INodeNo) -> Option<Arc<str>> {
        let at = usize::try_from(u64::from(ino).checked_sub(1)?).ok()?;
        lock(&self.inodes).paths.get(at).cloned()
    }

    fn attr(&self, path: &str, node: &Node) -> FileAttr {
        let (kind, perm, size, nlink) = match node {
            Node::Directory => (FileType::Directory, 0o755, 0, 2),
            Node::Link(to) => (FileType::Symlink, 0o777, to.len() as u64, 1),
            Node::Attribute(mode) => (FileType::RegularFile, *mode, PAGE, 1),
        };
        FileAttr {
            ino: INodeNo(lock(&self.inodes).number(path)),
            size,
            blocks: 0,
            atime: self.began,
            mtime: self.began,
            ctime: self.began,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn store(&self, path: &str, data: &[u8]) -> Result<(), Errno> {
        let text = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let order = self.tree().write(path, text).ok_or(Errno::EACCES)?.map_err(|_| Errno::EINVAL)?;
        let done = self.operator.carry_out(order);
        lock(&self.tree).0 = None;
        done.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Errno::ENODEV,
            io::ErrorKind::InvalidInput => Errno::EINVAL,
            io::ErrorKind::ResourceBusy => Errno::EBUSY,
            _ => Errno::EIO,
        })
    }
}

/// For how long a tree is used that took so long to ask for.
fn fresh(took: Duration) -> Duration {
    (took * SPARING).clamp(FRESH, STALE)
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.path(parent).zip(name.to_str()).and_then(|(parent, name)| {
            let path = if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
            let (tree, kept) = self.kept_tree();
            let node = tree.node(&path)?;
            Some((self.attr(&path, &node), kept))
        });
        match found {
            Some((attr, kept)) => reply.entry(&kept, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let found = self.path(ino).and_then(|path| {
            let (tree, kept) = self.kept_tree();
            Some((self.attr(&path, &tree.node(&path)?), kept))
        });
        match found {
            Some((attr, kept)) => reply.attr(&kept, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        // `echo 0 > attribute` truncates first: that changes nothing. Modes and owners are what they are.
        if mode.is_some() || uid.is_some() || gid.is_some() {
            return reply.error(Errno::EPERM);
        }
        self.getattr(request, ino, handle, reply);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.path(ino).and_then(|path| self.tree().node(&path)) {
            Some(Node::Link(to)) => reply.data(to.as_bytes()),
            _ => reply.error(Errno::EINVAL),
        }
    }

    // What is there is made by the host alone. The errors are those of sysfs.

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EACCES);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EACCES);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EPERM);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn rename(&self, _: &Request, _: INodeNo, _: &OsStr, _: INodeNo, _: &OsStr, _: RenameFlags, reply: ReplyEmpty) {
        reply.error(Errno::EPERM);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // What is read is never kept, and its size is not what it says.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(text) = self.path(ino).and_then(|path| self.tree().read(&path)) else {
            return reply.error(Errno::ENODEV);
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let to = from.saturating_add(size as usize).min(text.len());
        reply.data(&text.as_bytes()[from..to]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(path) = self.path(ino) else { return reply.error(Errno::ENOENT) };
        match self.store(&path, data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(path) = self.path(ino) else { return reply.error(Errno::ENOENT) };
        let tree = self.tree();
        let Some(names) = tree.list(&path) else { return reply.error(Errno::ENOTDIR) };
        let above = path.rsplit_once('/').map_or("", |(above, _)| above);
        let fixed = [(".", path.to_string()), ("..", above.to_owned())].map(|(name, path)| (name.to_owned(), path));
        let rest = names.into_iter().map(|name| {
            let whole = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            (name, whole)
        });
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (name, whole)) in (1..).zip(fixed.into_iter().chain(rest)).skip(from) {
            // It went away between: the next look does not see it.
            let Some(node) = tree.node(&whole) else { continue };
            let attr = self.attr(&whole, &node);
            if reply.add(attr.ino, at, attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_took_long_to_ask_for_is_kept_for_longer_but_not_for_long() {
        for (took_us, fresh_ms) in [(0, 100), (1_000, 100), (3_000, 300), (50_000, 1000)] {
            assert_eq!(fresh(Duration::from_micros(took_us)), Duration::from_millis(fresh_ms));
        }
    }
}

//! The control socket: whoever may open it may do everything, so its mode is the whole access control.

use std::fs::{self, DirBuilder, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why it cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Another process listens there.
    #[error("another process listens on {}: end it first, or choose another --socket", .0.display())]
    InUse(PathBuf),
    /// Whether a process listens there may not be found out.
    #[error("{} is a socket that this user may not use: run as its owner, or choose another --socket", .0.display())]
    Foreign(PathBuf),
    /// Something that is no socket.
    #[error("{} exists and is not a socket: remove it, or choose another --socket", .0.display())]
    NotASocket(PathBuf),
    /// No such group.
    #[error("there is no group `{0}`")]
    NoSuchGroup(String),
    /// The system refused.
    #[error("cannot {what} {}: {error}", file.display())]
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

/// A socket that is removed with this value. Until then nobody else can take its place: it listens on, although nobody
/// may accept any more.
#[derive(Debug)]
pub(crate) struct Bound {
    _listener: UnixListener,
    path: PathBuf,
    file: (u64, u64),
}

/// Listens at `path`, for the owner alone, or for a group as well.
pub(crate) fn listen(path: &Path, group: Option<u32>) -> Result<(UnixListener, Bound), SocketError> {
    let failed = |what, file: &Path| {
        let file = file.to_owned();
        move |error| SocketError::Io { what, file, error }
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed("make", dir))?;
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(SocketError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(SocketError::Foreign(path.to_owned()));
            }
            // Left by a process that was killed.
            Err(_) => fs::remove_file(path).map_err(failed("remove", path))?,
        },
        Err(_) => {}
    }
    // Nobody may get in between `bind` and `chmod`, or put something else there: it is made, in its final form, in a
    // directory that is new and that nobody else may enter.
    let own = Hidden::new(dir).map_err(failed("make a directory in", dir))?;
    let hidden = own.0.join("s");
    let listener = UnixListener::bind(&hidden).map_err(failed("listen on", path))?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(&hidden, Permissions::from_mode(mode)).map_err(failed("set the mode of", path))?;
    if let Some(group) = group {
        std::os::unix::fs::chown(&hidden, None, Some(group)).map_err(failed("give its group to", path))?;
    }
    fs::rename(&hidden, path).map_err(failed("put in place", path))?;
    listener.set_nonblocking(true).map_err(failed("use", path))?;
    let meta = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    let held = listener.try_clone().map_err(failed("hold", path))?;
    Ok((listener, Bound { _listener: held, path: path.to_owned(), file: (meta.dev(), meta.ino()) }))
}

/// What the names of hidden directories begin with.
const HIDDEN: &str = ".il-";
/// One of a process that was killed while it began is removed when it is so old.
const LEFT_AFTER: Duration = Duration::from_secs(60);

/// A directory of this process alone; it is removed with this value.
struct Hidden(PathBuf);

impl Hidden {
    fn new(dir: &Path) -> io::Result<Self> {
        remove_left(dir);
        loop {
            // Whoever could guess the name could only make it first, and then another is taken.
            let name = format!("{HIDDEN}{:08x}", RandomState::new().hash_one(std::process::id()) as u32);
            let path = dir.join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join("s")); // moved away, if all went well
        let _ = fs::remove_dir(&self.0);
    }
}

/// Removes what killed processes left in a directory. Nothing depends on it.
fn remove_left(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_old =
            |meta: fs::Metadata| meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_AFTER));
        if name.starts_with(HIDDEN) && entry.metadata().is_ok_and(|meta| meta.is_dir() && is_old(meta)) {
            drop(Hidden(entry.path()));
        } else if name.strip_prefix(".control-").is_some_and(|pid| pid.parse::<u32>().is_ok()) {
            // As version 0.1 called it.
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file) {
            // The next one finds that nobody listens.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The number of a group, by name or number.
pub(crate) fn group(name: &str) -> Result<u32, SocketError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let file = Path::new("/etc/group");
    let text =
        fs::read_to_string(file).map_err(|error| SocketError::Io { what: "read", file: file.to_owned(), error })?;
    let mut lines = text.lines().map(|line| line.split(':'));
    lines
        .find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?)
        .ok_or_else(|| SocketError::NoSuchGroup(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_the_owners_and_has_one_listener() {
        let dir = std::env::temp_dir().join(format!("interlock-socket-{}", std::process::id()));
        let path = dir.join("control.sock");
        let (listener, bound) = listen(&path, None).expect("free");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path, None), Err(SocketError::InUse(_))));
        // As long as it is held, nobody takes its place, although nobody accepts.
        drop(listener);
        assert!(matches!(listen(&path, None), Err(SocketError::InUse(_))));
        drop(bound);
        assert!(!path.exists());
        // A killed process leaves the file, and nobody who listens.
        drop(UnixListener::bind(&path).expect("free"));
        assert!(path.exists());
        drop(listen(&path, None).expect("nobody listens"));
        assert!(!path.exists());
        let names =
            || fs::read_dir(&dir).expect("there").map(|entry| entry.expect("a name").file_name()).collect::<Vec<_>>();
        assert_eq!(names().len(), 0, "nothing is left behind");
        // What earlier processes left, or somebody put there, is in nobody's way.
        std::os::unix::fs::symlink("/etc/passwd", dir.join(format!(".control-{}", std::process::id())))
            .expect("a link");
        let left = dir.join(".il-01234567");
        fs::create_dir(&left).expect("a directory");
        drop(UnixListener::bind(left.join("s")).expect("free"));
        fs::File::open(&left).expect("ours").set_modified(std::time::SystemTime::UNIX_EPOCH).expect("ours");
        let (_, bound) = listen(&path, None).expect("free");
        assert_eq!(names(), ["control.sock"]);
        drop(bound);
        fs::write(&path, "no socket").expect("a file");
        assert!(matches!(listen(&path, None), Err(SocketError::NotASocket(_))));
        fs::remove_dir_all(dir).expect("our own");
    }

    #[test]
    fn groups_have_names_and_numbers() {
        assert_eq!(group("root").expect("every system has it"), 0);
        assert_eq!(group("12").expect("a number"), 12);
        assert!(group("no-such-group").is_err());
    }
}

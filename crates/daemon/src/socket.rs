//! The control socket: whoever may open it may do everything, so its mode is the whole access control.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why it cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Another process listens there.
    #[error("another process listens on {}: end it first, or choose another --socket", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket.
    #[error("{} is there and is no socket: remove it, or choose another --socket", .0.display())]
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
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::InUse(path.to_owned())),
        // Left by a process that was killed.
        Ok(_) => fs::remove_file(path).map_err(failed("remove", path))?,
        Err(_) => {}
    }
    // Nobody may get in between `bind` and `chmod`: it is made under a name that nobody knows, in its final form.
    let hidden = dir.join(format!(".control-{}", std::process::id()));
    let _ = fs::remove_file(&hidden);
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

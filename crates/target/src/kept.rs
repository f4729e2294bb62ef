//! What a target keeps beside a namespace.
//!
//! Two things about the blocks in a file must outlive the target: who the namespace is, so that hosts know it again and take
//! no other for it; and whether a flush of it has failed, so that no later one claims what was lost. Both belong to the file and not to
//! the target, and so lie beside it: `disk.img` has `disk.img.interlock`. For a device, or where the folder of the file must stay as it
//! is, the folder of `--state` holds it.
//!
//! However a path is spelled, it leads to the same: links are followed, and a device is known by what it calls itself
//! ([`crate::device`]), where it does, because other devices get its paths.

use crate::hex::Identifier;
use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where it is kept for devices, if nothing else was said: `/dev` forgets.
const DEVICES: &str = "/var/lib/interlock/target";

/// The version that this program writes, and the newest that it reads.
const VERSION: u32 = 1;

/// What is kept beside a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    format_version: u32,
    /// Namespace UUID, and what the names of a target are drawn from where it serves this one first.
    pub(crate) uuid: Identifier<16>,
    /// Namespace Globally Unique Identifier.
    pub(crate) nguid: Identifier<16>,
    /// Why a flush has failed, in words, until somebody says that it was dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flush_failed: Option<String>,
}

/// The file that keeps it.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    pub(crate) content: Content,
}

/// Why it cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError {
    /// The kernel refuses.
    #[error(
        "`{path}`, which keeps the identity of a namespace, cannot be {done}: {source}: `--state DIR` names another folder for it"
    )]
    System {
        /// Which file.
        path: PathBuf,
        /// What was to be done.
        done: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It is not what this program writes.
    #[error(
        "`{path}`, which keeps the identity of a namespace, cannot be read: {why}: put back a copy of it, or remove it, and hosts will see another disk"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A newer program wrote it.
    #[error("`{path}` was written by a newer version of this program (format {version}): use that one")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
}

/// Where the state of the namespace in `backing` lies. What an earlier version of this program kept by another spelling of
/// `backing` is moved there first: whoever calls must have the lock of `backing`.
pub(crate) fn place(backing: &Path, folder: Option<&Path>) -> Result<PathBuf, KeptError> {
    let kind = std::fs::metadata(backing).map(|found| found.file_type());
    let block = kind.as_ref().is_ok_and(FileTypeExt::is_block_device);
    let special = block || kind.as_ref().is_ok_and(FileTypeExt::is_char_device);
    let folder = folder.or_else(|| special.then(|| Path::new(DEVICES)));
    let spelled = std::path::absolute(backing).unwrap_or_else(|_| backing.to_owned());
    let real = std::fs::canonicalize(backing).unwrap_or_else(|_| spelled.clone());
    let device = if block { crate::device::name(backing) } else { None };
    let now = place_of(&real, device.as_deref(), folder);
    // A device that has a name is no other's, whatever path it has now.
    for before in [place_of(&spelled, None, folder), place_of(&real, None, folder)] {
        take_over(&before, &now, device.is_some())?;
    }
    Ok(now)
}

/// Where the state of a backing lies that is known by a path, or by the name that a device gives itself.
fn place_of(path: &Path, device: Option<&str>, folder: Option<&Path>) -> PathBuf {
    match (folder, device) {
        (None, _) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".interlock");
            name.into()
        }
        // No path begins like this.
        (Some(folder), Some(device)) => folder.join(format!("%{}.interlock", escaped(device.as_bytes()))),
        (Some(folder), None) => folder.join(format!("{}.interlock", escaped(path.as_os_str().as_bytes()))),
    }
}

/// What is kept at `before` is kept at `now` from now on. If something is kept there already, that stays, but a flush that has
/// failed has failed; what was kept by the path of a device may be another device's.
fn take_over(before: &Path, now: &Path, device: bool) -> Result<(), KeptError> {
    if before == now {
        return Ok(());
    }
    let Some(mut old) = Kept::read(before)? else { return Ok(()) };
    let failed = |source| KeptError::System { path: before.to_owned(), done: "moved", source };
    match Kept::read(now)? {
        None => {
            make(parent(now)).map_err(failed)?;
            rustix::fs::renameat_with(CWD, before, CWD, now, RenameFlags::NOREPLACE)
                .map_err(|error| failed(error.into()))?;
            for folder in [parent(now), parent(before)] {
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
            }
            Ok(())
        }
        Some(mut kept) if !device && old.content.flush_failed.is_some() && kept.content.flush_failed.is_none() => {
            kept.set_flush_failed(old.content.flush_failed.clone()).map_err(failed)?;
            // Whoever deals with it does so where it is kept now.
            old.set_flush_failed(None).map_err(failed)
        }
        Some(_) => Ok(()),
    }
}

/// One name for a path: every path has its own.
fn escaped(bytes: &[u8]) -> String {
    let rest = bytes.iter().position(|byte| *byte != b'/').map_or(&[][..], |first| &bytes[first..]);
    let mut name = String::new();
    for chunk in rest.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '/' => name.push_str("%2F"),
                '%' => name.push_str("%25"),
                c => name.push(c),
            }
        }
        // What is no text is no reason to take two paths for one.
        name.extend(chunk.invalid().iter().map(|byte| format!("%{byte:02X}")));
    }
    name
}

impl Kept {
    /// Reads what is kept at `path`; nothing if there is nothing.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, KeptError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeptError::System { path: path.to_owned(), done: "read", source }),
        };
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let damaged = |why: serde_json::Error| KeptError::Damaged { path: path.to_owned(), why: why.to_string() };
        let Version { format_version: version } = serde_json::from_str(&text).map_err(damaged)?;
        if version > VERSION {
            return Err(KeptError::Newer { path: path.to_owned(), version });
        }
        let content = serde_json::from_str(&text).map_err(damaged)?;
        Ok(Some(Self { path: path.to_owned(), content }))
    }

    /// Reads what is kept at `path`, or begins to keep it there with identifiers that nobody else has.
    pub(crate) fn open(path: &Path) -> Result<Self, KeptError> {
        if let Some(kept) = Self::read(path)? {
            return Ok(kept);
        }
        let failed = |source| KeptError::System { path: path.to_owned(), done: "made", source };
        let (uuid, nguid) = (random_uuid().map_err(failed)?, random().map_err(failed)?);
        let content = Content { format_version: VERSION, uuid, nguid, flush_failed: None };
        make(parent(path)).map_err(failed)?;
        let kept = Self { path: path.to_owned(), content };
        match kept.write(RenameFlags::NOREPLACE) {
            Ok(()) => Ok(kept),
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::read(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Remembers that a flush has failed, or that somebody has dealt with it. Durable when it returns; after an error nothing
    /// has changed.
    pub(crate) fn set_flush_failed(&mut self, why: Option<String>) -> io::Result<()> {
        let before = std::mem::replace(&mut self.content.flush_failed, why);
        let written = self.write(RenameFlags::empty());
        if written.is_err() {
            self.content.flush_failed = before;
        }
        written
    }

    /// Whole and durable, or not at all.
    fn write(&self, flags: RenameFlags) -> io::Result<()> {
        let text = serde_json::to_string_pretty(&self.content).map_err(io::Error::other)?;
        let mut new = self.path.as_os_str().to_owned();
        new.push(format!(".{}", std::process::id()));
        let new = PathBuf::from(new);
        let written = (|| {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            rustix::fs::renameat_with(CWD, &new, CWD, &self.path, flags)?;
            File::open(parent(&self.path))?.sync_all()
        })();
        if written.is_err() {
            // It may not be there at all.
            let _ = std::fs::remove_file(&new);
        }
        written
    }
}

/// The folder that holds `path`.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder, so that it is still there after the loss of power.
fn make(folder: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    std::fs::create_dir_all(folder)?;
    missing.into_iter().try_for_each(|made| File::open(parent(made))?.sync_all())
}

/// An identifier that nobody else has.
pub(crate) fn random<const N: usize>() -> io::Result<Identifier<N>> {
    let mut bytes = [0; N];
    while bytes == [0; N] {
        getrandom::fill(&mut bytes)?;
    }
    Ok(Identifier(bytes))
}

/// RFC 9562: version 4 (random), variant 1.
pub(crate) fn random_uuid() -> io::Result<Identifier<16>> {
    let Identifier(mut bytes) = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Identifier(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("interlock-kept-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn what_is_kept_is_there_again_and_nobody_else_has_it() {
        let folder = folder("again");
        let (one, two) = (folder.join("one.img"), folder.join("two.img"));
        let mut first = Kept::open(&place(&one, None).unwrap()).unwrap();
        let other = Kept::open(&place(&two, None).unwrap()).unwrap();
        assert_ne!(first.content.uuid, other.content.uuid);
        assert_ne!(first.content.nguid, other.content.nguid);
        first.set_flush_failed(Some("EIO".into())).unwrap();
        let again = Kept::open(&folder.join("one.img.interlock")).unwrap();
        assert_eq!((again.content.uuid, again.content.flush_failed.as_deref()), (first.content.uuid, Some("EIO")));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "nothing else is left there");
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// The same file, by whichever path.
    #[test]
    fn what_is_kept_does_not_hang_on_how_a_path_is_spelled() {
        let folder = std::fs::canonicalize(folder("spelled")).unwrap();
        let (real, elsewhere, state) = (folder.join("real.img"), folder.join("else"), folder.join("state"));
        std::fs::create_dir_all(&elsewhere).unwrap();
        std::fs::write(&real, "blocks").unwrap();
        let links = [elsewhere.join("one.img"), elsewhere.join("two.img")];
        for link in &links {
            std::os::unix::fs::symlink(&real, link).unwrap();
        }
        for state in [None, Some(state.as_path())] {
            let places: Vec<_> =
                [&real, &links[0], &folder.join("else/../real.img")].map(|path| place(path, state).unwrap()).into();
            assert!(places.iter().all(|other| *other == places[0]), "{places:?}");
            // What was kept by the path of a link is moved, and what failed has failed.
            let mut before = Kept::open(&place_of(&links[0], None, state)).unwrap();
            before.set_flush_failed(Some("EIO".into())).unwrap();
            let kept = Kept::open(&place(&links[0], state).unwrap()).unwrap();
            assert_eq!(kept.content, before.content);
            assert!(!place_of(&links[0], None, state).exists());
            // By another link another target kept something, too: the file is what it is.
            let mut other = Kept::open(&place_of(&links[1], None, state)).unwrap();
            let mut kept = Kept::open(&place(&links[1], state).unwrap()).unwrap();
            assert_eq!(kept.content, before.content);
            kept.set_flush_failed(None).unwrap();
            other.set_flush_failed(Some("EIO".into())).unwrap();
            let kept = Kept::open(&place(&links[1], state).unwrap()).unwrap();
            assert_eq!((kept.content.uuid, kept.content.flush_failed.as_deref()), (before.content.uuid, Some("EIO")));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Two disks change their paths.
    #[test]
    fn what_was_kept_by_the_path_of_a_device_becomes_what_is_kept_of_the_device() {
        let folder = folder("devices");
        let at = |path: &str, device: Option<&str>| place_of(Path::new(path), device, Some(&folder));
        let first = Kept::open(&at("/dev/sdb", None)).unwrap();
        let [one, two] = ["wwid=naa.1", "wwid=naa.2"];
        take_over(&at("/dev/sdb", None), &at("/dev/sdb", Some(one)), true).unwrap();
        assert_eq!(Kept::open(&at("/dev/disk/by-id/one", Some(one))).unwrap().content, first.content);
        take_over(&at("/dev/sdb", None), &at("/dev/sdb", Some(two)), true).unwrap();
        assert_ne!(Kept::open(&at("/dev/sdb", Some(two))).unwrap().content.uuid, first.content.uuid);
        assert_ne!(at("/dev/sdb", Some("dev/sdb")), at("/dev/sdb", None), "no name of a device is a path");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused_and_left_alone() {
        let folder = folder("damaged");
        let path = folder.join("disk.interlock");
        for (text, word) in
            [("{", "another disk"), ("{\"format_version\":1}", "another disk"), ("{\"format_version\":2}", "newer")]
        {
            std::fs::write(&path, text).unwrap();
            let error = Kept::open(&path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn every_path_has_its_own_place() {
        let state = Path::new("/state");
        let place = |path: &str| place(Path::new(path), Some(state)).unwrap();
        assert_eq!(place("/a/b"), Path::new("/state/a%2Fb.interlock"));
        assert_ne!(place("/a%2Fb"), place("/a/b"));
        let odd =
            |byte| super::place(Path::new(std::ffi::OsStr::from_bytes(&[b'/', b'a', byte])), Some(state)).unwrap();
        assert_eq!(odd(0xff), Path::new("/state/a%FF.interlock"));
        assert_ne!(odd(0xff), odd(0xfe));
        assert_eq!(place("/\u{e4}"), Path::new("/state/\u{e4}.interlock"), "a name that is kept since before stays");
    }
}

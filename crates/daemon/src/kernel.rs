//! The kernel's own NVMe driver as a neighbour: who connects under which identity.
//!
//! Two drivers under one identity are one host to a target. What one has written and lost, the other cannot fence, and
//! whoever fences one of them may end the other. So the daemon does not start beside controllers of the kernel that use
//! its identity, unless somebody says that they are meant to share it.

use interlock_host::HostSettings;
use rustix::io::Errno;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A controller of the kernel's driver that uses an identity of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelController {
    /// `nvme0`.
    pub name: String,
    /// Its subsystem.
    pub subnqn: String,
    /// Its address as the kernel writes it.
    pub address: String,
    /// Why its identity could not be read: it may be ours.
    pub unread: Option<String>,
}

impl fmt::Display for KernelController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} at {})", self.name, self.subnqn, self.address)?;
        self.unread.as_ref().map_or(Ok(()), |why| write!(f, ", whose identity cannot be read: {why}"))
    }
}

/// The controllers of the running kernel's driver whose Host NQN or Host Identifier is that of this host, or cannot be read,
/// by name. `sys` is usually `/sys`; a kernel without the driver has none.
///
/// # Errors
/// If the tree is there and cannot be read.
pub fn same_identity(sys: &Path, who: &HostSettings) -> io::Result<Vec<KernelController>> {
    let entries = match fs::read_dir(sys.join("class/nvme")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let dir = entry?.path();
        // Local devices have no identity of a host; a controller may go while it is looked at.
        let attribute = |name: &str| fs::read_to_string(dir.join(name)).map(|text| text.trim().to_owned());
        let hostid = who.hostid.to_string();
        let identity = [("hostnqn", who.hostnqn.as_str()), ("hostid", hostid.as_str())];
        let looked = identity.map(|(name, ours)| match attribute(name) {
            Ok(text) => Ok(text.eq_ignore_ascii_case(ours)),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(format!("{name}: {error}")),
        });
        let unread = looked.iter().find_map(|looked| looked.clone().err());
        if unread.is_some() || looked.contains(&Ok(true)) {
            found.push(KernelController {
                name: dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
                subnqn: attribute("subsysnqn").unwrap_or_default(),
                address: attribute("address").unwrap_or_default(),
                unread,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What the kernel's driver still has of one subsystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelSubsystem {
    /// Its controllers, by name, with the state that the kernel shows: whatever identity they use.
    pub controllers: Vec<(KernelController, String)>,
    /// Its subsystem, if that is there: block devices, and requests that wait for a path, may outlive the controllers.
    pub subsystem: Option<String>,
    /// The longest Keep Alive Timeout of the controllers, in seconds; `None` if none is shown.
    pub kato_s: Option<u32>,
}

impl KernelSubsystem {
    /// True if nothing of it is left.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.controllers.is_empty() && self.subsystem.is_none()
    }
}

/// What the kernel's driver has of the subsystem. Nothing is left out: a device whose attributes cannot be read counts as one
/// of it. `sys` is usually `/sys`.
///
/// # Errors
/// If the tree cannot be read, or is not there at all: then nothing is known.
pub fn of_subsystem(sys: &Path, subnqn: &str) -> io::Result<KernelSubsystem> {
    // Without this directory no sysfs is mounted; without the others there is no driver.
    fs::metadata(sys.join("class"))?;
    let mut found = KernelSubsystem::default();
    for dir in devices(&sys.join("class/nvme"))? {
        let Some(nqn) = attribute(&dir, "subsysnqn")? else { continue };
        if nqn.as_deref().is_some_and(|nqn| nqn != subnqn) {
            continue;
        }
        let kato = attribute(&dir, "kato")?.flatten().and_then(|text| text.parse().ok());
        found.kato_s = found.kato_s.max(kato);
        let word =
            |name: &str| Ok::<_, io::Error>(attribute(&dir, name)?.flatten().unwrap_or_else(|| "unknown".into()));
        let controller = KernelController {
            name: name_of(&dir),
            subnqn: nqn.unwrap_or_else(|| "unknown".into()),
            address: word("address")?,
            unread: None,
        };
        found.controllers.push((controller, word("state")?));
    }
    for dir in devices(&sys.join("class/nvme-subsystem"))? {
        if let Some(nqn) = attribute(&dir, "subsysnqn")?
            && nqn.is_none_or(|nqn| nqn == subnqn)
        {
            found.subsystem = Some(name_of(&dir));
        }
    }
    found.controllers.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    Ok(found)
}

fn name_of(dir: &Path) -> String {
    dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The devices of a class; none if there is no such class.
fn devices(class: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(class) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// An attribute of a device: `None` if the device has gone meanwhile, `Some(None)` if it is there and has no such attribute
/// or does not let it be read.
fn attribute(dir: &Path, name: &str) -> io::Result<Option<Option<String>>> {
    match fs::read(dir.join(name)) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(Some(Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())))
        }
        Err(_) => match fs::metadata(dir) {
            Ok(_) => Ok(Some(None)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        },
    }
}

/// True if there is no such attribute, or its controller has gone.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// The kernel's driver beside this daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours {
    /// Where the kernel shows its controllers.
    pub(crate) sys: PathBuf,
    /// Somebody says that both are meant to be one host.
    pub(crate) shared: bool,
}

impl Neighbours {
    /// Controllers under our identity that nobody has allowed. What cannot be read counts as none, and is told in the log: a
    /// container may hide the tree.
    pub(crate) fn under(&self, who: &HostSettings) -> Vec<KernelController> {
        if self.shared || self.sys.as_os_str().is_empty() {
            return Vec::new();
        }
        same_identity(&self.sys, who).unwrap_or_else(|error| {
            let dir = self.sys.display();
            tracing::warn!("{dir}: {error}: whether the kernel's NVMe driver uses this identity is not known");
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that does not say whose it is may be the one.
    #[test]
    fn whatever_may_belong_to_the_subsystem_counts_as_its_own() {
        let sys = std::env::temp_dir().join(format!("interlock-kernel-of-{}", std::process::id()));
        let _ = fs::remove_dir_all(&sys);
        assert!(of_subsystem(&sys, "nqn.x").is_err(), "where no sysfs is, nothing is known");
        fs::create_dir_all(sys.join("class")).expect("a directory");
        assert!(of_subsystem(&sys, "nqn.x").expect("no driver").is_gone());
        let device = |class: &str, name: &str, files: &[(&str, &str)]| {
            let dir = sys.join("class").join(class).join(name);
            fs::create_dir_all(&dir).expect("a directory");
            files.iter().for_each(|(file, text)| fs::write(dir.join(file), text).expect("a file"));
        };
        device("nvme", "nvme0", &[("subsysnqn", "nqn.other\n"), ("state", "live\n")]);
        assert!(of_subsystem(&sys, "nqn.x").expect("readable").is_gone(), "another one");
        device("nvme", "nvme2", &[("subsysnqn", "nqn.x\0\0\n"), ("state", "deleting (no IO)\n"), ("kato", "5\n")]);
        device("nvme", "nvme1", &[]);
        device("nvme-subsystem", "nvme-subsys3", &[("subsysnqn", "nqn.x\n")]);
        let found = of_subsystem(&sys, "nqn.x").expect("readable");
        let shown: Vec<(&str, &str)> =
            found.controllers.iter().map(|(one, state)| (one.name.as_str(), state.as_str())).collect();
        assert_eq!(shown, [("nvme1", "unknown"), ("nvme2", "deleting (no IO)")]);
        assert_eq!((found.subsystem.as_deref(), found.kato_s), (Some("nvme-subsys3"), Some(5)));
        fs::remove_dir_all(sys.join("class/nvme")).expect("it is ours");
        assert!(!of_subsystem(&sys, "nqn.x").expect("readable").is_gone(), "requests may wait there for a path");
        fs::remove_dir_all(&sys).expect("it is ours");
    }

    #[test]
    fn controllers_of_the_kernel_under_our_identity_are_found() {
        let sys = std::env::temp_dir().join(format!("interlock-kernel-{}", std::process::id()));
        let _ = fs::remove_dir_all(&sys);
        let who = HostSettings::random().expect("random numbers");
        assert_eq!(same_identity(&sys, &who).expect("no driver"), []);
        let other = HostSettings::random().expect("random numbers");
        let controller = |name: &str, hostnqn: &str, hostid: &str| {
            let dir = sys.join("class/nvme").join(name);
            fs::create_dir_all(&dir).expect("a directory");
            for (file, text) in [
                ("hostnqn", hostnqn),
                ("hostid", hostid),
                ("subsysnqn", "nqn.x"),
                ("address", "traddr=192.0.2.1,trsvcid=4420"),
            ] {
                fs::write(dir.join(file), format!("{text}\n")).expect("a file");
            }
        };
        controller("nvme2", who.hostnqn.as_str(), &who.hostid.to_string());
        controller("nvme1", other.hostnqn.as_str(), &who.hostid.to_string().to_uppercase());
        controller("nvme3", other.hostnqn.as_str(), &other.hostid.to_string());
        fs::create_dir_all(sys.join("class/nvme/nvme0")).expect("a local device");
        // As a container that hides it: what is there and cannot be read may be ours.
        fs::create_dir_all(sys.join("class/nvme/nvme4/hostnqn")).expect("no file");
        let found: Vec<String> =
            same_identity(&sys, &who).expect("it can be read").iter().map(ToString::to_string).collect();
        let at = "(nqn.x at traddr=192.0.2.1,trsvcid=4420)";
        assert_eq!(found[..2], [format!("nvme1 {at}"), format!("nvme2 {at}")]);
        assert!(
            found.len() == 3 && found[2].contains("nvme4") && found[2].contains("cannot be read: hostnqn: "),
            "{found:?}"
        );
        fs::remove_dir_all(&sys).expect("it is ours");
    }
}

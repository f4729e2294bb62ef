//! The kernel's own NVMe driver as a neighbour: who connects under which identity.
//!
//! Two drivers under one identity are one host to a target. What one has written and lost, the other cannot fence, and
//! whoever fences one of them may end the other. So the daemon does not start beside controllers of the kernel that use
//! its identity, unless somebody says that they are meant to share it.

use interlock_host::HostSettings;
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
}

impl fmt::Display for KernelController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} at {})", self.name, self.subnqn, self.address)
    }
}

/// The controllers of the running kernel's driver whose Host NQN or Host Identifier is that of this host, by name. `sys` is
/// usually `/sys`; a kernel without the driver has none.
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
        let is = |name: &str, ours: &str| attribute(name).is_ok_and(|text| text.eq_ignore_ascii_case(ours));
        if is("hostnqn", who.hostnqn.as_str()) || is("hostid", &who.hostid.to_string()) {
            found.push(KernelController {
                name: dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
                subnqn: attribute("subsysnqn").unwrap_or_default(),
                address: attribute("address").unwrap_or_default(),
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
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
        let found: Vec<String> =
            same_identity(&sys, &who).expect("it can be read").iter().map(ToString::to_string).collect();
        let at = "(nqn.x at traddr=192.0.2.1,trsvcid=4420)";
        assert_eq!(found, [format!("nvme1 {at}"), format!("nvme2 {at}")]);
        fs::remove_dir_all(&sys).expect("it is ours");
    }
}

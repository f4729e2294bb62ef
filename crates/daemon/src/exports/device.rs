//! Exports that are block devices of the kernel.
//!
//! Such a device outlives the daemon: when a process ends, in order or by SIGKILL, the kernel keeps it and its requests, and
//! the next process takes it over under the same number. Before that everything that the dead process may have sent is
//! fenced, which can take as long as a quiesce time: so a device begins on a thread of its own, and says what it waits for.

use super::{Standing, refused};
use crate::record::WantedExport;
use crate::refusal::Refusal;
use crate::service::Service;
use interlock_api::{Level, ProblemKind};
use interlock_export::{ExportError, Stop, UblkDevice, UblkSettings};
use interlock_host::{HostError, Shape};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Links to devices lie here, by the names of their exports: numbers tell nobody anything.
const LINKS: &str = "/dev/interlock";
/// The kernel's part of a start. It reads the partition table, and a path may be lost meanwhile.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks whether anybody still waits for a fence.
const FENCE_SLICE: Duration = Duration::from_secs(1);

/// A device that is being started, and whether it shall not be any more.
#[derive(Clone, Default)]
pub(super) struct Starting(Arc<Mutex<Option<Stop>>>);

impl Starting {
    /// `Stop::Force`: it is to go. `Stop::Drain`: it is left to the next process.
    pub(super) fn give_up(&self, how: Stop) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
    }

    pub(super) fn given_up(&self) -> Option<Stop> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device that serves.
#[derive(Clone)]
pub(super) struct Device {
    pub(super) device: Arc<UblkDevice>,
    pub(super) link: Option<PathBuf>,
}

impl Device {
    fn new(name: &str, device: UblkDevice) -> Self {
        let link = link(Path::new(LINKS), name, device.path())
            .inspect_err(|error| tracing::warn!("export {name}: no link in {LINKS}: {error}"))
            .ok();
        Self { device: Arc::new(device), link }
    }

    /// The kernel is told of a new size.
    pub(super) fn reshape(&self, shape: Shape) -> Result<(), ExportError> {
        let bytes = shape.blocks.saturating_mul(shape.block_size.into());
        if self.device.status().size == bytes { Ok(()) } else { self.device.reshape(shape) }
    }

    /// Ends it for good.
    pub(super) fn stop(&self, how: Stop, within: Duration) -> Result<(), ExportError> {
        self.device.stop(how, within)?;
        if let Some(link) = &self.link {
            // It leads nowhere any more.
            let _ = fs::remove_file(link);
        }
        Ok(())
    }
}

/// Makes `DIR/NAME` lead to a device; a link that leads to another device of the kernel that is there is left alone.
fn link(dir: &Path, name: &str, device: &Path) -> std::io::Result<PathBuf> {
    let link = dir.join(name);
    fs::create_dir_all(dir)?;
    match fs::read_link(&link) {
        Ok(old) if old == device => return Ok(link),
        Ok(old) if old.exists() => {
            return Err(std::io::Error::other(format!("{} leads to {}", link.display(), old.display())));
        }
        Ok(_) => fs::remove_file(&link)?,
        Err(_) => {}
    }
    std::os::unix::fs::symlink(device, &link)?;
    Ok(link)
}

/// The number for a new device: the one that was asked for if it is free, else the lowest that is.
pub(super) fn number(asked: Option<u32>, taken: impl Fn(u32) -> bool) -> Result<u32, Refusal> {
    let skip = asked.unwrap_or(0);
    let free = UblkDevice::free_number(|id| id < skip || taken(id)).map_err(|error| refused(&error))?;
    match asked {
        Some(asked) if asked != free => {
            let text = format!("/dev/ublkb{asked} is there already, or belongs to another export");
            Err(Refusal::new(ProblemKind::InUse, text).hint(format!("the next free number is {free}")))
        }
        _ => Ok(free),
    }
}

/// The name becomes a file's.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        let text = format!("`{name}` cannot be the name of a link in {LINKS}");
        return Err(Refusal::new(ProblemKind::BadRequest, text).hint("leave out `/` and a leading `.`"));
    }
    Ok(())
}

impl Service {
    /// Starts the device of this export, unless somebody does that already.
    fn begin_device(&self, name: &str) -> Result<(), Refusal> {
        let Some((entry, starting)) = self.exports.claim(name) else { return Ok(()) };
        self.make_device(&entry, &starting)
    }

    /// Starts a device that is the caller's to start, or takes it over, and waits until it serves. If its namespace is not
    /// there, it waits for that without the caller.
    pub(super) fn make_device(&self, entry: &WantedExport, starting: &Starting) -> Result<(), Refusal> {
        let name = &entry.name;
        let standing = match self.start_device(entry, starting) {
            Ok(Some(device)) => {
                let how = if device.device.is_recovered() { "taken over" } else { "made" };
                tracing::info!("export {name}: {} {how}", device.device.path().display());
                Standing::Device(device)
            }
            Ok(None) => Standing::Waiting,
            Err(refusal) => Standing::Failed(refusal),
        };
        self.exports.settle(name, starting, standing)
    }

    fn start_device(&self, entry: &WantedExport, starting: &Starting) -> Result<Option<Device>, Refusal> {
        if let Some(warning) = self.memory.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.told.note(Level::Warn, "memory", warning);
        }
        let mut told = false;
        loop {
            if starting.given_up().is_some() {
                return Ok(None);
            }
            let Some((namespace, disk)) = self.permitted(&entry.name)? else { return Ok(None) };
            match self.host.wait_fenced(&entry.subnqn, entry.nsid, FENCE_SLICE) {
                Ok(_) => {}
                Err(HostError::NotFenced { .. }) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!("export {}: waits until earlier lives are fenced", entry.name);
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let settings = UblkSettings {
                id: entry.ublk_id,
                disk,
                ..UblkSettings::new(entry.settings(namespace, self.exports.reports()))
            };
            match UblkDevice::start(self.exports.reactors(), &self.host, settings, START_WITHIN) {
                Ok(device) => return Ok(Some(Device::new(&entry.name, device))),
                // A path was lost in between.
                Err(ExportError::NotFenced { .. }) => {}
                Err(error) => return Err(refused(&error)),
            }
        }
    }

    /// Starts the device on a thread of its own.
    pub(super) fn begin_device_soon(self: &Arc<Self>, name: String) {
        let service = Arc::clone(self);
        let begun = std::thread::Builder::new().name(format!("export {name}")).spawn(move || {
            if let Err(refusal) = service.begin_device(&name) {
                tracing::error!("export {name}: {}", refusal.0.error);
            }
        });
        if let Err(error) = begun {
            tracing::error!("no thread for an export: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_their_devices_and_those_of_others_are_left_alone() {
        let dir = std::env::temp_dir().join(format!("interlock-links-{}", std::process::id()));
        let (ours, other) = (dir.join("ours"), dir.join("other"));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(&other, "").expect("a file");
        let links = dir.join("links");
        let made = link(&links, "nvme0n1", &ours).expect("a link");
        assert_eq!(fs::read_link(&made).expect("a link"), ours);
        assert_eq!(link(&links, "nvme0n1", &ours).expect("the same"), made);
        link(&links, "nvme0n1", &other).expect("it led nowhere");
        assert!(link(&links, "nvme0n1", &ours).is_err(), "it leads to something that is there");
        fs::remove_dir_all(dir).expect("our own");
        for wrong in ["", ".x", "a/b", "../x"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
        check_name("disk 0").expect("a name");
    }
}

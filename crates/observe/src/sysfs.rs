//! The Linux kernel's controllers, read from `/sys`.
//!
//! Layout as of Linux 7.3, tolerant of older kernels: a missing attribute is an unknown value, and a device that goes
//! away while it is read is left out. Nothing here needs an ioctl, a device node or privilege; only a reset of a counter
//! needs the right to write.
//!
//! Where things are: `class/nvme-subsystem/nvme-subsysS` has the subsystem and the heads `nvmeSnN`; `class/nvme/nvmeC`
//! has the controller and the paths `nvmeScCnN`, or, without multipath, the namespace `nvmeSnN` itself.

mod attribute;
mod name;

use crate::natural::natural_order;
use crate::{
    Controller, ControllerCounters, Counter, CounterName, Head, HeadCounters, Path, PathCounters, Snapshot, Source,
    SourceError, Subsystem,
};
use attribute::Device;
use name::{BlockName, Numbers};
use std::fs;
use std::path::{self, PathBuf};
use std::time::Instant;

/// A sysfs, the running kernel's or a copy of one.
#[derive(Debug)]
pub struct Sysfs {
    /// Holds `class/nvme` and `class/nvme-subsystem`.
    sys: PathBuf,
    started: Instant,
}

impl Sysfs {
    /// The sysfs below `root`: `/` for the running kernel. (`root` holds `sys`, as for nvme-cli's `test-sysfs-dir`.)
    #[must_use]
    pub fn below(root: &path::Path) -> Self {
        Self { sys: root.join("sys"), started: Instant::now() }
    }

    fn subsystem(&self, name: &str) -> Option<Subsystem> {
        let device = Device::at(self.sys.join("class/nvme-subsystem").join(name));
        let mut subsystem = Subsystem {
            name: name.to_owned(),
            nqn: device.text("subsysnqn")?,
            model: device.text("model").unwrap_or_default(),
            serial: device.text("serial").unwrap_or_default(),
            firmware: device.text("firmware_rev").unwrap_or_default(),
            kind: device.text("subsystype").unwrap_or_else(|| "nvm".to_owned()),
            iopolicy: device.text("iopolicy"),
            ..Subsystem::default()
        };
        let entries = device.entries();
        for entry in &entries {
            match BlockName::parse(entry) {
                Some(BlockName::Head(_)) => {
                    subsystem.namespaces.extend(head(&device.child(entry), entry));
                }
                None if name::is_controller(entry) => subsystem.controllers.extend(self.controller(name, entry)),
                _ => {}
            }
        }
        for controller in &subsystem.controllers {
            let device = self.controller_device(name, &controller.name);
            for entry in device.entries() {
                let Some(block) = BlockName::parse(&entry) else { continue };
                attach(&mut subsystem.namespaces, &device.child(&entry), &entry, block, &controller.name);
            }
        }
        // Without multipath, the namespaces of several controllers arrive one controller after the other.
        subsystem.namespaces.sort_by(|a, b| natural_order(&a.name, &b.name));
        for head in &mut subsystem.namespaces {
            head.paths.sort_by(|a, b| natural_order(&a.name, &b.name));
        }
        Some(subsystem)
    }

    /// A controller as it stands in its class. A tree that was copied without its links may have it below its subsystem.
    fn controller_device(&self, subsystem: &str, name: &str) -> Device {
        let below = self.sys.join("class/nvme-subsystem").join(subsystem).join(name);
        Device::at(self.sys.join("class/nvme").join(name)).or(below)
    }

    fn controller(&self, subsystem: &str, name: &str) -> Option<Controller> {
        let device = self.controller_device(subsystem, name);
        Some(Controller {
            name: name.to_owned(),
            state: device.text("state")?.as_str().into(),
            transport: device.text("transport").unwrap_or_default(),
            address: device.text("address").unwrap_or_default(),
            cntlid: device.number("cntlid"),
            hostnqn: device.text("hostnqn"),
            hostid: device.text("hostid"),
            kato_s: device.number("kato"),
            reconnect_delay_s: device.number("reconnect_delay"),
            ctrl_loss_tmo_s: device.number("ctrl_loss_tmo"),
            fast_io_fail_tmo_s: device.number("fast_io_fail_tmo"),
            queues: device.number("queue_count"),
            sqsize: device.number("sqsize"),
            numa_node: device.number("numa_node"),
            counters: ControllerCounters {
                command_error_count: device.number("diag/command_error_count"),
                reset_count: device.number("diag/reset_count"),
                reconnect_count: device.number("diag/reconnect_count"),
            },
            recovery: None,
        })
    }

    /// Where a device of this name may be; most are at one of these places.
    fn places(&self, device: &str) -> Vec<PathBuf> {
        let mut places = vec![self.sys.join("class/nvme").join(device)];
        for class in ["class/nvme", "class/nvme-subsystem"] {
            let class = self.sys.join(class);
            places.extend(Device::at(class.clone()).entries().iter().map(|parent| class.join(parent).join(device)));
        }
        places
    }
}

/// The head `name`, yet without paths.
fn head(device: &Device, name: &str) -> Option<Head> {
    device.exists().then(|| Head {
        name: name.to_owned(),
        nsid: device.number("nsid"),
        // The kernel counts in sectors of 512 bytes, whatever the block size.
        size_bytes: device.number::<u64>("size").map(|sectors| sectors.saturating_mul(512)),
        block_bytes: device.number("queue/logical_block_size"),
        read_only: device.number::<u8>("ro").map(|ro| ro != 0),
        uuid: device.text("uuid"),
        nguid: device.text("nguid"),
        eui64: device.text("eui"),
        io: device.io(),
        times: None,
        counters: HeadCounters {
            io_requeue_no_usable_path_count: device.number("diag/io_requeue_no_usable_path_count"),
            io_fail_no_available_path_count: device.number("diag/io_fail_no_available_path_count"),
        },
        flush_error: None,
        suspects: Vec::new(),
        paths: Vec::new(),
    })
}

/// Adds what was found below a controller to the head it belongs to.
fn attach(heads: &mut Vec<Head>, device: &Device, name: &str, block: BlockName, controller: &str) {
    let Some(path) = path(device, name, controller) else { return };
    match block {
        BlockName::Path(Numbers { subsystem, namespace }) => {
            let of = format!("nvme{subsystem}n{namespace}");
            // A path whose head is not there yet (or any more) is half of a change: the next sample has all of it.
            if let Some(head) = heads.iter_mut().find(|head| head.name == of) {
                head.paths.push(path);
            }
        }
        BlockName::Head(_) => {
            if let Some(known) = heads.iter_mut().find(|head| head.name == name) {
                known.paths.push(path);
            } else if let Some(mut alone) = head(device, name) {
                alone.counters = HeadCounters::default();
                alone.paths.push(path);
                heads.push(alone);
            }
        }
    }
}

fn path(device: &Device, name: &str, controller: &str) -> Option<Path> {
    device.exists().then(|| Path {
        name: name.to_owned(),
        controller: controller.to_owned(),
        ana_state: device.text("ana_state").map(|state| state.as_str().into()),
        ana_group: device.number("ana_grpid"),
        queue_depth: device.number("queue_depth"),
        numa_nodes: device.text("numa_nodes"),
        io: device.io(),
        times: None,
        counters: PathCounters {
            // nvme-cli's library looks for the second name; kernels have the first.
            command_retries_count: device
                .number("diag/command_retries_count")
                .or_else(|| device.number("diag/command_retry_count")),
            command_error_count: device.number("diag/command_error_count"),
            multipath_failover_count: device.number("diag/multipath_failover_count"),
        },
    })
}

impl Source for Sysfs {
    fn describe(&self) -> String {
        if self.sys == path::Path::new("/sys") {
            "the kernel's controllers".to_owned()
        } else {
            format!("the controllers in {}", self.sys.display())
        }
    }

    fn sample(&mut self) -> Result<Snapshot, SourceError> {
        let class = self.sys.join("class/nvme-subsystem");
        match fs::read_dir(&class) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(SourceError::NoNvme(class)),
            Err(error) => return Err(SourceError::Unreadable { path: class, error }),
        }
        // Taken before the counters are read: on a slow read, rates come out a little low, never high.
        let at = self.started.elapsed();
        let names = Device::at(class).entries();
        Ok(Snapshot { at, subsystems: names.iter().filter_map(|name| self.subsystem(name)).collect(), host: None })
    }

    fn reset(&mut self, counter: &Counter) -> Result<(), SourceError> {
        if !name::is_plain(&counter.device) {
            return Err(SourceError::NoSuchCounter(counter.clone()));
        }
        let spellings: &[&str] = match counter.name {
            CounterName::Retries => &["command_retries_count", "command_retry_count"],
            other => &[other.attribute()],
        };
        for place in self.places(&counter.device) {
            for spelling in spellings {
                let attribute = place.join("diag").join(spelling);
                if attribute.exists() {
                    return attribute::write(&attribute, "0\n").map_err(|error| SourceError::NotReset {
                        counter: counter.clone(),
                        hint: if error.kind() == std::io::ErrorKind::PermissionDenied { " (root may)" } else { "" },
                        error,
                    });
                }
            }
        }
        Err(SourceError::NoSuchCounter(counter.clone()))
    }
}

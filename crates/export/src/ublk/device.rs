//! A device, and the handle that programs hold.

use super::control::{Control, Info, Params, is_busy, is_gone, refused};
use super::queue::{Plan, Shared};
use super::sys;
use crate::gate::Gate;
use crate::{Counters, DiskIdentity, ExportError, ExportSettings, ExportStatus, Stop};
use interlock_host::{Host, Namespace, Shape};
use interlock_ring::{Backend, BufPool, Reactor};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of the largest request.
const IO_MAX: u32 = 512 << 10;

/// Bytes of the largest discard or zeroing.
const WIDE_MAX: u32 = 1 << 30;

/// Bytes of free buffers that a device keeps for reuse.
const CACHED_BUFFERS: usize = 32 << 20;

/// Between two looks at a state that the kernel does not announce.
const LOOK: Duration = Duration::from_millis(20);

/// How a device is made, or taken over.
#[derive(Clone)]
pub struct UblkSettings {
    /// What to serve. Its name and description are for people.
    pub export: ExportSettings,
    /// The disk that it is for, as the program remembers it: a device that a dead process left is taken over only if it was
    /// made for the same one, and if that states an identifier. Default: what the namespace states now.
    pub disk: DiskIdentity,
    /// The number of the device: `/dev/ublkbN`. `None`: the kernel chooses. A program that wants its devices back after it
    /// was killed asks for the same number again.
    pub id: Option<u32>,
    /// Requests per queue at once, 1 to 4096. Default 64.
    pub queue_depth: u16,
}

impl UblkSettings {
    /// With the defaults.
    #[must_use]
    pub fn new(export: ExportSettings) -> Self {
        let disk = DiskIdentity::new(export.namespace.ids(), export.namespace.shape().block_size);
        Self { export, disk, id: None, queue_depth: 64 }
    }
}

/// A block device of the kernel, `/dev/ublkbN`.
///
/// Dropping the handle changes nothing: the device is served until its reactors end, and after that the kernel keeps it,
/// with its requests, for a successor ([`UblkDevice::start`] with the same number). [`UblkDevice::leave`] makes that
/// orderly.
pub struct UblkDevice {
    control: Control,
    id: u32,
    path: PathBuf,
    settings: ExportSettings,
    gate: Arc<Gate>,
    shape: Mutex<Shape>,
    queues: Vec<Arc<Shared>>,
    recovered: bool,
}

impl UblkDevice {
    /// Whether this machine has ublk, and this process may use it.
    ///
    /// # Errors
    /// [`ExportError::NoUblk`], with what is missing and what to do.
    pub fn probe() -> Result<(), ExportError> {
        Control::open().map(drop)
    }

    /// The lowest number that no device has, and that `taken` does not claim.
    ///
    /// # Errors
    /// [`ExportError::NoUblk`]; or the kernel does not tell.
    pub fn free_number(taken: impl Fn(u32) -> bool) -> Result<u32, ExportError> {
        let control = Control::open()?;
        let mut id = 0;
        while taken(id) || control.info(id)?.is_some() {
            id += 1;
        }
        Ok(id)
    }

    /// Makes a device with one queue per reactor, or takes over the one that a dead process has left under this number.
    /// In the second case it first waits, with the requests still in the kernel, until `host` has fenced every life that
    /// its predecessor lost, and only then begins the recovery that lets them come.
    ///
    /// A device remembers which disk it was made for: one that was made for another, or by another program, is not taken
    /// over, nor is one whose disk states no identifier.
    ///
    /// `reactors` are those of `host`. Not from a reactor: it waits, at most `within` (once for the fence, and once for
    /// everything else).
    ///
    /// # Errors
    /// If there is no ublk, if the number belongs to somebody else, if the kernel refuses, or if the fence took too long
    /// ([`ExportError::NotFenced`]: the device was not touched and waits on; try again).
    pub fn start(
        reactors: &[Reactor],
        host: &Host,
        settings: UblkSettings,
        within: Duration,
    ) -> Result<Self, ExportError> {
        if reactors.is_empty() {
            return Err(ExportError::NoReactor);
        }
        if reactors.iter().any(|reactor| reactor.backend() != Backend::IoUring) {
            let why = "ublk needs io_uring, and the reactors of this process run on epoll: its first warning says why, or \
                       INTERLOCK_RING asks for it";
            return Err(ExportError::NoUblk { why: why.to_owned() });
        }
        let control = Control::open()?;
        let until = Instant::now() + within;
        let shape = settings.export.namespace.shape();
        let found = match settings.id {
            Some(id) => abandoned(&control, id, &settings, until)?,
            None => None,
        };
        let recovered = found.is_some();
        if let Some(info) = &found {
            // As soon as the recovery ends, new requests come, and those of the predecessor again: it must be over by then.
            let namespace = &settings.export.namespace;
            let fenced = host.wait_fenced(namespace.subnqn(), namespace.nsid(), within);
            fenced.map_err(|source| ExportError::NotFenced { id: info.id, source: Box::new(source) })?;
        }
        let info = match found {
            Some(info) => info,
            None => make(&control, reactors.len(), &settings, shape)?,
        };
        let mut device = Self {
            path: PathBuf::from(format!("/dev/ublkb{}", info.id)),
            control,
            id: info.id,
            gate: Arc::new(Gate::open_to(settings.export.namespace.clone())),
            settings: settings.export,
            shape: Mutex::new(shape),
            queues: Vec::new(),
            recovered,
        };
        let begun = device.begin(reactors, &info, within);
        if begun.is_err() && !recovered {
            // Nothing of a device that never began is left behind; of a recovered one, everything.
            let _ = device.end(sys::DEL_DEV, within);
        }
        begun.map(|()| device)
    }

    /// Removes the device that a dead process has left under this number for this namespace, or for this disk. One that is not
    /// there is as good; one that another process serves is left alone.
    ///
    /// # Errors
    /// If it is open or mounted ([`Stop::IfUnused`]), or the kernel refuses.
    pub fn discard(
        id: u32,
        (subnqn, nsid): (&str, u32),
        disk: Option<&DiskIdentity>,
        how: Stop,
        within: Duration,
    ) -> Result<(), ExportError> {
        let control = Control::open()?;
        let path = PathBuf::from(format!("/dev/ublkb{id}"));
        match control.info(id)? {
            Some(info)
                if (info.mark == old_mark(subnqn, nsid)
                    || disk.is_some_and(|disk| info.mark == mark(subnqn, nsid, disk)))
                    && info.state != sys::S_DEV_LIVE => {}
            _ => return Ok(()),
        }
        if how == Stop::IfUnused {
            if_unused(&control, id, &path, within)?;
        }
        let remove = if how == Stop::Force { sys::DEL_DEV_ASYNC } else { sys::DEL_DEV };
        match control.simple(remove, id, 0, within) {
            // A removal that was begun before has come to its end meanwhile.
            Err(error) if is_gone(&error) => Ok(()),
            removed => removed.map_err(refused(id, "remove it")),
        }
    }

    fn begin(&mut self, reactors: &[Reactor], info: &Info, within: Duration) -> Result<(), ExportError> {
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        let id = self.id;
        if self.recovered {
            loop {
                match self.control.simple(sys::START_USER_RECOVERY, id, 0, left()) {
                    // Requests of the dead process are still being put back.
                    Err(error) if is_busy(&error) && !left().is_zero() => std::thread::park_timeout(LOOK),
                    result => break result.map_err(refused(id, "begin its recovery"))?,
                }
            }
        }
        let file = open(&PathBuf::from(format!("/dev/ublkc{id}")), until).map_err(refused(id, "open /dev/ublkcN"))?;
        let buffers = BufPool::new(CACHED_BUFFERS);
        for queue in 0..info.queues {
            let plan = Plan {
                queue,
                depth: info.depth,
                io_max: info.io_max,
                settings: self.settings.clone(),
                buffers: buffers.clone(),
                device: file.try_clone().map_err(refused(id, "open /dev/ublkcN"))?,
                shared: Arc::new(Shared::new(Arc::clone(&self.gate))),
            };
            self.queues.push(Arc::clone(&plan.shared));
            let reactor = &reactors[usize::from(queue) % reactors.len()];
            reactor.attach(move |cx| plan.attach(cx)).map_err(|_| ExportError::NoReactor)?;
        }
        drop(file);
        for queue in &self.queues {
            let armed = queue.wait_armed(left());
            armed.map_err(|why| refused(id, "serve its queues")(io::Error::other(why)))?;
        }
        let pid = u64::from(std::process::id());
        if self.recovered {
            let ended = self.control.simple(sys::END_USER_RECOVERY, id, pid, within);
            ended.map_err(refused(id, "end its recovery"))?;
            return self.resize();
        }
        self.control.simple(sys::START_DEV, id, pid, within).map_err(refused(id, "start it"))
    }

    /// The block device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// True if it was taken over from a dead process.
    #[must_use]
    pub const fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// Every request fails from now on, those that are under way first, until it is [opened](UblkDevice::open) again: its
    /// namespace is gone, or another one is there.
    pub fn shut(&self) {
        self.set_gate(None);
    }

    /// Requests are carried out again, through this handle. It must be the disk that the device was made for:
    /// [`Permit`](crate::Permit) says whether it is.
    pub fn open(&self, namespace: Namespace) {
        self.set_gate(Some(namespace));
    }

    fn set_gate(&self, namespace: Option<Namespace>) {
        if self.gate.set(namespace) {
            self.queues.iter().for_each(|queue| queue.wake());
        }
    }

    /// The namespace has another size now (`NamespaceResized` of the host): the kernel is told.
    ///
    /// # Errors
    /// If the kernel refuses, or cannot (Linux 6.16 or newer is needed).
    pub fn reshape(&self, shape: Shape) -> Result<(), ExportError> {
        *self.shape.lock().unwrap_or_else(PoisonError::into_inner) = shape;
        self.resize()
    }

    fn shape(&self) -> Shape {
        *self.shape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resize(&self) -> Result<(), ExportError> {
        if self.control.features & sys::F_UPDATE_SIZE == 0 {
            let why = io::Error::new(io::ErrorKind::Unsupported, "this kernel cannot; Linux 6.16 or newer can");
            return if self.recovered { Ok(()) } else { Err(refused(self.id, "change its size")(why)) };
        }
        let sectors = bytes(self.shape()) / sys::SECTOR;
        let resized = self.control.simple(sys::UPDATE_SIZE, self.id, sectors, ANSWER_WITHIN);
        resized.map_err(refused(self.id, "change its size"))
    }

    /// As it stands.
    #[must_use]
    pub fn status(&self) -> ExportStatus {
        let mut counters = Counters::default();
        self.queues.iter().for_each(|queue| counters.add(&queue.counters.get()));
        let ExportSettings { name, namespace, read_only, on_loss, .. } = &self.settings;
        let shape = self.shape();
        ExportStatus {
            name: name.clone(),
            socket: self.path.clone(),
            subnqn: namespace.subnqn().to_owned(),
            nsid: namespace.nsid(),
            size: bytes(shape),
            block_size: shape.block_size,
            read_only: *read_only || shape.read_only,
            on_loss: *on_loss,
            open: self.gate.is_open(),
            counters,
            connections: Vec::new(),
        }
    }

    /// Stops serving and leaves the device to a successor: requests that have come are answered, new ones wait in the
    /// kernel. After that its host can end with nothing in doubt, and whoever has the device open notices a pause.
    ///
    /// # Errors
    /// Requests were not answered in time: they are left in the kernel too, and the successor carries them out again.
    pub fn leave(&self, within: Duration) -> Result<(), ExportError> {
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        self.queues.iter().for_each(|queue| queue.leave());
        let busy = self.queues.iter().filter(|queue| !queue.wait_quiet(left())).count();
        if self.control.features & sys::F_QUIESCE != 0 {
            // Takes the waiting fetches back, so that the reactors can end; a queue that has none left has nothing to wait
            // for. Older kernels do it when the process is gone.
            let asked = u64::try_from(FETCHES_BACK_WITHIN.as_millis()).unwrap_or(1);
            if self.control.simple(sys::QUIESCE_DEV, self.id, asked, FETCHES_BACK_WITHIN + ANSWER_WITHIN).is_ok() {
                self.queues.iter().for_each(|queue| _ = queue.wait_over(FETCHES_BACK_WITHIN));
            }
        }
        if busy == 0 { Ok(()) } else { Err(ExportError::NotEnded { connections: busy, within }) }
    }

    /// Ends the device. [`Stop::Drain`] waits for its requests; [`Stop::Force`] fails them, and does not wait for whoever
    /// has it open: a node without a device stays until they let go. May be called again, with more force.
    ///
    /// # Errors
    /// If it is open or mounted ([`Stop::IfUnused`]), or has not ended in time.
    pub fn stop(&self, how: Stop, within: Duration) -> Result<(), ExportError> {
        match how {
            Stop::IfUnused => if_unused(&self.control, self.id, &self.path, within)?,
            Stop::Force => self.queues.iter().for_each(|queue| queue.fail_all()),
            Stop::Drain => {}
        }
        self.end(if how == Stop::Force { sys::DEL_DEV_ASYNC } else { sys::DEL_DEV }, within)
    }

    fn end(&self, remove: u32, within: Duration) -> Result<(), ExportError> {
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        self.control.simple(sys::STOP_DEV, self.id, 0, left()).map_err(refused(self.id, "stop it"))?;
        let serving = self.queues.iter().filter(|queue| !queue.wait_over(left())).count();
        if serving > 0 {
            return Err(ExportError::NotEnded { connections: serving, within });
        }
        self.control.simple(remove, self.id, 0, left()).map_err(refused(self.id, "remove it"))
    }
}

/// Stops a device that nobody has open.
fn if_unused(control: &Control, id: u32, path: &Path, within: Duration) -> Result<(), ExportError> {
    let in_use = || ExportError::UblkInUse { id };
    if control.features & sys::F_SAFE_STOP_DEV == 0 {
        // This kernel cannot tell who has it open: at least not what is mounted.
        return if is_mounted(path) { Err(in_use()) } else { Ok(()) };
    }
    match control.simple(sys::TRY_STOP_DEV, id, 0, within) {
        Err(error) if is_busy(&error) => Err(in_use()),
        result => result.map_err(refused(id, "stop it")),
    }
}

/// Waiting fetches come back at once, if the kernel gives them back.
const FETCHES_BACK_WITHIN: Duration = Duration::from_millis(250);

/// A resize is a matter of milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

const fn bytes(shape: Shape) -> u64 {
    shape.blocks.saturating_mul(shape.block_size as u64)
}

/// What a device remembers of the disk that it was made for.
fn mark_of(settings: &UblkSettings) -> u64 {
    mark(settings.export.namespace.subnqn(), settings.export.namespace.nsid(), &settings.disk)
}

fn mark(subnqn: &str, nsid: u32, disk: &DiskIdentity) -> u64 {
    let DiskIdentity { uuid, nguid, eui64, block_size } = disk;
    let mut name = [b"interlock disk ", subnqn.as_bytes(), &nsid.to_le_bytes()].concat();
    for (tag, id) in [
        (1, uuid.as_ref().map(<[u8; 16]>::as_slice)),
        (2, nguid.as_ref().map(<[u8; 16]>::as_slice)),
        (3, eui64.as_ref().map(<[u8; 8]>::as_slice)),
    ] {
        if let Some(id) = id {
            name.push(tag);
            name.extend(id);
        }
    }
    name.extend(block_size.to_le_bytes());
    hash(&name)
}

/// What devices of version 0.1 remember: the place of the disk, and not which disk.
fn old_mark(subnqn: &str, nsid: u32) -> u64 {
    hash(&[b"interlock ", subnqn.as_bytes(), &nsid.to_le_bytes()].concat())
}

/// FNV-1a: the same in every version of this program.
fn hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The device under this number, if its server is dead; waits for one that is just dying.
fn abandoned(control: &Control, id: u32, settings: &UblkSettings, until: Instant) -> Result<Option<Info>, ExportError> {
    let namespace = &settings.export.namespace;
    loop {
        let Some(info) = control.info(id)? else { return Ok(None) };
        whose(&info, (namespace.subnqn(), namespace.nsid()), &settings.disk)?;
        match info.state {
            sys::S_DEV_QUIESCED => return Ok(Some(info)),
            sys::S_DEV_LIVE if is_alive(info.pid) || Instant::now() >= until => {
                return Err(ExportError::UblkTaken { id, pid: info.pid });
            }
            sys::S_DEV_LIVE => std::thread::park_timeout(LOOK),
            // It was made and never started: there is nothing to take over.
            _ => {
                control.simple(sys::DEL_DEV, id, 0, ANSWER_WITHIN).map_err(refused(id, "remove what never began"))?;
            }
        }
    }
}

/// Whether a device may be taken over for this disk.
fn whose(info: &Info, (subnqn, nsid): (&str, u32), disk: &DiskIdentity) -> Result<(), ExportError> {
    let id = info.id;
    if info.mark == old_mark(subnqn, nsid) {
        return Err(ExportError::UblkUnbound { id });
    }
    if info.mark != mark(subnqn, nsid, disk) {
        return Err(ExportError::UblkForeign { id });
    }
    // Its requests are for this disk only if something but the place says so.
    if disk.is_stated() { Ok(()) } else { Err(ExportError::UblkUnbound { id }) }
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    // A dead process whose parent has not looked is dead all the same.
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])))
}

fn make(control: &Control, reactors: usize, settings: &UblkSettings, shape: Shape) -> Result<Info, ExportError> {
    let info = control.add(Info {
        queues: u16::try_from(reactors).unwrap_or(u16::MAX),
        depth: settings.queue_depth.clamp(1, 4096),
        state: 0,
        io_max: IO_MAX,
        id: settings.id.unwrap_or(u32::MAX),
        pid: std::process::id().cast_signed(),
        flags: sys::F_USER_RECOVERY
            | sys::F_USER_RECOVERY_REISSUE
            | sys::F_CMD_IOCTL_ENCODE
            | control.features & (sys::F_UPDATE_SIZE | sys::F_SAFE_STOP_DEV | sys::F_QUIESCE),
        mark: mark_of(settings),
    })?;
    let params = Params {
        block: shape.block_size,
        size: bytes(shape),
        read_only: settings.export.read_only || shape.read_only,
        io_max: info.io_max,
        wide_max: WIDE_MAX,
    };
    control.set_params(info.id, params).inspect_err(|_| {
        let _ = control.simple(sys::DEL_DEV, info.id, 0, ANSWER_WITHIN); // the first error is the one to tell
    })?;
    Ok(info)
}

/// Opens the character device, whose node appears a moment after it was made.
fn open(path: &Path, until: Instant) -> io::Result<OwnedFd> {
    loop {
        match File::options().read(true).write(true).open(path) {
            Ok(file) => return Ok(file.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && Instant::now() < until => {
                std::thread::park_timeout(LOOK);
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    let Some(path) = path.to_str() else { return true };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').next() == Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(mark: u64) -> Info {
        Info { queues: 1, depth: 1, state: sys::S_DEV_QUIESCED, io_max: IO_MAX, id: 7, pid: 1, flags: 0, mark }
    }

    #[test]
    fn a_device_is_taken_over_for_the_disk_that_it_was_made_for() {
        let place = ("nqn.2014-08.org.example:disk", 1);
        let disk = DiskIdentity { uuid: Some([1; 16]), nguid: None, eui64: None, block_size: 4096 };
        let device = left(mark(place.0, place.1, &disk));
        whose(&device, place, &disk).unwrap();
        let foreign = |place, disk: DiskIdentity| {
            let refused = whose(&device, place, &disk).unwrap_err();
            assert!(matches!(refused, ExportError::UblkForeign { id: 7 }), "{refused}");
        };
        foreign((place.0, 2), disk);
        foreign(place, DiskIdentity { uuid: Some([2; 16]), ..disk });
        foreign(place, DiskIdentity { uuid: None, nguid: Some([1; 16]), ..disk });
        foreign(place, DiskIdentity { block_size: 512, ..disk });
        // Of version 0.1, or of a disk that states no identifier: nothing says whose its requests are.
        let unbound = |device: Info, disk: DiskIdentity| {
            let refused = whose(&device, place, &disk).unwrap_err();
            assert!(matches!(refused, ExportError::UblkUnbound { id: 7 }), "{refused}");
        };
        unbound(left(old_mark(place.0, place.1)), disk);
        let nameless = DiskIdentity { uuid: None, ..disk };
        unbound(left(mark(place.0, place.1, &nameless)), nameless);
    }
}

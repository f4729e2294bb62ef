//! Exports: namespaces offered as block devices, over NBD or by the kernel.
//!
//! An export is wanted whether or not its namespace is there at the moment: a daemon that starts again offers it as
//! soon as the first path is back. NBD: one server per socket; usually there is one socket, and clients choose by name.

mod device;
mod look;
mod reports;

use self::device::{Device, Starting};
use self::reports::Reports;
use crate::budget::{Budget, Kind, Payer};
use crate::events::Told;
use crate::names;
use crate::record::{BoundDisk, WantedExport};
use crate::refusal::Refusal;
use crate::service::Service;
use crate::view;
use interlock_api::{self as api, Done, ExportKind, ExportOnLoss, ExportRequest, ProblemKind, Version, escaped};
use interlock_export::{
    DiskIdentity, ExportError, ExportSettings, Faults, NbdMemory, NbdServer, NbdSettings, OnLoss, Permit, Stop,
    UblkDevice, Verdict, Waits,
};
use interlock_host::{HeadId, Namespace, NamespaceStatus};
use interlock_ring::Reactor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The socket of exports that ask for none, beside the control socket.
const SOCKET: &str = "nbd.sock";
/// Clients that are told to end get the answers to what they have sent; a path may be lost meanwhile.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);
/// Exports of one daemon.
const EXPORTS_MAX: usize = 4_096;

/// All exports.
pub(crate) struct ExportTable {
    front: Front,
    run: PathBuf,
    inner: Mutex<Inner>,
    budget: Budget,
}

/// What servers of NBD are made of.
struct Front {
    reactors: Vec<Reactor>,
    group: Option<u32>,
    /// Of the clients of all sockets.
    memory: NbdMemory,
    /// Where I/O that failed is reported.
    reports: Reports,
}

#[derive(Default)]
struct Inner {
    servers: BTreeMap<PathBuf, Arc<NbdServer>>,
    wanted: BTreeMap<String, Wanted>,
    /// What was told of exports whose disks cannot be written down; `None`: there are none.
    unbound: Option<String>,
}

#[derive(Clone)]
struct Wanted {
    entry: WantedExport,
    /// On whose account it is.
    payer: Payer,
    standing: Standing,
    /// Whether clients may have its disk.
    permit: Permit,
    /// Why the host does not take what is at its place as a path, if it does not.
    path_refused: Option<String>,
    /// What it was told to wait for: a change is told again.
    told: Option<Waits>,
}

impl Wanted {
    /// As `standing`, of an export that is bound to this disk or to none yet.
    const fn new(entry: WantedExport, payer: Payer, standing: Standing, disk: Option<DiskIdentity>) -> Self {
        Self { entry, payer, standing, permit: Permit::new(disk), path_refused: None, told: None }
    }

    /// The same, of one whose disk was forgotten with a damaged record.
    fn unconfirmed(self) -> Self {
        Self { permit: Permit::unconfirmed(), ..self }
    }

    /// What it waits for, and what to do where somebody has to do something.
    fn named(&self, waits: Waits) -> String {
        let WantedExport { name, subnqn, nsid, .. } = &self.entry;
        match waits {
            Waits::Operator => {
                format!(
                    "{waits}; if it is the one that is there now, say so: interlock export {subnqn}:{nsid} --name {name}"
                )
            }
            _ => waits.to_string(),
        }
    }

    /// True if a request of a client can be carried out now.
    const fn serves(&self) -> bool {
        matches!(self.standing, Standing::Nbd | Standing::Device(_))
            && matches!(self.permit.verdict(), Verdict::Serve(_))
    }

    /// True if paths lead to its disk, and none of them can be used.
    fn is_inaccessible(&self, seen: &[NamespaceStatus]) -> bool {
        let head = self.permit.verdict().head();
        let paths = seen.iter().find(|ns| Some(ns.head) == head).map(|ns| &ns.paths);
        paths.is_some_and(|paths| !paths.is_empty() && !paths.iter().any(|path| view::ana(path.ana).is_usable()))
    }

    fn waits_for(&self) -> Option<String> {
        match &self.standing {
            Standing::Starting(_) => {
                return Some("its device, and first for the fence of what an earlier process left".into());
            }
            Standing::Failed(Refusal(problem)) => {
                let what = if self.entry.kind == ExportKind::Nbd { "its socket" } else { "help" };
                return Some(format!("{what}: {}", problem.error));
            }
            Standing::Waiting | Standing::Nbd | Standing::Device(_) => {}
        }
        let waits = match self.permit.verdict() {
            Verdict::Serve(_) if self.serves() => return None,
            Verdict::Serve(_) => return Some("its turn to be started".into()),
            Verdict::Hold(_, waits) | Verdict::Shut(waits) => waits,
        };
        let shut =
            matches!((self.permit.verdict(), &self.standing), (Verdict::Shut(_), Standing::Nbd | Standing::Device(_)));
        let clients = if shut { "; clients get errors" } else { "" };
        let named = self.named(*waits);
        Some(match &self.path_refused {
            Some(why) if *waits != Waits::Controller => format!("{named}; what is there is not used: {why}{clients}"),
            _ => format!("{named}{clients}"),
        })
    }
}

/// What an export is for, as far as it is known.
struct For<'a> {
    place: (&'a str, u32),
    /// Through which it serves, or would.
    head: Option<HeadId>,
    disk: Option<&'a DiskIdentity>,
}

/// How a wanted export stands.
#[derive(Clone)]
enum Standing {
    /// Its namespace is not there.
    Waiting,
    /// A thread makes its device, or takes it over.
    Starting(Starting),
    /// NBD clients can have it.
    Nbd,
    /// The kernel has it.
    Device(Device),
    /// Its device could not be made.
    Failed(Refusal),
}

impl WantedExport {
    fn settings(&self, namespace: Namespace, reports: &Reports) -> ExportSettings {
        let (name, reports) = (self.name.clone(), reports.clone());
        ExportSettings {
            faults: Faults::new(move |text| reports.send(format!("export {name}: {text}"))),
            name: self.name.clone(),
            description: format!("namespace {} of {}", self.nsid, self.subnqn),
            namespace,
            read_only: self.read_only,
            on_loss: match self.on_loss {
                ExportOnLoss::Hold => OnLoss::Hold,
                ExportOnLoss::Fail => OnLoss::Fail,
            },
        }
    }
}

impl ExportTable {
    pub(crate) fn new(
        reactors: Vec<Reactor>,
        run: PathBuf,
        group: Option<u32>,
        told: Arc<Told>,
        budget: Budget,
    ) -> Self {
        let front = Front { reactors, group, memory: NbdMemory::default(), reports: Reports::new(told) };
        Self { front, run, inner: Mutex::default(), budget }
    }

    /// Who hears of failed I/O of this export.
    fn reports(&self) -> &Reports {
        &self.front.reports
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of all exports of a subsystem that are wanted.
    fn of(&self, subnqn: &str) -> Vec<String> {
        self.inner().wanted.values().filter(|w| w.entry.subnqn == subnqn).map(|w| w.entry.name.clone()).collect()
    }

    fn serve(&self, name: &str, namespace: Namespace) -> Result<(), ExportError> {
        self.inner().serve(name, namespace, &self.front)
    }

    fn reactors(&self) -> &[Reactor] {
        &self.front.reactors
    }

    /// The last path of this subsystem is to go: exports without clients wait for it to come back, others refuse, or
    /// are ended by force.
    pub(crate) fn release(&self, subnqn: &str, force: bool) -> Result<(), Refusal> {
        for name in self.of(subnqn) {
            self.stop(&name, if force { Stop::Force } else { Stop::IfUnused }).map_err(|refusal| {
                if refusal.0.kind == ProblemKind::InUse {
                    let text = format!("{}, and this is the last path of export `{name}`", refusal.0.error);
                    return Refusal::new(ProblemKind::InUse, text)
                        .hint("end the clients first, or use --force: then what they have in flight is abandoned");
                }
                refusal
            })?;
        }
        Ok(())
    }

    /// Wants an export that stands like this. One that waits is begun by whoever comes first.
    fn add(&self, wanted: Wanted) -> Result<(), Refusal> {
        let entry = &wanted.entry;
        let mut inner = self.inner();
        if let Some(old) = inner.wanted.get(&entry.name) {
            let same = old.entry.is_same(entry);
            let text = if same { "exported already" } else { "there is another export of this name" };
            let kind = if same { ProblemKind::Already } else { ProblemKind::InUse };
            return Err(Refusal::new(kind, format!("`{}`: {text}", entry.name)).device(&entry.name));
        }
        if inner.wanted.len() >= EXPORTS_MAX {
            let all = inner.wanted.len();
            let text = format!("of {EXPORTS_MAX} exports that there may be at once there are {all}");
            return Err(Refusal::new(ProblemKind::InUse, text));
        }
        let payers = inner.wanted.values().map(|wanted| wanted.payer);
        self.budget.ledger().one_more(Kind::Exports, EXPORTS_MAX, wanted.payer, payers)?;
        if entry.kind == ExportKind::Nbd {
            inner.server(&entry.socket, &self.front).map_err(|error| refused(&error))?;
        }
        inner.wanted.insert(entry.name.clone(), wanted);
        Ok(())
    }

    /// The same, whether or not its socket can be made now.
    fn restore(&self, wanted: Wanted) -> Result<(), Refusal> {
        let (name, socket) = (wanted.entry.name.clone(), wanted.entry.socket.clone());
        let Err(refusal) = self.add(wanted.clone()) else { return Ok(()) };
        let mut inner = self.inner();
        // Its name is taken, or there are too many: no socket is missing.
        if inner.wanted.contains_key(&name) || inner.wanted.len() >= EXPORTS_MAX {
            return Err(refusal);
        }
        tracing::warn!("export {name}: waits for its socket {}: {}", socket.display(), refusal.0.error);
        inner.wanted.insert(name, Wanted { standing: Standing::Failed(refusal), ..wanted });
        Ok(())
    }

    /// Makes the caller the one that starts the device of this export. `None`: that is done, or being done.
    fn claim(&self, name: &str) -> Option<(WantedExport, Starting)> {
        let mut inner = self.inner();
        let wanted = inner.wanted.get_mut(name)?;
        if wanted.entry.kind != ExportKind::Ublk || !matches!(wanted.standing, Standing::Waiting | Standing::Failed(_))
        {
            return None;
        }
        let starting = Starting::default();
        wanted.standing = Standing::Starting(starting.clone());
        Some((wanted.entry.clone(), starting))
    }

    /// How the start of a device ended. What was given up meanwhile is taken back.
    fn settle(&self, name: &str, starting: &Starting, standing: Standing) -> Result<(), Refusal> {
        let failure = match &standing {
            Standing::Failed(refusal) => Err(refusal.clone()),
            _ => Ok(()),
        };
        let mut inner = self.inner();
        let Some(how) = starting.given_up() else {
            if let Some(wanted) = inner.wanted.get_mut(name) {
                wanted.standing = standing;
            }
            return failure;
        };
        drop(inner);
        if let Standing::Device(device) = standing {
            let ended = match how {
                Stop::Force => device.stop(how, DRAIN_WITHIN),
                _ => device.device.leave(DRAIN_WITHIN),
            };
            ended.map_err(|error| refused(&error))?;
        }
        failure
    }

    /// Takes it from its clients; it stays wanted.
    fn stop(&self, name: &str, how: Stop) -> Result<(), Refusal> {
        let mut inner = self.inner();
        let Some(wanted) = inner.wanted.get_mut(name) else { return Ok(()) };
        match &wanted.standing {
            Standing::Waiting | Standing::Failed(_) => return Ok(()),
            Standing::Starting(starting) if how == Stop::Force => {
                starting.give_up(how);
                wanted.standing = Standing::Waiting;
            }
            Standing::Starting(_) => {
                let text = format!("the device of `{name}` is just being started, or taken over");
                return Err(Refusal::new(ProblemKind::InUse, text));
            }
            Standing::Nbd => {
                let socket = wanted.entry.socket.clone();
                let server = inner.servers.get(&socket).cloned();
                // Clients may take their time: nobody else waits for them.
                drop(inner);
                if let Some(server) = server {
                    server.remove(name, how, DRAIN_WITHIN).map_err(|error| refused(&error))?;
                }
                if let Some(wanted) = self.inner().wanted.get_mut(name)
                    && matches!(wanted.standing, Standing::Nbd)
                {
                    wanted.standing = Standing::Waiting;
                }
            }
            Standing::Device(device) => {
                let device = device.clone();
                // The kernel waits for requests that are under way: nobody else waits for the kernel.
                drop(inner);
                device.stop(how, DRAIN_WITHIN).map_err(|error| refused(&error))?;
                if let Some(wanted) = self.inner().wanted.get_mut(name)
                    && matches!(&wanted.standing, Standing::Device(now) if Arc::ptr_eq(&now.device, &device.device))
                {
                    wanted.standing = Standing::Waiting;
                }
            }
        }
        Ok(())
    }

    /// Ends an export for good.
    fn remove(&self, name: &str, how: Stop) -> Result<(), Refusal> {
        let (entry, disk) = {
            let inner = self.inner();
            let found = inner.wanted.get(name);
            found.map(|wanted| (wanted.entry.clone(), wanted.permit.bound().copied())).ok_or_else(|| {
                let known: Vec<&str> = inner.wanted.keys().map(String::as_str).collect();
                let refusal = Refusal::new(ProblemKind::NotFound, format!("there is no export `{name}`"));
                if known.is_empty() { refusal } else { refusal.hint(format!("there are: {}", known.join(", "))) }
            })?
        };
        self.stop(name, how)?;
        if let Some(id) = entry.ublk_id {
            // A device that an earlier process left, and that nobody took over.
            let discarded = UblkDevice::discard(id, entry.place(), disk.as_ref(), how, DRAIN_WITHIN);
            discarded.map_err(|error| refused(&error))?;
        }
        let mut inner = self.inner();
        inner.wanted.remove(name);
        if !inner.wanted.values().any(|other| other.entry.socket == entry.socket)
            && let Some(server) = inner.servers.remove(&entry.socket)
        {
            drop(inner);
            server.stop(Stop::Force, DRAIN_WITHIN).map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    /// All exports. `seen` are the namespaces of the host, to say which of them cannot be reached; `name` is the device name of
    /// what one is for.
    fn status(&self, seen: &[NamespaceStatus], name: impl Fn(&For<'_>) -> String) -> Vec<api::ExportStatus> {
        let inner = self.inner();
        let mut busy: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for server in inner.servers.values() {
            for export in server.status() {
                busy.insert(export.name, (export.connections.len() as u64, export.counters.in_flight));
            }
        }
        inner
            .wanted
            .values()
            .map(|wanted| {
                let Wanted { entry, standing, permit, .. } = wanted;
                let nbd = entry.kind == ExportKind::Nbd;
                let (clients, in_flight) = match standing {
                    Standing::Device(device) => (None, device.device.status().counters.in_flight),
                    _ => {
                        let (clients, in_flight) = busy.get(&entry.name).copied().unwrap_or_default();
                        (nbd.then_some(clients), in_flight)
                    }
                };
                let socket = nbd.then(|| entry.socket.display().to_string());
                let uri = socket.as_ref().map(|socket| format!("nbd+unix:///{}?socket={socket}", escaped(&entry.name)));
                let device = entry.ublk_id.map(|id| format!("/dev/ublkb{id}"));
                let link = match standing {
                    Standing::Device(device) => device.link.as_ref().map(|link| link.display().to_string()),
                    _ => None,
                };
                api::ExportStatus {
                    name: entry.name.clone(),
                    namespace: name(&For { place: entry.place(), head: permit.verdict().head(), disk: permit.bound() }),
                    subnqn: entry.subnqn.clone(),
                    nsid: entry.nsid,
                    kind: entry.kind,
                    socket,
                    uri,
                    device,
                    link,
                    read_only: entry.read_only,
                    on_loss: entry.on_loss,
                    serving: wanted.serves() && !wanted.is_inaccessible(seen),
                    waits_for: wanted.waits_for().or_else(|| {
                        let text = "a usable path: the ANA state of every path forbids I/O";
                        wanted.is_inaccessible(seen).then(|| text.into())
                    }),
                    bound_to: permit.bound().filter(|disk| disk.is_stated()).map(ToString::to_string),
                    clients,
                    in_flight,
                }
            })
            .collect()
    }

    /// Ends everything, all at once and `within` one span: clients get the answers to what they have sent, and what is left
    /// then is abandoned. Block devices of the kernel are left to the next process.
    pub(crate) fn end(&self, within: Duration) -> Vec<String> {
        let (servers, wanted) = {
            let mut inner = self.inner();
            (std::mem::take(&mut inner.servers), std::mem::take(&mut inner.wanted))
        };
        let mut ends: Vec<End<'_>> = Vec::new();
        for (name, Wanted { standing, .. }) in wanted {
            match standing {
                Standing::Starting(starting) => starting.give_up(Stop::Drain),
                Standing::Device(device) => ends.push(Box::new(move |within| match device.device.leave(within) {
                    Ok(()) => {
                        tracing::info!("export {name}: {} waits for the next process", device.device.path().display());
                        None
                    }
                    Err(error) => Some(format!("{name}: {error}")),
                })),
                Standing::Waiting | Standing::Nbd | Standing::Failed(_) => {}
            }
        }
        for (socket, server) in servers {
            ends.push(Box::new(move |within| {
                let error = server.stop(Stop::Drain, within).err()?;
                // It always ends.
                let _ = server.stop(Stop::Force, within);
                Some(format!("{}: {error}", socket.display()))
            }));
        }
        all_at_once(ends, within)
    }
}

/// Ends one thing within the span it is given, and says what was left.
type End<'a> = Box<dyn FnOnce(Duration) -> Option<String> + Send + 'a>;

/// Ends everything side by side, so that what takes its whole time takes none from the others; gives what was left, in
/// order. Where there are not enough threads, those that there are do it, within what is left of the span.
fn all_at_once(ends: Vec<End<'_>>, within: Duration) -> Vec<String> {
    let until = std::time::Instant::now() + within;
    let count = ends.len();
    let todo = Mutex::new(ends.into_iter().enumerate().collect::<Vec<_>>());
    let said = Mutex::new(BTreeMap::new());
    let work = || {
        let next = || todo.lock().unwrap_or_else(PoisonError::into_inner).pop();
        while let Some((place, end)) = next() {
            if let Some(problem) = end(until.saturating_duration_since(std::time::Instant::now())) {
                said.lock().unwrap_or_else(PoisonError::into_inner).insert(place, problem);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..count {
            let named = std::thread::Builder::new().name("interlock-ending".into()).stack_size(256 << 10);
            if named.spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    said.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

#[cfg(test)]
#[path = "exports/end_tests.rs"]
mod end_tests;

impl Inner {
    fn server(&mut self, socket: &Path, front: &Front) -> Result<Arc<NbdServer>, ExportError> {
        if let Some(server) = self.servers.get(socket) {
            return Ok(Arc::clone(server));
        }
        let mode = if front.group.is_some() { 0o660 } else { 0o600 };
        let memory = front.memory.clone();
        let settings = NbdSettings { mode, group: front.group, memory, ..NbdSettings::new(socket) };
        let server = Arc::new(NbdServer::start(&front.reactors, settings)?);
        self.servers.insert(socket.to_owned(), Arc::clone(&server));
        Ok(server)
    }

    fn serve(&mut self, name: &str, namespace: Namespace, front: &Front) -> Result<(), ExportError> {
        let Some(wanted) = self.wanted.get(name) else { return Ok(()) };
        if matches!(wanted.standing, Standing::Nbd) {
            return Ok(());
        }
        let settings = wanted.entry.settings(namespace, &front.reports);
        let socket = wanted.entry.socket.clone();
        let served = self.server(&socket, front).and_then(|server| server.add(settings));
        if let Some(wanted) = self.wanted.get_mut(name) {
            wanted.standing = served.as_ref().map_or_else(|error| Standing::Failed(refused(error)), |()| Standing::Nbd);
        }
        served
    }
}

fn refused(error: &ExportError) -> Refusal {
    let kind = match error {
        ExportError::NameTaken { .. }
        | ExportError::InUse { .. }
        | ExportError::SocketInUse { .. }
        | ExportError::UblkInUse { .. }
        | ExportError::UblkTaken { .. }
        | ExportError::UblkForeign { .. }
        | ExportError::UblkUnbound { .. } => ProblemKind::InUse,
        ExportError::NoSuchExport { .. } => ProblemKind::NotFound,
        ExportError::NotEnded { .. } | ExportError::NotFenced { .. } => ProblemKind::Timeout,
        ExportError::TooLong | ExportError::NotASocket { .. } | ExportError::NoUblk { .. } => ProblemKind::BadRequest,
        _ => ProblemKind::Internal,
    };
    match error {
        // What to do is a hint.
        ExportError::InUse { name, connections } => {
            Refusal::new(kind, format!("export `{name}` is in use by {connections} client connection(s)"))
        }
        error => Refusal::new(kind, error),
    }
}

impl Service {
    /// Exports a namespace that is there, and remembers that this is wanted.
    pub(crate) fn export(
        self: &Arc<Self>,
        request: &ExportRequest,
        payer: Payer,
    ) -> Result<api::ExportStatus, Refusal> {
        let namespace = self.open(&request.namespace)?;
        let (subnqn, nsid) = (namespace.subnqn().to_owned(), namespace.nsid());
        let disk = DiskIdentity::new(namespace.ids(), namespace.shape().block_size);
        let entry = WantedExport {
            name: match &request.name {
                Some(name) => name.clone(),
                None => self.name_of(&namespace)?,
            },
            subnqn,
            nsid,
            kind: request.kind,
            socket: request.socket.as_ref().map(PathBuf::from).unwrap_or_default(),
            ublk_id: request.ublk_id,
            read_only: request.read_only,
            on_loss: request.on_loss,
        };
        if self.confirm_export(&entry, disk)? {
            self.refresh_exports();
            return self.status_of_export(&entry.name);
        }
        let entry = self.whole(entry)?;
        let name = entry.name.clone();
        // A device is ours to start, whoever hears of its namespace meanwhile: the answer waits for it.
        let starting = Starting::default();
        let standing = match entry.kind {
            ExportKind::Nbd => Standing::Waiting,
            ExportKind::Ublk => Standing::Starting(starting.clone()),
        };
        self.exports.add(Wanted::new(entry.clone(), payer, standing, Some(disk)))?;
        // Written down before it begins: a device that was made is found again, whenever this process dies.
        let bound = BoundDisk::new(entry.place(), &disk);
        if let Err(refusal) = self.remember_export(&name, Some((entry.clone(), Some(bound)))) {
            self.exports.inner().wanted.remove(&name);
            return Err(refusal);
        }
        let begun = match entry.kind {
            ExportKind::Nbd => self.exports.serve(&name, namespace).map_err(|error| refused(&error)),
            ExportKind::Ublk => {
                self.refresh_exports();
                self.make_device(&entry, &starting)
            }
        };
        if let Err(refusal) = begun {
            // The first error is the one to tell.
            let _ = self.exports.remove(&name, Stop::Force);
            self.remember_export(&name, None)?;
            return Err(refusal);
        }
        self.refresh_exports();
        self.status_of_export(&name)
    }

    fn status_of_export(&self, name: &str) -> Result<api::ExportStatus, Refusal> {
        let all = self.export_list().exports;
        all.into_iter()
            .find(|export| export.name == name)
            .ok_or_else(|| Refusal::new(ProblemKind::Internal, format!("the export `{name}` was ended meanwhile")))
    }

    /// Binds an export whose disk was forgotten to the one that is named now. True if it was such an export: its other
    /// settings stay as they are.
    fn confirm_export(&self, entry: &WantedExport, disk: DiskIdentity) -> Result<bool, Refusal> {
        let name = &entry.name;
        let waits = |wanted: &Wanted| wanted.permit.is_unconfirmed() && wanted.entry.place() == entry.place();
        if !self.exports.inner().wanted.get(name).is_some_and(waits) {
            return Ok(false);
        }
        // Written down before it serves.
        let bound = BoundDisk::new(entry.place(), &disk);
        self.record().change(|record| record.disks.insert(name.clone(), bound))?;
        if let Some(wanted) = self.exports.inner().wanted.get_mut(name) {
            wanted.permit.bind(disk);
        }
        self.told.note(
            api::Level::Info,
            "export-bound",
            format!("export {name}: bound to {disk}, as the operator says"),
        );
        Ok(true)
    }

    /// The device name of a namespace that is there.
    fn name_of(&self, namespace: &Namespace) -> Result<String, Refusal> {
        let mut names = self.head_names(&self.host.namespaces()?);
        let gone = || Refusal::new(ProblemKind::NotFound, "the namespace was removed meanwhile");
        names.remove(&namespace.head()).ok_or_else(gone)
    }

    /// All exports. `seen` are the namespaces of the host.
    pub(crate) fn export_status(&self, seen: &[NamespaceStatus]) -> Vec<api::ExportStatus> {
        if self.exports.inner().wanted.is_empty() {
            return Vec::new();
        }
        let named = self.head_names(seen);
        // Locked here, so that nobody waits for it who has the exports.
        let (subsystems, names) = {
            let file = self.record();
            (file.record.subsystems.clone(), file.record.names.clone())
        };
        let name = |one: &For<'_>| {
            let (subnqn, nsid) = one.place;
            if let Some(name) = one.head.and_then(|head| named.get(&head)) {
                return name.clone();
            }
            let is_its = |bound: &BoundDisk| {
                let same = |disk: &DiskIdentity| disk.difference(&bound.disk()).is_none();
                bound.place() == one.place && one.disk.is_none_or(same)
            };
            let by_disk = || names.iter().find(|(_, bound)| is_its(bound)).map(|(name, _)| name.clone());
            let by_place = || subsystems.get(subnqn).map(|number| names::head(*number, nsid));
            let known = by_disk().or_else(|| by_place().filter(|name| !names.contains_key(name)));
            known.unwrap_or_else(|| format!("{subnqn}:{nsid}"))
        };
        self.exports.status(seen, name)
    }

    /// An entry with everything that it leaves to us.
    fn whole(&self, mut entry: WantedExport) -> Result<WantedExport, Refusal> {
        let bad = |why: String| Err(Refusal::new(ProblemKind::BadRequest, why));
        if entry.name.is_empty() {
            entry.name = names::head(self.subsystem_number(&entry.subnqn), entry.nsid);
        }
        match entry.kind {
            ExportKind::Nbd if entry.ublk_id.is_some() => return bad("an NBD export has no number of a device".into()),
            ExportKind::Nbd => {
                if entry.socket.as_os_str().is_empty() {
                    entry.socket = self.exports.run.join(SOCKET);
                }
                if !entry.socket.is_absolute() {
                    return bad(format!("`{}` is not an absolute path", entry.socket.display()));
                }
            }
            ExportKind::Ublk if !entry.socket.as_os_str().is_empty() => {
                return bad("a block device of the kernel has no socket".into());
            }
            ExportKind::Ublk => {
                device::check_name(&entry.name)?;
                let known = self.exports.inner().wanted.get(&entry.name).map(|wanted| wanted.entry.clone());
                match known {
                    // It has its number already.
                    Some(known) => entry.ublk_id = entry.ublk_id.or(known.ublk_id),
                    None => {
                        let taken: Vec<u32> =
                            self.record().record.exports.iter().filter_map(|export| export.ublk_id).collect();
                        entry.ublk_id = Some(device::number(entry.ublk_id, |id| taken.contains(&id))?);
                    }
                }
            }
        }
        Ok(entry)
    }

    /// Writes an export down, or forgets it. Which disk it is for is written with it, if that is known.
    fn remember_export(&self, name: &str, entry: Option<(WantedExport, Option<BoundDisk>)>) -> Result<(), Refusal> {
        Ok(self.record().change(|record| {
            record.exports.retain(|old| old.name != name);
            match entry {
                Some((entry, disk)) => {
                    record.exports.push(entry);
                    record.disks.extend(disk.map(|disk| (name.to_owned(), disk)));
                }
                None => drop(record.disks.remove(name)),
            }
        })?)
    }

    /// Wants an export of the record or the configuration; it begins when its namespace is there. If its socket cannot be
    /// made at the moment it waits for that.
    pub(crate) fn restore_export(self: &Arc<Self>, mut entry: WantedExport) -> Result<(), Refusal> {
        let recorded = self.record().record.exports.iter().any(|old| old.name == entry.name);
        if !recorded {
            let ublk = entry.kind == ExportKind::Ublk;
            entry = self.whole(entry)?;
            if ublk {
                // Its number must be the same after every restart.
                self.remember_export(&entry.name, Some((entry.clone(), None)))?;
            }
        }
        let (disk, damaged) = {
            let file = self.record();
            let bound = file.record.disks.get(&entry.name);
            (bound.and_then(|disk| disk.at(entry.place())), file.was_damaged())
        };
        let wanted = Wanted::new(entry, Payer::Operator, Standing::Waiting, disk);
        let wanted = if disk.is_none() && damaged { wanted.unconfirmed() } else { wanted };
        match self.exports.restore(wanted) {
            Err(Refusal(problem)) if problem.kind == ProblemKind::Already => Ok(()),
            other => other,
        }
    }

    /// Ends an export for good.
    pub(crate) fn unexport(&self, name: &str, force: bool) -> Result<Done, Refusal> {
        let how = if force { Stop::Force } else { Stop::IfUnused };
        // What cannot be written down is not done.
        let before = {
            let file = self.record();
            let entry = file.record.exports.iter().find(|export| export.name == name).cloned();
            entry.map(|entry| (entry, file.record.disks.get(name).cloned()))
        };
        self.remember_export(name, None)?;
        if let Err(refusal) = self.exports.remove(name, how) {
            // It is there, and is to come back after a restart as it would have.
            let refusal = match self.remember_export(name, before) {
                Ok(()) => refusal,
                Err(Refusal(problem)) => {
                    refusal.hint(format!("it does not come back after a restart: {}", problem.error))
                }
            };
            return Err(match refusal.0.kind {
                ProblemKind::InUse => refusal.hint("end the clients first, or use --force"),
                _ => refusal,
            });
        }
        Ok(Done { format_version: Version, devices: vec![name.to_owned()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_shared_by_user_and_those_that_are_restored_are_bounded_too() {
        let told = Arc::new(Told::new(None, 1));
        let table = ExportTable::new(Vec::new(), PathBuf::new(), None, told, Budget::new(1));
        let user = Payer::User(rustix::process::getuid().as_raw().wrapping_add(1_000));
        let wanted_by = |n: usize, payer| {
            let entry = WantedExport {
                name: n.to_string(),
                subnqn: "nqn.2014-08.org.example:disk".into(),
                nsid: 1,
                kind: ExportKind::Ublk,
                socket: PathBuf::new(),
                ublk_id: None,
                read_only: false,
                on_loss: ExportOnLoss::Hold,
            };
            Wanted::new(entry, payer, Standing::Waiting, None)
        };
        let wanted = |n: usize| wanted_by(n, Payer::Operator);
        for n in 0..EXPORTS_MAX / 4 {
            table.add(wanted_by(n, user)).expect("there is room");
        }
        let Refusal(problem) = table.add(wanted_by(EXPORTS_MAX, user)).expect_err("its share is used up");
        assert_eq!(problem.kind, ProblemKind::InUse);
        assert!(problem.error.contains("1024 for user"), "{}", problem.error);
        for n in EXPORTS_MAX / 4..EXPORTS_MAX {
            table.restore(wanted(n)).expect("there is room");
        }
        let Refusal(problem) = table.restore(wanted(EXPORTS_MAX)).expect_err("one too many");
        assert!(problem.error.contains("of 4096 exports"), "{}", problem.error);
        let Refusal(problem) = table.restore(wanted(0)).expect_err("its name is taken");
        assert_eq!(problem.kind, ProblemKind::Already);
        assert_eq!(table.inner().wanted.len(), EXPORTS_MAX);
    }
}

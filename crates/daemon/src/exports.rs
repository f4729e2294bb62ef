//! Exports: namespaces offered as block devices over NBD.
//!
//! An export is wanted whether or not its namespace is there at the moment: a daemon that starts again offers it as
//! soon as the first path is back. One server per socket; usually there is one socket, and clients choose by name.

use crate::names;
use crate::record::WantedExport;
use crate::refusal::Refusal;
use crate::service::Service;
use interlock_api::{self as api, Done, ExportOnLoss, ExportRequest, ProblemKind, Version, escaped};
use interlock_export::{ExportError, ExportSettings, NbdServer, NbdSettings, OnLoss, Stop};
use interlock_host::Namespace;
use interlock_ring::Reactor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The socket of exports that ask for none, beside the control socket.
const SOCKET: &str = "nbd.sock";
/// Clients that are told to end get the answers to what they have sent; a path may be lost meanwhile.
const DRAIN_WITHIN: Duration = Duration::from_secs(20);
/// Exports of one daemon.
const EXPORTS_MAX: usize = 4_096;

/// All exports.
pub(crate) struct ExportTable {
    reactors: Vec<Reactor>,
    run: PathBuf,
    group: Option<u32>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    servers: BTreeMap<PathBuf, NbdServer>,
    wanted: BTreeMap<String, Wanted>,
}

struct Wanted {
    entry: WantedExport,
    /// Its namespace was there, and clients can have it.
    serving: bool,
}

impl ExportTable {
    pub(crate) fn new(reactors: Vec<Reactor>, run: PathBuf, group: Option<u32>) -> Self {
        Self { reactors, run, group, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names of all exports of a subsystem that are wanted.
    fn of(&self, subnqn: &str) -> Vec<String> {
        self.inner().wanted.values().filter(|w| w.entry.subnqn == subnqn).map(|w| w.entry.name.clone()).collect()
    }

    /// The last path of this subsystem is to go: exports without clients wait for it to come back, others refuse, or
    /// are ended by force.
    pub(crate) fn release(&self, subnqn: &str, force: bool) -> Result<(), Refusal> {
        for name in self.of(subnqn) {
            let mut inner = self.inner();
            let how = if force { Stop::Force } else { Stop::IfUnused };
            match inner.stop(&name, how) {
                Ok(()) => {}
                Err(ExportError::InUse { connections, .. }) => {
                    let text = format!(
                        "export `{name}` is in use by {connections} client connection(s), and this is its last path"
                    );
                    return Err(Refusal::new(ProblemKind::InUse, text)
                        .hint("end the clients first, or use --force: then what they have in flight is abandoned"));
                }
                Err(error) => return Err(refused(&error)),
            }
        }
        Ok(())
    }

    /// Wants an export, and serves it if its namespace is there.
    fn add(&self, entry: WantedExport, namespace: Option<Namespace>) -> Result<(), Refusal> {
        let mut inner = self.inner();
        if let Some(old) = inner.wanted.get(&entry.name) {
            let same = old.entry == entry;
            let text = if same { "exported already" } else { "there is another export of this name" };
            let kind = if same { ProblemKind::Already } else { ProblemKind::InUse };
            return Err(Refusal::new(kind, format!("`{}`: {text}", entry.name)).device(entry.name));
        }
        if inner.wanted.len() >= EXPORTS_MAX {
            return Err(Refusal::new(ProblemKind::BadRequest, format!("more than {EXPORTS_MAX} exports")));
        }
        inner.server(&entry.socket, &self.reactors, self.group).map_err(|error| refused(&error))?;
        let serving = match namespace {
            Some(namespace) => {
                inner.serve(&entry, namespace).map_err(|error| refused(&error))?;
                true
            }
            None => false,
        };
        inner.wanted.insert(entry.name.clone(), Wanted { entry, serving });
        Ok(())
    }

    /// Ends an export for good.
    fn remove(&self, name: &str, how: Stop) -> Result<(), Refusal> {
        let mut inner = self.inner();
        if !inner.wanted.contains_key(name) {
            let known: Vec<&str> = inner.wanted.keys().map(String::as_str).collect();
            let refusal = Refusal::new(ProblemKind::NotFound, format!("there is no export `{name}`"));
            return Err(if known.is_empty() {
                refusal
            } else {
                refusal.hint(format!("there are: {}", known.join(", ")))
            });
        }
        inner.stop(name, how).map_err(|error| refused(&error))?;
        let gone = inner.wanted.remove(name);
        if let Some(gone) = gone
            && !inner.wanted.values().any(|other| other.entry.socket == gone.entry.socket)
            && let Some(server) = inner.servers.remove(&gone.entry.socket)
        {
            server.stop(Stop::Force, DRAIN_WITHIN).map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    pub(crate) fn status(&self, numbers: &BTreeMap<String, u32>) -> Vec<api::ExportStatus> {
        let inner = self.inner();
        let mut seen: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for server in inner.servers.values() {
            for export in server.status() {
                seen.insert(export.name, (export.connections.len() as u64, export.counters.in_flight));
            }
        }
        inner
            .wanted
            .values()
            .map(|Wanted { entry, serving }| {
                let (clients, in_flight) = seen.get(&entry.name).copied().unwrap_or_default();
                let socket = entry.socket.display().to_string();
                api::ExportStatus {
                    name: entry.name.clone(),
                    namespace: numbers
                        .get(&entry.subnqn)
                        .map_or_else(|| format!("{}:{}", entry.subnqn, entry.nsid), |n| names::head(*n, entry.nsid)),
                    subnqn: entry.subnqn.clone(),
                    nsid: entry.nsid,
                    kind: "nbd".into(),
                    uri: format!("nbd+unix:///{}?socket={socket}", escaped(&entry.name)),
                    socket,
                    read_only: entry.read_only,
                    on_loss: entry.on_loss,
                    serving: *serving,
                    clients,
                    in_flight,
                }
            })
            .collect()
    }

    /// Ends everything: clients get the answers to what they have sent, and what is left then is abandoned.
    pub(crate) fn end(&self, within: Duration) -> Vec<String> {
        let servers = std::mem::take(&mut self.inner().servers);
        let mut problems = Vec::new();
        for (socket, server) in servers {
            if let Err(error) = server.stop(Stop::Drain, within) {
                problems.push(format!("{}: {error}", socket.display()));
                // It always ends.
                let _ = server.stop(Stop::Force, within);
            }
        }
        problems
    }
}

impl Inner {
    fn server(&mut self, socket: &Path, reactors: &[Reactor], group: Option<u32>) -> Result<(), ExportError> {
        if self.servers.contains_key(socket) {
            return Ok(());
        }
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        let settings = NbdSettings { mode, group, ..NbdSettings::new(socket) };
        let server = NbdServer::start(reactors, settings)?;
        self.servers.insert(socket.to_owned(), server);
        Ok(())
    }

    fn serve(&self, entry: &WantedExport, namespace: Namespace) -> Result<(), ExportError> {
        let Some(server) = self.servers.get(&entry.socket) else { return Err(ExportError::NoReactor) };
        server.add(ExportSettings {
            name: entry.name.clone(),
            description: format!("namespace {} of {}", entry.nsid, entry.subnqn),
            namespace,
            read_only: entry.read_only,
            on_loss: match entry.on_loss {
                ExportOnLoss::Hold => OnLoss::Hold,
                ExportOnLoss::Fail => OnLoss::Fail,
            },
        })
    }

    /// Takes it from its clients; it stays wanted.
    fn stop(&mut self, name: &str, how: Stop) -> Result<(), ExportError> {
        let Some(wanted) = self.wanted.get_mut(name) else { return Ok(()) };
        if wanted.serving {
            let Some(server) = self.servers.get(&wanted.entry.socket) else { return Ok(()) };
            server.remove(name, how, DRAIN_WITHIN)?;
            wanted.serving = false;
        }
        Ok(())
    }
}

fn refused(error: &ExportError) -> Refusal {
    let kind = match error {
        ExportError::NameTaken { .. } | ExportError::InUse { .. } | ExportError::SocketInUse { .. } => {
            ProblemKind::InUse
        }
        ExportError::NoSuchExport { .. } => ProblemKind::NotFound,
        ExportError::NotEnded { .. } => ProblemKind::Timeout,
        ExportError::TooLong | ExportError::NotASocket { .. } => ProblemKind::BadRequest,
        _ => ProblemKind::Internal,
    };
    Refusal::new(kind, error)
}

impl Service {
    /// Exports a namespace that is there, and remembers that this is wanted.
    pub(crate) fn export(&self, request: &ExportRequest) -> Result<api::ExportStatus, Refusal> {
        let (subnqn, nsid) = self.namespace(&request.namespace)?;
        let namespace = self.host.namespace(&subnqn, nsid)?;
        let name = request.name.clone().unwrap_or_else(|| names::head(self.subsystem_number(&subnqn), nsid));
        let socket = request.socket.as_ref().map_or_else(|| self.exports.run.join(SOCKET), PathBuf::from);
        if !socket.is_absolute() {
            let text = format!("`{}` is no absolute path", socket.display());
            return Err(Refusal::new(ProblemKind::BadRequest, text));
        }
        let entry = WantedExport {
            name: name.clone(),
            subnqn,
            nsid,
            socket,
            read_only: request.read_only,
            on_loss: request.on_loss,
        };
        self.exports.add(entry.clone(), Some(namespace))?;
        {
            let mut file = self.record();
            file.record.exports.retain(|old| old.name != name);
            file.record.exports.push(entry);
            file.save()?;
        }
        let all = self.export_list().exports;
        all.into_iter()
            .find(|export| export.name == name)
            .ok_or_else(|| Refusal::new(ProblemKind::Internal, format!("the export `{name}` was ended meanwhile")))
    }

    /// Wants an export of the record or the configuration; it begins when its namespace is there.
    pub(crate) fn restore_export(&self, mut entry: WantedExport) -> Result<(), Refusal> {
        if entry.name.is_empty() {
            entry.name = names::head(self.subsystem_number(&entry.subnqn), entry.nsid);
        }
        if entry.socket.as_os_str().is_empty() {
            entry.socket = self.exports.run.join(SOCKET);
        }
        let namespace = self.host.namespace(&entry.subnqn, entry.nsid).ok();
        match self.exports.add(entry, namespace) {
            Err(Refusal(problem)) if problem.kind == ProblemKind::Already => Ok(()),
            other => other,
        }
    }

    /// Ends an export for good.
    pub(crate) fn unexport(&self, name: &str, force: bool) -> Result<Done, Refusal> {
        let how = if force { Stop::Force } else { Stop::IfUnused };
        self.exports.remove(name, how).map_err(|refusal| match refusal.0.kind {
            ProblemKind::InUse => refusal.hint("end the clients first, or use --force"),
            _ => refusal,
        })?;
        let mut file = self.record();
        file.record.exports.retain(|old| old.name != name);
        file.save()?;
        Ok(Done { format_version: Version, devices: vec![name.to_owned()] })
    }

    /// Serves what waited for its namespace, and tells clients of new sizes. Called when namespaces came or changed.
    pub(crate) fn refresh_exports(&self) {
        let mut inner = self.exports.inner();
        let names: Vec<String> = inner.wanted.keys().cloned().collect();
        for name in names {
            let Some(wanted) = inner.wanted.get(&name) else { continue };
            let entry = wanted.entry.clone();
            let Ok(namespace) = self.host.namespace(&entry.subnqn, entry.nsid) else { continue };
            if wanted.serving {
                if let Some(server) = inner.servers.get(&entry.socket)
                    && let Err(error) = server.reshape(&name, namespace.shape())
                {
                    tracing::error!("export {name}: its new size cannot be told to clients: {error}");
                }
                continue;
            }
            match inner.serve(&entry, namespace) {
                Ok(()) => {
                    tracing::info!("export {name}: namespace {} of {} is there, serving", entry.nsid, entry.subnqn);
                    if let Some(wanted) = inner.wanted.get_mut(&name) {
                        wanted.serving = true;
                    }
                }
                Err(error) => tracing::error!("export {name}: {error}"),
            }
        }
    }
}

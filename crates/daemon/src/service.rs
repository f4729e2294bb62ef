//! What the verbs do.
//!
//! A verb answers when it is done, or says in one sentence why it is not. Every wait here has an end that does not
//! depend on a target. What is wanted is written down before the answer goes out, so that a crash after it changes
//! nothing.

use crate::budget::{Budget, Payer, Reserved};
use crate::connect::{changes, check_found, checked, remember};
use crate::counting::Counting;
use crate::devices::Devices;
use crate::discovery::Discovery;
use crate::events::Told;
use crate::exports::ExportTable;
use crate::fabrics::DiscoveryController;
use crate::hooks::Hooks;
use crate::kernel::{KernelController, Neighbours};
use crate::known::LastKnown;
use crate::names::{self, Device, device};
use crate::record::RecordFile;
use crate::refusal::Refusal;
use crate::run::Disowned;
use crate::shared::Shared;
use crate::waiting::Room;
use interlock_api::{
    ConnectRequest, DiscoveryControllers, Done, Level, ProblemKind, SetRequest, UnfencedKind, UnfencedLife, Version,
    same_address,
};
use interlock_export::DiskIdentity;
use interlock_host::{
    ControllerSpec, ControllerStatus, CtrlId, HeadId, Host, HostError, HostStatus, LifeId, Namespace, NamespaceStatus,
    Nqn, Outcome, ProbeError, ProbeSpec, SpecError, StateName, Unfenced, UnfencedWhy, probe,
};
use interlock_ring::{Reactor, now};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// A look at a target after a first attempt to connect failed takes no longer.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// On top of what the host itself allows an attempt to take.
const CONNECT_SLACK: Duration = Duration::from_secs(5);
/// An orderly end drains, fences and gives up, each with its own deadline of 5 s.
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(30);
/// The longest that `fence --wait` may ask for.
pub(crate) const FENCE_WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the daemon is made of, but for its sockets.
pub(crate) struct Service {
    pub(crate) host: Host,
    pub(crate) told: Arc<Told>,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) counting: Counting,
    pub(crate) known: LastKnown,
    pub(crate) exports: ExportTable,
    pub(crate) discovery: Discovery,
    pub(crate) disowned: Disowned,
    pub(crate) room: Room,
    pub(crate) budget: Budget,
    pub(crate) shared_status: Shared,
    pub(crate) shared_metrics: Shared,
    /// Not everything that was wanted before has begun to be connected.
    pub(crate) restoring: AtomicBool,
    /// What to tell when the first device of the kernel is made.
    pub(crate) memory: Mutex<Option<String>>,
    pub(crate) started_unix_ms: u64,
    neighbours: OnceLock<Neighbours>,
    /// Where looks at targets run.
    looker: Option<Reactor>,
    /// Locked before the record, where both are.
    devices: Mutex<Devices>,
    record: Mutex<RecordFile>,
}

impl Service {
    pub(crate) fn new(
        host: Host,
        told: Told,
        reactors: Vec<Reactor>,
        record: RecordFile,
        run: PathBuf,
        group: Option<u32>,
        budget: Budget,
    ) -> Self {
        let looker = reactors.first().cloned();
        let told = Arc::new(told);
        Self {
            looker,
            host,
            told: Arc::clone(&told),
            hooks: Arc::default(),
            counting: Counting::default(),
            known: LastKnown::default(),
            exports: ExportTable::new(reactors, run, group, told, budget.clone()),
            discovery: Discovery::new(),
            disowned: Disowned::default(),
            room: Room::new(crate::port::control_places()),
            budget,
            shared_status: Shared::default(),
            shared_metrics: Shared::default(),
            restoring: AtomicBool::new(false),
            memory: Mutex::default(),
            started_unix_ms: crate::events::unix_ms(),
            neighbours: OnceLock::new(),
            devices: Mutex::default(),
            record: Mutex::new(record),
        }
    }

    /// What stands in the way of a connection, as a look sees it; `None`: nothing does. It takes no longer than
    /// [`LOOK_WITHIN`].
    pub(crate) fn look(&self, request: &ConnectRequest) -> Option<ProbeError> {
        let subnqn = Nqn::new(request.subnqn.as_str()).ok()?;
        let mut spec = ProbeSpec::subsystem(&request.traddr, request.trsvcid, subnqn, self.host.settings().clone());
        spec.host_traddr = request.host_traddr;
        spec.host_iface.clone_from(&request.host_iface);
        (spec.hdgst, spec.ddgst) = (request.hdr_digest, request.data_digest);
        probe(self.looker.as_ref()?, &spec, LOOK_WITHIN).err()
    }

    /// Says where the kernel's driver shows what it has connected.
    pub(crate) fn neighbours(&self, neighbours: Neighbours) {
        // Once, when the daemon starts.
        let _ = self.neighbours.set(neighbours);
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, RecordFile> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a subsystem, for its name.
    pub(crate) fn subsystem_number(&self, nqn: &str) -> u32 {
        self.record().record.subsystem(nqn)
    }

    // --- Connections ---

    /// What is asked for, checked. `theirs` is what the kernel's driver has connected under this identity.
    fn checked(&self, request: &ConnectRequest, theirs: &[KernelController]) -> Result<ControllerSpec, Refusal> {
        let spec = checked(request).map_err(|why| Refusal::new(ProblemKind::BadRequest, why))?;
        self.refuse_twice(theirs, request)?;
        Ok(spec)
    }

    fn of_kernel(&self) -> Vec<KernelController> {
        self.neighbours.get().map(|kernel| kernel.under(self.host.settings())).unwrap_or_default()
    }

    /// Lives of earlier processes keep the name of their controller: a new path must not take it.
    fn names_left(&self) -> Result<BTreeSet<u32>, Refusal> {
        Ok(self.host.tombstones()?.iter().map(|life| life.ctrl.0).collect())
    }

    fn connect_as(&self, id: CtrlId, spec: ControllerSpec) -> Result<(), Refusal> {
        self.told.name_controller(id, spec.clone());
        match self.host.connect_as(id, spec) {
            Err(HostError::Spec(SpecError::Duplicate(old) | SpecError::NameInUse(old))) => Err(already(old)),
            other => Ok(other?),
        }
    }

    /// A subsystem that the kernel's driver has connected under this identity is not connected a second time: what one driver
    /// has sent the other could not fence. What was connected before the kernel did so comes back all the same.
    fn refuse_twice(&self, theirs: &[KernelController], request: &ConnectRequest) -> Result<(), Refusal> {
        let Some(theirs) = theirs.iter().find(|one| one.subnqn == request.subnqn) else { return Ok(()) };
        if self.record().record.controllers.iter().any(|known| known.wanted && known.request.is_same_path(request)) {
            return Ok(());
        }
        let text = format!("the kernel's NVMe driver has this subsystem connected under the same identity: {theirs}");
        Err(Refusal::new(ProblemKind::BadRequest, text)
            .hint(format!("disconnect it there first, as in `nvme disconnect -d {}`", theirs.name))
            .hint("or start the daemon with another identity, or with --share-identity-with-kernel"))
    }

    /// Begins to connect. What is wanted is remembered by [`Service::want`], once it is known to be. The address of the
    /// request has its canonical form: one address has one form, in names, in the record and in every comparison. `leads` is
    /// where its name leads, as far as that was looked up.
    pub(crate) fn begin(
        &self,
        request: &ConnectRequest,
        leads: Vec<SocketAddr>,
        payer: Payer,
    ) -> Result<Begun, Refusal> {
        let spec = self.checked(request, &self.of_kernel())?;
        let room = self.budget.reserve(payer)?;
        if request.first_attempt_decides
            && let Some(old) = crate::names::leads_to(request, leads, &self.host.controllers_of(&request.subnqn)?)
        {
            return Err(already(old));
        }
        let within = spec.timeouts.connect_total + CONNECT_SLACK;
        let left = self.names_left()?;
        // The name must not be given to another path by a process that comes after this one.
        let (number, subsystem) = self.record().change_path(&request.subnqn, |record| {
            let number = record.number(request, |number| left.contains(&number));
            (number, (number, record.subsystem(&request.subnqn)))
        })?;
        let id = CtrlId(number);
        let begun = Begun { id, subsystem, within, after: self.told.last(), at: now() };
        room.spent_on(id, || self.connect_as(id, spec))?;
        Ok(begun)
    }

    /// Begins to keep paths connected that the record, the configuration or a discovery log names; what is connected already
    /// is left alone. What is wanted is written down once for all of them. `go_on` is asked before each. `payer` is on whose
    /// account they are. Tells which could not be begun, and why.
    pub(crate) fn restore_all(
        &self,
        requests: impl IntoIterator<Item = ConnectRequest>,
        payer: Payer,
        go_on: impl Fn() -> bool,
    ) -> Vec<(ConnectRequest, Refusal)> {
        let theirs = self.of_kernel();
        let mut refused = Vec::new();
        let mut wanted = Vec::new();
        for request in requests {
            let request = ConnectRequest { first_attempt_decides: false, ..request }.canonical();
            match self.checked(&request, &theirs).and_then(|spec| Ok((spec, self.room(&request, payer)?))) {
                Ok((spec, room)) => wanted.push((request, (spec, room))),
                Err(refusal) => refused.push((request, refusal)),
            }
        }
        let numbers = self.names_left().and_then(|left| {
            let numbers = self.record().change(|record| {
                let number = |(request, _): &(ConnectRequest, _)| {
                    let number = record.number(request, |number| left.contains(&number));
                    record.subsystem(&request.subnqn);
                    if let Some(known) = record.known(number) {
                        known.wanted = true;
                        known.request = request.clone();
                    }
                    number
                };
                wanted.iter().map(number).collect::<Vec<u32>>()
            });
            Ok(numbers?)
        });
        let numbers = match numbers {
            Ok(numbers) => numbers,
            Err(refusal) => {
                refused.extend(wanted.into_iter().map(|(request, _)| (request, refusal.clone())));
                return refused;
            }
        };
        let mut not_wanted = Vec::new();
        for ((request, (spec, room)), number) in wanted.into_iter().zip(numbers) {
            if !go_on() {
                break;
            }
            let id = CtrlId(number);
            let begun = match room {
                Some(room) => room.spent_on(id, || self.connect_as(id, spec)),
                None => self.connect_as(id, spec),
            };
            match begun {
                Ok(()) => self.budget.ledger().began(id),
                Err(Refusal(problem)) if problem.device.as_ref() == Some(&id.to_string()) => {
                    self.budget.ledger().began(id);
                }
                Err(Refusal(problem)) if problem.kind == ProblemKind::Already => not_wanted.push(number),
                Err(refusal) => {
                    not_wanted.push(number);
                    refused.push((request, refusal));
                }
            }
        }
        if !not_wanted.is_empty() {
            let forgotten = self.record().change(|record| {
                not_wanted.iter().for_each(|number| _ = record.known(*number).map(|known| known.wanted = false));
            });
            if let Err(error) = forgotten {
                tracing::warn!("{error}");
            }
        }
        refused
    }

    /// Controllers that were given up and are wanted still, by name, with the connections that were asked for: those that
    /// `named` names, too.
    pub(crate) fn given_up(&self, named: &[ConnectRequest]) -> Vec<(String, ConnectRequest)> {
        let Ok(status) = self.host.status() else { return Vec::new() };
        let dead: BTreeSet<u32> =
            status.controllers.iter().filter(|ctrl| ctrl.state == StateName::Dead).map(|ctrl| ctrl.id.0).collect();
        let record = self.record();
        let wanted = record.record.controllers.iter().filter(|known| known.wanted && dead.contains(&known.number));
        wanted
            .filter(|known| named.iter().any(|one| one.is_same_path(&known.request)))
            .map(|known| (CtrlId(known.number).to_string(), known.request.clone()))
            .collect()
    }

    /// Room for this path, unless it has it.
    fn room(&self, request: &ConnectRequest, payer: Payer) -> Result<Option<Reserved>, Refusal> {
        let known = self.record().record.number_of(request).map(CtrlId);
        if known.is_some_and(|id| self.budget.ledger().knows(id)) {
            return Ok(None);
        }
        self.budget.reserve(payer).map(Some)
    }

    /// The same for one that was wanted before.
    pub(crate) fn restore(&self, request: &ConnectRequest) -> Result<(), Refusal> {
        let refused = self.restore_all([request.clone()], Payer::Operator, || true).pop();
        refused.map_or(Ok(()), |(_, refusal)| Err(refusal))
    }

    /// Remembers that a controller is wanted, and how.
    pub(crate) fn want(&self, id: CtrlId, request: &ConnectRequest) -> Result<(), Refusal> {
        self.record().change_path(&request.subnqn, |record| {
            if let Some(known) = record.known(id.0) {
                known.wanted = true;
                known.request = request.clone();
            }
            (id.0, ())
        })?;
        self.budget.ledger().wanted(id, true);
        Ok(())
    }

    /// Begins to end controllers gracefully. Those that are the last way to something in use are refused, unless forced.
    pub(crate) fn disconnect(&self, which: &Which, force: bool) -> Result<Vec<CtrlId>, Refusal> {
        let status = self.host.status()?;
        let ids = self.find(&status, which)?;
        let staying: Vec<&str> = status
            .controllers
            .iter()
            .filter(|ctrl| !ids.contains(&ctrl.id) && serves(ctrl))
            .map(|ctrl| ctrl.subnqn.as_str())
            .collect();
        let mut orphans: Vec<&str> = status
            .controllers
            .iter()
            .filter(|ctrl| ids.contains(&ctrl.id) && !staying.contains(&ctrl.subnqn.as_str()))
            .map(|ctrl| ctrl.subnqn.as_str())
            .collect();
        orphans.sort_unstable();
        orphans.dedup();
        for subnqn in orphans {
            self.exports.release(subnqn, force)?;
        }
        // What cannot be written down is not done.
        self.record().change(|record| {
            ids.iter().for_each(|id| _ = record.known(id.0).map(|known| known.wanted = false));
        })?;
        for id in &ids {
            self.budget.ledger().wanted(*id, false);
            // Gone already is as good.
            let _ = self.host.disconnect(*id);
        }
        Ok(ids)
    }

    /// Ends the lives of controllers in order and begins new ones.
    pub(crate) fn reset(&self, which: &Which) -> Result<Done, Refusal> {
        self.to_each(which, |id| self.host.reset(id))
    }

    /// Looks at the namespaces of controllers now.
    pub(crate) fn rescan(&self, which: &Which) -> Result<Done, Refusal> {
        self.to_each(which, |id| self.host.rescan(id))
    }

    /// Tries now what would be tried later; a controller that was given up starts again.
    pub(crate) fn reconnect(&self, which: &Which) -> Result<Done, Refusal> {
        let status = self.host.status()?;
        let ids = self.find(&status, which)?;
        for id in &ids {
            let dead = status.controllers.iter().any(|ctrl| ctrl.id == *id && ctrl.state == StateName::Dead);
            if !dead {
                self.host.reconnect(*id)?;
                continue;
            }
            let known = self.record().record.known(id.0).map(|known| known.request.clone());
            let request = known.ok_or_else(|| no_such(&id.to_string(), &status))?;
            self.restore(&request)?;
        }
        Ok(done(&ids))
    }

    /// Changes settings while the controllers run.
    pub(crate) fn set(&self, which: &Which, request: &SetRequest) -> Result<Done, Refusal> {
        let changes = changes(request);
        if changes.is_empty() {
            return Err(Refusal::new(ProblemKind::BadRequest, "nothing is to be changed")
                .hint("give at least one setting, such as `ctrl_loss_tmo_s`"));
        }
        let ids = self.find(&self.host.status()?, which)?;
        // What cannot be written down is not done.
        let before = self.record().change(|record| {
            let known = record.controllers.iter_mut().filter(|known| ids.contains(&CtrlId(known.number)));
            known
                .map(|known| {
                    let before = known.clone();
                    remember(request, &mut known.request);
                    before
                })
                .collect::<Vec<_>>()
        })?;
        let set = |id: &CtrlId| changes.iter().try_for_each(|change| self.host.set(*id, *change));
        let Some((at, error)) = ids.iter().enumerate().find_map(|(at, id)| Some((at, set(id).err()?))) else {
            return Ok(done(&ids));
        };
        // What was not changed is not remembered as changed.
        let (changed, left) = ids.split_at(at);
        let restored = self.record().change(|record| {
            for old in before.iter().filter(|old| left.contains(&CtrlId(old.number))) {
                _ = record.known(old.number).map(|known| *known = old.clone());
            }
        });
        let mut refusal = Refusal::from(error).device(ids[at].to_string());
        if !changed.is_empty() {
            let names: Vec<String> = changed.iter().map(ToString::to_string).collect();
            refusal = refusal.hint(format!("changed before that: {}", names.join(", ")));
        }
        if let Err(error) = restored {
            refusal = refusal.hint(format!("after a restart the others have the new settings, too: {error}"));
        }
        Err(refusal)
    }

    fn to_each(&self, which: &Which, verb: impl Fn(CtrlId) -> Result<(), HostError>) -> Result<Done, Refusal> {
        let ids = self.find(&self.host.status()?, which)?;
        for id in &ids {
            verb(*id).map_err(|error| Refusal::from(error).device(id.to_string()))?;
        }
        Ok(done(&ids))
    }

    /// The controllers that are meant; an empty answer is an error.
    fn find(&self, status: &HostStatus, which: &Which) -> Result<Vec<CtrlId>, Refusal> {
        let mut file = self.record();
        let mut there = |ctrl: &ControllerStatus| {
            ctrl.state != StateName::Dead || file.record.known(ctrl.id.0).is_some_and(|known| known.wanted)
        };
        let present: Vec<&ControllerStatus> = status.controllers.iter().filter(|ctrl| there(ctrl)).collect();
        let (text, wanted): (&str, Meant<'_>) = match which {
            Which::Device(text) => match device(text)? {
                Device::Controller(id) => (text, Box::new(move |ctrl| ctrl.id == id)),
                Device::Subsystem(number) => {
                    let subsystems = file.record.subsystems.clone();
                    (text, Box::new(move |ctrl| subsystems.get(&ctrl.subnqn) == Some(&number)))
                }
                Device::Head(..) => {
                    let text = format!("`{text}` is a namespace, and a controller or a subsystem was meant");
                    return Err(Refusal::new(ProblemKind::BadRequest, text));
                }
            },
            Which::Subsystem(nqn) => (nqn, Box::new(move |ctrl| ctrl.subnqn == *nqn)),
        };
        let ids: Vec<CtrlId> = present.iter().filter(|ctrl| wanted(ctrl)).map(|ctrl| ctrl.id).collect();
        if !ids.is_empty() {
            return Ok(ids);
        }
        let refusal = no_such(text, status);
        let restoring = self.restoring.load(Ordering::Acquire);
        Err(if restoring { refusal.hint("what was connected before is still beginning: try again") } else { refusal })
    }

    // --- Discovery controllers ---

    /// Watches a discovery controller, also after restarts: what its log names is connected, now and whenever it changes.
    pub(crate) fn discover(&self, request: &ConnectRequest, payer: Payer) -> Result<DiscoveryControllers, Refusal> {
        check_found(request).map_err(|why| Refusal::new(ProblemKind::BadRequest, why))?;
        self.discovery.pay(&request.traddr, request.trsvcid, payer, &self.budget.ledger())?;
        let wanted = ConnectRequest { first_attempt_decides: false, ..request.clone() };
        let written = self.record().change(|record| {
            let record = &mut record.discovery;
            record.retain(|old| !same_controller(old, &request.traddr, request.trsvcid));
            record.push(wanted.clone());
        });
        written.inspect_err(|_| self.discovery.give_back(&request.traddr, request.trsvcid))?;
        self.discovery.want(DiscoveryController::of(wanted), "asked for");
        Ok(self.discovery_list())
    }

    /// Watches one no more. What it named stays connected.
    pub(crate) fn undiscover(&self, traddr: &str, trsvcid: u16) -> Result<Done, Refusal> {
        let recorded = self.record().change(|record| {
            let before = record.discovery.len();
            record.discovery.retain(|old| !same_controller(old, traddr, trsvcid));
            record.discovery.len() < before
        })?;
        if !self.discovery.unwant(traddr, trsvcid) && !recorded {
            let known: Vec<String> = self.discovery.status().iter().map(|one| one.path.to_string()).collect();
            let refusal = Refusal::new(
                ProblemKind::NotFound,
                format!("no discovery controller {traddr} port {trsvcid} is watched"),
            );
            return Err(if known.is_empty() {
                refusal
            } else {
                refusal.hint(format!("there are: {}", known.join(", ")))
            });
        }
        Ok(Done { format_version: Version, devices: vec![format!("{traddr}:{trsvcid}")] })
    }

    pub(crate) fn discovery_list(&self) -> DiscoveryControllers {
        DiscoveryControllers { format_version: Version, controllers: self.discovery.status() }
    }

    // --- Fences ---

    /// A namespace by its device name or as `NQN:NSID`. A device name is that of one disk, and leads to no other.
    pub(crate) fn namespace(&self, text: &str) -> Result<Named, Refusal> {
        let word = text.strip_prefix("/dev/").unwrap_or(text);
        if word.starts_with("nqn.") {
            let place = word.rsplit_once(':').and_then(|(nqn, nsid)| Some((nqn.to_owned(), nsid.parse().ok()?)));
            let wrong =
                || Refusal::new(ProblemKind::BadRequest, format!("`{text}` is not a valid namespace: use `NQN:NSID`"));
            return place.map(|(subnqn, nsid)| Named::Place { subnqn, nsid }).ok_or_else(wrong);
        }
        let Device::Head(number, _) = device(word)? else {
            return Err(self.no_such_namespace(text)?.hint("give a namespace, as in `nvme0n1`"));
        };
        let all = self.host.namespaces()?;
        let named = self.head_names(&all);
        if let Some(found) = all.into_iter().find(|ns| named[&ns.head] == word) {
            return Ok(Named::Disk(Box::new(found)));
        }
        let file = self.record();
        if let Some(bound) = file.record.names.get(word) {
            let (subnqn, nsid) = bound.place();
            return Ok(Named::Away { subnqn: subnqn.to_owned(), nsid, disk: bound.disk() });
        }
        let found = file.record.subsystems.iter().find(|(_, known)| **known == number).map(|(nqn, _)| nqn.clone());
        drop(file);
        match found {
            Some(subnqn) => Ok(Named::Nothing { subnqn }),
            None => Err(self.no_such_namespace(text)?),
        }
    }

    /// The namespace that is meant, to be used.
    pub(crate) fn open(&self, text: &str) -> Result<Namespace, Refusal> {
        match self.namespace(text)? {
            Named::Disk(found) => Ok(self.host.open(*found)),
            Named::Place { subnqn, nsid } => Ok(self.host.namespace(&subnqn, nsid)?),
            Named::Away { disk, .. } => {
                let name = text.strip_prefix("/dev/").unwrap_or(text);
                let why = self.waiting_names()?.into_iter().find(|one| one.name == name).map(|one| one.waits_for);
                let why = why.unwrap_or_else(|| "it is not there".into());
                let text = format!("{name} is the name of {disk}, and waits for {why}");
                Err(Refusal::new(ProblemKind::NotFound, text).device(name))
            }
            Named::Nothing { .. } => Err(self.no_such_namespace(text)?),
        }
    }

    /// The refusal of a namespace that is not there.
    fn no_such_namespace(&self, text: &str) -> Result<Refusal, Refusal> {
        self.with_namespaces(format!("there is no namespace `{text}`"))
    }

    /// A refusal that lists the namespaces there are.
    fn with_namespaces(&self, error: String) -> Result<Refusal, Refusal> {
        let known = self.namespace_names()?;
        let refusal = Refusal::new(ProblemKind::NotFound, error);
        Ok(if known.is_empty() {
            refusal.hint("no namespace is connected: see `interlock status`")
        } else {
            refusal.hint(format!("there are: {}", known.join(", ")))
        })
    }

    pub(crate) fn namespace_names(&self) -> Result<Vec<String>, Refusal> {
        let all = self.host.namespaces()?;
        let named = self.head_names(&all);
        Ok(all.iter().filter_map(|ns| named.get(&ns.head).cloned()).collect())
    }

    /// The controllers that can still change a namespace although every lost life is fenced: those that are alive, and those
    /// that have no life at this moment and get one with their next attempt.
    pub(crate) fn able_to_write(&self, subnqn: &str, alive: &[Unfenced]) -> Result<Vec<UnfencedLife>, Refusal> {
        let mut able: Vec<UnfencedLife> = alive.iter().map(unfenced).collect();
        for ctrl in self.host.status()?.controllers {
            let name = ctrl.id.to_string();
            if ctrl.subnqn == subnqn && serves(&ctrl) && !able.iter().any(|life| life.controller == name) {
                let life = ctrl.life.map(|life| life.to_string()).unwrap_or_default();
                able.push(UnfencedLife { controller: name, life, why: UnfencedKind::Connecting, left_ms: None });
            }
        }
        Ok(able)
    }

    /// The namespace whose fences are asked for, with its name. Unlike for other verbs it may be gone, but something must be
    /// known of it.
    pub(crate) fn fenceable(&self, text: &str) -> Result<(String, u32, String), Refusal> {
        let name = text.strip_prefix("/dev/").unwrap_or(text).to_owned();
        let (subnqn, nsid) = match self.namespace(text)? {
            Named::Disk(found) => (found.subnqn, found.nsid),
            // Where it was: what can still write there can still write to it.
            Named::Away { subnqn, nsid, .. } => (subnqn, nsid),
            Named::Place { subnqn, nsid } => {
                self.known_namespace(text, &subnqn, nsid)?;
                let all = self.host.namespaces()?;
                let there = all.iter().filter(|ns| (ns.subnqn.as_str(), ns.nsid) == (&subnqn, nsid));
                let there = there.min_by_key(|ns| ns.paths.is_empty());
                let known = there.and_then(|ns| self.head_names(&all).remove(&ns.head));
                let name = known.unwrap_or_else(|| names::head(self.subsystem_number(&subnqn), nsid));
                return Ok((subnqn, nsid, name));
            }
            // No name was ever given that is remembered; then it would be that of the NSID.
            Named::Nothing { subnqn } => {
                let Device::Head(_, nsid) = device(&name)? else { return Err(self.no_such_namespace(text)?) };
                self.known_namespace(text, &subnqn, nsid)?;
                (subnqn, nsid)
            }
        };
        Ok((subnqn, nsid, name))
    }

    /// The NQN of a subsystem, by that or as `nvme-subsys0`. It need not be connected, but something must be known of it.
    pub(crate) fn known_subsystem(&self, text: &str) -> Result<String, Refusal> {
        let known = self.record().record.subsystems.clone();
        let found = known.iter().find(|(nqn, number)| *nqn == text || names::subsystem(**number) == text);
        found.map(|(nqn, _)| nqn.clone()).ok_or_else(|| {
            let refusal = Refusal::new(
                ProblemKind::NotFound,
                format!("there is no subsystem `{text}`, and nothing is known of it"),
            );
            let known: Vec<String> = known.into_keys().collect();
            if known.is_empty() { refusal } else { refusal.hint(format!("known are: {}", known.join(", "))) }
        })
    }

    /// Whether there is such a namespace, or was: of a subsystem that is not connected any more nobody knows which it has.
    fn known_namespace(&self, text: &str, subnqn: &str, nsid: u32) -> Result<(), Refusal> {
        let there = self.host.namespaces()?;
        let mut of_it = there.iter().filter(|ns| ns.subnqn == subnqn).peekable();
        let known = match of_it.peek() {
            Some(_) => of_it.any(|ns| ns.nsid == nsid) || !self.host.unfenced(subnqn, nsid)?.iter().all(is_alive),
            None => self.record().record.subsystems.contains_key(subnqn),
        };
        if known {
            return Ok(());
        }
        Err(self.with_namespaces(format!("there is no namespace `{text}`, and nothing is known of it"))?)
    }

    /// Lets flushes of a namespace succeed again after one lost data. A place may have had more than one disk: what is known of
    /// any of them is cleared.
    pub(crate) fn clear_flush_error(&self, text: &str) -> Result<Done, Refusal> {
        let meant = self.namespace(text)?;
        let all = self.host.namespaces()?;
        let is_meant = |ns: &NamespaceStatus| match &meant {
            Named::Disk(found) => found.head == ns.head,
            Named::Place { subnqn, nsid } => (&ns.subnqn, ns.nsid) == (subnqn, *nsid),
            Named::Away { .. } | Named::Nothing { .. } => false,
        };
        let names = self.head_names(&all);
        let disks: Vec<(HeadId, &str)> =
            all.iter().filter(|ns| is_meant(ns)).map(|ns| (ns.head, names[&ns.head].as_str())).collect();
        let Some((_, first)) = disks.first() else { return Err(self.no_such_namespace(text)?) };
        let cleared = disks.iter().filter_map(|(head, name)| Some((*name, self.host.clear_flush_error(*head)?)));
        let cleared: Vec<(&str, Outcome)> = cleared.collect();
        if cleared.is_empty() {
            let text = format!("no flush of {first} has failed: there is nothing to clear");
            return Err(Refusal::new(ProblemKind::NotFound, text));
        }
        let devices = cleared.iter().map(|(name, _)| (*name).to_owned()).collect();
        for (name, outcome) in cleared {
            let lost = crate::view::lost(outcome);
            let text = format!("{name}: its flush error ({lost}) was cleared on request: flushes may succeed again");
            self.told.note(Level::Warn, "flush-error-cleared", text);
        }
        Ok(Done { format_version: Version, devices })
    }

    /// Declares a lost life over without proof, as an operator asks.
    pub(crate) fn accept_risk(&self, life: &str) -> Result<Done, Refusal> {
        let number = life.strip_prefix("life").and_then(|number| number.parse().ok());
        let number = number.ok_or_else(|| {
            Refusal::new(
                ProblemKind::BadRequest,
                format!("`{life}` is not an instance: use `life3`, as `status` names it"),
            )
        })?;
        self.host.fence_accept_risk(LifeId(number))?;
        Ok(Done { format_version: Version, devices: vec![life.to_owned()] })
    }
}

/// What somebody means by a namespace.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    /// Whatever is there.
    Place { subnqn: String, nsid: u32 },
    /// The disk of a device name, which the host knows.
    Disk(Box<NamespaceStatus>),
    /// The disk of a device name, which is not there; it was.
    Away { subnqn: String, nsid: u32, disk: DiskIdentity },
    /// No disk of this subsystem has that name.
    Nothing { subnqn: String },
}

/// A connection that was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) id: CtrlId,
    pub(crate) subsystem: u32,
    /// The first attempt ends by then.
    pub(crate) within: Duration,
    /// Events about it have greater numbers than this,
    pub(crate) after: u64,
    /// and happened after this moment.
    pub(crate) at: interlock_host::Instant,
}

/// Which controllers are meant.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// A controller or a subsystem, by its device name.
    Device(String),
    /// All of a subsystem, by NQN.
    Subsystem(String),
}

/// True of the controllers that are meant.
type Meant<'a> = Box<dyn Fn(&ControllerStatus) -> bool + 'a>;

fn same_controller(known: &ConnectRequest, traddr: &str, trsvcid: u16) -> bool {
    known.trsvcid == trsvcid && same_address(&known.traddr, traddr)
}

fn serves(ctrl: &ControllerStatus) -> bool {
    !matches!(ctrl.state, StateName::Dead | StateName::Deleting)
}

pub(crate) fn done(ids: &[CtrlId]) -> Done {
    Done { format_version: Version, devices: ids.iter().map(ToString::to_string).collect() }
}

fn already(old: CtrlId) -> Refusal {
    let text = format!("already connected: {old} is this port of this subsystem");
    Refusal::new(ProblemKind::Already, text).device(old.to_string())
}

fn no_such(text: &str, status: &HostStatus) -> Refusal {
    let known: Vec<String> =
        status.controllers.iter().filter(|ctrl| serves(ctrl)).map(|ctrl| ctrl.id.to_string()).collect();
    let refusal = Refusal::new(ProblemKind::NotFound, format!("`{text}` is not connected"));
    if known.is_empty() {
        refusal.hint("nothing is connected: `interlock connect` does that")
    } else {
        refusal.hint(format!("connected are: {}", known.join(", ")))
    }
}

fn is_alive(life: &Unfenced) -> bool {
    life.why == UnfencedWhy::Alive
}

fn unfenced(life: &Unfenced) -> UnfencedLife {
    let (why, until) = match life.why {
        UnfencedWhy::Alive => (UnfencedKind::Alive, None),
        UnfencedWhy::Lost { until } => (UnfencedKind::Lost, until),
        UnfencedWhy::Predecessor { until } => (UnfencedKind::Predecessor, until),
    };
    UnfencedLife {
        controller: life.ctrl.to_string(),
        life: life.life.to_string(),
        why,
        left_ms: until.map(|at| crate::view::millis(at.since(now()))),
    }
}

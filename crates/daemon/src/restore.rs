//! What was wanted before, and what the configuration wants, begins anew.
//!
//! Exports are known before anybody can ask for them, and wait for their namespaces. Connections begin behind that, once
//! the daemon has said that it is ready: lives that earlier processes left were known to the host before, so that no
//! order of connections can make a write overtake them.

use crate::budget::Payer;
use crate::config::Config;
use crate::exclusions::Exclusions;
use crate::fabrics::{self, DiscoveryController};
use crate::places::Places;
use crate::record::WantedExport;
use crate::service::Service;
use interlock_api::{ConnectRequest, Level};
use interlock_host::HostSettings;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Wants the exports of the record and of the configuration.
pub(crate) fn exports(service: &Arc<Service>, config: &Config) {
    let recorded = service.record().record.exports.clone();
    let wanted = config.exports.iter().map(|export| WantedExport {
        name: export.name.clone().unwrap_or_default(),
        subnqn: export.subnqn.clone(),
        nsid: export.nsid,
        kind: export.kind,
        ublk_id: export.ublk_id,
        socket: export.socket.clone().unwrap_or_default(),
        read_only: export.read_only,
        on_loss: export.on_loss,
    });
    for export in recorded.into_iter().chain(wanted) {
        let name = export.name.clone();
        if let Err(refusal) = service.restore_export(export) {
            service.told.note(Level::Error, "not-exported", format!("export {name}: {}", refusal.0.error));
        }
    }
    service.refresh_exports();
}

/// Connects what was wanted before, and what the configuration and the files of nvme-cli want, as long as `go_on` says so.
pub(crate) fn connections(service: &Arc<Service>, config: &Config, places: &Places, go_on: impl Fn() -> bool) {
    let who = service.host.settings().clone();
    let theirs = nvme_cli_files(service, config, places, &who);
    let excluded = Exclusions::read(&places.nvme);
    match &excluded {
        Ok(lists) => {
            for problem in &lists.problems {
                service.told.note(Level::Error, "not-understood", problem.clone());
            }
        }
        Err(error) => service.told.note(Level::Error, "not-connected", error.to_string()),
    }
    let may = |found: &ConnectRequest| match &excluded {
        _ if !found.found => true,
        Ok(lists) if lists.excludes(found, &who) => {
            let text = format!("{} port {}: on an exclusion list, not connected", found.traddr, found.trsvcid);
            service.told.note(Level::Info, "excluded", text);
            false
        }
        Ok(_) => true,
        Err(_) => false,
    };
    let (known, discovery) = {
        let file = service.record();
        let wanted = file.record.controllers.iter().filter(|known| known.wanted).map(|known| known.request.clone());
        (wanted.collect::<Vec<_>>(), file.record.discovery.clone())
    };
    let requests = known.into_iter().chain(config.requests()).chain(theirs.connections).filter(|found| may(found));
    for (request, refusal) in service.restore_all(requests, Payer::Operator, &go_on) {
        let text = format!("{} port {}: {}", request.traddr, request.trsvcid, refusal.0.error);
        service.told.note(Level::Error, "not-connected", text);
    }
    if !go_on() {
        return;
    }
    for controller in discovery {
        service.discovery.want(DiscoveryController::of(controller), "asked for");
    }
    let configured = config.discovery().into_iter().map(DiscoveryController::of).chain(theirs.discovery);
    for controller in configured.filter(|one| may(&one.controller)) {
        service.discovery.want(controller, "configuration");
    }
}

/// What the files of nvme-cli want, if the configuration says that they count. If it does not, what they want is named: it
/// may be connected by the kernel's driver, and two drivers under one identity are one host to a target.
fn nvme_cli_files(service: &Service, config: &Config, places: &Places, who: &HostSettings) -> fabrics::Wanted {
    let theirs = fabrics::Wanted::read(&places.nvme, Some(who));
    if config.daemon.nvme_cli_files {
        for problem in &theirs.problems {
            service.told.note(Level::Error, "not-understood", problem.clone());
        }
        for note in &theirs.notes {
            service.told.note(Level::Info, "left-out", note.clone());
        }
        return theirs;
    }
    let (connections, discovery) = (theirs.connections.len(), theirs.discovery.len());
    if connections + discovery > 0 {
        let text = format!(
            "{}: {connections} connection(s) and {discovery} discovery controller(s) of nvme-cli are not connected: `[daemon] \
             nvme_cli_files = true` does that at every start, `interlock connect-all` once",
            places.nvme.display()
        );
        service.told.note(Level::Info, "left-out", text);
    }
    fabrics::Wanted::default()
}

/// Connections that begin behind the start. Ends, before its work is done if need be, with this value.
pub(crate) struct Restoring {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Restoring {
    pub(crate) fn begin(service: &Arc<Service>, config: &Config, places: &Places) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (service, config, places) = (Arc::clone(service), config.clone(), places.clone());
        service.restoring.store(true, Ordering::Release);
        let thread = std::thread::Builder::new().name("interlock-restore".into()).spawn(move || {
            connections(&service, &config, &places, || !stopped.load(Ordering::Acquire));
            service.restoring.store(false, Ordering::Release);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic was told
        }
    }
}

//! What the host sees at the places of exports, and what follows from it for their clients.
//!
//! Whether an export may serve is decided by its [`Permit`](interlock_export::Permit); here that machine is told what the
//! host sees, and what it says is done.

use super::{Inner, Standing, Wanted};
use crate::record::BoundDisk;
use crate::refusal::Refusal;
use crate::service::Service;
use interlock_api::{ExportKind, Level};
use interlock_export::{DiskIdentity, ExportError, Seen, Sight, Verdict};
use interlock_host::{CtrlId, Instant, Namespace, NamespaceStatus};
use interlock_ring::now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What could not be done is tried again so often: a socket that somebody else has, a disk that could not be written down.
const AGAIN: Duration = Duration::from_secs(1);

/// What the host sees, by place.
struct View {
    namespaces: BTreeMap<(String, u32), Vec<NamespaceStatus>>,
    live: BTreeSet<String>,
}

impl View {
    /// What is seen at a place: given to `tell`.
    fn at<R>(&self, (subnqn, nsid): (&str, u32), tell: impl FnOnce(Sight<'_>) -> R) -> R {
        let found = self.namespaces.get(&(subnqn.to_owned(), nsid)).map_or(&[][..], Vec::as_slice);
        let seen: Vec<Seen> = found
            .iter()
            .map(|ns| Seen {
                head: ns.head,
                disk: DiskIdentity::new(&ns.ids, ns.shape.block_size),
                has_path: !ns.paths.is_empty(),
            })
            .collect();
        tell(match seen.as_slice() {
            [] if self.live.contains(subnqn) => Sight::Gone,
            [] => Sight::Nothing,
            seen => Sight::Found(seen),
        })
    }

    fn by_head(&self, (subnqn, nsid): (&str, u32), verdict: &Verdict) -> Option<&NamespaceStatus> {
        let head = verdict.head()?;
        self.namespaces.get(&(subnqn.to_owned(), nsid))?.iter().find(|ns| ns.head == head)
    }
}

impl Inner {
    /// Tells every permit what is seen; names the exports that are to be bound to a disk first.
    fn look(&mut self, view: &View) -> Vec<(String, BoundDisk, DiskIdentity)> {
        let now = now();
        let mut fresh = Vec::new();
        for (name, wanted) in &mut self.wanted {
            let place = wanted.entry.place();
            view.at(place, |sight| {
                if matches!(sight, Sight::Found(_)) && wanted.path_refused.is_some() {
                    wanted.path_refused = None;
                }
                wanted.permit.handle_sight(now, sight);
            });
            if let Some(disk) = wanted.permit.offered() {
                fresh.push((name.clone(), BoundDisk::new(place, disk), *disk));
            }
        }
        fresh
    }
}

impl Service {
    /// Looks at the places of all exports: serves what waited for its namespace, tells clients of new sizes, and shuts what
    /// has lost its disk. Called when something has changed at the host; says when it wants to be called again if nothing
    /// does.
    pub(crate) fn refresh_exports(self: &Arc<Self>) -> Option<Instant> {
        if self.exports.inner().wanted.is_empty() {
            return None;
        }
        let Ok((namespaces, live)) = self.host.present() else { return None };
        self.counting.learn_paths(&namespaces);
        let mut view = View { namespaces: BTreeMap::new(), live };
        for found in namespaces {
            view.namespaces.entry((found.subnqn.clone(), found.nsid)).or_default().push(found);
        }
        let fresh = self.exports.inner().look(&view);
        let unbound = !fresh.is_empty() && !self.bind(&view, fresh);
        let names: Vec<String> = self.exports.inner().wanted.keys().cloned().collect();
        for name in names {
            self.obey(&view, &name);
        }
        let inner = self.exports.inner();
        let again = |wanted: &Wanted| {
            let failed = wanted.entry.kind == ExportKind::Nbd && matches!(wanted.standing, Standing::Failed(_));
            failed.then(|| now() + AGAIN)
        };
        inner
            .wanted
            .values()
            .filter_map(|wanted| wanted.permit.next_deadline().into_iter().chain(again(wanted)).min())
            .chain(unbound.then(|| now() + AGAIN))
            .min()
    }

    /// Binds exports to the disks that are seen: all of them are written down at once, and before any of them serves. False:
    /// they could not be written down.
    fn bind(&self, view: &View, fresh: Vec<(String, BoundDisk, DiskIdentity)>) -> bool {
        let disks = fresh.iter().map(|(name, disk, _)| (name.clone(), disk.clone()));
        let written = self.record().change(|record| record.disks.extend(disks));
        if let Err(error) = written {
            let names: Vec<&str> = fresh.iter().map(|(name, ..)| name.as_str()).collect();
            let text = format!(
                "exports wait until it can be written down which disk they are for: {}: {error}",
                names.join(", ")
            );
            let before = self.exports.inner().unbound.replace(text.clone());
            if before.as_ref() != Some(&text) {
                self.told.note(Level::Error, "export-not-bound", text);
            }
            return false;
        }
        self.exports.inner().unbound = None;
        for (name, _, disk) in fresh {
            let mut inner = self.exports.inner();
            let Some(wanted) = inner.wanted.get_mut(&name) else { continue };
            wanted.permit.bind(disk);
            view.at(wanted.entry.place(), |sight| wanted.permit.handle_sight(now(), sight));
            let text = format!(
                "export {name}: bound to {disk}, the first that is found as namespace {} of {}",
                wanted.entry.nsid, wanted.entry.subnqn
            );
            drop(inner);
            self.told.note(Level::Info, "export-bound", text);
        }
        true
    }

    /// Does what the permit of one export says.
    fn obey(self: &Arc<Self>, view: &View, name: &str) {
        let mut inner = self.exports.inner();
        let Some(wanted) = inner.wanted.get_mut(name) else { return };
        let verdict = *wanted.permit.verdict();
        let waits = verdict.waits().copied();
        let said = if wanted.told == waits { None } else { waits.map(|waits| wanted.named(waits)) };
        wanted.told = waits;
        let nbd = wanted.entry.kind == ExportKind::Nbd;
        // It was told when it failed first.
        let failed = matches!(wanted.standing, Standing::Failed(_));
        let found = view.by_head(wanted.entry.place(), &verdict);
        let done = match (&wanted.standing, verdict, found) {
            (Standing::Waiting | Standing::Failed(_), Verdict::Serve(_), Some(found)) if nbd => {
                let begun = inner.serve(name, self.host.open(found.clone()), &self.exports.front);
                begun.inspect(|()| tracing::info!("export {name}: its namespace is there, serving"))
            }
            (Standing::Waiting | Standing::Failed(_), Verdict::Serve(_), Some(_)) if !nbd => {
                drop(inner);
                self.begin_device_soon(name.to_owned());
                Ok(())
            }
            (Standing::Nbd, Verdict::Serve(_), Some(found)) => inner.reopen(name, self.host.open(found.clone())),
            (Standing::Nbd, Verdict::Shut(_), _) => inner.shut(name),
            (Standing::Device(device), Verdict::Serve(_), Some(found)) => {
                let device = device.clone();
                drop(inner);
                device.device.open(self.host.open(found.clone()));
                device.reshape(found.shape)
            }
            (Standing::Device(device), Verdict::Shut(_), _) => {
                device.device.shut();
                Ok(())
            }
            _ => Ok(()),
        };
        if let (Some(waits), Verdict::Shut(_)) = (said, verdict) {
            let text = format!("export {name}: clients get errors; it waits for {waits}");
            self.told.note(Level::Warn, "export-shut", text);
        }
        if let (Err(error), false) = (done, failed) {
            tracing::error!("export {name}: {error}");
        }
    }

    /// The disk of an export, if it may be served now, with what it is bound to.
    pub(super) fn permitted(&self, name: &str) -> Result<Option<(Namespace, DiskIdentity)>, Refusal> {
        let (place, head, bound) = {
            let inner = self.exports.inner();
            let Some(wanted) = inner.wanted.get(name) else { return Ok(None) };
            let (Verdict::Serve(head), Some(bound)) = (*wanted.permit.verdict(), wanted.permit.bound()) else {
                return Ok(None);
            };
            (wanted.entry.subnqn.clone(), head, *bound)
        };
        let found = self.host.namespaces()?.into_iter().find(|ns| ns.head == head && ns.subnqn == place);
        // What is there now must be what was permitted a moment ago.
        let found = found.filter(|ns| bound.difference(&DiskIdentity::new(&ns.ids, ns.shape.block_size)).is_none());
        Ok(found.map(|found| (self.host.open(found), bound)))
    }

    /// The host does not take a namespace of this controller as a path: exports that wait for it say why.
    pub(crate) fn path_refused(&self, ctrl: CtrlId, nsid: u32, why: &str) {
        let known = self.record().record.known(ctrl.0).map(|known| known.request.subnqn.clone());
        let Some(subnqn) = known else { return };
        for wanted in self.exports.inner().wanted.values_mut() {
            if wanted.entry.place() == (subnqn.as_str(), nsid) {
                wanted.path_refused = Some(format!("{ctrl}: {why}"));
            }
        }
    }
}

impl Inner {
    fn on_server(
        &self,
        name: &str,
        act: impl FnOnce(&interlock_export::NbdServer) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let server = self.wanted.get(name).and_then(|wanted| self.servers.get(&wanted.entry.socket));
        server.map_or(Ok(()), |server| act(server))
    }

    fn reopen(&self, name: &str, namespace: Namespace) -> Result<(), ExportError> {
        let shape = namespace.shape();
        self.on_server(name, |server| {
            server.open(name, namespace)?;
            server.reshape(name, shape)
        })
    }

    fn shut(&self, name: &str) -> Result<(), ExportError> {
        self.on_server(name, |server| server.shut(name))
    }
}

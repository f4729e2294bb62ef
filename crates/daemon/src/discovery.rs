//! Discovery controllers of the configuration: asked at the start, at every reload, and again and again.
//!
//! What a discovery controller names is connected. What it names no more stays connected, because an answer without a
//! subsystem - or no answer at all - does not say that the subsystem is gone.

use crate::service::Service;
use interlock_api::{ConnectRequest, Level};
use interlock_host::discovery::in_words;
use interlock_host::{Found, HostSettings, ProbeSpec, probe};
use interlock_ring::Reactor;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Referrals are followed so far: discovery controllers asked on behalf of one.
const REFERRALS_MAX: usize = 16;
/// One look.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// Every subsystem port that a discovery controller names, and those that it refers to.
///
/// # Errors
/// What went wrong with which of them; then nothing is known to be complete.
pub fn discovered(
    reactor: &Reactor,
    first: &ConnectRequest,
    who: &HostSettings,
    within: Duration,
) -> Result<Vec<ConnectRequest>, String> {
    let mut found = Vec::new();
    let mut asked = BTreeSet::new();
    let mut ask = vec![(first.traddr.clone(), first.trsvcid)];
    let mut problem = None;
    while let Some((traddr, port)) = ask.pop() {
        if asked.len() >= REFERRALS_MAX || !asked.insert((traddr.clone(), port)) {
            continue;
        }
        let mut spec = ProbeSpec::discovery(&traddr, port, who.clone());
        (spec.host_traddr, spec.host_iface) = (first.host_traddr, first.host_iface.clone());
        let log = match probe(reactor, &spec, within).map(|report| report.found) {
            Ok(Found::Discovery(log)) => log,
            Ok(Found::Subsystem(_)) => continue,
            Err(error) => {
                problem = Some(format!("discovery at {traddr} port {port}: {error}"));
                continue;
            }
        };
        for record in in_words(&log) {
            let Ok(port) = record.trsvcid.parse::<u16>() else { continue };
            match (record.trtype, record.subtype) {
                ("tcp", "nvme subsystem") => found.push(ConnectRequest {
                    traddr: record.traddr,
                    trsvcid: port,
                    subnqn: record.subnqn,
                    ..first.clone()
                }),
                ("tcp", "discovery subsystem referral") => ask.push((record.traddr, port)),
                _ => {}
            }
        }
    }
    problem.map_or(Ok(found), Err)
}

/// Asks in a thread of its own, until it is dropped.
pub(crate) struct Asking {
    state: Arc<Mutex<Vec<ConnectRequest>>>,
    nudge: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Asking {
    /// `every`: zero asks only when told to.
    pub(crate) fn start(service: &Arc<Service>, reactor: Reactor, every: Duration) -> io::Result<Self> {
        let state = Arc::<Mutex<Vec<ConnectRequest>>>::default();
        let (nudge, nudged) = mpsc::channel();
        let (whom, service) = (Arc::clone(&state), Arc::downgrade(service));
        let thread = std::thread::Builder::new().name("interlock-discovery".into()).spawn(move || {
            let mut told = BTreeMap::new();
            let pause = if every.is_zero() { Duration::from_secs(365 * 24 * 3600) } else { every };
            while !matches!(nudged.recv_timeout(pause), Err(RecvTimeoutError::Disconnected)) {
                let controllers = whom.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if !controllers.iter().all(|controller| ask(&service, &reactor, controller, &mut told)) {
                    return;
                }
            }
        })?;
        Ok(Self { state, nudge: Some(nudge), thread: Some(thread) })
    }

    /// Whom to ask from now on: at once, and then regularly.
    pub(crate) fn set(&self, controllers: Vec<ConnectRequest>) {
        let none = controllers.is_empty();
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = controllers;
        if let Some(nudge) = self.nudge.as_ref().filter(|_| !none) {
            // It ends only with this value.
            let _ = nudge.send(());
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.nudge = None;
        if let Some(thread) = self.thread.take() {
            // At most one look longer.
            let _ = thread.join();
        }
    }
}

/// Asks one, and connects what is new. False: the daemon has ended. What goes wrong is told when it changes.
fn ask(
    service: &Weak<Service>,
    reactor: &Reactor,
    controller: &ConnectRequest,
    told: &mut BTreeMap<(String, u16), String>,
) -> bool {
    let Some(service) = service.upgrade() else { return false };
    let key = (controller.traddr.clone(), controller.trsvcid);
    match discovered(reactor, controller, service.host.settings(), LOOK_WITHIN) {
        Ok(found) => {
            told.remove(&key);
            for request in found {
                if let Err(refusal) = service.restore(&request) {
                    service.told.note(
                        Level::Error,
                        "not-connected",
                        format!("{}: {}", request.subnqn, refusal.0.error),
                    );
                }
            }
        }
        Err(why) if told.get(&key) != Some(&why) => {
            service.told.note(Level::Warn, "discovery-failed", format!("{why}; what is connected stays connected"));
            told.insert(key, why);
        }
        Err(_) => {}
    }
    true
}

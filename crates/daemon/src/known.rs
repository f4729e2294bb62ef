//! What subsystems last reported about themselves.
//!
//! The serial number of a disk is asked for when its paths are gone, and a lost controller reports nothing. So the model, serial
//! number and firmware revision of the last live controller stay, and are marked as last known.

use interlock_host::{ControllerStatus, CtrlId, EventKind, LifeFacts, StateName};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// As the last live controller of a subsystem reported it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) firmware: String,
}

impl Known {
    pub(crate) fn of(facts: &LifeFacts) -> Self {
        Self {
            model: facts.model.value().cloned().unwrap_or_default(),
            serial: facts.serial.value().cloned().unwrap_or_default(),
            firmware: facts.firmware.clone(),
        }
    }
}

/// By controller: those that were live once, as long as the host knows them.
#[derive(Debug, Default)]
pub(crate) struct LastKnown(Mutex<BTreeMap<CtrlId, Known>>);

impl LastKnown {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<CtrlId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A controller is live, or one begins: its number may have been another one's.
    pub(crate) fn learn(&self, kind: &EventKind) {
        match kind {
            EventKind::LifeBegan { ctrl, facts, .. } => drop(self.inner().insert(*ctrl, Known::of(facts))),
            EventKind::ControllerState { ctrl, from: StateName::New, .. } => drop(self.inner().remove(ctrl)),
            _ => {}
        }
    }

    /// What a controller reported when it was live last. Forgets those that are not among `controllers`.
    pub(crate) fn of(&self, controllers: &[ControllerStatus]) -> BTreeMap<CtrlId, Known> {
        let mut known = self.inner();
        if known.len() > controllers.len() {
            known.retain(|id, _| controllers.iter().any(|ctrl| ctrl.id == *id));
        }
        let lost = controllers.iter().filter(|ctrl| ctrl.facts.is_none());
        lost.filter_map(|ctrl| Some((ctrl.id, known.get(&ctrl.id)?.clone()))).collect()
    }
}

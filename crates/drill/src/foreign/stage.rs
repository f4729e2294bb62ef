//! A host that reaches a foreign target through the proxy, on reactors of their own.

use crate::evidence::Fencing;
use crate::foreign::Foreign;
use crate::foreign::ground::Found;
use crate::proxy::Proxy;
use crate::receipts::Paths;
use crate::run::Options;
use crate::scenario::{Break, Scenario};
use crate::stage::{CONNECT_WITHIN, END_WITHIN, StageError, controller, namespace};
use interlock_host::{ControllerSpec, Event, Host, LifeFacts, Namespace, Pool, PoolConfig, Stall, stall};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// A command without an answer for so long makes a host that does not fence give a silent path up, as soon as the other
/// path answers later commands.
pub(super) const GIVEN_UP_AFTER: Duration = Duration::from_millis(500);

/// True if the host does not wait for Keep Alive to notice that a path is silent. A target whose Keep Alive Timeout is shorter
/// ends the lost association before such a host has noticed anything, so that nothing delayed could do harm: it would
/// stand for a check that cannot fail.
pub(super) fn gives_up_early(scenario: &Scenario, fencing: Fencing) -> bool {
    fencing == Fencing::Legacy && scenario.breaks == Break::Silent
}

/// All of it.
pub(super) struct Stage {
    pub(super) proxy: Proxy,
    pub(super) host: Host,
    pub(super) host_events: Receiver<Event>,
    pub(super) namespace: Namespace,
    /// Where each controller really is.
    pub(super) paths: Paths,
    /// What the host was told about each path.
    pub(super) spec: ControllerSpec,
    host_pool: Pool,
}

impl Stage {
    pub(super) fn set(
        scenario: &Scenario,
        fencing: Fencing,
        foreign: &Foreign,
        found: &Found,
        options: &Options,
    ) -> Result<Self, StageError> {
        let proxy = Proxy::start(&foreign.targets, options.spin)?;
        let config = PoolConfig { reactors: 1, spin: options.spin, name: "drill-host".into(), ..PoolConfig::default() };
        let host_pool = Pool::new(config)?;
        let host = Host::start(host_pool.reactors(), foreign.host()?)?;
        let host_events = host.subscribe();
        let mut paths = Paths::new();
        let mut spec = None;
        for (port, target) in proxy.ports().iter().zip(&foreign.targets) {
            let mut path = controller(*port, &foreign.subnqn, scenario, fencing, options);
            if gives_up_early(scenario, fencing) {
                path.timeouts.io = GIVEN_UP_AFTER;
            }
            paths.insert(host.connect_and_wait(path.clone(), CONNECT_WITHIN)?, *target);
            spec.get_or_insert(path);
        }
        let spec = spec.expect("a foreign drill has two paths or more");
        let namespace = namespace(&host, foreign.subnqn.as_str(), found.nsid)?;
        Ok(Self { proxy, host, host_events, namespace, paths, spec, host_pool })
    }

    /// The worst that this host may have to wait for with this target.
    pub(super) fn worst(&self) -> Option<(Stall, LifeFacts)> {
        let facts = self.host.status().ok()?.controllers.into_iter().find_map(|controller| controller.facts)?;
        Some((stall::worst_stall(&self.spec, &facts), facts))
    }

    /// Takes it down, the host first. What does not end in time is said in words.
    pub(super) fn strike(self) -> Vec<String> {
        let mut troubles = Vec::new();
        let mut ended = |who: &str, result: Result<(), String>| {
            if let Err(error) = result {
                troubles.push(format!("{who} did not end within {END_WITHIN:?}: {error}"));
            }
        };
        ended("the host", self.host.shutdown(END_WITHIN).map_err(|error| error.to_string()));
        drop((self.namespace, self.host));
        ended("the host's reactor", self.host_pool.shutdown(END_WITHIN).map_err(|error| error.to_string()));
        ended("the proxy", self.proxy.shutdown(END_WITHIN));
        troubles
    }
}

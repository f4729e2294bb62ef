//! Discovery controllers: each is connected and stays so, and tells when its log changes.
//!
//! What a log names is connected at once, now and later; what it refers to is watched too. What it names no more stays
//! connected, because a log without a subsystem - or no answer at all - does not say that the subsystem is gone. A
//! controller that is lost is tried again without end.

use crate::exclusions::Exclusions;
use crate::service::Service;
use crate::view::millis;
use interlock_api::{self as api, ConnectRequest, Level};
use interlock_host::discovery::in_words;
use interlock_host::{DiscoveryLog, Found, HostSettings, ProbeSpec, Watch, Watched, probe};
use interlock_ring::Reactor;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Discovery controllers that are asked or watched on behalf of one.
const REFERRALS_MAX: usize = 16;
/// Those that are watched at once.
const WATCHED_MAX: usize = 256;
/// Keep Alive Timeout of a connection that only waits for events, as in Linux.
const KATO: Duration = Duration::from_secs(30);
/// Between two attempts to reach one that is lost; it doubles up to this.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A goodbye takes a second at most; the daemon's end does not wait longer.
const END_WITHIN: Duration = Duration::from_millis(1_500);

/// What a log names: ports of subsystems, and other discovery controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    subsystems: Vec<ConnectRequest>,
    referrals: Vec<ConnectRequest>,
}

/// Ports and referrals of a log, with the settings of whoever was asked. What is not reached over TCP is left out.
fn named(log: &DiscoveryLog, asked: &ConnectRequest) -> Named {
    let mut named = Named::default();
    for record in in_words(log) {
        let Ok(trsvcid) = record.trsvcid.parse::<u16>() else { continue };
        let request = ConnectRequest { traddr: record.traddr, trsvcid, subnqn: record.subnqn, ..asked.clone() };
        match (record.trtype, record.subtype) {
            ("tcp", "nvme subsystem") => named.subsystems.push(request),
            ("tcp", "discovery subsystem referral") => named.referrals.push(request),
            _ => {}
        }
    }
    named
}

fn spec(controller: &ConnectRequest, who: &HostSettings) -> ProbeSpec {
    let mut spec = ProbeSpec::discovery(&controller.traddr, controller.trsvcid, who.clone());
    (spec.host_traddr, spec.host_iface) = (controller.host_traddr, controller.host_iface.clone());
    (spec.hdgst, spec.ddgst) = (controller.hdr_digest, controller.data_digest);
    spec
}

/// Every subsystem port that a discovery controller names now, and those that it refers to.
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
    let mut ask = vec![first.clone()];
    let mut problem = None;
    while let Some(controller) = ask.pop() {
        if asked.len() >= REFERRALS_MAX || !asked.insert(key(&controller)) {
            continue;
        }
        match probe(reactor, &spec(&controller, who), within).map(|report| report.found) {
            Ok(Found::Discovery(log)) => {
                let named = named(&log, first);
                found.extend(named.subsystems);
                ask.extend(named.referrals);
            }
            Ok(Found::Subsystem(_)) => {}
            Err(error) => {
                problem = Some(format!("discovery at {} port {}: {error}", controller.traddr, controller.trsvcid));
            }
        }
    }
    problem.map_or(Ok(found), Err)
}

/// Which controller: its address and port.
type Address = (String, u16);

fn key(controller: &ConnectRequest) -> Address {
    (controller.traddr.clone(), controller.trsvcid)
}

/// News for the thread that watches.
enum News {
    /// This one is to be watched.
    Want(Box<ConnectRequest>, String),
    /// This one is not to be watched any more, nor what it refers to.
    Unwant(Address),
    /// A watch tells; the number says which one of a controller's.
    Told(Address, u64, Watched),
    /// Everything ends in order.
    End,
}

/// Discovery controllers, watched by a thread of its own until this is dropped.
pub(crate) struct Discovery {
    known: Arc<Mutex<BTreeMap<Address, Known>>>,
    news: Mutex<Option<Sender<News>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// One controller, as `status` shows it.
#[derive(Clone, Debug)]
struct Known {
    /// Who wants it.
    origin: String,
    live: bool,
    since: Instant,
    generation: Option<u64>,
    records: usize,
    last_error: Option<String>,
    next: Option<Instant>,
}

impl Discovery {
    pub(crate) fn new() -> Self {
        Self { known: Arc::default(), news: Mutex::new(None), thread: Mutex::new(None) }
    }

    /// Begins; `every`: logs are read again after this even if nobody says that they changed; zero: never.
    pub(crate) fn start(
        &self,
        service: &Arc<Service>,
        reactor: Reactor,
        every: Duration,
        nvme: PathBuf,
    ) -> io::Result<()> {
        let (news, heard) = mpsc::channel();
        let mut watcher = Watcher {
            service: Arc::downgrade(service),
            reactor,
            every,
            nvme,
            who: service.host.settings().clone(),
            known: Arc::clone(&self.known),
            news: news.clone(),
            watches: BTreeMap::new(),
            numbers: 0,
        };
        let thread = std::thread::Builder::new().name("interlock-discovery".into()).spawn(move || {
            loop {
                match heard.recv_timeout(watcher.left()) {
                    Ok(News::Told(address, number, told)) => watcher.told(&address, number, told),
                    Ok(News::Want(controller, origin)) => watcher.want(*controller, origin, None),
                    Ok(News::Unwant(address)) => watcher.unwant(&address),
                    Ok(News::End) => return watcher.end(&heard),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                watcher.do_due();
            }
        })?;
        *lock(&self.news) = Some(news);
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    /// Watches one from now on; what is watched already goes on.
    pub(crate) fn want(&self, controller: ConnectRequest, origin: &str) {
        self.tell(News::Want(Box::new(controller), origin.to_owned()));
    }

    /// Watches one no more. False: it is not watched.
    pub(crate) fn unwant(&self, traddr: &str, trsvcid: u16) -> bool {
        let address = (traddr.to_owned(), trsvcid);
        let known = lock(&self.known).contains_key(&address);
        self.tell(News::Unwant(address));
        known
    }

    fn tell(&self, news: News) {
        if let Some(sender) = &*lock(&self.news) {
            // It ends only with this value, or with the daemon.
            let _ = sender.send(news);
        }
    }

    pub(crate) fn status(&self) -> Vec<api::DiscoveryStatus> {
        let now = Instant::now();
        lock(&self.known)
            .iter()
            .map(|((traddr, trsvcid), known)| api::DiscoveryStatus {
                path: api::PathAddress::tcp(traddr, *trsvcid),
                origin: known.origin.clone(),
                state: if known.live { "live" } else { "connecting" }.into(),
                for_ms: millis(now.saturating_duration_since(known.since)),
                generation: known.generation,
                records: known.records as u64,
                last_error: known.last_error.clone(),
                next_attempt_ms: known.next.map(|at| millis(at.saturating_duration_since(now))),
            })
            .collect()
    }

    /// Ends all watches in order; a controller that does not answer is not waited for longer than its goodbye takes.
    pub(crate) fn end(&self) {
        self.tell(News::End);
        *lock(&self.news) = None;
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's side.
struct Watcher {
    service: std::sync::Weak<Service>,
    reactor: Reactor,
    every: Duration,
    /// Where exclusion lists lie.
    nvme: PathBuf,
    who: HostSettings,
    known: Arc<Mutex<BTreeMap<Address, Known>>>,
    news: Sender<News>,
    watches: BTreeMap<Address, Watching>,
    numbers: u64,
}

/// One controller that is wanted.
struct Watching {
    controller: ConnectRequest,
    /// It is watched because this one refers to it.
    root: Option<Address>,
    /// Of its present watch.
    number: u64,
    /// `None`: it is lost, and tried again.
    watch: Option<Watch>,
    /// The next attempt, or the next look at a log that nobody says has changed.
    due: Option<Instant>,
    delay: Duration,
    /// What its log named last: only what is new in it is connected, so that a disconnect by hand is not undone.
    named: Vec<ConnectRequest>,
}

impl Watcher {
    fn left(&self) -> Duration {
        let due = self.watches.values().filter_map(|watching| watching.due).min();
        // Without anything due it is woken by news alone.
        due.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()))
    }

    fn known(&self, address: &Address, change: impl FnOnce(&mut Known)) {
        if let Some(known) = lock(&self.known).get_mut(address) {
            change(known);
        }
    }

    fn note(&self, level: Level, name: &str, text: String) {
        if let Some(service) = self.service.upgrade() {
            service.told.note(level, name, text);
        }
    }

    fn want(&mut self, controller: ConnectRequest, origin: String, root: Option<Address>) {
        let address = key(&controller);
        if let Some(watching) = self.watches.get_mut(&address) {
            // Whoever is asked for outlives whoever referred to it.
            watching.root = watching.root.take().filter(|_| root.is_some());
            return;
        }
        let family =
            root.as_ref().map_or(0, |root| self.watches.values().filter(|w| w.root.as_ref() == Some(root)).count());
        if self.watches.len() >= WATCHED_MAX || family >= REFERRALS_MAX {
            let text = format!("discovery at {} port {} ({origin}): too many already", address.0, address.1);
            return self.note(Level::Error, "discovery-failed", text);
        }
        let now = Instant::now();
        let known =
            Known { origin, live: false, since: now, generation: None, records: 0, last_error: None, next: Some(now) };
        lock(&self.known).insert(address.clone(), known);
        let delay = Duration::from_secs(controller.reconnect_delay_s.clamp(1, 60).into());
        let watching = Watching { controller, root, number: 0, watch: None, due: Some(now), delay, named: Vec::new() };
        self.watches.insert(address, watching);
    }

    fn unwant(&mut self, address: &Address) {
        self.watches.retain(|one, watching| one != address && watching.root.as_ref() != Some(address));
        let watches = &self.watches;
        lock(&self.known).retain(|one, _| watches.contains_key(one));
    }

    /// Whatever is due: attempts, and looks.
    fn do_due(&mut self) {
        let now = Instant::now();
        let due: Vec<Address> = self
            .watches
            .iter()
            .filter(|(_, watching)| watching.due.is_some_and(|at| at <= now))
            .map(|(address, _)| address.clone())
            .collect();
        for address in due {
            let Some(watching) = self.watches.get_mut(&address) else { continue };
            if let Some(watch) = &watching.watch {
                watch.refresh();
                watching.due = Some(now + self.every);
                continue;
            }
            self.numbers += 1;
            watching.number = self.numbers;
            watching.due = None;
            let (news, whose, number) = (self.news.clone(), address.clone(), self.numbers);
            let spec = ProbeSpec { kato: KATO, ..spec(&watching.controller, &self.who) };
            let begun = Watch::start(&self.reactor, &spec, move |told| {
                // The thread may have ended.
                let _ = news.send(News::Told(whose.clone(), number, told));
            });
            match begun {
                Ok(watch) => watching.watch = Some(watch),
                Err(error) => self.lost(&address, error.to_string()),
            }
        }
    }

    fn told(&mut self, address: &Address, number: u64, told: Watched) {
        if self.watches.get(address).is_none_or(|watching| watching.number != number) {
            return;
        }
        match told {
            Watched::Log(log) => self.heard(address, &log),
            Watched::Over(Ok(())) => self.lost(address, "it was ended".into()),
            Watched::Over(Err(error)) => self.lost(address, error.to_string()),
        }
    }

    fn heard(&mut self, address: &Address, log: &DiscoveryLog) {
        let Some(watching) = self.watches.get_mut(address) else { return };
        let named = named(log, &watching.controller);
        let root = watching.root.clone().unwrap_or_else(|| address.clone());
        watching.delay = Duration::from_secs(watching.controller.reconnect_delay_s.clamp(1, 60).into());
        watching.due = (!self.every.is_zero()).then(|| Instant::now() + self.every);
        let before = std::mem::replace(&mut watching.named, named.subsystems.clone());
        let mut changed = false;
        self.known(address, |known| {
            changed = !known.live || known.generation != Some(log.generation);
            if !std::mem::replace(&mut known.live, true) {
                known.since = Instant::now();
            }
            (known.generation, known.records) = (Some(log.generation), log.entries.len());
            (known.last_error, known.next) = (None, None);
        });
        let new: Vec<&ConnectRequest> =
            named.subsystems.iter().filter(|one| !before.iter().any(|old| old.is_same_path(one))).collect();
        if changed {
            let text = format!(
                "discovery at {} port {}: log {}, {} records, {} of them new ports of subsystems",
                address.0,
                address.1,
                log.generation,
                log.entries.len(),
                new.len()
            );
            self.note(Level::Info, "discovery-log", text);
        }
        let Some(service) = self.service.upgrade() else { return };
        let excluded = Exclusions::read(&self.nvme);
        for request in new.into_iter().filter(|found| !excluded.excludes(found, &self.who)) {
            if let Err(refusal) = service.restore(request) {
                let text =
                    format!("{} on {} port {}: {}", request.subnqn, request.traddr, request.trsvcid, refusal.0.error);
                service.told.note(Level::Error, "not-connected", text);
            }
        }
        let mut referrals = named.referrals;
        referrals.retain(|found| !excluded.excludes(found, &self.who));
        for referral in referrals {
            self.want(referral, format!("referral of {} port {}", address.0, address.1), Some(root.clone()));
        }
    }

    fn lost(&mut self, address: &Address, why: String) {
        let Some(watching) = self.watches.get_mut(address) else { return };
        let next = Instant::now() + watching.delay;
        (watching.watch, watching.due) = (None, Some(next));
        watching.delay = (watching.delay * 2).min(RETRY_MAX);
        let mut news = false;
        self.known(address, |known| {
            if std::mem::replace(&mut known.live, false) {
                known.since = Instant::now();
            }
            news = known.last_error.as_ref() != Some(&why);
            known.last_error = Some(why.clone());
            known.next = Some(next);
        });
        if news {
            let text =
                format!("discovery at {} port {}: {why}; what is connected stays connected", address.0, address.1);
            self.note(Level::Warn, "discovery-failed", text);
        }
    }

    /// Ends every watch in order, as far as controllers answer.
    fn end(mut self, heard: &mpsc::Receiver<News>) {
        let mut open: BTreeMap<Address, u64> = BTreeMap::new();
        for (address, watching) in std::mem::take(&mut self.watches) {
            if watching.watch.is_some() {
                open.insert(address, watching.number);
            }
        }
        let until = Instant::now() + END_WITHIN;
        while !open.is_empty() {
            match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(News::Told(address, number, Watched::Over(_))) if open.get(&address) == Some(&number) => {
                    open.remove(&address);
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_started_knows_nothing_and_ends() {
        let discovery = Discovery::new();
        assert!(!discovery.unwant("192.0.2.1", 8009));
        assert!(discovery.status().is_empty());
        discovery.end();
    }
}

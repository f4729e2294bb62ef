//! Discovery controllers: each is connected and stays so, and tells when its log changes.
//!
//! What a log names is connected at once, now and later; what it refers to is watched too. What it names no more stays
//! connected, because a log without a subsystem - or no answer at all - does not say that the subsystem is gone. A
//! controller that is lost is tried again without end.

use crate::budget::{Kind, Ledger, Payer};
use crate::exclusions::Exclusions;
use crate::fabrics::DiscoveryController;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::view::millis;
use interlock_api::{self as api, ConnectRequest, Level, canonical_address};
use interlock_host::discovery::{RecordKind, RecordWords, in_words};
use interlock_host::{DiscoveryLog, Found, HostSettings, Nqn, ProbeError, ProbeSpec, Watch, Watched, probe};
use interlock_ring::Reactor;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ports of subsystems that one discovery controller can make this host want, with what it refers to and over all its logs:
/// whoever answers at its address must not be able to fill every table that belongs to all.
const WANTED_MAX: usize = 4_096;
/// Referrals that are asked or watched on behalf of one controller.
const REFERRALS_MAX: usize = 16;
/// Those that are watched at once.
const WATCHED_MAX: usize = 256;
/// A controller without keep alive is looked at this often: nothing else would notice that it is gone.
const LOOK_WITHOUT_KEEP_ALIVE: Duration = Duration::from_secs(60);
/// What one log says wrong is told up to so many lines.
const PROBLEMS_TOLD: usize = 16;
/// Between two attempts to reach one that is lost; it doubles up to this.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A goodbye takes a second at most; the daemon's end does not wait longer.
const END_WITHIN: Duration = Duration::from_millis(1_500);

/// What a log names: ports of subsystems, and other discovery controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    subsystems: Vec<ConnectRequest>,
    referrals: Vec<DiscoveryController>,
    /// Entries that cannot be used, and why; they spoil no other.
    problems: Vec<String>,
}

/// Ports and referrals of a log, with the settings for what is found. What is not reached over TCP is left out.
fn named(records: Vec<RecordWords>, asked: &DiscoveryController) -> Named {
    let mut named = Named::default();
    let at = place(&asked.controller);
    for (number, record) in records.into_iter().enumerate() {
        let referral = match record.over_tcp {
            Some(RecordKind::Nvm) => false,
            Some(RecordKind::Referral) => true,
            // Of another transport, or the controller that answers: nothing to connect.
            Some(RecordKind::Current) | None => continue,
        };
        match reachable(&record) {
            Ok(trsvcid) if referral => {
                let controller = ConnectRequest { subnqn: record.subnqn, ..asked.controller.clone() };
                let controller = towards(controller, record.traddr, trsvcid);
                named.referrals.push(DiscoveryController { controller, ..asked.clone() });
            }
            Ok(trsvcid) => {
                let request = ConnectRequest { subnqn: record.subnqn, found: true, ..asked.found.clone() };
                named.subsystems.push(towards(request, record.traddr, trsvcid));
            }
            Err(why) => named.problems.push(format!("discovery at {at}: entry {number} cannot be used: {why}")),
        }
    }
    named
}

/// The TCP port of a record that this host can use.
fn reachable(record: &RecordWords) -> Result<u16, String> {
    let what = format!("{} at {} port {}", record.subnqn, record.traddr, record.trsvcid);
    Nqn::new(record.subnqn.as_str()).map_err(|why| format!("{what}: its NQN: {why}"))?;
    if record.traddr.is_empty() {
        return Err(format!("{what}: it has no address"));
    }
    if record.traddr.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(format!(
            "{what}: this address says where the target listens, not where it is: configure the target"
        ));
    }
    // "Secure Channel Required" and nothing else forbids a connection without it.
    if record.needs_secure_channel {
        return Err(format!("{what}: it demands TLS, which is not built yet"));
    }
    match record.trsvcid.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{what}: `{}` is not a valid TCP port", record.trsvcid)),
    }
}

/// The same way to another address. A local address of the other family cannot lead there, and does not count.
fn towards(request: ConnectRequest, traddr: String, trsvcid: u16) -> ConnectRequest {
    let other_family = |local: &IpAddr| traddr.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() != local.is_ipv4());
    let host_traddr = request.host_traddr.filter(|local| !other_family(local));
    ConnectRequest { traddr, trsvcid, host_traddr, ..request }.canonical()
}

impl DiscoveryController {
    /// A look at its log by this host, without keep alive.
    ///
    /// # Errors
    /// Its NQN is none.
    pub fn probe(&self, who: &HostSettings) -> Result<ProbeSpec, String> {
        let controller = &self.controller;
        let mut spec = ProbeSpec::discovery(&controller.traddr, controller.trsvcid, who.clone());
        spec.subnqn = Nqn::new(controller.subnqn.as_str()).map_err(|why| format!("`{}`: {why}", controller.subnqn))?;
        (spec.host_traddr, spec.host_iface) = (controller.host_traddr, controller.host_iface.clone());
        (spec.hdgst, spec.ddgst) = (controller.hdr_digest, controller.data_digest);
        Ok(spec)
    }
}

fn place(controller: &ConnectRequest) -> String {
    format!("{} port {}", controller.traddr, controller.trsvcid)
}

/// What discovery controllers name, and what went wrong with some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Ports of subsystems.
    pub found: Vec<ConnectRequest>,
    /// What could not be asked or used, and why, with a hint where there is one. What is found is none the worse.
    pub problems: Vec<String>,
}

/// Every subsystem port that a discovery controller names now, and those that it refers to. One that does not answer, or an
/// entry that cannot be used, is a problem beside the rest. Each is waited for `within` at most.
#[must_use]
pub fn discovered(reactor: &Reactor, first: &DiscoveryController, who: &HostSettings, within: Duration) -> Discovered {
    discovered_by(first, |controller| {
        let report = probe(reactor, &controller.probe(who)?, within).map_err(|error| match error.hint() {
            Some(hint) => format!("{error} ({hint})"),
            None => error.to_string(),
        })?;
        match report.found {
            Found::Discovery(log) => Ok(in_words(&log)),
            Found::Subsystem(_) => Err("it answered as a subsystem".into()),
        }
    })
}

fn discovered_by(
    first: &DiscoveryController,
    mut ask_one: impl FnMut(&DiscoveryController) -> Result<Vec<RecordWords>, String>,
) -> Discovered {
    let mut all = Discovered::default();
    let mut asked = BTreeSet::new();
    let mut ask = VecDeque::from([first.clone()]);
    while let Some(controller) = ask.pop_front() {
        if asked.contains(&key(&controller.controller)) {
            continue;
        }
        let at = place(&controller.controller);
        if asked.len() > REFERRALS_MAX {
            all.problems.push(format!("discovery at {at}: not asked: at most {REFERRALS_MAX} referrals are followed"));
            asked.insert(key(&controller.controller));
            continue;
        }
        asked.insert(key(&controller.controller));
        match ask_one(&controller) {
            Ok(records) => {
                let named = named(records, &controller);
                all.found.extend(named.subsystems);
                all.problems.extend(named.problems);
                ask.extend(named.referrals);
            }
            Err(why) => all.problems.push(format!("discovery at {at}: {why}")),
        }
    }
    all
}

/// Which controller: its address and port.
type Address = (String, u16);

fn key(controller: &ConnectRequest) -> Address {
    (canonical_address(&controller.traddr), controller.trsvcid)
}

/// News for the thread that watches.
enum News {
    /// This one is to be watched.
    Want(Box<DiscoveryController>, String),
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
    /// On whose account those are that were asked for.
    asked: Mutex<BTreeMap<Address, Payer>>,
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
        Self { known: Arc::default(), asked: Mutex::default(), news: Mutex::new(None), thread: Mutex::new(None) }
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

    /// Puts one more that is asked for on the account of whoever asks; one that is watched stays on its account.
    ///
    /// # Errors
    /// Too many are watched, or too many for this payer.
    pub(crate) fn pay(&self, traddr: &str, trsvcid: u16, payer: Payer, ledger: &Ledger) -> Result<(), Refusal> {
        let address = (canonical_address(traddr), trsvcid);
        let (known, mut asked) = (lock(&self.known), lock(&self.asked));
        if known.contains_key(&address) || asked.contains_key(&address) {
            return Ok(());
        }
        // One that was asked for just now is not known yet.
        let unknown = asked.iter().filter(|(one, _)| !known.contains_key(*one)).map(|(_, payer)| *payer);
        let all = known.keys().map(|one| asked.get(one).copied().unwrap_or(Payer::Operator)).chain(unknown);
        ledger.one_more(Kind::DiscoveryControllers, WATCHED_MAX, payer, all)?;
        asked.insert(address, payer);
        Ok(())
    }

    /// Nothing came of it.
    pub(crate) fn give_back(&self, traddr: &str, trsvcid: u16) {
        let address = (canonical_address(traddr), trsvcid);
        if !lock(&self.known).contains_key(&address) {
            lock(&self.asked).remove(&address);
        }
    }

    /// Watches one from now on; what is watched already goes on.
    pub(crate) fn want(&self, controller: DiscoveryController, origin: &str) {
        self.tell(News::Want(Box::new(controller), origin.to_owned()));
    }

    /// Watches one no more. False: it is not watched.
    pub(crate) fn unwant(&self, traddr: &str, trsvcid: u16) -> bool {
        let address = (canonical_address(traddr), trsvcid);
        let known = lock(&self.known).contains_key(&address);
        lock(&self.asked).remove(&address);
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
                state: if known.live { api::ControllerState::Live } else { api::ControllerState::Connecting },
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
    asked: DiscoveryController,
    /// It refuses keep alive: it is watched without.
    mute: bool,
    /// Attempts so far: a name with several addresses begins with another one each time.
    attempts: usize,
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
    /// Which problems of its log were told last.
    problems: Vec<String>,
    /// What was told of ports that could not be begun; they are new again with the next look.
    refused: Vec<String>,
    /// What it made this host want: addresses, ports and subsystems.
    wanted: BTreeSet<(String, u16, String)>,
}

impl Watching {
    /// True if this host may want one more because of it.
    fn may_want(&mut self, request: &ConnectRequest) -> bool {
        let one = (request.traddr.clone(), request.trsvcid, request.subnqn.clone());
        self.wanted.contains(&one) || self.wanted.len() < WANTED_MAX && self.wanted.insert(one)
    }

    /// These ports could not be begun, for a reason that may pass (a full disk): they are tried again with the next look,
    /// which comes soon. Gives what is to be told of it, each sentence once.
    fn refused(&mut self, refused: &[(ConnectRequest, Refusal)]) -> Vec<String> {
        self.named.retain(|one| !refused.iter().any(|(request, _)| request.is_same_path(one)));
        let texts = refused.iter().map(|(request, Refusal(problem))| {
            format!("{} on {} port {}: {}", request.subnqn, request.traddr, request.trsvcid, problem.error)
        });
        let before = std::mem::replace(&mut self.refused, texts.collect());
        if !self.refused.is_empty() {
            let soon = Instant::now() + RETRY_MAX;
            self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
        }
        self.refused.iter().filter(|text| !before.contains(text)).cloned().collect()
    }

    fn delay_at_first(&self) -> Duration {
        Duration::from_secs(self.asked.found.reconnect_delay_s.clamp(1, 60).into())
    }

    /// When its log is read again although nobody says that it has changed.
    fn next_look(&self, every: Duration) -> Option<Instant> {
        let often = match (every.is_zero(), self.mute) {
            (true, false) => return None,
            (true, true) => LOOK_WITHOUT_KEEP_ALIVE,
            (false, true) => every.min(LOOK_WITHOUT_KEEP_ALIVE),
            (false, false) => every,
        };
        Some(Instant::now() + often)
    }
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

    fn want(&mut self, asked: DiscoveryController, origin: String, root: Option<Address>) {
        let address = key(&asked.controller);
        if let Some(watching) = self.watches.get_mut(&address) {
            // Whoever is asked for outlives whoever referred to it.
            watching.root = watching.root.take().filter(|_| root.is_some());
            return;
        }
        let family =
            root.as_ref().map_or(0, |root| self.watches.values().filter(|w| w.root.as_ref() == Some(root)).count());
        if self.watches.len() >= WATCHED_MAX || family >= REFERRALS_MAX {
            let text = format!(
                "discovery at {} port {} ({origin}): not watched: at most {REFERRALS_MAX} referrals of one are, and {WATCHED_MAX} \
                 controllers",
                address.0, address.1
            );
            return self.note(Level::Error, "discovery-failed", text);
        }
        let now = Instant::now();
        let known =
            Known { origin, live: false, since: now, generation: None, records: 0, last_error: None, next: Some(now) };
        lock(&self.known).insert(address.clone(), known);
        let mut watching = Watching {
            mute: asked.kato_s == 0,
            asked,
            attempts: 0,
            root,
            number: 0,
            watch: None,
            due: Some(now),
            delay: Duration::ZERO,
            named: Vec::new(),
            problems: Vec::new(),
            refused: Vec::new(),
            wanted: BTreeSet::new(),
        };
        watching.delay = watching.delay_at_first();
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
                watching.due = watching.next_look(self.every);
                continue;
            }
            self.numbers += 1;
            watching.number = self.numbers;
            watching.due = None;
            let (news, whose, number) = (self.news.clone(), address.clone(), self.numbers);
            let kato = Duration::from_secs(if watching.mute { 0 } else { watching.asked.kato_s.into() });
            let turn = watching.attempts;
            watching.attempts += 1;
            let begun = watching.asked.probe(&self.who).and_then(|spec| {
                let spec = ProbeSpec { kato, turn, ..spec };
                Watch::start(&self.reactor, &spec, move |told| {
                    // The thread may have ended.
                    let _ = news.send(News::Told(whose.clone(), number, told));
                })
                .map_err(|error| error.to_string())
            });
            match begun {
                Ok(watch) => watching.watch = Some(watch),
                Err(why) => self.lost(&address, why),
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
            Watched::Over(Err(error)) => self.failed(address, &error),
        }
    }

    fn heard(&mut self, address: &Address, log: &DiscoveryLog) {
        let Some(watching) = self.watches.get_mut(address) else { return };
        let named = named(in_words(log), &watching.asked);
        let root = watching.root.clone().unwrap_or_else(|| address.clone());
        watching.delay = watching.delay_at_first();
        watching.due = watching.next_look(self.every);
        // While a list cannot be read nobody knows what is excluded: what is new stays new until the next look.
        let excluded = match Exclusions::read(&self.nvme) {
            Ok(lists) => lists,
            Err(error) => {
                watching.due = Some(watching.due.unwrap_or(Instant::now() + RETRY_MAX).min(Instant::now() + RETRY_MAX));
                return self.reached(address, log, Some(error.to_string()));
            }
        };
        let changed = lock(&self.known).get(address).is_none_or(|known| known.generation != Some(log.generation));
        let before = std::mem::replace(&mut watching.named, named.subsystems.clone());
        let problems_before = std::mem::replace(&mut watching.problems, named.problems.clone());
        self.reached(address, log, named.problems.first().cloned());
        let told = named.problems.iter().filter(|problem| !problems_before.contains(problem));
        for problem in told.take(PROBLEMS_TOLD) {
            self.note(Level::Error, "discovery-entry", problem.clone());
        }
        let new: Vec<&ConnectRequest> =
            named.subsystems.iter().filter(|one| !before.iter().any(|old| old.is_same_path(one))).collect();
        let Some(service) = self.service.upgrade() else { return };
        let mut wanted: Vec<ConnectRequest> =
            new.into_iter().filter(|found| !excluded.excludes(found, &self.who)).cloned().collect();
        // What was given up, the log has news, and it is named still: the cause may have passed, Do Not Retry or not.
        let given_up = if changed { service.given_up(&named.subsystems) } else { Vec::new() };
        for (name, known) in given_up {
            if !excluded.excludes(&known, &self.who) && !wanted.iter().any(|one| one.is_same_path(&known)) {
                let (host, port) = address;
                let text =
                    format!("discovery at {host} port {port}: its log has changed and names {name}: it is tried again");
                service.told.note(Level::Info, "discovery-again", text);
                wanted.push(known);
            }
        }
        let asked = wanted.len();
        if let Some(owner) = self.watches.get_mut(&root) {
            wanted.retain(|request| owner.may_want(request));
        }
        if wanted.len() < asked {
            let text = format!(
                "discovery at {} port {}: it and what it refers to have named more than {WANTED_MAX} ports of subsystems: {} \
                 of them are not connected; what is asked for by name is",
                address.0,
                address.1,
                asked - wanted.len()
            );
            service.told.note(Level::Error, "discovery-too-many", text);
        }
        let refused = service.restore_all(wanted, Payer::Discovery, || true);
        if let Some(watching) = self.watches.get_mut(address) {
            for text in watching.refused(&refused) {
                service.told.note(Level::Error, "not-connected", text);
            }
        }
        let mut referrals = named.referrals;
        referrals.retain(|found| !excluded.excludes(&found.controller, &self.who));
        for referral in referrals {
            self.want(referral, format!("referral of {} port {}", address.0, address.1), Some(root.clone()));
        }
    }

    /// It has answered with its log; `error`: what of it cannot be used.
    fn reached(&self, address: &Address, log: &DiscoveryLog, error: Option<String>) {
        let mut changed = false;
        self.known(address, |known| {
            changed = !known.live
                || known.generation != Some(log.generation)
                || (error != known.last_error && error.is_some());
            if !std::mem::replace(&mut known.live, true) {
                known.since = Instant::now();
            }
            (known.generation, known.records) = (Some(log.generation), log.entries.len());
            (known.last_error, known.next) = (error.clone(), None);
        });
        if changed {
            let (generation, records) = (log.generation, log.entries.len());
            let problem = error.map_or_else(String::new, |error| format!("; {error}"));
            let text =
                format!("discovery at {} port {}: log {generation}, {records} records{problem}", address.0, address.1);
            self.note(Level::Info, "discovery-log", text);
        }
    }

    /// Its watch has ended with an error. One that refuses keep alive is watched without it.
    fn failed(&mut self, address: &Address, error: &ProbeError) {
        let Some(watching) = self.watches.get_mut(address) else { return };
        if !watching.mute && error.refuses_keep_alive() {
            (watching.mute, watching.watch, watching.due) = (true, None, Some(Instant::now()));
            let text =
                format!("discovery at {} port {}: {error}; it is watched without keep alive", address.0, address.1);
            return self.note(Level::Warn, "discovery-mute", text);
        }
        self.lost(address, error.to_string());
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

    const DISK: &str = "nqn.2014-08.org.example:disk";

    fn record(kind: RecordKind, traddr: &str, trsvcid: &str, subnqn: &str) -> RecordWords {
        RecordWords {
            trtype: "tcp",
            adrfam: "ipv4",
            subtype: "",
            treq: "not specified, sq flow control disable supported",
            portid: 1,
            trsvcid: trsvcid.into(),
            subnqn: subnqn.into(),
            traddr: traddr.into(),
            eflags: "none",
            sectype: Some("none"),
            over_tcp: Some(kind),
            needs_secure_channel: false,
        }
    }

    fn disk(traddr: &str, trsvcid: &str) -> RecordWords {
        record(RecordKind::Nvm, traddr, trsvcid, DISK)
    }

    fn referral(traddr: &str) -> RecordWords {
        record(RecordKind::Referral, traddr, "8009", "nqn.2014-08.org.example:cdc")
    }

    fn asked() -> DiscoveryController {
        let mut request = ConnectRequest::new("192.0.2.9", 8009, crate::fabrics::DISCOVERY_NQN);
        request.host_traddr = Some(IpAddr::from([192, 0, 2, 100]));
        DiscoveryController::of(request)
    }

    #[test]
    fn an_entry_that_cannot_be_used_is_named_and_spoils_no_other() {
        let tls = RecordWords { needs_secure_channel: true, ..disk("192.0.2.4", "4420") };
        let rdma = RecordWords { over_tcp: None, ..disk("192.0.2.5", "4420") };
        let records = vec![
            disk("192.0.2.1", "4420"),
            disk("0.0.0.0", "4420"),
            disk("::", "4420"),
            disk("192.0.2.2", "none"),
            disk("192.0.2.3", "0"),
            disk("", "4420"),
            record(RecordKind::Nvm, "192.0.2.6", "4420", ""),
            tls,
            rdma,
            record(RecordKind::Current, "192.0.2.9", "8009", "nqn.x"),
            disk("2001:DB8::1", "4421"),
        ];
        let named = named(records, &asked());
        let found: Vec<_> =
            named.subsystems.iter().map(|one| (one.traddr.as_str(), one.host_traddr, one.found)).collect();
        let local = Some(IpAddr::from([192, 0, 2, 100]));
        assert_eq!(
            found,
            [("192.0.2.1", local, true), ("2001:db8::1", None, true)],
            "the family of the local address counts"
        );
        assert_eq!(named.problems.len(), 7, "{:?}", named.problems);
        assert!(named.problems[0].starts_with("discovery at 192.0.2.9 port 8009: entry 1 cannot be used: "));
        assert!(named.problems[6].contains("demands TLS"), "{:?}", named.problems);
    }

    #[test]
    fn a_referral_that_does_not_answer_spoils_nothing() {
        let mut names = Vec::new();
        let all = discovered_by(&asked(), |one| {
            names.push(one.controller.subnqn.clone());
            match one.controller.traddr.as_str() {
                // It refers to itself as well.
                "192.0.2.9" => Ok(vec![
                    referral("192.0.2.9"),
                    referral("192.0.2.10"),
                    referral("192.0.2.11"),
                    disk("192.0.2.1", "4420"),
                ]),
                "192.0.2.10" => Err("connection refused".into()),
                _ => Ok(vec![referral("192.0.2.10"), disk("192.0.2.2", "4420")]),
            }
        });
        assert_eq!(
            names,
            [crate::fabrics::DISCOVERY_NQN, "nqn.2014-08.org.example:cdc", "nqn.2014-08.org.example:cdc"]
        );
        let found: Vec<&str> = all.found.iter().map(|one| one.traddr.as_str()).collect();
        assert_eq!(found, ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(all.problems, ["discovery at 192.0.2.10 port 8009: connection refused"]);
    }

    #[test]
    fn referrals_beyond_the_bound_are_named() {
        let all = discovered_by(&asked(), |one| {
            let begin = one.controller.traddr == "192.0.2.9";
            let more = (1..=REFERRALS_MAX + 3).map(|last| referral(&format!("198.51.100.{last}")));
            Ok(if begin { more.collect() } else { vec![disk(&one.controller.traddr, "4420")] })
        });
        assert_eq!(all.found.len(), REFERRALS_MAX);
        assert_eq!(all.problems.len(), 3, "{:?}", all.problems);
        assert!(all.problems[0].contains("at most 16 referrals"), "{:?}", all.problems);
    }

    fn watching() -> Watching {
        Watching {
            asked: asked(),
            mute: false,
            attempts: 0,
            root: None,
            number: 0,
            watch: None,
            due: None,
            delay: Duration::ZERO,
            named: Vec::new(),
            problems: Vec::new(),
            refused: Vec::new(),
            wanted: BTreeSet::new(),
        }
    }

    #[test]
    fn one_discovery_controller_cannot_fill_what_belongs_to_all() {
        let mut watching = watching();
        let request = |n: usize| ConnectRequest::new("192.0.2.2", 4420, format!("nqn.2014-08.org.example:{n}"));
        assert!((0..WANTED_MAX).all(|n| watching.may_want(&request(n))));
        assert!(!watching.may_want(&request(WANTED_MAX)), "another log does not make it more");
        assert!(watching.may_want(&request(7)), "what it named before comes back");
    }

    #[test]
    fn what_could_not_be_begun_is_told_once_and_tried_again() {
        let mut watching = watching();
        let request = |n: usize| ConnectRequest::new("192.0.2.2", 4420, format!("nqn.2014-08.org.example:{n}"));
        watching.named = vec![request(1), request(2)];
        let full = Refusal::new(api::ProblemKind::Internal, "no space left");
        let told = watching.refused(&[(request(2), full.clone())]);
        assert!(told.len() == 1 && told[0].contains("example:2 on 192.0.2.2 port 4420: no space left"), "{told:?}");
        assert_eq!(watching.named, [request(1)], "it is new with the next look");
        assert!(watching.due.is_some(), "which comes, also if nobody says that the log has changed");
        watching.named.push(request(2));
        assert!(watching.refused(&[(request(2), full)]).is_empty(), "it was told");
        assert!(watching.refused(&[]).is_empty() && watching.refused.is_empty());
    }

    #[test]
    fn what_is_not_started_knows_nothing_and_ends() {
        let discovery = Discovery::new();
        assert!(!discovery.unwant("192.0.2.1", 8009));
        assert!(discovery.status().is_empty());
        discovery.end();
    }
}

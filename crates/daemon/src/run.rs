//! The life of the daemon: take the identity, restore what was wanted, serve, end in order.
//!
//! The order is the point. The identity and the state directory are taken before anything can be written to a target;
//! lives that an earlier process left are known to the host before the first path is. At the end the front goes first:
//! no new requests, exports drained, then the host, which drains and marks its lives clean, so that the next process
//! has nothing to fence.

use crate::budget::Budget;
use crate::config::{Config, ConfigError, JournalSection};
use crate::devd;
use crate::events::{self, Told};
use crate::hooks;
use crate::http::router;
use crate::identity::{self, IdentityError};
use crate::kernel::{KernelController, Neighbours};
use crate::memory;
use crate::numbers;
use crate::places::Places;
use crate::port;
use crate::record::{RecordError, RecordFile};
use crate::restore::{self, Restoring};
use crate::service::Service;
use crate::socket::{self, SocketError};
use crate::tree::OfService;
use crate::waiting::THREADS_MAX;
use crate::watchdog::Watchdog;
use interlock_api::{Level, What};
use interlock_host::{
    EventKind, FileStore, Host, HostError, HostSettings, IdentityInUse, IdentityLock, MAX_DEAD, Pool, PoolConfig,
    StoreError,
};
use interlock_observe::journal::{Journal, Owner};
use interlock_observe::tree::Mount;
use interlock_ring::now;
use sd_notify::NotifyState;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where things lie.
    pub places: Places,
    /// True if the configuration file was named, and so must be there.
    pub config_named: bool,
    /// Host NQN; default: see [`identity::load`].
    pub hostnqn: Option<String>,
    /// Host Identifier.
    pub hostid: Option<String>,
    /// Group of the sockets; overrides the configuration.
    pub group: Option<String>,
    /// Mount the file tree here; overrides the configuration.
    pub sysfs: Option<PathBuf>,
    /// Serve metrics on this port as well; overrides the configuration.
    pub metrics: Option<String>,
    /// Do not connect what was connected before, nor what the configuration wants.
    pub no_restore: bool,
    /// Start although controllers of the kernel's driver use this identity; the configuration may say so too.
    pub share_identity_with_kernel: bool,
    /// Where the kernel shows its controllers, usually `/sys`.
    pub sys: PathBuf,
}

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The kernel's own driver is this host.
    #[error(
        "the kernel's NVMe driver uses the identity of this host ({who}): {}; to a target both are one host, and neither can \
         fence what the other has sent",
        list(controllers)
    )]
    KernelUses {
        /// Host NQN.
        who: String,
        /// Its controllers.
        controllers: Vec<KernelController>,
    },
    /// Another process is this host.
    #[error(transparent)]
    InUse(#[from] IdentityInUse),
    /// Its records of lives.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its record of what is wanted.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its control socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Its host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Another process is this host now.
    #[error("the daemon has ended: {0}")]
    Disowned(String),
    /// Its port for metrics.
    #[error("metrics cannot be served: {0}")]
    Metrics(String),
    /// Its threads.
    #[error("the daemon cannot start: {0}")]
    Start(io::Error),
    /// It did not end in order.
    #[error("the daemon did not end gracefully: {0}")]
    End(String),
}

fn list(controllers: &[KernelController]) -> String {
    controllers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not start, or did not end in order.
pub fn run(options: &Options) -> Result<(), DaemonError> {
    let memory = memory::prepare();
    let config = Config::read(&options.places.config, options.config_named)?;
    let settings = identity::load(&options.places, options.hostnqn.as_deref(), options.hostid.as_deref())?;
    let group = options.group.as_ref().or(config.daemon.group.as_ref());
    let group = group.map(|name| socket::group(name)).transpose()?;
    let identity = IdentityLock::take(settings.hostid)?;
    let dir = options.places.of_host(settings.hostid);
    let store = FileStore::open(&dir, &settings)?;
    let (record, record_notes) = RecordFile::open(&dir, &settings)?;
    let neighbours = Neighbours {
        sys: options.sys.clone(),
        shared: options.share_identity_with_kernel || config.daemon.share_identity_with_kernel,
    };
    // Disks that were there before must come back: then it is told, and not refused.
    let kernel = neighbours.under(&settings);
    if record.is_first() && !kernel.is_empty() {
        return Err(DaemonError::KernelUses { who: settings.hostnqn.to_string(), controllers: kernel });
    }
    let (listener, _bound) = socket::listen(&options.places.socket, group)?;
    let (devd_listener, _devd_bound) = socket::listen(&options.places.run().join(devd::SOCKET), group)?;
    let metrics = options.metrics.as_ref().or(config.daemon.metrics.as_ref());
    let metrics = metrics.map(|text| crate::metrics::listen_address(text)).transpose().map_err(DaemonError::Metrics)?;
    let pool = Pool::new(PoolConfig {
        reactors: config.daemon.reactors.into(),
        spin: Duration::from_micros(config.daemon.spin_us.into()),
        name: "interlock".into(),
        ..PoolConfig::default()
    })
    .map_err(DaemonError::Start)?;
    tracing::info!("version {}, host {}, Host ID {}", env!("CARGO_PKG_VERSION"), settings.hostnqn, settings.hostid);
    let host = Host::start_with(pool.reactors(), settings, Box::new(store))?;
    let events = host.subscribe();
    let reactors = pool.reactors().to_vec();
    let told = begin_to_tell(&dir, host.settings(), config.journal);
    let budget = Budget::new(config.daemon.max_controllers);
    let service = Arc::new(Service::new(host, told, reactors, record, options.places.run().to_owned(), group, budget));
    service.hooks.set(config.hooks.clone());
    service.neighbours(neighbours);
    let begun = service.told.last();
    if !kernel.is_empty() {
        let text = format!("the kernel's NVMe driver uses the identity of this host as well: {}", list(&kernel));
        service.told.note(Level::Warn, "identity-shared", text);
    }
    if let Some(doubt) = identity::doubt(service.host.settings()) {
        service.told.note(Level::Warn, "identity-doubtful", doubt);
    }
    let stop_within = Duration::from_secs(config.daemon.stop_timeout_s.into());
    let hearing = hear(Arc::clone(&service), events).map_err(DaemonError::Start)?;
    let every = Duration::from_secs(config.daemon.discovery_interval_s.into());
    let discovery = &service.discovery;
    discovery.start(&service, pool.reactor(0), every, options.places.nvme.clone()).map_err(DaemonError::Start)?;
    *service.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory::warning(&memory);
    for note in identity.notes() {
        service.told.note(Level::Warn, "identity", note.clone());
    }
    for note in record_notes {
        service.told.note(Level::Error, "record-damaged", note);
    }
    if !options.no_restore {
        restore::exports(&service, &config);
    }
    let dir = options.sysfs.as_ref().or(config.daemon.sysfs.as_ref());
    let mount = |dir: &PathBuf| match Mount::on(dir, Arc::new(OfService(Arc::clone(&service)))) {
        Ok(tree) => Some(tree),
        // A view that is missing keeps no disk from its users.
        Err(error) => {
            service.told.note(Level::Error, "no-file-tree", error.to_string());
            None
        }
    };
    let tree = dir.and_then(mount);
    if let Some(tree) = &tree {
        tracing::info!("file tree at {}", tree.dir().display());
        if is_mount_namespace_own() {
            let text = format!(
                "the file tree at {} is seen by nobody else, because this process has a mount namespace of its own: the unit \
                 needs `packaging/interlock.service.d/file-tree.conf`",
                tree.dir().display()
            );
            service.told.note(Level::Warn, "file-tree-hidden", text);
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(THREADS_MAX).build();
    let runtime = runtime.map_err(DaemonError::Start)?;
    let sockets = Sockets { control: listener, devd: devd_listener, metrics };
    let served = runtime.block_on(serve(&service, sockets, begun, options, &config)).map_err(DaemonError::Start);
    tell_systemd(&[NotifyState::Stopping]);
    drop(tree);
    // Requests that still run are not waited for: each has its own deadline, and its client is gone.
    runtime.shutdown_background();
    service.discovery.end();
    let problems = service.exports.end(stop_within / 2);
    let ended = service.host.shutdown(stop_within / 2);
    let told = Arc::clone(&service.told);
    let disowned = service.disowned.why();
    drop(service);
    let stopped = pool.shutdown(stop_within);
    // It ends with the host's last event.
    let _ = hearing.join();
    told.end();
    let unfenced = told.unfenced();
    served?;
    let answered = problems.is_empty();
    for problem in problems {
        tracing::warn!("{problem}");
    }
    if let Some(why) = disowned {
        return Err(DaemonError::Disowned(why));
    }
    match (ended, stopped) {
        (Ok(()), Ok(())) if unfenced.is_empty() && answered => {
            tracing::info!("ended gracefully: nothing is left unanswered");
            Ok(())
        }
        (Ok(()), Ok(())) if unfenced.is_empty() => {
            Err(DaemonError::End("clients of exports were left without an answer; nothing can take effect late".into()))
        }
        (_, Ok(())) => {
            let what = if unfenced.is_empty() { "something".into() } else { unfenced.join(", ") };
            let text =
                format!("{what} left unanswered commands that may take effect late; the next process fences them");
            Err(DaemonError::End(text))
        }
        (_, Err(error)) => Err(DaemonError::End(error.to_string())),
    }
}

/// True if what this process mounts is not seen by the rest of the system. Who may not ask does not know, and says nothing.
fn is_mount_namespace_own() -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    of("1").is_some_and(|first| of("self").is_some_and(|own| own != first))
}

/// What tells, with the journal if there can be one: nothing in it keeps the daemon from starting.
fn begin_to_tell(dir: &Path, settings: &HostSettings, section: JournalSection) -> Told {
    let owner = Owner { hostnqn: settings.hostnqn.to_string(), hostid: settings.hostid.to_string() };
    // Beyond every number that was ever given.
    let first = |journal, notes: &mut Vec<String>| {
        let (next, failed) = numbers::first(dir, journal, events::unix_ms());
        notes.extend(failed.map(|why| format!("numbers of events may be used twice: {why}")));
        next
    };
    let without = |mut notes: Vec<String>| (Told::new(None, first(None, &mut notes)), notes);
    let (told, notes) = match section.bounds().map(|bounds| Journal::open(dir, &owner, bounds)) {
        Some(Ok((journal, mut begin))) => {
            (Told::new(Some(journal), first(Some(begin.next), &mut begin.notes)), begin.notes)
        }
        Some(Err(why)) => {
            let note = format!("there is no journal, and `explain` knows only of this process: {why}");
            without(vec![note])
        }
        None => without(Vec::new()),
    };
    let version = env!("CARGO_PKG_VERSION");
    let begun = What::Started { version: version.into(), pid: std::process::id() };
    told.happened(Level::Info, None, begun, format!("the daemon begins, version {version}"));
    for note in notes {
        told.note(Level::Error, "journal", note);
    }
    told
}

/// A thread that tells what happens, and lets exports begin when their namespaces come.
fn hear(service: Arc<Service>, events: Receiver<interlock_host::Event>) -> io::Result<std::thread::JoinHandle<()>> {
    for stone in service.host.status().map(|status| status.tombstones).unwrap_or_default() {
        service.told.name_life(stone.life, stone.ctrl);
        let text = format!(
            "{}: {} of an earlier process is not fenced: writes to {} wait",
            stone.ctrl, stone.life, stone.subnqn
        );
        service.told.note(Level::Warn, "predecessor-found", text);
    }
    // It holds what tells, not what is told of: the host must be able to end.
    std::thread::Builder::new().name("interlock-events".into()).spawn(move || {
        let mut events = events;
        while !hear_all(&service, events) {
            // It was too slow, and was cut off: what it missed is looked up.
            service.told.note(Level::Warn, "events-missed", "events of the host were missed".into());
            events = service.host.subscribe();
            if service.host.status().is_err() {
                return;
            }
            for namespace in service.host.namespaces().unwrap_or_default() {
                service.name_head(namespace.head);
            }
            service.budget_again();
        }
    })
}

/// Hears until the host has ended; false: some were missed.
fn hear_all(service: &Arc<Service>, events: Receiver<interlock_host::Event>) -> bool {
    // When the places of exports are to be looked at.
    let mut look = Some(now());
    let mut ended = Ended::default();
    loop {
        let event = match look {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => events.recv_timeout(at.since(now())),
        };
        if look.is_some_and(|at| at <= now()) {
            let later = ended.take(service);
            look = service.refresh_exports().into_iter().chain(service.bind_names()).chain(later).min();
        }
        let event = match event {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        if let EventKind::NamespaceAdded { head, .. } | EventKind::NamespaceResized { head, .. } = &event.kind {
            service.name_head(*head);
        }
        if let EventKind::PathRefused { ctrl, nsid, why } = &event.kind {
            service.path_refused(*ctrl, *nsid, why);
            service.devices().refused(*ctrl, *nsid, why);
        }
        if let EventKind::ControllerState { ctrl, to, .. } = &event.kind
            && *to != interlock_host::StateName::Live
        {
            service.devices().not_live(*ctrl);
        }
        if moves_exports(&event.kind) {
            // Many come at once: one look is enough for all of them.
            let soon = now() + LOOK_AFTER;
            look = Some(look.map_or(soon, |at| at.min(soon)));
        }
        service.counting.hear(&event.kind);
        service.known.learn(&event.kind);
        service.told.tell(&event);
        if let EventKind::ControllerState { ctrl, to: interlock_host::StateName::Dead, .. } = &event.kind {
            service.budget.ledger().ended(*ctrl);
            ended.one(service);
        }
        if let EventKind::Disowned { why } = &event.kind {
            service.disowned.tell(why.clone());
        }
        if matches!(event.kind, EventKind::ShutDown) {
            return true;
        }
    }
}

/// Controllers that have ended, and whose counters were not looked at since. The host forgets them when there are many: what
/// they counted goes into the totals before. Whoever looks at the counters does that too, so it need not be at once.
#[derive(Default)]
struct Ended {
    count: usize,
    not_before: interlock_host::Instant,
}

impl Ended {
    /// For so many at once.
    const MAX: usize = MAX_DEAD / 4;
    /// No more often: it looks at everything.
    const EACH: Duration = Duration::from_secs(1);

    fn one(&mut self, service: &Service) {
        self.count += 1;
        if self.count >= Self::MAX {
            self.not_before = interlock_host::Instant::default();
            let _ = self.take(service);
        }
    }

    /// Looks, if it is time to; gives when it will be.
    fn take(&mut self, service: &Service) -> Option<interlock_host::Instant> {
        let now = now();
        if self.count == 0 {
            return None;
        }
        if now < self.not_before {
            return Some(self.not_before);
        }
        self.count = 0;
        // Later is as good if this fails.
        let _ = service.counters(true);
        self.not_before = now + Self::EACH;
        None
    }
}

/// After a change at the host, the places of exports are looked at so soon.
const LOOK_AFTER: Duration = Duration::from_millis(20);

/// True of what may change whether an export can be served, or which disk has which name. A thousand controllers that are tried
/// again and again and never live change neither.
const fn moves_exports(kind: &EventKind) -> bool {
    use interlock_host::StateName::{Dead, Live};
    matches!(
        kind,
        EventKind::NamespaceAdded { .. }
            | EventKind::NamespaceResized { .. }
            | EventKind::NamespaceRemoved { .. }
            | EventKind::PathRefused { .. }
            | EventKind::LifeBegan { .. }
            | EventKind::ControllerState { from: Live, .. }
            | EventKind::ControllerState { to: Live | Dead, .. }
    )
}

/// Says that another process is this host now: this one has nothing left to do.
#[derive(Default)]
pub(crate) struct Disowned {
    why: Mutex<Option<String>>,
    told: Notify,
}

impl Disowned {
    fn tell(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        self.told.notify_one();
    }

    fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Service {
    /// Gives back what ended controllers have taken, whose ends were missed.
    fn budget_again(&self) {
        let before = self.budget.ledger().there();
        let Ok(status) = self.host.status() else { return };
        let there = status.controllers.iter().filter(|ctrl| ctrl.state != interlock_host::StateName::Dead);
        self.budget.ledger().ended_but_for(&before, &there.map(|ctrl| ctrl.id).collect());
    }
}

/// Serves metrics for as long as the runtime lives. A port that somebody else has costs the metrics, until it is free, and
/// nothing else.
async fn serve_metrics(service: Arc<Service>, address: SocketAddr) {
    let mut told = false;
    let listener = loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    let text = format!("no metrics at {address} until that can be listened on: {error}");
                    service.told.note(Level::Error, "metrics-not-served", text);
                }
                tokio::time::sleep(PORT_AGAIN).await;
            }
        }
    };
    tracing::info!("metrics at http://{}/metrics", listener.local_addr().unwrap_or(address));
    // It ends with the runtime.
    let _ = port::serve_metrics(listener, crate::metrics::router(service)).await;
}

/// A port that is taken is tried again so often.
const PORT_AGAIN: Duration = Duration::from_secs(5);

/// What is listened on.
struct Sockets {
    control: UnixListener,
    devd: UnixListener,
    metrics: Option<SocketAddr>,
}

/// Serves the control socket until a signal asks for the end.
async fn serve(
    service: &Arc<Service>,
    Sockets { control: listener, devd: devd_listener, metrics }: Sockets,
    begun: u64,
    options: &Options,
    config: &Config,
) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let devd_listener = tokio::net::UnixListener::from_std(devd_listener)?;
    let listeners = tokio::spawn(devd::serve(Arc::clone(&service.told), devd_listener));
    let (hooks, socket) = (Arc::clone(&service.hooks), options.places.socket.clone());
    let hooks = tokio::spawn(hooks::serve(Arc::clone(&service.told), hooks, socket, begun));
    let server = tokio::spawn(port::serve_control(listener, service.room.places, router(Arc::clone(service))));
    if let Some(address) = metrics {
        tokio::spawn(serve_metrics(Arc::clone(service), address));
        // It says where before the daemon says that it listens.
        tokio::task::yield_now().await;
    }
    tracing::info!("listening on {}", options.places.socket.display());
    tell_systemd(&[NotifyState::Ready]);
    // Behind it: thousands of paths take their time, and nobody who asks has to wait for that.
    let _restoring = if options.no_restore { None } else { Some(Restoring::begin(service, config, &options.places)?) };
    let _watchdog = Watchdog::start(service.host.clone())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => { tracing::info!("SIGTERM: ending gracefully"); break }
            _ = interrupt.recv() => { tracing::info!("SIGINT: ending gracefully"); break }
            () = service.disowned.told.notified() => { tracing::error!("this host is another process now: ending"); break }
            _ = hangup.recv() => reload(service, options.places.clone()).await,
        }
    }
    server.abort();
    listeners.abort();
    hooks.abort();
    Ok(())
}

/// Reads the configuration again: what is new in it begins, nothing ends.
async fn reload(service: &Arc<Service>, places: Places) {
    let service = Arc::clone(service);
    let reloaded = tokio::task::spawn_blocking(move || match Config::read(&places.config, false) {
        Ok(config) => {
            service.hooks.set(config.hooks.clone());
            restore::exports(&service, &config);
            restore::connections(&service, &config, &places, || true);
            service.told.note(Level::Info, "reloaded", format!("{} read again", places.config.display()));
        }
        Err(error) => service.told.note(Level::Error, "not-reloaded", format!("nothing was changed: {error}")),
    });
    if reloaded.await.is_err() {
        tracing::error!("the configuration was not read: a mistake in the daemon");
    }
}

fn tell_systemd(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(state);
}

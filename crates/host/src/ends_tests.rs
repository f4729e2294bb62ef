//! However a host ends, everybody who waits for it hears of it.

use super::*;
use crate::{Completions, Outcome, Pool, PoolConfig};
use interlock_host_core::Refused;

const WITHIN: Duration = Duration::from_secs(20);
const GONE: Outcome = Outcome::NotSent(Refused::ShuttingDown);
const UNKNOWN: Outcome = Outcome::Indeterminate { until: None };

fn host() -> (Pool, Host) {
    let pool = Pool::new(PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() }).expect("io_uring");
    let host = Host::start(pool.reactors(), HostSettings::random().expect("random")).expect("starts");
    (pool, host)
}

/// A handle to a namespace that no controller has: the lane refuses what is asked of it.
fn namespace(host: &Host) -> Namespace {
    on_lane(host, LaneId(0))
}

fn on_lane(host: &Host, lane: LaneId) -> Namespace {
    let shape = Shape { block_size: 512, blocks: 8, metadata: 0, read_only: false };
    let found = NamespaceStatus {
        head: HeadId(0),
        subnqn: "nqn.2014-08.org.example:s".to_owned(),
        nsid: 1,
        shape,
        ids: NamespaceIds::default(),
        paths: Vec::new(),
        suspects: Vec::new(),
    };
    Namespace::new(Arc::clone(&host.0), lane, found)
}

fn read(namespace: &Namespace) -> Outcome {
    let end = namespace.read(0, 1).wait_until(std::time::Instant::now() + WITHIN);
    end.ok().expect("ends").0
}

/// Asks until the lane refuses, at most [`WITHIN`].
fn wait_until_gone(namespace: &Namespace) {
    let deadline = std::time::Instant::now() + WITHIN;
    while read(namespace) != GONE {
        assert!(std::time::Instant::now() < deadline, "the lane takes requests for ever");
    }
}

#[test]
fn after_a_shutdown_requests_are_refused_and_questions_answered() {
    let (pool, host) = host();
    let namespace = namespace(&host);
    assert_eq!(read(&namespace), Outcome::NotSent(Refused::NoSuchNamespace), "the lane is there");
    assert_eq!(host.waits().expect("it answers"), [], "nobody is waited for");
    host.shutdown(WITHIN).expect("ends");
    assert_eq!(read(&namespace), GONE);
    let queue = Completions::new();
    namespace.submit(interlock_host_core::Op::Flush, 0, 0, None, &queue, 5);
    let end = queue.poll().expect("at once");
    assert_eq!((end.token, end.outcome), (5, GONE));
    let began = std::time::Instant::now();
    assert!(matches!(host.status(), Err(HostError::Gone)) && matches!(host.lanes(), Err(HostError::Gone)));
    assert_eq!(host.subscribe().recv_timeout(WITHIN).err(), Some(RecvTimeoutError::Disconnected));
    assert!(began.elapsed() < ANSWER_WITHIN, "nobody waited for an answer");
    pool.shutdown(WITHIN).expect("in order");
}

/// Somebody else ends the controller while its first attempt is under way: whoever waits for it hears of that at once.
#[test]
fn who_waits_for_a_controller_that_is_disconnected_meanwhile_hears_of_it() {
    let (pool, host) = host();
    // It takes connections (the kernel does), and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let subnqn = Nqn::new("nqn.2014-08.org.example:s").expect("valid");
    let waiting = host.clone();
    let began = std::time::Instant::now();
    let spec = ControllerSpec { timeouts: silent_for(WITHIN * 3), ..ControllerSpec::new("127.0.0.1", port, subnqn) };
    let waits = std::thread::spawn(move || waiting.connect_and_wait(spec, WITHIN * 3));
    let id = loop {
        if let Some(ctrl) = host.status().expect("it answers").controllers.first() {
            break ctrl.id;
        }
        assert!(began.elapsed() < WITHIN, "it never began");
        std::thread::yield_now();
    };
    host.disconnect(id).expect("it is there");
    let end = waits.join().expect("no panic");
    assert!(matches!(end, Err(HostError::Connect { .. })), "{end:?}");
    assert!(began.elapsed() < WITHIN, "it waited for its own time to run out");
    host.shutdown(WITHIN).expect("ends");
    pool.shutdown(WITHIN).expect("in order");
}

fn silent_for(span: Duration) -> interlock_host_core::Timeouts {
    interlock_host_core::Timeouts { handshake: span, connect_total: span, ..Default::default() }
}

#[test]
fn reactors_that_end_before_the_host_end_its_requests() {
    let (pool, host) = host();
    let namespace = namespace(&host);
    pool.shutdown(WITHIN).expect("in order");
    assert_eq!(read(&namespace), GONE);
    assert!(matches!(host.status(), Err(HostError::Gone)));
}

#[test]
fn a_lane_that_panics_leaves_nobody_waiting() {
    let (pool, host) = host();
    let namespace = namespace(&host);
    let lane = &host.0.lanes[0];
    // The lane is kept busy, so that all of this lies in one delivery: the panic, then a request that it never sees.
    let (busy, entered) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    lane.send(LaneMail::Ask(Box::new(move |_| {
        busy.send(()).expect("the test waits");
        held.recv().expect("released");
    })));
    entered.recv_timeout(WITHIN).expect("the lane runs");
    lane.send(LaneMail::Ask(Box::new(|_| panic!("as asked by the test"))));
    let unseen = namespace.read(0, 1);
    release.send(()).expect("the lane waits");
    let end = unseen.wait_until(std::time::Instant::now() + WITHIN);
    assert_eq!(end.ok().expect("ends").0, UNKNOWN);
    assert_eq!(read(&namespace), GONE);
    drop(host);
    let error = pool.shutdown(WITHIN).expect_err("the panic is told");
    assert_eq!(error.panicked.len(), 1, "{error}");
}

#[test]
fn without_a_store_a_panic_ends_the_host_on_every_lane() {
    for control in [false, true] {
        let config = PoolConfig { reactors: 2, spin: Duration::ZERO, ..PoolConfig::default() };
        let pool = Pool::new(config).expect("io_uring");
        let host = Host::start(pool.reactors(), HostSettings::random().expect("random")).expect("starts");
        let [first, second] = [0, 1].map(|lane| on_lane(&host, LaneId(lane)));
        assert_eq!(read(&second), Outcome::NotSent(Refused::NoSuchNamespace), "the lane is there");
        if control {
            assert!(matches!(host.ask(|_, _| panic!("as asked by the test")), Err(HostError::Gone)));
        } else {
            host.0.lanes[0].send(LaneMail::Ask(Box::new(|_| panic!("as asked by the test"))));
            // That the first one says no means that every lane has been told to.
            wait_until_gone(&first);
        }
        if control {
            wait_until_gone(&second);
        }
        assert_eq!(read(&second), GONE, "nothing is written over what the other one had in doubt");
        drop(host);
        assert_eq!(pool.shutdown(WITHIN).expect_err("the panic is told").panicked.len(), 1);
    }
}

#[test]
fn a_service_that_uses_a_lane_and_makes_it_panic_ends_the_host() {
    let config = PoolConfig { reactors: 2, spin: Duration::ZERO, ..PoolConfig::default() };
    let pool = Pool::new(config).expect("io_uring");
    let host = Host::start(pool.reactors(), HostSettings::random().expect("random")).expect("starts");
    let second = on_lane(&host, LaneId(1));
    assert_eq!(read(&second), Outcome::NotSent(Refused::NoSuchNamespace), "the lane is there");
    let abandons = Arc::clone(&host.0.abandons);
    let ending = Ending::new(OnPanic::EndHost, false, abandons, host.0.control.clone());
    crate::panic::Sentry::new(&ending).leave();
    assert_eq!(read(&second), Outcome::NotSent(Refused::NoSuchNamespace), "all went well");
    drop(crate::panic::Sentry::new(&ending));
    assert_eq!(read(&second), GONE);
    pool.shutdown(WITHIN).expect("in order");
}

/// Tells the child of the next test what to do.
const PANICS: &str = "INTERLOCK_TEST_PANICS";

#[test]
fn with_a_store_a_panic_ends_the_process_and_says_so() {
    use std::os::unix::process::ExitStatusExt as _;
    const NAME: &str = "host::ends::with_a_store_a_panic_ends_the_process_and_says_so";
    if let Ok(who) = std::env::var(PANICS) {
        let pool = Pool::new(PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() }).expect("io_uring");
        let settings = HostSettings::random().expect("random");
        let store = Box::new(MemoryStore::default());
        let host = Host::start_as(pool.reactors(), settings, store, OnPanic::EndProcess).expect("starts");
        if who == "control" {
            let _ = host.ask(|_, _| panic!("as asked by the test"));
        } else {
            host.0.lanes[0].send(LaneMail::Ask(Box::new(|_| panic!("as asked by the test"))));
        }
        // Nobody gets here before the process is gone, or the test has failed.
        let _ = host.subscribe().recv_timeout(WITHIN);
        std::process::exit(0);
    }
    for who in ["control", "lane0"] {
        let this = std::env::current_exe().expect("a path");
        let mut child = std::process::Command::new(this);
        let ended = child.args(["--exact", NAME, "--nocapture"]).env(PANICS, who).output().expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.signal(), Some(6), "{who}: {}: {said}", ended.status);
        let line = said.lines().find(|line| line.starts_with("interlock: ")).expect("one line of its own");
        for words in [who, "reactor-0", "as asked by the test", "this process ends"] {
            assert!(line.contains(words), "{line}");
        }
    }
}

#[test]
fn a_store_that_ends_with_the_process_does_not_leave_the_fence_to_a_successor() {
    let pool = Pool::new(PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() }).expect("io_uring");
    let settings = HostSettings::random().expect("random");
    let refused = Host::start_with(pool.reactors(), settings, Box::new(MemoryStore::default()));
    assert!(matches!(refused, Err(HostError::NothingOutlives)));
    pool.shutdown(WITHIN).expect("in order");
}

#[test]
fn a_listener_that_does_not_read_is_let_go_at_its_bound_and_others_are_not() {
    let (pool, host) = host();
    let (idle, busy) = (host.subscribe(), host.subscribe());
    let subnqn = Nqn::new("nqn.2014-08.org.example:s").expect("valid");
    // Nobody answers there; it is only there to have its settings changed.
    let ctrl = host.connect(ControllerSpec::new("127.0.0.1", 1, subnqn)).expect("accepted");
    let rounds = 8;
    let each = EVENTS_BEHIND / (rounds - 1);
    let mut read: usize = 0;
    for _ in 0..rounds {
        let asked = host.ask(move |control, now| {
            for seconds in 0..each {
                let delay = Duration::from_secs(1 + seconds as u64 % 60);
                control.set(now, ctrl, Setting::ReconnectDelay(delay)).expect("may be set");
            }
        });
        asked.expect("it answers");
        read += each;
        while read > 0 {
            let event = busy.recv_timeout(WITHIN).expect("one that reads misses nothing");
            read -= usize::from(matches!(event.kind, EventKind::SettingChanged { .. }));
        }
    }
    assert_eq!(idle.try_iter().count(), EVENTS_BEHIND);
    assert_eq!(idle.recv_timeout(WITHIN).err(), Some(RecvTimeoutError::Disconnected));
    host.shutdown(WITHIN).expect("ends");
    pool.shutdown(WITHIN).expect("in order");
}

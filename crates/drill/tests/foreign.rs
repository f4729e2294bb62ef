//! The drill for foreign targets, against a target of ours that is given no script, on reactors of its own.

use interlock_api::{DetectedHow, DrillReport, Method, Verdict};
use interlock_drill::{
    Consent, Fencing, Foreign, ForeignError, Options, Plan, Progress, Scenario, Side, drill_foreign,
};
use interlock_host::{ControllerSpec, Host, HostSettings, Nqn, Outcome, Pool, PoolConfig};
use interlock_target::config::{Ana, Backing, Config, NamespaceConfig, PortConfig, SAMPLE_NQN};
use interlock_target::{Fault, PortId, Target};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(10);
const SHORT_KEEP_ALIVE: Duration = Duration::from_millis(1500);
const BLOCKS: u64 = 4096;
const BLOCK: u32 = 4096;

struct Peer {
    pool: Pool,
    target: Target,
}

impl Peer {
    fn start() -> Self {
        Self::with(Config::default())
    }

    /// With settings of its own, beside ports, namespace and name.
    fn with(config: Config) -> Self {
        let pool =
            Pool::new(PoolConfig { reactors: 1, name: "peer".into(), ..PoolConfig::default() }).expect("a thread");
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let backing = Backing::Memory { bytes: BLOCKS * u64::from(BLOCK) };
        let config = Config {
            ports: vec![PortConfig { listen, ana: Ana::Optimized }; 2],
            namespaces: vec![NamespaceConfig { nsid: Some(1), block_size: BLOCK, ..NamespaceConfig::new(backing) }],
            nqn: Some(SAMPLE_NQN.into()),
            ..config
        };
        let target = Target::start(pool.reactors(), &config).expect("the target starts");
        Self { pool, target }
    }

    fn foreign(&self, consent: Consent) -> Foreign {
        let subnqn = Nqn::new(SAMPLE_NQN).expect("the default NQN is one");
        Foreign { targets: self.target.ports().to_vec(), subnqn, nsid: None, consent, identity: None }
    }

    /// Writes, and reads the same blocks, straight to the target.
    fn touch(&self, lba: u64, byte: Option<u8>) -> Vec<u8> {
        let pool = Pool::new(PoolConfig { reactors: 1, ..PoolConfig::default() }).expect("a thread");
        let host = Host::start(pool.reactors(), HostSettings::random().expect("chance")).expect("a host");
        let events = host.subscribe();
        let addr = self.target.ports()[0];
        let subnqn = Nqn::new(SAMPLE_NQN).expect("the default NQN is one");
        host.connect_and_wait(ControllerSpec::new(addr.ip().to_string(), addr.port(), subnqn), WITHIN)
            .expect("connects");
        let namespace = loop {
            match host.namespace(SAMPLE_NQN, 1) {
                Ok(namespace) => break namespace,
                Err(_) => drop(events.recv_timeout(WITHIN).expect("something happens")),
            }
        };
        if let Some(byte) = byte {
            let mut buf = namespace.buffer(1);
            buf.get_mut().expect("a fresh buffer has one holder").fill(byte);
            assert_eq!(namespace.write(lba, buf).wait().0, Outcome::Ok);
        }
        let (outcome, buf) = namespace.read(lba, 1).wait();
        assert_eq!(outcome, Outcome::Ok);
        let bytes = buf.expect("it comes back").as_slice().to_vec();
        host.shutdown(WITHIN).expect("ends");
        drop((namespace, host));
        pool.shutdown(WITHIN).expect("ends");
        bytes
    }

    fn stop(self) {
        self.target.shutdown(WITHIN).expect("ends");
        self.pool.shutdown(WITHIN).expect("ends");
    }
}

#[expect(clippy::print_stdout, reason = "the harness shows it only if a test fails")]
fn play(peer: &Peer, name: &str, fencing: Fencing, options: &Options) -> DrillReport {
    let scenario = Scenario::foreign(name).expect("it is one of ours");
    let mut log = Vec::new();
    let plan = [Plan { scenario, fencing }];
    let report =
        drill_foreign(&plan, &peer.foreign(Consent::Blank), options, &mut |step| log.push(format!("{step:?}")))
            .expect("the drill begins");
    println!("{}\n{report:#?}", log.join("\n"));
    report
}

#[test]
fn a_host_that_fences_is_safe_and_the_report_says_how_far_that_reaches() {
    let peer = Peer::start();
    for name in ["foreign-reset", "foreign-silent"] {
        let report = play(&peer, name, Fencing::Strict, &Options { digests: true, ..Options::default() });
        let result = &report.scenarios[0];
        assert_eq!((result.verdict, report.exit_code), (Verdict::Safe, 0), "{name}: {:?}", result.reasons);
        assert_eq!(result.fence.as_ref().map(|fence| fence.method), Some(Method::Immediate), "{name}");
        assert!(result.ghosts.stopped >= 8 && result.ghosts.stopped == result.ghosts.armed, "{:?}", result.ghosts);
        let reach = result.reach.as_ref().expect("the target is foreign");
        assert_eq!(reach.exercised.len(), 2, "whole capsules and half a transfer: {reach:?}");
        assert_eq!(reach.not_exercised, ["commands delayed inside the target"]);
        assert_eq!(report.target.as_ref().map(|target| target.paths.len()), Some(2));
    }
    peer.stop();
}

#[test]
fn a_host_that_does_not_fence_is_caught_with_the_stale_block_named_and_blank_blocks_stay_blank() {
    let peer = Peer::start();
    let report = play(&peer, "foreign-reset", Fencing::Legacy, &Options::default());
    let result = &report.scenarios[0];
    assert_eq!((result.verdict, report.exit_code), (Verdict::Unsafe, 1), "{:?}", result.reasons);
    assert!(result.ghosts.executed >= 8 && result.ghosts.stopped == 0, "{:?}", result.ghosts);
    let stale = result.stale.first().expect("a stale block is named");
    assert!(stale.text.contains(&format!("LBA {}", stale.lba)), "{}", stale.text);
    assert!(peer.touch(stale.lba, None).iter().all(|byte| *byte == 0), "blank as before");
    peer.stop();
}

/// A command carries two blocks of the namespace at most.
#[test]
fn a_target_of_small_transfers_is_drilled_in_small_commands() {
    let peer = Peer::with(Config { max_transfer_kib: 8, ..Config::default() });
    let report = play(&peer, "foreign-reset", Fencing::Strict, &Options::default());
    let result = &report.scenarios[0];
    assert_eq!((result.verdict, report.exit_code), (Verdict::Safe, 0), "{:?}", result.reasons);
    peer.stop();
}

/// A host that does not fence must be caught, also if the target gives a silent host up soon. Here it ends the connections
/// of the path a while after that went silent, as a target does whose Keep Alive Timeout is shorter than the host's.
#[test]
fn a_host_that_does_not_fence_is_caught_although_the_target_has_a_short_keep_alive() {
    let peer = Peer::start();
    let scenario = Scenario::foreign("foreign-silent").expect("it is one of ours");
    let plan = [Plan { scenario, fencing: Fencing::Legacy }];
    let mut silent_since = None;
    let report = drill_foreign(&plan, &peer.foreign(Consent::Blank), &Options::default(), &mut |step| match step {
        Progress::Happened { side: Side::Drill, text, .. } if text.contains("dead without a word") => {
            silent_since = Some(Instant::now());
        }
        // Something happens all the time: the other path serves.
        _ if silent_since.is_some_and(|since| since.elapsed() > SHORT_KEEP_ALIVE) => {
            silent_since = None;
            peer.target.script(Fault::ResetConnections { port: PortId(0) });
        }
        _ => {}
    })
    .expect("the drill begins");
    let result = &report.scenarios[0];
    assert_eq!((result.verdict, report.exit_code), (Verdict::Unsafe, 1), "{:?}", result.reasons);
    assert!(result.detection.is_some_and(|found| found.how == DetectedHow::CommandTimeout), "{:?}", result.detection);
    peer.stop();
}

#[test]
fn a_namespace_with_data_is_not_touched_unless_that_was_asked_for() {
    let peer = Peer::start();
    let data = peer.touch(BLOCKS - 1, Some(0xa5));
    let plan = [Plan { scenario: Scenario::foreign("foreign-reset").expect("one of ours"), fencing: Fencing::Legacy }];
    let options = Options::default();
    let error = drill_foreign(&plan, &peer.foreign(Consent::Blank), &options, &mut |_| {}).expect_err("it holds data");
    assert!(matches!(error, ForeignError::HoldsData { nsid: 1, lba, .. } if lba == BLOCKS - 1), "{error}");
    for told in [SAMPLE_NQN, "namespace 1", &format!("LBA {}", BLOCKS - 1), &format!("{}", BLOCKS * u64::from(BLOCK))] {
        assert!(error.to_string().contains(told), "`{told}` in: {error}");
    }
    assert_eq!(peer.touch(BLOCKS - 1, None), data);
    let report = drill_foreign(&plan, &peer.foreign(Consent::Destroy), &options, &mut |_| {}).expect("it was allowed");
    assert_eq!(report.verdict, Verdict::Unsafe);
    peer.stop();
}

#[test]
fn what_cannot_be_drilled_is_said_beforehand() {
    let peer = Peer::start();
    let plan = [Plan { scenario: Scenario::foreign("foreign-reset").expect("one of ours"), fencing: Fencing::Strict }];
    let refused = |foreign: &Foreign| {
        drill_foreign(&plan, foreign, &Options::default(), &mut |_| {}).expect_err("it cannot be").to_string()
    };
    let foreign = peer.foreign(Consent::Blank);
    let one = Foreign { targets: foreign.targets[..1].to_vec(), ..foreign.clone() };
    assert!(refused(&one).contains("two paths"), "{}", refused(&one));
    let missing = refused(&Foreign { nsid: Some(7), ..foreign });
    assert!(missing.contains("no namespace 7") && missing.contains("it has 1"), "{missing}");
    peer.stop();
}

//! The association against a scripted controller: success, and every way to fail.
#![allow(clippy::unwrap_used)] // a test that unwraps nothing fails

mod common;

use core::time::Duration;
use interlock_base::Instant;
use interlock_proto::DataError;
use interlock_proto::host::{
    Association, AssociationConfig, Assumption, ConnectError, Fact, Facts, Kind, Step, Uniquifier,
};
use interlock_wire::IntoBytes;
use interlock_wire::admin::{self, EventMask, QueueCount};
use interlock_wire::ana;
use interlock_wire::fabrics::{
    self, Cap, Cc, Connect, ConnectAnswer, Csts, InvalidParameter, PropertyGet, PropertySet,
};
use interlock_wire::identify::{CMIC_ANA, CTRATT_TBKAS, IdentifyController};
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::property::{self, Version};
use interlock_wire::sqe::{Cqe, Sqe};
use interlock_wire::status::Status;

const CNTLID: u16 = 7;

/// What one controller answers.
struct Script {
    cap: Cap,
    vs: Version,
    identify: IdentifyController,
    /// Looks at CSTS until it is ready; `None` never.
    ready_after: Option<u32>,
    fatal: bool,
    /// What Get Features, Keep Alive Timer, is answered with, one after the other; the last one from then on.
    kato: Vec<Result<u32, Status>>,
    /// What Set Features, Asynchronous Event Configuration, is answered with.
    events: Status,
    connect: Result<ConnectAnswer, (Status, u32)>,
    queues: Result<u16, Status>,
    log: ana::Log,
    looks: u32,
    asked: Vec<&'static str>,
}

impl Script {
    fn new() -> Self {
        let mut identify = IdentifyController::default();
        identify.cntlid.set(CNTLID);
        identify.kas.set(10);
        identify.maxcmd.set(128);
        identify.set_in_capsule_io(4096);
        identify.ctratt.set(CTRATT_TBKAS);
        identify.oaes.set((EventMask::NAMESPACE | EventMask::ANA).bits());
        identify.cqt.set(1500);
        identify.ccrl = 4;
        identify.ciu = 3;
        identify.cirn.set(0x1234_5678_9abc_def0);
        identify.mdts = 5;
        identify.cntrltype = 1;
        identify.lpa = 1 << 2;
        identify.subnqn = config().subnqn.to_field();
        Self {
            vs: Version(0x0002_0100),
            cap: Cap::new(255, Duration::from_secs(1)),
            identify,
            ready_after: Some(0),
            fatal: false,
            kato: vec![Ok(8000)],
            events: Status::SUCCESS,
            connect: Ok(ConnectAnswer {
                cntlid: CNTLID,
                authentication_required: false,
                secure_channel_required: false,
            }),
            queues: Ok(16),
            log: ana::Log::default(),
            looks: 0,
            asked: Vec::new(),
        }
    }

    fn with_ana(mut self, namespaces: u32) -> Self {
        self.identify.cmic = CMIC_ANA;
        self.identify.nanagrpid.set(2);
        self.identify.mnan.set(namespaces);
        self.identify.nn.set(namespaces);
        let group = |id, state, nsids| ana::Group { id, change_count: 1, state, nsids };
        self.log = ana::Log {
            change_count: 5,
            groups: vec![
                group(1, ana::State::ALL[0], (1..=namespaces).collect()),
                group(2, ana::State::ALL[1], Vec::new()),
            ],
        };
        self
    }

    fn answer(&mut self, sqe: &Sqe, into: u32) -> (Cqe, Vec<u8>) {
        let ok = Cqe::new(0, 0, Status::SUCCESS);
        let status = |status| (Cqe::new(0, 0, status), Vec::new());
        if let Ok(command) = fabrics::Command::from_sqe(sqe) {
            return match command {
                fabrics::Command::Connect(connect) => {
                    self.asked.push("Connect");
                    assert_eq!(connect, Connect { qid: 0, sqsize: 31, sq_flow_control: false, kato_ms: 5000 });
                    match self.connect {
                        Ok(answer) => (ok.with_result(answer.to_dw0(), 0), Vec::new()),
                        Err((status, dw0)) => (Cqe::new(0, 0, status).with_result(dw0, 0), Vec::new()),
                    }
                }
                fabrics::Command::PropertyGet(PropertyGet { offset: property::CAP, .. }) => {
                    self.asked.push("CAP");
                    (ok.with_result(self.cap.0 as u32, (self.cap.0 >> 32) as u32), Vec::new())
                }
                fabrics::Command::PropertyGet(PropertyGet { offset: property::CRTO, .. }) => {
                    self.asked.push("CRTO");
                    (ok.with_result(8, 0), Vec::new())
                }
                fabrics::Command::PropertyGet(PropertyGet { offset: property::CSTS, .. }) => {
                    self.asked.push("CSTS");
                    self.looks += 1;
                    let ready = self.ready_after.is_some_and(|after| self.looks > after);
                    (ok.with_result(Csts(0).with_ready(ready).with_fatal(self.fatal).0, 0), Vec::new())
                }
                fabrics::Command::PropertyGet(PropertyGet { offset: property::VS, .. }) => {
                    self.asked.push("VS");
                    (ok.with_result(self.vs.0, 0), Vec::new())
                }
                fabrics::Command::PropertySet(PropertySet { offset: property::CC, value, .. }) => {
                    self.asked.push("CC");
                    assert!(Cc(value as u32).enabled());
                    (ok, Vec::new())
                }
                other => panic!("{other:?}"),
            };
        }
        match admin::Command::from_sqe(sqe).unwrap() {
            admin::Command::Identify(admin::Identify::Controller) => {
                self.asked.push("Identify");
                assert_eq!(into, 4096);
                (ok, self.identify.as_bytes().to_vec())
            }
            admin::Command::GetFeatures(get) => {
                self.asked.push("KATO");
                assert_eq!(get.fid, admin::FID_KEEP_ALIVE);
                let said = if self.kato.len() > 1 { self.kato.remove(0) } else { self.kato[0] };
                match said {
                    Ok(ms) => (ok.with_result(ms, 0), Vec::new()),
                    Err(error) => status(error),
                }
            }
            admin::Command::SetFeatures(set) if set.fid == admin::FID_QUEUES => {
                self.asked.push("queues");
                match self.queues {
                    Ok(count) => (ok.with_result(QueueCount::pairs(count).to_u32(), 0), Vec::new()),
                    Err(error) => status(error),
                }
            }
            admin::Command::SetFeatures(set) if set.fid == admin::FID_HOST_BEHAVIOR => {
                self.asked.push("behavior");
                status(Status::INVALID_FIELD)
            }
            admin::Command::SetFeatures(set) => {
                self.asked.push("events");
                assert_eq!(set.cdw11, EventMask::ANA.bits(), "wanted and there");
                status(self.events)
            }
            admin::Command::GetLog(get) => {
                self.asked.push("ANA");
                let mut page = self.log.encode(get.lsp & ana::LSP_GROUPS_ONLY != 0);
                page.resize(page.len().max(get.offset as usize + get.len as usize), 0);
                (ok, page[get.offset as usize..][..get.len as usize].to_vec())
            }
            other => panic!("{other:?}"),
        }
    }
}

fn config() -> AssociationConfig {
    let hostid: HostId = "7f1f0c1e-6f2b-4a55-9a43-0c6a2c9f2f11".parse().unwrap();
    AssociationConfig {
        hostnqn: Nqn::of_host(hostid),
        hostid,
        subnqn: Nqn::new("nqn.2014-08.org.example:one").unwrap(),
        kind: Kind::Io,
        kato_ms: 5000,
        admin_sqsize: 31,
        cntlid: 0xFFFF,
        io_queues_wanted: 4,
        want_events: EventMask::ANA | EventMask::CCR,
    }
}

/// Runs to the end; each question takes a millisecond.
fn run(config: AssociationConfig, script: &mut Script) -> Result<Box<Facts>, ConnectError> {
    let mut now = Instant::ZERO;
    let mut association = Association::new(config);
    let mut step = association.start();
    for _ in 0..10_000 {
        now += Duration::from_millis(1);
        step = match step {
            Step::Live(facts) => return Ok(facts),
            Step::Wait(time) => {
                now += time;
                association.handle_waited(now)?
            }
            Step::Ask(command) => {
                if association.step() == "Connect" {
                    let data = fabrics::ConnectData::decode(&command.out).unwrap();
                    assert_eq!(data.subnqn().unwrap().as_str(), "nqn.2014-08.org.example:one");
                }
                let (cqe, data) = script.answer(&command.sqe, command.into);
                association.handle_answer(now, &cqe, &data, None)?
            }
        };
    }
    panic!("no end");
}

#[test]
fn a_controller_comes_up_and_tells_what_it_is() {
    let mut script = Script { ready_after: Some(3), ..Script::new().with_ana(8) };
    let facts = run(config(), &mut script).unwrap();
    assert_eq!(
        script.asked,
        ["Connect", "CAP", "CC", "CSTS", "CSTS", "CSTS", "CSTS", "VS", "Identify", "KATO", "queues", "events", "ANA"]
    );
    assert_eq!(facts.cntlid, CNTLID);
    assert_eq!(facts.kato, Fact::Stated(Duration::from_secs(8)), "the larger one");
    assert_eq!(facts.io_queues, 4, "not more than wanted");
    assert_eq!(facts.sqsize_max, 127, "MAXCMD is the smaller limit");
    assert_eq!(facts.in_capsule_io, 4096);
    assert_eq!(facts.max_transfer, Some(128 * 1024));
    assert_eq!(facts.tbkas, Fact::Stated(()));
    assert_eq!((facts.cqt, facts.ccrl), (Fact::Stated(Duration::from_millis(1500)), Fact::Stated(4)));
    assert_eq!(facts.uniquifier, Fact::Stated(Uniquifier { ciu: 3, cirn: 0x1234_5678_9abc_def0 }));
    assert_eq!(facts.events, Fact::Stated(EventMask::ANA));
    assert_eq!(facts.ana.unwrap(), script.log);
}

#[test]
fn optional_steps_may_be_missing() {
    let mut script = Script { kato: vec![Err(Status::INVALID_FIELD.with_dnr())], ..Script::new() };
    let facts =
        run(AssociationConfig { want_events: EventMask::empty(), io_queues_wanted: 0, ..config() }, &mut script);
    let facts = facts.unwrap();
    assert_eq!(script.asked, ["Connect", "CAP", "CC", "CSTS", "VS", "Identify", "KATO", "KATO"]);
    assert_eq!(facts.kato.assumption(), Some(Assumption::KeepAliveNotReported), "what was asked for");
    assert_eq!((facts.ana, facts.events), (None, Fact::NotOffered));
}

#[test]
fn a_keep_alive_timeout_that_is_not_reported_is_rounded_up_and_assumed() {
    // KAS is in units of 100 ms.
    for (kas, assumed_ms) in [(10, 5000), (30, 6000), (100, 10_000), (51, 5100)] {
        let mut script = Script { kato: vec![Err(Status::INVALID_OPCODE)], ..Script::new() };
        script.identify.kas.set(kas);
        let assumed = Fact::Assumed(Duration::from_millis(assumed_ms), Assumption::KeepAliveNotReported);
        assert_eq!(run(config(), &mut script).unwrap().kato, assumed, "KAS {kas}");
    }
    // One wrong answer shortens nothing.
    let mut script = Script { kato: vec![Err(Status::INVALID_FIELD), Ok(10_000)], ..Script::new() };
    assert_eq!(run(config(), &mut script).unwrap().kato, Fact::Stated(Duration::from_secs(10)));
}

#[test]
fn what_could_not_be_read_fails_the_attempt_and_never_for_good() {
    let lasting = [Status::INTERNAL_ERROR, Status::COMMAND_INTERRUPTED, Status::TRANSIENT_TRANSPORT_ERROR];
    for status in lasting.into_iter().flat_map(|status| [status, status.with_dnr()]) {
        let once = |kato| failure(Script { kato, ..Script::new() });
        for error in [
            once(vec![Err(status)]),
            once(vec![Err(Status::INVALID_FIELD), Err(status)]),
            failure(Script { events: status, ..Script::new().with_ana(1) }),
            failure(Script { queues: Err(status), ..Script::new() }),
        ] {
            assert_eq!((error.status, error.permanent), (Some(status), false), "{error}");
            assert!(!error.hint.is_empty());
        }
    }
    let silent = Status::FEATURE_NOT_CHANGEABLE;
    let facts = run(config(), &mut Script { events: silent, ..Script::new().with_ana(1) }).unwrap();
    assert_eq!(facts.events, Fact::NotOffered, "a controller without events says so, and is looked at by time");
}

#[test]
fn a_controller_with_retry_delays_is_told_that_they_are_honoured() {
    let mut script = Script::new();
    script.identify.crdt[0].set(3);
    run(config(), &mut script).unwrap();
    let at = script.asked.iter().position(|asked| *asked == "behavior").expect("told");
    assert_eq!(script.asked[at + 1], "queues", "one that does not want to know is none the worse");
    let data = admin::HostBehavior { retry_delays: true }.encode();
    assert_eq!(admin::HostBehavior::parse(&data), Some(admin::HostBehavior { retry_delays: true }));
    assert_eq!((data.len(), data[0], admin::HostBehavior::parse(&data[1..])), (512, 1, None));
}

#[test]
fn a_controller_whose_keep_alive_is_off_is_believed() {
    let mut script = Script { kato: vec![Ok(0)], ..Script::new() };
    assert_eq!(
        run(config(), &mut script).unwrap().kato,
        Fact::Stated(Duration::ZERO),
        "it would never notice the loss of this host"
    );
}

#[test]
fn crto_is_read_where_the_controller_has_it() {
    let mut script = Script { cap: Cap(Cap::new(255, Duration::from_secs(1)).0 | 1 << 59), ..Script::new() };
    script.ready_after = None;
    let error = run(config(), &mut script).unwrap_err();
    assert_eq!(script.asked[2], "CRTO");
    assert_eq!(error.why, "it was not ready within the 4000 ms it stated");
}

#[test]
fn of_a_long_ana_log_the_groups_are_read() {
    for (namespaces, mdts) in [(20_000, 5), (200_000, 5), (2_000, 1)] {
        let mut script = Script::new().with_ana(namespaces);
        script.identify.mdts = mdts;
        let log = run(config(), &mut script).unwrap().ana.unwrap();
        let states = |log: &ana::Log| log.groups.iter().map(|group| (group.id, group.state)).collect::<Vec<_>>();
        assert_eq!((log.change_count, states(&log)), (5, states(&script.log)));
        assert_eq!(script.asked.iter().filter(|asked| **asked == "ANA").count(), 1);
    }
}

fn failure(script: Script) -> ConnectError {
    let mut script = script;
    run(config(), &mut script).unwrap_err()
}

#[test]
fn refusals_name_the_step_the_reason_and_whether_to_retry() {
    let wrong_nqn = (Status::CONNECT_INVALID_PARAMETERS.with_dnr(), InvalidParameter::SUBNQN.to_dw0());
    let busy = (Status::CONNECT_CONTROLLER_BUSY, 0);
    let stranger = (Status::CONNECT_INVALID_HOST, 0);
    let needs_auth = (Status::AUTHENTICATION_REQUIRED.with_dnr(), 0);
    let table = [
        (wrong_nqn, true, "Connect: the target refuses the subsystem NQN"),
        (
            busy,
            false,
            "Connect: the target answered: Connect Controller Busy, or Invalid Protection Information (181h)",
        ),
        (stranger, true, "Connect: the target answered: Connect Invalid Host (184h)"),
        (
            needs_auth,
            true,
            "authentication: the controller demands authentication, which this host does not support yet",
        ),
    ];
    let silent = failure(Script { connect: Err((Status::CONNECT_INVALID_PARAMETERS, 0)), ..Script::new() });
    assert_eq!(silent.to_string(), "Connect: the target refuses a parameter, and does not say which");
    let full = failure(Script { connect: Err((Status::CONNECT_CONTROLLER_BUSY.with_dnr(), 0)), ..Script::new() });
    assert!(full.permanent && !full.hint.contains("may be retried"), "it does not contradict itself: {}", full.hint);
    for (answer, permanent, text) in table {
        let error = failure(Script { connect: Err(answer), ..Script::new() });
        assert_eq!(error.to_string(), text);
        assert_eq!(error.permanent, permanent, "{text}");
        assert_eq!(error.status, Some(answer.0));
        assert!(!error.hint.is_empty());
    }
}

#[test]
fn demanded_authentication_is_one_clear_error() {
    for (authentication_required, secure_channel_required) in [(true, false), (false, true)] {
        let connect = Ok(ConnectAnswer { cntlid: CNTLID, authentication_required, secure_channel_required });
        let error = failure(Script { connect, ..Script::new() });
        assert_eq!(error.step, "authentication");
        assert!(error.permanent);
    }
}

#[test]
fn a_controller_that_never_gets_ready_ends_by_its_own_timeout() {
    let error = failure(Script { ready_after: None, ..Script::new() });
    assert_eq!(
        error.to_string(),
        "waiting for the controller to become ready: it was not ready within the 1000 ms it stated"
    );
    assert!(!error.permanent);
    let error = failure(Script { fatal: true, ..Script::new() });
    assert!(error.why.contains("CSTS.CFS"));
}

#[test]
fn a_controller_that_cannot_be_used_is_refused() {
    let mut discovery = Script::new();
    discovery.identify.cntrltype = 2;
    let mut silent = Script::new();
    silent.identify.kas.set(0);
    let mut offset = Script::new();
    offset.identify.icdoff.set(4);
    for (script, word) in [(discovery, "discovery"), (silent, "Keep Alive"), (offset, "offset")] {
        let error = failure(script);
        assert_eq!(error.step, "Identify Controller");
        assert!(error.why.contains(word), "{error}");
        assert!(error.permanent);
    }
    // What contradicts may have been wrong once: refused, and tried again.
    let mut other = Script::new();
    other.identify.cntlid.set(CNTLID + 1);
    let mut moved = Script::new();
    moved.identify.subnqn = [0xFF; 256];
    let mut subsystem = Script::new();
    subsystem.identify.subnqn = Nqn::new("nqn.2014-08.org.example:two").unwrap().to_field();
    for (script, word) in [(other, "controller 0x0008"), (moved, "does not say"), (subsystem, "org.example:two")] {
        let error = failure(script);
        assert!(error.why.contains(word) && !error.permanent, "{error}");
    }
    // A page that names no subsystem is not whole: everything that it says by 0 would be a guess.
    let mut empty = Script::new();
    empty.identify = IdentifyController::default();
    empty.identify.cntlid = Script::new().identify.cntlid;
    let mut cut = Script::new();
    cut.identify.subnqn = [0; 256];
    for script in [empty, cut] {
        let error = failure(script);
        assert!(error.why.contains("empty or cut off") && !error.permanent, "{error}");
    }
    let mut old = Script::new();
    (old.vs, old.identify.subnqn) = (Version(0x0001_0200), [0; 256]);
    let facts = run(config(), &mut old).expect("it had not to name one");
    assert_eq!(facts.subnqn, Fact::Assumed(config().subnqn, Assumption::SubsystemNotNamed));
    assert_eq!(facts.tbkas, Fact::Stated(()), "what it says is said");
    // What its zeroes deny may be cut off: a hold reckons with it, and Keep Alive does not rely on it.
    old.identify.ctratt.set(0);
    let facts = run(config(), &mut old).expect("it had not to name one");
    assert_eq!((facts.tbkas, facts.tbkas.stated()), (Fact::Assumed((), Assumption::PageNotShownWhole), None));
    let mut whole = Script::new();
    whole.identify.ctratt.set(0);
    assert_eq!(run(config(), &mut whole).expect("fine").tbkas, Fact::NotOffered);
    // One half of a name is none.
    for (ciu, cirn) in [(0, 9), (3, 0), (0, 0)] {
        let mut script = Script::new();
        script.identify.ciu = ciu;
        script.identify.cirn.set(cirn);
        let facts = run(config(), &mut script).expect("it cannot be reset, and is used");
        assert_eq!((facts.uniquifier, facts.instance().cirn), (Fact::NotOffered, cirn));
    }
    let error = failure(Script { queues: Err(Status::INTERNAL_ERROR), ..Script::new() });
    assert_eq!(error.to_string(), "asking for I/O queues: the controller answered: Internal Error (006h)");
    assert!(!error.permanent);
}

#[test]
fn bad_data_is_not_believed() {
    let mut association = Association::new(config());
    let mut script = Script::new();
    let mut step = association.start();
    while association.step() != "Identify Controller" {
        let Step::Ask(command) = &step else { panic!("{step:?}") };
        let (cqe, data) = script.answer(&command.sqe, command.into);
        step = association.handle_answer(Instant::ZERO, &cqe, &data, None).unwrap();
    }
    let cqe = Cqe::new(0, 0, Status::SUCCESS);
    let mut short = association.clone();
    let error = association.handle_answer(Instant::ZERO, &cqe, &[0; 4096], Some(DataError::Digest)).unwrap_err();
    assert!(error.why.contains("digest") && !error.permanent);
    let error = short.handle_answer(Instant::ZERO, &cqe, &[0; 100], None).unwrap_err();
    assert!(error.why.contains("less data"));
}

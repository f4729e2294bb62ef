//! A probe against a small scripted controller, in memory.

use super::*;
use crate::{ConnectionEnd, Fact};
use alloc::string::String;
use alloc::vec;
use core::net::SocketAddr;
use interlock_proto::target::{self, Transfer};
use interlock_wire::IntoBytes;
use interlock_wire::admin::{Command, FID_ASYNC_EVENTS, FID_QUEUES, QueueCount};
use interlock_wire::ana;
use interlock_wire::discovery::{Family, Kind as RecordKind, Log, Record, SecureChannel, Security};
use interlock_wire::fabrics::{self, Cap, ConnectAnswer, ConnectData, Csts, InvalidParameter};
use interlock_wire::identify::{CMIC_ANA, CNTRLTYPE_DISCOVERY, IdentifyController, encode_list, text_field};
use interlock_wire::log;
use interlock_wire::property;
use interlock_wire::status::Status;

const SUBNQN: &str = "nqn.2026-11.io.example:disk";

fn nqn(text: &str) -> Nqn {
    Nqn::new(text).expect("a valid name")
}

fn config(goal: Goal) -> ProbeConfig {
    ProbeConfig {
        dial: Dial {
            addr: SocketAddr::from(([192, 0, 2, 1], 4420)),
            local: None,
            iface: None,
            user_timeout: Duration::from_secs(5),
        },
        hostnqn: nqn("nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"),
        hostid: HostId([1; 16]),
        subnqn: if goal == Goal::Subsystem { nqn(SUBNQN) } else { Nqn::discovery() },
        goal,
        kato: Duration::from_secs(5),
        hdgst: false,
        ddgst: false,
        timeouts: Timeouts::default(),
    }
}

fn record(n: u16) -> Record {
    Record {
        kind: RecordKind::Nvm,
        family: Family::Ipv4,
        traddr: "192.0.2.1".into(),
        trsvcid: 4420 + n,
        subnqn: nqn(SUBNQN),
        portid: n,
        cntlid: 0xFFFF,
        asqsz: 32,
        eflags: 0,
        secure_channel: SecureChannel::NotRequired,
        may_disable_sq_flow_control: true,
        security: Security::None,
    }
}

/// A controller that does as it is told.
struct Fake {
    queue: target::Queue,
    identify: IdentifyController,
    /// Answer to Connect: status and DW0.
    connect: (Status, u32),
    cc: u32,
    namespaces: Vec<u32>,
    records: Vec<Record>,
    generation: u64,
    /// The log grows by one record whenever its header was read, this many times.
    unsteady: u8,
    /// Does not answer from this command on.
    mute_after: Option<usize>,
    /// The event request that waits.
    event: Option<u16>,
    heard: Vec<String>,
}

impl Fake {
    fn new(goal: Goal) -> Self {
        let mut identify = IdentifyController {
            sn: text_field("S1"),
            mn: text_field("Fake"),
            cmic: if goal == Goal::Subsystem { CMIC_ANA } else { 0 },
            cntrltype: if goal == Goal::Subsystem { CNTRLTYPE_IO } else { CNTRLTYPE_DISCOVERY },
            ciu: 3,
            ccrl: 4,
            subnqn: if goal == Goal::Subsystem { nqn(SUBNQN) } else { Nqn::discovery() }.to_field(),
            ..IdentifyController::default()
        };
        identify.cntlid.set(7);
        identify.cirn.set(99);
        identify.kas.set(10);
        identify.cqt.set(1000);
        identify.nn.set(16);
        identify.nanagrpid.set(1);
        identify.oaes.set(EventMask::DISCOVERY.bits());
        let queue = target::Queue::new(target::QueueConfig {
            hdgst_allowed: false,
            ddgst_allowed: true,
            maxh2cdata: 8192,
            in_capsule_max: 8192,
            max_transfer: 1 << 20,
            slots: 64,
        });
        let connect =
            ConnectAnswer { cntlid: 7, authentication_required: false, secure_channel_required: false }.to_dw0();
        Self {
            queue,
            identify,
            connect: (Status::SUCCESS, connect),
            cc: 0,
            namespaces: vec![1, 4],
            records: (0..6).map(record).collect(),
            generation: 11,
            unsteady: 0,
            mute_after: None,
            event: None,
            heard: Vec::new(),
        }
    }

    fn handle(&mut self, event: target::Event) {
        match event {
            target::Event::Command { slot, transfer: Transfer::FromHost { len, .. }, .. } => {
                self.queue.receive(slot, Sink::Bytes(len));
            }
            target::Event::Arrived { slot, data, .. } => {
                let data = ConnectData::decode(&data).expect("a Connect");
                assert_eq!(data.cntlid.get(), CNTLID_DYNAMIC);
                let (status, dw0) = self.connect;
                self.heard.push(alloc::format!("connect {}", data.subnqn().expect("a name")));
                self.queue.connected(31, false, false);
                self.queue.respond(slot, status, dw0, 0, Source::None);
            }
            target::Event::Command { slot, sqe, transfer } => {
                if self.mute_after.is_some_and(|after| self.heard.len() >= after) {
                    return;
                }
                if sqe.opcode == admin::OPCODE_ASYNC_EVENT {
                    assert!(self.event.replace(slot).is_none(), "one at a time");
                    return;
                }
                let (status, dw0, dw1, data) = self.answer(&sqe, transfer);
                self.queue.respond(slot, status, dw0, dw1, data);
            }
            _ => {}
        }
    }

    fn answer(&mut self, sqe: &Sqe, transfer: Transfer) -> (Status, u32, u32, Source) {
        let plain = |dw0| (Status::SUCCESS, dw0, 0, Source::None);
        if sqe.is_fabrics() {
            return match fabrics::Command::from_sqe(sqe).expect("a known command") {
                fabrics::Command::PropertyGet(get) => {
                    let value = match get.offset {
                        property::CAP => Cap::new(127, Duration::from_secs(1)).0,
                        property::VS => 0x0002_0300,
                        property::CC => self.cc.into(),
                        property::CSTS => Csts::default().with_ready(Cc(self.cc).enabled()).0.into(),
                        other => panic!("property {other:#x} is not asked for"),
                    };
                    self.heard.push(alloc::format!("get {:#x}", get.offset));
                    (Status::SUCCESS, value as u32, (value >> 32) as u32, Source::None)
                }
                fabrics::Command::PropertySet(set) => {
                    self.cc = set.value as u32;
                    self.heard.push(alloc::format!("set {:#x} {:?}", set.offset, Cc(self.cc).shutdown()));
                    plain(0)
                }
                other => panic!("{other:?} is not sent"),
            };
        }
        let command = Command::from_sqe(sqe).expect("a known command");
        self.heard.push(alloc::format!("{command:?}").split([' ', '{', '(']).next().unwrap_or_default().into());
        let page = match command {
            Command::Identify(Identify::Controller) => self.identify.as_bytes().to_vec(),
            Command::Identify(Identify::ActiveNamespaces { after: 0 }) => encode_list(self.namespaces.iter().copied()),
            Command::Identify(Identify::Namespace { nsid }) => {
                let mut namespace = IdentifyNamespace { nmic: 1, ..IdentifyNamespace::default() };
                namespace.nsze.set(u64::from(nsid) * 1000);
                namespace.ncap.set(u64::from(nsid) * 1000);
                namespace.lbaf[0].lbads = 12;
                namespace.anagrpid.set(1);
                namespace.as_bytes().to_vec()
            }
            Command::GetLog(get) if get.lid == log::LID_ANA => {
                let group = ana::Group { id: 1, change_count: 0, state: ana::State::Optimized, nsids: vec![1, 4] };
                log::slice(&ana::Log { change_count: 1, groups: vec![group] }.encode(false), &get, 1 << 20)
                    .expect("fits")
            }
            Command::GetLog(get) => {
                assert_eq!(get.lid, log::LID_DISCOVERY);
                let page = log::slice(&Log::encode(self.generation, &self.records), &get, 1 << 20).expect("fits");
                if get.offset == 0 && self.unsteady > 0 {
                    self.unsteady -= 1;
                    self.generation += 1;
                    self.records.push(record(self.records.len() as u16));
                }
                page
            }
            Command::GetFeatures(get) if get.fid == FID_KEEP_ALIVE => return plain(10_000),
            Command::KeepAlive => return plain(0),
            Command::SetFeatures(set) if set.fid == FID_ASYNC_EVENTS => {
                assert_eq!(set.cdw11, EventMask::DISCOVERY.bits());
                return plain(0);
            }
            Command::SetFeatures(set) if set.fid == FID_QUEUES => return plain(QueueCount::pairs(1).to_u32()),
            other => panic!("{other:?} is not asked"),
        };
        let Transfer::ToHost { len } = transfer else { panic!("{command:?} wants data") };
        assert_eq!(page.len(), len as usize);
        (Status::SUCCESS, 0, 0, Source::Bytes(page))
    }
}

struct Run {
    probe: Probe,
    now: Instant,
    done: Option<Result<Box<ProbeReport>, ProbeError>>,
    /// Records of the logs that a watch has told of.
    logs: Vec<usize>,
    actions: Vec<ConnAction>,
}

impl Run {
    fn new(config: ProbeConfig) -> Self {
        let mut run = Self {
            probe: Probe::new(config),
            now: Instant::from_millis(1),
            done: None,
            logs: Vec::new(),
            actions: Vec::new(),
        };
        run.probe.start(run.now);
        run.drain();
        run
    }

    fn up(mut self) -> Self {
        self.probe.handle_conn(self.now, ConnEvent::Up);
        self.drain();
        self
    }

    fn drain(&mut self) {
        while let Some(output) = self.probe.poll_output() {
            match output {
                ProbeOutput::Conn(action) => self.actions.push(action),
                ProbeOutput::Found(report) => match report.found {
                    Found::Discovery(log) => self.logs.push(log.entries.len()),
                    Found::Subsystem(_) => panic!("a log was asked for"),
                },
                ProbeOutput::Done(result) => assert!(self.done.replace(result).is_none(), "done once"),
            }
        }
    }

    fn sent(&mut self) -> Vec<u8> {
        let mut list = SendList::new();
        self.probe.poll_send(&mut list);
        self.probe.handle_given(list.bytes());
        list.headers
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut at = 0;
        // Split where a driver's buffer might end.
        for piece in bytes.chunks(1500) {
            let mut used = 0;
            while used < piece.len() {
                let taken = self.probe.handle_bytes(self.now, &piece[used..]);
                assert!(taken.place.is_none() && taken.used > 0);
                used += taken.used;
            }
            at += piece.len();
            self.drain();
        }
        assert_eq!(at, bytes.len());
    }

    /// Until nothing moves any more.
    fn with(self, fake: &mut Fake) -> Self {
        self.up().on_with(fake)
    }

    /// Goes on until nothing moves any more.
    fn on_with(mut self, fake: &mut Fake) -> Self {
        self.drain();
        for _ in 0..10_000 {
            let out = self.sent();
            let mut at = 0;
            while at < out.len() {
                let taken = fake.queue.handle_bytes(&out[at..]).expect("the host keeps to the protocol");
                at += taken.used;
                while let Some(event) = fake.queue.poll_event() {
                    fake.handle(event);
                }
            }
            let mut list = SendList::new();
            fake.queue.poll_send(&mut list);
            fake.queue.handle_given(list.bytes());
            while fake.queue.poll_event().is_some() {}
            self.hear(&list.headers);
            if out.is_empty() && list.is_empty() {
                return self;
            }
        }
        panic!("it goes on for ever");
    }

    fn time_out(mut self) -> Self {
        while let Some(at) = self.probe.next_deadline() {
            self.now = at;
            self.probe.handle_timeout(at);
            self.drain();
        }
        self
    }

    fn error(&self) -> &ProbeError {
        match &self.done {
            Some(Err(error)) => error,
            other => panic!("an error was expected: {other:?}"),
        }
    }

    fn report(&self) -> &ProbeReport {
        match &self.done {
            Some(Ok(report)) => report,
            other => panic!("a report was expected: {other:?}"),
        }
    }
}

#[test]
fn the_discovery_log_comes_whole_and_the_controller_is_shut_down() {
    let mut fake = Fake::new(Goal::Discovery);
    let run = Run::new(config(Goal::Discovery)).with(&mut fake);
    let Found::Discovery(log) = &run.report().found else { panic!("a log") };
    assert_eq!(log.generation, 11);
    let read: Vec<Record> = log.records().map(|record| record.expect("usable")).collect();
    assert_eq!(read, fake.records);
    assert_eq!(fake.heard.last().map(String::as_str), Some("set 0x14 Normal"));
    assert_eq!(run.actions.last(), Some(&ConnAction::Close(CONN)));
    assert_eq!(run.probe.next_deadline(), None, "nothing is left behind");
}

#[test]
fn an_empty_log_is_a_log() {
    let mut fake = Fake::new(Goal::Discovery);
    fake.records.clear();
    let run = Run::new(config(Goal::Discovery)).with(&mut fake);
    assert!(matches!(&run.report().found, Found::Discovery(log) if log.entries.is_empty()));
}

#[test]
fn a_log_that_changes_is_read_again_until_it_stands_still() {
    let mut fake = Fake::new(Goal::Discovery);
    // Every header read changes it, so each try sees two generations.
    fake.unsteady = 5;
    let run = Run::new(config(Goal::Discovery)).with(&mut fake);
    let Found::Discovery(log) = &run.report().found else { panic!("a log") };
    assert_eq!((log.generation, log.entries.len()), (16, 11));

    fake = Fake::new(Goal::Discovery);
    fake.unsteady = 2 * LOG_TRIES;
    let run = Run::new(config(Goal::Discovery)).with(&mut fake);
    assert_eq!(run.error(), &ProbeError::LogUnsteady { tries: LOG_TRIES });
}

#[test]
fn a_watch_reads_the_log_anew_when_it_changes_and_stays_until_it_is_ended() {
    let mut fake = Fake::new(Goal::Discovery);
    let mut run = Run::new(config(Goal::Watch)).with(&mut fake);
    assert_eq!((run.logs.as_slice(), &run.done), (&[6][..], &None));
    // It is kept alive at half of its time, far beyond the limits of a look.
    for _ in 0..100 {
        run.now = run.probe.next_deadline().expect("the next heartbeat");
        run.probe.handle_timeout(run.now);
        run = run.on_with(&mut fake);
    }
    assert!(run.now >= Instant::from_millis(100 * 2500) && run.done.is_none());
    assert_eq!(fake.heard.iter().filter(|heard| *heard == "KeepAlive").count(), 100);
    // Twice, as the event must be asked for again.
    for records in [7, 8] {
        fake.records.push(record(records));
        fake.generation += 1;
        let slot = fake.event.take().expect("it was asked for");
        fake.queue.respond(slot, Status::SUCCESS, AsyncEvent::DISCOVERY_CHANGED.to_dw0(), 0, Source::None);
        run = run.on_with(&mut fake);
    }
    assert_eq!(run.logs, [6, 7, 8]);
    run.probe.refresh(run.now);
    run = run.on_with(&mut fake);
    assert_eq!(run.logs, [6, 7, 8, 8]);
    run.probe.stop(run.now);
    run = run.on_with(&mut fake);
    assert!(matches!(run.done, Some(Ok(_))));
    assert_eq!(fake.heard.last().map(String::as_str), Some("set 0x14 Normal"));
    assert_eq!(run.probe.next_deadline(), None, "nothing is left behind");
}

#[test]
fn a_watch_notices_silence() {
    let mut fake = Fake::new(Goal::Discovery);
    let run = Run::new(config(Goal::Watch)).with(&mut fake).time_out();
    assert_eq!(run.error(), &ProbeError::TimedOut { step: "Keep Alive", within: Duration::from_secs(10) });
    // The controller took 10 s for the 5 s that were asked for.
    assert_eq!(run.now, Instant::from_millis(1 + 5_000 + 10_000));
}

#[test]
fn a_subsystem_says_what_a_failover_needs() {
    let mut fake = Fake::new(Goal::Subsystem);
    let run = Run::new(config(Goal::Subsystem)).with(&mut fake);
    let report = run.report();
    let Found::Subsystem(found) = &report.found else { panic!("a subsystem") };
    assert_eq!(found.kato_ms, Some(10_000));
    let blocks: Vec<(u32, u64)> = found.namespaces.iter().map(|ns| (ns.nsid, ns.geometry.blocks)).collect();
    assert_eq!(blocks, [(1, 1000), (4, 4000)]);
    let facts = report.life_facts();
    let identity = facts.identity;
    assert_eq!((identity.cntlid, identity.ciu, identity.cirn, facts.ccrl), (7, 3, 99, Fact::Stated(4)));
    let s = |s| Fact::Stated(Duration::from_secs(s));
    assert_eq!((facts.kato, facts.cqt), (s(10), s(1)));
    assert!(report.facts.ana.is_some());
    let connects = fake.heard.iter().filter(|heard| heard.starts_with("connect")).count();
    assert_eq!(connects, 1, "an admin queue only");
}

#[test]
fn each_refusal_has_its_own_sentence() {
    type Prepare = fn(&mut Fake);
    let cases: [(Goal, Prepare, &str); 7] = [
        (
            Goal::Subsystem,
            |fake| fake.connect = (Status::CONNECT_INVALID_PARAMETERS.with_dnr(), InvalidParameter::SUBNQN.to_dw0()),
            "there is no subsystem `nqn.2026-11.io.example:disk` on this port",
        ),
        (
            Goal::Discovery,
            |fake| fake.connect = (Status::CONNECT_INVALID_PARAMETERS.with_dnr(), InvalidParameter::SUBNQN.to_dw0()),
            "there is no discovery controller on this port",
        ),
        (
            Goal::Subsystem,
            |fake| fake.connect = (Status::CONNECT_INVALID_HOST.with_dnr(), 0),
            "the subsystem does not allow host `nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001`",
        ),
        (
            Goal::Subsystem,
            |fake| fake.connect.1 |= 1 << 17,
            "the target demands authentication (DH-HMAC-CHAP), which is not set up",
        ),
        (
            Goal::Subsystem,
            |fake| fake.connect = (Status::CONNECT_CONTROLLER_BUSY, 0),
            "Connect: the target answered: Connect Controller Busy, or Invalid Protection Information (181h)",
        ),
        (
            Goal::Subsystem,
            |fake| fake.identify.cntrltype = CNTRLTYPE_DISCOVERY,
            "Identify Controller: this is a discovery controller",
        ),
        (
            Goal::Discovery,
            |fake| fake.identify.cntrltype = CNTRLTYPE_IO,
            "there is no discovery controller on this port",
        ),
    ];
    for (goal, prepare, text) in cases {
        let mut fake = Fake::new(goal);
        prepare(&mut fake);
        let run = Run::new(config(goal)).with(&mut fake);
        assert_eq!(alloc::format!("{}", run.error()), text);
        assert!(run.error().hint().is_some(), "{text}: what next?");
        assert_eq!(run.actions.last(), Some(&ConnAction::Abort(CONN)));
    }
}

#[test]
fn the_discovery_name_is_no_subsystem() {
    let run = Run::new(ProbeConfig { subnqn: Nqn::discovery(), ..config(Goal::Subsystem) });
    assert_eq!(run.error(), &ProbeError::DiscoveryMeantAsIo);
    assert_eq!(run.actions, [], "nothing was opened");
}

#[test]
fn every_step_has_a_limit() {
    let dialing = Run::new(config(Goal::Discovery)).time_out();
    assert_eq!(alloc::format!("{}", dialing.error()), "no answer to TCP connect within 5 s");
    let greeting = Run::new(config(Goal::Discovery)).up().time_out();
    assert_eq!(greeting.error(), &ProbeError::Mute { within: Duration::from_secs(10) });
    // However far it got: either the answers are all there, or a step is named. It never hangs.
    let mut whole = Fake::new(Goal::Subsystem);
    let _ = Run::new(config(Goal::Subsystem)).with(&mut whole);
    let mut reported = 0;
    for after in 1..=whole.heard.len() {
        let mut fake = Fake::new(Goal::Subsystem);
        fake.mute_after = Some(after);
        let run = Run::new(config(Goal::Subsystem)).with(&mut fake).time_out();
        match run.done {
            Some(Ok(_)) => reported += 1,
            Some(Err(ProbeError::TimedOut { .. })) => assert_eq!(reported, 0, "a later step cannot undo the answers"),
            other => panic!("{after} answers, then silence: {other:?}"),
        }
    }
    assert_eq!(reported, 3, "silence at the goodbye costs nothing");
}

#[test]
fn other_protocols_are_recognised() {
    let cases: [(&[u8], &str); 4] = [
        (
            b"SSH-2.0-OpenSSH_9.6\r\n",
            "something answers here that does not speak NVMe/TCP: it said \"SSH-2.0-OpenSSH_\"",
        ),
        (b"\x15\x03\x03\x00\x02\x02\x46", "the target demands TLS, which was not offered"),
        (&[0xFF; 64], "something answers here that does not speak NVMe/TCP: "),
        (
            b"HTTP/1.1 400 Bad Request\r\n",
            "something answers here that does not speak NVMe/TCP: it said \"HTTP/1.1 400 Bad\"",
        ),
    ];
    for (bytes, text) in cases {
        let mut run = Run::new(config(Goal::Subsystem)).up();
        let _ = run.sent();
        run.hear(bytes);
        let run = if run.done.is_none() {
            run.probe.handle_conn(run.now, ConnEvent::Down(DownReason::Lost(ConnectionEnd::Closed)));
            run.drain();
            run
        } else {
            run
        };
        assert!(alloc::format!("{}", run.error()).starts_with(text), "{} / {text}", run.error());
    }
    // A peer that leaves the connection open is known as well, once its time is over.
    for (bytes, text) in
        [(&b"\x15\x03\x03\x00\x02\x02\x46"[..], "the target demands TLS"), (b"SSH-", "something answers")]
    {
        let mut run = Run::new(config(Goal::Subsystem)).up();
        let _ = run.sent();
        run.hear(bytes);
        run.now = run.probe.next_deadline().expect("it is bounded");
        run.probe.handle_timeout(run.now);
        run.drain();
        assert!(alloc::format!("{}", run.error()).starts_with(text), "{} / {text}", run.error());
    }
    let mut closed = Run::new(config(Goal::Subsystem)).up();
    closed.probe.handle_conn(closed.now, ConnEvent::Down(DownReason::Lost(ConnectionEnd::Closed)));
    closed.drain();
    assert!(matches!(closed.error(), ProbeError::HungUp { .. }));
}

#[test]
fn a_declined_digest_is_named() {
    let mut fake = Fake::new(Goal::Subsystem);
    let run = Run::new(ProbeConfig { hdgst: true, ..config(Goal::Subsystem) }).with(&mut fake);
    assert_eq!(
        alloc::format!("{}", run.error()),
        "the connection cannot be initialised: the controller declined the header digest"
    );
}

#[test]
fn an_unreachable_address_is_told_in_the_kernels_words() {
    let mut run = Run::new(config(Goal::Discovery));
    run.probe.handle_conn(run.now, ConnEvent::Down(DownReason::Unreachable("connection refused".into())));
    run.drain();
    assert_eq!(alloc::format!("{}", run.error()), "connection refused");
    assert!(run.error().hint().is_some());
}

#[test]
fn any_bytes_end_it_without_a_panic() {
    let mut rng = interlock_base::Rng::new(0x5eed);
    for _ in 0..2000 {
        let mut run = Run::new(config(Goal::Discovery)).up();
        let _ = run.sent();
        let bytes: Vec<u8> = (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect();
        run.hear(&bytes);
        let run = run.time_out();
        assert!(run.done.is_some_and(|done| done.is_err()));
    }
}

#[test]
fn limits_are_printed_shortly() {
    for (ms, text) in [(5000, "5 s"), (9999, "10 s"), (1500, "1.5 s"), (250, "0.25 s"), (4, "0 s")] {
        let error = ProbeError::Mute { within: Duration::from_millis(ms) };
        assert!(alloc::format!("{error}").ends_with(&alloc::format!("within {text}")), "{error}");
    }
}

//! The world around Control: ports with controllers, lanes, jobs, a clock.

use crate::poison::{Carried, Order, Report};
use crate::*;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_proto::target::{Event as TargetEvent, Queue, QueueConfig, Transfer};
use interlock_proto::{Segment, SendList, Sink, Source};
use interlock_wire::IntoBytes;
use interlock_wire::admin::{self, AsyncEvent};
use interlock_wire::ana;
use interlock_wire::ccr;
use interlock_wire::fabrics::{Cap, Cc, Command, Connect, ConnectAnswer, Csts, ShutdownStatus};
use interlock_wire::identify::{IdentifyController, IdentifyNamespace, NamespaceIds, encode_list, text_field};
use interlock_wire::log::{LID_ANA, LID_CHANGED_NAMESPACES};
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::property;
use interlock_wire::sqe::{Cqe, Sqe};
use interlock_wire::status::Status;

pub(super) const MS: Duration = Duration::from_millis(1);

/// How a controller answers CCR.
#[derive(Clone, Debug)]
pub(super) enum Ccr {
    Immediate,
    /// Accepted; the test completes it.
    Pending,
    Refuse(Status),
    /// No answer.
    Silent,
}

/// What a port does with whoever comes.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) open: bool,
    /// Takes everything, says nothing.
    pub(super) mute: bool,
    pub(super) connect: Status,
    pub(super) ccrl: u8,
    pub(super) ciu: u8,
    pub(super) cqt_ms: u16,
    /// What it says of its KATO in ms, if not what was asked for.
    pub(super) kato: Option<u32>,
    pub(super) tbkas: bool,
    pub(super) blocks: u64,
    /// Block size, 2^n.
    pub(super) lbads: u8,
    pub(super) ids: NamespaceIds,
    pub(super) nsids: Vec<u32>,
    /// Controller identifier of all that come, if not one each.
    pub(super) cntlid: Option<u16>,
    pub(super) serial: &'static str,
    pub(super) model: &'static str,
    /// What its ANA log says of the one group; `None`: it reports no ANA.
    pub(super) ana: Option<ana::State>,
    /// Admin commands that are answered so, this many times.
    pub(super) bad: Vec<Bad>,
    /// Namespaces that it could have.
    pub(super) mnan: u32,
    /// Change count of its ANA log.
    pub(super) ana_count: u64,
    /// Event requests are answered with this.
    pub(super) eventless: Option<Status>,
    /// Its namespaces and its ANA log cannot be read.
    pub(super) unreadable: bool,
    /// It is still ready after it was disabled.
    pub(super) stays_ready: bool,
    /// I/O queues that it grants; `None`: as many as are wanted.
    pub(super) grants: Option<u16>,
    pub(super) ccr: Ccr,
    /// Entries that new controllers of this port find in their log, and keep there.
    pub(super) stale: Vec<ccr::Entry>,
}

impl Default for Port {
    fn default() -> Self {
        Self {
            open: true,
            mute: false,
            connect: Status::SUCCESS,
            ccrl: 4,
            ciu: 0x5A,
            cqt_ms: 10,
            kato: None,
            tbkas: false,
            blocks: 1000,
            lbads: 12,
            ids: NamespaceIds { uuid: Some([9; 16]), ..NamespaceIds::default() },
            nsids: vec![1],
            cntlid: None,
            serial: "",
            model: "",
            ana: None,
            bad: Vec::new(),
            mnan: 0,
            ana_count: 1,
            eventless: None,
            unreadable: false,
            stays_ready: false,
            grants: None,
            ccr: Ccr::Immediate,
            stale: Vec::new(),
        }
    }
}

/// What goes wrong, how often, and how.
#[derive(Clone, Debug)]
pub(super) struct Bad {
    pub(super) what: fn(&admin::Command) -> bool,
    pub(super) status: Status,
    pub(super) times: u32,
}

struct Conn {
    port: u16,
    queue: Queue,
    inbox: Vec<u8>,
    cntlid: u16,
    connect: BTreeMap<u16, Sqe>,
    cc: Cc,
    kato: u32,
    log: Vec<ccr::Entry>,
    aer: Option<u16>,
}

/// What one lane heard and how it behaves.
#[derive(Default)]
pub(super) struct FakeLane {
    pub(super) heard: Vec<ToLane>,
    /// Said in answer to `Condemn`.
    pub(super) ledger: Vec<LedgerEntry>,
    pub(super) settled: usize,
    /// Said before that, and before `Drained`.
    pub(super) cached: Vec<CacheEntry>,
    /// Said before that, of the life that it names: what was outstanding there.
    pub(super) carried: Vec<LedgerEntry>,
    pub(super) keeps_guard_seen: bool,
    pub(super) keeps_condemned: bool,
    pub(super) keeps_quiet: bool,
    pub(super) keeps_drained: bool,
    pub(super) keeps_opening: bool,
}

pub(super) struct World {
    pub(super) control: Control,
    pub(super) now: Instant,
    pub(super) ports: BTreeMap<u16, Port>,
    conns: BTreeMap<ConnId, Conn>,
    pub(super) lanes: Vec<FakeLane>,
    pub(super) events: Vec<Event>,
    pub(super) jobs: Vec<Job>,
    pub(super) keeps_records: Option<JobId>,
    pub(super) keep_records: bool,
    /// Names are not looked up.
    pub(super) keep_names: bool,
    /// Connections neither open nor fail.
    pub(super) keep_opens: bool,
    /// Nobody says that an aborted socket is gone.
    pub(super) keep_aborts: bool,
    /// Nobody says whether this process is still the host.
    pub(super) keep_owner: bool,
    /// It is not.
    pub(super) disowned: bool,
    /// The store refuses to change a record that it has.
    pub(super) store_refuses: bool,
    /// The store refuses to record a life.
    pub(super) refuses_records: bool,
    /// CCR commands: the port they came through, and the life they name.
    pub(super) ccrs: Vec<(u16, ccr::Instance)>,
    /// Every admin command that a controller was given.
    pub(super) asked: Vec<Sqe>,
    pub(super) connects: Vec<Instant>,
    /// Lanes whose sockets of a life were to be aborted from outside, and when.
    pub(super) cuts: Vec<(Instant, LaneId, LifeId)>,
    /// When somebody tried to read what cannot be read.
    pub(super) reads: Vec<Instant>,
    /// The kernel refuses it.
    pub(super) keep_cuts: bool,
    /// Where the raw clock of the host stands.
    pub(super) raw_clock: fn(Instant) -> Instant,
    pub(super) aborts: Vec<admin::Abort>,
    next_cntlid: u16,
}

pub(super) fn nqn() -> Nqn {
    Nqn::new("nqn.2014-08.org.example:subsystem").expect("valid")
}

impl World {
    pub(super) fn new(lanes: u16, ports: &[u16]) -> Self {
        Self::with_seed(1, lanes, ports)
    }

    pub(super) fn with_seed(seed: u64, lanes: u16, ports: &[u16]) -> Self {
        let hostid = HostId([7; 16]);
        let config = HostConfig { hostnqn: Nqn::of_host(hostid), hostid, lanes, seed };
        Self {
            control: Control::new(config),
            now: Instant::from_millis(1_000),
            ports: ports.iter().map(|port| (*port, Port::default())).collect(),
            conns: BTreeMap::new(),
            lanes: (0..lanes).map(|_| FakeLane::default()).collect(),
            events: Vec::new(),
            jobs: Vec::new(),
            keeps_records: None,
            keep_records: false,
            keep_names: false,
            keep_opens: false,
            keep_aborts: false,
            keep_owner: false,
            disowned: false,
            store_refuses: false,
            refuses_records: false,
            ccrs: Vec::new(),
            asked: Vec::new(),
            connects: Vec::new(),
            cuts: Vec::new(),
            reads: Vec::new(),
            keep_cuts: false,
            raw_clock: |now| now,
            aborts: Vec::new(),
            next_cntlid: 1,
        }
    }

    pub(super) fn spec(port: u16) -> ControllerSpec {
        ControllerSpec::new("192.0.2.1", port, nqn())
    }

    pub(super) fn connect(&mut self, spec: ControllerSpec) -> CtrlId {
        let id = self.control.connect(self.now, spec).expect("accepted");
        self.run();
        id
    }

    /// Two paths of two ports, live.
    pub(super) fn two_paths(lanes: u16) -> (Self, CtrlId, CtrlId) {
        let mut world = Self::new(lanes, &[1, 2]);
        let a = world.connect(Self::spec(1));
        let b = world.connect(Self::spec(2));
        world.advance(1_500 * MS);
        (world, a, b)
    }

    pub(super) fn state(&self, ctrl: CtrlId) -> StateName {
        self.control.controllers().find(|info| info.id == ctrl).map(|info| info.state.name()).expect("known")
    }

    pub(super) fn life(&self, ctrl: CtrlId) -> LifeId {
        let state = self.control.controllers().find(|info| info.id == ctrl).map(|info| info.state).expect("known");
        state.life().expect("has a life")
    }

    pub(super) fn identity(&self, ctrl: CtrlId) -> Identity {
        let info = self.control.controllers().find(|info| info.id == ctrl).expect("known");
        info.facts.expect("live").identity
    }

    /// A write in doubt on `life`, as the lane would list it.
    pub(super) fn write(&self, life: LifeId, lane: u16, seq: u64) -> LedgerEntry {
        LedgerEntry {
            since: Instant::ZERO,
            key: GuardKey { seq, lane },
            life,
            head: self.control.heads().next().expect("a head").id,
            op: Op::Write { fua: false },
            range: seq * 8..seq * 8 + 8,
            abandoned: false,
        }
    }

    /// The lane's queue 1 of `life` is reset by the peer, with this in doubt.
    pub(super) fn lose(&mut self, life: LifeId, ledger: Vec<LedgerEntry>) {
        self.lanes[0].ledger = ledger;
        let why = DownReason::Lost(ConnectionEnd::Reset);
        self.say(0, ToControl::QueueDown { life, qid: 1, why });
    }

    pub(super) fn say(&mut self, lane: u16, message: ToControl) {
        self.control.handle_lane(self.now, LaneId(lane), message);
        self.run();
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        let mut last = (self.now, 0);
        while let Some(deadline) = self.control.next_deadline().filter(|deadline| deadline.at <= end) {
            self.now = self.now.max(deadline.at);
            last = if last.0 == self.now { (last.0, last.1 + 1) } else { (self.now, 0) };
            assert!(last.1 < 1_000, "time stands still: {:?}", deadline.why);
            self.control.handle_timeout(self.now);
            self.run();
        }
        self.now = end;
    }

    pub(super) fn run(&mut self) {
        while self.step() {}
    }

    /// Everybody once. False if nobody had anything to do.
    pub(super) fn step(&mut self) -> bool {
        let mut busy = false;
        while let Some(output) = self.control.poll_output() {
            busy = true;
            self.handle(output);
        }
        let conns: Vec<_> = self.conns.keys().copied().collect();
        for conn in conns {
            busy |= self.pump(conn);
        }
        busy
    }

    fn handle(&mut self, output: Output) {
        match output {
            Output::Conn(action) => self.handle_action(action),
            Output::ToLane(lane, message) => self.handle_to_lane(lane, message),
            Output::Job(id, job) => {
                let result = match &job {
                    Job::Resolve { port, .. } if *port == 99 => JobResult::Failed("no such name".to_string()),
                    // A name with two addresses, and the first leads nowhere.
                    Job::Resolve { port, .. } if *port == 98 => {
                        JobResult::Resolved(vec![([192, 0, 2, 1], 97).into(), ([192, 0, 2, 1], 1).into()])
                    }
                    Job::Resolve { port, .. } => JobResult::Resolved(vec![([192, 0, 2, 1], *port).into()]),
                    Job::ConfirmOwner if self.disowned => JobResult::Failed("the lock was replaced".to_string()),
                    Job::MarkClean(_) | Job::ForgetLife(_) if self.store_refuses => {
                        JobResult::Failed("the disk is full".to_string())
                    }
                    Job::RecordLife(_) if self.refuses_records => JobResult::Failed("the disk is full".to_string()),
                    _ => JobResult::Done,
                };
                let kept = (self.keep_records && matches!(job, Job::RecordLife(_)))
                    || (self.keep_owner && job == Job::ConfirmOwner)
                    || (self.keep_names && matches!(job, Job::Resolve { .. }));
                self.jobs.push(job);
                if kept {
                    self.keeps_records = Some(id);
                } else {
                    self.control.handle_job_done(self.now, id, result);
                }
            }
            Output::Event(event) => self.events.push(event),
            Output::RawClock(life) => {
                let raw = (self.raw_clock)(self.now);
                self.control.handle_raw_clock(self.now, life, raw);
            }
            Output::Cut(lane, life) => {
                self.cuts.push((self.now, lane, life));
                if !self.keep_cuts {
                    self.control.handle_cut(self.now, lane, life);
                }
            }
        }
    }

    fn handle_action(&mut self, action: ConnAction) {
        match action {
            ConnAction::Open(..) if self.keep_opens => {}
            ConnAction::Open(conn, dial) => {
                self.connects.push(self.now);
                let port = dial.addr.port();
                if !self.ports.get(&port).is_some_and(|port| port.open) {
                    let why = DownReason::Unreachable("connection refused".to_string());
                    self.control.handle_conn(self.now, conn, ConnEvent::Down(why));
                    return;
                }
                let config = QueueConfig {
                    hdgst_allowed: true,
                    ddgst_allowed: true,
                    maxh2cdata: 65_536,
                    in_capsule_max: 8_192,
                    max_transfer: 1 << 20,
                    slots: 32,
                };
                let cntlid = self.ports[&port].cntlid.unwrap_or(self.next_cntlid);
                self.next_cntlid += 1;
                self.conns.insert(
                    conn,
                    Conn {
                        port,
                        queue: Queue::new(config),
                        inbox: Vec::new(),
                        cntlid,
                        connect: BTreeMap::new(),
                        cc: Cc(0),
                        kato: 0,
                        log: self.ports[&port].stale.clone(),
                        aer: None,
                    },
                );
                self.control.handle_conn(self.now, conn, ConnEvent::Up);
            }
            ConnAction::Send(_) | ConnAction::StopSending(_) => {}
            ConnAction::WatchDrain(conn) => {
                // A mute peer acknowledges nothing.
                let mute = self.conns.get(&conn).is_some_and(|conn| self.ports[&conn.port].mute);
                if !mute {
                    self.control.handle_conn(self.now, conn, ConnEvent::SendQueueEmpty);
                }
            }
            ConnAction::Abort(conn) => {
                self.conns.remove(&conn);
                if !self.keep_aborts {
                    self.control.handle_conn(self.now, conn, ConnEvent::Aborted);
                }
            }
            ConnAction::Close(conn) => {
                self.conns.remove(&conn);
            }
        }
    }

    fn handle_to_lane(&mut self, lane: LaneId, message: ToLane) {
        let fake = &mut self.lanes[usize::from(lane.0)];
        fake.heard.push(message.clone());
        let mut say = Vec::new();
        match message {
            ToLane::OpenQueue(_) if fake.keeps_opening => {}
            ToLane::OpenQueue(spec) => say.push(ToControl::QueueUp { life: spec.life, qid: spec.qid }),
            ToLane::Condemn { life, .. } if !fake.keeps_condemned => {
                if !fake.cached.is_empty() {
                    say.push(ToControl::Cached { life, entries: fake.cached.clone() });
                }
                let carried = fake.carried.iter().filter(|entry| entry.life == life).cloned();
                let commands: Vec<_> = carried.map(|command| Carried { command, waits: true }).collect();
                if !commands.is_empty() {
                    say.push(ToControl::Poison(Report::Carried { life, commands }));
                }
                let ledger = fake.ledger.iter().filter(|entry| entry.life == life).cloned().collect();
                say.push(ToControl::Condemned { life, ledger, settled: fake.settled });
                if !fake.keeps_quiet {
                    say.push(ToControl::Quiet { life, at: self.now });
                }
            }
            ToLane::Poison(Order::Isolate(life)) => say.push(ToControl::Poison(Report::Isolated(life))),
            ToLane::Poison(Order::Witness { life, .. }) => say.push(ToControl::Poison(Report::Witnessed(life))),
            ToLane::Guard { epoch, .. } if !fake.keeps_guard_seen => say.push(ToControl::GuardSeen(epoch)),
            ToLane::Drain(life) if !fake.keeps_drained => {
                if !fake.cached.is_empty() {
                    say.push(ToControl::Cached { life, entries: fake.cached.clone() });
                }
                say.push(ToControl::Drained(life));
            }
            _ => {}
        }
        for message in say {
            self.control.handle_lane(self.now, lane, message);
        }
    }

    /// Moves bytes both ways on one connection, and lets its controller answer.
    fn pump(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(&id) else { return false };
        if self.ports[&conn.port].mute {
            return false;
        }
        let mut busy = false;
        let mut list = SendList::new();
        self.control.poll_send(id, &mut list);
        if !list.is_empty() {
            busy = true;
            self.control.handle_given(self.now, id, list.bytes());
            conn.inbox.extend(bytes_of(&list));
        }
        // The queue takes no more than it can place: offer the rest again after each answer.
        while let Some(conn) = self.conns.get_mut(&id) {
            let used = conn.queue.handle_bytes(&conn.inbox).expect("the host speaks correctly").used;
            conn.inbox.drain(..used);
            let event = conn.queue.poll_event();
            if used == 0 && event.is_none() {
                break;
            }
            if let Some(event) = event {
                busy = true;
                self.serve(id, event);
            }
        }
        let Some(conn) = self.conns.get_mut(&id) else { return busy };
        let mut list = SendList::new();
        conn.queue.poll_send(&mut list);
        if !list.is_empty() {
            busy = true;
            conn.queue.handle_given(list.bytes());
            let bytes = bytes_of(&list);
            let mut at = 0;
            while at < bytes.len() {
                let taken = self.control.handle_bytes(self.now, id, &bytes[at..]);
                assert!(taken.used > 0 && taken.place.is_none(), "admin queues hold no payload");
                at += taken.used;
            }
        }
        busy
    }

    fn serve(&mut self, id: ConnId, event: TargetEvent) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match event {
            TargetEvent::Command { slot, sqe, transfer: Transfer::FromHost { len, .. } } => {
                conn.connect.insert(slot, sqe);
                conn.queue.receive(slot, Sink::Bytes(len));
            }
            TargetEvent::Command { slot, sqe, .. } => self.answer(id, slot, &sqe),
            TargetEvent::Arrived { slot, .. } => {
                let sqe = conn.connect.remove(&slot).expect("asked for data");
                self.answer(id, slot, &sqe);
            }
            TargetEvent::Ready { .. } | TargetEvent::Sent { .. } => {}
            TargetEvent::TermReq { fes, fei } => panic!("the host ended the connection: {fes} {fei}"),
        }
    }

    fn answer(&mut self, id: ConnId, slot: u16, sqe: &Sqe) {
        let conn = self.conns.get_mut(&id).expect("it asked");
        let failed = bad(self.ports.get_mut(&conn.port), sqe);
        let port = &self.ports[&conn.port];
        let done = |dw0: u32| (Status::SUCCESS, dw0, 0, Vec::new());
        let data = |bytes: Vec<u8>| (Status::SUCCESS, 0, 0, bytes);
        let refuse = |status: Status| (status, 0, 0, Vec::new());
        self.asked.push(*sqe);
        let shut_down = conn.cc.shutdown() != interlock_wire::fabrics::Shutdown::None;
        assert!(
            !shut_down || sqe.is_fabrics(),
            "a controller that was told to shut down gets opcode {:#x}",
            sqe.opcode
        );
        let (status, dw0, dw1, out) = if sqe.is_fabrics() {
            match Command::from_sqe(sqe).expect("fabrics") {
                Command::Connect(Connect { sqsize, kato_ms, .. }) => {
                    if port.connect.is_success() {
                        conn.queue.connected(sqsize, true, false);
                        conn.kato = kato_ms;
                    }
                    let answer = ConnectAnswer {
                        cntlid: conn.cntlid,
                        authentication_required: false,
                        secure_channel_required: false,
                    };
                    (port.connect, answer.to_dw0(), 0, Vec::new())
                }
                Command::PropertyGet(get) => {
                    let value = match get.offset {
                        property::CAP => Cap::new(1023, Duration::from_secs(1)).0,
                        property::VS => 0x0002_0300,
                        property::CSTS => {
                            let done = conn.cc.shutdown() != interlock_wire::fabrics::Shutdown::None;
                            let shst = if done { ShutdownStatus::Complete } else { ShutdownStatus::Normal };
                            u64::from(Csts(0).with_ready(conn.cc.enabled() || port.stays_ready).with_shutdown(shst).0)
                        }
                        _ => u64::from(conn.cc.0),
                    };
                    (Status::SUCCESS, value as u32, (value >> 32) as u32, Vec::new())
                }
                Command::PropertySet(set) => {
                    conn.cc = Cc(set.value as u32);
                    done(0)
                }
                other => panic!("not scripted: {other:?}"),
            }
        } else if let Some(status) = failed {
            refuse(status)
        } else {
            match admin::Command::from_sqe(sqe).expect("admin") {
                admin::Command::Identify(admin::Identify::ActiveNamespaces { .. }) if port.unreadable => {
                    self.reads.push(self.now);
                    refuse(Status::INTERNAL_ERROR)
                }
                admin::Command::Identify(identify) => data(identify_data(port, conn.cntlid, identify)),
                admin::Command::GetFeatures(_) => done(port.kato.unwrap_or(conn.kato)),
                admin::Command::SetFeatures(set) if set.fid == admin::FID_QUEUES => {
                    done(port.grants.map_or(set.cdw11, |queues| admin::QueueCount::pairs(queues).to_u32()))
                }
                admin::Command::SetFeatures(set) => done(set.cdw11),
                admin::Command::KeepAlive => done(0),
                admin::Command::Abort(abort) => {
                    self.aborts.push(abort);
                    done(admin::Abort::NOT_ABORTED)
                }
                admin::Command::AsyncEventRequest if port.eventless.is_some() => {
                    refuse(port.eventless.expect("just seen"))
                }
                admin::Command::AsyncEventRequest => {
                    conn.aer = Some(slot);
                    return;
                }
                admin::Command::GetLog(get) if get.lid == LID_CHANGED_NAMESPACES => data(vec![0; get.len as usize]),
                admin::Command::GetLog(get) if get.lid == LID_ANA && port.unreadable => {
                    self.reads.push(self.now);
                    refuse(Status::INTERNAL_ERROR)
                }
                admin::Command::GetLog(get) if get.lid == LID_ANA => {
                    let state = port.ana.expect("it reports ANA");
                    let group = ana::Group { id: 1, change_count: 1, state, nsids: vec![1] };
                    let log = ana::Log { change_count: port.ana_count, groups: vec![group] };
                    let mut bytes = log.encode(get.lsp & ana::LSP_GROUPS_ONLY != 0);
                    bytes.resize(bytes.len().max(get.offset as usize + get.len as usize), 0);
                    data(bytes[get.offset as usize..][..get.len as usize].to_vec())
                }
                admin::Command::GetLog(get) => {
                    let mut bytes = ccr::encode_log(&conn.log);
                    if ccr::removes_completed(&get) {
                        let stays = port.stale.clone();
                        conn.log.retain(|e| e.state == ccr::State::InProgress || stays.contains(e));
                    }
                    bytes.resize(get.len as usize, 0);
                    data(bytes)
                }
                admin::Command::CrossControllerReset(reset) => {
                    self.ccrs.push((conn.port, reset.impacted));
                    match port.ccr.clone() {
                        Ccr::Immediate => done(ccr::answer(true)),
                        Ccr::Pending => {
                            conn.log.push(ccr::Entry {
                                icid: reset.impacted.cntlid,
                                ciu: reset.impacted.ciu,
                                acid: 0,
                                state: ccr::State::InProgress,
                                flags: 0,
                            });
                            done(0)
                        }
                        Ccr::Refuse(status) => refuse(status),
                        Ccr::Silent => return,
                    }
                }
            }
        };
        let conn = self.conns.get_mut(&id).expect("it asked");
        let out = if out.is_empty() { Source::None } else { Source::Bytes(out) };
        conn.queue.respond(slot, status, dw0, dw1, out);
    }

    /// Every pending reset of the controllers on `port` succeeds; with an event, or without.
    pub(super) fn complete_ccr(&mut self, port: u16, event: bool) {
        for conn in self.conns.values_mut().filter(|conn| conn.port == port) {
            for entry in &mut conn.log {
                entry.state = ccr::State::Success;
            }
            if event && let Some(slot) = conn.aer.take() {
                conn.queue.respond(slot, Status::SUCCESS, AsyncEvent::CCR_COMPLETED.to_dw0(), 0, Source::None);
            }
        }
        self.run();
    }

    /// The logs of the controllers on `port` get an entry of a finished reset that nobody asked for.
    pub(super) fn plant_success(&mut self, port: u16, icid: u16, ciu: u8) {
        for conn in self.conns.values_mut().filter(|conn| conn.port == port) {
            conn.log.insert(0, ccr::Entry { icid, ciu, acid: 0, state: ccr::State::Success, flags: 0 });
            if let Some(slot) = conn.aer.take() {
                conn.queue.respond(slot, Status::SUCCESS, AsyncEvent::CCR_COMPLETED.to_dw0(), 0, Source::None);
            }
        }
    }

    /// The controllers on `port` tell of this.
    pub(super) fn tell(&mut self, port: u16, event: AsyncEvent) {
        self.send_event(port, event);
        self.run();
    }

    /// The same; the answers are on their way.
    pub(super) fn send_event(&mut self, port: u16, event: AsyncEvent) {
        for conn in self.conns.values_mut().filter(|conn| conn.port == port) {
            if let Some(slot) = conn.aer.take() {
                conn.queue.respond(slot, Status::SUCCESS, event.to_dw0(), 0, Source::None);
            }
        }
    }

    // --- What was seen ---

    pub(super) fn saw(&self, what: impl Fn(&EventKind) -> bool) -> bool {
        self.events.iter().any(|event| what(&event.kind))
    }

    pub(super) fn receipt(&self) -> Receipt {
        self.control.receipts().last().expect("a receipt").clone()
    }

    /// Where in what the lane heard this is, if it did.
    pub(super) fn heard(&self, lane: usize, what: impl Fn(&ToLane) -> bool) -> Option<usize> {
        self.lanes[lane].heard.iter().position(what)
    }

    pub(super) fn settled(&self, lane: usize, life: LifeId) -> Option<Release> {
        self.lanes[lane].heard.iter().find_map(|message| match message {
            ToLane::Settle { life: of, release } if *of == life => Some(*release),
            _ => None,
        })
    }

    /// The table that lane 0 holds.
    pub(super) fn table(&self) -> Arc<PathTable> {
        let table = self.lanes[0].heard.iter().rev().find_map(|message| match message {
            ToLane::Paths(table) => Some(table.clone()),
            _ => None,
        });
        table.unwrap_or_default()
    }

    /// Lives in it.
    pub(super) fn paths(&self) -> Vec<LifeId> {
        self.table().heads.values().flat_map(|head| head.paths.iter().map(|path| path.life)).collect()
    }
}

/// The status with which the port answers this admin command instead of doing it.
fn bad(port: Option<&mut Port>, sqe: &Sqe) -> Option<Status> {
    let command = admin::Command::from_sqe(sqe).ok().filter(|_| !sqe.is_fabrics())?;
    let bad = port?.bad.iter_mut().find(|bad| bad.times > 0 && (bad.what)(&command))?;
    bad.times -= 1;
    Some(bad.status)
}

/// An answer without an error.
pub(super) fn good() -> Cqe {
    Cqe::new(1, 0, Status::SUCCESS)
}

fn identify_data(port: &Port, cntlid: u16, identify: admin::Identify) -> Vec<u8> {
    match identify {
        admin::Identify::Controller => {
            let mut page = IdentifyController::default();
            page.cntlid.set(cntlid);
            page.sn = text_field(port.serial);
            page.mn = text_field(port.model);
            page.cntrltype = 1;
            page.subnqn = nqn().to_field();
            page.cmic = if port.ana.is_some() { 0xB } else { 3 };
            page.anatt = 10;
            page.anacap = 0x1F;
            page.anagrpmax.set(1);
            page.nanagrpid.set(1);
            page.mnan.set(port.mnan);
            page.mdts = 5;
            page.lpa = 1 << 2;
            page.kas.set(10);
            page.ciu = port.ciu;
            page.cirn.set(0x1000 + u64::from(cntlid));
            page.ccrl = port.ccrl;
            page.cqt.set(port.cqt_ms);
            page.ctratt.set(if port.tbkas { 1 << 6 } else { 0 });
            page.oaes.set((1 << 20) | (1 << 11) | (1 << 8));
            page.ioccsz.set(4);
            page.sgls.set(1);
            page.nn.set(1);
            page.as_bytes().to_vec()
        }
        admin::Identify::ActiveNamespaces { .. } => encode_list(port.nsids.iter().copied()),
        admin::Identify::Descriptors { .. } => port.ids.encode(),
        admin::Identify::NamespaceIndependent { .. } => {
            let mut page = vec![0; 4096];
            page[4] = 1;
            page[14] = 1;
            page
        }
        admin::Identify::Namespace { .. } => {
            let mut page = IdentifyNamespace::default();
            page.nsze.set(port.blocks);
            page.ncap.set(port.blocks);
            page.nmic = 1;
            page.anagrpid.set(1);
            page.lbaf[0].lbads = port.lbads;
            page.as_bytes().to_vec()
        }
        other => panic!("not scripted: {other:?}"),
    }
}

fn bytes_of(list: &SendList) -> Vec<u8> {
    let mut bytes = Vec::new();
    for segment in &list.segments {
        match segment {
            Segment::Header { start, len } => {
                bytes.extend_from_slice(&list.headers[*start as usize..(*start + *len) as usize]);
            }
            Segment::Payload { .. } => panic!("admin queues hold no payload"),
        }
    }
    bytes
}

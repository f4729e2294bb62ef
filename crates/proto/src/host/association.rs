//! From Connect to a live controller, one command at a time.
//!
//! Everything a host must know of a controller before it may trust it with I/O is asked here, in one fixed order, so
//! that two lives of one controller are judged by the same facts. The exchange is linear: each state is consumed by
//! the answer it waits for and becomes the next. The owner submits what [`Step::Ask`] says on the admin queue, and
//! bounds the whole by a deadline of its own.
//!
//! ```text
//!  Connect --> CAP --> [CRTO] --> CC.EN=1 --> CSTS --> VS --> Identify --> KATO --> [queues] --> [events] --> [ANA]
//!     |                                       ^  |                                                             |
//!     v ATR, ASCR                             |  v not ready                                                   v
//!  authenticating (not built: clear error)    wait, until CAP.TO                                              live
//! ```
//!
//! NVM Express Base Specification, "Controller Initialization", "Message-Based Controller Initialization".

use super::ana_log::AnaLog;
use super::fact::{Assumption, Fact, Heard, Question, Unread};
use super::refusal::{ConnectError, connect_refused};
use crate::DataError;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::admin::{
    EventMask, FID_KEEP_ALIVE, GetFeatures, HostBehavior, IDENTIFY_LEN, Identify, QueueCount, SetFeatures,
};
use interlock_wire::ana;
use interlock_wire::ccr::Instance;
use interlock_wire::fabrics::{
    Cap, Cc, Connect, ConnectAnswer, ConnectData, Crto, Csts, PropertyGet, PropertySet, Version,
};
use interlock_wire::identify::{CNTRLTYPE_DISCOVERY, IdentifyController};
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::sqe::{Cqe, Sqe};
use interlock_wire::{FromBytes, IntoBytes};

/// How long to wait between two looks at CSTS: enabling takes microseconds on a software target, and a look costs one
/// small command.
const READY_POLL: Duration = Duration::from_millis(2);

/// The shortest time a controller gets to become ready: CAP.TO may be 0, which nobody can mean.
const READY_AT_LEAST: Duration = Duration::from_millis(500);

/// What kind of controller is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An I/O controller.
    Io,
    /// A discovery controller.
    Discovery,
}

/// What to connect to, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AssociationConfig {
    /// Name of this host.
    pub hostnqn: Nqn,
    /// Identifier of this host.
    pub hostid: HostId,
    /// The subsystem.
    pub subnqn: Nqn,
    /// I/O or discovery.
    pub kind: Kind,
    /// Keep Alive Timeout to ask for, in ms; 0 off.
    pub kato_ms: u32,
    /// 0's based size of the admin queue: the `depth` of its [`super::Queue`].
    pub admin_sqsize: u16,
    /// Controller to ask for; FFFFh: the subsystem chooses.
    pub cntlid: u16,
    /// I/O queues wanted; 0 asks for none.
    pub io_queues_wanted: u16,
    /// Asynchronous events wanted; cut to those the controller has.
    pub want_events: EventMask,
}

/// One admin command to submit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdminCommand {
    /// The command; the queue fills in CID and SGL.
    pub sqe: Sqe,
    /// Data to send as `Source::Bytes`; none if empty.
    pub out: Vec<u8>,
    /// Bytes to receive as `Sink::Bytes`; none if 0.
    pub into: u32,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Submit this and give its completion to [`Association::handle_answer`].
    Ask(AdminCommand),
    /// Call [`Association::handle_waited`] after this time.
    Wait(Duration),
    /// The controller is live.
    Live(Box<Facts>),
}

/// From this version on a controller names its subsystem: Base Specification, "Identify Controller Data Structure", SUBNQN,
/// which stands behind everything that a hold is made of.
const SUBNQN_MANDATORY: Version = Version(0x0001_0201);

/// What a live controller said about itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Controller identifier.
    pub cntlid: u16,
    /// Capabilities.
    pub cap: Cap,
    /// Version.
    pub vs: Version,
    /// Identify Controller, whole.
    pub identify: IdentifyController,
    /// Keep Alive Timeout in force: the larger of what was asked for and what the controller says it uses, because a hold
    /// that rests on it must not be too short. Zero: off, also if only the controller says so.
    pub kato: Fact<Duration>,
    /// I/O queues granted, at most as many as were wanted.
    pub io_queues: u16,
    /// Largest 0's based SQSIZE of an I/O queue, by CAP.MQES and MAXCMD.
    pub sqsize_max: u16,
    /// Most bytes of in-capsule data on an I/O queue.
    pub in_capsule_io: u32,
    /// Most bytes one command may move; `None` without a limit.
    pub max_transfer: Option<u32>,
    /// Traffic Based Keep Alive: any command restarts the Keep Alive timer. Only what is stated spares a Keep Alive; a hold
    /// reckons with what is assumed, too, because it is longer then.
    pub tbkas: Fact<()>,
    /// Command Quiesce Time.
    pub cqt: Fact<Duration>,
    /// Cross-Controller Resets at once with this controller as source.
    pub ccrl: Fact<u8>,
    /// What names this instance in a cross-controller reset. Where it is not offered nobody can reset this controller.
    pub uniquifier: Fact<Uniquifier>,
    /// The subsystem that it belongs to.
    pub subnqn: Fact<Nqn>,
    /// Events that were switched on.
    pub events: Fact<EventMask>,
    /// The ANA log, if ANA is reported.
    pub ana: Option<ana::Log>,
}

/// What distinguishes the instances of one controller. TP8028: each field is 0 where the controller offers none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uniquifier {
    /// Controller Instance Uniquifier, never 0.
    pub ciu: u8,
    /// Controller Instance Random Number, never 0.
    pub cirn: u64,
}

impl Uniquifier {
    /// What the controller states. One of the two fields without the other names no instance.
    #[must_use]
    pub fn of(instance: Instance) -> Fact<Self> {
        let Instance { ciu, cirn, .. } = instance;
        Fact::of_field((ciu != 0 && cirn != 0).then_some(Self { ciu, cirn }))
    }
}

impl Facts {
    /// Which life of which controller this is, as its page has it: with zeroes where it offers no name.
    #[must_use]
    pub const fn instance(&self) -> Instance {
        Instance { cntlid: self.cntlid, ..self.identify.instance() }
    }
}

/// From Connect to a live controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Association {
    config: AssociationConfig,
    state: State,
}

/// What is known once the controller is being enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Enabling {
    cntlid: u16,
    cap: Cap,
    within: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Nothing was asked yet.
    Fresh,
    /// Connect.
    Connecting,
    /// The controller demands in-band authentication. Its exchange belongs here; until it is built, this state is
    /// left at once with an error.
    Authenticating,
    /// CAP.
    ReadingCap { cntlid: u16 },
    /// CRTO.
    ReadingCrto { cntlid: u16, cap: Cap },
    /// CC with EN set.
    Enabling(Enabling),
    /// CSTS, until it is ready.
    AwaitingReady { known: Enabling, until: Instant },
    /// The time between two looks at CSTS.
    Waiting { known: Enabling, until: Instant },
    /// VS.
    ReadingVersion(Enabling),
    /// Identify Controller.
    Identifying { known: Enabling, vs: Version },
    /// The KATO in force. `denied`: the controller said once that it does not report it.
    ReadingKato { facts: Box<Facts>, denied: bool },
    /// That this host honours retry delays.
    SettingBehavior(Box<Facts>),
    /// Number of queues.
    SettingQueues(Box<Facts>),
    /// Which events.
    SettingEvents(Box<Facts>, EventMask),
    /// The ANA log.
    ReadingAna { facts: Box<Facts>, log: AnaLog },
    /// Live or failed.
    Over,
}

impl State {
    /// The step in words, for errors.
    const fn step(&self) -> &'static str {
        match self {
            Self::Fresh | Self::Over => "no step",
            Self::Connecting => "Connect",
            Self::Authenticating => "authentication",
            Self::ReadingCap { .. } => "reading the controller's capabilities",
            Self::ReadingCrto { .. } => "reading the controller's ready timeouts",
            Self::Enabling(_) => "enabling the controller",
            Self::AwaitingReady { .. } | Self::Waiting { .. } => "waiting for the controller to become ready",
            Self::ReadingVersion(_) => "reading the controller's version",
            Self::Identifying { .. } => "Identify Controller",
            Self::ReadingKato { .. } => "reading the Keep Alive Timeout",
            Self::SettingBehavior(_) => "saying that retry delays are honoured",
            Self::SettingQueues(_) => "asking for I/O queues",
            Self::SettingEvents(..) => "switching on asynchronous events",
            Self::ReadingAna { .. } => "reading the ANA log",
        }
    }

    /// What is asked, if a controller may do without it.
    const fn question(&self) -> Option<Question> {
        match self {
            Self::ReadingKato { .. } => Some(Question::KeepAliveTimeout),
            Self::SettingBehavior(_) => Some(Question::HostBehavior),
            Self::SettingEvents(..) => Some(Question::AsyncEvents),
            _ => None,
        }
    }
}

impl Association {
    /// An association that is not begun.
    #[must_use]
    pub const fn new(config: AssociationConfig) -> Self {
        Self { config, state: State::Fresh }
    }

    /// The step under way, in words.
    #[must_use]
    pub const fn step(&self) -> &'static str {
        self.state.step()
    }

    /// The first command.
    ///
    /// # Panics
    /// If it was begun before.
    pub fn start(&mut self) -> Step {
        assert!(self.state == State::Fresh, "an association is begun once");
        self.state = State::Connecting;
        let config = &self.config;
        let connect = Connect { qid: 0, sqsize: config.admin_sqsize, sq_flow_control: false, kato_ms: config.kato_ms };
        let data = ConnectData::new(config.hostid, &config.hostnqn, &config.subnqn, config.cntlid);
        Step::Ask(AdminCommand { sqe: connect.to_sqe(), out: data.as_bytes().to_vec(), into: 0 })
    }

    /// The controller answered the command asked last; `data` and `error` are those of the completion event.
    ///
    /// # Errors
    /// There will be no association; says at which step and why. It is over then.
    ///
    /// # Panics
    /// If nothing was asked: the owner's mistake.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        cqe: &Cqe,
        data: &[u8],
        error: Option<DataError>,
    ) -> Result<Step, ConnectError> {
        let state = core::mem::replace(&mut self.state, State::Over);
        let step = state.step();
        let status = cqe.status();
        let state = match state {
            State::ReadingAna { facts, mut log } => {
                if log.handle_error(status) {
                    let (state, next) = read_ana(facts, log);
                    self.state = state;
                    return Ok(next);
                }
                State::ReadingAna { facts, log }
            }
            state => state,
        };
        match state.question().map_or_else(|| Heard::mandatory(status), |question| question.hear(status)) {
            Heard::Answer | Heard::NotOffered => {}
            Heard::Unknown(_) if state == State::Connecting => return Err(connect_refused(cqe)),
            Heard::Unknown(why) => return Err(ConnectError::unread(step, why)),
        }
        if let Some(error) = error.filter(|_| status.is_success()) {
            return Err(ConnectError::unread(step, Unread::Data(error)));
        }
        let (state, next) = self.advance(state, now, cqe, data)?;
        self.state = state;
        Ok(next)
    }

    /// The time of a [`Step::Wait`] has passed.
    ///
    /// # Errors
    /// The controller did not become ready in the time it stated. It is over then.
    ///
    /// # Panics
    /// If no wait was asked for: the owner's mistake.
    pub fn handle_waited(&mut self, now: Instant) -> Result<Step, ConnectError> {
        let State::Waiting { known, until } = core::mem::replace(&mut self.state, State::Over) else {
            panic!("the association asked for no wait");
        };
        if now >= until {
            return Err(ConnectError::not_ready(known.within));
        }
        self.state = State::AwaitingReady { known, until };
        Ok(get(PropertyGet::CSTS))
    }

    fn advance(&self, state: State, now: Instant, cqe: &Cqe, data: &[u8]) -> Result<(State, Step), ConnectError> {
        let step = state.step();
        Ok(match state {
            State::Fresh | State::Over | State::Waiting { .. } => panic!("the association asked nothing"),
            State::Authenticating => return Err(ConnectError::authentication()),
            State::Connecting => {
                let answer = ConnectAnswer::from_dw0(cqe.dw0.get());
                if answer.authentication_required || answer.secure_channel_required {
                    return self.advance(State::Authenticating, now, cqe, data);
                }
                (State::ReadingCap { cntlid: answer.cntlid }, get(PropertyGet::CAP))
            }
            State::ReadingCap { cntlid } => {
                let cap = Cap(PropertyGet::CAP.value(cqe));
                if cap.crwms() {
                    (State::ReadingCrto { cntlid, cap }, get(PropertyGet::CRTO))
                } else {
                    enable(Enabling { cntlid, cap, within: cap.to().max(READY_AT_LEAST) })
                }
            }
            State::ReadingCrto { cntlid, cap } => {
                let within = Crto(cqe.dw0.get()).crwmt().max(cap.to()).max(READY_AT_LEAST);
                enable(Enabling { cntlid, cap, within })
            }
            State::Enabling(known) => {
                (State::AwaitingReady { known, until: now + known.within }, get(PropertyGet::CSTS))
            }
            State::AwaitingReady { known, until } => {
                let csts = Csts(cqe.dw0.get());
                if csts.fatal() {
                    return Err(ConnectError::fatal_status());
                }
                if csts.ready() {
                    (State::ReadingVersion(known), get(PropertyGet::VS))
                } else if now >= until {
                    return Err(ConnectError::not_ready(known.within));
                } else {
                    (State::Waiting { known, until }, Step::Wait(READY_POLL))
                }
            }
            State::ReadingVersion(known) => {
                let vs = Version(cqe.dw0.get());
                let ask = AdminCommand { sqe: Identify::Controller.to_sqe(), out: Vec::new(), into: IDENTIFY_LEN };
                (State::Identifying { known, vs }, Step::Ask(ask))
            }
            State::Identifying { known, vs } => {
                let identify = IdentifyController::read_from_bytes(data)
                    .map_err(|_| ConnectError::unread(step, Unread::Data(DataError::Short)))?;
                let facts = Box::new(self.judge(known, vs, identify)?);
                (State::ReadingKato { facts, denied: false }, ask(GetFeatures::current(FID_KEEP_ALIVE).to_sqe()))
            }
            // Every hold rests on this one, and one wrong answer would shorten it: it is asked twice.
            State::ReadingKato { facts, denied: false } if !cqe.status().is_success() => {
                (State::ReadingKato { facts, denied: true }, ask(GetFeatures::current(FID_KEEP_ALIVE).to_sqe()))
            }
            State::ReadingKato { mut facts, .. } => {
                let asked = u64::from(self.config.kato_ms);
                facts.kato = if cqe.status().is_success() {
                    // 0 is not the smaller one: it says that the timer is off, whatever was asked for.
                    let said = u64::from(cqe.dw0.get());
                    Fact::Stated(Duration::from_millis(if said == 0 { 0 } else { asked.max(said) }))
                } else if asked == 0 {
                    Fact::NotOffered
                } else {
                    // Controllers round up to their granularity: Base Specification, "Keep Alive Timer (Feature
                    // Identifier 0Fh)" and KAS in "Identify Controller Data Structure".
                    let unit = u64::from(facts.identify.kas.get()) * 100;
                    let rounded = if unit == 0 { asked } else { asked.next_multiple_of(unit) };
                    Fact::Assumed(Duration::from_millis(rounded), Assumption::KeepAliveNotReported)
                };
                if self.wants_io_queues() && facts.identify.retry_delay(1) > Duration::ZERO {
                    let sqe = SetFeatures::host_behavior().to_sqe();
                    let out = HostBehavior { retry_delays: true }.encode();
                    (State::SettingBehavior(facts), Step::Ask(AdminCommand { sqe, out, into: 0 }))
                } else {
                    self.before_queues(facts)?
                }
            }
            State::SettingBehavior(facts) => self.before_queues(facts)?,
            State::SettingQueues(mut facts) => {
                let granted = QueueCount::from_u32(cqe.dw0.get()).usable();
                facts.io_queues = granted.min(self.config.io_queues_wanted);
                self.after_queues(facts)?
            }
            State::SettingEvents(mut facts, events) => {
                facts.events = if cqe.status().is_success() { Fact::Stated(events) } else { Fact::NotOffered };
                self.after_events(facts)?
            }
            State::ReadingAna { mut facts, mut log } => match log.handle_answer(data) {
                Ok(None) => read_ana(facts, log),
                Ok(parsed) => {
                    facts.ana = parsed;
                    (State::Over, Step::Live(facts))
                }
                Err(error) => return Err(ConnectError::ana(&error)),
            },
        })
    }

    /// Whether this host can work with that controller, and what it is.
    fn judge(&self, known: Enabling, vs: Version, identify: IdentifyController) -> Result<Facts, ConnectError> {
        let instance = identify.instance();
        let io = self.config.kind == Kind::Io;
        let refuse = |why, hint| Err(ConnectError::incompatible("Identify Controller", why, hint));
        if instance.cntlid != known.cntlid {
            return Err(ConnectError::contradicts(
                "Identify Controller",
                format!(
                    "it calls itself controller {:#06x}, and Connect said {:#06x}: the target contradicts itself",
                    instance.cntlid, known.cntlid
                ),
            ));
        }
        // Instance, quiesce time and traffic based keep alive are fields of this page, and 0 says of each that it is not
        // offered: from a page that is empty, or cut off, that would be a guess, and a hold that is too short.
        if io && vs >= SUBNQN_MANDATORY && identify.subnqn == [0; 256] {
            return Err(ConnectError::unread("Identify Controller", Unread::Incomplete));
        }
        let named = self.subsystem(&identify).map_err(|why| ConnectError::contradicts("Identify Controller", why))?;
        // Only of an old controller nothing shows that the end of its page is there.
        let tbkas = match named.assumption() {
            Some(_) if !identify.traffic_based_keep_alive() => Fact::Assumed((), Assumption::PageNotShownWhole),
            _ => Fact::of_field(identify.traffic_based_keep_alive().then_some(())),
        };
        if io && identify.cntrltype == CNTRLTYPE_DISCOVERY {
            return refuse("this is a discovery controller", "connect to a subsystem that its log page names");
        }
        if io && self.config.kato_ms > 0 && identify.kas.get() == 0 {
            return refuse(
                "the controller has no Keep Alive, so it would never notice the loss of this host",
                "use a target with Keep Alive, or switch it off by a Keep Alive Timeout of 0",
            );
        }
        if io && identify.icdoff.get() != 0 {
            return refuse("the controller wants in-capsule data at an offset", "no NVMe/TCP host supports that");
        }
        let maxcmd = match identify.maxcmd.get() {
            0 => u16::MAX,
            n => n,
        };
        Ok(Facts {
            cntlid: known.cntlid,
            cap: known.cap,
            vs,
            kato: Fact::NotOffered,
            io_queues: 0,
            sqsize_max: known.cap.mqes().min(maxcmd - 1).max(1),
            in_capsule_io: identify.in_capsule_io(),
            max_transfer: identify.max_transfer(known.cap.mpsmin()),
            tbkas,
            cqt: Fact::of_field(identify.command_quiesce_time()),
            ccrl: Fact::of_field((identify.ccrl != 0).then_some(identify.ccrl)),
            uniquifier: Uniquifier::of(instance),
            subnqn: named,
            events: Fact::NotOffered,
            ana: None,
            identify,
        })
    }

    /// The subsystem that this controller belongs to. An old controller that names none (all zero) states nothing. A discovery
    /// controller may have any name, or one that is none.
    ///
    /// # Errors
    /// Why it is another one than the one that was asked for.
    fn subsystem(&self, identify: &IdentifyController) -> Result<Fact<Nqn>, String> {
        if self.config.kind == Kind::Discovery {
            return Ok(Fact::of_field(identify.subnqn().ok()));
        }
        if identify.subnqn == [0; 256] {
            return Ok(Fact::Assumed(self.config.subnqn.clone(), Assumption::SubsystemNotNamed));
        }
        match identify.subnqn() {
            Ok(said) if said == self.config.subnqn => Ok(Fact::Stated(said)),
            Ok(said) => Err(format!("it belongs to subsystem {said}, not to {}", self.config.subnqn)),
            Err(error) => Err(format!("it does not say to which subsystem it belongs: {error}")),
        }
    }

    const fn wants_io_queues(&self) -> bool {
        !matches!(self.config.kind, Kind::Discovery) && self.config.io_queues_wanted > 0
    }

    fn before_queues(&self, facts: Box<Facts>) -> Result<(State, Step), ConnectError> {
        if !self.wants_io_queues() {
            return self.after_queues(facts);
        }
        let count = QueueCount::pairs(self.config.io_queues_wanted);
        Ok((State::SettingQueues(facts), ask(SetFeatures::queues(count).to_sqe())))
    }

    fn after_queues(&self, facts: Box<Facts>) -> Result<(State, Step), ConnectError> {
        let events = self.config.want_events & facts.identify.events();
        if events.is_empty() {
            return self.after_events(facts);
        }
        Ok((State::SettingEvents(facts, events), ask(SetFeatures::async_events(events).to_sqe())))
    }

    fn after_events(&self, facts: Box<Facts>) -> Result<(State, Step), ConnectError> {
        if self.config.kind == Kind::Discovery || !facts.identify.reports_ana() {
            return Ok((State::Over, Step::Live(facts)));
        }
        let log = AnaLog::new(&facts.identify, facts.max_transfer.unwrap_or(u32::MAX));
        Ok(read_ana(facts, log))
    }
}

fn ask(sqe: Sqe) -> Step {
    Step::Ask(AdminCommand { sqe, out: Vec::new(), into: 0 })
}

fn get(property: PropertyGet) -> Step {
    ask(property.to_sqe())
}

fn enable(known: Enabling) -> (State, Step) {
    let cc = Cc::new(known.cap.css_csi()).with_enable(true);
    (State::Enabling(known), ask(PropertySet::cc(cc).to_sqe()))
}

/// The next piece of the ANA log.
fn read_ana(facts: Box<Facts>, log: AnaLog) -> (State, Step) {
    let get = log.ask();
    (State::ReadingAna { facts, log }, Step::Ask(AdminCommand { sqe: get.to_sqe(), out: Vec::new(), into: get.len }))
}

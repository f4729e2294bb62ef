//! What worlds are made of: every kind of fault and circumstance that a seed may draw, by name.
//!
//! A hunt that never met a fault shows nothing of it, and a fault at a moment at which no write is in doubt shows little.
//! So every run notes which kinds occurred, and which of them while a write was in doubt; the report prints both, and a hunt
//! in which one of them is rare is inconclusive ([`Mix::rare`]).

use interlock_base::Rng;
use std::fmt;
use std::sync::{PoisonError, RwLock};

/// One kind of fault or circumstance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A connection is reset, on either side or by the target.
    PathReset,
    /// A path swallows everything, in one direction or both; or a port is mute, or closed.
    PathSilent,
    /// Bytes linger in the network.
    BytesLinger,
    /// Commands that change media stall inside the target.
    CommandsStall,
    /// Commands vanish inside the target.
    CommandsVanish,
    /// Commands are answered with an error.
    CommandsFail,
    /// Cross-controller reset is refused, late, stale, or its event is lost or repeated.
    ResetFails,
    /// A controller dies that was asked to reset another.
    SourceDies,
    /// Media operations take as long as they may.
    MediaSlow,
    /// Media operations fail, before or after they have changed something.
    MediaFail,
    /// The ANA state of a group changes.
    AnaChanges,
    /// A namespace grows or shrinks.
    Resized,
    /// The operator resets, disconnects or connects a controller.
    OperatorActs,
    /// A lane of the host, or its control, takes nothing in for a while.
    LaneHangs,
    /// Messages between the machines of the host are slow.
    MailSlow,
    /// The target is switched off and on.
    TargetDies,
    /// The whole process of the host stands still and goes on.
    HostStops,
    /// The process of the host dies, and another follows.
    HostDies,
    /// A caller gives a change up that has not ended.
    GivenUp,
    /// An admin or Fabrics command fails, with any status.
    AdminFails,
    /// An admin command is answered as if the controller did not know it: Invalid Field, Invalid Opcode.
    AdminUnsupported,
    /// An admin command is answered late, or later than anybody waits.
    AdminLate,
    /// An admin command succeeds with less data than was asked for.
    AdminShort,
    /// An admin command succeeds with a page of zeroes.
    AdminZeroed,
    /// The identifiers of a namespace cannot be read, or some are not there.
    IdentifiersMissing,
    /// The list of namespaces is short, or empty.
    NamespacesMissing,
    /// An Asynchronous Event Request is answered with an error.
    EventRequestFails,
    /// The log of cross-controller resets cannot be read.
    ResetLogFails,
    /// The ANA log cannot be read, or says less than it should.
    AnaLogFails,
    /// The keep-alive time in force cannot be read.
    KatoUnread,
    /// What a namespace is cannot be read: Identify Namespace fails.
    NamespaceUnread,
    /// The clock of the target is slower or faster than that of the host.
    ClocksDiffer,
    /// Everything that a fence by time waits for takes as long as it may.
    BoundsTight,
    /// The log of a source keeps its entries, and a reset fails.
    EntriesStay,
    /// Somebody else takes the state directory of the host.
    OwnerReplaced,
    /// The record of a life, or its removal, fails.
    StoreRefuses,
    /// The disk with the records is slow.
    StoreLate,
    /// A lane of the host panics: the process ends, and another follows.
    LanePanics,
    /// A lane takes a change over blocks that a caller on another lane has given up and that may still change.
    GivenUpOverwritten,
    /// KATO is 0: time ends no doubt.
    NoKato,
    /// The keep-alive time in force is longer than asked for.
    KatoRounded,
    /// Somebody says of a life that it is over.
    RiskAccepted,
    /// A lost controller is connected again only when somebody says so.
    NotifyOnly,
    /// Lanes choose among paths by queue depth, or take the first.
    OtherIoPolicy,
    /// A setting of a controller changes while it is in use.
    SettingsChange,
    /// The operator asks for a look at the namespaces.
    Rescan,
    /// Controllers have names that last over processes.
    NamesLast,
    /// A namespace is deleted, and another disk or format has its NSID.
    NamespaceReplaced,
    /// A namespace is formatted with blocks of another size.
    NamespaceFormatted,
    /// The whole machine of the target stands still and goes on.
    TargetStops,
    /// A flush fails, and what it was to make durable is lost.
    FlushLoses,
    /// The two clocks of the host differ: one is set, or has a wrong crystal.
    HostClocksDiffer,
    /// The raw clock of the host is wrong at once.
    RawClockSteps,
    /// The machine of the host is suspended: its clocks stand still.
    HostSuspended,
    /// The host is connected to two subsystems.
    TwoSubsystems,
    /// Two targets claim one NQN, and have disks of their own.
    TwoTargets,
    /// A second target that was set up like the first is there for a while.
    Impostor,
    /// A disk is given other identifiers while it is connected.
    DiskRenamed,
    /// The target ends every controller that is given a command for a certain block.
    PoisonCommand,
    /// A path is reset again and again.
    PathFlaps,
    /// The target dies and comes back again and again.
    TargetCrashLoops,
    /// Timers of the target fire late, and nothing but timers ends a life there.
    TimersLate,
    /// The disks are reached through another subsystem after the process of the host has ended.
    SubsystemMoved,
    /// A second host is connected to the same subsystem.
    SecondHost,
    /// A second machine says that it is the same host.
    SameIdentity,
    /// A controller grants fewer I/O queues than the host has lanes, each instance another number.
    QueuesShared,
    /// The ANA log is longer than one command carries, and changes between two pieces of it.
    AnaLogChanges,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 67] = [
        Self::PathReset,
        Self::PathSilent,
        Self::BytesLinger,
        Self::CommandsStall,
        Self::CommandsVanish,
        Self::CommandsFail,
        Self::ResetFails,
        Self::SourceDies,
        Self::MediaSlow,
        Self::MediaFail,
        Self::AnaChanges,
        Self::Resized,
        Self::OperatorActs,
        Self::LaneHangs,
        Self::MailSlow,
        Self::TargetDies,
        Self::HostStops,
        Self::HostDies,
        Self::GivenUp,
        Self::AdminFails,
        Self::AdminUnsupported,
        Self::AdminLate,
        Self::AdminShort,
        Self::AdminZeroed,
        Self::IdentifiersMissing,
        Self::NamespacesMissing,
        Self::EventRequestFails,
        Self::ResetLogFails,
        Self::AnaLogFails,
        Self::KatoUnread,
        Self::NamespaceUnread,
        Self::ClocksDiffer,
        Self::BoundsTight,
        Self::EntriesStay,
        Self::OwnerReplaced,
        Self::StoreRefuses,
        Self::StoreLate,
        Self::LanePanics,
        Self::GivenUpOverwritten,
        Self::NoKato,
        Self::KatoRounded,
        Self::RiskAccepted,
        Self::NotifyOnly,
        Self::OtherIoPolicy,
        Self::SettingsChange,
        Self::Rescan,
        Self::NamesLast,
        Self::NamespaceReplaced,
        Self::NamespaceFormatted,
        Self::TargetStops,
        Self::FlushLoses,
        Self::HostClocksDiffer,
        Self::RawClockSteps,
        Self::HostSuspended,
        Self::TwoSubsystems,
        Self::TwoTargets,
        Self::Impostor,
        Self::DiskRenamed,
        Self::PoisonCommand,
        Self::PathFlaps,
        Self::TargetCrashLoops,
        Self::TimersLate,
        Self::SubsystemMoved,
        Self::SecondHost,
        Self::SameIdentity,
        Self::QueuesShared,
        Self::AnaLogChanges,
    ];

    /// True if a world as a whole has it or has not, by a draw of its own.
    #[must_use]
    pub const fn is_drawn(self) -> bool {
        matches!(
            self,
            Self::BoundsTight
                | Self::TimersLate
                | Self::RawClockSteps
                | Self::HostSuspended
                | Self::EntriesStay
                | Self::NamespaceFormatted
                | Self::NamespaceReplaced
                | Self::FlushLoses
                | Self::OwnerReplaced
                | Self::PoisonCommand
                | Self::PathFlaps
                | Self::TargetCrashLoops
                | Self::SameIdentity
                | Self::AnaLogChanges
                | Self::QueuesShared
        )
    }

    const fn bit(self) -> u128 {
        1 << self as u32
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A set of kinds, some of which every world has.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    may: u128,
    must: u128,
}

impl Kinds {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        let mut kinds = Self::default();
        Kind::ALL.into_iter().for_each(|kind| kinds.insert(kind));
        kinds
    }

    /// True if `kind` is one of them.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        self.may & kind.bit() != 0
    }

    /// Adds one.
    pub const fn insert(&mut self, kind: Kind) {
        self.may |= kind.bit();
    }

    /// Takes one away.
    pub const fn remove(&mut self, kind: Kind) {
        self.may &= !kind.bit();
        self.must &= !kind.bit();
    }

    /// Every world has this kind, as far as nothing else in it excludes that. False if it is none that a world has or has not.
    #[must_use]
    pub const fn make_certain(&mut self, kind: Kind) -> bool {
        let is_drawn = kind.is_drawn();
        if is_drawn {
            self.insert(kind);
            self.must |= kind.bit();
        }
        is_drawn
    }

    /// True if every world has it.
    #[must_use]
    pub const fn is_certain(self, kind: Kind) -> bool {
        self.must & kind.bit() != 0
    }

    /// Whether a world has this kind: in so many of a hundred, or in all.
    pub(crate) fn draw(self, kind: Kind, rng: &mut Rng, percent: u64) -> bool {
        debug_assert!(kind.is_drawn(), "{kind} can be made certain");
        self.contains(kind) && (self.is_certain(kind) || rng.percent(percent))
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }

    /// What the runs of this process may draw from now on.
    pub fn install(self) {
        *CHOSEN.write().unwrap_or_else(PoisonError::into_inner) = Some(self);
    }

    /// What the runs of this process may draw: what was installed, or else all.
    #[must_use]
    pub fn installed() -> Self {
        CHOSEN.read().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(Self::all)
    }
}

static CHOSEN: RwLock<Option<Kinds>> = RwLock::new(None);
const _: () = assert!(Kind::ALL.len() <= 128, "a set of kinds is one word");

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Which kinds one run met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Met {
    /// At any time.
    pub ever: Kinds,
    /// While a write was in doubt.
    pub in_doubt: Kinds,
}

/// A kind that occurs in fewer runs with a write in doubt than one in so many is rare.
const RARE: u64 = 100;
/// So many runs show the mix: a kind that one run in a hundred meets is then missed by chance once in some thousand hunts.
pub const ENOUGH_RUNS: u64 = 5_000;

/// In how many runs each kind occurred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    runs: u64,
    ever: [u64; Kind::ALL.len()],
    in_doubt: [u64; Kind::ALL.len()],
    drawn: Kinds,
}

impl Default for Mix {
    fn default() -> Self {
        let none = [0; Kind::ALL.len()];
        Self { runs: 0, ever: none, in_doubt: none, drawn: Kinds::installed() }
    }
}

impl Mix {
    /// One run more.
    pub(crate) fn add(&mut self, met: Met) {
        self.runs += 1;
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            self.ever[at] += u64::from(met.ever.contains(kind));
            self.in_doubt[at] += u64::from(met.in_doubt.contains(kind));
        }
    }

    /// The runs of another hunt as well.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        for (mine, theirs) in [(&mut self.ever, &other.ever), (&mut self.in_doubt, &other.in_doubt)] {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
    }

    /// As one word that [`Mix::read`] understands: `PathReset=9/4,...`, runs that met a kind, and those with a write in doubt.
    #[must_use]
    pub fn noted(&self) -> String {
        let counts = Kind::ALL.into_iter().zip(self.ever).zip(self.in_doubt);
        let words: Vec<String> = counts.map(|((kind, ever), in_doubt)| format!("{kind}={ever}/{in_doubt}")).collect();
        words.join(",")
    }

    /// What [`Mix::noted`] made of so many runs; `None` if it is something else.
    #[must_use]
    pub fn read(runs: u64, text: &str) -> Option<Self> {
        let mut mix = Self { runs, ..Self::default() };
        let mut words = text.split(',');
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            let (name, counts) = words.next()?.split_once('=')?;
            let (ever, in_doubt) = counts.split_once('/')?;
            if name != kind.to_string() {
                return None;
            }
            (mix.ever[at], mix.in_doubt[at]) = (ever.parse().ok()?, in_doubt.parse().ok()?);
        }
        words.next().is_none().then_some(mix)
    }

    /// What the runs could draw and too few of them met while a write was in doubt; `None` if the runs were too few to say.
    #[must_use]
    pub fn rare(&self) -> Option<Vec<Kind>> {
        (self.runs >= ENOUGH_RUNS).then(|| {
            let drawn = Kind::ALL.into_iter().zip(self.in_doubt).filter(|(kind, _)| self.drawn.contains(*kind));
            drawn.filter(|(_, runs)| runs * RARE < self.runs).map(|(kind, _)| kind).collect()
        })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |runs: u64| runs as f64 * 100.0 / self.runs.max(1) as f64;
        writeln!(f, "  runs that met it, and that met it while a write was in doubt:")?;
        for ((kind, ever), in_doubt) in Kind::ALL.into_iter().zip(self.ever).zip(self.in_doubt) {
            if self.drawn.contains(kind) {
                writeln!(f, "  {:>7.1} % {:>7.1} % {kind}", share(ever), share(in_doubt))?;
            } else {
                writeln!(f, "  {:>17} {kind}: left out", "")?;
            }
        }
        Ok(())
    }
}

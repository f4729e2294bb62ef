//! How long a good client waits among enemies, beside the same client without enemies on the same machine.
//!
//! A machine that runs tests is busy, and its longest pause says as much about the other work on it as about the server. So a
//! second server of the same kind, with nobody hostile, does the same work in turn with the first: whatever the machine does to
//! one it does to the other, and only the difference is the enemies' doing.

use std::fmt;
use std::time::{Duration, Instant};

/// What a wait among enemies may be, whatever the other one took.
const ALWAYS: Duration = Duration::from_secs(5);
/// Above that it may be so many times the longest wait without enemies, whose pauses are as random but rarer: fewer processes
/// compete for the processor.
const TIMES: u32 = 3;
/// Nothing excuses a longer one: hosts give a command up after half a minute.
const NEVER: Duration = Duration::from_secs(30);
/// What half of the waits among enemies may be, whatever the others took,
const USUALLY: Duration = Duration::from_millis(500);
/// and above that so many times what half of the waits without enemies are: one pause does not make it, and a server whose time
/// is spent on others does not hide behind one.
const TIMES_USUALLY: u32 = 5;

/// What one kind of work took.
#[derive(Clone, Debug, Default)]
struct Taken(Vec<Duration>);

impl Taken {
    /// The wait that so many of a thousand do not exceed.
    fn at(&self, permille: usize) -> Duration {
        let mut all = self.0.clone();
        all.sort_unstable();
        let last = all.len().saturating_sub(1);
        all.get(last * permille / 1000).copied().unwrap_or_default()
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (median {:.1?}, p99 {:.1?}, longest {:.1?})",
            self.0.len(),
            self.at(500),
            self.at(990),
            self.at(1000)
        )
    }
}

/// What the same work took among enemies and without them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    among: Taken,
    alone: Taken,
}

impl Beside {
    /// Work among enemies.
    pub(crate) fn among<T>(&mut self, work: impl FnOnce() -> T) -> T {
        timed(&mut self.among, work)
    }

    /// The same without them.
    pub(crate) fn alone<T>(&mut self, work: impl FnOnce() -> T) -> T {
        timed(&mut self.alone, work)
    }

    /// Both at the same time: what the machine does to one meanwhile, it does to the other.
    pub(crate) fn at_once(&mut self, among: impl FnOnce() + Send, alone: impl FnOnce() + Send) {
        let Self { among: taken, alone: taken_alone } = self;
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| timed(taken_alone, alone));
            timed(taken, among);
            beside.join().expect("the work without enemies is done");
        });
    }

    /// How often the work was done among enemies.
    pub(crate) fn passes(&self) -> usize {
        self.among.0.len()
    }

    /// What is wrong with the longest wait, if anything is.
    pub(crate) fn judge(&self) -> Result<(), String> {
        let (longest, alone) = (self.among.at(1000), self.alone.at(1000));
        let bound = ALWAYS.max(alone * TIMES).min(NEVER);
        match (self.among.0.len(), self.alone.0.len()) {
            (0, _) | (_, 0) => Err(format!("nothing was compared: {self}")),
            _ if longest < bound => Ok(()),
            _ => Err(format!("the longest wait among enemies, {longest:?}, is not below {bound:?}: {self}")),
        }
    }
}

impl Beside {
    /// What is wrong with the usual wait, if anything is: half of them are longer.
    pub(crate) fn judge_usual(&self) -> Result<(), String> {
        let (usual, alone) = (self.among.at(500), self.alone.at(500));
        let bound = USUALLY.max(alone * TIMES_USUALLY);
        if usual < bound {
            return Ok(());
        }
        Err(format!("half of the waits among enemies are {usual:?} or more, which is not below {bound:?}: {self}"))
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { among, alone } = self;
        write!(f, "among enemies {among}, without them {alone}")
    }
}

fn timed<T>(taken: &mut Taken, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    taken.0.push(begun.elapsed());
    done
}

#[test]
fn a_busy_machine_is_no_excuse_for_a_server_that_starves_its_clients() {
    let of = |among: &[u64], alone: &[u64]| {
        let taken = |all: &[u64]| Taken(all.iter().map(|millis| Duration::from_millis(*millis)).collect());
        Beside { among: taken(among), alone: taken(alone) }
    };
    assert!(of(&[20, 4_900], &[5, 6]).judge().is_ok());
    assert!(of(&[20, 7_300], &[5, 2_600]).judge().is_ok(), "the machine stood still for both");
    assert!(of(&[20, 7_300], &[5, 900]).judge().is_err(), "only the enemies can have done it");
    assert!(of(&[20, 31_000], &[5, 20_000]).judge().is_err());
    let usual = of(&[1_200, 1_300, 1_400], &[5, 6, 99]);
    assert!(usual.judge().is_ok() && usual.judge_usual().is_err(), "its time is spent on others");
    assert!(of(&[5, 6, 4_000], &[5, 6, 7]).judge_usual().is_ok() && of(&[900], &[200]).judge_usual().is_ok());
    assert!(of(&[], &[5]).judge().is_err() && of(&[5], &[]).judge().is_err(), "nothing shows nothing");
    assert_eq!(of(&[1, 2, 3], &[4]).to_string().matches("longest 3.0ms").count(), 1);
}

#[test]
fn what_is_done_at_once_is_taken_for_both() {
    let mut beside = Beside::default();
    beside.at_once(|| {}, || {});
    beside.among(|| {});
    beside.alone(|| {});
    assert_eq!((beside.passes(), beside.alone.0.len()), (2, 2));
}

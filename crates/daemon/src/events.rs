//! What happens, told: to the log, to the journal, to whoever follows, and to `status`.
//!
//! One line per transition, with the words that people already search their logs for (those of Linux), the controller
//! first. Everything told has a number that no restart uses again. A follower never misses a line because it is slow: it
//! asks for what comes after the last one it has, out of memory, or out of the journal if that is too long ago; nothing is
//! queued for it.

use crate::limit::{Limits, Verdict};
use interlock_api::{ControllerState, Event, JournalStatus, Level, Version, What};
use interlock_host::words::Teller;
use interlock_host::{ControllerSpec, CtrlId, EventKind, HeadId, LifeId};
use interlock_observe::journal::{Journal, JournalError, Reader};
use interlock_ring::now;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Events in memory. What is older is asked of the journal.
pub(crate) const KEPT: usize = 1_024;
/// Receipts in memory, where there is no journal: no flood of other events takes their place.
const RECEIPTS: usize = 256;
/// Events that are read from the journal at once.
const PAGE: usize = 512;
/// Events that one story is made of at most: an outage of a thousand paths has about as many.
const STORY: usize = 20_000;
/// The journal is behind by milliseconds; after this its disk does not answer.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// The state of a controller: since when and why.
#[derive(Clone, Debug)]
pub(crate) struct Since {
    pub(crate) at: interlock_host::Instant,
    pub(crate) why: String,
}

/// What was heard so far.
#[derive(Debug)]
pub(crate) struct Told {
    inner: Mutex<Inner>,
    /// The number of the last event.
    latest: watch::Sender<u64>,
    journal: Option<Journal>,
}

#[derive(Debug)]
struct Inner {
    last: u64,
    kept: VecDeque<Arc<Event>>,
    receipts: VecDeque<Arc<Event>>,
    since: BTreeMap<CtrlId, Since>,
    /// Lives that ended with commands in doubt, and are not fenced.
    unfenced: BTreeMap<LifeId, String>,
    teller: Teller,
    limits: Limits,
}

impl Told {
    /// Begins with the number `next`.
    pub(crate) fn new(journal: Option<Journal>, next: u64) -> Self {
        let last = next.saturating_sub(1);
        let inner = Inner {
            last,
            kept: VecDeque::new(),
            receipts: VecDeque::new(),
            since: BTreeMap::new(),
            unfenced: BTreeMap::new(),
            teller: Teller::default(),
            limits: Limits::default(),
        };
        Self { inner: Mutex::new(inner), latest: watch::channel(last).0, journal }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the journal stands, if there is one.
    pub(crate) fn journal(&self) -> Option<JournalStatus> {
        let standing = self.journal.as_ref()?.standing();
        Some(JournalStatus { written: standing.written, dropped: standing.dropped, size_bytes: standing.bytes })
    }

    /// The end, in order: nothing is told afterwards.
    pub(crate) fn end(&self) {
        if let Some(journal) = &self.journal {
            journal.end();
        }
    }

    /// Since when a controller is in its state.
    pub(crate) fn since(&self, ctrl: CtrlId) -> Option<Since> {
        self.inner().since.get(&ctrl).cloned()
    }

    /// A controller that is to be connected so.
    pub(crate) fn name_controller(&self, ctrl: CtrlId, spec: ControllerSpec) {
        self.inner().teller.name_controller(ctrl, spec);
    }

    /// How a namespace is called.
    pub(crate) fn name_head(&self, head: HeadId, name: String) {
        self.inner().teller.name_head(head, name);
    }

    /// A life of an earlier process.
    pub(crate) fn name_life(&self, life: LifeId, ctrl: CtrlId) {
        self.inner().teller.name_life(life, ctrl);
    }

    /// Lives that ended unfenced, each with its controller: what they sent may still take effect.
    pub(crate) fn unfenced(&self) -> Vec<String> {
        self.inner().unfenced.values().cloned().collect()
    }

    /// Something happened to the host.
    pub(crate) fn tell(&self, event: &interlock_host::Event) {
        let mut inner = self.inner();
        if let EventKind::ControllerState { ctrl, why, .. } = &event.kind {
            inner.since.insert(*ctrl, Since { at: event.at, why: why.clone() });
        }
        let said = inner.teller.tell(event);
        // An attempt begins and fails, each with an event: the changes of state between would say it again, and a dead path
        // would fill the journal twice as fast.
        if let What::ControllerState { from, to, .. } = &said.what
            && from.as_linux() == ControllerState::Connecting
            && to.as_linux() == ControllerState::Connecting
        {
            return;
        }
        let ctrl = said.controller;
        match &event.kind {
            EventKind::TombstoneSet { life, in_doubt, .. } if *in_doubt > 0 => {
                let name = ctrl.map_or_else(|| life.to_string(), |ctrl| format!("{ctrl} ({life})"));
                inner.unfenced.insert(*life, name);
            }
            EventKind::TombstoneEnded { life, .. } => drop(inner.unfenced.remove(life)),
            _ => {}
        }
        let told = Event {
            format_version: Version,
            seq: 0,
            at_ns: event.at.as_nanos(),
            unix_ms: interlock_host::words::unix_millis(event.at).unwrap_or(0),
            level: said.level,
            subsystem: said.subsystem,
            controller: ctrl.map(|ctrl| ctrl.to_string()),
            life: said.life.map(|life| life.to_string()),
            what: said.what,
            text: said.text,
        };
        self.say(inner, ctrl, told);
    }

    /// Something else happened, of which the stream is to tell.
    pub(crate) fn happened(&self, level: Level, ctrl: Option<CtrlId>, what: What, text: String) {
        let told = Event {
            format_version: Version,
            seq: 0,
            at_ns: now().as_nanos(),
            unix_ms: unix_ms(),
            level,
            subsystem: None,
            controller: ctrl.map(|ctrl| ctrl.to_string()),
            life: None,
            what,
            text,
        };
        self.say(self.inner(), ctrl, told);
    }

    /// The daemon says something about itself.
    pub(crate) fn note(&self, level: Level, topic: &str, text: String) {
        self.happened(level, None, What::Note { topic: topic.into() }, text);
    }

    /// Gives it its number, and tells everybody. The lock is held meanwhile: the order of numbers is the order of events.
    fn say(&self, mut inner: MutexGuard<'_, Inner>, ctrl: Option<CtrlId>, mut event: Event) {
        event.text = one_line(event.text);
        inner.log(ctrl, &event);
        inner.last += 1;
        event.seq = inner.last;
        let event = Arc::new(event);
        if inner.kept.len() >= KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back(Arc::clone(&event));
        if matches!(event.what, What::Fenced { .. }) {
            if inner.receipts.len() >= RECEIPTS {
                inner.receipts.pop_front();
            }
            inner.receipts.push_back(Arc::clone(&event));
        }
        if let Some(journal) = &self.journal {
            journal.record(event);
        }
        self.latest.send_replace(inner.last);
    }

    /// The number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.inner().last
    }

    /// Follows what is told after this number.
    pub(crate) fn follow(self: &Arc<Self>, after: u64) -> Follower {
        Follower { told: Arc::clone(self), latest: self.latest.subscribe(), after }
    }

    /// Some events after this number, the oldest first; none if there is none. May read the journal, which takes a while.
    pub(crate) fn some_after(&self, after: u64) -> Vec<Arc<Event>> {
        let (memory, oldest) = self.in_memory(after);
        let Some(journal) = self.journal.as_ref().filter(|_| after + 1 < oldest) else { return memory };
        let read = || journal.reader().and_then(|reader| reader.between(after, oldest, PAGE));
        let mut events = read();
        if events.as_ref().is_ok_and(Vec::is_empty) && journal.flush(FLUSH_WITHIN) {
            // What left the memory was still on its way to the disk.
            events = read();
        }
        let events = events.inspect_err(|why| tracing::warn!("{why}")).unwrap_or_default();
        // What is neither here nor there is lost, and the gap in the numbers says so.
        if events.is_empty() { memory } else { events.into_iter().map(Arc::new).collect() }
    }

    /// The last `most` events, in order.
    pub(crate) fn recent(&self, most: usize) -> Vec<Arc<Event>> {
        let (memory, oldest) = self.in_memory(0);
        if memory.len() >= most || self.journal.is_none() {
            return memory[memory.len().saturating_sub(most)..].to_vec();
        }
        let older = self.read(|reader| reader.last(oldest, most - memory.len())).unwrap_or_default();
        older.into_iter().map(Arc::new).chain(memory).collect()
    }

    /// The last `most` events of a kind between two numbers, in order.
    pub(crate) fn of_kind(&self, kind: &str, after: u64, before: u64, most: usize) -> Result<Vec<Event>, JournalError> {
        if self.journal.is_some() {
            return self.read(|reader| reader.of_kind(kind, after, before, most));
        }
        let (memory, oldest) = self.in_memory(after);
        let older: Vec<Arc<Event>> = self.inner().receipts.iter().filter(|event| event.seq < oldest).cloned().collect();
        let is_it = |event: &&Arc<Event>| (after + 1..before).contains(&event.seq) && event.what.name() == kind;
        let found: Vec<Event> = older.iter().chain(&memory).filter(is_it).map(|event| (**event).clone()).collect();
        Ok(found[found.len().saturating_sub(most)..].to_vec())
    }

    /// What there is to say about the failover that began with this event: what was connected before, and what came after
    /// it, in order.
    pub(crate) fn about(&self, id: u64) -> Result<Vec<Event>, JournalError> {
        if self.journal.is_some() {
            return self.read(|reader| reader.about(id, STORY));
        }
        Ok(self.in_memory(0).0.iter().map(|event| (**event).clone()).collect())
    }

    /// Reads the journal, with everything in it that was told so far.
    fn read<T: Default>(&self, ask: impl Fn(&Reader) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let Some(journal) = &self.journal else { return Ok(T::default()) };
        if !journal.flush(FLUSH_WITHIN) {
            tracing::warn!("the journal is behind: its disk does not answer");
        }
        journal.reader().and_then(|reader| ask(&reader))
    }

    /// Events after this number that are in memory, and the oldest number there.
    fn in_memory(&self, after: u64) -> (Vec<Arc<Event>>, u64) {
        let inner = self.inner();
        let oldest = inner.kept.front().map_or(inner.last + 1, |event| event.seq);
        let skip = usize::try_from((after + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        (inner.kept.iter().skip(skip).cloned().collect(), oldest)
    }

    /// True if the memory has everything after this number.
    fn remembers(&self, after: u64) -> bool {
        self.in_memory(after).1 <= after + 1
    }
}

/// Somebody who wants to hear everything, in order.
#[derive(Debug)]
pub(crate) struct Follower {
    told: Arc<Told>,
    latest: watch::Receiver<u64>,
    after: u64,
}

impl Follower {
    /// The next events, as soon as there are any; `None` when nothing will be told any more.
    pub(crate) async fn next(&mut self) -> Option<Vec<Arc<Event>>> {
        loop {
            // Seen from here on: what is told while this one looks wakes it again.
            self.latest.borrow_and_update();
            let (told, after) = (Arc::clone(&self.told), self.after);
            let events = if told.remembers(after) {
                told.some_after(after)
            } else {
                tokio::task::spawn_blocking(move || told.some_after(after)).await.ok()?
            };
            if let Some(last) = events.last() {
                self.after = last.seq;
                return Some(events);
            }
            self.latest.changed().await.ok()?;
        }
    }
}

impl Inner {
    fn log(&mut self, ctrl: Option<CtrlId>, event: &Event) {
        let text = &event.text;
        match self.limits.line(ctrl.map(|ctrl| ctrl.0), now().since(interlock_host::Instant::ZERO)) {
            Verdict::Keep => {}
            Verdict::Say(kept) => {
                if kept > 0 {
                    tracing::warn!(
                        "{}{kept} lines were kept back",
                        ctrl.map_or_else(String::new, |id| format!("{id}: "))
                    );
                }
                match event.level {
                    Level::Info => tracing::info!("{text}"),
                    Level::Warn => tracing::warn!("{text}"),
                    Level::Error => tracing::error!("{text}"),
                }
            }
        }
    }
}

/// Names and addresses come from others: what would begin a new line, or tell a terminal something, is shown and not done.
fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_observe::journal::{Bounds, Owner};
    use std::path::Path;

    fn journal(dir: &Path) -> (Journal, u64) {
        let owner = Owner { hostnqn: "nqn".into(), hostid: "1".into() };
        let (journal, begin) = Journal::open(dir, &owner, Bounds::default()).expect("opens");
        (journal, begin.next)
    }

    fn say(told: &Told, count: u64) {
        (0..count).for_each(|_| told.note(Level::Info, "test", "text".into()));
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    async fn hear(follower: &mut Follower, until: u64) -> Vec<u64> {
        let mut heard = Vec::new();
        while heard.last() < Some(&until) {
            heard.extend(follower.next().await.expect("it goes on").iter().map(|event| event.seq));
        }
        heard
    }

    #[test]
    fn a_follower_gets_everything_once_from_the_journal_from_memory_and_live() {
        let dir = tempfile::tempdir().expect("a directory");
        let (first, next) = journal(dir.path());
        let told = Told::new(Some(first), next);
        say(&told, 3_000);
        drop(told);
        let (second, next) = journal(dir.path());
        assert_eq!(next, 3_001, "the numbers go on");
        let told = Arc::new(Told::new(Some(second), next));
        say(&told, 2_000);
        block_on(async {
            let mut follower = told.follow(10);
            assert_eq!(hear(&mut follower, 5_000).await, (11..=5_000).collect::<Vec<_>>());
            // As slow as can be: it asks again only after far more than the memory holds.
            say(&told, 3 * KEPT as u64);
            let last = 5_000 + 3 * KEPT as u64;
            assert_eq!(hear(&mut follower, last).await, (5_001..=last).collect::<Vec<_>>());
            let more = Arc::clone(&told);
            let speaker = std::thread::spawn(move || say(&more, 500));
            assert_eq!(hear(&mut follower, last + 500).await, (last + 1..=last + 500).collect::<Vec<_>>());
            speaker.join().expect("it spoke");
        });
    }

    #[test]
    fn nobody_can_forge_a_line() {
        let told = Told::new(None, 1);
        told.note(Level::Info, "test", "127.0.0.1\n<3>forged\u{1b}[2J".into());
        assert_eq!(told.recent(1)[0].text, "127.0.0.1\\n<3>forged\\u{1b}[2J");
    }

    #[test]
    fn without_a_journal_what_left_the_memory_is_a_gap() {
        let told = Arc::new(Told::new(None, 1));
        say(&told, KEPT as u64 + 5);
        block_on(async {
            let mut follower = told.follow(0);
            let heard = hear(&mut follower, KEPT as u64 + 5).await;
            assert_eq!((heard.len(), heard[0]), (KEPT, 6));
        });
    }

    #[test]
    fn without_a_journal_no_flood_takes_the_place_of_receipts() {
        let receipt: interlock_api::Receipt =
            serde_json::from_str(include_str!("../../api/tests/golden/receipt.json")).expect("a receipt");
        let told = Told::new(None, 1);
        let fence = |told: &Told| {
            let what = What::Fenced { receipt: Box::new(receipt.clone()) };
            told.happened(Level::Info, None, what, "fenced".into());
        };
        fence(&told);
        say(&told, 3 * KEPT as u64);
        fence(&told);
        let numbers = |after, before| {
            let found = told.of_kind("fenced", after, before, 10).expect("memory can be read");
            found.iter().map(|event| event.seq).collect::<Vec<_>>()
        };
        let last = 3 * KEPT as u64 + 2;
        assert_eq!(numbers(0, u64::MAX), [1, last], "each once");
        assert_eq!((numbers(1, u64::MAX), numbers(0, last)), (vec![last], vec![1]));
        (0..2 * RECEIPTS).for_each(|_| fence(&told));
        assert_eq!(told.inner().receipts.len(), RECEIPTS);
    }
}

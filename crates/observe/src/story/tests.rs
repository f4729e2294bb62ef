//! Stories of recorded streams, against what they said before; and of streams that are cut short or rare.
//!
//! `tests/golden/story/NAME.jsonl` are events as a drill or a daemon told them; `NAME.txt` is the page of their last failover.
//! `INTERLOCK_BLESS=1` writes the pages anew: the difference then stands in the commit, to be looked at.

use super::*;
use interlock_api::{
    CcrAnswer, ControllerState, DetectedHow, FencePolicy, Hex64, Level, Life, Method, PathAddress, Predicted, Safety,
    StatusCode, StoryState, Version,
};
use std::fs;
use std::path::PathBuf;

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/story")
}

fn recorded(name: &str) -> Vec<Event> {
    let file = dir().join(format!("{name}.jsonl"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
}

fn last(events: &[Event]) -> Story {
    let id = *failovers(events).last().expect("a failover");
    story(events, id).expect("its story")
}

const RECORDED: [(&str, Safety, Option<Method>); 7] = [
    ("reset", Safety::Proven, Some(Method::Immediate)),
    ("single-path", Safety::Proven, Some(Method::Immediate)),
    ("silent", Safety::Proven, Some(Method::Immediate)),
    ("slow-fence", Safety::Proven, Some(Method::Log)),
    ("no-ccr", Safety::Proven, Some(Method::Time)),
    ("neither", Safety::Assumed, Some(Method::Assumed)),
    ("legacy", Safety::Unsafe, Some(Method::Legacy)),
];

#[test]
fn recorded_failovers_tell_the_story_that_they_told_before() {
    for (name, safety, method) in RECORDED {
        let story = last(&recorded(name));
        assert_eq!((story.safety, story.method, story.state), (safety, method, StoryState::Over), "{name}");
        assert!(story.felt.longest_ms.is_some() && story.in_doubt > Some(0), "{name}: {story:?}");
        let page = page(&story);
        assert!(page.lines().all(|line| line.chars().count() <= 120), "{name} is too wide:\n{page}");
        let file = dir().join(format!("{name}.txt"));
        if std::env::var_os("INTERLOCK_BLESS").is_some() {
            fs::write(&file, &page).expect("blessed");
        }
        assert_eq!(page, fs::read_to_string(&file).unwrap_or_default(), "{name} tells another story");
    }
}

#[test]
fn a_story_can_be_told_at_any_moment_and_its_end_stays() {
    for (name, ..) in RECORDED {
        let events = recorded(name);
        let id = *failovers(&events).last().expect("a failover");
        let begin = events.iter().position(|event| event.seq == id).expect("there");
        let mut before = StoryState::Ongoing;
        for end in begin + 1..=events.len() {
            let story = story(&events[..end], id).expect("its story");
            assert!(before == StoryState::Ongoing || story.state == before, "{name}: it ended twice");
            before = story.state;
            assert!(page(&story).contains("failover"));
        }
        assert_eq!(before, StoryState::Over, "{name}");
    }
}

#[test]
fn the_same_story_is_told_without_what_came_before() {
    for (name, ..) in RECORDED {
        let events = recorded(name);
        let whole = last(&events);
        let begin = events.iter().position(|event| event.seq == whole.id).expect("there");
        let without = last(&events[begin..]);
        assert_eq!((without.safety, &without.stages), (whole.safety, &whole.stages), "{name}");
        assert_eq!(without.felt.foretold_ms, None, "{name}: what is not known is not made up");
    }
}

/// A stream that is written by hand: each line at its millisecond.
struct Stream(Vec<Event>);

const NQN: &str = "nqn.2014-08.org.example:s";

impl Stream {
    fn begin() -> Self {
        Self(Vec::new()).at(0, "", "", What::Started { version: "0.1.0".into(), pid: 1 })
    }

    fn at(mut self, ms: u64, controller: &str, life: &str, what: What) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        self.0.push(Event {
            format_version: Version,
            seq: self.0.len() as u64 + 1,
            at_ns: (1_000 + ms) * 1_000_000,
            unix_ms: 1_790_000_000_000 + ms,
            level: Level::Info,
            subsystem: some(controller).map(|_| NQN.into()),
            controller: some(controller),
            life: some(life),
            what,
            text: String::new(),
        });
        self
    }

    fn connected(self, ms: u64, controller: &str, life: &str, port: u16) -> Self {
        let what = What::Connected {
            identity: Life { cntlid: port, ciu: 1, cirn: Hex64(7) },
            path: PathAddress::tcp("192.0.2.1", port),
            io_queues: 1,
            kato_ms: 5_000,
            cqt_ms: Some(1_000),
            ccr: true,
            fence: FencePolicy::Strict,
            predicted: Predicted {
                detect_ms: Some(5_000),
                stop_ms: 250,
                hold_ms: Some(11_210),
                assumed: false,
                reconnect_ms: 60_000,
                settled_fails_ms: Some(600_000),
            },
        };
        self.at(ms, controller, life, what)
    }

    fn lost(self, ms: u64) -> Self {
        let reason = "connection reset by peer".into();
        self.at(ms, "nvme0", "life1", What::Lost { how: DetectedHow::ConnectionReset, reason })
    }

    fn condemned(self, ms: u64, in_doubt: u64) -> Self {
        let oldest_ms = (in_doubt > 0).then_some(9);
        self.at(ms, "nvme0", "life1", What::Condemned { in_doubt, settled: 2, oldest_ms })
    }

    fn told(self) -> Story {
        last(&self.0)
    }
}

#[test]
fn a_loss_without_a_doubt_needs_no_fence() {
    let stream = Stream::begin().connected(1, "nvme0", "life1", 1).connected(2, "nvme1", "life2", 2).lost(100);
    let stream = stream.condemned(101, 0).at(101, "nvme0", "life1", What::NothingInDoubt { answered_late: 0 });
    let story = stream.connected(105, "nvme0", "life3", 1).told();
    assert_eq!((story.safety, story.state, story.method), (Safety::NotNeeded, StoryState::Over, None));
    assert_eq!(story.went_to.iter().map(|way| way.controller.as_str()).collect::<Vec<_>>(), ["nvme1"]);
    assert!(page(&story).contains("SAFE: nothing was in doubt"), "{}", page(&story));
}

#[test]
fn the_notify_policy_says_how_long_somebody_was_waited_for() {
    let wanted = |lost_for_ms| What::ReconnectWanted { lost_for_ms };
    let stream = Stream::begin().connected(1, "nvme0", "life1", 1).lost(100).condemned(101, 3);
    let stream = stream.at(101, "nvme0", "", wanted(1)).at(10_101, "nvme0", "", wanted(10_001));
    let waiting = stream.0.len();
    let stream = stream
        .at(12_000, "nvme0", "", What::ReconnectAttempt { attempt: 1, max_attempts: None })
        .connected(12_005, "nvme0", "life2", 1)
        .at(12_006, "nvme0", "life1", What::CcrSent { source: "nvme0".into() });
    let early = last(&stream.0[..waiting]);
    assert_eq!((early.state, early.safety), (StoryState::Ongoing, Safety::Pending));
    assert!(early.verdict.contains("the fence is awaited"), "{}", early.verdict);
    let answer = What::CcrAnswered { source: "nvme0".into(), answer: CcrAnswer::Immediate, status: None };
    let stream = stream.at(12_007, "nvme0", "life1", answer);
    let story = stream.at(12_008, "nvme0", "life1", What::Released { commands: 3 }).told();
    let wait = story.stages.iter().find(|stage| stage.name == interlock_api::StageName::Wait).expect("it waited");
    assert_eq!((wait.from_ms, wait.ms), (1.0, Some(11_899.0)));
    assert!(wait.text.contains("asked 2 times"), "{}", wait.text);
    assert_eq!(story.felt.longest_ms, Some(9.0 + 11_908.0), "nothing else was there");
    assert_eq!((story.felt.foretold_ms, story.felt.within), (None, None), "nobody foretells when somebody comes");
    assert!(story.advice.iter().any(|advice| advice.contains("from a hook")), "{:?}", story.advice);
    assert!(story.advice.iter().any(|advice| advice.contains("second path")), "{:?}", story.advice);
}

#[test]
fn a_tombstone_says_what_stays_guarded_and_how_it_is_freed() {
    let stream = Stream::begin().connected(1, "nvme0", "life1", 1).lost(100).condemned(101, 3);
    let stream =
        stream.at(120, "nvme0", "life1", What::HoldStarted { t0_ns: 1_102_000_000, hold_ms: None, assumed: false });
    let given_up = What::GivenUp { reason: "ctrl_loss_tmo has passed".into() };
    let dead = What::ControllerState { from: ControllerState::Waiting, to: ControllerState::Dead, reason: "x".into() };
    let stream = stream.at(2_000, "nvme0", "", given_up).at(2_001, "nvme0", "", dead);
    let stream = stream.at(2_002, "nvme0", "life1", What::TombstoneLeft { in_doubt: 3, left_ms: None });
    let left = stream.0.len();
    let story = stream.at(9_000, "nvme0", "life1", What::TombstoneEnded { method: Method::Immediate });
    let guarded = last(&story.0[..left]);
    assert_eq!((guarded.safety, guarded.state), (Safety::Guarded, StoryState::Ongoing));
    let page = page(&guarded);
    assert!(page.contains("GUARDED: ended without a fence") && page.contains("stay guarded"), "{page}");
    assert!(guarded.advice[0].contains("connect another path"), "{:?}", guarded.advice);
    let freed = story.told();
    assert_eq!((freed.safety, freed.state), (Safety::Proven, StoryState::Over));
}

#[test]
fn a_daemon_that_ended_leaves_the_rest_to_its_successor() {
    let stream = Stream::begin().connected(1, "nvme0", "life1", 1).lost(100).condemned(101, 3);
    let again = What::Started { version: "0.1.0".into(), pid: 2 };
    let found = What::PredecessorFound { identity: Life { cntlid: 1, ciu: 1, cirn: Hex64(7) } };
    let stream = stream.at(5_000, "", "", again).at(5_001, "nvme0", "life1", found);
    let stream = stream.connected(5_100, "nvme0", "life2", 1);
    let ids = failovers(&stream.0);
    assert_eq!(ids.len(), 2, "one story each");
    let first = story(&stream.0, ids[0]).expect("it");
    assert_eq!((first.state, first.safety), (StoryState::Interrupted, Safety::Pending));
    assert!(first.verdict.contains("its successor"), "{}", first.verdict);
    let second = story(&stream.0, ids[1]).expect("it");
    assert_eq!((second.detected, second.state), (DetectedHow::Predecessor, StoryState::Ongoing));
    assert_eq!(second.felt.longest_ms, None, "what an application of another process felt is not known");
}

#[test]
fn what_took_longer_than_foretold_is_said() {
    let stream = Stream::begin().connected(1, "nvme0", "life1", 1).connected(2, "nvme1", "life2", 2).lost(100);
    let stream = stream.condemned(101, 3).at(200, "nvme0", "life1", What::LaneSilent { lanes: 1 });
    let stream = stream.at(60_000, "nvme0", "life1", What::Released { commands: 3 });
    let story = stream.told();
    assert_eq!((story.felt.foretold_ms, story.felt.within), (Some(11_460), Some(false)));
    assert!(page(&story).contains("EXCEEDED"), "{}", page(&story));
    assert!(story.notes.iter().any(|note| note.contains("a reactor was slow")));
}

#[test]
fn a_reservation_of_another_host_is_named_where_it_explains_what_failed() {
    let stream = Stream::begin().connected(1, "nvme0", "life1", 1).connected(2, "nvme1", "life2", 2).lost(100);
    let conflict = |commands| What::ReservationConflict {
        namespace: "nvme0n1".into(),
        status: StatusCode { code: 0x83, dnr: true, text: "Reservation Conflict (083h, do not retry)".into() },
        commands,
    };
    let stream = stream.condemned(101, 0).at(101, "nvme0", "life1", What::NothingInDoubt { answered_late: 0 });
    let story = stream.at(102, "nvme1", "life2", conflict(1)).at(10_200, "nvme1", "life2", conflict(41)).told();
    let named = "42 commands failed with Reservation Conflict";
    assert!(story.notes.iter().any(|note| note.contains(named)), "{:?}", story.notes);
    assert!(story.advice.iter().any(|text| text.contains("holds the reservation")), "{:?}", story.advice);
}

#[test]
fn events_of_others_and_of_no_failover_tell_nothing() {
    let stream = Stream::begin().connected(1, "nvme0", "life1", 1);
    assert_eq!(failovers(&stream.0), [] as [u64; 0]);
    assert_eq!(story(&stream.0, 2), None);
    assert_eq!(story(&stream.0, 77), None);
    assert_eq!(story(&[], 1), None);
}

//! The daemon is killed under load, again and again, while paths break and the target holds writes back.
//!
//! After every kill each block must hold what was answered last, or one of the writes that had no answer; once a later
//! write is answered, none of the old ones may ever come back, although the target tries to execute those it held.
//! `INTERLOCK_KILLS` says how often.

use crate::nbd::Client;
use crate::scene::{Scene, say, wait_for};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 64;
const IN_FLIGHT: usize = 16;
const KILLS: u32 = 20;

/// What a block may hold.
#[derive(Clone, Debug)]
struct Allowed {
    answered: u64,
    unanswered: BTreeSet<u64>,
}

fn stamp(lba: u64, generation: u64) -> Vec<u8> {
    [lba, generation].iter().flat_map(|word| word.to_le_bytes()).cycle().take(4096).collect()
}

fn generation_of(lba: u64, data: &[u8]) -> u64 {
    let generation = u64::from_le_bytes(data[8..16].try_into().expect("8 bytes"));
    if generation == 0 {
        assert!(data.iter().all(|byte| *byte == 0), "block {lba}: torn");
    } else {
        assert_eq!(data, stamp(lba, generation), "block {lba}: torn");
    }
    generation
}

/// A little generator: which blocks, which fault, when to kill.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct Load<'a> {
    scene: &'a Scene,
    model: Vec<Allowed>,
    next: u64,
}

impl Load<'_> {
    fn open(&self) -> Client {
        wait_for("the export is there", || Client::open(&self.scene.nbd(), "nvme0n1").ok())
    }

    /// Every block holds what it may hold; from now on it holds that and nothing else.
    fn verify(&mut self, client: &mut Client, when: &str) {
        for lba in 0..BLOCKS {
            let data = client.read(lba * BLOCK, 4096).expect("a read");
            let found = generation_of(lba, &data);
            let allowed = &mut self.model[usize::try_from(lba).expect("few")];
            assert!(
                found == allowed.answered || allowed.unanswered.contains(&found),
                "{when}: block {lba} holds generation {found}, may hold {allowed:?}"
            );
        }
    }

    fn rewrite(&mut self, client: &mut Client) {
        for lba in 0..BLOCKS {
            let generation = self.next;
            self.next += 1;
            client.write(lba * BLOCK, &stamp(lba, generation)).expect("a write");
            self.model[usize::try_from(lba).expect("few")] =
                Allowed { answered: generation, unanswered: BTreeSet::new() };
        }
        client.flush().expect("a flush");
    }

    /// Writes until the connection breaks; `middle` runs once so many were answered.
    fn until_it_breaks(&mut self, client: Client, dice: &mut Dice, answers: u64, middle: impl FnOnce() + Send) -> u64 {
        let (mut sender, mut receiver) = (client.twin(), client);
        let (answered, news) = mpsc::channel::<Option<(u64, bool)>>();
        let mut count = 0;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                loop {
                    let answer = receiver.answer().ok();
                    // The writer may have ended.
                    let _ = answered.send(answer);
                    if answer.is_none() {
                        return;
                    }
                }
            });
            let mut middle = Some(middle);
            let mut flying = BTreeSet::<u64>::new();
            loop {
                let free: Vec<u64> = (0..BLOCKS).filter(|lba| !flying.contains(lba)).collect();
                if flying.len() < IN_FLIGHT {
                    let lba = free[usize::try_from(dice.below(free.len() as u64)).expect("few")];
                    let generation = self.next;
                    self.next += 1;
                    flying.insert(lba);
                    // Whatever the socket says: it may have arrived.
                    self.model[usize::try_from(lba).expect("few")].unanswered.insert(generation);
                    let sent = sender.begin_write(generation * BLOCKS + lba, lba * BLOCK, &stamp(lba, generation));
                    if sent.is_err() {
                        break;
                    }
                    continue;
                }
                if count >= answers
                    && let Some(middle) = middle.take()
                {
                    // On a thread of its own: the load goes on while it happens.
                    scope.spawn(middle);
                }
                // A write that the target holds back is answered when its path is fenced, or never: then the kill comes.
                match news.recv_timeout(Duration::from_millis(200)) {
                    Ok(Some((cookie, true))) => {
                        let (generation, lba) = (cookie / BLOCKS, cookie % BLOCKS);
                        flying.remove(&lba);
                        count += 1;
                        let block = &mut self.model[usize::try_from(lba).expect("few")];
                        block.answered = generation;
                        block.unanswered.clear();
                    }
                    Ok(Some((cookie, false))) => panic!("write {cookie} failed although exports hold"),
                    Ok(None) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        if let Some(middle) = middle.take() {
                            scope.spawn(middle);
                        }
                    }
                }
            }
        });
        count
    }
}

#[test]
fn killed_under_load_nothing_is_lost_stale_or_renamed() {
    let kills = std::env::var("INTERLOCK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let seed = std::env::var("INTERLOCK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x9e37_79b9_7f4a_7c15);
    // A held write executes when it is released, and not before: only a fence stops it.
    let mut scene = Scene::new("kills", &["--cqt", "60000", "--quiesce", "60000"]);
    for port in [0, 1] {
        scene.connect(port, &["-k", "1", "-c", "1", "-l", "-1"]);
    }
    scene.does(&["export", "nvme0n1"]);
    let mut dice = Dice(seed);
    let mut model = vec![Allowed { answered: 0, unanswered: BTreeSet::new() }; usize::try_from(BLOCKS).expect("few")];
    let (mut next, mut answered, mut fenced) = (1, 0, 0);
    for kill in 0..kills {
        let port = dice.below(2).to_string();
        let (fault, wait) = (dice.below(3), 20 + dice.below(200));
        {
            let mut load = Load { scene: &scene, model, next };
            let client = load.open();
            let scene = &scene;
            answered += load.until_it_breaks(client, &mut dice, wait, || {
                match fault {
                    0 => {
                        scene.tell(&["fault", &format!("kind=hold-writes,port={port}")]);
                    }
                    1 => {
                        scene.tell(&["fault", &format!("kind=hold-writes,port={port}")]);
                        scene.tell(&["fault", &format!("kind=reset-connections,port={port}")]);
                    }
                    _ => {
                        scene.tell(&["port", "close", &port]);
                    }
                }
                scene.daemon().signal(Signal::KILL);
            });
            (model, next) = (load.model, load.next);
        }
        scene.stop(Signal::KILL);
        if fault == 2 {
            scene.tell(&["port", "open", &port]);
        } else {
            scene.tell(&["fault", &format!("kind=stop-holding,port={port}")]);
        }
        scene.start();
        let mut load = Load { scene: &scene, model, next };
        let mut client = load.open();
        load.verify(&mut client, &format!("after kill {kill}"));
        load.rewrite(&mut client);
        scene.tell(&["fault", "kind=release"]);
        load.verify(&mut client, &format!("after the ghosts of kill {kill}"));
        (model, next) = (load.model, load.next);
        let status = scene.all_live(&["nvme0", "nvme1"]);
        let names: Vec<&str> =
            status["controllers"].as_array().expect("a list").iter().filter_map(|ctrl| ctrl["name"].as_str()).collect();
        assert_eq!(names, ["nvme0", "nvme1"], "the same names after kill {kill}");
        assert_eq!(status["controllers"][0]["path"]["trsvcid"], *scene.target.port(0));
        assert_eq!(status["namespaces"][0]["name"], "nvme0n1");
        assert_eq!(status["totals"]["unsafe_failovers"], 0);
        let fences = status["totals"]["fences"].as_object().expect("a map");
        fenced += fences.values().filter_map(serde_json::Value::as_u64).sum::<u64>();
    }
    say(&format!(
        "{kills} kills (seed {seed}): {answered} writes answered, {fenced} fences, nothing lost, nothing stale"
    ));
    assert!(fenced > 0, "no fence was needed: this showed nothing");
}

use super::*;
use alloc::vec;

const MS: Duration = Duration::from_millis(1);
const HEAD: HeadId = HeadId(0);
const NSID: u32 = 7;
const LANES: u16 = 1;

fn key(seq: u64) -> GuardKey {
    GuardKey { seq, lane: 0 }
}

const fn way(life: LifeId) -> Way {
    Way { life, nsid: NSID, own_queue: true }
}

/// Controllers with an instance each, and a host with one lane that does as it is told.
struct World {
    suspects: Suspects,
    now: Instant,
    /// By controller: its instance.
    live: BTreeMap<CtrlId, LifeId>,
    next_life: u64,
    /// Commands that end an instance.
    poison: BTreeSet<GuardKey>,
    /// So does every command there, the witness included.
    broken: BTreeSet<CtrlId>,
    /// What ends an instance ends that of the other controller, too.
    whole: bool,
    /// Nothing outstanding anywhere ends.
    busy: bool,
    /// ... or on these.
    stuck: BTreeSet<LifeId>,
    /// Nothing is answered there.
    mute: bool,
    op: Op,
    told: Vec<(GuardKey, Stage)>,
    forgiven: BTreeSet<CtrlId>,
    failed: Vec<GuardKey>,
    freed: Vec<GuardKey>,
    isolated: Vec<LifeId>,
}

impl World {
    fn new(controllers: u32) -> Self {
        let mut world = Self {
            suspects: Suspects::new(LANES),
            now: Instant::from_millis(10_000),
            live: BTreeMap::new(),
            next_life: 1,
            poison: BTreeSet::new(),
            broken: BTreeSet::new(),
            whole: false,
            busy: false,
            stuck: BTreeSet::new(),
            mute: false,
            op: Op::Write { fua: false },
            told: Vec::new(),
            forgiven: BTreeSet::new(),
            failed: Vec::new(),
            freed: Vec::new(),
            isolated: Vec::new(),
        };
        (0..controllers).for_each(|ctrl| world.connect(CtrlId(ctrl)));
        world
    }

    fn connect(&mut self, ctrl: CtrlId) {
        let life = LifeId(self.next_life);
        self.next_life += 1;
        self.live.insert(ctrl, life);
        self.suspects.live(self.now, life, ctrl, Duration::from_secs(1));
        self.run();
    }

    fn carried(&self, seq: u64, life: LifeId) -> Carried {
        let command = LedgerEntry {
            key: key(seq),
            life,
            head: HEAD,
            op: self.op,
            range: seq * 8..seq * 8 + 8,
            since: self.now,
            abandoned: false,
        };
        Carried { command, waits: true }
    }

    /// The instance of the controller is lost with these commands, is fenced, and the next one comes up at once.
    fn lose(&mut self, ctrl: u32, cause: Cause, commands: &[u64]) {
        let ctrl = CtrlId(ctrl);
        let life = self.live.remove(&ctrl).expect("live");
        let commands: Vec<_> = commands.iter().map(|seq| self.carried(*seq, life)).collect();
        self.suspects.not_live(self.now, life);
        self.suspects.carried(life, &commands);
        self.suspects.lost(self.now, life, ctrl, cause);
        self.connect(ctrl);
        self.suspects.over(self.now, life);
        self.run();
    }

    fn run(&mut self) {
        loop {
            let ways: Vec<Way> = self.live.values().map(|life| way(*life)).collect();
            let ways = |_, head| if head == HEAD { ways.clone() } else { vec![] };
            let Some(decision) = self.suspects.poll(self.now, ways) else { return };
            match decision {
                Decision::All(Order::Isolate(life)) => {
                    self.isolated.push(life);
                    if !self.busy && !self.stuck.contains(&life) {
                        self.suspects.isolated(LaneId(0), life);
                    }
                }
                Decision::All(Order::Share(_)) => {}
                Decision::One(_, Order::Witness { life, nsid }) => {
                    assert_eq!(nsid, NSID);
                    let ctrl = *self.live.iter().find(|(_, of)| **of == life).expect("live").0;
                    if self.broken.contains(&ctrl) {
                        self.lose(ctrl.0, Cause::Target, &[]);
                    } else if !self.mute {
                        self.suspects.witnessed(life);
                    }
                }
                Decision::One(key, Order::Alone { life, .. }) => {
                    let ctrl = *self.live.iter().find(|(_, of)| **of == life).expect("live").0;
                    if self.poison.contains(&key) {
                        self.lose(ctrl.0, Cause::Target, &[key.seq]);
                        if self.whole {
                            self.lose(1 - ctrl.0, Cause::Target, &[]);
                        }
                    } else if !self.mute {
                        self.suspects.ended(self.now, key);
                    }
                }
                Decision::One(key, Order::Fail { .. }) => {
                    self.failed.push(key);
                    self.suspects.ended(self.now, key);
                }
                Decision::One(key, Order::Free(_)) => self.freed.push(key),
                Decision::Tell(command, stage) => self.told.push((command.key, stage)),
                Decision::Forgive(ctrl) => {
                    self.forgiven.insert(ctrl);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets time pass, deadline by deadline.
    fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        let mut steps = 0;
        while let Some(at) = self.suspects.next_deadline(self.now).filter(|at| *at <= end) {
            steps += 1;
            assert!(steps < 1_000, "time stands still at {}", self.now);
            self.now = self.now.max(at);
            self.run();
        }
        self.now = end;
        self.run();
    }

    fn was_told(&self, seq: u64, stage: Stage) -> bool {
        self.told.contains(&(key(seq), stage))
    }
}

/// Two of such deaths may be two crashes of the target, or two suspensions of the host.
#[test]
fn a_command_that_ends_the_whole_target_fails_after_four_deaths() {
    let mut world = World::new(2);
    world.poison.insert(key(1));
    world.whole = true;
    for ctrl in [0, 1, 0] {
        world.lose(ctrl, Cause::Target, &[1]);
    }
    let alone = |world: &World| world.told.iter().filter(|(_, stage)| matches!(stage, Stage::Alone(_))).count();
    for _ in 0..600 {
        if alone(&world) == 4 {
            break;
        }
        assert_eq!(world.failed, [], "after {} turns alone", alone(&world));
        world.advance(100 * MS);
    }
    world.advance(5_000 * MS);
    assert_eq!((alone(&world), &world.failed[..]), (4, &[key(1)][..]));
}

#[test]
fn a_command_that_ends_every_instance_fails_after_two_of_them_carried_it_alone() {
    let mut world = World::new(2);
    world.poison.insert(key(1));
    for ctrl in [0, 1, 0] {
        assert!(!world.suspects.is_busy());
        world.lose(ctrl, Cause::Target, &[1]);
    }
    assert!(world.was_told(1, Stage::Suspected));
    assert_eq!(world.forgiven, BTreeSet::from([CtrlId(0), CtrlId(1)]));
    assert_eq!((world.isolated.len(), world.failed.len()), (1, 0), "it died alone once");
    world.advance(999 * MS);
    assert_eq!(world.isolated.len(), 1, "others have to live for a second");
    world.advance(MS);
    assert_eq!((world.isolated.len(), world.failed.len()), (2, 0), "and twice");
    world.advance(999 * MS);
    assert_eq!(world.failed, []);
    world.advance(MS);
    assert_eq!(world.failed, [key(1)]);
    assert!(world.was_told(1, Stage::Failed) && !world.was_told(1, Stage::Cleared));
    assert!(!world.suspects.is_busy());
    assert_eq!(world.suspects.next_deadline(world.now), None);
}

#[test]
fn what_is_answered_alone_is_cleared() {
    let mut world = World::new(2);
    [0, 1, 1].into_iter().for_each(|ctrl| world.lose(ctrl, Cause::Target, &[1]));
    assert!(world.was_told(1, Stage::Suspected) && world.was_told(1, Stage::Cleared));
    assert_eq!((world.failed.len(), world.suspects.is_busy()), (0, false));
}

#[test]
fn of_many_suspects_of_one_loss_only_the_poison_fails() {
    let mut world = World::new(2);
    world.poison.extend([key(5), key(17)]);
    let all: Vec<u64> = (1..=32).collect();
    [0, 1, 0].into_iter().for_each(|ctrl| world.lose(ctrl, Cause::Target, &all));
    let cleared = world.told.iter().filter(|(_, stage)| *stage == Stage::Cleared).count();
    assert_eq!(cleared, 30, "in one go");
    world.advance(3_000 * MS);
    assert_eq!(world.failed, [key(5), key(17)], "both within two times a second, and four fences");
    assert!(world.isolated.len() <= 8, "{}", world.isolated.len());
}

#[test]
fn an_end_that_was_asked_for_counts_for_nobody_and_silence_only_for_one() {
    let mut world = World::new(2);
    for _ in 0..8 {
        world.lose(0, Cause::Host, &[1]);
        world.lose(1, Cause::Silence, &[1, 2]);
    }
    assert!(!world.suspects.is_busy());
    assert!(world.freed.contains(&key(1)) && world.freed.contains(&key(2)), "their lane is told to go on");
    world.poison.insert(key(3));
    (0..3).for_each(|_| world.lose(0, Cause::Silence, &[3]));
    assert!(world.was_told(3, Stage::Suspected), "nothing else was outstanding");
    world.advance(3_000 * MS);
    assert_eq!(world.failed, [key(3)]);
}

#[test]
fn where_everything_dies_nobody_fails() {
    // Every command ends its instance, on every path, for a minute.
    let mut world = World::new(2);
    world.broken.extend([CtrlId(0), CtrlId(1)]);
    [0, 1, 0].into_iter().for_each(|ctrl| world.lose(ctrl, Cause::Target, &[1, 2, 3]));
    world.advance(60_000 * MS);
    assert_eq!((world.failed.len(), world.suspects.suspects().count()), (0, 3), "they wait");
    assert!(world.was_told(1, Stage::Waits(Unclear::Ended)), "and are named");
    assert!(world.isolated.len() < 40, "less and less often, not {} times", world.isolated.len());
    world.broken.clear();
    world.advance(PAUSE_MAX + LIVED);
    assert_eq!((world.failed.len(), world.suspects.is_busy()), (0, false));
}

#[test]
fn a_path_that_flaps_proves_nothing() {
    // The one path is lost every 900 ms, whatever it carries; and each time that a suspect is alone on it.
    let mut world = World::new(1);
    world.poison.insert(key(1));
    (0..3).for_each(|_| world.lose(0, Cause::Target, &[1]));
    for _ in 0..60 {
        world.advance(900 * MS);
        world.lose(0, Cause::Target, &[]);
    }
    assert_eq!(world.failed, [], "no instance lived");
    assert!(world.was_told(1, Stage::Waits(Unclear::LostWithout)));
    world.poison.clear();
    world.advance(PAUSE_MAX + LIVED);
    assert!(!world.suspects.is_busy(), "it was answered: the path had been at fault");
}

#[test]
fn a_flapping_path_beside_a_calm_one_hides_no_poison() {
    let mut world = World::new(2);
    world.poison.insert(key(1));
    [0, 1, 0].into_iter().for_each(|ctrl| world.lose(ctrl, Cause::Target, &[1]));
    for _ in 0..40 {
        world.advance(300 * MS);
        world.lose(0, Cause::Target, &[]);
    }
    assert_eq!(world.failed, [key(1)]);
    let mut innocent = World::new(2);
    [0, 0, 0].into_iter().for_each(|ctrl| innocent.lose(ctrl, Cause::Target, &[1]));
    assert!(innocent.was_told(1, Stage::Cleared));
}

#[test]
fn an_instance_is_isolated_for_a_bounded_time_and_then_rests() {
    let mut world = World::new(1);
    world.busy = true;
    (0..3).for_each(|_| world.lose(0, Cause::Target, &[1, 2]));
    assert_eq!(world.isolated.len(), 1);
    world.advance(5_000 * MS);
    assert!(world.was_told(1, Stage::Waits(Unclear::Slow)) && world.was_told(2, Stage::Waits(Unclear::Slow)));
    world.advance(4_999 * MS);
    assert_eq!(world.isolated.len(), 1, "the others have it for as long");
    world.busy = false;
    world.mute = true;
    world.advance(MS);
    assert_eq!(world.isolated.len(), 2, "{:?}", world.told);
    world.mute = false;
    world.advance(20_000 * MS);
    assert!(!world.suspects.is_busy());
}

#[test]
fn a_suspect_that_is_slow_alone_goes_on_beside_others() {
    let mut world = World::new(1);
    (0..3).for_each(|_| world.lose(0, Cause::Target, &[1]));
    let mut world = World { suspects: Suspects::new(LANES), ..world };
    world.connect(CtrlId(0));
    (0..2).for_each(|_| world.lose(0, Cause::Target, &[1]));
    // The witness is answered and the suspect is not.
    let life = world.live[&CtrlId(0)];
    world.suspects.not_live(world.now, life);
    world.suspects.carried(life, &[world.carried(1, life)]);
    world.suspects.lost(world.now, life, CtrlId(0), Cause::Target);
    world.suspects.over(world.now, life);
    let life = LifeId(99);
    world.suspects.live(world.now, life, CtrlId(0), Duration::from_secs(1));
    let ways = |_, _| vec![way(life)];
    let mut seen = Vec::new();
    while let Some(decision) = world.suspects.poll(world.now, ways) {
        match decision {
            Decision::All(Order::Isolate(_)) => world.suspects.isolated(LaneId(0), life),
            Decision::One(_, Order::Witness { .. }) => world.suspects.witnessed(life),
            other => seen.push(other),
        }
    }
    assert!(world.suspects.is_alone(life), "{seen:?}");
    let until = world.suspects.next_deadline(world.now).expect("bounded");
    assert_eq!(until, world.now + 5_000 * MS);
    assert_eq!(world.suspects.poll(until, ways), Some(Decision::All(Order::Share(life))));
    assert!(!world.suspects.is_alone(life));
    // What ends the instance now did so beside others: no death.
    world.suspects.carried(life, &[world.carried(1, life), world.carried(2, life)]);
    world.suspects.lost(until, life, CtrlId(0), Cause::Target);
    assert_eq!(world.suspects.suspects().map(|suspect| suspect.alone).collect::<Vec<_>>(), [0]);
}

#[test]
fn an_instance_that_ends_otherwise_while_a_suspect_is_on_it_is_no_death() {
    let mut world = World::new(1);
    world.mute = true;
    (0..3).for_each(|_| world.lose(0, Cause::Target, &[1]));
    let life = world.live[&CtrlId(0)];
    world.suspects.witnessed(life);
    world.run();
    assert!(world.suspects.is_alone(life));
    world.lose(0, Cause::Host, &[1]);
    assert!(world.was_told(1, Stage::Waits(Unclear::Ended)));
    assert_eq!(world.suspects.suspects().map(|suspect| suspect.alone).collect::<Vec<_>>(), [0]);
}

#[test]
fn what_is_given_up_unfenced_is_not_kept() {
    let mut world = World::new(1);
    let life = world.live[&CtrlId(0)];
    let read = Carried { command: LedgerEntry { op: Op::Read, ..world.carried(2, life).command }, waits: false };
    world.suspects.carried(life, &[world.carried(1, life), read]);
    world.suspects.lost(world.now, life, CtrlId(0), Cause::Target);
    world.suspects.given_up(world.now, life);
    assert_eq!(world.suspects.commands.keys().copied().collect::<Vec<_>>(), [key(2)], "the change has ended");
}

#[test]
fn an_instance_that_is_too_slow_is_isolated_again_only_after_the_others() {
    let mut world = World::new(3);
    world.busy = true;
    (0..3).for_each(|_| world.lose(0, Cause::Target, &[1]));
    // The controller that lost them did so with the suspect: it is as calm as the others, and its instance is the youngest.
    let all: BTreeSet<LifeId> = world.live.values().copied().collect();
    world.stuck.clone_from(&all);
    world.busy = false;
    world.advance(Duration::from_secs(120));
    let tried: BTreeSet<LifeId> = world.isolated.iter().copied().take(3).collect();
    assert_eq!(tried, all, "each has its turn: {:?}", world.isolated);
    assert_eq!(world.isolated[3..].iter().copied().take(3).collect::<BTreeSet<_>>(), all, "and again");
    world.stuck.remove(all.first().expect("three of them"));
    world.advance(Duration::from_secs(60));
    assert!(!world.suspects.is_busy(), "one of them becomes empty, and the suspect is answered there");
}

use super::*;
use interlock_observe::{Controller, ControllerCounters, CounterName, Head, Path, Subsystem};

fn subsystem(name: &str, controllers: &[&str]) -> Subsystem {
    Subsystem {
        name: name.into(),
        controllers: controllers
            .iter()
            .map(|name| Controller {
                name: (*name).into(),
                state: "live".into(),
                counters: ControllerCounters { reset_count: Some(3), ..ControllerCounters::default() },
                ..Controller::default()
            })
            .collect(),
        namespaces: vec![Head {
            name: format!("{}n1", controllers[0]),
            paths: controllers
                .iter()
                .map(|name| Path { name: format!("{name}p"), controller: (*name).into(), ..Path::default() })
                .collect(),
            ..Head::default()
        }],
        ..Subsystem::default()
    }
}

fn app() -> App {
    let mut app = App::new("test".into(), Duration::from_secs(1));
    app.handle_sample(Snapshot {
        at: Duration::from_secs(1),
        subsystems: vec![subsystem("nvme-subsys0", &["nvme0", "nvme1"]), subsystem("nvme-subsys1", &["nvme2"])],
        ..Snapshot::default()
    });
    app
}

fn press(app: &mut App, keys: &str) -> Effect {
    keys.chars().map(|c| app.handle_key(Key::Char(c))).last().unwrap_or(Effect::None)
}

fn selected(app: &App) -> String {
    let table = app.table();
    table.name(app.selected_index(&table).expect("a row")).to_owned()
}

#[test]
fn arrows_move_enter_opens_esc_goes_back() {
    let mut app = app();
    assert_eq!(selected(&app), "nvme-subsys0");
    app.handle_key(Key::Up);
    assert_eq!(selected(&app), "nvme-subsys0", "the first row is the first");
    app.handle_key(Key::Down);
    app.handle_key(Key::Down);
    assert_eq!(selected(&app), "nvme-subsys1");
    app.handle_key(Key::Enter);
    assert_eq!(app.view, View::Subsystem { name: "nvme-subsys1".into(), tab: Tab::Paths });
    app.handle_key(Key::Tab);
    assert_eq!(selected(&app), "nvme2");
    app.handle_key(Key::BackTab);
    app.handle_key(Key::BackTab);
    assert_eq!(app.table().title, "Namespaces");
    press(&mut app, "2");
    assert_eq!(app.table().title, "Controllers");
    app.handle_key(Key::Esc);
    assert_eq!((app.view.clone(), selected(&app)), (View::Overview, "nvme-subsys1".into()), "back where one was");
    for key in [Key::Home, Key::PageDown, Key::PageUp, Key::End] {
        app.handle_key(key);
    }
    assert_eq!(selected(&app), "nvme-subsys1");
    assert_eq!(press(&mut app, "q"), Effect::Quit);
    assert_eq!(app.handle_key(Key::Interrupt), Effect::Quit);
}

#[test]
fn the_selection_stays_on_its_device_when_rows_come_and_go() {
    let mut app = app();
    app.handle_key(Key::Down);
    app.handle_sample(Snapshot {
        at: Duration::from_secs(2),
        subsystems: vec![subsystem("nvme-subsys1", &["nvme2"]), subsystem("nvme-subsys7", &["nvme9"])],
        ..Snapshot::default()
    });
    assert_eq!(selected(&app), "nvme-subsys1");
}

#[test]
fn a_reset_is_asked_about_and_only_yes_is_yes() {
    let mut app = app();
    assert_eq!(press(&mut app, "rn"), Effect::None);
    assert_eq!(app.notice.as_ref().map(|notice| notice.text.as_str()), Some("nothing was reset"));
    app.handle_key(Key::Enter);
    press(&mut app, "2r");
    let Over::Confirm { device, .. } = &app.over else { panic!("{:?}", app.over) };
    assert_eq!(device, "nvme0");
    let reset = Counter { device: "nvme0".into(), name: CounterName::Resets };
    assert_eq!(press(&mut app, "y"), Effect::Reset(vec![reset]), "the others are not there");
    press(&mut app, "1r");
    assert_eq!(app.over, Over::Nothing, "a path without counters has nothing to confirm");
    assert!(app.notice.as_ref().is_some_and(|notice| notice.bad));
}

#[test]
fn a_filter_takes_the_keys_until_it_is_done() {
    let mut app = app();
    press(&mut app, "/subsys1");
    assert_eq!(app.table().rows(), 1, "q and r would have been letters, too");
    app.handle_key(Key::Enter);
    assert_eq!(selected(&app), "nvme-subsys1");
    app.handle_key(Key::Esc);
    assert_eq!(app.table().rows(), 2, "esc first takes the filter away");
    press(&mut app, "/zzz");
    assert!(app.selected_index(&app.table()).is_none());
    assert_eq!(press(&mut app, "\u{1b}"), Effect::None);
    app.handle_key(Key::Enter);
    press(&mut app, "r");
    assert_eq!(app.handle_key(Key::Enter), Effect::None, "nothing to open, and no panic");
}

#[test]
fn sorting_goes_round_and_every_column_sorts() {
    let mut app = app();
    let columns = app.table().columns.len();
    for _ in 0..columns {
        press(&mut app, "s");
        assert_eq!(app.table().rows(), 2);
    }
    assert_eq!(app.order(), Order::default());
    press(&mut app, "S");
    assert_eq!(app.table().name(0), "nvme-subsys1");
}

#[test]
fn pause_stops_the_clock_and_ends_with_a_sample() {
    let mut app = app();
    assert_eq!(app.delay(), Some(Duration::from_secs(1)));
    press(&mut app, "p");
    assert_eq!(app.delay(), None);
    assert_eq!(press(&mut app, "p"), Effect::Sample);
    press(&mut app, "++-");
    assert_eq!(app.delay(), Some(Duration::from_secs(2)));
    press(&mut app, "-----");
    assert_eq!(app.delay(), Some(App::SHORTEST_DELAY));
}

#[test]
fn the_first_sample_is_no_news_and_the_next_is() {
    let mut app = app();
    assert_eq!(app.timeline.of(None).count(), 0);
    let mut lost = subsystem("nvme-subsys0", &["nvme0", "nvme1"]);
    lost.controllers[0].state = "connecting".into();
    app.handle_sample(Snapshot { at: Duration::from_secs(2), subsystems: vec![lost], ..Snapshot::default() });
    let told: Vec<_> = app.timeline.of(Some("nvme-subsys0")).map(|entry| entry.what.as_str()).collect();
    assert_eq!(told, ["live -> connecting"]);
    press(&mut app, "t");
    for key in [Key::Down, Key::PageDown, Key::Down] {
        app.handle_key(key);
    }
    assert_eq!(app.over, Over::Timeline { top: 1 }, "two entries: one cannot scroll past the last");
}

#[test]
fn a_subsystem_that_goes_away_while_it_is_looked_at() {
    let mut app = app();
    app.handle_key(Key::Enter);
    app.handle_sample(Snapshot { at: Duration::from_secs(2), subsystems: Vec::new(), ..Snapshot::default() });
    assert_eq!(app.view, View::Overview);
    assert_eq!(app.notice.as_ref().map(|notice| notice.text.as_str()), Some("nvme-subsys0 is gone"));
    assert!(app.selected_index(&app.table()).is_none());
}

#[test]
fn what_a_source_tells_stands_in_the_timeline_and_is_not_said_twice() {
    use interlock_observe::changes::Weight;
    use interlock_observe::{Controller, Happened, Subsystem};
    let at = |second: u64, state: &str| Snapshot {
        at: Duration::from_secs(second),
        subsystems: vec![Subsystem {
            name: "nvme-subsys0".into(),
            controllers: vec![Controller { name: "nvme0".into(), state: state.into(), ..Controller::default() }],
            ..Subsystem::default()
        }],
        ..Snapshot::default()
    };
    let mut app = App::new("a test".into(), Duration::from_secs(1));
    app.handle_sample(at(100, "live"));
    let event = Happened {
        unix_ms: 998_000,
        controller: Some("nvme0".into()),
        weight: Weight::Warning,
        text: "nvme0: connection lost".into(),
    };
    app.handle_happened(vec![event], 1_000_000);
    app.handle_sample(at(101, "connecting"));
    let told: Vec<_> =
        app.timeline.of(Some("nvme-subsys0")).map(|e| (e.at.as_secs(), e.device.as_str(), e.what.as_str())).collect();
    assert_eq!(told, [(98, "nvme0", "connection lost")]);
}

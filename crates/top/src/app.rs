//! What is shown: keys and samples in, effects out. No terminal, no clock, no source.

use crate::columns::Table;
use crate::filter::Filter;
use crate::history::History;
use crate::tables;
use crate::timeline::Timeline;
use interlock_observe::health::{self, Finding};
use interlock_observe::{Counter, Happened, Snapshot, Subsystem, changes};
use std::sync::LazyLock;
use std::time::Duration;

/// A key, as far as this program cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A printable character.
    Char(char),
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first row.
    Home,
    /// To the last row.
    End,
    /// Opens, confirms.
    Enter,
    /// Goes back.
    Esc,
    /// Deletes a character of the filter.
    Backspace,
    /// The next table.
    Tab,
    /// The table before.
    BackTab,
    /// Control-C.
    Interrupt,
}

/// What the program has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing but to draw.
    None,
    /// End.
    Quit,
    /// Set these counters to zero, then say how it went with [`App::handle_reset`].
    Reset(Vec<Counter>),
    /// Take a sample now.
    Sample,
}

/// The tables of one subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tab {
    Paths,
    Controllers,
    Namespaces,
}

impl Tab {
    pub(crate) const ALL: [Self; 3] = [Self::Paths, Self::Controllers, Self::Namespaces];

    fn next(self, back: bool) -> Self {
        let at = Self::ALL.iter().position(|&tab| tab == self).unwrap_or_default();
        let step = if back { Self::ALL.len() - 1 } else { 1 };
        Self::ALL[(at + step) % Self::ALL.len()]
    }
}

/// Where the reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Overview,
    Subsystem { name: String, tab: Tab },
}

/// What lies over the view and takes the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Nothing,
    Help,
    Timeline { top: usize },
    Health { top: usize },
    Filter,
    Confirm { device: String, counters: Vec<Counter> },
}

/// The order of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) column: usize,
    pub(crate) reverse: bool,
}

/// Everything that is shown.
#[derive(Debug)]
pub struct App {
    pub(crate) source: String,
    pub(crate) snapshot: Snapshot,
    pub(crate) history: History,
    pub(crate) timeline: Timeline,
    pub(crate) view: View,
    pub(crate) over: Over,
    pub(crate) filter: Filter,
    pub(crate) delay: Duration,
    pub(crate) paused: bool,
    /// The last thing that went wrong or was done, for the bottom line.
    pub(crate) notice: Option<Notice>,
    orders: [Order; 4],
    selected: [Option<String>; 4],
    sampled: bool,
    /// The source tells what happens: differences of samples would say it twice.
    told: bool,
}

/// A sentence for the bottom line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) bad: bool,
}

impl App {
    /// Shortest time between two samples.
    pub const SHORTEST_DELAY: Duration = Duration::from_secs(1);
    /// Longest time between two samples.
    pub const LONGEST_DELAY: Duration = Duration::from_secs(3600);
    /// Rows that a page key moves by.
    const PAGE: usize = 10;

    /// Nothing seen yet. `source` is what the title calls it; `delay` is the time between samples.
    #[must_use]
    pub fn new(source: String, delay: Duration) -> Self {
        Self {
            source,
            snapshot: Snapshot::default(),
            history: History::default(),
            timeline: Timeline::default(),
            view: View::Overview,
            over: Over::Nothing,
            filter: Filter::default(),
            delay: delay.clamp(Self::SHORTEST_DELAY, Self::LONGEST_DELAY),
            paused: false,
            notice: None,
            orders: [Order::default(); 4],
            selected: [const { None }; 4],
            sampled: false,
            told: false,
        }
    }

    /// Time until the next sample; `None` while paused.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        (!self.paused).then_some(self.delay)
    }

    /// Takes in what the source saw.
    pub fn handle_sample(&mut self, snapshot: Snapshot) {
        if self.sampled && !self.told {
            self.timeline.add(snapshot.at, changes::between(&self.snapshot, &snapshot));
        }
        self.sampled = true;
        self.history.add(&snapshot);
        self.snapshot = snapshot;
        if self.notice.as_ref().is_some_and(|notice| notice.bad) {
            self.notice = None;
        }
        if let View::Subsystem { name, .. } = &self.view
            && self.snapshot.subsystem(name).is_none()
        {
            self.notice = Some(Notice { text: format!("{name} is gone"), bad: true });
            self.view = View::Overview;
        }
    }

    /// What the source told, oldest first; `unix_ms` is now.
    pub fn handle_happened(&mut self, events: Vec<Happened>, unix_ms: u64) {
        self.told = true;
        let now = self.snapshot.at;
        for Happened { unix_ms: then, controller, weight, text } in events {
            let of = |name: &str| self.snapshot.subsystems.iter().find(|one| one.controller(name).is_some());
            let subsystem = controller.as_deref().and_then(of).map_or_else(String::new, |one| one.name.clone());
            let device = controller.unwrap_or_default();
            // Most lines begin with their device, which has a column here.
            let what = text.strip_prefix(&format!("{device}: ")).map_or_else(|| text.clone(), str::to_owned);
            let at = now.saturating_sub(Duration::from_millis(unix_ms.saturating_sub(then)));
            self.timeline.add(at, vec![changes::Change { subsystem, device, what, weight }]);
        }
    }

    /// The source could not be read: what was seen last stays on the screen.
    pub fn handle_failure(&mut self, why: String) {
        self.notice = Some(Notice { text: why, bad: true });
    }

    /// How a reset went: how many counters were set to zero, and the first that was not.
    pub fn handle_reset(&mut self, done: usize, failed: Option<String>) {
        self.notice = Some(match failed {
            Some(why) => Notice { text: why, bad: true },
            None => Notice { text: format!("{done} counters set to 0"), bad: false },
        });
    }

    /// A key was pressed.
    pub fn handle_key(&mut self, key: Key) -> Effect {
        if key == Key::Interrupt {
            return Effect::Quit;
        }
        self.notice = None;
        match &mut self.over {
            Over::Nothing => self.in_table(key),
            Over::Help => {
                self.over = Over::Nothing;
                if key == Key::Char('q') { Effect::Quit } else { Effect::None }
            }
            Over::Timeline { top } | Over::Health { top } => {
                match key {
                    Key::Up => *top = top.saturating_sub(1),
                    Key::Down => *top += 1,
                    Key::PageUp => *top = top.saturating_sub(Self::PAGE),
                    Key::PageDown => *top += Self::PAGE,
                    Key::Home => *top = 0,
                    Key::Char('q') => return Effect::Quit,
                    _ => self.over = Over::Nothing,
                }
                let lines = match self.over {
                    Over::Health { .. } => self.findings().len(),
                    _ => self.timeline.of(self.subsystem_name()).count(),
                };
                if let Over::Timeline { top } | Over::Health { top } = &mut self.over {
                    *top = (*top).min(lines.saturating_sub(1));
                }
                Effect::None
            }
            Over::Filter => {
                match key {
                    Key::Char(c) => self.filter.push(c),
                    Key::Backspace => self.filter.pop(),
                    Key::Esc => {
                        self.filter.clear();
                        self.over = Over::Nothing;
                    }
                    Key::Enter => self.over = Over::Nothing,
                    _ => {}
                }
                Effect::None
            }
            Over::Confirm { counters, .. } => {
                let counters = std::mem::take(counters);
                self.over = Over::Nothing;
                if matches!(key, Key::Char('y' | 'Y')) {
                    Effect::Reset(counters)
                } else {
                    self.notice = Some(Notice { text: "nothing was reset".to_owned(), bad: false });
                    Effect::None
                }
            }
        }
    }

    fn in_table(&mut self, key: Key) -> Effect {
        match key {
            Key::Char('q') => return Effect::Quit,
            Key::Up | Key::Char('k') => self.move_by(-1),
            Key::Down | Key::Char('j') => self.move_by(1),
            Key::PageUp => self.move_by(-(Self::PAGE as isize)),
            Key::PageDown => self.move_by(Self::PAGE as isize),
            Key::Home => self.move_by(isize::MIN),
            Key::End => self.move_by(isize::MAX),
            Key::Enter | Key::Right => self.open(),
            Key::Esc | Key::Left => self.back(),
            Key::Tab => self.turn(false),
            Key::BackTab => self.turn(true),
            Key::Char(c @ '1'..='3') => {
                if let View::Subsystem { tab, .. } = &mut self.view {
                    *tab = Tab::ALL[c as usize - '1' as usize];
                }
            }
            Key::Char('s') => {
                let columns = self.table().columns.len();
                let order = &mut self.orders[self.place()];
                order.column = (order.column + 1) % columns;
            }
            Key::Char('S') => {
                let order = &mut self.orders[self.place()];
                order.reverse = !order.reverse;
            }
            Key::Char('/') => self.over = Over::Filter,
            Key::Char('h' | '?') => self.over = Over::Help,
            Key::Char('t') => self.over = Over::Timeline { top: 0 },
            Key::Char('w') => self.over = Over::Health { top: 0 },
            Key::Char('r') => self.ask_reset(),
            Key::Char('p' | ' ') => {
                self.paused = !self.paused;
                if !self.paused {
                    return Effect::Sample;
                }
            }
            Key::Char('+') => self.delay = (self.delay * 2).min(Self::LONGEST_DELAY),
            Key::Char('-') => self.delay = (self.delay / 2).max(Self::SHORTEST_DELAY),
            _ => {}
        }
        Effect::None
    }

    fn ask_reset(&mut self) {
        let table = self.table();
        let Some(row) = self.selected_index(&table) else { return };
        let (device, counters) = (table.name(row).to_owned(), table.counters(row));
        drop(table);
        if counters.is_empty() {
            self.notice = Some(Notice { text: format!("{device} has no counter to reset"), bad: true });
        } else {
            self.over = Over::Confirm { device, counters };
        }
    }

    fn open(&mut self) {
        if self.view != View::Overview {
            return;
        }
        let table = self.table();
        let name = self.selected_index(&table).map(|row| table.name(row).to_owned());
        drop(table);
        if let Some(name) = name {
            self.view = View::Subsystem { name, tab: Tab::Paths };
            // What was selected in another subsystem is not here.
            self.selected[1..].fill(None);
        }
    }

    fn back(&mut self) {
        if !self.filter.is_empty() {
            self.filter.clear();
        } else {
            self.view = View::Overview;
        }
    }

    fn turn(&mut self, back: bool) {
        if let View::Subsystem { tab, .. } = &mut self.view {
            *tab = tab.next(back);
        }
    }

    fn move_by(&mut self, rows: isize) {
        let table = self.table();
        let Some(last) = table.rows().checked_sub(1) else { return };
        let to = self.selected_index(&table).unwrap_or_default().saturating_add_signed(rows).min(last);
        let name = table.name(to).to_owned();
        drop(table);
        self.selected[self.place()] = Some(name);
    }

    /// Which of the four tables is shown.
    const fn place(&self) -> usize {
        match &self.view {
            View::Overview => 0,
            View::Subsystem { tab: Tab::Paths, .. } => 1,
            View::Subsystem { tab: Tab::Controllers, .. } => 2,
            View::Subsystem { tab: Tab::Namespaces, .. } => 3,
        }
    }

    pub(crate) fn order(&self) -> Order {
        self.orders[self.place()]
    }

    pub(crate) fn subsystem_name(&self) -> Option<&str> {
        match &self.view {
            View::Overview => None,
            View::Subsystem { name, .. } => Some(name),
        }
    }

    /// What is not well with the subsystem that is open, or with any.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        match self.subsystem_name() {
            None => health::of_all(&self.snapshot),
            Some(name) => {
                let subsystem = self.snapshot.subsystem(name);
                subsystem.map(|one| health::of(one, self.snapshot.host.as_deref())).unwrap_or_default()
            }
        }
    }

    /// The table that is shown: filtered and sorted.
    pub(crate) fn table(&self) -> Table<'_> {
        static GONE: LazyLock<Subsystem> = LazyLock::new(Subsystem::default);
        let history = &self.history;
        let mut table = match &self.view {
            View::Overview => tables::subsystems(&self.snapshot, history),
            View::Subsystem { name, tab } => {
                let subsystem = self.snapshot.subsystem(name).unwrap_or(&GONE);
                match tab {
                    Tab::Paths => tables::paths(subsystem, history),
                    Tab::Controllers => tables::controllers(subsystem, history),
                    Tab::Namespaces => tables::namespaces(subsystem, history),
                }
            }
        };
        table.keep(&self.filter);
        let Order { column, reverse } = self.order();
        table.sort(column, reverse);
        table
    }

    /// The row of `table` that is selected: the one last chosen, or else the first.
    pub(crate) fn selected_index(&self, table: &Table<'_>) -> Option<usize> {
        let chosen = self.selected[self.place()].as_deref();
        chosen.and_then(|name| table.find(name)).or_else(|| (table.rows() > 0).then_some(0))
    }
}

#[cfg(test)]
mod tests;

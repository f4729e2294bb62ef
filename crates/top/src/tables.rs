//! The tables: which columns a subsystem, a path, a controller and a namespace have.

use crate::columns::{Cell, Column, Devices, Table, Tone};
use crate::history::{History, Moment};
use crate::numbers;
use interlock_api::{AnaState, ControllerState};
use interlock_observe::{Controller, Counter, CounterName, Head, Path, Snapshot, Subsystem, Word};
use std::cell::OnceCell;

/// How a subsystem is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Every controller is live.
    Ok,
    /// Some controllers are not live: one more loss may stop I/O.
    Degraded,
    /// No controller is live: I/O waits or fails.
    Lost,
}

impl Health {
    pub(crate) fn of(subsystem: &Subsystem) -> Self {
        match subsystem.live() {
            0 => Self::Lost,
            live if live < subsystem.controllers.len() => Self::Degraded,
            _ => Self::Ok,
        }
    }

    fn cell(self) -> Cell {
        match self {
            Self::Ok => Cell::text("ok").toned(Tone::Good),
            Self::Degraded => Cell::text("degraded").toned(Tone::Warning),
            Self::Lost => Cell::text("lost").toned(Tone::Bad),
        }
    }
}

/// A controller's state as a word with its colour.
pub(crate) fn state_tone(state: &Word<ControllerState>) -> Tone {
    match state {
        Word::Known(ControllerState::Live) => Tone::Good,
        Word::Known(ControllerState::Dead) => Tone::Bad,
        _ => Tone::Warning,
    }
}

fn ana_cell(path: &Path) -> Cell {
    let Some(state) = &path.ana_state else { return Cell::text("-").toned(Tone::Faint) };
    Cell::text(state.as_str()).toned(match state {
        Word::Known(AnaState::Optimized) => Tone::Good,
        Word::Known(AnaState::NonOptimized) => Tone::Plain,
        Word::Known(AnaState::Change) => Tone::Warning,
        _ => Tone::Bad,
    })
}

/// How a column makes its cell of a device.
type Make<'a, T> = Box<dyn Fn(&T) -> Cell + 'a>;

/// A column of what a device does: title, width, how soon it can be spared, and its cell.
type Rate = (&'static str, u16, u8, fn(&Moment) -> Cell);

/// Devices of one kind: what a column has of them stands beside its title.
struct Of<'a, T> {
    all: Vec<T>,
    name: fn(&T) -> &'a str,
    counters: fn(&T) -> Vec<Counter>,
    makes: Vec<Make<'a, T>>,
}

impl<T> Devices for Of<'_, T> {
    fn count(&self) -> usize {
        self.all.len()
    }

    fn name(&self, device: usize) -> &str {
        (self.name)(&self.all[device])
    }

    fn cell(&self, device: usize, column: usize) -> Cell {
        self.makes[column](&self.all[device])
    }

    fn counters(&self, device: usize) -> Vec<Counter> {
        (self.counters)(&self.all[device])
    }
}

/// A table that gets its columns one after the other.
struct Draft<'a, T> {
    columns: Vec<Column>,
    devices: Of<'a, T>,
}

impl<'a, T: 'a> Draft<'a, T> {
    /// The first column has the names.
    fn new(first: Column, all: Vec<T>, name: fn(&T) -> &'a str, counters: fn(&T) -> Vec<Counter>) -> Self {
        let draft = Self { columns: Vec::new(), devices: Of { all, name, counters, makes: Vec::new() } };
        draft.with(first, move |device| Cell::text(name(device)))
    }

    fn with(mut self, column: Column, make: impl Fn(&T) -> Cell + 'a) -> Self {
        self.columns.push(column);
        self.devices.makes.push(Box::new(make));
        self
    }

    /// Columns of what a device does. Percentiles say more than means; where the source has them, means leave earlier.
    /// Columns that can be spared leave `later` places later.
    fn with_rates(mut self, history: &'a History, later: u8) -> Self {
        let spread = history.knows_spread();
        let mean = if spread { 4 } else { 2 };
        let columns: [Rate; 10] = [
            ("r/s", 6, 0, |now| Cell::number(now.rates.read.iops, numbers::rate(now.rates.read.iops))),
            ("w/s", 6, 0, |now| Cell::number(now.rates.write.iops, numbers::rate(now.rates.write.iops))),
            ("rB/s", 6, 2, |now| bytes(now.rates.read.bytes_per_s)),
            ("wB/s", 6, 2, |now| bytes(now.rates.write.bytes_per_s)),
            ("r ms", 6, mean, |now| millis(now.rates.read.latency_ms)),
            ("w ms", 6, mean, |now| millis(now.rates.write.latency_ms)),
            ("p50 ms", 6, 2, |now| millis(now.spread.unwrap_or_default().p50_ms)),
            ("p99 ms", 6, 1, |now| millis(now.spread.unwrap_or_default().p99_ms)),
            ("Infl", 5, 3, |now| Cell::number(now.rates.in_flight as f64, now.rates.in_flight.to_string())),
            ("Util%", 5, 5, |now| Cell::number(now.rates.busy_percent, numbers::percent(now.rates.busy_percent))),
        ];
        let name = self.devices.name;
        for (title, width, spare, make) in columns {
            if spread || !matches!(title, "p50 ms" | "p99 ms") {
                let spare = spare + if spare > 0 { later } else { 0 };
                let column = Column::number(title, width, spare);
                self = self.with(column, move |device| make(&history.latest(name(device))));
            }
        }
        self
    }

    fn done(self, title: &'static str) -> Table<'a> {
        Table::new(title, self.columns, self.devices)
    }
}

fn bytes(value: f64) -> Cell {
    Cell::number(value, numbers::bytes(value))
}

fn millis(value: f64) -> Cell {
    Cell::number(value, numbers::millis(value))
}

fn count(value: usize) -> Cell {
    Cell::number(value as f64, value.to_string())
}

/// Characters of a small curve in a table.
const LATELY: u16 = 8;

/// The latest IOPS of a device as a small curve; `most` is as high as it gets.
fn lately(history: &History, device: &str, most: f64) -> Cell {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let past = history.past(device);
    let skip = past.len().saturating_sub(usize::from(LATELY));
    let bar = |moment: &Moment| {
        let share = if most > 0.0 { moment.rates.iops() / most } else { 0.0 };
        BARS[((share * 8.0).ceil() as usize).clamp(1, BARS.len()) - 1]
    };
    let text: String = past.skip(skip).map(bar).collect();
    Cell::number(history.latest(device).rates.iops(), format!("{text:>width$}", width = usize::from(LATELY)))
}

/// The highest IOPS that [`lately`] shows of any of these.
fn highest<'a>(history: &History, devices: impl Iterator<Item = &'a str>) -> f64 {
    let past = |device| history.past(device).rev().take(usize::from(LATELY)).map(|moment| moment.rates.iops());
    devices.flat_map(past).fold(0.0, f64::max)
}

fn counters(device: &str, names: &[CounterName], values: &[Option<u64>]) -> Vec<Counter> {
    names
        .iter()
        .zip(values)
        .filter(|(_, value)| value.is_some())
        .map(|(&name, _)| Counter { device: device.to_owned(), name })
        .collect()
}

/// A sum in which the unknown counts as nothing, unless all is unknown.
fn sum(values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    values.flatten().reduce(u64::saturating_add)
}

/// All subsystems.
pub(crate) fn subsystems<'a>(snapshot: &'a Snapshot, history: &'a History) -> Table<'a> {
    let all: Vec<&Subsystem> = snapshot.subsystems.iter().collect();
    Draft::new(Column::text("Subsystem", 13, 0), all, |one| &one.name, |one| of_subsystem(one))
        .with(Column::text("Health", 8, 0), |one| Health::of(one).cell())
        .with(Column::number("Ctrls", 5, 0), |one| part_of(one.live(), one.controllers.len()))
        .with(Column::number("Paths", 5, 0), |one| part_of(usable(one), one.paths().count()))
        .with(Column::number("NS", 3, 2), |one| count(one.namespaces.len()).toned(Tone::Plain))
        .with_rates(history, 0)
        .with(Column::number("Failov", 6, 1), |one| {
            let failovers = one.paths().map(|path| path.counters.multipath_failover_count);
            Cell::trouble(sum(failovers), Tone::Warning)
        })
        .with(Column::number("Reconn", 6, 2), |one| {
            let reconnects = one.controllers.iter().map(|controller| controller.counters.reconnect_count);
            Cell::trouble(sum(reconnects), Tone::Warning)
        })
        .with(Column::text("Policy", 11, 5), |one| Cell::text(one.iopolicy.as_deref().unwrap_or("-")))
        .with(Column::text("NQN", 48, 6), |one| Cell::text(&*one.nqn))
        .done("Subsystems")
}

/// Paths that take I/O now.
fn usable(subsystem: &Subsystem) -> usize {
    subsystem
        .paths()
        .filter(|path| subsystem.controller(&path.controller).is_some_and(Controller::is_live))
        .filter(|path| {
            path.ana_state.as_ref().is_none_or(|state| matches!(state, Word::Known(state) if state.is_usable()))
        })
        .count()
}

/// `part` of `all` are well.
fn part_of(part: usize, all: usize) -> Cell {
    let tone = match part {
        part if part == all => Tone::Plain,
        0 => Tone::Bad,
        _ => Tone::Warning,
    };
    Cell::number((all - part) as f64, format!("{part}/{all}")).toned(tone)
}

fn of_subsystem(subsystem: &Subsystem) -> Vec<Counter> {
    let mut counters: Vec<Counter> = subsystem.controllers.iter().flat_map(of_controller).collect();
    for head in &subsystem.namespaces {
        counters.extend(of_head(head));
        counters.extend(head.paths.iter().flat_map(of_path));
    }
    counters
}

fn of_controller(controller: &Controller) -> Vec<Counter> {
    let c = &controller.counters;
    counters(&controller.name, &CounterName::OF_CONTROLLER, &[c.command_error_count, c.reset_count, c.reconnect_count])
}

fn of_path(path: &Path) -> Vec<Counter> {
    let c = &path.counters;
    counters(
        &path.name,
        &CounterName::OF_PATH,
        &[c.command_retries_count, c.command_error_count, c.multipath_failover_count],
    )
}

fn of_head(head: &Head) -> Vec<Counter> {
    let c = &head.counters;
    counters(&head.name, &CounterName::OF_HEAD, &[c.io_requeue_no_usable_path_count, c.io_fail_no_available_path_count])
}

/// The paths of a subsystem.
pub(crate) fn paths<'a>(subsystem: &'a Subsystem, history: &'a History) -> Table<'a> {
    let all: Vec<(&Head, &Path)> =
        subsystem.namespaces.iter().flat_map(|head| head.paths.iter().map(move |path| (head, path))).collect();
    // Found when the first curve is drawn: it takes a look at every path.
    let most = OnceCell::new();
    let most = move || *most.get_or_init(|| highest(history, subsystem.paths().map(|path| path.name.as_str())));
    Draft::new(Column::text("Path", 10, 0), all, |(_, path)| &path.name, |(_, path)| of_path(path))
        .with(Column::text("Ctrl", 6, 0), |(_, path)| Cell::text(&*path.controller))
        .with(Column::text("State", 10, 0), |(_, path)| {
            let Some(through) = subsystem.controller(&path.controller) else {
                return Cell::text("-").toned(Tone::Faint);
            };
            Cell::text(through.state.as_str()).toned(state_tone(&through.state))
        })
        .with(Column::text("ANA", 13, 0), |(_, path)| ana_cell(path))
        .with_rates(history, 0)
        .with(Column::text("Lately", LATELY, 1), move |(_, path)| lately(history, &path.name, most()))
        .with(Column::number("Failov", 6, 0), |(_, path)| {
            Cell::trouble(path.counters.multipath_failover_count, Tone::Warning)
        })
        .with(Column::number("Retry", 5, 3), |(_, path)| {
            Cell::trouble(path.counters.command_retries_count, Tone::Warning)
        })
        .with(Column::number("Errors", 6, 2), |(_, path)| Cell::trouble(path.counters.command_error_count, Tone::Bad))
        .with(Column::number("NSID", 4, 5), |(head, _)| nsid(head))
        .with(Column::number("Qdepth", 6, 6), |(_, path)| Cell::trouble(path.queue_depth.map(u64::from), Tone::Plain))
        .with(Column::text("Nodes", 6, 6), |(_, path)| {
            Cell::text(path.numa_nodes.as_deref().filter(|nodes| !nodes.is_empty()).unwrap_or("-"))
        })
        .done("Paths")
}

fn nsid(head: &Head) -> Cell {
    head.nsid.map_or_else(|| Cell::text("-").toned(Tone::Faint), |nsid| Cell::number(nsid.into(), nsid.to_string()))
}

/// The controllers of a subsystem.
pub(crate) fn controllers<'a>(subsystem: &'a Subsystem, history: &'a History) -> Table<'a> {
    let all: Vec<&Controller> = subsystem.controllers.iter().collect();
    let fact = |value: Option<u64>| Cell::trouble(value, Tone::Plain);
    Draft::new(Column::text("Ctrl", 6, 0), all, |one| &one.name, |one| of_controller(one))
        .with(Column::text("State", 10, 0), |one| Cell::text(one.state.as_str()).toned(state_tone(&one.state)))
        .with(Column::text("Trtype", 6, 2), |one| Cell::text(&*one.transport))
        .with(Column::text("Address", 23, 0), |one| Cell::text(short_address(&one.address)))
        .with_rates(history, 2)
        .with(Column::number("Resets", 6, 0), |one| Cell::trouble(one.counters.reset_count, Tone::Warning))
        .with(Column::number("Reconn", 6, 0), |one| Cell::trouble(one.counters.reconnect_count, Tone::Warning))
        .with(Column::number("Errors", 6, 0), |one| Cell::trouble(one.counters.command_error_count, Tone::Bad))
        .with(Column::number("CNTLID", 6, 5), move |one| fact(one.cntlid.map(u64::from)))
        .with(Column::number("KATO s", 6, 6), move |one| fact(one.kato_s.map(u64::from)))
        .with(Column::number("Queues", 6, 6), move |one| fact(one.queues.map(u64::from)))
        .with(Column::number("Node", 4, 7), move |one| fact(one.numa_node.map(u64::from)).toned(Tone::Plain))
        .done("Controllers")
}

/// `traddr=A,trsvcid=P,...` as `A:P`; anything else as it is.
fn short_address(address: &str) -> String {
    let value = |key: &str| {
        address.split(',').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
    };
    match (value("traddr"), value("trsvcid")) {
        (Some(host), Some(port)) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host,
        _ => address.to_owned(),
    }
}

/// The namespaces of a subsystem.
pub(crate) fn namespaces<'a>(subsystem: &'a Subsystem, history: &'a History) -> Table<'a> {
    let all: Vec<&Head> = subsystem.namespaces.iter().collect();
    Draft::new(Column::text("Namespace", 10, 0), all, |head| &head.name, |head| of_head(head))
        .with(Column::number("NSID", 4, 0), |head| nsid(head))
        .with(Column::number("Paths", 5, 0), |head| count(head.paths.len()))
        .with(Column::number("Size", 6, 2), |head| {
            head.size_bytes.map_or_else(|| Cell::text("-").toned(Tone::Faint), |size| bytes(size as f64))
        })
        .with_rates(history, 0)
        .with(Column::number("Requeued", 8, 0), |head| {
            Cell::trouble(head.counters.io_requeue_no_usable_path_count, Tone::Warning)
        })
        .with(Column::number("Failed", 6, 0), |head| {
            Cell::trouble(head.counters.io_fail_no_available_path_count, Tone::Bad)
        })
        .done("Namespaces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_type_them() {
        for (address, short) in [
            ("traddr=127.0.0.1,trsvcid=4420,src_addr=127.0.0.1", "127.0.0.1:4420"),
            ("traddr=fe80::1,trsvcid=4420", "[fe80::1]:4420"),
            ("traddr=nn-0x1:pn-0x2,host_traddr=nn-0x3:pn-0x4", "nn-0x1:pn-0x2"),
            ("0000:01:00.0", "0000:01:00.0"),
        ] {
            assert_eq!(short_address(address), short);
        }
    }

    #[test]
    fn every_row_has_a_cell_for_every_column() {
        let subsystem = Subsystem {
            name: "nvme-subsys0".into(),
            controllers: vec![Controller::default()],
            namespaces: vec![Head { paths: vec![Path::default()], ..Head::default() }],
            ..Subsystem::default()
        };
        let snapshot = Snapshot { subsystems: vec![subsystem.clone()], ..Snapshot::default() };
        let history = History::default();
        for table in [
            subsystems(&snapshot, &history),
            paths(&subsystem, &history),
            controllers(&subsystem, &history),
            namespaces(&subsystem, &history),
        ] {
            assert_eq!(table.rows(), 1, "{}", table.title);
            assert_eq!(
                table.cell(0, 0).text,
                table.name(0),
                "{}: a table sorts by names without its cells",
                table.title
            );
            for (at, column) in table.columns.iter().enumerate() {
                let _ = table.cell(0, at);
                assert!(column.title.len() <= usize::from(column.width), "{}: {}", table.title, column.title);
            }
            assert!(table.counters(0).is_empty(), "a counter that is not there cannot be reset");
        }
    }
}

//! The tables: which columns a subsystem, a path, a controller and a namespace have.

use crate::columns::{Cell, Column, Row, Table, Tone};
use crate::history::{History, Moment};
use crate::numbers;
use interlock_observe::{Controller, Counter, CounterName, Head, Path, Snapshot, Subsystem};

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
pub(crate) fn state_tone(state: &str) -> Tone {
    match state {
        "live" => Tone::Good,
        "dead" => Tone::Bad,
        _ => Tone::Warning,
    }
}

fn ana_cell(path: &Path) -> Cell {
    let Some(state) = &path.ana_state else { return Cell::text("-").toned(Tone::Faint) };
    Cell::text(state.clone()).toned(match state.as_str() {
        "optimized" => Tone::Good,
        "non-optimized" => Tone::Plain,
        "change" => Tone::Warning,
        _ => Tone::Bad,
    })
}

/// Columns of what a device does. Percentiles say more than means; where the source has them, means leave earlier.
fn rate_columns(history: &History) -> Vec<Column> {
    let spread = history.knows_spread();
    let mean = if spread { 4 } else { 2 };
    let mut columns = vec![
        Column::number("r/s", 6, 0),
        Column::number("w/s", 6, 0),
        Column::number("rB/s", 6, 2),
        Column::number("wB/s", 6, 2),
        Column::number("r ms", 6, mean),
        Column::number("w ms", 6, mean),
    ];
    if spread {
        columns.extend([Column::number("p50 ms", 6, 2), Column::number("p99 ms", 6, 1)]);
    }
    columns.extend([Column::number("Infl", 5, 3), Column::number("Util%", 5, 5)]);
    columns
}

fn rates(history: &History, device: &str) -> Vec<Cell> {
    let Moment { rates, spread } = history.latest(device);
    let (read, write) = (rates.read, rates.write);
    let mut cells = vec![
        Cell::number(read.iops, numbers::rate(read.iops)),
        Cell::number(write.iops, numbers::rate(write.iops)),
        Cell::number(read.bytes_per_s, numbers::bytes(read.bytes_per_s)),
        Cell::number(write.bytes_per_s, numbers::bytes(write.bytes_per_s)),
        Cell::number(read.latency_ms, numbers::millis(read.latency_ms)),
        Cell::number(write.latency_ms, numbers::millis(write.latency_ms)),
    ];
    if history.knows_spread() {
        let cell = |ms: f64| Cell::number(ms, numbers::millis(ms));
        let spread = spread.unwrap_or_default();
        cells.extend([cell(spread.p50_ms), cell(spread.p99_ms)]);
    }
    cells.extend([
        Cell::number(rates.in_flight as f64, rates.in_flight.to_string()),
        Cell::number(rates.busy_percent, numbers::percent(rates.busy_percent)),
    ]);
    cells
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
pub(crate) fn subsystems(snapshot: &Snapshot, history: &History) -> Table {
    let mut columns = vec![
        Column::text("Subsystem", 13, 0),
        Column::text("Health", 8, 0),
        Column::number("Ctrls", 5, 0),
        Column::number("Paths", 5, 0),
        Column::number("NS", 3, 2),
    ];
    columns.extend(rate_columns(history));
    columns.extend([
        Column::number("Failov", 6, 1),
        Column::number("Reconn", 6, 2),
        Column::text("Policy", 11, 5),
        Column::text("NQN", 48, 6),
    ]);
    let rows = snapshot.subsystems.iter().map(|subsystem| subsystem_row(subsystem, history)).collect();
    Table { title: "Subsystems", columns, rows }
}

fn subsystem_row(subsystem: &Subsystem, history: &History) -> Row {
    let usable = subsystem
        .paths()
        .filter(|path| subsystem.controller(&path.controller).is_some_and(Controller::is_live))
        .filter(|path| path.ana_state.as_deref().is_none_or(|state| state.ends_with("optimized")))
        .count();
    let (all, live) = (subsystem.paths().count(), subsystem.live());
    let of = |part: usize, all: usize| {
        let tone = match part {
            part if part == all => Tone::Plain,
            0 => Tone::Bad,
            _ => Tone::Warning,
        };
        Cell::number((all - part) as f64, format!("{part}/{all}")).toned(tone)
    };
    let failovers = sum(subsystem.paths().map(|path| path.counters.multipath_failover_count));
    let reconnects = sum(subsystem.controllers.iter().map(|controller| controller.counters.reconnect_count));
    let mut cells = vec![
        Cell::text(subsystem.name.clone()),
        Health::of(subsystem).cell(),
        of(live, subsystem.controllers.len()),
        of(usable, all),
        Cell::number(subsystem.namespaces.len() as f64, subsystem.namespaces.len().to_string()).toned(Tone::Plain),
    ];
    cells.extend(rates(history, &subsystem.name));
    cells.extend([
        Cell::trouble(failovers, Tone::Warning),
        Cell::trouble(reconnects, Tone::Warning),
        Cell::text(subsystem.iopolicy.clone().unwrap_or_else(|| "-".to_owned())),
        Cell::text(subsystem.nqn.clone()),
    ]);
    let mut counters: Vec<Counter> = subsystem.controllers.iter().flat_map(of_controller).collect();
    for head in &subsystem.namespaces {
        counters.extend(of_head(head));
        counters.extend(head.paths.iter().flat_map(of_path));
    }
    Row { device: subsystem.name.clone(), cells, counters }
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
pub(crate) fn paths(subsystem: &Subsystem, history: &History) -> Table {
    let mut columns = vec![
        Column::text("Path", 10, 0),
        Column::text("Ctrl", 6, 0),
        Column::text("State", 10, 0),
        Column::text("ANA", 13, 0),
    ];
    columns.extend(rate_columns(history));
    columns.extend([
        Column::text("Lately", LATELY, 1),
        Column::number("Failov", 6, 0),
        Column::number("Retry", 5, 3),
        Column::number("Errors", 6, 2),
        Column::number("NSID", 4, 5),
        Column::number("Qdepth", 6, 6),
        Column::text("Nodes", 6, 6),
    ]);
    let most = highest(history, subsystem.paths().map(|path| path.name.as_str()));
    let mut rows = Vec::new();
    for head in &subsystem.namespaces {
        for path in &head.paths {
            let state = subsystem.controller(&path.controller).map_or("-", |controller| controller.state.as_str());
            let mut cells = vec![
                Cell::text(path.name.clone()),
                Cell::text(path.controller.clone()),
                Cell::text(state).toned(state_tone(state)),
                ana_cell(path),
            ];
            cells.extend(rates(history, &path.name));
            cells.push(lately(history, &path.name, most));
            cells.extend([
                Cell::trouble(path.counters.multipath_failover_count, Tone::Warning),
                Cell::trouble(path.counters.command_retries_count, Tone::Warning),
                Cell::trouble(path.counters.command_error_count, Tone::Bad),
                Cell::number(f64::from(head.nsid), head.nsid.to_string()),
                Cell::trouble(path.queue_depth.map(u64::from), Tone::Plain),
                Cell::text(path.numa_nodes.clone().filter(|nodes| !nodes.is_empty()).unwrap_or_else(|| "-".into())),
            ]);
            rows.push(Row { device: path.name.clone(), cells, counters: of_path(path) });
        }
    }
    Table { title: "Paths", columns, rows }
}

/// The controllers of a subsystem.
pub(crate) fn controllers(subsystem: &Subsystem, history: &History) -> Table {
    let mut columns = vec![
        Column::text("Ctrl", 6, 0),
        Column::text("State", 10, 0),
        Column::text("Trtype", 6, 2),
        Column::text("Address", 23, 0),
    ];
    let of_rates = rate_columns(history);
    columns.extend(
        of_rates
            .into_iter()
            .map(|column| Column { spare: column.spare + if column.spare > 0 { 2 } else { 0 }, ..column }),
    );
    columns.extend([
        Column::number("Resets", 6, 0),
        Column::number("Reconn", 6, 0),
        Column::number("Errors", 6, 0),
        Column::number("CNTLID", 6, 5),
        Column::number("KATO s", 6, 6),
        Column::number("Queues", 6, 6),
        Column::number("Node", 4, 7),
    ]);
    let row = |controller: &Controller| {
        let mut cells = vec![
            Cell::text(controller.name.clone()),
            Cell::text(controller.state.clone()).toned(state_tone(&controller.state)),
            Cell::text(controller.transport.clone()),
            Cell::text(short_address(&controller.address)),
        ];
        cells.extend(rates(history, &controller.name));
        let fact = |value: Option<u64>| Cell::trouble(value, Tone::Plain);
        cells.extend([
            Cell::trouble(controller.counters.reset_count, Tone::Warning),
            Cell::trouble(controller.counters.reconnect_count, Tone::Warning),
            Cell::trouble(controller.counters.command_error_count, Tone::Bad),
            fact(controller.cntlid.map(u64::from)),
            fact(controller.kato_s.map(u64::from)),
            fact(controller.queues.map(u64::from)),
            fact(controller.numa_node.map(u64::from)).toned(Tone::Plain),
        ]);
        Row { device: controller.name.clone(), cells, counters: of_controller(controller) }
    };
    Table { title: "Controllers", columns, rows: subsystem.controllers.iter().map(row).collect() }
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
pub(crate) fn namespaces(subsystem: &Subsystem, history: &History) -> Table {
    let mut columns = vec![
        Column::text("Namespace", 10, 0),
        Column::number("NSID", 4, 0),
        Column::number("Paths", 5, 0),
        Column::number("Size", 6, 2),
    ];
    columns.extend(rate_columns(history));
    columns.extend([Column::number("Requeued", 8, 0), Column::number("Failed", 6, 0)]);
    let row = |head: &Head| {
        let mut cells = vec![
            Cell::text(head.name.clone()),
            Cell::number(f64::from(head.nsid), head.nsid.to_string()),
            Cell::number(head.paths.len() as f64, head.paths.len().to_string()),
            head.size_bytes.map_or_else(
                || Cell::text("-").toned(Tone::Faint),
                |bytes| Cell::number(bytes as f64, numbers::bytes(bytes as f64)),
            ),
        ];
        cells.extend(rates(history, &head.name));
        cells.extend([
            Cell::trouble(head.counters.io_requeue_no_usable_path_count, Tone::Warning),
            Cell::trouble(head.counters.io_fail_no_available_path_count, Tone::Bad),
        ]);
        Row { device: head.name.clone(), cells, counters: of_head(head) }
    };
    Table { title: "Namespaces", columns, rows: subsystem.namespaces.iter().map(row).collect() }
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
            assert_eq!(table.rows.len(), 1, "{}", table.title);
            for column in &table.columns {
                assert!(column.title.len() <= usize::from(column.width), "{}: {}", table.title, column.title);
            }
            assert!(table.rows.iter().all(|row| row.cells.len() == table.columns.len()), "{}", table.title);
            assert!(table.rows[0].counters.is_empty(), "a counter that is not there cannot be reset");
        }
    }
}

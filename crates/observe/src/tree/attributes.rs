//! The attributes of each kind of device: name, mode, what is read, what is written.
//!
//! Names, modes and forms are those of Linux 7.3. An attribute with an earlier name (of the postings that came before the
//! kernel's release, or of a library that looks for another one) is a second row.

use super::{Device, Order};
use crate::{CounterName, Io};

/// An attribute of a device; `None` from `show`: this device has none.
pub(super) struct Attribute {
    /// With its group: `diag/reset_count`.
    pub(super) name: &'static str,
    pub(super) mode: u16,
    pub(super) show: fn(&Device<'_>) -> Option<String>,
    pub(super) store: Option<Store>,
}

/// What a text asks for; `None`: it is not what the attribute takes.
type Store = fn(&Device<'_>, &str) -> Option<Order>;

impl std::fmt::Debug for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:o}", self.name, self.mode)
    }
}

impl Attribute {
    /// Its name within a group.
    pub(super) fn in_group(&self, group: &str) -> Option<&'static str> {
        self.name.split_once('/').filter(|(of, _)| *of == group).map(|(_, name)| name)
    }
}

/// Kinds of devices.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Subsystem,
    Controller,
    Head,
    Path,
}

impl Of {
    pub(super) const fn attributes(self) -> &'static [Attribute] {
        match self {
            Self::Subsystem => SUBSYSTEM,
            Self::Controller => CONTROLLER,
            Self::Head => HEAD,
            Self::Path => PATH,
        }
    }
}

const fn fact(name: &'static str, show: fn(&Device<'_>) -> Option<String>) -> Attribute {
    Attribute { name, mode: 0o444, show, store: None }
}

const fn setting(name: &'static str, show: fn(&Device<'_>) -> Option<String>, store: Store) -> Attribute {
    Attribute { name, mode: 0o644, show, store: Some(store) }
}

/// A trigger: any text does it.
const fn trigger(name: &'static str, store: Store) -> Attribute {
    Attribute { name, mode: 0o200, show: |_| Some(String::new()), store: Some(store) }
}

/// A number as `kstrtoul` with base 0 takes it.
fn number(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text.starts_with(['+', '-']) {
        return None;
    }
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(&text[1..], 8).ok(),
        None => text.parse().ok(),
    }
}

/// Seconds as `kstrtoint` takes them; anything below zero is -1, which is "off".
fn seconds(text: &str) -> Option<i64> {
    let value = match text.strip_prefix('-') {
        Some(rest) => -i64::try_from(number(rest)?).ok()?,
        None => i64::try_from(number(text)?).ok()?,
    };
    i32::try_from(value).ok().map(|value| i64::from(value).max(-1))
}

fn or_off(seconds: Option<u32>) -> String {
    seconds.map_or_else(|| "off".to_owned(), |seconds| seconds.to_string())
}

fn padded(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

static SUBSYSTEM: &[Attribute] = &[
    fact("firmware_rev", |d| Some(d.subsystem.firmware.clone())),
    setting(
        "iopolicy",
        |d| d.subsystem.iopolicy.clone(),
        |d, text| {
            let known = ["numa", "round-robin", "queue-depth"].contains(&text);
            known.then(|| Order::IoPolicy(d.subsystem.name.clone(), text.to_owned()))
        },
    ),
    fact("model", |d| Some(padded(&d.subsystem.model, 40))),
    fact("serial", |d| Some(padded(&d.subsystem.serial, 20))),
    fact("subsysnqn", |d| Some(d.subsystem.nqn.clone())),
    fact("subsystype", |d| Some(d.subsystem.kind.clone())),
];

static CONTROLLER: &[Attribute] = &[
    fact("address", |d| Some(d.controller?.address.clone())),
    // Of cross-controller reset, as the series posted for Linux adds them.
    fact("ccrl", |d| Some(d.controller?.recovery.as_ref()?.ccrl?.to_string())),
    fact("cirn", |d| Some(format!("{:#018x}", d.controller?.recovery.as_ref()?.cirn?.0))),
    fact("ciu", |d| Some(d.controller?.recovery.as_ref()?.ciu?.to_string())),
    fact("cqt", |d| Some(d.controller?.recovery.as_ref()?.cqt_ms?.to_string())),
    fact("cntlid", |d| Some(d.controller?.cntlid?.to_string())),
    fact("cntrltype", |d| d.controller.map(|_| "io".to_owned())),
    setting(
        "ctrl_loss_tmo",
        |d| Some(or_off(d.controller?.ctrl_loss_tmo_s)),
        |d, text| Some(Order::CtrlLossTmo(d.controller?.name.clone(), seconds(text)?)),
    ),
    fact("dctype", |d| d.controller.map(|_| "none".to_owned())),
    trigger("delete_controller", |d, _| Some(Order::Delete(d.controller?.name.clone()))),
    setting(
        "diag/command_error_count",
        |d| Some(d.controller?.counters.command_error_count?.to_string()),
        |d, text| d.counter(CounterName::ControllerErrors, number(text)?),
    ),
    setting("diag/reconnect_count", reconnects, set_reconnects),
    setting("diag/reset_count", resets, set_resets),
    setting(
        "fast_io_fail_tmo",
        |d| Some(or_off(d.controller?.fast_io_fail_tmo_s)),
        |d, text| Some(Order::FastIoFailTmo(d.controller?.name.clone(), seconds(text)?)),
    ),
    fact("firmware_rev", |d| Some(d.subsystem.firmware.clone())),
    fact("hostid", |d| d.controller?.hostid.clone()),
    fact("hostnqn", |d| d.controller?.hostnqn.clone()),
    fact("kato", |d| Some(d.controller?.kato_s?.to_string())),
    fact("model", |d| Some(padded(&d.subsystem.model, 40))),
    fact("numa_node", |d| Some(d.controller?.numa_node.map_or_else(|| "-1".to_owned(), |node| node.to_string()))),
    fact("queue_count", |d| Some(d.controller?.queues?.to_string())),
    setting(
        "reconnect_delay",
        |d| Some(or_off(d.controller?.reconnect_delay_s)),
        |d, text| Some(Order::ReconnectDelay(d.controller?.name.clone(), u32::try_from(number(text)?).ok()?)),
    ),
    setting("reconnect_events", reconnects, set_reconnects),
    trigger("rescan_controller", |d, _| Some(Order::Rescan(d.controller?.name.clone()))),
    trigger("reset_controller", |d, _| Some(Order::Reset(d.controller?.name.clone()))),
    setting("reset_events", resets, set_resets),
    fact("serial", |d| Some(padded(&d.subsystem.serial, 20))),
    fact("sqsize", |d| Some(d.controller?.sqsize?.to_string())),
    fact("state", |d| Some(d.controller?.state.to_string())),
    fact("subsysnqn", |d| Some(d.subsystem.nqn.clone())),
    fact("transport", |d| Some(d.controller?.transport.clone())),
];

fn reconnects(d: &Device<'_>) -> Option<String> {
    Some(d.controller?.counters.reconnect_count?.to_string())
}

fn set_reconnects(d: &Device<'_>, text: &str) -> Option<Order> {
    d.counter(CounterName::Reconnects, number(text)?)
}

fn resets(d: &Device<'_>) -> Option<String> {
    Some(d.controller?.counters.reset_count?.to_string())
}

fn set_resets(d: &Device<'_>, text: &str) -> Option<Order> {
    d.counter(CounterName::Resets, number(text)?)
}

/// What a namespace has on every device that stands for it.
macro_rules! namespace {
    ($io:expr, $hidden:expr, $($own:expr),* $(,)?) => {
        &[
            fact("csi", |_| Some("0".to_owned())),
            fact("eui", |d| d.head?.eui64.clone()),
            fact("hidden", |_| Some($hidden.to_owned())),
            fact("inflight", |d| { let io: Io = ($io)(d)?; Some(format!("{:8} {:8}", 0, io.in_flight)) }),
            fact("metadata_bytes", |_| Some("0".to_owned())),
            fact("nguid", |d| d.head?.nguid.clone()),
            fact("nsid", |d| d.head?.nsid.map(|nsid| nsid.to_string())),
            fact("nuse", |d| Some((d.head?.size_bytes? / u64::from(d.head?.block_bytes?.max(1))).to_string())),
            fact("queue/hw_sector_size", |d| Some(d.head?.block_bytes?.to_string())),
            fact("queue/logical_block_size", |d| Some(d.head?.block_bytes?.to_string())),
            fact("queue/physical_block_size", |d| Some(d.head?.block_bytes?.to_string())),
            fact("ro", |d| Some(u8::from(d.head?.read_only?).to_string())),
            fact("size", |d| Some((d.head?.size_bytes? / 512).to_string())),
            fact("stat", |d| Some(stat(&($io)(d)?))),
            fact("uuid", |d| d.head?.uuid.clone()),
            fact("wwid", wwid),
            $($own),*
        ]
    };
}

static HEAD: &[Attribute] = namespace!(
    |d: &Device<'_>| d.head?.io,
    "0",
    setting(
        "diag/io_fail_no_available_path_count",
        |d| Some(d.head?.counters.io_fail_no_available_path_count?.to_string()),
        |d, text| d.counter(CounterName::Failed, number(text)?),
    ),
    setting(
        "diag/io_requeue_no_usable_path_count",
        |d| Some(d.head?.counters.io_requeue_no_usable_path_count?.to_string()),
        |d, text| d.counter(CounterName::Requeued, number(text)?),
    ),
);

static PATH: &[Attribute] = namespace!(
    |d: &Device<'_>| d.path?.io,
    "1",
    fact("ana_grpid", |d| Some(d.path?.ana_group?.to_string())),
    fact("ana_state", |d| Some(d.path?.ana_state.as_ref()?.to_string())),
    setting("command_retries", retries, set_retries),
    setting(
        "diag/command_error_count",
        |d| Some(d.path?.counters.command_error_count?.to_string()),
        |d, text| d.counter(CounterName::PathErrors, number(text)?),
    ),
    setting("diag/command_retries_count", retries, set_retries),
    setting("diag/command_retry_count", retries, set_retries),
    setting("diag/multipath_failover_count", failovers, set_failovers),
    setting("multipath_failover_count", failovers, set_failovers),
    fact("numa_nodes", |d| Some(d.path?.numa_nodes.clone().unwrap_or_default())),
    fact("queue_depth", |d| Some(d.path?.queue_depth?.to_string())),
);

fn retries(d: &Device<'_>) -> Option<String> {
    Some(d.path?.counters.command_retries_count?.to_string())
}

fn set_retries(d: &Device<'_>, text: &str) -> Option<Order> {
    d.counter(CounterName::Retries, number(text)?)
}

fn failovers(d: &Device<'_>) -> Option<String> {
    Some(d.path?.counters.multipath_failover_count?.to_string())
}

fn set_failovers(d: &Device<'_>, text: &str) -> Option<Order> {
    d.counter(CounterName::Failovers, number(text)?)
}

fn wwid(d: &Device<'_>) -> Option<String> {
    let head = d.head?;
    let of = |kind: &str, id: &Option<String>| id.as_ref().map(|id| format!("{kind}.{id}"));
    of("uuid", &head.uuid).or_else(|| of("eui", &head.nguid)).or_else(|| of("eui", &head.eui64))
}

/// The 17 fields of the block layer's `stat`; nothing is merged, and discards are among the writes.
fn stat(io: &Io) -> String {
    let ms = |us: u64| us / 1000;
    let queued = ms(io.read_us.saturating_add(io.write_us).saturating_add(io.flush_us));
    let fields = [
        io.reads,
        0,
        io.read_bytes / 512,
        ms(io.read_us),
        io.writes,
        0,
        io.write_bytes / 512,
        ms(io.write_us),
        io.in_flight,
        ms(io.busy_us),
        queued,
        0,
        0,
        0,
        0,
        io.flushes,
        ms(io.flush_us),
    ];
    let fields: Vec<String> = fields.iter().map(|field| format!("{field:8}")).collect();
    fields.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_the_kernel_takes_them() {
        for (text, value) in
            [("0", 0), ("5", 5), ("0x10", 16), ("010", 8), ("+7", 7), ("18446744073709551615", u64::MAX)]
        {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for wrong in ["", "-1", "five", "08", "0x", "1 2", "18446744073709551616", "++1"] {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
        assert_eq!([seconds("-5"), seconds("600"), seconds("-1")], [Some(-1), Some(600), Some(-1)]);
        assert_eq!([seconds("off"), seconds(""), seconds("99999999999"), seconds("--1")], [None; 4]);
    }
}

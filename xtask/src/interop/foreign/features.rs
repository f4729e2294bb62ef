//! Asynchronous Event Configuration in every way in which hosts set it.

use super::Foreign;
use super::host::{Association, Identity};
use anyhow::{Result, ensure};
use interlock_wire::FromBytes;
use interlock_wire::admin::{
    AsyncEvent, EventMask, FID_ASYNC_EVENTS, GetFeatures, GetLog, Identify, Select, SetFeatures,
};
use interlock_wire::identify::IdentifyController;
use interlock_wire::log::LID_CHANGED_NAMESPACES;
use interlock_wire::status::Status;
use std::time::Duration;

/// Warnings of the health log: no bit of OAES says which of them there are.
const HEALTH: u32 = 0xFF;

fn set(association: &mut Association, bits: u32) -> Result<Status> {
    let set = SetFeatures::async_events(EventMask::from_bits_retain(bits));
    Ok(association.admin.ask(set.to_sqe(), &[], 0)?.0.status())
}

fn get(association: &mut Association) -> Result<u32> {
    Ok(association.admin.get(GetFeatures::current(FID_ASYNC_EVENTS).to_sqe(), &[], 0)?.0.dw0.get())
}

pub(super) fn event_configuration(bench: &mut Foreign) -> Result<String> {
    let mut association = Association::open(bench.target.ports[0], &Identity::named(1)?, Duration::ZERO)?;
    let (_, page) = association.admin.get(Identify::Controller.to_sqe(), &[], 4096)?;
    let identify = IdentifyController::read_from_bytes(&page).map_err(|_| anyhow::anyhow!("Identify Controller"))?;
    let offered = identify.events().bits();
    let mut in_force = get(&mut association)?;
    let mut tried = 0;
    // Alone, each with all that is offered, all that are offered, everything.
    let alone = (0..32).map(|bit| 1_u32 << bit);
    let with_all = (0..32).map(|bit| 1_u32 << bit | offered | HEALTH);
    for bits in alone.chain(with_all).chain([0, HEALTH, offered, offered | HEALTH, u32::MAX]) {
        let status = set(&mut association, bits)?;
        let allowed = bits & !(offered | HEALTH) == 0;
        ensure!(status.is_success() == allowed, "{bits:#010x}, where {offered:#010x} is offered: {status}");
        if allowed {
            in_force = bits;
        } else {
            ensure!(status == Status::INVALID_FIELD.with_dnr(), "{bits:#010x}: {status}");
        }
        let now = get(&mut association)?;
        ensure!(
            now == in_force,
            "{bits:#010x} was set ({status}), and {now:#010x} is in force instead of {in_force:#010x}"
        );
        tried += 1;
    }
    let saved = SetFeatures { save: true, ..SetFeatures::async_events(EventMask::empty()) };
    let (cqe, _) = association.admin.ask(saved.to_sqe(), &[], 0)?;
    ensure!(cqe.status() == Status::FEATURE_NOT_SAVEABLE.with_dnr(), "a value that is to be saved: {}", cqe.status());
    let default = GetFeatures { select: Select::Default, ..GetFeatures::current(FID_ASYNC_EVENTS) };
    association.admin.get(default.to_sqe(), &[], 0)?;

    // As SPDK does: everything of the health log and what is offered, then as many requests as are allowed.
    ensure!(set(&mut association, offered | HEALTH)?.is_success());
    let requests = (0..=identify.aerl).map(|_| association.ask_for_event()).collect::<Result<Vec<_>>>()?;
    association.admin.is_quiet(Duration::from_millis(100))?;
    bench.target.ctl(&["namespace", "add", "mem:1M"])?;
    let (cqe, _) = association.admin.wait(requests[0])?;
    let event = AsyncEvent::from_dw0(cqe.dw0.get());
    ensure!(event == AsyncEvent::NAMESPACE_CHANGED, "an added namespace is told as {event}");
    bench.target.ctl(&["namespace", "remove", "3"])?;
    // Told once until its log was read; the host asks again meanwhile.
    association.ask_for_event()?;
    association.admin.is_quiet(Duration::from_millis(100))?;
    association.admin.get(GetLog::new(LID_CHANGED_NAMESPACES, 4096).to_sqe(), &[], 4096)?;
    bench.target.ctl(&["namespace", "add", "mem:1M"])?;
    association.admin.wait(requests[1])?;
    // Without the bit nothing is told.
    ensure!(set(&mut association, HEALTH)?.is_success());
    association.admin.get(GetLog::new(LID_CHANGED_NAMESPACES, 4096).to_sqe(), &[], 4096)?;
    bench.target.ctl(&["namespace", "remove", "3"])?;
    association.admin.is_quiet(Duration::from_millis(100))?;
    bench.nothing_was_lost()?;
    Ok(format!("{tried} values tried, {offered:#010x} offered; 2 of {} requests met an event", requests.len() + 1))
}

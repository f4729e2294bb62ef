//! What changes and what breaks at Linux's target.

use super::{CONNECT_WITHIN, LinuxTarget, NQN, Ours, event};
use crate::interop::load::{Done, Load, Until};
use crate::interop::wait;
use anyhow::{Context, Result, anyhow, bail, ensure};
use interlock_host::{ControllerSpec, EventKind, Method, Namespace, Outcome, Reconnect, StateName};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where something is taken away: soon noticed, soon sought again.
fn soon(spec: &mut ControllerSpec) {
    spec.kato = Duration::from_secs(5);
    spec.timeouts.assumed_cqt = Some(Duration::from_secs(2));
    spec.reconnect = Reconnect { delay: Duration::from_secs(1), ..Reconnect::default() };
}

const SOON: Duration = Duration::from_secs(60);

/// Keeps verified load on a namespace while `change` happens, and checks every slot afterwards.
fn under_load<T>(namespace: Namespace, blocks: u32, change: impl FnOnce() -> Result<T>) -> Result<(T, Done)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let mut load = Load::new(namespace, 64, blocks);
            let done = load.run(16, Until::Told(&stop))?;
            load.verify()?;
            Ok::<_, anyhow::Error>(done)
        });
        wait::pass(Duration::from_secs(1));
        let changed = change();
        stop.store(true, Ordering::Relaxed);
        let loaded = loading.join().map_err(|_| anyhow!("the load panicked"))?;
        let changed = changed?;
        Ok((changed, loaded.context("the load")?))
    })
}

pub(super) fn ana_change(bench: &mut LinuxTarget) -> Result<String> {
    let ours = bench.connect(|_| {})?;
    let events = ours.host.subscribe();
    let namespace = ours.host.namespace(NQN, 1)?;
    let ((), done) = under_load(namespace, 16, || {
        for states in [("inaccessible", "optimized"), ("optimized", "non-optimized"), ("change", "optimized")] {
            let set = |port: u8, state: &str| format!("echo {state} >$T/ports/{port}/ana_groups/1/ana_state");
            bench.nvmet(&format!("{}; {}", set(2, states.1), set(1, states.0)))?;
            event(&events, "an ANA change", SOON, |kind| matches!(kind, EventKind::AnaChanged { .. }).then_some(()))?;
            wait::pass(Duration::from_millis(500));
        }
        bench.nvmet("echo optimized >$T/ports/1/ana_groups/1/ana_state")?;
        Ok(())
    })?;
    ours.end()?;
    Ok(format!("{} writes, {} reads, longest answer {} ms", done.writes, done.reads, done.longest.as_millis()))
}

pub(super) fn namespace_events(bench: &mut LinuxTarget) -> Result<String> {
    let ours = bench.connect(|_| {})?;
    let events = ours.host.subscribe();
    let head = ours.host.namespace(NQN, 2)?.head();
    bench.nvmet("echo 0 >$S/namespaces/2/enable")?;
    event(&events, "the removal", SOON, |kind| {
        matches!(kind, EventKind::NamespaceRemoved { head: removed } if *removed == head).then_some(())
    })?;
    ensure!(ours.host.namespace(NQN, 2).is_err(), "a namespace that was removed is still offered");
    bench.nvmet("echo 1 >$S/namespaces/2/enable")?;
    event(&events, "the return", SOON, |kind| matches!(kind, EventKind::NamespaceAdded { nsid: 2, .. }).then_some(()))?;
    let namespace = ours.host.namespace(NQN, 2)?;
    let before = namespace.shape().blocks;
    bench.nvmet("truncate -s 80M /root/peer.img && echo 1 >$S/namespaces/2/revalidate_size")?;
    let blocks = event(&events, "the new size", SOON, |kind| match kind {
        EventKind::NamespaceResized { to, .. } => Some(to.blocks),
        _ => None,
    })?;
    ensure!(blocks == (80 << 20) / 4096, "{before} blocks became {blocks}");
    let namespace = ours.host.namespace(NQN, 2)?;
    let (outcome, _) = namespace.read(blocks - 1, 1).wait();
    ensure!(outcome == Outcome::Ok, "the last new block cannot be read: {outcome:?}");
    ours.end()?;
    Ok(format!("removed, returned, {before} -> {blocks} blocks"))
}

/// How often a port is taken away until a write is in doubt: nvmet may have answered everything before it closes.
const REMOVALS: u32 = 4;

pub(super) fn port_removed(bench: &mut LinuxTarget) -> Result<String> {
    for _ in 0..REMOVALS {
        if let Some(fact) = port_removed_once(bench)? {
            return Ok(fact);
        }
    }
    bail!("no write was in doubt {REMOVALS} times: the case has shown nothing")
}

/// Nothing if no write was in doubt.
fn port_removed_once(bench: &LinuxTarget) -> Result<Option<String>> {
    let ours = bench.connect(soon)?;
    let events = ours.host.subscribe();
    let lost = ours.ctrls[0];
    let namespace = ours.host.namespace(NQN, 1)?;
    // 64 KiB: asked for by R2T, so that many are unanswered at any moment.
    let (again, done) = under_load(namespace, 128, || {
        bench.nvmet("down 1")?;
        event(&events, "the loss", SOON, |kind| {
            matches!(kind, EventKind::Lost { ctrl, .. } if *ctrl == lost).then_some(())
        })?;
        // The other port goes on: I/O that is not in doubt is answered meanwhile.
        wait::pass(Duration::from_secs(2));
        bench.nvmet("up 1")?;
        event(&events, "the return", SOON, |kind| match kind {
            EventKind::LifeBegan { ctrl, .. } if *ctrl == lost => Some(()),
            _ => None,
        })?;
        wait::for_some("the fence", SOON, || {
            let status = ours.host.status()?;
            let fencing = status.controllers.iter().any(|ctrl| !ctrl.fencing.is_empty());
            Ok((!fencing).then_some(()))
        })
    })
    .map(|((), done)| (ours.host.status(), done))?;
    let receipts = again?.receipts;
    let in_doubt: usize = receipts.iter().map(|receipt| receipt.in_doubt).sum();
    if in_doubt == 0 {
        ours.end()?;
        return Ok(None);
    }
    for receipt in &receipts {
        ensure!(
            receipt.method == Method::Assumed && receipt.assumed_cqt == Some(Duration::from_secs(2)),
            "a target without CCR and CQT was fenced by {:?}",
            receipt.method
        );
    }
    let held = receipts.iter().map(|receipt| receipt.held()).max().unwrap_or_default();
    ensure!(held >= Duration::from_secs(12), "held for {held:?}, less than two KATO and the assumed CQT");
    ours.end()?;
    let held = held.as_secs_f64();
    Ok(Some(format!("{} writes, {in_doubt} in doubt, held {held:.1} s by assumption", done.writes)))
}

pub(super) fn subsystem_removed(bench: &mut LinuxTarget) -> Result<String> {
    let ours = bench.connect(soon)?;
    let events = ours.host.subscribe();
    let namespace = ours.host.namespace(NQN, 1)?;
    // Another subsystem keeps the ports open: Connect is then refused for good, with Do Not Retry.
    bench.nvmet(
        "O=$T/subsystems/nqn.2026-11.io.interlock:other; mkdir $O && echo 1 >$O/attr_allow_any_host &&
         ln -s $O $T/ports/1/subsystems/ && ln -s $O $T/ports/2/subsystems/ && down 1 && down 2",
    )?;
    let mut reasons = Vec::new();
    for _ in &ours.ctrls {
        reasons.push(event(&events, "the end of a controller", SOON, |kind| match kind {
            EventKind::GivenUp { why, .. } => Some(why.clone()),
            _ => None,
        })?);
    }
    let why = &reasons[0];
    let clear = why.contains("no such subsystem") && why.contains("Do Not Retry");
    ensure!(clear, "the reason does not say what happened: {why}");
    let (outcome, _) = namespace.read(0, 1).wait();
    ensure!(matches!(outcome, Outcome::NotSent(_)), "a read without any path ended with {outcome:?}");
    ours.end()?;
    Ok(format!("`{why}`, then {outcome:?}"))
}

pub(super) fn connect_storm(bench: &mut LinuxTarget) -> Result<String> {
    let times = bench.setup.times(10, 100);
    let ours = bench.connect(|_| {})?;
    let files = || -> Result<usize> { Ok(std::fs::read_dir("/proc/self/fd")?.count()) };
    let round = |ours: &Ours| -> Result<()> {
        let events = ours.host.subscribe();
        let mut spec = bench.spec(0)?;
        spec.host_traddr = Some("127.0.0.1".parse()?);
        let id = ours.host.connect_and_wait(spec, CONNECT_WITHIN)?;
        ours.host.disconnect(id)?;
        event(&events, "the end", SOON, |kind| match kind {
            EventKind::ControllerState { ctrl, to: StateName::Dead, .. } if *ctrl == id => Some(()),
            _ => None,
        })
    };
    ours.host.disconnect(ours.ctrls[0])?;
    wait::for_some("the end of the first controller", SOON, || {
        Ok((ours.host.status()?.controllers.iter().filter(|ctrl| ctrl.peer.is_some()).count() <= 1).then_some(()))
    })?;
    round(&ours)?;
    let before = files()?;
    for _ in 0..times {
        round(&ours)?;
    }
    // A controller is told to be gone a moment before the last of its sockets is closed.
    let after = wait::for_some("the sockets of the last controller to be closed", SOON, || {
        let after = files()?;
        Ok((after <= before + 2).then_some(after))
    })
    .with_context(|| format!("{before} open files before"))?;
    ours.end()?;
    let open = "sport = :4420 or sport = :4421";
    let left = format!("none() {{ [ -z \"$(ss -Htn state established '( {open} )')\" ]; }}; within 20 none");
    bench.guest.sh(&left).context("the kernel still holds connections")?;
    Ok(format!("{times} times; open files {before} -> {after}; no connection left in the kernel"))
}
